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
from ibs_core.kernels import psar
from ibs_core.kernels.nodes import Op
from ibs_core.wiring import memory_of, new_state, wire, wire_side

# All instruments that others read have the same formulas; one of them is proved to the numbers.
NAMES = [name for name in CATALOGUE if not name.startswith("x_") or name.startswith("x_es_")]
COLUMN = {name: i for i, name in enumerate(NAMES)}
WIRING = wire(CATALOGUE[name].node for name in NAMES)
every_feature = pytest.mark.parametrize("name", NAMES)

WHOLE = {"0 or 1", "-1, 0, 1", "bars", "1 to 7", "1 to 12", "1 to 4", "0 to 2"}
"""Units of values that are whole numbers."""


def column(rows, name):
    return np.ascontiguousarray(rows[:, COLUMN[name]])


def node_of(name):
    return CATALOGUE[name].node


def reads(node, *ops):
    """Tell whether one of some operations is anywhere in a formula."""
    return node.op in ops or any(reads(each, *ops) for each in node.inputs)


RELATIVE = (Op.PERCENT_RETURN, Op.LOG_RETURN, Op.DRIFT, Op.BAND_WIDTH)
"""Operations that relate a price to its level, and so feel that a roll moves it."""


def is_level(node):
    """Tell whether a value is a price, and so moves with one."""
    if node.op is Op.GIVEN and not node.inputs:
        return node.source in {"open", "high", "low", "close"}
    return node.op in {Op.GIVEN, Op.MEDIAN, Op.MEAN} and is_level(node.inputs[0])


def feels_rolls(node):
    """Tell whether a feature's values depend on the level of the prices."""
    scaled = node.op is Op.PRODUCT and any(map(is_level, node.inputs))
    return is_level(node) or scaled or reads(node, *RELATIVE)


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
    seams = [
        (400, 1000, 2000, 2999),
        (100, 333, 650, 1001),
        (8, 1500),
        (77, 800),
        (1234,),
        (90, 640),
    ]
    prices = six(
        N_BARS, N_BARS // PER_DAY, seed=1, seams=seams, flats=[(500, 540), (800, 803)], **WIDE
    )
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
    """Give each bar the last closed session that has prices: ordinal, close, ended before the roll."""
    out = []
    places = last_day(market.bars, market.days)
    for k, seam_ns in zip(places.tolist(), market.bars["seam_ns"].tolist(), strict=True):
        known = [j for j in range(max(k - 2, 0), k + 1) if np.isfinite(market.days["low"][j])]
        known = [j for j in known if all(np.isfinite(market.days[x][j]) for x in ("open", "close"))]
        known = [j for j in known if np.isfinite(market.days["high"][j])]
        last = market.days[known[-1]] if known else None
        out.append((known[-1], float(last["close"]), last["end_ns"] <= seam_ns) if known else None)
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
    return observe(WIRING, lay(WIRING, mixed))[0], observe(WIRING, lay(WIRING, market.until(end)))[
        0
    ]


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


def test_observing_writes_nothing_but_the_state_and_the_rows():
    laid = big_laid()
    given_parts = (*laid, *WIRING.graph)
    before = [part.tobytes() for part in given_parts]
    observe(WIRING, laid)
    assert [part.tobytes() for part in given_parts] == before


def test_a_state_is_fresh_bytes_of_which_the_memory_is_a_view():
    state = new_state(WIRING.graph.bar)
    assert not any(state.tobytes())
    memory = memory_of(state)
    memory.head["n_bars"], memory.rings[-1] = 7, 2.0
    assert state["head"][0, 0]["n_bars"] == 7
    assert state["rings"][0, -1] == 2.0


def test_a_wiring_of_all_features_is_small_and_of_one_smaller():
    everything = wire(feature.node for feature in CATALOGUE.values()).graph
    assert len(everything.columns) == len(CATALOGUE)
    one = wire([formulas.IBS]).graph
    assert len(one.bar) < len(WIRING.graph.bar) < len(everything.bar)
    assert new_state(one.bar).nbytes < 1000


