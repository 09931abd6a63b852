"""Files to series: the minutes stream past once, and every bar that a run needs is built on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ibs_core.bars import MINUTE_NS, NEVER, TIMEFRAMES_NS
from ibs_core.errors import ConfigError, DataError
from ibs_core.feeds import Feed
from ibs_core.notes import notes_on, outside_note
from ibs_core.series import Scratch, Series, SeriesBuilder, make_plan
from ibs_core.universe import Symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ibs_core.contracts import Contract
    from ibs_core.market_data import MinuteSource
    from ibs_core.universe import Instrument, Universe
    from ibs_core.wiring import Wiring

__all__ = ["Key", "feed_of", "feeds_of", "keys_of", "read_feeds", "read_series"]


class Key(NamedTuple):
    """What one series is: the bars of a root, at one width.

    Attributes
    ----------
    root : str
    tf_ns : int
    """

    root: str
    tf_ns: int


def read_series(
    source: MinuteSource,
    universe: Universe,
    traded: Sequence[str] | None,
    *,
    risk_inside_bars: bool = False,
    each_minute: bool = False,
    strict: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> dict[Key, Series]:
    """Read the bars of traded symbols, and of what their features read.

    Parameters
    ----------
    source : MinuteSource
    universe : Universe
    traded : sequence of str, optional
        Default: all roots that the data hold.
    risk_inside_bars : bool
        Keep the minutes that portfolio risk needs at other symbols' boundaries.
    each_minute : bool
        Keep every minute: what live told lets orders fill, and the loss be looked at, at any of them.
    strict : bool
        Refuse data that would be repaired.
    progress : callable, optional
        Called with a root and the number of its minutes just read.

    Returns
    -------
    dict of Key to Series
        Of each traded symbol at its width, and of each other at the width of whoever reads it.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    first = bool(universe.asked.feeds) or universe.has_models or risk_inside_bars or each_minute
    known = list(traded or source.roots) if first else traded
    symbols = [universe.get(root) for root in known or ()]
    keys = {
        key
        for each in symbols
        for key in keys_of(each.wiring, each.contract, each.rule.tf_ns).values()
    }
    _refuse_absent(source, symbols)
    reader = _Reader(
        source,
        universe,
        None if known is None else frozenset(known),
        frozenset(keys),
        volume=universe.asked.reads_volume or any(each.wiring.reads_volume for each in symbols),
        strict=strict,
        progress=progress,
    )
    if each_minute:
        return reader.read(mark_ns=MINUTE_NS)
    if not risk_inside_bars:
        return reader.read(mark_ns=0)
    mark_ns = _mark_ns(symbols)
    series = reader.read(mark_ns=mark_ns)
    if _cuts_bars([series[Key(each.root, each.rule.tf_ns)] for each in symbols], mark_ns):
        series = reader.read(mark_ns=MINUTE_NS)
    return series


def read_feeds(
    source: MinuteSource,
    universe: Universe,
    keys: frozenset[Key],
    *,
    volume: bool,
    progress: Callable[[str, int], None] | None = None,
) -> dict[Key, Series]:
    """Read bars that nothing trades.

    Parameters
    ----------
    source : MinuteSource
    universe : Universe
    keys : frozenset of Key
    volume : bool
    progress : callable, optional

    Returns
    -------
    dict of Key to Series
    """
    reader = _Reader(
        source, universe, frozenset(), keys, volume=volume, strict=False, progress=progress
    )
    return reader.read(mark_ns=0)


def feed_of(series: Series, instrument: Instrument) -> Feed:
    """Return what others may read of a series.

    Parameters
    ----------
    series : Series
    instrument : Instrument

    Returns
    -------
    Feed
    """
    dates = instrument.sessions.trade_date[series.days["session"]]
    opens = instrument.sessions.open_ns[series.closed["session"]]
    return Feed(series.closed, series.days, dates, opens)


def keys_of(wiring: Wiring, contract: Contract, tf_ns: int) -> dict[str, Key]:
    """Name the series that a symbol's features read.

    Parameters
    ----------
    wiring : Wiring
    contract : Contract
        The symbol's own: it names the pair.
    tf_ns : int
        Width of the symbol's signal bars; what is read by sessions only may be of any width up to a day.

    Returns
    -------
    dict of str to Key
        By the names that the features use.
    """
    return {
        name: Key(
            str(contract.pair) if name == "pair" else name,
            tf_ns if wiring.reads_bars_of(name) else TIMEFRAMES_NS["1d"],
        )
        for name in wiring.feeds
    }


def feeds_of(symbol: Symbol, feeds: Mapping[Key, Feed]) -> dict[str, Feed]:
    """Return the feeds that a symbol's features read, by the names that they use.

    Parameters
    ----------
    symbol : Symbol
    feeds : Mapping of Key to Feed

    Returns
    -------
    dict of str to Feed
    """
    keys = keys_of(symbol.wiring, symbol.contract, symbol.rule.tf_ns)
    return {name: feeds[key] for name, key in keys.items()}


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


def _refuse_absent(source: MinuteSource, symbols: Iterable[Symbol]) -> None:
    """Refuse features of instruments that the data do not hold: they would block every entry."""
    for symbol in symbols:
        absent = symbol.feeds - {*source.roots, *source.feeds} if symbol.feeds else frozenset()
        if absent:
            raise ConfigError(
                f"filters of {symbol.root} that read {', '.join(sorted(absent))}",
                expected="bars of it in the data, for without them every entry is blocked",
                found=f"bars of {', '.join((*source.roots, *source.feeds))}",
                remedy="add the bars, or remove those filters",
            )


