"""`ibs fills`: a broker's statement beside the journal: slippage and costs as they were, and drift."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from fractions import Fraction
from pathlib import Path  # noqa: TC003  (click reads it)
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import journal_parts, options
from ibs_core.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli.journal_parts import Book
    from ibs_core.fills import Held, Traded

__all__ = ["fills"]

_NANO = 10**9
_SHOWN = 20


@click.group()
def fills() -> None:
    """Hold a broker's statement against the journal."""


@fills.command("import")
@click.argument("statement", type=options.PATH)
@journal_parts.journal_file
@click.option("--zone", help="Of times without an offset, such as America/Chicago.")
@click.option("--since", help="The statement begins here. Default: at the journal's begin.")
@click.option("--until", help="The statement ends here, exclusive. Default: at the journal's end.")
@click.option(
    "--window",
    type=click.FloatRange(min=0, min_open=True),
    default=15.0,
    show_default=True,
    help="Minutes after its decision, or the book's fill, in which an order may fill.",
)
@options.as_json
@options.quiet
def import_(
    *,
    statement: Path,
    journal: Path,
    zone: str | None,
    since: str | None,
    until: str | None,
    window: float,
    json_: bool,
    quiet: bool,
) -> None:
    """Match a statement (CSV: time,contract,side,quantity,price,commission) with the journal's orders.

    Tells what each order cost beside what the book assumed. Nothing is written: the statement is the record.
    Exit 1 when statement and journal differ in what was traded.
    """
    named = _zone(zone)
    span = (_instant(since, "--since", named, 0), _instant(until, "--until", named, 2**62))
    facts = _facts(
        statement, journal, named, span, round(window * 60 * _NANO), silent=json_ or quiet
    )
    if json_:
        options.say_json(facts)
    elif not quiet:
        _show(facts)
    if drift := facts["drift"]:
        raise DataError(
            "statement and journal differ",
            expected="no drift",
            found=f"{len(drift)}; first: {drift[0]['text']}",
            where=str(statement),
        )


def _facts(
    statement: Path,
    path: Path,
    zone: tzinfo | None,
    span: tuple[int, int],
    window_ns: int,
    *,
    silent: bool,
) -> dict[str, Any]:
    from ibs_core import fills as matching

    with journal_parts.opened(path) as held:
        options.compile_notice(silent=silent)
        book = journal_parts.book_of(held)
        rows = matching.read_statement(_text(statement), book.contracts, zone)
        legs = matching.legs_of(held.orders(), _held(held, book))
    own = [each for each in rows if span[0] <= each.time_ns < span[1]]
    traded, rest = matching.match(
        own, [each for each in legs if span[0] <= each.decided_ns < span[1]], window_ns
    )
    at_end = matching.net(legs, own, *span)
    lines = {line.root: line for line in book.lines}
    return {
        "statement": str(statement),
        "journal": str(path),
        "rows": len(rows),
        "rows_in_span": len(own),
        "rows_matched": len(own) - len(rest),
        "orders": [_order(each, book) for each in traded if each.fills],
        "symbols": [
            _total(root, [each for each in traded if each.leg.symbol == root], book)
            for root in lines
        ],
        "positions": [
            {"instrument": name, "book": n, "statement": shown}
            for name, (n, shown) in at_end.items()
        ],
        "drift": [asdict(each) for each in matching.compare(traded, rest, at_end)],
    }


def _held(journal: SqliteJournal, book: Book) -> list[Held]:
    """List every position that the book ever held."""
    from ibs_core.bars import EXIT_REASONS
    from ibs_core.fills import Held
    from ibs_core.positions import LEAVING, OPEN

    roots = [line.root for line in book.lines]
    found = [
        Held(
            roots[trade["symbol"]],
            int(trade["entry_ns"]),
            float(trade["entry_price"]),
            int(trade["exit_ns"]),
            float(trade["exit_price"]),
            EXIT_REASONS[int(trade["reason"]) - 1],
        )
        for stored in journal.entries(until_seq=book.seq)
        for trade in stored.arrays["trades"]
    ]
    for root, position in zip(roots, book.engine.book, strict=True):
        if position["status"] in (OPEN, LEAVING):
            trade = position["trade"]
            entry = int(trade["entry_ns"]), float(trade["entry_price"])
            found.append(Held(root, *entry, None, None, ""))
    return found


# ---------------------------------------------------------------------- figures


def _order(traded: Traded, book: Book) -> dict[str, Any]:
    from ibs_core.market_data.runs import stamp

    leg = traded.leg
    line = next(each for each in book.lines if each.root == leg.symbol)
    assumed = leg.side * book.settings.costs.slippage_ticks * line.executed.tick_size
    latency_ns = traded.latency_ns
    return {
        "order_id": leg.order_id,
        "symbol": leg.symbol,
        "instrument": leg.instrument,
        "action": leg.action,
        "reason": leg.reason,
        "state": leg.state,
        "quantity": leg.quantity,
        "filled": traded.quantity,
        "decided": stamp(leg.decided_ns),
        "decided_price": leg.decided_price,
        "assumed_price": (
            None if leg.booked_price is None else round(leg.booked_price + assumed, 9)
        ),
        "realised_price": traded.price,
        "slippage_ticks": traded.slippage_ticks(line.executed),
        "slippage_usd": _usd(traded.slippage_nano, line.executed.point_value_usd),
        "latency_s": None if latency_ns is None else latency_ns / _NANO,
        "lines": [each.line for each in traded.fills],
    }


