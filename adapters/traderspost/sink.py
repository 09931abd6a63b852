"""The sender: does what `ibs_core.delivery` plans, with the journal before every byte.

One thread sends; whoever hands orders over never waits for the receiver. SENDING is on the disk before the first byte
leaves, so an order that a crash finds PENDING was never sent, and one that it finds SENDING may have been.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

from adapters.traderspost.connection import Connection
from adapters.traderspost.tray import Tray
from ibs_core.errors import EnvironmentFault, IbsError
from ibs_core.outbox import Page
from ibs_core.outcomes import after_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from adapters.traderspost.webhook import Webhook
    from ibs_core.contracts import ContractMap
    from ibs_core.delivery import Move
    from ibs_core.outbox import Outbox
    from ibs_core.ports import Clock, Order

__all__ = ["TradersPostSink", "sender_lock"]

_SECOND: Final = 10**9
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
        `send` waits until there is nothing to do: for replays, whose time stands still meanwhile.

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
        self._route = webhook.route
        self._lock = sender_lock(webhook, locks)
        self._connection = connection or Connection(webhook)
        self._ticks, self._zero_ns = ticks, clock.now_ns() - ticks()
        self._clock, self._trading, self._page = clock, trading, page
        self._tray = Tray(
            webhook.route,
            journal,
            clock,
            now_ns=self._now_ns,
            strategy=strategy,
            contracts=contracts,
            trading=trading,
            page=page,
            life_ns=life_ns,
        )
        self._is_patient = is_patient
        self._guard = threading.Condition(threading.RLock())
        self._has_news = self._is_closing = self._is_idle = False
        self._warmed_ns = 0
        self._fault: IbsError | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"TradersPostSink({self._route!r})"

    # ------------------------------------------------------------------ for the worker

    def start(self) -> None:
        """Take up what the journal holds unsettled, and begin to send; the journal has a run.

        Raises
        ------
        ConfigError
            Some of it went to another route.
        """
        with self._guard:
            self._tray.recover()
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
                self._tray.take(order)
            self._tell()
            self._stand_still()

    def settled(self) -> list[tuple[Order, Move]]:
        """Return how orders have moved since the last call, as the journal has it already.

        Returns
        -------
        list of (Order, Move)

        Raises
        ------
        EnvironmentFault
            As `send`.
        """
        with self._guard:
            self._raise()
            if self._is_patient and self._tray.unsettled():  # market time has moved on
                self._tell()
                self._stand_still()
            return self._tray.moved()

    def unsettled(self) -> list[tuple[Order, str]]:
        """Return the orders that are not settled, dead exits among them, those of earlier runs too.

        Returns
        -------
        list of (Order, str)
            With their state, in the order of decision.
        """
        with self._guard:
            return self._tray.unsettled()

    def standing(self) -> dict[str, dict[str, str] | None]:
        """Return what was delivered last, and what went wrong since then.

        Returns
        -------
        dict of str to (dict of str to str) or None
            See `OrderSink`.
        """
        with self._guard:
            return self._tray.standing()

    def hold(self, gate: Literal["open", "reduce_only", "halted"]) -> None:
        """Let everything leave, exits only, or nothing.

        Parameters
        ----------
        gate : {"open", "reduce_only", "halted"}
        """
        with self._guard:
            self._tray.gate = gate
            self._tell()

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
        with self._guard:
            state = self._tray.resolve(order_id, verdict)
            self._tell()
            return state

    def close(self) -> None:
        """Send what is due at once, then no more; returns when that has ended."""
        with self._guard:
            self._is_closing = True
            self._tell()
        if self._thread is not None:
            self._thread.join()
        self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ------------------------------------------------------------------ the sender

    def turn(self) -> int:
        """Do what is next, one message at most; the thread does nothing else.

        Returns
        -------
        int, nanoseconds
            How long there will be nothing to do, unless something happens.
        """
        with self._guard:
            done, now_ns = self._tray.next(), self._now_ns()
            begun = self._tray.begin(done.send) if done.send else None
        if done.send is not None and begun is not None:
            attempt, body, left_ns = begun
            left_s = None if left_ns is None else left_ns / _SECOND
            response = self._connection.post(body, left_s)
            with self._guard:
                self._warmed_ns = self._now_ns()
                self._tray.end(done.send, attempt, response)
                self._guard.notify_all()
            return 0
        is_trading = bool(self._trading(self._clock.now_ns())) and not self._is_closing
        warm_ns = self._warmed_ns + _WARM_NS if is_trading else now_ns + _WARM_NS
        if done.is_probe or warm_ns <= now_ns:
            is_reached = self._connection.warm()
            with self._guard:
                self._warmed_ns = self._now_ns()
                self._tray.breaker = after_probe(
                    self._tray.breaker, self._warmed_ns, is_reached=is_reached
                )
            return 0
        wake_ns = warm_ns if done.wake_ns is None else min(warm_ns, done.wake_ns)
        return max(wake_ns - now_ns, 1)

    def _run(self) -> None:
        try:
            while True:
                wait_ns = self.turn()
                with self._guard:
                    if self._is_closing and wait_ns:
                        return
                    if wait_ns and not self._has_news:
                        self._is_idle = True
                        self._guard.notify_all()
                        self._guard.wait(wait_ns / _SECOND)
                        self._is_idle = False
                    self._has_news = False
        except IbsError as error:
            self._fail(error)
        except BaseException as error:
            self._fail(EnvironmentFault("the sender", found=type(error).__name__))
            raise

    def _now_ns(self) -> int:
        return self._zero_ns + self._ticks()

    def _tell(self) -> None:
        """Wake the sender, or let it look again before it waits."""
        self._has_news = True
        self._guard.notify_all()

    def _stand_still(self) -> None:
        """Let no market time pass while there is something to do, if it is to wait for that."""
        if self._is_patient:
            self._guard.wait_for(self._is_done, _PATIENT_S)
        self._raise()

    def _is_done(self) -> bool:
        is_over = self._fault is not None or self._is_closing or self._thread is None
        return is_over or (self._is_idle and not self._has_news)

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _fail(self, error: IbsError) -> None:
        """Stop: what cannot be written must not be sent."""
        with self._guard:
            self._fault = error
            self._guard.notify_all()
        self._page(Page("", "sender", f"nothing leaves any more: {error}"))


def sender_lock(webhook: Webhook, locks: Path) -> int:
    """Become the one sender to a webhook, until the handle is closed or the process ends.

    Parameters
    ----------
    webhook : Webhook
    locks : Path
        Folder, made where it is missing.

    Returns
    -------
    int
        An open file.

    Raises
    ------
    EnvironmentFault
        Another process sends to this webhook, or the lock cannot be made.
    """
    path, route = locks / f"{webhook.key}.sender.lock", webhook.route
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
