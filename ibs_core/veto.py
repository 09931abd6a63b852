"""The veto: which candidates a model lets in, and why the others stay out.

Rows are judged one by one: in a batch of thousands or alone, a row ends with the same score and reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "FAULT",
    "MISSING",
    "TAKEN",
    "VETOED",
    "Judgement",
    "Scorer",
    "Verdict",
    "judge",
    "reason_of",
]

TAKEN: Final = 0
VETOED: Final = 1
FAULT: Final = 2
MISSING: Final = 3
"""And above: ``MISSING + i`` for the i-th feature of the model."""

_FLOAT32: Final = np.dtype(np.float32)
_REASONS: Final = ("taken", "vetoed", "vetoed:scorer error")


class Scorer(Protocol):
    """A model as the veto sees it."""

    def score(self, rows: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Return the probabilities (k,) of rows (k, n_features), all finite; each in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of one candidate.

    Parameters
    ----------
    score : float or None
        In [0, 1], exactly the model's float32; None where the model gave no valid score.
    threshold : float
        Exactly the float32 that it was compared with.
    reason : str
        ``taken``, ``vetoed``, ``vetoed:missing <feature>`` or ``vetoed:scorer error``.
    """

    score: float | None
    threshold: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What was decided of many candidates.

    Parameters
    ----------
    names : sequence of str
        The model's features.
    threshold : float32
    scores : (k,) float32
        NaN where the model gave no valid score.
    codes : (k,) int64
        ``TAKEN``, ``VETOED``, ``FAULT`` or ``MISSING + i``.
    fault : str
        What the scorer did wrong; empty where it did not.
    """

    names: Sequence[str]
    threshold: np.float32
    scores: NDArray[np.float32]
    codes: NDArray[np.int64]
    fault: str = ""

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Which candidates may enter, (k,) bool."""
        taken: NDArray[np.bool_] = self.codes == TAKEN
        return taken

    def verdict(self, i: int) -> Verdict:
        """Say what was decided of the i-th candidate."""
        score = float(self.scores[i])
        reason = reason_of(int(self.codes[i]), self.names)
        return Verdict(score if score == score else None, float(self.threshold), reason)  # noqa: PLR0124  (NaN)

    def counts(self) -> dict[str, int]:
        """Count candidates by reason, the most frequent first."""
        counted = Counter(self.codes.tolist())
        return {reason_of(code, self.names): n for code, n in counted.most_common()}


def judge(
    scorer: Scorer, rows: NDArray[np.float64], *, names: Sequence[str], threshold: float
) -> Judgement:
    """Judge candidates with a model.

    A row with a feature that is NaN, infinite or beyond float32 never reaches the model: it is vetoed,
    and the first such feature, in the model's order, is the reason. A score that is NaN or outside
    [0, 1] vetoes its row. When the scorer fails on several rows, by an exception or by what is no score for
    each, every row is given to it alone, as live does, and vetoed only if it fails on that row. Nothing is
    ever silently zero.

    Parameters
    ----------
    scorer : Scorer
    rows : (k, n_features) float64
        Columns in the order of `names`; NaN is missing.
    names : sequence of str
        The model's features.
    threshold : float
        In (0, 1); a score at or above it enters, both as float32.

    Returns
    -------
    Judgement
    """
    assert rows.ndim == 2, rows.shape
    assert rows.shape[1] == len(names), (rows.shape, len(names))
    assert 0.0 < threshold < 1.0, threshold
    limit = np.float32(threshold)
    narrow = _narrow(rows)
    present = np.isfinite(narrow)
    if np.count_nonzero(present) == present.size:  # a third of the time that all() takes
        return Judgement(names, limit, *_scored(scorer, narrow, limit))
    whole = present.all(axis=1)
    scores = np.full(len(rows), np.nan, np.float32)
    codes = MISSING + np.argmin(present, axis=1)
    fault = ""
    if whole.any():
        scores[whole], codes[whole], fault = _scored(scorer, narrow[whole], limit)
    return Judgement(names, limit, scores, codes, fault)


def reason_of(code: int, names: Sequence[str]) -> str:
    """Spell a code.

    Parameters
    ----------
    code : int
    names : sequence of str
        The model's features.

    Returns
    -------
    str
        ``taken``, ``vetoed``, ``vetoed:missing <feature>`` or ``vetoed:scorer error``.
    """
    return _REASONS[code] if code < MISSING else f"vetoed:missing {names[code - MISSING]}"


@np.errstate(over="ignore")  # becomes infinite, which is missing
def _narrow(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return rows.astype(np.float32)


def _scored(
    scorer: Scorer, rows: NDArray[np.float32], limit: np.float32
) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    if len(rows) == 0:
        return np.empty(0, np.float32), np.empty(0, np.int64), ""
    try:
        scores = np.asarray(scorer.score(rows))
    except Exception as error:  # noqa: BLE001  (whatever a model does, the answer is a veto)
        return _failed(scorer, rows, limit, f"{type(error).__name__}: {error}")
    if scores.shape != (len(rows),) or scores.dtype != _FLOAT32:
        expected, found = f"float32 ({len(rows)},)", f"{scores.dtype} {scores.shape}"
        return _failed(scorer, rows, limit, f"expected scores as {expected}, found {found}")
    if len(rows) == 1:  # as below, in a third of the time
        score = scores.item()
        if 0.0 <= score <= 1.0:
            return scores, np.array([TAKEN if score >= limit else VETOED]), ""
    codes = (~(scores >= limit)).astype(np.int64)  # TAKEN or VETOED
    valid = (scores >= 0.0) & (scores <= 1.0)  # false for NaN
    if np.count_nonzero(valid) == len(valid):
        return scores, codes, ""
    wrong = scores[~valid][0]
    codes[~valid] = FAULT
    return np.where(valid, scores, np.float32(np.nan)), codes, f"expected [0, 1], found {wrong}"


def _failed(
    scorer: Scorer, rows: NDArray[np.float32], limit: np.float32, fault: str
) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    """Veto the one row that failed; of several, find out which did."""
    if len(rows) == 1:
        return np.full(1, np.nan, np.float32), np.full(1, FAULT), fault
    alone = [_scored(scorer, row[None], limit) for row in rows]
    scores, codes = (np.concatenate([each[i] for each in alone]) for i in (0, 1))
    return scores, codes, next((each[2] for each in alone if each[2]), fault)
