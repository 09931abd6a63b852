"""The equity curve against a plain loop, and its conservation law."""

import math
from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import dates, instant, trade_frame

from ibs_core.report.equity import (
    MARKS,
    OpenPosition,
    PointCosts,
    equity_curve,
    value_open_positions,
)
from ibs_core.report.run import EQUITY

CAPITAL = 50_000.0
CONTRACTS = {
    "NQ": PointCosts(point_value_usd=20.0, commission_per_side_usd=1.3, slippage_per_fill_usd=2.5),
    "ES": PointCosts(point_value_usd=50.0, commission_per_side_usd=1.1, slippage_per_fill_usd=6.25),
}
DAY_NS = 86_400_000_000_000
START_NS = 1_735_776_000_000_000_000  # 2025-01-02


def naive_curve(trades, marks, still_open):
    """Each symbol and close by itself, written the slow way."""
    rows, sessions = [], {symbol: [] for symbol in CONTRACTS}
    for mark in sorted(marks.rows(named=True), key=lambda row: row["close_ns"]):
        sessions[mark["symbol"]].append(mark)
    lots = [
        (t["symbol"], int(t["entry_time"].timestamp()) * 10**9, int(t["exit_time"].timestamp()) * 10**9, t["entry_price"], t["quantity"], t["net_usd"])
        for t in trades.rows(named=True)
    ] + [(p.symbol, p.entry_time_ns, None, p.entry_price, p.quantity, 0.0) for p in still_open]  # fmt: skip
    for symbol, closes in sessions.items():
        costs = CONTRACTS[symbol]
        for i, close in enumerate(closes):
            is_last = i == len(closes) - 1
            realised = opened = 0.0
            for _, entry, leave, price, quantity, net in (x for x in lots if x[0] == symbol):
                if leave is not None and (is_last or leave < close["close_ns"]):
                    realised += net
                elif entry < close["close_ns"] or is_last:
                    opened += (close["mark"] - price) * quantity * costs.point_value_usd
                    opened -= 2 * quantity * costs.commission_per_side_usd
                    opened -= 2 * quantity * costs.slippage_per_fill_usd
            rows.append((close["session_date"], symbol, realised, opened))
    for day in sorted({row[0] for row in rows}):
        realised = opened = 0.0
        for symbol in CONTRACTS:
            past = [row for row in rows if row[1] == symbol and row[0] <= day]
            if past:
                realised, opened = realised + past[-1][2], opened + past[-1][3]
        rows.append((day, "TOTAL", realised, opened))
    order = [*CONTRACTS, "TOTAL"]
    rows.sort(key=lambda row: (row[0], order.index(row[1])))
    return [(*row, CAPITAL + row[2] + row[3]) for row in rows]


