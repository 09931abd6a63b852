"""Bundles of the reference system: what is read of them, and when a forest becomes a bundle of ours."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from adapters.onnx_scorer import OnnxScorer
from ibs_core.bundle import load_bundle, promoted
from ibs_core.catalogue import load_catalogue
from ibs_core.cli.main import run
from ibs_core.contracts import load_contract_map
from ibs_core.training.reference_names import MARKS, NAMES, feature_of_name, read_columns

ROOT = Path(__file__).parents[1]
# Two of the columns are one feature.
NAMES_OF_ES = (
    *("volz_pct", "volume_z_percentile", "ibsxvolz", "6a_hourly_return", "adx_value"),
    *("ma_spread_daily_ribbon_tightness", "donchian_proximity_to_nearest_band"),
)
FEATURES_OF_ES = (
    *("bar_vol_z_rank", "bar_ibs_x_vol_z", "x_6a_bar_ret", "bar_adx14"),
    *("day_ema_spread", "bar_donchian_prox"),
)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def ibs(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", "model", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def contracts():
    return load_contract_map()


def says(**changes):
    """The JSON of a bundle of the reference."""
    return {
        "Symbol": "ES",
        "Sharpe": 0.94,
        "Deflated_Sharpe": None,
        "Profit_Factor": 1.65,
        "Trades": 875,
        "Prod_Threshold": 0.55,
        "Guardrails": {"Trades": 500, "Era_Positive_Count": 4, "Era_Count": 5},
        "Params": {"n_estimators": 20, "max_depth": None, "random_state": 42, "n_jobs": -1},
        "Features": list(NAMES_OF_ES),
        "Score_Metric": "Sharpe",
    } | changes


def training_rows(n=800):
    """Rows of the reference: a rank twice, three numbers, two above 0."""
    rng = np.random.default_rng(5)
    rank, wide = rng.random(n), rng.normal(size=(n, 3)) * [1, 0.4, 1]
    rows = np.column_stack([rank, rank, wide, np.abs(rng.normal(size=(n, 2)))])
    rows[:, 4] = 50 + 10 * rows[:, 4]
    labels = rank + 0.3 * rows[:, 2] + 0.4 * rows[:, 5] + rng.normal(size=n) * 0.4 > 0.9
    return rows.astype(np.float32), labels.astype(int)


def forest_of(kind=RandomForestClassifier, *, rows=None, labels=None):
    first, second = training_rows()
    made = kind(20, min_samples_leaf=10, random_state=3, n_jobs=-1)
    return made.fit(first if rows is None else rows, second if labels is None else labels)


@pytest.fixture(scope="module")
def forest():
    return forest_of()


def write(folder, document=None, *, model=None, features=NAMES_OF_ES, name="ES"):
    """Write a bundle of the reference; without a model only its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_best.json").write_text(json.dumps(document or says()))
    if model is not None:
        path = folder / f"{name}_rf_model.pkl"
        joblib.dump({"model": model, "features": list(features)}, path)
    return folder


@pytest.fixture
def old(tmp_path, forest):
    return write(tmp_path / "old", model=forest)


def imported(models, symbol="ES"):
    (card,) = models.glob(f"{symbol}/imported-*/card.json")
    return load_bundle(card.parent)


# The table of names.


def test_every_name_of_the_table_is_a_feature_here_but_the_one_left_out(contracts):
    assert NAMES.keys() - load_catalogue(contracts).keys() == {"bar_zone_atr"}


def test_no_name_means_two_features():
    for feature, names in NAMES.items():
        for name in names:
            assert feature_of_name(name) == feature, name
            snake = re.sub(r"[^0-9a-z]", "_", name.lower())
            assert feature_of_name(snake) == feature, snake
            assert feature_of_name(f"{snake}__1") == feature


