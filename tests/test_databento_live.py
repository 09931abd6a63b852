"""The live feed against the loopback gateway, through the vendor's own client."""

from __future__ import annotations

import logging
import threading
import time
from itertools import pairwise

import databento_dbn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import SHARED, real

from adapters import databento_gateway
from adapters.databento_gateway import (
    Fault,
    Instrument,
    Tape,
    tape_of_dbn,
    tape_of_minutes,
)
from adapters.databento_gateway.records import TRADE_RECORD
from adapters.databento_gateway.trades import bars_of
from adapters.databento_live import DatabentoFeed
from adapters.databento_live.roster import Member, call_roster, raw_symbol
from adapters.databento_live.trade_bars import TradeBars
from adapters.databento_live.wire import TRADE, Splitter
from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, DataError, EnvironmentFault
from ibs_core.market_data import HeldBars, MinuteRun
from ibs_core.ports import FeedNote, Minute, MinuteEnd

CONTRACTS = load_contract_map()
KEY = "db-" + "k" * 29
DEADLINE_S = 20.0
N = 240


def ns(text):
    return int(np.datetime64(text, "ns").astype(np.int64))


FIRST, NOW = ns("2025-11-03T15:00"), ns("2025-11-03T17:00")


def minutes(root, instrument, first_ns, n, seed=0, contract_id=0):
    random = np.random.default_rng(seed)
    opening, closing = (5000 + random.integers(-40, 40, n) * 0.25 for _ in range(2))
    high, low = np.maximum(opening, closing) + 0.25, np.minimum(opening, closing) - 0.5
    volume = random.integers(10, 500, n).astype(float)
    ts_ns = first_ns + np.arange(n) * MINUTE_NS
    return MinuteRun(
        root, instrument, contract_id, ts_ns, opening, high, low, closing, volume=volume
    )


def two_roots():
    return HeldBars(
        {
            "ES": [minutes("ES", "ESZ2025", FIRST, N)],
            "NQ": [minutes("NQ", "NQZ2025", FIRST, N, seed=1)],
        },
        CONTRACTS,
    )


HELD = two_roots()
TAPE = tape_of_minutes(HELD)


def expected(held=HELD, since_ns=FIRST, roots=("ES", "NQ")):
    return {
        Minute(run.root, run.instrument, int(ts), *map(float, row))
        for run in held.stream(roots, volume=True)
        for ts, *row in zip(
            run.ts_ns, run.open, run.high, run.low, run.close, run.volume, strict=True
        )
        if ts >= since_ns
    }


