"""Minutes to signal bars and session bars, one minute at a time.

The one builder of every bar: history, back-test and live. A bar never mixes contracts and never
straddles a session's close; a session bar is folded from the signal bars inside its session.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import BAR, MINUTE_NS, NEVER, Floats, Ints, Record, Records
from ibs_core.kernels._jit import jit
from ibs_core.kernels.inside import stay_inside
from ibs_core.kernels.ring import canonical

__all__ = ["PLAN", "STATE", "close", "finish", "new_state", "step", "switch_contract"]

PLAN = np.dtype(
    [
        ("tf_ns", "i8"),  # width of a signal bar
        ("with_path", "i8"),  # 1: keep the minutes that made a new high or low inside their bar
        ("mark_ns", "i8"),  # > 0: keep the minutes on both sides of each multiple of this
        ("allow_nonpositive", "i8"),  # 1: prices may be zero or negative
    ],
)

STATE = np.dtype(
    [
        ("session", "i8"),  # index of the session that opened last
        ("open_ns", "i8"),
        ("close_ns", "i8"),
        ("break_start_ns", "i8"),
        ("break_end_ns", "i8"),
        ("next_open_ns", "i8"),
        ("contract", "i8"),
        ("seam_ns", "i8"),  # belongs to the next bar that opens
        ("gap", "f8"),
        ("day_seam_ns", "i8"),  # belongs to the next session bar that opens
        ("day_gap", "f8"),
        ("base_ns", "i8"),  # greatest width that divides every distance: that of the data's bars
        ("n_minutes", "i8"),
        (
            "n_outside",
            "i8",
        ),  # minutes outside the calendar: after their session's close, or in its break
        ("n_path", "i8"),
        ("minute_ns", "i8"),  # the last minute, whole
        ("minute_open", "f8"),
        ("minute_high", "f8"),
        ("minute_low", "f8"),
        ("minute_close", "f8"),
        ("minute_kept", "i8"),  # 1: it already stands in the path
        ("has_bar", "i8"),
        ("has_day", "i8"),
        ("bar", BAR),
        ("day", BAR),
    ],
)


def new_state() -> Records:
    """Make the state before any minute.

    Returns
    -------
    (1,) STATE
    """
    state = np.zeros(1, STATE)
    state["session"] = -1
    state["base_ns"] = NEVER
    state["minute_ns"] = -NEVER
    return state


@jit
def _enter_session(state: Record, sessions: Records, ts_ns: int) -> None:
    i = state["session"]
    while i + 1 < len(sessions) and sessions[i + 1]["open_ns"] <= ts_ns:
        i += 1
    state["session"] = i
    state["open_ns"] = sessions[i]["open_ns"]
    state["close_ns"] = sessions[i]["close_ns"]
    state["break_start_ns"] = sessions[i]["break_start_ns"]
    state["break_end_ns"] = sessions[i]["break_end_ns"]
    state["next_open_ns"] = sessions[i + 1]["open_ns"] if i + 1 < len(sessions) else NEVER


@jit
def _fold_day(state: Record, bar: Record) -> None:
    day = state["day"]
    if state["has_day"] == 0:
        state["day"] = bar
        day["start_ns"] = max(state["open_ns"], state["day_seam_ns"])
        day["end_ns"] = state["close_ns"]
        day["seam_ns"] = state["day_seam_ns"]
        day["gap"] = state["day_gap"]
        state["day_seam_ns"] = 0
        state["day_gap"] = 0.0
        state["has_day"] = 1
        return
    day["last_ns"] = bar["last_ns"]
    day["high"] = max(day["high"], bar["high"])
    day["low"] = min(day["low"], bar["low"])
    day["close"] = bar["close"]
    day["volume"] += bar["volume"]
    day["n_minutes"] += bar["n_minutes"]


@jit
def _emit_day(state: Record, days: Records, n: Ints) -> None:
    days[n[1]] = state["day"]
    n[1] += 1
    state["has_day"] = 0


@jit
def _emit_bar(state: Record, bars: Records, days: Records, n: Ints) -> None:
    bar = state["bar"]
    bar["path_stop"] = state["n_path"]
    bars[n[0]] = bar
    n[0] += 1
    state["has_bar"] = 0
    if bar["start_ns"] < state["close_ns"]:
        _fold_day(state, bar)
        if bar["end_ns"] == state["close_ns"]:
            _emit_day(state, days, n)


@jit
def _keep_minute(state: Record, path: Records, n: Ints) -> None:
    if state["minute_kept"] == 1:
        return
    path[n[2]]["ts_ns"] = state["minute_ns"]
    path[n[2]]["open"] = state["minute_open"]
    path[n[2]]["high"] = state["minute_high"]
    path[n[2]]["low"] = state["minute_low"]
    path[n[2]]["close"] = state["minute_close"]
    n[2] += 1
    state["n_path"] += 1
    state["minute_kept"] = 1


@jit
def _open_bar(state: Record, plan: Record, ts_ns: int, price: float) -> None:
    bar = state["bar"]
    since = (ts_ns - state["open_ns"]) // plan["tf_ns"] * plan["tf_ns"] + state["open_ns"]
    if ts_ns < state["close_ns"]:
        bar["start_ns"] = since
        bar["end_ns"] = min(since + plan["tf_ns"], state["close_ns"])
    else:  # a minute outside the calendar: its session's bars ended at the close
        bar["start_ns"] = max(since, state["close_ns"])
        bar["end_ns"] = min(since + plan["tf_ns"], state["next_open_ns"])
    bar["start_ns"] = max(bar["start_ns"], state["seam_ns"])
    bar["first_ns"] = ts_ns
    bar["open"] = price
    bar["high"] = -np.inf
    bar["low"] = np.inf
    bar["volume"] = 0.0
    bar["n_minutes"] = 0
    bar["session"] = state["session"]
    bar["contract"] = state["contract"]
    bar["seam_ns"] = state["seam_ns"]
    bar["gap"] = state["gap"]
    bar["path_start"] = state["n_path"]
    state["seam_ns"] = 0
    state["gap"] = 0.0
    state["has_bar"] = 1


@jit
def switch_contract(
    state: Record,
    sessions: Records,
    contract: int,
    ts_ns: int,
    first_open: float,
    bars: Records,
    days: Records,
    n: Ints,
) -> None:
    """Cut the open bars at the seam before the first minute of a new contract.

    Parameters
    ----------
    state : STATE
    sessions : (n_sessions,) SESSION
    contract : int64
    ts_ns, first_open : the new contract's first minute and its open
    bars, days : (capacity,) BAR, the bars that the cut closes are appended
    n : (3,) int64, counts of bars, days and path minutes written so far
    """
    if state["n_minutes"] > 0:
        seam_ns = ts_ns
        if ts_ns >= state["next_open_ns"]:  # the contract changed between two sessions
            i = state["session"]
            while i + 1 < len(sessions) and sessions[i + 1]["open_ns"] <= ts_ns:
                i += 1
            seam_ns = sessions[i]["open_ns"]
        gap = canonical(first_open - state["minute_close"])
        if state["has_bar"] == 1:
            state["bar"]["end_ns"] = min(state["bar"]["end_ns"], seam_ns)
            _emit_bar(state, bars, days, n)
        if state["has_day"] == 1:
            state["day"]["end_ns"] = min(state["day"]["end_ns"], seam_ns)
            _emit_day(state, days, n)
        state["seam_ns"] = seam_ns
        state["gap"] = gap
        state["day_seam_ns"] = seam_ns
        state["day_gap"] += gap
    state["contract"] = contract


@jit
def _common_width(base_ns: int, distance_ns: int) -> int:
    """Return the greatest common divisor of the width so far and a new distance of two minutes."""
    if base_ns == NEVER:
        return distance_ns
    while distance_ns != 0:
        base_ns, distance_ns = distance_ns, base_ns % distance_ns
    return base_ns


@jit
def step(
    state: Record,
    plan: Record,
    sessions: Records,
    ts: Ints,
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    bars: Records,
    days: Records,
    path: Records,
    n: Ints,
) -> int:
    """Take consecutive minutes of one contract.

    Parameters
    ----------
    state : STATE
    plan : PLAN
    sessions : (n_sessions,) SESSION
    ts : (n_minutes,) int64, minute opens, strictly increasing
    open_, high, low, close : (n_minutes,) float64, price units
    volume : (n_minutes,) float64, or (0,) when there is none
    bars, days : (capacity,) BAR, closed bars are appended
    path : (capacity,) PATH, minutes to remember are appended
    n : (3,) int64, counts of bars, days and path minutes written so far

    Returns
    -------
    int64
        -1, or the index of the first minute that breaks a law of minute bars (order, finite prices,
        ``low <= open, close <= high``, positive prices where required); nothing from it on is taken.
    """
    remembers = plan["with_path"] == 1 or plan["mark_ns"] > 0
    floor = -np.inf if plan["allow_nonpositive"] == 1 else 0.0
    i = 0
    while i < len(ts):
        regular = (
            ts[i] > state["minute_ns"]
            and low[i] <= open_[i] <= high[i]
            and low[i] <= close[i] <= high[i]
            and high[i] < np.inf
            and low[i] > floor
        )
        if not regular:
            return i
        if state["n_minutes"] > 0 and (ts[i] - state["minute_ns"]) % state["base_ns"] != 0:
            state["base_ns"] = _common_width(state["base_ns"], ts[i] - state["minute_ns"])
        marked = False
        if plan["mark_ns"] > 0 and state["has_bar"] == 1:
            marked = ts[i] // plan["mark_ns"] != state["minute_ns"] // plan["mark_ns"]
            if marked:
                _keep_minute(state, path, n)
        if state["has_bar"] == 0 or ts[i] >= state["bar"]["end_ns"]:
            if state["has_bar"] == 1:
                _emit_bar(state, bars, days, n)
            if state["has_day"] == 1 and ts[i] >= state["close_ns"]:
                _emit_day(state, days, n)  # before any bar outside the calendar ends
            if ts[i] >= state["next_open_ns"] or state["session"] < 0:
                _enter_session(state, sessions, ts[i])
            _open_bar(state, plan, ts[i], open_[i])
        state["minute_ns"] = ts[i]
        state["minute_close"] = close[i]
        if remembers:
            state["minute_open"] = open_[i]
            state["minute_high"] = high[i]
            state["minute_low"] = low[i]
            state["minute_kept"] = 0
        state["n_minutes"] += 1
        in_break = state["break_start_ns"] <= ts[i] < state["break_end_ns"]
        is_outside = in_break or ts[i] >= state["close_ns"]
        if is_outside:
            state["n_outside"] += 1
        bar = state["bar"]
        if high[i] > bar["high"] or low[i] < bar["low"]:
            bar["high"] = max(bar["high"], high[i])
            bar["low"] = min(bar["low"], low[i])
            marked = marked or plan["with_path"] == 1
        if marked:
            _keep_minute(state, path, n)
        bar["close"] = close[i]
        bar["last_ns"] = ts[i]
        bar["volume"] += volume[i] if len(volume) > 0 else np.nan
        bar["n_minutes"] += 1
        i += 1
        if not remembers and not is_outside:
            i = stay_inside(state, floor, ts, open_, high, low, close, volume, i)
    return -1


@jit
def close(state: Record, now_ns: int, seam_ns: int, bars: Records, days: Records, n: Ints) -> None:
    """Hand over the bars that have ended; more minutes may follow.

    Parameters
    ----------
    state : STATE
    now_ns : int64, UTC ns
        Every minute that opens before it was taken.
    seam_ns : int64, UTC ns
        The next known roll instant, which ends the last bars of the contract; NEVER: none is known.
    bars, days : (capacity,) BAR, the ended bars are appended
    n : (3,) int64, counts of bars, days and path minutes written so far
    """
    cut = state["minute_ns"] < seam_ns <= now_ns
    if state["has_bar"] == 1:
        if cut:
            state["bar"]["end_ns"] = min(state["bar"]["end_ns"], seam_ns)
        if state["bar"]["end_ns"] <= now_ns:
            _emit_bar(state, bars, days, n)
    if state["has_day"] == 1:
        if cut:
            state["day"]["end_ns"] = min(state["day"]["end_ns"], seam_ns)
        if state["day"]["end_ns"] <= now_ns:
            _emit_day(state, days, n)


@jit
def finish(state: Record, now_ns: int, bars: Records, days: Records, n: Ints) -> int:
    """Hand over the bars in progress when the data end.

    Parameters
    ----------
    state : STATE
    now_ns : int64, every bar that ended by then is closed; at least the end of the last minute counts
    bars, days : (capacity,) BAR, the last bars are appended
    n : (3,) int64, counts of bars, days and path minutes written so far

    Returns
    -------
    int64
        1 when the last bar is closed, 0 when the data stop inside it: it is handed over all the same, its
        session bar is not.
    """
    if state["has_bar"] == 0:
        return 1
    width_ns = state["base_ns"] if state["base_ns"] < NEVER else MINUTE_NS
    now_ns = max(now_ns, state["minute_ns"] + width_ns)
    if now_ns < state["bar"]["end_ns"]:
        state["bar"]["path_stop"] = state["n_path"]
        bars[n[0]] = state["bar"]
        n[0] += 1
        state["has_bar"] = 0
        return 0
    _emit_bar(state, bars, days, n)
    if state["has_day"] == 1 and now_ns >= state["close_ns"]:
        _emit_day(state, days, n)
    return 1
