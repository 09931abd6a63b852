"""Corners that once went wrong, or that other systems get wrong: each with the smallest data that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ibs_core import replay
from ibs_core.cli.first_run import compile_decisions
from ibs_core.config import load_settings, resolved_yaml
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, DataError
from ibs_core.kernels import ibs
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.positions import _level

CONTRACTS = load_contract_map()
HOLD = """
strategy:
  entry: {windows: [], pivots: none, ibs: [0.0, 1.0]}
  exits: {stop: null, target: null, ibs: null, bars: null, flat_by: null}
"""


def bars(first, prices, *, symbol="ESZ24", step=timedelta(minutes=1)):
    """Flat bars at the given prices, one after the other."""
    n = len(prices)
    return pl.DataFrame(
        {
            "ts_event": pl.Series([first + i * step for i in range(n)]).cast(
                pl.Datetime("ns", "UTC")
            ),
            "symbol": [symbol] * n,
            **{
                name: [float(price) for price in prices]
                for name in ("open", "high", "low", "close")
            },
            "volume": [1] * n,
        }
    )


@pytest.fixture
def settings_of(tmp_path):
    def load(text=""):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return load_settings([path])

    return load


@pytest.fixture
def run(tmp_path, settings_of):
    def back_test(frame, text="", **options):
        path = tmp_path / "bars.parquet"
        frame.write_parquet(path)
        return run_backtest(open_bars([path], CONTRACTS), settings_of(text), CONTRACTS, **options)

    return back_test


def test_an_ibs_on_the_band_s_edge_is_inside_it():
    """In plain floats 40 % of crude oil bars with an IBS of 0.2 read as more."""
    for low in np.arange(6000, 9000):
        for span in (5, 10, 15):
            high, close = (low + span) / 100, (low + span // 5) / 100
            assert ibs.value(high, low / 100, close) == 0.2
            assert ibs.value(high, low / 100, (low + span - span // 5) / 100) == 0.8


def test_percent_levels_keep_their_side_at_negative_prices():
    nan = float("nan")
    assert _level(-12.0, 1.0, nan, nan, -1.0) == -12.12
    assert _level(-12.0, 1.0, nan, nan, 1.0) == -11.88
    assert _level(3.0, 1.0, nan, nan, -1.0) == 2.97


def test_an_open_position_is_valued_on_the_new_contract_after_a_roll_inside_the_session(run):
    first = datetime(2024, 12, 11, 15, 0, tzinfo=UTC)
    old = bars(first, [5000.0] * 120)
    new = bars(first + timedelta(hours=2), [5050.0] * 75 + [5055.0] * 10, symbol="ESH25")
    outcome = run(pl.concat([old, new]), HOLD)
    (held,) = outcome.stats["open_positions"]
    assert (held["instrument"], held["entry_price"], held["mark"]) == ("ESH2025", 5050.0, 5055.0)
    final = outcome.equity.filter(symbol="TOTAL")["equity_usd"][-1]
    expected = 100_000 + outcome.trades["net_usd"].sum() + held["open_usd"]
    assert final == pytest.approx(expected, abs=1e-6)


def test_a_roll_after_the_last_traded_session_is_known_in_advance(run):
    first = datetime(2024, 12, 12, 15, 0, tzinfo=UTC)
    old = bars(first, [5000.0] * (7 * 60))  # to the close
    new = bars(datetime(2024, 12, 12, 23, 0, tzinfo=UTC), [5050.0] * 200, symbol="ESH25")
    both = pl.concat([old, new])
    whole, cut = run(both, HOLD), run(both, HOLD, end=date(2024, 12, 12))
    assert whole.trades["exit_reason"][0] == "roll"
    assert cut.trades.equals(whole.trades.head(cut.trades.height))
    assert cut.trades.height == 1


def test_minutes_in_the_break_of_the_grains_are_outside_the_calendar(run):
    first = datetime(2024, 6, 5, 12, 30, tzinfo=UTC)  # 07:30 in Chicago, a quarter of an hour early
    frame = bars(first, [450.0] * 120, symbol="ZCN24")
    text = 'strategy: {exits: {flat_by: "13:00"}}'
    outcome = run(frame, text)
    assert outcome.stats["data"]["ZC"]["minutes_outside_calendar"] == 45
    with pytest.raises(DataError, match="45 outside"):
        run(frame, text, strict=True)


@pytest.mark.parametrize("year", [2004, 2005, 2036])
def test_dates_beyond_the_calendar_are_refused_by_name(run, year):
    frame = bars(datetime(year, 6, 2, 15, 0, tzinfo=UTC), [1200.0] * 90, symbol="ES")
    with pytest.raises(DataError, match="calendar"):
        run(frame)


def test_coarse_bars_that_reach_beyond_a_signal_bar_are_refused(run):
    """Four-hour bars on the UTC grid end an hour after the session's own four hours."""
    first = datetime(2024, 12, 10, 0, 0, tzinfo=UTC)
    frame = bars(first, [5000.0] * 20, step=timedelta(hours=4))
    with pytest.raises(DataError, match="reaches beyond"):
        run(frame, "strategy: {signal_bar: 4h}")


