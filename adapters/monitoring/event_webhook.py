"""Notices posted to a webhook of the operator's own; for watching, never for orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from adapters.monitoring.courier import Courier
from adapters.monitoring.document import document_of, spell
from ibs_core import __version__
from ibs_core.errors import ConfigError
from ibs_core.secret import silence_clients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.notices import Notice

__all__ = ["EventWebhook"]

_LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))
_TIMEOUT_S: Final = 5.0


class EventWebhook:
    """Posts each notice as JSON from a thread of its own; a `Subscriber`.

    Parameters
    ----------
    url : str
        A secret; it is in no message, log or repr.
    pauses_s : sequence of float, seconds
        Before each further attempt.

    Raises
    ------
    ConfigError
        It is not an address of HTTPS, or of HTTP on this machine; the message does not hold it.
    """

    def __init__(self, url: str, *, pauses_s: Sequence[float] = (1.0, 5.0)) -> None:
        silence_clients()
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        is_safe = host and (
            parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
        )
        if not is_safe:
            raise ConfigError(
                "webhook of events",
                expected="https://…, or http:// on this machine",
                found="another form, not shown because it may be a secret",
            )
        self._url = url
        self._client = httpx.Client(
            timeout=_TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": f"ibs/{__version__}", "Content-Type": "application/json"},
        )
        self._courier = Courier("webhook of events", self._post, pauses_s=pauses_s)
        self.counts = self._courier.counts

    def __repr__(self) -> str:
        return "EventWebhook()"

    @property
    def fault(self) -> str:
        """What went wrong with the last notice; nothing when it was delivered."""
        return self._courier.fault

    def tell(self, notice: Notice) -> None:
        """Hand a notice to the thread that posts.

        Parameters
        ----------
        notice : Notice
        """
        self._courier.hand(spell(document_of(notice)))

    def close(self) -> None:
        """Post what is waiting, for a few seconds at most."""
        self._courier.close()
        self._client.close()

    def _post(self, body: str) -> str:
        with self._client.stream("POST", self._url, content=body) as answer:  # no need to read on
            return "" if answer.is_success else f"HTTP {answer.status_code}"
