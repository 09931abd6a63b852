"""The traded symbols: what is fixed for each before any bar is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import SESSION
from ibs_core.catalogue import load_catalogue
from ibs_core.parameters import check_symbol, make_params, make_rule, make_wiring
from ibs_core.sessions import Sessions, load_sessions
from ibs_core.wiring import Wiring, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    from ibs_core.config import Settings, Strategy
    from ibs_core.contracts import Contract, ContractMap
    from ibs_core.schedule import Rule
    from ibs_core.veto import Scorer

__all__ = ["Instrument", "Model", "Symbol", "Universe", "check_settings"]

Records = NDArray[np.void]
_FIRST_NS, _LAST_NS = (
    int(np.datetime64(f"{year}-01-01", "ns").astype(np.int64)) for year in (2006, 2035)
)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One symbol's veto model, ready to score.

    Attributes
    ----------
    version : str
    features : tuple of str
        In the order of the model's columns.
    threshold : float
    scorer : Scorer
    seen_ns : tuple of (int, int), UTC ns
        First decision and last label end that it was trained on.
    notes : tuple of str
        What a reader of its results must know of it.
    """

    version: str
    features: tuple[str, ...]
    threshold: float
    scorer: Scorer
    seen_ns: tuple[int, int]
    notes: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Instrument:
    """Something whose bars are read.

    Attributes
    ----------
    contract : Contract
        The contract whose bars decide, or a reference feed.
    sessions : Sessions
    session_table : (n_sessions,) SESSION
        The same for kernels.
    warnings : list of str
        What a reader of the result must know.
    """

    contract: Contract
    sessions: Sessions
    session_table: Records
    warnings: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        """Its name."""
        return self.contract.root


@dataclass(slots=True, eq=False, kw_only=True)
class Symbol(Instrument):
    """One traded symbol.

    Attributes
    ----------
    strategy : Strategy
    executed : Contract
        The contract that is traded.
    quantity : int
    wiring : Wiring
    params : (1,) signals.PARAMS
    rule : Rule
    model : Model or None
        Its features are the last columns of the graph.
    gates : Wiring
        What must be warm before an entry: the model's features too where it vetoes, not where it only watches.
    """

    strategy: Strategy
    executed: Contract
    quantity: int
    wiring: Wiring
    params: Records
    rule: Rule
    model: Model | None
    gates: Wiring

    @property
    def feeds(self) -> frozenset[str]:
        """Other roots and reference feeds that its features read."""
        named = {str(self.contract.pair) if root == "pair" else root for root in self.wiring.feeds}
        return frozenset(named)


def check_settings(settings: Settings, contracts: ContractMap) -> list[str]:
    """Check what only the contract map and the calendar can tell of settings.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap

    Returns
    -------
    list of str
        The symbols that the settings name, each of which could be traded. When they name none, the
        rule is checked against ES.

    Raises
    ------
    ConfigError
    """
    symbols = Universe(settings, contracts, start=None, end=None)
    for root in settings.symbols or ("ES",):
        symbols.get(root)
    return list(settings.symbols)


class Universe:
    """Symbols made on first sight: the data decide which there are."""

    def __init__(
        self,
        settings: Settings,
        contracts: ContractMap,
        *,
        start: date | None,
        end: date | None,
        models: Callable[[str], Model | None] | None = None,
    ) -> None:
        self._models = models
        self._settings = settings
        self._contracts = contracts
        self._span = (start, end)
        self._made: dict[str, Symbol] = {}
        self._read: dict[str, Instrument] = {}
        for root, own in settings.symbols.items():
            check_symbol(root, own.execute, contracts)

    def get(self, root: str) -> Symbol:
        """Return a symbol, made on first sight.

        Parameters
        ----------
        root : str

        Returns
        -------
        Symbol
        """
        if root not in self._made:
            self._made[root] = self._make(root)
        return self._made[root]

    def place(self, root: str) -> int:
        """Return the place of a root in the contract map, from 0.

        Parameters
        ----------
        root : str

        Returns
        -------
        int
        """
        return self._contracts.order(root)

    @property
    def has_models(self) -> bool:
        """Whether each symbol has a model, whose features are known with the symbol only."""
        return self._models is not None

    def inside_bars(self, roots: Sequence[str] | None) -> dict[str, tuple[str, bool]]:
        """Tell of each root the width of its signal bars, and whether the minutes inside them matter.

        Parameters
        ----------
        roots : sequence of str, optional
            Default: all of the contract map.

        Returns
        -------
        dict of str to (str, bool)
        """
        strategies = {
            root: self._settings.strategy_of(root) for root in roots or self._contracts.contracts
        }
        return {
            root: (each.signal_bar, each.exits.protective is not None)
            for root, each in strategies.items()
        }

    @cached_property
    def asked(self) -> Wiring:
        """What the filters of any strategy of the settings read."""
        strategies = [
            self._settings.strategy,
            *map(self._settings.strategy_of, self._settings.symbols),
        ]
        names = {name for strategy in strategies for name in strategy.filters}
        catalogue = load_catalogue(self._contracts)
        return wire(catalogue[name].node for name in sorted(names & catalogue.keys()))

    def instrument(self, root: str) -> Instrument:
        """Return what features read of, made on first sight.

        Parameters
        ----------
        root : str
            A root of the contract map or a reference feed.

        Returns
        -------
        Instrument
        """
        if root not in self._read:
            contract = self._contracts.readable(root)
            sessions = load_sessions(contract.session, _FIRST_NS, _LAST_NS)
            self._read[root] = Instrument(contract, sessions, _table(sessions))
        return self._read[root]

    def _make(self, root: str) -> Symbol:
        settings, contract = self._settings, self._contracts.get(root)
        own = settings.symbols.get(root)
        strategy = settings.strategy_of(root)
        executed = self._contracts.get(own.execute) if own and own.execute else contract
        quantity = own.quantity if own else 1
        where = f"symbols.{root}.strategy" if own and own.strategy else "strategy"
        read = self.instrument(root)
        model = self._models(root) if self._models else None
        features = model.features if model else ()
        wiring = make_wiring(strategy, contract, self._contracts, where, features)
        watches = settings.model.mode == "shadow"
        gates = make_wiring(strategy, contract, self._contracts, where) if watches else wiring
        return Symbol(
            contract,
            read.sessions,
            read.session_table,
            strategy=strategy,
            executed=executed,
            quantity=quantity,
            wiring=wiring,
            params=make_params(strategy, executed, gates, quantity=quantity, costs=settings.costs),
            rule=make_rule(strategy, contract, start=self._span[0], end=self._span[1], where=where),
            model=model,
            gates=gates,
        )


def _table(sessions: Sessions) -> Records:
    table = np.zeros(len(sessions.open_ns), SESSION)
    for name in ("open_ns", "close_ns", "break_start_ns", "break_end_ns"):
        table[name] = getattr(sessions, name)
    table["date"] = sessions.trade_date
    return table