def test_a_wiring_says_what_must_be_laid_beside_its_bars():
    def of(*names):
        wiring = wire(node_of(name) for name in names)
        looks = [(each.root, each.side) for each in wiring.lookups]
        return looks, set(wiring.pair_on), set(wiring.feeds), wiring.full_bars, wiring.full_days

    assert of("bar_ibs", "cal_dow") == ([], set(), set(), 1, 0)
    assert of("bar_atr_z", "day_ibs_rank") == ([], set(), set(), 257, 504)
    assert of("bar_pair_z") == ([], {"bar"}, {"pair"}, 20, 0)
    assert of("day_pair_z") == ([], {"day"}, {"pair"}, 1, 20)
    assert of("bar_pair_ibs", "day_pair_ibs") == (
        *([("pair", "bar"), ("pair", "day")], set(), {"pair"}),
        *(1, 0),
    )
    assert of("x_es_day_z", "day_vix") == (
        [("ES", "day"), ("VIX", "day")],
        set(),
        {"ES", "VIX"},
        1,
        0,
    )


def test_what_two_features_share_is_one_node():
    nodes, columns = wire_side([formulas.atr(14), formulas.atr(14), formulas.rsi(2)])
    assert columns[0] == columns[1]
    assert (nodes["op"] == Op.WILDER).sum() == 1


# ---------------------------------------------------------------- warm-up and start


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
    assert first == CATALOGUE[name].warmup
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
def long_market():
    seams = [(50, 3000, 6500), (700, 5000), (LATE, 4000), (1, 600), (999,), (5200,)]
    return aligned(LONG, 3, seams=seams, stride=40, start=50_000.0)


@functools.cache
def long_rows():
    """Observe a long world from its first bar and from a later one."""
    market = long_market()
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


def features_with(*ops):
    """List the features whose start the data decide by one of some operations."""
    return [name for name in NAMES if reads(node_of(name), *ops)]


def series_of(name):
    market = long_market()
    return market.days if name.startswith("day_") else market.bars


def assert_same_from(name, first):
    whole, later = (column(rows, name)[first:] for rows in long_rows())
    assert len(whole) > 1000
    assert whole.tobytes() == later.tobytes()


@pytest.mark.parametrize("name", features_with(Op.RUN))
def test_a_run_is_the_same_from_any_start_once_a_bar_has_broken_it(name):
    series = series_of(name)[LATE:]
    falls = reads(node_of(name), Op.RUN) and "bear" in name
    goes_on = series["close"] < series["open"] if falls else series["close"] > series["open"]
    broken = int(np.flatnonzero(~goes_on)[0])
    assert_same_from(name, broken + CATALOGUE[name].full - 1)


@pytest.mark.parametrize("name", features_with(Op.STREAK))
def test_a_contraction_is_the_same_from_any_start_once_volatility_was_back(name):
    ratio = formulas.ratio(formulas.atr(10), formulas.atr(100))
    later = column(long_rows()[1], name)
    assert_same_from(name, int(np.flatnonzero(later[ratio.settles :] == 0.0)[0]) + ratio.settles)


def stops(series):
    """Give the bars on which the stop turns round."""
    state = np.zeros(1, psar.STATE)
    sides = []
    for bar in series:
        if bar["seam_ns"] > 0 and sides:
            psar.shift(state[0], bar["gap"])
        psar.step(state[0], bar["high"], bar["low"], bar["close"])
        sides.append(int(state[0]["rising"]))
    return np.diff(sides, prepend=sides[0]) != 0


@pytest.mark.parametrize("name", features_with(Op.PSAR))
def test_a_stop_is_the_same_from_any_start_after_turning_twice_on_the_same_bars(name):
    series = series_of(name)
    whole, later = stops(series)[LATE:], stops(series[LATE:])
    turns = np.flatnonzero(whole | later)
    both = (whole & later)[turns]
    joint = int(turns[1:][both[1:] & both[:-1]][0])
    assert_same_from(name, max(joint, formulas.atr(14).settles))


