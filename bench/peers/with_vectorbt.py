"""vectorbt on hours made by Polars, all roots in one column: its fastest form for exits that depend on the entry."""

from __future__ import annotations

import numpy as np
import pandas as pd
import rule
import vectorbt as vbt
from harness import serve
from hours import read_hours, with_signals
from numba import njit

leaves = njit(rule.leaves)


@njit
def next_entry(from_i, to_i, _col, found, enter):
    """Find the hour that is entered at its open."""
    for i in range(max(from_i, 1), to_i):
        if enter[i - 1]:
            found[0] = i
            return found[:1]
    return found[:0]


@njit
def next_exit(from_i, to_i, _col, found, open_, close, ibs, flats, flats_at_end):
    """Find the hour that is left at its open, after the entry at the open of the hour before `from_i`."""
    entered = from_i - 1
    for i in range(entered, to_i - 1):
        is_past = flats_at_end[i] > flats[entered]
        if leaves(open_[entered], close[i], ibs[i], i - entered + 1, is_past) >= 0:
            found[0] = i + 1
            return found[:1]
    return found[:0]


def simulated(size, fee, enter, open_, close, *arrays):
    """Choose entries and exits in turn, then simulate them."""
    found = np.empty(1, np.int64)
    entries, exits = pd.DataFrame.vbt.signals.generate_both(
        (len(open_), 1),
        next_entry,
        (found, enter),
        next_exit,
        (found, open_, close, *arrays),
    )
    return vbt.Portfolio.from_signals(
        close,
        entries.to_numpy()[:, 0],
        exits.to_numpy()[:, 0],
        price=open_,
        size=size,
        fixed_fees=fee,
        init_cash=1e12,
    )


def once(path, costs, watch):
    with watch("load and bars"):
        hours = read_hours(path)
    with watch("run"):
        hours = with_signals(hours)
        size, fee = (
            hours["root"].replace_strict({root: cost[name] for root, cost in costs.items()})
            for name in ("point_value", "per_side")
        )
        flats_at_end = hours["flats"] + (hours["hour"] == rule.FLAT_HOUR - 1)
        columns = (size, fee, *(hours[name] for name in ("enter", "open", "close", "ibs", "flats")))
        arrays = [each.to_numpy() for each in (*columns, flats_at_end)]
        return hours, simulated(*arrays).trades.records_arr


def rows(result):
    hours, trades = result
    entered, left = trades["entry_idx"], trades["exit_idx"]
    first = hours["first"].to_physical()
    return zip(
        hours["root"].gather(entered),
        *(first.gather(entered), trades["entry_price"]),
        *(first.gather(left), trades["exit_price"]),
        *(["long"] * len(trades), [""] * len(trades), trades["pnl"]),
        strict=True,
    )


serve(once, rows, vbt.__version__)
