"""Options and outputs that several commands share."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap

__all__ = [
    "ADDRESS",
    "PATH",
    "as_json",
    "bars",
    "compile_notice",
    "config_files",
    "console",
    "contract_map_of",
    "features_of",
    "folder_of",
    "grid",
    "models_folder",
    "paths_of",
    "progress_bar",
    "quiet",
    "refuse_among",
    "resumable",
    "roots_of",
    "say_json",
    "scorer",
    "seed",
    "settings_of",
    "span",
    "span_of",
    "strict",
    "workers",
]

# Readers say what is wrong with a path, with the exit code of a missing permission.
PATH = click.Path(path_type=Path, readable=False)

_F = TypeVar("_F", bound=Callable[..., Any])


class _Address(click.ParamType[tuple[str, int]]):
    name = "host:port"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        """Read an address."""
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            self.fail(f"expected an address such as 127.0.0.1:13000, found {value!r}", param, ctx)
        return host, int(port)


ADDRESS = _Address()


def as_json(function: _F) -> _F:
    """Add ``--json``."""
    return click.option(
        "--json", "json_", is_flag=True, help="Print one JSON document instead of tables."
    )(function)


def quiet(function: _F) -> _F:
    """Add ``--quiet``."""
    return click.option("--quiet", is_flag=True, help="Print nothing but errors.")(function)


def config_files(function: _F) -> _F:
    """Add ``--config``, repeatable."""
    return click.option(
        "--config",
        "config",
        multiple=True,
        type=PATH,
        help="A YAML file of settings; repeat it to lay one over another, later files win.",
    )(function)


def bars(function: _F) -> _F:
    """Add what most commands read: bars, settings and symbols."""
    for option in (
        click.option(
            "--symbols",
            help="Comma-separated roots, such as ES,NQ. Default: the configuration's, else all.",
        ),
        config_files,
        click.argument("more", nargs=-1, type=PATH, metavar="[PATH]…"),
        click.option(
            "--parquet",
            "parquet",
            multiple=True,
            type=PATH,
            help="Minute bars: files, folders or globs (Parquet, or Databento .dbn.zst); several may follow.",
        ),
    ):
        function = option(function)
    return function


def span(function: _F) -> _F:
    """Add the sessions traded."""
    for option in (
        click.option("--end", help="Last session date traded; later bars are not read."),
        click.option("--start", help="First session date traded; earlier bars are observed only."),
    ):
        function = option(function)
    return function


def strict(function: _F) -> _F:
    """Add ``--strict``."""
    return click.option("--strict", is_flag=True, help="Refuse data that would be repaired.")(
        function
    )


def seed(function: _F) -> _F:
    """Add ``--seed``, of what an option before it counts."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Draws them."
    )(function)


def grid(function: _F) -> _F:
    """Add ``--grid``, repeatable."""
    return click.option(
        "--grid",
        "grids",
        multiple=True,
        metavar="PATH=VALUES",
        help="A parameter and its values: strategy.entry.ibs.1=0.1:0.3:0.05 (both ends included) or "
        "strategy.exits.bars=4,8,null; repeat it for a product.",
    )(function)


def workers(function: _F) -> _F:
    """Add ``--jobs`` and ``--cluster``: who tries candidates."""
    function = click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Dask scheduler, such as tcp://127.0.0.1:8786, whose workers try the candidates instead.",
    )(function)
    return click.option(
        "--jobs",
        type=int,
        default=-1,
        show_default=True,
        callback=_n_processes,
        help="Processes, -1 for one a core; results do not depend on it.",
    )(function)


def resumable(what: str) -> Callable[[_F], _F]:
    """Add ``--out``, the folder of what goes on where it was, and ``--resume``."""

    def both(function: _F) -> _F:
        resume = click.option(
            "--resume", is_flag=True, help=f"Go on with the {what} that --out holds."
        )
        out = click.option(
            "--out",
            type=PATH,
            default=Path(what),
            show_default=True,
            help=f"Folder of this {what}.",
        )
        return out(resume(function))

    return both


def scorer(function: _F) -> _F:
    """Add ``--scorer``."""
    return click.option(
        "--scorer",
        type=click.Choice(["auto", "compiled", "onnxruntime"]),
        default="auto",
        show_default=True,
        help="Score models compiled or by onnxruntime, to the same bits; auto: compiled if it passes the check.",
    )(function)


def models_folder(function: _F) -> _F:
    """Add ``--models``."""
    return click.option(
        "--models",
        type=PATH,
        default=Path("models"),
        show_default=True,
        help="Folder of bundles; a training keeps its ledger and its searches there too.",
    )(function)


def paths_of(parquet: Sequence[Path], more: Sequence[Path]) -> list[Path]:
    """Join ``--parquet A B C`` as shells expand it: the option's value and what follows."""
    paths = [*parquet, *more]
    if not paths:
        raise click.UsageError("say what to read: --parquet PATH…")
    return paths


