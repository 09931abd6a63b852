"""What a walk-forward found: in-sample beside out-of-sample, and how steady the choice was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ibs_core.walk_forward.worth import worth_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.sweep.grid import Grid
    from ibs_core.walk_forward.out_of_sample import Tested
    from ibs_core.walk_forward.stitch import Stitched

__all__ = ["COMPARED", "Results", "conclude"]

COMPARED: Final = ("sharpe", "profit_factor", "win_rate", "expectancy_usd")
"""Statistics that stand side by side, beside what a session earned; none that grows with the sessions."""

_COUNTED: Final = ("trades", "sessions", "net_usd", "open_usd")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """The numbers of a walk-forward, as JSON values.

    Attributes
    ----------
    windows : list of dict
        ``number``, ``train`` and ``test`` (first and last session date), ``parameters`` (None: nothing was
        chosen), ``plateau``, ``in_sample``, ``out_of_sample``, ``efficiency``, ``carried``; with vetoes also
        ``vetoes`` (by symbol, as `Veto.facts` tells them) and ``without_veto`` (as ``out_of_sample``).
    in_sample : dict
        Of the windows that were traded: what a session earned, and the mean over windows of each of `COMPARED`.
    out_of_sample : dict
        The same of the stitched run.
    efficiency : float or None
    stability : dict of str to dict
        By parameter: ``counts`` (a list of [value, windows], in the order of the grid), ``most`` (share of the
        windows that chose the most frequent value), ``changes`` and ``of`` (how often a choice differed from that
        before it).
    veto : dict or None
        As `worth_of` tells it; None where no veto was asked for.
    """

    windows: list[Row]
    in_sample: Row
    out_of_sample: Row
    efficiency: float | None
    stability: dict[str, Row]
    veto: Row | None = None

    def facts(self) -> Row:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def conclude(
    grid: Grid,
    tested: Sequence[Tested],
    stitched: Stitched,
    *,
    unvetoed: Stitched | None = None,
    seed: int = 0,
) -> Results:
    """Lay in-sample beside out-of-sample.

    Parameters
    ----------
    grid : Grid
    tested : sequence of Tested
    stitched : Stitched
        Of the same windows.
    unvetoed : Stitched, optional
        The same traded without a veto, where one was asked for.
    seed : int
        Of the resamples that tell how sure the value of the vetoes is.

    Returns
    -------
    Results
    """
    windows = [_window(grid, *pair) for pair in zip(tested, stitched.windows, strict=True)]
    if unvetoed is not None:
        for row, each, own in zip(windows, tested, unvetoed.windows, strict=True):
            row["vetoes"] = {root: veto.facts() for root, veto in each.fitted.vetoes.items()}
            row["without_veto"] = _side(own)
    traded = [row for row in windows if row["parameters"] is not None]
    within, without = (_pooled([row[side] for row in traded]) for side in _SIDES)
    means = {key: _mean([row["in_sample"][key] for row in traded]) for key in COMPARED}
    return Results(
        windows,
        within | means,
        _pooled([stitched.stats["total"]])
        | {key: stitched.stats["total"][key] for key in COMPARED},
        _efficiency(within, without),
        {path: _steadiness(path, grid, traded) for path in grid.paths},
        None if unvetoed is None else worth_of(tested, stitched, unvetoed, seed=seed),
    )


_SIDES: Final = ("in_sample", "out_of_sample")


def _window(grid: Grid, tested: Tested, own: Mapping[str, Any]) -> Row:
    fitted, window = tested.fitted, tested.fitted.window
    row: Row = {
        "number": window.number,
        "train": [each.isoformat() for each in window.train],
        "test": [each.isoformat() for each in window.test],
        "parameters": None,
        "plateau": None,
        "in_sample": None,
        "out_of_sample": _side(own),
        "efficiency": None,
        "carried": tested.carried,
    }
    if fitted.candidate is None or fitted.row is None:
        return row
    within = _side(fitted.row)
    return row | {
        "parameters": dict(zip(grid.paths, fitted.candidate.values, strict=True)),
        "plateau": fitted.row["plateau"],
        "in_sample": within,
        "efficiency": _efficiency(within, row["out_of_sample"]),
    }


def _side(of: Mapping[str, Any]) -> Row:
    return _pooled([of]) | {key: of[key] for key in COMPARED}


def _pooled(blocks: Sequence[Mapping[str, Any]]) -> Row:
    sums = {key: math.fsum(block[key] for block in blocks) for key in _COUNTED}
    n_sessions = int(sums["sessions"])
    earned = sums["net_usd"] + sums["open_usd"]
    return sums | {
        "trades": int(sums["trades"]),
        "sessions": n_sessions,
        "usd_per_session": earned / n_sessions if n_sessions else None,
    }


def _efficiency(within: Mapping[str, Any], without: Mapping[str, Any]) -> float | None:
    """Return out-of-sample per session as a share of in-sample; None where that earned nothing."""
    earned, kept = within["usd_per_session"], without["usd_per_session"]
    return kept / earned if earned is not None and kept is not None and earned > 0 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _steadiness(path: str, grid: Grid, traded: Sequence[Row]) -> Row:
    axis = next(each for each in grid.axes if each.path == path)
    # By their spelling: 1 and true are equal.
    chosen = [repr(row["parameters"][path]) for row in traded]
    counts = [chosen.count(repr(value)) for value in axis.values]
    return {
        "counts": [list(pair) for pair in zip(axis.values, counts, strict=True)],
        "most": max(counts) / len(chosen) if chosen else None,
        "changes": sum(before != after for before, after in pairwise(chosen)),
        "of": max(len(chosen) - 1, 0),
    }
