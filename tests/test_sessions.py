import csv
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import SHARED

from ibs_core import sessions as s
from ibs_core.contracts import SESSION_GROUPS
from ibs_core.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
CHICAGO = ZoneInfo("America/Chicago")
ALL = " ".join(s.GROUPS)
CME = "equity energy metals fx rates grains crypto"

# Published hours, converted to UTC by hand: groups, trade date, open, close (None: not published
# by that source). They were read in the documents named, not in the calendar under test.
FACTS = [
    # Contract specifications 17:00-16:00 and 19:00-13:20 CT; both clock changes of 2024 and 2025,
    # on each side of the Sunday (CST is UTC-6, CDT is UTC-5).
    ("equity energy metals fx rates crypto", "2024-03-08", "2024-03-07T23:00", "2024-03-08T22:00"),
    ("equity energy metals fx rates crypto", "2024-03-11", "2024-03-10T22:00", "2024-03-11T21:00"),
    ("equity energy metals fx rates crypto", "2024-11-01", "2024-10-31T22:00", "2024-11-01T21:00"),
    ("equity energy metals fx rates crypto", "2024-11-04", "2024-11-03T23:00", "2024-11-04T22:00"),
    ("equity energy metals fx rates crypto", "2025-03-07", "2025-03-06T23:00", "2025-03-07T22:00"),
    ("equity energy metals fx rates crypto", "2025-03-10", "2025-03-09T22:00", "2025-03-10T21:00"),
    ("equity energy metals fx rates crypto", "2025-10-31", "2025-10-30T22:00", "2025-10-31T21:00"),
    ("equity energy metals fx rates crypto", "2025-11-03", "2025-11-02T23:00", "2025-11-03T22:00"),
    ("grains", "2025-03-07", "2025-03-07T01:00", "2025-03-07T19:20"),
    ("grains", "2025-03-10", "2025-03-10T00:00", "2025-03-10T18:20"),
    ("grains", "2025-10-31", "2025-10-31T00:00", "2025-10-31T18:20"),
    ("grains", "2025-11-03", "2025-11-03T01:00", "2025-11-03T19:20"),
    ("cash_index", "2025-03-07", "2025-03-07T14:30", "2025-03-07T21:00"),
    ("cash_index", "2025-03-10", "2025-03-10T13:30", "2025-03-10T20:00"),
    # The clock changed in April and October until 2006 (Energy Policy Act of 2005).
    ("fx", "2006-04-03", "2006-04-02T22:00", "2006-04-03T21:00"),
    ("fx", "2006-10-27", "2006-10-26T22:00", "2006-10-27T21:00"),
    ("fx", "2006-10-30", "2006-10-29T23:00", "2006-10-30T22:00"),
    # CME press release 2005-03-16, Good Friday; the Thursday before it for FX and rates 15:15.
    ("fx rates", "2005-03-24", None, "2005-03-24T21:15"),
    (CME, "2005-03-25", "closed", "closed"),
    # CME schedule for Christmas 2005 (copied on mypivots.com).
    ("fx rates", "2005-12-23", None, "2005-12-23T21:15"),
    ("equity fx rates", "2005-12-26", "closed", "closed"),
    ("equity fx rates", "2005-12-27", "2005-12-26T23:00", None),
    # CME press releases 2006-01-10 (Martin Luther King Day) and 2006-02-01 (Presidents' Day).
    ("fx", "2006-01-13", None, "2006-01-13T21:15"),
    ("equity", "2006-01-16", "2006-01-15T23:00", "2006-01-16T16:30"),
    ("fx rates", "2006-01-16", "2006-01-15T23:00", "2006-01-16T18:00"),
    ("equity", "2006-02-20", "2006-02-19T23:00", "2006-02-20T16:30"),
    ("fx rates", "2006-02-20", "2006-02-19T23:00", "2006-02-20T18:00"),
    # CME schedule for Independence Day 2006 (copied on mypivots.com).
    ("fx", "2006-07-03", "2006-07-02T22:00", "2006-07-03T21:00"),
    ("equity", "2006-07-04", "2006-07-03T22:00", "2006-07-04T15:30"),
    ("fx rates", "2006-07-04", "2006-07-03T22:00", "2006-07-04T17:00"),
    # CME Group press release 2007-08-20, Labor Day: NYMEX and COMEX until 16:15.
    ("equity", "2007-09-03", None, "2007-09-03T15:30"),
    ("fx rates", "2007-09-03", None, "2007-09-03T17:00"),
    ("energy metals", "2007-09-03", None, "2007-09-03T21:15"),
    # CME notices of 2012-10-28 and 2012-10-29, Hurricane Sandy; Reuters for rates (noon ET).
    ("equity", "2012-10-29", "2012-10-28T22:00", "2012-10-29T13:15"),
    ("rates", "2012-10-29", "2012-10-28T22:00", "2012-10-29T16:00"),
    ("equity", "2012-10-30", "2012-10-29T22:00", "2012-10-30T13:15"),
    ("rates", "2012-10-30", None, "2012-10-30T21:00"),
    ("cash_index", "2012-10-29", "closed", "closed"),
    # Brokers' holiday notice of 2013-06-28 (TransAct).
    ("equity", "2013-07-03", None, "2013-07-03T17:15"),
    ("grains", "2013-07-03", None, "2013-07-03T17:00"),
    ("equity", "2013-07-04", None, "2013-07-04T15:30"),
    ("fx rates", "2013-07-04", None, "2013-07-04T17:00"),
    ("energy metals", "2013-07-04", None, "2013-07-04T17:15"),
    ("grains", "2013-07-04", "closed", "closed"),
    # "Today's early market closure schedule", zerohedge.com, 2013-12-24 (Globex part).
    ("equity fx rates", "2013-12-24", None, "2013-12-24T18:15"),
    ("energy metals", "2013-12-24", None, "2013-12-24T18:45"),
    # daytradetowin.com, Independence Day 2017.
    ("equity", "2017-07-03", None, "2017-07-03T17:15"),
    ("equity energy metals fx rates", "2017-07-04", "2017-07-03T22:00", "2017-07-04T17:00"),
    # CME Group press release 2018-12-02, day of mourning for President Bush.
    ("equity", "2018-12-05", "2018-12-04T23:00", "2018-12-05T14:30"),
    ("rates cash_index", "2018-12-05", "closed", "closed"),
    ("energy metals fx", "2018-12-05", "2018-12-04T23:00", "2018-12-05T22:00"),
    ("rates", "2018-12-06", "2018-12-05T23:00", None),
    # kdhlradio.com: New Year 2019, grains reopen at 08:30 on January 2.
    ("grains", "2018-12-31", "2018-12-31T01:00", "2018-12-31T19:20"),
    ("grains", "2019-01-01", "closed", "closed"),
    ("grains", "2019-01-02", "2019-01-02T14:30", "2019-01-02T19:20"),
    # pandas_market_calendars issue 132, with CME's schedule: employment report on Good Friday.
    ("fx rates", "2021-04-02", "2021-04-01T22:00", "2021-04-02T15:15"),
    # kdhlradio.com 2022-06: the first Juneteenth of the grains, reopening at 19:00.
    ("grains", "2022-06-20", "closed", "closed"),
    ("grains", "2022-06-21", "2022-06-21T00:00", None),
    # DTN holiday schedule, Presidents' Day 2023.
    ("equity rates", "2023-02-20", "2023-02-19T23:00", "2023-02-20T18:00"),
    ("energy metals", "2023-02-20", "2023-02-19T23:00", "2023-02-20T19:30"),
    ("fx crypto", "2023-02-20", "2023-02-19T23:00", "2023-02-20T22:00"),
    ("grains", "2023-02-20", "closed", "closed"),
    ("grains", "2023-02-21", "2023-02-21T01:00", "2023-02-21T19:20"),
    # pandas_market_calendars pull request 311, with CME's page: Good Friday 2023.
    ("equity", "2023-04-07", "2023-04-06T22:00", "2023-04-07T13:15"),
    # daytradetowin.com, Thanksgiving 2023; forexlive.com, Thanksgiving 2024.
    ("equity", "2023-11-23", None, "2023-11-23T18:00"),
    ("equity", "2023-11-24", "2023-11-23T23:00", "2023-11-24T18:15"),
    ("equity rates", "2024-11-28", "2024-11-27T23:00", "2024-11-28T18:00"),
    # forexlive.com 2024-01-12 and 2025-01-19, Martin Luther King Day.
    ("equity rates", "2024-01-15", "2024-01-14T23:00", "2024-01-15T18:00"),
    ("equity rates", "2025-01-20", "2025-01-19T23:00", "2025-01-20T18:00"),
    ("fx crypto", "2025-01-20", "2025-01-19T23:00", "2025-01-20T22:00"),
    ("equity rates", "2025-01-21", "2025-01-20T23:00", "2025-01-21T22:00"),
    # forexlive.com 2024-06-17, Juneteenth.
    ("equity", "2024-06-19", "2024-06-18T22:00", "2024-06-19T17:00"),
    # DTN holiday schedule, Independence Day 2024.
    ("equity", "2024-07-03", "2024-07-02T22:00", "2024-07-03T17:15"),
    ("energy metals fx rates crypto", "2024-07-03", "2024-07-02T22:00", "2024-07-03T21:00"),
    ("cash_index", "2024-07-03", "2024-07-03T13:30", "2024-07-03T17:00"),
    ("equity rates", "2024-07-04", "2024-07-03T22:00", "2024-07-04T17:00"),
    ("energy metals", "2024-07-04", "2024-07-03T22:00", "2024-07-04T18:30"),
    ("fx crypto", "2024-07-04", "2024-07-03T22:00", "2024-07-04T21:00"),
    ("grains", "2024-07-04", "closed", "closed"),
    ("grains", "2024-07-05", "2024-07-05T13:30", "2024-07-05T18:20"),
    # CME: Good Friday without an employment report, Christmas and New Year.
    (ALL, "2024-03-29", "closed", "closed"),
    (ALL, "2024-12-25", "closed", "closed"),
    (ALL, "2025-01-01", "closed", "closed"),
    (ALL, "2025-04-18", "closed", "closed"),
    ("equity energy metals fx rates crypto", "2024-12-26", "2024-12-25T23:00", "2024-12-26T22:00"),
    ("equity energy metals fx rates crypto", "2025-01-02", "2025-01-01T23:00", "2025-01-02T22:00"),
    # CME Group press release 2024-12-30, day of mourning for President Carter.
    ("equity", "2025-01-09", "2025-01-08T23:00", "2025-01-09T14:30"),
    ("rates grains", "2025-01-09", None, "2025-01-09T18:15"),
    ("energy metals fx crypto", "2025-01-09", "2025-01-08T23:00", "2025-01-09T22:00"),
    ("equity", "2025-01-10", "2025-01-09T23:00", "2025-01-10T22:00"),
    ("cash_index", "2025-01-09", "closed", "closed"),
    # The last bars of ES NQ YM RTY, of CL NG and of 6A 6B 6E on these days (5 minutes, vendor's).
    ("equity", "2024-11-29", "2024-11-28T23:00", "2024-11-29T18:15"),
    ("energy fx", "2024-11-29", "2024-11-28T23:00", "2024-11-29T19:45"),
    ("equity", "2024-12-24", "2024-12-23T23:00", "2024-12-24T18:15"),
    ("energy fx", "2024-12-24", "2024-12-23T23:00", "2024-12-24T18:45"),
    ("energy", "2024-09-02", "2024-09-01T22:00", "2024-09-02T18:30"),
    ("equity", "2025-07-03", "2025-07-02T22:00", "2025-07-03T17:15"),
    ("equity energy fx", "2025-07-04", "2025-07-03T22:00", "2025-07-04T17:00"),
    ("energy", "2025-09-01", "2025-08-31T22:00", "2025-09-01T18:30"),
    ("equity", "2025-11-28", "2025-11-27T23:00", "2025-11-28T18:15"),
    ("energy fx", "2025-11-28", "2025-11-27T23:00", "2025-11-28T19:45"),
    ("energy", "2025-12-24", "2025-12-23T23:00", "2025-12-24T18:45"),
    # NYSE: early closes of 2025 at 13:00 ET.
    ("cash_index", "2025-07-03", "2025-07-03T13:30", "2025-07-03T17:00"),
    ("cash_index", "2025-11-28", "2025-11-28T14:30", "2025-11-28T18:00"),
    # CME's table for 2026, in pandas_market_calendars issue 464 and in trade.xyz's documentation.
    ("equity", "2026-04-03", "2026-04-02T22:00", "2026-04-03T13:15"),
    ("energy metals", "2026-04-03", "closed", "closed"),
    ("equity energy metals", "2026-06-19", "2026-06-18T22:00", "2026-06-19T17:00"),
    ("equity energy metals", "2026-07-03", "2026-07-02T22:00", "2026-07-03T17:00"),
    ("equity", "2026-09-07", None, "2026-09-07T17:00"),
    ("energy metals", "2026-09-07", None, "2026-09-07T18:30"),
    ("equity", "2026-11-27", None, "2026-11-27T18:15"),
    ("energy metals", "2026-11-27", None, "2026-11-27T19:45"),
    ("equity", "2026-12-24", None, "2026-12-24T18:15"),
    ("energy metals", "2026-12-24", None, "2026-12-24T18:45"),
    # CME press release 2026-02-19: crypto trades without pause from Friday 2026-05-29, 16:00 CT;
    # the weekend has the next business day's trade date.
    ("crypto", "2026-05-29", "2026-05-28T22:00", "2026-05-29T21:00"),
    ("crypto", "2026-06-01", "2026-05-29T21:00", None),
]

