"""The equity curve: realised and open P&L of each symbol at each of its session closes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.run import EQUITY, TOTAL
from ibs_core.report.trade_facts import day_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "FOREVER",
    "MARKS",
    "Lots",
    "OpenPosition",
    "PointCosts",
    "equity_curve",
    "symbol_values",
    "total_values",
    "value_open_positions",
]

MARKS: Final = pl.Schema(
    {"symbol": pl.String, "session_date": pl.Date, "close_ns": pl.Int64, "mark": pl.Float64}
)
"""One row a symbol and session: the instant of the close and the last minute close before it."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FOREVER: Final = np.iinfo(np.int64).max
"""The exit of a position that is still open."""


@dataclass(frozen=True)
class PointCosts:
    """State what one executed contract earns a point and costs to trade.

    Parameters
    ----------
    point_value_usd : float
        USD a point of price, > 0.
    commission_per_side_usd : float
        USD a side, >= 0.
    slippage_per_fill_usd : float
        USD a fill, >= 0.
    """

    point_value_usd: float
    commission_per_side_usd: float
    slippage_per_fill_usd: float

    @property
    def round_trip_usd(self) -> float:
        """Both commissions and both slippages of one contract."""
        return 2.0 * (self.commission_per_side_usd + self.slippage_per_fill_usd)


@dataclass(frozen=True)
class OpenPosition:
    """Describe a long position that the end of the data left open; it is not a trade.

    Parameters
    ----------
    symbol, instrument : str
        As in the trade table.
    quantity : int
        Contracts, > 0.
    entry_time_ns : int
        Fill time, UTC nanoseconds.
    entry_price : float
        Raw market price.
    """

    symbol: str
    instrument: str
    quantity: int
    entry_time_ns: int
    entry_price: float


class Lots(NamedTuple):
    """Positions of one symbol, trades first in their order, as arrays.

    Attributes
    ----------
    entry_ns, exit_ns : (n,) int64, UTC ns
        The exit is `FOREVER` of what is still open.
    entry_price : (n,) float64
    usd_per_point : (n,) float64
        Quantity included.
    costs_usd, net_usd : (n,) float64
        Of both sides; the net of what is still open does not count.
    """

    entry_ns: Ints
    exit_ns: Ints
    entry_price: Floats
    usd_per_point: Floats
    costs_usd: Floats
    net_usd: Floats


def equity_curve(
    trades: pl.DataFrame,
    marks: pl.DataFrame,
    open_positions: Sequence[OpenPosition],
    *,
    capital: float,
    contracts: Mapping[str, PointCosts],
) -> pl.DataFrame:
    """Value every symbol at each of its session closes, and the portfolio on each date.

    A trade is realised at the first close later than its exit and is open at every close later than
    its entry and not later than its exit. The last close of a symbol stands for the end of the data:
    whatever lies after it counts there, so the last equity is the capital, every trade's net and the
    open P&L.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.
    marks : polars.DataFrame
        Schema `MARKS`; a row for every symbol that trades or holds a position.
    open_positions : sequence of OpenPosition
        What was still open at the end.
    capital : float
        Stated capital, USD.
    contracts : mapping of str to PointCosts
        Of every symbol of `marks`; its order is the order of the symbols within a date.

    Returns
    -------
    polars.DataFrame
        Schema `EQUITY`, by date, symbols in the order of `contracts`, then the total. Realised is
        cumulative; open is net of all costs; equity = capital + realised + open in every row. A
        symbol without a session on a date counts in the total as at its session before.
    """
    lots = _lots(trades, open_positions, contracts)
    marks = marks.sort("close_ns")
    parts = [
        _symbol_curve(marks.filter(pl.col("symbol") == symbol), lots.filter(symbol=symbol))
        for symbol in contracts
    ]
    parts = [part for part in parts if part.height]
    parts.append(_total_curve(parts))
    order = pl.Enum([*contracts, TOTAL])
    return (
        pl.concat(parts)
        .with_columns(equity_usd=capital + pl.col("realised_usd") + pl.col("open_usd"))
        .sort("session_date", pl.col("symbol").cast(order), maintain_order=True)
        .select(pl.col(name).cast(dtype) for name, dtype in EQUITY.items())
    )


def value_open_positions(
    open_positions: Sequence[OpenPosition],
    marks: pl.DataFrame,
    contracts: Mapping[str, PointCosts],
) -> list[dict[str, Any]]:
    """List open positions at the last mark of their symbols, for ``stats["open_positions"]``.

    Parameters
    ----------
    open_positions : sequence of OpenPosition
        What was still open at the end.
    marks : polars.DataFrame
        Schema `MARKS`.
    contracts : mapping of str to PointCosts
        Of every symbol that is open.

    Returns
    -------
    list of dict
        JSON values; ``open_usd`` is net of all costs, those of the exit included.
    """
    rows = marks.sort("close_ns").select("symbol", "mark").rows()
    last = dict(rows)  # later rows win
    return [
        {
            "symbol": position.symbol,
            "instrument": position.instrument,
            "quantity": position.quantity,
            "entry_time": str(np.datetime64(position.entry_time_ns, "ns")) + "Z",
            "entry_price": position.entry_price,
            "mark": last[position.symbol],
            "open_usd": (last[position.symbol] - position.entry_price)
            * position.quantity
            * contracts[position.symbol].point_value_usd
            - position.quantity * contracts[position.symbol].round_trip_usd,
        }
        for position in open_positions
    ]


