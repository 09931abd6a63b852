"""The newest bars of one instrument, and what others read of them: a feed that grows as time goes on.

A feed of the same bars made at once holds the same numbers bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.bars import BAR, joined
from ibs_core.feeds import Feed
from ibs_core.kernels.graph import trace_many
from ibs_core.wiring import memory_of, new_state, wire_side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.formulas import Node
    from ibs_core.sessions import Sessions
    from ibs_core.wiring import Lookup

__all__ = ["KEPT", "Side", "Tail"]

KEPT = 64
"""Bars of a side before old ones are dropped: dropping costs more than keeping a few."""


class Tail:
    """The newest bars of one instrument, and what others read of them; grows and is cut as time goes on.

    Parameters
    ----------
    lookups : iterable of Lookup
        Everything that is read of the instrument.
    sessions : Sessions

    """

    def __init__(self, lookups: Iterable[Lookup], sessions: Sessions) -> None:
        wanted = list(lookups)
        self.sessions = sessions
        self.bar, self.day = (
            Side(dict.fromkeys(each.node for each in wanted if each.side == side))
            for side in ("bar", "day")
        )
        self._feed: Feed | None = None

    def extend(self, bars: Records, days: Records) -> None:
        """Take bars that have closed.

        Parameters
        ----------
        bars, days : (n,) BAR, in order
        """
        self.bar.extend(bars)
        self.day.extend(days)
        self._feed = None

    def forget(self, bars_ns: int, days_ns: int, *, at_least: int) -> None:
        """Drop what nobody will ask for again.

        Parameters
        ----------
        bars_ns, days_ns : int, UTC ns
            Of each side the last bar that ended by then stays.
        at_least : int
            A side of fewer bars is left alone.
        """
        for side, before_ns in ((self.bar, bars_ns), (self.day, days_ns)):
            if len(side.bars) >= at_least:
                side.forget(before_ns)
                self._feed = None

    def feed(self) -> Feed:
        """Return the bars that are left, until the tail changes.

        Returns
        -------
        Feed
        """
        if self._feed is None:
            bar, day = self.bar, self.day
            dates = self.sessions.trade_date[day.bars["session"]]
            opens = self.sessions.open_ns[bar.bars["session"]]
            self._feed = Feed(bar.bars, day.bars, dates, opens)
            values = {"bar": bar.columns(), "day": day.columns()}
            self._feed.give(values, {"bar": bar.gone, "day": day.gone})
        return self._feed

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        sides = (("bar", self.bar), ("day", self.day))
        return {f"{name}/{key}": v for name, side in sides for key, v in side.state().items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        for name, side in (("bar", self.bar), ("day", self.day)):
            side.restore({key: state[f"{name}/{key}"] for key in side.state()})
        self._feed = None


class Side:
    """One side of a tail: bars, and a row of values for each.

    Parameters
    ----------
    wanted : iterable of Node
        What is read of the side.

    """

    def __init__(self, wanted: Iterable[Node]) -> None:
        self.wanted = list(wanted)
        self._nodes, self._columns = wire_side(self.wanted)
        self._state = new_state(self._nodes)
        self._memory = memory_of(self._state)
        self.bars: Records = np.zeros(0, BAR)
        self.rows: Floats = np.empty((0, len(self.wanted)))
        self.gone = 0  # bars that came before these

    @property
    def ends_ns(self) -> Ints:
        """Ends of the bars, (n,) int64, UTC ns."""
        ends: Ints = self.bars["end_ns"]
        return ends

    def extend(self, bars: Records) -> None:
        """Take bars that have closed.

        Parameters
        ----------
        bars : (n,) BAR, in order
        """
        if not len(bars):
            return
        rows = np.empty((len(bars), len(self.wanted)))
        if self.wanted:
            trace_many(self._nodes, self._memory, bars, self._columns, rows)
        self.bars = joined([self.bars, bars]) if len(self.bars) else bars
        self.rows = np.concatenate([self.rows, rows]) if len(self.rows) else rows

    def forget(self, before_ns: int) -> None:
        """Drop what came before the last bar that ended by an instant.

        Parameters
        ----------
        before_ns : int, UTC ns
        """
        n_old = int(np.searchsorted(self.ends_ns, before_ns, side="right")) - 1
        if n_old > 0:
            self.bars, self.rows = self.bars[n_old:].copy(), self.rows[n_old:].copy()
            self.gone += n_old

    def columns(self) -> dict[Node, Floats]:
        """Return the values of each formula."""
        return {node: self.rows[:, k] for k, node in enumerate(self.wanted)}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        gone = np.array([self.gone], np.int64)
        return {"memory": self._state, "bars": self.bars, "rows": self.rows, "gone": gone}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        self._state[:] = state["memory"]
        self.bars, self.rows = state["bars"], state["rows"]
        self.gone = int(state["gone"][0])
