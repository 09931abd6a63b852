"""Databento's historical service behind a port of five calls, so that all above it runs without a key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import databento
import numpy as np
import requests
from databento.common.error import BentoError, BentoHttpError

from ibs_core.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["DatabentoVendor", "Interval", "Request", "Vendor"]

_T = TypeVar("_T")
_ATTEMPTS: Final = 6
_WAIT_MAX_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Request:
    """What one download holds.

    Parameters
    ----------
    dataset, schema : str
    symbols : tuple of str
        The exchange's own names.
    start_ns, end_ns : int, UTC ns
        [start, end).
    """

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Interval:
    """What a symbol stood for on some UTC days.

    Parameters
    ----------
    first, until : datetime.date
        [first, until).
    symbol : str
    """

    first: date
    until: date
    symbol: str


class Vendor(Protocol):
    """What is asked of the service. Every call raises EnvironmentFault or DataError when it is refused."""

    def cost_usd(self, request: Request) -> float:
        """Return what a download will cost."""

    def n_records(self, request: Request) -> int:
        """Return how many records it will hold."""

    def fetch(self, request: Request, path: Path) -> None:
        """Download into a file that does not exist yet; what fails may leave a part of it."""

    def resolve(
        self,
        dataset: str,
        symbols: Sequence[str],
        stype_in: str,
        stype_out: str,
        first: date,
        until: date,
    ) -> dict[str, list[Interval]]:
        """Return what symbols stood for on the UTC days of [first, until)."""

    def available(self, dataset: str, schema: str) -> tuple[int, int]:
        """Return the span for which there are data, [start, end), UTC ns."""


class DatabentoVendor:
    """The service itself; each call waits as long as the service asks for when it is called too often.

    Parameters
    ----------
    key : str
    client : databento.Historical, optional
        Default: made of the key.
    wait : callable
        Waits some seconds.

    Raises
    ------
    EnvironmentFault
        No key.
    """

    def __init__(
        self, key: str, client: Any = None, wait: Callable[[float], object] = time.sleep
    ) -> None:
        if not key:
            raise EnvironmentFault(
                "no Databento API key",
                expected="the environment variable DATABENTO_API_KEY",
                found="nothing",
                remedy="set it to a key of your account; ibs reads secrets from nowhere else",
            )
        self._key = key
        self._client = client or databento.Historical(key)
        self._wait = wait

    def cost_usd(self, request: Request) -> float:
        """Return what a download will cost.

        Parameters
        ----------
        request : Request

        Returns
        -------
        float, USD
        """
        return float(self._ask(self._client.metadata.get_cost, **_facts(request)))

    def n_records(self, request: Request) -> int:
        """Return how many records a download will hold.

        Parameters
        ----------
        request : Request

        Returns
        -------
        int
        """
        return int(self._ask(self._client.metadata.get_record_count, **_facts(request)))

    def fetch(self, request: Request, path: Path) -> None:
        """Download into a file that does not exist yet.

        Parameters
        ----------
        request : Request
        path : Path
        """
        self._ask(self._client.timeseries.get_range, **_facts(request), path=path)

    def resolve(
        self,
        dataset: str,
        symbols: Sequence[str],
        stype_in: str,
        stype_out: str,
        first: date,
        until: date,
    ) -> dict[str, list[Interval]]:
        """Return what symbols stood for on the UTC days of [first, until).

        Parameters
        ----------
        dataset : str
        symbols : sequence of str
        stype_in, stype_out : str
        first, until : datetime.date

        Returns
        -------
        dict of str to list of Interval
            Without those that stood for nothing.
        """
        answer = self._ask(
            self._client.symbology.resolve,
            dataset=dataset,
            symbols=list(symbols),
            stype_in=stype_in,
            stype_out=stype_out,
            start_date=first,
            end_date=until,
        )
        return {
            symbol: [
                Interval(date.fromisoformat(each["d0"]), date.fromisoformat(each["d1"]), each["s"])
                for each in intervals
                if each["s"]
            ]
            for symbol, intervals in answer["result"].items()
        }

    def available(self, dataset: str, schema: str) -> tuple[int, int]:
        """Return the span for which there are data.

        Parameters
        ----------
        dataset, schema : str

        Returns
        -------
        start_ns, end_ns : int, UTC ns
        """
        answer = self._ask(self._client.metadata.get_dataset_range, dataset=dataset)
        span = answer.get("schema", {}).get(schema, answer)
        return _ns(span["start"]), _ns(span["end"])

    def _ask(self, call: Callable[..., _T], **facts: Any) -> _T:
        for attempt in range(_ATTEMPTS):
            try:
                return call(**facts)
            except BentoHttpError as error:
                passes = error.http_status == 429 or error.http_status >= 500
                if not passes or attempt == _ATTEMPTS - 1:
                    raise self._refused(error) from None
                self._wait(_wait_s(error, attempt))
            except (BentoError, requests.RequestException, OSError) as error:
                raise EnvironmentFault(
                    "Databento's answer did not arrive",
                    found=self._told(str(error)),
                    remedy="run it again: what is complete is kept",
                ) from None
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, error: BentoHttpError) -> DataError | EnvironmentFault:
        found = self._told(" ".join(str(error).split()))
        if error.http_status in (401, 402, 403):
            remedy = "check DATABENTO_API_KEY and what the account is entitled to"
            return EnvironmentFault("Databento refuses the account", found=found, remedy=remedy)
        if error.http_status == 429 or error.http_status >= 500:
            remedy = "run it again later: what is complete is kept"
            return EnvironmentFault("Databento does not answer", found=found, remedy=remedy)
        return DataError("Databento refuses the request", found=found)

    def _told(self, text: str) -> str:
        return text.replace(self._key, "…")


def _facts(request: Request) -> dict[str, Any]:
    return {
        "dataset": request.dataset,
        "schema": request.schema,
        "symbols": list(request.symbols),
        "stype_in": "raw_symbol",
        "start": request.start_ns,
        "end": request.end_ns,
    }


def _wait_s(error: BentoHttpError, attempt: int) -> float:
    asked = {name.lower(): value for name, value in error.headers.items()}.get("retry-after", "")
    wait_s = float(asked) if str(asked).isdigit() else 2.0**attempt
    return min(wait_s, _WAIT_MAX_S)


def _ns(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z").partition("+")[0], "ns").astype(np.int64))
