"""A picture of a run: all that it said, each row with the instant from which it was known.

Two pictures of the same data, looked at until different instants, are what the check of look-ahead compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ibs_core.backtest import Traded, trade
from ibs_core.bars import BAR, EXIT_REASONS
from ibs_core.catalogue import Feature, load_catalogue, resolve
from ibs_core.feature_table import FeatureTable, evaluate, served
from ibs_core.formulas import Node, elsewhere
from ibs_core.kernels.nodes import Op
from ibs_core.market_data.rolls import rolls_of
from ibs_core.portfolio import EXIT
from ibs_core.positions import LEAVING, OPEN
from ibs_core.signals import SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ibs_core.bars import Ints, Records
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars, MinuteRun
    from ibs_core.universe import Model

__all__ = ["STAGES", "EnginePictures", "Picture", "Table"]

STAGES = (
    "minute",
    "bar",
    "session",
    "feature",
    "schedule",
    "gate",
    "decision",
    "entry",
    "exit",
)
"""What a run makes, each from those before it."""

Column = NDArray[Any]
_PROTECTIVE = [EXIT_REASONS.index(name) + 1 for name in ("protective_stop", "protective_target")]
_NOT_COMPARED = (
    "path_start",
    "path_stop",
)  # places in an array, which name no price and no instant


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One stage of one symbol.

    Attributes
    ----------
    stage : str
        One of ``STAGES``.
    symbol : str
    part : str
        Which run of minutes; else empty.
    start_ns : (n,) int64, UTC ns
        What names a row: the start of the bar, the minute, the time of the decision or of the fill.
    known_ns : (n,) int64, UTC ns
        The first instant at which the row is known.
    columns : Mapping of str to (n,) float64 or int64
    """

    stage: str
    symbol: str
    part: str
    start_ns: Ints
    known_ns: Ints
    columns: Mapping[str, Column]

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two tables the same of two pictures."""
        return self.stage, self.symbol, self.part


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """All that a run said.

    Attributes
    ----------
    tables : sequence of Table
    seams : Mapping of str to (n_seams,) int64, UTC ns
        Roll instants by root.
    explain : callable
        Takes a symbol and the name of a feature; returns a table of every input of its formula as it is
        read at the bars, each after those that it reads, the formula itself last.
    """

    tables: Sequence[Table]
    seams: Mapping[str, Ints]
    explain: Callable[[str, str], Table]

    def of(self, stage: str, symbol: str | None = None) -> list[Table]:
        """Return the tables of a stage, of one symbol or of all."""
        return [
            each for each in self.tables if each.stage == stage and symbol in (None, each.symbol)
        ]


class EnginePictures:
    """Takes pictures of the engine: of all data, or as it were some instant now.

    Parameters
    ----------
    held : HeldBars
    settings : Settings
    contracts : ContractMap
    roots : sequence of str, optional
        Symbols to trade; default: those of the settings, else all that the data hold.
    names : sequence of str, optional
        Features; default: all that the data can serve. Those of the filters are always taken.
    models : callable, optional
        Gives the model of a root; asked where the settings' mode is not off.
    progress : callable, optional
        Called with what is worked on and 1 when a picture is taken.
    """

    def __init__(
        self,
        held: HeldBars,
        settings: Settings,
        contracts: ContractMap,
        *,
        roots: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        models: Callable[[str], Model] | None = None,
        progress: Callable[[str, int], None] | None = None,
    ) -> None:
        self._held = held
        self._models = models
        self._settings = settings
        self._contracts = contracts
        self._roots = tuple(roots or settings.symbols or held.roots)
        asked = names or served(contracts, held.roots, held.feeds)
        filters = [name for root in self._roots for name in settings.strategy_of(root).filters]
        asks = models if settings.model.mode != "off" else None
        scored = [name for root in self._roots if asks for name in asks(root).features]
        self._features = [
            resolve(name, contracts, where="--features")
            for name in dict.fromkeys([*asked, *filters, *scored])
        ]
        self._progress = progress

    def __call__(self, cut_ns: int | None) -> Picture:
        """Take a picture.

        Parameters
        ----------
        cut_ns : int, UTC ns, or None
            Minutes that open before it exist, and it is now; None: all of them.

        Returns
        -------
        Picture
        """
        return self._whole if cut_ns is None else self._take(cut_ns)

    @cached_property
    def _whole(self) -> Picture:
        return self._take(None)

    def _take(self, cut_ns: int | None) -> Picture:
        source = self._held if cut_ns is None else self._held.between(None, cut_ns)
        seams = None if cut_ns is None else self._whole.seams
        traded = trade(
            source,
            self._settings,
            self._contracts,
            roots=self._roots,
            seams=seams,
            models=self._models,
        )
        found = list(
            evaluate(source, self._settings, self._contracts, self._features, roots=self._roots)
        )
        held = (*source.roots, *source.feeds)
        tables = [
            *(table for root in held for table in _minutes(source.stream([root], volume=True))),
            *(table for each in found for table in _observed(each)),
            *(table for i in range(len(traded.symbols)) for table in _decided(traded, i)),
        ]
        if self._progress:
            self._progress("all bars" if cut_ns is None else "a part of the bars", 1)
        return Picture(
            tables,
            self._rolls | {item.root: item.seams for item in traded.series},
            lambda symbol, name: self._explain(source, symbol, name),
        )

    @cached_property
    def _rolls(self) -> dict[str, Ints]:
        """Roll instants of all that is held, traded or only read."""
        found = {}
        for root in (*self._held.roots, *self._held.feeds):
            rolls = rolls_of(list(self._held.stream([root])), self._contracts.readable(root))
            found[root] = np.array([roll.seam_ns for roll in rolls], np.int64)
        return found

    def _explain(self, source: HeldBars, symbol: str, name: str) -> Table:
        catalogue = load_catalogue(self._contracts)
        names = {each.node: each.name for each in catalogue.values()}
        top = next(each for each in self._features if each.name == name)
        parts = [
            Feature(names.get(node, label), "", "", 0.0, 0.0, "", node, "bar")
            for label, node in _inputs(top.node)
        ]
        (found,) = evaluate(source, self._settings, self._contracts, parts, roots=[symbol])
        return _features(found)


def _inputs(top: Node) -> list[tuple[str, Node]]:
    """List what a formula is made of as values at the signal bar: each after those that it reads."""
    found: dict[Node, str] = {}

    def visit(node: Node, source: str) -> None:
        at_bar = elsewhere(node, source) if source else node
        if at_bar in found:
            return
        if node.op is Op.GIVEN and node.inputs:
            visit(node.inputs[0], node.source)
            return
        for each in node.inputs:
            visit(each, source)
        found[at_bar] = f"{_label(node)}{_place(source)}"

    visit(top, "")
    return [(label, node) for node, label in found.items()]


def _place(source: str) -> str:
    root, _, side = source.partition(":")
    if not side:
        return " of the last session" if source else ""
    return f" of {root}'s newest {'bar' if side == 'bar' else 'session'}"


def _label(node: Node) -> str:
    if node.op is Op.GIVEN:
        return node.source.replace("_", " ")
    length = f"({node.n})" if node.n > 1 else ""
    return f"{node.op.name.lower()}{length} of {' and '.join(_short(each) for each in node.inputs)}"


def _short(node: Node) -> str:
    if node.op is Op.GIVEN:
        return _short(node.inputs[0]) + _place(node.source) if node.inputs else node.source
    return node.op.name.lower() + (f"({node.n})" if node.n > 1 else "")


def _minutes(runs: Iterator[MinuteRun]) -> Iterator[Table]:
    for k, run in enumerate(runs):
        columns = {name: getattr(run, name) for name in ("open", "high", "low", "close")}
        if run.volume is not None:
            columns["volume"] = run.volume
        # A minute stands in the data from its open on, which is what a cut leaves out or not.
        yield Table(
            "minute", run.root, f"{run.instrument}, run {k}", run.ts_ns, run.ts_ns + 1, columns
        )


def _observed(found: FeatureTable) -> Iterator[Table]:
    for stage, bars in (("bar", found.series.closed), ("session", found.series.days)):
        yield _of_records(stage, found.root, bars, bars, BAR)
    yield _features(found)


def _features(found: FeatureTable) -> Table:
    bars = found.series.closed
    columns = {name: found.rows[:, k] for k, name in enumerate(found.names)}
    return Table("feature", found.root, "", bars["start_ns"], bars["end_ns"], columns)


def _of_records(
    stage: str, root: str, bars: Records, records: Records, dtype: np.dtype[Any]
) -> Table:
    names = [name for name in dtype.names or () if name not in _NOT_COMPARED]
    columns: dict[str, Column] = {}
    for name in names:
        inner = records[name].dtype.names
        nested = {f"{name}.{each}": records[name][each] for each in inner or ()}
        columns |= nested or {name: records[name]}
    return Table(stage, root, "", bars["start_ns"], bars["end_ns"], columns)


def _decided(traded: Traded, i: int) -> Iterator[Table]:
    """List schedule, gates, decisions and fills of one symbol."""
    root, n = traded.symbols[i].root, len(traded.series[i].closed)
    bars, signals = traded.series[i].bars[:n], traded.signals[i][:n]
    yield _of_records("schedule", root, bars, traded.schedules[i][:n], SCHEDULE)
    columns = {name: signals[name] for name in ("ibs", "atr", "gate", "score", "verdict")}
    yield Table("gate", root, "", bars["start_ns"], bars["end_ns"], columns)
    made = traded.decision_records[traded.decision_records["symbol"] == i]
    made = made[np.argsort(made["time_ns"], kind="stable")]
    # A resting order is hit inside a minute; every other decision is made at an instant.
    inside = (made["action"] == EXIT) & np.isin(made["reason"], _PROTECTIVE)
    columns = {name: made[name] for name in ("action", "reason", "score")}
    yield Table("decision", root, "", made["time_ns"], made["time_ns"] + inside, columns)
    yield from _fills(traded, i)


def _fills(traded: Traded, i: int) -> Iterator[Table]:
    root, trades = traded.symbols[i].root, traded.trade_records
    trades = trades[trades["symbol"] == i]
    trades = trades[np.argsort(trades["exit_ns"], kind="stable")]
    held = traded.book[i]
    entries = trades
    if held["status"] in (OPEN, LEAVING):
        entries = np.append(trades, held["trade"])
    of_entry = ("contract", "entry_price", "ibs_entry", "score")
    columns = {name: entries[name] for name in of_entry}
    yield Table("entry", root, "", entries["entry_ns"], entries["entry_ns"] + 1, columns)
    of_exit = ("entry_ns", "exit_price", "reason", "bars_held", "low", "high", "ibs_exit")
    columns = {name: trades[name] for name in of_exit}
    yield Table("exit", root, "", trades["exit_ns"], trades["exit_ns"] + 1, columns)
