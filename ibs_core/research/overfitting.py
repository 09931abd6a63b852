"""How likely choosing the best trial is to choose noise: the probability of back-test overfitting (PBO).

D. Bailey, J. Borwein, M. López de Prado and Q. Zhu, The Probability of Backtest Overfitting (2015):
combinatorially symmetric cross-validation (CSCV). The periods are cut into an even number of blocks; for
every half of the blocks the trial with the best Sharpe ratio is chosen, and its rank among all trials is
looked up in the other half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ibs_core.bars import Ints

__all__ = ["N_BLOCKS_MAX", "Overfitting", "overfitting"]

N_BLOCKS_MAX: Final = 20
"""184,756 halves; the paper's 16 blocks have 12,870."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Overfitting:
    """What becomes of the best trial outside the sample that chose it, over all halves.

    Attributes
    ----------
    probability : float, 0 to 1
        Share of halves whose chosen trial ranks at or below the median outside: logit <= 0. Near 0.5 the
        choice is worth nothing.
    loss_probability : float, 0 to 1
        Share of halves whose chosen trial has a Sharpe ratio below 0 outside.
    slope : float or None
        Performance degradation: of the least-squares line of `outside` over `inside`. None where all
        of `inside` are equal.
    chosen : (n_halves,) int64
        Trial with the best Sharpe ratio inside; of equals the first.
    inside, outside : (n_halves,) float64
        Its Sharpe ratios per period (ddof 1).
    logits : (n_halves,) float64
        ln(ω / (1 - ω)), where ω = rank outside / (n_trials + 1), 1 the worst; equals share their mean rank.
    """

    probability: float
    loss_probability: float
    slope: float | None
    chosen: Ints
    inside: Floats
    outside: Floats
    logits: Floats


def overfitting(returns: Floats, *, n_blocks: int) -> Overfitting:
    """Choose the best trial on every half of the blocks and judge it on the other half.

    Parameters
    ----------
    returns : (n_periods, n_trials) float64, finite
        Net return of each trial in each period, in order of time; the trials that were not chosen too.
    n_blocks : int, even, 2 to `N_BLOCKS_MAX`
        Contiguous, as equal as can be: where the periods do not divide, the first blocks have one more.

    Returns
    -------
    Overfitting
        Halves in lexicographic order of their blocks.

    Raises
    ------
    ConfigError
        The number of blocks is odd or out of its range.
    DataError
        There are fewer than two trials or than two periods a block, or a return is not finite.

    Notes
    -----
    Returns that are all equal in a half, such as those of a trial that never trades there, have no Sharpe
    ratio and count as 0: neither good nor bad.
    """
    _check(returns, n_blocks)
    blocks = _Blocks(returns, n_blocks)
    everything = frozenset(range(n_blocks))
    halves = [list(half) for half in combinations(range(n_blocks), n_blocks // 2)]
    chosen = np.zeros(len(halves), np.int64)
    inside, outside, rank = np.zeros((3, len(halves)))
    for i, half in enumerate(halves):
        there = blocks.sharpe(half)
        elsewhere = blocks.sharpe(sorted(everything.difference(half)))
        best = int(np.argmax(there))
        chosen[i], inside[i], outside[i] = best, there[best], elsewhere[best]
        worse = np.count_nonzero(elsewhere < outside[i])
        rank[i] = worse + (np.count_nonzero(elsewhere == outside[i]) + 1) / 2
    omega = rank / (returns.shape[1] + 1)
    logits = np.log(omega / (1 - omega))
    return Overfitting(
        # By ranks, which are exact: the median's logit need not be 0 to the last bit.
        probability=float(np.mean(2 * rank <= returns.shape[1] + 1)),
        loss_probability=float(np.mean(outside < 0)),
        slope=_slope(inside, outside),
        chosen=chosen,
        inside=inside,
        outside=outside,
        logits=logits,
    )


class _Blocks:
    """Sizes, means and sums of squared deviations, from which those of any half follow."""

    def __init__(self, returns: Floats, n_blocks: int) -> None:
        parts = np.array_split(returns, n_blocks)
        self.n = np.array([len(part) for part in parts], np.float64)
        self.mean = np.array([part.mean(axis=0) for part in parts])
        self.squares = np.array([((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in parts])
        # Equal returns differ by rounding: a deviation that is nothing beside the largest is none.
        self.noise = 1e-9 * np.array([np.abs(part).max(axis=0) for part in parts])

    def sharpe(self, half: list[int]) -> Floats:
        """Return each trial's Sharpe ratio per period; 0 where it has none."""
        n, means = self.n[half], self.mean[half]
        mean = n @ means / n.sum()
        # Deviations of the means, not differences of squares, which would cancel.
        squares = self.squares[half].sum(axis=0) + n @ (means - mean) ** 2
        deviation = np.sqrt(squares / (n.sum() - 1))
        noise = self.noise[half].max(axis=0)
        out = np.zeros(len(noise))
        np.divide(mean, deviation, out=out, where=deviation > noise)
        return out


def _slope(inside: Floats, outside: Floats) -> float | None:
    deviation = inside - inside.mean()
    squares = float(deviation @ deviation)
    if math.sqrt(squares) <= 1e-9 * float(np.abs(inside).max()) * len(inside):
        return None
    return float(deviation @ (outside - outside.mean())) / squares


def _check(returns: Floats, n_blocks: int) -> None:
    if n_blocks % 2 or not 2 <= n_blocks <= N_BLOCKS_MAX:
        raise ConfigError(
            "number of blocks", expected=f"an even number, 2 to {N_BLOCKS_MAX}", found=f"{n_blocks}"
        )
    assert returns.ndim == 2
    n_periods, n_trials = returns.shape
    if n_trials < 2:
        raise DataError(
            "too few trials", expected="at least 2, to choose among", found=f"{n_trials}"
        )
    if n_periods < 2 * n_blocks:
        raise DataError(
            "too few periods",
            expected=f"at least {2 * n_blocks}, two for each of {n_blocks} blocks",
            found=f"{n_periods}",
        )
    bad = np.argwhere(~np.isfinite(returns))
    if len(bad):
        period, trial = (int(each) for each in bad[0])
        raise DataError(
            "a return is not a number",
            expected="finite returns",
            found=f"{returns[period, trial]}",
            where=f"period {period} of trial {trial}",
        )
