"""Market time: it belongs to the gateway, so that it runs on while a client is away."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress

from ibs_core.contracts import NANO

__all__ = ["MarketClock"]


class MarketClock:
    """Market time, which stands still until the first session starts; lives on one event loop.

    Parameters
    ----------
    now_ns : int, UTC ns
        Where it stands at first.
    pace : float or None
        Market seconds a second; infinite: as fast as the sessions send; None: only `advance_to` moves it.
    """

    def __init__(self, now_ns: int, pace: float | None) -> None:
        self._pace = pace
        self._base_ns = now_ns
        self._anchor_s: float | None = None  # wall time at the base; None while time stands still
        self._moved = asyncio.Event()

    @property
    def is_unbounded(self) -> bool:
        """Whether sessions drive the clock."""
        return self._pace == math.inf

    @property
    def is_running(self) -> bool:
        """Whether it moves by itself."""
        return self._anchor_s is not None

    @property
    def now_ns(self) -> int:
        """Market time, UTC ns."""
        if self._anchor_s is None or self._pace is None:
            return self._base_ns
        elapsed_s = time.monotonic() - self._anchor_s
        return self._base_ns + int(elapsed_s * self._pace * NANO)

    def start(self) -> None:
        """Let it run, if it is one that runs."""
        if self._anchor_s is None and self._pace is not None and not self.is_unbounded:
            self._anchor_s = time.monotonic()

    def advance_to(self, ts_ns: int) -> None:
        """Move it forward, never back, and wake all who wait.

        Parameters
        ----------
        ts_ns : int, UTC ns
        """
        if ts_ns > self.now_ns:
            self._base_ns = ts_ns
            if self._anchor_s is not None:
                self._anchor_s = time.monotonic()
        self.stir()

    def stir(self) -> None:
        """Wake all who wait, to look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def stirred(self, until_ns: int, timeout_s: float) -> None:
        """Wait until it is moved or stirred, until an instant comes, or for some seconds.

        Parameters
        ----------
        until_ns : int, UTC ns
        timeout_s : float, s
        """
        if self._anchor_s is not None and self._pace is not None:
            left_s = max(0.0, (until_ns - self.now_ns) / NANO / self._pace)
            timeout_s = min(timeout_s, left_s + 1e-4)  # a timer may fire a moment early
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()

    async def passes(self, since_ns: int, span_ns: int) -> None:
        """Wait while a span of market time passes; of wall time where the pace is unbounded.

        Parameters
        ----------
        since_ns : int, UTC ns
        span_ns : int, ns
        """
        if self.is_unbounded:
            await asyncio.sleep(span_ns / NANO)
            return
        while self.now_ns < since_ns + span_ns:
            await self.stirred(since_ns + span_ns, 3600.0)
