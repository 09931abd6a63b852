"""Invented rows of the reference feeds: a few minutes of each session, on the grid of a cent."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

CHICAGO = ZoneInfo("America/Chicago")
TIMES = ((9, 30), (9, 31), (11, 0), (14, 45))
LEVEL = {"VIX": 17.0, "TLT": 95.0}


def feed_rows(name, dates, seed=1):
    """Make bars of a feed on trade dates, that wander about their usual level."""
    rng = np.random.default_rng(seed)
    starts = [
        datetime(day.year, day.month, day.day, hour, minute, tzinfo=CHICAGO).astimezone(UTC)
        for day in dates
        for hour, minute in TIMES
    ]
    level = LEVEL[name]
    ratio = np.zeros(len(starts))
    for i, step in enumerate(rng.normal(0.0, 0.02, len(starts))):
        ratio[i] = 0.99 * ratio[i - 1] + step
    close = np.round(level * np.exp(ratio), 2)
    opened = np.round(np.concatenate([close[:1], close[:-1]]) + rng.choice([-0.01, 0, 0.01]), 2)
    return pl.DataFrame(
        {
            "ts_event": pl.Series(starts, dtype=pl.Datetime("ns", "UTC")),
            "symbol": pl.Series([name]).new_from_index(0, len(starts)),
            "open": opened,
            "high": np.round(np.maximum(opened, close) + 0.05, 2),
            "low": np.round(np.minimum(opened, close) - 0.03, 2),
            "close": close,
            "volume": pl.Series(rng.integers(1, 500, len(starts))),
        }
    )


def weekdays(first, last):
    """List the dates from Monday to Friday, both ends included."""
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    return [day for day in days if day.isoweekday() <= 5]
