"""Paths of sessions drawn again: against a walk in plain Python, laws of rules, and the command."""

import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import CAPITAL, FACTS, sample_run, trade_frame

from ibs_core.cli.main import run as run_cli
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, DataError
from ibs_core.prop_rules import PropRules
from ibs_core.report.bootstrap import drawn_sessions
from ibs_core.report.folder import write_run
from ibs_core.report.intrabar import session_lows
from ibs_core.report.monte_carlo import LEVELS, monte_carlo, sessions_needed
from ibs_core.report.rule_outcomes import (
    FAILURES,
    PASSED,
    UNDECIDED,
    at_closes,
    judged,
    walked,
)
from ibs_core.report.run import EQUITY
from ibs_core.report.session_moves import MICRO, Moves, moves_of, session_highs
from ibs_core.report.trade_facts import with_facts

NAMES = {UNDECIDED: "undecided", PASSED: "passed"} | {mark: name for name, mark in FAILURES.items()}


def moves(rows):
    """Sessions from (pnl, low, high) in USD."""
    pnl, low, high = (np.array(column, np.int64) * MICRO for column in zip(*rows, strict=True))
    return Moves(
        np.arange(len(pnl)),
        pnl,
        np.minimum(low, np.minimum(pnl, 0)),
        np.maximum(high, np.maximum(pnl, 0)),
    )


# ---------------------------------------------------------------- the oracle: one path, session by session


def naive_path(found, order):
    """Final P&L, largest falls at closes and within sessions, lowest close and low, in USD."""
    close = peak = fall = inside = lowest_close = lowest = 0
    for i in order:
        low = close + int(found.low[i])
        inside, lowest = max(inside, peak - low), min(lowest, low)
        close += int(found.pnl[i])
        fall, lowest_close = max(fall, peak - close), min(lowest_close, close)
        peak = max(peak, close)
    return close, fall, inside, lowest_close, lowest


def naive_verdict(rules, found, order):
    close = peak = best = days = 0
    for n, i in enumerate(order, 1):
        pnl, low, high = (int(each[i]) for each in (found.pnl, found.low, found.high))
        if rules.drawdown is not None:
            room, lock = rules.drawdown.usd * MICRO, rules.drawdown.locks_at_usd
            top = {"never": 0, "close": peak, "intraday": max(peak, close + high)}
            if rules.drawdown.trails == "intraday":
                peak = top["intraday"]
            floor = top[rules.drawdown.trails] - room
            if lock is not None and rules.drawdown.trails != "never":
                floor = min(floor, lock * MICRO)
            if close + low <= floor:
                return "drawdown", n
        daily = rules.daily_loss
        if daily is not None and daily.ends == "account" and low <= -daily.usd * MICRO:
            return "daily_loss", n
        close += pnl
        peak, best, days = max(peak, close), max(best, pnl), days + (pnl != 0 or low != 0)
        if (
            rules.profit_target_usd is not None
            and close >= rules.profit_target_usd * MICRO
            and days >= rules.min_trading_days
            and (rules.best_day_share is None or best <= rules.best_day_share * close)
        ):
            return "passed", n
    return "undecided", len(order)


# Few and small amounts, so that limits are often met to the cent.
USD = st.integers(-4, 4).map(lambda n: 50 * n)
SESSIONS = st.lists(st.tuples(USD, USD, USD), min_size=1, max_size=12)
LIMIT = st.integers(1, 6).map(lambda n: 50 * n)
RULES = st.builds(
    PropRules,
    name=st.just("any"),
    drawdown=st.none()
    | st.builds(
        lambda usd, trails, lock: {"usd": usd, "trails": trails, "locks_at_usd": lock},
        LIMIT,
        st.sampled_from(["intraday", "close", "never"]),
        st.none() | st.integers(-1, 4).map(lambda n: 50 * n),
    ),
    daily_loss=st.none()
    | st.builds(
        lambda usd, ends: {"usd": usd, "ends": ends}, LIMIT, st.sampled_from(["account", "session"])
    ),
    profit_target_usd=st.none() | LIMIT,
    min_trading_days=st.integers(0, 4),
    best_day_share=st.none() | st.sampled_from([0.25, 0.5, 1.0]),
)
SEEDS = st.integers(0, 2**32)


