"""Feature graphs: numbers of one bar, evaluated in order by one compiled loop.

A node is an operation on earlier nodes. Only the nodes that a rule needs are in its graph, and what two
features share is computed once. A node keeps the past values that others ask of it; what remembers
without end (averages, stops, pivots, runs) has a record or its own last value.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Ints, Record, Records
from ibs_core.kernels import ema, operations, pivots, psar, rank, ring, rsi, wilder
from ibs_core.kernels._jit import inlined, jit
from ibs_core.kernels.nodes import INPUTS, Graph, Level, Memory, Op
from ibs_core.kernels.ring import canonical

__all__ = ["observe_bar", "observe_day", "trace_many"]

_VOLUME = INPUTS.index("volume")
_PAIR_CLOSE = INPUTS.index("pair_close")
_PAIR_GAP = INPUTS.index("pair_gap")
_CALENDAR = INPUTS.index("local_minute")
_N_DAYS = INPUTS.index("n_days")
_N_INPUTS = len(INPUTS)


@jit
def _cross_seam(nodes: Records, memory: Memory, gap: float, pair_gap: float) -> None:
    """Move remembered levels by the roll gaps, so that no indicator sees the step."""
    n_bars = memory.head[0]["n_bars"]
    for i in range(len(nodes)):
        node = nodes[i]
        if node["level"] != Level.NONE and node["ring"] >= 0:
            moved = gap - pair_gap if node["level"] == Level.SPREAD else gap
            if moved != 0.0:  # rounding to the grid is no change of its own
                rings = memory.rings[node["ring"] : node["ring"] + 2 * node["capacity"]]
                ring.shift(rings, n_bars, moved, 1 if node["level"] != Level.AVERAGE else 0)
        if node["op"] == Op.RANK and nodes[node["a"]]["level"] != Level.NONE:
            level = nodes[node["a"]]["level"]
            moved = gap - pair_gap if level == Level.SPREAD else gap
            if moved != 0.0:
                ordered = memory.ordered[node["ordered"] : node["ordered"] + node["n"]]
                present = memory.present[node["slot"]]
                rank.shift(ordered, present, moved, 1 if level != Level.AVERAGE else 0)
        elif gap == 0.0:
            continue
        elif node["op"] == Op.HELD:
            memory.values[i] = canonical(memory.values[i] + gap)
        elif node["op"] == Op.EMA and node["level"] != Level.NONE:
            ema.shift(memory.ema[node["slot"]], gap)
        elif node["op"] == Op.PSAR:
            psar.shift(memory.psar[node["slot"]], gap)
        elif node["op"] == Op.PIVOTS:
            pivots.shift(memory.pivots[node["slot"]], gap)


@inlined
def _evaluate(nodes: Records, memory: Memory) -> None:
    """Give every node its value, in order, and its past."""
    values, rings = memory.values, memory.rings
    ordered, present, wilders = memory.ordered, memory.present, memory.wilder
    n_bars = memory.head[0]["n_bars"]
    for i in range(len(nodes)):
        node = nodes[i]
        op, a = node["op"], values[node["a"]]
        if op == Op.GIVEN and node["ring"] < 0:
            continue
        if op >= Op.ABOVE:
            values[i] = operations.flagged(node, values)
        elif op >= Op.DIFFERENCE:
            values[i] = operations.computed(node, values)
        elif op == Op.GIVEN:
            pass
        elif op <= Op.NARROWEST:
            values[i] = operations.from_one_window(nodes, node, values, rings, n_bars)
        elif op <= Op.TRUE_RANGE:
            values[i] = operations.from_two_windows(nodes, node, values, rings, n_bars)
        elif op == Op.RANK:
            source = nodes[node["a"]]
            past = rings[source["ring"] : source["ring"] + 2 * source["capacity"]]
            values[i] = operations.ranked(node, a, past, ordered, present, n_bars)
        elif op >= Op.RUN:
            values[i] = operations.continued(node, i, values)
        elif op == Op.PIVOTS:
            values[i] = operations.swung(node, i, values, memory.pivots)
        elif op == Op.ADX:
            values[i] = operations.directed(nodes, node, values, rings, n_bars, memory.adx)
        elif op == Op.PSAR:
            b, c = values[node["b"]], values[node["c"]]
            values[i] = psar.step(memory.psar[node["slot"]], a, b, c)
        elif a != a:  # an average takes no missing value
            values[i] = np.nan
        elif op == Op.WILDER:
            values[i] = wilder.step(wilders[node["slot"]], a, node["n"])
        elif op == Op.EMA:
            values[i] = ema.step(memory.ema[node["slot"]], a, node["n"])
        else:
            values[i] = rsi.step(memory.rsi[node["slot"]], a, node["n"])
        if node["ring"] >= 0:
            past = rings[node["ring"] : node["ring"] + 2 * node["capacity"]]
            ring.push(past, n_bars, values[i])


@inlined
def _step(nodes: Records, memory: Memory, bar: Record, pair_close: float, pair_gap: float) -> None:
    """Take one closed bar."""
    head, values = memory.head[0], memory.values
    if head["n_bars"] > 0 and (bar["seam_ns"] > 0 or pair_gap != 0.0):
        _cross_seam(nodes, memory, bar["gap"], pair_gap)
    head["missing"] = 0
    head["end_ns"] = bar["end_ns"]
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


@inlined
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
    rolled = bar["seam_ns"] > 0 and day_memory.head[0]["end_ns"] <= bar["seam_ns"]
    values[_N_DAYS + 1] = bar["gap"] if rolled else 0.0
    for k in range(2, len(foreign)):
        values[_N_INPUTS - 2 + k] = foreign[k]
    known = day_memory.head[0]["n_bars"] > 0 and day_memory.head[0]["missing"] == 0
    for k in range(len(graph.links)):
        values[graph.links[k, 1]] = day_memory.values[graph.links[k, 0]] if known else np.nan
    _step(graph.bar, memory, bar, foreign[0], foreign[1])
    if memory.head[0]["missing"] == 1:
        for k in range(len(row)):
            row[k] = np.nan
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