# group, trade date, (open, close, break start, break end) in minutes
REGULAR = [
    # eminiroom.com and sidewaysmarkets.com, with CME's notice of 2012-11: close 15:15 -> 16:15.
    ("equity", "2012-11-16", (1020, 915, 915, 915)),
    ("equity", "2012-11-19", (1020, 975, 915, 930)),
    # NinjaTrader advisory 25, atas.net: maintenance from 16:00 since 2015-09-21.
    ("equity", "2015-09-18", (1020, 975, 915, 930)),
    ("equity", "2015-09-21", (1020, 960, 915, 930)),
    ("energy", "2015-09-18", (1020, 975, 975, 975)),
    ("metals", "2015-09-21", (1020, 960, 960, 960)),
    # CME Globex notice 20210621: the 15:15 halt ends on 2021-06-28.
    ("equity", "2021-06-25", (1020, 960, 915, 930)),
    ("equity", "2021-06-28", (1020, 960, 960, 960)),
    # CME notice for 2012-05-21 (porknetwork.com); agriculture.com 2013-04-05 and Reuters
    # 2013-03-05; CME's FAQ on extended trading of grains, trade date 2015-07-06.
    ("grains", "2012-05-18", (1080, 795, 435, 570)),
    ("grains", "2013-04-05", (1020, 840, 840, 840)),
    ("grains", "2013-04-08", (1140, 795, 465, 510)),
    ("grains", "2015-07-03", (1140, 795, 465, 510)),
    ("grains", "2015-07-06", (1140, 800, 465, 510)),
    ("cash_index", "2025-01-10", (510, 900, 900, 900)),
    ("crypto", "2026-05-29", (1020, 960, 960, 960)),
    ("crypto", "2026-06-01", (960, 960, 960, 960)),
]

