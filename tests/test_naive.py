"""The oracles of the kernels against numbers worked by hand or published."""

import datetime as dt
from decimal import Decimal

import naive
import pytest
from naive import MINUTE, Seam, Session

HOUR = 60 * MINUTE
DAY = 24 * HOUR

# The worked example of Wilder's RSI(14) in StockCharts' ChartSchool (prices of QQQQ).
CHART_SCHOOL_CLOSES = [
    *[44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826],
    *[45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439],
    *[46.2122, 46.2521, 45.7137, 46.4515, 45.7835, 45.3548, 44.0288, 44.1783, 44.2181, 44.5672],
    *[43.4205, 42.6628, 43.1314],
]
CHART_SCHOOL_RSI = [
    *[70.53, 66.32, 66.55, 69.41, 66.36, 57.97, 62.93, 63.26, 56.06, 62.38],
    *[54.71, 50.42, 39.99, 41.46, 41.87, 45.46, 37.30, 33.08, 37.77],
]
# The worked example of the ten-day EMA in the same place.
CHART_SCHOOL_PRICES = [
    *[22.27, 22.19, 22.08, 22.17, 22.18, 22.13, 22.23, 22.43, 22.24, 22.29],
    *[22.15, 22.39, 22.38, 22.61, 23.36, 24.05, 23.75, 23.83, 23.95, 23.63],
]
CHART_SCHOOL_EMA = [
    *[22.22, 22.21, 22.24, 22.27, 22.33, 22.52, 22.80, 22.97, 23.13, 23.28, 23.34],
]


def test_ibs_is_the_place_of_the_close_in_the_range():
    high, low, close = [12.0, 12.0, 12.0, 12.0], [10.0] * 4, [10.0, 10.5, 11.0, 12.0]
    assert naive.ibs(high, low, close) == [0.0, 0.25, 0.5, 1.0]


def test_ibs_of_a_bar_without_range_is_one_half():
    assert naive.ibs([10.0], [10.0], [10.0]) == [0.5]


def test_sma_is_the_plain_mean_of_a_full_window():
    assert naive.sma([1.0, 2.0, 6.0, 4.0], 3) == [None, None, 3.0, 4.0]


def test_sma_moves_the_window_at_a_roll():
    # The new contract trades 10 higher: 1 and 2 are remembered as 11 and 12.
    assert naive.sma([1.0, 2.0, 13.0], 3, [None, None, Decimal(10)]) == [None, None, 12.0]


def test_ema_by_hand():
    # alpha = 2/(3+1) = 1/2; seed (2+4+6)/3 = 4; then (8+4)/2 = 6; then (0+6)/2 = 3.
    assert naive.ema([2.0, 4.0, 6.0, 8.0, 0.0], 3) == [None, None, 4.0, 6.0, 3.0]


def test_ema_of_the_published_example():
    got = naive.ema(CHART_SCHOOL_PRICES, 10)
    assert got[:9] == [None] * 9
    assert got[9:] == pytest.approx(CHART_SCHOOL_EMA, abs=0.006)


def test_ema_moves_at_a_roll():
    # As by hand, with the last two prices 100 higher from the roll on: 4 is remembered as 104.
    gaps = [None, None, None, Decimal(100), None]
    assert naive.ema([2.0, 4.0, 6.0, 108.0, 100.0], 3, gaps) == [None, None, 4.0, 106.0, 103.0]


def test_rsi_of_the_published_example():
    got = naive.wilder_rsi(CHART_SCHOOL_CLOSES, 14)
    assert got[:14] == [None] * 14
    assert got[14:] == pytest.approx(CHART_SCHOOL_RSI, abs=0.006)


def test_rsi_by_hand():
    # Changes +1 -1 +3: U = 1/2, then (1/2 + 3)/2 = 7/4; D = 1/2, then (1/2 + 0)/2 = 1/4.
    # RSI = 100 - 100/(1+1) = 50, then 100 - 100/(1+7) = 87.5.
    assert naive.wilder_rsi([10.0, 11.0, 10.0, 13.0], 2) == [None, None, 50.0, 87.5]


def test_rsi_without_losses_is_100_and_without_movement_50():
    assert naive.wilder_rsi([1.0, 2.0, 3.0], 2)[-1] == 100.0
    assert naive.wilder_rsi([3.0, 2.0, 1.0], 2)[-1] == 0.0
    assert naive.wilder_rsi([2.0, 2.0, 2.0], 2)[-1] == 50.0


