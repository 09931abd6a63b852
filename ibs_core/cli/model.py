"""`ibs model`: datasets, training, and the bundles that come of it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibs_core.contracts import ContractMap
    from ibs_core.training.plan import Plan
    from ibs_core.training.train import Trained

__all__ = ["model"]

_F = TypeVar("_F", bound="Callable[..., Any]")


@click.group()
def model() -> None:
    """Make datasets; train, list, show, verify and promote veto models."""


@model.command()
@click.option(
    "--parquet",
    "parquet",
    multiple=True,
    type=options.PATH,
    help="Minute bars: files, folders or globs.",
)
@click.argument("more", nargs=-1, type=options.PATH, metavar="[PATH]…")
@click.option("--out", type=options.PATH, required=True, help="Parquet file for the dataset.")
@options.config_files
@click.option(
    "--symbols", help="Comma-separated roots. Default: the configuration's, else all of the bars."
)
@click.option(
    "--features", "names", help="Comma-separated names; default: all that the bars serve."
)
@options.as_json
@options.quiet
def dataset(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    out: Path,
    config: tuple[Path, ...],
    symbols: str | None,
    names: str | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Write every candidate of the bars with its features and the trade that it alone became."""
    from ibs_core.config import load_settings

    paths = options.paths_of(parquet, more)
    if any(path.is_dir() and out.resolve().is_relative_to(path.resolve()) for path in paths):
        raise click.UsageError(
            f"--out {out} lies in a folder of bars, where it would be read as bars"
        )
    settings = load_settings(config)
    contracts = _contracts(config)
    roots = options.roots_of(symbols, contracts)
    from ibs_core.market_data import open_bars

    source = open_bars(paths, contracts)
    options.compile_notice(silent=json_ or quiet)
    from ibs_core.training.dataset import write_dataset

    with options.progress_bar("reading", source.n_rows, silent=json_ or quiet) as progress:
        facts = write_dataset(
            source, settings, contracts, out, roots=roots, names=_names(names), progress=progress
        )
    if json_:
        options.say_json(facts)
    elif not quiet:
        told = "generated data: " if facts["generated_data"] else ""
        rows = ", ".join(f"{n:,} of {root}" for root, n in facts["rows"].items())
        click.echo(f"{told}candidates: {rows}; {facts['features']} features: {out}")


def _of_the_search(function: _F) -> _F:
    """Add what a training may be told of its search."""
    for option in (
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            default=7,
            show_default=True,
            help="The same seed makes the same model.",
        ),
        click.option(
            "--jobs",
            type=int,
            default=-1,
            show_default=True,
            help="Processes, -1 for one a core; results do not depend on it.",
        ),
        click.option(
            "--keep",
            default="10,20,30",
            show_default=True,
            help="Numbers of features to try, the most important first.",
        ),
        click.option(
            "--min-leaf",
            default="50,100,200",
            show_default=True,
            help="Fewest rows of a leaf to try.",
        ),
        click.option(
            "--trees",
            default="300,600,900,1200",
            show_default=True,
            help="Numbers of trees to try.",
        ),
        click.option(
            "--embargo",
            type=click.IntRange(min=0),
            default=2,
            show_default=True,
            help="Sessions beside a test block that are not trained on.",
        ),
        click.option(
            "--test-groups",
            type=click.IntRange(min=1),
            default=2,
            show_default=True,
            help="Groups tested at a time.",
        ),
        click.option(
            "--groups",
            type=click.IntRange(min=2),
            default=6,
            show_default=True,
            help="Groups of sessions of the outer cross-validation.",
        ),
        click.option(
            "--holdout",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=0.2,
            show_default=True,
            help="Share of the sessions, the last ones, looked at once.",
        ),
        click.option(
            "--trials",
            type=click.IntRange(min=1),
            default=30,
            show_default=True,
            help="Of each search: one a split, and one on all rows before the holdout.",
        ),
    ):
        function = option(function)
    return function


def _models(function: _F) -> _F:
    """Add ``--models``."""
    return click.option(
        "--models",
        type=options.PATH,
        default=Path("models"),
        show_default=True,
        help="Folder of bundles; a training keeps its ledger and its searches there too.",
    )(function)


@model.command()
@click.option("--dataset", "path", type=options.PATH, required=True, help="Of `ibs model dataset`.")
@click.option("--symbols", help="Comma-separated roots; default: all of the dataset.")
@_models
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
    contracts = _contracts(config)
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
    samples = [read_sample(held, root, contracts, _names(names)) for root in roots]
    silent = json_ or quiet
    told = []
    n_searches = len(roots) * (1 + math.comb(plan.groups, plan.test_groups))
    with options.progress_bar("searching", lambda: n_searches, silent=silent) as progress:
        workshop = Workshop(
            contracts=contracts,
            ledger=TrialLedger(models / "trials.sqlite"),
            studies=models / "searches.sqlite",
            open_model=OnnxScorer,
            clock=time.time_ns,
            progress=progress,
        )
        for sample in samples:
            trained = train_one(held, sample, plan, workshop, created_ns=time.time_ns())
            told.append((_keep(models, trained), trained.card))
    if json_:
        options.say_json([facts_of(card) | {"folder": str(folder)} for folder, card in told])
    elif not quiet:
        for folder, card in told:
            print_card(card)
            click.echo(f"bundle: {folder}")


