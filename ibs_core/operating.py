"""How live is operated: waits, routes, checks, monitoring. No part of the rule, and nothing that a back-test knows."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ibs_core.config_values import Count, Duration, Frozen, section
from ibs_core.killswitch import kept
from ibs_core.secret import PLAIN

__all__ = [
    "FILE",
    "Alerts",
    "KillSwitch",
    "Live",
    "Monitoring",
    "Preflight",
    "Route",
    "Routes",
]

_SECOND = 10**9

FILE: Final = "file"
"""The route that is none: orders are written beside the journal."""


def _variable(name: str) -> str:
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", name) is None:
        raise ValueError("expected the NAME of an environment variable in capitals, without ${}")
    return name


def _route_name(name: str) -> str:
    if name == FILE:
        raise ValueError("expected another name: `file` is where orders go without a webhook")
    if PLAIN.fullmatch(name) is None:
        raise ValueError(
            "expected a route's name: a small letter, then small letters, digits, _ and -, 32 at most"
        )
    return name


Variable = Annotated[str, AfterValidator(_variable)]
"""The name of an environment variable; what it holds is never in the configuration."""
KillSwitch = Annotated[object, AfterValidator(kept)]


class Live(Frozen):
    """How long live waits."""

    grace: Duration = 20 * _SECOND
    late: Duration = 30 * _SECOND
    stale: Duration = 90 * _SECOND
    entry_life: Duration = 10 * _SECOND


class Route(Frozen):
    """A webhook to which orders are posted: of the stand-in, of a paper subscription, or of one that trades for real."""

    kind: Literal["demo", "paper", "live"]
    webhook: Variable = "TRADERSPOST_WEBHOOK_URL"
    env_file: str | None = None

    @model_validator(mode="after")
    def _real_orders_go_where_somebody_wrote(self) -> Route:
        if self.kind == "live" and "webhook" not in self.model_fields_set:
            raise ValueError(
                "expected `webhook:`, the NAME of its variable: kind live has no default"
            )
        return self


def _one_kind_each(routes: dict[str, Route]) -> dict[str, Route]:
    """Refuse a word that says paper of the very webhook that another route calls live."""
    known: dict[tuple[str, str | None], tuple[str, str]] = {}
    for name, route in routes.items():
        other, kind = known.setdefault((route.webhook, route.env_file), (name, route.kind))
        if kind != route.kind:
            raise ValueError(
                f"expected a webhook of its own for each kind: {other} ({kind}) and {name}"
                f" ({route.kind}) read the same variable"
            )
    return routes


Routes = Annotated[
    dict[Annotated[str, AfterValidator(_route_name)], Route],
    BeforeValidator(section),
    AfterValidator(_one_kind_each),
]


class Preflight(Frozen):
    """What is checked before the first order may leave."""

    enabled: bool = True
    fail_fast: bool = True
    skip: tuple[str, ...] = ()


class Monitoring(Frozen):
    """What tells how the worker is; null is off."""

    heartbeat: str | None = None
    heartbeat_every: Duration = 30 * _SECOND
    metrics_port: Annotated[Count, Field(le=65535)] | None = None
    events: str | None = None
    webhook: Variable | None = None
    env_file: str | None = None


class Alerts(Frozen):
    """Who is called; the addresses are secrets, one a line in an environment variable."""

    addresses: Variable = "IBS_ALERT_URLS"
    env_file: str | None = None
    every: Duration = 300 * _SECOND
