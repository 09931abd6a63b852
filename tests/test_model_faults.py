"""One test for each fault that a served model of the replaced system had: these have none of them.

The names F17, F22, … number the faults as in `test_reference_faults`, which shows those of a back-test without a
model; each test says what went wrong and shows that it cannot here.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from hashlib import sha256

import numpy as np
import polars as pl
import pytest

pytest.importorskip("sklearn")

from sample_bundle import sample_card
from sklearn.ensemble import RandomForestClassifier

from adapters.onnx_scorer import OnnxScorer
from ibs_core.backtest import trade
from ibs_core.bundle import feature_set_digest, write_bundle
from ibs_core.candidate_table import candidates
from ibs_core.catalogue import resolve
from ibs_core.cli.main import run
from ibs_core.cli.veto_models import models_for
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.feature_table import tabulate
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.research.export import export_forest, golden_rows, library_versions
from ibs_core.research.sample_data import write_sample

CONTRACTS = load_contract_map()
FEATURES = ("bar_rsi5", "bar_ret1_pct", "bar_ibs_prev", "day_ibs")
ENTRY = {"windows": [], "ibs": [0.0, 0.5], "pivots": "none"}
THRESHOLD = 0.5
VOLUME = "bar_vol_z"


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES"], start=date(2023, 1, 3), end=date(2023, 3, 17), seed=9)
    return out / "ES.parquet"


def settings_of(folder=None, mode="off", entry=ENTRY):
    model = {"mode": mode} | ({"bundle": str(folder)} if folder else {})
    return load_settings(overrides={"strategy": {"entry": entry}, "model": model})


def bundle_of(folder, rows, labels, features=FEATURES):
    """Grow a small forest on rows, and write it as a bundle of ES."""
    forest = RandomForestClassifier(20, max_depth=4, min_samples_leaf=10, random_state=1)
    model = export_forest(forest.fit(rows, labels), len(features))
    scorer = OnnxScorer(model)
    digest = feature_set_digest([resolve(name, CONTRACTS, where="test") for name in features])
    card = sample_card(
        symbol="ES",
        features=features,
        threshold=THRESHOLD,
        feature_digest=digest,
        contract_map_digest=CONTRACTS.digest,
        golden=golden_rows(scorer, rows, threshold=THRESHOLD, seed=1),
        model_sha256=sha256(model).hexdigest(),
        libraries=library_versions(),
        strategy=settings_of().strategy_of("ES").model_dump(mode="json", by_alias=True),
    )
    return write_bundle(folder, card, model)


@pytest.fixture(scope="module")
def table(bars):
    source = open_bars([bars], CONTRACTS)
    (found,) = candidates(source, settings_of(), CONTRACTS, names=FEATURES)
    return found


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    """A bundle grown on the candidates of the bars."""
    whole = table.drop_nulls(FEATURES)
    rows = whole.select(FEATURES).to_numpy().astype(np.float32)
    return bundle_of(tmp_path_factory.mktemp("models"), rows, whole["label"].to_numpy())


@pytest.fixture
def ibs(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def entries_of(bars, settings):
    source = open_bars([bars], CONTRACTS)
    outcome = run_backtest(source, settings, CONTRACTS, models=models_for(settings, CONTRACTS))
    return outcome, outcome.decisions.filter(action="entry").sort("time")


def test_f17_what_is_missing_is_null_in_training_and_a_named_veto_in_serving(bars, tmp_path):
    """It became 0 in serving, and 0.5 for ranks in training."""
    silent = tmp_path / "ES.parquet"
    frame = pl.read_parquet(bars)
    half = frame["ts_event"][len(frame) // 2]
    unheard = pl.when(pl.col("ts_event") >= half).then(None).otherwise("volume")
    frame.with_columns(volume=unheard.cast(pl.Int64)).write_parquet(silent)
    features = ("bar_rsi5", VOLUME)
    source = open_bars([silent], CONTRACTS)
    (table,) = candidates(source, settings_of(), CONTRACTS, names=features)
    missing = table[VOLUME].is_null()
    assert 50 < missing.sum() < len(table) - 50
    whole = table.filter(~missing)
    rows = whole.select(features).to_numpy().astype(np.float32)
    folder = bundle_of(tmp_path / "models", rows, whole["label"].to_numpy(), features)
    outcome, made = entries_of(silent, settings_of(folder, "veto"))
    told = made.join(table.filter(missing).select("time"), on="time")
    assert len(told) > 50
    assert set(told["reason"]) == {f"vetoed:missing {VOLUME}"}
    assert told["score"].null_count() == len(told)
    assert outcome.trades.join(told, left_on="entry_time", right_on="time").is_empty()


def test_f22_the_engine_scores_the_values_of_the_feature_table_as_they_are(bars, folder):
    """Training standardised them with a scaler that was not kept; serving gave raw values."""
    settings = settings_of(folder, "shadow")
    model = models_for(settings, CONTRACTS)("ES")
    _, made = entries_of(bars, settings)
    (found,) = tabulate(open_bars([bars], CONTRACTS), settings, CONTRACTS, names=FEATURES)
    known = found.frame().select(pl.col("known_at").alias("time"), *FEATURES)
    scored = made.drop_nulls("score").join(known, on="time", maintain_order="left")
    raw = scored.select(FEATURES).to_numpy().astype(np.float32)
    assert len(scored) > 100
    assert (
        scored["score"].to_numpy().astype(np.float32).tobytes() == model.scorer.score(raw).tobytes()
    )
    assert len(np.unique(scored["score"])) > 50
    shipped = {path.name for path in folder.iterdir()}
    assert shipped == {"model.onnx", "card.json"}  # nothing else takes part


def spelt(card, **changes):
    """Write a card's JSON with other values, as a hand would."""
    return json.dumps(json.loads(card) | changes, indent=1)


