"""What features cost: a signal bar in batch, one bar live, five of them against all, ten years of all."""

from __future__ import annotations

import time

import numpy as np
from timing import against_loop, loop_s

from ibs_core.bars import BAR
from ibs_core.catalogue import load_catalogue
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.feature_table import tabulate
from ibs_core.feeds import Feed, lay_beside
from ibs_core.kernels.calendar import CALENDAR
from ibs_core.kernels.graph import observe_bar
from ibs_core.market_data import open_bars
from ibs_core.signals import features_many
from ibs_core.wiring import memory_of, new_state, wire

HOUR_NS = 3600 * 10**9
N_BARS = 20_000
PER_DAY = 23
ACROSS = [
    "ES",
    "NQ",
    "RTY",
    "YM",
    "GC",
    "SI",
    "HG",
    "PL",
    "6A",
    "6B",
    "6C",
    "6E",
    "6J",
    "6M",
    "6N",
    "6S",
    "CL",
    "NG",
    "TLT",
    "VIX",
]
FIVE = ("bar_rsi2", "bar_atr_z", "bar_price_z", "day_ret1_pct", "bar_ema200_above")


def bars_of(seed, n, width_ns):
    """Make one side of an instrument: a random walk on ticks, with volume."""
    rng = np.random.default_rng(seed)
    bars = np.zeros(n, BAR)
    close = 5000 + np.cumsum(rng.integers(-8, 9, n)) * 0.25
    bars["close"], bars["open"] = close, np.append(5000.0, close[:-1])
    bars["high"] = np.maximum(bars["open"], close) + rng.integers(0, 8, n) * 0.25
    bars["low"] = np.minimum(bars["open"], close) - rng.integers(0, 8, n) * 0.25
    bars["volume"] = rng.integers(1, 5000, n)
    bars["start_ns"] = np.arange(n) * width_ns
    bars["end_ns"] = bars["start_ns"] + width_ns
    return bars


def feed(seed):
    """Make one instrument: hourly bars, and a session every 23 of them."""
    days = bars_of(seed + 1000, N_BARS // PER_DAY, PER_DAY * HOUR_NS)
    return Feed(bars_of(seed, N_BARS, HOUR_NS), days, np.arange(len(days)))


def nodes(names=None):
    """Return the formulas of all features of ES that 20 instruments serve, or of some."""
    wanted = {root.lower() for root in ACROSS}
    return [
        each.node
        for name, each in load_catalogue(load_contract_map()).items()
        if (name in names if names else not name.startswith("x_") or name.split("_")[1] in wanted)
    ]


def everything(wiring, feeds):
    """Evaluate all bars of one symbol, and what it reads of the others."""
    own, graph = feeds["ES"], wiring.graph
    others = {root: Feed(each.bars, each.days, each.dates) for root, each in feeds.items()}
    beside = lay_beside(wiring, own, {**others, "pair": others["NQ"]}, HOUR_NS)
    rows = np.empty((len(own.bars), len(graph.columns)))
    dates = np.zeros(len(own.bars), CALENDAR)
    memories = memory_of(new_state(graph.bar)), memory_of(new_state(graph.day))
    laid = (beside.foreign, beside.day_pair)
    features_many(graph, *memories, own.bars, own.days, dates, *laid, rows)
    return rows


def test_all_features_of_a_signal_bar_and_five_of_them(benchmark, record):
    feeds = {root: feed(i) for i, root in enumerate(ACROSS)}
    whole, five = wire(nodes()), wire(nodes(FIVE))
    ours, few, loop = against_loop(
        benchmark,
        lambda: everything(whole, feeds),
        lambda: everything(five, feeds),
        rounds=9,
    )
    record("features", ours / N_BARS, loop)
    record("five-features", few / N_BARS, ours / N_BARS)


def test_one_bar_live_with_all_features(benchmark, record):
    own, wiring = feed(0), wire(nodes())
    graph = wiring.graph
    memories = memory_of(new_state(graph.bar)), memory_of(new_state(graph.day))
    row, foreign = np.empty(len(graph.columns)), np.zeros(2 + len(wiring.lookups))
    dates = np.zeros(1, CALENDAR)
    taken, paces = [], []

    def observe():
        for i, bar in enumerate(own.bars):
            before = time.perf_counter()
            observe_bar(graph, *memories, bar, dates[0], foreign, row)
            taken.append(time.perf_counter() - before)
            if i % 100 == 0:
                paces.append(loop_s())

    benchmark.pedantic(observe)
    p50, p99 = np.percentile(taken[4_000:], [50, 99])  # every window is full
    record("live-bar", p50, min(paces))
    record("live-bar-p99", p99, min(paces))


def test_ten_years_of_twelve_symbols_with_every_feature(benchmark, record, ten_years):
    contracts, settings = load_contract_map(), load_settings()
    n_bars = []

    def tables():
        made = tabulate(open_bars([ten_years], contracts), settings, contracts)
        n_bars[:] = [len(table.rows) for table in made]

    ours, loop = against_loop(benchmark, tables, rounds=2)
    record("feature-table", ours / sum(n_bars), loop)
