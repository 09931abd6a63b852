"""The loopback gateway, through the vendor's own client and, where that is too kind, through a bare socket."""

from __future__ import annotations

import asyncio
import hashlib
import math
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import databento as db
import databento_dbn as dbn
import numpy as np
import pytest
from databento.common.error import BentoError
from databento.live.protocol import DatabentoLiveProtocol
from hypothesis import given
from hypothesis import strategies as st
from real_data import SHARED, real

from adapters.databento_gateway import (
    Fault,
    Gateway,
    Tape,
    day_of,
    tape_of_dbn,
    tape_of_minutes,
)
from adapters.databento_gateway.records import BAR_RECORD, TRADE_RECORD
from adapters.databento_gateway.trades import bar_stream, bars_of, trades_of
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.market_data import HeldBars, MinuteRun, hold, open_bars

MAP = load_contract_map()
KEY = "db-" + "k" * 29
DATASET = "GLBX.MDP3"
MINUTE_NS = 60 * 10**9
START_NS = int(np.datetime64("2025-03-05T15:00", "ns").astype(np.int64))
DEADLINE_S = 30.0


def at(minutes):
    return START_NS + minutes * MINUTE_NS


def run_of(root, instrument, minutes, *, contract_id=0, volume=100.0):
    """A made-up run of one contract, which ticks up and down."""
    minutes = np.asarray(minutes, np.int64)
    close = 5000.0 + 0.25 * (minutes % 7) + 0.5 * contract_id
    opening = close - 0.25 * (minutes % 3 - 1)
    volumes = None if volume is None else volume + minutes % 11
    high, low = np.maximum(opening, close) + 0.25, np.minimum(opening, close) - 0.5
    ts_ns = START_NS + minutes * MINUTE_NS
    return MinuteRun(root, instrument, contract_id, ts_ns, opening, high, low, close, volumes)


def tape_of(*runs):
    by_root = {}
    for run in runs:
        by_root.setdefault(run.root, []).append(run)
    return tape_of_minutes(HeldBars(by_root, MAP))


def one(n_minutes=10):
    return tape_of(run_of("ES", "ESH2025", range(n_minutes)))


def plain(record):
    """What a record says, as a tuple that starts with its kind."""
    match record:
        case db.OHLCVMsg():
            prices = (record.open, record.high, record.low, record.close)
            return ("bar", record.ts_event, record.instrument_id, *prices, record.volume)
        case db.TradeMsg():
            times = record.ts_recv, record.instrument_id, record.ts_event
            return ("trade", *times, record.price, record.size)
        case db.SymbolMappingMsg():
            return ("map", record.stype_in_symbol, record.stype_out_symbol, record.instrument_id)
        case db.ErrorMsg():
            return ("error", int(record.code), record.err)
    names = {0: "heartbeat", 1: "ack", 2: "slow", 3: "replayed", 4: "end"}
    return (names[int(record.code)], record.ts_event)


def bar_tuples(tape):
    names = ("ts_event", "instrument_id", "open", "high", "low", "close", "volume")
    return [("bar", *(int(row[name]) for name in names)) for row in tape.bars.records]


def of_kind(records, *kinds):
    return [each for each in records if each[0] in kinds]


class Client:
    """The vendor's client, which keeps what it received."""

    def __init__(self, gateway, *, key=KEY, **options):
        self.live = db.Live(key=key, gateway="127.0.0.1", port=gateway.port, **options)
        self.records = []
        self._arrived = threading.Condition()
        self.live.add_callback(self._take)

    def _take(self, record):
        with self._arrived:
            self.records.append(plain(record))
            self._arrived.notify_all()

    def subscribe(self, symbols="ESH5", schema="ohlcv-1m", stype_in="raw_symbol", start=None):
        self.live.subscribe(DATASET, schema, symbols, stype_in=stype_in, start=start)
        return self

    def start(self):
        self.live.start()
        return self

    def until(self, *wanted, n=1):
        """Wait for n records of a kind, or for one record; return all so far."""
        kinds, exact = [each for each in wanted if isinstance(each, str)], set(wanted)

        def arrived():
            return exact.issubset(self.records) or (
                kinds and len(of_kind(self.records, *kinds)) >= n
            )

        with self._arrived:
            assert self._arrived.wait_for(arrived, DEADLINE_S), self.records[-5:]
            return list(self.records)

    def close(self):
        """Wait for the gateway to end the session; raise what the client raises."""
        self.live.block_for_close(timeout=DEADLINE_S)
        return self.records


@contextmanager
def stopped(client):
    try:
        yield client
    finally:
        client.live.terminate()


def played(tape, *, faults=(), symbols="ALL_SYMBOLS", schema="ohlcv-1m", **options):
    """All that a client receives at full speed."""
    with Gateway(tape, key=KEY, closes_at_end=True, faults=faults, **options) as gateway:
        return Client(gateway).subscribe(symbols, schema).start().close()


def stepped(tape, **options):
    return Gateway(tape, key=KEY, pace=None, **options)


@contextmanager
def session(gateway, *symbols, **wanted):
    """A gateway with one client that streams from it."""
    with gateway, stopped(Client(gateway).subscribe(*symbols, **wanted).start()) as client:
        yield gateway, client


# Login


def test_the_right_key_opens_a_session_and_a_wrong_one_does_not():
    with stepped(one()) as gateway:
        client = Client(gateway).subscribe()
        assert client.live._session.session_id == "1"
        client.live.terminate()
        with pytest.raises(BentoError, match="Authentication failed"):
            Client(gateway, key="db-" + "x" * 29).subscribe()
        assert gateway.n_sessions == 2


