"""Bars as a Parquet file that is small and quick to read.

Of minute bars nearly everything repeats: prices stand on a tick grid, so a row group holds some thousand
different ones, and minutes follow each other. Prices and volume are written as numbers of a dictionary, times
as packed differences, nothing is compressed. Polars cannot write that layout and reads it in half of
the time that its own takes, from less than half of the bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibs_core.kernels import pages
from ibs_core.kernels.unpack import DISTINCT, WIDEST
from ibs_core.market_data.packed import BARS, MARK, WRITER, PackedGroup, told
from ibs_core.parquet_file import ROW_GROUP
from ibs_core.thrift import Int32, Value, struct, varint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any, BinaryIO

    from ibs_core.bars import Ints

__all__ = ["BARS", "write_bars"]

_MAGIC = b"PAR1"
_INT64, _DOUBLE, _BYTE_ARRAY = Int32(2), Int32(5), Int32(6)
_PLAIN, _RLE, _DELTA, _DICTIONARY = Int32(0), Int32(3), Int32(5), Int32(8)
_DATA_PAGE, _DICTIONARY_PAGE = Int32(0), Int32(2)
_OPTIONAL, _UTF8, _UNCOMPRESSED = Int32(1), Int32(0), Int32(0)
_NS_UTC: Value = {8: {1: True, 2: {3: {}}}}
_SHORT = 4096  # rows; more symbols than one in so many alternate, and are left as they are


def write_bars(frames: Iterable[pl.DataFrame], path: Path, marks: dict[str, str]) -> Path:
    """Write bars under a hidden name, then give the file its own.

    Parameters
    ----------
    frames : iterable of polars.DataFrame
        Of the schema `BARS`; none is kept once it is written.
    path : Path
    marks : dict of str to str
        What the file says of itself.

    Returns
    -------
    Path
        `path`: a write that is cut short leaves nothing there that a glob would read.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(_MAGIC)
            groups = [
                _row_group(stream, rows)
                for frame in frames
                for part in _one_symbol_each(frame.match_to_schema(BARS))
                for rows in part.iter_slices(ROW_GROUP)
            ]
            pages = [pages for _, pages in groups]
            packed = [group for group in pages if group is not None]
            if packed and len(packed) == len(pages):
                marks = marks | {MARK: told(packed)}
            footer = struct(_footer([group for group, _ in groups], marks))
            stream.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _one_symbol_each(frame: pl.DataFrame) -> Iterable[pl.DataFrame]:
    """Cut where another symbol begins: row groups of one symbol are read without looking at symbols."""
    lengths = frame["symbol"].rle().struct.field("len").to_list()
    if len(lengths) > 1 + frame.height // _SHORT:
        return [frame]
    starts = np.cumsum([0, *lengths]).tolist()
    return [frame.slice(start, length) for start, length in zip(starts, lengths, strict=False)]


def _footer(groups: list[dict[int, Any]], marks: dict[str, str]) -> dict[int, Value]:
    physical = {pl.Float64: _DOUBLE, pl.String: _BYTE_ARRAY}
    schema: list[Value] = [{4: b"root", 5: Int32(len(BARS))}]
    for name, kind in BARS.items():
        element: dict[int, Value] = {1: physical.get(type(kind), _INT64), 3: _OPTIONAL}
        element[4] = name.encode()
        if kind == pl.String:
            element |= {6: _UTF8, 10: {1: {}}}
        elif kind not in (pl.Float64, pl.Int64):
            element[10] = _NS_UTC
        schema.append(element)
    footer: dict[int, Value] = {1: Int32(1), 2: schema}
    footer[3] = sum(group[3] for group in groups)
    footer[4] = groups
    if marks:
        footer[5] = [{1: key.encode(), 2: value.encode()} for key, value in marks.items()]
    return footer | {6: WRITER, 7: [{1: {}} for _ in BARS]}


def _row_group(stream: BinaryIO, rows: pl.DataFrame) -> tuple[dict[int, Any], PackedGroup | None]:
    """Write a row group; return what the footer says of it, and where its pages are."""
    chunks = [_chunk(stream, rows[name]) for name in BARS]
    n_bytes = sum(chunk[3][7] for chunk in chunks)
    starts = (*(chunk[2] for chunk in chunks), stream.tell())
    return {1: chunks, 2: n_bytes, 3: rows.height}, _packed(rows, starts)


def _packed(rows: pl.DataFrame, starts: tuple[int, ...]) -> PackedGroup | None:
    """Tell where the pages are, if `kernels.unpack` can read them."""
    *others, volume = (rows[name].null_count() for name in BARS)
    if not rows.height or any(others) or rows["symbol"].n_unique() > 1:
        return None
    times = rows["ts_event"].to_physical().to_numpy()
    if np.ptp(np.diff(times, append=times[-1])) >= 1 << WIDEST:
        return None
    first_ns, last_ns = int(times[0]), int(times[-1])
    return PackedGroup(rows["symbol"][0], rows.height, first_ns, last_ns, volume == 0, starts)


