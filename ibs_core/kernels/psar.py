"""Parabolic stop and reverse."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels._jit import jit
from ibs_core.kernels.ring import canonical

__all__ = ["STATE", "shift", "step"]

_STEP = 0.02
_LIMIT = 0.2

STATE = np.dtype(
    [
        ("count", "i8"),
        ("rising", "i8"),
        ("sar", "f8"),  # projected for the next bar
        ("extreme", "f8"),
        ("factor", "f8"),
        ("high", "f8"),  # of the bar before
        ("low", "f8"),
        ("close", "f8"),
        ("earlier_high", "f8"),  # of the bar before that
        ("earlier_low", "f8"),
    ],
)


@jit
def shift(state: Record, gap: float) -> None:
    """Move all remembered levels by a roll gap.

    Parameters
    ----------
    state : STATE
    gap : float64, price units
    """
    state["sar"] += gap  # not a price of the grid, unlike the rest
    state["extreme"] = canonical(state["extreme"] + gap)
    state["high"] = canonical(state["high"] + gap)
    state["low"] = canonical(state["low"] + gap)
    state["close"] = canonical(state["close"] + gap)
    state["earlier_high"] = canonical(state["earlier_high"] + gap)
    state["earlier_low"] = canonical(state["earlier_low"] + gap)


@jit
def _begin(state: Record, high: float, low: float, close: float) -> float:
    """Choose the direction on the second bar."""
    rising = close >= state["close"]
    state["rising"] = 1 if rising else 0
    state["extreme"] = high if rising else low
    state["factor"] = _STEP
    return state["low"] if rising else state["high"]


@jit
def _touch(state: Record, high: float, low: float) -> float:
    """Return the bar's stop, turned round when the bar touches it."""
    if state["rising"] == 1:
        sar = min(state["sar"], state["low"], state["earlier_low"])
    else:
        sar = max(state["sar"], state["high"], state["earlier_high"])
    if state["rising"] == 1 and sar >= low:
        sar, state["rising"], state["extreme"] = state["extreme"], 0, low
        state["factor"] = _STEP
    elif state["rising"] == 0 and sar <= high:
        sar, state["rising"], state["extreme"] = state["extreme"], 1, high
        state["factor"] = _STEP
    elif state["rising"] == 1 and high > state["extreme"]:
        state["extreme"] = high
        state["factor"] = min(state["factor"] + _STEP, _LIMIT)
    elif state["rising"] == 0 and low < state["extreme"]:
        state["extreme"] = low
        state["factor"] = min(state["factor"] + _STEP, _LIMIT)
    return sar


@jit
def step(state: Record, high: float, low: float, close: float) -> float:
    """Take one bar and return its stop.

    Parameters
    ----------
    state : STATE
    high, low, close : float64, price units

    Returns
    -------
    float64, price units; NaN on the first bar

    Notes
    -----
    Formula: SAR + factor * (extreme - SAR), held at or beyond the lows (rising) or highs (falling) of the last
    two bars; a touch turns it round, to the old extreme, with factor 0.02; each new extreme adds 0.02 up to 0.2.
    Source: Wilder (1978), chapter II; the first direction is that of the first two closes.
    Warm-up: 2 bars; two starts agree for good once they turn on the same two bars in a row.
    Edges: an equal price touches.
    """
    count = state["count"]
    state["count"] = count + 1
    sar = np.nan
    if count == 1:
        sar = _begin(state, high, low, close)
    elif count > 1:
        sar = _touch(state, high, low)
    if count > 0:
        state["sar"] = sar + state["factor"] * (state["extreme"] - sar)
    state["earlier_high"], state["earlier_low"] = state["high"], state["low"]
    state["high"], state["low"], state["close"] = high, low, close
    return sar
