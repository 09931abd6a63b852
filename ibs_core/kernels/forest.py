"""Scores of a forest: many walks at once, because one walk is a chain of loads that each wait for the last.

A batch sends 64 rows down each tree, a row alone goes down 64 trees: the processor overlaps the walks.
Whether a step goes left is arithmetic, no branch that could be guessed wrongly. Either way a row's sum
is of float32 and in the order of the trees, which fixes its bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibs_core.kernels._jit import jit, jit_allocating

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NODE", "TREE", "score"]

NODE = np.dtype([("threshold", np.float32), ("step", np.uint16), ("feature", np.uint16)])
"""``step`` leads to the right child, and the left one follows it: a value that is at most the threshold
adds 1, NaN nothing. A leaf has the threshold NaN and the step 0, so that a walk may go on there. Eight bytes,
because a row alone mostly waits for memory."""

TREE = np.dtype([("root", np.uint32), ("depth", np.uint32)])

_WALKS = 64
_FEW = 9  # rows from which on they are faster together than one by one, for 900 trees of depth 5 as for 600 of 9


@jit
def score(
    trees: NDArray[np.void],
    nodes: NDArray[np.void],
    weights: NDArray[np.float32],
    rows: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Sum the leaves that rows reach.

    Parameters
    ----------
    trees : (n_trees,) TREE
    nodes : (n_nodes,) NODE
    weights : (n_nodes,) float32
        What a leaf adds.
    rows : (k, n_features) float32
        Any value, NaN and infinite too.
    out : (k,) float32
        Receives the sums.
    """
    if len(rows) < _FEW:
        for i in range(len(rows)):
            out[i] = _alone(trees, nodes, weights, rows[i])
    else:
        _together(trees, nodes, weights, rows, out)


@jit_allocating
def _alone(
    trees: NDArray[np.void],
    nodes: NDArray[np.void],
    weights: NDArray[np.float32],
    row: NDArray[np.float32],
) -> np.float32:
    at = np.zeros(_WALKS, np.uint32)
    total = np.float32(0)
    for first in range(0, len(trees), _WALKS):
        n = min(_WALKS, len(trees) - first)
        depth = 0
        for k in range(n):
            at[k] = trees[first + k]["root"]
            depth = max(depth, trees[first + k]["depth"])
        for _ in range(depth):
            for k in range(n):
                node = nodes[at[k]]
                at[k] += node["step"] + (row[node["feature"]] <= node["threshold"])
        for k in range(n):
            total += weights[at[k]]
    return total


@jit_allocating
def _together(
    trees: NDArray[np.void],
    nodes: NDArray[np.void],
    weights: NDArray[np.float32],
    rows: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    at = np.zeros(_WALKS, np.uint32)
    for first in range(0, len(rows), _WALKS):
        n = min(_WALKS, len(rows) - first)
        block = rows[first : first + n]
        total = out[first : first + n]
        total[:] = 0
        for k in range(len(trees)):
            at[:n] = trees[k]["root"]
            for _ in range(trees[k]["depth"]):
                for i in range(n):
                    node = nodes[at[i]]
                    at[i] += node["step"] + (block[i, node["feature"]] <= node["threshold"])
            for i in range(n):
                total[i] += weights[at[i]]
