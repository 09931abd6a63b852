"""`ibs model` from bars to a promoted bundle, as a careless user drives it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("sklearn")

from ibs_core.bundle import load_bundle, promoted
from ibs_core.cli.main import run
from ibs_core.research.sample_data import write_sample

FEATURES = "bar_ibs,bar_rsi2,bar_rsi5,bar_atr_z,day_ibs,cal_dow,day_ret4_pct,bar_close_px"
LEVEL = "bar_close_px"
SMALL = (
    *("--trials", 2, "--trees", "10", "--min-leaf", "20", "--keep", "3,5", "--jobs", 1),
    *("--groups", 3, "--test-groups", 1),
)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def called(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
    code = 0
    try:
        run()
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


@pytest.fixture
def ibs(monkeypatch, capsys):
    return lambda *words: called(capsys, monkeypatch, "model", *words)


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=["ES"], start=date(2022, 1, 3), end=date(2023, 1, 31), seed=4)
    return folder


@pytest.fixture(scope="module")
def made(bars, tmp_path_factory):
    """A dataset and a folder of models with one bundle."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        for words in (
            *(
                (
                    "dataset",
                    "--parquet",
                    bars,
                    "--out",
                    folder / "d.parquet",
                    "--features",
                    FEATURES,
                ),
            ),
            ("train", "--dataset", folder / "d.parquet", "--models", folder / "models", *SMALL),
        ):
            patch.setattr(sys, "argv", ["ibs", "model", *map(str, words), "--quiet"])
            run()
    return folder


@pytest.fixture
def models(made, tmp_path):
    return shutil.copytree(made / "models", tmp_path / "models")


def bundle_of(models):
    (folder,) = (card.parent for card in models.glob("ES/*/card.json"))
    return folder


def test_a_dataset_holds_candidates_and_says_what_it_was_made_from(made):
    frame = pl.read_parquet(made / "d.parquet")
    assert frame.columns[:3] == ["time", "session", "symbol"]
    assert frame.columns[-8:] == FEATURES.split(",")
    assert len(frame) > 500
    assert set(frame["label"].unique()) == {0, 1}
    marks = pl.read_parquet_metadata(made / "d.parquet")
    says = json.loads(marks["ibs.dataset"])
    assert marks["ibs.generated"] == "true"
    assert says.keys() == {
        *("features", "feature_digest", "data_digest", "contract_map_digest", "config_digest"),
        "strategies",
    }
    assert [path.name for path in made.iterdir()] != []
    assert not list(made.glob(".*"))  # no part is left behind


def test_a_dataset_never_replaces_the_bars_nor_lies_among_them(ibs, bars, tmp_path):
    before = (bars / "ES.parquet").read_bytes()
    over = ibs("dataset", "--parquet", bars / "ES.parquet", "--out", bars / "ES.parquet")
    assert (over.code, "which holds the bars" in over.err) == (2, True)
    among = ibs("dataset", "--parquet", bars, "--out", bars / "d.parquet")
    assert (among.code, "folder of bars" in among.err) == (2, True)
    assert (bars / "ES.parquet").read_bytes() == before
    folder = ibs("dataset", "--parquet", bars, "--out", tmp_path)
    assert folder.code == 3


def test_a_dataset_counts_each_symbol_in_whatever_order_they_are_named(ibs, tmp_path):
    write_sample(
        tmp_path / "two", roots=["ES", "CL"], start=date(2022, 1, 3), end=date(2022, 2, 4), seed=4
    )
    out = tmp_path / "d.parquet"
    words = ("--parquet", tmp_path / "two", "--out", out, "--symbols", "CL,ES", "--json")
    told = ibs("dataset", *words, "--features", "bar_ibs")
    held = pl.read_parquet(out)["symbol"].value_counts()
    assert json.loads(told.out)["rows"] == dict(held.iter_rows())


def test_a_dataset_asks_no_model_whatever_the_configuration_says(ibs, tmp_path):
    write_sample(
        tmp_path / "b", roots=["ES"], start=date(2022, 1, 3), end=date(2022, 1, 28), seed=1
    )
    (tmp_path / "veto.yml").write_text("model: {mode: veto}\n")
    base = ("dataset", "--parquet", tmp_path / "b", "--features", "bar_rsi2")
    out, other = tmp_path / "veto.parquet", tmp_path / "off.parquet"
    result = ibs(*base, "--config", tmp_path / "veto.yml", "--out", out)
    assert result.code == 0, result.err
    assert ibs(*base, "--out", other).code == 0
    assert pl.read_parquet(out).equals(pl.read_parquet(other))


