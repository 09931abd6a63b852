"""How live is operated: waits, routes, checks, monitoring. No part of the rule, and nothing that a back-test knows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ibs_core.config_values import Count, Duration, Frozen

__all__ = ["Alerts", "Live", "Monitoring", "Preflight", "Route"]

_SECOND = 10**9

Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""The name of an environment variable; what it holds is never in the configuration."""


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
