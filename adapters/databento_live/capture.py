"""Everything received, as DBN files that the vendor's tools read: one a connection and session date.

A file is a header and whole records appended one after another, so it may be cut anywhere: only what is
after the cut is lost.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.sessions import load_sessions, session_index

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["Capture"]


class Capture:
    """Writes the stream's bytes.

    Parameters
    ----------
    folder : Path
    dataset : str
        Begins the files' names.
    group : str
        Session group whose dates name the files.
    """

    def __init__(self, folder: Path, dataset: str, group: str) -> None:
        self._folder = folder
        self._dataset = dataset
        self._group = group
        self._stream: BinaryIO | None = None
        self._head = b""
        self._until_ns = 0

    def open(self, header: bytes, now_ns: int) -> None:
        """Begin the file of a new connection.

        Parameters
        ----------
        header : bytes
        now_ns : int, UTC ns
        """
        self._head = header
        self._begin(now_ns)

    def write(self, records: bytes, mappings: bytes, now_ns: int) -> None:
        """Append records.

        Parameters
        ----------
        records : bytes
            Whole ones.
        mappings : bytes
            The symbol mappings among them: the next session's file begins with them.
        now_ns : int, UTC ns
        """
        if now_ns >= self._until_ns:
            self._begin(now_ns)
        self._head += mappings
        assert self._stream is not None, "a connection opens before it gives records"
        self._stream.write(records)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _begin(self, now_ns: int) -> None:
        self.close()
        sessions = load_sessions(self._group, now_ns, now_ns)
        i = int(session_index(sessions, np.array([now_ns]))[0])
        self._until_ns = int(sessions.open_ns[i + 1])
        day = date.fromordinal(int(sessions.trade_date[i]) + date(1970, 1, 1).toordinal())
        at = datetime.fromtimestamp(now_ns // 10**9, UTC)
        self._folder.mkdir(parents=True, exist_ok=True)
        name, n = f"{self._dataset}-{day}-{at:%Y%m%dT%H%M%S}", 1
        while True:
            try:
                path = self._folder / (f"{name}.dbn" if n == 1 else f"{name}-{n}.dbn")
                self._stream = path.open("xb", buffering=0)
                break
            except FileExistsError:
                n += 1
        self._stream.write(self._head)
