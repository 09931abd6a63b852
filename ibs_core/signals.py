"""Bars to candidates: features are observed, then the cheap gates are tried in order.

Nothing here knows a position, a limit or another symbol, which is what lets the back-test run it over
whole arrays and live over one bar with the same compiled code.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Ints, Record, Records
from ibs_core.kernels import graph as graphs
from ibs_core.kernels._jit import jit
from ibs_core.kernels.calendar import CALENDAR
from ibs_core.kernels.nodes import Graph, Memory

__all__ = [
    "CANDIDATE",
    "FIRST_FILTER",
    "FIRST_MISSING",
    "GATES",
    "NOT_TRADED",
    "PARAMS",
    "SCHEDULE",
    "SIGNAL",
    "features_many",
    "gate_many",
    "observe_many",
]

GATES = ("window", "ibs", "warm_up", "pivots", "atr", "flat_by", "early_close", "roll")
"""Cheap gates by code - 1; the filters are tried between ``atr`` and ``flat_by``."""

CANDIDATE = 0
NOT_TRADED = -1  # outside the asked-for session dates
WINDOW, IBS, WARM_UP, PIVOTS, ATR, FLAT_BY, EARLY_CLOSE, ROLL = range(1, len(GATES) + 1)
FIRST_FILTER = 100
"""Gate code of the first filter of a symbol, out of range; the next follow."""
FIRST_MISSING = 200
"""Gate code of the first filter whose feature has no value; the next follow."""

MAX_WINDOWS = 8
MAX_FILTERS = 32
MAX_MEMBERS = 16

FILTER = np.dtype(
    [
        ("column", "i8"),  # of the feature row
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
        ("ibs_column", "i8"),
        ("pivot_column", "i8"),  # of the state, or of the higher high
        ("atr_column", "i8"),  # -1 when no distance is in ATR
        ("warmup_bars", "i8"),
        ("warmup_days", "i8"),
        ("n_filters", "i8"),
        ("filters", FILTER, (MAX_FILTERS,)),
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
        ("quantity", "i8"),
        ("tick_nano", "i8"),  # 1e-9 price units
        ("usd_per_point", "f8"),  # quantity included
        ("cost_usd", "f8"),  # both sides, quantity included
    ],
)
"""One symbol's rule, flat and frozen."""

SCHEDULE = np.dtype(
    [
        ("traded", "i8"),  # 1: inside the asked-for session dates
        ("calendar", CALENDAR),
        ("in_flat_by", "i8"),  # 1: no entry, flat_by has passed in this session
        ("in_early_close", "i8"),  # 1: no entry, the early close is near
        ("in_roll", "i8"),  # 1: no entry and every position leaves, the contract ends
        ("flats_first", "i8"),  # flat_by instants up to the bar's first minute
        ("flats_end", "i8"),  # flat_by instants up to the bar's end
        ("expire_ns", "i8"),  # the last instant at which an entry decided at the end may fill
        ("close_left_ns", "i8"),  # from the end to the session's close
        ("feeds_cold", "i8"),  # 1: another instrument that is read has not filled its windows
    ],
)
"""What the calendar, the roll table and other instruments say of one bar, known at its end."""

SIGNAL = np.dtype(
    [("ibs", "f8"), ("atr", "f8"), ("gate", "i8"), ("score", "f8"), ("verdict", "i8")]
)
"""What a closed bar says: its IBS, its ATR(14) where needed, and the first gate that failed (0: none); of a
candidate the model's score (NaN: none) and why it stays out (``veto.TAKEN``: it does not)."""


@jit
def _in_windows(params: Record, minute: int) -> bool:
    if params["n_windows"] == 0:
        return True
    for i in range(params["n_windows"]):
        if params["windows"][i, 0] <= minute < params["windows"][i, 1]:
            return True
    return False


@jit
def _passes_pivots(params: Record, row: Floats) -> bool:
    if params["pivots"] == 0:
        return True
    inside = 0.0  # between the last pivot low and the last pivot high; a higher high is 1
    return row[params["pivot_column"]] == (inside if params["pivots"] == 1 else 1.0)


@jit
def _failed_filter(params: Record, row: Floats) -> int:
    """Return the code of the first filter that fails, 0 when all pass."""
    for i in range(params["n_filters"]):
        rule = params["filters"][i]
        value = row[rule["column"]]
        if value != value:
            return FIRST_MISSING + i
        passed = rule["low"] <= value <= rule["high"]
        if rule["n_members"] > 0:
            passed = False
            for k in range(rule["n_members"]):
                passed = passed or value == rule["members"][k]
        if not passed:
            return FIRST_FILTER + i
    return 0


