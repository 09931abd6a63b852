"""The minutes inside one bar, which are nearly all that there are."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Ints, Record
from ibs_core.kernels._jit import jit

__all__ = ["stay_inside"]


@jit
def _is_regular(floor: float, open_: float, high: float, low: float, close: float) -> bool:
    return (
        (low <= open_)
        & (open_ <= high)
        & (low <= close)
        & (close <= high)
        & (high < np.inf)
        & (low > floor)
    )


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
    i, n, four = np.uint64(first), np.uint64(len(ts)), np.uint64(4)
    while i < n:
        if i + four <= n and ts[i + np.uint64(3)] < stop_ns:
            # Four at a time: of equal extremes the first counts, however they are grouped.
            one, two, three = i + np.uint64(1), i + np.uint64(2), i + np.uint64(3)
            regular = (
                (ts[i] - last_ns == base_ns)
                & (ts[one] - ts[i] == base_ns)
                & (ts[two] - ts[one] == base_ns)
                & (ts[three] - ts[two] == base_ns)
                & _is_regular(floor, open_[i], high[i], low[i], close[i])
                & _is_regular(floor, open_[one], high[one], low[one], close[one])
                & _is_regular(floor, open_[two], high[two], low[two], close[two])
                & _is_regular(floor, open_[three], high[three], low[three], close[three])
            )
            if regular:
                highest = max(high[i], high[one], high[two], high[three])
                lowest = min(low[i], low[one], low[two], low[three])
                top, bottom = max(top, highest), min(bottom, lowest)
                last_ns = ts[three]
                i += four
                continue
        t = ts[i]
        regular = (
            (last_ns < t) & (t < stop_ns) & _is_regular(floor, open_[i], high[i], low[i], close[i])
        )
        if not regular or (t - last_ns != base_ns and (t - last_ns) % base_ns != 0):
            break
        top = max(top, high[i])
        bottom = min(bottom, low[i])
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
