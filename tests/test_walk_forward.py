"""A walk-forward chooses without the test sessions, trades as back-tests do, and counts every trial."""

from __future__ import annotations

import json
import sqlite3
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from walk_forward_worlds import CONTRACTS, ROOTS, Changed, run, stages_of

from ibs_core.backtest import trade
from ibs_core.config import Settings, load_settings
from ibs_core.errors import ConfigError, DataError, EnvironmentFault
from ibs_core.market_data import open_bars
from ibs_core.market_data.memory import hold
from ibs_core.outcome import summarise
from ibs_core.report.equity import MARKS
from ibs_core.report.folder import read_run
from ibs_core.report.run import TOTAL
from ibs_core.research.sample_data import write_sample
from ibs_core.research.trial_ledger import TrialLedger
from ibs_core.sweep.candidate import CandidateMaker
from ibs_core.sweep.grid import Axis, Grid
from ibs_core.sweep.run import Record
from ibs_core.sweep.workers import Workers
from ibs_core.walk_forward.choice import choose
from ibs_core.walk_forward.cut import StagesUntil
from ibs_core.walk_forward.fit import Bench, Fitted, fit
from ibs_core.walk_forward.out_of_sample import trade_windows
from ibs_core.walk_forward.results import conclude
from ibs_core.walk_forward.stitch import Account, stitch
from ibs_core.walk_forward.windows import cut_windows, marks_of

GRID = Grid((Axis("strategy.entry.ibs.1", (0.2, 0.3, 0.4)), Axis("strategy.exits.bars", (2, 4))))
WORDS = ["--grid", "strategy.entry.ibs.1=0.2:0.4:0.1", "--grid", "strategy.exits.bars=2,4"]
SIZES = ["--train-sessions", "20", "--test-sessions", "12"]


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=ROOTS, start=date(2024, 1, 2), end=date(2024, 3, 8), seed=3)
    return folder


@pytest.fixture(scope="module")
def held(bars):
    return hold(open_bars([bars], CONTRACTS))


# ---------------------------------------------------------------- windows


def marks_on(dates):
    rows = [("ES", day, (day - date(1970, 1, 1)).days * 10**9, 1.0) for day in dates]
    return pl.DataFrame(rows, schema=MARKS, orient="row")


@given(
    *(st.integers(*ends) for ends in ((1, 40), (1, 15), (0, 6), (1, 90))), st.booleans()
)  # fmt: skip
def test_every_session_after_the_first_training_is_tested_once(train, test, embargo, n, anchored):
    dates = [date(2024, 1, 1) + timedelta(days=3 * k) for k in range(n)]
    asked = {
        "train_sessions": train,
        "test_sessions": test,
        "embargo": embargo,
        "anchored": anchored,
    }
    if train <= embargo or n <= train:
        with pytest.raises((ConfigError, DataError)):
            cut_windows(marks_on(dates), **asked)
        return
    windows = cut_windows(marks_on(dates), **asked)
    tested = [day for each in windows for day in dates if each.test[0] <= day <= each.test[1]]
    assert tested == dates[train:]
    assert [each.n_test for each in windows[:-1]] == [test] * (len(windows) - 1)
    for each in windows:
        first, last, begins = (dates.index(day) for day in (*each.train, each.test[0]))
        assert begins - last == embargo + 1
        assert first == (0 if anchored else begins - train)
        assert each.n_train == last - first + 1
        assert each.train_ends_ns == (each.train[1] - date(1970, 1, 1)).days * 10**9


# ---------------------------------------------------------------- the choice


def results_of(rows):
    names = ("trades", "net_usd", "open_usd", "sharpe", "plateau")
    return pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


def test_each_objective_chooses_its_best_among_those_that_traded():
    table = results_of(
        [
            (0, 0.0, 0.0, None, 0.0),
            (9, 500.0, -300.0, 2.0, 0.4),
            (9, 400.0, 0.0, 1.5, 1.2),
            (9, -50.0, 700.0, 1.0, 1.0),
        ]
    )
    assert [choose(table, each) for each in ("plateau", "sharpe", "net")] == [2, 1, 3]
    losing = results_of([(0, 0.0, 0.0, None, 0.0), (3, -10.0, 0.0, -1.0, -1.0)])
    assert [choose(losing, each) for each in ("plateau", "sharpe", "net")] == [1, 1, 1]
    assert [choose(losing[:1], each) for each in ("plateau", "sharpe", "net")] == [None] * 3


