"""Simple moving average."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels import ring
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "shift", "step", "warmup_bars"]

STATE = ring.STATE


def warmup_bars(n: int) -> int:
    """Count the completed bars needed for the first value: n."""
    return n


@jit
def shift(state: Record, gap: float) -> None:
    """Move the remembered levels by a roll gap (price units)."""
    ring.shift(state, gap)


@jit
def step(state: Record, x: float, n: int) -> float:
    """Take one value and return the mean of the last n.

    Parameters
    ----------
    state : STATE
    x : float64
    n : int64, 1 <= n <= ring.CAPACITY

    Returns
    -------
    float64, NaN before the n-th value

    Notes
    -----
    Formula: sum of the last n, oldest first, / n.
    Source: plain definition; summed anew each time, so that any start gives the same bits.
    Warm-up: n bars.
    Edges: a NaN makes the mean NaN until it leaves the window.
    """
    ring.push(state, x)
    if state["count"] < n:
        return np.nan
    total = 0.0
    for age in range(n - 1, -1, -1):
        total += ring.back(state, age)
    return total / n
