"""The report of a sweep: one HTML file that needs no network; it leads with the best plateau."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ibs_core.report.banners import boxed
from ibs_core.report.markup import chart, empty, section, table, wide
from ibs_core.report.page import header, page
from ibs_core.sweep.summary import cells, head, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.sweep.grid import Axis
    from ibs_core.sweep.results import Found

__all__ = ["render"]

_TITLES: Final = {"sharpe": "Sharpe ratio", "plateau": "Plateau score"}
_SCALE: Final = [[0, "--loss-cell"], [0.5, "--rule"], [1, "--win-cell"]]
"""Of the report's own pair, which colour-blind readers tell apart; 0 is grey."""
_WORDS: Final = (
    "<p>Sharpe ratio: of the P&amp;L of each session, times √252. Plateau score: the candidate's own Sharpe ratio or "
    "the median of its neighbours', whichever is lower; neighbours differ in one parameter by one step. Luckiest: the "
    "highest Sharpe ratio of all, which is what luck looks like.</p>"
)
Chart = dict[str, Any]


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
    axes = _drawn_axes(found)
    charts = _charts(found, axes)
    facts = [f"{found.table.height:,} candidates", f"{found.trials:,} trials in the ledger"]
    parts = [
        header("IBS sweep", " × ".join(axis.path for axis in found.grid.axes), facts),  # noqa: RUF001
        _notes(found),
        _lead(found),
        _table(found),
        *(
            section(_TITLES[name], _drawn(found, name, figure), hint=_hint(found, axes))
            for name, figure in charts.items()
        ),
        section("What the words mean", _WORDS),
    ]
    payload = {"charts": charts, "variants": {}, "prices": {}, "reasons": []}
    return page("".join(parts), payload, title="IBS sweep")


def _lead(found: Found) -> str:
    if found.choice is None or found.verdict is None:
        return section("The best plateau", empty("Nothing to choose from."))
    swept = ", ".join(
        f"{path} = {'off' if found.choice[path] is None else found.choice[path]}"
        for path in found.grid.paths
    )
    verdict = found.verdict
    says = "It is more than luck." if verdict.promotable else "It is not more than luck."
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    return section(
        "The best plateau",
        f"<p><strong>{escape(swept)}</strong></p><p>{says} Deflated Sharpe ratio {_told(verdict.dsr)}, "
        f"probability of overfitting {_told(verdict.pbo)}, plateau score {_told(found.choice['plateau'])}.</p>"
        f"<ul>{reasons}</ul>",
    )


def _notes(found: Found) -> str:
    made = (
        "<p><strong>Generated data.</strong> These prices were made by a random generator; "
        "the results say nothing about any market.</p>"
    )
    items = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    notes = f"<p><strong>Notes.</strong></p><ul>{items}</ul>"
    return boxed([*([made] if found.generated else []), *([notes] if items else [])])


def _table(found: Found) -> str:
    rows = [[escape(cell) for cell in cells(found, row)] for row in shown(found)]
    if not rows:
        return ""
    return section("Best plateaus", wide(table(map(escape, head(found)), rows)))


def _drawn_axes(found: Found) -> list[Axis]:
    """Return the two parameters with the most values, or the one that has more than one."""
    axes = sorted(found.grid.axes, key=lambda axis: -len(axis.values))[:2]
    return [axis for axis in axes if len(axis.values) > 1]


def _hint(found: Found, axes: Sequence[Axis]) -> str:
    """Say where the other parameters stand."""
    drawn = {axis.path for axis in axes}
    others = [path for path in found.grid.paths if path not in drawn]
    if found.choice is None or not others:
        return ""
    stand = "; ".join(f"{path} = {_spelt(found.choice[path])}" for path in others)
    return escape(f"Where {stand}, as in the choice")


