"""The training part of a window: a sweep over bars that end with its training sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from ibs_core.sweep.folder import SweepFolder
from ibs_core.sweep.run import Sweep, study_of
from ibs_core.walk_forward.choice import choose, scored
from ibs_core.walk_forward.cut import StagesUntil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ibs_core.sweep.candidate import Candidate, CandidateMaker
    from ibs_core.sweep.grid import Grid
    from ibs_core.sweep.run import Record
    from ibs_core.sweep.stage import Stages
    from ibs_core.sweep.workers import Workers
    from ibs_core.walk_forward.veto import Veto
    from ibs_core.walk_forward.windows import Window

__all__ = ["Bench", "Fitted", "fit", "there"]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What the training sessions of a window chose.

    Attributes
    ----------
    window : Window
    candidate : Candidate or None
        None where no candidate could be chosen: the test sessions are not traded.
    row : dict or None
        Its training results.
    vetoes : mapping of str to Veto
        By root; empty where none was asked for.
    """

    window: Window
    candidate: Candidate | None
    row: dict[str, Any] | None
    vetoes: Mapping[str, Veto] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What every window is fitted with.

    Attributes
    ----------
    maker : CandidateMaker
    grid : Grid
    stages : Stages
        Over all sessions.
    roots : tuple of str
        What is traded, in contract-map order.
    record : Record
        Its study is that of each window instead.
    facts : dict
        What results depend on beside a rule and its training sessions, as JSON values.
    folder : Path
    objective : str
    workers : Workers
    resume : bool
    """

    maker: CandidateMaker
    grid: Grid
    stages: Stages
    roots: tuple[str, ...]
    record: Record
    facts: dict[str, Any]
    folder: Path
    objective: str
    workers: Workers
    resume: bool


def fit(
    bench: Bench, window: Window, marks: pl.DataFrame, progress: Callable[[str, int], None]
) -> Fitted:
    """Try every candidate on the training sessions of a window, and choose one.

    Parameters
    ----------
    bench : Bench
    window : Window
    marks : polars.DataFrame
        Schema `MARKS`; what has no session up to the training end is not there yet.
    progress : callable
        Called with what is done and the number of candidates just tried.

    Returns
    -------
    Fitted
    """
    roots = there(bench.roots, marks, window)
    stages = StagesUntil(bench.stages, roots, window.train, window.train_ends_ns)
    # Named by its cut too: `ibs sweep --end` knows of a roll right behind the end, this does not.
    span = [str(each) for each in window.train]
    study = study_of(**bench.facts, symbols=roots, span=span, until_ns=window.train_ends_ns)
    plan = {
        "study": study,
        "symbols": roots,
        "data_digest": bench.record.data_digest,
        "grid": {axis.path: list(axis.values) for axis in bench.grid.axes},
        "configuration": bench.maker.base,
        "train": span,
    }
    folder = SweepFolder(
        bench.folder / f"{window.number:03d}", plan, bench.grid, resume=bench.resume
    )
    task = Sweep(
        *(bench.maker, stages, replace(bench.record, study=study), folder),
        workers=bench.workers,
        progress=lambda _what, n: progress(f"(window {window.number})", n),
    )
    progress(f"(window {window.number})", len(task.rows))
    task.try_all(list(bench.grid.combinations()))
    candidates = bench.maker.made
    table = scored(
        folder.frame([task.rows[each.digest] for each in candidates]),
        bench.grid,
        [each.values for each in candidates],
    )
    place = choose(table, bench.objective)
    if place is None:
        folder.finish(table, {}, generated=bench.record.generated)
        return Fitted(window, None, None)
    best = candidates[place]
    text = yaml.safe_dump(bench.maker.overlay(best.values), sort_keys=False, width=100)
    folder.finish(table, {"best.yml": text}, generated=bench.record.generated)
    return Fitted(window, best, table.row(place, named=True))


def there(roots: Sequence[str], marks: pl.DataFrame, window: Window) -> list[str]:
    """Tell what has a session up to the training end.

    Parameters
    ----------
    roots : sequence of str
    marks : polars.DataFrame
        Schema `MARKS`.
    window : Window

    Returns
    -------
    list of str
    """
    seen = marks.filter(pl.col("session_date") <= window.train[1])["symbol"].unique()
    return [root for root in roots if root in set(seen)]
