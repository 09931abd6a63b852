"""A file that says how the worker is, as of its last sign of life.

The loop that trades writes it. A thread or a timer would go on writing while the loop is stuck, and a monitor
would be told that all is well.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from adapters.monitoring.pace import Pace
from ibs_core.errors import EnvironmentFault
from ibs_core.market_data.runs import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from pathlib import Path

__all__ = ["HeartbeatFile"]

_SECOND = 10**9


class HeartbeatFile:
    """A heartbeat, written whole or not at all, by one worker.

    Parameters
    ----------
    path : Path
    every_ns : int, nanoseconds
        At most so often, but at once when the status or the mark changes.

    Raises
    ------
    EnvironmentFault
        It cannot be written.
    """

    def __init__(self, path: Path, every_ns: int) -> None:
        self.path = path
        self._pace = Pace(every_ns)
        self._fault = ""
        self._process = {"hostname": socket.gethostname(), "pid": os.getpid()}
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._refuse_unwritable()

    def beat(
        self,
        status: str,
        health: Callable[[], Mapping[str, Any]],
        now_ns: int,
        mark: Hashable = None,
    ) -> str:
        """Write it when it is time.

        Parameters
        ----------
        status : str
            ``starting``, ``running``, ``stopping``, ``stopped`` or ``failed``.
        health : callable
            Returns the rest of the document as JSON values; called only when it is written.
        now_ns : int, UTC ns
            By the machine's clock.
        mark : hashable
            What a reader acts on: it is written at once when this changes.

        Returns
        -------
        str
            Why it could not be written the last time, which must not stop trading; else nothing.
        """
        if self._pace.is_due(now_ns, (status, mark)):
            self._fault = self._write(status, health, now_ns)
        return self._fault

    def _refuse_unwritable(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._temporary.touch()
            self._temporary.unlink()
        except OSError as error:
            raise EnvironmentFault(
                f"heartbeat {self.path}",
                expected="a file that can be written",
                found=error.strerror or str(error),
                remedy="check monitoring.heartbeat and its folder's permissions",
            ) from error

    def _write(self, status: str, health: Callable[[], Mapping[str, Any]], now_ns: int) -> str:
        updated = {"status": status, "updated_at": stamp(now_ns // _SECOND * _SECOND)}
        try:
            document = {**health(), **self._process, **updated}
            text = json.dumps(document, sort_keys=True, allow_nan=False)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # No fsync: after a loss of power the process that it speaks of is gone too.
            self._temporary.write_text(f"{text}\n", encoding="ascii")
            self._temporary.replace(self.path)
        except (OSError, TypeError, ValueError) as error:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            why = getattr(error, "strerror", None) or str(error)
            return f"heartbeat {self.path} was not written: {why}"
        return ""
