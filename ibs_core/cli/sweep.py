"""`ibs sweep`: many settings over the same bars, and which of them are more than luck."""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.cli.caching import caching
from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from ibs_core.bar_cache import Shelf
    from ibs_core.cli.caching import Caching
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.sweep.grid import Grid
    from ibs_core.sweep.results import Found
    from ibs_core.sweep.run import Record, Sweep

__all__ = ["sweep"]


@click.command(
    epilog="Exit codes: 0 ok, 1 the data are wrong, 2 the configuration or an option is wrong, "
    "3 a file, a permission, disk space or an extra is missing, 130 interrupted: --resume goes on.",
)
@options.bars
@options.span
@options.grid
@click.option(
    "--search", type=click.Choice(["optuna"]), help="Propose combinations instead of trying all."
)
@click.option("--trials", type=click.IntRange(min=1), help="Proposals of --search.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=7, show_default=True, help="Of --search."
)
@options.workers
@options.resumable("sweep")
@options.models_folder
@options.strict
@caching
@options.as_json
@options.quiet
def sweep(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    start: str | None,
    end: str | None,
    grids: tuple[str, ...],
    search: str | None,
    trials: int | None,
    seed: int,
    jobs: int,
    cluster: str | None,
    out: Path,
    resume: bool,
    models: Path,
    strict: bool,
    cache: Caching,
    json_: bool,
    quiet: bool,
) -> None:
    """Try settings over the same bars; report the best plateau, and how many trials it took.

    Each candidate's trades are those of `ibs backtest` with the same settings. Every trial is counted in the
    ledger of --models; the same settings over the same bars are one trial.
    """
    paths = options.paths_of(parquet, more)
    span = options.span_of(start, end)
    options.folder_of(out)
    options.folder_of(models, "--models")
    if (search is None) != (trials is None):
        raise click.UsageError("--search and --trials go together")
    from ibs_core.market_data import open_bars
    from ibs_core.sweep.grid import read_grid

    settings, contracts = options.settings_of(config)
    grid = read_grid(grids, settings)
    roots = options.roots_of(symbols, contracts)
    source = open_bars(paths, contracts)
    proposals = None if trials is None else (trials, seed)
    task = _Task(settings, grid, contracts, source, cache.shelf(), roots, span, proposals)
    silent = json_ or quiet
    found = task.run(
        out, models, jobs=jobs, cluster=cluster, resume=resume, strict=strict, silent=silent
    )
    if json_:
        options.say_json({"sweep": str(out), **found.facts()})
    elif not quiet:
        _print(found, out)


