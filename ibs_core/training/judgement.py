"""What a choice among candidates was worth: the numbers that a card reports."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.report.bootstrap import block_sessions, resampled_sums
from ibs_core.report.significance import deflated_sharpe, moments, probabilistic_sharpe
from ibs_core.research.overfitting import overfitting
from ibs_core.research.trial_ledger import Selection
from ibs_core.training.sample import sharpe_of
from ibs_core.training.search import COMMAND

if TYPE_CHECKING:
    from ibs_core.research.trial_ledger import TrialLedger
    from ibs_core.training.sample import Sample

__all__ = ["N_ERAS", "luck", "measure", "middle_path", "sure_to_help"]

N_ERAS: Final = 5
_N_BLOCKS: Final = 10
"""Of the symmetric cross-validation: 252 halves."""
_SESSIONS_A_YEAR: Final = 252
_N_RESAMPLES: Final = 2_000
_N_SESSIONS_MIN: Final = 20

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def measure(sample: Sample, selected: Mask) -> dict[str, Any]:
    """Measure what one position at a time earns with selected candidates, over the sessions of all of them.

    Parameters
    ----------
    sample : Sample
    selected : (n_rows,) bool

    Returns
    -------
    dict
        ``trades``, ``net_usd``, ``profit_factor`` (None without a loss), ``win_rate``,
        ``sharpe_per_session``, ``sharpe_annual``, ``sessions``, ``eras_net_usd`` (of five equal blocks of
        the sessions), ``eras_positive``: JSON values, None where undefined.
    """
    traded = sample.traded(
        selected
    )  # labels overlap: summed, they are an account that nobody can have
    returns = sample.returns(traded)[sample.judged()]
    earned = sample.net_usd[traded]
    lost = -float(earned[earned < 0].sum())
    sharpe = sharpe_of(returns)
    eras = [float(era.sum()) for era in np.array_split(returns, N_ERAS)]
    return {
        "trades": len(earned),
        "net_usd": float(earned.sum()),
        "profit_factor": float(earned[earned > 0].sum()) / lost if lost > 0 else None,
        "win_rate": float((earned > 0).mean()) if len(earned) else None,
        "sharpe_per_session": sharpe,
        "sharpe_annual": None if sharpe is None else sharpe * math.sqrt(_SESSIONS_A_YEAR),
        "sessions": len(returns),
        "eras_net_usd": eras,
        "eras_positive": sum(era > 0 for era in eras),
    }


def sure_to_help(sample: Sample, selected: Mask, *, seed: int) -> float | None:
    """Tell how sure it is that a history with the vetoes earned more than one without.

    Parameters
    ----------
    sample : Sample
    selected : (n_rows,) bool
    seed : int

    Returns
    -------
    float or None
        Share of resamples of the sessions (stationary bootstrap) in which it did, one position at a time
        in both. None where nothing was left out, or there are fewer sessions than `_N_SESSIONS_MIN`.
    """
    everything = np.ones(len(sample), np.bool_)
    veto, off = (sample.returns(sample.traded(each)) for each in (selected, everything))
    gained = (veto - off)[sample.judged()]
    if selected.all() or len(gained) < _N_SESSIONS_MIN:
        return None
    sums = resampled_sums(
        gained[:, None],
        n_resamples=_N_RESAMPLES,
        mean_block=block_sessions(len(gained)),
        seed=seed,
    )
    return float((sums > 0).mean())


def middle_path(sample: Sample, paths: Mask) -> tuple[int, list[float | None]]:
    """Choose the history by which a procedure is judged.

    Parameters
    ----------
    sample : Sample
    paths : (n_paths, n_rows) bool
        What was selected on each path.

    Returns
    -------
    int
        The path of the median Sharpe ratio, of two the worse; a mean over paths would be smoother than any
        history that one model could have had.
    list of float or None
        Sharpe ratio per session of every path.
    """
    judged = sample.judged()
    found = [sharpe_of(sample.returns(sample.traded(path))[judged]) for path in paths]
    values = np.array([-math.inf if each is None else each for each in found])
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2]), found


def luck(
    returns: Floats, ledger: TrialLedger, *, generated: bool, study: str, symbol: str | None = None
) -> dict[str, Any]:
    """Correct a result for the number of trials behind it.

    Parameters
    ----------
    returns : (n_sessions,) float64
        Of the history that is judged.
    ledger : TrialLedger
    generated : bool
        Trials on generated data count for generated data only, and the others for the others.
    study : str
        The search on all rows, whose trials are laid side by side.
    symbol : str, optional
        Whose trials tell how far Sharpe ratios without skill spread (decision 0009); default: all.

    Returns
    -------
    dict
        ``trials`` (every trial of every training in the ledger: all symbols, all retries),
        ``variance_of_sharpe`` (among those of the symbol), ``dsr``, ``psr`` (against 0), ``pbo``; None where undefined.
    """
    of = Selection(commands=(COMMAND,), generated=generated)
    n_trials, variance = ledger.count(of), ledger.variance_of_sharpe(replace(of, symbol=symbol))
    found = moments(returns)
    dsr = psr = None
    if found is not None:
        psr = probabilistic_sharpe(found, 0.0)
        if variance is not None:
            dsr = deflated_sharpe(found, n_trials=n_trials, variance=variance)
    matrix = ledger.returns_matrix(Selection(study=study)).returns
    wide = matrix.shape[1] >= 2 and len(matrix) >= 2 * _N_BLOCKS
    return {
        "trials": n_trials,
        "variance_of_sharpe": variance,
        "dsr": dsr,
        "psr": psr,
        "pbo": overfitting(matrix, n_blocks=_N_BLOCKS).probability if wide else None,
    }
