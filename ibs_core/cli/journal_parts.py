"""What commands beside a worker share: a journal to read, the book it leads to, a worker to ask."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError, DataError, EnvironmentFault, IbsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from adapters.sqlite_journal import OrderRecord, SqliteJournal
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.ledger import Line

__all__ = [
    "Answer",
    "Book",
    "ask",
    "book_of",
    "is_open",
    "journal_file",
    "not_done",
    "opened",
    "positions_of",
    "roots_in",
    "say_answer",
    "sure",
    "wait",
    "yes",
]

_AT_HAND: Final = "in TradersPost: Entry lockout, then Close all"
"""What stops trading when this machine cannot."""
_UNSETTLED: Final = ("PENDING", "SENDING", "AMBIGUOUS")
_POLL_S: Final = 0.05
_clock: Callable[[], float] = time.monotonic
_pause: Callable[[float], None] = time.sleep
_F = TypeVar("_F", bound="Callable[..., Any]")


def journal_file(function: _F) -> _F:
    """Add ``--journal``."""
    return click.option(
        "--journal",
        type=options.PATH,
        default=Path("live/journal.sqlite"),
        show_default=True,
        help="SQLite file of `ibs run-live`.",
    )(function)


def wait(function: _F) -> _F:
    """Add ``--wait``."""
    return click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        help="Seconds to wait for the worker's answer.",
    )(function)


def yes(function: _F) -> _F:
    """Add ``--yes``."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def opened(path: Path) -> SqliteJournal:
    """Open a journal to be read, beside a worker or without one."""
    from adapters.sqlite_journal import SqliteJournal

    return SqliteJournal(path, read_only=True)


