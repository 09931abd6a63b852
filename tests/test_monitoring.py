"""How a worker is told outside: real files, sockets, servers and threads; time is given, never waited for."""

import io
import itertools
import json
import logging
import os
import queue
import re
import resource
import socket
import threading
import urllib.request
from contextlib import contextmanager, suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.monitoring.alerts import Alerts
from adapters.monitoring.courier import Courier
from adapters.monitoring.document import document_of, spell
from adapters.monitoring.event_file import EventFile
from adapters.monitoring.event_webhook import EventWebhook
from adapters.monitoring.heartbeat import HeartbeatFile
from adapters.monitoring.log import Log
from adapters.monitoring.metrics import Metrics
from adapters.monitoring.pace import Pace
from adapters.monitoring.systemd import Systemd
from ibs_core.cli.monitoring import heartbeat_of, monitors_of
from ibs_core.cli.status import findings_in
from ibs_core.config import Settings
from ibs_core.errors import ConfigError, DataError, EnvironmentFault
from ibs_core.notices import KINDS, Board, Notice

SECOND = 10**9
NOW = 1_772_548_200 * SECOND  # 2026-03-03T14:30:00Z
HIDDEN = "h1dden-part"
PATIENCE_S = 20


def notice(kind="feed", text="feed lost", level="info", cause="", **facts):
    return Notice(kind, text, NOW, level, cause, facts)


def health(**more):
    symbol = {
        "last_bar": "2026-03-03T14:00:00Z",
        "last_minute": "2026-03-03T14:30:00Z",
        "position": "open",
        "instrument": "MESH2026",
        "quantity": 4,
        "entry_price": 5900.25,
        "open_usd": -12.5,
        "realised_usd": 250.0,
        "features": {"ready": True, "required": [], "missing": []},
    }
    return {
        "until": "2026-03-03T14:30:00Z",
        "streaming": True,
        "blocked": [],
        "unresolved": [],
        "symbols": {"ES": symbol},
        "orders": {"unsettled": 1, "last_success": None, "last_error": None},
        "feed": {"lag_ms": 250.0, "reconnects": 2},
        "gate": "open",
        **more,
    }


def document(**more):
    return {"version": "1", "journal": "j", "route": "demo", "armed": True} | {
        "symbols": ["ES"],
        "details": health(**more),
    }


class Time:
    def __init__(self):
        self.ns = NOW

    def __call__(self):
        return self.ns

    def on(self, seconds):
        self.ns += round(seconds * SECOND)


class Receiver(ThreadingHTTPServer):
    """A real server: keeps what is posted, answers as scripted, or not until it is let."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted, self.script = queue.Queue(), []
        self.answers = threading.Event()
        self.answers.set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def place(self):
        return f"127.0.0.1:{self.server_port}"

    def next(self):
        return json.loads(self.posted.get(timeout=PATIENCE_S))

    def rest(self):
        found = []
        while not self.posted.empty():
            found.append(json.loads(self.posted.get()))
        return found


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.put(body)
        self.server.answers.wait(PATIENCE_S)
        self.send_response(self.server.script.pop(0) if self.server.script else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        yield server
        server.answers.set()
        server.shutdown()


@pytest.fixture
def now():
    return Time()


@pytest.fixture
def loud(caplog):
    """Every logger at its loudest, as a user may set them, and as no test before has left them."""
    caplog.set_level(logging.DEBUG)
    names = ("httpx", "httpcore.http11", "httpcore.connection", "urllib3.connectionpool", "apprise")
    found = [logging.getLogger(name) for name in names]
    for each in found:
        each.setLevel(logging.DEBUG)
        each.filters.clear()
    yield caplog
    for each in found:
        each.setLevel(logging.NOTSET)


@contextmanager
def room_for(n_bytes):
    """A disk that is full behind so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# How often


