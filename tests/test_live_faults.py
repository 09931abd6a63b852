"""What befalls a live worker: kills, full disks, wrong clocks, every fault of the feed, rolls and clock changes.

After each: no decision is lost and none made twice, the journal is whole, a replay of it differs in nothing, and
entries were blocked while data were stale. ``make soak`` runs the long forms, whose results docs/live-faults.md
keeps.
"""

from __future__ import annotations

import json
import math
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from live_worlds import (
    HOUR,
    SECOND,
    Step,
    at,
    bars_in,
    between,
    blocked_as,
    carry,
    entries_taken,
    events_in,
    every_minute,
    exits,
    make_world,
    minutes_in,
    orders_in,
    outage,
    parity_of,
    read,
    same_as_backtest,
    scripted,
    sent_in,
    sound,
    through_gateway,
)
from nursery import Nursery, entries_of, is_alive, until_entries

from adapters.databento_gateway import Fault
from ibs_core.bars import EXIT_REASONS, MINUTE_NS
from ibs_core.ports import Minute, MinuteEnd

CHICAGO = ZoneInfo("America/Chicago")
ES, CL = 0, 1


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("week"), date(2023, 10, 31), date(2023, 11, 1))


@pytest.fixture(scope="module")
def nursery(week):
    with Nursery(week.config, week.roots) as opened:
        yield opened


@pytest.fixture(scope="module")
def calm(week, nursery):
    """The journal of `ibs run-live` when nothing befalls it."""
    assert nursery.wait(start(week, nursery, "calm")) == 0
    return week.journal("calm")


@pytest.fixture
def name(request):
    return request.node.name.replace("[", "-").replace("]", "")


def start(week, nursery, name, *more, **limits):
    """Start `ibs run-live`, to go on where its journal ends."""
    return nursery.start(
        *("run-live", "--replay", week.bars, "--speed", "max", "--config", week.config),
        *("--journal", week.journal(name), *more),
        output=week.folder / f"{name}.out",
        **limits,
    )


def output_of(week, name):
    return (week.folder / f"{name}.out").read_text()


def lines_of(week, name):
    path = week.journal(name).with_suffix(".orders.jsonl")
    return [json.loads(line)["extras"]["cid"] for line in path.read_text().splitlines()]


def nothing_unwritten(week, name):
    """At any instant: the journal is whole, and what is on paper is in it, once."""
    path = week.journal(name)
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
    paper = path.with_suffix(".orders.jsonl")
    whole = paper.read_bytes().split(b"\n")[:-1] if paper.exists() else []
    sent = [json.loads(line)["extras"]["cid"] for line in whole]
    assert len(set(sent)) == len(sent)
    assert set(sent) <= {each.order.order_id for each in orders_in(path)}


def as_if_nothing_had_been(week, name, calm):
    """The journal of a worker of the command line ends as the calm one: same decisions, trades, orders."""
    path = week.journal(name)
    for of_one, of_other in zip(list(read(path))[:2], list(read(calm))[:2], strict=True):
        assert of_one.tobytes() == of_other.tobytes()
    assert sorted(lines_of(week, name)) == sorted(lines_of(week, "calm"))
    assert minutes_in(path) == minutes_in(calm)
    orders = orders_in(path)
    assert {each.state for each in orders} == {"ACKED"}
    ids = [each.order.order_id for each in orders]
    assert sorted(ids) == sorted(lines_of(week, name))
    assert len(set(ids)) == len(ids)
    told = parity_of(path)
    assert told["differences"] == []


# ------------------------------------------------------------------ kills


def kill_at_random(week, nursery, name, rng, n):
    """Kill a worker n times, each time a little further, at whatever it does then; then let it end."""
    path, last = week.journal(name), entries_of(week.journal("calm"))
    marks = np.sort(rng.integers(0, last + n, n))
    killed = 0
    for mark in marks.tolist():
        pid = start(week, nursery, name)
        until_entries(path, mark, pid)
        for _ in range(int(rng.integers(40))):  # some instant after the entry
            entries_of(path)
        killed += is_alive(pid)
        nursery.kill(pid)
        nothing_unwritten(week, name)
    assert nursery.wait(start(week, nursery, name)) == 0, output_of(week, name)
    return killed