def sure(question: str, *, yes: bool) -> None:
    """Ask on a terminal, refuse where nobody can be asked, and end where the answer is no."""
    if yes:
        return
    if not _is_terminal():
        raise ConfigError(
            "option --yes", expected="it, where there is no terminal to ask", found="none"
        )
    click.confirm(question, abort=True, err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


# ---------------------------------------------------------------------- the worker


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command.

    Parameters
    ----------
    command : int or None
        Its number; None: there was nothing to do, and nothing was left for the worker.
    name : str
    settled : bool
        A worker has done it.
    worker : bool
        One runs.
    said : str
        Of the worker that has done it.
    """

    command: int | None
    name: str
    settled: bool
    worker: bool
    said: str = ""


@contextmanager
def not_done(name: str) -> Iterator[None]:
    """Say beside a fault of the journal that the command was not done, and what stops trading without it.

    Parameters
    ----------
    name : str
        Of the command.

    Raises
    ------
    EnvironmentFault
    """
    try:
        yield
    except EnvironmentFault as error:
        way_out = f"; {_AT_HAND}" if name in ("halt", "flatten") else ""
        raise EnvironmentFault(
            error.subject,
            expected=error.expected,
            found=error.found,
            where=error.where,
            remedy=f"{error.remedy}; it was NOT done{way_out}",
        ) from error


def ask(path: Path, name: str, facts: Mapping[str, Any], *, wait_s: float) -> Answer:
    """Leave a command for the worker, and wait until one that runs has done it.

    Parameters
    ----------
    path : Path
        Of the journal.
    name : str
    facts : Mapping of str to Any
        JSON values.
    wait_s : float, seconds

    Returns
    -------
    Answer

    Raises
    ------
    EnvironmentFault
        The command could not be left; the message says that it was not done.
    """
    from adapters.sqlite_journal import has_writer, post_command

    with not_done(name):
        number = post_command(path, time.time_ns(), name, facts)
    end_s = _clock() + wait_s
    with opened(path) as held:
        while True:
            # In this order: what a worker did before it ended is seen.
            is_running = has_writer(path)
            taken = {each.number: each.taken_ns for each in held.commands()}
            settled = taken[number] is not None
            if settled or not is_running or _clock() >= end_s:
                said = [
                    each.facts["said"]
                    for each in (held.events(kind="command") if settled else ())
                    if each.facts["command"] == number
                ]
                return Answer(number, name, settled, is_running, said[-1] if said else "")
            _pause(_POLL_S)


def say_answer(answer: Answer, hint: str, *, json_: bool, quiet: bool) -> None:
    """Tell what became of a command.

    Parameters
    ----------
    answer : Answer
    hint : str
        What else to know, or to do next.
    json_, quiet : bool

    Raises
    ------
    IbsError
        A worker runs and has not done it.
    """
    if json_:
        options.say_json(asdict(answer))
    elif quiet:
        pass
    elif answer.settled:
        click.echo(f"{answer.name}: {answer.said or 'done'}; {hint}")
    elif not answer.worker:
        waits = f"no worker runs, the next one does it, and nothing leaves before (command {answer.command})"
        click.echo(f"{answer.name}: {waits}; {hint}")
    if answer.worker and not answer.settled:
        raise IbsError(
            "the worker has not answered",
            expected=f"command {answer.command}, {answer.name}, to be done by now",
            remedy="it does it as soon as it can; until then, " + _AT_HAND,
        )


# ---------------------------------------------------------------------- the book


def is_open(record: OrderRecord) -> bool:
    """Tell whether somebody must still see to an order: it is not settled, or is an exit that is dead.

    Parameters
    ----------
    record : OrderRecord

    Returns
    -------
    bool
    """
    if record.state == "DEAD":
        return record.order.action != "entry"
    return record.state in _UNSETTLED


def roots_in(journal: SqliteJournal, names: Sequence[str]) -> list[str]:
    """Read roots that a journal trades, each once.

    Parameters
    ----------
    journal : SqliteJournal
    names : sequence of str
        In any case, blanks around.

    Returns
    -------
    list of str

    Raises
    ------
    ConfigError
        One is not traded.
    """
    from ibs_core.cli.live_parts import last_facts

    traded = last_facts(journal)["roots"]
    roots = list(dict.fromkeys(each.strip().upper() for each in names))
    for each in roots:
        if each not in traded:
            raise ConfigError(
                f"symbol {each!r}",
                expected=f"one that {journal.path.name} trades: {', '.join(traded)}",
                found="none of them",
            )
    return roots


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """Where the last entry of a journal leaves everything.

    Parameters
    ----------
    facts : Mapping of str to Any
        Of the last run.
    settings : Settings
    contracts : ContractMap
    engine : Engine
    lines : sequence of Line
        One a symbol of the engine.
    seq : int
        The last entry.
    """

    facts: Mapping[str, Any]
    settings: Settings
    contracts: ContractMap
    engine: Engine
    lines: Sequence[Line]
    seq: int


def book_of(journal: SqliteJournal) -> Book:
    """Take the last kept state of a journal, and replay the entries after it.

    Parameters
    ----------
    journal : SqliteJournal

    Returns
    -------
    Book

    Raises
    ------
    DataError
        The journal holds no run or no state.
    """
    from ibs_core.cli import live_parts
    from ibs_core.ledger import line_of
    from ibs_core.parity import state_after

    facts = live_parts.last_facts(journal)
    kept = journal.latest_snapshot()
    if kept is None:
        raise DataError("journal holds no state yet", where=str(journal.path))
    settings = live_parts.settings_in(facts)
    contracts = live_parts.contracts_in(facts, settings)
    engine = live_parts.engine_of(settings, contracts, facts["roots"], {})
    entries = list(journal.entries(kept[0]))
    state_after(kept[2], entries, engine)
    lines = [
        line_of(each, engine.contracts_of(each.root), settings.costs) for each in engine.symbols
    ]
    return Book(facts, settings, contracts, engine, lines, entries[-1].seq if entries else kept[0])


def positions_of(engine: Engine, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Tell each symbol's position.

    Parameters
    ----------
    engine : Engine
    lines : sequence of Line
        One a symbol of the engine.

    Returns
    -------
    list of dict
        JSON values; null where there is nothing to tell. ``open_usd`` is net of the costs of both sides.
    """
    from ibs_core.market_data.runs import stamp
    from ibs_core.positions import ENTERING, FLAT, LEAVING, OPEN, open_usd

    names = {FLAT: "flat", ENTERING: "entering", OPEN: "open", LEAVING: "leaving"}
    found = []
    for symbol, line, position in zip(engine.symbols, lines, engine.book, strict=True):
        status, trade = int(position["status"]), position["trade"]
        is_held, is_flat = status in (OPEN, LEAVING), status == FLAT
        found.append(
            {
                "symbol": line.root,
                "status": names[status],
                "quantity": 0 if is_flat else line.quantity,
                "instrument": line.instruments[trade["contract"]] if is_held else "",
                "entry_time": stamp(int(trade["entry_ns"])) if is_held else "",
                "entry_price": float(trade["entry_price"]) if is_held else None,
                "protective_stop": None if is_flat else _number(position["protective_stop"]),
                "protective_target": None if is_flat else _number(position["protective_target"]),
                "last_price": _number(position["mark"]),
                "open_usd": round(float(open_usd(symbol.params[0], position)), 2),
            }
        )
    return found


def _number(value: Any) -> float | None:
    number = float(value)
    return number if number == number else None  # noqa: PLR0124  (NaN)
