"""What prices did after signal bars, by the IBS of the bar: every bar, traded or not, before any cost.

The forward return of a bar goes from its close to the close of the next signal bar, and to the last close
of the session after its own; of the same contract, so that no roll is in it. A standard error counts
bars of one session date, of all symbols together, as one observation, and the dates beside each other as
related: a return to the next session's close reaches over two of them (Newey and West, one lag).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.groups import IBS_WIDTH
from ibs_core.report.run import TOTAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.bars import Records

__all__ = ["HORIZONS", "OBSERVED", "forward_returns", "observed"]

HORIZONS: Final = {"bar": "to the next bar's close", "session": "to the next session's close"}
"""Name in ``stats.json``; how far a forward return goes."""

OBSERVED: Final = pl.Schema(
    {"day": pl.Int64, "ibs": pl.Float64, **{f"{name}_bp": pl.Float64 for name in HORIZONS}}
)
"""A signal bar: its trade date in days since 1970-01-01, its IBS, what followed in hundredths of a percent."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_N_BUCKETS: Final = round(1 / IBS_WIDTH)
_WHOLE: Final = 1e4


def observed(
    bars: Records, days: Records, ibs: Floats, *, trade_date: Ints, first_date: int
) -> pl.DataFrame:
    """Follow every signal bar of one symbol.

    Parameters
    ----------
    bars : (n_bars,) BAR
        Closed signal bars.
    days : (n_days,) BAR
        Closed session bars.
    ibs : (n_bars,) float64
        In [0, 1], or NaN.
    trade_date : (n_sessions,) int64
        Of each session, days since 1970-01-01.
    first_date : int
        Bars of earlier trade dates are left out.

    Returns
    -------
    polars.DataFrame
        Schema `OBSERVED`; a return is null where the data end, the contract changes, or a price is not
        above 0.
    """
    close, contract = bars["close"], bars["contract"]
    after, same = np.append(close[1:], np.nan), np.append(contract[1:] == contract[:-1], False)
    # A session that a roll cuts has several bars; the last one tells its close.
    last = days[np.append(days["session"][1:] != days["session"][:-1], True)[: len(days)]]
    row = np.searchsorted(last["session"], bars["session"], side="right")
    known = row < len(last)
    row = np.minimum(row, len(last) - 1)
    to_session = np.full(len(bars), np.nan)
    if len(last):
        ends = known & (last["contract"][row] == contract)
        to_session[ends] = last["close"][row[ends]]
    return pl.DataFrame(
        {
            "day": trade_date[bars["session"]],
            "ibs": ibs,
            "bar_bp": _basis_points(close, np.where(same, after, np.nan)),
            "session_bp": _basis_points(close, to_session),
        },
        schema=OBSERVED,
    ).filter((pl.col("day") >= first_date) & pl.col("ibs").is_not_nan())


def forward_returns(
    bars: Mapping[str, pl.DataFrame], *, n_buckets: int = _N_BUCKETS
) -> dict[str, dict[str, Any]]:
    """Average what followed, by bucket of IBS.

    Parameters
    ----------
    bars : mapping of str to polars.DataFrame
        Schema `OBSERVED`, by symbol.
    n_buckets : int, > 0
        Of equal width.

    Returns
    -------
    dict
        For the total and each symbol ``all`` and ``buckets``, ascending by ``ibs_from``, those without a bar
        left out; each with ``bars`` and for each of `HORIZONS` ``<name>_n``, ``<name>_bp`` (the mean) and
        ``<name>_se_bp``, None where there is none.
    """
    total = pl.concat([pl.DataFrame(schema=OBSERVED), *bars.values()])
    return {symbol: _table(own, n_buckets) for symbol, own in {TOTAL: total, **bars}.items()}


def _basis_points(close: Floats, after: Floats) -> pl.Series:
    sound = (close > 0) & (after > 0)  # what is not known is NaN, and not above 0
    change = np.full(len(close), np.nan)
    change[sound] = _WHOLE * (after[sound] - close[sound]) / close[sound]
    return pl.Series(change).fill_nan(None)


def _table(bars: pl.DataFrame, n_buckets: int) -> dict[str, Any]:
    bucket = np.clip(np.floor(bars["ibs"].to_numpy() * n_buckets), 0, n_buckets - 1)
    day = _numbered(bars["day"].to_numpy())
    followed = {name: bars[f"{name}_bp"].fill_null(np.nan).to_numpy() for name in HORIZONS}
    whole = _rows(np.zeros(len(bars), np.int64), day, followed, 1)
    rows = _rows(bucket.astype(np.int64), day, followed, n_buckets)
    buckets = [
        {"ibs_from": round(i / n_buckets, 2), **row} for i, row in enumerate(rows) if row["bars"]
    ]
    return {"all": whole[0], "buckets": buckets}


def _numbered(days: Ints) -> Ints:
    """Give dates that occur a number, in order; sorting a million would take longer than all the rest."""
    first = int(days.min()) if len(days) else 0
    number = np.cumsum(np.bincount(days - first) > 0) - 1
    return number[days - first]


def _rows(group: Ints, day: Ints, followed: Mapping[str, Floats], n: int) -> list[dict[str, Any]]:
    counts = np.bincount(group, minlength=n).tolist()
    rows: list[dict[str, Any]] = [{"bars": count} for count in counts]
    for name, values in followed.items():
        known = ~np.isnan(values)
        means = _means(group[known], day[known], values[known], (n, int(day.max(initial=-1)) + 1))
        for row, (count, mean, error) in zip(rows, means, strict=True):
            row |= {f"{name}_n": count, f"{name}_bp": mean, f"{name}_se_bp": error}
    return rows


def _means(
    group: Ints, day: Ints, values: Floats, shape: tuple[int, int]
) -> list[tuple[int, float | None, float | None]]:
    """Return the count, the mean and its standard error of each group."""
    n_groups, n_days = shape
    counts = np.bincount(group, minlength=n_groups)
    means = np.bincount(group, values, n_groups) / np.maximum(counts, 1)
    place = group * n_days + day
    sums = np.bincount(place, values - means[group], n_groups * n_days).reshape(shape)
    seen = np.bincount(place, minlength=n_groups * n_days).reshape(shape) > 0
    # The weight of the lag is a half, and each pair counts twice.
    variance = (sums**2).sum(axis=1) + (sums[:, 1:] * sums[:, :-1]).sum(axis=1)
    return [
        (
            int(count),
            float(mean) + 0.0 if count else None,
            math.sqrt(max(float(spread), 0.0)) / int(count) if dates > 1 else None,
        )
        for count, mean, spread, dates in zip(
            counts, means, variance, seen.sum(axis=1), strict=True
        )
    ]
