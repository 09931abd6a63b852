"""How long live waits before it acts without being told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Limits"]

_SECOND: Final = 10**9


@dataclass(frozen=True, slots=True)
class Limits:
    """How long live waits.

    Attributes
    ----------
    grace_ns : int
        The clock closes a minute when the feed has ended none for a minute and this. A loop that did not
        come by for so long stood still, or the clock was set: the feed is given this time anew.
    late_ns : int
        A slice decided later than this after its boundary enters nothing, and its exits count from now.
    stale_ns : int
        Without a minute's end for this long, entries are blocked.
    entry_life_ns : int
        An entry that could not be sent within this is given up.
    by_clock : bool
        False where market time is what the feed says: a replay.
    """

    grace_ns: int = 20 * _SECOND
    late_ns: int = 30 * _SECOND
    stale_ns: int = 90 * _SECOND
    entry_life_ns: int = 10 * _SECOND
    by_clock: bool = True
