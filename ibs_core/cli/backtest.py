"""`ibs backtest`: minute bars to trades, a run folder and a printed summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibs_core.cli import options
from ibs_core.cli.caching import caching

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from adapters.onnx_scorer import Choice
    from ibs_core.bar_cache import Shelf
    from ibs_core.cli.caching import Caching
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.outcome import Outcome
    from ibs_core.report.run import Run
    from ibs_core.universe import Model

__all__ = ["backtest"]


@click.command(
    epilog="Exit codes: 0 ok, 1 the data are wrong, 2 the configuration or an option is wrong, "
    "3 a file, a permission or disk space is missing.",
)
@options.bars
@options.span
@click.option(
    "--model-mode", type=click.Choice(["off", "shadow", "veto"]), help="Override model.mode."
)
@options.scorer
@click.option(
    "--out",
    type=options.PATH,
    default=Path("runs"),
    show_default=True,
    help="Folder for run folders.",
)
@options.strict
@click.option("--no-report", is_flag=True, help="Write no report.html.")
@caching
@options.as_json
@options.quiet
def backtest(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    start: str | None,
    end: str | None,
    model_mode: str | None,
    scorer: Choice,
    out: Path,
    strict: bool,
    no_report: bool,
    cache: Caching,
    json_: bool,
    quiet: bool,
) -> None:
    """Back-test minute bars: trades, statistics and a report in a new run folder."""
    paths = options.paths_of(parquet, more)
    span = options.span_of(start, end)
    options.folder_of(out)
    silent = json_ or quiet
    from ibs_core.cli.run_package import package
    from ibs_core.cli.veto_models import models_for
    from ibs_core.market_data import open_bars

    settings, contracts = options.settings_of(config, model_mode=model_mode)
    roots = options.roots_of(symbols, contracts)
    source = open_bars(paths, contracts)
    options.compile_notice(silent=silent)
    models = models_for(settings, contracts, scorer)
    outcome = _run(
        *(source, settings, contracts, models, cache.shelf()),
        roots=roots,
        span=span,
        strict=strict,
        silent=silent,
    )
    run = package(outcome, settings, contracts, source, roots=roots, span=span)
    folder = _write(run, out, report=not no_report)
    if json_:
        options.say_json({"run": str(folder), "stats": run.stats, "warnings": run.meta["warnings"]})
    elif not quiet:
        _print(run, folder)


def _run(
    source: BarSource,
    settings: Settings,
    contracts: ContractMap,
    models: Callable[[str], Model] | None,
    shelf: Shelf | None,
    *,
    roots: list[str] | None,
    span: tuple[date | None, date | None],
    strict: bool,
    silent: bool,
) -> Outcome:
    from ibs_core.outcome import run_backtest

    with options.progress_bar("reading", source.n_rows, silent=silent) as progress:
        return run_backtest(
            source,
            settings,
            contracts,
            roots=roots,
            start=span[0],
            end=span[1],
            strict=strict,
            models=models,
            shelf=shelf,
            progress=progress,
        )


def _write(run: Run, out: Path, *, report: bool) -> Path:
    from ibs_core.report.folder import write_run

    html = None
    if report:
        from ibs_core.report.tear_sheet import render

        html = render(run)
    return write_run(run, out, html=html)


def _print(run: Run, folder: Path) -> None:

    from ibs_core.report.summary import summary_tables

    console = options.console()
    for table in summary_tables(run.stats):
        console.print(table)
    if run.meta["generated_data"]:
        console.print(
            "generated data: this shows how the system works, never an edge", style="bold"
        )
    for line in run.meta["warnings"]:
        console.print(f"note: {line}", soft_wrap=True, highlight=False)
    console.print(f"run folder: {folder}", soft_wrap=True, highlight=False)
