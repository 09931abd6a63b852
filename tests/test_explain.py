"""Contributions are those of the trees, and with the base they are the score."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

import onnx
from sample_bundle import exported, fitted, training_rows

from adapters.onnx_scorer import OnnxScorer
from ibs_core.errors import DataError
from ibs_core.explain import Explainer
from ibs_core.trees import read_trees

FORESTS = {
    "100 of depth 3": ((100, 3), {}),
    "200 of depth 5, 29 features, weighted": (
        (200, 5),
        {"class_weight": "balanced_subsample", "n_features": 29},
    ),
    "200 of depth 7, no bootstrap": ((200, 7), {"bootstrap": False}),
    "300 without limit": ((300, None), {}),
    "leaves only": ((30, 3), {"leaf": 1_500, "bootstrap": False}),
}


@pytest.fixture(scope="module", params=FORESTS)
def forest(request):
    args, kwargs = FORESTS[request.param]
    return fitted(*args, **kwargs), exported(*args, **kwargs)


def rows_for(forest, n):
    return np.random.default_rng(8).normal(size=(n, forest.n_features_in_)).astype(np.float32)


def saabas(forest, row):
    """The decomposition as it is defined, from scikit-learn's own trees."""
    base, contributions = 0.0, np.zeros(len(row))
    for estimator in forest.estimators_:
        tree, node = estimator.tree_, 0
        base += tree.value[0, 0, 1]
        while tree.children_left[node] >= 0:
            feature = tree.feature[node]
            goes_left = row[feature] <= tree.threshold[node]
            child = (tree.children_left if goes_left else tree.children_right)[node]
            contributions[feature] += tree.value[child, 0, 1] - tree.value[node, 0, 1]
            node = child
    return base / len(forest.estimators_), contributions / len(forest.estimators_)


def test_contributions_are_those_of_the_definition(forest):
    trained, model = forest
    rows = rows_for(trained, 12)
    base, contributions = Explainer(model).explain(rows)
    for row, found in zip(rows, contributions, strict=True):
        wanted_base, wanted = saabas(trained, row)
        assert base == pytest.approx(wanted_base, abs=2e-6)
        assert found.tolist() == pytest.approx(wanted.tolist(), abs=3e-6)


def test_base_and_contributions_sum_to_the_score_that_trades(forest):
    trained, model = forest
    rows = rows_for(trained, 10_000)
    explainer = Explainer(model)
    base, contributions = explainer.explain(rows)
    scores = OnnxScorer(model).score(rows)
    assert base == explainer.base
    assert contributions.shape == rows.shape
    assert np.abs(base + contributions.sum(axis=1) - scores).max() <= 1e-12


def test_walking_the_trees_gives_the_bits_of_onnxruntime(forest):
    trained, model = forest
    rows = rows_for(trained, 2_000)
    assert Explainer(model).score(rows).tobytes() == OnnxScorer(model).score(rows).tobytes()


def test_one_row_is_explained_as_among_others(forest):
    trained, model = forest
    rows = rows_for(trained, 150)
    explainer = Explainer(model)
    _, together = explainer.explain(rows)
    alone = [explainer.explain(row[None])[1] for row in rows[:20]]
    assert np.abs(np.concatenate(alone) - together[:20]).max() <= 1e-12
    assert explainer.explain(rows[:0])[1].shape == (0, rows.shape[1])


def test_the_reader_finds_what_the_onnx_package_finds(forest):
    _, model = forest
    trees = read_trees(model)
    node = onnx.load_from_string(model).graph.node[0]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert trees.threshold.tolist() == np.float32(attributes["nodes_values"]).tolist()
    assert trees.share.tolist() == np.float32(attributes["nodes_hitrates"]).tolist()
    assert trees.feature.tolist() == attributes["nodes_featureids"]
    leaves = np.flatnonzero(trees.left == np.arange(len(trees.left)))
    assert trees.weight[leaves].tolist() == np.float32(attributes["target_weights"]).tolist()
    assert len(trees.roots) == max(attributes["nodes_treeids"]) + 1


