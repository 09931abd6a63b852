"""The orders that a sender has before it, as the journal has them: every step is on the disk before it is believed."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from ibs_core.delivery import Move, Plan, Send, View, matters, plan
from ibs_core.errors import DataError
from ibs_core.outbox import Attempt, Delivery, Page, resolution, settle
from ibs_core.outcomes import Breaker, Response, after_attempt
from ibs_core.payload import body_of, flattening

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ibs_core.contracts import ContractMap
    from ibs_core.outbox import Outbox
    from ibs_core.ports import Clock, Order

__all__ = ["Tray"]

_HOUR_NS: Final = 3600 * 10**9


class Tray:
    """The orders of one route; for one thread at a time.

    Parameters
    ----------
    route : str
    journal : Outbox
    clock : Clock
        Of the records.
    now_ns : callable
        UTC ns on a clock that never goes back: of all waits.
    strategy : str
    contracts : ContractMap
    trading : callable
        Given UTC ns, returns the symbols whose entries may leave.
    page : callable
    life_ns : int, nanoseconds
        Of an entry.
    """

    def __init__(
        self,
        route: str,
        journal: Outbox,
        clock: Clock,
        *,
        now_ns: Callable[[], int],
        strategy: str,
        contracts: ContractMap,
        trading: Callable[[int], Collection[str]],
        page: Callable[[Page], None],
        life_ns: int,
    ) -> None:
        self._route, self._journal, self._clock = route, journal, clock
        self._now_ns, self._trading, self._page = now_ns, trading, page
        self._strategy, self._contracts = strategy, contracts
        self._life_ns = life_ns
        self._deliveries: dict[str, Delivery] = {}
        self._parked: dict[str, Delivery] = {}  # PENDING, and not handed over since the start
        self._bodies: dict[str, str] = {}
        self._entries_ns: list[int] = []
        self._all_ns: list[int] = []
        self._moved: list[tuple[Order, Move]] = []
        self.breaker = Breaker()
        self.gate: Literal["open", "reduce_only", "halted"] = "open"

    def recover(self) -> None:
        """Take up what the journal holds unsettled: SENDING has an unknown outcome, PENDING was not sent."""
        now_ns = self._now_ns()
        for each in self._journal.deliveries(self._clock.now_ns() - _HOUR_NS):
            attempts = tuple(
                replace(one, started_ns=min(one.started_ns, now_ns)) for one in each.attempts
            )
            delivery = replace(each, attempts=attempts, taken_ns=now_ns)
            for one in attempts:
                self._count(one, opens=delivery.is_entry and not one.flattens)
            order_id = each.order.order_id
            if delivery.state == "PENDING":
                self._parked[order_id] = delivery
                continue
            self._deliveries[order_id] = delivery
            if delivery.state == "SENDING":
                cut = replace(attempts[-1], response=Response("AMBIGUOUS", detail="crash"))
                state, why, page = settle(delivery, cut, ())
                self._call(page)
                self._move(order_id, state or "AMBIGUOUS", why)

    def take(self, order: Order) -> None:
        """Take an order that is PENDING in the journal; one that is here already stays as it is.

        Parameters
        ----------
        order : Order
        """
        if order.order_id in self._deliveries:
            return
        age_ns = max(self._clock.now_ns() - order.decided_ns, 0)
        delivery = self._parked.pop(order.order_id, Delivery(order))
        delivery = replace(delivery, taken_ns=self._now_ns(), age_ns=age_ns)
        self._deliveries[order.order_id] = delivery
        try:
            self._body(order)
        except DataError as error:  # the receiver would refuse it; the journal says why
            self._call(Page(order.order_id, "refused", f"{order.action} {order.order_id}: {error}"))
            self._move(order.order_id, "DEAD", str(error))

    def next(self) -> Plan:
        """Do all that needs no message, and tell what is next.

        Returns
        -------
        Plan
            Without moves and pages: they are done.
        """
        done = self._plan()
        while done.moves or done.pages:
            for move in done.moves:
                self._move(move.order_id, move.state, move.why)
            for page in done.pages:
                self._call(page)
            done = self._plan()
        return done

    def begin(self, send: Send) -> tuple[Attempt, str, int | None]:
        """Put on the disk that an order is about to be sent.

        Parameters
        ----------
        send : Send

        Returns
        -------
        attempt : Attempt
        body : str
        left_ns : int or None, nanoseconds
            Within which an entry must leave.
        """
        delivery, now_ns = self._deliveries[send.order_id], self._now_ns()
        order, opens = delivery.order, delivery.is_entry and not send.flattens
        body = self._body(order, flattens=send.flattens)
        number = self._journal.begin_attempt(
            send.order_id,
            self._clock.now_ns(),
            body=body,
            route=self._route,
            flattens=send.flattens,
        )
        attempt = Attempt(number, now_ns, send.flattens)
        self._deliveries[send.order_id] = replace(
            delivery,
            state=delivery.state if send.flattens else "SENDING",
            attempts=(*delivery.attempts, attempt),
        )
        return attempt, body, delivery.stale_ns(self._life_ns) - now_ns if opens else None

    def end(self, send: Send, attempt: Attempt, response: Response) -> None:
        """Put on the disk what is known of an attempt.

        Parameters
        ----------
        send : Send
        attempt : Attempt
        response : Response
        """
        now_ns, delivery = self._now_ns(), self._deliveries[send.order_id]
        ended = replace(attempt, ended_ns=now_ns, response=response)
        delivery = replace(delivery, attempts=(*delivery.attempts[:-1], ended))
        opens = delivery.is_entry and not send.flattens
        self._count(ended, opens=opens)
        self.breaker = after_attempt(self.breaker, response, now_ns, is_entry=opens)
        state, why, page = settle(delivery, ended, tuple(self._deliveries.values()))
        if send.flattens and delivery.state != "AMBIGUOUS":
            state = None  # an operator resolved it meanwhile
        self._call(page)  # before it is settled: killed in between, the call is made again
        delivery = replace(delivery, paged=self._deliveries[send.order_id].paged)
        self._journal.end_attempt(
            attempt.number, self._clock.now_ns(), response, state=state, why=why
        )
        self._deliveries[send.order_id] = replace(delivery, state=state or delivery.state)
        if state is not None:
            self._moved.append((delivery.order, Move(send.order_id, state, why)))

    def resolve(self, order_id: str, verdict: str) -> str:
        """Do what an operator says of an order.

        Parameters
        ----------
        order_id : str
        verdict : str
            See `resolution`.

        Returns
        -------
        str
            The state to which the order has moved.

        Raises
        ------
        ConfigError
            The verdict does not fit.
        DataError
            The order is settled.
        """
        delivery = self._deliveries.get(order_id)
        if delivery is None:
            raise DataError(f"order {order_id!r}", expected="one that is not settled")
        state = resolution(delivery.order, delivery.state, verdict)
        if state == "PENDING":
            again = replace(delivery, taken_ns=self._now_ns(), paged=frozenset())
            self._deliveries[order_id] = again
        self._move(order_id, state, f"by an operator: {verdict}")
        return state

    def moved(self) -> list[tuple[Order, Move]]:
        """Return how orders have moved since the last call.

        Returns
        -------
        list of (Order, Move)
        """
        moved, self._moved = self._moved, []
        return moved

    def was_tried(self, order_id: str) -> bool:
        """Tell whether an order was tried or settled since it was taken.

        Parameters
        ----------
        order_id : str

        Returns
        -------
        bool
        """
        delivery = self._deliveries.get(order_id)
        if delivery is None or delivery.state not in ("PENDING", "SENDING"):
            return True
        return any(each.response is not None for each in delivery.attempts)

    def _plan(self) -> Plan:
        now_ns, wall_ns = self._now_ns(), self._clock.now_ns()
        for name in [name for name, each in self._deliveries.items() if not matters(each, now_ns)]:
            del self._deliveries[name]
            self._bodies.pop(name, None)
        for starts in (self._entries_ns, self._all_ns):
            del starts[: bisect_right(starts, now_ns - _HOUR_NS)]
        return plan(
            View(
                now_ns=now_ns,
                wall_ns=wall_ns,
                deliveries=list(self._deliveries.values()),
                trading=self._trading(wall_ns),
                entries_ns=self._entries_ns,
                all_ns=self._all_ns,
                breaker=self.breaker,
                gate=self.gate,
                life_ns=self._life_ns,
            )
        )

    def _body(self, order: Order, *, flattens: bool = False) -> str:
        if flattens:
            return body_of(flattening(order), self._strategy, self._contracts)
        name = order.order_id
        if name not in self._bodies:
            frozen = self._journal.body(name) if self._deliveries[name].attempts else None
            self._bodies[name] = frozen or body_of(order, self._strategy, self._contracts)
        return self._bodies[name]

    def _move(self, order_id: str, state: str, why: str) -> None:
        self._journal.order_state(order_id, state, self._clock.now_ns(), why)
        delivery = self._deliveries[order_id]
        self._deliveries[order_id] = replace(delivery, state=state)
        self._moved.append((delivery.order, Move(order_id, state, why)))

    def _call(self, page: Page | None) -> None:
        """Call a person, once an order and cause."""
        if page is None:
            return
        delivery = self._deliveries[page.order_id]
        if page.cause in delivery.paged:
            return
        self._deliveries[page.order_id] = replace(delivery, paged=delivery.paged | {page.cause})
        facts = {"order_id": page.order_id, "cause": page.cause, "text": page.text}
        self._journal.event(self._clock.now_ns(), "page", facts)
        self._page(page)

    def _count(self, attempt: Attempt, *, opens: bool) -> None:
        """Count an attempt against the receiver's limits, unless it never got there."""
        if attempt.outcome == "NOT_SENT":
            return
        insort(self._all_ns, attempt.started_ns)
        if opens:
            insort(self._entries_ns, attempt.started_ns)
