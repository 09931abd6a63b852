"""What other instruments say at the boundaries of one: arrays laid beside its bars.

Integer comparisons of instants that were known at the boundary, so one bar live gives the same bits as a
year in a back-test.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.bars import TIMEFRAMES_NS
from ibs_core.kernels.graph import trace_many
from ibs_core.wiring import Lookup, Wiring, memory_of, new_state, wire_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.formulas import Node

__all__ = ["Beside", "Feed", "lay_beside", "newest_bar", "newest_of", "newest_session"]


class Feed:
    """One instrument that others read, with bars of their width.

    Parameters
    ----------
    bars, days : (n,) BAR
        Closed signal bars and session bars, in order.
    dates : (n_days,) int64
        Trade dates of the sessions, days since 1970-01-01.
    opens : (n_bars,) int64, UTC ns, optional
        Open of each bar's session; default: the bar's start.
    """

    def __init__(
        self, bars: Records, days: Records, dates: Ints, opens: Ints | None = None
    ) -> None:
        self.bars, self.days, self.dates = bars, days, dates
        self.opens = bars["start_ns"] if opens is None else opens
        self.ends = {side: own["end_ns"].copy() for side, own in (("bar", bars), ("day", days))}
        self.gone = {"bar": 0, "day": 0}  # bars of each side that came before these
        self._values: dict[tuple[str, Node], Floats] = {}

    def compute(self, lookups: Sequence[Lookup]) -> None:
        """Evaluate what is read of this instrument, each side in one pass.

        Parameters
        ----------
        lookups : sequence of Lookup
        """
        for side, bars in (("bar", self.bars), ("day", self.days)):
            wanted = dict.fromkeys(each.node for each in lookups if each.side == side)
            new = [node for node in wanted if (side, node) not in self._values]
            if not new:
                continue
            nodes, columns = wire_side(new)
            rows = np.empty((len(bars), len(new)))
            trace_many(nodes, memory_of(new_state(nodes)), bars, columns, rows)
            self._values |= {(side, node): rows[:, k] for k, node in enumerate(new)}

    def give(self, values: Mapping[str, Mapping[Node, Floats]], gone: Mapping[str, int]) -> None:
        """Take values that were computed as the bars came.

        Parameters
        ----------
        values : Mapping of str to Mapping of Node to (n,) float64
            By side.
        gone : Mapping of str to int
        """
        self._values = {
            (side, node): values[side][node] for side in values for node in values[side]
        }
        self.gone = dict(gone)

    def read(self, side: str, nodes: Sequence[Node]) -> Floats:
        """Return the values of formulas that were computed.

        Parameters
        ----------
        side : {"bar", "day"}
        nodes : sequence of Node

        Returns
        -------
        (n + 1, n_nodes) float64
            A row a bar of the side; the last is NaN, so that place -1 means none.
        """
        n = len(self.bars if side == "bar" else self.days)
        block = np.full((n + 1, len(nodes)), np.nan)
        for k, node in enumerate(nodes):
            block[:n, k] = self._values[side, node]
        return block


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Arrays beside the bars of one symbol.

    Attributes
    ----------
    foreign : (n_bars, 2 + n_lookups) float64
        The pair's close and its roll gaps since the bar before, then the lookups.
    day_pair : (n_days, 2) float64
        The pair's close of the same session and its roll gaps since the session before.
    cold : (n_bars,) int64
        1 where an instrument that is read has not filled its windows.
    """

    foreign: Floats
    day_pair: Floats
    cold: Ints


def newest_bar(ends: Ints, other_ends: Ints, width_ns: Ints | int) -> tuple[Ints, Ints]:
    """Find the other instrument's bar that counts at each boundary.

    Parameters
    ----------
    ends : (n,) int64, UTC ns
        Ends of the own bars.
    other_ends : (m,) int64, UTC ns
        Ends of the other's, in order.
    width_ns : int or (n,) int64
        How long a bar counts.

    Returns
    -------
    newest : (n,) int64
        The last that ended at or before the boundary, -1 when there is none.
    fresh : (n,) int64
        The same, -1 also when it ended a whole width before or earlier.
    """
    newest = np.searchsorted(other_ends, ends, side="right") - 1
    ended = other_ends[np.maximum(newest, 0)] if len(other_ends) else np.zeros(len(ends), np.int64)
    return newest, np.where((newest >= 0) & (ends - ended < width_ns), newest, -1)


