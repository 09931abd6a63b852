"""The back-test driver: files to series, series to signals, signals to trades, one symbol at a time.

Only bars of the signal timeframe are ever held; the minutes stream past.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibs_core import portfolio, positions, replay, signals
from ibs_core.bars import MINUTE_NS, NEVER, joined
from ibs_core.errors import ConfigError, DataError
from ibs_core.kernels import features
from ibs_core.ledger import Line, trades_frame
from ibs_core.notes import notes_on
from ibs_core.parameters import make_risk
from ibs_core.report.equity import PointCosts
from ibs_core.schedule import make_schedule
from ibs_core.series import Scratch, Series, SeriesBuilder, make_plan
from ibs_core.universe import Symbol, Universe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    import polars as pl

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource

__all__ = ["Traded", "trade"]

Records = NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Traded:
    """What the engine decided, as records.

    Attributes
    ----------
    symbols : sequence
        What was fixed before any bar, in contract-map order.
    series : sequence of Series
    signals : sequence of (n_bars,) SIGNAL
    lines : sequence of Line
    trade_records : (n_trades,) TRADE
    decision_records : (n_decisions,) DECISION
    book : (n_symbols,) POSITION
        Where every position stands at the end.
    """

    symbols: Sequence[Symbol]
    series: Sequence[Series]
    signals: Sequence[Records]
    lines: Sequence[Line]
    trade_records: Records
    decision_records: Records
    book: Records

    def trades(self) -> pl.DataFrame:
        """Return the trade table."""
        return trades_frame(self.trade_records, self.lines)


def trade(
    source: BarSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    strict: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Traded:
    """Replay bars into trades: everything up to the trade table.

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
    Traded

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
    universe = Universe(settings, contracts, start=start, end=end)
    reader = _Reader(source, universe, wanted, strict=strict, progress=progress)
    if settings.risk.daily_loss_usd is None:
        series = reader.read(mark_ns=0)
    else:
        mark_ns = _mark_ns([universe.get(root) for root in wanted or source.roots])
        series = reader.read(mark_ns=mark_ns)
        if _cuts_bars(series.values(), mark_ns):
            series = reader.read(mark_ns=MINUTE_NS)
    traded = [universe.get(root) for root in contracts.contracts if root in series]
    ordered = [series[symbol.root] for symbol in traded]
    if not any(map(_has_traded_bar, traded, ordered)):
        raise ConfigError(
            "dates to trade",
            expected="a session of the data",
            found=f"none from {start or 'the first'} to {end or 'the last'}",
            remedy="`ibs data check` tells which sessions there are",
        )
    return _decide(traded, ordered, settings)


def _mark_ns(symbols: Sequence[Symbol]) -> int:
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


class _Reader:
    """Streams the minutes once; whatever root shows a fault is read again, sorted and repaired."""

    def __init__(
        self,
        source: BarSource,
        universe: Universe,
        wanted: Sequence[str] | None,
        *,
        strict: bool,
        progress: Callable[[str, int], None] | None,
    ) -> None:
        self._source = source
        self._universe = universe
        self._wanted = wanted
        self._strict = strict
        self._progress = progress
        self._scratch = Scratch()

    def read(self, *, mark_ns: int) -> dict[str, Series]:
        """Return the series of every root, in the order of first sight."""
        builders: dict[str, SeriesBuilder] = {}
        faulty: set[str] = set()
        for run in self._source.stream(self._wanted):
            if run.root in faulty:
                continue
            if run.root not in builders:
                builders[run.root] = self._builder(run.root, mark_ns)
            if run.irregular or not builders[run.root].add(run):
                faulty.add(run.root)
            if self._progress:
                self._progress(run.root, len(run.ts_ns))
        out = {}
        for root, builder in builders.items():
            symbol = self._universe.get(root)
            symbol.warnings.clear()
            series = self._repaired(symbol, mark_ns) if root in faulty else builder.finish()
            out[root] = _checked(series, symbol, strict=self._strict)
        return out

    def _repaired(self, symbol: Symbol, mark_ns: int) -> Series:
        builder = self._builder(symbol.root, mark_ns)
        runs, repairs = self._source.load(symbol.root, strict=self._strict)
        for run in runs:
            taken = builder.add(run)
            assert taken, f"repaired bars of {symbol.root} still break a law"
        symbol.warnings.extend(repairs.lines())
        return builder.finish()

    def _builder(self, root: str, mark_ns: int) -> SeriesBuilder:
        symbol = self._universe.get(root)
        plan = make_plan(
            symbol.rule.tf_ns,
            with_path=symbol.strategy.exits.protective is not None or mark_ns > 0,
            mark_ns=mark_ns,
            allow_nonpositive=symbol.contract.allow_nonpositive,
        )
        return SeriesBuilder(root, symbol.session_table, plan, self._scratch)


