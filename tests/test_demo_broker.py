"""The local TradersPost stand-in: its rules, its races, and what each fault is to a client."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.demo_broker import Book, DemoBroker, Fault, ManualClock, MarketClock, Subscription

TICKER = "MESZ2026"
ENTRY = {
    "ticker": TICKER,
    "action": "buy",
    "orderType": "market",
    "quantityType": "fixed_quantity",
    "quantity": 1,
    "signalPrice": 5912.25,
}
EXIT = {"ticker": TICKER, "action": "exit", "orderType": "market", "cancel": True}
BRACKET = {
    "stopLoss": {"type": "stop", "stopPrice": 5902.25},
    "takeProfit": {"limitPrice": 5932.25},
}
SETTLED_S = 10.0
IMPATIENT_S = 0.1


class Sender:
    """A client and the broker's clock."""

    def __init__(self, broker, client, clock):
        self.broker, self.client, self.clock = broker, client, clock

    def post(self, payload=ENTRY, **changes):
        return self.client.post(self.broker.url, json=payload | changes)

    def settled(self, payload=ENTRY, **changes):
        """Send, let it settle, and return what is held."""
        assert self.post(payload, **changes).status_code == 200
        self.clock.advance(SETTLED_S)
        return self.broker.positions().get(TICKER, 0)

    def fault(self, payload=ENTRY, **changes):
        """Send and return the name of what httpx raises, or the status."""
        try:
            return self.post(payload, **changes).status_code
        except httpx.HTTPError as error:
            return type(error).__name__

    def reason(self):
        last = self.broker.trades[-1]
        return last.status, last.reason


@contextmanager
def sending(*faults, timeout=5.0, **settings):
    clock = ManualClock()
    client = httpx.Client(timeout=timeout, trust_env=False, verify=False)
    with client, DemoBroker(faults, clock=clock, **settings) as broker:
        yield Sender(broker, client, clock)


@pytest.fixture
def sender():
    with sending() as found:
        yield found


# The answers (A3).


def test_a_signal_is_answered_with_ids_and_its_echo_and_executed_later(sender):
    answer = sender.post()
    body = answer.json()
    assert (answer.status_code, body["success"], body["payload"]) == (200, True, ENTRY)
    assert body["id"] != body["logId"]
    assert sender.broker.positions() == {}  # a 200 means received
    sender.clock.advance(SETTLED_S)
    (fill,) = sender.broker.executed
    assert (fill.signal_id, fill.quantity, fill.price) == (body["id"], 1, 5912.25)
    assert sender.broker.positions() == {TICKER: 1}


def drop(name):
    return {key: value for key, value in ENTRY.items() if key != name}


