"""One walk-forward, from its settings to its folder."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

    import polars as pl

    from ibs_core.bar_cache import Shelf
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.outcome import Outcome
    from ibs_core.sweep.candidate import Candidate, CandidateMaker
    from ibs_core.sweep.grid import Grid
    from ibs_core.sweep.run import Record
    from ibs_core.sweep.stage import Stages
    from ibs_core.walk_forward.fit import Bench, Fitted
    from ibs_core.walk_forward.out_of_sample import Tested
    from ibs_core.walk_forward.results import Results
    from ibs_core.walk_forward.stitch import Stitched
    from ibs_core.walk_forward.windows import Window

__all__ = ["Task", "Told"]

_UNTOUCHED: Final = (
    *("trades", "sessions", "net_usd", "open_usd", "sharpe", "profit_factor", "win_rate"),
    *("expectancy_usd", "max_drawdown_usd"),
)
_N_READINGS: Final = 8
"""More than swept signal bars have widths: every window takes its bars from the same few."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What is printed."""

    facts: dict[str, Any]
    found: Results
    untouched: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One walk-forward, from its options to its folder."""

    settings: Settings
    grid: Grid
    contracts: ContractMap
    source: BarSource
    shelf: Shelf | None
    roots: tuple[str, ...]
    span: tuple[date | None, date | None]
    asked: dict[str, Any]

    def run(self, out: Path, models: Path, *, jobs: int, cluster: str | None, silent: bool) -> Told:
        """Cut, fit, trade, stitch and write."""
        try:
            from ibs_core.sweep.workers import workers
            from ibs_core.walk_forward.fit import Bench, fit
        except ImportError as error:
            raise _extra(error) from error
        from ibs_core.walk_forward.windows import cut_windows, marks_of

        maker, first = self._candidates()
        asked = self._features()
        options.compile_notice(silent=silent)
        with workers(jobs, cluster) as hands:
            stages = self._stages(asked, silent=silent)
            marks = marks_of(stages.get(first), self.roots)
            names = ("train_sessions", "test_sessions", "embargo", "anchored")
            windows = cut_windows(marks, **{name: self.asked[name] for name in names})
            if not silent:
                click.echo(
                    f"windows: {len(windows)}; candidates in each: {self.grid.spelt()}", err=True
                )
            record = self._record(models)
            bench = Bench(
                *(maker, self.grid, stages, self.roots, record),
                facts=self._facts(record),
                folder=out / "windows",
                objective=self.asked["objective"],
                workers=hands,
                resume=self.asked["resume"],
            )
            total = len(windows) * len(self.grid)
            with options.progress_bar("fitting", lambda: total, silent=silent) as progress:
                fitted = [fit(bench, window, marks, progress) for window in windows]
        if asked:
            places = (out / "windows", models)
            fitted = self._with_vetoes(fitted, bench, marks, asked, places, jobs, silent=silent)
        return self._conclude(out, fitted, stages, marks, record)

    def _features(self) -> tuple[str, ...]:
        """Name what models may choose from; nothing where no veto was asked for."""
        if not self.asked["veto"]:
            return ()
        from ibs_core.cli.walk_forward_veto import features_asked, n_trials

        n_trials(self.asked)  # a fault in any number is told before the work
        return features_asked(self.asked["features"], self.source, self.contracts)

    def _with_vetoes(
        self,
        fitted: Sequence[Fitted],
        bench: Bench,
        marks: pl.DataFrame,
        names: tuple[str, ...],
        places: tuple[Path, Path],
        jobs: int,
        *,
        silent: bool,
    ) -> list[Fitted]:
        """Train the models of every window, of the candidates that its choice makes."""
        try:
            from ibs_core.cli.walk_forward_veto import bench_of, n_trials
            from ibs_core.walk_forward.veto import fit_vetoes
        except ImportError as error:
            raise _extra(error) from error
        from ibs_core.walk_forward.fit import there

        total = len(fitted) * len(self.roots) * n_trials(self.asked)
        with options.progress_bar("training", lambda: total, silent=silent) as progress:
            vetoes = bench_of(
                *(self.asked, bench.stages, bench.record, names, places),
                jobs=jobs,
                progress=progress,
            )
            return [
                replace(
                    each, vetoes=fit_vetoes(vetoes, each, there(self.roots, marks, each.window))
                )
                for each in fitted
            ]

    def _candidates(self) -> tuple[CandidateMaker, Candidate]:
        """Make every candidate, so that a fault in any is told before the work; return the first too."""
        from ibs_core.sweep.candidate import CandidateMaker
        from ibs_core.sweep.grid import N_CANDIDATES_MAX

        if len(self.grid) > N_CANDIDATES_MAX:
            raise ConfigError(
                "--grid",
                expected=f"at most {N_CANDIDATES_MAX:,} candidates",
                found=self.grid.spelt(),
                remedy="take wider steps or fewer parameters",
            )
        maker = CandidateMaker(
            *(self.settings, self.contracts, self.roots),
            start=self.span[0],
            end=self.span[1],
            paths=self.grid.paths,
        )
        for values in self.grid.combinations():
            maker.make(values)
        return maker, maker.made[0]

    def _stages(self, names: tuple[str, ...], *, silent: bool) -> Stages:
        """Return what the test sessions are traded on: all sessions, and what features read beside them."""
        from ibs_core.sweep.stage import Stages
        from ibs_core.walk_forward.watched import watcher

        if not silent:
            click.echo("reading the sessions …", err=True)
        present = (*self.source.roots, *self.source.feeds) if names else ()
        return Stages(
            *(self.source, self.contracts, self.roots),
            start=self.span[0],
            end=self.span[1],
            strict=self.asked["strict"],
            shelf=self.shelf,
            progress=lambda _root, _rows: None,
            models=watcher(names, self.contracts, present) if names else None,
            n_readings=_N_READINGS,
        )

    def _untouched(self, windows: Sequence[Window]) -> Outcome:
        """Back-test the configuration as it is over the sessions that are tested."""
        from ibs_core.outcome import run_backtest

        return run_backtest(
            *(self.source, self.settings, self.contracts),
            roots=self.roots,
            start=windows[0].test[0],
            end=windows[-1].test[1],
            strict=self.asked["strict"],
            shelf=self.shelf,
        )

    def _record(self, models: Path) -> Record:
        from ibs_core.research.sample_data import is_generated
        from ibs_core.research.trial_ledger import TrialLedger
        from ibs_core.sweep.run import Record

        return Record(
            TrialLedger(models / "trials.sqlite"),
            study="",  # each window has its own
            symbol=",".join(self.roots),
            data_digest=self.source.digest(),
            generated=any(is_generated(path) for path in self.source.files),
            clock=time.time_ns,
        )

    def _facts(self, record: Record) -> dict[str, Any]:
        from ibs_core import __version__

        return {
            "version": __version__,
            "data": record.data_digest,
            "contract_map": self.contracts.digest,
        }

    def _conclude(
        self,
        out: Path,
        fitted: Sequence[Fitted],
        stages: Stages,
        marks: pl.DataFrame,
        record: Record,
    ) -> Told:
        """Trade the test sessions, stitch, and write what was found."""
        from ibs_core.report.folder import write_text
        from ibs_core.walk_forward.out_of_sample import trade_windows
        from ibs_core.walk_forward.page import render
        from ibs_core.walk_forward.results import conclude
        from ibs_core.walk_forward.stitch import Account, stitch
        from ibs_core.walk_forward.told import notes_on, sentences, trials_of

        untouched = self._untouched([each.window for each in fitted])
        n_trials, trials = trials_of(record, self.roots if self.asked["veto"] else ())
        account = Account.of(self.settings, self.contracts, self.roots)
        tested = list(trade_windows(fitted, stages))
        stitched = stitch(tested, marks, account, trials)
        unvetoed = None
        if self.asked["veto"]:
            plain = trade_windows([replace(each, vetoes={}) for each in fitted], stages)
            unvetoed = stitch(list(plain), marks, account, trials)
        seed = self.asked.get("veto_seed", 0)
        found = conclude(self.grid, tested, stitched, unvetoed=unvetoed, seed=seed)
        notes = [*notes_on(tested, found), *untouched.warnings]
        folder = self._write_run(out / "run", stitched, untouched, tested, notes)
        total, plain = stitched.stats["total"], untouched.stats["total"]
        told = sentences(found, total, n_trials)
        facts = {
            "run": str(folder),
            "plan": {key: value for key, value in self.asked.items() if key != "resume"},
            "grid": {axis.path: list(axis.values) for axis in self.grid.axes},
            **found.facts(),
            "untouched": {key: plain[key] for key in _UNTOUCHED},
            "dsr": total["dsr"],
            "trials": n_trials,
            "told": told,
            "notes": notes,
            "generated_data": record.generated,
        }
        page = render(
            *(found, stitched, plain),
            name=" · ".join(self.roots),
            told=told,
            notes=notes,
            generated=record.generated,
        )
        write_text(out / "report.html", page)
        text = json.dumps(facts, indent=2, sort_keys=True, allow_nan=False) + "\n"
        write_text(out / "summary.json", text)
        return Told(facts, found, plain)

    def _write_run(
        self,
        out: Path,
        stitched: Stitched,
        untouched: Outcome,
        tested: Sequence[Tested],
        notes: Sequence[str],
    ) -> Path:
        """Write the stitched run as a back-test's, with what its windows chose."""
        from ibs_core.cli.run_package import package
        from ibs_core.report.folder import write_run
        from ibs_core.report.tear_sheet import render
        from ibs_core.walk_forward.told import choices

        windows = choices(tested, self.grid.paths)
        lines = [
            f"# window {each['number']}, {' to '.join(each['test'])}: {json.dumps(each['parameters'])}\n"
            for each in windows
        ]
        mark = (
            f"stitched out-of-sample: {len(windows)} windows of a walk-forward, each traded with the parameters "
            "that its training sessions chose; the configuration holds them as comments"
        )
        outcome = replace(
            untouched,
            trades=stitched.trades,
            decisions=stitched.decisions,
            equity=stitched.equity,
            lows=stitched.lows,
            # Signal bars and what follows them are those of the configuration as it is.
            stats={key: untouched.stats[key] for key in ("data", "forward_returns")}
            | stitched.stats,
            warnings=[mark, *notes],
        )
        span = (tested[0].fitted.window.test[0], tested[-1].fitted.window.test[1])
        run = package(
            *(outcome, self.settings, self.contracts, self.source),
            roots=list(self.roots),
            span=span,
        )
        told = f"{run.meta['config_hash']}{json.dumps(windows)}"
        meta = run.meta | {
            "walk_forward": windows,
            "config_hash": hashlib.sha256(told.encode()).hexdigest(),
        }
        text = "".join(lines) + run.config_yaml
        run = replace(run, meta=meta, config_yaml=text)
        return write_run(run, out, html=render(run))


def _extra(error: ImportError) -> EnvironmentFault:
    return EnvironmentFault(
        "walk-forwards need an extra", found=str(error), remedy="pip install 'ibs[train]'"
    )
