"""What happened in market time, whoever asks for it and when: bars, trades, contracts, front contracts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from adapters.databento_gateway.records import BAR_RECORD, BAR_SCHEMA, TRADE_SCHEMA, Stream
from adapters.databento_gateway.trades import bar_stream, bars_of, trade_stream, trades_of
from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.sessions import load_sessions, outside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.bars import Ints, Records

__all__ = ["ALL_SYMBOLS", "Front", "Instrument", "Tape", "day_of"]

ALL_SYMBOLS: Final = "ALL_SYMBOLS"
_CONTINUOUS: Final = re.compile(r"([A-Z0-9]+)\.[vcn]\.0")


@dataclass(frozen=True, slots=True)
class Instrument:
    """A contract as the wire knows it.

    Parameters
    ----------
    instrument_id : int, > 0
    raw_symbol : str
        ``ESZ5``.
    root : str
        Empty for what no root's series can hold: spreads, unknown roots.
    name : str
        ``ESZ2025`` where the contract is known, else as in the data.
    last_day : int, days since 1970-01-01
        UTC day of its last record; a one-digit year may come again after it.
    """

    instrument_id: int
    raw_symbol: str
    root: str
    name: str
    last_day: int


@dataclass(frozen=True, slots=True)
class Front:
    """From a UTC day on, a root's continuous symbols stand for an instrument.

    Parameters
    ----------
    root : str
    first_day : int, days since 1970-01-01
    instrument : Instrument
    """

    root: str
    first_day: int
    instrument: Instrument


class Tape:
    """All that a gateway serves of one dataset.

    Parameters
    ----------
    dataset : str
    instruments : sequence of Instrument
        In the order of their delivery where names repeat.
    fronts : sequence of Front
        Of each root in order of time.
    bars : (n,) BAR_RECORD, optional
        Those of one minute in the order of the wire; default: made from the trades.
    trades : (n,) TRADE_RECORD, optional
        Default: made from the bars.
    groups : sequence of str, optional
        Session groups whose hours are the market's; default: always open.
    """

    def __init__(
        self,
        dataset: str,
        instruments: Sequence[Instrument],
        fronts: Sequence[Front],
        *,
        bars: Records | None = None,
        trades: Records | None = None,
        groups: Sequence[str] = (),
    ) -> None:
        assert bars is not None or trades is not None
        self.dataset: Final = dataset
        self.instruments: Final = tuple(instruments)
        self.fronts: Final = tuple(fronts)
        self._trades: Final = None if trades is None else trade_stream(trades)
        made = np.zeros(0, BAR_RECORD) if self._trades is None else bars_of(self._trades.records)
        self.bars: Final = bar_stream(made if bars is None else bars)
        self._groups: Final = tuple(groups)

    @cached_property
    def trades(self) -> Stream:
        """Trades, made from the bars when the tape has none of its own."""
        return self._trades or trade_stream(trades_of(self.bars.records))

    @property
    def first_ns(self) -> int:
        """Open of the first minute, UTC ns."""
        starts = [int(self.bars.known_ns[0]) - MINUTE_NS] if self.bars.known_ns.size else []
        if self._trades is not None and self._trades.known_ns.size:
            # One nanosecond less: what is known at the very start would not come after it.
            starts.append((int(self._trades.known_ns[0]) - 1) // MINUTE_NS * MINUTE_NS)
        return min(starts)

    @property
    def last_ns(self) -> int:
        """End of the last minute, UTC ns."""
        ends = [int(self.bars.known_ns[-1])] if self.bars.known_ns.size else []
        if self._trades is not None and self._trades.known_ns.size:
            ends.append((int(self._trades.known_ns[-1]) // MINUTE_NS + 1) * MINUTE_NS)
        return max(ends)

    def stream(self, schema: str) -> Stream:
        """Return the records of a schema.

        Parameters
        ----------
        schema : {"ohlcv-1m", "trades"}

        Returns
        -------
        Stream
        """
        assert schema in (BAR_SCHEMA, TRADE_SCHEMA), schema
        return self.bars if schema == BAR_SCHEMA else self.trades

    def minute_ends(self, *, skip_closed: bool) -> Ints:
        """Return the ends of all minutes, of those without a print too.

        Parameters
        ----------
        skip_closed : bool
            Leave out minutes outside the hours of all session groups in which nothing printed.

        Returns
        -------
        (n,) int64, UTC ns
        """
        # Not until last + 1: NumPy counts in floats, to which a nanosecond more than a year is a year.
        until_ns = self.last_ns + MINUTE_NS
        ends = np.arange(self.first_ns + MINUTE_NS, until_ns, MINUTE_NS, dtype=np.int64)
        if not skip_closed or not self._groups:
            return ends
        closed = np.ones(ends.size, bool)
        for group in self._groups:
            sessions = load_sessions(group, self.first_ns, self.last_ns)
            closed &= outside(sessions, ends - MINUTE_NS)
        return ends[~closed | np.isin(ends, self.bars.known_ns)]

    def front(self, root: str, day: int) -> Instrument | None:
        """Return the contract for which a root's continuous symbols stand.

        Parameters
        ----------
        root : str
        day : int, days since 1970-01-01, UTC
            Of a session: its trade date. Days before the tape have its first front.

        Returns
        -------
        Instrument or None
            None for a root that the tape does not hold.
        """
        of_root = [each for each in self.fronts if each.root == root]
        before = [each for each in of_root if each.first_day <= day]
        return before[-1].instrument if before else of_root[0].instrument if of_root else None

    def resolve(self, symbol: str, stype_in: str, day: int) -> tuple[Instrument, ...]:
        """Return what a symbol stands for on a UTC day.

        Parameters
        ----------
        symbol : str
        stype_in : {"raw_symbol", "continuous", "parent", "instrument_id"}
            All three roll rules give the tape's front contract, the only rank that it knows.
        day : int, days since 1970-01-01

        Returns
        -------
        tuple of Instrument
            Empty when the symbol is unknown; more than one for a parent and ``ALL_SYMBOLS``.
        """
        if symbol == ALL_SYMBOLS:
            return self.instruments
        if stype_in == "continuous":
            match = _CONTINUOUS.fullmatch(symbol)
            front = self.front(match[1], day) if match else None
            return (front,) if front else ()
        if stype_in == "parent":
            return tuple(each for each in self.instruments if f"{each.root}.FUT" == symbol)
        name = "raw_symbol" if stype_in == "raw_symbol" else "instrument_id"
        found = [each for each in self.instruments if str(getattr(each, name)) == symbol]
        current = [each for each in found if each.last_day >= day]
        return tuple(current[:1] or found[-1:])


def day_of(ts_ns: int) -> int:
    """Return the UTC day of an instant, days since 1970-01-01.

    Parameters
    ----------
    ts_ns : int, UTC ns

    Returns
    -------
    int
    """
    return ts_ns // DAY_NS
