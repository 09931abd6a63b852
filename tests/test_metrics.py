"""Every statistic against a case worked by hand."""

import json
import math
from datetime import UTC, datetime
from statistics import NormalDist

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import FACTS, dates, sample_run, trade_frame

from ibs_core.report.definitions import GROUPS, SOURCES, format_value
from ibs_core.report.metrics import METRICS, Trials, compute
from ibs_core.report.run import EQUITY

CAPITAL = 10_000.0


def at(day, hour=12):
    return datetime(2025, 1, day, hour, tzinfo=UTC)


def equity_frame(values, first="2025-01-14", symbol="TOTAL"):
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


# Gross 300, -100, 0, -40, 90: each pays 4 of commission and 6 of slippage. One ES at 100 is worth 5,000.
FIVE = [
    {"entry_time": at(14, 6), "exit_time": at(14, 12), "gross_usd": 300.0, "net_usd": 290.0,
     "exit_reason": "target", "bars_held": 6, "mae_usd": -10.0, "mfe_usd": 320.0},
    {"entry_time": at(15, 6), "exit_time": at(15, 8), "gross_usd": -100.0, "net_usd": -110.0,
     "exit_reason": "stop", "bars_held": 2, "mae_usd": -130.0, "mfe_usd": 0.0},
    {"entry_time": at(15, 10), "exit_time": at(15, 14), "gross_usd": 0.0, "net_usd": -10.0,
     "exit_reason": "ibs", "bars_held": 4, "mae_usd": -40.0, "mfe_usd": 20.0},
    {"entry_time": at(16, 6), "exit_time": at(16, 10), "gross_usd": -40.0, "net_usd": -50.0,
     "exit_reason": "ibs", "bars_held": 4, "mae_usd": -60.0, "mfe_usd": 5.0},
    {"entry_time": at(16, 12), "exit_time": at(16, 14), "gross_usd": 90.0, "net_usd": 80.0,
     "exit_reason": "ibs", "bars_held": 2, "mae_usd": -10.0, "mfe_usd": 105.0},
]  # fmt: skip
FIVE_EQUITY = [10_290.0, 10_170.0, 10_205.0]  # the last holds 5 of open P&L


def five_trades():
    rows = [row | {"commission_usd": 4.0, "slippage_usd": 6.0} for row in FIVE]
    return compute(trade_frame(rows), equity_frame(FIVE_EQUITY), capital=CAPITAL, symbols=FACTS)


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
    "max_drawdown_days": 2,  # from the 14th to the end, the 16th
    # At their worst, costs included: 9,980 on the 14th, 10,150 and 10,130 on the 15th, 10,100 on the 16th;
    # the highest close before is 10,290.
    "max_drawdown_intrabar_usd": 190.0,
    "max_drawdown_intrabar_of_capital": 0.019,
    "max_drawdown_intrabar_of_peak": 190 / 10_290,
    "recovery_days": None,
    "ulcer": math.sqrt((0 + 120**2 + 85**2) / 3) / 10_290,
    "best_session_usd": 290.0,
    "worst_session_usd": -120.0,
    "session_deviation_usd": None,
    "return_over_drawdown": 205 / 120,
    "time_in_market": 18 / 72,
    "exposure": (5_000 * 18) / (10_000 * 72),
    "average_hours_held": 18 / 5,
    "median_hours_held": 4.0,  # of 2, 2, 4, 4, 6
    "longest_winning_run": 1,
    "turnover": None,
    "worst_mae_usd": -130.0,
    "vetoed": None,
    "vetoed_net_usd": None,
    "sessions": 3,
    "cagr": None,
    "sharpe": None,
    "sortino": None,
    "calmar": None,
    "psr": None,
    "dsr": None,
}
UNDEFINED = {
    **dict.fromkeys(
        ("cagr", "sharpe", "sortino", "calmar", "psr", "session_deviation_usd", "turnover"),
        "fewer than 20 sessions",
    ),
    "dsr": "fewer than 20 sessions",
    "recovery_days": "not recovered",
    "vetoed": "no model, or what it learnt from",
    "vetoed_net_usd": "no model, or what it learnt from",
}


@pytest.mark.parametrize("key", [metric.key for metric in METRICS])
def test_a_statistic_equals_its_hand_worked_value(key):
    expected = HAND_WORKED[key]
    found = five_trades()["total"][key]
    assert found == (expected if expected is None else pytest.approx(expected, rel=1e-12))


def test_what_has_no_number_says_why():
    assert five_trades()["total"]["undefined"] == UNDEFINED


