"""A sweep is many back-tests at the price of their decisions: the same trades, each trial counted once."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import date

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ibs_core.backtest import trade
from ibs_core.bars import joined
from ibs_core.cli.main import cli
from ibs_core.config import Settings, load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError
from ibs_core.market_data import open_bars
from ibs_core.market_data.memory import hold
from ibs_core.outcome import summarise
from ibs_core.research.sample_data import write_sample
from ibs_core.sweep.candidate import CandidateMaker
from ibs_core.sweep.decision_pass import STATISTICS, digest_of, try_jobs
from ibs_core.sweep.grid import Axis, Grid, read_grid
from ibs_core.sweep.paths import overlay_of, tree_of, value_at
from ibs_core.sweep.plateau import chosen, plateaus
from ibs_core.sweep.stage import Stages
from ibs_core.sweep.verdict import judge

CONTRACTS = load_contract_map()
ROOTS = ["ES", "CL"]
GRID = ["--grid", "strategy.entry.ibs.1=0.2:0.4:0.1", "--grid", "strategy.exits.bars=2,4"]


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=ROOTS, start=date(2024, 1, 2), end=date(2024, 3, 15), seed=3)
    return folder


@pytest.fixture(scope="module")
def held(bars):
    return hold(open_bars([bars], CONTRACTS))


def run(bars, out, *words, code=0):
    places = ["--parquet", str(bars), "--out", str(out), "--models", str(out.parent / "models")]
    done = CliRunner().invoke(cli, ["sweep", *places, "--jobs", "1", *words])
    error = done.exception
    if isinstance(error, ConfigError):
        assert code == 2, error
        return str(error)
    assert done.exit_code == code, (done.output, error)
    return done.output


# ---------------------------------------------------------------- the grid


def axes_of(*texts, config=None):
    return read_grid(texts, Settings.model_validate(config or {})).axes


def test_a_range_includes_both_ends_and_is_exact():
    (axis,) = axes_of("strategy.entry.ibs.1=0.1:0.3:0.05")
    assert axis.values == (0.1, 0.15, 0.2, 0.25, 0.3)
    (axis,) = axes_of("strategy.exits.bars=4:12:4")
    assert repr(axis.values) == "(4, 8, 12)"


@given(st.integers(-500, 500), st.integers(1, 60), st.integers(0, 60), st.integers(0, 4))
def test_every_value_of_a_range_is_the_decimal_that_one_would_type(first, step, n, places):
    def spelt(k):
        return f"{k}e-{places}" if places else str(k)

    def plain(k):
        return f"{k / 10**places:.{places}f}"

    text = f"{plain(first)}:{plain(first + n * step)}:{plain(step)}"
    (axis,) = axes_of(f"capital={text}")
    assert list(axis.values) == [float(spelt(first + k * step)) for k in range(n + 1)]


def test_words_of_a_list_are_read_by_what_stands_there():
    assert axes_of("strategy.exits.stop.atr=1,0.5,off")[0].values == (1, 0.5, None)
    assert axes_of("strategy.exits.flat_before_early_close=off,true")[0].values == (False, True)
    assert axes_of("strategy.exits.flat_by=14:00,null")[0].values == ("14:00", None)
    assert axes_of("strategy.exits.bars=4,4,8")[0].values == (4, 8)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("strategy.exit.bars=4", "did you mean 'strategy.exits'?"),
        ("strategy.exits.bar=4", "did you mean 'strategy.exits.bars'?"),
        ("strategy.entry.ibs.2=0.1", "there are 0, 1"),
        ("strategy.entry=1", "name a key of it: ibs"),
        ("strategy.filters.bar_rsi2.1=40", "nothing stands below it"),
        ("strategy.exits.bars=8:4:1", "a step above 0"),
        ("strategy.exits.bars=4:8:0", "a step above 0"),
        ("strategy.exits.bars=4,,8", "values between commas"),
        ("strategy.exits.bars=", "PATH=VALUE"),
        ("capital=1:2:0.00001", "take a wider step"),
    ],
)
def test_a_bad_grid_is_told_in_words(text, told):
    with pytest.raises(ConfigError, match=told.replace("?", r"\?").replace("'", ".")):
        axes_of(text)


def test_a_path_is_given_once_and_one_at_least():
    with pytest.raises(ConfigError, match="twice"):
        axes_of("strategy.exits.bars=4", "strategy.exits.bars=8")
    with pytest.raises(ConfigError, match="found none"):
        axes_of()


def test_an_overlay_sets_one_place_of_a_list_and_leaves_the_rest():
    settings = Settings.model_validate({"strategy": {"entry": {"ibs": [0.05, 0.2]}}})
    paths = ("strategy.entry.ibs.1", "strategy.entry.windows.0.1", "strategy.exits.target.percent")
    assert overlay_of(tree_of(settings), paths, (0.3, "14:00", None)) == {
        "strategy": {
            "entry": {"ibs": [0.05, 0.3], "windows": [["00:00", "14:00"], ["17:00", "24:00"]]},
            "exits": {"target": None},
        }
    }


def test_a_symbol_s_own_strategy_is_swept_where_it_stands():
    config = {"symbols": {"ES": {"strategy": {"exits": {"bars": 3}}}, "CL": {}}}
    settings = Settings.model_validate(config)
    assert value_at("symbols.ES.strategy.exits.bars", settings) == 3
    assert value_at("symbols.CL.strategy.entry.ibs.1", settings) == 0.2
    maker = maker_of(settings, ["symbols.CL.strategy.entry.ibs.1"])
    made = maker.make((0.35,)).settings
    assert made.strategy_of("CL").entry.ibs == (0.0, 0.35)
    assert made.strategy_of("ES") == settings.strategy_of("ES")


# ---------------------------------------------------------------- the same trades


def maker_of(settings, paths, span=(None, None)):
    return CandidateMaker(
        settings, CONTRACTS, ROOTS_IN_ORDER, start=span[0], end=span[1], paths=paths
    )


ROOTS_IN_ORDER = [root for root in CONTRACTS.contracts if root in ROOTS]


def stages_of(held, span=(None, None)):
    return Stages(
        held, CONTRACTS, ROOTS_IN_ORDER,
        start=span[0], end=span[1], strict=False, progress=lambda _root, _rows: None,
    )  # fmt: skip


VALUES = {
    "strategy.entry.ibs.1": [0.1, 0.25, 0.6, 1.0],
    "strategy.entry.pivots": ["none", "inside", "higher_high"],
    "strategy.entry.windows.0.1": ["10:00", "15:00"],
    "strategy.entry.max_wait": ["0m", "3h"],
    "strategy.filters.bar_rsi2.1": [20, 60],
    "strategy.exits.bars": [1, 3, None],
    "strategy.exits.stop.percent": [0.2, None],
    "strategy.exits.target.atr": [None, 0.5, 2],
    "strategy.exits.ibs.0": [0.5, 0.9],
    "strategy.exits.flat_by": ["11:00", "15:00", None],
    "strategy.exits.protective.stop.percent": [None, 0.1],
    "strategy.signal_bar": ["30m", "1h", "4h"],
    "strategy.cooldown_bars": [0, 3],
    "risk.max_positions": [1, None],
    "risk.daily_loss_usd": [300, None],
    "risk.no_entry_before_close": ["2h", None],
    "symbols.CL.quantity": [1, 3],
    "costs.slippage_ticks": [0, 1],
    "capital": [50_000],
}
CONFIG = {"strategy": {"filters": {"bar_rsi2": [0, 80]}}, "symbols": {"ES": {}, "CL": {}}}
grids = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True).flatmap(
    lambda paths: st.tuples(
        st.just(tuple(paths)),
        st.lists(
            st.tuples(*(st.sampled_from(VALUES[path]) for path in paths)),
            min_size=1,
            max_size=3,
            unique_by=repr,
        ),
    )
)


def one_by_one(held, settings):
    traded = trade(held, settings, CONTRACTS)
    return digest_of(traded.trade_records), summarise(traded, settings).stats["total"]


@hypothesis_settings(max_examples=25)
@given(grids)
def test_a_candidate_is_a_back_test_with_the_same_settings(held, grid):
    paths, combinations = grid
    maker, stages = maker_of(Settings.model_validate(CONFIG), paths), stages_of(held)
    for values in combinations:
        candidate = maker._candidate(0, values)
        (found,) = try_jobs(stages.get(candidate), [stages.job(candidate)])
        digest, total = one_by_one(held, candidate.settings)
        assert found.digest == digest
        assert (found.trades, found.sessions) == (total["trades"], total["sessions"])
        assert found.statistics == {name: total[name] for name in STATISTICS}


BUSY = {"entry": {"ibs": [0, 0.7], "pivots": "none"}, "filters": {"bar_rsi2": [0, 90]}}


@pytest.mark.parametrize("path", [path for path in sorted(VALUES) if path != "capital"])
def test_each_parameter_makes_a_difference_and_the_same_as_in_a_back_test(held, path):
    config = {"strategy": BUSY, "symbols": {"ES": {}, "CL": {}}}
    maker, stages = maker_of(Settings.model_validate(config), (path,)), stages_of(held)
    stages.get(maker_of(Settings.model_validate(config), ("capital",)).make((1e5,)))  # nothing set
    digests = []
    for value in VALUES[path]:
        candidate = maker.make((value,))
        (found,) = try_jobs(stages.get(candidate), [stages.job(candidate)])
        one = trade(held, candidate.settings, CONTRACTS)
        assert found.digest == digest_of(one.trade_records), value
        assert found.trades > 30
        digests.append((found.digest, found.statistics["net_usd"]))
    assert len(set(digests)) == len(digests)


def test_dates_and_data_that_stop_inside_a_bar_change_nothing_of_that(held):
    last = max(int(run.ts_ns[-1]) for run in held.stream(["ES"]))
    cut = held.between(until_ns=last - 20 * 60 * 10**9)
    span = (date(2024, 2, 1), date(2024, 2, 20))
    maker = maker_of(Settings(), ("strategy.entry.ibs.1",), span)
    for source, asked in ((held, span), (cut, (None, None))):
        stages, candidate = stages_of(source, asked), maker.make((0.5,))
        (found,) = try_jobs(stages.get(candidate), [stages.job(candidate)])
        one = trade(source, candidate.settings, CONTRACTS, start=asked[0], end=asked[1])
        assert found.digest == digest_of(one.trade_records)
        assert found.trades == len(one.trade_records) > 0


@pytest.mark.parametrize(
    ("name", "values", "warm"),
    [("bar_pair_rsi14", (40, 100), True), ("bar_pair_ibs_rank", (0.5, 1), False)],
)
def test_features_of_another_instrument_are_laid_beside_as_in_a_back_test(
    tmp_path, name, values, warm
):
    spans = {"ES": date(2024, 1, 2), "NQ": date(2024, 1, 22)}  # the pair warms up later
    for root, first in spans.items():
        write_sample(tmp_path, roots=[root], start=first, end=date(2024, 2, 29), seed=3)
    source = hold(open_bars([tmp_path], CONTRACTS))
    filters = {name: [0, 1]}
    busy = {"filters": filters, "entry": BUSY["entry"]}
    settings = Settings.model_validate({"strategy": busy})
    paths = (f"strategy.filters.{name}.1",)
    maker = CandidateMaker(settings, CONTRACTS, ["ES", "NQ"], start=None, end=None, paths=paths)
    stages = Stages(
        source, CONTRACTS, ["ES", "NQ"],
        start=None, end=None, strict=False, progress=lambda _root, _rows: None,
    )  # fmt: skip
    counts = []
    for value in values:
        candidate = maker.make((value,))
        (found,) = try_jobs(stages.get(candidate), [stages.job(candidate)])
        one = trade(source, candidate.settings, CONTRACTS)
        assert found.digest == digest_of(one.trade_records)
        counts.append(found.trades)
    assert 0 < counts[0] < counts[1] if warm else counts == [0, 0]


# ---------------------------------------------------------------- the command


def bytes_of(folder):
    names = ("results.parquet", "summary.json", "best.yml", "report.html", "sweep.json")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def swept(bars, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "one"
    said = run(bars, out, *GRID)
    return out, said


def test_a_row_a_candidate_and_the_configuration_of_the_choice(swept, bars):
    out, said = swept
    table = pl.read_parquet(out / "results.parquet")
    told = json.loads((out / "summary.json").read_text())
    assert table["candidate"].to_list() == list(range(6))
    assert table["strategy.entry.ibs.1"].to_list() == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4]
    assert table["strategy.exits.bars"].to_list() == [2, 4] * 3
    assert told["candidates"] == told["trials"] == 6
    assert "candidates: 3 x 2 = 6" in said
    assert "6 trials" in said
    settings = load_settings([out / "best.yml"])
    one = trade(open_bars([bars], CONTRACTS), settings, CONTRACTS)
    assert told["choice"]["trades_digest"] == digest_of(one.trade_records)
    assert told["choice"]["plateau"] == table["plateau"].max()
    assert told["luckiest"]["sharpe"] == table["sharpe"].max()


def test_the_report_needs_no_network_and_leads_with_the_choice(swept):
    out, _ = swept
    page = (out / "report.html").read_text()
    told = json.loads((out / "summary.json").read_text())["choice"]
    first = f"<strong>strategy.entry.ibs.1 = {told['strategy.entry.ibs.1']}, strategy.exits.bars"
    assert first in page
    assert "6 trials in the ledger" in page
    assert "random generator" in page
    assert "<script src" not in page


def test_a_heat_map_is_of_losses_below_0_and_gains_above_and_marks_the_choice(swept):
    out, _ = swept
    payload = (out / "report.html").read_text().split("id='payload'>")[1].split("</script>")[0]
    charts = json.loads(payload)["charts"]
    told = json.loads((out / "summary.json").read_text())
    assert list(charts) == ["sharpe", "plateau"]
    for key, chart in charts.items():
        (cells,) = chart["data"]
        assert cells["colorscale"] == [[0, "--loss-cell"], [0.5, "--rule"], [1, "--win-cell"]]
        assert cells["zmid"] == 0
        assert chart["layout"]["shapes"]
        for mark, shape in zip(("choice", "luckiest"), chart["layout"]["shapes"], strict=False):
            x, y = (int(sum(shape[axis + end] for end in "01")) // 2 for axis in "xy")
            assert cells["x"][x] == f"{told[mark]['strategy.entry.ibs.1']:g}"
            assert cells["y"][y] == str(told[mark]["strategy.exits.bars"])
            assert cells["z"][y][x] == told[mark][key]


def test_two_processes_find_the_same_bytes(swept, bars, tmp_path):
    out, _ = swept
    run(bars, tmp_path / "two", *GRID, "--jobs", "2")
    assert bytes_of(tmp_path / "two") == bytes_of(out)


DIES_AT_WORK = """
import os, signal
from ibs_core.sweep import decision_pass, workers
def tried(stage, jobs):
    next(iter(decision_pass.try_jobs(stage, jobs)))
    os.kill(os.getpid(), signal.SIGKILL)
