"""One instrument's minutes as they come, and the bars of one width that they become."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.bars import BAR, NEVER, PATH
from ibs_core.kernels import aggregate
from ibs_core.market_data import MinuteRun
from ibs_core.market_data.runs import PRICES
from ibs_core.reading import Key, keys_of
from ibs_core.series import Scratch, SeriesBuilder, make_plan
from ibs_core.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.bars import Floats, Records
    from ibs_core.ports import Minute
    from ibs_core.universe import Instrument, Symbol, Universe
    from ibs_core.wiring import Lookup

__all__ = ["Stream", "key_of", "run_of", "streams_of"]

_SCRATCH = Scratch()
_COLUMNS = (*PRICES, "volume")
_NO_PATH = np.zeros(0, PATH)


def _word(record: np.dtype[Any], *names: str) -> int:
    """Return the place of a field, in words of 8 bytes."""
    place = 0
    for name in names:
        assert record.fields is not None
        record, offset = record.fields[name][:2]
        place += offset // 8
    return place


_HAS_BAR, _HAS_DAY, _MINUTE = (
    _word(aggregate.STATE, name) for name in ("has_bar", "has_day", "minute_ns")
)
_BAR_END, _DAY_END = (_word(aggregate.STATE, side, "end_ns") for side in ("bar", "day"))


def _number(instrument: str, known: Sequence[str]) -> int:
    return len(known) - bool(known and known[-1] == instrument)


class _Held:
    """Minutes of one instrument that wait to be taken, as columns that grow."""

    def __init__(self) -> None:
        self._names: list[tuple[int, str]] = []
        self._ts_ns = array("q")
        self._columns = tuple(array("d") for _ in _COLUMNS)

    def __len__(self) -> int:
        return len(self._ts_ns)

    @property
    def last_ns(self) -> int:
        return self._ts_ns[-1]

    def add(self, minute: Minute) -> None:
        if not self._names or self._names[-1][1] != minute.instrument:
            self._names.append((len(self._ts_ns), minute.instrument))
        self._ts_ns.append(minute.ts_ns)
        values = (minute.open, minute.high, minute.low, minute.close, minute.volume)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def runs(self, root: str, known: Sequence[str]) -> Iterator[MinuteRun]:
        """Lay them out by contract, each numbered as it comes after those that are known."""
        ts_ns, columns = np.frombuffer(self._ts_ns, np.int64), self._arrays()
        for column in (ts_ns, *columns):
            column.flags.writeable = False  # as files give them, or kernels would compile once more
        stops = [start for start, _ in self._names[1:]] + [len(ts_ns)]
        for (start, name), stop in zip(self._names, stops, strict=True):
            part = slice(start, stop)
            parts = (column[part] for column in columns)
            yield MinuteRun(root, name, _number(name, known), ts_ns[part], *parts)  # type: ignore[arg-type]

    def path(self) -> Records:
        out = np.empty(len(self), PATH)
        out["ts_ns"] = self._ts_ns
        for name, column in zip(_COLUMNS[:4], self._arrays(), strict=False):
            out[name] = column
        return out

    def _arrays(self) -> list[Floats]:
        return [np.frombuffer(column) for column in self._columns]


_NOTHING_HELD = _Held()


class Stream:
    """One instrument's minutes as they become bars of one width, and what others read of those.

    Parameters
    ----------
    instrument : Instrument
    tf_ns : int
    lookups : iterable of Lookup
    """

    def __init__(self, instrument: Instrument, tf_ns: int, lookups: Iterable[Lookup]) -> None:
        nonpositive = instrument.contract.allow_nonpositive
        plan = make_plan(tf_ns, with_path=False, mark_ns=0, allow_nonpositive=nonpositive)
        self._root, self._lowest = instrument.root, -math.inf if nonpositive else 0.0
        self.builder = SeriesBuilder(instrument.root, instrument.session_table, plan, _SCRATCH)
        # Read field by field, records take longer than the whole kernel.
        self._words = self.builder.state.view(np.uint8).data.cast("q")
        self.tail = Tail(lookups, instrument.sessions)
        self._waiting, self._taken = _Held(), _NOTHING_HELD

    @property
    def ends_ns(self) -> int:
        """End of the bar or session in progress that ends first; NEVER where there is none."""
        words = self._words
        bar = words[_BAR_END] if words[_HAS_BAR] else NEVER
        return min(bar, words[_DAY_END]) if words[_HAS_DAY] else bar

    @property
    def has_bar(self) -> bool:
        """Whether a bar is in progress."""
        return bool(self._words[_HAS_BAR])

    @property
    def minute_ns(self) -> int:
        """Open of the last minute given."""
        return self._waiting.last_ns if len(self._waiting) else self._words[_MINUTE]

    @property
    def waits(self) -> bool:
        """Whether minutes were held that are in no bar yet."""
        return len(self._waiting) > 0

    def refusal(self, minute: Minute) -> str:
        """Tell which law of minute bars a minute breaks; empty when none.

        Parameters
        ----------
        minute : Minute

        Returns
        -------
        str
        """
        low, high = minute.low, minute.high
        if minute.ts_ns <= self.minute_ns:
            return "not after the last"
        if not (
            self._lowest < low <= minute.open <= high < math.inf and low <= minute.close <= high
        ):
            return "impossible prices"
        return ""

    def hold(self, minute: Minute) -> None:
        """Keep a minute until minutes are taken.

        Parameters
        ----------
        minute : Minute
            Lawful.
        """
        self._waiting.add(minute)

    def take(self, runs: Iterable[MinuteRun]) -> None:
        """Take runs of the past.

        Parameters
        ----------
        runs : iterable of MinuteRun
            Lawful, in order.
        """
        for run in runs:
            # A part of some data counts their contracts on; here each is numbered as it comes.
            contract_id = _number(run.instrument, self.builder.instruments)
            self._add(replace(run, contract_id=contract_id))

    def take_held(self) -> None:
        """Take the minutes that were held."""
        if len(self._waiting):
            for run in self._waiting.runs(self._root, self.builder.instruments):
                self._add(run)
            self._taken, self._waiting = self._waiting, _Held()

    def hand_over(self) -> Records:
        """Hand over the held minutes that were taken last, once.

        Returns
        -------
        (n,) PATH
        """
        taken, self._taken = self._taken, _NOTHING_HELD
        return taken.path() if len(taken) else _NO_PATH

    def close(self, now_ns: int, seam_ns: int) -> tuple[int, int]:
        """Close what has ended.

        Parameters
        ----------
        now_ns, seam_ns : int, UTC ns

        Returns
        -------
        (int, int)
            New signal bars and sessions of the tail.
        """
        if min(self.ends_ns, seam_ns) <= now_ns:
            self.builder.close(now_ns, seam_ns)
        bars, days = self.builder.drain()
        if len(bars) or len(days):
            self.tail.extend(bars, days)
        return len(bars), len(days)

    def _add(self, run: MinuteRun) -> None:
        lawful = self.builder.add(run)
        assert lawful, f"minutes of {run.root} break a law"

    def open_bar(self) -> Records:
        """Return the bar in progress.

        Returns
        -------
        (0 or 1,) BAR
        """
        state = self.builder.state
        return state["bar"].copy() if state["has_bar"][0] else np.zeros(0, BAR)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        names = np.array(self.builder.instruments, dtype="U16")
        return {"aggregate": self.builder.state, "instruments": names, **self.tail.state()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        self.builder.state[:] = state["aggregate"]
        self.builder.instruments[:] = state["instruments"].tolist()
        self.tail.restore(state)


def run_of(minutes: Sequence[Minute]) -> MinuteRun:
    """Lay minutes of one contract out as columns.

    Parameters
    ----------
    minutes : sequence of Minute
        By time, at least one.

    Returns
    -------
    MinuteRun
        Its contract is counted 0.
    """
    ts_ns = np.array([m.ts_ns for m in minutes], np.int64)
    prices = [np.array([getattr(m, name) for m in minutes]) for name in (*PRICES, "volume")]
    for column in (ts_ns, *prices):
        column.flags.writeable = False  # as files give them, or kernels would compile once more
    opening, high, low, close, volume = prices
    first = minutes[0]
    return MinuteRun(first.root, first.instrument, 0, ts_ns, opening, high, low, close, volume)


def streams_of(symbols: Sequence[Symbol], universe: Universe) -> dict[Key, Stream]:
    """Make a stream of every symbol, and of whatever their features read.

    Parameters
    ----------
    symbols : sequence of Symbol
    universe : Universe

    Returns
    -------
    dict of Key to Stream
        In one order, whatever the features.
    """
    lookups: dict[Key, list[Any]] = {}
    for each in symbols:
        lookups.setdefault(key_of(each), [])
        keys = keys_of(each.wiring, each.contract, each.rule.tf_ns)
        for name, key in keys.items():
            lookups.setdefault(key, []).extend(each.wiring.lookups_of(name))
    return {
        key: Stream(universe.instrument(key.root), key.tf_ns, wanted)
        for key, wanted in lookups.items()
    }


def key_of(symbol: Symbol) -> Key:
    """Name the series of a symbol's own bars.

    Parameters
    ----------
    symbol : Symbol

    Returns
    -------
    Key
    """
    return Key(symbol.root, symbol.rule.tf_ns)
