"""What each session of a run did to its equity: how it closed, how low and how high it may have stood within.

Amounts are whole millionths of a dollar, so that sums of them are exact in whatever order, and equal limits are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.errors import DataError
from ibs_core.report.intrabar import session_lows
from ibs_core.report.run import TOTAL
from ibs_core.report.trade_facts import SymbolFacts, day_numbers, with_facts
from ibs_core.report.training_window import windows_of
from ibs_core.sessions import load_sessions, local_ns

if TYPE_CHECKING:
    from ibs_core.contracts import ContractMap
    from ibs_core.report.run import Run

__all__ = ["MICRO", "Moves", "moves_of", "session_highs"]

MICRO: Final = 1_000_000
"""Units in a dollar."""
_HOUR_NS: Final = 3_600_000_000_000
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Sessions of a portfolio, in order; amounts in millionths of a USD.

    Attributes
    ----------
    days : (n_sessions,) int64
        Trade dates, days since 1970-01-01.
    pnl : (n_sessions,) int64
        From the close before to the close.
    low, high : (n_sessions,) int64
        Bounds within the session, from the close before: ``low <= min(pnl, 0)``, ``high >= max(pnl, 0)``.
    left_out : int
        Sessions of the run that are not here, because a model was trained on them.
    """

    days: Ints
    pnl: Ints
    low: Ints
    high: Ints
    left_out: int = 0

    @property
    def held(self) -> NDArray[np.bool_]:
        """Whether a position was held: whatever is held moves equity, be it by its costs alone."""
        moved: NDArray[np.bool_] = (self.pnl != 0) | (self.low != 0)
        return moved


def moves_of(run: Run, *, contracts: ContractMap | None = None) -> Moves:
    """Take the sessions of a run apart.

    Parameters
    ----------
    run : Run
    contracts : ContractMap, optional
        Says when the symbols' sessions are, which the highs need; None bounds them by the closes.

    Returns
    -------
    Moves
        Of the portfolio. Sessions that touch the training window of one of its models are left out.

    Raises
    ------
    DataError
        The run holds no lows, because an earlier version wrote it.
    """
    total = run.equity.filter(pl.col("symbol") == TOTAL)
    lows = run.lows.filter(pl.col("symbol") == TOTAL)
    if lows.height != total.height:
        raise DataError(
            "the run does not hold the lows of its sessions",
            expected=f"{total.height} rows in lows.parquet",
            found=f"{lows.height}",
            remedy="run the back-test again with this version",
        )
    capital = float(run.stats["capital_usd"])
    equity = _micro(np.concatenate([[capital], total["equity_usd"].to_numpy()]))
    before, pnl = equity[:-1], np.diff(equity)
    high = np.maximum(pnl, 0)
    if contracts is not None:
        top = session_highs(_facts(run, contracts), run.equity, capital=capital)
        high = np.maximum(high, _micro(_in_order(top, total, "high_usd")) - before)
    low = np.minimum(_micro(_in_order(lows, total, "low_usd")) - before, np.minimum(pnl, 0))
    days = day_numbers(total["session_date"])
    seen = np.zeros(len(days), np.bool_)
    for window in windows_of(run.stats).values():
        first, last = _trade_dates(np.array(window, np.int64))
        seen |= (days >= first) & (days <= last)
    kept = ~seen
    return Moves(days[kept], pnl[kept], low[kept], high[kept], int(seen.sum()))


def session_highs(trades: pl.DataFrame, equity: pl.DataFrame, *, capital: float) -> pl.DataFrame:
    """Bound the equity of each session from above, as `session_lows` does from below.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `FACTS`.
    equity : polars.DataFrame
        Schema `EQUITY`.
    capital : float
        Stated capital, USD.

    Returns
    -------
    polars.DataFrame
        ``session_date``, ``symbol``, ``high_usd``.
    """
    # The lows of the mirrored account: what it gains is lost, and its furthest is the MFE.
    money = ("gross_usd", "commission_usd", "slippage_usd", "net_usd")
    mirrored = trades.with_columns(
        *(-pl.col(name) for name in money), mae_usd=-pl.col("mfe_usd"), mfe_usd=-pl.col("mae_usd")
    )
    curve = equity.with_columns(
        -pl.col(name) for name in ("realised_usd", "open_usd", "equity_usd")
    )
    lows = session_lows(mirrored, curve, capital=-capital)
    return lows.select("session_date", "symbol", high_usd=-pl.col("low_usd"))


def _facts(run: Run, contracts: ContractMap) -> pl.DataFrame:
    entry, leave = (run.trades[name].dt.epoch("ns") for name in ("entry_time", "exit_time"))
    symbols = {}
    for root in run.trades["symbol"].unique():
        contract = contracts.get(root)
        first, last = int(entry.to_numpy().min()), int(leave.to_numpy().max())
        sessions = load_sessions(contract.session, first, last + 1)
        symbols[root] = SymbolFacts(contract.tick_value_usd, contract.point_value_usd, sessions)
    return with_facts(run.trades, symbols)


def _in_order(rows: pl.DataFrame, total: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a value of the portfolio for each of its sessions."""
    own = rows.filter(pl.col("symbol") == TOTAL)
    joined = total.select("session_date").join(
        own, on="session_date", how="left", maintain_order="left"
    )
    return joined[name].to_numpy()


def _micro(usd: NDArray[np.float64]) -> Ints:
    return np.rint(usd * MICRO).astype(np.int64)


def _trade_dates(instants: Ints) -> Ints:
    """Return the trade dates of instants, where sessions begin at 17:00 the day before."""
    return np.asarray((local_ns(instants) + 7 * _HOUR_NS) // (24 * _HOUR_NS))
