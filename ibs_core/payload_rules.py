"""What TradersPost refuses, as rules on one payload: a 400 is then a bug of ours, found before anything is sent.

Names in quotes are the receiver's own ``messageCode``. Where its pages leave a choice the stricter reading holds, and
what it would take and reinterpret (a limit order without a price, a name it does not know) is refused as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Refusal", "check_payload", "refusals"]

_TICKER: Final = re.compile(r"[A-Z0-9]+[FGHJKMNQUVXZ]20\d\d", re.ASCII)
_LATER: Final = re.compile(r"\+\d+ (second|minute|hour|day)s?", re.ASCII)
_TRADES: Final = ("buy", "sell")
_CHOICES: Final = {
    "action": ("buy", "sell", "exit", "cancel", "add", "breakeven", "reverse"),
    "sentiment": ("bullish", "bearish", "flat", "long", "short"),
    "orderType": ("market", "limit", "stop", "stop_limit", "trailing_stop"),
    "timeInForce": ("day", "gtc", "opg", "cls", "ioc", "fok"),
    "marketPriceType": ("ask_bid", "mark", "ask", "bid", "last"),
    "quantityType": (
        "fixed_quantity",
        "dollar_amount",
        "risk_dollar_amount",
        "risk_percent",
        "percent_of_equity",
        "percent_of_position",
    ),
}
_OF_FUTURES: Final = ("fixed_quantity", "percent_of_position")
_PRICES: Final = ("limitPrice", "stopPrice", "signalPrice", "price")
_KINDS: Final = {
    **dict.fromkeys(_PRICES, ("invalid-payload", "a finite number")),
    "trailAmount": ("invalid-trailing-stop", "a number above 0"),
    "trailPercent": ("invalid-trailing-stop", "a number above 0"),
    "bidAskSpreadFilter": ("invalid-payload", "a number above 0"),
    "breakevenOffset": ("invalid-payload", "a finite number"),
    "cancel": ("invalid-payload", "true or false"),
    "ignoreTradingWindows": ("invalid-payload", "true or false"),
    "extendedHours": ("invalid-extended-hours", "none: it is for stocks and options"),
    "interval": ("invalid-payload", "a text"),
    "cancelOrderType": ("invalid-payload", "a text"),
    "extras": ("invalid-payload", "an object"),
}
_OTHERS: Final = ("ticker", "quantity", "takeProfit", "stopLoss", "time", "expiresAt")
_SPANS: Final = {"cancelAfter": (1, 3600), "delay": (0, 3600)}
_KNOWN: Final = frozenset((*_CHOICES, *_KINDS, *_OTHERS, *_SPANS))
_NEEDED: Final = {
    "limit": ("limitPrice",),
    "stop": ("stopPrice",),
    "stop_limit": ("stopPrice", "limitPrice"),
}
_STOPS: Final = ("percent", "amount", "stopPrice", "trailAmount", "trailPercent", "pnlAmount")
_PROFITS: Final = ("limitPrice", "percent", "amount", "pnlAmount")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule that a payload breaks.

    Parameters
    ----------
    code : str
        The receiver's ``messageCode``, or the nearest to it.
    field : str
    expected, found : str
    """

    code: str
    field: str
    expected: str
    found: str


def check_payload(
    payload: Mapping[str, Any], order_id: str, *, tick_nano: int | None = None
) -> None:
    """Refuse a payload that the receiver would refuse, or read otherwise than it was meant.

    Parameters
    ----------
    payload : Mapping of str to Any
    order_id : str
    tick_nano : int, units of 1e-9, optional
        Prices must be multiples of it.

    Raises
    ------
    DataError
    """
    for broken in refusals(payload, tick_nano):
        raise DataError(
            f"payload of order {order_id}",
            expected=broken.expected,
            found=broken.found,
            where=f"{broken.field} ({broken.code})",
        )


