"""What a session has subscribed to, as sources of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from adapters.databento_gateway.records import Source, interval_ends, words_of
from ibs_core.bars import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from adapters.databento_gateway.records import Stream, Words
    from ibs_core.bars import Ints, Records

__all__ = ["Selection", "ends_source", "next_known"]


class Selection:
    """Instruments by schema; overlapping subscriptions give each record once."""

    def __init__(self) -> None:
        self._starts: Final[dict[str, dict[int, int]]] = {}

    @property
    def schemas(self) -> tuple[str, ...]:
        """Schemas, bars before trades: at one instant that is their order on the wire."""
        return tuple(sorted(self._starts))

    def add(self, schema: str, instrument_id: int, start_ns: int) -> None:
        """Serve an instrument.

        Parameters
        ----------
        schema : str
        instrument_id : int
        start_ns : int, UTC ns
            Replay from here; `NEVER`: no replay. The earliest counts.
        """
        starts = self._starts.setdefault(schema, {})
        starts[instrument_id] = min(starts.get(instrument_id, NEVER), start_ns)

    def first_ns(self, schema: str) -> int:
        """Return where the replay of a schema begins, `NEVER` without one.

        Parameters
        ----------
        schema : str
        """
        return min(self._starts[schema].values(), default=NEVER)

    def source(self, schema: str, stream: Stream, *, replayed: bool) -> Source:
        """Return what is selected of a stream.

        Parameters
        ----------
        schema : str
        stream : Stream
        replayed : bool
            Leave out what is before its instrument's start by ``ts_event``.

        Returns
        -------
        Source
        """
        starts = self._starts[schema]
        ids = np.array(sorted(starts), np.int64)
        firsts = np.array([starts[number] for number in sorted(starts)], np.int64)

        def cut(part: slice) -> tuple[Ints, Words]:
            known, records = stream.known_ns[part], stream.records[part]
            chosen = _chosen(records, ids, firsts if replayed else None)
            if not chosen.all():
                known, records = known[chosen], records[chosen]
            return known, words_of(records)

        return Source(stream.known_ns, cut, is_data=True)


def ends_source(ends_ns: Ints) -> Source:
    """Return END_OF_INTERVAL messages.

    Parameters
    ----------
    ends_ns : (n,) int64, UTC ns, increasing

    Returns
    -------
    Source
    """
    return Source(
        ends_ns, lambda part: (ends_ns[part], interval_ends(ends_ns[part])), is_data=False
    )


def next_known(sources: Iterable[Source], after_ns: int) -> int:
    """Return when a source has something again, `NEVER` if none has.

    Parameters
    ----------
    sources : Iterable of Source
    after_ns : int, UTC ns

    Returns
    -------
    int, UTC ns
    """
    found = NEVER
    for source in sources:
        start = int(np.searchsorted(source.known_ns, after_ns, side="right"))
        if start < source.known_ns.size:
            found = min(found, int(source.known_ns[start]))
    return found


def _chosen(records: Records, ids: Ints, starts: Ints | None) -> NDArray[np.bool_]:
    numbers = records["instrument_id"].astype(np.int64)
    place = np.minimum(np.searchsorted(ids, numbers), ids.size - 1)
    chosen = ids[place] == numbers
    if starts is not None:
        chosen &= records["ts_event"].astype(np.int64) >= starts[place]
    return np.asarray(chosen)
