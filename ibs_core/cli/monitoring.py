"""What tells how a worker is, composed as the settings say."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from adapters.monitoring.alerts import Alerts
    from adapters.monitoring.event_file import EventFile
    from adapters.monitoring.event_webhook import EventWebhook
    from adapters.monitoring.heartbeat import HeartbeatFile
    from adapters.monitoring.log import Log
    from adapters.monitoring.metrics import Metrics
    from adapters.monitoring.systemd import Systemd
    from ibs_core.config import Settings
    from ibs_core.notices import Subscriber
    from ibs_core.operating import Alerts as AlertSettings

__all__ = ["Monitors", "heartbeat_of", "monitors_of"]

_LOOK_NS: Final = 5 * 10**9
"""How often metrics are brought up to date."""


def heartbeat_of(journal: Path) -> Path:
    """Return where the heartbeat of a journal's worker is, unless the settings say otherwise.

    Parameters
    ----------
    journal : Path

    Returns
    -------
    Path
    """
    return journal.with_suffix(".heartbeat.json")


class Monitors:
    """Everything that tells how a worker is.

    Parameters
    ----------
    heartbeat : HeartbeatFile
    systemd : Systemd
    now : callable
        Returns UTC ns by the machine's clock, also in a replay.
    log : Log, optional
    events : EventFile, optional
    metrics : Metrics, optional
    webhook : EventWebhook, optional
    alerts : Alerts, optional
    """

    def __init__(
        self,
        heartbeat: HeartbeatFile,
        systemd: Systemd,
        now: Callable[[], int],
        *,
        log: Log | None = None,
        events: EventFile | None = None,
        metrics: Metrics | None = None,
        webhook: EventWebhook | None = None,
        alerts: Alerts | None = None,
    ) -> None:
        from adapters.monitoring.pace import Pace

        self._heartbeat, self._systemd, self._now = heartbeat, systemd, now
        self._metrics, self._alerts, self._webhook = metrics, alerts, webhook
        self._pace = Pace(_LOOK_NS)
        self._faulty = [each for each in (systemd, log, events, webhook, alerts) if each]
        self._told: set[str] = set()
        given: tuple[Subscriber | None, ...] = (log, events, metrics, webhook, alerts)
        self.board_subscribers: list[Subscriber] = [each for each in given if each is not None]
        """For the `Board`, which closes them."""

    def beat(
        self, status: str, document: Callable[[], Mapping[str, Any]], mark: Hashable = None
    ) -> list[str]:
        """Tell how the worker is where it is time; the loop that trades calls this at every turn.

        Parameters
        ----------
        status : str
            ``starting``, ``running``, ``stopping``, ``stopped`` or ``failed``.
        document : callable
            Returns ``symbols``, ``version``, ``journal``, ``route``, ``armed`` and ``details``; called only when it
            is time. Status, time, host and process are added.
        mark : hashable
            What else is told at once when it changes.

        Returns
        -------
        list of str
            Faults of monitoring itself that are new: for a person, and no reason to stop.
        """
        now_ns = self._now()
        once = cache(lambda: {**document(), "monitoring": self._standing()})
        faults = {self._heartbeat.beat(status, once, now_ns, mark)}
        if self._metrics is not None and self._pace.is_due(now_ns, (status, mark)):
            self._metrics.beat(status, once(), now_ns)
        if self._alerts is not None:
            self._alerts.beat()
        self._systemd.beat(status)
        faults |= {each.fault for each in self._faulty}
        new = sorted(faults - self._told - {""})
        self._told = faults
        return new

    def close(self) -> None:
        """Close the subscribers, if the board has not."""
        for each in self.board_subscribers:
            each.close()

    def _standing(self) -> dict[str, Any]:
        return {
            "webhook": self._webhook.counts() if self._webhook else None,
            "alerts": self._alerts.counts() if self._alerts else None,
        }


def monitors_of(
    settings: Settings,
    journal: Path,
    *,
    log: Literal["json", "human"] | None,
    now: Callable[[], int],
) -> Monitors:
    """Make what the settings ask for.

    Parameters
    ----------
    settings : Settings
    journal : Path
        Of the worker.
    log : {"json", "human"} or None
        Form of a log on standard error.
    now : callable
        Returns UTC ns by the machine's clock, also in a replay.

    Returns
    -------
    Monitors
        Threads and a port among it: it must be closed.

    Raises
    ------
    ConfigError
        An address is missing or of another form.
    EnvironmentFault
        A port is taken, a file or the heartbeat cannot be written, a secret can be read by others, an extra is missing.
    """
    try:
        from adapters.monitoring.heartbeat import HeartbeatFile
        from adapters.monitoring.systemd import Systemd

        asked = settings.monitoring
        place = Path(asked.heartbeat) if asked.heartbeat else heartbeat_of(journal)
        with ExitStack() as stack:
            parts = _subscribers(settings, log, now, stack)
            monitors = Monitors(
                HeartbeatFile(place, asked.heartbeat_every), Systemd(), now, **parts
            )
            stack.pop_all()
    except ImportError as error:
        raise EnvironmentFault(
            "monitoring needs an extra", found=str(error), remedy="pip install 'ibs[live]'"
        ) from None
    return monitors


def _subscribers(
    settings: Settings,
    log: Literal["json", "human"] | None,
    now: Callable[[], int],
    stack: ExitStack,
) -> dict[str, Any]:
    """Make those that are asked for; what is made is closed when the next cannot be."""
    asked = settings.monitoring
    parts: dict[str, Any] = {}

    def add(name: str, part: Subscriber) -> None:
        stack.callback(part.close)
        parts[name] = part

    if log is not None:
        from adapters.monitoring.log import Log

        add("log", Log(sys.stderr, log))
    if asked.events is not None:
        from adapters.monitoring.event_file import EventFile

        add("events", EventFile(Path(asked.events)))
    if asked.metrics_port is not None:
        from adapters.monitoring.metrics import Metrics

        add("metrics", Metrics(asked.metrics_port))
    if asked.webhook is not None:
        from adapters.monitoring.event_webhook import EventWebhook
        from ibs_core.secret import secret_of

        url = secret_of(
            asked.webhook, _path(asked.env_file), "webhook of events", "monitoring.env_file"
        )
        add("webhook", EventWebhook(url))
    if addresses := _addresses(settings.alerts):
        from adapters.monitoring.alerts import Alerts

        add("alerts", Alerts(addresses, settings.alerts.every, now))
    return parts


def _addresses(asked: AlertSettings) -> list[str]:
    """Return whom to call; nobody, where neither the variable nor a file is given."""
    from ibs_core.secret import secret_of

    if asked.env_file is None and not os.environ.get(asked.addresses, "").strip():
        return []
    file = _path(asked.env_file)
    return secret_of(asked.addresses, file, "addresses of alerts", "alerts.env_file").split()


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
