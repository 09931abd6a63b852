"""Decisions to orders: what is to be sent, each under a name that the same decision always has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibs_core import portfolio
from ibs_core.bars import EXIT_REASONS, NEVER
from ibs_core.market_data.runs import stamp
from ibs_core.ports import Order
from ibs_core.positions import FLAT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.advance import Advance
    from ibs_core.bars import Record
    from ibs_core.engine import Engine
    from ibs_core.universe import Symbol

__all__ = ["executed_contract", "orders_of"]

_AT_THE_BROKER = ("protective_stop", "protective_target")


def orders_of(
    done: Advance, engine: Engine, entered: Mapping[str, Order], withdrawn: Sequence[str] = ()
) -> list[Order]:
    """Turn what was decided into what is to be sent.

    Parameters
    ----------
    done : Advance
    engine : Engine
        After the advance.
    entered : Mapping of str to Order
        By root, the last entry before these.
    withdrawn : sequence of str
        Roots whose entry never left: its lapse needs no order.

    Returns
    -------
    list of Order
        In the order of the decisions; what cancels a lapsed entry stands before the symbol's next entry. An exit that a resting order at the broker made is not sent again.
    """
    made = (_order(each, done, engine) for each in done.decisions)
    found = [each for each in made if each is not None]
    for i, symbol in enumerate(engine.symbols):
        if symbol.root in done.lapsed and symbol.root not in withdrawn:
            entries = [each for each in found if _is_entry(each, symbol.root)]
            nothing = _came_to_nothing(entries, i, done, engine)
            if done.lapsed[symbol.root] > len(nothing):
                nothing.append(entered[symbol.root])
            for entry in nothing:  # before the symbol's next entry, which it must not cancel
                place = found.index(entry) + 1 if entry in entries else 0
                found.insert(place, _cancel(entry, done, engine, i))
    return found


def executed_contract(symbol: Symbol, instrument: str) -> str:
    """Name the contract that is traded: the same expiry of the executed root.

    Parameters
    ----------
    symbol : Symbol
    instrument : str
        Of the root whose bars decide.

    Returns
    -------
    str
        ``MESZ2025`` for ``ESZ2025``.
    """
    return symbol.executed.root + instrument.removeprefix(symbol.root)


def _order(decision: Record, done: Advance, engine: Engine) -> Order | None:
    i, is_entry = int(decision["symbol"]), decision["action"] == portfolio.ENTRY
    symbol, position = engine.symbols[i], engine.book[i]
    if is_entry and decision["reason"] != portfolio.TAKEN:
        return None
    reason = "" if is_entry else EXIT_REASONS[int(decision["reason"]) - 1]
    if reason in _AT_THE_BROKER:
        return None
    time_ns, score, model = int(decision["time_ns"]), float(decision["score"]), symbol.model
    if is_entry:
        instrument = engine.instrument(symbol.root)
    else:  # the contract that is held, though the front may be another by now
        instrument = engine.contract(symbol.root, int(position["trade"]["contract"]))
    return Order(
        order_id=_name(symbol.root, time_ns, "entry" if is_entry else "exit"),
        symbol=symbol.root,
        instrument=executed_contract(symbol, instrument),
        action="entry" if is_entry else "exit",
        reason=reason,
        decided_ns=time_ns,
        quantity=symbol.quantity,
        price=_close_of(symbol.root, time_ns, done, float(position["mark"])),
        stop=_level(position["protective_stop"]) if is_entry else None,
        target=_level(position["protective_target"]) if is_entry else None,
        score=None if np.isnan(score) else score,
        threshold=model.threshold if model else None,
        model=model.version if model else "",
    )


def _is_entry(order: Order, root: str) -> bool:
    return order.symbol == root and order.action == "entry"


def _came_to_nothing(
    entries: Sequence[Order], i: int, done: Advance, engine: Engine
) -> list[Order]:
    """Return the entries of these decisions that have lapsed already."""
    filled_ns = done.trades["entry_ns"][done.trades["symbol"] == i]
    nexts_ns = [*(each.decided_ns for each in entries[1:]), NEVER]
    return [
        each
        for each, next_ns in zip(entries, nexts_ns, strict=False)
        if not ((filled_ns >= each.decided_ns) & (filled_ns < next_ns)).any()
        and (next_ns < NEVER or engine.book[i]["status"] == FLAT)
    ]


def _cancel(entry: Order, done: Advance, engine: Engine, i: int) -> Order:
    """Cancel an entry: an order is cancelled once, so its name is of that entry."""
    return Order(
        order_id=_name(entry.symbol, entry.decided_ns, "cancel"),
        symbol=entry.symbol,
        instrument=entry.instrument,
        action="cancel",
        reason="lapsed",
        decided_ns=done.until_ns,
        quantity=entry.quantity,
        price=float(engine.book[i]["mark"]),
    )


def _close_of(root: str, time_ns: int, done: Advance, mark: float) -> float:
    """Return the close of the bar that decided; else the last price."""
    bars = done.bars.get(root)
    if bars is not None:
        place = np.flatnonzero(bars["end_ns"] == time_ns)
        if len(place):
            return float(bars["close"][place[0]])
    return mark


def _level(price: float) -> float | None:
    return None if np.isnan(price) else float(price)


def _name(root: str, time_ns: int, action: str) -> str:
    """Name an order: a symbol has at most one order of a kind at an instant."""
    return f"{root}-{stamp(time_ns)}-{action}".replace(":", "")
