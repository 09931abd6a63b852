"""The probability of back-test overfitting against a hand-worked case and its definition."""

import math
import statistics
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs_core.errors import ConfigError, DataError
from ibs_core.research.overfitting import overfitting

# Four blocks of two periods, three trials; a block with the mean m holds m + 1 and m - 1. A half with the means
# m and n then has the Sharpe ratio (m + n)/2 / √((4 + (m - n)²)/3).
BLOCK_MEANS = np.array([[2, 1, 0], [2, 1, 0], [-2, 1, 0], [-2, 1, 0]], float)
HAND_WORKED = np.repeat(BLOCK_MEANS, 2, axis=0) + np.tile([[1.0], [-1.0]], (4, 1))
H = math.sqrt(3) / 2  # of a half with the means 1 and 1


def test_a_hand_worked_case_of_four_blocks():
    found = overfitting(HAND_WORKED, n_blocks=4)
    # The first trial wins on blocks 1 and 2 and comes last on 3 and 4; else the second wins: first of three
    # outside, but second on 1 and 2, which is the median.
    assert found.chosen.tolist() == [0, 1, 1, 1, 1, 1]
    assert found.inside == pytest.approx([2 * H, H, H, H, H, H])
    assert found.outside == pytest.approx([-2 * H, H, H, H, H, H])
    ln3 = math.log(3)
    assert found.logits == pytest.approx([-ln3, ln3, ln3, ln3, ln3, 0.0])
    assert found.probability == pytest.approx(2 / 6)
    assert found.loss_probability == pytest.approx(1 / 6)
    assert found.slope == pytest.approx(-3.0)


def naive(returns, n_blocks):
    """Every half, every trial and every rank in plain Python."""
    n_periods, n_trials = returns.shape
    size, rest = divmod(n_periods, n_blocks)
    blocks, start = [], 0
    for number in range(n_blocks):
        stop = start + size + (number < rest)
        blocks.append(range(start, stop))
        start = stop

    def sharpe(trial, numbers):
        values = [float(returns[row, trial]) for number in numbers for row in blocks[number]]
        deviation = statistics.stdev(values)
        if deviation <= 1e-9 * max(abs(each) for each in values):
            return 0.0
        return math.fsum(values) / len(values) / deviation

    out = []
    for half in combinations(range(n_blocks), n_blocks // 2):
        rest_of = [number for number in range(n_blocks) if number not in half]
        inside = [sharpe(trial, half) for trial in range(n_trials)]
        outside = [sharpe(trial, rest_of) for trial in range(n_trials)]
        best = inside.index(max(inside))
        worse = sum(each < outside[best] for each in outside)
        same = sum(each == outside[best] for each in outside)
        omega = (worse + (same + 1) / 2) / (n_trials + 1)
        out.append((best, inside[best], outside[best], math.log(omega / (1 - omega))))
    return out


@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from([2, 4, 6]), st.integers(0, 7))
def test_every_half_equals_the_definition(seed, n_trials, n_blocks, more):
    returns = np.random.default_rng(seed).standard_normal((2 * n_blocks + more, n_trials))
    found = overfitting(returns, n_blocks=n_blocks)
    chosen, inside, outside, logits = map(list, zip(*naive(returns, n_blocks), strict=True))
    assert len(chosen) == comb(n_blocks, n_blocks // 2)
    assert found.chosen.tolist() == chosen
    assert found.inside == pytest.approx(inside, rel=1e-9)
    assert found.outside == pytest.approx(outside, rel=1e-9, abs=1e-12)
    assert found.logits == pytest.approx(logits, abs=1e-12)
    assert found.probability == np.mean([logit <= 1e-12 for logit in logits])
    assert found.loss_probability == np.mean([each < 0 for each in outside])
    if n_blocks > 2:
        slope = statistics.linear_regression(inside, outside).slope
        assert found.slope == pytest.approx(slope, rel=1e-6, abs=1e-9)


@given(st.integers(0, 10**6), st.permutations(range(5)), st.floats(1e-3, 1e3))
def test_the_order_of_trials_and_the_unit_of_returns_do_not_matter(seed, order, unit):
    returns = np.random.default_rng(seed).standard_normal((40, 5))
    plain = overfitting(returns, n_blocks=4)
    other = overfitting(returns[:, order] * unit, n_blocks=4)
    assert (other.probability, other.loss_probability) == (
        plain.probability,
        plain.loss_probability,
    )
    assert other.logits == pytest.approx(plain.logits)
    assert [order[each] for each in other.chosen] == plain.chosen.tolist()


def test_choosing_among_noise_is_worth_nothing():
    rng = np.random.default_rng(3)
    found = [overfitting(rng.standard_normal((240, 20)), n_blocks=8) for _ in range(60)]
    assert np.mean([each.probability for each in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([each.loss_probability for each in found]) == pytest.approx(0.5, abs=0.05)


def test_one_truly_good_trial_is_found_again():
    returns = np.random.default_rng(4).standard_normal((1_000, 50))
    returns[:, 17] += 0.25
    found = overfitting(returns, n_blocks=10)
    assert set(found.chosen.tolist()) == {17}
    assert found.probability < 0.01
    assert found.loss_probability < 0.01


def test_trials_that_swap_their_luck_are_overfitted():
    # Each trial earns in one half of the time what it loses in the other.
    rng = np.random.default_rng(5)
    first = rng.standard_normal((100, 30))
    found = overfitting(np.concatenate([first, -first]), n_blocks=2)
    assert found.probability == 1.0
    assert found.loss_probability == 1.0


def test_copies_of_one_trial_share_the_median():
    returns = np.tile(np.random.default_rng(6).standard_normal((40, 1)), 4)
    found = overfitting(returns, n_blocks=4)
    assert set(found.chosen.tolist()) == {0}
    assert found.logits == pytest.approx(np.zeros(6))
    assert found.probability == 1.0


def test_a_trial_that_never_trades_counts_as_neither_good_nor_bad():
    rng = np.random.default_rng(8)
    bad, worse = rng.standard_normal((2, 400)) - 0.5
    found = overfitting(np.column_stack([bad, np.zeros(400), worse]), n_blocks=4)
    assert set(found.chosen.tolist()) == {1}
    assert found.inside.tolist() == found.outside.tolist() == [0.0] * 6
    assert (found.probability, found.loss_probability) == (0.0, 0.0)
    assert found.slope is None


def test_equal_returns_have_no_sharpe_ratio_despite_rounding():
    noise = np.random.default_rng(9).standard_normal(40) + 0.01
    found = overfitting(np.column_stack([np.full(40, 0.1), noise]), n_blocks=4)
    assert np.abs(found.inside).max() < 10


@pytest.mark.parametrize("n_blocks", [0, 3, 22, -2])
def test_an_impossible_number_of_blocks_is_refused(n_blocks):
    with pytest.raises(ConfigError, match=r"an even number, 2 to 20, found"):
        overfitting(HAND_WORKED, n_blocks=n_blocks)


def test_too_few_trials_or_periods_are_refused():
    with pytest.raises(DataError, match="at least 2, to choose among, found 1"):
        overfitting(HAND_WORKED[:, :1], n_blocks=4)
    with pytest.raises(DataError, match="at least 8, two for each of 4 blocks, found 7"):
        overfitting(HAND_WORKED[:7], n_blocks=4)


def test_a_return_that_is_not_a_number_is_named():
    returns = HAND_WORKED.copy()
    returns[5, 2] = math.nan
    with pytest.raises(DataError, match="found nan, in period 5 of trial 2"):
        overfitting(returns, n_blocks=4)
