"""What a symbol in a file, a feed or an order names, in any spelling in use.

``resolve_code`` is the only reader of contract codes, ``ContractCode.spelling`` the only writer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from ibs_core.contracts import MONTH_LETTERS, NANO, ContractMap
from ibs_core.errors import DataError

__all__ = ["GRACE_MONTHS", "ContractCode", "resolve_code"]

# No contract trades after its delivery month; one month more admits late stamps and settlements.
GRACE_MONTHS = 1
_OUTRIGHT = re.compile(r"([A-Z0-9]+)([A-Z])((?:19|20)\d\d|\d\d?)", re.ASCII)
_SERIES = re.compile(r"([A-Z0-9]+)\.(?:([CNV])\.(\d+)|FUT)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ContractCode:
    """What a symbol in a file, a feed or an order names.

    Parameters
    ----------
    root : str
    year, month : int or None
        Delivery month of an outright (four digits; 1 to 12), else None.
    form : {"root", "outright", "continuous", "parent"}
    """

    root: str
    year: int | None
    month: int | None
    form: Literal["root", "outright", "continuous", "parent"]

    @property
    def spelling(self) -> str:
        """``ESZ2025`` for an outright, the root for all else."""
        if self.year is None or self.month is None:
            return self.root
        return f"{self.root}{MONTH_LETTERS[self.month - 1]}{self.year}"


def resolve_code(code: str, contracts: ContractMap, *, at_ns: int | None = None) -> ContractCode:
    """Read a symbol in any spelling that exchanges, feeds and files use.

    Roots ``ES``, outrights ``ESZ5``, ``ESZ25``, ``ESZ2025``, series ``ES.v.0``, ``ES.c.0``,
    ``ES.n.0``, ``ES.FUT``; any case, blanks around, one slash before. Two digits: 70 to 99 are
    19xx. One digit: the first such contract whose delivery month is not before the month of
    ``at_ns`` less ``GRACE_MONTHS``.

    Parameters
    ----------
    code : str
    contracts : ContractMap
    at_ns : int, UTC nanoseconds, optional
        When the symbol was in use; a one-digit year needs it.

    Raises
    ------
    UnknownSymbolError
        The root is not in the map.
    DataError
        A spread, an option, a back month's series, no delivery month, or a year without its date.
    """
    now = None
    if at_ns is not None:
        at = datetime.fromtimestamp(at_ns // NANO, tz=UTC)
        now = 12 * at.year + at.month - 1
    return _resolve(code.strip().upper().removeprefix("/"), contracts, now)


@lru_cache(maxsize=4096)
def _resolve(code: str, contracts: ContractMap, now: int | None) -> ContractCode:
    if code in contracts.contracts:
        return ContractCode(code, None, None, "root")
    series, outright = _SERIES.fullmatch(code), _OUTRIGHT.fullmatch(code)
    if match := series or outright:
        contract = contracts.contracts.get(match[1])
        if contract is None:
            raise contracts.unknown(match[1] if series else code)
        if contract.kind == "index":
            raise _refused(code, f"{contract.root} is an index and has no contracts")
        if outright:
            return _outright(code, contract.root, outright[2], outright[3], now)
        if int(match[3] or 0) > 0:
            raise _refused(code, "only the front contract's series may stand for the root")
        return ContractCode(contract.root, None, None, "continuous" if match[2] else "parent")
    if re.fullmatch("[A-Z0-9]*", code):
        raise contracts.unknown(code)
    raise _refused(code, "spreads, options and vendors' own codes are not traded")


def _outright(code: str, root: str, letter: str, digits: str, now: int | None) -> ContractCode:
    month = MONTH_LETTERS.find(letter) + 1
    if month == 0:
        raise _refused(code, f"{letter!r} is none of the delivery months {MONTH_LETTERS}")
    year = int(digits)
    if len(digits) == 2:
        year += 1900 if year >= 70 else 2000
    elif len(digits) == 1:
        if now is None:
            raise _refused(code, "a year of one digit needs a date beside it")
        earliest = now - GRACE_MONTHS
        year = earliest // 12 + (year - earliest // 12) % 10
        year += 0 if 12 * year + month - 1 >= earliest else 10
    return ContractCode(root, year, month, "outright")


def _refused(code: str, why: str) -> DataError:
    forms = "a root, an outright (ESZ5, ESZ25, ESZ2025) or a front series (ES.v.0, ES.FUT)"
    return DataError("symbol cannot be used", expected=forms, found=repr(code), remedy=why)
