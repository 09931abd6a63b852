"""Warm-up as measured agrees with what a hand can count."""

from __future__ import annotations

import json
import sys
from datetime import date

import pytest

from ibs_core.bars import DAY_NS
from ibs_core.checks.warmup import FeatureHistory, WarmUp, to_dict
from ibs_core.cli.main import run
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError
from ibs_core.market_data import HeldBars, hold, open_bars
from ibs_core.research.sample_data import write_sample

CONTRACTS = load_contract_map()
PLAIN = """
strategy:
  entry: {windows: [], pivots: none, ibs: [0.0, 1.0]}
  exits: {stop: {percent: 1.0}, target: null}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven weeks of two symbols; a session has 23 bars of an hour."""
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "NQ"], start=date(2023, 2, 13), end=date(2023, 3, 31), seed=5)
    return out


@pytest.fixture(scope="module")
def held(folder):
    return hold(open_bars([folder], CONTRACTS))


@pytest.fixture
def measure(held, tmp_path):
    def of(filters="", names=("bar_ibs",), bars=held):
        path = tmp_path / "config.yml"
        path.write_text(PLAIN + (f"  filters: {{{filters}}}\n" if filters else ""))
        return WarmUp(bars, load_settings([path]), CONTRACTS, roots=["ES"], names=names)

    return of


@pytest.mark.parametrize(
    ("filters", "sessions"),
    [
        ("", 0),  # IBS and calendar alone
        ("bar_rsi2: [0, 100]", 1),  # three bars: the first two of the session would be cold
        ("day_ibs: [0, 1]", 1),
        ("day_ret4_pct: [-99, 99]", 5),
        ("bar_ema200_above: {in: [0, 1]}", 9),  # 8 sessions and a bar are 185 bars, 9 and one 208
        ("bar_above_sma200: {in: [0, 1]}, day_ret4_pct: [-99, 99]", 9),
    ],
)
def test_decisions_need_the_history_that_a_hand_counts(measure, filters, sessions):
    points = measure(filters).of_decisions(4, 1)
    assert len(points) == 4
    assert [each.sessions for each in points] == [sessions] * 4
    assert all(each.enough for each in points)
    assert to_dict(points, [])["sessions"] == sessions


def test_a_filter_on_a_long_memory_needs_more_than_its_windows(measure):
    """RSI(2) between 40 and 60 depends on bars before the first three, a few of them."""
    points = measure("bar_rsi2: [40, 60]").of_decisions(4, 1)
    assert all(1 <= each.sessions <= 4 for each in points)


def test_decisions_that_stay_cold_cannot_be_told(measure):
    points = measure("day_atr_z: [-99, 99]").of_decisions(2, 1)  # needs 257 sessions
    assert not any(each.enough for each in points)
    assert to_dict(points, [])["sessions"] is None


def test_features_need_what_their_windows_hold(measure):
    counted = {
        "bar_ibs": 1,
        "bar_ret4_pct": 5,
        "bar_price_z": 20,
        "bar_above_sma200": 200,
        "day_ibs": 1,
        "day_ret4_pct": 5,
        "cal_dow": 1,
        "x_nq_bar_ret": 2,
        "bar_pair_z": 20,
    }
    found = {each.name: each for each in measure(names=list(counted)).of_features(3, 1)}
    assert {name: each.needed for name, each in found.items()} == counted
    assert all(each.enough and each.kept for each in found.values())
    assert found["day_ret4_pct"].of == "sessions"


def test_a_long_memory_settles_after_its_windows_and_within_its_promise(measure):
    (rsi,) = measure(names=["bar_rsi2"]).of_features(3, 1)
    assert rsi.enough
    assert rsi.full < rsi.needed <= rsi.settles


def test_a_feature_without_a_value_in_the_data_cannot_be_told(measure):
    (found,) = measure(names=["day_atr_z"]).of_features(2, 1)
    assert not found.enough


def test_a_memory_longer_than_the_data_cannot_be_told(measure):
    (found,) = measure(names=["bar_tr_atr"]).of_features(2, 1)  # settles at 1104 bars of 800
    assert found.needed > 300
    assert not found.enough


def test_history_is_counted_in_bars_of_what_is_read(folder, tmp_path):
    """Grains print two bars in three, so 253 of theirs are more of the symbol's own."""
    write_sample(tmp_path, roots=["ZC"], start=date(2023, 2, 13), end=date(2023, 3, 31), seed=5)
    bars = hold(open_bars([folder, tmp_path], CONTRACTS))
    measured = WarmUp(bars, load_settings(()), CONTRACTS, roots=["ES"], names=["x_zc_bar_z"])
    (found,) = measured.of_features(3, 1)
    assert found.kept
    assert found.needed <= found.settles


def test_points_wait_until_everything_has_begun(held):
    runs = {root: list(held.stream([root], volume=True)) for root in ("ES", "NQ")}
    first = int(runs["NQ"][0].ts_ns[0]) + 14 * DAY_NS
    late = HeldBars({"ES": runs["ES"], "NQ": after(runs["NQ"], first)}, CONTRACTS)
    measured = WarmUp(late, load_settings(()), CONTRACTS, roots=["ES"], names=["x_nq_bar_ret"])
    assert all(each.available < 25 for each in measured.of_decisions(3, 1))
    assert measured.of_features(2, 1)[0].needed == 2


def after(runs, first_ns):
    return list(HeldBars({"NQ": runs}, CONTRACTS).between(first_ns).stream(["NQ"], volume=True))


def test_a_promise_that_did_not_hold_is_told():
    assert not FeatureHistory("x", "bars", 2, 2, 5, needed=6, enough=True).kept
    assert FeatureHistory("x", "bars", 2, 2, None, needed=6, enough=True).kept


def test_a_later_draw_takes_other_points(measure):
    measured = measure()
    assert measured.of_decisions(3, 1) == measured.of_decisions(3, 1)
    assert measured.of_decisions(3, 1) != measured.of_decisions(3, 2)


def test_too_few_sessions_are_refused_by_name(measure, held):
    week = held.between(None, int(held._runs["ES"][0].ts_ns[0]) + 7 * 86_400 * 10**9)
    with pytest.raises(DataError, match="at least 20 sessions"):
        measure(bars=week)


@pytest.fixture
def call(monkeypatch, capsys):
    def run_words(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_words


def test_the_command_tells_both_as_tables_and_as_json(call, folder, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(PLAIN + "  filters: {day_ret4_pct: [-99, 99]}\n")
    words = ["check", "warmup", "--parquet", folder, "--config", config, "--points", 2]
    words += ["--features", "bar_ibs,day_atr_z"]
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    assert "with 5 sessions of history the next 5 decide as with all of it" in out
    assert "too short to tell" in out
    code, out, _ = call(*words, "--json")
    said = json.loads(out)
    assert (code, said["sessions"]) == (0, 5)
    assert [each["name"] for each in said["features"]] == ["bar_ibs", "day_atr_z"]
    assert [each["enough"] for each in said["features"]] == [True, False]
    assert call(*words, "--quiet") == (0, "", "")
