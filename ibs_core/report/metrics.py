"""Statistics of a back-test, each defined in `METRICS` and tested against hand-worked cases.

Everything is a JSON value: a number, or None with its reason where the statistic is undefined; never NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.curve import Trials, curve_statistics, years_of
from ibs_core.report.definitions import METRICS
from ibs_core.report.groups import by_groups
from ibs_core.report.intrabar import session_lows
from ibs_core.report.run import TOTAL
from ibs_core.report.significance import N_SESSIONS_MIN
from ibs_core.report.trade_facts import SymbolFacts, day_numbers, with_facts
from ibs_core.report.undefined import Undefined, json_number, mean, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.report.undefined import Value

__all__ = ["METRICS", "N_SESSIONS_MIN", "SymbolFacts", "Trials", "compute"]

_DAY_NS: Final = 86_400_000_000_000
_HOUR_NS: Final = 3_600_000_000_000
_NO_TRADE: Final = "no trade"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = dict[str, Any]
Values = dict[str, "Value"]


def compute(
    trades: pl.DataFrame,
    equity: pl.DataFrame,
    *,
    capital: float,
    symbols: Mapping[str, SymbolFacts],
    vetoed: pl.DataFrame | None = None,
    trials: Trials | None = None,
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
    symbols : mapping of str to SymbolFacts
        Of every symbol of the trades.
    vetoed : polars.DataFrame, optional
        ``symbol`` and ``net_usd`` of each candidate that a model scored below its threshold, followed alone;
        None without a model.
    trials : Trials, optional
        What the run was chosen from; None where nothing is known of it.

    Returns
    -------
    dict
        ``capital_usd``, ``first_session``, ``last_session``; ``total`` and ``by_symbol``
        (``{symbol: …}``), each with the keys of `METRICS` and ``undefined``, the reason of each that is None;
        the tables of `GROUPINGS`, each a list of rows; ``monthly``, for the total and each symbol a list of
        ``month`` (2025-03) and ``net_usd``, the change in equity within the month.
    """
    trades = with_facts(trades, symbols)
    lows = session_lows(trades, equity, capital=capital)
    joined = equity.join(lows, on=["session_date", "symbol"], how="left", maintain_order="left")
    curves = {
        str(symbol): curve for (symbol,), curve in joined.group_by("symbol", maintain_order=True)
    }
    curves.setdefault(TOTAL, joined.clear())
    blocks = {}
    for symbol, curve in curves.items():
        whole = symbol == TOTAL
        own, kept_out = (
            each if whole or each is None else each.filter(pl.col("symbol") == symbol)
            for each in (trades, vetoed)
        )
        assert own is not None
        of = trials or Undefined("the number of trials is not known")
        deflate = of if whole else Undefined("of the portfolio only")
        blocks[symbol] = _block(own, curve, kept_out, capital=capital, trials=deflate)
    dates = equity["session_date"].sort().to_list()
    return {
        "capital_usd": float(capital),
        "first_session": dates[0].isoformat() if dates else None,
        "last_session": dates[-1].isoformat() if dates else None,
        "total": blocks.pop(TOTAL),
        "by_symbol": blocks,
        **by_groups(trades),
        "monthly": {
            symbol: _monthly(curve, capital) for symbol, curve in curves.items() if curve.height
        },
    }


def _block(
    trades: pl.DataFrame,
    curve: pl.DataFrame,
    vetoed: pl.DataFrame | None,
    *,
    capital: float,
    trials: Trials | Undefined,
) -> Row:
    days = day_numbers(curve["session_date"])
    span_ns = (int(days[-1] - days[0]) + 1) * _DAY_NS if len(days) else 0
    values = {
        **_results(trades["net_usd"].to_numpy()),
        **_excursions(trades),
        **_costs(trades),
        **_holding(trades, span_ns, capital),
        **curve_statistics(curve, curve["low_usd"].to_numpy(), capital=capital, trials=trials),
        **_veto(vetoed),
    }
    bought = math.fsum(trades["notional_usd"].to_list()) / capital
    values["turnover"] = ratio(bought, years_of(days), "")
    found = {metric.key: json_number(values[metric.key]) for metric in METRICS}
    reasons = {key: str(value) for key, value in found.items() if isinstance(value, Undefined)}
    return {**found, **dict.fromkeys(reasons), "undefined": reasons}


