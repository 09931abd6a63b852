"""What the calendar and the roll table say of each bar, as integers for the kernels.

Array arithmetic on integers only, so one bar live gives the same bits as a year in a back-test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.kernels.calendar import CALENDAR
from ibs_core.sessions import (
    Sessions,
    local_ns,
    nominal_boundaries,
    open_market_ns,
    regular_hours,
    session_index,
    to_utc_ns,
)
from ibs_core.signals import SCHEDULE

__all__ = ["Rule", "Timetable", "calendar_of", "make_schedule", "serves_flat_by"]

Ints = NDArray[np.int64]
_FAR = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Rule:
    """The parts of the trading rule that the calendar decides.

    Attributes
    ----------
    tf_ns : int
        Width of a signal bar, ns.
    max_wait_ns : int
        Open-market time within which an entry must fill, ns >= 0.
    flat_by : int or None
        Exchange-local minute of the day.
    flat_before_early_close : bool
    first_date, last_date : int
        Session dates that are traded, days since 1970-01-01, both included.
    """

    tf_ns: int
    max_wait_ns: int
    flat_by: int | None
    flat_before_early_close: bool
    first_date: int
    last_date: int


def make_schedule(
    bars: NDArray[np.void],
    sessions: Sessions,
    rule: Rule,
    seams: Ints,
    *,
    out: NDArray[np.void] | None = None,
) -> NDArray[np.void]:
    """Lay the calendar over closed signal bars.

    Parameters
    ----------
    bars : (n_bars,) BAR, in order of their end; ``session`` indexes `sessions`
    sessions : Sessions
    rule : Rule
    seams : (n_seams,) int64, UTC ns, strictly increasing
        Roll instants, past and known future ones.
    out : (n_bars,) SCHEDULE, optional
        Zeroed room to write into.

    Returns
    -------
    (n_bars,) SCHEDULE
    """
    if out is None:
        out = np.zeros(len(bars), SCHEDULE)
    if len(bars):
        session = bars["session"]
        first, last = int(session[0]), int(session[-1]) + 1
        Timetable(sessions, rule, seams, first, last).lay(bars, out)
    return out


class Timetable:
    """What a rule makes of the calendar, worked out once.

    Parameters
    ----------
    sessions : Sessions
    rule : Rule
    seams : (n_seams,) int64, UTC ns, strictly increasing
        Roll instants, past and known future ones.
    first, last : int
        Sessions in [first, last) have bars; default: all.
    """

    def __init__(
        self,
        sessions: Sessions,
        rule: Rule,
        seams: Ints,
        first: int = 0,
        last: int | None = None,
    ) -> None:
        self._sessions, self._rule, self._seams = sessions, rule, seams
        until = len(sessions.open_ns) if last is None else last
        self._early = _early_boundaries(sessions, rule, first, until)
        self._flats = _flat_instants(sessions, rule)
        self._instants = np.sort(np.concatenate([self._flats, self._early]))
        self._leaves = np.array(
            [*(_roll_boundary(int(seam), sessions, rule.tf_ns) for seam in seams), _FAR], np.int64
        )

    def lay(self, bars: NDArray[np.void], out: NDArray[np.void]) -> None:
        """Lay the calendar over signal bars.

        Parameters
        ----------
        bars : (n_bars,) BAR, in order of their end
        out : (n_bars,) SCHEDULE, written
        """
        sessions, rule = self._sessions, self._rule
        session, end = bars["session"], bars["end_ns"]
        close = sessions.close_ns[session]
        date = sessions.trade_date[session]
        out["traded"] = (date >= rule.first_date) & (date <= rule.last_date)
        out["calendar"] = calendar_of(bars, sessions)
        out["in_flat_by"] = (end >= self._flats[session]) & (end <= close)
        out["in_early_close"] = end >= self._early[session]
        # From the boundary of the next seam on, the contract is given up.
        out["in_roll"] = end >= self._leaves[np.searchsorted(self._seams, end, side="left")]
        out["flats_first"] = np.searchsorted(self._instants, bars["first_ns"], side="right")
        out["flats_end"] = np.searchsorted(self._instants, end, side="right")
        out["expire_ns"] = _last_fill(sessions, end, rule.max_wait_ns)
        out["close_left_ns"] = np.maximum(close - end, 0)


def calendar_of(bars: NDArray[np.void], sessions: Sessions) -> NDArray[np.void]:
    """Tell the exchange-local date and time of each bar's start.

    Parameters
    ----------
    bars : (n_bars,) BAR
    sessions : Sessions

    Returns
    -------
    (n_bars,) CALENDAR
    """
    out = np.zeros(len(bars), CALENDAR)
    date = sessions.trade_date[bars["session"]]
    days = date.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    out["local_minute"] = local_ns(bars["start_ns"]) // MINUTE_NS % 1440
    out["weekday"] = (date + 3) % 7 + 1
    out["month"] = months.astype(np.int64) % 12 + 1
    out["day"] = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    return out


def serves_flat_by(group: str, tf_ns: int, flat_by: int, on_date: int) -> bool:
    """Tell whether a signal bar ends inside the regular session at or after ``flat_by``.

    Parameters
    ----------
    group : str
        Session group.
    tf_ns : int
        Width of a signal bar, ns.
    flat_by : int
        Exchange-local minute of the day.
    on_date : int
        Trade date whose regular hours count, days since 1970-01-01.

    Returns
    -------
    bool
        False also when the session is closed at that time.
    """
    open_, close, _, _ = regular_hours(group, on_date)
    length = (close - open_) % 1440 or 1440
    since_open = (flat_by - open_) % 1440
    ends = nominal_boundaries(0, length * MINUTE_NS, tf_ns)
    served = (ends >= since_open * MINUTE_NS) & (ends < length * MINUTE_NS)
    return since_open > 0 and bool(np.any(served))


def _flat_instants(sessions: Sessions, rule: Rule) -> Ints:
    """Each session's ``flat_by`` instant on its trade date; after every bar when the rule is off."""
    if rule.flat_by is None:
        return np.full(len(sessions.open_ns), _FAR)
    instants = to_utc_ns(sessions.trade_date, np.full(len(sessions.open_ns), rule.flat_by))
    open_minute = local_ns(sessions.open_ns) // MINUTE_NS % 1440
    opens_before = local_ns(sessions.open_ns) // DAY_NS < sessions.trade_date
    evening = opens_before & (rule.flat_by >= open_minute)
    before = to_utc_ns(sessions.trade_date - 1, np.full(len(sessions.open_ns), rule.flat_by))
    return np.where(evening, before, instants)


