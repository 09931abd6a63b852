"""`ibs status`: what a heartbeat says, to people and to monitors."""

import json
import os
import socket
import subprocess
import time
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from adapters.monitoring.heartbeat import HeartbeatFile
from ibs_core.cli import status as module
from ibs_core.cli.monitoring import heartbeat_of
from ibs_core.cli.status import findings_in, status
from ibs_core.errors import DataError, EnvironmentFault

SECOND = 10**9


def symbol(**more):
    return {
        "last_bar": "2026-03-03T14:00:00Z",
        "position": "flat",
        "instrument": "MESH2026",
        "quantity": 0,
        "entry_price": None,
        "open_usd": 0.0,
        "realised_usd": 1250.5,
        "features": {"ready": True, "required": [], "missing": []},
        **more,
    }


def details(**more):
    return {
        "preflight": {"status": "passed"},
        "until": "2026-03-03T14:30:00Z",
        "streaming": True,
        "blocked": [],
        "unresolved": [],
        "symbols": {"ES": symbol()},
        "orders": {"unsettled": 0, "last_success": None, "last_error": None},
        "feed": {"lag_ms": 250.0, "reconnects": 2},
        "gate": "open",
        **more,
    }


def document(**more):
    return {
        "version": "1.2",
        "journal": "live/j.sqlite",
        "route": "demo",
        "armed": True,
        "symbols": ["ES"],
        "monitoring": {"webhook": None, "alerts": None},
        "details": details(**more),
    }


@pytest.fixture
def beat(tmp_path):
    """Write a heartbeat as a worker does, so many seconds ago."""

    def write(named="running", age_s=5, **more):
        path = heartbeat_of(tmp_path / "journal.sqlite")
        at_ns = time.time_ns() - age_s * SECOND
        assert HeartbeatFile(path, SECOND).beat(named, lambda: document(**more), at_ns) == ""
        return path

    return write