def orders(found, seed, n_paths=5, length=15):
    return np.random.default_rng(seed).integers(0, len(found.pnl), (n_paths, length))


@given(SESSIONS, RULES, SEEDS)
def test_every_path_is_judged_as_a_walk_session_by_session_judges_it(rows, rules, seed):
    found = moves(rows)
    drawn = orders(found, seed)
    verdict, decided = judged(rules, walked(found, drawn))
    expected = [naive_verdict(rules, found, order) for order in drawn]
    assert [
        (NAMES[v], n) for v, n in zip(verdict.tolist(), decided.tolist(), strict=True)
    ] == expected


def test_quantiles_and_shares_are_those_of_the_paths_walked_one_by_one():
    rng = np.random.default_rng(3)
    rows = [(round(x), round(x - abs(y)), 0) for x, y in rng.normal(0, 900, (40, 2))]
    found = moves(rows)
    facts = monte_carlo(
        found, capital=10_000, floor=6_000, n_paths=300, n_sessions=25, mean_block=4, seed=11
    )
    (drawn,) = drawn_sessions(40, n_drawn=25, n_resamples=300, mean_block=4, seed=11)
    final, fall, inside, lowest_close, lowest = (
        np.array([naive_path(found, order) for order in drawn]).T / MICRO
    )
    for key, values in (
        ("final_equity_usd", final + 10_000),
        ("max_drawdown_usd", fall),
        ("max_drawdown_intrabar_usd", inside),
    ):
        assert facts[key]["quantiles_usd"] == pytest.approx(np.quantile(values, LEVELS).tolist())
    assert facts["loss"] == np.mean(final < 0)
    assert facts["ruin"] == {
        "at_closes": np.mean(lowest_close <= -4_000),
        "intrabar": np.mean(lowest <= -4_000),
    }
    assert 0 < facts["ruin"]["at_closes"] < facts["ruin"]["intrabar"] < 1
    assert facts["bands"]["sessions"] == list(range(26))
    middle = [each[LEVELS.index(0.5)] for each in facts["bands"]["quantiles_usd"]]
    assert middle[0] == 10_000
    assert middle[-1] == facts["final_equity_usd"]["quantiles_usd"][LEVELS.index(0.5)]
    assert sum(facts["histogram"]["paths"]) == 300


def test_many_paths_are_measured_like_few():
    """Paths are worked on in slices; no slice is lost or counted twice."""
    found = moves([(100, -50, 100), (-80, -90, 0), (10, -10, 20)] * 20)
    drawn = np.concatenate(
        list(drawn_sessions(60, n_drawn=2_000, n_resamples=700, mean_block=3, seed=5))
    )
    facts = monte_carlo(
        found, capital=1e6, floor=0, n_paths=700, n_sessions=2_000, mean_block=3, seed=5
    )
    final = found.pnl[drawn].sum(axis=1) / MICRO + 1e6
    assert facts["final_equity_usd"]["quantiles_usd"] == pytest.approx(
        np.quantile(final, LEVELS).tolist()
    )
    assert len(facts["bands"]["sessions"]) == 101


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("block", [1, 4, 25])
def test_neighbours_stay_together_as_often_as_blocks_are_long(block):
    n = 500
    (drawn,) = drawn_sessions(n, n_drawn=400, n_resamples=500, mean_block=block, seed=2)
    follow = np.mean((drawn[:, 1:] - drawn[:, :-1]) % n == 1)
    assert follow == pytest.approx(1 - 1 / block + 1 / (block * n), abs=0.005)
    assert np.bincount(drawn.ravel(), minlength=n).min() > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    found = moves([(100, -50, 100), (-80, -90, 0), (0, 0, 0), (30, -10, 40)] * 10)

    def made(seed):
        return json.dumps(monte_carlo(found, capital=1_000, floor=500, n_paths=200, seed=seed))

    assert made(7) == made(7) != made(8)


# ---------------------------------------------------------------- laws of rules


