"""The second look at one root: sort, collapse, drop and count, or refuse."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibs_core.bars import MINUTE_NS
from ibs_core.contracts import MONTH_LETTERS, Contract
from ibs_core.errors import DataError
from ibs_core.market_data.files import BarFile, in_roots
from ibs_core.market_data.rolls import select_front
from ibs_core.market_data.runs import PRICES, MinuteRun, run_of, stamp
from ibs_core.market_data.units import check_units
from ibs_core.sessions import load_sessions, outside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibs_core.market_data.symbols import Listing, Symbols

__all__ = ["Repair", "Repairs", "collect", "repair"]

_EXAMPLES = 5
_WINDOW_NS = 28 * 86_400 * 10**9
# kind: (what was done, whether it is a fault of the data)
_KINDS = {
    "unsorted": ("minutes out of order were sorted", True),
    "duplicate": ("identical duplicates were collapsed", True),
    "missing_price": ("minutes with a missing price were dropped", True),
    "outside_calendar": ("minutes outside the calendar were kept", True),
    "not_front": ("minutes of contracts other than the front were left out", False),
    "combination": ("rows of spreads were left out", False),
}


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was done to a root's rows.

    Parameters
    ----------
    kind : str
        ``unsorted``, ``duplicate``, ``missing_price``, ``outside_calendar``, ``not_front`` or
        ``combination``.
    rows : int, > 0
    fault : bool
        The data are at fault, so `--strict` refuses; choosing a contract is no fault.
    examples : tuple of str
        The first few.
    """

    kind: str
    rows: int
    fault: bool
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """Return a line for people."""
        return f"{self.rows:,} {_KINDS[self.kind][0]}, the first at {self.examples[0]}"


@dataclass(frozen=True, slots=True)
class Repairs:
    """All that was done to one root; false when nothing was.

    Parameters
    ----------
    root : str
    items : tuple of Repair
    """

    root: str
    items: tuple[Repair, ...]

    def __bool__(self) -> bool:
        return bool(self.items)

    def lines(self) -> list[str]:
        """Return one line for people for each kind."""
        return [f"{self.root}: {item}" for item in self.items]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {item.kind: asdict(item) for item in self.items}

    def refuse(self) -> None:
        """Raise DataError if the data were at fault."""
        faults = [str(item) for item in self.items if item.fault]
        if faults:
            raise DataError(
                f"{self.root} needs repair, which --strict forbids",
                found="; ".join(faults),
                remedy="mend the files, or run without --strict",
            )


