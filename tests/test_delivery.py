"""What a sender does next: each rule by itself, then all of them against a receiver that loses what it likes."""

import itertools
from dataclasses import replace

import pytest
from delivery_worlds import SECOND, World
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_entries import order

from ibs_core.delivery import Move, Send, View, entry_life_ns, plan
from ibs_core.errors import ConfigError
from ibs_core.outbox import Attempt, Delivery, resolution, settle
from ibs_core.outcomes import Breaker, Response, after_attempt, after_probe, classify

NOW = 1_764_600_000 * SECOND
ENTRY, EXIT = order("in", decided_ns=NOW), order("out", action="exit", decided_ns=NOW)
OTHER = order("other", symbol="NQ", instrument="MNQZ2025", decided_ns=NOW)


def delivery(given_order, *outcomes, state="PENDING", **fields):
    """An order with attempts: (outcome, start in seconds, end in seconds) from NOW."""
    attempts = tuple(
        Attempt(
            i,
            NOW + int(start * SECOND),
            ended_ns=NOW + int(end * SECOND),
            response=Response(outcome),
        )
        for i, (outcome, start, end) in enumerate(outcomes)
    )
    return Delivery(given_order, state, attempts, taken_ns=NOW, **fields)


def at(seconds, *deliveries, **fields):
    now_ns = NOW + int(seconds * SECOND)
    return plan(View(now_ns, now_ns, deliveries, trading=("ES", "NQ"), **fields))


def due_s(*deliveries, until=200, **fields):
    """The second at which the last of these is sent, if nothing else happens."""
    step, tenths = 1, 0
    while tenths <= until * 10:
        found = at(tenths / 10, *deliveries, **fields)
        if found.send is not None and found.send.order_id == deliveries[-1].order.order_id:
            return tenths / 10
        tenths += step
    return None


@pytest.mark.parametrize(
    ("fault", "status", "is_success", "expected"),
    [
        *((name, None, False, "NOT_SENT") for name in ("ConnectError", "ConnectTimeout")),
        *((name, None, False, "NOT_SENT") for name in ("PoolTimeout", "LocalProtocolError")),
        ("UnsupportedProtocol", None, False, "NOT_SENT"),
        *((name, None, False, "AMBIGUOUS") for name in ("ReadTimeout", "ReadError", "WriteError")),
        *((name, None, False, "AMBIGUOUS") for name in ("WriteTimeout", "RemoteProtocolError")),
        *((name, None, False, "AMBIGUOUS") for name in ("Deadline", "AnythingElse", "")),
        ("", 200, True, "ACCEPTED"),
        ("", 200, False, "AMBIGUOUS"),
        ("ReadTimeout", 200, True, "AMBIGUOUS"),
        ("", 201, True, "AMBIGUOUS"),
        ("", 302, False, "REFUSED"),
        ("", 400, False, "REFUSED"),
        ("ReadTimeout", 404, False, "REFUSED"),
        ("", 408, False, "AMBIGUOUS"),
        ("ReadTimeout", 429, False, "THROTTLED"),
        ("", 500, False, "AMBIGUOUS"),
        ("", 503, True, "AMBIGUOUS"),
    ],
)
def test_an_outcome_is_what_is_known(fault, status, is_success, expected):
    assert classify(fault, status, is_success=is_success) == expected


AFTER = {
    ("NOT_SENT", "entry"): ("PENDING", None),
    ("NOT_SENT", "exit"): ("PENDING", None),
    ("THROTTLED", "entry"): ("PENDING", None),
    ("THROTTLED", "exit"): ("PENDING", "throttled"),
    ("REFUSED", "entry"): ("DEAD", "refused"),
    ("REFUSED", "exit"): ("DEAD", "refused"),
    ("AMBIGUOUS", "entry"): ("AMBIGUOUS", "ambiguous"),
    ("AMBIGUOUS", "exit"): ("AMBIGUOUS", "ambiguous"),
    ("ACCEPTED", "entry"): ("ACKED", None),
    ("ACCEPTED", "exit"): ("ACKED", None),
}


@pytest.mark.parametrize(("outcome", "action"), AFTER)
def test_what_follows_from_an_attempt(outcome, action):
    held = delivery(ENTRY if action == "entry" else EXIT, (outcome, 0, 1), state="SENDING")
    state, _, page = settle(held, held.attempts[0], [held])
    assert (state, page.cause if page else None) == AFTER[outcome, action]


