"""Features of the pair, the calendar, the reference feeds and every other instrument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibs_core import formulas as f
from ibs_core.catalogue.feature import BAR, DAY, NO_CLOSE, Feature, Row, Side, feature_of
from ibs_core.formulas import Node, elsewhere, given

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["across", "calendar", "paired", "previous_close", "reference"]


def _pair(s: Side) -> dict[str, Row]:
    """List the pair's strength, seen from the own bar, and the spread to it."""
    stale = f"the pair has no {_span(s)} there"
    spread_z = f.z(f.PAIR_SPREAD, 20)
    rows: dict[str, Row] = {}
    for name, node, kind in (
        ("ibs", f.IBS, "share"),
        ("ibs_rank", f.rank(f.IBS, *s.rank), "share"),
        ("rsi14", f.rsi(14), "index"),
        ("rsi14_rank", f.rank(f.rsi(14), *s.rank), "share"),
    ):
        rows[f"pair_{name}"] = (
            elsewhere(node, f"pair:{s.prefix}"),
            f"the pair's {s.prefix}_{name}",
            kind,
            stale,
        )
    rows["pair_z"] = (
        spread_z,
        "z of C - C of the pair over 20",
        "z",
        f"{stale}, or at one of the 20",
    )
    rows["pair_z_rank"] = (f.rank(spread_z, *s.rank), "rank of pair_z", "share", "pair_z is")
    return rows


def _span(s: Side) -> str:
    return "bar" if s is BAR else "session"


_CALENDAR: dict[str, tuple[Node, str, str, float, float]] = {
    "cal_dow": (
        given("weekday"),
        "ISO weekday of the trade date, 1 Monday to 7 Sunday",
        "1 to 7",
        1,
        7,
    ),
    "cal_month": (given("month"), "month of the trade date", "1 to 12", 1, 12),
    "cal_late_month": (
        f.at_least("day", 26.0),
        "1 if the day of the month > 25 else 0",
        "0 or 1",
        0,
        1,
    ),
    "cal_week_start": (f.at_most("weekday", 2.0), "1 on Monday and Tuesday else 0", "0 or 1", 0, 1),
    "cal_even_day": (f.EVEN_DAY, "1 if the day of the month is even else 0", "0 or 1", 0, 1),
    "cal_session": (
        f.SESSION_PART,
        "exchange time of the bar's start: 1 before 08:00, 2 to 15:00, 4 to 17:00, 3 after",
        "1 to 4",
        1,
        4,
    ),
    "cal_open_close": (
        f.OPEN_CLOSE,
        "exchange time of the bar's start: 1 from 08:00 to 09:00, 2 from 14:00 to 15:00, else 0",
        "0 to 2",
        0,
        2,
    ),
}


def calendar() -> list[Feature]:
    """List the calendar's features.

    Returns
    -------
    list of Feature
    """
    return [
        Feature(name, formula, unit, low, high, "", node, "cal")
        for name, (node, formula, unit, low, high) in _CALENDAR.items()
    ]


def previous_close() -> Feature:
    """Compare a bar's close with that of the last session.

    Returns
    -------
    Feature
    """
    node = f.above(f.CLOSE, f.HELD_CLOSE)
    row = (node, "1 if C > close of the last closed session else 0", "flag", "no session yet")
    return feature_of("bar_above_prev_close", row, BAR, node=node)


def paired(s: Side) -> list[Feature]:
    """List the features of the pair on one timeframe.

    Parameters
    ----------
    s : Side

    Returns
    -------
    list of Feature
    """
    out = []
    for key, row in _pair(s).items():
        joint = s is DAY and key.startswith("pair_z")
        out.append(
            feature_of(
                f"{s.prefix}_{key}", row, s, node=elsewhere(row[0], "day") if joint else row[0]
            )
        )
    return out


def across(root: str) -> list[Feature]:
    """List another instrument's return, its z-score and its volatility."""
    out = []
    log = f.log_return(f.CLOSE)
    for s in (BAR, DAY):
        stale = f"{root} has no {_span(s)} there"
        rows: dict[str, Row] = {
            "ret": (
                f.percent_return(f.CLOSE, 1),
                f"100 (C / C[-1] - 1) of {root}",
                "percent",
                f"{stale}, or {NO_CLOSE}",
            ),
            "z": (
                f.floored_z(log, 252),
                f"z of 100 ln(C / C[-1]) of {root} over 252",
                "z",
                f"{stale}, or a close in the window is 0 or below",
            ),
            "sd": (
                f.deviation(log, 252),
                f"deviation of 100 ln(C / C[-1]) of {root} over 252",
                "volatility",
                f"{stale}, or a close in the window is 0 or below",
            ),
        }
        for key, row in rows.items():
            node = elsewhere(row[0], f"{root}:{s.prefix}")
            out.append(feature_of(f"x_{root.lower()}_{s.prefix}_{key}", row, s, node=node))
    return out


def reference(feeds: Iterable[str]) -> list[Feature]:
    """List what is read from a volatility index and a bond fund, where the contract map has them."""
    out = []
    if "VIX" in feeds:
        vix = elsewhere(f.CLOSE, "VIX:day")
        middle = elsewhere(f.median(f.CLOSE, 100), "VIX:day")
        stale = "VIX has no session there"
        rows: dict[str, Row] = {
            "vix": (vix, "close of the VIX", "level", stale),
            "vix_rank": (
                elsewhere(f.rank(f.CLOSE, *DAY.rank), "VIX:day"),
                "rank of the VIX's close",
                "share",
                stale,
            ),
            "vix_median": (middle, "median of the last 100 closes of the VIX", "level", stale),
            "vix_regime": (f.above(middle, vix), "1 if vix < vix_median else 0", "flag", stale),
            "ret1_x_vix": (
                f.product(elsewhere(f.percent_return(f.CLOSE, 1), "day"), 0.0, 1.0, vix),
                "ret1_pct * vix",
                "product",
                f"{stale}, or {NO_CLOSE}",
            ),
            "rsi5_x_vix": (
                f.product(elsewhere(f.rsi(5), "day"), 50.0, 0.02, vix),
                "(rsi5 - 50) / 50 * vix",
                "swing",
                stale,
            ),
        }
        out += [feature_of(f"day_{key}", row, DAY, node=row[0]) for key, row in rows.items()]
    if "TLT" in feeds:
        flag = elsewhere(f.above(f.CLOSE, f.mean(f.CLOSE, 20)), "TLT:day")
        row = (flag, "1 if C of TLT > its SMA(20) else 0", "flag", "TLT has no session there")
        out.append(feature_of("day_tlt_above_sma20", row, DAY, node=flag))
    return out
