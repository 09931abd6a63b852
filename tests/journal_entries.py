"""Entries and orders for tests of the journal and of what writes to it."""

from dataclasses import replace

import numpy as np

from ibs_core.ports import Entry, Order

MINUTE = 60_000_000_000
BARS = np.dtype([("ts_ns", "i8"), ("close", "f8")])


def order(order_id="o1", **fields):
    base = Order(
        order_id=order_id,
        symbol="ES",
        instrument="MESZ2025",
        action="entry",
        reason="",
        decided_ns=1_764_600_000_123_456_789,
        quantity=2,
        price=6812.25,
        stop=6744.25,
        target=None,
        score=0.625,
        threshold=0.5,
        model="es-v3",
    )
    return replace(base, **fields)


def entry(number=1, orders=(), n_minutes=3):
    bars = np.zeros(n_minutes, BARS)
    bars["ts_ns"] = (number * n_minutes + np.arange(n_minutes)) * MINUTE
    bars["close"] = np.random.default_rng(number).standard_normal(n_minutes)
    return Entry(number * MINUTE, {"bars": bars, "inputs": np.array([number])}, orders)


def written(number):
    """The entry of that number, of a size of its own and with none, one or two orders."""
    orders = [order(f"o{number}-{i}") for i in range(number % 3)]
    return entry(number, orders, 1 + number * 37 % 500)
