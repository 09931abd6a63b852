"""DBN files of bars, as the vendor stores them: a header, then records of one fixed size."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import databento_dbn
import numpy as np
import polars as pl
import zstandard

from ibs_core.bars import DAY_NS
from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.market_data.files import BarFile, reading
from ibs_core.market_data.runs import PRICES, Ints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BAR_FIELDS", "ZSTD_MAGIC", "DbnBars"]

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SCHEMAS = ("ohlcv-1m", "ohlcv-1h")
_UNDEF_PRICE = 2**63 - 1
_READ_BYTES = 1 << 20
_BATCH_ROWS = 1 << 17
BAR_FIELDS = [
    ("length", "u1"),  # in units of four bytes
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
    ("open", "<i8"),
    ("high", "<i8"),
    ("low", "<i8"),
    ("close", "<i8"),
    ("volume", "<u8"),
]


class DbnBars(BarFile):
    """A DBN file, compressed or not, of an ``ohlcv`` schema.

    Record objects cost microseconds each, so the records are read as one structured array.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    DataError
        Another schema.
    EnvironmentFault
        The file cannot be read, or is cut.
    """

    from_vendor = True

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata = self._metadata()
        schema = str(metadata.schema) if metadata.schema is not None else "a live capture"
        if schema not in _SCHEMAS:
            raise DataError(
                "wrong Databento schema",
                expected=" or ".join(_SCHEMAS),
                found=schema,
                where=str(path),
                remedy="download ohlcv-1m; days of ohlcv-1d are UTC days, not sessions",
            )
        extra = [("ts_out", "<u8")] if metadata.ts_out else []
        self._record = np.dtype(BAR_FIELDS + extra)
        self._names = _Names(metadata)
        first = next(self._records(1), None)
        self._first_ns = None if first is None else int(first["ts_event"][0])

    def first_ns(self) -> int | None:
        """Return the time of the first record, or None if there is none."""
        return self._first_ns

    def symbols(self) -> list[str]:
        """Return the distinct symbols, sorted."""
        found: set[str] = set()
        for batch in self.batches(volume=False):
            found |= set(batch["symbol"].drop_nulls().unique())
        return sorted(found)

    def batches(self, *, volume: bool, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """Yield the records in file order."""
        for records in self._records(_BATCH_ROWS):
            ids, ts_ns = (
                records["instrument_id"].astype(np.int64),
                records["ts_event"].astype(np.int64),
            )
            columns: dict[str, Any] = {"ts_ns": ts_ns, "symbol": self._names.of(ids, ts_ns)}
            for name in PRICES:
                undefined = records[name] == _UNDEF_PRICE
                columns[name] = np.where(undefined, np.nan, records[name] / 1e9)
            columns["instrument_id"] = ids
            if volume:
                columns["volume"] = records["volume"].astype(np.float64)
            batch = pl.DataFrame(columns)
            if where is not None:
                batch = batch.filter(where)
            if batch.height:
                yield batch

    def _metadata(self) -> databento_dbn.Metadata:
        content = b""
        for piece in self._pieces():
            content += piece
            if len(content) >= 8 and len(content) >= self._header_bytes(content):
                break
        self._skip = self._header_bytes(content) if len(content) >= 8 else 8
        if len(content) < self._skip:
            raise self._cut(f"{len(content)} bytes of a header of {self._skip}")
        try:
            return databento_dbn.Metadata.decode(content[: self._skip])
        except (databento_dbn.DBNError, ValueError) as error:
            raise self._cut(str(error)) from error

    @staticmethod
    def _header_bytes(content: bytes) -> int:
        return 8 + int.from_bytes(content[4:8], "little")

    def _records(self, n_max: int) -> Iterator[NDArray[np.void]]:
        size, left, skip = self._record.itemsize, b"", self._skip
        for piece in self._pieces():
            left += piece
            if len(left) < skip + size * n_max:
                continue
            n_records = (len(left) - skip) // size
            yield self._checked(np.frombuffer(left, self._record, n_records, skip))
            left, skip = left[skip + n_records * size :], 0
        n_records, rest = divmod(max(len(left) - skip, 0), size)
        if n_records:
            yield self._checked(np.frombuffer(left, self._record, n_records, skip))
        if rest:
            raise self._cut(f"{rest} bytes of a record of {size} at the end")

    def _checked(self, records: NDArray[np.void]) -> NDArray[np.void]:
        if (records["length"] * 4 != self._record.itemsize).any():
            raise self._cut("a record of another size")
        return records

    def _pieces(self) -> Iterator[bytes]:
        with reading(self.path), self.path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(0)
            if head != ZSTD_MAGIC:
                while piece := stream.read(_READ_BYTES):
                    yield piece
                return
            # A stream reader ends silently where a cut file ends; a decompressor knows its frame.
            frame = zstandard.ZstdDecompressor().decompressobj()
            while piece := stream.read(_READ_BYTES):
                while piece:
                    if frame.eof:
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    try:
                        yield frame.decompress(piece)
                    except zstandard.ZstdError as error:
                        raise self._cut(str(error)) from error
                    piece = frame.unused_data if frame.eof else b""
            if not frame.eof:
                raise self._cut("the end inside a compressed frame")

    def _cut(self, found: str) -> EnvironmentFault:
        return EnvironmentFault(
            "unreadable or truncated file",
            expected="a complete DBN file",
            found=found,
            where=str(self.path),
            remedy="download it again",
        )


class _Names:
    """Symbols of instrument ids, which the vendor may give to another contract on another UTC day."""

    def __init__(self, metadata: databento_dbn.Metadata) -> None:
        rows: dict[tuple[int, int], tuple[int, str]] = {}
        id_first = str(metadata.stype_in) == "instrument_id"
        for name, intervals in metadata.mappings.items():
            for interval in intervals:
                number, symbol = (
                    (name, interval["symbol"]) if id_first else (interval["symbol"], name)
                )
                if number and symbol:
                    start, end = _day(interval["start_date"]), _day(interval["end_date"])
                    # Two names of one contract on one day: the first one asked for.
                    rows.setdefault((int(number), start), (end, symbol))
        keys = sorted(rows)
        self._key = np.array([(number << 20) + start for number, start in keys], np.int64)
        self._id = np.array([number for number, _ in keys], np.int64)
        self._end = np.array([rows[key][0] for key in keys], np.int64)
        self._symbol = pl.Series([rows[key][1] for key in keys] + [None], dtype=pl.String)

    def of(self, ids: Ints, ts_ns: Ints) -> pl.Series:
        """Return the symbols, null where the header names none."""
        day = ts_ns // DAY_NS
        at = np.searchsorted(self._key, (ids << 20) + day, side="right") - 1
        if self._key.size == 0:
            at = np.full(ids.shape, -1)
        known = (
            (at >= 0) & (self._id[at] == ids) & (day < self._end[at]) if self._key.size else at >= 0
        )
        return self._symbol.gather(np.where(known, at, len(self._symbol) - 1))


def _day(value: date) -> int:
    return value.toordinal() - date(1970, 1, 1).toordinal()
