"""Whether a host answers, and how far its clock is from ours: one request for its root, no order and no secret."""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from ibs_core import __version__
from ibs_core.errors import EnvironmentFault

__all__ = ["Reached", "reach"]

_PATIENCE_S: Final = 5.0
_HEAD_BYTES: Final = 1 << 16
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Reached:
    """What a host said.

    Parameters
    ----------
    status : int
        Of HTTP; any proves that it answers.
    ahead_s : float or None, seconds
        This machine's clock less the host's, to about half a second; None: the host tells no time.
    """

    status: int
    ahead_s: float | None


def reach(root: str, patience_s: float = _PATIENCE_S) -> Reached:
    """Ask a host for its root, over TLS where the address says so.

    Parameters
    ----------
    root : str
        Scheme and host, such as ``https://webhooks.traderspost.io/``; what follows is never asked for.
    patience_s : float, seconds
        For the connection, and for the head of the answer.

    Returns
    -------
    Reached

    Raises
    ------
    EnvironmentFault
        It does not answer.
    """
    parts = urlsplit(root)
    try:
        head = _head(parts.scheme, str(parts.hostname), parts.port, patience_s)
        answered_s = time.time()
        first, _, rest = head.partition(b"\r\n")
        headers = http.client.parse_headers(io.BytesIO(rest))
        return Reached(_status(first), _ahead_s(headers.get("Date", ""), answered_s))
    except TimeoutError:
        found = f"none within {patience_s:g} s"
    except http.client.HTTPException:
        found = "an answer that is not HTTP"
    except OSError as error:
        found = error.strerror or type(error).__name__
    raise EnvironmentFault(
        f"host {parts.hostname}",
        expected="an answer to a request for its root",
        found=found,
        remedy="check the network, the firewall, the certificates and the webhook's address",
    )


def _head(scheme: str, host: str, port: int | None, patience_s: float) -> bytes:
    """Return the first line and the headers of the answer; a body may have no end."""
    until_s = time.monotonic() + patience_s
    name = f"[{host}]" if ":" in host else host
    asked = (
        f"GET / HTTP/1.1\r\nHost: {name if port is None else f'{name}:{port}'}\r\n"
        f"User-Agent: ibs/{__version__}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    head = b""
    with socket.create_connection((host, port or _PORTS[scheme]), patience_s) as plain:
        # The certificates that the sender trusts, which need not be the system's.
        context = httpx.create_ssl_context(trust_env=False) if scheme == "https" else None
        with context.wrap_socket(plain, server_hostname=host) if context else plain as stream:
            stream.sendall(asked.encode("ascii"))
            while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
                stream.settimeout(max(until_s - time.monotonic(), 1e-3))
                piece = stream.recv(_HEAD_BYTES)
                if not piece:
                    break
                head += piece
    return head


def _status(line: bytes) -> int:
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise http.client.BadStatusLine("")
    return int(words[1])


def _ahead_s(date: str, answered_s: float) -> float | None:
    """Compare clocks: the header was cut to the second, a moment before the answer came."""
    try:
        told_s = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
    return answered_s - (told_s + 0.5)
