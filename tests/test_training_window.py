"""What a model was trained on, divided from the rest by a plain loop and by hand."""

import itertools
import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import instant, trade_frame
from test_equity import CAPITAL, CONTRACTS, DAY_NS, START_NS, books, mark_rows

from ibs_core.report.equity import MARKS, OpenPosition, equity_curve, value_open_positions
from ibs_core.report.training_window import Account, divide, inside, spelt_instant, windows_of

HOUR_NS = 3_600_000_000_000
HOURS = st.integers(-30, 24 * 9)


def ns(time):
    return int(time.timestamp()) * 10**9


def touches(entry, leave, window):
    return any(window[0] <= instant <= window[1] for instant in (entry, leave)) or (
        entry < window[0] and window[1] < leave
    )


@st.composite
def windows(draw):
    pairs = {root: sorted((draw(HOURS), draw(HOURS))) for root in CONTRACTS}
    return {root: tuple(START_NS + each * HOUR_NS for each in pair) for root, pair in pairs.items()}


def first_entries(trades, held):
    rows = [(row["symbol"], ns(row["entry_time"])) for row in trades.rows(named=True)]
    rows += [(each.symbol, each.entry_time_ns) for each in held]
    return dict(sorted(rows, key=lambda row: -row[1]))


@given(books(), windows())
@settings(max_examples=200, deadline=None)
def test_every_trade_is_on_one_side_and_keeps_its_money(book, of):
    trades, marks, held = book
    outside, within = divide(Account(trades, marks, held), of, first_entries(trades, held))

    seen = [
        touches(ns(row["entry_time"]), ns(row["exit_time"]), of[row["symbol"]])
        for row in trades.rows(named=True)
    ]
    assert inside(trades, of).to_list() == seen
    assert within.trades.equals(trades.filter(pl.Series(seen, dtype=pl.Boolean)))
    assert outside.trades.height + within.trades.height == trades.height
    assert sorted(map(repr, outside.held + within.held)) == sorted(map(repr, held))
    for part in (outside, within):
        curve = equity_curve(
            part.trades, part.marks, part.held, capital=CAPITAL, contracts=CONTRACTS
        )
        if part.empty:
            assert set(curve["equity_usd"]) <= {CAPITAL}
        else:
            realised = curve.filter(symbol="TOTAL")["realised_usd"][-1]
            assert realised == pytest.approx(math.fsum(part.trades["net_usd"]), abs=1e-6)


@given(books(), windows())
@settings(max_examples=200, deadline=None)
def test_no_session_outside_shows_money_of_a_trade_inside(book, of):
    trades, marks, held = book
    account = Account(trades, marks, held)
    outside, _ = divide(account, of, first_entries(trades, held))
    for root in CONTRACTS:
        kept = set(outside.of(root).marks["close_ns"])
        closes = account.of(root).marks["close_ns"].to_list()
        for before, close in itertools.pairwise(closes[:-1]):
            wholly = of[root][0] <= before and close <= of[root][1]
            assert not (wholly and close in kept)
            if close > of[root][1]:
                assert close in kept
    curve, whole = (
        equity_curve(part.trades, part.marks, part.held, capital=CAPITAL, contracts=CONTRACTS)
        for part in (outside, account)
    )
    assert set(curve["session_date"]) <= set(whole["session_date"])


def account_of(rows, held=(), n_sessions=10):
    """Sessions of ES that close at noon of 2 January and of the days after it."""
    marks = pl.DataFrame(mark_rows("ES", n_sessions), schema=MARKS, orient="row")
    return Account(trade_frame(rows), marks, list(held))


def trade(entry_day, leave_day, net=100.0):
    return {
        "entry_time": instant(START_NS + round(entry_day * DAY_NS)),
        "exit_time": instant(START_NS + round(leave_day * DAY_NS)),
        "net_usd": net,
    }


def days_of(account):
    return [day.day - 2 for day in account.marks["session_date"]]


def at(day):
    return START_NS + round(day * DAY_NS)


