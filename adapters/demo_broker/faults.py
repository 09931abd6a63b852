"""What goes wrong between a signal and its answer, and when: a script."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Fault", "FaultKind", "Script"]

FaultKind = Literal[
    "refuse",
    "unanswered",
    "close_unread",
    "reset_unread",
    "no_answer",
    "close",
    "reset",
    "garbage",
    "stall_body",
    "cut_body",
    "slow_body",
    "close_idle",
    "delay",
    "answer",
    "lost",
]
_OF_PORT: Final = ("refuse", "unanswered")
_UNREAD: Final = ("close_unread", "reset_unread")
_TIMED: Final = ("slow_body", "delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, with the first `count` signals that match.

    Signals are numbered from 0 as they arrive; one whose connection ends unread takes a number, too.

    ============= ========================================================================================
    refuse        no connection is accepted from before number `first` on, for `seconds`, or until
                  `DemoBroker.listen`; those that are open end
    unanswered    likewise, but the connection is neither accepted nor refused (a SYN without an answer)
    close_unread  the connection is closed while the request lies unread, which TCP makes a reset
    reset_unread  it is reset while the request lies unread
    no_answer     the request is read, and nothing comes
    close         the request is read, then FIN
    reset         the request is read, then RST
    garbage       the request is read, then bytes that are no HTTP
    stall_body    status 200 and half of the body, then nothing
    cut_body      status 200 and half of the body, then FIN
    slow_body     the body comes byte by byte, one every `seconds`
    close_idle    the answer is as usual, and the connection closes after it without a word
    delay         the answer is as usual, after `seconds`
    answer        another answer: `status`, `headers`, `body`
    lost          the answer is as usual, and the order fails at the broker
    ============= ========================================================================================

    Parameters
    ----------
    kind : FaultKind
    first : int, >= 0
        Signals before this number pass.
    count : int, > 0
    action, ticker : str
        Only signals that hold them; empty for any. Not for faults before the request is read.
    seconds : float, s, >= 0
        Of wall time, which is what a client's timeouts see.
    status : int
        Of ``answer``.
    body : str or None
        Of ``answer``; None for what the vendor sends with this status: JSON with 4xx, HTML with 5xx.
    headers : tuple of tuple of str
        Of ``answer``, more than those of the vendor: ``(("Retry-After", "7"),)``.
    accepts : bool or None
        Whether the signal is taken though its sender cannot know. None: yes where it was read, but for
        ``answer`` only with a status of 200.
    """

    kind: FaultKind
    first: int = 0
    count: int = 1
    action: str = ""
    ticker: str = ""
    seconds: float = 0.0
    status: int = HTTPStatus.OK
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    accepts: bool | None = None

    def __post_init__(self) -> None:
        assert self.first >= 0, self
        assert self.count > 0, self
        assert self.seconds >= 0, self
        assert self.seconds > 0 or self.kind not in _TIMED, self
        assert self.is_read or not (self.action or self.ticker or self.accepts), self
        assert self.kind not in _OF_PORT or self.count == 1, self

    @property
    def is_of_port(self) -> bool:
        """Whether it happens to the port, not to a connection."""
        return self.kind in _OF_PORT

    @property
    def is_read(self) -> bool:
        """Whether the request is read."""
        return self.kind not in (*_OF_PORT, *_UNREAD)

    @property
    def takes(self) -> bool:
        """Whether the signal is taken."""
        if self.accepts is not None:
            return self.accepts
        return self.is_read and (self.kind != "answer" or self.status == HTTPStatus.OK)

    def meets(self, number: int, payload: dict[str, Any]) -> bool:
        """Tell whether it is for a signal.

        Parameters
        ----------
        number : int
        payload : dict of str to Any
            Empty before it is read.

        Returns
        -------
        bool
        """
        return (
            number >= self.first
            and self.action in ("", payload.get("action"))
            and self.ticker in ("", payload.get("ticker"))
        )


class Script:
    """Faults that have not happened yet, in order; the first that matches happens.

    Parameters
    ----------
    faults : Iterable of Fault
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._pending = list(faults)
        self._left = [fault.count for fault in self._pending]

    def add(self, fault: Fault) -> None:
        """Add one at the end.

        Parameters
        ----------
        fault : Fault
        """
        self._pending.append(fault)
        self._left.append(fault.count)

    def of_port(self, number: int) -> Fault | None:
        """Take the fault of the port before a signal.

        Parameters
        ----------
        number : int
            Of the next signal.
        """
        return self._take(lambda fault: fault.is_of_port and number >= fault.first)

    def unread(self, number: int) -> Fault | None:
        """Take the fault of a connection on which a signal lies.

        Parameters
        ----------
        number : int
        """
        return self._take(
            lambda fault: not fault.is_of_port and not fault.is_read and fault.meets(number, {})
        )

    def read(self, number: int, payload: dict[str, Any]) -> Fault | None:
        """Take the fault of a signal that was read.

        Parameters
        ----------
        number : int
        payload : dict of str to Any
        """
        return self._take(lambda fault: fault.is_read and fault.meets(number, payload))

    def _take(self, matches: Callable[[Fault], bool]) -> Fault | None:
        for i, fault in enumerate(self._pending):
            if matches(fault):
                self._left[i] -= 1
                if self._left[i] == 0:
                    del self._pending[i], self._left[i]
                return fault
        return None
