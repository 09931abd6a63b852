"""What `ibs run-live` shows while it runs, and at the end."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.monitoring.courier import Courier
    from ibs_core.engine import Engine
    from ibs_core.live import Worker
    from ibs_core.notices import Notice

__all__ = ["Screen", "Status", "say", "say_aloud", "show_summary"]

_LOOK_S: Final = 1.0
"""How often the status line is written anew."""
_CLOSING_S: Final = 1.0
"""How long a terminal that is held is waited for at the end."""

_QUIET: Final = frozenset(("moved", "refused"))
"""Kinds of notices that a screen shows only when they are a warning, or tell of an order in `_TROUBLE`."""
_TROUBLE: Final = frozenset(("AMBIGUOUS", "DEAD", "EXPIRED"))


class Screen:
    """Prints notices; a `Subscriber`.

    Parameters
    ----------
    tell : callable
        Takes a line.
    call : callable, optional
        Takes a line that a person must see. Default: `tell`.
    """

    def __init__(
        self, tell: Callable[[str], None], call: Callable[[str], None] | None = None
    ) -> None:
        self._tell, self._call = tell, call or tell

    def tell(self, notice: Notice) -> None:
        """Print a notice that people want to see.

        Parameters
        ----------
        notice : Notice
        """
        if notice.kind == "stop":  # the command itself says how it ended
            return
        if notice.level == "page":
            self._call(f"CALL: {notice.text}")
        elif (
            notice.kind not in _QUIET
            or notice.level != "info"
            or notice.facts.get("state") in _TROUBLE
        ):
            self._tell(notice.text)

    def close(self) -> None:
        """Do nothing: every line is out."""


class Status:
    """A line on the terminal that is written over and over; nothing elsewhere.

    A thread writes it: a terminal that somebody holds, with Ctrl-S, must not hold the loop that trades.

    Parameters
    ----------
    engine : Engine
    worker : Worker
    """

    def __init__(self, engine: Engine, worker: Worker) -> None:
        self._engine, self._worker = engine, worker
        self._lines: Courier[str] | None = None
        self._due_s = time.monotonic()
        if sys.stderr.isatty():
            from adapters.monitoring.courier import Courier

            self._lines = Courier("status line", _write_over, pauses_s=(), room=1)

    def show(self) -> None:
        """Write it when it is time."""
        if self._lines is None or time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + _LOOK_S
        from ibs_core.market_data.runs import stamp

        counts = self._worker.counts
        held = [
            each.root
            for each, position in zip(self._engine.symbols, self._engine.book, strict=True)
            if position["status"]
        ]
        self._lines.hand(
            f"{stamp(self._worker.until_ns)}  {' '.join(held) or 'flat'}  "
            f"{counts['orders']} orders  {counts['trades']} trades  {counts['late']} late"
        )

    def close(self) -> None:
        """Leave an empty line."""
        if self._lines is not None:
            self._lines.hand("")
            self._lines.close(_CLOSING_S)


def say(line: str) -> None:
    """Print a line where the status line stands; a reader that went away stops nothing.

    Parameters
    ----------
    line : str
    """
    with suppress(OSError):
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)
        click.echo(line)


def say_aloud(line: str) -> None:
    """Print a line on standard error, whatever is printed beside it.

    Parameters
    ----------
    line : str
    """
    with suppress(OSError):
        click.echo(f"\r\033[K{line}" if sys.stderr.isatty() else line, err=True)


def _write_over(line: str) -> str:
    with suppress(OSError):
        click.echo(f"\r\033[K{line}", nl=False, err=True)
    return ""


def show_summary(facts: dict[str, Any]) -> None:
    """Print what a run came to.

    Parameters
    ----------
    facts : dict of str to Any
    """
    done = ", ".join(f"{n:,} {name}" for name, n in facts["counts"].items() if n)
    click.echo(f"{facts['how']} at {facts['until']}: {done or 'nothing happened'}")
    if facts["trades"]:
        click.echo(f"net {facts['net_usd']:,.2f} USD of {len(facts['trades'])} trades")
    for each in facts["open_positions"]:
        click.echo(f"open: {each['quantity']} {each['instrument']} from {each['entry_price']:g}")
    for root, counts in facts["blocked"].items():
        told = ", ".join(f"{n} {reason}" for reason, n in counts.items())
        click.echo(f"entries of {root} not taken: {told}")
    others = {name: n for name, n in facts["orders_by_state"].items() if name != "ACKED"}
    if others:
        click.echo(
            f"orders not accepted: {', '.join(f'{n:,} {name}' for name, n in others.items())}"
        )
    if facts["unresolved"]:
        named = ", ".join(facts["unresolved"])
        click.echo(f"unresolved: {named}; `ibs orders list --open --journal {facts['journal']}`")
    if facts["pages"]:
        click.echo(f"calls: {facts['pages']}")
    on = " on paper" if facts["route"] == "file" else " sent to"
    click.echo(f"journal: {facts['journal']}\norders{on}: {facts['orders']}")
    click.echo(f"next: {facts['parity']}")
