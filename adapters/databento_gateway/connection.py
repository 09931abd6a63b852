"""Bytes of one connection: lines in, records out, and the ways in which it can end."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from adapters.databento_gateway.control import Refused
from adapters.databento_gateway.records import stamped

if TYPE_CHECKING:
    from adapters.databento_gateway.clock import MarketClock
    from adapters.databento_gateway.records import Batch

__all__ = ["Connection"]

_FLUSH_S: Final = 10.0
_LOOK_S: Final = 0.001
_PIECE_BYTES: Final = 1 << 18


class Connection:
    """A client's socket.

    Parameters
    ----------
    reader : asyncio.StreamReader
    writer : asyncio.StreamWriter
    clock : MarketClock
        Moved along with what is sent where sessions drive it.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: MarketClock
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._sent_s = 0.0
        self.has_ts_out = False  # whether messages are followed by market time
        # Drained then means handed to the kernel, so that market time is not far ahead of the client.
        writer.transport.set_write_buffer_limits(high=0)

    @property
    def quiet_s(self) -> float:
        """Seconds since anything was sent."""
        return time.monotonic() - self._sent_s

    async def read_line(self) -> str:
        """Return the client's next line, without its end.

        Raises
        ------
        Refused
            The line is too long, or not ASCII.
        asyncio.IncompleteReadError
            The client has closed the connection.
        """
        try:
            return (await self._reader.readuntil(b"\n")).decode("ascii").rstrip("\n")
        except (asyncio.LimitOverrunError, UnicodeDecodeError):
            raise Refused("line too long or not ASCII") from None

    def write(self, content: bytes) -> None:
        """Send bytes as they are.

        Parameters
        ----------
        content : bytes
        """
        self._writer.write(content)
        self._sent_s = time.monotonic()

    def write_record(self, record: bytes) -> None:
        """Send one record.

        Parameters
        ----------
        record : bytes
            Without ``ts_out``.
        """
        if self.has_ts_out:
            now_ns = np.array([self._clock.now_ns], np.int64)
            record = stamped(np.frombuffer(record, np.uint64)[None], now_ns).tobytes()
        self.write(record)

    async def send(self, batch: Batch, first: int, last: int, *, live: bool) -> None:
        """Send records of a batch, as fast as the client reads.

        Parameters
        ----------
        batch : Batch
        first, last : int
            Records ``[first, last)``.
        live : bool
            Moves market time along where sessions drive it: before the records leave, so that no
            later session begins in the middle of what a client has.
        """
        while first < last:
            limit = batch.stops[first] + _PIECE_BYTES
            cut = int(np.searchsorted(batch.stops, limit, side="right")) - 1
            cut = min(max(cut, first + 1), last)
            if live and self._clock.is_unbounded:
                self._clock.advance_to(int(batch.known_ns[cut - 1]))
            self._writer.write(batch.content[batch.stops[first] : batch.stops[cut]])
            await self.drain()
            first = cut

    async def drain(self) -> None:
        """Wait until the kernel has everything."""
        await self._writer.drain()
        self._sent_s = time.monotonic()

    async def reset(self) -> None:
        """End it with RST, once the client's kernel has all that was sent: a reset destroys the rest."""
        own: socket.socket = self._writer.get_extra_info("socket")
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self.drain()
                while any(fcntl.ioctl(own, termios.TIOCOUTQ, bytes(4))):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)  # the kernel sets no event
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    async def close(self) -> None:
        """End it with FIN, after all that was written; what the client still says is not heard.

        A socket that is closed with bytes unread sends RST, which would destroy the last words.
        """
        try:
            async with asyncio.timeout(_FLUSH_S):
                self._writer.write_eof()
                while await self._reader.read(_PIECE_BYTES):
                    pass
        except (OSError, TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """End it at once."""
        self._writer.transport.abort()
