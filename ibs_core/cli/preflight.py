"""`ibs preflight`: what must hold before `ibs run-live` starts, which asks the same by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError
from ibs_core.preflight import Check, Result, refuse_failed, run_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ibs_core.cli.preflight_start import Start

__all__ = ["live_checks", "preflight", "run_preflight", "say_result"]

_KILL_SWITCH = "kill_switch"
_STYLES = {"passed": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


@click.command()
@options.config_files
@click.option("--symbols", help="Comma-separated roots to trade. Default: the configuration's.")
@click.option("--route", help="Where orders are to go: a route of the configuration, or demo.")
@click.option("--armed", is_flag=True, help="As if orders were to leave; none does.")
@click.option(
    "--journal",
    type=options.PATH,
    default=Path("live/journal.sqlite"),
    show_default=True,
    help="SQLite file of `ibs run-live`.",
)
@click.option(
    "--history",
    multiple=True,
    type=options.PATH,
    help="Bars to warm up from instead of Databento's historical service; repeat it.",
)
@click.option("--gateway", type=options.ADDRESS, help="Another live gateway, for tests.")
@click.option("--skip", multiple=True, help="A check that is not run; repeat it.")
@click.option(
    "--fail-fast/--no-fail-fast",
    default=None,
    help="End with the first failure. Default: preflight.fail_fast of the configuration.",
)
@options.as_json
@options.quiet
def preflight(
    *,
    config: tuple[Path, ...],
    symbols: str | None,
    route: str | None,
    armed: bool,
    journal: Path,
    history: tuple[Path, ...],
    gateway: tuple[str, int] | None,
    skip: tuple[str, ...],
    fail_fast: bool | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Check all that `ibs run-live` needs for a start with these options; no order is sent.

    Exits with the code of the first failure: 1 a finding, 2 the configuration, 3 the environment. Warnings are
    no failures.
    """
    from ibs_core.cli.live_sink import destination_of
    from ibs_core.cli.preflight_start import Start

    settings, contracts = options.settings_of(config)
    roots = options.roots_of(symbols, contracts) or list(settings.symbols)
    if not roots:
        raise ConfigError(
            "symbols", expected="roots to trade", found="none", remedy="give --symbols ES,NQ"
        )
    wanted = settings.preflight.model_copy(
        update={"enabled": True, "skip": (*settings.preflight.skip, *skip)}
        | ({} if fail_fast is None else {"fail_fast": fail_fast})
    )
    settings = settings.model_copy(update={"preflight": wanted})
    destination = destination_of(settings, route, armed=armed, is_replay=False)
    start = Start(settings, contracts, roots, destination, journal, history, gateway, False)
    results = run_preflight(start, tell=None if json_ or quiet else say_result)
    if json_:
        options.say_json([each.to_dict() for each in results])
    refuse_failed(results)


def live_checks(start: Start) -> list[Check]:
    """List the checks of a start, in their order.

    Parameters
    ----------
    start : Start
        Its journal is not open yet: its lock must be free.

    Returns
    -------
    list of Check
    """
    from ibs_core.cli import preflight_data, preflight_orders

    return [
        Check(each.__name__, partial(each, start))
        for each in (
            preflight_orders.kill_switch,
            preflight_orders.models,
            preflight_orders.route,
            preflight_orders.clock,
            preflight_data.market_data,
            preflight_data.reference_data,
            preflight_data.contract_expiry,
            preflight_orders.journal,
            preflight_orders.disk,
            preflight_data.features,
        )
    ]


def run_preflight(start: Start, *, tell: Callable[[Result], None] | None) -> list[Result]:
    """Run the checks of a start as the settings say; a start goes on with `refuse_failed`.

    Parameters
    ----------
    start : Start
        ``preflight.enabled: false`` of its settings skips all but the kill switch of a live route.
    tell : callable or None
        Takes each result as soon as it is there, such as `say_result`.

    Returns
    -------
    list of Result

    Raises
    ------
    ConfigError
        A check to skip that does not exist, or the kill switch of a live route.
    """
    checks, asked = live_checks(start), start.settings.preflight
    is_live = start.destination.is_live
    skip: Collection[str] = asked.skip
    if is_live and _KILL_SWITCH in skip:
        raise ConfigError(
            "preflight.skip",
            expected="the kill switch to be checked where orders are real",
            found=_KILL_SWITCH,
            remedy="remove it, or leave --armed out",
        )
    if not asked.enabled:
        skip = [each.name for each in checks if not (is_live and each.name == _KILL_SWITCH)]
    return run_checks(checks, fail_fast=asked.fail_fast, skip=skip, tell=tell)


def say_result(result: Result) -> None:
    """Print a line on what came of a check."""
    from rich.text import Text

    remedy = f"; {result.remedy}" if result.remedy else ""
    verdict = (result.verdict, _STYLES[result.verdict])
    line = Text.assemble(f"{result.name:<16}", verdict, f": {result.found}{remedy}")
    options.console().print(line, soft_wrap=True)
