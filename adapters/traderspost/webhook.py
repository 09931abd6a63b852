"""A webhook's URL, which is its credential: read from the environment, and never shown."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ibs_core.errors import ConfigError
from ibs_core.secret import secret_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Webhook", "webhook_of"]

_PATH: Final = re.compile(r"/trading/webhook/([\w-]+)/([\w-]+)", re.ASCII)
_LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))


class Webhook:
    """Where the orders of a route go.

    Parameters
    ----------
    route : str
        Its name, the only thing of it that is ever shown.
    url : str

    Raises
    ------
    ConfigError
        It is not a webhook's address; the message does not hold it.
    """

    __slots__ = ("_secrets", "_url", "is_loopback", "key", "root", "route")

    def __init__(self, route: str, url: str) -> None:
        self.route = route
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise self._malformed() from None
        found = _PATH.fullmatch(parts.path)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc) and url.isascii()
        if not (found and is_safe and host and plain):
            raise self._malformed()
        self._url = url
        self._secrets = found.groups()
        self.root = f"{parts.scheme}://{parts.netloc}/"
        self.is_loopback = host in _LOOPBACK
        self.key = hashlib.sha256(found[1].encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Webhook({self.route!r})"

    def __reduce__(self) -> str:
        raise TypeError("a webhook is not written to anywhere")

    def url(self) -> str:
        """Return the secret, for the one place that sends.

        Returns
        -------
        str
        """
        return self._url

    def redact(self, text: str) -> str:
        """Take the secret out of a text.

        Parameters
        ----------
        text : str
            Of the receiver.

        Returns
        -------
        str
        """
        for secret in (self._url, *self._secrets):
            text = text.replace(secret, "***")
        return text

    def _malformed(self) -> ConfigError:
        return ConfigError(
            f"webhook of route {self.route!r}",
            expected="https://webhooks.traderspost.io/trading/webhook/<uuid>/<password>",
            found="another form, not shown because it may be the secret",
            remedy="copy it again from the strategy's page",
        )


def webhook_of(route: str, variable: str, env_file: Path | None = None) -> Webhook:
    """Read a webhook from the environment, or from a file that only its owner can read.

    Parameters
    ----------
    route : str
        Name of the route.
    variable : str
        Name of the variable that holds the URL.
    env_file : Path, optional
        Lines ``NAME=value``, read where the environment has no such variable.

    Returns
    -------
    Webhook

    Raises
    ------
    ConfigError
        No such variable, an empty one, or one of another form.
    EnvironmentFault
        The file is missing, is none, is another user's, or others may read it.
    """
    subject, setting = f"webhook of route {route!r}", f"routes.{route}.env_file"
    return Webhook(route, secret_of(variable, env_file, subject, setting))
