"""Pages of Parquet as `bar_file` writes them back to columns, some thousand rows at a time.

Only that layout is understood, byte for byte; anything else is refused, never guessed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import Floats, Ints, Record, Records
from ibs_core.kernels._jit import jit, jit_allocating
from ibs_core.kernels.pages import DELTA_BLOCK, MINIS

__all__ = ["DISTINCT", "N_COLUMNS", "PLACE", "SLACK", "WIDEST", "open_pages", "unpack"]

Bytes = NDArray[np.uint8]
DISTINCT = 1 << 15
"""Entries of the largest dictionary: one of more would not fit into the processor's nearest cache."""
N_COLUMNS = 6
"""Times, the four prices and the volume."""
SLACK = 1024
"""Bytes behind the pages that may be read, though they mean nothing: a block of differences fits into them."""
WIDEST = 56
"""Bits that one load holds wherever they begin in a byte: of more no difference may be."""
PLACE = np.dtype(
    [
        ("encoding", "i8"),  # of Parquet: 0 plain, 5 packed differences, 8 numbers of a dictionary
        ("at", "i8"),  # where the values begin; of differences, where the next block does
        ("width", "i8"),  # bits of a dictionary's numbers
        ("last", "i8"),  # of differences: the value before the next block
        ("stop", "i8"),  # where the column's bytes end
    ],
)
"""Where a column is read."""

_PLAIN, _DELTA, _DICTIONARY = 0, 5, 8
_NUMBER = 0x15  # what Thrift writes before the next field when it is a 32-bit number
_IS_DICTIONARY = 4  # the kind of a page, as Thrift writes a 2
_DICTIONARY_PAGE = np.array([21, 21, 21, 0x4C, 21, 21, 0, 0], np.uint8)
_DATA_PAGE = np.array([21, 21, 21, 0x2C, 21, 21, 21, 21, 0, 0], np.uint8)
_VOLUME = N_COLUMNS - 1
_FOUR_FIT = np.uint64(
    14
)  # bits of numbers of which one load holds four, wherever they begin in a byte


