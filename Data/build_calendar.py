# ruff: noqa: INP001  # a script beside its data, not a package
"""Write Data/cme_calendar.csv: every day on which a session group leaves its regular hours.

Run by maintainers, never at run time::

    python Data/build_calendar.py            # rewrite the table
    python Data/build_calendar.py --check    # exit 1 if the committed table differs

The table is pandas_market_calendars' opinion corrected by ``cme_calendar_overrides.csv``, row by
row; an override wins whatever the library says (decision 0004). Columns: group, trade_date, open,
close, source. Times are Chicago wall clock, ``D`` is the trade date and ``D-1`` the calendar day
before it; ``closed`` in both means that there is no session. In the overrides ``regular`` cancels
a row of the library.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Final

import pandas_market_calendars as mcal
from pandas import bdate_range

from ibs_core.sessions import GROUPS, YEARS

DATA: Final = Path(__file__).resolve().parent
TABLE: Final = DATA / "cme_calendar.csv"
OVERRIDES: Final = DATA / "cme_calendar_overrides.csv"
CALENDARS: Final = {
    "equity": "CME Globex Equity",
    "energy": "CMEGlobex_EnergyAndMetals",
    "metals": "CMEGlobex_EnergyAndMetals",
    "fx": "CMEGlobex_FX",
    "rates": "CME Globex Fixed Income",
    "grains": "CMEGlobex_Grains",
    "crypto": "CME Globex Crypto",
    "cash_index": "NYSE",
}
CLOSED: Final = ("closed", "closed")

Span = tuple[str, str]


def build() -> str:
    """Return the table as text.

    Returns
    -------
    str
        CSV with a header, sorted by group (in the order of `GROUPS`) and trade date.
    """
    overrides = read_overrides()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "trade_date", "open", "close", "source"])
    for group in GROUPS:
        rows = {day: (*span, "library") for day, span in library_exceptions(group).items()}
        for day, span in overrides[group].items():
            if span == ("regular", "regular"):
                rows.pop(day, None)
            else:
                rows[day] = (*span, "override")
        writer.writerows([group, day, *rows[day]] for day in sorted(rows))
    return text.getvalue()


def library_exceptions(group: str) -> dict[str, Span]:
    """Return the library's exceptional days of one group.

    Parameters
    ----------
    group : str
        One of `GROUPS`.

    Returns
    -------
    dict of str to (str, str)
        Trade date to open and close, for each weekday that is missing or leaves the library's own
        regular hours; what is regular at which time is our table's concern, not the library's.
    """
    first, last = f"{YEARS[0]}-01-01", f"{YEARS[1]}-12-31"
    schedule = mcal.get_calendar(CALENDARS[group]).schedule(first, last, tz="America/Chicago")
    opens = [time.strftime("%H:%M") for time in schedule["market_open"]]
    closes = [time.strftime("%H:%M") for time in schedule["market_close"]]
    usual_open, usual_close = (max(set(times), key=times.count) for times in (opens, closes))
    traded = dict(zip(schedule.index, zip(opens, closes, strict=True), strict=True))
    rows: dict[str, Span] = {}
    for day in bdate_range(first, last):
        opened, closed = traded.get(day, CLOSED)
        if opened == "closed":
            rows[f"{day:%Y-%m-%d}"] = CLOSED
        elif (opened, closed) != (usual_open, usual_close):
            evening = "D-1" if opened > closed else "D"
            rows[f"{day:%Y-%m-%d}"] = (f"{evening} {opened}", f"D {closed}")
    return rows


def read_overrides() -> dict[str, dict[str, Span]]:
    """Return our own table, group by group.

    Returns
    -------
    dict of str to dict of str to (str, str)
        Trade date to open and close, as written in the file.
    """
    rows: dict[str, dict[str, Span]] = {group: {} for group in GROUPS}
    with OVERRIDES.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            rows[row["group"]][row["trade_date"]] = (row["open"], row["close"])
    return rows


def main(arguments: list[str]) -> int:
    """Write the table, or compare it.

    Parameters
    ----------
    arguments : list of str
        ``--check`` compares and writes nothing.

    Returns
    -------
    int
        Exit code: 1 if the committed table differs.
    """
    table = build()
    if arguments == ["--check"]:
        return int(TABLE.read_text(encoding="utf-8") != table)
    TABLE.write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
