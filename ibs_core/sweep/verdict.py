"""Whether what a sweep found is more than luck: the conditions that a choice among many must meet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core.report.significance import deflated_sharpe, moments, probabilistic_sharpe
from ibs_core.research.overfitting import overfitting

if TYPE_CHECKING:
    from ibs_core.bars import Floats

__all__ = ["DSR_MIN", "PBO_MAX", "SESSIONS_MIN", "Verdict", "judge"]

DSR_MIN: Final = 0.95
PBO_MAX: Final = 0.5
SESSIONS_MIN: Final = 100
"""With a return other than 0: of fewer, wins in a row that a near target makes likely have a ratio near 1."""

N_BLOCKS: Final = 10
"""Of the symmetric cross-validation: 252 halves, as trainings are judged by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the choice is worth.

    Attributes
    ----------
    trials : int
        Every trial behind it.
    dsr, psr, pbo : float or None
        Deflated Sharpe ratio of the choice, the same against 0, and the probability of back-test overfitting of
        the whole sweep; None where undefined.
    promotable : bool
        Whether no reason stands against it.
    reasons : tuple of str
        The conditions that it does not meet.
    """

    trials: int
    dsr: float | None
    psr: float | None
    pbo: float | None
    promotable: bool
    reasons: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"reasons": list(self.reasons)}


def judge(
    returns: Floats, choice: int, *, n_trials: int, variance: float | None, plateau: float | None
) -> Verdict:
    """Judge one choice among the candidates of a sweep.

    Parameters
    ----------
    returns : (n_sessions, n_candidates) float64
        Of every candidate, those that were not chosen too.
    choice : int
        Column of the one that was chosen.
    n_trials : int
        Every trial of every sweep, as the ledger counts them.
    variance : float or None
        Of their Sharpe ratios per session; None where fewer than two have one. That of the candidates counts where
        it is larger.
    plateau : float or None
        Its plateau score.

    Returns
    -------
    Verdict
        Promotable when the deflated Sharpe ratio is at least `DSR_MIN`, the probability of overfitting is at most
        `PBO_MAX`, the plateau score is above 0, and the choice has a return other than 0 in `SESSIONS_MIN` sessions
        or more. What is undefined meets no condition.
    """
    found = moments(returns[:, choice])
    psr = probabilistic_sharpe(found, 0.0) if found else None
    dsr = (
        deflated_sharpe(found, n_trials=n_trials, variance=max(variance, _variance(returns)))
        if found and variance is not None
        else None
    )
    wide = returns.shape[1] >= 2 and len(returns) >= 2 * N_BLOCKS
    pbo = overfitting(returns, n_blocks=N_BLOCKS).probability if wide else None
    reasons = []
    if dsr is None or dsr < DSR_MIN:
        reasons.append(f"deflated Sharpe ratio {_told(dsr)}, at least {DSR_MIN} is asked for")
    if pbo is None or pbo > PBO_MAX:
        reasons.append(f"probability of overfitting {_told(pbo)}, at most {PBO_MAX} is asked for")
    if plateau is None or not plateau > 0:
        reasons.append(f"plateau score {_told(plateau)}, above 0 is asked for")
    n_sessions = int(np.count_nonzero(returns[:, choice]))
    if n_sessions < SESSIONS_MIN:
        reasons.append(
            f"{n_sessions} sessions with a result, at least {SESSIONS_MIN} are asked for"
        )
    return Verdict(n_trials, dsr, psr, pbo, not reasons, tuple(reasons))


def _variance(returns: Floats) -> float:
    """Of the candidates' own ratios: trials that are alike, from earlier sweeps, must not lower the bar for these."""
    ratios = [found.sharpe for column in returns.T if (found := moments(column))]
    return float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
