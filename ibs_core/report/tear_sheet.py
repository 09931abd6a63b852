"""The tear sheet: one HTML file that needs no network, light and dark, on a laptop and a phone."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from ibs_core.report import tables
from ibs_core.report.charts import chart_payload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.report.run import Run

__all__ = ["SHORT_SAMPLE", "render"]

SHORT_SAMPLE: Final = 100
"""Below this many trades the report says that the sample is short."""

# Whatever a text smuggles in, the page can load nothing.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_SPANS: Final = {"30": "1 month", "91": "3 months", "365": "1 year", "all": "All"}


def render(run: Run) -> str:
    """Render a run as one self-contained HTML page.

    Parameters
    ----------
    run : Run
        The run; an empty ``bars`` leaves the price chart out.

    Returns
    -------
    str
        The page. The same run gives the same text.
    """
    payload = chart_payload(run)
    sections = [
        _header(run),
        _notes(run),
        _headline(run),
        _equity(run),
        _months(run),
        f"<div class='pair'>{_exits(run)}{_distribution(run)}</div>",
        _price(payload["prices"]),
        _symbols(run),
        _apart(run),
        _blocked(run),
        _definitions(run),
        _provenance(run),
    ]
    return _page("".join(sections), payload, title=f"IBS back-test: {', '.join(_symbol_list(run))}")


def _page(body: str, payload: dict[str, Any], *, title: str) -> str:
    # In a script element only "<" can end the data early.
    data = json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>\n{_asset('tear_sheet.css')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n"
        f"<script type='application/json' id='payload'>{data}</script>\n"
        f"<script>{_plotly()}</script>\n<script>\n{_asset('tear_sheet.js')}</script>\n"
        "</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return (files("ibs_core.report") / "assets" / name).read_text("utf-8")


@cache
def _plotly() -> str:
    # Read as a file: importing Plotly costs a second and only the script is needed.
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")


def _section(title: str, content: str, *, hint: str = "") -> str:
    return (
        f"<section><div class='head'><h2>{title}</h2><p class='hint'>{hint}</p></div>"
        f"{content}</section>"
    )


def _wide(table: str) -> str:
    return f"<div class='wide'>{table}</div>"


def _empty(text: str) -> str:
    return f"<p class='empty'>{text}</p>"


def _symbol_list(run: Run) -> list[str]:
    return list(run.stats["by_symbol"]) or list(run.bars) or ["no symbols"]


def _header(run: Run) -> str:
    stats, total = run.stats, run.stats["total"]
    facts = [f"{total['trades']:,} trades", f"capital ${stats['capital_usd']:,.0f}"]
    if stats["first_session"]:
        span = f"{_day(stats['first_session'])} to {_day(stats['last_session'])}"
        facts = [span, f"{total['sessions']:,} sessions", *facts]
    return (
        "<header><p class='eyebrow'>IBS back-test</p>"
        f"<h1>{escape(' · '.join(_symbol_list(run)))}</h1>"
        f"<p class='facts'>{''.join(f'<span>{fact}</span>' for fact in facts)}</p></header>"
    )


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%b %Y}"


def _notes(run: Run) -> str:
    notes, n_trades = [], run.stats["total"]["trades"]
    if run.meta["generated_data"]:
        notes.append(
            "<p><strong>Generated data.</strong> These prices were made by a random generator; "
            "the results say nothing about any market.</p>"
        )
    if n_trades < SHORT_SAMPLE:
        count = "No trades" if not n_trades else f"{n_trades} trade{'s'[: n_trades != 1]}"
        notes.append(
            f"<p><strong>Short sample.</strong> {count}; below {SHORT_SAMPLE} the statistics "
            "are mostly chance.</p>"
        )
    if run.meta["warnings"]:
        items = "".join(f"<li>{escape(str(text))}</li>" for text in run.meta["warnings"])
        notes.append(f"<p><strong>Warnings.</strong></p><ul>{items}</ul>")
    return f"<aside class='note' role='note'>{''.join(notes)}</aside>" if notes else ""


def _headline(run: Run) -> str:
    stats, told = run.stats, ""
    if "inside_training" in stats:
        n_inside, n_trades = stats["inside_training"]["total"]["trades"], run.trades.height
        told = f"{n_inside:,} of {n_trades:,} trades lie in a training window; these numbers leave them out."
        if n_inside and n_inside == n_trades:
            told = "No out-of-sample trade: every trade lies in the training window of its model."
        told = _empty(told)
    return f"<section style='padding:0'>{tables.headline(stats['total'])}</section>{told}"


def _equity(run: Run) -> str:
    if not run.equity.height:
        return _section("Equity and drawdown", _empty("No session closed in this period."))
    hint = "At session closes, net of all costs; the dotted line is the stated capital"
    if "inside_training" in run.stats:
        hint = "Of all trades; shaded where they lie in a training window. " + hint
    return _section(
        "Equity and drawdown", "<div id='equity' class='chart'></div>", hint=hint
    ) + _open_positions(run)


def _open_positions(run: Run) -> str:
    positions = run.stats.get("open_positions")
    if not positions:
        return ""
    hint = "Valued at the last close, net of all costs; not counted as trades"
    return _section("Open at the end", _wide(tables.open_table(positions)), hint=hint)


def _months(run: Run) -> str:
    months = run.stats["monthly"].get("TOTAL")
    if not months:
        return ""
    hint = "Change in equity, net of all costs, USD"
    return _section("Months", _wide(tables.month_table(months)), hint=hint)


def _exits(run: Run) -> str:
    reasons = run.stats["by_exit_reason"]
    content = _wide(tables.exit_table(reasons)) if reasons else _empty("No trades.")
    return _section("Exit reasons", content)


def _distribution(run: Run) -> str:
    content = "<div id='distribution' class='chart'></div>" if run.stats["total"]["trades"] else ""
    return _section(
        "Trade results",
        content or _empty("No trades."),
        hint="Trades by net P&amp;L, USD; outer bars hold the rest",
    )


def _price(prices: Mapping[str, Any]) -> str:
    if not prices:
        return ""
    symbols = _tabs("symbols", {symbol: symbol for symbol in prices}, chosen=next(iter(prices)))
    content = (
        f"<div class='tools'>{symbols}{_tabs('spans', _SPANS, chosen='all')}</div>"
        "<div id='price' class='chart'></div><p class='key'>"
        "<span><i class='win'>▲ ●</i>entry and exit of a win</span>"
        "<span><i class='loss'>▲ ●</i>of a loss</span>"
        "<span class='mouse'>Drag to zoom, double-click to reset</span><span>Times are UTC.</span>"
        "<span id='merged'></span></p>"
    )
    return _section("Trades on price", content, hint="Signal-bar closes; candles when zoomed in")


def _tabs(group: str, labels: Mapping[str, str], *, chosen: str) -> str:
    buttons = "".join(
        f"<button type='button' data-value='{escape(value)}' "
        f"aria-pressed='{'true' if value == chosen else 'false'}'>{escape(label)}</button>"
        for value, label in labels.items()
    )
    return f"<div class='tabs' id='{group}'>{buttons}</div>"


def _symbols(run: Run) -> str:
    curves = {
        str(symbol): curve["equity_usd"].to_list()
        for (symbol,), curve in run.equity.group_by("symbol", maintain_order=True)
    }
    hint = "Lines are of all trades" if "inside_training" in run.stats else ""
    return _section("Symbols", _wide(tables.symbol_table(run.stats, curves)), hint=hint)


def _apart(run: Run) -> str:
    apart = run.stats.get("inside_training")
    if not apart:
        return ""
    content = tables.window_table(run.stats["training_windows"], apart)
    hint = "What models were trained on is no evidence of them; no statistic above counts it"
    return _section("Inside training windows", _wide(content), hint=hint)


def _blocked(run: Run) -> str:
    blocked = run.stats.get("blocked") or {}
    if not any(blocked.values()):
        return ""
    hint = "Signal bars without an entry, by the first gate that failed"
    return _section("Blocked entries", _wide(tables.blocked_table(blocked)), hint=hint)


def _definitions(run: Run) -> str:
    return _section("All statistics", tables.definitions_table(run.stats["total"]))


def _provenance(run: Run) -> str:
    meta = run.meta
    created = datetime.fromisoformat(meta["created_utc"]).astimezone(UTC)
    facts = {
        "Command": str(meta["command"]),
        "Created": f"{created:%Y-%m-%d %H:%M:%S} UTC",
        "Versions": ", ".join(f"{name} {text}" for name, text in meta["versions"].items()),
    }
    digests = {
        "Market data": meta["data_digest"],
        "Contract map": meta["contract_map_digest"],
        "Configuration": meta["config_hash"],
    }
    rows = [f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()]
    rows += [
        f"<dt>{name}</dt><dd class='digest'>{escape(str(text))}</dd>"
        for name, text in digests.items()
    ]
    return (
        "<section><details><summary>Configuration and digests</summary>"
        f"<dl class='meta'>{''.join(rows)}</dl><pre>{escape(run.config_yaml)}</pre>"
        "</details></section>"
    )
