"""What `ibs run-live` shows while it runs, and at the end."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibs_core.engine import Engine
    from ibs_core.live import Worker
    from ibs_core.notices import Notice

__all__ = ["Screen", "Status", "say", "show_summary"]

_LOOK_S: Final = 1.0
"""How often the status line is written anew."""


_QUIET: Final = frozenset(("moved", "refused"))
"""Kinds of notices that a screen shows only when they are a warning."""


class Screen:
    """Prints notices; a `Subscriber`.

    Parameters
    ----------
    tell : callable
        Takes a line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def tell(self, notice: Notice) -> None:
        """Print a notice that people want to see.

        Parameters
        ----------
        notice : Notice
        """
        if notice.kind == "stop":  # the command itself says how it ended
            return
        if notice.kind not in _QUIET or notice.level != "info":
            self._tell(f"CALL: {notice.text}" if notice.level == "page" else notice.text)

    def close(self) -> None:
        """Do nothing: every line is out."""


class Status:
    """A line on the terminal that is written over and over; nothing elsewhere.

    Parameters
    ----------
    engine : Engine
    worker : Worker
    """

    def __init__(self, engine: Engine, worker: Worker) -> None:
        self._engine, self._worker = engine, worker
        self._due_s = time.monotonic() if sys.stderr.isatty() else math.inf

    def show(self) -> None:
        """Write it when it is time."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + _LOOK_S
        from ibs_core.market_data.runs import stamp

        counts = self._worker.counts
        held = [
            each.root
            for each, position in zip(self._engine.symbols, self._engine.book, strict=True)
            if position["status"]
        ]
        line = (
            f"{stamp(self._worker.until_ns)}  {' '.join(held) or 'flat'}  "
            f"{counts['orders']} orders  {counts['trades']} trades  {counts['late']} late"
        )
        with suppress(OSError):
            click.echo(f"\r\033[K{line}", nl=False, err=True)

    def clear(self) -> None:
        """Leave an empty line."""
        if self._due_s < math.inf:
            click.echo("\r\033[K", nl=False, err=True)


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
    on = " on paper" if facts["route"] == "file" else " sent to"
    click.echo(f"journal: {facts['journal']}\norders{on}: {facts['orders']}")
    click.echo(f"next: {facts['parity']}")
