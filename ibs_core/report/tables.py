"""The tables of the tear sheet as HTML; every text from outside goes through `escape`."""

from __future__ import annotations

import calendar
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ibs_core.report.charts import sparkline
from ibs_core.report.definitions import BY_KEY, GROUPS, format_value, statistics_of
from ibs_core.report.run import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ibs_core.report.definitions import Metric, Statistic

__all__ = [
    "blocked_table",
    "definitions_table",
    "exit_table",
    "headline",
    "month_table",
    "open_table",
    "symbol_table",
    "window_table",
]

HEADLINE: Final = (
    "net_usd",
    "return_on_capital",
    "sharpe",
    "max_drawdown_usd",
    "profit_factor",
    "trades",
    "win_rate",
    "expectancy_usd",
    "payoff",
    "return_over_drawdown",
    "cost_share",
    "time_in_market",
)
SYMBOL_COLUMNS: Final = (
    "trades",
    "win_rate",
    "net_usd",
    "profit_factor",
    "expectancy_usd",
    "sharpe",
    "max_drawdown_usd",
    "cost_share",
)
WINDOW_COLUMNS: Final = SYMBOL_COLUMNS[:-1]
_SIGNED: Final = frozenset({"net_usd", "return_on_capital", "cagr", "expectancy_usd", "open_usd"})
Row = dict[str, Any]


def headline(total: Mapping[str, Any]) -> str:
    """Show the statistics that are read first, each with its definition on hover or focus."""
    stats = (
        f"<div class='stat'><dt>{_term(BY_KEY[key])}</dt>"
        f"<dd{_sign(total[key]) if key in _SIGNED else ''}>{_shown(total, key)}</dd></div>"
        for key in HEADLINE
    )
    return f"<dl class='headline'>{''.join(stats)}</dl>"


