"""Feature graphs: numbers of one bar, evaluated in order by one compiled loop.

A node is an operation on earlier nodes. Only the nodes that a rule needs are in its graph, and what two
features share is computed once. A node keeps the past values that others ask of it; what remembers
without end (averages, stops, pivots, runs) has a record or its own last value.
"""

from __future__ import annotations

from enum import IntEnum, auto, unique
from typing import NamedTuple

import numpy as np

from ibs_core.bars import Floats, Ints, Record, Records
from ibs_core.kernels import (
    adx,
    calendar,
    ema,
    ibs,
    patterns,
    pivots,
    psar,
    rank,
    returns,
    ring,
    rsi,
    true_range,
    wilder,
    window,
)
from ibs_core.kernels._jit import jit
from ibs_core.kernels.ring import canonical

__all__ = [
    "HEAD",
    "INPUTS",
    "NODE",
    "Graph",
    "Level",
    "Memory",
    "Op",
    "observe_bar",
    "observe_day",
    "trace_many",
]

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
)
"""The first nodes of every graph; lookups in other graphs follow them."""
_VOLUME = INPUTS.index("volume")
_PAIR_CLOSE = INPUTS.index("pair_close")
_PAIR_GAP = INPUTS.index("pair_gap")
_CALENDAR = INPUTS.index("local_minute")
_N_DAYS = INPUTS.index("n_days")
_N_INPUTS = len(INPUTS)
_LEAST_UNIT = 1e-300
"""An ATR below it, after 9,000 bars without a move, measures nothing: a distance would be infinite."""


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

HEAD = np.dtype([("n_bars", "i8"), ("missing", "i8")])
"""Bars taken, and 1 when the newest bar had a NaN price."""


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


@jit
def _past(node: Record, rings: Floats, n_bars: int, n: int) -> Floats:
    """Return the last n values of a node, the newest included; the caller knows that they exist."""
    own = rings[node["ring"] : node["ring"] + 2 * node["capacity"]]
    return ring.last(own, n_bars + 1, n)


@jit
def _from_one_window(
    nodes: Records, node: Record, values: Floats, rings: Floats, n_bars: int
) -> float:
    """Evaluate what reads one node's past."""
    op, n = node["op"], node["n"]
    if op == Op.SHARE_BELOW:
        return window.share_below(_past(nodes[node["a"]], rings, n_bars, min(n, n_bars + 1)))
    if n_bars + 1 < n:
        return np.nan
    past = _past(nodes[node["a"]], rings, n_bars, n)
    if op == Op.LAG:
        return past[0]
    if op == Op.MEAN:
        return window.mean(past)
    if op == Op.DEVIATION:
        return window.deviation(past, values[node["b"]])
    if op == Op.MEDIAN:
        return window.median(past)
    if op == Op.HIGHEST_BEFORE:
        return window.highest(past[:-1])
    if op == Op.LOWEST_BEFORE:
        return window.lowest(past[:-1])
    if op == Op.PERCENT_RETURN:
        return returns.percent(past[-1], past[0])
    if op == Op.LOG_RETURN:
        return returns.log(past[-1], past[0])
    if op == Op.CHANGE:
        return past[-1] - past[0]
    return patterns.is_narrowest(past)


@jit
def _from_two_windows(
    nodes: Records, node: Record, values: Floats, rings: Floats, n_bars: int
) -> float:
    """Evaluate what reads the past and something beside it."""
    op, n = node["op"], node["n"]
    a, b = nodes[node["a"]], nodes[node["b"]]
    if op == Op.EFFICIENCY:
        n = min(n, n_bars + 1)
        return patterns.efficiency(_past(a, rings, n_bars, n), _past(b, rings, n_bars, n - 1))
    if n_bars + 1 < n:
        return np.nan
    if op == Op.DRIFT:
        then = _past(a, rings, n_bars, n)[0]
        return returns.drift(values[node["a"]], then, _past(b, rings, n_bars, n - 1))
    if op == Op.SLOPE:
        unit = values[node["b"]]
        rise = values[node["a"]] - _past(a, rings, n_bars, n)[0]
        return rise / unit if unit > _LEAST_UNIT else np.nan
    if op == Op.INSIDE:
        return patterns.is_inside(_past(a, rings, n_bars, n), _past(b, rings, n_bars, n))
    previous_close = _past(nodes[node["c"]], rings, n_bars, n)[0]
    return true_range.value(values[node["a"]], values[node["b"]], previous_close)