def test_a_gate_of_the_filters_page_is_the_same_feature_as_a_column():
    page = (ROOT / "docs" / "filters.md").read_text("utf-8")
    rows = re.findall(r"^\| \d+ [†‡]? ?\| `(\w+)` \| `((?:bar|day|cal)_\w+):", page, re.MULTILINE)
    rows = [each for each in rows if each[0] != "use_supply_zone"]  # its column is not its gate
    assert len(rows) > 60
    assert [(flag, feature_of_name(flag)) for flag, _ in rows] == rows


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("es_hourly_z_score", "x_es_bar_z"),
        ("ES Hourly Z Score", "x_es_bar_z"),
        ("enableESZScoreDay", "x_es_day_z"),
        ("6a_daily_return_pipeline", "x_6a_day_ret"),
        ("enable6AReturnHour", "x_6a_bar_ret"),
        ("si_daily_z_pipeline", "x_si_day_sd"),
        ("tlt_daily_return", "x_tlt_day_ret"),
        ("zc_daily_return", None),
        ("rsi_2", None),
        ("ibs_exit", None),
        ("", None),
    ],
)
def test_other_instruments_follow_a_rule_and_what_is_unknown_stays_so(name, feature, contracts):
    assert feature_of_name(name) == feature
    assert feature is None or feature in load_catalogue(contracts)


# The marks that the catalogue of the reference gives some of its bundles, as far as a name tells them.
@pytest.mark.parametrize(
    ("names", "marks"),
    [
        # HG asks for RSI(5) and the volume z elsewhere, never for the ATR z.
        (("rsixvolz", "rsixatrz", "rsi_pct", "volz_pct"), ("‡", "‡∅", "", "")),
        # 6E asks for the ATR z through a product.
        (("ibsxatrz", "rsixatrz", "rsi_pct"), ("‡", "‡", "")),
        # ES asks for another RSI only.
        (("volz_pct", "volume_z_percentile", "rsixvolz", "rsi_len14"), ("", "=", "‡∅", "")),
        # RTY.
        (
            ("mom3_z_pct", "momentum_z_entry_daily", "momentum_z_percentile"),
            ("∅", "†∅", "∅="),
        ),
        # YM, SI, 6A.
        (("secondary_rsi_entry_daily", "daily_rsi"), ("§", "=")),
        (("value_pct", "vix_daily_return", "prev_day_pctxvalue"), ("∅", "∅", "‡")),
        # 6B and NG.
        (("pair_ibs_daily", "bollinger_bandwidth_daily", "daily_ibs"), ("†", "†", "")),
        # The later generation.
        (("N7 Bar", "enablePrevIBS", "prev_ibs", "6A Hourly Return"), ("¶", "¶", "=", "¶")),
    ],
)
def test_marks_are_those_of_the_catalogue(names, marks, contracts):
    found = [each.marks for each in read_columns(names, contracts)]
    assert tuple(found) == marks
    assert set("".join(found)) <= MARKS.keys()


def test_the_page_gives_every_mark_its_meaning():
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert [mark for mark, meaning in MARKS.items() if f"| {mark} | {meaning} |" not in page] == []


def test_what_is_computed_otherwise_is_told(contracts):
    names = ("ibs", "ibs_pct", "parabolic_sar_distance", "tlt_daily_z_score", "fractalPivot")
    told = [each.differs for each in read_columns(names, contracts)]
    assert told[0] == ""
    for part, text in zip(("since the start", "in ATR", "ZB", "coded"), told[1:], strict=True):
        assert part in text


# What is read without the pickle.


def test_without_the_flag_everything_is_told_and_nothing_is_written(ibs, old, tmp_path):
    result = ibs("import", old, "--models", tmp_path / "models", "--json")
    assert result.code == 0, result.err
    (read,) = json.loads(result.out)["read"]
    assert (read["symbol"], read["threshold"]) == ("ES", 0.55)
    assert read["claimed"]["Sharpe"] == 0.94
    assert read["parameters"]["random_state"] == 42
    assert [each["name"] for each in read["columns"]] == list(NAMES_OF_ES)
    assert list(dict.fromkeys(each["feature"] for each in read["columns"])) == list(FEATURES_OF_ES)
    assert read["forest"]["state"] == "not opened"
    assert "--unpickle-trusted" in read["forest"]["why"]
    assert any("0.5" in note and "refused" in note for note in read["notes"])
    assert any(note.startswith("5 of 7 columns have other values") for note in read["notes"])
    assert not (tmp_path / "models").exists()
    page = ibs("import", old / "ES_best.json", "--models", tmp_path / "models").out
    for part in ("volume_z_percentile", "bar_vol_z_rank", "† called daily", "judged on the data"):
        assert part in page
    assert ibs("import", old, "--quiet").out == ""


