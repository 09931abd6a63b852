"""Bars to candidates: features are observed, then the cheap gates are tried in order.

Nothing here knows a position, a limit or another symbol, which is what lets the back-test run it over
whole arrays and live over one bar with the same compiled code.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Record, Records
from ibs_core.kernels import features
from ibs_core.kernels._jit import jit

__all__ = [
    "CANDIDATE",
    "FIRST_FILTER",
    "GATES",
    "NOT_TRADED",
    "PARAMS",
    "SCHEDULE",
    "SIGNAL",
    "new_state",
    "observe_many",
]

GATES = ("window", "ibs", "warm_up", "pivots", "atr", "flat_by", "early_close", "roll")
"""Cheap gates by code - 1; the filters are tried between ``atr`` and ``flat_by``."""

CANDIDATE = 0
NOT_TRADED = -1  # outside the asked-for session dates
WINDOW, IBS, WARM_UP, PIVOTS, ATR, FLAT_BY, EARLY_CLOSE, ROLL = range(1, len(GATES) + 1)
FIRST_FILTER = 100
"""Gate code of the first filter of a symbol; the next follow."""

MAX_WINDOWS = 8
MAX_FILTERS = 32
MAX_MEMBERS = 16

FILTER = np.dtype(
    [
        ("feature", "i8"),  # index into the feature row
        ("low", "f8"),
        ("high", "f8"),  # the value passes within [low, high] ...
        ("n_members", "i8"),  # ... or, when > 0, when it equals a member
        ("members", "f8", (MAX_MEMBERS,)),
    ],
)

PARAMS = np.dtype(
    [
        ("ibs_low", "f8"),
        ("ibs_high", "f8"),
        ("n_windows", "i8"),
        ("windows", "i8", (MAX_WINDOWS, 2)),  # exchange-local minutes [start, end)
        ("pivots", "i8"),  # 0 none, 1 inside, 2 higher_high
        ("needs_atr", "i8"),
        ("warmup_bars", "i8"),
        ("warmup_days", "i8"),
        ("n_filters", "i8"),
        ("filters", FILTER, (MAX_FILTERS,)),
        ("needs", "i8", (features.N_FEATURES,)),
        # What makes a position leave; NaN or 0 is off.
        ("stop_percent", "f8"),
        ("stop_atr", "f8"),
        ("target_percent", "f8"),
        ("target_atr", "f8"),
        ("exit_ibs_low", "f8"),
        ("exit_ibs_high", "f8"),
        ("exit_bars", "i8"),
        ("protective_stop_percent", "f8"),
        ("protective_stop_atr", "f8"),
        ("protective_target_percent", "f8"),
        ("protective_target_atr", "f8"),
        ("cooldown_bars", "i8"),
        # the executed contract
        ("tick_nano", "i8"),  # 1e-9 price units
        ("usd_per_point", "f8"),  # quantity included
        ("cost_usd", "f8"),  # both sides, quantity included
    ],
)
"""One symbol's rule, flat and frozen."""

SCHEDULE = np.dtype(
    [
        ("traded", "i8"),  # 1: inside the asked-for session dates
        ("calendar", features.CALENDAR),
        ("in_flat_by", "i8"),  # 1: no entry, flat_by has passed in this session
        ("in_early_close", "i8"),  # 1: no entry, the early close is near
        ("in_roll", "i8"),  # 1: no entry and every position leaves, the contract ends
        ("flats_first", "i8"),  # flat_by instants up to the bar's first minute
        ("flats_end", "i8"),  # flat_by instants up to the bar's end
        ("expire_ns", "i8"),  # the last instant at which an entry decided at the end may fill
        ("close_left_ns", "i8"),  # from the end to the session's close
    ],
)
"""What the calendar and the roll table say of one bar; made by ``schedule.py``."""

SIGNAL = np.dtype([("ibs", "f8"), ("atr", "f8"), ("gate", "i8")])
"""What a closed bar says: its IBS, its ATR(14) where needed, and the first gate that failed (0: none)."""


def new_state() -> Records:
    """Make the state of one instrument before any bar.

    Returns
    -------
    (1,) features.STATE
    """
    return np.zeros(1, features.STATE)


