"""State as bytes: named arrays to one block and back, bit for bit."""

from __future__ import annotations

import ast
import struct
import zlib
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

_HEAD = struct.Struct("<III")
"""Before each array: how long its name and the spelling of its dtype are, and how many dimensions it has."""

_LEVEL = 1
"""Of compression: most of a state is empty rings, and a slice must not wait for more."""


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write arrays as one block.

    Parameters
    ----------
    arrays : Mapping of str to array
        Numbers, records of numbers, or fixed-width text; no objects.

    Returns
    -------
    bytes
        The same for the same arrays.
    """
    parts: list[bytes] = []
    for name in sorted(arrays):
        array, text = arrays[name], name.encode()
        layout = _spelled(array.dtype)
        parts += (_HEAD.pack(len(text), len(layout), array.ndim), text, layout)
        parts += (struct.pack(f"<{array.ndim}q", *array.shape), _by_words(array))
    return zlib.compress(b"".join(parts), _LEVEL)


def unpack(block: bytes) -> dict[str, NDArray[Any]]:
    """Read a block that ``pack`` wrote.

    Parameters
    ----------
    block : bytes

    Returns
    -------
    dict of str to array

    Raises
    ------
    DataError
        The block is damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        room, at = zlib.decompress(block), 0
        while at < len(room):
            n_name, n_layout, n_dims = _HEAD.unpack_from(room, at)
            at += _HEAD.size
            name, dtype = (
                room[at : at + n_name].decode(),
                _read(room[at + n_name : at + n_name + n_layout]),
            )
            at += n_name + n_layout
            shape = struct.unpack_from(f"<{n_dims}q", room, at)
            at += 8 * n_dims
            n_bytes = dtype.itemsize * prod(shape)
            arrays[name] = _by_records(room[at : at + n_bytes], shape, dtype)
            at += n_bytes
    except (ValueError, TypeError, SyntaxError, struct.error, zlib.error) as error:
        raise DataError("stored state is damaged", found=str(error)) from error
    return arrays


def _by_words(array: NDArray[Any]) -> bytes:
    """Write records word after word, not record after record: in half the time to half the size."""
    if not _has_words(array.dtype, array.shape):
        return array.tobytes()
    words = np.ascontiguousarray(array).view(np.int64)
    return words.reshape(len(array), -1).T.tobytes()


def _by_records(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if not _has_words(dtype, shape):
        return np.ndarray(shape, dtype, data).copy()
    words = np.frombuffer(data, np.int64).reshape(-1, shape[0]).T
    return words.copy().view(dtype).reshape(shape)


def _has_words(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    is_records = dtype.names is not None and dtype.itemsize % 8 == 0
    return is_records and len(shape) == 1 and shape[0] > 1


@lru_cache(maxsize=256)
def _spelled(dtype: np.dtype[Any]) -> bytes:
    """Spell a dtype; a few dozen are met again and again, and NumPy takes 100 us for a large one."""
    assert not dtype.hasobject, dtype
    return repr(np.lib.format.dtype_to_descr(dtype)).encode()


@lru_cache(maxsize=256)
def _read(layout: bytes) -> np.dtype[Any]:
    return np.lib.format.descr_to_dtype(ast.literal_eval(layout.decode()))
