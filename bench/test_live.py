"""What live costs: a boundary from the minute's end to orders in the hands of the sink, a restart, a month.

17 symbols close an hour at once, each with every feature for models and a veto of 300 trees; the journal is
on the disk before the sink is called.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import time
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from data import made
from timing import loop_s

from ibs_core import replay, signals
from ibs_core.bars import MINUTE_NS
from ibs_core.catalogue import load_catalogue
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.engine import Engine
from ibs_core.live import Limits, Worker
from ibs_core.market_data import HeldBars, hold, open_bars
from ibs_core.ports import FeedNote, Minute, MinuteEnd
from ibs_core.universe import Model, Universe
from ibs_core.wiring import feeds_of_node

MAP = load_contract_map()
SEVENTEEN = (
    "ES", "NQ", "RTY", "YM", "GC", "SI", "HG", "PL", "CL", "NG", "6A", "6B", "6C", "6E", "6J", "6M", "6N",
)  # fmt: skip
ROOTS = (*SEVENTEEN, "6S")
"""All that is traded, and one more that features read."""
HOUR_NS = 60 * MINUTE_NS
LIVE_NS = int(np.datetime64("2024-05-19T22:00", "ns").astype(np.int64))
"""From here on minutes come live; 761 sessions and more lie before."""


@pytest.fixture(scope="session")
def files():
    """Three years of minutes of eighteen roots."""
    span = {"start": date(2021, 5, 3), "end": date(2024, 6, 28)}
    return made("live", roots=ROOTS, seed=3, **span)


@pytest.fixture(scope="module")
def bars(files):
    return hold(open_bars(files, MAP))


@pytest.fixture(scope="module")
def models():
    """Make a veto of every feature for models that a root can have."""
    sklearn = pytest.importorskip("sklearn.ensemble")
    pytest.importorskip("skl2onnx")
    from adapters.onnx_scorer import OnnxScorer
    from ibs_core.research.export import export_forest

    @cache
    def model(read):
        nodes = {each.name: each.node for each in load_catalogue(MAP).values() if each.for_models}
        names = tuple(name for name, node in nodes.items() if feeds_of_node(node) <= read)
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(4_000, len(names))).astype(np.float32)
        target = (rows[:, 0] + rng.normal(size=len(rows)) > 0).astype(int)
        forest = sklearn.RandomForestClassifier(300, max_depth=5, random_state=1, n_jobs=-1)
        scorer = OnnxScorer(export_forest(forest.fit(rows, target), len(names)))
        return Model("bench", names, 0.5, scorer, (0, 1))

    return lambda root: model(frozenset({*ROOTS, "pair"} if MAP.get(root).pair else ROOTS))


def settings_of(roots):
    """Every bar is a candidate, and what is entered leaves with the next."""
    return load_settings(
        overrides={
            "strategy": {
                "entry": {"ibs": [0.0, 1.0], "pivots": "none", "windows": []},
                "exits": {"stop": None, "target": None, "ibs": None, "bars": 1, "flat_by": None},
            },
            "model": {"mode": "veto"},
            "symbols": {root: {} for root in roots},
        }
    )


class Collected:
    """A sink that notes when it was called, and for how many orders."""

    def __init__(self):
        self.calls = []

    def send(self, orders):
        self.calls.append((time.perf_counter(), len(orders)))

    def start(self):
        """Nothing is open, nothing waits."""

    close = start

    def settled(self):
        return ()

    unsettled = settled


class Script:
    """A feed that delivers minutes and their ends from a list, and calls back around each end; a clock."""

    def __init__(self, coming=(), before=None, after=None):
        self._events = self._said(coming)
        self._before, self._after = before, after
        self._end = None

    def _said(self, coming):
        yield FeedNote("replayed", "")
        for ts_ns, minutes in coming:
            yield from minutes
            yield MinuteEnd(ts_ns + MINUTE_NS)
        yield FeedNote("ended", "")

    def now_ns(self):
        return 0

    def start(self, since_ns):
        """All comes by itself."""

    def next(self, timeout_s):  # noqa: ARG002  (something always comes)
        if self._end is not None:
            self._after(self._end)
        event = next(self._events)
        self._end = event.ts_ns if isinstance(event, MinuteEnd) else None
        if self._end is not None:
            self._before()
        return event

    def stop(self):
        """Nothing runs."""


class Past:
    """History that is held."""

    def __init__(self, bars):
        self._bars = bars

    def minutes(self, roots, first_ns, until_ns):  # noqa: ARG002  (all roots are held)
        return self._bars.between(first_ns, until_ns)


def engine_of(roots, models):
    own = settings_of(roots)
    universe = Universe(own, MAP, start=None, end=None, models=models)
    return Engine(universe, [root for root in MAP.contracts if root in roots], own, {})


def start(engine, bars, journal, script, sink=None):
    """Start a worker, from its journal if that holds anything."""
    worker = Worker(
        engine,
        feed=script,
        history=Past(bars),
        journal=journal,
        sink=sink or Collected(),
        clock=script,
        limits=Limits(by_clock=False),
        publish=lambda _: None,
    )
    worker.start({}, first_ns=-(2**62), start_ns=LIVE_NS)
    return worker


def minutes_after(bars: HeldBars, roots, start_ns):
    found = [
        Minute(run.root, run.instrument, *row)
        for root in roots
        for run in bars.between(start_ns, None).load(root)[0]
        for row in zip(
            *(c.tolist() for c in (run.ts_ns, run.open, run.high, run.low, run.close, run.volume)),
            strict=True,
        )
    ]
    by_time = {}
    for minute in sorted(found, key=lambda each: each.ts_ns):
        by_time.setdefault(minute.ts_ns, []).append(minute)
    return by_time


class Stopwatch:
    """Adds up what calls of a function take."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments, **named):
        before = time.perf_counter()
        try:
            return self.function(*arguments, **named)
        finally:
            self.seconds += time.perf_counter() - before


