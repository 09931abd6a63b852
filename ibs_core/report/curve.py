"""Statistics of an equity curve: what it earned, how unevenly, and how far it fell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.significance import (
    N_SESSIONS_MIN,
    deflated_sharpe,
    moments,
    probabilistic_sharpe,
)
from ibs_core.report.trade_facts import day_numbers
from ibs_core.report.undefined import Undefined, ratio

if TYPE_CHECKING:
    from ibs_core.report.significance import Moments
    from ibs_core.report.undefined import Value

__all__ = ["SESSIONS_A_YEAR", "Trials", "curve_statistics", "session_pnl", "years_of"]

SESSIONS_A_YEAR: Final = 252
_DAYS_A_YEAR: Final = 365.25
_FEW: Final = f"fewer than {N_SESSIONS_MIN} sessions"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trials:
    """Tell what a result was chosen from, as the trial ledger counts it.

    Parameters
    ----------
    n_trials : int, >= 1
        Every trial that was run.
    variance : float, >= 0
        Of their Sharpe ratios per session, not annualised.
    """

    n_trials: int
    variance: float


def session_pnl(curve: pl.DataFrame, capital: float) -> pl.DataFrame:
    """Take the P&L of each session: the change in equity from one session close to the next.

    Parameters
    ----------
    curve : polars.DataFrame
        Rows of one symbol, or of the total, of the schema `EQUITY`, by date.
    capital : float
        Stated capital, USD, which stands before the first session.

    Returns
    -------
    polars.DataFrame
        ``session_date``, ``pnl_usd``, and ``return``: the P&L as a share of the stated capital.
    """
    pnl = np.diff(_equity(curve, capital))
    return curve.select(
        "session_date",
        pnl_usd=pl.Series(pnl, dtype=pl.Float64),
        **{"return": pl.Series(pnl / capital, dtype=pl.Float64)},
    )


def years_of(days: Ints) -> Value:
    """Measure the time from the first session to the last.

    Parameters
    ----------
    days : (n_sessions,) int64, days since 1970-01-01, ascending

    Returns
    -------
    float or Undefined
        Years of 365.25 days, both ends included; none below `N_SESSIONS_MIN` sessions.
    """
    if len(days) < N_SESSIONS_MIN:
        return Undefined(_FEW)
    return (int(days[-1] - days[0]) + 1) / _DAYS_A_YEAR


def curve_statistics(
    curve: pl.DataFrame, low: Floats, *, capital: float, trials: Trials | Undefined
) -> dict[str, Value]:
    """Compute the statistics that need only the equity.

    Parameters
    ----------
    curve : polars.DataFrame
        Rows of one symbol, or of the total, of the schema `EQUITY`, by date.
    low : (n_sessions,) float64, USD
        Lowest equity of each session, as `session_lows` bounds it.
    capital : float
        Stated capital, USD.
    trials : Trials or Undefined
        What to deflate the Sharpe ratio by, or why it is not.

    Returns
    -------
    dict of str to float or Undefined
        By key of `METRICS`.
    """
    equity, days = _equity(curve, capital), day_numbers(curve["session_date"])
    gain = float(equity[-1]) - capital
    values: dict[str, Value] = {
        "sessions": len(days),
        "open_usd": curve["open_usd"][-1] if len(days) else 0.0,
        "final_equity_usd": float(equity[-1]),
        "return_on_capital": gain / capital,
        "cagr": _cagr(float(equity[-1]) / capital, years_of(days)),
        **_variation(np.diff(equity), trials),
        **_drawdowns(equity, low, days),
    }
    for name in ("max_drawdown", "max_drawdown_intrabar"):
        values[f"{name}_of_capital"] = ratio(values[f"{name}_usd"], capital, "")
    values["calmar"] = ratio(values["cagr"], values["max_drawdown_of_peak"], "no drawdown")
    values["return_over_drawdown"] = ratio(gain, values["max_drawdown_usd"], "no drawdown")
    return values


def _equity(curve: pl.DataFrame, capital: float) -> Floats:
    return np.concatenate([[capital], curve["equity_usd"].to_numpy()])


def _cagr(growth: float, years: Value) -> Value:
    if isinstance(years, Undefined):
        return years
    if growth <= 0:
        return Undefined("all capital lost")
    try:
        return math.pow(growth, 1 / years) - 1
    except OverflowError:
        return Undefined("too large for a number")


def _variation(change: Floats, trials: Trials | Undefined) -> dict[str, Value]:
    none = Undefined("no session")
    values: dict[str, Value] = {
        "best_session_usd": float(change.max()) if len(change) else none,
        "worst_session_usd": float(change.min()) if len(change) else none,
    }
    if len(change) < N_SESSIONS_MIN:
        names = ("sharpe", "sortino", "psr", "dsr", "session_deviation_usd")
        return values | dict.fromkeys(names, Undefined(_FEW))
    mean, scale = float(change.mean()), math.sqrt(SESSIONS_A_YEAR)
    deviation = float(change.std(ddof=1))
    downside = math.sqrt(float(np.mean(np.minimum(change, 0.0) ** 2)))
    # Equal changes differ by rounding: a deviation that is nothing beside the mean is none.
    noise = 1e-9 * float(np.abs(change).max())
    flat, rising = (
        Undefined("equity changes alike in every session"),
        Undefined("no falling session"),
    )
    return values | {
        "session_deviation_usd": deviation,
        "sharpe": mean / deviation * scale if deviation > noise else flat,
        "sortino": mean / downside * scale if downside > noise else rising,
        **_significance(moments(change), flat, trials),
    }


def _significance(
    of: Moments | None, flat: Undefined, trials: Trials | Undefined
) -> dict[str, Value]:
    if of is None:
        return {"psr": flat, "dsr": flat}
    sure, deflated = probabilistic_sharpe(of, 0.0), None
    exact = Undefined("the Sharpe ratio has no error")
    if isinstance(trials, Trials):
        deflated = deflated_sharpe(of, n_trials=trials.n_trials, variance=trials.variance)
    return {
        "psr": exact if sure is None else sure,
        "dsr": trials if isinstance(trials, Undefined) else exact if deflated is None else deflated,
    }


def _drawdowns(equity: Floats, low: Floats, days: Ints) -> dict[str, Value]:
    peak = np.maximum.accumulate(equity)
    fall = peak - equity
    # Within a session the peak is the highest close before it.
    inside = np.concatenate([[0.0], peak[:-1] - low])
    return {
        "max_drawdown_usd": float(fall.max()),
        "max_drawdown_of_peak": float((fall / peak).max()),
        "max_drawdown_intrabar_usd": max(float(inside.max()), 0.0),
        "max_drawdown_intrabar_of_peak": max(
            float((inside / np.concatenate([peak[:1], peak[:-1]])).max()), 0.0
        ),
        "max_drawdown_days": _longest_drawdown_days(fall, days),
        "recovery_days": _recovery_days(equity, fall, days),
        "ulcer": math.sqrt(float(np.mean((fall / peak)[1:] ** 2)))
        if len(days)
        else Undefined("no session"),
    }


def _longest_drawdown_days(fall: Floats, days: Ints) -> int:
    """Return the most days from a peak to the session that regains it, or to the last."""
    if not len(days):
        return 0
    # The stated capital is the peak before the first session and bears its date.
    days = np.concatenate([days[:1], days])
    place = np.arange(len(fall))
    above = np.maximum.accumulate(np.where(fall > 0, 0, place))
    # What regains the peak still belongs to the drawdown that it ends.
    began = np.concatenate([above[:1], above[:-1]])
    under = (fall > 0) | (began < place - 1)
    return int((days[under] - days[began[under]]).max(initial=0))


def _recovery_days(equity: Floats, fall: Floats, days: Ints) -> Value:
    deepest = int(fall.argmax())
    if not fall[deepest]:
        return Undefined("no drawdown")
    regained = np.flatnonzero(equity[deepest:] >= equity[: deepest + 1].max())
    if not len(regained):
        return Undefined("not recovered")
    return float(days[deepest + regained[0] - 1] - days[deepest - 1])
