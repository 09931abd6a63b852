"""The back-test against Polars' own read of the same columns, in the same run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import in_process, in_turn, tell

from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars

COLUMNS = ["ts_event", "symbol", "open", "high", "low", "close"]
IBS = Path(sys.executable).with_name("ibs")

YEAR_RATIO = 4.5  # of Polars' own read of the same file; the aim is 1.9
DECADE_RATIO = 3.0
DECADE_PEAK_MB = 600

_READ = """
import json, sys, time, polars as pl
before = time.perf_counter()
pl.read_parquet(sys.argv[1], columns=["ts_event", "open", "high", "low", "close"])
print(json.dumps({"seconds": time.perf_counter() - before}))
"""
_TRADE = """
import json, resource, sys, time
from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
contracts, settings = load_contract_map(), load_settings()
trade(open_bars([sys.argv[2]], contracts), settings, contracts)  # the kernels are loaded
before = time.perf_counter()
trades = trade(open_bars([sys.argv[1]], contracts), settings, contracts).trades()
seconds = time.perf_counter() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak, "trades": trades.height}))
"""


def test_symbol_year_from_parquet_to_the_trade_table(benchmark, symbol_year, capsys):
    contracts, settings = load_contract_map(), load_settings()

    def to_trades():
        return trade(open_bars([symbol_year], contracts), settings, contracts).trades()

    to_trades()
    ours, read = in_turn(
        to_trades, lambda: pl.read_parquet(symbol_year, columns=COLUMNS), rounds=25
    )
    benchmark.extra_info["ratio_to_polars_read"] = ours / read
    benchmark(to_trades)
    tell(
        capsys,
        f"symbol-year {ours * 1e3:.1f} ms, Polars' read {read * 1e3:.1f} ms: {ours / read:.2f}x",
    )
    assert ours / read <= YEAR_RATIO


@pytest.mark.parametrize("data", ["ten_years", "ten_years_by_polars"])
def test_ten_years_of_twelve_symbols(benchmark, data, request, symbol_year, capsys):
    ten_years = request.getfixturevalue(data)
    in_process(_READ, ten_years)  # the file is in the page cache
    rounds = [
        (in_process(_TRADE, ten_years, symbol_year), in_process(_READ, ten_years)) for _ in range(3)
    ]
    ours = sorted(result["seconds"] for result, _ in rounds)[1]
    read = sorted(result["seconds"] for _, result in rounds)[1]
    peak = max(result["peak_mb"] for result, _ in rounds)
    benchmark.extra_info.update(ratio_to_polars_read=ours / read, peak_mb=peak)
    benchmark.pedantic(lambda: in_process(_TRADE, ten_years, symbol_year), rounds=1)
    tell(
        capsys,
        f"41 M minutes, {data}: {ours:.2f} s, Polars' read {read:.2f} s: {ours / read:.2f}x, "
        f"peak {peak:.0f} MB, {rounds[0][0]['trades']} trades",
    )
    assert ours / read <= DECADE_RATIO
    assert peak <= DECADE_PEAK_MB


def test_whole_commands(benchmark, symbol_year, tmp_path, capsys):
    def run(*words):
        subprocess.run([IBS, *words], check=True, capture_output=True)

    def backtest():
        run("backtest", "--parquet", symbol_year, "--out", tmp_path, "--no-report", "--quiet")

    def imports():
        subprocess.run([sys.executable, "-c", "import numba, polars, pydantic"], check=True)

    backtest()
    whole, help_, bare = in_turn(backtest, lambda: run("--help"), imports, rounds=5)
    benchmark.extra_info.update(backtest_s=whole, help_s=help_, imports_s=bare)
    benchmark.pedantic(backtest, rounds=3)
    tell(
        capsys,
        f"ibs backtest of a symbol-year {whole:.2f} s, ibs --help {help_:.2f} s, "
        f"importing numba, polars and pydantic alone {bare:.2f} s",
    )
    assert whole <= 3 * bare
    assert help_ <= 0.5 * bare
