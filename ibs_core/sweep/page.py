"""The report of a sweep: one HTML file that needs no network; it leads with the best plateau."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ibs_core.sweep.summary import cells, head, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.sweep.grid import Axis
    from ibs_core.sweep.results import Found

__all__ = ["render"]

# Whatever a text smuggles in, the page can load nothing.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --ground: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --ground: #0d1117; }
}
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 16px; }
h1 { font-size: 22px; } h2 { font-size: 17px; margin-top: 32px; } p, li { color: var(--soft); }
.lead { font-size: 17px; color: var(--ink); } .wide { overflow-x: auto; } .chart { height: 440px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
"""
_SCRIPT: Final = """
const charts = JSON.parse(document.getElementById("payload").textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const draw = () => charts.forEach((chart, i) => {
  const axis = { gridcolor: colour("--line"), zeroline: false };
  Plotly.react("chart" + i, chart.data, {
    ...chart.layout, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { color: colour("--ink") }, margin: { l: 70, r: 20, t: 10, b: 60 },
    xaxis: { ...axis, ...chart.layout.xaxis }, yaxis: { ...axis, ...chart.layout.yaxis },
  }, { responsive: true, displayModeBar: false });
});
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
"""


def render(found: Found) -> str:
    """Render the report.

    Parameters
    ----------
    found : Found

    Returns
    -------
    str
        The page. The same results give the same text.
    """
    charts = _charts(found)
    body = "".join(
        [
            "<h1>Sweep</h1>",
            _lead(found),
            _notes(found),
            _table(found),
            *(
                f"<h2>{escape(chart['title'])}</h2><p>{escape(chart['hint'])}</p>"
                f"<div class='wide'><div id='chart{i}' class='chart'></div></div>"
                for i, chart in enumerate(charts)
            ),
            _definitions(),
        ]
    )
    # In a script element only "<" can end the data early.
    data = json.dumps(charts, allow_nan=False).replace("<", "\\u003c")
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    drawn = f"<script>{plotly}</script><script>{_SCRIPT}</script>" if charts else ""
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>IBS sweep</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>{body}</main>\n"
        f"<script type='application/json' id='payload'>{data}</script>\n{drawn}\n</body>\n</html>\n"
    )


def _lead(found: Found) -> str:
    count = f"{found.table.height:,} candidates; {found.trials:,} trials in the ledger"
    if found.choice is None or found.verdict is None:
        return f"<p class='lead'>Nothing to choose from. {count}.</p>"
    swept = ", ".join(
        f"{path} = {'off' if found.choice[path] is None else found.choice[path]}"
        for path in found.grid.paths
    )
    verdict = found.verdict
    says = "is more than luck" if verdict.promotable else "is not more than luck"
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    return (
        f"<p class='lead'><strong>{escape(swept)}</strong><br>The best plateau {says}. {count}.</p>"
        f"<p>Deflated Sharpe ratio {_told(verdict.dsr)}, probability of overfitting {_told(verdict.pbo)}, "
        f"plateau score {_told(found.choice['plateau'])}.</p><ul>{reasons}</ul>"
    )


def _notes(found: Found) -> str:
    made = [
        "These prices were made by a random generator: the results say nothing about any market."
    ]
    notes = [*(made if found.generated else []), *found.notes]
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def _table(found: Found) -> str:
    rows = shown(found)
    if not rows:
        return ""
    titles = "".join(f"<th>{escape(name)}</th>" for name in head(found))
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells(found, row))}</tr>"
        for row in rows
    )
    return f"<h2>Best plateaus</h2><div class='wide'><table><tr>{titles}</tr>{lines}</table></div>"


def _charts(found: Found) -> list[dict[str, Any]]:
    """Draw the Sharpe ratio over one parameter, or over the two with the most values."""
    if found.choice is None:
        return []
    axes = sorted(found.grid.axes, key=lambda axis: -len(axis.values))[:2]
    axes = [axis for axis in axes if len(axis.values) > 1]
    if not axes:
        return []
    others = [path for path in found.grid.paths if path not in {axis.path for axis in axes}]
    table = found.table.filter(
        *(pl.col(path).eq_missing(pl.lit(found.choice[path])) for path in others)
    )
    hint = "; ".join(f"{path} = {found.choice[path]}" for path in others)
    hint = f"Where {hint}, as in the choice." if others else ""
    titles = {"sharpe": "Sharpe ratio", "plateau": "Plateau score"}
    if len(axes) == 1:
        return [_lines(table, axes[0], titles, hint)]
    return [_heat(table, axes, key, title, hint) for key, title in titles.items()]


def _lines(table: pl.DataFrame, axis: Axis, titles: dict[str, str], hint: str) -> dict[str, Any]:
    at = _values_at(table, [axis])
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": title,
            "x": list(map(_spelt, axis.values)),
            "y": [at[key].get((_spelt(value),)) for value in axis.values],
        }
        for key, title in titles.items()
    ]
    layout = {"xaxis": {"title": {"text": axis.path}, "type": "category"}}
    return {"title": "Over the parameter", "hint": hint, "data": data, "layout": layout}


def _heat(
    table: pl.DataFrame, axes: Sequence[Axis], key: str, title: str, hint: str
) -> dict[str, Any]:
    across, up = axes
    at = _values_at(table, axes)[key]
    z = [[at.get((_spelt(x), _spelt(y))) for x in across.values] for y in up.values]
    chart = {
        "type": "heatmap",
        "x": list(map(_spelt, across.values)),
        "y": list(map(_spelt, up.values)),
        "z": z,
        "colorscale": "RdBu",
        "zmid": 0,
        "colorbar": {"title": {"text": title}},
    }
    layout = {
        "xaxis": {"title": {"text": across.path}, "type": "category"},
        "yaxis": {"title": {"text": up.path}, "type": "category"},
    }
    return {"title": title, "hint": hint, "data": [chart], "layout": layout}


def _values_at(
    table: pl.DataFrame, axes: Sequence[Axis]
) -> dict[str, dict[tuple[str, ...], float | None]]:
    places = list(zip(*(map(_spelt, table[axis.path].to_list()) for axis in axes), strict=True))
    return {
        key: dict(zip(places, table[key].to_list(), strict=True)) for key in ("sharpe", "plateau")
    }


def _spelt(value: Any) -> str:
    if value is None:
        return "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _definitions() -> str:
    return (
        "<h2>What the words mean</h2><p>Sharpe ratio: of the P&amp;L of each session, times √252. Plateau score: "
        "the candidate's own Sharpe ratio or the median of its neighbours', whichever is lower; neighbours differ in "
        "one parameter by one step. Luckiest: the highest Sharpe ratio of all, which is what luck looks like.</p>"
    )


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
