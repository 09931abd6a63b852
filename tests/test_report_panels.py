"""What the panels of a report show beyond `stats.json`, against hand-worked cases and slow ways."""

import base64
import math
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import CAPITAL, META, dates, sample_run, trade_frame

from ibs_core.bars import BAR
from ibs_core.report.comparison import compared, config_changes, doubts, format_difference
from ibs_core.report.cost_steps import break_even_multiple, cost_steps
from ibs_core.report.curve import curve_statistics
from ibs_core.report.curve_charts import ROLLING_SESSIONS, compared_chart, rolling_sharpe_chart
from ibs_core.report.curve_tables import drawdown_table
from ibs_core.report.drawdowns import worst_drawdowns
from ibs_core.report.forward_returns import OBSERVED, forward_returns, observed
from ibs_core.report.run import EQUITY, TOTAL
from ibs_core.report.trade_charts import POINTS_A_SCATTER, excursion_chart, group_chart
from ibs_core.report.undefined import Undefined
from ibs_core.report.veto_panel import missing_features


def bars_of(rows):
    """Bars from (session, contract, close)."""
    bars = np.zeros(len(rows), BAR)
    for bar, (session, contract, close) in zip(bars, rows, strict=True):
        bar["session"], bar["contract"], bar["close"] = session, contract, close
    return bars


def curve_of(equity):
    """An equity table of the total alone."""
    return pl.DataFrame(
        {
            "session_date": dates("2024-01-01", len(equity)),
            "symbol": [TOTAL] * len(equity),
            "realised_usd": [value - CAPITAL for value in equity],
            "open_usd": [0.0] * len(equity),
            "equity_usd": [float(value) for value in equity],
        },
        schema=EQUITY,
    )


def test_forward_returns_go_to_the_next_bar_and_to_the_next_sessions_close():
    bars = bars_of([(0, 1, 100.0), (0, 1, 101.0), (1, 1, 102.0), (1, 1, 104.0), (2, 1, 103.0)])
    days = bars_of([(0, 1, 101.0), (1, 1, 104.0)])  # the last session is not over
    ibs = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = observed(bars, days, ibs, trade_date=np.array([10, 11, 12]), first_date=10)
    assert found.schema == OBSERVED
    assert found["day"].to_list() == [10, 10, 11, 11, 12]
    to_bar = [1e4 * (b / a - 1) for a, b in [(100, 101), (101, 102), (102, 104), (104, 103)]]
    assert found["bar_bp"].to_list()[:4] == pytest.approx(to_bar)
    assert found["session_bp"].to_list()[:2] == pytest.approx([400.0, 1e4 * 3 / 101])
    assert (found["bar_bp"][4], found["session_bp"].to_list()[2:]) == (None, [None] * 3)


def test_no_forward_return_reaches_over_a_roll_or_from_a_price_that_is_not_above_zero():
    # The roll is inside session 1, whose day is two bars then.
    bars = bars_of([(0, 1, 100.0), (1, 1, 101.0), (1, 2, 201.0), (2, 2, -5.0), (2, 2, 7.0)])
    days = bars_of([(0, 1, 100.0), (1, 1, 101.0), (1, 2, 201.0), (2, 2, 7.0)])
    found = observed(bars, days, np.full(5, 0.5), trade_date=np.arange(3), first_date=0)
    assert found["bar_bp"].to_list() == [pytest.approx(100.0), None, None, None, None]
    assert found["session_bp"].to_list() == [
        None,
        None,
        pytest.approx(1e4 * (7 / 201 - 1)),
        None,
        None,
    ]


def test_bars_before_the_traded_span_and_without_an_ibs_are_left_out():
    bars = bars_of([(0, 1, 100.0), (1, 1, 101.0), (1, 1, 102.0)])
    ibs = np.array([0.5, np.nan, 0.5])
    found = observed(bars, bars[:2], ibs, trade_date=np.array([4, 5]), first_date=5)
    assert found["day"].to_list() == [5]


def test_no_bars_have_a_table_without_buckets():
    none = observed(
        bars_of([]), bars_of([]), np.zeros(0), trade_date=np.zeros(0, np.int64), first_date=0
    )
    table = forward_returns({"ES": none})
    assert table["ES"] == table["TOTAL"]
    assert table["ES"]["buckets"] == []
    assert (table["ES"]["all"]["bars"], table["ES"]["all"]["bar_bp"]) == (0, None)


