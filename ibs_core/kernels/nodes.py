"""The data language of feature graphs: operations, nodes, and the memory of a graph."""

from __future__ import annotations

from enum import IntEnum, auto, unique
from typing import NamedTuple

import numpy as np

from ibs_core.bars import Floats, Ints, Records

__all__ = ["HEAD", "INPUTS", "NODE", "Graph", "Level", "Memory", "Op"]

INPUTS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "pair_close",  # at the same boundary, NaN when there is none
    "pair_gap",  # the pair's roll gaps since the bar before
    "local_minute",
    "weekday",
    "month",
    "day",
    "n_days",  # session bars taken so far
    "day_gap",  # what a session first seen at this bar must be moved by: it closed before the bar's roll
)
"""The first nodes of every graph; lookups in other graphs follow them."""


@unique
class Op(IntEnum):
    """What a node does with the nodes that it reads."""

    GIVEN = 0  # written by the caller, or by the node before

    # from one window of past values
    LAG = auto()
    MEAN = auto()
    DEVIATION = auto()
    SHARE_BELOW = auto()
    MEDIAN = auto()
    HIGHEST_BEFORE = auto()
    LOWEST_BEFORE = auto()
    PERCENT_RETURN = auto()
    LOG_RETURN = auto()
    CHANGE = auto()
    NARROWEST = auto()

    # from past values of several nodes
    DRIFT = auto()
    SLOPE = auto()
    EFFICIENCY = auto()
    INSIDE = auto()
    TRUE_RANGE = auto()

    # with a sorted window
    RANK = auto()

    # with a memory without end
    WILDER = auto()
    EMA = auto()
    RSI = auto()
    ADX = auto()
    PSAR = auto()
    PIVOTS = auto()
    RUN = auto()
    STREAK = auto()
    HELD = auto()

    # numbers from those of the bar
    DIFFERENCE = auto()
    IBS = auto()
    RATIO = auto()
    SCORE = auto()
    BAND = auto()
    BAND_WIDTH = auto()
    DISTANCE = auto()
    NEAREST = auto()
    CONTRACTION = auto()
    PRODUCT = auto()

    # flags and states
    ABOVE = auto()
    SIDE = auto()
    HIGHER_HIGH = auto()
    AT_LEAST = auto()
    AT_MOST = auto()
    EVEN = auto()
    SESSION_PART = auto()
    OPEN_CLOSE = auto()


@unique
class Level(IntEnum):
    """What a roll does to a node's past values."""

    NONE = 0
    PRICE = 1  # moved by the gap, on the price grid
    AVERAGE = 2  # moved by the gap
    SPREAD = 3  # moved by the gap less the pair's, on the price grid


NODE = np.dtype(
    [
        ("op", "i8"),
        ("a", "i8"),  # the nodes that it reads
        ("b", "i8"),
        ("c", "i8"),
        ("d", "i8"),
        ("n", "i8"),  # a length in bars
        ("least", "i8"),  # present values that a rank needs
        ("x", "f8"),  # constants of the operation
        ("y", "f8"),
        ("slot", "i8"),  # its record among those of its kind
        ("ring", "i8"),  # where its past values start in the rings, -1 when nothing reads them
        ("capacity", "i8"),
        ("ordered", "i8"),  # where the sorted window of a rank starts
        ("level", "i8"),
    ],
)
"""One node, frozen."""

HEAD = np.dtype([("n_bars", "i8"), ("missing", "i8"), ("end_ns", "i8")])
"""Bars taken, 1 when the newest bar had a NaN price, and the end of the newest bar."""


class Memory(NamedTuple):
    """The state of one graph: views into one record of 8-byte fields, whose bytes are its snapshot."""

    head: Records  # (1,) HEAD
    values: Floats  # (n_nodes,), of the newest bar
    rings: Floats  # past values, node after node
    ordered: Floats  # windows of ranks, sorted
    present: Ints  # (n_ranks,), values in each
    wilder: Records  # (n,) wilder.STATE
    ema: Records
    rsi: Records
    adx: Records
    psar: Records
    pivots: Records


class Graph(NamedTuple):
    """What one instrument computes, frozen."""

    bar: Records  # (n_nodes,) NODE, evaluated at each closed signal bar
    day: Records  # (n_nodes,) NODE, evaluated at each closed session
    links: Ints  # (n_links, 2): day node, bar node that takes its value
    columns: Ints  # (n_columns,): the bar node of each column of a feature row
