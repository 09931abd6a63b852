"""Off, shadow and veto: what a model may change, and what it may not."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from ibs_core.backtest import trade
from ibs_core.checks.lookahead import check, choose_cuts
from ibs_core.checks.pictures import EnginePictures
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError
from ibs_core.feature_table import tabulate
from ibs_core.market_data import hold, open_bars
from ibs_core.outcome import summarise
from ibs_core.report.summary import summary_tables
from ibs_core.research.sample_data import write_sample
from ibs_core.universe import Model
from ibs_core.veto_value import compare

MAP = load_contract_map()
FEATURES = ("bar_rsi14", "x_nq_bar_ret", "day_ibs_rank")


class Watching:
    """Scores by the first feature alone."""

    def score(self, rows):
        return (rows[:, 0] / np.float32(100.0)).astype(np.float32)


def ns(text):
    return int(np.datetime64(text, "ns").astype(np.int64))


def model_of(features, threshold=0.35, seen=("2023-02-01", "2099-01-01"), notes=()):
    window = (ns(seen[0]), ns(seen[1]))
    return lambda _root: Model("v1", tuple(features), threshold, Watching(), window, notes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "NQ"], start=date(2023, 1, 3), end=date(2023, 5, 31), seed=3)
    return out


def run(folder, mode, features=FEATURES, model=None, **options):
    settings = load_settings(overrides={"model": {"mode": mode}})
    models = (model or model_of(features)) if mode != "off" else None
    traded = trade(open_bars([folder], MAP), settings, MAP, models=models, **options)
    return traded, summarise(traded, settings)


def test_shadow_trades_are_those_of_off_though_its_features_are_never_warm(folder):
    (off, plain), (shadow, watched) = run(folder, "off"), run(folder, "shadow")
    assert off.trades().drop("score").equals(shadow.trades().drop("score"))
    assert plain.stats["blocked"] == watched.stats["blocked"]
    assert shadow.trades()["score"].null_count() < shadow.trades().height
    assert watched.decisions["threshold"].unique().to_list() == [np.float32(0.35)]


def test_a_veto_waits_for_the_windows_of_its_features(folder):
    traded, outcome = run(folder, "veto")
    assert traded.trades().is_empty()
    assert outcome.stats["blocked"]["ES"]["warm_up"] > 0


def test_a_veto_lets_in_what_scores_at_the_threshold_and_tells_of_the_rest(folder):
    features = FEATURES[:2]
    traded, outcome = run(folder, "veto", features, roots=["ES"])
    (table,) = tabulate(
        open_bars([folder], MAP), load_settings(), MAP, roots=["ES"], names=features
    )
    known = table.frame().select(pl.col("known_at").alias("time"), *features)
    entries = outcome.decisions.filter(action="entry").join(known, on="time", how="left")
    rsi = entries["bar_rsi14"].to_numpy().astype(np.float32)
    score = pl.Series(rsi / np.float32(100.0))
    missing = entries["x_nq_bar_ret"].is_null()
    vetoed = entries["reason"] == "vetoed"
    assert 10 < vetoed.sum() < entries.height - 10
    assert (vetoed == (~missing & (score < np.float32(0.35)))).all()
    assert entries.filter(missing)["reason"].to_list() == ["vetoed:missing x_nq_bar_ret"] * int(
        missing.sum()
    )
    assert (entries.filter(~missing)["score"] == score.filter(~missing)).all()
    assert outcome.stats["blocked"]["ES"]["vetoed"] == vetoed.sum()
    assert traded.trades().height > 0


WARM = FEATURES[:2]
METRIC_KEYS = ("total", "by_symbol", "by_exit_reason", "monthly", "first_session", "last_session")


def test_headline_numbers_are_those_of_a_run_that_begins_after_the_training_window(folder):
    # 15 March closes at 21:00 UTC: that session is the last that lies wholly in the window.
    model = model_of(WARM, seen=("2022-12-01", "2023-03-15T21:30"))
    _, whole = run(folder, "veto", model=model)
    _, later = run(folder, "veto", model=model, start=date(2023, 3, 16))
    assert later.trades.height > 10
    assert "inside_training" not in later.stats
    assert {key: whole.stats[key] for key in METRIC_KEYS} == {
        key: later.stats[key] for key in METRIC_KEYS
    }
    _, apart = run(folder, "veto", model=model, end=date(2023, 3, 15))
    found = whole.stats["inside_training"]
    assert found["sessions"] == apart.equity["session_date"].n_unique()
    (n_inside, n_all) = found["total"]["trades"], whole.trades.height
    assert n_inside == apart.trades.height == n_all - later.trades.height > 10
    assert found["total"]["net_usd"] == pytest.approx(apart.trades["net_usd"].sum())
    line = f"{n_inside} of {n_all} trades lie in the training window of ES v1, NQ v1; headline numbers leave them out, and {found['sessions']} sessions"
    assert line in whole.warnings
    assert whole.equity["realised_usd"][-1] == pytest.approx(whole.trades["net_usd"].sum())


def test_a_window_that_touches_nothing_changes_no_number(folder):
    _, before = run(folder, "veto", model=model_of(WARM, seen=("2010-01-01", "2020-01-01")))
    _, after = run(folder, "veto", model=model_of(WARM, seen=("2030-01-01", "2031-01-01")))
    assert before.trades.height > 10
    for outcome in (before, after):
        assert "inside_training" not in outcome.stats
        assert not [line for line in outcome.warnings if "training" in line]
    assert {key: before.stats[key] for key in METRIC_KEYS} == {
        key: after.stats[key] for key in METRIC_KEYS
    }


def test_without_a_trade_outside_there_are_no_numbers_and_no_crash(folder):
    _, outcome = run(folder, "veto", model=model_of(WARM, seen=("2020-01-01", "2030-01-01")))
    assert outcome.trades.height > 10
    for block in (outcome.stats["total"], *outcome.stats["by_symbol"].values()):
        undefined = block.pop("undefined")
        assert block.keys() - undefined.keys() == {"trades", "sessions"}
        assert {block[key] for key in undefined} == {None}
        block["undefined"] = undefined
        assert (block["trades"], block["sessions"]) == (0, 0)
    assert list(outcome.stats["by_symbol"]) == ["ES", "NQ"]
    assert outcome.stats["inside_training"]["total"]["trades"] == outcome.trades.height
    assert "no trade lies outside: there is no out-of-sample result" in outcome.warnings
    assert summary_tables(outcome.stats)


def test_a_model_that_only_watches_leaves_all_numbers_as_they_are(folder):
    _, plain = run(folder, "off")
    _, watched = run(folder, "shadow", model=model_of(WARM, notes=("trained elsewhere",)))
    told = watched.stats.pop("training_windows")
    for stats in (watched.stats, plain.stats):
        for block in (stats["total"], *stats["by_symbol"].values()):
            for key in ("vetoed", "vetoed_net_usd"):
                block.pop(key)
                block["undefined"].pop(key, None)
    assert watched.stats == plain.stats
    assert told["ES"]["first_decision"] == "2023-02-01T00:00:00.000000000Z"
    n_inside = sum(each["trades"] for each in told.values())
    assert 0 < n_inside < plain.trades.height
    lines = [line for line in watched.warnings if line not in plain.warnings]
    where = f"{n_inside} of {plain.trades.height} trades lie in the training window of ES v1, NQ v1"
    told = f"{where}; what the model says of them is no evidence of it"
    assert lines == ["trained elsewhere", "trained elsewhere", told]


def test_what_scored_below_is_followed_alone_where_the_model_was_not_trained(folder):
    model = model_of(("bar_rsi14",), seen=("2023-03-01", "2023-03-31"))
    veto, judged = run(folder, "veto", model=model, roots=["ES"])
    off, plain = run(folder, "off", roots=["ES"])
    _, watched = run(folder, "shadow", model=model, roots=["ES"])
    expected = compare(veto, off, n_resamples=1, seed=1)["outside"]["total"]
    for block in (judged.stats["total"], judged.stats["by_symbol"]["ES"]):
        assert block["vetoed"] == expected["vetoed"] > 10
        assert block["vetoed_net_usd"] == pytest.approx(expected["vetoed_net_usd"])
    inside = judged.stats["inside_training"]["total"]
    assert inside["vetoed"] is None
    assert "learnt" in inside["undefined"]["vetoed"]
    # In shadow it scores from its first value on and does not wait until all windows are full.
    assert watched.stats["total"]["vetoed"] >= expected["vetoed"]
    assert plain.stats["total"]["vetoed"] is None


class Batch(Watching):
    """Leaks: a row's score depends on the rows that come with it."""

    def score(self, rows):
        return (rows[:, 0] / rows[:, 0].max() * np.float32(0.99)).astype(np.float32)


@pytest.mark.parametrize(("scorer", "leaks"), [(Watching(), False), (Batch(), True)])
def test_a_score_that_later_candidates_change_is_look_ahead(folder, scorer, leaks):
    settings = load_settings(overrides={"model": {"mode": "shadow"}})
    model = Model("v1", ("bar_rsi14",), 0.35, scorer, (0, 1))
    held = hold(open_bars([folder], MAP), ["ES"])
    pictures = EnginePictures(
        held, settings, MAP, roots=["ES"], names=["bar_ibs"], models=lambda _root: model
    )
    findings = check(pictures, choose_cuts(pictures(None), 4, 7))
    assert bool(findings) == leaks
    if leaks:
        assert "score" in str(findings[0])


def test_a_model_of_unknown_features_and_a_mode_without_models_are_refused(folder):
    with pytest.raises(ConfigError, match="model of ES: expected the name of a feature"):
        run(folder, "veto", ("bar_rsi3",))
    settings = load_settings(overrides={"model": {"mode": "veto"}})
    with pytest.raises(ConfigError, match="a model bundle for every traded symbol"):
        trade(open_bars([folder], MAP), settings, MAP)
