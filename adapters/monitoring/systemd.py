"""Words to systemd: ready, how it goes, still alive, stopping.

The protocol is one datagram to a socket that the environment names. `sdnotify` has had no release for years, and
`systemd-python` is compiled against libsystemd for the same line of text.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

from adapters.monitoring.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Systemd"]

_WORDS: Final = {"running": "READY=1\n", "stopping": "STOPPING=1\n"}


class Systemd:
    """Tells systemd how the worker is; does nothing for a worker that systemd did not start.

    Parameters
    ----------
    environment : Mapping of str to str, optional
        Its NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; this process's by default.
    ticks : callable, optional
        A clock that never goes back, ns.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        ticks: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._ticks = ticks
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half of what systemd waits, as it asks for.
        half_ns = int(watchdog_us) * 500 if watchdog_us.isdigit() and is_ours else 0
        self._alive = Pace(half_ns) if half_ns else None
        self._status = ""
        self.fault = ""

    def beat(self, status: str) -> None:
        """Tell a change of status, and at times that the loop is alive.

        Parameters
        ----------
        status : str
            As of the heartbeat.
        """
        if not self._address:
            return
        text = ""
        if status != self._status:
            text = f"{_WORDS.get(status, '')}STATUS={status}\n"
        if self._alive is not None and self._alive.is_due(self._ticks()):
            text += "WATCHDOG=1\n"
        if text and self._send(text):
            self._status = status

    def _send(self, text: str) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)  # a systemd that does not read must not stop the loop
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            self.fault = f"systemd was not told: {error.strerror or error}"
            return False
        self.fault = ""
        return True
