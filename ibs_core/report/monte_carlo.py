"""How a run could have come out otherwise: its sessions drawn again by the stationary bootstrap, path by path.

A session is drawn whole, all symbols together, its low and high with it. Quantities do not grow with equity, as in the
back-test: a path adds dollars.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.errors import ConfigError, DataError
from ibs_core.report.bootstrap import block_sessions, drawn_sessions
from ibs_core.report.rule_outcomes import FAILURES, PASSED, UNDECIDED, at_closes, judged, walked
from ibs_core.report.session_moves import MICRO
from ibs_core.report.significance import N_SESSIONS_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibs_core.prop_rules import PropRules
    from ibs_core.report.rule_outcomes import Paths
    from ibs_core.report.session_moves import Moves

__all__ = ["LEVELS", "STATISTICS", "monte_carlo", "sentences", "sessions_needed"]

LEVELS: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Quantiles over paths; between two paths they are interpolated linearly."""
STATISTICS: Final = {
    "final_equity_usd": "Final equity",
    "max_drawdown_usd": "Max drawdown",
    "max_drawdown_intrabar_usd": "Max drawdown, intrabar",
}
_SHOWN: Final = (
    100  # points of the bands after the first, so that memory does not grow with sessions
)
_BINS: Final = 40
_CELLS: Final = 1 << 18  # paths x sessions
Ints = NDArray[np.int64]
Facts = dict[str, Any]


def sessions_needed(mean_block: float) -> int:
    """Tell how many sessions a run must have.

    Parameters
    ----------
    mean_block : float, sessions, >= 1

    Returns
    -------
    int
        Two blocks, and as many as any statistic of sessions needs.
    """
    return max(N_SESSIONS_MIN, math.ceil(2 * mean_block))


def monte_carlo(
    moves: Moves,
    *,
    capital: float,
    floor: float,
    n_paths: int,
    n_sessions: int | None = None,
    mean_block: float | None = None,
    seed: int,
    rules: PropRules | None = None,
) -> Facts:
    """Draw paths of sessions and measure them.

    Parameters
    ----------
    moves : Moves
    capital : float
        Stated capital, USD, at which every path starts.
    floor : float
        Equity, USD, at or below which a path is ruined.
    n_paths : int, >= 1
    n_sessions : int, optional
        Sessions of a path; default: as many as there are.
    mean_block : float, optional
        Sessions, >= 1; default: what `block_sessions` says.
    seed : int, >= 0
    rules : PropRules, optional
        What to judge the paths by.

    Returns
    -------
    dict
        JSON values: what was drawn; `LEVELS`; of each of `STATISTICS` the value of the run itself and the
        quantiles over paths; ``loss`` and ``ruin``, shares of paths; ``bands`` of equity; the ``histogram`` of the
        intrabar drawdown; ``rules``, None without any.

    Raises
    ------
    ConfigError
        The floor is not below the capital.
    DataError
        There are too few sessions, or nothing was held in any.
    """
    n = len(moves.pnl)
    block = block_sessions(max(n, 1)) if mean_block is None else mean_block
    _refuse(moves, capital, floor, block)
    length = n if n_sessions is None else n_sessions
    shown = np.unique(np.linspace(0, length, min(length, _SHOWN) + 1).round().astype(np.int64))
    draws = drawn_sessions(n, n_drawn=length, n_resamples=n_paths, mean_block=block, seed=seed)
    parts = [
        _measured(walked(moves, few), shown, rules) for drawn in draws for few in _slices(drawn)
    ]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    own = _measured(walked(moves, np.arange(n)[None]), shown[shown <= n], None)
    return {
        "paths": n_paths,
        "path_sessions": length,
        "sessions": n,
        "left_out_sessions": moves.left_out,
        "first_session": str(moves.days[0].astype("datetime64[D]")),
        "last_session": str(moves.days[-1].astype("datetime64[D]")),
        "mean_block_sessions": block,
        "seed": seed,
        "capital_usd": capital,
        "floor_usd": floor,
        "levels": list(LEVELS),
        **_spreads(found, own, capital),
        **_risks(found, round(floor * MICRO) - round(capital * MICRO)),
        "bands": {
            "sessions": shown.tolist(),
            "quantiles_usd": [_quantiles(each, capital) for each in found["equity"].T],
            "run_usd": (own["equity"][0] / MICRO + capital).tolist(),
        },
        "histogram": _histogram(found["max_drawdown_intrabar_usd"]),
        "rules": None if rules is None else _outcomes(rules, found),
    }


