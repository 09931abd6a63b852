"""What the vetoes of a run saved or cost: the same bars traded with them and without.

The value is the difference of two back-tests, since an entry kept out also lets others in: they find the
position free, or the capacity. What the vetoed entries would have made, each alone, is told beside it.
Trades that a model was trained on are counted apart; they are no evidence of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import polars as pl

from ibs_core.backtest import trade
from ibs_core.bars import NEVER
from ibs_core.candidate_table import follow
from ibs_core.ledger import marks_frame
from ibs_core.portfolio import ENTRY, TAKEN
from ibs_core.report.bootstrap import block_sessions, resampled_sums
from ibs_core.report.run import TRADES
from ibs_core.report.significance import N_SESSIONS_MIN
from ibs_core.report.training_window import Account, divide, inside, spelt_instant
from ibs_core.sessions import session_index
from ibs_core.signals import CANDIDATE
from ibs_core.veto import TAKEN as LET_IN
from ibs_core.veto import VETOED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    from ibs_core.backtest import Traded
    from ibs_core.bars import Floats, Ints
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import MinuteSource
    from ibs_core.universe import Model, Symbol

__all__ = ["CONFIDENCE", "compare", "scored_below", "veto_value"]

CONFIDENCE: Final = 0.9
"""Share of the resamples that lie in the interval, as many below as above it."""

_INSTANT: Final = pl.Datetime("ns", "UTC")


def veto_value(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    models: Callable[[str], Model],
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    n_resamples: int = 10_000,
    seed: int = 7,
    progress: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Trade bars with the vetoes and without, and compare.

    Parameters
    ----------
    source : MinuteSource
        Read twice: held in memory, years of minutes would be larger than all else.
    settings : Settings
        In whatever mode.
    contracts : ContractMap
    models : callable
        Gives the model of a root.
    roots, start, end : optional
        As ``trade`` takes them.
    n_resamples, seed : int
        As `compare` takes them.
    progress : callable, optional
        As ``trade`` takes it.

    Returns
    -------
    dict
        As `compare` returns it.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    modes: tuple[Literal["veto"], Literal["off"]] = ("veto", "off")
    veto, off = (
        trade(
            source,
            settings.in_mode(mode),
            contracts,
            roots=roots,
            start=start,
            end=end,
            models=models,
            progress=progress,
        )
        for mode in modes
    )
    return compare(veto, off, n_resamples=n_resamples, seed=seed)


def compare(veto: Traded, off: Traded, *, n_resamples: int, seed: int) -> dict[str, Any]:
    """Compare what was traded with vetoes and without.

    Parameters
    ----------
    veto, off : Traded
        Of the same bars and dates.
    n_resamples : int, >= 1
    seed : int, >= 0

    Returns
    -------
    dict
        JSON values. ``models`` by symbol: ``version``, ``first_decision``, ``last_label_end``.
        ``outside`` and ``inside`` the training windows, each with ``total`` and ``by_symbol``: ``trades_off``,
        ``trades_veto``, ``net_usd_off``, ``net_usd_veto``, ``value_usd`` (veto less off), ``vetoed`` (candidates,
        each followed alone to its exit), ``vetoed_net_usd``, ``kept_out`` (those of them that `off` entered),
        ``kept_out_net_usd``; outside also ``interval_usd`` and ``share_at_most_zero`` of the resamples that
        ``bootstrap`` tells of, None below `N_SESSIONS_MIN` sessions. By symbol: ``vetoed_without_trade``, vetoed
        candidates whose entry lapses or whose trade the data do not end; ``left_out``, trades of `off` before
        the first candidate that the model judged, for the windows of its features fill at the start of any
        data; ``waiting``, later candidates of `off` that with the veto wait for its features. ``warnings``:
        what a reader must know.
    """
    first = {each.root: _first(veto, i) for i, each in enumerate(veto.symbols)}
    booked = pl.concat(_booked(veto, off, i) for i in range(len(veto.symbols)))
    warm = pl.col("entry_time") >= pl.col("symbol").replace_strict(
        first, return_dtype=pl.Int64
    ).cast(_INSTANT)
    cold, booked = booked.filter(~warm), booked.filter(warm)
    roots = [each.root for each in veto.symbols]
    facts: dict[str, Any] = {
        where: {
            "total": _row(rows),
            "by_symbol": {root: _row(rows.filter(symbol=root)) for root in roots},
        }
        for where, rows in (
            ("outside", booked.filter(~pl.col("inside"))),
            ("inside", booked.filter("inside")),
        )
    }
    changes = _changes(veto, first, booked.filter(~pl.col("inside")))
    facts["bootstrap"], spreads = _resampled(changes, n_resamples=n_resamples, seed=seed)
    outside = facts["outside"]
    for row, spread in zip(
        (outside["total"], *outside["by_symbol"].values()), spreads, strict=True
    ):
        row.update(spread)
    without = booked.filter(pl.col("run") == "vetoed", pl.col("net_usd").is_null())
    facts["vetoed_without_trade"] = {root: without.filter(symbol=root).height for root in roots}
    facts["left_out"] = {root: cold.filter(symbol=root).height for root in roots}
    facts["waiting"] = {root: _waiting(veto, off, i, first[root]) for i, root in enumerate(roots)}
    notes = [note for each in veto.symbols for note in _model(each).notes]
    facts["warnings"] = list(dict.fromkeys((*veto.warnings, *notes)))
    facts["models"] = {each.root: _trained(_model(each)) for each in veto.symbols}
    return facts


def scored_below(traded: Traded) -> pl.DataFrame:
    """Follow the candidates that models scored below their thresholds, each alone, in veto or shadow.

    Parameters
    ----------
    traded : Traded

    Returns
    -------
    polars.DataFrame
        Schema `TRADES`: those whose entry does not lapse and whose exit the data hold. Candidates that lack a
        feature have no score and are not among them.
    """
    parts = []
    for i, symbol in enumerate(traded.symbols):
        if symbol.model:
            signal = traded.signals[i]
            below = (signal["gate"] == CANDIDATE) & (signal["verdict"] == VETOED)
            parts.append(follow(traded, i, np.flatnonzero(below))[1])
    return pl.concat([pl.DataFrame(schema=TRADES), *parts])


def _first(veto: Traded, i: int) -> int:
    """Return when the model judged the first candidate of a symbol, UTC ns."""
    ends = veto.series[i].bars["end_ns"][veto.signals[i]["gate"] == CANDIDATE]
    return int(ends[0]) if len(ends) else NEVER


def _waiting(veto: Traded, off: Traded, i: int, first_ns: int) -> int:
    """Count the candidates of `off` that are none with the veto, from an instant on."""
    plain, mine = (each.signals[i]["gate"] == CANDIDATE for each in (off, veto))
    return int(np.count_nonzero(plain & ~mine & (veto.series[i].bars["end_ns"] >= first_ns)))


def _booked(veto: Traded, off: Traded, i: int) -> pl.DataFrame:
    """List what one symbol made: ``run`` (off, veto; or vetoed, each candidate alone), ``net_usd``, where and when."""
    symbol = veto.symbols[i]
    of = pl.col("symbol") == symbol.root
    parts = [
        each.trades().filter(of).with_columns(run=pl.lit(run), entered=pl.lit(value=False))
        for run, each in (("off", off), ("veto", veto))
    ]
    parts.append(_vetoed(veto, off, i).with_columns(run=pl.lit("vetoed")))
    rows = pl.concat(
        each.select(
            pl.lit(symbol.root).alias("symbol"),
            "run",
            "entry_time",
            pl.col("exit_time").fill_null(pl.col("entry_time")),
            "net_usd",
            "entered",
        )
        for each in parts
    )
    return rows.with_columns(inside=inside(rows, _windows(veto)))


def _vetoed(veto: Traded, off: Traded, i: int) -> pl.DataFrame:
    """List the vetoed candidates of one symbol, whether `off` entered them, and what each alone made."""
    signal = veto.signals[i]
    places = np.flatnonzero((signal["gate"] == CANDIDATE) & (signal["verdict"] != LET_IN))
    times = veto.series[i].bars["end_ns"][places]
    made = off.decision_records
    taken = (made["symbol"] == i) & (made["action"] == ENTRY) & (made["reason"] == TAKEN)
    ended, trades = follow(veto, i, places)
    alone = trades.select("exit_time", "net_usd").with_columns(place=pl.Series(places[ended]))
    decided = {
        "place": places,
        "entry_time": pl.Series(times).cast(_INSTANT),
        "entered": np.isin(times, made["time_ns"][taken]),
    }
    return pl.DataFrame(decided).join(alone, on="place", how="left")


def _row(booked: pl.DataFrame) -> dict[str, Any]:
    net = {run: booked.filter(run=run)["net_usd"].drop_nulls() for run in ("off", "veto", "vetoed")}
    entered = booked.filter(pl.col("entered"))["net_usd"].drop_nulls()
    off, veto, vetoed = (math.fsum(each) for each in net.values())
    return {
        "trades_off": len(net["off"]),
        "trades_veto": len(net["veto"]),
        "net_usd_off": off,
        "net_usd_veto": veto,
        "value_usd": veto - off,
        "vetoed": len(net["vetoed"]),
        "vetoed_net_usd": vetoed,
        "kept_out": len(entered),
        "kept_out_net_usd": math.fsum(entered),
    }


def _changes(veto: Traded, first: dict[str, int], booked: pl.DataFrame) -> tuple[Ints, Floats]:
    """Book what the vetoes changed outside the training windows by session of exit.

    Returns the trade dates that count outside for some symbol, and a column for each symbol.
    """
    dates = [_unseen_dates(veto, first)]
    columns = []
    sign = pl.when(run="veto").then(1.0).otherwise(-1.0)
    for symbol in veto.symbols:
        own = booked.filter(pl.col("symbol") == symbol.root, pl.col("run") != "vetoed")
        exits = session_index(symbol.sessions, own["exit_time"].dt.epoch("ns").to_numpy())
        dates.append(symbol.sessions.trade_date[exits])
        columns.append(own.select(pl.col("net_usd") * sign).to_series().to_numpy())
    axis = np.unique(np.concatenate(dates))
    changes = np.zeros((len(axis), len(columns)))
    for i, usd in enumerate(columns):
        np.add.at(changes[:, i], np.searchsorted(axis, dates[1 + i]), usd)
    return axis, changes


def _unseen_dates(veto: Traded, first: dict[str, int]) -> Ints:
    """Return the trade dates of the sessions that count outside, as `divide` counts them, once a model judges."""
    marks = pl.concat(
        marks_frame(series, symbol.sessions, symbol.rule.first_date).filter(
            pl.col("close_ns") > first[symbol.root]
        )
        for symbol, series in zip(veto.symbols, veto.series, strict=True)
    )
    outside, _ = divide(Account(veto.trades(), marks, []), _windows(veto), first)
    return outside.marks["session_date"].cast(pl.Int32).cast(pl.Int64).to_numpy()


def _resampled(
    booked: tuple[Ints, Floats], *, n_resamples: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how sessions were resampled; and the interval of the total, then of each symbol."""
    axis, changes = booked
    n = len(axis)
    told: dict[str, Any] = {
        "sessions": n,
        "resamples": n_resamples,
        "seed": seed,
        "confidence": CONFIDENCE,
    }
    told |= {"first_session": None, "last_session": None, "mean_block_sessions": None}
    if n:
        dates = np.datetime_as_string(axis[[0, -1]].astype("datetime64[D]")).tolist()
        told |= {"first_session": dates[0], "last_session": dates[1]}
    if n < N_SESSIONS_MIN:
        unknown = {"interval_usd": None, "share_at_most_zero": None}
        return told, [unknown] * (1 + changes.shape[1])
    block = block_sessions(n)
    columns = np.column_stack([changes.sum(axis=1), changes])
    sums = resampled_sums(columns, n_resamples=n_resamples, mean_block=block, seed=seed)
    ends = np.quantile(sums, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2), axis=0)
    shares = (sums <= 0.0).mean(axis=0)
    spreads = [
        {"interval_usd": interval, "share_at_most_zero": share}
        for interval, share in zip(ends.T.tolist(), shares.tolist(), strict=True)
    ]
    return told | {"mean_block_sessions": block}, spreads


def _windows(traded: Traded) -> dict[str, tuple[int, int]]:
    return {each.root: _model(each).seen_ns for each in traded.symbols}


def _model(symbol: Symbol) -> Model:
    assert symbol.model is not None, symbol.root
    return symbol.model


def _trained(model: Model) -> dict[str, str]:
    first, last = map(spelt_instant, model.seen_ns)
    return {"version": model.version, "first_decision": first, "last_label_end": last}
