"""The data of a page's charts as plain Plotly JSON; colours are names of CSS variables, filled in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ibs_core.report.cost_steps import cost_steps
from ibs_core.report.curve_charts import equity_chart, rolling_sharpe_chart
from ibs_core.report.prices import POINTS_A_SYMBOL, price_arrays
from ibs_core.report.run import EXIT_REASONS
from ibs_core.report.trade_charts import (
    costs_chart,
    distribution_chart,
    excursion_chart,
    forward_charts,
    group_chart,
    margin_chart,
)
from ibs_core.report.training_window import inside, windows_of
from ibs_core.report.veto_panel import scored

if TYPE_CHECKING:
    from ibs_core.report.run import Run

__all__ = ["chart_payload", "counted_trades", "sparkline"]


def chart_payload(run: Run) -> dict[str, Any]:
    """Collect what the page's script draws.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    dict
        ``charts``, by the id of their place: Plotly ``data`` and ``layout``; charts with nothing to draw are
        left out. ``variants``: charts of which one is shown, by place and name. ``prices``, for each
        symbol the arrays of bars and trades; ``reasons``.
    """
    stats, trades = run.stats, counted_trades(run)
    capital, windows = stats["capital_usd"], windows_of(stats).values()
    charts = {
        "equity": equity_chart(run.equity, run.lows, capital=capital, windows=windows),
        "rolling": rolling_sharpe_chart(run.equity, capital=capital, windows=windows),
        "distribution": distribution_chart(trades),
        "mae": excursion_chart(trades, "mae_usd"),
        "mfe": excursion_chart(trades, "mfe_usd"),
        "hours": group_chart(stats.get("by_hour") or [], "hour"),
        "weekdays": group_chart(stats.get("by_weekday") or [], "weekday"),
        "costs": costs_chart(cost_steps(trades)),
        "margins": margin_chart(scored(run.decisions)),
    }
    forward = forward_charts(stats.get("forward_returns") or {})
    return {
        "charts": {name: chart for name, chart in charts.items() if chart},
        "variants": {"forward": forward} if forward else {},
        "reasons": EXIT_REASONS,
        "prices": {
            symbol: price_arrays(
                bars, run.trades.filter(pl.col("symbol") == symbol), POINTS_A_SYMBOL
            )
            for symbol, bars in run.bars.items()
            if bars.height
        },
    }


def counted_trades(run: Run) -> pl.DataFrame:
    """Take the trades that the statistics of the portfolio are of.

    Parameters
    ----------
    run : Run

    Returns
    -------
    polars.DataFrame
        Schema `TRADES`; those inside training windows are left out where the statistics leave them out.
    """
    windows = windows_of(run.stats)
    return run.trades.filter(~inside(run.trades, windows)) if windows else run.trades


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
