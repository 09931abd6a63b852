"""`ibs run-live` from the command line: a recorded file, the gateway as if it were Databento, and careless users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import date

import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from dbn_vendor import rolling_vendor
from live_worlds import KEY, MAP, at, make_world
from sample_bundle import tradable_bundle

from adapters.databento_gateway import Gateway, tape_of_minutes
from adapters.databento_history import DatabentoHistory
from adapters.databento_live import feed as feed_module
from adapters.sqlite_journal import SqliteJournal
from adapters.system_clock import SystemClock
from ibs_core.bars import MINUTE_NS
from ibs_core.cli import live_parts, live_pulse, live_source
from ibs_core.cli.live_stop import Stop
from ibs_core.cli.main import cli, run
from ibs_core.config import load_settings
from ibs_core.errors import ConfigError, IbsError
from ibs_core.live import Worker
from ibs_core.ports import FeedNote, MinuteEnd

KEY_NAME = "DATABENTO_API_KEY"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two weeks of ES and CL, six minutes an hour."""
    return make_world(tmp_path_factory.mktemp("world"), date(2024, 1, 8), date(2024, 1, 19))


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(KEY_NAME, raising=False)


def ibs(*words):
    """Run a command; what is wrong comes back as the error that the user is told."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, (IbsError, SystemExit)):
        raise result.exception
    return result


def document(*words):
    result = ibs(*words, "--json")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def refused(result, code, *texts):
    told = str(result.exception) if isinstance(result.exception, IbsError) else result.output
    found = getattr(result.exception, "exit_code", result.exit_code)
    assert found == code, told
    for text in texts:
        assert text in told


def replay_words(world, journal, *more):
    return (
        *("run-live", "--config", world.config, "--replay", world.bars),
        *("--speed", "max", "--journal", journal, *more),
    )


def test_a_replay_trades_what_the_back_test_trades_and_is_compared_with_its_driver(world, tmp_path):
    journal = tmp_path / "live.sqlite"
    facts = document(*replay_words(world, journal))
    expected = world.backtest().trades()
    assert len(expected) > 20
    assert facts["how"] == "replayed to the end"
    assert len(facts["trades"]) == len(expected)
    assert facts["net_usd"] == pytest.approx(expected["net_usd"].sum(), abs=0.01)
    assert facts["reconnects"] == facts["late_minutes"] == 0
    assert facts["counts"]["orders"] == len(
        journal.with_suffix(".orders.jsonl").read_text().splitlines()
    )
    assert facts["orders_by_state"] == {"ACKED": facts["counts"]["orders"]}
    assert (facts["unresolved"], facts["pages"]) == ([], 0)
    told = json.loads(journal.with_suffix(".heartbeat.json").read_text())
    assert (told["status"], told["details"]["feed"]["lag_ms"]) == ("stopped", None)
    found = document("parity", "--journal", journal)
    assert found["differences"] == []
    assert found["back_test"]["compared"] >= len(expected)


def test_a_warm_replay_is_compared_with_the_driver_when_the_bars_are_given(world, tmp_path):
    journal = tmp_path / "live.sqlite"
    facts = document(*replay_words(world, journal, "--start", "2024-01-12"))
    assert facts["trades"]
    assert "--history" in document("parity", "--journal", journal)["back_test"]["not_made"]
    found = document("parity", "--journal", journal, "--history", world.bars)
    assert found["differences"] == []
    assert found["back_test"]["compared"] > len(facts["trades"])
    refused(ibs(*replay_words(world, tmp_path / "x.sqlite", "--start", "2031-01-01")), 2, "--start")


class After(Stop):
    """A wish to end that comes when it was looked for some times."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def __bool__(self):
        self.looks -= 1
        return self.looks < 0


