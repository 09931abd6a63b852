"""The stand-in: a port, a thread a connection, and a script of what goes wrong."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

from adapters.demo_broker.faults import Fault, Script
from adapters.demo_broker.market_clock import MarketClock
from adapters.demo_broker.planning import Subscription
from adapters.demo_broker.port import HOST, Port
from adapters.demo_broker.rules import payload_of
from adapters.demo_broker.webhook import PREFIX, Webhook
from adapters.demo_broker.wire import Answer, BadRequestError, Connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from adapters.demo_broker.book import Fill, Trade, WorkingOrder
    from adapters.demo_broker.webhook import Received
    from adapters.demo_broker.wire import Request

__all__ = ["DemoBroker", "ManualClock"]


class ManualClock:
    """A clock that stands still between calls of `advance`.

    Parameters
    ----------
    now_s : float, UTC s
    """

    def __init__(self, now_s: float = 1_763_649_000.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Return UTC s."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Parameters
        ----------
        seconds : float, s, >= 0
        """
        assert seconds >= 0, seconds
        self._now_s += seconds


class DemoBroker:
    """TradersPost's webhook on a port of this machine.

    ``with DemoBroker(faults=[…]) as broker: httpx.post(broker.url, json=…)``. All may be called from any
    thread. What is due by the clock happens when somebody looks.

    Parameters
    ----------
    faults : Iterable of Fault
    port : int
        0 for any that is free.
    uuid, password : str
        Of the webhook URL.
    accounts : Sequence of str
        Each executes every signal; the first is the one that `positions` tells.
    subscription : Subscription, optional
        Default: a new strategy's.
    clock : callable
        UTC s; of fills and limits, not of the faults, whose spans are wall time.
    price_of : callable, optional
        Ticker → quote; else what `mark` or the signal says.
    tell : callable, optional
        Takes a line for each signal and each outcome, without secrets.

    Raises
    ------
    OSError
        On entering: the port is taken or forbidden.
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        port: int = 0,
        uuid: str = "00000000-0000-4000-8000-000000000000",
        password: str = "local-only",  # noqa: S107 -- made up, of this machine only
        accounts: Sequence[str] = ("demo",),
        subscription: Subscription | None = None,
        clock: Callable[[], float] = time.time,
        price_of: Callable[[str], float | None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        assert accounts
        self._path: Final = f"{PREFIX}{uuid}/{password}"
        self._first: Final = accounts[0]
        self._clock: Final = clock
        self._tell: Final = tell or (lambda _line: None)
        self._webhook: Final = Webhook(
            uuid,
            password,
            tuple(accounts),
            subscription or Subscription(),
            price_of,
            self._tell,
        )
        self._script: Final = Script(faults)
        self._fired: Final[list[Fault]] = []
        self._n_signals = 0
        self._wanted_port: Final = port
        self._changed: Final = threading.Condition(threading.RLock())
        # Never taken inside the other: who changes the port waits for the thread that accepts.
        self._port_lock: Final = threading.Lock()
        self._stopping: Final = threading.Event()
        self._connections: Final[dict[Connection, threading.Thread]] = {}
        self._timers: Final[list[threading.Timer]] = []

    def __enter__(self) -> Self:
        self._port = Port(self._wanted_port, self._accept)
        with self._changed:
            fault = self._script.of_port(0)
        if fault is None:
            self._port.listen()
        else:
            self._close_port(fault)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._port_lock:
            self._stopping.set()
        for timer in self._timers:
            timer.cancel()
            timer.join()
        self._port.release()
        with self._changed:
            left = list(self._connections.items())
        for connection, thread in left:
            connection.end()
            thread.join()

    @property
    def root(self) -> str:
        """The address without a path, which is no secret."""
        return f"http://{HOST}:{self._port.number}"

    @property
    def url(self) -> str:
        """The webhook URL, password and all."""
        return f"{self.root}{self._path}"

    @property
    def requests(self) -> tuple[Received, ...]:
        """Requests to the webhook that were read whole, right or wrong, in order."""
        with self._changed:
            return tuple(self._webhook.requests)

    @property
    def others(self) -> tuple[Received, ...]:
        """Requests elsewhere: connections that are warmed, probes."""
        with self._changed:
            return tuple(self._webhook.others)

    @property
    def fired(self) -> tuple[Fault, ...]:
        """Faults that have happened, in order."""
        with self._changed:
            return tuple(self._fired)

    @property
    def executed(self) -> tuple[Fill, ...]:
        """Fills by now, in order."""
        with self._changed:
            self.settle()
            return tuple(self._webhook.book.fills)

    @property
    def trades(self) -> tuple[Trade, ...]:
        """What became of each accepted signal, by now, in order."""
        with self._changed:
            self.settle()
            return tuple(self._webhook.book.trades)

    @property
    def working(self) -> tuple[WorkingOrder, ...]:
        """Orders that wait for a price."""
        with self._changed:
            self.settle()
            return tuple(self._webhook.book.working)

    def orders(self) -> dict[str, list[dict[str, Any]]]:
        """Return trades, fills and working orders by now, as JSON values."""
        with self._changed:
            self.settle()
            return self._webhook.orders()

    def positions(self, account: str = "") -> dict[str, int]:
        """Return what is held by now.

        Parameters
        ----------
        account : str
            Empty for the first.

        Returns
        -------
        dict of str to int
            Ticker → signed contracts, without what is flat.
        """
        with self._changed:
            self.settle()
            return self._webhook.book.positions()[account or self._first]

    def settle(self) -> None:
        """Do all that is due by now."""
        with self._changed:
            self._webhook.settle(self._clock())

    def mark(self, ticker: str, price: float) -> None:
        """Let the market trade at a price.

        Parameters
        ----------
        ticker : str
        price : float
        """
        with self._changed:
            self._webhook.book.mark(ticker, price, self._clock())

    def set_market(self, *, is_open: bool) -> None:
        """Open or close the market; while it is closed, signals wait.

        Parameters
        ----------
        is_open : bool
        """
        with self._changed:
            self._webhook.book.set_market(self._clock(), is_open=is_open)

    def inject(self, fault: Fault) -> None:
        """Add a fault to the script; one of the port begins before the signal after the next.

        Parameters
        ----------
        fault : Fault
        """
        with self._changed:
            self._script.add(fault)

    def refuse(self) -> None:
        """Accept no connection until `listen` is called, and end those that wait."""
        self._close_port(Fault(kind="refuse"))

    def listen(self) -> None:
        """Accept connections again."""
        with self._port_lock:
            if not self._stopping.is_set():
                self._port.listen()

    def wait_fired(self, count: int, timeout_s: float = 10.0) -> bool:
        """Wait until so many faults have happened.

        Parameters
        ----------
        count : int
        timeout_s : float, s

        Returns
        -------
        bool
            Whether they have.
        """
        with self._changed:
            return self._changed.wait_for(lambda: len(self._fired) >= count, timeout_s)

    def _close_port(self, fault: Fault) -> None:
        with self._port_lock:
            if self._stopping.is_set():
                return
            self._port.refuse() if fault.kind == "refuse" else self._port.ignore()
            if fault.seconds:
                timer = threading.Timer(fault.seconds, self.listen)
                self._timers.append(timer)
                timer.start()
        with self._changed:
            idle = [each for each in self._connections if each.is_idle]
        for connection in idle:
            connection.end()
        self._happened(fault)

    def _happened(self, fault: Fault) -> None:
        with self._changed:
            self._fired.append(fault)
            self._changed.notify_all()

    def _accept(self, client: socket.socket) -> None:
        connection = Connection(client)
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="demo-broker-client", daemon=True
        )
        with self._changed:
            self._connections[connection] = thread
        thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            while not self._stopping.is_set() and self._exchange(connection):
                connection.is_idle = True
        finally:
            connection.close()
            with self._changed:
                del self._connections[connection]

    def _exchange(self, connection: Connection) -> bool:
        """Take one request; tell whether the connection goes on."""
        begins = connection.begins_with(b"POST ")
        if begins is None:
            return False
        connection.is_idle = False
        with self._changed:
            fault = self._script.unread(self._n_signals) if begins else None
            self._n_signals += fault is not None
        if fault is not None:
            connection.lies_whole()
            self._happened(fault)
            connection.reset() if fault.kind == "reset_unread" else connection.close()
            return False
        try:
            request = connection.read()
        except BadRequestError as error:
            connection.send(Answer(error.args[0], b"").head(closes=True))
            return False
        if request is None:
            return False
        if request.target.startswith(PREFIX):
            return self._signal(connection, request)
        with self._changed:
            answer = self._webhook.page(request, self._clock())
        return connection.send(answer.head() + answer.body) and not request.closes

    def _signal(self, connection: Connection, request: Request) -> bool:
        payload = payload_of(request.body)
        with self._changed:
            number, self._n_signals = self._n_signals, self._n_signals + 1
            fault = self._script.read(number, payload if isinstance(payload, dict) else {})
            closing = self._script.of_port(number + 1)
            if isinstance(self._clock, MarketClock) and self._clock.hear(request.body):
                self._tell("a signal older than the clock: start another stand-in")
            answer = self._webhook.judge(request, fault, self._clock())
        if closing is not None:
            self._close_port(closing)  # before the answer, so that the client cannot be faster
        closes = request.closes or closing is not None
        if fault is None:
            return connection.send(answer.head(closes=closes) + answer.body) and not closes
        return self._strike(connection, answer, fault, closes=closes) and not closes

    def _strike(
        self, connection: Connection, answer: Answer, fault: Fault, *, closes: bool
    ) -> bool:
        """Let a fault happen to the answer; tell whether the connection goes on."""
        head, half = answer.head(closes=closes), len(answer.body) // 2
        if fault.kind != "close_idle":
            self._happened(fault)  # first, so that whoever sees its effect finds it told
        if fault.kind in ("no_answer", "close"):
            pass
        elif fault.kind == "reset":
            connection.reset()
        elif fault.kind == "garbage":
            connection.send(b"\x15\x03\x01 no HTTP\r\n\r\n")
        elif fault.kind in ("stall_body", "cut_body"):
            connection.send(head + answer.body[:half])
        elif fault.kind == "slow_body":
            pieces = [head, *(bytes([each]) for each in answer.body)]
            return all(connection.send(each) and not self._passes(fault) for each in pieces)
        elif fault.kind != "delay" or not self._passes(fault):
            there = connection.send(head + answer.body)
            if fault.kind != "close_idle":
                return there
            connection.close()
            self._happened(fault)
        if fault.kind in ("no_answer", "stall_body"):
            connection.wait_for_end()
        return False

    def _passes(self, fault: Fault) -> bool:
        """Let the time of a fault pass; tell whether the broker stops meanwhile."""
        return self._stopping.wait(fault.seconds)
