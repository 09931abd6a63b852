"""The one compiler policy.

Numba's on-disk cache does not notice an edit in a callee of another file, so the cache folder bears a
digest of every source that is compiled, of the compiler and of the kind of processor: an edit means a new
folder, never an old result. ``fastmath`` stays off, because reordered sums would break the identity of
batch and stream.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import platformdirs

_F = TypeVar("_F", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOM = 8 << 20  # bytes that the compiled kernels may take
_COMPILED = ("bars.py", "signals.py", "positions.py", "portfolio.py", "replay.py", "kernels/*.py")


def cache_folder() -> Path:
    """Name the folder of compiled code for exactly these sources.

    Returns
    -------
    Path
        ``kernels-<digest>`` below ``$IBS_CACHE_DIR``, ``$NUMBA_CACHE_DIR`` or the platform's cache.
    """
    digest = hashlib.sha256(
        f"{platform.machine()} {platform.python_version()} {numba.__version__}".encode()
    )
    for pattern in _COMPILED:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.read_bytes())
    named = os.environ.get("IBS_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    root = named or platformdirs.user_cache_dir("ibs")
    return Path(root) / f"kernels-{digest.hexdigest()[:16]}"


def _usable_folder() -> Path | None:
    """Return a folder of that name that can be written; None when there is none.

    Where it cannot, Numba would silently keep its results beside the sources, without a digest.
    """
    named = cache_folder()
    for folder in (named, Path(tempfile.gettempdir()) / f"ibs-{os.getuid()}" / named.name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()) and os.access(folder, os.W_OK):
                return folder
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_ROOM))
        except OSError:
            continue
        return folder
    return None


FOLDER = _usable_folder()

# Set on the library itself, not in the environment: it may have been imported before, and its folder
# named by a user has no digest.
numba.config.CACHE_DIR = str(FOLDER or "")  # type: ignore[attr-defined]


def jit(function: _F) -> _F:
    """Compile a kernel: no fast maths, the GIL released, cached on disk where a folder can be had."""
    return cast("_F", numba.njit(cache=FOLDER is not None, nogil=True, fastmath=False)(function))


def is_warm() -> bool:
    """Tell whether kernels of exactly these sources were compiled here before."""
    return FOLDER is not None and any(FOLDER.iterdir())
