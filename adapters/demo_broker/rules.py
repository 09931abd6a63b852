"""What the webhook refuses, with the vendor's message codes; all for futures.

Documented are the codes and the allowed values; where the vendor does not say which of two codes a payload
gets, or whether it gets one, the stricter reading is taken.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["ACTIONS", "CONTRACT", "MESSAGES", "Payload", "number_of", "payload_of", "refusal_of"]

Payload = dict[str, Any]

ACTIONS: Final = ("buy", "sell", "exit", "cancel", "add", "breakeven", "reverse")
CONTRACT: Final = re.compile(r"(?P<root>[A-Z0-9]{1,5})[FGHJKMNQUVXZ]20\d\d")
"""An explicit contract, the only spelling that the vendor recommends."""

MESSAGES: Final = {
    "post-required": "a signal is sent with POST",
    "empty-json": "the signal is empty",
    "malformed-json": "the signal is not JSON",
    "invalid-payload": "the signal is an object with an action and a ticker",
    "invalid-password": "the password of the webhook URL is wrong",
    "not-found": "there is no such webhook",
    "too-many-requests": "too many signals; at most 60 a minute and 500 an hour are taken",
    "empty-ticker-name": "the ticker is empty",
    "ticker-does-not-exist": "there is no such ticker",
    "unsupported-ticker": "the strategy does not allow this ticker",
}
"""Texts of ours; a code without one is its own text. Only codes are a contract."""

_ROOT: Final = re.compile(r"[A-Z0-9]{1,6}")
_SHORT_YEAR: Final = re.compile(r"[A-Z0-9]+[FGHJKMNQUVXZ]\d{1,2}")
_CONTINUOUS: Final = re.compile(r"[A-Z0-9]{1,5}[12]!")
_SENTIMENTS: Final = ("bullish", "long", "bearish", "short", "flat")
_ORDER_TYPES: Final = ("market", "limit", "stop", "stop_limit", "trailing_stop")
_TIMES_IN_FORCE: Final = ("day", "gtc", "opg", "cls", "ioc", "fok")
_SIZES: Final = (
    "fixed_quantity",
    "dollar_amount",
    "risk_dollar_amount",
    "risk_percent",
    "percent_of_equity",
    "percent_of_position",
)
_DISTANCES: Final = frozenset({"amount", "percent", "pnlAmount"})
_TARGET: Final = {"limitPrice": "limit-price", "percent": "percent", "amount": "amount"}
_STOP: Final = {
    "percent": "percent",
    "amount": "amount",
    "stopPrice": "stop-price",
    "limitPrice": "limit-price",
    "trailAmount": "trail-amount",
    "trailPercent": "trail-percent",
}


def payload_of(content: bytes) -> Payload | str:
    """Read a body.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    dict of str to Any, or str
        A message code when it is no payload.
    """
    if not content.strip():
        return "empty-json"
    try:
        payload = json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return "malformed-json"
    if not isinstance(payload, dict) or not {"action", "ticker"} <= payload.keys():
        return "invalid-payload"
    return payload


def refusal_of(payload: Payload, roots: Collection[str] = ()) -> str | None:
    """Tell why a payload is refused.

    Parameters
    ----------
    payload : dict of str to Any
    roots : Collection of str
        The strategy's allowed tickers; empty for any.

    Returns
    -------
    str or None
        A message code.
    """
    faults = itertools.chain(
        _of_ticker(payload["ticker"], roots),
        _of_action(payload),
        _of_order(payload),
        _of_size(payload),
        _of_target(payload),
        _of_stop(payload),
    )
    return next(faults, None)


def number_of(value: Any) -> float | None:
    """Read a positive number; the vendor's samples hold numeric strings, too.

    Parameters
    ----------
    value : Any

    Returns
    -------
    float or None
        None when it is no number, or not above 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _no_number(name: str) -> None:
    raise ValueError(name)


# Each yields what is wrong, the first of it first; what follows may not hold and is never asked for.


def _of_ticker(ticker: Any, roots: Collection[str]) -> Iterator[str]:
    if not isinstance(ticker, str):
        yield "invalid-payload"
    elif not ticker.strip():
        yield "empty-ticker-name"
    else:
        contract, continuous = CONTRACT.fullmatch(ticker), _CONTINUOUS.fullmatch(ticker)
        plain = _ROOT.fullmatch(ticker) and not _SHORT_YEAR.fullmatch(ticker)
        if not (contract or continuous or plain):
            yield "ticker-does-not-exist"
        root = contract["root"] if contract else ticker[:-2] if continuous else ticker
        if roots and root not in roots:
            yield "unsupported-ticker"


