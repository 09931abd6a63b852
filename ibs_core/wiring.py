"""Features to graphs: which nodes one instrument computes, in which order, and what it needs from others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.formulas import N_OUTPUTS, Node, given
from ibs_core.kernels import adx, ema, pivots, psar, rsi, wilder
from ibs_core.kernels.nodes import HEAD, INPUTS, NODE, Graph, Memory, Op

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ibs_core.bars import Ints, Records

__all__ = [
    "Lookup",
    "Wiring",
    "digest_of_node",
    "feeds_of_node",
    "memory_of",
    "new_state",
    "wire",
    "wire_side",
]

_RECORDS = {
    Op.WILDER: ("wilder", wilder.STATE),
    Op.EMA: ("ema", ema.STATE),
    Op.RSI: ("rsi", rsi.STATE),
    Op.ADX: ("adx", adx.STATE),
    Op.PSAR: ("psar", psar.STATE),
    Op.PIVOTS: ("pivots", pivots.STATE),
}


@dataclass(frozen=True, slots=True)
class Lookup:
    """A value read from another instrument.

    Attributes
    ----------
    root : str
        ``pair`` stands for the symbol's own pair.
    side : {"bar", "day"}
    node : Node
        The formula in the other's graph.
    """

    root: str
    side: str
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """One instrument's graph, and what must be laid beside its bars.

    Attributes
    ----------
    graph : Graph
        With a column for each feature asked for, in that order.
    formulas : tuple of Node
        Of the columns.
    lookups : tuple of Lookup
        In the order of the columns after the pair's close and gap: those of one instrument and side together.
    pair_on : Mapping of str to int
        Sides on which the pair's close is needed, and how many of its bars fill every window.
    full_bars, full_days : int
        Own bars and sessions before every window is full.
    reads_volume : bool
    """

    graph: Graph
    formulas: tuple[Node, ...]
    lookups: tuple[Lookup, ...]
    pair_on: Mapping[str, int]
    full_bars: int
    full_days: int
    reads_volume: bool

    @property
    def feeds(self) -> frozenset[str]:
        """Other instruments that must be read; ``pair`` stands for the own pair."""
        pair = {"pair"} if self.pair_on else set()
        return frozenset({each.root for each in self.lookups} | pair)

    def reads_bars_of(self, root: str) -> bool:
        """Tell whether signal bars of an instrument are read, or its sessions only."""
        of_pair = root == "pair" and "bar" in self.pair_on
        return of_pair or any(each.side == "bar" for each in self.lookups_of(root))

    def lookups_of(self, root: str) -> list[Lookup]:
        """Return what is read of one instrument, by the name used here."""
        return [each for each in self.lookups if each.root == root]


class _Order:
    """Nodes, each after those that it reads."""

    def __init__(self, first: Iterable[Node]) -> None:
        self.nodes: list[Node] = []
        self.index: dict[Node, int] = {}
        self.spans: dict[int, int] = {}
        for node in first:
            self._append(node)

    def add(self, node: Node) -> int:
        """Return the place of a node, which is put in with all that it reads."""
        if node not in self.index:
            base = replace(node, part=0)
            for each, span in zip(base.inputs, base.reads, strict=True):
                place = self.add(each)
                kept = span + (base.op is Op.RANK)  # a sorted window must know what leaves it
                if kept > 1:
                    self.spans[place] = max(kept, self.spans.get(place, 0))
            self._append(base)
        return self.index[node]

    def frozen(self) -> Records:
        """Return the nodes as records, with room for the past values that are read."""
        out = np.zeros(len(self.nodes), NODE)
        out["ring"] = -1
        slots = dict.fromkeys([*_RECORDS, Op.RANK], 0)
        ring = ordered = 0
        for place, node in enumerate(self.nodes):
            row = out[place]
            row["op"], row["level"] = node.op, node.level
            row["n"], row["least"], row["x"], row["y"] = node.n, node.least, node.x, node.y
            if node.op != Op.GIVEN:
                for name, each in zip("abcd", node.inputs, strict=False):
                    row[name] = self.index[each]
            if node.op in slots:
                row["slot"] = slots[node.op]
                slots[node.op] += 1
            if node.op is Op.RANK:
                row["ordered"], ordered = ordered, ordered + node.n
            if place in self.spans:
                row["ring"], row["capacity"] = ring, self.spans[place]
                ring += 2 * self.spans[place]
        return out

    def _append(self, node: Node) -> None:
        for part in range(N_OUTPUTS.get(node.op, 1)):
            self.index[replace(node, part=part)] = len(self.nodes)
            self.nodes.append(node if part == 0 else Node(Op.GIVEN))


def wire(nodes: Iterable[Node]) -> Wiring:
    """Make the graph of one traded symbol.

    Parameters
    ----------
    nodes : iterable of Node
        Formulas of the signal bar's graph, one a column.

    Returns
    -------
    Wiring
        The same object for the same formulas.
    """
    return _wired(tuple(nodes))


@lru_cache(maxsize=1024)  # symbols mostly ask for the same
def _wired(wanted: tuple[Node, ...]) -> Wiring:
    outside = list(dict.fromkeys(each for node in wanted for each in _read_outside(node)))
    links = [node for node in outside if node.source == "day"]
    others = sorted(
        (node for node in outside if node.source != "day"), key=lambda node: node.source
    )
    of_day = _Order(map(given, INPUTS))
    of_bar = _Order([*map(given, INPUTS), *others, *links])
    pairs = [(of_day.add(link.inputs[0]), of_bar.index[link]) for link in links]
    columns = [of_bar.add(node) for node in wanted]
    graph = Graph(
        of_bar.frozen(),
        of_day.frozen(),
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array(columns, np.int64),
    )
    sides = {"bar": map(_closed_off, wanted), "day": (link.inputs[0] for link in links)}
    spread = given("pair_close")
    full = {
        side: max((node.full for node in nodes if _reads(node, spread)), default=0)
        for side, nodes in sides.items()
    }
    return Wiring(
        graph,
        wanted,
        tuple(_lookup(node) for node in others),
        {side: n for side, n in full.items() if n},
        full_bars=max((_own_full(node) for node in wanted), default=1),
        full_days=max((link.inputs[0].full for link in links), default=0),
        reads_volume=any(_reads(node, given("volume")) for node in wanted),
    )


@lru_cache(maxsize=4096)
def feeds_of_node(node: Node) -> frozenset[str]:
    """Name the other instruments that a formula reads.

    Parameters
    ----------
    node : Node

    Returns
    -------
    frozenset of str
        ``pair`` stands for the own pair.
    """
    return wire([node]).feeds


@lru_cache(maxsize=4096)
def digest_of_node(node: Node) -> str:
    """Name a formula by everything that computes it.

    Parameters
    ----------
    node : Node

    Returns
    -------
    str
        The same in every process.
    """
    made = wire([node])
    told = [(each.root, each.side, digest_of_node(each.node)) for each in made.lookups]
    digest = hashlib.sha256(f"{told} {sorted(made.pair_on.items())}".encode())
    for part in made.graph:
        digest.update(f"{part.shape}".encode())
        digest.update(part.tobytes())
    return digest.hexdigest()[:32]


def wire_side(nodes: Iterable[Node]) -> tuple[Records, Ints]:
    """Order what others read of one side of an instrument.

    Parameters
    ----------
    nodes : iterable of Node
        Formulas of that side alone.

    Returns
    -------
    (n_nodes,) NODE
    (n_columns,) int64
        The node of each formula.
    """
    order = _Order(map(given, INPUTS))
    columns = [order.add(node) for node in nodes]
    return order.frozen(), np.array(columns, np.int64)


def new_state(nodes: Records) -> Records:
    """Make the state of one side before any bar.

    Parameters
    ----------
    nodes : (n_nodes,) NODE

    Returns
    -------
    (1,) record
        Of 8-byte fields only: its bytes are the snapshot.
    """
    ranks = nodes[nodes["op"] == Op.RANK]
    kinds = [
        (name, dtype, (int(np.count_nonzero(nodes["op"] == op)),))
        for op, (name, dtype) in _RECORDS.items()
    ]
    layout = [
        ("head", HEAD, (1,)),
        ("values", "f8", (len(nodes),)),
        ("rings", "f8", (int(2 * nodes["capacity"].sum()),)),
        ("ordered", "f8", (int(ranks["n"].sum()),)),
        ("present", "i8", (len(ranks),)),
        *kinds,
    ]
    return np.zeros(1, np.dtype(layout))


def memory_of(state: Records) -> Memory:
    """Return the parts of a state as the kernels take them; writing to them writes the state.

    Parameters
    ----------
    state : (1,) record
        As ``new_state`` makes it.

    Returns
    -------
    Memory
    """
    return Memory(*(state[name][0] for name in Memory._fields))


def _lookup(node: Node) -> Lookup:
    root, side = node.source.split(":")
    return Lookup(root, side, node.inputs[0])


def _read_outside(node: Node) -> list[Node]:
    """List the values of other graphs that a formula reads."""
    if node.op is Op.GIVEN:
        return [node] if node.inputs else []
    return [each for source in node.inputs for each in _read_outside(source)]


def _reads(node: Node, number: Node) -> bool:
    return node == number or any(_reads(each, number) for each in node.inputs)


def _own_full(node: Node) -> int:
    """Bars of the own side alone before every window of a formula is full."""
    return _closed_off(node).full


def _closed_off(node: Node) -> Node:
    """Return the formula with what it reads in other graphs as plain numbers."""
    if node.op is Op.GIVEN:
        return replace(node, inputs=())
    return replace(node, inputs=tuple(map(_closed_off, node.inputs)))
