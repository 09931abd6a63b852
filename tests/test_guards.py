"""The guards: limits on positions and contracts, slots that are never lost, the day's loss, orders that leave once.

The naive back-test takes what live tells, too, and must say what the engine says.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import test_random_worlds
import yaml
from guard_book import Book, minutes_in_order
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import LIVE_BLOCKS, Told, run
from parity import CONTRACTS, differences, minutes_of, plain_config, sessions_of
from test_decisions import SEEDS, Driver
from worlds import draw_world

from adapters.sqlite_journal import SqliteJournal
from ibs_core import portfolio, positions
from ibs_core.backtest import trade
from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.config import Costs, load_settings
from ibs_core.engine import Engine
from ibs_core.errors import ConfigError, DataError
from ibs_core.ledger import decisions_frame
from ibs_core.market_data import open_bars
from ibs_core.orders import orders_of
from ibs_core.portfolio import BLOCKS, CANCEL, LEFT_LATE, TAKEN
from ibs_core.ports import Entry
from ibs_core.positions import ENTERING, FLAT, LEAVING, OPEN
from ibs_core.research.sample_data import write_sample
from ibs_core.snapshot import pack, unpack
from ibs_core.universe import Universe

HOUR_NS = 60 * MINUTE_NS
ROOTS = ("ES", "NQ", "CL", "ZC")
KINDS = ("cancel", "flatten", "absent", "left_late", *LIVE_BLOCKS)


# ---------------------------------------------------------------- what live tells, against the oracle


def draw_told(rng, minutes, n):
    """Draw what live might tell, by time.

    An exit that its slice decided may be told not to have left, and told later that it has.
    """
    ends = sorted({minute[0] + MINUTE_NS for rows in minutes.values() for minute in rows})
    hours = [end for end in ends if end % HOUR_NS == 0]
    roots, found = [*minutes, None], []
    for _ in range(n):
        kind, root, after = rng.choice(KINDS), rng.choice(roots), rng.random() < 0.5
        at, until = rng.choice(ends), rng.randrange(30) * HOUR_NS
        if kind == "left_late" and hours:
            at, until, after = rng.choice(hours), None, True
            left = ends[min(bisect_right(ends, at) + rng.randrange(900), len(ends) - 1)]
            found.append(Told(left, after, kind, root, left))
        found.append(Told(at, after, kind, root, None if until is None else at + until))
    return sorted(found, key=lambda told: (told.time, told.after))


def as_inputs(told, roots):
    rows = []
    for each in told:
        kind = KINDS.index(each.kind)
        root = -1 if each.root is None else roots.index(each.root)
        rows.append(
            (each.time, each.after, kind, root, NEVER if each.until is None else each.until)
        )
    return np.array(rows, portfolio.INPUT)


def compare(seed, folder, tally):
    """Give the differences of one world with inputs, None when its configuration is refused."""
    bars, config, _ = test_random_worlds.world(seed)
    for each in (config, *config["symbols"].values()):
        if "strategy" in each:  # many candidates; resting far away, so that every minute has a say
            each["strategy"] |= {"filters": {}}
            each["strategy"]["exits"]["protective"] = {"stop": {"percent": 80.0}}
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(config))
    paths = [folder / f"{root}.parquet" for root in bars]
    for path, frame in zip(paths, bars.values(), strict=True):
        frame.write_parquet(path)
    if not paths:
        return None
    minutes, own = minutes_of(paths), load_settings([file])
    roots = sorted(minutes, key=CONTRACTS.order)
    told = draw_told(random.Random(seed), minutes, 60)
    try:
        traded = trade(open_bars(paths, CONTRACTS), own, CONTRACTS, inputs=as_inputs(told, roots))
    except ConfigError:
        return None
    facts = {
        root: {
            "tick_size": f"{CONTRACTS.get(root).tick_nano}e-9",
            "tick_value_usd": CONTRACTS.get(root).tick_value_usd,
            "order": CONTRACTS.order(root),
        }
        for root in roots
    }
    sessions = {root: sessions_of(root, rows) for root, rows in minutes.items()}
    oracle = run(minutes, plain_config(own, minutes) | {"told": told}, facts, sessions)
    engine = SimpleNamespace(
        trades=traded.trades(),
        decisions=decisions_frame(traded.decision_records, traded.lines),
    )
    found = differences(engine, oracle)
    columns = engine.decisions.select("symbol", "action", "reason").rows()
    mine, others = Counter(columns), Counter(each[1:] for each in oracle.decisions)
    if mine != others:
        found.append(f"engine only {mine - others}, oracle only {others - mine}")
    tally.update(reason for _, _, reason in columns)
    tally.update(late_exits(oracle, minutes))
    return found


def late_exits(oracle, minutes):
    """Name the trades that left an hour of prints or more after their exit was decided."""
    for made in oracle.trades:
        rows, left = minutes[made["symbol"]], made["exit_time"]
        decided = max(
            time
            for time, root, action, _ in oracle.decisions
            if (root, action) == (made["symbol"], "exit") and time <= left
        )
        printed = [row for row in rows if decided <= row[0] <= left]
        if len(printed) > 60:
            same = made["instrument"].endswith(printed[-1][1][len(made["symbol"]) :])
            yield "left late" if same else "left late, beyond a roll"


def test_the_oracle_takes_what_live_tells_as_the_engine_does(tmp_path):
    tally, compared = Counter(), 0
    for seed in range(60):
        found = compare(seed, tmp_path, tally)
        assert not found, (seed, found)
        compared += found is not None
    assert compared > 40
    for told in (*LIVE_BLOCKS, "absent", "max_quantity", "max_total_quantity", "pending"):
        assert tally[f"blocked:{told}"] > 10, told
    assert tally["operator"] > 3
    assert tally["left late"] > 3


@pytest.mark.soak
def test_the_oracle_takes_what_live_tells_over_a_thousand_worlds(tmp_path):
    tally = Counter()
    for seed in range(60, 1060):
        found = compare(seed, tmp_path, tally)
        assert not found, (seed, found)
    assert tally["left late, beyond a roll"] > 5


# ---------------------------------------------------------------- slots and contracts

FLATTEN, BLOCK = portfolio.FLATTEN, portfolio.FIRST_BLOCK
WORDS = [
    "slice",
    "slice",
    "minute",
    "minute",
    "wait",
    "cancel",
    "flatten",
    "unsent",
    "left",
    "seam",
    "restart",
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(WORDS),
        st.integers(0, 3),
        st.sets(st.integers(0, 3), min_size=1),
    ),
    max_size=60,
)


class Shadow:
    """What the book must show, by the rule alone: who is busy, and whose exit nobody knows to have left."""

    def __init__(self, quantities, limits):
        self.quantities, self.limits = quantities, limits
        self.status = [FLAT] * len(quantities)
        self.expires = [0] * len(quantities)
        self.left = [True] * len(quantities)

    def refusal(self, i):
        busy = [k for k, status in enumerate(self.status) if status != FLAT]
        contracts = sum(self.quantities[k] for k in busy) + self.quantities[i]
        for name, used in (
            ("max_positions", len(busy) + 1),
            ("max_quantity", self.quantities[i]),
            ("max_total_quantity", contracts),
        ):
            if self.limits[name] is not None and used > self.limits[name]:
                return name
        return "taken"


def do(book, shadow, step, i, candidates):
    """Do one step to both; entries decided by the book are held against the shadow's rule."""
    status = shadow.status[i]
    if step == "slice":
        entries, _ = book.slice(sorted(candidates))
        for k in sorted(candidates):
            found = BLOCKS[entries[k] - 1] if entries[k] else "taken"
            expected = {OPEN: "position", ENTERING: "pending", LEAVING: "pending"}
            assert found == expected.get(shadow.status[k], shadow.refusal(k))
            if found == "taken":
                shadow.status[k], shadow.expires[k] = ENTERING, book.time_ns + 5 * MINUTE_NS
    elif step == "wait":
        book.time_ns += 10 * MINUTE_NS
    elif step == "minute":
        book.minute(i)
        if status == ENTERING:
            shadow.status[i] = OPEN if book.time_ns <= shadow.expires[i] else FLAT
        elif status == LEAVING and shadow.left[i]:
            shadow.status[i] = FLAT
    elif step == "seam":
        book.seam(i)
        shadow.status[i] = LEAVING if status == LEAVING and not shadow.left[i] else FLAT
    elif step == "cancel":
        book.tell(CANCEL, i)
        shadow.status[i] = FLAT
    elif step == "flatten":
        book.tell(FLATTEN, i)
        shadow.status[i] = {OPEN: LEAVING, ENTERING: FLAT}.get(status, status)
        shadow.left[i] = status == OPEN or shadow.left[i]
    elif step == "unsent":
        book.tell(LEFT_LATE, i, NEVER)
        shadow.left[i] = shadow.left[i] and status != LEAVING
    else:
        book.tell(LEFT_LATE, i, book.time_ns)
        shadow.left[i] = True


