"""The compiled scorer has the bits of onnxruntime, or onnxruntime scores."""

import json
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

import onnx
from sample_bundle import exported, fitted, tradable_bundle

from adapters import onnx_scorer
from adapters.onnx_scorer import OnnxScorer, choose_scorer
from ibs_core import forest as forest_module
from ibs_core.bundle import load_bundle, write_bundle
from ibs_core.cli.main import run
from ibs_core.errors import DataError
from ibs_core.forest import ForestScorer, telling_rows
from ibs_core.kernels.forest import score
from ibs_core.research.export import export_forest
from ibs_core.research.sample_data import write_sample
from ibs_core.trees import read_trees
from ibs_core.veto import FAULT, judge

FORESTS = {
    "300 of depth 3": ((300, 3), {}),
    "200 of depth 5, 29 features, weighted": (
        (200, 5),
        {"class_weight": "balanced_subsample", "n_features": 29},
    ),
    "70 without limit": ((70, None), {"leaf": 1}),
    "leaves only": ((30, 3), {"leaf": 1_500, "bootstrap": False}),
}
FEATURES = ("bar_rsi2", "bar_ret1_pct", "bar_atr_z", "day_ibs", "bar_ibs", "bar_rsi5")


@pytest.mark.parametrize("name", FORESTS)
def test_alone_and_in_any_batch_rows_have_the_bits_of_onnxruntime(name):
    args, kwargs = FORESTS[name]
    model = exported(*args, **kwargs)
    trees = read_trees(model)
    drawn = np.random.default_rng(5).normal(size=(1_000, trees.n_features)).astype(np.float32)
    rows = np.concatenate([drawn, telling_rows(trees, 500)])
    expected = OnnxScorer(model).score(rows).tobytes()
    scorer = ForestScorer(trees)
    for size in (1, 2, 8, 9, 63, 64, 65, 200, len(rows)):
        found = [scorer.score(rows[i : i + size]) for i in range(0, len(rows), size)]
        assert np.concatenate(found).tobytes() == expected, size


FLOATS = st.floats(width=32, allow_nan=False)
THRESHOLDS = st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf]))
GROWN = st.recursive(
    st.floats(-1, 1, width=32),
    lambda below: st.tuples(st.integers(0, 2), THRESHOLDS, below, below),
    max_leaves=12,
)