def fitted_on(source, window, marks, folder, objective="plateau"):
    paths = GRID.paths
    # Positions are held overnight: what a training end leaves open must not look further.
    overnight = Settings.model_validate({"strategy": {"exits": {"flat_by": None, "ibs": None}}})
    maker = CandidateMaker(overnight, CONTRACTS, ROOTS, start=None, end=None, paths=paths)
    record = Record(
        TrialLedger(folder / "trials.sqlite"), "", ",".join(ROOTS), "d",
        generated=True, clock=lambda: 0,
    )  # fmt: skip
    bench = Bench(
        maker, GRID, stages_of(source), ROOTS, record, {}, folder / "windows", objective,
        Workers(1), resume=False,
    )  # fmt: skip
    return fit(bench, window, marks, lambda _what, _n: None)


@pytest.fixture(scope="module")
def windows(held):
    maker = CandidateMaker(Settings(), CONTRACTS, ROOTS, start=None, end=None, paths=GRID.paths)
    stages = stages_of(held)
    marks = marks_of(stages.get(maker.make((0.2, 2))), ROOTS)
    sizes = {"train_sessions": 20, "test_sessions": 12, "embargo": 0, "anchored": False}
    return cut_windows(marks, **sizes), marks


def table_of(folder):
    return pl.read_parquet(folder / "windows" / "001" / "results.parquet")


@hypothesis_settings(max_examples=3)
@example(factor=1.5, minutes=0)
@given(factor=st.sampled_from([0.5, 1.001, 3.0]), minutes=st.integers(0, 2_000))
def test_no_bar_after_the_training_end_changes_a_choice(
    held, windows, tmp_path_factory, factor, minutes
):
    (window, *_), marks = windows
    base = tmp_path_factory.mktemp("as-it-is")
    plain = fitted_on(held, window, marks, base)
    from_ns = window.train_ends_ns + minutes * 60 * 10**9
    for source in (Changed(held, from_ns, factor), held.between(until_ns=from_ns)):
        folder = tmp_path_factory.mktemp("changed")
        found = fitted_on(source, window, marks, folder)
        assert found.row == plain.row
        assert table_of(folder).equals(table_of(base))


def test_bars_before_the_training_end_do_change_results(held, windows, tmp_path):
    (window, *_), marks = windows
    before = window.train_ends_ns - 5 * 86_400 * 10**9
    fitted_on(held, window, marks, tmp_path / "a")
    fitted_on(Changed(held, before, 1.01), window, marks, tmp_path / "b")
    assert not table_of(tmp_path / "a").equals(table_of(tmp_path / "b"))


RULES = {
    "plain": {},
    "minutes inside bars": {"strategy": {"exits": {"protective": {"stop": {"percent": 0.4}}}}},
    "widths": {"symbols": {"ES": {}, "CL": {"strategy": {"signal_bar": "4h"}}}},
    "days, and the pair": {"strategy": {"signal_bar": "1d", "filters": {"day_ibs": [0, 1]}}},
    "loss": {"risk": {"daily_loss_usd": 500}, "symbols": {"ES": {"strategy": {"signal_bar": "30m"}}, "CL": {}}},
}  # fmt: skip


def by_symbol(laid):
    """Bars of each symbol, and the minutes inside them: the last may stand there although none came after it."""
    for start in laid.starts:
        bars = laid.bars[start["bar"] : start["stop"]].copy()
        path = laid.path[start["path_offset"] :][: bars["path_stop"][-2]]
        bars["path_stop"][-1] = 0
        yield bars.tobytes(), path.tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_bars_cut_by_session_are_those_of_data_that_end_there(held, windows, rule):
    settings = Settings.model_validate(RULES[rule])
    maker = CandidateMaker(settings, CONTRACTS, ROOTS, start=None, end=None, paths=GRID.paths)
    candidate, whole = maker.make((0.3, 4)), stages_of(held)
    for window in windows[0]:
        cut = StagesUntil(whole, ROOTS, window.train, window.train_ends_ns).get(candidate)
        ended = stages_of(held.between(until_ns=window.train_ends_ns), span=window.train)
        own = ended.get(candidate)
        for mine, theirs in zip(*map(by_symbol, (cut.ground.laid, own.ground.laid)), strict=True):
            assert mine == theirs
        assert cut.ground.laid.sessions.tobytes() == own.ground.laid.sessions.tobytes()
        assert cut.ground.schedule.tobytes() == own.ground.schedule.tobytes()
        assert cut.ground.n_days.tolist() == own.ground.n_days.tolist()
        features = ([each.tobytes() for each in stage.ground.columns] for stage in (cut, own))
        assert next(features) == next(features)
        assert str(cut.marks) == str(own.marks)
        assert cut.days.tolist() == own.days.tolist()