def _results(net: Floats) -> Values:
    wins, losses = net[net > 0].tolist(), net[net < 0].tolist()
    average_win, average_loss = mean(wins, "no winning trade"), mean(losses, "no losing trade")
    total = math.fsum(net.tolist())
    lost = average_loss if isinstance(average_loss, Undefined) else -average_loss
    none = Undefined(_NO_TRADE)
    return {
        "trades": len(net),
        "wins": len(wins),
        "losses": len(losses),
        "win_rate": ratio(len(wins), len(net), _NO_TRADE),
        "profit_factor": ratio(
            math.fsum(wins), -math.fsum(losses), "no losing trade" if len(net) else _NO_TRADE
        ),
        "expectancy_usd": ratio(total, len(net), _NO_TRADE),
        "average_win_usd": average_win,
        "average_loss_usd": average_loss,
        "payoff": ratio(average_win, lost, ""),
        "best_usd": float(net.max()) if len(net) else none,
        "worst_usd": float(net.min()) if len(net) else none,
        "longest_losing_run": _longest_run(net < 0),
        "longest_winning_run": _longest_run(net > 0),
    }


def _longest_run(holds: NDArray[np.bool_]) -> int:
    """Count the most in a row."""
    breaks = np.flatnonzero(np.concatenate([[True], ~holds, [True]]))
    return int(np.diff(breaks).max()) - 1


def _excursions(trades: pl.DataFrame) -> Values:
    mae, mfe = (trades[name].drop_nulls().to_list() for name in ("mae_usd", "mfe_usd"))
    return {
        "average_mae_usd": mean(mae, _NO_TRADE),
        "average_mfe_usd": mean(mfe, _NO_TRADE),
        "worst_mae_usd": min(mae) if mae else Undefined(_NO_TRADE),
    }


def _costs(trades: pl.DataFrame) -> Values:
    names = ("gross_usd", "commission_usd", "slippage_usd", "net_usd")
    sums = {name: math.fsum(trades[name].to_list()) for name in names}
    gross, commission, slippage, _ = sums.values()
    costs, earned = commission + slippage, gross - commission
    no_profit = Undefined("gross profit is not above 0" if trades.height else _NO_TRADE)
    return {
        **sums,
        "cost_share": costs / gross if gross > 0 else no_profit,
        "break_even_ticks": ratio(earned, math.fsum(trades["tick_usd"].to_list()), _NO_TRADE),
    }


def _holding(trades: pl.DataFrame, span_ns: int, capital: float) -> Values:
    spans = trades.select(pl.col("entry_time", "exit_time").dt.epoch("ns")).sort("entry_time")
    entry, leave = (spans[name].to_numpy() for name in ("entry_time", "exit_time"))
    held = leave - entry
    hours = (held / _HOUR_NS).tolist()
    notional_ns = math.fsum((trades["notional_usd"] * _held_ns(trades)).to_list())
    return {
        "average_bars_held": mean(trades["bars_held"].to_list(), _NO_TRADE),
        "average_hours_held": mean(hours, _NO_TRADE),
        "median_hours_held": float(np.median(hours)) if hours else Undefined(_NO_TRADE),
        "time_in_market": ratio(min(_covered_ns(entry, leave), span_ns), span_ns, "no session"),
        "exposure": ratio(notional_ns / capital, span_ns, "no session"),
    }


def _held_ns(trades: pl.DataFrame) -> pl.Series:
    return (trades["exit_time"] - trades["entry_time"]).dt.total_nanoseconds()


def _covered_ns(entry: Ints, leave: Ints) -> int:
    """Measure the time that spans, by their begin, cover; what several cover counts once."""
    # Where positions overlap, only what lies beyond every earlier exit is new.
    leave = np.maximum.accumulate(leave)
    seen = np.maximum(entry, np.concatenate([entry[:1], leave[:-1]]))
    return int(np.maximum(leave - seen, 0).sum())


def _veto(vetoed: pl.DataFrame | None) -> Values:
    if vetoed is None:
        return dict.fromkeys(
            ("vetoed", "vetoed_net_usd"), Undefined("no model, or what it learnt from")
        )
    return {"vetoed": vetoed.height, "vetoed_net_usd": math.fsum(vetoed["net_usd"].to_list())}


def _monthly(curve: pl.DataFrame, capital: float) -> list[Row]:
    months = curve.group_by(
        month=pl.col("session_date").dt.truncate("1mo"), maintain_order=True
    ).agg(pl.col("equity_usd").last())
    ends = months["equity_usd"].to_list()
    return [
        {"month": f"{month:%Y-%m}", "net_usd": end - start + 0.0}
        for month, start, end in zip(months["month"], [capital, *ends], ends, strict=False)
    ]