def test_an_exit_accepted_within_15_s_of_an_entry_is_sent_again_15_s_after_it():
    entry = delivery(ENTRY, ("ACCEPTED", 0, 0.1), state="ACKED")
    for start_s, state in ((14.9, "PENDING"), (15, "ACKED")):
        leaves = delivery(EXIT, ("ACCEPTED", start_s, start_s + 0.1), state="SENDING")
        assert settle(leaves, leaves.attempts[0], [entry, leaves])[0] == state
    soon = delivery(EXIT, ("ACCEPTED", 2, 2.1))
    assert due_s(entry, soon) == 15
    late = delivery(EXIT, ("ACCEPTED", 8, 8.1))
    assert due_s(entry, late) == 18  # 10 s after itself


def test_an_entry_leaves_at_once_and_never_once_it_is_too_old():
    assert at(0, delivery(ENTRY)).send == Send("in")
    assert at(10, delivery(ENTRY)).send == Send("in")
    old = Move("in", "EXPIRED", "too old to be sent")
    assert at(10.001, delivery(ENTRY)).moves == (old,)
    assert at(2, delivery(ENTRY, age_ns=9 * SECOND)).moves == (old,)
    assert at(0, delivery(ENTRY), life_ns=-1).moves == (old,)
    assert entry_life_ns(3600 * SECOND) == 10 * SECOND
    assert entry_life_ns(20 * SECOND) == 5 * SECOND


@pytest.mark.parametrize("step_s", [-3600, -11, 11, 3600])
def test_a_clock_that_steps_expires_entries_and_keeps_exits(step_s):
    view = View(NOW, NOW + step_s * SECOND, [delivery(ENTRY)], trading=("ES",))
    assert [each.state for each in plan(view).moves] == ["EXPIRED"]
    view = View(NOW, NOW + step_s * SECOND, [delivery(EXIT)], trading=("ES",))
    assert plan(view).send == Send("out")


def test_an_entry_that_was_not_sent_is_tried_again_until_it_is_too_old():
    times, outcomes, now_s = [], [], 0.0
    while True:
        held = delivery(ENTRY, *outcomes)
        next_s = due_s(held, until=11)
        if next_s is None:
            break
        times.append(next_s)
        outcomes.append(("NOT_SENT", next_s, next_s + 0.01))
        assert next_s >= now_s
        now_s = next_s
    gaps = [round(b - a, 1) for a, b in itertools.pairwise(times)]
    assert gaps[0] in (0.1, 0.2)
    assert max(gaps) <= 1.4  # a second, a quarter of jitter, and the grid of this test
    assert 8.5 <= times[-1] <= 10
    assert at(10.1, delivery(ENTRY, *outcomes)).moves[0].state == "EXPIRED"


def test_an_exit_that_was_not_sent_is_tried_for_ever_and_a_person_is_called_after_10_s():
    outcomes = [("NOT_SENT", k, k + 0.1) for k in range(12)]
    held = delivery(EXIT, *outcomes)
    found = at(12, held)
    assert [(page.order_id, page.cause) for page in found.pages] == [("out", "undelivered")]
    assert at(12, replace(held, paged=frozenset(["undelivered"]))).pages == ()
    assert 16.1 <= due_s(held) <= 17.5  # five seconds and a quarter at most
    assert at(9.9, delivery(EXIT)).pages == ()
    assert at(3600, delivery(EXIT)).send == Send("out")


def test_an_exit_of_unknown_outcome_is_sent_10_20_and_40_s_after_it_began():
    outcomes = []
    for expected in (0, 10, 30, 70, 110):
        state = "AMBIGUOUS" if outcomes else "PENDING"
        assert due_s(delivery(EXIT, *outcomes, state=state)) == expected
        outcomes.append(("AMBIGUOUS", expected, expected + 8))


def test_a_throttled_exit_waits_as_asked_and_an_entry_only_within_its_life():
    asked = Attempt(
        0, NOW, ended_ns=NOW, response=Response("THROTTLED", 429, retry_after_ns=7 * SECOND)
    )
    assert due_s(replace(delivery(EXIT), attempts=(asked,))) == 7
    assert due_s(replace(delivery(ENTRY), attempts=(asked,))) == 7
    assert due_s(delivery(EXIT, ("THROTTLED", 0, 0))) == 5
    assert due_s(delivery(EXIT, *[("THROTTLED", k, k) for k in range(4)])) == 18
    too_long = Attempt(
        0, NOW, ended_ns=NOW, response=Response("THROTTLED", 429, retry_after_ns=11 * SECOND)
    )
    (move,) = at(0.1, replace(delivery(ENTRY), attempts=(too_long,))).moves
    assert (move.state, "would be too old" in move.why) == ("EXPIRED", True)


