"""The live worker on feeds that a script gives: what it decides, blocks, sends, keeps and takes up again."""

from __future__ import annotations

import itertools
import math
import sqlite3
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from live_worlds import (
    FIRST_NOTES,
    HOUR,
    KEY,
    RULE,
    SECOND,
    absences,
    at,
    between,
    blocked_as,
    blocks,
    carry,
    entries_taken,
    events_in,
    every_minute,
    exits,
    known_ns,
    make_world,
    minutes_in,
    orders_in,
    outage,
    read,
    same_as_backtest,
    same_as_journal,
    scripted,
    sent_in,
    sound,
    through_gateway,
    ticks,
)
from test_engine import by_order, same_decisions

from adapters.databento_gateway import Fault
from adapters.sqlite_journal import SqliteJournal
from ibs_core.bars import MINUTE_NS
from ibs_core.config import load_settings
from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.portfolio import CANCEL, FIRST_BLOCK, INPUT, LEFT_LATE, LIVE_BLOCKS
from ibs_core.ports import FeedNote, Minute, MinuteEnd

ES, CL = 0, 1


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """Two sessions, and the back-test of them."""
    world = make_world(tmp_path_factory.mktemp("week"), date(2023, 10, 31), date(2023, 11, 1))
    world.traded = world.backtest()
    assert len(world.traded.trade_records) > 20
    return world


@pytest.fixture(scope="module")
def calm(week):
    """The journal of a run in which nothing befell the feed."""
    carry(week, scripted(week, week.events), name="calm")
    return week.journal("calm")


@pytest.fixture
def name(request):
    """A journal for each test."""
    return request.node.name.replace("[", "-").replace("]", "")


def roots_of(week, records):
    return [week.roots[i] for i in records["symbol"].tolist()]


def entry_of(journal, root_index, *, after="2023-10-31T02:00"):
    """Instant of an entry of a symbol in the calm run."""
    taken = entries_taken(next(read(journal)))
    mine = taken["time_ns"][(taken["symbol"] == root_index) & (taken["time_ns"] > at(after))]
    return int(mine[0])


def one_held(journal, root_index=ES, *, after="2023-10-31T12:00"):
    """A trade of a symbol in the calm run that is held for more than a bar, and when its exit was decided."""
    decisions, trades, _ = read(journal)
    for each in trades[trades["symbol"] == root_index]:
        leave = exits(decisions)
        decided = leave["time_ns"][(leave["symbol"] == root_index)]
        decided = decided[decided <= each["exit_ns"]][-1]
        if each["entry_ns"] > at(after) and decided - each["entry_ns"] > HOUR:
            return each, int(decided)
    raise AssertionError("no such trade")


# ------------------------------------------------------------------ without faults


def test_a_feed_without_faults_decides_and_trades_what_the_back_test_does(week, calm):
    same_as_backtest(calm, week.traded)
    sound(week, "calm")
    assert len(sent_in(calm)) > 40


def test_through_the_gateway_and_the_vendors_client_it_is_the_same(week, calm, name):
    worker = carry(week, through_gateway(week), name=name, by_clock=False)
    assert worker.counts["trades"] == len(week.traded.trade_records)
    same_as_journal(week.journal(name), calm)
    sound(week, name)


def test_a_warm_start_trades_what_the_back_test_does_from_then_on(tmp_path):
    world = make_world(
        tmp_path, date(2023, 10, 31), date(2023, 11, 1), live_from="2023-10-31T22:00"
    )
    start_ns = world.start_ns
    carry(world, scripted(world, world.events))
    decisions, trades, _ = read(world.journal())
    unlived = np.array([(0, 0, FIRST_BLOCK, -1, start_ns + 1)], INPUT)
    traded = world.backtest(inputs=unlived)
    expected = traded.decision_records
    same_decisions(decisions, expected[expected["time_ns"] > start_ns])
    assert len(trades) > 10
    assert by_order(trades).tobytes() == by_order(traded.trade_records).tobytes()
    sound(world)


