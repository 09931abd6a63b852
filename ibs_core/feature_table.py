"""The feature table of any data: a row for each closed signal bar, known at the bar's end."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import ibs_core
from ibs_core.bars import TIMEFRAMES_NS
from ibs_core.catalogue import load_catalogue, resolve
from ibs_core.errors import ConfigError
from ibs_core.feeds import lay_beside
from ibs_core.parquet_file import environment, join_parquet, marks_of, refuse_place
from ibs_core.reading import Key, feed_of, keys_of, read_feeds
from ibs_core.schedule import calendar_of
from ibs_core.signals import features_many
from ibs_core.universe import Universe
from ibs_core.wiring import Lookup, feeds_of_node, memory_of, new_state, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ibs_core.bars import Floats
    from ibs_core.catalogue import Feature
    from ibs_core.config import Settings
    from ibs_core.contracts import Contract, ContractMap
    from ibs_core.feeds import Feed
    from ibs_core.market_data import MinuteSource
    from ibs_core.series import Series
    from ibs_core.universe import Instrument
    from ibs_core.wiring import Wiring

__all__ = ["FeatureTable", "evaluate", "evaluate_read", "served", "serves", "tabulate"]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """One symbol's features.

    Attributes
    ----------
    root : str
    series : Series
    instrument : Instrument
    names : tuple of str
    rows : (n_bars, n_names) float64
        NaN where missing.
    """

    root: str
    series: Series
    instrument: Instrument
    names: tuple[str, ...]
    rows: Floats

    def frame(self) -> pl.DataFrame:
        """Return the table with its times.

        Returns
        -------
        polars.DataFrame
            ``symbol``, ``instrument``, ``ts_event`` (the bar's start), ``known_at`` (its end), ``session``
            (trade date), then a column for each feature; missing values are null.
        """
        bars = self.series.closed
        dates = self.instrument.sessions.trade_date[bars["session"]].astype("datetime64[D]")
        names = np.array(self.series.instruments)[np.cumsum(bars["seam_ns"] > 0)]
        utc = pl.Datetime("ns", "UTC")
        keys = pl.DataFrame(
            {
                "symbol": pl.Series([self.root]).new_from_index(0, len(bars)),
                "instrument": pl.Series(names.tolist(), dtype=pl.String),
                "ts_event": pl.Series(bars["start_ns"]).cast(utc),
                "known_at": pl.Series(bars["end_ns"]).cast(utc),
                "session": pl.Series(dates),
            },
        )
        values = pl.from_numpy(self.rows, schema=list(self.names)).fill_nan(None)
        return keys.hstack(values)


def served(contracts: ContractMap, roots: Sequence[str], feeds: Sequence[str]) -> list[str]:
    """Name every feature that data can serve.

    Parameters
    ----------
    contracts : ContractMap
    roots, feeds : sequence of str
        Roots and reference feeds of which there are bars.

    Returns
    -------
    list of str
        In catalogue order; features of the pair count when any root has its pair in the data.
    """
    present = {*roots, *feeds}
    if any(contracts.get(root).pair in present for root in roots):
        present.add("pair")
    catalogue = load_catalogue(contracts)
    return [name for name, each in catalogue.items() if feeds_of_node(each.node) <= present]


def serves(feature: Feature, contract: Contract, present: frozenset[str]) -> bool:
    """Tell whether data serve a feature for a symbol.

    Parameters
    ----------
    feature : Feature
    contract : Contract
        The symbol's.
    present : frozenset of str
        Roots and feeds of which there are bars.

    Returns
    -------
    bool
    """
    pair = {"pair"} if contract.pair in present else set()
    return feeds_of_node(feature.node) <= present | pair


def tabulate(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    only_full: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Iterator[FeatureTable]:
    """Compute features of every closed signal bar.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
        Its strategies give the width of each symbol's signal bar.
    contracts : ContractMap
    roots : sequence of str, optional
        Default: all that the data hold.
    names : sequence of str, optional
        Canonical names; default: all that the data can serve.
    only_full : bool
        Leave out values of windows that are not full yet: a rule that reads the feature still warms up then.
    progress : callable, optional
        Called with a root and the number of its minutes just read.

    Yields
    ------
    FeatureTable
        One a symbol, in contract-map order.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    can = served(contracts, source.roots, source.feeds)
    features = [
        resolve(name, contracts, where="--features") for name in dict.fromkeys(names or can)
    ]
    if idle := [each.name for each in features if each.name not in can]:
        raise ConfigError(
            "--features",
            expected="features that the bars serve for some symbol",
            found=f"{', '.join(idle)} with bars of {', '.join((*source.roots, *source.feeds))}",
            remedy="add the bars that they read, or leave them out",
        )
    given = (source, settings, contracts, features)
    yield from evaluate(*given, roots=roots, only_full=only_full, progress=progress)


def evaluate(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    features: Sequence[Feature],
    *,
    roots: Sequence[str] | None = None,
    only_full: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Iterator[FeatureTable]:
    """Compute given features, in the catalogue or not, of every closed signal bar.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
    contracts : ContractMap
    features : sequence of Feature
    roots : sequence of str, optional
    only_full : bool
    progress : callable, optional

    Yields
    ------
    FeatureTable
    """
    present = frozenset({*source.roots, *source.feeds})
    universe = Universe(settings, contracts, start=None, end=None)
    plans = [
        _Plan(
            contracts.get(root), _width_of(settings, root), features, present, only_full=only_full
        )
        for root in roots or source.roots
    ]
    series = read_feeds(
        source,
        universe,
        frozenset().union(*(plan.keys.values() for plan in plans)),
        volume=any(plan.wiring.reads_volume for plan in plans),
        progress=progress,
    )
    feeds = {key: feed_of(item, universe.instrument(key.root)) for key, item in series.items()}
    yield from _tables(plans, series, feeds, universe)


def evaluate_read(
    series: Sequence[Series],
    feeds: Mapping[Key, Feed],
    settings: Settings,
    contracts: ContractMap,
    features: Sequence[Feature],
    *,
    only_full: bool = False,
) -> Iterator[FeatureTable]:
    """Compute given features of bars that were read.

    Parameters
    ----------
    series : sequence of Series
        Of each symbol.
    feeds : Mapping of Key to Feed
        Of each symbol and of what features read; features that read anything else stay empty.
    settings : Settings
    contracts : ContractMap
    features : sequence of Feature
    only_full : bool
        As `tabulate` takes it.

    Yields
    ------
    FeatureTable
        One a symbol.
    """
    present = frozenset(key.root for key in feeds)
    by_key = {Key(each.root, _width_of(settings, each.root)): each for each in series}
    plans = [
        _Plan(contracts.get(key.root), key.tf_ns, features, present, only_full=only_full)
        for key in by_key
    ]
    universe = Universe(settings, contracts, start=None, end=None)
    yield from _tables(plans, by_key, feeds, universe)


def _width_of(settings: Settings, root: str) -> int:
    return TIMEFRAMES_NS[settings.strategy_of(root).signal_bar]


def _tables(
    plans: Sequence[_Plan],
    series: Mapping[Key, Series],
    feeds: Mapping[Key, Feed],
    universe: Universe,
) -> Iterator[FeatureTable]:
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=workers) as pool:  # the kernels hold no lock
        list(pool.map(lambda key: feeds[key].compute(_lookups(plans, key)), feeds))
        for first in range(
            0, len(plans), workers
        ):  # tables are large: no more than are made at once
            some = plans[first : first + workers]
            yield from pool.map(lambda plan: plan.table(series, feeds, universe), some)


def write_table(tables: Iterable[FeatureTable], out: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Write feature tables into one Parquet file, whole or not at all.

    Parameters
    ----------
    tables : iterable of FeatureTable
    out : Path
    files : sequence of Path
        The bars that they come from: the table of generated bars says that it is.

    Returns
    -------
    dict
        ``out``, ``rows``, ``features``, ``symbols``, ``generated_data``: JSON values.

    Raises
    ------
    EnvironmentFault
    """
    marks = {"ibs.version": ibs_core.__version__}
    if any(marks_of(path).get("ibs.generated") == "true" for path in files):
        marks["ibs.generated"] = "true"
    refuse_place("feature table", out, files)
    facts: dict[str, Any] = {"out": str(out), "rows": 0, "features": 0, "symbols": []}

    def frames() -> Iterator[pl.DataFrame]:
        for table in tables:
            facts["rows"] += len(table.rows)
            facts["features"] = len(table.names)
            facts["symbols"].append(table.root)
            yield table.frame()

    with environment("feature table", out, "check the path, its permissions and the free space"):
        out.parent.mkdir(parents=True, exist_ok=True)
        join_parquet(frames(), out, marks)
    return facts | {"generated_data": "ibs.generated" in marks}


class _Plan:
    """What one symbol's table is made of.

    Parameters
    ----------
    contract : Contract
    tf_ns : int
    features : sequence of Feature
        The columns; those that the data cannot serve for this symbol stay empty.
    present : frozenset of str
        Roots and feeds of which there are bars.
    """

    def __init__(
        self,
        contract: Contract,
        tf_ns: int,
        features: Sequence[Feature],
        present: frozenset[str],
        *,
        only_full: bool,
    ) -> None:
        can = [serves(each, contract, present) for each in features]
        self.names = tuple(each.name for each in features)
        self.columns = np.flatnonzero(can)
        self.wiring = wire(each.node for each, serves in zip(features, can, strict=True) if serves)
        self._alone = (
            [wire([each.node]) for each, serves in zip(features, can, strict=True) if serves]
            if only_full
            else []
        )
        self.own = Key(contract.root, tf_ns)
        self.keys = {"own": self.own} | keys_of(self.wiring, contract, tf_ns)

    def table(
        self, series: Mapping[Key, Series], feeds: Mapping[Key, Feed], universe: Universe
    ) -> FeatureTable:
        """Compute the table of one symbol."""
        own, graph = feeds[self.own], self.wiring.graph
        instrument = universe.instrument(self.own.root)
        others = {name: feeds[key] for name, key in self.keys.items()}
        beside = lay_beside(self.wiring, own, others, self.own.tf_ns)
        found = np.empty((len(own.bars), len(self.columns)))
        features_many(
            graph,
            memory_of(new_state(graph.bar)),
            memory_of(new_state(graph.day)),
            own.bars,
            own.days,
            calendar_of(own.bars, instrument.sessions),
            beside.foreign,
            beside.day_pair,
            found,
        )
        for k, wiring in enumerate(self._alone):
            found[_warms_up(wiring, own, others, self.own.tf_ns), k] = np.nan
        rows = np.full((len(own.bars), len(self.names)), np.nan)
        rows[:, self.columns] = found
        return FeatureTable(self.own.root, series[self.own], instrument, self.names, rows)


def _warms_up(
    wiring: Wiring, own: Feed, others: Mapping[str, Feed], tf_ns: int
) -> NDArray[np.bool_]:
    """Tell at which bars a window of a feature is not full yet."""
    n_days = np.searchsorted(own.ends["day"], own.ends["bar"], side="right")
    early = (np.arange(len(own.bars)) + 1 < wiring.full_bars) | (n_days < wiring.full_days)
    if wiring.feeds:
        early |= lay_beside(wiring, own, others, tf_ns).cold == 1
    return early


def _lookups(plans: Sequence[_Plan], key: Key) -> list[Lookup]:
    """List what is read of one feed."""
    return [each for plan in plans for each in plan.wiring.lookups if plan.keys[each.root] == key]
