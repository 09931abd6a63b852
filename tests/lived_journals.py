"""Journals as a worker leaves them, made by the engine alone: no feed, no delivery."""

from __future__ import annotations

import numpy as np
from live_worlds import MAP, at

from adapters.sqlite_journal import SqliteJournal
from ibs_core.bars import MINUTE_NS
from ibs_core.cli.live_parts import facts_of
from ibs_core.engine import NOTHING_TOLD
from ibs_core.orders import orders_of
from ibs_core.ports import Entry
from ibs_core.positions import FLAT, OPEN
from ibs_core.recording import SEAM, laid_out, minutes_of, recorded
from ibs_core.snapshot import pack

NO_SEAMS = np.zeros(0, SEAM)


def live(world, path, *, holding=None, after=""):
    """Write what a worker would; ends with the bars, or where just `holding` is held after an instant; every order was delivered."""
    engine = world.engine()
    engine.warm(world.minutes((), 0, world.start_ns), world.start_ns)
    minutes, entered = minutes_of(world.held), {}
    with SqliteJournal(path) as journal:
        facts = facts_of(world.settings, MAP, world.roots) | {"source": "a test"}
        journal.begin(world.start_ns, facts)
        journal.snapshot(0, world.start_ns, pack(engine.state()))
        for end_ns in range(world.start_ns + 30 * MINUTE_NS, world.end_ns, 30 * MINUTE_NS):
            new = [each for each in minutes if end_ns - 30 * MINUTE_NS <= each.ts_ns < end_ns]
            done = engine.advance(new, end_ns)
            orders = orders_of(done, engine, entered)
            entered |= {each.symbol: each for each in orders if each.action == "entry"}
            arrays = recorded(laid_out(new), NOTHING_TOLD, NO_SEAMS, done)
            journal.append(Entry(end_ns, arrays, orders))
            for order in orders:
                journal.order_state(order.order_id, "ACKED", order.decided_ns)
            status = engine.book["status"].tolist()
            if end_ns < (at(after) if after else 0):
                continue
            if holding and status == [OPEN if root == holding else FLAT for root in world.roots]:
                break
    return path
