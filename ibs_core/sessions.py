"""CME trading sessions as integer arrays, and the only place that knows a time zone.

A session is one open-to-close span of a session group and makes one daily bar. It is named by its
trade date: the local date on which it closes, Monday to Friday. A shortened holiday (Martin Luther
King Day, 17:00 Sunday to 12:00 Monday) is a session of its own; CME books it under the next day.
Regular hours stand in ``_REGIMES``, every other day in ``Data/cme_calendar.csv`` (sources: decision
0004). The arrays tell the hours of the group, not when a contract was first listed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ibs_core.errors import DataError, EnvironmentFault

__all__ = [
    "DAY_NS",
    "GROUPS",
    "MINUTE_NS",
    "YEARS",
    "Sessions",
    "calendar_path",
    "load_sessions",
    "local_ns",
    "local_offset",
    "nominal_boundaries",
    "open_market_ns",
    "outside",
    "regular_hours",
    "session_index",
    "to_utc_ns",
    "trade_date_of",
]

Ints = NDArray[np.int64]
MINUTE_NS: Final = 60_000_000_000
DAY_NS: Final = 1440 * MINUTE_NS
YEARS: Final = (2005, 2035)
_ZONE: Final = ZoneInfo("America/Chicago")

# Regular hours from a trade date on: open, close, and the break if there is one. Chicago wall clock;
# an open that is not before the close is on the previous calendar day.
_STANDARD: Final = ("2005-01-01", "17:00", "16:00")
_NYMEX: Final = (("2005-01-01", "17:00", "16:15"), ("2015-09-21", "17:00", "16:00"))
_REGIMES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "equity": (
        ("2005-01-01", "17:00", "15:15"),  # 15:30-16:30, of the next trade date, is outside
        ("2012-11-19", "17:00", "16:15", "15:15", "15:30"),
        ("2015-09-21", "17:00", "16:00", "15:15", "15:30"),
        ("2021-06-28", "17:00", "16:00"),
    ),
    "energy": _NYMEX,
    "metals": _NYMEX,
    "fx": (_STANDARD,),
    "rates": (_STANDARD,),
    "grains": (
        ("2005-01-01", "18:00", "13:15", "07:15", "09:30"),
        ("2012-05-21", "17:00", "14:00"),
        ("2013-04-08", "19:00", "13:15", "07:45", "08:30"),
        ("2015-07-06", "19:00", "13:20", "07:45", "08:30"),
    ),
    # From 2026-05-29 on without pause: 24 hours means "opens when the session before it closes".
    "crypto": (_STANDARD, ("2026-06-01", "16:00", "16:00")),
    "cash_index": (("2005-01-01", "08:30", "15:00"),),
}
GROUPS: Final = tuple(_REGIMES)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Consecutive sessions of one group; element i of every array belongs to session i.

    Parameters
    ----------
    group : str, one of `GROUPS`
    open_ns, close_ns : (n,) int64, UTC ns
        The session is [open, close); strictly increasing, never overlapping.
    break_start_ns, break_end_ns : (n,) int64, UTC ns
        The pause [start, end) inside the session; both equal `close_ns` when there is none.
    trade_date : (n,) int64, days since 1970-01-01
        Local date of the close.
    early : (n,) int64, 0 or 1
        1 if the session closes before the regular close of its time.
    clock_ns : (n,) int64, ns
        Open-market time before this session's open, since the first session of 2005; it does not
        depend on the range that was loaded.
    """

    group: str
    open_ns: Ints
    close_ns: Ints
    break_start_ns: Ints
    break_end_ns: Ints
    trade_date: Ints
    early: Ints
    clock_ns: Ints


