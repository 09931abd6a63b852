"""Decide: exits, then entries, over all symbols of one slice; the only place that knows the whole book.

A slice is an instant at which at least one signal bar ends. ``decide`` is what live calls;
``decide_many`` feeds it the slices of a back-test in order of time.
"""

from __future__ import annotations

import numpy as np

from ibs_core import positions
from ibs_core.bars import MINUTE_NS, NEVER, Floats, Ints, Record, Records
from ibs_core.kernels._jit import jit
from ibs_core.positions import ENTERING, FLAT, LEAVING, OPEN, PORTFOLIO
from ibs_core.signals import CANDIDATE

__all__ = [
    "BLOCKS",
    "DECISION",
    "DESK",
    "ENTRY",
    "EXIT",
    "FEED",
    "RISK",
    "SLICE",
    "TAKEN",
    "decide",
    "decide_many",
    "new_desk",
]

ENTRY, EXIT = range(2)
TAKEN = 0
BLOCKS = (
    "position",
    "pending",
    "exit",
    "cooldown",
    "daily_loss",
    "no_entry_before_close",
    "max_orders_per_minute",
    "max_positions",
)
"""Why a candidate was not taken, by code - 1; code 0 is ``taken``."""
(
    HAS_POSITION,
    IS_PENDING,
    IS_LEAVING,
    COOLDOWN,
    DAILY_LOSS,
    NEAR_CLOSE,
    TOO_MANY_ORDERS,
    TOO_MANY_POSITIONS,
) = range(1, len(BLOCKS) + 1)

MAX_ORDERS = 512

RISK = np.dtype(
    [
        ("max_positions", "i8"),  # NEVER is off
        ("daily_loss_usd", "f8"),  # NaN is off
        ("max_orders_per_minute", "i8"),  # NEVER is off
        ("no_entry_before_close_ns", "i8"),  # -1 is off
        ("by_score", "i8"),  # 1: capacity goes to the highest score first
    ],
)

DESK = np.dtype([("n_orders", "i8"), ("order_ns", "i8", (MAX_ORDERS,))])
"""The times of the last orders, a ring."""

