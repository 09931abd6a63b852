"""How a run of the worker is told, and what ends it from outside."""

from __future__ import annotations

import json
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from ibs_core.cli import live_pulse, live_screen
from ibs_core.cli.live_pulse import Pulse, monitored
from ibs_core.cli.live_screen import Screen, Status, show_summary
from ibs_core.cli.live_sink import Destination
from ibs_core.cli.live_stop import stop_signals
from ibs_core.cli.monitoring import heartbeat_of, monitors_of
from ibs_core.cli.status import findings_in
from ibs_core.config import Settings
from ibs_core.errors import EnvironmentFault
from ibs_core.notices import Board, Notice

NOW = 1_772_548_200 * 10**9
FACTS = {"symbols": ["ES"], "version": "1", "journal": "j", "route": "file", "armed": False}
PATIENCE_S = 20


class Worker:
    """As much of a worker as monitors look at."""

    def __init__(self):
        self.is_streaming = False
        self.trading = SimpleNamespace(blocked={"not_live"})
        self.dispatch = self
        self.gate, self.unresolved, self.error = "open", [], None

    def standing(self):
        orders = {"unsettled": 0, "last_success": None, "last_error": self.error}
        return {"gate": self.gate, "unresolved": self.unresolved, "orders": orders}

    def health(self):
        return {
            "streaming": self.is_streaming,
            "blocked": sorted(self.trading.blocked),
            "symbols": {},
            "feed": {"lag_ms": 250.0, "reconnects": 0},
            **self.standing(),
        }

    def stream(self):
        self.is_streaming = True
        self.trading.blocked.clear()


class World:
    """A pulse whose time stands still; its heartbeat, read as `ibs status` does."""

    def __init__(self, folder, settings=None, **more):
        self.told, self.called, self.now_s = [], [], 0.0
        self.path = folder / "journal.sqlite"
        self.monitors = monitors_of(
            settings or Settings(),
            self.path,
            log=None,
            now=lambda: NOW + round(self.now_s * 1e9),
        )
        screen = Screen(self.told.append, self.called.append)
        self.pulse = Pulse(self.monitors, FACTS, screen, ticks=lambda: self.now_s, **more)
        self.worker = Worker()

    def trade(self):
        self.pulse.enter("running", "trading", self.worker)

    def beat(self, seconds=0.2):
        self.now_s += seconds
        self.pulse.beat()
        return self.findings()

    def document(self):
        return json.loads(heartbeat_of(self.path).read_text())

    def findings(self):
        return findings_in(self.document(), 0, 90, is_gone=False)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.pulse.close()


# What the heartbeat says


def test_a_start_that_goes_well_is_no_finding_at_any_time(world):
    world.trade()
    assert (world.document()["status"], world.findings()) == ("starting", [])
    assert world.beat(5) == []
    world.worker.stream()
    assert world.beat() == []
    assert world.document()["status"] == "running"
    world.worker.is_streaming = False  # lost again: not an opening any more
    assert world.beat() == ["the feed does not stream"]


class Broken:
    """A subscriber that takes nothing."""

    def tell(self, _notice):
        raise OSError

    def close(self):
        pass


def test_notices_that_a_subscriber_never_got_are_in_the_heartbeat(tmp_path):
    world = World(tmp_path)
    world.pulse.close()
    world.pulse._board = Board(Broken())
    world.pulse.say("start", "ready")
    world.pulse.close()
    world.trade()
    assert world.document()["details"]["notices_dropped"] == 1


def test_a_feed_that_never_streams_is_a_finding_after_a_minute(world):
    world.trade()
    assert world.beat(59.9) == []
    assert world.beat(0.2) == ["entries are blocked: not_live"]
    assert world.document()["status"] == "running"


@pytest.mark.parametrize(
    ("happens", "found"),
    [
        (lambda worker: setattr(worker, "is_streaming", False), "the feed does not stream"),
        (lambda worker: worker.trading.blocked.add("stale"), "entries are blocked: stale"),
        (lambda worker: setattr(worker, "unresolved", ["a"]), "unresolved: a"),
        (
            lambda worker: setattr(worker, "error", {"message": "no connection"}),
            "the last delivery failed: no connection",
        ),
    ],
)
def test_what_is_wrong_is_a_finding_at_the_next_turn_and_no_more_when_it_is_over(
    world, happens, found
):
    world.worker.stream()
    world.trade()
    assert world.beat() == []
    happens(world.worker)
    assert world.beat() == [found]
    world.worker.stream()
    world.worker.unresolved, world.worker.error = [], None
    assert world.beat() == []


