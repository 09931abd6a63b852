"""The back-test against Polars' own read of the same columns, in the same run; whole commands against bare imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from timing import in_process, in_turn

from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars

COLUMNS = ["ts_event", "symbol", "open", "high", "low", "close"]
IBS = Path(sys.executable).with_name("ibs")

_READ = """
import json, sys, time, polars as pl
before = time.perf_counter()
pl.read_parquet(sys.argv[1], columns=["ts_event", "open", "high", "low", "close"])
print(json.dumps(time.perf_counter() - before))
"""
_TRADE = """
import json, sys, time
from timing import peak_mb
from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
contracts, settings = load_contract_map(), load_settings()
trade(open_bars([sys.argv[2]], contracts), settings, contracts)  # the kernels are loaded
before = time.perf_counter()
trades = trade(open_bars([sys.argv[1]], contracts), settings, contracts).trades()
seconds = time.perf_counter() - before
peak = peak_mb()
print(json.dumps([seconds, peak, trades.height]))
"""


def test_symbol_year_from_parquet_to_the_trade_table(benchmark, record, symbol_year):
    contracts, settings = load_contract_map(), load_settings()
    ours, read = in_turn(
        benchmark,
        lambda: trade(open_bars([symbol_year], contracts), settings, contracts).trades(),
        lambda: pl.read_parquet(symbol_year, columns=COLUMNS),
        rounds=40,
    )
    record("year", ours, read)


@pytest.mark.parametrize(
    ("data", "name"), [("ten_years", "decade"), ("ten_years_by_polars", "decade-by-polars")]
)
def test_ten_years_of_twelve_symbols(benchmark, record, data, name, request, symbol_year):
    path, found = request.getfixturevalue(data), []
    in_process(_READ, path)  # the file is in the page cache

    def one_round():
        found.append((*in_process(_TRADE, path, symbol_year), in_process(_READ, path)))

    benchmark.pedantic(one_round, rounds=5)
    seconds, peaks_mb, n_trades, read = zip(*found, strict=True)
    assert min(n_trades) == max(n_trades) > 10_000
    record(name, min(seconds), min(read))
    record(f"{name}-peak", max(peaks_mb))


def run(*words, **environment):
    subprocess.run([IBS, *words], check=True, capture_output=True, env=os.environ | environment)


def imports():
    subprocess.run([sys.executable, "-c", "import numba, polars, pydantic"], check=True)


def test_whole_commands(benchmark, record, symbol_year, tmp_path):
    words = ("backtest", "--parquet", symbol_year, "--out", tmp_path, "--no-report", "--quiet")
    whole, version, bare = in_turn(
        benchmark, lambda: run(*words), lambda: run("--version"), imports, rounds=7
    )
    record("command", whole, bare)
    record("version", version, bare)


def test_the_first_run_of_a_version(benchmark, record, symbol_year, tmp_path):
    words = ("backtest", "--parquet", symbol_year, "--out", tmp_path, "--no-report", "--quiet")
    places = iter(str(tmp_path / name) for name in ("a", "b"))
    first, bare = in_turn(
        benchmark, lambda: run(*words, IBS_CACHE_DIR=next(places)), imports, rounds=1
    )
    record("first-run", first, bare)
