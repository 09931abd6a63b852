"""From a fitted scikit-learn forest to the bundle that trades.

The ONNX file is skl2onnx's, with the shares of training rows added for `ibs_core.explain`, and checked node
by node against the forest: structure, features, leaf weights, and thresholds. scikit-learn compares a
float32 value with a float64 threshold; the file's threshold is the greatest float32 not above it, so
every float32 value goes the same way, one exactly at a threshold too.

skl2onnx writes a classifier: a label and two probabilities, though each leaf holds one number. The same
trees as a regressor give that number alone, with the same bits (a test), in 22 % less time for one row and
7 % less for a batch (900 trees of depth 5 on 29 features: 57 to 44 us), so the file holds the regressor.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core.bundle import Golden
from ibs_core.errors import ConfigError, DataError, EnvironmentFault
from ibs_core.trees import read_trees

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ibs_core.veto import Scorer

__all__ = ["MAX_DIFFERENCE", "export_forest", "golden_rows", "library_versions", "max_difference"]

MAX_DIFFERENCE: Final = 3e-6
"""Between a score and scikit-learn's float64 mean: what float32 sums of 1,200 trees round away."""
_OPSET: Final = {"": 15, "ai.onnx.ml": 3}
_LIBRARIES: Final = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def export_forest(forest: Any, n_features: int) -> bytes:
    """Convert a forest to ONNX.

    Parameters
    ----------
    forest : sklearn.ensemble.RandomForestClassifier
        Fitted, on the classes 0 and 1.
    n_features : int
        Columns that it was fitted on.

    Returns
    -------
    bytes
        The same for the same forest and library versions. One input ``features`` (n, n_features)
        float32; one output ``probabilities`` (n, 1) float32, of class 1.

    Raises
    ------
    ConfigError
        The forest is of other classes or features.
    EnvironmentFault
        The extra ``train`` is not installed.
    DataError
        The file would not do what the forest does.
    """
    found = f"classes {list(forest.classes_)}, {forest.n_features_in_} features"
    if list(forest.classes_) != [0, 1] or forest.n_features_in_ != n_features:
        expected = f"classes [0, 1], {n_features} features"
        raise ConfigError("forest cannot be exported", expected=expected, found=found)
    try:
        from skl2onnx import convert_sklearn  # noqa: PLC0415  (an extra)
        from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415
    except ImportError as error:
        remedy = "pip install 'ibs[train]'"
        raise EnvironmentFault("skl2onnx is missing", found=str(error), remedy=remedy) from error
    proto = convert_sklearn(
        forest,
        name="veto",
        initial_types=[("features", FloatTensorType([None, n_features]))],
        options={id(forest): {"zipmap": False}},
        target_opset=_OPSET,
    )
    del proto.opset_import[:]  # skl2onnx lists some twice
    for domain, number in sorted(_OPSET.items()):
        proto.opset_import.add(domain=domain, version=number)
    _drop_label(proto.graph)
    shares = [each.tree_.weighted_n_node_samples for each in forest.estimators_]
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "nodes_hitrates":
            del attribute.floats[:]
            attribute.floats.extend(np.concatenate([each / each[0] for each in shares]).tolist())
    model: bytes = proto.SerializeToString(deterministic=True)
    _check_nodes(forest, model)
    return model


def max_difference(forest: Any, scorer: Scorer, rows: NDArray[np.float32]) -> float:
    """Compare the exported model with the forest.

    Parameters
    ----------
    forest : sklearn.ensemble.RandomForestClassifier
    scorer : Scorer
        Of the exported model.
    rows : (k, n_features) float32, finite
        All training rows.

    Returns
    -------
    float
        The greatest difference of a score, at most `MAX_DIFFERENCE`.

    Raises
    ------
    DataError
        It is more.
    """
    trained = forest.predict_proba(rows)[:, 1]
    difference = np.abs(scorer.score(rows) - trained)
    worst = int(difference.argmax())
    if not difference.max() <= MAX_DIFFERENCE:  # also NaN
        raise DataError(
            "exported model scores otherwise than the forest",
            expected=f"a difference of at most {MAX_DIFFERENCE:g}",
            found=f"{difference[worst]:g} in training row {worst}",
        )
    return float(difference.max())