def test_a_pickle_runs_nothing_without_the_flag(ibs, old, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    (old / "ES_rf_model.pkl").write_bytes(pickle.dumps(Harmful()))
    words = ("import", old, "--models", tmp_path / "models")
    assert ibs(*words).code == 0
    assert not (tmp_path / "harm").exists()
    assert ibs(*words, "--unpickle-trusted").code == 1
    assert (tmp_path / "harm").exists()  # so the file was one that runs


def test_nothing_else_of_the_project_unpickles():
    readers = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "skops"}
    ours = "ibs_core.training.reference_forest"
    users, importers = [], []
    for path in (*ROOT.glob("ibs_core/**/*.py"), *ROOT.glob("adapters/**/*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{each.name}" for each in node.names]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            if any(
                name.split(".")[0] in readers
                or name == "joblib.load"
                or name.startswith("joblib.numpy_pickle")
                or name.endswith("allow_pickle")
                for name in names
            ):
                users.append(module)
            if any(name.startswith(ours) for name in names):
                importers.append(module)
    # What this machine compiled, from a folder that only its user, or root, can have made.
    assert set(users) == {ours, "ibs_core.kernels._store"}
    assert set(importers) == {"ibs_core.cli.model_import"}


def test_a_json_alone_is_read_and_lower_case_keys_too(ibs, tmp_path):
    document = {"symbol": "NQ", "threshold": 0.5, "params": {}, "features": ["ibs"], "test": {}}
    write(tmp_path / "old", document, name="NQ")
    result = ibs("import", tmp_path / "old", "--unpickle-trusted", "--json")
    assert result.code == 0, result.err
    (read,) = json.loads(result.out)["read"]
    assert (read["symbol"], read["threshold"]) == ("NQ", 0.5)
    assert read["claimed"] == {"test": {}}
    assert read["forest"]["state"] == "absent"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        (json.dumps(says(Sharpe=float("nan"))), "NaN"),
        (json.dumps(says()).replace("0.94", "1e999"), "1e999"),
        (json.dumps(says(Prod_Threshold=1.0)), "Prod_Threshold"),
        (json.dumps(says(Prod_Threshold=True)), "Prod_Threshold"),
        (json.dumps(says(Features=[])), "Features"),
        (json.dumps(says(Features=["ibs", "ibs"])), "each once"),
        (json.dumps(says(Params=None)), "Params"),
        (json.dumps(says(Symbol="../ES")), "Symbol"),
        (json.dumps({"Symbol": "ES"}), "Prod_Threshold, Params, Features"),
        ("\xff", "not JSON"),
    ],
)
def test_a_json_that_is_none_is_refused_in_one_line(ibs, tmp_path, text, part):
    (tmp_path / "ES_best.json").write_bytes(text.encode("latin-1"))
    result = ibs("import", tmp_path)
    assert (result.code, result.err.count("\n")) == (1, 1), result.err
    assert part in result.err
    assert "ES_best.json" in result.err


def test_one_bundle_that_is_broken_does_not_hide_the_others(ibs, old):
    (old / "CL_best.json").write_text("{")
    result = ibs("import", old, "--json")
    assert result.code == 1
    told = json.loads(result.out)
    assert [each["symbol"] for each in told["read"]] == ["ES"]
    assert len(told["faults"]) == 1


def test_a_git_lfs_pointer_is_named_as_such(ibs, old, tmp_path):
    (old / "ES_rf_model.pkl").write_text(POINTER)
    told = ibs("import", old)
    assert (told.code, "git lfs pull" in told.out) == (0, True)
    opened = ibs("import", old, "--unpickle-trusted", "--models", tmp_path / "models")
    assert (opened.code, "git lfs pull" in opened.err) == (3, True)
    (old / "ES_best.json").write_text(POINTER)
    alone = ibs("import", old)
    assert (alone.code, "git-lfs pointer" in alone.err) == (3, True)


