"""The command line as a careless user meets it: one message, an exit code, nothing half-written."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import click
import polars as pl
import pytest

from ibs_core.cli.main import cli, run
from ibs_core.config import load_settings
from ibs_core.report.folder import read_run
from ibs_core.research.sample_data import write_sample

IBS = (sys.executable, "-c", "from ibs_core.cli.main import run; run()")
TABLES = ("trades.parquet", "decisions.parquet", "equity.parquet", "stats.json")
PATIENCE_S = 180  # covers a first compilation on a slow machine


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Six weeks of ES and ZC over no roll, one file each."""
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=["ES", "ZC"], start=date(2024, 1, 2), end=date(2024, 2, 9), seed=3)
    with pytest.MonkeyPatch.context() as patch:  # compile first: the notice is no part of any test
        words = ["backtest", str(folder / "ES.parquet"), "--out", str(folder / "runs"), "--quiet"]
        patch.setattr(sys, "argv", ["ibs", *words])
        run()
    shutil.rmtree(folder / "runs")
    return folder


@pytest.fixture(scope="module")
def minutes(bars):
    return pl.read_parquet(bars / "ES.parquet")


@pytest.fixture
def ibs(tmp_path, monkeypatch, capsys):
    """Call the command line in this process, inside an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def backtest(ibs, bars):
    """Back-test, by default the ES file, quietly."""

    def call(*words, data=bars / "ES.parquet"):
        return ibs("backtest", "--parquet", data, "--no-report", *words)

    return call


@pytest.fixture
def config(tmp_path):
    """Write a configuration file, each call another one."""
    numbers = itertools.count()

    def write(text):
        path = tmp_path / f"c{next(numbers)}.yml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def damaged(minutes, tmp_path):
    """Write the ES bars after a change to them."""

    def write(change):
        path = tmp_path / "ES.parquet"
        change(minutes).write_parquet(path)
        return path

    return write


def refused(result, code, *said):
    """One line that begins with `error:`, and nothing else."""
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for part in said:
        assert part in result.err, result.err


def only_run(out):
    (folder,) = [each for each in Path(out).iterdir() if each.is_dir()]
    return folder


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def at(column, row, value):
    """Replace one value."""
    return pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(column).alias(column)


# Bars that cannot be used


def test_a_missing_file_is_a_fault_of_the_environment(backtest):
    refused(backtest(data="YOUR.parquet"), 3, "'YOUR.parquet'", "check the path")


def test_a_glob_without_a_match_says_so(backtest):
    refused(backtest(data="bars/*.parquet"), 3, "'bars/*.parquet'", "found none")


def test_a_folder_without_bars_says_which_files_it_looked_for(backtest, tmp_path):
    refused(backtest(data=tmp_path), 3, "*.parquet")


def test_an_empty_file_has_no_bars(backtest, tmp_path):
    path = tmp_path / "empty.parquet"
    path.touch()
    refused(backtest(data=path), 1, "empty file", "empty.parquet")


def test_a_file_of_another_kind_is_not_readable(backtest, tmp_path):
    path = tmp_path / "bars.parquet"
    path.write_text("time,open,high,low,close\n")
    refused(backtest(data=path), 3, "expected Parquet or DBN", "bars.parquet")


def test_a_file_cut_in_half_is_not_readable(backtest, bars, tmp_path):
    whole = (bars / "ES.parquet").read_bytes()
    path = tmp_path / "half.parquet"
    path.write_bytes(whole[: len(whole) // 2])
    refused(backtest(data=path), 3, "truncated", "half.parquet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission_says_so(backtest, damaged):
    path = damaged(lambda bars: bars)
    path.chmod(0)
    refused(backtest(data=path), 3, "may not be read", "owner or mode")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda bars: bars.rename({"close": "last"}), ["missing column 'close'", "rename or add"]),
        (lambda bars: bars.drop("symbol"), ["missing column 'symbol'"]),
        (
            lambda bars: bars.with_columns(pl.col("ts_event").dt.replace_time_zone(None)),
            ["naive timestamps", "replace_time_zone"],
        ),
        (lambda bars: bars.with_columns(symbol=pl.lit("XX")), ["unknown symbol", "'XX'"]),
        (lambda bars: bars.clear(), ["no usable row"]),
        (lambda bars: bars.with_columns(at("low", 500, 0.0)), ["price at or below zero", "low=0"]),
        (
            lambda bars: bars.with_columns(at("low", 500, pl.col("high") + 1)),
            ["low <= high", "ESH2024 at 2024-01-02T"],
        ),
        (
            lambda bars: bars.with_columns(at("close", 500, pl.col("high") + 1)),
            ["close outside the bar"],
        ),
        (
            lambda bars: pl.concat(
                [bars, bars.slice(700, 1).with_columns(pl.col("volume") + 1)],
            ),
            ["duplicates that contradict each other", "keep the right one"],
        ),
    ],
)
def test_bars_that_no_repair_may_hide_are_a_finding(backtest, damaged, change, said):
    refused(backtest("--out", "runs", data=damaged(change)), 1, "ES.parquet", *said)
    assert not Path("runs").exists()


# Bars that are repaired, counted and told

SHUFFLED = (lambda bars: bars.sample(fraction=1, shuffle=True, seed=1), "out of order were sorted")
REPAIRS = [
    SHUFFLED,
    (lambda bars: pl.concat([bars, bars.slice(100, 5)]), "5 identical duplicates"),
    (
        lambda bars: bars.with_columns(at("close", 500, float("nan"))),
        "1 minutes with a missing price",
    ),
    (
        lambda bars: bars.with_columns(at("open", 500, None)),
        "1 minutes with a missing price",
    ),
    (
        lambda bars: pl.concat(
            [
                bars,
                bars.tail(1).with_columns(
                    ts_event=pl.lit(datetime(2024, 2, 10, 12, tzinfo=UTC)).cast(
                        bars.schema["ts_event"]
                    )
                ),
            ]
        ),
        "1 minutes",
    ),
]


@pytest.mark.parametrize(("change", "said"), REPAIRS)
def test_repairs_are_counted_and_told(backtest, damaged, change, said):
    result = backtest("--json", data=damaged(change))
    assert result.code == 0, result
    assert any(said in line for line in json.loads(result.out)["warnings"])
    assert "note: ES: " in backtest(data=damaged(change)).out


@pytest.mark.parametrize(("change", "said"), REPAIRS)
def test_strict_refuses_what_would_be_repaired(backtest, ibs, damaged, change, said):
    path = damaged(change)
    refused(backtest("--strict", data=path), 1, "ES", "without --strict")
    refused(ibs("data", "check", path, "--strict", "--quiet"), 1, said, "--strict")
    assert ibs("data", "check", path, "--quiet") == Result(0, "", "")


def test_shuffled_minutes_give_the_same_trades(backtest, damaged):
    backtest("--out", "sorted")
    backtest("--out", "shuffled", data=damaged(SHUFFLED[0]))
    sorted_, shuffled = bytes_of(only_run("sorted")), bytes_of(only_run("shuffled"))
    assert sorted_ == shuffled


# Configurations

WRONG = [
    ("strategi: {}", "strategi:", "did you mean 'strategy'?"),
    ("strategy: {entry: {ibss: [0, 0.1]}}", "strategy.entry.ibss:", "did you mean 'ibs'?"),
    ("strategy: {entry: {ibs: [0.3, 0.1]}}", "strategy.entry.ibs:", "low <= high"),
    ("strategy: {entry: {ibs: [0, 2]}}", "strategy.entry.ibs:", "within [0, 1]"),
    ("strategy: {entry: {ibs: 0.2}}", "strategy.entry.ibs:", "[low, high]", "found 0.2"),
    ('strategy: {entry: {windows: [["15:00", "09:00"]]}}', "starts before it ends", "as two"),
    ('strategy: {entry: {windows: ["09:00", "15:00"]}}', 'such as [["00:00", "15:00"]'),
    ("strategy: {entry: {max_wait: 5}}", "strategy.entry.max_wait:", '"5m"'),
    ("strategy: {entry: {pivots: inner}}", "'inside', 'higher_high' or 'none'", "found 'inner'"),
    ("strategy: {signal_bar: 2h}", "'1h', '4h' or '1d'", "found '2h'"),
    ("strategy: {filters: {bar_rsi2: 5}}", "[low, high] or a set {in: [1, 2]}, found 5"),
    ("strategy: {filters: {bar_rsi2: [40, 0]}}", "filters.bar_rsi2:", "low <= high"),
    ("strategy: {filters: {bar_rsi2: [0, x]}}", "filters.bar_rsi2.1: expected a number, found 'x'"),
    ("strategy: {filters: {cal_dow: {inn: [1]}}}", "filters.cal_dow.inn:", "did you mean 'in'?"),
    ("strategy: {filters: {cal_dow: {in: 1}}}", "numbers, such as {in: [1, 2]}, found 1"),
    ("strategy: {exits: {stop: 1}}", "{percent: 1.0} or {atr: 1.0}, or null", "found 1"),
    ("strategy: {exits: {stop: {percent: 1, atr: 1}}}", "either percent or atr"),
    ("strategy: {exits: {stop: {percent: -1}}}", "stop.percent: expected a number above 0"),
    ("strategy: {exits: {bars: 0}}", "expected a number of at least 1, found 0"),
    ("strategy: {exits: {bars: true}}", "expected a number, found True"),
    ('strategy: {exits: {flat_by: "25:00"}}', '"00:00" to "24:00"', "found '25:00'"),
    ("strategy: 5", "strategy: expected a mapping", "found 5"),
    ("symbols: {ES: {quantity: 0}}", "symbols.ES.quantity:", "at least 1"),
    ("symbols: {ES: {strategy: {entri: {}}}}", "symbols.ES.strategy.entri:", "'entry'"),
    ("capital: .nan", "capital:", "finite number"),
    ("capital: lots", "capital: expected a number, found 'lots'"),
    ("capital: 1\ncapital: 2", "the key 'capital' twice", "line 2"),
    ("model: {mode: maybe}", "'off', 'shadow' or 'veto'"),
    ("capital: ${IBS_UNSET}", "'IBS_UNSET'", "capital", "set it"),
    ("strategy: [", "valid YAML", "line 1"),
    ("- strategy", "a mapping of keys to values"),
]


@pytest.mark.parametrize("text", WRONG, ids=lambda case: case[0])
def test_a_wrong_configuration_names_file_place_and_remedy(ibs, config, text):
    path = config(text[0])
    refused(ibs("config", "validate", "--config", path), 2, str(path), *text[1:])


# What only the contract map and the calendar can tell
UNFIT = [
    ("strategy: {filters: {bar_rsi3: [0, 1]}}", "filters.bar_rsi3", "did you mean 'bar_rsi"),
    ('strategy: {entry: {windows: [["16:10", "16:50"]]}}', "windows.0", "1h bar starts", "17:00"),
    ("symbols: {ZC: {}}", "flat_by of ZC", "19:00 to 13:20", "found 15:00", "symbols.ZC"),
    ('strategy: {exits: {flat_by: "15:30"}}', "flat_by of ES", "last 1h boundary"),
    ("symbols: {EX: {}}", "symbols.EX", "found 'EX'", "did you mean"),
    ("symbols: {es: {}}", "symbols.es", "did you mean 'ES'?"),
    ("symbols: {ES: {execute: mes}}", "symbols.ES.execute", "did you mean 'MES'?"),
    ("symbols: {ES: {execute: CL}}", "symbols.ES.execute", "ES, MES", "found 'CL'"),
]


@pytest.mark.parametrize("text", UNFIT, ids=lambda case: case[0])
def test_a_rule_that_the_calendar_or_the_map_cannot_serve_is_refused(
    ibs, backtest, bars, config, text
):
    path = config(text[0])
    refused(ibs("config", "validate", "--config", path), 2, *text[1:])
    refused(backtest("--config", path, data=bars), 2, *text[1:])
    assert not Path("runs").exists()


def test_the_last_file_that_sets_a_wrong_key_is_the_one_named(ibs, config):
    wrong = config("strategy: {exits: {bars: -2}}")
    harmless = config("strategy: {entry: {ibs: [0, 0.1]}}")
    refused(ibs("config", "show", "--config", wrong, "--config", harmless), 2, f"{wrong}: ")


def test_every_fault_of_a_configuration_is_told_at_once(ibs, config):
    path = config("capital: -1\nstrategy: {exits: {bars: 0}}")
    refused(ibs("config", "validate", "--config", path), 2, "capital:", "strategy.exits.bars:")


def test_the_choices_of_an_option_are_told_in_one_line(ibs):
    result = ibs("orders", "resolve", "x")
    refused(result, 2, "missing option '--as'; choose from: filled, absent, flat")


def test_a_missing_configuration_is_a_fault_of_the_environment(backtest):
    refused(backtest("--config", "my.yml"), 3, "'my.yml'", "--config")


def test_a_configuration_that_is_no_text_is_refused(backtest, bars):
    refused(backtest("--config", bars / "ES.parquet"), 2, "UTF-8", "ES.parquet")


def test_overlays_are_laid_from_left_to_right(ibs, config):
    first = config(
        "strategy: {entry: {ibs: [0, 0.1]}, exits: {stop: {atr: 2}, bars: 5}}\ncapital: 1"
    )
    second = config("strategy: {exits: {stop: {percent: 3}}}\ncapital: 2")
    shown = ibs("config", "show", "--json", "--config", first, "--config", second)
    tree = json.loads(shown.out)
    assert tree["capital"] == 2
    assert tree["strategy"]["entry"]["ibs"] == [0, 0.1]
    assert tree["strategy"]["exits"]["stop"] == {"percent": 3, "atr": None}
    assert tree["strategy"]["exits"]["bars"] == 5
    other_way = ibs("config", "show", "--json", "--config", second, "--config", first)
    assert json.loads(other_way.out)["capital"] == 1


def test_an_empty_section_changes_nothing(ibs, config):
    filled = config("strategy: {exits: {bars: 5}}\nsymbols: {ES: {quantity: 2}}")
    emptied = config("strategy:\nrisk:\nsymbols:\n  ES:\n  NQ:\n")
    shown = ibs("config", "show", "--json", "--config", filled, "--config", emptied)
    tree = json.loads(shown.out)
    assert tree["strategy"]["exits"]["bars"] == 5
    assert {root: own["quantity"] for root, own in tree["symbols"].items()} == {"ES": 2, "NQ": 1}


def test_unquoted_off_and_unquoted_times_mean_what_they_say(ibs, config):
    path = config(
        "model: {mode: off}\nstrategy: {entry: {windows: [[8:30, 14:00]]}, exits: {flat_by: 15:00}}"
    )
    tree = json.loads(ibs("config", "show", "--json", "--config", path).out)
    assert tree["model"]["mode"] == "off"
    assert tree["strategy"]["entry"]["windows"] == [["08:30", "14:00"]]
    assert tree["strategy"]["exits"]["flat_by"] == "15:00"


def test_variables_come_from_the_environment(ibs, config, monkeypatch):
    monkeypatch.setenv("IBS_TEST_CAPITAL", "5000")
    path = config("capital: ${IBS_TEST_CAPITAL}")
    assert json.loads(ibs("config", "show", "--json", "--config", path).out)["capital"] == 5000


def test_a_symbol_may_shorten_the_bars_and_is_then_flat_by_the_default_time(config):
    path = config("strategy: {signal_bar: 4h}\nsymbols: {ES: {strategy: {signal_bar: 1h}}}")
    settings = load_settings([path])
    assert settings.strategy.exits.flat_by is None
    assert settings.strategy_of("ES").exits.flat_by == 900


def test_what_config_show_prints_loads_to_the_same_settings(ibs, config):
    given = config(
        "strategy: {signal_bar: 4h, filters: {bar_rsi2: [0, 40], cal_dow: {in: [1, 2]}},"
        " exits: {stop: {atr: 1.5}, ibs: null, protective: {stop: {percent: 2}}}}\n"
        "risk: {no_entry_before_close: 90s}\n"
        "symbols: {ES: {execute: MES, strategy: {signal_bar: 1h}}}"
    )
    shown = config(ibs("config", "show", "--config", given).out)
    before, after = load_settings([given]), load_settings([shown])
    assert after.strategy_of("ES") == before.strategy_of("ES")
    assert after.strategy_of("ES").exits.flat_by == 900
    assert after.model_copy(update={"symbols": {}}) == before.model_copy(update={"symbols": {}})
    assert after.symbols["ES"].execute == "MES"
    assert load_settings([config(ibs("config", "show").out)]) == load_settings()


@pytest.mark.parametrize("signal_bar", ["4h", "1d"])
def test_long_bars_run_with_everything_else_at_its_default(ibs, config, signal_bar):
    path = config(f"strategy: {{signal_bar: {signal_bar}}}\nsymbols: {{ES: {{}}, ZC: {{}}}}")
    assert ibs("config", "validate", "--config", path) == Result(0, "valid; symbols: ES, ZC\n", "")


# Options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--symbols", "EX"], ["--symbols", "'EX'", "did you mean 'ES'?"]),
        (["--symbols", ","], ["--symbols", "such as ES,NQ"]),
        (["--start", "01/02/2024"], ["--start", "2025-03-31", "'01/02/2024'"]),
        (["--end", "2024-02-30"], ["--end", "'2024-02-30'"]),
        (["--start", "2024-02-01", "--end", "2024-01-31"], ["--start and --end"]),
        (["--start", "2030-01-02"], ["a session of the data", "ibs data check"]),
        (["--end", "2020-01-02"], ["a session of the data"]),
        (["--model-mode", "veto"], ["promoted version", "--model-mode off"]),
        (["--model-mode", "vet"], ["--model-mode", "'veto'"]),
        (["--symbol", "ES"], ["no such option '--symbol'", "'--symbols'"]),
        (["--start"], ["--start", "argument"]),
    ],
)
def test_a_wrong_option_is_a_usage_error(backtest, words, said):
    refused(backtest(*words), 2, *said)


def test_unknown_commands_name_the_nearest(ibs):
    refused(ibs("backtst"), 2, "'backtst'", "'backtest'", "`ibs --help`")
    refused(ibs("data", "chek"), 2, "'chek'", "check", "`ibs data --help`")
    refused(ibs("backtest"), 2, "--parquet PATH")
    refused(ibs("data", "check"), 2, "PATHS")


def test_a_symbol_that_the_data_do_not_hold_is_a_finding(backtest):
    refused(backtest("--symbols", "NQ"), 1, "bars of NQ", "found ES")


def test_a_signal_bar_shorter_than_the_bars_of_the_data_is_refused(backtest, damaged, config):
    def to_hours(bars):
        hours = bars.group_by(pl.col("ts_event").dt.truncate("1h"), "symbol", maintain_order=True)
        return hours.agg(
            pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close"), pl.sum("volume")
        )

    path = damaged(to_hours)
    half_hours = config("strategy: {signal_bar: 30m}")
    refused(backtest("--config", half_hours, data=path), 2, "'30m' of ES", "bars of 60m", "longer")
    assert backtest("--quiet", data=path).code == 0


def test_symbols_are_read_in_any_case_and_once(backtest):
    result = backtest("--json", "--symbols", "es, ES")
    assert list(json.loads(result.out)["stats"]["by_symbol"]) == ["ES"]


# Places to write


def test_a_file_in_the_place_of_the_output_folder_is_found_before_the_work(backtest, tmp_path):
    (tmp_path / "runs").write_text("")
    refused(backtest(), 3, "--out 'runs'", "give a folder")
    refused(backtest("--out", "runs/below"), 3, "'runs/below'", "the file")


def test_a_place_that_cannot_be_made_is_a_fault_of_the_environment(backtest):
    refused(backtest("--out", "/proc/nowhere"), 3, "/proc/nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_without_write_permission_is_found_before_the_work(backtest, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    refused(backtest("--out", "closed"), 3, "no permission", "owner or mode")


def test_ctrl_c_while_the_run_is_written_leaves_nothing(backtest, monkeypatch):
    real, calls = os.fsync, itertools.count()

    def fsync(handle):
        if next(calls) == 2:
            raise KeyboardInterrupt
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    result = backtest("--out", "runs")
    assert (result.code, result.out) == (130, "")
    assert "interrupted" in result.err
    assert list(Path("runs").iterdir()) == []


# What a run prints and writes


def test_json_is_one_document_and_nothing_else(backtest):
    result = backtest("--json")
    assert result.err == ""
    assert Path(json.loads(result.out)["run"]).is_dir()


def test_quiet_prints_nothing_and_json_is_still_one_document(backtest):
    assert backtest("--quiet") == Result(0, "", "")
    assert json.loads(backtest("--quiet", "--json").out)["stats"]["total"]["trades"] > 0


def test_a_run_says_that_its_data_are_generated_and_where_it_is(backtest):
    out = backtest().out
    assert "generated data" in out
    assert f"run folder: {Path('runs') / only_run('runs').name}" in out


def test_the_report_can_be_left_out(ibs, bars):
    ibs("backtest", "--parquet", bars / "ES.parquet", "--quiet")
    assert "Generated data" in (only_run("runs") / "report.html").read_text()
    ibs("backtest", "--parquet", bars / "ES.parquet", "--quiet", "--no-report", "--out", "plain")
    assert not (only_run("plain") / "report.html").exists()


def test_several_files_follow_one_option_as_a_shell_expands_them(ibs, bars, config):
    path = config("symbols: {ES: {}, ZC: {strategy: {exits: {flat_by: null}}}}")
    files = sorted(bars.glob("*.parquet"))
    result = ibs("backtest", "--parquet", *files, "--config", path, "--json", "--no-report")
    assert list(json.loads(result.out)["stats"]["by_symbol"]) == ["ES", "ZC"]


def test_the_same_input_gives_the_same_bytes(backtest):
    backtest("--out", "a")
    backtest("--out", "b")
    assert bytes_of(only_run("a")) == bytes_of(only_run("b"))


def test_earlier_bars_are_observed_and_not_traded(backtest, damaged):
    def counts(result):
        return json.loads(result.out)["stats"]["blocked"]["ES"]

    since = datetime(2024, 1, 21, 23, tzinfo=UTC)  # the session of Monday the 22nd opens
    observed = backtest("--json", "--start", "2024-01-22", "--out", "observed")
    unseen = backtest("--json", data=damaged(lambda bars: bars.filter(pl.col("ts_event") >= since)))
    trades = read_run(only_run("observed")).trades
    assert trades["entry_time"].min() >= since
    assert counts(observed).get("warm_up", 0) == 0
    assert counts(unseen)["warm_up"] > 0
    assert read_run(only_run("observed")).equity["session_date"].min() == date(2024, 1, 22)


def test_a_run_to_a_date_equals_one_whose_data_end_there(backtest, damaged, config):
    until = datetime(2024, 1, 26, 22, tzinfo=UTC)  # the session of Friday the 26th closes
    hold = config("strategy: {exits: {flat_by: null, ibs: null, bars: 60}}")
    backtest("--end", "2024-01-26", "--config", hold, "--out", "asked")
    cut = damaged(lambda bars: bars.filter(pl.col("ts_event") < until))
    backtest("--config", hold, "--out", "cut", data=cut)
    asked, cut = read_run(only_run("asked")), read_run(only_run("cut"))
    assert asked.trades.equals(cut.trades)
    assert asked.decisions.equals(cut.decisions)
    assert asked.equity.equals(cut.equity)
    assert asked.stats["open_positions"] == cut.stats["open_positions"]


def test_quantity_and_micro_scale_the_money_and_nothing_else(backtest, config):
    def trades(text):
        path = config(text)
        backtest("--config", path, "--out", path.stem)
        return read_run(only_run(path.stem)).trades

    one = trades("symbols: {ES: {}}")
    three = trades("symbols: {ES: {quantity: 3}}")
    micro = trades("symbols: {ES: {execute: MES}}")
    for other, quantity, scale in ((three, 3, 3), (micro, 1, 0.1)):
        assert other["entry_time"].equals(one["entry_time"])
        assert other["exit_price"].equals(one["exit_price"])
        assert other["quantity"].unique().to_list() == [quantity]
        assert other["gross_usd"].to_list() == pytest.approx((one["gross_usd"] * scale).to_list())
        assert other["slippage_usd"].to_list() == pytest.approx(
            (one["slippage_usd"] * scale).to_list()
        )
        assert other["commission_usd"].to_list() == pytest.approx([2.5 * quantity] * len(one))


# ibs data


def test_sample_data_are_repeatable_and_say_what_they_are(ibs):
    words = ("--symbols", "es", "--start", "2024-01-02", "--end", "2024-01-05")
    first = ibs("data", "sample", "a", *words)
    assert first.code == 0
    assert first.out.startswith("generated data for ES, 2024-01-02 to 2024-01-05, seed 7")
    files = json.loads(ibs("data", "sample", "b", *words, "--json").out)["files"]
    assert files == ["b/ES.parquet"]
    assert Path("a/ES.parquet").read_bytes() == Path("b/ES.parquet").read_bytes()
    assert ibs("data", "sample", "a", *words, "--quiet") == Result(0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--symbols", "EX"], "did you mean 'ES'?"),
        (["--start", "2024-02-01", "--end", "2024-01-01"], "at or before"),
        (["--start", "yesterday"], "'yesterday'"),
        (["--start", "1980-01-02", "--end", "1980-02-02"], "which the calendar covers"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_sample_data_that_cannot_be_made_are_refused(ibs, words, said):
    refused(ibs("data", "sample", "out", *words), 2, said)
    assert not Path("out").exists()


def test_data_check_tells_coverage_gaps_and_repairs_within_eighty_columns(ibs, damaged):
    def change(bars):
        start, end = (datetime(2024, 1, 17, hour, tzinfo=UTC) for hour in (15, 17))
        kept = bars.filter(~pl.col("ts_event").is_between(start, end, closed="left"))
        return pl.concat([kept, kept.slice(10, 3)])

    path = damaged(change)
    checked = ibs("data", "check", path)
    assert checked.code == 0
    for said in ("Coverage", "contracts ESH2024", "3 identical duplicates", "Largest gaps"):
        assert said in checked.out
    assert re.search(r"2024-01-17 15:00 +2024-01-17 17:00 +120", checked.out)
    tables = [line for line in checked.out.splitlines() if not line.startswith("ES: ")]
    assert max(map(len, tables)) <= 80
    (report,) = json.loads(ibs("data", "check", path, "--json").out)["roots"]
    assert report["repairs"]["duplicate"]["rows"] == 3
    assert report["gaps"][0]["minutes"] == 120


def test_data_check_names_missing_sessions(ibs, damaged):
    def change(bars):
        opens, closes = (datetime(2024, 1, day, 23, tzinfo=UTC) for day in (16, 17))
        return bars.filter(~pl.col("ts_event").is_between(opens, closes, closed="left"))

    assert "no bar in 1 sessions: 2024-01-17" in ibs("data", "check", damaged(change)).out


def test_data_check_shows_the_sound_symbols_beside_a_bad_one(ibs, bars, damaged):
    bad = damaged(lambda frame: frame.with_columns(at("low", 500, 0.0)))
    checked = ibs("data", "check", bad, bars / "ZC.parquet")
    assert checked.code == 1
    assert "ZC" in checked.out
    assert "ES: refused: price at or below zero" in checked.out
    assert checked.err.startswith("error: price at or below zero")
    listed = ibs("data", "check", bad, bars / "ZC.parquet", "--json")
    assert listed.code == 1
    assert [bool(root["error"]) for root in json.loads(listed.out)["roots"]] == [True, False]


def test_rolls_are_listed_with_their_gap(ibs):
    words = ("--symbols", "ES", "--start", "2024-03-01", "--end", "2024-03-15", "--quiet")
    ibs("data", "sample", "bars", *words)
    (roll,) = json.loads(ibs("data", "rolls", "--parquet", "bars", "--json").out)
    assert (roll["old"], roll["new"]) == ("ESH2024", "ESM2024")
    assert roll["gap"] == pytest.approx(roll["new_open"] - roll["old_close"])
    table = ibs("data", "rolls", "bars").out
    assert "ESM2024" in table
    assert max(map(len, table.splitlines())) <= 80
    refused(ibs("data", "rolls", "bars", "--symbols", "EX"), 2, "did you mean 'ES'?")


def test_features_are_listed_with_formula_and_warm_up(ibs):
    assert "Wilder RSI(2)" in ibs("data", "features").out
    names = [row["name"] for row in json.loads(ibs("data", "features", "--json").out)]
    assert {"bar_rsi2", "day_ibs", "cal_dow"} <= set(names)
    assert ibs("data", "features", "--quiet") == Result(0, "", "")


TABLE = ("data", "features", "--parquet")


def test_the_feature_table_is_written_and_told(ibs, bars):
    said = ibs(*TABLE, bars / "ES.parquet", "--out", "new/f.parquet")
    assert said.code == 0, said
    assert said.out.startswith("generated data: ")
    assert said.out.endswith(" features: new/f.parquet\n")
    frame = pl.read_parquet("new/f.parquet")
    keys = ["symbol", "instrument", "ts_event", "known_at", "session"]
    assert frame.columns[:5] == keys
    assert f"{frame.height:,} rows, {frame.width - 5} features" in said.out
    assert [path.name for path in Path("new").iterdir()] == ["f.parquet"]


def test_the_feature_table_has_the_features_symbols_and_bars_asked_for(ibs, bars, config):
    words = ("--features", "bar_rsi2, cal_dow,bar_rsi2", "--symbols", "zc", "--json")
    rule = config("strategy: {signal_bar: 15m}")
    said = ibs(*TABLE, bars, "--out", "f.parquet", *words, "--config", rule)
    frame = pl.read_parquet("f.parquet")
    assert json.loads(said.out) == {
        "out": "f.parquet",
        "rows": frame.height,
        "features": 2,
        "symbols": ["ZC"],
        "generated_data": True,
    }
    assert frame.columns[5:] == ["bar_rsi2", "cal_dow"]
    assert set(frame["symbol"]) == {"ZC"}
    assert (frame["known_at"] - frame["ts_event"]).dt.total_minutes().mode()[0] == 15


def test_the_feature_table_can_be_written_without_a_word_and_replaced(ibs, bars):
    for names in ("bar_ibs", "bar_ibs,day_ibs"):
        words = ("--out", "f.parquet", "--features", names, "--quiet")
        assert ibs(*TABLE, bars / "ES.parquet", *words) == Result(0, "", "")
    assert pl.read_parquet("f.parquet").columns[5:] == ["bar_ibs", "day_ibs"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--out", "f", "--features", "bar_rsi3"], 2, ["'bar_rsi3'", "did you mean 'bar_rsi"]),
        (["--out", "f", "--features", ","], 2, ["option --features", "found ','"]),
        (["--out", "f", "--symbols", "EX"], 2, ["--symbols", "did you mean 'ES'?"]),
        (["--out", "f", "--symbols", "VIX"], 2, ["a reference feed, which is never traded"]),
        (["--out", "f", "--symbols", "CL"], 1, ["no usable row", "bars of CL", "found ES"]),
        (["--out", "f", "--config", "my.yml"], 3, ["'my.yml'", "--config"]),
        ([], 2, ["--out is missing"]),
        (["--out", "folder"], 3, ["feature table folder", "Is a directory"]),
        (["--out", "taken/f"], 3, ["feature table taken/f", "File exists"]),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else None,
)
def test_a_feature_table_that_cannot_be_made_is_refused(ibs, bars, words, code, said):
    Path("taken").touch()
    Path("folder").mkdir()
    refused(ibs(*TABLE, bars / "ES.parquet", *words), code, *said)
    assert sorted(path.name for path in Path().rglob("*")) == ["folder", "taken"]


@pytest.mark.parametrize("word", [["--out", "f.parquet"], ["--symbols", "ES"]], ids=" ".join)
def test_a_feature_table_needs_bars(ibs, word):
    refused(ibs("data", "features", *word), 2, "need bars", "--parquet")


def test_a_feature_table_never_takes_the_place_of_its_bars(ibs, damaged):
    path = damaged(lambda bars: bars)
    before = path.read_bytes()
    assert ibs(*TABLE, path, "--out", path, "--features", "bar_ibs").code == 2
    assert path.read_bytes() == before


def test_a_feature_table_in_the_place_of_the_working_folder_is_refused(ibs, bars):
    words = ("--out", ".", "--features", "bar_ibs")
    refused(ibs(*TABLE, bars / "ES.parquet", *words), 3, "Is a directory")


@pytest.mark.parametrize("name", ["x_tlt_day_ret", "day_vix", "bar_pair_z"])
def test_a_feature_that_the_bars_serve_for_no_symbol_is_refused(ibs, bars, name):
    assert ibs(*TABLE, bars, "--out", "f.parquet", "--features", name).code == 2


# Every command


def commands():
    def below(command, words):
        if not isinstance(command, click.Group):
            yield words, command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from below(command.get_command(context, name), (*words, name))

    return list(below(cli, ()))


@pytest.mark.parametrize(("words", "command"), commands(), ids=str)
def test_every_command_has_help_json_and_quiet(ibs, words, command):
    helped = ibs(*words, "--help")
    assert helped.code == 0
    for option in ("--json", "--quiet", "--help"):
        assert option in helped.out
    assert all(option.help for option in command.params if isinstance(option, click.Option))


# Real processes


def start(*words, cwd, **options):
    return subprocess.Popen(
        [*IBS, *map(str, words)],
        cwd=cwd,
        text=True,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **options,
    )


def test_the_installed_command_starts_and_passes_its_exit_code_on(tmp_path):
    program = Path(sys.executable).with_name("ibs")
    if not program.exists():
        pytest.skip("the project is not installed as a command")
    done = subprocess.run(
        [program, "backtest", "--parquet", "no.parquet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    refused(Result(done.returncode, done.stdout, done.stderr.splitlines(keepends=True)[-1]), 3)


def test_ctrl_c_during_a_run_leaves_no_folder(tmp_path):
    (path,) = write_sample(
        tmp_path, roots=["ES"], start=date(2019, 1, 2), end=date(2024, 12, 30), seed=1
    )
    pl.read_parquet(path).write_parquet(path)  # our own layout would be read too soon to be seen
    process = start("backtest", "--parquet", path, "--out", "runs", cwd=tmp_path)
    until = time.monotonic() + PATIENCE_S
    while not reads(process.pid, path) and time.monotonic() < until:  # it reads for a moment only
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, (out, err)
    assert out == ""
    assert err.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def reads(pid, path):
    """Tell whether a process has a file open or mapped."""
    try:
        links = [each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir()]
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # a handle was closed while we looked
        return False
    return path in links or str(path) in maps


def test_two_runs_at_once_into_one_place_are_both_whole(tmp_path, bars):
    words = ("backtest", "--parquet", bars / "ES.parquet", "--out", "runs", "--json")
    both = [start(*words, cwd=tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folders = {Path(tmp_path, json.loads(out)["run"]) for out, _ in said}
    assert len(folders) == 2
    assert {each.name for each in (tmp_path / "runs").iterdir()} == {each.name for each in folders}
    one, other = folders
    assert bytes_of(one) == bytes_of(other)
    assert all(read_run(folder).trades.height for folder in folders)
    assert all((folder / "report.html").stat().st_size for folder in folders)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_a_full_disk_leaves_no_part_of_a_run(tmp_path, bars):
    words = (*IBS, "backtest", "--parquet", str(bars / "ES.parquet"), "--out", "runs", "--quiet")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *words],  # 1 KiB: the first file is too long
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    refused(Result(done.returncode, done.stdout, done.stderr), 3, "run folder", "free space")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("words", [("data", "features"), ("data", "rolls")], ids=" ".join)
def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path, bars, words):
    paths = [bars / "ES.parquet"] if words[1] == "rolls" else []
    process = start(*words, *paths, cwd=tmp_path)
    process.stdout.close()  # as `| head` does once it has its lines
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=PATIENCE_S) in (0, 1)
    assert err == ""
