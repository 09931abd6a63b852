"""The laws of positions and of the book, over random small worlds, and `decide` as live calls it."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import numpy as np
import pytest
import worlds
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Ledger, decide_all, draw_world, new_ledger, snapshot

from ibs_core import portfolio, positions, replay
from ibs_core.bars import NEVER
from ibs_core.portfolio import ENTRY, EXIT, TAKEN
from ibs_core.positions import (
    ENTERING,
    FLAT,
    LEAVING,
    OPEN,
    PROTECTIVE_STOP,
    PROTECTIVE_TARGET,
    ROLL_EXIT,
)

SEEDS = st.integers(0, 2**31)
PROTECTIVE = (PROTECTIVE_STOP, PROTECTIVE_TARGET)


# ---------------------------------------------------------------- a driver as live would be


class Driver:
    """Feed `decide` from a queue of events: seams, first minutes, minutes of the path, closes.

    It shares no code with `decide_many`: each symbol has one list of events in order of time.
    """

    def __init__(self, world):
        self.world = world
        self.ledger = new_ledger(world)
        self.banked = np.zeros(len(world.params))  # realised in sessions that are over
        self.queues = [self._events(i) for i in range(len(world.params))]
        ends = world.bars["end_ns"].tolist()
        self.ends = [{ends[k]: k for k in range(f["bar"], f["stop"])} for f in world.feeds]
        self.bar_open = [0] * len(world.params)
        self.after_slice = []

    def _events(self, i):
        world, feed = self.world, self.world.feeds[i]
        own, out = range(feed["bar"], feed["stop"]), []
        starts = (world.bars["path_start"] + feed["path_offset"]).tolist()
        stops = (world.bars["path_stop"] + feed["path_offset"]).tolist()
        first, seam = world.bars["first_ns"].tolist(), world.bars["seam_ns"].tolist()
        minutes = world.path["ts_ns"].tolist()
        for k in own:
            if seam[k]:
                out.append((seam[k], 0, k))
            out.append((first[k], 1, k))
            out += [(minutes[j], 2, (k, j)) for j in range(starts[k], stops[k])]
            if world.bars[k]["end_ns"] == NEVER:
                out.append((int(world.bars[k]["last_ns"]), 3, k))
        return deque(sorted(out))

    def slices(self):
        return sorted({int(end) for end in self.world.bars["end_ns"] if end < NEVER})

    def run(self):
        for time_ns in self.slices():
            self.take(time_ns)
        for i in range(len(self.queues)):
            self._settle(i, NEVER)
            if self.ledger.book[i]["status"] == ENTERING:
                self.ledger.book[i]["status"] = FLAT
        return self.ledger

    def take(self, time_ns):
        ledger, world = self.ledger, self.world
        slices = np.zeros(len(self.queues), portfolio.SLICE)
        for i in range(len(self.queues)):
            self._settle(i, time_ns)
            position = ledger.book[i]
            if position["status"] == ENTERING and time_ns > position["expire_ns"]:
                position["status"] = FLAT
            self._enter_session(i, time_ns)
            slices[i]["in_bar"] = self.bar_open[i]
            self._close(i, time_ns, slices)
        portfolio.decide(
            *(time_ns, world.params, world.risk[0], ledger.book, ledger.desk[0], slices),
            *(worlds.NOTHING_TOLD, ledger.decisions, ledger.n),
        )
        self.after_slice.append((time_ns, ledger.book.copy(), int(ledger.desk[0]["halted_date"])))

    def _close(self, i, time_ns, slices):
        world, k = self.world, self.ends[i].get(time_ns)
        if k is None:
            return
        bar, signal, laid = world.bars[k], world.signals[k], world.schedule[k]
        slices[i] = (
            *(1, self.bar_open[i], bar["close"], bar["high"], bar["low"]),
            *(signal["ibs"], signal["atr"], signal["gate"], signal["score"], signal["verdict"]),
            *(laid["flats_end"], laid["in_roll"], laid["expire_ns"], laid["close_left_ns"]),
        )
        self.bar_open[i] = 0

    def _settle(self, i, time_ns):
        while self.queues[i] and self.queues[i][0][0] < time_ns:
            ts_ns, kind, at = self.queues[i].popleft()
            (self._seam, self._first_minute, self._minute, self._stop)[kind](i, ts_ns, at)

    def _seam(self, i, ts_ns, _k):
        ledger, position = self.ledger, self.ledger.book[i]
        self._enter_session(i, ts_ns)
        params, trades, n = self.world.params[i], ledger.trades, ledger.n
        if positions.cross_seam(params, position, ts_ns, trades, n):
            portfolio.log_order(ledger.desk[0], ts_ns)
            self._exit(i, ts_ns, ROLL_EXIT)

    def _first_minute(self, i, ts_ns, k):
        self.bar_open[i] = 1
        self._enter_session(i, ts_ns)
        bar, flats = self.world.bars[k], self.world.schedule[k]["flats_first"]
        self._fill(i, bar["contract"], ts_ns, bar["open"], flats)

    def _minute(self, i, ts_ns, at):
        k, j = at
        ledger, position, minute = self.ledger, self.ledger.book[i], self.world.path[j]
        if position["status"] == LEAVING:
            self._enter_session(i, ts_ns)
            self._fill(i, self.world.bars[k]["contract"], ts_ns, minute["open"], 0)
        if position["status"] == OPEN:
            params, trades, n = self.world.params[i], ledger.trades, ledger.n
            reason = positions.protect(params, position, minute, trades, n)
            if reason:
                self._exit(i, ts_ns, reason)
        position["mark"] = minute["close"]

    def _stop(self, i, _ts_ns, k):
        """The data stop inside this bar."""
        self.ledger.book[i]["mark"] = self.world.bars[k]["close"]

    def _fill(self, i, contract, ts_ns, price, flats):
        ledger = self.ledger
        positions.fill(
            *(self.world.params[i], ledger.book[i], i, contract, ts_ns, price, flats),
            *(ledger.trades, ledger.n),
        )

    def _exit(self, i, time_ns, reason):
        ledger = self.ledger
        score = ledger.book[i]["trade"]["score"]
        portfolio.record(ledger.decisions, ledger.n, time_ns, i, EXIT, reason, score)

    def _enter_session(self, i, ts_ns):
        feed, position = self.world.feeds[i], self.ledger.book[i]
        own = self.world.sessions[feed["session"] : feed["session_stop"]]
        date = own["date"][max(int(np.searchsorted(own["open_ns"], ts_ns, side="right")) - 1, 0)]
        if position["date"] != date:
            self.banked[i] += position["realised_usd"]
            position["realised_usd"] = 0.0
            position["date"] = date


# ---------------------------------------------------------------- one decision at a time


@settings(max_examples=15)
@given(seed=SEEDS)
def test_decide_called_slice_by_slice_gives_what_decide_many_gives(seed):
    world = draw_world(seed)
    whole, driven = decide_all(world), Driver(world).run()
    for name in ("book", "desk", "trades", "decisions", "n"):
        assert getattr(whole, name).tobytes() == getattr(driven, name).tobytes(), name


def test_what_symbols_settle_one_after_the_other_stands_in_order_of_time():
    """A symbol that slept settles what others would have settled before it at an earlier slice."""
    params, book = worlds.draw_params(np.random.default_rng(0)), positions.new_positions(4)
    trades, decisions = np.zeros(4, positions.TRADE), np.zeros(4, portfolio.DECISION)
    desk, n = portfolio.new_desk()[0], np.zeros(2, np.int64)
    for i, time_ns in enumerate([20, 10, 20, 15]):
        book[i]["status"], book[i]["trade"]["exit_price"] = LEAVING, np.nan
        book[i]["trade"]["symbol"] = i
        positions.fill(params[0], book[i], i, 0, time_ns, 100.0, 0, trades, n)
        portfolio.record(decisions, n, time_ns, i, EXIT, ROLL_EXIT, 0.0)
        portfolio.log_order(desk, time_ns)
    for rows, time in ((trades, "exit_ns"), (decisions, "time_ns")):
        assert rows[[time, "symbol"]].tolist() == [(10, 1), (15, 3), (20, 0), (20, 2)]
    assert desk["order_ns"][:4].tolist() == [10, 15, 20, 20]
    assert positions.by_exit(trades) is trades
    assert positions.by_exit(trades[[2, 0, 3, 1]]).tobytes() == trades.tobytes()


def test_the_last_orders_are_remembered_by_time_when_there_are_more_than_fit():
    desk, times = portfolio.new_desk()[0], [*range(2, 2 * portfolio.MAX_ORDERS, 2), 1001, 5000, 999]
    for time_ns in times:
        portfolio.log_order(desk, time_ns)
    assert set(desk["order_ns"].tolist()) == set(sorted(times)[-portfolio.MAX_ORDERS :])


@settings(max_examples=15)
@given(seed=SEEDS, data=st.data())
def test_a_replay_that_is_cut_at_any_slice_and_resumed_gives_the_same_ledger(seed, data):
    world = draw_world(seed)
    whole = decide_all(world)
    ends = np.unique(world.bars["end_ns"])
    stop = data.draw(st.integers(0, len(ends[ends < NEVER])))
    ledger = Ledger(*(snapshot(part) for part in take_slices(world, stop)))
    resumed = decide_all(world, ledger)
    assert worlds.same(whole, resumed)


def take_slices(world, stop):
    """Do the first `stop` slices, each over all symbols."""
    ledger = new_ledger(world)
    for time_ns in np.unique(world.bars["end_ns"])[:stop].tolist():
        settle_all(world, ledger, time_ns)
        take_slice(world, ledger, time_ns, worlds.NOTHING_TOLD)
    return ledger


def settle_all(world, ledger, time_ns):
    for i in range(len(world.params)):
        replay._settle(
            *(time_ns, world.params[i], ledger.book[i], i, ledger.desk[0], ledger.feeds[i]),
            *(world.bars, world.schedule, world.path, world.sessions),
            *(ledger.trades, ledger.decisions, ledger.n),
        )


def take_slice(world, ledger, time_ns, inputs):
    slices = np.zeros(len(world.params), portfolio.SLICE)
    for i in range(len(slices)):
        replay._read_slice(
            *(time_ns, ledger.feeds[i], world.bars, world.schedule, world.signals),
            slices[i],
        )
    portfolio.decide(
        *(time_ns, world.params, world.risk[0], ledger.book, ledger.desk[0], slices),
        *(inputs, ledger.decisions, ledger.n),
    )


def slice_by_slice(world, inputs, until_ns):
    """Replay every slice of every symbol, with its own compiled parts: nobody sleeps."""
    ledger = new_ledger(world)
    ends, told = np.unique(world.bars["end_ns"]).tolist(), list(inputs)
    while True:
        time_ns = ends[0] if ends else NEVER
        alone = bool(told) and told[0]["time_ns"] < time_ns
        time_ns = int(told[0]["time_ns"]) if alone else time_ns
        if time_ns > until_ns or time_ns == NEVER:
            break
        settle_all(world, ledger, time_ns)
        now = told[:1] if alone else [each for each in told if sum(each.item()[:2]) <= time_ns]
        take_slice(world, ledger, time_ns, np.array(now, portfolio.INPUT))
        told, ends = told[len(now) :], ends if alone else ends[1:]
    settle_all(world, ledger, until_ns)
    ledger.n[2] = len(inputs) - len(told)
    return ledger


@settings(max_examples=30)
@given(seed=SEEDS, data=st.data())
def test_that_symbols_sleep_while_they_are_flat_changes_no_bit(seed, data):
    world = draw_world(seed, n_symbols=4, density=0.05)
    world.risk["daily_loss_usd"] = np.nan
    rng, ends = np.random.default_rng(seed), np.unique(world.bars["end_ns"])
    ends = ends[ends < NEVER]
    world.signals["gate"][rng.random(len(world.bars)) < data.draw(st.sampled_from([0, 0.9, 1]))] = 1
    inputs = np.zeros(data.draw(st.integers(0, 12)), portfolio.INPUT)
    inputs["time_ns"] = rng.choice(ends, len(inputs)) + rng.choice([0, 1], len(inputs))
    inputs["after"], inputs["symbol"] = rng.integers(0, 2, (2, len(inputs))) - [[0], [1]]
    inputs["kind"] = rng.integers(0, portfolio.FIRST_BLOCK + 2, len(inputs))
    inputs["until_ns"] = rng.choice([0, ends[0], *ends, NEVER], len(inputs))
    inputs.sort(order=["time_ns", "after"])
    cut = data.draw(st.sampled_from([*ends.tolist(), NEVER]))
    assert worlds.same(
        decide_all(world, until_ns=cut, inputs=inputs), slice_by_slice(world, inputs, cut)
    )
    cuts = sorted(data.draw(st.lists(st.sampled_from(ends.tolist()), max_size=3)))
    ledger = new_ledger(world)
    for until_ns in (*cuts, NEVER):
        decide_all(world, ledger, until_ns=until_ns, inputs=inputs)
    assert worlds.same(ledger, slice_by_slice(world, inputs, NEVER))


@settings(max_examples=15)
@given(seed=SEEDS, data=st.data())
def test_later_bars_never_change_an_earlier_decision(seed, data):
    world = draw_world(seed)
    ends = np.unique(world.bars["end_ns"])
    cut = int(data.draw(st.sampled_from(ends.tolist())))
    changed = world._replace(signals=world.signals.copy(), bars=world.bars.copy())
    late = world.bars["end_ns"] > cut
    changed.signals["gate"][late] = 1
    for name in ("high", "low", "close"):
        changed.bars[name][late & (world.bars["first_ns"] >= cut)] += 100.0
    for old, new in zip(decide_all(world).rows(), decide_all(changed).rows(), strict=True):
        time = "exit_ns" if "exit_ns" in old.dtype.names else "time_ns"
        upto = cut if time == "time_ns" else cut - 1
        assert old[old[time] <= upto].tobytes() == new[new[time] <= upto].tobytes()


def test_deciding_writes_neither_rules_nor_bars_nor_signals():
    world = draw_world(5)
    before = [part.tobytes() for part in world[:9]]
    decide_all(world)
    assert [part.tobytes() for part in world[:9]] == before


# ---------------------------------------------------------------- the laws of the book


def driven(seed, **keywords):
    world = draw_world(seed, **keywords)
    driver = Driver(world)
    trades, decisions = driver.run().rows()
    return world, driver, trades, decisions


@settings(max_examples=15)
@given(seed=SEEDS, limit=st.integers(0, 4))
def test_open_and_pending_positions_never_exceed_the_limit(seed, limit):
    _, driver, _, decisions = driven(seed, n_symbols=4, max_positions=limit)
    held = [int((book["status"] != FLAT).sum()) for _, book, _ in driver.after_slice]
    assert max(held) <= limit
    if limit == 0:
        assert not (decisions["reason"][decisions["action"] == ENTRY] == TAKEN).any()


@settings(max_examples=15)
@given(seed=SEEDS)
def test_no_entry_is_taken_when_the_orders_of_its_minute_are_used_up(seed):
    world, _, _, decisions = driven(seed, n_symbols=4)
    taken = (decisions["action"] == ENTRY) & (decisions["reason"] == TAKEN)
    order = taken | ((decisions["action"] == EXIT) & ~np.isin(decisions["reason"], PROTECTIVE))
    for j in np.flatnonzero(taken):
        recent = decisions["time_ns"][:j] > decisions["time_ns"][j] - worlds.MINUTE_NS
        assert (order[:j] & recent).sum() < world.risk[0]["max_orders_per_minute"]


@settings(max_examples=15)
@given(seed=SEEDS)
def test_no_symbol_is_entered_in_the_slice_of_its_own_exit(seed):
    _, _, _, decisions = driven(seed)
    decided = ~np.isin(decisions["reason"], PROTECTIVE) & (decisions["action"] == EXIT)
    exits = set(decisions[decided][["time_ns", "symbol"]].tolist())
    taken = (decisions["action"] == ENTRY) & (decisions["reason"] == TAKEN)
    assert not exits & set(decisions[taken][["time_ns", "symbol"]].tolist())


@settings(max_examples=40)
@given(seed=SEEDS)
def test_a_trade_fills_at_the_first_minute_after_each_of_its_decisions(seed):
    world, _, trades, decisions = driven(seed)
    bar_of = {float(score): k for k, score in enumerate(world.scores)}
    for trade in trades:
        bar = world.bars[bar_of[float(trade["score"])]]  # the bar that decided the entry
        minutes = world.minutes[trade["symbol"]]
        at = int(np.searchsorted(minutes.ts, bar["end_ns"]))
        assert trade["entry_ns"] >= bar["end_ns"]
        assert (trade["entry_ns"], trade["entry_price"]) == (minutes.ts[at], minutes.open[at])
        assert trade["contract"] == minutes.contract[at] == bar["contract"]
        assert trade["entry_ns"] <= world.schedule[bar_of[float(trade["score"])]]["expire_ns"]
        mine = (decisions["symbol"] == trade["symbol"]) & (decisions["action"] == EXIT)
        (decided,) = decisions[mine & (decisions["score"] == trade["score"])]
        assert decided["reason"] == trade["reason"]
        left = trade["exit_ns"], trade["exit_price"]
        if trade["reason"] in PROTECTIVE:
            minute = int(np.searchsorted(minutes.ts, trade["exit_ns"]))
            assert decided["time_ns"] == trade["exit_ns"] == minutes.ts[minute]
            assert minutes.low[minute] <= trade["exit_price"] <= minutes.high[minute] or (
                trade["reason"] == PROTECTIVE_TARGET and trade["exit_price"] <= minutes.open[minute]
            )
            assert trade["exit_ns"] >= trade["entry_ns"]
            continue
        after = int(np.searchsorted(minutes.ts, decided["time_ns"]))
        if after < len(minutes.ts) and minutes.contract[after] == trade["contract"]:
            assert left == (minutes.ts[after], minutes.open[after])
        else:  # a seam came first
            last = minutes.close[minutes.contract == trade["contract"]][-1]
            seams = world.bars["seam_ns"][world.bars["seam_ns"] >= decided["time_ns"]]
            assert trade["exit_ns"] in seams
            assert trade["exit_price"] == last
        assert trade["exit_ns"] > trade["entry_ns"]


@settings(max_examples=15)
@given(seed=SEEDS)
def test_the_trades_of_one_symbol_never_overlap(seed):
    _, _, trades, _ = driven(seed)
    for symbol in np.unique(trades["symbol"]):
        own = trades[trades["symbol"] == symbol]
        assert (own["entry_ns"][1:] > own["exit_ns"][:-1]).all()


@settings(max_examples=15)
@given(seed=SEEDS)
def test_what_the_book_realised_is_what_the_trades_made(seed):
    world, driver, trades, decisions = driven(seed)
    for i, position in enumerate(driver.ledger.book):
        made = Decimal(0)
        rule, feed = world.params[i], world.feeds[i]
        opens = world.sessions["open_ns"][feed["session"] : feed["session_stop"]]
        for trade in trades[trades["symbol"] == i]:
            mine = (decisions["symbol"] == i) & (decisions["action"] == EXIT)
            (decided,) = decisions[mine & (decisions["score"] == trade["score"])]
            at = np.searchsorted(opens, [decided["time_ns"], trade["exit_ns"]], side="right")
            if at[0] != at[1]:
                continue  # counted when it was decided, as open, in the session before
            points = Decimal(repr(float(trade["exit_price"]))) - Decimal(
                repr(float(trade["entry_price"]))
            )
            made += points * Decimal(float(rule["usd_per_point"])) - Decimal(
                float(rule["cost_usd"])
            )
        realised = driver.banked[i] + position["realised_usd"]
        assert realised == pytest.approx(float(made), abs=1e-6)


@settings(max_examples=15)
@given(seed=SEEDS)
def test_the_extremes_of_a_trade_are_those_of_the_minutes_that_it_was_held(seed):
    world, _, trades, _ = driven(seed)
    for trade in trades:
        minutes = world.minutes[trade["symbol"]]
        held = (minutes.ts >= trade["entry_ns"]) & (minutes.ts < trade["exit_ns"])
        held &= minutes.contract == trade["contract"]
        prices = [trade["entry_price"], trade["exit_price"]]
        assert trade["low"] == min([*prices, *minutes.low[held]])
        assert trade["high"] == max([*prices, *minutes.high[held]])


@settings(max_examples=15)
@given(seed=SEEDS)
def test_bars_held_count_from_the_bar_of_the_fill_to_that_of_the_exits_decision(seed):
    world, _, trades, decisions = driven(seed)
    for trade in trades:
        feed = world.feeds[trade["symbol"]]
        own = world.bars[feed["bar"] : feed["stop"]]
        mine = (decisions["symbol"] == trade["symbol"]) & (decisions["action"] == EXIT)
        (decided,) = decisions[mine & (decisions["score"] == trade["score"])]
        since = own["end_ns"] > trade["entry_ns"]
        inside = since & (own["first_ns"] < decided["time_ns"])
        if trade["reason"] in PROTECTIVE:
            inside = since & (own["first_ns"] <= decided["time_ns"])
        assert trade["bars_held"] == inside.sum()


@settings(max_examples=15)
@given(seed=SEEDS)
def test_every_candidate_gets_one_decision_and_nothing_else_does(seed):
    world, _, _, decisions = driven(seed)
    entries = decisions[decisions["action"] == ENTRY]
    candidates = np.flatnonzero((world.signals["gate"] == 0) & (world.bars["end_ns"] < NEVER))
    assert sorted(entries["score"].tolist()) == sorted(world.scores[candidates].tolist())
    bar_of = {float(score): k for k, score in enumerate(world.scores)}
    decided_at = [world.bars[bar_of[float(score)]]["end_ns"] for score in entries["score"]]
    assert entries["time_ns"].tolist() == decided_at


@settings(max_examples=15)
@given(seed=SEEDS)
def test_after_a_breach_of_the_daily_loss_nothing_is_entered_on_that_date(seed):
    world = draw_world(seed)
    world.risk["daily_loss_usd"] = 50.0
    driver = Driver(world)
    driver.run()
    last = -NEVER
    for time_ns, book, halted_date in driver.after_slice:
        assert halted_date >= last
        last = halted_date
        for position in book[book["date"] <= halted_date]:
            assert position["status"] in (FLAT, LEAVING), time_ns


def test_capacity_goes_to_the_highest_score_first_and_ties_to_the_map():
    n = 4
    params, risk = np.zeros(n, worlds.signals.PARAMS), np.zeros(1, portfolio.RISK)
    risk[0] = (2, NEVER, NEVER, np.nan, NEVER, -1, 1)
    slices = np.zeros(n, portfolio.SLICE)
    slices["closing"], slices["close_left_ns"] = 1, NEVER
    slices["score"] = [0.2, 0.7, 0.7, 0.9]
    book, desk = positions.new_positions(n), portfolio.new_desk()
    decisions, count = np.zeros(9, portfolio.DECISION), np.zeros(2, np.int64)
    params["tick_nano"] = 10**9
    portfolio.decide(
        1, params, risk[0], book, desk[0], slices, worlds.NOTHING_TOLD, decisions, count
    )
    assert decisions["symbol"][: count[1]].tolist() == [3, 1, 2, 0]
    assert book["status"].tolist() == [FLAT, ENTERING, FLAT, ENTERING]


def test_the_orders_of_the_last_sixty_seconds_count_and_older_ones_do_not():
    minute = worlds.MINUTE_NS
    for wait, expected in ((minute - 1, portfolio.TOO_MANY_ORDERS), (minute, TAKEN)):
        params, risk = np.zeros(2, worlds.signals.PARAMS), np.zeros(1, portfolio.RISK)
        params["tick_nano"] = 10**9
        risk[0] = (2, NEVER, NEVER, np.nan, 1, -1, 0)
        book, desk = positions.new_positions(2), portfolio.new_desk()
        decisions, count = np.zeros(9, portfolio.DECISION), np.zeros(2, np.int64)
        for i, time_ns in enumerate((10 * minute, 10 * minute + wait)):
            slices = np.zeros(2, portfolio.SLICE)
            slices[i]["closing"], slices[i]["close_left_ns"] = 1, NEVER
            book["status"][0] = FLAT
            portfolio.decide(
                time_ns,
                params,
                risk[0],
                book,
                desk[0],
                slices,
                worlds.NOTHING_TOLD,
                decisions,
                count,
            )
        assert decisions["reason"][: count[1]].tolist() == [TAKEN, expected]


def test_a_position_leaves_at_its_seam_before_any_later_slice_of_another_symbol():
    # The new contract opens at 3600 s and first prints at 4200 s; the other symbol decides at 3900 s.
    second, n = 10**9, 2
    bars = np.zeros(n, worlds.BAR)
    bars["start_ns"], bars["first_ns"] = np.array([[3600, 3600], [4200, 3650]]) * second
    bars["last_ns"], bars["end_ns"] = np.array([[4200, 3650], [7200, 3900]]) * second
    bars["seam_ns"], bars["contract"] = [3600 * second, 0], [1, 0]
    params, risk = np.zeros(n, worlds.signals.PARAMS), np.zeros(1, portfolio.RISK)
    params["tick_nano"] = 10**9
    risk[0] = (1, NEVER, NEVER, np.nan, NEVER, -1, 0)
    signal, schedule = np.zeros(n, worlds.signals.SIGNAL), np.zeros(n, worlds.signals.SCHEDULE)
    signal["gate"] = [1, 0]
    schedule["expire_ns"] = schedule["close_left_ns"] = NEVER - 1
    feeds, sessions = np.zeros(n, replay.FEED), np.zeros(n, worlds.SESSION)
    feeds["bar"], feeds["stop"] = [0, 1], [1, 2]
    feeds["session"], feeds["session_stop"] = [0, 1], [1, 2]
    none, paths = np.zeros(0), np.zeros(0, worlds.PATH)
    world = worlds.World(params, risk, bars, schedule, signal, none, paths, sessions, feeds, ())
    ledger = new_ledger(world)
    ledger.book[0]["status"], ledger.book[0]["mark"] = OPEN, 50.0
    trades, decisions = decide_all(world, ledger).rows()
    assert trades[["exit_ns", "exit_price"]].tolist() == [(3600 * second, 50.0)]
    assert decisions[["time_ns", "symbol", "action", "reason"]].tolist() == [
        (3600 * second, 0, EXIT, ROLL_EXIT),
        (3900 * second, 1, ENTRY, TAKEN),
    ]


# ---------------------------------------------------------------- protective levels


@pytest.mark.parametrize(
    ("minute", "reason", "price"),
    [
        ((100.0, 101.0, 99.0, 100.0), 0, None),
        ((100.0, 101.0, 97.0, 98.0), PROTECTIVE_STOP, 98.0),
        ((96.0, 97.0, 95.0, 96.0), PROTECTIVE_STOP, 96.0),  # opened below: no better than its open
        ((100.0, 103.0, 99.0, 100.0), PROTECTIVE_TARGET, 102.0),
        ((104.0, 105.0, 103.0, 104.0), PROTECTIVE_TARGET, 102.0),  # never better than the target
        ((100.0, 103.0, 97.0, 100.0), PROTECTIVE_STOP, 98.0),  # both: the stop
        ((98.0, 98.0, 98.0, 98.0), PROTECTIVE_STOP, 98.0),
        ((102.0, 102.0, 102.0, 102.0), PROTECTIVE_TARGET, 102.0),
    ],
)
def test_a_minute_touches_the_stop_before_the_target(minute, reason, price):
    book, trades = positions.new_positions(1), np.zeros(1, positions.TRADE)
    position, n = book[0], np.zeros(2, np.int64)
    position["status"], position["trade"]["entry_price"] = OPEN, 100.0
    position["trade"]["low"] = position["trade"]["high"] = 100.0
    position["protective_stop"], position["protective_target"] = 98.0, 102.0
    path = np.zeros(1, worlds.PATH)
    path[0] = (7, *minute)
    params = np.zeros(1, worlds.signals.PARAMS)
    assert positions.protect(params[0], position, path[0], trades, n) == reason
    if price is None:
        assert (position["status"], n[0]) == (OPEN, 0)
        assert (position["trade"]["low"], position["trade"]["high"]) == (minute[2], minute[1])
    else:
        assert (trades[0]["exit_price"], trades[0]["exit_ns"], n[0]) == (price, 7, 1)


@pytest.mark.parametrize(
    ("price", "tick_nano", "expected"),
    [
        (100.125, 250_000_000, 100.25),  # a half goes up
        (-100.125, 250_000_000, -100.0),
        (100.1249, 250_000_000, 100.0),
        (71.235, 10_000_000, 71.24),
        (71.234999, 10_000_000, 71.23),
        (0.00635025, 50, 0.00635025),
        (0.006350275, 50, 0.0063503),
        (4_000_000.1, 100_000_000, 4_000_000.1),
    ],
)
def test_a_level_is_rounded_to_the_nearest_tick_halves_up(price, tick_nano, expected):
    assert positions._on_tick(price, tick_nano) == expected


@settings(max_examples=100)
@given(st.integers(-(10**9), 10**9), st.sampled_from([50, 10**7, 25 * 10**7, 15_625_000]))
def test_a_price_on_its_tick_stays_where_it_is(ticks, tick_nano):
    price = float(Decimal(ticks % 10**6 * tick_nano) / 10**9)
    assert positions._on_tick(price, tick_nano) == price
    assert np.isnan(positions._on_tick(np.nan, tick_nano))