FIRST_NS, LAST_NS = 1_105_000_000_000_000_000, 2_080_000_000_000_000_000  # 2005-01-06 .. 2035-11-30
groups = st.sampled_from(s.GROUPS)
instants = st.integers(FIRST_NS, LAST_NS)


def ns(text):
    return int(np.datetime64(text, "ns").astype(np.int64))


def day_number(text):
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def around(group, day):
    noon = ns(f"{day}T12:00")
    return s.load_sessions(group, noon, noon)


@pytest.mark.parametrize(
    ("group", "day", "opens", "closes"),
    [(group, *fact[1:]) for fact in FACTS for group in fact[0].split()],
)
def test_sessions_open_and_close_as_published(group, day, opens, closes):
    sessions = around(group, day)
    at = np.flatnonzero(sessions.trade_date == day_number(day))
    if opens == "closed":
        assert at.size == 0
        return
    assert at.size == 1
    if opens is not None:
        assert np.datetime64(int(sessions.open_ns[at[0]]), "ns") == np.datetime64(opens)
    if closes is not None:
        assert np.datetime64(int(sessions.close_ns[at[0]]), "ns") == np.datetime64(closes)


@pytest.mark.parametrize(("group", "day", "hours"), REGULAR)
def test_regular_hours_change_on_the_published_dates(group, day, hours):
    assert s.regular_hours(group, date.fromisoformat(day)) == hours
    assert s.regular_hours(group, day_number(day)) == hours


