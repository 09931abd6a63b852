"""The picture of a Monte Carlo: a fan of equity, the drawdowns, and what the rules make of them, as one HTML file."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ibs_core.report.markup import chart, section, table, usd, wide
from ibs_core.report.monte_carlo import STATISTICS, sentences
from ibs_core.report.page import header, page, spelt_day
from ibs_core.report.prices import packed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["render_monte_carlo"]

Facts = dict[str, Any]


def render_monte_carlo(facts: Facts, *, name: str, generated: bool) -> str:
    """Render what was drawn as one self-contained HTML page.

    Parameters
    ----------
    facts : dict
        As `monte_carlo` returns them.
    name : str
        Of the run.
    generated : bool
        Whether its data are generated.

    Returns
    -------
    str
    """
    span = f"{spelt_day(facts['first_session'])} to {spelt_day(facts['last_session'])}"
    drawn = (
        f"{facts['paths']:,} paths of {facts['path_sessions']:,} sessions",
        f"drawn from {facts['sessions']:,}, {span}",
        f"blocks of {facts['mean_block_sessions']:g} on average",
        f"seed {facts['seed']}",
    )
    parts = [header("Monte Carlo", name, drawn)]
    if generated:
        parts.append(
            "<div class='note'><p>Generated data: this shows how the system works, never an edge.</p></div>"
        )
    low, high = facts["levels"][1], facts["levels"][-2]
    fan = f"<p class='key'><span><i class='win'>■</i>{low:.0%} to {high:.0%} and 25% to 75% of paths, the median</span>"
    fan += "<span><i>─</i>the run itself</span></p>"
    parts += [
        section(
            "Equity",
            chart("fan") + fan,
            hint="At session closes, net of all costs, by sessions from the start",
        ),
        section(
            "Max drawdown, intrabar",
            chart("drawdowns"),
            hint="Paths by their largest fall within sessions, a bound; dotted: the run itself",
        ),
        section("Quantiles over paths", wide(_quantiles(facts)), hint="USD"),
        _told(facts),
    ]
    payload: Facts = {
        "charts": {"fan": _fan(facts), "drawdowns": _drawdowns(facts)},
        "variants": {},
        "prices": {},
        "reasons": [],
    }
    return page("".join(parts), payload, title=f"Monte Carlo: {name}")


def _told(facts: Facts) -> str:
    rules = facts["rules"]
    title = "Chances" if rules is None else f"Chances: {escape(rules['rules']['name'])}"
    lines = "".join(f"<li>{escape(line)}</li>" for line in sentences(facts))
    return section(title, f"<ul>{lines}</ul>")


def _quantiles(facts: Facts) -> str:
    """Lay out a row a level: a phone is narrow, and there are more levels than statistics."""
    columns = [
        [usd(facts[key]["run_usd"]), *map(usd, facts[key]["quantiles_usd"])] for key in STATISTICS
    ]
    names = ["The run", *(f"{level:.0%}" for level in facts["levels"])]
    head = [label.replace(" ", "<br>") for label in STATISTICS.values()]
    return table(["", *head], list(zip(names, *columns, strict=True)))


def _fan(facts: Facts) -> Facts:
    bands = facts["bands"]
    columns = list(zip(*bands["quantiles_usd"], strict=True))
    _, low, lower, middle, upper, high, _ = columns
    none = {"width": 0}
    data = [
        _line(bands, low, line=none, hoverinfo="skip"),
        _line(bands, high, line=none, fill="tonexty", fillcolor="--win-soft", hoverinfo="skip"),
        _line(bands, lower, line=none, name="25%"),
        _line(bands, upper, line=none, fill="tonexty", fillcolor="--win-soft", name="75%"),
        _line(bands, middle, line={"color": "--win", "width": 1.8}, name="median"),
        _line(bands, bands["run_usd"], line={"color": "--muted", "width": 1.2}, name="the run"),
    ]
    return {
        "data": data,
        "layout": {
            "hovermode": "x unified",
            "xaxis": {"hoverformat": ",d"},
            "yaxis": {"tickformat": "$,.4~s"},
        },
    }


def _line(bands: Facts, values: Sequence[float], **style: object) -> Facts:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": packed(bands["sessions"][: len(values)], "i4"),
        "y": packed([round(value, 2) for value in values], "f8"),
        "hovertemplate": "%{y:$,.0f}<extra>%{fullData.name}</extra>",
        **style,
    }


def _drawdowns(facts: Facts) -> Facts:
    histogram, run = facts["histogram"], facts["max_drawdown_intrabar_usd"]["run_usd"]
    edges = histogram["edges_usd"]
    return {
        "data": [
            {
                "type": "bar",
                "x": [(low + high) / 2 for low, high in pairwise(edges)],
                "y": histogram["paths"],
                "marker": {"color": "--loss"},
                "hovertemplate": "%{x:$,.0f}: %{y:,} paths<extra></extra>",
            }
        ],
        "layout": {
            "bargap": 0.08,
            "xaxis": {"tickformat": "$,.3~s"},
            "yaxis": {"tickformat": ",d"},
            "shapes": [
                {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": run, "x1": run}
                | {"line": {"color": "--ink", "width": 1.4, "dash": "dot"}}
            ],
        },
    }
