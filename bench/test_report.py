"""The report of a large run: rendered from memory and again from its folder, and how large the page is."""

from __future__ import annotations

import time
from dataclasses import replace

import polars as pl
import pytest
from sample_run import sample_run
from timing import in_turn

from ibs_core.report.folder import read_run, write_run
from ibs_core.report.prices import POINTS_A_SYMBOL, thin_bars
from ibs_core.report.run import TOTAL
from ibs_core.report.tear_sheet import render

N_TRADES = 75_000
COPIES = ("", "x", "y")


@pytest.fixture(scope="module")
def large():
    """Twelve symbols, 60,000 hourly bars each, 75,000 trades."""
    symbols = ("ES", "NQ", "GC", "CL")
    run = sample_run(n_trades=N_TRADES // 3, n_bars=240_000, symbols=symbols)

    def thrice(frame):
        own = frame.filter(pl.col("symbol") != TOTAL)
        parts = [own.with_columns(symbol=pl.col("symbol") + copy) for copy in COPIES]
        return pl.concat([*parts, frame.filter(pl.col("symbol") == TOTAL)])

    def tables(by_symbol):
        return {f"{name}{copy}": each for copy in COPIES for name, each in by_symbol.items()}

    trades, equity = thrice(run.trades).sort("exit_time", "symbol"), thrice(run.equity)
    stats = run.stats | {key: tables(run.stats[key]) for key in ("by_symbol", "blocked")}
    bars = {name: thin_bars(each, POINTS_A_SYMBOL) for name, each in run.bars.items()}
    large = replace(
        run, trades=trades, equity=equity, lows=thrice(run.lows), stats=stats, bars=tables(bars)
    )
    assert large.trades.height == N_TRADES
    return large


def test_a_report_of_75_000_trades(benchmark, record, large, tmp_path):
    folder = write_run(large, tmp_path, html=None)
    ours, again, as_json = in_turn(
        benchmark,
        lambda: render(large),
        lambda: render(read_run(folder)),
        large.trades.write_json,
        rounds=5,
        clock=time.process_time,
    )
    record("report", ours, as_json)
    record("report-again", again, as_json)
    record("page", len(render(large).encode()) / 1e6)