def test_early_marks_the_shortened_sessions_and_no_other():
    sessions = s.load_sessions("equity", ns("2025-01-01"), ns("2026-01-01"))
    inside = (sessions.trade_date >= day_number("2025-01-01")) & (
        sessions.trade_date < day_number("2026-01-01")
    )
    shortened = sessions.trade_date[inside & (sessions.early == 1)]
    assert [str(day) for day in shortened.astype("datetime64[D]")] == [
        "2025-01-09",
        "2025-01-20",
        "2025-02-17",
        "2025-05-26",
        "2025-06-19",
        "2025-07-03",
        "2025-07-04",
        "2025-09-01",
        "2025-11-27",
        "2025-11-28",
        "2025-12-24",
    ]
    assert inside.sum() == 258  # 261 weekdays less New Year, Good Friday and Christmas


def test_grains_pause_in_the_morning_except_when_they_open_after_it():
    sessions = around("grains", "2024-07-05")
    i = int(np.flatnonzero(sessions.trade_date == day_number("2024-07-05"))[0])
    assert sessions.break_start_ns[i] == sessions.break_end_ns[i] == sessions.close_ns[i]
    assert sessions.break_start_ns[i + 1] == ns("2024-07-08T12:45")
    assert sessions.break_end_ns[i + 1] == ns("2024-07-08T13:30")
    minutes = np.array([ns(f"2024-07-08T{time}") for time in ("12:44", "12:45", "13:29", "13:30")])
    assert s.outside(sessions, minutes).tolist() == [False, True, True, False]


