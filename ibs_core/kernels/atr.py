"""Average true range."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels import wilder
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "reseat", "step", "warmup_bars"]

STATE = np.dtype([("n_bars", "i8"), ("close", "f8"), ("average", wilder.STATE)])


def warmup_bars(n: int) -> int:
    """Count the completed bars needed for the first value: n + 1."""
    return n + 1


@jit
def reseat(state: Record, first_open: float) -> None:
    """Let the first bar of a new contract measure its range from its own open.

    Parameters
    ----------
    state : STATE
    first_open : float64, the new contract's first open, price units
    """
    state["close"] = first_open


@jit
def step(state: Record, high: float, low: float, close: float, n: int) -> float:
    """Take one bar and return the average true range.

    Parameters
    ----------
    state : STATE
    high, low, close : float64, price units
    n : int64 >= 1, the length

    Returns
    -------
    float64 >= 0, price units; NaN before bar n + 1

    Notes
    -----
    Formula: Wilder average of max(high, previous close) - min(low, previous close).
    Source: Wilder (1978), chapter III; the first bar has no true range, so bar n + 1 is the first value.
    Warm-up: n + 1 bars.
    Edges: flat bars give 0; on the first bar of a new contract the previous close is its own open.
    """
    true_range = max(high, state["close"]) - min(low, state["close"])
    state["close"] = close
    state["n_bars"] += 1
    if state["n_bars"] == 1:
        return np.nan
    return wilder.step(state["average"], true_range, n)
