"""The slow path's second half: sort, collapse, drop and count, or refuse."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibs_core.bars import MINUTE_NS
from ibs_core.errors import DataError
from ibs_core.market_data.rolls import select_front
from ibs_core.market_data.runs import PRICES, MinuteRun, run_of, stamp
from ibs_core.sessions import load_sessions, outside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibs_core.contracts import Contract
    from ibs_core.market_data.rows import Rows
    from ibs_core.market_data.symbols import Listing

__all__ = ["Repair", "Repairs", "repair"]

_EXAMPLES = 5
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


def repair(
    rows: Rows, contract: Contract, paths: Sequence[Path]
) -> tuple[list[MinuteRun], Repairs]:
    """Make runs of the rows of one root.

    Parameters
    ----------
    rows : Rows
        Not empty.
    contract : Contract
    paths : Sequence of Path
        What ``file`` in the table counts.

    Returns
    -------
    runs : list of MinuteRun
    repairs : Repairs

    Raises
    ------
    DataError
        A fault that no repair may hide.
    """
    table, listings = rows.table, rows.listings
    say = _Words(listings, paths)
    items: list[Repair] = []

    def note(kind: str, noted: pl.DataFrame) -> None:
        if noted.height:
            items.append(Repair(kind, noted.height, _KINDS[kind][1], say.examples(noted)))

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
    if rows.n_combinations:
        items.append(Repair("combination", rows.n_combinations, False, (contract.root,)))
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
