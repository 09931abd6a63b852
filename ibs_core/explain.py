"""Why a model gave a score: what each feature added to it or took from it.

The decomposition is Saabas's: walk each tree from its root to the row's leaf; a step from a node to its
child changes the expected score, and the change belongs to the feature that the node asked. Base plus
contributions is the score.

The trees are those of the ONNX file that trades. Expected scores of inner nodes need the share of training
rows that reached each node, which the export writes into ``nodes_hitrates``, a field that onnxruntime does
not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.errors import DataError
from ibs_core.trees import read_trees

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ibs_core.trees import Trees

__all__ = ["Explainer"]

_CHUNK: Final = 1 << 16  # rows x trees walked at once, so that it all stays in the cache


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
