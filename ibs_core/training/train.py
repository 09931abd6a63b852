"""Train one symbol: the whole procedure judged by nested cross-validation, then run once for the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ibs_core.bundle import Card, Window
from ibs_core.errors import DataError
from ibs_core.research.export import (
    export_forest,
    golden_rows,
    library_versions,
    max_difference,
)
from ibs_core.research.purging import combinatorial, first_of_last, groups_of, holdout
from ibs_core.research.stitching import stitch
from ibs_core.training.dataset import feature_digest
from ibs_core.training.forests import (
    ask,
    columns_of,
    complete,
    grow,
    out_of_fold,
    rank,
    usable_splits,
)
from ibs_core.training.judgement import luck, measure, middle_path
from ibs_core.training.sample import choose_threshold
from ibs_core.training.search import Found, Record, prepare, search

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibs_core.bars import Ints
    from ibs_core.contracts import ContractMap
    from ibs_core.research.purging import Split
    from ibs_core.research.trial_ledger import TrialLedger
    from ibs_core.training.dataset import Dataset
    from ibs_core.training.plan import Plan
    from ibs_core.training.sample import Sample
    from ibs_core.veto import Scorer

__all__ = ["Trained", "Workshop", "train"]

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
        Called with what was done and the number of searches just ended.
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


def train(
    dataset: Dataset, sample: Sample, plan: Plan, workshop: Workshop, *, created_ns: int
) -> Trained:
    """Train one symbol.

    Parameters
    ----------
    dataset : Dataset
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
    past, future = sample.take(aside.train), sample.take(aside.test)
    record = _record(dataset, past, plan, workshop)
    outer = combinatorial(
        past.labels, n_groups=plan.groups, n_test=plan.test_groups, embargo=plan.embargo
    )
    usable, dropped = usable_splits(past, outer, plan)
    if not usable:
        raise DataError(
            f"{sample.symbol} has too few candidates to judge a model", found="; ".join(dropped)
        )
    best, selected, notes = _search_all(past, outer, usable, plan, record, workshop)
    chosen = _refit(past, plan, best)
    assert best.parameters is not None
    model = export_forest(chosen.forest, len(chosen.columns))
    scorer = workshop.open_model(model)
    fitted = past.rows[np.ix_(chosen.rows, chosen.columns)]
    metrics = _judge(past, outer, selected, workshop, dataset, best.study) | {
        "dropped_splits": [*dropped, *notes],
        "export_max_difference": max_difference(chosen.forest, scorer, fitted),
        "holdout": _look_at(future, scorer, chosen),
        "plan": _plain(plan),
        "search_sharpe_per_session": best.sharpe,
        "threshold_re_estimated": chosen.threshold_re_estimated,
        "rows": _rows(sample, past, future, chosen),
    }
    names = tuple(sample.names[column] for column in chosen.columns)
    made = sha256(model + repr((sample.symbol, chosen.threshold, record.prefix)).encode())
    day = datetime.fromtimestamp(created_ns // 10**9, UTC)
    card = Card(
        symbol=sample.symbol,
        version=f"{day:%Y%m%d}-{made.hexdigest()[:8]}",
        created=created_ns,
        features=names,
        feature_digest=feature_digest(names, workshop.contracts),
        threshold=chosen.threshold,
        window=Window(
            first_decision=int(past.labels.start_ns.min()),
            last_label_end=int(past.labels.end_ns.max()),
        ),
        data_digest=dataset.data_digest,
        contract_map_digest=dataset.contract_map_digest,
        generated=dataset.generated,
        strategy=dataset.strategies[sample.symbol],
        parameters=best.parameters,
        seed=best.parameters["random_state"],
        trials=metrics["luck"]["trials"],
        metrics=metrics,
        libraries=library_versions(),
        golden=golden_rows(scorer, fitted, threshold=chosen.threshold, seed=plan.seed),
        model_sha256=sha256(model).hexdigest(),
        promotion=None,
    )
    return Trained(card, model)


def _record(dataset: Dataset, past: Sample, plan: Plan, workshop: Workshop) -> Record:
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
    seen.update(repr((past.names, dataset.data_digest, past.dates.tolist())).encode())
    return Record(
        ledger=workshop.ledger,
        studies=workshop.studies,
        prefix=f"{past.symbol}-{seen.hexdigest()[:12]}",
        data_digest=dataset.data_digest,
        feature_digest=feature_digest(past.names, workshop.contracts),
        generated=dataset.generated,
        clock=workshop.clock,
    )


def _search_all(
    past: Sample,
    outer: list[Split],
    usable: list[Split],
    plan: Plan,
    record: Record,
    workshop: Workshop,
) -> tuple[Found, list[NDArray[np.float64] | None], list[str]]:
    """Run the search on all rows, and on the training part of each split; judge outside what it found."""
    prepare(record.studies)
    numbers = [i for i, split in enumerate(outer) if any(split is each for each in usable)]
    # The longest first, so that no process waits for it at the end.
    tasks = [delayed(_search_one)(-1, past, None, plan, record)]
    tasks += [delayed(_search_one)(i, past, outer[i], plan, record) for i in numbers]
    best: Found | None = None
    selected: list[NDArray[np.float64] | None] = [None] * len(outer)
    notes: dict[int, list[str]] = {}
    for i, found, chosen in Parallel(n_jobs=plan.jobs, return_as="generator_unordered")(tasks):
        if i < 0:
            best = found
        else:
            selected[i] = chosen
        where = "all rows" if i < 0 else f"inside split {outer[i].test_groups}"
        notes[i] = [f"{where}: {why}" for why in found.dropped]
        if found.parameters is None:
            notes[i].append(f"{where}: no trial selected enough, so nothing is taken")
        workshop.progress(past.symbol, 1)
    assert best is not None
    return best, selected, [note for i in sorted(notes) for note in notes[i]]


def _search_one(
    i: int, past: Sample, split: Split | None, plan: Plan, record: Record
) -> tuple[int, Found, NDArray[np.float64] | None]:
    """Search inside one training part, and select in the test part with what was found."""
    if split is None:
        return i, search(past, plan, record, "all"), None
    inside, outside = past.take(split.train), past.take(split.test)
    found = search(inside, plan, record, "split-" + "-".join(map(str, split.test_groups)))
    selected = np.zeros(len(outside))
    if found.parameters is not None:
        columns = columns_of(rank(inside, plan), found.parameters["keep"])
        forest = grow(inside, columns, found.parameters)
        if forest is not None:
            scores = ask(forest, outside, columns)
            selected = (scores >= np.float32(found.threshold)).astype(np.float64)
    return i, found, selected


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


def _judge(
    past: Sample,
    outer: list[Split],
    selected: list[NDArray[np.float64] | None],
    workshop: Workshop,
    dataset: Dataset,
    study: str,
) -> dict[str, Any]:
    """Measure the procedure on the history of its middle path."""
    n_groups = 1 + max(max(split.test_groups) for split in outer)
    paths = stitch(outer, groups_of(past.labels.session, n_groups), selected) == 1.0
    middle, sharpes = middle_path(past, paths)
    returns = past.returns(paths[middle])[past.judged()]
    everything = np.ones(len(past), np.bool_)
    return {
        "out_of_sample": measure(past, paths[middle]),
        "out_of_sample_base": measure(past, everything),
        "path": middle,
        "paths_sharpe_per_session": sharpes,
        "luck": luck(returns, workshop.ledger, generated=dataset.generated, study=study),
    }


def _look_at(future: Sample, scorer: Scorer, chosen: _Final) -> dict[str, Any]:
    """Score the holdout, once, with the file that trades."""
    rows = complete(future, chosen.columns)
    selected = np.zeros(len(future), np.bool_)
    scores = scorer.score(future.rows[np.ix_(rows, chosen.columns)])
    selected[rows] = scores >= np.float32(chosen.threshold)
    everything = np.ones(len(future), np.bool_)
    return {
        "base": measure(future, everything),
        "filtered": measure(future, selected),
        "missing_a_feature": len(future) - len(rows),
        "first_session": str(future.dates[future.labels.session.min()].astype("datetime64[D]")),
    }


def _rows(sample: Sample, past: Sample, future: Sample, chosen: _Final) -> dict[str, int]:
    """Count what became of the candidates."""
    return {
        "candidates": len(sample),
        "before_holdout": len(past),
        "fitted": len(chosen.rows),
        "missing_a_feature": len(past) - len(chosen.rows),
        "holdout": len(future),
    }


def _plain(plan: Plan) -> dict[str, Any]:
    """Spell a plan as JSON values, without what does not matter."""
    spelt = {key: value for key, value in asdict(plan).items() if key != "jobs"}
    return {**spelt, "space": {key: list(value) for key, value in spelt["space"].items()}}