def collect(
    files: Sequence[BarFile], symbols: Symbols, root: str
) -> tuple[pl.DataFrame, list[Listing], int]:
    """Read all rows of one root.

    Parameters
    ----------
    files : Sequence of BarFile
    symbols : Symbols
    root : str

    Returns
    -------
    table : polars.DataFrame
        ``key`` (index into `listings`), ``file``, ``ts_ns``, the prices (null if missing), ``volume``.
    listings : list of Listing
    n_combinations : int
        Rows of spreads that were left out.
    """
    known: dict[Listing, int] = {}
    tables, n_combinations = [], 0
    combination = f"^{root}([{MONTH_LETTERS}][0-9]|[: -])"
    for i, file in enumerate(files):
        batches = list(file.batches(volume=True, where=in_roots([root])))
        if not batches:
            continue
        rows = pl.concat(batches).with_columns(window=pl.col("ts_ns") // _WINDOW_NS)
        names = [name for name in ("symbol", "instrument_id", "window") if name in rows.columns]
        groups = rows.group_by(names, maintain_order=True).agg(
            first_ns=pl.col("ts_ns").min(), n_rows=pl.len()
        )
        keys: list[int | None] = []
        for group in groups.iter_rows(named=True):
            _require_time(group, file)
            at_ns = group["first_ns"]
            symbol = group["symbol"]
            listings = symbols.read(file, symbol, group.get("instrument_id"), at_ns, at_ns)
            if listings is None:
                n_combinations += group["n_rows"] if _matches(symbol, combination) else 0
            ours = listings is not None and listings[0].root == root
            keys.append(known.setdefault(listings[0], len(known)) if listings and ours else None)
        rows = rows.join(
            groups.select(*names, pl.Series("key", keys, pl.Int32)),
            on=names,
            how="left",
            nulls_equal=True,
            maintain_order="left",
        ).filter(pl.col("key").is_not_null())
        if rows.height:
            _check_units(rows, symbols, root, file)
            tables.append(
                rows.select(
                    "key",
                    pl.lit(i, pl.Int32).alias("file"),
                    "ts_ns",
                    *(pl.col(name).fill_nan(None) for name in PRICES),
                    "volume",
                )
            )
    table = pl.concat(tables) if tables else pl.DataFrame()
    return table, list(known), n_combinations


def repair(
    table: pl.DataFrame,
    listings: list[Listing],
    contract: Contract,
    paths: Sequence[Path],
    n_combinations: int,
) -> tuple[list[MinuteRun], Repairs]:
    """Make runs of the rows of one root.

    Parameters
    ----------
    table, listings : what `collect` returned, not empty
    contract : Contract
    paths : Sequence of Path
        What ``file`` in `table` counts.
    n_combinations : int

    Returns
    -------
    runs : list of MinuteRun
    repairs : Repairs

    Raises
    ------
    DataError
        A fault that no repair may hide.
    """
    say = _Words(listings, paths)
    items: list[Repair] = []

    def note(kind: str, rows: pl.DataFrame) -> None:
        if rows.height:
            items.append(Repair(kind, rows.height, _KINDS[kind][1], say.examples(rows)))

    missing = pl.any_horizontal(pl.col(name).is_null() for name in PRICES)
    note("missing_price", table.filter(missing))
    table = table.filter(~missing)
    if table.height == 0:
        raise DataError(
            "no usable row",
            expected=f"bars of {contract.root}",
            found="no bar with all four prices",
            where=", ".join(str(path) for path in paths[:3]),
        )
    _check_prices(table, contract, say)
    earlier = pl.col("ts_ns").cum_max().shift(1).over("key", "file")
    note("unsorted", table.filter(pl.col("ts_ns") < earlier))
    table, duplicates = _collapse(table, say)
    note("duplicate", duplicates)
    table = _in_time_order(table, listings)
    if _overlaps(table):
        front = select_front(table, listings, contract)
        note("not_front", table.filter(~front))
        table = table.filter(front)
    ts_ns = table["ts_ns"].to_numpy()
    sessions = load_sessions(contract.session, int(ts_ns[0]), int(ts_ns[-1]) + 1)
    note("outside_calendar", table.filter(pl.Series(outside(sessions, ts_ns))))
    if n_combinations:
        items.append(Repair("combination", n_combinations, False, (contract.root,)))
    return _runs(table, listings), Repairs(contract.root, tuple(items))


@dataclass(frozen=True, slots=True)
class _Words:
    """Says where a row is."""

    listings: list[Listing]
    paths: Sequence[Path]

    def where(self, row: dict[str, Any]) -> str:
        path, name = self.paths[row["file"]], self.listings[row["key"]].instrument
        return f"{path}, {name} at {stamp(row['ts_ns'])}"

    def examples(self, rows: pl.DataFrame) -> tuple[str, ...]:
        return tuple(
            f"{stamp(row['ts_ns'])} ({self.listings[row['key']].instrument})"
            for row in rows.head(_EXAMPLES).iter_rows(named=True)
        )


def _check_prices(table: pl.DataFrame, contract: Contract, say: _Words) -> None:
    low, high = pl.col("low"), pl.col("high")
    inside = {name: (pl.col(name) < low) | (pl.col(name) > high) for name in ("open", "close")}
    faults = [
        (pl.col("ts_ns") % MINUTE_NS != 0, "bar off the minute", "the open of a minute", "ts_ns"),
        (high < low, "bar upside down", "low <= high", "low high"),
        (inside["open"], "open outside the bar", "low <= open <= high", "low open high"),
        (inside["close"], "close outside the bar", "low <= close <= high", "low close high"),
        (
            pl.any_horizontal(pl.col(*PRICES).is_infinite()),
            "infinite price",
            "a number",
            "low high",
        ),
    ]
    if not contract.allow_nonpositive:
        positive = f"above zero, for {contract.root} is not allowed to reach it"
        faults.append((low <= 0, "price at or below zero", positive, "low"))
    for fault, subject, expected, shown in faults:
        rows = table.filter(fault)
        if rows.height:
            first = rows.row(0, named=True)
            found = " ".join(f"{name}={first[name]}" for name in shown.split())
            raise DataError(
                subject,
                expected=expected,
                found=f"{found} (the first of {rows.height})",
                where=say.where(first),
                remedy="mend or fetch the file again",
            )


def _collapse(table: pl.DataFrame, say: _Words) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop rows equal to the one before of the same contract and minute; refuse contradictions."""
    table = table.sort("key", "ts_ns", maintain_order=True)
    values = (*PRICES, "volume")
    same_minute = pl.all_horizontal(
        pl.col(name) == pl.col(name).shift(1) for name in ("key", "ts_ns")
    )
    again = table.with_columns(
        same_minute=same_minute,
        same=pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in values),
        **{f"{name}_before": pl.col(name).shift(1) for name in values},
    ).filter("same_minute")
    if again.height == 0:
        return table, again
    conflicts = again.filter(~pl.col("same"))
    if conflicts.height:
        first = conflicts.row(0, named=True)
        both = [[first[f"{name}{which}"] for name in values] for which in ("_before", "")]
        raise DataError(
            "duplicates that contradict each other",
            expected="one bar a minute",
            found=f"open, high, low, close, volume {both[0]} and {both[1]} "
            f"(the first of {conflicts.height})",
            where=say.where(first),
            remedy="keep the right one",
        )
    return table.filter(~same_minute.fill_null(value=False)), again


def _in_time_order(table: pl.DataFrame, listings: list[Listing]) -> pl.DataFrame:
    """Sort by time; contracts that share a minute by expiry."""
    expiry = [listing.expiry or (0, i) for i, listing in enumerate(listings)]
    rank = np.argsort(sorted(range(len(listings)), key=expiry.__getitem__))
    ranks = pl.Series(rank, dtype=pl.Int32).gather(table["key"])
    return table.with_columns(ranks.alias("rank")).sort("ts_ns", "rank").drop("rank")


def _overlaps(table: pl.DataFrame) -> bool:
    n_spans = int(table["key"].rle_id()[-1]) + 1
    return n_spans > table["key"].n_unique() or bool(
        (table["ts_ns"].diff().drop_nulls() == 0).any()
    )


def _runs(table: pl.DataFrame, listings: list[Listing]) -> list[MinuteRun]:
    spans = table["key"].rle().struct.unnest()
    runs, start = [], 0
    for contract_id, (length, key) in enumerate(spans.iter_rows()):
        listing = listings[key]
        rows = table.slice(start, length)
        runs.append(run_of(rows, listing.root, listing.instrument, contract_id))
        start += length
    return runs


def _check_units(rows: pl.DataFrame, symbols: Symbols, root: str, file: BarFile) -> None:
    check_units(rows, symbols.contracts.get(root), file)


def _require_time(group: dict[str, Any], file: BarFile) -> None:
    if group["window"] is None:
        raise DataError(
            "bar without a time",
            found="null in ts_event",
            where=f"{file.path}, symbol {group['symbol']}",
        )


def _matches(symbol: str, pattern: str) -> bool:
    return bool(pl.Series([symbol]).str.contains(pattern).item())
