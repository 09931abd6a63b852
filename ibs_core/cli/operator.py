"""`ibs halt`, `ibs flatten`, `ibs resume`: an operator's word to the worker, through the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibs_core.cli import journal_parts, options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.sqlite_journal import Command

__all__ = ["flatten", "halt", "resume"]


@click.command()
@click.option("--all", "all_", is_flag=True, help="Exits too: nothing leaves.")
@journal_parts.journal_file
@journal_parts.wait
@options.as_json
@options.quiet
def halt(*, all_: bool, journal: Path, wait_s: float, json_: bool, quiet: bool) -> None:
    """Refuse entries until `ibs resume`, across restarts; exits leave, unless --all."""
    answer = journal_parts.ask(journal, "halt", {"all": all_}, wait_s=wait_s)
    journal_parts.say_answer(answer, "`ibs resume --yes` ends it", json_=json_, quiet=quiet)


@click.command()
@click.option("--symbols", help="Comma-separated roots to leave, such as ES,NQ. Default: all.")
@journal_parts.yes
@journal_parts.journal_file
@journal_parts.wait
@options.as_json
@options.quiet
def flatten(
    *, symbols: str | None, yes: bool, journal: Path, wait_s: float, json_: bool, quiet: bool
) -> None:
    """Exit open positions at once, and refuse entries of all symbols until `ibs resume`."""
    with journal_parts.not_done("flatten"), journal_parts.opened(journal) as held:
        roots = None if symbols is None else journal_parts.roots_in(held, symbols.split(","))
        total = [each for each in _in_force(held.commands()) if each.startswith("halt --all")]
    if total:
        raise ConfigError(
            "flatten",
            expected="exits that may leave",
            found=total[-1],
            remedy="`ibs resume --yes` first, or close by hand and `ibs position set`",
        )
    what = ", ".join(roots) if roots else "every position"
    journal_parts.sure(f"exit {what} of {journal} at the market, and halt entries?", yes=yes)
    answer = journal_parts.ask(journal, "flatten", {"symbols": roots}, wait_s=wait_s)
    hint = (
        "`ibs orders list --open` shows what has not arrived; no entries until `ibs resume --yes`"
    )
    journal_parts.say_answer(answer, hint, json_=json_, quiet=quiet)


@click.command()
@journal_parts.yes
@journal_parts.journal_file
@journal_parts.wait
@options.as_json
@options.quiet
def resume(*, yes: bool, journal: Path, wait_s: float, json_: bool, quiet: bool) -> None:
    """End what `ibs halt` and `ibs flatten` hold back; takes --yes, always."""
    with journal_parts.opened(journal) as held:
        ended = _in_force(held.commands())
    if not ended:
        from adapters.sqlite_journal import has_writer

        said, hint = "there is nothing to resume", "no halt and no flatten since the last resume"
        worker = has_writer(journal)
        answer = journal_parts.Answer(None, "resume", settled=True, worker=worker, said=said)
        journal_parts.say_answer(answer, hint, json_=json_, quiet=quiet)
        return
    what = ", ".join(ended)
    if not yes:
        raise ConfigError("option --yes", expected=f"it, to end {what}", found="none")
    answer = journal_parts.ask(journal, "resume", {}, wait_s=wait_s)
    journal_parts.say_answer(answer, f"it ends {what}", json_=json_, quiet=quiet)


def _in_force(commands: list[Command]) -> list[str]:
    """Name what operators hold back since the last resume."""
    from ibs_core.market_data.runs import stamp

    found: list[str] = []
    for each in commands:
        if each.command == "resume":
            found = []
        elif each.command in ("halt", "flatten"):
            name = "halt --all" if each.facts.get("all") else each.command
            found.append(f"{name} of {stamp(each.time_ns // 10**9 * 10**9)}")
    return found