def slow_mean(rows):
    """Mean and standard error of (day number, value), by dates, one lag, with plain loops."""
    values = [value for _, value in rows]
    mean = sum(values) / len(values)
    sums = {}
    for day, value in rows:
        sums[day] = sums.get(day, 0.0) + value - mean
    if len(sums) < 2:
        return mean, None
    lag = sum(sums[day] * sums[day + 1] for day in sums if day + 1 in sums)
    variance = sum(each**2 for each in sums.values()) + lag
    return mean, math.sqrt(max(variance, 0.0)) / len(values)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0, 1), st.floats(-50, 50), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_buckets_hold_every_bar_once_with_the_mean_and_error_of_the_slow_way(rows):
    present = sorted({day for day, *_ in rows})
    number = {day: i for i, day in enumerate(present)}  # dates beside each other in the data
    frame = pl.DataFrame(
        [(day, ibs, value, value if keep else None) for day, ibs, value, keep in rows],
        schema=OBSERVED,
        orient="row",
    )
    table = forward_returns({"ES": frame})["TOTAL"]
    assert sum(row["bars"] for row in table["buckets"]) == table["all"]["bars"] == len(rows)
    for row in [*table["buckets"], table["all"] | {"ibs_from": None}]:
        low = row["ibs_from"]
        own = [
            each for each in rows
            if low is None or min(math.floor(each[1] * 20), 19) == round(low * 20)
        ]  # fmt: skip
        mean, error = slow_mean([(number[day], value) for day, _, value, _ in own])
        assert row["bar_bp"] == pytest.approx(mean, abs=1e-9)
        assert row["bar_se_bp"] == (None if error is None else pytest.approx(error, abs=1e-6))
        assert row["session_n"] == sum(keep for *_, keep in own)


def test_drawdowns_go_from_peak_to_recovery_deepest_first():
    equity = [99_000, 101_000, 100_500, 98_000, 101_000, 102_000, 101_500]
    rows = worst_drawdowns(curve_of(equity), capital=CAPITAL, n_most=9)
    days = dates("2024-01-01", 7)
    assert rows == [
        {"peak": days[1], "bottom": days[3], "recovered": days[4], "usd": 3_000.0,
         "of_peak": 3_000 / 101_000, "days": 3, "in_training": False},
        {"peak": None, "bottom": days[0], "recovered": days[1], "usd": 1_000.0,
         "of_peak": 0.01, "days": 1, "in_training": False},
        {"peak": days[5], "bottom": days[6], "recovered": None, "usd": 500.0,
         "of_peak": 500 / 102_000, "days": 1, "in_training": False},
    ]  # fmt: skip
    assert worst_drawdowns(curve_of(equity), capital=CAPITAL, n_most=1) == rows[:1]
    assert worst_drawdowns(curve_of([]), capital=CAPITAL, n_most=1) == []


def window_of(first, last):
    return tuple(int(np.datetime64(f"{day}T15:00", "ns").astype(np.int64)) for day in (first, last))


@pytest.mark.parametrize("recovery", [[100_000], [98_500]])
def test_a_drawdown_is_marked_if_any_session_of_it_lies_in_a_training_window(recovery):
    equity = [100_000, 99_000, 98_000, 99_500, *recovery]
    days = dates("2024-01-01", 5)
    for i, day in enumerate(days):
        (row,) = worst_drawdowns(
            curve_of(equity), capital=CAPITAL, n_most=9, windows=[window_of(day, day)]
        )
        assert row["in_training"] is (i > 0)
        assert ("in training" in drawdown_table([row])) is (i > 0)


@given(st.lists(st.integers(50_000, 150_000), min_size=1, max_size=60))
def test_the_table_of_drawdowns_agrees_with_the_statistics(equity):
    curve = curve_of(equity)
    rows = worst_drawdowns(curve, capital=CAPITAL, n_most=100)
    values = np.array(equity, np.float64)
    stats = curve_statistics(curve, values, capital=CAPITAL, trials=Undefined(""))
    assert max((row["usd"] for row in rows), default=0.0) == stats["max_drawdown_usd"]
    assert max((row["of_peak"] for row in rows), default=0.0) == stats["max_drawdown_of_peak"]
    assert max((row["days"] for row in rows), default=0) == stats["max_drawdown_days"]


