"""Which files these are: paths become bar files, each recognised by its content and schema.

Nothing but schemas and first rows is read here. Every file then yields frames of one form:
``ts_ns`` Int64, ``symbol`` String, ``open high low close`` Float64, and on demand ``volume`` Float64;
``instrument_id`` Int64 where the file has it.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from typing import BinaryIO

    from ibs_core.market_data.packed import PackedGroup

__all__ = [
    "SUFFIXES",
    "BarFile",
    "content_digest",
    "find_paths",
    "footer",
    "in_roots",
    "reading",
    "starts_with_root",
]

SUFFIXES = (".parquet", ".dbn", ".dbn.zst")
_WHOLE_BYTES = 4 << 20  # files up to this size are identified by their whole content


class BarFile(ABC):
    """One file of bars.

    Parameters
    ----------
    path : pathlib.Path
    from_vendor : bool
        Written by Databento, so a parent download may hold spreads.
    was_float32 : bool
        Prices were stored with single precision and need a check against the tick.
    """

    path: Path
    from_vendor: bool = False
    was_float32: bool = False

    @abstractmethod
    def first_ns(self) -> int | None:
        """Return the time of the first row, UTC ns, or None if there is no row."""

    def n_rows(self) -> int | None:
        """Return the number of rows, or None where it is not cheap to tell."""
        return None

    @abstractmethod
    def symbols(self) -> list[str]:
        """Return the distinct symbols; reads that column of the file."""

    def groups(self, *, volume: bool) -> Sequence[PackedGroup] | None:
        """Return where the pages of the rows are, in file order, or None where only `batches` serves.

        Parameters
        ----------
        volume : bool
            The volume is to be read too.
        """
        del volume
        return None

    @abstractmethod
    def batches(self, *, volume: bool, where: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows in file order, some hundred thousand at a time.

        Parameters
        ----------
        volume : bool
            Yield the volume too: Float64, null where unknown.
        where : polars.Expr, optional
            Rows to keep, by ``symbol`` only.
        """


def find_paths(given: Sequence[Path | str]) -> list[Path]:
    """Return the files behind files, folders (with all below them) and globs, each once.

    Parameters
    ----------
    given : Sequence of Path or str

    Raises
    ------
    EnvironmentFault
        Nothing there, or no permission.
    """
    found: dict[Path, Path] = {}  # two spellings of one path are one file
    for item in given:
        path = Path(item)
        with reading(path):
            if path.is_dir():
                inside = sorted(path.rglob("*"))
                paths = [p for p in inside if p.name.endswith(SUFFIXES) and p.is_file()]
                missing = f"a folder with files *{', *'.join(SUFFIXES)}"
            elif path.exists():
                paths, missing = [path], ""
            else:
                paths = [match for match in sorted(_glob(path)) if match.is_file()]
                missing = "a file, a folder or a glob that matches files"
        if not paths:
            raise EnvironmentFault(
                f"no bars at {str(path)!r}",
                expected=missing,
                found="none",
                remedy="check the path",
            )
        for each in paths:
            found.setdefault(each.resolve(), each)
    if not found:
        raise EnvironmentFault("no bars", expected="at least one path", found="none")
    return list(found.values())


def _glob(path: Path) -> Iterator[Path]:
    pattern = path.relative_to(path.anchor)
    return Path(path.anchor).glob(str(pattern)) if pattern.parts else iter(())


def in_roots(roots: Sequence[str]) -> pl.Expr:
    """Return a condition on ``symbol`` that Parquet statistics can answer for whole row groups.

    Parameters
    ----------
    roots : Sequence of str

    Returns
    -------
    polars.Expr
        True for every symbol that starts with a root, in capitals or not, with or without a slash;
        more than wanted, never less.
    """
    condition = pl.col("symbol").is_null()  # so that a row without a symbol is seen
    for root in roots:
        for start in {root, root.lower(), f"/{root}", f"/{root.lower()}"}:
            after = start[:-1] + chr(ord(start[-1]) + 1)
            condition |= (pl.col("symbol") >= start) & (pl.col("symbol") < after)
    return condition


def starts_with_root(symbol: str, roots: AbstractSet[str]) -> bool:
    """Tell of one symbol what `in_roots` tells of a column.

    Parameters
    ----------
    symbol : str
    roots : set of str

    Returns
    -------
    bool
    """
    name = symbol.removeprefix("/")
    return any(name.startswith((root, root.lower())) for root in roots)


def content_digest(path: Path) -> str:
    """Return a SHA-256 that names the content: whole, or a large Parquet file's size and footer.

    The footer holds offset, size and extreme values of every column chunk.

    Parameters
    ----------
    path : pathlib.Path
    """
    with reading(path), path.open("rb") as stream:
        size = path.stat().st_size
        if size <= _WHOLE_BYTES or stream.read(4) != b"PAR1":
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()
        return hashlib.sha256(size.to_bytes(8, "little") + footer(stream)).hexdigest()


def footer(stream: BinaryIO) -> bytes:
    """Return what a Parquet file says of itself: its end, from the metadata on.

    Parameters
    ----------
    stream : binary file
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(size - 8)
    n_bytes = int.from_bytes(stream.read(4), "little")
    stream.seek(max(size - 8 - n_bytes, 0))
    return stream.read()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong while a file is read into EnvironmentFault.

    Parameters
    ----------
    path : pathlib.Path
    """
    try:
        yield
    except FileNotFoundError as error:
        raise EnvironmentFault("missing file", where=str(path), remedy="check the path") from error
    except PermissionError as error:
        raise EnvironmentFault(
            "file may not be read",
            expected="read permission",
            where=str(path),
            remedy="change its owner or mode",
        ) from error
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if "KeyboardInterrupt" in str(error):  # Ctrl-C that reached Polars first is still Ctrl-C
            raise KeyboardInterrupt from error
        raise EnvironmentFault(
            "unreadable or truncated file",
            expected="a complete Parquet or DBN file",
            found=str(error).splitlines()[0],
            where=str(path),
            remedy="fetch or write it again",
        ) from error
