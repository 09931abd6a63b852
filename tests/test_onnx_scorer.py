"""The exported model is the forest, and scores the same bits in any company."""

import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

from sample_bundle import NAMES, exported, fitted, sample_card, training_rows

from adapters.onnx_scorer import OnnxScorer, open_scorer, verify
from ibs_core.bundle import feature_set_digest, load_bundle, write_bundle
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, DataError
from ibs_core.research.export import (
    MAX_DIFFERENCE,
    export_forest,
    golden_rows,
    library_versions,
    max_difference,
)
from ibs_core.veto import FAULT, judge

N = 10_000
FORESTS = {
    "300 of depth 3": ((300, 3), {}),
    "900 of depth 5, 29 features, weighted": (
        (900, 5),
        {"class_weight": "balanced_subsample", "n_features": 29},
    ),
    "600 of depth 7, no bootstrap": ((600, 7), {"bootstrap": False}),
    "1,200 without limit": ((1200, None), {}),
}


@pytest.fixture(scope="module", params=FORESTS)
def forest(request):
    args, kwargs = FORESTS[request.param]
    forest = fitted(*args, **kwargs)
    rows = np.random.default_rng(5).normal(size=(N, forest.n_features_in_)).astype(np.float32)
    return forest, OnnxScorer(exported(*args, **kwargs)), rows


def test_one_row_and_any_batch_have_the_same_bits(forest):
    _, scorer, rows = forest
    expected = scorer.score(rows).tobytes()
    for size in (1, 7, 1_000):
        found = [scorer.score(rows[i : i + size]) for i in range(0, N, size)]
        assert np.concatenate(found).tobytes() == expected, size
    turned = scorer.score(np.ascontiguousarray(rows[::-1]))[::-1]
    assert turned.tobytes() == expected


def test_the_veto_judges_one_row_and_a_batch_alike(forest):
    _, scorer, rows = forest
    wide = rows[:2_000].astype(np.float64)
    names = [f"f{i}" for i in range(rows.shape[1])]
    together = judge(scorer, wide, names=names, threshold=0.5)
    alone = [judge(scorer, row[None], names=names, threshold=0.5) for row in wide]
    assert np.concatenate([each.scores for each in alone]).tobytes() == together.scores.tobytes()
    assert np.concatenate([each.codes for each in alone]).tobytes() == together.codes.tobytes()


def test_the_model_scores_as_the_forest_on_all_training_rows(forest):
    trained, scorer, _ = forest
    rows, _ = training_rows(1_500, trained.n_features_in_)
    assert max_difference(trained, scorer, rows) <= MAX_DIFFERENCE


def test_rows_exactly_at_a_threshold_go_the_same_way(forest):
    # A row that goes the wrong way in one tree differs by a leaf / n_trees, far above the limit.
    trained, scorer, rows = forest
    rng = np.random.default_rng(6)
    at = rows[:3_000].copy()
    for row, i in zip(at, rng.integers(0, len(trained.estimators_), len(at)), strict=True):
        tree = trained.estimators_[i].tree_
        for node in np.flatnonzero(tree.feature >= 0)[:6]:
            near = np.float32(tree.threshold[node])
            choices = (near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9)))
            row[tree.feature[node]] = choices[rng.integers(0, 3)]
    assert max_difference(trained, scorer, at) <= MAX_DIFFERENCE


def test_more_threads_would_not_have_the_same_bits():
    # Why the session has one. If this fails, onnxruntime has changed: read its TreeEnsemble again.
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    model = exported(900, 5, class_weight="balanced_subsample", n_features=29)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(5).normal(size=(200, 29)).astype(np.float32)
    batch = session.run(["probabilities"], {"features": rows})[0]
    alone = [session.run(["probabilities"], {"features": row[None]})[0] for row in rows]
    assert np.concatenate(alone).tobytes() != batch.tobytes()


