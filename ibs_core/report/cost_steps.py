"""What the same trades had earned at other costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ibs_core.report.undefined import Undefined, ratio

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MULTIPLES", "break_even_multiple", "cost_steps"]

MULTIPLES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Of commission and slippage as they were charged."""


def cost_steps(trades: pl.DataFrame) -> list[dict[str, Any]]:
    """Price trades again at multiples of their costs; which trades were taken stays as it was.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.

    Returns
    -------
    list of dict
        One of each of `MULTIPLES`: ``multiple``, ``net_usd``, ``average_usd``, ``win_rate``,
        ``profit_factor``; None where undefined.
    """
    gross, costs = trades["gross_usd"].to_numpy(), _costs(trades).to_numpy()
    rows = []
    for multiple in MULTIPLES:
        net = gross - multiple * costs
        won, lost = math.fsum(net[net > 0].tolist()), -math.fsum(net[net < 0].tolist())
        values = {
            "net_usd": won - lost,
            "average_usd": ratio(won - lost, len(net), ""),
            "win_rate": ratio(int((net > 0).sum()), len(net), ""),
            "profit_factor": ratio(won, lost, ""),
        }
        known = {key: None if isinstance(each, Undefined) else each for key, each in values.items()}
        rows.append({"multiple": multiple, **known})
    return rows


def break_even_multiple(trades: pl.DataFrame) -> float | None:
    """Return how many times the costs could be before nothing is left.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.

    Returns
    -------
    float or None
        None without costs, or where nothing was earned before them.
    """
    gross, costs = (math.fsum(each.to_list()) for each in (trades["gross_usd"], _costs(trades)))
    return gross / costs if costs > 0 and gross > 0 else None


def _costs(trades: pl.DataFrame) -> pl.Series:
    return trades["commission_usd"] + trades["slippage_usd"]
