"""Where the orders of `ibs run-live` go: a file on paper, or the webhook of a route that is armed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.bars import MINUTE_NS
from ibs_core.errors import ConfigError
from ibs_core.operating import FILE, Route
from ibs_core.secret import HIDDEN, PLAIN, is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from adapters.sqlite_journal import SqliteJournal
    from adapters.traderspost.webhook import Webhook
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.notices import Notice
    from ibs_core.outbox import Page
    from ibs_core.ports import Clock, OrderSink
    from ibs_core.universe import Symbol

__all__ = [
    "LOCAL_LIVE",
    "Destination",
    "destination_of",
    "facts_of_destination",
    "locks_folder",
    "sink_of",
    "trading_of",
    "webhook_to",
]

LOCAL_LIVE: Final = "IBS_ALLOW_LOCAL_LIVE"
"""The environment variable that lets a route of kind live post to this machine: for drills and tests."""
_DEMO: Final = "demo"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where orders go.

    Attributes
    ----------
    name : str
        Of the route; ``file`` is a file beside the journal.
    route : Route or None
        None: the file.
    """

    name: str
    route: Route | None

    @property
    def is_live(self) -> bool:
        """Whether orders are real."""
        return self.route is not None and self.route.kind == "live"


def destination_of(
    settings: Settings, name: str | None, *, armed: bool, is_replay: bool
) -> Destination:
    """Tell where orders go: without ``--armed`` into a file, whatever the route.

    Parameters
    ----------
    settings : Settings
    name : str, optional
        Of a route.
    armed : bool
    is_replay : bool
        The market is past.

    Returns
    -------
    Destination

    Raises
    ------
    ConfigError
        No such route, nothing to arm, or real orders for a market that is past.
    """
    route = None if name in (None, FILE) else _route(settings, str(name))
    if armed and route is None:
        raise ConfigError(
            "option --armed",
            expected="--route NAME: of `routes` in the configuration, or demo",
            found=f"--route {name}, which is a file" if name else "no --route",
            remedy="name the route, or leave --armed out",
        )
    if armed and route is not None and route.kind == "live" and is_replay:
        raise ConfigError(
            f"route {name!r}",
            expected="a route of kind paper or demo for --replay: its market is past",
            found="kind live",
            remedy="leave --replay out, or name another route",
        )
    return Destination(str(name), route) if armed else Destination(FILE, None)


def _route(settings: Settings, name: str) -> Route:
    if name in settings.routes:
        return settings.routes[name]
    if name == _DEMO:
        return Route(kind="demo")
    known = f"one of {', '.join((*settings.routes, _DEMO, FILE))}"
    if PLAIN.fullmatch(name):
        remedy = "add it to `routes` in the configuration"
        raise ConfigError(f"route {name!r}", expected=known, found="no such route", remedy=remedy)
    remedy = "name a route; a secret would now be in your shell's history: rotate it"
    if is_secret(name):
        remedy = "it looks like an address, which is now in your shell's history: rotate it"
    raise ConfigError("option --route", expected=known, found=HIDDEN, remedy=remedy)


def facts_of_destination(destination: Destination) -> dict[str, str]:
    """Tell a journal where its orders go, so that exits follow their entries.

    Parameters
    ----------
    destination : Destination

    Returns
    -------
    dict of str to str
        ``route``, ``kind``, and ``webhook``, which tells one strategy of the receiver from another and no secret:
        a changed password leaves it as it is.

    Raises
    ------
    ConfigError, EnvironmentFault
        As `webhook_to`.
    """
    name, route = destination.name, destination.route
    if route is None:
        return {"route": name, "kind": FILE, "webhook": ""}
    return {"route": name, "kind": route.kind, "webhook": webhook_to(name, route).key}


