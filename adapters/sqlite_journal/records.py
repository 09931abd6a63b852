"""What a journal holds, as values, and the law that the states of an order obey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ibs_core.ports import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.ports import Order

__all__ = ["STATES", "Command", "Event", "Move", "OrderRecord", "Run", "may_follow"]

_NEXT: Final[Mapping[str, frozenset[str]]] = {
    # To ACKED at once: only a sink that knows the outcome without asking, such as a file of its own.
    # To DEAD at once: what the receiver would refuse is not sent.
    "PENDING": frozenset({"SENDING", "ACKED", "EXPIRED", "SUPERSEDED", "DEAD"}),
    "SENDING": frozenset({"PENDING", "ACKED", "DEAD", "AMBIGUOUS"}),
    "AMBIGUOUS": frozenset({"RESOLVED_FILLED", "RESOLVED_ABSENT", "FLATTENED"}),
    "ACKED": frozenset(),
    "DEAD": frozenset(),
    "EXPIRED": frozenset(),
    "SUPERSEDED": frozenset(),
    "RESOLVED_FILLED": frozenset(),
    "RESOLVED_ABSENT": frozenset(),
    "FLATTENED": frozenset(),
}
STATES: Final = tuple(_NEXT)
_OF_EXITS: Final[Mapping[str, frozenset[str]]] = {
    "PENDING": frozenset({"FLATTENED"}),  # an operator closed by hand
    "AMBIGUOUS": frozenset({"SENDING"}),
    "DEAD": frozenset({"PENDING", "FLATTENED"}),
}


def may_follow(action: str, state: str) -> frozenset[str]:
    """Tell to which states an order may move on.

    Parameters
    ----------
    action : {"entry", "exit", "cancel"}
    state : str
        Where it is, one of `STATES`.

    Returns
    -------
    frozenset of str
        Empty at the end. An exit or a cancel of unknown outcome is sent again, and a dead one may be; an
        entry never is.
    """
    more = _OF_EXITS.get(state, frozenset()) if action != "entry" else frozenset()
    return _NEXT[state] | more


@dataclass(frozen=True, slots=True)
class Run:
    """A process that wrote to the journal.

    Parameters
    ----------
    run : int
        From 1.
    started_ns : int, UTC ns
    facts : Mapping of str to Any
    ended_ns : int or None, UTC ns
        None while it runs, and for ever when it was killed.
    how : str or None
    """

    run: int
    started_ns: int
    facts: Mapping[str, Any]
    ended_ns: int | None
    how: str | None


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order and where it is.

    Parameters
    ----------
    order : Order
    seq : int
        The entry that wrote it.
    state : str
        One of `STATES`.
    updated_ns : int, UTC ns
        When it came to that state.
    body : str or None
        What is sent, once frozen.
    route : str
        Empty for the default.
    """

    order: Order
    seq: int
    state: str
    updated_ns: int
    body: str | None
    route: str


@dataclass(frozen=True, slots=True)
class Move:
    """One step of an order from state to state.

    Parameters
    ----------
    run : int
    time_ns : int, UTC ns
    state : str
        To which it moved.
    detail : str
    """

    run: int
    time_ns: int
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that people will want to know.

    Parameters
    ----------
    run : int
    time_ns : int, UTC ns
    kind : str
    facts : Mapping of str to Any
    """

    run: int
    time_ns: int
    kind: str
    facts: Mapping[str, Any]
