"""The sender: does what `ibs_core.delivery` plans, with the journal before every byte.

One thread sends; whoever hands orders over never waits for the receiver. SENDING is on the disk before the first byte
leaves, so an order that a crash finds PENDING was never sent, and one that it finds SENDING may have been.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from adapters.traderspost.connection import Connection
from ibs_core.delivery import Move, Plan, Send, View, matters, plan
from ibs_core.errors import DataError, EnvironmentFault, IbsError
from ibs_core.outbox import Attempt, Delivery, Page, resolution, settle
from ibs_core.outcomes import Breaker, Response, after_attempt, after_probe
from ibs_core.payload import body_of, flattening

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from adapters.traderspost.webhook import Webhook
    from ibs_core.contracts import ContractMap
    from ibs_core.outbox import Outbox
    from ibs_core.ports import Clock, Order

__all__ = ["TradersPostSink"]

_SECOND: Final = 10**9
_HOUR_NS: Final = 3600 * _SECOND
_WARM_NS: Final = 30 * _SECOND
_PATIENT_S: Final = 30.0


class TradersPostSink:
    """Sends orders to one webhook; an `OrderSink`.

    Parameters
    ----------
    webhook : Webhook
    journal : Outbox
    clock : Clock
    strategy : str
        Name of it, for the record.
    contracts : ContractMap
    trading : callable
        Given UTC ns, returns the symbols whose market is open and does not close within moments: entries of
        others are not sent, for the receiver would keep them until the next open.
    page : callable
        Given a `Page`, calls a person; it must not wait.
    locks : Path
        Folder for the lock of the webhook, shared by every process that may send to it.
    life_ns : int, nanoseconds
        How old an entry may be when it leaves: see `entry_life_ns`.
    connection : Connection, optional
    ticks : callable, optional
        A clock that never goes back, ns.
    is_patient : bool
        `send` waits until each order was tried: for replays, whose time stands still meanwhile.

    Raises
    ------
    EnvironmentFault
        Another process sends to this webhook, or the lock cannot be made.
    """

    def __init__(
        self,
        webhook: Webhook,
        journal: Outbox,
        clock: Clock,
        *,
        strategy: str,
        contracts: ContractMap,
        trading: Callable[[int], Collection[str]],
        page: Callable[[Page], None],
        locks: Path,
        life_ns: int = 10 * _SECOND,
        connection: Connection | None = None,
        ticks: Callable[[], int] = time.monotonic_ns,
        is_patient: bool = False,
    ) -> None:
        self._webhook, self._journal, self._clock = webhook, journal, clock
        self._strategy, self._contracts = strategy, contracts
        self._trading, self._page, self._life_ns = trading, page, life_ns
        self._is_patient = is_patient
        self._lock = _lock(locks / f"{webhook.key}.sender.lock", webhook.route)
        self._connection = connection or Connection(webhook)
        self._ticks, self._zero_ns = ticks, clock.now_ns() - ticks()
        self._guard = threading.Condition(threading.RLock())
        self._deliveries: dict[str, Delivery] = {}
        self._parked: dict[str, Delivery] = {}
        self._bodies: dict[str, str] = {}
        self._entries_ns: list[int] = []
        self._all_ns: list[int] = []
        self._breaker = Breaker()
        self._gate: Literal["open", "reduce_only", "halted"] = "open"
        self._moved: list[tuple[Order, Move]] = []
        self._warmed_ns = 0
        self._fault: IbsError | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"TradersPostSink({self._webhook.route!r})"

    # ------------------------------------------------------------------ for the worker

    def start(self) -> None:
        """Take up what the journal holds unsettled, and begin to send; the journal has a run."""
        self.recover()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def send(self, orders: Sequence[Order]) -> None:
        """Take orders that are PENDING in the journal.

        Parameters
        ----------
        orders : sequence of Order

        Raises
        ------
        EnvironmentFault
            The journal cannot be written any more, and nothing leaves.
        """
        with self._guard:
            self._raise()
            for order in orders:
                self._take(order)
            self._guard.notify_all()
            if self._is_patient:
                ids = [each.order_id for each in orders]
                self._guard.wait_for(lambda: all(map(self._is_tried, ids)), _PATIENT_S)
            self._raise()

    def settled(self) -> list[tuple[Order, Move]]:
        """Return how orders have moved since the last call, as the journal has it already.

        Returns
        -------
        list of (Order, Move)
        """
        with self._guard:
            self._raise()
            moved, self._moved = self._moved, []
            return moved

    def hold(self, gate: Literal["open", "reduce_only", "halted"]) -> None:
        """Let everything leave, exits only, or nothing.

        Parameters
        ----------
        gate : {"open", "reduce_only", "halted"}
        """
        with self._guard:
            self._gate = gate
            self._guard.notify_all()

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
            The sender does not know the order: it is settled.
        """
        with self._guard:
            delivery = self._deliveries.get(order_id)
            if delivery is None:
                raise DataError(f"order {order_id!r}", expected="one that is not settled")
            state = resolution(delivery.order, delivery.state, verdict)
            if state == "PENDING":
                delivery = replace(delivery, taken_ns=self._now_ns(), paged=frozenset())
            self._move(delivery, state, f"by an operator: {verdict}")
            self._guard.notify_all()
            return state

    def close(self) -> None:
        """Send no more; returns when what is under way has ended."""
        with self._guard:
            self._is_closing = True
            self._guard.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ------------------------------------------------------------------ the sender

    def recover(self) -> None:
        """Take up what the journal holds unsettled: SENDING has an unknown outcome, PENDING was not sent.

        Orders that are PENDING are sent when they are handed over.
        """
        with self._guard:
            now_ns = self._now_ns()
            for each in self._journal.deliveries(self._clock.now_ns() - _HOUR_NS):
                attempts = tuple(
                    replace(one, started_ns=min(one.started_ns, now_ns)) for one in each.attempts
                )
                delivery = replace(each, attempts=attempts, taken_ns=now_ns)
                for one in attempts:
                    self._count(delivery, one)
                if delivery.state == "PENDING":
                    self._parked[each.order.order_id] = delivery
                    continue
                self._deliveries[each.order.order_id] = delivery
                if delivery.state == "SENDING":
                    cut = replace(attempts[-1], response=Response("AMBIGUOUS", detail="crash"))
                    state, why, page = settle(delivery, cut, ())
                    assert state == "AMBIGUOUS", state
                    self._move(delivery, state, why)
                    self._call(page)
            self._entries_ns.sort()
            self._all_ns.sort()

    def turn(self) -> int | None:
        """Do what is next, one message at most.

        Returns
        -------
        int or None, nanoseconds
            How long nothing will be to do, unless something happens; None: for ever.
        """
        with self._guard:
            done = self._plan()
            while done.moves or done.pages:
                for move in done.moves:
                    self._move(self._deliveries[move.order_id], move.state, move.why)
                for page in done.pages:
                    self._call(page)
                done = self._plan()
            now_ns = self._now_ns()
            sending = self._begin(done.send) if done.send else None
        if sending is not None:
            self._deliver(*sending)
            return 0
        is_cold = now_ns - self._warmed_ns >= _WARM_NS and self._trading(self._clock.now_ns())
        if done.is_probe or is_cold:
            is_reached = self._connection.warm()
            with self._guard:
                self._warmed_ns = now_ns = self._now_ns()
                self._breaker = after_probe(self._breaker, now_ns, is_reached=is_reached)
            return 0
        wakes = [self._warmed_ns + _WARM_NS, *([done.wake_ns] if done.wake_ns else [])]
        return max(min(wakes) - now_ns, 0)

    def _run(self) -> None:
        try:
            while not self._is_closing:
                wait_ns = self.turn()
                with self._guard:
                    # A wake that came during the turn is in the deliveries, which are looked at again.
                    if wait_ns and not self._is_closing and not self._has_news:
                        self._guard.wait(min(wait_ns / _SECOND, 60.0))
                    self._has_news = False
        except IbsError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(EnvironmentFault("the sender", found=type(error).__name__))
            raise

    _has_news = False

    def _plan(self) -> Plan:
        now_ns, wall_ns = self._now_ns(), self._clock.now_ns()
        gone = [name for name, each in self._deliveries.items() if not matters(each, now_ns)]
        for name in gone:
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
                breaker=self._breaker,
                gate=self._gate,
                life_ns=self._life_ns,
            )
        )

    def _begin(self, send: Send) -> tuple[Delivery, Attempt, str]:
        """Put on the disk that an order is about to be sent."""
        delivery, now_ns = self._deliveries[send.order_id], self._now_ns()
        body = self._body(delivery.order, flattens=send.flattens)
        number = self._journal.begin_attempt(
            send.order_id,
            self._clock.now_ns(),
            body=body,
            route=self._webhook.route,
            flattens=send.flattens,
        )
        attempt = Attempt(number, now_ns, send.flattens)
        state = delivery.state if send.flattens else "SENDING"
        delivery = replace(delivery, state=state, attempts=(*delivery.attempts, attempt))
        self._deliveries[send.order_id] = delivery
        return delivery, attempt, body

    def _deliver(self, delivery: Delivery, attempt: Attempt, body: str) -> None:
        """Send one message, and put on the disk what is known of it."""
        opens = delivery.is_entry and not attempt.flattens
        left_ns = delivery.stale_ns(self._life_ns) - self._now_ns() if opens else None
        response = self._connection.post(body, None if left_ns is None else left_ns / _SECOND)
        with self._guard:
            now_ns = self._warmed_ns = self._now_ns()
            ended = replace(attempt, ended_ns=now_ns, response=response)
            delivery = replace(delivery, attempts=(*delivery.attempts[:-1], ended))
            self._count(delivery, ended)
            self._breaker = after_attempt(self._breaker, response, now_ns, is_entry=opens)
            state, why, page = settle(delivery, ended, tuple(self._deliveries.values()))
            self._journal.end_attempt(
                attempt.number, self._clock.now_ns(), response, state=state, why=why
            )
            order_id = delivery.order.order_id
            self._deliveries[order_id] = replace(delivery, state=state or delivery.state)
            if state is not None:
                self._moved.append((delivery.order, Move(order_id, state, why)))
            self._call(page)
            self._guard.notify_all()

    def _take(self, order: Order) -> None:
        if order.order_id in self._deliveries:
            return
        age_ns = max(self._clock.now_ns() - order.decided_ns, 0)
        delivery = self._parked.pop(order.order_id, Delivery(order))
        delivery = replace(delivery, taken_ns=self._now_ns(), age_ns=age_ns)
        self._deliveries[order.order_id] = delivery
        self._has_news = True
        try:
            self._body(order)
        except DataError as error:  # the receiver would refuse it; the journal says why
            self._move(delivery, "DEAD", str(error))
            self._call(Page(order.order_id, "refused", f"{order.action} {order.order_id}: {error}"))

    def _body(self, order: Order, *, flattens: bool = False) -> str:
        if flattens:
            return body_of(flattening(order), self._strategy, self._contracts)
        name = order.order_id
        if name not in self._bodies:
            frozen = self._journal.body(name) if self._deliveries[name].attempts else None
            self._bodies[name] = frozen or body_of(order, self._strategy, self._contracts)
        return self._bodies[name]

    def _move(self, delivery: Delivery, state: str, why: str) -> None:
        order = delivery.order
        self._journal.order_state(order.order_id, state, self._clock.now_ns(), why)
        self._deliveries[order.order_id] = replace(delivery, state=state)
        self._moved.append((order, Move(order.order_id, state, why)))

    def _call(self, page: Page | None) -> None:
        """Call a person, once an order and cause."""
        if page is None:
            return
        delivery = self._deliveries.get(page.order_id)
        if delivery is not None:
            if page.cause in delivery.paged:
                return
            self._deliveries[page.order_id] = replace(delivery, paged=delivery.paged | {page.cause})
        facts = {"order_id": page.order_id, "cause": page.cause, "text": page.text}
        self._journal.event(self._clock.now_ns(), "page", facts)
        self._page(page)

    def _count(self, delivery: Delivery, attempt: Attempt) -> None:
        """Count an attempt against the receiver's limits, unless it never got there."""
        if attempt.outcome == "NOT_SENT":
            return
        self._all_ns.append(attempt.started_ns)
        if delivery.is_entry and not attempt.flattens:
            self._entries_ns.append(attempt.started_ns)

    def _is_tried(self, order_id: str) -> bool:
        delivery = self._deliveries.get(order_id)
        if self._fault is not None or self._is_closing or delivery is None:
            return True
        return delivery.state not in ("PENDING", "SENDING") or any(
            each.response is not None for each in delivery.attempts
        )

    def _now_ns(self) -> int:
        return self._zero_ns + self._ticks()

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _fail(self, error: IbsError) -> None:
        """Stop: what cannot be written must not be sent."""
        with self._guard:
            self._fault = error
            self._guard.notify_all()
        self._page(Page("", "sender", f"nothing leaves any more: {error}"))


def _lock(path: Path, route: str) -> int:
    """Become the one sender to a webhook, until the handle is closed or the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EnvironmentFault(
            f"lock of route {route!r}", found=error.strerror or str(error), where=str(path)
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise EnvironmentFault(
            f"another process sends to route {route!r}",
            where=str(path),
            remedy="end it first: one sender a webhook",
        ) from None
    return handle
