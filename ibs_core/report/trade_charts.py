"""Charts of trades and of what followed signal bars."""

from __future__ import annotations

import calendar
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core.report.definitions import format_value
from ibs_core.report.forward_returns import HORIZONS
from ibs_core.report.groups import IBS_WIDTH
from ibs_core.report.prices import packed
from ibs_core.report.run import TOTAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "POINTS_A_SCATTER",
    "costs_chart",
    "distribution_chart",
    "excursion_chart",
    "forward_charts",
    "group_chart",
    "margin_chart",
]

POINTS_A_SCATTER: Final = 3_000
"""Trades of one scatter chart: SVG draws no more at once without a wait."""

_BINS: Final = 36
_USD: Final = {"tickformat": "$,.3~s", "zeroline": True, "rangemode": "tozero"}
Chart = dict[str, Any]


def distribution_chart(trades: pl.DataFrame) -> Chart | None:
    """Draw how many trades earned how much.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.

    Returns
    -------
    dict or None
        Plotly ``data`` and ``layout``; None without a trade.
    """
    net = trades["net_usd"].to_numpy()
    if not len(net):
        return None
    low, high = np.percentile(net, [1, 99])
    width = _round_up(max(float(high - low), abs(float(low)), 1.0) / _BINS)
    # A few extreme trades must not squeeze the rest: the outer bins hold everything beyond.
    left, counts = _bins(net.clip(low, high), width)
    bars = _bars([edge + width / 2 for edge in left], counts, ["--loss", "--win"], left)
    bars |= {
        "width": 0.92 * width,
        "text": [_bin_text(edge, width, left) for edge in left],
        "hovertemplate": "%{text}: %{y:,} trades<extra></extra>",
    }
    # Zero is in sight, so that a single trade is seen to be a gain or a loss.
    span = [min(left[0], 0.0) - width / 2, max(left[-1] + width, 0.0) + width / 2]
    axis = {"tickformat": "$,.3~s", "nticks": 7, "showgrid": False, "range": span}
    return {"data": [bars], "layout": {"xaxis": axis, **_COUNTS}}


def excursion_chart(trades: pl.DataFrame, column: str) -> Chart | None:
    """Draw the net P&L of trades over how far they went against or for them.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.
    column : {"mae_usd", "mfe_usd"}

    Returns
    -------
    dict or None
        None without a trade; of more than `POINTS_A_SCATTER` as many are drawn, evenly by rank of the
        excursion, both extremes among them, and ``shown`` and ``trades`` tell how many.
    """
    known = trades.filter(pl.col(column).is_not_null()).sort(column, "net_usd")
    if not known.height:
        return None
    n_shown = min(known.height, POINTS_A_SCATTER)
    picked = known[np.unique(np.rint(np.linspace(0, known.height - 1, n_shown)).astype(np.int64))]
    data = []
    for name, colour, keep in (
        ("loss", "--loss", pl.col("net_usd") <= 0),
        ("win", "--win", pl.col("net_usd") > 0),
    ):
        own = picked.filter(keep)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": packed(own[column].abs().round(2), "f4"),
                "y": packed(own["net_usd"].round(2), "f4"),
                "text": own["symbol"].to_list(),
                "marker": {"color": colour, "size": 5, "opacity": 0.55},
                "hovertemplate": "%{text}: "
                + column[:3].upper()
                + " %{x:$,.0f}, net %{y:$,.0f}<extra></extra>",
            }
        )
    return {
        "data": data,
        "shown": picked.height,
        "trades": known.height,
        "layout": {
            "hovermode": "closest",
            "xaxis": {"tickformat": "$,.3~s", "nticks": 6, "rangemode": "tozero"},
            "yaxis": {**_USD, "nticks": 6},
        },
    }


def group_chart(rows: Sequence[Mapping[str, Any]], key: str) -> Chart | None:
    """Draw the net P&L of trades by hour or weekday.

    Parameters
    ----------
    rows : sequence of mapping
        ``stats["by_hour"]`` or ``stats["by_weekday"]``.
    key : {"hour", "weekday"}

    Returns
    -------
    dict or None
        None without a row.
    """
    if not rows:
        return None
    places = range(24) if key == "hour" else range(1, 6)
    names = [f"{at:02d}:00" if key == "hour" else calendar.day_name[at - 1] for at in places]
    net = [row["net_usd"] for row in rows]
    bars = _bars([row[key] for row in rows], [round(x, 2) for x in net], ["--loss", "--win"], net)
    bars["text"] = [
        f"{names[places.index(row[key])]}: {row['trades']:,} trade{'s'[: row['trades'] != 1]}, "
        f"{format_value(row['win_rate'], 'percent')} won<br>net {format_value(row['net_usd'], 'usd')}, "
        f"average {format_value(row['average_usd'], 'usd')}"
        for row in rows
    ]
    bars["hovertemplate"] = "%{text}<extra></extra>"
    step = 4 if key == "hour" else 1
    axis = {
        "range": [places[0] - 0.6, places[-1] + 0.6],
        "tickvals": list(places[::step]),
        "ticktext": [name[:5] if key == "hour" else name[:3] for name in names[::step]],
        "showgrid": False,
    }
    values = {**_USD, "nticks": 5}
    return {"data": [bars], "layout": {"xaxis": axis, "yaxis": values, "bargap": 0.3}}