def roots_of(symbols: str | None, contracts: ContractMap) -> list[str] | None:
    """Read ``--symbols``: roots of the contract map, each once; None when it is not given."""
    if symbols is None:
        return None
    roots = [root.strip().upper() for root in symbols.split(",") if root.strip()]
    if not roots:
        raise ConfigError("option --symbols", expected="roots such as ES,NQ", found=repr(symbols))
    for root in roots:
        if root not in contracts.contracts:
            error = contracts.unknown(root)
            raise ConfigError(
                "option --symbols", expected=error.expected, found=error.found, remedy=error.remedy
            )
    return list(dict.fromkeys(roots))


def features_of(names: str | None) -> list[str] | None:
    """Read ``--features``: names, each once; None when it is not given."""
    if names is None:
        return None
    found = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not found:
        raise ConfigError(
            "option --features", expected="names such as bar_rsi2,day_ibs", found=repr(names)
        )
    return found


def settings_of(
    config: tuple[Path, ...], *, model_mode: str | None = None
) -> tuple[Settings, ContractMap]:
    """Load settings, and the contract map that they name, or our own."""
    from ibs_core.config import load_settings
    from ibs_core.contracts import load_contract_map

    overrides = {"model": {"mode": model_mode}} if model_mode else None
    settings = load_settings(config, overrides=overrides)
    named = Path(settings.contract_map) if settings.contract_map else None
    return settings, load_contract_map(named)


def contract_map_of(config: tuple[Path, ...]) -> ContractMap:
    """Load the contract map that settings name, or our own."""
    return settings_of(config)[1]


def span_of(start: str | None, end: str | None) -> tuple[date | None, date | None]:
    """Read ``--start`` and ``--end``, session dates, both included."""
    first, last = _session_date(start, "--start"), _session_date(end, "--end")
    if first and last and first > last:
        raise ConfigError(
            "options --start and --end",
            expected="a start at or before the end",
            found=f"{first} to {last}",
        )
    return first, last


def folder_of(path: Path, option: str = "--out") -> Path:
    """Check the folder that an option names before the work, not after it."""
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        found, remedy = f"the file {str(existing)!r}", "give a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        found, remedy = f"no permission to write into {str(existing)!r}", "change its owner or mode"
    else:
        return path
    raise EnvironmentFault(
        f"option {option} {str(path)!r}",
        expected="a folder that may be written",
        found=found,
        remedy=remedy,
    )


def refuse_among(paths: Sequence[Path], out: Path) -> None:
    """Refuse a table that a folder or a glob of bars would take in as bars."""
    for path in paths:
        if path.is_dir():
            taken = out.resolve().is_relative_to(path.resolve())
        else:
            taken = not path.exists() and fnmatch.fnmatch(str(out.absolute()), str(path.absolute()))
        if taken:
            raise click.UsageError(
                f"--out {out} lies in a folder of bars or fits their glob: it would be read as bars"
            )


def _n_processes(_context: click.Context, _option: click.Parameter, value: int) -> int:
    if value < 1 and value != -1:
        raise click.UsageError("--jobs takes a number of processes, or -1 for one a core")
    return value


def _session_date(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"option {option}", expected="a date such as 2025-03-31", found=repr(text)
        ) from None


def say_json(document: Any) -> None:
    """Print a document as JSON, keys sorted."""
    click.echo(json.dumps(document, indent=2, sort_keys=True, allow_nan=False, default=str))


def compile_notice(*, silent: bool) -> None:
    """Tell that the first run compiles, before it does, and begin on another core."""
    from ibs_core.kernels._jit import is_warm

    if is_warm():
        return
    from ibs_core.cli.first_run import compile_beside

    compile_beside()
    if not silent:
        click.echo("compiling the kernels, once for this version: about 20 seconds …", err=True)


@contextlib.contextmanager
def progress_bar(
    title: str, total: Callable[[], int | None], *, silent: bool
) -> Iterator[Callable[[str, int], None]]:
    """Show progress on a terminal; nothing elsewhere.

    Parameters
    ----------
    title : str
    total : callable
        Returns the rows to come, or None; called only where there is a terminal.
    silent : bool

    Yields
    ------
    callable
        Takes what is worked on and the rows just done.
    """
    if silent or not sys.stderr.isatty():
        yield lambda _what, _rows: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from ibs_core.kernels._jit import watched

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total())

        def compiling(begun: int, of: int) -> None:
            bar.update(task, description=f"compiling kernels {begun}/{of}")

        with watched(compiling):
            yield lambda what, rows: bar.update(task, advance=rows, description=f"{title} {what}")


def console() -> Console:
    """Return a console for tables: as wide as the terminal, or wide enough for numbers in a pipe."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, 120))
