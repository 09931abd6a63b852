"""The back-test driver: files to series, series to signals, signals to trades, one symbol at a time.

Only bars of the signal timeframe are ever held; the minutes stream past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core import portfolio, positions, signals
from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.config import Settings, Strategy
from ibs_core.contracts import Contract, ContractMap
from ibs_core.errors import ConfigError, DataError
from ibs_core.kernels import features
from ibs_core.ledger import (
    Line,
    bars_frame,
    blocked_counts,
    decisions_frame,
    marks_frame,
    open_positions,
    trades_frame,
)
from ibs_core.market_data import BarSource
from ibs_core.parameters import check_symbol, make_params, make_risk, make_rule
from ibs_core.report.equity import PointCosts, equity_curve, value_open_positions
from ibs_core.report.metrics import compute
from ibs_core.schedule import Rule, make_schedule
from ibs_core.series import Scratch, Series, SeriesBuilder, make_plan
from ibs_core.sessions import Sessions, load_sessions

__all__ = ["Outcome", "check_settings", "run_backtest"]

Records = NDArray[np.void]
_FIRST_NS, _LAST_NS = (int(np.datetime64(f"{year}-01-01", "ns").astype(np.int64)) for year in (2006, 2035))


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


@dataclass(slots=True, eq=False)
class _Symbol:
    """One traded symbol: what is fixed before any bar."""

    root: str
    strategy: Strategy
    contract: Contract
    executed: Contract
    quantity: int
    sessions: Sessions
    params: Records
    rule: Rule
    warnings: list[str] = field(default_factory=list)


def run_backtest(
    source: BarSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    strict: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Outcome:
    """Run one back-test.

    Parameters
    ----------
    source : BarSource
    settings : Settings
    contracts : ContractMap
    roots : sequence of str, optional
        Symbols to trade; default: those of the settings, else all that the data hold.
    start, end : date, optional
        Session dates traded, both included. Earlier bars are observed, later ones not read.
    strict : bool
        Refuse data that would be repaired.
    progress : callable, optional
        Called with a symbol and the number of its minutes just read.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    if settings.model.mode != "off":
        raise ConfigError(
            f"model.mode {settings.model.mode!r}",
            expected="a model bundle for every traded symbol",
            found="none: this version cannot score models yet",
            remedy="use --model-mode off",
        )
    wanted = list(roots) if roots else list(settings.symbols) or None
    symbols = _Symbols(settings, contracts, start=start, end=end)
    if settings.risk.daily_loss_usd is not None:
        symbols.mark_ns = _mark_ns([symbols.get(root) for root in wanted or source.roots])
    series = _read(source, symbols, wanted, strict=strict, progress=progress)
    if settings.risk.daily_loss_usd is not None and _cuts_bars(series.values(), symbols.mark_ns):
        symbols.mark_ns = MINUTE_NS
        series = _read(source, symbols, wanted, strict=strict, progress=progress)
    traded = [symbols.get(root) for root in contracts.contracts if root in series]
    ordered = [series[symbol.root] for symbol in traded]
    if not any(map(_has_traded_bar, traded, ordered)):
        raise ConfigError(
            "dates to trade",
            expected="a session of the data",
            found=f"none from {start or 'the first'} to {end or 'the last'}",
            remedy="`ibs data check` tells which sessions there are",
        )
    return _decide(traded, ordered, settings)


def check_settings(settings: Settings, contracts: ContractMap) -> list[str]:
    """Check what only the contract map and the calendar can tell of settings.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap

    Returns
    -------
    list of str
        The symbols that the settings name, each of which could be traded. When they name none, the
        rule is checked against ES.

    Raises
    ------
    ConfigError
    """
    symbols = _Symbols(settings, contracts, start=None, end=None)
    for root in settings.symbols or ("ES",):
        symbols.get(root)
    return list(settings.symbols)


class _Symbols:
    """Symbols made on first sight: the data decide which there are."""

    def __init__(
        self,
        settings: Settings,
        contracts: ContractMap,
        *,
        start: date | None,
        end: date | None,
    ) -> None:
        self._settings = settings
        self._contracts = contracts
        self._span = (start, end)
        self._made: dict[str, _Symbol] = {}
        self.mark_ns = 0
        self.scratch = Scratch()
        for root, own in settings.symbols.items():
            check_symbol(root, own.execute, contracts)

    def get(self, root: str) -> _Symbol:
        if root not in self._made:
            self._made[root] = self._make(root)
        return self._made[root]

    def builder(self, root: str) -> SeriesBuilder:
        symbol = self.get(root)
        exits = symbol.strategy.exits
        plan = make_plan(
            symbol.rule.tf_ns,
            with_path=exits.protective is not None or self.mark_ns > 0,
            mark_ns=self.mark_ns,
            allow_nonpositive=symbol.contract.allow_nonpositive,
        )
        return SeriesBuilder(root, symbol.sessions, plan, self.scratch)

    def _make(self, root: str) -> _Symbol:
        settings, contract = self._settings, self._contracts.get(root)
        own = settings.symbols.get(root)
        strategy = settings.strategy_of(root)
        executed = self._contracts.get(own.execute) if own and own.execute else contract
        quantity = own.quantity if own else 1
        where = f"symbols.{root}.strategy" if own and own.strategy else "strategy"
        group = contract.session
        return _Symbol(
            root,
            strategy,
            contract,
            executed,
            quantity,
            load_sessions(group, _FIRST_NS, _LAST_NS),
            make_params(strategy, executed, quantity=quantity, costs=settings.costs, where=where),
            make_rule(strategy, contract, start=self._span[0], end=self._span[1], where=where),
        )


