"""Formulas as expressions: what a feature is computed from, and how much history that takes.

An expression is a tree of nodes. Equal expressions are one node of a graph, however many features use
them, so nothing is computed twice and a feature costs what its own tree costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ibs_core.kernels import ema as ema_kernel
from ibs_core.kernels import pivots as pivots_kernel
from ibs_core.kernels import wilder as wilder_kernel
from ibs_core.kernels.nodes import INPUTS, Level, Op

__all__ = ["N_OUTPUTS", "Node", "elsewhere", "given"]

N_OUTPUTS = {Op.PIVOTS: 4, Op.HELD: 2}
"""Values of the operations that have more than one."""


@dataclass(frozen=True)
class Node:
    """One operation on other nodes.

    Attributes
    ----------
    op : Op
    inputs : tuple of Node
        What it reads, in the order of the operation's arguments.
    spans : tuple of int
        How many of their last values it reads, the newest included; none given: one of each.
    n : int
        The length of the window or of the average.
    least : int
        Present values that a rank needs.
    short : int
        How many bars before its windows are full the first value comes.
    x, y : float
        Constants of the operation.
    part : int
        Which of several values.
    source : str
        Of a given value: a name of ``INPUTS``, or whose graph it is read from: ``day``, ``ES:bar`` …
    level : Level
        How a roll moves its past values.
    """

    op: Op
    inputs: tuple[Node, ...] = ()
    spans: tuple[int, ...] = ()
    n: int = 1
    least: int = 0
    short: int = 0
    x: float = 0.0
    y: float = 0.0
    part: int = 0
    source: str = ""
    level: Level = Level.NONE

    def __hash__(self) -> int:
        """Hash once: an expression is looked up far more often than it is made."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        own = (self.op, self.spans, self.n, self.least, self.short, self.x, self.y)
        return hash((*own, self.part, self.source, self.level, self.inputs))

    @cached_property
    def first(self) -> int:
        """Bars before the first value; where data decide, the fewest."""
        own = [
            node.first + max(span - 1 - self.short, 0)
            for node, span in zip(self.inputs, self.reads, strict=True)
        ]
        return max(own, default=1) + _delay(self)

    @cached_property
    def full(self) -> int:
        """Bars before every window is full."""
        own = [node.full + span - 1 for node, span in zip(self.inputs, self.reads, strict=True)]
        return max(own, default=1) + _delay(self)

    @cached_property
    def settles(self) -> int | None:
        """Bars after which a later start gives the same bits; None where data decide."""
        longest = 1
        for node, span in zip(self.inputs, self.reads, strict=True):
            if node.settles is None:
                return None
            longest = max(longest, node.settles + span - 1)
        return None if self.op in _DATA_DECIDE else longest + _convergence(self)

    @cached_property
    def waits(self) -> bool:
        """Whether the data decide when the first value comes."""
        return self.op is Op.PIVOTS or any(node.waits for node in self.inputs)

    @property
    def reads(self) -> tuple[int, ...]:
        """Values read of each input."""
        return self.spans or (1,) * len(self.inputs)


_PREVIOUS = (1, 3)
"""The parts of PIVOTS that need two of a kind."""
_DATA_DECIDE = (Op.PSAR, Op.PIVOTS, Op.RUN, Op.STREAK, Op.HELD)


def _delay(node: Node) -> int:
    """Count the bars that a memory without end takes to its first value."""
    if node.op in {Op.WILDER, Op.EMA, Op.RSI}:
        return node.n - 1
    if node.op is Op.ADX:
        return 2 * (node.n - 1)
    if node.op is Op.PIVOTS:  # two pivots of a kind stand at least one side apart
        apart = pivots_kernel.LEFT + 1 if node.part in _PREVIOUS else 0
        return pivots_kernel.warmup_bars() - 1 + apart
    return 1 if node.op is Op.PSAR else 0


def _convergence(node: Node) -> int:
    if node.op is Op.EMA:
        return ema_kernel.convergence_bars(node.n)
    if node.op in {Op.WILDER, Op.RSI}:
        return wilder_kernel.convergence_bars(node.n)
    return 2 * wilder_kernel.convergence_bars(node.n) if node.op is Op.ADX else 0


