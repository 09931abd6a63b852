"""The text half of the protocol: lines of ``key=value`` joined with ``|``, read without forgiveness."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from databento_dbn import ErrorCode

from adapters.databento_gateway.records import BAR_SCHEMA, TRADE_SCHEMA

__all__ = ["Login", "Refused", "Request", "read_login", "read_request"]

_LOGIN_KEYS: Final = {
    "auth",
    "client",
    "compression",
    "dataset",
    "details",
    "encoding",
    "heartbeat_interval_s",
    "slow_reader_behavior",
    "ts_out",
}
_REQUEST_KEYS: Final = {"id", "is_last", "schema", "snapshot", "start", "stype_in", "symbols"}
_SCHEMAS: Final = (BAR_SCHEMA, TRADE_SCHEMA)
_STYPES: Final = ("raw_symbol", "continuous", "parent", "instrument_id")
_SYMBOLS_MAX: Final = 500
_HEARTBEAT_S: Final = (5, 1800)
_TAIL: Final = 5  # characters of the key that follow the digest, so that the vendor finds the key


class Refused(Exception):  # noqa: N818 -- what the client did wrong is no error of ours
    """The client broke the protocol; it is told and disconnected.

    Parameters
    ----------
    text : str
        For the client; never a secret.
    code : int
        Of `databento_dbn.ErrorCode`; used once the stream is binary.
    """

    def __init__(self, text: str, code: int = ErrorCode.INVALID_SUBSCRIPTION) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


@dataclass(frozen=True, slots=True)
class Login:
    """What a client asked for when it authenticated.

    Parameters
    ----------
    ts_out : bool
        Append the time of sending to every record.
    heartbeat_s : int, s
    """

    ts_out: bool
    heartbeat_s: int


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a subscription.

    Parameters
    ----------
    schema : {"ohlcv-1m", "trades"}
    stype_in : {"raw_symbol", "continuous", "parent", "instrument_id"}
    symbols : tuple of str
    start_ns : int or None, UTC ns
        Replay from here; 0: from the earliest that is kept.
    number : str
    is_last : bool
        No further line of this subscription follows.
    """

    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start_ns: int | None
    number: str
    is_last: bool


def read_login(line: str, challenge: str, key: str, dataset: str) -> Login:
    """Read the answer to the challenge.

    Parameters
    ----------
    line : str
    challenge : str
    key : str
        The one that is accepted.
    dataset : str
        The one that is served.

    Returns
    -------
    Login

    Raises
    ------
    Refused
    """
    fields = _fields(line, _LOGIN_KEYS)
    if "auth" not in fields:
        raise Refused("Authentication required", ErrorCode.AUTH_FAILED)
    digest = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest()
    if not hmac.compare_digest(fields["auth"], f"{digest}-{key[-_TAIL:]}"):
        raise Refused("Authentication failed.", ErrorCode.AUTH_FAILED)
    if fields.get("dataset") != dataset:
        raise Refused(f"Unknown dataset {fields.get('dataset')!r}, {dataset} is served here")
    for name, served in (("encoding", "dbn"), ("compression", "none")):
        if fields.get(name, served) != served:
            raise Refused(f"{name} {fields[name]!r} is not served here, only {served}")
    first, last = _HEARTBEAT_S
    heartbeat = fields.get("heartbeat_interval_s", "30")
    if not (heartbeat.isdecimal() and first <= int(heartbeat) <= last):
        raise Refused(f"heartbeat_interval_s must be between {first} and {last}")
    return Login(_choice(fields, "ts_out", ("0", "1"), "0") == "1", int(heartbeat))


def read_request(line: str) -> Request | None:
    """Read a line after the login.

    Parameters
    ----------
    line : str

    Returns
    -------
    Request or None
        None for ``start_session``.

    Raises
    ------
    Refused
    """
    if line.startswith("start_session="):
        return None
    fields = _fields(line, _REQUEST_KEYS)
    schema = _choice(fields, "schema", _SCHEMAS)
    stype_in = _choice(fields, "stype_in", _STYPES)
    symbols = tuple(fields.get("symbols", "").split(","))
    if not all(symbols) or len(symbols) > _SYMBOLS_MAX:
        raise Refused(f"symbols must name 1 to {_SYMBOLS_MAX} symbols")
    start = fields.get("start", "0")
    if not start.isdecimal():
        raise Refused(f"start must be UNIX nanoseconds, not {start!r}")
    if _choice(fields, "snapshot", ("0", "1"), "0") == "1":
        raise Refused(f"snapshots do not exist for {schema}")
    return Request(
        schema,
        stype_in,
        symbols,
        int(start) if "start" in fields else None,
        fields.get("id", "0"),
        _choice(fields, "is_last", ("0", "1"), "1") == "1",
    )


def _choice(
    fields: dict[str, str], name: str, allowed: tuple[str, ...], default: str | None = None
) -> str:
    value = fields.get(name, default)
    if value not in allowed:
        raise Refused(f"{name} {value!r} is not served here, only {', '.join(allowed)}")
    return value


def _fields(line: str, known: set[str]) -> dict[str, str]:
    pairs = [part.partition("=") for part in line.split("|")]
    names = [name for name, _, _ in pairs]
    wrong = [name for name, equals, _ in pairs if name not in known or not equals]
    if wrong or len(set(names)) < len(names):
        raise Refused(f"Unknown or repeated field {(wrong or names)[0]!r}")
    return {name: value for name, _, value in pairs}