def test_every_order_is_of_the_contract_that_is_executed(week, calm):
    orders = [each.order for each in orders_in(calm)]
    assert {each.instrument for each in orders} == {"MESZ2023", "CLZ2023"}
    by_symbol = {root: [o for o in orders if o.symbol == root] for root in week.roots}
    for root, own in by_symbol.items():
        assert [each.decided_ns for each in own] == sorted(each.decided_ns for each in own)
        assert own[0].action == "entry"
        for before, after in itertools.pairwise(own):  # an entry, then what ends it
            assert before.action == "entry" or after.action == "entry", (root, before, after)


# ------------------------------------------------------------------ minutes


def without(events, gone):
    return [each for each in events if each not in gone]


def a_minute(events, root, ts_ns):
    (found,) = [
        each
        for each in events
        if isinstance(each, Minute) and (each.root, each.ts_ns) == (root, ts_ns)
    ]
    return found


def test_a_minute_after_its_end_is_refused_and_told(week, name):
    late = a_minute(week.events, "ES", at("2023-11-01T15:30"))
    rest = without(week.events, [late])
    place = rest.index(MinuteEnd(late.ts_ns + MINUTE_NS)) + 1
    worker = carry(week, scripted(week, [*rest[:place], late, *rest[place:]]), name=name)
    assert worker.counts["late"] == 1
    (event,) = events_in(week.journal(name), "minute refused")
    assert event.facts == {"why": "late", "minute": ["ES", "ESZ2023", late.ts_ns]}
    carry(week, scripted(week, rest), name=f"{name}-never")
    same_as_journal(week.journal(name), week.journal(f"{name}-never"))
    sound(week, name)


def test_minutes_told_twice_count_once(week, calm, name):
    events = list(week.events)
    for place in range(len(events) - 1, 0, -7):
        if isinstance(events[place], Minute):
            events.insert(place + 1, events[place])
    worker = carry(week, scripted(week, events), name=name)
    assert worker.counts["refused"] > 30
    same_as_journal(week.journal(name), calm)
    sound(week, name)


def test_a_minute_that_cannot_be_is_refused(week, name):
    events = list(week.events)
    place = events.index(a_minute(events, "CL", at("2023-11-01T15:30")))
    bad = Minute("CL", "CLZ2023", events[place].ts_ns, 80.0, 79.0, 81.0, 80.0, 1.0)
    other = Minute("NQ", "NQZ2023", events[place].ts_ns, 80.0, 81.0, 79.0, 80.0, 1.0)
    carry(week, scripted(week, [*events[:place], bad, other, *events[place + 1 :]]), name=name)
    told = [each.facts["why"] for each in events_in(week.journal(name), "minute refused")]
    assert told == ["impossible prices", "not read"]
    sound(week, name)


# ------------------------------------------------------------------ the end of a minute


def test_a_slice_that_the_clock_closed_enters_nothing(week, calm, name):
    entry_ns = entry_of(calm, ES)
    before = between(week.events, -math.inf, entry_ns - HOUR)
    before += every_minute(week.events, entry_ns - HOUR, entry_ns)
    assert before.pop() == MinuteEnd(entry_ns)
    silent = ticks(entry_ns - MINUTE_NS + SECOND, entry_ns + 70 * SECOND)
    after = between(week.events, entry_ns, math.inf)
    worker = carry(week, scripted(week, [*before, *silent, *after]), name=name)
    decisions, _, inputs = read(week.journal(name))
    stale = blocked_as(decisions, "stale")
    assert set(stale["time_ns"].tolist()) == {entry_ns}
    assert "entries no longer blocked: stale" in worker.told
    assert entries_taken(decisions)["time_ns"].max() > entry_ns
    # What printed meanwhile was in time: only the end was not told.
    assert len(absences(inputs)) == 0
    sound(week, name)


