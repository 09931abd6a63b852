"""The back-test driver: files to series, series to signals, signals to trades, one symbol at a time.

Only bars of the signal timeframe are ever held; the minutes stream past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibs_core import portfolio, positions, replay, signals
from ibs_core.bars import NEVER, joined
from ibs_core.errors import ConfigError
from ibs_core.ledger import line_of, trades_frame
from ibs_core.observer import Observer
from ibs_core.parameters import make_risk
from ibs_core.reading import Key, feed_of, feeds_of, read_series
from ibs_core.schedule import make_schedule
from ibs_core.universe import Model, Symbol, Universe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    import polars as pl

    from ibs_core.bars import Ints
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.feeds import Feed
    from ibs_core.ledger import Line
    from ibs_core.market_data import MinuteSource
    from ibs_core.series import Series

__all__ = ["Gathered", "Laid", "Traded", "decide", "gather", "lay", "trade"]

Records = NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Traded:
    """What the engine decided, as records.

    Attributes
    ----------
    symbols : sequence
        What was fixed before any bar, in contract-map order.
    series : sequence of Series
    schedules : sequence of (n_bars,) SCHEDULE
    signals : sequence of (n_bars,) SIGNAL
    lines : sequence of Line
    trade_records : (n_trades,) TRADE
    decision_records : (n_decisions,) DECISION
    book : (n_symbols,) POSITION
        Where every position stands at the end.
    warnings : list of str
        What a reader of the result must know of the data, those that features read included.
    """

    symbols: Sequence[Symbol]
    series: Sequence[Series]
    schedules: Sequence[Records]
    signals: Sequence[Records]
    lines: Sequence[Line]
    trade_records: Records
    decision_records: Records
    book: Records
    warnings: list[str]

    def trades(self) -> pl.DataFrame:
        """Return the trade table."""
        return trades_frame(self.trade_records, self.lines)


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What a back-test reads before it decides anything.

    Attributes
    ----------
    symbols : sequence of Symbol
        In contract-map order.
    series : sequence of Series
        Of each symbol.
    feeds : mapping of Key to Feed
        Of each symbol, and of what features read.
    warnings : list of str
    """

    symbols: Sequence[Symbol]
    series: Sequence[Series]
    feeds: Mapping[Key, Feed]
    warnings: list[str]

    def with_seams(self, seams: Mapping[str, Ints]) -> Gathered:
        """Return the same with other roll instants, of the roots for which there are any.

        Parameters
        ----------
        seams : Mapping of str to (n_seams,) int64, UTC ns

        Returns
        -------
        Gathered
        """
        series = [replace(item, seams=seams.get(item.root, item.seams)) for item in self.series]
        return replace(self, series=series)


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """Bars of all symbols, symbol after symbol.

    Attributes
    ----------
    bars : (n_bars,) BAR
    path : (n_path,) PATH
    sessions : (n_sessions,) SESSION
    starts : (n_symbols,) FEED
        Where each symbol's begin and end.
    """

    bars: Records
    path: Records
    sessions: Records
    starts: Records