def test_windows_share_one_reading(bars, tmp_path, monkeypatch):
    from ibs_core.one_pass import Reader

    plain, calls = Reader.read, []
    monkeypatch.setattr(
        Reader, "read", lambda *given, **more: calls.append(1) or plain(*given, **more)
    )
    told = json.loads(run(bars, tmp_path / "out", *WORDS[:2], *SIZES, "--json"))
    assert len(told["windows"]) == 3
    assert len(calls) == 2  # one for all windows, one for the configuration as it is


# ---------------------------------------------------------------- what is traded


@pytest.fixture(scope="module")
def walked(bars, tmp_path_factory):
    out = tmp_path_factory.mktemp("walk") / "one"
    said = run(bars, out, *WORDS, *SIZES)
    return out, json.loads((out / "summary.json").read_text()), said


def stitched_run(out):
    (folder,) = (out / "run").iterdir()
    return read_run(folder)


def test_the_trades_of_a_window_are_those_of_a_back_test_with_its_parameters(walked, bars, held):
    out, told, _ = walked
    stitched = stitched_run(out).trades
    seen = 0
    for number, window in enumerate(told["windows"], 1):
        settings = load_settings([out / "windows" / f"{number:03d}" / "best.yml"])
        first, last = map(date.fromisoformat, window["test"])
        one = trade(held, settings, CONTRACTS, roots=ROOTS, start=first, end=last).trades()
        own = stitched.slice(seen, one.height)
        assert own.equals(one)
        assert one.height > 5
        assert window["out_of_sample"]["trades"] == one.height
        seen += one.height
    assert seen == stitched.height
    assert len(told["windows"]) == 3


def test_the_training_sessions_alone_are_swept(walked, held):
    out, told, _ = walked
    first, last = map(date.fromisoformat, told["windows"][0]["train"])
    table = pl.read_parquet(out / "windows" / "001" / "results.parquet")
    assert table["sessions"].unique().to_list() == [20]
    settings = load_settings([out / "windows" / "001" / "best.yml"])
    one = trade(held, settings, CONTRACTS, roots=ROOTS, start=first, end=last)
    assert told["windows"][0]["in_sample"]["trades"] == len(one.trade_records)
    assert told["windows"][0]["plateau"] == table["plateau"].max()


LONG = {
    "entry": {"ibs": [0.0, 0.5], "pivots": "none"},
    "exits": {
        **dict.fromkeys(("bars", "ibs", "flat_by", "stop", "target")),
        "flat_before_early_close": False,
    },
}


def carried_windows(held, windows, values, cooldown=0):
    """Trade the windows of ES, which does not roll within them, leaving after so many bars."""
    settings = Settings.model_validate({"strategy": {**LONG, "cooldown_bars": cooldown}})
    paths = ("strategy.exits.bars",)
    maker = CandidateMaker(settings, CONTRACTS, ["ES"], start=None, end=None, paths=paths)
    fitted = [
        Fitted(window, maker.make((value,)), None)
        for window, value in zip(windows, values, strict=True)
    ]
    stages = stages_of(held, roots=["ES"])
    return list(trade_windows(fitted, stages)), [each.candidate.settings for each in fitted]


@pytest.mark.parametrize("cooldown", [0, 3])
def test_a_position_is_carried_to_its_exit_and_nothing_is_entered_until_then(
    held, windows, cooldown
):
    tested, settings = carried_windows(held, windows[0], [45, 3, 3], cooldown)
    before, after, own = tested[0].trades, tested[1].trades, windows[0][0]
    # Without an end the same back-test shows how the carried position leaves.
    endless = trade(held, settings[0], CONTRACTS, roots=["ES"], start=own.test[0]).trades()
    assert before.equals(endless.head(before.height))
    assert tested[0].carried == 1
    assert before["exit_time"][-1].timestamp() * 1e9 > own.test_ends_ns
    assert endless["entry_time"][before.height].timestamp() * 1e9 > own.test_ends_ns
    # The bar that holds the exit, of an hour, may decide again; with a cooldown some bars later.
    assert after["entry_time"][0] - before["exit_time"][-1] >= timedelta(hours=1 + cooldown)
    start = trade(
        held, settings[1], CONTRACTS, roots=["ES"], start=windows[0][1].test[0]
    ).trades()  # fmt: skip
    assert start["entry_time"][0] < before["exit_time"][-1]


