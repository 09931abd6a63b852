"""Parity tells of every bit of a journal that a replay does not give again, and of no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_worlds import RULE, carry, make_world, outage, scripted

from adapters.sqlite_journal import SqliteJournal
from ibs_core.bars import MINUTE_NS
from ibs_core.config import load_settings
from ibs_core.parity import compare
from ibs_core.ports import MinuteEnd
from ibs_core.snapshot import pack, unpack


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A journal with an outage and a stop in it, taken apart into what is compared."""
    world = make_world(tmp_path_factory.mktemp("day"), date(2023, 10, 31), date(2023, 11, 1))
    ends = [each.ts_ns for each in world.events if isinstance(each, MinuteEnd)]
    lost_ns, stop_ns = ends[len(ends) // 3], ends[2 * len(ends) // 3]
    script = outage(world.events, lost_ns, lost_ns + 200 * MINUTE_NS)
    carry(world, scripted(world, script), until_ns=stop_ns)
    carry(world, scripted(world, world.events, from_ns=stop_ns))
    with SqliteJournal(world.journal(), read_only=True) as journal:
        (_, _, first), *states = journal.snapshots()
        entries = list(journal.entries())
        orders = {each.order.order_id: each.order for each in journal.orders()}
    return world, first, entries, orders, {seq: block for seq, _, block in states}


def compared(kept, *, first=None, entries=None, orders=None, states=None, engine=None):
    """Compare, with a part of it put in place of what is kept."""
    world, *parts = kept
    parts = [
        own if given is None else given
        for given, own in zip((first, entries, orders, states), parts, strict=True)
    ]
    return compare(*parts, engine or world.engine)


def test_a_journal_that_nobody_touched_differs_in_nothing(kept):
    found = compared(kept)
    assert found.differences == []
    _, _, entries, orders, states = kept
    assert found.counts["entries"] == len(entries) > 50
    assert found.counts["orders"] == len(orders) > 20
    assert found.counts["states"] == len(states) > 0
    for name in ("minutes", "bars", "decisions", "trades"):
        assert found.counts[name] == sum(len(each.arrays[name]) for each in entries) > 10


def touched(entries, name, i, field):
    """The entries with one bit of a field of the i-th record of an array set otherwise."""
    out = list(entries)
    holders = [k for k, each in enumerate(entries) for _ in range(len(each.arrays[name]))]
    k = holders[i % len(holders)]
    array = entries[k].arrays[name].copy()
    row = array[i % len(array)]
    row[field] = _next(row[field])
    out[k] = replace(entries[k], arrays={**entries[k].arrays, name: array})
    return out, entries[k].seq


def _next(value):
    """The nearest other value."""
    return np.nextafter(value, np.inf) if isinstance(value, np.floating) else value + 1


OUT = {
    "bars": ("close", "low", "end_ns", "contract"),
    "signals": ("ibs", "gate"),
    "decisions": ("time_ns", "symbol", "action", "reason"),
    "trades": ("entry_price", "exit_ns", "reason", "low"),
}


@settings(max_examples=10)
@given(data=st.data())
def test_one_bit_of_what_came_out_is_told_by_its_field(kept, data):
    name = data.draw(st.sampled_from(sorted(OUT)))
    field = data.draw(st.sampled_from(OUT[name]))
    entries, seq = touched(kept[2], name, data.draw(st.integers(0, 200)), field)
    found = compared(kept, entries=entries).differences
    assert any(each.startswith(f"entry {seq}, {name}[") and f".{field}: " in each for each in found)
    assert any(each.startswith("all at once, ") for each in found)


def test_a_minute_that_was_another_is_told(kept):
    k = next(k for k, each in enumerate(kept[2]) if len(each.arrays["minutes"]))
    minutes = kept[2][k].arrays["minutes"].copy()
    minutes["low"][0] *= 0.9
    entries = list(kept[2])
    entries[k] = replace(entries[k], arrays={**entries[k].arrays, "minutes": minutes})
    found = compared(kept, entries=entries).differences
    assert any("bars" in each for each in found)


def test_a_forgotten_input_is_told(kept):
    """What live knew is needed: without the absence of the outage, other entries are taken."""
    entries = [
        replace(each, arrays={**each.arrays, "inputs": each.arrays["inputs"][:0]})
        for each in kept[2]
    ]
    found = compared(kept, entries=entries).differences
    assert any("decisions" in each for each in found)


def test_orders_that_are_missing_or_other_are_told(kept):
    _, _, entries, orders, _ = kept
    k, stored = next((k, each) for k, each in enumerate(entries) if each.order_ids)
    gone = [*entries[:k], replace(stored, order_ids=()), *entries[k + 1 :]]
    assert f"entry {stored.seq}, orders" in compared(kept, entries=gone).differences[0]
    name = stored.order_ids[0]
    other = {**orders, name: replace(orders[name], quantity=orders[name].quantity + 1)}
    assert f"order {name}" in compared(kept, orders=other).differences[0]


def test_a_state_that_is_another_is_told(kept):
    states = kept[4]
    seq, block = next(iter(states.items()))
    state = {name: array.copy() for name, array in unpack(block).items()}
    state["book"]["mark"][0] += 0.25
    (found,) = compared(kept, states={**states, seq: pack(state)}).differences
    assert f"entry {seq}" in found
    assert "state" in found


def test_another_rule_is_told(kept):
    world = kept[0]
    other = {**RULE, "strategy": {**RULE["strategy"], "cooldown_bars": 2}}
    changed = replace(world, settings=load_settings(overrides=other))
    assert compared(kept, engine=changed.engine).differences


def test_a_part_of_a_journal_is_compared_from_the_state_before_it(kept):
    world, _, entries, orders, states = kept
    seq = min(states)
    later = [each for each in entries if each.seq > seq]
    entered = {}
    for each in entries[:seq]:
        named = [orders[name] for name in each.order_ids]
        entered |= {order.symbol: order for order in named if order.action == "entry"}
    after = {n: block for n, block in states.items() if n > seq}
    found = compare(states[seq], later, orders, after, world.engine, entered)
    assert found.differences == []
    assert found.counts["entries"] == len(later) > 10
