"""`ibs report`: render a run again from its folder, or compare it with others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from ibs_core.report.run import Run

__all__ = ["report"]

_SHOWN = (
    "trades",
    "net_usd",
    "sharpe",
    "max_drawdown_usd",
    "profit_factor",
    "win_rate",
    "expectancy_usd",
    "cost_share",
)


@click.command(
    epilog="Exit codes: 0 ok, 1 a file of the run is damaged, 2 an option is wrong, "
    "3 a file is missing or cannot be written.",
)
@click.argument("run", type=options.PATH)
@click.option(
    "--compare",
    "compare",
    multiple=True,
    type=options.PATH,
    help="Run folders to set beside RUN; several may follow.",
)
@click.argument("more", nargs=-1, type=options.PATH, metavar="[RUN2]…")
@click.option(
    "--out",
    type=options.PATH,
    help="The page to write. Default: report.html in RUN, comparison.html when runs are compared.",
)
@options.as_json
@options.quiet
def report(
    *,
    run: Path,
    compare: tuple[Path, ...],
    more: tuple[Path, ...],
    out: Path | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Render the report of the run folder RUN again, or compare runs; nothing but their files is read."""
    folders = _folders(run, compare, more)
    target = _target(out, run, compares=len(folders) > 1)
    from ibs_core.report.folder import read_run, write_text

    names = _names(folders)
    runs = {name: read_run(folder) for name, folder in zip(names, folders, strict=True)}
    if len(runs) == 1:
        from ibs_core.report.stored import not_kept
        from ibs_core.report.tear_sheet import render

        (only,) = runs.values()
        write_text(target, render(only))
        gone = not_kept(only)
        if json_:
            options.say_json({"report": str(target), "run": names[0], "not_kept": gone})
        elif not quiet:
            _print(
                None, [f"not kept by the version that wrote it: {each}" for each in gone], target
            )
        return
    from ibs_core.report.comparison import compared, doubts
    from ibs_core.report.comparison_page import render_comparison

    write_text(target, render_comparison(runs))
    if json_:
        options.say_json(_document(runs, folders, target))
    elif not quiet:
        _print(_table(list(runs), compared(runs)), doubts(runs), target)


def _folders(run: Path, compare: Sequence[Path], more: Sequence[Path]) -> list[Path]:
    """List the runs, the first first; `--compare A B` as shells expand it."""
    if more and not compare:
        raise click.UsageError(f"{str(more[0])!r} is one run too many; compare with --compare RUN2")
    folders = [run, *compare, *more]
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(
                "option --compare",
                expected="runs that differ",
                found=f"{str(folder)!r} twice",
                remedy="name each run once",
            )
        seen.add(folder.resolve())
    return folders


def _target(out: Path | None, run: Path, *, compares: bool) -> Path:
    """Choose the page's place, and check it before the work."""
    if out is None:
        return run / ("comparison.html" if compares else "report.html")
    if out.is_dir():
        raise ConfigError(
            f"option --out {str(out)!r}",
            expected="a file",
            found="a folder",
            remedy=f"give a name in it, such as {str(out / 'report.html')!r}",
        )
    options.folder_of(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _names(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders, with as much of the path as tells them apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(Path(*path.parts[-depth:])) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _document(runs: Mapping[str, Run], folders: Sequence[Path], target: Path) -> dict[str, Any]:
    from ibs_core.report.comparison import compared, config_changes, doubts

    return {
        "report": str(target),
        "runs": [
            {
                "name": name,
                "folder": str(folder),
                "first_session": run.stats["first_session"],
                "last_session": run.stats["last_session"],
                "capital_usd": run.stats["capital_usd"],
                "data_digest": run.meta["data_digest"],
                "config_hash": run.meta["config_hash"],
            }
            for (name, run), folder in zip(runs.items(), folders, strict=True)
        ],
        "statistics": [
            {key: row[key] for key in ("key", "values", "differences")} for row in compared(runs)
        ],
        "settings": config_changes(runs),
        "notes": doubts(runs),
    }


def _table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ibs_core.report.comparison import format_difference
    from ibs_core.report.definitions import format_value

    table = Table(title="Runs", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for i, name in enumerate(names):
        table.add_column(Text(name), justify="right", overflow="fold")
        if i:
            table.add_column("difference", justify="right", no_wrap=True)
    for row in rows:
        if row["key"] not in _SHOWN:
            continue
        unit, cells = row["unit"], [format_value(row["values"][0], row["unit"])]
        for value, change in zip(row["values"][1:], row["differences"], strict=True):
            cells += [format_value(value, unit), format_difference(change, unit)]
        table.add_row(row["label"], *cells)
    return table


def _print(table: Table | None, notes: Sequence[str], target: Path) -> None:
    console = options.console()
    if table is not None:
        console.print(table)
    for line in notes:
        console.print(f"note: {line}", soft_wrap=True, highlight=False)
    console.print(f"report: {target}", soft_wrap=True, highlight=False)
