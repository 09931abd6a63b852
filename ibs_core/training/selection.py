"""Which features matter, told from the rows that a model may learn from and from no others.

Every ranking is made anew for every training part. Importance is told by forests of those rows:

*importance*: impurity importance. Fast; it is in-sample and favours features that split often.

*permutation*: how much worse rows that the forest did not see are predicted once a feature is shuffled among
them. The rows are divided for it by an inner purged cross-validation. Copies of a feature stand in for
each other, so that both look useless.

*clustered*: the same, features that move together shuffled together; then one of each group comes before
the second of any (M. López de Prado, Machine Learning for Asset Managers, 2020, chapters 4 and 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.cluster import AgglomerativeClustering
from sklearn.ensemble import RandomForestClassifier

from ibs_core.research.purging import combinatorial, unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.bars import Ints
    from ibs_core.training.plan import Plan
    from ibs_core.training.sample import Sample

__all__ = ["columns_of", "rank"]

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]

_REPEATS: Final = 3
_FARTHEST: Final = 0.3
"""Mean distance, 1 - |correlation|, up to which two groups of features are one."""
_ROWS_AT_ONCE: Final = 50_000
"""Shuffled rows that are scored together: each call costs a forest's trees."""


def rank(sample: Sample, plan: Plan) -> Ints:
    """Rank features by what they tell of these rows.

    Parameters
    ----------
    sample : Sample
        Of both classes.
    plan : Plan

    Returns
    -------
    (k,) int64
        Columns, the most important first; those that are missing too often or tell nothing are left out.
        Without a selection all that are not missing too often, in their own order.
    """
    columns = np.flatnonzero(np.isfinite(sample.rows).mean(axis=0) >= plan.present_min)
    if plan.selection == "none" or not len(columns):
        return columns
    if plan.selection == "importance":
        weight = _grown(sample.rows[:, columns], sample.target, plan).feature_importances_
        order = np.argsort(-weight, kind="stable")
        ranked: Ints = columns[order[weight[order] > 0]]
        return ranked
    if plan.selection == "permutation":
        groups = [np.array([i]) for i in range(len(columns))]
    else:
        groups = _alike(sample.rows[:, columns])
    return columns[_by_loss(sample, columns, groups, plan)]


def columns_of(ranking: Ints, keep: int) -> Ints:
    """Choose the most important features.

    Parameters
    ----------
    ranking : (k,) int64
    keep : int

    Returns
    -------
    (n,) int64
        Columns in their own order, n <= keep.
    """
    return np.sort(ranking[:keep])


def _grown(rows: Rows, target: Ints, plan: Plan) -> Any:
    """Grow a forest that ranks."""
    forest = RandomForestClassifier(
        plan.screen_trees,
        max_depth=5,
        min_samples_leaf=max(min(100, len(rows) // 20), 1),
        max_features="sqrt",
        random_state=plan.seed,
        n_jobs=1,
    )
    with config_context(skip_parameter_validation=True):
        return forest.fit(rows, target)


def _by_loss(sample: Sample, columns: Ints, groups: Sequence[Ints], plan: Plan) -> Ints:
    """Order columns by what shuffling their group costs on unseen rows, the first of each group first."""
    folds = combinatorial(sample.labels, n_groups=plan.inner_groups, n_test=1, embargo=plan.embargo)
    costs, impurity, n_tested = np.zeros(len(groups)), np.zeros(len(columns)), 0
    for number, fold in enumerate(folds):
        if unusable(fold, sample.target, n_train_min=2, n_test_min=1):
            continue
        forest = _grown(sample.rows[np.ix_(fold.train, columns)], sample.target[fold.train], plan)
        rows, target = sample.rows[np.ix_(fold.test, columns)], sample.target[fold.test]
        random = np.random.default_rng([plan.seed, number])
        orders = [random.permutation(len(rows)) for _ in range(_REPEATS)]
        weight = forest.feature_importances_
        used = [i for i, group in enumerate(groups) if weight[group].any()]
        costs[used] += len(rows) * _losses(forest, rows, target, [groups[i] for i in used], orders)
        impurity += weight
        n_tested += len(rows)
    if not n_tested:
        return np.zeros(0, np.int64)
    ranked = [i for i in np.argsort(-costs, kind="stable") if costs[i] > 0]
    inside = [groups[i][np.argsort(-impurity[groups[i]], kind="stable")] for i in ranked]
    firsts, rest = [group[:1] for group in inside], [group[1:] for group in inside]
    return np.concatenate([np.zeros(0, np.int64), *firsts, *rest])


def _losses(
    forest: Any, rows: Rows, target: Ints, groups: Sequence[Ints], orders: Sequence[Ints]
) -> Floats:
    """Tell by how much the mean log loss of rows grows with each group of columns shuffled."""
    plain = _log_loss(forest, rows, target)[0]
    found = np.zeros(len(groups))
    at_once = max(_ROWS_AT_ONCE // (len(rows) * len(orders)), 1)
    for first in range(0, len(groups), at_once):
        some = groups[first : first + at_once]
        shuffled = np.tile(rows, (len(some), len(orders), 1, 1))
        for i, group in enumerate(some):
            for j, order in enumerate(orders):
                shuffled[i, j][:, group] = rows[np.ix_(order, group)]
        losses = _log_loss(forest, shuffled.reshape(-1, rows.shape[1]), target)
        found[first : first + len(some)] = losses.reshape(len(some), -1).mean(axis=1) - plain
    return found


def _log_loss(forest: Any, rows: Rows, target: Ints) -> Floats:
    """Return the mean log loss of each block of as many rows as there are targets."""
    chance = forest.predict_proba(rows)[:, 1].reshape(-1, len(target))
    right = np.where(target == 1, chance, 1 - chance)
    losses: Floats = -np.log(np.maximum(right, 1e-6)).mean(axis=1)
    return losses


def _alike(rows: Rows) -> list[Ints]:
    """Group columns by average linkage on 1 - |correlation|."""
    if rows.shape[1] < 2:
        return [np.arange(rows.shape[1])]
    filled = rows.astype(np.float64)
    filled -= np.nanmean(filled, axis=0)
    filled = np.nan_to_num(filled)
    length = np.sqrt((filled**2).sum(axis=0))
    length[length == 0] = 1.0  # of a constant, which is like nothing
    filled /= length
    # Not by BLAS, whose sums depend on its number of threads.
    distance = np.clip(1 - np.abs(np.einsum("ri,rj->ij", filled, filled)), 0, 1)
    np.fill_diagonal(distance, 0)
    linked = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=_FARTHEST
    )
    cluster = linked.fit_predict(distance)
    return [np.flatnonzero(cluster == each) for each in dict.fromkeys(cluster.tolist())]
