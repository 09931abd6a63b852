"""Engine and oracle on random worlds: odd minutes, odd rolls, odd configurations, over odd weeks.

The short form runs with the suite, `make soak` runs hundreds.
"""

from __future__ import annotations

import random
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
import yaml
from parity import CONTRACTS, both, differences

from ibs_core.errors import ConfigError
from ibs_core.sessions import load_sessions, outside

MINUTE_NS = 60 * 10**9
DAY_NS = 86_400 * 10**9
LEVELS = {"ES": 5000, "CL": 70, "GC": 2000, "ZC": 450, "6E": 1.1, "ZB": 110, "MES": 5000}
# Clock changes, early closes, mourning days, the end of old hours.
WEEKS = [
    date(2024, 3, 7),
    date(2024, 10, 31),
    date(2024, 11, 26),
    date(2024, 12, 22),
    date(2025, 1, 7),
    date(2024, 7, 1),
    date(2019, 11, 26),
    date(2015, 9, 17),
    date(2023, 4, 5),
    date(2012, 11, 16),
]
FILTERS = {
    "bar_rsi2": [0, 60],
    "day_rsi2": [0, 80],
    "cal_dow": {"in": [1, 2, 3, 4]},
    "bar_ibs_prev": [0, 0.8],
    "day_ibs": [0.1, 1],
    "bar_range_atr": [0.2, 4],
    "bar_ema20_above": {"in": [0]},
    "bar_pivot_state": [-1, 0],
    "bar_zone_dist_atr": [-3, 6],
    "day_ret1_pct": [-3, 2],
}


def minutes(rng, root, start, n_days):
    """Print minutes with holes, strays outside the calendar, and rolls anywhere; None when too few."""
    tick = CONTRACTS.get(root).tick_nano
    first = (start - date(1970, 1, 1)).days * DAY_NS
    grid = np.arange(first, first + n_days * DAY_NS, MINUTE_NS)
    noise = np.random.default_rng(rng.getrandbits(32))
    stray = outside(load_sessions(CONTRACTS.get(root).session, grid[0], grid[-1]), grid)
    keep = ~stray & (noise.random(len(grid)) < rng.choice([1, 0.9, 0.5, 0.15, 0.03]))
    for _ in range(rng.randint(0, 6)):
        hole = rng.randrange(len(grid))
        keep[hole : hole + rng.choice([5, 61, 200, 900])] = False
    if rng.random() < 0.35:
        keep |= stray & (noise.random(len(grid)) < rng.choice([0.002, 0.05, 0.5]))
    ts = grid[keep]
    n = len(ts)
    if n < 50:
        return None
    level = int(LEVELS[root] * 1e9) // tick
    width = max(1.0, level * rng.choice([0.0002, 0.0006, 0.001]))
    steps = np.rint(noise.normal(0, width, n)) * (noise.random(n) > 0.2)
    close = level + np.rint(np.cumsum(steps) * 0.5)
    open_ = np.roll(close, 1) + np.where(
        noise.random(n) < 0.05, np.rint(noise.normal(0, 3 * width, n)), 0
    )
    open_[0] = level
    high = np.maximum(open_, close) + np.rint(np.abs(noise.normal(0, width / 2, n)))
    low = np.minimum(open_, close) - np.rint(np.abs(noise.normal(0, width / 2, n)))
    cuts = sorted(rng.sample(range(1, n), rng.choice([0, 0, 1, 2, 4])))
    contract = np.searchsorted(cuts, np.arange(n), side="right")
    shift = np.rint(noise.normal(0, level * 0.01, len(cuts) + 1))[contract]
    codes = [f"{root}{'HMUZ'[i % 4]}{20 + i // 4}" for i in range(len(cuts) + 1)]
    prices = {"open": open_, "high": high, "low": low, "close": close}
    return pl.DataFrame(
        {
            "ts_event": pl.Series(ts).cast(pl.Datetime("ns", "UTC")),
            "symbol": [codes[i] for i in contract],
            **{name: (values + shift) * tick / 1e9 for name, values in prices.items()},
            "volume": np.ones(n, np.int64),
        }
    )


def distance(rng):
    form = rng.choice([None, "percent", "percent", "atr"])
    return form and {form: rng.choice([0.1, 0.3, 0.5, 1.0, 1.5])}


