"""Bars for measurements: generated once, kept in the temporary folder, never committed."""

from __future__ import annotations

import os
import tempfile
from datetime import date
from pathlib import Path

import polars as pl

from ibs_core.parquet_file import write_parquet
from ibs_core.research.sample_data import write_sample

HOME = Path(os.environ.get("IBS_BENCH_DATA") or Path(tempfile.gettempdir()) / "ibs-bench")
TWELVE = ("ES", "NQ", "RTY", "YM", "GC", "SI", "HG", "CL", "NG", "6A", "6B", "6E")


def made(name, *, seed=1, **options):
    """Return the Parquet files of a sample, in the order of their names; it is made when it is not there."""
    folder = HOME / name
    if not (folder / "done").exists():
        write_sample(folder, seed=seed, **options)
        (folder / "done").touch()
    return sorted(folder.glob("*.parquet"))


def year(roots=("ES",)):
    """Return a file of one year: about 350,000 minutes a symbol."""
    name = "packed-year" if len(roots) == 1 else "packed-symbols"
    span = {"start": date(2024, 1, 2), "end": date(2024, 12, 31)}
    return made(name, roots=roots, single_file=len(roots) > 1, **span)[0]


def decade():
    """Return a file of twelve symbols and ten years: about 41 million minutes."""
    span = {"start": date(2015, 1, 2), "end": date(2024, 12, 31)}
    return made("packed-decade", roots=TWELVE, single_file=True, **span)[0]


def by_polars(file):
    """Return a copy of a file of bars in the layout of Polars: plain values, lz4."""
    path = HOME / f"{file.parent.name.removeprefix('packed-')}-by-polars" / file.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pl.scan_parquet(file), path, {})
    return path
