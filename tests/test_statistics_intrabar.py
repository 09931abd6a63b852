"""The lowest equity of a session against a plain walk through every hour."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import FACTS, instant, trade_frame

from ibs_core.report.equity import MARKS, OpenPosition, PointCosts, equity_curve
from ibs_core.report.intrabar import session_lows
from ibs_core.report.run import TOTAL
from ibs_core.report.trade_facts import with_facts

CAPITAL = 1_000.0
COSTS = PointCosts(1.0, 0.5, 0.25)  # 1.50 for a round trip
HOUR_NS = 3_600_000_000_000
DAYS = [date(2025, 1, day) for day in (14, 15, 16)]
START_NS = 1_736_809_200_000_000_000  # 13 January 2025, 23:00 UTC: the session of the 14th opens
N_HOURS = 71  # to 16:00 in Chicago on the 16th
SYMBOLS = ("ES", "NQ")


def session_of(hour):
    return hour // 24


def paths(draw):
    """The open and the low of every hour."""
    steps = np.array(draw(st.lists(st.integers(-8, 8), min_size=N_HOURS + 1, max_size=N_HOURS + 1)))
    opens = 100.0 + np.cumsum(steps)
    return opens, opens - draw(st.integers(0, 5))


@st.composite
def books(draw):
    """Positions of each symbol one after the other, the last perhaps never left."""
    rows, held, prices = [], [], {}
    for symbol in SYMBOLS:
        opens, lows = prices[symbol] = paths(draw)
        times = sorted(draw(st.sets(st.integers(0, N_HOURS - 1), max_size=10)))
        for entry, leave in zip(times[::2], times[1::2], strict=False):
            gross = opens[leave] - opens[entry]
            rows.append(
                {
                    "symbol": symbol,
                    "entry_time": instant(START_NS + entry * HOUR_NS),
                    "exit_time": instant(START_NS + leave * HOUR_NS),
                    "entry_price": opens[entry],
                    "gross_usd": gross,
                    "commission_usd": 1.0,
                    "slippage_usd": 0.5,
                    "net_usd": gross - 1.5,
                    "mae_usd": min(lows[entry:leave].min(), opens[leave]) - opens[entry],
                }
            )
        if len(times) % 2:
            entry = times[-1]
            held.append(OpenPosition(symbol, symbol, 1, START_NS + entry * HOUR_NS, opens[entry]))
    return trade_frame(rows), held, prices


def lows_of(trades, held, prices):
    marks = pl.DataFrame(
        [
            (symbol, day, START_NS + (24 * i + 23) * HOUR_NS, prices[symbol][0][24 * i + 23])
            for symbol in SYMBOLS
            for i, day in enumerate(DAYS)
        ],
        schema=MARKS,
        orient="row",
    )
    equity = equity_curve(
        trades, marks, held, capital=CAPITAL, contracts=dict.fromkeys(SYMBOLS, COSTS)
    )
    lows = session_lows(with_facts(trades, FACTS), equity, capital=CAPITAL)
    assert lows.height == equity.height
    return equity.join(lows, on=["session_date", "symbol"], maintain_order="left")


def walked(trades, prices, symbols):
    """The lowest equity of each session, hour by hour, of the closed trades."""
    lows = [CAPITAL] * 3
    for hour in range(N_HOURS):
        now = START_NS + hour * HOUR_NS
        equity = CAPITAL
        for trade in trades.rows(named=True):
            if trade["symbol"] not in symbols:
                continue
            entry, leave = (
                int(trade[name].timestamp()) * 10**9 for name in ("entry_time", "exit_time")
            )
            if leave <= now:
                equity += trade["net_usd"]
            elif entry <= now:
                equity += prices[trade["symbol"]][1][hour] - trade["entry_price"] - 1.5
        i = session_of(hour)
        lows[i] = min(lows[i], equity) if hour % 24 else equity
    return lows


@given(books())
def test_no_hour_lies_below_the_low_of_its_session(book):
    trades, _, prices = book
    found = lows_of(trades, [], prices)
    for symbols in (("ES",), ("NQ",), SYMBOLS):
        name = TOTAL if len(symbols) > 1 else symbols[0]
        lows = found.filter(symbol=name)["low_usd"].to_list()
        for low, real in zip(lows, walked(trades, prices, symbols), strict=True):
            assert low <= real + 1e-9


@given(books())
def test_the_low_is_never_above_the_close(book):
    found = lows_of(*book)
    assert (found["low_usd"] <= found["equity_usd"]).all()


@given(books())
def test_a_position_never_left_counts_as_at_the_close_before(book):
    trades, held, prices = book
    with_it, without = (lows_of(trades, each, prices) for each in (held, []))
    for name in (*SYMBOLS, TOTAL):
        mine, plain = (each.filter(symbol=name) for each in (with_it, without))
        still = (mine["open_usd"] - plain["open_usd"]).to_list()
        expected = [
            min(low + before, close)
            for low, before, close in zip(
                plain["low_usd"], [0.0, *still], mine["equity_usd"], strict=False
            )
        ]
        assert mine["low_usd"].to_list() == pytest.approx(expected)


def test_a_trade_within_a_session_is_at_its_worst_once():
    rows = [
        {"entry_time": instant(START_NS + 2 * HOUR_NS), "exit_time": instant(START_NS + 5 * HOUR_NS),
         "gross_usd": 8.0, "commission_usd": 1.0, "slippage_usd": 0.5, "net_usd": 6.5, "mae_usd": -7.0},
        {"entry_time": instant(START_NS + 30 * HOUR_NS), "exit_time": instant(START_NS + 33 * HOUR_NS),
         "gross_usd": -2.0, "commission_usd": 1.0, "slippage_usd": 0.5, "net_usd": -3.5, "mae_usd": -4.0},
    ]  # fmt: skip
    prices = {symbol: (np.full(N_HOURS + 1, 100.0), None) for symbol in SYMBOLS}
    found = lows_of(trade_frame(rows), [], prices).filter(symbol=TOTAL)
    # 1,000 - 7 - 1.50; then 1,006.50 - 4 - 1.50; then nothing below the close of 1,003.
    assert found["low_usd"].to_list() == [991.5, 1_001.0, 1_003.0]


@pytest.mark.parametrize(
    ("reason", "low"),
    [
        ("ibs", 990.0),  # out at the open, at 997.50: then the other falls by 6 and costs 1.50
        ("protective_stop", 986.0),  # within the minute: 6.50 and 7.50 at once
    ],
)
def test_what_is_bought_in_the_minute_of_an_exit_is_held_with_what_is_stopped_in_it(reason, low):
    first, shared, last = (instant(START_NS + hour * HOUR_NS) for hour in (2, 5, 6))
    plain = {"commission_usd": 1.0, "slippage_usd": 0.5}
    rows = [
        plain | {"symbol": "ES", "entry_time": first, "exit_time": shared, "exit_reason": reason,
                 "gross_usd": -1.0, "net_usd": -2.5, "mae_usd": -5.0},
        plain | {"symbol": "NQ", "entry_time": shared, "exit_time": last, "gross_usd": 3.0,
                 "net_usd": 1.5, "mae_usd": -6.0},
    ]  # fmt: skip
    prices = {symbol: (np.full(N_HOURS + 1, 100.0), None) for symbol in SYMBOLS}
    found = lows_of(trade_frame(rows), [], prices).filter(symbol=TOTAL)
    assert found["low_usd"][0] == low


def test_no_session_has_no_low():
    empty = equity_curve(
        trade_frame([]), pl.DataFrame(schema=MARKS), [], capital=CAPITAL, contracts={}
    )
    assert session_lows(with_facts(trade_frame([]), {}), empty, capital=CAPITAL).height == 0
