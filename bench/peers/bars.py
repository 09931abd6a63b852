"""The bars that every engine gets: those of the other benchmarks, also as Polars writes them."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import polars as pl

from ibs_core.parquet_file import write_parquet

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import HOME, TWELVE, _made

__all__ = ["decade", "year"]


def year():
    """Return one symbol's year twice: as Polars writes it, as this project does."""
    path = _made("quick-year", roots=["ES"], start=date(2024, 1, 2), end=date(2024, 12, 31))
    return _by_polars("year", path), path


def decade():
    """Return twelve symbols' ten years in one file, in both forms."""
    span = {"start": date(2015, 1, 2), "end": date(2024, 12, 31)}
    path = _made("quick-decade", roots=TWELVE, single_file=True, **span)
    return _by_polars("decade", path), path


def _by_polars(name, path):
    copy = HOME / f"{name}-by-polars" / path.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pl.scan_parquet(path), copy, {})
    return copy