def refused(ibs, bars, folder):
    """Tell how a back-test that the bundle should veto ends."""
    rule = folder.parent / "rule.yml"
    rule.write_text(f"model: {{mode: veto, bundle: {folder.as_posix()}}}\n")
    out = folder.parent / "run"
    code, _, err = ibs("backtest", "--parquet", bars, "--config", rule, "--out", out, "--quiet")
    assert not out.exists()
    return code, err


def test_f23_a_model_whose_features_were_edited_is_an_error_and_no_lasting_veto(
    ibs, bars, table, tmp_path
):
    """Names were deleted from the metadata of four models; every score failed, every entry was vetoed."""
    whole = table.drop_nulls(FEATURES)
    rows = whole.select(FEATURES).to_numpy().astype(np.float32)
    folder = bundle_of(tmp_path / "models", rows, whole["label"].to_numpy())
    honest = (folder / "card.json").read_text()
    assert json.loads(honest)["features"] == list(FEATURES)
    for features in (FEATURES[:-1], FEATURES[::-1]):
        (folder / "card.json").write_text(spelt(honest, features=features))
        code, err = refused(ibs, bars, folder)
        assert (code, err.count("\n")) == (1, 1)
        assert "card" in err


def test_f24_a_card_of_other_keys_is_an_error_and_no_missing_threshold(ibs, bars, table, tmp_path):
    """One trainer spelt its keys otherwise, so the threshold was none and nothing was ever traded."""
    whole = table.drop_nulls(FEATURES)
    rows = whole.select(FEATURES).to_numpy().astype(np.float32)
    folder = bundle_of(tmp_path / "models", rows, whole["label"].to_numpy())
    honest = json.loads((folder / "card.json").read_text())
    lacking = {key: value for key, value in honest.items() if key != "threshold"}
    for card in (lacking, lacking | {"Prod_Threshold": 0.55}, honest | {"threshold": None}):
        (folder / "card.json").write_text(json.dumps(card, indent=1))
        code, err = refused(ibs, bars, folder)
        assert (code, err.count("\n")) == (1, 1)
        assert "threshold" in err


def test_f25_a_model_is_trained_on_what_it_will_be_asked_of(bars, folder):
    """Training took every low close; live, a filter on pivots came before the model."""
    inside = {"windows": [], "ibs": [0.0, 0.5], "pivots": "higher_high"}
    source = open_bars([bars], CONTRACTS)
    (rows,) = candidates(source, settings_of(entry=inside), CONTRACTS, names=FEATURES)
    (all_rows,) = candidates(source, settings_of(), CONTRACTS, names=FEATURES)
    assert 20 < len(rows) < len(all_rows)
    settings = settings_of(folder, "shadow", inside)
    outcome, made = entries_of(bars, settings)
    asked = made.drop_nulls("score").select("time")
    known = rows.drop_nulls(FEATURES).select("time")
    assert asked.join(known, on="time", how="anti").height <= 2  # the data do not end these
    assert len(asked) > 10
    traded = trade(source, settings, CONTRACTS, models=models_for(settings, CONTRACTS))
    seen = traded.signals[0]["score"]
    assert np.isfinite(seen).sum() >= len(known)
    told = [line for line in outcome.warnings if "candidates of another rule" in line]
    assert len(told) == 1
    assert "entry.pivots" in told[0]
