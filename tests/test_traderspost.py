"""Delivery over real sockets: every fault for entries and exits, crashes, restarts, and what must never be told."""

import itertools
import logging
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from delivery_rig import (
    IMPATIENT,
    LAST_PART,
    UUID,
    Answering,
    Rig,
    raw_server,
    rigged,
    says_garbage,
    says_nothing,
)
from delivery_worlds import MAP, SECOND, Clock, MemoryJournal
from journal_entries import entry, order

from adapters.demo_broker import DemoBroker, Fault
from adapters.sqlite_journal import SqliteJournal
from adapters.traderspost import Connection, TradersPostSink, Webhook, webhook_of
from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.outcomes import Response

ROOT = Path(__file__).parents[1]
# D2: fault, outcome, how many times an entry and an exit were read by the receiver within a minute.
FAULTS = {
    "no_answer": ("AMBIGUOUS", 1, 2),
    "close": ("AMBIGUOUS", 1, 2),
    "reset": ("AMBIGUOUS", 1, 2),
    "garbage": ("AMBIGUOUS", 1, 2),
    "stall_body": ("AMBIGUOUS", 1, 2),
    "cut_body": ("AMBIGUOUS", 1, 2),
    "slow_body": ("AMBIGUOUS", 1, 2),
    "close_unread": ("AMBIGUOUS", 0, 1),
    "reset_unread": ("AMBIGUOUS", 0, 1),
    "close_idle": ("ACCEPTED", 1, 1),
    "html 500": ("AMBIGUOUS", 1, 2),
    "status 408": ("AMBIGUOUS", 1, 2),
    "empty 200": ("AMBIGUOUS", 1, 2),
    "text 200": ("AMBIGUOUS", 1, 2),
    "false 200": ("AMBIGUOUS", 1, 2),
    "status 302": ("REFUSED", 1, 1),
    "status 400": ("REFUSED", 1, 1),
    "status 404": ("REFUSED", 1, 1),
    "status 429": ("THROTTLED", 2, 2),
}
ANSWERS = {
    "html 500": {"status": 500, "body": "<html>sorry</html>"},
    "empty 200": {"body": ""},
    "text 200": {"body": "ok"},
    "false 200": {"body": '{"success": false}'},
    "status 302": {"status": 302, "body": "", "headers": (("Location", "/other"),)},
    "status 400": {"status": 400, "body": '{"success": false, "messageCode": "invalid-action"}'},
}
AFTER = {
    ("AMBIGUOUS", "entry"): "AMBIGUOUS",
    ("REFUSED", "entry"): "DEAD",
    ("REFUSED", "exit"): "DEAD",
}


def fault_of(name):
    if name in ANSWERS:
        return Fault(kind="answer", **ANSWERS[name])
    if name.startswith("status"):
        return Fault(kind="answer", status=int(name[-3:]))
    return Fault(kind=name, seconds=0.05 if name == "slow_body" else 0.0)


