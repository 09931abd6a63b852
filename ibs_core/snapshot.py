"""State as bytes: named arrays to one block and back, bit for bit."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

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
    room = io.BytesIO()
    for name in sorted(arrays):
        text = name.encode()
        room.write(len(text).to_bytes(4, "little"))
        room.write(text)
        np.lib.format.write_array(room, np.ascontiguousarray(arrays[name]), allow_pickle=False)
    return zlib.compress(room.getvalue(), _LEVEL)


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
        room = io.BytesIO(zlib.decompress(block))
        while head := room.read(4):
            name = room.read(int.from_bytes(head, "little")).decode()
            arrays[name] = np.lib.format.read_array(room, allow_pickle=False)
    except (ValueError, EOFError, zlib.error) as error:
        raise DataError("stored state is damaged", found=str(error)) from error
    return arrays
