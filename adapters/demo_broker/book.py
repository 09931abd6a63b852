"""Accounts, their positions and orders, and the time that passes between a 200 and a fill.

A signal is planned `planning_s` after its receipt, on the position as it is then, and fills `execution_s`
later. So two signals on one ticker race as they do at the vendor: an exit planned before the entry has filled
is rejected as flat, and a second exit planned before the first has filled closes once too often. Nothing here
reads a clock: whoever asks says what time it is.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from adapters.demo_broker.planning import Plan, plan
from adapters.demo_broker.rules import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adapters.demo_broker.planning import Subscription
    from adapters.demo_broker.rules import Payload

__all__ = ["Book", "Fill", "Trade", "WorkingOrder"]

Status = Literal[
    "pending", "queued", "working", "executed", "rejected", "failed", "replaced", "cancelled"
]
Role = Literal["entry", "exit", "stop", "target"]


@dataclass(slots=True)
class Trade:
    """What became of one signal in one account; the vendor's Signals → Trades.

    Parameters
    ----------
    signal_id : str
        The ``id`` of the answer.
    account, ticker, action : str
    received_s : float, s
        By the broker's clock.
    payload : dict of str to Any
    status : str
        ``rejected``, ``failed``, ``replaced`` and ``cancelled`` were accepted with a 200 and never executed.
    reason : str
        Why not.
    """

    signal_id: str
    account: str
    ticker: str
    action: str
    received_s: float
    payload: Payload
    status: Status = "pending"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fill:
    """Contracts that changed hands.

    Parameters
    ----------
    signal_id, account, ticker : str
    role : {"entry", "exit", "stop", "target"}
    quantity : int, signed contracts
    price : float or None
        None when nobody named one.
    at_s : float, s
    position : int, signed contracts
        After it.
    """

    signal_id: str
    account: str
    ticker: str
    role: Role
    quantity: int
    price: float | None
    at_s: float
    position: int


@dataclass(frozen=True, slots=True)
class WorkingOrder:
    """An order that waits for its price.

    Parameters
    ----------
    signal_id, account, ticker : str
    role : {"entry", "exit", "stop", "target"}
        The last two are a bracket: one cancels the other.
    kind : {"limit", "stop"}
    quantity : int, signed contracts
    price : float
    """

    signal_id: str
    account: str
    ticker: str
    role: Role
    kind: Literal["limit", "stop"]
    quantity: int
    price: float

    def is_touched(self, price: float) -> bool:
        """Tell whether a price fills it.

        Parameters
        ----------
        price : float

        Returns
        -------
        bool
        """
        below = (self.kind == "limit") == (self.quantity > 0)
        return price <= self.price if below else price >= self.price


class Book:
    """Positions of one webhook's accounts; not for two threads at once.

    Parameters
    ----------
    accounts : Sequence of str
        Each executes every signal.
    subscription : Subscription
    price_of : callable, optional
        Ticker → the broker's quote; else the newest `mark`, else what the signal names.
    """

    def __init__(
        self,
        accounts: Sequence[str],
        subscription: Subscription,
        price_of: Callable[[str], float | None] | None = None,
    ) -> None:
        self._accounts: Final = tuple(accounts)
        self._subscription: Final = subscription
        self._price_of = price_of
        self._prices: dict[str, float] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count()
        self._queued: dict[tuple[str, str], Trade] = {}
        self._open = True
        self._by_place: dict[tuple[str, str], Trade] = {}
        self.trades: Final[list[Trade]] = []
        self.ended: Final[
            list[Trade]
        ] = []  # those with a reason, in the order in which they got it
        self.fills: Final[list[Fill]] = []
        self.working: Final[list[WorkingOrder]] = []

    def positions(self) -> dict[str, dict[str, int]]:
        """Return account → ticker → signed contracts, without what is flat."""
        found: dict[str, dict[str, int]] = {account: {} for account in self._accounts}
        for (account, ticker), quantity in sorted(self._held.items()):
            if quantity:
                found[account][ticker] = quantity
        return found

    def take(self, signal_id: str, payload: Payload, now_s: float, *, lost: bool = False) -> None:
        """Take a signal that was answered with a 200.

        Parameters
        ----------
        signal_id : str
        payload : dict of str to Any
        now_s : float, s
        lost : bool
            The broker fails when the order is submitted, which the vendor never retries.
        """
        self.settle(now_s)
        delay = number_of(payload.get("delay")) or 0.0
        for account in self._accounts:
            trade = Trade(signal_id, account, payload["ticker"], payload["action"], now_s, payload)
            self.trades.append(trade)
            self._by_place[signal_id, account] = trade
            step = self._failing if lost else self._planning
            self._at(now_s + delay + self._subscription.planning_s, step, trade)

    def settle(self, now_s: float) -> None:
        """Do all that is due by a time, in its order.

        Parameters
        ----------
        now_s : float, s
        """
        while self._due and self._due[0][0] <= now_s:
            at_s, _, action = heapq.heappop(self._due)
            action(at_s)

    def mark(self, ticker: str, price: float, now_s: float) -> None:
        """Let the market trade at a price, which may fill working orders.

        Parameters
        ----------
        ticker : str
        price : float
        now_s : float, s
        """
        self.settle(now_s)
        self._prices[ticker] = price
        for order in [each for each in self.working if each.ticker == ticker]:
            if order in self.working and order.is_touched(price):
                self._touched(order, price, now_s)

    def set_market(self, now_s: float, *, is_open: bool) -> None:
        """Open or close the market: signals that are planned meanwhile wait, a newer one replacing an older.

        Parameters
        ----------
        now_s : float, s
        is_open : bool
        """
        self.settle(now_s)
        self._open = is_open
        while is_open and self._queued:
            _, trade = self._queued.popitem()
            trade.status = "pending"
            self._plan(trade, now_s)

    def _at(self, at_s: float, step: Callable[[Trade, float], None], trade: Trade) -> None:
        heapq.heappush(self._due, (at_s, next(self._numbers), lambda now_s: step(trade, now_s)))

    def _failing(self, trade: Trade, _now_s: float) -> None:
        self._end(trade, "failed", "the broker failed when the order was sent")

    def _planning(self, trade: Trade, now_s: float) -> None:
        if self._open:
            self._plan(trade, now_s)
            return
        older = self._queued.pop((trade.account, trade.ticker), None)
        if older is not None:
            self._end(older, "replaced", "a newer signal came while the market was closed")
        trade.status = "queued"
        self._queued[trade.account, trade.ticker] = trade

    def _plan(self, trade: Trade, now_s: float) -> None:
        payload = trade.payload
        n_cancelled = 0
        if trade.action == "cancel" or payload.get("cancel", self._subscription.cancels_orders):
            n_cancelled = self._cancel(trade, payload.get("cancelOrderType"))
        found: Plan | str = "no open orders to cancel"
        if trade.action != "cancel":
            held = self._held[trade.account, trade.ticker]
            found = plan(payload, held, self._subscription)
        if isinstance(found, Plan):
            legs: list[tuple[Role, int]] = [("exit", found.closes), ("entry", found.opens)]
            self._send(trade, [leg for leg in legs if leg[1]], now_s)
        elif n_cancelled:
            self._end(trade, "executed", f"only cancelled {n_cancelled} orders")
        else:
            self._end(trade, "rejected", found)

    def _send(self, trade: Trade, legs: list[tuple[Role, int]], now_s: float) -> None:
        def executed(_trade: Trade, at_s: float) -> None:
            (role, quantity), *more = legs
            order = None if more else self._resting(trade, role, quantity)
            if order is None:
                self._fill(trade, role, quantity, self._price(trade), at_s)
            else:
                self._rest(trade, order, at_s)
            if more:
                self._send(trade, more, at_s)

        self._at(now_s + self._subscription.execution_s, executed, trade)

    def _resting(self, trade: Trade, role: Role, quantity: int) -> WorkingOrder | None:
        """Return the limit or stop order of a signal; None for a market order, or one without a price."""
        payload = trade.payload if self._subscription.allows_override else {}
        kind = payload.get("orderType")
        if kind not in ("limit", "stop"):
            return None
        price = number_of(payload.get(f"{kind}Price"))
        if price is None:
            return None
        return WorkingOrder(
            trade.signal_id, trade.account, trade.ticker, role, kind, quantity, price
        )

    def _rest(self, trade: Trade, order: WorkingOrder, now_s: float) -> None:
        trade.status = "working"
        self.working.append(order)
        price = self._quote(trade.ticker)
        if price is not None and order.is_touched(price):
            self._touched(order, price, now_s)
        after_s = number_of(trade.payload.get("cancelAfter"))
        if after_s is not None:
            self._at(now_s + after_s, self._expire, trade)

    def _expire(self, trade: Trade, _now_s: float) -> None:
        for order in [each for each in self.working if each.signal_id == trade.signal_id]:
            if order.role in ("entry", "exit") and order.account == trade.account:
                self._withdraw(order, "its cancelAfter has passed")

    def _touched(self, order: WorkingOrder, price: float, now_s: float) -> None:
        self.working.remove(order)
        trade = self._trade_of(order)
        at = order.price if order.kind == "limit" else price
        if order.role in ("entry", "exit"):
            self._fill(trade, order.role, order.quantity, at, now_s)
            return
        for other in [each for each in self.working if each.signal_id == order.signal_id]:
            if other.account == order.account:  # one cancels the other
                self.working.remove(other)
        self._book(trade, order.role, order.quantity, at, now_s)

    def _fill(
        self, trade: Trade, role: Role, quantity: int, price: float | None, now_s: float
    ) -> None:
        trade.status = "executed"
        self._book(trade, role, quantity, price, now_s)
        if role == "entry" and self._subscription.allows_override:
            self._protect(trade, quantity, price)

    def _book(
        self, trade: Trade, role: Role, quantity: int, price: float | None, now_s: float
    ) -> None:
        place = trade.account, trade.ticker
        self._held[place] += quantity
        held = self._held[place]
        self.fills.append(Fill(trade.signal_id, *place, role, quantity, price, now_s, held))

    def _protect(self, trade: Trade, quantity: int, price: float | None) -> None:
        """Send the bracket of an entry that has filled."""
        side = 1 if quantity > 0 else -1
        payload = trade.payload
        legs: tuple[tuple[Role, Literal["limit", "stop"], str, str, int], ...] = (
            ("stop", "stop", "stopLoss", "stopPrice", -side),
            ("target", "limit", "takeProfit", "limitPrice", side),
        )
        for role, kind, name, absolute, sign in legs:
            bracket: dict[str, Any] = payload.get(name) or {}
            level = number_of(bracket.get(absolute))
            if level is None and price is not None:
                percent, amount = number_of(bracket.get("percent")), bracket.get("amount")
                away = price * percent / 100 if percent else number_of(amount)
                level = None if away is None else price + sign * away
            if level is not None:
                order = WorkingOrder(
                    trade.signal_id, trade.account, trade.ticker, role, kind, -quantity, level
                )
                self.working.append(order)

    def _cancel(self, trade: Trade, kind: str | None) -> int:
        mine = [
            order
            for order in self.working
            if (order.account, order.ticker) == (trade.account, trade.ticker)
            and kind in (None, order.kind)
        ]
        for order in mine:
            self._withdraw(order, "a later signal cancelled it")
        return len(mine)

    def _withdraw(self, order: WorkingOrder, reason: str) -> None:
        self.working.remove(order)
        trade = self._trade_of(order)
        if order.role in ("entry", "exit"):
            self._end(trade, "cancelled", reason)

    def _end(self, trade: Trade, status: Status, reason: str) -> None:
        trade.status, trade.reason = status, reason
        self.ended.append(trade)

    def _trade_of(self, order: WorkingOrder) -> Trade:
        return self._by_place[order.signal_id, order.account]

    def _quote(self, ticker: str) -> float | None:
        quoted = self._price_of(ticker) if self._price_of else None
        return self._prices.get(ticker) if quoted is None else quoted

    def _price(self, trade: Trade) -> float | None:
        """Return the quote, else the first price that the signal names."""
        quoted = self._quote(trade.ticker)
        names = ("signalPrice", "price", "limitPrice", "stopPrice")
        named = (number_of(trade.payload.get(name)) for name in names)
        return (
            next((each for each in named if each is not None), None) if quoted is None else quoted
        )
