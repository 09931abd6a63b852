"""Decide: exits, then entries, over all symbols of one slice; the only place that knows the whole book.

A slice is an instant at which at least one signal bar ends. Back-test and live call the same ``decide``.
"""

from __future__ import annotations

import numpy as np

from ibs_core import positions
from ibs_core.bars import MINUTE_NS, NEVER, Ints, Record, Records
from ibs_core.decisions import (
    ABSENT,
    BLOCKS,
    CANCEL,
    COOLDOWN,
    DAILY_LOSS,
    DECISION,
    DESK,
    ENTRY,
    EXIT,
    FIRST_BLOCK,
    FIRST_VETO,
    FLATTEN,
    HAS_POSITION,
    INPUT,
    IS_ABSENT,
    IS_LEAVING,
    IS_PENDING,
    LEFT_LATE,
    LIVE_BLOCKS,
    MAX_ORDERS,
    NEAR_CLOSE,
    RISK,
    SLICE,
    TAKEN,
    TOO_LARGE,
    TOO_MANY_CONTRACTS,
    TOO_MANY_ORDERS,
    TOO_MANY_POSITIONS,
    log_order,
    new_desk,
    record,
)
from ibs_core.kernels._jit import jit
from ibs_core.positions import ENTERING, FLAT, LEAVING, OPEN, OPERATOR, PORTFOLIO
from ibs_core.signals import CANDIDATE, NOT_TRADED

__all__ = [
    "ABSENT",
    "BLOCKS",
    "CANCEL",
    "DECISION",
    "DESK",
    "ENTRY",
    "EXIT",
    "FIRST_BLOCK",
    "FIRST_VETO",
    "FLATTEN",
    "INPUT",
    "LEFT_LATE",
    "LIVE_BLOCKS",
    "RISK",
    "SLICE",
    "TAKEN",
    "decide",
    "log_order",
    "new_desk",
    "record",
]


@jit
def _too_many_orders(time_ns: int, risk: Record, desk: Record) -> bool:
    if risk["max_orders_per_minute"] == NEVER:
        return False
    count = 0
    for k in range(min(desk["n_orders"], MAX_ORDERS)):
        count += 1 if desk["order_ns"][k] > time_ns - MINUTE_NS else 0
    return count >= risk["max_orders_per_minute"]


@jit
def _take_input(
    time_ns: int,
    given: Record,
    i: int,
    position: Record,
    desk: Record,
    now: Record,
    decisions: Records,
    n: Ints,
) -> None:
    """Let one symbol take what live told."""
    if given["kind"] >= FIRST_BLOCK:
        position["blocked_ns"][given["kind"] - FIRST_BLOCK] = given["until_ns"]
    elif given["kind"] == LEFT_LATE:
        if position["status"] == LEAVING:
            # NEVER: it has not left yet. Once it has, its instant is known and is the one that counts.
            known_ns = position["leave_ns"] if position["leave_ns"] < NEVER else 0
            position["leave_ns"] = max(known_ns, given["until_ns"])
    elif given["kind"] == CANCEL:
        position["status"] = FLAT  # whatever was decided since, its entry never happened
    elif position["status"] == ENTERING:
        position["status"] = FLAT
    elif position["status"] == OPEN:
        ibs = now["ibs"] if now["closing"] == 1 else np.nan
        n_bars = position["bars"] if now["closing"] == 1 else position["bars"] + now["in_bar"]
        positions.leave(position, OPERATOR, ibs, n_bars)
        position["expire_ns"] = time_ns
        position["leave_ns"] = given["until_ns"]
        log_order(desk, time_ns)
        record(decisions, n, time_ns, i, EXIT, OPERATOR, position["trade"]["score"])


