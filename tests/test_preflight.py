"""Preflight: each check against the real thing, sound and at fault, and what the command makes of them."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from email.utils import format_datetime

import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from dbn_vendor import rolling_vendor
from live_worlds import KEY, MAP, RULE, at, make_world
from sample_bundle import tradable_bundle

from adapters.databento_gateway import Gateway, tape_of_minutes
from adapters.demo_broker import DemoBroker
from adapters.reachability import reach
from adapters.sqlite_journal import SqliteJournal
from adapters.system_clock import SystemClock
from adapters.traderspost import Webhook
from adapters.traderspost.sink import sender_lock
from ibs_core.cli import live_sink
from ibs_core.cli.live_sink import destination_of
from ibs_core.cli.main import cli
from ibs_core.cli.preflight import live_checks, run_preflight
from ibs_core.cli.preflight_start import Start
from ibs_core.config import load_settings
from ibs_core.contract_codes import resolve_code
from ibs_core.errors import ConfigError, DataError, EnvironmentFault, IbsError
from ibs_core.expiry import last_trading_day, sessions_left
from ibs_core.preflight import Check, Found, details_of, refuse_failed, run_checks

NOW = "2024-01-16T15:07"
KEY_NAME = "DATABENTO_API_KEY"
HOOK = "TRADERSPOST_WEBHOOK_URL"
PASSWORD, UUID = "its-word", "11111111-2222-4333-8444-555555555555"
ROUTES = {name: {"kind": "paper"} for name in ("paper", "desk")} | {
    "live": {"kind": "live", "webhook": "LIVE_HOOK"}
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two weeks of ES and CL."""
    return make_world(tmp_path_factory.mktemp("world"), date(2024, 1, 8), date(2024, 1, 19))


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    """No key, no webhook, no switch; locks in a folder of the test; market time of the bars."""
    for name in (KEY_NAME, HOOK, "POLICY_KILLSWITCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at(NOW))


def start_of(world, tmp_path, settings, *, route=None, armed=False, replay=False, **changes):
    """A sound start on paper, but for what is given."""
    given = {
        "contracts": MAP,
        "roots": ["ES", "CL"],
        "journal": tmp_path / "live.sqlite",
        "history": [world.bars],
        "gateway": ("127.0.0.1", 1),
    } | changes
    destination = destination_of(settings, route, armed=armed, is_replay=replay)
    contracts, roots, *paths = given.values()
    return Start(settings, contracts, roots, destination, *paths, replay)


@pytest.fixture
def checked(world, tmp_path):
    """Run one check of a start; what differs from a sound start on paper is given."""

    def run(name, *, rule=None, **changes):
        settings = load_settings(overrides=RULE | {"routes": ROUTES} | (rule or {}))
        checks = live_checks(start_of(world, tmp_path, settings, **changes))
        (result,) = run_checks([each for each in checks if each.name == name], fail_fast=True)
        return result

    return run


def passed(result, *texts):
    assert result.verdict == "passed", result
    assert all(text in result.found for text in texts), result


def warned(result, *texts):
    assert result.verdict == "warning", result
    assert result.remedy
    assert all(text in result.found for text in texts), result


def failed(result, code, *texts):
    assert result.verdict == "failed", result
    assert result.exit_code == code, result
    assert result.remedy, "a failure says what to do"
    assert all(text in f"{result.found}; {result.remedy}" for text in texts), result


# ------------------------------------------------------------------ the runner


def fails_with(error):
    def run():
        raise error

    return run


SOUND = Check("sound", lambda: Found("well"))
WARNS = Check("warns", lambda: Found("nearly", "mend it", "warning"))
WRONG = Check("wrong", fails_with(ConfigError("key", found="none", remedy="set it")))


def test_checks_run_in_order_and_end_with_the_first_failure_if_so_asked():
    every = [SOUND, WRONG, WARNS]
    told = []
    results = run_checks(every, fail_fast=False, tell=told.append)
    assert [(each.name, each.verdict) for each in results] == [
        ("sound", "passed"),
        ("wrong", "failed"),
        ("warns", "warning"),
    ]
    assert told == results
    assert [each.name for each in run_checks(every, fail_fast=True)] == ["sound", "wrong"]
    skipped = run_checks(every, fail_fast=True, skip=["wrong"])
    assert [each.verdict for each in skipped] == ["passed", "skipped", "warning"]
    with pytest.raises(ConfigError, match="'wrnog'"):
        run_checks(every, fail_fast=True, skip=["wrnog"])


@pytest.mark.parametrize(
    ("error", "found", "remedy", "code"),
    [
        (ConfigError("key", found="none", remedy="set it"), "key: found none", "set it", 2),
        (DataError("bars are late"), "bars are late", "the check x", 1),
        (PermissionError(13, "Permission denied", "x"), "Permission denied", "permissions", 3),
        (RuntimeError("password=hunter2"), "RuntimeError", "report", 1),
    ],
)
def test_whatever_a_check_raises_is_a_failure_without_a_secret(error, found, remedy, code):
    (result,) = run_checks([Check("x", fails_with(error))], fail_fast=True)
    assert result.verdict == "failed"
    assert found in result.found
    assert remedy in result.remedy
    assert result.exit_code == code
    assert "hunter2" not in str(result)
    assert "set it" not in result.found


def test_a_monitor_is_told_and_a_start_refused():
    results = run_checks([SOUND, WRONG, Check("b", fails_with(DataError("y")))], fail_fast=False)
    assert details_of(results, "2026-01-05T10:00:00Z") == {
        "status": "failed",
        "checked_at": "2026-01-05T10:00:00Z",
        "failed_checks": ["wrong", "b"],
    }
    with pytest.raises(ConfigError, match=r"check wrong failed \(1 more failed\).*; set it"):
        refuse_failed(results)
    sound = run_checks([SOUND, WARNS], fail_fast=True)
    assert details_of(sound, "")["status"] == "passed"
    refuse_failed(sound)
    idle = run_checks([SOUND], fail_fast=True, skip=["sound"])
    assert details_of(idle, "")["status"] == "skipped"


# ------------------------------------------------------------------ the route


class Host:
    """Answers every connection with given bytes, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.root = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"{self.root}/trading/webhook/{UUID}/{PASSWORD}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                asked = b""
                while b"\r\n\r\n" not in asked and (piece := client.recv(65536)):
                    asked += piece
                self.asked.append(asked)
                client.sendall(self.answer() if callable(self.answer) else self.answer)


def dated(seconds, status="404 Not Found"):
    """An answer whose clock differs by so much from ours."""

    def answer():
        then = format_datetime(datetime.fromtimestamp(time.time() + seconds, UTC), usegmt=True)
        return f"HTTP/1.1 {status}\r\nDate: {then}\r\nContent-Length: 0\r\n\r\n".encode()

    return answer


@contextmanager
def closed_port():
    """An address where nobody listens, kept for as long as it is needed."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()


def test_nothing_but_the_root_of_the_host_is_asked_for(checked, monkeypatch):
    with Host(dated(0)) as host:
        monkeypatch.setenv(HOOK, host.url)
        for name in ("route", "clock"):
            passed(checked(name, route="desk", armed=True))
        assert len(host.asked) == 2
        for asked in host.asked:
            assert asked.startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")
            assert UUID.encode() not in asked
            assert PASSWORD.encode() not in asked


def test_the_stand_in_takes_no_order_for_it(checked, monkeypatch):
    with DemoBroker(uuid=UUID, password=PASSWORD) as broker:
        monkeypatch.setenv(HOOK, broker.url)
        passed(checked("route", route="demo", armed=True), "demo")
        assert broker.requests == ()
        assert [(each.method, each.path) for each in broker.others] == [("GET", "/")]
        assert checked("clock", route="demo", armed=True).verdict == "skipped"


def test_without_arms_no_host_is_asked(checked, monkeypatch):
    with Host(dated(0)) as host:
        monkeypatch.setenv(HOOK, host.url)
        assert checked("route", route="desk").verdict == "skipped"
        assert checked("clock").verdict == "skipped"
        assert host.asked == []


def test_a_host_that_does_not_answer_is_named_and_the_secret_is_not(checked, monkeypatch):
    with closed_port() as (host, port):
        monkeypatch.setenv(HOOK, f"http://{host}:{port}/trading/webhook/{UUID}/{PASSWORD}")
        result = checked("route", route="desk", armed=True)
        failed(result, 3, host, "Connection refused", "check the network")
        assert PASSWORD not in str(result)
        warned(checked("clock", route="desk", armed=True), "no answer")


def test_a_host_that_says_nothing_or_nonsense_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with pytest.raises(EnvironmentFault, match="none within"):
            reach(f"http://127.0.0.1:{mute.getsockname()[1]}/", 0.05)
        with pytest.raises(EnvironmentFault, match="none within"):  # nor a word of TLS
            reach(f"https://127.0.0.1:{mute.getsockname()[1]}/", 0.05)
    with Host(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as host:
        with pytest.raises(EnvironmentFault, match="not HTTP"):
            reach(f"{host.root}/")
        with pytest.raises(EnvironmentFault, match="expected an answer"):
            reach(f"{host.root.replace('http', 'https')}/", 0.05)
    with Host(b"") as host, pytest.raises(EnvironmentFault, match="not HTTP"):
        reach(f"{host.root}/")


def test_a_host_in_trouble_is_a_warning(checked, monkeypatch):
    with Host(dated(0, "503 Service Unavailable")) as host:
        monkeypatch.setenv(HOOK, host.url)
        warned(checked("route", route="desk", armed=True), "503")


def test_a_webhook_that_is_missing_malformed_or_open_to_others_is_told(
    checked, monkeypatch, tmp_path
):
    failed(checked("route", route="desk", armed=True), 2, HOOK)
    monkeypatch.setenv(HOOK, "https://example.invalid/its-word")
    result = checked("route", route="desk", armed=True)
    failed(result, 2, "copy it again")
    assert "its-word" not in str(result)
    monkeypatch.delenv(HOOK)
    file = tmp_path / "env"
    file.write_text(f"{HOOK}=http://127.0.0.1:1/trading/webhook/{UUID}/{PASSWORD}\n")
    file.chmod(0o644)
    routes = {"routes": {"desk": {"kind": "paper", "env_file": str(file)}}}
    failed(checked("route", rule=routes, route="desk", armed=True), 3, "0644", "chmod 600")


def test_another_sender_to_the_webhook_is_told(checked, monkeypatch):
    with Host(dated(0)) as host:
        monkeypatch.setenv(HOOK, host.url)
        held = sender_lock(Webhook("desk", host.url), live_sink.locks_folder())
        failed(checked("route", route="desk", armed=True), 3, "another process sends")
        os.close(held)
        passed(checked("route", route="desk", armed=True))
        os.close(sender_lock(Webhook("desk", host.url), live_sink.locks_folder()))


@pytest.mark.parametrize(
    ("seconds", "verdict", "text"),
    [
        (0, "passed", "within 2 s"),
        (5, "warning", "behind"),
        (-5, "warning", "ahead"),
        (60, "failed", "behind"),
        (-60, "failed", "ahead"),
    ],
)
def test_the_clock_is_compared_with_the_routes_host(checked, monkeypatch, seconds, verdict, text):
    with Host(dated(seconds)) as host:
        monkeypatch.setenv(HOOK, host.url)
        result = checked("clock", route="desk", armed=True)
    assert result.verdict == verdict
    assert text in result.found
    assert result.exit_code == (3 if verdict == "failed" else 0)


# ------------------------------------------------------------------ the kill switch


def test_the_kill_switch_fails_closed_for_real_orders_only(checked, monkeypatch):
    passed(checked("kill_switch"), "off on paper", "not set")
    passed(checked("kill_switch", route="paper"), "off on paper")
    live = {"route": "live", "armed": True}
    failed(checked("kill_switch", **live), 2, "POLICY_KILLSWITCH")
    passed(checked("kill_switch", rule={"killswitch": False}, **live), "off by")
    failed(checked("kill_switch", rule={"killswitch": "${DESK}"}, **live), 2, "placeholder")
    monkeypatch.setenv("DESK", "off")
    passed(checked("kill_switch", rule={"killswitch": "${DESK}"}, **live), "off by")
    monkeypatch.setenv("POLICY_KILLSWITCH", "on")
    failed(checked("kill_switch"), 2, "on by POLICY_KILLSWITCH")


def preflight_of(world, tmp_path, preflight, **changes):
    settings = load_settings(overrides=RULE | {"routes": ROUTES, "preflight": preflight})
    start = start_of(world, tmp_path, settings, roots=["ES"], **changes)
    return run_preflight(start, tell=None)


def test_neither_a_skip_nor_the_master_switch_turns_it_off_for_real_orders(world, tmp_path):
    live = {"route": "live", "armed": True}
    with pytest.raises(ConfigError, match="kill switch to be checked"):
        preflight_of(world, tmp_path, {"skip": ["kill_switch"]}, **live)
    results = preflight_of(world, tmp_path, {"enabled": False}, **live)
    assert [each.verdict for each in results] == ["failed"]
    results = preflight_of(world, tmp_path, {"enabled": False})
    assert {each.verdict for each in results} == {"skipped"}
    assert len(results) == 10
    assert details_of(results, "")["status"] == "skipped"


# ------------------------------------------------------------------ models

TRAINED_ON = ("bar_ibs", "bar_rsi2", "day_ibs", "day_atr_z", "cal_dow", "bar_ret1_pct")


def test_models_are_scored_here_and_generated_ones_are_for_paper(checked, tmp_path):
    assert checked("models").verdict == "skipped"
    for version, generated in (("made", True), ("real", False)):
        tradable_bundle(tmp_path, "ES", TRAINED_ON, version=version, generated=generated)

    def models(version, **more):
        model = {"mode": "veto", "bundle": str(tmp_path / "{symbol}" / version)}
        return checked("models", rule={"model": model}, roots=["ES"], **more)

    passed(models("made"), "ES made, 6 features, threshold 0.5")
    passed(models("real", route="live", armed=True))
    warned(models("real", contracts=replace(MAP, digest="d" * 64)), "another contract map")
    failed(models("made", route="live", armed=True), 2, "generated data")
    with (tmp_path / "ES" / "real" / "model.onnx").open("r+b") as file:
        file.write(b"\0")
    failed(models("real"), 1, "real")


def test_every_symbol_without_a_model_is_named_and_the_rest_is_still_checked(
    checked, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rule = {"model": {"mode": "veto"}}
    result = checked("models", rule=rule)
    assert result.verdict == "failed"
    assert "model of ES" in result.found
    assert "model of CL" in result.found
    passed(checked("reference_data", rule=rule))


# ------------------------------------------------------------------ market data


def test_the_login_subscribes_nothing(world, checked, monkeypatch):
    monkeypatch.setenv(KEY_NAME, KEY)
    with Gateway(tape_of_minutes(world.held), key=KEY) as gateway:
        passed(checked("market_data", gateway=("127.0.0.1", gateway.port)), "GLBX.MDP3")
        (line,) = [text for _, text in gateway.lines]
    assert line.startswith("auth=")
    assert KEY not in line


def test_a_missing_key_a_refused_key_and_a_gateway_that_is_away_are_told(
    world, checked, monkeypatch
):
    failed(checked("market_data"), 3, KEY_NAME)
    wrong = "db-" + "w" * 29
    monkeypatch.setenv(KEY_NAME, wrong)
    with Gateway(tape_of_minutes(world.held), key=KEY) as gateway:
        result = checked("market_data", gateway=("127.0.0.1", gateway.port))
    failed(result, 3, "Authentication failed", "check DATABENTO_API_KEY")
    assert "www" not in str(result)
    with closed_port() as address:
        failed(checked("market_data", gateway=address), 3, "Connection refused")
    assert checked("market_data", replay=True).verdict == "skipped"


# ------------------------------------------------------------------ reference data, expiry


def test_what_no_feed_brings_is_refused_and_a_missing_pair_is_a_warning(checked):
    passed(checked("reference_data"), "ES as MES")
    vix = {"strategy": {"filters": {"day_vix": [0, 90]}}, "symbols": {"ES": {}}}
    failed(checked("reference_data", rule=vix, roots=["ES"]), 2, "VIX")
    warned(checked("reference_data", rule={"symbols": {"6C": {}}}, roots=["6C"]), "no pair for 6C")


# Last trading days as the exchange published them.
PUBLISHED = {
    "ESZ2025": "2025-12-19",
    "MESH2024": "2024-03-15",
    "NQM2024": "2024-06-21",
    "6EZ2025": "2025-12-15",
    "6JH2024": "2024-03-18",
    "GCG2025": "2025-02-26",
    "HGZ2024": "2024-12-27",
    "CLG2024": "2024-01-22",
    "CLH2024": "2024-02-20",
    "CLU2025": "2025-08-20",
    "NGG2024": "2024-01-29",
    "NGV2024": "2024-09-26",
    "ZBH2024": "2024-03-19",
    "ZCH2024": "2024-03-14",
    "ZSX2024": "2024-11-14",
    "MBTF2025": "2025-01-31",
}


HOLIDAYS = {"ZBH2024"}  # of the exchange, of which the rule knows nothing: Good Friday


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_last_trading_day_is_the_exchanges_but_for_holidays(name, published):
    code = resolve_code(name, MAP)
    found = last_trading_day(code, MAP.get(code.root)).item()
    late = (found - date.fromisoformat(published)).days
    assert late == (1 if name in HOLIDAYS else 0), found


def test_sessions_are_counted_to_the_last_day_and_not_beyond():
    code = resolve_code("ESZ2025", MAP)
    contract = MAP.get("ES")
    days = ["2025-12-15T15:00", "2025-12-19T15:00", "2025-12-19T22:30", "2026-03-02T15:00"]
    assert [sessions_left(code, contract, at(day)) for day in days] == [5, 1, 0, 0]


def test_a_contract_near_its_end_is_a_warning_and_one_past_it_a_failure(
    world, checked, monkeypatch
):
    passed(checked("contract_expiry"), "ESH2024 until 2024-03-15", "CLH2024")
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at("2024-02-15T15:00"))
    warned(checked("contract_expiry"), "CLH2024 trades in 4 more sessions")
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at("2024-02-22T15:00"))
    failed(checked("contract_expiry"), 1, "CLH2024", "--history")
    assert checked("contract_expiry", replay=True).verdict == "skipped"


def test_the_vendor_names_the_contracts_where_it_can_be_asked(checked, monkeypatch):
    vendor = rolling_vendor()
    monkeypatch.setattr("adapters.databento_history.DatabentoVendor", lambda _key: vendor)
    monkeypatch.setenv(KEY_NAME, KEY)
    vendors = {"gateway": None, "history": [], "roots": ["ES"]}
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at("2025-12-12T15:00"))
    passed(checked("contract_expiry", **vendors), "ESZ2025 until 2025-12-19")
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at("2025-12-16T15:00"))
    passed(checked("contract_expiry", **vendors), "ESH2026")
    vendor.fronts["ES.v.0"] = [(date(2025, 9, 16), date(2026, 1, 1), "ESZ2025")]
    warned(checked("contract_expiry", **vendors), "ESZ2025 trades in 4 more sessions")
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at("2025-12-22T15:00"))
    failed(checked("contract_expiry", **vendors), 1, "ESZ2025", "2025-12-19")


