"""What live costs: a boundary from the minute's end to orders in the hands of the sink, a restart, a month.

17 symbols close an hour at once, each with every feature for models and a veto of 300 trees; the journal is
on the disk before the sink is called. How long the disk itself takes is measured beside it.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from datetime import date
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import HOME, tell

from ibs_core import replay, signals
from ibs_core.bars import MINUTE_NS
from ibs_core.catalogue import load_catalogue
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.engine import Engine
from ibs_core.live import Limits, Worker
from ibs_core.market_data import HeldBars, hold, open_bars
from ibs_core.ports import Minute
from ibs_core.research.sample_data import write_sample
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
    folder = HOME / "live"
    if not (folder / "done").exists():
        write_sample(folder, roots=ROOTS, start=date(2021, 5, 3), end=date(2024, 6, 28), seed=3)
        (folder / "done").touch()
    return sorted(folder.glob("*.parquet"))


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
    """A sink that notes when it was called."""

    def __init__(self):
        self.at = []

    def send(self, orders):
        self.at.append((time.perf_counter(), len(orders)))

    def close(self):
        """Nothing is open."""


class Silent:
    """A feed and a clock of which nothing is asked."""

    def now_ns(self):
        return 0

    def start(self, since_ns):
        """Nothing comes by itself."""


class Past:
    def __init__(self, bars):
        self.bars = bars

    def minutes(self, roots, first_ns, until_ns):
        return self.bars.between(first_ns, until_ns)


def worker_of(roots, bars, path, start_ns, models):
    """Make a worker and start it, from its journal if that holds anything."""
    from adapters.sqlite_journal import SqliteJournal

    own = settings_of(roots)
    universe = Universe(own, MAP, start=None, end=None, models=models)
    engine = Engine(universe, [r for r in MAP.contracts if r in roots], own, {})
    journal, sink, silent = SqliteJournal(path), Collected(), Silent()
    worker = Worker(
        engine, feed=silent, history=Past(bars), journal=journal, sink=sink, clock=silent,
        limits=Limits(by_clock=False), tell=lambda _: None,
    )  # fmt: skip
    worker.start({}, first_ns=-(2**62), start_ns=start_ns)
    worker._block("not_live", off=True)
    return worker, engine, sink


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
