"""A forest that scores compiled, in a sixth of onnxruntime's time; rows that tell whether its bits are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.errors import DataError
from ibs_core.kernels.forest import NODE, TREE, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ibs_core.trees import Trees

__all__ = ["ForestScorer", "capped", "telling_rows"]

_FLOAT32: Final = np.dtype(np.float32)
_ROUNDING: Final = np.float32(1 + 2e-5)
"""What a sum of 1,200 equal parts of 1 can reach in float32: 800 parts give 1.000011."""
_SPECIAL: Final = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
_LIMIT: Final = 2**16 - 1
"""What `NODE` can hold."""


class ForestScorer:
    """Scores rows with a forest, compiled; a `Scorer` of the veto.

    Parameters
    ----------
    trees : Trees

    Raises
    ------
    DataError
        They are too wide for the layout.
    """

    def __init__(self, trees: Trees) -> None:
        self.n_features = trees.n_features
        self._trees, self._nodes, self._weights = _laid_out(trees)

    def score(self, rows: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Score rows.

        Parameters
        ----------
        rows : (k, n_features) float32

        Returns
        -------
        (k,) float32
            Probabilities of class 1; each is the same whatever the other rows are.
        """
        assert rows.dtype == _FLOAT32, rows.dtype
        assert rows.ndim == 2, rows.shape
        assert rows.shape[1] == self.n_features, rows.shape
        if not rows.flags.carray:  # another layout would be compiled anew
            rows = rows.copy()
        scores = np.empty(len(rows), np.float32)
        score(self._trees, self._nodes, self._weights, rows, scores)
        return capped(scores)


def capped(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make 1 of a sum that rounded to above it; what is further above, the veto refuses.

    Parameters
    ----------
    scores : (k,) float32

    Returns
    -------
    (k,) float32
    """
    highest = scores.item() if len(scores) == 1 else scores.max(initial=0)
    if highest <= 1:
        return scores
    return np.where((scores > 1) & (scores <= _ROUNDING), np.float32(1), scores)


@np.errstate(over="ignore")  # beside the greatest float32 is the infinite one
def telling_rows(trees: Trees, n: int) -> NDArray[np.float32]:
    """Make rows that tell two scorers of a forest apart.

    Parameters
    ----------
    trees : Trees
    n : int

    Returns
    -------
    (n, n_features) float32
        Always the same for the same trees: thresholds of each feature, the float32 next to them on either
        side, one value in ten special: NaN, infinite or a zero with its sign.
    """
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, trees.n_features)).astype(np.float32)
    inner = trees.left != np.arange(len(trees.left))
    for column in np.unique(trees.feature[inner]):
        at = rng.choice(trees.threshold[inner & (trees.feature == column)], n)
        toward = rng.choice(np.array([-np.inf, np.nan, np.inf], np.float32), n)
        rows[:, column] = np.where(np.isnan(toward), at, np.nextafter(at, toward))
    special = rng.random(rows.shape) < 0.1
    rows[special] = rng.choice(_SPECIAL, np.count_nonzero(special))
    return rows


def _laid_out(
    trees: Trees,
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.float32]]:
    """Lay trees out as the kernel reads them: one after another, each level by level, siblings side by side."""
    level, tree = trees.roots, np.arange(len(trees.roots))
    levels, of_tree = [], []
    laid = np.zeros(len(trees.roots), TREE)
    while len(level):
        levels.append(level)
        of_tree.append(tree)
        inner = trees.left[level] != level
        level, tree = level[inner], tree[inner]
        laid["depth"][tree] = len(levels)
        level = np.column_stack([trees.right[level], trees.left[level]]).ravel()
        tree = np.repeat(tree, 2)
    order = np.concatenate(levels)[np.argsort(np.concatenate(of_tree), kind="stable")]
    place = np.zeros(len(order), np.int64)
    place[order] = np.arange(len(order))
    laid["root"] = place[trees.roots]
    leaf = trees.left[order] == order
    nodes = np.zeros(len(order), NODE)
    nodes["threshold"] = np.where(leaf, np.float32(np.nan), trees.threshold[order])
    steps = place[trees.right[order]] - np.arange(len(order))
    if max(steps.max(), trees.n_features) >= _LIMIT:
        raise DataError(
            "forest is too wide to be compiled",
            expected=f"fewer than {_LIMIT} features, and nodes from a node to its children",
            found=f"{trees.n_features} and {steps.max()}",
        )
    nodes["step"], nodes["feature"] = steps, trees.feature[order]
    return laid, nodes, trees.weight[order]
