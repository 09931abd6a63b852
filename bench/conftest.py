"""Data of the benchmarks: generated once, kept in the temporary folder, never committed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from ibs_core.parquet_file import write_parquet
from ibs_core.research.sample_data import write_sample

os.environ["IBS_CACHE_BYTES"] = "0"  # commands read; what is kept has a benchmark of its own

HOME = Path(os.environ.get("IBS_BENCH_DATA") or Path(tempfile.gettempdir()) / "ibs-bench")
TWELVE = ("ES", "NQ", "RTY", "YM", "GC", "SI", "HG", "CL", "NG", "6A", "6B", "6E")


def _made(name, **options):
    folder = HOME / name
    if not (folder / "done").exists():
        write_sample(folder, seed=1, **options)
        (folder / "done").touch()
    return min(folder.glob("*.parquet"))


@pytest.fixture(scope="session")
def symbol_year():
    """One symbol, one year: about 350,000 minutes."""
    return _made("packed-year", roots=["ES"], start=date(2024, 1, 2), end=date(2024, 12, 31))


@pytest.fixture(scope="session")
def ten_years():
    """Twelve symbols, ten years: about 41 million minutes in one file."""
    span = {"start": date(2015, 1, 2), "end": date(2024, 12, 31)}
    return _made("packed-decade", roots=TWELVE, single_file=True, **span)


@pytest.fixture(scope="session")
def ten_years_by_polars(ten_years):
    """The same bars as Polars writes them: plain values, lz4."""
    path = HOME / "decade-by-polars" / ten_years.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(pl.scan_parquet(ten_years), path, {})
    return path


def in_turn(*actions, rounds):
    """Time actions one after the other, round by round; return the median seconds of each."""
    seconds = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, seconds, strict=True):
            before = time.perf_counter()
            action()
            taken.append(time.perf_counter() - before)
    return [statistics.median(taken) for taken in seconds]


def in_process(code, *arguments):
    """Run Python code in a process of its own; return the JSON document that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def tell(capsys, line):
    """Print a result past pytest's capture."""
    with capsys.disabled():
        print(f"\n  {line}")
