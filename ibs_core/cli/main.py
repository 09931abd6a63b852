"""The `ibs` command: finds the subcommand, and turns errors into one message and an exit code.

Modules of subcommands are imported when they are called, so that help is instant.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from typing import Any

import click

from ibs_core import __version__
from ibs_core.errors import IbsError

__all__ = ["LazyGroup", "cli", "run"]


class LazyGroup(click.Group):
    """A group that knows its subcommands' names and summaries, and imports one when it is called.

    Parameters
    ----------
    lazy : dict of str to tuple of str
        Name -> ("module:attribute", one-line summary).
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they are declared."""
        del ctx
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        if cmd_name not in self._lazy:
            if cmd_name.startswith("-") or ctx.resilient_parsing:
                return None
            near = difflib.get_close_matches(cmd_name, self._lazy, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self._lazy)}"
            raise click.UsageError(f"no such command {cmd_name!r}; {hint}", ctx)
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._lazy.items()])


@click.group(
    cls=LazyGroup,
    lazy={
        "backtest": (
            "ibs_core.cli.backtest:backtest",
            "Back-test minute bars, write trades and a report.",
        ),
        "report": (
            "ibs_core.cli.report:report",
            "Render a run's report again from its folder; compare runs.",
        ),
        "sweep": (
            "ibs_core.cli.sweep:sweep",
            "Try many settings over the same bars; tell the best plateau from luck.",
        ),
        "walk-forward": (
            "ibs_core.cli.walk_forward:walk_forward",
            "Choose parameters window by window, and trade only the sessions that follow.",
        ),
        "monte-carlo": (
            "ibs_core.cli.monte_carlo:monte_carlo",
            "Draw a run's sessions again: bands of drawdown, ruin, and chances under an account's rules.",
        ),
        "data": (
            "ibs_core.cli.data:data",
            "Make sample data; check, describe and list what bars hold.",
        ),
        "check": (
            "ibs_core.cli.check:check",
            "Prove that nothing comes from later bars; measure the history that results need.",
        ),
        "model": (
            "ibs_core.cli.model:model",
            "Make datasets; train, list, show, verify and promote veto models.",
        ),
        "run-live": (
            "ibs_core.cli.run_live:run_live",
            "Trade live, or a recorded day as if it were live; on paper unless armed.",
        ),
        "preflight": (
            "ibs_core.cli.preflight:preflight",
            "Check all that a live start needs; each failure says what to do.",
        ),
        "status": (
            "ibs_core.cli.status:status",
            "Show how a worker is, by its heartbeat; the exit code is for monitors.",
        ),
        "orders": (
            "ibs_core.cli.orders:orders",
            "List orders and their deliveries; resolve what is unknown, retry dead exits.",
        ),
        "halt": (
            "ibs_core.cli.operator:halt",
            "Refuse entries until a resume; with --all nothing leaves.",
        ),
        "flatten": (
            "ibs_core.cli.operator:flatten",
            "Exit open positions at once, and refuse entries until a resume.",
        ),
        "resume": (
            "ibs_core.cli.operator:resume",
            "End what halt and flatten hold back.",
        ),
        "position": (
            "ibs_core.cli.position:position",
            "Show what the book holds; tell it what was closed by hand.",
        ),
        "fills": (
            "ibs_core.cli.fills:fills",
            "Hold a broker's statement against the journal: real slippage, and drift.",
        ),
        "parity": (
            "ibs_core.cli.parity:parity",
            "Run a journal again through the back-test and compare every field.",
        ),
        "replay": (
            "ibs_core.cli.replay:replay",
            "Show what the worker knew and decided at a slice of a journal.",
        ),
        "demo-broker": (
            "ibs_core.cli.demo_broker:demo_broker",
            "Stand in for TradersPost on this machine, to send orders to.",
        ),
        "config": ("ibs_core.cli.config:config", "Show or validate a configuration."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="ibs %(version)s")
def cli() -> None:
    """Trade the internal-bar-strength edge on CME futures; what the back-test shows is what live does."""


def run() -> None:
    """Run the command line; exit 0 ok, 1 finding in the data, 2 usage, 3 environment, 130 interrupted."""
    _start_lightly()
    try:
        cli(prog_name="ibs", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"error: {_in_house_style(error)}", err=True)
        sys.exit(error.exit_code)
    except IbsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing half-written is left", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # what no adapter foresaw: a full disk under the compiled kernels, say
        where = f" {error.filename!r}" if error.filename else ""
        click.echo(f"error: the system refused{where}: {error.strerror or error}", err=True)
        sys.exit(3)
    except MemoryError:
        click.echo("error: out of memory; pass fewer symbols with --symbols", err=True)
        sys.exit(3)


def _start_lightly() -> None:
    # Imports make half a million objects that stay; to search them for garbage is a tenth of a start.
    gc.set_threshold(100_000)
    # In search of plugins pydantic would read the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _in_house_style(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")  # click lists choices a line each
    text = text.replace(". Did you mean", "; did you mean").replace(
        ". Choose from", "; choose from"
    )
    context = error.ctx if isinstance(error, click.UsageError) else None
    more = f"; `{context.command_path} --help` tells more" if context else ""
    return f"{text[:1].lower()}{text[1:]}{more}"
