"""Every statistic by name: label, unit, a one-sentence definition with its source, and how it is printed."""

# ruff: noqa: RUF001 -- minus, times and dashes are printed as typographers do

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "BY_KEY",
    "GROUPS",
    "METRICS",
    "SOURCES",
    "Metric",
    "Statistic",
    "format_value",
    "statistics_of",
]

Unit = Literal["usd", "percent", "ratio", "number", "count", "days", "hours", "ticks"]
GROUPS: Final = {
    "return": "Return",
    "risk": "Risk",
    "trade": "Trades",
    "cost": "Costs",
    "veto": "Veto",
}
SOURCES: Final = {
    "Bailey 2012": "D. Bailey and M. López de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2), 2012.",
    "Bailey 2014": "D. Bailey and M. López de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5), 2014.",
    "Martin 1989": "P. Martin and B. McCann, The Investor's Guide to Fidelity Funds, Wiley, 1989.",
    "Sharpe 1994": "W. Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21(1), 1994.",
    "Sortino 1994": "F. Sortino and L. Price, Performance Measurement in a Downside Risk Framework, Journal of Investing 3(3), 1994.",
    "Sweeney 1997": "J. Sweeney, Maximum Adverse Excursion, Wiley, 1997.",
    "Young 1991": "T. Young, Calmar Ratio: A Smoother Tool, Futures, October 1991.",
}
"""Where formulas are from; the others are plain arithmetic that the definition says whole."""


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
    source : str
        A key of `SOURCES`, or nothing.
    """

    key: str
    group: str
    label: str
    unit: Unit
    definition: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Statistic:
    """Hold one statistic as it is shown.

    Parameters
    ----------
    metric : Metric
        What it is.
    value : float or None
        None where it is undefined.
    note : str
        Why it is undefined; empty where it has a value.
    """

    metric: Metric
    value: float | None
    note: str

    @property
    def text(self) -> str:
        """The value as it is printed."""
        return format_value(self.value, self.metric.unit)


# One line a statistic, so that the table reads as one.
# fmt: off
METRICS: Final = (
    Metric("net_usd", "return", "Net profit", "usd", "Sum of the net P&L of all closed trades: gross − commission − slippage."),
    Metric("open_usd", "return", "Open P&L", "usd", "P&L of positions still open at the last session close, net of all costs, those of the exit included."),
    Metric("final_equity_usd", "return", "Final equity", "usd", "Stated capital + net profit + open P&L at the last session close."),
    Metric("return_on_capital", "return", "Return on capital", "percent", "(final equity − capital) ÷ capital; the stated capital never changes and profits are not reinvested."),
    Metric("cagr", "return", "CAGR", "percent", "(final equity ÷ capital)^(1 ÷ years) − 1, a year being 365.25 days from the first to the last session, both included; none below 20 sessions."),
    Metric("sharpe", "return", "Sharpe ratio", "ratio", "Mean ÷ sample standard deviation of the change in equity per session, × √252, no risk-free rate; none below 20 sessions or without variation.", "Sharpe 1994"),
    Metric("sortino", "return", "Sortino ratio", "ratio", "Mean change in equity per session ÷ root mean square of the falls (rises count as 0), × √252; none below 20 sessions or without a fall.", "Sortino 1994"),
    Metric("calmar", "return", "Calmar ratio", "ratio", "CAGR ÷ maximum drawdown of peak, both over the whole period where Young takes 36 months; none without a CAGR or a drawdown.", "Young 1991"),
    Metric("psr", "return", "Probabilistic Sharpe ratio", "percent", "How sure it is that the true Sharpe ratio is above 0: Φ(S × √(n − 1) ÷ √(1 − skewness × S + (kurtosis − 1) ÷ 4 × S²)) of the n changes in equity per session, S their mean ÷ sample standard deviation; none where the Sharpe ratio is none.", "Bailey 2012"),
    Metric("dsr", "return", "Deflated Sharpe ratio", "percent", "The same with S less √V × ((1 − γ) × Φ⁻¹(1 − 1 ÷ N) + γ × Φ⁻¹(1 − 1 ÷ (N × e))) before the root of n − 1, what the best of N trials without skill would show whose S vary by V, γ = 0.5772…: how sure it is that the choice has skill; of the portfolio only, and only where the trials are known.", "Bailey 2014"),
    Metric("return_over_drawdown", "return", "Return ÷ drawdown", "ratio", "Recovery factor: (final equity − capital) ÷ maximum drawdown in USD; none without a drawdown."),
    Metric("best_session_usd", "return", "Best session", "usd", "Largest change in equity from one session close to the next, the stated capital standing before the first."),
    Metric("worst_session_usd", "risk", "Worst session", "usd", "Lowest change in equity from one session close to the next, the stated capital standing before the first."),
    Metric("session_deviation_usd", "risk", "Deviation of sessions", "usd", "Sample standard deviation of the change in equity per session; none below 20 sessions."),
    Metric("max_drawdown_usd", "risk", "Max drawdown", "usd", "Largest fall of equity at session closes below its highest earlier value, the stated capital included."),
    Metric("max_drawdown_of_capital", "risk", "Max drawdown, of capital", "percent", "Maximum drawdown in USD ÷ stated capital."),
    Metric("max_drawdown_of_peak", "risk", "Max drawdown, of peak", "percent", "Largest fall of equity as a share of its highest earlier value."),
    Metric("max_drawdown_intrabar_usd", "risk", "Max drawdown, intrabar", "usd", "Largest fall below the highest session close before, the stated capital included, were every open position at its worst price for as long as it is held (net P&L of closed trades + MAE − costs of open ones): a bound, which no minute exceeds; a position still open at the end counts as at session closes."),
    Metric("max_drawdown_intrabar_of_capital", "risk", "Intrabar, of capital", "percent", "Maximum intrabar drawdown in USD ÷ stated capital."),
    Metric("max_drawdown_intrabar_of_peak", "risk", "Intrabar, of peak", "percent", "Largest such fall as a share of the highest session close before."),
    Metric("max_drawdown_days", "risk", "Longest drawdown", "days", "Most calendar days from a peak of equity to the session that regains it, or to the last session."),
    Metric("recovery_days", "risk", "Recovery", "days", "Calendar days from the session of the maximum drawdown in USD, of equals the first, to the first session that closes at its peak or above; none where none does."),
    Metric("ulcer", "risk", "Ulcer index", "percent", "Root mean square over sessions of the fall of equity as a share of its highest earlier value; 0 at a peak.", "Martin 1989"),
    Metric("time_in_market", "risk", "Time in market", "percent", "Clock time during which any closed trade was held ÷ clock time from the first to the last session date, nights and weekends included."),
    Metric("exposure", "risk", "Average exposure", "percent", "Sum over closed trades of entry price × quantity × point value × clock time held ÷ (stated capital × clock time from the first to the last session date)."),
    Metric("longest_losing_run", "risk", "Longest losing run", "count", "Most losing trades in a row, in order of exit."),
    Metric("worst_usd", "risk", "Worst trade", "usd", "Lowest net P&L of a trade."),
    Metric("average_mae_usd", "risk", "Average MAE", "usd", "Mean of the largest gross open loss within a trade, on minute lows and highs; ≤ 0.", "Sweeney 1997"),
    Metric("worst_mae_usd", "risk", "Worst MAE", "usd", "Largest gross open loss within any trade, on minute lows; ≤ 0.", "Sweeney 1997"),
    Metric("average_mfe_usd", "risk", "Average MFE", "usd", "Mean of the largest gross open profit within a trade, on minute lows and highs; ≥ 0.", "Sweeney 1997"),
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
    Metric("average_hours_held", "trade", "Average hours held", "hours", "Mean clock time from entry to exit, nights and weekends included."),
    Metric("median_hours_held", "trade", "Median hours held", "hours", "Median clock time from entry to exit, the mean of the two in the middle of an even number."),
    Metric("longest_winning_run", "trade", "Longest winning run", "count", "Most winning trades in a row, in order of exit."),
    Metric("turnover", "trade", "Turnover a year", "ratio", "Sum of entry price × quantity × point value ÷ stated capital ÷ years (bought once, sold once: only what was bought counts); none below 20 sessions."),
    Metric("sessions", "trade", "Sessions", "count", "Session closes in the equity table."),
    Metric("gross_usd", "cost", "Gross profit", "usd", "Sum of (exit − entry) × quantity × point value."),
    Metric("commission_usd", "cost", "Commission", "usd", "Sum of 2 × quantity × commission per side."),
    Metric("slippage_usd", "cost", "Slippage", "usd", "Sum of 2 × quantity × slippage per fill."),
    Metric("cost_share", "cost", "Cost share", "percent", "(commission + slippage) ÷ gross profit; none when gross profit is not above 0."),
    Metric("break_even_ticks", "cost", "Break-even slippage", "ticks", "Slippage per fill at which net profit is 0: (gross − commission) ÷ sum of 2 × quantity × tick value."),
    Metric("vetoed", "veto", "Vetoed", "count", "Candidates of which the model had learnt nothing and which it scored below its threshold, each followed alone to an exit within the data; in shadow too, where they are traded all the same."),
    Metric("vetoed_net_usd", "veto", "Net P&L of vetoed", "usd", "Sum of the net P&L of the vetoed, each followed alone: below 0 the veto saved it; `ibs model veto-value` trades both ways, which also counts what took their place."),
)
# fmt: on
"""Every statistic, in the order in which it is printed."""

BY_KEY: Final = {metric.key: metric for metric in METRICS}


def statistics_of(block: Mapping[str, Any]) -> Iterator[Statistic]:
    """Read the statistics of the portfolio, or of a symbol, out of ``stats.json``.

    Parameters
    ----------
    block : mapping
        ``stats["total"]``, one of ``stats["by_symbol"]``, or one of those ``inside_training``.

    Yields
    ------
    Statistic
        In the order of `METRICS`.
    """
    notes = block["undefined"] or {}
    for metric in METRICS:
        yield Statistic(metric, block[metric.key], notes.get(metric.key, ""))


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
    "hours": "{:,.1f} h",
    "ticks": "{:,.2f} ticks",
}


def _usd(number: float) -> str:
    digits = 2 if 0 < abs(number) < 100 else 0
    return f"-${-number:,.{digits}f}" if number < 0 else f"${number:,.{digits}f}"