class Gateway(databento_gateway.Gateway):
    """Stops the feeds that it serves before it goes, so that none connects to a closing server."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.feeds = []

    def __exit__(self, *how):
        for feed in self.feeds:
            feed.stop()
        super().__exit__(*how)


class GatewayClock:
    def __init__(self, gateway):
        self._gateway = gateway

    def now_ns(self):
        return self._gateway.now_ns


class Waits:
    """Records how long the feed would wait, and does not."""

    def __init__(self):
        self.seconds = []

    def __call__(self, seconds):
        self.seconds.append(seconds)


@pytest.fixture
def connect():
    feeds = []

    def make(served, **more):
        facts = {
            "contracts": CONTRACTS,
            "roots": ["ES", "NQ"],
            "key": KEY,
            "clock": GatewayClock(served),
            "active": lambda root, _ns: f"{root}Z2025",
            "gateway": ("127.0.0.1", served.port),
            "grace_s": 1e6,
            "wait": Waits(),
            "jitter": lambda: 0.0,
        }
        feed = DatabentoFeed(**(facts | more))
        feeds.append(feed)
        served.feeds.append(feed)
        return feed

    yield make
    for feed in feeds:
        feed.stop()
    assert "databento feed" not in {thread.name for thread in threading.enumerate()}


def events_until(feed, enough):
    """Collect events until some condition on them holds."""
    events, deadline = [], time.monotonic() + DEADLINE_S
    while not enough(events):
        assert time.monotonic() < deadline, (events[-5:], feed.telemetry())
        event = feed.next(0.05)
        if event is not None:
            events.append(event)
    return events


def ended(ts_ns):
    return lambda events: bool(events) and events[-1] == MinuteEnd(ts_ns)


def of_kind(events, kind):
    return [each for each in events if isinstance(each, FeedNote) and each.kind == kind]


def assert_promises_kept(events, wanted):
    """Each minute once, ends in order, and no minute after the end that covers it."""
    told = [each for each in events if isinstance(each, Minute)]
    assert len(told) == len(set(told))
    assert set(told) == wanted
    ends = [each.ts_ns for each in events if isinstance(each, MinuteEnd)]
    assert all(a < b for a, b in pairwise(ends))
    reached = 0
    for event in events:
        if isinstance(event, MinuteEnd):
            reached = event.ts_ns
        elif isinstance(event, Minute):
            assert event.ts_ns >= reached, "told after the end of its minute"


END = FIRST + N * MINUTE_NS


@pytest.mark.parametrize("bars", ["ohlcv-1m", "trades"])
@pytest.mark.parametrize("replays_ends", [True, False])
def test_minutes_of_past_and_present_come_once_and_exactly(connect, bars, replays_ends):
    since_ns = FIRST + 10 * MINUTE_NS
    with Gateway(TAPE, key=KEY, now_ns=NOW, replays_ends=replays_ends) as gateway:
        feed = connect(gateway, bars=bars, cross_check=True)
        feed.start(since_ns)
        events = events_until(feed, ended(END))
        assert_promises_kept(events, expected(since_ns=since_ns))
        assert [each.kind for each in events if isinstance(each, FeedNote)] == [
            "connected",
            "mapping",
            "mapping",
            "replayed",
        ]
        before_replayed = events[: events.index(of_kind(events, "replayed")[0])]
        assert not any(isinstance(each, MinuteEnd) for each in before_replayed)
        told = feed.telemetry()
        assert told["last_bar_ns"] == dict.fromkeys(("ESZ2025", "NQZ2025"), END - MINUTE_NS)
        assert told["reconnects"] == told["duplicates"] == told["late"] == told["differences"] == 0
        assert told["lag_ms"] == 0.0
        assert told["queue_depth"] == 0


AT = NOW + 30 * MINUTE_NS
LOSSES = {
    "reset": [Fault(kind="reset", at_ns=AT)],
    "clean close": [Fault(kind="close", at_ns=AT)],
    "half a record": [Fault(kind="truncated", at_ns=AT)],
    "an internal error": [Fault(kind="fatal_error", at_ns=AT)],
    "skipped records": [
        Fault(
            kind="error",
            at_ns=AT,
            code=databento_dbn.ErrorCode.SKIPPED_RECORDS_AFTER_SLOW_READING,
        )
    ],
    "two in a row": [Fault(kind="reset", at_ns=AT), Fault(kind="close", at_ns=AT)],
    "while away": [Fault(kind="close", at_ns=AT, span_ns=20 * MINUTE_NS)],
    "a seam that repeats": [Fault(kind="reset", at_ns=AT), Fault(kind="duplicates", count=7)],
    "silence": [Fault(kind="silence", at_ns=AT, span_ns=3 * 10**9)],
    "refused for a while": [
        Fault(kind="refuse", at_ns=AT, span_ns=2 * 10**8),
        Fault(kind="reset", at_ns=AT),
    ],
}


@pytest.mark.parametrize("bars", ["ohlcv-1m", "trades"])
@pytest.mark.parametrize("faults", LOSSES.values(), ids=LOSSES)
def test_whatever_ends_a_connection_each_minute_comes_once(connect, bars, faults):
    with Gateway(TAPE, key=KEY, now_ns=NOW, faults=faults) as gateway:
        feed = connect(gateway, bars=bars, cross_check=True, silence_s=0.5)
        feed.start(FIRST)
        events = events_until(feed, ended(END))
        assert_promises_kept(events, expected())
        assert feed.telemetry()["reconnects"] >= 1
        assert feed.telemetry()["differences"] == 0
        assert of_kind(events, "lost")
        assert len(of_kind(events, "replayed")) >= 2
        assert gateway.fired


def test_late_bars_are_told_and_counted_and_duplicates_are_not_told(connect):
    faults = [
        Fault(kind="late", at_ns=AT, span_ns=1, symbol="ESZ5"),
        Fault(kind="duplicates", at_ns=AT + 5 * MINUTE_NS, count=3),
    ]
    with Gateway(TAPE, key=KEY, now_ns=NOW, faults=faults) as gateway:
        feed = connect(gateway)
        feed.start(FIRST)
        events = events_until(feed, ended(END))
        told = [each for each in events if isinstance(each, Minute)]
        assert len(told) == len(set(told))
        assert set(told) == expected()
        late = next(each for each in told if each.ts_ns == AT - MINUTE_NS and each.root == "ES")
        assert events.index(late) > events.index(MinuteEnd(AT))
        assert feed.telemetry()["late"] == 1
        assert feed.telemetry()["duplicates"] == 3


def test_waits_double_up_to_a_minute_and_are_spread(connect):
    with Gateway(TAPE, key=KEY, now_ns=NOW) as gateway:
        port = gateway.port
    enough = threading.Event()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 9:
            enough.set()
            feed._supervisor._stopped.wait()

    feed = connect(gateway, gateway=("127.0.0.1", port), wait=wait, jitter=lambda: 0.5)
    feed.start(FIRST)
    assert enough.wait(DEADLINE_S)
    assert waits == [1.125 * each for each in (1, 2, 4, 8, 16, 32, 60, 60, 60)]
    events = events_until(feed, lambda found: len(found) == 9)
    assert {each.kind for each in events} == {"error"}


def test_too_many_connections_are_met_with_patience(connect):
    faults = [Fault(kind="connection_limit", at_ns=NOW)]
    with Gateway(TAPE, key=KEY, now_ns=NOW, faults=faults) as gateway:
        waits = Waits()
        feed = connect(gateway, wait=waits)
        feed.start(FIRST)
        events_until(feed, ended(END))
        assert waits.seconds == [60.0]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(kind="auth_failed", at_ns=NOW)],
        [Fault(kind="fatal_error", at_ns=AT, code=databento_dbn.ErrorCode.API_KEY_DEACTIVATED)],
    ],
    ids=["at the login", "later"],
)
def test_a_refused_key_ends_the_feed_and_is_told_nowhere(connect, faults, caplog):
    caplog.set_level(logging.DEBUG)
    faults = [
        Fault(
            **{
                **{f: getattr(each, f) for f in each.__slots__},
                "text": f"Authentication failed for {KEY}",
            }
        )
        for each in faults
    ]
    with Gateway(TAPE, key=KEY, now_ns=NOW, faults=faults) as gateway:
        waits = Waits()
        feed = connect(gateway, wait=waits)
        feed.start(FIRST)
        events = events_until(feed, lambda found: bool(of_kind(found, "fatal")))
        assert events[-1].kind == "fatal"
        assert waits.seconds == []
        assert gateway.n_sessions == 1
        shown = "\n".join(map(repr, [*events, feed.telemetry(), feed, gateway.lines]))
        assert KEY not in shown
    ours = [each for each in caplog.records if not each.name.startswith("databento.")]
    assert KEY not in "\n".join(each.getMessage() for each in ours)


def test_a_wrong_key_is_refused_by_the_digest(connect):
    with Gateway(TAPE, key=KEY, now_ns=NOW) as gateway:
        feed = connect(gateway, key="db-" + "w" * 29)
        feed.start(FIRST)
        assert events_until(feed, lambda found: bool(of_kind(found, "fatal")))


def test_without_a_key_or_with_roots_of_no_dataset_there_is_no_feed():
    facts = {"contracts": CONTRACTS, "clock": None, "active": None}
    with pytest.raises(EnvironmentFault, match="DATABENTO_API_KEY"):
        DatabentoFeed(roots=["ES"], key="", **facts)
    index = next(each for each in CONTRACTS.contracts.values() if each.kind == "index")
    with pytest.raises(ConfigError):
        DatabentoFeed(roots=["ES", index.root], key=KEY, **facts)


def test_minutes_beyond_the_replay_are_a_gap_for_history(connect):
    held = HeldBars({"ES": [minutes("ES", "ESZ2025", ns("2025-11-03T23:00"), 3000)]}, CONTRACTS)
    now_ns = ns("2025-11-05T22:00")
    with Gateway(tape_of_minutes(held), key=KEY, now_ns=now_ns) as gateway:
        feed = connect(gateway, roots=["ES"])
        since_ns = ns("2025-11-03T23:00")
        feed.start(since_ns)
        events = events_until(feed, lambda found: bool(of_kind(found, "replayed")))
        (gap,) = of_kind(events, "gap")
        assert gap.since_ns == since_ns
        assert 0 <= gap.until_ns - (now_ns - 24 * 60 * MINUTE_NS) <= 10 * MINUTE_NS
        told = {each.ts_ns for each in events if isinstance(each, Minute)}
        assert min(told) == gap.until_ns
        assert feed.telemetry()["gaps"] == 1


def test_a_replay_that_aged_out_is_asked_for_again_from_later(connect):
    code = databento_dbn.ErrorCode.REPLAY_DATA_AGED_OUT
    faults = [Fault(kind="fatal_error", at_ns=NOW, code=code, text="too old")]
    with Gateway(TAPE, key=KEY, now_ns=NOW, faults=faults, replays_ends=False) as gateway:
        feed = connect(gateway)
        feed.start(FIRST)
        events = events_until(feed, ended(END))
        starts = [
            line.split("start=")[1].split("|")[0] for _, line in gateway.lines if "start=" in line
        ]
        assert len(set(starts)) == len(starts) == 2
        (gap,) = of_kind(events, "gap")
        assert gap.until_ns == int(starts[1]) == NOW - 60 * MINUTE_NS


ROLL = ns("2025-12-15T23:00")


def rolling():
    """Two contracts that both print before and after the roll, at 17:00 in Chicago."""
    first_ns = ROLL - 180 * MINUTE_NS
    old = minutes("ES", "ESZ2025", first_ns, 400)
    new = minutes("ES", "ESH2026", first_ns, 400, seed=3, contract_id=1)
    tape = tape_of_minutes(HeldBars({"ES": [old, new]}, CONTRACTS))
    one = HeldBars({"ES": [old]}, CONTRACTS).between(None, ROLL)
    other = HeldBars({"ES": [new]}, CONTRACTS).between(ROLL, None)
    wanted = expected(one, first_ns, ["ES"]) | expected(other, first_ns, ["ES"])
    return tape, first_ns, wanted


@pytest.mark.parametrize("known", [True, False])
def test_at_a_roll_each_session_has_the_minutes_of_its_own_contract(connect, known):
    tape, first_ns, wanted = rolling()

    def active(root, ts_ns):
        return f"{root}Z2025" if ts_ns < ROLL else f"{root}H2026"

    with Gateway(tape, key=KEY, now_ns=first_ns, pace=None) as gateway:
        known_until_ns = ROLL + 60 * MINUTE_NS if known else 0
        feed = connect(gateway, roots=["ES"], active=active, known_until_ns=known_until_ns)
        feed.start(first_ns)
        events = events_until(feed, lambda found: bool(of_kind(found, "replayed")))
        for at_ns in range(first_ns, first_ns + 401 * MINUTE_NS, MINUTE_NS):
            gateway.advance_to(at_ns)
            if at_ns == ROLL - 10 * MINUTE_NS and not known:  # the break, in which it reconnects
                events += events_until(feed, lambda found: bool(of_kind(found, "replayed")))
        events += events_until(feed, ended(first_ns + 400 * MINUTE_NS))
        assert_promises_kept(events, wanted)
        assert feed.telemetry()["reconnects"] == (0 if known else 1)


def test_rosters_change_between_sessions_only():
    def active(_root, ts_ns):
        return "ESZ2025" if ts_ns < ROLL else "ESH2026"

    def called(start, now):
        roster = call_roster(CONTRACTS, ["ES"], active, ns(start), ns(now))
        return [(each.instrument, each.since_ns, each.until_ns) for each in roster.members], roster

    before, roster = called("2025-12-15T20:00", "2025-12-15T21:00")
    assert [each[0] for each in before] == ["ESZ2025"]
    assert ns("2025-12-15T22:00") < roster.check_ns < ROLL
    over, roster = called("2025-12-15T20:00", "2025-12-15T22:50")
    assert [each[0] for each in over] == ["ESZ2025", "ESH2026"]
    assert over[0][2] == over[1][1] == ROLL
    assert roster.current == {"ES": "ESH2026"}
    after, _ = called("2025-12-16T01:00", "2025-12-16T02:00")
    assert [each[0] for each in after] == ["ESH2026"]


def test_a_contract_that_comes_back_is_refused():
    opens = {}

    def active(_root, ts_ns):
        opens[ts_ns] = len(opens)
        return ["ESZ2025", "ESH2026", "ESZ2025"][min(opens[ts_ns], 2)]

    with pytest.raises(DataError, match="comes back"):
        call_roster(CONTRACTS, ["ES"], active, ns("2025-12-15T02:00"), ns("2025-12-18T02:00"))


@pytest.mark.parametrize(
    ("name", "one", "two"), [("ESZ2025", "ESZ5", "ESZ25"), ("6EH2030", "6EH0", "6EH30")]
)
def test_contracts_are_spelt_as_the_exchange_does(name, one, two):
    assert raw_symbol(name) == one
    assert raw_symbol(name, two_digits=True) == two
    with pytest.raises(DataError):
        raw_symbol("ES")


def test_a_listing_with_two_digits_is_found(connect):
    bars = TAPE.bars.records[
        TAPE.bars.records["instrument_id"] == TAPE.instruments[0].instrument_id
    ]
    number = int(bars["instrument_id"][0])
    tape = Tape("GLBX.MDP3", [Instrument(number, "ESZ25", "ES", "ESZ2025", 10**6)], [], bars=bars)
    with Gateway(tape, key=KEY, now_ns=NOW) as gateway:
        feed = connect(gateway, roots=["ES"])
        feed.start(FIRST)
        events = events_until(feed, ended(END))
        assert_promises_kept(events, expected(roots=["ES"]))


def test_a_slow_consumer_is_told_once_and_misses_nothing(connect):
    with Gateway(TAPE, key=KEY, now_ns=NOW) as gateway:
        feed = connect(gateway, queue_max=100)
        feed.start(FIRST)
        with feed._changed:
            assert feed._changed.wait_for(lambda: feed._depth == 2 * N, DEADLINE_S)
        events = events_until(feed, ended(END))
        assert_promises_kept(events, expected())
        assert len(of_kind(events, "overflow")) == 1


def test_trades_alone_end_a_minute_by_the_next_trade_or_the_clock(connect):
    with Gateway(TAPE, key=KEY, now_ns=NOW, pace=None) as gateway:
        feed = connect(gateway, bars="trades", grace_s=2.0)
        feed.start(NOW)
        gateway.advance_to(NOW + 61 * 10**9)
        events_until(feed, lambda found: bool(of_kind(found, "replayed")))
        gateway.advance_to(NOW + MINUTE_NS + 20 * 10**9)
        events = events_until(feed, ended(NOW + MINUTE_NS))
        assert len([each for each in events if isinstance(each, Minute)]) <= 2
        gateway.advance_to(END)
        assert gateway.finished.wait(DEADLINE_S)
        gateway.advance_to(END + 3 * 10**9)
        events = events_until(feed, ended(END))
        assert {each for each in events if isinstance(each, Minute)} >= {
            each for each in expected() if each.ts_ns > NOW + 5 * MINUTE_NS
        }


def test_bars_unlike_the_vendors_are_told(connect):
    trades = TAPE.trades.records
    odd = np.flatnonzero(trades["ts_recv"] >= AT)[0]
    tape = Tape(
        TAPE.dataset,
        TAPE.instruments,
        TAPE.fronts,
        bars=TAPE.bars.records,
        trades=np.delete(trades, odd),
    )
    with Gateway(tape, key=KEY, now_ns=NOW) as gateway:
        feed = connect(gateway, bars="trades", cross_check=True)
        feed.start(FIRST)
        events = events_until(feed, ended(END))
        (note,) = of_kind(events, "error")
        assert "vendor" in note.text
        assert feed.telemetry()["differences"] == 1


def test_what_was_received_is_kept_as_dbn_that_may_be_cut(connect, tmp_path):
    faults = [Fault(kind="reset", at_ns=AT)]
    with Gateway(TAPE, key=KEY, now_ns=NOW, faults=faults) as gateway:
        feed = connect(gateway, raw_dbn=tmp_path)
        feed.start(FIRST)
        events_until(feed, ended(END))
        feed.stop()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    found = set()
    for file in files:
        assert file.name.startswith("GLBX.MDP3-2025-11-03-")
        for cut in (0, 11):
            content = file.read_bytes()
            decoder = databento_dbn.DBNDecoder()
            records = decoder.write_and_decode(content[: len(content) - cut])
            bars = [each for each in records if isinstance(each, databento_dbn.OHLCVMsg)]
            found |= {(each.instrument_id, each.ts_event) for each in bars}
            assert any(isinstance(each, databento_dbn.SymbolMappingMsg) for each in records)
    assert len(found) == 2 * N


def test_a_disk_that_takes_no_more_does_not_stop_the_feed(connect, tmp_path):
    (tmp_path / "file").write_text("")
    with Gateway(TAPE, key=KEY, now_ns=NOW) as gateway:
        feed = connect(gateway, raw_dbn=tmp_path / "file")
        feed.start(FIRST)
        events = events_until(feed, ended(END))
        assert_promises_kept(events, expected())
        assert len(of_kind(events, "error")) == 1


def header():
    return databento_dbn.Metadata(
        dataset="GLBX.MDP3",
        start=0,
        stype_in=None,
        stype_out=databento_dbn.SType.INSTRUMENT_ID,
        schema=None,
        symbols=[],
        partial=[],
        not_found=[],
        mappings=[],
        version=3,
    ).encode()


def stream_of(n):
    end = databento_dbn.SystemMsg(5, "end", code=databento_dbn.SystemCode.END_OF_INTERVAL)
    pieces = [header()]
    for i in range(n):
        pieces += [bytes(end)] * (i % 3 == 0)
        pieces += [TAPE.trades.records[i : i + i % 5].tobytes(), TAPE.bars.records[:i].tobytes()]
    return b"".join(pieces)


@given(st.lists(st.integers(0, 20_000), max_size=12))
def test_the_stream_may_be_cut_anywhere(cuts):
    content = stream_of(24)
    bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    splitter, shown, kept = Splitter(), [], b""
    for start, stop in pairwise(bounds):
        runs, whole = splitter.take(content[start:stop])
        kept += whole
        for run in runs:
            is_array = isinstance(run.records, np.ndarray)
            shown += [each.tobytes() for each in run.records] if is_array else [bytes(run.records)]
    assert splitter.header + kept == content
    assert b"".join(shown) == kept


@pytest.mark.parametrize(
    "content", [b"HTTP/1.1 400 Bad Request", b"DBN\x03\x04\x00\x00\x00abcd\x00"]
)
def test_what_is_no_dbn_ends_the_connection(content):
    with pytest.raises((ValueError, databento_dbn.DBNError)):
        Splitter().take(content + bytes(64))


def some_trades(received, *, prices=None, ids=None):
    trades = np.zeros(len(received), TRADE)
    trades["length"], trades["action"], trades["side"] = 12, ord("T"), ord("N")
    trades["instrument_id"] = 1 if ids is None else ids
    trades["ts_recv"], trades["ts_event"] = received, np.asarray(received) - 10**6
    trades["price"] = (1 + np.arange(len(received)) if prices is None else prices) * 10**9
    trades["size"], trades["sequence"] = 1, np.arange(len(received))
    return trades


def builder(since_ns=0, ids=(1,)):
    made = TradeBars(since_ns)
    for number in ids:
        made.name(number, Member("ES", f"E{number}", 0, NEVER))
    return made


def test_what_is_no_trade_of_ours_is_not_counted():
    trades = some_trades(range(1, 9))
    trades["size"][1], trades["price"][2], trades["action"][3] = 0, 2**63 - 1, ord("F")
    trades["instrument_id"][4] = 77
    made = builder()
    (bar,) = [*made.take(trades), *made.close(MINUTE_NS)]
    assert bar == Minute("ES", "E1", 0, 1.0, 8.0, 1.0, 8.0, 4.0)


def test_trades_outside_their_contracts_time_are_not_counted():
    made = TradeBars(0)
    made.name(1, Member("ES", "E1", MINUTE_NS, 2 * MINUTE_NS))
    trades = some_trades([5, MINUTE_NS, 2 * MINUTE_NS - 1, 2 * MINUTE_NS])
    (bar,) = [*made.take(trades), *made.close(9 * MINUTE_NS)]
    assert (bar.ts_ns, bar.open, bar.close, bar.volume) == (MINUTE_NS, 2.0, 3.0, 2.0)


@given(
    received=st.lists(st.integers(0, 4 * 60), min_size=1, max_size=60),
    again=st.integers(1, 60),
    at=st.integers(0, 60),
)
def test_a_repeated_stretch_changes_nothing(received, again, at):
    trades = some_trades(np.sort(received) * 10**9)
    at = min(at, len(trades))
    made = builder()
    bars = list(made.take(trades[:at])) if at else []
    made.suspect_repeats()
    rest = np.concatenate([trades[max(at - again, 0) : at], trades[at:]])
    bars += [*(made.take(rest) if len(rest) else ()), *made.close(5 * MINUTE_NS)]
    plain = builder()
    assert bars == [*plain.take(trades), *plain.close(5 * MINUTE_NS)]
    assert made.n_duplicates == min(again, at)


@given(
    received=st.lists(st.integers(0, 30), min_size=1, max_size=80),
    cuts=st.lists(st.integers(0, 80), max_size=6),
    seed=st.integers(0, 99),
)
def test_any_chunks_of_trades_give_the_vendors_bars(received, cuts, seed):
    random = np.random.default_rng(seed)
    # Steps of ten seconds: many trades of one instant, some of them a minute's first or last.
    trades = some_trades(
        np.sort(received) * 10**10 + (10**10 - 1) * (seed % 2),
        prices=random.integers(-9, 9, len(received)),
        ids=random.integers(1, 4, len(received)),
    )
    made, bars = builder(ids=(1, 2, 3)), []
    bounds = [0, *sorted(min(cut, len(trades)) for cut in cuts), len(trades)]
    for start, stop in pairwise(bounds):
        bars += made.take(trades[start:stop]) if stop > start else ()
    bars += made.close(6 * MINUTE_NS)
    wanted = [
        Minute(
            "ES",
            f"E{each['instrument_id']}",
            int(each["ts_event"]),
            *(float(each[name] / 1e9) for name in ("open", "high", "low", "close")),
            float(each["volume"]),
        )
        for each in bars_of(trades.view(TRADE_RECORD))
    ]
    assert sorted(bars, key=repr) == sorted(wanted, key=repr)


def test_trades_of_a_minutes_last_instant_stay_in_it():
    made = builder()
    (bar,) = [*made.take(some_trades([MINUTE_NS - 1] * 3)), *made.close(MINUTE_NS)]
    assert (bar.ts_ns, bar.open, bar.close, bar.volume) == (0, 1.0, 3.0, 3.0)


def test_late_trades_are_counted_and_change_no_bar():
    made = builder()
    (bar,) = [*made.take(some_trades([5])), *made.close(MINUTE_NS)]
    assert list(made.take(some_trades([7, MINUTE_NS + 1]))) == []
    assert made.n_late == 1
    assert bar.volume == 1.0


@real
def test_real_trades_give_the_real_bars(connect):
    folder = SHARED / "dbn"
    tape = tape_of_dbn(folder.glob("futures_[ot][hr]*.dbn.zst"), CONTRACTS)
    first_ns, last_ns = ns("2024-07-01T23:58"), ns("2024-07-02T00:02")
    with Gateway(tape, key=KEY, now_ns=first_ns) as gateway:
        feed = connect(
            gateway,
            roots=["ES"],  # the trades are of ES alone
            bars="trades",
            cross_check=True,
            active=lambda root, _ns: f"{root}U2024",
        )
        feed.start(first_ns)
        events = events_until(feed, ended(last_ns))
    told = [each for each in events if isinstance(each, Minute)]
    assert len(told) == 4
    assert of_kind(events, "error") == []
    number = next(each.instrument_id for each in tape.instruments if each.root == "ES")
    vendors = {
        (int(each["ts_event"]), each["close"] / 1e9, float(each["volume"]))
        for each in tape.bars.records
        if first_ns <= each["ts_event"] < last_ns and each["instrument_id"] == number
    }
    assert {(each.ts_ns, each.close, each.volume) for each in told} == vendors
