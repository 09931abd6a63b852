"""Charts of equity over sessions: with its drawdown, its rolling Sharpe ratio, beside that of other runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ibs_core.report.curve import SESSIONS_A_YEAR, session_pnl
from ibs_core.report.prices import packed
from ibs_core.report.run import TOTAL
from ibs_core.report.training_window import sessions_inside, spelt_instant, windows_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ibs_core.report.run import Run
    from ibs_core.report.training_window import Window

__all__ = [
    "ROLLING_SESSIONS",
    "RUN_COLOURS",
    "compared_chart",
    "equity_chart",
    "rolling_sharpe_chart",
]

ROLLING_SESSIONS: Final = 126
"""Half a year; the Sharpe ratio of fewer sessions is mostly chance."""
RUN_COLOURS: Final = 6
"""Colours for curves of runs, ``--run-1`` and so on; further runs begin again."""

_LEAST: Final = 0.01  # of the capital, so that a flat curve has an axis that can be read
Chart = dict[str, Any]
Floats = NDArray[np.float64]


def equity_chart(
    equity: pl.DataFrame, lows: pl.DataFrame, *, capital: float, windows: Iterable[Window]
) -> Chart | None:
    """Draw equity at session closes, and below it the drawdown at closes and within sessions.

    Parameters
    ----------
    equity : polars.DataFrame
        Schema `EQUITY`.
    lows : polars.DataFrame
        Schema `LOWS`; without a row for each of the total the intrabar drawdown is left out.
    capital : float
        Stated capital, USD.
    windows : iterable of (int, int)
        Training windows to shade, UTC ns.

    Returns
    -------
    dict or None
        Plotly ``data`` and ``layout``; None without a session.
    """
    total = equity.filter(pl.col("symbol") == TOTAL)
    if not total.height:
        return None
    value = total["equity_usd"].to_numpy()
    fall = _fall(value, capital)
    low = lows.filter(pl.col("symbol") == TOTAL)["low_usd"].to_numpy()
    data = [_line(total, value, "Equity", {"color": "--win", "width": 1.8})]
    deepest = fall
    if len(low) == len(value):
        # Within a session the peak is the highest close before it.
        before = np.maximum.accumulate(np.concatenate([[capital], value[:-1]]))
        deepest = np.minimum(low - before, 0.0)
        line = {"color": "--muted", "width": 1}
        data.append(_line(total, deepest, "Intrabar", line) | {"yaxis": "y2"})
    own = {"yaxis": "y2", "fill": "tozeroy", "fillcolor": "--loss-soft"}
    data.append(_line(total, fall, "Drawdown", {"color": "--loss", "width": 1}) | own)
    return {
        "data": data,
        "layout": _two_panes(value, deepest, capital, level=capital)
        | {"shapes": [_level(capital), *_shades(windows, total["session_date"])]},
    }


def rolling_sharpe_chart(
    equity: pl.DataFrame, *, capital: float, windows: Collection[Window]
) -> Chart | None:
    """Draw the Sharpe ratio of the last `ROLLING_SESSIONS` sessions at each.

    Parameters
    ----------
    equity : polars.DataFrame
        Schema `EQUITY`.
    capital : float
        Stated capital, USD.
    windows : collection of (int, int)
        Training windows, UTC ns: shaded, and the line is dotted where any of its sessions lies in one.

    Returns
    -------
    dict or None
        None where there are fewer sessions, or none whose equity varied.
    """
    total = equity.filter(pl.col("symbol") == TOTAL)
    if total.height < ROLLING_SESSIONS:
        return None
    pnl = session_pnl(total, capital)["pnl_usd"].to_numpy()
    # From the sessions themselves and not from running sums, which drift.
    spans = np.lib.stride_tricks.sliding_window_view(pnl, ROLLING_SESSIONS)
    mean, deviation = spans.mean(axis=1), spans.std(axis=1, ddof=1)
    noise = 1e-9 * max(float(np.abs(pnl).max()), 1.0)
    known = deviation > noise
    if not known.any():
        return None
    sharpe = np.full(len(mean), np.nan)
    sharpe[known] = mean[known] / deviation[known] * math.sqrt(SESSIONS_A_YEAR)
    inside = sessions_inside(total["session_date"], windows)
    trained = np.lib.stride_tricks.sliding_window_view(inside, (ROLLING_SESSIONS,)).max(axis=1)
    total = total[ROLLING_SESSIONS - 1 :]
    lines = _divided(total, sharpe, trained, "", {"color": "--win", "width": 1.4})
    low, high = min(float(np.nanmin(sharpe)), 0.0), max(float(np.nanmax(sharpe)), 0.0)
    room = 0.06 * (high - low)
    return {
        "data": [line | {"hovertemplate": "%{y:.2f}<extra></extra>"} for line in lines],
        "layout": {
            "hovermode": "x unified",
            "xaxis": {"type": "date", "hoverformat": "%a %d %b %Y"},
            "yaxis": {"nticks": 6, "range": [low - room, high + room]},
            "shapes": [_level(0.0), *_shades(windows, total["session_date"])],
        },
    }


def compared_chart(runs: Mapping[str, Run]) -> Chart | None:
    """Draw what several runs earned, in one chart, and below it their drawdowns.

    Parameters
    ----------
    runs : mapping of str to Run
        By name, in order.

    Returns
    -------
    dict or None
        None where no run has a session.
    """
    upper, lower, gains, falls = [], [], [np.zeros(1)], [np.zeros(1)]
    for i, (name, run) in enumerate(runs.items()):
        total, capital = run.equity.filter(pl.col("symbol") == TOTAL), run.stats["capital_usd"]
        if not total.height:
            continue
        value = total["equity_usd"].to_numpy()
        gain, fall = value - capital, _fall(value, capital)
        dash = "solid" if i < RUN_COLOURS else "dash"
        line = {"color": f"--run-{i % RUN_COLOURS + 1}", "width": 1.6, "dash": dash}
        known = sessions_inside(total["session_date"], windows_of(run.stats).values())
        upper += _divided(total, gain, known, name, line)
        fallen = _line(total, np.where(known, np.nan, fall), name, {**line, "width": 1})
        lower.append(fallen | {"yaxis": "y2", "hoverinfo": "skip"})
        gains.append(gain)
        falls.append(fall)
    if not upper:
        return None
    capital = next(iter(runs.values())).stats["capital_usd"]
    layout = _two_panes(np.concatenate(gains), np.concatenate(falls), capital, level=0.0)
    return {"data": [*upper, *lower], "layout": layout | {"shapes": [_level(0.0)]}}


def _fall(value: Floats, capital: float) -> Floats:
    return np.minimum(value - np.maximum(np.maximum.accumulate(value), capital), 0.0)


def _divided(
    total: pl.DataFrame, values: Floats, known: NDArray[np.bool_], name: str, line: Chart
) -> list[Chart]:
    """Draw a curve, dotted where a model was trained on what it shows."""
    drawn = [_line(total, np.where(known, np.nan, values), name, line)]
    if known.any():
        # One session more, so that the curve has no gap.
        reached = known | np.append(False, known[:-1])
        dotted = line | {"width": 1.2, "dash": "dot"}
        drawn.append(_line(total, np.where(reached, values, np.nan), name, dotted))
    return drawn


def _line(total: pl.DataFrame, values: Floats, name: str, line: Chart) -> Chart:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": packed(total["session_date"].cast(pl.Datetime("ms")).dt.epoch("ms"), "f8"),
        "y": packed(np.round(values, 2), "f8"),
        "line": line,
        "hovertemplate": "%{y:$,.0f}<extra>%{fullData.name}</extra>",
    }


def _two_panes(values: Floats, falls: Floats, capital: float, *, level: float) -> Chart:
    least = _LEAST * capital
    top, bottom = (
        max(float(values.max()), level + least),
        min(float(values.min()), level - least),
    )
    room = 0.04 * (top - bottom)
    return {
        "hovermode": "x unified",
        "xaxis": {"type": "date", "anchor": "y2", "hoverformat": "%a %d %b %Y"},
        "yaxis": {
            "domain": [0.34, 1],
            "tickformat": "$,.4~s",
            "range": [bottom - room, top + room],
        },
        "yaxis2": {
            "domain": [0, 0.26],
            "tickformat": "$,.3~s",
            "nticks": 4,
            "range": [1.06 * min(float(falls.min()), -least), 0],
        },
    }


def _level(value: float) -> Chart:
    """Draw a value as a thin line across the chart."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": value,
        "y1": value,
        "line": {"color": "--muted", "width": 1, "dash": "dot"},
    }


def _shades(windows: Iterable[Window], dates: pl.Series) -> list[Chart]:
    """Shade training windows, cut at the ends of the curve: a shape would widen the axis."""
    low, high = (str(day) for day in (dates[0], dates[-1]))
    spans = {tuple(spelt_instant(ns)[:10] for ns in window) for window in windows}
    shade = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    return [
        shade
        | {"x0": max(first, low), "x1": min(last, high), "fillcolor": "--hover"}
        | {"line": {"width": 0}}
        for first, last in sorted(spans)
        if last >= low and first <= high
    ]
