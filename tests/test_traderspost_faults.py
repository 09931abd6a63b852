"""Delivery over real sockets when much goes wrong: connections used before, storms, lookups, clocks, restarts."""

import itertools
import socket
import threading
from collections import Counter
from dataclasses import replace

import pytest
from delivery_rig import (
    IMPATIENT,
    LAST_PART,
    NOWHERE,
    UUID,
    Answering,
    raw_server,
    rigged,
    says_garbage,
    says_nothing,
)
from delivery_worlds import MAP, SECOND, Clock, MemoryJournal
from journal_entries import order

from adapters.demo_broker import DemoBroker, Fault
from adapters.traderspost import Connection, TradersPostSink, Webhook
from ibs_core.errors import ConfigError
from ibs_core.outcomes import Breaker, Response, after_attempt, group_of

# ---------------------------------------------------------------- D2, on connections and below HTTP

ON_A_USED_CONNECTION = {
    "no_answer": ("AMBIGUOUS", 1, 2),
    "close": ("AMBIGUOUS", 1, 2),
    "reset": ("AMBIGUOUS", 1, 2),
    "garbage": ("AMBIGUOUS", 1, 2),
    "stall_body": ("AMBIGUOUS", 1, 2),
    "close_unread": ("AMBIGUOUS", 0, 1),
    "reset_unread": ("AMBIGUOUS", 0, 1),
}


@pytest.mark.parametrize("action", ["entry", "exit"])
@pytest.mark.parametrize("kind", ON_A_USED_CONNECTION)
def test_a_fault_on_a_connection_used_before_is_never_hidden_by_sending_again(
    tmp_path, kind, action
):
    outcome, *counts = ON_A_USED_CONNECTION[kind]
    with DemoBroker([Fault(kind=kind)]) as broker, rigged(tmp_path, broker.url) as rig:
        assert rig.sink._connection.warm()
        rig.decide(order("o", action=action))
        rig.sink.turn()
        assert (rig.outcomes(), len(broker.others)) == ([outcome], 1)
        rig.run(55)
        assert len(broker.requests) == counts[action == "exit"]
        assert rig.state() == ("ACKED" if action == "exit" else "AMBIGUOUS")


@pytest.mark.parametrize("action", ["entry", "exit"])
def test_a_connection_that_the_receiver_closed_while_it_was_idle_is_opened_anew(tmp_path, action):
    faults = [Fault(kind="close_idle", count=2)]
    with DemoBroker(faults) as broker, rigged(tmp_path, broker.url) as rig:
        for k in range(3):
            rig.decide(order(f"o{k}", action=action, instrument=f"MES{'HMU'[k]}2026"))
            rig.run(1)
            broker.wait_fired(min(k + 1, 2))
        assert [rig.outcomes(f"o{k}") for k in range(3)] == [["ACCEPTED"]] * 3
        assert (len(broker.requests), rig.pages) == (3, [])


