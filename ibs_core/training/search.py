"""The search for features, hyper-parameters and a threshold, inside the rows that it is given.

A search is a study of Optuna's, seeded anew before each trial, so that a trial depends on the trials before
it and on nothing else: an interrupted search goes on as if it had not been. Each trial enters the trial
ledger before it enters the study: a trial that was run is never missing from the count.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import optuna
from sqlalchemy.exc import SQLAlchemyError

from ibs_core.errors import EnvironmentFault
from ibs_core.research.purging import combinatorial
from ibs_core.research.trial import Trial
from ibs_core.research.trial_ledger import Selection
from ibs_core.training.forests import out_of_fold, usable_splits
from ibs_core.training.sample import choose_threshold
from ibs_core.training.selection import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from optuna.distributions import BaseDistribution

    from ibs_core.research.purging import Split
    from ibs_core.research.trial_ledger import TrialLedger
    from ibs_core.training.plan import Plan, Space
    from ibs_core.training.sample import Choice, Sample

__all__ = ["COMMAND", "Found", "Record", "inner_splits", "prepare", "search"]

COMMAND: Final = "model train"
_NOTHING: Final = -1e3
"""Value of a trial that selects too little; no Sharpe ratio per session is as low."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where trials are recorded, and what of.

    Attributes
    ----------
    ledger : TrialLedger
    studies : Path
        SQLite file of the studies.
    prefix : str
        Of the names of all studies of one training.
    data_digest, feature_digest : str
    generated : bool
    clock : callable
        Returns UTC ns.
    """

    ledger: TrialLedger
    studies: Path
    prefix: str
    data_digest: str
    feature_digest: str
    generated: bool
    clock: Callable[[], int]

    def study(self, name: str) -> str:
        """Name a study.

        Parameters
        ----------
        name : str

        Returns
        -------
        str
            As the ledger and the studies know it.
        """
        return f"{self.prefix}-{name}"


@dataclass(frozen=True, slots=True)
class Found:
    """The best trial of a search.

    Attributes
    ----------
    study : str
    parameters : dict or None
        Of the forest, with ``keep``; None where no trial selected enough.
    threshold, sharpe : float
    dropped : tuple of str
        Inner splits that could not be used, and why.
    """

    study: str
    parameters: dict[str, Any] | None
    threshold: float
    sharpe: float
    dropped: tuple[str, ...]


def prepare(studies: Path) -> None:
    """Make the file of the studies, before processes share it.

    Parameters
    ----------
    studies : Path

    Raises
    ------
    EnvironmentFault
    """
    try:
        studies.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"studies {studies}",
            found=error.strerror or str(error),
            remedy="check the path and its permissions",
        ) from error
    with _opened(studies):
        pass


def inner_splits(sample: Sample, plan: Plan) -> tuple[list[Split], list[str]]:
    """Cut the rows of a search; without a split that can be used it cannot try anything.

    Parameters
    ----------
    sample : Sample
    plan : Plan

    Returns
    -------
    list of Split
    list of str
        As `usable_splits` returns them.
    """
    folds = combinatorial(sample.labels, n_groups=plan.inner_groups, n_test=1, embargo=plan.embargo)
    return usable_splits(sample, folds, plan)


def search(sample: Sample, plan: Plan, record: Record, name: str) -> Found:
    """Try `plan.trials` sets of hyper-parameters on purged inner splits of the rows.

    Parameters
    ----------
    sample : Sample
        All that the search may see.
    plan : Plan
    record : Record
    name : str
        Of the study, after the record's prefix.

    Returns
    -------
    Found
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    splits, dropped = inner_splits(sample, plan)
    study_name = record.study(name)
    if not splits:
        return Found(study_name, None, 0.0, 0.0, tuple(dropped))
    rankings = [rank(sample.take(split.train), plan) for split in splits]
    keep = plan.space.keep if plan.selection != "none" else (len(sample.names),)
    distributions = _distributions(plan.space, keep)
    with _opened(record.studies) as storage:
        kept = optuna.create_study(
            study_name=study_name, storage=storage, direction="maximize", load_if_exists=True
        )
        study = optuna.create_study(direction="maximize")
        # By number: what two processes tried at the same time was kept twice.
        made = {trial.user_attrs["number"]: trial for trial in kept.get_trials(deepcopy=False)}
        # No trial that the ledger lacks: where it was lost, they are made and counted anew.
        n_counted = record.ledger.count(Selection(study=study_name))
        for number in range(min(len(made), n_counted, plan.trials)):
            study.add_trial(made[number])
        for number in range(len(study.trials), plan.trials):
            study.sampler = optuna.samplers.TPESampler(seed=plan.seed + number, multivariate=True)
            asked = study.ask(distributions)
            parameters = _parameters(asked.params, plan.seed + number)
            choice = choose_threshold(
                sample,
                out_of_fold(sample, splits, rankings, parameters),
                n_min=plan.n_selected_min,
            )
            record.ledger.append(_trial(sample, record, study_name, number, parameters, choice))
            asked.set_user_attr("number", number)
            asked.set_user_attr("threshold", choice.threshold if choice else 0.0)
            kept.add_trial(study.tell(asked, choice.sharpe if choice else _NOTHING))
    best = study.best_trial
    value = best.value
    assert value is not None
    if value == _NOTHING:
        return Found(study_name, None, 0.0, 0.0, tuple(dropped))
    parameters = _parameters(best.params, plan.seed + best.number)
    return Found(study_name, parameters, best.user_attrs["threshold"], value, tuple(dropped))


def _distributions(space: Space, keep: tuple[int, ...]) -> dict[str, BaseDistribution]:
    choice = optuna.distributions.CategoricalDistribution
    return {
        "n_estimators": choice(space.trees),
        "min_samples_leaf": choice(space.min_leaf),
        "max_depth": choice(space.depths),
        "max_features": choice(space.max_features),
        "bootstrap": choice(space.bootstrap),
        "max_samples": optuna.distributions.FloatDistribution(*space.max_samples),
        "class_weight": choice(space.class_weight),
        "keep": choice(keep),
    }


def _parameters(drawn: dict[str, Any], seed: int) -> dict[str, Any]:
    """Make a forest's parameters: a share of rows counts with bootstrap only."""
    samples = drawn["max_samples"] if drawn["bootstrap"] else None
    return drawn | {"max_samples": samples, "random_state": seed}


def _trial(
    sample: Sample,
    record: Record,
    study: str,
    number: int,
    parameters: dict[str, Any],
    choice: Choice | None,
) -> Trial:
    judged = sample.judged() if choice else np.zeros(0, np.int64)
    return Trial(
        time_ns=record.clock(),
        command=COMMAND,
        study=study,
        number=number,
        symbol=sample.symbol,
        data_digest=record.data_digest,
        feature_digest=record.feature_digest,
        parameters=parameters | ({"threshold": choice.threshold} if choice else {}),
        seed=parameters["random_state"],
        sharpe=choice.sharpe if choice else None,
        n_trades=int(np.count_nonzero(choice.selected)) if choice else 0,
        generated=record.generated,
        sessions=sample.dates[judged],
        returns=sample.returns(choice.selected)[judged] if choice else np.zeros(0),
    )


@contextmanager
def _opened(studies: Path) -> Iterator[optuna.storages.RDBStorage]:
    """Open the studies, made when they are not there; a fault of the file is an error of ours."""
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{studies.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        raise EnvironmentFault(
            f"studies {studies}",
            found=str(cause).splitlines()[0],
            remedy="check the path, its permissions and the free space; moved away, the file is made anew",
        ) from error
