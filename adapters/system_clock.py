"""Clocks: the machine's, and that of a replay."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ibs_core.ports import MinuteEnd

if TYPE_CHECKING:
    from ibs_core.ports import BarFeed, FeedEvent

__all__ = ["SystemClock", "TimedFeed"]


class SystemClock:
    """The machine's clock; a `Clock`."""

    def now_ns(self) -> int:
        """Return UTC ns."""
        return time.time_ns()


class TimedFeed:
    """A feed whose newest event is the time: the clock of a replay that runs as fast as it can.

    Parameters
    ----------
    feed : BarFeed or None
        Given later, where the feed itself needs a clock.
    start_ns : int, UTC ns
    """

    def __init__(self, feed: BarFeed | None, start_ns: int) -> None:
        self.feed = feed
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the end of the newest minute, UTC ns."""
        return self._now_ns

    def start(self, since_ns: int) -> None:
        """As `BarFeed` says.

        Parameters
        ----------
        since_ns : int, UTC ns
        """
        assert self.feed is not None
        self.feed.start(since_ns)

    def next(self, timeout_s: float) -> FeedEvent | None:
        """As `BarFeed` says.

        Parameters
        ----------
        timeout_s : float

        Returns
        -------
        FeedEvent or None
        """
        assert self.feed is not None
        event = self.feed.next(timeout_s)
        if isinstance(event, MinuteEnd):
            self._now_ns = max(self._now_ns, event.ts_ns)
        return event

    def stop(self) -> None:
        """As `BarFeed` says."""
        assert self.feed is not None
        self.feed.stop()

    def telemetry(self) -> dict[str, object]:
        """As `BarFeed` says."""
        assert self.feed is not None
        return self.feed.telemetry()