def sentences(facts: Facts) -> list[str]:
    """Tell in words what is no table.

    Parameters
    ----------
    facts : dict
        As `monte_carlo` returns them.

    Returns
    -------
    list of str
    """
    ruin, rules = facts["ruin"], facts["rules"]
    fallen = (
        f"falls to {facts['floor_usd']:,.0f} USD or below: {ruin['at_closes']:.1%} of paths at session closes, "
        f"{ruin['intrabar']:.1%} at most within sessions"
    )
    lines = [
        f"ends below the capital of {facts['capital_usd']:,.0f} USD: {facts['loss']:.1%} of paths",
        fallen,
    ]
    if rules is None:
        return lines
    failed = rules["failed"]
    passed = (
        f"passed: {rules['passed']:.1%} at least, by the bounds of each session; "
        f"{rules['passed_at_closes']:.1%} at most, by session closes alone"
    )
    if rules["rules"]["profit_target_usd"] is None:
        passed = "passed: nothing to earn, no path passes"
    lines += [
        passed,
        f"failed, by the bounds: {failed['drawdown']:.1%} by drawdown, {failed['daily_loss']:.1%} by daily loss",
        f"undecided after {facts['path_sessions']:,} sessions: {rules['undecided']:.1%}",
    ]
    if rules["sessions_to_pass"]:
        within = dict(zip(LEVELS, rules["sessions_to_pass"], strict=True))
        lines.append(
            f"sessions to pass: {within[0.5]:,.0f} in the median, {within[0.05]:,.0f} to "
            f"{within[0.95]:,.0f} in 90 % of those that pass"
        )
    return lines


def _slices(drawn: Ints) -> Iterator[Ints]:
    """Take so many paths at once that what is worked on stays in the processor's cache."""
    step = max(_CELLS // drawn.shape[1], 1)
    for first in range(0, len(drawn), step):
        yield drawn[first : first + step]


def _refuse(moves: Moves, capital: float, floor: float, mean_block: float) -> None:
    if not -math.inf < floor < capital:
        raise ConfigError(
            "option --floor",
            expected=f"an equity below the stated capital of {capital:,.0f} USD",
            found=f"{floor:,.0f}",
        )
    needed, n = sessions_needed(mean_block), len(moves.pnl)
    if n < needed:
        outside = " outside training windows" if moves.left_out else ""
        raise DataError(
            "too few sessions to draw from",
            expected=f"{needed} or more, for blocks of {mean_block:g}",
            found=f"{n}{outside}",
            remedy="back-test more sessions",
        )
    if not moves.held.any():
        raise DataError(
            "nothing to draw from", expected="a run with trades", found=f"none in {n} sessions"
        )


def _measured(paths: Paths, shown: Ints, rules: PropRules | None) -> dict[str, NDArray[Any]]:
    """Measure each path; amounts in millionths of a USD from its start."""
    start = np.zeros((len(paths.close), 1), np.int64)
    found: dict[str, NDArray[Any]] = {
        "final_equity_usd": paths.close[:, -1],
        "max_drawdown_usd": np.maximum((paths.peak - paths.close).max(axis=1), 0),
        "max_drawdown_intrabar_usd": np.maximum((paths.peak - paths.low).max(axis=1), 0),
        "lowest_close": paths.close.min(axis=1),
        "lowest": paths.low.min(axis=1),
        "equity": np.concatenate([start, paths.close[:, shown[1:] - 1]], axis=1),
    }
    if rules is not None:
        found["verdict"], found["decided"] = judged(rules, paths)
        found["at_closes"], _ = judged(rules, at_closes(paths))
    return found


def _spreads(
    found: dict[str, NDArray[Any]], own: dict[str, NDArray[Any]], capital: float
) -> dict[str, Facts]:
    level = {"final_equity_usd": capital}
    return {
        name: {
            "run_usd": float(own[name][0]) / MICRO + level.get(name, 0.0),
            "quantiles_usd": _quantiles(found[name], level.get(name, 0.0)),
        }
        for name in STATISTICS
    }


def _risks(found: dict[str, NDArray[Any]], ruin: int) -> Facts:
    return {
        "loss": float((found["final_equity_usd"] < 0).mean()),
        "ruin": {
            "at_closes": float((found["lowest_close"] <= ruin).mean()),
            "intrabar": float((found["lowest"] <= ruin).mean()),
        },
    }


def _outcomes(rules: PropRules, found: dict[str, NDArray[Any]]) -> Facts:
    verdict = found["verdict"]
    passed = verdict == PASSED
    return {
        "rules": rules.model_dump(mode="json"),
        "passed": float(passed.mean()),
        "passed_at_closes": float((found["at_closes"] == PASSED).mean()),
        "failed": {name: float((verdict == mark).mean()) for name, mark in FAILURES.items()},
        "undecided": float((verdict == UNDECIDED).mean()),
        "sessions_to_pass": np.quantile(found["decided"][passed], LEVELS).tolist()
        if passed.any()
        else None,
    }


def _quantiles(values: Ints, level: float) -> list[float]:
    found: list[float] = (np.quantile(values, LEVELS) / MICRO + level).tolist()
    return found


def _histogram(values: Ints) -> Facts:
    counts, edges = np.histogram(values / MICRO, bins=_BINS)
    return {"edges_usd": edges.tolist(), "paths": counts.tolist()}