@jit
def _word(data: Bytes, at: int | np.uint64) -> np.uint64:
    """Read eight bytes; written out, because the compiler makes one load of it."""
    i = np.uint64(at)
    return (
        np.uint64(data[i])
        | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[i + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[i + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[i + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[i + np.uint64(7)]) << np.uint64(56)
    )


@jit
def _varint(data: Bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and where it ends."""
    value, shift = np.uint64(0), np.uint64(0)
    while data[at] > 127 and shift < np.uint64(63):
        value |= np.uint64(data[at] & 127) << shift
        shift += np.uint64(7)
        at += 1
    return int(np.int64(value | np.uint64(data[at]) << shift)), at + 1


@jit
def _signed(data: Bytes, at: int) -> tuple[int, int]:
    """Read a number whose lowest bit is its sign; return it and where it ends."""
    value, at = _varint(data, at)
    return int(np.int64(np.uint64(value) >> np.uint64(1))) ^ -(value & 1), at


@jit
def _header(data: Bytes, at: int, form: Bytes, found: Ints) -> int:
    """Read the numbers of a page's header; return where it ends, or -1 when it is of another form."""
    k = 0
    for sign in form:
        if data[at] != sign:
            return -1
        at += 1
        if sign == _NUMBER:
            found[k], at = _signed(data, at)
            k += 1
    return at if found[1] == found[2] else -1  # packed and unpacked are of one size


@jit
def _find_values(data: Bytes, at: int, n: int, n_distinct: int, place: Record) -> bool:
    """Note where the values of a data page begin; False when they do not fill it."""
    if place["encoding"] == _PLAIN:
        place["at"] = at
        return place["stop"] - at == 8 * n
    if place["encoding"] == _DICTIONARY:
        place["width"] = data[at]
        head, place["at"] = _varint(data, at + 1)
        n_bytes = (n + 7) // 8 * place["width"]
        fits = head == ((n + 7) // 8 << 1 | 1) and place["at"] + n_bytes == place["stop"]
        return fits and n_distinct > 0 and place["width"] >= 1 and 1 << place["width"] <= DISTINCT
    block, at = _varint(data, at)
    minis, at = _varint(data, at)
    total, at = _varint(data, at)
    place["last"], place["at"] = _signed(data, at)
    of_ours = place["encoding"] == _DELTA and block == DELTA_BLOCK and minis == MINIS
    return of_ours and total == n


@jit_allocating
def _open_column(data: Bytes, at: int, n: int, place: Record, entries: Ints) -> int:
    """Return the number of different values, 0 without a dictionary; -1: this is not the layout."""
    found = np.zeros(5, np.int64)
    n_distinct = 0
    if data[at + 1] == _IS_DICTIONARY:
        at = _header(data, at, _DICTIONARY_PAGE, found)
        n_distinct = found[3]
        if at < 0 or not 0 < n_distinct <= len(entries) or found[1] != 8 * n_distinct:
            return -1
        if at + found[1] > place["stop"]:
            return -1
        for k in range(n_distinct):
            entries[k] = np.int64(_word(data, at + 8 * k))
        at += found[1]
    at = _header(data, at, _DATA_PAGE, found)
    if at < 0 or found[0] != 0 or at + found[1] != place["stop"] or found[3] != n:
        return -1
    place["encoding"] = found[4]
    n_bytes = np.int64(_word(data, at) & np.uint64(0xFFFFFFFF))
    all_there, then = _varint(data, at + 4)
    if all_there != n << 1 or data[then] != 1 or then - at - 3 != n_bytes:
        return -1
    return n_distinct if _find_values(data, then + 1, n, n_distinct, place) else -1


@jit
def open_pages(
    data: Bytes, chunks: Ints, n: int, reads_volume: int, places: Records, dictionaries: Floats
) -> bool:
    """Find where the values of a row group's columns begin, and copy their dictionaries.

    Parameters
    ----------
    data : (n_bytes + SLACK,) uint8
    chunks : (8,) int64
        Where the chunks of the seven columns of the layout begin, and where the last ends.
    n : int64
        Rows.
    reads_volume : int64
        1: the volume is read too.
    places : (N_COLUMNS,) PLACE, written
    dictionaries : (N_COLUMNS, DISTINCT) float64, written

    Returns
    -------
    bool
        False when the pages are of another layout, or hold nulls.
    """
    for i in range(N_COLUMNS if reads_volume == 1 else N_COLUMNS - 1):
        chunk = i + 1 if i > 0 else 0  # the symbols are not looked at
        place, values = places[i], dictionaries[i]
        place["stop"] = chunks[chunk + 1]
        entries = values.view(np.int64)
        n_distinct = _open_column(data, chunks[chunk], n, place, entries)
        if n_distinct < 0 or (place["encoding"] == _DELTA) != (i == 0):
            return False
        if n_distinct > 0:
            if i == _VOLUME:
                for k in range(n_distinct):
                    values[k] = entries[k]
            # A number beyond the dictionary is a price that no law allows, or a volume that is unknown.
            values[n_distinct : 1 << place["width"]] = np.nan
    return True


@jit
def _times(data: Bytes, place: Record, first: int, out: Ints) -> bool:
    """Read times, which end with a block or with the page; False when the page ends too early."""
    at, last = place["at"], place["last"]
    i, n = 0, len(out)
    if first == 0:
        out[0], i = last, 1
    while i < n:
        if at >= place["stop"]:
            return False
        least, at = _signed(data, at)
        widths = _word(data, at)
        at += MINIS
        for mini in range(MINIS):
            width = int(np.int64(widths >> np.uint64(8 * mini) & np.uint64(255)))
            if width > WIDEST:
                return False
            stop = min(i + DELTA_BLOCK // MINIS, n)
            if width == 0:  # no minute is missing: most are of this kind
                for k in range(stop - i):
                    out[i + k] = last + least * (k + 1)
                last += least * (stop - i)
            else:
                mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
                for k in range(stop - i):
                    bits = _word(data, at + (k * width >> 3)) >> np.uint64(k * width & 7)
                    last += least + np.int64(bits & mask)
                    out[i + k] = last
                at += DELTA_BLOCK // MINIS // 8 * width if stop > i else 0
            i = stop
    place["at"], place["last"] = at, last
    return at <= place["stop"]


@jit
def _numbers(data: Bytes, place: Record, values: Floats, first: int, out: Floats) -> None:
    """Read rows of a column of prices, or of volumes."""
    at, width = np.uint64(place["at"]), np.uint64(place["width"])
    if place["encoding"] == _PLAIN:
        bits = out.view(np.int64)
        for k in range(len(out)):
            bits[k] = np.int64(_word(data, place["at"] + 8 * (first + k)))
        return
    mask, bit = (np.uint64(1) << width) - np.uint64(1), np.uint64(first) * width
    i, n, four = np.uint64(0), np.uint64(len(out)), np.uint64(4)
    while width <= _FOUR_FIT and i + four <= n:
        word = _word(data, at + (bit >> np.uint64(3))) >> (bit & np.uint64(7))
        out[i] = values[word & mask]
        out[i + np.uint64(1)] = values[word >> width & mask]
        out[i + np.uint64(2)] = values[word >> width + width & mask]
        out[i + np.uint64(3)] = values[word >> width + width + width & mask]
        bit += four * width
        i += four
    while i < n:
        word = _word(data, at + (bit >> np.uint64(3)))
        out[i] = values[word >> (bit & np.uint64(7)) & mask]
        bit += width
        i += np.uint64(1)


@jit
def unpack(
    data: Bytes, places: Records, dictionaries: Floats, first: int, ts: Ints, columns: Floats
) -> bool:
    """Read the next rows of pages that `open_pages` opened.

    Parameters
    ----------
    data : (n_bytes + SLACK,) uint8
    places : (N_COLUMNS,) PLACE, written
    dictionaries : (N_COLUMNS, DISTINCT) float64
    first : int64
        The first row: 0, or one more than a multiple of DELTA_BLOCK, and no row is left out.
    ts : (n,) int64, written
        Ends one row behind a multiple of DELTA_BLOCK, or with the pages.
    columns : (4 or 5, n) float64, written
        The prices and, where there is a fifth row, the volume.

    Returns
    -------
    bool
        False when the times do not fit into their page.
    """
    for i in range(len(columns)):
        _numbers(data, places[i + 1], dictionaries[i + 1], first, columns[i])
    if len(columns) == _VOLUME and places[_VOLUME]["encoding"] == _PLAIN:
        counts = columns[_VOLUME - 1].view(np.int64)
        for i in range(len(ts)):
            columns[_VOLUME - 1, i] = counts[i]
    return _times(data, places[0], first, ts)
