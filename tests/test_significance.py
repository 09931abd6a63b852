"""Significance of Sharpe ratios against the papers' worked numbers and against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs_core.errors import ConfigError, DataError
from ibs_core.report.metrics import N_SESSIONS_MIN
from ibs_core.report.significance import (
    Moments,
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
)

NORMAL = {"skewness": 0.0, "kurtosis": 3.0}

# The Deflated Sharpe Ratio, a numerical example: five years of 250 days, 2.5 a year, V = 1/2 a year.
DAYS = 250
STRATEGY = Moments(1_250, 2.5 / math.sqrt(DAYS), -3.0, 10.0)
VARIANCE = 0.5 / DAYS


def test_the_example_of_the_deflated_sharpe_ratio_is_reproduced():
    assert expected_maximum_sharpe(100, VARIANCE) == pytest.approx(0.1132, abs=5e-5)
    deflated = deflated_sharpe(STRATEGY, n_trials=100, variance=VARIANCE)
    assert deflated == pytest.approx(0.9004, abs=5e-5)


def test_its_two_other_cases_are_reproduced():
    # Found after 46 trials, or after 88 had returns been normal, it would have passed at 95 %.
    deflated = deflated_sharpe(STRATEGY, n_trials=46, variance=VARIANCE)
    assert deflated == pytest.approx(0.9505, abs=5e-5)
    normal = Moments(1_250, STRATEGY.sharpe, **NORMAL)
    deflated = deflated_sharpe(normal, n_trials=88, variance=VARIANCE)
    assert deflated == pytest.approx(0.9505, abs=5e-5)


def test_the_hedge_fund_of_the_efficient_frontier_is_reproduced():
    # 24 months, Sharpe ratio 0.458 a month (1.59 a year): 98.2 % sure were returns normal, else 91.3 %.
    assert probabilistic_sharpe(Moments(24, 0.458, **NORMAL), 0.0) == pytest.approx(0.982, abs=5e-4)
    fund = Moments(24, 0.458, -2.448, 10.164)
    assert probabilistic_sharpe(fund, 0.0) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(
    ("a_year", "skewness", "kurtosis", "years"),
    [(250, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_its_track_record_lengths_are_reproduced(a_year, skewness, kurtosis, years):
    # How long until a Sharpe ratio of 2 a year is above 1 with 95 %; the last is a usual hedge fund.
    root = math.sqrt(a_year)
    of = Moments(2, 2 / root, skewness, kurtosis)
    periods = minimum_track_record(of, 1 / root, confidence=0.95)
    assert periods / a_year == pytest.approx(years, abs=5e-3)


def test_moments_equal_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    returns = np.random.default_rng(1).gamma(2.0, 30.0, 400) - 50
    of = moments(returns)
    assert of.n_periods == 400
    assert of.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)
    assert of.skewness == pytest.approx(stats.skew(returns), rel=1e-12)
    assert of.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False), rel=1e-12)


def test_moments_of_a_hand_worked_series():
    # 30 and -10 by turns: mean 10, every deviation 20, so no skew and the least kurtosis there is.
    of = moments(np.array([30.0, -10.0] * 10))
    assert of.sharpe == pytest.approx(10 / math.sqrt(20 * 400 / 19))
    assert (of.skewness, of.kurtosis) == (pytest.approx(0.0, abs=1e-12), pytest.approx(1.0))


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=20, max_size=40),
    st.floats(1e-150, 1e150),
)
def test_moments_do_not_depend_on_the_unit_of_returns(returns, unit):
    plain, scaled = moments(np.array(returns)), moments(np.array(returns) * unit)
    if plain is None or scaled is None:
        assert plain == scaled or np.ptp(returns) < 1e-3
        return
    assert scaled.sharpe == pytest.approx(plain.sharpe, rel=1e-6, abs=1e-9)
    assert scaled.kurtosis == pytest.approx(plain.kurtosis, rel=1e-6)
    assert plain.kurtosis >= 1 + plain.skewness**2 - 1e-9


@pytest.mark.parametrize(
    "returns",
    [
        np.zeros(0),
        np.arange(N_SESSIONS_MIN - 1.0),
        np.zeros(50),
        np.full(50, 0.1),
        0.1 + 1e-17 * np.arange(50),
    ],
)
def test_too_few_or_equal_returns_have_no_moments(returns):
    assert moments(returns) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_not_a_number_is_refused(bad):
    returns = np.zeros(30)
    returns[7] = bad
    with pytest.raises(DataError, match="in period 7"):
        moments(returns)


def test_a_sharpe_ratio_without_error_has_no_significance():
    # Two values only, with skewness · sharpe = 2: the estimate would vary by nothing.
    of = Moments(100, 1.0, 2.0, 5.0)
    assert probabilistic_sharpe(of, 0.0) is None
    assert deflated_sharpe(of, n_trials=10, variance=0.1) is None
    assert minimum_track_record(of, 0.0, confidence=0.95) is None


def test_no_record_is_long_enough_for_a_sharpe_ratio_below_the_benchmark():
    of = Moments(100, 0.1, **NORMAL)
    assert minimum_track_record(of, 0.1, confidence=0.95) is None
    assert minimum_track_record(of, 0.2, confidence=0.95) is None


def test_one_trial_is_not_deflated():
    assert expected_maximum_sharpe(1, 0.3) == 0.0
    of = Moments(500, 0.05, **NORMAL)
    assert deflated_sharpe(of, n_trials=1, variance=0.3) == probabilistic_sharpe(of, 0.0)


SHARPES = st.floats(-0.4, 0.4)
SKEWS = st.floats(-3, 3)


@st.composite
def any_moments(draw):
    skewness = draw(SKEWS)
    return Moments(
        draw(st.integers(20, 5_000)),
        draw(SHARPES),
        skewness,
        1 + skewness**2 + draw(st.floats(0.1, 20)),
    )


@given(any_moments(), SHARPES, st.floats(0.001, 0.3))
def test_a_higher_benchmark_is_harder_to_exceed(of, benchmark, step):
    lower, higher = (probabilistic_sharpe(of, each) for each in (benchmark, benchmark + step))
    assert 0 <= higher <= lower <= 1


@given(any_moments(), SHARPES, st.integers(1, 1_000))
def test_a_longer_record_makes_surer(of, benchmark, more):
    longer = Moments(of.n_periods + more, of.sharpe, of.skewness, of.kurtosis)
    now, later = (probabilistic_sharpe(each, benchmark) for each in (of, longer))
    assert later >= now if of.sharpe >= benchmark else later <= now


@given(any_moments(), st.floats(0.1, 5))
def test_fat_tails_and_falls_make_a_good_record_less_sure(of, more):
    if of.sharpe <= 0:
        return
    fatter = Moments(of.n_periods, of.sharpe, of.skewness, of.kurtosis + more)
    skewed = Moments(of.n_periods, of.sharpe, of.skewness - more, of.kurtosis)
    assert probabilistic_sharpe(fatter, 0.0) <= probabilistic_sharpe(of, 0.0)
    assert probabilistic_sharpe(skewed, 0.0) <= probabilistic_sharpe(of, 0.0)


@given(any_moments(), st.integers(1, 10_000), st.integers(1, 10_000), st.floats(0, 1))
def test_more_trials_deflate_more(of, n_trials, more, variance):
    few = deflated_sharpe(of, n_trials=n_trials, variance=variance)
    assert deflated_sharpe(of, n_trials=n_trials + more, variance=variance) <= few
    assert deflated_sharpe(of, n_trials=n_trials, variance=variance + 0.1) <= few


@given(any_moments(), SHARPES, st.floats(0.51, 0.999))
def test_the_minimum_track_record_reaches_its_confidence(of, benchmark, confidence):
    periods = minimum_track_record(of, benchmark, confidence=confidence)
    if periods is None:
        assert of.sharpe <= benchmark + 1e-150
        return
    enough = Moments(math.ceil(periods) + 1, of.sharpe, of.skewness, of.kurtosis)
    short = Moments(max(1, math.floor(periods)), of.sharpe, of.skewness, of.kurtosis)
    slack = 1e-9
    assert probabilistic_sharpe(enough, benchmark) >= confidence - slack
    assert probabilistic_sharpe(short, benchmark) <= confidence + slack


@pytest.mark.parametrize(
    ("n_trials", "error"), [(2, -0.079), (10, 0.023), (100, 0.009), (1_000, 0.004)]
)
def test_the_expected_maximum_is_that_of_normals(n_trials, error):
    # The exact mean: of n normals the largest has the density n φ(x) Φ(x)^(n - 1).
    x = np.linspace(-10, 10, 200_001)
    cdf = np.cumsum(np.exp(-x * x / 2)) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
    exact = float(np.sum(x[1:] * np.diff(np.minimum(cdf, 1.0) ** n_trials)))
    found = expected_maximum_sharpe(n_trials, 1.0)
    assert found / exact - 1 == pytest.approx(error, abs=2e-3)
    assert expected_maximum_sharpe(n_trials, 0.04) == pytest.approx(0.2 * found)


def test_a_thousand_million_million_trials_have_a_maximum():
    assert 8 < expected_maximum_sharpe(10**17, 1.0) < 9


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_a_true_sharpe_ratio_is_exceeded_as_often_as_the_formula_says(kind):
    rng = np.random.default_rng(7)
    n_series, true = 4_000, 0.1
    noise = rng.standard_normal((n_series, 250))
    if kind == "skewed":
        noise = 1 - rng.standard_exponential((n_series, 250))  # skewness -2, kurtosis 9
    sure = [probabilistic_sharpe(moments(row), true) for row in noise + true]
    for level in (0.5, 0.9, 0.95):
        share = np.mean(np.array(sure) > level)
        assert share == pytest.approx(1 - level, abs=0.03)


def test_the_best_of_many_noise_trials_is_not_called_skill():
    rng = np.random.default_rng(11)
    passed, naive = 0, 0
    for _ in range(200):
        trials = rng.standard_normal((40, 250))
        sharpes = trials.mean(axis=1) / trials.std(axis=1, ddof=1)
        best = moments(trials[np.argmax(sharpes)])
        variance = float(sharpes.var(ddof=1))
        passed += deflated_sharpe(best, n_trials=40, variance=variance) > 0.95
        naive += probabilistic_sharpe(best, 0.0) > 0.95
    assert passed <= 0.05 * 200
    assert naive > 0.8 * 200  # what the correction is for


@pytest.mark.parametrize(
    "call",
    [
        lambda: expected_maximum_sharpe(0, 1.0),
        lambda: expected_maximum_sharpe(5, -1.0),
        lambda: expected_maximum_sharpe(5, math.nan),
        lambda: expected_maximum_sharpe(5, math.inf),
        lambda: minimum_track_record(STRATEGY, 0.0, confidence=1.0),
        lambda: minimum_track_record(STRATEGY, 0.0, confidence=0.4),
    ],
)
def test_an_argument_out_of_its_range_is_refused(call):
    with pytest.raises(ConfigError, match=r"expected .* found"):
        call()
