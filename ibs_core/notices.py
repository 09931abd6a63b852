"""What happens while live trades, told to whoever subscribes: a screen, a log, a file, a second webhook, a person."""

from __future__ import annotations

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
        """Take a notice, from any thread, one at a time; it must not wait for anybody."""

    def close(self) -> None:
        """Tell what is still to be told, for a few seconds at most, and end."""


class Board:
    """Passes notices on.

    Parameters
    ----------
    *subscribers : Subscriber
    """

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers = list(subscribers)
        self._guard = threading.RLock()  # the sender calls people from its own thread

    def publish(self, notice: Notice) -> None:
        """Tell every subscriber.

        Parameters
        ----------
        notice : Notice
        """
        with self._guard:
            for each in self._subscribers:
                each.tell(notice)

    def close(self) -> None:
        """Let every subscriber end."""
        with self._guard:
            for each in self._subscribers:
                each.close()
