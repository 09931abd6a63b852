"""`ibs data`: sample data, and what given data hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from ibs_core.cli import options
from ibs_core.cli.data_cache import cache
from ibs_core.cli.data_fetch import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from ibs_core.contracts import ContractMap

__all__ = ["data"]

DEMO_ROOTS = "ES,NQ,CL,GC,6E"


@click.group()
def data() -> None:
    """Make sample data; check, describe and list what bars hold."""


@data.command()
@click.argument("out", type=options.PATH)
@click.option("--symbols", default=DEMO_ROOTS, show_default=True, help="Comma-separated roots.")
@click.option("--start", default="2022-01-03", show_default=True, help="First session date.")
@click.option("--end", default="2024-12-31", show_default=True, help="Last session date.")
@click.option(
    "--seed", type=int, default=7, show_default=True, help="The same seed makes the same bytes."
)
@click.option("--single-file", is_flag=True, help="One file for all symbols instead of one each.")
@options.as_json
@options.quiet
def sample(
    *,
    out: Path,
    symbols: str,
    start: str,
    end: str,
    seed: int,
    single_file: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """Write generated minute bars into the folder OUT: real hours and rolls, invented prices."""
    from ibs_core.contracts import load_contract_map
    from ibs_core.research.sample_data import write_sample

    roots = options.roots_of(symbols, load_contract_map()) or []
    first, last = options.span_of(start, end)
    assert first is not None, "--start has a default"
    assert last is not None, "--end has a default"
    with options.progress_bar("generating", lambda: len(roots), silent=json_ or quiet) as progress:
        files = write_sample(
            out,
            roots=roots,
            start=first,
            end=last,
            seed=seed,
            single_file=single_file,
            progress=lambda root: progress(root, 1),
        )
    if json_:
        options.say_json({"generated": True, "seed": seed, "files": [str(file) for file in files]})
    elif not quiet:
        click.echo(f"generated data for {', '.join(roots)}, {start} to {end}, seed {seed}:")
        for file in files:
            click.echo(f"  {file}  {file.stat().st_size / 1e6:.1f} MB")


@data.command()
@click.argument("paths", nargs=-1, required=True, type=options.PATH)
@click.option("--strict", is_flag=True, help="Exit 1 when anything would be repaired.")
@options.as_json
@options.quiet
def check(*, paths: tuple[Path, ...], strict: bool, json_: bool, quiet: bool) -> None:
    """Tell coverage, gaps, repairs, contracts and rolls of the bars in PATHS."""
    from ibs_core import market_data
    from ibs_core.cli.data_report import print_report, refuse
    from ibs_core.contracts import load_contract_map

    report = market_data.check(market_data.open_bars(paths, load_contract_map()))
    if json_:
        options.say_json(report.to_dict())
    elif not quiet:
        print_report(report, options.console())
    refuse(report, strict=strict)


@data.command()
@click.option(
    "--parquet",
    "parquet",
    multiple=True,
    type=options.PATH,
    help="Bars: files, folders or globs.",
)
@click.argument("more", nargs=-1, type=options.PATH, metavar="[PATH]…")
@click.option("--symbols", help="Comma-separated roots; default: all that the data hold.")
@options.as_json
@options.quiet
def rolls(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    symbols: str | None,
    json_: bool,
    quiet: bool,
) -> None:
    """List the rolls: when each contract gave way to the next, and the gap between them."""
    from ibs_core import market_data
    from ibs_core.cli.data_report import print_rolls
    from ibs_core.contracts import load_contract_map

    contracts = load_contract_map()
    wanted = options.roots_of(symbols, contracts)
    source = market_data.open_bars(options.paths_of(parquet, more), contracts)
    found = [roll for root in wanted or source.roots for roll in market_data.rolls(source, root)]
    if json_:
        options.say_json([roll.to_dict() for roll in found])
    elif not quiet:
        print_rolls(found, options.console())


@data.command()
@click.option(
    "--parquet",
    "parquet",
    multiple=True,
    type=options.PATH,
    help="Compute the features of these bars: files, folders or globs.",
)
@click.argument("more", nargs=-1, type=options.PATH, metavar="[PATH]…")
@click.option("--out", type=options.PATH, help="Parquet file for the feature table.")
@click.option(
    "--features", "names", help="Comma-separated names; default: all that the bars serve."
)
@click.option("--symbols", help="Comma-separated roots; default: all that the bars hold.")
@options.config_files
@options.as_json
@options.quiet
def features(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    out: Path | None,
    names: str | None,
    symbols: str | None,
    config: tuple[Path, ...],
    json_: bool,
    quiet: bool,
) -> None:
    """List every feature, or with --parquet and --out write the feature table of bars."""
    settings, contracts = options.settings_of(config)
    chosen = options.features_of(names)
    if not parquet and not more:
        if out is not None or symbols is not None:
            raise click.UsageError("--out and --symbols need bars: name them with --parquet")
        _list_features(contracts, chosen, json_=json_, quiet=quiet)
        return
    if out is None:
        raise click.UsageError("--out is missing: name the Parquet file for the feature table")
    options.compile_notice(silent=json_ or quiet)
    from ibs_core.feature_table import tabulate, write_table
    from ibs_core.market_data import open_bars

    paths = options.paths_of(parquet, more)
    options.refuse_among(paths, out)
    source = open_bars(paths, contracts)
    roots = options.roots_of(symbols, contracts)
    with options.progress_bar("reading", source.n_rows, silent=json_ or quiet) as progress:
        tables = tabulate(source, settings, contracts, roots=roots, names=chosen, progress=progress)
        facts = write_table(tables, out, source.files)
    if json_:
        options.say_json(facts)
    elif not quiet:
        told = "generated data: " if facts["generated_data"] else ""
        click.echo(f"{told}{facts['rows']:,} rows, {facts['features']} features: {out}")


def _list_features(
    contracts: ContractMap, names: list[str] | None, *, json_: bool, quiet: bool
) -> None:
    from ibs_core.catalogue import load_catalogue, resolve

    units = {"bar": "bars", "day": "sessions", "cal": "bars"}
    rows = [
        {
            "name": each.name,
            "formula": each.formula,
            "unit": each.unit,
            "low": each.low if math.isfinite(each.low) else None,
            "high": each.high if math.isfinite(each.high) else None,
            "missing": each.missing,
            "of": units[each.side],
            "warmup": each.warmup,
            "full": each.full,
            "settles": each.settles,
            "for_models": each.for_models,
        }
        for each in (
            resolve(name, contracts, where="--features")
            for name in names or load_catalogue(contracts)
        )
    ]
    if json_:
        options.say_json(rows)
    elif not quiet:
        width = max(len(str(row["name"])) for row in rows)
        click.echo(f"{'name':<{width}}  first  full  of        formula")
        for row in rows:
            counts = f"{row['warmup']:>5}  {row['full']:>4}  {row['of']:<8}"
            click.echo(f"{row['name']:<{width}}  {counts}  {row['formula']}")


data.add_command(cache)
data.add_command(fetch)
