"""What goes wrong, and when: a script of faults, each of which happens once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from databento_dbn import ErrorCode

from adapters.databento_gateway.records import Stream
from ibs_core.bars import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.databento_gateway.records import Batch
    from adapters.databento_gateway.tape import Tape

__all__ = ["Fault", "FaultKind", "Script", "edited"]

FaultKind = Literal[
    "reset",
    "close",
    "truncated",
    "fatal_error",
    "error",
    "silence",
    "refuse",
    "slow_reader",
    "remap",
    "duplicates",
    "drop",
    "late",
    "out_of_order",
    "auth_failed",
    "connection_limit",
]
_EDITS: Final = ("duplicates", "drop", "late", "out_of_order")
_LOGIN: Final = ("auth_failed", "connection_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, once.

    It happens to the first live stream that has sent all that was known at `at_ns`, or the data records
    of `after_records`, so a fault whose time passed while nobody was connected meets the next session.
    Faults of one moment happen in the order of the script.

    ============== =====================================================================================
    reset          the connection is reset (RST); `span_ns` of market time pass at once
    close          the connection is closed cleanly (FIN); `span_ns` as above
    truncated      half a record, then a clean close; `span_ns` as above
    fatal_error    an error of `code` (default INTERNAL_ERROR), then a clean close; `span_ns` as above
    error          an error of `code` (default SYMBOL_RESOLUTION_FAILED) that ends nothing
    silence        no byte for `span_ns`, then all that was held back
    refuse         no connection is accepted for `span_ns`; those that are open stay so
    slow_reader    SLOW_READER_WARNING
    remap          continuous subscriptions are resolved again, as an older page of the vendor has it
    duplicates     the last `count` records again; without a time: after the next replay
    drop           the last record known is never sent live, only replayed; of `symbol`, if given
    late           the last record known comes `span_ns` later, at least after its END_OF_INTERVAL
    out_of_order   the last record known comes after its successor of the same instrument
    auth_failed    the next login from then on is refused
    connection_limit  the next login from then on is refused: too many connections
    ============== =====================================================================================

    Parameters
    ----------
    kind : FaultKind
    at_ns : int, UTC ns, optional
        Market time. The spans of ``silence`` and ``refuse`` begin here; where the pace is unbounded
        they are of wall time.
    after_records : int, optional
        Bars and trades sent live to all sessions. Not for faults of single records or of the login.
    span_ns : int, ns, >= 0
    count : int, > 0
    symbol : str
        Raw symbol; empty for any.
    code : int
        Of `databento_dbn.ErrorCode`; 0 for the default.
    text : str
        Of an error; empty for a default.
    """

    kind: FaultKind
    at_ns: int | None = None
    after_records: int | None = None
    span_ns: int = 0
    count: int = 1
    symbol: str = ""
    code: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        triggers = (self.at_ns is not None) + (self.after_records is not None)
        assert triggers == 1 or (self.kind == "duplicates" and triggers == 0), self
        assert self.after_records is None or self.kind not in (*_EDITS, *_LOGIN), self
        assert self.span_ns >= 0, self
        assert self.count > 0, self

    def error(self) -> tuple[int, str]:
        """Return code and text of an error."""
        fatal = self.kind == "fatal_error"
        default = ErrorCode.INTERNAL_ERROR if fatal else ErrorCode.SYMBOL_RESOLUTION_FAILED
        return self.code or int(default), self.text or "an error on script"


