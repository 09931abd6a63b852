"""Which contract of a root is in force when: the roll table that back-test and live share."""

from __future__ import annotations

from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.contract_codes import resolve_code
from ibs_core.errors import DataError, IbsError
from ibs_core.market_data.rolls import rolls_of
from ibs_core.sessions import load_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from ibs_core.bars import Ints
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars

    Fronts = Mapping[str, Mapping[int, str]]
    """By root, the contract of each UTC day, days since 1970-01-01."""

__all__ = ["RollTable", "RollWatch"]

_ASKED_AFTER_NS: Final = 10 * MINUTE_NS
"""The vendor ranks contracts anew at 00:00 UTC: it is asked so long after, and again in as long a while."""


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

    def learn(
        self, root: str, days: Mapping[int, str], contracts: ContractMap, since_ns: int
    ) -> list[int]:
        """Take what the vendor says was the front on UTC days.

        The front of the day on which a session closes is in force from the next session's open on, as a
        worker that changes contracts between two sessions can know it. It never goes back to one that
        expires before the contract in force.

        Parameters
        ----------
        root : str
        days : Mapping of int to str
            Days since 1970-01-01, UTC, to contracts.
        contracts : ContractMap
        since_ns : int, UTC ns
            Sessions that open from here on.

        Returns
        -------
        list of int, UTC ns
            New roll instants.
        """
        if not days:
            return []
        known = self._contracts[root]
        since_ns = max(since_ns, known[-1][0] + 1)
        until_ns = max((max(days) + 1) * DAY_NS, since_ns)
        sessions = load_sessions(contracts.get(root).session, since_ns, until_ns)
        found = []
        closed = sessions.close_ns[:-1].tolist()
        for closed_ns, open_ns in zip(closed, sessions.open_ns[1:].tolist(), strict=True):
            name = days.get(closed_ns // DAY_NS)
            if name is None or open_ns < since_ns:
                continue
            if _delivery(name, contracts) > _delivery(known[-1][1], contracts):
                known.append((open_ns, name))
                found.append(open_ns)
        return found


class RollWatch:
    """Asks once a UTC day which contracts are the fronts, in a thread of its own.

    Parameters
    ----------
    table : RollTable
        Learns; holds the contract in force of each root.
    contracts : ContractMap
    roots : sequence of str
    ask : callable
        Given the first and the last UTC day, returns the fronts of each root.
    tell : callable
        Called with a line for people.
    """

    def __init__(
        self,
        table: RollTable,
        contracts: ContractMap,
        roots: Sequence[str],
        ask: Callable[[int, int], Fronts],
        tell: Callable[[str], None],
    ) -> None:
        self._table, self._contracts, self._roots = table, contracts, list(roots)
        self._ask, self._tell = ask, tell
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="rolls")
        self._answer: Future[Fronts] | None = None
        self._since_ns = self._due_ns = 0
        self._learned: list[tuple[str, int]] = []

    def start(self, since_ns: int, now_ns: int) -> None:
        """Ask for all days from an instant to today, and wait for the answer.

        Parameters
        ----------
        since_ns, now_ns : int, UTC ns

        Raises
        ------
        DataError, EnvironmentFault
        """
        self._since_ns = since_ns
        # A weekend and a holiday may lie between the close that counts and the open that follows.
        self._take(self._ask(since_ns // DAY_NS - 5, now_ns // DAY_NS), now_ns // DAY_NS, now_ns)

    def learn(self, now_ns: int) -> list[tuple[str, int]]:
        """Return what became known since the last call; never waits.

        Parameters
        ----------
        now_ns : int, UTC ns

        Returns
        -------
        list of (str, int)
            Roots and roll instants, UTC ns.
        """
        today = now_ns // DAY_NS
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            try:
                self._take(answer.result(), today, now_ns)
            except IbsError as error:
                self._tell(f"rolls are not known yet: {error}")
                self._due_ns = now_ns + _ASKED_AFTER_NS
        elif self._answer is None and now_ns >= self._due_ns:
            self._answer = self._worker.submit(self._ask, today - 5, today)
        learned, self._learned = self._learned, []
        return learned

    def stop(self) -> None:
        """Ask no more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _take(self, fronts: Fronts, today: int, now_ns: int) -> None:
        for root in self._roots:
            new = self._table.learn(root, fronts.get(root, {}), self._contracts, self._since_ns)
            self._learned += [(root, seam_ns) for seam_ns in new]
        complete = all(today in fronts.get(root, {}) for root in self._roots)
        self._due_ns = ((today + 1) * DAY_NS if complete else now_ns) + _ASKED_AFTER_NS


def _delivery(instrument: str, contracts: ContractMap) -> tuple[int, int]:
    code = resolve_code(instrument, contracts)
    return code.year or 0, code.month or 0