def test_a_run_that_is_stopped_goes_on_where_it_was(world, tmp_path, monkeypatch):
    journal = tmp_path / "live.sqlite"

    @contextmanager
    def soon():
        yield After(1500)

    with monkeypatch.context() as patched:
        patched.setattr(live_pulse, "stop_signals", soon)
        first = document(*replay_words(world, journal))
    assert first["how"] == "stopped"
    second = document(*replay_words(world, journal))
    assert second["how"] == "replayed to the end"
    both = len(first["trades"]) + len(second["trades"])
    assert first["trades"]
    assert both == len(world.backtest().trades())
    assert document("parity", "--journal", journal)["differences"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_checks_before_the_start_ends_it_with_a_word_and_calls_nobody(
    world, tmp_path, monkeypatch, capsys, number
):
    journal, events = tmp_path / "live.sqlite", tmp_path / "events.jsonl"
    config = tmp_path / "events.yml"
    config.write_text(f"monitoring: {{events: {events}}}")
    monkeypatch.setattr(
        "ibs_core.cli.preflight.run_preflight", lambda *_a, **_k: os.kill(os.getpid(), number)
    )
    words = [str(each) for each in replay_words(world, journal, "--config", config, "--quiet")]
    monkeypatch.setattr(sys, "argv", ["ibs", *words])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130
    out, err = capsys.readouterr()
    named = signal.Signals(number).name
    assert out == ""
    assert err.startswith(f"stopped by {named}: preflight; the same command goes on\n")
    assert json.loads(journal.with_suffix(".heartbeat.json").read_text())["status"] == "stopped"
    assert [json.loads(line)["level"] for line in events.read_text().splitlines()] == ["info"]


def test_a_terminal_that_closes_ends_it_between_two_minutes(world, tmp_path, monkeypatch):
    journal, step, seen = tmp_path / "live.sqlite", Worker._close, []

    def closing(self, end_ns):
        step(self, end_ns)
        seen.append(end_ns)
        if len(seen) in (30, 31):
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(Worker, "_close", closing)
    facts = document(*replay_words(world, journal, "--start", "2024-01-18"))
    assert (facts["how"], len(seen)) == ("stopped", 30)
    assert json.loads(journal.with_suffix(".heartbeat.json").read_text())["status"] == "stopped"
    with SqliteJournal(journal, read_only=True) as kept:
        assert kept.runs()[-1].how == "stopped"


def test_without_options_a_line_an_order_and_a_summary_are_shown(world, tmp_path):
    last = ("--start", "2024-01-18")
    out = ibs(*replay_words(world, tmp_path / "live.sqlite", *last)).stdout
    assert "ES: entry 1 MES" in out
    assert "orders on paper" in out
    assert "next: ibs parity --journal" in out
    assert "\r" not in out  # a status line is for terminals
    assert ibs(*replay_words(world, tmp_path / "quiet.sqlite", "--quiet", *last)).stdout == ""


def test_a_reader_that_goes_away_does_not_stop_it(world, tmp_path):
    journal, whole = tmp_path / "live.sqlite", tmp_path / "whole.sqlite"
    words = [str(each) for each in replay_words(world, journal, "--start", "2024-01-17")]
    run = (sys.executable, "-c", "from ibs_core.cli.main import run; run()")
    child = subprocess.Popen([*run, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child.stdout.readline()
    child.stdout.close()
    assert child.wait() == 1  # the summary had nobody to read it
    facts = document(*replay_words(world, whole, "--start", "2024-01-17"))
    with SqliteJournal(journal, read_only=True) as kept:
        assert kept.runs()[-1].how == facts["how"] == "replayed to the end"
        assert len(kept.orders()) == facts["counts"]["orders"]


# ------------------------------------------------------------------ as if it were Databento


@contextmanager
def served(monkeypatch, held, now_ns, *, until_ns=None, **more):
    """Serve bars from an instant on, at whose market time the machine's clock stands; over when all is decided."""
    gateway = Gateway(tape_of_minutes(held), key=KEY, now_ns=now_ns, skips_closed=True, **more)
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: gateway.now_ns)
    monkeypatch.setenv(KEY_NAME, KEY)
    end_ns = until_ns or gateway.end_ns
    run = Worker.run
    monkeypatch.setattr(
        Worker,
        "run",
        lambda self, stopped: run(self, lambda: stopped() or self.until_ns >= end_ns),
    )
    with gateway:
        yield gateway
    monkeypatch.setattr(Worker, "run", run)


def test_live_warms_up_from_files_and_trades_what_the_gateway_sends(world, tmp_path, monkeypatch):
    journal = tmp_path / "live.sqlite"
    now_ns = at("2024-01-16T15:07")
    with served(monkeypatch, world.held, now_ns) as gateway:
        words = ("run-live", "--config", world.config, "--symbols", "ES", "--journal", journal)
        address = f"127.0.0.1:{gateway.port}"
        facts = document(*words, "--history", world.bars, "--gateway", address)
    assert facts["counts"]["slices"] > 20
    with SqliteJournal(journal, read_only=True) as held:
        (run,) = held.runs()
        first = next(iter(held.entries()))
    assert run.facts["source"] == "live data"
    assert now_ns - 10 * MINUTE_NS < run.facts["start_ns"] <= now_ns
    assert first.time_ns == run.facts["start_ns"]
    wide = world.bars
    found = document("parity", "--journal", journal, "--history", wide, "--against", "history")
    assert found["differences"] == []
    assert found["back_test"]["compared"] > 0
    assert found["history"]["unseen"] == found["history"]["unlike"] == []
    assert KEY.encode() not in journal.read_bytes()


@pytest.fixture
def vendor(monkeypatch):
    """The vendor's history, in which ES rolls between the sessions of 15 and 16 December."""
    vendor, day = rolling_vendor(), date(2025, 12, 15)
    vendor.fronts["ES.v.0"] = [
        (date(2025, 9, 16), day, "ESZ2025"),
        (day, date(2026, 3, 17), "ESH2026"),
    ]
    monkeypatch.setattr("adapters.databento_history.DatabentoVendor", lambda _key: vendor)
    return vendor


class Stepped:
    """A feed that moves the market time of its gateway on, each step when the one before has arrived."""

    def __init__(self, feed, gateway, steps):
        self.feed, self.gateway, self.steps = feed, gateway, iter(steps)
        self.start, self.stop, self.telemetry = feed.start, feed.stop, feed.telemetry
        self.told_ns, self.streams = 0, False
        self.arrived = lambda: self.streams

    def next(self, timeout_s):
        event = self.feed.next(min(timeout_s, 0.02))
        if isinstance(event, MinuteEnd):
            self.told_ns = event.ts_ns
        elif isinstance(event, FeedNote) and event.kind == "replayed":
            self.streams = True
        elif event is None and self.arrived():
            step_ns, arrived = next(self.steps)
            self.arrived = arrived or (lambda: self.told_ns >= step_ns)
            self.gateway.advance_to(step_ns)
        return event


@pytest.fixture
def rolling(vendor, tmp_path, monkeypatch):
    """`ibs run-live` on the vendor's services, where market time is moved on step by step."""
    span = (at("2025-12-12"), at("2025-12-17"))
    held = DatabentoHistory(vendor, MAP, tmp_path / "dbn").minutes(["ES"], *span)
    config = tmp_path / "hold.yml"
    config.write_text(yaml.safe_dump(HOLD))
    make = live_source.feed_of

    def run(now, steps_of, until=None):
        until_ns = at(until) if until else None
        with served(monkeypatch, held, at(now), pace=None, until_ns=until_ns) as gateway:
            steps = steps_of(gateway)
            monkeypatch.setattr(feed_module, "_host", lambda _dataset: "127.0.0.1")
            monkeypatch.setattr(feed_module, "_PORT", gateway.port)
            monkeypatch.setattr(
                live_source, "feed_of", lambda *a, **k: Stepped(make(*a, **k), gateway, steps)
            )
            return document("run-live", "--config", config, "--journal", tmp_path / "live.sqlite")

    return run


def every_ten_minutes(first, last):
    return [(ns, None) for ns in range(at(first), at(last) + 1, 10 * MINUTE_NS)]


def rolled_once(journal):
    """The roll is journalled before it comes, and each contract was entered once."""
    with SqliteJournal(journal, read_only=True) as kept:
        seams = [row for each in kept.entries() for row in each.arrays["seams"].tolist()]
        orders = [each.order.instrument for each in kept.orders() if each.order.action == "entry"]
    assert seams == [("ES", at("2025-12-15T23:00"))]
    assert orders == ["ESZ2025", "ESH2026"]
    found = document("parity", "--journal", journal, "--against", "history")
    assert found["differences"] == []
    assert found["history"]["n_same"] > 120
    assert found["back_test"]["compared"] > 2


def test_live_learns_a_roll_from_the_vendor_and_changes_contracts_between_sessions(
    rolling, tmp_path
):
    def steps(gateway):
        return [
            *every_ten_minutes("2025-12-15T15:40", "2025-12-15T17:00"),
            # In the break the feed changes contracts; the first session was of the check before the start.
            (at("2025-12-15T22:50"), lambda: gateway.n_sessions == 3),
            *every_ten_minutes("2025-12-16T15:00", "2025-12-16T16:30"),
        ]

    facts = rolling("2025-12-15T15:30", steps, until="2025-12-16T16:30")
    assert facts["reconnects"] == 1
    (trade,) = facts["trades"]
    assert (trade["instrument"], trade["exit_reason"]) == ("ESZ2025", "roll")
    rolled_once(tmp_path / "live.sqlite")


def test_a_worker_that_was_away_over_a_roll_goes_on_in_the_new_contract(rolling, tmp_path):
    first = rolling(
        "2025-12-15T15:30",
        lambda _gateway: every_ten_minutes("2025-12-15T15:40", "2025-12-15T17:00"),
        until="2025-12-15T17:00",
    )
    assert [each["instrument"] for each in first["open_positions"]] == ["ESZ2025"]
    second = rolling(
        "2025-12-16T15:20",
        lambda _gateway: every_ten_minutes("2025-12-16T15:30", "2025-12-16T16:30"),
        until="2025-12-16T16:30",
    )
    assert [each["exit_reason"] for each in second["trades"]] == ["roll"]
    rolled_once(tmp_path / "live.sqlite")


HOLD = {
    "strategy": {
        "entry": {"ibs": [0.0, 1.0], "pivots": "none", "windows": []},
        "exits": dict.fromkeys(("stop", "target", "ibs", "bars", "flat_by")),
    },
    "symbols": {"ES": {}},
}


# ------------------------------------------------------------------ careless users


def test_bars_of_a_day_are_refused_where_rolls_are_learnt_on_the_way(world, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_NAME, "db-none")
    config = tmp_path / "daily.yml"
    config.write_text("strategy: {signal_bar: 1d, entry: {windows: []}}\nsymbols: {ES: {}}\n")
    words = ("run-live", "--config", config, "--journal", tmp_path / "live.sqlite")
    refused(ibs(*words), 2, "signal_bar of ES: expected bars shorter than a session, found 1d")


def test_without_a_key_live_names_the_variable(world, tmp_path):
    words = ("run-live", "--config", world.config, "--journal", tmp_path / "live.sqlite")
    refused(ibs(*words), 3, KEY_NAME)
    assert not (tmp_path / "live.sqlite").exists()


def unchecked(tmp_path):
    """A configuration that checks nothing before the start."""
    path = tmp_path / "unchecked.yml"
    path.write_text("preflight: {enabled: false}")
    return path


def test_a_refused_key_is_never_shown(world, tmp_path, monkeypatch):
    with served(monkeypatch, world.held, at("2024-01-16T15:07")) as gateway:
        monkeypatch.setenv(KEY_NAME, "db-" + "w" * 29)
        words = ("run-live", "--config", world.config, "--symbols", "ES", "--history", world.bars)
        journal = tmp_path / "live.sqlite"
        checked = ibs(*words, "--gateway", f"127.0.0.1:{gateway.port}", "--journal", journal)
        refused(checked, 3, "market_data failed")
        words = (*words, "--config", unchecked(tmp_path))
        result = ibs(*words, "--gateway", f"127.0.0.1:{gateway.port}", "--journal", journal)
    refused(result, 3, "ended for good")
    for each in (checked, result):
        assert "wwwww" not in each.output + str(each.exception)
    assert "wwwww" not in journal.with_suffix(".heartbeat.json").read_text()


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (("--armed",), 2, "--route NAME"),
        (("--armed", "--route", "file"), 2, "a file"),
        (("--route", "broker"), 2, "demo, file"),
        (("--gateway", "127.0.0.1:1"), 2, "--history"),
        (("--gateway", "nowhere"), 2, "127.0.0.1:13000"),
        (("--start", "2024-01-16"), 2, "--replay"),
        (("--speed", "0"), 2, "above 0"),
        (("somewhere",), 2, "--replay"),
    ],
)
def test_options_that_do_not_go_together_are_refused(world, tmp_path, more, code, text):
    journal = tmp_path / "live.sqlite"
    refused(ibs("run-live", "--config", world.config, "--journal", journal, *more), code, text)
    assert not journal.exists()


