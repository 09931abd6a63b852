"""`ibs run-live`: the live worker, on a recorded file through the local gateway or on Databento's service."""

from __future__ import annotations

import gc
import math
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.cli.live_screen import Status, say, show_summary
from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli.live_source import Source
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.live import Worker

__all__ = ["run_live"]


class _Speed(click.ParamType[float]):
    name = "1|60|max"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read a speed: a number above 0, or max."""
        if isinstance(value, float):
            return value
        try:
            speed = math.inf if value == "max" else float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"expected a number above 0 or max, found {value!r}", param, ctx)
        return speed


class _Address(click.ParamType[tuple[str, int]]):
    name = "host:port"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        """Read an address."""
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            self.fail(f"expected an address such as 127.0.0.1:13000, found {value!r}", param, ctx)
        return host, int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the command line asks for, besides the settings."""

    replay: list[Path]
    history: list[Path]
    gateway: tuple[str, int] | None
    speed: float
    start: str | None
    bars: str
    file: Path
    tell: Callable[[str], None]


@click.command("run-live")
@options.config_files
@click.option(
    "--replay", "replay", multiple=True, type=options.PATH, help="Serve these bars as if live."
)
@click.argument("more", nargs=-1, type=options.PATH, metavar="[PATH]…")
@click.option(
    "--speed", type=_Speed(), default="1", show_default=True, help="Of a replay: 1, 60, max."
)
@click.option("--start", help="First session of a replay that is live; earlier bars warm up.")
@click.option(
    "--history",
    multiple=True,
    type=options.PATH,
    help="Warm up from these bars instead of Databento's historical service; repeat it.",
)
@click.option(
    "--gateway", type=_Address(), help="Another live gateway, for tests; it needs --history."
)
@click.option("--symbols", help="Comma-separated roots to trade. Default: the configuration's.")
@click.option(
    "--model-mode", type=click.Choice(["off", "shadow", "veto"]), help="Override model.mode."
)
@click.option(
    "--bars",
    type=click.Choice(["ohlcv-1m", "trades"]),
    default="ohlcv-1m",
    show_default=True,
    help="Take the vendor's minutes, or build them from trades.",
)
@click.option(
    "--journal",
    type=options.PATH,
    help="SQLite file. Default: live/journal.sqlite, or a new one for a replay.",
)
@click.option("--route", help="Where orders go; only paper so far.")
@click.option(
    "--armed", is_flag=True, help="Send real orders; refused until there is a sink for them."
)
@options.as_json
@options.quiet
def run_live(
    *,
    config: tuple[Path, ...],
    replay: tuple[Path, ...],
    more: tuple[Path, ...],
    speed: float,
    start: str | None,
    history: tuple[Path, ...],
    gateway: tuple[str, int] | None,
    symbols: str | None,
    model_mode: str | None,
    bars: str,
    journal: Path | None,
    route: str | None,
    armed: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """Trade live on paper, each decision in the journal before anything is sent.

    With --replay the bars of files come through a gateway on this machine that speaks Databento's
    protocol, to the vendor's own client; without it they come from Databento, with the key in
    DATABENTO_API_KEY. Ctrl-C stops between two minutes and keeps the state, twice stops at once; the same
    command with the same --journal goes on.
    """
    _refuse_real_orders(route, armed=armed)
    if more and not replay:
        raise click.UsageError("paths belong to --replay PATH…")
    if replay and (history or gateway):
        raise click.UsageError("--history and --gateway are for live data, not for --replay")
    if gateway and not history:
        raise click.UsageError("--gateway needs --history PATH: its rolls come from there")
    if start and not replay:
        raise click.UsageError("--start belongs to --replay PATH…: live starts now")
    from ibs_core.config import load_settings
    from ibs_core.contracts import load_contract_map

    overrides = {"model": {"mode": model_mode}} if model_mode else None
    settings = load_settings(config, overrides=overrides)
    contracts = load_contract_map(Path(settings.contract_map) if settings.contract_map else None)
    roots = options.roots_of(symbols, contracts) or list(settings.symbols)
    silent = json_ or quiet
    name = time.strftime("replay-%Y%m%dT%H%M%SZ.sqlite", time.gmtime()) if replay else None
    wanted = _Wanted(
        replay=[*replay, *more],
        history=list(history),
        gateway=gateway,
        speed=speed,
        start=start,
        bars=bars,
        file=journal or Path("live") / (name or "journal.sqlite"),
        tell=(lambda _: None) if silent else say,
    )
    options.folder_of(wanted.file.parent, "--journal")
    options.compile_notice(silent=silent)
    trades = _replay if replay else _live
    facts = trades(settings, contracts, roots, wanted)
    if json_:
        options.say_json(facts)
    elif not quiet:
        show_summary(facts)
    if facts["fatal"]:
        raise EnvironmentFault(
            "the live feed ended for good",
            found=facts["how"],
            remedy="positions are as the journal says; the same command goes on",
        )


def _refuse_real_orders(route: str | None, *, armed: bool) -> None:
    if armed or route not in (None, "paper"):
        raise ConfigError(
            "option --armed" if armed else f"option --route {route}",
            expected="paper: orders are written to a file",
            found="real orders",
            remedy="leave it out; there is no sink for real orders in this version",
        )


def _replay(
    settings: Settings, contracts: ContractMap, roots: list[str], wanted: _Wanted
) -> dict[str, Any]:
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli import live_parts, replay_source
    from ibs_core.market_data import open_bars

    first, _ = options.span_of(wanted.start, None)
    roots = roots or list(open_bars(wanted.replay, contracts).roots)
    universe = live_parts.universe_of(settings, contracts)
    reads = live_parts.engine_of(settings, contracts, roots, {}, universe)
    live_parts.refuse_unserved(reads, contracts)
    with ExitStack() as stack:
        journal = stack.enter_context(SqliteJournal(wanted.file)) if wanted.file.exists() else None
        recorded = replay_source.read_recorded(wanted.replay, contracts, reads.reads, first)
        engine = live_parts.engine_of(settings, contracts, roots, recorded.seams, universe)
        journal = journal or stack.enter_context(SqliteJournal(wanted.file))
        served = replay_source.replayed(
            recorded, contracts, reads.reads, speed=wanted.speed, bars=wanted.bars
        )
        return _trade(
            engine,
            stack.enter_context(served),
            journal,
            settings,
            live_parts.facts_of(settings, contracts, [each.root for each in engine.symbols])
            | {"source": "--replay", "files": [str(path) for path in wanted.replay]},
            wanted,
        )


def _live(
    settings: Settings, contracts: ContractMap, roots: list[str], wanted: _Wanted
) -> dict[str, Any]:
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli import live_parts, live_source
    from ibs_core.snapshot import unpack

    if not roots:
        raise ConfigError(
            "symbols", expected="roots to trade", found="none", remedy="give --symbols ES,NQ"
        )
    live_source.key_of_environment()
    universe = live_parts.universe_of(settings, contracts)
    engine = live_parts.engine_of(settings, contracts, roots, {}, universe)
    live_parts.refuse_unserved(engine, contracts)
    live_parts.refuse_generated_models(engine, settings, armed=False)
    facts = live_parts.facts_of(settings, contracts, [each.root for each in engine.symbols])
    facts |= {"source": "live data"}
    with ExitStack() as stack:
        journal = stack.enter_context(SqliteJournal(wanted.file)) if wanted.file.exists() else None
        kept = journal.latest_snapshot() if journal else None
        if journal is not None:
            live_parts.refuse_other_rule(journal, facts)
        if kept is not None:
            engine.restore(unpack(kept[2]))
        source = stack.enter_context(
            live_source.live(
                engine,
                universe,
                contracts,
                resumed=kept is not None,
                history=wanted.history,
                keep=wanted.file.with_name("history-dbn"),
                gateway=wanted.gateway,
                bars=wanted.bars,
                tell=wanted.tell,
            )
        )
        journal = journal or stack.enter_context(SqliteJournal(wanted.file))
        fresh = live_parts.engine_of(settings, contracts, roots, source.seams, universe)
        return _trade(fresh, source, journal, settings, facts, wanted)


def _trade(
    engine: Engine,
    source: Source,
    journal: SqliteJournal,
    settings: Settings,
    facts: dict[str, Any],
    wanted: _Wanted,
) -> dict[str, Any]:
    """Carry all symbols until something ends it, and tell what came of it."""
    from adapters.paper_sink import PaperSink
    from ibs_core.cli import live_parts
    from ibs_core.live import Limits, Worker

    live_parts.refuse_other_rule(journal, facts)
    orders, waits = wanted.file.with_suffix(".orders.jsonl"), settings.live
    # A journal that is resumed may not hold the rolls of later files.
    given = [(root, int(ns)) for root, seams in source.seams.items() for ns in seams]
    worker = Worker(
        engine,
        feed=source.feed,
        history=source.history,
        journal=journal,
        sink=PaperSink(orders, journal, source.clock, strategy="ibs"),
        clock=source.clock,
        limits=Limits(
            waits.grace, waits.late, waits.stale, waits.entry_life, by_clock=source.by_clock
        ),
        tell=wanted.tell,
        rolls=lambda now_ns: [*given, *source.rolls(now_ns)],
    )
    try:
        span = {"first_ns": source.first_ns, "start_ns": source.start_ns}
        how = _carry(worker, engine, source, facts | span)
    finally:
        source.feed.stop()
    telemetry = source.feed.telemetry()
    return {
        "how": how,
        "fatal": how not in ("stopped", "ended", "replayed to the end"),
        "until": _stamp(worker.until_ns),
        "counts": worker.counts,
        "late_minutes": worker.counts["late"],
        "reconnects": telemetry["reconnects"],
        "feed": telemetry,
        "journal": str(wanted.file),
        "orders": str(orders),
        "parity": f"ibs parity --journal {wanted.file}",
        **live_parts.summary_of(journal, engine, settings),
    }


def _carry(worker: Worker, engine: Engine, source: Source, facts: dict[str, Any]) -> str:
    """Run a worker until it is done, ended or told to stop."""
    end_ns, status = source.end_ns, Status(engine, worker)
    with _stop_signals() as stopped:
        worker.start(facts, first_ns=source.first_ns, start_ns=source.start_ns)
        gc.collect()
        gc.freeze()  # what a start leaves stays for good; looking through it would cost milliseconds

        def ends() -> bool:
            status.show()
            return bool(stopped) or (end_ns is not None and worker.until_ns >= end_ns)

        how = worker.run(ends)
        status.clear()
        how = "replayed to the end" if how == "stopped" and not stopped else how
        worker.finish(how)
    return how


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Turn SIGINT and SIGTERM into a list that is no longer empty; the second ends it at once."""
    seen: list[int] = []

    def heed(number: int, _frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    kept = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _stamp(ns: int) -> str:
    from ibs_core.market_data.runs import stamp

    return stamp(ns)