def looser(rules):
    """Loosen each limit alone."""
    if rules.drawdown is not None:
        drawdown = rules.drawdown.model_dump()
        yield {"drawdown": None}
        yield {"drawdown": {**drawdown, "usd": drawdown["usd"] + 50}}
        yield {"drawdown": {**drawdown, "trails": "never"}}
        if drawdown["trails"] == "intraday":
            yield {"drawdown": {**drawdown, "trails": "close"}}
        if drawdown["locks_at_usd"] is None:
            yield {"drawdown": {**drawdown, "locks_at_usd": 50}}
    if rules.daily_loss is not None:
        yield {"daily_loss": None}
        yield {"daily_loss": {"usd": rules.daily_loss.usd + 50, "ends": rules.daily_loss.ends}}
    if rules.profit_target_usd is not None and rules.profit_target_usd > 50:
        yield {"profit_target_usd": rules.profit_target_usd - 50}
    if rules.min_trading_days:
        yield {"min_trading_days": rules.min_trading_days - 1}
    if rules.best_day_share is not None:
        yield {"best_day_share": None}


@given(SESSIONS, RULES, SEEDS)
def test_a_looser_limit_never_takes_a_pass_away(rows, rules, seed):
    found = moves(rows)
    paths = walked(found, orders(found, seed, n_paths=20))
    passed = judged(rules, paths)[0] == PASSED
    for change in looser(rules):
        loose = PropRules.model_validate({**rules.model_dump(exclude={"flat_by"}), **change})
        assert np.all((judged(loose, paths)[0] == PASSED) >= passed), change


@given(st.integers(1, 20), RULES)
def test_sessions_without_a_move_decide_nothing(n, rules):
    found = moves([(0, 0, 0)] * n)
    verdict, decided = judged(rules, walked(found, np.arange(n)[None]))
    assert (verdict.tolist(), decided.tolist()) == ([UNDECIDED], [n])
    assert not found.held.any()


def test_minimum_days_put_a_pass_off_and_idle_sessions_do_not_count():
    found = moves([(500, 0, 500), (0, 0, 0), (1, 0, 1), (2, 0, 2)])
    for days, session in ((0, 1), (1, 1), (2, 3), (3, 4)):
        rules = PropRules(name="days", profit_target_usd=100, min_trading_days=days)
        assert judged(rules, walked(found, np.arange(4)[None])) == ([PASSED], [session])


def test_a_floor_that_is_locked_rises_no_more():
    rows = [(900, 0, 900), (900, 0, 900), (-1_700, -1_700, 0)]
    paths = walked(moves(rows), np.arange(3)[None])
    free = PropRules(name="free", drawdown={"usd": 1_000})
    locked = PropRules(name="locked", drawdown={"usd": 1_000, "locks_at_usd": 99})
    met = PropRules(name="met", drawdown={"usd": 1_000, "locks_at_usd": 100})
    assert [judged(each, paths)[0].tolist() for each in (free, locked, met)] == [
        [FAILURES["drawdown"]],
        [UNDECIDED],
        [FAILURES["drawdown"]],
    ]


# ---------------------------------------------------------------- bounds hold whatever the minutes did


def by_minutes(rules, days):
    """Judge an account at every minute; a pass at session closes."""
    equity = peak = best = held = 0
    for minutes in days:
        begin = equity
        top = peak
        for step in minutes:
            equity += step
            if rules.drawdown is not None:
                if rules.drawdown.trails == "intraday":
                    top = max(top, equity)
                floor = {"never": 0}.get(rules.drawdown.trails, top) - rules.drawdown.usd
                lock = rules.drawdown.locks_at_usd
                if lock is not None and rules.drawdown.trails != "never":
                    floor = min(floor, lock)
                if equity <= floor:
                    return "failed"
            daily = rules.daily_loss
            if daily is not None and daily.ends == "account" and equity - begin <= -daily.usd:
                return "failed"
        peak = max(top, equity)
        best, held = max(best, equity - begin), held + any(minutes)
        if (
            rules.profit_target_usd is not None
            and equity >= rules.profit_target_usd
            and held >= rules.min_trading_days
            and (rules.best_day_share is None or best <= rules.best_day_share * equity)
        ):
            return "passed"
    return "undecided"


def test_a_session_that_rose_further_than_the_drawdown_may_have_fallen_or_not():
    """What a session closes at is its last instant: by closes alone nothing falls from it."""
    rules = PropRules(
        name="rise", drawdown={"usd": 500, "trails": "intraday"}, profit_target_usd=600
    )
    paths = walked(moves([(600, 0, 600)]), np.zeros((1, 1), np.int64))
    assert judged(rules, paths)[0] == FAILURES["drawdown"]
    assert judged(rules, at_closes(paths))[0] == PASSED