def _mark_ns(symbols: Sequence[_Symbol]) -> int:
    """Return how often portfolio risk must know a price inside bars; 0 when all bars end together."""
    if len({(symbol.rule.tf_ns, symbol.contract.session) for symbol in symbols}) < 2:
        return 0
    shortest = min(symbol.rule.tf_ns for symbol in symbols)
    return min(shortest, 5 * MINUTE_NS)  # every session opens and closes on five minutes


def _cuts_bars(series: Iterable[Series], mark_ns: int) -> bool:
    """Tell whether a slice falls inside another symbol's bar at an instant without a mark."""
    found = list(series)
    ends = np.unique(np.concatenate([item.bars["end_ns"] for item in found]))
    unmarked = ends[ends % mark_ns != 0] if mark_ns else ends
    for item in found:
        bar = np.searchsorted(item.bars["end_ns"], unmarked, side="left")
        inside = unmarked[bar < len(item.bars)]
        holding = item.bars[bar[bar < len(item.bars)]]
        if np.any((holding["first_ns"] < inside) & (inside < holding["end_ns"])):
            return True
    return False


def _read(
    source: BarSource,
    symbols: _Symbols,
    wanted: Sequence[str] | None,
    *,
    strict: bool,
    progress: Callable[[str, int], None] | None,
) -> dict[str, Series]:
    """Stream the minutes once; whatever root shows a fault is read again, sorted and repaired."""
    builders: dict[str, SeriesBuilder] = {}
    faulty: set[str] = set()
    for run in source.stream(wanted):
        if run.root in faulty:
            continue
        if run.root not in builders:
            builders[run.root] = symbols.builder(run.root)
        if run.irregular or not builders[run.root].add(run):
            faulty.add(run.root)
        if progress:
            progress(run.root, len(run.ts_ns))
    out = {}
    for root, first_look in builders.items():
        builder = first_look
        if root in faulty:
            builder = symbols.builder(root)
            runs, repairs = source.load(root, strict=strict)
            for run in runs:
                assert builder.add(run), f"repaired bars of {root} still break a law"
            symbols.get(root).warnings.extend(repairs.lines())
        out[root] = _checked(builder.finish(), symbols.get(root), strict=strict)
    return out


def _checked(series: Series, symbol: _Symbol, *, strict: bool) -> Series:
    tf_ns = symbol.rule.tf_ns
    if series.base_ns != NEVER and (series.base_ns > tf_ns or tf_ns % series.base_ns):
        raise ConfigError(
            f"signal bar {symbol.strategy.signal_bar!r} of {symbol.root}",
            expected=f"a multiple of the data's bars of {_width(series.base_ns)}",
            found=_width(tf_ns),
            remedy="choose a longer strategy.signal_bar or finer data",
        )
    if series.n_outside:
        line = f"{symbol.root}: {series.n_outside} minutes lie outside the session calendar; kept"
        if strict:
            raise DataError(
                f"minutes of {symbol.root}",
                expected="all inside the session calendar",
                found=f"{series.n_outside} outside",
                remedy="`ibs data check` lists them; run without --strict to keep them",
            )
        symbol.warnings.append(line)
    return _until(series, symbol)


def _has_traded_bar(symbol: _Symbol, series: Series) -> bool:
    dates = symbol.sessions.trade_date[series.bars["session"]]
    rule = symbol.rule
    return bool(np.any((dates >= rule.first_date) & (dates <= rule.last_date)))


def _until(series: Series, symbol: _Symbol) -> Series:
    """Forget the bars of sessions after the last traded date."""
    dates = symbol.sessions.trade_date
    keep = int(np.count_nonzero(dates[series.bars["session"]] <= symbol.rule.last_date))
    if keep == len(series.bars):
        return series
    days = series.days[dates[series.days["session"]] <= symbol.rule.last_date]
    return Series(
        series.root,
        series.bars[:keep],
        days,
        series.path,
        complete=True,
        instruments=series.instruments,
        n_minutes=series.n_minutes,
        n_outside=series.n_outside,
        base_ns=series.base_ns,
    )


