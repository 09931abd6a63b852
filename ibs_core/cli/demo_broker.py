"""`ibs demo-broker`: a stand-in for TradersPost on this machine, to send orders to without an account."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.demo_broker import DemoBroker

__all__ = ["demo_broker"]

_LOOK_S = 0.2
_MADE_UP = "local-only"


@click.command("demo-broker")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8377,
    show_default=True,
    help="On 127.0.0.1; 0 takes one that is free.",
)
@click.option(
    "--uuid",
    default="00000000-0000-4000-8000-000000000000",
    show_default=True,
    help="First part of the webhook's path.",
)
@click.option(
    "--password", default=_MADE_UP, show_default=True, help="Second part; yours is never printed."
)
@click.option(
    "--replay", is_flag=True, help="Its time is that of the signals: for a market that is past."
)
@options.as_json
@options.quiet
def demo_broker(
    *, port: int, uuid: str, password: str, replay: bool, json_: bool, quiet: bool
) -> None:
    """Take orders as TradersPost documents it, on this machine only, until Ctrl-C.

    Prints the variable to export for the sender, a line for each signal and each fill, and at the end what is
    held. `/positions`, `/orders` and `/requests` tell the same as JSON. `--json` prints one document at the end,
    and the variable on standard error.
    """
    import time

    from adapters.demo_broker import DemoBroker, MarketClock

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=json_)

    tell = None if json_ else say
    with _stop_signals() as stopped, ExitStack() as stack:
        try:
            broker = stack.enter_context(
                DemoBroker(
                    port=port,
                    uuid=uuid,
                    password=password,
                    clock=MarketClock() if replay else time.time,
                    tell=tell,
                )
            )
        except OSError as error:
            raise EnvironmentFault(
                f"option --port {port}",
                expected="a port that is free",
                found=str(error.strerror).lower(),
                remedy="end what listens there, or pass --port 0 for any that is free",
            ) from None
        url = broker.url if password == _MADE_UP else f"{broker.url.rpartition('/')[0]}/PASSWORD"
        say(f"export TRADERSPOST_WEBHOOK_URL={url}")
        say(f"listening until Ctrl-C; look at {broker.root}/positions, /orders and /requests")
        while not stopped.wait(_LOOK_S):
            broker.settle()
        facts = _facts(broker)
    if json_:
        options.say_json(facts)
        return
    held = ", ".join(f"{n:+d} {ticker}" for ticker, n in facts["positions"].items())
    say(
        f"{facts['signals']} signals, {facts['taken']} taken, {len(facts['executed'])} fills;"
        f" positions: {held or 'none'}"
    )


def _facts(broker: DemoBroker) -> dict[str, Any]:
    requests = broker.requests
    return {
        "signals": len(requests),
        "taken": sum(bool(each.signal_id) for each in requests),
        "positions": broker.positions(),
        **broker.orders(),
    }


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event."""
    stopped = threading.Event()
    kept = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
