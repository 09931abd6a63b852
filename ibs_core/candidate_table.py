"""The candidates of any data, each with its features at the decision and the trade that it alone became.

This is what a veto is trained on: rows of the engine itself, at decision time, with its gates, fills and
costs. Labels overlap, because no position keeps another out; purging is for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibs_core import positions, replay, signals
from ibs_core.backtest import trade
from ibs_core.config import Risk
from ibs_core.feature_table import tabulate
from ibs_core.ledger import priced
from ibs_core.parameters import make_risk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ibs_core.backtest import Traded
    from ibs_core.bars import Ints
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.feature_table import FeatureTable
    from ibs_core.market_data import MinuteSource

__all__ = ["candidates", "follow", "labelled"]


def candidates(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    *,
    roots: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Iterator[pl.DataFrame]:
    """Label every candidate.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
        Its limits over symbols do not count: each candidate is followed alone. No model is asked, whatever
        the mode.
    contracts : ContractMap
    roots : sequence of str, optional
        Default: those of the settings, else all that the data hold.
    names : sequence of str, optional
        Features to record; default: all that the data serve.
    progress : callable, optional
        Called with a root and the number of its minutes just read.

    Yields
    ------
    polars.DataFrame
        One a symbol, by decision: ``time`` of the decision, ``session`` (its trade date), the columns of a
        trade from ``symbol`` to ``ibs_exit``, ``label`` (1 when ``net_usd`` > 0), then the features, null where
        missing or where their windows are not full: a veto that reads them is not asked then. Candidates whose entry lapsed, or whose trade the data do not end, are left out.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    alone = settings.in_mode("off").model_copy(update={"risk": Risk()})
    traded = trade(source, alone, contracts, roots=roots, progress=progress)
    symbols = [symbol.root for symbol in traded.symbols]
    tables = tabulate(
        *(source, alone, contracts), roots=symbols, names=names, only_full=True, progress=progress
    )
    for i, table in enumerate(tables):
        yield labelled(traded, i, table)


def labelled(traded: Traded, i: int, table: FeatureTable) -> pl.DataFrame:
    """Label the candidates of one symbol.

    Parameters
    ----------
    traded : Traded
    i : int
        Index of the symbol.
    table : FeatureTable
        Of it, over the same bars.

    Returns
    -------
    polars.DataFrame
        As `candidates` yields it.
    """
    places = np.flatnonzero(traded.signals[i]["gate"] == signals.CANDIDATE)
    ended, trades = follow(traded, i, places)
    rows = table.frame()[places[ended]]
    decided = rows.select(pl.col("known_at").alias("time"), "session")
    label = (trades["net_usd"] > 0.0).cast(pl.Int64).alias("label")
    return decided.hstack(trades.drop("score")).with_columns(label).hstack(rows.select(table.names))


def follow(traded: Traded, i: int, places: Ints) -> tuple[Ints, pl.DataFrame]:
    """Follow candidates of one symbol, each as if nothing else were held and nothing vetoed.

    Parameters
    ----------
    traded : Traded
    i : int
        Index of the symbol.
    places : (k,) int64
        Bars of candidates, ascending.

    Returns
    -------
    ended : (n_ended,) int64
        Which of `places` became trades that ended; the entry of the others lapsed, or the data end first.
    trades : polars.DataFrame
        Schema `TRADES`, a row for each of `ended`, in the same order: a later candidate may exit first.
    """
    symbol, series = traded.symbols[i], traded.series[i]
    feed = np.zeros(1, replay.FEED)
    feed["stop"], feed["session_stop"] = len(series.bars), len(symbol.session_table)
    trades = np.zeros(len(places), positions.TRADE)
    ended = np.zeros(len(places), np.int64)
    replay.label_many(
        symbol.params,
        make_risk(Risk(), veto=False)[0],
        feed,
        series.bars,
        traded.schedules[i],
        traded.signals[i],
        series.path,
        symbol.session_table,
        places,
        trades,
        ended,
    )
    found = np.flatnonzero(ended)
    return found, priced(trades[found], [traded.lines[i]])