def test_an_early_close_before_the_break_leaves_no_break():
    sessions = around("equity", "2019-07-03")
    i = int(np.flatnonzero(sessions.trade_date == day_number("2019-07-03"))[0])
    assert sessions.close_ns[i] == sessions.break_start_ns[i] == sessions.break_end_ns[i]
    assert sessions.close_ns[i] == ns("2019-07-03T17:15")


def test_the_edges_of_a_session_are_its_open_and_the_minute_before_its_close():
    sessions = around("equity", "2025-01-09")
    edges = ["2025-01-08T22:59", "2025-01-08T23:00", "2025-01-09T14:29", "2025-01-09T14:30"]
    assert s.outside(sessions, np.array([ns(e) for e in edges])).tolist() == [
        True,
        False,
        False,
        True,
    ]


def test_sunday_evening_belongs_to_monday():
    sessions = around("equity", "2025-01-12")
    sunday = np.array([ns("2025-01-12T23:00")])
    assert s.trade_date_of(sessions, sunday)[0] == day_number("2025-01-13")


def test_a_minute_outside_the_calendar_belongs_to_the_session_that_opened_last():
    sessions = around("equity", "2025-01-11")
    saturday = np.array([ns("2025-01-11T12:00")])
    assert s.outside(sessions, saturday)[0]
    assert s.trade_date_of(sessions, saturday)[0] == day_number("2025-01-10")


