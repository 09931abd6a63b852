"""Returns and drift."""

from __future__ import annotations

import math

import numpy as np

from ibs_core.bars import Floats
from ibs_core.kernels import window
from ibs_core.kernels._jit import jit

__all__ = ["drift", "log", "percent"]


@jit
def percent(now: float, then: float) -> float:
    """Return the simple return in percent.

    Parameters
    ----------
    now, then : float64, price units

    Returns
    -------
    float64, or NaN

    Notes
    -----
    Formula: 100 (now / then - 1).
    Source: definition.
    Warm-up: both prices.
    Edges: NaN when the earlier price is zero or negative.
    """
    if then > 0.0:
        return 100.0 * (now / then - 1.0)
    return np.nan


@jit
def log(now: float, then: float) -> float:
    """Return the logarithmic return in percent.

    Parameters
    ----------
    now, then : float64, price units

    Returns
    -------
    float64, or NaN

    Notes
    -----
    Formula: 100 ln(now / then).
    Source: definition.
    Warm-up: both prices.
    Edges: NaN when either price is zero or negative.
    """
    if then > 0.0 and now > 0.0:
        return 100.0 * math.log(now / then)  # NumPy's own differs by a bit where it is not compiled
    return np.nan


@jit
def drift(now: float, then: float, returns: Floats) -> float:
    """Return the simple return of a window over the deviation of its one-bar returns.

    Parameters
    ----------
    now, then : float64, the prices at the window's ends, price units
    returns : (n,) float64, its one-bar returns in percent, n >= 2

    Returns
    -------
    float64, or NaN

    Notes
    -----
    Formula: (now / then - 1) / sample deviation (ddof 1) of the simple returns; not divided by sqrt(n).
    Source: the reference system's directional drift.
    Warm-up: n + 1 bars.
    Edges: NaN when the earlier price is zero or negative, a return is missing or the deviation is below 1e-12.
    """
    n = len(returns)
    spread = window.deviation(returns, window.mean(returns)) * np.sqrt(n / (n - 1.0)) / 100.0
    if then > 0.0 and spread >= 1e-12:
        return (now / then - 1.0) / spread
    return np.nan
