"""The data of the charts as plain Plotly JSON; colours are names of CSS variables, filled in the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core.report.definitions import format_value
from ibs_core.report.prices import packed, price_arrays
from ibs_core.report.run import EXIT_REASONS, TOTAL
from ibs_core.report.training_window import inside, spelt_instant, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibs_core.report.run import Run
    from ibs_core.report.training_window import Window

__all__ = ["POINTS_A_FILE", "POINTS_A_SYMBOL", "chart_payload", "sparkline"]

POINTS_A_SYMBOL: Final = 20_000
POINTS_A_FILE: Final = 90_000
"""Price bars of one file, shared by the symbols; with Plotly itself it stays near 6 MB."""

_BINS: Final = 36
Chart = dict[str, Any]


def chart_payload(run: Run) -> Chart:
    """Collect what the page's script draws.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    dict
        ``equity`` and ``distribution``, each Plotly ``data`` and ``layout`` or None when there is
        nothing to draw; ``prices``, for each symbol the arrays of bars and trades; ``reasons``.
    """
    windows = windows_of(run.stats)
    trades = run.trades.filter(~inside(run.trades, windows)) if windows else run.trades
    limit = min(POINTS_A_SYMBOL, POINTS_A_FILE // max(len(run.bars), 1))
    return {
        "equity": _equity_chart(run.equity, run.stats["capital_usd"], windows.values()),
        "distribution": _distribution_chart(trades),
        "reasons": EXIT_REASONS,
        "prices": {
            symbol: price_arrays(bars, run.trades.filter(pl.col("symbol") == symbol), limit)
            for symbol, bars in run.bars.items()
            if bars.height
        },
    }


def sparkline(values: list[float]) -> str:
    """Draw a line of one symbol's equity as a small SVG.

    Parameters
    ----------
    values : list of float
        In order of time.

    Returns
    -------
    str
        An ``<svg>`` element, or nothing for fewer than two values.
    """
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step = max(1, len(values) // 120)
    picked = [*values[:-1:step], values[-1]]
    scale = 20 / (high - low) if high > low else 0.0
    points = " ".join(
        f"{120 * i / (len(picked) - 1):.1f},{22 - scale * (value - low):.1f}"
        for i, value in enumerate(picked)
    )
    return (
        '<svg class="spark" viewBox="0 0 120 24" aria-hidden="true" preserveAspectRatio="none">'
        f'<polyline points="{points}"/></svg>'
    )


def _equity_chart(equity: pl.DataFrame, capital: float, windows: Iterable[Window]) -> Chart | None:
    total = equity.filter(pl.col("symbol") == TOTAL)
    if not total.height:
        return None
    days = packed(total["session_date"].cast(pl.Datetime("ms")).dt.epoch("ms"), "f8")
    value = total["equity_usd"].to_numpy()
    fall = np.minimum(value - np.maximum(np.maximum.accumulate(value), capital), 0.0)
    line = {"type": "scatter", "mode": "lines", "x": days}
    least = 0.01 * capital  # so that a flat curve has an axis that can be read
    top, bottom = max(value.max(), capital + least), min(value.min(), capital - least)
    room = 0.04 * float(top - bottom)
    return {
        "data": [
            line
            | {
                "name": "Equity",
                "y": packed(value, "f8"),
                "line": {"color": "--win", "width": 1.8},
                "hovertemplate": "%{y:$,.0f}<extra>Equity</extra>",
            },
            line
            | {
                "name": "Drawdown",
                "y": packed(fall, "f8"),
                "yaxis": "y2",
                "line": {"color": "--loss", "width": 1},
                "fill": "tozeroy",
                "fillcolor": "--loss-soft",
                "hovertemplate": "%{y:$,.0f}<extra>Drawdown</extra>",
            },
        ],
        "layout": {
            "hovermode": "x unified",
            "xaxis": {"type": "date", "anchor": "y2", "hoverformat": "%a %d %b %Y"},
            "yaxis": {
                "domain": [0.34, 1],
                "tickformat": "$,.4~s",
                "range": [float(bottom) - room, float(top) + room],
            },
            "yaxis2": {
                "domain": [0, 0.26],
                "tickformat": "$,.3~s",
                "nticks": 4,
                "range": [1.06 * min(float(fall.min()), -least), 0],
            },
            "shapes": [_level(capital), *_shades(windows, total["session_date"])],
        },
    }


def _level(value: float) -> Chart:
    """Draw the stated capital as a thin line across the chart."""
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


def _distribution_chart(trades: pl.DataFrame) -> Chart | None:
    net = trades["net_usd"].to_numpy()
    if not len(net):
        return None
    low, high = np.percentile(net, [1, 99])
    width = _round_up(max(float(high - low), abs(float(low)), 1.0) / _BINS)
    # Bins begin at whole multiples of the width, so that none mixes wins and losses; a few extreme
    # trades must not squeeze the rest, so the outer bins hold everything beyond.
    bins = np.floor(net.clip(low, high) / width).astype(np.int64)
    first, counts = int(bins.min()), np.bincount(bins - bins.min())
    left = (width * (first + np.arange(len(counts)))).tolist()
    return {
        "data": [
            {
                "type": "bar",
                "x": [edge + width / 2 for edge in left],
                "y": counts.tolist(),
                "width": 0.92 * width,
                "text": [_bin_text(edge, width, left) for edge in left],
                "textposition": "none",
                "marker": {"color": ["--loss" if edge < 0 else "--win" for edge in left]},
                "hovertemplate": "%{text}: %{y:,} trades<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"tickformat": "$,.3~s", "nticks": 7, "showgrid": False},
            "yaxis": {"nticks": 5, "rangemode": "tozero", "tickformat": ","},
            "bargap": 0,
        },
    }


def _bin_text(edge: float, width: float, left: list[float]) -> str:
    low, high = (format_value(round(value, 6), "usd") for value in (edge, edge + width))
    if len(left) > 1 and edge in (left[0], left[-1]):
        return f"below {high}" if edge == left[0] else f"{low} or more"
    return f"{low} to {high}"


def _round_up(width: float) -> float:
    """Round a bin's width up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width)