def _decide(traded: Sequence[_Symbol], series: Sequence[Series], settings: Settings) -> Outcome:
    schedules, seen = [], []
    for symbol, bars in zip(traded, series, strict=True):
        schedule, signal = _observe(symbol, bars)
        schedules.append(schedule)
        seen.append(signal)
    feeds = _feeds(traded, series)
    params = np.concatenate([symbol.params for symbol in traded])
    n_candidates = sum(int((signal["gate"] == signals.CANDIDATE).sum()) for signal in seen)
    trades = np.zeros(n_candidates + 1, positions.TRADE)
    decisions = np.zeros(3 * n_candidates + 1, portfolio.DECISION)
    n = np.zeros(2, np.int64)
    book = positions.new_positions(len(traded))
    portfolio.decide_many(
        params,
        make_risk(settings.risk, by_score=settings.model.mode == "veto")[0],
        book,
        portfolio.new_desk()[0],
        feeds,
        np.concatenate([item.bars for item in series]),
        np.concatenate(schedules),
        np.concatenate(seen),
        np.zeros(0),
        np.concatenate([item.path for item in series]),
        np.concatenate([symbol.sessions.open_ns for symbol in traded]),
        trades,
        decisions,
        n,
    )
    return _outcome(traded, series, seen, settings, trades[: n[0]], decisions[: n[1]], book)


def _observe(symbol: _Symbol, series: Series) -> tuple[Records, Records]:
    bars = series.bars
    seams = bars["seam_ns"][bars["seam_ns"] > 0]
    schedule = make_schedule(bars, symbol.sessions, symbol.rule, seams)
    signal = np.zeros(len(bars), signals.SIGNAL)
    closed = len(series.closed)
    signal["gate"][closed:] = signals.NOT_TRADED
    signals.observe_many(
        symbol.params[0],
        signals.new_state()[0],
        bars[:closed],
        series.days,
        schedule,
        signal,
        np.zeros((0, features.N_FEATURES)),
    )
    if not series.complete:  # it fills and protects, but decides nothing
        bars["end_ns"][-1] = NEVER
    return schedule, signal


def _feeds(traded: Sequence[_Symbol], series: Sequence[Series]) -> Records:
    feeds = np.zeros(len(traded), portfolio.FEED)
    bar = path = session = 0
    for feed, symbol, item in zip(feeds, traded, series, strict=True):
        feed["bar"], feed["path"], feed["path_offset"] = bar, path, path
        feed["session"] = session
        bar, path = bar + len(item.bars), path + len(item.path)
        session += len(symbol.sessions.open_ns)
        feed["stop"], feed["session_stop"] = bar, session
    return feeds


def _outcome(
    traded: Sequence[_Symbol],
    series: Sequence[Series],
    seen: Sequence[Records],
    settings: Settings,
    trades: Records,
    decisions: Records,
    book: Records,
) -> Outcome:
    lines = [_line(symbol, item, settings) for symbol, item in zip(traded, series, strict=True)]
    costs = {line.root: line.costs for line in lines}
    frame = trades_frame(trades, lines)
    marks = pl.concat(
        marks_frame(item, symbol.sessions, symbol.rule.first_date)
        for symbol, item in zip(traded, series, strict=True)
    )
    held = open_positions(book, lines)
    equity = equity_curve(frame, marks, held, capital=settings.capital, contracts=costs)
    ticks = {line.root: line.executed.tick_value_usd for line in lines}
    stats = compute(frame, equity, capital=settings.capital, tick_values=ticks)
    stats["blocked"] = {
        symbol.root: blocked_counts(signal["gate"], list(symbol.strategy.filters))
        for symbol, signal in zip(traded, seen, strict=True)
    }
    stats["open_positions"] = value_open_positions(held, marks, costs)
    stats["data"] = {item.root: _data_facts(item, symbol) for symbol, item in zip(traded, series, strict=True)}
    return Outcome(
        frame,
        decisions_frame(decisions, lines),
        equity,
        stats,
        {item.root: bars_frame(item) for item in series},
        [line for symbol in traded for line in symbol.warnings],
    )


def _line(symbol: _Symbol, series: Series, settings: Settings) -> Line:
    executed = symbol.executed
    costs = PointCosts(
        point_value_usd=executed.point_value_usd,
        commission_per_side_usd=settings.costs.commission_per_side,
        slippage_per_fill_usd=settings.costs.slippage_ticks * executed.tick_value_usd,
    )
    return Line(
        symbol.root,
        quantity=symbol.quantity,
        executed=executed,
        costs=costs,
        instruments=series.instruments,
    )


def _data_facts(series: Series, symbol: _Symbol) -> dict[str, Any]:
    seams = series.bars["seam_ns"][series.bars["seam_ns"] > 0]
    return {
        "minutes": series.n_minutes,
        "minutes_outside_calendar": series.n_outside,
        "bar_width_s": series.base_ns // 10**9 if series.base_ns != NEVER else None,
        "signal_bars": len(series.closed),
        "sessions": len(series.days),
        "rolls": len(seams),
        "executes": symbol.executed.root,
        "quantity": symbol.quantity,
    }


def _width(ns: int) -> str:
    return f"{ns // MINUTE_NS}m" if ns % MINUTE_NS == 0 else f"{ns // 10**9}s"