def test_what_is_not_there_to_replay_is_named(world, tmp_path):
    journal = tmp_path / "live.sqlite"
    words = ("run-live", "--journal", journal, "--replay")
    refused(ibs(*words, tmp_path / "no.parquet"), 3, "no.parquet")
    refused(ibs(*words, world.bars / "ES.parquet", "--symbols", "ES,CL"), 1, "CL")
    wide = pl.read_parquet(world.bars / "ES.parquet").filter(
        pl.col("ts_event").dt.minute().is_in([0, 30])
    )
    wide.write_parquet(tmp_path / "wide.parquet")
    refused(ibs(*words, tmp_path / "wide.parquet"), 1, "30 minutes", "minutes")
    assert not journal.exists()


def test_a_feature_that_nothing_brings_live_is_refused(world, tmp_path):
    config = tmp_path / "vix.yml"
    config.write_text(yaml.safe_dump({"strategy": {"filters": {"day_vix": [0, 90]}}}))
    words = ("run-live", "--config", config, "--replay", world.bars / "ES.parquet")
    refused(ibs(*words, "--journal", tmp_path / "live.sqlite"), 2, "VIX", "live")


def test_a_journal_of_another_rule_or_source_or_process_is_refused(world, tmp_path, monkeypatch):
    journal = tmp_path / "live.sqlite"
    document(*replay_words(world, journal, "--symbols", "ES", "--start", "2024-01-18"))
    refused(ibs(*replay_words(world, journal)), 2, "others")
    monkeypatch.setenv(KEY_NAME, KEY)
    live = ("run-live", "--config", world.config, "--symbols", "ES", "--journal", journal)
    live = (*live, "--config", unchecked(tmp_path))
    refused(ibs(*live, "--history", world.bars), 2, "--replay", "live data")
    with SqliteJournal(journal):
        refused(ibs(*replay_words(world, journal, "--symbols", "ES")), 3, "writer")
    (tmp_path / "file").write_text("")
    refused(ibs(*replay_words(world, tmp_path / "file" / "live.sqlite")), 3, "--journal")