def test_every_statistic_has_a_group_a_label_and_a_definition_of_its_own():
    for field in ("key", "label", "definition"):
        assert len({getattr(metric, field) for metric in METRICS}) == len(METRICS)
    assert {metric.group for metric in METRICS} == set(GROUPS)
    assert all(metric.definition.endswith(".") for metric in METRICS)
    assert {metric.source for metric in METRICS} == {"", *SOURCES}


def test_exit_reasons_are_counted_in_the_order_of_the_rules():
    rows = five_trades()["by_exit_reason"]
    assert [row["reason"] for row in rows] == ["stop", "target", "ibs"]
    assert rows[2] == {
        "reason": "ibs", "trades": 3, "wins": 1, "win_rate": 1 / 3, "net_usd": 20.0,
        "average_usd": pytest.approx(20 / 3),
    }  # fmt: skip


def test_months_add_up_to_the_change_of_equity():
    equity = equity_frame([10_100.0, 10_050.0, 10_400.0, 10_300.0], first="2025-01-30")
    stats = compute(trade_frame([]), equity, capital=CAPITAL, symbols={})
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
    return compute(trade_frame([]), equity_frame(values), capital=CAPITAL, symbols={})["total"]


def test_sharpe_is_the_mean_over_the_sample_deviation_of_session_changes():
    # Mean 10, every deviation 20: sample variance 20 * 400 / 19.
    expected = 10 / math.sqrt(20 * 400 / 19) * math.sqrt(252)
    assert total_of(alternating(20))["sharpe"] == pytest.approx(expected)


def test_sortino_divides_by_the_root_mean_square_of_the_falls():
    expected = 10 / math.sqrt(10 * 100 / 20) * math.sqrt(252)
    assert total_of(alternating(20))["sortino"] == pytest.approx(expected)


def test_calmar_divides_the_growth_a_year_by_the_deepest_fall():
    growth = (10_200 / 10_000) ** (365.25 / 20) - 1
    # The first fall, from 10,030 to 10,020, is the deepest share of its peak.
    assert total_of(alternating(20))["calmar"] == pytest.approx(growth / (10 / 10_030))


# Of the changes 30 and -10: per session, no skewness, kurtosis 1, so that the root in the formula is 1.
SHARPE = 10 / math.sqrt(20 * 400 / 19)


def test_the_probabilistic_sharpe_ratio_is_that_of_the_changes_of_equity():
    expected = NormalDist().cdf(SHARPE * math.sqrt(19))  # Φ(2.124) = 0.983
    assert total_of(alternating(20))["psr"] == pytest.approx(expected)


def test_the_deflated_sharpe_ratio_asks_for_more_than_the_best_of_the_trials():
    quantile = NormalDist().inv_cdf
    c = 0.5772156649015329
    # Of 100 trials without skill and a deviation of 0.1 the best has 0.1 * 2.531 a session: Φ(1.021) = 0.846.
    best = 0.1 * ((1 - c) * quantile(1 - 1 / 100) + c * quantile(1 - 1 / (100 * math.e)))
    expected = NormalDist().cdf((SHARPE - best) * math.sqrt(19))
    equity = equity_frame(alternating(20))
    stats = compute(
        trade_frame([]), equity, capital=CAPITAL, symbols={}, trials=Trials(100, 0.1**2)
    )
    assert stats["total"]["dsr"] == pytest.approx(expected)
    assert expected == pytest.approx(0.846, abs=5e-4)


def test_a_ratio_without_trials_is_not_deflated():
    total = total_of(alternating(20))
    assert total["dsr"] is None
    assert total["undefined"]["dsr"] == "the number of trials is not known"


def test_the_deviation_of_sessions_is_that_of_the_sample():
    expected = math.sqrt(20 * 400 / 19)
    assert total_of(alternating(20))["session_deviation_usd"] == pytest.approx(expected)


def test_turnover_counts_what_was_bought_a_year():
    rows = [{"entry_time": at(14), "exit_time": at(15), "entry_price": 80.0, "quantity": 2}]
    stats = compute(
        trade_frame(rows), equity_frame(alternating(20)), capital=CAPITAL, symbols=FACTS
    )
    # 2 * 80 * 50 = 8,000 on 10,000 in 20 days.
    assert stats["total"]["turnover"] == pytest.approx(0.8 * 365.25 / 20)


def test_the_ulcer_index_is_the_root_mean_square_of_the_falls():
    # 1 % below the capital, level, 2 % below.
    expected = math.sqrt((0.01**2 + 0.02**2) / 3)
    assert total_of([9_900.0, 10_000.0, 9_800.0])["ulcer"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "days"),
    [
        ([10_100, 10_000, 10_050, 10_100, 10_050], 2),  # the second session to the fourth
        ([9_900, 10_000, 9_900, 9_950], 1),  # of equals the first
        ([10_100, 10_000, 10_099], "not recovered"),
        ([10_100, 10_200], "no drawdown"),
    ],
)
def test_recovery_lasts_from_the_deepest_close_to_that_which_regains_its_peak(values, days):
    total = total_of([float(value) for value in values])
    assert (total["recovery_days"] or total["undefined"]["recovery_days"]) == days


