"""Which contract of a root is in force on a trade date of the generated sample data.

The rules are the sample data's own, simpler than a roll by volume: quarterly cycles (HMUZ) roll 8 days
before the third Friday of the delivery month, all others on the 15th of the month before it, each at
the open of the first session whose trade date is not earlier.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.contracts import MONTH_LETTERS

if TYPE_CHECKING:
    from ibs_core.contracts import Contract

__all__ = ["contract_code", "deliveries", "roll_date"]

Ints = NDArray[np.int64]
QUARTERLY: Final = "HMUZ"
_EPOCH: Final = date(1970, 1, 1)


def deliveries(contract: Contract, trade_date: Ints) -> Ints:
    """Return the delivery month in force on each trade date.

    Parameters
    ----------
    contract : Contract
    trade_date : (n,) int64, days since 1970-01-01, increasing, n > 0

    Returns
    -------
    (n,) int64, 12 * year + month - 1
        Never decreasing; all 0 for an index, which has no contracts.
    """
    if not contract.months:
        return np.zeros(trade_date.size, dtype=np.int64)
    ends = (_EPOCH + timedelta(days=int(day)) for day in trade_date[[0, -1]])
    first, last = (each.year for each in ends)
    months = [MONTH_LETTERS.index(letter) for letter in contract.months]
    listed = sorted(12 * year + month for year in range(first, last + 3) for month in months)
    rolls = [(roll_date(contract.months, each) - _EPOCH).days for each in listed]
    return np.array(listed, dtype=np.int64)[np.searchsorted(rolls, trade_date, side="right")]


def roll_date(months: str, delivery: int) -> date:
    """Return the first trade date on which a contract is no longer in force.

    Parameters
    ----------
    months : str
        Delivery months of the root.
    delivery : int
        12 * year + month - 1 of the contract.
    """
    if months != QUARTERLY:
        return date((delivery - 1) // 12, (delivery - 1) % 12 + 1, 15)
    middle = date(delivery // 12, delivery % 12 + 1, 15)
    third_friday = middle + timedelta(days=(4 - middle.weekday()) % 7)
    return third_friday - timedelta(days=8)


def contract_code(contract: Contract, delivery: int) -> str:
    """Return ``ESZ25`` for a delivery month, the root for an index."""
    if not contract.months:
        return contract.root
    return f"{contract.root}{MONTH_LETTERS[delivery % 12]}{delivery // 12 % 100:02d}"
