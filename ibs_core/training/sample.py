"""One symbol's candidates as arrays, and what a choice among them earned, session by session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.catalogue import resolve
from ibs_core.errors import ConfigError, DataError
from ibs_core.report.significance import moments
from ibs_core.research.purging import Labels
from ibs_core.sessions import load_sessions, session_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from ibs_core.bars import Ints
    from ibs_core.contracts import ContractMap
    from ibs_core.training.dataset import Dataset

__all__ = [
    "THRESHOLDS",
    "Choice",
    "Sample",
    "choose_threshold",
    "read_sample",
    "sample_of",
    "sharpe_of",
]

THRESHOLDS: Final = tuple(round(0.45 + 0.025 * i, 3) for i in range(13))
"""0.45 to 0.75."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Candidates of one symbol, by decision.

    Attributes
    ----------
    symbol : str
    names : tuple of str
        Features for models.
    rows : (n_rows, n_names) float32
        NaN where missing, also what float32 cannot hold.
    target : (n_rows,) int64
        1 where the trade earned something after costs.
    net_usd : (n_rows,) float64
    labels : Labels
        Sessions are numbers of the calendar.
    exit_session : (n_rows,) int64
        Number of the session in which each trade ends.
    dates : (n_sessions,) int64, days since 1970-01-01
        Trade date of each session of the calendar, with or without candidates.
    idle : (n_sessions,) bool
        Sessions from the first decision to the last exit of the whole dataset without a decision.
    """

    symbol: str
    names: tuple[str, ...]
    rows: Scores
    target: Ints
    net_usd: Floats
    labels: Labels
    exit_session: Ints
    dates: Ints
    idle: Mask

    def __len__(self) -> int:
        """Count candidates."""
        return len(self.target)

    def take(self, chosen: Ints) -> Sample:
        """Keep some of the rows; the calendar stays.

        Parameters
        ----------
        chosen : (k,) int64

        Returns
        -------
        Sample
        """
        held = self.labels
        return Sample(
            self.symbol,
            self.names,
            self.rows[chosen],
            self.target[chosen],
            self.net_usd[chosen],
            Labels(held.session[chosen], held.start_ns[chosen], held.end_ns[chosen]),
            self.exit_session[chosen],
            self.dates,
            self.idle,
        )

    def judged(self) -> Ints:
        """Tell which sessions these rows are judged by, those without a trade too.

        Returns
        -------
        (k,) int64, ascending
            Every session in which one of the rows decides or exits, and those between them in which the
            symbol had no candidate at all.
        """
        own = np.zeros(len(self.dates), np.bool_)
        own[self.labels.session] = True
        own[self.exit_session] = True
        first, last = self.labels.session.min(), self.exit_session.max()
        between = np.zeros(len(self.dates), np.bool_)
        between[first : last + 1] = True
        return np.flatnonzero(own | (between & self.idle))

    def traded(self, selected: Mask) -> Mask:
        """Tell which of selected candidates one position at a time trades.

        Parameters
        ----------
        selected : (n_rows,) bool

        Returns
        -------
        (n_rows,) bool
            Those that are decided after the exit of the one before them, as in a back-test: of all
            candidates of a symbol exactly its trades, but for a cooldown and limits of the portfolio.
        """
        found = np.zeros(len(self), np.bool_)
        held_until_ns = np.iinfo(np.int64).min
        for i in np.flatnonzero(selected):
            if self.labels.start_ns[i] > held_until_ns:
                found[i], held_until_ns = True, self.labels.end_ns[i]
        return found

    def returns(self, selected: Mask) -> Floats:
        """Sum what selected candidates earned, by the session of their exit.

        Parameters
        ----------
        selected : (n_rows,) bool

        Returns
        -------
        (n_sessions,) float64, USD
            Of the whole calendar; 0 where nothing ended.
        """
        found = np.zeros(len(self.dates))
        np.add.at(found, self.exit_session[selected], self.net_usd[selected])
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The best threshold and what it selects.

    Attributes
    ----------
    threshold : float
    sharpe : float
        Per session.
    selected : (n_rows,) bool
    """

    threshold: float
    sharpe: float
    selected: Mask