@given(st.lists(st.tuples(st.integers(-50, 50), st.sampled_from("ab")), max_size=60))
def test_a_pace_is_due_at_a_change_after_its_time_and_when_the_clock_goes_back(steps):
    pace, now_ns, last = Pace(30), 1000, None
    for step, state in steps:
        now_ns += step
        wanted = last is None or state != last[1] or not 0 <= now_ns - last[0] < 30
        assert pace.is_due(now_ns, state) == wanted
        last = (now_ns, state) if wanted else last


# The heartbeat


def test_a_heartbeat_says_who_how_and_when_with_sorted_keys(tmp_path):
    path = tmp_path / "live" / "journal.heartbeat.json"
    assert HeartbeatFile(path, 30 * SECOND).beat("running", document, NOW + 5) == ""
    told = json.loads(path.read_text())
    assert (told["status"], told["updated_at"]) == ("running", "2026-03-03T14:30:00Z")
    assert told["hostname"] == socket.gethostname()
    assert told["details"] == health()
    assert list(told) == sorted(told)
    assert list(told["details"]) == sorted(told["details"])
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_health_is_asked_only_when_a_heartbeat_is_written(tmp_path):
    heartbeat, asked = HeartbeatFile(tmp_path / "h.json", 30 * SECOND), []

    def beat(status, second):
        heartbeat.beat(status, lambda: asked.append(second) or {}, NOW + second * SECOND)

    for second in range(60):
        beat("starting" if second < 7 else "running", second)
    assert asked == [0, 7, 37]


def test_f36_a_heartbeat_goes_stale_when_the_loop_that_trades_is_stuck(tmp_path, now):
    """The reference wrote it from a timer: "running" while nothing ran."""
    path, feed, turned = tmp_path / "h.json", queue.Queue(), queue.Queue()
    monitors = monitors_of(
        Settings(monitoring={"heartbeat": str(path)}), tmp_path / "j.sqlite", log=None, now=now
    )

    def loop():
        while (event := feed.get()) is not None:
            event.wait()
            monitors.beat("running", document)
            turned.put(True)

    def findings():
        told = json.loads(path.read_text())
        age_s = now.ns / SECOND - datetime.fromisoformat(told["updated_at"]).timestamp()
        return findings_in(told, age_s, 90, is_gone=False)

    worker = threading.Thread(target=loop, daemon=True)
    worker.start()
    let = threading.Event()
    let.set()
    feed.put(let)
    turned.get(timeout=PATIENCE_S)
    assert findings() == []
    stuck = threading.Event()
    feed.put(stuck)
    now.on(91)
    assert findings() == ["no sign of life for 91 s"]
    stuck.set()
    turned.get(timeout=PATIENCE_S)
    assert findings() == []
    feed.put(None)
    worker.join()


def test_a_disk_that_refuses_is_told_and_does_not_stop_the_worker(tmp_path):
    path = tmp_path / "h.json"
    heartbeat = HeartbeatFile(path, 30 * SECOND)
    heartbeat.beat("running", document, NOW)
    before = path.read_bytes()
    with room_for(100):
        fault = heartbeat.beat("running", document, NOW + 30 * SECOND)
        assert "h.json was not written: File too large" in fault
    assert path.read_bytes() == before  # whole or not at all
    assert [each.name for each in tmp_path.iterdir()] == ["h.json"]
    assert heartbeat.beat("running", document, NOW + 31 * SECOND) == fault
    assert heartbeat.beat("running", document, NOW + 60 * SECOND) == ""


def test_what_a_reader_acts_on_is_written_at_once_when_it_changes(tmp_path):
    heartbeat, asked = HeartbeatFile(tmp_path / "h.json", 30 * SECOND), []
    marks = ["open", "open", "halted", "halted", "open"]

    def beat(second, mark):
        heartbeat.beat(
            "running", lambda: asked.append(second) or {}, NOW + second * SECOND, (mark, ())
        )

    for second, mark in enumerate(marks):
        beat(second, mark)
    assert asked == [0, 2, 4]