def test_a_window_that_is_never_flat_again_leaves_the_rest_of_its_symbol_alone(held, windows):
    before_the_roll = held.between(until_ns=windows[0][1].test_ends_ns)
    tested, settings = carried_windows(before_the_roll, windows[0][:2], [None, 3])
    assert [each.carried for each in tested] == [1, 0]
    assert [len(each.held) for each in tested] == [1, 0]
    assert all(each.trades.is_empty() for each in tested)
    account = Account.of(settings[0], CONTRACTS, ["ES"])
    stitched = stitch(tested, windows[1].filter(pl.col("symbol") == "ES"), account, None)
    total = stitched.equity.filter(pl.col("symbol") == TOTAL)
    (still,) = stitched.stats["open_positions"]
    assert total["equity_usd"][-1] == account.capital + still["open_usd"]


@hypothesis_settings(max_examples=12)
@given(
    bars=st.sampled_from([1, 6, 30, None]),
    cooldown=st.sampled_from([0, 1, 5]),
    max_wait=st.sampled_from(["0m", "5m", "3h"]),
    signal_bar=st.sampled_from(["30m", "1h", "4h"]),
    protective=st.sampled_from([None, {"stop": {"percent": 0.4}, "target": None}]),
    n_test=st.integers(1, 9),
)
def test_windows_that_choose_alike_are_one_back_test(
    held, windows, bars, cooldown, max_wait, signal_bar, protective, n_test
):
    config = {
        "signal_bar": signal_bar,
        "cooldown_bars": cooldown,
        "entry": {"ibs": [0.0, 0.5], "pivots": "none", "max_wait": max_wait, "windows": []},
        "exits": {"flat_by": None, "flat_before_early_close": False, "protective": protective},
    }
    settings = Settings.model_validate({"strategy": config})
    paths = ("strategy.exits.bars",)
    maker = CandidateMaker(settings, CONTRACTS, ROOTS, start=None, end=None, paths=paths)
    sizes = {"train_sessions": 15, "test_sessions": n_test, "embargo": 0, "anchored": False}
    cut = cut_windows(windows[1], **sizes)
    candidate = maker.make((bars,))
    tested = list(trade_windows([Fitted(each, candidate, None) for each in cut], stages_of(held)))
    account = Account.of(settings, CONTRACTS, ROOTS)
    one = trade(held, candidate.settings, CONTRACTS, roots=ROOTS, start=cut[0].test[0])
    stitched = stitch(tested, windows[1], account, None)
    assert_frame_equal(stitched.trades, one.trades())
    assert stitched.trades.height > 10
    still = summarise(one, candidate.settings).stats["open_positions"]
    assert stitched.stats["open_positions"] == still


# ---------------------------------------------------------------- the numbers


def test_efficiency_is_out_of_sample_over_in_sample_per_session(walked):
    _, told, _ = walked

    def a_session(side):
        blocks = [window[side] for window in told["windows"]]
        earned = sum(block["net_usd"] + block["open_usd"] for block in blocks)
        return earned / sum(block["sessions"] for block in blocks)

    assert told["efficiency"] == pytest.approx(a_session("out_of_sample") / a_session("in_sample"))
    one = told["windows"][0]
    kept = one["out_of_sample"]["usd_per_session"] / one["in_sample"]["usd_per_session"]
    expected = kept if one["in_sample"]["usd_per_session"] > 0 else None
    assert one["efficiency"] == pytest.approx(expected)


def test_stability_counts_every_value_of_the_grid(walked):
    _, told, said = walked
    for axis in GRID.axes:
        chosen = [window["parameters"][axis.path] for window in told["windows"]]
        own = told["stability"][axis.path]
        assert own["counts"] == [[value, chosen.count(value)] for value in axis.values]
        assert own["changes"] == sum(a != b for a, b in pairwise(chosen))
        assert f"{axis.path} changed at {own['changes']} of 2 boundaries" in said


def test_a_window_without_a_choice_is_not_traded(held, windows):
    tested = list(trade_windows([Fitted(each, None, None) for each in windows[0]], stages_of(held)))
    stitched = stitch(tested, windows[1], Account.of(Settings(), CONTRACTS, ROOTS), None)
    found = conclude(GRID, tested, stitched)
    assert found.efficiency is None
    assert found.out_of_sample["trades"] == 0
    assert found.out_of_sample["sessions"] == sum(each.n_test for each in windows[0])


