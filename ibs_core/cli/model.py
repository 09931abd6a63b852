"""`ibs model`: datasets, training, and the bundles that come of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ibs_core.cli import options
from ibs_core.cli.model_explain import explain
from ibs_core.cli.model_import import import_
from ibs_core.cli.model_training import train
from ibs_core.cli.model_value import veto_value
from ibs_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["model"]


@click.group()
def model() -> None:
    """Make datasets; train, import, list, show, verify and promote veto models."""


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
    paths = options.paths_of(parquet, more)
    options.refuse_among(paths, out)
    settings, contracts = options.settings_of(config)
    roots = options.roots_of(symbols, contracts)
    from ibs_core.market_data import open_bars

    source = open_bars(paths, contracts)
    options.compile_notice(silent=json_ or quiet)
    from ibs_core.training.dataset import write_dataset

    with options.progress_bar("reading", source.n_rows, silent=json_ or quiet) as progress:
        facts = write_dataset(
            source,
            settings,
            contracts,
            out,
            roots=roots,
            names=options.features_of(names),
            progress=progress,
        )
    if json_:
        options.say_json(facts)
    elif not quiet:
        told = "generated data: " if facts["generated_data"] else ""
        rows = ", ".join(f"{n:,} of {root}" for root, n in facts["rows"].items())
        click.echo(f"{told}candidates: {rows}; {facts['features']} features: {out}")


@model.command("list")
@options.models_folder
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
    findings = onnx_scorer.verify(bundle, options.contract_map_of(config))
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
@options.models_folder
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
    """Make VERSION, or the newest, the model of SYMBOL that trades, when it verifies and meets every condition."""
    from adapters import onnx_scorer
    from ibs_core import bundle
    from ibs_core.cli.model_report import print_guardrails
    from ibs_core.training.guardrails import check_guardrails

    if not reason.strip():
        raise ConfigError("option --reason", expected="a reason", found=repr(reason))
    held = bundle.load_bundle(_folder_of(models, symbol, version))
    for finding in onnx_scorer.verify(held, options.contract_map_of(config)):
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
        bundle.promote(models, symbol, held.card.version, entry)
    if json_:
        facts = {"symbol": symbol, "version": held.card.version, "promoted": not refused}
        facts |= {"guardrails": [each.model_dump() for each in rails], "forced": force}
        options.say_json(facts)
    if refused:
        raise DataError(
            f"{symbol} {held.card.version} is not promoted",
            expected="every condition met",
            found=f"{len(failed)} not met: {'; '.join(failed)}",
            remedy="train a better model; --force promotes all the same and is recorded",
        )
    if not json_ and not quiet:
        click.echo(
            f"{symbol} {held.card.version} trades from now on{' (forced)' if failed else ''}"
        )


def _folder_of(models: Path, symbol: str, version: str) -> Path:
    """Find a version by its name; no name leads out of the folder of models."""
    from ibs_core.bundle import load_bundle, versions

    found = versions(models, symbol)
    if version == "newest" and found:
        return max((load_bundle(each).card.created, each) for each in found)[1]
    for each in found:
        if each.name == version:
            return each
    raise ConfigError(
        f"no bundle of {symbol} bears this version",
        expected=" or ".join(each.name for each in found) or "a symbol that has bundles",
        found=repr(version),
        where=str(models),
    )


model.add_command(train)
model.add_command(explain)
model.add_command(veto_value)
model.add_command(import_)
