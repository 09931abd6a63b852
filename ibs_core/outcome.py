"""What a back-test found: priced trades, equity, statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibs_core.backtest import Traded, trade
from ibs_core.bars import NEVER
from ibs_core.ledger import (
    bars_frame,
    blocked_counts,
    decisions_frame,
    marks_frame,
    open_positions,
    refused_counts,
)
from ibs_core.report.equity import equity_curve, value_open_positions
from ibs_core.report.metrics import compute

if TYPE_CHECKING:
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.series import Series
    from ibs_core.universe import Model, Symbol

__all__ = ["Outcome", "run_backtest", "summarise"]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Everything that one back-test found.

    Attributes
    ----------
    trades, decisions, equity : polars.DataFrame
        Of the schemas in ``report.run``.
    stats : dict
        JSON values: the metrics, ``blocked``, ``open_positions``, ``data``.
    bars : dict of str to polars.DataFrame
        Signal bars for charts.
    warnings : list of str
        What a reader of the result must know.
    """

    trades: pl.DataFrame
    decisions: pl.DataFrame
    equity: pl.DataFrame
    stats: dict[str, Any]
    bars: dict[str, pl.DataFrame]
    warnings: list[str]


def run_backtest(
    source: BarSource,
    settings: Settings,
    contracts: ContractMap,
    **options: Any,
) -> Outcome:
    """Run one back-test: ``trade``, then ``summarise``.

    Parameters
    ----------
    source : BarSource
    settings : Settings
    contracts : ContractMap
    **options
        As ``trade`` takes them.

    Returns
    -------
    Outcome
    """
    return summarise(trade(source, settings, contracts, **options), settings)


def summarise(traded: Traded, settings: Settings) -> Outcome:
    """Price what was traded and compute every statistic.

    Parameters
    ----------
    traded : Traded
    settings : Settings

    Returns
    -------
    Outcome
    """
    lines, pairs = traded.lines, list(zip(traded.symbols, traded.series, strict=True))
    costs = {line.root: line.costs for line in lines}
    trades = traded.trades()
    decisions = decisions_frame(traded.decision_records, lines)
    marks = pl.concat(
        marks_frame(item, symbol.sessions, symbol.rule.first_date) for symbol, item in pairs
    )
    held = open_positions(traded.book, lines)
    equity = equity_curve(trades, marks, held, capital=settings.capital, contracts=costs)
    ticks = {line.root: line.executed.tick_value_usd for line in lines}
    stats = compute(trades, equity, capital=settings.capital, tick_values=ticks)
    stats["blocked"] = {
        symbol.root: blocked_counts(signal["gate"], list(symbol.strategy.filters))
        | refused_counts(decisions, symbol.root)
        for symbol, signal in zip(traded.symbols, traded.signals, strict=True)
    }
    stats["open_positions"] = value_open_positions(held, marks, costs)
    stats["data"] = {symbol.root: _data_facts(item, symbol) for symbol, item in pairs}
    bars = {item.root: bars_frame(item) for item in traded.series}
    warnings = [*traded.warnings]
    if models := {each.root: each.model for each in traded.symbols if each.model}:
        stats["in_training"] = {
            root: _in_training(trades, root, each) for root, each in models.items()
        }
        warnings += [
            _told(root, facts) for root, facts in stats["in_training"].items() if facts["trades"]
        ]
    return Outcome(trades, decisions, equity, stats, bars, warnings)


def _in_training(trades: pl.DataFrame, root: str, model: Model) -> dict[str, Any]:
    """Count the trades that a model was trained on: their results are no evidence of it."""
    first, last = (pl.lit(ns).cast(pl.Datetime("ns", "UTC")) for ns in model.seen_ns)
    own = trades.filter(pl.col("symbol") == root)
    seen = own.filter((pl.col("exit_time") >= first) & (pl.col("entry_time") <= last))
    return {
        "version": model.version,
        "trades": seen.height,
        "of": own.height,
        "net_usd": float(seen["net_usd"].sum()),
    }


def _told(root: str, facts: dict[str, Any]) -> str:
    return (
        f"{root}: {facts['trades']:,} of {facts['of']:,} trades lie inside the training window of its model "
        f"{facts['version']}; what they made ({facts['net_usd']:,.0f} USD) is no evidence of it"
    )


def _data_facts(series: Series, symbol: Symbol) -> dict[str, Any]:
    return {
        "minutes": series.n_minutes,
        "minutes_outside_calendar": series.n_outside,
        "bar_width_s": series.base_ns // 10**9 if series.base_ns != NEVER else None,
        "signal_bars": len(series.closed),
        "sessions": len(series.days),
        "rolls": int(np.count_nonzero(series.bars["seam_ns"])),
        "executes": symbol.executed.root,
        "quantity": symbol.quantity,
    }