@pytest.mark.parametrize("args", [(300, 3), (900, 5)])
def test_the_classifier_of_skl2onnx_scores_the_same_bits(args):
    # Why the export may write the trees as a regressor.
    from skl2onnx import to_onnx

    trained = fitted(*args)
    plain = to_onnx(trained, np.zeros((1, 6), np.float32), options={"zipmap": False})
    classifier, ours = OnnxScorer(plain.SerializeToString()), OnnxScorer(exported(*args))
    rows = np.random.default_rng(5).normal(size=(N, 6)).astype(np.float32)
    assert classifier.score(rows).tobytes() == ours.score(rows).tobytes()
    alone = [(classifier.score(row[None]), ours.score(row[None])) for row in rows[:200]]
    assert all(one.tobytes() == other.tobytes() for one, other in alone)


def test_a_threshold_that_float32_would_round_up_is_rounded_down():
    from sklearn.ensemble import RandomForestClassifier

    # Between two neighbouring float32 the midpoint is no float32; rounding to even may go up.
    low = np.float32(1) + np.arange(8, dtype=np.float32) * np.float32(2**-23)
    rows = low[:, None].repeat(6, axis=0)
    labels = (np.arange(len(rows)) // 6) % 2
    trained = RandomForestClassifier(25, random_state=0).fit(rows, labels)
    scorer = OnnxScorer(export_forest(trained, 1))
    assert max_difference(trained, scorer, low[:, None]) <= MAX_DIFFERENCE


def test_the_same_forest_has_the_same_bytes_in_any_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from hashlib import sha256\n"
        "from sample_bundle import exported\n"
        "print(sha256(exported(40, 4)).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[1])},
        ).stdout.split()[-1]
    ]
    assert found == [sha256(exported(40, 4)).hexdigest()]


def test_a_forest_of_leaves_only_is_exported():
    trained = fitted(30, 3, leaf=1_500, bootstrap=False)
    rows, labels = training_rows(1_500, 6)
    scorer = OnnxScorer(export_forest(trained, 6))
    assert scorer.score(rows[:5]).tolist() == pytest.approx([labels.mean()] * 5, abs=3e-6)


def test_a_sum_that_rounds_to_above_1_is_1():
    from sklearn.ensemble import RandomForestClassifier

    rows = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    trained = RandomForestClassifier(800, random_state=0).fit(rows, (rows[:, 0] > 0) * 1)
    scorer = OnnxScorer(export_forest(trained, 1))
    far = np.float32([[-9.0], [9.0]])
    assert np.add.accumulate(np.full(800, np.float32(1 / 800)))[-1] > 1
    scores = scorer.score(far)
    assert scores.tolist() == pytest.approx([0.0, 1.0], abs=2e-5)
    assert scores.max() <= 1
    assert [scorer.score(row[None])[0] for row in far] == scores.tolist()


def test_a_forest_of_other_classes_or_features_is_refused():
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = training_rows(1_500, 6)
    for wrong in (labels * 2, labels + (rows[:, 3] > 1), np.zeros_like(labels)):
        trained = RandomForestClassifier(3, max_depth=2, random_state=0).fit(rows, wrong)
        with pytest.raises(ConfigError, match="forest cannot be exported"):
            export_forest(trained, 6)
    with pytest.raises(ConfigError, match=r"expected classes \[0, 1\], 7 features"):
        export_forest(fitted(300, 3), 7)


def test_a_model_that_scores_otherwise_than_the_forest_is_refused():
    rows, _ = training_rows(1_500, 6)
    other = OnnxScorer(exported(40, 4))
    with pytest.raises(DataError, match=r"scores otherwise.*at most 3e-06.*training row \d"):
        max_difference(fitted(300, 3), other, rows)


def test_golden_rows_hold_the_extremes_and_the_nearest_to_the_threshold():
    scorer = OnnxScorer(exported(300, 3))
    rows, _ = training_rows(1_500, 6)
    golden = golden_rows(scorer, rows, threshold=0.55, seed=1)
    scores = scorer.score(rows)
    assert 12 <= len(golden.rows) <= 24
    assert {scores.min(), scores.max()} <= set(golden.scores)
    assert rows[np.abs(scores - np.float32(0.55)).argmin()].tolist() in map(list, golden.rows)
    assert scorer.score(golden.arrays()[0]).tobytes() == golden.arrays()[1].tobytes()
    assert golden == golden_rows(scorer, rows, threshold=0.55, seed=1)
    assert golden != golden_rows(scorer, rows, threshold=0.55, seed=2)
    assert len(golden_rows(scorer, rows[:2], threshold=0.5, seed=1).rows) <= 2


