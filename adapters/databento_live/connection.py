"""One connection from the handshake to its end, however it ends.

The vendor's protocol class does the handshake and sends the subscriptions; its bytes come here undecoded.
None of the client's own reconnecting is used: it forgets what it missed, gives up after one refusal and
reconnects thousands of times a second after a fatal message.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from databento.common.error import BentoError
from databento.live.protocol import DatabentoLiveProtocol
from databento_dbn import ErrorCode, ErrorMsg

from adapters.databento_live.wire import Splitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.databento_live.wire import Run

__all__ = ["Address", "Connection", "Ending", "Subscription"]

Address = tuple[str, int]
_How = Literal["stopped", "roll", "lost", "limit", "fatal", "aged_out"]
_READ_BYTES: Final = 1 << 18
_CONNECT_S: Final = 10.0
_HANDSHAKE_S: Final = 30.0
_LOOK_S: Final = 0.25

_ENDINGS: Final[dict[int, _How]] = {
    int(ErrorCode.AUTH_FAILED): "fatal",
    int(ErrorCode.API_KEY_DEACTIVATED): "fatal",
    int(ErrorCode.INVALID_SUBSCRIPTION): "fatal",
    int(ErrorCode.CONNECTION_LIMIT_EXCEEDED): "limit",
    int(ErrorCode.REPLAY_DATA_AGED_OUT): "aged_out",
    int(ErrorCode.INTERNAL_ERROR): "lost",
    int(ErrorCode.SKIPPED_RECORDS_AFTER_SLOW_READING): "lost",  # a replay brings them
}
_REFUSALS: Final = ("auth", "key", "licen", "permission", "entitle", "invalid", "deactivated")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended.

    Parameters
    ----------
    how : str
        ``stopped``: we were asked to. ``roll``: other contracts are wanted. ``lost``: try again.
        ``limit``: too many connections, try again later. ``aged_out``: the replay reaches back too far.
        ``fatal``: no use to try again.
    text : str
    connected : bool
        The stream had begun.
    """

    how: _How
    text: str
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is asked for.

    Parameters
    ----------
    schema : str
    symbols : tuple of str
        The exchange's own names.
    start_ns : int, UTC ns
        Replay from here; of ``trades`` by ``ts_event``, of bars by the open.
    """

    schema: str
    symbols: tuple[str, ...]
    start_ns: int


@dataclass(slots=True)
class Connection:
    """One connection; good for one `run`.

    Parameters
    ----------
    key : str
        Never told to anyone but the gateway, and to it only as a digest.
    dataset : str
    address : tuple of (str, int)
    heartbeat_s : int
    silence_s : float
        Without a byte for so long the connection is dead.
    opened : callable
        Takes the stream's header.
    received : callable
        Takes runs of records, and their bytes.
    is_unknown : callable
        Takes the text that tells of an unresolved symbol; tells whether to connect with another.
    is_full : callable
        Tells whether reading should pause.
    is_due : callable
        Tells whether other contracts are wanted.
    """

    key: str = field(repr=False)
    dataset: str
    address: Address
    heartbeat_s: int
    silence_s: float
    opened: Callable[[bytes], None]
    received: Callable[[list[Run], bytes], None]
    is_unknown: Callable[[str], bool]
    is_full: Callable[[], bool]
    is_due: Callable[[], bool]

    async def run(self, subscriptions: list[Subscription], stop: asyncio.Event) -> Ending:
        """Connect, subscribe and stream until something ends it.

        Parameters
        ----------
        subscriptions : list of Subscription
        stop : asyncio.Event

        Returns
        -------
        Ending
        """
        loop = asyncio.get_running_loop()
        protocol = _Protocol(self)
        stopping = asyncio.create_task(stop.wait())
        try:
            connecting = loop.create_connection(lambda: protocol, *self.address)
            await asyncio.wait_for(connecting, _CONNECT_S)
            awaited: set[asyncio.Future[Any]] = {protocol.authenticated, protocol.disconnected}
            await asyncio.wait(
                {*awaited, stopping},
                timeout=_HANDSHAKE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stopping.done():
                return Ending("stopped", "")
            if not protocol.authenticated.done():
                return Ending("lost", "the gateway did not finish the handshake")
            protocol.authenticated.result()
            for each in subscriptions:
                protocol.subscribe(each.schema, each.symbols, start=each.start_ns)
            protocol.start()
            return await self._watch(protocol, stopping)
        except TimeoutError:
            return Ending("lost", f"no connection within {_CONNECT_S:g} s")
        except BentoError as error:
            return _refused(str(error))
        except OSError as error:
            return Ending("lost", error.strerror or str(error))
        finally:
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await stopping
            await protocol.leave()

    async def _watch(self, protocol: _Protocol, stopping: asyncio.Task[Literal[True]]) -> Ending:
        look_s = min(_LOOK_S, self.silence_s / 4)
        awaited: set[asyncio.Future[Any]] = {protocol.disconnected, stopping}
        while True:
            await asyncio.wait(
                awaited,
                timeout=look_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stopping.done():
                return Ending("stopped", "", protocol.has_begun)
            if protocol.ending is not None:
                return protocol.ending
            if protocol.disconnected.done():
                error = protocol.disconnected.exception()
                how = f"the connection broke: {error}" if error else "the gateway closed the stream"
                return Ending("lost", how, protocol.has_begun)
            if protocol.silent_s() > self.silence_s:
                text = f"no byte, not even a heartbeat, for {self.silence_s:g} s"
                return Ending("lost", text, protocol.has_begun)
            if self.is_due():
                return Ending("roll", "another contract is in force", protocol.has_begun)
            protocol.go_on_unless(self.is_full())


class _Protocol(DatabentoLiveProtocol):
    """The vendor's protocol, of which the stream's bytes are taken before they become objects."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(
            connection.key, connection.dataset, heartbeat_interval_s=connection.heartbeat_s
        )
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._splitter = Splitter()
        self._view = bytearray()
        self._heard_s = self._loop.time()
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self.ending: Ending | None = None

    @property
    def has_begun(self) -> bool:
        return bool(self._splitter.header)

    def silent_s(self) -> float:
        return 0.0 if self._paused else self._loop.time() - self._heard_s

    def go_on_unless(self, full: bool) -> None:  # noqa: FBT001  it is the condition
        if self._transport is None or self._transport.is_closing() or full == self._paused:
            return
        self._paused = full
        self._heard_s = self._loop.time()
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def leave(self) -> None:
        """Close, and look at every result: one that nobody looked at ends up in a log."""
        if self._transport is not None:
            self._transport.abort()
            with suppress(Exception):
                await self.disconnected
        for future in (self.authenticated, self.metadata_received, self.disconnected):
            if not future.done():
                future.cancel()
            elif not future.cancelled():
                future.exception()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport = self.transport

    def get_buffer(self, sizehint: int) -> bytearray:
        self._view = super().get_buffer(max(sizehint, _READ_BYTES))
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._heard_s = self._loop.time()
        if not self.authenticated.done():
            super().buffer_updated(nbytes)
        elif self.ending is None:
            try:
                self._take(bytes(memoryview(self._view)[:nbytes]))
            except BaseException as error:  # noqa: BLE001  the decoder's panics are no Exception
                self._end("lost", f"the stream cannot be read: {error}")

    def _take(self, data: bytes) -> None:
        had_begun = self.has_begun
        runs, whole = self._splitter.take(data)
        if self.has_begun and not had_begun:
            self._connection.opened(self._splitter.header)
        n_told = len(runs)
        for i, run in enumerate(runs):
            if isinstance(run.records, ErrorMsg):
                self._heed(int(run.records.code), run.records.err)
            if self.ending is not None:  # what follows may have a hole before it; it is replayed
                n_told = i + 1
                break
        if runs:
            self._connection.received(runs[:n_told], whole)
        if self._connection.is_full():
            self.go_on_unless(full=True)

    def _heed(self, code: int, text: str) -> None:
        if code in _ENDINGS:
            self._end(_ENDINGS[code], text)
        elif code == int(ErrorCode.SYMBOL_RESOLUTION_FAILED) and self._connection.is_unknown(text):
            self._end("roll", f"{text}; trying two digits of the year")

    def _end(self, how: _How, text: str) -> None:
        self.ending = self.ending or Ending(how, text, self.has_begun)
        if self._transport is not None:
            self._transport.abort()


def _refused(text: str) -> Ending:
    words = text.lower()
    if "limit" in words:
        return Ending("limit", text)
    return Ending("fatal" if any(word in words for word in _REFUSALS) else "lost", text)
