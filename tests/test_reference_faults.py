"""One test for each fault of the replaced system that a back-test can have: this one has none of them.

The names F1, F2, … number the faults; each test says what went wrong and shows that it cannot here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import naive
import numpy as np
import polars as pl
import pytest

from ibs_core.backtest import trade
from ibs_core.bars import BAR
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError
from ibs_core.kernels import features, rsi
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.research.sample_data import write_sample
from ibs_core.sessions import load_sessions, session_index

CONTRACTS = load_contract_map()
CHICAGO = ZoneInfo("America/Chicago")
HOUR_NS = 3600 * 10**9
MINUTE_NS = 60 * 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "CL"], start=date(2024, 2, 20), end=date(2024, 4, 12), seed=5)
    return out


@pytest.fixture
def settings_of(tmp_path):
    def load(text=""):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return load_settings([path])

    return load


def outcome_of(path, settings, **options):
    return run_backtest(open_bars([path], CONTRACTS), settings, CONTRACTS, **options)


def series_of(path, settings, root="ES"):
    traded = trade(open_bars([path], CONTRACTS), settings, CONTRACTS)
    return next(item for item in traded.series if item.root == root)


def write(frame, tmp_path, name="bars.parquet"):
    frame.write_parquet(tmp_path / name)
    return tmp_path / name


def test_f1_bars_of_two_expiries_are_never_mixed(folder, settings_of, tmp_path):
    """A parent subscription merged every expiry and spread of a root into one bar."""
    front = pl.read_parquet(folder / "ES.parquet").filter(pl.col("symbol") == "ESH24")
    back = front.with_columns(
        *(pl.col(name) + 500.0 for name in ("open", "high", "low", "close")),
        symbol=pl.lit("ESM24"),
        volume=pl.col("volume") // 10,
    )
    mixed = write(pl.concat([front, back]).sort("ts_event"), tmp_path)
    alone = write(front, tmp_path, "front.parquet")
    both = series_of(mixed, settings_of())
    only = series_of(alone, settings_of())
    assert (
        both.bars[["start_ns", "high", "low", "close"]].tolist()
        == only.bars[["start_ns", "high", "low", "close"]].tolist()
    )
    spread = write(front.with_columns(symbol=pl.lit("ESH24-ESM24")), tmp_path, "spread.parquet")
    with pytest.raises(DataError):
        outcome_of(spread, settings_of())


def test_f2_no_minute_is_dropped_in_silence(folder, settings_of):
    """A full queue dropped the newest bar."""
    n_rows = pl.scan_parquet(folder / "ES.parquet").select(pl.len()).collect().item()
    series = series_of(folder / "ES.parquet", settings_of())
    assert series.n_minutes == n_rows == series.bars["n_minutes"].sum()


def test_f3_each_minute_counts_once_and_each_bar_comes_once(folder, settings_of):
    """The current minute was added at every poll, and one-minute "hourly" bars were emitted."""
    series = series_of(folder / "ES.parquet", settings_of())
    volume = pl.scan_parquet(folder / "ES.parquet").select(pl.len()).collect().item()
    assert series.bars["n_minutes"].sum() == volume
    assert (np.diff(series.bars["end_ns"]) > 0).all()
    assert (np.diff(series.days["end_ns"]) > 0).all()
    whole = series.bars[(series.bars["end_ns"] - series.bars["start_ns"]) == HOUR_NS]
    assert np.median(whole["n_minutes"]) == 60


def test_f4_an_hour_is_half_open_and_labelled_by_its_start(folder, settings_of):
    """Live hours held the minutes :01 to :00 and bore their end; research bore the start."""
    bars = series_of(folder / "ES.parquet", settings_of()).bars
    assert ((bars["first_ns"] >= bars["start_ns"]) & (bars["last_ns"] < bars["end_ns"])).all()
    local = [datetime.fromtimestamp(ns / 1e9, CHICAGO) for ns in bars["start_ns"][:200]]
    assert {moment.minute for moment in local} == {0}


def test_f5_one_daily_bar_a_session_in_winter_and_summer_time(folder, settings_of):
    """Days were cut at 23:00 UTC and again at midnight, whatever the season."""
    days = series_of(folder / "ES.parquet", settings_of()).days
    opens = {datetime.fromtimestamp(ns / 1e9, CHICAGO).strftime("%H:%M") for ns in days["start_ns"]}
    assert opens == {"17:00"}
    utc = {int(ns // HOUR_NS % 24) for ns in days["start_ns"]}
    assert utc == {22, 23}  # the clock changed on 10 March
    assert len(np.unique(days["session"])) == len(days)


def test_f6_windows_are_chicago_time_before_and_after_the_clock_change(folder, settings_of):
    """UTC live, Eastern bars and Chicago windows disagreed by hours."""
    text = """
    strategy:
      entry: {windows: [["09:00", "10:00"]], ibs: [0.0, 1.0], pivots: none}
      exits: {bars: 1}
    """
    trades = outcome_of(folder / "ES.parquet", settings_of(text)).trades
    local = trades["entry_time"].dt.convert_time_zone("America/Chicago")
    assert set(local.dt.hour()) == {10}  # the 09:00 bar is known at 10:00 and fills there
    assert set(trades["entry_time"].dt.hour()) == {15, 16}


def test_f7_nothing_is_made_up_for_quiet_minutes_nights_or_weekends(folder, settings_of, tmp_path):
    """Fillers wrote flat bars that no market printed."""
    frame = pl.read_parquet(folder / "ES.parquet")
    hour = frame["ts_event"].dt.convert_time_zone("America/Chicago").dt.hour()
    holed = write(frame.filter(~hour.is_in([2, 3])), tmp_path)
    bars = series_of(holed, settings_of()).bars
    hours = {datetime.fromtimestamp(ns / 1e9, CHICAGO).hour for ns in bars["start_ns"]}
    assert hours.isdisjoint({2, 3, 16})
    assert (bars["n_minutes"] > 0).all()


def test_f8_late_and_repeated_minutes_change_nothing_and_contradictions_are_refused(
    folder, settings_of, tmp_path
):
    """Late and duplicate bars were accepted, and rolls left mixed contracts in a bar."""
    frame = pl.read_parquet(folder / "ES.parquet")
    clean = outcome_of(folder / "ES.parquet", settings_of())
    late = pl.concat([frame.filter(pl.int_range(pl.len()) != 5000), frame[5000:5001], frame[70:90]])
    mended = outcome_of(write(late, tmp_path), settings_of())
    assert mended.trades.equals(clean.trades)
    assert mended.warnings
    twice = pl.concat([frame, frame[50:51].with_columns(pl.col("high") + 5.0)])
    with pytest.raises(DataError, match="contradict"):
        outcome_of(write(twice, tmp_path), settings_of())
    bars = series_of(folder / "ES.parquet", settings_of()).bars
    seams = bars[bars["seam_ns"] > 0]
    assert len(seams) == 1
    assert (bars["first_ns"][bars["contract"] == 1] >= seams["seam_ns"][0]).all()


def test_f11_a_daily_value_is_unseen_until_its_session_closes(folder, settings_of, tmp_path):
    """Research saw each day's final high, low and close at its open."""
    text = "strategy: {filters: {day_ibs: [0.0, 0.5], day_rsi2: [0, 60]}, entry: {pivots: none}}"
    frame = pl.read_parquet(folder / "ES.parquet")
    cut = datetime(2024, 3, 27, 17, 0, tzinfo=UTC)  # noon in Chicago, mid-session
    later = pl.col("ts_event") >= cut
    prices = ("open", "high", "low", "close")
    other = frame.with_columns(
        *(pl.when(later).then(pl.col(name) * 1.25).otherwise(name) for name in prices)
    )
    decided = []
    for bars in (frame, other, frame.filter(~later)):
        decisions = outcome_of(write(bars, tmp_path), settings_of(text)).decisions
        decided.append(decisions.filter(pl.col("time") < cut))
    assert decided[0].height > 20
    assert decided[0].equals(decided[1])
    assert decided[0].equals(decided[2])