def test_a_place_without_bundles_is_told_so(ibs, tmp_path):
    assert ibs("import", tmp_path).code == 2
    assert ibs("import", tmp_path / "none.json").code == 3


# The forest.


def test_a_forest_becomes_a_bundle_that_scores_as_it_did(ibs, old, forest, tmp_path):
    models = tmp_path / "models"
    words = ("import", old, "--models", models, "--unpickle-trusted")
    result = ibs(*words)
    assert result.code == 0, result.err
    bundle = imported(models)
    assert str(bundle.folder) in result.out.replace("\n", "")
    card = bundle.card
    assert card.features == FEATURES_OF_ES
    rows, _ = training_rows()
    scores = OnnxScorer(bundle.model).score(np.ascontiguousarray(np.delete(rows, 1, axis=1)))
    assert np.abs(scores - forest.predict_proba(rows)[:, 1]).max() < 1e-6
    assert ibs("verify", bundle.folder).code == 0
    again = ibs(*words)
    assert again.code == 0, again.err
    assert imported(models).card == card


def test_the_card_says_that_it_was_imported_and_what_is_not_known(ibs, old, tmp_path):
    models = tmp_path / "models"
    words = ("import", old, "--models", models, "--unpickle-trusted", "--signal-bar", "15m")
    assert ibs(*words).code == 0
    card = imported(models).card
    facts = card.model_dump(mode="json")
    assert facts["window"]["first_decision"] == "2010-01-01T00:00:00.000000000Z"
    assert facts["window"]["last_label_end"] == "2025-01-01T00:00:00.000000000Z"
    digest = hashlib.sha256((old / "ES_best.json").read_bytes()).hexdigest()
    assert (card.data_digest, card.generated, card.trials, card.seed) == (digest, False, 0, 42)
    assert (card.threshold, card.strategy) == (0.55, {"signal_bar": "15m"})
    says_imported = card.metrics["imported"]
    assert says_imported["claimed"]["Sharpe"] == 0.94
    assert "tuned on" in says_imported["judged"]
    assert says_imported["columns"][1]["marks"] == "="
    assert card.metrics["export_max_difference"] < 1e-6
    shown = ibs("show", imported(models).folder)
    assert "not known" in shown.out


def test_dates_that_are_told_bound_what_the_forest_may_have_seen(ibs, old, tmp_path):
    words = ("import", old, "--models", tmp_path, "--unpickle-trusted")
    assert ibs(*words, "--start", "2012-01-02", "--end", "2012-01-02").code == 0
    window = imported(tmp_path).card.window
    assert window.last_label_end - window.first_decision == 86_400 * 10**9
    assert ibs(*words, "--start", "2013-01-01", "--end", "2012-01-01").code == 2


def test_an_imported_model_trades_by_force_only(ibs, old, tmp_path):
    models = tmp_path / "models"
    ibs("import", old, "--models", models, "--unpickle-trusted")
    words = ("promote", "ES", imported(models).card.version, "--models", models, "--reason", "try")
    assert ibs(*words).code == 1
    assert promoted(models, "ES") is None
    assert ibs(*words, "--force").code == 0
    assert promoted(models, "ES") is not None
    assert not any(each.passed for each in imported(models).card.promotion.guardrails)


def test_a_json_edited_after_the_fit_is_told_and_the_pickle_counts(ibs, tmp_path, forest):
    old = write(tmp_path / "old", says(Features=list(NAMES_OF_ES[:-1])), model=forest)
    models = tmp_path / "models"
    result = ibs("import", old, "--models", models, "--unpickle-trusted")
    assert result.code == 0, result.err
    assert imported(models).card.features == FEATURES_OF_ES
    assert f"leaves out {NAMES_OF_ES[-1]}" in result.out


@pytest.mark.parametrize("name", ["my_own_feature", "useSupplyZone"])
def test_a_column_without_a_feature_refuses_the_forest_by_name(ibs, tmp_path, forest, name):
    names = (*NAMES_OF_ES[:-1], name.lower())
    old = write(tmp_path / "old", says(Features=list(names)), model=forest, features=names)
    models = tmp_path / "models"
    told = ibs("import", old, "--json")
    assert told.code == 0
    assert name.lower() in json.loads(told.out)["read"][0]["forest"]["why"]
    result = ibs("import", old, "--models", models, "--unpickle-trusted")
    assert (result.code, name.lower() in result.err) == (1, True)
    assert "adx_value" in result.out  # the rest is shown all the same
    assert not list(models.glob("*/*"))