REFUSED = [
    (b"", "empty-json"),
    (b" \n", "empty-json"),
    (b'{"ticker": "MESZ2026",}', "malformed-json"),
    (b'{"ticker": "MESZ2026", "action": "buy", "quantity": NaN}', "malformed-json"),
    (b"\xff\xfe", "malformed-json"),
    (b"[]", "invalid-payload"),
    (drop("ticker"), "invalid-payload"),
    (drop("action"), "invalid-payload"),
    (ENTRY | {"ticker": " "}, "empty-ticker-name"),
    *((ENTRY | {"ticker": name}, "ticker-does-not-exist") for name in ("@ES", "ES=F", "/ES")),
    *(
        (ENTRY | {"ticker": name}, "ticker-does-not-exist")
        for name in ("ESZ5", "ESH24", "mesz2026")
    ),
    (ENTRY | {"action": "Buy"}, "invalid-action"),
    (ENTRY | {"sentiment": "up"}, "invalid-sentiment"),
    (EXIT | {"sentiment": "flat"}, "invalid-sentiment-action"),
    (ENTRY | {"orderType": "moc"}, "invalid-order-type"),
    (ENTRY | {"orderType": "trailing_stop"}, "invalid-trailing-stop"),
    (
        ENTRY | {"orderType": "trailing_stop", "trailAmount": 1, "trailPercent": 1},
        "invalid-trailing-stop",
    ),
    (ENTRY | {"trailAmount": 1}, "invalid-trailing-stop"),
    (ENTRY | {"timeInForce": "gtd"}, "invalid-time-in-force"),
    (ENTRY | {"extendedHours": True}, "invalid-extended-hours"),
    (ENTRY | {"expiresAt": "soon"}, "invalid-expires-at"),
    *((ENTRY | {"quantity": q}, "invalid-quantity") for q in (0, -1, "x", True, None)),
    (ENTRY | {"quantityType": "lots"}, "invalid-quantity-type"),
    (drop("quantity"), "quantity-type-requires-quantity"),
    (ENTRY | {"quantityType": "percent_of_position"}, "invalid-percent-of-position-action"),
    (ENTRY | {"quantityType": "dollar_amount"}, "invalid-quantity-type-for-asset-class"),
    (
        EXIT | {"quantity": 1, "quantityType": "risk_dollar_amount"},
        "invalid-risk-dollar-amount-action",
    ),
    (EXIT | {"quantity": 1, "quantityType": "dollar_amount"}, "invalid-quantity-type-action"),
]
TARGETS = [
    ({}, "value-required"),
    (5, "value-required"),
    ({"percent": 0}, "percent"),
    ({"amount": "x"}, "amount"),
    ({"limitPrice": -1}, "limit-price"),
    ({"percent": 1, "amount": 1}, "amount-and-percent"),
    ({"percent": 1, "limitPrice": 1}, "relative-and-absolute"),
]
STOPS = [
    ({}, "value-required"),
    ({"type": "limit", "stopPrice": 1}, "type"),
    ({"percent": 0}, "percent"),
    ({"amount": -1}, "amount"),
    ({"stopPrice": None}, "stop-price"),
    ({"stopPrice": 1, "limitPrice": 1}, "limit-price"),
    ({"type": "stop_limit", "limitPrice": 1}, "stop-price-required"),
    ({"type": "trailing_stop"}, "trail-value-required"),
    ({"type": "trailing_stop", "trailAmount": 1, "trailPercent": 1}, "trail-value"),
    ({"type": "trailing_stop", "trailAmount": 0}, "trail-amount"),
    ({"stopPrice": 1, "trailPercent": 1}, "trail-value"),
    ({"percent": 1, "amount": 1}, "amount-and-percent"),
    ({"amount": 1, "stopPrice": 1}, "relative-and-absolute"),
]
REFUSED += [(ENTRY | {"takeProfit": t}, f"invalid-take-profit-{code}") for t, code in TARGETS]
REFUSED += [(ENTRY | {"stopLoss": s}, f"invalid-stop-loss-{code}") for s, code in STOPS]


def test_every_bad_payload_is_refused_with_its_code_and_never_traded(sender):
    answered = []
    for payload, _ in REFUSED:
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        answer = sender.client.post(sender.broker.url, content=content)
        body = answer.json()
        answered.append((payload, body["messageCode"]))
        assert (answer.status_code, body["success"]) == (400, False)
        sender.clock.advance(SETTLED_S)
    assert answered == REFUSED
    assert [each.code for each in sender.broker.requests] == [code for _, code in REFUSED]
    assert sender.broker.trades == ()


@pytest.mark.parametrize("changes", [{"ticker": "MES"}, {"ticker": "ES1!"}, {"unknown": [1]}])
def test_what_the_vendor_accepts_is_accepted(sender, changes):
    assert sender.post(**changes).status_code == 200


def test_access_is_refused_as_documented_and_a_wrong_password_is_a_400(sender):
    url = sender.broker.url
    found = [
        sender.client.post(url + "x", json=ENTRY),
        sender.client.post(url.replace("0000/", "0001/"), json=ENTRY),
        sender.client.get(url),
    ]
    assert [(each.status_code, each.json()["messageCode"]) for each in found] == [
        (400, "invalid-password"),
        (404, "not-found"),
        (400, "post-required"),
    ]
    assert sender.broker.trades == ()


def test_allowed_tickers_are_roots():
    with sending(subscription=Subscription(roots=frozenset({"MES"}))) as sender:
        assert sender.post().status_code == 200
        refused = sender.post(ticker="MNQZ2026")
        assert (refused.status_code, refused.json()["messageCode"]) == (400, "unsupported-ticker")


