"""`ibs status`: how a worker is, as its heartbeat tells; for people, and by its exit code for monitors."""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ibs_core.cli import options
from ibs_core.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

__all__ = ["findings_in", "status"]

_SECOND: Final = 10**9
_LOOK_S: Final = 1.0
_ALIVE: Final = frozenset(("starting", "running", "stopping"))
_BAD_BLOCKS: Final = frozenset(("late", "not_live", "stale"))
"""Of the feed; ``absent`` ends by itself, ``halted`` an operator wanted, orders are told one by one."""


class _Duration(click.ParamType[int]):
    name = "30s|5m|1h"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read a duration as nanoseconds."""
        from pydantic import TypeAdapter, ValidationError

        from ibs_core.config_values import Duration

        if isinstance(value, int):
            return value
        try:
            return int(TypeAdapter(Duration).validate_python(value))
        except ValidationError:
            self.fail(
                f'expected a duration such as "30s", "5m" or "1h", found {value!r}', param, ctx
            )


@click.command()
@click.option(
    "--journal",
    type=options.PATH,
    default=Path("live/journal.sqlite"),
    show_default=True,
    help="SQLite file of `ibs run-live`; the heartbeat is beside it.",
)
@click.option(
    "--heartbeat",
    type=options.PATH,
    help="The heartbeat itself, where monitoring.heartbeat names it.",
)
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@click.option(
    "--max-age",
    type=_Duration(),
    default="90s",
    show_default=True,
    help="A heartbeat that is older is a finding.",
)
@options.as_json
@options.quiet
def status(
    *,
    journal: Path,
    heartbeat: Path | None,
    watch: bool,
    max_age: int,
    json_: bool,
    quiet: bool,
) -> None:
    """Show how the worker is.

    Exit code 0: it is starting or running, its sign of life is fresh, its feed streams, no order is unresolved, and
    the last delivery was accepted. 1: something of this is not so; the reason is on standard error. 3: there is no heartbeat.
    """
    from ibs_core.cli.monitoring import heartbeat_of

    if watch and (json_ or quiet):
        raise click.UsageError("--watch shows a table: leave --json and --quiet out")
    path = heartbeat or heartbeat_of(journal)
    if watch:
        _watch(path, max_age)
        return
    document = _read(path)
    age_s, findings = _judged(document, max_age)
    if json_:
        facts = {"path": str(path), "age_s": round(age_s, 1), "findings": findings}
        options.say_json(facts | {"heartbeat": document})
    elif not quiet:
        options.console().print(_view(document, age_s, findings))
    if findings:
        raise DataError(f"worker of {path}", expected="it well", found="; ".join(findings))


def findings_in(
    document: Mapping[str, Any], age_s: float, max_age_s: float, *, is_gone: bool
) -> list[str]:
    """Tell what is wrong with a worker.

    Parameters
    ----------
    document : Mapping of str to Any
        Its heartbeat.
    age_s, max_age_s : float, seconds
    is_gone : bool
        No such process is on this machine.

    Returns
    -------
    list of str
        Empty when all is well.
    """
    named, details = document["status"], document.get("details", {})
    found = []
    if is_gone and named in _ALIVE:
        found.append(f"process {document.get('pid')} is gone without a word")
    if named == "failed":
        told = (named, details.get("stage"), details.get("message"))
        found.append(": ".join(filter(None, told)))
    elif named not in ("starting", "running"):
        found.append(str(named))
    elif not -max_age_s <= age_s <= max_age_s:
        found.append(
            f"no sign of life for {_ago(age_s)}"
            if age_s > 0
            else f"dated {_ago(-age_s)} ahead of this clock"
        )
    if named != "running":
        return found
    blocked = [each for each in details.get("blocked", ()) if each in _BAD_BLOCKS]
    if blocked:
        found.append(f"entries are blocked: {', '.join(blocked)}")
    elif details.get("streaming") is False:
        found.append("the feed does not stream")
    if unresolved := details.get("unresolved"):
        found.append(f"unresolved: {', '.join(unresolved)}")
    if error := _newest_error(details.get("orders") or {}):
        found.append(f"the last delivery failed: {_event(error)}")
    return found


def _newest_error(orders: Mapping[str, Any]) -> object:
    """Return the last error of delivery, unless a success came after it."""
    error, success = orders.get("last_error"), orders.get("last_success")
    if error and success and _instant(success) > _instant(error):
        return None
    return error


def _instant(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"heartbeat {path}",
            found=getattr(error, "strerror", None) or "no text",
            remedy="name the worker's with --journal or --heartbeat; without one none has run here",
        ) from None
    try:
        document = json.loads(text)
        datetime.fromisoformat(document["updated_at"]).timestamp()
        named = document["status"]
    except (LookupError, TypeError, ValueError):
        named = None
    if not isinstance(named, str):
        raise EnvironmentFault(
            f"heartbeat {path}", expected="one of a worker", found="something else"
        )
    return dict(document)


def _judged(document: Mapping[str, Any], max_age_ns: int) -> tuple[float, list[str]]:
    age_s = time.time() - datetime.fromisoformat(document["updated_at"]).timestamp()
    max_age_s = max_age_ns / _SECOND
    return age_s, findings_in(document, age_s, max_age_s, is_gone=_is_gone(document))


def _is_gone(document: Mapping[str, Any]) -> bool:
    """Tell whether the process ended, where this machine can know."""
    pid = document.get("pid")
    if document.get("hostname") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        pass
    return False


def _watch(path: Path, max_age_ns: int) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(console=options.console(), auto_refresh=False) as live:
        try:
            while True:
                try:
                    document = _read(path)
                    view = _view(document, *_judged(document, max_age_ns))
                except EnvironmentFault as error:  # not yet
                    view = Text(str(error))
                live.update(view, refresh=True)
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            pass


def _view(document: Mapping[str, Any], age_s: float, findings: list[str]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _lines(document, age_s):
        facts.add_row(name, Text(_plain(value)))
    for each in findings:
        facts.add_row(Text("finding", style="bold red"), Text(_plain(each), style="red"))
    symbols = document.get("details", {}).get("symbols")
    return Group(facts, _symbols(symbols)) if symbols else facts


def _lines(document: Mapping[str, Any], age_s: float) -> list[tuple[str, str]]:
    details = document.get("details", {})
    where = f"process {document.get('pid')} on {document.get('hostname')}"
    to = f"{document.get('route')}, armed" if document.get("armed") else "paper"
    lines = [
        ("status", f"{document['status']}, {_ago(age_s)} ago"),
        ("worker", f"{where}, ibs {document.get('version')}, journal {document.get('journal')}"),
        ("preflight", str((details.get("preflight") or {}).get("status", "not run"))),
    ]
    if "symbols" in details:
        feed, orders = details.get("feed") or {}, details.get("orders") or {}
        lag_ms = feed.get("lag_ms")
        # Below 0 is market time that is past.
        lag = "" if lag_ms is None or lag_ms < 0 else f", lag {lag_ms / 1000:.1f} s"
        streams = "streams" if details.get("streaming") else "does not stream"
        lines.append(("decided until", str(details.get("until"))))
        if document["status"] in _ALIVE:
            lines.append(("feed", f"{streams}{lag}, {feed.get('reconnects', 0)} reconnects"))
        lines += [
            (
                "orders to",
                f"{to}; gate {details.get('gate')}, {orders.get('unsettled', 0)} on their way",
            ),
            ("last error", _event(orders.get("last_error"))),
            ("blocked", ", ".join(details.get("blocked", ())) or "no"),
            ("unresolved", ", ".join(details.get("unresolved", ())) or "none"),
        ]
    if dropped := details.get("notices_dropped"):
        lines.append(("notices", f"{dropped} never told: who was to be told is too slow, or broke"))
    for name, counts in (document.get("monitoring") or {}).items():
        if counts and (counts["failed"] or counts["dropped"]):
            lost = f"{counts['failed']} failed, {counts['dropped']} dropped"
            lines.append((name, f"{counts['delivered']} delivered, {lost}"))
    return lines


def _symbols(symbols: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("symbol")
    for name in ("last bar", "position"):
        table.add_column(name)
    for name in ("open USD", "realised USD"):
        table.add_column(name, justify="right")
    table.add_column("features")
    for root, each in symbols.items():
        features = each.get("features", {})
        ready = "ready" if features.get("ready") else "not ready"
        missing = ", ".join(features.get("missing", ()))
        held = f"{each['quantity']} {each.get('instrument')}" if each.get("quantity") else ""
        row = (
            root,
            each.get("last_bar") or "none yet",
            f"{each.get('position')} {held}".strip(),
            f"{each.get('open_usd') or 0:,.2f}",
            f"{each.get('realised_usd') or 0:,.2f}",
            f"{ready}: {missing} missing" if missing else ready,
        )
        table.add_row(*(Text(_plain(cell)) for cell in row))
    return table


def _event(event: object) -> str:
    if not isinstance(event, dict):
        return "none"
    told = (event.get(name) for name in ("at", "kind", "symbol", "side", "size", "message"))
    return " ".join(str(value) for value in told if value not in (None, ""))


def _ago(age_s: float) -> str:
    """Write an age: seconds up to two minutes, then minutes, hours, days."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if abs(age_s) >= 2 * unit:
            return f"{age_s / unit:.0f} {name}"
    return f"{age_s:.0f} s"


def _plain(text: str) -> str:
    """Leave out what a terminal obeys."""
    return "".join(each if each.isprintable() else " " for each in text)
