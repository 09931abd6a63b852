"""What the vetoes were worth: against sums worked by hand from the veto-off trades, and the bootstrap's own laws."""

from __future__ import annotations

import json
import math
import sys
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs_core.backtest import trade
from ibs_core.candidate_table import candidates
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
from ibs_core.outcome import summarise
from ibs_core.report.bootstrap import block_sessions, resampled_sums
from ibs_core.research.sample_data import write_sample
from ibs_core.universe import Model
from ibs_core.veto_value import veto_value

MAP = load_contract_map()
SETTINGS = load_settings()
LONG_AGO = (0, 1)


class Except:
    """Lets in every candidate but those of some RSI, which no two share."""

    def __init__(self, *vetoed):
        self.vetoed = np.float32(vetoed)

    def score(self, rows):
        return np.where(np.isin(rows[:, 0], self.vetoed), 0.1, 0.9).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "CL"], start=date(2023, 1, 3), end=date(2023, 4, 28), seed=3)
    return out


@pytest.fixture(scope="module")
def off(folder):
    return summarise(trade(open_bars([folder], MAP), SETTINGS, MAP), SETTINGS)


@pytest.fixture(scope="module")
def labelled(folder):
    frames = candidates(open_bars([folder], MAP), SETTINGS, MAP, names=["bar_rsi14"])
    return pl.concat(frames)


@pytest.fixture(scope="module")
def value(folder):
    def measured(vetoed, seen=LONG_AGO, roots=None, features=("bar_rsi14",), **options):
        def models(root):
            return Model("v1", features, 0.5, Except(*vetoed.get(root, ())), seen)

        source = open_bars([folder], MAP)
        options = {"n_resamples": 400, "seed": 7} | options
        return veto_value(source, SETTINGS, MAP, models, roots=roots, **options)

    return measured


def entered(off, labelled, root):
    """Trades of the veto-off run with the RSI of their candidates."""
    known = labelled.filter(symbol=root).select("entry_time", "bar_rsi14")
    own = off.trades.filter(symbol=root).join(known, on="entry_time", maintain_order="left")
    return own.iter_rows(named=True)


def isolated(off, labelled, root):
    """Trades of the veto-off run during which there was no other candidate: without them nothing else changes."""
    times = labelled.filter(symbol=root)["time"]
    for row in entered(off, labelled, root):
        if not ((times > row["entry_time"]) & (times <= row["exit_time"])).any():
            yield row


def usd(amount):
    return pytest.approx(amount, abs=1e-6)


def ns(time):
    return int(pl.Series([time]).dt.epoch("ns")[0])


def test_a_model_that_vetoes_nothing_is_worth_nothing(value, off):
    facts = value({})
    total = facts["outside"]["total"]
    assert total["trades_off"] == total["trades_veto"] == off.trades.height > 100
    assert (total["value_usd"], total["vetoed"], total["kept_out"]) == (0.0, 0, 0)
    assert total["interval_usd"] == [0.0, 0.0]
    assert total["share_at_most_zero"] == 1.0
    assert facts["inside"]["total"]["trades_off"] == 0