def _of_action(payload: Payload) -> Iterator[str]:
    action, sentiment = payload["action"], payload.get("sentiment")
    if action not in ACTIONS:
        yield "invalid-action"
    if sentiment is not None and sentiment not in _SENTIMENTS:
        yield "invalid-sentiment"
    if sentiment is not None and action not in ("buy", "sell"):
        yield "invalid-sentiment-action"


def _of_order(payload: Payload) -> Iterator[str]:
    kind = payload.get("orderType", "market")
    if kind not in _ORDER_TYPES:
        yield "invalid-order-type"
    trails = [payload[name] for name in ("trailAmount", "trailPercent") if name in payload]
    if len(trails) != (kind == "trailing_stop") or None in map(number_of, trails):
        yield "invalid-trailing-stop"
    if payload.get("timeInForce", "day") not in _TIMES_IN_FORCE:
        yield "invalid-time-in-force"
    if payload.get("extendedHours", False) is not False:  # never with futures
        yield "invalid-extended-hours"
    if "expiresAt" in payload and not _is_expiry(payload["expiresAt"]):
        yield "invalid-expires-at"


def _is_expiry(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return bool(re.fullmatch(r"\+\d+ (?:second|minute|hour|day)s?", text))
    return True


def _of_size(payload: Payload) -> Iterator[str]:
    kind, action = payload.get("quantityType", "fixed_quantity"), payload["action"]
    if "quantity" in payload and number_of(payload["quantity"]) is None:
        yield "invalid-quantity"
    if kind not in _SIZES:
        yield "invalid-quantity-type"
    if "quantityType" in payload and "quantity" not in payload:
        yield "quantity-type-requires-quantity"
    if kind == "percent_of_position":
        if action != "exit":
            yield "invalid-percent-of-position-action"
    elif kind != "fixed_quantity":
        if action in ("exit", "cancel"):
            risk = kind == "risk_dollar_amount"
            yield "invalid-risk-dollar-amount-action" if risk else "invalid-quantity-type-action"
        yield "invalid-quantity-type-for-asset-class"


def _of_target(payload: Payload) -> Iterator[str]:
    target = payload.get("takeProfit")
    if target is not None and not isinstance(target, dict):
        yield "invalid-take-profit-value-required"
    elif target is not None:
        yield from _of_numbers("take-profit", target, _TARGET)
        yield from _of_distance("take-profit", target, "limitPrice")


def _of_stop(payload: Payload) -> Iterator[str]:
    stop = payload.get("stopLoss")
    if stop is None:
        return
    if not isinstance(stop, dict):
        yield "invalid-stop-loss-value-required"
    kind = stop.get("type", "stop")
    if kind not in ("stop", "stop_limit", "trailing_stop"):
        yield "invalid-stop-loss-type"
    yield from _of_numbers("stop-loss", stop, _STOP)
    n_trails = ("trailAmount" in stop) + ("trailPercent" in stop)
    if kind == "trailing_stop" and not n_trails:
        yield "invalid-stop-loss-trail-value-required"
    if n_trails > (kind == "trailing_stop"):
        yield "invalid-stop-loss-trail-value"
    if "limitPrice" in stop and kind != "stop_limit":
        yield "invalid-stop-loss-limit-price"
    if kind == "stop_limit" and not stop.keys() & {"stopPrice", *_DISTANCES}:
        yield "invalid-stop-loss-stop-price-required"
    if kind != "trailing_stop":
        yield from _of_distance("stop-loss", stop, "stopPrice")


def _of_numbers(what: str, bracket: Payload, names: dict[str, str]) -> Iterator[str]:
    for name, code in names.items():
        if name in bracket and number_of(bracket[name]) is None:
            yield f"invalid-{what}-{code}"


def _of_distance(what: str, bracket: Payload, absolute: str) -> Iterator[str]:
    """Exactly one of an absolute price and the distances."""
    n_distances = len(bracket.keys() & _DISTANCES)
    if n_distances > 1:
        yield f"invalid-{what}-amount-and-percent"
    if n_distances and absolute in bracket:
        yield f"invalid-{what}-relative-and-absolute"
    if not n_distances and absolute not in bracket:
        yield f"invalid-{what}-value-required"
