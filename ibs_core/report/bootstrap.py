"""How far a sum over sessions could have come out otherwise: the stationary bootstrap.

Source: D. Politis and J. Romano, The Stationary Bootstrap, Journal of the American Statistical Association
89(428), 1994. A resample is made of blocks that begin anywhere and have geometric lengths, the series closed
to a circle; it keeps the dependence of neighbours up to about the mean length, and is itself stationary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["block_sessions", "drawn_sessions", "resampled_sums"]

_CELLS: Final = 1 << 20  # resamples x sessions drawn at once, so that memory stays small


def block_sessions(n_sessions: int) -> int:
    """Choose the mean block length.

    Parameters
    ----------
    n_sessions : int, >= 1

    Returns
    -------
    int
        The cube root of the number of sessions, rounded up: the rate at which the best length grows (D.
        Politis and H. White, Automatic Block-Length Selection for the Dependent Bootstrap, Econometric
        Reviews 23(1), 2004). Its constant, which depends on the series, is taken as 1.
    """
    return next(n for n in range(1, n_sessions + 1) if n**3 >= n_sessions)


def resampled_sums(
    values: NDArray[np.float64], *, n_resamples: int, mean_block: float, seed: int
) -> NDArray[np.float64]:
    """Sum resamples of a series of sessions.

    Parameters
    ----------
    values : (n_sessions, n_columns) float64
        Sessions are drawn whole, with all columns: what moves symbols together stays together.
    n_resamples : int, >= 1
    mean_block : float, sessions, >= 1
        1 draws sessions one by one, without dependence.
    seed : int, >= 0

    Returns
    -------
    (n_resamples, n_columns) float64
        Of as many sessions as there are.
    """
    n = len(values)
    parts = [
        _times_drawn(drawn, n) @ values
        for drawn in drawn_sessions(
            n, n_drawn=n, n_resamples=n_resamples, mean_block=mean_block, seed=seed
        )
    ]
    return np.concatenate(parts)


def drawn_sessions(
    n_sessions: int, *, n_drawn: int, n_resamples: int, mean_block: float, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Draw resamples of a series of sessions, in their order.

    Parameters
    ----------
    n_sessions : int, >= 1
    n_drawn : int, >= 1
        Sessions of a resample.
    n_resamples : int, >= 1
    mean_block : float, sessions, >= 1
    seed : int, >= 0

    Yields
    ------
    (k, n_drawn) int64
        Which session is drawn, 0 to `n_sessions` - 1; as many resamples as stay small in memory, all of them in the
        end.
    """
    rng = np.random.default_rng(seed)
    step = max(_CELLS // n_drawn, 1)
    for first in range(0, n_resamples, step):
        k = min(step, n_resamples - first)
        starts = rng.random((k, n_drawn)) < 1 / mean_block
        starts[:, 0] = True
        place = np.arange(n_drawn)
        # The first place of each one's block.
        began = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
        origin = np.take_along_axis(rng.integers(0, n_sessions, (k, n_drawn)), began, axis=1)
        # An origin is uniform: wherever it is counted from, so is the start.
        yield (origin + place) % n_sessions


def _times_drawn(drawn: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Count how often each of `n` sessions is in each resample."""
    k = len(drawn)
    cells = (drawn + n * np.arange(k)[:, None]).ravel()
    return np.bincount(cells, minlength=k * n).reshape(k, n).astype(np.float64)