def _lots(
    trades: pl.DataFrame,
    open_positions: Sequence[OpenPosition],
    contracts: Mapping[str, PointCosts],
) -> pl.DataFrame:
    """One row a position: USD a point, entry value, costs, and when it was held."""
    point_value = [contracts[symbol].point_value_usd for symbol in trades["symbol"]]
    closed = trades.select(
        "symbol",
        entry_ns=pl.col("entry_time").dt.epoch("ns"),
        exit_ns=pl.col("exit_time").dt.epoch("ns"),
        entry_price="entry_price",
        usd_per_point=pl.col("quantity") * pl.Series(point_value, dtype=pl.Float64),
        costs_usd=pl.col("commission_usd") + pl.col("slippage_usd"),
        net_usd="net_usd",
    )
    rows = [
        (
            position.symbol,
            position.entry_time_ns,
            None,
            position.entry_price,
            position.quantity * contracts[position.symbol].point_value_usd,
            position.quantity * contracts[position.symbol].round_trip_usd,
            0.0,
        )
        for position in open_positions
    ]
    still_open = pl.DataFrame(rows, schema=closed.schema, orient="row")
    return pl.concat([closed, still_open])


def _symbol_curve(marks: pl.DataFrame, lots: pl.DataFrame) -> pl.DataFrame:
    realised, held = symbol_values(
        marks["close_ns"].to_numpy(),
        marks["mark"].to_numpy(),
        Lots(
            lots["entry_ns"].to_numpy(),
            lots["exit_ns"].fill_null(FOREVER).to_numpy(),
            *(lots[name].to_numpy() for name in Lots._fields[2:]),
        ),
    )
    return marks.select("session_date", "symbol", realised_usd=realised, open_usd=held)


def symbol_values(closes: Ints, mark: Floats, lots: Lots) -> tuple[Floats, Floats]:
    """Value the positions of one symbol at each of its session closes.

    Parameters
    ----------
    closes : (n_sessions,) int64, UTC ns, ascending
        The last stands for the end of the data.
    mark : (n_sessions,) float64
    lots : Lots

    Returns
    -------
    realised, open : (n_sessions,) float64
        USD; realised is cumulative, open is net of all costs.
    """
    n_sessions = len(closes)
    assert n_sessions or not len(lots.entry_ns), "a symbol that trades needs marks"
    closes = closes.copy()
    closes[-1:] = FOREVER
    first = np.minimum(np.searchsorted(closes, lots.entry_ns, side="right"), n_sessions - 1)
    is_closed = lots.exit_ns < FOREVER
    end = np.where(is_closed, np.searchsorted(closes, lots.exit_ns, side="right"), n_sessions)
    net = _sum_by(end[is_closed], lots.net_usd[is_closed], n_sessions)
    return np.cumsum(net), _open_usd(mark, lots, first, end)


def _open_usd(mark: Floats, lots: Lots, first: Ints, end: Ints) -> Floats:
    # One element a lot and close at which it is open, so that no running sum can drift.
    held = np.maximum(end - first, 0)
    lot = np.repeat(np.arange(len(held)), held)
    session = np.arange(held.sum()) - np.repeat(np.cumsum(held) - held, held) + first[lot]
    value = (mark[session] - lots.entry_price[lot]) * lots.usd_per_point[lot] - lots.costs_usd[lot]
    return _sum_by(session, value, len(mark))


def _sum_by(session: Ints, usd: Floats, n_sessions: int) -> Floats:
    # bincount() of nothing is of integers.
    return np.bincount(session, usd, n_sessions).astype(np.float64)


def _total_curve(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    seen = [part["session_date"] for part in parts] or [pl.Series(dtype=pl.Date)]
    dates = pl.concat(seen).unique().sort()
    total = total_values(
        day_numbers(dates),
        [
            (
                day_numbers(part["session_date"]),
                part.select("realised_usd", "open_usd").to_numpy().T,
            )
            for part in parts
        ],
    )
    return pl.DataFrame({"session_date": dates}).with_columns(
        symbol=pl.lit(TOTAL), realised_usd=total[0], open_usd=total[1]
    )


def total_values(days: Ints, parts: Sequence[tuple[Ints, Floats]]) -> Floats:
    """Add the values of all symbols up, each as at its session on or before a date.

    Parameters
    ----------
    days : (n,) int64, days since 1970-01-01
    parts : sequence of ((n_sessions,) int64, (2, n_sessions) float64)
        Days and values of each symbol.

    Returns
    -------
    (2, n) float64
    """
    total = np.zeros((2, len(days)))
    for own, values in parts:
        # The row of the symbol's last session on or before each date; -1 where there is none yet.
        row = np.searchsorted(own, days, side="right") - 1
        total += np.where(row >= 0, values[:, np.maximum(row, 0)], 0.0)
    return total