def test_trades_kept_out_that_changed_nothing_else_are_worth_what_they_did_not_lose(
    value, off, labelled
):
    chosen = {root: list(isolated(off, labelled, root))[:12:3] for root in ("ES", "CL")}
    facts = value({root: [row["bar_rsi14"] for row in rows] for root, rows in chosen.items()})
    nets = {root: [row["net_usd"] for row in rows] for root, rows in chosen.items()}
    for root, own in nets.items():
        found = facts["outside"]["by_symbol"][root]
        assert found["trades_off"] - found["trades_veto"] == len(own) == 4
        assert found["value_usd"] == usd(-sum(own))
        assert found["net_usd_veto"] == usd(found["net_usd_off"] - sum(own))
        assert (found["vetoed"], found["kept_out"]) == (4, 4)
        assert found["vetoed_net_usd"] == found["kept_out_net_usd"] == usd(sum(own))
    total = facts["outside"]["total"]
    assert total["value_usd"] == usd(-sum(nets["ES"]) - sum(nets["CL"]))
    assert total["net_usd_off"] == usd(off.stats["total"]["net_usd"])

    # The interval, from a series of sessions that is made here.
    dates = off.equity["session_date"].unique().sort()
    dates = dates.filter(dates >= labelled["session"].min()).to_list()
    series = np.zeros((len(dates), 2))
    for i, rows in enumerate(chosen.values()):
        for row in rows:
            series[session_of(dates, row["exit_time"]), i] -= row["net_usd"]
    assert facts["bootstrap"]["sessions"] == len(dates)
    block = math.ceil(len(dates) ** (1 / 3))
    assert facts["bootstrap"]["mean_block_sessions"] == block
    columns = np.column_stack([series.sum(axis=1), series])
    sums = resampled_sums(columns, n_resamples=400, mean_block=block, seed=7)
    rows = [total, *facts["outside"]["by_symbol"].values()]
    order = [0, *(1 + list(chosen).index(root) for root in facts["outside"]["by_symbol"])]
    for row, i in zip(rows, order, strict=True):
        assert row["interval_usd"] == usd(np.quantile(sums[:, i], [0.05, 0.95]).tolist())
        assert row["share_at_most_zero"] == np.mean(sums[:, i] <= 0)


def session_of(dates, time):
    """The trade date of an instant: from 17:00 in Chicago on it is the next one."""
    local = (
        pl.Series([time]).dt.convert_time_zone("America/Chicago").dt.offset_by("7h").dt.date()[0]
    )
    return next(i for i, each in enumerate(dates) if each >= local)


def test_an_entry_kept_out_lets_in_the_next_candidate(value, off, labelled):
    own = labelled.filter(symbol="ES")
    for row in entered(off, labelled, "ES"):
        held = own.filter(
            pl.col("time") > row["entry_time"], pl.col("time") < row["exit_time"]
        )  # one that finds the position free, and leaves before or when the kept-out one would
        if held.height == 1 and held["exit_time"][0] <= row["exit_time"]:
            break
    facts = value({"ES": [row["bar_rsi14"]]}, roots=["ES"])["outside"]["total"]
    assert facts["trades_veto"] == facts["trades_off"]
    assert facts["value_usd"] == usd(held["net_usd"][0] - row["net_usd"])
    assert facts["kept_out_net_usd"] == usd(row["net_usd"])


def test_a_candidate_vetoed_behind_a_position_is_no_entry_kept_out(value, off, labelled):
    own, trades = labelled.filter(symbol="ES"), off.trades.filter(symbol="ES")
    behind = next(
        each
        for each in own.iter_rows(named=True)
        if ((trades["entry_time"] < each["time"]) & (each["time"] < trades["exit_time"])).any()
    )
    facts = value({"ES": [behind["bar_rsi14"]]}, roots=["ES"])["outside"]["total"]
    assert (facts["vetoed"], facts["kept_out"]) == (1, 0)
    assert facts["vetoed_net_usd"] == usd(behind["net_usd"])
    assert (facts["value_usd"], facts["kept_out_net_usd"]) == (0.0, 0.0)


def test_what_lies_in_the_training_window_is_told_apart(value, off, labelled):
    rows = list(isolated(off, labelled, "ES"))
    inner, outer = rows[2], rows[-2]
    first, last = ns(off.trades["entry_time"].min()), ns(inner["exit_time"])
    facts = value(
        {"ES": [inner["bar_rsi14"], outer["bar_rsi14"]]}, seen=(first, last), roots=["ES"]
    )
    assert facts["outside"]["total"]["value_usd"] == usd(-outer["net_usd"])
    assert facts["inside"]["total"]["value_usd"] == usd(-inner["net_usd"])
    for part, row in (("outside", outer), ("inside", inner)):
        assert facts[part]["total"]["kept_out_net_usd"] == usd(row["net_usd"])
    own = off.trades.filter(symbol="ES")
    seen = own.filter(pl.col("entry_time") <= inner["exit_time"])
    assert facts["inside"]["total"]["trades_off"] == seen.height
    assert facts["outside"]["total"]["trades_off"] == own.height - seen.height
    assert facts["bootstrap"]["first_session"] >= inner["exit_time"].date().isoformat()


