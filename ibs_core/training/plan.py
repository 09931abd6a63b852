"""How a model is searched for and judged."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import comb
from typing import Final

from ibs_core.errors import ConfigError

__all__ = ["SELECTIONS", "Plan", "Space"]

SELECTIONS: Final = ("importance", "permutation", "clustered", "none")
"""How features are ranked; see `ibs_core.training.selection`."""


@dataclass(frozen=True, slots=True)
class Space:
    """The hyper-parameters to search.

    Attributes
    ----------
    trees, min_leaf : tuple of int
    depths : tuple of int or None
        None: no limit.
    max_features : tuple of str or float
    bootstrap : tuple of bool
    max_samples : tuple of (float, float)
        Least and greatest share of rows of a tree, with bootstrap only.
    class_weight : tuple of str or None
    keep : tuple of int
        Numbers of features, the most important first.
    """

    trees: tuple[int, ...] = (300, 600, 900, 1200)
    min_leaf: tuple[int, ...] = (50, 100, 200)
    depths: tuple[int | None, ...] = (3, 5, 7, None)
    max_features: tuple[str | float, ...] = ("sqrt", "log2", 0.3, 0.5)
    bootstrap: tuple[bool, ...] = (True, False)
    max_samples: tuple[float, float] = (0.6, 0.95)
    class_weight: tuple[str | None, ...] = (None, "balanced_subsample")
    keep: tuple[int, ...] = (10, 20, 30)


_NO_MATTER: Final = ("trials", "jobs", "walk_forward")
"""To the trials of any one search."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every number of a training but the data.

    Attributes
    ----------
    trials : int, >= 1
        Of each search.
    holdout : float, 0 < holdout < 1
        Share of the sessions, the last ones, that is looked at once, at the end.
    groups, test_groups : int
        Of the outer cross-validation.
    walk_forward : bool
        Also judge block after block, each by what was searched on the sessions before it.
    inner_groups : int
        Of the cross-validation inside a search; each is tested alone.
    embargo : int, >= 0
        Sessions.
    seed : int, >= 0
        A trial's forests are grown with this plus the trial's number.
    n_train_min, n_test_min : int
        Fewest rows of the parts of a split.
    n_selected_min : int
        Fewest candidates that a threshold selects.
    selection : str
        How features are ranked, one of `SELECTIONS`.
    screen_trees : int
        Of the forests that rank features.
    present_min : float
        Least share of rows in which a feature must have a value to be ranked.
    space : Space
    jobs : int
        Processes; -1 for one a core. Results do not depend on it.
    """

    trials: int = 30
    holdout: float = 0.2
    groups: int = 6
    test_groups: int = 2
    inner_groups: int = 3
    embargo: int = 2
    seed: int = 7
    n_train_min: int = 200
    n_test_min: int = 50
    n_selected_min: int = 30
    screen_trees: int = 100
    present_min: float = 0.8
    space: Space = field(default_factory=Space)
    jobs: int = -1
    selection: str = "importance"
    walk_forward: bool = False

    def __post_init__(self) -> None:
        """Refuse what no training can do."""
        if self.trials < 1:
            raise ConfigError("option --trials", expected="at least 1", found=f"{self.trials}")
        if self.jobs == 0:
            raise ConfigError(
                "option --jobs", expected="1 or more, or -1 for one a core", found="0"
            )
        if self.selection not in SELECTIONS:
            raise ConfigError(
                "option --selection",
                expected=f"one of {', '.join(SELECTIONS)}",
                found=self.selection,
            )
        if not 0 <= self.seed < 2**31:
            raise ConfigError("option --seed", expected="0 to 2147483647", found=f"{self.seed}")

    def n_searches(self) -> int:
        """Count the searches of one symbol: on all rows, inside each split, and before each block.

        Returns
        -------
        int
            The blocks of a walk-forward are one fewer than the groups.
        """
        blocks = self.groups - 1 if self.walk_forward else 0
        return 1 + comb(self.groups, self.test_groups) + blocks

    def digest(self) -> str:
        """Identify what decides the trials of a search.

        Returns
        -------
        str
            The same for more trials and for other machines: a search goes on where it was.
        """
        decides = {key: value for key, value in asdict(self).items() if key not in _NO_MATTER}
        return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
