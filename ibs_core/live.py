"""The live driver: minutes as they come, slices on the back-test's boundaries, the journal before any order.

One loop, one thread. A minute ends when the feed says so, or by the clock plus a grace when the feed is silent; a
slice that the clock had to close blocks entries. Whatever only live knows becomes an input of the engine and
enters the journal, so that a replay decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.engine import NOTHING_TOLD, Advance
from ibs_core.errors import DataError
from ibs_core.market_data.runs import stamp
from ibs_core.orders import orders_of
from ibs_core.portfolio import ABSENT, CANCEL, FIRST_BLOCK, INPUT, LIVE_BLOCKS
from ibs_core.ports import Entry, FeedNote, Minute, MinuteEnd, Order
from ibs_core.recording import SEAM, differences, minutes_in, recorded
from ibs_core.snapshot import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ibs_core.bars import Records
    from ibs_core.engine import Engine
    from ibs_core.ports import BarFeed, Clock, History, Journal, OrderSink, Stored

__all__ = ["Limits", "Worker"]

_SECOND: Final = 10**9
_NO_SEAMS: Final = np.zeros(0, SEAM)
_OF_THE_FEED: Final = ("late", "not_live", "stale")
"""Reasons to block entries that end when the feed streams again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long live waits.

    Attributes
    ----------
    grace_ns : int
        After a minute's end, until the clock closes it without the feed's word.
    late_ns : int
        A slice decided later than this after its boundary enters nothing, and its exits count from now.
    stale_ns : int
        Without a minute's end for this long, entries are blocked.
    entry_life_ns : int
        An entry that could not be sent within this is given up.
    by_clock : bool
        False where market time is what the feed says: a replay.
    """

    grace_ns: int = 20 * _SECOND
    late_ns: int = 30 * _SECOND
    stale_ns: int = 90 * _SECOND
    entry_life_ns: int = 10 * _SECOND
    by_clock: bool = True


class Worker:
    """Carries all symbols of one journal.

    Parameters
    ----------
    engine : Engine
    feed : BarFeed
    history : History
    journal : Journal
    sink : OrderSink
    clock : Clock
    limits : Limits
    tell : callable
        Called with a line for people.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        feed: BarFeed,
        history: History,
        journal: Journal,
        sink: OrderSink,
        clock: Clock,
        limits: Limits,
        tell: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._feed, self._history = feed, history
        self._journal, self._sink, self._clock = journal, sink, clock
        self._limits, self._tell = limits, tell
        self._pending: list[Minute] = []
        self._since: list[Minute] = []
        self._entered: dict[str, str] = {}
        self._blocked: set[str] = set()
        self._streaming = False
        self._heard_ns = 0
        self._snapshot_date = 0
        self._seq = 0
        self.counts = dict.fromkeys(("slices", "orders", "trades", "late", "refused"), 0)

    @property
    def until_ns(self) -> int:
        """Market time up to which every slice is decided, UTC ns."""
        return self._engine.until_ns

    # ------------------------------------------------------------------ start

    def start(self, facts: Mapping[str, Any], *, first_ns: int, start_ns: int) -> None:
        """Take up the journal where it was left, or warm up from history; then open the feed.

        Parameters
        ----------
        facts : Mapping of str to Any
            Of this run, for the journal.
        first_ns, start_ns : int, UTC ns
            History in [first, start) is observed when the journal is new.

        Raises
        ------
        DataError
            The journal does not replay to what it says.
        EnvironmentFault
        """
        self._heard_ns = self._clock.now_ns()
        kept = self._journal.latest_snapshot()
        self._journal.begin(self._heard_ns, facts)
        if kept is None:
            self._warm(first_ns, start_ns)
        else:
            self._resume(kept)
        self._blocked = self._blocks_in_force()
        self._block("not_live")
        self._feed.start(self._engine.until_ns)

    def _warm(self, first_ns: int, start_ns: int) -> None:
        past = self._history.minutes(self._engine.reads, first_ns, start_ns)
        self._engine.warm(past, start_ns)
        self._journal.snapshot(0, start_ns, pack(self._engine.state()))

    def _resume(self, kept: tuple[int, int, bytes]) -> None:
        """Load the last state, replay what came after it, and settle what was not sent."""
        self._seq, _, block = kept
        self._engine.restore(unpack(block))
        for stored in self._journal.entries(self._seq):
            self._replay(stored)
        for symbol in self._engine.symbols:
            last = self._journal.last_entry_order(symbol.root)
            if last is not None:
                self._entered[symbol.root] = last.instrument
        now_ns = self._clock.now_ns()
        for order in self._journal.unsent():
            aged = now_ns - order.decided_ns > self._limits.entry_life_ns
            if order.action == "entry" and aged:
                self._journal.order_state(order.order_id, "EXPIRED", now_ns, "found unsent")
                self._told(CANCEL, order.symbol, 0)
            else:
                self._sink.send([order])

    def _replay(self, stored: Stored) -> None:
        arrays = stored.arrays
        for root, seam_ns in arrays["seams"].tolist():
            self._engine.know_seam(root, seam_ns)
        minutes = minutes_in(arrays)
        done = self._engine.advance(minutes, stored.time_ns, arrays["inputs"])
        again = recorded(minutes, arrays["inputs"], arrays["seams"], done)
        if found := differences(again, arrays):
            raise DataError(
                f"entry {stored.seq} of the journal does not replay",
                found=found[0],
                remedy="`ibs parity` shows more; positions must be checked by hand",
            )
        self._seq = stored.seq

    # ------------------------------------------------------------------ run

    def run(self, stopped: Callable[[], bool]) -> str:
        """Trade until told to stop or until the feed ends.

        Parameters
        ----------
        stopped : callable

        Returns
        -------
        str
            ``stopped``, ``ended``, or what is fatal.
        """
        while not stopped():
            event = self._feed.next(0.2)
            if isinstance(event, Minute):
                self._take(event)
            elif isinstance(event, MinuteEnd):
                self._hear(event.ts_ns)
            elif isinstance(event, FeedNote):
                if event.kind in ("ended", "fatal"):
                    self._note(event)
                    return "ended" if event.kind == "ended" else event.text
                self._note(event)
            else:
                self._watch()
        return "stopped"

    def finish(self, how: str) -> None:
        """Stop the feed, keep the state, close the sink and the run.

        Parameters
        ----------
        how : str
        """
        self._feed.stop()
        if self._since:
            self._commit(self._engine.advance([], self._engine.until_ns), NOTHING_TOLD, ())
        self._keep()
        self._sink.close()
        self._journal.end(self._clock.now_ns(), how)

    def _take(self, minute: Minute) -> None:
        """Keep a minute until its end, unless it cannot be used any more."""
        why = self._engine.accepts(minute)
        if not why and any(
            each.root == minute.root and each.ts_ns >= minute.ts_ns for each in self._pending
        ):
            why = "not after the last"
        if not why:
            self._pending.append(minute)
            return
        self.counts["late" if why == "late" else "refused"] += 1
        facts = {"why": why, "minute": [minute.root, minute.instrument, minute.ts_ns]}
        self._journal.event(self._clock.now_ns(), "minute refused", facts)

    def _hear(self, end_ns: int) -> None:
        """Close the minutes that the feed says have ended."""
        self._heard_ns = self._clock.now_ns()
        if self._streaming:
            self._block("stale", off=True)
            if self._heard_ns - end_ns <= self._limits.late_ns:
                self._block("late", off=True)
        self._close(end_ns)

    def _watch(self) -> None:
        """Look at the clock when nothing came."""
        if not self._limits.by_clock:
            return
        now_ns = self._clock.now_ns()
        if now_ns - self._heard_ns > self._limits.stale_ns:
            self._block("stale")
        end_ns = (now_ns - self._limits.grace_ns) // MINUTE_NS * MINUTE_NS
        if self._streaming and end_ns > self._engine.until_ns:
            self._block("stale")
            self._close(end_ns)

    def _close(self, end_ns: int) -> None:
        """Decide every slice up to the end of a minute."""
        if end_ns <= self._engine.until_ns:
            return
        now = [each for each in self._pending if each.ts_ns < end_ns]
        self._pending = [each for each in self._pending if each.ts_ns >= end_ns]
        now_ns = self._clock.now_ns()
        inputs = NOTHING_TOLD
        if now_ns - end_ns > self._limits.late_ns:
            inputs = np.array([(end_ns, 0, ABSENT, -1, now_ns)], INPUT)
        self._step(now, end_ns, inputs)

    def _note(self, note: FeedNote) -> None:
        """Keep what befell the feed, and block entries while it is silent."""
        self._tell(f"feed {note.kind}: {note.text}")
        self._journal.event(
            self._clock.now_ns(), f"feed {note.kind}", {"text": note.text, "since": note.since_ns}
        )
        if note.kind in ("lost", "ended", "fatal"):
            self._streaming = False
            self._block("stale")
        elif note.kind == "gap":
            self._fill(note)
        elif note.kind == "overflow":
            self._block("late")
        elif note.kind == "replayed":
            self._streaming = True
            self._heard_ns = self._clock.now_ns()
            for reason in _OF_THE_FEED:
                self._block(reason, off=True)

    def _fill(self, gap: FeedNote) -> None:
        """Take from history what the feed cannot replay."""
        past = self._history.minutes(self._engine.reads, gap.since_ns, gap.until_ns)
        found = [
            Minute(run.root, run.instrument, *row)
            for root in (*past.roots, *past.feeds)
            for run in past.load(root)[0]
            for row in zip(
                run.ts_ns.tolist(),
                run.open.tolist(),
                run.high.tolist(),
                run.low.tolist(),
                run.close.tolist(),
                (
                    run.volume if run.volume is not None else np.full(len(run.ts_ns), np.nan)
                ).tolist(),
                strict=True,
            )
        ]
        for minute in sorted(found, key=lambda each: each.ts_ns):
            if self._pending and minute.ts_ns > self._pending[-1].ts_ns:
                self._close(minute.ts_ns)
            self._take(minute)
        self._close(gap.until_ns)

    # ------------------------------------------------------------------ one step

    def _block(self, reason: str, *, off: bool = False) -> None:
        """Block entries of all symbols for a reason, or no more."""
        if off == (reason not in self._blocked):
            return
        (self._blocked.discard if off else self._blocked.add)(reason)
        self._tell(f"entries {'no longer ' if off else ''}blocked: {reason}")
        self._told(FIRST_BLOCK + LIVE_BLOCKS.index(reason), None, 0 if off else NEVER)

    def _blocks_in_force(self) -> set[str]:
        """Tell which blocks the state holds: a run before this one may have left some."""
        until = self._engine.book["blocked_ns"][:, : len(LIVE_BLOCKS)]
        now_ns = self._engine.until_ns
        return {reason for i, reason in enumerate(LIVE_BLOCKS) if (until[:, i] > now_ns).any()}

    def _told(self, kind: int, root: str | None, until_ns: int) -> None:
        """Give the engine an input, after the last slice."""
        roots = [each.root for each in self._engine.symbols]
        i = -1 if root is None else roots.index(root)
        at_ns = self._engine.until_ns
        withdrawn = (root,) if kind == CANCEL and root is not None else ()
        self._step([], at_ns, np.array([(at_ns, 1, kind, i, until_ns)], INPUT), withdrawn)

    def _step(
        self,
        minutes: Sequence[Minute],
        until_ns: int,
        inputs: Records,
        withdrawn: Sequence[str] = (),
    ) -> None:
        self._since += minutes
        done = self._engine.advance(minutes, until_ns, inputs)
        if done.is_slice or len(inputs):
            self._commit(done, inputs, withdrawn)

    def _commit(self, done: Advance, inputs: Records, withdrawn: Sequence[str]) -> None:
        """Write what was decided, then send it."""
        orders = orders_of(done, self._engine, self._entered, withdrawn)
        arrays = recorded(self._since, inputs, _NO_SEAMS, done)
        self._seq = self._journal.append(Entry(done.until_ns, arrays, orders))
        self._since = []
        if orders:
            self._sink.send(orders)
        for order in orders:
            if order.action == "entry":
                self._entered[order.symbol] = order.instrument
            self._tell(_line(order))
        self.counts["slices"] += bool(done.bars)
        self.counts["orders"] += len(orders)
        self.counts["trades"] += len(done.trades)
        date = int(self._engine.book["date"].max())
        if date != self._snapshot_date and self._snapshot_date:
            self._keep()
        self._snapshot_date = date

    def _keep(self) -> None:
        """Keep the state after the last entry."""
        self._journal.snapshot(self._seq, self._engine.until_ns, pack(self._engine.state()))


def _line(order: Order) -> str:
    what = order.reason or f"{order.quantity}"
    return f"{stamp(order.decided_ns)} {order.symbol}: {order.action} {what} {order.instrument} at {order.price:g}"
