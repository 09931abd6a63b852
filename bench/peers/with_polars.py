"""Polars groups minutes to hours, one compiled loop trades them: what one would write without an engine."""

from __future__ import annotations

import numba
import numpy as np
import polars as pl
import rule
from harness import serve
from hours import read_hours, with_signals

TRADE = np.dtype(
    [
        ("root", "i8"),
        ("entry_ns", "i8"),
        ("entry_price", "f8"),
        ("exit_ns", "i8"),
        ("exit_price", "f8"),
        ("reason", "i8"),
    ]
)

leaves = numba.njit(rule.leaves)


@numba.njit
def walk(root, first, open_, close, ibs, enter, flats, hour, out):
    """Trade the hours of all roots, one after the other; return the number of trades.

    An order of one hour's end fills at the next hour's first minute.
    """
    n_trades = 0
    held = -1  # no position
    leave = -1
    wanted = False
    entry, entered = 0.0, 0
    for i in range(len(root)):
        if i == 0 or root[i] != root[i - 1]:
            held, leave, wanted = -1, -1, False
        if leave >= 0:
            trade = out[n_trades]
            trade["root"] = root[i]
            trade["entry_ns"], trade["entry_price"] = first[entered], entry
            trade["exit_ns"], trade["exit_price"] = first[i], open_[i]
            trade["reason"] = leave
            n_trades += 1
            held, leave = -1, -1
        if wanted:
            held, wanted, entry, entered = 0, False, open_[i], i
        if held < 0:
            wanted = enter[i]
            continue
        held += 1
        is_past = flats[i] + (hour[i] == rule.FLAT_HOUR - 1) > flats[entered]
        leave = leaves(entry, close[i], ibs[i], held, is_past)
    return n_trades


def once(path, costs, watch):
    with watch("load and bars"):
        frame = read_hours(path)
    with watch("run"):
        frame = with_signals(frame).with_columns(pl.col("root").rle_id().alias("root_id"))
        columns = ("root_id", "first", "open", "close", "ibs", "enter", "flats", "hour")
        arrays = [frame[name].to_physical().to_numpy() for name in columns]
        out = np.empty(frame.height // 2, TRADE)
        found = out[: walk(*arrays, out)]
        roots = frame["root"].unique(maintain_order=True)
        trades = pl.DataFrame({name: found[name] for name in TRADE.names}).with_columns(
            roots.gather(found["root"]).alias("root"),
            pl.Series("reason", rule.REASONS).gather(found["reason"]).alias("reason"),
        )
        point, side = (
            pl.col("root").replace_strict({root: cost[name] for root, cost in costs.items()})
            for name in ("point_value", "per_side")
        )
        gross = (pl.col("exit_price") - pl.col("entry_price")) * point
        return trades.with_columns(
            pl.lit("long").alias("side"), (gross - 2 * side).alias("net_usd")
        )


def rows(trades):
    return trades.select(
        "root", "entry_ns", "entry_price", "exit_ns", "exit_price", "side", "reason", "net_usd"
    ).iter_rows()


serve(once, rows, f"{pl.__version__}, numba {numba.__version__}")
