"""Which contract is in force when, from what the vendor says of UTC days; and how much past live needs."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from dbn_vendor import rolling_vendor
from live_worlds import MAP, at

from adapters.databento_history import DatabentoHistory, front_days
from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.config import load_settings
from ibs_core.engine import Engine
from ibs_core.errors import EnvironmentFault
from ibs_core.recording import minutes_of
from ibs_core.roll_table import RollTable, RollWatch
from ibs_core.sessions import load_sessions
from ibs_core.universe import Universe
from ibs_core.warm_up import first_needed_ns

SINCE = at("2025-12-11T15:00")


def day(text):
    return at(text) // DAY_NS


def table_of(name="ESZ2025"):
    return RollTable({"ES": [(SINCE, name)]})


def fronts(change, first="2025-12-08", last="2025-12-18"):
    """ESZ2025 until a UTC day, ESH2026 from then on."""
    days = range(day(first), day(last) + 1)
    return {each: "ESH2026" if each >= day(change) else "ESZ2025" for each in days}


@pytest.mark.parametrize(
    ("change", "seam"),
    [
        ("2025-12-16", "2025-12-16T23:00"),  # Tuesday's close is the first that it is the front at
        ("2025-12-12", "2025-12-14T23:00"),  # Friday's close: in force from Sunday's open on
        ("2025-12-13", "2025-12-15T23:00"),  # on Saturday nothing closes
    ],
)
def test_the_front_at_a_close_is_in_force_from_the_next_open(change, seam):
    table = table_of()
    assert table.learn("ES", fronts(change), MAP, SINCE) == [at(seam)]
    assert table.active("ES", at(seam) - 1) == "ESZ2025"
    assert table.active("ES", at(seam)) == "ESH2026"
    assert table.learn("ES", fronts(change), MAP, SINCE) == []


def test_it_never_goes_back_to_a_contract_that_expires_before():
    table = table_of("ESH2026")
    assert table.learn("ES", fronts("2025-12-17"), MAP, SINCE) == []
    assert table.active("ES", at("2025-12-16")) == "ESH2026"
    days = fronts("2025-12-10") | {day("2025-12-15"): "ESZ2025"}
    assert table_of().learn("ES", days, MAP, SINCE) == [at("2025-12-11T23:00")]


class Asked:
    """Answers at once, or fails; remembers the days."""

    def __init__(self, *answers):
        self.answers, self.days = list(answers), []

    def __call__(self, first, last):
        self.days.append((first, last))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"ES": {each: name for each, name in answer.items() if first <= each <= last}}


class AtOnce:
    def submit(self, call, *values):
        future = Future()
        try:
            future.set_result(call(*values))
        except EnvironmentFault as error:
            future.set_exception(error)
        return future


def watch_of(asked, told):
    watch = RollWatch(table_of(), MAP, ["ES"], asked, told.append)
    watch._worker.shutdown()
    watch._worker = AtOnce()
    return watch


def learned(watch, first, last):
    """Look at every minute of a span."""
    found = []
    for now_ns in range(at(first), at(last), MINUTE_NS):
        found += [(now_ns, *each) for each in watch.learn(now_ns)]
    return found


def test_the_vendor_is_asked_once_a_day_and_a_roll_is_known_before_the_last_boundary():
    asked, told = Asked(*[fronts("2025-12-16")] * 9), []
    watch = watch_of(asked, told)
    watch.start(SINCE, SINCE)
    ((known_ns, root, seam_ns),) = learned(watch, "2025-12-11T15:00", "2025-12-17T12:00")
    assert (root, seam_ns) == ("ES", at("2025-12-16T23:00"))
    assert at("2025-12-16") < known_ns < at("2025-12-16T00:15")
    assert len(asked.days) == 7
    assert told == []


def test_a_vendor_that_fails_or_does_not_know_yet_is_asked_again():
    fault, known = EnvironmentFault("Databento does not answer"), fronts("2025-12-12")
    unknown = {each: name for each, name in known.items() if each < day("2025-12-12")}
    asked, told = Asked(known, fault, unknown, known), []
    watch = watch_of(asked, told)
    watch.start(SINCE, SINCE)
    found = learned(watch, "2025-12-11T15:00", "2025-12-12T12:00")
    assert [each[2] for each in found] == [at("2025-12-14T23:00")]
    assert len(asked.days) == 4
    assert len(told) == 1
    with pytest.raises(EnvironmentFault):
        watch_of(Asked(fault), told).start(SINCE, SINCE)


def test_the_vendor_says_which_contract_was_the_front_day_by_day():
    days = front_days(rolling_vendor(), MAP, ["ES"], day("2025-12-14"), day("2025-12-17"))
    assert list(days["ES"].values()) == ["ESZ2025", "ESZ2025", "ESH2026", "ESH2026"]
    assert list(days["ES"]) == [day("2025-12-14") + i for i in range(4)]


@pytest.mark.parametrize(
    ("filters", "sessions"),
    [
        ({}, 1),
        ({"day_atr_z_rank": [0, 1]}, 760),
        ({"day_pair_ibs_rank": [0, 1]}, 500),
        ({"bar_pair_z_rank": [0, 1]}, 109),
        ({"bar_pair_rsi14_rank": [0, 1]}, 109),
    ],
)
def test_warm_up_reaches_back_as_far_as_windows_are_full_and_little_more(filters, sessions):
    own = load_settings(overrides={"strategy": {"filters": filters}, "symbols": {"ES": {}}})
    universe = Universe(own, MAP, start=None, end=None)
    symbol = universe.get("ES")
    start_ns = at("2025-06-11T15:00")
    first_ns = first_needed_ns([symbol], universe, start_ns)
    span = load_sessions("equity", first_ns, start_ns)
    n = int(np.count_nonzero((span.open_ns >= first_ns) & (span.close_ns <= start_ns)))
    bars = [symbol.wiring.full_bars, *symbol.wiring.pair_on.values()]
    days = [symbol.wiring.full_days]
    for each in symbol.wiring.lookups:
        (bars if each.side == "bar" else days).append(each.node.full)
    needed = max(*days, -(-max(bars) // 23))
    assert needed >= sessions
    assert needed <= n <= needed + 8


def test_history_cut_after_a_roll_goes_on_in_the_same_contract(tmp_path):
    held = DatabentoHistory(rolling_vendor(), MAP, tmp_path).minutes(
        ["ES"], at("2025-12-10"), at("2025-12-20")
    )
    split = at("2025-12-17T15:30")
    past = held.between(at("2025-12-16T12:00"), split)  # of the second contract alone
    own = load_settings(overrides={"symbols": {"ES": {}}})
    engine = Engine(Universe(own, MAP, start=None, end=None), ["ES"], own, {})
    engine.warm(past, split)
    rest = minutes_of(held.between(split, None))
    done = engine.advance(rest, rest[-1].ts_ns + MINUTE_NS)
    assert engine.contracts_of("ES") == ("ESH2026",)
    assert not done.bars["ES"]["seam_ns"].any()
