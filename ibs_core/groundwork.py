"""What every strategy over the same bars shares: the bars end to end, their schedule, their feature columns.

Made once, or taken from the bar cache; what a strategy adds is a pass of gates and the decisions.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core import replay, signals
from ibs_core.bar_cache import Drawer, drawer_of
from ibs_core.bars import joined
from ibs_core.errors import ConfigError
from ibs_core.feeds import lay_beside
from ibs_core.reading import Key, feed_of, feeds_of, read_series
from ibs_core.schedule import make_schedule
from ibs_core.universe import Universe
from ibs_core.wiring import digest_of_node, memory_of, new_state, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from ibs_core.bar_cache import Shelf
    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.feeds import Feed
    from ibs_core.formulas import Node
    from ibs_core.market_data import MinuteSource
    from ibs_core.series import Series
    from ibs_core.universe import Instrument, Model, Symbol
    from ibs_core.wiring import Wiring

__all__ = ["Gathered", "Ground", "Laid", "gates", "gather", "lay_ground"]


@dataclass(frozen=True, eq=False)
class Gathered:
    """What a back-test reads before it decides anything.

    Attributes
    ----------
    symbols : sequence of Symbol
        In contract-map order.
    series : sequence of Series
        Of each symbol.
    read : mapping of Key to (Instrument, Series)
        Of each symbol, and of what features read.
    warnings : list of str
    drawer : Drawer
        For what is made of exactly these.
    """

    symbols: Sequence[Symbol]
    series: Sequence[Series]
    read: Mapping[Key, tuple[Instrument, Series]]
    warnings: list[str]
    drawer: Drawer

    @cached_property
    def feeds(self) -> dict[Key, Feed]:
        """What features may read of each; where all features are kept, nobody asks."""
        return {key: feed_of(series, own) for key, (own, series) in self.read.items()}

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
        return replace(self, series=series, drawer=Drawer())


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


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Arrays that strategies share; none of them writes to these.

    Attributes
    ----------
    laid : Laid
    schedule : (n_bars,) SCHEDULE
    n_days : (n_bars,) int64
        Sessions that each symbol's features had taken by each of its bars.
    columns : tuple of (n_columns, n_closed) float64
        Features of each symbol's closed bars; none where models are asked, whose features are observed with them.
    """

    laid: Laid
    schedule: Records
    n_days: Ints
    columns: tuple[Floats, ...]

    def of(self, i: int) -> slice:
        """Return the place of a symbol's bars.

        Parameters
        ----------
        i : int

        Returns
        -------
        slice
        """
        start = self.laid.starts[i]
        return slice(int(start["bar"]), int(start["stop"]))


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
    shelf: Shelf | None = None,
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
    shelf : Shelf, optional
        Where bars are kept from one run to the next.
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
    series, drawer = read_series(
        source,
        universe,
        wanted,
        risk_inside_bars=settings.risk.daily_loss_usd is not None,
        each_minute=each_minute,
        strict=strict,
        drawer=drawer_of(shelf, source),
        progress=progress,
    )
    found = [root for root in contracts.contracts if root in (wanted or source.roots)]
    traded = [universe.get(root) for root in found]
    ordered = [series[Key(symbol.root, symbol.rule.tf_ns)] for symbol in traded]
    if not any(map(_has_traded_bar, traded, ordered)):
        raise ConfigError(
            "dates to trade",
            expected="a session of the data",
            found=f"none from {start or 'the first'} to {end or 'the last'}",
            remedy="`ibs data check` tells which sessions there are",
        )
    read = [universe.instrument(key.root) for key in series if key.root not in found]
    warnings = [line for each in (*traded, *read) for line in each.warnings]
    by_key = {key: (universe.instrument(key.root), item) for key, item in series.items()}
    return Gathered(traded, ordered, by_key, list(dict.fromkeys(warnings)), drawer)


def lay_ground(symbols: Sequence[Symbol], gathered: Gathered) -> Ground:
    """Make what strategies share, or take what is kept of it.

    Parameters
    ----------
    symbols : sequence of Symbol
        As gathered, or of other settings that read the same bars.
    gathered : Gathered

    Returns
    -------
    Ground
    """
    asks_models = any(symbol.model for symbol in symbols)
    schedule, n_days = _schedules(symbols, gathered, with_cold=not asks_models)
    columns = () if asks_models else _columns(symbols, gathered, schedule)
    return Ground(_lay(symbols, gathered.series), schedule, n_days, columns)


def gates(ground: Ground, params: Records, seen: Records) -> list[int]:
    """Try every closed bar.

    Parameters
    ----------
    ground : Ground
    params : (n_symbols,) PARAMS
    seen : (n_bars,) SIGNAL, written

    Returns
    -------
    list of int
        Candidates of each symbol.
    """
    counts = []
    for i, columns in enumerate(ground.columns):
        own, n = ground.of(i), columns.shape[1]
        found = seen[own]
        schedule = ground.schedule[own]
        counts.append(signals.gate_many(params[i], ground.n_days[own], schedule, columns, found))
        found["gate"][n:] = signals.NOT_TRADED
    return counts


def _has_traded_bar(symbol: Symbol, series: Series) -> bool:
    dates = symbol.sessions.trade_date[series.bars["session"]]
    rule = symbol.rule
    return bool(np.any((dates >= rule.first_date) & (dates <= rule.last_date)))


def _lay(symbols: Sequence[Symbol], series: Sequence[Series]) -> Laid:
    """Lay the bars of all symbols end to end."""
    return Laid(
        joined([item.bars for item in series]),
        joined([item.path for item in series]),
        joined([symbol.session_table for symbol in symbols]),
        _starts(symbols, series),
    )


