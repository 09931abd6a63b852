"""Parquet files written whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "ROW_GROUP",
    "environment",
    "join_parquet",
    "marks_of",
    "refuse_place",
    "write_parquet",
]

ROW_GROUP = 122_880


def write_parquet(frame: pl.DataFrame | pl.LazyFrame, path: Path, marks: dict[str, str]) -> Path:
    """Write a table under a hidden name, then give it its own.

    Parameters
    ----------
    frame : polars.DataFrame or LazyFrame
    path : Path
    marks : dict of str to str
        What the file says of itself.

    Returns
    -------
    Path
        `path`: a write that is cut short leaves nothing there that a glob would read.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        frame.lazy().sink_parquet(
            temporary,
            compression="lz4",  # 21 bytes a minute bar, read three times as fast as zstd at 14
            statistics=True,
            row_group_size=ROW_GROUP,
            metadata=marks,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def join_parquet(frames: Iterable[pl.DataFrame], path: Path, marks: dict[str, str]) -> Path:
    """Write tables one after another into one file; none is kept in memory once it is written.

    Parameters
    ----------
    frames : iterable of polars.DataFrame
        Of one schema, at least one.
    path : Path
    marks : dict of str to str

    Returns
    -------
    Path
        `path`.
    """
    parts: list[Path] = []
    try:
        for i, frame in enumerate(frames):
            part = path.with_name(f".{path.name}.{os.getpid()}.{i}.part")
            parts.append(part)
            write_parquet(frame, part, marks)
        return write_parquet(pl.scan_parquet(parts), path, marks)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def marks_of(path: Path) -> dict[str, str]:
    """Return what a file says of itself; nothing for anything but Parquet.

    Parameters
    ----------
    path : Path
        A file; only its end is read.

    Returns
    -------
    dict of str to str

    Raises
    ------
    EnvironmentFault
        The file cannot be read, or is a truncated Parquet file.
    """
    with environment("file", path, "write it again, or check its path and permissions"):
        with path.open("rb") as stream:
            if stream.read(4) != b"PAR1":
                return {}
        return dict(pl.read_parquet_metadata(path))


def refuse_place(what: str, out: Path, files: Sequence[Path]) -> None:
    """Refuse to write a table over the bars that it is made from, or where a folder is.

    Parameters
    ----------
    what : str
        What is to be written.
    out : Path
    files : sequence of Path
        The bars.

    Raises
    ------
    ConfigError, EnvironmentFault
    """
    if out.is_dir():
        raise EnvironmentFault(
            f"{what} {out}", found="Is a directory", remedy="name a file, such as table.parquet"
        )
    if out.resolve() in {path.resolve() for path in files}:
        raise ConfigError(
            "--out",
            expected="a new file",
            found=f"{out}, which holds the bars",
            remedy="name another file",
        )


@contextmanager
def environment(subject: str, path: Path, remedy: str) -> Iterator[None]:
    """Turn a fault of the machine into an error of ours.

    Parameters
    ----------
    subject : str
    path : Path
    remedy : str

    Raises
    ------
    EnvironmentFault
    """
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise EnvironmentFault(f"{subject} {path}", found=found, remedy=remedy) from error
