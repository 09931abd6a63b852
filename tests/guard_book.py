"""A book by hand: one slice, one minute, one message from live at a time, and what it must then show."""

from __future__ import annotations

from copy import copy

import numpy as np

from ibs_core import portfolio, positions
from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.config import Costs, Risk, Strategy
from ibs_core.contracts import load_contract_map
from ibs_core.parameters import make_params, make_risk, make_wiring
from ibs_core.portfolio import ENTRY, INPUT
from ibs_core.ports import Minute
from ibs_core.positions import OPEN

CONTRACTS = load_contract_map()
FREE = Costs(commission_per_side=0.0, slippage_ticks=0.0)
MAX_WAIT_NS = 5 * MINUTE_NS


class Book:
    """Symbols under the limits of a configuration; each is (root, executed contract, quantity)."""

    def __init__(self, symbols, costs=FREE, **limits):
        rule, parts = Strategy(), []
        for root, execute, quantity in symbols:
            wiring = make_wiring(rule, CONTRACTS.get(root), CONTRACTS, "strategy")
            executed = CONTRACTS.get(execute)
            parts.append(make_params(rule, executed, wiring, quantity=quantity, costs=costs))
        self.params = np.concatenate(parts)
        self.risk = make_risk(Risk(**limits), veto=False)[0]
        self.positions = positions.new_positions(len(symbols))
        self.desk = portfolio.new_desk()
        self.trades = np.zeros(4096, positions.TRADE)
        self.decisions = np.zeros(4096, portfolio.DECISION)
        self.n = np.zeros(3, np.int64)
        self.time_ns = 1000 * MINUTE_NS

    def restarted(self):
        """Give the book of a process that begins with the bytes of this one."""
        again = copy(self)
        again.positions = np.frombuffer(self.positions.tobytes(), positions.POSITION).copy()
        again.desk = np.frombuffer(self.desk.tobytes(), portfolio.DESK).copy()
        again.trades, again.decisions = self.trades.copy(), self.decisions.copy()
        again.n = self.n.copy()
        return again

    @property
    def statuses(self):
        return self.positions["status"].tolist()

    def slice(self, candidates=(), told=()):
        """Decide a minute later; return reasons by symbol of entries, and of exits."""
        self.time_ns += MINUTE_NS
        slices = np.zeros(len(self.params), portfolio.SLICE)
        slices["gate"] = portfolio.FIRST_VETO  # no candidate
        for i in candidates:
            slices[i]["closing"], slices[i]["gate"] = 1, 0
            slices[i]["close"] = slices[i]["high"] = slices[i]["low"] = self.positions[i]["mark"]
            slices[i]["close_left_ns"] = NEVER
            slices[i]["expire_ns"] = self.time_ns + MAX_WAIT_NS
        inputs = np.array([(self.time_ns, 0, *each) for each in told], INPUT)
        before = self.n[1]
        portfolio.decide(
            *(self.time_ns, self.params, self.risk, self.positions, self.desk[0], slices),
            *(inputs, self.decisions, self.n),
        )
        entries, exits = {}, {}
        for each in self.decisions[before : self.n[1]]:
            found = entries if each["action"] == ENTRY else exits
            found[int(each["symbol"])] = int(each["reason"])
        return entries, exits

    def tell(self, kind, i, until_ns=0):
        """Let live tell something in a slice of its own."""
        return self.slice(told=[(kind, i, until_ns)])

    def minute(self, i, price=100.0, contract=0):
        """Let a symbol print a minute."""
        self.time_ns += MINUTE_NS
        positions.fill(
            *(self.params[i], self.positions[i], i, contract, self.time_ns, price, 0),
            *(self.trades, self.n),
        )
        self.positions[i]["mark"] = price

    def seam(self, i):
        """Let a symbol go on to its next contract."""
        self.time_ns += MINUTE_NS
        positions.cross_seam(self.params[i], self.positions[i], self.time_ns, self.trades, self.n)

    def hold(self, i, price, mark=None):
        """Let a symbol be held since long."""
        position = self.positions[i]
        position["status"], position["trade"]["entry_price"] = OPEN, price
        position["trade"]["low"] = position["trade"]["high"] = price
        position["mark"] = price if mark is None else mark

    def enter_date(self, date):
        """Let the sessions of a trade date open, as the replay does."""
        for position in self.positions:
            position["date"], position["realised_usd"] = date, 0.0


def minutes_in_order(source, roots):
    """Every minute of some roots, by time."""
    found = [
        Minute(run.root, run.instrument, *row)
        for run in source.stream(list(roots), volume=True)
        for row in zip(
            *(column.tolist() for column in (run.ts_ns, run.open, run.high, run.low)),
            *(column.tolist() for column in (run.close, run.volume)),
            strict=True,
        )
    ]
    return sorted(found, key=lambda minute: (minute.ts_ns, roots.index(minute.root)))