def test_another_dataset_is_refused_by_name():
    with stepped(one()) as gateway:
        client = Client(gateway)
        with pytest.raises(BentoError, match=r"XNAS.*GLBX\.MDP3 is served"):
            client.live.subscribe("XNAS.ITCH", "ohlcv-1m", "ES")


class Bare:
    """A socket, for what the vendor's client never does."""

    def __init__(self, gateway):
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_S)
        self.stream = self.socket.makefile("rb")
        assert self.stream.readline().startswith(b"lsg_version=")
        self.challenge = self.stream.readline().decode().strip().removeprefix("cram=")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def send(self, *lines):
        self.socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def auth(self, key=KEY, tail=KEY[-5:], **fields):
        digest = hashlib.sha256(f"{self.challenge}|{key}".encode()).hexdigest()
        fields = {"dataset": DATASET, "encoding": "dbn", "ts_out": "0"} | fields
        self.send("|".join([f"auth={digest}-{tail}", *(f"{k}={v}" for k, v in fields.items())]))
        return self.stream.readline().decode()

    def records(self):
        """All until the gateway closes."""
        decoder = dbn.DBNDecoder()
        decoder.write(self.stream.read())
        return [plain(each) for each in decoder.decode() if not isinstance(each, dbn.Metadata)]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"key": "db-" + "x" * 29}, "Authentication failed."),
        ({"tail": "aaaaa"}, "Authentication failed."),
        ({"dataset": "XNAS.ITCH"}, "Unknown dataset"),
        ({"encoding": "csv"}, "encoding 'csv'"),
        ({"compression": "zstd"}, "compression 'zstd'"),
        ({"ts_out": "yes"}, "ts_out 'yes'"),
        ({"heartbeat_interval_s": "1"}, "between 5 and 1800"),
        ({"colour": "blue"}, "field 'colour'"),
    ],
)
def test_a_faulty_login_is_answered_with_its_reason_and_closed(fields, text):
    with stepped(one()) as gateway, Bare(gateway) as bare:
        answer = bare.auth(**fields)
        assert answer.startswith("success=0|error=")
        assert text in answer
        assert bare.stream.read() == b""


def test_who_subscribes_before_the_login_is_refused():
    with stepped(one()) as gateway, Bare(gateway) as bare:
        bare.send("schema=ohlcv-1m|stype_in=raw_symbol|symbols=ESH5|snapshot=0|id=0|is_last=1")
        assert bare.stream.readline().startswith(b"success=0|error=")
        assert bare.stream.read() == b""


GOOD = "schema=ohlcv-1m|stype_in=raw_symbol|symbols=ESH5"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["start_session=0"], "without a subscription"),
        (["schema=mbp-10|stype_in=raw_symbol|symbols=ESH5"], "schema 'mbp-10'"),
        (["schema=trades|stype_in=isin|symbols=ESH5"], "stype_in 'isin'"),
        (["schema=trades|stype_in=raw_symbol|symbols="], "symbols"),
        (["schema=trades|stype_in=raw_symbol"], "symbols"),
        ([f"{GOOD}|start=yesterday"], "start"),
        ([f"{GOOD}|snapshot=1"], "snapshot"),
        ([f"{GOOD}|colour=blue"], "'colour'"),
        (["hello"], "'hello'"),
        (["x" * (2 << 20)], "too long"),
        ([GOOD, "start_session=0", "start_session=0"], "twice"),
    ],
)
def test_a_faulty_line_after_the_login_is_answered_with_a_fatal_error(lines, text):
    with stepped(one()) as gateway, Bare(gateway) as bare:
        assert bare.auth() == "success=1|session_id=1\n"
        bare.send(*lines)
        (error,) = of_kind(bare.records(), "error")
        assert error[1] == 5
        assert text in error[2]


# Bars


def test_a_client_receives_every_bar_and_the_end_of_every_minute_in_order():
    tape = tape_of(
        run_of("ES", "ESH2025", [0, 1, 2, 5, 6]),
        run_of("NQ", "NQH2025", [0, 2, 3, 5]),
    )
    records = played(tape)
    assert of_kind(records, "bar") == bar_tuples(tape)
    minutes = of_kind(records, "bar", "end")
    ends = [i for i, each in enumerate(minutes) if each[0] == "end"]
    assert [minutes[i][1] for i in ends] == [at(i) for i in range(1, 8)]  # 4 printed nothing
    for i, record in enumerate(minutes):
        if record[0] == "bar":
            assert minutes[min(j for j in ends if j > i)] == ("end", record[1] + MINUTE_NS)
    kinds = [each[0] for each in records]
    assert kinds[:3] == ["map", "map", "ack"]


def test_prices_and_symbols_arrive_exactly():
    run = run_of("ES", "ESH2025", range(3))
    bar = of_kind(played(tape_of(run)), "map", "bar")
    assert bar[0][:3] == ("map", "ALL_SYMBOLS", "ESH5")
    assert [each[3] / 1e9 for each in bar[1:]] == run.open.tolist()
    assert [each[7] for each in bar[1:]] == run.volume.tolist()


def test_only_what_was_subscribed_to_arrives_and_only_once():
    tape = tape_of(run_of("ES", "ESH2025", range(5)), run_of("NQ", "NQH2025", range(5)))
    with Gateway(tape, key=KEY, closes_at_end=True) as gateway:
        client = Client(gateway).subscribe("NQH5").subscribe("NQ.v.0", stype_in="continuous")
        records = client.start().close()
    wanted = tape.instruments[1].instrument_id
    assert of_kind(records, "bar") == [each for each in bar_tuples(tape) if each[2] == wanted]
    assert len(of_kind(records, "end")) == 5
    assert len(of_kind(records, "map")) == 2