def load_sessions(group: str, start_ns: int, end_ns: int) -> Sessions:
    """Return the sessions around [start_ns, end_ns), with whole neighbours on either side.

    Parameters
    ----------
    group : str, one of `GROUPS`
    start_ns, end_ns : int, UTC ns, start_ns <= end_ns
        The range of the bars. At least two sessions that closed at or before `start_ns` and three
        that open at or after `end_ns` are included.

    Returns
    -------
    Sessions
        Arrays of its own: contiguous, writable, as kernels are compiled for.

    Raises
    ------
    DataError
        The range, with its neighbours, leaves the years that the calendar covers.
    """
    table = _table(group)
    first = int(np.searchsorted(table.close_ns, start_ns, side="right")) - 2
    last = int(np.searchsorted(table.open_ns, end_ns, side="left")) + 3
    if first < 0 or last > table.open_ns.size:
        raise _out_of_range(f"the time range of session group {group!r}", start_ns, end_ns)
    columns = (getattr(table, field.name)[first:last].copy() for field in fields(Sessions)[1:])
    return Sessions(group, *columns)


def session_index(sessions: Sessions, ts_ns: Ints) -> Ints:
    """Return the index of the session that opened last.

    Parameters
    ----------
    sessions : Sessions
    ts_ns : (n,) int64, UTC ns, any order, in the range that `sessions` was loaded for

    Returns
    -------
    (n,) int64, -1 before the first open
    """
    return np.searchsorted(sessions.open_ns, ts_ns, side="right") - 1


def outside(sessions: Sessions, ts_ns: Ints) -> NDArray[np.bool_]:
    """Tell which instants lie in no session, or in the break of one.

    Parameters
    ----------
    sessions : Sessions
    ts_ns : (n,) int64, UTC ns

    Returns
    -------
    (n,) bool
    """
    i = session_index(sessions, ts_ns)
    in_break = (sessions.break_start_ns[i] <= ts_ns) & (ts_ns < sessions.break_end_ns[i])
    return np.asarray((i < 0) | (ts_ns >= sessions.close_ns[i]) | in_break, dtype=np.bool_)


def open_market_ns(sessions: Sessions, ts_ns: Ints) -> Ints:
    """Return the cumulative open-market time; it stands still while the market is closed.

    Parameters
    ----------
    sessions : Sessions
    ts_ns : (n,) int64, UTC ns, at or after the first open of `sessions`

    Returns
    -------
    (n,) int64, ns since the first session of 2005
    """
    i = _belonging(sessions, ts_ns)
    start, end = sessions.break_start_ns[i], sessions.break_end_ns[i]
    since_open = np.minimum(ts_ns, sessions.close_ns[i]) - sessions.open_ns[i]
    paused = np.clip(ts_ns, start, end) - start
    return np.asarray(sessions.clock_ns[i] + since_open - paused, dtype=np.int64)


def trade_date_of(sessions: Sessions, ts_ns: Ints) -> Ints:
    """Return the trade date of the session that each instant belongs to: the one opened last.

    Parameters
    ----------
    sessions : Sessions
    ts_ns : (n,) int64, UTC ns, starts of bars, at or after the first open of `sessions`

    Returns
    -------
    (n,) int64, days since 1970-01-01
    """
    return sessions.trade_date[_belonging(sessions, ts_ns)]


def nominal_boundaries(open_ns: int, close_ns: int, tf_ns: int) -> Ints:
    """Return the ends of one session's signal bars: min(open + k * tf, close), k = 1, 2 and so on.

    Parameters
    ----------
    open_ns, close_ns : int, UTC ns, open_ns < close_ns
    tf_ns : int, ns, > 0; a bar longer than the session ends at its close

    Returns
    -------
    (m,) int64, UTC ns, strictly increasing, the last is `close_ns`
    """
    return np.minimum(np.arange(open_ns, close_ns, tf_ns, dtype=np.int64) + tf_ns, close_ns)