def _early_boundaries(sessions: Sessions, rule: Rule, first: int, last: int) -> Ints:
    """Each early session's last boundary that leaves it a minute; the far future where there is none.

    Only sessions in [first, last) are looked at: the rest hold no bar.
    """
    out = np.full(len(sessions.open_ns), _FAR)
    if not rule.flat_before_early_close:
        return out
    for i in first + np.flatnonzero(sessions.early[first:last]):
        close = sessions.close_ns[i : i + 1]
        ends = nominal_boundaries(int(sessions.open_ns[i]), int(close[0]), rule.tf_ns)
        left = open_market_ns(sessions, close) - open_market_ns(sessions, ends)
        serving = ends[left >= MINUTE_NS]
        if len(serving):
            out[i] = serving[-1]
    return out


def _roll_boundary(seam_ns: int, sessions: Sessions, tf_ns: int) -> int:
    """Return the last boundary with a minute of open market between it and the seam."""
    at_seam = int(open_market_ns(sessions, np.array([seam_ns]))[0])
    i = int(session_index(sessions, np.array([seam_ns]))[0])
    while i >= 0:
        ends = nominal_boundaries(int(sessions.open_ns[i]), int(sessions.close_ns[i]), tf_ns)
        serving = ends[at_seam - open_market_ns(sessions, ends) >= MINUTE_NS]
        if len(serving):
            return int(serving[-1])
        i -= 1
    return seam_ns


def _last_fill(sessions: Sessions, decided_ns: Ints, max_wait_ns: int) -> Ints:
    """Return the last instant that lies no more than ``max_wait_ns`` of open market after each decision."""
    target = open_market_ns(sessions, decided_ns) + max_wait_ns
    i = np.searchsorted(sessions.clock_ns, target, side="right") - 1
    before_break = sessions.break_start_ns[i] - sessions.open_ns[i]
    pause = sessions.break_end_ns[i] - sessions.break_start_ns[i]
    since_open = target - sessions.clock_ns[i]
    return sessions.open_ns[i] + since_open + np.where(since_open >= before_break, pause, 0)
