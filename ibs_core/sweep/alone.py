"""Compiled passes over one symbol: gates over feature rows, and the replay from candidate to candidate.

Both are loops over the steps that every driver takes: `signals.gate`, and the settling, reading and deciding of
`replay` and `portfolio`. What is left out is what cannot decide anything.
"""

from __future__ import annotations

import numpy as np

from ibs_core import portfolio
from ibs_core.bars import NEVER, Floats, Ints, Record, Records
from ibs_core.kernels._jit import jit
from ibs_core.positions import FLAT
from ibs_core.replay import _read_slice, _settle
from ibs_core.signals import CANDIDATE, gate

__all__ = ["decide_alone", "gate_many"]


@jit
def gate_many(params: Record, n_days: Ints, schedule: Records, rows: Floats, seen: Records) -> int:
    """Try the gates of one symbol's closed bars on feature rows that are there already.

    Parameters
    ----------
    params : PARAMS
    n_days : (n_closed,) int64
        Sessions taken by each bar.
    schedule : (n_bars,) SCHEDULE
    rows : (n_closed, n_columns) float64
        In the columns that the parameters name.
    seen : (n_bars,) SIGNAL, written but for bars that are not closed

    Returns
    -------
    int64, the number of candidates
    """
    n_candidates = 0
    for i in range(len(rows)):
        row = rows[i]
        seen[i]["ibs"] = row[params["ibs_column"]]
        seen[i]["atr"] = row[params["atr_column"]] if params["atr_column"] >= 0 else 0.0
        seen[i]["gate"] = gate(params, i + 1, n_days[i], schedule[i], row)
        seen[i]["score"] = np.nan
        seen[i]["verdict"] = 0
        if seen[i]["gate"] == CANDIDATE:
            n_candidates += 1
    return n_candidates


@jit
def decide_alone(
    params: Records,
    risk: Record,
    book: Records,
    desk: Record,
    feeds: Records,
    bars: Records,
    schedule: Records,
    seen: Records,
    path: Records,
    sessions: Records,
    trades: Records,
    n: Ints,
) -> None:
    """Replay one symbol from candidate to candidate: while it is flat no other bar decides anything.

    Parameters
    ----------
    params : (1,) PARAMS
    risk : RISK, without a limit over symbols or orders, and without a veto
    book : (1,) POSITION
    desk : DESK
    feeds : (1,) FEED
    bars, schedule, seen : (n_bars,) BAR, SCHEDULE, SIGNAL
    path : (n_path,) PATH
    sessions : (n_sessions,) SESSION
    trades : (capacity,) TRADE, appended
    n : (2,) int64, counts of trades, and of decisions, which are not kept
    """
    feed, decisions = feeds[0], np.zeros(64, portfolio.DECISION)
    slices, inputs = np.zeros(1, portfolio.SLICE), np.zeros(0, portfolio.INPUT)
    while feed["bar"] < feed["stop"]:
        k = feed["bar"]
        if book[0]["status"] == FLAT and book[0]["cooldown"] == 0:
            if seen[k]["gate"] != CANDIDATE:
                feed["bar"] += 1
                continue
            feed["path"] = feed["path_offset"] + bars[k]["path_start"]
        n[1] = 0
        time_ns = bars[k]["end_ns"]
        _settle(
            time_ns,
            params[0],
            book[0],
            0,
            desk,
            feed,
            bars,
            schedule,
            path,
            sessions,
            trades,
            decisions,
            n,
        )
        if time_ns == NEVER:
            return
        _read_slice(time_ns, feed, bars, schedule, seen, slices[0])
        portfolio.decide(time_ns, params, risk, book, desk, slices, inputs, decisions, n)
    # Nothing is printed after the last bar: what is held stays open.