def test_the_last_rolling_sharpe_ratio_is_that_of_its_sessions_alone():
    rng = np.random.default_rng(3)
    equity = (CAPITAL + np.cumsum(rng.normal(20, 500, ROLLING_SESSIONS + 30))).tolist()
    chart = rolling_sharpe_chart(curve_of(equity), capital=CAPITAL, windows=[])
    last = decoded(chart["data"][0]["y"])
    assert len(last) == 31
    # Those sessions as a curve of their own, from the equity before them.
    own = curve_of([value - equity[29] + CAPITAL for value in equity[30:]])
    lows = own["equity_usd"].to_numpy()
    stats = curve_statistics(own, lows, capital=CAPITAL, trials=Undefined(""))
    assert last[-1] == pytest.approx(stats["sharpe"], abs=0.006)


def test_a_rolling_sharpe_ratio_is_dotted_while_any_of_its_sessions_lies_in_a_training_window():
    rng = np.random.default_rng(3)
    equity = (CAPITAL + np.cumsum(rng.normal(20, 500, 3 * ROLLING_SESSIONS))).tolist()
    days = dates("2024-01-01", len(equity))
    (plain,) = rolling_sharpe_chart(curve_of(equity), capital=CAPITAL, windows=[])["data"]
    chart = rolling_sharpe_chart(
        curve_of(equity), capital=CAPITAL, windows=[window_of(days[130], days[140])]
    )
    solid, dotted = (decoded(line["y"]) for line in chart["data"])
    trained = np.zeros(len(solid), bool)
    first = ROLLING_SESSIONS - 1  # session of the first value
    trained[130 - first : 140 + ROLLING_SESSIONS - first] = True
    assert (np.isnan(solid) == trained).all()
    assert (~np.isnan(dotted[trained])).all()
    assert np.isnan(dotted).sum() == (~trained).sum() - 1  # one more, where the solid line goes on
    both = np.where(trained, dotted, solid)
    assert (both == decoded(plain["y"])).all()


@pytest.mark.parametrize("n", [0, ROLLING_SESSIONS - 1, ROLLING_SESSIONS + 5])
def test_too_few_sessions_or_flat_equity_have_no_rolling_sharpe_ratio(n):
    assert rolling_sharpe_chart(curve_of([CAPITAL] * n), capital=CAPITAL, windows=[]) is None


def decoded(packed):
    return np.frombuffer(base64.b64decode(packed["bdata"]), f"<{packed['dtype']}")


def costly(nets):
    """Trades of a gross P&L each and 10 USD of costs."""
    now = datetime(2025, 1, 2, tzinfo=UTC)
    return trade_frame(
        [
            {"gross_usd": gross, "commission_usd": 4.0, "slippage_usd": 6.0, "net_usd": gross - 10.0,
             "entry_time": now, "exit_time": now}
            for gross in nets
        ]
    )  # fmt: skip


def test_cost_steps_price_the_same_trades_again():
    rows = {row["multiple"]: row for row in cost_steps(costly([50.0, 15.0, -20.0]))}
    assert rows[0.0] == {"multiple": 0.0, "net_usd": 45.0, "average_usd": 15.0,
                         "win_rate": 2 / 3, "profit_factor": 65 / 20}  # fmt: skip
    assert rows[1.0]["net_usd"] == 15.0
    assert rows[2.0] == {"multiple": 2.0, "net_usd": -15.0, "average_usd": -5.0,
                         "win_rate": 1 / 3, "profit_factor": 30 / 45}  # fmt: skip
    assert break_even_multiple(costly([50.0, 15.0, -20.0])) == 1.5


def test_cost_steps_of_nothing_are_undefined_and_not_zero():
    assert {row["average_usd"] for row in cost_steps(costly([]))} == {None}
    assert break_even_multiple(costly([])) is None
    assert break_even_multiple(costly([-5.0])) is None


def test_the_step_of_the_costs_charged_is_the_run_itself():
    run = sample_run(n_trades=60, n_bars=1_500)
    total = run.stats["total"]
    (own,) = [row for row in cost_steps(run.trades) if row["multiple"] == 1.0]
    assert own["net_usd"] == pytest.approx(total["net_usd"])
    assert own["profit_factor"] == pytest.approx(total["profit_factor"])
    assert own["win_rate"] == total["win_rate"]


