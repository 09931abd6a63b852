"""The frame of a page: one HTML file that needs no network, light and dark, on a laptop and a phone."""

from __future__ import annotations

import json
from datetime import date
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["header", "page", "spelt_day"]

# Whatever a text smuggles in, the page can load nothing.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def page(body: str, payload: dict[str, Any], *, title: str) -> str:
    """Make a page of its body and the data of its charts.

    Parameters
    ----------
    body : str
        HTML.
    payload : dict
        As `chart_payload` returns it.
    title : str

    Returns
    -------
    str
    """
    # In a script element only "<" can end the data early.
    data = json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>\n{_asset('tear_sheet.css')}</style>\n"
        # Before anything is drawn, so that a dark page never flashes.
        f"<script>{_asset('theme.js')}</script>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n"
        f"<script type='application/json' id='payload'>{data}</script>\n"
        f"<script>{_plotly()}</script>\n<script>\n{_asset('tear_sheet.js')}</script>\n"
        "</body>\n</html>\n"
    )


def header(eyebrow: str, title: str, facts: Iterable[str]) -> str:
    """Head a page, with the switch between light and dark.

    Parameters
    ----------
    eyebrow, title : str
        Text; it is escaped.
    facts : iterable of str
        HTML.

    Returns
    -------
    str
    """
    return (
        "<header><button type='button' id='theme' aria-label='Switch between light and dark'>"
        f"</button><p class='eyebrow'>{escape(eyebrow)}</p><h1>{escape(title)}</h1>"
        f"<p class='facts'>{''.join(f'<span>{fact}</span>' for fact in facts)}</p></header>"
    )


def spelt_day(day: str | date | None) -> str:
    """Spell a date as people do, such as 3 Jan 2025; a dash for none.

    Parameters
    ----------
    day : str or date or None
        A string is ISO 8601.

    Returns
    -------
    str
    """
    if day is None:
        return "\N{EN DASH}"
    known = date.fromisoformat(day) if isinstance(day, str) else day
    return f"{known.day} {known:%b %Y}"


def _asset(name: str) -> str:
    return (files("ibs_core.report") / "assets" / name).read_text("utf-8")


@cache
def _plotly() -> str:
    # Read as a file: importing Plotly costs a second and only the script is needed.
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
