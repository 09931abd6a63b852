"""The newest bar of every instrument, side by side: what a live boundary reads without a search.

``feeds.lay_beside`` searches, for each of many boundaries, the bar that counted then. At the last boundary of
all, with no later bar anywhere, that is the last bar of each instrument; the answer is the same bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.bars import NEVER, TIMEFRAMES_NS
from ibs_core.feeds import Beside, newest_of
from ibs_core.tail import KEPT

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from numpy.typing import NDArray

    from ibs_core.bars import Floats, Ints
    from ibs_core.tail import Side, Tail
    from ibs_core.wiring import Wiring

__all__ = ["Newest", "Reader"]

_SIDES = ("bar", "day")
_NO_DAYS = np.empty((0, 2))


class Newest:
    """What the last bar of each side of many tails says.

    Parameters
    ----------
    tails : Mapping of key to Tail

    """

    def __init__(self, tails: Mapping[Hashable, Tail]) -> None:
        self.tails = tails
        # Of each side: where it stands here, where its values begin, the end and the trade date of its last
        # bar (before all others without one), and how many it has had.
        sides = {(key, side): each for key, tail in tails.items() for side, each in _of(tail)}
        self.places = {side: i for i, side in enumerate(sides)}
        stops = np.cumsum([len(each.wanted) for each in sides.values()]).tolist()
        self.firsts = dict(zip(sides, [0, *stops[:-1]], strict=True))
        self.ends = np.full(len(sides), -NEVER)
        self.dates = np.full(len(sides), -NEVER)
        self.counts = np.zeros(len(sides), np.int64)
        self.values = np.full(stops[-1], np.nan)

    def note(self, key: Hashable) -> None:
        """Take note of a tail that has grown.

        Parameters
        ----------
        key : hashable
        """
        tail = self.tails[key]
        for name, side in _of(tail):
            if not len(side.bars):
                continue
            place, first = self.places[key, name], self.firsts[key, name]
            last = side.bars[-1]
            self.ends[place] = last["end_ns"]
            self.dates[place] = tail.sessions.trade_date[last["session"]]
            self.counts[place] = len(side.bars) + side.gone
            if side.wanted:
                self.values[first : first + len(side.wanted)] = side.rows[-1]

    def forget(self, asked: Iterable[tuple[int, ...]], *, at_least: int = KEPT) -> None:
        """Drop the bars that no symbol will ask for again.

        Parameters
        ----------
        asked : iterable of (int, int), UTC ns
            Ends of the last bar and of the last session of each symbol, 0 before the first: at the next, its
            pair's gaps since then are asked for.
        at_least : int
            A side of fewer bars is left alone.
        """
        bars_ns, days_ns = ([ns for ns in side if ns] for side in zip(*asked, strict=True))
        last_ns = min(bars_ns, default=0)
        for tail in self.tails.values():
            tail.forget(last_ns, min([last_ns, *days_ns]), at_least=at_least)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Where a wiring's lookups stand: of each group of one instrument and side, and of each lookup."""

    groups: Ints
    is_bar: NDArray[np.bool_]
    full: Ints
    group_of: Ints
    slots: Ints