def sink_of(
    destination: Destination,
    engine: Engine,
    settings: Settings,
    contracts: ContractMap,
    *,
    paper: Path,
    journal: SqliteJournal,
    clock: Clock,
    is_replay: bool,
    is_patient: bool,
    publish: Callable[[Notice], None],
) -> OrderSink:
    """Open the place where orders go.

    Parameters
    ----------
    destination : Destination
    engine : Engine
    settings : Settings
    contracts : ContractMap
    paper : Path
        File of orders on paper.
    journal : SqliteJournal
    clock : Clock
    is_replay : bool
        Waits are of market time.
    is_patient : bool
        Market time stands still until an order was tried.
    publish : callable
        Given a `Notice`.

    Returns
    -------
    OrderSink

    Raises
    ------
    ConfigError, EnvironmentFault
        No secret, one of another form, or another process sends to the webhook.
    """
    if destination.route is None:
        from adapters.paper_sink import PaperSink

        return PaperSink(paper, journal, clock, strategy="ibs", contracts=contracts)
    from adapters.traderspost import TradersPostSink
    from ibs_core.delivery import entry_life_ns
    from ibs_core.notices import Notice

    def call(page: Page) -> None:
        facts = {"order_id": page.order_id, "cause": page.cause}
        # A cause of its own for each order: the call for one must not hide the call for another.
        cause = f"{page.cause} {page.order_id}".strip()
        publish(Notice("page", page.text, clock.now_ns(), "page", cause, facts))

    bar_ns = min(symbol.rule.tf_ns for symbol in engine.symbols)
    return TradersPostSink(
        webhook_to(destination.name, destination.route),
        journal,
        clock,
        strategy="ibs",
        contracts=contracts,
        trading=trading_of(engine.symbols),
        page=call,
        locks=locks_folder(),
        life_ns=entry_life_ns(bar_ns, settings.live.entry_life),
        ticks=clock.now_ns if is_replay else time.monotonic_ns,
        is_patient=is_patient,
    )


def webhook_to(name: str, route: Route) -> Webhook:
    """Read the webhook of a route.

    Parameters
    ----------
    name : str
    route : Route

    Returns
    -------
    Webhook

    Raises
    ------
    ConfigError, EnvironmentFault
        No secret, one of another form, the stand-in on another machine, or real orders on this one.
    """
    from pathlib import Path

    from adapters.traderspost import webhook_of

    webhook = webhook_of(name, route.webhook, Path(route.env_file) if route.env_file else None)
    if route.kind == "demo" and not webhook.is_loopback:
        raise ConfigError(
            f"webhook of route {name!r}",
            expected="an address on this machine: the route is of kind demo",
            found="another machine",
            remedy="start `ibs demo-broker` and export the variable that it prints",
        )
    if route.kind == "live" and webhook.is_loopback and os.environ.get(LOCAL_LIVE) != "1":
        raise ConfigError(
            f"webhook of route {name!r}",
            expected="an address of TradersPost: the route is of kind live",
            found="this machine",
            remedy=f"write the strategy's URL into {route.webhook}; {LOCAL_LIVE}=1 is for drills only",
        )
    return webhook


def locks_folder() -> Path:
    """Return where senders of this user lock their webhooks.

    Returns
    -------
    Path
    """
    from platformdirs import user_state_path

    return user_state_path("ibs") / "locks"


def trading_of(symbols: Iterable[Symbol]) -> Callable[[int], Collection[str]]:
    """Tell whose market is open and stays so for a while: the receiver keeps orders of others until it opens.

    Parameters
    ----------
    symbols : iterable of Symbol

    Returns
    -------
    callable
        Given UTC ns, returns roots whose market is open throughout this minute and the next.
    """
    from ibs_core.sessions import outside

    known, asked = {symbol.root: symbol.sessions for symbol in symbols}, (-1, frozenset[str]())

    def trading(now_ns: int) -> Collection[str]:
        nonlocal asked
        minute_ns = now_ns // MINUTE_NS * MINUTE_NS
        if asked[0] != minute_ns:
            span = np.array([minute_ns, minute_ns + 2 * MINUTE_NS - 1], np.int64)
            is_open = (root for root, each in known.items() if not outside(each, span).any())
            asked = minute_ns, frozenset(is_open)
        return asked[1]

    return trading
