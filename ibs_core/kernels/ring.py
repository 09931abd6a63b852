"""A window of the last values, of fixed capacity.

Statistics over a window are recomputed from it, oldest first. No running sums: they drift, and never
equal those of a stream that started later.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Record
from ibs_core.kernels._jit import jit

__all__ = ["CAPACITY", "STATE", "back", "canonical", "push", "shift"]

CAPACITY = 512

STATE = np.dtype([("count", "i8"), ("values", "f8", (CAPACITY,))])
"""``count`` values were pushed in all; the last ``min(count, CAPACITY)`` are kept."""


@jit
def push(state: Record, value: float) -> None:
    """Append one value, forgetting the oldest beyond the capacity.

    Parameters
    ----------
    state : STATE
    value : float64
    """
    state["values"][state["count"] % CAPACITY] = value
    state["count"] += 1


@jit
def back(state: Record, n_back: int) -> float:
    """Read a value by its age.

    Parameters
    ----------
    state : STATE
    n_back : int64, 0 (newest) <= n_back < min(count, CAPACITY)

    Returns
    -------
    float64
    """
    return state["values"][(state["count"] - 1 - n_back) % CAPACITY]


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
def shift(state: Record, gap: float) -> None:
    """Move every remembered price level by a roll gap.

    Parameters
    ----------
    state : STATE
    gap : float64, price units
    """
    for i in range(min(state["count"], CAPACITY)):
        state["values"][i] = canonical(state["values"][i] + gap)
