"""Plateaus: how good a candidate is when its neighbours are asked too.

A candidate's neighbours differ from it in one parameter, by one step of the values that are tried. Its plateau
score is its own Sharpe ratio or the median of theirs, whichever is lower: a peak that stands alone scores as the
ground around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibs_core.bars import Floats, Ints
    from ibs_core.sweep.grid import Axis, Grid
    from ibs_core.sweep.paths import Value

__all__ = ["Plateaus", "at_edge", "chosen", "neighbours_of", "plateaus"]

_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})|(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, eq=False)
class Plateaus:
    """Scores of candidates, in their order.

    Attributes
    ----------
    neighbours : (n,) int64
        How many of a candidate's neighbours were tried.
    score : (n,) float64
        NaN without a neighbour.
    worst : (n,) float64
        Lowest Sharpe ratio among the neighbours; NaN without one.
    """

    neighbours: Ints
    score: Floats
    worst: Floats


def plateaus(grid: Grid, tried: Sequence[tuple[Value, ...]], sharpe: Floats) -> Plateaus:
    """Score candidates.

    Parameters
    ----------
    grid : Grid
    tried : sequence of tuple of JSON scalars
        Values of each candidate that was tried.
    sharpe : (n,) float64
        Their Sharpe ratios; NaN, which is undefined, counts as 0: neither good nor bad.

    Returns
    -------
    Plateaus
    """
    own = np.nan_to_num(sharpe, nan=0.0)
    place = {_key(values): i for i, values in enumerate(tried)}
    count = np.zeros(len(tried), np.int64)
    score, worst = np.full((2, len(tried)), np.nan)
    for i, values in enumerate(tried):
        beside = [
            place[key] for each in neighbours_of(grid, values) if (key := _key(each)) in place
        ]
        count[i] = len(beside)
        if beside:
            score[i] = min(own[i], float(np.median(own[beside])))
            worst[i] = own[beside].min()
    return Plateaus(count, score, worst)


def neighbours_of(grid: Grid, values: tuple[Value, ...]) -> Iterator[tuple[Value, ...]]:
    """Yield the neighbours of a candidate within the grid, tried or not.

    Parameters
    ----------
    grid : Grid
    values : tuple of JSON scalars

    Yields
    ------
    tuple of JSON scalars
    """
    for k, (axis, value) in enumerate(zip(grid.axes, values, strict=True)):
        ordered = _ordered(axis)
        if _rank(value) is None:
            continue
        at = ordered.index(value)
        for beside in (at - 1, at + 1):
            if 0 <= beside < len(ordered):
                yield (*values[:k], ordered[beside], *values[k + 1 :])


def at_edge(grid: Grid, values: tuple[Value, ...]) -> list[str]:
    """Name the parameters of which a candidate has the first or the last of three values or more.

    Parameters
    ----------
    grid : Grid
    values : tuple of JSON scalars

    Returns
    -------
    list of str
        Paths.
    """
    ordered = [_ordered(axis) for axis in grid.axes]
    return [
        axis.path
        for axis, value, order in zip(grid.axes, values, ordered, strict=True)
        if len(order) > 2 and _rank(value) is not None and value in (order[0], order[-1])
    ]


def chosen(score: Floats, sharpe: Floats) -> int | None:
    """Choose the candidate that leads the report.

    Parameters
    ----------
    score : (n,) float64
        Plateau scores.
    sharpe : (n,) float64

    Returns
    -------
    int or None
        Of the highest score, of equals that of the higher Sharpe ratio, then the first; where no candidate has a
        neighbour, of the highest Sharpe ratio; None where none has that either.
    """
    known = np.flatnonzero(~np.isnan(sharpe))
    if not len(known):
        return None
    ranked = known[~np.isnan(score[known])]
    if not len(ranked):
        return int(known[np.argmax(sharpe[known])])
    return int(min(ranked, key=lambda i: (-score[i], -sharpe[i], i)))


def _ordered(axis: Axis) -> list[Value]:
    """Return the values that lie beside each other, in order: numbers, times of the day and spans of time."""
    placed = [(rank, each) for each in axis.values if (rank := _rank(each)) is not None]
    return [each for _, each in sorted(placed, key=lambda one: one[0])]


def _rank(value: Value) -> float | None:
    if isinstance(value, str):
        time = _TIME.fullmatch(value)
        if time is None:
            return None
        clock, span = (time[1], time[2]), (time[3], time[4])
        return int(clock[0]) * 60 + int(clock[1]) if time[1] else int(span[0]) * _SECONDS[span[1]]
    return None if value is None or isinstance(value, bool) else value


def _key(values: tuple[Value, ...]) -> str:
    return repr(values)  # 1 and true are equal, their spellings are not