SLICE = np.dtype(
    [
        ("closing", "i8"),  # 1: an own signal bar ends now
        ("in_bar", "i8"),  # 1: an own signal bar is in progress
        ("close", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("ibs", "f8"),
        ("atr", "f8"),
        ("gate", "i8"),
        ("score", "f8"),
        ("flats", "i8"),
        ("in_roll", "i8"),
        ("expire_ns", "i8"),
        ("close_left_ns", "i8"),
    ],
)
"""What one symbol brings to a slice; all but ``in_bar`` only matter when ``closing``."""

DECISION = np.dtype(
    [("time_ns", "i8"), ("symbol", "i8"), ("action", "i8"), ("reason", "i8"), ("score", "f8")],
)
"""An entry's reason is TAKEN or a code of BLOCKS, an exit's a code of ``positions.REASONS``."""

FEED = np.dtype(
    [
        ("bar", "i8"),  # the bar that opens or closes next, an index into all bars
        ("stop", "i8"),  # one past the symbol's last bar
        ("path", "i8"),  # the next path minute, an index into all path minutes
        ("path_offset", "i8"),
        ("session", "i8"),  # an index into all session opens
        ("session_stop", "i8"),
        ("opened", "i8"),  # 1: the bar's first minute was seen
        ("crossed", "i8"),  # 1: the bar's seam was crossed
    ],
)
"""Where a symbol's replay stands."""


def new_desk() -> Records:
    """Make the order log before any order.

    Returns
    -------
    (1,) DESK
    """
    return np.zeros(1, DESK)


@jit
def _log_order(desk: Record, time_ns: int) -> None:
    desk["order_ns"][desk["n_orders"] % MAX_ORDERS] = time_ns
    desk["n_orders"] += 1


@jit
def _orders_in_minute(desk: Record, time_ns: int) -> int:
    count = 0
    for age in range(1, min(desk["n_orders"], MAX_ORDERS) + 1):
        if desk["order_ns"][(desk["n_orders"] - age) % MAX_ORDERS] <= time_ns - MINUTE_NS:
            break
        count += 1
    return count


@jit
def _record(
    decisions: Records, n: Ints, time_ns: int, symbol: int, action: int, reason: int, score: float
) -> None:
    row = decisions[n[1]]
    row["time_ns"] = time_ns
    row["symbol"] = symbol
    row["action"] = action
    row["reason"] = reason
    row["score"] = score
    n[1] += 1


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
def _watch_loss(params: Records, risk: Record, book: Records) -> None:
    """Halt every symbol for its session when the day's loss reaches the limit."""
    total = 0.0
    for i in range(len(book)):
        total += book[i]["realised_usd"] + positions.open_usd(params[i], book[i])
    if total <= -risk["daily_loss_usd"]:
        for i in range(len(book)):
            book[i]["halted"] = book[i]["session"]
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
        if reason == 0 and position["halted"] == position["session"]:
            reason = PORTFOLIO
        if reason == 0:
            continue
        ibs = now["ibs"] if now["closing"] == 1 else np.nan
        n_bars = position["bars"] if now["closing"] == 1 else position["bars"] + now["in_bar"]
        positions.leave(position, reason, ibs, n_bars)
        position["expire_ns"] = time_ns  # tells an exit of this slice from an older one
        _log_order(desk, time_ns)
        _record(decisions, n, time_ns, i, EXIT, reason, position["trade"]["score"])


@jit
def _refusal(time_ns: int, risk: Record, book: Records, desk: Record, i: int, now: Record) -> int:
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
    if position["halted"] == position["session"] and position["session"] >= 0:
        return DAILY_LOSS
    if now["close_left_ns"] <= risk["no_entry_before_close_ns"]:
        return NEAR_CLOSE
    if _orders_in_minute(desk, time_ns) >= risk["max_orders_per_minute"]:
        return TOO_MANY_ORDERS
    held = 0
    for k in range(len(book)):
        held += 1 if book[k]["status"] != FLAT else 0
    return TOO_MANY_POSITIONS if held >= risk["max_positions"] else TAKEN


@jit
def _next_candidate(risk: Record, slices: Records, done: Ints) -> int:
    """Return the next candidate: in map order, or by descending score with ties in map order."""
    best = -1
    for i in range(len(slices)):
        if done[i] == 1 or slices[i]["closing"] == 0 or slices[i]["gate"] != CANDIDATE:
            continue
        if best < 0 or (risk["by_score"] == 1 and slices[i]["score"] > slices[best]["score"]):
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
    done = np.zeros(len(slices), np.int64)
    while True:
        i = _next_candidate(risk, slices, done)
        if i < 0:
            break
        done[i] = 1
        now = slices[i]
        reason = _refusal(time_ns, risk, book, desk, i, now)
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
            _log_order(desk, time_ns)
        _record(decisions, n, time_ns, i, ENTRY, reason, now["score"])


@jit
def decide(
    time_ns: int,
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    slices: Records,
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
    slices : (n_symbols,) SLICE
    decisions : (capacity,) DECISION, appended
    n : (2,) int64, counts of trades and decisions
    """
    _take_closes(book, slices)
    if risk["daily_loss_usd"] == risk["daily_loss_usd"]:
        _watch_loss(params, risk, book)
    _decide_exits(time_ns, params, book, desk, slices, decisions, n)
    _decide_entries(time_ns, params, risk, book, desk, slices, decisions, n)
    for i in range(len(book)):
        if slices[i]["closing"] == 1 and book[i]["status"] == FLAT and book[i]["cooldown"] > 0:
            book[i]["cooldown"] -= 1


@jit
def _enter_session(position: Record, feed: Record, opens: Ints, ts_ns: int) -> None:
    """Let the symbol's session be the one that opened last; its realised P&L starts anew."""
    k = feed["session"]
    while k + 1 < feed["session_stop"] and opens[k + 1] <= ts_ns:
        k += 1
    feed["session"] = k
    if position["session"] != k:
        position["session"] = k
        position["realised_usd"] = 0.0


@jit
def _cross(
    params: Record,
    position: Record,
    i: int,
    feed: Record,
    bar: Record,
    opens: Ints,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    if bar["seam_ns"] == 0 or feed["crossed"] == 1:
        return
    feed["crossed"] = 1
    _enter_session(position, feed, opens, bar["seam_ns"])
    if positions.cross_seam(params, position, bar["seam_ns"], trades, n) == 1:
        score = position["trade"]["score"]
        _record(decisions, n, bar["seam_ns"], i, EXIT, positions.ROLL_EXIT, score)


@jit
def _settle(
    time_ns: int,
    params: Record,
    position: Record,
    i: int,
    feed: Record,
    bars: Records,
    schedule: Records,
    path: Records,
    opens: Ints,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Replay what one symbol printed before a slice: seam, first minute, minutes that matter."""
    if feed["bar"] < feed["stop"]:
        bar = bars[feed["bar"]]
        if bar["seam_ns"] < time_ns:
            _cross(params, position, i, feed, bar, opens, trades, decisions, n)
        if feed["opened"] == 0 and bar["first_ns"] < time_ns:
            feed["opened"] = 1
            _enter_session(position, feed, opens, bar["first_ns"])
            flats = schedule[feed["bar"]]["flats_first"]
            positions.fill(
                params,
                position,
                i,
                bar["contract"],
                bar["first_ns"],
                bar["open"],
                flats,
                trades,
                n,
            )
        last = feed["path_offset"] + bar["path_stop"]
        while feed["path"] < last and path[feed["path"]]["ts_ns"] < time_ns:
            minute = path[feed["path"]]
            if position["status"] == LEAVING:  # decided inside the bar, by another symbol's slice
                _enter_session(position, feed, opens, minute["ts_ns"])
                positions.fill(
                    params,
                    position,
                    i,
                    bar["contract"],
                    minute["ts_ns"],
                    minute["open"],
                    0,
                    trades,
                    n,
                )
            if position["status"] == OPEN:
                reason = positions.protect(params, position, minute, trades, n)
                if reason > 0:
                    score = position["trade"]["score"]
                    _record(decisions, n, minute["ts_ns"], i, EXIT, reason, score)
            position["mark"] = minute["close"]
            feed["path"] += 1
    if position["status"] == ENTERING and time_ns > position["expire_ns"]:
        position["status"] = FLAT
    if time_ns < NEVER:
        _enter_session(position, feed, opens, time_ns)


@jit
def _read_slice(
    time_ns: int,
    feed: Record,
    bars: Records,
    schedule: Records,
    signals: Records,
    scores: Floats,
    now: Record,
) -> None:
    k = feed["bar"]
    now["closing"] = 0
    now["in_bar"] = feed["opened"]
    if k >= feed["stop"] or bars[k]["end_ns"] != time_ns:
        return
    now["closing"] = 1
    now["close"] = bars[k]["close"]
    now["high"] = bars[k]["high"]
    now["low"] = bars[k]["low"]
    now["ibs"] = signals[k]["ibs"]
    now["atr"] = signals[k]["atr"]
    now["gate"] = signals[k]["gate"]
    now["score"] = scores[k] if len(scores) > 0 else np.nan
    now["flats"] = schedule[k]["flats_end"]
    now["in_roll"] = schedule[k]["in_roll"]
    now["expire_ns"] = schedule[k]["expire_ns"]
    now["close_left_ns"] = schedule[k]["close_left_ns"]
    feed["bar"] += 1
    feed["opened"] = 0
    feed["crossed"] = 0


@jit
def decide_many(
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    feeds: Records,
    bars: Records,
    schedule: Records,
    signals: Records,
    scores: Floats,
    path: Records,
    opens: Ints,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Replay the bars of all symbols, slice by slice.

    Parameters
    ----------
    params : (n_symbols,) PARAMS, in contract-map order
    risk : RISK
    book : (n_symbols,) POSITION
    desk : DESK
    feeds : (n_symbols,) FEED
    bars, schedule, signals : (n_bars,) BAR, SCHEDULE, SIGNAL, symbol after symbol
        A bar that the data do not complete ends NEVER: it fills and protects but decides nothing.
    scores : (n_bars,) float64, or (0,) without a model
    path : (n_path,) PATH, symbol after symbol
    opens : (n_sessions,) int64, session opens, symbol after symbol
    trades : (capacity,) TRADE, appended
    decisions : (capacity,) DECISION, appended
    n : (2,) int64, counts of trades and decisions
    """
    slices = np.zeros(len(book), SLICE)
    while True:
        time_ns = NEVER
        for i in range(len(book)):
            if feeds[i]["bar"] < feeds[i]["stop"]:
                time_ns = min(time_ns, bars[feeds[i]["bar"]]["end_ns"])
        for i in range(len(book)):
            _settle(
                time_ns,
                params[i],
                book[i],
                i,
                feeds[i],
                bars,
                schedule,
                path,
                opens,
                trades,
                decisions,
                n,
            )
        if time_ns == NEVER:
            break
        for i in range(len(book)):
            _read_slice(time_ns, feeds[i], bars, schedule, signals, scores, slices[i])
        decide(time_ns, params, risk, book, desk, slices, decisions, n)
