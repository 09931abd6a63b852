"""`ibs monte-carlo`: how a run could have come out otherwise, and how often it would have kept rules."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (click reads it)
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from ibs_core.contracts import ContractMap
    from ibs_core.prop_rules import PropRules
    from ibs_core.report.run import Run

__all__ = ["monte_carlo"]


@click.command(
    epilog="Exit codes: 0 ok, 1 the run has too little to draw from, 2 an option or the rules are wrong or the run's "
    "configuration does not keep them, 3 the folder is none of a run, or a file is missing.",
)
@click.argument("run", type=options.PATH)
@click.option(
    "--paths",
    type=click.IntRange(min=100, max=100_000),
    default=10_000,
    show_default=True,
    help="To draw.",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=1, max=25_000),
    help="Of a path. Default: as many as the run has.",
)
@click.option(
    "--block",
    type=click.FloatRange(min=1),
    help="Sessions that stay together, on average. Default: the cube root of the run's.",
)
@options.seed
@click.option(
    "--floor",
    type=float,
    default=0.0,
    show_default=True,
    help="Equity in USD at or below which a path is ruined.",
)
@click.option("--rules", type=options.PATH, help="A rule set (YAML) to judge the paths by.")
@click.option("--out", type=options.PATH, help="An HTML file to draw the paths in.")
@options.as_json
@options.quiet
def monte_carlo(
    *,
    run: Path,
    paths: int,
    sessions: int | None,
    block: float | None,
    seed: int,
    floor: float,
    rules: Path | None,
    out: Path | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Draw the sessions of the run folder RUN again, in blocks: bands of equity, drawdown, ruin.

    With --rules also how likely the trades pass an account's rules, which the configuration of the run has to
    keep: what is judged here is what live does.
    """
    if out is not None:
        options.folder_of(out.parent)
    from ibs_core.prop_rules import load_rules
    from ibs_core.report.folder import read_run, write_text
    from ibs_core.report.monte_carlo import monte_carlo as drawn
    from ibs_core.report.session_moves import moves_of

    limits = None if rules is None else load_rules(rules)
    past = read_run(run)
    facts = drawn(
        moves_of(past, contracts=_kept(limits, past, run)),
        capital=float(past.stats["capital_usd"]),
        floor=floor,
        n_paths=paths,
        n_sessions=sessions,
        mean_block=block,
        seed=seed,
        rules=limits,
    )
    name, generated = run.resolve().name, bool(past.meta["generated_data"])
    if out is not None:
        from ibs_core.report.monte_carlo_page import render_monte_carlo

        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, render_monte_carlo(facts, name=name, generated=generated))
    if json_:
        options.say_json({"run": name, "generated_data": generated, **facts})
    elif not quiet:
        _print(name, facts, generated=generated, out=out)


def _kept(rules: PropRules | None, run: Run, folder: Path) -> ContractMap | None:
    """Refuse a run that does not keep the rules; return the contracts where highs are needed."""
    if rules is None:
        return None
    from ibs_core.config import load_settings
    from ibs_core.prop_rules import unkept
    from ibs_core.report.run import TOTAL

    path = folder / "config.resolved.yml"
    roots = sorted(set(run.equity["symbol"].unique()) - {TOTAL})
    if broken := unkept(rules, load_settings([path]), roots):
        raise ConfigError(
            "the configuration of the run does not keep the rules",
            expected=f"all of {rules.name!r}",
            found="; ".join(broken),
            where=str(path),
            remedy="correct it, run the back-test again, and trade live with the same",
        )
    if rules.drawdown is None or rules.drawdown.trails != "intraday":
        return None
    return options.contract_map_of((path,))


def _print(name: str, facts: Mapping[str, Any], *, generated: bool, out: Path | None) -> None:
    from ibs_core.report.monte_carlo import sentences

    console = options.console()
    console.print(_table(name, facts))
    rules = facts["rules"]
    lines = sentences(dict(facts))
    if rules is not None:
        lines.insert(2, f"rules: {rules['rules']['name']}")
    if facts["left_out_sessions"]:
        lines.append(
            f"note: {facts['left_out_sessions']:,} sessions inside training windows are left out"
        )
    if generated:
        lines.append("generated data: this shows how the system works, never an edge")
    if out is not None:
        lines.append(f"picture: {out}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _table(name: str, facts: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ibs_core.report.monte_carlo import STATISTICS

    title = (
        f"{name}: {facts['paths']:,} paths of {facts['path_sessions']:,} sessions drawn from "
        f"{facts['sessions']:,}, blocks of {facts['mean_block_sessions']:g}, seed {facts['seed']}"
    )
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("USD", no_wrap=True)
    for head in ("the run", *(f"{level:.0%}" for level in facts["levels"])):
        table.add_column(head, justify="right", no_wrap=True)
    for key, label in STATISTICS.items():
        own = facts[key]
        values = (own["run_usd"], *own["quantiles_usd"])
        table.add_row(label, *(f"{value:,.0f}" for value in values))
    return table