@jit
def _rank(
    node: Record,
    newest: float,
    past: Floats,
    ordered: Floats,
    present: Ints,
    n_bars: int,
) -> float:
    """Let the newest value into the sorted window and return its rank."""
    slot, n = node["slot"], node["n"]
    leaving = ring.last(past, n_bars + 1, n + 1)[0] if n_bars >= n else np.nan
    own = ordered[node["ordered"] : node["ordered"] + n]
    present[slot] = rank.step(own, present[slot], newest, leaving)
    return rank.value(own, present[slot], newest, node["least"])


@jit
def _from_before(node: Record, i: int, values: Floats) -> float:
    """Evaluate what goes on from its own last value."""
    op, a = node["op"], values[node["a"]]
    if op == Op.RUN:
        return values[i] + 1.0 if node["x"] * (a - values[node["b"]]) > 0.0 else 0.0
    if op == Op.STREAK:
        return values[i] + 1.0 if a < node["x"] else 0.0
    taken = values[i] if values[i + 1] == values[node["b"]] else a
    values[i + 1] = values[node["b"]]
    return taken if values[i + 1] > 0.0 else np.nan


@jit
def _swings(node: Record, i: int, values: Floats, states: Records) -> float:
    """Take a bar's extremes; write the pivots known now."""
    swings = states[node["slot"]]
    pivots.step(swings, values[node["a"]], values[node["b"]])
    values[i + 1] = swings["previous_high"] if swings["n_highs"] > 1 else np.nan
    values[i + 2] = swings["last_low"] if swings["n_lows"] > 0 else np.nan
    values[i + 3] = swings["previous_low"] if swings["n_lows"] > 1 else np.nan
    return swings["last_high"] if swings["n_highs"] > 0 else np.nan


@jit
def _direction(
    nodes: Records, node: Record, values: Floats, rings: Floats, n_bars: int, states: Records
) -> float:
    """Take a bar's moves into the directional index."""
    if n_bars == 0:
        return np.nan
    a, b = node["a"], node["b"]
    up = values[a] - _past(nodes[a], rings, n_bars, 2)[0]
    down = _past(nodes[b], rings, n_bars, 2)[0] - values[b]
    return adx.step(states[node["slot"]], up, down, values[node["c"]], node["n"])


@jit
def _of_the_bar(node: Record, values: Floats) -> float:
    """Evaluate arithmetic of three numbers and more."""
    op = node["op"]
    a, b, c = values[node["a"]], values[node["b"]], values[node["c"]]
    if op == Op.DIFFERENCE:
        return canonical(a - b)
    if op == Op.IBS:
        return ibs.value(a, b, c)
    if op == Op.RATIO:
        return a / (b + node["y"]) if b + node["y"] > 0.0 else np.nan
    if op == Op.SCORE:
        return (a - b) / (max(c, node["x"]) + node["y"])
    if op == Op.BAND:
        half = node["x"] * c
        return (a - (b + node["y"] * half)) / (2.0 * half) if half > 0.0 else np.nan
    if op == Op.BAND_WIDTH:
        return 2.0 * node["x"] * b / a if a > 0.0 else np.nan
    if op == Op.DISTANCE:
        gap = abs(a - b) if node["x"] == 1.0 else a - b
        return gap / c if c > _LEAST_UNIT else np.nan
    if op == Op.NEAREST:
        unit = values[node["d"]]
        return min(abs(a - c), abs(b - a)) / unit if unit > _LEAST_UNIT else np.nan
    if op == Op.CONTRACTION:
        return patterns.contraction(a, b)
    return (a - node["x"]) * node["y"] * b