@given(
    st.lists(st.lists(USD, max_size=5), min_size=1, max_size=10),
    RULES.filter(lambda rules: rules.min_trading_days == 0),
)
def test_the_truth_lies_between_the_bounds_and_the_closes(days, rules):
    rows = []
    for minutes in days:
        seen = np.cumsum([0, *minutes])
        rows.append((seen[-1], seen.min(), seen.max()))
    paths = walked(moves(rows), np.arange(len(rows))[None])
    truth = by_minutes(rules, days) == "passed"
    at_least, at_most = (judged(rules, each)[0][0] == PASSED for each in (paths, at_closes(paths)))
    assert at_least <= truth <= at_most


# ---------------------------------------------------------------- sessions of a run


@pytest.fixture(scope="module")
def run():
    return sample_run(n_trades=300, n_bars=6_000)


def test_the_run_in_its_own_order_has_its_own_statistics(run):
    facts = monte_carlo(moves_of(run), capital=CAPITAL, floor=0, n_paths=100, seed=1)
    total = run.stats["total"]
    for key in ("final_equity_usd", "max_drawdown_usd", "max_drawdown_intrabar_usd"):
        assert facts[key]["run_usd"] == pytest.approx(total[key], abs=1e-4)
    assert facts["sessions"] == total["sessions"]


def test_lows_and_highs_bound_each_session(run):
    found = moves_of(run, contracts=load_contract_map())
    assert np.all(found.low <= np.minimum(found.pnl, 0))
    assert np.all(found.high >= np.maximum(found.pnl, 0))
    assert found.high.max() > moves_of(run).high.max()
    facts = with_facts(run.trades, FACTS)
    lows = session_lows(facts, run.equity, capital=CAPITAL)
    keys = ["session_date", "symbol"]
    both = lows.join(session_highs(facts, run.equity, capital=CAPITAL), on=keys)
    both = both.join(run.equity, on=keys)
    assert both.height == run.equity.height
    low, equity, high = (both[name].to_numpy() for name in ("low_usd", "equity_usd", "high_usd"))
    assert np.all(low <= equity)
    assert np.all(equity <= high)


def test_the_high_of_a_session_is_the_furthest_that_its_trade_went():
    day = datetime(2023, 3, 7, 16, tzinfo=UTC)
    trades = trade_frame(
        [
            {"entry_time": day, "exit_time": day.replace(hour=18), "gross_usd": 110.0}
            | {"commission_usd": 4.0, "slippage_usd": 6.0, "net_usd": 100.0}
            | {"mae_usd": -30.0, "mfe_usd": 510.0}
        ]
    )
    rows = [
        (session, symbol, earned, 0.0, 1_000 + earned)
        for symbol in ("ES", "TOTAL")
        for session, earned in (
            (date(2023, 3, 7), 100.0),
            (date(2023, 3, 8), 100.0),
        )
    ]
    equity = pl.DataFrame(rows, schema=EQUITY, orient="row")
    found = session_highs(with_facts(trades, FACTS), equity, capital=1_000.0)
    highs = found.filter(pl.col("symbol") == "TOTAL").sort("session_date")["high_usd"].to_list()
    assert highs == [1_500.0, 1_100.0]


def test_sessions_of_a_training_window_are_left_out(run):
    days = moves_of(run).days
    first, last = (str(day.astype("datetime64[D]")) for day in (days[40], days[59]))
    windows = {
        root: {"first_decision": f"{first}T15:00:00Z", "last_label_end": f"{last}T15:00:00Z"}
        for root in ("ES", "NQ")
    }
    trained = replace(
        run, stats={**run.stats, "training_windows": windows, "inside_training": {"total": {}}}
    )
    found = moves_of(trained)
    assert found.left_out == 20
    assert np.array_equal(found.days, np.delete(days, np.arange(40, 60)))
    assert np.array_equal(found.pnl, np.delete(moves_of(run).pnl, np.arange(40, 60)))


def test_a_run_without_lows_is_refused(run):
    with pytest.raises(DataError, match="run the back-test again"):
        moves_of(replace(run, lows=run.lows.clear()))


