"""`ibs model explain`: the scores that traded, divided among the features that they were made of."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

from sample_bundle import exported, tradable_bundle

from adapters.onnx_scorer import OnnxScorer
from ibs_core.backtest import trade
from ibs_core.cli.main import run
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError
from ibs_core.explain import Explainer
from ibs_core.explanations import EXPLANATIONS, explain
from ibs_core.feature_table import tabulate
from ibs_core.ledger import decisions_frame
from ibs_core.market_data import open_bars
from ibs_core.parquet_file import marks_of
from ibs_core.research.sample_data import write_sample
from ibs_core.universe import Model

MAP = load_contract_map()
FEATURES = ("bar_rsi2", "bar_ret1_pct", "x_nq_bar_ret", "bar_atr_z", "day_ibs", "bar_ibs")
THRESHOLD = 0.57


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Bars of ES, and of NQ with holes on Wednesdays, where what is read of it is missing."""
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=["ES", "NQ"], start=date(2023, 1, 3), end=date(2023, 3, 31), seed=3)
    path = folder / "NQ.parquet"
    minutes, time = pl.read_parquet(path), pl.col("ts_event")
    holed = minutes.filter((time.dt.weekday() != 3) | (time.dt.hour() < 5))
    holed.write_parquet(path, metadata=marks_of(path))
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tradable_bundle(folder, "ES", FEATURES, threshold=THRESHOLD, version="v1")
    path = folder / "config.yml"
    path.write_text(f"model:\n  mode: veto\n  bundle: '{folder}/{{symbol}}/v1'\n")
    return path


@pytest.fixture
def ibs(monkeypatch, capsys, bars, config):
    def call(*words, settings=config, whole=False):
        base = ("model", "explain", "--parquet", bars, "--symbols", "ES", "--config", settings)
        words = words if whole else (*base, *words)
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def backtest(bars, config):
    """The decisions of the back-test with the same models."""
    from ibs_core.cli.veto_models import models_for

    settings = load_settings([config])
    models = models_for(settings, MAP)
    traded = trade(open_bars([bars], MAP), settings, MAP, roots=["ES"], models=models)
    decisions = decisions_frame(traded.decision_records, traded.lines)
    return decisions.filter(action="entry").drop("action")


@pytest.fixture
def written(ibs, tmp_path):
    out = tmp_path / "new" / "explanations.parquet"
    result = ibs("--out", out)
    assert result.code == 0, result.err
    return pl.read_parquet(out), out, result


def test_base_and_contributions_sum_to_the_score_of_every_scored_candidate(written):
    frame, out, _ = written
    assert frame.schema == EXPLANATIONS
    assert marks_of(out)["ibs.generated"] == "true"
    scored = frame.filter(pl.col("score").is_not_null())
    sums = scored.group_by("time").agg(
        pl.col("contribution").sum() + pl.col("base").first(),
        pl.col("score").first().cast(pl.Float64),
        pl.col("feature"),
    )
    assert sums.height > 50
    assert (sums["contribution"] - sums["score"]).abs().max() <= 1e-6
    assert all(tuple(names) == FEATURES for names in sums["feature"].to_list())
    assert scored["contribution"].abs().max() > 0.01
    assert scored["score"].n_unique() > 20


def test_every_candidate_is_told_as_the_backtest_decided_it(written, backtest):
    frame, _, result = written
    told = frame.unique("time", maintain_order=True)
    columns = ["time", "symbol", "reason", "score", "threshold"]
    assert told.select(columns).equals(backtest.select(columns))
    reasons = dict(backtest["reason"].value_counts().iter_rows())
    assert {"taken", "vetoed"} <= reasons.keys()
    for reason, n in reasons.items():
        assert f"{n:,} {reason}" in result.out


def test_a_candidate_that_misses_a_feature_is_one_row_without_numbers(written):
    frame, _, _ = written
    missing = frame.filter(pl.col("reason").str.starts_with("vetoed:missing"))
    assert missing.height == missing["time"].n_unique() > 0
    assert set(missing["reason"]) == {"vetoed:missing x_nq_bar_ret"}
    assert missing.select("score", "base", "feature", "value", "contribution").null_count().row(
        0
    ) == tuple([missing.height] * 5)


def test_the_values_are_those_that_the_model_scored(written, bars):
    frame, _, _ = written
    scored = frame.filter(pl.col("score").is_not_null())
    rows = scored["value"].to_numpy().reshape(-1, len(FEATURES))
    scores = scored["score"].to_numpy()[:: len(FEATURES)]
    assert OnnxScorer(exported(40, 4)).score(rows).tobytes() == scores.tobytes()
    (table,) = tabulate(open_bars([bars], MAP), load_settings(), MAP, roots=["ES"], names=FEATURES)
    at = pl.DataFrame({"known_at": scored["time"][:: len(FEATURES)]})
    known = at.join(table.frame(), on="known_at", how="left", maintain_order="left")
    assert known.select(FEATURES).to_numpy().astype(np.float32).tobytes() == rows.tobytes()


