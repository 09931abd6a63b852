"""One webhook: who may send, how often, what is refused, what is taken, and a record of all of it."""

from __future__ import annotations

import itertools
import json
import uuid as uuids
from collections import deque
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from adapters.demo_broker.book import Book
from adapters.demo_broker.rules import MESSAGES, payload_of, refusal_of
from adapters.demo_broker.wire import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.demo_broker.faults import Fault
    from adapters.demo_broker.planning import Subscription
    from adapters.demo_broker.rules import Payload
    from adapters.demo_broker.wire import Request

__all__ = ["LIMITS", "PREFIX", "Received", "Webhook"]

PREFIX: Final = "/trading/webhook/"
LIMITS: Final = ((60, 60.0), (500, 3600.0))
"""Signals and the seconds in which so many are taken, per webhook URL."""

_HTML: Final = (("Content-Type", "text/html; charset=UTF-8"),)
_UNSENT: Final = ("no_answer", "close", "reset", "garbage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request that was read whole.

    Parameters
    ----------
    at_s : float, UTC s
    method, path : str
        The path without its password, whether it was the right one or not.
    headers : tuple of tuple of str
        Names in lower case.
    body : bytes
    status : int or None
        Of the answer; None where a fault sent none.
    code : str
        The message code; empty when the signal was in order.
    signal_id : str
        Empty when the signal was not taken.
    """

    at_s: float
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int | None
    code: str = ""
    signal_id: str = ""


class Webhook:
    """A webhook URL with its accounts; not for two threads at once.

    Parameters
    ----------
    uuid, password : str
    accounts : tuple of str
    subscription : Subscription
    price_of : callable or None
    tell : callable
        Takes a line for each signal and each outcome, without secrets.
    """

    def __init__(
        self,
        uuid: str,
        password: str,
        accounts: tuple[str, ...],
        subscription: Subscription,
        price_of: Callable[[str], float | None] | None,
        tell: Callable[[str], None],
    ) -> None:
        self._uuid: Final = uuid
        self._password: Final = password
        self._roots: Final = subscription.roots
        self._tell: Final = tell
        self._taken_s: Final[deque[float]] = deque(maxlen=LIMITS[-1][0])
        self._numbers: Final = itertools.count(1)
        self._n_told = 0, 0
        self.book: Final = Book(accounts, subscription, price_of)
        self.requests: Final[list[Received]] = []
        self.others: Final[list[Received]] = []

    def judge(self, request: Request, fault: Fault | None, now_s: float) -> Answer:
        """Take a signal or refuse it.

        Parameters
        ----------
        request : Request
        fault : Fault or None
            Decides whether the signal is taken, and may give another answer.
        now_s : float, UTC s

        Returns
        -------
        Answer
        """
        self.settle(now_s)
        payload = payload_of(request.body)
        status, code = self._refusal(request, payload, now_s)
        signal_id = ""
        if isinstance(payload, dict) and not code:
            identity, log = self._identity(), self._identity()
            if fault is None or fault.takes:
                signal_id = identity
                lost = fault is not None and fault.kind == "lost"
                self.book.take(identity, payload, now_s, lost=lost)
            answer = json_answer(
                status, {"success": True, "id": identity, "logId": log, "payload": payload}
            )
        else:
            answer = _refused(status, code)
        if fault is not None and fault.kind == "answer":
            answer = _scripted(fault, answer)
        sent = None if fault is not None and fault.kind in _UNSENT else answer.status
        self.requests.append(self._record(request, now_s, sent, code, signal_id))
        what = "taken" if signal_id else f"refused, {code}" if code else "not taken"
        self._tell(f"signal {_brief(payload)}: {what}{f' ({fault.kind})' if fault else ''}")
        return answer

    def page(self, request: Request, now_s: float) -> Answer:
        """Answer what is no signal: positions, orders, requests, and a root to warm connections on.

        Parameters
        ----------
        request : Request
        now_s : float, UTC s

        Returns
        -------
        Answer
        """
        self.settle(now_s)
        document: Any
        if request.target == "/positions":
            document = self.book.positions()
        elif request.target == "/orders":
            document = self.orders()
        elif request.target == "/requests":
            document = [asdict(each) | {"body": _text(each.body)} for each in self.requests]
        else:
            answer = (
                Answer(200, b"", _HTML) if request.target == "/" else _refused(404, "not-found")
            )
            self.others.append(self._record(request, now_s, answer.status))
            return answer
        return json_answer(HTTPStatus.OK, document)

    def orders(self) -> dict[str, list[dict[str, Any]]]:
        """Return trades, fills and working orders as JSON values."""
        return {
            "trades": [asdict(each) for each in self.book.trades],
            "executed": [asdict(each) for each in self.book.fills],
            "working": [asdict(each) for each in self.book.working],
        }

    def settle(self, now_s: float) -> None:
        """Do all that is due by a time, and tell what came of it.

        Parameters
        ----------
        now_s : float, UTC s
        """
        self.book.settle(now_s)
        for fill in self.book.fills[self._n_told[0] :]:
            price = "no price" if fill.price is None else f"{fill.price:g}"
            self._tell(
                f"filled {fill.role} {fill.quantity:+d} {fill.ticker} at {price};"
                f" {fill.account} holds {fill.position:+d}"
            )
        for trade in self.book.ended[self._n_told[1] :]:
            self._tell(f"{trade.status} {trade.action} {trade.ticker}: {trade.reason}")
        self._n_told = len(self.book.fills), len(self.book.ended)

    def _refusal(self, request: Request, payload: Payload | str, now_s: float) -> tuple[int, str]:
        """Return status and message code of a request; no code when it is in order."""
        uuid, _, password = request.target.partition("?")[0].removeprefix(PREFIX).partition("/")
        if request.method != "POST":
            return 400, "post-required"
        if uuid != self._uuid:
            return 404, "not-found"
        if password != self._password:
            return 400, "invalid-password"
        for count, span_s in LIMITS:
            if len(self._taken_s) >= count and self._taken_s[-count] > now_s - span_s:
                return 429, "too-many-requests"
        self._taken_s.append(now_s)
        code = payload if isinstance(payload, str) else refusal_of(payload, self._roots)
        return (400, code) if code else (200, "")

    def _record(
        self, request: Request, now_s: float, status: int | None, code: str = "", found: str = ""
    ) -> Received:
        path = request.target.partition("?")[0]
        if path.startswith(PREFIX):
            path = PREFIX + path.removeprefix(PREFIX).partition("/")[0] + "/…"
        return Received(
            at_s=now_s,
            method=request.method,
            path=path,
            headers=request.headers,
            body=request.body,
            status=status,
            code=code,
            signal_id=found,
        )

    def _identity(self) -> str:
        """Return an id that is the same in every run, so that tests can compare."""
        return str(uuids.uuid5(uuids.NAMESPACE_URL, f"{self._uuid}/{next(self._numbers)}"))


def _refused(status: int, code: str) -> Answer:
    message = MESSAGES.get(code, code.replace("-", " "))
    return json_answer(status, {"success": False, "messageCode": code, "message": message})


def _scripted(fault: Fault, usual: Answer) -> Answer:
    """Return the answer of a fault; what it leaves open is as the vendor sends it."""
    status, body = fault.status, fault.body
    if body is None and status == HTTPStatus.OK:
        return Answer(status, usual.body, usual.headers + fault.headers)
    if body is None and 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT:
        codes = {404: "not-found", 429: "too-many-requests"}
        answer = _refused(status, codes.get(status, "invalid-payload"))
        return Answer(status, answer.body, answer.headers + fault.headers)
    text = f"<html><body>{status}</body></html>" if body is None else body
    plain = _HTML if text.startswith("<") else (("Content-Type", "application/json"),)
    moved = (("Location", "/elsewhere"),) if 300 <= status < 400 else ()
    return Answer(status, text.encode("utf-8"), plain + moved + fault.headers)


def _brief(payload: Payload | str) -> str:
    if isinstance(payload, str):
        return "without a payload"
    words = (payload.get(name, "") for name in ("action", "quantity", "ticker"))
    return " ".join(json.dumps(each).strip('"') for each in words if each != "")


def _text(body: bytes) -> str:
    return body.decode("utf-8", errors="replace")
