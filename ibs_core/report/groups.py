"""Trades by what they have in common: how they ended, when they began, what the bar looked like.

Every trade is in one row of each table, so the rows of a table add up to the total.
"""

from __future__ import annotations

import math
from typing import Any, Final

import polars as pl

from ibs_core.report.run import EXIT_REASONS

__all__ = ["GROUPINGS", "IBS_WIDTH", "by_groups"]

IBS_WIDTH: Final = 0.05
"""Of a bucket; each holds its lower end, the last also 1."""

_N_BUCKETS: Final = 20
_BUCKET: Final = (pl.col("ibs_entry") * _N_BUCKETS).floor().clip(0, _N_BUCKETS - 1)

GROUPINGS: Final = {
    "by_exit_reason": ("reason", "why the position was left"),
    "by_hour": ("hour", "exchange hour of the entry's fill, 0 to 23, Chicago"),
    "by_weekday": ("weekday", "weekday of the entry's trade date, 1 is Monday"),
    "by_month": ("month", "month of the entry's trade date"),
    "by_year": ("year", "year of the entry's trade date"),
    "by_ibs": ("ibs_from", "IBS of the bar that decided the entry, from this value to 0.05 above"),
}
"""Key in ``stats.json``; its column; what the column holds."""

_KEYS: Final = {
    "reason": pl.col("exit_reason"),
    "hour": pl.col("entry_hour"),
    "weekday": pl.col("entry_date").dt.weekday().cast(pl.Int64),
    "month": pl.col("entry_date").dt.truncate("1mo"),
    "year": pl.col("entry_date").dt.year().cast(pl.Int64),
    "ibs_from": (_BUCKET * IBS_WIDTH).round(2),
}
Row = dict[str, Any]


def by_groups(trades: pl.DataFrame) -> dict[str, list[Row]]:
    """Sum up the trades of each group of each of `GROUPINGS`.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `FACTS`.

    Returns
    -------
    dict of str to list of dict
        Exit reasons in the order of `EXIT_REASONS`, else ascending; each row has its key, ``trades``,
        ``wins``, ``win_rate``, ``net_usd``, ``average_usd``. Groups without a trade are left out.
    """
    tables = {name: _rows(trades, column) for name, (column, _) in GROUPINGS.items()}
    tables["by_exit_reason"].sort(key=lambda row: EXIT_REASONS.index(row["reason"]))
    return tables


def _rows(trades: pl.DataFrame, column: str) -> list[Row]:
    groups = (
        trades.group_by(_KEYS[column].alias(column))
        .agg("net_usd", wins=(pl.col("net_usd") > 0).sum())
        .sort(column)
    )
    rows = []
    for key, net, wins in groups.rows():
        # Exactly rounded, so that neither threads nor the order of trades change a digit.
        total = math.fsum(net) + 0.0
        rows.append(
            {
                column: f"{key:%Y-%m}" if column == "month" else key,
                "trades": len(net),
                "wins": wins,
                "win_rate": wins / len(net),
                "net_usd": total,
                "average_usd": total / len(net),
            }
        )
    return rows
