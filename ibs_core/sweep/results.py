"""What a sweep found: a row a candidate with its plateau score, the choice, and whether it is more than luck."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import yaml

from ibs_core.research.trial_ledger import Selection
from ibs_core.sweep.plateau import at_edge, chosen, plateaus
from ibs_core.sweep.run import COMMAND, number_of
from ibs_core.sweep.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.bars import Floats
    from ibs_core.sweep.candidate import Candidate, CandidateMaker
    from ibs_core.sweep.grid import Grid
    from ibs_core.sweep.run import Record
    from ibs_core.sweep.verdict import Verdict

__all__ = ["FEW_TRADES", "Found", "conclude"]

FEW_TRADES: Final = 100
"""Below as many the choice is told to be mostly chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The results of a sweep.

    Attributes
    ----------
    grid : Grid
    table : polars.DataFrame
        One row a candidate, by number.
    choice, luckiest : dict or None
        The rows of the best plateau and of the highest Sharpe ratio; None where no candidate has one.
    overlay : dict
        The configuration of the choice, to be laid over that of the sweep.
    trials : int
        Every trial of every sweep in the ledger, on data of the same kind: generated or not.
    verdict : Verdict or None
        None without a choice.
    notes : tuple of str
        What a reader must know.
    generated : bool
    """

    grid: Grid
    table: pl.DataFrame
    choice: dict[str, Any] | None
    luckiest: dict[str, Any] | None
    overlay: dict[str, Any]
    trials: int
    verdict: Verdict | None
    notes: tuple[str, ...]
    generated: bool

    def facts(self) -> dict[str, Any]:
        """Return what the command prints, as JSON values."""
        return {
            "candidates": self.table.height,
            "grid": {axis.path: list(axis.values) for axis in self.grid.axes},
            "trials": self.trials,
            "choice": self.choice,
            "luckiest": self.luckiest,
            "verdict": self.verdict.facts() if self.verdict else None,
            "notes": list(self.notes),
            "generated_data": self.generated,
        }

    def texts(self) -> dict[str, str]:
        """Return the small files of the folder, by name."""
        files = {"summary.json": json.dumps(self.facts(), indent=2, sort_keys=True) + "\n"}
        if self.choice is not None:
            files["best.yml"] = yaml.safe_dump(self.overlay, sort_keys=False, width=100)
        return files


def conclude(
    grid: Grid,
    candidates: Sequence[Candidate],
    table: pl.DataFrame,
    maker: CandidateMaker,
    record: Record,
    *,
    warnings: Sequence[str],
) -> Found:
    """Score, choose and judge.

    Parameters
    ----------
    grid : Grid
    candidates : sequence of Candidate
        Those that were tried, by number.
    table : polars.DataFrame
        Their rows, in the same order.
    maker : CandidateMaker
    record : Record
    warnings : sequence of str
        Of the data.

    Returns
    -------
    Found
    """
    sharpe = table["sharpe"].fill_null(np.nan).to_numpy()
    scored = plateaus(grid, [each.values for each in candidates], sharpe)
    table = table.with_columns(
        neighbours=pl.Series(scored.neighbours),
        plateau=pl.Series(scored.score).fill_nan(None),
        worst_neighbour=pl.Series(scored.worst).fill_nan(None),
    )
    choice = chosen(scored.score, sharpe)
    luckiest = None if choice is None else int(np.nanargmax(sharpe))
    of = Selection(commands=(COMMAND,), generated=record.generated)
    trials = record.ledger.count(of)
    verdict = None
    if choice is not None:
        own = Selection(commands=(COMMAND,), generated=record.generated, symbol=record.symbol)
        verdict = judge(
            _returns(candidates, record),
            choice,
            n_trials=trials,
            variance=record.ledger.variance_of_sharpe(own),
            plateau=table["plateau"][choice],
        )
    return Found(
        grid,
        table,
        None if choice is None else table.row(choice, named=True),
        None if luckiest is None else table.row(luckiest, named=True),
        {} if choice is None else maker.overlay(candidates[choice].values),
        trials,
        verdict,
        (*_notes(table, choice), *_edges(grid, candidates, choice), *warnings),
        record.generated,
    )


def _returns(candidates: Sequence[Candidate], record: Record) -> Floats:
    """Lay the returns of the candidates side by side, in their order."""
    matrix = record.ledger.returns_matrix(Selection(study=record.study))
    place = {number: i for i, (_, number) in enumerate(matrix.trials)}
    return matrix.returns[:, [place[number_of(each.digest)] for each in candidates]]


def _notes(table: pl.DataFrame, choice: int | None) -> list[str]:
    idle = table.filter(pl.col("trades") == 0).height
    if idle == table.height:
        return [
            "no candidate made a trade: widen the grid, or look at what blocks entries with `ibs backtest`"
        ]
    notes = [f"{idle} of {table.height} candidates made no trade"] if idle else []
    if choice is None:
        return [*notes, "no candidate has a Sharpe ratio: the data hold too few sessions"]
    n_trades = table["trades"][choice]
    if n_trades < FEW_TRADES:
        count = "a single trade" if n_trades == 1 else f"{n_trades} trades"
        notes.append(f"the choice made {count}: below {FEW_TRADES} its numbers are mostly chance")
    if table["plateau"][choice] is None:
        notes.append(
            "no candidate has a neighbour, so there is no plateau: the highest Sharpe ratio leads"
        )
    return notes


def _edges(grid: Grid, candidates: Sequence[Candidate], choice: int | None) -> list[str]:
    edges = [] if choice is None else at_edge(grid, candidates[choice].values)
    if not edges:
        return []
    return [f"the choice lies at the edge of {', '.join(edges)}: what lies beyond was not tried"]
