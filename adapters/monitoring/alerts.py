"""People are called, through whichever messengers their addresses name; one line a cause, not too often."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import apprise

from adapters.monitoring.courier import Courier
from adapters.monitoring.document import document_of
from adapters.monitoring.pace import Pace
from ibs_core.errors import ConfigError
from ibs_core.secret import silence_clients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibs_core.notices import Level, Notice

__all__ = ["Alerts"]

_TYPES: Final = {"warning": apprise.NotifyType.WARNING, "page": apprise.NotifyType.FAILURE}


@dataclass(frozen=True, slots=True)
class _Call:
    level: Level
    title: str
    line: str


@dataclass(slots=True)
class _Cause:
    """What was told of a cause, and what was held back since."""

    pace: Pace
    held: int = 0
    last: _Call | None = None


class Alerts:
    """Calls people for pages, and for warnings that name a cause; a `Subscriber`.

    The first notice of a cause leaves at once. Those that follow sooner than `every_ns` are held back; then the last
    of them leaves, with their number. Pages and warnings of one cause are told apart, so that a warning never
    holds back a page.

    Parameters
    ----------
    addresses : sequence of str
        URLs of apprise; secrets.
    every_ns : int, nanoseconds
    now : callable
        Returns the time, ns.
    pauses_s : sequence of float, seconds
        Before each further attempt.

    Raises
    ------
    ConfigError
        No messenger knows an address; the message does not hold it.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        every_ns: int,
        now: Callable[[], int],
        *,
        pauses_s: Sequence[float] = (2.0, 10.0),
    ) -> None:
        silence_clients()
        self._every_ns, self._now = every_ns, now
        self._host = socket.gethostname()
        self._causes: dict[tuple[str, str], _Cause] = {}
        self._guard = threading.Lock()
        messengers = [_messenger(each, i) for i, each in enumerate(addresses, start=1)]
        # A thread for each address: one that is slow or away keeps nobody else waiting.
        self._couriers = [
            Courier(f"alerts to address {i}", _carrier(each), pauses_s=pauses_s)
            for i, each in enumerate(messengers, start=1)
        ]

    def __repr__(self) -> str:
        return f"Alerts({len(self._couriers)} addresses)"

    @property
    def fault(self) -> str:
        """What went wrong with the last call of each address; nothing when all were delivered."""
        return "; ".join(each.fault for each in self._couriers if each.fault)

    def counts(self) -> dict[str, int]:
        """Tell what became of calls.

        Returns
        -------
        dict of str to int
            As of `Courier`, all addresses together.
        """
        parts = [each.counts() for each in self._couriers]
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def tell(self, notice: Notice) -> None:
        """Call people, unless they were called for this just now.

        Parameters
        ----------
        notice : Notice
        """
        if notice.level == "info" or (notice.level == "warning" and not notice.cause):
            return
        said = document_of(notice)
        cause = notice.cause or notice.kind
        call = _Call(
            notice.level,
            f"ibs on {self._host}: {notice.level}, {cause}",
            f"{said['time']} {said['text']}",
        )
        with self._guard:
            known = self._causes.setdefault((notice.level, cause), _Cause(Pace(self._every_ns)))
            if known.pace.is_due(self._now()):
                self._call(known, call)
            else:
                known.held, known.last = known.held + 1, call

    def beat(self) -> None:
        """Tell what was held back, once its time has come; the loop that trades calls this."""
        with self._guard:
            for key, known in list(self._causes.items()):
                if known.pace.is_due(self._now()):
                    if known.last is None:
                        del self._causes[key]
                    else:
                        self._call(known, known.last)

    def close(self) -> None:
        """Tell what was held back, and deliver what is waiting, for a few seconds at most."""
        with self._guard:
            for known in self._causes.values():
                if known.last is not None:
                    self._call(known, known.last)
        for each in self._couriers:
            each.close()

    def _call(self, known: _Cause, call: _Call) -> None:
        if earlier := known.held - (call is known.last):
            call = _Call(call.level, call.title, f"{call.line} (and {earlier} more before)")
        known.held, known.last = 0, None
        for each in self._couriers:
            each.hand(call)


def _messenger(address: str, number: int) -> apprise.Apprise:
    messenger = apprise.Apprise(asset=apprise.AppriseAsset(app_id="ibs", app_desc="ibs"))
    try:
        is_known = messenger.add(address)
    except Exception:  # noqa: BLE001  (plug-ins raise what they like, and their text holds the address)
        is_known = False
    if not is_known:
        raise ConfigError(
            f"address {number} of alerts",
            expected="a URL that apprise knows, such as mailto://… or discord://…",
            found="another form, not shown because it may be a secret",
        )
    return messenger


def _carrier(messenger: apprise.Apprise) -> Callable[[_Call], str]:
    def carry(call: _Call) -> str:
        is_done = messenger.notify(body=call.line, title=call.title, notify_type=_TYPES[call.level])
        return "" if is_done else "not delivered"

    return carry
