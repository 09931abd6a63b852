"""`ibs check`: proofs on the user's own data that no result comes from the future, nor from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibs_core.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from ibs_core.checks.lookahead import Finding
    from ibs_core.checks.warmup import FeatureHistory, PointHistory
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars

__all__ = ["check"]

_SHOWN = 20  # findings printed; --json has all of them


@click.group()
def check() -> None:
    """Prove on your data that nothing comes from later bars; measure the history that results need."""


_features = click.option(
    "--features", help="Comma-separated names; default: all that the data can serve."
)


@check.command()
@options.bars
@_features
@click.option(
    "--cuts",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Instants at which the data are cut.",
)
@options.seed
@options.as_json
@options.quiet
def lookahead(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    features: str | None,
    cuts: int,
    seed: int,
    json_: bool,
    quiet: bool,
) -> None:
    """Cut the data at random instants and compare: what was known by then may not change."""
    silent = json_ or quiet
    held, settings, contracts, roots = _read(parquet, more, config, symbols, silent=silent)
    from ibs_core.checks import lookahead as law
    from ibs_core.checks.pictures import EnginePictures
    from ibs_core.cli.veto_models import models_for

    with options.progress_bar("cutting", lambda: cuts + 1, silent=silent) as progress:
        pictures = EnginePictures(
            held,
            settings,
            contracts,
            roots=roots,
            names=options.features_of(features),
            models=models_for(settings, contracts),
            progress=progress,
        )
        whole = pictures(None)
        chosen = law.choose_cuts(whole, cuts, seed)
        findings = law.check(pictures, chosen)
    compared = law.count_compared(whole, chosen)
    if json_:
        found = [each.to_dict() for each in findings]
        options.say_json({"compared": compared, "cuts_ns": chosen, "findings": found})
    elif not quiet:
        _tell(compared, findings)
    law.refuse(findings)


@check.command()
@options.bars
@_features
@click.option(
    "--points",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Sessions at which decisions are compared, and starts from which features are.",
)
@options.seed
@options.as_json
@options.quiet
def warmup(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    features: str | None,
    points: int,
    seed: int,
    json_: bool,
    quiet: bool,
) -> None:
    """Start the data later and compare: how much history decisions and features need."""
    silent = json_ or quiet
    held, settings, contracts, roots = _read(parquet, more, config, symbols, silent=silent)
    from ibs_core.checks.warmup import WarmUp, to_dict
    from ibs_core.cli.veto_models import models_for

    with options.progress_bar("starting later", lambda: 2 * points, silent=silent) as progress:
        measured = WarmUp(
            held,
            settings,
            contracts,
            roots=roots,
            names=options.features_of(features),
            models=models_for(settings, contracts),
            progress=progress,
        )
        decisions = measured.of_decisions(points, seed)
        by_feature = measured.of_features(points, seed)
    if json_:
        options.say_json(to_dict(decisions, by_feature))
    elif not quiet:
        _tell_history(decisions, by_feature)


def _read(
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    *,
    silent: bool,
) -> tuple[HeldBars, Settings, ContractMap, list[str] | None]:
    """Read settings and bars."""
    paths = options.paths_of(parquet, more)
    from ibs_core.market_data import hold, open_bars

    settings, contracts = options.settings_of(config)
    roots = options.roots_of(symbols, contracts)
    source = open_bars(paths, contracts)
    options.compile_notice(silent=silent)
    return hold(source), settings, contracts, roots


def _tell(compared: dict[str, int], findings: list[Finding]) -> None:
    console = options.console()
    row = [f"{number:,}" for number in compared.values()]
    console.print(_table("Compared", [name.capitalize() for name in compared], [row], n_left=0))
    for finding in findings[:_SHOWN]:
        console.print(str(finding), soft_wrap=True, highlight=False, markup=False)
    if len(findings) > _SHOWN:
        console.print(f"… {len(findings) - _SHOWN} more; --json lists them")
    if not findings:
        console.print("no later bar changes an earlier value")


def _tell_history(points: list[PointHistory], features: list[FeatureHistory]) -> None:
    from ibs_core.checks.warmup import SESSIONS_COMPARED

    console = options.console()
    rows = [
        [
            each.first_session,
            each.start,
            str(each.sessions) if each.enough else "too short to tell",
            str(each.available),
        ]
        for each in points
    ]
    head = ["First session", "Data from", "Sessions needed", "Sessions before it"]
    console.print(_table("Decisions", head, rows, n_left=2))
    rows = [
        [
            each.name,
            each.of,
            str(each.warmup),
            str(each.full),
            "data decide" if each.settles is None else str(each.settles),
            str(each.needed) if each.enough else "too short to tell",
        ]
        for each in features
    ]
    head = ["Feature", "Counts", "First value", "Full", "Settles by", "Needed here"]
    console.print(_table("Features", head, rows, n_left=2))
    if all(each.enough for each in points):
        most = max(each.sessions for each in points)
        console.print(
            f"with {most} sessions of history the next {SESSIONS_COMPARED} decide as with all of it"
        )
    else:
        console.print("the data are too short to tell how much history decisions need")
    for each in features:
        if not each.kept:
            console.print(f"{each.name} needed {each.needed} {each.of}, more than it promises")


def _table(title: str, head: list[str], rows: list[list[str]], *, n_left: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < n_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