@jit
def _take_inputs(
    time_ns: int,
    book: Records,
    desk: Record,
    slices: Records,
    inputs: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Let the book take what live told since the last slice."""
    for k in range(len(inputs)):
        given = inputs[k]
        if given["kind"] == ABSENT:
            desk["absent_ns"] = given["until_ns"]
            continue
        for i in range(len(book)):
            if given["symbol"] in (-1, i):
                _take_input(time_ns, given, i, book[i], desk, slices[i], decisions, n)


@jit
def _take_closes(book: Records, slices: Records) -> None:
    """Count the own closes and remember their extremes and marks."""
    for i in range(len(book)):
        if slices[i]["closing"] == 0:
            continue
        position = book[i]
        position["mark"] = slices[i]["close"]
        if position["status"] == OPEN:
            position["bars"] += 1
            trade = position["trade"]
            trade["low"] = min(trade["low"], slices[i]["low"])
            trade["high"] = max(trade["high"], slices[i]["high"])


@jit
def _watch_loss(params: Records, risk: Record, book: Records, desk: Record) -> None:
    """Halt the trade date on which the loss reaches the limit."""
    date = book[0]["date"]
    for i in range(1, len(book)):
        date = max(date, book[i]["date"])
    total = 0.0
    for i in range(len(book)):
        if book[i]["date"] == date:
            total += book[i]["realised_usd"]
        total += positions.open_usd(params[i], book[i])
    if total <= -risk["daily_loss_usd"]:
        desk["halted_date"] = date
        for i in range(len(book)):
            if book[i]["status"] == ENTERING:
                book[i]["status"] = FLAT


@jit
def _decide_exits(
    time_ns: int,
    params: Records,
    book: Records,
    desk: Record,
    slices: Records,
    decisions: Records,
    n: Ints,
) -> None:
    for i in range(len(book)):
        position = book[i]
        if position["status"] != OPEN:
            continue
        now = slices[i]
        reason = 0
        if now["closing"] == 1:
            reason = positions.due_exit(
                params[i],
                position,
                now["close"],
                now["ibs"],
                now["flats"],
                now["in_roll"],
            )
        if reason == 0 and position["date"] <= desk["halted_date"]:
            reason = PORTFOLIO
        if reason == 0:
            continue
        ibs = now["ibs"] if now["closing"] == 1 else np.nan
        n_bars = position["bars"] if now["closing"] == 1 else position["bars"] + now["in_bar"]
        positions.leave(position, reason, ibs, n_bars)
        position["expire_ns"] = time_ns  # tells an exit of this slice from an older one
        position["leave_ns"] = desk["absent_ns"]
        log_order(desk, time_ns)
        record(decisions, n, time_ns, i, EXIT, reason, position["trade"]["score"])


@jit
def _blocked_by_live(time_ns: int, position: Record, desk: Record) -> int:
    if time_ns < desk["absent_ns"]:
        return IS_ABSENT
    for k in range(len(LIVE_BLOCKS)):
        if time_ns < position["blocked_ns"][k]:
            return IS_ABSENT + 1 + k
    return 0


@jit
def _over_capacity(params: Records, risk: Record, book: Records, i: int) -> int:
    """Return which limit on what is held and pending one more entry would break, TAKEN when none."""
    n_held, n_contracts = 0, params[i]["quantity"]
    for k in range(len(book)):
        if book[k]["status"] != FLAT:
            n_held += 1
            n_contracts += params[k]["quantity"]
    if n_held >= risk["max_positions"]:
        return TOO_MANY_POSITIONS
    if params[i]["quantity"] > risk["max_quantity"]:
        return TOO_LARGE
    return TOO_MANY_CONTRACTS if n_contracts > risk["max_total_quantity"] else TAKEN


@jit
def _refusal(
    time_ns: int,
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    i: int,
    now: Record,
) -> int:
    """Return why a candidate is not taken, TAKEN when nothing stands against it."""
    position = book[i]
    if position["status"] == OPEN:
        return HAS_POSITION
    if position["status"] == LEAVING:
        return IS_LEAVING if position["expire_ns"] == time_ns else IS_PENDING
    if position["status"] == ENTERING:
        return IS_PENDING
    if position["cooldown"] > 0:
        return COOLDOWN
    told = _blocked_by_live(time_ns, position, desk)
    if told > 0:
        return told
    if position["date"] <= desk["halted_date"]:
        return DAILY_LOSS
    if now["close_left_ns"] <= risk["no_entry_before_close_ns"]:
        return NEAR_CLOSE
    if _too_many_orders(time_ns, risk, desk):
        return TOO_MANY_ORDERS
    return _over_capacity(params, risk, book, i)


@jit
def _next_candidate(risk: Record, slices: Records) -> int:
    """Return the next candidate: in map order, or by descending score with ties in map order."""
    best = -1
    for i in range(len(slices)):
        if slices[i]["closing"] == 0 or slices[i]["gate"] != CANDIDATE:
            continue
        if best < 0 or (risk["veto"] == 1 and slices[i]["score"] > slices[best]["score"]):
            best = i
    return best


@jit
def _decide_entries(
    time_ns: int,
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    slices: Records,
    decisions: Records,
    n: Ints,
) -> None:
    while True:
        i = _next_candidate(risk, slices)
        if i < 0:
            break
        now = slices[i]
        now["gate"] = NOT_TRADED  # it is no candidate any more
        if risk["veto"] == 1 and now["verdict"] > 0:
            reason = FIRST_VETO + now["verdict"]
        else:
            reason = _refusal(time_ns, params, risk, book, desk, i, now)
        if reason == TAKEN:
            positions.enter(
                params[i],
                book[i],
                now["close"],
                now["ibs"],
                now["atr"],
                now["score"],
                now["expire_ns"],
            )
            log_order(desk, time_ns)
        record(decisions, n, time_ns, i, ENTRY, reason, now["score"])


@jit
def decide(
    time_ns: int,
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    slices: Records,
    inputs: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Decide one slice.

    Parameters
    ----------
    time_ns : int64, UTC ns
    params : (n_symbols,) PARAMS, in contract-map order
    risk : RISK
    book : (n_symbols,) POSITION, everything that filled before the slice settled
    desk : DESK
    slices : (n_symbols,) SLICE, candidates are marked as done
    inputs : (n_inputs,) INPUT, what live told since the last slice
    decisions : (capacity,) DECISION, by time, added to
    n : (2,) int64, counts of trades and decisions
    """
    _take_closes(book, slices)
    _take_inputs(time_ns, book, desk, slices, inputs, decisions, n)
    if risk["daily_loss_usd"] == risk["daily_loss_usd"]:
        _watch_loss(params, risk, book, desk)
    _decide_exits(time_ns, params, book, desk, slices, decisions, n)
    _decide_entries(time_ns, params, risk, book, desk, slices, decisions, n)
    for i in range(len(book)):
        if slices[i]["closing"] == 1 and book[i]["status"] == FLAT and book[i]["cooldown"] > 0:
            book[i]["cooldown"] -= 1
