"""Orders on their way and operators' words, in a worker: what the engine is told, and what the book then says."""

from __future__ import annotations

import json
from datetime import date

import pytest
from live_worlds import (
    blocked_as,
    blocks,
    carry,
    entries_taken,
    exits,
    make_world,
    orders_in,
    parity_holds,
    read,
    scripted,
)

from adapters.sqlite_journal import SqliteJournal, post_command
from ibs_core.bars import EXIT_REASONS, MINUTE_NS, NEVER
from ibs_core.errors import ConfigError
from ibs_core.market_data.runs import stamp
from ibs_core.portfolio import CANCEL, FLATTEN, LEFT_LATE
from ibs_core.ports import MinuteEnd, Move

OPERATOR = EXIT_REASONS.index("operator") + 1


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders")
    return make_world(folder, date(2024, 1, 15), date(2024, 1, 18))


@pytest.fixture
def name(request):
    return request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture(scope="module")
def calm(week):
    """The journal of a run in which every order arrives."""
    carry(week, scripted(week, week.events), name="calm")
    return week.journal("calm")


class Receiver:
    """A sink whose deliveries a test decides, order by order, in the journal as the real one does."""

    def __init__(self, sink, journal, fate=lambda _order: "ACKED"):
        self._journal, self._fate, self._sink = journal, fate, sink
        self.states, self.orders, self.sent = {}, {}, []
        self._moves, self.gate = [], "open"
        self.close = sink.close

    def start(self):
        for each in self._journal.orders():
            if each.state in ("SENDING", "AMBIGUOUS") or (
                each.state == "DEAD" and each.order.action != "entry"
            ):
                self.orders[each.order.order_id] = each.order
                self.states[each.order.order_id] = each.state

    def send(self, orders):
        for order in orders:
            self.orders[order.order_id], self.states[order.order_id] = order, "PENDING"
            if self.gate == "halted" or (self.gate == "reduce_only" and order.action == "entry"):
                continue
            self.deliver(order.order_id, self._fate(order))

    def deliver(self, order_id, state):
        if state in ("ACKED", "AMBIGUOUS"):
            self.sent.append(order_id)
        if state in ("PENDING", self.states[order_id]):
            return
        if state == "AMBIGUOUS" and self.states[order_id] == "PENDING":
            self._journal.order_state(order_id, "SENDING", 1)
        self._journal.order_state(order_id, state, 1)
        self.states[order_id] = state
        self._moves.append((self.orders[order_id], Move(order_id, state, "on script")))

    def settled(self):
        moves, self._moves = self._moves, []
        return moves

    def unsettled(self):
        return [
            (self.orders[order_id], state)
            for order_id, state in self.states.items()
            if state in ("PENDING", "SENDING", "AMBIGUOUS")
            or (state == "DEAD" and self.orders[order_id].action != "entry")
        ]

    def hold(self, gate):
        self.gate = gate
        waiting = [each for each, state in self.unsettled() if state == "PENDING"]
        if gate == "open":
            for order in waiting:
                self.deliver(order.order_id, self._fate(order))

    def resolve(self, order_id, verdict):
        if order_id not in self.states:
            raise ConfigError(f"order {order_id}", expected="one that is not settled")
        state = {
            "filled": "RESOLVED_FILLED",
            "absent": "RESOLVED_ABSENT",
            "flat": "FLATTENED",
            "retry": "PENDING",
        }[verdict]
        if verdict == "retry":
            self._journal.order_state(order_id, "PENDING", 1)
            self.states[order_id] = "PENDING"
            self.deliver(order_id, self._fate(self.orders[order_id]))
            return state
        self.deliver(order_id, state)
        return state

    def standing(self):
        return {"last_success": None, "last_error": None}


def worked(week, name, script=None, fate=None, *, until_ns=None, kill=False):
    """Run a worker whose orders go to a `Receiver`; return it."""
    made = []

    def sink_of(sink, journal):
        made.append(Receiver(sink, journal, *([fate] if fate else [])))
        return made[0]

    carry(
        week,
        scripted(week, week.events if script is None else script),
        name=name,
        sink_of=sink_of,
        until_ns=until_ns,
        kill=kill,
    )
    return made[0]


def at_slice(week, k):
    """A place in the events: after the k-th hour's end."""
    ends = [
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns % (60 * MINUTE_NS) == 0
    ]
    return ends[k] + 1


def asking(week, name, *asked):
    """The week's events with commands of an operator in between, each (place, command, facts)."""
    script = list(week.events)
    for place, command, facts in sorted(asked, key=lambda each: each[0], reverse=True):
        script.insert(
            place,
            lambda c=command, f=facts: post_command(week.journal(name), 1, c, f),
        )
    return script