@settings(max_examples=150)
@given(
    steps=STEPS,
    quantities=st.tuples(*[st.integers(1, 3)] * 4),
    most=st.sampled_from([None, 0, 1, 2, 3]),
    largest=st.sampled_from([None, 1, 2]),
    total=st.sampled_from([None, 2, 4, 6]),
)
def test_free_slots_are_what_the_book_shows_after_whatever_befell_it(
    steps, quantities, most, largest, total
):
    limits = {"max_positions": most, "max_quantity": largest, "max_total_quantity": total}
    symbols = [(root, root, quantity) for root, quantity in zip(ROOTS, quantities, strict=True)]
    given_limits = {**limits, "max_positions": most or None}
    book, shadow = Book(symbols, **given_limits), Shadow(quantities, limits)
    if most == 0:
        book.risk["max_positions"] = 0
    for step, i, candidates in steps:
        if step == "restart":
            book = book.restarted()
        else:
            do(book, shadow, step, i, candidates)
        assert book.statuses == shadow.status
        busy = [q for q, status in zip(quantities, book.statuses, strict=True) if status != FLAT]
        assert most is None or len(busy) <= most
        assert total is None or sum(busy) <= total
        assert largest is None or max(busy, default=0) <= largest
    for i in range(4):  # in the end every slot is free again, however it was taken
        book.tell(CANCEL, i)
    shadow.status = [FLAT] * 4
    do(book, shadow, "slice", 0, {0, 1, 2, 3})
    assert book.statuses == shadow.status


