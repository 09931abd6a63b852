"""A port of this machine that can listen, refuse, or leave a connection unanswered, and stays ours."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HOST", "Port"]

HOST: Final = "127.0.0.1"


class Port:
    """A port, taken until it is released.

    Parameters
    ----------
    number : int
        0 for any that is free.
    accept : callable
        Takes a client's socket; called in a thread of the port's own.

    Raises
    ------
    OSError
        The port is taken or forbidden.
    """

    def __init__(self, number: int, accept: Callable[[socket.socket], None]) -> None:
        if number:
            with socket.socket() as probe:  # two that share a port would share its connections
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, number))
        # Bound but never listening: it keeps the port ours while connections are refused.
        self._guard = _bound(number)
        self.number: Final[int] = self._guard.getsockname()[1]
        self._accept = accept
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Accept connections from now on."""
        self.refuse()
        listener = _bound(self.number)
        listener.listen()
        self._sockets = [listener]
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name="demo-broker", daemon=True
        )
        self._thread.start()

    def refuse(self) -> None:
        """Accept no connection from now on."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(
                    socket.SHUT_RDWR
                )  # wakes the thread that accepts, as closing does not
            each.close()
        self._sockets = []
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def ignore(self) -> None:
        """Answer no connection from now on: a queue of one that is full drops what else comes."""
        self.refuse()
        listener = _bound(self.number)
        listener.listen(0)
        self._sockets = [listener, socket.create_connection((HOST, self.number))]

    def release(self) -> None:
        """Give the port back."""
        self.refuse()
        self._guard.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._accept(client)


def _bound(number: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, number))
    return bound
