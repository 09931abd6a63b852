"""Parquet files of bars: the project's own and those of Databento's client."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.market_data.files import BarFile, footer, reading
from ibs_core.market_data.packed import BARS, NUM_ROWS, PackedGroup, packed_groups
from ibs_core.market_data.runs import PRICES
from ibs_core.thrift import first_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["ParquetBars"]

_VENDOR = ("rtype", "publisher_id", "instrument_id")  # the client writes them, nobody else does
_UNDEF_PRICE = 2**63 - 1
_NS_PER = {"ns": 1, "us": 1_000, "ms": 1_000_000}
_RTYPES = {33: "ohlcv-1m", 34: "ohlcv-1h"}
_TIME_FORM = "Datetime[ns, UTC]"


class ParquetBars(BarFile):
    """A Parquet file whose schema makes bars.

    Databento's own files are known by three columns of theirs; integer prices are 1e-9 units in
    them and nowhere else.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    DataError
        A column is missing or has a type that cannot be read without a guess.
    EnvironmentFault
        The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._groups = packed_groups(path)
        with reading(path):
            self._schema = BARS if self._groups is not None else self._scan.collect_schema()
        self.from_vendor = all(name in self._schema for name in _VENDOR)
        self._columns = [self._time(), self._symbol(), *(self._price(name) for name in PRICES)]
        self._names = ["ts_event", "symbol", *PRICES]
        types = [self._schema[name] for name in self._names[1:]]
        is_ns = getattr(self._schema["ts_event"], "time_unit", "") == "ns"
        self._is_plain = is_ns and types == [pl.String, *[pl.Float64] * len(PRICES)]
        if self._schema.get("instrument_id", pl.String()).is_integer():
            self._names.append("instrument_id")
            self._columns.append(pl.col("instrument_id"))
        self.was_float32 = any(self._schema[name] == pl.Float32 for name in PRICES)
        self._volume_column = self._volume()
        if self.from_vendor:
            self._check_rtype()

    @cached_property
    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.path, glob=False, hive_partitioning=False)

    def first_ns(self) -> int | None:
        """Return the time of the first row, or None if there is no row."""
        if self._groups is not None:
            return self._groups[0].first_ns
        with reading(self.path):
            first = self._scan.select(self._columns[0]).head(1).collect()["ts_ns"]
        return None if first.is_empty() else int(first.fill_null(-(2**63))[0])

    def n_rows(self) -> int:
        """Return the number of rows, as the footer has it."""
        # Not a query: one that only counts waits as long for Polars' threads as one that reads.
        with reading(self.path), self.path.open("rb") as stream:
            return first_number(footer(stream), NUM_ROWS)

    def symbols(self) -> list[str]:
        """Return the distinct symbols, sorted; null is left out."""
        if self._groups is not None:
            return sorted({group.symbol for group in self._groups})
        with reading(self.path):
            names = self._scan.select(self._columns[1].unique()).collect(engine="streaming")
        return sorted(names["symbol"].drop_nulls().to_list())

    def groups(self, *, volume: bool) -> Sequence[PackedGroup] | None:
        """Return the row groups of a file of the project's own layout."""
        groups = self._groups
        if groups is None or (volume and not all(group.has_volume for group in groups)):
            return None
        return groups

    def batches(self, *, volume: bool, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows in file order while Polars' threads decode the next ones."""
        # Bare columns: with expressions in the lazy query Polars holds 310 MB instead of 160 MB of a
        # file of 41 million rows, for the same time.
        with_volume = volume and "volume" in self._schema
        lazy = self._scan.select([*self._names, "volume"] if with_volume else self._names)
        pushed = where is not None and self._schema["symbol"] == pl.String
        if where is not None and pushed:
            lazy = lazy.filter(where)
        n_left = None if pushed and where is not None else self.n_rows()
        with reading(self.path):
            batches = iter(lazy.collect_batches(maintain_order=True))
        with _interrupts_between_batches() as ask:
            while True:
                with reading(self.path):  # not around the yield: the consumer's errors are its own
                    batch = next(batches, None)
                ask()
                if batch is None:
                    break
                n_left = None if n_left is None else n_left - batch.height
                rows = self._form(batch, volume=volume)
                if where is not None and not pushed:
                    rows = rows.filter(where)
                if rows.height:
                    yield rows
        if n_left:  # a decoder that gives up must not look like the end of the data
            raise EnvironmentFault(
                "unreadable or truncated file",
                expected="all the rows that its footer counts",
                found=f"{n_left} rows fewer",
                where=str(self.path),
                remedy="run again; if it stays so, fetch or write it again",
            )

    def _form(self, batch: pl.DataFrame, *, volume: bool) -> pl.DataFrame:
        if volume:
            return batch.select(*self._columns, self._volume_column)
        if self._is_plain:  # the same without an expression, which waits for decoding threads
            times = batch.get_column("ts_event").cast(pl.Int64)
            return batch.replace_column(0, times.rename("ts_ns"))
        return batch.select(self._columns)

    def _time(self) -> pl.Expr:
        kind = self._kind("ts_event", _TIME_FORM)
        column = pl.col("ts_event")
        if isinstance(kind, pl.Datetime):
            if kind.time_zone is None:
                raise self._fault(
                    "naive timestamps",
                    _TIME_FORM,
                    "ts_event without a time zone",
                    "write it with its zone, for example .dt.replace_time_zone('UTC')",
                )
            column = (
                column.to_physical() * _NS_PER[kind.time_unit]
                if kind.time_unit != "ns"
                else column.to_physical()
            )
            return column.alias("ts_ns")
        if self.from_vendor and kind.is_integer():
            return column.cast(pl.Int64, strict=False).alias("ts_ns")
        raise self._fault(
            "wrong type of ts_event",
            _TIME_FORM,
            str(kind),
            "convert it, for example pl.from_epoch(..., 'ns').dt.replace_time_zone('UTC')",
        )

    def _symbol(self) -> pl.Expr:
        remedy = (
            "write it with map_symbols=True" if self.from_vendor else "add the root or contract"
        )
        kind = self._kind("symbol", "String", remedy)
        if kind == pl.String:
            return pl.col("symbol")
        if isinstance(kind, (pl.Categorical, pl.Enum)):
            return pl.col("symbol").cast(pl.String)
        raise self._fault("wrong type of symbol", "String", str(kind), remedy)

    def _price(self, name: str) -> pl.Expr:
        kind = self._kind(name, "Float64")
        column = pl.col(name)
        if kind == pl.Float64:
            return column
        if self.from_vendor and kind.is_integer():
            known = pl.when(column != _UNDEF_PRICE).then(column)
            return (known.cast(pl.Float64) / 1e9).alias(name)
        if kind.is_numeric():
            return column.cast(pl.Float64)
        raise self._fault(f"wrong type of {name}", "Float64", str(kind), "convert it")

    def _volume(self) -> pl.Expr:
        kind = self._schema.get("volume", pl.Null())
        if kind == pl.Null:
            return pl.lit(None, pl.Float64).alias("volume")
        if kind.is_numeric():
            return pl.col("volume").cast(pl.Float64).fill_nan(None)
        raise self._fault("wrong type of volume", "an integer or null", str(kind), "convert it")

    def _kind(self, name: str, expected: str, remedy: str = "rename or add it") -> pl.DataType:
        if name not in self._schema:
            found = ", ".join(self._schema) or "no column"
            raise self._fault(f"missing column {name!r}", expected, found, remedy)
        return self._schema[name]

    def _check_rtype(self) -> None:
        with reading(self.path):
            rtypes = self._scan.select("rtype").head(1).collect()["rtype"]
        if not rtypes.is_in(list(_RTYPES)).all():
            raise self._fault(
                "wrong Databento schema",
                ", ".join(_RTYPES.values()),
                f"rtype {rtypes[0]}",
                "download ohlcv-1m",
            )

    def _fault(self, subject: str, expected: str, found: str, remedy: str) -> DataError:
        return DataError(
            subject, expected=expected, found=found, where=str(self.path), remedy=remedy
        )


@contextmanager
def _interrupts_between_batches() -> Iterator[Callable[[], None]]:
    """Keep Ctrl-C until it is asked for: Polars' handler ends a stream as if the data did, Python's breaks Polars."""
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before is not signal.default_int_handler:
        if is_main and before is not None:  # ignored, or heeded by whoever set it: not by Polars
            signal.signal(signal.SIGINT, before)
        yield lambda: None
        return
    came: list[int] = []

    def ask() -> None:
        if came:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield ask
    finally:
        signal.signal(signal.SIGINT, before)