def mark_rows(symbol, n_sessions, skipped=()):
    return [
        (symbol, day, START_NS + i * DAY_NS + DAY_NS // 2, 100.0 + 0.25 * ((i * 7) % 11))
        for i, day in enumerate(dates("2025-01-02", n_sessions))
        if i not in skipped
    ]


@st.composite
def books(draw):
    marks, rows, still_open = [], [], []
    for symbol, costs in CONTRACTS.items():
        n_sessions = draw(st.integers(0, 6))
        skipped = draw(st.sets(st.integers(0, 5), max_size=2))
        own = mark_rows(symbol, n_sessions, skipped)
        marks += own
        hours = st.integers(0, 24 * 7)
        for _ in range(draw(st.integers(0, 6)) if own else 0):
            entry, leave = sorted((draw(hours), draw(hours)))
            price, quantity = draw(st.integers(380, 420)) / 4, draw(st.integers(1, 3))
            if draw(st.integers(0, 4)) == 0:
                entry_ns = START_NS + entry * 3_600_000_000_000
                still_open.append(OpenPosition(symbol, symbol, quantity, entry_ns, price))
                continue
            rows.append(
                {
                    "symbol": symbol,
                    "quantity": quantity,
                    "entry_time": instant(START_NS + entry * 3_600_000_000_000),
                    "exit_time": instant(START_NS + leave * 3_600_000_000_000),
                    "entry_price": price,
                    "commission_usd": 2 * quantity * costs.commission_per_side_usd,
                    "slippage_usd": 2 * quantity * costs.slippage_per_fill_usd,
                    "net_usd": draw(st.integers(-9_999, 9_999)) / 7,
                }
            )
    return trade_frame(rows), pl.DataFrame(marks, schema=MARKS, orient="row"), still_open


@given(books())
@settings(max_examples=150, deadline=None)
def test_the_curve_equals_a_plain_loop_over_sessions_and_trades(book):
    trades, marks, still_open = book

    curve = equity_curve(trades, marks, still_open, capital=CAPITAL, contracts=CONTRACTS)

    expected = naive_curve(trades, marks, still_open)
    assert curve.schema == EQUITY
    assert [row[:2] for row in curve.rows()] == [row[:2] for row in expected]
    for found, wanted in zip(curve.rows(), expected, strict=True):
        assert found[2:] == pytest.approx(wanted[2:], abs=1e-6)


@given(books())
@settings(max_examples=100, deadline=None)
def test_the_last_equity_is_capital_and_every_net_and_the_open_profit(book):
    trades, marks, still_open = book

    curve = equity_curve(trades, marks, still_open, capital=CAPITAL, contracts=CONTRACTS)

    opened = sum(p["open_usd"] for p in value_open_positions(still_open, marks, CONTRACTS))
    expected = CAPITAL + math.fsum(trades["net_usd"]) + opened
    if curve.height:
        assert curve["equity_usd"][-1] == pytest.approx(expected, abs=1e-6)


def curve_of(rows, still_open=(), n_sessions=3):
    marks = pl.DataFrame(mark_rows("ES", n_sessions), schema=MARKS, orient="row")
    curve = equity_curve(
        trade_frame(rows), marks, still_open, capital=CAPITAL, contracts={"ES": CONTRACTS["ES"]}
    )
    return curve.filter(symbol="ES")


def test_an_exit_at_the_instant_of_the_close_counts_on_the_next_session():
    close_ns = START_NS + DAY_NS // 2
    trade = {"entry_time": instant(START_NS), "exit_time": instant(close_ns), "net_usd": 80.0}

    curve = curve_of([trade])

    assert curve["realised_usd"].to_list() == [0.0, 80.0, 80.0]
    assert curve["open_usd"].to_list() == [0.0, 0.0, 0.0]  # marked at the entry price, no costs


def test_an_open_position_is_valued_net_of_both_sides():
    still_open = OpenPosition("ES", "ESH2025", 2, START_NS + DAY_NS, 101.0)

    curve = curve_of([], [still_open])

    # Gains 75 at the first mark and loses 25 at the second, each less 29.40 of costs.
    assert curve["open_usd"].to_list() == pytest.approx([0.0, 45.6, -54.4])
    assert curve["equity_usd"].to_list() == pytest.approx([50_000.0, 50_045.6, 49_945.6])


def test_what_follows_the_last_close_counts_at_the_last_close():
    late = instant(START_NS + 9 * DAY_NS)
    curve = curve_of([{"entry_time": late, "exit_time": late, "net_usd": -12.5}])
    assert curve["realised_usd"].to_list() == [0.0, 0.0, -12.5]


def test_a_symbol_on_holiday_keeps_its_last_value_in_the_total():
    marks = mark_rows("ES", 3) + mark_rows("NQ", 3, skipped=(1,))
    still_open = [OpenPosition("NQ", "NQH2025", 1, START_NS, 99.0)]

    curve = equity_curve(
        trade_frame([]),
        pl.DataFrame(marks, schema=MARKS, orient="row"),
        still_open,
        capital=CAPITAL,
        contracts=CONTRACTS,
    )

    assert curve.filter(session_date=date(2025, 1, 3))["symbol"].to_list() == ["ES", "TOTAL"]
    total = curve.filter(symbol="TOTAL")["open_usd"].to_list()
    assert total == pytest.approx([12.4, 12.4, 27.4])  # 20 or 35 less 7.60 of costs


def test_no_sessions_give_an_empty_table():
    marks = pl.DataFrame(schema=MARKS)
    curve = equity_curve(trade_frame([]), marks, [], capital=CAPITAL, contracts=CONTRACTS)
    assert curve.schema == EQUITY
    assert curve.height == 0


def test_an_open_position_is_listed_at_the_last_mark():
    marks = pl.DataFrame(mark_rows("ES", 2), schema=MARKS, orient="row")
    still_open = [OpenPosition("ES", "ESH2025", 1, START_NS, 100.0)]

    (listed,) = value_open_positions(still_open, marks, CONTRACTS)

    assert listed["mark"] == 101.75
    assert listed["open_usd"] == pytest.approx(1.75 * 50 - 2 * 1.1 - 2 * 6.25)
    assert listed["entry_time"] == "2025-01-02T00:00:00.000000000Z"
