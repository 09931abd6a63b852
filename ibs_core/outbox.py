"""Orders on their way: their attempts, what follows from each, and the journal as a sender uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ibs_core.errors import ConfigError
from ibs_core.ports import Journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.outcomes import Outcome, Response
    from ibs_core.ports import Order

__all__ = [
    "SETTLING_NS",
    "UNDELIVERED",
    "Attempt",
    "Delivery",
    "Outbox",
    "Page",
    "resolution",
    "settle",
]

_SECOND: Final = 10**9
SETTLING_NS: Final = 15 * _SECOND
"""An order of the other side that comes sooner may overtake."""
UNDELIVERED: Final = frozenset(("EXPIRED", "SUPERSEDED", "DEAD", "RESOLVED_ABSENT"))
"""States in which an entry has come to nothing."""
_AFTER: Final = {
    "NOT_SENT": "PENDING",
    "THROTTLED": "PENDING",
    "REFUSED": "DEAD",
    "AMBIGUOUS": "AMBIGUOUS",
}
_CALLS: Final = {
    ("THROTTLED", "exit"): "it is sent again when the receiver lets it",
    ("REFUSED", "entry"): "it is dropped; find out why",
    ("REFUSED", "exit"): "flatten by hand, then `ibs orders resolve`, or retry",
    ("REFUSED", "exit in its place"): "flatten by hand, then `ibs orders resolve`",
    ("AMBIGUOUS", "entry"): "look at the broker, then `ibs orders resolve`",
    ("AMBIGUOUS", "exit"): "it is sent again; look at the broker",
}
"""When a person is called, and to do what."""
_VERDICTS: Final = {
    "filled": "RESOLVED_FILLED",
    "absent": "RESOLVED_ABSENT",
    "flat": "FLATTENED",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver an order.

    Parameters
    ----------
    number : int
        In the journal.
    started_ns : int, UTC ns
    flattens : bool
        It sent the exit that stands for an entry of unknown outcome, not the entry.
    ended_ns : int or None, UTC ns
        None while it is under way, and for ever when a crash cut it short.
    response : Response or None
        None as above: whether it was delivered is unknown.
    """

    number: int
    started_ns: int
    flattens: bool = False
    ended_ns: int | None = None
    response: Response | None = None

    @property
    def outcome(self) -> Outcome:
        """What is known of it."""
        return self.response.outcome if self.response else "AMBIGUOUS"

    @property
    def may_have_arrived(self) -> bool:
        """Whether the receiver may act on it."""
        return self.outcome in ("AMBIGUOUS", "ACCEPTED")

    @property
    def last_ns(self) -> int:
        """Its end, or its start where the end is unknown."""
        return self.started_ns if self.ended_ns is None else self.ended_ns


