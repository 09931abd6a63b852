"""One kept file: arrays as they lie in memory, then what is said of them, then a seal.

The arrays come first, so that everything is written in one pass and checksums are those of what was written.
Read, the file is mapped and nothing is copied; writing to an array changes this process's copy of a page only.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

__all__ = ["DamagedEntryError", "Entry", "open_entry", "write_entry"]

_MAGIC: Final = b"IBSBARS1"
_SEAL: Final = len(_MAGIC) + 8 + 32  # the mark, where the text starts, SHA-256 of the text
_ALIGNED: Final = 64
_CHUNK: Final = 1 << 20  # what is checked is still in the processor's cache when it is written


class DamagedEntryError(ValueError):
    """A file that is no whole entry."""


class Entry:
    """An opened file.

    Parameters
    ----------
    pages : mmap
    facts : dict
        What its writer said, JSON values.
    places : mapping of str to (offset, n_bytes, checksum)
    """

    def __init__(
        self, pages: mmap.mmap, facts: dict[str, Any], places: Mapping[str, tuple[int, int, int]]
    ) -> None:
        self._pages, self._places = pages, places
        self.facts = facts

    def array(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array, which is valid as long as anything refers to it.

        Parameters
        ----------
        name : str
        dtype : numpy.dtype

        Returns
        -------
        (n,) of `dtype`
            Plain and writable, as compiled code knows arrays; what is written stays in this process.
        """
        offset, n_bytes, _ = self._places[name]
        if not n_bytes:
            return np.zeros(0, dtype)
        return np.frombuffer(self._pages, dtype, n_bytes // dtype.itemsize, offset)

    def is_whole(self) -> bool:
        """Tell whether every array has the bytes that were written."""
        pages = memoryview(self._pages)
        return all(
            zlib.crc32(pages[offset : offset + n_bytes]) == checksum
            for offset, n_bytes, checksum in self._places.values()
        )


def open_entry(path: Path) -> Entry:
    """Map a file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Entry

    Raises
    ------
    DamagedEntryError
        It is cut, or what is said of its arrays is not what was written.
    OSError
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size < _SEAL:
            raise DamagedEntryError("cut")
        pages = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY)
    seal = pages[size - _SEAL :]
    start = int.from_bytes(seal[8:16], "little")
    text = pages[start : size - _SEAL] if start <= size - _SEAL else b""
    if seal[:8] != _MAGIC or hashlib.sha256(text).digest() != seal[16:]:
        raise DamagedEntryError("its end is not what was written")
    head = json.loads(text)
    return Entry(pages, head["facts"], {name: tuple(at) for name, at in head["arrays"].items()})


def write_entry(
    stream: BinaryIO, facts: dict[str, Any], arrays: Mapping[str, Sequence[NDArray[Any]]]
) -> None:
    """Write a file, and wait until it is on the disk.

    Parameters
    ----------
    stream : binary file
        New.
    facts : dict
        JSON values.
    arrays : mapping of str to sequence of (n,) arrays, C-contiguous
        The parts of an array are laid end to end.

    Raises
    ------
    OSError
    """
    places = {}
    offset = 0
    for name, parts in arrays.items():
        start, checksum = offset, 0
        for part in parts:
            content = part.view(np.uint8).data
            for first in range(0, len(content), _CHUNK):
                chunk = content[first : first + _CHUNK]
                checksum = zlib.crc32(chunk, checksum)
                stream.write(chunk)
            offset += len(content)
        places[name] = start, offset - start, checksum
        offset += stream.write(bytes(-offset % _ALIGNED))
    text = json.dumps({"facts": facts, "arrays": places}).encode()
    seal = _MAGIC + offset.to_bytes(8, "little") + hashlib.sha256(text).digest()
    stream.write(text + seal)
    stream.flush()
    os.fsync(stream.fileno())