def test_a_change_of_the_gate_is_told_at_once_and_nothing_else_before_its_time(world):
    world.worker.stream()
    world.trade()
    world.worker.gate = "halted"
    world.beat()
    first = world.document()
    assert first["details"]["gate"] == "halted"
    world.beat(5)
    assert world.document() == first


@pytest.mark.parametrize(("speed", "lag_ms"), [(None, 250.0), (60.0, None)])
def test_a_replay_has_no_lag(tmp_path, speed, lag_ms):
    world = World(tmp_path, replay_speed=speed)
    world.trade()
    assert world.document()["details"]["feed"] == {"lag_ms": lag_ms, "reconnects": 0}
    world.pulse.close()


# What people are told


def test_a_fault_of_monitoring_itself_is_a_warning_of_its_own_cause(tmp_path):
    events = tmp_path / "events.jsonl"
    world = World(tmp_path, Settings(monitoring={"events": str(events)}))
    heartbeat_of(world.path).mkdir()
    world.trade()
    world.now_s = 31.0
    world.pulse.beat()  # the same fault is told once
    world.pulse.close()
    (line,) = events.read_text().splitlines()
    told = json.loads(line)
    assert (told["level"], told["cause"]) == ("warning", "monitoring")
    assert "was not written" in told["text"]
    assert world.told == [told["text"]]


def moved(state, action="entry", level="info"):
    facts = {"state": state, "action": action}
    return Notice("moved", f"{action} is {state}", NOW, level, facts=facts)


def test_the_screen_tells_orders_that_came_to_nothing_and_not_those_that_arrived():
    told, called = [], []
    screen = Screen(told.append, called.append)
    for state in ("SENDING", "ACKED", "EXPIRED", "DEAD", "AMBIGUOUS"):
        screen.tell(moved(state))
    screen.tell(Notice("page", "look", NOW, "page"))
    assert told == ["entry is EXPIRED", "entry is DEAD", "entry is AMBIGUOUS"]
    assert called == ["CALL: look"]


@pytest.mark.parametrize("log", [None, "json"])
def test_calls_are_on_standard_error_whoever_is_silent_as_a_line_of_the_log_if_there_is_one(
    tmp_path, capsys, log
):
    with monitored(
        Settings(),
        tmp_path / "j.sqlite",
        ["ES"],
        Destination("file", None),
        log=log,
        tell=lambda _line: None,
    ) as pulse:
        pulse.publish(Notice("page", "look", NOW, "page", "why"))
        pulse.publish(Notice("order", "an entry", NOW))
        assert pulse.n_pages == 1
    out, err = capsys.readouterr()
    assert out == ""
    if log is None:
        assert err == "CALL: look\n"
    else:
        assert [json.loads(line)["level"] for line in err.splitlines()] == ["critical", "info"]


@pytest.mark.parametrize(("speed", "n"), [(None, 0), (30_000.0, 1), (float("inf"), 0)])
def test_a_replay_that_outruns_the_machine_is_told_once(tmp_path, speed, n):
    world = World(tmp_path, replay_speed=speed)
    for reason in ("vetoed", "absent", "absent"):
        world.pulse.publish(Notice("refused", reason, NOW, facts={"reason": reason}))
    world.pulse.close()
    text = "the replay is faster than this machine decides; use a lower --speed, or max"
    assert world.told == [text] * n


SUMMARY = {
    "how": "stopped",
    "until": "2026-03-03T14:30:00Z",
    "counts": {"orders": 5},
    "orders_by_state": {"ACKED": 2, "AMBIGUOUS": 1, "EXPIRED": 2},
    "unresolved": ["ES-1-entry"],
    "pages": 3,
    "trades": [],
    "net_usd": 0.0,
    "open_positions": [],
    "blocked": {},
    "route": "demo",
    "orders": "route demo",
    "journal": "live/j.sqlite",
    "parity": "ibs parity",
}