def test_sixty_a_minute_and_five_hundred_an_hour_pass_then_429(sender):
    codes = []
    for _ in range(9):
        codes.append([sender.post(EXIT).status_code for _ in range(61)])
        sender.clock.advance(60.001)
    assert codes[:8] == [[200] * 60 + [429]] * 8
    assert codes[8] == [200] * 20 + [429] * 41  # 480 and 20 are the hour's 500
    refused = sender.post(EXIT)
    assert refused.json()["messageCode"] == "too-many-requests"
    assert "retry-after" not in refused.headers
    sender.clock.advance(3600.0)
    assert sender.post(EXIT).status_code == 200


# What follows a 200 (A4, A6).


def test_an_exit_closes_all_or_the_part_it_names_and_never_more(sender):
    assert sender.settled(quantity=5) == 5
    assert sender.settled(EXIT, quantity=2) == 3
    assert sender.settled(EXIT, quantity=50, quantityType="percent_of_position") == 2
    assert sender.settled(EXIT, quantity=9) == 0
    assert sender.settled(EXIT) == 0
    assert sender.reason() == ("rejected", "no open position to exit")


def test_a_second_buy_is_rejected_unless_add_to_position_is_on(sender):
    assert sender.settled() == 1
    assert sender.settled() == 1
    assert sender.reason() == ("rejected", "already long, and add to position is off")
    assert sender.settled(action="add", quantity=2) == 3
    with sending(subscription=Subscription(adds_to_position=True)) as adding:
        assert [adding.settled(), adding.settled()] == [1, 2]


def test_add_and_reverse_need_a_position(sender):
    for action in ("add", "reverse"):
        assert sender.settled(action=action) == 0
        assert sender.reason() == ("rejected", f"no open position to {action}")


def test_a_bare_sell_closes_a_long_and_sent_again_opens_a_short(sender):
    sender.settled(quantity=2)
    assert [sender.settled(drop("quantityType") | {"action": "sell"}) for _ in range(3)] == [
        1,
        0,
        -1,
    ]


def test_a_sell_turns_a_long_only_where_side_swapping_is_on():
    with sending(subscription=Subscription(swaps_sides=True)) as sender:
        sender.settled(quantity=3)
        assert sender.settled(action="sell", quantity=2) == -2
        assert [fill.role for fill in sender.broker.executed] == ["entry", "exit", "entry"]
        assert sender.settled(action="reverse", quantity=1) == 1
    with sending(subscription=Subscription(sides="bullish")) as sender:
        assert sender.settled(action="sell") == 0
        assert sender.reason() == ("rejected", "this side is not traded")


@pytest.mark.parametrize(
    ("held", "action", "sentiment", "left"),
    [
        (3, "sell", "flat", 0),
        (3, "buy", "flat", 0),
        (3, "sell", "bullish", 2),
        (-3, "buy", "short", -2),
        (0, "sell", "long", 0),
        (0, "buy", "bullish", 1),
        (-3, "buy", "bearish", -2),
    ],
)
def test_sentiment_is_the_side_after_the_trade(sender, held, action, sentiment, left):
    if held:
        sender.settled(action="buy" if held > 0 else "sell", quantity=abs(held))
    assert sender.settled(action=action, sentiment=sentiment) == left


def test_back_to_back_signals_on_one_ticker_race(sender):
    sender.post()
    sender.post(EXIT)  # overtakes the entry
    sender.clock.advance(SETTLED_S)
    assert sender.broker.positions() == {TICKER: 1}
    assert sender.reason()[0] == "rejected"
    sender.post(EXIT)
    sender.post(EXIT)  # is sized on the old position
    sender.clock.advance(SETTLED_S)
    assert sender.broker.positions() == {TICKER: -1}
    sender.settled(EXIT)
    sender.post()
    sender.post()  # the first fill is not visible yet
    sender.clock.advance(SETTLED_S)
    assert sender.broker.positions() == {TICKER: 2}


