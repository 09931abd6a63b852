"""The engine with a journal before its orders: whatever it is told and does is written, then sent, then said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core.bars import EXIT_REASONS, NEVER
from ibs_core.engine import NOTHING_TOLD
from ibs_core.errors import DataError
from ibs_core.market_data.runs import stamp
from ibs_core.notices import Notice
from ibs_core.orders import orders_of
from ibs_core.portfolio import (
    BLOCKS,
    CANCEL,
    ENTRY,
    FIRST_BLOCK,
    FIRST_VETO,
    INPUT,
    LIVE_BLOCKS,
    TAKEN,
)
from ibs_core.ports import Entry
from ibs_core.recording import SEAM, differences, laid_out, minutes_in, recorded
from ibs_core.snapshot import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibs_core.advance import Advance
    from ibs_core.bars import Records
    from ibs_core.dispatch import Dispatch
    from ibs_core.engine import Engine
    from ibs_core.market_data import HeldBars
    from ibs_core.ports import Clock, Journal, Minute, Order, Stored

__all__ = ["JournalledEngine"]

_NO_SEAMS: Final = np.zeros(0, SEAM)


class JournalledEngine:
    """One engine, one journal, and the orders between them.

    Parameters
    ----------
    engine : Engine
    journal : Journal
    dispatch : Dispatch
    clock : Clock
    publish : callable
        Given a `Notice`.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        dispatch: Dispatch,
        clock: Clock,
        publish: Callable[[Notice], None],
    ) -> None:
        self.engine, self._journal, self._dispatch = engine, journal, dispatch
        self._clock, self._publish = clock, publish
        self._roots = [each.root for each in engine.symbols]
        self._since = bytearray()  # minutes since the last entry, laid out while there is time
        self._seams = _NO_SEAMS
        self._written_ns = self._snapshot_date = self._seq = 0
        self.blocked: set[str] = set()
        self.counts = dict.fromkeys(("slices", "orders", "trades"), 0)

    # ------------------------------------------------------------------ start

    def warm(self, past: HeldBars, start_ns: int) -> None:
        """Begin a new journal with the past observed.

        Parameters
        ----------
        past : HeldBars
        start_ns : int, UTC ns
            Every minute that opens before it is in `past`.
        """
        self.engine.warm(past, start_ns)
        self._journal.snapshot(0, start_ns, pack(self.engine.state()))
        self._written_ns = self.engine.until_ns

    def resume(self, kept: tuple[int, int, bytes]) -> None:
        """Load the last state and replay what came after it.

        Parameters
        ----------
        kept : (int, int, bytes)
            As `Journal.latest_snapshot` returns it.

        Raises
        ------
        DataError
            The journal does not replay to what it says.
        """
        self._seq, _, block = kept
        self.engine.restore(unpack(block))
        for stored in self._journal.entries(self._seq):
            self._replay(stored)
        self._written_ns = self.engine.until_ns
        until = self.engine.book["blocked_ns"][:, : len(LIVE_BLOCKS)]
        now_ns = self.engine.until_ns
        self.blocked = {
            reason for i, reason in enumerate(LIVE_BLOCKS) if (until[:, i] > now_ns).any()
        }

    def _replay(self, stored: Stored) -> None:
        arrays = stored.arrays
        for root, seam_ns in arrays["seams"].tolist():
            self.engine.know_seam(root, seam_ns)
        minutes = minutes_in(arrays)
        done = self.engine.advance(minutes, stored.time_ns, arrays["inputs"])
        again = recorded(laid_out(minutes), arrays["inputs"], arrays["seams"], done)
        if found := differences(again, arrays):
            raise DataError(
                f"entry {stored.seq} of the journal does not replay",
                found=found[0],
                remedy="`ibs parity` shows more; positions must be checked by hand",
            )
        self._seq = stored.seq

    # ------------------------------------------------------------------ one step

    def step(
        self, minutes: Sequence[Minute], until_ns: int, inputs: Records = NOTHING_TOLD
    ) -> None:
        """Take minutes up to an instant, decide every slice, and send what follows.

        Parameters
        ----------
        minutes : sequence of Minute
        until_ns : int, UTC ns
        inputs : (n_inputs,) INPUT
        """
        self._since += laid_out(minutes)
        done = self.engine.advance(minutes, until_ns, inputs)
        if done.is_slice or len(inputs):
            self._dispatch.send(self._commit(done, inputs))
            self._told_of(done)

    def tell(self, kind: int, root: str | None, until_ns: int, *, by_hand: bool = False) -> None:
        """Give the engine an input, after the last slice.

        Parameters
        ----------
        kind : int
            See `decisions.INPUT`.
        root : str or None
            None is all.
        until_ns : int, UTC ns
        by_hand : bool
            What follows from it is done already: its orders are written and not sent.
        """
        i = -1 if root is None else self._roots.index(root)
        at_ns = self.engine.until_ns
        inputs = np.array([(at_ns, 1, kind, i, until_ns)], INPUT)
        done = self.engine.advance([], at_ns, inputs)
        withdrawn = (root,) if kind == CANCEL and root is not None else ()
        orders = self._commit(done, inputs, withdrawn)
        (self._dispatch.done_by_hand if by_hand else self._dispatch.send)(orders)
        self._told_of(done)

    def block(self, reason: str, *, off: bool = False) -> None:
        """Block entries of all symbols for a reason, or no more.

        Parameters
        ----------
        reason : str
            One of `LIVE_BLOCKS`.
        off : bool
        """
        if off == (reason not in self.blocked):
            return
        (self.blocked.discard if off else self.blocked.add)(reason)
        text = f"entries {'no longer ' if off else ''}blocked: {reason}"
        self._say("block", text, reason=reason, on=not off)
        self.tell(FIRST_BLOCK + LIVE_BLOCKS.index(reason), None, 0 if off else NEVER)

    def learn(self, seams: Sequence[tuple[str, int]]) -> None:
        """Take note of rolls that became known: an entry of their own, before any later minute.

        Parameters
        ----------
        seams : sequence of (str, int)
            Roots and instants, UTC ns; those that are known already change nothing.
        """
        new = [each for each in seams if self.engine.is_new_seam(*each)]
        for root, seam_ns in new:
            self.engine.know_seam(root, seam_ns)
            self._say("roll", f"{root} rolls at {stamp(seam_ns)}", symbol=root)
        if new:
            self._seams = np.array(new, SEAM)
            self._take_up()

    def finish(self) -> None:
        """Write what came since the last entry, and the state."""
        if self._since or self.engine.until_ns > self._written_ns:
            self._take_up()
        self._keep()

    def _take_up(self) -> None:
        """Write an entry though no slice asks for one; nothing is decided at an instant that is decided."""
        done = self.engine.advance([], self.engine.until_ns)
        orders = self._commit(done, NOTHING_TOLD)
        assert not orders, "an order outside of a slice"

    def _commit(self, done: Advance, inputs: Records, withdrawn: Sequence[str] = ()) -> list[Order]:
        """Write what was decided; return what is to be sent."""
        orders = orders_of(done, self.engine, self._dispatch.entered, withdrawn)
        arrays = recorded(self._since, inputs, self._seams, done)
        self._seq = self._journal.append(Entry(done.until_ns, arrays, orders))
        self._since, self._seams, self._written_ns = bytearray(), _NO_SEAMS, done.until_ns
        self.counts["slices"] += bool(done.bars)
        self.counts["orders"] += len(orders)
        self.counts["trades"] += len(done.trades)
        return orders

    def _told_of(self, done: Advance) -> None:
        """Say what was decided and closed, and keep the state of a session that ended."""
        for each in done.decisions[done.decisions["action"] == ENTRY]:
            if each["reason"] != TAKEN:
                root, why = self._roots[each["symbol"]], _refusal(int(each["reason"]))
                self._say("refused", f"entry of {root} not taken: {why}", symbol=root, reason=why)
        for trade in done.trades:
            self._tell_trade(trade)
        date = int(self.engine.book["date"].max())
        if date != self._snapshot_date and self._snapshot_date:
            self._keep()
        self._snapshot_date = date

    def _tell_trade(self, trade: Records) -> None:
        symbol = self.engine.symbols[trade["symbol"]]
        params, reason = symbol.params[0], EXIT_REASONS[int(trade["reason"]) - 1]
        points = float(trade["exit_price"] - trade["entry_price"])
        net_usd = round(points * float(params["usd_per_point"]) - float(params["cost_usd"]), 2)
        text = (
            f"{symbol.root}: {symbol.quantity} from {trade['entry_price']:g} to {trade['exit_price']:g}, "
            f"{reason}, {net_usd:,.2f} USD after assumed costs"
        )
        self._say("trade", text, symbol=symbol.root, reason=reason, net_usd=net_usd)

    def _keep(self) -> None:
        """Keep the state after the last entry."""
        self._journal.snapshot(self._seq, self.engine.until_ns, pack(self.engine.state()))

    def _say(self, kind: str, text: str, **facts: Any) -> None:
        self._publish(Notice(kind, text, self._clock.now_ns(), facts=facts))


def _refusal(code: int) -> str:
    return "vetoed" if code >= FIRST_VETO else BLOCKS[code - 1]
