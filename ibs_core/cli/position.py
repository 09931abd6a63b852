"""`ibs position`: what the book holds, and an operator's word that a position was closed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import journal_parts, options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adapters.sqlite_journal import SqliteJournal

__all__ = ["position"]


@click.group()
def position() -> None:
    """Show what the book holds; tell it what was closed by hand."""


@position.command("list")
@journal_parts.journal_file
@options.as_json
@options.quiet
def list_(*, journal: Path, json_: bool, quiet: bool) -> None:
    """List positions as the journal has them, at its last entry."""
    with journal_parts.opened(journal) as held:
        options.compile_notice(silent=json_ or quiet)
        facts = _facts(held)
    if json_:
        options.say_json(facts)
    elif not quiet:
        _show(facts)


@position.command("set")
@click.argument("symbol")
@click.argument("what", type=click.Choice(["flat"]))
@journal_parts.yes
@journal_parts.journal_file
@journal_parts.wait
@options.as_json
@options.quiet
def set_(
    *, symbol: str, what: str, yes: bool, journal: Path, wait_s: float, json_: bool, quiet: bool
) -> None:
    """Tell the worker that you closed a position by hand: the book follows, nothing is sent."""
    del what  # the one word there is
    with journal_parts.opened(journal) as held:
        (root,) = journal_parts.roots_in(held, [symbol])
        options.compile_notice(silent=json_ or quiet)
        (now,) = [each for each in _facts(held)["positions"] if each["symbol"] == root]
    if now["status"] == "flat":
        raise ConfigError(
            f"position of {root}",
            expected="one that the book does not have flat",
            found="flat",
            remedy="`ibs position list` shows what it holds",
        )
    # An entry fills in the book at the next slice; the worker knows before.
    named = f"{now['quantity']} {now['instrument'] or root}"
    journal_parts.sure(f"is {named} closed at the broker, and no order of it left?", yes=yes)
    answer = journal_parts.ask(journal, "position", {"symbol": root}, wait_s=wait_s)
    hint = "`ibs position list` shows it once a bar has closed"
    journal_parts.say_answer(answer, hint, json_=json_, quiet=quiet)


def _facts(journal: SqliteJournal) -> dict[str, Any]:
    from adapters.sqlite_journal import has_writer
    from ibs_core.market_data.runs import stamp

    book = journal_parts.book_of(journal)
    unsettled: dict[str, list[str]] = {}
    for each in journal.orders():
        if journal_parts.is_open(each):
            unsettled.setdefault(each.order.symbol, []).append(each.order.order_id)
    return {
        "until": stamp(book.engine.until_ns),
        "worker": has_writer(journal.path),
        "positions": [
            each | {"unsettled": unsettled.get(each["symbol"], [])}
            for each in journal_parts.positions_of(book.engine, book.lines)
        ],
    }


def _show(facts: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("symbol")
    for name in ("status", "contract"):
        table.add_column(name)
    for name in ("qty", "entry", "stop", "target", "last", "open USD"):
        table.add_column(name, justify="right")
    for name in ("since", "unsettled orders"):
        table.add_column(name, overflow="fold")
    for each in facts["positions"]:
        prices = ("entry_price", "protective_stop", "protective_target", "last_price")
        table.add_row(
            each["symbol"],
            each["status"],
            each["instrument"],
            str(each["quantity"] or ""),
            *("" if each[name] is None else f"{each[name]:.10g}" for name in prices),
            f"{each['open_usd']:,.2f}" if each["instrument"] else "",
            each["entry_time"],
            " ".join(each["unsettled"]),
        )
    options.console().print(table)
    who = "a worker runs" if facts["worker"] else "no worker runs"
    click.echo(f"as of {facts['until']}; {who}")