@model.command("list")
@_models
@options.as_json
@options.quiet
def list_(*, models: Path, json_: bool, quiet: bool) -> None:
    """List every bundle; a star marks the version of a symbol that trades."""
    from ibs_core.bundle import list_bundles

    found = list_bundles(models)
    if json_:
        options.say_json(
            [
                {"symbol": each.symbol, "version": each.version, "promoted": each.promoted}
                for each in found
            ]
        )
    elif not quiet:
        for each in found:
            click.echo(f"{'*' if each.promoted else ' '} {each.symbol:<6} {each.version}")
        if not found:
            click.echo(f"no bundle in {models}; `ibs model train` makes one")


@model.command()
@click.argument("folder", type=options.PATH, metavar="DIR")
@options.as_json
@options.quiet
def show(*, folder: Path, json_: bool, quiet: bool) -> None:
    """Show what the card of the bundle in DIR says, and which conditions of promotion it meets."""
    from ibs_core.bundle import load_bundle
    from ibs_core.cli.model_report import facts_of, print_card

    card = load_bundle(folder).card
    if json_:
        options.say_json(facts_of(card))
    elif not quiet:
        print_card(card)


@model.command()
@click.argument("folder", type=options.PATH, metavar="DIR")
@options.config_files
@options.as_json
@options.quiet
def verify(*, folder: Path, config: tuple[Path, ...], json_: bool, quiet: bool) -> None:
    """Check every byte of the bundle in DIR, its features, and that it scores here as where it was made."""
    from adapters import onnx_scorer
    from ibs_core.bundle import load_bundle

    bundle = load_bundle(folder)
    findings = onnx_scorer.verify(bundle, _contracts(config))
    n_golden = len(bundle.card.golden.rows)
    if json_:
        found = [str(each) for each in findings]
        options.say_json({"folder": str(folder), "golden_rows": n_golden, "findings": found})
    elif not quiet:
        for finding in findings[1:]:
            click.echo(str(finding), err=True)
        if not findings:
            click.echo(f"{folder}: as it was written; {n_golden} golden rows score bit for bit")
    if findings:
        raise findings[0]


@model.command()
@click.argument("symbol")
@click.argument("version")
@click.option("--reason", required=True, help="Why this version is to trade; kept in its card.")
@click.option("--force", is_flag=True, help="Promote although a condition fails; kept in its card.")
@_models
@options.config_files
@options.as_json
@options.quiet
def promote(
    *,
    symbol: str,
    version: str,
    reason: str,
    force: bool,
    models: Path,
    config: tuple[Path, ...],
    json_: bool,
    quiet: bool,
) -> None:
    """Make VERSION the model of SYMBOL that trades, when it verifies and meets every condition."""
    from adapters import onnx_scorer
    from ibs_core import bundle
    from ibs_core.cli.model_report import print_guardrails
    from ibs_core.training.guardrails import check_guardrails

    if not reason.strip():
        raise ConfigError("option --reason", expected="a reason", found=repr(reason))
    held = bundle.load_bundle(_folder_of(models, symbol, version))
    for finding in onnx_scorer.verify(held, _contracts(config)):
        raise finding
    rails = check_guardrails(held.card)
    failed = [each.name for each in rails if not each.passed]
    if not json_ and not quiet:
        print_guardrails(rails)
    refused = bool(failed) and not force
    if not refused:
        entry = bundle.Promotion(
            time=time.time_ns(), reason=reason.strip(), guardrails=rails, forced=bool(failed)
        )
        bundle.promote(models, symbol, version, entry)
    if json_:
        facts = {"symbol": symbol, "version": version, "promoted": not refused}
        facts |= {"guardrails": [each.model_dump() for each in rails], "forced": force}
        options.say_json(facts)
    if refused:
        raise DataError(
            f"{symbol} {version} is not promoted",
            expected="every condition met",
            found=f"{len(failed)} not met: {'; '.join(failed)}",
            remedy="train a better model; --force promotes all the same and is recorded",
        )
    if not json_ and not quiet:
        click.echo(f"{symbol} {version} trades from now on{' (forced)' if failed else ''}")


def _folder_of(models: Path, symbol: str, version: str) -> Path:
    """Find a version by its name; no name leads out of the folder of models."""
    from ibs_core.bundle import list_bundles

    found = [each for each in list_bundles(models) if each.symbol == symbol]
    for each in found:
        if each.version == version:
            return each.folder
    raise ConfigError(
        f"no bundle of {symbol} bears this version",
        expected=" or ".join(each.version for each in found) or "a symbol that has bundles",
        found=repr(version),
        where=str(models),
    )


def _keep(models: Path, trained: Trained) -> Path:
    """Write a bundle; one that is there already, from the same training on the same day, stays."""
    from ibs_core.bundle import load_bundle, write_bundle

    card = trained.card
    folder = models / card.symbol / card.version
    if folder.is_dir() and load_bundle(folder).card.model_sha256 == card.model_sha256:
        return folder
    return write_bundle(models, card, trained.model)


def _contracts(config: tuple[Path, ...]) -> ContractMap:
    from ibs_core.config import load_settings
    from ibs_core.contracts import load_contract_map

    settings = load_settings(config)
    return load_contract_map(Path(settings.contract_map) if settings.contract_map else None)


def _names(text: str | None) -> list[str] | None:
    names = [name.strip() for name in text.split(",")] if text else []
    return list(dict.fromkeys(filter(None, names))) or None


def _plan(numbers: dict[str, Any]) -> Plan:
    from ibs_core.training.plan import Plan, Space

    space = Space(
        trees=_whole("--trees", numbers.pop("trees")),
        min_leaf=_whole("--min-leaf", numbers.pop("min_leaf")),
        keep=_whole("--keep", numbers.pop("keep")),
    )
    return Plan(**numbers, space=space)


def _whole(option: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"option {option}", expected="numbers above 0 such as 10,20", found=repr(text)
        )
    return tuple(dict.fromkeys(map(int, parts)))
