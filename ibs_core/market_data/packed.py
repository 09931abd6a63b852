"""Row groups of the project's own layout (`bar_file`): where their pages are, told by the file itself.

Found without Polars and read without a frame, a minute takes a third of the time.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibs_core.errors import EnvironmentFault
from ibs_core.market_data.files import footer, reading
from ibs_core.market_data.runs import MinuteRun
from ibs_core.thrift import first_number, number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ibs_core.bars import Ints

    Bytes = NDArray[np.uint8]

__all__ = [
    "BARS",
    "MARK",
    "NUM_ROWS",
    "WRITER",
    "PackedGroup",
    "PackedRun",
    "packed_groups",
    "told",
]

BARS = pl.Schema(
    {
        "ts_event": pl.Datetime("ns", "UTC"),
        "symbol": pl.String(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Int64(),
    }
)
"""The project's own form of bars."""
MARK = "ibs.pages"
"""Key of the footer under which the row groups are told."""
WRITER = b"ibs"
"""Who wrote the file: a mark that another program copied tells nothing."""
_CREATED_BY = (
    b"\x18" + bytes([len(WRITER)]) + WRITER + b"\x19"
)  # of the footer, as Thrift writes it
NUM_ROWS = 3
"""Field of a footer."""


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """Minutes of one symbol that stand together in a file, without nulls but in the volume.

    Parameters
    ----------
    symbol : str
    n_rows : int, >= 1
    first_ns, last_ns : int, UTC ns
        Of the first and of the last row.
    has_volume : bool
        No volume is null.
    chunks : tuple of int
        Where the columns begin in the file, and where the last ends.
    """

    symbol: str
    n_rows: int
    first_ns: int
    last_ns: int
    has_volume: bool
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackedRun:
    """Minutes of one contract of one root that are still in their pages; else what a ``MinuteRun`` is.

    Parameters
    ----------
    root, instrument : str
    contract_id : int, >= 0
    path : Path
    group : PackedGroup
    volume : bool
        Volumes are read.
    irregular : bool
    """

    root: str
    instrument: str
    contract_id: int
    path: Path
    group: PackedGroup
    volume: bool
    irregular: bool = False

    @property
    def n_minutes(self) -> int:
        """Minutes of the run."""
        return self.group.n_rows

    def read(self, buffer: Bytes) -> tuple[Bytes, Ints]:
        """Read the pages.

        Parameters
        ----------
        buffer : (capacity,) uint8
            Written where it is long enough.

        Returns
        -------
        data : (n_bytes + SLACK or more,) uint8
            The buffer, or a longer one that serves for the next run too.
        chunks : (8,) int64
            Where the columns begin in it, and where the last ends.

        Raises
        ------
        EnvironmentFault
            The file ends early, or cannot be read.
        """
        from ibs_core.kernels.unpack import SLACK  # noqa: PLC0415  (the compiler, which opening needs not)

        first, last = self.group.chunks[0], self.group.chunks[-1 if self.volume else -2]
        n_bytes = last - first
        if len(buffer) < n_bytes + SLACK:
            buffer = np.zeros(2 * (n_bytes + SLACK), np.uint8)
        with reading(self.path), self.path.open("rb", buffering=0) as stream:
            stream.seek(first)
            n_read = stream.readinto(buffer[:n_bytes].data)
        if n_read != n_bytes:
            raise self.fault(f"{n_bytes - n_read} bytes fewer")
        return buffer, np.array(self.group.chunks) - first

    def minutes(self, n_rows: int | None = None) -> MinuteRun:
        """Return the minutes as columns.

        Parameters
        ----------
        n_rows : int, optional
            So many of the first; default: all.

        Returns
        -------
        MinuteRun

        Raises
        ------
        EnvironmentFault
            As ``read``, or the pages are not of the layout.
        """
        from ibs_core.kernels import unpack  # noqa: PLC0415  (as above)

        n_all = self.group.n_rows
        n = n_all if n_rows is None else min(n_rows, n_all)
        data, chunks = self.read(np.zeros(0, np.uint8))
        places = np.zeros(unpack.N_COLUMNS, unpack.PLACE)
        dictionaries = np.zeros((unpack.N_COLUMNS, unpack.DISTINCT))
        ts, columns = np.zeros(n, np.int64), np.zeros((5 if self.volume else 4, n))
        if not (
            unpack.open_pages(data, chunks, n_all, int(self.volume), places, dictionaries)
            and unpack.unpack(data, places, dictionaries, 0, ts, columns)
        ):
            raise self.fault("pages of another layout")
        for array in (ts, columns):
            array.flags.writeable = False
        opening, high, low, close = columns[:4]
        return MinuteRun(
            self.root,
            self.instrument,
            self.contract_id,
            ts,
            opening,
            high,
            low,
            close,
            columns[4] if self.volume else None,
            irregular=self.irregular,
        )

    def fault(self, found: str) -> EnvironmentFault:
        """Return the error for pages that are not what the file says of them.

        Parameters
        ----------
        found : str
        """
        return EnvironmentFault(
            "unreadable or truncated file",
            expected="the pages that its footer names",
            found=found,
            where=f"{self.path}, symbol {self.group.symbol}",
            remedy="fetch or write it again",
        )


def packed_groups(path: Path) -> tuple[PackedGroup, ...] | None:
    """Return the row groups of a file that tells them.

    Parameters
    ----------
    path : Path
        A Parquet file.

    Returns
    -------
    tuple of PackedGroup, or None
        None for a file of another writer, and for one whose row groups mix symbols or hold nulls.

    Raises
    ------
    EnvironmentFault
        The file cannot be read.
    """
    with reading(path), path.open("rb") as stream:
        end, size = footer(stream), stream.tell()
    key = MARK.encode()
    at = end.rfind(bytes([len(key)]) + key)
    if at < 0 or end.rfind(_CREATED_BY) < at:
        return None
    n_bytes, at = number(end, at + len(key) + 2)
    groups = tuple(
        PackedGroup(symbol, n_rows, first_ns, last_ns, has_volume, tuple(chunks))
        for symbol, n_rows, first_ns, last_ns, has_volume, chunks in json.loads(
            end[at : at + n_bytes]
        )
    )
    stops = [0, *(at for group in groups for at in group.chunks), size]
    in_order = stops == sorted(stops) and {len(group.chunks) for group in groups} == {len(BARS) + 1}
    n_rows = sum(group.n_rows for group in groups)
    return groups if in_order and n_rows == first_number(end, NUM_ROWS) else None


def told(groups: Sequence[PackedGroup]) -> str:
    """Return what the footer tells of row groups.

    Parameters
    ----------
    groups : sequence of PackedGroup
    """
    return json.dumps([astuple(group) for group in groups], separators=(",", ":"))