def kinds(path, kind):
    *_, inputs = read(path)
    return inputs[inputs["kind"] == kind]


def nth_entry(calm, n):
    return [each.order for each in orders_in(calm) if each.order.action == "entry"][n].order_id


def of_entry(path, order_id):
    """The trade that an entry order began, if any."""
    order = next(each.order for each in orders_in(path) if each.order.order_id == order_id)
    _, trades, _ = read(path)
    since = trades[trades["entry_ns"] >= order.decided_ns]
    return since[since["entry_ns"] < order.decided_ns + 6 * MINUTE_NS], order


# ------------------------------------------------------------------ deliveries


@pytest.mark.parametrize("state", ["EXPIRED", "DEAD", "SUPERSEDED"])
def test_an_entry_that_did_not_leave_is_in_no_book_and_nothing_undoes_it(week, calm, name, state):
    lost = nth_entry(calm, 3)
    receiver = worked(week, name, fate=lambda order: state if order.order_id == lost else "ACKED")
    path = week.journal(name)
    assert len(kinds(path, CANCEL)) == 1
    assert lost not in receiver.sent
    found, order = of_entry(path, lost)
    assert not (found["symbol"] == week.roots.index(order.symbol)).any()
    names = [each.order.order_id for each in orders_in(path)]
    assert lost.replace("entry", "cancel") not in names
    entries = [each for each in names if each.endswith("entry")]
    assert len(entries) >= len([1 for each in orders_in(calm) if each.order.action == "entry"]) - 1
    parity_holds(week, name)


def test_an_unknown_outcome_keeps_entries_out_until_somebody_says(week, calm, name):
    unknown = nth_entry(calm, 3)
    first = next(each.order for each in orders_in(calm) if each.order.order_id == unknown)
    place = at_slice(week, 12) + next(
        i
        for i, each in enumerate(week.events[at_slice(week, 12) :])
        if isinstance(each, MinuteEnd) and each.ts_ns > first.decided_ns + 8 * 60 * MINUTE_NS
    )
    script = asking(week, name, (place, "resolve", {"order_id": unknown, "verdict": "filled"}))
    worked(week, name, script, lambda order: "AMBIGUOUS" if order.order_id == unknown else "ACKED")
    decisions, trades, inputs = read(week.journal(name))
    assert len(blocked_as(decisions, "unresolved"))
    turned = blocks(inputs)[-2:]
    assert turned["until_ns"].tolist() == [NEVER, 0]
    assert not len(kinds(week.journal(name), CANCEL))
    taken = entries_taken(decisions)["time_ns"]
    between = (taken > turned["time_ns"][0]) & (taken < turned["time_ns"][1])
    assert not between.any()
    assert (taken > turned["time_ns"][1]).any()
    assert len(trades)
    parity_holds(week, name)


def test_an_entry_that_never_arrived_is_taken_out_when_an_operator_says_so(week, calm, name):
    unknown = nth_entry(calm, 3)
    _, order = of_entry(calm, unknown)
    place = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns > order.decided_ns
    )
    script = asking(week, name, (place + 1, "resolve", {"order_id": unknown, "verdict": "absent"}))
    worked(week, name, script, lambda each: "AMBIGUOUS" if each.order_id == unknown else "ACKED")
    assert len(kinds(week.journal(name), CANCEL)) == 1
    found, _ = of_entry(week.journal(name), unknown)
    assert not (found["symbol"] == week.roots.index(order.symbol)).any()
    parity_holds(week, name)


def test_an_exit_leaves_the_book_no_sooner_than_it_was_delivered(week, calm, name):
    late = next(each.order for each in orders_in(calm) if each.order.action == "exit")
    receivers = []

    def sink_of(sink, journal):
        receivers.append(
            Receiver(sink, journal, lambda o: "PENDING" if o.order_id == late.order_id else "ACKED")
        )
        return receivers[0]

    arrives_ns = late.decided_ns + 3 * 60 * MINUTE_NS
    script = list(week.events)
    place = next(
        i
        for i, each in enumerate(script)
        if isinstance(each, MinuteEnd) and each.ts_ns >= arrives_ns
    )
    script.insert(place + 1, lambda: receivers[0].deliver(late.order_id, "ACKED"))
    carry(week, scripted(week, script), name=name, sink_of=sink_of)
    told = kinds(week.journal(name), LEFT_LATE)
    assert told["until_ns"][0] == NEVER
    assert arrives_ns <= told["until_ns"][1] <= arrives_ns + 60 * MINUTE_NS
    _, trades, _ = read(week.journal(name))
    own = trades[trades["symbol"] == week.roots.index(late.symbol)]
    left = own[own["exit_ns"] >= late.decided_ns][0]
    assert left["exit_ns"] >= arrives_ns
    assert left["entry_ns"] < late.decided_ns
    parity_holds(week, name)