def test_f15_too_little_history_is_missing_and_never_wraps(settings_of):
    """An index before the first bar read the end of the array."""
    state = np.zeros(1, features.STATE)
    needs = np.ones(features.N_FEATURES, np.int64)
    bar = np.zeros(1, BAR)
    bar["open"], bar["high"], bar["low"], bar["close"] = 10.0, 11.0, 9.0, 10.5
    out = np.zeros(features.N_FEATURES)
    features.observe(needs, state[0], bar[0], np.zeros(1, features.CALENDAR)[0], out)
    row = dict(zip(features.INDEX, out, strict=True))
    assert row["bar_ibs"] == 0.75
    for name in ("bar_ibs_prev", "bar_ret1_pct", "bar_rsi2", "bar_ema8_above", "bar_pivot_state"):
        assert np.isnan(row[name]), name
    assert np.isnan([row[name] for name in row if name.startswith("day_")]).all()


def test_f16_rsi_divides_averages_of_the_same_bar():
    """RSI took the losses of the bar before, and was 0 in a pure rally."""

    def run(closes, n):
        state = np.zeros(1, rsi.STATE)
        return [rsi.step(state[0], close, n) for close in closes]

    assert run([1.0, 2.0, 3.0, 4.0], 2)[-1] == 100.0
    assert run([4.0, 3.0, 2.0, 1.0], 2)[-1] == 0.0
    assert run([5.0, 5.0, 5.0, 5.0], 2)[-1] == 50.0
    closes = [round(50 + np.sin(i * 1.7) * 3 + i * 0.01, 2) for i in range(300)]
    for n in (2, 5, 14):
        expected = naive.wilder_rsi(closes, n)
        for ours, theirs in zip(run(closes, n), expected, strict=True):
            assert (np.isnan(ours) and theirs is None) or abs(ours - theirs) < 1e-9