@given(
    actions=st.lists(st.sampled_from(["buy", "exit"]), max_size=8),
    quantity=st.integers(1, 5),
    delay_s=st.integers(0, 3),
)
def test_settled_entries_and_full_exits_never_double_nor_reverse(actions, quantity, delay_s):
    book = Book(("a", "b"), Subscription())
    for i, action in enumerate(actions):
        payload = {"ticker": TICKER, "action": action, "delay": delay_s}
        payload |= {"quantity": quantity} if action == "buy" else {}
        book.take(str(i), payload, i * SETTLED_S)
    book.settle(len(actions) * SETTLED_S)
    held = {TICKER: quantity} if actions and actions[-1] == "buy" else {}
    assert book.positions() == {"a": held, "b": held}
    for account in ("a", "b"):
        own = [fill for fill in book.fills if fill.account == account]
        assert [fill.position for fill in own] == [quantity, 0] * (len(own) // 2) + [quantity] * (
            len(own) % 2
        )


def test_a_bracket_closes_the_position_and_one_leg_cancels_the_other(sender):
    sender.settled(**BRACKET)
    assert [(each.role, each.quantity) for each in sender.broker.working] == [
        ("stop", -1),
        ("target", -1),
    ]
    sender.broker.mark(TICKER, 5902.5)
    assert sender.broker.positions() == {TICKER: 1}
    sender.broker.mark(TICKER, 5902.0)
    assert (sender.broker.positions(), sender.broker.working) == ({}, ())
    assert sender.broker.executed[-1].price == 5902.0
    assert sender.settled() == 1  # a resend enters again


def test_a_relative_bracket_is_laid_from_the_fill(sender):
    sender.settled(stopLoss={"amount": 10}, takeProfit={"percent": 1}, signalPrice=5000)
    assert [each.price for each in sender.broker.working] == [4990.0, 5050.0]


def test_an_exit_without_cancel_leaves_a_stop_that_opens_a_short(sender):
    sender.settled(**BRACKET)
    assert sender.settled(EXIT | {"cancel": False}) == 0
    sender.broker.mark(TICKER, 5900.0)
    assert sender.broker.positions() == {TICKER: -1}


def test_cancel_true_and_the_subscription_switch_take_the_bracket_along(sender):
    sender.settled(**BRACKET)
    assert sender.settled(EXIT) == 0
    assert sender.broker.working == ()
    with sending(subscription=Subscription(cancels_orders=True)) as cancelling:
        cancelling.settled(**BRACKET)
        cancelling.settled({"ticker": TICKER, "action": "exit"})
        assert cancelling.broker.working == ()


def test_cancel_cancels_orders_and_never_flattens(sender):
    cancel = {"ticker": TICKER, "action": "cancel"}
    assert sender.settled(**BRACKET) == 1
    assert sender.settled(cancel, cancelOrderType="stop") == 1
    assert [each.role for each in sender.broker.working] == ["target"]
    assert sender.settled(cancel) == 1
    assert sender.broker.working == ()
    assert sender.settled(cancel) == 1
    assert sender.reason() == ("rejected", "no open orders to cancel")


def test_a_limit_entry_works_until_its_price_or_its_cancel_after(sender):
    limit = {"orderType": "limit", "limitPrice": 5900.0}
    assert sender.settled(**limit) == 0
    sender.broker.mark(TICKER, 5899.0)
    assert (sender.broker.positions(), sender.broker.executed[-1].price) == ({TICKER: 1}, 5900.0)
    sender.settled(EXIT)
    sender.broker.mark(TICKER, 5950.0)
    assert sender.settled(**limit, cancelAfter=30) == 0
    sender.clock.advance(30)
    assert sender.reason()[0] == "cancelled"
    sender.broker.mark(TICKER, 5899.0)
    assert sender.broker.positions() == {}
    assert sender.settled(orderType="limit") == 1  # without a price: at the market


def test_a_closed_market_queues_and_the_newer_signal_replaces_the_older(sender):
    sender.broker.set_market(is_open=False)
    assert sender.settled(quantity=1) == 0
    assert sender.settled(quantity=3) == 0
    assert [each.status for each in sender.broker.trades] == ["replaced", "queued"]
    sender.broker.set_market(is_open=True)
    sender.clock.advance(SETTLED_S)
    assert sender.broker.positions() == {TICKER: 3}