def test_killed_at_random_instants_it_decides_as_if_it_never_was(week, nursery, calm, name):
    killed = kill_at_random(week, nursery, name, np.random.default_rng(3), 6)
    assert killed > 3
    as_if_nothing_had_been(week, name, calm)


@pytest.mark.soak
def test_soak_of_kills(week, nursery, calm):
    killed, seed = 0, 100
    while killed < 200:
        seed += 1
        killed += kill_at_random(week, nursery, f"soak{seed}", np.random.default_rng(seed), 22)
        as_if_nothing_had_been(week, f"soak{seed}", calm)
    print(f"kills: {killed} in {seed - 100} runs")  # noqa: T201


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_keeps_its_state_and_goes_on(week, nursery, calm, name, number):
    pid = start(week, nursery, name)
    assert until_entries(week.journal(name), 60, pid)
    assert nursery.kill(pid, number) == 0
    assert "stopped at" in output_of(week, name)
    nothing_unwritten(week, name)
    assert len(entries_taken(next(read(week.journal(name))))) > 5
    assert nursery.wait(start(week, nursery, name)) == 0
    as_if_nothing_had_been(week, name, calm)


def test_another_rule_cannot_go_on_with_a_journal(week, nursery, calm, name):
    pid = start(week, nursery, name)
    assert until_entries(week.journal(name), 20, pid)
    nursery.kill(pid)
    assert nursery.wait(start(week, nursery, name, "--symbols", "ES")) == 2
    assert "another --journal" in output_of(week, name)


def test_a_journal_has_one_writer(week, nursery, calm, name):
    pid = start(week, nursery, name)
    assert until_entries(week.journal(name), 1, pid)
    other = start(week, nursery, name)
    assert nursery.wait(other) == 3
    assert f"process {pid}" in output_of(week, name)
    nursery.kill(pid)


# ------------------------------------------------------------------ the machine


def test_a_full_disk_stops_it_with_nothing_unwritten_and_it_goes_on(week, nursery, calm, name):
    assert nursery.wait(start(week, nursery, name, limit_bytes=600_000)) == 3
    told = output_of(week, name)
    assert "journal" in told
    assert "free space" in told
    assert "Traceback" not in told
    nothing_unwritten(week, name)
    assert entries_of(week.journal(name)) > 20
    assert nursery.wait(start(week, nursery, name)) == 0
    as_if_nothing_had_been(week, name, calm)


def test_a_locked_journal_stops_it_with_nothing_unwritten_and_it_goes_on(week, nursery, calm, name):
    path = week.journal(name)
    pid = start(week, nursery, name)
    assert until_entries(path, 60, pid)
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert nursery.wait(pid) == 3
        other.execute("ROLLBACK")
    told = output_of(week, name)
    assert "end the process that holds it" in told
    assert "Traceback" not in told
    nothing_unwritten(week, name)
    assert nursery.wait(start(week, nursery, name)) == 0
    as_if_nothing_had_been(week, name, calm)


def test_f36_a_worker_that_stands_still_says_nothing_new(week, nursery, calm, name):
    """What tells that the worker lives is written by its loop: the journal stands still with it."""
    path = week.journal(name)
    pid = start(week, nursery, name)
    assert until_entries(path, 60, pid)
    nursery.halt(pid)
    stood = entries_of(path)
    assert [entries_of(path) for _ in range(50)] == [stood] * 50
    nursery.go_on(pid)
    assert nursery.wait(pid) == 0
    as_if_nothing_had_been(week, name, calm)


def entry_in(journal, root_index, after):
    taken = entries_taken(next(read(journal)))
    mine = taken["time_ns"][(taken["symbol"] == root_index) & (taken["time_ns"] > at(after))]
    return int(mine[0])