def golden_rows(
    scorer: Scorer, rows: NDArray[np.float32], *, threshold: float, seed: int, n: int = 24
) -> Golden:
    """Choose rows by which a model is recognised.

    Half of them are the quantiles of the score, a quarter the rows nearest to the threshold, where a
    last bit decides, a quarter drawn.

    Parameters
    ----------
    scorer : Scorer
    rows : (k, n_features) float32, finite
        The training rows, k > 0.
    threshold : float
    seed : int
    n : int
        How many; fewer where rows coincide.

    Returns
    -------
    Golden
        In the order of the training rows.
    """
    scores = scorer.score(rows)
    by_score = np.argsort(scores, kind="stable")
    quantiles = by_score[np.linspace(0, len(rows) - 1, n // 2).round().astype(np.int64)]
    distance = np.abs(scores - np.float32(threshold))
    nearest = np.argsort(distance, kind="stable")[: n // 4]
    n_drawn = min(n - n // 2 - n // 4, len(rows))
    drawn = np.random.default_rng(seed).choice(len(rows), n_drawn, replace=False)
    chosen = np.unique(np.concatenate([quantiles, nearest, drawn]))
    return Golden(
        rows=tuple(tuple(row) for row in rows[chosen].tolist()),
        scores=tuple(scores[chosen].tolist()),
    )


def library_versions() -> dict[str, str]:
    """Name what trains and exports here, for the card.

    Returns
    -------
    dict of str to str
        Versions by distribution, and Python's.
    """
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def _drop_label(graph: Any) -> None:
    """Make a regressor of the classifier: the sum of the leaves, which is the probability of class 1."""
    from onnx import helper  # noqa: PLC0415  (comes with skl2onnx)

    (node,), (label, probabilities) = graph.node, graph.output
    node.op_type = "TreeEnsembleRegressor"
    (classes,) = [each for each in node.attribute if each.name == "classlabels_int64s"]
    node.attribute.remove(classes)
    for each in node.attribute:
        each.name = each.name.replace("class_", "target_")
        if each.name == "target_ids":
            each.ints[:] = [0] * len(each.ints)
    node.attribute.append(helper.make_attribute("n_targets", 1))
    node.output.remove(label.name)
    graph.output.remove(label)
    probabilities.type.tensor_type.shape.dim[1].dim_value = 1


def _check_nodes(forest: Any, model: bytes) -> None:
    """Compare the file with the forest, node by node."""
    trees = read_trees(model)
    grown = [each.tree_ for each in forest.estimators_]
    leaf = np.concatenate([each.children_left < 0 for each in grown])
    offsets = np.repeat(trees.roots, [each.node_count for each in grown])

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(each, name) for each in grown])

    index = np.arange(len(leaf))
    positive = np.concatenate([each.value[:, 0, 1] for each in grown])
    expected = {
        "left": np.where(leaf, index, joined("children_left") + offsets),
        "right": np.where(leaf, index, joined("children_right") + offsets),
        "feature": np.where(leaf, 0, joined("feature")),
        "threshold": np.where(leaf, 0, _not_above(joined("threshold"))),
    }
    wrong = [
        name for name, each in expected.items() if not np.array_equal(getattr(trees, name), each)
    ]
    weights = np.where(leaf, positive / len(grown), 0)
    if not np.allclose(trees.weight, weights, rtol=2e-7, atol=0):
        wrong.append("weight")
    if wrong:
        found = f"other values of {', '.join(wrong)}"
        raise DataError("exported model is not the forest", expected="equal nodes", found=found)


def _not_above(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32, never up."""
    rounded = thresholds.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > thresholds, lower, rounded)