def refusals(payload: Mapping[str, Any], tick_nano: int | None = None) -> Iterator[Refusal]:
    """Tell every rule that a payload breaks.

    Parameters
    ----------
    payload : Mapping of str to Any
    tick_nano : int, units of 1e-9, optional

    Yields
    ------
    Refusal
    """
    if not payload:
        yield Refusal("empty-json", "payload", "a ticker and an action", "nothing")
        return
    for name in sorted(set(payload) - _KNOWN):
        yield Refusal("invalid-payload", name, "a name that the receiver reads", "another")
    yield from _values(payload)
    yield from _ticker_and_action(payload)
    yield from _quantity(payload)
    yield from _order_type(payload)
    yield from _bracket(payload.get("takeProfit"), "takeProfit", "take-profit", _PROFITS)
    yield from _stop_loss(payload.get("stopLoss"))
    yield from _times(payload)
    yield from _grid(payload, tick_nano)


def _values(payload: Mapping[str, Any]) -> Iterator[Refusal]:
    """Tell values of a wrong kind."""
    for name, choices in _CHOICES.items():
        if name in payload and payload[name] not in choices:
            expected = f"one of {' '.join(choices)}"
            yield Refusal(f"invalid-{_dashed(name)}", name, expected, _told(payload[name]))
    for name, (code, expected) in _KINDS.items():
        if name in payload and not _is_of_kind(payload[name], expected):
            yield Refusal(code, name, expected, _told(payload[name]))


def _ticker_and_action(payload: Mapping[str, Any]) -> Iterator[Refusal]:
    ticker, action = payload.get("ticker"), payload.get("action")
    if not ticker:
        yield Refusal("empty-ticker-name", "ticker", "a contract as MESZ2026", _told(ticker))
    elif not (isinstance(ticker, str) and _TICKER.fullmatch(ticker)):
        yield Refusal("ticker-does-not-exist", "ticker", "a contract as MESZ2026", _told(ticker))
    if action is None:
        yield Refusal("invalid-action", "action", "an action", "none")
    if "sentiment" in payload and action not in _TRADES:
        yield Refusal("invalid-sentiment-action", "sentiment", "buy or sell with it", _told(action))


def _quantity(payload: Mapping[str, Any]) -> Iterator[Refusal]:
    kind, action = payload.get("quantityType"), payload.get("action")
    if "quantity" in payload:
        n = payload["quantity"]
        if not (_is_number(n) and n > 0 and n == int(n)):
            yield Refusal("invalid-quantity", "quantity", "a whole number above 0", _told(n))
    elif kind is not None:
        yield Refusal("quantity-type-requires-quantity", "quantity", f"one for {kind}", "none")
    if kind in _CHOICES["quantityType"] and kind not in _OF_FUTURES:
        code = "invalid-quantity-type-for-asset-class"
        yield Refusal(code, "quantityType", "fixed_quantity, for futures", _told(kind))
    if kind == "percent_of_position" and action != "exit":
        code = "invalid-percent-of-position-action"
        yield Refusal(code, "action", "exit, with percent_of_position", _told(action))
    if action == "cancel" and ("quantity" in payload or kind is not None):
        code = "invalid-quantity-type-action"
        yield Refusal(code, "quantity", "none with cancel", _told(payload.get("quantity")))


def _order_type(payload: Mapping[str, Any]) -> Iterator[Refusal]:
    kind = payload.get("orderType")
    for name in _NEEDED.get(str(kind), ()):
        if name not in payload:  # the market price would be taken instead
            yield Refusal("invalid-order-type", name, f"a price for {kind}", "none")
    trails = [name for name in ("trailAmount", "trailPercent") if name in payload]
    if (len(trails) != 1) if kind == "trailing_stop" else trails:
        expected = "one of trailAmount trailPercent, with trailing_stop only"
        yield Refusal(
            "invalid-trailing-stop", "orderType", expected, " ".join(trails) or "none of them"
        )


def _bracket(value: Any, field: str, name: str, ways: tuple[str, ...]) -> Iterator[Refusal]:
    """Tell what is wrong with one leg of a bracket: exactly one way to say where it lies."""
    if value is None:
        return
    code = f"invalid-{name}-"
    if not isinstance(value, dict):
        yield Refusal(f"{code}value-required", field, "an object", _told(value))
        return
    also = {"type", "limitPrice"} if name == "stop-loss" else set()
    for key in sorted(set(value) - {*ways, *also}):
        yield Refusal("invalid-payload", f"{field}.{key}", f"one of {' '.join(ways)}", "another")
    given = [key for key in ways if key in value]
    for key in given:
        wrong = not _is_number(value[key])
        if wrong or (not key.endswith("Price") and value[key] <= 0):
            expected = "a number above 0"
            yield Refusal(code + _dashed(key), f"{field}.{key}", expected, _told(value[key]))
    if not given:
        yield Refusal(f"{code}value-required", field, f"one of {' '.join(ways)}", "none")
    if len(given) > 1:
        mixed = any(key.endswith("Price") for key in given)
        end = "relative-and-absolute" if mixed else "amount-and-percent"
        yield Refusal(code + end, field, f"one of {' '.join(ways)}", " ".join(given))


