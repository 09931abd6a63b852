"""One node's value from those that it reads: the operations of feature graphs.

They take the parts of a graph's memory that they need and no more: a whole memory handed from call to call
costs more than most formulas.
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import Floats, Ints, Record, Records
from ibs_core.kernels import (
    adx,
    calendar,
    ibs,
    patterns,
    pivots,
    rank,
    returns,
    ring,
    true_range,
    window,
)
from ibs_core.kernels._jit import inlined, jit
from ibs_core.kernels.nodes import Op
from ibs_core.kernels.ring import canonical

__all__ = [
    "computed",
    "continued",
    "directed",
    "flagged",
    "from_one_window",
    "from_two_windows",
    "ranked",
    "swung",
]

_LEAST_UNIT = 1e-300
"""An ATR below it, after 9,000 bars without a move, measures nothing: a distance would be infinite."""


@inlined
def _past(node: Record, rings: Floats, n_bars: int, n: int) -> Floats:
    """Return the last n values of a node, the newest included; the caller knows that they exist."""
    own = rings[node["ring"] : node["ring"] + 2 * node["capacity"]]
    return ring.last(own, n_bars + 1, n)


@jit
def from_one_window(
    nodes: Records, node: Record, values: Floats, rings: Floats, n_bars: int
) -> float:
    """Evaluate what reads one node's past.

    Parameters
    ----------
    nodes : (n_nodes,) NODE
    node : NODE
    values : (n_nodes,) float64, of this bar
    rings : (n_words,) float64
    n_bars : int64, bars before this one

    Returns
    -------
    float64, NaN where missing
    """
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
def from_two_windows(
    nodes: Records, node: Record, values: Floats, rings: Floats, n_bars: int
) -> float:
    """Evaluate what reads the past and something beside it.

    Parameters
    ----------
    nodes : (n_nodes,) NODE
    node : NODE
    values : (n_nodes,) float64, of this bar
    rings : (n_words,) float64
    n_bars : int64, bars before this one

    Returns
    -------
    float64, NaN where missing
    """
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
def ranked(
    node: Record,
    newest: float,
    past: Floats,
    ordered: Floats,
    present: Ints,
    n_bars: int,
) -> float:
    """Let the newest value into its sorted window and return its rank.

    Parameters
    ----------
    node : NODE
    newest : float64
    past : (2 * capacity,) float64, the ring of what is ranked
    ordered : (n_words,) float64, sorted windows
    present : (n_ranks,) int64, values in each
    n_bars : int64, bars before this one

    Returns
    -------
    float64 in (0, 1], NaN where missing
    """
    slot, n = node["slot"], node["n"]
    leaving = ring.last(past, n_bars + 1, n + 1)[0] if n_bars >= n else np.nan
    own = ordered[node["ordered"] : node["ordered"] + n]
    present[slot] = rank.step(own, present[slot], newest, leaving)
    return rank.value(own, present[slot], newest, node["least"])


@jit
def continued(node: Record, i: int, values: Floats) -> float:
    """Evaluate what goes on from its own last value.

    Parameters
    ----------
    node : NODE
    i : int64, its place
    values : (n_nodes,) float64, at and after ``i`` those of the bar before

    Returns
    -------
    float64, NaN where missing
    """
    op, a = node["op"], values[node["a"]]
    if op == Op.RUN:
        return values[i] + 1.0 if node["x"] * (a - values[node["b"]]) > 0.0 else 0.0
    if op == Op.STREAK:
        return values[i] + 1.0 if a < node["x"] else 0.0
    taken = values[i] if values[i + 1] == values[node["b"]] else canonical(a + values[node["c"]])
    values[i + 1] = values[node["b"]]
    return taken if values[i + 1] > 0.0 else np.nan


@jit
def swung(node: Record, i: int, values: Floats, states: Records) -> float:
    """Take a bar's extremes; write the pivots known now.

    Parameters
    ----------
    node : NODE
    i : int64, its place: the previous high, last low and previous low follow it
    values : (n_nodes,) float64
    states : (n,) pivots.STATE

    Returns
    -------
    float64
        The last pivot high, NaN before the first.
    """
    swings = states[node["slot"]]
    pivots.step(swings, values[node["a"]], values[node["b"]])
    values[i + 1] = swings["previous_high"] if swings["n_highs"] > 1 else np.nan
    values[i + 2] = swings["last_low"] if swings["n_lows"] > 0 else np.nan
    values[i + 3] = swings["previous_low"] if swings["n_lows"] > 1 else np.nan
    return swings["last_high"] if swings["n_highs"] > 0 else np.nan


@jit
def directed(
    nodes: Records, node: Record, values: Floats, rings: Floats, n_bars: int, states: Records
) -> float:
    """Take a bar's moves into the directional index.

    Parameters
    ----------
    nodes : (n_nodes,) NODE
    node : NODE
    values : (n_nodes,) float64, of this bar
    rings : (n_words,) float64
    n_bars : int64, bars before this one
    states : (n,) adx.STATE

    Returns
    -------
    float64, NaN where missing
    """
    if n_bars == 0:
        return np.nan
    a, b = node["a"], node["b"]
    up = values[a] - _past(nodes[a], rings, n_bars, 2)[0]
    down = _past(nodes[b], rings, n_bars, 2)[0] - values[b]
    return adx.step(states[node["slot"]], up, down, values[node["c"]], node["n"])


@jit
def computed(node: Record, values: Floats) -> float:
    """Evaluate arithmetic on numbers of this bar.

    Parameters
    ----------
    node : NODE
    values : (n_nodes,) float64

    Returns
    -------
    float64, NaN where missing
    """
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
def flagged(node: Record, values: Floats) -> float:
    """Evaluate what gives a flag or a state.

    Parameters
    ----------
    node : NODE
    values : (n_nodes,) float64

    Returns
    -------
    float64, NaN where missing
    """
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
