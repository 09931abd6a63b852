"""Worlds for tests of the live worker: generated bars, feeds on script or through the gateway, and what must hold."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from click.testing import CliRunner
from test_engine import by_order, same_decisions

from adapters.databento_gateway import Gateway, tape_of_minutes
from adapters.databento_live import DatabentoFeed
from adapters.paper_sink import PaperSink
from adapters.sqlite_journal import SqliteJournal
from adapters.system_clock import TimedFeed
from ibs_core.backtest import trade
from ibs_core.bars import MINUTE_NS
from ibs_core.cli.parity import parity
from ibs_core.config import load_settings, resolved_yaml
from ibs_core.contracts import load_contract_map
from ibs_core.engine import Engine
from ibs_core.live import Limits, Worker
from ibs_core.market_data import hold, open_bars
from ibs_core.parity import compare
from ibs_core.portfolio import ABSENT, BLOCKS, ENTRY, EXIT, FIRST_BLOCK, TAKEN
from ibs_core.ports import FeedNote, Minute, MinuteEnd
from ibs_core.recording import minutes_of
from ibs_core.research.sample_data import write_sample
from ibs_core.roll_table import RollTable
from ibs_core.universe import Universe

if TYPE_CHECKING:
    from pathlib import Path

MAP = load_contract_map()
KEY = "db-" + "k" * 29
SECOND = 10**9
HOUR = 60 * MINUTE_NS
RULE = {
    "strategy": {
        "entry": {"ibs": [0.0, 0.5], "pivots": "none"},
        "filters": {"bar_rsi2": [0, 95]},
        "exits": {"protective": {"stop": {"percent": 0.6}, "target": {"percent": 1.5}}},
    },
    "symbols": {
        "ES": {"execute": "MES"},
        "CL": {"strategy": {"signal_bar": "30m", "exits": {"protective": None}}},
    },
}
PRINTED = (0, 1, 29, 30, 31, 59)
"""Minutes of an hour that print: all that open, fill or end a bar, and two more."""
FIRST_NOTES = (FeedNote("connected", "streaming"), FeedNote("replayed", "all is delivered"))


def at(text):
    return int(np.datetime64(text, "ns").astype(np.int64))


@dataclass
class World:
    """Bars and a rule, what a feed without faults makes of them, and a folder for journals."""

    folder: Path
    bars: Path
    settings: object
    held: object
    table: RollTable
    start_ns: int
    end_ns: int

    def __post_init__(self):
        self.events = stream_of(self.held, self.start_ns)

    @property
    def roots(self):
        return [root for root in MAP.contracts if root in self.settings.symbols]

    @property
    def config(self):
        path = self.folder / "config.yml"
        path.write_text(resolved_yaml(self.settings))
        return path

    def journal(self, name="live"):
        return self.folder / f"{name}.sqlite"

    def engine(self):
        universe = Universe(self.settings, MAP, start=None, end=None)
        return Engine(universe, self.roots, self.settings, self.table.seams())

    def backtest(self, inputs=None):
        return trade(self.held, self.settings, MAP, seams=self.table.seams(), inputs=inputs)

    def minutes(self, roots, first_ns, until_ns):
        """As a `History`."""
        del roots
        return self.held.between(first_ns, until_ns)


def make_world(folder, start, end, *, rule=RULE, seed=5, live_from=""):
    """Generated bars of some minutes an hour; `live_from` is when live begins, what is before warms up."""
    bars = folder / "bars"
    settings = load_settings(overrides=rule)
    roots = [root for root in MAP.contracts if root in settings.symbols]
    for path in write_sample(bars, roots=roots, start=start, end=end, seed=seed):
        minute = pl.col("ts_event").dt.minute()
        pl.read_parquet(path).filter(minute.is_in(PRINTED)).write_parquet(path)
    held = hold(open_bars([bars], MAP), roots)
    table = RollTable.of_bars(held, roots)
    opens = [each.ts_ns for each in minutes_of(held)]
    start_ns = at(live_from) if live_from else opens[0]
    return World(folder, bars, settings, held, table, start_ns, opens[-1] + MINUTE_NS)


def stream_of(held, start_ns):
    """All minutes, and the ends of those that print and of every tenth: what a calm feed gives, but for idle ends."""
    ends = tape_of_minutes(held).minute_ends(skip_closed=True)
    minutes = [each for each in minutes_of(held) if each.ts_ns >= start_ns]
    kept = np.isin(ends, [each.ts_ns + MINUTE_NS for each in minutes])
    kept |= (ends % (10 * MINUTE_NS) == 0) & (ends > start_ns)
    events = [*minutes, *(MinuteEnd(int(end)) for end in ends[kept])]
    return sorted(events, key=known_ns)


def known_ns(event):
    """When an event is there: a minute just before its end is told."""
    return event.ts_ns + MINUTE_NS - 1 if isinstance(event, Minute) else event.ts_ns


def between(events, first_ns, until_ns):
    """Events of minutes that open in [first, until)."""
    opens = [(each.ts_ns - MINUTE_NS * isinstance(each, MinuteEnd), each) for each in events]
    return [each for ns, each in opens if first_ns <= ns < until_ns]


def every_minute(events, first_ns, until_ns):
    """Minutes of a span with the end of each, as the vendor tells them."""
    minutes = [each for each in between(events, first_ns, until_ns) if isinstance(each, Minute)]
    ends = [MinuteEnd(ns) for ns in range(first_ns + MINUTE_NS, until_ns + 1, MINUTE_NS)]
    return sorted([*minutes, *ends], key=known_ns)


def ticks(first_ns, last_ns):
    """The clock runs on and nothing comes."""
    return list(range(first_ns, last_ns + 1, 5 * SECOND))


def outage(events, lost_ns, back_ns):
    """The feed is lost at an instant, and replays what was missed at another."""
    missed = between(events, lost_ns, back_ns)
    return [
        *between(events, -math.inf, lost_ns),
        FeedNote("lost", "on script"),
        back_ns + SECOND,
        FIRST_NOTES[0],
        *(each for each in missed if isinstance(each, Minute)),
        FIRST_NOTES[1],
        MinuteEnd(back_ns),
        *between(events, back_ns, math.inf),
    ]


class Clock:
    def __init__(self, ns):
        self.ns, self.off_ns = ns, 0

    def now_ns(self):
        return self.ns + self.off_ns


@dataclass
class Step:
    """From now on the clock is wrong by so much."""

    off_ns: int


class ScriptedFeed:
    """Delivers what a script says, from the minute on for which it is asked.

    A number is a time at which nothing comes, a function is called while nothing comes; an end of a minute comes a second late, or later where
    the script has come to a later time.
    """

    def __init__(self, script, clock):
        self._script, self._clock, self._since_ns = list(script), clock, 0
        self._next = 0
        self.is_stopped = False

    @property
    def is_done(self):
        return self._next == len(self._script)

    def start(self, since_ns):
        self._since_ns = since_ns

    def next(self, timeout_s):
        del timeout_s
        while not self.is_done:
            event = self._script[self._next]
            self._next += 1
            if callable(event):
                event()
                return None
            if isinstance(event, Step):
                self._clock.off_ns = event.off_ns
                return None
            if isinstance(event, int):
                self._clock.ns = event
                return None
            if isinstance(event, MinuteEnd):
                if event.ts_ns <= self._since_ns:
                    continue
                self._clock.ns = max(self._clock.ns, event.ts_ns + SECOND)
            elif isinstance(event, Minute) and event.ts_ns < self._since_ns:
                continue
            return event
        return None

    def stop(self):
        self.is_stopped = True

    def telemetry(self):
        return {}


@contextmanager
def scripted(world, script, *, from_ns=None, notes=FIRST_NOTES):
    """A feed on script; its end is the end of the run."""
    clock = Clock(world.start_ns if from_ns is None else from_ns)
    feed = ScriptedFeed([*notes, *script], clock)
    yield feed, clock, lambda _worker: feed.is_done


class _GatewayClock:
    def __init__(self, gateway):
        self._gateway = gateway

    def now_ns(self):
        return self._gateway.now_ns


class SteppedFeed:
    """Moves the market time of a gateway on, step by step, each when the ends of minutes up to the last are told."""

    def __init__(self, feed, gateway, steps):
        self._feed, self._gateway, self._steps = feed, gateway, list(steps)
        self._told_ns, self._awaited_ns = 0, math.inf
        self.start, self.stop, self.telemetry = feed.start, feed.stop, feed.telemetry

    def next(self, timeout_s):
        event = self._feed.next(min(timeout_s, 0.02))
        if isinstance(event, MinuteEnd):
            self._told_ns = event.ts_ns
        if isinstance(event, FeedNote) and event.kind == "replayed":
            self._awaited_ns = min(self._awaited_ns, 0)
        if event is None and self._steps and self._told_ns >= self._awaited_ns:
            self._awaited_ns = self._steps.pop(0)
            self._gateway.advance_to(self._awaited_ns)
        return event


@contextmanager
def through_gateway(world, faults=(), *, steps=None, queue_max=250_000, served=None, **more):
    """The vendor's client on the gateway, with faults on script; market time is that of the data.

    Gateways are appended to `served`, for those who want to know what they were asked.
    """
    gateway = Gateway(
        tape_of_minutes(world.held),
        key=KEY,
        pace=math.inf if steps is None else None,
        now_ns=world.start_ns,
        skips_closed=True,
        faults=faults,
        **more,
    )
    (served if served is not None else []).append(gateway)
    with gateway:
        timed = TimedFeed(None, world.start_ns)
        clock = timed if steps is None else _GatewayClock(gateway)
        feed = DatabentoFeed(
            contracts=MAP,
            roots=world.roots,
            key=KEY,
            clock=clock,
            active=world.table.active,
            known_until_ns=world.end_ns,
            queue_max=queue_max,
            gateway=("127.0.0.1", gateway.port),
            wait=lambda _s: None,
            jitter=lambda: 0.0,
        )
        timed.feed = feed if steps is None else SteppedFeed(feed, gateway, steps)
        try:
            yield timed, clock, lambda worker: worker.until_ns >= world.end_ns
        finally:
            feed.stop()


def carry(world, opened, *, name="live", kill=False, sink_of=None, until_ns=None, **more):
    """Run a worker like a process: to the end of its feed, and away without a word if it is killed."""
    told = []
    path = world.journal(name)
    with SqliteJournal(path, wait_s=0.05) as journal, opened as (feed, clock, is_done):
        sink = PaperSink(path.with_suffix(".jsonl"), journal, clock, strategy="ibs")
        worker = Worker(
            world.engine(),
            feed=feed,
            history=world,
            journal=journal,
            sink=sink_of(sink, journal) if sink_of else sink,
            clock=clock,
            limits=Limits(**more),
            publish=lambda notice: told.append(notice.text),
        )
        worker.told = told
        try:
            worker.start({}, first_ns=-(2**62), start_ns=world.start_ns)
            how = worker.run(
                lambda: is_done(worker) or (until_ns is not None and worker.until_ns >= until_ns)
            )
            if not kill:
                worker.finish(how)
        finally:
            sink.close()
    return worker


# ------------------------------------------------------------------ what must hold


def read(path):
    """Decisions, trades and inputs of a journal, all entries end to end."""
    with SqliteJournal(path, read_only=True) as journal:
        entries = [each.arrays for each in journal.entries()]
    return (
        np.concatenate([each[name] for each in entries])
        for name in ("decisions", "trades", "inputs")
    )


def orders_in(path):
    with SqliteJournal(path, read_only=True) as journal:
        return journal.orders()


def events_in(path, kind):
    with SqliteJournal(path, read_only=True) as journal:
        return journal.events(kind=kind)


def sent_in(path):
    """Ids of the orders on paper, as they were sent."""
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    return [json.loads(line)["extras"]["cid"] for line in lines]


def sound(world, name="live"):
    """What holds after any fault: the journal is whole, nothing was sent twice or unwritten, parity."""
    path = world.journal(name)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    orders = orders_in(path)
    ids = [each.order.order_id for each in orders]
    on_paper = sent_in(path)
    assert len(set(ids)) == len(ids)
    assert len(set(on_paper)) == len(on_paper)
    acked = {each.order.order_id for each in orders if each.state == "ACKED"}
    assert set(on_paper) == acked
    assert all(each.state in ("ACKED", "EXPIRED") for each in orders)
    assert all(each.state == "ACKED" for each in orders if each.order.action == "exit")
    return parity_holds(world, name)


def parity_holds(world, name):
    """A journal run again differs in nothing."""
    orders = orders_in(world.journal(name))
    with SqliteJournal(world.journal(name), read_only=True) as journal:
        (_, _, first), *kept = journal.snapshots()
        compared = compare(
            first,
            journal.entries(),
            {each.order.order_id: each.order for each in orders},
            {seq: block for seq, _, block in kept},
            world.engine,
        )
    assert compared.differences == []
    return compared.counts


def parity_of(path):
    """What `ibs parity` tells of a journal of `ibs run-live`."""
    done = CliRunner().invoke(parity, ["--journal", str(path), "--json"])
    assert done.stdout, done.exception
    return json.loads(done.stdout)


def minutes_in(path):
    """Every minute of a journal as it was taken."""
    with SqliteJournal(path, read_only=True) as journal:
        return [tuple(row) for each in journal.entries() for row in each.arrays["minutes"].tolist()]


def bars_in(path):
    """Every bar of a journal, by root."""
    found = {}
    with SqliteJournal(path, read_only=True) as journal:
        for each in journal.entries():
            bars = np.split(each.arrays["bars"], np.cumsum(each.arrays["counts"])[:-1])
            for root, own in zip(each.arrays["roots"].tolist(), bars, strict=False):
                found.setdefault(root, []).append(own)
    return {root: np.concatenate(parts) for root, parts in found.items()}


def same_as_backtest(path, traded):
    decisions, trades, _ = read(path)
    same_decisions(decisions, traded.decision_records)
    assert by_order(trades).tobytes() == by_order(traded.trade_records).tobytes()


def same_as_journal(path, other):
    """Two journals hold the same decisions and trades and sent the same orders."""
    one, two = read(path), read(other)
    for name, a, b in zip(("decisions", "trades"), one, two, strict=False):
        assert a.tobytes() == b.tobytes(), name
    assert sorted(sent_in(path)) == sorted(sent_in(other))


def entries_taken(decisions):
    return decisions[(decisions["action"] == ENTRY) & (decisions["reason"] == TAKEN)]


def blocked_as(decisions, reason):
    code = BLOCKS.index(reason) + 1
    return decisions[(decisions["action"] == ENTRY) & (decisions["reason"] == code)]


def exits(decisions):
    return decisions[decisions["action"] == EXIT]


def absences(inputs):
    return inputs[inputs["kind"] == ABSENT]


def blocks(inputs):
    return inputs[inputs["kind"] >= FIRST_BLOCK]
