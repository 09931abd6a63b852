"""What the calendar and the roll table say of each bar, as integers for the kernels.

Array arithmetic on integers only, so one bar live gives the same bits as a year in a back-test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.kernels import timetable
from ibs_core.kernels.calendar import CALENDAR
from ibs_core.sessions import (
    Sessions,
    local_ns,
    local_offset,
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
_NONE = -1


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
        self._sessions, self._seams = sessions, seams
        self._terms = np.zeros(1, timetable.TERMS)
        self._terms["first_date"], self._terms["last_date"] = rule.first_date, rule.last_date
        self._terms["max_wait_ns"] = rule.max_wait_ns
        until = len(sessions.open_ns) if last is None else last
        self._early = _early_boundaries(sessions, rule, first, until)
        self._flats = _flat_instants(sessions, rule)
        self._instants = np.sort(np.concatenate([self._flats, self._early]))
        self._leaves = np.append(_roll_boundaries(seams, sessions, rule.tf_ns), _FAR)

    def lay(self, bars: NDArray[np.void], out: NDArray[np.void]) -> None:
        """Lay the calendar over signal bars.

        Parameters
        ----------
        bars : (n_bars,) BAR, in order of their end
        out : (n_bars,) SCHEDULE, written
        """
        sessions = self._sessions
        if not len(bars):
            return
        timetable.lay(
            bars,
            *_calendar(bars, sessions),
            sessions.open_ns,
            sessions.close_ns,
            sessions.break_start_ns,
            sessions.break_end_ns,
            sessions.trade_date,
            sessions.clock_ns,
            self._terms[0],
            self._flats,
            self._early,
            self._instants,
            self._seams,
            self._leaves,
            out,
        )


def calendar_of(bars: NDArray[np.void], sessions: Sessions) -> NDArray[np.void]:
    """Tell the exchange-local date and time of each bar's start.

    Parameters
    ----------
    bars : (n_bars,) BAR, in order of their start
    sessions : Sessions

    Returns
    -------
    (n_bars,) CALENDAR
    """
    out = np.zeros(len(bars), CALENDAR)
    if len(bars):
        timetable.calendar(bars, *_calendar(bars, sessions), out)
    return out


def _calendar(bars: NDArray[np.void], sessions: Sessions) -> tuple[NDArray[np.void], Ints, Ints]:
    """Return the dates of sessions, and the local time's transitions and offsets, as far as bars need them."""
    first, last = int(bars["session"][0]), int(bars["session"][-1]) + 1
    dates = np.zeros(last, CALENDAR)  # of the trade date, once a session instead of once a bar
    date = sessions.trade_date[first:last]
    days = date.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    dates["weekday"][first:] = (date + 3) % 7 + 1
    dates["month"][first:] = months.astype(np.int64) % 12 + 1
    dates["day"][first:] = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    return dates, *local_offset(int(bars["start_ns"][0]), int(bars["start_ns"][-1]))


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
    early = first + np.flatnonzero(sessions.early[first:last])
    limit = open_market_ns(sessions, sessions.close_ns[early]) - MINUTE_NS
    found = _last_boundary(sessions, early, limit, rule.tf_ns)
    out[early] = np.where(found == _NONE, _FAR, found)
    return out


def _roll_boundaries(seams: Ints, sessions: Sessions, tf_ns: int) -> Ints:
    """Return the last boundary with a minute of open market between it and each seam."""
    limit = open_market_ns(sessions, seams) - MINUTE_NS
    session = session_index(sessions, seams)
    found = np.full(len(seams), _NONE)
    while (searched := np.flatnonzero((found == _NONE) & (session >= 0))).size:
        found[searched] = _last_boundary(sessions, session[searched], limit[searched], tf_ns)
        session[searched] -= 1
    return np.where(found == _NONE, seams, found)


def _last_boundary(sessions: Sessions, i: Ints, limit_ns: Ints, tf_ns: int) -> Ints:
    """Return each session's last end of a signal bar with no more than a limit on the open-market clock.

    `_NONE` where its first bar ends too late.
    """
    opens, closes = sessions.open_ns[i], sessions.close_ns[i]
    since_open = limit_ns - sessions.clock_ns[i]
    is_after = since_open >= sessions.break_start_ns[i] - opens
    pause = np.where(is_after, sessions.break_end_ns[i] - sessions.break_start_ns[i], 0)
    latest = opens + since_open + pause
    n_bars = (latest - opens) // tf_ns
    inside = np.where(n_bars > 0, opens + np.maximum(n_bars, 0) * tf_ns, _NONE)
    return np.asarray(np.where(latest >= closes, closes, inside), dtype=np.int64)
