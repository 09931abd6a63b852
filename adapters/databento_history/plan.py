"""A span of sessions cut into requests: a month of one root each, of the contracts that were its front."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from adapters.databento_history.vendor import Request
from ibs_core.bars import DAY_NS
from ibs_core.errors import DataError
from ibs_core.sessions import load_sessions, session_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adapters.databento_history.vendor import Vendor
    from ibs_core.contracts import Contract, ContractMap

__all__ = ["Piece", "fronts_of", "lead_in", "make_plan", "plan_sessions"]

_AROUND: Final = timedelta(days=5)
"""A contract is fetched in the month before it becomes the front, too, when that is so near: the roll rule
compares the volumes of the session before."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One request, and the name of the file that keeps its answer.

    Parameters
    ----------
    root : str
    request : Request
    """

    root: str
    request: Request

    @property
    def file_name(self) -> str:
        """``ES-ohlcv-1m-20240102T2300-20240201T0000.dbn.zst``: the span is part of it."""
        span = "-".join(
            f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y%m%dT%H%M}"
            for ns in (self.request.start_ns, self.request.end_ns)
        )
        return f"{self.root}-{self.request.schema}-{span}.dbn.zst"


def plan_sessions(contract: Contract, first: date, last: date) -> tuple[int, int]:
    """Return the span of whole sessions.

    Parameters
    ----------
    contract : Contract
    first, last : datetime.date
        Trade dates, both included.

    Returns
    -------
    start_ns, end_ns : int, UTC ns
        [open of the first, close of the last).

    Raises
    ------
    DataError
        No session between them.
    """
    epoch = date(1970, 1, 1)
    days = np.array([(first - epoch).days, (last - epoch).days], np.int64)
    around = load_sessions(contract.session, int(days[0]) * DAY_NS, int(days[1] + 1) * DAY_NS)
    inside = np.flatnonzero((around.trade_date >= days[0]) & (around.trade_date <= days[1]))
    if not inside.size:
        raise DataError(
            f"no session of {contract.root}",
            expected="an open market",
            found=f"{first} to {last}",
            remedy="name trade dates",
        )
    return int(around.open_ns[inside[0]]), int(around.close_ns[inside[-1]])


def lead_in(contract: Contract, start_ns: int) -> int:
    """Return where to fetch from: the roll rule needs the session before the first one.

    Parameters
    ----------
    contract : Contract
    start_ns : int, UTC ns

    Returns
    -------
    int, UTC ns
        The open of the session before the one of `start_ns`.
    """
    sessions = load_sessions(contract.session, start_ns, start_ns)
    return int(sessions.open_ns[int(session_index(sessions, np.array([start_ns]))[0]) - 1])


def make_plan(
    vendor: Vendor,
    contracts: ContractMap,
    roots: Sequence[str],
    schema: str,
    spans: Sequence[tuple[int, int]],
) -> list[Piece]:
    """Cut spans into months of each root; asks for symbols and availability only, which is free.

    Parameters
    ----------
    vendor : Vendor
    contracts : ContractMap
    roots : sequence of str
    schema : str
    spans : sequence of tuple of (int, int), UTC ns
        [start, end) of each root; what is not available is left out, the session before the start
        is added.

    Returns
    -------
    list of Piece

    Raises
    ------
    DataError
        A root has no vendor symbol, or no contract in its span.
    """
    pieces: list[Piece] = []
    for root, (start_ns, end_ns) in zip(roots, spans, strict=True):
        contract = contracts.get(root)
        if not contract.dataset:
            raise DataError(f"{root} is no future", remedy="take it from another source")
        since_ns, until_ns = vendor.available(contract.dataset, schema)
        first_ns = max(lead_in(contract, start_ns), since_ns)
        months = list(_months(first_ns, min(end_ns, until_ns)))
        if not months:
            continue
        fronts = fronts_of(
            vendor,
            contract,
            max(_day(months[0][0]) - _AROUND, _day(since_ns)),
            min(_day(months[-1][1]) + _AROUND, _day(until_ns - 1) + timedelta(days=1)),
        )
        for begin_ns, stop_ns in months:
            low, high = _day(begin_ns) - _AROUND, _day(stop_ns) + _AROUND
            names = [name for begin, over, name in fronts if begin <= high and low < over]
            if not names:
                raise DataError(f"no contract of {root}", where=f"{_day(begin_ns)}")
            symbols = tuple(dict.fromkeys(names))
            request = Request(contract.dataset, schema, symbols, begin_ns, stop_ns)
            pieces.append(Piece(root, request))
    return pieces


def fronts_of(
    vendor: Vendor, contract: Contract, first: date, until: date
) -> list[tuple[date, date, str]]:
    """Tell which contract was the front when; continuous names give ids only.

    Parameters
    ----------
    vendor : Vendor
    contract : Contract
    first, until : datetime.date
        UTC days of [first, until).

    Returns
    -------
    list of (datetime.date, datetime.date, str)
        [first, until) and the exchange's name of each front contract.
    """
    series, dataset = contract.continuous, contract.dataset
    by_id = vendor.resolve(dataset, [series], "continuous", "instrument_id", first, until).get(
        series, []
    )
    ids = list(dict.fromkeys(each.symbol for each in by_id))
    named = vendor.resolve(dataset, ids, "instrument_id", "raw_symbol", first, until)
    return [
        (max(each.first, name.first), min(each.until, name.until), name.symbol)
        for each in by_id
        for name in named.get(each.symbol, [])
        if each.first < name.until and name.first < each.until
    ]


def _months(start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
    while start_ns < end_ns:
        day = _day(start_ns)
        following = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        stop_ns = min((following - date(1970, 1, 1)).days * DAY_NS, end_ns)
        yield start_ns, stop_ns
        start_ns = stop_ns


def _day(ns: int) -> date:
    return date(1970, 1, 1) + timedelta(days=ns // DAY_NS)