@jit
def _flag(node: Record, values: Floats) -> float:
    """Evaluate what gives a flag or a state."""
    op = node["op"]
    a, b, c = values[node["a"]], values[node["b"]], values[node["c"]]
    if a != a:
        return np.nan
    if op == Op.AT_LEAST:
        return 1.0 if a >= node["x"] else 0.0
    if op == Op.AT_MOST:
        return 1.0 if a <= node["x"] else 0.0
    if op == Op.EVEN:
        return 1.0 if a % 2.0 == 0.0 else 0.0
    if op == Op.SESSION_PART:
        return calendar.session_part(a)
    if op == Op.OPEN_CLOSE:
        return calendar.open_close(a)
    if b != b:
        return np.nan
    if op == Op.ABOVE:
        return 1.0 if canonical(a - b) > 0.0 else 0.0
    if c != c:
        return np.nan
    if op == Op.SIDE:
        below = -1.0 if a < c else 0.0
        return 1.0 if a > b else below
    return 1.0 if b > c and a > b else 0.0


@jit
def _cross_seam(nodes: Records, memory: Memory, gap: float, pair_gap: float) -> None:
    """Move remembered levels by the roll gaps, so that no indicator sees the step."""
    n_bars = memory.head[0]["n_bars"]
    for i in range(len(nodes)):
        node = nodes[i]
        if node["level"] != Level.NONE and node["ring"] >= 0:
            rings = memory.rings[node["ring"] : node["ring"] + 2 * node["capacity"]]
            moved = gap - pair_gap if node["level"] == Level.SPREAD else gap
            ring.shift(rings, n_bars, moved, 1 if node["level"] != Level.AVERAGE else 0)
        if node["op"] == Op.RANK and nodes[node["a"]]["level"] != Level.NONE:
            level = nodes[node["a"]]["level"]
            ordered = memory.ordered[node["ordered"] : node["ordered"] + node["n"]]
            moved = gap - pair_gap if level == Level.SPREAD else gap
            rank.shift(
                ordered, memory.present[node["slot"]], moved, 1 if level != Level.AVERAGE else 0
            )
        elif node["op"] == Op.HELD:
            memory.values[i] = canonical(memory.values[i] + gap)
        elif node["op"] == Op.EMA and node["level"] != Level.NONE:
            ema.shift(memory.ema[node["slot"]], gap)
        elif node["op"] == Op.PSAR:
            psar.shift(memory.psar[node["slot"]], gap)
        elif node["op"] == Op.PIVOTS:
            pivots.shift(memory.pivots[node["slot"]], gap)


@jit
def _evaluate(nodes: Records, memory: Memory) -> None:
    """Give every node its value, in order, and its past."""
    values, rings = memory.values, memory.rings
    ordered, present = memory.ordered, memory.present
    wilders, emas, rsis = memory.wilder, memory.ema, memory.rsi
    adxs, psars, swings = memory.adx, memory.psar, memory.pivots
    n_bars = memory.head[0]["n_bars"]
    for i in range(len(nodes)):
        node = nodes[i]
        op, a = node["op"], values[node["a"]]
        if op >= Op.ABOVE:
            values[i] = _flag(node, values)
        elif op >= Op.DIFFERENCE:
            values[i] = _of_the_bar(node, values)
        elif op == Op.GIVEN:
            pass
        elif op <= Op.NARROWEST:
            values[i] = _from_one_window(nodes, node, values, rings, n_bars)
        elif op <= Op.TRUE_RANGE:
            values[i] = _from_two_windows(nodes, node, values, rings, n_bars)
        elif op == Op.RANK:
            source = nodes[node["a"]]
            past = rings[source["ring"] : source["ring"] + 2 * source["capacity"]]
            values[i] = _rank(node, a, past, ordered, present, n_bars)
        elif op >= Op.RUN:
            values[i] = _from_before(node, i, values)
        elif op == Op.PIVOTS:
            values[i] = _swings(node, i, values, swings)
        elif op == Op.ADX:
            values[i] = _direction(nodes, node, values, rings, n_bars, adxs)
        elif op == Op.PSAR:
            b, c = values[node["b"]], values[node["c"]]
            values[i] = psar.step(psars[node["slot"]], a, b, c)
        elif a != a:  # an average takes no missing value
            values[i] = np.nan
        elif op == Op.WILDER:
            values[i] = wilder.step(wilders[node["slot"]], a, node["n"])
        elif op == Op.EMA:
            values[i] = ema.step(emas[node["slot"]], a, node["n"])
        else:
            values[i] = rsi.step(rsis[node["slot"]], a, node["n"])
        if node["ring"] >= 0:
            past = rings[node["ring"] : node["ring"] + 2 * node["capacity"]]
            ring.push(past, n_bars, values[i])


