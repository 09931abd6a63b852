"""Wilder's average: the infinite memory behind ATR and RSI."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "convergence_bars", "step"]

STATE = np.dtype([("count", "i8"), ("total", "f8"), ("value", "f8")])
"""``total`` sums the seed, oldest first; ``value`` is meaningful from the n-th input on."""


def convergence_bars(n: int) -> int:
    """Count the inputs after which a later start gives the same float64, while inputs keep moving.

    The seed's weight (1 - 1/n)^k falls below 2^-80. At 2^-54 both averages agree to their last bits, but
    each further input merges those only with probability 1/n: on 11 200 random series 54 failed in up to
    28 of 100, 80 in none. Where inputs stop moving the last bits may stay apart for ever.
    """
    return int(np.ceil(80 * np.log(2) / -np.log1p(-1 / n))) + n if n > 1 else 1


@jit
def step(state: Record, x: float, n: int) -> float:
    """Take one input and return the average.

    Parameters
    ----------
    state : STATE
    x : float64
    n : int64 >= 1, the length

    Returns
    -------
    float64, NaN before the n-th input

    Notes
    -----
    Formula: the mean of the first n, then (previous * (n - 1) + x) / n.
    Source: Wilder, New Concepts in Technical Trading Systems (1978), chapters III and VI.
    Warm-up: n inputs.
    Edges: a NaN input stays in the average for ever; inputs are validated at the edge.
    """
    state["count"] += 1
    if state["count"] <= n:
        state["total"] += x
        if state["count"] < n:
            return np.nan
        state["value"] = state["total"] / n
    else:
        state["value"] = (state["value"] * (n - 1) + x) / n
    return state["value"]
