"""The engine fed as live feeds it decides what the back-test decides, however the minutes are cut."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibs_core import portfolio
from ibs_core.backtest import trade
from ibs_core.bars import MINUTE_NS, NEVER
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.engine import Engine
from ibs_core.market_data import hold, open_bars, rolls
from ibs_core.ports import Minute
from ibs_core.research.sample_data import write_sample
from ibs_core.snapshot import pack, unpack
from ibs_core.universe import Universe

MAP = load_contract_map()
ROOTS = ("ES", "NQ", "CL", "ZC")
FIRST, LAST = date(2023, 10, 30), date(2023, 12, 15)
EVERY_RULE = {
    "strategy": {
        "entry": {"ibs": [0.0, 0.4], "pivots": "none"},
        "filters": {"bar_rsi2": [0, 90], "x_es_day_ret": [-9, 9]},
        "exits": {"protective": {"stop": {"percent": 0.6}, "target": {"percent": 1.5}}},
    },
    "risk": {"daily_loss_usd": 1500, "max_positions": 3},
    "symbols": {
        "ES": {"strategy": {"filters": {"bar_pair_z": [-9, 9], "x_cl_bar_z": [-9, 9]}}},
        "NQ": {"quantity": 2, "execute": "MNQ"},
        "CL": {"strategy": {"signal_bar": "30m", "filters": {"x_nq_bar_ret": [-9, 9]}}},
        "ZC": {"strategy": {"exits": {"flat_by": "13:00"}}},
    },
}
WIDTHS = {
    "strategy": {
        "entry": {"ibs": [0.0, 0.9], "pivots": "none", "windows": []},
        "filters": {"bar_rsi2": [0, 99]},
        "exits": {"flat_by": None, "bars": 2},
    },
    "symbols": {
        "ES": {"strategy": {"signal_bar": "4h", "filters": {"x_nq_bar_ret": [-9, 9]}}},
        "NQ": {"strategy": {"signal_bar": "1d", "filters": {"x_es_day_ret": [-9, 9]}}},
        "CL": {"strategy": {"signal_bar": "1d", "filters": {"x_zc_bar_ret": [-9, 9]}}},
        "ZC": {"strategy": {"signal_bar": "15m", "filters": {"x_es_day_ret": [-9, 9]}}},
    },
}
"""A day, a part of a session, and bars that a break cuts; one root at several widths."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven weeks of five minutes an hour, over a clock change and a roll."""
    folder = tmp_path_factory.mktemp("bars")
    for path in write_sample(folder, roots=ROOTS, start=FIRST, end=LAST, seed=5):
        minute = pl.col("ts_event").dt.minute()
        pl.read_parquet(path).filter(minute.is_in([0, 15, 29, 30, 59])).write_parquet(path)
    return sorted(folder.glob("*.parquet"))


@pytest.fixture(scope="module")
def source(files):
    return open_bars(files, MAP)


@pytest.fixture(scope="module")
def minutes(source):
    """Every minute of every root, by time, in the order of the contract map."""
    found = [
        Minute(run.root, run.instrument, *row)
        for run in source.stream(list(ROOTS), volume=True)
        for row in zip(
            *(column.tolist() for column in (run.ts_ns, run.open, run.high, run.low)),
            *(column.tolist() for column in (run.close, run.volume)),
            strict=True,
        )
    ]
    return sorted(found, key=lambda minute: (minute.ts_ns, ROOTS.index(minute.root)))


def seams_of(source):
    found = {}
    for root in ROOTS:
        found[root] = np.array([each.seam_ns for each in rolls(source, root)], np.int64)
    return found


def engine_of(given, seams):
    own = load_settings(overrides=given)
    universe = Universe(own, MAP, start=None, end=None)
    roots = [root for root in MAP.contracts if root in own.symbols]
    return Engine(universe, roots, own, seams)


def cut(minutes, ends):
    """Cut minutes at instants."""
    opens = np.array([each.ts_ns for each in minutes])
    places = np.searchsorted(opens, ends, side="left")
    return [minutes[a:b] for a, b in zip([0, *places[:-1]], places, strict=True)]


