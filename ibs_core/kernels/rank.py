"""Percentile rank of the newest of the last n values, from a window that is kept sorted."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats
from ibs_core.kernels._jit import jit
from ibs_core.kernels.ring import canonical

__all__ = ["shift", "step", "value"]


@jit
def _count_below(ordered: Floats, n: int, x: float) -> int:
    """Count the values below x by halving, without a branch that depends on them."""
    first, left = 0, n
    while left > 1:
        half = left // 2
        first = first + half if ordered[first + half - 1] < x else first
        left -= half
    return first + 1 if n > 0 and ordered[first] < x else first


@jit
def _count_at_most(ordered: Floats, n: int, x: float) -> int:
    """Count the values up to x in the same way."""
    first, left = 0, n
    while left > 1:
        half = left // 2
        first = first + half if ordered[first + half - 1] <= x else first
        left -= half
    return first + 1 if n > 0 and ordered[first] <= x else first


@jit
def _push_down(part: Floats, newest: float) -> None:
    """Drop the first value of a part, move the rest down and end it with the newest."""
    for i in range(len(part) - 1):
        part[i] = part[i + 1]
    part[len(part) - 1] = newest


@jit
def _push_up(part: Floats, newest: float) -> None:
    """Drop the last value of a part, move the rest up and begin it with the newest."""
    for i in range(len(part) - 1, 0, -1):
        part[i] = part[i - 1]
    part[0] = newest


@jit
def shift(ordered: Floats, present: int, gap: float, on_grid: int) -> None:
    """Move remembered levels by a roll gap, which leaves their order.

    Parameters
    ----------
    ordered : (capacity,) float64
    present : int64
    gap : float64, price units
    on_grid : int64
        1 when the levels are prices of the 1e-9 grid, on which they stay.
    """
    for i in range(present):
        moved = ordered[i] + gap
        ordered[i] = canonical(moved) if on_grid == 1 else moved


@jit
def step(ordered: Floats, present: int, newest: float, leaving: float) -> int:
    """Replace the value that leaves the window by the newest, in order.

    Parameters
    ----------
    ordered : (capacity,) float64
        The first ``present`` are the window's values, ascending.
    present : int64
    newest : float64
        NaN: nothing enters.
    leaving : float64
        A value of the window; NaN: nothing leaves.

    Returns
    -------
    int64
        Values now present.

    Notes
    -----
    Formula: what stands between the two places moves by one.
    Source: insertion into a sorted list.
    Warm-up: 1 value.
    Edges: a missing value neither enters nor leaves; places without a value are 0.
    """
    enters, leaves = newest == newest, leaving == leaving
    place = _count_below(ordered, present, newest) if enters else present
    hole = _count_below(ordered, present, leaving) if leaves else present
    if enters and place <= hole:
        _push_up(ordered[place : hole + 1], newest)
    elif enters:
        _push_down(ordered[hole:place], newest)
    elif leaves:
        _push_down(ordered[hole:present], 0.0)  # the bytes of a state depend on its window alone
    return present + (1 if enters else 0) - (1 if leaves else 0)


@jit
def value(ordered: Floats, present: int, newest: float, least: int) -> float:
    """Return the average percentile rank of the newest value.

    Parameters
    ----------
    ordered : (capacity,) float64
        The first ``present`` are the window's values, ascending, the newest among them.
    present : int64
    newest : float64
    least : int64 >= 1, present values needed

    Returns
    -------
    float64 in (0, 1], or NaN

    Notes
    -----
    Formula: (count below + 1 + count below or equal) / (2 m) over the m present values, the newest included.
    Source: the average rank of ties, as a share.
    Warm-up: ``least`` values.
    Edges: NaN values are skipped; a NaN newest value or fewer than ``least`` present ones give NaN.
    """
    if newest != newest or present < least:
        return np.nan
    below = _count_below(ordered, present, newest)
    at_most = below + 1
    if at_most < present and ordered[at_most] == newest:
        at_most = _count_at_most(ordered, present, newest)
    return (below + 1 + at_most) / (2.0 * present)
