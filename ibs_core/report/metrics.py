"""Statistics of a back-test, each defined in `METRICS` and tested against hand-worked cases.

Everything is a JSON value: a number, or None where the statistic is undefined; never NaN.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.definitions import METRICS
from ibs_core.report.run import EXIT_REASONS, TOTAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

__all__ = ["METRICS", "N_SESSIONS_MIN", "compute"]

N_SESSIONS_MIN: Final = 20
"""Below this many sessions nothing is annualised."""

_SESSIONS_A_YEAR: Final = 252
_DAYS_A_YEAR: Final = 365.25
_DAY_NS: Final = 86_400_000_000_000
Floats = NDArray[np.float64]
Row = dict[str, Any]


def compute(
    trades: pl.DataFrame,
    equity: pl.DataFrame,
    *,
    capital: float,
    tick_values: Mapping[str, float],
) -> dict[str, Any]:
    """Compute every statistic of `METRICS`, for the portfolio and for each symbol.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.
    equity : polars.DataFrame
        Schema `EQUITY`, as `equity_curve` returns it.
    capital : float
        Stated capital, USD, > 0.
    tick_values : mapping of str to float
        USD a tick of each symbol's executed contract.

    Returns
    -------
    dict
        ``capital_usd``, ``first_session``, ``last_session``; ``total`` and ``by_symbol``
        (``{symbol: …}``), each with the keys of `METRICS`; ``by_exit_reason``, a list in the order
        of `EXIT_REASONS`; ``monthly``, for the total and each symbol a list of ``month`` (2025-03)
        and ``net_usd``, the change in equity within the month.
    """
    symbols = [str(symbol) for symbol in equity["symbol"].unique(maintain_order=True)]
    ticks = pl.Series([tick_values[symbol] for symbol in trades["symbol"]], dtype=pl.Float64)
    trades = trades.with_columns(tick_usd=2 * pl.col("quantity") * ticks)
    trades = trades.sort("exit_time", "symbol", maintain_order=True)
    curves = {symbol: equity.filter(pl.col("symbol") == symbol) for symbol in symbols}
    blocks = {
        symbol: _block(
            trades if symbol == TOTAL else trades.filter(pl.col("symbol") == symbol), curve, capital
        )
        for symbol, curve in curves.items()
    }
    dates = equity["session_date"].sort().to_list()
    total = blocks.pop(TOTAL, None) or _block(trades, equity.clear(), capital)
    return {
        "capital_usd": float(capital),
        "first_session": dates[0].isoformat() if dates else None,
        "last_session": dates[-1].isoformat() if dates else None,
        "total": total,
        "by_symbol": blocks,
        "by_exit_reason": _by_exit_reason(trades),
        "monthly": {symbol: _monthly(curve, capital) for symbol, curve in curves.items()},
    }


def _block(trades: pl.DataFrame, curve: pl.DataFrame, capital: float) -> Row:
    values = _trade_statistics(trades) | _costs(trades) | _curve_statistics(curve, capital)
    values["time_in_market"] = _time_in_market(trades, curve["session_date"].to_list())
    return {metric.key: _json_number(values[metric.key]) for metric in METRICS}


def _trade_statistics(trades: pl.DataFrame) -> Row:
    net = trades["net_usd"].to_list()
    wins = [value for value in net if value > 0]
    losses = [value for value in net if value < 0]
    average_win, average_loss = _mean(wins), _mean(losses)
    return {
        "trades": len(net),
        "wins": len(wins),
        "losses": len(losses),
        "win_rate": _ratio(len(wins), len(net)),
        "profit_factor": _ratio(math.fsum(wins), -math.fsum(losses)),
        "expectancy_usd": _mean(net),
        "average_win_usd": average_win,
        "average_loss_usd": average_loss,
        "payoff": _ratio(average_win, average_loss and -average_loss),
        "best_usd": max(net, default=None),
        "worst_usd": min(net, default=None),
        "average_bars_held": _mean(trades["bars_held"].to_list()),
        "average_mae_usd": _mean(trades["mae_usd"].drop_nulls().to_list()),
        "average_mfe_usd": _mean(trades["mfe_usd"].drop_nulls().to_list()),
        "longest_losing_run": max(
            (len(list(run)) for lost, run in groupby(net, lambda value: value < 0) if lost),
            default=0,
        ),
    }


def _costs(trades: pl.DataFrame) -> Row:
    sums = {
        name: math.fsum(trades[name])
        for name in ("gross_usd", "commission_usd", "slippage_usd", "net_usd")
    }
    gross = sums["gross_usd"]
    costs = sums["commission_usd"] + sums["slippage_usd"]
    earned = gross - sums["commission_usd"]
    return sums | {
        "cost_share": costs / gross if gross > 0 else None,
        "break_even_ticks": _ratio(earned, math.fsum(trades["tick_usd"])),
    }


def _curve_statistics(curve: pl.DataFrame, capital: float) -> Row:
    equity = np.concatenate([[capital], curve["equity_usd"].to_numpy()])
    dates = curve["session_date"].to_list()
    peak = np.maximum.accumulate(equity)
    fall = peak - equity
    gain, drawdown = float(equity[-1]) - capital, float(fall.max())
    return {
        "sessions": len(dates),
        "open_usd": curve["open_usd"][-1] if dates else 0.0,
        "final_equity_usd": float(equity[-1]),
        "return_on_capital": gain / capital,
        "cagr": _cagr(float(equity[-1]) / capital, dates),
        **_annualised(np.diff(equity)),
        "return_over_drawdown": _ratio(gain, drawdown),
        "max_drawdown_usd": drawdown,
        "max_drawdown_of_capital": drawdown / capital,
        "max_drawdown_of_peak": float((fall / peak).max()),
        "max_drawdown_days": _longest_drawdown_days(fall, dates),
    }


def _cagr(growth: float, dates: list[date]) -> float | None:
    if len(dates) < N_SESSIONS_MIN or growth <= 0:
        return None
    years = ((dates[-1] - dates[0]).days + 1) / _DAYS_A_YEAR
    try:
        return math.pow(growth, 1 / years) - 1
    except OverflowError:
        return None


def _annualised(change: Floats) -> Row:
    if len(change) < N_SESSIONS_MIN:
        return {"sharpe": None, "sortino": None}
    mean, scale = float(change.mean()), math.sqrt(_SESSIONS_A_YEAR)
    deviation = float(change.std(ddof=1))
    downside = math.sqrt(float(np.mean(np.minimum(change, 0.0) ** 2)))
    # Equal changes differ by rounding: a deviation that is nothing beside the mean is none.
    noise = 1e-9 * float(np.abs(change).max())
    return {
        "sharpe": mean / deviation * scale if deviation > noise else None,
        "sortino": mean / downside * scale if downside > noise else None,
    }


def _longest_drawdown_days(fall: Floats, dates: list[date]) -> int:
    # The stated capital is the peak before the first session and bears its date.
    longest, peak_date, under_water = 0, dates[0] if dates else None, False
    for day, depth in zip(dates, fall[1:], strict=True):
        assert peak_date is not None
        if depth > 0 or under_water:
            longest = max(longest, (day - peak_date).days)
        under_water = bool(depth > 0)
        if not under_water:
            peak_date = day
    return longest


def _time_in_market(trades: pl.DataFrame, dates: list[date]) -> float | None:
    if not dates:
        return None
    spans = trades.select(pl.col("entry_time", "exit_time").dt.epoch("ns")).sort("entry_time")
    entry = spans["entry_time"].to_numpy()
    # Where positions overlap, only what lies beyond every earlier exit is new.
    exits = np.maximum.accumulate(spans["exit_time"].to_numpy())
    seen = np.maximum(entry, np.concatenate([entry[:1], exits[:-1]]))
    held_ns = int(np.maximum(exits - seen, 0).sum())
    return min(1.0, held_ns / (((dates[-1] - dates[0]).days + 1) * _DAY_NS))


def _by_exit_reason(trades: pl.DataFrame) -> list[Row]:
    rows = []
    for reason in EXIT_REASONS:
        net = trades.filter(pl.col("exit_reason") == reason)["net_usd"].to_list()
        wins = sum(value > 0 for value in net)
        if net:
            rows.append(
                {
                    "reason": reason,
                    "trades": len(net),
                    "wins": wins,
                    "win_rate": wins / len(net),
                    "net_usd": _json_number(math.fsum(net)),
                    "average_usd": _json_number(math.fsum(net) / len(net)),
                }
            )
    return rows


def _monthly(curve: pl.DataFrame, capital: float) -> list[Row]:
    months = curve.group_by(
        month=pl.col("session_date").dt.strftime("%Y-%m"), maintain_order=True
    ).agg(pl.col("equity_usd").last())
    ends = months["equity_usd"].to_list()
    return [
        {"month": month, "net_usd": _json_number(end - start)}
        for month, start, end in zip(months["month"], [capital, *ends], ends, strict=False)
    ]


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _json_number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value) + 0.0  # -0.0 becomes 0.0
