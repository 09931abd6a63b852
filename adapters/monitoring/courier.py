"""A thread that carries messages to somebody who may be slow or away; nobody who hands one over waits."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Courier"]

_T = TypeVar("_T")
_ROOM: Final = 1000
_CLOSING_S: Final = 3.0


class Courier(Generic[_T]):
    """Carries messages, oldest first; when it has too many it drops the oldest and counts them.

    Parameters
    ----------
    name : str
        Of the thread, and in faults.
    carry : callable
        Delivers a message and returns nothing, or what went wrong, without a secret.
    pauses_s : sequence of float, seconds
        Before the second attempt, the third and so on.
    room : int
        Messages that may wait.
    """

    def __init__(
        self,
        name: str,
        carry: Callable[[_T], str],
        *,
        pauses_s: Sequence[float] = (1.0, 5.0),
        room: int = _ROOM,
    ) -> None:
        self._name, self._carry, self._pauses_s = name, carry, tuple(pauses_s)
        self._waiting: deque[_T] = deque()
        self._room = room
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._counts = {"delivered": 0, "failed": 0, "dropped": 0}
        self.fault = ""
        """What went wrong with the last message; nothing when it was delivered."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hand(self, message: _T) -> None:
        """Take a message; it is carried later.

        Parameters
        ----------
        message : object
        """
        with self._changed:
            if len(self._waiting) >= self._room or self._closing.is_set():
                self._counts["dropped"] += 1
                if self._closing.is_set():
                    return
                self._waiting.popleft()
            self._waiting.append(message)
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        """Tell what became of messages.

        Returns
        -------
        dict of str to int
            ``delivered``, ``failed``, ``dropped``, ``waiting``.
        """
        with self._changed:
            return {**self._counts, "waiting": len(self._waiting)}

    def close(self, within_s: float = _CLOSING_S) -> None:
        """Carry what is waiting, without pauses; what is left after a while is dropped.

        Parameters
        ----------
        within_s : float, seconds
        """
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(within_s)
        with self._changed:
            self._counts["dropped"] += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting:
                    return
                message = self._waiting.popleft()
            fault = self._deliver(message)
            with self._changed:
                self._counts["failed" if fault else "delivered"] += 1
                self.fault = f"{self._name}: {fault}" if fault else ""

    def _deliver(self, message: _T) -> str:
        fault = self._try(message)
        for pause_s in self._pauses_s:
            if not fault:
                break
            self._closing.wait(pause_s)
            fault = self._try(message)
        return fault

    def _try(self, message: _T) -> str:
        try:
            return self._carry(message)
        except Exception as error:  # noqa: BLE001  (a messenger's fault is no reason to end its thread)
            return type(error).__name__  # its text may hold the address