@pytest.mark.parametrize("name", features_with(Op.PIVOTS))
def test_pivots_that_a_later_start_knows_are_those_of_the_earlier(name):
    whole, later = (column(rows, name) for rows in long_rows())
    known = ~np.isnan(later)
    known[: formulas.atr(14).settles if reads(node_of(name), Op.WILDER) else 0] = False
    assert known.sum() > 1000
    assert whole[known].tobytes() == later[known].tobytes()


def test_the_held_close_is_the_same_from_any_start_once_a_session_has_closed():
    wiring = wire([node_of("bar_above_prev_close")])
    market = big_market()
    for start in (1001, 2000, 2999):
        whole = observe(wiring, lay(wiring, market))[0][start:]
        late = market._replace(bars=market.bars[start:])
        known_before = int((market.days["end_ns"] <= late.bars["end_ns"][0]).sum())
        closed = market.days["end_ns"][known_before]
        first = int(np.flatnonzero(late.bars["end_ns"] >= closed)[0])
        assert whole[first:].tobytes() == observe(wiring, lay(wiring, late))[0][first:].tobytes()


def test_warm_ups_by_hand():
    ranked = formulas.rank(formulas.IBS, 2520, 252)
    assert (ranked.first, ranked.full, ranked.settles) == (252, 2520, 2520)
    atr = formulas.atr(14)
    assert (atr.first, atr.full) == (15, 15)
    share = formulas.share_below(atr, 252)
    assert (share.first, share.full, share.settles) == (15, 266, atr.settles + 251)
    assert (formulas.adx(14).first, formulas.rsi(2).first) == (28, 3)
    assert (formulas.EFFICIENCY.first, formulas.EFFICIENCY.full) == (6, 61)
    assert formulas.lag(formulas.z(formulas.CLOSE, 20), 3).first == 23
    assert formulas.PSAR.settles is formulas.LAST_HIGH.settles is None
    assert [node.waits for node in (formulas.LAST_HIGH, formulas.PSAR)] == [True, False]


# ---------------------------------------------------------------- rolls


ROLLS = [(30, 300, 560), (30, 300, 560), (31, 561), (299, 512), (270, 600), (5, 520)]


