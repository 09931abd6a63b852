"""SIGKILL at every transition of an order, a restart, and what must be so then.

A child sends one order and is killed at one point: before or after the n-th call that writes the journal, with the
message gone and no answer read, or with the answer seen. Another child takes the journal up half a minute later.
"""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.demo_broker import DemoBroker, Fault
from adapters.sqlite_journal import SqliteJournal

ROOT = Path(__file__).parents[1]
WORKER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from delivery_rig import IMPATIENT
from journal_entries import entry, order
from adapters.sqlite_journal import SqliteJournal
from adapters.traderspost import Connection, TradersPostSink, Webhook
from ibs_core.contracts import load_contract_map

MAP = load_contract_map()

class Ahead:
    def __init__(self, seconds):
        self.ahead_ns = seconds * 10**9

    def now_ns(self):
        return time.time_ns() + self.ahead_ns

    def steady_ns(self):
        return time.monotonic_ns() + self.ahead_ns

def die():
    os.kill(os.getpid(), 9)

def arm(journal, connection, point):
    name, _, when = point.partition(":")
    if name == "http11":
        tracer = connection._tracer
        def traced(leave_by):
            inner = tracer(leave_by)
            def trace(event, facts):
                inner(event, facts)
                if event == when:
                    die()
            return trace
        connection._tracer = traced
    elif name:
        call = getattr(journal, name)
        def killed(*given, **more):
            if when == "before":
                die()
            done = call(*given, **more)
            die()
            return done
        setattr(journal, name, killed)

def work(folder, url, action, point, ahead_s):
    clock = Ahead(int(ahead_s))
    journal = SqliteJournal(Path(folder) / "live.sqlite")
    journal.begin(clock.now_ns(), {})
    webhook = Webhook("demo", url)
    connection = Connection(webhook, IMPATIENT)
    with open(Path(folder) / "calls", "a") as calls:
        def page(each):
            calls.write(f"{each.order_id} {each.cause}\\n")
            calls.flush()
        sink = TradersPostSink(webhook, journal, clock, strategy="ibs", contracts=MAP,
            trading=lambda ns: ("ES",), page=page, locks=Path(folder), connection=connection,
            ticks=clock.steady_ns)
        arm(journal, connection, point)
        sink._warmed_ns = 2**62
        sink._tray.recover()
        if journal.last_seq() == 0:
            given = [order("o", action=action, decided_ns=clock.now_ns())]
            journal.append(entry(1, given))
            sink.send(given)
        else:  # as the worker does
            for each in journal.unsent():
                if each.action == "entry":
                    journal.order_state(each.order_id, "EXPIRED", clock.now_ns(), "found unsent")
                else:
                    sink.send([each])
        while sink.turn() < 10**8:
            pass
        sink.close()
        journal.close()

for line in sys.stdin:
    if not (child := os.fork()):
        code = 1
        try:
            work(*line.rstrip("\\n").split("|"))
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
FAULTS = {
    "accepted": [],
    "unknown": [Fault(kind="close")],
    "refused": [Fault(kind="answer", status=400)],
    "throttled": [Fault(kind="answer", status=429)],
}
POINTS = (
    "begin_attempt:before",
    "begin_attempt:after",
    "http11:http11.send_request_headers.started",
    "http11:http11.send_request_body.complete",
    "http11:http11.receive_response_headers.complete",
    "event:before",
    "event:after",
    "end_attempt:before",
    "end_attempt:after",
)
CASES = [
    (action, fault, point)
    for action in ("entry", "exit")
    for fault in FAULTS
    for point in POINTS
    if not (point.startswith("event") and fault == "accepted")
    if (action, fault, point.partition(":")[0]) != ("entry", "throttled", "event")
    if not (fault == "unknown" and point.endswith("headers.complete"))
]


@pytest.fixture(scope="module")
def run():
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:

        def once(*words):
            process.stdin.write("|".join(map(str, words)) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield once
        process.kill()


def kill_once(run, folder, action, fault, point):
    """Kill at a point, restart, and check everything; return the state after the kill and at the end."""
    folder.mkdir()
    with DemoBroker(FAULTS[fault]) as broker:
        assert run(folder, broker.url, action, point, 0) == -9, (action, fault, point)
        killed = state_in(folder)
        n_before = len(broker.requests)
        for ahead_s in (
            (31,) if action == "entry" else (31, 62)
        ):  # an exit may have to be sent again
            assert run(folder, broker.url, action, "", ahead_s) == 0
        seen = broker.requests
    after = state_in(folder)
    calls = (folder / "calls").read_text().split("\n")[:-1]
    where = (action, fault, point, killed, after, calls, len(seen))
    if killed == "PENDING" and fault != "throttled":
        assert n_before == 0, where
    if killed == "SENDING":
        assert (after == "AMBIGUOUS") or action == "exit", where
    if action == "entry":
        assert len(seen) <= 1, where
        assert after in ("ACKED", "DEAD", "EXPIRED", "AMBIGUOUS"), where
        assert calls or after in ("ACKED", "EXPIRED"), where
    else:
        assert after == "ACKED" or (after == "DEAD" and calls), where
        assert len({each.body for each in seen}) == 1, where
    # Called again only where the kill came between the call and its note.
    n_twice = len(calls) - len(set(calls))
    assert n_twice <= (point == "event:before"), where
    return killed, after


def state_in(folder):
    with SqliteJournal(folder / "live.sqlite") as journal:
        assert journal._rows("PRAGMA integrity_check")[0][0] == "ok"
        (record,) = journal.orders()
        return record.state


def test_a_sender_killed_at_a_transition_loses_no_exit_and_repeats_no_entry(tmp_path, run):
    chosen = random.Random(len(CASES)).sample(CASES, 8)
    chosen += [(action, "unknown", "event:before") for action in ("entry", "exit")]
    for k, case in enumerate(chosen):
        kill_once(run, tmp_path / str(k), *case)


@pytest.mark.soak
def test_a_sender_killed_at_every_transition_loses_no_exit_and_repeats_no_entry(tmp_path, run):
    assert len(CASES) * 4 >= 200
    found = set()
    for k, case in enumerate(CASES * 4):
        found.add(kill_once(run, tmp_path / str(k), *case))
    assert {killed for killed, _ in found} >= {"PENDING", "SENDING", "ACKED", "DEAD", "AMBIGUOUS"}
