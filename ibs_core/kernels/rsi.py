"""Relative strength index."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels import wilder
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "reseat", "step", "warmup_bars"]

STATE = np.dtype(
    [("n_bars", "i8"), ("close", "f8"), ("gains", wilder.STATE), ("losses", wilder.STATE)],
)


def warmup_bars(n: int) -> int:
    """Count the completed bars needed for the first value: n + 1."""
    return n + 1


@jit
def reseat(state: Record, first_open: float) -> None:
    """Let the first bar of a new contract measure its change from its own open.

    Parameters
    ----------
    state : STATE
    first_open : float64, the new contract's first open, price units
    """
    state["close"] = first_open


@jit
def step(state: Record, close: float, n: int) -> float:
    """Take one close and return the index.

    Parameters
    ----------
    state : STATE
    close : float64, price units
    n : int64 >= 1, the length

    Returns
    -------
    float64 in [0, 100]; NaN before bar n + 1

    Notes
    -----
    Formula: 100 * U / (U + D) = 100 - 100 / (1 + U / D), U and D the Wilder averages of up and down moves.
    Source: Wilder (1978), chapter VI; both averages of the same bar.
    Warm-up: n + 1 bars.
    Edges: no losses 100, no gains 0, no movement at all 50.
    """
    change = close - state["close"]
    state["close"] = close
    state["n_bars"] += 1
    if state["n_bars"] == 1:
        return np.nan
    up = wilder.step(state["gains"], max(change, 0.0), n)
    down = wilder.step(state["losses"], max(-change, 0.0), n)
    if up + down == 0.0:
        return 50.0
    return 100.0 * up / (up + down)
