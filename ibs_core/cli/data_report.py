"""What `ibs data check` and `ibs data rolls` print: tables for people, and the verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from ibs_core.market_data import DataReport, Roll, RootReport

__all__ = ["print_report", "print_rolls", "refuse"]

_SHOWN: Final = 5  # of a list that may be long; --json has all of it


def print_report(report: DataReport, console: Console) -> None:
    """Print coverage, what is missing, what was repaired, contracts and rolls.

    Parameters
    ----------
    report : DataReport
    console : rich.console.Console
    """
    sound = [root for root in report.roots if not root.error]
    if sound:
        console.print(_coverage(sound))
    for root in sound:
        for line in _remarks(root):
            console.print(Text(f"{root.root}: {line}"), soft_wrap=True)
    if any(root.gaps for root in sound):
        console.print(_gaps(sound))
    if any(root.rolls for root in sound):
        print_rolls([roll for root in sound for roll in root.rolls], console)
    for what, why in report.skipped.items():
        console.print(Text(f"left out: {what}: {why}"), soft_wrap=True)
    for root in report.roots:
        if root.error:
            console.print(Text(f"{root.root}: refused: {root.error}"), style="bold", soft_wrap=True)


def print_rolls(rolls: Sequence[Roll], console: Console) -> None:
    """Print when each contract gave way to the next.

    Parameters
    ----------
    rolls : sequence of Roll
    console : rich.console.Console
    """
    if not rolls:
        console.print("no roll: each symbol holds one contract")
        return
    head = ["Symbol", "From", "To", "Seam (UTC)", "Old close", "New open", "Gap"]
    console.print(
        _table(
            "Rolls",
            head,
            (
                [
                    roll.root,
                    roll.old,
                    roll.new,
                    _minute(roll.seam_ns),
                    f"{roll.old_close:.9g}",
                    f"{roll.new_open:.9g}",
                    f"{roll.gap:+.6g}",
                ]
                for roll in rolls
            ),
            n_left=4,
        )
    )


def refuse(report: DataReport, *, strict: bool) -> None:
    """Raise when the bars of a symbol cannot be used as they are.

    Parameters
    ----------
    report : DataReport
    strict : bool
        Refuse what would be repaired, too.

    Raises
    ------
    DataError
    """
    if report.errors:
        more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
        raise DataError(f"{report.errors[0]}{more}")
    faulty = [root for root in report.roots if root.has_fault]
    if strict and faulty:
        faults = [
            f"{root.root}: {item}"
            for root in faulty
            if root.repairs
            for item in root.repairs.items
            if item.fault
        ]
        raise DataError(
            f"{', '.join(root.root for root in faulty)} need repair, which --strict forbids",
            found="; ".join(faults),
            remedy="mend the files, or run without --strict",
        )


def _coverage(roots: Iterable[RootReport]) -> Table:
    head = ["Symbol", "From", "To", "Bars", "Width", "Sessions", "Missing"]
    rows = (
        [
            root.root,
            _minute(root.first_ns)[:10],
            _minute(root.last_ns)[:10],
            f"{root.rows:,}",
            f"{root.base_ns // 10**9:,} s",
            f"{root.sessions:,}",
            f"{len(root.missing_sessions):,}",
        ]
        for root in roots
    )
    return _table("Coverage", head, rows, n_left=3)


def _remarks(root: RootReport) -> Iterable[str]:
    yield f"contracts {_some(root.contracts)}"
    if not root.has_volume:
        yield "no volume"
    if root.missing_sessions:
        yield f"no bar in {len(root.missing_sessions)} sessions: {_some(root.missing_sessions)}"
    for item in root.repairs.items if root.repairs else ():
        yield str(item)


def _gaps(roots: Iterable[RootReport]) -> Table:
    rows = (
        [root.root, _minute(gap.start_ns), _minute(gap.end_ns), f"{gap.minutes:,}"]
        for root in roots
        for gap in root.gaps[:_SHOWN]
    )
    head = ["Symbol", "From (UTC)", "To (UTC)", "Minutes"]
    return _table("Largest gaps inside sessions", head, rows, n_left=3)


def _some(items: Sequence[str]) -> str:
    more = f" … {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _minute(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns // 10**9, UTC):%Y-%m-%d %H:%M}"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, n_left: int) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < n_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text, so that a bracket is no markup
    return table
