"""True range: the input of every ATR."""

from __future__ import annotations

from ibs_core.kernels._jit import jit

__all__ = ["value"]


@jit
def value(high: float, low: float, previous_close: float) -> float:
    """Measure a bar's range together with its gap from the close before.

    Parameters
    ----------
    high, low, previous_close : float64, price units

    Returns
    -------
    float64 >= 0, price units

    Notes
    -----
    Formula: max(high, previous close) - min(low, previous close).
    Source: Wilder, New Concepts in Technical Trading Systems (1978), chapter III.
    Warm-up: 2 bars.
    Edges: a flat bar at the close before gives 0; on a new contract's first bar the close before is its own open.
    """
    return max(high, previous_close) - min(low, previous_close)
