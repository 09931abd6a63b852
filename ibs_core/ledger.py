"""Records of the engine to the tables that people and other programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.bars import EXIT_REASONS, reordered
from ibs_core.orders import executed_contract
from ibs_core.portfolio import BLOCKS, ENTRY, FIRST_VETO
from ibs_core.positions import LEAVING, OPEN, by_exit
from ibs_core.report.equity import MARKS, OpenPosition, PointCosts
from ibs_core.report.run import BARS, DECISIONS, TRADES
from ibs_core.signals import FIRST_FILTER, FIRST_MISSING, GATES
from ibs_core.veto import MISSING, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.config import Costs
    from ibs_core.contracts import Contract
    from ibs_core.series import Series
    from ibs_core.sessions import Sessions
    from ibs_core.universe import Model, Symbol

__all__ = [
    "Line",
    "Money",
    "bars_frame",
    "blocked_counts",
    "decisions_frame",
    "line_of",
    "marks_frame",
    "money_of",
    "open_positions",
    "priced",
    "refused_counts",
    "trades_frame",
]

Records = NDArray[np.void]
_INSTANT = pl.Datetime("ns", "UTC")


class Line:
    """One traded symbol as the ledger needs it.

    Attributes
    ----------
    root : str
    quantity : int
    executed : Contract
    costs : PointCosts
    instruments : tuple of str
        Contract names by id.
    model : Model or None
    """

    def __init__(
        self,
        root: str,
        *,
        quantity: int,
        executed: Contract,
        costs: PointCosts,
        instruments: tuple[str, ...],
        model: Model | None = None,
    ) -> None:
        self.root = root
        self.quantity = quantity
        self.executed = executed
        self.costs = costs
        self.instruments = instruments
        self.model = model

    def reasons(self) -> list[str]:
        """Spell an entry's reasons by code; codes that mean nothing are empty."""
        names = ["taken", *(f"blocked:{name}" for name in BLOCKS)]
        names += [""] * (FIRST_VETO - len(names))
        features = self.model.features if self.model else ()
        return names + [reason_of(code, features) for code in range(MISSING + len(features))]


class Money(NamedTuple):
    """What trades earned and cost, USD, an element a trade.

    Attributes
    ----------
    quantity : (n,) int64
    point_usd : (n,) float64
        Of one contract.
    gross_usd, commission_usd, slippage_usd, net_usd : (n,) float64
    """

    quantity: NDArray[np.int64]
    point_usd: NDArray[np.float64]
    gross_usd: NDArray[np.float64]
    commission_usd: NDArray[np.float64]
    slippage_usd: NDArray[np.float64]
    net_usd: NDArray[np.float64]


def line_of(symbol: Symbol, instruments: Sequence[str], costs: Costs) -> Line:
    """Tell the ledger of a traded symbol.

    Parameters
    ----------
    symbol : Symbol
    instruments : sequence of str
        Contracts whose bars decided, by id.
    costs : Costs

    Returns
    -------
    Line
    """
    executed = symbol.executed
    return Line(
        symbol.root,
        quantity=symbol.quantity,
        executed=executed,
        costs=PointCosts(
            point_value_usd=executed.point_value_usd,
            commission_per_side_usd=costs.commission_per_side,
            slippage_per_fill_usd=costs.slippage_ticks * executed.tick_value_usd,
        ),
        instruments=tuple(executed_contract(symbol, name) for name in instruments),
        model=symbol.model,
    )


def trades_frame(trades: Records, lines: Sequence[Line]) -> pl.DataFrame:
    """Price the trades.

    Parameters
    ----------
    trades : (n_trades,) TRADE
    lines : sequence of Line
        By symbol index.

    Returns
    -------
    polars.DataFrame
        Schema `TRADES`, by exit time, then contract-map order.
    """
    return priced(by_exit(trades), lines)


