"""What statistics need to know of a trade beyond its row: ticks, notional value, the exchange's dates and hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from ibs_core.report.run import TRADES
from ibs_core.sessions import local_ns, trade_date_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ibs_core.sessions import Sessions

__all__ = ["FACTS", "SymbolFacts", "day_numbers", "with_facts"]

FACTS: Final = pl.Schema(
    [
        *TRADES.items(),
        ("tick_usd", pl.Float64()),  # what a tick on both fills costs
        ("notional_usd", pl.Float64()),  # of the entry
        ("entry_date", pl.Date()),  # trade dates
        ("exit_date", pl.Date()),
        ("entry_hour", pl.Int64()),  # of the exchange's clock, 0 to 23
    ]
)

_HOUR_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class SymbolFacts:
    """State what one symbol's trades are worth and when its sessions are.

    Parameters
    ----------
    tick_value_usd, point_value_usd : float
        USD a tick and a point of the executed contract, > 0.
    sessions : Sessions
        From before the first entry on.
    """

    tick_value_usd: float
    point_value_usd: float
    sessions: Sessions


def with_facts(trades: pl.DataFrame, symbols: Mapping[str, SymbolFacts]) -> pl.DataFrame:
    """Add to each trade what follows from its symbol.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.
    symbols : mapping of str to SymbolFacts
        Of every symbol of the trades.

    Returns
    -------
    polars.DataFrame
        Schema `FACTS`, by exit time, then symbol, then entry time.
    """
    parts = [
        _of_symbol(own, symbols[str(symbol)])
        for (symbol,), own in trades.group_by("symbol", maintain_order=True)
    ]
    rows = pl.concat([pl.DataFrame(schema=FACTS), *parts])
    return rows.sort("exit_time", "symbol", "entry_time", maintain_order=True)


def day_numbers(dates: pl.Series) -> NDArray[np.int64]:
    """Turn dates into numbers.

    Parameters
    ----------
    dates : polars.Series of Date

    Returns
    -------
    (n,) int64
        Days since 1970-01-01.
    """
    days: NDArray[np.int64] = dates.cast(pl.Int32).cast(pl.Int64).to_numpy()
    return days


def _of_symbol(trades: pl.DataFrame, facts: SymbolFacts) -> pl.DataFrame:
    entry, leave = (trades[name].dt.epoch("ns").to_numpy() for name in ("entry_time", "exit_time"))
    return trades.with_columns(
        tick_usd=2 * pl.col("quantity") * facts.tick_value_usd,
        notional_usd=(pl.col("entry_price") * facts.point_value_usd).abs() * pl.col("quantity"),
        entry_date=_dates(trade_date_of(facts.sessions, entry)),
        exit_date=_dates(trade_date_of(facts.sessions, leave)),
        entry_hour=pl.Series(local_ns(entry) // _HOUR_NS % 24),
    )


def _dates(days: NDArray[np.int64]) -> pl.Series:
    return pl.Series(days.astype("datetime64[D]"), dtype=pl.Date)