def read_sample(
    dataset: Dataset, symbol: str, contracts: ContractMap, names: Sequence[str] | None = None
) -> Sample:
    """Read one symbol of a dataset.

    Parameters
    ----------
    dataset : Dataset
    symbol : str
    contracts : ContractMap
    names : sequence of str, optional
        Default: every feature of the dataset that is for models. Price levels never are.

    Returns
    -------
    Sample

    Raises
    ------
    ConfigError
        A feature is not in the dataset, or is a price level.
    DataError
        There is no candidate.
    EnvironmentFault
    """
    for name in names or ():
        feature = resolve(name, contracts, where="--features")
        if name not in dataset.features or not feature.for_models:
            why = "not in the dataset" if feature.for_models else "a price level"
            raise ConfigError(
                "--features", expected="features of the dataset for models", found=f"{name}, {why}"
            )
    usable = [
        name
        for name in names or dataset.features
        if resolve(name, contracts, where="dataset").for_models
    ]
    frame = dataset.frame(symbol)
    if frame.is_empty():
        raise DataError(f"no candidate of {symbol}", where=str(dataset.path))
    return sample_of(frame, symbol, usable, contracts)


def sample_of(
    frame: pl.DataFrame, symbol: str, names: Sequence[str], contracts: ContractMap
) -> Sample:
    """Lay candidates out as arrays.

    Parameters
    ----------
    frame : polars.DataFrame
        As `candidates` yields it, with at least one row.
    symbol : str
    names : sequence of str
        Features for models, columns of the frame.
    contracts : ContractMap

    Returns
    -------
    Sample
    """
    frame = frame.sort("time", maintain_order=True)
    start = frame["time"].to_physical().to_numpy().astype(np.int64)
    end = frame["exit_time"].to_physical().to_numpy().astype(np.int64)
    calendar = load_sessions(contracts.get(symbol).session, int(start.min()), int(end.max()) + 1)
    dates = frame["session"].to_physical().to_numpy().astype(np.int64)
    session = np.searchsorted(calendar.trade_date, dates).astype(np.int64)
    with np.errstate(over="ignore"):  # becomes infinite, which is missing
        rows = frame.select(names).to_numpy().astype(np.float32)
    rows[~np.isfinite(rows)] = np.nan
    idle = np.ones(len(calendar.trade_date), np.bool_)
    idle[session] = False
    return Sample(
        symbol,
        tuple(names),
        np.ascontiguousarray(rows),
        frame["label"].to_numpy().astype(np.int64),
        frame["net_usd"].to_numpy().astype(np.float64),
        Labels(session, start, end),
        session_index(calendar, end),
        calendar.trade_date,
        idle,
    )


def sharpe_of(returns: Floats) -> float | None:
    """Tell the Sharpe ratio per session.

    Parameters
    ----------
    returns : (n_sessions,) float64

    Returns
    -------
    float or None
        None where it is undefined.
    """
    found = moments(returns)
    return found.sharpe if found else None


def choose_threshold(sample: Sample, scores: Scores, *, n_min: int) -> Choice | None:
    """Choose the threshold with the best Sharpe ratio of out-of-fold scores.

    Parameters
    ----------
    sample : Sample
    scores : (n_rows,) float32
        NaN where a row has none: it is not selected.
    n_min : int
        Fewest selected candidates.

    Returns
    -------
    Choice or None
        Of equals the lowest threshold; None where none selects enough.
    """
    judged = sample.judged()
    best: Choice | None = None
    for threshold in THRESHOLDS:
        selected = scores >= np.float32(threshold)  # as the veto compares; false for NaN
        if np.count_nonzero(selected) < n_min:
            break
        sharpe = sharpe_of(sample.returns(selected)[judged])
        if sharpe is not None and (best is None or sharpe > best.sharpe):
            best = Choice(threshold, sharpe, selected)
    return best
