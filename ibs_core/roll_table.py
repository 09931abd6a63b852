"""Which contract of a root is in force when: the roll table that back-test and live share."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.errors import DataError
from ibs_core.market_data.rolls import rolls_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ibs_core.bars import Ints
    from ibs_core.market_data import HeldBars

__all__ = ["RollTable"]


class RollTable:
    """Contracts by root, each from an instant on.

    Parameters
    ----------
    contracts : Mapping of str to sequence of (int, str)
        By root: UTC ns and contract (``ESZ2025``), in order; the first is in force before its instant too.
    """

    def __init__(self, contracts: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        self._contracts = {root: list(each) for root, each in contracts.items() if each}

    @classmethod
    def of_bars(cls, bars: HeldBars, roots: Iterable[str]) -> RollTable:
        """Make the table of the changes of contract in bars.

        Parameters
        ----------
        bars : HeldBars
        roots : iterable of str

        Returns
        -------
        RollTable
        """
        found = {}
        for root in roots:
            runs, _ = bars.load(root)
            if runs:
                rolls = rolls_of(runs, bars.contracts.readable(root))
                first = (int(runs[0].ts_ns[0]), runs[0].instrument)
                found[root] = [first, *((each.seam_ns, each.new) for each in rolls)]
        return cls(found)

    def active(self, root: str, ts_ns: int) -> str:
        """Name the contract in force.

        Parameters
        ----------
        root : str
        ts_ns : int, UTC ns

        Returns
        -------
        str

        Raises
        ------
        DataError
            The table does not hold the root.
        """
        if root not in self._contracts:
            held = ", ".join(self._contracts) or "nothing"
            raise DataError("roll table", expected=f"contracts of {root}", found=held)
        known = self._contracts[root]
        return known[max(bisect_right(known, ts_ns, key=lambda each: each[0]) - 1, 0)][1]

    def seams(self) -> dict[str, Ints]:
        """Return the roll instants.

        Returns
        -------
        dict of str to (n_seams,) int64, UTC ns
        """
        return {
            root: np.array([at_ns for at_ns, _ in known[1:]], np.int64)
            for root, known in self._contracts.items()
        }