@pytest.mark.parametrize("place", ["file/h.json", "folder"])
def test_a_heartbeat_that_cannot_be_written_is_refused_at_the_start(tmp_path, place, now):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    settings = Settings(monitoring={"heartbeat": str(tmp_path / place)})
    with pytest.raises(
        EnvironmentFault, match=r"heartbeat .*; check monitoring\.heartbeat"
    ) as caught:
        monitors_of(settings, tmp_path / "j.sqlite", log=None, now=now)
    assert caught.value.exit_code == 3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


def test_a_heartbeat_of_before_stays_until_the_next_is_written(tmp_path):
    path = tmp_path / "h.json"
    path.write_text("before")
    HeartbeatFile(path, SECOND)
    assert path.read_text() == "before"


def test_a_number_that_json_has_not_is_told(tmp_path):
    heartbeat = HeartbeatFile(tmp_path / "h.json", SECOND)
    assert "was not written" in heartbeat.beat("running", lambda: {"x": float("nan")}, NOW)
    assert not (tmp_path / "h.json").exists()


# Metrics


@pytest.fixture
def metrics():
    served = Metrics(0)
    yield served
    served.close()


def scraped(metrics):
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_what_happens_is_counted_by_its_facts(metrics):
    board = Board(metrics)
    for each in (
        notice("order", symbol="ES", action="entry"),
        notice("order", symbol="ES", action="entry"),
        notice("order", symbol="ES", action="exit"),
        notice("moved", state="ACKED"),
        notice("trade", symbol="ES", reason="ibs", net_usd=5.0),
        notice("refused", symbol="ES", reason="vetoed"),
        notice("block", reason="stale", on=True),
        notice("block", reason="stale", on=False),
        notice("page", level="page", cause="sender"),
        notice("moved", state="whatever the receiver says, at any length"),
    ):
        board.publish(each)
    found = scraped(metrics)
    assert found['ibs_orders_total{action="entry",symbol="ES"}'] == "2.0"
    assert found['ibs_orders_total{action="exit",symbol="ES"}'] == "1.0"
    assert found['ibs_order_moves_total{state="ACKED"}'] == "1.0"
    assert found['ibs_order_moves_total{state="other"}'] == "1.0"
    assert found['ibs_trades_total{reason="ibs",symbol="ES"}'] == "1.0"
    assert found['ibs_refused_total{reason="vetoed",symbol="ES"}'] == "1.0"
    assert found['ibs_blocks_total{reason="stale"}'] == "1.0"
    assert found["ibs_pages_total"] == "1.0"


def test_how_the_worker_is_is_shown_as_numbers(metrics):
    metrics.beat(
        "running", document(blocked=["stale"], unresolved=["a", "b"], notices_dropped=3), NOW
    )
    found = scraped(metrics)
    assert found["ibs_notices_dropped"] == "3.0"
    assert found["ibs_up"] == "1.0"
    assert float(found["ibs_beat_timestamp_seconds"]) == NOW / SECOND
    assert float(found['ibs_last_bar_timestamp_seconds{symbol="ES"}']) == NOW / SECOND - 1800
    assert float(found['ibs_last_minute_timestamp_seconds{symbol="ES"}']) == NOW / SECOND
    assert found['ibs_position_contracts{symbol="ES"}'] == "4.0"
    assert found['ibs_open_usd{symbol="ES"}'] == "-12.5"
    assert found['ibs_realised_usd{symbol="ES"}'] == "250.0"
    assert found['ibs_features_ready{symbol="ES"}'] == "1.0"
    assert found["ibs_unsettled_orders"] == "1.0"
    assert found["ibs_unresolved_orders"] == "2.0"
    assert found["ibs_feed_lag_seconds"] == "0.25"
    assert found["ibs_feed_reconnects"] == "2.0"
    assert found["ibs_streaming"] == "1.0"
    assert found['ibs_blocked{reason="stale"}'] == "1.0"
    gates = {name: found[f'ibs_gate{{gate="{name}"}}'] for name in ("open", "reduce_only")}
    assert gates == {"open": "1.0", "reduce_only": "0.0"}
    metrics.beat("stopping", document(), NOW)
    found = scraped(metrics)
    assert found["ibs_up"] == "0.0"
    assert 'ibs_blocked{reason="stale"}' not in found