def test_no_candidate_and_a_symbol_that_cannot_be_trained_are_told(made, ibs, tmp_path):
    write_sample(
        tmp_path / "b", roots=["ES", "NQ"], start=date(2022, 1, 3), end=date(2023, 1, 31), seed=4
    )
    never, few = tmp_path / "never.yml", tmp_path / "few.yml"
    never.write_text("strategy: {filters: {bar_ibs: [0.9, 1.0]}}\n")
    few.write_text("symbols: {NQ: {}, ES: {strategy: {filters: {bar_rsi2: [0, 1]}}}}\n")
    base = ("dataset", "--parquet", tmp_path / "b", "--features", FEATURES)
    assert ibs(*base, "--config", never, "--out", tmp_path / "n.parquet").code == 0
    words = ("train", "--models", tmp_path / "models", *SMALL, "--no-walk-forward")
    result = ibs(*words, "--dataset", tmp_path / "n.parquet")
    assert (result.code, "holds no candidate" in result.err) == (1, True), result.err
    assert ibs(*base, "--config", few, "--out", tmp_path / "f.parquet").code == 0
    result = ibs(*words, "--dataset", tmp_path / "f.parquet")
    assert (result.code, "ES has too few candidates" in result.err) == (1, True), result.err
    assert "bundle:" in result.out
    assert list((tmp_path / "models" / "NQ").glob("*/card.json"))


def test_training_writes_a_bundle_that_says_where_it_comes_from(made, ibs):
    folder = bundle_of(made / "models")
    card = load_bundle(folder).card
    assert card.generated
    assert card.strategy["signal_bar"] == "1h"
    assert set(card.features) <= set(FEATURES.split(",")) - {LEVEL}
    assert card.trials == 2 * (1 + 3 + 1)  # of two blocks of the walk-forward one has rows enough
    assert card.metrics["export_max_difference"] <= 3e-6
    shown = ibs("show", folder, "--json")
    facts = json.loads(shown.out)
    assert shown.code == 0
    assert facts["version"] == card.version == folder.name
    assert len(facts["guardrails"]) == 7
    assert "Conditions of promotion" in ibs("show", folder).out


def test_training_again_finds_all_trials_made_and_the_same_model(made, ibs, models):
    words = ("train", "--dataset", made / "d.parquet", "--models", models, "--json", *SMALL)
    result = ibs(*words)
    assert result.code == 0, result.err
    (facts,) = json.loads(result.out)
    assert facts["trials"] == 10
    assert facts["model_sha256"] == load_bundle(bundle_of(made / "models")).card.model_sha256


def recorded(models):
    """Every trial in the ledger, by study and number, but the time it was made."""
    path = models / "trials.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=60)) as db:
        names = [row[1] for row in db.execute("PRAGMA table_info(trials)")]
        of_the_trial = ", ".join(name for name in names if name not in {"id", "time_ns"})
        return db.execute(f"SELECT {of_the_trial} FROM trials ORDER BY study, number").fetchall()


def test_a_training_that_is_killed_ends_as_one_that_was_not(made, ibs, tmp_path):
    def words(models, jobs):
        more = ("--dataset", made / "d.parquet", "--models", models, "--quiet")
        return ("train", *more, *SMALL, "--trials", 4, "--trees", "20", "--jobs", jobs)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert ibs(*words(whole, 1)).code == 0
    code = "from ibs_core.cli.main import run; run()"
    command = [sys.executable, "-c", code, "model", *map(str, words(cut, 2))]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while len(recorded(cut)) < 3:
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended with {process.wait(timeout=0.01)} before it was killed")
        process.kill()  # its processes end with it, at once or a trial later
        process.wait()
        assert 3 <= len(recorded(cut)) < len(recorded(whole))
        assert not list(cut.glob("*/*/card.json"))
        assert ibs(*words(cut, 1)).code == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert recorded(cut) == recorded(whole)
    (one,), (other,) = (list(folder.glob("ES/*/card.json")) for folder in (whole, cut))
    assert (one.parent / "model.onnx").read_bytes() == (other.parent / "model.onnx").read_bytes()
    cards = [load_bundle(each.parent).card.model_dump() for each in (one, other)]
    for card in cards:  # what tells the time
        del card["created"], card["version"]
    assert cards[0] == cards[1]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--symbols", "NQ"), 2, "symbols of the dataset: ES"),
        (("--features", LEVEL), 2, "a price level"),
        (("--features", "bar_nothing"), 2, "bar_nothing"),
        (("--keep", "none"), 2, "--keep"),
        (("--trials", 0), 2, "--trials"),
        (("--groups", 2, "--test-groups", 2), 2, "groups"),
        (("--features", ","), 2, "option --features"),
        (("--holdout", 0.97), 1, "training rows"),
        (("--embargo", 1_000), 1, "left before the holdout"),
        (("--jobs", 0), 2, "option --jobs"),
    ],
)
def test_a_training_that_cannot_be_is_refused_in_one_line(made, ibs, tmp_path, words, code, told):
    base = ("train", "--dataset", made / "d.parquet", "--models", tmp_path / "models")
    result = ibs(*base, *SMALL, *words)
    assert (result.code, result.err.count("\n")) == (code, 1), result.err
    assert told in result.err
    assert not list((tmp_path / "models").glob("*/*/card.json"))