def test_a_minute_is_not_closed_by_the_clock_while_ends_are_told(week, calm, name):
    first_ns = at("2023-10-31T08:00")
    events = between(week.events, -math.inf, first_ns)
    for each in every_minute(week.events, first_ns, first_ns + 4 * HOUR):
        events.append(each)
        if isinstance(each, MinuteEnd):
            events += ticks(each.ts_ns + SECOND, each.ts_ns + 50 * SECOND)
    worker = carry(week, scripted(week, events), name=name)
    assert not any("stale" in each for each in worker.told)
    carry(week, scripted(week, week.events, from_ns=first_ns + 4 * HOUR), name=name)
    same_as_journal(week.journal(name), calm)


def test_a_slice_decided_late_is_absent_and_the_next_is_not(week, calm, name):
    entry_ns = entry_of(calm, CL)
    place = week.events.index(MinuteEnd(entry_ns))
    late = entry_ns + 31 * SECOND
    script = [*week.events[:place], late, *week.events[place:]]
    carry(week, scripted(week, script), name=name)
    decisions, _, _ = read(week.journal(name))
    assert set(blocked_as(decisions, "absent")["time_ns"].tolist()) == {entry_ns}
    assert entries_taken(decisions)["time_ns"].max() > entry_ns
    sound(week, name)


# ------------------------------------------------------------------ outages


def test_an_outage_blocks_entries_and_its_end_frees_them(week, calm, name):
    missed_ns = entry_of(calm, CL)
    lost_ns, back_ns = missed_ns - 7 * MINUTE_NS, missed_ns + 4 * HOUR + 12 * MINUTE_NS
    carry(week, scripted(week, outage(week.events, lost_ns, back_ns)), name=name)
    decisions, _, inputs = read(week.journal(name))
    taken = entries_taken(decisions)["time_ns"]
    assert not ((taken > lost_ns) & (taken < back_ns)).any()
    absent = blocked_as(decisions, "absent")["time_ns"]
    assert len(absent) > 3
    assert ((absent > lost_ns) & (absent < back_ns)).all()
    assert ((taken > back_ns) & (taken < back_ns + 2 * HOUR)).any()
    told = [(LIVE_BLOCKS[k - FIRST_BLOCK], until > 0) for k, until in told_blocks(inputs)]
    assert told == [("not_live", True), ("not_live", False), ("stale", True), ("stale", False)]
    sound(week, name)


def told_blocks(inputs):
    rows = blocks(inputs)
    return zip(rows["kind"].tolist(), rows["until_ns"].tolist(), strict=True)


def test_an_exit_of_an_outage_leaves_at_its_end(week, calm, name):
    held, decided_ns = one_held(calm)
    back_ns = decided_ns + 100 * MINUTE_NS
    carry(week, scripted(week, outage(week.events, decided_ns - 3 * MINUTE_NS, back_ns)), name=name)
    decisions, trades, _ = read(week.journal(name))
    (mine,) = trades[(trades["symbol"] == ES) & (trades["entry_ns"] == held["entry_ns"])]
    assert mine["reason"] == held["reason"]
    assert mine["ibs_exit"] == held["ibs_exit"]
    assert mine["exit_ns"] >= back_ns > held["exit_ns"]
    assert decided_ns in exits(decisions)["time_ns"].tolist()
    sound(week, name)