@pytest.mark.parametrize(("n", "block"), [(19, None), (79, 40)])
def test_too_few_sessions_are_refused_with_how_many_are_needed(n, block):
    found = moves([(100, -10, 100)] * n)
    with pytest.raises(DataError, match=rf"{n + 1} or more.*found {n}"):
        monte_carlo(found, capital=1_000, floor=0, n_paths=100, mean_block=block, seed=1)
    assert sessions_needed(block or 3) == n + 1


@pytest.mark.parametrize("floor", [1_000, 2_000, float("nan"), float("-inf")])
def test_a_floor_that_is_not_below_the_capital_is_refused(floor):
    with pytest.raises(ConfigError, match="--floor"):
        monte_carlo(moves([(1, 0, 1)] * 30), capital=1_000, floor=floor, n_paths=100, seed=1)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return write_run(run, tmp_path_factory.mktemp("runs"), html=None)


@pytest.fixture
def ibs(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", "monte-carlo", *map(str, words)])
        code = 0
        try:
            run_cli()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def rules_file(tmp_path, text):
    path = tmp_path / "rules.yml"
    path.write_text(text)
    return path


def test_the_command_prints_bands_and_chances_and_is_silent_when_asked(ibs, folder, tmp_path):
    rules = rules_file(tmp_path, "name: mine\ndrawdown: {usd: 9000}\nprofit_target_usd: 3000")
    code, out, err = ibs(folder, "--paths", 200, "--rules", rules)
    assert (code, err) == (0, "")
    for words in ("Max drawdown, intrabar", "99%", "rules: mine", "passed:", "generated data"):
        assert words in out
    assert ibs(folder, "--paths", 200, "--quiet") == (0, "", "")


def test_the_document_holds_every_number_and_is_the_same_for_the_same_seed(ibs, folder, tmp_path):
    rules = rules_file(
        tmp_path, "name: mine\ndrawdown: {usd: 9000, trails: intraday}\nprofit_target_usd: 3000"
    )
    words = (folder, "--paths", 300, "--json", "--rules", rules, "--sessions", 60, "--block", 5)
    code, out, err = ibs(*words)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert ibs(*words)[1] == out != ibs(*words, "--seed", 8)[1]
    assert (document["paths"], document["path_sessions"]) == (300, 60)
    assert (document["mean_block_sessions"], document["seed"]) == (5, 7)
    judged_ = document["rules"]
    assert judged_["passed"] <= judged_["passed_at_closes"]
    shares = (judged_["passed"], judged_["undecided"], *judged_["failed"].values())
    assert sum(shares) == pytest.approx(1)


def test_the_picture_is_one_page_that_loads_nothing(ibs, folder, tmp_path):
    page = tmp_path / "new" / "paths.html"
    code, out, _ = ibs(folder, "--paths", 100, "--out", page)
    assert code == 0
    assert str(page) in out
    text = page.read_text("utf-8")
    for words in ("id='fan'", "id='drawdowns'", "Generated data", folder.name):
        assert words in text
    assert "<script src" not in text
    assert [each.name for each in page.parent.iterdir()] == ["paths.html"]


def test_a_run_whose_configuration_does_not_keep_the_rules_is_refused(ibs, folder, tmp_path):
    rules = rules_file(tmp_path, 'name: mine\ndaily_loss: {usd: 500}\nflat_by: "14:00"')
    code, out, err = ibs(folder, "--rules", rules)
    assert (code, out) == (2, "")
    assert "risk.daily_loss_usd is off, the rule is 500" in err
    assert "ES is flat by 15:00" in err
    assert "run the back-test again" in err


def test_what_cannot_be_drawn_from_is_refused(ibs, folder, tmp_path):
    assert ibs(tmp_path)[0] == 3
    assert "no run folder" in ibs(tmp_path)[2]
    few = write_run(sample_run(n_trades=9, n_bars=900), tmp_path / "few", html=None)
    code, _, err = ibs(few)
    assert code == 1
    assert "expected 20 or more" in err
    idle = write_run(sample_run(n_trades=0), tmp_path / "idle", html=None)
    code, _, err = ibs(idle)
    assert code == 1
    assert "a run with trades" in err
    code, _, err = ibs(folder, "--floor", 100_000)
    assert code == 2
    assert "below the stated capital" in err
    assert ibs(folder, "--paths", 0)[0] == 2
    assert ibs(folder, "--rules", tmp_path / "none.yml")[0] == 3
