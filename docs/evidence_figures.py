# ruff: noqa: INP001  # beside the script that makes the page, not a package
"""The figures of docs/evidence.md: what followed bars by their IBS, and what the rule made of it."""

from __future__ import annotations

import math
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import yaml

from ibs_core.backtest import trade
from ibs_core.bars import BAR
from ibs_core.config import Settings
from ibs_core.contracts import load_contract_map
from ibs_core.kernels import ibs
from ibs_core.market_data import open_bars
from ibs_core.outcome import summarise
from ibs_core.report.forward_returns import forward_returns, observed
from ibs_core.report.run import TOTAL
from ibs_core.sessions import load_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ibs_core.backtest import Traded
    from ibs_core.market_data import MinuteSource
    from ibs_core.outcome import Outcome

__all__ = [
    "PERIODS",
    "RULE",
    "by_period",
    "daily_bars",
    "followed",
    "measure_minutes",
    "rule_row",
]

PRICES: Final = ("open", "high", "low", "close")
SPLIT: Final = date(2013, 1, 1)
RULE_FROM: Final = date(2006, 1, 1)  # the session calendar begins in 2005, a year before its use
PERIODS: Final = {
    "2006 to 2012": (RULE_FROM, date(2012, 12, 31)),
    "2013 to 2018": (SPLIT, date(2018, 12, 31)),
}
RULE: Final = """\
strategy:
  signal_bar: 1d
  entry: {ibs: [0.0, 0.2], windows: [], pivots: none}
  exits:
    {ibs: [0.8, 1.0], stop: null, target: null, bars: null, flat_by: null, flat_before_early_close: false}
costs: {commission_per_side: 0.15, slippage_ticks: 0}
"""
WIDTHS: Final = ("5m", "15m", "1h", "4h", "1d")
FILES: Final = {"five": "5m/*.parquet", "one": "1m/*_2024-12_2025-12.parquet"}
Row = dict[str, Any]


def daily_bars() -> pl.DataFrame:
    """Return the S&P 500's daily bars: date and prices, on their grid of 0.01."""
    from arch.data import sp500  # noqa: PLC0415  # two seconds, which small frames do not need

    table = sp500.load()
    prices = {name: table[name.capitalize()].to_numpy().round(2) for name in PRICES}
    return pl.DataFrame({"date": table.index.to_numpy().astype("datetime64[D]"), **prices})


def followed(daily: pl.DataFrame) -> pl.DataFrame:
    """Return the IBS of each day and the return to the next day's close, schema `OBSERVED`."""
    bars = np.zeros(daily.height, BAR)
    for name in PRICES:
        bars[name] = daily[name]
    bars["session"] = np.arange(len(bars))
    strength = [ibs.value(*row) for row in daily.select("high", "low", "close").iter_rows()]
    days = daily["date"].to_physical().to_numpy().astype(np.int64)
    return observed(bars, bars, np.array(strength), trade_date=days, first_date=int(days[0]))


def by_period(days: pl.DataFrame, n_buckets: int) -> dict[str, Row]:
    """Return the tables of `forward_returns`: of all days, of those before 2013 and of those since."""
    since = pl.col("day") >= (SPLIT - date(1970, 1, 1)).days
    parts = {"before": days.filter(~since), "since": days.filter(since)}
    return forward_returns(parts, n_buckets=n_buckets)


def rule_row(daily: pl.DataFrame, first: date, last: date) -> Row:
    """Trade the rule on the index through the engine; beside it, what holding the index did."""
    outcome = _trade_index(daily.filter(pl.col("date") >= RULE_FROM), first, last)
    days = daily.with_columns(before=pl.col("close").shift(1))
    days = days.filter(pl.col("date").is_between(first, last))
    change = days["close"] - days["before"]
    trades, total = outcome.trades, outcome.stats["total"]
    filled = trades["entry_price"], trades["exit_price"]
    # What was filled at an open was decided at the close before it.
    closes = dict(days.select("date", "before").iter_rows())
    decided = [
        trades[name].dt.date().replace_strict(closes, return_dtype=pl.Float64)
        for name in ("entry_time", "exit_time")
    ]
    return {
        "sessions": days.height,
        "trades": total["trades"],
        "won": total["win_rate"],
        "held": total["average_bars_held"],
        "in_market": trades["bars_held"].sum() / days.height,
        "gross": _basis_points(filled[1] / filled[0] - 1),
        "net": _basis_points(trades["net_usd"] / filled[0]),
        "at_closes": _basis_points(decided[1] / decided[0] - 1),
        "any": _basis_points(change / days["before"]),
        "sharpe": total["sharpe"],
        "sharpe_of_holding": math.sqrt(252)
        * change.to_numpy().mean()
        / change.to_numpy().std(ddof=1),
    }