def test_an_entry_that_may_have_filled_and_was_closed_leaves_by_an_exit_that_counts(
    week, calm, name
):
    unknown = nth_entry(calm, 3)
    _, order = of_entry(calm, unknown)
    place = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns > order.decided_ns + 2 * MINUTE_NS
    )
    made = []

    def sink_of(sink, journal):
        fate = lambda each: "AMBIGUOUS" if each.order_id == unknown else "ACKED"  # noqa: E731
        made.append(Receiver(sink, journal, fate))
        return made[0]

    script = list(week.events)
    script.insert(place + 1, lambda: made[0].deliver(unknown, "FLATTENED"))
    carry(week, scripted(week, script), name=name, sink_of=sink_of)
    path = week.journal(name)
    assert not len(kinds(path, CANCEL))
    found, _ = of_entry(path, unknown)
    (trade,) = found[found["symbol"] == week.roots.index(order.symbol)]
    assert trade["reason"] == OPERATOR
    closed = [each for each in orders_in(path) if each.order.reason == "operator"]
    assert [each.state for each in closed] == ["FLATTENED"]
    assert closed[0].order.order_id not in made[0].sent
    parity_holds(week, name)


# ------------------------------------------------------------------ operators


def test_a_halt_lets_exits_leave_and_holds_over_a_restart_until_resumed(week, calm, name):
    halted, again = at_slice(week, 5), at_slice(week, 50)
    script = asking(week, name, (halted, "halt", {"all": False}), (again, "resume", {}))
    stops_ns = next(e.ts_ns for e in week.events[at_slice(week, 25) :] if isinstance(e, MinuteEnd))
    worked(week, name, script, until_ns=stops_ns, kill=True)
    rest = script[halted + 1 :]
    worked(week, name, rest)
    decisions, _, inputs = read(week.journal(name))
    shut, opened = (blocks(inputs)[blocks(inputs)["kind"] == halted_kind(inputs)])[:2]
    taken = entries_taken(decisions)["time_ns"]
    assert not ((taken > shut["time_ns"]) & (taken <= opened["time_ns"])).any()
    assert (taken > opened["time_ns"]).any()
    assert len(blocked_as(decisions, "halted"))
    settled = settled_commands(week, name)
    assert settled == ["halt", "resume"]
    parity_holds(week, name)


def halted_kind(inputs):
    from ibs_core.portfolio import FIRST_BLOCK, LIVE_BLOCKS

    return FIRST_BLOCK + LIVE_BLOCKS.index("halted")


def settled_commands(week, name):
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        return [each.command for each in journal.commands() if each.taken_ns is not None]


def test_a_full_halt_keeps_exits_too_and_the_book_waits_for_them(week, calm, name):
    late = [each.order for each in orders_in(calm) if each.order.action == "exit"][2]
    before = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns >= late.decided_ns - 5 * MINUTE_NS
    )
    after = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns >= late.decided_ns + 120 * MINUTE_NS
    )
    script = asking(week, name, (before, "halt", {"all": True}), (after + 1, "resume", {}))
    stops_ns = late.decided_ns + 30 * MINUTE_NS
    first = worked(week, name, script, until_ns=stops_ns, kill=True)
    assert late.order_id not in first.sent
    second = worked(week, name, script[before + 1 :])
    assert late.order_id in second.sent
    _, trades, _ = read(week.journal(name))
    own = trades[trades["symbol"] == week.roots.index(late.symbol)]
    left = own[own["entry_ns"] < late.decided_ns][-1]
    assert left["exit_ns"] >= late.decided_ns + 120 * MINUTE_NS
    parity_holds(week, name)


def test_flatten_leaves_everything_and_enters_nothing_more(week, calm, name):
    held = next(each.order for each in orders_in(calm) if each.order.action == "exit")
    place = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns >= held.decided_ns - 5 * MINUTE_NS
    )
    receiver = worked(week, name, asking(week, name, (place, "flatten", {"symbols": None})))
    decisions, trades, _ = read(week.journal(name))
    by_hand = exits(decisions)[exits(decisions)["reason"] == OPERATOR]
    assert len(by_hand) >= 1
    ids = [each.order.order_id for each in orders_in(week.journal(name))]
    assert [each for each in ids if each.endswith("exit")][-1] in receiver.sent
    assert not (entries_taken(decisions)["time_ns"] > by_hand["time_ns"][0]).any()
    assert (trades["reason"] == OPERATOR).any()
    parity_holds(week, name)