class Script:
    """Faults that have not happened yet.

    Parameters
    ----------
    faults : Iterable of Fault
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        given = tuple(faults)
        self.edits = tuple(each for each in given if each.kind in _EDITS and each.at_ns is not None)
        self._pending = [each for each in given if each not in self.edits]
        self.fired: list[Fault] = []
        self._n_sent = 0

    def sent(self, n_records: int) -> None:
        """Count data records that went out live.

        Parameters
        ----------
        n_records : int
        """
        self._n_sent += n_records

    @property
    def next_ns(self) -> int:
        """When the next fault of the stream is due by market time, else `NEVER`."""
        times = [each.at_ns for each in self._pending if each.kind not in _LOGIN]
        return min((each for each in times if each is not None), default=NEVER)

    def due(self, batch: Batch, first: int, until_ns: int) -> tuple[int, Fault] | None:
        """Take the first fault that strikes a batch.

        Parameters
        ----------
        batch : Batch
        first : int
            Records before it have been sent and counted.
        until_ns : int, UTC ns
            The batch holds all that is known by then.

        Returns
        -------
        tuple of (int, Fault), or None
            How many records of the batch are sent before it.
        """
        struck: list[tuple[int, int]] = []
        for i, fault in enumerate(self._pending):
            if fault.kind in _LOGIN:
                continue
            if fault.at_ns is not None and fault.at_ns <= until_ns:
                cut = int(np.searchsorted(batch.known_ns, fault.at_ns, side="right"))
                struck.append((max(first, cut), i))
            elif fault.after_records is not None:
                data = first + np.flatnonzero(batch.is_data[first:])
                missing = fault.after_records - self._n_sent
                if missing <= data.size:
                    struck.append((int(data[missing - 1]) + 1 if missing > 0 else first, i))
        if not struck:
            return None
        cut, i = min(struck)
        return cut, self._take(i)

    def at_seam(self) -> Fault | None:
        """Take the duplicates that follow a replay."""
        for i, fault in enumerate(self._pending):
            if fault.kind == "duplicates":
                return self._take(i)
        return None

    def at_login(self, now_ns: int) -> Fault | None:
        """Take the fault of a login.

        Parameters
        ----------
        now_ns : int, UTC ns
        """
        for i, fault in enumerate(self._pending):
            if fault.kind in _LOGIN and fault.at_ns is not None and fault.at_ns <= now_ns:
                return self._take(i)
        return None

    def _take(self, i: int) -> Fault:
        fault = self._pending.pop(i)
        self.fired.append(fault)
        return fault


def edited(stream: Stream, faults: Iterable[Fault], tape: Tape) -> Stream:
    """Return a stream as it goes out live: with records dropped, late, out of order and repeated.

    Parameters
    ----------
    stream : Stream
    faults : Iterable of Fault
        Faults of other kinds do nothing.
    tape : Tape
        Tells which instrument a symbol names.

    Returns
    -------
    Stream
        The stream itself when nothing is changed.
    """
    order = np.arange(stream.known_ns.size)
    known = stream.known_ns.copy()
    ids = stream.records["instrument_id"]
    gone: list[int] = []
    again: list[tuple[int, int]] = []  # (instant, record)
    for fault in faults:
        assert fault.at_ns is not None
        numbers = [
            each.instrument_id for each in tape.instruments if each.raw_symbol == fault.symbol
        ]
        stop = int(np.searchsorted(stream.known_ns, fault.at_ns, side="right"))
        own = np.isin(ids, numbers) if fault.symbol else np.ones(ids.size, bool)
        last = np.flatnonzero(own[:stop])[-fault.count :]
        if last.size == 0:
            continue
        if fault.kind == "duplicates":
            again += [(fault.at_ns, int(i)) for i in last]
            continue
        chosen = int(last[-1])
        gone.append(chosen)
        if fault.kind == "late":
            again.append((fault.at_ns + max(fault.span_ns, 1), chosen))
        elif fault.kind == "out_of_order":
            after = np.flatnonzero(ids[chosen + 1 :] == ids[chosen])[:1] + chosen + 1
            again += [(int(known[i]), chosen) for i in after]
    if not gone and not again:
        return stream
    order = np.concatenate([np.delete(order, gone), np.array([i for _, i in again], np.int64)])
    known = np.concatenate([np.delete(known, gone), np.array([at for at, _ in again], np.int64)])
    sorting = np.argsort(known, kind="stable")
    return Stream(stream.records[order[sorting]], known[sorting])