def test_both_ends_of_a_window_and_of_a_trade_are_included():
    account = account_of([trade(1, 2), trade(2.01, 3), trade(5, 6), trade(6.01, 7)])
    assert inside(account.trades, {"ES": (at(2), at(6))}).to_list() == [True, True, True, False]
    assert inside(account.trades, {"ES": (at(3), at(5))}).to_list() == [False, True, True, False]


def test_only_sessions_that_lie_wholly_in_the_window_are_left_out():
    # Sessions close at n + 0.5; the window begins in session 3 and ends in session 6.
    outside, within = divide(account_of([]), {"ES": (at(3), at(6))}, {"ES": at(0)})
    assert days_of(outside) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert days_of(within) == [3, 4, 5, 6]
    outside, _ = divide(account_of([]), {"ES": (at(2.5), at(5.5))}, {"ES": at(0)})
    assert days_of(outside) == [0, 1, 2, 6, 7, 8, 9]


def test_a_trade_over_an_end_of_the_window_is_inside_with_all_its_sessions():
    outside, within = divide(
        account_of([trade(1, 3.4), trade(5.8, 8)]), {"ES": (at(3), at(6))}, {"ES": at(0.6)}
    )
    assert outside.trades.is_empty()
    assert within.trades.height == 2
    assert days_of(outside) == [1, 2, 3, 6, 7, 8, 9]
    assert days_of(within) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_sessions_before_the_first_candidate_are_warm_up_where_a_window_follows():
    window = {"ES": (at(4.7), at(6))}
    assert days_of(divide(account_of([]), window, {"ES": at(2)})[0]) == [2, 3, 4, 5, 6, 7, 8, 9]
    for later in ({"ES": at(5)}, {}):
        assert days_of(divide(account_of([]), window, later)[0]) == [6, 7, 8, 9]
    beyond = {"ES": (at(20), at(30))}
    assert days_of(divide(account_of([]), beyond, {})[0]) == list(range(10))


@pytest.mark.parametrize(("entry", "is_inside"), [(1, True), (5, True), (7, False)])
def test_an_open_position_is_held_until_the_end(entry, is_inside):
    held = OpenPosition("ES", "ESH2025", 1, at(entry), 100.0)
    outside, within = divide(account_of([], [held]), {"ES": (at(3), at(6))}, {"ES": at(0.6)})
    assert (within.held, outside.held) == (([held], []) if is_inside else ([], [held]))
    if is_inside:
        assert days_of(within)[-1] == 9
        curve = equity_curve(
            within.trades, within.marks, within.held, capital=CAPITAL, contracts=CONTRACTS
        )
        (told,) = value_open_positions([held], within.marks, CONTRACTS)
        assert curve["open_usd"][-1] == told["open_usd"]


def test_a_portfolio_counts_the_sessions_that_count_for_any_symbol():
    marks = [*mark_rows("ES", 6), *mark_rows("NQ", 6)]
    account = Account(trade_frame([]), pl.DataFrame(marks, schema=MARKS, orient="row"), [])
    outside, _ = divide(
        account, {"ES": (at(-2), at(4)), "NQ": (at(-2), at(2))}, dict.fromkeys(CONTRACTS, at(0))
    )
    curve = equity_curve(outside.trades, outside.marks, [], capital=CAPITAL, contracts=CONTRACTS)
    days = {
        root: [day.day - 2 for day in own["session_date"]]
        for (root,), own in curve.group_by("symbol")
    }
    assert days == {"ES": [4, 5], "NQ": [2, 3, 4, 5], "TOTAL": [2, 3, 4, 5]}


def test_windows_are_read_back_from_the_statistics_to_the_nanosecond():
    first, last = at(1) + 1, at(2) + 123_456_789
    windows = {
        "ES": {"first_decision": spelt_instant(first), "last_label_end": spelt_instant(last)}
    }
    assert windows_of({"training_windows": windows, "inside_training": {}}) == {"ES": (first, last)}
    assert windows_of({"training_windows": windows}) == {}
    assert windows_of({}) == {}
