"""`ibs run-live`: the live worker, on a recorded file through the local gateway or on Databento's service."""

from __future__ import annotations

import math
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
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
    protocol, to the vendor's own client. Ctrl-C stops between two minutes and keeps the state; the same
    command with the same --journal goes on.
    """
    if armed or route not in (None, "paper"):
        raise ConfigError(
            "option --armed" if armed else f"option --route {route}",
            expected="paper: orders are written to a file",
            found="real orders",
            remedy="leave it out; there is no sink for real orders in this version",
        )
    if more and not replay:
        raise click.UsageError("paths belong to --replay PATH…")
    from ibs_core.config import load_settings
    from ibs_core.contracts import load_contract_map

    overrides = {"model": {"mode": model_mode}} if model_mode else None
    settings = load_settings(config, overrides=overrides)
    contracts = load_contract_map(Path(settings.contract_map) if settings.contract_map else None)
    roots = options.roots_of(symbols, contracts) or list(settings.symbols)
    silent = json_ or quiet
    options.compile_notice(silent=silent)
    if not replay:
        raise EnvironmentFault(
            "live data", expected="--replay PATH", found="none", remedy="give a file to replay"
        )
    paths = options.paths_of(replay, more)
    file = journal or Path("live") / time.strftime("replay-%Y%m%dT%H%M%SZ.sqlite", time.gmtime())
    facts = _replay(
        settings,
        contracts,
        roots,
        paths,
        speed=speed,
        start=start,
        bars=bars,
        file=file,
        tell=(lambda _: None) if silent else click.echo,
    )
    if json_:
        options.say_json(facts)
    elif not quiet:
        done = ", ".join(f"{n:,} {name}" for name, n in facts["counts"].items() if n)
        click.echo(f"{facts['how']} at {facts['until']}: {done or 'nothing happened'}")
        click.echo(f"journal: {facts['journal']}\norders on paper: {facts['orders']}")


def _replay(
    settings: Settings,
    contracts: ContractMap,
    roots: list[str],
    paths: list[Path],
    *,
    speed: float,
    start: str | None,
    bars: str,
    file: Path,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    from adapters.paper_sink import PaperSink
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli import live_parts
    from ibs_core.live import Limits, Worker
    from ibs_core.market_data import open_bars

    first, _ = options.span_of(start, None)
    roots = roots or list(open_bars(paths, contracts).roots)
    reads = live_parts.engine_of(settings, contracts, roots, {}).reads
    served = live_parts.open_replay(paths, contracts, reads, first)
    engine = live_parts.engine_of(settings, contracts, roots, served.seams)
    facts = live_parts.facts_of(settings, contracts, [each.root for each in engine.symbols])
    options.folder_of(file.parent).mkdir(parents=True, exist_ok=True)
    orders = file.with_suffix(".orders.jsonl")
    with SqliteJournal(file) as journal, live_parts.serve(served, speed) as gateway:
        live_parts.refuse_other_rule(journal, facts, file)
        feed, clock = live_parts.feed_of(served, contracts, reads, gateway, bars=bars)
        worker = Worker(
            engine,
            feed=feed,
            history=live_parts.HeldHistory(served.held),
            journal=journal,
            sink=PaperSink(orders, journal, clock, strategy="ibs"),
            clock=clock,
            limits=Limits(by_clock=False),
            tell=tell,
        )
        how = _carry(
            worker,
            facts | {"replay": [str(path) for path in paths], "start_ns": served.start_ns},
            start_ns=served.start_ns,
            done=lambda: worker.until_ns >= served.end_ns,
        )
    return {
        "how": how,
        "until": _stamp(worker.until_ns),
        "counts": worker.counts,
        "journal": str(file),
        "orders": str(orders),
    }


def _carry(
    worker: Worker, facts: dict[str, Any], *, start_ns: int, done: Callable[[], bool]
) -> str:
    """Run a worker until it is done, ended or told to stop."""
    with _stop_signals() as stopped:
        worker.start(facts, first_ns=-(2**62), start_ns=start_ns)
        how = worker.run(lambda: bool(stopped) or done())
        how = "replayed to the end" if how == "stopped" and not stopped else how
        worker.finish(how)
    return how


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Turn SIGINT and SIGTERM into a list that is no longer empty."""
    seen: list[int] = []
    kept = {
        number: signal.signal(number, lambda number, _: seen.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield seen
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _stamp(ns: int) -> str:
    from ibs_core.market_data.runs import stamp

    return stamp(ns)
