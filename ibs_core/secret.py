"""Secrets: read from the environment or from a file of its owner, and kept out of other libraries' logs."""

from __future__ import annotations

import logging
import os
import pwd
import re
import stat
from typing import TYPE_CHECKING, Final

from ibs_core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HIDDEN", "PLAIN", "is_secret", "secret_of", "shown", "silence_clients"]

HIDDEN: Final = "something that is not shown because it may be a secret"
PLAIN: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""A name that may be shown: no address, no uuid and no key matches."""

_LINE: Final = re.compile(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*", re.ASCII)
_SECRET: Final = re.compile(r":/|trading/webhook|db-[A-Za-z0-9]{29}")
"""An address, also as a path, in which two slashes are one; a webhook without its scheme; a key of Databento."""
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


def is_secret(text: str) -> bool:
    """Tell whether a text looks like one that nobody may see: an address, or a key.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool
    """
    return _SECRET.search(text) is not None


def shown(value: object) -> str:
    """Write what an operator gave for a message, unless it looks like a secret.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    text = repr(value)
    return HIDDEN if is_secret(text) else text


def secret_of(variable: str, env_file: Path | None, subject: str, setting: str) -> str:
    """Read a secret from the environment, or from a file that only its owner can read.

    Parameters
    ----------
    variable : str
        Name of the variable that holds it.
    env_file : Path or None
        Lines ``NAME=value``, read where the environment has no such variable.
    subject : str
        What it is, for the message.
    setting : str
        Where the configuration names the file, such as ``alerts.env_file``.

    Returns
    -------
    str
        Not empty.

    Raises
    ------
    ConfigError
        No such variable, or an empty one.
    EnvironmentFault
        The file is missing, is none, is another user's, or others may read it.
    """
    secret = os.environ.get(variable, "").strip()
    if not secret and env_file is not None:
        secret = _of_file(env_file.expanduser(), setting).get(variable, "")
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


def _of_file(path: Path, setting: str) -> dict[str, str]:
    try:
        # Not waiting for whoever writes to a pipe: that it is no file is seen once it is open.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            _refuse_exposed(path, os.fstat(handle), setting)
            with os.fdopen(handle, encoding="utf-8", closefd=False) as file:
                lines = file.read().splitlines()
        finally:
            os.close(handle)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise EnvironmentFault(
            f"env file {path}", found=why, where=setting, remedy="check the path"
        ) from None
    found = (_LINE.fullmatch(line) for line in lines if not line.lstrip().startswith("#"))
    return {each[1]: each[2].strip("\"'") for each in found if each}


def _refuse_exposed(path: Path, facts: os.stat_result, setting: str) -> None:
    """Refuse an env file that is no file, that another user may change, or that others may read."""
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode):
        found, remedy = "no regular file", "give the path of a file"
    elif facts.st_uid != os.geteuid():
        found = f"one of {_user(facts.st_uid)}"
        remedy = f"chown {_user(os.geteuid())} {path}, or run ibs as its owner"
    elif mode & 0o077:
        found, remedy = f"mode {mode:04o}", f"chmod 600 {path}"
    else:
        return
    raise EnvironmentFault(
        f"env file {path}",
        expected="a file of this user that nobody else may read, mode 0600",
        found=found,
        where=setting,
        remedy=remedy,
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container, or of an account that was deleted
        return str(number)