def newest_session(
    ends: Ints,
    own_dates: Ints,
    other_ends: Ints,
    other_dates: Ints,
) -> tuple[Ints, Ints]:
    """Find the other instrument's session that counts at each boundary.

    Parameters
    ----------
    ends : (n,) int64, UTC ns
        Decision times.
    own_dates : (n,) int64
        Trade date of the own last closed session at each, before every date when there is none.
    other_ends, other_dates : (m,) int64
        Closes and trade dates of the other's sessions, in order.

    Returns
    -------
    newest : (n,) int64
        The last that closed at or before the decision, -1 when there is none.
    fresh : (n,) int64
        The same, -1 also when it is of an earlier date than the own last session.
    """
    newest = np.searchsorted(other_ends, ends, side="right") - 1
    dates = other_dates[np.maximum(newest, 0)] if len(other_ends) else np.zeros(len(ends), np.int64)
    return newest, np.where((newest >= 0) & (dates >= own_dates), newest, -1)


def lay_beside(
    wiring: Wiring,
    own: Feed,
    others: Mapping[str, Feed],
    tf_ns: int,
) -> Beside:
    """Look up everything that a symbol's graph reads of other instruments.

    Parameters
    ----------
    wiring : Wiring
    own : Feed
        The symbol's own bars.
    others : Mapping of str to Feed
        By root, those of ``wiring.feeds``; ``pair`` is the pair. What is read of them is computed.
    tf_ns : int
        Width of a signal bar.

    Returns
    -------
    Beside
    """
    ends, day_ends = own.ends["bar"], own.ends["day"]
    pair = np.full((len(ends), 2), np.nan)
    day_pair = np.full((len(day_ends), 2), np.nan)
    pair[:, 1] = day_pair[:, 1] = 0.0
    cold = np.zeros(len(ends), np.int64)
    if not wiring.feeds:
        return Beside(pair, day_pair, cold)
    own_dates = np.append(own.dates, np.iinfo(np.int64).min)[
        np.searchsorted(day_ends, ends, side="right") - 1
    ]
    # A bar of a day has no fixed width: what ended before its session opened is of another day.
    width_ns = ends - own.opens if tf_ns == TIMEFRAMES_NS["1d"] else tf_ns
    parts = [pair]
    for (root, side), lookups in groupby(wiring.lookups, lambda each: (each.root, each.side)):
        other, nodes = others[root], [each.node for each in lookups]
        other.compute(wiring.lookups_of(root))
        if side == "bar":
            newest, fresh = newest_bar(ends, other.ends["bar"], width_ns)
        else:
            newest, fresh = newest_session(ends, own_dates, other.ends["day"], other.dates)
        parts.append(other.read(side, nodes)[fresh])
        cold |= newest + 1 + other.gone[side] < max(node.full for node in nodes)
    if "bar" in wiring.pair_on:
        other = others["pair"]
        newest, fresh = newest_bar(ends, other.ends["bar"], width_ns)
        pair[:, 0] = _taken(other.bars["close"], fresh)
        pair[:, 1] = _gaps(other.bars["gap"], newest)
        cold |= newest + 1 + other.gone["bar"] < wiring.pair_on["bar"]
    if "day" in wiring.pair_on:
        other = others["pair"]
        newest, fresh = newest_session(day_ends, own.dates, other.ends["day"], other.dates)
        day_pair[:, 0] = _taken(other.days["close"], fresh)
        day_pair[:, 1] = _gaps(other.days["gap"], newest)
        seen = np.searchsorted(other.ends["day"], ends, side="right")
        cold |= seen + other.gone["day"] < wiring.pair_on["day"]
    return Beside(np.hstack(parts), day_pair, cold)


def newest_of(
    wiring: Wiring, own: Feed, others: Mapping[str, Feed], tf_ns: int, n_bars: int, n_days: int
) -> Beside:
    """Look up what a symbol's graph reads beside its newest bars.

    Parameters
    ----------
    wiring : Wiring
    own : Feed
        With at least one bar and one session before the new ones, if there were any.
    others : Mapping of str to Feed
    tf_ns : int
    n_bars, n_days : int
        How many of the own are new.

    Returns
    -------
    Beside
        Of the new ones alone.
    """
    found = lay_beside(wiring, own, others, tf_ns)
    first, first_day = len(own.bars) - n_bars, len(own.days) - n_days
    return Beside(found.foreign[first:], found.day_pair[first_day:], found.cold[first:])


def _taken(values: Floats, place: Ints) -> Floats:
    """Return the values at places, NaN at -1."""
    return np.append(values, np.nan)[place]


def _gaps(gaps: Floats, newest: Ints) -> Floats:
    """Sum the roll gaps since the bar before, on the price grid."""
    total = np.concatenate([[0.0], np.cumsum(gaps)])[newest + 1]
    since = np.diff(total, prepend=total[:1])
    return np.rint(since * 1e9) / 1e9
