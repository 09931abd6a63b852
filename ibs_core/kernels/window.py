"""Statistics of one window of values, each recomputed from the window alone.

Any start and any chunking give the same bits: sums run in eight fixed lanes over the window's own order,
and about its oldest value, so that a flat window has a deviation of exactly 0 at any price.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats
from ibs_core.kernels._jit import jit, jit_allocating

__all__ = ["deviation", "highest", "lowest", "mean", "median", "share_below"]


@jit
def mean(window: Floats) -> float:
    """Average a window.

    Parameters
    ----------
    window : (n,) float64, n >= 1

    Returns
    -------
    float64

    Notes
    -----
    Formula: the plain mean, taken as oldest value + mean of the differences to it.
    Source: definition.
    Warm-up: n values.
    Edges: a NaN makes it NaN; a flat window gives its value exactly.
    """
    origin = window[0]
    a = b = c = d = e = f = g = h = 0.0
    whole = len(window) // 8 * 8
    for i in range(0, whole, 8):
        a += window[i] - origin
        b += window[i + 1] - origin
        c += window[i + 2] - origin
        d += window[i + 3] - origin
        e += window[i + 4] - origin
        f += window[i + 5] - origin
        g += window[i + 6] - origin
        h += window[i + 7] - origin
    for i in range(whole, len(window)):
        a += window[i] - origin
    return origin + (((a + e) + (b + f)) + ((c + g) + (d + h))) / len(window)


@jit
def deviation(window: Floats, average: float) -> float:
    """Return the population standard deviation of a window.

    Parameters
    ----------
    window : (n,) float64, n >= 1
    average : float64, its ``mean``

    Returns
    -------
    float64 >= 0

    Notes
    -----
    Formula: the root of the mean squared difference to the average (ddof 0).
    Source: definition.
    Warm-up: n values.
    Edges: a NaN makes it NaN; a flat window gives 0.
    """
    a = b = c = d = e = f = g = h = 0.0
    whole = len(window) // 8 * 8
    for i in range(0, whole, 8):
        a += (window[i] - average) * (window[i] - average)
        b += (window[i + 1] - average) * (window[i + 1] - average)
        c += (window[i + 2] - average) * (window[i + 2] - average)
        d += (window[i + 3] - average) * (window[i + 3] - average)
        e += (window[i + 4] - average) * (window[i + 4] - average)
        f += (window[i + 5] - average) * (window[i + 5] - average)
        g += (window[i + 6] - average) * (window[i + 6] - average)
        h += (window[i + 7] - average) * (window[i + 7] - average)
    for i in range(whole, len(window)):
        a += (window[i] - average) * (window[i] - average)
    return np.sqrt((((a + e) + (b + f)) + ((c + g) + (d + h))) / len(window))


@jit
def share_below(window: Floats) -> float:
    """Return the percentage of values strictly below the newest.

    Parameters
    ----------
    window : (n,) float64, n >= 1

    Returns
    -------
    float64 in [0, 100), or NaN

    Notes
    -----
    Formula: 100 * count below / m over the m present values, the newest included.
    Source: definition.
    Warm-up: 1 value.
    Edges: NaN values are skipped; a NaN newest value gives NaN.
    """
    newest = window[-1]
    below = present = 0
    for i in range(len(window)):
        below += 1 if window[i] < newest else 0
        present += 1 if window[i] == window[i] else 0
    if newest != newest:
        return np.nan
    return 100.0 * below / present


@jit_allocating
def median(window: Floats) -> float:
    """Return the middle value, or the mean of the two in the middle.

    Parameters
    ----------
    window : (n,) float64, n >= 1

    Returns
    -------
    float64

    Notes
    -----
    Formula: the (n / 2)-th of the sorted values.
    Source: definition.
    Warm-up: n values.
    Edges: a NaN makes it NaN.
    """
    ordered = np.sort(window)  # NaN sorts last
    if ordered[-1] != ordered[-1]:
        return np.nan
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2.0


@jit
def highest(window: Floats) -> float:
    """Return the greatest value.

    Parameters
    ----------
    window : (n,) float64, n >= 1

    Returns
    -------
    float64

    Notes
    -----
    Formula: maximum.
    Source: definition.
    Warm-up: n values.
    Edges: only prices are given, which are never NaN.
    """
    top = window[0]
    for x in window:
        top = max(top, x)
    return top


@jit
def lowest(window: Floats) -> float:
    """Return the least value.

    Parameters
    ----------
    window : (n,) float64, n >= 1

    Returns
    -------
    float64

    Notes
    -----
    Formula: minimum.
    Source: definition.
    Warm-up: n values.
    Edges: only prices are given, which are never NaN.
    """
    bottom = window[0]
    for x in window:
        bottom = min(bottom, x)
    return bottom
