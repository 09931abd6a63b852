"""Connections whose opening has a deadline: the system's own lookup of a name has none."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LookupTooLongError", "Transport"]


class LookupTooLongError(Exception):
    """The host's name was not resolved in time; nothing was sent."""


class Transport(httpx.HTTPTransport):
    """As httpx makes it, two connections at most, never closed for being idle, opened by `_Backend`."""

    def __init__(self) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=2,
            keepalive_expiry=None,
            http2=False,
            network_backend=_Backend(),
        )


class _Backend(httpcore.SyncBackend):
    """Opens connections; lookup and all addresses together take no longer than one wait."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._lookups: dict[tuple[str, int], Future[list[str]]] = {}

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Open a connection to the first address that answers."""
        assert timeout is not None
        until = time.monotonic() + timeout
        addresses = self._addresses(host, port, timeout)
        for n_left in range(len(addresses), 0, -1):
            share = max(until - time.monotonic(), 0.001) / n_left
            try:
                return super().connect_tcp(
                    addresses[-n_left], port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if n_left == 1:
                    raise
        raise AssertionError(host)

    def _addresses(self, host: str, port: int, timeout: float) -> list[str]:
        """Look a name up, in a thread that may outlive the wait; the next wait is for the same."""
        with self._guard:
            lookup = self._lookups.get((host, port))
            if lookup is None:
                lookup = self._lookups[host, port] = Future()
                threading.Thread(
                    target=self._look_up, args=(host, port, lookup), name="lookup", daemon=True
                ).start()
        try:
            return lookup.result(timeout)
        except TimeoutError:
            raise LookupTooLongError("lookup took too long") from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    def _look_up(self, host: str, port: int, lookup: Future[list[str]]) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            outcome = list(dict.fromkeys(str(each[4][0]) for each in found))
        except Exception as error:  # noqa: BLE001  (whoever waits raises it)
            fault: Exception | None = error
        else:
            fault = None
        with self._guard:
            del self._lookups[host, port]
        if fault is None:
            lookup.set_result(outcome)
        else:
            lookup.set_exception(fault)
