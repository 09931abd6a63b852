"""Why a model gave a score: what each feature added to it or took from it.

The decomposition is Saabas's: walk each tree from its root to the row's leaf; a step from a node to its
child changes the expected score, and the change belongs to the feature that the node asked. Base plus
contributions is the score.

Everything is read from the ONNX file that trades. The few protobuf fields needed are read here, for
the ``onnx`` package is no dependency of the base install, and a second copy of the trees would be a
second thing to trust. Expected scores of inner nodes need the share of training rows that reached each
node, which the export writes into ``nodes_hitrates``, a field that onnxruntime does not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Explainer", "Trees", "read_trees"]

_CHUNK: Final = 1 << 16  # rows x trees walked at once, so that it all stays in the cache
_LEAVES: Final = {b"TreeEnsembleRegressor": "target_", b"TreeEnsembleClassifier": "class_"}
"""How the attributes of leaves begin, by operation: what the export writes, and what skl2onnx does."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A forest as flat arrays; a leaf is its own child.

    Parameters
    ----------
    n_features : int
        Columns of the model's input.
    roots : (n_trees,) int64
        Index of each tree's first node; its other nodes follow.
    left, right : (n_nodes,) int64
        Index of the child where the value is at most the threshold, and of the other.
    feature : (n_nodes,) int64
        Column that the node asks; 0 for a leaf.
    threshold : (n_nodes,) float32
    weight : (n_nodes,) float32
        What a leaf adds to the score; 0 elsewhere.
    share : (n_nodes,) float32
        Training rows that reached the node / those that reached its root, in (0, 1].
    """

    n_features: int
    roots: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    weight: NDArray[np.float32]
    share: NDArray[np.float32]


class Explainer:
    """Explains the scores of one model.

    Parameters
    ----------
    model : bytes
        An ONNX file as the export writes it.

    Raises
    ------
    DataError
        It is none, or its nodes carry no shares.
    """

    def __init__(self, model: bytes) -> None:
        self._trees = read_trees(model)
        self._via, self._gain, self._base = _steps(self._trees)

    @property
    def base(self) -> float:
        """The expected score over the training rows, in [0, 1]."""
        return self._base

    def explain(self, rows: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """Divide scores among features.

        Parameters
        ----------
        rows : (k, n_features) float32, finite

        Returns
        -------
        base : float
            The same for every row.
        contributions : (k, n_features) float64
            With the base they sum to `score` of the row, to 1e-12. The model sums float32; what that
            sum rounds away, about 1e-6 for a thousand trees, is in the largest contribution.
        """
        parts = [self._walk(chunk) for chunk in self._chunks(rows)]
        scores = np.concatenate([score for score, _ in parts]).astype(np.float64)
        contributions = np.concatenate([each for _, each in parts])
        rest = scores - self._base - contributions.sum(axis=1)
        largest = np.abs(contributions).argmax(axis=1)
        contributions[np.arange(len(rows)), largest] += rest
        return self._base, contributions

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score rows by walking the trees, in the model's order and precision.

        Parameters
        ----------
        rows : (k, n_features) float32, finite

        Returns
        -------
        (k,) float32
            The bits that onnxruntime gives on one thread.
        """
        return np.concatenate([self._walk(chunk)[0] for chunk in self._chunks(rows)])

    def _chunks(self, rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        assert rows.dtype == np.float32, rows.dtype
        assert rows.ndim == 2, rows.shape
        assert rows.shape[1] == self._trees.n_features, rows.shape
        step = max(_CHUNK // len(self._trees.roots), 1)
        for start in range(0, max(len(rows), 1), step):
            yield rows[start : start + step]

    def _walk(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        trees, k = self._trees, len(rows)
        n_cells = k * trees.n_features
        flat = np.ascontiguousarray(rows).ravel()
        at = np.tile(trees.roots, k)
        where = np.arange(len(at))
        first = np.repeat(np.arange(k) * trees.n_features, len(trees.roots))
        contributions = np.zeros(n_cells)
        node = at
        while True:
            inner = trees.left[node] != node
            where, first, node = where[inner], first[inner], node[inner]
            if not len(node):
                break
            below = flat[first + trees.feature[node]] <= trees.threshold[node]
            node = np.where(below, trees.left[node], trees.right[node])
            at[where] = node
            contributions += np.bincount(first + self._via[node], self._gain[node], n_cells)
        weights = trees.weight[at].reshape(k, len(trees.roots))
        sums = np.add.accumulate(weights, axis=1, dtype=np.float32)[:, -1]  # one after another
        return np.minimum(sums, np.float32(1)), contributions.reshape(rows.shape)


def read_trees(model: bytes) -> Trees:
    """Read the forest of an ONNX file.

    Parameters
    ----------
    model : bytes

    Returns
    -------
    Trees

    Raises
    ------
    DataError
        The file is not one forest as the export writes it, or of the classes 0 and 1 as skl2onnx does.
    """
    try:
        attributes, n_features = _ensemble(model)
        return _trees(attributes, n_features)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise DataError(
            "model is no forest that can be explained",
            expected="one tree ensemble as the export writes it",
            found=found,
            remedy="export the model again",
        ) from error


def _trees(attributes: dict[str, Any], n_features: int) -> Trees:
    tree = attributes["nodes_treeids"]
    number = attributes["nodes_nodeids"]
    n_nodes = len(tree)
    for name, values in attributes.items():
        whole = not name.startswith("nodes_") or len(values) == n_nodes
        _require(whole, f"a value of {name} for each node")
    roots = np.flatnonzero(np.diff(tree, prepend=-1))
    start = np.repeat(roots, np.diff(roots, append=n_nodes))
    index = np.arange(n_nodes)
    _require(np.array_equal(tree[roots], np.arange(len(roots))), "trees in order")
    _require(np.array_equal(number, index - start), "nodes in order")
    _require(attributes["post_transform"] == b"NONE", "scores as they are summed")
    classes = attributes.get("classlabels_int64s", [0, 1])
    _require(np.array_equal(classes, [0, 1]), "the classes 0 and 1")
    _require(attributes.get("aggregate_function", b"SUM") == b"SUM", "a sum")
    _require("base_values" not in attributes, "no base values")
    _require(len(set(attributes["leaf_ids"].tolist())) == 1, "weights of one class")
    modes = attributes["nodes_modes"]
    _require(set(modes) <= {b"LEAF", b"BRANCH_LEQ"}, "comparisons by <=")
    leaf = np.array([mode == b"LEAF" for mode in modes])
    left = np.where(leaf, index, start + attributes["nodes_truenodeids"])
    right = np.where(leaf, index, start + attributes["nodes_falsenodeids"])
    end = np.append(roots[1:], n_nodes)[tree]
    for child in (left, right):  # downwards and within the tree, so that every walk ends
        _require(bool(((child > index) | leaf).all() and (child < end).all()), "children below")
    feature = attributes["nodes_featureids"]
    _require(bool(((feature >= 0) & (feature < n_features)).all()), "features of the input")
    ends = roots[attributes["leaf_treeids"]] + attributes["leaf_nodeids"]
    _require(np.array_equal(np.sort(ends), np.flatnonzero(leaf)), "one weight a leaf")
    weight = np.zeros(n_nodes, np.float32)
    weight[ends] = attributes["leaf_weights"]
    threshold, share = attributes["nodes_values"], attributes["nodes_hitrates"]
    return Trees(n_features, roots, left, right, feature, threshold, weight, share)


def _require(holds: bool, expected: str) -> None:  # noqa: FBT001  (as assert takes it)
    if not holds:
        raise ValueError(f"expected {expected}")


def _steps(trees: Trees) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Return, for the step into each node, the feature asked and the gain; and the base."""
    levels = []
    level = trees.roots
    while len(level := level[trees.left[level] != level]):
        levels.append(level)
        level = np.concatenate([trees.left[level], trees.right[level]])
    value, share = trees.weight.astype(np.float64), trees.share.astype(np.float64)
    via, gain = np.zeros(len(value), np.int64), np.zeros(len(value))
    for level in reversed(levels):
        left, right = trees.left[level], trees.right[level]
        together = share[left] + share[right]
        if not np.allclose(together, share[level], rtol=1e-5, atol=0.0):
            raise DataError(
                "model's nodes carry no shares of the training rows",
                expected="shares that add up",
                remedy="export the model again",
            )
        value[level] = (share[left] * value[left] + share[right] * value[right]) / together
        for child in (left, right):
            via[child], gain[child] = trees.feature[level], value[child] - value[level]
    return via, gain, float(value[trees.roots].sum())


# Protobuf, as much of it as an ONNX file of one forest needs. A field is a key and a value; the key
# holds the field's number and how the value is written: 0 a varint, 1 eight bytes, 2 bytes of a given
# length, 5 four bytes.
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def _ensemble(model: bytes) -> tuple[dict[str, Any], int]:
    """Return the attributes of the one operation, those of leaves as ``leaf_``, and its input's columns."""
    view = memoryview(model)
    graph = _only(value for number, value in _fields(view) if number == 7)  # ModelProto.graph
    parts = list(_fields(graph))
    node = list(_fields(_only(value for number, value in parts if number == 1)))
    kind = _only(bytes(value) for number, value in node if number == 4)
    _require(kind in _LEAVES, f"a tree ensemble, found {kind!r}")
    # ValueInfoProto.type.tensor_type.shape.dim[1].dim_value of GraphProto.input
    shape = _only(value for number, value in parts if number == 11)
    for inner in (2, 1, 2):
        shape = _only(value for number, value in _fields(shape) if number == inner)
    dimensions = [value for number, value in _fields(shape) if number == 1]
    n_features = int(_only(value for number, value in _fields(dimensions[1]) if number == 1))
    named = dict(_attribute(value) for number, value in node if number == 5)
    return {re.sub(f"^{_LEAVES[kind]}", "leaf_", name): named[name] for name in named}, n_features


def _only(values: Iterator[Any]) -> Any:
    found = list(values)
    _require(len(found) == 1, f"one part, found {len(found)}")
    return found[0]


def _attribute(view: memoryview) -> tuple[str, Any]:
    """Read an AttributeProto; its repeated numbers, up to millions, are decoded as arrays."""
    name, strings, i = "", [], 0
    value: Any = None
    while i < len(view):
        key, after = _varint(view, i)
        if key == (7 << 3 | _FOUR):  # floats, each with its key
            records = np.frombuffer(view[i : i + (len(view) - i) // 5 * 5], np.uint8).reshape(-1, 5)
            n = _run(records[:, 0] == key, first=value is None)
            value = records[:n, 1:].copy().view("<f4").ravel().astype(np.float32)
            i += 5 * n
        elif key == (8 << 3 | _VARINT):  # ints, each with its key
            numbers, ends = _varints(view[i:])
            n = _run(numbers[: len(numbers) // 2 * 2 : 2] == key, first=value is None)
            value = numbers[1 : 2 * n : 2]
            i += int(ends[2 * n - 1])
        else:
            number, content, i = _field(view, key, after)
            if number == 1:
                name = bytes(content).decode()
            elif number == 4:
                value = bytes(content)
            elif number == 9:
                strings.append(bytes(content))
    return name, strings or value


def _run(same: NDArray[np.bool_], *, first: bool) -> int:
    """Count how many are true before the first that is not; there is one run, and it is not empty."""
    n = len(same) if same.all() else int(same.argmin())
    _require(first and n > 0, "numbers in one run")
    return n


def _varints(view: memoryview) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decode bytes as varints; return the numbers and where each ends."""
    raw = np.frombuffer(view, np.uint8)
    ends = np.flatnonzero(raw < 0x80) + 1
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    numbers = np.zeros(len(ends), np.int64)
    for k in range(min(int(lengths.max()), 9)):  # a tenth byte would be a negative number
        longer = lengths > k
        numbers[longer] |= (raw[starts[longer] + k].astype(np.int64) & 0x7F) << (7 * k)
    return numbers, ends


def _fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    i = 0
    while i < len(view):
        key, i = _varint(view, i)
        number, value, i = _field(view, key, i)
        yield number, value


def _field(view: memoryview, key: int, i: int) -> tuple[int, Any, int]:
    number, kind = key >> 3, key & 7
    if kind == _VARINT:
        value, i = _varint(view, i)
        return number, value, i
    if kind == _BYTES:
        size, i = _varint(view, i)
    else:
        _require(kind in (_FOUR, _EIGHT), f"protobuf, found a value of kind {kind}")
        size = 4 if kind == _FOUR else 8
    _require(i + size <= len(view), "a whole file")
    return number, view[i : i + size], i + size


def _varint(view: memoryview, i: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[i]
        value |= (byte & 0x7F) << shift
        i, shift = i + 1, shift + 7
        if byte < 0x80:
            return value, i
        _require(shift < 70, "protobuf, found a number without end")
