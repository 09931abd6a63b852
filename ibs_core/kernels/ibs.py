"""Internal bar strength."""

from __future__ import annotations

from ibs_core.kernels._jit import jit

__all__ = ["value", "warmup_bars"]


def warmup_bars() -> int:
    """Count the completed bars needed for the first value: 1."""
    return 1


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
    Edges: high <= low gives 0.5; a close outside the range is clipped.
    """
    if high != high or low != low or close != close:
        return high + low + close
    if high <= low:
        return 0.5
    return min(max((close - low) / (high - low), 0.0), 1.0)
