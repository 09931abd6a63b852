"""Columns as the bytes of Parquet pages: dictionaries, packed bits, packed differences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import Ints
from ibs_core.kernels._jit import jit, jit_allocating

__all__ = ["DELTA_BLOCK", "MINIS", "index", "pack", "pack_deltas"]

Bytes = NDArray[np.uint8]
DELTA_BLOCK = 128
"""Values of one block of differences; Parquet asks for a multiple of 128."""
MINIS = 4
"""Parts of a block, each packed with a width of its own."""
_MINI = DELTA_BLOCK // MINIS
_MIX = 0x9E3779B97F4A7C15 - (1 << 64)


@jit
def index(values: Ints, slots: Ints, codes: Ints, distinct: Ints) -> int:
    """Give distinct values numbers, in the order in which they come.

    Parameters
    ----------
    values : (n,) int64
    slots : (2**k,) int64
        Filled with -1; more than twice as many as `distinct` has room for.
    codes : (n,) int64, written
    distinct : (capacity,) int64, written

    Returns
    -------
    int64, the number of distinct values; -1 when there is no room for them
    """
    n, last = 0, len(slots) - 1
    for i in range(len(values)):
        mixed = values[i] * _MIX
        at = (mixed ^ (mixed >> 32)) & last
        while slots[at] >= 0 and distinct[slots[at]] != values[i]:
            at = (at + 1) & last
        if slots[at] < 0:
            if n == len(distinct):
                return -1
            slots[at], distinct[n] = n, values[i]
            n += 1
        codes[i] = slots[at]
    return n


@jit
def pack(values: Ints, width: int, out: Bytes, at: int) -> int:
    """Write values bit after bit, the lowest first.

    Parameters
    ----------
    values : (n,) int64
        Of which the lowest `width` bits are taken; n a multiple of 8.
    width : int64, 0 to 63
    out : (capacity,) uint8, written
    at : int64, where to begin

    Returns
    -------
    int64, where it ended
    """
    held, n_held = np.uint64(0), 0
    for i in range(len(values)):
        value = np.uint64(values[i])
        left = width
        while left > 0:
            taken = min(left, 8)
            held |= (value & np.uint64((1 << taken) - 1)) << np.uint64(n_held)
            value >>= np.uint64(taken)
            n_held += taken
            left -= taken
            if n_held >= 8:
                out[at] = np.uint8(held & np.uint64(255))
                held >>= np.uint64(8)
                n_held -= 8
                at += 1
    return at


@jit
def _varint(value: int, out: Bytes, at: int) -> int:
    """Write a signed number, seven bits a byte."""
    zigzag = np.uint64((value << 1) ^ (value >> 63))
    while zigzag > np.uint64(127):
        out[at] = np.uint8((zigzag & np.uint64(127)) | np.uint64(128))
        zigzag >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(zigzag)
    return at + 1


@jit_allocating
def pack_deltas(values: Ints, out: Bytes) -> int:
    """Write the blocks of DELTA_BINARY_PACKED, four mini-blocks each; the page's header is not written.

    Parameters
    ----------
    values : (n,) int64
        Whose differences fit into 62 bits.
    out : (capacity,) uint8, written
        At least 9 bytes a value and 16 a block.

    Returns
    -------
    int64, the bytes written
    """
    at = 0
    excess = np.zeros(_MINI, np.int64)
    for first in range(1, len(values), DELTA_BLOCK):
        stop = min(first + DELTA_BLOCK, len(values))
        least = values[first] - values[first - 1]
        for i in range(first + 1, stop):
            least = min(least, values[i] - values[i - 1])
        at = _varint(least, out, at)
        widths = at
        at += MINIS
        for mini in range(MINIS):
            begin, greatest = first + mini * _MINI, 0
            excess[:] = 0
            for i in range(begin, min(begin + _MINI, stop)):
                excess[i - begin] = values[i] - values[i - 1] - least
                greatest = max(greatest, excess[i - begin])
            width = 0
            while greatest >> width > 0:
                width += 1
            out[widths + mini] = width
            if begin < stop:
                at = pack(excess, width, out, at)
    return at
