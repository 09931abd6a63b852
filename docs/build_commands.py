# ruff: noqa: INP001  # a script beside its page, not a package
"""Write docs/commands.md from the command line itself: `python docs/build_commands.py`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibs_core.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("commands.md")
HEAD = """\
# Commands

Made by `docs/build_commands.py` from the command line itself; a test holds it current.

Every command takes `--help`, `--json` (one JSON document on standard output, nothing else) and `--quiet`
(nothing but errors; with `--json` the document is still printed). What goes wrong is one line on standard
error, `error: subject: expected …, found …, in …; what to do`, and an exit code:

| code | meaning |
|---|---|
| 0 | done |
| 1 | the data are wrong: a finding |
| 2 | the configuration or an option is wrong |
| 3 | a file, a permission, disk space or an optional package is missing |
| 130 | interrupted by Ctrl-C; nothing half-written is left |
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(_section(words, command) for words, command in _commands(cli, ()))])


def _commands(
    command: click.Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None, f"{name!r} is listed and does not exist"
        yield from _commands(below, (*words, name))


def _section(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(("ibs", *words)))
    options = [each for each in command.params if isinstance(each, click.Option)]
    lines = [
        f"## {context.info_name}",
        "",
        inspect.cleandoc(command.help or ""),
        "",
        "```text",
        f"{context.info_name} {' '.join(command.collect_usage_pieces(context))}",
        "```",
        "",
        "| option | meaning |",
        "|---|---|",
        *(_row(option, context) for option in options if not _is_common(option)),
        "",
    ]
    return "\n".join(lines if lines[-2] != "|---|---|" else [*lines[:-3]])


def _is_common(option: click.Option) -> bool:
    return option.opts[0] in ("--json", "--quiet")


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None, f"{option.name!r} is hidden"
    name, meaning = (text.replace("|", "\\|") for text in record)
    return f"| `{name}` | {meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
