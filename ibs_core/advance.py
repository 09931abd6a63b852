"""What one call of the engine did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ibs_core import portfolio
from ibs_core.positions import FLAT, LEAVING, OPEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ibs_core.bars import Ints, Records

__all__ = ["Advance", "ends_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Advance:
    """What one call did.

    Attributes
    ----------
    until_ns : int, UTC ns
    bars, signals, rows : dict of str to records
        By root, of the traded symbols with bars that closed: the bars, their signals, and the feature
        rows of the candidates among them.
    decisions, trades : records
        DECISION and TRADE.
    lapsed : dict of str to int
        Entries by root that were decided and came to nothing.
    filled : list of str
        Roots whose entry filled.
    """

    until_ns: int
    bars: dict[str, Records]
    signals: dict[str, Records]
    rows: dict[str, NDArray[np.float64]]
    decisions: Records
    trades: Records
    lapsed: dict[str, int]
    filled: list[str]

    @property
    def is_slice(self) -> bool:
        """Whether a bar closed, something was decided or something ended."""
        return bool(self.bars or len(self.decisions) or len(self.trades) or self.lapsed)


def ends_of(
    roots: Sequence[str], decisions: Records, trades: Records, before: Ints, after: Ints
) -> tuple[dict[str, int], list[str]]:
    """Tell what became of entries.

    Parameters
    ----------
    roots : sequence of str
        By symbol index.
    decisions, trades : records
        DECISION and TRADE of one call.
    before, after : (n_symbols,) int64
        Status of each position.

    Returns
    -------
    dict of str to int
        Entries by root that came to nothing: whatever was begun and is neither a trade nor still there.
    list of str
        Roots whose entry filled.
    """
    lapsed, filled = {}, []
    begun = decisions[
        (decisions["action"] == portfolio.ENTRY) & (decisions["reason"] == portfolio.TAKEN)
    ]
    for i, root in enumerate(roots):
        taken = int(np.count_nonzero(begun["symbol"] == i))
        ended = int(np.count_nonzero(trades["symbol"] == i))
        nothing = int(before[i] != FLAT) + taken - ended - int(after[i] != FLAT)
        if nothing > 0:
            lapsed[root] = nothing
        held, was_held = after[i] in (OPEN, LEAVING), before[i] in (OPEN, LEAVING)
        if ended + int(held) - int(was_held) > 0:
            filled.append(root)
    return lapsed, filled
