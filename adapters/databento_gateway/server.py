"""The loopback server: a listener, market time, and the sessions of one tape."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from adapters.databento_gateway.clock import MarketClock
from adapters.databento_gateway.connection import Connection
from adapters.databento_gateway.faults import Fault, Script, edited
from adapters.databento_gateway.session import Session
from ibs_core.bars import DAY_NS, Ints

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from adapters.databento_gateway.records import Stream
    from adapters.databento_gateway.tape import Tape

__all__ = ["Gateway"]

_HOST: Final = "127.0.0.1"
_LINE_BYTES: Final = 1 << 20


class Gateway:
    """Databento's live protocol on a port of this machine, in a thread of its own.

    ``with Gateway(tape, key=key) as gateway: Live(key, gateway="127.0.0.1", port=gateway.port)``.
    Market time stands still until the first session starts, then it is the gateway's: it runs on
    while no client is connected. A subscription without ``start`` gets what becomes known from now on.

    Parameters
    ----------
    tape : Tape
    key : str
        The only key that is accepted.
    pace : float or None
        1: real time; 60: a market hour a minute; infinite: as fast as the client reads; None: stepped,
        only `advance_to` moves market time.
    now_ns : int, UTC ns, optional
        Where market time begins; all before is there to be replayed. Default: the tape's first minute.
    faults : Iterable of Fault
    closes_at_end : bool
        Close cleanly when all has been sent; else the session goes on with heartbeats.
    skips_closed : bool
        No END_OF_INTERVAL while the market is closed, and a running clock jumps over half an hour or
        more without one. The vendor sends them always, hence the default.
    replays_ends : bool
        Send END_OF_INTERVAL in a replay too. Whether the vendor does is not known; a client must bear both.
    replay_window_ns : int, ns
        How far back a replay reaches; an earlier ``start`` is moved here without a word.
    heartbeat_s : float, s, optional
        Instead of the interval for which clients ask, which is 5 s at least.

    Notes
    -----
    ``port`` is 0 until the context is entered. ``finished`` (a `threading.Event`) is set when a session has
    sent all of the tape; ``lines`` holds session number and text of all that clients sent, ``n_sessions``
    counts connections, ``fired`` tells what the script did.
    """

    def __init__(
        self,
        tape: Tape,
        *,
        key: str,
        pace: float | None = math.inf,
        now_ns: int | None = None,
        faults: Iterable[Fault] = (),
        closes_at_end: bool = False,
        skips_closed: bool = False,
        replays_ends: bool = True,
        replay_window_ns: int = DAY_NS,
        heartbeat_s: float | None = None,
    ) -> None:
        assert pace is None or pace > 0, pace
        self.tape: Final = tape
        self.key: Final = key
        self.closes_at_end: Final = closes_at_end
        self.skips_closed: Final = skips_closed
        self.replays_ends: Final = replays_ends
        self.replay_window_ns: Final = replay_window_ns
        self.heartbeat_s: Final = heartbeat_s
        self.script: Final = Script(faults)
        self.clock: Final = MarketClock(tape.first_ns if now_ns is None else now_ns, pace)
        self.minute_ends: Final[Ints] = tape.minute_ends(skip_closed=skips_closed)
        self.finished: Final = threading.Event()
        self.lines: Final[list[tuple[int, str]]] = []
        self.port = 0
        self.n_sessions = 0
        self.end_ns: Final = max(
            tape.last_ns, *(each.span_ns + 1 + (each.at_ns or 0) for each in self.script.edits), 0
        )
        self._live: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._n_refusals = 0
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="databento-gateway", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    @property
    def now_ns(self) -> int:
        """Market time, UTC ns."""
        return self.clock.now_ns

    @property
    def fired(self) -> tuple[Fault, ...]:
        """Faults of connections that have happened, in order."""
        return tuple(self.script.fired)

    def advance_to(self, ts_ns: int) -> None:
        """Move market time forward from any thread, never back; what became known is sent.

        Parameters
        ----------
        ts_ns : int, UTC ns
        """
        self._loop.call_soon_threadsafe(self.clock.advance_to, ts_ns)

    def live_stream(self, schema: str) -> Stream:
        """Return what goes out live: the tape with the script's edits.

        Parameters
        ----------
        schema : str

        Returns
        -------
        Stream
        """
        if schema not in self._live:
            stream = self.tape.stream(schema)
            self._live[schema] = edited(stream, self.script.edits, self.tape)
        return self._live[schema]

    def refuse(self, since_ns: int, span_ns: int) -> None:
        """Accept no connection for a span; to be called on the gateway's own loop.

        Parameters
        ----------
        since_ns : int, UTC ns
        span_ns : int, ns
            Of market time; of wall time where the pace is unbounded.
        """
        self._n_refusals += 1
        self._server.close()
        self._track(self._loop.create_task(self._reopen(since_ns, span_ns)))

    async def _reopen(self, since_ns: int, span_ns: int) -> None:
        await self.clock.passes(since_ns, span_ns)
        self._n_refusals -= 1
        if self._n_refusals == 0:
            await self._open()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 -- it is raised in the thread that leaves the context
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        # Bound but never listening: it keeps the port ours while connections are refused.
        with _bound(0) as guard:
            self.port = guard.getsockname()[1]
            await self._open()
            self._ready.set()
            await self._stopping.wait()
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)  # transports close their sockets in the loop's next round

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, sock=_bound(self.port), limit=_LINE_BYTES
        )

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_sessions += 1
        session = Session(self, self.n_sessions, Connection(reader, writer, self.clock))
        self._track(self._loop.create_task(session.serve()))

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()  # a mistake of ours: nothing is served from now on
            self._stopping.set()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((_HOST, port))
    return bound
