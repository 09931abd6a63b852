"""What a reading gave, as one kept file: the series, and what was told of them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ibs_core.bars import BAR, PATH, TIMEFRAMES_NS
from ibs_core.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ibs_core.bar_cache.drawer import Drawer
    from ibs_core.bar_cache.entry import Entry
    from ibs_core.market_data import MinuteSource

__all__ = ["Reading", "read_once", "roots_once"]

_ARRAYS = {"bars": BAR, "days": BAR, "path": PATH, "seams": np.dtype(np.int64)}
_WIDTHS = {ns: name for name, ns in TIMEFRAMES_NS.items()}
_FACTS = ("complete", "instruments", "n_minutes", "n_outside", "base_ns")


class Reading(NamedTuple):
    """What a reading gave.

    Attributes
    ----------
    series : dict of (root, width in ns) to Series
        In the order of first sight.
    warnings : Mapping of str to sequence of str
        What a reader of the result must know of the data, by root.
    """

    series: dict[tuple[str, int], Series]
    warnings: Mapping[str, Sequence[str]]


def read_once(
    drawer: Drawer,
    read: Callable[[], Reading],
    *,
    order: Callable[[tuple[str, int]], Any],
    all_: bool,
) -> tuple[Reading, Drawer]:
    """Return what was read before, else read and keep it.

    Parameters
    ----------
    drawer : Drawer
        Of everything that decides the reading.
    read : callable
    order : callable
        Sort key: bars of series that are replayed together lie end to end.
    all_ : bool
        All roots are read that the data hold.

    Returns
    -------
    Reading
        The same bytes either way.
    Drawer
        For what is made of it: one that keeps nothing where the data were changed while they were read.
    """
    if drawer.files is None:
        return read(), drawer
    source = drawer.files.source
    entry = drawer.find("bars")
    if entry is not None:
        found = _taken(entry)
        source.recall({root for root, _ in found.series}, entry.facts["skipped"], all_=all_)
        return found, drawer
    source.met.clear()
    found = read()
    # What was met before it was asked for is no longer left out.
    skipped = {symbol: why for symbol, why in source.met.items() if symbol in source.skipped}
    facts = {"warnings": found.warnings, "skipped": skipped}
    drawer = drawer.still()
    _keep(drawer, found.series, sorted(found.series, key=order), facts)
    return found, drawer


def roots_once(drawer: Drawer, source: MinuteSource) -> tuple[str, ...]:
    """Return the roots of a source, without reading its symbols again.

    Parameters
    ----------
    drawer : Drawer
        Of the source.
    source : MinuteSource

    Returns
    -------
    tuple of str
    """
    if drawer.files is None or drawer.files.source.knows_roots:
        return source.roots
    files = drawer.files.source
    if kept := drawer.find("roots"):
        files.recall({*kept.facts["symbols"]}, kept.facts["skipped"], all_=True)
        return files.roots
    files.met.clear()
    roots = files.roots
    drawer.still().put("roots", {"symbols": roots, "skipped": files.met}, {})
    return roots


def _keep(
    drawer: Drawer,
    series: Mapping[tuple[str, int], Series],
    laid: Sequence[tuple[str, int]],
    facts: dict[str, Any],
) -> None:
    items = [series[key] for key in laid]
    told = [
        {
            "key": key,
            "n": {name: len(getattr(item, name)) for name in _ARRAYS},
            **{name: getattr(item, name) for name in _FACTS},
        }
        for key, item in zip(laid, items, strict=True)
    ]
    seen = [laid.index(key) for key in series]
    told_short = {
        "symbols": [root for root, _ in laid],
        "widths": sorted({_WIDTHS[ns] for _, ns in laid}),
    }
    arrays = {name: [getattr(item, name) for item in items] for name in _ARRAYS}
    drawer.put("bars", facts | told_short | {"series": told, "seen": seen}, arrays)


def _taken(entry: Entry) -> Reading:
    told = entry.facts["series"]
    parts = {}
    for name, dtype in _ARRAYS.items():
        whole = entry.array(name, dtype)
        stops = np.cumsum([0, *(each["n"][name] for each in told)])
        parts[name] = [whole[start:stop] for start, stop in pairwise(stops)]
    series = {}
    for i in entry.facts["seen"]:
        root, tf_ns = told[i]["key"]
        facts = {name: told[i][name] for name in _FACTS}
        facts["instruments"] = tuple(facts["instruments"])
        series[root, tf_ns] = Series(root, **{name: parts[name][i] for name in _ARRAYS}, **facts)
    return Reading(series, entry.facts["warnings"])
