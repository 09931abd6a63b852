"""Several runs on one page: curves in one chart, statistics side by side, what was set differently."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ibs_core.report.banners import boxed
from ibs_core.report.comparison import compared, config_changes, doubts, format_difference
from ibs_core.report.curve_charts import RUN_COLOURS, compared_chart
from ibs_core.report.definitions import BY_KEY, GROUPS, format_value
from ibs_core.report.markup import chart, empty, section, sign, table, usd, wide
from ibs_core.report.page import header, page, spelt_day
from ibs_core.report.run import TOTAL
from ibs_core.report.tear_sheet import provenance
from ibs_core.report.training_window import windows_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.report.run import Run

__all__ = ["render_comparison"]


def render_comparison(runs: Mapping[str, Run]) -> str:
    """Render a comparison as one self-contained HTML page.

    Parameters
    ----------
    runs : mapping of str to Run
        At least two, by name; the first is what the others are compared with.

    Returns
    -------
    str
        The page. The same runs give the same text.
    """
    figure = compared_chart(runs)
    payload: dict[str, Any] = {
        "charts": {"compared": figure} if figure else {},
        "variants": {},
        "prices": {},
        "reasons": [],
    }
    body = "".join(
        (
            header("IBS back-tests", f"{len(runs)} runs compared", map(escape, runs)),
            _banners(runs),
            _runs(runs),
            _curves(runs, drawn=figure is not None),
            _statistics(runs),
            _years(runs),
            _symbols(runs),
            _settings(runs),
            _provenance(runs),
        )
    )
    return page(body, payload, title=f"IBS back-tests: {', '.join(runs)}")


def _banners(runs: Mapping[str, Run]) -> str:
    notes = []
    if any(run.meta["generated_data"] for run in runs.values()):
        text = "Prices were made by a random generator; the results say nothing about any market."
        notes.append(f"<p><strong>Generated data.</strong> {text}</p>")
    if told := doubts(runs):
        notes.append(f"<p><strong>Not alike.</strong> {escape(' '.join(told))}</p>")
    notes.append(
        "<p><strong>A choice.</strong> The best of several runs looks better than it is; "
        "none of these numbers is deflated by how many were tried.</p>"
    )
    return boxed(notes)


def _runs(runs: Mapping[str, Run]) -> str:
    rows = [
        [
            _named(i, name),
            ", ".join(escape(symbol) for symbol in run.stats["by_symbol"]) or "none",
            f"{spelt_day(run.stats['first_session'])} to {spelt_day(run.stats['last_session'])}",
            f"${run.stats['capital_usd']:,.0f}",
            escape(str(run.meta["data_digest"])[:8]),
            escape(str(run.meta["config_hash"])[:8]),
        ]
        for i, (name, run) in enumerate(runs.items())
    ]
    head = ["Run", "Symbols", "Sessions", "Capital", "Data", "Configuration"]
    return section("Runs", wide(table(head, rows)), hint="Digests by their first eight digits")


def _named(i: int, name: str) -> str:
    return f"<i class='run-{i % RUN_COLOURS + 1}'>■</i> {escape(name)}"


def _curves(runs: Mapping[str, Run], *, drawn: bool) -> str:
    title = "Equity and drawdown"
    if not drawn:
        return section(title, empty("No session closed in any of them."))
    key = "".join(f"<span>{_named(i, name)}</span>" for i, name in enumerate(runs))
    hint = "Equity less the stated capital, at session closes, net of all costs"
    if any(windows_of(run.stats) for run in runs.values()):
        hint += "; dotted inside training windows, which the statistics leave out"
    return section(title, f"{chart('compared')}<p class='key'>{key}</p>", hint=hint)


def _statistics(runs: Mapping[str, Run]) -> str:
    first, *rest = runs
    n_columns = 1 + len(runs) + len(rest)
    lines = []
    rows = compared(runs)
    for group, title in GROUPS.items():
        lines.append(f"<tr class='group'><th colspan='{n_columns}'>{title}</th></tr>")
        for row in rows:
            if row["group"] != group:
                continue
            unit, cells = row["unit"], [format_value(row["values"][0], row["unit"])]
            for value, change in zip(row["values"][1:], row["differences"], strict=True):
                cells += [format_value(value, unit), format_difference(change, unit)]
            marks = ["", *(("", " class='change'") * len(rest))]
            tds = "".join(
                f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, cells, strict=True)
            )
            told = escape(BY_KEY[row["key"]].definition)
            name = f"<span class='term' title='{told}'>{escape(row['label'])}</span>"
            lines.append(f"<tr><th scope='row'>{name}</th>{tds}</tr>")
    head = f"<th>Statistic</th><th>{escape(first)}</th>"
    head += "".join(f"<th>{escape(name)}</th><th>difference</th>" for name in rest)
    content = f"<table class='compared'><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    hint = "Of the portfolio; differences are from the first run, pp are percentage points"
    return section("Statistics", wide(content), hint=hint)


def _years(runs: Mapping[str, Run]) -> str:
    changes: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        for row in run.stats["monthly"].get(TOTAL, []):
            own = changes.setdefault(row["month"][:4], {})
            own[name] = own.get(name, 0.0) + row["net_usd"]
    if not changes:
        return ""
    rows = [
        [year, *(f"<span{sign(own.get(name))}>{usd(own.get(name))}</span>" for name in runs)]
        for year, own in sorted(changes.items())
    ]
    content = wide(table(["Year", *map(escape, runs)], rows))
    return section("Years", content, hint="Change in equity, net of all costs")


def _symbols(runs: Mapping[str, Run]) -> str:
    symbols = dict.fromkeys(symbol for run in runs.values() for symbol in run.stats["by_symbol"])
    if not symbols:
        return ""
    rows = []
    for symbol in symbols:
        cells = [escape(symbol)]
        for run in runs.values():
            block = run.stats["by_symbol"].get(symbol)
            net = block["net_usd"] if block else None
            cells.append(f"<span{sign(net)}>{usd(net)}</span>")
            cells.append(format_value(block["trades"] if block else None, "count"))
        rows.append(cells)
    head = ["Symbol", *(text for name in runs for text in (escape(name), "trades"))]
    return section("Symbols", wide(table(head, rows)), hint="Net profit and trades")


def _settings(runs: Mapping[str, Run]) -> str:
    parts = []
    for i, (name, lines) in enumerate(config_changes(runs).items(), start=1):
        text = escape("\n".join(lines)) if lines else "the same settings"
        parts.append(f"<p class='key'><span>{_named(i, name)}</span></p><pre>{text}</pre>")
    hint = "Lines that differ from the first run's: − is the first, + the other"  # noqa: RUF001
    return section("Settings", "".join(parts), hint=hint)


def _provenance(runs: Mapping[str, Run]) -> str:
    parts = "".join(
        f"<details><summary>{escape(name)}: configuration and digests</summary>{provenance(run)}</details>"
        for name, run in runs.items()
    )
    return f"<section>{parts}</section>"