@pytest.mark.parametrize("action", ["entry", "exit"])
def test_a_status_seen_before_the_body_was_lost_is_told(tmp_path, action):
    with DemoBroker([Fault(kind="stall_body")]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o", action=action))
        rig.sink.turn()
        (attempt,) = rig.journal.attempts("o")
        assert (attempt.outcome, attempt.response.status) == ("AMBIGUOUS", 200)
        assert "probably accepted" in rig.pages[0].text


@pytest.mark.parametrize("action", ["entry", "exit"])
@pytest.mark.parametrize("speak", [says_garbage, says_nothing])
def test_an_order_stays_unsent_while_the_handshake_fails(tmp_path, speak, action):
    with raw_server(speak) as port:
        url = f"https://127.0.0.1:{port}/trading/webhook/{UUID}/local-only"
        with rigged(tmp_path, url) as rig:
            rig.decide(order("o", action=action))
            rig.sink.turn()
            assert (rig.outcomes(), rig.state()) == (["NOT_SENT"], "PENDING")
            if speak is says_nothing:
                return
            rig.run(12)
            assert set(rig.outcomes()) == {"NOT_SENT"}
            assert rig.state() == ("EXPIRED" if action == "entry" else "PENDING")
            assert [page.cause for page in rig.pages] == (
                [] if action == "entry" else ["undelivered"]
            )


@pytest.mark.parametrize("action", ["entry", "exit"])
def test_an_order_for_which_the_pool_has_no_room_leaves_once_it_has(tmp_path, action):
    with DemoBroker() as broker, rigged(tmp_path, broker.url) as rig:
        client = rig.sink._connection._client
        with client.stream("GET", broker.root), client.stream("GET", broker.root):
            rig.decide(order("o", action=action))
            rig.sink.turn()
            assert (rig.outcomes(), broker.requests) == (["NOT_SENT"], ())
        rig.run(1)
        assert (rig.outcomes(), len(broker.requests)) == (["NOT_SENT", "ACCEPTED"], 1)


# ---------------------------------------------------------------- refusals

CODES = {
    "transport": "post-required empty-json malformed-json invalid-payload",
    "access": "invalid-password not-trading-view not-trend-spider invalid-ip-address"
    " invalid-ip-address-format not-found",
    "symbol": "empty-ticker-name ticker-does-not-exist unsupported-ticker invalid-asset-class"
    " invalid-ticker-and-option-type",
    "order": "invalid-action invalid-sentiment invalid-sentiment-action invalid-order-type"
    " invalid-trailing-stop invalid-time-in-force invalid-extended-hours invalid-expires-at"
    " invalid-message-length invalid-message-tags",
    "size": "invalid-quantity invalid-quantity-type invalid-quantity-type-action"
    " invalid-quantity-type-for-asset-class quantity-type-requires-quantity"
    " invalid-risk-dollar-amount-action invalid-percent-of-position-action",
    "bracket": " ".join(
        f"invalid-{leg}-{code}"
        for leg, codes in {
            "take-profit": "percent amount limit-price amount-and-percent relative-and-absolute"
            " value-required",
            "stop-loss": "type percent amount stop-price limit-price trail-price trail-amount"
            " trail-percent trail-value trail-value-required amount-and-percent"
            " relative-and-absolute stop-price-required value-required",
        }.items()
        for code in codes.split()
    ),
    "option": "invalid-option-type invalid-intrinsic-value invalid-expiration"
    " invalid-strike-count invalid-strikes-away invalid-strike-price",
}


def test_every_code_of_a_refusal_is_read_named_and_opens_the_breaker_only_for_access():
    codes = [(code, group) for group, names in CODES.items() for code in names.split()]
    faults = [
        Fault(
            kind="answer",
            status=400,
            body=f'{{"success": false, "messageCode": "{code}", "message": "no"}}',
        )
        for code, _ in codes
    ]
    with DemoBroker(faults) as broker:
        connection = Connection(Webhook("demo", broker.url), IMPATIENT)
        for code, group in codes:
            response = connection.post('{"ticker": "MESZ2026", "action": "exit"}')
            assert (response.outcome, response.detail) == ("REFUSED", code)
            assert group_of(code) == group
            assert response.said == f"REFUSED HTTP 400 {code} ({group})"
            breaker = after_attempt(Breaker(), response, 1, is_entry=True)
            assert breaker.is_shut == (group == "access"), code
        connection.close()
    assert group_of("too-many-requests") == "rate"
    assert (group_of("of-tomorrow"), group_of("")) == ("", "")


def test_a_wrong_password_calls_for_each_order_and_keeps_entries_back(tmp_path):
    with DemoBroker(password="right") as broker:
        url = broker.url.replace("/right", "/wrong")
        with rigged(tmp_path, url) as rig:
            rig.decide(order("in"))
            rig.sink.turn()
            assert rig.sink._tray.breaker.is_shut
            rig.decide(order("next", symbol="NQ", instrument="MNQZ2025"))
            rig.decide(order("out", action="exit", instrument="MESH2026"))
            rig.sink.turn()
            assert (rig.state("in"), rig.state("next"), rig.state("out")) == (
                "DEAD",
                "PENDING",
                "DEAD",
            )
            assert [page.order_id for page in rig.pages] == ["in", "out"]
            for page in rig.pages:
                assert "HTTP 400 invalid-password (access)" in page.text
            assert rig.journal.moves("out")[-1].detail.endswith("invalid-password (access)")


@pytest.mark.parametrize("wait", [None, "7"])
def test_a_storm_of_429_expires_the_entry_and_the_exit_comes_through(tmp_path, wait):
    headers = (("Retry-After", wait),) if wait else ()
    storm = Fault(kind="answer", status=429, count=8, headers=headers)
    with DemoBroker([storm]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("in", symbol="NQ", instrument="MNQZ2025"), order("out", action="exit"))
        rig.run(100)
        starts = [each.started_ns // SECOND for each in rig.journal.attempts("out")]
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        n = rig.outcomes("out").count("THROTTLED")
        assert gaps == ([7] * n if wait else [5, 10, *[15] * (n - 2)])
        assert rig.outcomes("out") == ["THROTTLED"] * n + ["ACCEPTED"]
        assert n + rig.outcomes("in").count("THROTTLED") == 8
        assert (rig.state("in"), rig.state("out")) == ("EXPIRED", "ACKED")
        assert [(page.order_id, page.cause) for page in rig.pages] == [("out", "throttled")]


def test_a_receiver_that_fails_for_minutes_gets_an_exit_again_and_again_and_an_entry_once(tmp_path):
    down = Fault(kind="answer", status=500, body="<html>sorry</html>", count=6)
    with DemoBroker([down]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("out", action="exit"))
        rig.run(1)
        rig.decide(order("in", symbol="NQ", instrument="MNQZ2025"))
        rig.run(300)
        assert rig.state("in") == "EXPIRED"  # an outcome is unknown, so no entry leaves
        assert rig.outcomes("out") == ["AMBIGUOUS"] * 6 + ["ACCEPTED"]
        assert len({each.body for each in broker.requests}) == 1
        assert [page.cause for page in rig.pages] == ["ambiguous"]


# ---------------------------------------------------------------- lookups


class Names:
    """A lookup that hangs until it is let go, for names; addresses need none."""

    def __init__(self, monkeypatch, *, addresses=("127.0.0.1",), fault=None):
        self.let_go, self.asked, self._fault = threading.Event(), 0, fault
        self._real, self._addresses = socket.getaddrinfo, addresses
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host, port, *more, **options):
        if host[0].isdigit():
            return self._real(host, port, *more, **options)
        self.asked += 1
        assert self.let_go.wait(20)
        if self._fault:
            raise self._fault
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self._addresses
        ]