def test_rsi_takes_the_first_change_after_a_roll_from_the_new_open():
    # The example by hand, last bar on a contract 50 higher: open 60 is the old 10, close 63.
    closes, gaps = [10.0, 11.0, 10.0, 63.0], [None, None, None, Decimal(50)]
    assert naive.wilder_rsi(closes, 2, gaps)[-1] == 87.5
    assert naive.wilder_rsi(closes, 2, gaps, opens=[10.0, 10.0, 11.0, 60.0])[-1] == 87.5


def test_true_range_reaches_to_the_previous_close():
    high, low, close = [10.0, 9.0, 14.0], [8.0, 7.0, 12.0], [9.5, 8.0, 13.0]
    # 9.5 - 7 = 2.5 (previous close above the bar), 14 - 8 = 6 (below the bar).
    assert naive.true_range(high, low, close) == [None, 2.5, 6.0]


def test_atr_by_hand():
    high, low, close = [10.0, 9.0, 14.0, 13.0], [8.0, 7.0, 12.0, 12.25], [9.5, 8.0, 13.0, 12.5]
    # TR 2.5, 6, 0.75: first mean (2.5+6)/2 = 4.25, then (4.25 + 0.75)/2 = 2.5.
    assert naive.wilder_atr(high, low, close, 2) == [None, None, 4.25, 2.5]


def test_true_range_of_the_first_bar_after_a_roll_starts_from_its_open():
    high, low, close, opens = [10.0, 114.0], [8.0, 112.0], [9.5, 113.0], [9.0, 113.5]
    gaps = [None, Decimal("103.5")]
    assert naive.true_range(high, low, close, gaps, opens) == [None, 2.0]
    # Without opens: 9.5 + 103.5 = 113.
    assert naive.true_range(high, low, close, gaps) == [None, 2.0]


def test_a_return_is_in_percent_and_starts_from_the_open_after_a_roll():
    got = naive.return_pct([10.0, 11.0, 55.0], [None, None, Decimal(39)], [10.0, 10.0, 50.0])
    assert got == [None, pytest.approx(10.0), pytest.approx(10.0)]


#  high                 .          low is high - 1, so its drawing is the same
#  7            A                  A = bar 5 is the only pivot high: 5 lower bars on each side
#  6          .   .
#  5        .       .           .
#  4      .           .       .
#  3    .               .   .
#  2  .                   V        V = bar 10 is the only pivot low
#     0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
DRAWING = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_pivot_is_known_five_bars_later():
    highs = DRAWING
    lows = [h - 1.0 for h in highs]
    got = naive.pivots(highs, lows)
    assert got[9] == (None, None, None, None)
    assert got[10] == (7.0, None, None, None)
    assert got[14] == (7.0, None, None, None)
    assert got[15] == (7.0, None, 1.0, None)


def test_a_pivot_may_be_equalled_on_its_right_but_not_on_its_left():
    # Two equal tops: the earlier one is the pivot high. The later one has an equal on its left.
    highs = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 9.0, 4.0, 3.0, 2.0, 1.5, 1.0]
    lows = [h - 1.0 for h in highs]
    got = naive.pivots(highs, lows)
    assert got[10] == (9.0, None, None, None)
    assert got[11] == (9.0, None, None, None)


def test_the_pivot_before_the_last_is_remembered():
    highs = [1.0, 3.0, 2.0, 1.0, 5.0, 2.0]
    lows = [0.0, 0.5, 0.4, 0.2, 0.3, 0.1]
    # One bar each side: high 3 is known at bar 2, high 5 at bar 5; low 0.2 at bar 4.
    got = naive.pivots(highs, lows, left=1, right=1)
    assert got[2] == (3.0, None, None, None)
    assert got[4] == (3.0, None, 0.2, None)
    assert got[5] == (5.0, 3.0, 0.2, None)


def test_pivots_of_a_rolled_series_are_those_of_the_adjusted_one():
    # The drawing again with a roll before bar 8: all later prices are 0.1 higher, exactly.
    gaps = [None] * 16
    gaps[8] = Decimal("0.1")
    highs = [h if i < 8 else round(h + 0.1, 1) for i, h in enumerate(DRAWING)]
    lows = [round(h - 1.0, 1) for h in highs]
    got = naive.pivots(highs, lows, gaps)
    assert got[10] == (7.1, None, None, None)
    assert got[15] == (7.1, None, 1.1, None)
    # A roll between a pivot and now moves what is remembered as well.
    gaps[15] = Decimal("-0.2")
    highs[15], lows[15] = 6.9, 5.9
    assert naive.pivots(highs, lows, gaps)[15] == (6.9, None, 0.9, None)


