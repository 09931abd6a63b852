"""A search of the grid by Optuna's tree of Parzen estimators, where the product is too large to try.

Proposals are made in rounds of a fixed size, each from all results of the rounds before, with a sampler seeded by
the trial's number: they depend neither on the number of processes nor on where a search was interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import optuna

from ibs_core.sweep.plateau import neighbours_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna.distributions import BaseDistribution

    from ibs_core.sweep.grid import Axis, Grid
    from ibs_core.sweep.paths import Value

__all__ = ["search"]

_ROUND: Final = 8
_N_BEST: Final = 5
_NOTHING: Final = -1e3
"""Value of a candidate without a Sharpe ratio; none per session is as low."""


def search(
    grid: Grid,
    try_all: Callable[[Sequence[tuple[Value, ...]]], Sequence[float | None]],
    *,
    n_trials: int,
    seed: int,
) -> None:
    """Propose combinations, then the neighbours of the best, so that these have a plateau score.

    Parameters
    ----------
    grid : Grid
    try_all : callable
        Takes combinations and returns their Sharpe ratios per session; what it knows it does not try again.
    n_trials : int, >= 1
        Proposals; the neighbours come on top.
    seed : int
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    distributions: dict[str, BaseDistribution] = {axis.path: _places(axis) for axis in grid.axes}
    found: dict[tuple[int, ...], float] = {}
    for first in range(0, n_trials, _ROUND):
        asked = []
        for number in range(first, min(first + _ROUND, n_trials)):
            study.sampler = optuna.samplers.TPESampler(
                seed=seed + number, multivariate=True, constant_liar=True
            )
            asked.append(study.ask(distributions))
        places = [tuple(int(each.params[path]) for path in grid.paths) for each in asked]
        values = [
            _NOTHING if each is None else each for each in try_all(_combinations(grid, places))
        ]
        for trial, place, value in zip(asked, places, values, strict=True):
            study.tell(trial, value)
            found[place] = value
    best = sorted(found, key=lambda place: (-found[place], place))[:_N_BEST]
    beside = [
        each for place in best for each in neighbours_of(grid, _combinations(grid, [place])[0])
    ]
    if beside:
        try_all(beside)


def _places(axis: Axis) -> BaseDistribution:
    numbers = all(
        isinstance(each, (int, float)) and not isinstance(each, bool) for each in axis.values
    )
    if numbers and list(axis.values) == sorted(axis.values):  # type: ignore[type-var]
        return optuna.distributions.IntDistribution(0, len(axis.values) - 1)
    return optuna.distributions.CategoricalDistribution(tuple(range(len(axis.values))))


def _combinations(grid: Grid, places: Sequence[tuple[int, ...]]) -> list[tuple[Value, ...]]:
    return [
        tuple(axis.values[k] for axis, k in zip(grid.axes, place, strict=True)) for place in places
    ]