def test_a_lookup_that_hangs_sends_nothing_and_keeps_nobody_waiting(monkeypatch):
    names = Names(monkeypatch)
    with DemoBroker() as broker:
        url = broker.url.replace("127.0.0.1", "localhost")
        connection = Connection(Webhook("demo", url), replace(IMPATIENT, connect=0.05))
        for _ in range(3):
            assert connection.post("{}") == Response("NOT_SENT", detail="lookup took too long")
        assert not connection.warm()
        assert names.asked == 1  # all waited for the same
        names.let_go.set()
        patient = Connection(Webhook("demo", url), IMPATIENT)
        assert patient.post("{}").outcome == "REFUSED"
        assert len(broker.requests) == 1
        patient.close()
        connection.close()


def test_the_next_order_leaves_when_the_lookup_that_hung_has_ended(tmp_path, monkeypatch):
    names = Names(monkeypatch)
    with DemoBroker() as broker:
        url = broker.url.replace("127.0.0.1", "localhost")
        with rigged(tmp_path, url) as rig:
            rig.decide(order("o", action="exit"))
            rig.sink.turn()
            assert (rig.outcomes(), rig.state()) == (["NOT_SENT"], "PENDING")
            names.let_go.set()
            rig.run(5)
            assert (rig.outcomes()[-1], rig.state()) == ("ACCEPTED", "ACKED")
            assert len(broker.requests) == 1