def test_winning_and_losing_runs_are_counted_in_order_of_exit():
    nets = [5.0, -1.0, 3.0, 2.0, 0.0, 4.0, -2.0, -3.0, -1.0]
    rows = [
        {"entry_time": at(14, 1), "exit_time": at(14, 2 + i), "net_usd": net}
        for i, net in enumerate(nets)
    ]
    stats = compute(
        trade_frame(rows[::2] + rows[1::2]), equity_frame([CAPITAL]), capital=CAPITAL, symbols=FACTS
    )
    total = stats["total"]
    assert (total["longest_winning_run"], total["longest_losing_run"]) == (2, 3)


def test_the_vetoed_are_summed_for_each_symbol():
    vetoed = pl.DataFrame({"symbol": ["ES", "NQ", "ES"], "net_usd": [-50.0, 20.0, 10.0]})
    equity = pl.concat(equity_frame([CAPITAL], symbol=each) for each in ("ES", "NQ", "TOTAL"))
    stats = compute(trade_frame([]), equity, capital=CAPITAL, symbols=FACTS, vetoed=vetoed)
    blocks = (stats["total"], *stats["by_symbol"].values())
    assert [(each["vetoed"], each["vetoed_net_usd"]) for each in blocks] == [
        (3, -20.0), (2, -40.0), (1, 20.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nets", "reasons"),
    [
        ([], {"win_rate": "no trade", "profit_factor": "no trade", "cost_share": "no trade",
              "payoff": "no winning trade", "average_hours_held": "no trade"}),
        ([5.0], {"profit_factor": "no losing trade", "payoff": "no losing trade"}),
        ([-5.0], {"payoff": "no winning trade", "cost_share": "gross profit is not above 0"}),
        ([0.0], {"profit_factor": "no losing trade", "average_win_usd": "no winning trade"}),
    ],
)  # fmt: skip
def test_no_trade_or_one_leaves_ratios_undefined_and_says_why(nets, reasons):
    rows = [
        {"entry_time": at(14), "exit_time": at(15), "net_usd": net, "gross_usd": net}
        for net in nets
    ]
    total = compute(trade_frame(rows), equity_frame([CAPITAL]), capital=CAPITAL, symbols=FACTS)[
        "total"
    ]
    assert reasons.items() <= total["undefined"].items()
    assert (total["trades"], total["expectancy_usd"]) == (len(nets), nets[0] if nets else None)


def test_a_ratio_too_large_for_a_number_is_undefined_and_zero_has_no_sign():
    rows = [
        {"entry_time": at(14), "exit_time": at(15), "net_usd": net} for net in (5.0, -5e-324, -0.0)
    ]
    blocks = [
        compute(trade_frame(part), equity_frame([CAPITAL]), capital=CAPITAL, symbols=FACTS)["total"]
        for part in (rows, rows[2:])
    ]
    assert blocks[0]["profit_factor"] is None
    assert blocks[0]["undefined"]["profit_factor"] == "too large for a number"
    assert str(blocks[1]["worst_usd"]) == "0.0"


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
        {"entry_time": at(14, 0), "exit_time": at(14, 12), "symbol": "ES"},
        {"entry_time": at(14, 2), "exit_time": at(14, 4), "symbol": "NQ"},
        {"entry_time": at(14, 6), "exit_time": at(14, 18), "symbol": "NQ"},
    ]
    equity = equity_frame([CAPITAL, CAPITAL])
    stats = compute(trade_frame(rows), equity, capital=CAPITAL, symbols=FACTS)
    assert stats["total"]["time_in_market"] == pytest.approx(18 / 48)


def test_no_trades_and_no_sessions_leave_every_ratio_undefined():
    stats = compute(trade_frame([]), equity_frame([]), capital=CAPITAL, symbols={})
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
    rows = [{"entry_time": at(14), "exit_time": at(15), "net_usd": net} for net in nets]
    stats = compute(trade_frame(rows), equity_frame(values), capital=CAPITAL, symbols=FACTS)
    json.dumps(stats, allow_nan=False)
    total = stats["total"]
    missing = {metric.key for metric in METRICS if total[metric.key] is None}
    assert missing == total["undefined"].keys()
    assert all(total["undefined"].values())


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
        (26.25, "hours", "26.2 h"),
    ],
)
def test_a_value_is_printed_in_its_unit(value, unit, text):
    assert format_value(value, unit) == text
