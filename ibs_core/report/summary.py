"""The statistics as tables for the terminal, printed after a back-test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibs_core.report.definitions import BY_KEY, format_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

__all__ = ["summary_tables"]

# Short names, so that the numbers of a row fit 80 columns.
COLUMNS: Final = {
    "trades": "Trades",
    "win_rate": "Win",
    "net_usd": "Net",
    "profit_factor": "PF",
    "expectancy_usd": "Expect.",
    "sharpe": "Sharpe",
    "max_drawdown_usd": "Max DD",
    "cost_share": "Costs",
}


def summary_tables(stats: Mapping[str, Any]) -> list[Table]:
    """Lay out the statistics for a terminal.

    Parameters
    ----------
    stats : mapping
        As `Run.stats`; ``blocked`` may be absent.

    Returns
    -------
    list of rich.table.Table
        By symbol; by exit reason and blocked entries where there are any.
    """
    tables = [_symbols(stats)]
    if stats["by_exit_reason"]:
        tables.append(_exits(stats["by_exit_reason"]))
    if any(stats.get("blocked", {}).values()):
        tables.append(_blocked(stats["blocked"]))
    return tables


def _symbols(stats: Mapping[str, Any]) -> Table:
    blocks = [*stats["by_symbol"].items(), ("Total", stats["total"])]
    rows = [
        [symbol, *(format_value(block[key], BY_KEY[key].unit) for key in COLUMNS)]
        for symbol, block in blocks
    ]
    return _table("Symbols", ["Symbol", *COLUMNS.values()], rows, total=True)


def _exits(reasons: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            row["reason"],
            format_value(row["trades"], "count"),
            format_value(row["win_rate"], "percent"),
            format_value(row["net_usd"], "usd"),
            format_value(row["average_usd"], "usd"),
        ]
        for row in reasons
    ]
    return _table("Exits", ["Reason", "Trades", "Win rate", "Net", "Average"], rows)


def _blocked(blocked: Mapping[str, Mapping[str, int]]) -> Table:
    gates = dict.fromkeys(gate for counts in blocked.values() for gate in counts)
    rows = [[gate, *(f"{own.get(gate, 0):,}" for own in blocked.values())] for gate in gates]
    return _table("Blocked entries", ["Gate", *blocked], rows)


def _table(
    title: str, head: Iterable[str], rows: Sequence[Sequence[str]], *, total: bool = False
) -> Table:
    # Imported here: starting the program must not pay for tables that it may not print.
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for i, row in enumerate(rows):
        is_total = total and i == len(rows) - 1
        # Text, so that a bracket in a name is no markup.
        table.add_row(*(Text(cell) for cell in row), style="bold" if is_total else "")
    return table