def priced(trades: Records, lines: Sequence[Line]) -> pl.DataFrame:
    """Price trades in the order in which they come.

    Parameters
    ----------
    trades : (n_trades,) TRADE
    lines : sequence of Line
        By symbol index.

    Returns
    -------
    polars.DataFrame
        Schema `TRADES`.
    """
    symbol, money = trades["symbol"], money_of(trades, lines)
    score = pl.Series(trades["score"]).cast(pl.Float32).fill_nan(None)
    before = np.cumsum([0, *(len(line.instruments) for line in lines)])
    columns = {
        "symbol": _names([line.root for line in lines], symbol),
        "instrument": _names(
            [name for line in lines for name in line.instruments],
            before[symbol] + trades["contract"],
        ),
        "side": pl.repeat("long", len(trades), dtype=pl.String, eager=True),
        "quantity": money.quantity,
        "entry_time": _instants(trades["entry_ns"]),
        "entry_price": trades["entry_price"],
        "exit_time": _instants(trades["exit_ns"]),
        "exit_price": trades["exit_price"],
        "exit_reason": _names(EXIT_REASONS, trades["reason"] - 1),
        "gross_usd": money.gross_usd,
        "commission_usd": money.commission_usd,
        "slippage_usd": money.slippage_usd,
        "net_usd": money.net_usd,
        "bars_held": trades["bars_held"],
        "mae_usd": _points(trades["low"], trades["entry_price"]) * money.quantity * money.point_usd,
        "mfe_usd": _points(trades["high"], trades["entry_price"])
        * money.quantity
        * money.point_usd,
        "ibs_entry": trades["ibs_entry"],
        "ibs_exit": pl.Series(trades["ibs_exit"]).fill_nan(None),
        "score": score,
    }
    return pl.DataFrame(columns, schema=TRADES)


def money_of(trades: Records, lines: Sequence[Line]) -> Money:
    """Tell what trades earned and cost.

    Parameters
    ----------
    trades : (n_trades,) TRADE
    lines : sequence of Line
        By symbol index.

    Returns
    -------
    Money
    """
    symbol = trades["symbol"]
    quantity = np.array([line.quantity for line in lines], np.int64)[symbol]
    point = np.array([line.costs.point_value_usd for line in lines])[symbol]
    side = np.array([line.costs.commission_per_side_usd for line in lines])[symbol]
    fill = np.array([line.costs.slippage_per_fill_usd for line in lines])[symbol]
    gross = _points(trades["exit_price"], trades["entry_price"]) * quantity * point
    commission, slippage = 2 * quantity * side, 2 * quantity * fill
    return Money(quantity, point, gross, commission, slippage, gross - commission - slippage)


def decisions_frame(decisions: Records, lines: Sequence[Line]) -> pl.DataFrame:
    """Name the decisions.

    Parameters
    ----------
    decisions : (n_decisions,) DECISION
    lines : sequence of Line

    Returns
    -------
    polars.DataFrame
        Schema `DECISIONS`, by time; within a slice exits first.
    """
    order = np.argsort(decisions["time_ns"], kind="stable")
    decisions = reordered(decisions, order)
    entry = decisions["action"] == ENTRY
    reasons = [line.reasons() for line in lines]
    firsts = np.cumsum([0, *map(len, reasons)])[decisions["symbol"]]
    taken = _names(
        [name for each in reasons for name in each], firsts + decisions["reason"] * entry
    )
    limits = [line.model.threshold if line.model else None for line in lines]
    limit = pl.Series(limits, dtype=pl.Float32).gather(decisions["symbol"])
    left = _names(("", *EXIT_REASONS), decisions["reason"] * ~entry)
    return pl.DataFrame(
        {
            "time": _instants(decisions["time_ns"]),
            "symbol": _names([line.root for line in lines], decisions["symbol"]),
            "action": _names(("exit", "entry"), entry.astype(np.int64)),
            "reason": pl.select(pl.when(pl.Series(entry)).then(taken).otherwise(left)).to_series(),
            "score": pl.Series(decisions["score"]).cast(pl.Float32).fill_nan(None),
            "threshold": limit,
        },
        schema=DECISIONS,
    )