@settings(max_examples=15)
@given(seed=SEEDS, total=st.integers(0, 6), largest=st.integers(1, 3))
def test_contracts_held_and_pending_never_exceed_their_limits(seed, total, largest):
    world = draw_world(seed, n_symbols=4, max_positions=4)
    world.risk["max_quantity"], world.risk["max_total_quantity"] = largest, total
    driver = Driver(world)
    driver.run()
    for _, book, _ in driver.after_slice:
        held = world.params["quantity"][book["status"] != FLAT]
        assert held.sum() <= total
        assert (held <= largest).all()


def test_a_quantity_is_of_the_contract_that_is_executed():
    """Ten micros are ten contracts, though they are worth one."""
    book = Book([("ES", "MES", 10), ("NQ", "NQ", 1)], max_quantity=9, max_total_quantity=9)
    entries, _ = book.slice([0, 1])
    assert [BLOCKS[entries[0] - 1], entries[1]] == ["max_quantity", TAKEN]


def test_a_refusal_for_contracts_leaves_room_for_a_smaller_entry_of_the_same_slice():
    book = Book([("ES", "ES", 2), ("NQ", "NQ", 2), ("CL", "CL", 1)], max_total_quantity=3)
    entries, _ = book.slice([0, 1, 2])
    assert entries == {0: TAKEN, 1: BLOCKS.index("max_total_quantity") + 1, 2: TAKEN}


