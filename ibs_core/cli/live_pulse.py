"""How a run of the worker is, told to monitors from its start to its end."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ibs_core.cli.live_screen import Screen
from ibs_core.errors import IbsError
from ibs_core.notices import Board, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ibs_core.cli.live_sink import Destination
    from ibs_core.cli.monitoring import Monitors
    from ibs_core.config import Settings
    from ibs_core.live import Worker
    from ibs_core.preflight import Result

__all__ = ["Pulse", "monitored"]

_TURN_S: Final = 0.2
"""Turns of the loop that follow sooner are not told."""


class Pulse:
    """What monitors are told of one run.

    Parameters
    ----------
    monitors : Monitors
    facts : Mapping of str to Any
        What does not change: ``symbols``, ``version``, ``journal``, ``route``, ``armed``.
    tell : callable
        Takes a line for people.
    """

    def __init__(
        self, monitors: Monitors, facts: Mapping[str, Any], tell: Callable[[str], None]
    ) -> None:
        self._monitors, self._facts, self._tell = monitors, facts, tell
        self._status, self._due_s = "starting", 0.0
        self._details: dict[str, Any] = {"preflight": {"status": "not_run"}, "stage": "start"}
        self._worker: Worker | None = None
        self.board = Board(Screen(tell), *monitors.board_subscribers)

    def beat(self) -> None:
        """Tell monitors, where it is time."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + _TURN_S
            for fault in self._monitors.beat(self._status, self._document):
                self._tell(f"monitoring: {fault}")

    def enter(self, status: str, stage: str, worker: Worker | None = None) -> None:
        """Come to another stage.

        Parameters
        ----------
        status : str
            ``starting``, ``running``, ``stopping``, ``stopped`` or ``failed``.
        stage : str
            For people.
        worker : Worker, optional
            Whose health is told from now on.
        """
        self._status, self._details["stage"], self._due_s = status, stage, 0.0
        self._worker = worker or self._worker
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
        where = "on paper" if not self._facts["armed"] else f"orders to route {self._facts['route']}"
        self.board.publish(Notice(kind, f"{text}, {where}", time.time_ns(), facts=self._facts))

    def fail(self, message: str) -> None:
        """Tell why the run ends.

        Parameters
        ----------
        message : str
            Never a secret.
        """
        self._details["message"] = message
        text = f"the worker ended: {message}"
        self.board.publish(Notice("stop", text, time.time_ns(), "page", "worker ended"))
        self.enter("failed", self._details["stage"])

    def _document(self) -> dict[str, Any]:
        health = self._worker.health() if self._worker is not None else {}
        return {**self._facts, "details": {**self._details, **health}}


@contextmanager
def monitored(
    settings: Settings,
    journal: Path,
    roots: Sequence[str],
    destination: Destination,
    *,
    log: Any,
    tell: Callable[[str], None],
) -> Iterator[Pulse]:
    """Tell monitors how a run is; what ends it by an error is told as well.

    Parameters
    ----------
    settings : Settings
    journal : Path
    roots : sequence of str
    destination : Destination
    log : {"json", "human"} or None
    tell : callable
        Takes a line for people.

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
    pulse = Pulse(monitors_of(settings, journal, log=log, now=time.time_ns), facts, tell)
    pulse.beat()
    try:
        yield pulse
    except IbsError as error:
        pulse.fail(str(error))
        raise
    except BaseException as error:
        pulse.fail(type(error).__name__)
        raise
    finally:
        pulse.board.close()
