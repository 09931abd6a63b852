"""Where orders go: nothing real without three words of the operator, and no entry into a market that closes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_worlds import MAP, at

from adapters.demo_broker import MarketClock
from ibs_core.bars import MINUTE_NS
from ibs_core.cli.live_sink import (
    LOCAL_LIVE,
    destination_of,
    facts_of_destination,
    trading_of,
    webhook_to,
)
from ibs_core.config import load_settings
from ibs_core.errors import ConfigError
from ibs_core.operating import Route
from ibs_core.sessions import load_sessions

ROUTES = {
    "routes": {
        "drill": {"kind": "paper", "webhook": "DRILL_URL"},
        "real": {"kind": "live", "webhook": "REAL_URL"},
    }
}
URL = "https://webhooks.traderspost.io/trading/webhook/0000-uuid/secretword"


def to(name, *, armed=False, is_replay=False):
    return destination_of(load_settings(overrides=ROUTES), name, armed=armed, is_replay=is_replay)


@pytest.mark.parametrize("name", [None, "file", "demo", "drill", "real"])
@pytest.mark.parametrize("is_replay", [False, True])
def test_without_armed_every_order_goes_into_the_file(name, is_replay):
    destination = to(name, is_replay=is_replay)
    assert (destination.name, destination.route, destination.is_live) == ("file", None, False)


def test_armed_the_route_decides_and_only_kind_live_is_real():
    assert to("drill", armed=True).route.webhook == "DRILL_URL"
    assert not to("drill", armed=True, is_replay=True).is_live
    assert to("demo", armed=True).route == Route(kind="demo")
    assert to("real", armed=True).is_live


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        (None, {}, "--route NAME"),
        ("file", {}, "a file"),
        ("reel", {}, "drill, real, demo, file"),
        ("real", {"is_replay": True}, "its market is past"),
    ],
)
def test_what_cannot_be_armed_is_refused(name, more, text):
    with pytest.raises(ConfigError, match=text):
        to(name, armed=True, **more)


def test_a_route_that_does_not_exist_is_refused_though_nothing_would_leave():
    with pytest.raises(ConfigError, match="no such route"):
        to("reel")


def test_the_route_of_the_stand_in_posts_to_this_machine_only(monkeypatch):
    monkeypatch.setenv("TRADERSPOST_WEBHOOK_URL", URL)
    with pytest.raises(ConfigError, match="another machine") as caught:
        webhook_to("demo", Route(kind="demo"))
    assert "secretword" not in str(caught.value)
    assert webhook_to("drill", Route(kind="paper")).route == "drill"
    monkeypatch.setenv("TRADERSPOST_WEBHOOK_URL", URL.replace("https", "http"))
    with pytest.raises(ConfigError):
        webhook_to("drill", Route(kind="paper"))


def test_a_live_route_posts_to_no_stand_in_unless_for_a_drill(monkeypatch):
    real = Route(kind="live", webhook="REAL_URL")
    monkeypatch.delenv(LOCAL_LIVE, raising=False)
    monkeypatch.setenv("REAL_URL", "http://127.0.0.1:8377/trading/webhook/0000-uuid/secretword")
    for word in (None, "", "0", "true"):
        if word is not None:
            monkeypatch.setenv(LOCAL_LIVE, word)
        with pytest.raises(ConfigError, match="found this machine") as caught:
            webhook_to("real", real)
        assert "secretword" not in str(caught.value)
    monkeypatch.setenv(LOCAL_LIVE, "1")
    assert webhook_to("real", real).is_loopback
    monkeypatch.delenv(LOCAL_LIVE)
    monkeypatch.setenv("REAL_URL", URL)
    assert not webhook_to("real", real).is_loopback


def test_a_journal_is_told_the_strategy_at_the_receiver_and_no_secret(monkeypatch):
    assert facts_of_destination(to(None)) == {"route": "file", "kind": "file", "webhook": ""}
    monkeypatch.setenv("DRILL_URL", URL)
    facts = facts_of_destination(to("drill", armed=True))
    assert (facts["route"], facts["kind"]) == ("drill", "paper")
    assert not any(part in str(facts) for part in ("0000-uuid", "secretword", "traderspost"))
    monkeypatch.setenv("DRILL_URL", URL.replace("secretword", "changed"))
    assert facts_of_destination(to("drill", armed=True)) == facts
    monkeypatch.setenv("DRILL_URL", URL.replace("0000", "1111"))
    assert facts_of_destination(to("drill", armed=True))["webhook"] != facts["webhook"]


# ------------------------------------------------------------------ markets


class Held:
    """What of a symbol tells whether its market is open."""

    def __init__(self, root):
        self.root = root
        self.sessions = load_sessions(MAP.get(root).session, at("2024-01-01"), at("2024-12-31"))


def is_open(sessions, ns):
    """Slowly: some session holds the instant, and its break does not."""
    for i in range(len(sessions.open_ns)):
        if sessions.open_ns[i] <= ns < sessions.close_ns[i]:
            return not sessions.break_start_ns[i] <= ns < sessions.break_end_ns[i]
    return False


@settings(max_examples=60, deadline=None)
@given(st.integers(at("2024-03-01"), at("2024-04-15")))
def test_entries_leave_into_markets_that_are_open_and_stay_so_for_a_minute(now_ns):
    symbols = [Held(root) for root in ("ES", "CL", "ZC")]
    trading = trading_of(symbols)
    for _ in range(2):  # what is asked again within a minute is remembered
        for each in symbols:
            open_now = is_open(each.sessions, now_ns)
            stays = is_open(each.sessions, now_ns + MINUTE_NS)
            if each.root in trading(now_ns):
                assert open_now
                assert stays
            later = now_ns // MINUTE_NS * MINUTE_NS + 2 * MINUTE_NS - 1
            if is_open(each.sessions, now_ns // MINUTE_NS * MINUTE_NS) and is_open(
                each.sessions, later
            ):
                assert each.root in trading(now_ns)


def test_the_last_minutes_before_a_close_and_the_break_take_no_entry():
    trading = trading_of([Held("ES")])
    told = {text: bool(trading(at(f"2024-03-06T{text}"))) for text in ("21:57:59", "21:59:30")}
    assert told == {"21:57:59": True, "21:59:30": False}
    assert not trading(at("2024-03-06T22:30"))
    assert not trading(at("2024-03-09T12:00"))
    assert trading(at("2024-03-06T23:00"))


# ------------------------------------------------------------------ the stand-in's time


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 100)), min_size=1))
def test_the_time_of_the_signals_never_goes_back(signals):
    passed = [0.0]
    clock = MarketClock(lambda: passed[0])
    before = clock()
    for seconds, wait in signals:
        told = np.datetime64("2024-01-01", "s") + np.timedelta64(seconds, "s")
        clock.hear(json.dumps({"time": f"{told}+00:00"}).encode())
        assert clock() >= max(before, told.astype(int))
        before = clock()
        passed[0] += wait
        assert clock() == before + wait
        before = clock()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"time": 5}', b'{"time": "soon"}', b"\xff"])
def test_a_signal_without_a_time_changes_nothing(body):
    clock = MarketClock(lambda: 0.0)
    clock.hear(body)
    assert clock() == 0.0
