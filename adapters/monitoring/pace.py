"""How often something is done that would otherwise be done at every turn of a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Pace"]


class Pace:
    """Says when it is time: at first, at every change, and once in a while.

    Parameters
    ----------
    every_ns : int, nanoseconds
    """

    __slots__ = ("_every_ns", "_last_ns", "_state")

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._state: Hashable = None
        self._last_ns = 0

    def is_due(self, now_ns: int, state: Hashable = "") -> bool:
        """Tell whether it is time, and take it as done when it is.

        Parameters
        ----------
        now_ns : int, nanoseconds
        state : hashable
            Another one than the last time is told at once.

        Returns
        -------
        bool
        """
        # A clock that was set back must not silence anything until it has caught up.
        if state == self._state and 0 <= now_ns - self._last_ns < self._every_ns:
            return False
        self._state, self._last_ns = state, now_ns
        return True
