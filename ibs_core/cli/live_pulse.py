"""How a run of the worker is, told to monitors from its start to its end."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from ibs_core.cli.live_screen import Screen, say_aloud
from ibs_core.cli.live_stop import Stop, stop_signals
from ibs_core.errors import IbsError
from ibs_core.notices import Board, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ibs_core.cli.live_sink import Destination
    from ibs_core.cli.monitoring import Monitors
    from ibs_core.config import Settings
    from ibs_core.live import Worker
    from ibs_core.preflight import Result

__all__ = ["Pulse", "monitored"]

_TURN_S: Final = 0.2
"""Turns of the loop that follow sooner are not told."""
_OPENING_S: Final = 60.0
"""How long a feed may take to stream before its worker counts as running without it."""


class Pulse:
    """What monitors are told of one run.

    Parameters
    ----------
    monitors : Monitors
    facts : Mapping of str to Any
        What does not change: ``symbols``, ``version``, ``journal``, ``route``, ``armed``.
    screen : Screen
    stop : Stop, optional
        What ends the run from outside.
    replay_speed : float, optional
        Of a replay, market seconds a second; infinite is as fast as it is read. Default: live.
    ticks : callable
        Seconds that never go back.
    """

    def __init__(
        self,
        monitors: Monitors,
        facts: Mapping[str, Any],
        screen: Screen,
        *,
        stop: Stop | None = None,
        replay_speed: float | None = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monitors, self._facts, self._ticks = monitors, facts, ticks
        self.stop = Stop() if stop is None else stop  # one that was not told is false
        self._is_replay = replay_speed is not None
        self._may_outrun = replay_speed is not None and math.isfinite(replay_speed)
        self._status, self._due_s, self._opens_s = "starting", -math.inf, math.inf
        self._details: dict[str, Any] = {"preflight": {"status": "not_run"}, "stage": "start"}
        self._worker: Worker | None = None
        self._paged: list[str] = []
        self._board = Board(screen, *monitors.board_subscribers)

    @property
    def n_pages(self) -> int:
        """How often a person was called."""
        return len(self._paged)

    def publish(self, notice: Notice) -> None:
        """Tell every subscriber; from any thread.

        Parameters
        ----------
        notice : Notice
        """
        if notice.level == "page":
            self._paged.append(notice.cause)
        self._board.publish(notice)
        if self._may_outrun and notice.facts.get("reason") == "absent":
            self._may_outrun = False
            text = "the replay is faster than this machine decides; use a lower --speed, or max"
            self._board.publish(Notice("feed", text, notice.time_ns, "warning"))

    def beat(self) -> None:
        """Tell monitors, where it is time."""
        now_s = self._ticks()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _TURN_S
        if self._worker is not None and self._worker.is_streaming:
            self._opens_s = -math.inf
        # Until the feed streams, entries are blocked; of a start that goes well nobody need be told so.
        is_opening = self._status == "running" and now_s < self._opens_s
        status = "starting" if is_opening else self._status
        for fault in self._monitors.beat(status, self._document, self._mark()):
            text = f"monitoring: {fault}"
            self.publish(Notice("page", text, time.time_ns(), "warning", "monitoring"))

    def enter(self, status: str, stage: str, worker: Worker | None = None) -> None:
        """Come to another stage.

        Parameters
        ----------
        status : str
            ``starting``, ``running``, ``stopping``, ``stopped`` or ``failed``. A worker that runs is told as starting
            until its feed streams, for a minute at most.
        stage : str
            For people.
        worker : Worker, optional
            Whose health is told from now on.
        """
        self._status, self._details["stage"], self._due_s = status, stage, -math.inf
        self._worker = worker or self._worker
        if status == "running":
            self._opens_s = self._ticks() + _OPENING_S
        self.beat()

    def checked(self, results: Sequence[Result]) -> None:
        """Take what the checks before the start found.

        Parameters
        ----------
        results : sequence of Result
        """
        from ibs_core.preflight import details_of

        checked_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._details["preflight"] = details_of(results, checked_at)

    def say(self, kind: str, text: str) -> None:
        """Publish a notice.

        Parameters
        ----------
        kind : {"start", "stop"}
        text : str
        """
        where = (
            "on paper" if not self._facts["armed"] else f"orders to route {self._facts['route']}"
        )
        self.publish(Notice(kind, f"{text}, {where}", time.time_ns(), facts=self._facts))

    def fail(self, message: str) -> None:
        """Tell why the run ends.

        Parameters
        ----------
        message : str
            Never a secret.
        """
        self._details["message"] = message
        text = f"the worker ended: {message}"
        self.publish(Notice("stop", text, time.time_ns(), "page", "worker ended"))
        self.enter("failed", self._details["stage"])

    def interrupted(self) -> None:
        """Tell that somebody ended the run, which is no reason to call anybody."""
        when = "while trading, at once" if self.stop.is_trading else self._details["stage"]
        text = f"stopped by {self.stop.named or 'an interrupt'}: {when}"
        self._details["message"] = text
        self.say("stop", text)
        self.enter("stopped", self._details["stage"])
        with suppress(OSError):  # the terminal may be what went away
            click.echo(f"{text}; the same command goes on", err=True)

    def close(self) -> None:
        """Let every subscriber tell what it has, and end."""
        self._board.close()

    def _mark(self) -> Hashable:
        """Return what a person would act on: its change is told at once."""
        if self._worker is None:
            return None
        standing = self._worker.dispatch.standing()
        return (
            self._worker.is_streaming,
            frozenset(self._worker.trading.blocked),
            standing["gate"],
            tuple(standing["unresolved"]),
            standing["orders"]["last_error"] is None,
        )

    def _document(self) -> dict[str, Any]:
        health = self._worker.health() if self._worker is not None else {}
        if health and self._is_replay:  # market time that is past says nothing of delay
            health["feed"] = {**health["feed"], "lag_ms": None}
        told = {**self._details, "notices_dropped": self._board.dropped}
        return {**self._facts, "details": {**told, **health}}


@contextmanager
def monitored(
    settings: Settings,
    journal: Path,
    roots: Sequence[str],
    destination: Destination,
    *,
    log: Any,
    tell: Callable[[str], None],
    replay_speed: float | None = None,
) -> Iterator[Pulse]:
    """Tell monitors how a run is, and heed signals; what ends it by an error is told as well.

    Parameters
    ----------
    settings : Settings
    journal : Path
    roots : sequence of str
    destination : Destination
    log : {"json", "human"} or None
    tell : callable
        Takes a line for people.
    replay_speed : float, optional
        See `Pulse`.

    Yields
    ------
    Pulse
    """
    from ibs_core import __version__
    from ibs_core.cli.monitoring import monitors_of

    facts = {
        "symbols": list(roots),
        "version": __version__,
        "journal": str(journal),
        "route": destination.name,
        "armed": destination.route is not None,
    }
    # A log is on standard error too, and may be for a machine: a call is a line of it.
    screen = Screen(tell) if log else Screen(tell, say_aloud)
    with stop_signals() as stop:
        monitors = monitors_of(settings, journal, log=log, now=time.time_ns)
        pulse = Pulse(monitors, facts, screen, stop=stop, replay_speed=replay_speed)
        try:
            pulse.beat()
            yield pulse
        except KeyboardInterrupt:
            pulse.interrupted()
            raise
        except IbsError as error:
            pulse.fail(str(error))
            raise
        except BaseException as error:
            pulse.fail(type(error).__name__)
            raise
        finally:
            pulse.close()
