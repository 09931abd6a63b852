"""What a live boundary reads of others, without a search and with most bars forgotten, is what a search finds."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibs_core.bars import BAR, TIMEFRAMES_NS
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.feeds import Feed, newest_of
from ibs_core.newest import Newest, Reader
from ibs_core.sessions import load_sessions, session_index
from ibs_core.tail import Tail
from ibs_core.wiring import wire

HOUR = 3600 * 10**9
FIRST = int(np.datetime64("2024-03-04T00", "ns").astype(np.int64))
N_HOURS = 24 * 8
GROUPS = {"ES": "equity", "NQ": "equity", "ZC": "grains"}
CATALOGUE = load_catalogue(load_contract_map())
READ = ("x_nq_bar_ret", "bar_pair_z", "x_zc_bar_ret", "day_pair_z", "x_zc_day_ret", "x_nq_day_ret")
WIRING = wire([CATALOGUE[name].node for name in READ])
assert set(WIRING.pair_on) == {"bar", "day"}
OTHERS = {
    "ES": {"pair": "ZC", "NQ": "NQ", "ZC": "ZC"},
    "ZC": {"pair": "NQ", "NQ": "NQ", "ZC": "ES"},
}
"""What two symbols read, by the names of the features; they forget for one another."""


@cache
def sessions_of(key):
    return load_sessions(GROUPS[key], FIRST - 10 * 24 * HOUR, FIRST + 40 * 24 * HOUR)


def bars_at(ends, sessions, rng):
    out = np.zeros(len(ends), BAR)
    out["end_ns"], out["start_ns"] = ends, ends - HOUR
    out["session"] = session_index(sessions, ends - 1)
    for name in ("open", "high", "low", "close"):
        out[name] = 100 + rng.integers(-8, 9, len(ends)) / 4
    out["gap"] = np.where(rng.random(len(ends)) < 0.6, rng.integers(-900, 900, len(ends)) / 100, 0)
    return out


def draw_world(seed, shares=(0.1, 0.5, 0.9)):
    """Bars on the hour and sessions at their close, each sometimes missing."""
    rng = np.random.default_rng(seed)
    found = {}
    for key in GROUPS:
        sessions = sessions_of(key)
        hours = FIRST + HOUR * np.flatnonzero(rng.random(N_HOURS) < rng.choice(shares))
        inside = (sessions.close_ns > FIRST) & (sessions.close_ns < FIRST + N_HOURS * HOUR)
        closes = sessions.close_ns[inside]
        closes = closes[rng.random(len(closes)) < rng.choice(shares)]
        found[key] = bars_at(hours, sessions, rng), bars_at(closes, sessions, rng)
    return rng, found


def feed_until(key, world, until_ns):
    bars, days = (side[side["end_ns"] <= until_ns] for side in world[key])
    sessions = sessions_of(key)
    return Feed(bars, days, sessions.trade_date[days["session"]], sessions.open_ns[bars["session"]])


def follow(world, untils, tf_ns):
    """Grow tails from instant to instant; yield what is read and what a search over all bars finds."""
    tails = {
        key: Tail(
            [
                each
                for others in OTHERS.values()
                for name, other in others.items()
                if other == key
                for each in WIRING.lookups_of(name)
            ],
            sessions_of(key),
        )
        for key in GROUPS
    }
    newest = Newest(tails)
    readers = {own: Reader(WIRING, own, names, tf_ns, newest) for own, names in OTHERS.items()}
    asked = dict.fromkeys(OTHERS, (0, 0))
    for before_ns, until_ns in pairwise(untils):
        counts = {}
        for key, sides in world.items():
            new = [s[(s["end_ns"] > before_ns) & (s["end_ns"] <= until_ns)] for s in sides]
            counts[key] = tuple(map(len, new))
            if any(counts[key]):
                tails[key].extend(*new)
                newest.note(key)
        for own, reader in readers.items():
            if not any(counts[own]):
                continue
            feeds = {key: feed_until(key, world, until_ns) for key in GROUPS}
            others = {name: feeds[key] for name, key in OTHERS[own].items()}
            expected = newest_of(WIRING, feeds[own], others, tf_ns, *counts[own])
            yield reader.lay(*counts[own]), expected, reader.lay_last(*counts[own]) is not None
            last = [feeds[own].ends[side][-1:] for side in ("bar", "day")]
            asked[own] = tuple(int(ends[0]) if len(ends) else 0 for ends in last)
        newest.forget(asked.values(), at_least=0)


@pytest.mark.parametrize("tf_ns", [TIMEFRAMES_NS["4h"], TIMEFRAMES_NS["1d"]])
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_what_is_read_is_what_a_search_over_every_bar_finds(tf_ns, seed):
    rng, world = draw_world(seed)
    step = int(rng.choice([1, 4, 30]))
    hours = np.cumsum(rng.integers(1, step + 1, N_HOURS))
    untils = FIRST - HOUR + HOUR * np.concatenate([[0], hours[hours <= N_HOURS]])
    for found, expected, _ in follow(world, untils, tf_ns):
        for name in ("foreign", "day_pair", "cold"):
            one, other = getattr(found, name), getattr(expected, name)
            assert one.tobytes() == other.tobytes(), (name, one, other)


def test_a_boundary_at_which_everything_ended_takes_no_search():
    _, world = draw_world(4, shares=(1.0,))
    untils = FIRST + HOUR * np.arange(-1, N_HOURS)
    quick = [is_quick for _, _, is_quick in follow(world, untils, HOUR)]
    assert len(quick) > N_HOURS
    assert all(quick)