def test_a_position_closed_by_hand_is_booked_and_nothing_is_sent(week, calm, name):
    held = next(each.order for each in orders_in(calm) if each.order.action == "exit")
    place = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns >= held.decided_ns - 5 * MINUTE_NS
    )
    receiver = worked(week, name, asking(week, name, (place, "position", {"symbol": held.symbol})))
    told = kinds(week.journal(name), FLATTEN)
    assert len(told) == 1
    settled = [each for each in orders_in(week.journal(name)) if each.order.reason == "operator"]
    assert [each.state for each in settled] == ["FLATTENED"]
    assert settled[0].order.order_id not in receiver.sent
    _, trades, _ = read(week.journal(name))
    assert (trades["reason"] == OPERATOR).sum() == 1
    parity_holds(week, name)


def test_what_was_asked_while_nobody_ran_is_done_before_anything_leaves(week, calm, name):
    late = [each.order for each in orders_in(calm) if each.order.action == "entry"][3]
    worked(week, name, until_ns=late.decided_ns - 60 * MINUTE_NS)
    post_command(week.journal(name), 1, "halt", {"all": False})
    receiver = worked(week, name)
    assert receiver.sent == [] or not any(each.endswith("entry") for each in receiver.sent)
    decisions, *_ = read(week.journal(name))
    assert not (entries_taken(decisions)["time_ns"] >= late.decided_ns).any()
    parity_holds(week, name)


def test_a_command_that_no_version_knows_is_settled_and_said(week, name):
    worked(week, name, asking(week, name, (at_slice(week, 3), "dance", {})))
    assert settled_commands(week, name) == ["dance"]
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        said = journal.last_event("command")["said"]
    assert "does not know" in said


def test_the_health_of_a_worker_is_that_of_its_engine(week, calm, name):
    held = next(each.order for each in orders_in(calm) if each.order.action == "exit")
    worker = carry(
        week,
        scripted(week, week.events),
        name=name,
        until_ns=held.decided_ns - 20 * MINUTE_NS,
        kill=True,
    )
    told = worker.health()
    assert json.loads(json.dumps(told)) == told
    assert told["until"] == stamp(worker.until_ns)
    assert told["gate"] == "open"
    assert told["blocked"] == told["unresolved"] == []
    assert set(told["symbols"]) == set(week.roots)
    own = told["symbols"][held.symbol]
    assert (own["position"], own["instrument"]) == ("open", held.instrument)
    _, trades, _ = read(calm)
    (trade,) = trades[
        (trades["exit_ns"] > held.decided_ns - 1)
        & (trades["entry_ns"] < held.decided_ns)
        & (trades["symbol"] == week.roots.index(held.symbol))
    ][:1]
    assert own["entry_price"] == trade["entry_price"]
    assert own["last_bar"] <= own["last_minute"] <= told["until"]
    assert own["features"] == {"ready": True, "required": ["bar_rsi2"], "missing": []}


def test_flatten_sends_a_refused_exit_again_and_says_what_holds_the_others(week, calm, name):
    refused = next(each.order for each in orders_in(calm) if each.order.action == "exit")
    fates = {refused.order_id: ["DEAD", "ACKED"]}
    place = next(
        i
        for i, each in enumerate(week.events)
        if isinstance(each, MinuteEnd) and each.ts_ns >= refused.decided_ns + 30 * MINUTE_NS
    )
    receiver = worked(
        week,
        name,
        asking(week, name, (place, "flatten", {"symbols": None})),
        lambda each: fates[each.order_id].pop(0) if each.order_id in fates else "ACKED",
    )
    assert receiver.states[refused.order_id] == "ACKED"
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        assert f"{refused.order_id} is PENDING" in journal.last_event("command")["said"]
    parity_holds(week, name)


def test_a_command_that_breaks_is_settled_and_the_worker_goes_on(week, name):
    worked(week, name, asking(week, name, (at_slice(week, 3), "resolve", {})))
    assert settled_commands(week, name) == ["resolve"]
    with SqliteJournal(week.journal(name), read_only=True) as journal:
        assert journal.last_event("command")["said"] == "not done: KeyError"


def test_a_stop_with_an_exit_undelivered_calls_a_person(week, calm, name):
    late = [each.order for each in orders_in(calm) if each.order.action == "exit"][2]
    made = []

    def sink_of(sink, journal):
        fate = lambda each: "PENDING" if each.order_id == late.order_id else "ACKED"  # noqa: E731
        made.append(Receiver(sink, journal, fate))
        return made[0]

    worker = carry(
        week,
        scripted(week, week.events),
        name=name,
        sink_of=sink_of,
        until_ns=late.decided_ns + MINUTE_NS,
    )
    assert any(late.order_id in line and "not delivered" in line for line in worker.told)