def test_a_process_that_was_suspended_enters_nothing_of_what_it_missed(week, calm, name):
    """It wakes to a feed that is silent for a moment, then brings all that waited."""
    asleep_ns = entry_in(calm, CL, "2023-10-31T08:00") - 7 * MINUTE_NS
    awake_ns = asleep_ns + 3 * HOUR
    script = [
        *between(week.events, -math.inf, asleep_ns),
        *range(asleep_ns, asleep_ns + 20 * SECOND, SECOND),
        *range(awake_ns, awake_ns + 15 * SECOND, SECOND),
        *every_minute(week.events, asleep_ns // MINUTE_NS * MINUTE_NS, awake_ns),
        *between(week.events, awake_ns, math.inf),
    ]
    carry(week, scripted(week, script), name=name)
    decisions, trades, _ = read(week.journal(name))
    taken = entries_taken(decisions)["time_ns"]
    assert not ((taken > asleep_ns) & (taken < awake_ns)).any()
    assert len(blocked_as(decisions, "absent")) > 3
    assert not ((trades["exit_ns"] > asleep_ns) & (trades["exit_ns"] < awake_ns)).any()
    assert ((taken > awake_ns) & (taken < awake_ns + 6 * HOUR)).any()
    assert sorted(minutes_in(week.journal(name))) == sorted(minutes_in(calm))
    sound(week, name)


def test_while_the_clock_is_ahead_nothing_is_entered_and_exits_leave(week, calm, name):
    leaving = exits(next(read(calm)))
    leaving = leaving["time_ns"][leaving["time_ns"] > at("2023-10-31T14:00")]
    wrong_ns = int(leaving[0]) - 7 * MINUTE_NS
    right_ns = wrong_ns + 3 * HOUR
    script = [
        *between(week.events, -math.inf, wrong_ns),
        Step(HOUR),
        *every_minute(week.events, wrong_ns // MINUTE_NS * MINUTE_NS, right_ns),
        Step(0),
        *between(week.events, right_ns // MINUTE_NS * MINUTE_NS, math.inf),
    ]
    worker = carry(week, scripted(week, script), name=name)
    assert worker.counts["late"] == worker.counts["refused"] == 0
    decisions, _, _ = read(week.journal(name))
    taken = entries_taken(decisions)["time_ns"]
    assert not ((taken > wrong_ns) & (taken < right_ns)).any()
    assert len(blocked_as(decisions, "absent")) > 0
    assert ((taken > right_ns) & (taken < right_ns + HOUR)).any()
    left = exits(decisions)["time_ns"]
    assert ((left > wrong_ns) & (left < right_ns)).any()
    sound(week, name)


def test_a_clock_that_is_behind_changes_nothing(week, calm, name):
    wrong_ns = entry_in(calm, CL, "2023-10-31T08:00") - 7 * MINUTE_NS
    script = [
        *between(week.events, -math.inf, wrong_ns),
        Step(-HOUR),
        *between(week.events, wrong_ns, math.inf),
    ]
    carry(week, scripted(week, script), name=name)
    for of_one, of_other in zip(
        list(read(week.journal(name)))[:2], list(read(calm))[:2], strict=True
    ):
        assert of_one.tobytes() == of_other.tobytes()
    sound(week, name)


# ------------------------------------------------------------------ the feed


ENDINGS = ("reset", "close", "truncated", "fatal_error")
HARMLESS = ("error", "silence", "refuse", "slow_reader", "remap", "duplicates")
EDITS = ("drop", "late", "out_of_order")
LOGIN = ("auth_failed", "connection_limit")


def drawn(rng, kind, week):
    """A fault of a kind at a random instant of trading, and for logins what makes the client log in."""
    ends = [each.ts_ns for each in week.events if isinstance(each, MinuteEnd)]
    at_ns = int(rng.choice(ends[20:-20])) + int(rng.integers(0, 60)) * SECOND
    if kind in LOGIN:
        return [Fault(kind=kind, at_ns=at_ns), Fault(kind="reset", at_ns=at_ns)]
    span_ns = 0
    if kind in ENDINGS:
        span_ns = int(rng.choice([0, rng.integers(1, 300) * MINUTE_NS]))
    elif kind in ("silence", "refuse"):
        span_ns = 10**7  # of wall time: the pace is unbounded
    elif kind == "late":
        span_ns = int(rng.integers(1, 10)) * MINUTE_NS
    return [Fault(kind=kind, at_ns=at_ns, span_ns=span_ns, count=int(rng.integers(1, 4)))]


def suffer(week, name, faults):
    """Run through faults to the end; a refusal for good is met by starting once more."""
    served = []
    worker = carry(week, through_gateway(week, faults, served=served), name=name, by_clock=False)
    assert set(served[0].fired) == {
        each for each in faults if each.kind not in (*EDITS, "duplicates")
    }
    refused = any(each.kind == "auth_failed" for each in faults)
    assert (worker.until_ns < week.end_ns) == refused
    if refused:
        worker = carry(week, through_gateway(week), name=name, by_clock=False)
    assert worker.until_ns == week.end_ns
    return week.journal(name)


def check(week, path, faults, calm):
    """What a set of faults may change, and what not; returns what it did."""
    sound(week, path.stem)
    found, expected = sorted(minutes_in(path)), sorted(minutes_in(calm))
    edits = [each for each in faults if each.kind in EDITS]
    missing = set(expected) - set(found)
    assert len(found) == len(set(found))
    assert set(found) <= set(expected)
    assert len(missing) <= sum(each.count for each in edits)
    decisions, trades, _ = read(path)
    taken = entries_taken(decisions)["time_ns"]
    for each in faults:
        if each.kind in ENDINGS and each.span_ns:
            back_ns = (each.at_ns + each.span_ns) // MINUTE_NS * MINUTE_NS
            assert not ((taken > each.at_ns) & (taken < back_ns)).any(), each
    undisturbed, traded, _ = read(calm)
    same = decisions.tobytes() == undisturbed.tobytes() and trades.tobytes() == traded.tobytes()
    if not edits and not any(each.span_ns for each in faults if each.kind in ENDINGS):
        assert same, faults
    return Counter(
        same=same, absent=len(blocked_as(decisions, "absent")), minutes_lost=len(missing)
    )


@pytest.fixture(scope="module")
def quiet(week):
    """The journal of a worker in this process when nothing befalls the feed."""
    week.served = []
    carry(week, through_gateway(week, served=week.served), name="quiet", by_clock=False)
    return week.journal("quiet")


@pytest.mark.parametrize("kinds", [ENDINGS, HARMLESS, EDITS, LOGIN], ids="_".join)
def test_every_fault_of_the_gateway_leaves_a_sound_journal(week, quiet, name, kinds):
    rng = np.random.default_rng(len(name))
    faults = [fault for kind in kinds for fault in drawn(rng, kind, week)]
    check(week, suffer(week, name, faults), faults, quiet)


@pytest.mark.soak
def test_soak_of_gateway_faults(week, quiet):
    table = {kind: Counter() for kind in (*ENDINGS, *HARMLESS, *EDITS, *LOGIN)}
    for i in range(14):
        for kind in table:
            rng = np.random.default_rng((i, len(kind), ord(kind[0])))
            faults = drawn(rng, kind, week)
            path = suffer(week, f"{kind}{i}", faults)
            table[kind] += Counter(runs=1) + check(week, path, faults, quiet)
    mixed = Counter()
    for i in range(20):
        rng = np.random.default_rng((99, i))
        kinds = rng.choice([*ENDINGS, *HARMLESS, *EDITS], 4, replace=False).tolist()
        faults = [fault for kind in kinds for fault in drawn(rng, kind, week)]
        mixed += Counter(runs=1) + check(week, suffer(week, f"mixed{i}", faults), faults, quiet)
    for kind, row in (table | {"four at once": mixed}).items():
        columns = (row[each] for each in ("runs", "same", "absent", "minutes_lost"))
        print(f"| {kind} | {' | '.join(map(str, columns))} |")  # noqa: T201


# ------------------------------------------------------------------ nights, openings, closes, rolls


ODD = {
    "autumn": ("2023-11-03", "2023-11-06", {"15:00"}),
    "spring": ("2024-03-08", "2024-03-11", {"15:00"}),
    "thanksgiving": ("2023-11-22", "2023-11-24", {"11:00", "12:00", "15:00"}),
    "roll": ("2023-12-06", "2023-12-08", {"15:00"}),
}


@pytest.fixture(scope="module", params=ODD)
def odd(request, tmp_path_factory):
    """Days on which clocks change, markets close early or contracts roll, through the gateway."""
    first, last, flat_by = ODD[request.param]
    folder = tmp_path_factory.mktemp("odd")
    world = make_world(folder, date.fromisoformat(first), date.fromisoformat(last))
    world.served, world.flat_by = [], flat_by
    carry(world, through_gateway(world, served=world.served), by_clock=False)
    assert any(map(len, world.table.seams().values())) == (request.param == "roll")
    return world


def test_on_odd_days_it_decides_what_the_back_test_does(odd):
    traded = odd.backtest()
    same_as_backtest(odd.journal(), traded)
    assert len(traded.trade_records) > 20
    sound(odd)


def test_on_odd_days_killed_and_lost_it_is_sound(odd, name):
    """An outage over the middle of the days, a kill after it."""
    ends = [each.ts_ns for each in odd.events if isinstance(each, MinuteEnd)]
    lost_ns = ends[len(ends) // 2] - 2 * HOUR
    script = outage(odd.events, lost_ns, lost_ns + 5 * HOUR)
    killed_ns = lost_ns + 9 * HOUR
    carry(odd, scripted(odd, script), name=name, kill=True, until_ns=killed_ns)
    carry(odd, scripted(odd, odd.events, from_ns=killed_ns), name=name)
    assert sorted(minutes_in(odd.journal(name))) == sorted(minutes_in(odd.journal()))
    sound(odd, name)


def local(ns):
    """Exchange time."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(int(ns) / 1e9, UTC).astimezone(CHICAGO)


# ------------------------------------------------------------------ faults of the reference that this has not


def test_f01_a_bar_holds_one_contract_which_is_asked_for_by_name(odd):
    asked = [line for _, line in odd.served[0].lines if "schema=" in line]
    assert asked
    for line in asked:
        fields = dict(part.split("=", 1) for part in line.split("|"))
        assert fields["stype_in"] == "raw_symbol"
        assert not any("-" in symbol or "." in symbol for symbol in fields["symbols"].split(","))
    seams = odd.table.seams()
    for root, bars in bars_in(odd.journal()).items():
        held = {m[2]: m[1] for m in minutes_in(odd.journal()) if m[0] == root}
        for bar in bars:
            inside = {held[ns] for ns in held if bar["first_ns"] <= ns <= bar["last_ns"]}
            assert len(inside) == 1, (root, bar)
        assert len(set(held.values())) == 1 + len(seams.get(root, ()))


def test_f02_a_full_queue_drops_nothing_and_blocks_entries(week, quiet, name):
    carry(week, through_gateway(week, queue_max=3), name=name, by_clock=False)
    assert events_in(week.journal(name), "feed overflow")
    assert sorted(minutes_in(week.journal(name))) == sorted(minutes_in(quiet))
    sound(week, name)


def test_f03_each_minute_counts_once_and_each_bar_closes_once(week, quiet, name):
    faults = [
        Fault(kind="duplicates", at_ns=at(f"2023-11-01T{h:02}:59:30"), count=5)
        for h in range(9, 18)
    ]
    check(week, suffer(week, name, faults), faults, quiet)
    for root, bars in bars_in(week.journal(name)).items():
        assert len(set(bars["end_ns"].tolist())) == len(bars)
        width = HOUR if root == "ES" else HOUR // 2
        assert set((bars["end_ns"] - bars["start_ns"]).tolist()) == {width}


def test_f04_an_hour_is_its_own_sixty_minutes(week, quiet):
    bars = bars_in(quiet)["ES"]
    assert (bars["start_ns"] % HOUR == 0).all()
    assert ((bars["first_ns"] >= bars["start_ns"]) & (bars["last_ns"] < bars["end_ns"])).all()
    printed = {m[2] for m in minutes_in(quiet) if m[0] == "ES"}
    for bar in bars:
        inside = [ns for ns in printed if bar["start_ns"] <= ns < bar["end_ns"]]
        assert (min(inside), max(inside)) == (bar["first_ns"], bar["last_ns"])


def test_f05_f06_sessions_and_windows_are_chicagos_on_both_sides_of_a_clock_change(odd):
    decisions, _, _ = read(odd.journal())
    flat = decisions[(decisions["action"] == 1)]
    flat = flat[flat["reason"] == EXIT_REASONS.index("flat_by") + 1]
    assert len(flat)
    assert {local(ns).strftime("%H:%M") for ns in flat["time_ns"]} <= odd.flat_by
    for each in entries_taken(decisions):
        width = HOUR if each["symbol"] == ES else HOUR // 2
        assert not 15 <= local(each["time_ns"] - width).hour < 17
    for bars in bars_in(odd.journal()).values():
        assert not any(16 <= local(ns).hour < 17 for ns in bars["start_ns"])


def test_f07_no_bar_is_made_of_nothing(odd):
    for root, bars in bars_in(odd.journal()).items():
        printed = np.array(sorted(m[2] for m in minutes_in(odd.journal()) if m[0] == root))
        n = np.searchsorted(printed, bars["end_ns"]) - np.searchsorted(printed, bars["start_ns"])
        assert (n > 0).all()
        assert n.sum() == len(printed) or printed[-1] >= bars["end_ns"].max()


def test_f08_late_minutes_are_refused_and_a_silent_symbol_closes_on_time(week, quiet, name):
    faults = [
        Fault(kind="late", at_ns=at("2023-11-01T10:31:30"), span_ns=3 * MINUTE_NS),
        Fault(kind="out_of_order", at_ns=at("2023-11-01T12:30:30")),
    ]
    check(week, suffer(week, name, faults), faults, quiet)
    told = [each.facts["why"] for each in events_in(week.journal(name), "minute refused")]
    assert set(told) == {"late"}
    silent = [
        each
        for each in week.events
        if not (
            isinstance(each, Minute)
            and each.root == "ES"
            and at("2023-11-01T10:00") < each.ts_ns < at("2023-11-01T14:00")
        )
    ]
    carry(week, scripted(week, silent), name=f"{name}-silent")
    (bar,) = [
        b
        for b in bars_in(week.journal(f"{name}-silent"))["ES"]
        if b["start_ns"] == at("2023-11-01T10:00")
    ]
    assert bar["end_ns"] == at("2023-11-01T11:00")
    assert bar["last_ns"] == at("2023-11-01T10:00")
    assert decided_at(week.journal(f"{name}-silent"), "ES", bar["end_ns"]) == bar["end_ns"]


def decided_at(path, root, end_ns):
    """Market time of the entry in which a bar closed."""
    from adapters.sqlite_journal import SqliteJournal

    with SqliteJournal(path, read_only=True) as journal:
        for each in journal.entries():
            if root in each.arrays["roots"].tolist() and end_ns in each.arrays["bars"]["end_ns"]:
                return each.time_ns
    raise AssertionError(root)


def test_f09_minutes_are_asked_for_as_minutes(week, quiet):
    asked = [line for _, line in week.served[0].lines if "schema=" in line]
    assert asked
    assert all("schema=ohlcv-1m|" in f"{line}|" for line in asked)


def test_f29_an_order_leaves_at_its_decision_and_fills_at_the_next_price(week, name):
    sent = []

    class Timed:
        def __init__(self, sink, clock):
            self._sink, self._clock = sink, clock

        def __getattr__(self, name):
            return getattr(self._sink, name)

        def send(self, orders):
            sent.extend(self._clock.now_ns() - each.decided_ns for each in orders)
            self._sink.send(orders)

    carry(
        week,
        scripted(week, week.events),
        name=name,
        sink_of=lambda sink, _: Timed(sink, sink._clock),
    )
    assert len(sent) > 40
    assert max(sent) <= SECOND
    opens = {(m[0], m[2]): m[3] for m in minutes_in(week.journal(name))}
    decisions, trades, _ = read(week.journal(name))
    for trade in trades:
        root = week.roots[trade["symbol"]]
        decided = entries_taken(decisions)["time_ns"][
            entries_taken(decisions)["symbol"] == trade["symbol"]
        ]
        decided_ns = decided[decided <= trade["entry_ns"]].max()
        first = min(ns for own, ns in opens if own == root and ns >= decided_ns)
        assert trade["entry_ns"] == first
        assert trade["entry_price"] == opens[root, first]


def test_f31_warming_up_sends_nothing(tmp_path):
    world = make_world(
        tmp_path, date(2023, 10, 31), date(2023, 11, 1), live_from="2023-10-31T22:00"
    )
    carry(world, scripted(world, []), kill=True)
    assert sent_in(world.journal()) == []
    carry(world, scripted(world, world.events))
    orders = [each.order for each in orders_in(world.journal())]
    assert len(orders) > 10
    assert min(each.decided_ns for each in orders) > world.start_ns


def test_f38_orders_are_of_the_contract_in_force_and_none_spans_a_roll(odd):
    seams = odd.table.seams()
    _, trades, _ = read(odd.journal())
    for each in orders_in(odd.journal()):
        root, order = each.order.symbol, each.order
        in_force = odd.table.active(root, order.decided_ns)
        executed = "MES" if root == "ES" else root
        if order.action == "entry":
            assert order.instrument == executed + in_force.removeprefix(root)
    for i, root in enumerate(odd.roots):
        for seam_ns in seams.get(root, ()):
            mine = trades[trades["symbol"] == i]
            assert not ((mine["entry_ns"] < seam_ns) & (mine["exit_ns"] > seam_ns)).any()
