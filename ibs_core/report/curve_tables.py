"""Tables of equity over time, and of costs, as HTML."""

from __future__ import annotations

import calendar
from typing import TYPE_CHECKING, Any

from ibs_core.report.definitions import format_value
from ibs_core.report.markup import sign, table, usd
from ibs_core.report.page import spelt_day

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["cost_table", "drawdown_table", "month_table", "year_table"]

Row = dict[str, Any]


def month_table(months: Sequence[Row]) -> str:
    """Lay out the change of equity by year and month, shaded by size."""
    cells = {(row["month"][:4], int(row["month"][5:])): row["net_usd"] for row in months}
    years = sorted({year for year, _ in cells})
    largest = max((abs(value) for value in cells.values()), default=0.0) or 1.0
    lines = []
    for year in years:
        own = {month: cells[year, month] for month in range(1, 13) if (year, month) in cells}
        tds = "".join(_month(own.get(month), largest) for month in range(1, 13))
        total = sum(own.values())
        lines.append(
            f"<tr><th scope='row'>{year}</th>{tds}<td{sign(total)}>{usd(total).replace('$', '')}</td></tr>"
        )
    head = "".join(f"<th>{calendar.month_abbr[month]}</th>" for month in range(1, 13))
    return (
        f"<table class='months'><thead><tr><th></th>{head}<th>Year</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def year_table(months: Sequence[Row], years: Sequence[Row], *, capital: float) -> str:
    """Set the change of equity of each year beside the trades entered in it."""
    by_year: dict[str, list[float]] = {}
    for row in months:
        by_year.setdefault(row["month"][:4], []).append(row["net_usd"])
    entered = {str(row["year"]): row for row in years}
    rows = []
    for year in sorted(by_year.keys() | entered.keys()):
        changes, own = by_year.get(year, []), entered.get(year)
        total = sum(changes)
        rows.append(
            [
                year,
                f"<span{sign(total)}>{usd(total)}</span>",
                format_value(total / capital, "percent"),
                usd(max(changes, default=None)),
                usd(min(changes, default=None)),
                format_value(own["trades"] if own else 0, "count"),
                format_value(own["win_rate"] if own else None, "percent"),
                usd(own["average_usd"] if own else None),
            ]
        )
    head = ["Year", "Net", "Of capital", "Best month", "Worst month"]
    return table([*head, "Trades", "Win rate", "Average"], rows)


def drawdown_table(rows: Sequence[Row]) -> str:
    """List drawdowns, the deepest first; those that lie in a training window, even in part, are marked."""
    marked = any(row["in_training"] for row in rows)
    lines = [
        [
            f"<span class='loss'>{usd(-row['usd'])}</span>",
            format_value(row["of_peak"], "percent"),
            "the start" if row["peak"] is None else spelt_day(row["peak"]),
            spelt_day(row["bottom"]),
            "not yet" if row["recovered"] is None else spelt_day(row["recovered"]),
            format_value(row["days"], "days"),
            *(["in training" if row["in_training"] else ""] if marked else []),
        ]
        for row in rows
    ]
    head = ["Depth", "Of peak", "Peak", "Bottom", "Recovered", "Length"]
    return table([*head, ""] if marked else head, lines)


def cost_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Show what is left of the same trades at multiples of their costs."""
    lines = [
        [
            f"{row['multiple']:g} \N{MULTIPLICATION SIGN}",
            f"<span{sign(row['net_usd'])}>{usd(row['net_usd'])}</span>",
            format_value(row["average_usd"], "usd"),
            format_value(row["win_rate"], "percent"),
            format_value(row["profit_factor"], "ratio"),
        ]
        for row in rows
    ]
    return table(["Costs", "Net", "Expectancy", "Win rate", "Profit factor"], lines)


def _month(value: float | None, largest: float) -> str:
    if value is None:
        return "<td></td>"
    kind = "up" if value > 0 else "down" if value < 0 else ""
    shade = f"{0.08 + 0.47 * abs(value) / largest:.2f}"
    return f"<td class='{kind}' style='--a:{shade}'>{usd(value).replace('$', '')}</td>"
