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

    from ibs_core.bars import Floats, Records
    from ibs_core.formulas import Node
    from ibs_core.sessions import Sessions
    from ibs_core.wiring import Lookup

__all__ = ["Tail"]


class Tail:
    """The newest bars of one instrument, and what others read of them; grows and is cut as time goes on.

    Parameters
    ----------
    lookups : iterable of Lookup
        Everything that is read of the instrument.
    sessions : Sessions
    """

    def __init__(self, lookups: Iterable[Lookup], sessions: Sessions) -> None:
        self._sessions = sessions
        wanted = list(lookups)
        self._sides = {
            side: _Side(dict.fromkeys(each.node for each in wanted if each.side == side))
            for side in ("bar", "day")
        }

    def extend(self, bars: Records, days: Records) -> None:
        """Take bars that have closed.

        Parameters
        ----------
        bars, days : (n,) BAR, in order
        """
        self._sides["bar"].extend(bars)
        self._sides["day"].extend(days)

    def forget(self, before_ns: int) -> None:
        """Drop what nobody will ask for again.

        Parameters
        ----------
        before_ns : int, UTC ns
            Of each side the last bar that ended by then stays.
        """
        for side in self._sides.values():
            side.forget(before_ns)

    def feed(self) -> Feed:
        """Return the bars that are left.

        Returns
        -------
        Feed
        """
        bar, day = self._sides["bar"], self._sides["day"]
        dates = self._sessions.trade_date[day.bars["session"]]
        opens = self._sessions.open_ns[bar.bars["session"]]
        feed = Feed(bar.bars, day.bars, dates, opens)
        feed.give({"bar": bar.columns(), "day": day.columns()}, {"bar": bar.gone, "day": day.gone})
        return feed

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        return {
            f"{name}/{key}": array
            for name, side in self._sides.items()
            for key, array in side.state().items()
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        for name, side in self._sides.items():
            side.restore({key: state[f"{name}/{key}"] for key in side.state()})


class _Side:
    """One side of a tail: bars, and a row of values for each."""

    def __init__(self, wanted: Iterable[Node]) -> None:
        self._wanted = list(wanted)
        self._nodes, self._columns = wire_side(self._wanted)
        self._memory = new_state(self._nodes)
        self.bars: Records = np.zeros(0, BAR)
        self._rows = np.empty((0, len(self._wanted)))
        self.gone = 0

    def extend(self, bars: Records) -> None:
        if not len(bars):
            return
        rows = np.empty((len(bars), len(self._wanted)))
        if self._wanted:
            trace_many(self._nodes, memory_of(self._memory), bars, self._columns, rows)
        self.bars = joined([self.bars, bars]) if len(self.bars) else bars
        self._rows = np.concatenate([self._rows, rows]) if len(self._rows) else rows

    def forget(self, before_ns: int) -> None:
        n_old = int(np.searchsorted(self.bars["end_ns"], before_ns, side="right")) - 1
        if n_old > 0:
            self.bars, self._rows = self.bars[n_old:].copy(), self._rows[n_old:].copy()
            self.gone += n_old

    def columns(self) -> dict[Node, Floats]:
        return {node: self._rows[:, k] for k, node in enumerate(self._wanted)}

    def state(self) -> dict[str, NDArray[Any]]:
        gone = np.array([self.gone], np.int64)
        return {"memory": self._memory, "bars": self.bars, "rows": self._rows, "gone": gone}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._memory[:] = state["memory"]
        self.bars, self._rows = state["bars"], state["rows"]
        self.gone = int(state["gone"][0])
