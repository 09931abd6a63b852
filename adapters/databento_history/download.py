"""Answers kept as raw DBN: whole files only, each counted, none fetched twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import zstandard

from ibs_core.errors import EnvironmentFault
from ibs_core.market_data.dbn import ZSTD_MAGIC
from ibs_core.parquet_file import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from adapters.databento_history.plan import Piece
    from adapters.databento_history.vendor import Vendor

__all__ = ["count_records", "download", "is_complete"]

_RECORD_BYTES: Final = {"ohlcv-1m": 56, "trades": 48}
_READ_BYTES: Final = 1 << 20


def is_complete(piece: Piece, folder: Path, n_records: int) -> bool:
    """Tell whether the answer to a request is there, with every record.

    Parameters
    ----------
    piece : Piece
    folder : Path
    n_records : int
        What the vendor says that it holds.

    Returns
    -------
    bool
    """
    path = folder / piece.file_name
    return path.exists() and count_records(path, piece.request.schema) == n_records


def download(
    vendor: Vendor,
    pieces: Iterable[tuple[Piece, int]],
    folder: Path,
    progress: Callable[[str, int], None] = lambda _what, _records: None,
) -> list[Path]:
    """Fetch what is not there yet.

    Parameters
    ----------
    vendor : Vendor
    pieces : iterable of (Piece, int)
        With the number of records that the vendor says each holds.
    folder : Path
    progress : callable
        Takes what has come, and its records.

    Returns
    -------
    list of Path
        The files that hold records.

    Raises
    ------
    DataError, EnvironmentFault
        A request is refused, the disk is full, or fewer records came than were told.
    """
    files = []
    with environment("folder", folder, "check its permissions and the space on its disk"):
        folder.mkdir(parents=True, exist_ok=True)
    for piece, n_records in pieces:
        if n_records == 0:
            continue
        path = folder / piece.file_name
        if not is_complete(piece, folder, n_records):
            _fetch(vendor, piece, path, n_records)
        files.append(path)
        progress(piece.root, n_records)
    return files


def _fetch(vendor: Vendor, piece: Piece, path: Path, n_records: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with environment("file", path, "make room on the disk and run it again"):
            vendor.fetch(piece.request, temporary)
            found = count_records(temporary, piece.request.schema)
            if found != n_records:
                raise EnvironmentFault(
                    f"incomplete download of {piece.root}",
                    expected=f"{n_records:,} records",
                    found="a cut file" if found is None else f"{found:,}",
                    remedy="run it again: what is complete is kept",
                )
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def count_records(path: Path, schema: str) -> int | None:
    """Count the records of a DBN file; the vendor's reader drops half a record without a word.

    Parameters
    ----------
    path : Path
    schema : str

    Returns
    -------
    int or None
        None when the file ends early.
    """
    n_bytes, header = 0, b""
    with path.open("rb") as stream:
        compressed = stream.read(4) == ZSTD_MAGIC
        stream.seek(0)
        frame = zstandard.ZstdDecompressor().decompressobj()
        ended = not compressed
        while piece := stream.read(_READ_BYTES):
            while piece:
                if compressed and frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    plain = frame.decompress(piece) if compressed else piece
                except zstandard.ZstdError:
                    return None
                piece = frame.unused_data if compressed and frame.eof else b""
                n_bytes += len(plain)
                header = (header + plain[:8])[:8] if len(header) < 8 else header
            ended = frame.eof if compressed else True
    if len(header) < 8 or not ended:
        return None
    left = n_bytes - 8 - int.from_bytes(header[4:8], "little")
    n_records, rest = divmod(left, _RECORD_BYTES[schema])
    return None if rest or left < 0 else n_records
