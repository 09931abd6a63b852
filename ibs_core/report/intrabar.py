"""The lowest equity of each session, as far as trades tell: a bound that no minute goes below.

Of a closed trade the worst gross P&L while it was held is known (its MAE), not the minute of it. So each is
taken to stand at its worst from entry to exit, and all that are open together at once:

    low(t) = capital + net P&L of the trades that have ended by t + (MAE - costs) of those open at t
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.run import LOWS, TOTAL
from ibs_core.report.trade_facts import day_numbers

__all__ = ["LOWS", "session_lows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def session_lows(trades: pl.DataFrame, equity: pl.DataFrame, *, capital: float) -> pl.DataFrame:
    """Bound the equity of each session from below.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `FACTS`.
    equity : polars.DataFrame
        Schema `EQUITY`.
    capital : float
        Stated capital, USD.

    Returns
    -------
    polars.DataFrame
        Schema `LOWS`, a row for each of `equity`, in no certain order; at most the equity of the session's
        own close, in the total at its last. A position that is still open at the end counts in each session
        as at the close before.
    """
    curves = equity.partition_by("symbol", as_dict=True, include_key=True, maintain_order=True)
    total = curves.pop((TOTAL,), equity.clear())
    parts, held = [], np.zeros(total.height)
    for (symbol,), curve in curves.items():
        own = trades.filter(pl.col("symbol") == symbol)
        still = _held(own, curve)
        held += _carried(
            still, day_numbers(curve["session_date"]), day_numbers(total["session_date"])
        )
        parts.append(_lows(own, curve, still, capital))
    parts.append(_lows(trades, total, held, capital))
    return pl.concat(parts)


def _held(trades: pl.DataFrame, curve: pl.DataFrame) -> Floats:
    """Return what is open at each close of a symbol and never ends: all of it since the last exit."""
    open_usd = curve["open_usd"].to_numpy()
    if not trades.height:
        return open_usd
    return np.where(
        day_numbers(curve["session_date"]) >= day_numbers(trades["exit_date"]).max(), open_usd, 0.0
    )


def _carried(values: Floats, days: Ints, onto: Ints) -> Floats:
    """Return the value of the last of `days` on or before each of `onto`; 0 where there is none."""
    place = np.searchsorted(days, onto, side="right")
    return np.concatenate([[0.0], values])[place]


def _lows(trades: pl.DataFrame, curve: pl.DataFrame, held: Floats, capital: float) -> pl.DataFrame:
    level, session = _steps(trades, day_numbers(curve["session_date"]), capital)
    # Every session begins as the one before it ended; what is open at its close is open in the next.
    first = np.searchsorted(session, np.arange(curve.height), side="left")
    low = np.concatenate([[capital], level])[first]
    np.minimum.at(low, session, level)
    low += np.concatenate([[0.0], held])[: curve.height]
    low = np.minimum(low, curve["equity_usd"].to_numpy())
    return curve.select("session_date", "symbol", low_usd=pl.Series(low, dtype=pl.Float64))


def _steps(trades: pl.DataFrame, days: Ints, capital: float) -> tuple[Floats, Ints]:
    """Return the bound after each entry and exit, in order of time, and the session of each."""
    if not len(days) or not trades.height:
        return np.zeros(0), np.zeros(0, np.int64)
    floor = trades.select(
        pl.min_horizontal("mae_usd", "gross_usd", 0.0)
        - pl.col("commission_usd")
        - pl.col("slippage_usd")
    ).to_series()
    entry, leave = (trades[name].dt.epoch("ns").to_numpy() for name in ("entry_time", "exit_time"))
    # Fills are at the open of their minute, those of exits first. Only protective levels are touched within
    # it: what was bought at its open is held as well.
    later = trades["exit_reason"].str.starts_with("protective").to_numpy() | (entry == leave)
    rank = np.concatenate([np.ones(len(entry)), np.where(later, 2, 0)])
    order = np.lexsort((rank, np.concatenate([entry, leave])))
    change = np.concatenate([floor.to_numpy(), (trades["net_usd"] - floor).to_numpy()])[order]
    both = [day_numbers(trades[name]) for name in ("entry_date", "exit_date")]
    dates = np.concatenate(both)[order]
    session = np.searchsorted(days, np.maximum.accumulate(dates), side="left")
    # What follows the last session counts in it, as it does in the equity.
    return capital + np.cumsum(change), np.minimum(session, len(days) - 1)