def written(forest):
    """The ONNX file of trees: a leaf is its weight, a node (feature, threshold, left, right)."""
    columns = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "modes")}
    true, false, ends = [], [], []

    def add(tree, number, first):
        node = len(true) - first
        leaf = isinstance(tree, float)
        given = (number, node, 0, 0.0, "LEAF") if leaf else (number, node, *tree[:2], "BRANCH_LEQ")
        for column, value in zip(columns.values(), given, strict=True):
            column.append(value)
        true.append(0)
        false.append(0)
        if leaf:
            ends.append((number, node, tree))
        else:
            true[first + node] = add(tree[2], number, first)
            false[first + node] = add(tree[3], number, first)
        return node

    for number, tree in enumerate(forest):
        add(tree, number, len(true))
    of_leaves = dict(zip(("treeids", "nodeids", "weights"), zip(*ends, strict=True), strict=True))
    node = onnx.helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["probabilities"],
        domain="ai.onnx.ml",
        n_targets=1,
        post_transform="NONE",
        target_ids=[0] * len(ends),
        nodes_truenodeids=true,
        nodes_falsenodeids=false,
        nodes_hitrates=[1.0] * len(true),
        **{f"nodes_{name}": values for name, values in columns.items()},
        **{f"target_{name}": list(values) for name, values in of_leaves.items()},
    )
    floats = onnx.TensorProto.FLOAT
    ends_of_graph = (
        [onnx.helper.make_tensor_value_info("features", floats, [None, 3])],
        [onnx.helper.make_tensor_value_info("probabilities", floats, [None, 1])],
    )
    graph = onnx.helper.make_graph([node], "veto", *ends_of_graph)
    opset = [onnx.helper.make_opsetid("", 15), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    made = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    return made.SerializeToString()


@settings(max_examples=150, deadline=None)
@given(
    forest=st.lists(GROWN, min_size=1, max_size=5),
    repeats=st.sampled_from([1, 40]),
    drawn=st.lists(st.lists(FLOATS, min_size=3, max_size=3), max_size=20),
)
def test_any_forest_has_the_bits_of_onnxruntime_on_any_rows(forest, repeats, drawn):
    model = written(forest * repeats)
    trees = read_trees(model)
    rows = np.concatenate([np.array(drawn, np.float32).reshape(-1, 3), telling_rows(trees, 60)])
    plain, scorer = OnnxScorer(model), ForestScorer(trees)
    assert scorer.score(rows).tobytes() == plain.score(rows).tobytes()
    for row in rows:
        assert scorer.score(row[None]).tobytes() == plain.score(row[None]).tobytes()


def test_rows_laid_out_otherwise_score_the_same_and_compile_nothing():
    scorer = ForestScorer(read_trees(exported(40, 4)))
    rows = np.random.default_rng(5).normal(size=(30, 6)).astype(np.float32)
    expected = scorer.score(rows).tobytes()
    fixed = rows.copy()
    fixed.flags.writeable = False
    n_compiled = len(score.signatures)
    for same in (np.asfortranarray(rows), rows.repeat(2, axis=0)[::2], fixed):
        assert scorer.score(same).tobytes() == expected
    assert scorer.score(rows[:0]).shape == (0,)
    assert len(score.signatures) == n_compiled


def test_a_sum_that_rounds_to_above_1_is_1():
    model = written([float(np.float32(1 / 800))] * 800)
    rows = np.zeros((20, 3), np.float32)
    for some in (rows, rows[:1]):
        assert ForestScorer(read_trees(model)).score(some).tolist() == [1.0] * len(some)
        assert OnnxScorer(model).score(some).tolist() == [1.0] * len(some)


def test_rows_of_another_width_are_a_scorer_error():
    scorer = ForestScorer(read_trees(exported(40, 4)))
    found = judge(scorer, np.zeros((2, 5)), names=FEATURES[:5], threshold=0.5)
    assert found.codes.tolist() == [FAULT, FAULT]


def test_rows_that_tell_scorers_apart_lie_at_and_beside_thresholds_and_are_special():
    trees = read_trees(exported(40, 4))
    rows = telling_rows(trees, 256)
    assert rows.tobytes() == telling_rows(trees, 256).tobytes()
    for column in range(2):
        own = trees.threshold[
            (trees.feature == column) & (trees.left != np.arange(len(trees.left)))
        ]
        for side in (-np.inf, np.inf):
            assert np.isin(rows[:, column], np.nextafter(own, np.float32(side))).sum() > 20
        assert np.isin(rows[:, column], own).sum() > 20
    assert np.isnan(rows).any()
    assert np.isposinf(rows).any()
    assert np.isneginf(rows).any()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(tradable_bundle(tmp_path_factory.mktemp("made"), "ES", FEATURES))


def test_compiled_is_chosen_when_it_has_the_bits_and_onnxruntime_when_asked_for(bundle):
    for choice in ("auto", "compiled"):
        scorer, why = choose_scorer(bundle, choice)
        assert (type(scorer), why) == (ForestScorer, "")
    scorer, why = choose_scorer(bundle, "onnxruntime")
    assert (type(scorer), why) == (OnnxScorer, "")


def turned(trees):
    """NaN and what is above go left, the rest right."""
    return replace(trees, left=trees.right, right=trees.left)


WRONG = {
    "at a threshold to the right": lambda t: replace(
        t, threshold=np.nextafter(t.threshold, np.float32(-np.inf))
    ),
    "one float32 above a threshold to the left": lambda t: replace(
        t, threshold=np.nextafter(t.threshold, np.float32(np.inf))
    ),
    "NaN to the left": lambda t: turned(replace(t, threshold=-t.threshold)),
    "summed in another order": lambda t: replace(t, roots=t.roots[::-1].copy()),
    "another feature": lambda t: replace(t, feature=t.feature[::-1].copy()),
    "one tree left out": lambda t: replace(t, roots=t.roots[:-1]),
    "weights rounded": lambda t: replace(t, weight=t.weight.astype(np.float16).astype(np.float32)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_compiled_scorer_with_other_bits_is_refused_and_told(bundle, monkeypatch, name):
    monkeypatch.setattr(onnx_scorer, "read_trees", lambda model: WRONG[name](read_trees(model)))
    scorer, why = choose_scorer(bundle)
    assert type(scorer) is OnnxScorer
    assert "rows score otherwise" in why
    with pytest.raises(DataError, match=r"cannot be scored compiled: found .*score otherwise"):
        choose_scorer(bundle, "compiled")


@pytest.mark.parametrize("how", ["alone", "in a batch"])
def test_a_row_alone_and_a_batch_are_both_checked(bundle, monkeypatch, how):
    def off(self, rows):
        scores = right(self, rows)
        hit = (len(rows) == 1) == (how == "alone")
        return np.nextafter(scores, np.float32(9)) if hit else scores

    right = ForestScorer.score
    monkeypatch.setattr(ForestScorer, "score", off)
    scorer, why = choose_scorer(bundle)
    assert type(scorer) is OnnxScorer
    assert f"rows score otherwise {how}, row 0" in why


def test_a_file_that_cannot_be_read_as_trees_is_scored_by_onnxruntime(bundle):
    model = onnx.load_from_string(bundle.model)
    for each in model.graph.node[0].attribute:
        if each.name == "nodes_modes":
            each.strings[:] = [mode.replace(b"LEQ", b"LT") for mode in each.strings]
    other = replace(bundle, model=model.SerializeToString())
    scorer, why = choose_scorer(other)
    assert type(scorer) is OnnxScorer
    assert "comparisons by <=" in why
    with pytest.raises(DataError, match="cannot be scored compiled"):
        choose_scorer(other, "compiled")


def test_a_forest_too_wide_for_the_layout_is_scored_by_onnxruntime(bundle, monkeypatch):
    monkeypatch.setattr(forest_module, "_LIMIT", 5)
    scorer, why = choose_scorer(bundle)
    assert type(scorer) is OnnxScorer
    assert "too wide to be compiled" in why


@pytest.fixture
def backtest(bundle, tmp_path, monkeypatch, capsys):
    """A function that back-tests with options; returns the exit code, the run's folder and what was said."""
    folder = write_bundle(tmp_path, bundle.card, bundle.model)
    config = tmp_path / "config.yml"
    config.write_text(f"model: {{mode: veto, bundle: '{folder}'}}\n")
    span = {"start": date(2023, 1, 3), "end": date(2023, 2, 28)}
    write_sample(tmp_path / "bars", roots=["ES"], seed=3, **span)

    def backtest(out, *words):
        given = ("--parquet", tmp_path / "bars", "--config", config, "--out", tmp_path / out)
        monkeypatch.setattr(sys, "argv", ["ibs", "backtest", *map(str, given), *words])
        try:
            run()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, next((tmp_path / out).glob("*"), None), said.out + said.err

    return backtest


def test_a_back_test_is_the_same_with_either_scorer(backtest):
    made = []
    for choice in ("compiled", "onnxruntime"):
        code, folder, _ = backtest(choice, "--no-report", "--scorer", choice)
        assert code == 0
        made.append([(folder / f"{name}.parquet").read_bytes() for name in ("trades", "decisions")])
    assert made[0] == made[1]


def test_the_reason_for_onnxruntime_is_told_with_the_run(backtest, monkeypatch):
    wrong = WRONG["at a threshold to the right"]
    monkeypatch.setattr(onnx_scorer, "read_trees", lambda model: wrong(read_trees(model)))
    code, folder, said = backtest("auto", "--no-report")
    assert code == 0
    assert "is scored by onnxruntime" in said.replace("\n", " ")
    warnings = json.loads((folder / "run.json").read_text())["warnings"]
    assert any("rows score otherwise" in line for line in warnings)
    code, folder, said = backtest("compiled", "--no-report", "--scorer", "compiled")
    assert (code, folder) == (1, None)
    assert "model cannot be scored compiled" in said
    assert "leave out --scorer" in said
    code, _, said = backtest("plain", "--no-report", "--scorer", "onnxruntime")
    assert code == 0
    assert "scored by" not in said


def test_a_trained_forest_is_chosen_compiled(bundle):
    # Whatever the export writes must be readable by the kernel, or it would fall back unseen.
    model = export_forest(fitted(300, 3), 6)
    assert choose_scorer(replace(bundle, model=model), "compiled")[1] == ""