def run(*words):
    done = CliRunner().invoke(status, [str(each) for each in words], env={"COLUMNS": "120"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def failing(*words):
    """Run it, and return what it printed beside the error that it ended with."""
    done = CliRunner().invoke(status, [str(each) for each in words], env={"COLUMNS": "120"})
    assert isinstance(done.exception, DataError)
    assert done.exception.exit_code == 1
    return done.stdout, str(done.exception)


# What people see


def test_a_worker_that_is_well_is_shown_and_exits_0(beat, tmp_path):
    beat(symbols={"ES": symbol(position="open", quantity=4, open_usd=-12.5), "NQ": symbol()})
    done = run("--journal", tmp_path / "journal.sqlite")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert any(line.startswith("status running, ") and line.endswith(" s ago") for line in lines)
    assert (
        f"worker process {os.getpid()} on {socket.gethostname()}, ibs 1.2, "
        in done.output.replace("worker         ", "worker ")
    )
    assert "preflight passed" in lines
    assert "feed streams, lag 0.2 s, 2 reconnects" in lines
    assert "orders to demo, armed; gate open, 0 on their way" in lines
    assert "blocked no" in lines
    assert "unresolved none" in lines
    assert "ES 2026-03-03T14:00:00Z open 4 MESH2026 -12.50 1,250.50 ready" in lines
    assert "NQ 2026-03-03T14:00:00Z flat 0.00 1,250.50 ready" in lines


def test_what_is_not_well_is_shown_too(beat):
    missing = {"ready": False, "required": ["a", "b"], "missing": ["b"]}
    error = {"at": "2026-03-03T14:00:00Z", "kind": "order", "symbol": "ES", "message": "HTTP 500"}
    path = beat(
        symbols={"ES": symbol(last_bar=None, features=missing)},
        orders={"unsettled": 3, "last_success": None, "last_error": error},
        unresolved=["ES-1-entry"],
        gate="reduce_only",
    )
    shown, _ = failing("--heartbeat", path)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "last error 2026-03-03T14:00:00Z order ES HTTP 500" in lines
    assert "orders to demo, armed; gate reduce_only, 3 on their way" in lines
    assert "ES none yet flat 0.00 1,250.50 not ready: b missing" in lines
    assert "finding unresolved: ES-1-entry" in lines
    assert "finding the last delivery failed: 2026-03-03T14:00:00Z order ES HTTP 500" in lines


def test_the_lag_of_a_market_that_is_past_is_not_shown(beat):
    for lag_ms in (None, -3.6e6):
        shown = run("--heartbeat", beat(feed={"lag_ms": lag_ms, "reconnects": 0})).output
        assert "streams, 0 reconnects" in shown


@pytest.mark.parametrize("named", ["stopped", "failed"])
def test_of_a_worker_that_ended_no_feed_is_shown(beat, named):
    shown, _ = failing("--heartbeat", beat(named))
    assert "streams" not in shown
    assert "decided until" in shown


def test_notices_that_somebody_never_got_are_shown(beat):
    assert "notices" not in run("--heartbeat", beat(notices_dropped=0)).output
    assert "3 never told" in run("--heartbeat", beat(notices_dropped=3)).output


def test_lost_alerts_are_shown(beat):
    path = beat()
    told = json.loads(path.read_text())
    lost = {"delivered": 4, "failed": 2, "dropped": 1, "waiting": 0}
    path.write_text(json.dumps(told | {"monitoring": {"alerts": lost, "webhook": None}}))
    assert "4 delivered, 2 failed, 1 dropped" in run("--heartbeat", path).output


def test_a_heartbeat_cannot_command_the_terminal_or_its_styles(beat):
    path = beat("failed", stage="start", message="\x1b[2J[red]no[/red] [/]")
    shown, error = failing("--heartbeat", path)
    assert "\x1b" not in shown
    assert "[red]no[/red] [/]" in shown
    assert "failed: start: " in error


# What monitors see


WELL = details()
FAILED = "the last delivery failed: 2026-03-03T14:00:00Z entry no connection"


def stood(success, error):
    """How deliveries stand, after a success and an error at these instants."""
    events = [
        at and {"at": at, "kind": "entry", "message": "no connection"} for at in (success, error)
    ]
    return {"unsettled": 0, "last_success": events[0], "last_error": events[1]}


@pytest.mark.parametrize(
    ("named", "age_s", "more", "found"),
    [
        ("running", 90, {}, []),
        ("starting", 5, {"streaming": False, "blocked": ["not_live"]}, []),
        ("running", 5, {"blocked": ["halted"], "gate": "halted"}, []),
        ("running", 5, {"blocked": ["absent"]}, []),
        ("running", 91, {}, ["no sign of life for 91 s"]),
        ("starting", 7300, {}, ["no sign of life for 2 h"]),
        ("running", -3600, {}, ["dated 60 min ahead of this clock"]),
        ("running", 5, {"blocked": ["halted", "stale"]}, ["entries are blocked: stale"]),
        (
            "running",
            5,
            {"blocked": ["not_live"], "streaming": False},
            ["entries are blocked: not_live"],
        ),
        ("running", 5, {"streaming": False}, ["the feed does not stream"]),
        ("running", 5, {"unresolved": ["a", "b"]}, ["unresolved: a, b"]),
        (
            "running",
            200,
            {"unresolved": ["a"], "blocked": ["late"]},
            ["no sign of life for 3 min", "entries are blocked: late", "unresolved: a"],
        ),
        ("running", 5, {"orders": stood(None, "2026-03-03T14:00:00Z")}, [FAILED]),
        (
            "running",
            5,
            {"orders": stood("2026-03-03T13:59:59.5Z", "2026-03-03T14:00:00Z")},
            [FAILED],
        ),
        (
            "running",
            5,
            {"orders": stood("2026-03-03T14:00:00.5Z", "2026-03-03T14:00:00Z")},
            [],
        ),
        ("starting", 5, {"orders": stood(None, "2026-03-03T14:00:00Z")}, []),
        ("stopping", 5, {}, ["stopping"]),
        ("stopped", 9000, {"stage": "end"}, ["stopped"]),
        ("failed", 5, {"stage": "preflight", "message": "no key"}, ["failed: preflight: no key"]),
    ],
)
def test_findings_are_named(named, age_s, more, found):
    told = {"status": named, "pid": 1, "details": WELL | more}
    assert findings_in(told, age_s, 90, is_gone=False) == found


@pytest.mark.parametrize("named", ["starting", "running", "stopping", "stopped", "failed"])
def test_a_process_that_is_gone_is_named_unless_it_said_so(named):
    found = findings_in({"status": named, "pid": 7}, 1, 90, is_gone=True)
    is_named = found[0] == "process 7 is gone without a word"
    assert is_named == (named in ("starting", "running", "stopping"))


def test_a_process_that_was_killed_is_a_finding_at_once(beat):
    path = beat(age_s=0)
    assert run("--heartbeat", path).exit_code == 0
    with subprocess.Popen(["true"]) as done:
        done.wait()
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"pid": done.pid}))
    assert f"process {done.pid} is gone without a word" in failing("--heartbeat", path)[1]
    path.write_text(json.dumps(told | {"pid": done.pid, "hostname": "another.invalid"}))
    assert run("--heartbeat", path).exit_code == 0  # from here nobody can know


