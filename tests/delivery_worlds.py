"""A world for senders without a network: a journal in memory, a receiver that is as slow and as lossy as it may be."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from journal_entries import order

from adapters.sqlite_journal import may_follow
from adapters.traderspost.tray import Tray
from ibs_core.contracts import load_contract_map
from ibs_core.outbox import Attempt, Delivery
from ibs_core.outcomes import Response, after_probe

SECOND = 10**9
MAP = load_contract_map()
TICKERS = {"ES": "MESZ2025", "NQ": "MNQZ2025", "CL": "CLF2026"}
FAULTS = ("not_sent", "lost_answer", "lost_message", "throttled", "error", "refused")


class Killed(BaseException):
    """The process is gone."""


class Clock:
    def __init__(self, ns=1_764_600_000 * SECOND):
        self.ns, self.off_ns = ns, 0

    def now_ns(self):
        return self.ns + self.off_ns

    def steady_ns(self):
        return self.ns


class MemoryJournal:
    """An `Outbox` that keeps what it was told, obeys the law of states, and dies on command."""

    def __init__(self, fate=lambda: False):
        self.held, self.frozen, self.events, self._fate = {}, {}, [], fate
        self.n_unnoted = 0

    def append(self, given):
        self.held[given.order_id] = Delivery(given)

    def _die(self):
        if self._fate():
            raise Killed

    def _state(self, order_id, state):
        held = self.held[order_id]
        assert state in may_follow(held.order.action, held.state), (order_id, held.state, state)
        self.held[order_id] = replace(held, state=state)

    def order_state(self, order_id, state, _now_ns, _detail=""):
        self._die()
        self._state(order_id, state)
        self._die()

    def begin_attempt(self, order_id, now_ns, *, body, route, flattens=False):
        self._die()
        if not flattens:
            self._state(order_id, "SENDING")
            self.frozen.setdefault(order_id, body)
        held = self.held[order_id]
        number = len(held.attempts)
        attempts = (*held.attempts, Attempt(number, now_ns, flattens))
        self.held[order_id] = replace(held, attempts=attempts, route=route)
        self._last = order_id
        self._die()
        return number

    def end_attempt(self, number, now_ns, response, *, state, why):
        del why
        self._die()
        held = self.held[self._last]
        ended = replace(held.attempts[number], ended_ns=now_ns, response=response)
        attempts = tuple(ended if each.number == number else each for each in held.attempts)
        self.held[self._last] = replace(held, attempts=attempts)
        if state is not None:
            self._state(self._last, state)
        self._die()

    def event(self, now_ns, kind, facts):
        try:
            self._die()
        except Killed:
            self.n_unnoted += kind == "page"
            raise
        self.events.append((now_ns, kind, facts))
        if kind == "page":
            held = self.held[facts["order_id"]]
            self.held[facts["order_id"]] = replace(held, paged=held.paged | {facts["cause"]})
        self._die()

    def unsent(self):
        return [each.order for each in self.held.values() if each.state == "PENDING"]

    def body(self, order_id):
        return self.frozen.get(order_id)

    def deliveries(self, since_ns):
        return [
            each
            for each in self.held.values()
            if each.is_unsettled or any(one.started_ns >= since_ns for one in each.attempts)
        ]


@dataclass
class Receiver:
    """Takes what arrives: plans a moment later on the position as it is then, fills seconds after.

    An entry that is still on its way is not seen by an exit, and two exits that are planned on the same position
    both sell it.
    """

    chance: random.Random
    held: Counter = field(default_factory=Counter)
    seen: defaultdict = field(default_factory=lambda: defaultdict(list))
    due: list = field(default_factory=list)
    extremes: defaultdict = field(default_factory=lambda: defaultdict(set))

    def take(self, ticker, name, action, quantity, now_ns):
        self.seen[name].append(now_ns)
        if action == "buy":
            self._at(now_ns + self._s(0.3, 11), self._trade, ticker, quantity)
        else:
            self._at(now_ns + self._s(0.1, 2), self._close, ticker, None)

    def settle(self, now_ns):
        while self.due and min(self.due, key=lambda each: each[0])[0] <= now_ns:
            next_one = min(self.due, key=lambda each: each[0])
            self.due.remove(next_one)
            at_ns, what, ticker, n = next_one
            what(at_ns, ticker, n)

    def _close(self, at_ns, ticker, _):
        if self.held[ticker] > 0:
            self._at(at_ns + self._s(0.2, 7), self._trade, ticker, -self.held[ticker])

    def _trade(self, _at_ns, ticker, n):
        self.held[ticker] += n
        self.extremes[ticker].add(self.held[ticker])

    def _at(self, at_ns, what, ticker, n):
        self.due.append((at_ns, what, ticker, n))

    def _s(self, low, high):
        return int(self.chance.uniform(low, high) * SECOND)


class World:
    """A sender that is killed and started again, in front of a receiver that loses what it likes."""

    def __init__(self, seed, *, fault_rate=0.4, death_rate=0.02, step_rate=0.0, quantity=2):
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.fault_rate, self.death_rate, self.step_rate = fault_rate, death_rate, step_rate
        self.quantity, self.is_calm = quantity, False
        self.journal = MemoryJournal(self._dies)
        self.receiver = Receiver(self.chance)
        self.pages, self.left, self.n_deaths, self.n_steps = defaultdict(Counter), [], 0, 0
        self.tray = self._started()

    def _dies(self):
        return not self.is_calm and self.chance.random() < self.death_rate

    def _now_ns(self):
        """As the sender's own clock: set by the wall's at the start, and never after."""
        return self._zero_ns + self.clock.steady_ns()

    def _started(self):
        self._zero_ns = self.clock.now_ns() - self.clock.steady_ns()
        tray = Tray(
            "demo",
            self.journal,
            self.clock,
            now_ns=self._now_ns,
            strategy="ibs",
            contracts=MAP,
            trading=lambda _ns: TICKERS,
            page=lambda page: self.pages[page.order_id].update([page.cause]),
            life_ns=10 * SECOND,
        )
        tray.recover()
        return tray

    def restart(self):
        """As live does: entries that are too old are given up, all else is handed over."""
        self.n_deaths += 1
        self.clock.ns += int(self.chance.uniform(0, 30) * SECOND)
        while True:
            try:
                self.tray = self._started()
                for each in list(self.journal.held.values()):
                    if each.state != "PENDING":
                        continue
                    aged = self.clock.now_ns() - each.order.decided_ns > 10 * SECOND
                    if each.is_entry and aged:
                        self.journal.order_state(each.order.order_id, "EXPIRED", 0)
                    else:
                        self.tray.take(each.order)
            except Killed:
                continue
            return

    def decide(self, name, action, symbol):
        given = order(
            name,
            symbol=symbol,
            instrument=TICKERS[symbol],
            action=action,
            decided_ns=self.clock.now_ns(),
            quantity=self.quantity,
            price=6800.0,
            stop=None,
        )
        self.journal.append(given)
        try:
            self.tray.take(given)
        except Killed:
            self.restart()

    def run_until(self, until_ns):
        while self.clock.ns < until_ns:
            if not self.is_calm and self.chance.random() < self.step_rate:
                self.n_steps += 1
                self.clock.off_ns += self.chance.choice([-3600, -12, -3, 3, 12, 3600]) * SECOND
            try:
                wait_ns = self._turn()
            except Killed:
                self.restart()
                continue
            self.clock.ns = min(self.clock.ns + wait_ns, max(until_ns, self.clock.ns))
            self.receiver.settle(self.clock.ns)

    def _turn(self):
        done = self.tray.next()
        if done.send is not None:
            attempt, _, left_ns = self.tray.begin(done.send)
            given = self.journal.held[done.send.order_id].order
            response = self._post(given, done.send, left_ns)
            self.tray.end(done.send, attempt, response)
            return 0
        if done.is_probe:
            is_reached = self.is_calm or self.chance.random() > self.fault_rate
            breaker = after_probe(self.tray.breaker, self._now_ns(), is_reached=is_reached)
            self.tray.breaker = breaker
            return 0
        return max((done.wake_ns or self._now_ns() + SECOND) - self._now_ns(), 1)

    def _post(self, given, send, left_ns):
        opens = given.action == "entry" and not send.flattens
        self._die()
        fault = "" if self.is_calm or self.chance.random() > self.fault_rate else self._fault()
        if fault == "not_sent":
            self._pass(0, 4)
            return Response("NOT_SENT")
        if opens:
            assert abs(self.clock.now_ns() - given.decided_ns) <= 10 * SECOND
            assert left_ns >= 0
        if fault in ("throttled", "refused"):
            self._pass(0, 1)
            if fault == "refused":
                return Response("REFUSED", 400, detail="invalid-password")
            wait_ns = self.chance.choice([None, int(self.chance.uniform(1, 20) * SECOND)])
            return Response("THROTTLED", 429, retry_after_ns=wait_ns)
        if fault != "lost_message":
            name = f"{given.order_id}{'-flatten' * send.flattens}"
            action = "buy" if opens else "exit"
            self.receiver.take(given.instrument, name, action, given.quantity, self.clock.ns)
            self.left.append((self.clock.ns, opens))
        self._die()
        self._pass(0.05, 8 if fault else 0.5)
        if not fault:
            return Response("ACCEPTED", 200)
        return Response("AMBIGUOUS", 500 if fault == "error" else None)

    def _fault(self):
        weights = (4, 3, 3, 1, 2, 1)
        return self.chance.choices(FAULTS, weights)[0]

    def _pass(self, low, high):
        self.clock.ns += int(self.chance.uniform(low, high) * SECOND)
        self.receiver.settle(self.clock.ns)

    def _die(self):
        if self._dies():
            raise Killed

    # ------------------------------------------------------------------ a life

    def live(self, n_trades):
        """Decide entries and exits, some of them within seconds, then let everything settle in peace."""
        events = []
        for symbol in TICKERS:
            at_s = 0.0
            for k in range(n_trades):
                at_s += self.chance.uniform(20, 200)
                events.append((at_s, f"{symbol}-{k}-entry", "entry", symbol))
                at_s += self.chance.choice(
                    [self.chance.uniform(0, 20), self.chance.uniform(20, 300)]
                )
                events.append(
                    (
                        at_s,
                        f"{symbol}-{k}-exit",
                        self.chance.choice(["exit", "exit", "cancel"]),
                        symbol,
                    )
                )
        first_ns = self.clock.ns
        for at_s, name, action, symbol in sorted(events):
            self.run_until(first_ns + int(at_s * SECOND))
            self.decide(name, action, symbol)
        self.is_calm = True
        self.run_until(self.clock.ns + 600 * SECOND)
        return len(events)

    def holds(self):
        """What must be so whatever happened."""
        for name, held in self.journal.held.items():
            times = self.receiver.seen[name]
            if held.is_entry:
                assert len(times) <= 1, f"{name} arrived {len(times)} times"
                gone_well = ("ACKED", "EXPIRED", "SUPERSEDED", "FLATTENED")
                assert held.state in gone_well or self.pages[name], (name, held.state)
            else:
                assert times or self.pages[name], f"{name} neither arrived nor was paged"
                assert held.state in ("ACKED", "DEAD"), (name, held.state)
                gaps = [b - a for a, b in itertools.pairwise(times)]
                assert all(gap >= 10 * SECOND for gap in gaps) or self._forgot, (name, gaps)
        self.pages.pop("", None)  # of the route, once an outage
        n_twice = sum(n - 1 for causes in self.pages.values() for n in causes.values())
        assert n_twice <= self.journal.n_unnoted, self.pages
        for ticker, seen in self.receiver.extremes.items():
            assert seen <= {0, self.quantity} or self._forgot, f"{ticker} held {seen}"
        for symbol, ticker in TICKERS.items():
            own = [each for each in self.journal.held.values() if each.order.symbol == symbol]
            is_told = any(self.pages[each.order.order_id] for each in own if each.state == "DEAD")
            assert self.receiver.held[ticker] == 0 or is_told
        starts = [ns for ns, _ in self.left]
        opens = [ns for ns, is_entry in self.left if is_entry]
        for found, most, span in ((opens, 30, 60), (starts, 60, 60)):
            for first, last in zip(found, found[most:], strict=False):
                assert last - first >= span * SECOND - SECOND or self._forgot

    @property
    def _forgot(self):
        """Whether a sender began with a clock that was set since the attempts before: it cannot know how old they are."""
        return self.n_steps and self.n_deaths
