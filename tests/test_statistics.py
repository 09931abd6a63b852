"""Statistics as laws, against a library where it defines them alike, and groups by the exchange's clock."""

import math
from datetime import UTC, datetime, timedelta

import empyrical
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import CAPITAL, FACTS, dates, instant, sample_run, trade_frame

from ibs_core.report.curve import session_pnl
from ibs_core.report.definitions import BY_KEY, METRICS, statistics_of
from ibs_core.report.groups import GROUPINGS
from ibs_core.report.metrics import compute
from ibs_core.report.run import EQUITY, TOTAL

USD = [metric.key for metric in METRICS if metric.unit == "usd"]
HOUR_NS = 3_600_000_000_000
TUESDAY_NS = 1_736_812_800_000_000_000  # 14 January 2025, 00:00 UTC: Monday 18:00 in Chicago


def curve_of(changes):
    """The portfolio's equity on consecutive days."""
    realised = np.cumsum(changes)
    return pl.DataFrame(
        {
            "session_date": dates("2020-01-01", len(changes)),
            "symbol": [TOTAL] * len(changes),
            "realised_usd": realised,
            "open_usd": np.zeros(len(changes)),
            "equity_usd": CAPITAL + realised,
        },
        schema=EQUITY,
    )


def statistics(trades, equity, capital=CAPITAL):
    return compute(trades, equity, capital=capital, symbols=FACTS)


@pytest.mark.parametrize("seed", range(4))
def test_ratios_equal_those_of_a_library_that_defines_them_alike(seed):
    n_days = 300
    changes = np.random.default_rng(seed).standard_t(4, n_days) * 700 + 40
    equity = curve_of(changes)

    total = statistics(trade_frame([]), equity)["total"]

    on_capital = session_pnl(equity, CAPITAL)["return"].to_numpy()
    assert total["sharpe"] == pytest.approx(empyrical.sharpe_ratio(on_capital))
    assert total["sortino"] == pytest.approx(empyrical.sortino_ratio(on_capital))
    # It compounds: of the equity itself its growth and its falls are ours. Its year is a number of periods.
    level = np.concatenate([[CAPITAL], equity["equity_usd"].to_numpy()])
    growth, year = level[1:] / level[:-1] - 1, 365.25
    assert total["cagr"] == pytest.approx(empyrical.cagr(growth, annualization=year))
    assert total["calmar"] == pytest.approx(empyrical.calmar_ratio(growth, annualization=year))
    assert total["max_drawdown_of_peak"] == pytest.approx(-empyrical.max_drawdown(growth))


def test_the_pnl_of_sessions_adds_up_to_the_change_of_equity():
    equity = sample_run().equity.filter(symbol=TOTAL)
    pnl = session_pnl(equity, CAPITAL)
    assert pnl["session_date"].equals(equity["session_date"])
    assert math.fsum(pnl["pnl_usd"]) == pytest.approx(equity["equity_usd"][-1] - CAPITAL)
    assert pnl["return"].to_list() == pytest.approx((pnl["pnl_usd"] / CAPITAL).to_list())


def test_twice_the_contracts_on_twice_the_capital_doubles_the_dollars_and_no_ratio():
    run = sample_run()
    money = [name for name in run.trades.columns if name.endswith("_usd")]
    trades = run.trades.with_columns(pl.col("quantity", *money) * 2)
    equity = run.equity.with_columns(pl.col("realised_usd", "open_usd", "equity_usd") * 2)

    twice = statistics(trades, equity, capital=2 * CAPITAL)

    for symbol in ("ES", "NQ", "GC"):
        one, two = run.stats["by_symbol"][symbol], twice["by_symbol"][symbol]
        assert {key: two[key] for key in BY_KEY} == {
            key: 2 * value if key in USD and value is not None else value
            for key, value in one.items()
            if key in BY_KEY
        }


SHORT = sample_run(n_trades=60, n_bars=1_200)


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random):
    order = list(range(SHORT.trades.height))
    random.shuffle(order)
    assert statistics(SHORT.trades[order], SHORT.equity) == statistics(SHORT.trades, SHORT.equity)


def test_the_statistics_of_a_block_are_told_with_value_definition_and_reason():
    total = sample_run(n_trades=3, n_bars=240).stats["total"]
    told = list(statistics_of(total))
    assert [each.metric for each in told] == list(METRICS)
    assert {each.metric.key: each.value for each in told} == {key: total[key] for key in BY_KEY}
    for each in told:
        assert (each.value is None) == bool(each.note)
    deflated = next(each for each in told if each.metric.key == "dsr")
    assert (deflated.text, deflated.note) == ("\N{EN DASH}", "fewer than 20 sessions")


@st.composite
def trade_tables(draw):
    rows = []
    for _ in range(draw(st.integers(0, 25))):
        entry = TUESDAY_NS + draw(st.integers(0, 24 * 400)) * HOUR_NS
        rows.append(
            {
                "symbol": draw(st.sampled_from(["ES", "GC"])),
                "entry_time": instant(entry),
                "exit_time": instant(entry + draw(st.integers(0, 90)) * HOUR_NS),
                "exit_reason": draw(st.sampled_from(["stop", "ibs", "roll", "operator"])),
                "net_usd": draw(st.integers(-9_999, 9_999)) / 7,
                "ibs_entry": draw(st.floats(0, 1)),
            }
        )
    return trade_frame(rows)


@given(trade_tables())
def test_every_trade_is_in_one_row_of_each_grouping(trades):
    stats = statistics(trades, curve_of([0.0]))
    total = stats["total"]
    for name in GROUPINGS:
        rows = stats[name]
        assert sum(row["trades"] for row in rows) == total["trades"]
        assert sum(row["wins"] for row in rows) == total["wins"]
        assert math.fsum(row["net_usd"] for row in rows) == pytest.approx(
            total["net_usd"], abs=1e-8
        )
        assert all(row["trades"] for row in rows)


def groups_of(**trade):
    """The key of each grouping that one trade falls in."""
    start = trade.setdefault("entry_time", datetime(2025, 1, 14, 15, tzinfo=UTC))
    stats = statistics(
        trade_frame([{"exit_time": start + timedelta(hours=1), **trade}]), curve_of([0.0])
    )
    return {column: stats[name][0][column] for name, (column, _) in GROUPINGS.items()}


def test_a_trade_belongs_to_the_exchange_hour_and_the_trade_date_of_its_entry():
    # Friday 31 January, 22:30 UTC is 16:30 in Chicago, after the close; Sunday 2 February 23:30 UTC is 17:30
    # there, of Monday's session.
    sunday = groups_of(entry_time=datetime(2025, 2, 2, 23, 30, tzinfo=UTC))
    assert (sunday["hour"], sunday["weekday"], sunday["month"]) == (17, 1, "2025-02")
    # Monday evening, the 30th of June, belongs to the first of July.
    summer = groups_of(entry_time=datetime(2025, 6, 30, 22, 0, tzinfo=UTC))
    assert (summer["hour"], summer["weekday"], summer["month"], summer["year"]) == (
        17, 2, "2025-07", 2025,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ibs", "bucket"),
    [(0.0, 0.0), (0.049, 0.0), (0.05, 0.05), (0.15, 0.15), (0.3, 0.3), (0.999, 0.95), (1.0, 0.95)],
)
def test_a_bucket_of_ibs_holds_its_lower_end(ibs, bucket):
    assert groups_of(ibs_entry=ibs)["ibs_from"] == bucket
