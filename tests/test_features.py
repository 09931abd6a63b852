"""Proofs of every feature of the catalogue; a new feature gets them by being in it.

Only the oracle, and prices that a roll or a scale has moved, are compared with a tolerance. Whatever else
is compared is compared as bytes.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import naive_features as nf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    CATALOGUE,
    WIDTH,
    Laid,
    Market,
    Prices,
    at_places,
    bar_records,
    last_day,
    lay,
    market_of,
    moving_prices,
    observe,
    pair_beside,
    plain_bars,
    seen_bars,
    seen_days,
    trace,
)

from ibs_core import formulas
from ibs_core.kernels.graph import Op
from ibs_core.wiring import new_state, wire, wire_side

# All instruments that others read have the same formulas; one of them is proved to the numbers.
NAMES = [name for name in CATALOGUE if not name.startswith("x_") or name.startswith("x_es_")]
COLUMN = {name: i for i, name in enumerate(NAMES)}
WIRING = wire(CATALOGUE[name].node for name in NAMES)
every_feature = pytest.mark.parametrize("name", NAMES)

# Levels are moved by a roll, returns are relative to them; nothing else sees a roll.
LEVELS = {"close_px", "vix", "vix_median"}
RETURNS = {"ret1_pct", "ret1_rank", "ret4_pct", "drift50", "drift20", "bb_width", "ret1_x_vix"}
RETURNS |= {"rsi5_x_vix", "ret", "z", "sd"}
SEES_ROLLS = {
    name
    for name in NAMES
    for key in [name.removeprefix("x_es_").partition("_")[2]]
    if key in LEVELS | RETURNS and (key not in {"z", "sd", "ret"} or name.startswith("x_"))
}
WHOLE = {"0 or 1", "-1, 0, 1", "bars", "1 to 7", "1 to 12", "1 to 4", "0 to 2"}
"""Units of values that are whole numbers."""


def column(rows, name):
    return np.ascontiguousarray(rows[:, COLUMN[name]])


def node_of(name):
    return CATALOGUE[name].node


def reads(node, op):
    """Tell whether an operation is anywhere in a formula."""
    return node.op is op or any(reads(each, op) for each in node.inputs)


WIDE = {"stride": 400, "start": 50_000.0}
"""Moves so different that no two windows are alike but where prices stand still."""


def six(n, n_days=None, *, seed=0, seams=None, **how):
    """Draw six price series that roll at different bars: bars and days of three instruments."""
    out = []
    for i in range(6):
        length = n if i % 2 == 0 or n_days is None else n_days
        at = () if seams is None else seams[i]
        out.append(moving_prices(10 * seed + i, length, seams=at, **how))
    return out


# ---------------------------------------------------------------- shared worlds


N_BARS, PER_DAY = 3300, 3
MISSING_BARS = (5, 700, 701, 2000)  # 2000 is the first bar of a contract
MISSING_DAYS = (3, 650)


@functools.cache
def big_market():
    """Three thousand bars and a thousand days with all that can happen."""
    seams = [(400, 1000, 2000, 2999), (100, 333, 650, 1001), (8, 1500), (77, 800), (1234,), (90, 640)]
    prices = six(N_BARS, N_BARS // PER_DAY, seed=1, seams=seams, flats=[(500, 540), (800, 803)], **WIDE)
    market = market_of(7, prices, per_day=PER_DAY, gone=0.01)
    for series, lost in ((market.bars, MISSING_BARS), (market.days, MISSING_DAYS)):
        for i, field in zip(lost, itertools.cycle(("low", "open", "close", "high"))):
            series[field][i] = np.nan
    market.bars["volume"][[60, 1700]] = np.nan
    market.days["volume"][[61, 300]] = np.nan
    return market


@functools.cache
def big_laid():
    return lay(WIRING, big_market())


@functools.cache
def big_rows():
    return observe(WIRING, big_laid())


def aligned(n, seed, **how):
    """Make a market in which every bar closes a session and nobody's bars are missing."""
    return market_of(seed, six(n, seed=seed, **how))


# ---------------------------------------------------------------- the oracle