@functools.cache
def rolled_and_level(seed):
    """Observe the same moves on one contract and on several; the new opens where the old closed."""
    level, rolled = six(640, seed=seed, **WIDE), []
    for i, (part, seams) in enumerate(zip(level, ROLLS, strict=True)):
        rng = np.random.default_rng((seed, i // 2))  # a contract's bars and its sessions
        ticks = part.ticks
        for s in seams:
            ticks[s, 0] = ticks[s - 1, 3]
            ticks[s, 1], ticks[s, 2] = max(ticks[s]), min(ticks[s])
        moved = ticks.copy()
        for s in seams:
            moved[s:] += int(rng.integers(-9000, 9000))
        rolled.append(Prices(moved, part.per_unit, seams))
    markets = [market_of(seed, prices) for prices in (rolled, level)]
    return markets[0], *(observe(WIRING, lay(WIRING, market))[0] for market in markets)


@pytest.mark.parametrize("name", [name for name in NAMES if not feels_rolls(node_of(name))])
@pytest.mark.parametrize("seed", [11, 12])
def test_a_feature_made_of_differences_does_not_see_a_roll(name, seed):
    _, rolled, level = rolled_and_level(seed)
    assert_near(column(rolled, name), column(level, name), CATALOGUE[name])


def test_few_features_see_a_roll():
    keys = {name.partition("_")[2] for name in NAMES if feels_rolls(node_of(name))}
    own = {"ret1_pct", "ret1_rank", "ret4_pct", "drift50", "drift20", "bb_width", "close_px"}
    reference = {"vix", "vix_median", "ret1_x_vix", "rsi5_x_vix"}
    others = {f"es_{side}_{key}" for side in ("bar", "day") for key in ("ret", "z", "sd")}
    assert keys == own | reference | others


RESTARTS = {
    "bar_ret1_pct": "bars",
    "day_ret1_pct": "days",
    "x_es_bar_ret": "other_bars",
    "x_es_day_ret": "other_days",
}


@pytest.mark.parametrize("name", RESTARTS)
def test_a_return_into_a_new_contract_starts_from_its_open(name):
    market, rolled, _ = rolled_and_level(11)
    series = getattr(market, RESTARTS[name])
    at = np.flatnonzero(series["seam_ns"] > 0)
    expected = 100.0 * (series["close"][at] / series["open"][at] - 1.0)
    assert column(rolled, name)[at].tobytes() == expected.tobytes()


@functools.cache
def seams_without_gap(per_unit):
    prices = six(560, seed=13, per_unit=per_unit, **WIDE)
    plain = market_of(13, prices)
    seamed = Market(*(part.copy() for part in plain))
    for part, at in zip(seamed, ROLLS, strict=True):
        part["seam_ns"][[s for s in at if s < 560]] = 1
    return [observe(WIRING, lay(WIRING, market))[0] for market in (plain, seamed)]


@every_feature
@pytest.mark.parametrize("per_unit", [4, 100, 10**6])
def test_a_seam_without_a_gap_changes_nothing(name, per_unit):
    plain, seamed = (column(rows, name) for rows in seams_without_gap(per_unit))
    assert plain.tobytes() == seamed.tobytes()


# ---------------------------------------------------------------- edges


def standing(n, ticks, per_unit):
    return [Prices(np.full((n, 4), ticks), per_unit, ()) for _ in range(6)]


N_EDGE = 560
TINY = {"per_unit": 2_000_000, "start": 1e-4, "stride": 4}
EDGE_ROLLS = [(40, 300), (77,), (301,), (), (90,), (333,)]
EDGES = {
    "flat for ever": lambda: market_of(1, standing(N_EDGE, 1, 10)),
    "flat at nothing": lambda: market_of(1, standing(N_EDGE, 0, 10)),
    "without volume": lambda: market_of(1, six(N_EDGE, seed=21, **WIDE), volume=False),
    "huge": lambda: market_of(1, six(N_EDGE, seed=22, **WIDE | {"start": 1e6}, seams=EDGE_ROLLS)),
    "tiny": lambda: market_of(1, six(N_EDGE, seed=23, **TINY, seams=EDGE_ROLLS)),
    "of both signs": lambda: market_of(
        1, six(N_EDGE, seed=24, stride=400, start=0.0, seams=EDGE_ROLLS)
    ),
    "negative": lambda: market_of(
        1, six(N_EDGE, seed=25, stride=400, start=-50_000.0, seams=EDGE_ROLLS)
    ),
    "calm after a storm": lambda: market_of(1, calming(28)),
    "zero volume": lambda: without_trades(market_of(1, six(N_EDGE, seed=26, **WIDE))),
}
COARSE = {"tiny": 0.02}
"""Where ticks are few, windows are alike but for rounding, and a rank may count them either way."""


def calming(seed):
    """Draw bars whose range is far below the usual when the slowest average has its first value."""
    out = six(N_EDGE, seed=seed, **WIDE)
    for part, calm in zip(out, six(N_EDGE, seed=seed + 1, stride=20, start=0.0), strict=True):
        part.ticks[60:] = part.ticks[59, 3] + calm.ticks[60:] - calm.ticks[60, 0]
    return out


def without_trades(market):
    for part in market:
        part["volume"] = 0.0
    return market


@functools.cache
def edge(kind):
    market = EDGES[kind]()
    laid = lay(WIRING, market)
    return observe(WIRING, laid)[0], expected_of(market, laid.dates)


@every_feature
@pytest.mark.parametrize("kind", EDGES)
def test_a_feature_equals_its_oracle_at_the_edge(kind, name):
    rows, expected = edge(kind)
    found = column(rows, name)
    if kind in COARSE and name.endswith("_rank"):
        np.testing.assert_allclose(found, expected[name], atol=COARSE[kind])
    else:
        assert_near(found, expected[name], CATALOGUE[name])


def test_a_market_that_stands_still_says_nothing_or_the_middle():
    rows, _ = edge("flat for ever")
    last = {name: rows[-1, COLUMN[name]] for name in NAMES}
    for side in ("bar", "day"):
        assert last[f"{side}_ibs"] == 0.5
        assert [last[f"{side}_rsi{n}"] for n in (2, 5, 14)] == [50.0] * 3
        for key in ("price_z", "dist_z", "mom3_z", "atr_z", "bb_width", "adx14", "ret1_pct"):
            assert last[f"{side}_{key}"] == 0.0
        for key in ("bb_pctb", "psar_dist", "range_atr", "zone_dist_atr", "eff_ratio", "twrc"):
            assert np.isnan(last[f"{side}_{key}"])
        assert last[f"{side}_ibs_rank"] == (1 + min(N_EDGE, 2520 if side == "bar" else 504)) / (
            2 * min(N_EDGE, 2520 if side == "bar" else 504)
        )
    rows, _ = edge("flat at nothing")
    assert np.isnan(column(rows, "bar_ret1_pct")).all()


@every_feature
def test_a_missing_volume_leaves_all_but_the_features_of_volume(name):
    rows, _ = edge("without volume")
    of_volume = "vol_z" in name
    assert np.isnan(column(rows, name)[-1]) == of_volume


SCALE_FREE = [name for name in NAMES if not is_level(node_of(name)) and not name.endswith("x_vix")]


@functools.cache
def scaled(per_unit, start_ticks, stride):
    prices = six(N_EDGE, seed=27, stride=stride, start=start_ticks / 4)
    prices = [part._replace(per_unit=per_unit) for part in prices]
    return observe(WIRING, lay(WIRING, market_of(27, prices)))[0]


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize(
    ("per_unit", "near"), [(64, 1e-9), (0.25, 1e-9), (2_000_000, 1e-4)], ids=str
)
def test_a_feature_does_not_depend_on_the_unit_of_the_prices(name, per_unit, near):
    expected = column(scaled(4, 200_000, 400), name)
    found = column(scaled(per_unit, 200_000, 400), name)
    ranked = 4 / 252 if name.endswith("_rank") else 0.0
    np.testing.assert_allclose(found, expected, rtol=near, atol=near + ranked)


# ---------------------------------------------------------------- bars without a price


HOLES = (0, 3, 250, 251, 400)  # the bars before which one without a price is put; 400 is a roll


def with_holes(records, at, fields):
    """Put in bars without one of their prices; a roll happens on the one that stands for it."""
    out = np.insert(records, at, records[list(at)])
    places = [i + k for k, i in enumerate(at)]
    for i, field in zip(places, fields, strict=True):
        out[field][i] = np.nan
        out["seam_ns"][i + 1], out["gap"][i + 1] = 0, 0.0
    return out, places


@functools.cache
def holed(side):
    """Observe a market, and the same with bars or sessions that lack a price."""
    fields = ("open", "high", "low", "close", "low")
    seams = [(400, 500), (400, 500), (), (), (), ()]
    market = aligned(540, 31, seams=seams, **WIDE)
    laid = lay(WIRING, market)
    whole, states = observe(WIRING, laid)
    if side == "day":
        days, places = with_holes(laid.days, HOLES, fields)
        days["end_ns"][places] = laid.bars["end_ns"][list(HOLES)] - WIDTH // 2
        beside = np.insert(laid.day_pair, HOLES, np.nan, axis=0)
        beside[places, 1] = 0.0
        found, found_states = observe(WIRING, laid._replace(days=days, day_pair=beside))
        return whole, found, states, found_states
    bars, places = with_holes(laid.bars, HOLES, fields)
    bars["end_ns"][places] -= 1
    parts = [np.insert(part, HOLES, part[list(HOLES)], axis=0) for part in laid[2:4]]
    rows, found_states = observe(WIRING, Laid(bars, laid.days, *parts, laid.day_pair))
    assert np.isnan(rows[places]).all()
    return whole, np.delete(rows, places, axis=0), states, found_states


@every_feature
@pytest.mark.parametrize("side", ["bar", "day"])
def test_a_bar_without_a_price_is_as_if_it_were_not_there(name, side):
    whole, found, _, _ = holed(side)
    assert column(found, name).tobytes() == column(whole, name).tobytes()


def test_a_session_without_a_price_leaves_the_daily_features_missing_until_the_next():
    rows = big_rows()[0]
    closed = last_day(big_market().bars, big_market().days)
    of_day = [COLUMN[name] for name in NAMES if name in {"day_ibs", "day_close_px", "day_adx14"}]
    for day in MISSING_DAYS:
        assert np.isnan(rows[np.ix_(closed == day, of_day)]).all()
        assert not np.isnan(rows[closed == day, COLUMN["bar_ibs"]]).any()


def test_a_bar_without_a_price_has_no_features_at_all():
    rows = big_rows()[0]
    assert np.isnan(rows[list(MISSING_BARS)]).all()
    empty = np.isnan(rows).all(axis=1)
    assert np.flatnonzero(empty).tolist() == sorted(MISSING_BARS)


# ---------------------------------------------------------------- possible values


def rising(seed, per_unit):
    """Draw bars that only rise, on cents; rolls move what is remembered by cents."""
    rng = np.random.default_rng(seed)
    ticks = np.cumsum(rng.integers(1, 300, (600, 1)), axis=0) + rng.integers(0, 1, (600, 4))
    ticks[:, 0] = np.concatenate([ticks[:1, 3], ticks[:-1, 3]])
    for s in (40, 61, 99, 350):
        ticks[s:] += int(rng.integers(-3000, 3000))
    ticks[:, 1], ticks[:, 2] = ticks.max(axis=1), ticks.min(axis=1)
    return Prices(ticks, per_unit, (40, 61, 99, 350))


def falling(seed, per_unit):
    up = rising(seed, per_unit)
    return up._replace(ticks=-up.ticks[:, [0, 2, 1, 3]] + 200_000)


def stopping(seed, n):
    """Draw bars that move and then stand still for ever."""
    return [moving_prices(seed + i, n, flats=[(300, n)]) for i in range(6)]


WORLDS = {
    "big": lambda: big_rows()[0],
    "long": lambda: long_rows()[0],
    "first": lambda: first_rows(5),
    "rolled": lambda: rolled_and_level(11)[1],
    "rising": lambda: alone([rising(k, 100) for k in range(6)]),
    "rising by mills": lambda: alone([rising(k, 1000) for k in range(6)]),
    "falling": lambda: alone([falling(k, 100) for k in range(6)]),
    "falling below nothing": lambda: alone([falling(k, 10) for k in range(6)]),
    "stopping": lambda: alone(stopping(1, 2000)),
    "stopping for ever": lambda: alone(stopping(1, 11_000)),
    **{kind: functools.partial(lambda kind: edge(kind)[0], kind) for kind in EDGES},
}


def alone(prices):
    return observe(WIRING, lay(WIRING, market_of(1, prices)))[0]


world_rows = functools.cache(lambda kind: WORLDS[kind]())


@every_feature
@pytest.mark.parametrize("kind", WORLDS)
def test_a_value_is_one_that_the_catalogue_calls_possible(kind, name):
    found, feature = column(world_rows(kind), name), CATALOGUE[name]
    assert not np.isinf(found).any()
    present = found[~np.isnan(found)]
    of_negatives = kind in {"of both signs", "negative", "falling below nothing"}
    if feature.unit == "index points" and of_negatives:
        return  # of an index that is never negative
    assert ((feature.low <= present) & (present <= feature.high)).all()
    if feature.unit in WHOLE:
        assert (present == np.rint(present)).all()