@jit
def gate(params: Record, n_bars: int, n_days: int, schedule: Record, row: Floats) -> int:
    """Try the cheap gates in order.

    Parameters
    ----------
    params : PARAMS
    n_bars, n_days : int64
        Signal bars, the newest included, and sessions taken so far.
    schedule : SCHEDULE
    row : (n_columns,) float64

    Returns
    -------
    int64
        CANDIDATE, NOT_TRADED, or the code of the first gate that failed: of ``GATES``, FIRST_FILTER + i where a
        filter is out of range, FIRST_MISSING + i where its feature has no value.
    """
    if schedule["traded"] == 0:
        return NOT_TRADED
    if not _in_windows(params, schedule["calendar"]["local_minute"]):
        return WINDOW
    if not params["ibs_low"] <= row[params["ibs_column"]] <= params["ibs_high"]:
        return IBS
    cold = n_bars < params["warmup_bars"] or n_days < params["warmup_days"]
    if cold or schedule["feeds_cold"] == 1:
        return WARM_UP
    if not _passes_pivots(params, row):
        return PIVOTS
    if params["atr_column"] >= 0 and not row[params["atr_column"]] > 0.0:
        return ATR
    failed = _failed_filter(params, row)
    if failed > 0:
        return failed
    if schedule["in_flat_by"] == 1:
        return FLAT_BY
    if schedule["in_early_close"] == 1:
        return EARLY_CLOSE
    return ROLL if schedule["in_roll"] == 1 else CANDIDATE


@jit
def observe_many(
    params: Record,
    graph: Graph,
    memory: Memory,
    day_memory: Memory,
    bars: Records,
    days: Records,
    schedule: Records,
    foreign: Floats,
    day_pair: Floats,
    signals: Records,
    rows: Floats,
) -> int:
    """Observe consecutive closed bars of one symbol.

    Parameters
    ----------
    params : PARAMS
    graph : Graph
    memory, day_memory : Memory
        Of the bar nodes and of the day nodes.
    bars : (n_bars,) BAR, closed signal bars in order of their end
    days : (n_days,) BAR, closed session bars in order of their end
    schedule : (n_bars,) SCHEDULE
    foreign : (n_bars, 2 + n_lookups) float64, as ``graph.observe_bar`` takes it
    day_pair : (n_days, 2) float64, as ``graph.observe_day`` takes it
    signals : (n_bars,) SIGNAL, written
    rows : (n_bars, n_columns) float64, or (1, n_columns) where only the signals are asked for
        The feature rows of candidates are written, one after the other; what is behind them is no row.

    Returns
    -------
    int64, the number of candidates
    """
    n_candidates = 0
    k = 0
    for i in range(len(bars)):
        while k < len(days) and days[k]["end_ns"] <= bars[i]["end_ns"]:
            graphs.observe_day(graph, day_memory, days[k], day_pair[k])
            k += 1
        date = schedule[i]["calendar"]
        row = rows[min(n_candidates, len(rows) - 1)]
        graphs.observe_bar(graph, memory, day_memory, bars[i], date, foreign[i], row)
        n_bars, n_days = memory.head[0]["n_bars"], day_memory.head[0]["n_bars"]
        n_candidates += _signal(params, n_bars, n_days, schedule[i], row, signals[i])
    return n_candidates


@jit
def gate_many(
    params: Record, n_days: Ints, schedule: Records, columns: Floats, signals: Records
) -> int:
    """Try the gates of one symbol's closed bars on features that are there already.

    Parameters
    ----------
    params : PARAMS
    n_days : (n_bars,) int64
        Sessions taken by each bar.
    schedule : (n_bars,) SCHEDULE
    columns : (n_columns, n_closed) float64
        In the order that the parameters name.
    signals : (n_bars,) SIGNAL, written but for bars that are not closed

    Returns
    -------
    int64, the number of candidates
    """
    n_candidates = 0
    for i in range(columns.shape[1]):
        n_candidates += _signal(params, i + 1, n_days[i], schedule[i], columns[:, i], signals[i])
    return n_candidates


@jit
def _signal(
    params: Record, n_bars: int, n_days: int, schedule: Record, row: Floats, out: Record
) -> int:
    """Write what one closed bar says; return 1 for a candidate, else 0."""
    out["ibs"] = row[params["ibs_column"]]
    out["atr"] = row[params["atr_column"]] if params["atr_column"] >= 0 else 0.0
    out["gate"] = gate(params, n_bars, n_days, schedule, row)
    out["score"] = np.nan
    out["verdict"] = 0
    return 1 if out["gate"] == CANDIDATE else 0


@jit
def features_many(
    graph: Graph,
    memory: Memory,
    day_memory: Memory,
    bars: Records,
    days: Records,
    dates: Records,
    foreign: Floats,
    day_pair: Floats,
    rows: Floats,
) -> None:
    """Write the feature row of every closed bar of one symbol.

    Parameters
    ----------
    graph : Graph
    memory, day_memory : Memory
    bars : (n_bars,) BAR
    days : (n_days,) BAR
    dates : (n_bars,) calendar.CALENDAR
    foreign : (n_bars, 2 + n_lookups) float64
    day_pair : (n_days, 2) float64
    rows : (n_bars, n_columns) float64, written
    """
    k = 0
    for i in range(len(bars)):
        while k < len(days) and days[k]["end_ns"] <= bars[i]["end_ns"]:
            graphs.observe_day(graph, day_memory, days[k], day_pair[k])
            k += 1
        graphs.observe_bar(graph, memory, day_memory, bars[i], dates[i], foreign[i], rows[i])