def test_exits_go_before_entries_and_the_longest_due_before_retries_of_others():
    assert at(0, delivery(OTHER), delivery(EXIT)).send == Send("out")
    again = delivery(EXIT, ("NOT_SENT", 0, 0.1))
    fresh = delivery(replace(EXIT, order_id="fresh", instrument="MNQZ2025"))
    assert at(1, again, fresh).send == Send("fresh")


def test_a_later_exit_supersedes_an_entry_that_was_not_delivered():
    entry = delivery(ENTRY, ("NOT_SENT", 0, 0.1))
    found = at(0.1, entry, delivery(EXIT))
    assert found.moves == (Move("in", "SUPERSEDED", "by out"),)
    assert found.send == Send("out")
    assert at(0, delivery(ENTRY), delivery(replace(EXIT, instrument="MNQZ2025"))).moves == ()


@pytest.mark.parametrize("state", ["PENDING", "AMBIGUOUS", "DEAD"])
def test_no_entry_leaves_while_an_exit_of_its_contract_is_not_known_to_have_closed(state):
    leaves = delivery(EXIT, ("REFUSED", 0, 0), state=state)
    if state != "DEAD":
        leaves = delivery(EXIT, ("AMBIGUOUS", 0, 0), state=state)
    assert at(5, leaves, delivery(ENTRY)).send != Send("in")
    assert at(10.1, leaves, delivery(ENTRY)).moves[0].state == "EXPIRED"
    assert at(0, leaves, delivery(OTHER)).send == (None if state == "AMBIGUOUS" else Send("other"))
    after = delivery(replace(EXIT, order_id="again"), ("ACCEPTED", -20, -20), state="ACKED")
    if state == "DEAD":
        assert at(0, leaves, after, delivery(ENTRY)).send == Send("in")


def test_an_entry_waits_15_s_after_an_exit_or_is_given_up():
    gone = delivery(EXIT, ("ACCEPTED", -10, -9), state="ACKED")
    assert due_s(gone, delivery(ENTRY)) == 6
    just_gone = delivery(EXIT, ("ACCEPTED", -3, -2), state="ACKED")
    (move,) = at(0, just_gone, delivery(ENTRY)).moves
    assert move == Move("in", "EXPIRED", "it would be too old: an exit has just left")


def test_an_entry_of_unknown_outcome_freezes_all_entries_and_is_flattened_after_60_s():
    unknown = delivery(ENTRY, ("AMBIGUOUS", 0, 5), state="AMBIGUOUS")
    assert due_s(unknown, delivery(OTHER)) is None
    assert due_s(unknown) == 60
    assert at(60, unknown).send == Send("in", flattens=True)
    with pytest.raises(AssertionError, match="at most once"):
        at(0, replace(unknown, state="PENDING"))


def test_an_exit_sent_15_s_after_an_entry_of_unknown_outcome_flattens_it():
    unknown = delivery(ENTRY, ("AMBIGUOUS", 0, 5), state="AMBIGUOUS")
    for start_s, states in ((14, []), (15, ["FLATTENED"])):
        gone = delivery(EXIT, ("ACCEPTED", start_s, start_s), state="ACKED")
        assert [each.state for each in at(20, unknown, gone).moves] == states


def flattened(outcome):
    attempt = Attempt(1, NOW + 60 * SECOND, True, NOW + 61 * SECOND, Response(outcome))
    held = delivery(ENTRY, ("AMBIGUOUS", 0, 5), state="AMBIGUOUS")
    return replace(held, attempts=(*held.attempts, attempt)), attempt


def test_the_exit_in_place_of_an_entry_is_sent_until_it_is_accepted_or_refused():
    held, attempt = flattened("ACCEPTED")
    assert settle(held, attempt, [held])[0] == "FLATTENED"
    held, attempt = flattened("AMBIGUOUS")
    assert settle(held, attempt, [held])[0] is None
    assert due_s(held) == 70
    held, attempt = flattened("REFUSED")
    state, _, page = settle(held, attempt, [held])
    assert (state, page.cause) == (None, "refused")
    assert due_s(held) is None


