"""The live driver: minutes as they come, slices on the back-test's boundaries, the journal before any order.

One loop, one thread. A minute ends when the feed says so, or by the clock when the feed is silent for longer than
a minute and a grace; a slice that the clock had to close blocks entries. A slice that is decided late, after an
outage or a standstill of this process, enters nothing, and its exits leave when they can. Whatever only live knows
becomes an input of the engine and enters the journal, so that a replay decides the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.engine import NOTHING_TOLD
from ibs_core.errors import DataError, IbsError
from ibs_core.limits import Limits
from ibs_core.market_data.runs import stamp
from ibs_core.orders import orders_of
from ibs_core.portfolio import ABSENT, CANCEL, FIRST_BLOCK, INPUT, LEFT_LATE, LIVE_BLOCKS
from ibs_core.ports import Entry, FeedNote, Minute, MinuteEnd, Order
from ibs_core.recording import SEAM, differences, laid_out, minutes_in, minutes_of, recorded
from ibs_core.snapshot import pack, unpack
from ibs_core.warm_up import hole_at_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ibs_core.advance import Advance
    from ibs_core.bars import Records
    from ibs_core.engine import Engine
    from ibs_core.ports import BarFeed, Clock, History, Journal, OrderSink, Stored

__all__ = ["Limits", "Worker"]

_NO_SEAMS: Final = np.zeros(0, SEAM)
_OF_THE_FEED: Final = ("late", "not_live", "stale")
"""Reasons to block entries that end when the feed streams again, on time."""


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
    rolls : callable, optional
        Given market time, UTC ns, returns roots and roll instants that became known.
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
        rolls: Callable[[int], Sequence[tuple[str, int]]] = lambda _now_ns: (),
    ) -> None:
        self._engine, self._rolls = engine, rolls
        self._feed, self._history = feed, history
        self._journal, self._sink, self._clock = journal, sink, clock
        self._limits, self._tell = limits, tell
        self._pending: list[Minute] = []
        self._since = bytearray()  # minutes since the last entry, laid out while there is time
        self._seams = _NO_SEAMS
        self._newest: dict[str, int] = {}
        self._entered: dict[str, Order] = {}
        self._blocked: set[str] = set()
        self._fatal = ""
        self._streaming = False
        self._was_away = True
        self._absent_ns = self._heard_ns = self._looked_ns = self._written_ns = 0
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
        kept = self._journal.latest_snapshot()
        if kept is None and any(self._journal.entries()):
            raise DataError(
                "journal holds entries but no sound state",
                remedy="check positions by hand and begin another journal",
            )
        self._journal.begin(self._clock.now_ns(), facts)
        if kept is None:
            self._warm(first_ns, start_ns)
        else:
            self._resume(kept)
        self._written_ns = self._engine.until_ns
        self._blocked = self._blocks_in_force()
        self._learn()
        self._block("not_live")
        self._heard_ns = self._looked_ns = self._clock.now_ns()
        self._feed.start(self._engine.until_ns)

    def _warm(self, first_ns: int, start_ns: int) -> None:
        past = self._history.minutes(self._engine.reads, first_ns, start_ns)
        self._engine.warm(past, start_ns)
        self._journal.snapshot(0, start_ns, pack(self._engine.state()))

    def _resume(self, kept: tuple[int, int, bytes]) -> None:
        """Load the last state, replay what came after it, and settle what was not sent."""
        self._seq, _, block = kept
        self._absent_ns = NEVER  # unknown
        self._engine.restore(unpack(block))
        for stored in self._journal.entries(self._seq):
            self._replay(stored)
        for symbol in self._engine.symbols:
            last = self._journal.last_entry_order(symbol.root)
            if last is not None:
                self._entered[symbol.root] = last
        now_ns = self._clock.now_ns()
        for order in self._journal.unsent():
            aged = now_ns - order.decided_ns > self._limits.entry_life_ns
            if order.action == "entry" and aged:
                # The book first: killed in between, this comes again; the other way round, it never would.
                self._told(CANCEL, order.symbol, 0)
                self._journal.order_state(order.order_id, "EXPIRED", now_ns, "found unsent")
            else:
                if aged and order.action == "exit":
                    self._told(LEFT_LATE, order.symbol, now_ns)
                self._sink.send([order])

    def _replay(self, stored: Stored) -> None:
        arrays = stored.arrays
        for root, seam_ns in arrays["seams"].tolist():
            self._engine.know_seam(root, seam_ns)
        minutes = minutes_in(arrays)
        done = self._engine.advance(minutes, stored.time_ns, arrays["inputs"])
        again = recorded(laid_out(minutes), arrays["inputs"], arrays["seams"], done)
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
                if self._fatal:
                    return self._fatal
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
        if self._since or self._engine.until_ns > self._written_ns:
            self._commit(self._engine.advance([], self._engine.until_ns), NOTHING_TOLD, ())
        self._keep()
        self._sink.close()
        self._journal.end(self._clock.now_ns(), how)

    def _take(self, minute: Minute) -> None:
        """Keep a minute until its end, unless it cannot be used any more."""
        why = self._engine.accepts(minute)
        if not why and minute.ts_ns <= self._newest.get(minute.root, minute.ts_ns - 1):
            why = "not after the last"
        if not why:
            self._pending.append(minute)
            self._newest[minute.root] = minute.ts_ns
            return
        self.counts["late" if why == "late" else "refused"] += 1
        facts = {"why": why, "minute": [minute.root, minute.instrument, minute.ts_ns]}
        self._journal.event(self._clock.now_ns(), "minute refused", facts)

    def _hear(self, end_ns: int) -> None:
        """Close the minutes that the feed says have ended."""
        self._heard_ns = self._looked_ns = self._clock.now_ns()
        if self._streaming and self._heard_ns - end_ns <= self._limits.late_ns:
            for reason in ("stale", "late"):
                self._block(reason, off=True)
        self._close(end_ns)

    def _watch(self) -> None:
        """Look at the clock when nothing came."""
        if not self._limits.by_clock:
            return
        now_ns, limits = self._clock.now_ns(), self._limits
        if not 0 <= now_ns - self._looked_ns <= limits.grace_ns:
            # What came meanwhile is still to be received; closing its minutes now would lose it.
            self._heard_ns, self._was_away = now_ns, True
            self._block("stale")
        self._looked_ns = now_ns
        if now_ns - self._heard_ns > limits.stale_ns:
            self._block("stale")
        end_ns = (now_ns - limits.grace_ns) // MINUTE_NS * MINUTE_NS
        is_silent = now_ns - self._heard_ns > MINUTE_NS + limits.grace_ns
        if self._streaming and is_silent and end_ns > self._engine.until_ns:
            self._block("stale")
            self._close(end_ns)

    def _close(self, end_ns: int) -> None:
        """Decide every slice up to the end of a minute."""
        if end_ns <= self._engine.until_ns:
            return
        now = [each for each in self._pending if each.ts_ns < end_ns]
        self._pending = [each for each in self._pending if each.ts_ns >= end_ns]
        self._step(now, end_ns, self._absence(end_ns))
        self._learn()

    def _absence(self, end_ns: int) -> Records:
        """Tell which slices up to the end of a minute come too late for entries."""
        now_ns, at_ns = self._clock.now_ns(), self._engine.until_ns
        is_late = now_ns - end_ns > self._limits.late_ns
        missed_ns = (now_ns - self._limits.late_ns - 1) // MINUTE_NS * MINUTE_NS
        told = []
        if missed_ns > at_ns and (self._was_away or is_late):
            told.append((at_ns, 1, ABSENT, -1, now_ns))
            self._absent_ns, at_ns = now_ns, missed_ns
        if self._absent_ns > at_ns and not is_late:
            told.append((at_ns, 1, ABSENT, -1, 0))
            self._absent_ns = 0
        self._was_away = is_late
        return np.array(told, INPUT)

    def _learn(self) -> None:
        """Take note of rolls that became known: an entry of their own, before any later minute."""
        until_ns = self._engine.until_ns
        new = [each for each in self._rolls(until_ns) if self._engine.is_new_seam(*each)]
        for root, seam_ns in new:
            self._engine.know_seam(root, seam_ns)
            self._tell(f"{root} rolls at {stamp(seam_ns)}")
        if new:
            self._seams = np.array(new, SEAM)
            self._commit(self._engine.advance([], until_ns), NOTHING_TOLD, ())

    def _note(self, note: FeedNote) -> None:
        """Keep what befell the feed, and block entries while it is silent."""
        self._tell(f"feed {note.kind}: {note.text}")
        self._journal.event(
            self._clock.now_ns(), f"feed {note.kind}", {"text": note.text, "since": note.since_ns}
        )
        if note.kind in ("lost", "ended", "fatal"):
            self._streaming, self._was_away = False, True
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
        """Take from history what the feed cannot replay; without it no bar of the gap can be trusted."""
        try:
            past = self._history.minutes(self._engine.reads, gap.since_ns, gap.until_ns)
        except IbsError as error:
            self._fatal = f"the gap in the data could not be filled: {error}"
            return
        if hole := hole_at_the_end(past, self._engine.symbols, gap.since_ns, gap.until_ns):
            self._fatal = f"the gap in the data could not be filled: {hole}"
            return
        for minute in minutes_of(past):
            self._take(minute)
        self._was_away = True
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
        self._since += laid_out(minutes)
        done = self._engine.advance(minutes, until_ns, inputs)
        if done.is_slice or len(inputs):
            self._commit(done, inputs, withdrawn)

    def _commit(self, done: Advance, inputs: Records, withdrawn: Sequence[str]) -> None:
        """Write what was decided, then send it."""
        orders = orders_of(done, self._engine, self._entered, withdrawn)
        arrays = recorded(self._since, inputs, self._seams, done)
        self._seq = self._journal.append(Entry(done.until_ns, arrays, orders))
        self._since, self._seams, self._written_ns = bytearray(), _NO_SEAMS, done.until_ns
        if orders:
            self._sink.send(orders)
        for order in orders:
            if order.action == "entry":
                self._entered[order.symbol] = order
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