@pytest.mark.parametrize("action", ["entry", "exit"])
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_outcome_and_its_number_of_messages(tmp_path, name, action):
    outcome, *counts = FAULTS[name]
    with DemoBroker([fault_of(name)]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o", action=action))
        rig.run(55)  # before an entry of unknown outcome is flattened
        assert rig.outcomes()[0] == outcome
        assert rig.state() == AFTER.get((outcome, action), "ACKED")
        assert len(broker.requests) == counts[action == "exit"]
        first, *more = rig.journal.attempts("o")
        if outcome == "AMBIGUOUS" and more:
            assert more[0].started_ns - first.started_ns == 10 * SECOND
        expected = [] if outcome == "ACCEPTED" else [outcome.lower()]
        expected = [] if (outcome, action) == ("THROTTLED", "entry") else expected
        assert [page.cause for page in rig.pages] == expected


@pytest.mark.parametrize("action", ["entry", "exit"])
@pytest.mark.parametrize("kind", ["refuse", "unanswered"])
def test_what_never_left_is_sent_again_soon(tmp_path, kind, action):
    with DemoBroker([Fault(kind=kind)]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o", action=action))
        rig.sink.turn()
        assert (rig.outcomes(), rig.state()) == (["NOT_SENT"], "PENDING")
        broker.listen()
        rig.run(1)
        assert (rig.outcomes(), rig.state()) == (["NOT_SENT", "ACCEPTED"], "ACKED")
        assert len(broker.requests) == 1


def drips_headers(client, done):
    client.recv(1 << 16)
    for byte in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 4000:
        if done.wait(0.05):
            return
        try:
            client.send(bytes([byte]))
        except OSError:
            return


@pytest.mark.parametrize("speak", [says_garbage, says_nothing])
def test_a_handshake_that_fails_sent_nothing(speak):
    with raw_server(speak) as port:
        url = f"https://127.0.0.1:{port}/trading/webhook/{UUID}/{LAST_PART}"
        connection = Connection(Webhook("demo", url), IMPATIENT)
        assert connection.post("{}").outcome == "NOT_SENT"
        assert not connection.warm()
        connection.close()


def test_an_answer_that_drips_is_cut_off_and_its_outcome_unknown():
    with raw_server(drips_headers) as port:
        url = f"http://127.0.0.1:{port}/trading/webhook/{UUID}/{LAST_PART}"
        connection = Connection(Webhook("demo", url), IMPATIENT)
        assert connection.post("{}") == Response("AMBIGUOUS", detail="Deadline")
        connection.close()


def test_a_pool_without_room_and_a_time_that_is_over_send_nothing():
    with DemoBroker() as broker:
        connection = Connection(Webhook("demo", broker.url), IMPATIENT)
        client = connection._client
        with client.stream("GET", broker.root), client.stream("GET", broker.root):
            assert connection.post("{}") == Response("NOT_SENT", detail="PoolTimeout")
        assert connection.post("{}", -1.0) == Response("NOT_SENT", detail="too late to leave")
        assert broker.requests == ()
        connection.close()


def test_the_answer_of_the_receiver_is_kept_with_the_attempt(tmp_path):
    with DemoBroker() as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o"))
        rig.run(1)
        (attempt,) = rig.journal.attempts("o")
        assert attempt.response.status == 200
        assert attempt.response.signal_id == broker.requests[0].signal_id != ""
        (record,) = rig.journal.orders()
        assert (record.route, record.body.encode()) == ("demo", broker.requests[0].body)
        moved = [(given.order_id, move.state) for given, move in rig.sink.settled()]
        assert moved == [("o", "ACKED")]
        assert rig.sink.settled() == []


def test_every_resend_of_an_exit_has_the_same_bytes(tmp_path):
    faults = [Fault(kind="no_answer", count=3)]
    with DemoBroker(faults) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o", action="exit"))
        rig.run(80)
        starts = [each.started_ns for each in rig.journal.attempts("o")]
        assert [(b - a) // SECOND for a, b in itertools.pairwise(starts)] == [10, 20, 40]
        assert len({each.body for each in broker.requests}) == 1
        assert [page.cause for page in rig.pages] == ["ambiguous"]


def test_an_entry_of_unknown_outcome_is_made_flat_by_an_exit_after_a_minute(tmp_path):
    with DemoBroker([Fault(kind="no_answer")]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o"))
        rig.run(61)
        assert rig.state() == "FLATTENED"
        entered, left = (each.body.decode() for each in broker.requests)
        assert '"action": "buy"' in entered
        assert '"action": "exit"' in left
        assert '"cid": "o-flatten"' in left
        assert [page.cause for page in rig.pages] == ["ambiguous"]


def test_an_operator_resolves_and_the_contract_is_free_again(tmp_path):
    with DemoBroker([Fault(kind="no_answer")]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o"))
        rig.run(20)
        assert rig.sink.resolve("o", "absent") == "RESOLVED_ABSENT"
        rig.decide(order("next"))
        rig.run(5)
        assert rig.state("next") == "ACKED"
        with pytest.raises(ConfigError, match="an entry is never sent again"):
            rig.sink.resolve("o", "retry")
        assert len(broker.requests) == 2


def test_a_refused_exit_is_sent_again_when_an_operator_says_so(tmp_path):
    with (
        DemoBroker([Fault(kind="answer", status=400)]) as broker,
        rigged(tmp_path, broker.url) as rig,
    ):
        rig.decide(order("o", action="exit"))
        rig.run(30)
        assert (rig.state(), len(broker.requests)) == ("DEAD", 1)
        rig.sink.resolve("o", "retry")
        rig.run(1)
        assert (rig.state(), len(broker.requests)) == ("ACKED", 2)


def test_what_the_receiver_would_refuse_is_not_sent(tmp_path):
    with DemoBroker() as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o", stop=6900.0), order("fine", instrument="MNQZ2025", symbol="NQ"))
        rig.run(1)
        assert (rig.state("o"), rig.state("fine")) == ("DEAD", "ACKED")
        assert rig.outcomes("o") == []
        assert [page.order_id for page in rig.pages] == ["o"]
        assert "below the market" in rig.journal.moves("o")[0].detail


def test_sending_is_on_the_disk_before_the_first_byte(tmp_path):
    seen = []

    class Witness:
        def post(self, body, _left_s):
            with SqliteJournal(tmp_path / "live.sqlite", read_only=True) as reader:
                (record,) = reader.orders()
                (attempt,) = reader.attempts("o")
                seen.append((record.state, record.body == body, attempt.response))
            return Response("ACCEPTED", 200)

        def close(self):
            pass

    url = f"http://127.0.0.1:1/trading/webhook/{UUID}/{LAST_PART}"
    with rigged(tmp_path, url, connection=Witness()) as rig:
        rig.decide(order("o"))
        rig.run(1)
    assert seen == [("SENDING", True, None)]


class Dying:
    """A connection under which the process goes away, before or after the message."""

    def __init__(self, broker, *, after):
        self._broker, self._after = broker, after

    def post(self, body, _left_s):
        if self._after:
            httpx.post(self._broker.url, content=body, trust_env=False)
        raise KeyboardInterrupt

    def close(self):
        pass


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("action", ["entry", "exit"])
def test_a_sender_killed_while_it_sends_never_enters_again_and_leaves_again(
    tmp_path, action, after
):
    clock = Clock()
    with DemoBroker() as broker:
        dying = Dying(broker, after=after)
        with rigged(tmp_path, broker.url, connection=dying, clock=clock) as rig:
            rig.decide(order("o", action=action))
            with pytest.raises(KeyboardInterrupt):
                rig.sink.turn()
            assert rig.state() == "SENDING"
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.sink._tray.recover()
            assert rig.state() == "AMBIGUOUS"
            assert [page.cause for page in rig.pages] == ["ambiguous"]
            rig.run(55)
            assert rig.state() == ("AMBIGUOUS" if action == "entry" else "ACKED")
            assert len(broker.requests) == after + (action == "exit")


def test_after_a_restart_pending_exits_leave_and_old_entries_do_not(tmp_path):
    clock = Clock()
    orders = [order("o"), order("out", action="exit", symbol="NQ", instrument="MNQZ2025")]
    with DemoBroker() as broker:
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.decide(*orders)
        clock.ns += 11 * SECOND
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.sink._tray.recover()
            rig.run(1)
            assert broker.requests == ()  # before they are handed over
            rig.sink.send(rig.journal.unsent())
            rig.run(1)
            assert (rig.state("o"), rig.state("out")) == ("EXPIRED", "ACKED")
            assert len(broker.requests) == 1


def test_a_second_sender_to_the_same_webhook_is_refused(tmp_path):
    url = f"http://127.0.0.1:1/trading/webhook/{UUID}/"
    with (
        rigged(tmp_path, url + LAST_PART),
        pytest.raises(EnvironmentFault, match="another process sends to route 'demo'"),
    ):
        Rig(tmp_path, url + "rotated", name="other")
    with rigged(tmp_path, url + LAST_PART, name="third"):
        pass


def test_a_journal_that_cannot_be_written_stops_the_sender_and_calls(tmp_path):
    class Full(MemoryJournal):
        def begin_attempt(self, *_args, **_more):
            raise EnvironmentFault("journal", found="disk full")

    journal, clock, pages = Full(), Clock(), []
    with DemoBroker() as broker:
        called = threading.Event()
        sink = TradersPostSink(
            Webhook("demo", broker.url),
            journal,
            clock,
            strategy="ibs",
            contracts=MAP,
            trading=lambda _ns: (),
            page=lambda page: (pages.append(page), called.set()),
            locks=tmp_path,
        )
        sink.start()
        given = order("o", action="exit", decided_ns=clock.now_ns())
        journal.append(given)
        sink.send([given])
        assert called.wait(10)
        assert "nothing leaves any more: journal: found disk full" in pages[0].text
        with pytest.raises(EnvironmentFault, match="disk full"):
            sink.settled()
        sink.close()
        assert broker.requests == ()


def test_the_thread_sends_what_it_is_given_and_what_is_due_when_it_ends(tmp_path):
    clock = Clock()
    with DemoBroker() as broker, SqliteJournal(tmp_path / "live.sqlite") as journal:
        journal.begin(1, {})
        sink = TradersPostSink(
            Webhook("demo", broker.url),
            journal,
            clock,
            strategy="ibs",
            contracts=MAP,
            trading=lambda _ns: ("ES", "NQ"),
            page=lambda _page: None,
            locks=tmp_path,
            is_patient=True,
        )
        sink.start()
        given = [order("a", decided_ns=clock.now_ns())]
        given += [order("b", symbol="NQ", instrument="MNQZ2025", decided_ns=clock.now_ns())]
        journal.append(entry(1, given))
        sink.send(given)
        assert [each.state for each in journal.orders()] == ["ACKED", "ACKED"]
        sink._is_patient = False
        last = order("c", action="exit", decided_ns=clock.now_ns(), instrument="MESH2026")
        journal.append(entry(2, [last]))
        sink.send([last])
        sink.close()
        assert journal.orders()[-1].state == "ACKED"
        assert len(broker.requests) == 3
        assert all(each.method == "GET" and each.path == "/" for each in broker.others)


def test_a_flood_keeps_the_budget_and_exits_leave_from_their_reserve(tmp_path):
    answering, clock, journal = Answering(), Clock(), MemoryJournal()
    sink = TradersPostSink(
        Webhook("demo", f"http://127.0.0.1:1/trading/webhook/{UUID}/{LAST_PART}"),
        journal,
        clock,
        strategy="ibs",
        contracts=MAP,
        trading=lambda _ns: ("ES",),
        page=lambda _page: None,
        locks=tmp_path,
        connection=answering,
        ticks=clock.steady_ns,
    )
    sink._warmed_ns = 2**62
    now_ns = clock.now_ns()
    months = [
        f"{root}{code}20{year}"
        for root in ("MES", "ES")
        for code in "HMUZ"
        for year in range(26, 51)
    ]
    entries = [order(f"in{k}", instrument=months[k % 100], decided_ns=now_ns) for k in range(3000)]
    exits = [
        order(f"out{k}", action="exit", instrument=months[100 + k], decided_ns=now_ns)
        for k in range(30)
    ]
    for each in (*entries, *exits):
        journal.append(each)
    sink.send([*entries, *exits])
    while clock.ns < now_ns + 60 * SECOND:
        clock.ns += sink.turn()
    kinds = ["exit" if '"action": "exit"' in body else "entry" for body in answering.bodies]
    assert kinds == ["exit"] * 30 + ["entry"] * 30
    states = [journal.held[each.order_id].state for each in entries]
    assert (states.count("ACKED"), states.count("EXPIRED")) == (30, 2970)
    sink.close()


# What must never be told


@pytest.fixture
def loud(caplog):
    """Every logger at its loudest, as a user may set them."""
    caplog.set_level(logging.DEBUG)
    names = ("httpx", "httpcore", "httpcore.http11", "httpcore.connection")
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_neither_the_url_nor_its_password_is_told_anywhere(tmp_path, loud, capfd):
    hidden = "p4ss-of-the-route"
    echo = f'{{"success": false, "messageCode": "{hidden}", "id": "{UUID}", "logId": "x{hidden}"}}'
    faults = [
        Fault(kind="answer", status=400, body=echo),
        Fault(
            kind="answer",
            status=302,
            headers=(("Location", f"/trading/webhook/{UUID}/{hidden}"),),
        ),
        Fault(kind="reset"),
        Fault(kind="garbage"),
        Fault(kind="stall_body"),
        Fault(kind="answer", status=500, body=f"<html>{UUID}/{hidden}</html>"),
    ]
    with DemoBroker(faults, password=hidden) as broker, rigged(tmp_path, broker.url) as rig:
        shown = [repr(rig.sink), repr(rig.sink._connection), repr(rig.sink._connection._client)]
        for k in range(len(faults) + 1):
            rig.decide(order(f"o{k}", action="exit", instrument=f"MES{'HMUZ'[k % 4]}20{26 + k}"))
            rig.run(1)
        broker.refuse()
        rig.decide(order("late", action="exit", instrument="MESZ2040"))
        rig.run(12)
        broker.listen()
        shown += [page.text for page in rig.pages]
        files = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
        assert len(broker.requests) >= len(faults)
    shown += [loud.text, *capfd.readouterr()]
    for secret in (hidden, UUID):
        assert secret.encode() not in files
        assert all(secret not in text for text in shown)
    assert "POST" not in loud.text


@pytest.mark.parametrize(
    "url",
    [
        "https://example.invalid/hook/abc/SECRETPART",
        "http://example.invalid/trading/webhook/abc/SECRETPART",
        "https://example.invalid/trading/webhook/abc/SECRETPART?x=1",
        "https://example.invalid:port/trading/webhook/abc/SECRETPART",
        "${SECRETPART}",
    ],
)
def test_a_url_of_another_form_is_refused_without_being_shown(url):
    with pytest.raises(ConfigError, match="webhook of route 'live'") as caught:
        Webhook("live", url)
    assert "SECRETPART" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_webhook_comes_from_the_environment_or_from_a_file_of_its_owner(tmp_path, monkeypatch):
    url = "https://example.invalid/trading/webhook/abc-1/def"
    path = tmp_path / "ibs.env"
    path.write_text(f'# routes\nexport IBS_TEST_HOOK="{url}"\n')
    monkeypatch.delenv("IBS_TEST_HOOK", raising=False)
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        with pytest.raises(
            EnvironmentFault, match=f"found mode {mode:04o}, in routes.live.env_file; chmod 600"
        ):
            webhook_of("live", "IBS_TEST_HOOK", path)
    path.chmod(0o600)
    assert webhook_of("live", "IBS_TEST_HOOK", path).url() == url
    with pytest.raises(ConfigError, match="in the environment variable IBS_OTHER, found none"):
        webhook_of("live", "IBS_OTHER", path)
    monkeypatch.setenv("IBS_TEST_HOOK", url.replace("def", "ghi"))
    assert webhook_of("live", "IBS_TEST_HOOK", path).url().endswith("ghi")
    with pytest.raises(EnvironmentFault, match="No such file"):
        webhook_of("live", "IBS_OTHER", tmp_path / "none.env")


# Killed


WORKER = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from journal_entries import entry, order
from adapters.sqlite_journal import SqliteJournal
from adapters.system_clock import SystemClock
from adapters.traderspost import TradersPostSink, Webhook
from ibs_core.contracts import load_contract_map

MAP = load_contract_map()

def work(url):
    folder, clock = Path(sys.argv[1]), SystemClock()
    journal = SqliteJournal(folder / "live.sqlite")
    journal.begin(clock.now_ns(), {})
    sink = TradersPostSink(Webhook("demo", url), journal, clock, strategy="ibs", contracts=MAP,
        trading=lambda ns: ("ES",), page=lambda page: None, locks=folder, is_patient=True)
    sink.start()
    for each in journal.orders(state="AMBIGUOUS"):  # as an operator would
        sink.resolve(each.order.order_id, "absent" if each.order.action == "entry" else "flat")
    print("worker", os.getpid(), flush=True)
    sink.send(journal.unsent())
    for number in range(journal.last_seq() + 1, 1_000_000):
        # A contract of its own for each, so that none waits for another.
        contract = f"MES{'HMUZ'[number % 4]}20{10 + number // 4 % 90}"
        action = "entry" if number % 2 else "exit"
        given = [order(f"{number}", action=action, instrument=contract, decided_ns=clock.now_ns())]
        journal.append(entry(number, given))
        sink.send(given)
        print(number, flush=True)

for line in sys.stdin:
    if not (child := os.fork()):
        try:
            work(line.strip())
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def kill_again_and_again(folder, n_kills, seed):
    chance = random.Random(seed)
    arguments = [str(folder), str(Path(__file__).parent)]
    seen = []
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            for _ in range(n_kills):
                with DemoBroker() as broker:  # a new one for each, for its limits
                    process.stdin.write(f"{broker.url}\n")
                    process.stdin.flush()
                    number = int(process.stdout.readline().split()[1])
                    for _ in range(chance.randrange(6)):
                        process.stdout.readline()
                    threading.Event().wait(chance.random() * 0.004)
                    os.kill(number, 9)
                    while process.stdout.readline() != "gone\n":
                        pass
                    seen += [each.body.decode() for each in broker.requests if each.signal_id]
        finally:
            process.kill()
    with SqliteJournal(folder / "live.sqlite") as journal:
        arrived = [body.split('"cid": "')[1].split('"')[0] for body in seen]
        states = {each.order.order_id: each for each in journal.orders()}
        assert set(arrived) <= set(states)
        for name, record in states.items():
            n = arrived.count(name)
            if record.state == "PENDING":
                assert n == 0, name
            if record.state == "ACKED":
                assert n >= 1, name
            if record.order.action == "entry":
                assert n <= 1, name
        assert journal._rows("PRAGMA integrity_check")[0][0] == "ok"
        return len(arrived), [each.state for each in states.values()]


def test_a_sender_killed_again_and_again_enters_nothing_twice(tmp_path):
    n, _ = kill_again_and_again(tmp_path, n_kills=5, seed=3)
    assert n >= 5


@pytest.mark.soak
def test_a_sender_killed_two_hundred_times_enters_nothing_twice(tmp_path):
    n, states = 0, set()
    for k in range(20):  # a journal of its own for each ten, for the budget of an hour
        folder = tmp_path / str(k)
        folder.mkdir()
        arrived, found = kill_again_and_again(folder, n_kills=10, seed=k)
        n, states = n + arrived, states | set(found)
    assert n >= 200
    assert {"ACKED", "RESOLVED_ABSENT"} <= states
