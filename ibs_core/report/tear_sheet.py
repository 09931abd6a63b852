"""The tear sheet of one run: everything a trader decides from, in the order in which it is asked."""

# ruff: noqa: RUF001 -- minus and times are printed as typographers do

from __future__ import annotations

import math
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ibs_core.report import curve_tables, markup, tables
from ibs_core.report.banners import banners
from ibs_core.report.charts import chart_payload, counted_trades
from ibs_core.report.cost_steps import break_even_multiple, cost_steps
from ibs_core.report.curve import SESSIONS_A_YEAR
from ibs_core.report.curve_charts import ROLLING_SESSIONS
from ibs_core.report.definitions import BY_KEY, format_value
from ibs_core.report.drawdowns import worst_drawdowns
from ibs_core.report.markup import chart, empty, section, wide
from ibs_core.report.page import header, page, spelt_day
from ibs_core.report.run import TOTAL
from ibs_core.report.training_window import windows_of
from ibs_core.report.veto_panel import veto_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ibs_core.report.run import Run

__all__ = ["provenance", "render"]

_SPANS: Final = {"30": "1 month", "91": "3 months", "365": "1 year", "all": "All"}
_N_DRAWDOWNS: Final = 10
_NO_TRADES: Final = "No trades."
Payload = dict[str, Any]


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
    sections: tuple[Callable[[Run, Payload], str], ...] = (
        _header,
        _banners,
        _headline,
        _equity,
        _open_positions,
        _months,
        _years,
        _drawdowns,
        _rolling,
        _pair(_exits, _distribution),
        _excursions,
        _pair(_hours, _weekdays),
        _forward,
        _price,
        _costs,
        _symbols,
        _veto,
        _apart,
        _blocked,
        _definitions,
        _provenance,
    )
    body = "".join(make(run, payload) for make in sections)
    return page(body, payload, title=f"IBS back-test: {', '.join(_symbol_list(run))}")


def provenance(run: Run) -> str:
    """Tell how a run was made: command, versions, digests, configuration.

    Parameters
    ----------
    run : Run

    Returns
    -------
    str
        HTML.
    """
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
    return f"<dl class='meta'>{''.join(rows)}</dl><pre>{escape(run.config_yaml)}</pre>"


def _pair(*halves: Callable[[Run, Payload], str]) -> Callable[[Run, Payload], str]:
    def both(run: Run, payload: Payload) -> str:
        content = "".join(half(run, payload) for half in halves)
        return f"<div class='pair'>{content}</div>" if content else ""

    return both


def _symbol_list(run: Run) -> list[str]:
    return list(run.stats["by_symbol"]) or list(run.bars) or ["no symbols"]


def _of_all(run: Run, how: str) -> str:
    """Tell a panel whose numbers take in what the statistics leave out, and how it shows them."""
    if "inside_training" not in run.stats:
        return ""
    return f"Of all trades; {how} where they lie in a training window. "


def _header(run: Run, _payload: Payload) -> str:
    stats, total = run.stats, run.stats["total"]
    facts = [f"{total['trades']:,} trades", f"capital ${stats['capital_usd']:,.0f}"]
    if stats["first_session"]:
        span = f"{spelt_day(stats['first_session'])} to {spelt_day(stats['last_session'])}"
        facts = [span, f"{total['sessions']:,} sessions", *facts]
    return header("IBS back-test", " · ".join(_symbol_list(run)), facts)


def _banners(run: Run, _payload: Payload) -> str:
    return banners(run)


def _headline(run: Run, _payload: Payload) -> str:
    return f"<section style='padding:0'>{tables.headline(run.stats['total'])}</section>"


def _equity(run: Run, payload: Payload) -> str:
    title = "Equity and drawdown"
    if "equity" not in payload["charts"]:
        return section(title, empty("No session closed in this period."))
    told = "At session closes, net of all costs; the dotted line is the stated capital"
    hint = _of_all(run, "shaded") + told
    key = "<span><i class='loss'>■</i>drawdown at session closes</span>"
    if run.lows.height == run.equity.height:
        bound = escape(BY_KEY["max_drawdown_intrabar_usd"].definition)
        key += f"<span class='term' title='{bound}'><i>─</i>intrabar, a bound</span>"
    return section(title, f"{chart('equity')}<p class='key'>{key}</p>", hint=hint)


