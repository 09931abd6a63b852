"""The splits by which a procedure is judged: a combinatorial cross-validation and a walk-forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.errors import DataError
from ibs_core.research.purging import combinatorial, walk_forward
from ibs_core.training.forests import usable_splits
from ibs_core.training.search import inner_splits

if TYPE_CHECKING:
    from ibs_core.research.purging import Split
    from ibs_core.training.plan import Plan
    from ibs_core.training.sample import Sample

__all__ = ["Parts", "parts_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Splits, and the names of the searches inside their training parts.

    Attributes
    ----------
    outer : list of Split
        Of the combinatorial cross-validation, all of them.
    judging : dict of str to Split
        Those of it that can be used.
    forward : dict of str to Split
        Blocks of the walk-forward that can be used.
    dropped : list of str
        Why each of the others was dropped.
    """

    outer: list[Split]
    judging: dict[str, Split]
    forward: dict[str, Split]
    dropped: list[str]


def parts_of(past: Sample, plan: Plan) -> Parts:
    """Cut the splits, and drop those that cannot be searched in or judged.

    Parameters
    ----------
    past : Sample
        Rows before the holdout.
    plan : Plan

    Returns
    -------
    Parts

    Raises
    ------
    ConfigError
        The numbers of the plan do not fit together.
    DataError
        No split can be judged.

    Notes
    -----
    The walk-forward cuts the sessions into as many parts as the cross-validation: blocks of equal length, of
    which the first, with the rest of the division, is trained on only.
    """
    outer = combinatorial(
        past.labels, n_groups=plan.groups, n_test=plan.test_groups, embargo=plan.embargo
    )
    usable, dropped = usable_splits(past, outer, plan)
    if not usable:
        raise DataError(
            f"{past.symbol} has too few candidates to judge a model", found="; ".join(dropped)
        )
    forward: list[Split] = []
    if plan.walk_forward:
        n_sessions = len(np.unique(past.labels.session))
        block = n_sessions // plan.groups
        blocks = walk_forward(
            past.labels,
            train_sessions=n_sessions - (plan.groups - 1) * block,
            test_sessions=block,
            embargo=plan.embargo,
            rolling=False,
        )
        fit, why = usable_splits(past, blocks, plan)
        forward = [each for each in fit if inner_splits(past.take(each.train), plan)[0]]
        why += [
            f"split {each.test_groups}: too few rows to search"
            for each in fit
            if each not in forward
        ]
        dropped += [f"walk-forward {each}" for each in why]
    return Parts(
        outer,
        {"split-" + "-".join(map(str, each.test_groups)): each for each in usable},
        {f"forward-{each.test_groups[0]}": each for each in forward},
        dropped,
    )
