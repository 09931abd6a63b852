"""The minutes inside one bar, which are nearly all that there are."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Ints, Record
from ibs_core.kernels._jit import jit

__all__ = ["stay_inside"]


@jit
def stay_inside(
    state: Record,
    floor: float,
    ts: Ints,
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    first: int,
) -> int:
    """Take the minutes that only move the bar in progress: what ``aggregate.step`` would do with each.

    In local variables, which takes a third of the time. A minute that breaks a law, ends the bar or narrows
    the width of the data, and all that lie outside the calendar, are left to ``aggregate.step``.

    Parameters
    ----------
    state : aggregate.STATE
        With a bar in progress, whose last minute was inside the calendar.
    floor : float64, price units
        Every price is above it.
    ts : (n_minutes,) int64, minute opens
    open_, high, low, close : (n_minutes,) float64, price units
    volume : (n_minutes,) float64, or (0,) when there is none
    first : int64
        Index of the first minute to take.

    Returns
    -------
    int64
        Index of the first minute that was not taken.
    """
    bar = state["bar"]
    last_ns, base_ns = state["minute_ns"], state["base_ns"]
    stop_ns = min(bar["end_ns"], state["close_ns"])
    if last_ns < state["break_start_ns"]:
        stop_ns = min(stop_ns, state["break_start_ns"])
    top, bottom = bar["high"], bar["low"]
    # Unsigned, because a signed index is tested for counting from the end; `&` leaves one branch, not eight.
    i, n = np.uint64(first), np.uint64(len(ts))
    while i < n:
        t, h, w = ts[i], high[i], low[i]
        regular = (
            (last_ns < t)
            & (t < stop_ns)
            & (w <= open_[i])
            & (open_[i] <= h)
            & (w <= close[i])
            & (close[i] <= h)
            & (h < np.inf)
            & (w > floor)
        )
        if not regular or (t - last_ns != base_ns and (t - last_ns) % base_ns != 0):
            break
        top = max(top, h)
        bottom = min(bottom, w)
        last_ns = t
        i += np.uint64(1)
    stop = int(np.int64(i))  # signed: mixed with the unsigned it would be a float
    if stop > first:
        bar["high"], bar["low"] = top, bottom
        if len(volume) == 0:
            bar["volume"] = np.nan
        for k in range(first, min(stop, len(volume))):
            bar["volume"] += volume[k]
        bar["close"] = state["minute_close"] = close[stop - 1]
        bar["last_ns"] = state["minute_ns"] = last_ns
        bar["n_minutes"] += stop - first
        state["n_minutes"] += stop - first
    return stop
