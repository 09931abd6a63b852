"""Shapes of the last bars: narrow ranges, inside bars, runs, volatility contraction, efficiency."""

from __future__ import annotations

import math

import numpy as np

from ibs_core.bars import Floats
from ibs_core.kernels._jit import jit

__all__ = ["contraction", "efficiency", "is_inside", "is_narrowest"]

_LOOKBACKS = (5, 20, 60)
_WEIGHTS = (0.5, 0.25, 0.125)


@jit
def is_narrowest(ranges: Floats) -> float:
    """Tell whether the newest range is below each one before it.

    Parameters
    ----------
    ranges : (n,) float64, oldest first, price units on the 1e-9 grid

    Returns
    -------
    float64, 1 or 0

    Notes
    -----
    Formula: newest < each of the n - 1 before (NR7 with n = 7).
    Source: Crabel, Day Trading with Short Term Price Patterns (1990).
    Warm-up: n bars.
    Edges: an equal range is not narrower.
    """
    for i in range(len(ranges) - 1):
        if not ranges[-1] < ranges[i]:
            return 0.0
    return 1.0


@jit
def is_inside(highs: Floats, lows: Floats) -> float:
    """Tell whether the bar before the newest lies inside the one before it.

    Parameters
    ----------
    highs, lows : (3,) float64, oldest first, price units

    Returns
    -------
    float64, 1 or 0

    Notes
    -----
    Formula: high[-1] < high[-2] and low[-1] > low[-2].
    Source: definition; the newest bar itself is not looked at.
    Warm-up: 3 bars.
    Edges: equal extremes are not inside.
    """
    return 1.0 if highs[1] < highs[0] and lows[1] > lows[0] else 0.0


@jit
def contraction(ratio: float, streak: float) -> float:
    """Score how deep and how long volatility has contracted.

    Parameters
    ----------
    ratio : float64, fast ATR over slow ATR
    streak : float64, consecutive bars, the newest included, with a ratio below 0.7

    Returns
    -------
    float64 in [0, 1), NaN when the ratio is

    Notes
    -----
    Formula: clip((0.7 - ratio) / 0.7, 0, 1) * (1 - exp(-streak / 10)).
    Source: the reference system's TWRC.
    Warm-up: that of the slow ATR.
    Edges: 0 at a ratio of 0.7 and above.
    """
    if ratio != ratio:
        return np.nan
    return min(max((0.7 - ratio) / 0.7, 0.0), 1.0) * (1.0 - math.exp(-streak / 10.0))


@jit
def efficiency(closes: Floats, changes: Floats) -> float:
    """Compare the way made with the way gone, over three lookbacks.

    Parameters
    ----------
    closes : (n,) float64, the newest closes, oldest first, n up to 61, price units
    changes : (n - 1,) float64, the one-bar changes between them, as they were when new

    Returns
    -------
    float64 in [0, 1], or NaN

    Notes
    -----
    Formula: the mean over lookbacks 5, 20, 60, weighted 1/2, 1/4, 1/8, of |C - C[-L]| / sum of |changes|.
    Source: Kaufman's efficiency ratio (Smarter Trading, 1995), weighted as in the reference system.
    Warm-up: 6 bars for the first lookback, 61 for all.
    Edges: a lookback without history or with a path of 1e-12 and less is dropped and the weights renormalised.
    """
    total = weights = 0.0
    newest = len(closes) - 1
    for k in range(len(_LOOKBACKS)):
        lookback = _LOOKBACKS[k]
        if newest < lookback:
            break
        path = 0.0
        for i in range(newest - lookback, newest):
            path += abs(changes[i])
        if path > 1e-12:
            way = abs(closes[newest] - closes[newest - lookback])
            total += _WEIGHTS[k] * min(way / path, 1.0)  # rounded apart by a roll
            weights += _WEIGHTS[k]
    return total / weights if weights > 0.0 else np.nan
