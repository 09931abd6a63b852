"""Minutes to hours and their entry signals by Polars, for engines that take finished bars."""

from __future__ import annotations

import polars as pl
import rule


def read_hours(path):
    """Group the minutes of a file to hours, a root after the other.

    `first` is the minute at which an order of the hour before fills, `hour` the Chicago hour of the start, `flats` the
    number of the Chicago afternoon, 15:00, before it.
    """
    local = pl.col("start").dt.convert_time_zone(rule.CHICAGO.key)
    afternoon = local.dt.replace_time_zone(None) - pl.duration(hours=rule.FLAT_HOUR)
    return (
        pl.scan_parquet(path)
        .group_by("symbol", pl.col("ts_event").dt.truncate("1h").alias("start"))
        .agg(
            pl.col("ts_event").first().alias("first"),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
        )
        .with_columns(
            pl.col("symbol").str.head(-3).alias("root"),  # ESH24 is a contract of ES
            local.dt.hour().alias("hour"),
            afternoon.dt.date().to_physical().alias("flats"),
        )
        .sort("root", "start")
        .collect(engine="streaming")
    )


def with_signals(hours):
    """Add `ibs` and `enter`: whether the end of an hour asks for an entry."""
    width = pl.col("high") - pl.col("low")
    ibs = ((pl.col("close") - pl.col("low")) / width).round(rule.DIGITS)
    same = pl.col("symbol") == pl.col("symbol").shift()
    before = pl.when(same).then(pl.col("close").shift()).otherwise(pl.col("open"))
    known = pl.int_range(pl.len()).over("root") > 0
    change = pl.when(known).then((pl.col("close") - before).round(rule.DIGITS))
    rise, fall = (  # Wilder's mean of two
        part.clip(lower_bound=0.0).ewm_mean(alpha=0.5, adjust=False, min_samples=2).over("root")
        for part in (pl.col("change"), -pl.col("change"))
    )
    in_time = ~pl.col("hour").is_between(rule.FLAT_HOUR - 1, rule.FLAT_HOUR)
    is_low = pl.col("ibs") <= rule.IBS_ENTRY
    is_weak = (100 * rise / (rise + fall)).fill_null(100.0) <= rule.RSI_ENTRY
    return hours.with_columns(
        pl.when(width > 0).then(ibs).otherwise(0.5).alias("ibs"), change.alias("change")
    ).with_columns((is_low & is_weak & in_time).alias("enter"))