@pytest.mark.parametrize("name", ["max_quantity", "max_total_quantity"])
def test_a_limit_on_contracts_is_off_unless_it_is_given_and_is_a_count(name):
    assert getattr(load_settings().risk, name) is None
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(ConfigError, match=name):
            load_settings(overrides={"risk": {name: wrong}})


# ---------------------------------------------------------------- an exit that has not left


def leaving(**limits):
    """Give a book whose ES leaves, which live says it has not done yet; NQ is free."""
    book = Book([("ES", "MES", 2), ("NQ", "NQ", 1)], **limits)
    book.hold(0, 5000.0)
    book.tell(FLATTEN, 0)
    book.tell(LEFT_LATE, 0, NEVER)
    return book


def test_an_exit_that_has_not_left_fills_nothing_and_keeps_its_slot():
    book = leaving(max_positions=1)
    for price in (4990.0, 4980.0):
        book.minute(0, price)
    assert (book.statuses, book.n[0]) == ([LEAVING, FLAT], 0)
    entries, _ = book.slice([0, 1])
    assert [BLOCKS[entries[i] - 1] for i in (0, 1)] == ["pending", "max_positions"]
    left_ns = book.time_ns
    book.tell(LEFT_LATE, 0, left_ns)
    book.minute(0, 4970.0)
    assert book.trades[0]["exit_price"] == 4970.0
    assert book.trades[0]["exit_ns"] >= left_ns
    assert book.slice([1])[0] == {1: TAKEN}


def test_an_exit_that_left_is_not_booked_before_it_did():
    book = leaving()
    left_ns = book.time_ns + 10 * MINUTE_NS
    book.tell(LEFT_LATE, 0, left_ns)
    book.tell(LEFT_LATE, 0, left_ns - 5 * MINUTE_NS)  # what is known to be later stays
    for _ in range(12):
        book.minute(0, 4990.0)
    assert book.trades[0]["exit_ns"] == left_ns


def test_the_loss_of_an_exit_that_has_not_left_counts_and_goes_on_to_count():
    book = leaving(daily_loss_usd=200)
    book.hold(1, 20000.0)
    book.minute(0, 4980.25)  # 19.75 points of 2 micros at 5 USD: 197.50
    assert book.slice()[1] == {}
    book.minute(0, 4980.0)
    assert book.slice()[1] == {1: positions.PORTFOLIO}


def test_an_exit_that_has_not_left_at_a_roll_is_booked_at_the_old_contract_when_it_leaves():
    book = leaving(daily_loss_usd=60)
    book.minute(0, 4995.0)
    book.seam(0)
    assert (book.statuses[0], book.n[0]) == (LEAVING, 0)
    book.minute(0, 5050.0, contract=1)  # the next contract stands 55 points higher
    book.slice([0])
    assert float(positions.open_usd(book.params[0], book.positions[0])) == -50.0
    book.seam(0)
    book.tell(LEFT_LATE, 0, book.time_ns)
    book.minute(0, 5060.0, contract=2)
    (made,) = book.trades[: book.n[0]]
    assert (made["exit_price"], made["exit_ns"], made["contract"]) == (4995.0, book.time_ns, 0)
    assert book.positions[0]["realised_usd"] == -50.0
    assert book.statuses[0] == FLAT


def test_a_cancelled_entry_takes_its_exit_with_it_and_leaves_no_trade():
    book = leaving(max_positions=1)
    book.minute(0, 4000.0)
    book.tell(CANCEL, 0)
    book.minute(0, 3990.0)
    assert (book.statuses, book.n[0]) == ([FLAT, FLAT], 0)
    assert book.positions[0]["realised_usd"] == 0.0
    assert book.slice([0])[0] == {0: TAKEN}


