"""What the broker may have filled: the legs that a journal tells of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol

from ibs_core.outbox import UNDELIVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ibs_core.ports import Order

__all__ = ["Held", "Leg", "Sent", "legs_of"]

_UNKNOWN: Final = frozenset(("SENDING", "AMBIGUOUS"))
_DONE: Final = frozenset(("", "ACKED", "RESOLVED_FILLED"))


@dataclass(frozen=True, slots=True)
class Held:
    """A position of the book, closed or not.

    Parameters
    ----------
    symbol : str
    entry_ns : int, UTC ns
    entry_price : float, price units
    exit_ns : int or None, UTC ns
    exit_price : float or None, price units
    reason : str
        Of the exit.
    """

    symbol: str
    entry_ns: int
    entry_price: float
    exit_ns: int | None
    exit_price: float | None
    reason: str


class Sent(Protocol):
    """An order and what became of it."""

    @property
    def order(self) -> Order:
        """The order."""

    @property
    def state(self) -> str:
        """Its state."""

    @property
    def updated_ns(self) -> int:
        """Since when, UTC ns."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One buy or sell that a journal tells of.

    Parameters
    ----------
    order_id : str
        Empty without an order of ours.
    symbol, instrument : str
    action : {"entry", "exit", "cancel", "flatten"}
        ``flatten``: the exit in place of an entry of unknown outcome.
    side : {1, -1}
    quantity : int
    reason : str
        Of an exit.
    state : str
        Of the order; empty without one.
    since_ns : int, UTC ns
        No fill of it came before; earlier than `decided_ns` where the book learnt of it later.
    decided_ns : int, UTC ns
    decided_price : float, price units
    booked_ns : int or None, UTC ns
        When the book has it filled; None where it has not.
    booked_price : float or None, price units
        Without the assumed slippage.
    """

    order_id: str
    symbol: str
    instrument: str
    action: Literal["entry", "exit", "cancel", "flatten"]
    side: int
    quantity: int
    reason: str
    state: str
    since_ns: int
    decided_ns: int
    decided_price: float
    booked_ns: int | None
    booked_price: float | None

    @property
    def expects(self) -> Literal["fill", "maybe", "unknown", "nothing"]:
        """What the journal says the broker must show."""
        if self.state in _UNKNOWN:
            return "unknown"
        if self.state in UNDELIVERED or self.state == "PENDING":
            return "nothing"
        is_done = self.state in _DONE or self.action == "exit"
        return "fill" if is_done and self.booked_ns is not None else "maybe"

    @property
    def place(self) -> tuple[int, str, str, int]:
        """Among all legs: by decision."""
        return self.decided_ns, self.order_id, self.instrument, self.side

    @property
    def last_ns(self) -> int:
        """When it was decided or booked, whichever is later, UTC ns."""
        return max(self.decided_ns, self.booked_ns or self.decided_ns)

    @property
    def name(self) -> str:
        """For people."""
        return self.order_id or f"{self.reason} of {self.instrument}"


def legs_of(sent: Iterable[Sent], held: Iterable[Held]) -> list[Leg]:
    """List what the broker may have filled.

    Parameters
    ----------
    sent : iterable of Sent
        Every order of the journal.
    held : iterable of Held
        Every position of its book.

    Returns
    -------
    list of Leg
        By decision.
    """
    orders = sorted(sent, key=lambda each: (each.order.decided_ns, each.order.order_id))
    booked: dict[str, Held] = {}
    legs = []
    for each in held:
        own = [one for one in orders if one.order.symbol == each.symbol]
        entry = _last(own, "entry", 0, each.entry_ns)
        assert entry is not None, f"no order entered {each}"
        booked[entry.order.order_id] = each
        if each.exit_ns is None:
            continue
        left = _last(own, "exit", each.entry_ns, each.exit_ns)
        if left is not None:
            booked[left.order.order_id] = each
        else:
            legs.append(_at_the_broker(each, entry))
    for one in orders:
        legs.append(_leg(one, booked.get(one.order.order_id)))
        if one.order.action == "entry" and one.state == "FLATTENED":
            legs.append(_flattening(one))
    return sorted(legs, key=lambda leg: leg.place)


def _last(orders: Sequence[Sent], action: str, since_ns: int, until_ns: int) -> Sent | None:
    """Return the last of a kind that was decided in a span."""
    found = [
        each
        for each in orders
        if each.order.action == action and since_ns <= each.order.decided_ns <= until_ns
    ]
    return found[-1] if found else None


def _leg(sent: Sent, held: Held | None) -> Leg:
    order, is_entry = sent.order, sent.order.action == "entry"
    leg = Leg(
        order_id=order.order_id,
        symbol=order.symbol,
        instrument=order.instrument,
        action=order.action,
        side=1 if is_entry else -1,
        quantity=order.quantity,
        reason=order.reason,
        state=sent.state,
        since_ns=order.decided_ns,
        decided_ns=order.decided_ns,
        decided_price=order.price,
        booked_ns=None,
        booked_price=None,
    )
    if held is None:
        return leg
    if is_entry:
        return replace(leg, booked_ns=held.entry_ns, booked_price=held.entry_price)
    # Closed by hand: the book learnt of it later.
    since_ns = held.entry_ns if sent.state == "FLATTENED" else leg.since_ns
    return replace(leg, since_ns=since_ns, booked_ns=held.exit_ns, booked_price=held.exit_price)


def _flattening(sent: Sent) -> Leg:
    """Make the leg that undoes an entry of unknown outcome: the exit in its place, or an operator's hand."""
    return replace(_leg(sent, None), action="flatten", side=-1, decided_ns=sent.updated_ns)


def _at_the_broker(held: Held, entry: Sent) -> Leg:
    """Make the leg that closed a position without an order of ours."""
    assert held.exit_ns is not None
    assert held.exit_price is not None
    return replace(
        _leg(entry, None),
        order_id="",
        action="exit",
        side=-1,
        reason=held.reason,
        state="",
        since_ns=held.entry_ns,
        decided_ns=held.exit_ns,
        decided_price=held.exit_price,
        booked_ns=held.exit_ns,
        booked_price=held.exit_price,
    )
