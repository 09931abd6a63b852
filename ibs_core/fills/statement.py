"""A broker's statement as CSV to fills; nothing is guessed, every refusal names its line."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ibs_core.contract_codes import resolve_code
from ibs_core.errors import DataError
from ibs_core.fills.matching import NANO, Fill

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from ibs_core.contracts import ContractMap

__all__ = ["COLUMNS", "instant_of", "read_statement"]

COLUMNS: Final = {
    "time": ("timestamp", "datetime", "date/time", "fill time", "exec time", "execution time"),
    "contract": ("symbol", "instrument", "ticker"),
    "side": ("b/s", "buy/sell", "action"),
    "quantity": ("qty", "size", "filled qty", "filled quantity"),
    "price": ("fill price", "avg price", "average price", "execution price"),
    "commission": ("commissions",),
}
"""Names of a statement's columns, and what else each may be called."""
_SIDES: Final = {
    **dict.fromkeys(("buy", "b", "bot", "bought"), 1),
    **dict.fromkeys(("sell", "s", "sld", "sold"), -1),
}
_CANONICAL: Final = ",".join(COLUMNS)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST: Final = 10**9


def read_statement(text: str, contracts: ContractMap, zone: tzinfo | None) -> list[Fill]:
    """Read a statement.

    Parameters
    ----------
    text : str
        CSV with a header: ``time,contract,side,quantity,price,commission`` in any order, the last optional,
        others ignored.
    contracts : ContractMap
    zone : tzinfo or None
        Of times without an offset.

    Returns
    -------
    list of Fill
        As they stand.

    Raises
    ------
    DataError
        A column is missing or stands twice, or a row cannot be read; the line is named.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows, [])
        places = _places(header)
        found = []
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise _refused(rows.line_num, "row", f"{len(header)} columns", f"{len(row)}")
            cells = {name: row[place].strip() for name, place in places.items()}
            found.append(_fill(rows.line_num, cells, contracts, zone))
    except csv.Error as error:
        raise _refused(rows.line_num, "row", "CSV", str(error)) from error
    return found


def instant_of(text: str, zone: tzinfo | None) -> int:
    """Read an instant.

    Parameters
    ----------
    text : str
        ISO 8601, date and time.
    zone : tzinfo or None
        Of a time without an offset.

    Returns
    -------
    int, UTC ns

    Raises
    ------
    ValueError
        It is none, has neither an offset nor a zone, or is before 1970.
    """
    if not re.match(r"\d{4}-?\d\d-?\d\d[T ]\d\d", text):
        raise ValueError(text)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        if zone is None:
            raise ValueError(text)
        at = at.replace(tzinfo=zone)
    if at < _EPOCH:
        raise ValueError(text)
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _places(header: Sequence[str]) -> dict[str, int]:
    """Find the columns: a name of ours first, else the one column that is called otherwise."""
    names = [" ".join(re.findall(r"[a-z/]+", name.lower())) for name in header]
    found = {}
    for column, others in COLUMNS.items():
        places = [i for i, name in enumerate(names) if name == column]
        places = places or [i for i, name in enumerate(names) if name in others]
        if len(places) == 1:
            found[column] = places[0]
        elif places or column != "commission":
            also = ", ".join(others)
            raise DataError(
                f"column {column!r} of the statement",
                expected=f"one in the header, also called {also}",
                found=f"{len(places)} in {','.join(header)!r}",
                where="line 1",
                remedy=f"make the header {_CANONICAL}, separated by commas; the last may be missing",
            )
    return found


def _fill(line: int, cells: dict[str, str], contracts: ContractMap, zone: tzinfo | None) -> Fill:
    try:
        time_ns = instant_of(cells["time"], zone)
    except (ValueError, OverflowError):
        expected = "date and time such as 2025-12-01T15:00:02-06:00"
        remedy = "without an offset it needs --zone America/Chicago"
        raise _refused(line, "time", expected, repr(cells["time"]), remedy) from None
    side = _SIDES.get(cells["side"].lower())
    if side is None:
        raise _refused(line, "side", "buy or sell", repr(cells["side"]))
    quantity_nano = _nano(line, "quantity", cells["quantity"])
    if quantity_nano <= 0 or quantity_nano % NANO:
        raise _refused(line, "quantity", "a whole number above 0", repr(cells["quantity"]))
    commission = cells.get("commission")
    commission_nano = _nano(line, "commission", commission) if commission else None
    if commission_nano is not None and commission_nano < 0:
        raise _refused(line, "commission", "USD paid for the row, 0 or more", repr(commission))
    return Fill(
        line=line,
        time_ns=time_ns,
        instrument=_contract(line, cells["contract"], contracts, time_ns),
        side=side,
        quantity=quantity_nano // NANO,
        price_nano=_nano(line, "price", cells["price"]),
        commission_nano=commission_nano,
    )


def _contract(line: int, code: str, contracts: ContractMap, time_ns: int) -> str:
    try:
        found = resolve_code(code, contracts, at_ns=time_ns)
    except DataError as error:
        raise DataError(
            f"contract: {error.subject}",
            expected=error.expected,
            found=error.found,
            where=f"line {line}",
            remedy=error.remedy or "leave out rows of what is not traded here",
        ) from error
    if found.form != "outright":
        expected = "a contract with its month, such as ESZ2025 or ESZ5"
        raise _refused(line, "contract", expected, repr(code))
    return found.spelling


def _nano(line: int, column: str, text: str) -> int:
    """Read a number exactly, in units of 1e-9."""
    number = Decimal(text) if re.fullmatch(r"-?\d+(\.\d*)?", text, re.ASCII) else None
    if number is None or abs(number) >= _LARGEST:
        remedy = "write it with a point and without separators or signs of currency"
        raise _refused(line, column, "a number such as 5912.25", repr(text), remedy)
    return round(number * NANO)


def _refused(line: int, what: str, expected: str, found: str, remedy: str = "") -> DataError:
    return DataError(what, expected=expected, found=found, where=f"line {line}", remedy=remedy)
