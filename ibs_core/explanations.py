"""Why each candidate of a back-test was let in or kept out: its score, divided among its features.

The scorer is watched, not imitated: what is explained are the very rows that it scored. A back-test that
explains nothing is not touched by any of this.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ibs_core.backtest import trade
from ibs_core.errors import DataError
from ibs_core.ledger import decisions_frame
from ibs_core.signals import CANDIDATE
from ibs_core.veto import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from ibs_core.backtest import Traded
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.explain import Explainer
    from ibs_core.market_data import MinuteSource
    from ibs_core.universe import Model
    from ibs_core.veto import Scorer

__all__ = ["EXPLANATIONS", "explain"]

EXPLANATIONS: Final = pl.Schema(
    {
        "time": pl.Datetime("ns", "UTC"),
        "symbol": pl.String(),
        "reason": pl.String(),
        "score": pl.Float32(),
        "threshold": pl.Float32(),
        "base": pl.Float64(),
        "feature": pl.String(),
        "value": pl.Float32(),
        "contribution": pl.Float64(),
    }
)
"""A row for each feature of each candidate, in the model's order. Of a candidate, ``base`` and its contributions
sum to ``score``. One that the model did not score has a single row, without score, base and feature."""

_SUM: Final = 1e-6
"""By how much a sum may miss its score."""


def explain(
    source: MinuteSource,
    settings: Settings,
    contracts: ContractMap,
    models: Callable[[str], Model],
    explainers: Callable[[str], Explainer],
    *,
    roots: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Iterator[pl.DataFrame]:
    """Trade bars and explain the score of every candidate.

    Parameters
    ----------
    source : MinuteSource
    settings : Settings
        In mode shadow, in which the model is asked and changes nothing, or veto.
    contracts : ContractMap
    models : callable
        Gives the model of a root.
    explainers : callable
        Gives what explains the scores of that model.
    roots, start, end, progress : optional
        As ``trade`` takes them.

    Yields
    ------
    polars.DataFrame
        Schema `EXPLANATIONS`, one a symbol, by time; ``reason`` as in the decisions of the back-test.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    watched: dict[str, _Watched] = {}

    @cache
    def watching(root: str) -> Model:
        model = models(root)
        watched[root] = _Watched(model.scorer, len(model.features))
        return replace(model, scorer=watched[root])

    traded = trade(
        source,
        settings,
        contracts,
        roots=roots,
        start=start,
        end=end,
        models=watching,
        progress=progress,
    )
    decisions = decisions_frame(traded.decision_records, traded.lines).filter(action="entry")
    for i, symbol in enumerate(traded.symbols):
        own = decisions.filter(symbol=symbol.root).drop("action")
        yield _explained(traded, i, own, watched[symbol.root].rows, explainers(symbol.root))


class _Watched:
    """A scorer that remembers what it was asked first: of a back-test, all rows that have every feature."""

    def __init__(self, scorer: Scorer, n_features: int) -> None:
        self.rows = np.empty((0, n_features), np.float32)
        self._scorer = scorer

    def score(self, rows: NDArray[np.float32], /) -> NDArray[np.float32]:
        if not len(self.rows):  # when it fails it is asked again row by row
            self.rows = rows
        return self._scorer.score(rows)


def _explained(
    traded: Traded,
    i: int,
    decisions: pl.DataFrame,
    rows: NDArray[np.float32],
    explainer: Explainer,
) -> pl.DataFrame:
    """Divide the scores of one symbol's decisions; `rows` are of those that miss no feature."""
    model, signal = traded.symbols[i].model, traded.signals[i]
    assert model is not None
    verdicts = signal["verdict"][signal["gate"] == CANDIDATE]
    assert len(verdicts) == len(decisions), (len(verdicts), len(decisions))
    asked = np.flatnonzero(verdicts < MISSING)
    assert len(asked) == len(rows), (len(asked), len(rows))
    scores = decisions["score"].to_numpy()[asked].astype(np.float64)
    valid = np.isfinite(scores)
    rows, scores = rows[valid], scores[valid]
    base, contributions = explainer.explain(rows)
    _require_sums(traded.symbols[i].root, scores, base + contributions.sum(axis=1))
    k = len(model.features)
    parts = pl.DataFrame(
        {
            "candidate": np.repeat(asked[valid], k),
            "base": np.full(rows.size, base),
            "feature": list(model.features) * len(rows),
            "value": rows.ravel(),
            "contribution": contributions.ravel(),
        },
        schema_overrides={"candidate": pl.UInt32, "feature": pl.String},
    )
    told = decisions.with_row_index("candidate").join(
        parts, on="candidate", how="left", maintain_order="left_right"
    )
    return told.select(pl.col(name).cast(dtype) for name, dtype in EXPLANATIONS.items())


def _require_sums(root: str, scores: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Refuse an explanation of another model than the one that scored."""
    apart = float(np.abs(scores - sums).max(initial=0.0))
    if apart > _SUM:
        raise DataError(
            f"explanation of {root}",
            expected=f"base and contributions within {_SUM:g} of the score",
            found=f"{apart:g} apart",
            remedy="the model changed while it was read, or its file is not the one that scores",
        )