def test_a_scatter_of_many_trades_shows_some_evenly_and_both_extremes():
    now = datetime(2025, 1, 2, tzinfo=UTC)
    n = 2 * POINTS_A_SCATTER
    rows = [
        {"mae_usd": -float(i), "net_usd": float(i % 7 - 3), "entry_time": now, "exit_time": now}
        for i in range(n)
    ]
    chart = excursion_chart(trade_frame(rows), "mae_usd")
    assert (chart["shown"], chart["trades"]) == (POINTS_A_SCATTER, n)
    x = np.sort(np.concatenate([decoded(trace["x"]) for trace in chart["data"]]))
    assert (x[0], x[-1], len(x)) == (0, n - 1, POINTS_A_SCATTER)
    assert np.diff(x).max() <= 3


def test_hours_stand_at_their_place_of_the_day():
    row = {"trades": 2, "wins": 1, "win_rate": 0.5, "net_usd": -3.0, "average_usd": -1.5}
    chart = group_chart([{"hour": 8, **row}], "hour")
    (bars,) = chart["data"]
    assert (bars["x"], bars["y"], bars["marker"]["color"]) == ([8], [-3.0], ["--loss"])
    assert bars["text"][0].startswith("08:00: 2 trades, 50.0% won")
    assert group_chart([{"weekday": 1, **row}], "weekday")["data"][0]["text"][0].startswith(
        "Monday"
    )


def test_missing_features_are_counted_from_filters_and_models():
    blocked = {"ES": {"bar_rsi2 missing": 3, "ibs": 9, "vetoed:missing day_ibs": 2, "x missing": 0}}
    assert missing_features(blocked) == {"bar_rsi2": {"ES": 3}, "day_ibs": {"ES": 2}}


def test_runs_are_compared_with_the_first():
    a = sample_run(n_trades=60, n_bars=1_500)
    none = sample_run(n_trades=0, n_bars=1_500)
    rows = {row["key"]: row for row in compared({"a": a, "none": none})}
    total = a.stats["total"]
    assert rows["trades"]["values"] == [60, 0]
    assert rows["trades"]["differences"] == [-60]
    assert rows["win_rate"]["values"] == [total["win_rate"], None]
    assert rows["win_rate"]["differences"] == [None]


def test_differences_show_their_sign_and_percentage_points():
    shown = [(0.0312, "percent"), (-2.0, "ratio"), (0.0, "usd"), (1_250.0, "usd"), (None, "days")]
    texts = [format_difference(value, unit) for value, unit in shown]
    assert texts == ["+3.1 pp", "\N{MINUS SIGN}2.00", "$0", "+$1,250", "\N{EN DASH}"]


def test_what_makes_runs_unlike_is_told():
    run = sample_run(n_trades=60, n_bars=1_500)
    assert doubts({"a": run, "b": run}) == []
    other = replace(
        run,
        meta={**META, "data_digest": "e" * 64, "versions": {"ibs": "9"}, "generated_data": False},
        stats=run.stats | {"capital_usd": 5e4, "first_session": "2020-01-01"},
    )
    told = " ".join(doubts({"a": run, "b": other}))
    for words in ("different market data", "different sessions", "capital differs",
                  "different versions", "generated data"):  # fmt: skip
        assert words in told


def test_settings_that_differ_are_listed_by_line():
    run = sample_run(n_trades=0, n_bars=1_500)
    other = replace(run, config_yaml=run.config_yaml.replace("1h", "30m"))
    assert config_changes({"a": run, "b": other}) == {
        "b": ["-   signal_bar: 1h", "+   signal_bar: 30m"]
    }


def test_a_curve_of_training_trades_is_dotted_beside_others():
    run = sample_run(n_trades=60, n_bars=1_500, symbols=("ES",))
    total = run.equity.filter(pl.col("symbol") == TOTAL)
    cut = total["session_date"][20]
    window = {"first_decision": "2019-01-01T00:00:00.000000000Z",
              "last_label_end": f"{cut}T00:00:00.000000000Z", "version": "v1", "trades": 9, "of": 60}  # fmt: skip
    apart = {"total": run.stats["total"], "by_symbol": {}}
    trained = replace(
        run, stats=run.stats | {"training_windows": {"ES": window}, "inside_training": apart}
    )
    lines = compared_chart({"a": run, "b": trained})["data"]
    dotted = [line for line in lines if line["line"].get("dash") == "dot"]
    assert len(dotted) == 1
    assert np.isfinite(decoded(dotted[0]["y"])).sum() == 22
    outside = lines[1]
    assert np.isfinite(decoded(outside["y"])).sum() == total.height - 21
    assert cut > date(2021, 1, 4)