def test_the_slice_at_which_the_feed_returns_is_on_time(week, calm, name):
    entry_ns = entry_of(calm, ES)
    carry(week, scripted(week, outage(week.events, entry_ns - HOUR // 4, entry_ns)), name=name)
    taken = entries_taken(next(read(week.journal(name))))
    assert entry_ns in taken["time_ns"][taken["symbol"] == ES].tolist()
    sound(week, name)


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_an_outage_through_the_gateway_is_as_on_script(week, name, kind):
    lost_ns, back_ns = at("2023-10-31T15:07"), at("2023-10-31T18:12")
    fault = Fault(kind=kind, at_ns=lost_ns, span_ns=back_ns - lost_ns)
    carry(week, through_gateway(week, [fault]), name=name, by_clock=False)
    carry(week, scripted(week, outage(week.events, lost_ns, back_ns)), name=f"{name}-script")
    same_as_journal(week.journal(name), week.journal(f"{name}-script"))
    sound(week, name)


def test_a_gap_that_no_replay_reaches_is_filled_from_history(week, calm, name):
    lost_ns, known_until_ns, back_ns = (
        at(f"2023-10-{day}T{time}")
        for day, time in (("31", "15:07"), ("31", "22:20"), ("31", "23:12"))
    )
    script = [
        *between(week.events, -math.inf, lost_ns),
        FeedNote("lost", "on script"),
        back_ns + SECOND,
        FeedNote("gap", "on script", lost_ns, known_until_ns),
        FIRST_NOTES[0],
        *(e for e in between(week.events, known_until_ns, back_ns) if isinstance(e, Minute)),
        FIRST_NOTES[1],
        MinuteEnd(back_ns),
        *between(week.events, back_ns, math.inf),
    ]
    carry(week, scripted(week, script), name=name)
    carry(week, scripted(week, outage(week.events, lost_ns, back_ns)), name=f"{name}-replayed")
    same_as_journal(week.journal(name), week.journal(f"{name}-replayed"))
    assert sorted(minutes_in(week.journal(name))) == sorted(minutes_in(calm))
    sound(week, name)


def test_a_gap_of_more_than_a_day_is_filled_while_the_gateway_replays_the_rest(week, calm, name):
    lost_ns = at("2023-10-31T02:10")
    fault = Fault(kind="reset", at_ns=lost_ns + SECOND, span_ns=30 * HOUR)
    steps = [lost_ns, lost_ns + 20 * MINUTE_NS, week.end_ns]
    carry(week, through_gateway(week, [fault], steps=steps), name=name, by_clock=False)
    (gap,) = events_in(week.journal(name), "feed gap")
    assert gap.facts["since"] == lost_ns
    assert sorted(minutes_in(week.journal(name))) == sorted(minutes_in(calm))
    taken = entries_taken(next(read(week.journal(name))))["time_ns"]
    assert not ((taken > lost_ns) & (taken < lost_ns + 30 * HOUR)).any()
    sound(week, name)


def test_too_slow_a_consumer_blocks_entries_until_it_has_caught_up(week, calm, name):
    entry_ns = entry_of(calm, ES)
    place = week.events.index(MinuteEnd(entry_ns))
    overflow = FeedNote("overflow", "on script")
    script = [*week.events[: place - 1], overflow, *week.events[place - 1 :]]
    worker = carry(week, scripted(week, script), name=name)
    assert worker.told.index("entries blocked: late") + 1 == worker.told.index(
        "entries no longer blocked: late"
    )
    sound(week, name)


def test_when_the_feed_is_refused_for_good_the_worker_stops_and_keeps_its_state(week, calm, name):
    place = len(week.events) // 2
    fatal = FeedNote("fatal", "the key is not known")
    worker = carry(week, scripted(week, [*week.events[:place], fatal]), name=name)
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        assert journal.runs()[-1].how == "the key is not known"
    carry(week, scripted(week, week.events, from_ns=worker.until_ns), name=name)
    same_as_journal(week.journal(name), calm)
    sound(week, name)


# ------------------------------------------------------------------ orders


def test_an_entry_that_lapses_is_cancelled_once_under_its_own_name(week, calm, name):
    entry_ns = entry_of(calm, ES)
    gone = [
        each
        for each in between(week.events, entry_ns, entry_ns + 20 * MINUTE_NS)
        if isinstance(each, Minute) and each.root == "ES"
    ]
    assert gone
    carry(week, scripted(week, without(week.events, gone)), name=name)
    (cancel,) = [
        each.order for each in orders_in(week.journal(name)) if each.order.action == "cancel"
    ]
    (entry,) = [
        each.order
        for each in orders_in(week.journal(name))
        if (each.order.symbol, each.order.decided_ns, each.order.action)
        == ("ES", entry_ns, "entry")
    ]
    assert cancel.order_id == entry.order_id.replace("entry", "cancel")
    assert cancel.instrument == entry.instrument == "MESZ2023"
    assert cancel.decided_ns > entry_ns + 5 * MINUTE_NS
    sound(week, name)


def test_many_slices_in_one_call_keep_the_orders_of_a_symbol_in_turn(week, calm, name):
    """Ends of minutes that come only every six hours, in market time: decided as ever, sent in order."""
    openings = [e for e in week.events if isinstance(e, Minute) and e.ts_ns % HOUR < 2 * MINUTE_NS]
    events = without(week.events, set(openings[8::3]) | set(openings[9::3]))
    carry(week, scripted(week, events), name=f"{name}-fine")
    ends = [each for each in events if isinstance(each, MinuteEnd)]
    told = {ends[0], ends[-1], *(each for each in ends if each.ts_ns % (6 * HOUR) == 0)}
    coarse = [each for each in events if isinstance(each, Minute) or each in told]
    carry(week, scripted(week, coarse), name=name)
    decisions, trades, _ = read(week.journal(name))
    fine = read(week.journal(f"{name}-fine"))
    same_decisions(decisions, next(fine))
    assert by_order(trades).tobytes() == by_order(next(fine)).tobytes()
    assert sorted(sent_in(week.journal(name))) == sorted(sent_in(week.journal(f"{name}-fine")))
    actions = [each.order.action for each in orders_in(week.journal(name))]
    assert actions.count("cancel") > 3
    for root in week.roots:
        own = [each.order for each in orders_in(week.journal(name)) if each.order.symbol == root]
        for before, after in itertools.pairwise(own):
            if after.action == "cancel":
                assert before.order_id == after.order_id.replace("cancel", "entry")
    sound(week, name)


class Broken:
    """A sink, or a journal's mark of an order, that fails at the n-th order of a kind."""

    def __init__(self, sink, action, n):
        self._sink, self._action, self._left = sink, action, n

    def __getattr__(self, name):
        return getattr(self._sink, name)

    def send(self, orders):
        for each in orders:
            self._left -= each.action == self._action
            if self._left == 0:
                raise EnvironmentFault("the line to the broker")
            self._sink.send([each])


def crash_before(week, name, action, n=12):
    with pytest.raises(EnvironmentFault, match="broker"):
        carry(
            week,
            scripted(week, week.events),
            name=name,
            sink_of=lambda sink, _: Broken(sink, action, n),
        )
    unsent = [each.order for each in orders_in(week.journal(name)) if each.state == "PENDING"]
    assert unsent[0].action == action
    assert unsent[0].order_id not in sent_in(week.journal(name))
    return unsent[0]


def test_a_journal_without_a_sound_state_is_not_taken_for_a_new_one(week, name):
    crash_before(week, name, "exit")
    with sqlite3.connect(week.journal(name)) as db:
        db.execute("DELETE FROM snapshots")
    with pytest.raises(DataError, match="no sound state"):
        carry(week, scripted(week, week.events), name=name)


class WithoutHistory:
    """A week whose history serves the warm-up and fails afterwards."""

    def __init__(self, week):
        self._week = week

    def __getattr__(self, name):
        return getattr(self._week, name)

    def minutes(self, roots, first_ns, until_ns):
        if first_ns > -(2**62):
            raise EnvironmentFault("the historical service", found="503")
        return self._week.minutes(roots, first_ns, until_ns)


def test_a_gap_that_history_cannot_fill_stops_the_worker_and_keeps_its_state(week, name):
    lost_ns = at("2023-10-31T08:00")
    events = [
        *between(week.events, -math.inf, lost_ns),
        FeedNote("gap", "on script", lost_ns, lost_ns + 2 * HOUR),
        *between(week.events, lost_ns + 2 * HOUR, math.inf),
    ]
    worker = carry(WithoutHistory(week), scripted(week, events), name=name)
    assert worker.until_ns <= lost_ns  # no bar was built over the hole
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        assert "could not be filled" in journal.runs()[-1].how


def test_an_exit_that_was_not_sent_is_sent_at_the_restart(week, name):
    exit_ = crash_before(week, name, "exit")
    again_ns = exit_.decided_ns + 2 * HOUR
    carry(week, scripted(week, [], from_ns=again_ns, notes=()), name=name)
    assert sent_in(week.journal(name))[-1] == exit_.order_id
    carry(week, scripted(week, week.events, from_ns=exit_.decided_ns), name=name)
    _, trades, inputs = read(week.journal(name))
    mine = trades[trades["symbol"] == week.roots.index(exit_.symbol)]
    left = mine["exit_ns"][mine["exit_ns"] >= exit_.decided_ns]
    assert left[0] >= again_ns  # the book fills it when it left, not when it was decided
    assert (inputs["kind"] == LEFT_LATE).sum() == 1
    sound(week, name)


def test_an_entry_that_was_not_sent_is_sent_at_the_restart_while_it_is_young(week, calm, name):
    entry = crash_before(week, name, "entry")
    carry(week, scripted(week, week.events, from_ns=entry.decided_ns + 9 * SECOND), name=name)
    same_as_journal(week.journal(name), calm)
    sound(week, name)


def test_an_entry_that_was_not_sent_in_its_life_is_given_up_in_the_book_too(week, calm, name):
    entry = crash_before(week, name, "entry")
    back_ns = entry.decided_ns + 11 * SECOND
    carry(week, scripted(week, week.events, from_ns=back_ns), name=name)
    (record,) = [
        each for each in orders_in(week.journal(name)) if each.order.order_id == entry.order_id
    ]
    assert record.state == "EXPIRED"
    assert entry.order_id not in sent_in(week.journal(name))
    assert not any(each.order.action == "cancel" for each in orders_in(week.journal(name)))
    _, trades, inputs = read(week.journal(name))
    mine = trades[trades["symbol"] == week.roots.index(entry.symbol)]
    of_the_calm = list(read(calm))[1]
    of_the_calm = of_the_calm[of_the_calm["symbol"] == week.roots.index(entry.symbol)]
    entered = of_the_calm["entry_ns"][of_the_calm["entry_ns"] >= entry.decided_ns][0]
    assert entered not in mine["entry_ns"]
    assert (inputs["kind"] == CANCEL).sum() == 1
    sound(week, name)


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_killed_while_it_gives_an_entry_up_it_does_so_again(week, name, monkeypatch, written):
    entry = crash_before(week, name, "entry")
    real = SqliteJournal.order_state

    def killed(self, order_id, state, *more):
        if written or state != "EXPIRED":
            real(self, order_id, state, *more)
        if state == "EXPIRED":
            raise KeyboardInterrupt

    monkeypatch.setattr(SqliteJournal, "order_state", killed)
    back_ns = entry.decided_ns + 11 * SECOND
    with pytest.raises(KeyboardInterrupt):
        carry(week, scripted(week, week.events, from_ns=back_ns), name=name)
    monkeypatch.undo()
    carry(week, scripted(week, week.events, from_ns=back_ns), name=name)
    states = {each.order.order_id: each.state for each in orders_in(week.journal(name))}
    assert states[entry.order_id] == "EXPIRED"
    _, trades, inputs = read(week.journal(name))
    assert CANCEL in inputs["kind"]
    mine = trades["entry_ns"][trades["symbol"] == week.roots.index(entry.symbol)]
    assert not ((mine >= entry.decided_ns) & (mine < entry.decided_ns + 5 * MINUTE_NS)).any()
    sound(week, name)


# ------------------------------------------------------------------ stop and go


def test_killed_and_stopped_anywhere_it_ends_as_if_it_never_was(week, calm, name):
    rng = np.random.default_rng(11)
    ends = [each.ts_ns for each in week.events if isinstance(each, MinuteEnd)]
    cuts = sorted(rng.choice(ends[5:-5], 9, replace=False).tolist())
    for i, cut in enumerate([*cuts, math.inf]):
        run = scripted(week, week.events, from_ns=ends[0] if i == 0 else cuts[i - 1])
        carry(week, run, name=name, kill=i % 2 == 0 and i < 9, until_ns=cut)
    same_as_journal(week.journal(name), calm)
    assert sorted(minutes_in(week.journal(name))) == sorted(minutes_in(calm))
    sound(week, name)


def test_stopped_where_nothing_printed_for_hours_its_state_is_that_of_the_entry(week, name):
    close_ns, quiet_ns = at("2023-10-31T21:00"), at("2023-10-31T21:40")
    script = [*(e for e in week.events if known_ns(e) <= close_ns), MinuteEnd(quiet_ns)]
    carry(week, scripted(week, script), name=name)
    sound(week, name)


def test_what_is_missed_between_two_runs_is_absent(week, calm, name):
    down_ns, up_ns = at("2023-11-01T14:20"), at("2023-11-01T19:10")
    carry(week, scripted(week, week.events), name=name, kill=True, until_ns=down_ns)
    missed = [e for e in between(week.events, -math.inf, up_ns) if isinstance(e, Minute)]
    script = [
        FIRST_NOTES[0],
        *missed,
        FIRST_NOTES[1],
        MinuteEnd(up_ns),
        *between(week.events, up_ns, math.inf),
    ]
    run = scripted(week, script, from_ns=up_ns + SECOND, notes=())
    carry(week, run, name=name)
    decisions, trades, _ = read(week.journal(name))
    taken = entries_taken(decisions)["time_ns"]
    assert not ((taken > down_ns) & (taken < up_ns)).any()
    assert len(blocked_as(decisions, "absent")) > 3
    assert not ((trades["exit_ns"] > down_ns) & (trades["exit_ns"] < up_ns)).any()
    assert sorted(minutes_in(week.journal(name))) == sorted(minutes_in(calm))
    sound(week, name)


def test_a_journal_has_one_writer(week, name):
    with (
        SqliteJournal(week.journal(name)),
        pytest.raises(EnvironmentFault, match="has a writer"),
    ):
        carry(week, scripted(week, week.events), name=name)


def test_a_journal_that_does_not_replay_is_not_gone_on_with(week, name):
    carry(week, scripted(week, week.events), name=name, kill=True, until_ns=at("2023-11-01T20:00"))
    other = {**RULE, "strategy": {**RULE["strategy"], "cooldown_bars": 3}}
    changed = replace(week, settings=load_settings(overrides=other))
    with pytest.raises(DataError, match="not replay"):
        carry(changed, scripted(week, week.events), name=name)


def test_no_secret_is_in_the_journal(week, name):
    carry(week, through_gateway(week), name=name, by_clock=False, until_ns=at("2023-10-31"))
    assert KEY.encode() not in week.journal(name).read_bytes()


def test_a_gap_of_which_history_holds_too_little_stops_the_worker(week, name):
    class Short(WithoutHistory):
        def minutes(self, roots, first_ns, until_ns):
            return self._week.minutes(roots, first_ns, min(until_ns, at("2023-10-31T09:00")))

    lost_ns, back_ns = at("2023-10-31T08:00"), at("2023-10-31T18:00")
    events = [
        *between(week.events, -math.inf, lost_ns),
        FeedNote("gap", "on script", lost_ns, back_ns),
    ]
    carry(Short(week), scripted(week, events), name=name)
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        assert "ends at 2023-10-31T09:00:00Z" in journal.runs()[-1].how
