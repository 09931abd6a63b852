"""Internal bar strength."""

from __future__ import annotations

import numpy as np

from ibs_core.kernels._jit import jit

__all__ = ["value"]


@jit
def value(high: float, low: float, close: float) -> float:
    """Place the close within the bar's range.

    Parameters
    ----------
    high, low, close : float64, price units

    Returns
    -------
    float64 in [0, 1], or NaN when an input is NaN

    Notes
    -----
    Formula: (close - low) / (high - low), clipped to [0, 1].
    Source: Pagonidis, "The IBS Effect: Mean Reversion in Equity ETFs" (2013), section 2.
    Warm-up: 1 bar.
    Edges: high <= low gives 0.5; a close outside the range is clipped. Differences are taken on the 1e-9 grid
    of prices, so that 0.2 of a range is 0.2 and an inclusive band holds it.
    """
    if high != high or low != low or close != close:
        return high + low + close
    if high <= low:
        return 0.5
    above, span = np.rint((close - low) * 1e9), np.rint((high - low) * 1e9)
    if span < 1.0:
        above, span = close - low, high - low
    return min(max(above / span, 0.0), 1.0)
