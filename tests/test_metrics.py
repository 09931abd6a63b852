"""Every statistic against a case worked by hand."""

import json
import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import dates, sample_run, trade_frame

from ibs_core.report.definitions import GROUPS, format_value
from ibs_core.report.metrics import METRICS, compute
from ibs_core.report.run import EQUITY

CAPITAL = 10_000.0
TICK_VALUES = {"ES": 12.5, "NQ": 5.0}


def at(day, hour=12):
    return datetime(2025, 1, day, hour, tzinfo=UTC)


def equity_frame(values, first="2025-01-02", symbol="TOTAL"):
    """Daily equities, all realised, save the last session's open P&L of 5 USD."""
    n_days = len(values)
    return pl.DataFrame(
        {
            "session_date": dates(first, n_days),
            "symbol": [symbol] * n_days,
            "realised_usd": [value - CAPITAL for value in values],
            "open_usd": [0.0] * (n_days - 1) + [5.0] if n_days else [],
            "equity_usd": values,
        },
        schema=EQUITY,
    )


# Gross 300, -100, 0, -40, 90: each pays 4 of commission and 6 of slippage.
FIVE = [
    {"entry_time": at(2, 6), "exit_time": at(2, 12), "gross_usd": 300.0, "net_usd": 290.0,
     "exit_reason": "target", "bars_held": 6, "mae_usd": -10.0, "mfe_usd": 320.0},
    {"entry_time": at(3, 6), "exit_time": at(3, 8), "gross_usd": -100.0, "net_usd": -110.0,
     "exit_reason": "stop", "bars_held": 2, "mae_usd": -130.0, "mfe_usd": 0.0},
    {"entry_time": at(3, 10), "exit_time": at(3, 14), "gross_usd": 0.0, "net_usd": -10.0,
     "exit_reason": "ibs", "bars_held": 4, "mae_usd": -40.0, "mfe_usd": 20.0},
    {"entry_time": at(4, 6), "exit_time": at(4, 10), "gross_usd": -40.0, "net_usd": -50.0,
     "exit_reason": "ibs", "bars_held": 4, "mae_usd": -60.0, "mfe_usd": 5.0},
    {"entry_time": at(4, 12), "exit_time": at(4, 14), "gross_usd": 90.0, "net_usd": 80.0,
     "exit_reason": "ibs", "bars_held": 2, "mae_usd": -10.0, "mfe_usd": 105.0},
]  # fmt: skip
FIVE_EQUITY = [10_290.0, 10_170.0, 10_205.0]  # the last holds 5 of open P&L


def five_trades():
    rows = [row | {"commission_usd": 4.0, "slippage_usd": 6.0} for row in FIVE]
    return compute(
        trade_frame(rows), equity_frame(FIVE_EQUITY), capital=CAPITAL, tick_values=TICK_VALUES
    )


HAND_WORKED = {
    "trades": 5,
    "wins": 2,
    "losses": 3,
    "win_rate": 0.4,
    "gross_usd": 250.0,
    "commission_usd": 20.0,
    "slippage_usd": 30.0,
    "net_usd": 200.0,
    "profit_factor": 370 / 170,
    "expectancy_usd": 40.0,
    "average_win_usd": 185.0,
    "average_loss_usd": -170 / 3,
    "payoff": 185 / (170 / 3),
    "best_usd": 290.0,
    "worst_usd": -110.0,
    "average_bars_held": 3.6,
    "average_mae_usd": -50.0,
    "average_mfe_usd": 90.0,
    "longest_losing_run": 3,
    "cost_share": 50 / 250,
    "break_even_ticks": (250 - 20) / (5 * 2 * 12.5),
    "open_usd": 5.0,
    "final_equity_usd": 10_205.0,
    "return_on_capital": 0.0205,
    "max_drawdown_usd": 120.0,
    "max_drawdown_of_capital": 0.012,
    "max_drawdown_of_peak": 120 / 10_290,
    "max_drawdown_days": 2,  # from 2 January to the end, 4 January
    "return_over_drawdown": 205 / 120,
    "time_in_market": 18 / 72,
    "sessions": 3,
    "cagr": None,
    "sharpe": None,
    "sortino": None,
}


@pytest.mark.parametrize("key", [metric.key for metric in METRICS])
def test_a_statistic_equals_its_hand_worked_value(key):
    expected = HAND_WORKED[key]
    found = five_trades()["total"][key]
    assert found == (expected if expected is None else pytest.approx(expected, rel=1e-12))


def test_every_statistic_has_a_group_a_label_and_a_definition_of_its_own():
    for field in ("key", "label", "definition"):
        assert len({getattr(metric, field) for metric in METRICS}) == len(METRICS)
    assert {metric.group for metric in METRICS} == set(GROUPS)
    assert all(metric.definition.endswith(".") for metric in METRICS)


def test_exit_reasons_are_counted_in_the_order_of_the_rules():
    rows = five_trades()["by_exit_reason"]
    assert [row["reason"] for row in rows] == ["stop", "target", "ibs"]
    assert rows[2] == {
        "reason": "ibs", "trades": 3, "wins": 1, "win_rate": 1 / 3, "net_usd": 20.0,
        "average_usd": pytest.approx(20 / 3),
    }  # fmt: skip