def given(source: str) -> Node:
    """Name a number that comes with the bar.

    Parameters
    ----------
    source : str
        One of ``INPUTS``.

    Returns
    -------
    Node
    """
    assert source in INPUTS
    prices = ("open", "high", "low", "close")
    return Node(Op.GIVEN, source=source, level=Level.PRICE if source in prices else Level.NONE)


def elsewhere(node: Node, source: str) -> Node:
    """Read at a signal bar what another graph last said.

    Parameters
    ----------
    node : Node
        A formula of that graph.
    source : str
        ``day`` for the own sessions; ``ROOT:bar`` or ``ROOT:day`` for another instrument, ``pair:…`` for the pair.

    Returns
    -------
    Node
    """
    return Node(Op.GIVEN, (node,), source=source)


# Every function below returns the node of its formula; lengths are in bars.

OPEN, HIGH, LOW, CLOSE = map(given, ("open", "high", "low", "close"))
VOLUME = given("volume")
RANGE = Node(Op.DIFFERENCE, (HIGH, LOW))
TRUE_RANGE = Node(Op.TRUE_RANGE, (HIGH, LOW, CLOSE), (1, 1, 2), n=2)
IBS = Node(Op.IBS, (HIGH, LOW, CLOSE))


def _window(op: Op, node: Node, n: int, *, least: int = 0, short: int = 0) -> Node:
    return Node(op, (node,), (n,), n=n, least=least, short=short)


def lag(node: Node, k: int) -> Node:
    """Return x[-k]."""
    return _window(Op.LAG, node, k + 1)


def change(node: Node, k: int) -> Node:
    """Return x - x[-k]."""
    return _window(Op.CHANGE, node, k + 1)


def percent_return(node: Node, k: int) -> Node:
    """Return 100 (x / x[-k] - 1)."""
    return _window(Op.PERCENT_RETURN, node, k + 1)


def log_return(node: Node) -> Node:
    """Return 100 ln(x / x[-1])."""
    return _window(Op.LOG_RETURN, node, 2)


CHANGE = change(CLOSE, 1)


def mean(node: Node, n: int) -> Node:
    """Return the average of the last n."""
    return _window(Op.MEAN, node, n)


def deviation(node: Node, n: int) -> Node:
    """Return the population deviation of the last n."""
    return Node(Op.DEVIATION, (node, mean(node, n)), (n, 1), n=n)


def median(node: Node, n: int) -> Node:
    """Return the median of the last n."""
    return _window(Op.MEDIAN, node, n)


def rank(node: Node, n: int, least: int) -> Node:
    """Return the percentile rank among the last n, once ``least`` are present."""
    return _window(Op.RANK, node, n, least=least, short=n - least)


def share_below(node: Node, n: int) -> Node:
    """Return the percentage of the last n below this one, from the first value on."""
    return _window(Op.SHARE_BELOW, node, n, short=n - 1)


def score(node: Node, centre: Node, unit: Node) -> Node:
    """Return (x - centre) / (unit + 1e-12)."""
    return Node(Op.SCORE, (node, centre, unit), y=1e-12)


def z(node: Node, n: int) -> Node:
    """Return (x - mean) / (deviation + 1e-12) over the last n."""
    return score(node, mean(node, n), deviation(node, n))


def floored_z(node: Node, n: int) -> Node:
    """Return (x - mean) / max(deviation, 1e-12) over the last n."""
    return Node(Op.SCORE, (node, mean(node, n), deviation(node, n)), x=1e-12)


def atr(n: int) -> Node:
    """Return Wilder average of the true range."""
    return Node(Op.WILDER, (TRUE_RANGE,), n=n)


def ema(n: int) -> Node:
    """Return exponential average of the close."""
    return Node(Op.EMA, (CLOSE,), n=n, level=Level.AVERAGE)


def rsi(n: int) -> Node:
    """Return Wilder's relative strength index."""
    return Node(Op.RSI, (CHANGE,), n=n)


def adx(n: int) -> Node:
    """Return Wilder's average directional index."""
    return Node(Op.ADX, (HIGH, LOW, TRUE_RANGE), (2, 2, 1), n=n)


PSAR = Node(Op.PSAR, (HIGH, LOW, CLOSE))
LAST_HIGH, PREVIOUS_HIGH, LAST_LOW = (Node(Op.PIVOTS, (HIGH, LOW), part=k) for k in range(3))


