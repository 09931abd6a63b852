"""What becomes of an account under a rule set on many paths: passed, failed by which rule, or undecided.

Rules are judged session by session. A session may end the account within, by its bounds; it is passed at its close.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.report.session_moves import MICRO

if TYPE_CHECKING:
    from ibs_core.prop_rules import PropRules
    from ibs_core.report.session_moves import Moves

__all__ = ["FAILURES", "PASSED", "UNDECIDED", "Paths", "at_closes", "judged", "walked"]

UNDECIDED: Final = 0
PASSED: Final = 1
FAILURES: Final = {"drawdown": 2, "daily_loss": 3}
"""What a path that failed is marked with, by the rule; of two in one session the first counts."""

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """Sessions drawn in other orders; amounts in millionths of a USD, from the start of the path.

    Attributes
    ----------
    pnl : (n_paths, n_sessions) int64
        Of each session.
    close, low, high : (n_paths, n_sessions) int64
        P&L since the start.
    peak : (n_paths, n_sessions) int64
        The highest close before the session, the start included.
    held : (n_paths, n_sessions) bool
    """

    pnl: Ints
    close: Ints
    low: Ints
    high: Ints
    peak: Ints
    held: Mask


def walked(moves: Moves, drawn: Ints) -> Paths:
    """Walk sessions in the order drawn.

    Parameters
    ----------
    moves : Moves
    drawn : (n_paths, n_sessions) int64
        Places in `moves`.

    Returns
    -------
    Paths
    """
    pnl = moves.pnl[drawn]
    close = np.cumsum(pnl, axis=1)
    peak = np.zeros_like(close)
    np.maximum.accumulate(close[:, :-1], axis=1, out=peak[:, 1:])
    np.maximum(peak, 0, out=peak)
    low, high = (close + (each - moves.pnl)[drawn] for each in (moves.low, moves.high))
    return Paths(pnl, close, low, high, peak, moves.held[drawn])


def at_closes(paths: Paths) -> Paths:
    """Return the same paths as if nothing had happened between session closes.

    Parameters
    ----------
    paths : Paths

    Returns
    -------
    Paths
    """
    before = paths.close - paths.pnl
    # Its own close is the last that a session shows: the floor follows it from the next session on.
    return replace(paths, low=np.minimum(paths.close, before), high=before)


def judged(rules: PropRules, paths: Paths) -> tuple[NDArray[np.int8], Ints]:
    """Judge every path by a rule set.

    Parameters
    ----------
    rules : PropRules
    paths : Paths

    Returns
    -------
    (n_paths,) int8
        `UNDECIDED`, `PASSED`, or one of `FAILURES`.
    (n_paths,) int64
        Sessions until then, that of the decision included.
    """
    n = paths.close.shape[1]
    broken = {"drawdown": _below_floor(rules, paths), "daily_loss": _lost(rules, paths)}
    verdict = np.full(len(paths.close), UNDECIDED, np.int8)
    decided = np.full(len(paths.close), n, np.int64)
    for mask, mark in (
        *((broken[name], mark) for name, mark in FAILURES.items()),
        (_earned(rules, paths), PASSED),
    ):
        if mask is None:
            continue
        first = np.where(mask.any(axis=1), mask.argmax(axis=1), n)
        earlier = first < decided
        verdict[earlier], decided[earlier] = mark, first[earlier]
    return verdict, np.minimum(decided + 1, n)


def _below_floor(rules: PropRules, paths: Paths) -> Mask | None:
    if rules.drawdown is None:
        return None
    room, lock = round(rules.drawdown.usd * MICRO), rules.drawdown.locks_at_usd
    if rules.drawdown.trails == "never":
        return paths.low <= -room
    floor = paths.peak - room
    if rules.drawdown.trails == "intraday":
        # The high before the low: no order of the minutes is worse.
        floor = np.maximum(np.maximum.accumulate(paths.high, axis=1), 0) - room
    if lock is not None:
        np.minimum(floor, round(lock * MICRO), out=floor)
    return paths.low <= floor


def _lost(rules: PropRules, paths: Paths) -> Mask | None:
    if rules.daily_loss is None or rules.daily_loss.ends == "session":
        return None
    return paths.low - (paths.close - paths.pnl) <= -round(rules.daily_loss.usd * MICRO)


def _earned(rules: PropRules, paths: Paths) -> Mask | None:
    if rules.profit_target_usd is None:
        return None
    earned: Mask = paths.close >= round(rules.profit_target_usd * MICRO)
    if rules.min_trading_days:
        earned &= np.cumsum(paths.held, axis=1) >= rules.min_trading_days
    if rules.best_day_share is not None:
        best = np.maximum.accumulate(paths.pnl, axis=1)
        earned &= best <= rules.best_day_share * paths.close
    return earned
