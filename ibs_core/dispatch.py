"""Orders on their way: handed to the sink once they are in the journal, and what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from ibs_core.errors import IbsError
from ibs_core.market_data.runs import stamp
from ibs_core.notices import Level, Notice
from ibs_core.outbox import UNDELIVERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ibs_core.ports import Clock, Journal, Order, OrderSink

__all__ = ["Dispatch", "Gate"]

Gate = Literal["open", "reduce_only", "halted"]
_TROUBLE: Final = frozenset(("AMBIGUOUS", "DEAD"))
_CAUSES: Final = {
    "AMBIGUOUS": "outcome unknown",
    "DEAD": "order refused",
    "EXPIRED": "entries expired",
}
"""States of an order that people are told of, and under which name."""


class Dispatch:
    """The orders of one journal.

    Parameters
    ----------
    journal : Journal
    sink : OrderSink
    clock : Clock
    publish : callable
        Given a `Notice`.
    """

    def __init__(
        self, journal: Journal, sink: OrderSink, clock: Clock, publish: Callable[[Notice], None]
    ) -> None:
        self._journal, self._sink, self._clock, self._publish = journal, sink, clock, publish
        self.entered: dict[str, Order] = {}
        """By root, the last entry."""
        self._nothing: set[str] = set()
        self._undone: set[str] = set()
        self._unsettled: Sequence[tuple[Order, str]] = ()
        self.gate: Gate = "open"

    def take_up(self, roots: Iterable[str]) -> None:
        """Learn from the journal what became of the orders of runs before; the journal has a run.

        Parameters
        ----------
        roots : iterable of str
        """
        self._sink.start()
        for root in roots:
            last = self._journal.last_entry_order(root)
            if last is not None:
                self.entered[root] = last[0]
                self._ended(*last)

    def send(self, orders: Sequence[Order]) -> None:
        """Hand over orders that are in the journal.

        Parameters
        ----------
        orders : sequence of Order
        """
        if orders:
            self._sink.send(orders)
        for order in orders:
            if order.action == "entry":
                self.entered[order.symbol] = order
                self._nothing.discard(order.symbol)
                self._undone.discard(order.symbol)
            self._tell("order", _line(order), order)

    def done_by_hand(self, orders: Iterable[Order]) -> None:
        """Settle orders that an operator made needless, without sending them.

        Parameters
        ----------
        orders : iterable of Order
            PENDING in the journal.
        """
        for order in orders:
            now_ns = self._clock.now_ns()
            self._journal.order_state(order.order_id, "FLATTENED", now_ns, "closed by hand")
            self._tell("order", f"{_line(order)}, closed by hand", order)

    def look(self) -> tuple[set[str], set[str]]:
        """Take note of how orders have moved since the last look.

        Returns
        -------
        nothing : set of str
            Roots whose last entry was not delivered.
        undone : set of str
            Roots whose last entry had an unknown outcome, and was closed whatever it was.
        """
        for order, move in self._sink.settled():
            last = self.entered.get(order.symbol)
            if last is not None and order.order_id == last.order_id:
                self._ended(order, move.state)
            text = f"{order.order_id} is {move.state}" + (f": {move.why}" if move.why else "")
            self._tell("moved", text, order, state=move.state, why=move.why)
        self._unsettled = self._sink.unsettled()
        ended = self._nothing, self._undone
        self._nothing, self._undone = set(), set()
        return ended

    def undelivered(self) -> dict[str, Order]:
        """Return the exits of which nobody had heard at the last look that they arrived, by root.

        Returns
        -------
        dict of str to Order
        """
        return {each.symbol: each for each, _ in self._unsettled if each.action == "exit"}

    def closing(self, roots: Sequence[str]) -> list[tuple[Order, str]]:
        """Return what closes positions of roots and has not arrived for sure, with its state.

        Parameters
        ----------
        roots : sequence of str

        Returns
        -------
        list of (Order, str)
        """
        unsettled = self._sink.unsettled()
        return [each for each in unsettled if each[0].action != "entry" and each[0].symbol in roots]

    def unresolved(self) -> list[str]:
        """Return the orders whose outcome was unknown at the last look, and the exits that were refused.

        Returns
        -------
        list of str
        """
        return [each.order_id for each, state in self._unsettled if state in _TROUBLE]

    def standing(self) -> dict[str, Any]:
        """Tell how orders fare.

        Returns
        -------
        dict of str to Any
            ``gate``, ``unresolved`` ids, and ``orders``: how many are ``unsettled``, ``last_success``, ``last_error``.
        """
        return {
            "gate": self.gate,
            "unresolved": self.unresolved(),
            "orders": {"unsettled": len(self._unsettled), **self._sink.standing()},
        }

    def hold(self, gate: Gate) -> None:
        """Let everything leave, exits only, or nothing.

        Parameters
        ----------
        gate : {"open", "reduce_only", "halted"}
        """
        if gate != self.gate:
            self._sink.hold(gate)
            self.gate = gate

    def resolve(self, order_id: str, verdict: str) -> str:
        """Do what an operator says of an order.

        Parameters
        ----------
        order_id, verdict : str

        Returns
        -------
        str
            What came of it, for people.
        """
        try:
            return f"{order_id} is {self._sink.resolve(order_id, verdict)}"
        except IbsError as error:
            return str(error)

    def close(self) -> None:
        """Send what is due, then no more."""
        self._sink.close()

    def _ended(self, entry: Order, state: str) -> None:
        """Take note of an entry that ended otherwise than by being accepted."""
        if state in UNDELIVERED:
            self._nothing.add(entry.symbol)
        elif state == "FLATTENED":
            self._undone.add(entry.symbol)

    def _tell(self, kind: str, text: str, order: Order, **more: str) -> None:
        facts = {
            "order_id": order.order_id,
            "symbol": order.symbol,
            "instrument": order.instrument,
            "action": order.action,
            "quantity": order.quantity,
            "price": order.price,
            "reason": order.reason,
            "score": order.score,
            **more,
        }
        state = more.get("state", "")
        cause = _CAUSES.get(state, "") if order.action == "entry" or state != "EXPIRED" else ""
        level: Level = "warning" if cause else "info"
        self._publish(Notice(kind, text, self._clock.now_ns(), level, cause, facts))


def _line(order: Order) -> str:
    what = order.reason or f"{order.quantity}"
    return f"{stamp(order.decided_ns)} {order.symbol}: {order.action} {what} {order.instrument} at {order.price:g}"