# ------------------------------------------------------------------ this machine


def test_the_journals_writer_rule_source_and_file_are_checked(world, checked, tmp_path):
    path = tmp_path / "live.sqlite"
    passed(checked("journal"), "will be made")
    assert not path.exists()
    document("run-live", *replayed(world, path))
    passed(checked("journal", replay=True), "goes on after 1 run")
    failed(checked("journal"), 2, "--replay", "live data")
    other = {"strategy": {"entry": {"ibs": [0.0, 0.3]}}}
    failed(checked("journal", rule=other, replay=True), 2, "others")
    with SqliteJournal(path):
        failed(checked("journal", replay=True), 3, "writer", "end it first")
    path.write_bytes(b"no journal at all" * 100)
    failed(checked("journal", replay=True), 3, "not a journal")
    (tmp_path / "file").write_text("")
    failed(checked("journal", journal=tmp_path / "file" / "live.sqlite"), 3, "--journal")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_not_be_written_is_told(checked, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    failed(checked("journal", journal=folder / "live.sqlite"), 3, "--journal", "no permission")


@pytest.mark.parametrize(
    ("free_mib", "verdict"), [(5_000, "passed"), (1_000, "warning"), (100, "failed")]
)
def test_the_disk_is_measured_where_the_journal_lies(
    checked, tmp_path, monkeypatch, free_mib, verdict
):
    asked = []

    def usage(path):
        asked.append(path)
        return type("Usage", (), {"free": free_mib << 20})

    monkeypatch.setattr("shutil.disk_usage", usage)
    result = checked("disk", journal=tmp_path / "new" / "folder" / "live.sqlite")
    assert result.verdict == verdict
    assert f"{free_mib:,} MiB" in result.found
    assert set(asked) == {tmp_path}


# ------------------------------------------------------------------ warm-up


def part_of(world, path, first, until):
    time_ = pl.col("ts_event").dt.date()
    bars = pl.read_parquet(world.bars / "ES.parquet")
    bars.filter(time_.is_between(first, until, closed="left")).write_parquet(path)
    return [path]


def test_files_must_reach_back_to_what_is_needed_and_into_the_last_day(world, checked, tmp_path):
    one = {"roots": ["ES"]}
    passed(checked("features", **one), "ES needs history from")
    found = checked("features", history=[], gateway=None, **one)
    passed(found, "fetched from Databento")
    early = part_of(world, tmp_path / "early.parquet", date(2024, 1, 1), date(2024, 1, 12))
    failed(checked("features", history=early, **one), 1, "ends at", "later files")
    long = {"strategy": RULE["strategy"] | {"filters": {"day_rsi14": [0, 100]}}}
    warned(checked("features", rule=long, **one), "begins at 2024-01-")
    failed(checked("features", history=early), 1, "CL")
    assert checked("features", replay=True).verdict == "skipped"


def live_journal(world, path, monkeypatch):
    """A journal of a short live run."""
    from ibs_core.live import Worker

    run = Worker.run
    monkeypatch.setattr(Worker, "run", lambda self, _stopped: run(self, lambda: True))
    monkeypatch.setenv(KEY_NAME, KEY)
    with Gateway(tape_of_minutes(world.held), key=KEY, now_ns=at(NOW)) as gateway:
        address = f"127.0.0.1:{gateway.port}"
        words = ("--config", world.config, "--history", world.bars, "--gateway", address)
        document("run-live", *words, "--journal", path)


def test_a_journals_state_counts_as_history_and_names_its_contracts(
    world, checked, tmp_path, monkeypatch
):
    path = tmp_path / "live.sqlite"
    live_journal(world, path, monkeypatch)
    passed(checked("features"), "state reaches to 2024-01-16T15:0", "live service replays")
    passed(checked("contract_expiry", history=[]), "ESH2024", "CLH2024")
    monkeypatch.setattr(SystemClock, "now_ns", lambda _self: at("2024-01-19T15:00"))
    passed(checked("features"), "the files hold what is missing")
    early = part_of(world, tmp_path / "early.parquet", date(2024, 1, 1), date(2024, 1, 17))
    whole = [*early, world.bars / "CL.parquet"]
    failed(checked("features", history=whole), 1, "history of ES ends at", "later files")
    other = {"strategy": {"entry": {"ibs": [0.0, 0.3]}}}
    failed(checked("journal", rule=other), 2, "others")
    passed(checked("contract_expiry", rule=other), "ESH2024")  # of the files, and no crash


# ------------------------------------------------------------------ the command


def ibs(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, (IbsError, SystemExit)):
        raise result.exception
    return result


def document(*words):
    result = ibs(*words, "--json")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def replayed(world, journal):
    return (
        *("--config", world.config, "--replay", world.bars, "--start", "2024-01-18"),
        *("--speed", "max", "--journal", journal),
    )


@pytest.fixture
def sound(world, tmp_path, monkeypatch):
    """Words with which everything passes: armed for the stand-in, data of the gateway."""
    config = tmp_path / "own.yml"
    config.write_text(yaml.safe_dump(RULE))
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(tape_of_minutes(world.held), key=KEY))
        broker = stack.enter_context(DemoBroker(uuid=UUID, password=PASSWORD))
        monkeypatch.setenv(KEY_NAME, KEY)
        monkeypatch.setenv(HOOK, broker.url)
        yield (
            *("preflight", "--config", config, "--history", world.bars, "--route", "demo"),
            *("--armed", "--journal", tmp_path / "live.sqlite"),
            *("--gateway", f"127.0.0.1:{gateway.port}"),
        )
        assert broker.requests == ()