def test_an_instant_before_the_first_session_is_refused_where_it_would_lie():
    sessions = around("equity", "2025-01-11")
    before = sessions.open_ns[:1] - 1
    assert s.session_index(sessions, before)[0] == -1
    assert s.outside(sessions, before)[0]
    with pytest.raises(AssertionError, match="before the sessions"):
        s.open_market_ns(sessions, before)
    with pytest.raises(AssertionError, match="before the sessions"):
        s.trade_date_of(sessions, before)


def test_signal_bars_end_on_the_grid_of_the_open_or_at_the_close():
    hour = 60 * s.MINUTE_NS
    opens, closes = ns("2025-01-08T23:00"), ns("2025-01-09T14:30")
    ends = s.nominal_boundaries(opens, closes, hour)
    assert ends[0] == opens + hour
    assert np.all(np.diff(ends[:-1]) == hour)
    assert ends[-2:].tolist() == [ns("2025-01-09T14:00"), closes]
    assert s.nominal_boundaries(opens, opens + 4 * hour, 2 * hour).size == 2
    assert s.nominal_boundaries(opens, closes, s.DAY_NS).tolist() == [closes]


@pytest.mark.parametrize(
    "text", ["1970-01-01", "2004-12-31", "2005-01-04", "2035-12-28", "2262-01-01"]
)
def test_a_range_that_the_calendar_does_not_cover_is_refused(text):
    with pytest.raises(DataError, match="expected 2005 to 2035"):
        s.load_sessions("equity", ns(text), ns(text))


def test_an_instant_that_the_calendar_does_not_cover_has_no_local_time():
    for text in ("2004-12-01", "2036-02-01"):
        with pytest.raises(DataError, match="exchange-local time"):
            s.local_ns(np.array([ns(text)]))


def test_no_instants_have_no_local_time_and_no_trade_date():
    nothing = np.empty(0, dtype=np.int64)
    sessions = around("equity", "2025-01-10")
    results = [s.local_ns(nothing), s.trade_date_of(sessions, nothing)]
    results += [s.open_market_ns(sessions, nothing), s.outside(sessions, nothing)]
    assert all(result.size == 0 for result in results)