workers.try_jobs = tried
"""


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers as `dask worker` starts them; the first is killed in its first batch."""
    distributed = pytest.importorskip("distributed")
    preload = tmp_path / "dies_at_work.py"
    preload.write_text(DIES_AT_WORK)
    alone = {"n_workers": 0, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(protocol="tcp://", host="127.0.0.1", **alone) as found:
        words = [sys.executable, "-m", "distributed.cli.dask_worker", found.scheduler_address]
        words += ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", tmp_path]
        started = [
            subprocess.Popen([*map(str, words), *more], stderr=subprocess.DEVNULL)
            for more in (["--preload", str(preload)], [])
        ]
        try:
            found.wait_for_workers(2, timeout=120)
            yield found.scheduler_address, *started
        finally:
            for worker in started:
                worker.kill()
                worker.wait()


def test_a_cluster_finds_the_same_bytes_though_a_worker_is_killed(swept, bars, tmp_path, cluster):
    address, dies, lives = cluster
    run(bars, tmp_path / "there", *GRID, "--cluster", address)
    assert dies.wait(60) == -signal.SIGKILL
    assert lives.poll() is None
    assert bytes_of(tmp_path / "there") == bytes_of(swept[0])


def test_a_cluster_needs_its_extra_and_says_so(bars, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    places = ["--out", str(tmp_path / "none"), "--models", str(tmp_path / "models")]
    words = ["sweep", "--parquet", str(bars), *places, *GRID, "--cluster", "tcp://127.0.0.1:1"]
    error = CliRunner().invoke(cli, words).exception
    assert "pip install 'ibs[dask]'" in str(error)
    assert not (tmp_path / "none").exists()


def test_the_same_candidate_over_the_same_bars_is_one_trial(bars, tmp_path):
    run(bars, tmp_path / "a", "--grid", "strategy.exits.bars=2,4")
    run(bars, tmp_path / "b", "--grid", "strategy.exits.bars=4,6")
    run(bars, tmp_path / "c", "--grid", "strategy.exits.bars=4:6:2", "--grid", "capital=100000")
    told = [json.loads((tmp_path / name / "summary.json").read_text())["trials"] for name in "abc"]
    assert told == [2, 3, 3]
    run(bars, tmp_path / "d", "--grid", "strategy.exits.bars=2,4", "--start", "2024-01-10")
    assert json.loads((tmp_path / "d" / "summary.json").read_text())["trials"] == 5
    with sqlite3.connect(tmp_path / "models" / "trials.sqlite") as db:
        rows = db.execute("SELECT command, symbol, n_periods, generated FROM trials").fetchall()
    assert {(row[0], row[1], row[3]) for row in rows} == {("sweep", ",".join(ROOTS_IN_ORDER), 1)}
    assert all(row[2] > 30 for row in rows)


KILLED = """
import os, signal, sys
from ibs_core.cli.main import run
from ibs_core.sweep.folder import SweepFolder
from ibs_core.sweep.run import Record
of, name, after, last = {"append": Record, "keep": SweepFolder}[sys.argv[1]], sys.argv[1], sys.argv[2], int(sys.argv[3])
plain, calls = getattr(of, name), []
def call(*given):
    calls.append(1)
    if len(calls) == last and after == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    found = plain(*given)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
setattr(of, name, call)
sys.argv = ["ibs", *sys.argv[4:]]
run()
"""


@pytest.mark.parametrize("when", [("append", "after", "2"), ("keep", "before", "3")], ids="-".join)
def test_a_killed_sweep_goes_on_to_the_same_bytes(swept, bars, tmp_path, when):
    whole, _ = swept
    out, models = tmp_path / "killed", tmp_path / "models"
    words = ["--parquet", bars, *GRID, "--out", out, "--models", models, "--jobs", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *when, "sweep", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "results.parquet").exists()
    n_kept = sum(pl.read_parquet(part).height for part in (out / "parts").glob("*.parquet"))
    assert n_kept < 6
    run(bars, out, *GRID, "--resume")
    assert bytes_of(out) == bytes_of(whole)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(swept, bars, tmp_path, monkeypatch):
    from ibs_core.sweep.folder import SweepFolder

    plain, calls = SweepFolder.keep, []

    def interrupted(self, tried):
        calls.append(len(tried))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, tried)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(SweepFolder, "keep", interrupted)
        said = run(bars, out, *GRID, code=130)
    assert f"interrupted: {sum(calls[:2])} of 6 candidates are kept in {out}" in said
    assert "--resume" in said
    tried = []
    monkeypatch.setattr(
        SweepFolder, "keep", lambda self, rows: tried.append(len(rows)) or plain(self, rows)
    )
    run(bars, out, *GRID, "--resume")
    assert sum(tried) == 6 - sum(calls[:2])
    assert bytes_of(out) == bytes_of(swept[0])


def test_what_a_lost_ledger_does_not_count_is_tried_again(swept, bars, tmp_path):
    shutil.copytree(swept[0], tmp_path / "one")
    run(bars, tmp_path / "one", *GRID, "--resume")
    assert bytes_of(tmp_path / "one") == bytes_of(swept[0])
    with sqlite3.connect(tmp_path / "models" / "trials.sqlite") as db:
        assert db.execute("SELECT count(*) FROM trials").fetchone() == (6,)


def test_a_folder_takes_one_sweep(swept, bars, tmp_path):
    out = tmp_path / "one"
    shutil.copytree(swept[0], out)
    assert "--resume goes on with it" in run(bars, out, *GRID, code=2)
    other = run(bars, out, "--grid", "strategy.exits.bars=2", "--resume", code=2)
    assert "found another grid" in other
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    places = ["--out", str(tmp_path / "full"), "--models", str(tmp_path / "models")]
    done = CliRunner().invoke(cli, ["sweep", "--parquet", str(bars), *places, *GRID])
    assert "other files" in str(done.exception)
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--grid", "strategy.entry.ibs.0=0.1,0.5"], "expected [low, high] with low <= high"),
        (["--grid", "strategy.exits.flat_by=15:00,16:30"], "flat_by of"),
        (["--grid", "strategy.exits.bars=4,8.0,8"], "which are the same rule"),
        (["--grid", "model.mode=off,veto"], "off: a sweep judges the rule without its veto"),
        (
            ["--grid", "strategy.exits.bars=1:200:1", "--grid", "strategy.cooldown_bars=0:200:1"],
            "found 200 x 201 = 40,200",
        ),
    ],
)
def test_a_bad_candidate_is_refused_before_anything_is_made(bars, tmp_path, words, told):
    assert told in run(bars, tmp_path / "none", *words, code=2)
    assert not (tmp_path / "none").exists()


