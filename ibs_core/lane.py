"""One symbol on its way through the engine: its bars as they grow, and what waits to be decided."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ibs_core.bars import BAR, NEVER, PATH, joined
from ibs_core.market_data import MinuteRun
from ibs_core.market_data.runs import PRICES
from ibs_core.observer import Observer
from ibs_core.schedule import Timetable
from ibs_core.series import Scratch, SeriesBuilder, make_plan
from ibs_core.signals import NOT_TRADED, SCHEDULE, SIGNAL
from ibs_core.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.feeds import Feed
    from ibs_core.ports import Minute
    from ibs_core.universe import Instrument, Symbol
    from ibs_core.wiring import Lookup

__all__ = ["Lane", "Stream", "Window"]

_SCRATCH = Scratch()
_UNDECIDED = np.zeros(1, SIGNAL)
_UNDECIDED["gate"] = NOT_TRADED


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
        self._lowest = -math.inf if nonpositive else 0.0
        self.builder = SeriesBuilder(instrument.root, instrument.session_table, plan, _SCRATCH)
        self.tail = Tail(lookups, instrument.sessions)
        self.minutes: list[Minute] = []

    @property
    def ends_ns(self) -> int:
        """End of the bar or session in progress that ends first; NEVER where there is none."""
        state = self.builder.state[0]
        bar = int(state["bar"]["end_ns"]) if state["has_bar"] else NEVER
        return min(bar, int(state["day"]["end_ns"]) if state["has_day"] else NEVER)

    @property
    def has_bar(self) -> bool:
        """Whether a bar is in progress."""
        return bool(self.builder.state["has_bar"][0])

    @property
    def minute_ns(self) -> int:
        """Open of the last minute taken."""
        return int(self.builder.state["minute_ns"][0])

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

    def take(self, runs: Iterable[MinuteRun]) -> None:
        """Take runs of the past.

        Parameters
        ----------
        runs : iterable of MinuteRun
            Lawful, in order.
        """
        names = self.builder.instruments
        for run in runs:
            # A part of some data counts their contracts on; here each is numbered as it comes.
            contract_id = len(names) - bool(names and names[-1] == run.instrument)
            lawful = self.builder.add(replace(run, contract_id=contract_id))
            assert lawful, f"minutes of {run.root} break a law"

    def take_minutes(self, minutes: Sequence[Minute]) -> None:
        """Take minutes as a feed delivers them.

        Parameters
        ----------
        minutes : sequence of Minute
            Of this instrument, by time.
        """
        self.minutes = list(minutes)
        start = 0
        for stop in range(1, len(minutes) + 1):
            if stop < len(minutes) and minutes[stop].instrument == minutes[start].instrument:
                continue
            self.take([_run_of(minutes[start:stop])])
            start = stop

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
        self.builder.close(now_ns, seam_ns)
        bars, days = self.builder.drain()
        self.tail.extend(bars, days)
        return len(bars), len(days)

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


class Window(NamedTuple):
    """What one symbol brings to ``replay.decide_many``.

    Attributes
    ----------
    bars, schedule, signals : (n_bars,) BAR, SCHEDULE, SIGNAL
        Closed since the last decision, then the one in progress.
    path : (n_minutes,) PATH
        Minutes that were not settled yet.
    """

    bars: Records
    schedule: Records
    signals: Records
    path: Records


class Lane:
    """One traded symbol.

    Parameters
    ----------
    symbol : Symbol
    stream : Stream
        Its own bars.
    seams : (n_seams,) int64, UTC ns
        Known roll instants.
    """

    def __init__(self, symbol: Symbol, stream: Stream, seams: Ints) -> None:
        self.symbol = symbol
        self._stream = stream
        self._observer = Observer(symbol)
        self._timetable = Timetable(symbol.sessions, symbol.rule, seams)
        self._closed = (np.zeros(0, BAR), np.zeros(0, SCHEDULE), np.zeros(0, SIGNAL))
        self._path = np.zeros(0, PATH)
        self._open_ns = 0
        self._open_schedule = np.zeros(1, SCHEDULE)
        self.asked_ns = 0

    def roll_at(self, seams: Ints) -> None:
        """Learn the roll instants anew.

        Parameters
        ----------
        seams : (n_seams,) int64, UTC ns
        """
        self._timetable = Timetable(self.symbol.sessions, self.symbol.rule, seams)
        self._open_ns = 0

    def observe(
        self, own: Feed, others: Mapping[str, Feed], *, n_bars: int, n_days: int
    ) -> tuple[Records, Records, Floats]:
        """Observe bars that closed; they wait for their decision.

        Parameters
        ----------
        own : Feed
        others : Mapping of str to Feed
        n_bars, n_days : int
            New ones, the last of `own`.

        Returns
        -------
        (n_bars,) BAR
        (n_bars,) SIGNAL
        (n_candidates, n_columns) float64
        """
        bars = own.bars[len(own.bars) - n_bars :]
        schedule, seen = np.zeros(n_bars, SCHEDULE), np.zeros(n_bars, SIGNAL)
        if n_bars:
            self._timetable.lay(bars, schedule)
            self.asked_ns = int(bars["end_ns"][-1])
        rows = self._observer.observe(own, others, schedule, seen, n_days=n_days)
        self._closed = (bars.copy(), schedule, seen)
        return bars, seen, rows

    def window(self) -> Window:
        """Lay out what waits to be decided, with the bar in progress.

        Returns
        -------
        Window
        """
        if self._stream.minutes:
            new = np.array(
                [(m.ts_ns, m.open, m.high, m.low, m.close) for m in self._stream.minutes], PATH
            )
            self._path = joined([self._path, new]) if len(self._path) else new
            self._stream.minutes = []
        closed, schedule, seen = self._closed
        self._closed = (closed[:0], schedule[:0], seen[:0])
        opened = self._stream.open_bar()
        if len(opened):
            if opened["first_ns"][0] != self._open_ns:
                self._timetable.lay(opened, self._open_schedule)
                self._open_ns = int(opened["first_ns"][0])
            if not len(closed):
                closed, schedule, seen = opened, self._open_schedule, _UNDECIDED
            else:
                closed, seen = joined([closed, opened]), joined([seen, _UNDECIDED])
                schedule = joined([schedule, self._open_schedule])
        closed["path_stop"] = np.searchsorted(self._path["ts_ns"], closed["last_ns"], side="right")
        return Window(closed, schedule, seen, self._path)

    def forget(self) -> bool:
        """Decide nothing of what came so far.

        Returns
        -------
        bool
            Whether a bar is in progress.
        """
        self._closed = tuple(each[:0] for each in self._closed)  # type: ignore[assignment]
        return bool(len(self._stream.open_bar()))

    def settle(self, n_minutes: int) -> None:
        """Forget minutes that were settled.

        Parameters
        ----------
        n_minutes : int
        """
        self._path = self._path[n_minutes:]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        asked = np.array([self.asked_ns], np.int64)
        return {"path": self._path, "asked": asked, **self._observer.state()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        self._path, self.asked_ns = state["path"], int(state["asked"][0])
        self._observer.restore(state)


def _run_of(minutes: Sequence[Minute]) -> MinuteRun:
    """Lay minutes of one contract out as columns."""
    ts_ns = np.array([m.ts_ns for m in minutes], np.int64)
    prices = [np.array([getattr(m, name) for m in minutes]) for name in (*PRICES, "volume")]
    for column in (ts_ns, *prices):
        column.flags.writeable = False  # as files give them, or kernels would compile once more
    opening, high, low, close, volume = prices
    first = minutes[0]
    return MinuteRun(first.root, first.instrument, 0, ts_ns, opening, high, low, close, volume)
