"""The back-test driver: what is gathered becomes signals, and signals become trades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibs_core import portfolio, positions, replay, signals
from ibs_core.bars import NEVER, joined
from ibs_core.groundwork import gates, gather, lay_ground
from ibs_core.ledger import line_of, trades_frame
from ibs_core.observer import Observer
from ibs_core.parameters import make_risk
from ibs_core.reading import Key, feeds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    import polars as pl

    from ibs_core.bar_cache import Drawer, Shelf
    from ibs_core.bars import Ints
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.groundwork import Gathered, Ground, Laid
    from ibs_core.ledger import Line
    from ibs_core.market_data import MinuteSource
    from ibs_core.series import Series
    from ibs_core.universe import Model, Symbol

__all__ = ["Traded", "decide", "judge", "replay_read", "trade"]

Records = NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Traded:
    """What the engine decided, as records.

    Attributes
    ----------
    symbols : sequence
        What was fixed before any bar, in contract-map order.
    series : sequence of Series
    schedules : sequence of (n_bars,) SCHEDULE
    signals : sequence of (n_bars,) SIGNAL
    lines : sequence of Line
    trade_records : (n_trades,) TRADE
    decision_records : (n_decisions,) DECISION
    book : (n_symbols,) POSITION
        Where every position stands at the end.
    warnings : list of str
        What a reader of the result must know of the data, those that features read included.
    drawer : Drawer
        For what is made of the bars alone.
    """

    symbols: Sequence[Symbol]
    series: Sequence[Series]
    schedules: Sequence[Records]
    signals: Sequence[Records]
    lines: Sequence[Line]
    trade_records: Records
    decision_records: Records
    book: Records
    warnings: list[str]
    drawer: Drawer

    def trades(self) -> pl.DataFrame:
        """Return the trade table."""
        return trades_frame(self.trade_records, self.lines)


def trade(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    strict: bool = False,
    seams: Mapping[str, Ints] | None = None,
    models: Callable[[str], Model] | None = None,
    inputs: Records | None = None,
    shelf: Shelf | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Traded:
    """Replay bars into trades: everything up to the trade table.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
    contracts : ContractMap
    roots : sequence of str, optional
        Symbols to trade; default: those of the settings, else all that the data hold.
    start, end : date, optional
        Session dates traded, both included. Earlier bars are observed, later ones not read.
    strict : bool
        Refuse data that would be repaired.
    seams : Mapping of str to (n_seams,) int64, UTC ns, optional
        Roll instants by root where a roll table knows more than the data; default: those of the data.
    models : callable, optional
        Gives the model of a root; asked only where the settings' mode is not off.
    inputs : (n_inputs,) INPUT, by time, optional
        What only live knew.
    shelf : Shelf, optional
        Where bars are kept from one run to the next; the result is the same.
    progress : callable, optional
        Called with a symbol and the number of its minutes just read.

    Returns
    -------
    Traded

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    gathered = gather(
        *(source, settings, contracts),
        roots=roots,
        start=start,
        end=end,
        strict=strict,
        models=models,
        each_minute=inputs is not None,
        shelf=shelf,
        progress=progress,
    )
    if seams is not None:
        gathered = gathered.with_seams(seams)
    return replay_read(gathered, settings, inputs=inputs)


def replay_read(gathered: Gathered, settings: Settings, *, inputs: Records | None = None) -> Traded:
    """Replay bars that were read into trades.

    Parameters
    ----------
    gathered : Gathered
    settings : Settings
        Those of its symbols.
    inputs : (n_inputs,) INPUT, by time, optional
        What only live knew.

    Returns
    -------
    Traded
    """
    symbols, series = gathered.symbols, gathered.series
    ground = lay_ground(symbols, gathered)
    params = joined([symbol.params for symbol in symbols])
    seen = np.zeros(len(ground.schedule), signals.SIGNAL)
    if ground.columns:
        gates(ground, params, seen)
    else:
        judge(gathered, ground, seen)
    risk = make_risk(settings.risk, veto=settings.model.mode == "veto")
    told = np.zeros(0, portfolio.INPUT) if inputs is None else inputs
    made = decide(ground.laid, params, risk, ground.schedule, seen, told)
    lines = [
        line_of(symbol, item.instruments, settings.costs)
        for symbol, item in zip(symbols, series, strict=True)
    ]
    stops = ground.laid.starts["stop"][:-1]
    known, found = (np.split(records, stops) for records in (ground.schedule, seen))
    return Traded(symbols, series, known, found, lines, *made, gathered.warnings, gathered.drawer)


def judge(gathered: Gathered, ground: Ground, seen: Records) -> None:
    """Observe every bar, and ask the models of the candidates.

    Parameters
    ----------
    gathered : Gathered
    ground : Ground
        Of it; what its schedule says of cold instruments is written.
    seen : (n_bars,) SIGNAL, written
    """
    for i, (symbol, item) in enumerate(zip(gathered.symbols, gathered.series, strict=True)):
        own, n = gathered.feeds[Key(symbol.root, symbol.rule.tf_ns)], len(item.closed)
        schedule, found = ground.schedule[ground.of(i)], seen[ground.of(i)]
        others = feeds_of(symbol, gathered.feeds)
        Observer(symbol).observe(own, others, schedule[:n], found[:n], n_days=len(item.days))
        found["gate"][n:] = signals.NOT_TRADED


def decide(
    laid: Laid,
    params: Records,
    risk: Records,
    schedule: Records,
    seen: Records,
    inputs: Records,
) -> tuple[Records, Records, Records]:
    """Replay all symbols, slice by slice.

    Parameters
    ----------
    laid : Laid
    params : (n_symbols,) PARAMS
    risk : (1,) RISK
    schedule, seen : (n_bars,) SCHEDULE, SIGNAL
    inputs : (n_inputs,) INPUT

    Returns
    -------
    (n_trades,) TRADE
    (n_decisions,) DECISION
    (n_symbols,) POSITION
        Where every position stands at the end.
    """
    n_candidates = int(np.count_nonzero(seen["gate"] == signals.CANDIDATE))
    trades = np.zeros(n_candidates + 1, positions.TRADE)
    decisions = np.zeros(3 * n_candidates + 1, portfolio.DECISION)
    n = np.zeros(3, np.int64)
    book = positions.new_positions(len(params))
    replay.decide_many(
        NEVER,
        params,
        risk[0],
        book,
        portfolio.new_desk()[0],
        laid.starts.copy(),
        laid.bars,
        schedule,
        seen,
        laid.path,
        laid.sessions,
        inputs,
        trades,
        decisions,
        n,
    )
    return trades[: n[0]], decisions[: n[1]], book