def definitions_table(total: Mapping[str, Any]) -> str:
    """List every statistic with its value and its definition, by group."""
    rows = []
    for group, title in GROUPS.items():
        rows.append(f"<tr class='group'><th colspan='3'>{title}</th></tr>")
        rows.extend(
            f"<tr><th scope='row'>{escape(each.metric.label)}</th><td>{escape(each.text)}</td>"
            f"<td class='text'>{escape(each.metric.definition)}<small>{_note(each)}</small></td></tr>"
            for each in statistics_of(total)
            if each.metric.group == group
        )
    head = "<th>Statistic</th><th>Portfolio</th><th class='text'>Definition</th>"
    return f"<table class='definitions'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def symbol_table(stats: Mapping[str, Any], curves: Mapping[str, list[float]]) -> str:
    """Compare the symbols, each with the line of its equity; the portfolio is the last row."""
    blocks = {**stats["by_symbol"], TOTAL: stats["total"]}
    rows = [
        [
            escape("Portfolio" if symbol == TOTAL else symbol),
            sparkline(curves.get(symbol, [])),
            *(_cell(block, key) for key in SYMBOL_COLUMNS),
        ]
        for symbol, block in blocks.items()
    ]
    head = ["Symbol", "<span class='spark-title'>Equity</span>", *_titles(SYMBOL_COLUMNS)]
    return _table(head, rows, last="total")


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
            f"<tr><th scope='row'>{year}</th>{tds}<td{_sign(total)}>{_usd(total).replace('$', '')}</td></tr>"
        )
    head = "".join(f"<th>{calendar.month_abbr[month]}</th>" for month in range(1, 13))
    return (
        f"<table class='months'><thead><tr><th></th>{head}<th>Year</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def exit_table(reasons: Sequence[Row]) -> str:
    """Show for each exit reason how often it happened and what it earned."""
    most = max((row["trades"] for row in reasons), default=1)
    rows = [
        [
            _words(row["reason"]),
            f"<span class='bar'><i style='width:{100 * row['trades'] / most:.0f}%'></i></span>",
            f"{row['trades']:,}",
            format_value(row["win_rate"], "percent"),
            f"<span{_sign(row['net_usd'])}>{_usd(row['net_usd'])}</span>",
            _usd(row["average_usd"]),
        ]
        for row in reasons
    ]
    return _table(["Exit", "", "Trades", "Win rate", "Net", "Average"], rows)


def blocked_table(blocked: Mapping[str, Mapping[str, int]]) -> str:
    """Count the signal bars without an entry, by the first gate that failed."""
    gates = list(dict.fromkeys(gate for counts in blocked.values() for gate in counts))
    rows = [
        [_words(gate), *(f"{counts.get(gate, 0):,}" for counts in blocked.values())]
        for gate in gates
    ]
    return _table(["Gate", *(escape(symbol) for symbol in blocked)], rows)


def open_table(positions: Sequence[Row]) -> str:
    """List the positions that the end of the data left open."""
    rows = [
        [
            escape(str(row["instrument"])),
            f"{row['quantity']:,}",
            escape(str(row["entry_time"])[:16].replace("T", " ")),
            f"{row['entry_price']:,}",
            f"{row['mark']:,}",
            f"<span{_sign(row['open_usd'])}>{_usd(row['open_usd'])}</span>",
        ]
        for row in positions
    ]
    return _table(
        ["Instrument", "Quantity", "Entry, UTC", "Entry price", "Last", "Open P&amp;L"], rows
    )


def window_table(windows: Mapping[str, Row], apart: Mapping[str, Any]) -> str:
    """Tell for each symbol what lies in the training window of its model."""
    rows = [
        [
            escape(f"{symbol} {windows[symbol]['version']}"),
            f"{windows[symbol]['first_decision'][:10]} to {windows[symbol]['last_label_end'][:10]}",
            f"{windows[symbol]['of']:,}",
            *(_cell(block, key) for key in WINDOW_COLUMNS),
        ]
        for symbol, block in apart["by_symbol"].items()
    ]
    of = sum(each["of"] for each in windows.values())
    rows.append(["All", "", f"{of:,}", *(_cell(apart["total"], key) for key in WINDOW_COLUMNS)])
    head = ["Model", "Training window, UTC", "Of trades", *_titles(WINDOW_COLUMNS)]
    return _table(head, rows, last="total")


def _table(head: Iterable[str], rows: Sequence[Sequence[str]], last: str = "") -> str:
    body = "".join(
        f"<tr{f' class={last!r}' if last and i == len(rows) - 1 else ''}>"
        + "".join(f"<td>{cell}</td>" for cell in row)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    titles = "".join(f"<th>{title}</th>" for title in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _titles(keys: Iterable[str]) -> list[str]:
    # A box of our own would be cut off by the table's scrolling frame.
    return [
        f"<span class='term' title='{escape(BY_KEY[key].definition)}'>{BY_KEY[key].label}</span>"
        for key in keys
    ]


def _term(metric: Metric) -> str:
    return (
        f"<span class='term' tabindex='0'>{escape(metric.label)}"
        f"<span class='tip' role='tooltip'>{escape(metric.definition)}</span></span>"
    )


def _note(of: Statistic) -> str:
    parts = [of.metric.source, f"Undefined here: {of.note}" if of.note else ""]
    return escape("".join(f" {part}." for part in parts if part))


def _shown(block: Mapping[str, Any], key: str) -> str:
    return escape(format_value(block[key], BY_KEY[key].unit))


def _cell(block: Mapping[str, Any], key: str) -> str:
    text = _shown(block, key)
    return f"<span{_sign(block[key])}>{text}</span>" if key in _SIGNED else text


def _sign(value: float | None) -> str:
    return "" if not value else " class='win'" if value > 0 else " class='loss'"


def _month(value: float | None, largest: float) -> str:
    if value is None:
        return "<td></td>"
    kind = "up" if value > 0 else "down" if value < 0 else ""
    shade = f"{0.08 + 0.47 * abs(value) / largest:.2f}"
    return f"<td class='{kind}' style='--a:{shade}'>{_usd(value).replace('$', '')}</td>"


def _usd(value: float) -> str:
    return format_value(round(value) if abs(value) >= 1 else value, "usd").replace(".00", "")


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return escape(words.upper() if words in {"ibs", "atr"} else words[:1].upper() + words[1:])