def regular_hours(group: str, on_date: int | date) -> tuple[int, int, int, int]:
    """Return a group's regular hours on a trade date, holidays not considered.

    Parameters
    ----------
    group : str, one of `GROUPS`
    on_date : int (days since 1970-01-01) or datetime.date
        Trade date from 2005 on.

    Returns
    -------
    tuple of int
        (open, close, break start, break end), minutes of the local day in [0, 1440). An open that
        is not before the close is on the previous calendar day: (1020, 960, …) is 17:00 to 16:00.
        Without a break both break minutes equal the close.
    """
    day = on_date if isinstance(on_date, int) else _day(on_date.isoformat()[:10])
    first, hours = _regimes(group)
    row = hours[max(int(np.searchsorted(first, day, side="right")) - 1, 0)]
    opens, closes, starts, ends = (int(minute) % 1440 for minute in row)
    return opens, closes, starts, ends


def local_offset(start_ns: int, end_ns: int) -> tuple[Ints, Ints]:
    """Return Chicago's UTC offsets in force during [start_ns, end_ns].

    Parameters
    ----------
    start_ns, end_ns : int, UTC ns, inside the calendar's years

    Returns
    -------
    transition_ns : (m,) int64, UTC ns, increasing, the first at or before `start_ns`
    offset_ns : (m,) int64, ns, in force from the transition on; local = UTC + offset
    """
    transition, offset = _transitions()
    if start_ns < transition[0] or end_ns >= _day(f"{YEARS[1] + 1}-01-08") * DAY_NS:
        raise _out_of_range("exchange-local time", start_ns, end_ns)
    first = int(np.searchsorted(transition, start_ns, side="right")) - 1
    last = int(np.searchsorted(transition, end_ns, side="right"))
    return transition[first:last].copy(), offset[first:last].copy()


def local_ns(ts_ns: Ints) -> Ints:
    """Convert UTC to Chicago's wall clock, in ns since 1970-01-01 00:00 local.

    Parameters
    ----------
    ts_ns : (n,) int64, UTC ns, inside the calendar's years

    Returns
    -------
    (n,) int64, local ns; minute of the day: ``// MINUTE_NS % 1440``, date: ``// DAY_NS``
    """
    ts = np.asarray(ts_ns, dtype=np.int64)
    if not ts.size:
        return ts
    transition, offset = local_offset(int(ts.min()), int(ts.max()))
    return np.asarray(ts + offset[np.searchsorted(transition, ts, side="right") - 1])


def to_utc_ns(local_date: Ints, minute: Ints | int) -> Ints:
    """Convert a Chicago date and minute of the day to UTC.

    The clock changes on Sundays at 02:00, when CME is closed, so no session time is ambiguous.
    Elsewhere PEP 495's ``fold=0`` rules: of an hour that occurs twice the first is meant, and one
    that does not occur is read with the offset before the change.

    Parameters
    ----------
    local_date : (n,) int64, days since 1970-01-01
    minute : (n,) int64, after that date's midnight on the wall clock; -420 is 17:00 the day before

    Returns
    -------
    (n,) int64, UTC ns
    """
    transition, offset = _transitions()
    wall = np.asarray(local_date, dtype=np.int64) * DAY_NS + np.asarray(minute) * MINUTE_NS
    change = transition[1:] + np.maximum(offset[1:], offset[:-1])
    return np.asarray(wall - offset[np.searchsorted(change, wall, side="right")])


def _belonging(sessions: Sessions, ts_ns: Ints) -> Ints:
    i = session_index(sessions, ts_ns)
    assert not i.size or i.min() >= 0, "an instant lies before the sessions that were loaded"
    return i


