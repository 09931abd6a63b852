"""On candidates of which nothing can be learnt, hardly a model is promotable.

The short form runs with the suite, `make soak` runs two hundred of each kind.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("sklearn")

from noise import PLAN, noise, trained

from ibs_core.training.guardrails import check_guardrails

QUICK = dataclasses.replace(PLAN, groups=3, test_groups=1)
COSTS, NOTHING, LITTLE = -12.0, 0.0, 20.0
"""What a candidate earns on average: it loses its costs, nothing, or it has a Sharpe ratio of 0.7 a year."""


def failed(sample, folder, ledger, plan=PLAN):
    """Train, and name the conditions of promotion that the model fails."""
    card = trained(folder, sample, plan, ledger).card
    return {each.name for each in check_guardrails(card) if not each.passed}


@pytest.mark.parametrize("shared", [False, True], ids=["own ledgers", "one ledger"])
def test_none_of_a_few_models_of_noise_is_promotable(tmp_path, shared):
    for seed in range(2):
        sample = noise(1_000 + seed, (COSTS, NOTHING)[seed % 2])
        assert failed(sample, tmp_path, "all" if shared else str(seed), QUICK), seed


def test_a_model_that_has_learnt_something_is_promotable(tmp_path):
    """The conditions do not fail whatever comes."""
    sample = noise(7, NOTHING)
    net = sample.net_usd + 300.0 * np.tanh(2.0 * sample.rows[:, 3])
    told = dataclasses.replace(sample, net_usd=net, target=(net > 0).astype(np.int64))
    assert failed(told, tmp_path, "all", QUICK) == set()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("mean_usd", "shared"),
    [(COSTS, False), (NOTHING, False), (NOTHING, True), (LITTLE, True)],
)
def test_at_most_one_in_twenty_of_two_hundred_models_of_noise_is_promotable(
    tmp_path, mean_usd, shared
):
    ledgers = ["all" if shared else str(seed) for seed in range(200)]
    promotable = [s for s in range(200) if not failed(noise(s, mean_usd), tmp_path, ledgers[s])]
    assert len(promotable) <= 10, promotable
