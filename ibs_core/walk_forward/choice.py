"""Which candidate of a window's training sessions trades the test sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ibs_core.sweep.plateau import chosen, plateaus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.sweep.grid import Grid
    from ibs_core.sweep.paths import Value

__all__ = ["OBJECTIVES", "choose", "scored"]

OBJECTIVES: Final = ("plateau", "sharpe", "net")


def scored(table: pl.DataFrame, grid: Grid, tried: Sequence[tuple[Value, ...]]) -> pl.DataFrame:
    """Add the plateau score of each candidate to a table of training results.

    Parameters
    ----------
    table : polars.DataFrame
        One row a candidate.
    grid : Grid
    tried : sequence of tuple of JSON scalars
        Their values, in the same order.

    Returns
    -------
    polars.DataFrame
        With ``plateau``, null where a candidate has no neighbour.
    """
    sharpe = table["sharpe"].fill_null(np.nan).to_numpy()
    score = plateaus(grid, tried, sharpe).score
    return table.with_columns(plateau=pl.Series(score).fill_nan(None))


def choose(table: pl.DataFrame, objective: str) -> int | None:
    """Choose one candidate, among those that traded.

    Parameters
    ----------
    table : polars.DataFrame
        As `scored` returns it.
    objective : str
        Of `OBJECTIVES`: the highest plateau score, Sharpe ratio, or net profit with the open P&L.

    Returns
    -------
    int or None
        Row of the choice, of equals the first; None where no candidate traded, or none has what is asked for.
    """
    idle = table["trades"].to_numpy() == 0
    if objective == "net":
        earned = (table["net_usd"] + table["open_usd"]).to_numpy()
        return None if idle.all() else int(np.argmax(np.where(idle, -np.inf, earned)))
    sharpe, score = (
        np.where(idle, np.nan, table[name].fill_null(np.nan).to_numpy())
        for name in ("sharpe", "plateau")
    )
    if objective == "sharpe":
        score = np.full(len(sharpe), np.nan)
    return chosen(score, sharpe)