def test_a_block_that_holds_on_is_never_gone_from_a_scrape(metrics, monkeypatch):
    metrics.beat("running", document(blocked=["stale", "late"]), NOW)
    seen, put = [], type(metrics)._set

    def looking(self, name, value, *labels):
        if name == "ibs_blocked":
            seen.append('ibs_blocked{reason="stale"}' in scraped(metrics))
        put(self, name, value, *labels)

    monkeypatch.setattr(Metrics, "_set", looking)
    metrics.beat("running", document(blocked=["stale"]), NOW)
    assert seen == [True]
    assert 'ibs_blocked{reason="late"}' not in scraped(metrics)


def test_before_the_first_bar_and_without_details_metrics_are_served(metrics):
    metrics.beat("starting", {"details": {"preflight": {}}}, NOW)
    first = {"ES": {"last_bar": None, "position": "flat", "quantity": 0, "open_usd": 0.0}}
    metrics.beat("running", document(symbols=first, feed={"lag_ms": None}), NOW)
    found = scraped(metrics)
    assert found['ibs_position_contracts{symbol="ES"}'] == "0.0"
    assert 'ibs_last_bar_timestamp_seconds{symbol="ES"}' not in found


def test_metrics_are_served_on_this_machine_only_and_a_taken_port_is_named(metrics):
    assert metrics._server.server_address[0] == "127.0.0.1"
    with pytest.raises(EnvironmentFault, match=f"port {metrics.port}: .*already in use; end what"):
        Metrics(metrics.port)


# Logs and events


@given(
    st.text(),
    st.text(),
    st.dictionaries(st.text(), st.none() | st.floats() | st.integers() | st.text()),
)
def test_whatever_happens_is_one_line_of_json_with_its_keys_sorted(text, cause, facts):
    line = spell(document_of(Notice("feed", text, NOW, "info", cause, facts)))
    assert line.isascii()
    assert "\n" not in line
    found = json.loads(line, parse_constant=pytest.fail)
    assert list(found) == ["cause", "facts", "kind", "level", "text", "time"]
    assert found["time"] == "2026-03-03T14:30:00Z"


