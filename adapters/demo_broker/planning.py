"""What a signal does to a position: the vendor's planning, as a pure function of what it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from adapters.demo_broker.rules import CONTRACT, number_of

if TYPE_CHECKING:
    from adapters.demo_broker.rules import Payload

__all__ = ["Plan", "Subscription", "plan"]

_SIDE: Final = {"bullish": 1, "long": 1, "bearish": -1, "short": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """The settings of a strategy's subscription; the defaults are those of a new strategy.

    Signal override is on, because the vendor's demand for real orders is that it be on.

    Parameters
    ----------
    quantity : int, contracts, > 0
        Of an entry that names none.
    sides : {"both", "bullish", "bearish"}
        Which positions may be opened.
    adds_to_position : bool
        Whether a `buy` when long, or a `sell` when short, adds.
    swaps_sides : bool
        Whether a `sell` when long opens a short once the exit has filled; else it only exits.
    cancels_orders : bool
        Whether working orders of the ticker are cancelled first; a signal's ``cancel`` overrides it.
    allows_override : bool
        Whether quantity, order type and bracket of a signal count.
    ignores_exits : bool
        Drops every exit.
    roots : frozenset of str
        Allowed tickers, which are roots; empty for any.
    planning_s : float, s
        From receipt until the position is read.
    execution_s : float, s
        From there until an order has filled; once more for the entry of a flip.
    """

    quantity: int = 1
    sides: Literal["both", "bullish", "bearish"] = "both"
    adds_to_position: bool = False
    swaps_sides: bool = False
    cancels_orders: bool = False
    allows_override: bool = True
    ignores_exits: bool = False
    roots: frozenset[str] = frozenset()
    planning_s: float = 0.15
    execution_s: float = 0.25

    def opens(self, side: int) -> bool:
        """Tell whether a side may be opened.

        Parameters
        ----------
        side : int
            1 long, -1 short.

        Returns
        -------
        bool
        """
        return self.sides == "both" or _SIDE[self.sides] == side


@dataclass(frozen=True, slots=True)
class Plan:
    """Orders of one signal: the entry is sent when the exit has filled.

    Parameters
    ----------
    closes : int, signed contracts
        0 for none.
    opens : int, signed contracts
        0 for none.
    """

    closes: int
    opens: int = 0


def plan(payload: Payload, position: int, subscription: Subscription) -> Plan | str:
    """Plan a signal on the position as it is seen now, which fills under way may belie.

    Parameters
    ----------
    payload : dict of str to Any
        Valid, and no `cancel`.
    position : int, signed contracts
    subscription : Subscription

    Returns
    -------
    Plan or str
        Why the trade is rejected.
    """
    unknown = _beyond(payload, subscription)
    if unknown:
        return unknown
    asked = _asked(payload, position, subscription)
    if isinstance(asked, str):
        return asked
    if payload["action"] in ("exit", "add", "reverse"):
        return _on_open(payload["action"], position, asked, subscription)
    side = 1 if payload["action"] == "buy" else -1
    sentiment = payload.get("sentiment")
    if sentiment == "flat":
        return _on_open("exit", position, None, subscription)
    if sentiment and _SIDE[sentiment] != side:  # stay on the other side: reduce, never open
        reduced = position if position * side < 0 else 0
        return _on_open("exit", reduced, asked, subscription)
    return _to_side(side, position, asked, subscription)


def _on_open(
    action: str, position: int, asked: int | None, subscription: Subscription
) -> Plan | str:
    """Plan what needs an open position."""
    if action == "exit" and subscription.ignores_exits:
        return "the subscription ignores exits"
    if position == 0:
        return f"no open position to {action}"
    side = 1 if position > 0 else -1
    if action == "exit":
        return Plan(-side * min(asked or abs(position), abs(position)))
    quantity = asked or subscription.quantity
    return Plan(0, side * quantity) if action == "add" else Plan(-position, -side * quantity)


def _to_side(side: int, position: int, asked: int | None, subscription: Subscription) -> Plan | str:
    """Plan a `buy` or a `sell` that may open its side."""
    entry = side * (asked or subscription.quantity)
    if position * side > 0:
        held = "long" if side > 0 else "short"
        return (
            Plan(0, entry)
            if subscription.adds_to_position
            else f"already {held}, and add to position is off"
        )
    if position == 0:
        return Plan(0, entry) if subscription.opens(side) else "this side is not traded"
    if subscription.swaps_sides and subscription.opens(side):
        return Plan(-position, entry)
    return Plan(side * min(asked or abs(position), abs(position)))


def _asked(payload: Payload, position: int, subscription: Subscription) -> int | str | None:
    """Return the contracts that a signal asks for, or why a broker would not take them."""
    quantity = number_of(payload.get("quantity")) if subscription.allows_override else None
    if quantity is None:
        return None
    if payload.get("quantityType") == "percent_of_position":
        share = math.floor(abs(position) * quantity / 100)
        return share or "less than one contract"
    return int(quantity) if quantity.is_integer() else "contracts are whole"


def _beyond(payload: Payload, subscription: Subscription) -> str:
    """Tell what the vendor does and the stand-in does not, before any order leaves."""
    if not CONTRACT.fullmatch(payload["ticker"]):
        return "the stand-in has no roll calendar: name a contract such as MESZ2026"
    if payload["action"] == "breakeven":
        return "the stand-in moves no stops"
    if not subscription.allows_override:
        return ""
    kind = payload.get("orderType", "market")
    stop, target = payload.get("stopLoss") or {}, payload.get("takeProfit") or {}
    for given in (kind, stop.get("type", "stop")):
        if given in ("stop_limit", "trailing_stop"):
            return f"the stand-in's broker takes no {given}"
    return "the stand-in knows no point values" if "pnlAmount" in {*stop, *target} else ""
