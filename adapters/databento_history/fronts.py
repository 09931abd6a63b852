"""Which contract the vendor says is the front of a root, UTC day by UTC day."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from adapters.databento_history.plan import fronts_of
from ibs_core.bars import DAY_NS
from ibs_core.contract_codes import resolve_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.databento_history.vendor import Vendor
    from ibs_core.contracts import ContractMap

__all__ = ["front_days"]

_EPOCH = date(1970, 1, 1)


def front_days(
    vendor: Vendor, contracts: ContractMap, roots: Sequence[str], first_day: int, last_day: int
) -> dict[str, dict[int, str]]:
    """Ask which contract was the front on each UTC day; free.

    Parameters
    ----------
    vendor : Vendor
    contracts : ContractMap
    roots : sequence of str
    first_day, last_day : int, days since 1970-01-01, UTC
        Both included.

    Returns
    -------
    dict of str to dict of int to str
        By root, the contract (``ESZ2025``) of each day that the vendor knows.

    Raises
    ------
    DataError, EnvironmentFault
    """
    first, until = (_EPOCH + timedelta(days=day) for day in (first_day, last_day + 1))
    found: dict[str, dict[int, str]] = {}
    for root in roots:
        days: dict[int, str] = {}
        for begin, over, symbol in fronts_of(vendor, contracts.get(root), first, until):
            for day in range((begin - _EPOCH).days, (over - _EPOCH).days):
                code = resolve_code(symbol, contracts, at_ns=day * DAY_NS)
                days[day] = code.spelling
        found[root] = {day: days[day] for day in sorted(days) if first_day <= day <= last_day}
    return found