@jit
def _in_windows(params: Record, minute: int) -> bool:
    if params["n_windows"] == 0:
        return True
    for i in range(params["n_windows"]):
        if params["windows"][i, 0] <= minute < params["windows"][i, 1]:
            return True
    return False


@jit
def _passes_pivots(params: Record, swings: Record, bar: Record) -> bool:
    if params["pivots"] == 0:
        return True
    if params["pivots"] == 1:
        known = swings["n_highs"] > 0 and swings["n_lows"] > 0
        return known and swings["last_low"] <= bar["close"] <= swings["last_high"]
    rising = swings["n_highs"] > 1 and swings["last_high"] > swings["previous_high"]
    return rising and bar["high"] > swings["last_high"]


@jit
def _failed_filter(params: Record, row: Floats) -> int:
    """Return the index of the first filter that fails, -1 when all pass; a missing value fails."""
    for i in range(params["n_filters"]):
        rule = params["filters"][i]
        value = row[rule["feature"]]
        passed = rule["low"] <= value <= rule["high"]
        if rule["n_members"] > 0:
            passed = False
            for k in range(rule["n_members"]):
                passed = passed or value == rule["members"][k]
        if not passed:
            return i
    return -1


@jit
def gate(params: Record, state: Record, bar: Record, schedule: Record, row: Floats) -> int:
    """Try the cheap gates in order.

    Parameters
    ----------
    params : PARAMS
    state : features.STATE, after the bar
    bar : BAR
    schedule : SCHEDULE
    row : (N_FEATURES,) float64

    Returns
    -------
    int64
        CANDIDATE, NOT_TRADED, the code of the first gate that failed, or FIRST_FILTER + i.
    """
    side = state["bar"]
    if schedule["traded"] == 0:
        return NOT_TRADED
    if not _in_windows(params, schedule["calendar"]["local_minute"]):
        return WINDOW
    if not params["ibs_low"] <= row[0] <= params["ibs_high"]:
        return IBS
    if side["n_bars"] < params["warmup_bars"] or state["day"]["n_bars"] < params["warmup_days"]:
        return WARM_UP
    if not _passes_pivots(params, side["pivots"], bar):
        return PIVOTS
    if params["needs_atr"] == 1 and not side["atr"] > 0.0:
        return ATR
    failed = _failed_filter(params, row)
    if failed >= 0:
        return FIRST_FILTER + failed
    if schedule["in_flat_by"] == 1:
        return FLAT_BY
    if schedule["in_early_close"] == 1:
        return EARLY_CLOSE
    return ROLL if schedule["in_roll"] == 1 else CANDIDATE


@jit
def observe_many(
    params: Record,
    state: Record,
    bars: Records,
    days: Records,
    schedule: Records,
    signals: Records,
    rows: Floats,
) -> int:
    """Observe consecutive closed bars of one symbol.

    Parameters
    ----------
    params : PARAMS
    state : features.STATE
    bars : (n_bars,) BAR, closed signal bars in order of their end
    days : (n_days,) BAR, closed session bars in order of their end
    schedule : (n_bars,) SCHEDULE
    signals : (n_bars,) SIGNAL, written
    rows : (n_rows, N_FEATURES) float64, the feature rows of candidates are written while they fit

    Returns
    -------
    int64, the number of candidates
    """
    row = np.empty(features.N_FEATURES)
    n_candidates = 0
    k = 0
    for i in range(len(bars)):
        while k < len(days) and days[k]["end_ns"] <= bars[i]["end_ns"]:
            features.observe_day(params["needs"], state, days[k])
            k += 1
        features.observe(params["needs"], state, bars[i], schedule[i]["calendar"], row)
        signals[i]["ibs"] = row[0]
        signals[i]["atr"] = state["bar"]["atr"]
        signals[i]["gate"] = gate(params, state, bars[i], schedule[i], row)
        if signals[i]["gate"] == CANDIDATE:
            if n_candidates < len(rows):
                rows[n_candidates] = row
            n_candidates += 1
    return n_candidates