def test_a_search_finds_the_same_on_any_number_of_processes_and_goes_on(bars, tmp_path):
    words = [*GRID, "--grid", "strategy.cooldown_bars=0:3:1", "--search", "optuna", "--seed", "3"]
    run(bars, tmp_path / "a", *words, "--trials", "10")
    run(bars, tmp_path / "b", *words, "--trials", "4")
    run(bars, tmp_path / "b", *words, "--trials", "10", "--resume", "--jobs", "2")
    one = pl.read_parquet(tmp_path / "a" / "results.parquet")
    assert one.equals(pl.read_parquet(tmp_path / "b" / "results.parquet"))
    assert one.height > 10  # the neighbours of the best were tried as well
    best = one.head(10).sort("sharpe", descending=True).head(3)
    assert (best["neighbours"] >= 2).all()


def between(low, *highs):
    high = ",".join(map(repr, highs))
    return ["--grid", f"strategy.entry.ibs.0={low!r}", "--grid", f"strategy.entry.ibs.1={high}"]


def test_no_trade_is_told_in_words(bars, tmp_path):
    said = run(bars, tmp_path / "none", *between(0.1234001, 0.1234002, 0.1234003))
    assert "no candidate made a trade: widen the grid" in said
    assert "Nothing to choose from" in (tmp_path / "none" / "report.html").read_text()
    assert json.loads((tmp_path / "none" / "summary.json").read_text())["verdict"] is None
    assert not (tmp_path / "none" / "best.yml").exists()


