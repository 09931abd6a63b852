"""`ibs walk-forward`: parameters chosen on training sessions, traded on the sessions that follow."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.cli.caching import caching
from ibs_core.cli.walk_forward_veto import refuse_idle, veto_options
from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from pathlib import Path

    from ibs_core.cli.caching import Caching
    from ibs_core.cli.walk_forward_run import Told
    from ibs_core.sweep.grid import Grid

__all__ = ["walk_forward"]


@click.command(
    name="walk-forward",
    epilog="Exit codes: 0 ok, 1 the data are wrong or too short, 2 the configuration or an option is wrong, "
    "3 a file, a permission, disk space or an extra is missing, 130 interrupted: --resume goes on.",
)
@options.bars
@options.span
@options.grid
@click.option(
    "--train-sessions",
    type=click.IntRange(min=1),
    required=True,
    help="Sessions that choose the parameters of a window.",
)
@click.option(
    "--test-sessions",
    type=click.IntRange(min=1),
    required=True,
    help="Sessions after them that trade it; the last window may have fewer.",
)
@click.option(
    "--embargo",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the training sessions, the last that are left out.",
)
@click.option("--anchored", is_flag=True, help="Train from the first session on: windows grow.")
@click.option(
    "--objective",
    type=click.Choice(["plateau", "sharpe", "net"]),
    default="plateau",
    show_default=True,
    help="What is best in training: the plateau score, the Sharpe ratio, the net profit.",
)
@options.workers
@veto_options
@options.resumable("walk-forward")
@options.models_folder
@options.strict
@caching
@options.as_json
@options.quiet
def walk_forward(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    start: str | None,
    end: str | None,
    grids: tuple[str, ...],
    jobs: int,
    cluster: str | None,
    out: Path,
    models: Path,
    cache: Caching,
    json_: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Choose parameters on training sessions only, trade the sessions that follow, window after window.

    With --veto the models are made anew in every window too, of its own candidates. The out-of-sample trades are
    stitched into one run. Every candidate and every model that is tried is a trial in the ledger of --models.
    """
    paths = options.paths_of(parquet, more)
    span = options.span_of(start, end)
    options.folder_of(models, "--models")
    refuse_idle(asked)
    from ibs_core.bar_cache import drawer_of, roots_once
    from ibs_core.cli.walk_forward_run import Task
    from ibs_core.market_data import open_bars
    from ibs_core.sweep.grid import read_grid

    settings, contracts = options.settings_of(config)
    grid = read_grid(grids, settings)
    _refuse_account(grid)
    _refuse_folder(options.folder_of(out), resume=asked["resume"])
    roots = options.roots_of(symbols, contracts)
    source = open_bars(paths, contracts)
    shelf = cache.shelf()
    wanted = roots or list(settings.symbols) or roots_once(drawer_of(shelf, source), source)
    traded = tuple(root for root in contracts.contracts if root in wanted)
    task = Task(settings, grid, contracts, source, shelf, traded, span, asked)
    silent = json_ or quiet
    # Tasks given up are what an interrupt means; joblib tells of them as of a mistake.
    warnings.filterwarnings("ignore", message=r"\d+ tasks", category=UserWarning)
    try:
        told = task.run(out, models, jobs=jobs, cluster=cluster, silent=silent)
    except KeyboardInterrupt:
        click.echo(
            f"interrupted: what was tried is kept in {out}; the same command with --resume goes on",
            err=True,
        )
        sys.exit(130)
    if json_:
        options.say_json(told.facts)
    elif not quiet:
        _print(told, out)


def _refuse_account(grid: Grid) -> None:
    """Refuse parameters that are no part of the rule: the windows could not be one account."""
    for path in grid.paths:
        parts = path.split(".")
        if parts[0] in ("capital", "costs", "model") or parts[-1] == "execute":
            raise ConfigError(
                f"--grid {path}",
                expected="a parameter of the rule",
                found="one of the account, which is the same in all windows",
                remedy="set it in the configuration",
            )


def _refuse_folder(out: Path, *, resume: bool) -> None:
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / "windows").is_dir():
        raise EnvironmentFault(
            f"walk-forward folder {out}",
            expected="a new folder, or one of a walk-forward",
            found="other files",
            remedy="give another --out",
        )
    if not resume:
        raise ConfigError(
            f"walk-forward folder {out}",
            expected="a new folder",
            found="a walk-forward",
            remedy="--resume goes on with it; or give another --out",
        )


def _print(told: Told, out: Path) -> None:
    from ibs_core.walk_forward.summary import summary_tables

    console = options.console()
    for table in summary_tables(told.found, told.untouched):
        console.print(table)
    for line in told.facts["told"]:
        console.print(line, highlight=False, soft_wrap=True)
    if told.facts["generated_data"]:
        console.print(
            "generated data: this shows how the system works, never an edge", style="bold"
        )
    for note in told.facts["notes"]:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)
    console.print(f"run folder: {told.facts['run']}", soft_wrap=True, highlight=False)
    console.print(f"report: {out / 'report.html'}", soft_wrap=True, highlight=False)
