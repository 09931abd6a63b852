"""The tables of the tear sheet as HTML; every text from outside goes through `escape`."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from ibs_core.report.charts import sparkline
from ibs_core.report.definitions import BY_KEY, GROUPS, format_value, statistics_of
from ibs_core.report.markup import sign, table, usd, words
from ibs_core.report.run import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ibs_core.report.definitions import Metric, Statistic

__all__ = [
    "blocked_table",
    "definitions_table",
    "exit_table",
    "headline",
    "open_table",
    "symbol_table",
    "veto_table",
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
        f"<dd{sign(total[key]) if key in _SIGNED else ''}>{_shown(total, key)}</dd></div>"
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
    return table(head, rows, last="total")


def exit_table(reasons: Sequence[Row]) -> str:
    """Show for each exit reason how often it happened and what it earned."""
    most = max((row["trades"] for row in reasons), default=1)
    rows = [
        [
            words(row["reason"]),
            f"<span class='bar'><i style='width:{100 * row['trades'] / most:.0f}%'></i></span>",
            f"{row['trades']:,}",
            format_value(row["win_rate"], "percent"),
            f"<span{sign(row['net_usd'])}>{usd(row['net_usd'])}</span>",
            usd(row["average_usd"]),
        ]
        for row in reasons
    ]
    return table(["Exit", "", "Trades", "Win rate", "Net", "Average"], rows)


def blocked_table(blocked: Mapping[str, Mapping[str, int]]) -> str:
    """Count the signal bars without an entry, by the first gate that failed."""
    sums: dict[str, int] = {}
    for counts in blocked.values():
        for gate, count in counts.items():
            sums[gate] = sums.get(gate, 0) + count
    gates = sorted(sums, key=lambda gate: (-sums[gate], gate))
    rows = [
        [words(gate), *(f"{counts.get(gate, 0):,}" for counts in blocked.values())]
        for gate in gates
    ]
    return table(["Gate", *(escape(symbol) for symbol in blocked)], rows)


def open_table(positions: Sequence[Row]) -> str:
    """List the positions that the end of the data left open."""
    rows = [
        [
            escape(str(row["instrument"])),
            f"{row['quantity']:,}",
            escape(str(row["entry_time"])[:16].replace("T", " ")),
            f"{row['entry_price']:,}",
            f"{row['mark']:,}",
            f"<span{sign(row['open_usd'])}>{usd(row['open_usd'])}</span>",
        ]
        for row in positions
    ]
    return table(
        ["Instrument", "Quantity", "Entry, UTC", "Entry price", "Last", "Open P&amp;L"], rows
    )


def veto_table(rows: Sequence[Row]) -> str:
    """Tell for each symbol what its model did with the candidates."""
    lines = [
        [
            escape(f"{row['symbol']} {row['version']}"),
            format_value(row["threshold"], "ratio"),
            *(f"{row[key]:,}" for key in ("scored", "below", "vetoed", "missing")),
            f"<span{sign(row['vetoed_net_usd'])}>{usd(row['vetoed_net_usd'])}</span>",
        ]
        for row in rows
    ]
    head = ["Model", "Threshold", "Scored", "Below", "Vetoed", "Feature missing"]
    title = escape(BY_KEY["vetoed_net_usd"].definition)
    return table([*head, f"<span class='term' title='{title}'>Net of vetoed</span>"], lines)


def window_table(windows: Mapping[str, Row], apart: Mapping[str, Any]) -> str:
    """Tell for each symbol what lies in the training window of its model."""
    spans = {
        symbol: f"<small>{each['first_decision'][:10]} to {each['last_label_end'][:10]}</small>"
        for symbol, each in windows.items()
    }
    rows = [
        [
            escape(f"{symbol} {windows[symbol]['version']}") + spans[symbol],
            f"{windows[symbol]['of']:,}",
            *(_cell(block, key) for key in WINDOW_COLUMNS),
        ]
        for symbol, block in apart["by_symbol"].items()
    ]
    of = sum(each["of"] for each in windows.values())
    rows.append(["All", f"{of:,}", *(_cell(apart["total"], key) for key in WINDOW_COLUMNS)])
    head = ["Model and its window, UTC", "Of trades", *_titles(WINDOW_COLUMNS)]
    return table(head, rows, last="total")


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
    return f"<span{sign(block[key])}>{text}</span>" if key in _SIGNED else text