def sides(market):
    """Give the oracle's values of the six series: all own ones, and what is read of others."""
    out = {}
    for name, bars in market._asdict().items():
        side = "bar" if name.endswith("bars") else "day"
        plain = plain_bars(bars)
        if name in {"bars", "days"}:
            out[name] = nf.naive_side(plain, side=side)
            continue
        real = nf.real_bars(plain)
        window, least = nf.RANK_WINDOW[side], nf.RANK_MIN[side]
        if name.startswith("pair"):
            found = {"ibs": nf.ibs(real), "rsi14": nf.rsi(real, 14)}
            found |= {f"{key}_rank": nf.rank(found[key], window, least) for key in tuple(found)}
        else:
            found = nf.cross_features(real, nf.RANK_WINDOW["day"], nf.RANK_MIN["day"])
            found["close"] = [bar.close for bar in real]
        out[name] = {key: nf.put_back(plain, values) for key, values in found.items()}
    return out


def spread_scores(own, pair, side):
    names = ("close", "gap")
    beside = [dict(zip(names, row, strict=True)) for row in pair_beside(own, pair).tolist()]
    return nf.naive_pair_z(plain_bars(own), beside, side=side)


def held_closes(market):
    """Give each bar the last closed session that has prices, as (ordinal, close)."""
    out = []
    places = last_day(market.bars, market.days)
    for k in places.tolist():
        known = [j for j in range(max(k - 2, 0), k + 1) if np.isfinite(market.days["low"][j])]
        known = [j for j in known if all(np.isfinite(market.days[x][j]) for x in ("open", "close"))]
        known = [j for j in known if np.isfinite(market.days["high"][j])]
        out.append((known[-1], float(market.days["close"][known[-1]])) if known else None)
    return out


def of_the_reference(day, vix):
    """Work out the features of the volatility index and the bond fund."""
    close, middle = vix["close"], vix["vix_median"]
    known = np.isnan(middle) | np.isnan(close)
    return {
        "day_vix": close,
        "day_vix_rank": vix["close_rank"],
        "day_vix_median": middle,
        "day_vix_regime": np.where(known, np.nan, close < middle),
        "day_ret1_x_vix": day["ret1_pct"] * close,
        "day_rsi5_x_vix": (day["rsi5"] - 50.0) / 50.0 * close,
        "day_tlt_above_sma20": vix["above_sma20"],
    }


def expected_of(market, dates):
    """Work out every feature at every bar."""
    side = sides(market)
    own, days = market.bars, market.days
    closed = last_day(own, days)
    day = {key: at_places(x, closed) for key, x in side["days"].items()}
    out = {f"bar_{key}": np.array(x) for key, x in side["bars"].items()}
    out |= {f"day_{key}": x for key, x in day.items()}
    held = nf.naive_above_prev_close(plain_bars(own), held_closes(market))
    out["bar_above_prev_close"] = np.array(held)
    at_bar, at_day = seen_bars(own, market.pair_bars), seen_days(own, days, market.pair_days)
    for key, values in side["pair_bars"].items():
        out[f"bar_pair_{key}"] = at_places(values, at_bar)
        out[f"day_pair_{key}"] = at_places(side["pair_days"][key], at_day)
    for key, values in spread_scores(own, market.pair_bars, "bar").items():
        out[f"bar_{key}"] = np.array(values)
    for key, values in spread_scores(days, market.pair_days, "day").items():
        out[f"day_{key}"] = at_places(values, closed)
    at_bar, at_day = seen_bars(own, market.other_bars), seen_days(own, days, market.other_days)
    for key in ("ret", "z", "sd"):
        out[f"x_es_bar_{key}"] = at_places(side["other_bars"][f"x_{key}"], at_bar)
        out[f"x_es_day_{key}"] = at_places(side["other_days"][f"x_{key}"], at_day)
    vix = {key: at_places(x, at_day) for key, x in side["other_days"].items()}
    out |= of_the_reference(day, vix)
    rows = [nf.naive_calendar(*date) for date in dates.tolist()]
    out |= {key: np.array([row[key] for row in rows]) for key in rows[0]}
    gone = ~np.isfinite(own["open"] + own["high"] + own["low"] + own["close"])
    return {name: np.where(gone, np.nan, out[name]) for name in NAMES}


@functools.cache
def big_expected():
    return expected_of(big_market(), big_laid().dates)


