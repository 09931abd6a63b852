"""The time of a market that is past, told by the signals themselves."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MarketClock"]

_LONG_S: Final = 3600.0


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
        self._went_back = False
        self._heard_s: float | None = None

    def __call__(self) -> float:
        """Return UTC s; 0 until the first signal."""
        with self._guard:
            return self._now_s()

    def hear(self, body: bytes) -> bool:
        """Take the time of a signal, unless it is past already.

        Parameters
        ----------
        body : bytes

        Returns
        -------
        bool
            Whether it is the first entry of long before the newest signal: another replay began. An exit may be as
            old: it is sent until it arrives.
        """
        try:
            payload = json.loads(body)
            told_s = datetime.fromisoformat(payload["time"]).timestamp()
            opens = payload.get("action") in ("buy", "sell")
        except (ValueError, LookupError, TypeError, RecursionError):
            return False
        with self._guard:
            went_back = opens and told_s < self._told_s - _LONG_S and not self._went_back
            self._went_back |= went_back
            if self._heard_s is None or told_s > self._now_s():
                self._told_s, self._heard_s = told_s, self._ticks()
        return went_back

    def _now_s(self) -> float:
        passed_s = 0.0 if self._heard_s is None else self._ticks() - self._heard_s
        return self._told_s + passed_s
