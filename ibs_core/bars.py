"""The data language of the core: what a bar is, as records of 8-byte fields.

Times are int64 nanoseconds UTC, prices float64 in quote units. A bar is stamped with its start and is
known at its end, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BAR",
    "DAY_NS",
    "EXIT_REASONS",
    "MINUTE_NS",
    "NEVER",
    "PATH",
    "SESSION",
    "TIMEFRAMES_NS",
    "Floats",
    "Ints",
    "Record",
    "Records",
    "joined",
    "reordered",
]

Record: TypeAlias = np.void
"""One record; docstrings name its dtype, which NumPy's types cannot."""
Records: TypeAlias = NDArray[np.void]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

MINUTE_NS = 60 * 10**9
DAY_NS = 86_400 * 10**9
NEVER = 2**62
"""An instant after every other (int64 ns), used where an event is not scheduled."""

TIMEFRAMES_NS = {
    "1m": MINUTE_NS,
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "30m": 30 * MINUTE_NS,
    "1h": 60 * MINUTE_NS,
    "4h": 240 * MINUTE_NS,
    "1d": 7 * DAY_NS,  # longer than any session: a bar always ends at its session's close
}

BAR = np.dtype(
    [
        ("start_ns", "i8"),  # nominal start of the bucket; after a roll inside it, the seam
        ("end_ns", "i8"),  # the bar is known here
        ("first_ns", "i8"),  # open of its first minute
        ("last_ns", "i8"),  # open of its last minute
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),  # NaN when the source has none
        ("n_minutes", "i8"),
        ("session", "i8"),  # index into the session table
        ("contract", "i8"),  # id of the contract, unique within a root
        ("seam_ns", "i8"),  # roll instant when this is the first bar of its contract, else 0
        ("gap", "f8"),  # first open of this contract - last close of the old one; 0 without a seam
        ("path_start", "i8"),  # this bar's minutes in the PATH array: [path_start, path_stop)
        ("path_stop", "i8"),
    ],
)
"""A signal bar or a session bar. Laws: ``start_ns <= first_ns <= last_ns < end_ns`` and
``low <= open, close <= high``."""

SESSION = np.dtype(
    [
        ("open_ns", "i8"),
        ("close_ns", "i8"),
        ("break_start_ns", "i8"),  # the pause [start, end); both are the close when there is none
        ("break_end_ns", "i8"),
        ("date", "i8"),  # trade date, days since 1970-01-01
    ],
)
"""One session as kernels see it: integers, in order, never overlapping."""

PATH = np.dtype([("ts_ns", "i8"), ("open", "f8"), ("high", "f8"), ("low", "f8"), ("close", "f8")])
"""A minute that matters inside its bar: one that made a new high or low, or stands beside a mark."""

EXIT_REASONS = (
    "stop",
    "target",
    "ibs",
    "bars",
    "flat_by",
    "roll",
    "portfolio",
    "protective_stop",
    "protective_target",
    "operator",
)
"""Why a position was left; a code is an index here + 1."""


def joined(parts: Sequence[Records]) -> Records:
    """Concatenate records of one dtype.

    Parameters
    ----------
    parts : sequence of (n,) records
        At least one, all C-contiguous.

    Returns
    -------
    (sum of n,) records
        The part itself when there is only one; where parts already lie end to end, no copy.

    Notes
    -----
    As opaque bytes: NumPy compares the dtypes field by field for every part, which takes longer than the copy.
    """
    if len(parts) == 1:
        return parts[0]
    if (whole := _spanned(parts)) is not None:
        return whole
    opaque = np.dtype((np.void, parts[0].dtype.itemsize))
    return np.concatenate([part.view(opaque) for part in parts]).view(parts[0].dtype)


def reordered(records: Records, places: Ints) -> Records:
    """Take records by their places.

    Parameters
    ----------
    records : (n,) records
    places : (k,) int64

    Returns
    -------
    (k,) records

    Notes
    -----
    As opaque bytes: NumPy copies records field by field, which takes ten times as long.
    """
    opaque = np.dtype((np.void, records.dtype.itemsize))
    return np.ascontiguousarray(records).view(opaque)[places].view(records.dtype)


def _spanned(parts: Sequence[Records]) -> Records | None:
    """Return the array whose consecutive pieces the parts are; None where they are not."""
    parts = [part for part in parts if len(part)]  # an empty one lies anywhere
    whole = parts[0].base if parts else None
    if not isinstance(whole, np.ndarray) or whole.dtype != parts[0].dtype or whole.ndim != 1:
        return None
    start = at = _address(parts[0])
    for part in parts:
        if part.base is not whole or _address(part) != at:
            return None
        at += part.nbytes
    first = (start - _address(whole)) // whole.itemsize
    found: Records = whole[first : first + sum(map(len, parts))]
    return found


def _address(records: Records) -> int:
    place: int = records.__array_interface__["data"][0]
    return place
