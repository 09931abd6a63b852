"""The slow path's first half: all rows of one root, each with the contract that it belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ibs_core.contracts import MONTH_LETTERS
from ibs_core.errors import DataError
from ibs_core.market_data.files import in_roots
from ibs_core.market_data.runs import PRICES
from ibs_core.market_data.units import check_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.market_data.files import BarFile
    from ibs_core.market_data.symbols import Listing, Symbols

__all__ = ["Rows", "collect"]

# A symbol is read once in each such span, for a one-digit year names another contract later.
_WINDOW_NS = 28 * 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of one root as they are in the files.

    Parameters
    ----------
    table : polars.DataFrame
        ``key`` (index into `listings`), ``file``, ``ts_ns``, the prices (null if missing), ``volume``.
    listings : list of Listing
    n_combinations : int
        Rows of spreads that were left out.
    """

    table: pl.DataFrame
    listings: list[Listing]
    n_combinations: int


def collect(files: Sequence[BarFile], symbols: Symbols, root: str) -> Rows:
    """Read all rows of one root.

    Parameters
    ----------
    files : Sequence of BarFile
    symbols : Symbols
    root : str

    Returns
    -------
    Rows
        With an empty table when there are none.

    Raises
    ------
    DataError
        A row without a time or symbol, an unknown symbol or a wrong unit.
    EnvironmentFault
        A file is unreadable or cut.
    """
    known: dict[Listing, int] = {}
    tables, n_combinations = [], 0
    for i, file in enumerate(files):
        batches = list(file.batches(volume=True, where=in_roots([root])))
        if not batches:
            continue
        rows = pl.concat(batches).with_columns(window=pl.col("ts_ns") // _WINDOW_NS)
        names = [name for name in ("symbol", "instrument_id", "window") if name in rows.columns]
        groups = rows.group_by(names, maintain_order=True).agg(pl.col("ts_ns").min(), n=pl.len())
        keys: list[int | None] = []
        for group in groups.iter_rows(named=True):
            listing = _listing(group, file, symbols)
            ours = listing is not None and listing.root == root
            keys.append(known.setdefault(listing, len(known)) if listing and ours else None)
            if listing is None and _is_combination_of(root, group["symbol"]):
                n_combinations += group["n"]
        groups = groups.select(*names, pl.Series("key", keys, pl.Int32))
        rows = rows.join(groups, names, nulls_equal=True, maintain_order="left")
        rows = rows.filter(pl.col("key").is_not_null())
        if rows.height:
            check_units(rows, symbols.contracts.readable(root), file)
            prices = (pl.col(name).fill_nan(None) for name in PRICES)
            of_file = pl.lit(i, pl.Int32).alias("file")
            tables.append(rows.select("key", of_file, "ts_ns", *prices, "volume"))
    table = pl.concat(tables) if tables else pl.DataFrame()
    return Rows(table, list(known), n_combinations)


def _listing(group: dict[str, Any], file: BarFile, symbols: Symbols) -> Listing | None:
    symbol, at_ns = group["symbol"], group["ts_ns"]
    if at_ns is None:
        where = f"{file.path}, symbol {symbol}"
        raise DataError("bar without a time", found="null in ts_event", where=where)
    listings = symbols.read(file, symbol, group.get("instrument_id"), at_ns, at_ns)
    return listings[0] if listings else None


def _is_combination_of(root: str, symbol: str) -> bool:
    return re.match(f"{root}([{MONTH_LETTERS}][0-9]|[: -])", symbol) is not None
