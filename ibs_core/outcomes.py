"""What became of an attempt, and what keeps entries from a route in trouble.

An outcome is what is known, not what is hoped: a receiver that stores every message and can be asked nothing leaves
many attempts ambiguous.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = [
    "THROTTLE_NS",
    "Breaker",
    "Outcome",
    "Response",
    "after_attempt",
    "after_probe",
    "classify",
    "group_of",
]

Outcome = Literal["NOT_SENT", "THROTTLED", "REFUSED", "AMBIGUOUS", "ACCEPTED"]

_SECOND: Final = 10**9
_NEVER_LEFT: Final = frozenset(
    ("ConnectError", "ConnectTimeout", "PoolTimeout", "LocalProtocolError", "UnsupportedProtocol")
)
_GROUPS: Final = {
    "transport": ("post-required", "empty-json", "malformed-json", "invalid-payload"),
    "access": (
        "invalid-password",
        "not-trading-view",
        "not-trend-spider",
        "invalid-ip-address",
        "invalid-ip-address-format",
        "not-found",
    ),
    "rate": ("too-many-requests",),
    "symbol": (
        "empty-ticker-name",
        "ticker-does-not-exist",
        "unsupported-ticker",
        "invalid-asset-class",
        "invalid-ticker-and-option-type",
    ),
    "order": (
        "invalid-action",
        "invalid-sentiment",
        "invalid-sentiment-action",
        "invalid-order-type",
        "invalid-trailing-stop",
        "invalid-time-in-force",
        "invalid-extended-hours",
        "invalid-expires-at",
        "invalid-message-length",
        "invalid-message-tags",
    ),
    "size": (
        "invalid-quantity",
        "invalid-quantity-type",
        "invalid-quantity-type-action",
        "invalid-quantity-type-for-asset-class",
        "quantity-type-requires-quantity",
        "invalid-risk-dollar-amount-action",
        "invalid-percent-of-position-action",
    ),
    "option": (
        "invalid-option-type",
        "invalid-intrinsic-value",
        "invalid-expiration",
        "invalid-strike-count",
        "invalid-strikes-away",
        "invalid-strike-price",
    ),
}
_GROUP_OF: Final = {code: group for group, codes in _GROUPS.items() for code in codes}
_OF_BRACKETS: Final = ("invalid-take-profit-", "invalid-stop-loss-")
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


def group_of(code: str) -> str:
    """Name what a refusal is about.

    Parameters
    ----------
    code : str
        The receiver's ``messageCode``.

    Returns
    -------
    str
        ``transport``, ``access`` (of the route, not of the order), ``rate``, ``symbol``, ``order``, ``size``,
        ``bracket`` or ``option``; empty for a code that is not known.
    """
    return "bracket" if code.startswith(_OF_BRACKETS) else _GROUP_OF.get(code, "")


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

    @property
    def said(self) -> str:
        """One line for people: outcome, status, the receiver's code and what the code is about."""
        status = "" if self.status is None else f"HTTP {self.status}"
        group = group_of(self.detail)
        about = f"({group})" if group else ""
        return " ".join(filter(None, (self.outcome, status, self.detail, about)))


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
    is_denied = response.outcome == "REFUSED" and group_of(response.detail) == "access"
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