def test_accounts_and_tickers_are_kept_apart():
    with sending(accounts=("one", "two")) as sender:
        sender.settled()
        sender.settled(ticker="MNQZ2026", quantity=2)
        assert sender.broker.positions("two") == {TICKER: 1, "MNQZ2026": 2}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ticker": "ES1!"}, "roll calendar"),
        ({"action": "breakeven"}, "moves no stops"),
        ({"orderType": "stop_limit"}, "no stop_limit"),
        ({"quantity": 0.5}, "whole"),
        ({"stopLoss": {"pnlAmount": 100}}, "point values"),
    ],
)
def test_what_the_stand_in_lacks_is_rejected_with_a_reason_not_guessed(sender, changes, reason):
    assert sender.settled(**changes) == 0
    status, told = sender.reason()
    assert status == "rejected"
    assert reason in told


def test_switches_of_the_subscription_drop_exits_and_overrides():
    with sending(subscription=Subscription(ignores_exits=True)) as sender:
        sender.settled()
        assert sender.settled(EXIT) == 1
    with sending(subscription=Subscription(allows_override=False)) as sender:
        assert sender.settled(quantity=7, orderType="limit", limitPrice=1, **BRACKET) == 1
        assert sender.broker.working == ()


def test_a_price_source_gives_the_fills():
    with sending(price_of={TICKER: 6000.0}.get) as sender:
        sender.settled()
        assert sender.broker.executed[-1].price == 6000.0


# The faults (D2): what httpx raises, requests read, signals taken; on a new and on a reused connection.

MATRIX = [
    ("close_unread", "ReadError", 0, 0),
    ("reset_unread", "ReadError", 0, 0),
    ("no_answer", "ReadTimeout", 1, 1),
    ("close", "RemoteProtocolError", 1, 1),
    ("reset", "ReadError", 1, 1),
    ("garbage", "RemoteProtocolError", 1, 1),
    ("stall_body", "ReadTimeout", 1, 1),
    ("cut_body", "RemoteProtocolError", 1, 1),
    ("refuse", "ConnectError", 0, 0),
    ("unanswered", "ConnectTimeout", 0, 0),
]


@pytest.mark.parametrize("first", [0, 1], ids=["new", "reused"])
@pytest.mark.parametrize(("kind", "raised", "n_read", "n_taken"), MATRIX)
def test_a_fault_is_to_the_client_what_was_measured(kind, raised, n_read, n_taken, first):
    fault = Fault(kind=kind, first=first)
    with sending(fault, timeout=IMPATIENT_S) as sender:
        assert [sender.fault(EXIT) for _ in range(first)] == [200] * first
        assert sender.fault() == raised
        entries = [each for each in sender.broker.requests if b"buy" in each.body]
        assert len(entries) == n_read
        assert sum(bool(each.signal_id) for each in entries) == n_taken
        assert sender.broker.fired == (fault,)
        sender.clock.advance(SETTLED_S)
        assert sender.broker.positions() == ({TICKER: 1} if n_taken else {})
        sender.broker.listen()
        assert sender.fault() == 200  # one fault strikes once


@pytest.mark.parametrize("kind", ["no_answer", "close", "reset"])
def test_what_was_read_may_as_well_not_have_been_taken(kind):
    with sending(Fault(kind=kind, accepts=False), timeout=IMPATIENT_S) as sender:
        assert sender.fault() in ("ReadTimeout", "RemoteProtocolError", "ReadError")
        assert [each.signal_id for each in sender.broker.requests] == [""]
        assert sender.broker.trades == ()


def test_an_idle_connection_that_was_closed_is_opened_again_without_an_error():
    with sending(Fault(kind="close_idle")) as sender:
        assert sender.fault(EXIT) == 200
        assert sender.broker.wait_fired(1)
        assert sender.fault() == 200
        assert len(sender.broker.requests) == 2


