"""Signals that end a run of the worker: before it trades at once, while it trades between two minutes."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stop", "stop_signals"]

_HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether somebody wants the run to end; true once a signal came."""

    def __init__(self) -> None:
        self.named = ""
        """The first signal."""
        self.is_trading = False
        """Set by whoever looks at this between two minutes, from then on."""

    def __bool__(self) -> bool:
        return bool(self.named)

    def heed(self, number: int) -> None:
        """Take a signal.

        Parameters
        ----------
        number : int

        Raises
        ------
        KeyboardInterrupt
            It does not trade yet, or was told before. A terminal that is closed says so twice and is in no hurry.
        """
        was_told, self.named = bool(self.named), self.named or signal.Signals(number).name
        if number == signal.SIGHUP and was_told:
            return
        if was_told or not self.is_trading:
            raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Heed SIGINT, SIGTERM and SIGHUP, the last unless it is ignored, as under nohup.

    Yields
    ------
    Stop
    """
    stop = Stop()
    heeded = [
        each
        for each in _HEEDED
        if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN
    ]
    kept = {
        number: signal.signal(number, lambda told, _frame: stop.heed(told)) for number in heeded
    }
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