def _trade_index(daily: pl.DataFrame, first: date, last: date) -> Outcome:
    contracts = load_contract_map()
    ends = [int(np.datetime64(each, "ns").astype(np.int64)) for each in (daily["date"][0], last)]
    sessions = load_sessions(contracts.get("SPX").session, *ends)
    opens = pl.DataFrame(
        {
            "date": sessions.trade_date.astype("datetime64[D]"),
            "ts_event": pl.Series(sessions.open_ns).cast(pl.Datetime("ns", "UTC")),
            "symbol": "SPX",
        }
    )
    settings = Settings.model_validate(yaml.safe_load(RULE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "SPX.parquet"
        daily.join(opens, on="date").drop("date").write_parquet(path)
        source = open_bars([path], contracts)
        return summarise(trade(source, settings, contracts, start=first, end=last), settings)


def _basis_points(returns: pl.Series) -> tuple[float, float]:
    """Return the mean and its standard error."""
    values: NDArray[np.float64] = 1e4 * returns.to_numpy()
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def measure_minutes(folder: Path) -> dict[str, Row]:
    """Return the page's figures on the minute bars of a folder, as JSON values."""
    return {name: _measure(sorted(folder.glob(pattern))) for name, pattern in FILES.items()}


def _measure(paths: Sequence[Path]) -> Row:
    contracts = load_contract_map()
    source = open_bars(paths, contracts)
    groups = {"all": list(source.roots)}
    for root in source.roots:
        groups.setdefault(contracts.get(root).session, []).append(root)
    forward: list[Row] = []
    rule: list[Row] = []
    for width in WIDTHS:
        traded, outcome = _trade_width(source, width)
        seen = _observed(traded)
        for name, roots in groups.items():
            table = forward_returns({root: seen[root] for root in roots}, n_buckets=5)[TOTAL]
            forward.append({"width": width, "group": name, **_outer(table)})
        rule.append({"width": width, **_money(outcome)})
    dates = outcome.equity["session_date"]
    span = {"first": str(dates.min()), "last": str(dates.max())}
    return {**span, "groups": groups, "forward": forward, "rule": rule}


def _trade_width(source: MinuteSource, width: str) -> tuple[Traded, Outcome]:
    """Trade the default rule; where a bar is a session, being flat before its close refuses every entry."""
    exits = {"flat_by": None, "flat_before_early_close": False} if width == "1d" else {}
    settings = Settings.model_validate({"strategy": {"signal_bar": width, "exits": exits}})
    traded = trade(source, settings, load_contract_map())
    return traded, summarise(traded, settings)


def _observed(traded: Traded) -> dict[str, pl.DataFrame]:
    return {
        symbol.root: observed(
            item.closed,
            item.days,
            signal["ibs"][: len(item.closed)],
            trade_date=symbol.sessions.trade_date,
            first_date=symbol.rule.first_date,
        )
        for symbol, item, signal in zip(traded.symbols, traded.series, traded.signals, strict=True)
    }


def _outer(table: Row) -> Row:
    """Return the lowest and the highest fifth of IBS."""
    found = {"bars": table["all"]["bars"], "bp": round(table["all"]["bar_bp"], 2)}
    for name, row in (("low", table["buckets"][0]), ("high", table["buckets"][-1])):
        found[f"{name}_n"] = row["bar_n"]
        found[f"{name}_bp"] = [round(row[key], 2) for key in ("bar_bp", "bar_se_bp")]
    return found


def _money(outcome: Outcome) -> Row:
    total = outcome.stats["total"]
    error = total["session_deviation_usd"] * math.sqrt(total["sessions"])
    return {
        "trades": total["trades"],
        "won": round(total["win_rate"], 3),
        "gross_usd": round(total["gross_usd"]),
        "costs_usd": round(total["commission_usd"] + total["slippage_usd"]),
        "net_usd": [round(total["net_usd"]), round(error)],
        "break_even_ticks": round(total["break_even_ticks"], 2),
        "sharpe": round(total["sharpe"], 2),
    }