def _open_positions(run: Run, _payload: Payload) -> str:
    positions = run.stats.get("open_positions")
    if not positions:
        return ""
    hint = "Valued at the last close, net of all costs; not counted as trades"
    return section("Open at the end", wide(tables.open_table(positions)), hint=hint)


def _months(run: Run, _payload: Payload) -> str:
    months = run.stats["monthly"].get(TOTAL)
    if not months:
        return ""
    hint = "Change in equity, net of all costs, USD"
    return section("Months", wide(curve_tables.month_table(months)), hint=hint)


def _years(run: Run, _payload: Payload) -> str:
    months, years = run.stats["monthly"].get(TOTAL), run.stats.get("by_year")
    if not months or years is None:
        return ""
    content = curve_tables.year_table(months, years, capital=run.stats["capital_usd"])
    hint = "Net is the change in equity; trades count in the year of their entry"
    return section("Years", wide(content), hint=hint)


def _drawdowns(run: Run, _payload: Payload) -> str:
    total = run.equity.filter(pl.col("symbol") == TOTAL)
    windows = windows_of(run.stats).values()
    capital = run.stats["capital_usd"]
    rows = worst_drawdowns(total, capital=capital, n_most=_N_DRAWDOWNS, windows=windows)
    if not total.height:
        return ""
    hint = f"{_of_all(run, 'marked')}At session closes; calendar days from the peak to its recovery"
    content = wide(curve_tables.drawdown_table(rows)) if rows else empty("No drawdown.")
    return section("Worst drawdowns", content, hint=hint)


def _rolling(run: Run, payload: Payload) -> str:
    if not run.equity.height:
        return ""
    content = empty(f"Fewer than {ROLLING_SESSIONS} sessions, or equity that never changed.")
    hint = ""
    if "rolling" in payload["charts"]:
        content = chart("rolling")
        hint = (
            f"{_of_all(run, 'dotted')}Of the last {ROLLING_SESSIONS} sessions, annualised; its standard error is "
            f"about {math.sqrt(SESSIONS_A_YEAR / ROLLING_SESSIONS):.1f}"
        )
    return section("Rolling Sharpe ratio", content, hint=hint)


def _exits(run: Run, _payload: Payload) -> str:
    reasons = run.stats["by_exit_reason"]
    content = wide(tables.exit_table(reasons)) if reasons else empty(_NO_TRADES)
    return section("Exit reasons", content)


def _distribution(_run: Run, payload: Payload) -> str:
    hint = "Trades by net P&amp;L, USD; outer bars hold the rest"
    return section("Trade results", _place(payload, "distribution"), hint=hint)


def _place(payload: Payload, name: str) -> str:
    return chart(name) if name in payload["charts"] else empty(_NO_TRADES)


def _excursions(_run: Run, payload: Payload) -> str:
    if "mae" not in payload["charts"]:
        return ""
    halves = []
    for name, told in (("mae", "against"), ("mfe", "for")):
        drawn = payload["charts"][name]
        n_all, n_shown = drawn["trades"], drawn["shown"]
        hint = f"Net P&amp;L over the furthest the price went {told} the trade, USD"
        if n_shown < n_all:
            hint += f"; {n_shown:,} of {n_all:,} trades, evenly by rank"
        halves.append(section(name.upper(), chart(name), hint=hint))
    return f"<div class='pair'>{''.join(halves)}</div>"


def _hours(run: Run, payload: Payload) -> str:
    if "by_hour" not in run.stats:
        return ""
    hint = "Net P&amp;L by the hour of the entry's fill, Chicago"
    return section("Hours", _place(payload, "hours"), hint=hint)


def _weekdays(run: Run, payload: Payload) -> str:
    if "by_weekday" not in run.stats:
        return ""
    hint = "Net P&amp;L by the trade date of the entry"
    return section("Weekdays", _place(payload, "weekdays"), hint=hint)


