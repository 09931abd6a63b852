"""Forests: grown and asked. One thread each, so that sums have one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier

from ibs_core.research.purging import unusable
from ibs_core.training.selection import columns_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.bars import Ints
    from ibs_core.research.purging import Split
    from ibs_core.training.plan import Plan
    from ibs_core.training.sample import Sample

__all__ = ["ask", "complete", "grow", "out_of_fold", "usable_splits"]

Scores = NDArray[np.float32]


def complete(sample: Sample, columns: Ints) -> Ints:
    """Find the rows that miss none of some features.

    Parameters
    ----------
    sample : Sample
    columns : (n,) int64

    Returns
    -------
    (k,) int64
    """
    return np.flatnonzero(np.isfinite(sample.rows[:, columns]).all(axis=1))


def grow(sample: Sample, columns: Ints, parameters: Mapping[str, Any]) -> Any:
    """Fit a forest on the rows that miss nothing.

    Parameters
    ----------
    sample : Sample
    columns : (n,) int64
    parameters : mapping
        As `search` finds them.

    Returns
    -------
    sklearn.ensemble.RandomForestClassifier or None
        None where the rows left are of one class.
    """
    rows = complete(sample, columns)
    if not len(columns) or len(np.unique(sample.target[rows])) < 2:
        return None
    given = {key: value for key, value in parameters.items() if key != "keep"}
    forest = RandomForestClassifier(**given, n_jobs=1)
    with config_context(skip_parameter_validation=True):  # of each tree: a fifth of the time
        return forest.fit(sample.rows[np.ix_(rows, columns)], sample.target[rows])


def ask(forest: Any, sample: Sample, columns: Ints) -> Scores:
    """Score rows; NaN where a feature is missing.

    Parameters
    ----------
    forest : sklearn.ensemble.RandomForestClassifier
    sample : Sample
    columns : (n,) int64

    Returns
    -------
    (n_rows,) float32
    """
    scores = np.full(len(sample), np.nan, np.float32)
    rows = complete(sample, columns)
    if len(rows):
        scores[rows] = forest.predict_proba(sample.rows[np.ix_(rows, columns)])[:, 1]
    return scores


def out_of_fold(
    sample: Sample,
    splits: Sequence[Split],
    rankings: Sequence[Ints],
    parameters: Mapping[str, Any],
) -> Scores:
    """Score every row with a forest that did not see it.

    Parameters
    ----------
    sample : Sample
    splits : sequence of Split
        That test each row at most once.
    rankings : sequence of (k,) int64
        One for each split, of its training rows.
    parameters : mapping

    Returns
    -------
    (n_rows,) float32
        NaN where a row is tested by no usable split or misses a feature.
    """
    scores = np.full(len(sample), np.nan, np.float32)
    for split, ranking in zip(splits, rankings, strict=True):
        columns = columns_of(ranking, parameters["keep"])
        forest = grow(sample.take(split.train), columns, parameters)
        if forest is not None:
            scores[split.test] = ask(forest, sample.take(split.test), columns)
    return scores


def usable_splits(
    sample: Sample, splits: Sequence[Split], plan: Plan
) -> tuple[list[Split], list[str]]:
    """Drop the splits that cannot be fitted or judged.

    Parameters
    ----------
    sample : Sample
    splits : sequence of Split
    plan : Plan

    Returns
    -------
    list of Split
    list of str
        Why each of the others was dropped.
    """
    good, dropped = [], []
    for split in splits:
        why = unusable(
            split, sample.target, n_train_min=plan.n_train_min, n_test_min=plan.n_test_min
        )
        if why is None:
            good.append(split)
        else:
            dropped.append(f"split {split.test_groups}: {why}")
    return good, dropped
