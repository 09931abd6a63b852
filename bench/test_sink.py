"""What sending costs: a commit of the journal beside a bare write to the same disk; a decision to the last byte of
its order, on the disk twice before it, beside a bare post.

The receiver is a process of its own that answers at once; the connection is kept alive. Each round sends one order
through journal and sink and one bare post of the same body with the same client, so that whatever else the machine
does disturbs both. A clock that runs ahead keeps the sender inside its own budget.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from adapters.sqlite_journal import SqliteJournal
from adapters.traderspost import Connection, TradersPostSink, Webhook
from ibs_core.bars import MINUTE_NS
from ibs_core.contracts import load_contract_map
from ibs_core.payload import body_of
from ibs_core.ports import Entry, Order

SECOND = 10**9
N_RUNS, N_ROUNDS, N_WARM = 5, 600, 50
N_COMMITS = 1_000
PATH = "/trading/webhook/00000000-0000-4000-8000-000000000000/local-only"
RECEIVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
body = b'{"success": true, "id": "a", "logId": "b"}'
answer = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body

def serve(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    held = b""
    while piece := client.recv(65536):
        held += piece
        while b"\\r\\n\\r\\n" in held:
            head, _, rest = held.partition(b"\\r\\n\\r\\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0] or 0)
            if len(rest) < length:
                break
            held = rest[length:]
            client.sendall(answer)

import threading
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@contextmanager
def receiver():
    command = [sys.executable, "-c", RECEIVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}{PATH}"
        finally:
            process.kill()


class AheadClock:
    """Wall and steady clock that a round can move on."""

    def __init__(self):
        self.ahead_ns = 0

    def now_ns(self):
        return time.time_ns() + self.ahead_ns

    def steady_ns(self):
        return time.monotonic_ns() + self.ahead_ns


class Bare:
    """A post with the same client settings and nothing else; remembers when its last byte had left."""

    def __init__(self, url):
        self._url, self.last_byte_ns = url, 0
        self._client = httpx.Client(
            limits=httpx.Limits(max_connections=2, keepalive_expiry=None), trust_env=False
        )

    def post(self, body):
        headers = {"Content-Type": "application/json"}
        more = {"extensions": {"trace": self._trace}, "headers": headers}
        with self._client.stream("POST", self._url, content=body, **more) as answer:
            answer.read()

    def _trace(self, name, _facts):
        if name == "http11.send_request_body.complete":
            self.last_byte_ns = time.monotonic_ns()

    def close(self):
        self._client.close()


def decided(number, now_ns):
    return Order(
        order_id=f"ES-{number}-entry",
        symbol="ES",
        instrument="MESZ2026",
        action="entry",
        reason="",
        decided_ns=now_ns,
        quantity=1,
        price=6812.25,
        stop=6744.25,
        target=None,
        score=0.625,
        threshold=0.5,
        model="es-v3",
    )


def entry_of(order):
    """Return about what the worker writes for the minutes of one symbol in one signal bar."""
    bars = np.zeros(60, [("ts_ns", "i8"), *((name, "f8") for name in ("open", "high", "low"))])
    return Entry(order.decided_ns // MINUTE_NS * MINUTE_NS, {"minutes": bars}, (order,))


def one_run(folder, url):
    """Return seconds of each round: decision to last byte, hand-over to last byte, bare, bare with its answer."""
    contracts, clock, bare, rows = load_contract_map(), AheadClock(), Bare(url), []
    with SqliteJournal(folder / "journal.sqlite") as journal:
        journal.begin(clock.now_ns(), {})
        connection = Connection(Webhook("bench", url))
        sink = TradersPostSink(
            Webhook("bench", url),
            journal,
            clock,
            strategy="ibs",
            contracts=contracts,
            trading=lambda _ns: ("ES",),
            page=lambda page: pytest.fail(page.text),
            locks=folder,
            connection=connection,
            ticks=clock.steady_ns,
            is_patient=True,
        )
        sink.start()
        for number in range(N_ROUNDS):
            order = decided(number, clock.now_ns())
            began = time.monotonic_ns()
            journal.append(entry_of(order))
            given = time.monotonic_ns()
            sink.send([order])
            last = connection.last_byte_ns
            body = body_of(order, "ibs", contracts).encode()
            bare_began = time.monotonic_ns()
            bare.post(body)
            bare_ended = time.monotonic_ns()
            rows.append(
                (
                    last - began,
                    last - given,
                    bare.last_byte_ns - bare_began,
                    bare_ended - bare_began,
                )
            )
            clock.ahead_ns += 13 * SECOND  # 300 entries an hour and 30 a minute
            sink.settled()
        sink.close()
        assert all(each.state == "ACKED" for each in journal.orders())
    bare.close()
    return np.array(rows[N_WARM:]) / 1e9


def test_a_decision_to_the_last_byte(benchmark, record, tmp_path):
    runs = []

    def one_round():
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        runs.append(np.percentile(one_run(folder, url), (50, 99), axis=0))

    with receiver() as url:
        benchmark.pedantic(one_round, rounds=N_RUNS)
    p50, p99 = np.min(runs, axis=0)
    record("decision-to-byte", p50[0], p50[3])
    record("decision-to-byte-p99", p99[0], p99[3])
    record("hand-over", p50[1], p50[3])


def test_a_commit_of_the_journal(benchmark, record, tmp_path):
    """A signal bar of one symbol and its order; the bare write is of as many bytes, and is synced too."""
    rows = []

    def commits():
        with (
            SqliteJournal(tmp_path / "journal.sqlite") as journal,
            (tmp_path / "bare").open("wb") as bare,
        ):
            journal.begin(time.time_ns(), {})
            for number in range(N_COMMITS):
                order = decided(number, time.time_ns())
                entry = entry_of(order)
                n_bytes = entry.arrays["minutes"].nbytes
                began = time.perf_counter()
                journal.append(entry)
                between = time.perf_counter()
                bare.write(bytes(n_bytes))
                bare.flush()
                os.fdatasync(bare.fileno())
                rows.append((between - began, time.perf_counter() - between))

    benchmark.pedantic(commits)
    p50, p99 = np.percentile(rows[N_WARM:], (50, 99), axis=0)
    record("commit", *p50)
    record("commit-p99", *p99)