def test_f27_cheap_gates_come_first_and_each_bar_is_observed_once(folder, settings_of):
    """The score came before the session test, and features were computed up to three times."""
    counts = outcome_of(folder / "ES.parquet", settings_of()).stats
    series = series_of(folder / "ES.parquet", settings_of())
    candidates = counts["blocked"]["ES"]
    slice_blocks = {"position", "pending", "exit", "cooldown"}
    gated = sum(count for gate, count in candidates.items() if gate not in slice_blocks)
    decided = outcome_of(folder / "ES.parquet", settings_of()).decisions.filter(action="entry")
    assert gated + decided.height == len(series.closed)


def test_f28_a_symbol_decides_on_its_own_bars_only(folder, settings_of):
    """The loop ran on every feed's event, so decisions depended on what else was subscribed."""
    alone = outcome_of(folder / "ES.parquet", settings_of()).trades
    beside = outcome_of(folder, settings_of()).trades.filter(symbol="ES")
    assert alone.equals(beside)
    text = "strategy: {entry: {pivots: higher_high, ibs: [0.0, 1.0]}}"
    assert outcome_of(folder / "ES.parquet", settings_of(text)).trades.height > 0


def test_f29_an_entry_fills_at_the_first_minute_after_its_decision(folder, settings_of):
    """Orders left when the next hourly bar came, up to an hour late."""
    outcome = outcome_of(folder / "ES.parquet", settings_of())
    frame = pl.read_parquet(folder / "ES.parquet").select("ts_event", "open")
    taken = outcome.decisions.filter((pl.col("action") == "entry") & (pl.col("reason") == "taken"))
    filled = taken.join_asof(frame, left_on="time", right_on="ts_event", strategy="forward")
    entries = outcome.trades.sort("entry_time")
    expected = filled.filter(pl.col("ts_event").is_in(entries["entry_time"].implode()))
    assert expected["ts_event"].to_list() == entries["entry_time"].to_list()
    assert expected["open"].to_list() == entries["entry_price"].to_list()
    waited = (filled["ts_event"] - filled["time"]).dt.total_minutes()
    assert waited.max() <= 65  # five open minutes, plus the daily break


def test_f37_costs_are_dollars_a_contract(folder, settings_of):
    """Commission was a multiple of the notional."""
    text = """
    costs: {commission_per_side: 2.0, slippage_ticks: 1.0}
    symbols: {ES: {execute: MES, quantity: 3}}
    """
    trades = outcome_of(folder / "ES.parquet", settings_of(text)).trades
    assert set(trades["commission_usd"]) == {2 * 2.0 * 3}
    assert set(trades["slippage_usd"]) == {2 * 1.25 * 3}
    gross = (trades["exit_price"] - trades["entry_price"]) * 5.0 * 3
    assert np.allclose(gross, trades["gross_usd"], atol=1e-9)
    assert np.allclose(trades["net_usd"], gross - 12.0 - 7.5, atol=1e-9)


def test_sessions_of_the_sample_are_those_of_the_calendar(folder, settings_of):
    series = series_of(folder / "ES.parquet", settings_of())
    sessions = load_sessions("equity", series.bars["start_ns"][0], series.bars["end_ns"][-1])
    index = session_index(sessions, series.days["start_ns"])
    assert (series.days["end_ns"] == sessions.close_ns[index]).all()