def test_a_file_that_is_no_dataset_is_refused(ibs, bars, tmp_path):
    result = ibs("train", "--dataset", bars / "ES.parquet", "--models", tmp_path)
    assert (result.code, "no dataset" in result.err) == (2, True)
    assert ibs("train", "--dataset", tmp_path / "none.parquet", "--models", tmp_path).code == 3


def test_verify_accepts_what_was_written_and_refuses_one_flipped_byte(ibs, models):
    folder = bundle_of(models)
    good = ibs("verify", folder)
    assert (good.code, "bit for bit" in good.out) == (0, True)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[100] ^= 1
    (folder / "model.onnx").write_bytes(content)
    bad = ibs("verify", folder)
    assert (bad.code, bad.err.count("\n")) == (1, 1)


def test_a_model_that_fails_a_condition_is_promoted_by_force_only(ibs, models):
    folder = bundle_of(models)
    before = (folder / "card.json").read_bytes()
    words = ("promote", "ES", folder.name, "--models", models, "--reason", "a try")
    refused = ibs(*words)
    assert refused.code == 1
    assert "not promoted" in refused.err
    assert "trades" in refused.err
    assert (folder / "card.json").read_bytes() == before
    assert promoted(models, "ES") is None
    forced = ibs(*words, "--force", "--json")
    assert forced.code == 0, forced.err
    assert json.loads(forced.out)["promoted"]
    card = load_bundle(folder).card
    assert card.promotion.forced
    assert card.promotion.reason == "a try"
    assert any(not each.passed for each in card.promotion.guardrails)
    assert promoted(models, "ES") == folder
    assert ibs("list", "--models", models).out.startswith("* ES")
    assert ibs("verify", folder).code == 0


@pytest.mark.parametrize("record", ["{", '{"symbol": "ES", "version": "gone"}'])
def test_promoting_again_repairs_the_record_of_what_trades(ibs, models, record):
    (models / "ES" / "promoted.json").write_text(record)
    assert ibs("list", "--models", models).code == 1
    words = ("promote", "ES", "newest", "--models", models, "--reason", "again", "--force")
    assert ibs(*words).code == 0
    assert ibs("list", "--models", models).out.startswith("* ES")


def test_promotion_wants_a_version_that_is_there_and_a_reason(ibs, models):
    words = ("promote", "ES", bundle_of(models).name, "--models", models)
    assert ibs(*words, "--reason", " ").code == 2
    assert ibs(*words).code == 2
    other = ibs("promote", "ES", "../ES", "--models", models, "--reason", "x")
    assert (other.code, "bears this version" in other.err) == (2, True)


def test_an_empty_folder_of_models_is_told_so(ibs, tmp_path):
    result = ibs("list", "--models", tmp_path)
    assert (result.code, "ibs model train" in result.out) == (0, True)
    assert json.loads(ibs("list", "--models", tmp_path, "--json").out) == []


def test_the_commands_of_the_page_run_one_after_the_other(made, ibs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "models", "models")
    shutil.copy(made / "d.parquet", "candidates.parquet")
    version = bundle_of(Path("models")).name
    page = Path(__file__).parents[1] / "docs" / "models.md"
    lines = re.findall(
        r"^ibs model (?!dataset|explain|veto-value)(.*)$", page.read_text("utf-8"), re.MULTILINE
    )
    assert [line.split()[0] for line in lines] == ["train", "list", "show", "verify", "promote"]
    for line in lines:
        words = shlex.split(line.replace("VERSION", version))
        if words[0] == "train":
            words += ["--symbols", "ES", *SMALL]
        if words[0] == "promote":
            words += ["--force"]
        result = ibs(*words)
        assert result.code == 0, (line, result.err)
        assert result.out
