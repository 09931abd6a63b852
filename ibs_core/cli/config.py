"""`ibs config`: show the settings that a run would use, or only validate them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibs_core.cli import options

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["config"]


@click.group()
def config() -> None:
    """Show or validate a configuration."""


@config.command()
@options.config_files
@options.as_json
@options.quiet
def show(*, config: tuple[Path, ...], json_: bool, quiet: bool) -> None:
    """Print the resolved settings: the defaults under the given files."""
    from ibs_core.config import load_settings, resolved_yaml

    settings = load_settings(config)
    if json_:
        options.say_json(settings.model_dump(mode="json", by_alias=True))
    elif not quiet:
        click.echo(resolved_yaml(settings), nl=False)


@config.command()
@options.config_files
@options.as_json
@options.quiet
def validate(*, config: tuple[Path, ...], json_: bool, quiet: bool) -> None:
    """Check every key, value, symbol, filter and time; exit 2 with the fault, 0 when all hold."""
    from ibs_core.universe import check_settings

    settings, contracts = options.settings_of(config)
    checked = check_settings(settings, contracts)
    if json_:
        options.say_json({"valid": True, "symbols": checked})
    elif not quiet:
        click.echo(f"valid; symbols: {', '.join(checked) or 'those of the data'}")