def test_a_sound_start_passes_every_check_in_order_and_tells_a_line_each(sound):
    result = ibs(*sound)
    assert result.exception is None, result.exception
    lines = result.stdout.splitlines()
    names = "kill_switch models route clock market_data reference_data contract_expiry journal disk"
    assert [line.split()[0] for line in lines] == [*names.split(), "features"]
    assert not any("failed" in line for line in lines)
    assert PASSWORD not in result.output
    assert KEY not in result.output
    assert ibs(*sound, "--quiet").output == ""


def test_a_failure_ends_it_with_its_code_and_the_rest_is_run_if_so_asked(
    sound, tmp_path, monkeypatch
):
    monkeypatch.setenv("POLICY_KILLSWITCH", "on")
    monkeypatch.setenv(HOOK, "nonsense")
    result = ibs(*sound)
    assert len(result.stdout.splitlines()) == 1
    assert isinstance(result.exception, ConfigError)  # which systemd does not start again
    assert "kill_switch" in str(result.exception)
    found = ibs(*sound, "--no-fail-fast", "--json")
    verdicts = {each["name"]: each["verdict"] for each in json.loads(found.stdout)}
    assert verdicts["kill_switch"] == verdicts["route"] == "failed"
    assert verdicts["features"] == "passed"
    assert verdicts["clock"] == "warning"
    skips = ("--skip", "kill_switch", "--skip", "route")
    assert [each["verdict"] for each in document(*sound, *skips)][:3] == ["skipped"] * 3
    unknown = ibs(*sound, "--skip", "switch").exception
    assert unknown.exit_code == 2
    assert unknown.remedy.startswith("there are kill_switch, models, ")
    monkeypatch.setenv("POLICY_KILLSWITCH", "off")
    assert isinstance(ibs(*sound, "--quiet").exception, ConfigError)
    monkeypatch.delenv(KEY_NAME)
    away = ibs(*sound, "--quiet", "--skip", "route")
    assert isinstance(away.exception, EnvironmentFault)


def test_what_cannot_be_a_start_is_refused_before_any_check(world, tmp_path):
    words = ("preflight", "--journal", tmp_path / "live.sqlite")
    assert ibs(*words).exception.exit_code == 2
    assert "--symbols" in str(ibs(*words).exception)
    assert "--route" in str(ibs(*words, "--symbols", "ES", "--armed").exception)
    unknown = ibs(*words, "--symbols", "ES", "--armed", "--route", "nowhere")
    assert "nowhere" in str(unknown.exception)