@jit
def _step(nodes: Records, memory: Memory, bar: Record, pair_close: float, pair_gap: float) -> None:
    """Take one closed bar."""
    head, values = memory.head[0], memory.values
    if head["n_bars"] > 0 and (bar["seam_ns"] > 0 or pair_gap != 0.0):
        _cross_seam(nodes, memory, bar["gap"], pair_gap)
    head["missing"] = 0
    if not np.isfinite(bar["open"] + bar["high"] + bar["low"] + bar["close"]):
        head["missing"] = 1
        return
    values[0], values[1], values[2] = bar["open"], bar["high"], bar["low"]
    values[3], values[_VOLUME] = bar["close"], bar["volume"]
    values[_PAIR_CLOSE], values[_PAIR_GAP] = pair_close, pair_gap
    _evaluate(nodes, memory)
    head["n_bars"] += 1


@jit
def observe_day(graph: Graph, day_memory: Memory, day: Record, pair: Floats) -> None:
    """Take one closed session bar.

    Parameters
    ----------
    graph : Graph
    day_memory : Memory
        Of the day nodes.
    day : BAR
    pair : (2,) float64
        The pair's close of the same session, and its roll gaps since the session before.
    """
    _step(graph.day, day_memory, day, pair[0], pair[1])


@jit
def observe_bar(
    graph: Graph,
    memory: Memory,
    day_memory: Memory,
    bar: Record,
    date: Record,
    foreign: Floats,
    row: Floats,
) -> None:
    """Take one closed signal bar and write its feature row.

    Parameters
    ----------
    graph : Graph
    memory, day_memory : Memory
        Of the bar nodes and of the day nodes; the latter has seen every session closed by ``bar["end_ns"]``.
    bar : BAR
    date : calendar.CALENDAR
        Of the bar's start.
    foreign : (2 + n_lookups,) float64
        The pair's close at the same boundary, its roll gaps since the bar before, and the lookups in other
        instruments' graphs.
    row : (n_columns,) float64
        Written, NaN where missing.
    """
    values = memory.values
    values[_CALENDAR] = date["local_minute"]
    values[_CALENDAR + 1] = date["weekday"]
    values[_CALENDAR + 2] = date["month"]
    values[_CALENDAR + 3] = date["day"]
    values[_N_DAYS] = day_memory.head[0]["n_bars"]
    values[_N_INPUTS : _N_INPUTS + len(foreign) - 2] = foreign[2:]
    known = day_memory.head[0]["n_bars"] > 0 and day_memory.head[0]["missing"] == 0
    for k in range(len(graph.links)):
        values[graph.links[k, 1]] = day_memory.values[graph.links[k, 0]] if known else np.nan
    _step(graph.bar, memory, bar, foreign[0], foreign[1])
    if memory.head[0]["missing"] == 1:
        row[:] = np.nan
        return
    for k in range(len(graph.columns)):
        row[k] = values[graph.columns[k]]


@jit
def trace_many(nodes: Records, memory: Memory, bars: Records, columns: Ints, rows: Floats) -> None:
    """Take consecutive bars of one side of an instrument that others read.

    Parameters
    ----------
    nodes : (n_nodes,) NODE
    memory : Memory
    bars : (n_bars,) BAR
        Closed signal bars or session bars, in order.
    columns : (n_columns,) int64
        The nodes that are read.
    rows : (n_bars, n_columns) float64
        Written, NaN where missing.
    """
    for i in range(len(bars)):
        _step(nodes, memory, bars[i], np.nan, 0.0)
        for k in range(len(columns)):
            rows[i, k] = np.nan if memory.head[0]["missing"] == 1 else memory.values[columns[k]]