def test_entries_have_a_budget_and_exits_a_reserve():
    minute = [NOW - k * SECOND for k in range(30)][::-1]
    expired = at(0, delivery(ENTRY), entries_ns=minute, all_ns=minute)
    assert expired.moves[0].why == "it would be too old: the budget of entries"
    assert at(0, delivery(EXIT), entries_ns=minute, all_ns=minute).send == Send("out")
    full = [NOW - k * SECOND // 2 for k in range(60)][::-1]
    assert due_s(delivery(EXIT), all_ns=full) == 30.5
    hour = [NOW - k * 6 * SECOND for k in range(300)][::-1]
    assert at(0, delivery(ENTRY), entries_ns=hour, all_ns=hour).moves[0].state == "EXPIRED"
    assert at(0, delivery(EXIT), entries_ns=hour, all_ns=hour).send == Send("out")


def test_a_halt_stops_entries_and_a_full_halt_everything():
    found = at(
        0, delivery(ENTRY), delivery(replace(EXIT, instrument="MNQZ2025")), gate="reduce_only"
    )
    assert found.moves == (Move("in", "EXPIRED", "entries are halted"),)
    assert found.send == Send("out")
    found = at(11, delivery(EXIT), gate="halted")
    assert found.send is None
    assert "everything is halted" in found.pages[0].text


def test_an_entry_does_not_leave_into_a_market_that_is_closed():
    view = View(NOW, NOW, [delivery(ENTRY), delivery(EXIT)][:1], trading=("NQ",))
    assert plan(view).moves[0].why == "its market is closed or soon will be"
    view = View(NOW, NOW, [delivery(EXIT)], trading=())
    assert plan(view).send == Send("out")


def test_the_breaker_opens_for_entries_only_and_lets_one_try_after_a_probe():
    breaker = Breaker()
    for k in range(3):
        assert not breaker.is_shut
        breaker = after_attempt(breaker, Response("NOT_SENT"), NOW + k * SECOND, is_entry=False)
    assert breaker.is_shut
    assert at(2, delivery(EXIT), breaker=breaker).send == Send("out")
    assert at(2.5, delivery(ENTRY), breaker=breaker).send is None
    assert at(3, delivery(ENTRY), breaker=breaker).is_probe
    failed = after_probe(breaker, NOW + 3 * SECOND, is_reached=False)
    assert not at(3.5, delivery(ENTRY), breaker=failed).is_probe
    half = after_probe(breaker, NOW + 3 * SECOND, is_reached=True)
    assert at(3, delivery(ENTRY), breaker=half).send == Send("in")
    assert after_attempt(half, Response("NOT_SENT"), NOW + 4 * SECOND, is_entry=True).is_shut
    assert after_attempt(half, Response("ACCEPTED"), NOW, is_entry=True) == Breaker()
    rare = Breaker()
    for k in range(9):
        rare = after_attempt(rare, Response("NOT_SENT"), NOW + 31 * k * SECOND, is_entry=True)
    assert not rare.is_shut


def test_a_throttled_entry_and_a_refused_access_open_the_breaker_at_once():
    for response, is_entry in (
        (Response("THROTTLED", 429), True),
        (Response("REFUSED", 400, detail="invalid-password"), False),
        (Response("REFUSED", 404, detail="not-found"), True),
    ):
        assert after_attempt(Breaker(), response, NOW, is_entry=is_entry).is_shut
    for response in (Response("REFUSED", 400, detail="invalid-action"), Response("AMBIGUOUS", 500)):
        assert not after_attempt(Breaker(), response, NOW, is_entry=True).is_shut


def test_an_operator_can_say_only_what_fits():
    assert resolution(ENTRY, "AMBIGUOUS", "absent") == "RESOLVED_ABSENT"
    assert resolution(EXIT, "DEAD", "retry") == "PENDING"
    assert resolution(EXIT, "PENDING", "flat") == "FLATTENED"
    for given_order, state, verdict in (
        (ENTRY, "AMBIGUOUS", "retry"),
        (ENTRY, "DEAD", "retry"),
        (ENTRY, "PENDING", "absent"),
        (EXIT, "AMBIGUOUS", "absent"),
        (EXIT, "ACKED", "flat"),
    ):
        with pytest.raises(ConfigError, match=f"is {state}: expected"):
            resolution(given_order, state, verdict)


@settings(max_examples=40)  # 2,400 deliveries
@given(
    seed=st.integers(0, 2**32),
    fault_rate=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    death_rate=st.sampled_from([0.0, 0.0, 0.02, 0.1]),
    step_rate=st.sampled_from([0.0, 0.0, 0.05]),
)
def test_nothing_is_entered_twice_or_reversed_and_every_exit_arrives_or_is_told(
    seed, fault_rate, death_rate, step_rate
):
    world = World(seed, fault_rate=fault_rate, death_rate=death_rate, step_rate=step_rate)
    world.live(n_trades=10)
    world.holds()


@pytest.mark.soak
def test_a_hundred_thousand_deliveries_enter_nothing_twice():
    n = 0
    for seed in range(100_000):
        step_rate = 0.05 if seed % 4 == 3 else 0.0
        world = World(
            seed, fault_rate=seed % 10 / 10, death_rate=seed % 7 / 50, step_rate=step_rate
        )
        n += world.live(n_trades=20)
        world.holds()
        if n >= 100_000:
            return
