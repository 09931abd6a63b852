"""What became of an attempt, and what keeps entries from a route in trouble.

An outcome is what is known, not what is hoped: a receiver that stores every message and can be asked nothing leaves
many attempts ambiguous.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = [
    "ACCESS_CODES",
    "THROTTLE_NS",
    "Breaker",
    "Outcome",
    "Response",
    "after_attempt",
    "after_probe",
    "classify",
]

Outcome = Literal["NOT_SENT", "THROTTLED", "REFUSED", "AMBIGUOUS", "ACCEPTED"]

_SECOND: Final = 10**9
_NEVER_LEFT: Final = frozenset(
    ("ConnectError", "ConnectTimeout", "PoolTimeout", "LocalProtocolError", "UnsupportedProtocol")
)
ACCESS_CODES: Final = frozenset(
    (
        "invalid-password",
        "not-trading-view",
        "not-trend-spider",
        "invalid-ip-address",
        "invalid-ip-address-format",
        "not-found",
    )
)
"""Refusals of the route, not of the order."""
_PROBE_NS: Final = _SECOND
"""Between two trials of a route in trouble."""
THROTTLE_NS: Final = 5 * _SECOND
"""After the first refusal for too many messages; it grows by as much with each, to three times."""
_TROUBLES_THAT_OPEN: Final = 3


def classify(fault: str, status: int | None, *, is_success: bool = False) -> Outcome:
    """Tell what is known of an attempt.

    Parameters
    ----------
    fault : str
        Name of the exception that ended it; empty without one.
    status : int or None
        Of HTTP, also where the body was lost after it.
    is_success : bool
        The body was read and says so.

    Returns
    -------
    Outcome
    """
    if status is None:
        return "NOT_SENT" if fault in _NEVER_LEFT else "AMBIGUOUS"
    if status == 200:
        return "ACCEPTED" if is_success and not fault else "AMBIGUOUS"
    if status == 429:
        return "THROTTLED"
    return "REFUSED" if 300 <= status < 500 and status != 408 else "AMBIGUOUS"


@dataclass(frozen=True, slots=True)
class Response:
    """How an attempt ended.

    Parameters
    ----------
    outcome : Outcome
    status : int or None
        Of HTTP.
    detail : str
        The exception's name or the receiver's code; never a secret.
    signal_id, log_id : str
        The receiver's own.
    retry_after_ns : int or None
        How long the receiver asks to be left alone.
    """

    outcome: Outcome
    status: int | None = None
    detail: str = ""
    signal_id: str = ""
    log_id: str = ""
    retry_after_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Breaker:
    """What keeps entries from a route in trouble.

    Parameters
    ----------
    troubles_ns : tuple of int, UTC ns
        Attempts of the last minute that did not get through.
    opened_ns : int, UTC ns
        Since when entries wait; 0: they do not.
    rests_until_ns : int, UTC ns
        Before then the route is not tried without an order.
    is_half : bool
        The probe succeeded: one entry may try.
    """

    troubles_ns: tuple[int, ...] = ()
    opened_ns: int = 0
    rests_until_ns: int = 0
    is_half: bool = False

    @property
    def is_shut(self) -> bool:
        """Whether no entry may leave."""
        return self.opened_ns > 0 and not self.is_half


def after_attempt(breaker: Breaker, response: Response, now_ns: int, *, is_entry: bool) -> Breaker:
    """Return the breaker after an attempt.

    Parameters
    ----------
    breaker : Breaker
    response : Response
    now_ns : int, UTC ns
    is_entry : bool

    Returns
    -------
    Breaker
    """
    if response.outcome == "ACCEPTED":
        return Breaker()
    is_denied = response.outcome == "REFUSED" and response.detail in ACCESS_CODES
    is_trouble = response.outcome in ("NOT_SENT", "THROTTLED")
    if not (is_trouble or is_denied):
        return breaker
    recent = (*(ns for ns in breaker.troubles_ns if now_ns - ns < 60 * _SECOND), now_ns)
    breaker = replace(breaker, troubles_ns=recent if is_trouble else breaker.troubles_ns)
    if (
        is_denied
        or len(breaker.troubles_ns) >= _TROUBLES_THAT_OPEN
        or breaker.is_half
        or (is_entry and response.outcome == "THROTTLED")
    ):
        rest_ns = THROTTLE_NS if response.outcome == "THROTTLED" else _PROBE_NS
        until_ns = now_ns + (response.retry_after_ns or rest_ns)
        opened_ns = breaker.opened_ns or now_ns
        return replace(breaker, opened_ns=opened_ns, rests_until_ns=until_ns, is_half=False)
    return breaker


def after_probe(breaker: Breaker, now_ns: int, *, is_reached: bool) -> Breaker:
    """Return the breaker after the route was tried without an order.

    Parameters
    ----------
    breaker : Breaker
    now_ns : int, UTC ns
    is_reached : bool

    Returns
    -------
    Breaker
    """
    if not breaker.opened_ns:
        return breaker
    return replace(breaker, rests_until_ns=now_ns + _PROBE_NS, is_half=is_reached)
