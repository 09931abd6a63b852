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
from ibs_core.dispatch import Dispatch
from ibs_core.errors import DataError, IbsError
from ibs_core.health import symbols_of
from ibs_core.journalled import JournalledEngine
from ibs_core.limits import Limits
from ibs_core.market_data.runs import stamp
from ibs_core.notices import Level, Notice
from ibs_core.operator_commands import OperatorCommands
from ibs_core.portfolio import ABSENT, CANCEL, FLATTEN, INPUT, LEFT_LATE
from ibs_core.ports import FeedNote, Minute, MinuteEnd
from ibs_core.positions import ENTERING, FLAT, LEAVING, OPEN
from ibs_core.recording import minutes_of
from ibs_core.warm_up import hole_at_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ibs_core.bars import Records
    from ibs_core.engine import Engine
    from ibs_core.ports import BarFeed, Clock, History, Journal, OrderSink

__all__ = ["Limits", "Worker"]

_LEVELS: Final[Mapping[str, Level]] = {
    "lost": "warning",
    "gap": "warning",
    "overflow": "page",
    "fatal": "page",
}
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
    publish : callable
        Given a `Notice` of whatever happens.
    rolls : callable, optional
        Given market time, UTC ns, returns roots and roll instants that became known.
    beat : callable, optional
        Called at every turn of the loop.
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
        publish: Callable[[Notice], None],
        rolls: Callable[[int], Sequence[tuple[str, int]]] = lambda _now_ns: (),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._rolls, self._beat = engine, rolls, beat
        self._feed, self._history = feed, history
        self._journal, self._clock, self._limits = journal, clock, limits
        self._publish = publish
        self.dispatch = Dispatch(journal, sink, clock, publish)
        self.trading = JournalledEngine(engine, journal, self.dispatch, clock, publish)
        self._commands = OperatorCommands(self.trading, self.dispatch, journal, clock, publish)
        self._roots = [each.root for each in engine.symbols]
        self._pending: list[Minute] = []
        self._newest: dict[str, int] = {}
        self._fatal = ""
        self.is_streaming = False
        self._was_away = True
        self._absent_ns = self._heard_ns = self._looked_ns = 0
        self._refused = dict.fromkeys(("late", "refused"), 0)

    @property
    def until_ns(self) -> int:
        """Market time up to which every slice is decided, UTC ns."""
        return self._engine.until_ns

    @property
    def counts(self) -> dict[str, int]:
        """How many slices, orders, trades, late and refused minutes there were."""
        return self.trading.counts | self._refused

    def health(self) -> dict[str, Any]:
        """Tell how it is.

        Returns
        -------
        dict of str to Any
            JSON values: ``until``, ``streaming``, ``blocked``, ``gate``, ``unresolved``, ``counts``, ``symbols``
            (see `symbols_of`), ``orders`` and ``feed``.
        """
        return {
            "until": stamp(self._engine.until_ns),
            "streaming": self.is_streaming,
            "blocked": sorted(self.trading.blocked),
            "counts": self.counts,
            "symbols": symbols_of(self._engine),
            **self.dispatch.standing(),
            "feed": self._feed.telemetry(),
        }

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
            past = self._history.minutes(self._engine.reads, first_ns, start_ns)
            self.trading.warm(past, start_ns)
        else:
            self._absent_ns = NEVER  # unknown
            self.trading.resume(kept)
        self._commands.take_up()
        self.dispatch.take_up(self._roots)
        self._settle()
        self._commands.take()
        self._send_unsent()
        self._settle()
        self._say_unresolved()
        self._learn()
        self.trading.block("not_live")
        self._heard_ns = self._looked_ns = self._clock.now_ns()
        self._feed.start(self._engine.until_ns)

    def _say_unresolved(self) -> None:
        """Call a person at every start while an outcome is unknown: a call before it may have been lost."""
        if unresolved := self.dispatch.unresolved():
            text = f"orders to be resolved: {', '.join(unresolved)}; `ibs orders list --open`"
            self._publish(Notice("page", text, self._clock.now_ns(), "page", "unresolved"))

    def _send_unsent(self) -> None:
        """Hand over what was written and not sent; entries that are too old come to nothing."""
        now_ns = self._clock.now_ns()
        for order in self._journal.unsent():
            aged = now_ns - order.decided_ns > self._limits.entry_life_ns
            if order.action == "entry" and aged:
                # The book first: killed in between, this comes again; the other way round, it never would.
                self.trading.tell(CANCEL, order.symbol, 0)
                self._journal.order_state(order.order_id, "EXPIRED", now_ns, "found unsent")
            else:
                if aged and order.action == "exit":
                    self.trading.tell(LEFT_LATE, order.symbol, now_ns)
                self.dispatch.send([order])

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
                continue
            self._commands.take()
            self._settle()
            if isinstance(event, MinuteEnd):
                self._hear(event.ts_ns)
            elif isinstance(event, FeedNote):
                self._note(event)
                if event.kind in ("ended", "fatal"):
                    return "ended" if event.kind == "ended" else event.text
                if self._fatal:
                    return self._fatal
            else:
                self._watch()
            self._beat()
        return "stopped"

    def finish(self, how: str) -> None:
        """Stop the feed, keep the state, close the sink and the run.

        Parameters
        ----------
        how : str
        """
        self._feed.stop()
        self.dispatch.close()
        self._settle()
        if left := [each.order_id for each, _ in self.dispatch.closing(self._roots)]:
            text = (
                f"stopped, and not delivered: {', '.join(left)}; start it again, or flatten by hand"
            )
            self._publish(Notice("page", text, self._clock.now_ns(), "page", "stopped"))
        self.trading.finish()
        self._journal.end(self._clock.now_ns(), how)

    def _settle(self) -> None:
        """Tell the engine what became of orders.

        An entry that came to nothing leaves the book. One that may have been filled before it was closed leaves
        by an exit: a loss that may be real counts. An exit leaves no sooner than it was delivered. While an outcome
        is unknown nothing is entered.
        """
        (nothing, undone), book = self.dispatch.look(), self._engine.book
        undelivered = self.dispatch.undelivered()
        for i in np.flatnonzero(book["status"]):
            root, waits = self._roots[i], book[i]["leave_ns"] == NEVER
            status = book[i]["status"]
            if root in nothing or (root in undone and status == ENTERING):
                self.trading.tell(CANCEL, root, 0)
            elif root in undone and status == OPEN:
                self.trading.tell(FLATTEN, root, self._clock.now_ns(), by_hand=True)
            elif waits and status == LEAVING and root not in undelivered:
                self.trading.tell(LEFT_LATE, root, self._clock.now_ns())
        # An exit at a roll has left the book before its order leaves.
        gone = [root for root in undelivered if book[self._roots.index(root)]["status"] == FLAT]
        self.trading.block("unresolved", off=not (gone or self.dispatch.unresolved()))

    def _defer(self) -> None:
        """Let no minute fill an exit of which nobody has heard that it arrived."""
        book = self._engine.book
        for root in self.dispatch.undelivered():
            position = book[self._roots.index(root)]
            if position["status"] == LEAVING and position["leave_ns"] < NEVER:
                self.trading.tell(LEFT_LATE, root, NEVER)

    def _take(self, minute: Minute) -> None:
        """Keep a minute until its end, unless it cannot be used any more."""
        why = self._engine.accepts(minute)
        if not why and minute.ts_ns <= self._newest.get(minute.root, minute.ts_ns - 1):
            why = "not after the last"
        if not why:
            self._pending.append(minute)
            self._newest[minute.root] = minute.ts_ns
            return
        self._refused["late" if why == "late" else "refused"] += 1
        facts = {"why": why, "minute": [minute.root, minute.instrument, minute.ts_ns]}
        self._journal.event(self._clock.now_ns(), "minute refused", facts)

    def _hear(self, end_ns: int) -> None:
        """Close the minutes that the feed says have ended."""
        self._heard_ns = self._looked_ns = self._clock.now_ns()
        if self.is_streaming and self._heard_ns - end_ns <= self._limits.late_ns:
            for reason in ("stale", "late"):
                self.trading.block(reason, off=True)
        self._close(end_ns)

    def _watch(self) -> None:
        """Look at the clock when nothing came."""
        if not self._limits.by_clock:
            return
        now_ns, limits = self._clock.now_ns(), self._limits
        if not 0 <= now_ns - self._looked_ns <= limits.grace_ns:
            # What came meanwhile is still to be received; closing its minutes now would lose it.
            self._heard_ns, self._was_away = now_ns, True
            self.trading.block("stale")
        self._looked_ns = now_ns
        if now_ns - self._heard_ns > limits.stale_ns:
            self.trading.block("stale")
        end_ns = (now_ns - limits.grace_ns) // MINUTE_NS * MINUTE_NS
        is_silent = now_ns - self._heard_ns > MINUTE_NS + limits.grace_ns
        if self.is_streaming and is_silent and end_ns > self._engine.until_ns:
            self.trading.block("stale")
            self._close(end_ns)

    def _close(self, end_ns: int) -> None:
        """Decide every slice up to the end of a minute."""
        if end_ns <= self._engine.until_ns:
            return
        now = [each for each in self._pending if each.ts_ns < end_ns]
        self._pending = [each for each in self._pending if each.ts_ns >= end_ns]
        self._defer()
        self.trading.step(now, end_ns, self._absence(end_ns))
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
        self.trading.learn(self._rolls(self._engine.until_ns))

    def _note(self, note: FeedNote) -> None:
        """Keep what befell the feed, and block entries while it is silent."""
        now_ns, cause = self._clock.now_ns(), f"feed {note.kind}"
        facts = {"text": note.text, "since": note.since_ns}
        level = _LEVELS.get(note.kind, "info")
        self._publish(Notice("feed", f"{cause}: {note.text}", now_ns, level, cause, facts))
        self._journal.event(now_ns, cause, facts)
        if note.kind in ("lost", "ended", "fatal"):
            self.is_streaming, self._was_away = False, True
            self.trading.block("stale")
        elif note.kind == "gap":
            self._fill(note)
        elif note.kind == "overflow":
            self.trading.block("late")
        elif note.kind == "replayed":
            self.is_streaming = True
            self._heard_ns = self._clock.now_ns()
            for reason in _OF_THE_FEED:
                self.trading.block(reason, off=True)

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
