"""The trees of an ONNX file, as arrays.

The few protobuf fields needed are read here: the ``onnx`` package is no dependency of the base install, and
a second copy of the trees would be a second thing to trust.
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

__all__ = ["Trees", "read_trees"]

_MODES: Final = re.compile(rb"(?:J\nBRANCH_LEQ|J\x04LEAF)+")
"""A run of the modes that are known, each with its key and its length."""
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
        Index of the child where the value is at most the threshold, and of the other, where NaN goes too.
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
            "model is no forest that can be read",
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
    leaf = attributes["nodes_modes"]
    _require(isinstance(leaf, np.ndarray) and leaf.dtype == np.bool_, "comparisons by <=")
    astray = attributes.get("nodes_missing_value_tracks_true", 0)
    _require(not np.any(astray), "missing values to the right")
    left = np.where(leaf, index, start + attributes["nodes_truenodeids"])
    right = np.where(leaf, index, start + attributes["nodes_falsenodeids"])
    end = np.append(roots[1:], n_nodes)[tree]
    for child in (left, right):  # downwards and within the tree, so that every walk ends
        _require(bool(((child > index) | leaf).all() and (child < end).all()), "children below")
    children = np.concatenate([left[~leaf], right[~leaf]])
    _require(np.array_equal(np.sort(children), np.delete(index, roots)), "one parent a node")
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
    """Read an AttributeProto; what is repeated in it, up to millions of times, is decoded as arrays.

    Modes of nodes become bool: is it a leaf.
    """
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
        elif modes := _MODES.match(view, i):
            codes = modes[0].replace(b"J\nBRANCH_LEQ", b"\0").replace(b"J\x04LEAF", b"\1")
            _require(value is None, "comparisons by <=")
            value = np.frombuffer(codes, np.bool_)
            i = modes.end()
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
