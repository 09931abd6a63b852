"""Which contract of each root is wanted when: one a session, changed only between two sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.errors import ConfigError, DataError
from ibs_core.sessions import Sessions, load_sessions, session_index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibs_core.contracts import ContractMap

__all__ = ["Member", "Roster", "call_roster", "dataset_of", "raw_symbol"]

_EARLY_NS: Final = 15 * MINUTE_NS
"""A new contract is subscribed so long before its first session opens, or once the old one closed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One contract, and the time in which its minutes count.

    Parameters
    ----------
    root, instrument : str
    since_ns, until_ns : int, UTC ns
        Minutes that open in [since, until) are the root's.
    """

    root: str
    instrument: str
    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Roster:
    """The contracts of one connection.

    Parameters
    ----------
    members : tuple of Member
    check_ns : int, UTC ns
        When to ask again: the next session of some root is near.
    """

    members: tuple[Member, ...]
    check_ns: int

    @property
    def current(self) -> dict[str, str]:
        """Root -> the contract of the session in force, or of the one about to open."""
        return {member.root: member.instrument for member in self.members}


def call_roster(
    contracts: ContractMap,
    roots: Sequence[str],
    active: Callable[[str, int], str],
    start_ns: int,
    now_ns: int,
    known_until_ns: int = 0,
) -> Roster:
    """Find the contracts whose minutes since an instant are wanted.

    Parameters
    ----------
    contracts : ContractMap
    roots : sequence of str
    active : callable
        Root and UTC ns -> the contract in force, ``ESZ2025``; asked for opens of sessions only.
    start_ns, now_ns : int, UTC ns
    known_until_ns : int, UTC ns
        Rolls until here are known beforehand: their contracts are called at once.

    Returns
    -------
    Roster

    Raises
    ------
    DataError
        A contract comes back after it was left.
    """
    members: list[Member] = []
    check_ns = NEVER
    for root in roots:
        until_ns = max(now_ns, known_until_ns)
        sessions = load_sessions(contracts.get(root).session, min(start_ns, now_ns), until_ns)
        first, last = (int(i) for i in session_index(sessions, np.array([start_ns, until_ns])))
        if until_ns >= _near_ns(sessions, last + 1):
            last += 1
        check_ns = min(check_ns, _near_ns(sessions, last + 1))
        members += _members(root, active, sessions.open_ns[min(first, last) : last + 1].tolist())
    return Roster(tuple(members), check_ns)


def _near_ns(sessions: Sessions, i: int) -> int:
    opens, closed = int(sessions.open_ns[i]), int(sessions.close_ns[i - 1])
    return min(max(opens - _EARLY_NS, closed + 2 * MINUTE_NS), opens)


def _members(root: str, active: Callable[[str, int], str], opens: list[int]) -> list[Member]:
    found: list[Member] = []
    for open_ns in opens:
        instrument = active(root, open_ns)
        if found and found[-1].instrument == instrument:
            continue
        if instrument in {member.instrument for member in found}:
            raise DataError(
                f"contract {instrument} comes back after it was left",
                remedy="check the roll table",
            )
        if found:
            last = found.pop()
            found.append(Member(root, last.instrument, last.since_ns, open_ns))
        found.append(Member(root, instrument, open_ns, NEVER))
    return found


def raw_symbol(instrument: str, *, two_digits: bool = False) -> str:
    """Return the exchange's own name of a contract, as subscriptions take it.

    Parameters
    ----------
    instrument : str
        ``ESZ2025``.
    two_digits : bool
        Some long listings are named with two digits of the year.

    Returns
    -------
    str
        ``ESZ5``, or ``ESZ25``.

    Raises
    ------
    DataError
        It names no contract.
    """
    match = re.fullmatch(r"([A-Z0-9]+[A-Z])\d\d(\d)(\d)", instrument)
    if match is None:
        raise DataError("no contract", expected="a name such as ESZ2025", found=repr(instrument))
    return f"{match[1]}{match[2] if two_digits else ''}{match[3]}"


def dataset_of(contracts: ContractMap, roots: Sequence[str]) -> str:
    """Return the dataset that holds all roots.

    Parameters
    ----------
    contracts : ContractMap
    roots : sequence of str

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        They have none, or several.
    """
    datasets = {contracts.get(root).dataset for root in roots}
    if len(datasets) != 1 or datasets == {""}:
        raise ConfigError(
            f"symbols {', '.join(roots)}",
            expected="roots of one vendor dataset",
            found=", ".join(sorted(datasets)) or "no root",
        )
    return datasets.pop()
