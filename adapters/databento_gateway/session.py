"""One session: login, subscriptions, replay, live records, and what a script does to them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np
from databento_dbn import ErrorCode, SystemCode

from adapters.databento_gateway.control import Refused, Request, read_login, read_request
from adapters.databento_gateway.records import (
    BAR_SCHEMA,
    error_message,
    mapping_message,
    metadata,
    next_batch,
    system_message,
)
from adapters.databento_gateway.selection import Selection, ends_source, next_known
from adapters.databento_gateway.tape import day_of
from ibs_core.bars import MINUTE_NS, NEVER

if TYPE_CHECKING:
    from adapters.databento_gateway.connection import Connection
    from adapters.databento_gateway.faults import Fault
    from adapters.databento_gateway.records import Batch, Source
    from adapters.databento_gateway.server import Gateway

__all__ = ["Session"]

_LOGIN_S: Final = 10.0
_ANSWER_S: Final = 10.0
_CLOSED_NS: Final = 30 * MINUTE_NS
_ENDINGS: Final = ("reset", "close", "truncated", "fatal_error")
_TRUNCATED_BYTES: Final = 20


class _Ended(Exception):  # noqa: N818 -- how a session ends, not what goes wrong
    """The script ended the session."""


class Session:
    """A client's session, from greeting to close.

    Parameters
    ----------
    gateway : Gateway
    number : int
        Session id.
    connection : Connection
    """

    def __init__(self, gateway: Gateway, number: int, connection: Connection) -> None:
        self._gateway = gateway
        self._number = number
        self._connection = connection
        self._clock = gateway.clock
        self._heartbeat_s = 30.0
        self._requests: list[Request] = []
        self._n_resolved = 0
        self._selection = Selection()
        self._is_binary = False
        self._has_header = False

    async def serve(self) -> None:
        """Serve the client until either side ends the session."""
        try:
            async with asyncio.timeout(_LOGIN_S):
                await self._authenticate()
            while await self._read_request():
                pass
            if not self._requests:
                await self._answer(Refused("start_session without a subscription"))
            else:
                await self._stream_and_listen()
        except Refused as refusal:
            await self._answer(refusal)
        except asyncio.CancelledError:
            self._connection.abort()
            raise
        except (_Ended, ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client has left, or the script wanted it so
        await self._connection.close()

    async def _authenticate(self) -> None:
        challenge = secrets.token_hex(16)
        self._connection.write(f"lsg_version=0.8.0\ncram={challenge}\n".encode())
        line = await self._read_line()
        login = read_login(line, challenge, self._gateway.key, self._gateway.tape.dataset)
        fault = self._gateway.script.at_login(self._clock.now_ns)
        if fault is not None:
            limit = "User has reached their open connection limit of 10"
            default = "Authentication failed." if fault.kind == "auth_failed" else limit
            raise Refused(fault.text or default)
        self._connection.write(f"success=1|session_id={self._number}\n".encode())
        self._connection.has_ts_out = login.ts_out
        self._heartbeat_s = self._gateway.heartbeat_s or login.heartbeat_s
        self._is_binary = True

    async def _read_line(self) -> str:
        line = await self._connection.read_line()
        self._gateway.lines.append((self._number, line))
        return line

    async def _read_request(self) -> bool:
        request = read_request(await self._read_line())
        if request is not None:
            self._requests.append(request)
        return request is not None

    async def _answer(self, refusal: Refused) -> None:
        with suppress(ConnectionError, TimeoutError):
            if self._is_binary:
                self._write_header()
                self._write_error(refusal.code, refusal.text)
            else:
                text = refusal.text.replace("|", " ")
                self._connection.write(f"success=0|error={text}\n".encode())
            async with asyncio.timeout(_ANSWER_S):
                await self._connection.drain()

    async def _stream_and_listen(self) -> None:
        tasks = [asyncio.create_task(each) for each in (self._stream(), self._listen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _listen(self) -> None:
        while await self._read_request():
            self._clock.stir()
        raise Refused("start_session twice")

    # Subscriptions

    def _resolve_new(self, now_ns: int) -> None:
        """Tell what the symbols of new subscriptions stand for, and acknowledge them."""
        new = self._requests[self._n_resolved :]
        self._n_resolved = len(self._requests)
        for request in new:
            self._resolve(request, now_ns)
        for request in new:
            if request.is_last:
                text = f"Subscription request {request.number} for {request.schema} data succeeded"
                self._write_system(SystemCode.SUBSCRIPTION_ACK, text)

    def _resolve(self, request: Request, now_ns: int) -> None:
        start_ns = NEVER
        if request.start_ns is not None:  # of no effect in mid-session: replays have ended
            start_ns = max(request.start_ns, now_ns - self._gateway.replay_window_ns)
        for symbol in request.symbols:
            found = self._gateway.tape.resolve(symbol, request.stype_in, day_of(now_ns))
            if not found:
                text = f"Failed to resolve symbol {symbol!r} of {request.stype_in}"
                self._write_error(ErrorCode.SYMBOL_RESOLUTION_FAILED, text)
            for each in found:
                mapping = (request.stype_in, symbol, each.raw_symbol, each.instrument_id)
                self._connection.write_record(mapping_message(*mapping, now_ns))
                self._selection.add(request.schema, each.instrument_id, start_ns)

    # Records

    async def _stream(self) -> None:
        self._clock.start()
        position_ns = self._clock.now_ns
        self._write_header()
        self._resolve_new(position_ns)
        for schema in self._selection.schemas:
            await self._replay(schema, position_ns)
        while True:
            self._resolve_new(self._clock.now_ns)
            unbounded = self._clock.is_unbounded
            until_ns = max(position_ns, self._gateway.end_ns if unbounded else self._clock.now_ns)
            sources = self._live_sources()
            batch, position_ns = self._next_batch(sources, position_ns, until_ns)
            await self._deliver(batch, position_ns)
            if position_ns >= self._gateway.end_ns:
                self._gateway.finished.set()
                if self._gateway.closes_at_end:
                    return
            if position_ns >= until_ns:
                await self._idle(next_known(sources, position_ns))

    async def _idle(self, next_ns: int) -> None:
        jumps = self._gateway.skips_closed and self._clock.is_running
        if jumps and self._clock.now_ns + _CLOSED_NS < next_ns < NEVER:
            self._clock.advance_to(next_ns - MINUTE_NS)
        left_s = self._heartbeat_s - self._connection.quiet_s
        if left_s <= 0:
            self._write_system(SystemCode.HEARTBEAT, "Heartbeat")
            await self._connection.drain()
        else:
            await self._clock.stirred(min(next_ns, self._gateway.script.next_ns), left_s)

    async def _replay(self, schema: str, now_ns: int) -> None:
        first_ns = self._selection.first_ns(schema)
        if first_ns == NEVER:
            return
        stream = self._gateway.tape.stream(schema)
        data = self._selection.source(schema, stream, replayed=True)
        sources = [data]
        if schema == BAR_SCHEMA and self._gateway.replays_ends:
            ends = self._gateway.minute_ends
            sources.append(ends_source(ends[ends >= first_ns + MINUTE_NS]))
        position_ns = first_ns - 1
        while position_ns < now_ns:
            batch, position_ns = self._next_batch(sources, position_ns, now_ns)
            await self._connection.send(batch, 0, batch.known_ns.size, live=False)
        self._write_system(SystemCode.REPLAY_COMPLETED, f"Finished {schema} replay")
        fault = self._gateway.script.at_seam()
        if fault is not None:
            stop = int(np.searchsorted(data.known_ns, now_ns, side="right"))
            for record in data.cut(slice(0, stop))[1][-fault.count :]:
                self._connection.write_record(record.tobytes())

    def _live_sources(self) -> list[Source]:
        """At one instant: bars, then the end of their minute, then trades, which open the next one."""
        sources = []
        for schema in self._selection.schemas:
            stream = self._gateway.live_stream(schema)
            sources.append(self._selection.source(schema, stream, replayed=False))
            if schema == BAR_SCHEMA:
                sources.append(ends_source(self._gateway.minute_ends))
        return sources

    def _next_batch(self, sources: list[Source], after_ns: int, until_ns: int) -> tuple[Batch, int]:
        ts_out = self._connection.has_ts_out
        return next_batch(sources, after_ns, until_ns, ts_out=ts_out)

    async def _deliver(self, batch: Batch, reached_ns: int) -> None:
        first = 0
        while (struck := self._gateway.script.due(batch, first, reached_ns)) is not None:
            cut, fault = struck
            await self._send_live(batch, first, cut)
            first = cut
            await self._suffer(fault)
        await self._send_live(batch, first, batch.known_ns.size)

    async def _send_live(self, batch: Batch, first: int, last: int) -> None:
        self._gateway.script.sent(int(batch.is_data[first:last].sum()))
        await self._connection.send(batch, first, last, live=True)

    async def _suffer(self, fault: Fault) -> None:
        since_ns = self._clock.now_ns if fault.at_ns is None else fault.at_ns
        match fault.kind:
            case "reset":
                await self._connection.reset()
            case "truncated":
                self._connection.write(self._last_record()[:_TRUNCATED_BYTES])
            case "fatal_error" | "error":
                self._write_error(*fault.error())
            case "slow_reader":
                text = "Warning: slow reading, records are late"
                self._write_system(SystemCode.SLOW_READER_WARNING, text)
            case "silence":
                await self._clock.passes(since_ns, fault.span_ns)
            case "refuse":
                self._gateway.refuse(since_ns, fault.span_ns)
            case "remap":
                self._remap()
        if fault.kind in _ENDINGS:
            self._clock.advance_to(since_ns + fault.span_ns)
            raise _Ended

    def _remap(self) -> None:
        for request in self._requests[: self._n_resolved]:
            if request.stype_in == "continuous":
                self._resolve(request, self._clock.now_ns)

    def _last_record(self) -> bytes:
        """Return the newest of the records that were subscribed to, or a heartbeat."""
        now_ns = self._clock.now_ns
        for schema in self._selection.schemas:
            source = self._selection.source(
                schema, self._gateway.tape.stream(schema), replayed=False
            )
            stop = int(np.searchsorted(source.known_ns, now_ns, side="right"))
            words = source.cut(slice(0, stop))[1]
            if len(words):
                return bytes(words[-1])
        return system_message(SystemCode.HEARTBEAT, "Heartbeat", now_ns)

    def _write_header(self) -> None:
        if not self._has_header:
            self._has_header = True
            dataset, ts_out = self._gateway.tape.dataset, self._connection.has_ts_out
            self._connection.write(metadata(dataset, self._clock.now_ns, ts_out=ts_out))

    def _write_system(self, code: int, text: str) -> None:
        self._connection.write_record(system_message(code, text, self._clock.now_ns))

    def _write_error(self, code: int, text: str) -> None:
        self._connection.write_record(error_message(code, text, self._clock.now_ns))