def test_a_forest_of_standardised_inputs_is_refused(ibs, tmp_path):
    rows, _ = training_rows()
    scaled = (rows - rows.mean(0)) / rows.std(0)
    old = write(tmp_path / "old", model=forest_of(rows=scaled))
    words = ("--models", tmp_path / "models", "--unpickle-trusted")
    result = ibs("import", old, *words)
    assert result.code == 1
    assert "bar_vol_z_rank" in result.err
    assert "standardised" in result.err
    names = ("6A Hourly Return", *NAMES_OF_ES[1:])
    document = says(Features=list(names))
    later = write(tmp_path / "later", document, model=forest_of(), features=names)
    result = ibs("import", later, *words)
    assert (result.code, "later generation" in result.err) == (1, True)


def with_counts():
    """A forest with leaves as scikit-learn wrote them before 1.3."""
    made = forest_of()
    made.estimators_[0].tree_.value[:] *= 3
    return made


@pytest.mark.parametrize(
    ("held", "part"),
    [
        (lambda _: {"model": with_counts(), "features": NAMES_OF_ES}, "leaves of counts"),
        (lambda f: f, "RandomForestClassifier"),
        (lambda f: {"model": f}, "keys ['model']"),
        (lambda f: {"model": [f], "features": []}, "found list"),
        (lambda f: {"model": f, "features": NAMES_OF_ES[1:]}, "7 names"),
        (lambda _: {"model": RandomForestClassifier(), "features": NAMES_OF_ES}, "a fitted forest"),
        (
            lambda _: {"model": forest_of(ExtraTreesClassifier), "features": NAMES_OF_ES},
            "found ExtraTreesClassifier",
        ),
        (
            lambda _: {"model": forest_of(labels=training_rows()[1] + 1), "features": NAMES_OF_ES},
            "classes [1, 2]",
        ),
        (
            lambda _: {
                "model": forest_of(labels=np.ones(800, int)),
                "features": NAMES_OF_ES,
            },
            "classes [1]",
        ),
    ],
)
def test_what_is_no_forest_of_the_reference_is_refused_in_one_line(
    ibs, tmp_path, forest, held, part
):
    old = write(tmp_path / "old")
    joblib.dump(held(forest), old / "ES_rf_model.pkl")
    result = ibs("import", old, "--models", tmp_path / "models", "--unpickle-trusted")
    assert (result.code, result.err.count("\n")) == (1, 1), result.err
    assert part in result.err
    assert not list((tmp_path / "models").glob("*/*"))


def test_a_damaged_pickle_is_refused_in_one_line(ibs, old, tmp_path):
    path = old / "ES_rf_model.pkl"
    for content in (path.read_bytes()[:2000], b"", b"no pickle"):
        path.write_bytes(content)
        result = ibs("import", old, "--models", tmp_path / "models", "--unpickle-trusted")
        assert (result.code, result.err.count("\n")) == (1, 1), result.err
        assert "cannot be unpickled" in result.err


def test_another_scikit_learn_is_told(ibs, old, tmp_path, monkeypatch, forest):
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "1.3.0")
        content = pickle.dumps({"model": forest, "features": list(NAMES_OF_ES)})  # a plain one
    (old / "ES_rf_model.pkl").write_bytes(content)
    result = ibs("import", old, "--models", tmp_path / "models", "--unpickle-trusted")
    assert result.code == 0, result.err
    assert "pickled by scikit-learn 1.3.0" in result.out
    assert result.err == ""


def test_a_symbol_without_a_contract_has_no_bundle(ibs, tmp_path, forest):
    old = write(tmp_path / "old", says(Symbol="XX"), model=forest, name="XX")
    assert ibs("import", old).code == 0
    result = ibs("import", old, "--models", tmp_path / "models", "--unpickle-trusted")
    assert (result.code, "XX" in result.err) == (1, True)
