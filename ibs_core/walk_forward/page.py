"""The report of a walk-forward: one HTML file that needs no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ibs_core.report.banners import boxed
from ibs_core.report.curve_charts import equity_chart
from ibs_core.report.markup import chart, empty, section, table, wide
from ibs_core.report.page import header, page, spelt_day
from ibs_core.walk_forward.summary import (
    MODELS,
    SIDE_BY_SIDE,
    VETOED,
    WINDOWS,
    model_rows,
    side_by_side,
    spelt,
    stability_rows,
    vetoed_rows,
    window_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.walk_forward.results import Results
    from ibs_core.walk_forward.stitch import Stitched

__all__ = ["render"]

Figure = dict[str, Any]


def render(
    found: Results,
    stitched: Stitched,
    untouched: dict[str, Any],
    *,
    name: str,
    told: Sequence[str],
    notes: Sequence[str],
    generated: bool,
) -> str:
    """Render the report.

    Parameters
    ----------
    found : Results
    stitched : Stitched
    untouched : dict
        Statistics of the configuration as it is over the same test sessions.
    name : str
        What is traded.
    told : sequence of str
        The result in sentences.
    notes : sequence of str
        What a reader must know.
    generated : bool

    Returns
    -------
    str
        The page. The same results give the same text.
    """
    charts = {"kept": _kept(found)} | {
        f"choice-{i}": _choice(found, path) for i, path in enumerate(found.stability)
    }
    equity = equity_chart(
        stitched.equity, stitched.lows, capital=stitched.stats["capital_usd"], windows=()
    )
    if equity:
        charts["stitched"] = equity
    first, last = found.windows[0]["test"][0], found.windows[-1]["test"][1]
    body = "".join(
        (
            header(
                "Walk-forward",
                name,
                (f"{spelt_day(first)} to {spelt_day(last)}", f"{len(found.windows)} windows"),
            ),
            _banners(notes, generated=generated),
            section("Result", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in told)}</ul>"),
            section(
                "In-sample beside out-of-sample",
                wide(table(SIDE_BY_SIDE, side_by_side(found, untouched))),
                hint="In-sample: means over windows of what was chosen; untouched: the configuration as it is, "
                "over the same test sessions",
            ),
            section(
                "Equity, out of sample",
                chart("stitched") if equity else empty("No session closed."),
                hint="All windows stitched, at session closes, net of all costs",
            ),
            section(
                "Kept per window",
                chart("kept"),
                hint="USD a session: outlined in the training sessions, filled in the test sessions",
            ),
            section("Windows", wide(table(WINDOWS, [_narrow(row) for row in window_rows(found)]))),
            _vetoes(found),
            *(_stability(found, i, path) for i, path in enumerate(found.stability)),
        )
    )
    payload: Figure = {"charts": charts, "variants": {}, "prices": {}, "reasons": []}
    return page(body, payload, title=f"IBS walk-forward: {name}")


def _banners(notes: Sequence[str], *, generated: bool) -> str:
    made = (
        "<p><strong>Generated data.</strong> These prices were made by a random generator; the results say "
        "nothing about any market.</p>"
    )
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return boxed([*([made] if generated else []), *([f"<ul>{items}</ul>"] if notes else [])])


def _cells(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escape(cell) for cell in row] for row in rows]


def _narrow(row: Sequence[str]) -> list[str]:
    """Break the dates and parameters of a window into lines, so that its numbers fit beside them."""
    number, trained, tested, parameters, *numbers = map(escape, row)
    dates = [each.replace(" to ", "<br>to ") for each in (trained, tested)]
    return [number, *dates, parameters.replace(", ", "<br>"), *numbers]


def _vetoes(found: Results) -> str:
    if found.veto is None:
        return ""
    models = section(
        "Models, out of fold in the training sessions",
        wide(table(MODELS, [[*row, _wrapped(why)] for *row, why in _cells(model_rows(found))])),
        hint="All candidates beside those that the veto lets in, one position at a time",
    )
    vetoed = section(
        "Test sessions with the vetoes and without",
        wide(table(VETOED, _cells(vetoed_rows(found)), last="total")),
        hint="The same parameters; a window whose models all failed is the same in both",
    )
    return models + vetoed


def _wrapped(text: str) -> str:
    """Let a cell of words break into lines, where cells of numbers do not."""
    return f"<div style='min-width:15rem;white-space:normal'>{text}</div>"


def _stability(found: Results, i: int, path: str) -> str:
    own = found.stability[path]
    rows = wide(table(("Value", "Windows"), _cells(stability_rows(found, path))))
    hint = f"Changed at {own['changes']} of {own['of']} boundaries"
    if own["most"] is not None:
        hint += f"; the most frequent value in {own['most']:.0%} of windows"
    content = f"<div class='halves'>{chart(f'choice-{i}')}{rows}</div>"
    return section(f"Choice of {escape(path)}", content, hint=hint)


def _kept(found: Results) -> Figure:
    numbers = [row["number"] for row in found.windows]
    sides = {
        "in-sample": [
            row["in_sample"] and row["in_sample"]["usd_per_session"] for row in found.windows
        ],
        "out-of-sample": [row["out_of_sample"]["usd_per_session"] for row in found.windows],
    }
    styles = (
        {"color": "rgba(0,0,0,0)", "line": {"color": "--muted", "width": 1.4}},
        {"color": "--win"},
    )
    return {
        "data": [
            {"type": "bar", "name": name, "x": numbers, "y": values, "marker": style}
            | {"hovertemplate": "window %{x}: %{y:$,.2f}<extra>%{fullData.name}</extra>"}
            for (name, values), style in zip(sides.items(), styles, strict=True)
        ],
        "layout": {
            "barmode": "group",
            "xaxis": {"type": "category"},
            "yaxis": {"tickformat": "$,.3~s"},
        },
    }


def _choice(found: Results, path: str) -> Figure:
    traded = [row for row in found.windows if row["parameters"] is not None]
    values = [spelt(value) for value, _ in found.stability[path]["counts"]]
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [row["number"] for row in traded],
        "y": [spelt(row["parameters"][path]) for row in traded],
        "line": {"shape": "hv", "width": 1, "color": "--faint"},
        "marker": {"size": 9, "color": "--win"},
        "hovertemplate": "window %{x}: %{y}<extra></extra>",
    }
    order = {"categoryorder": "array", "categoryarray": values, "range": [-0.5, len(values) - 0.5]}
    return {
        "data": [line],
        "layout": {"xaxis": {"type": "category"}, "yaxis": {"type": "category"} | order},
    }