def assert_near(found, expected, feature):
    """Same gaps; whole numbers alike, the others within 1e-9."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    if feature.unit in WHOLE:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@every_feature
def test_a_feature_equals_its_oracle_through_rolls_holes_and_standstills(name):
    found = column(big_rows()[0], name)
    assert np.isfinite(found).sum() > 500
    assert_near(found, big_expected()[name], CATALOGUE[name])


def test_the_big_world_has_what_it_is_to_prove():
    market = big_market()
    for series, n in ((market.bars, 3000), (market.days, 900)):
        gaps = series["gap"][series["seam_ns"] > 0]
        assert len(series) >= n
        assert min(gaps) < 0.0 < max(gaps)
        assert (series["volume"] == 0.0).any()
        assert np.isnan(series["volume"]).any()
        assert (series["high"] == series["low"]).sum() > 30
    assert all(len(series) > CATALOGUE["bar_atr_z_rank"].full for series in market[::2])
    assert all(len(series) > CATALOGUE["day_atr_z_rank"].full for series in market[1::2])
    assert len(market.pair_bars) < len(market.bars)


def test_others_bars_and_sessions_are_seen_where_the_oracle_sees_them():
    market = big_market().until(600 * WIDTH)
    own, days = market.bars, market.days
    ends, closed = own["end_ns"].tolist(), last_day(own, days)
    dates = [None if k < 0 else int(days["end_ns"][k]) for k in closed]
    other = market.pair_bars["end_ns"].tolist()
    assert seen_bars(own, market.pair_bars).tolist() == nf.naive_asof(ends, other, WIDTH)
    other = market.pair_days["end_ns"].tolist()
    expected = nf.naive_asof_day(ends, dates, other, other)
    assert seen_days(own, days, market.pair_days).tolist() == expected
    assert -1 in expected


def test_every_instrument_that_is_read_has_the_formulas_of_the_first():
    seen = 0
    for name, feature in CATALOGUE.items():
        if name.startswith("x_"):
            _, root, key = name.split("_", 2)
            model = CATALOGUE[f"x_es_{key}"]
            source = f"{root.upper()}:{key.partition('_')[0]}"
            assert feature.node == replace(model.node, source=source)
            shape = (feature.unit, feature.low, feature.high, feature.side, feature.warmup)
            assert shape == (model.unit, model.low, model.high, model.side, model.warmup)
            seen += 1
    assert seen == 6 * len({name.split("_")[1] for name in CATALOGUE if name.startswith("x_")})


# ---------------------------------------------------------------- one result, however it is reached


@functools.cache
def cut_rows(kind):
    n = len(big_laid().bars)
    if kind == "one by one":
        return observe(WIRING, big_laid(), cuts=range(n))
    rng = np.random.default_rng(kind)
    return observe(WIRING, big_laid(), cuts=rng.integers(0, n, 1 + 20 * kind).tolist())


@every_feature
@pytest.mark.parametrize("kind", ["one by one", 0, 1, 2])
def test_a_feature_is_the_same_bar_by_bar_in_chunks_and_after_snapshots(name, kind):
    whole, cut = big_rows()[0], cut_rows(kind)[0]
    assert column(cut, name).tobytes() == column(whole, name).tobytes()


@pytest.mark.parametrize("kind", ["one by one", 0, 1, 2])
def test_the_states_are_the_same_bar_by_bar_in_chunks_and_after_snapshots(kind):
    for whole, cut in zip(big_rows()[1], cut_rows(kind)[1], strict=True):
        assert cut.tobytes() == whole.tobytes()


@settings(max_examples=8)
@given(cuts=st.sets(st.integers(0, 999), max_size=6))
def test_what_others_read_is_the_same_in_any_chunks(cuts):
    nodes = [lookup.node for lookup in WIRING.lookups]
    bars = big_market().other_bars[:1000]
    whole, state = trace(nodes, bars)
    cut, resumed = trace(nodes, bars, cuts=cuts)
    assert cut.tobytes() == whole.tobytes()
    assert resumed.tobytes() == state.tobytes()


def test_what_others_read_of_a_side_is_what_the_instrument_itself_says():
    keys = [name for name in NAMES if name.startswith("bar_") and "pair" not in name]
    keys.remove("bar_above_prev_close")  # reads two sides
    alone, _ = trace([node_of(name) for name in keys], big_market().bars)
    beside = big_rows()[0][:, [COLUMN[name] for name in keys]]
    assert alone.tobytes() == np.ascontiguousarray(beside).tobytes()


@functools.cache
def later_changed(k):
    """Give rows of the big world with other prices from bar k on, and of its first k bars alone."""
    market, end = big_market(), k * WIDTH
    other = market_of(99, six(N_BARS, N_BARS // PER_DAY, seed=99), per_day=PER_DAY)
    parts = zip(market.until(end), other.since(end), strict=True)
    mixed = Market(*(np.concatenate(pair) for pair in parts))
    return observe(WIRING, lay(WIRING, mixed))[0], observe(WIRING, lay(WIRING, market.until(end)))[0]


@every_feature
@pytest.mark.parametrize("k", [1, 402, 1900, 3001])
def test_later_bars_never_change_a_features_earlier_values(name, k):
    whole = column(big_rows()[0], name)[:k].tobytes()
    for rows in later_changed(k):
        assert column(rows, name)[:k].tobytes() == whole


@functools.cache
def some_features(seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(NAMES, 5, replace=False).tolist()
    wiring = wire(CATALOGUE[name].node for name in names)
    return names, observe(wiring, lay(wiring, big_market()))[0]


@every_feature
def test_a_feature_alone_is_what_it_is_among_all(name):
    wiring = wire([node_of(name)])
    rows, _ = observe(wiring, lay(wiring, big_market()))
    assert rows.tobytes() == column(big_rows()[0], name).tobytes()


@pytest.mark.parametrize("seed", range(6))
def test_five_features_are_what_they_are_among_all(seed):
    names, rows = some_features(seed)
    for i, name in enumerate(names):
        assert rows[:, i].tobytes() == column(big_rows()[0], name).tobytes()


def test_a_wiring_of_all_features_is_small_and_of_one_smaller():
    everything = wire(feature.node for feature in CATALOGUE.values()).graph
    assert len(everything.columns) == len(CATALOGUE)
    one = wire([formulas.IBS]).graph
    assert len(one.bar) < len(WIRING.graph.bar) < len(everything.bar)
    assert new_state(one.bar).nbytes < 1000


def test_what_two_features_share_is_one_node():
    nodes, columns = wire_side([formulas.atr(14), formulas.atr(14), formulas.rsi(2)])
    assert columns[0] == columns[1]
    assert (nodes["op"] == Op.WILDER).sum() == 1


# ---------------------------------------------------------------- warm-up and start

SECOND_PIVOT = 6  # bars from one pivot high to the next, at the least


@functools.cache
def first_rows(seed):
    """Observe bars on which every feature has its first value as early as it can.

    The sixth bar is a pivot high and a pivot low at once, the twelfth the next ones.
    """
    prices = six(540, seed=seed)
    if seed == 4:
        for part in prices:
            part.ticks[5] += np.array([0, 400, -400, 0])
            part.ticks[11] += np.array([0, 800, -800, 0])
    return observe(WIRING, lay(WIRING, market_of(seed, prices)))[0]


@every_feature
def test_a_feature_has_its_first_value_exactly_after_its_warm_up(name):
    found = column(first_rows(4), name)
    first = int(np.flatnonzero(~np.isnan(found))[0]) + 1
    later = SECOND_PIVOT if name.endswith("pivot_hh") else 0
    assert first == CATALOGUE[name].warmup + later
    assert not np.isnan(found[first:]).any()


@every_feature
@pytest.mark.parametrize("seed", [5, 6])
def test_no_feature_comes_before_its_warm_up(name, seed):
    feature = CATALOGUE[name]
    present = ~np.isnan(column(first_rows(seed), name))
    assert not present[: feature.warmup - 1].any()
    assert feature.node.waits or present[feature.warmup - 1]


@every_feature
def test_windows_are_full_no_earlier_than_the_first_value(name):
    feature = CATALOGUE[name]
    assert 1 <= feature.warmup <= feature.full
    assert feature.settles is None or feature.settles >= feature.full


LONG, LATE = 7200, 411


@functools.cache
def long_rows():
    """Observe a long world from its first bar and from a later one."""
    seams = [(50, 3000, 6500), (700, 5000), (LATE, 4000), (1, 600), (999,), (5200,)]
    market = aligned(LONG, 3, seams=seams, stride=40, start=50_000.0)
    whole = lay(WIRING, market)
    later = lay(WIRING, market.since(LATE * WIDTH))
    later = later._replace(dates=whole.dates[LATE:])
    return observe(WIRING, whole)[0][LATE:], observe(WIRING, later)[0]


@every_feature
def test_a_feature_that_starts_later_gives_the_same_bits_once_settled(name):
    whole, later = (column(rows, name) for rows in long_rows())
    settles = CATALOGUE[name].settles
    skip = LONG - LATE - 500 if settles is None else settles - 1
    assert skip <= LONG - LATE - 500
    assert whole[skip:].tobytes() == later[skip:].tobytes()
    assert np.isfinite(later[skip:]).any()
