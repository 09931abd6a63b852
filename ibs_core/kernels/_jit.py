"""The one compiler policy.

Compiled code is kept in a folder that bears a digest of every source that is compiled, of the compiler and of
the processor: an edit means a new folder, never an old result, and machines that share a home do not share
code. ``fastmath`` stays off, because reordered sums would break the identity of batch and stream.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import platformdirs
from numba.core import entrypoints
from numba.core.registry import cpu_target

from ibs_core.kernels._store import Store

__all__ = [
    "COMPILED",
    "FOLDER",
    "cache_folder",
    "inlined",
    "is_warm",
    "jit",
    "jit_allocating",
    "watched",
]

_F = TypeVar("_F", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOM = 8 << 20  # bytes that the compiled kernels may take

COMPILED = (
    "bars.py",
    "decisions.py",
    "kernels/*.py",
    "portfolio.py",
    "positions.py",
    "replay.py",
    "signals.py",
)
"""The sources whose functions are compiled, and those whose constants such functions take in."""


def cache_folder() -> Path:
    """Name the folder of compiled code for exactly these sources on exactly this kind of processor.

    Returns
    -------
    Path
        ``kernels-<digest>`` below ``$IBS_CACHE_DIR``, ``$NUMBA_CACHE_DIR`` or the platform's cache.
    """
    processor = (
        cpu_target.target_context.codegen().magic_tuple()
    )  # its name and each of its features
    digest = hashlib.sha256(f"{processor} {platform.python_version()} {numba.__version__}".encode())
    for pattern in COMPILED:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.read_bytes())
    named = os.environ.get("IBS_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    root = named or platformdirs.user_cache_dir("ibs")
    return Path(root) / f"kernels-{digest.hexdigest()[:16]}"


def _usable_folder() -> Path | None:
    """Return a folder of that name that can be written and has room; None when there is none."""
    named = cache_folder()
    for folder in (named, Path(tempfile.gettempdir()) / f"ibs-{os.getuid()}" / named.name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not {folder.stat().st_uid, folder.parent.stat().st_uid} <= {os.getuid(), 0}:
                continue  # whoever else made it could put code there
            if any(folder.iterdir()) and os.access(folder, os.W_OK):
                return folder
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_ROOM))
        except OSError:
            continue
        return folder
    return None


FOLDER = _usable_folder()

# Other packages' extensions of Numba have no part in these kernels; to look for them, Numba would read the
# metadata of every installed package.
entrypoints._already_initialized = True  # noqa: SLF001

_njit: Any = numba.njit  # its types leave out `no_cfunc_wrapper` and `_nrt`
_kernels: set[str] = set()
_begun: set[str] = set()
_watchers: list[Callable[[int, int], None]] = []


def jit(function: _F) -> _F:
    """Compile a kernel: no fast maths, the GIL released, kept on disk where a folder can be had.

    It makes no array, so Numba counts no references to those that it is given: a caller holds them, and an atomic
    increment for every array that a bar's step passes on took most of that step's time.
    """
    return _compiled(function, _nrt=False)


def jit_allocating(function: _F) -> _F:
    """Compile a kernel that makes arrays of its own; it returns none to another kernel."""
    return _compiled(function, _nrt=True)


def inlined(function: _F) -> _F:
    """Compile a kernel into each kernel that calls it: one that returns a view, or is called for every bar."""
    return _compiled(function, _nrt=True, inline="always")


def _compiled(function: _F, **options: object) -> _F:
    # Without the wrapper for callers in C, of which there are none, a first run takes a sixth less time.
    kernel = _njit(nogil=True, fastmath=False, no_cfunc_wrapper=True, **options)(function)
    name = f"{function.__module__}.{function.__qualname__}"
    _kernels.add(name)
    if FOLDER is not None and kernel is not function:  # the same where compiling is off
        kernel._cache = Store(FOLDER, function, lambda: _begin(name))  # noqa: SLF001
    return cast("_F", kernel)


def is_warm() -> bool:
    """Tell whether kernels of exactly these sources were compiled here before."""
    return FOLDER is not None and any(FOLDER.iterdir())


@contextlib.contextmanager
def watched(told: Callable[[int, int], None]) -> Iterator[None]:
    """Tell of each kernel that has to be compiled, before it is.

    Parameters
    ----------
    told : callable
        Takes the number of kernels compiled by this process so far, and how many there are.
    """
    _watchers.append(told)
    try:
        yield
    finally:
        _watchers.remove(told)


def _begin(name: str) -> None:
    _begun.add(name)
    for told in _watchers:
        told(len(_begun), len(_kernels))