def strategy(rng, signal_bars):
    exits = {
        "stop": distance(rng),
        "target": distance(rng),
        "ibs": rng.choice([None, [0.8, 1.0]]),
        "bars": rng.choice([None, 1, 2, 8, 20]),
        "flat_by": rng.choice([None, None, "15:00", "12:00", "09:15", "20:00", "03:07"]),
        "flat_before_early_close": rng.random() < 0.7,
    }
    if rng.random() < 0.5:
        exits["protective"] = {"stop": distance(rng), "target": distance(rng)}
    windows = [[], [["00:00", "15:00"], ["17:00", "24:00"]], [["08:00", "14:00"]]]
    return {
        "signal_bar": rng.choice(signal_bars),
        "entry": {
            "ibs": [0, rng.choice([0.2, 0.5, 0.9])],
            "windows": rng.choice(windows),
            "pivots": rng.choice(["none", "none", "inside", "higher_high"]),
            "max_wait": rng.choice(["5m", "0m", "1m", "90m", "24h"]),
        },
        "exits": exits,
        "cooldown_bars": rng.choice([0, 0, 1, 3]),
        "filters": {
            name: FILTERS[name] for name in rng.sample(list(FILTERS), rng.choice([0, 0, 2]))
        },
    }


def world(seed):
    """Make bars by symbol, a configuration, and the dates traded."""
    rng = random.Random(seed)
    start, n_days = rng.choice(WEEKS), rng.choice([4, 8, 14])
    roots = rng.sample(list(LEVELS), rng.choice([1, 2, 3]))
    bars = {root: minutes(rng, root, start, n_days) for root in roots}
    bars = {root: frame for root, frame in bars.items() if frame is not None}
    widths = rng.choice([["1h"], ["15m", "1h", "4h"], ["1h", "1d"], ["5m", "30m"], ["1m", "1h"]])
    config = {"strategy": strategy(rng, widths), "symbols": {}, "risk": {}}
    for root in bars:
        own = {"quantity": rng.choice([1, 1, 3])}
        if rng.random() < 0.5:
            own["strategy"] = strategy(rng, widths)
        config["symbols"][root] = own
    for key, values in (
        ("daily_loss_usd", [100, 300, 1000]),
        ("max_positions", [1, 2]),
        ("max_quantity", [1, 2, 3]),
        ("max_total_quantity", [1, 2, 4]),
        ("max_orders_per_minute", [1, 2]),
        ("no_entry_before_close", ["0m", "30m", "120m"]),
    ):
        if rng.random() < 0.3:
            config["risk"][key] = rng.choice(values)
    dates = {}
    if rng.random() < 0.25:
        dates["start"] = start + timedelta(days=rng.randint(0, 3))
    if rng.random() < 0.25:
        dates["end"] = start + timedelta(days=rng.randint(3, 9))
    return bars, config, dates


def compare(seed, folder):
    """Return the differences of one world, None when its configuration is refused."""
    bars, config, dates = world(seed)
    paths = [folder / f"{root}.parquet" for root in bars]
    for path, frame in zip(paths, bars.values(), strict=True):
        frame.write_parquet(path)
    if not paths:
        return None
    try:
        engine, oracle = both(paths, folder, yaml.safe_dump(config), **dates)
    except ConfigError:
        return None  # a flat_by or a window that the symbol's session cannot serve
    found = differences(engine, oracle)
    capital_and_results = 100_000 + engine.trades["net_usd"].sum()
    still_open = sum(position["open_usd"] for position in engine.stats["open_positions"])
    total = engine.equity.filter(symbol="TOTAL")["equity_usd"]
    if len(total) and abs(total[-1] - capital_and_results - still_open) > 1e-4:
        found.append(f"equity ends at {total[-1]}, not at {capital_and_results + still_open}")
    return found


def test_forty_random_worlds_give_the_oracle_no_reason_to_differ(tmp_path):
    compared = 0
    for seed in range(40):
        found = compare(seed, tmp_path)
        assert not found, (seed, found)
        compared += found is not None
    assert compared > 25


@pytest.mark.soak
def test_a_thousand_random_worlds_give_the_oracle_no_reason_to_differ(tmp_path):
    for seed in range(40, 1040):
        found = compare(seed, tmp_path)
        assert not found, (seed, found)
