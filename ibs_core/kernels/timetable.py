"""What the calendar says of each signal bar, in one pass over the bars."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import DAY_NS, MINUTE_NS, Ints, Record, Records
from ibs_core.kernels._jit import inlined, jit

__all__ = ["TERMS", "calendar", "lay"]

TERMS = np.dtype(
    [
        ("first_date", "i8"),  # session dates that are traded, both included
        ("last_date", "i8"),
        ("max_wait_ns", "i8"),  # open-market time within which an entry must fill
    ]
)
"""What a rule asks of the calendar."""


@jit
def _reached(instants: Ints, at_ns: int, guess: int) -> int:
    """Count the sorted instants up to one, itself included, from a guess: bars come in order."""
    while guess < len(instants) and instants[guess] <= at_ns:
        guess += 1
    while guess > 0 and instants[guess - 1] > at_ns:
        guess -= 1
    return guess


@jit
def calendar(
    bars: Records, dates: Records, transition: Ints, offset: Ints, calendars: Records
) -> None:
    """Tell the exchange-local date and time of each bar's start.

    Parameters
    ----------
    bars : (n_bars,) BAR
    dates : (n_sessions,) CALENDAR
        Of each session's trade date; ``local_minute`` is not read.
    transition : (n,) int64, UTC ns
        Increasing, the first at or before every bar.
    offset : (n,) int64, ns
        In force from the transition on; local = UTC + offset.
    calendars : (n_bars,) CALENDAR, written
    """
    at = 1
    for i in range(len(bars)):
        at = _date(bars[i], dates[bars[i]["session"]], transition, offset, at, calendars[i])


@inlined
def _date(
    bar: Record, date: Record, transition: Ints, offset: Ints, guess: int, out: Record
) -> int:
    """Write the local date and time of a bar's start; return how many transitions it has reached."""
    at = _reached(transition, bar["start_ns"], guess)
    # A day's remainder first: the compiler then divides by a constant that it can multiply by.
    out["local_minute"] = (bar["start_ns"] + offset[at - 1]) % DAY_NS // MINUTE_NS
    out["weekday"] = date["weekday"]
    out["month"] = date["month"]
    out["day"] = date["day"]
    return at


@jit
def lay(
    bars: Records,
    dates: Records,
    transition: Ints,
    offset: Ints,
    open_ns: Ints,
    close_ns: Ints,
    break_start_ns: Ints,
    break_end_ns: Ints,
    trade_date: Ints,
    clock_ns: Ints,
    terms: Record,
    flats: Ints,
    early: Ints,
    instants: Ints,
    seams: Ints,
    leaves: Ints,
    out: Records,
) -> None:
    """Lay the calendar over signal bars; ``feeds_cold`` is left alone.

    Parameters
    ----------
    bars : (n_bars,) BAR
        In order of their end, at or after the first open of `sessions`.
    dates, transition, offset
        As ``calendar`` takes them.
    open_ns, close_ns, break_start_ns, break_end_ns, trade_date, clock_ns : (n_sessions,) int64
        As in ``sessions.Sessions``.
    terms : TERMS
    flats, early : (n_sessions,) int64, UTC ns
        Each session's ``flat_by`` instant and its last boundary before an early close; far in the future when
        there is none.
    instants : (2 * n_sessions,) int64, UTC ns
        Both, sorted.
    seams : (n_seams,) int64, UTC ns
        Roll instants, strictly increasing.
    leaves : (n_seams + 1,) int64, UTC ns
        From when on the contract that ends at each seam is given up.
    out : (n_bars,) SCHEDULE, written
    """
    if len(bars) == 0:
        return
    ended = int(np.searchsorted(instants, bars[0]["end_ns"], side="right"))
    seam = int(np.searchsorted(seams, bars[0]["end_ns"], side="left"))
    opened, at = ended, 1
    here = fills = int(bars[0]["session"]) + 1
    for i in range(len(bars)):
        end_ns, session = bars[i]["end_ns"], bars[i]["session"]
        opened = _reached(instants, bars[i]["first_ns"], opened)
        ended = _reached(instants, end_ns, ended)
        seam = _reached(seams, end_ns - 1, seam)
        bar = out[i]
        at = _date(bars[i], dates[session], transition, offset, at, bar["calendar"])
        bar["traded"] = terms["first_date"] <= trade_date[session] <= terms["last_date"]
        bar["in_flat_by"] = flats[session] <= end_ns <= close_ns[session]
        bar["in_early_close"] = end_ns >= early[session]
        bar["in_roll"] = end_ns >= leaves[seam]  # from the boundary of the next seam on
        bar["flats_first"] = opened
        bar["flats_end"] = ended
        bar["close_left_ns"] = max(close_ns[session] - end_ns, 0)
        here = _reached(open_ns, end_ns, here)
        pause_ns = min(max(end_ns, break_start_ns[here - 1]), break_end_ns[here - 1])
        pause_ns -= break_start_ns[here - 1]
        spent_ns = min(end_ns, close_ns[here - 1]) - open_ns[here - 1] - pause_ns
        target_ns = clock_ns[here - 1] + spent_ns + terms["max_wait_ns"]
        fills = _reached(clock_ns, target_ns, fills)
        since_open = target_ns - clock_ns[fills - 1]
        is_after = since_open >= break_start_ns[fills - 1] - open_ns[fills - 1]
        pause_ns = break_end_ns[fills - 1] - break_start_ns[fills - 1]
        bar["expire_ns"] = open_ns[fills - 1] + since_open + (pause_ns if is_after else 0)