def test_a_name_that_does_not_exist_sends_nothing_and_the_next_address_is_tried(monkeypatch):
    with DemoBroker() as broker:
        webhook = Webhook("demo", broker.url.replace("127.0.0.1", "localhost"))
        Names(monkeypatch, fault=socket.gaierror(-2, "no such name")).let_go.set()
        connection = Connection(webhook, IMPATIENT)
        assert connection.post("{}") == Response("NOT_SENT", detail="ConnectError")
        monkeypatch.undo()
        Names(monkeypatch, addresses=("127.0.0.2", "127.0.0.1")).let_go.set()
        assert connection.post("{}").outcome == "REFUSED"
        assert len(broker.requests) == 1
        connection.close()


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("step_s", [-3600, -30, 30, 3600])
def test_a_clock_that_steps_holds_no_exit_up_and_lets_no_old_entry_go(tmp_path, step_s):
    with DemoBroker([Fault(kind="refuse")]) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("in", symbol="NQ", instrument="MNQZ2025"), order("out", action="exit"))
        rig.sink.turn()
        rig.clock.off_ns = step_s * SECOND
        broker.listen()
        rig.run(3)
        assert (rig.state("in"), rig.state("out")) == ("EXPIRED", "ACKED")
        assert len(broker.requests) == 1


def test_a_process_that_was_suspended_lets_no_old_entry_go(tmp_path):
    """Its steady clock may stand still meanwhile, the wall's does not."""
    with DemoBroker() as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("in"), order("out", action="exit", symbol="NQ", instrument="MNQZ2025"))
        rig.clock.off_ns = 11 * SECOND
        rig.run(1)
        assert (rig.state("in"), rig.state("out")) == ("EXPIRED", "ACKED")


def test_after_a_clock_was_set_back_and_a_restart_an_exit_still_leaves(tmp_path):
    clock = Clock()
    with DemoBroker([Fault(kind="refuse")]) as broker:
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.decide(order("o", action="exit"))
            rig.sink.turn()
            assert rig.outcomes() == ["NOT_SENT"]
        clock.off_ns = -3600 * SECOND
        broker.listen()
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.sink._tray.recover()
            rig.sink.send(rig.journal.unsent())
            rig.run(2)
            assert (rig.outcomes(), rig.state()) == (["NOT_SENT", "ACCEPTED"], "ACKED")


# ---------------------------------------------------------------- restarts


def test_a_restart_calls_nobody_again_for_the_same_and_does_for_a_new_cause(tmp_path):
    clock = Clock()
    faults = [
        Fault(kind="answer", status=429, headers=(("Retry-After", "30"),)),
        Fault(kind="no_answer", count=2),
    ]
    with DemoBroker(faults) as broker:
        causes = []
        for seconds in (20, 25, 31):
            with rigged(tmp_path, broker.url, clock=clock) as rig:
                rig.sink._tray.recover()
                if rig.journal.last_seq():
                    rig.sink.send(rig.journal.unsent())
                else:
                    rig.decide(order("o", action="exit"))
                rig.run(seconds)
                causes.append([page.cause for page in rig.pages])
                state = rig.state()
        assert causes == [["throttled"], ["ambiguous"], []]
        assert state == "ACKED"


def test_an_exit_sent_again_by_an_operator_is_called_for_anew_also_after_a_restart(tmp_path):
    clock = Clock()
    with DemoBroker([Fault(kind="answer", status=400, count=2)]) as broker:
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.decide(order("o", action="exit"))
            rig.run(1)
            rig.sink.resolve("o", "retry")
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.sink._tray.recover()
            rig.sink.send(rig.journal.unsent())
            rig.run(1)
            assert rig.state() == "DEAD"
            assert [page.cause for page in rig.pages] == ["refused"]


def test_a_person_is_called_before_the_journal_believes_it(tmp_path):
    """Killed in between, the call is made again; the other way round it would never be."""
    with DemoBroker([Fault(kind="no_answer")]) as broker, rigged(tmp_path, broker.url) as rig:
        noted = []
        rig.sink._tray._page = lambda _page: noted.append(len(rig.journal.events(kind="page")))
        rig.decide(order("o"))
        rig.run(1)
        assert (noted, len(rig.journal.events(kind="page"))) == ([0], 1)


def test_a_journal_whose_orders_went_to_another_route_is_refused(tmp_path):
    clock = Clock()
    with DemoBroker([Fault(kind="no_answer")]) as broker:
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.decide(order("o"))
            rig.run(1)
        with (
            rigged(tmp_path, broker.url, clock=clock, route="other") as rig,
            pytest.raises(ConfigError, match="o AMBIGUOUS on route 'demo'; start with that route"),
        ):
            rig.sink.start()
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.sink._tray.recover()
            rig.sink.resolve("o", "flat")
        with rigged(tmp_path, broker.url, clock=clock, route="other") as rig:
            rig.sink.start()