class Boundaries:
    """What each boundary took at which every symbol sent an order, in seconds, and its parts."""

    def __init__(self, sink, journal, n_roots, monkeypatch):
        self._sink, self._n_roots = sink, n_roots
        self._parts = {
            "observe": Stopwatch(signals.observe_many),
            "decide": Stopwatch(replay.decide_many),
            "journal": Stopwatch(journal.append),
        }
        monkeypatch.setattr(signals, "observe_many", self._parts["observe"])
        monkeypatch.setattr(replay, "decide_many", self._parts["decide"])
        monkeypatch.setattr(journal, "append", self._parts["journal"])
        self._began = 0.0
        self.rows, self.loops, self.resident_mb, self.n_minutes = [], [], [], 0

    def before(self):
        if self.n_minutes % 5_000 == 0:
            self.resident_mb.append(resident_mb())
        self.n_minutes += 1
        for part in self._parts.values():
            part.seconds = 0.0
        self._sink.calls.clear()
        self._began = time.perf_counter()

    def after(self, end_ns):
        if end_ns % HOUR_NS or not self._sink.calls:
            return
        at, n_orders = self._sink.calls[-1]
        if n_orders >= self._n_roots:
            parts = {name: part.seconds for name, part in self._parts.items()}
            whole = at - self._began
            computed = {"decided": parts["observe"] + parts["decide"]}
            self.rows.append({"all": whole, "computed": whole - parts["journal"]} | computed)
            self.loops.append(loop_s())

    def percentile(self, name, share):
        return np.percentile([row[name] for row in self.rows], share)


def resident_mb():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed would hide what grows
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def standing():
    """Keep what the benchmark itself holds out of the garbage collector's way."""
    yield gc.freeze
    gc.unfreeze()


@pytest.mark.parametrize(("roots", "name"), [(SEVENTEEN, "slice-17"), (("ES",), "slice-1")])
def test_a_month_of_boundaries_and_a_restart(
    benchmark, record, bars, models, tmp_path, monkeypatch, standing, roots, name
):
    from adapters.sqlite_journal import SqliteJournal

    path, engine, sink = tmp_path / "journal.sqlite", engine_of(roots, models), Collected()
    coming = minutes_after(bars, [root for root in engine.reads if root in bars.roots], LIVE_NS)

    def warm_up_and_run():
        with SqliteJournal(path) as journal:
            run = Boundaries(sink, journal, len(roots), monkeypatch)
            began = time.perf_counter()
            script = Script(coming.items(), run.before, run.after)
            worker = start(engine, bars, journal, script, sink)
            warm_s = time.perf_counter() - began
            standing()
            assert worker.run(lambda: False) == "ended"
        return run, warm_s

    run, warm_s = benchmark.pedantic(warm_up_and_run)
    with SqliteJournal(path) as journal:  # as if it had been killed: the last day is replayed
        began = time.perf_counter()
        resumed = engine_of(roots, models)
        start(resumed, bars, journal, Script())
        restart_s = time.perf_counter() - began
    assert resumed.until_ns == engine.until_ns
    assert len(run.rows) > 100
    loop = min(run.loops)
    record(name, run.percentile("computed", 50), loop)
    record(f"{name}-p99", run.percentile("all", 99), loop)
    record(f"{name}-decided", run.percentile("decided", 50), loop)
    record(f"{name}-decided-p99", run.percentile("decided", 99), loop)
    record(f"{name}-ready", warm_s)
    record(f"{name}-ready-again", restart_s)
    record(f"{name}-grown", run.resident_mb[-1] - run.resident_mb[1])


def test_a_year_of_minutes_is_replayed_through_client_engine_and_journal(
    benchmark, record, symbol_year, tmp_path
):
    from ibs_core.cli.run_live import run_live

    (tmp_path / "config.yml").write_text("symbols: {ES: {}}\n")

    def replay():
        words = f"--config {tmp_path}/config.yml --replay {symbol_year} --speed max --json"
        journal = ["--journal", str(tmp_path / "journal.sqlite")]
        done = CliRunner().invoke(run_live, [*words.split(), *journal])
        assert done.exit_code == 0, done.output
        assert len(json.loads(done.stdout)["trades"]) > 50

    before = time.perf_counter()
    benchmark.pedantic(replay)
    record("replayed-year", time.perf_counter() - before, min(loop_s() for _ in range(100)))
