"""`ibs orders`: what became of orders, and an operator's word on those whose outcome is unknown."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003  (click reads it)
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import journal_parts, options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.sqlite_journal import OrderRecord, SqliteJournal

__all__ = ["orders"]

_SETTLING_S = 15
_CUT_SHORT = "cut short; the worker's next start makes it AMBIGUOUS, then resolve"


@click.group()
def orders() -> None:
    """List orders and how they were delivered; resolve what is unknown, send dead exits again."""


@orders.command("list")
@journal_parts.journal_file
@click.option("--state", help="Only orders in this state, such as AMBIGUOUS.")
@click.option("--symbol", help="Only orders of this root.")
@click.option("--open", "only_open", is_flag=True, help="Only what is not settled, and dead exits.")
@options.as_json
@options.quiet
def list_(
    *,
    journal: Path,
    state: str | None,
    symbol: str | None,
    only_open: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """List orders, newest last."""
    from adapters.sqlite_journal import has_writer

    is_running = has_writer(journal)
    with journal_parts.opened(journal) as held:
        found = [
            _facts(each, held, is_running=is_running)
            for each in held.orders(state.upper() if state else None, symbol)
            if not only_open or journal_parts.is_open(each)
        ]
    if json_:
        options.say_json(found)
    elif not quiet:
        _table(found)


@orders.command()
@click.argument("order_id")
@journal_parts.journal_file
@options.as_json
@options.quiet
def show(*, order_id: str, journal: Path, json_: bool, quiet: bool) -> None:
    """Show an order, what was sent, every attempt and every state it was in."""
    from adapters.sqlite_journal import has_writer
    from ibs_core.market_data.runs import stamp

    with journal_parts.opened(journal) as held:
        record = _one(held, order_id)
        facts = _facts(record, held, is_running=has_writer(journal)) | {
            "body": record.body,
            "route": record.route,
        }
        facts["moves"] = [
            {"time": stamp(each.time_ns), "state": each.state, "detail": each.detail}
            for each in held.moves(order_id)
        ]
        facts["tried"] = [
            {
                "started": stamp(each.started_ns),
                "ended": None if each.ended_ns is None else stamp(each.ended_ns),
                "sent": "exit in place of the entry" if each.flattens else record.order.action,
                "outcome": each.outcome,
                "status": each.response.status if each.response else None,
                "detail": each.response.detail if each.response else "cut short",
                "id": each.response.signal_id if each.response else "",
                "logId": each.response.log_id if each.response else "",
            }
            for each in held.attempts(order_id)
        ]
    if json_:
        options.say_json(facts)
    elif not quiet:
        _show(facts)


@orders.command()
@click.argument("order_id")
@click.option(
    "--as",
    "verdict",
    type=click.Choice(["filled", "absent", "flat"]),
    required=True,
    help="What the broker shows: filled, never arrived, or closed by hand.",
)
@journal_parts.journal_file
@options.as_json
@options.quiet
def resolve(*, order_id: str, verdict: str, journal: Path, json_: bool, quiet: bool) -> None:
    """Say what the broker shows of an order of unknown outcome; `flat` settles an exit done by hand."""
    _act(journal, order_id, verdict, json_=json_, quiet=quiet)


@orders.command()
@click.argument("order_id")
@journal_parts.journal_file
@options.as_json
@options.quiet
def retry(*, order_id: str, journal: Path, json_: bool, quiet: bool) -> None:
    """Send an exit again that was refused; an entry is never sent again."""
    _act(journal, order_id, "retry", json_=json_, quiet=quiet)


def _act(journal: Path, order_id: str, verdict: str, *, json_: bool, quiet: bool) -> None:
    """Leave a command for the worker that runs, or move the order where none does."""
    from adapters.sqlite_journal import SqliteJournal, has_writer
    from ibs_core.cli.live_parts import last_facts
    from ibs_core.outbox import resolution

    now_ns = time.time_ns()
    with journal_parts.opened(journal) as held:
        record = _one(held, order_id)
        state = resolution(record.order, record.state, verdict)
        _refuse_too_early(record, verdict, now_ns)
        facts = last_facts(held)
    if has_writer(journal):
        word = {"order_id": order_id, "verdict": verdict}
        number = journal_parts.ask(journal, "resolve", word, wait_s=0).command
        told = {"order_id": order_id, "state": record.state, "asked": state, "command": number}
        line = f"the worker was asked (command {number}): `ibs orders show {order_id}` tells when it is {state}"
    else:
        with SqliteJournal(journal) as held:
            held.begin(now_ns, facts)  # of the same rule, so that the worker goes on
            held.order_state(order_id, state, now_ns, f"by an operator: {verdict}")
            held.end(now_ns, f"ibs orders: {verdict}")
        told = {"order_id": order_id, "state": state, "asked": state, "command": None}
        line = f"{order_id} is {state}; no worker runs, the next one takes it from there"
    if json_:
        options.say_json(told)
    elif not quiet:
        click.echo(line)


def _refuse_too_early(record: OrderRecord, verdict: str, now_ns: int) -> None:
    """Refuse to say of an entry what the broker may not show yet."""
    waited_s = (now_ns - record.updated_ns) / 10**9
    if record.order.action == "entry" and verdict != "flat" and waited_s < _SETTLING_S:
        raise ConfigError(
            f"entry {record.order.order_id} has been AMBIGUOUS for {waited_s:.0f} s",
            expected=f"{_SETTLING_S} s or more, for it may still fill",
            remedy="look at the broker again",
        )


def _one(journal: SqliteJournal, order_id: str) -> OrderRecord:
    for each in journal.orders():
        if each.order.order_id == order_id:
            return each
    raise ConfigError(f"order {order_id!r}", expected="one of `ibs orders list`", found="none")


def _facts(record: OrderRecord, journal: SqliteJournal, *, is_running: bool) -> dict[str, Any]:
    from ibs_core.market_data.runs import stamp

    order, moves = record.order, journal.moves(record.order.order_id)
    attempts = journal.attempts(order.order_id)
    n_exits = sum(each.flattens for each in attempts)
    why = moves[-1].detail if moves else ""
    if record.state == "SENDING" and not is_running:
        why = _CUT_SHORT
    return {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "instrument": order.instrument,
        "action": order.action,
        "reason": order.reason,
        "quantity": order.quantity,
        "price": order.price,
        "decided": stamp(order.decided_ns),
        "state": record.state,
        "since": stamp(record.updated_ns),
        "why": why,
        "attempts": len(attempts) - n_exits,
        "exits": n_exits,
    }


def _table(found: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    if not found:
        click.echo("no orders")
        return
    table = Table(box=None, header_style="bold")
    for name in ("order", "contract", "action", "decided", "state", "tries", "why"):
        table.add_column(name, overflow="fold")
    for each in found:
        table.add_row(
            each["order_id"],
            each["instrument"],
            each["action"],
            each["decided"],
            each["state"],
            f"{each['attempts']} + {each['exits']} exits"
            if each["exits"]
            else f"{each['attempts']}",
            each["why"],
        )
    options.console().print(table)


def _show(facts: dict[str, Any]) -> None:
    what = " ".join(filter(None, (facts["action"], facts["reason"], facts["instrument"])))
    click.echo(f"{facts['order_id']}: {what}, {facts['quantity']} at {facts['price']:g}")
    why = f": {facts['why']}" if facts["why"] == _CUT_SHORT else ""
    click.echo(f"decided {facts['decided']}; {facts['state']} since {facts['since']}{why}")
    for each in facts["moves"]:
        click.echo(f"  {each['time']}  {each['state']}  {each['detail']}".rstrip())
    for each in facts["tried"]:
        names = " ".join(filter(None, (each["detail"], each["id"], each["logId"])))
        status = "" if each["status"] is None else f" HTTP {each['status']}"
        click.echo(
            f"  {each['started']}  sent the {each['sent']}: {each['outcome']}{status} {names}"
        )
    if facts["body"]:
        click.echo(facts["body"])