# ---------------------------------------------------------------- what the worker is told


def test_what_is_not_settled_is_listed_also_after_a_restart(tmp_path):
    clock = Clock()
    faults = [Fault(kind="answer", status=400), Fault(kind="no_answer")]
    with DemoBroker(faults) as broker:
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.decide(order("dead", action="exit"))
            rig.run(1)
            rig.decide(order("unknown", symbol="NQ", instrument="MNQZ2025"))
            rig.run(1)
            rig.sink.hold("halted")
            rig.decide(order("waits", action="exit", symbol="CL", instrument="CLF2026"))
            rig.run(1)
            expected = [("dead", "DEAD"), ("unknown", "AMBIGUOUS"), ("waits", "PENDING")]
            assert [(each.order_id, state) for each, state in rig.sink.unsettled()] == expected
        with rigged(tmp_path, broker.url, clock=clock) as rig:
            rig.sink._tray.recover()
            assert [(each.order_id, state) for each, state in rig.sink.unsettled()] == expected
            rig.sink.send(rig.journal.unsent())
            rig.run(1)
            assert [each.order_id for each, _ in rig.sink.unsettled()] == ["dead", "unknown"]


def test_a_success_clears_the_error_that_stood(tmp_path):
    with DemoBroker([Fault(kind="no_answer")]) as broker, rigged(tmp_path, broker.url) as rig:
        assert rig.sink.standing() == {"last_success": None, "last_error": None}
        rig.decide(order("o", action="exit"))
        rig.run(1)
        told = rig.sink.standing()
        assert told["last_success"] is None
        assert told["last_error"] == {
            "at": told["last_error"]["at"],
            "kind": "exit",
            "symbol": "ES",
            "message": "AMBIGUOUS ReadTimeout",
        }
        rig.run(15)
        told = rig.sink.standing()
        assert (told["last_error"], told["last_success"]["message"]) == (None, "ACCEPTED HTTP 200")
        rig.decide(order("off", stop=6900.0, symbol="NQ", instrument="MNQZ2025"))
        assert "below the market" in rig.sink.standing()["last_error"]["message"]
        assert rig.sink.standing()["last_success"] is not None


