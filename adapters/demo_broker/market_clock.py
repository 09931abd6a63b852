"""The time of a market that is past, told by the signals themselves."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MarketClock"]


class MarketClock:
    """The newest ``time`` of any signal, and as much more as has passed since; for replays, which outrun every clock.

    Parameters
    ----------
    ticks : callable, optional
        Seconds that never go back.
    """

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        self._ticks = ticks
        self._guard = threading.Lock()
        self._told_s = 0.0
        self._heard_s: float | None = None

    def __call__(self) -> float:
        """Return UTC s; 0 until the first signal."""
        with self._guard:
            return self._now_s()

    def hear(self, body: bytes) -> None:
        """Take the time of a signal, unless it is past already.

        Parameters
        ----------
        body : bytes
        """
        try:
            told_s = datetime.fromisoformat(json.loads(body)["time"]).timestamp()
        except (ValueError, LookupError, TypeError):
            return
        with self._guard:
            if self._heard_s is None or told_s > self._now_s():
                self._told_s, self._heard_s = told_s, self._ticks()

    def _now_s(self) -> float:
        passed_s = 0.0 if self._heard_s is None else self._ticks() - self._heard_s
        return self._told_s + passed_s
