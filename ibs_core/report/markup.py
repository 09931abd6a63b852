"""Pieces of HTML that every page is made of; what comes from outside is escaped by who passes it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ibs_core.report.definitions import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["chart", "empty", "section", "sign", "table", "tabs", "usd", "wide", "words"]


def section(title: str, content: str, *, hint: str = "") -> str:
    """Frame a part of the page under its title."""
    return (
        f"<section><div class='head'><h2>{title}</h2><p class='hint'>{hint}</p></div>"
        f"{content}</section>"
    )


def chart(name: str) -> str:
    """Leave a place for a chart of the payload."""
    return f"<div id='{name}' class='chart'></div>"


def wide(content: str) -> str:
    """Let a table scroll by itself where the screen is narrow."""
    return f"<div class='wide'>{content}</div>"


def empty(text: str) -> str:
    """Say why there is nothing to show."""
    return f"<p class='empty'>{text}</p>"


def tabs(group: str, labels: Mapping[str, str], *, chosen: str) -> str:
    """Offer a choice as buttons; labels are escaped here."""
    buttons = "".join(
        f"<button type='button' data-value='{escape(value)}' "
        f"aria-pressed='{'true' if value == chosen else 'false'}'>{escape(label)}</button>"
        for value, label in labels.items()
    )
    return f"<div class='tabs' id='{group}'>{buttons}</div>"


def table(head: Iterable[str], rows: Sequence[Sequence[str]], *, last: str = "") -> str:
    """Lay out rows of cells; `last` is a class of the last row."""
    body = "".join(
        f"<tr{f' class={last!r}' if last and i == len(rows) - 1 else ''}>"
        + "".join(f"<td>{cell}</td>" for cell in row)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    titles = "".join(f"<th>{title}</th>" for title in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def sign(value: float | None) -> str:
    """Return the class of an element that shows a gain or a loss."""
    return "" if not value else " class='win'" if value > 0 else " class='loss'"


def usd(value: float | None) -> str:
    """Print whole dollars; cents only below one."""
    if value is None:
        return format_value(None, "usd")
    return format_value(round(value) if abs(value) >= 1 else value, "usd").replace(".00", "")


def words(name: str) -> str:
    """Spell a name of ours for people."""
    text = name.replace("_", " ")
    return escape(text.upper() if text in {"ibs", "atr"} else text[:1].upper() + text[1:])