def _checked(series: Series, symbol: Symbol, *, strict: bool) -> Series:
    tf_ns = symbol.rule.tf_ns
    if series.base_ns != NEVER and (series.base_ns > tf_ns or tf_ns % series.base_ns):
        raise ConfigError(
            f"signal bar {symbol.strategy.signal_bar!r} of {symbol.root}",
            expected=f"a multiple of the data's bars of {_width(series.base_ns)}",
            found=_width(tf_ns),
            remedy="choose a longer strategy.signal_bar or finer data",
        )
    _refuse_misplaced(series, symbol)
    if series.n_outside and strict:
        raise DataError(
            f"minutes of {symbol.root}",
            expected="all inside the session calendar",
            found=f"{series.n_outside} outside",
            remedy="`ibs data check` lists them; run without --strict to keep them",
        )
    symbol.warnings.extend(notes_on(series, symbol))
    return _until(series, symbol)


def _has_traded_bar(symbol: Symbol, series: Series) -> bool:
    dates = symbol.sessions.trade_date[series.bars["session"]]
    rule = symbol.rule
    return bool(np.any((dates >= rule.first_date) & (dates <= rule.last_date)))


def _refuse_misplaced(series: Series, symbol: Symbol) -> None:
    """Refuse coarse bars that reach beyond the signal bar they open in: it would be known too early."""
    bars = series.closed
    close = symbol.sessions.close_ns[bars["session"]]
    known = np.minimum(bars["last_ns"] + series.base_ns, np.maximum(close, bars["last_ns"]))
    late = np.flatnonzero((known > bars["end_ns"]) & (bars["start_ns"] < close))
    if series.base_ns != NEVER and len(late):
        moment = np.datetime64(int(bars["last_ns"][late[0]]), "ns")
        raise DataError(
            f"bars of {symbol.root} with a width of {_width(series.base_ns)}",
            expected=f"each inside one {symbol.strategy.signal_bar} signal bar, counted from the session's open",
            found=f"the bar at {moment}Z reaches beyond it",
            remedy="use finer data, or bars that start at the session's open",
        )


def _until(series: Series, symbol: Symbol) -> Series:
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
        seams=series.seams,
        instruments=series.instruments,
        n_minutes=series.n_minutes,
        n_outside=series.n_outside,
        base_ns=series.base_ns,
    )


def _decide(
    traded: Sequence[Symbol],
    series: Sequence[Series],
    settings: Settings,
) -> Traded:
    stops = np.cumsum([len(item.bars) for item in series])
    schedule = np.zeros(stops[-1], signals.SCHEDULE)
    seen = np.zeros(stops[-1], signals.SIGNAL)
    for symbol, item, stop in zip(traded, series, stops, strict=True):
        own = slice(stop - len(item.bars), stop)
        _observe(symbol, item, schedule[own], seen[own])
    n_candidates = int(np.count_nonzero(seen["gate"] == signals.CANDIDATE))
    trades = np.zeros(n_candidates + 1, positions.TRADE)
    decisions = np.zeros(3 * n_candidates + 1, portfolio.DECISION)
    n = np.zeros(2, np.int64)
    book = positions.new_positions(len(traded))
    replay.decide_many(
        joined([symbol.params for symbol in traded]),
        make_risk(settings.risk, by_score=settings.model.mode == "veto")[0],
        book,
        portfolio.new_desk()[0],
        _feeds(traded, series),
        joined([item.bars for item in series]),
        schedule,
        seen,
        np.zeros(0),
        joined([item.path for item in series]),
        joined([symbol.session_table for symbol in traded]),
        trades,
        decisions,
        n,
    )
    lines = [_line(symbol, item, settings) for symbol, item in zip(traded, series, strict=True)]
    found = np.split(seen, stops[:-1])
    return Traded(traded, series, found, lines, trades[: n[0]], decisions[: n[1]], book)


def _observe(symbol: Symbol, series: Series, schedule: Records, seen: Records) -> None:
    """Write one symbol's schedule and signals into their places."""
    bars, closed = series.bars, len(series.closed)
    make_schedule(bars, symbol.sessions, symbol.rule, series.seams, out=schedule)
    signals.observe_many(
        symbol.params[0],
        signals.new_state()[0],
        bars[:closed],
        series.days,
        schedule,
        seen,
        np.zeros((0, features.N_FEATURES)),
    )
    if not series.complete:  # it fills and protects, but decides nothing
        seen["gate"][closed:] = signals.NOT_TRADED
        bars["end_ns"][closed:] = NEVER


def _feeds(traded: Sequence[Symbol], series: Sequence[Series]) -> Records:
    feeds = np.zeros(len(traded), replay.FEED)
    bar = path = session = 0
    for feed, symbol, item in zip(feeds, traded, series, strict=True):
        feed["bar"], feed["path"], feed["path_offset"] = bar, path, path
        feed["session"] = session
        bar, path = bar + len(item.bars), path + len(item.path)
        session += len(symbol.sessions.open_ns)
        feed["stop"], feed["session_stop"] = bar, session
    return feeds


def _line(symbol: Symbol, series: Series, settings: Settings) -> Line:
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
        instruments=tuple(_executed(name, symbol) for name in series.instruments),
    )


def _width(ns: int) -> str:
    return f"{ns // MINUTE_NS}m" if ns % MINUTE_NS == 0 else f"{ns // 10**9}s"


def _executed(instrument: str, symbol: Symbol) -> str:
    """Name the contract that is traded: the same expiry of the executed root."""
    return symbol.executed.root + instrument.removeprefix(symbol.root)