def test_a_flat_by_at_the_session_s_open_is_refused(settings_of, run):
    frame = bars(datetime(2024, 12, 10, 15, 0, tzinfo=UTC), [5000.0] * 90)
    with pytest.raises(ConfigError, match="flat_by"):
        run(frame, 'strategy: {exits: {flat_by: "17:00"}}')


def test_minutes_with_holes_are_still_minutes(run):
    first = datetime(2024, 12, 10, 15, 0, tzinfo=UTC)
    sparse = pl.concat(
        [
            bars(first, [5000.0] * 30, step=timedelta(minutes=7)),
            bars(first + timedelta(minutes=216), [5000.0] * 3, step=timedelta(minutes=9)),
        ]
    )
    assert run(sparse).stats["data"]["ES"]["bar_width_s"] == 60
    assert run(sparse[:1]).stats["data"]["ES"]["signal_bars"] == 0


def test_resolved_settings_load_to_the_same_settings(settings_of, tmp_path):
    settings = settings_of("symbols: {ES: {}, CL: {strategy: {signal_bar: 4h}}}")
    assert settings.strategy_of("CL").exits.flat_by is None
    path = tmp_path / "resolved.yml"
    path.write_text(resolved_yaml(settings))
    again = load_settings([path])
    for root in ("ES", "CL"):
        assert again.strategy_of(root) == settings.strategy_of(root)


def test_compiled_code_is_cached_under_a_digest_whoever_imported_numba_first(tmp_path):
    """Numba alone does not notice an edit in a callee of another file."""
    code = "import numba; import ibs_core.kernels._jit as j; print(j.jit(lambda: 0)._cache.cache_path); print(j.FOLDER)"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    environment.pop("IBS_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    used, named = done.stdout.split()
    assert used == named
    assert named.startswith(f"{tmp_path}/kernels-")


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_one_with_the_same_digest(
    tmp_path,
):
    """Numba would keep its results beside the sources, where an edit can meet an old one."""
    code = "import ibs_core.kernels._jit as j; print(j.FOLDER); print(j.cache_folder().name)"
    environment = {**os.environ, "IBS_CACHE_DIR": "/proc/none", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    used, name = done.stdout.split()
    assert used == f"{tmp_path}/ibs-{os.getuid()}/{name}"


def test_what_is_compiled_beside_a_first_run_is_what_that_run_calls(run):
    run(bars(datetime(2024, 12, 10, 15, 0, tzinfo=UTC), [5000.0] * 90))
    called = replay.decide_many.signatures
    compile_decisions()
    assert replay.decide_many.signatures == called


def test_dates_beyond_the_calendar_are_told_as_dates(run):
    with pytest.raises(DataError, match=r"calendar, 2005-1\d-\d\d to 203\d-"):
        run(bars(datetime(2039, 6, 2, 15, 0, tzinfo=UTC), [1200.0] * 90, symbol="ES"))


def test_holes_and_unseen_rolls_are_told(run):
    first = datetime(2024, 12, 10, 0, 0, tzinfo=UTC)
    holed = pl.concat([bars(first, [5000.0] * 60), bars(first + timedelta(hours=5), [5000.0] * 60)])
    assert any("no bar for over an hour" in line for line in run(holed).warnings)
    months = bars(first, [5000.0] * 3000, symbol="ES", step=timedelta(hours=1))
    months = months.filter(pl.col("ts_event").dt.hour().is_between(2, 19))
    assert any("rolls are not seen" in line for line in run(months).warnings)
    off = bars(first, [5000.1] * 90)
    assert any("off the tick" in line for line in run(off).warnings)
