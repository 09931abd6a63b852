"""A sweep as a table for the terminal and the page: the best plateaus, and the luckiest line beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ibs_core.report.definitions import BY_KEY, format_value

if TYPE_CHECKING:
    from rich.table import Table

    from ibs_core.sweep.results import Found

__all__ = ["N_SHOWN", "cells", "head", "shown", "summary_table"]

N_SHOWN: Final = 10
_COLUMNS: Final = {
    "trades": "Trades",
    "net_usd": "Net",
    "sharpe": "Sharpe",
    "max_drawdown_usd": "Max DD",
    "profit_factor": "PF",
}


def shown(found: Found) -> list[dict[str, Any]]:
    """Return the rows to show: the choice first, then the next best plateaus, then the luckiest.

    Parameters
    ----------
    found : Found

    Returns
    -------
    list of dict
        Rows of the table, with ``note``.
    """
    if found.choice is None or found.luckiest is None:
        return []
    ranked = found.table.sort(
        "plateau", "sharpe", "candidate", descending=[True, True, False], nulls_last=True
    ).head(N_SHOWN)
    first, luckiest = found.choice["candidate"], found.luckiest["candidate"]
    rest = ranked.filter(~pl.col("candidate").is_in([first, luckiest]))
    rows = [found.choice, *rest.iter_rows(named=True)]
    if luckiest != first:
        rows.append(found.luckiest)
    return [row | {"note": _note(row["candidate"], first, luckiest)} for row in rows]


def head(found: Found) -> list[str]:
    """Return the titles of the columns; a parameter goes by the last parts of its path that tell it apart.

    Parameters
    ----------
    found : Found

    Returns
    -------
    list of str
    """
    return [*map(_short, _told_apart(found)), "Plateau", *_COLUMNS.values(), ""]


def cells(found: Found, row: dict[str, Any]) -> list[str]:
    """Return one row as text.

    Parameters
    ----------
    found : Found
    row : dict
        As `shown` returns it.

    Returns
    -------
    list of str
    """
    swept = ["off" if row[path] is None else str(row[path]) for path in _told_apart(found)]
    numbers = [format_value(row[key], BY_KEY[key].unit) for key in _COLUMNS]
    return [*swept, format_value(row["plateau"], BY_KEY["sharpe"].unit), *numbers, row["note"]]


def summary_table(found: Found) -> Table:
    """Lay out the best candidates for a terminal.

    Parameters
    ----------
    found : Found

    Returns
    -------
    rich.table.Table
    """
    # Imported here: starting the program must not pay for tables that it may not print.
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    title = f"Sweep of {found.table.height:,} candidates"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head(found):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown(found):
        table.add_row(*map(Text, cells(found, row)))
    return table


def _told_apart(found: Found) -> list[str]:
    """Return the parameters with more than one value: the others are the same in every row."""
    return [axis.path for axis in found.grid.axes if len(axis.values) > 1]


def _short(path: str) -> str:
    return ".".join(path.removeprefix("strategy.").split(".")[-2:])


def _note(number: int, first: int, luckiest: int) -> str:
    if number == first:
        return "choice, luckiest" if number == luckiest else "choice"
    return "luckiest" if number == luckiest else ""
