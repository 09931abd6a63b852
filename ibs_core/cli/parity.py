"""`ibs parity`: a journal run again through the back-test's calls, and beside the vendor's history."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003  (click reads it)
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.hindsight import Hindsight
    from ibs_core.parity import Comparison
    from ibs_core.ports import History, Stored
    from ibs_core.universe import Universe

__all__ = ["parity"]

_SHOWN = 10
"""Lines of a kind that are printed; --json has all."""


@click.command()
@click.option("--journal", type=options.PATH, required=True, help="SQLite file of `ibs run-live`.")
@click.option(
    "--against", type=click.Choice(["history"]), help="Compare with the vendor's history, too."
)
@click.option(
    "--history",
    multiple=True,
    type=options.PATH,
    help="Files of history; default with --against: Databento's historical service.",
)
@click.option("--day", help="Compare one session date only.")
@options.as_json
@options.quiet
def parity(
    *,
    journal: Path,
    against: str | None,
    history: tuple[Path, ...],
    day: str | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Run a journal again and compare bars, features, scores, decisions, orders and states, bit for bit.

    Three times: cut as live cut it, all at once, and by the back-test's own driver, which needs the bars that
    live warmed up with (--history) unless it began without any. Exit 1 at the first field that differs, and
    with --against history when its minutes would change a decision.
    """
    from adapters.sqlite_journal import SqliteJournal

    only, _ = options.span_of(day, None)
    if not journal.is_file():
        raise EnvironmentFault(f"journal {journal}", expected="a file", found="none")
    options.compile_notice(silent=json_ or quiet)
    with SqliteJournal(journal, read_only=True) as held:
        past = _Past.of(held, only)
        found = past.compare()
        bars = _history(past, history, journal) if history or against else None
        driven = _driven(past, bars)
        seen = _against(past, bars) if against and bars is not None else None
    if json_:
        options.say_json(
            {
                "compared": found.counts,
                "differences": found.differences + driven.differences,
                "back_test": {"compared": driven.n_compared, "not_made": driven.why_not},
                "history": asdict(seen) if seen else None,
            }
        )
    elif not quiet:
        _show(found, driven, seen)
    if differences := found.differences + driven.differences:
        raise DataError(
            "live and back-test differ",
            expected="0 differences",
            found=f"{len(differences)}; first: {differences[0]}",
            where=str(journal),
        )
    if seen is not None and seen.by_minutes:
        raise DataError(
            "the vendor's history would have decided otherwise",
            expected="the decisions of the journal",
            found=f"{len(seen.by_minutes)} others; first: {seen.by_minutes[0]}",
            where=str(journal),
        )


@dataclass(slots=True)
class _Driven:
    """The comparison with the back-test's driver."""

    differences: list[str]
    n_compared: int = 0
    why_not: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """A journal made ready to be run again."""

    journal: SqliteJournal
    facts: dict[str, Any]
    settings: Settings
    contracts: ContractMap
    universe: Universe
    first: bytes
    entries: Sequence[Stored]
    from_the_start: bool

    @classmethod
    def of(cls, journal: SqliteJournal, day: date | None) -> _Past:
        from ibs_core.cli import live_parts
        from ibs_core.parity import state_after

        facts = dict(live_parts.last_facts(journal))
        settings = live_parts.settings_in(facts)
        contracts = live_parts.contracts_in(facts, settings)
        universe = live_parts.universe_of(settings, contracts)
        kept = journal.snapshots()
        entries = list(journal.entries(kept[0][0])) if kept else []
        if not entries:
            raise DataError("journal holds nothing to compare", where=str(journal.path))
        first, whole = kept[0][2], kept[0][0] == 0
        if day is not None:
            before, entries = _of_day(entries, day, facts["roots"], universe)
            if before:
                engine = live_parts.engine_of(settings, contracts, facts["roots"], {}, universe)
                first, whole = state_after(first, before, engine), False
        return cls(journal, facts, settings, contracts, universe, first, entries, whole)

    def engine(self) -> Engine:
        """Make an engine that stands where the entries begin."""
        from ibs_core.snapshot import unpack

        engine = self.new_engine()
        engine.restore(unpack(self.first))
        return engine

    def new_engine(self) -> Engine:
        from ibs_core.cli.live_parts import engine_of

        return engine_of(self.settings, self.contracts, self.facts["roots"], {}, self.universe)

    def compare(self) -> Comparison:
        from ibs_core.parity import compare

        first_seq, last_seq = self.entries[0].seq, self.entries[-1].seq
        orders = self.journal.orders()
        entered = {
            each.order.symbol: each.order
            for each in orders
            if each.seq < first_seq and each.order.action == "entry"
        }
        return compare(
            self.first,
            self.entries,
            {each.order.order_id: each.order for each in orders},
            {seq: block for seq, _, block in self.journal.snapshots() if seq <= last_seq},
            self.new_engine,
            entered,
        )


