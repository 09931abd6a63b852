"""Confirmed swing highs and lows."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Record
from ibs_core.kernels._jit import jit
from ibs_core.kernels.ring import canonical

__all__ = ["LEFT", "RIGHT", "STATE", "shift", "step", "warmup_bars"]

LEFT = 5
RIGHT = 5
_SPAN = LEFT + 1 + RIGHT

STATE = np.dtype(
    [
        ("count", "i8"),
        ("highs", "f8", (_SPAN,)),
        ("lows", "f8", (_SPAN,)),
        ("last_high", "f8"),
        ("previous_high", "f8"),
        ("last_low", "f8"),
        ("previous_low", "f8"),
        ("n_highs", "i8"),
        ("n_lows", "i8"),
    ],
)
"""Levels are meaningful from ``n_highs``/``n_lows`` >= 1 (last) and >= 2 (previous) on."""


def warmup_bars() -> int:
    """Count the completed bars needed before a pivot can be known: 11."""
    return _SPAN


@jit
def shift(state: Record, gap: float) -> None:
    """Move all remembered levels by a roll gap.

    Parameters
    ----------
    state : STATE
    gap : float64, price units
    """
    for i in range(min(state["count"], _SPAN)):
        state["highs"][i] = canonical(state["highs"][i] + gap)
        state["lows"][i] = canonical(state["lows"][i] + gap)
    if state["n_highs"] > 0:
        state["last_high"] = canonical(state["last_high"] + gap)
    if state["n_highs"] > 1:
        state["previous_high"] = canonical(state["previous_high"] + gap)
    if state["n_lows"] > 0:
        state["last_low"] = canonical(state["last_low"] + gap)
    if state["n_lows"] > 1:
        state["previous_low"] = canonical(state["previous_low"] + gap)


@jit
def step(state: Record, high: float, low: float) -> None:
    """Take one bar; remember a pivot that it confirms.

    Parameters
    ----------
    state : STATE
    high, low : float64, price units

    Notes
    -----
    Formula: the bar RIGHT bars ago is a pivot high when its high is > each of the LEFT highs before it and
    >= each of the RIGHT highs after it; a pivot low is the mirror image.
    Source: the swing ("fractal") rule with five bars on each side.
    Warm-up: 11 bars before the first pivot can be known; a pivot is known RIGHT bars after it happened.
    Edges: of equal highs the first is the pivot; flat series have none.
    """
    newest = state["count"] % _SPAN
    state["highs"][newest] = high
    state["lows"][newest] = low
    state["count"] += 1
    if state["count"] < _SPAN:
        return
    middle = newest - RIGHT if newest >= RIGHT else newest + 1 + LEFT
    if _stands_out(state["highs"], middle, 1.0):
        state["previous_high"] = state["last_high"]
        state["last_high"] = state["highs"][middle]
        state["n_highs"] += 1
    if _stands_out(state["lows"], middle, -1.0):
        state["previous_low"] = state["last_low"]
        state["last_low"] = state["lows"][middle]
        state["n_lows"] += 1


@jit
def _stands_out(levels: Floats, middle: int, side: float) -> bool:
    """Tell whether one level of a full ring is a pivot: above (+1) or below (-1) those around it."""
    at, level = middle, side * levels[middle]
    for _ in range(LEFT):
        at = at - 1 if at > 0 else _SPAN - 1
        if not level > side * levels[at]:
            return False
    at = middle
    for _ in range(RIGHT):
        at = at + 1 if at < _SPAN - 1 else 0
        if not level >= side * levels[at]:
            return False
    return True