class _Task:
    """One sweep, from its options to its folder."""

    def __init__(
        self,
        settings: Settings,
        grid: Grid,
        contracts: ContractMap,
        source: BarSource,
        shelf: Shelf | None,
        roots: list[str] | None,
        span: tuple[date | None, date | None],
        proposals: tuple[int, int] | None,
    ) -> None:
        from ibs_core.bar_cache import drawer_of, roots_once
        from ibs_core.sweep.candidate import CandidateMaker

        wanted = roots or list(settings.symbols) or roots_once(drawer_of(shelf, source), source)
        self.shelf = shelf
        self.roots = [root for root in contracts.contracts if root in wanted]
        self.grid, self.contracts, self.source = grid, contracts, source
        self.span, self.proposals = span, proposals
        self.maker = CandidateMaker(
            settings, contracts, self.roots, start=span[0], end=span[1], paths=grid.paths
        )

    def run(
        self,
        out: Path,
        models: Path,
        *,
        jobs: int,
        cluster: str | None,
        resume: bool,
        strict: bool,
        silent: bool,
    ) -> Found:
        """Try, conclude and write."""
        try:
            from ibs_core.sweep.run import Sweep
            from ibs_core.sweep.workers import workers
        except ImportError as error:
            raise _extra(error) from error
        from ibs_core.sweep.folder import SweepFolder
        from ibs_core.sweep.page import render
        from ibs_core.sweep.results import conclude
        from ibs_core.sweep.stage import Stages

        n = self._announce(silent=silent)
        record = self._record(models)
        with (
            workers(jobs, cluster) as hands,
            options.progress_bar("sweeping", lambda: n, silent=silent) as progress,
        ):
            folder = SweepFolder(out, self._plan(record), self.grid, resume=resume)
            stages = Stages(
                *(self.source, self.contracts, self.roots),
                start=self.span[0],
                end=self.span[1],
                strict=strict,
                shelf=self.shelf,
                progress=lambda root, _rows: progress(f"(reading {root})", 0),
            )
            task = Sweep(self.maker, stages, record, folder, workers=hands, progress=progress)
            progress("", len(task.rows))
            try:
                self._try(task)
            except KeyboardInterrupt:
                _say_interrupted(out, len(task.rows), n)
                sys.exit(130)
        table = folder.frame([task.rows[each.digest] for each in self.maker.made])
        found = conclude(
            *(self.grid, self.maker.made, table, self.maker, record), warnings=stages.warnings
        )
        texts = {**found.texts(), "report.html": render(found)}
        folder.finish(found.table, texts, generated=found.generated)
        return found

    def _try(self, task: Sweep) -> None:
        # Tasks given up are what an interrupt means; joblib tells of them as of a mistake.
        warnings.filterwarnings("ignore", message=r"\d+ tasks", category=UserWarning)
        if self.proposals is None:
            task.try_all(list(self.grid.combinations()))
            return
        try:
            from ibs_core.sweep.search import search
        except ImportError as error:
            raise _extra(error) from error
        n_trials, seed = self.proposals
        search(self.grid, task.try_all, n_trials=n_trials, seed=seed)

    def _announce(self, *, silent: bool) -> int:
        """Tell how many candidates there are, and refuse too many."""
        from ibs_core.sweep.grid import N_CANDIDATES_MAX

        n = len(self.grid) if self.proposals is None else self.proposals[0]
        if n > N_CANDIDATES_MAX:
            raise ConfigError(
                "--grid" if self.proposals is None else "--trials",
                expected=f"at most {N_CANDIDATES_MAX:,} candidates",
                found=f"{self.grid.spelt() if self.proposals is None else format(n, ',')}",
                remedy="take wider steps or fewer parameters, or --search optuna --trials N",
            )
        if not silent:
            of = "" if self.proposals is None else f"{n:,} proposals among "
            click.echo(f"candidates: {of}{self.grid.spelt()}", err=True)
        if self.proposals is None:  # a fault in any is told before the work
            for values in self.grid.combinations():
                self.maker.make(values)
        return n

    def _record(self, models: Path) -> Record:
        from ibs_core import __version__
        from ibs_core.research.sample_data import is_generated
        from ibs_core.research.trial_ledger import TrialLedger
        from ibs_core.sweep.run import Record, study_of

        digest = self.source.digest()
        return Record(
            TrialLedger(models / "trials.sqlite"),
            study_of(
                version=__version__,
                data=digest,
                contract_map=self.contracts.digest,
                symbols=self.roots,
                span=[str(each) if each else None for each in self.span],
            ),
            ",".join(self.roots),
            digest,
            generated=any(is_generated(path) for path in self.source.files),
            clock=time.time_ns,
        )

    def _plan(self, record: Record) -> dict[str, Any]:
        seed = {} if self.proposals is None else {"seed": self.proposals[1]}
        return {
            "study": record.study,
            "symbols": self.roots,
            "data_digest": record.data_digest,
            "grid": {axis.path: list(axis.values) for axis in self.grid.axes},
            "search": "optuna" if self.proposals else "grid",
            "configuration": self.maker.base,
            **seed,
        }


def _extra(error: ImportError) -> EnvironmentFault:
    return EnvironmentFault(
        "sweeps need an extra", found=str(error), remedy="pip install 'ibs[train]'"
    )


def _say_interrupted(out: Path, done: int, of: int) -> None:
    click.echo(
        f"interrupted: {done:,} of {of:,} candidates are kept in {out}; "
        "the same command with --resume goes on",
        err=True,
    )


def _print(found: Found, out: Path) -> None:
    from ibs_core.sweep.summary import summary_table

    console = options.console()
    console.print(summary_table(found))
    if found.verdict:
        says = "more than luck" if found.verdict.promotable else "not more than luck"
        console.print(f"{found.trials:,} trials so far; the choice is {says}", style="bold")
        for reason in found.verdict.reasons:
            console.print(f"  {reason}", highlight=False)
    if found.generated:
        console.print(
            "generated data: this shows how the system works, never an edge", style="bold"
        )
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)
    console.print(f"sweep folder: {out}", soft_wrap=True, highlight=False)
