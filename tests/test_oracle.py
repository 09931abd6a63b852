"""The independent back-test against miniature days whose trades are worked out by hand.

All days are January 2025, exchange time; the session of Tuesday 7 opens on Monday 6 at 17:00.
Signal bars are five minutes wide unless a test says otherwise. ES has 50 USD a point.
"""

import copy
import datetime as dt

import pytest
from naive import MINUTE
from oracle import CHICAGO, Session, run

CONTRACTS = {
    "ES": {"tick_size": "0.25", "tick_value_usd": 12.5, "order": 0},
    "NQ": {"tick_size": "0.25", "tick_value_usd": 5.0, "order": 1},
    "MES": {"tick_size": "0.25", "tick_value_usd": 1.25, "order": 2},
}
STRATEGY = {
    "signal_bar": "5m",
    "entry": {"ibs": [0.0, 0.2], "windows": [], "pivots": "none", "max_wait": "5m"},
    "filters": {},
    "exits": {
        "stop": None,
        "target": None,
        "ibs": None,
        "bars": None,
        "flat_by": None,
        "flat_before_early_close": True,
        "protective": None,
    },
    "cooldown_bars": 0,
}


def at(text):
    """Turn "07 10:05" into nanoseconds."""
    local = dt.datetime.strptime(f"2025-01-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=CHICAGO)
    return int(local.timestamp()) * 1_000_000_000


def session(day, close="16:00", *, early=False):
    """Give the session of a January day: 17:00 the evening before to its close."""
    end = at(f"{day:02} {close}")
    return Session(at(f"{day - 1:02} 17:00"), end, end, end, early, dt.date(2025, 1, day))


SESSIONS = [session(7), session(8), session(9)]


def bar(when, open_, high, low, close, contract=None, n=5):
    """Give the minutes of one bar: all of its movement in the first, then nothing."""
    start = at(when)
    minutes = [(start, contract, open_, high, low, close)]
    quiet = [(start + i * MINUTE, contract, close, close, close, close) for i in range(1, n)]
    return minutes + quiet


def dip(when, contract=None, n=5):
    """Give a bar that closes at 100, its low: IBS 0, the signal of every test."""
    return bar(when, 102.0, 102.0, 100.0, 100.0, contract, n)


def flat(when, price, contract=None, n=5):
    """Give a bar without movement: IBS 0.5, neither entry nor exit."""
    return bar(when, price, price, price, price, contract, n)


def settings(*, entry=None, exits=None, quantity=1, execute="ES", **strategy):
    """Give one symbol's block: what differs from the strategy above."""
    block = copy.deepcopy(STRATEGY)
    block["entry"].update(entry or {})
    block["exits"].update(exits or {})
    block.update(strategy)
    return {"quantity": quantity, "execute": execute, "strategy": block}


def config(symbols, costs=(0.0, 0.0), risk=None, **more):
    """Give a whole configuration."""
    commission, ticks = costs
    return {
        "symbols": symbols,
        "costs": {"commission_per_side": commission, "slippage_ticks": ticks},
        "risk": risk or {},
        **more,
    }


def back_test(*bars, sessions=None, costs=(0.0, 0.0), risk=None, more=None, **symbol):
    """Back-test ES alone."""
    minutes = [minute for minutes in bars for minute in minutes]
    whole = config({"ES": settings(**symbol)}, costs, risk, **(more or {}))
    return run({"ES": minutes}, whole, CONTRACTS, {"ES": sessions or SESSIONS})


def brief(result):
    """Give each trade's entry, exit and reason."""
    return [
        (t["entry_time"], t["entry_price"], t["exit_time"], t["exit_price"], t["exit_reason"])
        for t in result.trades
    ]


def test_a_stop_is_decided_at_a_close_and_filled_at_the_next_open():
    result = back_test(
        dip("07 10:00", "ESH2025"),  # signal, known at 10:05
        bar("07 10:05", 100.0, 100.5, 98.5, 99.25, "ESH2025"),  # filled at 100; low is no stop
        bar("07 10:10", 99.25, 99.25, 98.75, 99.0, "ESH2025"),  # close 99 <= 100 * 0.99
        flat("07 10:15", 98.75, "ESH2025"),
        costs=(1.25, 0.5),
        exits={"stop": {"percent": 1.0}, "target": {"percent": 1.0}},
    )
    assert result.trades == [
        {
            "symbol": "ES",
            "instrument": "ESH2025",
            "side": "long",
            "quantity": 1,
            "entry_time": at("07 10:05"),
            "entry_price": 100.0,
            "exit_time": at("07 10:15"),
            "exit_price": 98.75,
            "exit_reason": "stop",
            "gross_usd": -62.5,  # 1.25 points of 50 USD
            "commission_usd": 2.5,
            "slippage_usd": 12.5,  # two fills of half a tick
            "net_usd": -77.5,
            "bars_held": 2,
            "mae_usd": -75.0,  # the low of 98.5
            "mfe_usd": 25.0,  # the high of 100.5
            "ibs_entry": 0.0,
            "ibs_exit": 0.5,
        }
    ]
    assert result.decisions == [
        (at("07 10:05"), "ES", "entry", "taken"),
        (at("07 10:15"), "ES", "exit", "stop"),
    ]
    assert result.candidates == [(at("07 10:05"), "ES")]
    # The two quiet bars and the one in the middle are no signals.
    assert result.blocked["ES"] == {"ibs": 3}


def test_a_target_is_reached_by_a_close_at_the_level():
    result = back_test(
        dip("07 10:00"),
        bar("07 10:05", 100.0, 101.5, 100.0, 100.75),  # high above 101, close below
        flat("07 10:10", 101.0),
        flat("07 10:15", 101.25),
        exits={"stop": {"percent": 1.0}, "target": {"percent": 1.0}, "ibs": [0.8, 1.0]},
    )
    assert brief(result) == [(at("07 10:05"), 100.0, at("07 10:15"), 101.25, "target")]
    assert result.trades[0]["instrument"] == "ES"


def test_an_ibs_exit_may_come_at_the_end_of_the_bar_of_the_fill():
    result = back_test(
        dip("07 10:00"),
        bar("07 10:05", 100.0, 100.5, 99.5, 100.5),
        flat("07 10:10", 100.25),
        exits={"ibs": [0.8, 1.0], "bars": 1},
    )
    assert brief(result) == [(at("07 10:05"), 100.0, at("07 10:10"), 100.25, "ibs")]
    assert result.trades[0]["ibs_exit"] == 1.0
    assert result.trades[0]["bars_held"] == 1


def test_bars_counts_the_bar_of_the_fill_as_the_first():
    result = back_test(
        dip("07 10:00"),
        flat("07 10:05", 100.0),
        flat("07 10:10", 100.25),
        flat("07 10:15", 100.5),
        flat("07 10:20", 100.75),
        exits={"bars": 3},
    )
    assert brief(result) == [(at("07 10:05"), 100.0, at("07 10:20"), 100.75, "bars")]
    assert result.trades[0]["bars_held"] == 3


def test_bars_counts_only_bars_that_printed():
    result = back_test(
        dip("07 10:00"),
        flat("07 10:05", 100.0),
        flat("07 10:20", 100.25),
        flat("07 10:25", 100.5),
        exits={"bars": 2},
    )
    assert brief(result) == [(at("07 10:05"), 100.0, at("07 10:25"), 100.5, "bars")]


# The range of every bar below is 2, so ATR(14) = 2 from bar 15 on.
FIFTEEN_BARS = [
    minute
    for i in range(14)
    for minute in bar(f"07 {8 + i // 12:02}:{i % 12 * 5:02}", 101.0, 102.0, 100.0, 101.0)
] + dip("07 09:10")


def test_an_atr_distance_is_frozen_at_the_signal_bar():
    result = back_test(
        FIFTEEN_BARS,
        bar("07 09:15", 100.0, 110.0, 99.0, 98.25),  # a large range moves the ATR, not the stop
        flat("07 09:20", 98.0),  # 98 <= 100 - 1 * 2
        flat("07 09:25", 97.5),
        exits={"stop": {"atr": 1.0}},
    )
    assert brief(result) == [(at("07 09:15"), 100.0, at("07 09:25"), 97.5, "stop")]


def test_an_atr_distance_asks_for_fifteen_bars():
    result = back_test(FIFTEEN_BARS[5:], exits={"target": {"atr": 1.0}})
    assert result.candidates == []
    assert result.blocked["ES"] == {"ibs": 13, "warm_up": 1}


def test_flat_by_closes_a_position_and_refuses_entries_up_to_the_close():
    result = back_test(
        dip("07 14:50"),
        flat("07 14:55", 100.0),  # filled at 14:55; ends at 15:00
        dip("07 15:00"),  # known at 15:05
        dip("07 15:55"),  # known at the close
        dip("07 17:00"),  # the next session: 17:05 is free again
        flat("07 17:05", 100.5),
        exits={"flat_by": "15:00"},
    )
    assert brief(result) == [(at("07 14:55"), 100.0, at("07 15:00"), 102.0, "flat_by")]
    assert result.blocked["ES"]["flat_by"] == 2
    assert result.decisions == [
        (at("07 14:55"), "ES", "entry", "taken"),
        (at("07 15:00"), "ES", "exit", "flat_by"),
        (at("07 17:05"), "ES", "entry", "taken"),
    ]


def test_flat_by_is_served_by_the_first_own_close_however_late():
    result = back_test(
        dip("07 14:50"),
        flat("07 14:55", 100.0, n=1),
        flat("07 15:30", 100.25),  # its close at 15:35 is the second after the fill
        flat("07 15:35", 100.5),
        exits={"flat_by": "15:01"},
    )
    assert brief(result) == [(at("07 14:55"), 100.0, at("07 15:35"), 100.5, "flat_by")]


def test_flat_by_in_the_evening_is_the_evening_before_the_trade_date():
    result = back_test(
        dip("07 15:50"),
        flat("07 15:55", 100.0),
        flat("07 17:30", 100.25),  # its close at 17:35 is before 18:00
        flat("07 17:55", 100.5),  # closes at 18:00, which is Wednesday's instant
        flat("07 18:05", 100.75),
        dip("08 15:50"),  # from 18:00 to Wednesday's close nothing enters
        exits={"flat_by": "18:00"},
    )
    # Tuesday's own instant was Monday 18:00, so Tuesday 15:55 is refused as well.
    assert result.trades == []
    assert result.blocked["ES"] == {"ibs": 4, "flat_by": 2}
    result = back_test(
        dip("06 17:00"),
        flat("06 17:05", 100.0),
        flat("06 17:55", 100.5),
        flat("06 18:05", 100.75),
        exits={"flat_by": "18:00"},
    )
    assert brief(result) == [(at("06 17:05"), 100.0, at("06 18:05"), 100.75, "flat_by")]


def test_flat_by_after_an_early_close_is_served_in_the_next_session():
    early = [session(7, "12:15", early=True), session(8)]
    result = back_test(
        dip("07 12:00"),
        flat("07 12:05", 100.0),
        flat("07 17:00", 100.25),  # closes at 17:05, after Tuesday 15:00
        flat("07 17:05", 100.5),
        sessions=early,
        exits={"flat_by": "15:00", "flat_before_early_close": False},
    )
    assert brief(result) == [(at("07 12:05"), 100.0, at("07 17:05"), 100.5, "flat_by")]


def test_an_early_close_flattens_at_the_last_boundary_that_leaves_a_minute():
    # One-hour bars, close at 12:15: the boundary is 12:00, which leaves a quarter of an hour.
    early = [session(7, "12:15", early=True), session(8)]
    bars = [
        dip("07 10:00", n=60),
        flat("07 11:00", 100.0, n=60),
        dip("07 12:00", n=15),  # known at 12:15: too late
        dip("07 17:00", n=60),
    ]
    result = back_test(*bars, sessions=early, signal_bar="1h")
    assert brief(result) == [(at("07 11:00"), 100.0, at("07 12:00"), 102.0, "flat_by")]
    assert result.blocked["ES"] == {"ibs": 1, "early_close": 1}
    assert result.decisions[-1] == (at("07 18:00"), "ES", "entry", "taken")


def test_an_early_close_is_a_common_close_when_flattening_is_off():
    early = [session(7, "12:15", early=True), session(8)]
    result = back_test(
        dip("07 10:00", n=60),
        flat("07 11:00", 100.0, n=60),
        flat("07 12:00", 100.0, n=15),
        sessions=early,
        signal_bar="1h",
        exits={"flat_before_early_close": False},
    )
    assert result.trades == []
    assert result.open_positions[0]["entry_time"] == at("07 11:00")


def test_an_early_boundary_that_is_the_close_leaves_no_minute():
    # Close at 12:00: the boundary that leaves a minute is 11:00.
    early = [session(7, "12:00", early=True), session(8)]
    result = back_test(
        dip("07 09:00", n=60),
        flat("07 10:00", 100.0, n=60),
        dip("07 11:00", n=60),
        sessions=early,
        signal_bar="1h",
    )
    assert brief(result) == [(at("07 10:00"), 100.0, at("07 11:00"), 102.0, "flat_by")]


# Tuesday is the old contract's last session: R is 17:00, the last boundary with a minute 15:55.
def test_a_roll_leaves_at_the_last_boundary_that_leaves_the_old_contract_a_minute():
    result = back_test(
        dip("07 15:45", "ESH2025"),
        flat("07 15:50", 100.0, "ESH2025"),  # filled 15:50; 15:55 decides the roll
        dip("07 15:55", "ESH2025"),  # known at 16:00: no entry any more
        dip("07 17:05", "ESM2025"),  # the new contract, 17:10
        flat("07 17:10", 100.0, "ESM2025"),
    )
    assert brief(result) == [(at("07 15:50"), 100.0, at("07 15:55"), 102.0, "roll")]
    assert result.trades[0]["instrument"] == "ESH2025"
    assert result.blocked["ES"] == {"ibs": 2, "roll": 1}
    assert result.open_positions[0]["instrument"] == "ESM2025"


def test_an_exit_that_is_pending_at_the_seam_fills_at_the_old_last_close():
    result = back_test(
        dip("07 15:40", "ESH2025"),
        flat("07 15:45", 100.0, "ESH2025"),
        flat("07 15:50", 99.5, "ESH2025"),  # 15:55 decides; the old contract is silent afterwards
        flat("07 17:05", 149.0, "ESM2025"),
    )
    assert brief(result) == [(at("07 15:45"), 100.0, at("07 17:00"), 99.5, "roll")]
    assert result.decisions[-1] == (at("07 15:55"), "ES", "exit", "roll")
    assert result.trades[0]["mae_usd"] == -25.0
    assert result.trades[0]["bars_held"] == 2


def test_a_position_without_a_decision_leaves_at_the_seam():
    # Nothing prints from the fill's bar to the roll, so no own close decides before R.
    result = back_test(
        dip("07 15:40", "ESH2025"),
        flat("07 15:45", 100.0, "ESH2025"),
        flat("07 17:05", 149.0, "ESM2025"),
    )
    assert brief(result) == [(at("07 15:45"), 100.0, at("07 17:00"), 100.0, "roll")]
    assert result.decisions[-1] == (at("07 17:00"), "ES", "exit", "roll")
    assert result.trades[0]["bars_held"] == 1
    assert result.trades[0]["ibs_exit"] is None


def test_a_roll_inside_a_session_cuts_the_bar_and_lapses_the_entry():
    # R = 10:08, the new contract's first minute: the last boundary with a minute is 10:05.
    new = [(at("07 10:08"), "ESM2025", 150.0, 150.0, 150.0, 150.0)]
    result = back_test(
        dip("07 09:55", "ESH2025"),  # known at 10:00, before 10:05: taken
        new,
        flat("07 10:10", 150.0, "ESM2025"),
    )
    assert result.decisions == [(at("07 10:00"), "ES", "entry", "taken")]
    assert result.trades == []
    assert result.open_positions == []
    result = back_test(
        dip("07 10:00", "ESH2025"),  # known at 10:05: refused
        new,
        flat("07 10:10", 150.0, "ESM2025"),
    )
    assert result.blocked["ES"] == {"roll": 1, "ibs": 2}


def test_an_indicator_takes_no_difference_across_a_roll():
    # Closes 10:00 on: 100, 101, then the new contract opens at 151 and closes at 150: the change
    # is -1, not 49. RSI(2) = 100 - 100/(1 + 0.5/0.5) = 50 for changes +1, -1.
    bars = [
        flat("07 10:00", 100.0, "ESH2025"),
        flat("07 10:05", 101.0, "ESH2025"),
        bar("07 10:10", 151.0, 151.0, 150.0, 150.0, "ESM2025"),
    ]
    for allowed, candidates in (([50, 50], 1), ([51, 100], 0)):
        result = back_test(*bars, filters={"bar_rsi2": allowed})
        assert len(result.candidates) == candidates


def test_an_entry_lapses_when_no_minute_opens_in_time():
    for minute, fills in (("07 10:10", 1), ("07 10:11", 0)):  # five minutes, both ends included
        result = back_test(dip("07 10:00"), flat(minute, 100.0, n=1))
        assert len(result.open_positions) == fills
        assert result.decisions == [(at("07 10:05"), "ES", "entry", "taken")]


def test_the_wait_for_a_fill_is_open_market_time():
    # Known at the close of Tuesday: 17:04 is four minutes of market time later.
    result = back_test(dip("07 15:55"), flat("07 17:04", 100.25, n=1))
    assert result.open_positions[0]["entry_time"] == at("07 17:04")
    # A break in the session stops the clock as well.
    pause = Session(
        at("06 17:00"), at("07 16:00"), at("07 10:05"), at("07 11:00"), *SESSIONS[0][4:]
    )
    result = back_test(dip("07 10:00"), flat("07 11:03", 100.25, n=1), sessions=[pause])
    assert result.open_positions[0]["entry_time"] == at("07 11:03")


def test_a_protective_stop_fills_at_its_level_and_a_gapped_one_at_the_open():
    # 2 % below the signal close of 100: 98.
    exits = {"protective": {"stop": {"percent": 2.0}, "target": {"percent": 3.0}}}
    head = [dip("07 10:00"), flat("07 10:05", 99.5)]
    at_level = back_test(*head, bar("07 10:10", 99.0, 104.0, 97.0, 99.0), exits=exits)
    assert brief(at_level) == [(at("07 10:05"), 99.5, at("07 10:10"), 98.0, "protective_stop")]
    gapped = back_test(*head, bar("07 10:10", 97.25, 104.0, 97.0, 99.0), exits=exits)
    assert brief(gapped) == [(at("07 10:05"), 99.5, at("07 10:10"), 97.25, "protective_stop")]
    # The exit minute's low does not count: the worst price is the exit's own, 2.25 points.
    assert gapped.trades[0]["mae_usd"] == -112.5
    assert gapped.trades[0]["mfe_usd"] == 0.0
    assert gapped.trades[0]["bars_held"] == 2
    assert gapped.trades[0]["ibs_exit"] is None
    assert gapped.decisions[-1] == (at("07 10:10"), "ES", "exit", "protective_stop")


def test_a_protective_target_fills_at_its_level_from_the_fill_minute_on():
    result = back_test(
        dip("07 10:00"),
        bar("07 10:05", 100.0, 103.5, 99.0, 100.0),  # the target is 103
        exits={"protective": {"target": {"percent": 3.0}}},
    )
    assert brief(result) == [
        (at("07 10:05"), 100.0, at("07 10:05"), 103.0, "protective_target"),
    ]
    assert result.trades[0]["mfe_usd"] == 150.0
    assert result.trades[0]["mae_usd"] == 0.0
    assert result.trades[0]["bars_held"] == 1


def test_a_protective_level_is_rounded_to_the_tick_with_halves_up():
    # 0.125 % of 100 is half a tick: 99.875 becomes 100 (a stop at once), 100.125 becomes 100.25.
    level = {"percent": 0.125}
    minutes = [dip("07 10:00"), bar("07 10:05", 100.5, 100.5, 100.25, 100.5)]
    result = back_test(*minutes, exits={"protective": {"stop": level}})
    assert result.trades == []
    minutes = [dip("07 10:00"), bar("07 10:05", 100.0, 100.5, 100.0, 100.5)]
    result = back_test(*minutes, exits={"protective": {"target": level}})
    assert brief(result) == [
        (at("07 10:05"), 100.0, at("07 10:05"), 100.25, "protective_target"),
    ]
    minutes = [dip("07 10:00"), bar("07 10:05", 100.25, 100.25, 100.0, 100.25)]
    result = back_test(*minutes, exits={"protective": {"stop": level}})
    assert brief(result) == [(at("07 10:05"), 100.25, at("07 10:05"), 100.0, "protective_stop")]


def test_an_entry_beyond_its_target_leaves_at_the_entry_price():
    level = {"percent": 0.25}
    minutes = [dip("07 10:00"), bar("07 10:05", 101.0, 101.5, 100.75, 101.0)]
    result = back_test(*minutes, exits={"protective": {"target": level}})
    assert brief(result) == [
        (at("07 10:05"), 101.0, at("07 10:05"), 101.0, "protective_target"),
    ]


def test_a_decided_exit_comes_before_a_protective_level_in_its_fill_minute():
    result = back_test(
        dip("07 10:00"),
        flat("07 10:05", 100.0),
        bar("07 10:10", 100.25, 100.25, 90.0, 95.0),
        exits={"bars": 1, "protective": {"stop": {"percent": 2.0}}},
    )
    assert brief(result) == [(at("07 10:05"), 100.0, at("07 10:10"), 100.25, "bars")]


def test_a_cooldown_refuses_the_first_own_closes_after_the_exit():
    bars = [
        dip("07 10:00"),
        flat("07 10:05", 100.0),  # filled 10:05, leaves by `bars` at 10:10
        dip("07 10:10"),  # filled at its open; 10:15 is the first close after the fill
        dip("07 10:15"),  # 10:20 the second
        dip("07 10:20"),  # 10:25 the third
    ]
    for n, entries in ((0, ["10:05", "10:15"]), (1, ["10:05", "10:20"]), (2, ["10:05", "10:25"])):
        result = back_test(*bars, exits={"bars": 1}, cooldown_bars=n)
        taken = [time for time, _, action, reason in result.decisions if reason == "taken"]
        assert taken[:2] == [at(f"07 {clock}") for clock in entries]


def test_an_exit_and_an_entry_of_one_symbol_never_share_a_slice():
    result = back_test(dip("07 10:00"), dip("07 10:05"), flat("07 10:10", 99.0), exits={"bars": 1})
    assert result.decisions == [
        (at("07 10:05"), "ES", "entry", "taken"),
        (at("07 10:10"), "ES", "exit", "bars"),
        (at("07 10:10"), "ES", "entry", "blocked:exit"),
    ]


def two(es_bars, nq_bars, risk=None, costs=(0.0, 0.0), **symbol):
    """Back-test NQ and ES, in this order in the configuration."""
    minutes = {
        "NQ": [minute for minutes in nq_bars for minute in minutes],
        "ES": [minute for minutes in es_bars for minute in minutes],
    }
    symbols = {root: settings(execute=root, **symbol) for root in ("NQ", "ES")}
    sessions = {"ES": SESSIONS, "NQ": SESSIONS}
    return run(minutes, config(symbols, costs, risk), CONTRACTS, sessions)


def test_the_contract_map_breaks_the_tie_for_the_last_slot():
    bars = [dip("07 10:00"), flat("07 10:05", 100.0)]
    result = two(bars, bars, risk={"max_positions": 1})
    assert result.decisions == [
        (at("07 10:05"), "ES", "entry", "taken"),
        (at("07 10:05"), "NQ", "entry", "blocked:max_positions"),
    ]
    assert result.blocked["NQ"]["max_positions"] == 1


def test_a_slot_is_free_in_the_slice_after_the_exit_has_filled():
    # ES leaves: decided 10:10, filled 10:10 (its next minute). The slot is taken at the slice of
    # 10:10 itself and free at 10:15.
    es = [dip("07 10:00"), flat("07 10:05", 100.0), flat("07 10:10", 100.0)]
    nq = [flat("07 10:00", 102.0), dip("07 10:05"), dip("07 10:10"), flat("07 10:15", 100.0)]
    result = two(es, nq, risk={"max_positions": 1}, exits={"bars": 1})
    assert [d for d in result.decisions if d[1] == "NQ"][:2] == [
        (at("07 10:10"), "NQ", "entry", "blocked:max_positions"),
        (at("07 10:15"), "NQ", "entry", "taken"),
    ]


def test_a_lapsed_entry_gives_its_slot_back():
    # ES waits until 10:10 included; at 10:15 its slot is free.
    es = [dip("07 10:00")]
    nq = [flat("07 10:00", 102.0), dip("07 10:05"), dip("07 10:10")]
    result = two(es, nq, risk={"max_positions": 1})
    assert result.decisions == [
        (at("07 10:05"), "ES", "entry", "taken"),
        (at("07 10:10"), "NQ", "entry", "blocked:max_positions"),
        (at("07 10:15"), "NQ", "entry", "taken"),
    ]


def test_an_order_limit_counts_exits_and_entries_of_the_minute():
    # At 10:10 ES decides its exit, so a limit of one order refuses NQ's entry.
    es = [dip("07 10:00"), flat("07 10:05", 100.0), flat("07 10:10", 100.0)]
    nq = [flat("07 10:00", 102.0), dip("07 10:05"), flat("07 10:10", 100.0)]
    result = two(es, nq, risk={"max_orders_per_minute": 1}, exits={"bars": 1})
    assert result.decisions[-1] == (at("07 10:10"), "NQ", "entry", "blocked:max_orders_per_minute")


def test_no_entry_is_decided_close_to_the_close():
    result = back_test(
        dip("07 15:35"),  # 15:40 is twenty minutes away
        flat("07 15:40", 100.0),
        exits={"bars": 1},
        risk={"no_entry_before_close": "20m"},
    )
    assert result.decisions == [
        (at("07 15:40"), "ES", "entry", "blocked:no_entry_before_close"),
    ]
    result = back_test(dip("07 15:30"), risk={"no_entry_before_close": "20m"})
    assert result.decisions == [(at("07 15:35"), "ES", "entry", "taken")]


def test_the_daily_loss_limit_flattens_all_and_refuses_entries_until_the_next_session():
    # ES is filled at 100 at 10:05. Its last minute close before the slice of 10:10 is 99: open
    # 50 USD down, with costs of 2 * 1.25 + 2 * 0.5 * 12.5 = 15 that makes -65. NQ is filled at
    # 100 (20 USD a point): costs 2.5 + 5 = 7.5, at 100 that makes -7.5. Together -72.5.
    es = [
        dip("07 10:00"),
        bar("07 10:05", 100.0, 100.0, 98.0, 99.0),
        flat("07 10:10", 98.0),
        dip("07 10:15"),
        dip("07 17:00"),  # Wednesday's session
        flat("07 17:05", 100.0),
    ]
    nq = [dip("07 10:00"), flat("07 10:05", 100.0), flat("07 10:10", 100.0)]
    result = two(es, nq, risk={"daily_loss_usd": 72.5}, costs=(1.25, 0.5))
    assert result.decisions == [
        (at("07 10:05"), "ES", "entry", "taken"),
        (at("07 10:05"), "NQ", "entry", "taken"),
        (at("07 10:10"), "ES", "exit", "portfolio"),
        (at("07 10:10"), "NQ", "exit", "portfolio"),
        (at("07 10:20"), "ES", "entry", "blocked:daily_loss"),
        (at("07 17:05"), "ES", "entry", "taken"),
    ]
    assert [(t["symbol"], t["exit_time"], t["exit_price"]) for t in result.trades] == [
        ("ES", at("07 10:10"), 98.0),
        ("NQ", at("07 10:10"), 100.0),
    ]
    spared = two(es, nq, risk={"daily_loss_usd": 72.75}, costs=(1.25, 0.5))
    # At the slice of 10:15 ES is at 98: -115 - 7.5 is beyond this limit too.
    assert [d[:1] for d in spared.decisions if d[3] == "portfolio"] == [(at("07 10:15"),)] * 2


def test_a_portfolio_exit_is_decided_at_any_symbols_slice():
    # NQ's bars are an hour wide; ES's slice at 10:10 sees NQ's loss and flattens it.
    es = [flat("07 10:00", 100.0), flat("07 10:05", 100.0)]
    nq = [dip("07 09:00", n=60), flat("07 10:00", 90.0, n=1), flat("07 10:01", 80.0, n=59)]
    minutes = {"ES": [m for b in es for m in b], "NQ": [m for b in nq for m in b]}
    symbols = {"ES": settings(), "NQ": settings(execute="NQ", signal_bar="1h")}
    whole = config(symbols, risk={"daily_loss_usd": 200.0})
    result = run(minutes, whole, CONTRACTS, {"ES": SESSIONS, "NQ": SESSIONS})
    # Filled at 90, at 80 from 10:01 on: 10 points of 20 USD.
    assert brief(result) == [(at("07 10:00"), 90.0, at("07 10:05"), 80.0, "portfolio")]
    assert result.trades[0]["ibs_exit"] is None
    assert result.trades[0]["bars_held"] == 1


def test_money_is_that_of_the_executed_contract():
    result = back_test(
        dip("07 10:00"),
        flat("07 10:05", 100.0),
        flat("07 10:10", 102.0),
        execute="MES",
        quantity=3,
        costs=(0.5, 1.0),
        exits={"bars": 1},
    )
    trade = result.trades[0]
    assert trade["gross_usd"] == 30.0  # 2 points * 3 * 5 USD
    assert trade["commission_usd"] == 3.0  # 2 * 3 * 0.5
    assert trade["slippage_usd"] == 7.5  # 2 * 3 * 1.25
    assert trade["net_usd"] == 19.5


def test_a_window_holds_the_start_of_the_bar_and_excludes_its_end():
    entry = {"windows": [["10:00", "10:05"], ["17:00", "24:00"]]}
    bars = [dip("07 09:55"), dip("07 10:00"), dip("07 10:05")]
    result = back_test(*bars, entry=entry)
    assert result.candidates == [(at("07 10:05"), "ES")]
    assert result.blocked["ES"] == {"window": 2}


def test_bars_before_the_start_are_observed_and_those_after_the_end_not_read():
    bars = [
        dip("07 10:00"),
        dip("07 15:55"),
        dip("07 17:00"),  # trade date Wednesday 8
        dip("08 17:00"),  # trade date Thursday 9
    ]
    more = {"start": dt.date(2025, 1, 8), "end": dt.date(2025, 1, 8)}
    # RSI(2) of falling closes needs the two bars before the start: all three are 100, so 50.
    result = back_test(*bars, more=more, filters={"bar_rsi2": [50, 50]})
    assert result.candidates == [(at("07 17:05"), "ES")]
    assert result.blocked["ES"] == {}
    more = {"start": dt.date(2025, 1, 8)}
    result = back_test(*bars, more=more, exits={"bars": 9})
    assert result.candidates == [(at("07 17:05"), "ES"), (at("08 17:05"), "ES")]


def test_a_daily_value_is_that_of_the_last_session_closed():
    # Tuesday's session: high 102, low 100, close 100.5: IBS 0.25.
    bars = [
        dip("07 10:00"),
        flat("07 15:55", 100.5),
        dip("07 17:00"),
        dip("08 15:55"),
        dip("08 17:00"),
    ]
    result = back_test(*bars, filters={"day_ibs": [0.25, 0.25]})
    # At 16:00 on Wednesday that session is closed as well, with its own IBS of 0.
    assert result.candidates == [(at("07 17:05"), "ES")]
    assert result.blocked["ES"] == {"warm_up": 1, "ibs": 1, "day_ibs": 2}


def test_inside_pivots_needs_both_and_a_close_between_them():
    # Bars of range 1 whose tops draw a peak of 10 in the middle: then a trough of 2, then up.
    tops = [5, 6, 7, 8, 9, 10, 9, 8, 7, 6, 2, 6, 7, 8, 9, 9]
    bars = []
    for i, top in enumerate(tops):
        when = f"07 {10 + i // 12:02}:{i % 12 * 5:02}"
        bars.append(bar(when, top - 0.5, float(top), top - 1.0, top - 1.0))  # IBS 0 throughout
    result = back_test(*bars, entry={"pivots": "inside"})
    # The pivot high 10 (bar 5) is known at bar 10, the pivot low 1 (bar 10) at bar 15.
    assert result.candidates == [(at("07 11:20"), "ES")]
    assert result.blocked["ES"] == {"warm_up": 10, "pivots": 5}


def test_a_filter_takes_a_set_as_well_as_a_range():
    for days, candidates in (([2], 1), ([1, 3], 0)):
        result = back_test(dip("06 17:00"), filters={"cal_dow": {"in": days}})
        assert len(result.candidates) == candidates  # Monday evening is Tuesday's session


def test_a_late_minute_makes_a_bar_of_its_own():
    # 16:05 is outside the calendar. Its bar is known at 16:10 and may signal.
    result = back_test(dip("07 16:05"), flat("07 17:01", 100.0, n=1))
    assert [time for time, *_ in result.decisions] == [at("07 16:10")]
    assert [p["entry_time"] for p in result.open_positions] == [at("07 17:01")]


def test_the_last_bar_decides_only_when_the_data_reach_its_end():
    result = back_test(dip("07 10:00", n=4))
    assert result.candidates == []
    assert result.blocked["ES"] == {}


def test_a_minute_before_the_first_session_is_refused():
    with pytest.raises(ValueError, match="before its first session"):
        back_test(dip("06 16:00"))
