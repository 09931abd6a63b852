"""An order as TradersPost reads it: a payload, and the exact bytes that are sent.

Prices are decimals on the tick grid of the contract that is traded. The same order always has the same bytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import DataError
from ibs_core.payload_rules import check_payload

if TYPE_CHECKING:
    from ibs_core.contracts import Contract, ContractMap
    from ibs_core.ports import Order

__all__ = ["body_of", "flattening", "payload_of", "spelt"]

_TICKER: Final = re.compile(r"[A-Z0-9]+[FGHJKMNQUVXZ]20\d\d", re.ASCII)
_CODE: Final = len("Z2025")
_NANO: Final = 10**9


def payload_of(order: Order, strategy: str, contracts: ContractMap | None = None) -> dict[str, Any]:
    """Spell an order as TradersPost reads it.

    Parameters
    ----------
    order : Order
    strategy : str
        Name of it, for the record.
    contracts : ContractMap, optional
        The receiver's own root, the tick grid and what the map says of the contract. Without it the root is
        the exchange's and prices are as decided.

    Returns
    -------
    dict of str to Any
        JSON values; prices are Decimal. An exit names no quantity: it closes whatever is open. So does a
        cancel, for what it is to undo may have been filled.

    Raises
    ------
    DataError
        The contract has no year of four digits, an entry buys nothing, or a rule of `payload_rules` is
        broken.
    """
    if not _TICKER.fullmatch(order.instrument):
        raise DataError(
            f"contract of order {order.order_id}",
            expected="a spelling as MESZ2025",
            found=repr(order.instrument),
        )
    if order.action == "entry" and order.quantity < 1:
        raise DataError(
            f"quantity of order {order.order_id}", expected="at least 1", found=str(order.quantity)
        )
    root, code = order.instrument[:-_CODE], order.instrument[-_CODE:]
    contract = contracts.get(root) if contracts else None
    payload: dict[str, Any] = {
        "ticker": (contract.traderspost_ticker if contract else root) + code,
        **_trade(order, contract),
        "time": _instant(order.decided_ns),
        "extras": _extras(order, strategy, contract, contracts),
    }
    check_payload(payload, order.order_id, tick_nano=contract.tick_nano if contract else None)
    return payload


def body_of(order: Order, strategy: str, contracts: ContractMap | None = None) -> str:
    """Return what is sent for an order.

    Parameters
    ----------
    order : Order
    strategy : str
    contracts : ContractMap, optional

    Returns
    -------
    str
        One line of JSON, ASCII.

    Raises
    ------
    DataError
        As `payload_of`.
    """
    return spelt(payload_of(order, strategy, contracts))


def flattening(entry: Order) -> Order:
    """Return the exit that makes flat whatever became of an entry.

    Parameters
    ----------
    entry : Order

    Returns
    -------
    Order
        Under a name of its own, of that entry.
    """
    return replace(
        entry,
        order_id=f"{entry.order_id}-flatten",
        action="exit",
        reason="unknown outcome",
        stop=None,
        target=None,
    )


def spelt(value: Any) -> str:
    """Write a JSON value exactly.

    Parameters
    ----------
    value : Any
        Decimals are written without an exponent.

    Returns
    -------
    str
        ASCII, one line.

    Raises
    ------
    ValueError
        A number is not finite.
    """
    if isinstance(value, dict):
        return (
            f"{{{', '.join(f'{json.dumps(name)}: {spelt(each)}' for name, each in value.items())}}}"
        )
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"not a number of JSON: {value}")
        return f"{value:f}"
    return json.dumps(value, allow_nan=False)


def _trade(order: Order, contract: Contract | None) -> dict[str, Any]:
    if order.action != "entry":  # `cancel` alone would leave open what was filled
        return {
            "action": "exit",
            "orderType": "market",
            "cancel": True,
            "ignoreTradingWindows": True,
            "signalPrice": _price(order.price, contract),
        }
    payload: dict[str, Any] = {
        "action": "buy",
        "orderType": "market",
        "quantityType": "fixed_quantity",
        "quantity": order.quantity,
        "signalPrice": _price(order.price, contract),
    }
    if order.stop is not None:
        payload["stopLoss"] = {"type": "stop", "stopPrice": _price(order.stop, contract)}
    if order.target is not None:
        payload["takeProfit"] = {"limitPrice": _price(order.target, contract)}
    return payload


def _extras(
    order: Order, strategy: str, contract: Contract | None, contracts: ContractMap | None
) -> dict[str, Any]:
    """Tell for the record what the receiver stores and never reads."""
    told = {
        "reason": order.reason,
        "score": order.score,
        "threshold": order.threshold,
        "model": order.model,
    }
    extras: dict[str, Any] = {"cid": order.order_id, "strategy": strategy, "v": 1}
    extras |= {name: value for name, value in told.items() if value not in (None, "")}
    if contract is None or contracts is None:
        return extras
    return extras | {
        "symbol": order.symbol,
        "contract": {
            "root": contract.root,
            "description": contract.traderspost_description,
            "exchange": contract.exchange,
            "tick_size": Decimal(contract.tick_nano).scaleb(-9).normalize(),
            "tick_value_usd": contract.tick_value_usd,
            "pair": contract.pair,
            "map": contracts.digest[:12],
        },
    }


def _price(price: float, contract: Contract | None) -> Decimal:
    """Return a price of the grid; micros may have a coarser one than the root that decided."""
    if price != price or abs(price) == float("inf"):  # noqa: PLR0124  (NaN)
        raise DataError("price of an order", expected="a number", found=str(price))
    on_grid = price if contract is None else contract.round_to_tick(price)
    return Decimal(round(on_grid * _NANO)).scaleb(-9).normalize()


def _instant(time_ns: int) -> str:
    """Spell an instant as 2026-11-20T14:30:00.123+00:00; what is below a millisecond is left out."""
    seconds, rest = divmod(time_ns, _NANO)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return time.isoformat(timespec="milliseconds")