def test_closed_hours_are_left_out_of_the_minutes_on_request():
    friday = int((np.datetime64("2025-03-07T21:50", "ns") - np.datetime64(START_NS, "ns")) // 60e9)
    sunday = friday + 48 * 60 + 20
    tape = tape_of(
        run_of("ES", "ESH2025", [*range(friday, friday + 10), *range(sunday, sunday + 5)])
    )
    assert len(tape.minute_ends(skip_closed=False)) == 48 * 60 + 25
    ends = tape.minute_ends(skip_closed=True)
    # Until Friday 22:00 UTC, then from Sunday 22:00 UTC: daylight saving time begins that Sunday.
    assert len(ends) == 25
    assert set(tape.bars.known_ns) <= set(ends)
    assert len(of_kind(played(tape, skips_closed=True), "end")) == 25


def test_a_running_clock_jumps_over_closed_hours_on_request():
    friday = int((np.datetime64("2025-03-07T21:58", "ns") - np.datetime64(START_NS, "ns")) // 60e9)
    tape = tape_of(run_of("ES", "ESH2025", [friday, friday + 1, friday + 48 * 60 + 2]))
    with Gateway(tape, key=KEY, pace=600.0, skips_closed=True, closes_at_end=True) as gateway:
        records = (
            Client(gateway).subscribe().start().close()
        )  # the week-end alone would take five minutes
    assert of_kind(records, "bar") == bar_tuples(tape)
    assert len(of_kind(records, "end")) == 3


def test_an_unknown_volume_is_sent_as_zero():
    tape = tape_of(run_of("ES", "ESH2025", range(3), volume=None))
    assert [each[-1] for each in of_kind(played(tape), "bar")] == [0, 0, 0]


def test_two_tapes_agree_on_the_ids_of_contracts():
    both = tape_of(run_of("NQ", "NQH2025", [0]), run_of("ES", "ESH2025", [0]))
    (alone,) = tape_of(run_of("NQ", "NQH2025", [5])).instruments
    assert alone in both.instruments


def test_bars_that_are_no_minutes_are_refused():
    with pytest.raises(DataError, match="5 minutes a bar of ES"):
        tape_of(run_of("ES", "ESH2025", [0, 5, 10]))


def test_a_session_may_ask_for_the_time_of_sending():
    with Gateway(one(), key=KEY, closes_at_end=True) as gateway:
        client = Client(gateway, ts_out=True)
        sent = []
        client.live.add_callback(lambda record: sent.append((plain(record), record.ts_out)))
        client.subscribe().start().close()
    assert {kind: len(of_kind([r for r, _ in sent], kind)) for kind in ("bar", "end", "map")} == {
        "bar": 10,
        "end": 10,
        "map": 1,
    }
    for record, ts_out in sent:
        if record[0] in ("bar", "end"):
            assert ts_out == record[1] + (MINUTE_NS if record[0] == "bar" else 0)


# Trades

ticks = st.integers(-40, 40).map(lambda tick: tick * 250_000_000)


@st.composite
def bar_records(draw):
    rows = []
    for minute in range(draw(st.integers(1, 6))):
        for instrument_id in draw(st.lists(st.sampled_from([7, 8, 9]), unique=True, max_size=3)):
            prices = draw(st.lists(ticks, min_size=2, max_size=4))
            volume = draw(st.integers(4, 2**33))
            if len(set(prices[:2])) == 1:
                volume = draw(st.integers(3, 9))
            opening, close = prices[:2]
            rows.append((14, 33, 1, instrument_id, at(minute), opening, max(prices), min(prices)))
            rows[-1] += (close, min(volume, 2**32 - 1))
    return np.array(rows, BAR_RECORD)


@given(bar_records())
def test_trades_made_of_bars_give_the_bars_back(bars):
    trades = trades_of(bars)
    assert np.all(np.diff(trades["ts_recv"].astype(np.int64)) >= 0)
    assert np.all(trades["size"] >= 1)
    assert len(trades) <= 4 * len(bars)
    back = bars_of(trades)
    order = np.lexsort((bars["instrument_id"], bars["ts_event"]))
    assert back.tobytes() == bars[order].tobytes()
    assert trades.tobytes() == trades_of(bars).tobytes()


def aggregated(trades, clock):
    """Bars by hand; clock is the index of the time that buckets."""
    bars = {}
    for trade in trades:
        key = (trade[clock] // MINUTE_NS * MINUTE_NS, trade[2])
        bars.setdefault(key, []).append(trade[4:])
    return {
        key: (
            own[0][0],
            max(price for price, _ in own),
            min(price for price, _ in own),
            own[-1][0],
            sum(size for _, size in own),
        )
        for key, own in bars.items()
    }


def test_trades_that_a_client_receives_give_the_tape_s_bars_on_the_capture_clock_only():
    tape = tape_of(run_of("ES", "ESH2025", range(30)), run_of("NQ", "NQH2025", range(9, 15)))
    received = of_kind(played(tape, schema="trades"), "trade")
    expected = {each[1:3]: each[3:] for each in bar_tuples(tape)}
    assert aggregated(received, 1) == expected
    assert aggregated(received, 3) != expected


def test_bars_and_trades_of_one_session_come_in_the_order_of_market_time():
    with Gateway(one(3), key=KEY, closes_at_end=True) as gateway:
        records = Client(gateway).subscribe().subscribe(schema="trades").start().close()
    known = [
        each[1] + (MINUTE_NS if each[0] == "bar" else 0)
        for each in of_kind(records, "bar", "end", "trade")
    ]
    assert known == sorted(known)
    assert len(of_kind(records, "trade")) > 3


def test_a_burst_of_trades_inside_one_minute_passes_whole():
    n = 200_000
    trades = np.zeros(n, TRADE_RECORD)
    trades["length"], trades["publisher_id"], trades["instrument_id"] = 12, 1, 5
    trades["ts_recv"] = START_NS + np.arange(n) // 40_000  # more at one instant than a batch has
    trades["ts_event"], trades["price"], trades["size"] = START_NS, 10**12, 1
    trades["action"], trades["side"], trades["sequence"] = b"T", b"N", np.arange(n)
    tape = Tape(DATASET, [instrument(5)], [], trades=trades)
    seen = []
    with Gateway(tape, key=KEY, closes_at_end=True) as gateway:
        live = db.Live(key=KEY, gateway="127.0.0.1", port=gateway.port)
        live.add_callback(lambda record: seen.append(getattr(record, "sequence", None)))
        live.subscribe(DATASET, "trades", "X")
        live.start()
        live.block_for_close(timeout=DEADLINE_S)
    assert [each for each in seen if each is not None] == list(range(n))


def instrument(number, name="X"):
    from adapters.databento_gateway import Instrument

    return Instrument(number, name, "", name, day_of(START_NS))


# Market time, replay


def test_market_time_moves_only_when_a_stepped_gateway_is_told():
    with (
        stepped(one(), heartbeat_s=0.01) as gateway,
        stopped(Client(gateway).subscribe().start()) as client,
    ):
        client.until("ack")
        gateway.advance_to(at(1))
        assert of_kind(client.until(("end", at(1))), "bar", "end") == [
            bar_tuples(gateway.tape)[0],
            ("end", at(1)),
        ]
        gateway.advance_to(at(2) - 1)  # not known yet
        gateway.advance_to(at(4))
        records = client.until(("end", at(4)))
        assert [each[1] for each in of_kind(records, "bar")] == [at(i) for i in range(4)]
        gateway.advance_to(at(0))
        beats = of_kind(
            client.until("heartbeat", n=len(of_kind(records, "heartbeat")) + 3), "heartbeat"
        )
        assert beats[-1] == ("heartbeat", at(4))  # it never goes back
        gateway.advance_to(at(10))
        client.until(("end", at(10)))
        assert gateway.finished.wait(DEADLINE_S)


def test_a_running_gateway_follows_the_wall_clock_at_its_pace():
    with Gateway(one(20), key=KEY, pace=6000.0) as gateway:
        assert gateway.now_ns == at(0)  # it stands still until somebody listens
        with stopped(Client(gateway).subscribe().start()) as client:
            records = client.until(("end", at(20)))
            assert of_kind(records, "bar") == bar_tuples(gateway.tape)
            assert gateway.now_ns >= at(20)


def test_a_replay_gives_what_opened_since_then_and_passes_into_live_without_a_hole():
    with session(stepped(one(), now_ns=at(6)), start=at(3)) as (gateway, client):
        client.until("replayed")
        gateway.advance_to(at(10))
        records = client.until(("end", at(10)))
    assert [each[1] for each in of_kind(records, "bar")] == [at(i) for i in range(3, 10)]
    assert [each[1] for each in of_kind(records, "end")] == [at(i) for i in range(4, 11)]
    seam = records.index(("replayed", at(6)))
    assert [each[1] for each in of_kind(records[:seam], "bar")] == [at(i) for i in range(3, 6)]


def test_without_a_start_only_what_becomes_known_from_now_on_arrives():
    with session(stepped(one(), now_ns=at(6))) as (gateway, client):
        client.until("ack")
        gateway.advance_to(at(7))
        records = client.until(("end", at(7)))
    assert [each[1] for each in of_kind(records, "bar")] == [at(6)]
    assert of_kind(records, "replayed") == []


def test_a_replay_reaches_back_a_day_at_most_and_zero_means_all_of_it():
    tape = one(2000)
    for start in (0, at(10)):
        with session(stepped(tape, now_ns=at(1900)), start=start) as (_gateway, client):
            records = client.until("replayed")
        assert [each[1] for each in of_kind(records, "bar")] == [at(i) for i in range(460, 1900)]


def test_a_replay_of_trades_is_cut_by_their_own_clock():
    tape = one()
    with session(stepped(tape, now_ns=at(6)), schema="trades", start=at(3)) as (_gateway, client):
        trades = of_kind(client.until("replayed"), "trade")
    # The trade that opens minute 3 was received in it but matched before it.
    assert trades[0][1] > at(3) + 10**9
    assert all(each[3] >= at(3) for each in trades)
    assert trades[-1][1] < at(6)


def test_each_instrument_is_replayed_from_its_own_earliest_start():
    tape = tape_of(*(run_of(root, f"{root}H2025", range(9)) for root in ("ES", "NQ", "YM")))
    with stepped(tape, now_ns=at(6)) as gateway, stopped(Client(gateway)) as client:
        for symbol, start in (("ESH5", at(2)), ("ESH5", at(5)), ("NQH5", at(4)), ("YMH5", None)):
            client.subscribe(symbol, start=start)
        records = client.start().until("replayed")
    opens = {each.root: [] for each in tape.instruments}
    roots = {each.instrument_id: each.root for each in tape.instruments}
    for bar in of_kind(records, "bar"):
        opens[roots[bar[2]]].append(bar[1])
    assert opens == {"ES": [at(i) for i in range(2, 6)], "NQ": [at(4), at(5)], "YM": []}


def test_ends_of_minutes_can_be_left_out_of_a_replay():
    with session(stepped(one(), now_ns=at(6), replays_ends=False), start=0) as (_gateway, client):
        assert of_kind(client.until("replayed"), "end") == []


def test_a_client_that_comes_back_replays_what_it_missed_and_has_no_hole():
    tape = one(12)
    with stepped(tape) as gateway:
        with stopped(Client(gateway).subscribe().start()) as first:
            first.until("ack")
            gateway.advance_to(at(4))
            before = first.until(("end", at(4)))
        gateway.advance_to(at(8))  # market time runs on while nobody is connected
        last = of_kind(before, "bar")[-1][1]
        with stopped(Client(gateway).subscribe(start=last).start()) as second:
            second.until("replayed")
            gateway.advance_to(at(12))
            after = second.until(("end", at(12)))
    overlap = of_kind(before, "bar")[-1:]
    assert of_kind(after, "bar")[:1] == overlap
    assert of_kind(before, "bar") + of_kind(after, "bar")[1:] == bar_tuples(tape)


def test_an_idle_session_is_kept_alive_by_heartbeats():
    with session(stepped(one(), heartbeat_s=0.01)) as (gateway, client):
        client.until("heartbeat", n=3)
        gateway.advance_to(at(1))
        records = client.until(("end", at(1)))
        n_before = len(of_kind(records, "heartbeat"))
        client.until("heartbeat", n=n_before + 2)


def test_market_time_stays_near_a_client_that_reads_slowly():
    tape = one(100_000)  # 37 MB with the ends of the minutes
    with Gateway(tape, key=KEY, closes_at_end=True) as gateway, Bare(gateway) as bare:
        bare.auth()
        bare.send(GOOD, "start_session=0")
        n_read, ahead = 0, []
        while piece := bare.stream.read(1 << 20):
            ahead.append((gateway.now_ns - START_NS) / MINUTE_NS * (56 + 320) - n_read)
            n_read += len(piece)
        assert n_read > 100_000 * 376
        assert max(ahead) < 20 << 20  # what sockets hold


# Symbols


def rolling():
    """ESH5 until the session of 2025-03-06, which opens at 23:00 UTC on the day before."""
    roll = 8 * 60  # 15:00 + 8 h
    return tape_of(
        run_of("ES", "ESH2025", range(roll - 120)),
        run_of("ES", "ESM2025", range(roll, roll + 180), contract_id=1),
    )


def test_a_continuous_symbol_keeps_its_contract_until_it_is_asked_for_again():
    tape = rolling()
    march, june = tape.instruments
    with session(stepped(tape, now_ns=at(0)), "ES.v.0", stype_in="continuous") as (gateway, client):
        client.until("ack")
        gateway.advance_to(at(9 * 60 + 30))  # after 00:00 UTC
        client.until(("end", at(9 * 60 + 30)))
        assert {each[2] for each in of_kind(client.records, "bar")} == {march.instrument_id}
        client.subscribe("ES.v.0", stype_in="continuous")
        maps = of_kind(client.until("map", n=2), "map")
        gateway.advance_to(at(9 * 60 + 31))
        last = of_kind(client.until(("end", at(9 * 60 + 31))), "bar")[-1]
    assert maps == [
        ("map", "ES.v.0", "ESH5", march.instrument_id),
        ("map", "ES.v.0", "ESM5", june.instrument_id),
    ]
    assert last[2] == june.instrument_id
    assert client.live.symbology_map[june.instrument_id] == "ESM5"


def test_the_front_contract_of_a_date_is_that_of_the_session_of_the_date():
    tape = rolling()
    wednesday = day_of(START_NS)
    assert tape.front("ES", wednesday).name == "ESH2025"
    assert tape.front("ES", wednesday + 1).name == "ESM2025"
    assert tape.front("ES", wednesday - 100).name == "ESH2025"
    assert tape.front("NQ", wednesday) is None
    assert [each.raw_symbol for each in tape.resolve("ES.c.0", "continuous", wednesday + 1)] == [
        "ESM5"
    ]
    assert tape.resolve("ES.v.1", "continuous", wednesday) == ()
    assert tape.resolve("ES.FUT", "parent", wednesday) == tape.instruments
    number = str(tape.instruments[1].instrument_id)
    assert tape.resolve(number, "instrument_id", wednesday) == tape.instruments[1:]


def test_a_symbol_whose_year_came_round_again_is_the_one_that_still_trades():
    old, new = (replace(instrument(n, "ESH5"), last_day=d) for n, d in ((1, 100), (2, 3750)))
    tape = Tape(DATASET, [old, new], [], bars=np.zeros(1, BAR_RECORD))
    assert [tape.resolve("ESH5", "raw_symbol", day)[0] for day in (50, 101, 9999)] == [
        old,
        new,
        new,
    ]


def test_an_unknown_symbol_is_told_and_ends_nothing():
    with Gateway(one(), key=KEY, closes_at_end=True) as gateway:
        client = Client(gateway).subscribe(["ESH5", "ESZ9"]).start()
        with pytest.raises(BentoError, match="ESZ9"):  # the client raises stale errors at the end
            client.close()
    (error,) = of_kind(client.records, "error")
    assert error[1] == 4
    assert len(of_kind(client.records, "bar")) == 10


def test_a_subscription_in_mid_session_has_no_replay_whatever_its_start():
    tape = tape_of(run_of("ES", "ESH2025", range(10)), run_of("NQ", "NQH2025", range(10)))
    with stepped(tape) as gateway, stopped(Client(gateway).subscribe().start()) as client:
        client.until("ack")
        gateway.advance_to(at(5))
        client.until(("end", at(5)))
        client.subscribe("NQH5", start=0).until("ack", n=2)
        gateway.advance_to(at(6))
        records = client.until(("end", at(6)))
    late = [
        each[1] for each in of_kind(records, "bar") if each[2] == tape.instruments[1].instrument_id
    ]
    assert late == [at(5)]
    assert of_kind(records, "replayed") == []


# Faults


def bars_until_end(client, kind=None):
    with pytest.raises(BentoError, match=kind or ".*"):
        client.close()
    return [each[1] for each in of_kind(client.records, "bar")]


def test_a_reset_arrives_as_an_error_after_all_that_was_sent():
    with Gateway(one(), key=KEY, faults=[Fault(kind="reset", at_ns=at(4))]) as gateway:
        client = Client(gateway).subscribe().start()
        assert bars_until_end(client, "reset by peer") == [at(i) for i in range(4)]
        assert of_kind(client.records, "end")[-1] == ("end", at(4))
        assert [each.kind for each in gateway.fired] == ["reset"]
        assert gateway.now_ns == at(4)


def test_a_clean_close_looks_to_the_client_like_a_normal_end():
    with Gateway(one(), key=KEY, faults=[Fault(kind="close", at_ns=at(4))]) as gateway:
        client = Client(gateway, reconnect_policy="reconnect").subscribe().start()
        records = client.close()
        assert [each[1] for each in of_kind(records, "bar")] == [at(i) for i in range(4)]
        assert gateway.n_sessions == 1


def test_after_a_reset_the_client_itself_comes_back_without_its_start():
    faults = [Fault(kind="reset", at_ns=at(4), span_ns=2 * MINUTE_NS)]
    with Gateway(one(), key=KEY, faults=faults, closes_at_end=True) as gateway:
        client = Client(gateway, reconnect_policy="reconnect").subscribe(start=0).start()
        records = client.close()
        starts = [("start=" in line) for _, line in gateway.lines if line.startswith("schema=")]
    assert starts == [True, False]
    # Two minutes of market time passed meanwhile, and nobody replayed them.
    assert [each[1] for each in of_kind(records, "bar")] == [
        at(i) for i in (0, 1, 2, 3, 6, 7, 8, 9)
    ]


def test_a_fault_can_strike_between_the_bars_of_one_minute():
    tape = tape_of(run_of("ES", "ESH2025", range(5)), run_of("NQ", "NQH2025", range(5)))
    faults = [Fault(kind="reset", after_records=5)]
    with Gateway(tape, key=KEY, faults=faults, closes_at_end=True) as gateway:
        first = Client(gateway).subscribe(["ESH5", "NQH5"]).start()
        assert len(bars_until_end(first)) == 5
        assert of_kind(first.records, "bar", "end")[-1][0] == "bar"
        last = first.records[-1][1]
        second = Client(gateway).subscribe(["ESH5", "NQH5"], start=last).start().close()
    together = of_kind(first.records, "bar") + of_kind(second, "bar")
    assert sorted(set(together)) == sorted(bar_tuples(tape))
    assert len(together) == 11  # the one that was sent before the cut comes twice


@pytest.mark.parametrize("kind", ["auth_failed", "connection_limit"])
def test_a_login_can_fail_once_and_succeed_next_time(kind):
    with stepped(one(), faults=[Fault(kind=kind, at_ns=0)]) as gateway:
        with pytest.raises(BentoError, match=r"Authentication failed|open connection limit"):
            Client(gateway).subscribe()
        Client(gateway).subscribe().live.terminate()


def test_a_fatal_error_is_told_before_the_connection_closes():
    fault = Fault(kind="fatal_error", at_ns=at(2), code=2, text="key deactivated")
    with Gateway(one(), key=KEY, faults=[fault]) as gateway:
        client = Client(gateway).subscribe().start()
        assert bars_until_end(client, "key deactivated") == [at(0), at(1)]
        assert client.records[-1] == ("error", 2, "key deactivated")


def test_an_error_that_is_not_fatal_interrupts_nothing():
    fault = Fault(kind="error", at_ns=at(2), code=7)
    with Gateway(one(), key=KEY, faults=[fault], closes_at_end=True) as gateway:
        client = Client(gateway).subscribe().start()
        assert len(bars_until_end(client)) == 10
    place = client.records.index(of_kind(client.records, "error")[0])
    assert client.records[place - 1] == ("end", at(2))


def test_a_warning_of_slow_reading_interrupts_nothing():
    records = played(one(), faults=[Fault(kind="slow_reader", at_ns=at(2))])
    assert records[records.index(("slow", at(2))) - 1] == ("end", at(2))
    assert len(of_kind(records, "bar")) == 10


def test_silence_holds_back_records_and_heartbeats_until_its_span_is_over():
    fault = Fault(kind="silence", at_ns=at(2), span_ns=3 * MINUTE_NS)
    with session(stepped(one(), faults=[fault], heartbeat_s=0.01)) as (gateway, mute):
        mute.until("heartbeat")
        gateway.advance_to(at(2))
        n_before = len(mute.until(("end", at(2))))
        with stopped(
            Client(gateway).subscribe().start()
        ) as heard:  # a measure of time that has passed
            heard.until("ack")
            gateway.advance_to(at(5) - 1)
            heard.until(("end", at(4)))
            heard.until("heartbeat", n=len(of_kind(heard.records, "heartbeat")) + 5)
        assert len(mute.records) == n_before
        gateway.advance_to(at(5))
        assert of_kind(mute.until(("end", at(5))), "bar") == bar_tuples(gateway.tape)[:5]


def test_connections_are_refused_for_a_span_and_accepted_after_it_on_the_same_port():
    faults = [
        Fault(kind="refuse", at_ns=at(2), span_ns=3 * MINUTE_NS),
        Fault(kind="reset", at_ns=at(2)),
    ]
    with stepped(one(), faults=faults) as gateway:
        client = Client(gateway).subscribe().start()
        client.until("ack")
        gateway.advance_to(at(2))
        assert bars_until_end(client) == [at(0), at(1)]
        with pytest.raises(BentoError, match="Connect call failed"):
            Client(gateway).subscribe()
        gateway.advance_to(at(5))
        with stopped(connected(gateway)) as again:
            records = again.subscribe(start=at(1)).start().until("replayed")
    assert [each[1] for each in of_kind(records, "bar")] == [at(i) for i in range(1, 5)]


def connected(gateway):
    """A client of a gateway that is about to listen again."""
    for _ in range(10_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", gateway.port)) == 0:
                return Client(gateway)
    raise AssertionError


def test_a_truncated_record_is_lost_and_nothing_else():
    with Gateway(one(), key=KEY, faults=[Fault(kind="truncated", at_ns=at(3))]) as gateway:
        records = Client(gateway).subscribe().start().close()
    assert of_kind(records, "bar") == bar_tuples(gateway.tape)[:3]
    assert records[-1] == ("end", at(3))


def test_duplicates_come_in_mid_stream():
    fault = Fault(kind="duplicates", at_ns=at(4), count=2)
    opens = [each[1] for each in of_kind(played(one(), faults=[fault]), "bar")]
    assert opens == [at(i) for i in (0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9)]


def test_duplicates_come_around_the_seam_of_a_replay():
    with session(
        stepped(one(), now_ns=at(4), faults=[Fault(kind="duplicates", count=2)]), start=at(1)
    ) as (gateway, client):
        client.until("bar", n=5)
        gateway.advance_to(at(5))
        records = client.until(("end", at(5)))
    seam = [each[:2] for each in of_kind(records, "bar", "replayed")]
    expected = [("bar", at(i)) for i in (1, 2, 3)] + [("replayed", at(4))]
    assert seam == expected + [("bar", at(i)) for i in (2, 3, 4)]


def test_a_dropped_bar_is_missing_live_but_not_in_a_replay():
    tape = tape_of(run_of("ES", "ESH2025", range(5)), run_of("NQ", "NQH2025", range(5)))
    fault = Fault(kind="drop", at_ns=at(3), symbol="ESH5")
    with stepped(tape, faults=[fault]) as gateway:
        with stopped(Client(gateway).subscribe("ALL_SYMBOLS").start()) as client:
            client.until("ack")
            gateway.advance_to(at(5))
            live = of_kind(client.until(("end", at(5))), "bar")
        with stopped(Client(gateway).subscribe("ALL_SYMBOLS", start=0).start()) as client:
            replayed = of_kind(client.until("replayed"), "bar")
    assert replayed == bar_tuples(tape)
    (missing,) = set(replayed) - set(live)
    assert missing[1:3] == (at(2), tape.instruments[0].instrument_id)


def test_a_late_bar_comes_after_the_end_of_its_minute():
    records = played(one(), faults=[Fault(kind="late", at_ns=at(3))])
    place = records.index(("end", at(3)))
    assert records[place + 1][:2] == ("bar", at(2))
    assert records[place - 1] == ("end", at(2))
    assert len(of_kind(records, "bar")) == 10


def test_a_late_bar_of_the_tape_s_end_still_comes():
    records = played(one(), faults=[Fault(kind="late", at_ns=at(10), span_ns=5 * MINUTE_NS)])
    assert records[-1][:2] == ("bar", at(9))


def test_an_out_of_order_bar_comes_after_its_successor():
    records = played(one(), faults=[Fault(kind="out_of_order", at_ns=at(3))])
    assert [each[1] for each in of_kind(records, "bar")] == [
        at(i) for i in (0, 1, 3, 2, *range(4, 10))
    ]


def test_a_remap_on_script_names_the_contract_in_force():
    fault = Fault(kind="remap", at_ns=at(9 * 60 + 30))
    with session(stepped(rolling(), faults=[fault]), "ES.v.0", stype_in="continuous") as (
        gateway,
        client,
    ):
        client.until("ack")
        gateway.advance_to(at(9 * 60 + 30))
        assert [each[2] for each in of_kind(client.until("map", n=2), "map")] == [
            "ESH5",
            "ESM5",
        ]


def test_every_fault_of_a_long_script_happens_once_and_in_order():
    faults = [Fault(kind="close", at_ns=at(i)) for i in (2, 2, 5)] + [
        Fault(kind="reset", after_records=7),
        Fault(kind="slow_reader", at_ns=at(9)),
    ]
    tape, bars, n_sessions = one(), [], 0
    with Gateway(tape, key=KEY, faults=faults, closes_at_end=True) as gateway:
        while not gateway.finished.is_set() and n_sessions < 20:
            client = Client(gateway).subscribe().start()
            try:
                bars += of_kind(client.close(), "bar")
            except BentoError:
                bars += of_kind(client.records, "bar")
            n_sessions += 1
        assert list(gateway.fired) == faults
    assert n_sessions == 5
    assert bars == bar_tuples(tape)


def test_a_fault_needs_one_moment_to_happen_at():
    for wrong in ({}, {"at_ns": 1, "after_records": 1}):
        with pytest.raises(AssertionError):
            Fault(kind="reset", **wrong)
    with pytest.raises(AssertionError):
        Fault(kind="drop", after_records=1)


# The low-level client, files


def test_the_vendor_s_protocol_class_is_served_too():
    class Counting(DatabentoLiveProtocol):
        n_bars = 0

        def received_record(self, record):
            self.n_bars += isinstance(record, db.OHLCVMsg)

    async def session(port):
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            lambda: Counting(KEY, DATASET), "127.0.0.1", port
        )
        assert await protocol.authenticated == "1"
        protocol.subscribe("ohlcv-1m", ["ESH5"])
        protocol.start()
        await asyncio.wait_for(protocol.disconnected, DEADLINE_S)
        return protocol.n_bars

    with Gateway(one(), key=KEY, pace=math.inf, closes_at_end=True) as gateway:
        assert asyncio.run(session(gateway.port)) == 10


@real
def test_a_real_file_of_the_vendor_s_bars_is_served_as_it_is():
    path = next(SHARED.glob("dbn/futures_ohlcv-1m_*.dbn.zst"))
    tape = tape_of_dbn([path], MAP)
    store = db.DBNStore.from_bytes(path.read_bytes())
    assert of_kind(played(tape), "bar") == [plain(each) for each in store]
    day = day_of(tape.first_ns)
    assert tape.front("NQ", day).raw_symbol == "NQU4"
    assert tape.front("ES", day).instrument_id == 118


@real
def test_real_trades_are_served_as_they_are_and_give_the_vendor_s_bars():
    trades, bars = (next(SHARED.glob(f"dbn/futures_{name}_*")) for name in ("trades", "ohlcv-1m"))
    tape = tape_of_dbn([trades], MAP)
    store = db.DBNStore.from_bytes(trades.read_bytes())
    assert of_kind(played(tape, schema="trades"), "trade") == [plain(each) for each in store]
    vendor = {plain(each) for each in db.DBNStore.from_bytes(bars.read_bytes())}
    assert set(bar_tuples(tape)) <= vendor
    assert len(bar_tuples(tape)) == 4
    assert of_kind(played(tape), "bar") == bar_tuples(tape)


def vendor_file(path, rows, names):
    """A file of daily single bars: (day, instrument id, volume); names by id."""
    first, last = (str(np.datetime64(min(r[0] for r in rows)) + n) for n in (0, 9))

    def mapping(number, name):
        interval = SimpleNamespace(
            start_date=date.fromisoformat(first),
            end_date=date.fromisoformat(last),
            symbol=str(number),
        )
        return SimpleNamespace(raw_symbol=name, intervals=[interval])

    header = dbn.Metadata(
        dataset=DATASET,
        start=0,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.OHLCV_1M,
        mappings=[mapping(*each) for each in names.items()],
        version=3,
    )
    bars = np.zeros(len(rows), BAR_RECORD)
    bars["length"], bars["rtype"], bars["publisher_id"] = 14, 33, 1
    for bar, (day, number, volume) in zip(bars, rows, strict=True):
        bar["ts_event"] = np.datetime64(f"{day}T15:00", "ns").astype(np.int64)
        bar["instrument_id"], bar["volume"] = number, volume
        bar["open"] = bar["high"] = bar["low"] = bar["close"] = 5000 * 10**9
    path.write_bytes(header.encode() + bars.tobytes())
    return path


def test_the_front_contract_of_a_vendor_s_file_traded_most_on_the_day_before(tmp_path):
    volumes = {"2025-03-10": (90, 10), "2025-03-11": (40, 60), "2025-03-12": (20, 80)}
    rows = [
        (day, number, volume)
        for day, pair in volumes.items()
        for number, volume in ((3, 999), *zip((9, 4), pair, strict=True))
    ]
    names = {9: "ESH5", 4: "ESM5", 3: "ESH5-ESM5"}
    tape = tape_of_dbn([vendor_file(tmp_path / "es.dbn", rows, names)], MAP)
    monday = day_of(tape.first_ns)
    fronts = [tape.front("ES", monday + i).raw_symbol for i in range(4)]
    assert fronts == ["ESH5", "ESH5", "ESM5", "ESM5"]
    assert {each.name for each in tape.instruments} == {"ESH2025", "ESM2025", "ESH5-ESM5"}
    assert tape.resolve("ESH5-ESM5", "raw_symbol", monday)[0].root == ""
    assert len(of_kind(played(tape, symbols="ESH5-ESM5"), "bar")) == 3


@real
def test_a_month_of_real_minutes_arrives_bar_for_bar():
    bars = hold(open_bars([SHARED / "1m" / "MNQ_1m_2025-09_databento.parquet"], MAP))
    tape = tape_of_minutes(bars)
    received = of_kind(played(tape, skips_closed=True), "bar")
    (september, december) = tape.instruments
    assert (september.raw_symbol, december.raw_symbol) == ("MNQU5", "MNQZ5")
    runs = list(bars.stream(["MNQ"], volume=True))
    for i, name in enumerate(("open", "high", "low", "close")):
        expected = np.concatenate([getattr(run, name) for run in runs])
        assert np.array_equal(np.array([each[3 + i] for each in received]) / 1e9, expected)
    assert received == bar_tuples(tape)


@real
def test_a_cut_or_foreign_file_of_the_vendor_is_refused(tmp_path):
    path = next(SHARED.glob("dbn/futures_ohlcv-1m_*.dbn.zst"))
    cut = tmp_path / "cut.dbn.zst"
    cut.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EnvironmentFault, match=r"cut\.dbn"):
        tape_of_dbn([cut], MAP)
    with pytest.raises(DataError, match="definition"):
        tape_of_dbn([SHARED / "dbn" / "glbx_definition.dbn.zst"], MAP)
    with pytest.raises(EnvironmentFault, match="missing file"):
        tape_of_dbn([tmp_path / "none.dbn"], MAP)


def test_bars_of_one_minute_keep_the_order_in_which_they_were_given():
    bars = np.zeros(4, BAR_RECORD)
    bars["ts_event"], bars["instrument_id"] = [at(1), at(0), at(1), at(0)], [9, 8, 3, 7]
    assert bar_stream(bars).records["instrument_id"].tolist() == [8, 7, 9, 3]