def test_months_add_up_to_the_change_of_equity():
    equity = equity_frame([10_100.0, 10_050.0, 10_400.0, 10_300.0], first="2025-01-30")
    stats = compute(trade_frame([]), equity, capital=CAPITAL, tick_values={})
    assert stats["monthly"]["TOTAL"] == [
        {"month": "2025-01", "net_usd": 50.0},
        {"month": "2025-02", "net_usd": 250.0},
    ]
    assert (stats["first_session"], stats["last_session"]) == ("2025-01-30", "2025-02-02")


def alternating(n_sessions):
    """Rises of 30 and falls of 10 by turns."""
    level, values = CAPITAL, []
    for i in range(n_sessions):
        level += 30.0 if i % 2 == 0 else -10.0
        values.append(level)
    return values


def total_of(values):
    return compute(trade_frame([]), equity_frame(values), capital=CAPITAL, tick_values={})["total"]


def test_sharpe_is_the_mean_over_the_sample_deviation_of_session_changes():
    # Mean 10, every deviation 20: sample variance 20 * 400 / 19.
    expected = 10 / math.sqrt(20 * 400 / 19) * math.sqrt(252)
    assert total_of(alternating(20))["sharpe"] == pytest.approx(expected)


def test_sortino_divides_by_the_root_mean_square_of_the_falls():
    expected = 10 / math.sqrt(10 * 100 / 20) * math.sqrt(252)
    assert total_of(alternating(20))["sortino"] == pytest.approx(expected)


def test_cagr_counts_calendar_days_of_both_ends():
    expected = (10_200 / 10_000) ** (365.25 / 20) - 1
    assert total_of(alternating(20))["cagr"] == pytest.approx(expected)


def test_nothing_is_annualised_below_twenty_sessions():
    total = total_of(alternating(19))
    assert (total["sharpe"], total["sortino"], total["cagr"]) == (None, None, None)


def test_equal_changes_have_no_sharpe_ratio_despite_rounding():
    assert total_of([CAPITAL + 0.1 * (i + 1) for i in range(30)])["sharpe"] is None


def test_a_flat_curve_has_no_ratio_and_no_drawdown():
    total = total_of([CAPITAL] * 30)
    assert (total["sharpe"], total["sortino"], total["return_over_drawdown"]) == (None,) * 3
    assert (total["max_drawdown_usd"], total["max_drawdown_days"], total["cagr"]) == (0.0, 0, 0.0)


def test_a_loss_of_more_than_the_capital_has_no_cagr():
    assert total_of([CAPITAL - 1_000.0 * i for i in range(1, 25)])["cagr"] is None


@pytest.mark.parametrize(
    ("values", "days"),
    [
        ([10_000, 9_900, 9_950, 10_000, 10_100], 3),  # regained on the fourth day
        ([9_900, 9_950], 1),  # below the stated capital from the first day on
        ([10_100, 10_200, 10_300], 0),
        ([10_100, 10_000, 10_200, 10_100, 10_150, 10_120], 3),  # the second lasts to the end
    ],
)
def test_a_drawdown_lasts_from_its_peak_to_the_session_that_regains_it(values, days):
    assert total_of([float(value) for value in values])["max_drawdown_days"] == days


def test_overlapping_positions_count_once_in_time_in_market():
    rows = [
        {"entry_time": at(2, 0), "exit_time": at(2, 12), "symbol": "ES"},
        {"entry_time": at(2, 2), "exit_time": at(2, 4), "symbol": "NQ"},
        {"entry_time": at(2, 6), "exit_time": at(2, 18), "symbol": "NQ"},
    ]
    equity = equity_frame([CAPITAL, CAPITAL])
    stats = compute(trade_frame(rows), equity, capital=CAPITAL, tick_values=TICK_VALUES)
    assert stats["total"]["time_in_market"] == pytest.approx(18 / 48)


def test_no_trades_and_no_sessions_leave_every_ratio_undefined():
    stats = compute(trade_frame([]), equity_frame([]), capital=CAPITAL, tick_values={})
    assert stats["total"]["trades"] == 0
    assert stats["total"]["win_rate"] is None
    assert stats["total"]["final_equity_usd"] == CAPITAL
    json.dumps(stats, allow_nan=False)


def test_symbols_add_up_to_the_total():
    stats = sample_run().stats
    for key in ("trades", "net_usd", "commission_usd", "slippage_usd", "open_usd"):
        parts = [block[key] for block in stats["by_symbol"].values()]
        assert math.fsum(parts) == pytest.approx(stats["total"][key])
    assert list(stats["by_symbol"]) == ["ES", "NQ", "GC"]


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.lists(st.floats(1.0, 1e9), max_size=30))
@settings(max_examples=60, deadline=None)
def test_statistics_are_always_json_values(nets, values):
    rows = [{"entry_time": at(2), "exit_time": at(3), "net_usd": net} for net in nets]
    stats = compute(
        trade_frame(rows), equity_frame(values), capital=CAPITAL, tick_values=TICK_VALUES
    )
    json.dumps(stats, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.5, "usd", "$1,234"),
        (-1234.56, "usd", "\N{MINUS SIGN}$1,235"),
        (-12.345, "usd", "\N{MINUS SIGN}$12.35"),
        (-0.001, "usd", "$0.00"),
        (0.0, "usd", "$0"),
        (0.1234, "percent", "12.3%"),
        (-0.0001, "percent", "0.0%"),
        (None, "ratio", "\N{EN DASH}"),
        (1500, "count", "1,500"),
        (2.5, "ticks", "2.50 ticks"),
    ],
)
def test_a_value_is_printed_in_its_unit(value, unit, text):
    assert format_value(value, unit) == text
