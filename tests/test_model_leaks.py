"""A feature that a model reads is moved by one bar: what notices it, from the bars to the dataset."""

from __future__ import annotations

import json
import sys
from datetime import date

import numpy as np
import polars as pl
import pytest

pytest.importorskip("sklearn")

from ibs_core import backtest, feature_table, signals
from ibs_core.bundle import load_bundle
from ibs_core.cli.main import run
from ibs_core.parquet_file import marks_of, write_parquet
from ibs_core.research.sample_data import write_sample
from ibs_core.wiring import memory_of, new_state

FEATURES = "bar_rsi5,bar_ret4_pct,day_ibs,x_nq_bar_ret,bar_pair_ibs"
LEAKY = "bar_rsi5"
FIRST_OF_MODEL = -len(FEATURES.split(","))
STRATEGY = "strategy: {entry: {windows: [], ibs: [0.0, 0.5], pivots: none}}\n"
SMALL = (
    *("--trials", 1, "--trees", "6", "--min-leaf", "20", "--keep", "5", "--jobs", 1),
    *("--groups", 3, "--test-groups", 1),
)


def called(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
    code = 0
    try:
        run()
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def ibs(monkeypatch, capsys):
    return lambda *words: called(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=["ES", "NQ"], start=date(2023, 1, 3), end=date(2023, 5, 26), seed=4)
    return folder


@pytest.fixture(scope="module")
def made(bars, tmp_path_factory):
    """As a user makes them: a dataset, a feature table, a bundle, and a configuration that scores with it."""
    folder = tmp_path_factory.mktemp("made")
    config, table = folder / "rule.yml", folder / "d.parquet"
    config.write_text(STRATEGY)
    of_bars = ("--parquet", bars, "--config", config, "--symbols", "ES", "--features", FEATURES)
    with pytest.MonkeyPatch.context() as patch:
        for words in (
            ("model", "dataset", *of_bars, "--out", table),
            ("data", "features", *of_bars, "--out", folder / "features.parquet"),
            ("model", "train", "--dataset", table, "--models", folder / "models", *SMALL),
        ):
            patch.setattr(sys, "argv", ["ibs", *map(str, words), "--quiet"])
            run()
    (card,) = (folder / "models").glob("ES/*/card.json")
    (folder / "model.yml").write_text(
        f"{STRATEGY}model: {{mode: shadow, bundle: {card.parent.as_posix()}}}\n"
    )
    return folder


@pytest.fixture
def check(made, bars, ibs):
    """Run the check with the model; only a feature that the model does not read is asked for."""
    config = made / "model.yml"
    words = ("--parquet", bars, "--config", config, "--symbols", "ES", "--features", "bar_ibs")
    return lambda *more: ibs("check", "lookahead", *words, "--cuts", 8, "--json", *more)


def one_bar_late(rows):
    """Give each bar the row of the next; the last bar has none."""
    return np.vstack([rows[1:], np.full((1, rows.shape[1]), np.nan)])


def plant_in_table(monkeypatch):
    """Shift the leaky feature in the feature table."""
    honest = feature_table._Plan.table

    def table(self, *asked):
        found = honest(self, *asked)
        if LEAKY in found.names:
            column = found.names.index(LEAKY)
            found.rows[:, [column]] = one_bar_late(found.rows[:, [column]])
        return found

    monkeypatch.setattr(feature_table._Plan, "table", table)


def plant_in_engine(monkeypatch, column):
    """Shift a column of the model's rows where candidates are observed."""
    honest = signals.observe_many

    def observe(params, graph, memory, days_memory, bars, days, schedule, *rest):
        foreign, day_pair, seen, rows = rest
        n = honest(params, graph, memory, days_memory, bars, days, schedule, *rest)
        every = np.empty((len(bars), len(graph.columns)))
        signals.features_many(
            graph,
            memory_of(new_state(graph.bar)),
            memory_of(new_state(graph.day)),
            bars,
            days,
            schedule["calendar"][: len(bars)].copy(),
            foreign,
            day_pair,
            every,
        )
        at = np.flatnonzero(seen["gate"][: len(bars)] == signals.CANDIDATE)
        assert rows[:n].tobytes() == every[at].tobytes()  # but for the shift it is the engine
        rows[:n, column] = one_bar_late(every)[at, column]
        return n

    monkeypatch.setattr(backtest.signals, "observe_many", observe)


def test_the_model_reads_the_feature_that_is_to_leak(made):
    (card,) = (made / "models").glob("ES/*/card.json")
    assert LEAKY in load_bundle(card.parent).card.features


def test_an_engine_with_an_honest_model_passes(check):
    code, out, err = check()
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["findings"] == []
    assert said["compared"]["features"] == 6  # the model's five too


def test_a_model_feature_of_the_next_bar_is_named_and_fails_the_check(check, monkeypatch):
    plant_in_table(monkeypatch)
    plant_in_engine(monkeypatch, FIRST_OF_MODEL)
    code, out, err = check()
    features = [each for each in json.loads(out)["findings"] if each["stage"] == "feature"]
    assert code == 1
    assert {each["name"] for each in features} == {LEAKY}
    assert f"feature {LEAKY} of ES" in err


def test_a_leak_of_the_model_s_rows_alone_is_found_by_its_scores(check, monkeypatch):
    plant_in_engine(monkeypatch, FIRST_OF_MODEL)
    code, out, err = check()
    found = json.loads(out)["findings"]
    assert code == 1
    assert {each["symbol"] for each in found} == {"ES"}
    assert found[0]["stage"] == "gate"
    assert "score" in {each["name"] for each in found}
    assert "gate " in err


# ---------------------------------------------------------------- the dataset


def unlike(dataset, features):
    """Name the columns of a dataset that are not those of the feature table at the same decisions."""
    known = features.select(pl.col("known_at").alias("time"), *FEATURES.split(","))
    expected = dataset.select("time").join(known, on="time", how="left", maintain_order="left")
    assert len(expected) == len(dataset) > 300
    names = FEATURES.split(",")
    # A window that is not full yet counts as missing in a dataset, and in the table not.
    expected = expected.with_columns(
        pl.when(dataset[name].is_null()).then(None).otherwise(pl.col(name)).alias(name)
        for name in names
    )
    assert max(dataset.select(names).null_count().row(0)) < len(dataset) // 2
    pairs = ((name, dataset[name].to_numpy(), expected[name].to_numpy()) for name in names)
    return [name for name, given, wanted in pairs if given.tobytes() != wanted.tobytes()]


def shifted(frame):
    """Move one feature up by one candidate."""
    return frame.with_columns(pl.col(LEAKY).shift(-1))


def test_dataset_rows_are_those_of_the_feature_table_and_a_shifted_column_is_not(made):
    dataset, features = (pl.read_parquet(made / f"{name}.parquet") for name in ("d", "features"))
    assert unlike(dataset, features) == []
    assert unlike(shifted(dataset), features) == [LEAKY]


def test_training_refuses_a_dataset_of_which_one_column_was_shifted(made, ibs, tmp_path):
    """Whether the tool that wrote it kept what the file says of itself or not."""
    honest = made / "d.parquet"
    words = ("--models", tmp_path / "models", *SMALL)
    bare, marked = tmp_path / "bare.parquet", tmp_path / "marked.parquet"
    shifted(pl.read_parquet(honest)).write_parquet(bare)
    code, _, err = ibs("model", "train", "--dataset", bare, *words)
    assert (code, "no dataset" in err) == (2, True)
    marks = marks_of(honest)
    write_parquet(shifted(pl.read_parquet(honest)), marked, marks)
    code, _, err = ibs("model", "train", "--dataset", marked, *words)
    assert (code, err.count("\n")) == (1, 1)
    assert "rows are not those that were written" in err
    assert not list(tmp_path.glob("models/*/*/card.json"))
    write_parquet(pl.read_parquet(honest), marked, marks)  # the same rows in another file are fine
    assert ibs("model", "train", "--dataset", marked, *words)[0] == 0
