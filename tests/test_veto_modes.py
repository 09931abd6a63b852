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
from ibs_core.research.sample_data import write_sample
from ibs_core.universe import Model

MAP = load_contract_map()
FEATURES = ("bar_rsi14", "x_nq_bar_ret", "day_ibs_rank")


class Watching:
    """Scores by the first feature alone."""

    def score(self, rows):
        return (rows[:, 0] / np.float32(100.0)).astype(np.float32)


def model_of(features, threshold=0.35):
    seen = (int(np.datetime64("2023-02-01", "ns").astype(np.int64)), 2**62)
    return lambda _root: Model("v1", tuple(features), threshold, Watching(), seen)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "NQ"], start=date(2023, 1, 3), end=date(2023, 5, 31), seed=3)
    return out


def run(folder, mode, features=FEATURES, **options):
    settings = load_settings(overrides={"model": {"mode": mode}})
    models = model_of(features) if mode != "off" else None
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
    told = outcome.stats["in_training"]["ES"]
    assert told["of"] == traded.trades().height >= told["trades"] > 0
    assert any("training window" in line for line in outcome.warnings)


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
