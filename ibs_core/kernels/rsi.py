"""Relative strength index."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels import wilder
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "step"]

STATE = np.dtype([("gains", wilder.STATE), ("losses", wilder.STATE)])


@jit
def step(state: Record, change: float, n: int) -> float:
    """Take one change of the close and return the index.

    Parameters
    ----------
    state : STATE
    change : float64, price units
    n : int64 >= 1, the length

    Returns
    -------
    float64 in [0, 100]; NaN before the n-th change

    Notes
    -----
    Formula: 100 * U / (U + D) = 100 - 100 / (1 + U / D), U and D the Wilder averages of up and down moves.
    Source: Wilder (1978), chapter VI; both averages of the same bar.
    Warm-up: n changes, n + 1 bars.
    Edges: no losses 100, no gains 0, no movement at all 50.
    """
    up = wilder.step(state["gains"], max(change, 0.0), n)
    down = wilder.step(state["losses"], max(-change, 0.0), n)
    if up + down == 0.0:
        return 50.0
    return min(100.0 * up / (up + down), 100.0)  # rounding may lift it above
