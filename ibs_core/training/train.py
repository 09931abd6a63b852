"""Train one symbol: the whole procedure judged by nested cross-validation, then run once for the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ibs_core.bundle import Card, Window
from ibs_core.errors import DataError
from ibs_core.research.export import (
    export_forest,
    golden_rows,
    library_versions,
    max_difference,
)
from ibs_core.research.purging import combinatorial, first_of_last, holdout
from ibs_core.training.dataset import feature_digest
from ibs_core.training.forests import complete, grow, out_of_fold, usable_splits
from ibs_core.training.histories import judge, judge_forward
from ibs_core.training.judgement import luck, measure, sure_to_help
from ibs_core.training.nested import search_all
from ibs_core.training.parts import parts_of
from ibs_core.training.sample import choose_threshold
from ibs_core.training.search import Record
from ibs_core.training.selection import columns_of, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ibs_core.bars import Ints
    from ibs_core.contracts import ContractMap
    from ibs_core.research.purging import Split
    from ibs_core.research.trial_ledger import TrialLedger
    from ibs_core.training.dataset import Origin
    from ibs_core.training.nested import Searched
    from ibs_core.training.plan import Plan
    from ibs_core.training.sample import Sample
    from ibs_core.training.search import Found
    from ibs_core.veto import Scorer

__all__ = ["Trained", "Workshop", "train", "train_on_all"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a training works with beside its data.

    Attributes
    ----------
    contracts : ContractMap
    ledger : TrialLedger
    studies : Path
    open_model : callable
        Makes a scorer of the bytes of an ONNX file.
    clock : callable
        Returns UTC ns; goes to other processes.
    progress : callable
        Called, from more than one thread, with the symbol and the number of trials just done.
    """

    contracts: ContractMap
    ledger: TrialLedger
    studies: Path
    open_model: Callable[[bytes], Scorer]
    clock: Callable[[], int]
    progress: Callable[[str, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A model and its card, not written yet.

    Attributes
    ----------
    card : Card
    model : bytes
    """

    card: Card
    model: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Final:
    """The forest that trades.

    Attributes
    ----------
    forest : RandomForestClassifier
    columns : (n,) int64
    rows : (k,) int64
        Those that it was fitted on.
    threshold : float
    threshold_re_estimated : bool
    """

    forest: Any
    columns: Ints
    rows: Ints
    threshold: float
    threshold_re_estimated: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A model made and judged on the rows that it may see.

    Attributes
    ----------
    best : Found
    chosen : _Final
    model : bytes
    scorer : Scorer
    metrics : dict
    returns : (n_sessions,) float64
        Of the history that is judged.
    """

    best: Found
    chosen: _Final
    model: bytes
    scorer: Scorer
    metrics: dict[str, Any]
    returns: NDArray[np.float64]


def train(
    origin: Origin, sample: Sample, plan: Plan, workshop: Workshop, *, created_ns: int
) -> Trained:
    """Train one symbol.

    Parameters
    ----------
    origin : Origin
        Of the candidates: their dataset.
    sample : Sample
        Of one symbol of it.
    plan : Plan
    workshop : Workshop
    created_ns : int
        UTC ns; gives the version its date.

    Returns
    -------
    Trained

    Raises
    ------
    ConfigError
        The numbers of the plan do not fit together.
    DataError
        There are too few rows, or no trial selected enough of them.
    EnvironmentFault
        The ledger or the studies cannot be written.

    Notes
    -----
    The holdout's rows reach nothing but the last measurement: model, features and threshold are the same
    whatever they hold.
    """
    first = first_of_last(sample.labels.session, plan.holdout)
    aside = holdout(sample.labels, first_session=first, embargo=plan.embargo)
    if not len(aside.train):
        raise DataError(
            f"no candidate of {sample.symbol} is left before the holdout",
            expected="sessions before it, beyond the embargo",
            remedy="lower --holdout or --embargo, or add data",
        )
    past, future = sample.take(aside.train), sample.take(aside.test)
    made = _make(origin, past, plan, workshop)
    found = luck(
        made.returns,
        workshop.ledger,
        generated=origin.generated,
        study=made.best.study,
        symbol=past.symbol,
    )
    metrics = made.metrics | {
        "holdout": _look_at(future, made.scorer, made.chosen, plan.seed),
        "luck": found,
        "rows": _rows(past, made.chosen)
        | {"candidates": len(sample), "before_holdout": len(past), "holdout": len(future)},
    }
    card = _card(origin, past, plan, workshop, made, metrics, created_ns)
    return Trained(card.model_copy(update={"trials": found["trials"]}), made.model)


def train_on_all(
    origin: Origin, sample: Sample, plan: Plan, workshop: Workshop, *, created_ns: int
) -> Trained:
    """Train one symbol on rows that all lie before what the model will trade: no holdout is set aside.

    Parameters
    ----------
    origin : Origin
    sample : Sample
    plan : Plan
        Its share of a holdout counts for nothing.
    workshop : Workshop
    created_ns : int
        UTC ns; gives the version its date.

    Returns
    -------
    Trained
        Its card tells of no luck either: that is for whoever counts the trials of all trainings. So the same rows
        make the same bytes, whatever the ledger holds.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
        As `train`.
    """
    made = _make(origin, sample, plan, workshop)
    metrics = made.metrics | {"rows": _rows(sample, made.chosen) | {"candidates": len(sample)}}
    return Trained(_card(origin, sample, plan, workshop, made, metrics, created_ns), made.model)


def _make(origin: Origin, past: Sample, plan: Plan, workshop: Workshop) -> _Made:
    """Search, judge and fit on rows all of which may be seen."""
    record = _record(origin, past, plan, workshop)
    parts = parts_of(past, plan)
    everything: dict[str, Split | None] = {"all": None, **parts.judging, **parts.forward}
    searched = search_all(past, everything, plan, record, workshop.progress)
    workshop.progress(past.symbol, (plan.n_searches() - len(everything)) * plan.trials)  # dropped
    best = searched["all"].found
    chosen = _refit(past, plan, best)
    model = export_forest(chosen.forest, len(chosen.columns))
    scorer = workshop.open_model(model)
    fitted = past.rows[np.ix_(chosen.rows, chosen.columns)]
    judged, returns = judge(past, parts, searched)
    metrics = judged | {
        "dropped_splits": [*parts.dropped, *_notes(searched)],
        "export_max_difference": max_difference(chosen.forest, scorer, fitted),
        "plan": _plain(plan),
        "search_sharpe_per_session": best.sharpe,
        "threshold_re_estimated": chosen.threshold_re_estimated,
        "walk_forward": judge_forward(past, parts.forward, searched),
    }
    return _Made(best, chosen, model, scorer, metrics, returns)


def _card(
    origin: Origin,
    past: Sample,
    plan: Plan,
    workshop: Workshop,
    made: _Made,
    metrics: dict[str, Any],
    created_ns: int,
) -> Card:
    """Say what a model is, of how many trials of its own."""
    chosen, parameters = made.chosen, made.best.parameters
    assert parameters is not None
    names = tuple(past.names[column] for column in chosen.columns)
    told = json.dumps([past.symbol, chosen.threshold, metrics], sort_keys=True)
    version = sha256(made.model + told.encode())  # judged by other trials, it is another version
    day = datetime.fromtimestamp(created_ns // 10**9, UTC)
    fitted = past.rows[np.ix_(chosen.rows, chosen.columns)]
    return Card(
        symbol=past.symbol,
        version=f"{day:%Y%m%d}-{version.hexdigest()[:8]}",
        created=created_ns,
        features=names,
        feature_digest=feature_digest(names, workshop.contracts),
        threshold=chosen.threshold,
        window=Window(
            first_decision=int(past.labels.start_ns.min()),
            last_label_end=int(past.labels.end_ns.max()),
        ),
        data_digest=origin.data_digest,
        contract_map_digest=origin.contract_map_digest,
        generated=origin.generated,
        strategy=origin.strategies[past.symbol],
        parameters=parameters,
        seed=parameters["random_state"],
        trials=plan.n_searches() * plan.trials,
        metrics=metrics,
        libraries=library_versions(),
        golden=golden_rows(made.scorer, fitted, threshold=chosen.threshold, seed=plan.seed),
        model_sha256=sha256(made.model).hexdigest(),
        promotion=None,
    )


def _record(origin: Origin, past: Sample, plan: Plan, workshop: Workshop) -> Record:
    """Name the studies by all that decides their trials: the rows before the holdout and the plan."""
    seen = sha256(plan.digest().encode())
    held = past.labels
    for part in (
        past.rows,
        past.net_usd,
        held.session,
        held.start_ns,
        held.end_ns,
        past.exit_session,
    ):
        seen.update(part.tobytes())
    seen.update(repr((past.names, origin.data_digest, past.dates.tolist())).encode())
    return Record(
        ledger=workshop.ledger,
        studies=workshop.studies,
        prefix=f"{past.symbol}-{seen.hexdigest()[:12]}",
        data_digest=origin.data_digest,
        feature_digest=feature_digest(past.names, workshop.contracts),
        generated=origin.generated,
        clock=workshop.clock,
    )


def _notes(searched: Mapping[str, Searched]) -> list[str]:
    """Tell what the searches could not do."""
    notes = []
    for name, each in searched.items():
        where = "all rows" if each.selected is None else f"inside {name}"
        notes += [f"{where}: {why}" for why in each.found.dropped]
        if each.found.parameters is None:
            notes.append(f"{where}: no trial selected enough, so nothing is taken")
    return notes


def _refit(past: Sample, plan: Plan, best: Found) -> _Final:
    """Fit the best trial on all rows before the holdout, and choose its threshold out of fold again."""
    if best.parameters is None:
        raise DataError(
            f"no trial on {past.symbol} selected enough candidates",
            expected=f"at least {plan.n_selected_min} out of fold",
            where="; ".join(best.dropped),
            remedy="add data, trials or another space",
        )
    columns = columns_of(rank(past, plan), best.parameters["keep"])
    forest = grow(past, columns, best.parameters)
    if forest is None:
        raise DataError(
            f"no forest can be grown for {past.symbol}",
            expected="candidates of both classes that miss no chosen feature",
        )
    folds = combinatorial(past.labels, n_groups=plan.groups, n_test=1, embargo=plan.embargo)
    splits, _ = usable_splits(past, folds, plan)
    rankings = [rank(past.take(split.train), plan) for split in splits]
    scores = out_of_fold(past, splits, rankings, best.parameters)
    choice = choose_threshold(past, scores, n_min=plan.n_selected_min)
    threshold = choice.threshold if choice else best.threshold
    return _Final(forest, columns, complete(past, columns), threshold, choice is not None)


def _look_at(future: Sample, scorer: Scorer, chosen: _Final, seed: int) -> dict[str, Any]:
    """Score the holdout, once, with the file that trades."""
    rows = complete(future, chosen.columns)
    selected = np.zeros(len(future), np.bool_)
    scores = scorer.score(future.rows[np.ix_(rows, chosen.columns)])
    selected[rows] = scores >= np.float32(chosen.threshold)
    everything = np.ones(len(future), np.bool_)
    return {
        "base": measure(future, everything),
        "filtered": measure(future, selected),
        "sure_to_help": sure_to_help(future, selected, seed=seed),
        "missing_a_feature": len(future) - len(rows),
        "first_session": str(future.dates[future.labels.session.min()].astype("datetime64[D]")),
    }


def _rows(past: Sample, chosen: _Final) -> dict[str, int]:
    """Count what became of the candidates that a model may see."""
    return {"fitted": len(chosen.rows), "missing_a_feature": len(past) - len(chosen.rows)}


def _plain(plan: Plan) -> dict[str, Any]:
    """Spell a plan as JSON values, without what does not matter."""
    spelt = {key: value for key, value in asdict(plan).items() if key != "jobs"}
    return {**spelt, "space": {key: list(value) for key, value in spelt["space"].items()}}