def test_with_mode_off_the_model_watches_and_no_reason_is_a_veto(ibs, config, tmp_path, written):
    off = tmp_path / "off.yml"
    off.write_text(config.read_text().replace("mode: veto", "mode: off"))
    out = tmp_path / "watched.parquet"
    assert ibs("--out", out, settings=off).code == 0
    watched, judged = pl.read_parquet(out), written[0]
    assert not watched["reason"].str.starts_with("vetoed").any()
    both = judged.drop_nulls("score").join(watched, on=["time", "feature"], how="left")
    assert both["contribution"].equals(both["contribution_right"].alias("contribution"))


def test_the_screen_tells_the_last_candidates_and_the_features_that_moved_them_most(ibs, written):
    frame, _, _ = written
    told = json.loads(ibs("--json", "--top", 2).out)
    assert told["candidates"] == frame["time"].n_unique()
    assert len(told["last"]) == 10
    assert [each["time"] for each in told["last"]] == sorted(
        each.isoformat() for each in frame["time"].unique().sort().tail(10)
    )
    each = next(each for each in reversed(told["last"]) if each["score"] is not None)
    own = frame.filter(pl.col("time") == datetime.fromisoformat(each["time"]))
    largest = own.sort(pl.col("contribution").abs(), descending=True)["feature"][:2].to_list()
    assert [part["feature"] for part in each["features"]] == largest
    added = sum(part["contribution"] for part in each["features"])
    assert each["base"] + added + each["rest"] == pytest.approx(each["score"], abs=1e-6)
    assert ibs("--quiet").out == ""


def test_one_instant_is_told_alone_and_one_without_a_candidate_is_refused(ibs, written, tmp_path):
    frame, _, _ = written
    time = frame["time"].unique().sort()[10]
    out = tmp_path / "one.parquet"
    assert ibs("--at", time.replace(tzinfo=None).isoformat(), "--out", out).code == 0
    assert pl.read_parquet(out).equals(frame.filter(pl.col("time") == time))
    out.unlink()
    other = ibs("--at", (time + timedelta(minutes=1)).isoformat(), "--out", out)
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert time.isoformat() in other.err
    assert not out.exists()
    assert ibs("--at", "noon").code == 2


def test_a_table_never_replaces_the_bars_nor_lies_among_them(ibs, bars):
    before = (bars / "ES.parquet").read_bytes()
    assert ibs("--out", bars / "ES.parquet").code == 2
    assert ibs("--out", bars / "x.parquet").code == 2
    assert (bars / "ES.parquet").read_bytes() == before
    assert not (bars / "x.parquet").exists()


def test_an_explanation_of_another_model_is_refused(bars):
    scorer = OnnxScorer(exported(40, 4))
    model = Model("v1", FEATURES, THRESHOLD, scorer, (0, 1))
    other = Explainer(exported(30, 3))
    frames = explain(
        open_bars([bars], MAP),
        load_settings(overrides={"model": {"mode": "shadow"}}),
        MAP,
        lambda _root: model,
        lambda _root: other,
        roots=["ES"],
    )
    with pytest.raises(DataError, match="explanation of ES"):
        list(frames)


def test_the_commands_of_the_page_run(ibs, config, bars, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bars").symlink_to(bars)
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text("utf-8")
    lines = re.findall(r"^ibs (model (?:explain|veto-value) .*)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        result = ibs(*line.split(), *("--symbols", "ES", "--config", config), whole=True)
        assert (result.code, bool(result.out)) == (0, True), result.err


class Failing:
    """Scores nothing where the first feature is in the upper half."""

    def score(self, rows):
        if (rows[:, 0] > 50).any():
            raise ValueError("no score")
        return OnnxScorer(exported(40, 4)).score(rows)


def test_rows_on_which_the_model_fails_are_told_and_leave_the_others_theirs(bars):
    model = Model("v1", FEATURES, THRESHOLD, Failing(), (0, 1))
    (frame,) = explain(
        open_bars([bars], MAP),
        load_settings(overrides={"model": {"mode": "veto"}}),
        MAP,
        lambda _root: model,
        lambda _root: Explainer(exported(40, 4)),
        roots=["ES"],
    )
    reasons = set(frame["reason"])
    assert "vetoed:scorer error" in reasons
    assert "vetoed" in reasons
    assert frame.filter(reason="vetoed:scorer error")["contribution"].null_count() == (
        frame.filter(reason="vetoed:scorer error").height
    )
    assert frame.filter(feature="bar_rsi2")["value"].max() <= 50