def run(engine, minutes, ends, inputs=()):
    """Advance from end to end; what live tells comes with the first end that is not before it."""
    decisions, trades, told = [], [], list(inputs)
    for part, end in zip(cut(minutes, ends), ends, strict=True):
        now = [each for each in told if each[0] <= end]
        told = told[len(now) :]
        done = engine.advance(part, int(end), np.array(now, portfolio.INPUT))
        decisions.append(done.decisions)
        trades.append(done.trades)
    return np.concatenate(decisions), np.concatenate(trades)


def every_minute_end(minutes):
    return np.unique([each.ts_ns for each in minutes]) + MINUTE_NS


def by_order(records):
    return np.sort(records, order=[name for name in records.dtype.names if name != "score"])


def same_decisions(found, expected):
    found, expected = [each[each["time_ns"] < NEVER] for each in (found, expected)]
    assert len(found) == len(expected)
    order = ["time_ns", "symbol", "action", "reason"]
    for a, b in zip(np.sort(found, order=order), np.sort(expected, order=order), strict=True):
        assert a.tobytes() == b.tobytes(), (a, b)


@pytest.mark.parametrize("given", [WIDTHS, EVERY_RULE], ids=["widths", "every rule"])
def test_minute_by_minute_it_decides_and_trades_what_the_back_test_does(given, source, minutes):
    traded = trade(source, load_settings(overrides=given), MAP)
    engine = engine_of(given, seams_of(source))
    mine = [each for each in minutes if each.root in engine.reads]
    decisions, trades = run(engine, mine, every_minute_end(mine))
    assert len(traded.trade_records) > 40
    same_decisions(decisions, traded.decision_records)
    assert by_order(trades).tobytes() == by_order(traded.trade_records).tobytes()


@dataclass(repr=False)  # Hypothesis prints what fails
class Whole:
    """The back-test of every rule, the minutes that it reads, and their rolls."""

    traded: object
    minutes: list
    seams: dict
    ends: np.ndarray


@pytest.fixture(scope="module")
def whole(source, minutes):
    traded = trade(source, load_settings(overrides=EVERY_RULE), MAP)
    return Whole(traded, minutes, seams_of(source), every_minute_end(minutes))


@settings(max_examples=4)
@given(seed=st.integers(0, 2**31))
def test_however_the_minutes_are_cut_and_wherever_it_is_resumed(seed, whole):
    traded, minutes, seams, ends = whole.traded, whole.minutes, whole.seams, whole.ends
    rng = np.random.default_rng(seed)
    inner = np.sort(rng.choice(ends[:-1], int(rng.integers(1, 40)), replace=False))
    ends = np.append(inner, ends[-1])
    resume_at = int(rng.integers(0, len(inner)))
    first = engine_of(EVERY_RULE, seams)
    cut_at = int(np.searchsorted([each.ts_ns for each in minutes], ends[resume_at]))
    before = run(first, minutes[:cut_at], ends[: resume_at + 1])
    block = pack(first.state())
    second = engine_of(EVERY_RULE, seams)
    second.restore(unpack(block))
    assert pack(second.state()) == block
    after = run(second, minutes[cut_at:], ends[resume_at + 1 :])
    decisions, trades = (np.concatenate(parts) for parts in zip(before, after, strict=True))
    same_decisions(decisions, traded.decision_records)
    assert by_order(trades).tobytes() == by_order(traded.trade_records).tobytes()


def draw_inputs(rng, minute_ends, n):
    ends = np.sort(rng.choice(minute_ends, n, replace=False))
    hour = 60 * MINUTE_NS
    kinds = [portfolio.CANCEL, portfolio.FLATTEN, portfolio.ABSENT, portfolio.FIRST_BLOCK + 2]
    kinds += [portfolio.LEFT_LATE] * 2
    drawn = [
        (
            int(end),
            int(rng.integers(2)),
            int(rng.choice(kinds)),
            int(rng.integers(-1, 4)),
            int(end + rng.integers(30) * hour),
        )
        for end in ends
    ]
    for end in rng.choice(
        minute_ends[minute_ends % hour == 0][:-30], 8
    ).tolist():  # an exit that leaves hours later
        left = int(minute_ends[np.searchsorted(minute_ends, end + rng.integers(1, 20) * hour)])
        drawn.append((end, 1, portfolio.LEFT_LATE, -1, NEVER))
        drawn.append((left, 1, portfolio.LEFT_LATE, -1, left))
    return sorted(drawn, key=lambda each: each[:2])


