"""`ibs parity`: a journal run again through the back-test's calls, compared field by field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.errors import DataError

if TYPE_CHECKING:
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.parity import Comparison

__all__ = ["parity"]


@click.command()
@click.option("--journal", type=options.PATH, required=True, help="SQLite file of `ibs run-live`.")
@options.as_json
@options.quiet
def parity(*, journal: Path, json_: bool, quiet: bool) -> None:
    """Run a journal again and compare bars, features, scores, decisions, orders and states, bit for bit.

    Exit 1 at the first field that differs.
    """
    from adapters.sqlite_journal import SqliteJournal

    if not journal.is_file():
        from ibs_core.errors import EnvironmentFault

        raise EnvironmentFault(f"journal {journal}", expected="a file", found="none")
    options.compile_notice(silent=json_ or quiet)
    with SqliteJournal(journal, read_only=True) as held:
        found = _compare(held)
    if json_:
        options.say_json({"compared": found.counts, "differences": found.differences})
    elif not quiet:
        compared = ", ".join(f"{n:,} {name}" for name, n in found.counts.items())
        click.echo(f"compared {compared}")
        click.echo(f"{len(found.differences)} differences")
    if found.differences:
        raise DataError(
            "live and back-test differ",
            expected="0 differences",
            found=f"{len(found.differences)}; first: {found.differences[0]}",
            where=str(journal),
        )


def _compare(journal: SqliteJournal) -> Comparison:
    from ibs_core.cli.live_parts import engine_of, settings_in
    from ibs_core.contracts import load_contract_map
    from ibs_core.parity import compare
    from ibs_core.snapshot import unpack

    runs = journal.runs()
    kept = journal.snapshots()
    if not runs or not kept:
        raise DataError("journal holds no run to compare", where=str(journal.path))
    facts = runs[-1].facts
    settings = settings_in(facts)
    contracts = load_contract_map(Path(settings.contract_map) if settings.contract_map else None)
    if contracts.digest != facts["contract_map_digest"]:
        raise DataError(
            "contract map",
            expected=f"the one of the journal, {facts['contract_map_digest'][:12]}",
            found=contracts.digest[:12],
        )
    first_seq, _, first = kept[0]
    state: dict[str, Any] = unpack(first)
    seams = {
        name.removeprefix("seams/"): each
        for name, each in state.items()
        if name.startswith("seams/")
    }
    return compare(
        first,
        journal.entries(first_seq),
        {each.order.order_id: each.order for each in journal.orders()},
        {seq: block for seq, _, block in kept[1:]},
        lambda: engine_of(settings, contracts, facts["roots"], seams),
    )