def costs_chart(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw the net P&L over multiples of the costs.

    Parameters
    ----------
    rows : sequence of mapping
        As `cost_steps` returns them.

    Returns
    -------
    dict or None
        None where there was no trade.
    """
    if all(row["average_usd"] is None for row in rows):
        return None
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [row["multiple"] for row in rows],
        "y": [round(row["net_usd"], 2) for row in rows],
        "line": {"color": "--win", "width": 1.8},
        "marker": {"size": 6},
        "hovertemplate": "%{x} \u00d7 costs: net %{y:$,.0f}<extra></extra>",
    }
    layout = {
        "xaxis": {"tickformat": ".1~f", "ticksuffix": " \u00d7", "range": [-0.1, 3.1]},
        "yaxis": {**_USD, "nticks": 6},
    }
    return {"data": [line], "layout": layout}


def forward_charts(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Chart]:
    """Draw the mean forward return by bucket of IBS, two standard errors to each side.

    Parameters
    ----------
    tables : mapping
        ``stats["forward_returns"]``.

    Returns
    -------
    dict of str to dict
        By symbol, the portfolio as ``All``; those without a bar are left out.
    """
    return {
        "All" if symbol == TOTAL else symbol: _forward_chart(table)
        for symbol, table in tables.items()
        if table["buckets"]
    }


def margin_chart(scored: pl.DataFrame) -> Chart | None:
    """Draw by how much candidates scored above or below the threshold.

    Parameters
    ----------
    scored : polars.DataFrame
        Decisions with ``score`` and ``threshold``, none null.

    Returns
    -------
    dict or None
        None without one.
    """
    if not scored.height:
        return None
    margin = (scored["score"].cast(pl.Float64) - scored["threshold"].cast(pl.Float64)).to_numpy()
    width = _round_up(max(float(margin.max() - margin.min()), 0.01) / _BINS)
    left, counts = _bins(margin, width)
    bars = _bars([edge + width / 2 for edge in left], counts, ["--loss", "--win"], left)
    bars |= {
        "width": 0.92 * width,
        "text": [
            f"{edge:.4g} to {edge + width:.4g}".replace("-", "\N{MINUS SIGN}") for edge in left
        ],
        "hovertemplate": "score \N{MINUS SIGN} threshold %{text}: %{y:,} candidates<extra></extra>",
    }
    axis = {"nticks": 7, "showgrid": False}
    return {"data": [bars], "layout": {"xaxis": axis, **_COUNTS}}


_COUNTS: Final = {
    "yaxis": {"nticks": 5, "rangemode": "tozero", "tickformat": ","},
    "bargap": 0,
}


def _forward_chart(table: Mapping[str, Any]) -> Chart:
    rows, data, shapes = table["buckets"], [], []
    for i, (name, told) in enumerate(HORIZONS.items()):
        colour = f"--run-{i + 1}"
        known = [row for row in rows if row[f"{name}_bp"] is not None]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": told,
                # Beside each other, so that one error bar does not hide the other.
                "x": [round(row["ibs_from"] + IBS_WIDTH * (0.35 + 0.3 * i), 4) for row in known],
                "y": [round(row[f"{name}_bp"], 3) for row in known],
                "error_y": {
                    "array": [round(2 * (row[f"{name}_se_bp"] or 0.0), 3) for row in known],
                    "color": colour,
                    "thickness": 1.2,
                    "width": 0,
                },
                "marker": {"color": colour, "size": 7},
                "text": [_forward_text(row, name, told) for row in known],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        mean = table["all"][f"{name}_bp"]
        if mean is not None:
            line = {"color": colour, "width": 1, "dash": "dot"}
            shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": line})
            shapes[-1] |= {"y0": round(mean, 3), "y1": round(mean, 3)}
    layout = {
        "hovermode": "closest",
        "shapes": shapes,
        "xaxis": {"range": [-0.01, 1.01], "nticks": 11, "showgrid": False},
        "yaxis": {"ticksuffix": " bp", "nticks": 7, "zeroline": True},
    }
    return {"data": data, "layout": layout}


def _forward_text(row: Mapping[str, Any], name: str, told: str) -> str:
    error = row[f"{name}_se_bp"]
    spread = "" if error is None else f" \u00b1 {error:.2f} (standard error)"
    return (
        f"IBS {row['ibs_from']:.2f} to {row['ibs_from'] + IBS_WIDTH:.2f}, {told}<br>"
        f"{row[f'{name}_bp']:.2f} bp{spread}<br>{row[f'{name}_n']:,} bars"
    ).replace("-", "\N{MINUS SIGN}")


def _bins(values: NDArray[np.float64], width: float) -> tuple[list[float], list[int]]:
    """Count values in bins that begin at whole multiples of the width, so that none mixes signs."""
    bins = np.floor(values / width).astype(np.int64)
    first, counts = int(bins.min()), np.bincount(bins - bins.min())
    return (width * (first + np.arange(len(counts)))).tolist(), counts.tolist()


def _bars(x: Sequence[Any], y: Sequence[float], colours: list[str], sign: Sequence[float]) -> Chart:
    return {
        "type": "bar",
        "x": x,
        "y": y,
        "textposition": "none",
        "marker": {"color": [colours[value >= 0] for value in sign]},
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
