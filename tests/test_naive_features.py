"""The oracle of the features against numbers worked by hand."""

import math
import random

import naive_features as nf
import pytest

NAN = math.nan
# What depends on the level of the prices and so changes when they all move.
OF_LEVEL = {
    *("ret1_pct", "ret1_rank", "ret4_pct", "drift50", "close_px", "bb_width"),
    *("x_z", "x_sd", "x_ret", "vix_median"),
}


def bar(high, low, close, open_=None, volume=1.0, gap=None):
    return {
        "open": close if open_ is None else open_,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "seam": gap is not None,
        "gap": 0.0 if gap is None else gap,
    }


def closing(closes):
    return [bar(c + 1, c - 1, c) for c in closes]


def walk(n, seed):
    """Give bars on quarters, for which floats are exact."""
    dice = random.Random(seed)
    bars = []
    close = 1000.0
    for _ in range(n):
        open_ = close + dice.randint(-2, 2) / 4
        close = open_ + dice.randint(-8, 8) / 4
        high = max(open_, close) + dice.randint(0, 4) / 4
        low = min(open_, close) - dice.randint(0, 4) / 4
        bars.append(bar(high, low, close, open_, float(dice.randint(1, 99))))
    return bars


def moved(bars, first, gap):
    """Give the bars with a roll at `first`, from which on all prices are `gap` higher."""
    up = [{k: b[k] + gap for k in ("open", "high", "low", "close")} for b in bars[first:]]
    rest = [old | new for old, new in zip(bars[first:], up, strict=True)]
    return [*bars[:first], rest[0] | {"seam": True, "gap": gap}, *rest[1:]]


def same(got, expected):
    return got == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def side(bars, name, **ranks):
    return nf.naive_side(bars, side="bar", **ranks)[name]


def test_ibs_is_on_the_grid_and_clipped():
    bars = [bar(12, 10, 10.5), bar(10, 10, 10), bar(10, 9, 11)]
    assert nf.ibs(nf.real_bars(bars)) == [0.25, 0.5, 1.0]
    # 0.3 - 0.1 and 0.2 - 0.1 differ from 0.2 and 0.1 by rounding; on the grid the half is exact.
    assert nf.ibs(nf.real_bars([bar(0.3, 0.1, 0.2)])) == [0.5]
    # A range of less than half a unit of the grid is taken as it is.
    assert same(nf.ibs(nf.real_bars([bar(4e-10, 0.0, 1e-10)])), [0.25])


def test_rank_of_the_worked_example():
    expected = [1.0, 0.5, 4 / 6, 5 / 8, 1.0]
    assert same(nf.rank([3.0, 1.0, 2.0, 2.0, 5.0], 2520, 1), expected)
    # Of three values: (3), (3, 1), (3, 1, 2): 1+1+2 of 6, (1, 2, 2): 1+1+3 of 6, (2, 2, 5).
    assert same(nf.rank([3.0, 1.0, 2.0, 2.0, 5.0], 3, 1), [1.0, 0.5, 4 / 6, 5 / 6, 1.0])


def test_rank_skips_what_is_missing_but_keeps_its_place():
    # The hole is one of the three places: at the end the window is (hole, 2, 3).
    assert same(nf.rank([1.0, NAN, 2.0, 3.0], 3, 2), [NAN, NAN, 1.0, 1.0])


def test_ranks_of_a_side_follow_its_values():
    bars = walk(40, 2)
    got = nf.naive_side(bars, side="bar", rank_window=5, rank_min=3)
    values = got["ibs"]
    for i in range(2, 40):
        window = values[max(i - 4, 0) : i + 1]
        place = [x < values[i] for x in window].count(True)
        ties = [x == values[i] for x in window].count(True)
        assert got["ibs_rank"][i] == (2 * place + 1 + ties) / (2 * len(window))
    assert same(got["ibs_prev_rank"], [NAN, *got["ibs_rank"][:-1]])
    assert same(got["ibs_prev"], [NAN, *got["ibs"][:-1]])