def test_what_was_traded_before_the_model_could_judge_is_left_out_of_both(value, off):
    facts = value({}, features=("bar_rsi14", "bar_atr_z"), roots=["ES"])
    total, left_out = facts["outside"]["total"], facts["left_out"]["ES"]
    own = off.trades.filter(symbol="ES")
    assert left_out > 5
    assert total["trades_off"] == total["trades_veto"] == own.height - left_out
    assert total["net_usd_off"] == usd(own["net_usd"][left_out:].sum())
    assert total["value_usd"] == 0.0
    first = own["exit_time"][left_out].date().isoformat()
    assert facts["bootstrap"]["first_session"] <= first
    assert facts["bootstrap"]["first_session"] > own["exit_time"][0].date().isoformat()
    assert facts["waiting"] == {"ES": 0}


def test_without_a_session_outside_there_is_no_interval(value, off, labelled):
    row = next(isolated(off, labelled, "ES"))
    facts = value({"ES": [row["bar_rsi14"]]}, seen=(0, 2**62), roots=["ES"])
    assert facts["outside"]["total"]["trades_off"] == 0
    assert facts["outside"]["total"]["interval_usd"] is None
    assert facts["bootstrap"]["mean_block_sessions"] is None
    assert facts["inside"]["total"]["value_usd"] == usd(-row["net_usd"])


def test_a_candidate_keeps_its_own_outcome_where_a_later_one_exits_first(folder):
    near = {"target": {"percent": 0.2}, "stop": None, "ibs": None}
    settings = load_settings(overrides={"strategy": {"exits": near}})
    frame = pl.concat(candidates(open_bars([folder], MAP), settings, MAP, names=["bar_ibs"]))
    own = frame.filter(symbol="CL")
    assert not own["exit_time"].is_sorted()
    assert (frame["entry_time"] >= frame["time"]).all()
    assert (frame["bar_ibs"] == frame["ibs_entry"]).all()


# The bootstrap.


def test_two_sessions_are_resampled_with_the_chances_of_the_definition():
    # Blocks of two on average: the second place holds the other session unless a new block (1/2) begins
    # at the first one again (1/2): the sum of (0, 1) is 1 with 3/4, else 0 or 2.
    sums = resampled_sums(np.array([[0.0], [1.0]]), n_resamples=40_000, mean_block=2, seed=1)
    shares = np.bincount(sums[:, 0].astype(int)) / len(sums)
    assert shares == pytest.approx([1 / 8, 3 / 4, 1 / 8], abs=0.01)


@pytest.mark.parametrize("block", [1.0, 2.5, 8.0])
def test_the_variance_is_that_of_the_closed_form(block):
    # Politis and Romano: R(0) + 2 * sum of (1 - i/n) (1 - p)^i R(i), R the circular autocovariance.
    rng, n = np.random.default_rng(2), 120
    noise = rng.normal(size=n)
    series = noise + np.roll(noise, 1) + np.roll(noise, 2)
    centred = series - series.mean()
    lags = np.arange(1, n)
    covariance = np.array([np.mean(centred * np.roll(centred, -i)) for i in range(n)])
    weight = (1 - lags / n) * (1 - 1 / block) ** lags
    expected = n * (covariance[0] + 2 * np.sum(weight * covariance[1:]))
    sums = resampled_sums(series[:, None], n_resamples=20_000, mean_block=block, seed=3)
    assert sums.mean() == pytest.approx(series.sum(), abs=4 * math.sqrt(expected / 20_000))
    assert sums.var() == pytest.approx(expected, rel=0.05)


