"""`ibs data cache`: what the bar cache holds, and how to be rid of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options

if TYPE_CHECKING:
    from ibs_core.bar_cache import Held, Shelf

__all__ = ["cache"]


@click.command()
@click.argument("action", type=click.Choice(["clear"]), required=False, metavar="[clear]")
@options.as_json
@options.quiet
def cache(*, action: str | None, json_: bool, quiet: bool) -> None:
    """List what is kept of bars that were read, or remove all of it with `clear`.

    It costs nothing but time to clear: the next run reads the bars again. $IBS_CACHE_DIR moves the cache,
    $IBS_CACHE_BYTES bounds it (4 GiB; 0 keeps nothing).
    """
    from ibs_core.bar_cache import default_shelf
    from ibs_core.parquet_file import environment

    shelf = default_shelf()
    if shelf is None:
        facts: dict[str, Any] = {"folder": None, "room": 0, "bytes": 0, "entries": []}
        text = "$IBS_CACHE_BYTES is 0: nothing is kept"
    elif action:
        with environment("bar cache", shelf.folder, "change its owner or mode"):
            n_files, n_bytes = shelf.clear()
        facts = {"folder": str(shelf.folder), "removed": n_files, "bytes": n_bytes}
        text = f"removed {n_files} files, {n_bytes / 1e6:,.1f} MB: {shelf.folder}"
    else:
        held = shelf.held()
        facts, text = _facts(shelf, held), ""
        if not json_ and not quiet:
            _print(shelf, held)
    if json_:
        options.say_json(facts)
    elif text and not quiet:
        click.echo(text)


def _facts(shelf: Shelf, held: list[Held]) -> dict[str, Any]:
    return {
        "folder": str(shelf.folder),
        "room": shelf.room,
        "bytes": sum(each.n_bytes for each in held),
        "entries": [
            {
                "name": each.name,
                "bytes": each.n_bytes,
                "used_utc": datetime.fromtimestamp(each.used_s, UTC).isoformat(timespec="seconds"),
                **{key: each.facts.get(key) for key in ("kind", "data", "symbols", "widths")},
            }
            for each in held
        ],
    }


def _print(shelf: Shelf, held: list[Held]) -> None:
    from rich.table import Table

    console = options.console()
    table = Table("kept", "bars", "symbols", "data", "MB", "used", title=None)
    for each in held:
        table.add_row(
            each.facts.get("kind", "damaged"),
            ", ".join(each.facts.get("widths", ())),
            _some(each.facts.get("symbols", ())),
            _some(each.facts.get("data", ())),
            f"{each.n_bytes / 1e6:,.1f}",
            _ago(time.time() - each.used_s),
        )
    if held:
        console.print(table)
    total = sum(each.n_bytes for each in held)
    console.print(
        f"{len(held)} files, {total / 1e6:,.1f} of at most {shelf.room / 1e6:,.0f} MB: {shelf.folder}",
        soft_wrap=True,
        highlight=False,
    )


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join([*names[:6], "…"] if len(names) > 6 else names)


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