def test_exits_that_wait_behind_one_of_their_contract_all_leave_in_turn(tmp_path):
    answering = Answering()
    with rigged(tmp_path, NOWHERE, connection=answering) as rig:
        rig.decide(*(order(f"o{k}", action="exit") for k in range(6)))
        rig.run(15)  # from 10 s on each has been called for, and is laid aside
        waiting = [each.order_id for each, _ in rig.sink.unsettled()]
        assert (waiting, len(rig.pages)) == (["o2", "o3", "o4", "o5"], 5)
        assert len(rig.sink._tray._deliveries) == 3  # two that have left, and the next
        rig.sink.send([each for each, _ in rig.sink.unsettled()])  # nothing is taken twice
        assert rig.sink.resolve("o3", "flat") == "FLATTENED"
        rig.run(60)
        cids = [body.split('"cid": "')[1].split('"')[0] for body in answering.bodies]
        assert cids == ["o0", "o1", "o2", "o4", "o5"]
        starts = [rig.journal.attempts(each)[0].started_ns // SECOND for each in cids]
        assert [b - a for a, b in itertools.pairwise(starts)] == [10] * 4
        assert rig.sink.unsettled() == []


# ---------------------------------------------------------------- a flood


def most_in(times_ns, span_ns):
    """The most that fall into any span."""
    most = first = 0
    for last, at_ns in enumerate(times_ns):
        while times_ns[first] <= at_ns - span_ns:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_ten_thousand_decisions_keep_every_budget_and_exits_have_what_entries_leave(tmp_path):
    answering, clock, journal = Answering(), Clock(), MemoryJournal()
    sink = TradersPostSink(
        Webhook("demo", NOWHERE),
        journal,
        clock,
        strategy="ibs",
        contracts=MAP,
        trading=lambda _ns: ("ES",),
        page=lambda _page: None,
        locks=tmp_path,
        connection=answering,
        ticks=clock.steady_ns,
    )
    sink._warmed_ns = 2**62
    months = [f"MES{code}20{year}" for code in "HMUZ" for year in range(26, 51)]
    left, exits = [], []
    for burst in range(40):  # of 250 at one instant, a minute apart: 242 entries, 8 exits
        decided_ns = clock.now_ns()
        given = [
            order(
                f"{'out' if k % 33 == 5 else 'in'}{burst}-{k}",
                action="exit" if k % 33 == 5 else "entry",
                instrument=months[(burst * 37 + k) % 100],
                decided_ns=decided_ns,
                stop=None,
            )
            for k in range(250)
        ]
        for each in given:
            journal.append(each)
        exits += [each.order_id for each in given if each.action == "exit"]
        sink.send(given)
        while clock.ns < decided_ns + 60 * SECOND:
            n, wait_ns = len(answering.bodies), sink.turn()
            left += [(clock.ns, "buy" in body) for body in answering.bodies[n:]]
            clock.ns = min(clock.ns + wait_ns, decided_ns + 60 * SECOND)
    sink.close()
    entries_ns, all_ns = [ns for ns, opens in left if opens], [ns for ns, _ in left]
    assert most_in(entries_ns, 60 * SECOND) <= 30
    assert most_in(entries_ns, 3600 * SECOND) == 300 == len(entries_ns)
    assert most_in(all_ns, 60 * SECOND) <= 60
    assert most_in(all_ns, 3600 * SECOND) <= 500
    states = Counter(journal.held[name].state for name in exits)
    assert states["ACKED"] >= 200
    assert states["ACKED"] + states["PENDING"] == len(exits)
    assert all(journal.held[name].paged for name in exits if journal.held[name].state == "PENDING")


# ---------------------------------------------------------------- operators, routes


def test_an_exit_that_a_crash_left_unsent_is_settled_by_an_operators_word(tmp_path):
    with rigged(tmp_path, NOWHERE) as rig:
        rig.decide(order("o", action="exit"), order("next", action="exit", instrument="NQZ2025"))
    with rigged(tmp_path, NOWHERE, connection=Answering()) as rig:
        rig.sink._tray.recover()
        assert rig.sink.resolve("o", "flat") == "FLATTENED"
        rig.sink.send([each for each in rig.journal.unsent() if each.order_id == "next"])
        rig.run(1)
        assert (rig.state("o"), rig.state("next")) == ("FLATTENED", "ACKED")
        assert rig.outcomes("o") == []


def test_once_an_exit_went_in_its_place_an_entry_can_only_be_flat(tmp_path):
    faults = [Fault(kind="close", action="buy"), Fault(kind="close", action="exit")]
    with DemoBroker(faults) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o"))
        rig.run(65)
        assert rig.outcomes() == ["AMBIGUOUS", "AMBIGUOUS"]
        with pytest.raises(ConfigError, match="expected flat, found filled"):
            rig.sink.resolve("o", "filled")
        assert rig.sink.resolve("o", "flat") == "FLATTENED"


def test_a_receiver_that_is_gone_calls_once_whatever_becomes_of_the_entries(tmp_path):
    with rigged(tmp_path, NOWHERE) as rig:
        for i in range(6):
            rig.decide(order(f"in{i}"))
            rig.run(120)
            assert rig.state(f"in{i}") == "EXPIRED"
        assert rig.pages == []
        assert [page.cause for page in rig.of_route] == ["route in trouble"]
        assert LAST_PART not in rig.of_route[0].text


def test_the_exit_in_place_of_an_entry_calls_when_it_does_not_arrive(tmp_path):
    faults = [Fault(kind="close", action="buy")]
    with DemoBroker(faults) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o"))
        rig.sink.turn()
        broker.refuse()
        rig.run(120)
        assert rig.state() == "AMBIGUOUS"
        assert [page.cause for page in rig.pages] == ["ambiguous", "undelivered"]


def test_an_answer_nested_beyond_reason_is_unknown_and_no_crash(tmp_path):
    body = "[" * 200_000
    faults = [Fault(kind="answer", status=200, body=body)]
    with DemoBroker(faults) as broker, rigged(tmp_path, broker.url) as rig:
        rig.decide(order("o"))
        rig.sink.turn()
        assert (rig.outcomes(), rig.state()) == (["AMBIGUOUS"], "AMBIGUOUS")
