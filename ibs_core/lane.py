"""One symbol on its way through the engine: its bars as they grow, and what waits to be decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ibs_core.bars import BAR, PATH, joined
from ibs_core.observer import Observer
from ibs_core.schedule import Timetable
from ibs_core.series import copied
from ibs_core.signals import NOT_TRADED, SCHEDULE, SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.newest import Reader
    from ibs_core.stream import Stream
    from ibs_core.universe import Symbol
    from ibs_core.wiring import Wiring

__all__ = ["Lane", "Window"]

_NO_PATH = np.zeros(0, PATH)
_UNDECIDED = np.zeros(1, SIGNAL)
_UNDECIDED["gate"] = NOT_TRADED
_NONE_CLOSED = (np.zeros(0, BAR), np.zeros(0, SCHEDULE), np.zeros(0, SIGNAL))


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
    reader : callable
        Given a wiring, returns what reads for it.

    """

    def __init__(
        self, symbol: Symbol, stream: Stream, seams: Ints, reader: Callable[[Wiring], Reader]
    ) -> None:
        self.symbol, self.stream = symbol, stream
        self.observer = Observer(symbol)
        self._reader = self._gates = reader(symbol.wiring)
        if symbol.gates is not symbol.wiring:
            self._gates = reader(symbol.gates)
        self._timetable = Timetable(symbol.sessions, symbol.rule, seams)
        self._closed = _NONE_CLOSED
        self._path = _NO_PATH
        self._laid: tuple[int, ...] = ()
        self._open_schedule = np.zeros(1, SCHEDULE)
        self.asked: tuple[int, ...] = (0, 0)  # ends of the last bar and session, 0 before the first

    def roll_at(self, seams: Ints) -> None:
        """Learn the roll instants anew.

        Parameters
        ----------
        seams : (n_seams,) int64, UTC ns
        """
        self._timetable = Timetable(self.symbol.sessions, self.symbol.rule, seams)
        self._laid = ()  # the bar in progress may have to leave now

    def observe(self, n_bars: int, n_days: int) -> tuple[Records, Records, Floats]:
        """Observe bars that closed; they wait for their decision.

        Parameters
        ----------
        n_bars, n_days : int
            How many of the own are new.

        Returns
        -------
        (n_bars,) BAR
        (n_bars,) SIGNAL
        (n_candidates, n_columns) float64
        """
        tail = self.stream.tail
        bars = tail.bar.bars[len(tail.bar.bars) - n_bars :]
        schedule, seen = self._schedule_of(bars), np.zeros(n_bars, SIGNAL)
        days = tail.day.bars[len(tail.day.bars) - n_days :]
        self.asked = tuple(
            int(new["end_ns"][-1]) if len(new) else before
            for new, before in zip((bars, days), self.asked, strict=True)
        )
        beside = self._reader.lay(n_bars, n_days)
        is_watched = self._gates is not self._reader
        waited = self._gates.lay(n_bars, n_days) if is_watched else beside
        schedule["feeds_cold"] = waited.cold
        rows = self.observer.take(bars, days, beside, schedule, seen)
        self._closed = (copied(bars), schedule, seen)
        return bars, seen, rows

    def _schedule_of(self, bars: Records) -> Records:
        if len(bars) == 1 and _laid_for(bars) == self._laid:
            return copied(self._open_schedule)
        schedule = np.zeros(len(bars), SCHEDULE)
        if len(bars):
            self._timetable.lay(bars, schedule)
        return schedule

    def window(self) -> Window:
        """Lay out what waits to be decided, with the bar in progress.

        Returns
        -------
        Window
        """
        new = self.stream.hand_over()
        if len(new):
            self._path = joined([self._path, new]) if len(self._path) else new
        closed, schedule, seen = self._closed
        self._closed = _NONE_CLOSED
        opened = self.stream.open_bar()
        if len(opened):
            if (key := _laid_for(opened)) != self._laid:
                self._timetable.lay(opened, self._open_schedule)
                self._laid = key
            if not len(closed):
                closed, schedule, seen = opened, self._open_schedule, _UNDECIDED
            else:
                closed, seen = joined([closed, opened]), joined([seen, _UNDECIDED])
                schedule = joined([schedule, self._open_schedule])
        if len(closed):
            last_ns = closed["last_ns"]
            closed["path_stop"] = np.searchsorted(self._path["ts_ns"], last_ns, side="right")
        return Window(closed, schedule, seen, self._path)

    def forget(self) -> bool:
        """Decide nothing of what came so far.

        Returns
        -------
        bool
            Whether a bar is in progress.
        """
        self._closed = _NONE_CLOSED
        return bool(len(self.stream.open_bar()))

    def settle(self, n_minutes: int) -> None:
        """Forget minutes that were settled.

        Parameters
        ----------
        n_minutes : int
        """
        self._path = self._path[n_minutes:]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        asked = np.array(self.asked, np.int64)
        return {"path": self._path, "asked": asked, **self.observer.state()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        self._path = state["path"]
        self.asked = tuple(state["asked"].tolist())
        self.observer.restore(state)


def _laid_for(bars: Records) -> tuple[int, ...]:
    """Return all that a timetable reads of one bar."""
    return tuple(int(bars[name][0]) for name in ("start_ns", "end_ns", "first_ns", "session"))
