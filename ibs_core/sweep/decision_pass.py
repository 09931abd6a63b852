"""The decision pass of one candidate: gates, decisions, equity, and the numbers of its row."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core import backtest, portfolio, signals
from ibs_core.groundwork import gates
from ibs_core.ledger import money_of, open_positions
from ibs_core.positions import by_exit
from ibs_core.report.curve import curve_statistics, session_pnl
from ibs_core.report.equity import FOREVER, Lots, symbol_values, total_values
from ibs_core.report.significance import moments
from ibs_core.report.undefined import Undefined, json_number, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.ledger import Line
    from ibs_core.report.equity import OpenPosition
    from ibs_core.sweep.stage import Job, Stage

__all__ = ["STATISTICS", "Tried", "digest_of", "replayed", "try_jobs"]

_OF_TRADES: Final = ("net_usd", "profit_factor", "win_rate", "expectancy_usd")
_OF_CURVE: Final = (
    *("sharpe", "sortino", "psr", "cagr", "max_drawdown_usd", "max_drawdown_days", "ulcer"),
    *("return_over_drawdown", "worst_session_usd", "open_usd"),
)
STATISTICS: Final = (*_OF_TRADES, *_OF_CURVE)
"""Statistics of a row beside the counts, by their keys in the definitions; of the whole portfolio."""


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """What came of one candidate.

    Attributes
    ----------
    number : int
    trades, sessions : int
        Counts.
    statistics : dict of str to float or None
        By `STATISTICS`; None where undefined.
    digest : str
        SHA-256 of the trades in hexadecimal: equal trades have the same.
    sharpe_per_session : float or None
    dates : (n_sessions,) int64, days since 1970-01-01
    returns : (n_sessions,) float64
        Net, as a share of the stated capital.
    """

    number: int
    trades: int
    sessions: int
    statistics: dict[str, float | None]
    digest: str
    sharpe_per_session: float | None
    dates: Ints
    returns: Floats


def try_jobs(stage: Stage, jobs: Iterable[Job]) -> Iterator[Tried]:
    """Try candidates that share a stage.

    Parameters
    ----------
    stage : Stage
    jobs : iterable of Job

    Yields
    ------
    Tried
        In the order of the jobs.
    """
    seen = np.zeros(len(stage.ground.schedule), signals.SIGNAL)
    for job in jobs:
        trades, _, book = replayed(stage, job, seen)
        yield _measured(stage, job, trades, book)


def replayed(stage: Stage, job: Job, seen: Records) -> tuple[Records, Records, Records]:
    """Replay one candidate.

    Parameters
    ----------
    stage : Stage
    job : Job
    seen : (n_bars,) SIGNAL
        Room, written.

    Returns
    -------
    (n_trades,) TRADE
    (n_decisions,) DECISION
    (n_symbols,) POSITION
        All as a back-test with the candidate's settings makes them.
    """
    ground = stage.ground
    gates(ground, job.params, seen)
    none = np.zeros(0, portfolio.INPUT)
    return backtest.decide(ground.laid, job.params, job.risk, ground.schedule, seen, none)


def _measured(stage: Stage, job: Job, trades: Records, book: Records) -> Tried:
    net = money_of(trades, job.lines).net_usd
    curve = _curve(stage, job, trades, net, book)
    of_curve = curve_statistics(
        curve,
        curve["equity_usd"].to_numpy(),  # bounds within a session are not asked for
        capital=job.capital,
        trials=Undefined("the sweep tells"),
    )
    values = _of_trades(net) | {name: of_curve[name] for name in _OF_CURVE}
    numbers = {name: json_number(values[name]) for name in STATISTICS}
    returns = session_pnl(curve, job.capital)["return"].to_numpy()
    found = moments(returns)
    return Tried(
        job.number,
        trades=len(trades),
        sessions=len(returns),
        statistics={
            name: None if isinstance(value, Undefined) else value for name, value in numbers.items()
        },
        digest=digest_of(trades),
        sharpe_per_session=found.sharpe if found else None,
        dates=stage.days,
        returns=returns,
    )


def _curve(stage: Stage, job: Job, trades: Records, net: Floats, book: Records) -> pl.DataFrame:
    """Return the equity of the portfolio, as `equity_curve` does, from arrays."""
    held = open_positions(book, job.lines)
    by_symbol = np.argsort(trades["symbol"], kind="stable")
    columns = [trades[name][by_symbol] for name in ("entry_ns", "exit_ns", "entry_price")]
    columns.append(net[by_symbol])
    stops = np.searchsorted(trades["symbol"][by_symbol], np.arange(len(job.lines) + 1))
    parts = []
    for i, (line, marks) in enumerate(zip(job.lines, stage.marks, strict=True)):
        own = slice(stops[i], stops[i + 1])
        lots = _lots(
            [column[own] for column in columns],
            [each for each in held if each.symbol == line.root],
            line,
        )
        parts.append((marks.days, np.stack(symbol_values(marks.closes_ns, marks.prices, lots))))
    realised, still = total_values(stage.days, parts)
    return pl.DataFrame(
        {
            "session_date": pl.Series(stage.days.astype("datetime64[D]")),
            "equity_usd": job.capital + realised + still,
            "open_usd": still,
        }
    )


def _lots(trades: list[Any], held: list[OpenPosition], line: Line) -> Lots:
    """Join the trades of one symbol, as entries, exits, prices and nets, with what is still open."""
    entry_ns, exit_ns, entry_price, net = trades
    costs, n, n_held = line.costs, len(net), len(held)
    fees = 2 * line.quantity * costs.commission_per_side_usd
    fees += 2 * line.quantity * costs.slippage_per_fill_usd
    still = line.quantity * costs.round_trip_usd
    return Lots(
        np.append(entry_ns, np.array([each.entry_time_ns for each in held], np.int64)),
        np.append(exit_ns, np.full(n_held, FOREVER)),
        np.append(entry_price, [each.entry_price for each in held]),
        np.full(n + n_held, line.quantity * costs.point_value_usd),
        np.append(np.full(n, fees), np.full(n_held, still)),
        np.append(net, np.zeros(n_held)),
    )


def digest_of(trades: Records) -> str:
    """Identify trades.

    Parameters
    ----------
    trades : (n_trades,) TRADE
        In any order.

    Returns
    -------
    str
        SHA-256 in hexadecimal, of the records by exit, symbol and entry.
    """
    return hashlib.sha256(by_exit(trades).tobytes()).hexdigest()


def _of_trades(net: Floats) -> dict[str, Any]:
    total, none = math.fsum(net.tolist()), "no trade"
    won, lost = (math.fsum(net[side].tolist()) for side in (net > 0, net < 0))
    return {
        "net_usd": total,
        "profit_factor": ratio(won, -lost, "no losing trade"),
        "win_rate": ratio(int(np.count_nonzero(net > 0)), len(net), none),
        "expectancy_usd": ratio(total, len(net), none),
    }
