"""Whether the kill switch is on: what an operator wrote, read so that a mistake stops real orders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VARIABLE", "expanded", "kept", "state_of"]

VARIABLE: Final = "POLICY_KILLSWITCH"
"""The environment variable that decides where the configuration has no ``killswitch``."""

_ON: Final = frozenset(("true", "1", "yes", "on"))
_OFF: Final = frozenset(("false", "0", "no", "off"))
_PLACEHOLDER: Final = re.compile(r"\s*\$\{(\w+)\}\s*", re.ASCII)


def kept(configured: object) -> object:
    """Keep what `state_of` reads; whatever else was written may be a secret, and is told by no journal.

    Parameters
    ----------
    configured : object
        As YAML gave it.

    Returns
    -------
    object
        The same, or ``<other>``, which is none of the words.
    """
    if configured is None or isinstance(configured, bool):
        return configured
    text = str(configured)
    is_read = text.strip().lower() in _ON | _OFF or _PLACEHOLDER.fullmatch(text)
    return configured if is_read else "<other>"


def expanded(configured: object, variables: Mapping[str, str]) -> object:
    """Replace a placeholder by the value of its variable.

    Parameters
    ----------
    configured : object
        As YAML gave it.
    variables : Mapping of str to str
        Of the environment.

    Returns
    -------
    object
        The same where it is no placeholder, or where its variable is not set.
    """
    found = _PLACEHOLDER.fullmatch(configured) if isinstance(configured, str) else None
    return variables.get(found[1], configured) if found else configured


def state_of(configured: object, environment: str | None, *, is_live: bool) -> tuple[bool, str]:
    """Tell whether the kill switch is on, and why.

    Where real orders would leave it is on unless somebody wrote that it is off; elsewhere it is off
    unless somebody wrote that it is on.

    Parameters
    ----------
    configured : object
        ``killswitch`` of the settings as YAML gave it; None leaves it to the environment. A placeholder
        of another variable than `VARIABLE` is replaced beforehand, see `expanded`.
    environment : str or None
        What the environment variable holds.
    is_live : bool
        The run is armed on a live route.

    Returns
    -------
    is_on : bool
    why : str
        One line for people. It never repeats what was written, which may be a secret in the wrong place.
    """
    given = expanded(configured, {} if environment is None else {VARIABLE: environment})
    source = "killswitch of the configuration"
    if given is None:
        given, source = environment, VARIABLE
    word = "" if given is None else str(given).strip().lower()
    if word in _ON:
        return True, f"kill switch: on by {source}"
    if is_live and word in _OFF:
        return False, f"kill switch: off by {source}"
    if word in _OFF:
        return False, f"kill switch: off on paper; {source} says so"
    if given is None:
        fault = f"{source} is not set"
    elif not word:
        fault = f"{source} is empty"
    elif isinstance(given, str) and _PLACEHOLDER.fullmatch(given):
        fault = f"{source} is a placeholder whose variable is not set"
    else:
        fault = f"{source} is none of true, 1, yes, on, false, 0, no, off"
    return is_live, f"kill switch: {'on' if is_live else 'off on paper'}; {fault}"