def test_a_single_trade_is_told_in_words(bars, tmp_path):
    traded = trade(open_bars([bars], CONTRACTS), Settings(), CONTRACTS)
    values, counts = np.unique(joined(list(traded.signals))["ibs"], return_counts=True)
    seen_once = set(values[counts == 1].tolist())
    ibs = next(each for each in traded.trade_records["ibs_entry"].tolist() if each in seen_once)
    said = run(bars, tmp_path / "single", *between(ibs, ibs))
    assert "the choice made a single trade: below 100 its numbers are mostly chance" in said


def test_few_sessions_are_told_in_words(bars, tmp_path):
    said = run(bars, tmp_path / "few", *GRID, "--start", "2024-03-14")
    assert "no candidate has a Sharpe ratio: the data hold too few sessions" in said


# ---------------------------------------------------------------- plateau and verdict


def test_a_peak_that_stands_alone_scores_as_the_ground_around_it():
    grid = Grid((Axis("a", (1, 2, 3, 4)), Axis("b", (10, 20, None))))
    sharpe = {(1, 10): 9.0, (2, 10): 0.1, (1, 20): 0.2, (2, 20): 0.3, (3, 10): 1.0, (3, 20): 1.1,
              (4, 10): 1.2, (4, 20): 1.3, (1, None): 5.0, (2, None): np.nan,
              (3, None): 0.4, (4, None): 0.5}  # fmt: skip
    found = plateaus(grid, list(sharpe), np.array(list(sharpe.values())))
    score = dict(zip(sharpe, found.score.tolist(), strict=True))
    worst = dict(zip(sharpe, found.worst.tolist(), strict=True))
    count = dict(zip(sharpe, found.neighbours.tolist(), strict=True))
    assert score[1, 10] == pytest.approx(0.15)  # the median of 0.1 and 0.2
    assert worst[1, 10] == 0.1
    assert score[4, 20] == pytest.approx(1.15)
    assert score[3, 10] == 1.0  # its own: 0.1, 1.1 and 1.2 lie beside it
    assert score[1, None] == 0.0  # "off" lies beside no number, and an undefined ratio is 0
    assert (count[3, 10], count[3, None], count[1, 10]) == (3, 2, 2)
    assert list(sharpe)[chosen(found.score, np.array(list(sharpe.values())))] == (4, 20)