def test_the_shares_change_no_score():
    # onnxruntime must not read what the export writes for the explanation.
    model = exported(300, 3)
    proto = onnx.load_from_string(model)
    (shares,) = [a for a in proto.graph.node[0].attribute if a.name == "nodes_hitrates"]
    shares.floats[:] = [1.0] * len(shares.floats)
    plain = proto.SerializeToString()
    rows = rows_for(fitted(300, 3), 1_000)
    assert OnnxScorer(plain).score(rows).tobytes() == OnnxScorer(model).score(rows).tobytes()
    with pytest.raises(DataError, match="carry no shares"):
        Explainer(plain)


def test_the_classifier_of_skl2onnx_is_read_too():
    from skl2onnx import to_onnx

    plain = to_onnx(fitted(40, 4), np.zeros((1, 6), np.float32), options={"zipmap": False})
    found, ours = read_trees(plain.SerializeToString()), read_trees(exported(40, 4))
    assert found.weight.tobytes() == ours.weight.tobytes()
    assert found.left.tobytes() == ours.left.tobytes()


def test_an_unread_feature_contributes_nothing():
    trained = fitted(40, 4)
    used = {f for tree in trained.estimators_ for f in tree.tree_.feature[tree.tree_.feature >= 0]}
    _, contributions = Explainer(exported(40, 4)).explain(rows_for(trained, 50))
    unread = sorted(set(range(6)) - used)
    assert np.abs(contributions[:, unread]).sum() == 0
    assert np.abs(contributions[:, sorted(used)]).sum(axis=0).min() > 0


def edited(name, change):
    """A model with one attribute changed, all others whole."""
    proto = onnx.load_from_string(exported(40, 4))
    node = proto.graph.node[0]
    if name == "op_type":
        node.op_type = "TreeEnsembleClassifier"
        return proto.SerializeToString()
    old = [each for each in node.attribute if each.name == name]
    value = change(onnx.helper.get_attribute_value(old[0]) if old else None)
    for each in old:
        node.attribute.remove(each)
    if value is not None:
        node.attribute.append(onnx.helper.make_attribute(name, value))
    return proto.SerializeToString()


EDITS = {
    "nodes_missing_value_tracks_true": lambda old: [1, *old[1:]],
    "op_type": None,
    "aggregate_function": lambda _old: "AVERAGE",
    "post_transform": lambda _old: "SOFTMAX",
    "classlabels_int64s": lambda _old: [0, 2],
    "target_ids": lambda old: [*old[:-1], 1],
    "target_nodeids": lambda old: [old[1], *old[1:]],
    "target_weights": lambda old: old[:-1],
    "nodes_modes": lambda old: [b"BRANCH_LT", *old[1:]],
    "nodes_truenodeids": lambda old: [0, *old[1:]],
    "nodes_falsenodeids": lambda old: [10_000, *old[1:]],
    "nodes_featureids": lambda old: [6, *old[1:]],
    "nodes_treeids": lambda old: [old[-1], *old[1:]],
    "nodes_nodeids": lambda old: [1, *old[1:]],
    "nodes_values": lambda old: old[:-1],
    "nodes_hitrates": lambda _old: None,
}


@pytest.mark.parametrize("name", EDITS)
def test_a_model_is_no_forest_to_explain_with_another(name):
    with pytest.raises(DataError, match="no forest that can be read"):
        read_trees(edited(name, EDITS[name]))


def test_a_node_of_two_parents_is_refused():
    # A chain of them would be walked twice as wide at each level.
    def same(old):
        trees = read_trees(exported(40, 4))
        return [int(trees.right[0]), *old[1:]]

    with pytest.raises(DataError, match="one parent a node"):
        read_trees(edited("nodes_truenodeids", same))


def test_packed_numbers_are_read_or_refused_never_misread():
    # onnx writes repeated numbers one by one; a file with packed ones must not look empty.
    model = bytearray(exported(40, 4))
    with pytest.raises(DataError):
        read_trees(bytes(model[: len(model) // 2]))
    for junk in (b"", b"\xff" * 40, b"\x3a\x05hello", bytes(64)):
        with pytest.raises(DataError, match="no forest"):
            read_trees(junk)


def test_a_damaged_model_is_refused_or_read_but_never_walked_for_ever():
    model = exported(40, 4)
    rng = np.random.default_rng(4)
    rows, _ = training_rows(1_500, 6)
    for place in rng.integers(0, len(model), 300):
        damaged = bytearray(model)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            explainer, trees = Explainer(bytes(damaged)), read_trees(bytes(damaged))
        except DataError:
            continue
        if trees.n_features == rows.shape[1]:
            explainer.score(rows[:3])
