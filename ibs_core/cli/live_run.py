"""One run of the worker, from its parts to its end: whatever brings the minutes and wherever orders go."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ibs_core.cli.live_screen import Status

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli.live_pulse import Pulse
    from ibs_core.cli.live_sink import Destination
    from ibs_core.cli.live_source import Source
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.live import Worker

__all__ = ["Run", "trade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is given besides its settings.

    Attributes
    ----------
    file : Path
        Of the journal.
    destination : Destination
    is_replay, is_patient : bool
        See `live_sink.sink_of`.
    pulse : Pulse
    """

    file: Path
    destination: Destination
    is_replay: bool
    is_patient: bool
    pulse: Pulse


def trade(
    engine: Engine,
    source: Source,
    journal: SqliteJournal,
    settings: Settings,
    contracts: ContractMap,
    facts: dict[str, Any],
    run: Run,
) -> dict[str, Any]:
    """Carry all symbols until something ends it, and tell what came of it.

    Parameters
    ----------
    engine : Engine
    source : Source
    journal : SqliteJournal
    settings : Settings
    contracts : ContractMap
    facts : dict of str to Any
        Of this run, for the journal.
    run : Run

    Returns
    -------
    dict of str to Any
        JSON values.
    """
    from ibs_core.cli import live_parts, live_sink
    from ibs_core.live import Limits, Worker

    live_parts.refuse_other_rule(journal, facts)
    paper, waits = run.file.with_suffix(".orders.jsonl"), settings.live
    publish, pulse = run.pulse.publish, run.pulse
    sink = live_sink.sink_of(
        run.destination,
        engine,
        settings,
        contracts,
        paper=paper,
        journal=journal,
        clock=source.clock,
        is_replay=run.is_replay,
        is_patient=run.is_patient,
        publish=publish,
    )
    first_seq = journal.last_seq() + 1
    # A journal that is resumed may not hold the rolls of later files.
    given = [(root, int(ns)) for root, seams in source.seams.items() for ns in seams]
    worker = Worker(
        engine,
        feed=source.feed,
        history=source.history,
        journal=journal,
        sink=sink,
        clock=source.clock,
        limits=Limits(
            waits.grace, waits.late, waits.stale, waits.entry_life, by_clock=source.by_clock
        ),
        publish=publish,
        rolls=lambda now_ns: [*given, *source.rolls(now_ns)],
        beat=pulse.beat,
    )
    try:
        span = {"first_ns": source.first_ns, "start_ns": source.start_ns}
        how = _carry(worker, engine, source, facts | span, pulse)
    finally:
        source.feed.stop()
        sink.close()
    telemetry = source.feed.telemetry()
    states = Counter(each.state for each in journal.orders() if each.seq >= first_seq)
    return {
        "how": how,
        "fatal": how not in ("stopped", "ended", source.end_text),
        "until": _stamp(worker.until_ns),
        "counts": worker.counts,
        "orders_by_state": dict(sorted(states.items())),
        "unresolved": worker.dispatch.unresolved(),
        "pages": pulse.n_pages,
        "late_minutes": worker.counts["late"],
        "reconnects": telemetry["reconnects"],
        "feed": telemetry,
        "journal": str(run.file),
        "route": run.destination.name,
        "orders": str(paper) if run.destination.route is None else f"route {run.destination.name}",
        "parity": f"ibs parity --journal {run.file}",
        **live_parts.summary_of(journal, engine, settings),
    }


def _carry(
    worker: Worker, engine: Engine, source: Source, facts: dict[str, Any], pulse: Pulse
) -> str:
    """Run a worker until it is done, ended or told to stop."""
    end_ns, status, stop = source.end_ns, Status(engine, worker), pulse.stop
    pulse.enter("starting", "warm-up", worker)
    worker.start(facts, first_ns=source.first_ns, start_ns=source.start_ns)
    stop.is_trading = True
    pulse.enter("running", "trading")
    pulse.say("start", f"trading {', '.join(each.root for each in engine.symbols)}")
    gc.collect()
    gc.freeze()  # what a start leaves stays for good; looking through it would cost milliseconds

    def ends() -> bool:
        status.show()
        is_over = end_ns is not None and worker.until_ns >= end_ns
        return bool(stop) or is_over or source.is_done(worker)

    how = worker.run(ends)
    status.close()
    how = source.end_text if how == "stopped" and not stop else how
    pulse.enter("stopping", how)
    worker.finish(how)
    pulse.say("stop", how)
    return how


def _stamp(ns: int) -> str:
    from ibs_core.market_data.runs import stamp

    return stamp(ns)