class Reader:
    """Reads for one symbol.

    Parameters
    ----------
    wiring : Wiring
    own : hashable
        Key of the symbol's own bars.
    others : Mapping of str to hashable
        Keys of what the wiring reads, by the names used there.
    tf_ns : int
        Width of a signal bar.
    newest : Newest
    """

    def __init__(
        self,
        wiring: Wiring,
        own: Hashable,
        others: Mapping[str, Hashable],
        tf_ns: int,
        newest: Newest,
    ) -> None:
        self._newest, self._wiring, self._tf_ns = newest, wiring, tf_ns
        self._others = {name: newest.tails[key] for name, key in others.items()}
        self._own = newest.tails[own]
        self._bar, self._day = (newest.places[own, side] for side in _SIDES)
        self._plan = _plan_of(wiring, others, newest)
        self._pair_on = wiring.pair_on
        self._pair = newest.tails[others["pair"]] if wiring.pair_on else self._own
        self._pair_places = {side: newest.places[others["pair"], side] for side in wiring.pair_on}

    def lay(self, n_bars: int, n_days: int) -> Beside:
        """Look up what is read beside the newest own bars.

        Parameters
        ----------
        n_bars, n_days : int
            How many are new.

        Returns
        -------
        Beside
            As ``feeds.lay_beside``.
        """
        found = self.lay_last(n_bars, n_days)
        if found is not None:
            return found
        own, others = self._own.feed(), {name: tail.feed() for name, tail in self._others.items()}
        return newest_of(self._wiring, own, others, self._tf_ns, n_bars, n_days)

    def lay_last(self, n_bars: int, n_days: int) -> Beside | None:
        """Look up what is read at the end of the last bar, without a search.

        Parameters
        ----------
        n_bars, n_days : int
            How many are new.

        Returns
        -------
        Beside or None
            None where it takes a search: several boundaries, or something that is newer than the last.
        """
        newest, plan = self._newest, self._plan
        end_ns = int(newest.ends[self._bar])
        ends = newest.ends[plan.groups]
        if n_bars != 1 or n_days > 1 or newest.ends[self._day] > end_ns:
            return None
        if len(ends) and ends.max() > end_ns:
            return None
        day_pair = self._day_pair(n_days)
        if day_pair is None:
            return None
        width_ns = self._width(end_ns)
        own_date = newest.dates[self._day]
        fresh = np.where(
            plan.is_bar, ends > end_ns - width_ns, newest.dates[plan.groups] >= own_date
        )
        foreign = np.empty((1, 2 + len(plan.slots)))
        foreign[0, 2:] = np.where(fresh[plan.group_of], newest.values[plan.slots], np.nan)
        foreign[0, :2] = np.nan, 0.0
        if "bar" in self._pair_on:
            bars = self._pair.bar
            is_fresh = newest.ends[self._pair_places["bar"]] > end_ns - width_ns
            foreign[0, 0] = bars.bars["close"][-1] if is_fresh else np.nan
            foreign[0, 1] = _gap(self._own.bar, bars)
        cold = (newest.counts[plan.groups] < plan.full).any()
        return Beside(foreign, day_pair, np.array([cold], np.int64))

    def _width(self, end_ns: int) -> int:
        if self._tf_ns != TIMEFRAMES_NS["1d"]:
            return self._tf_ns
        session = int(self._own.bar.bars["session"][-1])
        return end_ns - int(self._own.sessions.open_ns[session])

    def _day_pair(self, n_days: int) -> Floats | None:
        if not n_days:
            return _NO_DAYS
        if "day" not in self._pair_on:
            return np.array([[np.nan, 0.0]])
        newest, place = self._newest, self._pair_places["day"]
        if newest.ends[place] > newest.ends[self._day]:
            return None
        days = self._pair.day
        is_fresh = len(days.bars) and newest.dates[place] >= newest.dates[self._day]
        close = days.bars["close"][-1] if is_fresh else np.nan
        return np.array([[close, _gap(self._own.day, days)]])


def _of(tail: Tail) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return (("bar", tail.bar), ("day", tail.day))


def _plan_of(wiring: Wiring, others: Mapping[str, Hashable], newest: Newest) -> _Plan:
    groups: list[tuple[int, bool]] = []
    full: list[int] = []
    group_of: list[int] = []
    slots: list[int] = []
    for (root, side), lookups in groupby(wiring.lookups, lambda each: (each.root, each.side)):
        nodes = [each.node for each in lookups]
        key, wanted = others[root], dict(_of(newest.tails[others[root]]))[side].wanted
        group_of += [len(groups)] * len(nodes)
        slots += [newest.firsts[key, side] + wanted.index(node) for node in nodes]
        groups.append((newest.places[key, side], side == "bar"))
        full.append(max(node.full for node in nodes))
    for side, n_full in wiring.pair_on.items():
        groups.append((newest.places[others["pair"], side], side == "bar"))
        full.append(n_full)
    return _Plan(
        np.array([place for place, _ in groups], np.int64),
        np.array([is_bar for _, is_bar in groups], bool),
        np.array(full, np.int64),
        np.array(group_of, np.int64),
        np.array(slots, np.int64),
    )


def _gap(own: Side, pair: Side) -> float:
    """Sum the pair's roll gaps since the own bar before, on the price grid."""
    if len(own.bars) < 2:
        return 0.0
    before_ns, total = own.bars["end_ns"][-2], 0.0
    for place in range(len(pair.bars) - 1, -1, -1):
        if pair.bars["end_ns"][place] <= before_ns:
            break
        total += float(pair.bars["gap"][place])
    return float(np.rint(total * 1e9) / 1e9)
