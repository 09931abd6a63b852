"""Replay: the bars of all symbols, slice by slice, through ``decide``.

What a live worker sees minute by minute is taken from three places: a bar's first minute fills what is
pending, the path minutes touch resting levels, and the bar's end makes a slice.
"""

from __future__ import annotations

import numpy as np

from ibs_core import portfolio, positions
from ibs_core.bars import NEVER, Ints, Record, Records
from ibs_core.kernels._jit import jit, jit_allocating
from ibs_core.positions import ENTERING, FLAT, LEAVING, OPEN
from ibs_core.signals import CANDIDATE, NOT_TRADED

__all__ = ["FEED", "decide_many", "label_many"]

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


@jit
def _enter_session(position: Record, feed: Record, sessions: Records, ts_ns: int) -> None:
    """Let the symbol's session be the one that opened last; its realised P&L starts anew."""
    k = feed["session"]
    while k + 1 < feed["session_stop"] and sessions[k + 1]["open_ns"] <= ts_ns:
        k += 1
    feed["session"] = k
    if position["date"] != sessions[k]["date"]:
        position["date"] = sessions[k]["date"]
        position["realised_usd"] = 0.0


@jit
def _cross(
    params: Record,
    position: Record,
    i: int,
    desk: Record,
    feed: Record,
    bar: Record,
    sessions: Records,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    if bar["seam_ns"] == 0 or feed["crossed"] == 1:
        return
    feed["crossed"] = 1
    _enter_session(position, feed, sessions, bar["seam_ns"])
    if positions.cross_seam(params, position, bar["seam_ns"], trades, n) == 1:
        portfolio.log_order(desk, bar["seam_ns"])
        score = position["trade"]["score"]
        portfolio.record(
            decisions, n, bar["seam_ns"], i, portfolio.EXIT, positions.ROLL_EXIT, score
        )


@jit
def _settle(
    time_ns: int,
    params: Record,
    position: Record,
    i: int,
    desk: Record,
    feed: Record,
    bars: Records,
    schedule: Records,
    path: Records,
    sessions: Records,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Replay what one symbol printed before a slice: seam, first minute, minutes that matter."""
    if feed["bar"] < feed["stop"]:
        bar = bars[feed["bar"]]
        if bar["seam_ns"] < time_ns:
            _cross(params, position, i, desk, feed, bar, sessions, trades, decisions, n)
        if feed["opened"] == 0 and bar["first_ns"] < time_ns:
            feed["opened"] = 1
            _enter_session(position, feed, sessions, bar["first_ns"])
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
            # Decided inside the bar, by another symbol's slice.
            if position["status"] == LEAVING and minute["ts_ns"] >= position["leave_ns"]:
                _enter_session(position, feed, sessions, minute["ts_ns"])
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
                    portfolio.record(
                        decisions, n, minute["ts_ns"], i, portfolio.EXIT, reason, score
                    )
            position["mark"] = minute["close"]
            feed["path"] += 1
        if bar["end_ns"] == NEVER and bar["last_ns"] < time_ns:  # the data stop inside it
            position["mark"] = bar["close"]
    if position["status"] == ENTERING and time_ns > position["expire_ns"]:
        position["status"] = FLAT
    if time_ns < NEVER:
        _enter_session(position, feed, sessions, time_ns)


@jit
def _read_slice(
    time_ns: int,
    feed: Record,
    bars: Records,
    schedule: Records,
    signals: Records,
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
    now["score"] = signals[k]["score"]
    now["verdict"] = signals[k]["verdict"]
    now["flats"] = schedule[k]["flats_end"]
    now["in_roll"] = schedule[k]["in_roll"]
    now["expire_ns"] = schedule[k]["expire_ns"]
    now["close_left_ns"] = schedule[k]["close_left_ns"]
    feed["bar"] += 1
    feed["opened"] = 0
    feed["crossed"] = 0


@jit
def _last_ended(feed: Record, bars: Records, until_ns: int) -> int:
    """Return the symbol's last bar that ends by an instant; the one before its first when none does."""
    k = feed["stop"] - 1
    while k >= feed["bar"] and (bars[k]["end_ns"] > until_ns or bars[k]["end_ns"] == NEVER):
        k -= 1
    return int(k)


@jit
def _next_end(
    position: Record, feed: Record, bars: Records, signals: Records, last: int, watched: int
) -> int:
    """Return when the bar ends at which the symbol may decide something next; NEVER: none ends.

    While it is flat that is its next candidate: the bars before it change nothing that another symbol sees,
    unless the loss of the day is watched. Its last one is always seen.
    """
    k = feed["bar"]
    if position["status"] == FLAT and position["cooldown"] == 0 and watched == 0:
        while k < last and signals[k]["gate"] != CANDIDATE:
            k += 1
        if k > feed["bar"]:
            feed["bar"], feed["opened"], feed["crossed"] = k, 0, 0
            feed["path"] = feed["path_offset"] + bars[k]["path_start"]
    return bars[k]["end_ns"] if k <= last else NEVER


@jit
def _belongs(given: Record, time_ns: int) -> bool:
    """Tell whether an input was told to the slice of an instant."""
    return bool(given["time_ns"] + given["after"] <= time_ns)


@jit_allocating
def decide_many(
    until_ns: int,
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    feeds: Records,
    bars: Records,
    schedule: Records,
    signals: Records,
    path: Records,
    sessions: Records,
    inputs: Records,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Replay the bars of all symbols, slice by slice.

    Parameters
    ----------
    until_ns : int64, UTC ns
        Slices up to here are decided, and what printed before it is settled; NEVER: the data end.
    params : (n_symbols,) PARAMS, in contract-map order
    risk : RISK
    book : (n_symbols,) POSITION
    desk : DESK
    feeds : (n_symbols,) FEED
    bars, schedule, signals : (n_bars,) BAR, SCHEDULE, SIGNAL, symbol after symbol
        A bar that the data do not complete ends NEVER: it fills and protects but decides nothing. One in
        progress ends after ``until_ns``.
    path : (n_path,) PATH, symbol after symbol
    sessions : (n_sessions,) SESSION, symbol after symbol
    inputs : (n_inputs,) INPUT, by time, those after a slice behind those before it
    trades : (capacity,) TRADE, by exit, added to
    decisions : (capacity,) DECISION, by time, added to
    n : (3,) int64, counts of trades, decisions and inputs taken
    """
    slices = np.zeros(len(book), portfolio.SLICE)
    ends, lasts = np.zeros(len(book), np.int64), np.zeros(len(book), np.int64)
    watched = 0 if np.isnan(risk["daily_loss_usd"]) else 1
    for i in range(len(book)):
        lasts[i] = _last_ended(feeds[i], bars, until_ns)
        ends[i] = _next_end(book[i], feeds[i], bars, signals, lasts[i], watched)
    _replay(
        *(until_ns, params, risk, book, desk, feeds, bars, schedule, signals, path, sessions),
        *(inputs, trades, decisions, n, slices, ends, lasts, watched),
    )


@jit
def _replay(
    until_ns: int,
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    feeds: Records,
    bars: Records,
    schedule: Records,
    signals: Records,
    path: Records,
    sessions: Records,
    inputs: Records,
    trades: Records,
    decisions: Records,
    n: Ints,
    slices: Records,
    ends: Ints,
    lasts: Ints,
    watched: int,
) -> None:
    """Do it in room that is there: a function that makes arrays counts references to all of them."""
    decided_ns = -NEVER
    while True:
        time_ns = NEVER
        for i in range(len(ends)):
            time_ns = min(time_ns, ends[i])
        alone = n[2] < len(inputs) and inputs[n[2]]["time_ns"] < time_ns
        if alone:
            time_ns = inputs[n[2]]["time_ns"]
        if time_ns > until_ns or time_ns == NEVER:
            break
        decided_ns = time_ns
        for i in range(len(book)):
            slices[i]["closing"] = 0
            if ends[i] == time_ns or book[i]["status"] != FLAT or watched == 1:
                one, feed = book[i], feeds[i]
                _settle(
                    *(time_ns, params[i], one, i, desk, feed, bars, schedule, path, sessions),
                    *(trades, decisions, n),
                )
                _read_slice(time_ns, feed, bars, schedule, signals, slices[i])
        told = n[2]
        while n[2] < len(inputs) and (alone or _belongs(inputs[n[2]], time_ns)):
            n[2] += 1
            if alone:
                break
        portfolio.decide(
            time_ns, params, risk, book, desk, slices, inputs[told : n[2]], decisions, n
        )
        for i in range(len(book)):
            if slices[i]["closing"] == 1:
                ends[i] = _next_end(book[i], feeds[i], bars, signals, lasts[i], watched)
    for i in range(len(book)):
        one, feed = book[i], feeds[i]
        if decided_ns > -NEVER:  # of what slept when the last slice came
            _enter_session(one, feed, sessions, decided_ns)
        _settle(
            *(until_ns, params[i], one, i, desk, feed, bars, schedule, path, sessions),
            *(trades, decisions, n),
        )


@jit_allocating
def _label(
    k: int,
    params: Records,
    risk: Record,
    feed: Records,
    bars: Records,
    schedule: Records,
    signals: Records,
    path: Records,
    sessions: Records,
    trades: Records,
    decisions: Records,
    n: Ints,
) -> None:
    """Take one candidate as if nothing else were held, and follow it until it is flat."""
    book, desk = np.zeros(1, positions.POSITION), np.zeros(1, portfolio.DESK)
    slices, inputs = np.zeros(1, portfolio.SLICE), np.zeros(0, portfolio.INPUT)
    desk[0]["halted_date"] = -NEVER
    feed[0]["bar"], feed[0]["opened"], feed[0]["crossed"] = k, 1, 1
    feed[0]["path"] = feed[0]["path_offset"] + bars[k]["path_stop"]
    time_ns = bars[k]["end_ns"]
    _enter_session(book[0], feed[0], sessions, time_ns)
    while True:
        _read_slice(time_ns, feed[0], bars, schedule, signals, slices[0])
        if feed[0]["bar"] > k + 1:
            slices[0]["gate"] = NOT_TRADED
        n[1] = 0
        portfolio.decide(time_ns, params, risk, book, desk[0], slices, inputs, decisions, n)
        if book[0]["status"] == FLAT:
            return
        time_ns = bars[feed[0]["bar"]]["end_ns"] if feed[0]["bar"] < feed[0]["stop"] else NEVER
        _settle(
            *(time_ns, params[0], book[0], 0, desk[0], feed[0], bars, schedule, path, sessions),
            *(trades, decisions, n),
        )
        if book[0]["status"] == FLAT or time_ns == NEVER:
            return


@jit_allocating
def label_many(
    params: Records,
    risk: Record,
    feed: Records,
    bars: Records,
    schedule: Records,
    signals: Records,
    path: Records,
    sessions: Records,
    candidates: Ints,
    trades: Records,
    labelled: Ints,
) -> None:
    """Give each candidate of one symbol the trade that it alone would have become.

    Parameters
    ----------
    params : (1,) PARAMS
    risk : RISK, without limits
    feed : (1,) FEED, at the symbol's start
    bars, schedule, signals : (n_bars,) BAR, SCHEDULE, SIGNAL
    path : (n_path,) PATH
    sessions : (n_sessions,) SESSION
    candidates : (n_candidates,) int64, bars in order
    trades : (n_candidates,) TRADE, written
    labelled : (n_candidates,) int64, written: 1 where the trade ended, 0 where the entry lapsed or the data end
    """
    one, n = np.zeros(2, positions.TRADE), np.zeros(2, np.int64)
    decisions = np.zeros(64, portfolio.DECISION)
    for c in range(len(candidates)):
        n[:] = 0
        k = candidates[c]
        _label(k, params, risk, feed, bars, schedule, signals, path, sessions, one, decisions, n)
        labelled[c] = n[0]
        trades[c] = one[0]