def test_neighbours_are_next_in_value_not_in_writing():
    grid = Grid((Axis("a", ("30m", "4h", "1h")),))
    found = plateaus(grid, [("30m",), ("4h",), ("1h",)], np.array([1.0, 2.0, 3.0]))
    assert found.neighbours.tolist() == [1, 1, 2]
    assert found.score.tolist() == [1.0, 2.0, 1.5]


def test_words_have_no_neighbours():
    grid = Grid((Axis("a", ("none", "inside", True, None)),))
    found = plateaus(
        grid, [(each,) for each in grid.axes[0].values], np.array([1.0, 2.0, 0.5, 0.1])
    )
    assert found.neighbours.tolist() == [0, 0, 0, 0]
    assert np.isnan(found.score).all()
    assert chosen(found.score, np.array([1.0, 2.0, 0.5, 0.1])) == 1
    assert chosen(found.score, np.full(4, np.nan)) is None


def returns_of(seed, n_trials, skill=0.0, n=1500):
    noise = np.random.default_rng(seed).normal(size=(n, n_trials)) * 0.01
    noise[:, 0] += skill * 0.01
    return noise


def judged(returns, choice, **facts):
    sharpe = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    given = {"n_trials": returns.shape[1], "variance": float(sharpe.var()), "plateau": 0.5}
    return judge(returns, choice, **(given | facts))


def test_skill_is_promotable_and_the_luckiest_of_noise_is_not():
    skilled = judged(returns_of(1, 50, skill=0.2), 0)
    assert skilled.promotable
    assert skilled.reasons == ()
    noise = returns_of(1, 50)
    lucky = judged(noise, int(np.argmax(noise.mean(axis=0))))
    assert not lucky.promotable
    assert "deflated Sharpe ratio" in lucky.reasons[0]
    assert lucky.psr > 0.95  # what it would say of itself alone


def test_each_condition_stands_in_the_way_alone():
    returns = returns_of(1, 50, skill=0.2)
    assert judged(returns, 0).promotable
    assert len(judged(returns, 0, plateau=0.0).reasons) == 1
    assert len(judged(returns, 0, plateau=None).reasons) == 1
    assert len(judged(returns, 0, variance=None).reasons) == 1
    assert len(judged(returns[:, :1], 0, variance=1e-4).reasons) == 1  # nothing to be chosen among


def test_more_trials_are_a_higher_bar():
    returns = returns_of(4, 20, skill=0.1)
    few, many = (judged(returns, 0, n_trials=n).dsr for n in (20, 20_000))
    assert few > many