def _stop_loss(value: Any) -> Iterator[Refusal]:
    yield from _bracket(value, "stopLoss", "stop-loss", _STOPS)
    if not isinstance(value, dict):
        return
    kind, code = value.get("type"), "invalid-stop-loss-"
    if kind not in ("stop", "stop_limit", "trailing_stop"):
        expected = "one of stop stop_limit trailing_stop"
        yield Refusal(f"{code}type", "stopLoss.type", expected, _told(kind))
    if (kind == "stop_limit") != ("limitPrice" in value):
        expected = "one with stop_limit, none else"
        yield Refusal(
            f"{code}limit-price", "stopLoss.limitPrice", expected, _told(value.get("limitPrice"))
        )
    trails = "trailAmount" in value or "trailPercent" in value
    if (kind == "trailing_stop") != trails:
        expected = "trailAmount or trailPercent with trailing_stop, and only there"
        yield Refusal(f"{code}trail-value-required", "stopLoss", expected, _told(kind))


def _times(payload: Mapping[str, Any]) -> Iterator[Refusal]:
    if "time" in payload and not _is_instant(payload["time"]):
        expected = "an instant with its offset"
        yield Refusal("invalid-payload", "time", expected, _told(payload["time"]))
    until = payload.get("expiresAt")
    if until is not None and not (_is_instant(until) or _LATER.fullmatch(str(until))):
        yield Refusal("invalid-expires-at", "expiresAt", "an instant or '+5 minutes'", _told(until))
    for name, (low, high) in _SPANS.items():
        n = payload.get(name)
        if n is not None and not (_is_number(n) and low <= n <= high):
            yield Refusal("invalid-payload", name, f"{low} to {high} seconds", _told(n))


def _grid(payload: Mapping[str, Any], tick_nano: int | None) -> Iterator[Refusal]:
    """Tell prices off the tick, and legs of a bracket on the wrong side of the market."""
    stop, profit = (payload.get(name) for name in ("stopLoss", "takeProfit"))
    stop, profit = (each if isinstance(each, dict) else {} for each in (stop, profit))
    prices = {name: payload.get(name) for name in _PRICES}
    prices |= {f"stopLoss.{name}": stop.get(name) for name in ("stopPrice", "limitPrice")}
    prices["takeProfit.limitPrice"] = profit.get("limitPrice")
    found = {name: Decimal(str(p)) for name, p in prices.items() if _is_number(p)}
    for name, price in found.items():
        if tick_nano is not None and price * 10**9 % tick_nano:
            tick = Decimal(tick_nano).scaleb(-9).normalize()
            yield Refusal("invalid-payload", name, f"a multiple of {tick:f}", str(price))
    at = found.get("signalPrice")
    if payload.get("action") != "buy" or at is None:
        return
    if found.get("stopLoss.stopPrice", at - 1) >= at:
        expected = f"below the market, {at}"
        code = "invalid-stop-loss-stop-price"
        yield Refusal(code, "stopLoss.stopPrice", expected, str(found["stopLoss.stopPrice"]))
    if found.get("takeProfit.limitPrice", at + 1) <= at:
        expected = f"above the market, {at}"
        code = "invalid-take-profit-limit-price"
        yield Refusal(code, "takeProfit.limitPrice", expected, str(found["takeProfit.limitPrice"]))


def _is_of_kind(value: Any, expected: str) -> bool:
    if "number" in expected:
        return _is_number(value) and ("above" not in expected or value > 0)
    kinds = {"true or false": bool, "a text": str, "an object": dict}
    return isinstance(value, kinds[expected]) if expected in kinds else value is False


def _is_number(value: Any) -> bool:
    is_one = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    return is_one and Decimal(value).is_finite()


def _is_instant(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _dashed(name: str) -> str:
    return re.sub("([A-Z])", r"-\1", name).lower()


def _told(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else str(value)