def test_a_delay_outlasts_the_patience_of_a_client_and_the_signal_is_taken():
    with sending(Fault(kind="delay", seconds=60.0), timeout=IMPATIENT_S) as sender:
        assert sender.fault() == "ReadTimeout"
        sender.clock.advance(SETTLED_S)
        assert sender.broker.positions() == {TICKER: 1}


def test_a_slow_body_passes_every_read_timeout_and_only_a_deadline_ends_it():
    with sending(Fault(kind="slow_body", seconds=1e-4), timeout=IMPATIENT_S) as sender:
        assert sender.post().json()["success"]
    with (
        sending(Fault(kind="slow_body", seconds=0.01), timeout=IMPATIENT_S) as sender,
        sender.client.stream("POST", sender.broker.url, json=ENTRY) as answer,
    ):
        assert answer.status_code == 200
        assert len(next(answer.iter_raw(1))) == 1  # it trickles; the client may leave at any byte


def test_the_status_of_a_stalled_body_is_seen_by_whoever_streams():
    with (
        sending(Fault(kind="stall_body"), timeout=IMPATIENT_S) as sender,
        sender.client.stream("POST", sender.broker.url, json=ENTRY) as answer,
    ):
        assert answer.status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            answer.read()


@pytest.mark.parametrize(
    ("fault", "status", "n_taken"),
    [
        (Fault(kind="answer", status=408), 408, 0),
        (Fault(kind="answer", status=429), 429, 0),
        (Fault(kind="answer", status=429, headers=(("Retry-After", "7"),)), 429, 0),
        (Fault(kind="answer", status=307), 307, 0),
        (Fault(kind="answer", status=500), 500, 0),
        (Fault(kind="answer", status=503, accepts=True), 503, 1),
        (Fault(kind="answer", body=""), 200, 1),
        (Fault(kind="answer", body="<html>ok</html>"), 200, 1),
        (Fault(kind="answer", body='{"success": false}'), 200, 1),
    ],
)
def test_another_answer_is_sent_as_it_stands_in_the_script(fault, status, n_taken):
    with sending(fault) as sender:
        answer = sender.post()
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == dict(fault.headers).get("Retry-After")
        assert fault.body in (None, answer.text)
        if status >= 500:
            assert answer.text.startswith("<html>")
        if status == 429:
            assert answer.json()["messageCode"] == "too-many-requests"
        assert len(sender.broker.trades) == n_taken
        assert sender.fault(EXIT) == 200


def test_a_lost_signal_is_accepted_and_never_executed():
    with sending(Fault(kind="lost")) as sender:
        assert sender.settled() == 0
        assert sender.reason() == ("failed", "the broker failed when the order was sent")


def test_a_fault_waits_for_the_signals_that_it_names():
    script = (
        Fault(kind="close", action="exit", count=2),
        Fault(kind="answer", status=500, ticker="MNQZ2026", first=3),
    )
    with sending(*script) as sender:
        found = [
            sender.fault(),
            sender.fault(EXIT),
            sender.fault(ticker="MNQZ2026"),
            sender.fault(EXIT),
            sender.fault(EXIT),
            sender.fault(ticker="MNQZ2026"),
        ]
        closed = "RemoteProtocolError"
        assert found == [200, closed, 200, closed, 200, 500]


def test_a_port_that_refuses_for_a_while_listens_again():
    with sending(Fault(kind="refuse", first=1, seconds=0.05)) as sender:
        assert sender.fault() == 200
        found = (sender.fault(EXIT) for _ in range(10_000))
        assert next(each for each in found if each != "ConnectError") == 200


def test_a_client_that_waits_does_not_keep_the_broker_from_ending():
    with sending(Fault(kind="no_answer")) as sender:
        seen = []
        waiting = threading.Thread(target=lambda: seen.append(sender.fault()))
        waiting.start()
        assert sender.broker.wait_fired(1)
        sender.broker.__exit__(None, None, None)
        waiting.join()
        assert seen == ["RemoteProtocolError"]


def test_two_brokers_never_share_a_port(sender):
    port = int(sender.broker.root.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), DemoBroker(port=port):
        pass


# What people see.