@given(groups, instants, st.integers(0, 400 * s.DAY_NS))
def test_sessions_are_sorted_disjoint_and_enough_for_any_range(group, start, length):
    end = min(start + length, LAST_NS)
    sessions = s.load_sessions(group, start, end)
    assert np.all(sessions.open_ns < sessions.close_ns)
    assert np.all(sessions.close_ns[:-1] <= sessions.open_ns[1:])
    assert np.all(np.diff(sessions.trade_date) > 0)
    assert np.all(sessions.open_ns <= sessions.break_start_ns)
    assert np.all(sessions.break_start_ns <= sessions.break_end_ns)
    assert np.all(sessions.break_end_ns <= sessions.close_ns)
    assert np.sum(sessions.close_ns <= start) == 2
    assert np.sum(sessions.open_ns >= end) == 3
    local = s.local_ns(sessions.close_ns)
    assert np.array_equal(local // s.DAY_NS, sessions.trade_date)
    assert np.all((sessions.trade_date + 3) % 7 < 5)
    for name in ("open_ns", "close_ns", "trade_date", "early", "clock_ns"):
        column = getattr(sessions, name)
        assert column.dtype == np.int64
        assert column.flags.c_contiguous
        assert column.flags.writeable


@given(groups, instants, st.lists(st.integers(0, 20 * s.DAY_NS), min_size=2, max_size=20))
def test_open_market_time_never_runs_backwards_nor_faster_than_the_clock(group, start, offsets):
    ts = np.sort(np.array([start + offset for offset in offsets], dtype=np.int64))
    elapsed = np.diff(s.open_market_ns(s.load_sessions(group, ts[0], ts[-1]), ts))
    assert np.all(elapsed >= 0)
    assert np.all(elapsed <= np.diff(ts))


@given(groups, st.integers(FIRST_NS // s.MINUTE_NS, LAST_NS // s.MINUTE_NS - 8000), st.data())
def test_open_market_time_counts_the_minutes_that_are_not_outside(group, minute, data):
    length = data.draw(st.integers(1, 8000))
    ts = (minute + np.arange(length + 1)) * s.MINUTE_NS
    sessions = s.load_sessions(group, int(ts[0]), int(ts[-1]))
    expected = int((~s.outside(sessions, ts[:-1])).sum()) * s.MINUTE_NS
    first, last = s.open_market_ns(sessions, ts[[0, -1]])
    assert last - first == expected


@given(groups, instants, instants)
def test_open_market_time_does_not_depend_on_the_range_loaded(group, one, other):
    low, high = sorted((one, other))
    near, wide = s.load_sessions(group, high, high), s.load_sessions(group, low, high)
    ts = np.array([high])
    assert s.open_market_ns(near, ts) == s.open_market_ns(wide, ts)


@given(st.lists(instants, min_size=1))
def test_local_time_is_that_of_the_time_zone_database(ts):
    expected = []
    for t in ts:
        wall = datetime.fromtimestamp(t // 10**9, CHICAGO).replace(tzinfo=UTC)
        expected.append(int(wall.timestamp()) * 10**9 + t % 10**9)
    assert s.local_ns(np.array(ts)).tolist() == expected


@given(st.integers(day_number("2005-01-01"), day_number("2035-12-31")), st.integers(0, 1439))
def test_to_utc_follows_the_time_zone_database_with_fold_zero(day, minute):
    wall = datetime.combine(date(1970, 1, 1), datetime.min.time(), CHICAGO)
    wall = (wall.replace(tzinfo=None) + timedelta(days=day, minutes=minute)).replace(tzinfo=CHICAGO)
    assert s.to_utc_ns(np.array([day]), minute)[0] == int(wall.timestamp()) * 10**9


@pytest.mark.parametrize("sunday", ["2024-03-10", "2024-11-03", "2006-04-02", "2006-10-29"])
def test_to_utc_follows_the_database_in_every_minute_of_a_clock_change(sunday):
    for minute in range(240):
        wall = datetime.fromisoformat(sunday) + timedelta(minutes=minute)
        expected = int(wall.replace(tzinfo=CHICAGO).timestamp()) * 10**9
        assert s.to_utc_ns(np.array([day_number(sunday)]), minute)[0] == expected


def test_a_caller_who_writes_into_the_arrays_harms_no_other():
    hour = 60 * s.MINUTE_NS
    around("equity", "2025-01-10").open_ns[:] = 0
    assert around("equity", "2025-01-10").open_ns.min() > 0
    s.local_offset(FIRST_NS, LAST_NS)[1][:] = 0
    assert s.local_offset(FIRST_NS, LAST_NS)[1].max() == -5 * hour


def test_local_offset_starts_at_or_before_the_range():
    transition, offset = s.local_offset(ns("2024-03-01"), ns("2024-11-03T07:00"))
    assert transition.tolist() == [
        ns(text) for text in ("2023-11-05T07:00", "2024-03-10T08:00", "2024-11-03T07:00")
    ]
    assert (offset // (60 * s.MINUTE_NS)).tolist() == [-6, -5, -6]


def test_the_groups_are_those_of_the_contract_map():
    assert set(s.GROUPS) == set(SESSION_GROUPS)


def test_the_base_install_needs_no_pandas():
    code = "import sys, ibs_core.sessions as s; s.load_sessions('fx', 15 * 10**17, 15 * 10**17); "
    code += "sys.exit('pandas' in sys.modules or 'polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def read(name):
    with (ROOT / "Data" / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_override_names_its_reason_once_and_is_in_the_table():
    overrides, table = read("cme_calendar_overrides.csv"), read("cme_calendar.csv")
    keys = [(row["group"], row["trade_date"]) for row in overrides]
    assert len(keys) == len(set(keys))
    rows = {(row["group"], row["trade_date"]): row for row in table}
    assert len(rows) == len(table)
    for row in overrides:
        assert row["reason"], row
        found = rows.get((row["group"], row["trade_date"]))
        if row["open"] == "regular":
            assert found is None, row
        else:
            assert found is not None, row
            expected = (row["open"], row["close"], "override")
            assert (found["open"], found["close"], found["source"]) == expected


def test_no_exception_is_longer_than_the_regular_hours_nor_equal_to_them():
    for row in read("cme_calendar.csv"):
        if row["open"] == "closed":
            assert row["close"] == "closed"
            continue
        opens, closes, *_ = s.regular_hours(row["group"], date.fromisoformat(row["trade_date"]))
        regular = (opens - 1440 if opens >= closes else opens, closes)
        actual = []
        for text in (row["open"], row["close"]):
            day, time = text.split()
            actual.append(int(day[1:] or 0) * 1440 + int(time[:2]) * 60 + int(time[3:]))
        assert regular[0] <= actual[0] < actual[1] <= regular[1], row
        assert tuple(actual) != regular, row


def test_the_committed_table_is_what_the_build_script_makes():
    pytest.importorskip("pandas_market_calendars")
    # A process of its own: the library's deprecation warnings are not ours to turn into errors.
    command = [sys.executable, str(ROOT / "Data" / "build_calendar.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, (
        "run python Data/build_calendar.py; after an upgrade of the library read the difference"
    )


MARKET = {
    "equity": ("ES", "NQ", "YM", "RTY", "MNQ"),
    "energy": ("CL", "NG"),
    "fx": ("6A", "6B", "6E"),
}
FILES = sorted(SHARED.glob("[15]m/*.parquet"))
# Trade dates without a bar of any symbol of the group: holes of the vendor, not of the exchange.
HOLES = {"equity": set(), "energy": set(), "fx": {"2025-08-26"}}

needs_bars = pytest.mark.skipif(not FILES, reason="the market data folder is absent")


def group_of(path):
    root = path.name.split("_")[0]
    return next(group for group, roots in MARKET.items() if root in roots)


@cache
def bars(path):
    """Starts of the bars of one file, and their length."""
    ts = pl.read_parquet(path, columns=["ts_event"])["ts_event"].cast(pl.Int64).unique().sort()
    return ts.to_numpy(), (5 if path.parent.name == "5m" else 1) * s.MINUTE_NS


@needs_bars
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_real_bar_lies_inside_a_session(path):
    ts, length = bars(path)
    sessions = s.load_sessions(group_of(path), int(ts[0]), int(ts[-1]))
    strange = ts[s.outside(sessions, ts) | s.outside(sessions, ts + length - 1)]
    assert strange.astype("datetime64[ns]").tolist() == []  # no oddity is known


@needs_bars
@pytest.mark.parametrize("group", MARKET)
def test_every_session_has_real_bars_up_to_its_close(group):
    closes: dict[int, int] = {}  # by trade date: sessions that lie inside the span of a file
    ends: dict[int, int] = {}  # by trade date: the end of the last bar of any symbol
    for path in (path for path in FILES if group_of(path) == group):
        ts, length = bars(path)
        sessions = s.load_sessions(group, int(ts[0]), int(ts[-1]))
        spanned = (sessions.open_ns >= ts[0]) & (sessions.close_ns <= ts[-1])
        days, close_ns = sessions.trade_date[spanned], sessions.close_ns[spanned]
        closes |= dict(zip(days.tolist(), close_ns.tolist(), strict=True))
        days = s.trade_date_of(sessions, ts)
        last = np.flatnonzero(np.append(np.diff(days) > 0, True))
        for day, start in zip(days[last].tolist(), ts[last].tolist(), strict=True):
            ends[day] = max(ends.get(day, 0), start + length)
    assert {str(np.datetime64(day, "D")) for day in closes.keys() - ends.keys()} == HOLES[group]
    silent = [
        str(np.datetime64(day, "D"))
        for day in closes.keys() & ends.keys()
        if closes[day] - ends[day] >= 30 * s.MINUTE_NS
    ]
    if group == "fx":  # the vendor's files break off in the night of almost every Monday
        silent = [day for day in silent if date.fromisoformat(day).weekday() != 0]
    assert silent == []
