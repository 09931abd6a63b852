"""A candidate enters only on a valid score at or above the threshold; every other reason is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs_core.veto import FAULT, MISSING, TAKEN, VETOED, judge, reason_of

NAMES = ("bar_ibs", "day_atr_z", "cal_dow")


class Given:
    """A scorer that answers with the first column, and remembers what it was given."""

    def __init__(self, answer=lambda rows: rows[:, 0].copy()):
        self.answer = answer
        self.seen = []

    def score(self, rows, /):
        self.seen.append(rows)
        return self.answer(rows)


def judged(rows, scorer=None, threshold=0.5):
    return judge(scorer or Given(), np.array(rows, float), names=NAMES, threshold=threshold)


def reasons(judgement):
    return [reason_of(code, NAMES) for code in judgement.codes.tolist()]


def test_a_score_at_the_threshold_enters():
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    found = judged([[0.5, 0, 0], [below, 0, 0], [0.9, 0, 0]])
    assert reasons(found) == ["taken", "vetoed", "taken"]
    assert found.taken.tolist() == [True, False, True]
    assert found.fault == ""


@given(st.floats(0.01, 0.99))
def test_score_and_threshold_are_compared_as_float32(threshold):
    # In float64 a float32 score of "0.55" would lie above or below a threshold of 0.55.
    as_read = float(np.float32(threshold))
    assert judged([[as_read, 0, 0]], threshold=threshold).codes.tolist() == [TAKEN]
    lower = float(np.nextafter(np.float32(threshold), np.float32(0)))
    assert judged([[lower, 0, 0]], threshold=threshold).codes.tolist() == [VETOED]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e39])
def test_a_row_without_a_required_feature_never_reaches_the_model(value):
    scorer = Given()
    found = judged([[0.9, 1, 1], [0.9, value, 1], [0.9, value, value], [0.9, 1, value]], scorer)
    assert reasons(found) == [
        "taken",
        "vetoed:missing day_atr_z",
        "vetoed:missing day_atr_z",
        "vetoed:missing cal_dow",
    ]
    assert found.codes.tolist() == [TAKEN, MISSING + 1, MISSING + 1, MISSING + 2]
    assert [rows.tolist() for rows in scorer.seen] == [[[np.float32(0.9), 1, 1]]]
    assert np.isnan(found.scores[1:]).all()
    assert found.counts() == {
        "vetoed:missing day_atr_z": 2,
        "taken": 1,
        "vetoed:missing cal_dow": 1,
    }


def test_the_greatest_float32_is_not_missing():
    assert judged([[0.9, 3.4028234e38, 1e-60]]).codes.tolist() == [TAKEN]


def test_without_a_whole_row_the_model_is_not_asked():
    scorer = Given()
    assert judged([[np.nan] * 3] * 2, scorer).codes.tolist() == [MISSING] * 2
    assert judged(np.empty((0, 3)), scorer).codes.tolist() == []
    assert scorer.seen == []


def test_an_exception_on_every_row_vetoes_every_row():
    def fail(_rows):
        raise RuntimeError("no such input")

    found = judged([[0.9, 1, 1], [np.nan, 1, 1], [0.8, 1, 1]], Given(fail))
    assert reasons(found) == [
        "vetoed:scorer error",
        "vetoed:missing bar_ibs",
        "vetoed:scorer error",
    ]
    assert found.fault == "RuntimeError: no such input"
    assert np.isnan(found.scores).all()


class Poisoned(Given):
    """A scorer that one row upsets, whatever company the row is in."""

    def __init__(self, how):
        super().__init__(lambda rows: self.upset(rows) if (rows[:, 1] == 7).any() else rows[:, 0])
        self.how = how

    def upset(self, rows):
        if self.how == "raises":
            raise RuntimeError("seven")
        return rows[:-1, 0] if self.how == "too few" else rows[:, 0].astype(np.float64)


@pytest.mark.parametrize("how", ["raises", "too few", "float64"])
def test_a_row_that_upsets_the_model_takes_no_other_with_it(how):
    rows = [[0.9, 1, 1], [0.8, 7, 1], [np.nan, 1, 1], [0.1, 1, 1], [0.7, 7, 1]]
    together = judged(rows, Poisoned(how))
    alone = [judged([row], Poisoned(how)) for row in rows]
    assert reasons(together) == [
        *("taken", "vetoed:scorer error", "vetoed:missing bar_ibs"),
        *("vetoed", "vetoed:scorer error"),
    ]
    assert together.codes.tolist() == [int(each.codes[0]) for each in alone]
    assert together.scores.tobytes() == b"".join(each.scores.tobytes() for each in alone)
    assert together.fault == alone[1].fault != ""


def test_a_model_that_fails_on_company_only_is_told_but_scores():
    def refuse(rows):
        if len(rows) > 1:
            raise MemoryError("batch")
        return rows[:, 0].copy()

    found = judged([[0.9, 1, 1], [0.1, 1, 1]], Given(refuse))
    assert (reasons(found), found.fault) == (["taken", "vetoed"], "MemoryError: batch")


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, -1e-7, 1.0000001, 7.0])
def test_a_score_outside_0_to_1_vetoes_its_row(score):
    def answer(rows):
        scores = rows[:, 0].copy()
        scores[1] = score
        return scores

    found = judged([[0.9, 1, 1], [0.9, 1, 1], [0.1, 1, 1]], Given(answer))
    assert reasons(found) == ["taken", "vetoed:scorer error", "vetoed"]
    assert np.isnan(found.scores[1])
    assert "expected [0, 1]" in found.fault


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows: rows[:, 0].astype(np.float64),
        lambda rows: rows[:, :1],
        lambda rows: rows[:-1, 0],
        lambda rows: rows[:, 0].tolist(),
        lambda _rows: None,
    ],
)
def test_scores_of_another_shape_or_type_are_an_error(answer):
    found = judged([[0.9, 1, 1], [0.9, 1, 1]], Given(answer))
    assert found.codes.tolist() == [FAULT, FAULT]
    assert found.fault


def test_the_ends_of_the_unit_interval_are_scores():
    found = judged([[0.0, 1, 1], [1.0, 1, 1]])
    assert reasons(found) == ["vetoed", "taken"]


def test_a_verdict_says_score_threshold_and_reason_exactly():
    found = judged([[0.7, 1, 1], [0.7, 1, np.nan]], threshold=0.55)
    first, second = found.verdict(0), found.verdict(1)
    assert (first.score, first.reason) == (float(np.float32(0.7)), "taken")
    assert (second.score, second.reason) == (None, "vetoed:missing cal_dow")
    assert first.threshold == second.threshold == float(np.float32(0.55))


@given(st.lists(st.lists(st.floats(width=64), min_size=3, max_size=3), min_size=1, max_size=12))
def test_a_row_is_judged_the_same_alone_and_among_others(rows):
    together = judged(rows)
    for i, row in enumerate(rows):
        alone = judged([row])
        assert alone.codes[0] == together.codes[i]
        assert alone.scores.tobytes() == together.scores[i : i + 1].tobytes()


@given(st.lists(st.lists(st.floats(width=64), min_size=3, max_size=3), max_size=12))
def test_what_is_taken_has_a_whole_row_and_a_score_in_its_band(rows):
    found = judged(np.array(rows, float).reshape(-1, 3))
    for row, score, taken in zip(rows, found.scores, found.taken, strict=True):
        if taken:
            assert np.isfinite(row).all()
            assert 0.5 <= score <= 1
    assert sum(found.counts().values()) == len(rows)


def test_rows_are_left_as_they_were():
    rows = np.array([[0.9, np.nan, 1e300]])
    kept = rows.copy()
    judge(Given(), rows, names=NAMES, threshold=0.5)
    assert rows.tobytes() == kept.tobytes()
