"""Every statistic by name: label, unit and a one-sentence definition, and how it is printed."""

# ruff: noqa: RUF001 -- minus, times and dashes are printed as typographers do

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["GROUPS", "METRICS", "Metric", "format_value"]

Unit = Literal["usd", "percent", "ratio", "number", "count", "days", "ticks", "date"]
GROUPS: Final = {"return": "Return", "risk": "Risk", "trade": "Trades", "cost": "Costs"}


@dataclass(frozen=True)
class Metric:
    """Describe one statistic of `ibs_core.report.metrics.compute`.

    Parameters
    ----------
    key : str
        Its name in ``stats.json``.
    group : str
        A key of `GROUPS`.
    label : str
        Its name on paper.
    unit : str
        ``percent`` is stored as a fraction: 0.25 prints as 25.0 %.
    definition : str
        One sentence, with the formula.
    """

    key: str
    group: str
    label: str
    unit: Unit
    definition: str


# One line a statistic, so that the table reads as one.
# fmt: off
METRICS: Final = (
    Metric("net_usd", "return", "Net profit", "usd", "Sum of the net P&L of all closed trades: gross − commission − slippage."),
    Metric("open_usd", "return", "Open P&L", "usd", "P&L of positions still open at the last session close, net of all costs, those of the exit included."),
    Metric("final_equity_usd", "return", "Final equity", "usd", "Stated capital + net profit + open P&L at the last session close."),
    Metric("return_on_capital", "return", "Return on capital", "percent", "(final equity − capital) ÷ capital; the stated capital never changes and profits are not reinvested."),
    Metric("cagr", "return", "CAGR", "percent", "(final equity ÷ capital)^(1 ÷ years) − 1, a year being 365.25 days from the first to the last session, both included; none below 20 sessions."),
    Metric("sharpe", "return", "Sharpe ratio", "ratio", "Mean ÷ sample standard deviation of the change in equity per session, × √252, no risk-free rate; none below 20 sessions or without variation."),
    Metric("sortino", "return", "Sortino ratio", "ratio", "Mean change in equity per session ÷ root mean square of the falls (rises count as 0), × √252; none below 20 sessions or without a fall."),
    Metric("return_over_drawdown", "return", "Return ÷ drawdown", "ratio", "(final equity − capital) ÷ maximum drawdown in USD."),
    Metric("max_drawdown_usd", "risk", "Max drawdown", "usd", "Largest fall of equity at session closes below its highest earlier value, the stated capital included."),
    Metric("max_drawdown_of_capital", "risk", "Max drawdown, of capital", "percent", "Maximum drawdown in USD ÷ stated capital."),
    Metric("max_drawdown_of_peak", "risk", "Max drawdown, of peak", "percent", "Largest fall of equity as a share of its highest earlier value."),
    Metric("max_drawdown_days", "risk", "Longest drawdown", "days", "Most calendar days from a peak of equity to the session that regains it, or to the last session."),
    Metric("time_in_market", "risk", "Time in market", "percent", "Clock time during which any closed trade was held ÷ clock time from the first to the last session date, nights and weekends included."),
    Metric("longest_losing_run", "risk", "Longest losing run", "count", "Most losing trades in a row, in order of exit."),
    Metric("worst_usd", "risk", "Worst trade", "usd", "Lowest net P&L of a trade."),
    Metric("average_mae_usd", "risk", "Average MAE", "usd", "Mean of the largest gross open loss within a trade, on minute lows and highs; ≤ 0."),
    Metric("average_mfe_usd", "risk", "Average MFE", "usd", "Mean of the largest gross open profit within a trade, on minute lows and highs; ≥ 0."),
    Metric("trades", "trade", "Trades", "count", "Closed trades; a position still open at the end is not one."),
    Metric("wins", "trade", "Winning trades", "count", "Trades with a net P&L above 0."),
    Metric("losses", "trade", "Losing trades", "count", "Trades with a net P&L below 0."),
    Metric("win_rate", "trade", "Win rate", "percent", "Winning trades ÷ trades."),
    Metric("profit_factor", "trade", "Profit factor", "ratio", "Sum of the net P&L of winning trades ÷ that of losing trades, sign dropped; none without a loss."),
    Metric("expectancy_usd", "trade", "Expectancy", "usd", "Net profit ÷ trades."),
    Metric("average_win_usd", "trade", "Average win", "usd", "Mean net P&L of winning trades."),
    Metric("average_loss_usd", "trade", "Average loss", "usd", "Mean net P&L of losing trades; ≤ 0."),
    Metric("payoff", "trade", "Payoff ratio", "ratio", "Average win ÷ average loss, sign dropped; none without both."),
    Metric("best_usd", "trade", "Best trade", "usd", "Highest net P&L of a trade."),
    Metric("average_bars_held", "trade", "Average bars held", "number", "Mean number of signal bars from the bar that holds the fill, counted as the first, to the bar of the exit."),
    Metric("sessions", "trade", "Sessions", "count", "Session closes in the equity table."),
    Metric("gross_usd", "cost", "Gross profit", "usd", "Sum of (exit − entry) × quantity × point value."),
    Metric("commission_usd", "cost", "Commission", "usd", "Sum of 2 × quantity × commission per side."),
    Metric("slippage_usd", "cost", "Slippage", "usd", "Sum of 2 × quantity × slippage per fill."),
    Metric("cost_share", "cost", "Cost share", "percent", "(commission + slippage) ÷ gross profit; none when gross profit is not above 0."),
    Metric("break_even_ticks", "cost", "Break-even slippage", "ticks", "Slippage per fill at which net profit is 0: (gross − commission) ÷ sum of 2 × quantity × tick value."),
)
# fmt: on
"""Every statistic, in the order in which it is printed."""


def format_value(value: float | str | None, unit: Unit) -> str:
    """Print one statistic; every place that shows a number uses this.

    Parameters
    ----------
    value : float or str or None
        From ``stats.json``; None prints as a dash.
    unit : str
        As `Metric.unit`.

    Returns
    -------
    str
        With a real minus sign and thousands separated.
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    text = _usd(value) if unit == "usd" else _PATTERNS[unit].format(value)
    is_zero = not any(digit in text for digit in "123456789")
    return text.replace("-", "" if is_zero else "−")


_PATTERNS: Final = {
    "percent": "{:,.1%}",
    "ratio": "{:,.2f}",
    "number": "{:,.1f}",
    "count": "{:,.0f}",
    "days": "{:,.0f} d",
    "ticks": "{:,.2f} ticks",
}


def _usd(number: float) -> str:
    digits = 2 if 0 < abs(number) < 100 else 0
    return f"-${-number:,.{digits}f}" if number < 0 else f"${number:,.{digits}f}"
