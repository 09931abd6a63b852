"""The data of the charts as plain Plotly JSON; colours are names of CSS variables, filled in the page."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core.report.run import EXIT_REASONS, TOTAL

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ibs_core.report.run import Run

__all__ = ["POINTS_A_FILE", "POINTS_A_SYMBOL", "chart_payload", "sparkline", "thin_bars"]

POINTS_A_SYMBOL: Final = 20_000
POINTS_A_FILE: Final = 32_000
"""Price bars of one file, shared by the symbols; with Plotly itself it stays below 6 MB."""

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
    limit = min(POINTS_A_SYMBOL, POINTS_A_FILE // max(len(run.bars), 1))
    return {
        "equity": _equity_chart(run.equity, run.stats["capital_usd"]),
        "distribution": _distribution_chart(run.trades),
        "reasons": EXIT_REASONS,
        "prices": {
            symbol: _price_arrays(bars, run.trades.filter(pl.col("symbol") == symbol), limit)
            for symbol, bars in run.bars.items()
            if bars.height
        },
    }


def thin_bars(bars: pl.DataFrame, n_max: int) -> pl.DataFrame:
    """Merge neighbours so that no more than `n_max` bars are left and no extreme is lost.

    Parameters
    ----------
    bars : polars.DataFrame
        Schema `BARS`.
    n_max : int
        Bars at most, > 0.

    Returns
    -------
    polars.DataFrame
        Schema `BARS`; every bar is first open, highest high, lowest low, last close of as many.
    """
    n_merged = math.ceil(bars.height / n_max)
    if n_merged <= 1:
        return bars
    return (
        bars.group_by(pl.int_range(pl.len()).floordiv(n_merged).alias("part"), maintain_order=True)
        .agg(
            pl.col("start").first(),
            pl.col("end").last(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
        )
        .drop("part")
    )


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


def _equity_chart(equity: pl.DataFrame, capital: float) -> Chart | None:
    total = equity.filter(pl.col("symbol") == TOTAL)
    if not total.height:
        return None
    days = _packed(total["session_date"].cast(pl.Datetime("ms")).dt.epoch("ms"), "f8")
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
                "y": _packed(value, "f8"),
                "line": {"color": "--win", "width": 1.8},
                "hovertemplate": "%{y:$,.0f}<extra>Equity</extra>",
            },
            line
            | {
                "name": "Drawdown",
                "y": _packed(fall, "f8"),
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
            "shapes": [_level(capital)],
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


def _distribution_chart(trades: pl.DataFrame) -> Chart | None:
    net = trades["net_usd"].to_numpy()
    if not len(net):
        return None
    width = _round_up(max(float(np.ptp(net)), abs(float(net[0])), 1.0) / _BINS)
    # Bins begin at whole multiples of the width, so that none mixes wins and losses.
    bins = np.floor(net / width).astype(np.int64)
    first, counts = int(bins.min()), np.bincount(bins - bins.min())
    left = width * (first + np.arange(len(counts)))
    return {
        "data": [
            {
                "type": "bar",
                "x": (left + width / 2).tolist(),
                "y": counts.tolist(),
                "width": 0.92 * width,
                "customdata": [[a, a + width] for a in left.tolist()],
                "marker": {"color": ["--loss" if a < 0 else "--win" for a in left.tolist()]},
                "hovertemplate": "%{customdata[0]:$,.0f} to %{customdata[1]:$,.0f}: "
                "%{y} trades<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"tickformat": "$,.3~s", "nticks": 7, "showgrid": False},
            "yaxis": {"nticks": 5, "rangemode": "tozero"},
            "bargap": 0,
        },
    }


def _round_up(width: float) -> float:
    """Round a bin's width up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width)


def _price_arrays(bars: pl.DataFrame, trades: pl.DataFrame, limit: int) -> Chart:
    thin, trades = thin_bars(bars, limit), trades.sort("exit_time")  # the page searches them
    minutes = _minutes(thin["end"])
    width = float(np.median(minutes - _minutes(thin["start"])))
    reason = {name: i for i, name in enumerate(EXIT_REASONS)}
    return {
        "merged": math.ceil(bars.height / limit),
        "width": width,
        "time": _packed(minutes, "i4"),
        **{name: _packed(thin[name], "f4") for name in ("open", "high", "low", "close")},
        "entry_time": _packed(_minutes(trades["entry_time"]), "i4"),
        "entry_price": _packed(trades["entry_price"], "f4"),
        "exit_time": _packed(_minutes(trades["exit_time"]), "i4"),
        "exit_price": _packed(trades["exit_price"], "f4"),
        "net": _packed(trades["net_usd"], "f4"),
        "held": _packed(trades["bars_held"], "i4"),
        "reason": _packed([reason.get(name, -1) for name in trades["exit_reason"]], "i4"),
    }


def _minutes(times: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    return times.dt.epoch("s").to_numpy() // 60


def _packed(values: ArrayLike, dtype: str) -> Chart:
    """Write an array as Plotly's own base64 form: a third of the size of decimals."""
    data = np.ascontiguousarray(np.asarray(values), dtype=f"<{dtype}")
    return {"dtype": dtype, "bdata": base64.b64encode(data.tobytes()).decode("ascii")}
