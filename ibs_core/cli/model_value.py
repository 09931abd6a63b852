"""`ibs model veto-value`: what the vetoes saved or cost against a back-test without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ibs_core.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.table import Table

__all__ = ["veto_value"]

_HEAD: Final = (
    ("trades off", "trades_off"),
    ("trades veto", "trades_veto"),
    ("net USD off", "net_usd_off"),
    ("net USD veto", "net_usd_veto"),
    ("value USD", "value_usd"),
)


@click.command("veto-value")
@options.bars
@options.span
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Of the sessions, for the interval.",
)
@options.seed
@options.as_json
@options.quiet
def veto_value(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    start: str | None,
    end: str | None,
    resamples: int,
    seed: int,
    json_: bool,
    quiet: bool,
) -> None:
    """Back-test with the vetoes and without: what they saved or cost, and how sure that is.

    Trades that a model was trained on are told apart. The interval comes from resampling whole sessions,
    all symbols together.
    """
    paths = options.paths_of(parquet, more)
    first, last = options.span_of(start, end)
    silent = json_ or quiet
    from ibs_core.cli.veto_models import models_for
    from ibs_core.market_data import open_bars

    settings, contracts = options.settings_of(config)
    settings = settings.in_mode("veto")
    models = models_for(settings, contracts)
    assert models is not None
    roots = options.roots_of(symbols, contracts)
    source = open_bars(paths, contracts)
    options.compile_notice(silent=silent)
    from ibs_core.research.sample_data import is_generated
    from ibs_core.veto_value import veto_value as measured

    def rows_twice() -> int | None:
        rows = source.n_rows()
        return None if rows is None else 2 * rows

    with options.progress_bar("reading", rows_twice, silent=silent) as progress:
        facts = measured(
            source,
            settings,
            contracts,
            models,
            roots=roots,
            start=first,
            end=last,
            n_resamples=resamples,
            seed=seed,
            progress=progress,
        )
    facts["generated_data"] = any(map(is_generated, source.files))
    if json_:
        options.say_json(facts)
    elif not quiet:
        _print(facts)


def _print(facts: Mapping[str, Any]) -> None:
    console = options.console()
    outside, inside = facts["outside"], facts["inside"]
    console.print(_table("Value of the vetoes, outside the training windows", outside))
    if inside["total"]["trades_off"] or inside["total"]["trades_veto"]:
        console.print(_table("Inside the training windows: no evidence of the models", inside))
    lines = [*_kept_out(facts), _spread(facts["bootstrap"])]
    lines += [f"note: {line}" for line in facts["warnings"]]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    if facts["generated_data"]:
        console.print("generated data: this shows how the system works, never an edge")


def _table(title: str, part: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    judged = "interval_usd" in part["total"]
    heads = ["", *(name for name, _ in _HEAD), *(("interval USD", "<= 0") if judged else ())]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(heads):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for symbol, row in (*part["by_symbol"].items(), ("total", part["total"])):
        cells = [f"{row[key]:,}" if "trades" in key else f"{row[key]:,.0f}" for _, key in _HEAD]
        if judged and row["interval_usd"] is None:
            cells += ["-", "-"]
        elif judged:
            low, high = row["interval_usd"]
            cells += [f"{low:,.0f} to {high:,.0f}", f"{row['share_at_most_zero']:.1%}"]
        table.add_row(symbol, *cells)
    return table


def _kept_out(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    for symbol, row in facts["outside"]["by_symbol"].items():
        line = (
            f"{symbol}: kept out {row['kept_out']:,} entries that alone would have made "
            f"{row['kept_out_net_usd']:,.0f} USD; all {row['vetoed']:,} vetoed candidates, each alone: "
            f"{row['vetoed_net_usd']:,.0f} USD"
        )
        lines.append(line)
        if left_out := facts["left_out"][symbol]:
            lines.append(
                f"{symbol}: {left_out:,} trades before the first judged candidate are left out"
            )
        if waiting := facts["waiting"][symbol]:
            lines.append(f"{symbol}: {waiting:,} candidates waited for the model's features")
    return lines


def _spread(told: Mapping[str, Any]) -> str:
    if told["mean_block_sessions"] is None:
        return f"no interval: {told['sessions']} sessions lie outside the training windows"
    return (
        f"{told['confidence']:.0%} interval: stationary bootstrap, {told['resamples']:,} resamples of {told['sessions']:,} sessions from "
        f"{told['first_session']} to {told['last_session']}, blocks of {told['mean_block_sessions']} on average, "
        f"seed {told['seed']}"
    )
