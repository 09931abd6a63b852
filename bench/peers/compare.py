"""Whether an engine made our trades, and if not, what is different, by kind and count."""

from __future__ import annotations

import polars as pl

__all__ = ["differences", "read_trades", "verdict"]

KEY = ["symbol", "side", "entry_ns"]
SCHEMA = {
    "symbol": pl.String,
    "entry_ns": pl.Int64,
    "entry_price": pl.Float64,
    "exit_ns": pl.Int64,
    "exit_price": pl.Float64,
    "side": pl.String,
    "reason": pl.String,
    "net_usd": pl.Float64,
}
# Asked in this order. A reason counts where the engine tells one; money is a sum of decimals, in another order.
KINDS = {
    "ours alone": pl.col("entry_price_theirs").is_null(),
    "theirs alone": pl.col("entry_price").is_null(),
    "another entry price": pl.col("entry_price") != pl.col("entry_price_theirs"),
    "another exit time": pl.col("exit_ns") != pl.col("exit_ns_theirs"),
    "another exit price": pl.col("exit_price") != pl.col("exit_price_theirs"),
    "another reason": pl.col("reason") != pl.col("reason_theirs"),
    "another result": (pl.col("net_usd") - pl.col("net_usd_theirs")).abs() > 1e-4,
}


def read_trades(path):
    """Read the trades that a script of this folder wrote."""
    return pl.read_csv(path, schema=SCHEMA)


def differences(ours, theirs):
    """Return a row for each trade that is not the same, by symbol and entry, with the first `kind` that holds.

    Trades are the same trade when symbol, side and entry time are. One that `follows` began before the trade that
    differed before it had ended in both: an engine that is in the market elsewhere cannot enter here.
    """
    both = ours.join(theirs, on=KEY, how="full", suffix="_theirs", coalesce=True).sort(KEY)
    kind = pl.coalesce(pl.when(holds).then(pl.lit(name)) for name, holds in KINDS.items())
    different = both.with_columns(kind.alias("kind")).filter(pl.col("kind").is_not_null())
    ended = pl.max_horizontal("exit_ns", "exit_ns_theirs").shift().over("symbol")
    follows = (ended > pl.col("entry_ns")).fill_null(value=False)
    return different.with_columns(follows.alias("follows"))


def verdict(ours, theirs, first=3):
    """Tell in lines whether the trades are the same; if not, how many of which kind, and the first of them."""
    rows = differences(ours, theirs)
    if rows.is_empty():
        return [f"the same {ours.height:,} trades"]
    counts = rows.group_by("kind").agg(pl.len(), pl.col("follows").sum()).sort("kind")
    kinds = ", ".join(f"{n} {kind} ({then} of them follow)" for kind, n, then in counts.iter_rows())
    examples = [
        f"{row['symbol']} entered {row['entry']}: {row['kind']}"
        for row in rows.with_columns(pl.from_epoch("entry_ns", "ns").alias("entry"))
        .head(first)
        .iter_rows(named=True)
    ]
    return [f"{theirs.height:,} trades against {ours.height:,}: {kinds}", *examples]
