"""A sender over real sockets whose turns a test takes, and receivers that misbehave below HTTP."""

import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

from delivery_worlds import MAP, SECOND, Clock
from journal_entries import entry

from adapters.sqlite_journal import SqliteJournal
from adapters.traderspost import Connection, Patience, TradersPostSink, Webhook
from ibs_core.outcomes import Response

LAST_PART = "local-only"
UUID = "00000000-0000-4000-8000-000000000000"
NOWHERE = f"http://127.0.0.1:1/trading/webhook/{UUID}/{LAST_PART}"
IMPATIENT = Patience(connect=0.25, read=0.25, write=0.25, pool=0.1, total=0.5, warm=0.25)


class Rig:
    """A sender whose turns a test takes, with a clock that the test moves."""

    def __init__(self, folder, url, *, connection=None, name="live", clock=None, route="demo"):
        self.clock = clock or Clock()
        self.journal = SqliteJournal(folder / f"{name}.sqlite")
        self.journal.begin(self.clock.now_ns(), {"rule": "r"})
        self.pages, self.of_route = [], []
        webhook = Webhook(route, url)
        self.sink = TradersPostSink(
            webhook,
            self.journal,
            self.clock,
            strategy="ibs",
            contracts=MAP,
            trading=lambda _ns: ("ES", "NQ"),
            page=lambda page: (self.pages if page.order_id else self.of_route).append(page),
            locks=folder / "locks",
            connection=connection or Connection(webhook, IMPATIENT),
            ticks=self.clock.steady_ns,
        )
        self.sink._warmed_ns = 2**62  # no requests but those of orders and probes

    def decide(self, *orders):
        given = [replace(each, decided_ns=self.clock.now_ns()) for each in orders]
        self.journal.append(entry(self.journal.last_seq() + 1, given))
        self.sink.send(given)

    def run(self, seconds):
        until_ns = self.clock.ns + int(seconds * SECOND)
        while True:
            wait_ns = self.sink.turn()
            if self.clock.ns + wait_ns > until_ns:
                self.clock.ns = until_ns
                return
            self.clock.ns += wait_ns

    def state(self, order_id="o"):
        return {each.order.order_id: each.state for each in self.journal.orders()}[order_id]

    def outcomes(self, order_id="o"):
        return [each.outcome for each in self.journal.attempts(order_id)]

    def close(self):
        self.sink.close()
        self.journal.close()


@contextmanager
def rigged(folder, url, **more):
    rig = Rig(folder, url, **more)
    try:
        yield rig
    finally:
        rig.close()


class Answering:
    """A receiver that takes everything at once."""

    def __init__(self):
        self.bodies = []

    def post(self, body, _left_s):
        self.bodies.append(body)
        return Response("ACCEPTED", 200)

    def warm(self):
        return True

    def close(self):
        pass


@contextmanager
def raw_server(speak):
    """A socket that says what it likes to whoever connects."""
    done, threads = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(client):
            with client:
                speak(client, done)

        def accept():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def says_garbage(client, _done):
    client.recv(1 << 16)
    client.sendall(b"not TLS at all\r\n\r\n")


def says_nothing(_client, done):
    done.wait(10)
