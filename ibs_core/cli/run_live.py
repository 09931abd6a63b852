"""`ibs run-live`: the live worker, on a recorded file through the local gateway or on Databento's service."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.cli.live_screen import say, show_summary
from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.onnx_scorer import Choice
    from ibs_core.cli.live_pulse import Pulse
    from ibs_core.cli.live_run import Run
    from ibs_core.cli.live_sink import Destination
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.preflight import Result

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
    destination: Destination
    scorer: Choice
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
    "--gateway", type=options.ADDRESS, help="Another live gateway, for tests; it needs --history."
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
@click.option("--route", help="Of `routes` in the configuration, or demo; posted to if armed.")
@click.option(
    "--armed", is_flag=True, help="Post orders to the route; else they go into a file on paper."
)
@click.option(
    "--exits-only",
    is_flag=True,
    help="Without market data: send exits that wait, do what was asked (ibs flatten), and end.",
)
@click.option(
    "--log", type=click.Choice(["json", "human"]), help="Also log what happens, on standard error."
)
@options.scorer
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
    exits_only: bool,
    log: str | None,
    scorer: Choice,
    json_: bool,
    quiet: bool,
) -> None:
    """Trade live, each decision in the journal before anything is sent; on paper unless armed.

    With --replay the bars of files come through a gateway on this machine that speaks Databento's
    protocol, to the vendor's own client; without it they come from Databento, with the key in
    DATABENTO_API_KEY. Ctrl-C stops between two minutes and keeps the state, twice or before it trades at
    once; the same command with the same --journal goes on.
    """
    _refuse_odd(
        replay=bool(replay),
        more=bool(more),
        history=bool(history),
        gateway=gateway is not None,
        start=start is not None,
        exits_only=exits_only,
    )
    from ibs_core.cli import live_parts
    from ibs_core.cli.live_pulse import monitored
    from ibs_core.cli.live_sink import destination_of

    settings, contracts = options.settings_of(config, model_mode=model_mode)
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
        destination=destination_of(settings, route, armed=armed, is_replay=bool(replay)),
        scorer=scorer,
        tell=(lambda _: None) if silent else say,
    )
    options.folder_of(wanted.file.parent, "--journal")
    live_parts.refuse_second_worker(wanted.file)  # before it would overwrite the other's heartbeat
    options.compile_notice(silent=silent)
    trades = _leave if exits_only else _replay if replay else _live
    with monitored(
        settings,
        wanted.file,
        roots,
        wanted.destination,
        log=log,
        tell=wanted.tell,
        replay_speed=speed if replay else None,
    ) as pulse:
        facts = trades(settings, contracts, roots, wanted, pulse)
        pulse.enter(*(("failed", facts["how"]) if facts["fatal"] else ("stopped", facts["how"])))
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


def _refuse_odd(
    *, replay: bool, more: bool, history: bool, gateway: bool, start: bool, exits_only: bool
) -> None:
    """Refuse options that do not go together."""
    if more and not replay:
        raise click.UsageError("paths belong to --replay PATH…")
    if replay and (history or gateway):
        raise click.UsageError("--history and --gateway are for live data, not for --replay")
    if gateway and not history:
        raise click.UsageError("--gateway needs --history PATH: its rolls come from there")
    if start and not replay:
        raise click.UsageError("--start belongs to --replay PATH…: live starts now")
    if exits_only and (replay or history or gateway):
        raise click.UsageError("--exits-only takes no --replay, --history or --gateway")


def _check(
    settings: Settings, contracts: ContractMap, roots: list[str], wanted: _Wanted, pulse: Pulse
) -> None:
    """Refuse to start where a check fails; those of a replay are told when they found something."""
    from ibs_core.cli.preflight import run_preflight
    from ibs_core.cli.preflight_start import Start
    from ibs_core.preflight import refuse_failed

    def told(result: Result) -> None:
        is_calm = result.verdict in ("passed", "skipped") and result.name != "kill_switch"
        if result.verdict != "failed" and not (wanted.replay and is_calm):
            wanted.tell(f"{result.name}: {result.verdict}, {result.found}")

    pulse.enter("starting", "preflight")
    start = Start(
        *(settings, contracts, roots, wanted.destination),
        *(wanted.file, wanted.history, wanted.gateway, bool(wanted.replay)),
    )
    results = run_preflight(start, tell=told)
    pulse.checked(results)
    refuse_failed(results)


def _replay(
    settings: Settings, contracts: ContractMap, roots: list[str], wanted: _Wanted, pulse: Pulse
) -> dict[str, Any]:
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli import live_parts, live_run, live_sink, replay_source
    from ibs_core.market_data import open_bars

    first, _ = options.span_of(wanted.start, None)
    roots = roots or list(open_bars(wanted.replay, contracts).roots)
    universe = live_parts.universe_of(settings, contracts, wanted.scorer)
    reads = live_parts.engine_of(settings, contracts, roots, {}, universe)
    live_parts.refuse_unserved(reads, contracts)
    _check(settings, contracts, roots, wanted, pulse)
    with ExitStack() as stack:
        journal = stack.enter_context(SqliteJournal(wanted.file)) if wanted.file.exists() else None
        recorded = replay_source.read_recorded(wanted.replay, contracts, reads.reads, first)
        engine = live_parts.engine_of(settings, contracts, roots, recorded.seams, universe)
        journal = journal or stack.enter_context(SqliteJournal(wanted.file))
        newest = journal.entries(journal.last_seq() - 1)
        served = replay_source.replayed(
            recorded,
            contracts,
            reads.reads,
            speed=wanted.speed,
            bars=wanted.bars,
            now_ns=max((each.time_ns for each in newest), default=0),
        )
        return live_run.trade(
            engine,
            stack.enter_context(served),
            journal,
            settings,
            contracts,
            live_parts.facts_of(settings, contracts, [each.root for each in engine.symbols])
            | live_sink.facts_of_destination(wanted.destination)
            | {"source": "--replay"}
            | {"files": [str(path) for path in wanted.replay]},
            _run(wanted, pulse, is_replay=True, is_patient=math.isinf(wanted.speed)),
        )


def _live(
    settings: Settings, contracts: ContractMap, roots: list[str], wanted: _Wanted, pulse: Pulse
) -> dict[str, Any]:
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli import live_parts, live_run, live_sink, live_source
    from ibs_core.snapshot import unpack

    if not roots:
        raise ConfigError(
            "symbols", expected="roots to trade", found="none", remedy="give --symbols ES,NQ"
        )
    live_source.key_of_environment()
    universe = live_parts.universe_of(settings, contracts, wanted.scorer)
    engine = live_parts.engine_of(settings, contracts, roots, {}, universe)
    live_parts.refuse_unserved(engine, contracts)
    live_parts.refuse_generated_models(engine, settings, armed=wanted.destination.is_live)
    facts = live_parts.facts_of(settings, contracts, [each.root for each in engine.symbols])
    live_source.refuse_days(engine, asks=wanted.gateway is None)
    _check(settings, contracts, roots, wanted, pulse)
    facts |= live_sink.facts_of_destination(wanted.destination) | {"source": "live data"}
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
        run = _run(wanted, pulse, is_replay=False, is_patient=False)
        return live_run.trade(fresh, source, journal, settings, contracts, facts, run)


def _leave(
    settings: Settings, contracts: ContractMap, roots: list[str], wanted: _Wanted, pulse: Pulse
) -> dict[str, Any]:
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli import exits_only, live_parts, live_run, live_sink

    with SqliteJournal(wanted.file, read_only=True) as held:
        before = live_parts.last_facts(held)
        if held.latest_snapshot() is None:
            raise ConfigError(f"journal {wanted.file}", expected="a state", found="none")
    skip = (*settings.preflight.skip, *exits_only.SKIPPED)
    wary = settings.preflight.model_copy(update={"skip": skip})
    roots = roots or list(before["roots"])
    _check(settings.model_copy(update={"preflight": wary}), contracts, roots, wanted, pulse)
    engine = live_parts.engine_of(settings, contracts, roots, {})
    ordered = [each.root for each in engine.symbols]
    facts = live_parts.facts_of(settings, contracts, ordered)
    facts |= live_sink.facts_of_destination(wanted.destination) | {"source": before["source"]}
    with SqliteJournal(wanted.file) as journal:
        run = _run(wanted, pulse, is_replay=False, is_patient=False)
        source = exits_only.source_of_exits(ordered)
        return live_run.trade(engine, source, journal, settings, contracts, facts, run)


def _run(wanted: _Wanted, pulse: Pulse, *, is_replay: bool, is_patient: bool) -> Run:
    from ibs_core.cli.live_run import Run

    return Run(
        file=wanted.file,
        destination=wanted.destination,
        is_replay=is_replay,
        is_patient=is_patient,
        pulse=pulse,
    )
