"""Files to series: the minutes stream past once, and every bar that a run needs is built on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibs_core.bar_cache import Drawer, Reading, read_once, roots_once
from ibs_core.bars import MINUTE_NS, NEVER, TIMEFRAMES_NS
from ibs_core.errors import ConfigError
from ibs_core.feeds import Feed
from ibs_core.one_pass import Key, Reader, until_last_date

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ibs_core.contracts import Contract
    from ibs_core.market_data import MinuteSource
    from ibs_core.series import Series
    from ibs_core.universe import Instrument, Symbol, Universe
    from ibs_core.wiring import Wiring

__all__ = ["Key", "feed_of", "feeds_of", "keys_of", "read_feeds", "read_series"]


def read_series(
    source: MinuteSource,
    universe: Universe,
    traded: Sequence[str] | None,
    *,
    risk_inside_bars: bool = False,
    each_minute: bool = False,
    strict: bool = False,
    drawer: Drawer | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> tuple[dict[Key, Series], Drawer]:
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
    drawer : Drawer, optional
        Of the data: bars that it holds are not read again.
    progress : callable, optional
        Called with a root and the number of its minutes just read.

    Returns
    -------
    dict of Key to Series
        Of each traded symbol at its width, and of each other at the width of whoever reads it. A last bar that the
        data do not complete ends NEVER: it fills and protects, but decides nothing.
    Drawer
        Of exactly these series.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    first = bool(universe.asked.feeds) or universe.has_models or risk_inside_bars or each_minute
    drawer = drawer or Drawer()
    known = list(traded or roots_once(drawer, source)) if first else traded
    symbols = [universe.get(root) for root in known or ()]
    others = {
        key
        for each in symbols
        for key in keys_of(each.wiring, each.contract, each.rule.tf_ns).values()
    }
    reader = Reader(
        source,
        universe,
        None if known is None else frozenset(known),
        frozenset(others),
        volume=universe.asked.reads_volume or any(each.wiring.reads_volume for each in symbols),
        strict=strict,
        progress=progress,
    )
    mark_ns = MINUTE_NS if each_minute else _mark_ns(symbols) if risk_inside_bars else 0
    own = drawer.within(
        **reader.asked(),
        mark_ns=mark_ns,
        # Where bars cut one another is looked for among the traded sessions only.
        cut=sorted({each.rule.last_date for each in symbols}) if risk_inside_bars else [],
    )

    def read() -> Reading:
        _refuse_absent(source, symbols)
        made = reader.read(mark_ns=mark_ns)
        if risk_inside_bars and not each_minute and _cuts_bars(made, symbols, mark_ns):
            made = reader.read(mark_ns=MINUTE_NS)
        for item in made.values():
            item.bars["end_ns"][len(item.closed) :] = NEVER
        series = {(key.root, key.tf_ns): item for key, item in made.items()}
        return Reading(series, reader.warnings(key.root for key in made))

    found, own = read_once(own, read, order=reader.place, all_=known is None)
    for root, told in reader.warnings(found.warnings).items():
        told[:] = found.warnings[root]
    series = {Key(*key): item for key, item in found.series.items()}
    return {key: reader.cut(key, item) for key, item in series.items()}, own


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
    reader = Reader(
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


def _cuts_bars(series: Mapping[Key, Series], symbols: Iterable[Symbol], mark_ns: int) -> bool:
    """Tell whether a slice falls inside another symbol's bar at an instant without a mark."""
    found = [until_last_date(series[Key(each.root, each.rule.tf_ns)], each) for each in symbols]
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