def test_how_long_live_waits_is_no_part_of_the_rule(world, tmp_path):
    journal = tmp_path / "live.sqlite"
    words = ("--symbols", "ES", "--start", "2024-01-18")
    document(*replay_words(world, journal, *words))
    waits = tmp_path / "waits.yml"
    waits.write_text("live: {grace: 5s, late: 1m}\n")
    again = document(*replay_words(world, journal, *words, "--config", waits))
    assert again["counts"]["orders"] == 0  # it was at the end


def test_history_that_ends_too_early_or_lacks_a_root_is_refused(world, tmp_path, monkeypatch):
    early = pl.read_parquet(world.bars / "ES.parquet").filter(
        pl.col("ts_event").dt.date() < date(2024, 1, 12)
    )
    early.write_parquet(tmp_path / "early.parquet")
    with served(monkeypatch, world.held, at("2024-01-16T15:07")) as gateway:
        more = ("--gateway", f"127.0.0.1:{gateway.port}", "--journal", tmp_path / "live.sqlite")
        words = ("run-live", "--config", world.config, *more, "--history")
        refused(ibs(*words, tmp_path / "early.parquet", "--symbols", "ES"), 1, "ends at")
        refused(ibs(*words, tmp_path / "early.parquet"), 1, "CL")


def test_a_model_of_generated_data_is_for_paper_only(world, tmp_path):
    for version, generated in (("made", True), ("real", False)):
        tradable_bundle(
            tmp_path, "ES", TRAINED_ON, threshold=0.5, version=version, generated=generated
        )
    for version in ("made", "real"):
        model = {"mode": "veto", "bundle": str(tmp_path / "{symbol}" / version)}
        settings = load_settings(overrides={"model": model})
        engine = live_parts.engine_of(settings, MAP, ["ES"], {})
        live_parts.refuse_generated_models(engine, settings, armed=False)
        if version == "made":
            with pytest.raises(ConfigError, match="generated data"):
                live_parts.refuse_generated_models(engine, settings, armed=True)
        else:
            live_parts.refuse_generated_models(engine, settings, armed=True)


TRAINED_ON = ("bar_rsi2", "bar_ret1_pct", "day_ibs", "bar_ibs", "bar_rsi5", "cal_dow")
