"""What happens while live trades, told to whoever subscribes: a screen, a log, a file, a second webhook, a person."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "Board", "Level", "Notice", "Subscriber"]

KINDS: Final = (
    "start",  # the worker is ready
    "stop",  # the worker has ended, and how
    "feed",  # something befell the feed
    "roll",  # a roll became known
    "block",  # entries are blocked for a reason, or no more
    "refused",  # a candidate that a guard or the model kept out, with the reason
    "order",  # an order is in the journal
    "moved",  # an order has moved to another state
    "trade",  # a position is closed
    "command",  # an operator's word was done
    "page",  # a person must look
)
Level = Literal["info", "warning", "page"]
_WAITING_MAX: Final = 100_000
_CLOSING_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    text : str
        One line for people; never a secret.
    time_ns : int, UTC ns
        By the worker's clock.
    level : {"info", "warning", "page"}
    cause : str
        What notices of one cause share, so that a person is called once: ``feed lost``.
    facts : Mapping of str to Any
        JSON values; never a secret.
    """

    kind: str
    text: str
    time_ns: int
    level: Level = "info"
    cause: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Subscriber(Protocol):
    """Somebody who is told."""

    def tell(self, notice: Notice) -> None:
        """Take a notice, on a thread of its own, one after another."""

    def close(self) -> None:
        """Tell what is still to be told, for a few seconds at most, and end."""


class Board:
    """Passes notices on; whoever publishes waits for nobody.

    Each subscriber is told by a thread of its own: a terminal that is held, or a mistake in one of them, keeps neither the
    others nor an order waiting.

    Parameters
    ----------
    *subscribers : Subscriber
    """

    def __init__(self, *subscribers: Subscriber) -> None:
        self._lines = [_Line(each) for each in subscribers]

    @property
    def dropped(self) -> int:
        """How many notices a subscriber never got, because it was too slow or broke."""
        return sum(each.dropped for each in self._lines)

    def publish(self, notice: Notice) -> None:
        """Tell every subscriber, in the order in which notices are published.

        Parameters
        ----------
        notice : Notice
        """
        for each in self._lines:
            each.hand(notice)

    def close(self) -> None:
        """Let every subscriber tell what it has and end; one that does not is left behind."""
        for each in self._lines:
            each.hand(None)
        for each in self._lines:
            each.thread.join(_CLOSING_S)


class _Line:
    """One subscriber, and what waits for it."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._waiting: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self.dropped = 0
        self._is_over = False
        name = f"notices of {type(subscriber).__name__}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def hand(self, notice: Notice | None) -> None:
        if self._is_over:
            return
        self._is_over = notice is None
        if notice is None or self._waiting.qsize() < _WAITING_MAX:
            self._waiting.put(notice)
        else:
            self.dropped += 1

    def _run(self) -> None:
        while (notice := self._waiting.get()) is not None:
            try:
                self._subscriber.tell(notice)
            except Exception:  # noqa: BLE001  (its own mistake; trading goes on)
                self.dropped += 1
        self._subscriber.close()
