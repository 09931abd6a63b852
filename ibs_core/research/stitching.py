"""Back-test paths: out-of-sample predictions of many splits joined into whole histories.

A combinatorial cross-validation tests each group of sessions in several splits. Each of them goes onto a
path of its own, so that a path holds every session once, out of sample (M. López de Prado, Advances in
Financial Machine Learning, 2018, chapter 12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.bars import Ints
    from ibs_core.research.purging import Split

__all__ = ["paths", "stitch"]

Floats = NDArray[np.float64]


def paths(splits: Sequence[Split]) -> Ints:
    """Tell which split tests each group on each path.

    Parameters
    ----------
    splits : sequence of Split
        All that `combinatorial` returned, in its order.

    Returns
    -------
    (n_paths, n_groups) int64
        Numbers of splits; n_paths = C(n_groups - 1, n_test - 1). The first path takes the first split that
        tests a group, the second path the second, and so on: each test of a group is on one path.
    """
    n_groups = 1 + max(max(split.test_groups) for split in splits)
    return np.array(
        [
            [i for i, split in enumerate(splits) if group in split.test_groups]
            for group in range(n_groups)
        ],
        np.int64,
    ).T


def stitch(splits: Sequence[Split], group: Ints, predictions: Sequence[Floats | None]) -> Floats:
    """Join the predictions for test rows into paths.

    Parameters
    ----------
    splits : sequence of Split
        All that `combinatorial` returned, in its order.
    group : (n_rows,) int64
        As `groups_of` returns it.
    predictions : sequence of (n_test,) float64 or None
        One for each split, for its test rows; None where the split was dropped.

    Returns
    -------
    (n_paths, n_rows) float64
        NaN where the split of that path was dropped.
    """
    path = paths(splits)
    out = np.full((len(path), len(group)), np.nan)
    for on_path, chosen in zip(out, path, strict=True):
        for number, i in enumerate(chosen):
            test, predicted = splits[i].test, predictions[i]
            if predicted is None:
                continue
            assert len(predicted) == len(test)
            of_group = group[test] == number
            on_path[test[of_group]] = predicted[of_group]
    return out