@dataclass(frozen=True, slots=True)
class Delivery:
    """An order on its way.

    Parameters
    ----------
    order : Order
    state : str
        As in the journal.
    attempts : tuple of Attempt
        Oldest first.
    taken_ns : int, UTC ns
        When the sender was given it, on the sender's own clock, which never goes back.
    age_ns : int, nanoseconds
        How old the decision was then.
    paged : frozenset of str
        Causes for which a person was called.
    route : str
        The one that tried to send it; empty before the first attempt.
    """

    order: Order
    state: str = "PENDING"
    attempts: tuple[Attempt, ...] = ()
    taken_ns: int = 0
    age_ns: int = 0
    paged: frozenset[str] = frozenset()
    route: str = ""

    @property
    def is_entry(self) -> bool:
        """Whether it opens a position; all else closes."""
        return self.order.action == "entry"

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done or to be known."""
        return self.state in ("PENDING", "SENDING", "AMBIGUOUS")

    @property
    def is_unsettled(self) -> bool:
        """Whether it is open, or an exit that a person has to look after."""
        return self.is_open or (self.state == "DEAD" and not self.is_entry)

    def stale_ns(self, life_ns: int) -> int:
        """Return when an entry becomes too old, on the sender's clock.

        Parameters
        ----------
        life_ns : int, nanoseconds

        Returns
        -------
        int
        """
        return self.taken_ns - self.age_ns + life_ns

    def closing(self) -> tuple[Attempt, ...]:
        """Return the attempts that sent an exit.

        Returns
        -------
        tuple of Attempt
        """
        return tuple(each for each in self.attempts if each.flattens or not self.is_entry)

    def opening(self) -> tuple[Attempt, ...]:
        """Return the attempts that sent an entry.

        Returns
        -------
        tuple of Attempt
        """
        return tuple(each for each in self.attempts if self.is_entry and not each.flattens)


@dataclass(frozen=True, slots=True)
class Page:
    """A person is called.

    Parameters
    ----------
    order_id : str
    cause : str
        One page an order and cause.
    text : str
        What happened and what to do.
    """

    order_id: str
    cause: str
    text: str


def resolution(order: Order, state: str, verdict: str, closing: Sequence[Attempt] = ()) -> str:
    """Return the state to which an operator's word moves an order.

    Parameters
    ----------
    order : Order
    state : str
        Where it is.
    verdict : str
        ``filled``, ``absent`` or ``flat``, as seen at the broker; ``retry`` to send a dead exit again.
    closing : sequence of Attempt
        To send an exit in place of an entry: what may have arrived of it leaves nothing but flat.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        The word does not fit the order.
    """
    if order.action == "entry":
        is_closing = any(each.may_have_arrived for each in closing)
        allowed = {"AMBIGUOUS": ("flat",) if is_closing else tuple(_VERDICTS)}.get(state, ())
    else:
        allowed = {"DEAD": ("flat", "retry"), "PENDING": ("flat",), "AMBIGUOUS": ("flat",)}.get(
            state, ()
        )
    if verdict in allowed:
        return "PENDING" if verdict == "retry" else _VERDICTS[verdict]
    never = order.action == "entry" and verdict == "retry"
    waits = "nothing yet: it is being sent" if state == "SENDING" else ""
    raise ConfigError(
        f"{order.action} {order.order_id} is {state}",
        expected=" or ".join(allowed) or waits or "nothing: there is nothing to resolve",
        found=verdict,
        remedy="an entry is never sent again"
        if never
        else "ask again in ten seconds"
        if waits
        else "",
    )


def settle(
    delivery: Delivery, attempt: Attempt, others: Sequence[Delivery]
) -> tuple[str | None, str, Page | None]:
    """Tell what follows from an attempt that has ended.

    Parameters
    ----------
    delivery : Delivery
        With the attempt among its own.
    attempt : Attempt
    others : sequence of Delivery
        Of the sender; the delivery may be among them.

    Returns
    -------
    state : str or None
        To which the order moves; None where it stays.
    why : str
    page : Page or None
    """
    order_id, response = delivery.order.order_id, attempt.response
    assert response is not None, "under way"
    said, outcome = response.said, response.outcome
    if outcome == "ACCEPTED" and attempt.flattens:
        return "FLATTENED", "an exit was accepted in its place", None
    if outcome == "ACCEPTED":
        if not delivery.is_entry and _overtook(delivery, attempt, others):
            why = "accepted; sent again 15 s after the entry that it may have overtaken"
            return "PENDING", why, None
        return "ACKED", said, None
    who = "exit in its place" if attempt.flattens else "entry" if delivery.is_entry else "exit"
    then = _CALLS.get((outcome, who))
    what = f"{delivery.order.action} {order_id} of {delivery.order.instrument}"
    page = Page(order_id, outcome.lower(), f"{what}: {said}; {then}") if then else None
    return None if attempt.flattens else _AFTER[outcome], said, page


class Outbox(Journal, Protocol):
    """The journal as a sender uses it; every call is durable when it returns."""

    def deliveries(self, since_ns: int) -> Sequence[Delivery]:
        """Return the orders that are not settled, exits that are dead, and all attempted since an instant.

        With the causes for which a person was called since an operator last sent them again.
        """

    def body(self, order_id: str) -> str | None:
        """Return what was frozen to be sent, None before the first attempt."""

    def begin_attempt(
        self, order_id: str, now_ns: int, *, body: str, route: str, flattens: bool = False
    ) -> int:
        """Freeze what is sent, move the order to SENDING unless it is flattened, and number the attempt."""

    def end_attempt(
        self, number: int, now_ns: int, response: Response, *, state: str | None, why: str
    ) -> None:
        """Note how an attempt ended, and move its order on."""


def _overtook(delivery: Delivery, attempt: Attempt, others: Sequence[Delivery]) -> bool:
    """Tell whether an exit left so soon after an entry that the receiver may have seen it first."""
    return any(
        0 <= attempt.started_ns - entry.started_ns < SETTLING_NS
        for each in others
        if each.order.instrument == delivery.order.instrument
        for entry in each.opening()
        if entry.may_have_arrived
    )