def test_rsi_of_gains_of_nothing_and_by_hand():
    assert side(closing(range(100, 110)), "rsi5")[5:] == [100.0] * 5
    assert side(closing([100.0] * 10), "rsi5")[5:] == [50.0] * 5
    # Changes +3 -1 +1: U = 1.5, D = 0.5: 75; then U = (1.5+1)/2, D = 0.5/2: 100 * 1.25/1.5.
    assert same(side(closing([10.0, 13.0, 12.0, 13.0]), "rsi2"), [NAN, NAN, 75.0, 125 / 1.5])


def test_returns_start_again_at_a_roll():
    bars = [*closing([100.0]), bar(116, 109, 115.5, 110.0, gap=10.0)]
    # 100 is remembered as 110.
    assert same(side(bars, "ret1_pct"), [NAN, 5.0])
    assert same(side(closing([-1.0, 4.0, 5.0]), "ret1_pct"), [NAN, NAN, 25.0])


def test_drift_is_missing_for_equal_returns():
    assert math.isnan(side(closing([1.1**k for k in range(60)]), "drift50")[-1])
    # Day returns of 1 and 0 in turn: 1024 - 1, over the root of 20 * 0.25 / 19.
    got = nf.naive_side(closing([2.0 ** ((k + 1) // 2) for k in range(21)]), side="day")
    assert same(got["drift20"], [NAN] * 20 + [1023 / math.sqrt(5 / 19)])


def test_true_range_and_its_wilder_mean():
    bars = nf.real_bars([bar(11, 9, 10), bar(15, 12, 13), bar(14, 10, 11), bar(12, 11, 11)])
    assert same(nf.true_range(bars), [NAN, 5, 4, 1])
    # The mean of 5 and 4, then that of 4.5 and 1.
    assert same(nf.atr(bars, 2), [NAN, NAN, 4.5, 2.75])


def test_atr_percentile_counts_what_is_strictly_below():
    # 15 bars of range 2: first ATR 2. A range of 16 makes it 3, then 2 makes it (3*13+2)/14.
    bars = [*closing([100.0] * 15), bar(108, 92, 100), bar(101, 99, 100)]
    assert same(side(bars, "atr_pctile")[13:], [NAN, 0.0, 50.0, 100 / 3])


def test_z_of_flat_prices_is_zero_also_where_floats_round():
    got = nf.naive_side(closing([0.1] * 30), side="bar")
    assert got["price_z"][19:] == [0.0] * 11
    assert got["dist_z"][20:] == [0.0] * 10
    assert same(got["bb_pctb"], [NAN] * 30)


def test_z_and_bands_of_a_single_step():
    # 19 closes of 100 and one of 120: mean 101, variance 20 * 20 * 19 / 400 = 19.
    got = nf.naive_side(closing([*[100.0] * 19, 120.0]), side="bar")
    sd = math.sqrt(19)
    assert same(got["price_z"][-1], 19 / sd)
    assert same(got["bb_pctb"][-1], (19 + 2 * sd) / (4 * sd))
    assert same(got["bb_high"][-1], (19 - 2 * sd) / (4 * sd))
    assert same(got["bb_width"][-1], 4 * sd / 101)
    assert got["above_sma20"][-1] == 1.0


def test_nr7_is_strict():
    ranges = [4, 3, 4, 4, 4, 4, 2, 2, 1]
    got = side([bar(100 + r, 100, 100) for r in ranges], "nr7")
    assert same(got, [NAN] * 6 + [1.0, 0.0, 1.0])


def test_inside_bar_is_about_the_two_bars_before():
    bars = [bar(12, 8, 10), bar(11, 9, 10), bar(20, 1, 10), bar(11, 9, 10)]
    assert same(side(bars, "inside_bar"), [NAN, NAN, 1.0, 0.0])


def test_counts_of_falling_and_rising_bars_start_at_the_bar_before():
    bars = [bar(9, 1, 5.0 + sign, 5.0) for sign in (-1, -1, 0, -1, 1, 1, 1)]
    assert same(side(bars, "bear_count"), [NAN, 1, 2, 0, 1, 0, 0])
    assert same(side(bars, "bull_count"), [NAN, 0, 0, 0, 0, 1, 2])


def test_twrc_grows_with_the_run_and_a_hole_ends_it():
    def part(k):
        return 0.5 * (1 - math.exp(-k / 10))

    # A ratio of 0.35 is half of the threshold; 0.7 is not below it.
    fast = [0.35, 0.35, 0.7, 0.35, NAN, 0.35, 0.35]
    got = nf.twrc(fast, [1.0] * 5 + [0.0, 1.0])
    assert same(got, [part(1), part(2), 0.0, part(1), NAN, NAN, part(1)])


def test_efficiency_ratio_drops_the_lookbacks_without_history():
    # Up 2, down 1, up 2, down 1, up 2: 4 of 8.
    closes = [10.0, 12.0, 11.0, 13.0, 12.0, 14.0]
    assert same(side(closing(closes), "eff_ratio"), [NAN] * 5 + [0.5])
    # Flat but for one step of 1, sixteen bars ago: only the lookback of 20 has gone any way.
    assert same(side(closing([1.0] * 5 + [2.0] * 16), "eff_ratio")[-1], 1.0)
    assert math.isnan(side(closing([1.0] * 30), "eff_ratio")[-1])


def test_donchian_looks_at_the_twenty_bars_before():
    got = nf.naive_side(closing([100.0] * 20 + [103.0, 100.0, 104.0, 98.0]), side="bar")
    # Edges 101 and 99, then 104 and 99 twice, then 105 and 99.
    assert same(got["donchian_state"], [NAN] * 20 + [1.0, 0.0, 0.0, -1.0])
    # ATR(14) is 2; at bar 21 the true range is 104 - 100 = 4. The nearer edge is 2 away.
    assert same(got["donchian_prox"][20], 2 / ((2 * 13 + 4) / 14))


def test_psar_by_hand():
    bars = [
        *(bar(10, 8, 9), bar(11, 9, 10), bar(12, 10, 11), bar(13, 11, 12)),
        *(bar(12.5, 7, 7.5), bar(9, 6, 6.5), bar(8, 6.5, 7)),
    ]
    # Bar 2: up from the low 8, extreme 11. Bar 3: 8 + 0.02*3, held to the lower low 8; extreme
    # 12. Bar 4: 8 + 0.04*4; extreme 13. Bar 5: 8.16 + 0.06*4.84 lies above the low 7: turn, to
    # 13. Bar 6: 13 + 0.02*(7-13), held to the higher high 13; extreme 6. Bar 7: 13 + 0.04*(6-13).
    expected = [NAN, 8.0, 8.0, 8.16, 13.0, 13.0, 12.72]
    assert same(nf.psar(nf.real_bars(bars)), expected)
    rolled = nf.psar(nf.real_bars(moved(bars, 3, 100.0)))
    assert same(rolled, [*expected[:3], *(x + 100 for x in expected[3:])])


def test_adx_by_hand():
    # Moves of both edges +3 -1 +1 -2; n = 2. Bar 3: +DM 1.5, -DM 0.5, DX 100 * 1/2. Bar 4: 1.25
    # and 0.25, DX 100 * 1/1.5, ADX their mean. Bar 5: 0.625 and 1.125, DX 100 * 0.5/1.75.
    bars = nf.real_bars(closing([10.0, 13.0, 12.0, 13.0, 11.0]))
    fourth = (50 + 200 / 3) / 2
    assert same(nf.adx(bars, 2), [NAN] * 3 + [fourth, (fourth + 200 / 7) / 2])


def test_adx_of_a_straight_rise_and_of_nothing():
    assert same(side(closing(range(100, 130)), "adx14"), [NAN] * 27 + [100.0] * 3)
    assert same(side([bar(5, 5, 5)] * 30, "adx14"), [NAN] * 27 + [0.0] * 3)


def test_ema_slope_and_spread_of_a_straight_rise():
    got = nf.naive_side(closing(range(100, 160)), side="bar")
    # On a line of slope 1 an EMA from its own mean lags by (n - 1) / 2; the true range is 2.
    assert same(got["ema_slope"][23:], [NAN] + [2.5] * 36)
    assert same(got["ema_spread"][48:], [NAN] + [15 / 2] * 11)
    assert same(got["ema50_above"][48:], [NAN] + [1.0] * 11)


def test_pivots_are_known_five_bars_later():
    closes = [10, 10, 10, 10, 10, 15, 14, 12, 11, 10, 5, 6, 7, 8, 9, 16]
    got = nf.naive_side(closing(closes), side="bar")
    # The top's high 16 is known at bar 11; the bottom's low 4 at bar 16, where the state starts.
    assert same(got["pivot_state"], [NAN] * 15 + [0.0])
    assert nf.pivots(nf.real_bars(closing(closes)))[-1] == ([16], [4])
    # True ranges of bars 2 to 15: eleven of 2, two of 6, one of 3; at bar 16 it is 8.
    atr14 = (37 / 14 * 13 + 8) / 14
    assert same(got["zone_dist_atr"], [NAN] * 15 + [12 / atr14])


def test_a_pivot_high_may_be_equalled_after_but_not_before():
    flat = [bar(10, 9, 10)] * 5
    equal_after = [*flat, bar(12, 9, 10), bar(12, 9, 10), *flat]
    # Only the first of the twins counts.
    assert [len(tops) for tops, _ in nf.pivots(nf.real_bars(equal_after))] == [0] * 10 + [1] * 2


def test_a_roll_leaves_all_but_levels_unchanged():
    bars = walk(330, 3)
    plain = nf.naive_side(bars, side="bar", rank_window=50, rank_min=10)
    rolled = nf.naive_side(moved(bars, 300, 16.0), side="bar", rank_window=50, rank_min=10)
    different = {name for name in plain if not same(rolled[name], plain[name])}
    assert different == OF_LEVEL
    shifted = [*plain["vix_median"][:300], *(x + 16 for x in plain["vix_median"][300:])]
    assert same(rolled["vix_median"], shifted)


@pytest.mark.parametrize("lost", [1, 150, 300])
def test_a_bar_without_a_price_is_not_there(lost):
    bars = moved(walk(330, 4), 300, 16.0)
    seam = bars[lost]["seam"]
    hole = bars[lost] | {"low": NAN}
    rest = bars[lost] | {"seam": False, "gap": 0.0}
    # A hole before the bar takes over its roll.
    holed = [*bars[:lost], hole, rest if seam else bars[lost], *bars[lost + 1 :]]
    got = nf.naive_side(holed, side="bar", rank_window=50, rank_min=10)
    expected = nf.naive_side(bars, side="bar", rank_window=50, rank_min=10)
    for name, values in got.items():
        assert math.isnan(values[lost])
        assert same([*values[:lost], *values[lost + 1 :]], expected[name]), name


def test_volume_may_be_missing_by_itself():
    bars = walk(600, 5)
    bars[10] |= {"volume": NAN}
    got = side(bars, "vol_z")
    # The last mean with the hole is at bar 15; 252 means are there again 252 bars later.
    assert [math.isnan(x) for x in got] == [True] * 266 + [False] * 334


def test_log_returns_of_a_steady_rise_have_no_spread():
    got = nf.naive_side(closing([2.0 ** (k % 2) for k in range(254)]), side="bar")
    # As many steps up as down by ln 2: mean 0, so the last step is one spread away.
    assert same(got["x_sd"], [NAN] * 252 + [100 * math.log(2)] * 2)
    assert same(got["x_z"], [NAN] * 252 + [-1.0, 1.0])


def test_median_is_the_mean_of_the_middle_two():
    got = side(closing([float(k * 37 % 100) for k in range(100)]), "vix_median")
    assert same(got, [NAN] * 99 + [49.5])


def test_pair_z_by_hand_and_over_rolls_of_either():
    own = closing([float(k % 2) + 10 for k in range(24)])
    pair = [{"close": 5.0, "gap": 0.0} for _ in own]
    got = nf.naive_pair_z(own, pair, side="bar", rank_window=3, rank_min=1)
    # Spreads 5 and 6 in turn: half a point from the mean, half a point of spread.
    assert same(got["pair_z"], [NAN] * 19 + [1.0, -1.0, 1.0, -1.0, 1.0])
    assert same(got["pair_z_rank"], [NAN] * 19 + [1.0, 0.5, 5 / 6, 3 / 6, 5 / 6])
    rolled = [p | {"close": 9.0} for p in pair[12:]]
    rolled = [*pair[:12], rolled[0] | {"gap": 4.0}, *rolled[1:]]
    assert same(nf.naive_pair_z(own, rolled, side="bar")["pair_z"], got["pair_z"])
    assert same(nf.naive_pair_z(moved(own, 7, 8.0), pair, side="bar")["pair_z"], got["pair_z"])
    pair[1] = {"close": NAN, "gap": 0.0}
    holed = nf.naive_pair_z(own, pair, side="bar")["pair_z"]
    assert same(holed, [NAN] * 21 + got["pair_z"][21:])


def test_the_last_sessions_close_moves_with_the_rolls_after_it():
    bars = [*closing([10.0, 11.0]), bar(16, 14, 15, gap=5.0), *closing([16.0, 15.0])]
    days = [None, *[(0, 10.5, False)] * 3, (1, 15.0, False)]
    # 11 > 10.5; from the roll on 10.5 is remembered as 15.5; 15 is not above 15.
    assert same(nf.naive_above_prev_close(bars, days), [NAN, 1.0, 0.0, 1.0, 0.0])
    # First seen at the roll itself: moved only when the session ended before the roll.
    assert nf.naive_above_prev_close(bars[2:3], [(0, 10.5, False)]) == [1.0]
    assert nf.naive_above_prev_close(bars[2:3], [(0, 10.5, True)]) == [0.0]


def test_sessions_of_the_day_begin_on_the_hour():
    minutes = [0, 479, 480, 539, 540, 839, 840, 899, 900, 1019, 1020, 1439]
    got = [nf.naive_calendar(minute, 2, 7, 26) for minute in minutes]
    assert [day["cal_session"] for day in got] == [1, 1, 2, 2, 2, 2, 2, 2, 4, 4, 3, 3]
    assert [day["cal_open_close"] for day in got] == [0, 0, 1, 1, 0, 0, 2, 2, 0, 0, 0, 0]


def test_calendar_of_two_dates_by_hand():
    names = ["cal_dow", "cal_month", "cal_late_month", "cal_week_start", "cal_even_day"]
    tuesday, friday = nf.naive_calendar(0, 2, 7, 26), nf.naive_calendar(0, 5, 12, 25)
    assert [tuesday[name] for name in names] == [2, 7, 1, 1, 1]
    assert [friday[name] for name in names] == [5, 12, 0, 0, 0]


def test_as_of_takes_the_last_bar_unless_it_is_a_bar_too_old():
    # At 100 only 100 counts; at 160 the bar of 100 is 60 old, which is too old; 159 is not.
    assert nf.naive_asof([99, 100, 159, 160, 200], [100, 161], 60) == [-1, 0, 0, -1, 1]


def test_as_of_takes_the_last_session_unless_ours_is_later():
    got = nf.naive_asof_day([9, 10, 20, 30, 30], [None, 1, 2, 2, 3], [10, 25], [1, 2])
    assert got == [-1, 0, -1, 1, -1]
    assert nf.naive_asof_day([10], [None], [10], [1]) == [0]