def test_the_interval_of_independent_sessions_is_that_of_normal_theory():
    series = np.random.default_rng(4).normal(2.0, 10.0, size=(250, 1))
    sums = resampled_sums(series, n_resamples=20_000, mean_block=1, seed=5)
    half = 1.6449 * series.std() * math.sqrt(250)
    found = np.quantile(sums, [0.05, 0.95]) - series.sum()
    assert found == pytest.approx([-half, half], rel=0.05)


def test_symbols_that_move_together_are_not_two_pieces_of_evidence():
    one = np.random.default_rng(6).normal(size=60)
    sums = resampled_sums(
        np.column_stack([one, one, 2 * one]), n_resamples=500, mean_block=4, seed=7
    )
    assert np.array_equal(sums[:, 0], sums[:, 1])
    assert np.allclose(sums[:, 0] + sums[:, 1], sums[:, 2], rtol=0, atol=1e-9)


@given(n=st.integers(1, 60), n_resamples=st.integers(1, 40), block=st.floats(1, 20))
def test_every_resample_has_as_many_sessions_and_a_seed_draws_it_again(n, n_resamples, block):
    values = np.column_stack([np.ones(n), np.arange(n)])
    sums = resampled_sums(values, n_resamples=n_resamples, mean_block=block, seed=n)
    again = resampled_sums(values, n_resamples=n_resamples, mean_block=block, seed=n)
    assert sums.shape == (n_resamples, 2)
    assert (sums[:, 0] == n).all()
    assert sums.tobytes() == again.tobytes()


def test_another_seed_draws_another_resample():
    values = np.arange(50.0)[:, None]
    found = [resampled_sums(values, n_resamples=9, mean_block=3, seed=seed) for seed in (1, 2)]
    assert not np.array_equal(*found)


@pytest.mark.parametrize(("n", "block"), [(1, 1), (2, 2), (8, 2), (9, 3), (1_000, 10), (1_001, 11)])
def test_blocks_grow_with_the_cube_root(n, block):
    assert block_sessions(n) == block


# The command.


@pytest.fixture
def ibs(monkeypatch, capsys, folder, tmp_path):
    pytest.importorskip("skl2onnx")
    from sample_bundle import tradable_bundle

    from ibs_core.bundle import Window
    from ibs_core.cli.main import run

    features = ("bar_rsi2", "bar_ret1_pct", "cal_dow", "bar_atr_z", "day_ibs", "bar_ibs")
    tradable_bundle(
        tmp_path,
        "ES",
        features,
        threshold=0.57,
        version="v1",
        window=Window(first_decision=0, last_label_end=1),
    )
    config = tmp_path / "config.yml"
    config.write_text(f"model:\n  bundle: '{tmp_path}/{{symbol}}/v1'\n")

    def call(*words):
        base = ("model", "veto-value", "--parquet", folder, "--config", config, "--symbols", "ES")
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, (*base, *words))])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_command_tells_the_value_its_interval_and_what_was_kept_out(ibs):
    code, out, err = ibs("--json", "--resamples", 300)
    assert (code, err) == (0, "")
    facts = json.loads(out)
    total = facts["outside"]["total"]
    assert total["vetoed"] > 10
    assert total["value_usd"] == usd(total["net_usd_veto"] - total["net_usd_off"])
    assert facts["generated_data"]
    assert facts["models"]["ES"]["version"] == "v1"
    low, high = total["interval_usd"]
    shown = ibs("--resamples", 300)[1]
    assert f"{low:,.0f} to {high:,.0f}" in shown
    assert f"kept out {total['kept_out']:,} entries" in shown
    assert "generated data" in shown
    assert ibs("--quiet", "--resamples", 300) == (0, "", "")
    assert ibs("--json", "--resamples", 300)[1] == out


def test_a_symbol_without_a_model_is_refused_in_one_line(ibs):
    code, _, err = ibs("--symbols", "CL")
    assert (code, err.count("\n")) == (3, 1)
    assert ibs("--resamples", 5)[0] == 2