def trade(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    strict: bool = False,
    seams: Mapping[str, Ints] | None = None,
    models: Callable[[str], Model] | None = None,
    inputs: Records | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Traded:
    """Replay bars into trades: everything up to the trade table.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
    contracts : ContractMap
    roots : sequence of str, optional
        Symbols to trade; default: those of the settings, else all that the data hold.
    start, end : date, optional
        Session dates traded, both included. Earlier bars are observed, later ones not read.
    strict : bool
        Refuse data that would be repaired.
    seams : Mapping of str to (n_seams,) int64, UTC ns, optional
        Roll instants by root where a roll table knows more than the data; default: those of the data.
    models : callable, optional
        Gives the model of a root; asked only where the settings' mode is not off.
    inputs : (n_inputs,) INPUT, by time, optional
        What only live knew.
    progress : callable, optional
        Called with a symbol and the number of its minutes just read.

    Returns
    -------
    Traded

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    gathered = gather(
        *(source, settings, contracts),
        roots=roots,
        start=start,
        end=end,
        strict=strict,
        models=models,
        each_minute=inputs is not None,
        progress=progress,
    )
    if seams is not None:
        gathered = gathered.with_seams(seams)
    told = np.zeros(0, portfolio.INPUT) if inputs is None else inputs
    return _traded(gathered, settings, told)


def gather(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    strict: bool = False,
    models: Callable[[str], Model] | None = None,
    each_minute: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Gathered:
    """Read the bars of everything that is traded or read.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
    contracts : ContractMap
    roots : sequence of str, optional
    start, end : date, optional
    strict : bool
    models : callable, optional
        As ``trade`` takes them.
    each_minute : bool
        Keep every minute.
    progress : callable, optional

    Returns
    -------
    Gathered

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    off = settings.model.mode == "off"
    if not off and models is None:
        raise ConfigError(
            f"model.mode {settings.model.mode!r}",
            expected="a model bundle for every traded symbol",
            found="none",
            remedy="train and promote one (`ibs model`), or use --model-mode off",
        )
    wanted = list(roots) if roots else list(settings.symbols) or None
    universe = Universe(settings, contracts, start=start, end=end, models=None if off else models)
    series = read_series(
        source,
        universe,
        wanted,
        risk_inside_bars=settings.risk.daily_loss_usd is not None,
        each_minute=each_minute,
        strict=strict,
        progress=progress,
    )
    found = [root for root in contracts.contracts if root in (wanted or source.roots)]
    traded = [universe.get(root) for root in found]
    ordered = [series[Key(symbol.root, symbol.rule.tf_ns)] for symbol in traded]
    feeds = {key: feed_of(item, universe.instrument(key.root)) for key, item in series.items()}
    if not any(map(_has_traded_bar, traded, ordered)):
        raise ConfigError(
            "dates to trade",
            expected="a session of the data",
            found=f"none from {start or 'the first'} to {end or 'the last'}",
            remedy="`ibs data check` tells which sessions there are",
        )
    read = [universe.instrument(key.root) for key in series if key.root not in found]
    warnings = [line for each in (*traded, *read) for line in each.warnings]
    return Gathered(traded, ordered, feeds, list(dict.fromkeys(warnings)))


def _has_traded_bar(symbol: Symbol, series: Series) -> bool:
    dates = symbol.sessions.trade_date[series.bars["session"]]
    rule = symbol.rule
    return bool(np.any((dates >= rule.first_date) & (dates <= rule.last_date)))


def _traded(gathered: Gathered, settings: Settings, inputs: Records) -> Traded:
    symbols, series = gathered.symbols, gathered.series
    stops = np.cumsum([len(item.bars) for item in series])
    schedule = np.zeros(stops[-1], signals.SCHEDULE)
    seen = np.zeros(stops[-1], signals.SIGNAL)
    for symbol, item, stop in zip(symbols, series, stops, strict=True):
        own = slice(stop - len(item.bars), stop)
        _observe(symbol, item, gathered.feeds, schedule[own], seen[own])
    params = joined([symbol.params for symbol in symbols])
    risk = make_risk(settings.risk, veto=settings.model.mode == "veto")
    made = decide(lay(symbols, series), params, risk, schedule, seen, inputs)
    lines = [
        line_of(symbol, item.instruments, settings.costs)
        for symbol, item in zip(symbols, series, strict=True)
    ]
    known, found = (np.split(records, stops[:-1]) for records in (schedule, seen))
    return Traded(symbols, series, known, found, lines, *made, gathered.warnings)


def lay(symbols: Sequence[Symbol], series: Sequence[Series]) -> Laid:
    """Lay the bars of all symbols end to end.

    Parameters
    ----------
    symbols : sequence of Symbol
    series : sequence of Series
        Of each symbol. A last bar that the data do not complete ends NEVER.

    Returns
    -------
    Laid
    """
    return Laid(
        joined([item.bars for item in series]),
        joined([item.path for item in series]),
        joined([symbol.session_table for symbol in symbols]),
        _feeds(symbols, series),
    )


def decide(
    laid: Laid,
    params: Records,
    risk: Records,
    schedule: Records,
    seen: Records,
    inputs: Records,
) -> tuple[Records, Records, Records]:
    """Replay all symbols, slice by slice.

    Parameters
    ----------
    laid : Laid
    params : (n_symbols,) PARAMS
    risk : (1,) RISK
    schedule, seen : (n_bars,) SCHEDULE, SIGNAL
    inputs : (n_inputs,) INPUT

    Returns
    -------
    (n_trades,) TRADE
    (n_decisions,) DECISION
    (n_symbols,) POSITION
        Where every position stands at the end.
    """
    n_candidates = int(np.count_nonzero(seen["gate"] == signals.CANDIDATE))
    trades = np.zeros(n_candidates + 1, positions.TRADE)
    decisions = np.zeros(3 * n_candidates + 1, portfolio.DECISION)
    n = np.zeros(3, np.int64)
    book = positions.new_positions(len(params))
    replay.decide_many(
        NEVER,
        params,
        risk[0],
        book,
        portfolio.new_desk()[0],
        laid.starts.copy(),
        laid.bars,
        schedule,
        seen,
        laid.path,
        laid.sessions,
        inputs,
        trades,
        decisions,
        n,
    )
    return trades[: n[0]], decisions[: n[1]], book


def _observe(
    symbol: Symbol,
    series: Series,
    feeds: Mapping[Key, Feed],
    schedule: Records,
    seen: Records,
) -> None:
    """Write one symbol's schedule and signals into their places."""
    bars, closed = series.bars, len(series.closed)
    make_schedule(bars, symbol.sessions, symbol.rule, series.seams, out=schedule)
    own = feeds[Key(symbol.root, symbol.rule.tf_ns)]
    others = feeds_of(symbol, feeds)
    Observer(symbol).observe(own, others, schedule[:closed], seen[:closed], n_days=len(series.days))
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