def _of_day(
    entries: Sequence[Stored], day: date, roots: Sequence[str], universe: Universe
) -> tuple[list[Stored], list[Stored]]:
    """Return the entries before a session date and those of it: from its first open to its last close."""
    number = (day - type(day)(1970, 1, 1)).days
    spans: list[tuple[int, int]] = []
    for root in roots:
        sessions = universe.instrument(root).sessions
        own = sessions.trade_date == number
        spans += zip(sessions.open_ns[own].tolist(), sessions.close_ns[own].tolist(), strict=True)
    first_ns, last_ns = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else (0, 0)
    chosen = [each for each in entries if first_ns < each.time_ns <= last_ns]
    if not chosen:
        from ibs_core.market_data.runs import stamp

        raise DataError(
            f"session {day}",
            expected=f"entries between {stamp(entries[0].time_ns)} and {stamp(entries[-1].time_ns)}",
            found="none of it",
        )
    return [each for each in entries if each.seq < chosen[0].seq], chosen


def _history(past: _Past, paths: Sequence[Path], journal: Path) -> History:
    from adapters.databento_history import DatabentoHistory, DatabentoVendor, LocalHistory
    from ibs_core.cli.live_source import key_of_environment

    if paths:
        return LocalHistory(paths, past.contracts)
    vendor = DatabentoVendor(key_of_environment())
    return DatabentoHistory(vendor, past.contracts, journal.with_name("history-dbn"))


def _driven(past: _Past, bars: History | None) -> _Driven:
    """Compare with the back-test's driver, where its bars are there."""
    from adapters.databento_history import LocalHistory
    from ibs_core.cli.veto_models import models_for
    from ibs_core.hindsight import Lived, against_back_test

    if not past.from_the_start:
        return _Driven([], why_not="it needs the journal from its start")
    engine = past.engine()
    cold = not any(engine.contracts_of(root) for root in engine.reads)
    if not cold and bars is None:
        return _Driven([], why_not="give the bars that live warmed up with: --history PATH")
    lived = Lived.of(past.entries, engine.until_ns)
    if not len(lived.minutes):
        return _Driven([], why_not="the journal holds no minute")
    # The run that warmed up says from where; those after it went on.
    warmed = (run for run in past.journal.runs() if past.journal.first_snapshot(run.run))
    first_ns = int(next(warmed).facts.get("first_ns", 0))
    if not cold and first_ns < 0 and not isinstance(bars, LocalHistory):
        return _Driven([], why_not="give the files that were replayed: --history PATH")
    before = None
    if not cold and bars is not None:
        before = bars.minutes(engine.reads, first_ns, lived.start_ns)
    differences, n_compared = against_back_test(
        lived,
        before,
        past.settings,
        past.contracts,
        engine=engine,
        models=models_for(past.settings, past.contracts),
    )
    return _Driven([f"back-test driver, {each}" for each in differences], n_compared)


def _against(past: _Past, bars: History) -> Hindsight:
    from ibs_core.hindsight import Lived, against_history
    from ibs_core.recording import minutes_of

    engine = past.engine()
    lived = Lived.of(past.entries, engine.until_ns)
    held = bars.minutes(engine.reads, lived.start_ns, lived.end_ns)
    if not (*held.roots, *held.feeds):
        raise DataError(
            "history", expected="minutes of the journal's span", found="none", remedy="--history"
        )

    def resumed() -> Engine:
        again = past.engine()
        for root, seams in lived.seams.items():
            for seam_ns in seams:
                again.know_seam(root, seam_ns)
        return again

    return against_history(lived, minutes_of(held), resumed)


def _show(found: Comparison, driven: _Driven, seen: Hindsight | None) -> None:
    compared = ", ".join(f"{n:,} {name}" for name, n in found.counts.items())
    click.echo(f"as live cut it, and all at once: {compared}")
    if driven.why_not:
        click.echo(f"back-test driver: not compared; {driven.why_not}")
    else:
        click.echo(f"back-test driver: {driven.n_compared:,} decisions and trades")
    click.echo(f"{len(found.differences) + len(driven.differences)} differences")
    if seen is None:
        return
    click.echo(f"history: {seen.n_same:,} minutes are the same")
    for lines, what in (
        (seen.unseen, "minutes that live did not see"),
        (seen.unknown, "minutes that history lacks"),
        (seen.unlike, "minutes with other numbers"),
        (seen.by_minutes, "decisions that history's minutes change"),
        (seen.by_knowledge, "decisions that only live's own knowledge made"),
    ):
        click.echo(f"{len(lines):,} {what}")
        for line in lines[:_SHOWN]:
            click.echo(f"  {line}")
        if len(lines) > _SHOWN:
            click.echo(f"  and {len(lines) - _SHOWN:,} more (--json)")
