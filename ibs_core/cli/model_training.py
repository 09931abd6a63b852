"""`ibs model train`: from a dataset to judged bundles."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibs_core.training.plan import Plan
    from ibs_core.training.train import Trained

__all__ = ["keep", "train", "whole_numbers"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_SEARCH = (
    (
        "--trials",
        click.IntRange(min=1),
        30,
        "Of each search: one on all rows, one a split, one before each block.",
    ),
    (
        "--holdout",
        click.FloatRange(0, 1, min_open=True, max_open=True),
        0.2,
        "Share of the sessions, the last ones, looked at once.",
    ),
    ("--groups", click.IntRange(min=2), 6, "Groups of sessions of the outer cross-validation."),
    ("--test-groups", click.IntRange(min=1), 2, "Groups tested at a time."),
    ("--embargo", click.IntRange(min=0), 2, "Sessions beside a test block not trained on."),
    ("--trees", str, "300,600,900,1200", "Numbers of trees to try."),
    ("--min-leaf", str, "50,100,200", "Fewest rows of a leaf to try."),
    ("--keep", str, "10,20,30", "Numbers of features to try, the most important first."),
    ("--jobs", int, -1, "Processes, -1 for one a core; results do not depend on it."),
    (
        "--selection",
        click.Choice(["importance", "permutation", "clustered", "none"]),
        "importance",
        "How features are ranked inside each training part.",
    ),
    ("--seed", click.IntRange(0, 2**31 - 1), 7, "The same seed makes the same model."),
)


def _of_the_search(function: _F) -> _F:
    """Add what a training may be told of its search."""
    function = click.option(
        "--walk-forward/--no-walk-forward",
        default=True,
        show_default=True,
        help="Also judge block after block, each by what was searched on the sessions before it.",
    )(function)
    for name, kind, default, meaning in reversed(_SEARCH):
        option = click.option(name, type=kind, default=default, show_default=True, help=meaning)
        function = option(function)
    return function


@click.command()
@click.option("--dataset", "path", type=options.PATH, required=True, help="Of `ibs model dataset`.")
@click.option("--symbols", help="Comma-separated roots; default: all of the dataset.")
@options.models_folder
@click.option("--features", "names", help="Comma-separated names to choose from; default: all.")
@_of_the_search
@options.config_files
@options.as_json
@options.quiet
def train(
    *,
    path: Path,
    symbols: str | None,
    models: Path,
    names: str | None,
    config: tuple[Path, ...],
    json_: bool,
    quiet: bool,
    **numbers: Any,
) -> None:
    """Search, judge and fit a veto model for each symbol; write its bundle.

    Features, hyper-parameters and the threshold are chosen inside the training part of every split and
    judged outside; the last sessions are looked at once, at the end. A training that was interrupted
    goes on where it was.
    """
    contracts = options.contract_map_of(config)
    roots = options.roots_of(symbols, contracts)
    options.folder_of(models)
    plan = _plan(numbers)
    try:
        from ibs_core.training.train import Workshop
        from ibs_core.training.train import train as train_one
    except ImportError as error:
        raise EnvironmentFault(
            "training needs an extra", found=str(error), remedy="pip install 'ibs[train]'"
        ) from error
    from adapters.onnx_scorer import OnnxScorer
    from ibs_core.cli.model_report import facts_of, print_card
    from ibs_core.research.trial_ledger import TrialLedger
    from ibs_core.training.dataset import open_dataset
    from ibs_core.training.sample import read_sample

    held = open_dataset(path, contracts)
    roots = roots or list(held.symbols)
    samples = [read_sample(held, root, contracts, options.features_of(names)) for root in roots]
    silent = json_ or quiet
    told, failed = [], []
    n_trials = len(roots) * plan.n_searches() * plan.trials
    with options.progress_bar("searching", lambda: n_trials, silent=silent) as progress:
        workshop = Workshop(
            contracts=contracts,
            ledger=TrialLedger(models / "trials.sqlite"),
            studies=models / "searches.sqlite",
            open_model=OnnxScorer,
            clock=time.time_ns,
            progress=progress,
        )
        for sample in samples:
            try:
                trained = train_one(held, sample, plan, workshop, created_ns=time.time_ns())
            except DataError as error:  # of this symbol: the others are trained all the same
                failed.append(error)
            else:
                told.append((keep(models, trained), trained.card))
    if json_:
        options.say_json([facts_of(card) | {"folder": str(folder)} for folder, card in told])
    elif not quiet:
        for folder, card in told:
            print_card(card)
            click.echo(f"bundle: {folder}")
    for other in failed[1:]:
        click.echo(f"error: {other}", err=True)
    if failed:
        raise failed[0]


def keep(models: Path, trained: Trained) -> Path:
    """Write a bundle; one that is there already, from the same training on the same day, stays."""
    from ibs_core.bundle import load_bundle, write_bundle

    card = trained.card
    folder = models / card.symbol / card.version
    if folder.is_dir() and load_bundle(folder).card.model_sha256 == card.model_sha256:
        return folder
    return write_bundle(models, card, trained.model)


def _plan(numbers: dict[str, Any]) -> Plan:
    from ibs_core.training.plan import Plan, Space

    space = Space(
        trees=whole_numbers("--trees", numbers.pop("trees")),
        min_leaf=whole_numbers("--min-leaf", numbers.pop("min_leaf")),
        keep=whole_numbers("--keep", numbers.pop("keep")),
    )
    return Plan(**numbers, space=space)


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read numbers above 0 with commas, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"option {option}", expected="numbers above 0 such as 10,20", found=repr(text)
        )
    return tuple(dict.fromkeys(map(int, parts)))