def test_pages_tell_positions_orders_and_requests_and_never_the_password():
    lines = []
    with sending(password="s3cr3t", tell=lines.append) as sender:
        sender.settled(**BRACKET)
        sender.client.post(sender.broker.url + "x", json=ENTRY)
        sender.settled(EXIT)
        sender.settled(EXIT)
        root, pages = sender.broker.root, {}
        for name in ("positions", "orders", "requests"):
            pages[name] = sender.client.get(f"{root}/{name}").json()
        assert pages["positions"] == {"demo": {}}
        assert [each["status"] for each in pages["orders"]["trades"]] == [
            "executed",
            "executed",
            "rejected",
        ]
        assert [each["status"] for each in pages["requests"]] == [200, 400, 200, 200]
        assert json.loads(pages["requests"][0]["body"]) == ENTRY | BRACKET
        told = [*lines, json.dumps(pages), repr(sender.broker.requests)]
        assert not [text for text in told if "s3cr3t" in text]
    assert lines == [
        "signal buy 1 MESZ2026: taken",
        "filled entry +1 MESZ2026 at 5912.25; demo holds +1",
        "signal buy 1 MESZ2026: refused, invalid-password",
        "signal exit MESZ2026: taken",
        "filled exit -1 MESZ2026 at no price; demo holds +0",
        "signal exit MESZ2026: taken",
        "rejected exit MESZ2026: no open position to exit",
    ]


def test_a_warm_up_of_the_root_is_no_signal(sender):
    assert sender.client.get(sender.broker.root).status_code == 200
    assert sender.client.get(sender.broker.root + "/x").status_code == 404
    assert sender.broker.requests == ()
    assert [each.path for each in sender.broker.others] == ["/", "/x"]


@pytest.mark.parametrize("json_", [False, True])
def test_the_command_tells_where_to_send_then_what_came_and_what_is_held(json_):
    words = ["demo-broker", "--port", "0", *(["--json"] if json_ else [])]
    code = "from ibs_core.cli.main import run; run()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    told = running.stderr if json_ else running.stdout
    url = re.fullmatch(r"export TRADERSPOST_WEBHOOK_URL=(\S+)\n", told.readline())[1]
    with httpx.Client(trust_env=False, verify=False) as client:
        assert client.post(url, json=ENTRY).status_code == 200
        where = url.partition("/trading")[0] + "/positions"
        deadline_s = time.monotonic() + 30.0
        while client.get(where).json() != {"demo": {TICKER: 1}}:
            assert time.monotonic() < deadline_s
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0
    if json_:
        found = json.loads(out)
        assert (found["signals"], found["taken"], found["positions"]) == (1, 1, {TICKER: 1})
        assert "local-only" not in out
    else:
        assert err == ""
        assert "signal buy 1 MESZ2026: taken\n" in out
        assert out.endswith("1 signals, 1 taken, 1 fills; positions: +1 MESZ2026\n")


def test_a_second_earlier_replay_is_told_once_and_an_old_exit_is_not_taken_for_one():
    lines, old = [], "2026-03-03T14:29:00Z"
    with (
        DemoBroker(clock=MarketClock(lambda: 0.0), tell=lines.append) as broker,
        httpx.Client(trust_env=False) as client,
    ):

        def post(payload, at):
            assert client.post(broker.url, json=payload | {"time": at}).status_code == 200
            return [line for line in lines if "older" in line]

        close = {"ticker": TICKER, "action": "exit"}
        assert post(ENTRY, "2026-03-03T15:30:00Z") == []
        assert post(ENTRY, "2026-03-03T14:30:00Z") == []  # an hour
        assert post(close, old) == []
        said = ["a signal older than the clock: start another stand-in"]
        assert post(ENTRY, old) == said
        assert post(ENTRY, old) == said
        assert broker.requests[-1].signal_id


def test_a_port_that_is_taken_is_an_error_without_a_traceback(sender, capsys, monkeypatch):
    from ibs_core.cli.main import run

    port = sender.broker.root.rpartition(":")[2]
    monkeypatch.setattr(sys, "argv", ["ibs", "demo-broker", "--port", port])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 3
    assert "expected a port that is free" in capsys.readouterr().err