@settings(max_examples=2)
@given(seed=st.integers(0, 2**31))
def test_what_only_live_knew_is_replayed_by_the_back_test(seed, source, whole):
    inputs = draw_inputs(np.random.default_rng(seed), whole.ends, 60)
    told = np.array(inputs, portfolio.INPUT)
    traded = trade(source, load_settings(overrides=EVERY_RULE), MAP, inputs=told)
    assert traded.trade_records.tobytes() != whole.traded.trade_records.tobytes()
    engine = engine_of(EVERY_RULE, whole.seams)
    decisions, trades = run(engine, whole.minutes, whole.ends, inputs)
    same_decisions(decisions, traded.decision_records)
    assert by_order(trades).tobytes() == by_order(traded.trade_records).tobytes()


def test_a_warm_start_decides_what_the_back_test_decides_from_then_on(source, whole):
    minutes, seams = whole.minutes, whole.seams
    start = whole.ends[len(whole.ends) // 3]
    last = int(minutes[-1].ts_ns) + MINUTE_NS
    blocked = np.array([(0, 0, portfolio.FIRST_BLOCK, -1, start + 1)], portfolio.INPUT)
    traded = trade(source, load_settings(overrides=EVERY_RULE), MAP, inputs=blocked)
    engine = engine_of(EVERY_RULE, seams)
    engine.warm(hold(source).between(None, int(start)), int(start))
    later = [each for each in minutes if each.ts_ns >= start]
    decisions, trades = run(engine, later, every_minute_end(later))
    expected = traded.decision_records
    same_decisions(decisions, expected[expected["time_ns"] > start])
    assert len(trades) > 20
    assert by_order(trades).tobytes() == by_order(traded.trade_records).tobytes()
    assert engine.until_ns == last


def test_a_roll_that_becomes_known_inside_a_bar_cuts_it_at_the_roll(whole):
    """The cut waited until the bar's own end, and what was decided at it came that much too late."""
    hour = 60 * MINUTE_NS
    middle = whole.ends[(whole.ends % hour == 30 * MINUTE_NS) & (whole.ends > whole.ends[2000])][0]
    parts = [[each for each in whole.minutes if each.ts_ns < middle - MINUTE_NS], []]
    engine = engine_of(EVERY_RULE, {})
    engine.advance(parts[0], int(middle - MINUTE_NS))
    later = [each for each in whole.minutes if middle - MINUTE_NS <= each.ts_ns < middle]
    assert "ES" not in engine.advance(later, int(middle)).bars
    seam = int(middle + 10 * MINUTE_NS)
    engine.know_seam("ES", seam)
    assert not engine.advance([], seam - MINUTE_NS).is_slice
    done = engine.advance([], seam)
    assert done.bars["ES"]["end_ns"].tolist() == [seam]


def test_rolls_that_become_known_out_of_order_are_kept_in_order(whole):
    first, second, third = (int(whole.ends[i]) for i in (100, 200, 300))
    engine = engine_of(EVERY_RULE, {"ES": np.array([first], np.int64)})
    for seam in (third, second):
        engine.know_seam("ES", seam)
    assert engine.state()["seams/ES"].tolist() == [first, second, third]


def test_a_roll_that_becomes_known_inside_the_last_bar_leaves_at_its_end(whole):
    """The bar in progress kept the schedule of before: the exit came at the seam, an entry might have too."""
    seam = int(whole.seams["ES"][0])
    learnt = seam - 150 * MINUTE_NS  # half an hour before the last boundary that leaves a minute
    before = [each for each in whole.minutes if each.root == "ES" and each.ts_ns < learnt]
    after = [each for each in whole.minutes if each.root == "ES" and learnt <= each.ts_ns < seam]
    entry = {"ibs": [0.0, 1.0], "pivots": "none", "windows": []}
    given = {"strategy": {"entry": entry, "exits": {"flat_by": None}}, "symbols": {"ES": {}}}
    found = []
    for knows, resumed in ((True, False), (False, False), (False, True)):
        seams = {root: each for root, each in whole.seams.items() if knows or root != "ES"}
        engine = engine_of(given, seams)
        engine.advance(before, learnt)
        if not knows:
            engine.know_seam("ES", seam)
        if resumed:
            state = unpack(pack(engine.state()))
            engine = engine_of(given, {})
            engine.restore(state)
        decisions, _ = run(engine, after, every_minute_end(after))
        found.append(decisions.tobytes())
    assert found[0] == found[1] == found[2] != b""
