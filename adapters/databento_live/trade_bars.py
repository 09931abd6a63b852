"""Trades to minute bars with the kernel that builds every other bar.

The vendor's bars are cut by ``ts_recv``, so these are. A minute is a minute in every session, so the kernel
is given one session that never ends; its place in time within a minute is of no account, only the order,
so trades of one instant are laid out one nanosecond apart.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from adapters.databento_live.roster import Member
from adapters.databento_live.wire import TRADE
from ibs_core.bars import MINUTE_NS, NEVER, SESSION, Floats, Ints, Records
from ibs_core.kernels import aggregate
from ibs_core.ports import Minute
from ibs_core.series import CHUNK, Scratch, make_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TradeBars", "warm_up"]

_UNDEF_PRICE: Final = 2**63 - 1
_TRADE: Final = ord("T")


@dataclass(slots=True)
class _Thread:
    """How far one instrument is."""

    member: Member
    state: Records = field(default_factory=aggregate.new_state)
    last_ns: int = -NEVER
    tail: set[bytes] = field(default_factory=set)  # the records at last_ns
    suspect: bool = False  # records at last_ns may come again


class TradeBars:
    """Builds the minute bars of one connection.

    Parameters
    ----------
    since_ns : int, UTC ns
        A whole minute; trades received before it are not counted: their minutes are told, or not whole.
    """

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.closed_ns = since_ns
        """Every minute that ends by here is closed."""
        self.latest_ns = 0
        """The newest ``ts_recv``."""
        self.n_trades = self.n_late = self.n_duplicates = 0
        self._threads: dict[int, _Thread] = {}
        self._scratch = Scratch()
        self._plan = make_plan(MINUTE_NS, with_path=False, mark_ns=0, allow_nonpositive=True)
        self._always = np.zeros(1, SESSION)
        for name in ("close_ns", "break_start_ns", "break_end_ns"):
            self._always[name] = NEVER

    def name(self, number: int, member: Member) -> None:
        """Tell which contract an instrument id is.

        Parameters
        ----------
        number : int
        member : Member
        """
        thread = self._threads.get(number)
        if thread is None or thread.member != member:
            self._threads[number] = _Thread(member)

    def take(self, trades: Records) -> Iterator[Minute]:
        """Take trades in the order in which they came; yield the bars that later trades end.

        Parameters
        ----------
        trades : (n,) TRADE

        Yields
        ------
        Minute
        """
        counts = (
            (trades["action"] == _TRADE) & (trades["size"] > 0) & (trades["price"] != _UNDEF_PRICE)
        )
        if not counts.all():
            trades = trades[counts]
        if not len(trades):
            return
        numbers = trades["instrument_id"]
        self.latest_ns = max(self.latest_ns, int(trades["ts_recv"].max()))
        if (numbers == numbers[0]).all():
            yield from self._one(int(numbers[0]), trades)
            return
        for number in np.unique(numbers).tolist():
            yield from self._one(number, trades[numbers == number])

    def close(self, until_ns: int) -> Iterator[Minute]:
        """Close every minute that ended by an instant; yield its bars.

        Parameters
        ----------
        until_ns : int, UTC ns
            Trades received before it count as late from now on.

        Yields
        ------
        Minute
        """
        for thread in self._threads.values():
            state = thread.state[0]
            if state["has_bar"] and state["bar"]["end_ns"] <= until_ns:
                bars, days, _, n = self._scratch.room()
                aggregate.close(state, until_ns, NEVER, bars, days, n)
                yield from _minutes(thread.member, bars[: n[0]])
        self.closed_ns = max(self.closed_ns, until_ns)

    def suspect_repeats(self) -> None:
        """Look out for trades that come twice: a replay has just ended."""
        for thread in self._threads.values():
            thread.suspect = True

    def _one(self, number: int, trades: Records) -> Iterator[Minute]:
        thread = self._threads.get(number)
        if thread is None:
            return  # a spread, a back month
        trades = trades[self._fresh(thread, trades)]
        at_ns = trades["ts_recv"].astype(np.int64)
        member = thread.member
        wanted = (at_ns >= member.since_ns) & (at_ns < member.until_ns)
        # Those before the first minute are no news: a replay begins a little early.
        self.n_late += int(
            np.count_nonzero(wanted & (at_ns >= self.since_ns) & (at_ns < self.closed_ns))
        )
        wanted &= at_ns >= self.closed_ns
        if not wanted.all():
            trades, at_ns = trades[wanted], at_ns[wanted]
        self.n_trades += len(trades)
        prices, sizes = trades["price"] / 1e9, trades["size"].astype(np.float64)
        for first in range(0, len(trades), CHUNK):
            part = slice(first, first + CHUNK)
            yield from self._step(thread, at_ns[part], prices[part], sizes[part])

    def _step(
        self, thread: _Thread, at_ns: Ints, prices: Floats, sizes: Floats
    ) -> Iterator[Minute]:
        state = thread.state[0]
        bars, days, path, n = self._scratch.room()
        order = np.arange(len(at_ns))
        before = int(state["minute_ns"]) + 1
        spread = np.maximum(at_ns // MINUTE_NS * MINUTE_NS - order, before)
        ts_ns = np.maximum.accumulate(spread) + order
        for each in (ts_ns, prices, sizes):
            each.flags.writeable = (
                False  # as all other callers' arrays: one compiled form serves all
            )
        broken = aggregate.step(
            state,
            self._plan[0],
            self._always,
            ts_ns,
            prices,
            prices,
            prices,
            prices,
            sizes,
            bars,
            days,
            path,
            n,
        )
        assert broken < 0, "trades in order keep every law of minute bars"
        yield from _minutes(thread.member, bars[: n[0]])

    def _fresh(self, thread: _Thread, trades: Records) -> Any:
        """Tell which trades are new: a replay may repeat what came before."""
        at_ns = trades["ts_recv"].astype(np.int64)
        first, last = int(at_ns[0]), int(at_ns[-1])
        steps_back = first < thread.last_ns or bool((np.diff(at_ns) < 0).any())
        if not steps_back and not thread.suspect:
            start = int(np.searchsorted(at_ns, last))
            rows = {row.tobytes() for row in trades[start:]}
            thread.tail = rows | thread.tail if last == thread.last_ns else rows
            thread.last_ns = last
            return slice(None)
        keep = np.ones(len(trades), np.bool_)
        for i, ns in enumerate(at_ns.tolist()):
            if ns > thread.last_ns:
                thread.last_ns, thread.suspect, thread.tail = ns, False, {trades[i].tobytes()}
            elif ns < thread.last_ns:
                thread.suspect, keep[i] = True, False
            else:
                row = trades[i].tobytes()
                keep[i] = not (thread.suspect and row in thread.tail)
                thread.tail.add(row)
        self.n_duplicates += int(len(keep) - np.count_nonzero(keep))
        return keep


def warm_up() -> None:
    """Compile what trades need, before they come."""
    builder = TradeBars(0)
    builder.name(1, Member("", "", 0, NEVER))
    trades = np.zeros(1, TRADE)
    for name, value in (("instrument_id", 1), ("size", 1), ("action", _TRADE), ("price", 1)):
        trades[name] = value
    deque((*builder.take(trades), *builder.close(MINUTE_NS)), 0)


def _minutes(member: Member, bars: Records) -> Iterator[Minute]:
    for bar in bars:
        yield Minute(
            member.root,
            member.instrument,
            int(bar["start_ns"]),
            float(bar["open"]),
            float(bar["high"]),
            float(bar["low"]),
            float(bar["close"]),
            float(bar["volume"]),
        )