def test_a_log_for_machines_holds_a_document_a_line():
    stream = io.StringIO()
    log = Log(stream, "json")
    log.tell(notice(text="two\nlines", level="page", cause="feed lost", since=float("nan")))
    log.tell(notice("order", "ES: entry", symbol="ES"))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {
        "time": "2026-03-03T14:30:00Z",
        "level": "critical",
        "kind": "feed",
        "cause": "feed lost",
        "event": "two lines",
        "facts": {"since": "nan"},
    }
    assert (second["level"], second["facts"]) == ("info", {"symbol": "ES"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_for_people_is_a_line_a_notice_and_nothing_that_a_terminal_obeys(kind):
    stream = io.StringIO()
    Log(stream, "human").tell(notice(kind, "\x1b[2J\nES: entry", "warning", "why", symbol="ES"))
    line = stream.getvalue()
    assert line.startswith("2026-03-03T14:30:00Z [warning")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "ES: entry" in line
    assert "symbol=ES" in line


def test_a_log_whose_reader_went_away_does_not_stop_the_worker():
    reads, writes = os.pipe()
    os.close(reads)
    with suppress(BrokenPipeError), os.fdopen(writes, "w", buffering=1) as stream:
        log = Log(stream, "json")
        log.tell(notice())
        assert log.fault == "log: Broken pipe"


def test_events_are_whole_lines_and_survive_rotation(tmp_path):
    path = tmp_path / "log" / "events.jsonl"
    events = EventFile(path)
    events.tell(notice(text="one"))
    path.rename(tmp_path / "old")
    events.tell(notice(text="two"))
    assert [each["text"] for each in lines_of(tmp_path / "old")] == ["one"]
    assert [each["text"] for each in lines_of(path)] == ["two"]


def test_a_full_disk_leaves_whole_lines_of_events_only(tmp_path):
    path = tmp_path / "events.jsonl"
    events = EventFile(path)
    events.tell(notice(text="one"))
    with room_for(path.stat().st_size + 20):
        events.tell(notice(text="two"))
        assert events.fault == f"file of events {path}: File too large"
    events.tell(notice(text="three"))
    assert [each["text"] for each in lines_of(path)] == ["one", "three"]
    assert events.fault == ""


def test_a_line_of_events_that_a_crash_cut_short_is_taken_off(tmp_path):
    path = tmp_path / "events.jsonl"
    EventFile(path).tell(notice(text="one"))
    whole = path.read_bytes()
    for n in range(1, len(whole)):
        path.write_bytes(whole + whole[:n])
        EventFile(path)
        assert path.read_bytes() == whole


def test_the_end_of_another_programs_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("a,b\n1,2")
    with pytest.raises(DataError, match="expected events, a line each, found '1,2'"):
        EventFile(path)
    assert path.read_text() == "a,b\n1,2"
    with pytest.raises(EnvironmentFault, match=f"file of events {path}/x"):
        EventFile(path / "x")


# The thread that carries


@contextmanager
def couriers(carry, **more):
    courier = Courier("test", carry, **more)
    try:
        yield courier
    finally:
        courier.close()


def test_who_hands_over_never_waits_and_the_oldest_is_dropped_and_counted():
    entered, let, carried = threading.Event(), threading.Event(), []

    def carry(message):
        entered.set()
        let.wait(PATIENCE_S)
        carried.append(message)
        return ""

    with couriers(carry, room=3) as courier:
        courier.hand(0)
        assert entered.wait(PATIENCE_S)  # and it is away with it
        for message in range(1, 8):
            courier.hand(message)
        assert courier.counts() == {"delivered": 0, "failed": 0, "dropped": 4, "waiting": 3}
        let.set()
    assert carried == [0, 5, 6, 7]
    assert courier.counts() == {"delivered": 4, "failed": 0, "dropped": 4, "waiting": 0}
    courier.hand("after the end")
    assert courier.counts()["dropped"] == 5


def test_a_message_is_tried_again_and_a_fault_names_the_error_only():
    seen = []

    def carry(message):
        seen.append(message)
        if message == "bad":
            raise ValueError(HIDDEN)
        return "" if seen.count(message) == 3 else "HTTP 503"

    with couriers(carry, pauses_s=(0, 0)) as courier:
        courier.hand("slow")
        courier.hand("bad")
    assert seen == ["slow"] * 3 + ["bad"] * 3
    assert courier.counts() == {"delivered": 1, "failed": 1, "dropped": 0, "waiting": 0}
    assert courier.fault == "test: ValueError"


def test_closing_does_not_wait_out_the_pauses():
    carried = []
    courier = Courier("test", lambda message: carried.append(message) or "no", pauses_s=(3600,))
    courier.hand("one")
    courier.close(PATIENCE_S)
    assert carried == ["one", "one"]


def test_closing_gives_up_on_who_never_answers_and_counts_what_is_left():
    entered, let, carried = threading.Event(), threading.Event(), []

    def carry(message):
        carried.append(message)
        entered.set()
        let.wait(PATIENCE_S)
        return ""

    courier = Courier("test", carry)
    courier.hand("stuck")
    assert entered.wait(PATIENCE_S)
    courier.hand("left")
    courier.close(within_s=0)
    assert courier.counts() == {"delivered": 0, "failed": 0, "dropped": 1, "waiting": 0}
    let.set()
    courier._thread.join(PATIENCE_S)
    assert carried == ["stuck"]


# The second webhook


def test_a_notice_is_posted_as_json_and_again_when_it_was_not_taken(receiver):
    receiver.script = [500, 429]
    webhook = EventWebhook(f"http://{receiver.place}/x/{HIDDEN}", pauses_s=(0, 0))
    webhook.tell(notice("trade", "ES: closed", symbol="ES"))
    webhook.close()
    posted = receiver.rest()
    assert len(posted) == 3
    assert posted[0] == document_of(notice("trade", "ES: closed", symbol="ES"))
    assert webhook.counts()["delivered"] == 1
    assert webhook.fault == ""


def test_a_webhook_that_stalls_keeps_nobody_waiting(receiver):
    receiver.answers.clear()
    webhook = EventWebhook(f"http://{receiver.place}/", pauses_s=())
    for number in range(100):
        webhook.tell(notice(text=f"{number}"))
    assert receiver.next()["text"] == "0"  # all were handed over while the first is not answered
    assert webhook.counts()["waiting"] == 99
    receiver.answers.set()
    webhook.close()


def test_the_url_of_the_webhook_is_told_nowhere(receiver, loud, capfd):
    receiver.script = [404, 302, 200]
    webhook = EventWebhook(f"http://{receiver.place}/x/{HIDDEN}?k={HIDDEN}", pauses_s=())
    shown = [repr(webhook)]
    for _ in range(3):
        webhook.tell(notice())
        receiver.next()
        shown.append(webhook.fault)
    webhook.close()
    shown += [webhook.fault, *capfd.readouterr(), loud.text]
    assert webhook.counts()["failed"] == 2
    assert HIDDEN not in "".join(shown)


@pytest.mark.parametrize(
    "url",
    [f"http://example.invalid/{HIDDEN}", f"ftp://x/{HIDDEN}", HIDDEN, f"https://x:y/{HIDDEN}"],
)
def test_an_address_that_would_give_the_secret_away_is_refused_unseen(url):
    with pytest.raises(ConfigError, match="webhook of events: expected https") as caught:
        EventWebhook(url)
    assert HIDDEN not in str(caught.value)


# Alerts


@pytest.fixture
def alerts(receiver, now):
    made = Alerts([f"json://{receiver.place}/{HIDDEN}"], 300 * SECOND, now, pauses_s=(0,))
    yield made
    made.close()


def page(text, cause="sender", level="page"):
    return notice("page", text, level, cause)


def test_a_page_leaves_at_once_as_one_line_with_its_cause(alerts, receiver):
    alerts.tell(page("nothing leaves\nany more"))
    told = receiver.next()
    assert told["message"] == "2026-03-03T14:30:00Z nothing leaves any more"
    assert told["title"] == f"ibs on {socket.gethostname()}: page, sender"
    assert told["type"] == "failure"


def test_one_cause_calls_once_in_a_while_and_says_how_often_it_came(alerts, receiver, now):
    for number in range(4):
        alerts.tell(page(f"fault {number}"))
        now.on(60)
    alerts.beat()
    alerts.tell(page("another", "feed lost"))
    now.on(60)
    alerts.tell(page("fault 4"))
    alerts.tell(page("fault 5"))
    alerts.close()
    assert [each["message"].partition("Z ")[2] for each in receiver.rest()] == [
        "fault 0",
        "another",
        "fault 4 (and 3 more before)",
        "fault 5",
    ]


def test_what_was_held_back_is_told_when_its_time_has_come_though_nothing_more_happens(
    alerts, receiver, now
):
    for number in range(3):
        alerts.tell(page(f"fault {number}"))
    assert receiver.next()["message"].endswith("fault 0")
    now.on(299)
    alerts.beat()
    now.on(1)
    alerts.beat()
    assert receiver.next()["message"].endswith("fault 2 (and 1 more before)")
    now.on(300)
    alerts.beat()
    assert alerts._causes == {}
    alerts.close()
    assert receiver.rest() == []


def test_calls_told_and_beaten_by_two_threads_are_neither_lost_nor_told_twice(receiver):
    """A board's thread tells, the loop that trades beats."""
    ticks, told, stop = itertools.count(0, SECOND), 200, threading.Event()
    carried, is_alone = [], set()

    def now():  # is asked amid each step, where another thread would do harm
        is_alone.add(alerts._guard.locked())
        return next(ticks)

    alerts = Alerts([f"json://{receiver.place}"], 5 * SECOND, now, pauses_s=())
    alerts._couriers[0].hand = carried.append

    def beating():
        while not stop.is_set():
            alerts.beat()

    beats = threading.Thread(target=beating)
    beats.start()
    for number in range(told):
        alerts.tell(page(f"{number}"))
    stop.set()
    beats.join()
    alerts.beat()
    alerts.close()
    assert is_alone == {True}
    more = [re.search(r"\(and (\d+) more before\)", each.line) for each in carried]
    assert len(carried) + sum(int(each[1]) for each in more if each) == told


def test_a_warning_calls_only_with_a_cause_and_never_holds_back_a_page(alerts, receiver):
    alerts.tell(notice(text="for the record"))
    alerts.tell(notice(text="who cares", level="warning"))
    alerts.tell(page("it wobbles", level="warning"))
    alerts.tell(page("it fell"))
    alerts.tell(notice("page", "no cause named", "page"))
    alerts.close()
    told = receiver.rest()
    assert [each["type"] for each in told] == ["warning", "failure", "failure"]
    assert told[2]["title"].endswith("page, page")


def test_alerts_that_nobody_takes_are_tried_again_counted_and_told(receiver, now, loud, capfd):
    receiver.script = [500, 500, 200, 500, 500]
    alerts = Alerts([f"json://{receiver.place}/{HIDDEN}"], 0, now, pauses_s=(0,))
    for number in range(3):
        alerts.tell(page(f"{number}"))
    alerts.close()
    assert alerts.counts() == {"delivered": 1, "failed": 2, "dropped": 0, "waiting": 0}
    assert alerts.fault == "alerts to address 1: not delivered"
    shown = [repr(alerts), alerts.fault, *capfd.readouterr(), loud.text]
    assert HIDDEN not in "".join(shown)


def test_a_messenger_that_stalls_holds_up_neither_the_worker_nor_the_others(receiver, now):
    receiver.answers.clear()
    with Receiver() as other:
        alerts = Alerts([f"json://{receiver.place}", f"json://{other.place}"], 0, now)
        alerts.tell(page("look"))
        assert receiver.next()["message"] == other.next()["message"]
        alerts.tell(page("look again"))
        assert other.next()["message"].endswith("look again")
        receiver.answers.set()
        alerts.close()
        other.shutdown()


@pytest.mark.parametrize("address", [f"nonsense://{HIDDEN}", HIDDEN, f"discord://{HIDDEN}"])
def test_an_address_that_no_messenger_knows_is_refused_unseen(address, now, loud, capfd):
    with pytest.raises(ConfigError, match="address 2 of alerts") as caught:
        Alerts(["json://localhost", address], SECOND, now)
    assert HIDDEN not in "".join([str(caught.value), *capfd.readouterr(), loud.text])


# systemd


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager):
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def told_by(manager, ticks, **more):
    address = manager.getsockname()
    return Systemd({"NOTIFY_SOCKET": address, **more}, ticks)


def test_systemd_is_told_ready_and_stopping_once(manager, now):
    systemd = told_by(manager, now)
    for status in ("starting", "running", "running", "stopping", "stopped"):
        systemd.beat(status)
    assert heard(manager) == [
        "STATUS=starting\n",
        "READY=1\nSTATUS=running\n",
        "STOPPING=1\nSTATUS=stopping\n",
        "STATUS=stopped\n",
    ]


def test_the_watchdog_is_fed_by_the_loop_at_most_at_half_its_time(manager, now):
    systemd = told_by(manager, now, WATCHDOG_USEC="30000000")
    systemd.beat("running")
    assert heard(manager) == ["READY=1\nSTATUS=running\nWATCHDOG=1\n"]
    fed = 0
    for _ in range(300):
        now.on(0.2)
        systemd.beat("running")
        fed += len(heard(manager))
    assert fed == 4
    assert heard(manager) == []  # nobody else feeds it
    told_by(manager, now, WATCHDOG_USEC="30000000", WATCHDOG_PID="1").beat("running")
    assert heard(manager) == ["READY=1\nSTATUS=running\n"]


def test_without_systemd_nothing_is_told_and_a_deaf_one_stops_nothing(manager, tmp_path, now):
    Systemd({}, now).beat("running")
    assert heard(manager) == []
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, now)
    systemd.beat("running")
    assert systemd.fault == "systemd was not told: No such file or directory"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind("\0ibs-test-" + tmp_path.name)
        told = Systemd({"NOTIFY_SOCKET": f"@ibs-test-{tmp_path.name}"}, now)
        told.beat("running")
        assert abstract.recv(100) == b"READY=1\nSTATUS=running\n"
    for _ in range(10_000):  # a manager that reads no more
        told_by(manager, now).beat("running")
    assert len(heard(manager)) < 10_000