def test_every_candidate_of_every_window_is_a_trial_once(walked, bars, tmp_path):
    out, told, _ = walked
    with sqlite3.connect(out.parent / "models" / "trials.sqlite") as db:
        rows = db.execute(
            "SELECT study, count(*), min(n_periods) FROM trials GROUP BY study"
        ).fetchall()
    assert sorted(n for _, n, _ in rows) == [6, 6, 6]
    assert told["trials"] == 18
    assert stitched_run(out).stats["total"]["dsr"] == told["dsr"] is not None
    run(bars, out, *WORDS, *SIZES, "--resume", "--objective", "net")
    again = json.loads((out / "summary.json").read_text())
    assert again["trials"] == 18
    assert again["plan"]["objective"] == "net"


def test_the_stitched_run_says_what_it_is(bars, tmp_path):
    out = tmp_path / "short"
    told = json.loads(run(bars, out, *WORDS[2:], *SIZES, "--symbols", "ES", "--json"))
    stitched = stitched_run(out)
    assert stitched.meta["warnings"][0].startswith("stitched out-of-sample: 3 windows")
    assert [each["parameters"] for each in stitched.meta["walk_forward"]] == [
        each["parameters"] for each in told["windows"]
    ]
    assert stitched.config_yaml.startswith("# window 1, ")
    assert stitched.equity["session_date"].min().isoformat() == told["windows"][0]["test"][0]
    page = (out / "report.html").read_text()
    assert "random generator" in page
    assert "strategy.exits.bars" in page
    assert "<script src" not in page


# ---------------------------------------------------------------- faults and interruptions


def test_an_interrupted_walk_forward_goes_on_to_the_same_result(
    walked, bars, tmp_path, monkeypatch
):
    from ibs_core.sweep.folder import SweepFolder

    plain, calls = SweepFolder.keep, []

    def interrupted(self, tried):
        calls.append(len(tried))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return plain(self, tried)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(SweepFolder, "keep", interrupted)
        said = run(bars, out, *WORDS, *SIZES, code=130)
    assert f"what was tried is kept in {out}" in said
    assert not (out / "summary.json").exists()
    tried = []
    monkeypatch.setattr(
        SweepFolder, "keep", lambda self, rows: tried.append(len(rows)) or plain(self, rows)
    )
    run(bars, out, *WORDS, *SIZES, "--resume")
    assert sum(tried) == 18 - sum(calls[:8])
    for window in ("001", "002", "003"):
        ended, whole = (
            pl.read_parquet(each / "windows" / window / "results.parquet")
            for each in (out, walked[0])
        )
        assert_frame_equal(ended, whole)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([*SIZES], 2, "option --grid"),
        ([*WORDS, "--train-sessions", "60", "--test-sessions", "5"], 1, "more than 60 sessions"),
        ([*WORDS, *SIZES, "--embargo", "20"], 2, "the embargo"),
        ([*SIZES, "--grid", "capital=1000,2000"], 2, "the same in all windows"),
        ([*SIZES, "--grid", "strategy.exit.bars=4"], 2, "did you mean"),
        ([*WORDS, "--train-sessions", "5"], 2, "--test-sessions"),
    ],
)
def test_what_cannot_be_walked_is_told_in_words(bars, tmp_path, words, code, told):
    assert told in run(bars, tmp_path / "out", *words, code=code)
    assert not (tmp_path / "out").exists()


def test_a_cluster_finds_what_this_machine_does(walked, bars, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        run(bars, tmp_path / "there", *WORDS, *SIZES, "--cluster", cluster.scheduler_address)
    for window in ("001", "002", "003"):
        there, here = (
            each / "windows" / window / "results.parquet"
            for each in (tmp_path / "there", walked[0])
        )
        assert there.read_bytes() == here.read_bytes()
    told = json.loads((tmp_path / "there" / "summary.json").read_text())
    assert told | {"run": ""} == walked[1] | {"run": ""}


def test_a_folder_that_holds_something_is_kept(walked, bars, tmp_path):
    assert "--resume goes on" in run(bars, walked[0], *WORDS, *SIZES, code=2)
    (tmp_path / "report.html").write_text("mine")
    assert "other files" in run(bars, tmp_path, *WORDS, *SIZES, code=EnvironmentFault.exit_code)
    assert (tmp_path / "report.html").read_text() == "mine"