def ratio(node: Node, unit: Node, tiny: float = 0.0) -> Node:
    """Return x / (unit + tiny); missing when that is not above 0."""
    return Node(Op.RATIO, (node, unit), y=tiny)


def distance(node: Node, other: Node, unit: Node, *, absolute: bool = False) -> Node:
    """Return (x - other) / unit, or its magnitude."""
    return Node(Op.DISTANCE, (node, other, unit), x=float(absolute))


def slope(node: Node, unit: Node, k: int) -> Node:
    """Return (x - x[-k]) / unit."""
    return Node(Op.SLOPE, (node, unit), (k + 1, 1), n=k + 1)


def drift(n: int) -> Node:
    """Return the return over n bars / sample deviation of its one-bar returns."""
    return Node(Op.DRIFT, (CLOSE, percent_return(CLOSE, 1)), (n + 1, n), n=n + 1)


EFFICIENCY = Node(Op.EFFICIENCY, (CLOSE, CHANGE), (61, 60), n=61, short=55)


def narrowest(n: int) -> Node:
    """Return 1 if the range is below each of the n - 1 before."""
    return _window(Op.NARROWEST, RANGE, n)


INSIDE = Node(Op.INSIDE, (HIGH, LOW), (3, 3), n=3)


def contraction(fast: int, slow: int, limit: float) -> Node:
    """Return the depth times length of a spell of low ATR(fast) / ATR(slow)."""
    level = ratio(atr(fast), atr(slow))
    return Node(Op.CONTRACTION, (level, Node(Op.STREAK, (level,), x=limit)))


def run(sign: int) -> Node:
    """Return consecutive bars that closed above (1) or below (-1) their open."""
    return Node(Op.RUN, (CLOSE, OPEN), x=float(sign))


def band(edge: int, n: int, width: float) -> Node:
    """Return (C - edge) / (upper - lower) of Bollinger's bands; edge 1 is the upper, -1 the lower."""
    return Node(Op.BAND, (CLOSE, mean(CLOSE, n), deviation(CLOSE, n)), x=width, y=float(edge))


def band_width(n: int, width: float) -> Node:
    """Return (upper - lower) / middle of Bollinger's bands."""
    return Node(Op.BAND_WIDTH, (mean(CLOSE, n), deviation(CLOSE, n)), x=width)


def highest_before(n: int) -> Node:
    """Return the highest high of the n bars before."""
    return _window(Op.HIGHEST_BEFORE, HIGH, n + 1)


def lowest_before(n: int) -> Node:
    """Return the lowest low of the n bars before."""
    return _window(Op.LOWEST_BEFORE, LOW, n + 1)


def side(node: Node, upper: Node, lower: Node) -> Node:
    """Return 1 above the upper, -1 below the lower, else 0."""
    return Node(Op.SIDE, (node, upper, lower))


def nearest(node: Node, upper: Node, lower: Node, unit: Node) -> Node:
    """Return the distance to the nearer of two levels / unit."""
    return Node(Op.NEAREST, (node, upper, lower, unit))


HIGHER_HIGH = Node(Op.HIGHER_HIGH, (HIGH, LAST_HIGH, PREVIOUS_HIGH))


def above(node: Node, other: Node) -> Node:
    """Return 1 if x > other on the price grid else 0."""
    return Node(Op.ABOVE, (node, other))


def product(node: Node, centre: float, scale: float, other: Node) -> Node:
    """Return (x - centre) * scale * other."""
    return Node(Op.PRODUCT, (node, other), x=centre, y=scale)


PAIR_SPREAD = Node(Op.DIFFERENCE, (CLOSE, given("pair_close")), level=Level.SPREAD)
HELD_CLOSE = Node(Op.HELD, (elsewhere(CLOSE, "day"), given("n_days"), given("day_gap")))


def at_least(name: str, x: float) -> Node:
    """Return 1 if a given number is x or more else 0."""
    return Node(Op.AT_LEAST, (given(name),), x=x)


def at_most(name: str, x: float) -> Node:
    """Return 1 if a given number is x or less else 0."""
    return Node(Op.AT_MOST, (given(name),), x=x)


EVEN_DAY = Node(Op.EVEN, (given("day"),))
SESSION_PART = Node(Op.SESSION_PART, (given("local_minute"),))
OPEN_CLOSE = Node(Op.OPEN_CLOSE, (given("local_minute"),))
