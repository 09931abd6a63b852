"""Secrets: read from the environment or from a file of its owner, and kept out of other libraries' logs."""

from __future__ import annotations

import logging
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["secret_of", "silence_clients"]

_LINE: Final = re.compile(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*", re.ASCII)
_LOGGERS: Final = (
    "apprise",
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
    "requests_oauthlib.oauth1_session",
    "requests_oauthlib.oauth2_session",
    "urllib3.connection",
    "urllib3.connectionpool",
)


def secret_of(variable: str, env_file: Path | None, subject: str) -> str:
    """Read a secret from the environment, or from a file that only its owner can read.

    Parameters
    ----------
    variable : str
        Name of the variable that holds it.
    env_file : Path or None
        Lines ``NAME=value``, read where the environment has no such variable.
    subject : str
        What it is, for the message.

    Returns
    -------
    str
        Not empty.

    Raises
    ------
    ConfigError
        No such variable, or an empty one.
    EnvironmentFault
        The file is missing, or others may read it.
    """
    secret = os.environ.get(variable, "").strip()
    if not secret and env_file is not None:
        secret = _of_file(env_file.expanduser()).get(variable, "")
    if not secret:
        raise ConfigError(
            subject,
            expected=f"its URL in the environment variable {variable}",
            found="none",
            remedy="export it, or put it into an env file of mode 0600",
        )
    return secret


def silence_clients() -> None:
    """Keep the loggers of HTTP clients still: they write whole URLs, at INFO or DEBUG."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_nothing)


def _nothing(_record: logging.LogRecord) -> bool:
    return False


def _of_file(path: Path) -> dict[str, str]:
    try:
        handle = os.open(path, os.O_RDONLY)
        with os.fdopen(handle, encoding="utf-8") as file:
            facts = os.fstat(handle)
            mode = stat.S_IMODE(facts.st_mode)
            if not stat.S_ISREG(facts.st_mode) or mode & 0o077 or facts.st_uid != os.geteuid():
                raise EnvironmentFault(
                    f"env file {path}",
                    expected="a file of this user that nobody else may read, mode 0600",
                    found=f"mode {mode:04o}",
                    remedy=f"chmod 600 {path}",
                )
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise EnvironmentFault(f"env file {path}", found=why, remedy="check the path") from None
    found = (_LINE.fullmatch(line) for line in lines if not line.lstrip().startswith("#"))
    return {each[1]: each[2].strip("\"'") for each in found if each}
