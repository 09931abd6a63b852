"""The last values of a series, of fixed capacity, always readable as one contiguous window.

Every value is written twice, one capacity apart, so that the newest ``n`` stand in order whatever the
count. Statistics over a window are recomputed from it. No running sums: they drift, and never equal those
of a stream that started later.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats
from ibs_core.kernels._jit import inlined, jit

__all__ = ["canonical", "last", "push", "shift"]


@jit
def push(ring: Floats, count: int, value: float) -> None:
    """Write the next value, forgetting the oldest beyond the capacity.

    Parameters
    ----------
    ring : (2 * capacity,) float64
    count : int64 >= 0, values pushed before
    value : float64
    """
    capacity = len(ring) // 2
    ring[count % capacity] = value
    ring[count % capacity + capacity] = value


@inlined
def last(ring: Floats, count: int, n: int) -> Floats:
    """Return the newest values.

    Parameters
    ----------
    ring : (2 * capacity,) float64
    count : int64, values pushed so far
    n : int64, 0 <= n <= min(count, capacity)

    Returns
    -------
    (n,) float64, a view, oldest first
    """
    stop = (count - 1) % (len(ring) // 2) + len(ring) // 2 + 1
    return ring[stop - n : stop]


@jit
def canonical(price: float) -> float:
    """Round a price to the 1e-9 grid that vendors use, as the nearest float64.

    A level moved by a roll gap would else miss its decimal by one unit in the last place, and an
    inclusive comparison with a raw price would fail.

    Parameters
    ----------
    price : float64, |price| < 4e6

    Returns
    -------
    float64
    """
    return np.rint(price * 1e9) / 1e9


@jit
def shift(ring: Floats, count: int, gap: float, on_grid: int) -> None:
    """Move every remembered level by a roll gap.

    Parameters
    ----------
    ring : (2 * capacity,) float64
    count : int64, values pushed so far
    gap : float64, price units
    on_grid : int64, 1 when the levels are prices of the 1e-9 grid, on which they stay
    """
    capacity = len(ring) // 2
    for i in range(min(count, capacity)):
        moved = ring[i] + gap
        if on_grid == 1:
            moved = canonical(moved)
        ring[i] = moved
        ring[i + capacity] = moved