def test_versions_of_what_exports_are_known():
    assert {"python", "scikit-learn", "skl2onnx", "onnxruntime"} <= set(library_versions())


@pytest.mark.parametrize("damage", [b"", b"not a model", "truncated"])
def test_what_is_no_model_is_refused(damage):
    model = exported(40, 4)
    with pytest.raises(DataError, match="model cannot be loaded"):
        OnnxScorer(model[:-100] if damage == "truncated" else damage)


def test_a_model_that_maps_classes_to_probabilities_is_refused():
    from skl2onnx import to_onnx

    trained = fitted(40, 4)
    model = to_onnx(trained, np.zeros((1, 6), np.float32)).SerializeToString()
    with pytest.raises(DataError, match="model has other inputs and outputs"):
        OnnxScorer(model)


@pytest.fixture(scope="module")
def contracts():
    return load_contract_map()


@pytest.fixture
def bundle(tmp_path, contracts):
    model = exported(40, 4)
    rows, _ = training_rows(1_500, 6)
    catalogue = load_catalogue(contracts)
    card = sample_card(
        golden=golden_rows(OnnxScorer(model), rows, threshold=0.55, seed=1),
        model_sha256=sha256(model).hexdigest(),
        feature_digest=feature_set_digest([catalogue[name] for name in NAMES]),
        libraries=library_versions(),
    )
    return load_bundle(write_bundle(tmp_path, card, model))


def changed(bundle, **fields):
    return replace(bundle, card=bundle.card.model_copy(update=fields))


def test_a_bundle_as_it_was_exported_is_verified(bundle, contracts):
    assert verify(bundle, contracts) == []


def test_a_golden_score_that_differs_in_its_last_bit_is_found(bundle, contracts):
    golden = bundle.card.golden
    last = float(np.nextafter(np.float32(golden.scores[3]), np.float32(1)))
    scores = (*golden.scores[:3], last, *golden.scores[4:])
    damaged = changed(bundle, golden=golden.model_copy(update={"scores": scores}))
    found = [str(each) for each in verify(damaged, contracts)]
    assert len(found) == 2
    assert "golden row 3 scores otherwise in a batch" in found[0]
    assert "golden row 3 scores otherwise alone" in found[1]


def test_features_of_other_formulas_are_found(bundle, contracts):
    (found,) = verify(changed(bundle, feature_digest="0" * 64), contracts)
    assert "other formulas" in str(found)


def test_features_that_the_catalogue_lacks_are_found(bundle, contracts):
    names = ("bar_ibs", "bar_gone", *NAMES[2:])
    (found,) = verify(changed(bundle, features=names), contracts)
    assert "features that the catalogue lacks: found bar_gone" in str(found)


def test_a_model_of_other_features_than_its_card_names_is_refused(bundle, contracts):
    fewer = changed(bundle, features=NAMES[:5])
    with pytest.raises(DataError, match="takes other features than its card names"):
        open_scorer(fewer)
    assert any("other features" in str(each) for each in verify(fewer, contracts))


def test_a_model_that_cannot_be_loaded_is_a_finding(bundle, contracts):
    (found,) = verify(replace(bundle, model=b"nothing"), contracts)
    assert "model cannot be loaded" in str(found)


def test_rows_of_another_width_are_a_scorer_error_and_no_score(bundle):
    scorer = open_scorer(bundle)
    found = judge(scorer, np.zeros((2, 5)), names=NAMES[:5], threshold=0.5)
    assert found.codes.tolist() == [FAULT, FAULT]
    assert judge(scorer, np.zeros((1, 5)), names=NAMES[:5], threshold=0.5).codes.tolist() == [FAULT]
    assert open_scorer(bundle).score(np.empty((0, 6), np.float32)).tolist() == []
