"""What decides kept bytes, as a name: another input is another name, so nothing kept is ever stale."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core.kernels._jit import cache_folder
from ibs_core.market_data.files import footer
from ibs_core.sessions import DAY_NS, YEARS, calendar_path, local_offset

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["contents_of", "files_digest", "name_of", "sources_digest"]

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def name_of(value: Any) -> str:
    """Name a JSON value.

    Parameters
    ----------
    value : JSON value

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def sources_digest() -> str:
    """Return a digest of whatever computes: every source file, the compiler, the libraries, the calendar.

    Returns
    -------
    str
    """
    digest = hashlib.sha256(f"{cache_folder().name} {np.__version__} {pl.__version__}".encode())
    digest.update(f"{platform.machine()} {np.little_endian}".encode())
    for source in sorted(_PACKAGE.rglob("*.py")):
        digest.update(str(source.relative_to(_PACKAGE)).encode())
        digest.update(source.read_bytes())
    digest.update(calendar_path().read_bytes())
    first, last = (int(np.datetime64(str(year), "D").astype(int)) * DAY_NS for year in YEARS)
    for table in local_offset(first, last):  # the clock of the exchange, as this machine knows it
        digest.update(table.tobytes())
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Return a digest of which files these are, without reading their content.

    Parameters
    ----------
    paths : iterable of Path
        In the order in which they are read.

    Returns
    -------
    str
        Of each file's place, size, times of change, and of what Parquet says at its end. The time of the last
        change of anything (ctime) cannot be set by a program, so an edit that restores the other time is seen.

    Raises
    ------
    OSError
    """
    told = []
    for path in paths:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == b"PAR1"
            end = hashlib.sha256(footer(stream)).hexdigest() if is_parquet else ""
        told.append([str(path.resolve()), *_stamps(path), end])
    return name_of(told)


def contents_of(paths: Iterable[Path]) -> str:
    """Return a digest of the whole content of files.

    Parameters
    ----------
    paths : iterable of Path

    Returns
    -------
    str

    Raises
    ------
    OSError
    """
    digests = []
    for path in paths:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return name_of(digests)


def _stamps(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