def blocked_counts(gates: NDArray[np.int64], filters: Sequence[str]) -> dict[str, int]:
    """Count the bars that each cheap gate stopped.

    Parameters
    ----------
    gates : (n_bars,) int64
        First failing gate of each bar.
    filters : sequence of str
        Names of the symbol's filters, in order.

    Returns
    -------
    dict of str to int
        Gates that stopped nothing are left out.
    """
    codes, counts = np.unique(gates, return_counts=True)
    names = {i + 1: name for i, name in enumerate(GATES)}
    names |= {FIRST_FILTER + i: name for i, name in enumerate(filters)}
    names |= {FIRST_MISSING + i: f"{name} missing" for i, name in enumerate(filters)}
    return {
        names[code]: count
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        if code in names
    }


def refused_counts(decisions: pl.DataFrame, root: str) -> dict[str, int]:
    """Count the candidates of a symbol that the slice refused.

    Parameters
    ----------
    decisions : polars.DataFrame
        Schema `DECISIONS`.
    root : str

    Returns
    -------
    dict of str to int
        By reason, in the order of the rules; reasons that refused nothing are left out.
    """
    entries = decisions.filter((pl.col("symbol") == root) & (pl.col("action") == "entry"))
    found = dict(entries["reason"].value_counts().iter_rows())
    named = ((block, found.get(f"blocked:{block}", 0)) for block in BLOCKS)
    vetoed = {reason: n for reason, n in sorted(found.items()) if reason.startswith("vetoed")}
    return {block: count for block, count in named if count} | vetoed


def marks_frame(series: Series, sessions: Sessions, first_date: int) -> pl.DataFrame:
    """Take each session's last close, the unfinished last session included.

    Parameters
    ----------
    series : Series
    sessions : Sessions
    first_date : int
        First session date to tell, days since 1970-01-01.

    Returns
    -------
    polars.DataFrame
        Schema `MARKS`; a session cut by a roll tells its last piece.
    """
    session, close = series.days["session"], series.days["close"]
    last = series.bars[-1:]
    if len(last) and (not len(session) or last["session"][0] >= session[-1]):
        session, close = np.append(session, last["session"]), np.append(close, last["close"])
    final = np.append(session[1:] != session[:-1], True) if len(session) else np.zeros(0, bool)
    session, close = session[final], close[final]
    keep = sessions.trade_date[session] >= first_date
    return pl.DataFrame(
        {
            "symbol": pl.repeat(series.root, int(keep.sum()), dtype=pl.String, eager=True),
            "session_date": sessions.trade_date[session][keep].astype("datetime64[D]"),
            "close_ns": sessions.close_ns[session][keep],
            "mark": close[keep],
        },
        schema=MARKS,
    )


def open_positions(book: Records, lines: Sequence[Line]) -> list[OpenPosition]:
    """List what the end of the data left open.

    Parameters
    ----------
    book : (n_symbols,) POSITION
    lines : sequence of Line

    Returns
    -------
    list of OpenPosition
    """
    return [
        OpenPosition(
            symbol=line.root,
            instrument=line.instruments[position["trade"]["contract"]],
            quantity=line.quantity,
            entry_time_ns=int(position["trade"]["entry_ns"]),
            entry_price=float(position["trade"]["entry_price"]),
        )
        for position, line in zip(book, lines, strict=True)
        if position["status"] in (OPEN, LEAVING)
    ]


def bars_frame(series: Series) -> pl.DataFrame:
    """Show the signal bars to a chart.

    Parameters
    ----------
    series : Series

    Returns
    -------
    polars.DataFrame
        Schema `BARS`.
    """
    bars = series.closed
    columns: Mapping[str, object] = {
        "start": _instants(bars["start_ns"]),
        "end": _instants(bars["end_ns"]),
        **{name: bars[name] for name in ("open", "high", "low", "close")},
        "merged": np.ones(len(bars), np.int64),
    }
    return pl.DataFrame(columns, schema=BARS)


def _points(price: NDArray[np.float64], entry: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract prices on the 1e-9 grid, so that a tick is exactly a tick."""
    return np.rint((price - entry) * 1e9) / 1e9


def _names(names: Sequence[str], codes: NDArray[np.int64]) -> pl.Series:
    return pl.Series(list(names), dtype=pl.String).gather(pl.Series(codes))


def _instants(ns: NDArray[np.int64]) -> pl.Series:
    return pl.Series(ns).cast(_INSTANT)