def _drawn(found: Found, name: str, figure: Chart) -> str:
    """Place a chart, with what its marks mean."""
    twice = found.choice == found.luckiest
    marks = [f"<span><i>▢</i>the choice{', which is the luckiest too' if twice else ''}</span>"]
    if len(figure["layout"]["shapes"]) > 1:
        marks.append("<span><i>┈</i>dotted: the luckiest</span>")
    return f"{chart(name)}<p class='key'>{''.join(marks)}</p>"


def _charts(found: Found, axes: Sequence[Axis]) -> dict[str, Chart]:
    """Draw Sharpe ratio and plateau score over one or two parameters, the others as in the choice."""
    if found.choice is None or found.luckiest is None or not axes:
        return {}
    drawn = {axis.path for axis in axes}
    rows = found.table.filter(
        *(
            pl.col(path).eq_missing(pl.lit(found.choice[path]))
            for path in found.grid.paths
            if path not in drawn
        )
    )
    places = list(zip(*(map(_spelt, rows[axis.path].to_list()) for axis in axes), strict=True))
    place_of = dict(zip(rows["candidate"].to_list(), places, strict=True))
    marked = {"solid": place_of[found.choice["candidate"]]}
    if found.luckiest != found.choice and found.luckiest["candidate"] in place_of:
        marked["dot"] = place_of[found.luckiest["candidate"]]
    make = _line if len(axes) == 1 else _heat
    return {
        key: make(dict(zip(places, rows[key].to_list(), strict=True)), axes, marked)
        for key in _TITLES
    }


def _line(
    at: dict[tuple[str, ...], float | None],
    axes: Sequence[Axis],
    marked: dict[str, tuple[str, ...]],
) -> Chart:
    spelt = list(map(_spelt, axes[0].values))
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": spelt,
        "y": [at.get((value,)) for value in spelt],
        "line": {"color": "--win", "width": 1.4},
        "hovertemplate": "%{x}: %{y:.2f}<extra></extra>",
    }
    marks = [
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1}
        | {"x0": spelt.index(place[0]), "x1": spelt.index(place[0])}
        | {"line": {"color": "--muted", "width": 1.2, "dash": dash}}
        for dash, place in marked.items()
    ]
    layout = {"xaxis": _axis(axes[0]), "yaxis": {"zeroline": True}, "shapes": marks}
    return {"data": [line], "layout": layout}


def _heat(
    at: dict[tuple[str, ...], float | None],
    axes: Sequence[Axis],
    marked: dict[str, tuple[str, ...]],
) -> Chart:
    across, up = ([*map(_spelt, axis.values)] for axis in axes)
    cells_drawn = {
        "type": "heatmap",
        "x": across,
        "y": up,
        "z": [[at.get((x, y)) for x in across] for y in up],
        # Of both signs alike, so that the grey of 0 is the middle.
        "colorscale": _SCALE,
        "zmid": 0,
        "xgap": 2,
        "ygap": 2,
        "texttemplate": "%{z:.1f}",
        "textfont": {"color": "--ink"},
        "hoverongaps": False,
        "hovertemplate": f"{axes[0].path} %{{x}}<br>{axes[1].path} %{{y}}<br>%{{z:.2f}}<extra></extra>",
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickfont": {"color": "--muted"}},
    }
    marks = [
        {"type": "rect", "line": {"color": "--ink", "width": 2.5, "dash": dash}}
        | {"x0": across.index(x) - 0.5, "x1": across.index(x) + 0.5}
        | {"y0": up.index(y) - 0.5, "y1": up.index(y) + 0.5}
        for dash, (x, y) in marked.items()
    ]
    layout = {
        "xaxis": _axis(axes[0]),
        "yaxis": _axis(axes[1]) | {"showgrid": False},
        "shapes": marks,
    }
    return {"data": [cells_drawn], "layout": layout}


def _axis(axis: Axis) -> Chart:
    return {"title": {"text": axis.path, "standoff": 8}, "type": "category"}


def _spelt(value: Any) -> str:
    if value is None:
        return "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
