"""The laws that every kernel keeps: one suite over all of them.

Tolerance is for the oracle alone. Whatever else is compared is compared as bytes.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import naive
import numpy as np
import pytest
import worlds
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from worlds import KERNELS, Prices, bar_records, build, plan_of, run_features, run_kernel, walk

from ibs_core import portfolio, positions, replay, signals
from ibs_core.bars import BAR, MINUTE_NS, NEVER, PATH, SESSION, TIMEFRAMES_NS
from ibs_core.kernels import aggregate, atr, ema, features, ibs, pivots, ring, rsi, sma, wilder
from ibs_core.schedule import Rule, make_schedule

SEEDS = st.integers(0, 2**31)
TICKS = st.sampled_from([4, 100])  # quarters are exact in binary, cents are not
TIMEFRAMES = st.sampled_from(list(TIMEFRAMES_NS))
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
both_sides = pytest.mark.parametrize("on", ["bar", "day"])


def as_array(rows):
    """Turn an oracle's rows into numbers, NaN where it says nothing."""
    return np.array([[np.nan if x is None else x for x in row] for row in rows], np.float64)


def assert_close(found, expected):
    """Same gaps, and values within 1e-9 of the size of what is compared."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    scale = np.nanmax(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * min(scale, 1.0))


def n_bars_for(kernel):
    return kernel.warmup + 60


# ---------------------------------------------------------------- every kernel


@every_kernel
@settings(max_examples=12)
@given(seed=SEEDS, per_unit=TICKS, seams=st.integers(0, 3))
def test_a_kernel_equals_its_oracle_also_across_rolls(kernel, seed, per_unit, seams):
    prices = walk(seed, n_bars_for(kernel), per_unit=per_unit, seams=seams)
    found, _ = run_kernel(kernel, prices)
    assert_close(found, as_array(kernel.oracle(prices)))


@pytest.mark.parametrize("name", ["pivots", "ring"])
@settings(max_examples=12)
@given(seed=SEEDS, per_unit=TICKS, seams=st.integers(1, 3))
def test_a_remembered_level_is_exact_across_rolls(name, seed, per_unit, seams):
    prices = walk(seed, 120, per_unit=per_unit, seams=seams)
    found, _ = run_kernel(KERNEL[name], prices)
    np.testing.assert_array_equal(found, as_array(KERNEL[name].oracle(prices)))


@every_kernel
@pytest.mark.parametrize("start", [1e6, 1e-6, -37.0])
def test_a_kernel_equals_its_oracle_at_huge_tiny_and_negative_prices(kernel, start):
    per_unit = {1e6: 100, 1e-6: 10**9, -37.0: 100}[start]
    prices = walk(3, n_bars_for(kernel), per_unit=per_unit, start=start, seams=1)
    found, _ = run_kernel(kernel, prices)
    assert_close(found, as_array(kernel.oracle(prices)))


@every_kernel
@settings(max_examples=12)
@given(seed=SEEDS, per_unit=TICKS, data=st.data())
def test_a_kernel_survives_a_snapshot_at_any_bars(kernel, seed, per_unit, data):
    prices = walk(seed, n_bars_for(kernel), per_unit=per_unit, seams=2)
    cuts = data.draw(st.sets(st.integers(0, len(prices.ticks) - 1), max_size=5))
    whole, state = run_kernel(kernel, prices)
    cut, resumed = run_kernel(kernel, prices, cuts=cuts)
    assert whole.tobytes() == cut.tobytes()
    assert state.tobytes() == resumed.tobytes()


@every_kernel
@settings(max_examples=12)
@given(seed=SEEDS, data=st.data())
def test_later_bars_never_change_a_kernels_earlier_outputs(kernel, seed, data):
    prices = walk(seed, n_bars_for(kernel), seams=2)
    k = data.draw(st.integers(1, len(prices.ticks) - 1))
    other = walk(seed + 1, len(prices.ticks))
    mixed = Prices(
        np.concatenate([prices.ticks[:k], other.ticks[k:]]),
        prices.per_unit,
        tuple(s for s in prices.seams if s < k),
    )
    assert run_kernel(kernel, mixed)[0][:k].tobytes() == run_kernel(kernel, prices)[0][:k].tobytes()


@every_kernel
def test_a_kernels_first_value_comes_exactly_at_the_end_of_its_warm_up(kernel):
    prices = walk(1, n_bars_for(kernel))
    if kernel.name == "pivots":  # the sixth bar is above and below all its neighbours
        prices.ticks[5] += np.array([0, 500, -500, 0])
    found = run_kernel(kernel, prices)[0][:, 0]
    assert np.isnan(found[: kernel.warmup - 1]).all()
    assert not np.isnan(found[kernel.warmup - 1])


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.any_start], ids=lambda k: k.name)
@settings(max_examples=10)
@given(seed=SEEDS, per_unit=TICKS, start=st.integers(1, 300))
def test_a_kernel_that_starts_later_gives_the_same_bits_once_converged(
    kernel, seed, per_unit, start
):
    prices = walk(seed, start + kernel.any_start + 40, per_unit=per_unit)
    whole, _ = run_kernel(kernel, prices)
    late, _ = run_kernel(kernel, prices.since(start))
    skip = kernel.any_start - 1
    assert whole[start + skip :].tobytes() == late[skip:].tobytes()


@settings(max_examples=15)
@given(seed=SEEDS, start=st.integers(1, 100), seams=st.integers(0, 2))
def test_pivots_that_are_known_are_the_same_from_any_start(seed, start, seams):
    prices = walk(seed, start + 120, seams=seams)
    whole, _ = run_kernel(KERNEL["pivots"], prices)
    late, _ = run_kernel(KERNEL["pivots"], prices.since(start))
    # A later start forgets the levels before it; what it knows, both know.
    known = ~np.isnan(late)
    if start not in prices.seams:
        assert np.array_equal(whole[start:][known], late[known])
    assert known[-1, 0]
    assert known[-1, 2]


@every_kernel
def test_a_kernel_reads_its_bars_and_writes_only_its_state(kernel):
    prices = walk(2, 40, seams=1)
    values = prices.values
    before = values.tobytes()
    state, other = np.zeros((2, 1), kernel.dtype)
    for bar in values:
        kernel.step(state[0], bar)
    assert values.tobytes() == before
    assert not any(other.tobytes())


KERNEL = {kernel.name: kernel for kernel in KERNELS}


def fields_of(dtype):
    """List the plain fields of a dtype as (offset, size), nested ones opened."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        found = list(fields_of(base))
        for k in range(int(np.prod(shape))):
            yield from ((k * base.itemsize + at, kind) for at, kind in found)
    elif dtype.fields:
        for name in dtype.names:
            inner, at = dtype.fields[name][:2]
            yield from ((at + offset, kind) for offset, kind in fields_of(inner))
    else:
        yield 0, dtype


