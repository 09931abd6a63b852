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
from ibs_core.report.forward_returns import forward_returns, observed
from ibs_core.report.intrabar import session_lows
from ibs_core.report.metrics import METRICS, SymbolFacts, compute
from ibs_core.report.prices import POINTS_A_SYMBOL, thin_bars
from ibs_core.report.trade_facts import with_facts
from ibs_core.report.training_window import Account, divide, inside, spelt_instant
from ibs_core.veto_value import scored_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.report.equity import PointCosts
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
        JSON values: the metrics, ``blocked``, ``open_positions``, ``data``, ``forward_returns``; with models also
        ``training_windows``. Where models veto, the metrics are of what lies outside their training
        windows, and ``inside_training`` holds those of the rest.
    bars : dict of str to polars.DataFrame
        Signal bars for charts, schema `BARS`, merged where there are many.
    lows : polars.DataFrame
        Lowest equity of each session, schema `LOWS`, in the order of `equity`.
    warnings : list of str
        What a reader of the result must know.
    """

    trades: pl.DataFrame
    decisions: pl.DataFrame
    equity: pl.DataFrame
    stats: dict[str, Any]
    bars: dict[str, pl.DataFrame]
    lows: pl.DataFrame
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
    decisions = decisions_frame(traded.decision_records, lines)
    marks = pl.concat(
        marks_frame(item, symbol.sessions, symbol.rule.first_date) for symbol, item in pairs
    )
    account = Account(traded.trades(), marks, open_positions(traded.book, lines))
    models = {each.root: each.model for each in traded.symbols if each.model}
    facts = {symbol.root: _symbol_facts(symbol) for symbol in traded.symbols}
    money = _Money(settings.capital, costs, facts)
    vetoed = _unseen(traded, models) if models else None
    equity = money.curve(account)
    warnings = [*traded.warnings]
    if models and settings.model.mode == "veto":
        stats = _apart(account, models, decisions, vetoed, money)
    else:
        stats = money.statistics(account, equity, vetoed)
    if models:
        stats["training_windows"] = _windows(account, models)
        warnings += [note for model in models.values() for note in model.notes]
        warnings += _told(stats, account)
    stats["blocked"] = {
        symbol.root: blocked_counts(signal["gate"], list(symbol.strategy.filters))
        | refused_counts(decisions, symbol.root)
        for symbol, signal in zip(traded.symbols, traded.signals, strict=True)
    }
    stats["open_positions"] = value_open_positions(account.held, marks, costs)
    stats["data"] = {symbol.root: _data_facts(item, symbol) for symbol, item in pairs}
    stats["forward_returns"] = _forward_returns(traded)
    bars = {item.root: thin_bars(bars_frame(item), POINTS_A_SYMBOL) for item in traded.series}
    return Outcome(
        account.trades, decisions, equity, stats, bars, money.lows(account, equity), warnings
    )


@dataclass(frozen=True, slots=True)
class _Money:
    """What turns an account into statistics."""

    capital: float
    costs: dict[str, PointCosts]
    facts: dict[str, SymbolFacts]

    def curve(self, of: Account) -> pl.DataFrame:
        return equity_curve(
            of.trades, of.marks, of.held, capital=self.capital, contracts=self.costs
        )

    def lows(self, of: Account, curve: pl.DataFrame) -> pl.DataFrame:
        found = session_lows(with_facts(of.trades, self.facts), curve, capital=self.capital)
        keys = ["session_date", "symbol"]
        return curve.select(keys).join(found, on=keys, how="left", maintain_order="left")

    def statistics(
        self, of: Account, curve: pl.DataFrame, vetoed: pl.DataFrame | None
    ) -> dict[str, Any]:
        return compute(of.trades, curve, capital=self.capital, symbols=self.facts, vetoed=vetoed)


def _symbol_facts(symbol: Symbol) -> SymbolFacts:
    executed = symbol.executed
    return SymbolFacts(executed.tick_value_usd, executed.point_value_usd, symbol.sessions)


def _forward_returns(traded: Traded) -> dict[str, Any]:
    """Tell what followed each IBS: of the bars, whatever the strategy."""
    spans = [[each.rule.first_date, each.rule.last_date] for each in traded.symbols]

    def make() -> dict[str, Any]:
        return forward_returns(
            {
                symbol.root: observed(
                    item.closed,
                    item.days,
                    signal["ibs"][: len(item.closed)],
                    trade_date=symbol.sessions.trade_date,
                    first_date=symbol.rule.first_date,
                )
                for symbol, item, signal in zip(
                    traded.symbols, traded.series, traded.signals, strict=True
                )
            }
        )

    found: dict[str, Any] = traded.drawer.within(spans=spans).value("forward returns", make)
    return found


def _unseen(traded: Traded, models: Mapping[str, Model]) -> pl.DataFrame:
    """List what models scored below their thresholds where they were not trained."""
    below = scored_below(traded)
    return below.filter(~inside(below, {root: model.seen_ns for root, model in models.items()}))


def _apart(
    account: Account,
    models: Mapping[str, Model],
    decisions: pl.DataFrame,
    vetoed: pl.DataFrame | None,
    money: _Money,
) -> dict[str, Any]:
    """Compute the statistics of what lies outside the training windows, and apart those inside."""
    entries = decisions.filter(pl.col("action") == "entry")
    first = entries.group_by("symbol").agg(pl.col("time").min().dt.epoch("ns"))
    windows = {root: model.seen_ns for root, model in models.items()}
    outside, within = divide(account, windows, dict(first.iter_rows()))
    stats = money.statistics(outside, money.curve(outside), vetoed)
    if within.empty and outside.marks.height == account.marks.height:
        return stats
    apart = money.statistics(within, money.curve(within), None)
    trained = [root for root in windows if not within.of(root).empty]
    stats["inside_training"] = {
        "sessions": account.marks["session_date"].n_unique() - stats["total"]["sessions"],
        "total": apart["total"],
        "by_symbol": {root: apart["by_symbol"][root] for root in trained},
    }
    total, blocks = stats["total"], stats["by_symbol"]
    stats["total"] = _without_numbers(total) if outside.empty else total
    stats["by_symbol"] = {
        root: _without_numbers(blocks.get(root)) if outside.of(root).empty else blocks[root]
        for root in account.marks["symbol"].unique(maintain_order=True)
    }
    return stats


def _without_numbers(block: Mapping[str, Any] | None) -> dict[str, Any]:
    """Leave a block empty that has no trade: zeros would read as a result."""
    known = {"trades": 0, "sessions": block["sessions"] if block else 0}
    reason = "no trade outside the training window"
    rest = [metric.key for metric in METRICS if metric.key not in known]
    return {**dict.fromkeys(rest), **known, "undefined": dict.fromkeys(rest, reason)}


def _windows(account: Account, models: Mapping[str, Model]) -> dict[str, dict[str, Any]]:
    """Tell what each model was trained on and how many of its symbol's trades lie in it."""
    known = account.trades.filter(
        inside(account.trades, {root: model.seen_ns for root, model in models.items()})
    )
    return {
        root: {
            "version": model.version,
            "first_decision": spelt_instant(model.seen_ns[0]),
            "last_label_end": spelt_instant(model.seen_ns[1]),
            "trades": known.filter(pl.col("symbol") == root).height,
            "of": account.of(root).trades.height,
        }
        for root, model in models.items()
    }


def _told(stats: Mapping[str, Any], account: Account) -> list[str]:
    windows, apart = stats["training_windows"], stats.get("inside_training")
    named = [f"{root} {each['version']}" for root, each in windows.items() if each["trades"]]
    n_inside = sum(each["trades"] for each in windows.values())
    of = f"{n_inside:,} of {account.trades.height:,} trades lie in the training window of"
    if not apart:
        what = "what the model says of them is no evidence of it"
        return [f"{of} {', '.join(named)}; {what}"] if named else []
    left = f"headline numbers leave them out, and {apart['sessions']:,} sessions"
    lines = [f"{of} {', '.join(named or windows)}; {left}"]
    if named and not stats["total"]["trades"]:
        lines.append("no trade lies outside: there is no out-of-sample result")
    return lines


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
