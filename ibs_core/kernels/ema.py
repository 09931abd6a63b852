"""Exponential moving average."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "convergence_bars", "shift", "step"]

STATE = np.dtype([("count", "i8"), ("total", "f8"), ("value", "f8")])
"""``total`` sums the seed, oldest first; ``value`` is meaningful from the n-th input on."""


def convergence_bars(n: int) -> int:
    """Count the bars after which a later start gives the same float64, while prices keep moving.

    The seed's weight is then below 2^-80; ``wilder.convergence_bars`` says why 2^-54 is not enough.
    """
    return int(np.ceil(80 * np.log(2) / -np.log1p(-2 / (n + 1)))) + n if n > 1 else 1


@jit
def shift(state: Record, gap: float) -> None:
    """Move the remembered level by a roll gap.

    Parameters
    ----------
    state : STATE
    gap : float64, price units
    """
    state["total"] += gap * state["count"]
    state["value"] += gap


@jit
def step(state: Record, x: float, n: int) -> float:
    """Take one value and return the average.

    Parameters
    ----------
    state : STATE
    x : float64
    n : int64 >= 1, the length

    Returns
    -------
    float64, NaN before the n-th value

    Notes
    -----
    Formula: the mean of the first n, then previous + 2 / (n + 1) * (x - previous).
    Source: plain definition with an SMA seed.
    Warm-up: n bars; independent of the start after ``convergence_bars(n)``.
    Edges: a NaN stays for ever; inputs are validated at the edge.
    """
    state["count"] += 1
    if state["count"] <= n:
        state["total"] += x
        if state["count"] < n:
            return np.nan
        state["value"] = state["total"] / n
    else:
        state["value"] += 2.0 / (n + 1) * (x - state["value"])
    return state["value"]