def _starts(traded: Sequence[Symbol], series: Sequence[Series]) -> Records:
    starts = np.zeros(len(traded), replay.FEED)
    bar = path = session = 0
    for feed, symbol, item in zip(starts, traded, series, strict=True):
        feed["bar"], feed["path"], feed["path_offset"] = bar, path, path
        feed["session"] = session
        bar, path = bar + len(item.bars), path + len(item.path)
        session += len(symbol.sessions.open_ns)
        feed["stop"], feed["session_stop"] = bar, session
    return starts


def _schedules(
    symbols: Sequence[Symbol], gathered: Gathered, *, with_cold: bool
) -> tuple[Records, Ints]:
    """Return the schedule of all bars, and the sessions taken by each."""
    read = [_read_by(symbol.wiring) if with_cold else None for symbol in symbols]
    drawer = gathered.drawer.within(rules=[astuple(each.rule) for each in symbols], cold=read)
    if kept := drawer.find("schedule"):
        return kept.array("schedule", signals.SCHEDULE), kept.array("n_days", np.dtype(np.int64))
    stops = np.cumsum([len(series.bars) for series in gathered.series])
    schedule, n_days = np.zeros(stops[-1], signals.SCHEDULE), np.zeros(stops[-1], np.int64)
    for symbol, series, stop in zip(symbols, gathered.series, stops, strict=True):
        mine = slice(stop - len(series.bars), stop)
        out = schedule[mine]
        make_schedule(series.bars, symbol.sessions, symbol.rule, series.seams, out=out)
        if with_cold and symbol.wiring.feeds:
            own, others = _own(symbol, gathered), feeds_of(symbol, gathered.feeds)
            beside = lay_beside(symbol.wiring, own, others, symbol.rule.tf_ns)
            out["feeds_cold"][: len(own.bars)] = beside.cold
        ends = series.days["end_ns"], series.bars["end_ns"]
        n_days[mine] = np.searchsorted(*ends, side="right")
    drawer.put("schedule", _told(symbols), {"schedule": [schedule], "n_days": [n_days]})
    return schedule, n_days


def _read_by(wiring: Wiring) -> list[Any]:
    """Tell what decides whether the instruments that features read are cold."""
    lookups = [[each.root, each.side, each.node.full] for each in wiring.lookups]
    return [lookups, dict(wiring.pair_on)]


def _columns(
    symbols: Sequence[Symbol], gathered: Gathered, schedule: Records
) -> tuple[Floats, ...]:
    """Return the feature columns of each symbol: each feature is kept for itself."""
    n_closed = [len(series.closed) for series in gathered.series]
    names = [[digest_of_node(node) for node in symbol.wiring.formulas] for symbol in symbols]
    users = {
        name: [i for i in range(len(symbols)) if name in names[i]]
        for name in dict.fromkeys(name for each in names for name in each)
    }
    made: dict[tuple[int, str], Floats] = {}
    drawers = {
        name: gathered.drawer.within(
            feature=name, of=[[symbols[i].root, symbols[i].rule.last_date] for i in users[name]]
        )
        for name in users
    }
    for name, drawer in drawers.items():
        if kept := drawer.find("feature"):
            stops = np.cumsum([n_closed[i] for i in users[name]])
            parts = np.split(kept.array("feature", np.dtype(np.float64)), stops[:-1])
            made |= {(i, name): part for i, part in zip(users[name], parts, strict=True)}
    missing = [name for name in users if (users[name][0], name) not in made]
    first = 0
    for i, symbol in enumerate(symbols):
        nodes = {
            name: node
            for name, node in zip(names[i], symbol.wiring.formulas, strict=True)
            if name in missing
        }
        dates = schedule["calendar"][first : first + n_closed[i]]
        first += len(gathered.series[i].bars)
        if nodes:
            columns = _computed(symbol, nodes.values(), gathered, dates)
            made |= {(i, name): column for name, column in zip(nodes, columns, strict=True)}
    for name in missing:
        parts = [made[i, name] for i in users[name]]
        drawers[name].put("feature", _told([symbols[i] for i in users[name]]), {"feature": parts})
    return tuple(np.stack([made[i, name] for name in names[i]]) for i in range(len(symbols)))


def _computed(symbol: Symbol, nodes: Iterable[Node], gathered: Gathered, dates: Records) -> Floats:
    """Compute some of a symbol's features."""
    own, wiring = _own(symbol, gathered), wire(nodes)
    beside = lay_beside(wiring, own, feeds_of(symbol, gathered.feeds), symbol.rule.tf_ns)
    rows = np.empty((len(own.bars), len(wiring.formulas)))
    signals.features_many(
        wiring.graph,
        memory_of(new_state(wiring.graph.bar)),
        memory_of(new_state(wiring.graph.day)),
        own.bars,
        own.days,
        np.ascontiguousarray(dates),
        beside.foreign,
        beside.day_pair,
        rows,
    )
    return np.ascontiguousarray(rows.T)


def _own(symbol: Symbol, gathered: Gathered) -> Feed:
    return gathered.feeds[Key(symbol.root, symbol.rule.tf_ns)]


def _told(symbols: Sequence[Symbol]) -> dict[str, Any]:
    """Tell whose file this is, for a list of kept files."""
    widths = {symbol.strategy.signal_bar for symbol in symbols}
    return {"symbols": [symbol.root for symbol in symbols], "widths": sorted(widths)}