def _forward(run: Run, payload: Payload) -> str:
    if "forward_returns" not in run.stats:
        return ""
    title = "Forward returns by IBS"
    charts = payload["variants"].get("forward")
    if not charts:
        return section(title, empty("No closed signal bar in this period."))
    n_bars = run.stats["forward_returns"][TOTAL]["all"]["bars"]
    hint = f"All {n_bars:,} signal bars, traded or not, before costs; 1 bp is 0.01 %"
    key = (
        "<span><i class='run-1'>●</i>to the next bar's close</span>"
        "<span><i class='run-2'>●</i>to the next session's close</span>"
        "<span>Bars of error are two standard errors, by session date. Dotted: all bars.</span>"
    )
    choice = markup.tabs("forward-tabs", {name: name for name in charts}, chosen="All")
    content = f"<div class='tools'>{choice}</div>{chart('forward')}<p class='key'>{key}</p>"
    return section(title, content, hint=hint)


def _price(_run: Run, payload: Payload) -> str:
    prices = payload["prices"]
    if not prices:
        return ""
    symbols = markup.tabs("symbols", {name: name for name in prices}, chosen=next(iter(prices)))
    content = (
        f"<div class='tools'>{symbols}{markup.tabs('spans', _SPANS, chosen='all')}</div>"
        f"{chart('price')}<p class='key'>"
        "<span><i class='win'>▲ ●</i>entry and exit of a win</span>"
        "<span><i class='loss'>▲ ●</i>of a loss</span>"
        "<span class='mouse'>Drag to zoom, double-click to reset</span><span>Times are UTC.</span>"
        "<span id='merged'></span></p>"
    )
    hint = "Signal-bar closes; candles when zoomed in. All symbols, equity and Sharpe ratio zoom together"
    return section("Trades on price", content, hint=hint)


def _costs(run: Run, payload: Payload) -> str:
    title = "Cost sensitivity"
    if "costs" not in payload["charts"]:
        return section(title, empty(_NO_TRADES))
    trades = counted_trades(run)
    most, ticks = break_even_multiple(trades), run.stats["total"]["break_even_ticks"]
    told = "Nothing was earned before costs." if most is None else ""
    if most is not None:
        told = f"Net is 0 at {most:.2f} × the costs charged"
        told += "." if ticks is None else f", or at {format_value(ticks, 'ticks')} a fill."
    rows = wide(curve_tables.cost_table(cost_steps(trades)))
    content = f"<div class='halves'>{chart('costs')}{rows}</div>"
    hint = "The same trades at multiples of commission and slippage. " + told
    return section(title, content, hint=hint)


def _symbols(run: Run, _payload: Payload) -> str:
    curves = {
        str(symbol): curve["equity_usd"].to_list()
        for (symbol,), curve in run.equity.group_by("symbol", maintain_order=True)
    }
    hint = "Lines are of all trades" if "inside_training" in run.stats else ""
    return section("Symbols", wide(tables.symbol_table(run.stats, curves)), hint=hint)


def _veto(run: Run, payload: Payload) -> str:
    rows = veto_rows(run)
    if not rows:
        return ""
    hint = "Candidates by score; vetoed are those below the threshold where models veto"
    margins = ""
    if "margins" in payload["charts"]:
        margins = f"<p class='hint'>Score − threshold, all models</p>{chart('margins')}"
    return section("Veto", wide(tables.veto_table(rows)) + margins, hint=hint)


def _apart(run: Run, _payload: Payload) -> str:
    apart = run.stats.get("inside_training")
    if not apart:
        return ""
    content = tables.window_table(run.stats["training_windows"], apart)
    hint = "What models were trained on is no evidence of them; no statistic above counts it"
    return section("Inside training windows", wide(content), hint=hint)


def _blocked(run: Run, _payload: Payload) -> str:
    blocked: Mapping[str, Mapping[str, int]] = run.stats.get("blocked") or {}
    if not any(blocked.values()):
        return ""
    hint = "Signal bars without an entry, by the first gate that failed"
    return section("Blocked entries", wide(tables.blocked_table(blocked)), hint=hint)


def _definitions(run: Run, _payload: Payload) -> str:
    return section("All statistics", tables.definitions_table(run.stats["total"]))


def _provenance(run: Run, _payload: Payload) -> str:
    return (
        "<section><details><summary>Configuration and digests</summary>"
        f"{provenance(run)}</details></section>"
    )
