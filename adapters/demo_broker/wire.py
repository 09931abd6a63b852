"""Bytes of one connection: requests in, answers out, and the ways in which it can end."""

from __future__ import annotations

import json
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

__all__ = ["Answer", "BadRequestError", "Connection", "Request", "json_answer"]

_HEAD_BYTES: Final = 1 << 16
_BODY_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 16


class BadRequestError(Exception):
    """What came is no request that can be answered as usual; its argument is the status."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was read whole.

    Parameters
    ----------
    method, target : str
    headers : tuple of tuple of str
        Names in lower case.
    body : bytes
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the client wants no further request on this connection."""
        return ("connection", "close") in [(name, value.lower()) for name, value in self.headers]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response.

    Parameters
    ----------
    status : int
    body : bytes
    headers : tuple of tuple of str
        Besides the length.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)

    def head(self, *, closes: bool = False) -> bytes:
        """Return all that comes before the body.

        Parameters
        ----------
        closes : bool
            Tell that no further request is taken on this connection.

        Returns
        -------
        bytes
        """
        phrase = HTTPStatus(self.status).phrase
        headers = [*self.headers, ("Content-Length", str(len(self.body)))]
        headers += [("Connection", "close")] if closes else []
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{a}: {b}" for a, b in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


def json_answer(status: int, document: Any) -> Answer:
    """Make an answer of a document.

    Parameters
    ----------
    status : int
    document : Any

    Returns
    -------
    Answer
    """
    return Answer(status, json.dumps(document).encode("utf-8"))


class Connection:
    """A client's socket, read by one thread; another may only `end` it.

    Parameters
    ----------
    own : socket.socket
    """

    def __init__(self, own: socket.socket) -> None:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = own
        self._pending = b""
        self.is_idle = True

    def begins_with(self, start: bytes) -> bool | None:
        """Wait for the next request and leave it unread.

        Parameters
        ----------
        start : bytes

        Returns
        -------
        bool or None
            Whether it begins so; None when the client is gone.
        """
        if self._pending:
            return self._pending.startswith(start)
        try:
            seen = self._socket.recv(len(start), socket.MSG_PEEK)
        except OSError:
            return None
        return seen == start if seen else None

    def lies_whole(self) -> None:
        """Wait until the next request lies unread in the kernel.

        So the client has written all of it and reads, and its error does not depend on who was faster.
        """
        with suppress(OSError):
            head, end, _ = self._socket.recv(_HEAD_BYTES, socket.MSG_PEEK).partition(b"\r\n\r\n")
            stated = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if end and stated and int(stated[1]) <= _BODY_BYTES:
                size = len(head) + len(end) + int(stated[1])
                self._socket.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)

    def read(self) -> Request | None:
        """Read the next request.

        Returns
        -------
        Request or None
            None when the client is gone.

        Raises
        ------
        BadRequestError
            It is no HTTP/1.1, too long, or of no stated length.
        """
        while b"\r\n\r\n" not in self._pending:
            if len(self._pending) > _HEAD_BYTES:
                raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if not self._more():
                return None
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        headers = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
        words, length = first.split(" "), dict(headers).get("content-length", "0")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or not length.isdecimal():
            raise BadRequestError(HTTPStatus.BAD_REQUEST)
        if "transfer-encoding" in dict(headers):
            raise BadRequestError(HTTPStatus.LENGTH_REQUIRED)
        if int(length) > _BODY_BYTES:
            raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        while len(self._pending) < int(length):
            if not self._more():
                return None
        body, self._pending = self._pending[: int(length)], self._pending[int(length) :]
        return Request(words[0], words[1], headers, body)

    def send(self, content: bytes) -> bool:
        """Send bytes.

        Parameters
        ----------
        content : bytes

        Returns
        -------
        bool
            Whether the client was there.
        """
        try:
            self._socket.sendall(content)
        except OSError:
            return False
        return True

    def wait_for_end(self) -> None:
        """Say nothing until the client goes, or `end` is called."""
        with suppress(OSError):
            while self._socket.recv(_PIECE_BYTES):
                pass

    def close(self) -> None:
        """End it with FIN; with RST where bytes lie unread, as TCP has it."""
        self._socket.close()

    def reset(self) -> None:
        """End it with RST."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def end(self) -> None:
        """End it with FIN from any thread and wake the one that reads."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _more(self) -> bool:
        try:
            piece = self._socket.recv(_PIECE_BYTES)
        except OSError:
            return False
        self._pending += piece
        return bool(piece)