@cache
def _table(group: str) -> Sessions:
    """Every session of one group in `YEARS`."""
    first, hours = _regimes(group)
    days = np.arange(_day(f"{YEARS[0]}-01-01"), _day(f"{YEARS[1] + 1}-01-01"), dtype=np.int64)
    days = days[(days + 3) % 7 < 5]  # 1970-01-01 was a Thursday
    regular = hours[np.searchsorted(first, days, side="right") - 1]
    actual = regular.copy()
    special_days, special = _exceptions()[group]
    actual[np.searchsorted(days, special_days), :2] = special
    is_open = actual[:, 0] < actual[:, 1]  # a closed day is written as 0 to 0
    days, regular, actual = days[is_open], regular[is_open], actual[is_open]
    opens, closes, starts, ends = (to_utc_ns(days, minute) for minute in actual.T)
    without_pause = np.flatnonzero(regular[:, 1] - regular[:, 0] == 1440)
    opens[without_pause] = closes[without_pause - 1]
    starts, ends = np.clip(starts, opens, closes), np.clip(ends, opens, closes)
    cut = (starts == opens) | (ends == closes)  # an exception may leave no whole break
    starts, ends = np.where(cut, closes, starts), np.where(cut, closes, ends)
    length = closes - opens - (ends - starts)
    early = (actual[:, 1] < regular[:, 1]).astype(np.int64)
    clock = np.cumsum(length) - length
    return Sessions(group, opens, closes, starts, ends, days, early, clock)


def calendar_path() -> Path:
    """Return the file of the exceptional days: in the wheel, else the repository's own."""
    here = Path(__file__).parent
    path = here / "_data" / "cme_calendar.csv"
    if not path.is_file() and not (path := here.parent / "Data" / path.name).is_file():
        raise EnvironmentFault("the session calendar is missing", expected=f"the file {path}")
    return path


@cache
def _regimes(group: str) -> tuple[Ints, Ints]:
    """First trade dates (k,), and (k, 4) minutes relative to the trade date's midnight."""
    first, rows = [], []
    for since, *times in _REGIMES[group]:
        opens, closes, *pause = (_minute(time) for time in times)
        first.append(_day(since))
        rows.append([opens - 1440 if opens >= closes else opens, closes, *(pause or [closes] * 2)])
    return np.array(first, dtype=np.int64), np.array(rows, dtype=np.int64)


@cache
def _exceptions() -> dict[str, tuple[Ints, Ints]]:
    """Days, and (k, 2) minutes of open and close, of each group's exceptional days."""
    found: dict[str, list[tuple[int, int, int]]] = {group: [] for group in GROUPS}
    with calendar_path().open(encoding="utf-8", newline="") as stream:
        for group, day, opens, closes, _source in [*csv.reader(stream)][1:]:
            found[group].append((_day(day), _relative(opens), _relative(closes)))
    tables = ((group, np.array(found[group], np.int64).reshape(-1, 3)) for group in GROUPS)
    return {group: (table[:, 0], table[:, 1:]) for group, table in tables}


@cache
def _transitions() -> tuple[Ints, Ints]:
    """Offset changes around `YEARS`: on a Sunday, at 02:00 of the wall clock before the change."""
    start = _day(f"{YEARS[0] - 1}-12-19")
    known: list[tuple[int, int]] = []
    for sunday in range(start, _day(f"{YEARS[1] + 1}-01-08"), 7):
        noon = datetime.fromtimestamp(sunday * 86_400 + 43_200, _ZONE)
        seconds = int((noon.utcoffset() or timedelta()).total_seconds())
        if not known or seconds != known[-1][1]:
            known.append((sunday * 86_400 + (7_200 - known[-1][1] if known else 0), seconds))
    table = np.array(known, dtype=np.int64) * 1_000_000_000
    return table[:, 0].copy(), table[:, 1].copy()


def _out_of_range(subject: str, start_ns: int, end_ns: int) -> DataError:
    return DataError(
        subject,
        expected=f"{YEARS[0]} to {YEARS[1]}, with two sessions before and three after",
        found=f"{np.datetime64(start_ns, 'ns')}Z to {np.datetime64(end_ns, 'ns')}Z",
        remedy="check the unit of the timestamps, or extend the calendar",
    )


@cache
def _relative(text: str) -> int:
    """``D-1 17:00`` is -420, ``D 12:15`` is 735; ``closed`` is 0."""
    if text == "closed":
        return 0
    day, time = text.split()
    return int(day[1:] or 0) * 1440 + _minute(time)


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _day(text: str) -> int:
    return date.fromisoformat(text).toordinal() - 719_163  # 1970-01-01