class _Reader:
    """Streams the minutes once; whatever root shows a fault is read again, sorted and repaired."""

    def __init__(
        self,
        source: MinuteSource,
        universe: Universe,
        traded: frozenset[str] | None,
        others: frozenset[Key],
        *,
        volume: bool,
        strict: bool,
        progress: Callable[[str, int], None] | None,
    ) -> None:
        self._source = source
        self._universe = universe
        self._traded = traded
        self._others = others
        self._volume = volume
        self._strict = strict
        self._progress = progress
        self._scratch = Scratch()

    def read(self, *, mark_ns: int) -> dict[Key, Series]:
        """Return every series, in the order of first sight."""
        builders: dict[str, dict[Key, SeriesBuilder]] = {}
        faulty: set[str] = set()
        for run in self._source.stream(self._roots(), volume=self._volume):
            if run.root in faulty:
                continue
            if run.root not in builders:
                builders[run.root] = self._builders(run.root, mark_ns)
            taken = [builder.add(run) for builder in builders[run.root].values()]
            if run.irregular or not all(taken):
                faulty.add(run.root)
            if self._progress:
                self._progress(run.root, len(run.ts_ns))
        for root in builders:
            self._instrument(root).warnings.clear()
        for root in faulty:
            builders[root] = self._repaired(self._instrument(root), mark_ns)
        # The clock is that of all data: a bar of one ends although only others print after it.
        made = [(root, key, each) for root in builders for key, each in builders[root].items()]
        now_ns = self._source.until_ns or max((each.reached_ns for _, _, each in made), default=0)
        return {
            key: _checked(
                each.finish(now_ns), self._instrument(root), key.tf_ns, strict=self._strict
            )
            for root, key, each in made
        }

    def _roots(self) -> list[str] | None:
        if self._traded is None:
            return None
        return sorted(self._traded | {key.root for key in self._others})

    def _is_traded(self, root: str) -> bool:
        return self._traded is None or root in self._traded

    def _instrument(self, root: str) -> Instrument:
        traded = self._is_traded(root)
        return self._universe.get(root) if traded else self._universe.instrument(root)

    def _builders(self, root: str, mark_ns: int) -> dict[Key, SeriesBuilder]:
        keys = {key: False for key in self._others if key.root == root}
        marks, protective = 0, False
        if self._is_traded(root):
            symbol = self._universe.get(root)
            keys[Key(root, symbol.rule.tf_ns)] = True
            marks, protective = mark_ns, symbol.strategy.exits.protective is not None
        instrument = self._instrument(root)
        return {
            key: SeriesBuilder(
                root,
                instrument.session_table,
                make_plan(
                    key.tf_ns,
                    with_path=traded and (protective or marks > 0),
                    mark_ns=marks if traded else 0,
                    allow_nonpositive=instrument.contract.allow_nonpositive,
                ),
                self._scratch,
            )
            for key, traded in keys.items()
        }

    def _repaired(self, instrument: Instrument, mark_ns: int) -> dict[Key, SeriesBuilder]:
        builders = self._builders(instrument.root, mark_ns)
        runs, repairs = self._source.load(instrument.root, strict=self._strict)
        for run in runs:
            taken = [builder.add(run) for builder in builders.values()]
            assert all(taken), f"repaired bars of {instrument.root} still break a law"
        instrument.warnings.extend(repairs.lines())
        return builders


def _checked(series: Series, instrument: Instrument, tf_ns: int, *, strict: bool) -> Series:
    if series.base_ns != NEVER and (series.base_ns > tf_ns or tf_ns % series.base_ns):
        raise ConfigError(
            f"signal bar {_name(tf_ns)!r} of {series.root}",
            expected=f"a multiple of the data's bars of {_width(series.base_ns)}",
            found=_width(tf_ns),
            remedy="choose a longer strategy.signal_bar or finer data",
        )
    _refuse_misplaced(series, instrument, tf_ns)
    if series.n_outside and strict:
        raise DataError(
            f"minutes of {series.root}",
            expected="all inside the session calendar",
            found=f"{series.n_outside} outside",
            remedy="`ibs data check` lists them; run without --strict to keep them",
        )
    if not isinstance(instrument, Symbol):
        told = outside_note(series, instrument)
        instrument.warnings.extend(line for line in told if line not in instrument.warnings)
        return series
    if tf_ns == instrument.rule.tf_ns:  # once, of what is traded
        instrument.warnings.extend(notes_on(series, instrument))
    return _until(series, instrument)


def _refuse_misplaced(series: Series, instrument: Instrument, tf_ns: int) -> None:
    """Refuse coarse bars that reach beyond the signal bar they open in: it would be known too early."""
    bars = series.closed
    close = instrument.sessions.close_ns[bars["session"]]
    known = np.minimum(bars["last_ns"] + series.base_ns, np.maximum(close, bars["last_ns"]))
    late = np.flatnonzero((known > bars["end_ns"]) & (bars["start_ns"] < close))
    if series.base_ns != NEVER and len(late):
        moment = np.datetime64(int(bars["last_ns"][late[0]]), "ns")
        raise DataError(
            f"bars of {series.root} with a width of {_width(series.base_ns)}",
            expected=f"each inside one {_name(tf_ns)} signal bar, counted from the session's open",
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


def _width(ns: int) -> str:
    return f"{ns // MINUTE_NS}m" if ns % MINUTE_NS == 0 else f"{ns // 10**9}s"


def _name(tf_ns: int) -> str:
    return next(name for name, width_ns in TIMEFRAMES_NS.items() if width_ns == tf_ns)
