"""Average directional index."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels import wilder
from ibs_core.kernels._jit import jit

__all__ = ["STATE", "step"]

STATE = np.dtype(
    [
        ("plus", wilder.STATE),
        ("minus", wilder.STATE),
        ("range", wilder.STATE),
        ("index", wilder.STATE),
    ],
)


@jit
def step(state: Record, up: float, down: float, true_range: float, n: int) -> float:
    """Take one bar's moves and return the index.

    Parameters
    ----------
    state : STATE
    up : float64, high - previous high, price units
    down : float64, previous low - low, price units
    true_range : float64 >= 0, price units
    n : int64 >= 1, the length

    Returns
    -------
    float64 in [0, 100]; NaN before bar 2 n

    Notes
    -----
    Formula: +DM = up if up > down and up > 0 else 0, -DM mirrored; DI = 100 Wilder(DM) / Wilder(true range);
    DX = 100 |+DI - -DI| / (+DI + -DI); ADX = Wilder(DX).
    Source: Wilder (1978), chapter IV.
    Warm-up: n moves for DX, n values of DX for ADX: 2 n bars.
    Edges: DX is 0 when there was no range or no directional move.
    """
    plus_move = up if up > down and up > 0.0 else 0.0
    minus_move = down if down > up and down > 0.0 else 0.0
    plus = wilder.step(state["plus"], plus_move, n)
    minus = wilder.step(state["minus"], minus_move, n)
    average = wilder.step(state["range"], true_range, n)
    if average != average:
        return np.nan
    strength = 0.0
    if average > 0.0 and plus + minus > 0.0:
        plus, minus = 100.0 * plus / average, 100.0 * minus / average
        strength = min(
            100.0 * abs(plus - minus) / (plus + minus), 100.0
        )  # rounding may lift it above
    return wilder.step(state["index"], strength, n)
