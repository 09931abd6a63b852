"""What the histories of a procedure earned: each row selected by a search that did not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.research.purging import groups_of
from ibs_core.research.stitching import stitch
from ibs_core.training.judgement import measure, middle_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ibs_core.research.purging import Split
    from ibs_core.training.nested import Searched
    from ibs_core.training.parts import Parts
    from ibs_core.training.sample import Sample

__all__ = ["judge", "judge_forward"]


def judge(
    past: Sample, parts: Parts, searched: Mapping[str, Searched]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Measure a procedure on the history of its middle path.

    Parameters
    ----------
    past : Sample
    parts : Parts
    searched : mapping of str to Searched
        By name of the split.

    Returns
    -------
    metrics : dict
        ``out_of_sample`` and ``out_of_sample_base`` (every candidate let in), as `measure` returns them; ``path`` and
        ``paths_sharpe_per_session``.
    returns : (n_sessions,) float64, USD
        Of the history, over the sessions that it is judged by.
    """
    name_of = {each.test_groups: name for name, each in parts.judging.items()}
    selected = [
        searched[name_of[split.test_groups]].selected if split.test_groups in name_of else None
        for split in parts.outer
    ]
    n_groups = 1 + max(max(split.test_groups) for split in parts.outer)
    paths = stitch(parts.outer, groups_of(past.labels.session, n_groups), selected) == 1.0
    middle, sharpes = middle_path(past, paths)
    metrics = {
        "out_of_sample": measure(past, paths[middle]),
        "out_of_sample_base": measure(past, np.ones(len(past), np.bool_)),
        "path": middle,
        "paths_sharpe_per_session": sharpes,
    }
    return metrics, past.returns(past.traded(paths[middle]))[past.judged()]


def judge_forward(
    past: Sample, forward: Mapping[str, Split], searched: Mapping[str, Searched]
) -> dict[str, Any] | None:
    """Measure a procedure block after block, on the sessions of the blocks that could be judged.

    Parameters
    ----------
    past : Sample
    forward : mapping of str to Split
        Blocks by name.
    searched : mapping of str to Searched

    Returns
    -------
    dict or None
        ``base``, ``filtered`` and the number of ``blocks``; None without a block.
    """
    if not forward:
        return None
    rows = past.take(np.concatenate([split.test for split in forward.values()]))
    selected = np.concatenate([searched[name].selected for name in forward]) == 1.0
    return {
        "base": measure(rows, np.ones(len(rows), np.bool_)),
        "blocks": len(forward),
        "filtered": measure(rows, selected),
    }