def _total(root: str, traded: Sequence[Traded], book: Book) -> dict[str, Any]:
    line = next(each for each in book.lines if each.root == root)
    contract, costs = line.executed, book.settings.costs
    priced = [each for each in traded if each.slippage_nano is not None]
    n_priced, n = (sum(each.quantity for each in some) for some in (priced, traded))
    nano = sum(each.slippage_nano or 0 for each in priced)
    latencies = [each.latency_ns for each in traded if each.latency_ns is not None]
    paid = [row.commission_nano for each in traded for row in each.fills]
    known = [each for each in paid if each is not None]
    per_fill = costs.slippage_ticks * contract.tick_value_usd
    return {
        "symbol": root,
        "orders": sum(1 for each in traded if each.fills),
        "contracts": n,
        "slippage_ticks": (
            float(Fraction(nano, n_priced * contract.tick_nano)) if n_priced else None
        ),
        "assumed_slippage_ticks": costs.slippage_ticks,
        "slippage_usd": _usd(nano, contract.point_value_usd),
        "assumed_slippage_usd": round(n_priced * per_fill, 2),
        "commission_usd": sum(known) / _NANO if paid and len(known) == len(paid) else None,
        "assumed_commission_usd": round(n * costs.commission_per_side, 2),
        "latency_s_mean": sum(latencies) / len(latencies) / _NANO if latencies else None,
        "latency_s_max": max(latencies) / _NANO if latencies else None,
    }


def _usd(nano: int | None, point_value_usd: float) -> float | None:
    """Value a difference of prices, in 1e-9 and times contracts, to the cent."""
    return (
        None if nano is None else round(float(Fraction(nano, _NANO) * Fraction(point_value_usd)), 2)
    )


# ---------------------------------------------------------------------- options


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EnvironmentFault(
            f"statement {path}", found=error.strerror or str(error), remedy="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"statement {path}",
            expected="CSV in UTF-8",
            found=f"byte {error.start}: {error.reason}",
        ) from error


def _zone(name: str | None) -> tzinfo | None:
    from zoneinfo import ZoneInfo

    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(
            "option --zone", expected="a name such as America/Chicago", found=repr(name)
        ) from None


def _instant(text: str | None, option: str, zone: tzinfo | None, default_ns: int) -> int:
    from ibs_core.fills import instant_of

    if text is None:
        return default_ns
    try:
        return instant_of(text, zone)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"option {option}",
            expected="date and time with an offset such as 2025-12-01T15:00Z, or --zone",
            found=repr(text),
        ) from None


# ---------------------------------------------------------------------- for people


def _show(facts: Mapping[str, Any]) -> None:
    from rich.table import Table

    click.echo(f"{facts['rows_matched']} of {facts['rows_in_span']} fills belong to an order")
    orders = Table(box=None, header_style="bold")
    orders.add_column("order", overflow="fold")
    for name in ("contracts", "decided at", "assumed", "realised", "ticks", "USD", "after"):
        orders.add_column(name, justify="right")
    for each in facts["orders"]:
        orders.add_row(
            each["order_id"] or f"{each['instrument']} {each['reason']}",
            f"{each['filled']}",
            *(_told(each[name]) for name in ("decided_price", "assumed_price", "realised_price")),
            *(_told(each[name], ".2f") for name in ("slippage_ticks", "slippage_usd")),
            "" if each["latency_s"] is None else str(timedelta(seconds=round(each["latency_s"]))),
        )
    totals = Table(box=None, header_style="bold")
    totals.add_column("symbol")
    names = ("contracts", "ticks", "assumed", "USD", "assumed", "commission", "assumed")
    for name in names:
        totals.add_column(name, justify="right")
    keys = ("slippage_ticks", "assumed_slippage_ticks", "slippage_usd", "assumed_slippage_usd")
    for each in facts["symbols"]:
        more = ("commission_usd", "assumed_commission_usd")
        totals.add_row(
            each["symbol"],
            str(each["contracts"]),
            *(_told(each[key], ".2f") for key in (*keys, *more)),
        )
    options.console().print(orders)
    options.console().print(totals)
    for each in facts["drift"][:_SHOWN]:
        click.echo(f"{each['kind']}: {each['text']}")
    if len(facts["drift"]) > _SHOWN:
        click.echo(f"and {len(facts['drift']) - _SHOWN} more (--json)")


def _told(value: float | None, form: str = ".10g") -> str:
    return "" if value is None else format(value, form)