# ---------------------------------------------------------------- the day's loss

TICKS = {  # as the exchange writes them: the executed contract's tick, and what one tick is worth in USD
    "MES": (Decimal("0.25"), Decimal("1.25")),
    "6C": (Decimal("0.00005"), Decimal(5)),
    "6M": (Decimal("0.00001"), Decimal(5)),
    "CL": (Decimal("0.01"), Decimal(10)),
}
HELD = (("ES", "MES", 3), ("6C", "6C", 1), ("6M", "6M", 2), ("CL", "CL", 1))
PRICES = (Decimal(5000), Decimal("0.73"), Decimal("0.055"), Decimal("70.5"))
COSTS = Costs(commission_per_side=1.25, slippage_ticks=0.5)
LIMIT = Decimal(300)


class Day:
    """The loss of a day by the rule: realised by exits decided on it, and open, after all costs."""

    def __init__(self):
        self.entry, self.last = [None] * 4, list(PRICES)
        self.decided = [None] * 4  # the date on which the exit was decided
        self.date, self.realised, self.halted = 0, Decimal(0), None

    def usd(self, i):
        _, contract, quantity = HELD[i]
        tick, value = TICKS[contract]
        costs = 2 * quantity * (Decimal("1.25") + value / 2)
        return (self.last[i] - self.entry[i]) / tick * value * quantity - costs

    def total(self):
        return self.realised + sum(self.usd(i) for i in range(4) if self.entry[i] is not None)

    def fill(self, i):
        if self.decided[i] == self.date:
            self.realised += self.usd(i)
        self.entry[i] = self.decided[i] = None


ACTS = ("move", "move", "move", "hold", "leave", "fill", "fill", "date")


@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_loss_of_the_day_is_realised_and_open_and_flattens_and_blocks_until_the_next(seed):
    rng = random.Random(seed)
    book, day = Book(HELD, COSTS, daily_loss_usd=float(LIMIT)), Day()
    book.positions["mark"] = [float(price) for price in PRICES]
    for _ in range(150):
        if rng.random() < 0.1:
            book = book.restarted()
        step, i, ticks = rng.choice(ACTS), rng.randrange(4), rng.randint(-20, 17)
        if step == "move":
            day.last[i] += ticks * TICKS[HELD[i][1]][0]
            book.positions[i]["mark"] = float(day.last[i])
        elif step == "hold" and day.entry[i] is None:
            book.hold(i, float(day.last[i]))
            day.entry[i] = day.last[i]
        elif step == "leave" and day.entry[i] is not None and day.decided[i] is None:
            day.decided[i] = day.date
            book.tell(FLATTEN, i)
        elif step == "fill" and day.decided[i] is not None:
            day.fill(i)
            book.minute(i, float(day.last[i]))
        elif step == "date":
            day.date, day.realised = day.date + 1, Decimal(0)
            book.enter_date(day.date)
        if day.total() <= -LIMIT:
            day.halted = day.date
        _, exits = book.slice()
        due = {i for i in range(4) if day.entry[i] is not None and day.decided[i] is None}
        due = due if day.halted == day.date else set()
        for k in due:
            day.decided[k] = day.date
        seen = [k for k, status in enumerate(book.statuses) if status == LEAVING]
        assert exits == dict.fromkeys(due, positions.PORTFOLIO)
        assert seen == [k for k in range(4) if day.decided[k] is not None]
        free = [k for k, status in enumerate(book.statuses) if status == FLAT]
        if free:
            probe = book.restarted()
            entries, _ = probe.slice(free)
            blocked = BLOCKS.index("daily_loss") + 1 if day.halted == day.date else TAKEN
            assert entries == dict.fromkeys(free, blocked)