# Together


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("IBS_ALERT_URLS", "IBS_TEST_EVENTS", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)


def test_by_default_there_is_a_heartbeat_beside_the_journal_and_no_thread(tmp_path, now):
    before = threading.active_count()
    monitors = monitors_of(Settings(), tmp_path / "journal.sqlite", log=None, now=now)
    assert monitors.board_subscribers == []
    assert monitors.beat("starting", document) == []
    path = heartbeat_of(tmp_path / "journal.sqlite")
    assert path.name == "journal.heartbeat.json"
    assert json.loads(path.read_text())["monitoring"] == {"webhook": None, "alerts": None}
    monitors.close()
    assert threading.active_count() == before


def test_settings_compose_every_part_and_secrets_are_in_none_of_them(
    tmp_path, now, receiver, monkeypatch, capfd, loud
):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = tmp_path / "alerts.env"
    env.write_text(f"IBS_ALERT_URLS='json://{receiver.place}/{HIDDEN} json://{receiver.place}'\n")
    env.chmod(0o600)
    monkeypatch.setenv("IBS_TEST_EVENTS", f"http://{receiver.place}/{HIDDEN}")
    monitoring = {
        "heartbeat": str(tmp_path / "h.json"),
        "metrics_port": port,
        "events": str(tmp_path / "events.jsonl"),
        "webhook": "IBS_TEST_EVENTS",
    }
    settings = Settings(monitoring=monitoring, alerts={"env_file": str(env)})
    monitors = monitors_of(settings, tmp_path / "j.sqlite", log="json", now=now)
    board = Board(*monitors.board_subscribers)
    assert monitors.beat("running", document) == []
    board.publish(page("look"))
    posted = [receiver.next() for _ in range(3)]
    board.close()
    monitors.close()  # twice is as good as once
    assert sorted("kind" in each for each in posted) == [False, False, True]
    now.on(31)
    monitors.beat("stopped", document)
    told = json.loads((tmp_path / "h.json").read_text())
    assert told["status"] == "stopped"
    assert told["monitoring"]["alerts"]["delivered"] == 2
    assert told["monitoring"]["webhook"]["delivered"] == 1
    shown = [each.read_text() for each in (tmp_path / "h.json", tmp_path / "events.jsonl")]
    out, err = capfd.readouterr()
    assert json.loads(err)["event"] == "look"
    assert HIDDEN not in "".join([*shown, out, err, loud.text])


def test_what_was_made_is_closed_when_the_next_part_cannot_be(tmp_path, now):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(monitoring={"metrics_port": port, "webhook": "IBS_TEST_EVENTS"})
    with pytest.raises(ConfigError, match="environment variable IBS_TEST_EVENTS, found none"):
        monitors_of(settings, tmp_path / "j.sqlite", log=None, now=now)
    Metrics(port).close()


def test_a_fault_of_monitoring_is_told_once_until_it_is_over(tmp_path, now):
    folder = tmp_path / "gone"
    settings = Settings(monitoring={"events": str(folder / "events.jsonl")})
    monitors = monitors_of(settings, tmp_path / "j.sqlite", log=None, now=now)
    (folder / "events.jsonl").unlink()
    folder.rmdir()

    def turn():
        monitors.board_subscribers[0].tell(notice())
        return monitors.beat("running", document)

    assert len(turn()) == 1
    assert turn() == []
    folder.mkdir()
    assert turn() == []
    (folder / "events.jsonl").unlink()
    folder.rmdir()
    assert len(turn()) == 1