# A session of 3.5 hours from 0, a break of half an hour inside, and the next one at 6 hours.
SESSIONS = [
    Session(0, 7 * HOUR // 2, HOUR, 3 * HOUR // 2, early=False, trade_date=dt.date(2025, 1, 2)),
    Session(6 * HOUR, 9 * HOUR, 9 * HOUR, 9 * HOUR, early=False, trade_date=dt.date(2025, 1, 3)),
]


def minute(at, price, contract="A"):
    return (at, contract, price, price + 1.0, price - 1.0, price + 0.5)


def test_bars_are_anchored_on_the_open_and_end_at_the_close():
    data = [minute(at, 10.0) for at in (0, HOUR - MINUTE, HOUR, 3 * HOUR, 7 * HOUR // 2 - MINUTE)]
    bars = naive.aggregate(data, SESSIONS, HOUR, [])
    assert [(b.start, b.end) for b in bars] == [
        (0, HOUR),
        (HOUR, 2 * HOUR),
        (3 * HOUR, 7 * HOUR // 2),  # cut at the close; the hour without a minute has no bar
    ]
    assert all(b.closed for b in bars)


def test_a_bar_has_the_first_open_and_the_last_close():
    data = [(0, None, 5.0, 6.0, 4.5, 5.5), (MINUTE, None, 5.5, 5.75, 4.0, 4.25)]
    bar = naive.aggregate(data, SESSIONS, HOUR, [])[0]
    assert (bar.open, bar.high, bar.low, bar.close) == (5.0, 6.0, 4.0, 4.25)
    assert not bar.closed


def test_the_last_bar_is_closed_when_the_data_reach_its_end():
    data = [minute(0, 10.0), minute(HOUR - 2 * MINUTE, 10.0)]
    assert not naive.aggregate(data, SESSIONS, HOUR, [])[-1].closed
    assert naive.aggregate(data, SESSIONS, HOUR, [], base_ns=2 * MINUTE)[-1].closed


def test_late_minutes_have_bars_of_their_own_and_no_part_in_the_day():
    close = 7 * HOUR // 2
    data = [minute(close - MINUTE, 10.0), minute(close, 20.0), minute(5 * HOUR, 30.0)]
    bars = naive.aggregate(data, SESSIONS, HOUR, [])
    assert [(b.start, b.end, b.late) for b in bars] == [
        (3 * HOUR, close, False),
        (close, 4 * HOUR, True),
        (5 * HOUR, 6 * HOUR, True),
    ]
    days = naive.aggregate(data, SESSIONS, DAY, [], late=False)
    assert [(d.start, d.end, d.close) for d in days] == [(0, close, 10.5)]


def test_a_seam_is_the_open_when_the_old_contract_ended_in_an_earlier_session():
    data = [minute(HOUR, 10.0), minute(6 * HOUR + 5 * MINUTE, 12.25, "B")]
    seams = naive.find_seams(data, SESSIONS)
    assert seams == [Seam(6 * HOUR, Decimal("1.75"))]  # 12.25 - 10.5


def test_a_seam_inside_a_session_cuts_the_bars():
    data = [minute(0, 10.0), minute(30 * MINUTE, 20.0, "B"), minute(2 * HOUR, 21.0, "B")]
    seams = naive.find_seams(data, SESSIONS)
    assert seams == [Seam(30 * MINUTE, Decimal("9.5"))]
    bars = naive.aggregate(data, SESSIONS, HOUR, seams)
    assert [(b.start, b.end, b.contract) for b in bars] == [
        (0, 30 * MINUTE, 0),
        (30 * MINUTE, HOUR, 1),
        (2 * HOUR, 3 * HOUR, 1),
    ]
    assert naive.gaps_of(bars, seams) == [None, Decimal("9.5"), None]
    days = naive.aggregate(data, SESSIONS, DAY, seams, late=False)
    assert [(d.start, d.end) for d in days] == [(0, 30 * MINUTE), (30 * MINUTE, 7 * HOUR // 2)]


def test_two_seams_between_two_bars_add_up():
    data = [minute(0, 10.0), minute(4 * HOUR, 20.0, "B"), minute(6 * HOUR, 25.0, "C")]
    seams = naive.find_seams(data, SESSIONS)
    days = naive.aggregate(data, SESSIONS, DAY, seams, late=False)
    # 20 - 10.5 and 25 - 20.5: B traded outside the calendar only and has no daily bar.
    assert naive.gaps_of(days, seams) == [None, Decimal("14.0")]