def test_a_summary_names_orders_that_did_not_arrive_and_a_calm_one_does_not(capsys):
    show_summary(SUMMARY)
    lines = capsys.readouterr().out.splitlines()
    assert "orders not accepted: 1 AMBIGUOUS, 2 EXPIRED" in lines
    assert "unresolved: ES-1-entry; `ibs orders list --open --journal live/j.sqlite`" in lines
    assert "calls: 3" in lines
    show_summary(SUMMARY | {"orders_by_state": {"ACKED": 5}, "unresolved": [], "pages": 0})
    assert not [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("orders not", "unresolved", "calls"))
    ]


def test_a_terminal_that_is_held_does_not_hold_the_loop(monkeypatch):
    """Ctrl-S, and nobody types Ctrl-Q."""
    let, entered, written = threading.Event(), threading.Event(), []

    def held(line, **_):
        assert threading.current_thread() is not threading.main_thread()
        entered.set()
        let.wait(PATIENCE_S)
        written.append(line)

    monkeypatch.setattr(live_screen.sys, "stderr", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(live_screen.click, "echo", held)
    monkeypatch.setattr(live_screen, "_LOOK_S", 0.0)
    worker = SimpleNamespace(until_ns=NOW, counts=dict.fromkeys(("orders", "trades", "late"), 0))
    status = Status(SimpleNamespace(symbols=[], book=[]), worker)
    status.show()
    assert entered.wait(PATIENCE_S)
    for _ in range(1000):
        status.show()
    assert written == []
    let.set()
    status.close()
    assert written[-1] == "\r\033[K"
    assert len(written) == 2


# What ends it from outside

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_before_it_trades_a_signal_ends_it_at_once(number):
    with stop_signals() as stop:
        with pytest.raises(KeyboardInterrupt):
            send(number)
        assert stop.named == signal.Signals(number).name


@pytest.mark.parametrize("number", SIGNALS)
def test_while_it_trades_the_first_signal_is_a_wish_and_the_second_ends_it(number):
    with stop_signals() as stop:
        stop.is_trading = True
        assert not stop
        send(number)
        assert stop
        send(signal.SIGHUP)  # of the terminal, after that of its shell
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_of_before_come_back_and_nohup_holds():
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_signals():
        assert [signal.getsignal(each) for each in SIGNALS] != before
    assert [signal.getsignal(each) for each in SIGNALS] == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stop:
            send(signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before[-1])


def run(folder, happens):
    settings = Settings(monitoring={"events": str(folder / "events.jsonl")})
    destination = Destination("file", None)
    path = folder / "j.sqlite"
    with monitored(settings, path, ["ES"], destination, log=None, tell=print) as pulse:
        pulse.enter("starting", "preflight")
        happens(pulse)
    return pulse


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_a_signal_ends_early_is_stopped_and_nobody_is_called(tmp_path, capsys, number):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lambda _pulse: send(number))
    document = json.loads(heartbeat_of(tmp_path / "j.sqlite").read_text())
    told = f"stopped by {signal.Signals(number).name}: preflight"
    assert (document["status"], document["details"]["message"]) == ("stopped", told)
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (event["kind"], event["level"]) == ("stop", "info")
    assert told in event["text"]
    assert capsys.readouterr().err == f"{told}; the same command goes on\n"


def test_a_second_signal_while_it_trades_calls_nobody_either(tmp_path):
    def twice(pulse):
        pulse.stop.is_trading = True
        send(signal.SIGTERM)
        assert pulse.stop
        send(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, twice)
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert event["level"] == "info"
    assert "stopped by SIGTERM: while trading, at once" in event["text"]


def test_an_error_is_a_page_still(tmp_path):
    def fails(_pulse):
        raise EnvironmentFault("the line", found="cut")

    with pytest.raises(EnvironmentFault):
        run(tmp_path, fails)
    document = json.loads(heartbeat_of(tmp_path / "j.sqlite").read_text())
    assert document["status"] == "failed"
    assert json.loads((tmp_path / "events.jsonl").read_text())["level"] == "page"


def test_the_signals_are_heeded_while_monitors_are_made(tmp_path, monkeypatch):
    def made(*_args, **_more):
        send(signal.SIGTERM)

    monkeypatch.setattr("ibs_core.cli.monitoring.monitors_of", made)
    assert live_pulse.monitored is monitored
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lambda _pulse: None)
