"""Notices as lines of JSON in a file: whole lines or none."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from adapters.monitoring.document import document_of, spell
from ibs_core.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ibs_core.notices import Notice

__all__ = ["EventFile"]

_BEGIN: Final = b'{"cause": "'
"""Of every line, so that the end of another program's file is never taken for a line cut short."""
_LINE_MAX: Final = 1 << 20


class EventFile:
    """Appends notices to a file; a `Subscriber`, and the only writer of the file.

    The file is opened for each line: whoever rotates it may rename it at any time. A last line that a crash cut
    short is taken off at the start.

    Parameters
    ----------
    path : Path
        Made when missing, with its folder.

    Raises
    ------
    EnvironmentFault
        It cannot be written.
    DataError
        It ends in something else than events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as file:
                self._repair(file)
        except OSError as error:
            raise EnvironmentFault(
                f"file of events {path}",
                found=error.strerror or str(error),
                remedy="check the path and its permissions",
            ) from error

    def tell(self, notice: Notice) -> None:
        """Append a line; a disk that is full loses it, not the worker.

        Parameters
        ----------
        notice : Notice
        """
        line = f"{spell(document_of(notice))}\n".encode("ascii")
        try:
            with self._opened() as file:
                _append(file, line)
        except OSError as error:
            self.fault = f"file of events {self.path}: {error.strerror or error}"
        else:
            self.fault = ""

    def close(self) -> None:
        """Do nothing: every line is written."""

    @contextmanager
    def _opened(self) -> Iterator[int]:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            yield file
        finally:
            os.close(file)

    def _repair(self, file: int) -> None:
        size = os.fstat(file).st_size
        end = os.pread(file, _LINE_MAX, max(size - _LINE_MAX, 0))
        cut = end[end.rfind(b"\n") + 1 :]
        if not (cut.startswith(_BEGIN) or _BEGIN.startswith(cut)):
            raise DataError(
                f"file of events {self.path}",
                expected="events, a line each",
                found=repr(cut[:40].decode("utf-8", errors="replace")),
                remedy="move it away or name another file",
            )
        os.ftruncate(file, size - len(cut))


def _append(file: int, line: bytes) -> None:
    length = os.fstat(file).st_size
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(file, rest) :]
    except BaseException:
        os.ftruncate(file, length)
        raise
