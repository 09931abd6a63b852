"""The laws that every kernel keeps: one suite over all of them.

Tolerance is for the oracle alone. Whatever else is compared is compared as bytes.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import naive
import naive_features
import numpy as np
import pytest
import worlds
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import CATALOGUE, KERNELS, Prices, build, plan_of, run_kernel, walk

from ibs_core import formulas, portfolio, positions, replay, signals
from ibs_core.bars import BAR, MINUTE_NS, NEVER, PATH, SESSION, TIMEFRAMES_NS
from ibs_core.kernels import (
    adx,
    aggregate,
    calendar,
    ema,
    ibs,
    nodes,
    patterns,
    pivots,
    psar,
    rank,
    returns,
    ring,
    rsi,
    true_range,
    wilder,
    window,
)
from ibs_core.schedule import Rule, make_schedule
from ibs_core.wiring import memory_of, new_state, wire

SEEDS = st.integers(0, 2**31)
TICKS = st.sampled_from([4, 100])  # quarters are exact in binary, cents are not
TIMEFRAMES = st.sampled_from(list(TIMEFRAMES_NS))
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


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


@settings(max_examples=25)
@given(seed=SEEDS, start=st.integers(1, 100))
def test_a_stop_is_the_same_from_any_start_after_turning_twice_on_the_same_bars(seed, start):
    kernel, prices = KERNEL["psar"], walk(seed, start + 400)
    whole, late = run_stop(kernel, prices), run_stop(kernel, prices.since(start))
    whole = whole[:, start:]
    turned = [np.diff(rising, prepend=rising[0]) != 0 for _, rising in (whole, late)]
    turns = np.flatnonzero(turned[0] | turned[1])
    both = (turned[0] & turned[1])[turns]
    twice = turns[1:][both[1:] & both[:-1]]
    assert len(twice)
    assert whole[:, twice[0] :].tobytes() == late[:, twice[0] :].tobytes()


def run_stop(kernel, prices):
    """Run the stop; give its values and its sides."""
    state = np.zeros(1, kernel.dtype)
    return np.array([(kernel.step(state[0], x)[0], state[0]["rising"]) for x in prices.values]).T


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
    "calendar": calendar.CALENDAR,
    "head": nodes.HEAD,
    "node": nodes.NODE,
    "rsi": rsi.STATE,
    "adx": adx.STATE,
    "features": new_state(wire(x.node for x in CATALOGUE.values()).graph.bar).dtype,
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


def test_a_flat_market_has_no_range_no_pivots_no_direction_and_a_stop_at_its_price():
    flat = closes(*[4000] * 60)
    assert (run_kernel(KERNEL["true_range"], flat)[0][1:] == 0.0).all()
    assert np.isnan(run_kernel(KERNEL["pivots"], flat)[0]).all()
    assert (run_kernel(KERNEL["adx14"], flat)[0][27:] == 0.0).all()
    assert (run_kernel(KERNEL["psar"], flat)[0][1:] == 1000.0).all()


def test_of_equal_highs_the_first_is_the_pivot():
    prices = closes(*[4000] * 30)
    prices.ticks[[8, 10], 1] = 4010
    prices.ticks[[8, 10], 2] = 3990
    found, state = run_kernel(KERNEL["pivots"], prices)
    assert np.isnan(found[:13, 0]).all()
    assert found[13, 0] == 1002.5
    assert found[13, 2] == 997.5
    assert state[0]["n_highs"] == state[0]["n_lows"] == 1


def test_wilder_averages_and_exponential_averages_keep_a_nan_for_ever():
    for kernel in (KERNEL["wilder2"], KERNEL["ema8"]):
        state = np.zeros(1, kernel.dtype)[0]
        values = [1.0] * 20 + [np.nan] + [1.0] * 20
        out = [kernel.step(state, (x, x, 0.0, x))[0] for x in values]
        assert np.isfinite(out[19])
        assert np.isnan(out[20:]).all()


@pytest.mark.parametrize("seed", range(4))
def test_an_index_of_a_market_that_only_rises_is_100_and_not_a_hair_more(seed):
    # 100 u / u is above 100 for some u.
    moves = np.random.default_rng(seed).random(2000)
    state = np.zeros(1, rsi.STATE)[0]
    found = [rsi.step(state, x, 14) for x in moves]
    assert 99.9999999 < min(found[13:]) <= max(found[13:]) == 100.0
    state = np.zeros(1, adx.STATE)[0]
    found = [adx.step(state, x, -x, x, 14) for x in moves]
    assert 99.9999999 < min(found[27:]) <= max(found[27:]) == 100.0


# ---------------------------------------------------------------- windows

NUMBERS = st.floats(-1e6, 1e6)
WINDOWS = st.lists(NUMBERS, min_size=1, max_size=70).map(np.array)
OF_ONE_WINDOW = {
    "mean": (window.mean, statistics.fmean),
    "deviation": (lambda x: window.deviation(x, window.mean(x)), statistics.pstdev),
    "median": (window.median, statistics.median),
    "highest": (window.highest, max),
    "lowest": (window.lowest, min),
    "share_below": (window.share_below, lambda x: 100.0 * sum(y < x[-1] for y in x) / len(x)),
}


@pytest.mark.parametrize("name", OF_ONE_WINDOW)
@settings(max_examples=60)
@given(x=WINDOWS)
def test_a_statistic_of_a_window_is_that_of_pythons_library(name, x):
    found, expected = (
        statistic(given)
        for statistic, given in zip(OF_ONE_WINDOW[name], (x, x.tolist()), strict=True)
    )
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * max(1.0, np.abs(x).max()))


@settings(max_examples=60)
@given(price=NUMBERS, n=st.integers(1, 70))
def test_a_flat_window_is_its_value_without_any_deviation(price, n):
    x = np.full(n, price)
    assert window.mean(x) == window.median(x) == window.highest(x) == window.lowest(x) == price
    assert window.deviation(x, price) == window.share_below(x) == 0.0


@settings(max_examples=60)
@given(x=WINDOWS, at=st.integers(0, 69))
def test_a_hole_makes_a_window_missing_but_for_a_share(x, at):
    at %= len(x)
    x[at] = np.nan
    assert np.isnan([window.mean(x), window.deviation(x, 0.0), window.median(x)]).all()
    if at == len(x) - 1:
        assert np.isnan(window.share_below(x))
    else:
        present = x[~np.isnan(x)]
        assert window.share_below(x) == 100.0 * (present < x[-1]).sum() / len(present)


@settings(max_examples=60)
@given(x=WINDOWS)
def test_statistics_leave_their_window_as_it_is(x):
    before = x.tobytes()
    for statistic, _ in OF_ONE_WINDOW.values():
        statistic(x)
    assert x.tobytes() == before


@settings(max_examples=60)
@given(
    values=st.lists(NUMBERS, min_size=1, max_size=90),
    capacity=st.integers(1, 40),
    gap=st.integers(-999, 999),
)
def test_a_ring_gives_its_last_values_in_order_whatever_the_count(values, capacity, gap):
    values = [round(value, 2) for value in values]
    own = np.zeros(2 * capacity)
    for count, value in enumerate(values):
        ring.push(own, count, value)
        for n in (0, 1, min(count + 1, capacity)):
            assert ring.last(own, count + 1, n).tolist() == values[count + 1 - n : count + 1]
    assert own[:capacity].tobytes() == own[capacity:].tobytes()
    n = min(len(values), capacity)
    for on_grid, moved in ((1, ring.canonical), (0, lambda x: x)):
        level = own.copy()
        ring.shift(level, len(values), gap / 100, on_grid)
        expected = [moved(value + gap / 100) for value in values[len(values) - n :]]
        assert ring.last(level, len(values), n).tolist() == expected
        assert not level[n:capacity].any()  # what was never written stays zero


@settings(max_examples=60)
@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=40), st.integers(-999, 999))
def test_a_ring_on_the_grid_is_moved_as_decimals_are(cents, gap):
    own = np.zeros(2 * 40)
    for count, value in enumerate(cents):
        ring.push(own, count, value / 100)
    ring.shift(own, len(cents), gap / 100, 1)
    expected = [naive.moved(value / 100, naive.Decimal(gap) / 100) for value in cents]
    assert ring.last(own, len(cents), len(cents)).tolist() == expected


# ---------------------------------------------------------------- ranks

COARSE = st.one_of(st.integers(-3, 3).map(float), NUMBERS, st.just(np.nan))


@settings(max_examples=100)
@given(
    values=st.lists(COARSE, min_size=1, max_size=120),
    n=st.integers(1, 40),
    least=st.integers(1, 30),
)
def test_a_rank_is_that_of_the_sorted_window(values, n, least):
    ordered, present = np.zeros(n), 0
    for i, newest in enumerate(values):
        leaving = values[i - n] if i >= n else np.nan
        present = rank.step(ordered, present, newest, leaving)
        last = [x for x in values[max(i + 1 - n, 0) : i + 1] if not np.isnan(x)]
        assert ordered[:present].tolist() == sorted(last)
        assert not ordered[present:].any()
        found = rank.value(ordered, present, newest, least)
        expected = naive_features.rank_of(values[max(i + 1 - n, 0) : i + 1], least)
        assert found == expected or (np.isnan(found) and np.isnan(expected))
        assert np.isnan(found) or 0.0 < found <= 1.0


@settings(max_examples=60)
@given(st.lists(st.integers(-(10**6), 10**6), max_size=40), st.integers(-999, 999))
def test_a_roll_moves_a_sorted_window_and_leaves_its_order(cents, gap):
    ordered = np.zeros(50)
    ordered[: len(cents)] = np.sort(np.array(cents, np.float64)) / 100
    exact = ordered.copy()
    rank.shift(ordered, len(cents), gap / 100, 1)
    assert ordered[: len(cents)].tolist() == [(value + gap) / 100 for value in sorted(cents)]
    assert not ordered[len(cents) :].any()
    rank.shift(exact, len(cents), gap / 100, 0)
    assert exact[: len(cents)].tolist() == [x / 100 + gap / 100 for x in sorted(cents)]


# ---------------------------------------------------------------- numbers by hand


def test_a_return_from_a_price_that_is_not_positive_is_missing():
    prices = (8.0, 4.0, 0.0, 4.0, -4.0, -8.0, 4.0, 8.0)
    found = [returns.percent(now, then) for then, now in itertools.pairwise(prices)]
    np.testing.assert_array_equal(found, [-50.0, -100.0, np.nan, -200.0, np.nan, np.nan, 100.0])
    found = [returns.log(now, then) for then, now in itertools.pairwise(prices)]
    halved = -100.0 * np.log(2.0)
    expected = [halved, np.nan, np.nan, np.nan, np.nan, np.nan, -halved]
    np.testing.assert_array_equal(found, expected)


def test_drift_is_the_return_over_the_sample_deviation_of_its_parts():
    parts = np.array([10.0, -10.0, 10.0, 30.0])  # percent; about 10 off by 0, 20, 0, 20
    assert returns.drift(142.0, 100.0, parts) == pytest.approx(0.42 / (0.1 * np.sqrt(8.0 / 3.0)))
    assert np.isnan(returns.drift(1.0, 0.0, parts))
    assert np.isnan(returns.drift(1.0, -1.0, parts))
    assert np.isnan(returns.drift(142.0, 100.0, np.full(4, 10.0)))
    assert np.isnan(returns.drift(142.0, 100.0, np.array([1.0, np.nan, 2.0, 3.0])))


def test_the_narrowest_range_is_below_each_other():
    assert patterns.is_narrowest(np.array([3.0, 2.0, 1.0])) == 1.0
    assert patterns.is_narrowest(np.array([1.0, 2.0, 1.0])) == 0.0
    assert patterns.is_narrowest(np.array([3.0, 0.5, 1.0])) == 0.0


def test_an_inside_bar_is_the_one_before_the_newest():
    highs, lows = np.array([12.0, 11.0, 99.0]), np.array([8.0, 9.0, -99.0])
    assert patterns.is_inside(highs, lows) == 1.0
    assert patterns.is_inside(highs - np.array([1.0, 0.0, 0.0]), lows) == 0.0
    assert patterns.is_inside(highs, lows + np.array([1.0, 0.0, 0.0])) == 0.0


def test_a_contraction_is_its_depth_times_its_length():
    assert patterns.contraction(0.35, 10.0) == pytest.approx(0.5 * (1.0 - np.exp(-1.0)))
    assert patterns.contraction(0.7, 0.0) == patterns.contraction(3.0, 0.0) == 0.0
    assert patterns.contraction(0.0, 10_000.0) == 1.0
    assert np.isnan(patterns.contraction(np.nan, 0.0))


def test_efficiency_by_hand_and_over_the_lookbacks_that_there_are():
    # Up 2, down 1, up 2, down 1, up 2: 4 of 8.
    rising = np.array([10.0, 12.0, 11.0, 13.0, 12.0, 14.0])
    assert patterns.efficiency(rising, np.diff(rising)) == 0.5
    assert np.isnan(patterns.efficiency(rising[1:], np.diff(rising[1:])))
    # Before it 15 bars straight up from 5: 9 of 13 over twenty; weights 2 and 1.
    longer = np.concatenate([np.full(14, 5.0), [5.0], rising])
    over_20 = 9.0 / (5.0 + 8.0)
    expected = (0.5 * 0.5 + 0.25 * over_20) / 0.75
    assert patterns.efficiency(longer, np.diff(longer)) == pytest.approx(expected)
    # Without a move in the last five, only the lookback of twenty counts.
    still = np.concatenate([longer, np.full(6, 14.0)])[-21:]
    over_20 = abs(still[-1] - still[0]) / np.abs(np.diff(still)).sum()
    assert patterns.efficiency(still, np.diff(still)) == pytest.approx(over_20)
    assert np.isnan(patterns.efficiency(np.full(61, 5.0), np.zeros(60)))


@settings(max_examples=60)
@given(seed=SEEDS, n=st.integers(6, 61), gap=st.integers(-999, 999))
def test_efficiency_never_exceeds_1_where_a_roll_rounds_way_and_path_apart(seed, n, gap):
    closes = np.cumsum(np.random.default_rng(seed).integers(1, 99, n)) / 1000
    changes = np.diff(closes)
    moved = np.array([ring.canonical(x + gap / 1000) for x in closes])
    assert 0.999999 < patterns.efficiency(moved, changes) <= 1.0


def test_a_true_range_reaches_to_the_close_before():
    assert true_range.value(12.0, 10.0, 11.0) == 2.0
    assert true_range.value(12.0, 10.0, 15.0) == 5.0
    assert true_range.value(12.0, 10.0, 8.0) == 4.0


def test_the_stop_by_hand():
    # As worked in the oracle's own test: rising from the low 8, touched on bar 5.
    bars = [
        (10, 8, 9),
        (11, 9, 10),
        (12, 10, 11),
        (13, 11, 12),
        (12.5, 7, 7.5),
        (9, 6, 6.5),
        (8, 6.5, 7),
    ]
    state = np.zeros(1, psar.STATE)[0]
    found = [psar.step(state, *map(float, bar)) for bar in bars]
    assert found == pytest.approx([np.nan, 8.0, 8.0, 8.16, 13.0, 13.0, 12.72], nan_ok=True)
    psar.shift(state, 2.5)
    assert state["extreme"] == 8.5
    assert state["sar"] == pytest.approx(12.72 + 0.04 * (6.0 - 12.72) + 2.5)


def test_the_directional_index_by_hand():
    # n = 2; ups and downs mirrored: +DM 1.5 and -DM 0.5 give 50, then 1.25 and 0.25.
    state = np.zeros(1, adx.STATE)[0]
    found = [adx.step(state, up, -up, 3.0, 2) for up in (3.0, -1.0, 1.0)]
    assert found == pytest.approx([np.nan, np.nan, (50.0 + 200.0 / 3.0) / 2.0], nan_ok=True)
    state = np.zeros(1, adx.STATE)[0]  # equal moves both ways are none
    assert [adx.step(state, 1.0, 1.0, 2.0, 1) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_minute_of_the_day_belongs_to_one_part_of_the_session():
    for minute in range(1440):
        expected = naive_features.naive_calendar(minute, 1, 1, 1)
        assert calendar.session_part(float(minute)) == expected["cal_session"]
        assert calendar.open_close(float(minute)) == expected["cal_open_close"]


@settings(max_examples=100)
@given(st.integers(-(10**8), 10**8), st.integers(-(10**6), 10**6), st.sampled_from([4, 100, 10**4]))
def test_a_moved_level_is_the_float_that_its_decimal_stands_for(ticks, gap, per_unit):
    moved = ring.canonical(ticks / per_unit + gap / per_unit)
    assert moved == (ticks + gap) / per_unit


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


COLUMNS = ("bar_ibs", "bar_pivot_state", "bar_pivot_hh", "atr", "bar_rsi2", "day_ibs")
IBS, STATE, HIGHER, ATR, RSI, DAY = range(len(COLUMNS))
OWN = [CATALOGUE[name].node if name != "atr" else formulas.atr(14) for name in COLUMNS]


def observed(params, built, schedule, *, cuts=(), nodes=OWN):
    """Observe bars in chunks, each with the session bars that have ended by its end."""
    wired = wire(nodes).graph
    states = new_state(wired.bar), new_state(wired.day)
    bars, days = built.bars, built.days
    foreign, beside = np.zeros((len(bars), 2)), np.zeros((len(days), 2))
    signal = np.zeros(len(bars), signals.SIGNAL)
    rows = []
    seen = 0
    for start, stop in itertools.pairwise(sorted({0, *cuts, len(bars)})):
        states = tuple(map(worlds.snapshot, states))
        ended = int((days["end_ns"] <= bars["end_ns"][stop - 1]).sum())
        room = np.zeros((stop - start, len(nodes)))
        count = signals.observe_many(
            *(params[0], wired, *map(memory_of, states), bars[start:stop], days[seen:ended]),
            *(schedule[start:stop], foreign[start:stop], beside[seen:ended]),
            *(signal[start:stop], room),
        )
        rows.append(room[:count])
        seen = ended
    return signal, np.concatenate(rows), *states


def draw_rule(seed):
    """Draw a rule with filters, windows and pivots, and lay it over drawn bars."""
    rng = np.random.default_rng(seed)
    params = worlds.draw_params(rng)
    row = params[0]
    row["pivots"] = rng.integers(0, 3)
    row["ibs_column"], row["pivot_column"] = IBS, STATE if row["pivots"] == 1 else HIGHER
    row["atr_column"] = rng.choice([-1, ATR])
    row["warmup_bars"], row["warmup_days"] = rng.choice([0, 9]), rng.choice([0, 1])
    row["n_filters"] = 2
    for rule, place in zip(row["filters"], (RSI, DAY), strict=False):
        rule["column"], rule["low"], rule["high"] = place, 0.0, rng.choice([0.8, 90.0])
    if rng.random() < 0.3:
        row["filters"]["n_members"][0] = 2
        row["filters"]["members"][0, :2] = (0.0, 100.0)
    row["n_windows"] = rng.integers(0, 2)
    row["windows"][0] = (8 * 60, 14 * 60)
    tf_ns = int(rng.choice([15, 60, 240])) * MINUTE_NS
    minutes = draw(3 * seed + 1, 0.05, int(rng.integers(0, 3)), 4)  # all of them
    built = build(minutes, SESSIONS, plan_of(tf_ns))
    if not built.complete:
        built = built._replace(bars=built.bars[:-1])
    seams = built.bars["seam_ns"][built.bars["seam_ns"] > 0]
    rule = Rule(tf_ns, 120 * 10**9, 840, True, -NEVER, NEVER)
    schedule = make_schedule(built.bars, SESSIONS, rule, seams)
    schedule["feeds_cold"][:3] = rng.integers(0, 2)
    return params, built, schedule


def open_gates(params, schedule):
    """Let every bar through, so that its feature row is written."""
    params, schedule = params.copy(), schedule.copy()
    for name in ("n_filters", "n_windows", "pivots", "warmup_bars", "warmup_days"):
        params[name] = 0
    params["ibs_low"], params["ibs_high"], params["atr_column"] = 0.0, 1.0, -1
    for name in ("in_flat_by", "in_early_close", "in_roll", "feeds_cold"):
        schedule[name] = 0
    return params, schedule


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
    whole = observed(params, built, schedule)[0]
    short = observed(params, built._replace(bars=built.bars[:k]), schedule[:k])[0]
    assert short.tobytes() == whole[:k].tobytes()


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_candidates_row_is_that_of_the_table_of_all_bars(seed):
    params, built, schedule = draw_rule(seed)
    signal, rows, *states = observed(params, built, schedule)
    none = np.zeros((len(built.bars), 2)), np.zeros((len(built.days), 2))
    laid = worlds.Laid(built.bars, built.days, schedule["calendar"], *none)
    table, others = worlds.observe(wire(OWN), laid)
    assert rows.tobytes() == table[signal["gate"] == signals.CANDIDATE].tobytes()
    assert worlds.same(states, others)


@settings(max_examples=20)
@given(seed=SEEDS)
def test_a_daily_value_is_that_of_the_last_session_that_ended_by_the_decision(seed):
    params, built, schedule = draw_rule(seed)
    names = [name for name in CATALOGUE if name.startswith("day_rsi") or name == "day_close_px"]
    names = [name for name in names if "vix" not in name]
    nodes = [formulas.IBS, *(CATALOGUE[name].node for name in names)]
    params, schedule = open_gates(params, schedule)
    _, rows, *_ = observed(params, built, schedule, nodes=nodes)
    assert len(rows) == len(built.bars)
    values, _ = worlds.trace([node.inputs[0] for node in nodes[1:]], built.days)
    ended = np.searchsorted(built.days["end_ns"], built.bars["end_ns"], side="right") - 1
    assert rows[:, 1:].tobytes() == worlds.at_places(values, ended).tobytes()


@settings(max_examples=40)
@given(seed=SEEDS)
def test_the_first_gate_that_fails_is_the_one_that_the_rules_name(seed):
    params, built, schedule = draw_rule(seed)
    signal = observed(params, built, schedule)[0]
    rule = params[0]
    rows = observed(*(open_gates(params, schedule)[0], built), open_gates(params, schedule)[1])[1]
    highs, lows = built.bars["high"].tolist(), built.bars["low"].tolist()
    swings = naive.pivots(highs, lows, naive_gaps(built))
    chicago = ZoneInfo("America/Chicago")
    for i, (bar, row, laid) in enumerate(zip(built.bars, rows, schedule, strict=True)):
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(bar["start_ns"]) // 10**9)
        local = start.astimezone(chicago)
        last_high, older_high, last_low, _ = swings[i]
        n_days = (built.days["end_ns"] <= bar["end_ns"]).sum()
        warm = i + 1 >= rule["warmup_bars"] and n_days >= rule["warmup_days"]
        members = rule["filters"]["members"][0, : rule["filters"]["n_members"][0]]
        in_range = 0.0 <= row[RSI] <= rule["filters"][0]["high"]
        passed = {
            signals.WINDOW: rule["n_windows"] == 0 or 8 <= local.hour < 14,
            signals.IBS: 0.0 <= row[IBS] <= rule["ibs_high"],
            signals.WARM_UP: warm and not laid["feeds_cold"],
            signals.PIVOTS: [
                True,
                None not in (last_low, last_high) and last_low <= bar["close"] <= last_high,
                older_high is not None and older_high < last_high < bar["high"],
            ][rule["pivots"]],
            signals.ATR: rule["atr_column"] < 0 or (i >= 14 and row[ATR] > 0.0),
            signals.FIRST_MISSING: not np.isnan(row[RSI]),
            signals.FIRST_FILTER: row[RSI] in members if len(members) else in_range,
            signals.FIRST_MISSING + 1: not np.isnan(row[DAY]),
            signals.FIRST_FILTER + 1: 0.0 <= row[DAY] <= rule["filters"][1]["high"],
            signals.FLAT_BY: not laid["in_flat_by"],
            signals.EARLY_CLOSE: not laid["in_early_close"],
            signals.ROLL: not laid["in_roll"],
        }
        failed = [code for code, holds in passed.items() if not holds]
        assert signal[i]["gate"] == (failed[0] if failed else signals.CANDIDATE)
        assert signal[i]["ibs"] == row[IBS]


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
    assert pivots.warmup_bars() == pivots.LEFT + 1 + pivots.RIGHT == 11