def _chunk(stream: BinaryIO, column: pl.Series) -> dict[int, Any]:
    """Write one column of a row group; return what the footer says of it."""
    present = column.drop_nulls()
    dictionary: tuple[int, bytes] | None
    if column.dtype == pl.String:
        kind, dictionary, (encoding, values) = _BYTE_ARRAY, *_words(present)
    else:
        kind = _DOUBLE if column.dtype == pl.Float64 else _INT64
        bits = present.to_numpy().view(np.int64)
        is_time = column.dtype not in (pl.Float64, pl.Int64)
        dictionary, (encoding, values) = (None, _deltas(bits)) if is_time else _numbers(bits)
    start = stream.tell()
    meta: dict[int, Value] = {1: kind, 2: [_PLAIN, _RLE, encoding], 3: [column.name.encode()]}
    meta |= {4: _UNCOMPRESSED, 5: len(column)}
    if dictionary is not None:
        n_distinct, plain = dictionary
        header: Value = {1: Int32(n_distinct), 2: _PLAIN}
        stream.write(_page({1: _DICTIONARY_PAGE}, 7, header, plain))
    data_start = stream.tell()
    levels = _levels(column)
    told: Value = {1: Int32(len(column)), 2: encoding, 3: _RLE, 4: _RLE}
    stream.write(
        _page({1: _DATA_PAGE}, 5, told, len(levels).to_bytes(4, "little") + levels + values)
    )
    size = stream.tell() - start
    meta |= {6: size, 7: size, 9: data_start}
    if dictionary is not None:
        meta[11] = start
    meta[12] = _extremes(column, present)
    return {2: start, 3: meta}


def _page(head: dict[int, Value], field: int, told: Value, body: bytes) -> bytes:
    size = Int32(len(body))
    return struct(head | {2: size, 3: size, field: told}) + body


def _extremes(column: pl.Series, present: pl.Series) -> dict[int, Value]:
    """Return what lets a reader leave out whole row groups; nothing of prices where one is NaN."""
    known: dict[int, Value] = {3: column.null_count()}
    is_float = column.dtype == pl.Float64
    if present.is_empty() or (is_float and present.is_nan().any()):
        return known
    both = pl.Series([present.max(), present.min()], dtype=present.dtype)
    if column.dtype == pl.String:
        high, low = (each.encode() for each in both)
    else:
        high, low = (each.tobytes() for each in both.to_physical().to_numpy())
    return known | {5: high, 6: low}


def _levels(column: pl.Series) -> bytes:
    """Tell which rows have a value: one run of ones where all have."""
    if not column.null_count():
        return varint(len(column) << 1) + b"\1"
    bits = np.packbits(column.is_not_null().to_numpy(), bitorder="little")
    return varint(len(bits) << 1 | 1) + bits.tobytes()


def _words(column: pl.Series) -> tuple[tuple[int, bytes] | None, tuple[Int32, bytes]]:
    """Encode strings, which repeat row after row, as runs of a dictionary's entries."""
    runs = column.rle().struct.unnest()
    names = {name: code for code, name in enumerate(runs["value"].unique(maintain_order=True))}
    n_bytes = max((len(names) - 1).bit_length() + 7, 8) // 8
    plain = b"".join(len(each := name.encode()).to_bytes(4, "little") + each for name in names)
    coded = b"".join(
        varint(length << 1) + names[name].to_bytes(n_bytes, "little")
        for length, name in runs.iter_rows()
    )
    return (len(names), plain), (_DICTIONARY, bytes([8 * n_bytes]) + coded)


def _numbers(bits: Ints) -> tuple[tuple[int, bytes] | None, tuple[Int32, bytes]]:
    """Encode numbers as entries of a dictionary, or as they are where too many differ."""
    distinct, codes = np.zeros(DISTINCT, np.int64), np.zeros(-len(bits) // 8 * -8, np.int64)
    n_distinct = pages.index(bits, np.full(4 * DISTINCT, -1), codes, distinct)
    if n_distinct < 0:
        return None, (_PLAIN, bits.tobytes())
    width = max((n_distinct - 1).bit_length(), 1)
    packed = np.zeros(len(codes) // 8 * width, np.uint8)
    pages.pack(codes, width, packed, 0)
    head = bytes([width]) + varint(len(codes) // 8 << 1 | 1)
    return (n_distinct, distinct[:n_distinct].tobytes()), (_DICTIONARY, head + packed.tobytes())


def _deltas(bits: Ints) -> tuple[Int32, bytes]:
    """Encode times as differences."""
    first = int(bits[0]) if len(bits) else 0
    head = (
        varint(pages.DELTA_BLOCK)
        + varint(pages.MINIS)
        + varint(len(bits))
        + varint(first << 1 ^ first >> 63)
    )
    room = np.zeros(
        9 * (len(bits) + pages.DELTA_BLOCK) + 16 * (len(bits) // pages.DELTA_BLOCK + 1), np.uint8
    )
    return _DELTA, head + room[: pages.pack_deltas(bits, room)].tobytes()