# ---------------------------------------------------------------- an order is decided once


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    """Three weeks of five minutes an hour, two symbols."""
    folder = tmp_path_factory.mktemp("bars")
    for path in write_sample(
        folder, roots=["ES", "CL"], start=date(2023, 10, 30), end=date(2023, 11, 17), seed=6
    ):
        minute = pl.col("ts_event").dt.minute()
        pl.read_parquet(path).filter(minute.is_in([0, 15, 29, 30, 59])).write_parquet(path)
    return open_bars([folder], CONTRACTS)


RULE = {
    "strategy": {"entry": {"ibs": [0.0, 0.5], "pivots": "none"}},
    "symbols": {"ES": {"execute": "MES"}, "CL": {}},
}


def minutes_and_engine(source):
    own = load_settings(overrides=RULE)
    universe = Universe(own, CONTRACTS, start=None, end=None)
    engine = Engine(universe, ["ES", "CL"], own, {})
    minutes = minutes_in_order(source, ("ES", "CL"))
    return minutes, engine


def test_a_slice_that_is_decided_again_makes_the_same_orders_and_the_journal_refuses_them(
    thinned, tmp_path
):
    minutes, engine = minutes_and_engine(thinned)
    opens = [minute.ts_ns for minute in minutes]
    ends = range(opens[0] // HOUR_NS * HOUR_NS + HOUR_NS, opens[-1], HOUR_NS)
    entered, sent, refused = {}, [], 0
    with SqliteJournal(tmp_path / "live.sqlite") as journal:
        journal.begin(1, {})
        for end in ends:
            now = minutes[bisect_left(opens, end - HOUR_NS) : bisect_left(opens, end)]
            before = pack(engine.state())
            done = engine.advance(now, end)
            orders = orders_of(done, engine, entered)
            if orders:
                _, again = minutes_and_engine(thinned)
                again.restore(unpack(before))
                assert orders_of(again.advance(now, end), again, entered) == orders
                journal.append(Entry(end, {}, orders))
                last = journal.last_seq()
                for some in (orders, orders[-1:]):
                    with pytest.raises(DataError, match="in the journal already"):
                        journal.append(Entry(end, {}, some))
                    refused += 1
                assert journal.last_seq() == last
            entered |= {order.symbol: order for order in orders if order.action == "entry"}
            sent += [order.order_id for order in orders]
            if refused > 40:
                break
        assert len(sent) == len(set(sent)) > 20
        assert [each.order.order_id for each in journal.orders()] == sent


def test_an_entry_that_is_cancelled_is_cancelled_once(thinned):
    """The lapse makes the order that cancels; live's word that it never left makes no second one."""
    minutes, engine = minutes_and_engine(thinned)
    opens = [minute.ts_ns for minute in minutes]
    entered, cancelled = {}, []
    seen = Counter()
    for end in range(opens[0] // HOUR_NS * HOUR_NS + HOUR_NS, opens[-1], HOUR_NS):
        now = minutes[bisect_left(opens, end - HOUR_NS) : bisect_left(opens, end)]
        done = engine.advance(now, end)
        orders = orders_of(done, engine, entered)
        entered |= {order.symbol: order for order in orders if order.action == "entry"}
        cancelled += [order.order_id for order in orders if order.action == "cancel"]
        for i, root in enumerate(("ES", "CL")):
            if root not in entered or end % (3 * HOUR_NS):
                continue
            seen[int(engine.book[i]["status"])] += 1
            for _ in range(2):
                told = np.array([(end, 1, CANCEL, i, 0)], portfolio.INPUT)
                done = engine.advance([], end, told)
                assert len(done.trades) == len(done.decisions) == 0
                assert orders_of(done, engine, entered, withdrawn=(root,)) == []
                assert engine.book[i]["status"] == FLAT
            assert done.lapsed == {}  # the second word found nothing to end
    assert len(cancelled) == len(set(cancelled))
    assert min(seen[status] for status in (FLAT, ENTERING, OPEN, LEAVING)) > 3
