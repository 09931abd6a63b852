"""The orders that a sender has before it, as the journal has them: every step is on the disk before it is believed."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from ibs_core.delivery import Move, Plan, Send, View, is_behind, matters, plan
from ibs_core.errors import ConfigError, DataError
from ibs_core.market_data.runs import stamp
from ibs_core.outbox import Attempt, Delivery, Page, resolution, settle
from ibs_core.outcomes import Breaker, Response, after_attempt
from ibs_core.payload import body_of, flattening

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

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
        self._behind: dict[str, dict[str, Delivery]] = {}  # by contract: see `is_behind`
        self._places: dict[str, int] = {}  # in which the deliveries were taken
        self._n_taken = 0
        self._bodies: dict[str, str] = {}
        self._entries_ns: list[int] = []
        self._all_ns: list[int] = []
        self._moved: list[tuple[Order, Move]] = []
        self._standing: dict[str, dict[str, str] | None] = {
            "last_success": None,
            "last_error": None,
        }
        self.breaker = Breaker()
        self.gate: Literal["open", "reduce_only", "halted"] = "open"

    def recover(self) -> None:
        """Take up what the journal holds unsettled: SENDING has an unknown outcome, PENDING was not sent.

        Raises
        ------
        ConfigError
            Some of it went to another route.
        """
        now_ns = self._now_ns()
        held = self._journal.deliveries(self._clock.now_ns() - _HOUR_NS)
        self._refuse_others(held)
        for each in held:
            attempts = tuple(_past(one, now_ns) for one in each.attempts)
            delivery = replace(each, attempts=attempts, taken_ns=now_ns)
            for one in attempts:
                self._count(one, opens=delivery.is_entry and not one.flattens)
            if delivery.state == "PENDING":
                self._parked[each.order.order_id] = delivery
                continue
            self._keep(delivery)
            if delivery.state == "SENDING":
                cut = replace(attempts[-1], response=Response("AMBIGUOUS", detail="crash"))
                state, why, page = settle(delivery, cut, ())
                self._call(page)
                self._move(each.order.order_id, state or "AMBIGUOUS", why)

    def take(self, order: Order) -> None:
        """Take an order that is PENDING in the journal; one that is here already stays as it is.

        Parameters
        ----------
        order : Order
        """
        if self._find(order.order_id) is not None:
            return
        age_ns = max(self._clock.now_ns() - order.decided_ns, 0)
        delivery = self._parked.pop(order.order_id, Delivery(order))
        self._keep(replace(delivery, taken_ns=self._now_ns(), age_ns=age_ns))
        try:
            self._body(order)
        except DataError as error:  # the receiver would refuse it; the journal says why
            self._call(Page(order.order_id, "refused", f"{order.action} {order.order_id}: {error}"))
            self._move(order.order_id, "DEAD", str(error))
            self._stand(order, "last_error", f"not sent: {error}")

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
        was_open = self.breaker.opened_ns > 0
        self.breaker = after_attempt(self.breaker, response, now_ns, is_entry=opens)
        if response.outcome == "NOT_SENT" and self.breaker.opened_ns and not was_open:
            text = (
                f"route {self._route!r} is in trouble, its entries wait or expire: {response.said}"
            )
            self._page(Page("", "route in trouble", text))
        is_success = response.outcome == "ACCEPTED"
        self._stand(delivery.order, "last_success" if is_success else "last_error", response.said)
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
        if (parked := self._parked.pop(order_id, None)) is not None:
            self._keep(parked)
        delivery = self._find(order_id)
        if delivery is None:
            raise DataError(f"order {order_id!r}", expected="one that is not settled")
        self._rejoin(delivery)
        state = resolution(delivery.order, delivery.state, verdict, delivery.closing())
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

    def unsettled(self) -> list[tuple[Order, str]]:
        """Return the orders that are not settled, dead exits among them, also those not handed over yet.

        Returns
        -------
        list of (Order, str)
            With their state, in the order of decision.
        """
        held = [(each, "PENDING") for each in self._journal.unsent()]
        known = (each for each in self._deliveries.values() if each.is_unsettled)
        held += [(each.order, each.state) for each in known if each.state != "PENDING"]
        return sorted(held, key=lambda each: each[0].decided_ns)

    def standing(self) -> dict[str, dict[str, str] | None]:
        """Return what was delivered last, and what went wrong since then.

        Returns
        -------
        dict of str to (dict of str to str) or None
            See `OrderSink`.
        """
        return dict(self._standing)

    def _plan(self) -> Plan:
        now_ns, wall_ns = self._now_ns(), self._clock.now_ns()
        self._tidy(now_ns)
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

    def _tidy(self, now_ns: int) -> None:
        """Forget what is done, and lay aside exits that wait behind another: a plan looks at all that is left."""
        leading = set()
        for name, each in list(self._deliveries.items()):
            contract = each.order.instrument
            if not matters(each, now_ns):
                del self._deliveries[name], self._places[name]
                self._bodies.pop(name, None)
            elif each.is_open and not each.is_entry:
                if contract in leading and is_behind(each):
                    self._behind.setdefault(contract, {})[name] = self._deliveries.pop(name)
                leading.add(contract)
        for contract in [each for each in self._behind if each not in leading]:
            self._rejoin(next(iter(self._behind[contract].values())))

    def _keep(self, delivery: Delivery) -> None:
        name = delivery.order.order_id
        self._places[name], self._n_taken = self._n_taken, self._n_taken + 1
        self._deliveries[name] = delivery

    def _find(self, order_id: str) -> Delivery | None:
        behind = (each[order_id] for each in self._behind.values() if order_id in each)
        return self._deliveries.get(order_id) or next(behind, None)

    def _rejoin(self, delivery: Delivery) -> None:
        """Put what waits behind another among the rest, in its place."""
        name, contract = delivery.order.order_id, delivery.order.instrument
        if name in self._deliveries:
            return
        del self._behind[contract][name]
        if not self._behind[contract]:
            del self._behind[contract]
        self._deliveries[name] = delivery
        in_place = sorted(self._deliveries.items(), key=lambda each: self._places[each[0]])
        self._deliveries = dict(in_place)

    def _refuse_others(self, held: Sequence[Delivery]) -> None:
        """Refuse a journal whose orders another receiver has: an exit would close nothing here."""
        others = [
            each for each in held if each.is_unsettled and each.route not in ("", self._route)
        ]
        if others:
            first = others[0]
            raise ConfigError(
                f"{len(others)} orders of the journal are not settled",
                expected=f"route {self._route!r}, as one journal serves one route",
                found=f"{first.order.order_id} {first.state} on route {first.route!r}",
                remedy="start with that route, settle them with `ibs orders resolve`, or begin another journal",
            )

    def _stand(self, order: Order, what: Literal["last_success", "last_error"], text: str) -> None:
        """Note how delivery stands; a success clears the error."""
        self._standing["last_error"] = None
        self._standing[what] = {
            "at": stamp(self._clock.now_ns()),
            "kind": order.action,
            "symbol": order.symbol,
            "message": text,
        }

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
        self._page(page)  # first: killed in between, a person is called twice rather than never
        self._journal.event(self._clock.now_ns(), "page", facts)

    def _count(self, attempt: Attempt, *, opens: bool) -> None:
        """Count an attempt against the receiver's limits, unless it never got there."""
        if attempt.outcome == "NOT_SENT":
            return
        insort(self._all_ns, attempt.started_ns)
        if opens:
            insort(self._entries_ns, attempt.started_ns)


def _past(attempt: Attempt, now_ns: int) -> Attempt:
    """Take an attempt of a clock that has been set back since for one that has just ended."""
    ended_ns = None if attempt.ended_ns is None else min(attempt.ended_ns, now_ns)
    return replace(attempt, started_ns=min(attempt.started_ns, now_ns), ended_ns=ended_ns)
