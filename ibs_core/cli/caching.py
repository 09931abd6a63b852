"""The options of the bar cache, which several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from ibs_core.bar_cache import Shelf

__all__ = ["Caching", "caching"]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Caching:
    """What a user said of the bar cache.

    Attributes
    ----------
    off, verify : bool
    silent : bool
        Nothing is told of it.
    """

    off: bool
    verify: bool
    silent: bool

    def shelf(self) -> Shelf | None:
        """Return the shelf to use, or None."""
        if self.off:
            return None
        from ibs_core.bar_cache import default_shelf

        return default_shelf(verify=self.verify, tell=self._tell)

    def _tell(self, what: str) -> None:
        # Never among the warnings of a run, whose bytes do not depend on the cache.
        if not self.silent:
            click.echo(f"note: {what}", err=True)


def caching(function: _F) -> _F:
    """Add ``--no-cache`` and ``--cache verify``; the function takes both as `cache`."""

    @click.option("--no-cache", is_flag=True, help="Read the bars anew, and keep nothing.")
    @click.option(
        "--cache",
        type=click.Choice(["verify"]),
        help="Take kept bars only after their bytes, and those of the data, were compared.",
    )
    @functools.wraps(function)
    def with_cache(*, no_cache: bool, cache: str | None, **given: Any) -> Any:
        if no_cache and cache:
            raise click.UsageError("--no-cache and --cache exclude each other")
        silent = given["json_"] or given["quiet"]
        return function(cache=Caching(no_cache, cache == "verify", silent), **given)

    return cast("_F", with_cache)