def test_age_is_judged_by_the_clock_and_the_option(beat):
    path = beat(age_s=300)
    assert "no sign of life for 5 min" in failing("--heartbeat", path)[1]
    assert run("--heartbeat", path, "--max-age", "10m").exit_code == 0
    done = CliRunner().invoke(status, ["--max-age", "soon"])
    assert (done.exit_code, 'a duration such as "30s"' in done.output) == (2, True)


def test_without_a_heartbeat_the_exit_code_is_3(tmp_path):
    with pytest.raises(EnvironmentFault, match="No such file") as caught:
        run("--journal", tmp_path / "j.sqlite")
    assert caught.value.exit_code == 3
    assert "j.heartbeat.json" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"status": 1, "updated_at": "2026-03-03"}', "nul"]
)
def test_a_file_that_is_no_heartbeat_is_named(tmp_path, text):
    (tmp_path / "h.json").write_text(text)
    with pytest.raises(EnvironmentFault, match="expected one of a worker"):
        run("--heartbeat", tmp_path / "h.json")


def test_json_is_one_document_with_the_findings(beat):
    path = beat(age_s=300)
    shown, _ = failing("--heartbeat", path, "--json")
    found = json.loads(shown)
    assert found["findings"] == ["no sign of life for 5 min"]
    assert 300 <= found["age_s"] < 400
    assert found["heartbeat"] == json.loads(path.read_text())


def test_quiet_says_nothing_and_still_fails(beat):
    assert run("--heartbeat", beat(), "--quiet").output == ""
    shown, error = failing("--heartbeat", beat("stopped"), "--quiet")
    assert shown == ""
    assert error.endswith("expected it well, found stopped")


def test_a_worker_that_says_little_yet_is_shown(beat):
    path = beat()
    told = {"status": "starting", "updated_at": datetime.now(UTC).isoformat()}
    path.write_text(json.dumps(told))
    assert "starting" in run("--heartbeat", path).output


# Watching


def test_watching_looks_again_until_ctrl_c_and_waits_for_the_first_heartbeat(
    beat, tmp_path, monkeypatch
):
    path, steps = tmp_path / "journal.heartbeat.json", []

    class Clock:
        time = staticmethod(time.time)

        @staticmethod
        def sleep(_seconds):
            steps.append(path.exists())
            if len(steps) == 3:
                raise KeyboardInterrupt
            beat("stopped" if len(steps) == 2 else "running")

    monkeypatch.setattr(module, "time", Clock)
    done = run("--heartbeat", path, "--watch")
    assert steps == [False, True, True]
    assert done.exit_code == 0
    assert "finding" in done.output


def test_watching_is_for_people():
    done = CliRunner().invoke(status, ["--watch", "--json"])
    assert (done.exit_code, "leave --json" in done.output) == (2, True)