RECORDS = {
    **{kernel.name: kernel.dtype for kernel in KERNELS},
    "bar": BAR,
    "minute": PATH,
    "plan": aggregate.PLAN,
    "aggregate": aggregate.STATE,
    "calendar": features.CALENDAR,
    "features": features.STATE,
    "params": signals.PARAMS,
    "schedule": signals.SCHEDULE,
    "signal": signals.SIGNAL,
    "position": positions.POSITION,
    "trade": positions.TRADE,
    "risk": portfolio.RISK,
    "desk": portfolio.DESK,
    "slice": portfolio.SLICE,
    "decision": portfolio.DECISION,
    "feed": replay.FEED,
    "session": SESSION,
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_fields_of_eight_bytes_without_padding(name):
    found = sorted(fields_of(RECORDS[name]), key=lambda field: field[0])
    assert [at for at, _ in found] == list(range(0, RECORDS[name].itemsize, 8))
    assert {kind.str for _, kind in found} <= {"<i8", "<f8"}


# ---------------------------------------------------------------- documented edges


@settings(max_examples=200)
@given(
    ticks=st.tuples(*[st.integers(-(10**7), 10**7)] * 3),
    move=st.integers(-(10**6), 10**6),
    per_unit=st.sampled_from([4, 8, 100, 1000, 10**6]),
    times=st.integers(1, 9),
)
def test_ibs_lies_in_0_1_and_ignores_shift_and_scale(ticks, move, per_unit, times):
    low, close, high = sorted(ticks)
    expected = (close - low) / (high - low) if high > low else 0.5  # whole numbers: rounded once
    assert 0.0 <= expected <= 1.0
    for a, b in ((1, 0), (1, move), (times, 0)):
        prices = [(a * tick + b) / per_unit for tick in (high, low, close)]
        if max(map(abs, prices)) < 4e6:  # up to here a float tells 1e-9 units apart
            assert ibs.value(*prices) == expected


@settings(max_examples=100)
@given(st.tuples(*[st.floats(allow_nan=True, allow_infinity=False, width=32)] * 3))
def test_ibs_of_any_numbers_is_in_0_1_and_of_any_nan_is_nan(prices):
    strength = ibs.value(*prices)
    if any(np.isnan(prices)):
        assert np.isnan(strength)
    else:
        assert 0.0 <= strength <= 1.0


def test_ibs_without_a_range_or_with_crossed_prices_is_one_half():
    assert ibs.value(10.0, 10.0, 10.0) == 0.5
    assert ibs.value(9.0, 10.0, 9.5) == 0.5


def test_ibs_of_a_close_outside_the_bar_is_clipped():
    assert ibs.value(11.0, 10.0, 12.0) == 1.0
    assert ibs.value(11.0, 10.0, 9.0) == 0.0


def closes(*values):
    ticks = np.repeat(np.array(values)[:, None], 4, axis=1)
    return Prices(ticks, 4)


@pytest.mark.parametrize("n", [2, 5, 14])
def test_rsi_is_100_without_losses_0_without_gains_and_50_without_movement(n):
    kernel = KERNEL[f"rsi{n}"]
    for step, expected in ((1, 100.0), (-1, 0.0), (0, 50.0)):
        found, _ = run_kernel(kernel, closes(*(4000 + step * np.arange(n + 20))))
        assert (found[n:] == expected).all()


def test_a_flat_market_has_no_range_no_pivots_and_no_range_ratio():
    flat = closes(*[4000] * 60)
    assert (run_kernel(KERNEL["atr14"], flat)[0][14:] == 0.0).all()
    assert np.isnan(run_kernel(KERNEL["pivots"], flat)[0]).all()
    found, _ = run_features(flat)
    for name in ("range_atr", "zone_dist_atr", "pivot_state", "pivot_hh"):
        assert np.isnan(found[:, features.INDEX[f"bar_{name}"]]).all()


def test_of_equal_highs_the_first_is_the_pivot():
    prices = closes(*[4000] * 30)
    prices.ticks[[8, 10], 1] = 4010
    prices.ticks[[8, 10], 2] = 3990
    found, state = run_kernel(KERNEL["pivots"], prices)
    assert np.isnan(found[:13, 0]).all()
    assert found[13, 0] == 1002.5
    assert found[13, 2] == 997.5
    assert state[0]["n_highs"] == state[0]["n_lows"] == 1


def test_a_return_from_a_price_that_is_not_positive_is_missing():
    prices = closes(8, 4, 0, 4, -4, -8, 4, 8)
    returns = run_features(prices)[0][:, features.INDEX["bar_ret1_pct"]]
    expected = [np.nan, -50.0, -100.0, np.nan, -200.0, np.nan, np.nan, 100.0]
    np.testing.assert_array_equal(returns, expected)


def test_a_nan_leaves_the_simple_average_with_its_window_and_never_leaves_the_exponential():
    for name, recovers in (("sma5", True), ("ema8", False)):
        kernel = KERNEL[name]
        state = np.zeros(1, kernel.dtype)[0]
        values = [1.0] * 20 + [np.nan] + [1.0] * 20
        out = [kernel.step(state, (x, x, x, x))[0] for x in values]
        assert np.isnan(out[20])
        assert np.isnan(out[-1]) != recovers


def test_the_ring_remembers_its_capacity_and_forgets_beyond():
    state = np.zeros(1, ring.STATE)[0]
    values = np.random.default_rng(0).integers(0, 9999, 3 * ring.CAPACITY + 7) / 100
    for i, value in enumerate(values):
        ring.push(state, value)
        kept = min(i + 1, ring.CAPACITY)
        assert ring.back(state, 0) == value
        assert ring.back(state, kept - 1) == values[i + 1 - kept]
    ring.shift(state, 0.07)
    newest_first = [ring.back(state, age) for age in range(ring.CAPACITY)]
    assert newest_first == [naive.moved(float(x), 0.07) for x in values[: -ring.CAPACITY - 1 : -1]]


def test_a_simple_average_over_the_whole_ring_is_right_past_its_seam():
    state = np.zeros(1, sma.STATE)[0]
    values = (np.random.default_rng(0).integers(0, 9999, 2 * ring.CAPACITY + 9) / 100).tolist()
    found = [sma.step(state, x, ring.CAPACITY) for x in values]
    assert_close(np.array([found]), as_array([naive.sma(values, ring.CAPACITY)]))


@settings(max_examples=100)
@given(st.integers(-(10**8), 10**8), st.integers(-(10**6), 10**6), st.sampled_from([4, 100, 10**4]))
def test_a_moved_level_is_the_float_that_its_decimal_stands_for(ticks, gap, per_unit):
    moved = ring.canonical(ticks / per_unit + gap / per_unit)
    assert moved == (ticks + gap) / per_unit


# ---------------------------------------------------------------- features


def naive_features(prices):
    """Work out the own features of every bar from the oracles; `doubt` marks ties in a comparison."""
    open_, high, low, close = worlds._columns(prices)
    gaps = prices.gaps
    n = len(close)
    strength = naive.ibs(high, low, close)
    ranges = naive.wilder_atr(high, low, close, 14, gaps, open_)
    swings = naive.pivots(high, low, gaps)
    averages = [
        *(naive.ema(close, k, gaps) for k in (8, 20, 50, 200)),
        naive.sma(close, 200, gaps),
    ]
    columns = [
        strength,
        [None, *strength[:-1]],
        naive.return_pct(close, gaps, open_),
        *(naive.wilder_rsi(close, k, gaps, open_) for k in (2, 5, 14)),
        [(h - lo) / r if r else None for h, lo, r in zip(high, low, ranges, strict=True)],
    ]
    doubt = np.zeros((n, features.N_OWN), bool)
    for average in averages:
        columns.append(
            [None if a is None else float(c > a) for c, a in zip(close, average, strict=True)]
        )
        near = [
            a is not None and abs(c - a) < 1e-9 * abs(c)
            for c, a in zip(close, average, strict=True)
        ]
        doubt[:, len(columns) - 1] = near
    state, rising, distance = [], [], []
    for i, (last_high, older_high, last_low, _) in enumerate(swings):
        known = last_high is not None and last_low is not None
        state.append(float((close[i] > last_high) - (close[i] < last_low)) if known else None)
        both = older_high is not None
        rising.append(float(older_high < last_high < high[i]) if both else None)
        far = last_low is not None and ranges[i]
        distance.append((close[i] - last_low) / ranges[i] if far else None)
    columns += [state, rising, distance]
    return as_array(zip(*columns, strict=True)), doubt


@both_sides
@settings(max_examples=12)
@given(seed=SEEDS, per_unit=TICKS, seams=st.integers(0, 3))
def test_features_equal_their_oracles_also_across_rolls(on, seed, per_unit, seams):
    prices = walk(seed, 240, per_unit=per_unit, seams=seams)
    found, _ = run_features(prices, on=on)
    expected, doubt = naive_features(prices)
    assert_close(np.where(doubt, 0.0, found), np.where(doubt, 0.0, expected))


@both_sides
@settings(max_examples=12)
@given(seed=SEEDS, data=st.data())
def test_features_survive_a_snapshot_and_ignore_later_bars(on, seed, data):
    prices = walk(seed, 240, per_unit=100, seams=2)
    cuts = data.draw(st.sets(st.integers(0, 239), max_size=5))
    whole, state = run_features(prices, on=on)
    cut, resumed = run_features(prices, on=on, cuts=cuts)
    assert whole.tobytes() == cut.tobytes()
    assert state.tobytes() == resumed.tobytes()
    k = data.draw(st.integers(1, 239))
    short = Prices(prices.ticks[:k], 100, tuple(s for s in prices.seams if s < k))
    assert run_features(short, on=on)[0].tobytes() == whole[:k].tobytes()


def generic_bars():
    """Bars on which every feature has its first value as early as it can.

    The sixth bar is a pivot high and a pivot low at once, the twelfth the next ones.
    """
    prices = walk(4, 260)
    prices.ticks[5] += np.array([0, 400, -400, 0])
    prices.ticks[11] += np.array([0, 800, -800, 0])
    return prices


SECOND_PIVOT = 6  # bars from one pivot high to the next, at the least


@pytest.mark.parametrize("feature", features.REGISTRY, ids=lambda feature: feature.name)
def test_a_feature_has_its_first_value_exactly_after_its_warm_up(feature):
    # For pivot features the registry says from when a value is possible; when it comes is up to the
    # prices. Two pivot highs lie at least six bars apart, so `pivot_hh` never comes before bar 17.
    prices = generic_bars()
    bars = bar_records(prices)
    row = np.empty(features.N_FEATURES)
    state, calendar = np.zeros(1, features.STATE), np.zeros(1, features.CALENDAR)
    needs = np.ones(features.N_FEATURES, np.int64)
    found = []
    for bar in bars:
        features.observe_day(needs, state[0], bar)
        features.observe(needs, state[0], bar, calendar[0], row)
        found.append(row[features.INDEX[feature.name]])
    first = int(np.flatnonzero(~np.isnan(found))[0]) + 1
    later = SECOND_PIVOT if feature.name.endswith("pivot_hh") else 0
    assert first == feature.warmup + later


@settings(max_examples=15)
@given(seed=SEEDS)
def test_no_pivot_feature_comes_before_its_warm_up(seed):
    found, _ = run_features(walk(seed, 60))
    for i in range(features.N_OWN):
        assert np.isnan(found[: features.REGISTRY[i].warmup - 1, i]).all()


@settings(max_examples=12)
@given(seed=SEEDS, seam=st.integers(3, 230), gap=st.integers(-400, 400))
def test_a_roll_is_as_if_the_old_contract_had_always_stood_at_the_new_level(seed, seam, gap):
    level = walk(seed, 240)
    level.ticks[seam, 0] = level.ticks[
        seam - 1, 3
    ]  # the new contract opens where the old one closed
    level.ticks[:, 1] = level.ticks.max(axis=1)
    level.ticks[:, 2] = level.ticks.min(axis=1)
    assume(gap != 0)
    ticks = level.ticks.copy()
    ticks[:seam] -= gap
    rolled = Prices(ticks, level.per_unit, (seam,))
    found, state = run_features(rolled)
    expected, unrolled = run_features(level)
    assert_close(found[seam:], expected[seam:])
    assert state["bar"]["pivots"].tobytes() == unrolled["bar"]["pivots"].tobytes()


@settings(max_examples=12)
@given(seed=SEEDS, per_unit=TICKS)
def test_return_and_true_range_of_a_new_contract_start_from_its_own_open(seed, per_unit):
    prices = walk(seed, 60, per_unit=per_unit, seams=1)
    (seam,) = prices.seams
    found, _ = run_features(prices)
    values = prices.values
    assert found[seam, 2] == 100.0 * (values[seam, 3] / values[seam, 0] - 1.0)
    state = np.zeros(1, atr.STATE)[0]
    atr.step(state, *values[seam - 1, 1:], 1)
    atr.reseat(state, values[seam, 0])
    assert atr.step(state, *values[seam, 1:], 1) == values[seam, 1] - values[seam, 2]


@both_sides
@settings(max_examples=8)
@given(seed=SEEDS, data=st.data())
def test_a_feature_is_the_same_whatever_else_is_asked_for(on, seed, data):
    prices = walk(seed, 240, seams=1)
    asked = data.draw(st.sets(st.integers(0, features.N_OWN - 1), min_size=1))
    needs = np.zeros(features.N_FEATURES, np.int64)
    needs[[i + (features.N_OWN if on == "day" else 0) for i in asked]] = 1
    some, all_ = run_features(prices, needs=needs, on=on)[0], run_features(prices, on=on)[0]
    for i in asked:
        assert some[:, i].tobytes() == all_[:, i].tobytes()


def test_observing_writes_neither_the_bar_nor_the_calendar_nor_the_needs():
    bars = bar_records(walk(2, 30, seams=1))
    needs, calendar = np.ones(features.N_FEATURES, np.int64), np.ones(1, features.CALENDAR)
    before = [part.tobytes() for part in (bars, needs, calendar)]
    state = np.zeros(1, features.STATE)
    for bar in bars:
        features.observe_day(needs, state[0], bar)
        features.observe(needs, state[0], bar, calendar[0], np.empty(features.N_FEATURES))
    assert [part.tobytes() for part in (bars, needs, calendar)] == before


@settings(max_examples=60)
@given(minute=st.integers(0, 1439), day=st.dates(date(2010, 1, 1), date(2030, 12, 31)))
def test_calendar_features_say_what_the_registry_says(minute, day):
    calendar = np.zeros(1, features.CALENDAR)
    calendar[0] = (minute, day.isoweekday(), day.month, day.day)
    row = np.empty(features.N_FEATURES)
    needs = np.ones(features.N_FEATURES, np.int64)
    bar = bar_records(walk(1, 1))[0]
    features.observe(needs, np.zeros(1, features.STATE)[0], bar, calendar[0], row)
    hour = minute / 60
    part = 1 if hour < 8 else 2 if hour < 15 else 4 if hour < 17 else 3
    turn = 1 if 8 <= hour < 9 else 2 if 14 <= hour < 15 else 0
    start = [
        day.isoweekday(),
        day.month,
        day.day > 25,
        day.isoweekday() in {1, 2},
        day.day % 2 == 0,
    ]
    assert row[-7:].tolist() == [*start, part, turn]


# ---------------------------------------------------------------- minutes to bars

SESSIONS = worlds.draw_sessions()
TABLE = worlds.session_table(SESSIONS)


def naive_bars(minutes, tf_ns, built, *, late=True):
    """Ask the oracle for closed bars (start, end, prices, session)."""
    rows, sessions = minutes.rows(), worlds.naive_sessions(SESSIONS)
    seams = naive.find_seams(rows, sessions)
    base = int(built.state[0]["base_ns"])
    bars = naive.aggregate(rows, sessions, tf_ns, seams, base, late=late)
    return bars, naive.gaps_of(bars, seams)


def as_rows(bars):
    names = ("start_ns", "end_ns", "open", "high", "low", "close", "session")
    return [tuple(row) for row in bars[list(names)].tolist()]


drawn = {
    "seed": SEEDS,
    "tf": TIMEFRAMES,
    "density": st.sampled_from([0.004, 0.05, 0.5]),
    "seams": st.integers(0, 3),
    "late": st.integers(0, 8),
}


def draw(seed, density, seams, late, per_unit=100):
    """Draw minutes that end anywhere, often outside the calendar."""
    minutes = worlds.draw_minutes(
        seed, SESSIONS, density=density, seams=seams, late=late, per_unit=per_unit
    ).part(0, 900)
    rng = np.random.default_rng(seed)
    stop = int(rng.integers(3, len(minutes.ts) + 1))
    last_open = np.searchsorted(SESSIONS.open_ns, minutes.ts, side="right") - 1
    outside = np.flatnonzero(minutes.ts >= SESSIONS.close_ns[last_open])
    if seed % 3 == 0 and len(outside):
        stop = int(rng.choice(outside)) + 1
    return minutes.part(0, len(minutes.ts) if seed % 3 == 1 else stop)


@settings(max_examples=50)
@given(**drawn)
def test_bars_and_session_bars_equal_the_oracle(seed, tf, density, seams, late):
    minutes = draw(seed, density, seams, late)
    tf_ns = TIMEFRAMES_NS[tf]
    built = build(minutes, SESSIONS, plan_of(tf_ns))
    expected, gaps = naive_bars(minutes, tf_ns, built)
    assert as_rows(built.bars) == [
        (b.start, b.end, b.open, b.high, b.low, b.close, b.session) for b in expected
    ]
    assert bool(built.complete) == expected[-1].closed
    assert [bar.closed for bar in expected[:-1]] == [True] * (len(expected) - 1)
    assert built.bars["gap"].tolist() == [0.0 if gap is None else float(gap) for gap in gaps]
    assert (built.bars["seam_ns"] > 0).tolist() == [gap is not None for gap in gaps]
    days, gaps = naive_bars(minutes, naive.MINUTE * 1440, built, late=False)
    closed = [day for day in days if day.closed]
    assert as_rows(built.days) == [
        (d.start, d.end, d.open, d.high, d.low, d.close, d.session) for d in closed
    ]
    kept = [float(gap or 0) for gap, day in zip(gaps, days, strict=True) if day.closed]
    assert built.days["gap"].tolist() == kept


@settings(max_examples=30)
@given(**drawn)
def test_a_bar_counts_its_minutes_its_volume_and_those_outside(seed, tf, density, seams, late):
    minutes = draw(seed, density, seams, late)
    built = build(minutes, SESSIONS, plan_of(TIMEFRAMES_NS[tf]))
    at = np.searchsorted(built.bars["first_ns"], minutes.ts, side="right") - 1
    assert np.array_equal(built.bars["n_minutes"], np.bincount(at))
    assert np.array_equal(built.bars["volume"], np.bincount(at, weights=minutes.volume))
    assert np.array_equal(
        built.bars["last_ns"], [minutes.ts[at == i][-1] for i in range(at[-1] + 1)]
    )
    assert np.array_equal(built.bars["contract"][at], minutes.contract)
    assert (minutes.ts >= built.bars["start_ns"][at]).all()
    assert (minutes.ts < built.bars["end_ns"][at]).all()
    assert (built.bars["end_ns"][:-1] <= built.bars["start_ns"][1:]).all()
    state = built.state[0]
    last_open = np.searchsorted(SESSIONS.open_ns, minutes.ts, side="right") - 1
    assert state["n_minutes"] == len(minutes.ts)
    assert state["n_outside"] == (minutes.ts >= SESSIONS.close_ns[last_open]).sum()


@settings(max_examples=30)
@given(**drawn, mark=st.sampled_from([0, 1, 5, 60]), with_path=st.booleans())
def test_the_path_keeps_new_extremes_and_the_minutes_on_both_sides_of_a_mark(
    seed, tf, density, seams, late, mark, with_path
):
    minutes = draw(seed, density, seams, late)
    plan = plan_of(TIMEFRAMES_NS[tf], with_path=with_path, mark_ns=mark * MINUTE_NS)
    built = build(minutes, SESSIONS, plan)
    span, rows, expected = max(mark, 1) * MINUTE_NS, minutes.rows(), []
    bar_of = (np.searchsorted(built.bars["first_ns"], minutes.ts, side="right") - 1).tolist()
    highest, lowest = {}, {}
    for i, (ts, contract, open_, high, low, close) in enumerate(rows):
        top, bottom = highest.get(bar_of[i], -np.inf), lowest.get(bar_of[i], np.inf)
        beside = [rows[k] for k in (i - 1, i + 1) if 0 <= k < len(rows) and rows[k][1] == contract]
        marked = mark and any(other[0] // span != ts // span for other in beside)
        if (with_path and (high > top or low < bottom)) or marked:
            expected.append((ts, open_, high, low, close))
        highest[bar_of[i]], lowest[bar_of[i]] = max(top, high), min(bottom, low)
    assert built.path.tolist() == expected
    in_bar = np.searchsorted(built.bars["first_ns"], built.path["ts_ns"], side="right") - 1
    counts = (
        np.bincount(in_bar, minlength=len(built.bars)) if len(in_bar) else np.zeros(len(built.bars))
    )
    assert np.array_equal(built.bars["path_stop"], np.cumsum(counts))
    assert np.array_equal(built.bars["path_start"], built.bars["path_stop"] - counts)


@settings(max_examples=30)
@given(**drawn, data=st.data())
def test_minutes_give_the_same_bars_in_any_chunks(seed, tf, density, seams, late, data):
    minutes = draw(seed, density, seams, late)
    n = len(minutes.ts)
    plan = plan_of(TIMEFRAMES_NS[tf], with_path=True, mark_ns=5 * MINUTE_NS)
    volume = data.draw(st.booleans())
    whole = build(minutes, SESSIONS, plan, volume=volume)
    cuts = data.draw(st.sets(st.integers(0, n - 1), max_size=8))
    assert worlds.same(whole, build(minutes, SESSIONS, plan, cuts=cuts, volume=volume))
    assert np.isnan(whole.bars["volume"]).all() == (not volume)


@settings(max_examples=6)
@given(**drawn)
def test_minutes_give_the_same_bars_one_by_one(seed, tf, density, seams, late):
    minutes = draw(seed, density, seams, late)
    plan = plan_of(TIMEFRAMES_NS[tf], with_path=True, mark_ns=5 * MINUTE_NS)
    one_by_one = build(minutes, SESSIONS, plan, cuts=range(len(minutes.ts)))
    assert worlds.same(build(minutes, SESSIONS, plan), one_by_one)


@settings(max_examples=30)
@given(**drawn, data=st.data())
def test_later_minutes_never_change_a_closed_bar(seed, tf, density, seams, late, data):
    minutes = draw(seed, density, seams, late)
    plan = plan_of(TIMEFRAMES_NS[tf], with_path=True, mark_ns=5 * MINUTE_NS)
    k = data.draw(st.integers(1, len(minutes.ts)))
    whole = build(minutes, SESSIONS, plan)
    short = build(minutes.part(0, k), SESSIONS, plan, end=False)
    for part in range(3):
        assert short[part].tobytes() == whole[part][: len(short[part])].tobytes()
    known_by = short.bars["end_ns"][-1] if len(short.bars) else 0
    assert (whole.bars["end_ns"][len(short.bars) :] > known_by).all()


@settings(max_examples=40)
@given(**drawn)
def test_a_session_bar_is_handed_over_no_later_than_the_first_signal_bar_that_ends_after_it(
    seed, tf, density, seams, late
):
    # Live sees what has been handed over, a back-test whatever has ended: they must be the same.
    minutes = draw(seed, density, seams, late)
    plan = plan_of(TIMEFRAMES_NS[tf])
    whole = build(minutes, SESSIONS, plan)
    state = aggregate.new_state()
    bars, days, path, n = (
        np.zeros(9, BAR),
        np.zeros(9, BAR),
        np.zeros(9, PATH),
        np.zeros(3, np.int64),
    )
    n_days = 0
    for i in range(len(minutes.ts)):
        n[:] = 0
        one = minutes.part(i, i + 1)
        if i == 0 or minutes.contract[i] != minutes.contract[i - 1]:
            first = (int(one.contract[0]), int(one.ts[0]), float(one.open[0]))
            aggregate.switch_contract(state[0], TABLE, *first, bars, days, n)
        aggregate.step(
            *(state[0], plan[0], TABLE),
            *(one.ts, one.open, one.high, one.low, one.close, one.volume, bars, days, path, n),
        )
        n_days += int(n[1])
        for bar in bars[: n[0]]:
            assert n_days >= (whole.days["end_ns"] <= bar["end_ns"]).sum()


IRREGULAR = {
    "a duplicate": lambda m, i: m.ts.__setitem__(i, m.ts[i - 1]),
    "a step back": lambda m, i: m.ts.__setitem__(i, m.ts[i - 1] - MINUTE_NS),
    "nan open": lambda m, i: m.open.__setitem__(i, np.nan),
    "nan high": lambda m, i: m.high.__setitem__(i, np.nan),
    "nan low": lambda m, i: m.low.__setitem__(i, np.nan),
    "nan close": lambda m, i: m.close.__setitem__(i, np.nan),
    "infinite high": lambda m, i: m.high.__setitem__(i, np.inf),
    "infinite low": lambda m, i: m.low.__setitem__(i, -np.inf),
    "crossed": lambda m, i: (
        m.high.__setitem__(i, m.low[i] - 1.0),
        m.open.__setitem__(i, m.low[i]),
        m.close.__setitem__(i, m.low[i]),
    ),
    "open above": lambda m, i: m.open.__setitem__(i, m.high[i] + 0.01),
    "open below": lambda m, i: m.open.__setitem__(i, m.low[i] - 0.01),
    "close above": lambda m, i: m.close.__setitem__(i, m.high[i] + 0.01),
    "close below": lambda m, i: m.close.__setitem__(i, m.low[i] - 0.01),
    "zero": lambda m, i: m.low.__setitem__(i, 0.0),
    "negative": lambda m, i: m.low.__setitem__(i, -3.0),
}
FINE_WHEN_ALLOWED = {"zero", "negative"}


def step_all(minutes, plan, state=None):
    state = aggregate.new_state() if state is None else state
    bars, days, path = np.zeros(400, BAR), np.zeros(400, BAR), np.zeros(800, PATH)
    n = np.zeros(3, np.int64)
    answer = aggregate.step(
        *(state[0], plan[0], TABLE),
        *(minutes.ts, minutes.open, minutes.high, minutes.low, minutes.close, minutes.volume),
        *(bars, days, path, n),
    )
    return answer, (bars, days, path, n, state)


@pytest.mark.parametrize("allowed", [False, True], ids=["positive only", "any sign"])
@pytest.mark.parametrize("fault", IRREGULAR)
def test_an_irregular_minute_is_reported_and_nothing_from_it_on_is_taken(fault, allowed):
    plan = plan_of(15 * MINUTE_NS, with_path=True, mark_ns=300 * 10**9, allow_nonpositive=allowed)
    for at in (1, 57, 199):
        minutes = draw(2, 0.3, 0, 0).part(0, 200)
        IRREGULAR[fault](minutes, at)
        answer, taken = step_all(minutes, plan)
        if allowed and fault in FINE_WHEN_ALLOWED:
            assert answer == -1
            continue
        assert answer == at
        answer, expected = step_all(minutes.part(0, at), plan)
        assert answer == -1
        assert worlds.same(taken, expected)


def test_a_bar_of_only_zero_and_negative_prices_is_fine_when_allowed():
    minutes = worlds.draw_minutes(1, SESSIONS, late=0)
    below = minutes._replace(
        **{k: getattr(minutes, k) - 5000.0 for k in ("open", "high", "low", "close")}
    )
    assert step_all(below, plan_of(3600 * 10**9, allow_nonpositive=True))[0] == -1
    assert step_all(below, plan_of(3600 * 10**9))[0] >= 0


def test_aggregating_writes_neither_minutes_nor_sessions():
    minutes = draw(3, 0.2, 0, 3)
    before = [part.tobytes() for part in (*minutes, TABLE)]
    step_all(minutes, plan_of(3600 * 10**9, with_path=True))
    assert [part.tobytes() for part in (*minutes, TABLE)] == before


# ---------------------------------------------------------------- bars to signals


def observed(params, built, schedule, *, cuts=(), state=None):
    """Observe bars in chunks, each with the session bars that have ended by its end."""
    state = signals.new_state() if state is None else state
    bars, days = built.bars, built.days
    signal = np.zeros(len(bars), signals.SIGNAL)
    rows = []
    seen = 0
    for start, stop in itertools.pairwise(sorted({0, *cuts, len(bars)})):
        state = worlds.snapshot(state)
        ended = int((days["end_ns"] <= bars["end_ns"][stop - 1]).sum())
        room = np.zeros((stop - start, features.N_FEATURES))
        count = signals.observe_many(
            *(params[0], state[0], bars[start:stop], days[seen:ended]),
            *(schedule[start:stop], signal[start:stop], room),
        )
        rows.append(room[:count])
        seen = ended
    return signal, np.concatenate(rows), state


def draw_rule(seed):
    """Draw a rule with filters, windows and pivots, and lay it over drawn bars."""
    rng = np.random.default_rng(seed)
    params = worlds.draw_params(rng)
    row = params[0]
    row["needs"] = rng.integers(0, 2, features.N_FEATURES)
    row["pivots"] = rng.integers(0, 3)
    row["needs_atr"] = rng.integers(0, 2)
    if row["pivots"]:
        row["needs"][features.INDEX["bar_pivot_hh"]] = 1
    if row["needs_atr"]:
        row["needs"][features.INDEX["bar_range_atr"]] = 1
    row["n_filters"] = 2
    for rule, name in zip(row["filters"], ("bar_rsi2", "day_ibs"), strict=False):
        rule["feature"], rule["low"], rule["high"] = (
            features.INDEX[name],
            0.0,
            rng.choice([0.8, 90.0]),
        )
        row["needs"][rule["feature"]] = 1
    row["n_windows"] = rng.integers(0, 2)
    row["windows"][0] = (8 * 60, 14 * 60)
    tf_ns = int(rng.choice([15, 60, 240])) * MINUTE_NS
    minutes = draw(3 * seed + 1, 0.05, int(rng.integers(0, 3)), 4)  # all of them
    built = build(minutes, SESSIONS, plan_of(tf_ns))
    if not built.complete:
        built = built._replace(bars=built.bars[:-1])
    seams = built.bars["seam_ns"][built.bars["seam_ns"] > 0]
    rule = Rule(tf_ns, 120 * 10**9, 840, True, -NEVER, NEVER)
    return params, built, make_schedule(built.bars, SESSIONS, rule, seams)


@settings(max_examples=30)
@given(seed=SEEDS, data=st.data())
def test_bars_are_observed_alike_in_any_chunks_and_across_snapshots(seed, data):
    params, built, schedule = draw_rule(seed)
    n = len(built.bars)
    whole = observed(params, built, schedule)
    cuts = data.draw(st.sets(st.integers(1, n - 1), max_size=8))
    assert worlds.same(whole, observed(params, built, schedule, cuts=cuts))
    assert worlds.same(whole, observed(params, built, schedule, cuts=range(n)))


@settings(max_examples=20)
@given(seed=SEEDS, data=st.data())
def test_later_bars_never_change_a_signal(seed, data):
    params, built, schedule = draw_rule(seed)
    k = data.draw(st.integers(1, len(built.bars)))
    whole, _, _ = observed(params, built, schedule)
    short, _, _ = observed(params, built._replace(bars=built.bars[:k]), schedule[:k])
    assert short.tobytes() == whole[:k].tobytes()


@settings(max_examples=20)
@given(seed=SEEDS)
def test_a_daily_value_is_that_of_the_last_session_that_ended_by_the_decision(seed):
    params, built, schedule = draw_rule(seed)
    params["needs"] = 1
    params["n_filters"] = params["n_windows"] = params["pivots"] = params["needs_atr"] = 0
    params["ibs_high"] = 1.0
    for name in ("in_flat_by", "in_early_close", "in_roll"):
        schedule[name] = 0
    _, rows, _ = observed(params, built, schedule)
    assert len(rows) == len(built.bars)
    state = np.zeros(1, features.STATE)
    values = []
    for day in built.days:
        features.observe_day(params[0]["needs"], state[0], day)
        values.append(state[0]["day"]["values"].copy())
    missing = np.full(features.N_OWN, np.nan)
    for bar, row in zip(built.bars, rows, strict=True):
        ended = int((built.days["end_ns"] <= bar["end_ns"]).sum())
        expected = values[ended - 1] if ended else missing
        assert row[features.N_OWN : 2 * features.N_OWN].tobytes() == expected.tobytes()


@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_first_gate_that_fails_is_the_one_that_the_rules_name(seed):
    params, built, schedule = draw_rule(seed)
    signal, _, _ = observed(params, built, schedule)
    rule = params[0]
    asked = params.copy()
    asked["needs"] = 1
    asked["n_filters"] = asked["n_windows"] = asked["pivots"] = asked["needs_atr"] = 0
    asked["ibs_low"], asked["ibs_high"] = 0.0, 1.0
    open_ = schedule.copy()
    for name in ("in_flat_by", "in_early_close", "in_roll"):
        open_[name] = 0
    _, rows, _ = observed(asked, built, open_)
    seams = naive_gaps(built)
    highs, lows = built.bars["high"].tolist(), built.bars["low"].tolist()
    swings = naive.pivots(highs, lows, seams)
    chicago = ZoneInfo("America/Chicago")
    for i, (bar, row, laid) in enumerate(zip(built.bars, rows, schedule, strict=True)):
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(bar["start_ns"]) // 10**9)
        local = start.astimezone(chicago)
        last_high, older_high, last_low, _ = swings[i]
        passed = {
            signals.WINDOW: rule["n_windows"] == 0 or 8 <= local.hour < 14,
            signals.IBS: 0.0 <= row[0] <= rule["ibs_high"],
            signals.PIVOTS: [
                True,
                None not in (last_low, last_high) and last_low <= bar["close"] <= last_high,
                older_high is not None and older_high < last_high < bar["high"],
            ][rule["pivots"]],
            signals.ATR: rule["needs_atr"] == 0 or (i >= 14 and not np.isnan(row[6])),
            signals.FIRST_FILTER: 0.0
            <= row[features.INDEX["bar_rsi2"]]
            <= rule["filters"][0]["high"],
            signals.FIRST_FILTER + 1: 0.0
            <= row[features.INDEX["day_ibs"]]
            <= rule["filters"][1]["high"],
            signals.FLAT_BY: not laid["in_flat_by"],
            signals.EARLY_CLOSE: not laid["in_early_close"],
            signals.ROLL: not laid["in_roll"],
        }
        failed = [code for code, holds in passed.items() if not holds]
        assert signal[i]["gate"] == (failed[0] if failed else signals.CANDIDATE)


def naive_gaps(built):
    return [
        naive.Decimal(repr(float(gap))) if seam else None
        for gap, seam in zip(built.bars["gap"], built.bars["seam_ns"], strict=True)
    ]


# ---------------------------------------------------------------- compiled or not


def test_the_compiled_functions_give_the_bits_of_the_plain_ones():
    script = Path(worlds.__file__)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    plain = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert plain.returncode == 0, plain.stderr
    assert json.loads(plain.stdout) == worlds.digests()


def test_published_convergence_grows_with_the_length():
    assert wilder.convergence_bars(1) == ema.convergence_bars(1) == 1
    for module in (wilder, ema):
        numbers = [module.convergence_bars(n) for n in (2, 5, 14, 50, 200)]
        assert numbers == sorted(numbers)
    assert (wilder.convergence_bars(14), ema.convergence_bars(200)) == (763, 5746)


def test_warm_ups_are_those_of_the_definitions():
    assert ibs.warmup_bars() == 1
    assert pivots.warmup_bars() == pivots.LEFT + 1 + pivots.RIGHT == 11
    assert (atr.warmup_bars(14), rsi.warmup_bars(2)) == (15, 3)
    assert sma.warmup_bars(200) == ema.warmup_bars(200) == 200
