"""One connection to a webhook: what is sent, and what is known of it afterwards."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from adapters.traderspost.lookup import LookupTooLongError, Transport
from ibs_core import __version__
from ibs_core.outcomes import Response, classify
from ibs_core.secret import silence_clients

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adapters.traderspost.webhook import Webhook

__all__ = ["Connection", "Patience"]

_SAFE: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_BODY_MAX: Final = 1 << 20
_LOOK_S: Final = 0.25
"""How exactly the deadline is kept."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection waits, in seconds.

    Parameters
    ----------
    connect, read, write, pool : float, seconds
        Of one step; ``read`` is for each piece of an answer.
    total : float, seconds
        Of one message, then it is cut off and its outcome is unknown.
    warm : float, seconds
        Of a request without an order.
    """

    connect: float = 2.0
    read: float = 5.0
    write: float = 2.0
    pool: float = 0.5
    total: float = 8.0
    warm: float = 2.0


class _TooLateError(Exception):
    """Nothing had left when its time was over."""


class Connection:
    """Sends to one webhook, one message at a time.

    Parameters
    ----------
    webhook : Webhook
    patience : Patience, optional
    """

    def __init__(self, webhook: Webhook, patience: Patience | None = None) -> None:
        silence_clients()
        self._webhook, self._patience = webhook, patience or Patience()
        waits = self._patience
        self._client = httpx.Client(
            timeout=httpx.Timeout(
                connect=waits.connect, read=waits.read, write=waits.write, pool=waits.pool
            ),
            transport=Transport(),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": f"ibs/{__version__}", "Accept-Encoding": "identity"},
        )
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None
        self._message = self._cut = 0
        self._until = math.inf
        self._watch: threading.Thread | None = None
        self._closed = threading.Event()
        self.last_byte_ns = 0
        """When the last message had left, on the monotonic clock."""

    def __repr__(self) -> str:
        return f"Connection({self._webhook.route!r})"

    def post(self, body: str, leave_within_s: float | None = None) -> Response:
        """Send one message; whatever happens, tell what is known of it.

        Parameters
        ----------
        body : str
            JSON, ASCII.
        leave_within_s : float, seconds, optional
            The first byte leaves by then, or none.

        Returns
        -------
        Response
        """
        leave_by = None if leave_within_s is None else time.monotonic() + leave_within_s
        status, content, fault, headers = None, bytearray(), "", httpx.Headers()
        with self._deadline(self._patience.total) as message:
            try:
                with self._client.stream(
                    "POST",
                    self._webhook.url(),
                    content=body.encode("ascii"),
                    headers={"Content-Type": "application/json"},
                    extensions={"trace": self._tracer(leave_by)},
                ) as answer:
                    status, headers = answer.status_code, answer.headers
                    for piece in answer.iter_raw():
                        content += piece
                        if len(content) > _BODY_MAX:
                            fault = "TooLong"
                            break
            except (LookupTooLongError, _TooLateError) as error:
                return Response("NOT_SENT", detail=str(error))
            except Exception as error:  # noqa: BLE001  (an order's outcome is known or unknown, never a crash)
                fault = "Deadline" if self._cut == message else type(error).__name__
        return self._read(status, bytes(content), fault, headers)

    def warm(self) -> bool:
        """Open the connection, or keep it open, without an order.

        Returns
        -------
        bool
            The host answered, whatever it said.
        """
        with self._deadline(self._patience.warm):
            try:
                with self._client.stream(
                    "GET", self._webhook.root, extensions={"trace": self._tracer(None)}
                ) as answer:
                    read = 0
                    for piece in answer.iter_raw():
                        read += len(piece)
                        if read > _BODY_MAX:
                            break
            except Exception:  # noqa: BLE001  (as above; nothing was at stake)
                return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        if self._watch is not None:
            self._watch.join()
        self._client.close()

    def _read(
        self, status: int | None, content: bytes, fault: str, headers: Mapping[str, str]
    ) -> Response:
        try:
            said = json.loads(content) if content and not fault else None
        except (ValueError, RecursionError):
            said = None
        facts: dict[str, Any] = said if isinstance(said, dict) else {}
        outcome = classify(fault, status, is_success=facts.get("success") is True)
        detail = fault or self._safe(facts.get("messageCode"))
        if status == 200 and outcome == "AMBIGUOUS":
            detail = f"probably accepted, {detail or 'its body says nothing'}"
        if status == 404:
            detail = detail or "not-found"
        return Response(
            outcome,
            status,
            detail=detail,
            signal_id=self._safe(facts.get("id")),
            log_id=self._safe(facts.get("logId")),
            retry_after_ns=_wait_ns(headers.get("Retry-After", "")),
        )

    def _safe(self, text: object) -> str:
        """Keep a name that the receiver gave, if it is nothing else; it echoes what it likes."""
        shown = self._webhook.redact(str(text)) if isinstance(text, (str, int)) else ""
        return shown if _SAFE.fullmatch(shown) else ""

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[int]:
        """Cut the connection off when the whole takes longer; timeouts bound single steps only."""
        if self._watch is None:  # a timer a message would cost each of them a thread
            self._watch = threading.Thread(target=self._cut_off, name="deadline", daemon=True)
            self._watch.start()
        with self._guard:
            self._message += 1
            self._until = time.monotonic() + seconds
            message = self._message
        try:
            yield message
        finally:
            with self._guard:
                self._until = math.inf

    def _cut_off(self) -> None:
        while not self._closed.wait(_LOOK_S):
            with self._guard:
                if time.monotonic() < self._until:
                    continue
                self._until, self._cut = math.inf, self._message
                if self._socket is None:
                    continue
                with suppress(OSError):  # it is closed already
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _tracer(self, leave_by: float | None) -> Any:
        """Return what follows a request through the client: the socket to cut, and when bytes leave."""
        message = self._message

        def trace(name: str, facts: Mapping[str, Any]) -> None:
            if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                self._socket = facts["return_value"].get_extra_info("socket")
            elif name == "http11.send_request_headers.started":
                if self._cut == message or (leave_by is not None and time.monotonic() > leave_by):
                    raise _TooLateError("too late to leave")
            elif name == "http11.send_request_body.complete":
                self.last_byte_ns = time.monotonic_ns()

        return trace


def _wait_ns(text: str) -> int | None:
    """Read ``Retry-After``: seconds or a date; at most an hour."""
    try:
        if text.isdigit():
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return int(min(max(seconds, 0.0), 3600.0) * 10**9)
