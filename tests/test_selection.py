"""Features are ranked by what the training rows tell, and each way of ranking does what it is for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("sklearn")

from test_training import PLAN, made, trained

from ibs_core.errors import ConfigError
from ibs_core.research.purging import Labels, combinatorial, first_of_last, holdout
from ibs_core.training.plan import SELECTIONS, Plan
from ibs_core.training.sample import Sample
from ibs_core.training.selection import columns_of, rank

N = 1_500
STRONG, WEAK, COPIES, NOISE = 0, 1, (2, 3, 4), (5, 6, 7)
"""One informative feature of its own, one weaker; three copies of a third; noise."""


def planted(seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, 8)).astype(np.float32)
    hidden = rng.normal(size=N)
    for column in COPIES:
        rows[:, column] = hidden + 0.05 * rng.normal(size=N)
    told = 0.9 * rows[:, STRONG] + 0.4 * rows[:, WEAK] + 0.9 * hidden
    target = (rng.random(N) < 1 / (1 + np.exp(-told))).astype(np.int64)
    rows[rng.random(N) < 0.04, WEAK] = np.nan
    session = np.arange(N) // 2
    start = np.arange(N, dtype=np.int64) * 10
    labels = Labels(session, start, start + 5)
    dates = np.arange(N // 2)
    return Sample(
        *("ES", tuple("abcdefgh"), rows, target, target - 0.5, labels, session, dates),
        idle=np.zeros(N // 2, bool),
    )


def ranked(selection, sample=None, **more):
    plan = Plan(selection=selection, screen_trees=60, **more)
    return rank(planted() if sample is None else sample, plan).tolist()


@pytest.mark.parametrize("selection", ["importance", "permutation", "clustered"])
def test_noise_comes_last_or_not_at_all(selection):
    found = ranked(selection)
    assert STRONG in found[:4]
    copies = [found.index(column) for column in COPIES if column in found]
    copies = copies if selection != "clustered" else [min(copies)]  # its others come last of all
    informed = [found.index(STRONG), *copies]
    assert max(informed) < min([found.index(each) for each in NOISE if each in found] or [8])


def test_copies_make_each_other_look_useless_unless_they_are_shuffled_together():
    alone = ranked("permutation")
    assert alone[0] == STRONG
    # One of them tells as much as the strong feature, so as a group they stand beside it.
    together = ranked("clustered")
    firsts = together[:3]
    assert {STRONG, WEAK} < set(firsts)
    assert len(set(firsts) & set(COPIES)) == 1
    assert set(together[:2]) - {STRONG} < set(COPIES)


def test_the_second_of_a_group_comes_after_the_first_of_every_other():
    found = ranked("clustered")
    places = sorted(found.index(column) for column in COPIES)
    others = [i for i, column in enumerate(found) if column not in COPIES]
    assert places[1] > max(others)
    assert places[1:] == [len(found) - 2, len(found) - 1]


def test_permutation_is_judged_on_rows_that_its_forest_did_not_see():
    """A feature that tells every row from every other is important in-sample and useless outside."""
    rng = np.random.default_rng(3)
    sample = planted()
    coin = rng.integers(0, 2, N)
    pure = dataclasses.replace(sample, target=coin, rows=rng.normal(size=(N, 8)).astype("f4"))
    assert len(ranked("importance", pure)) == 8  # each seems to tell something
    assert len(ranked("permutation", pure)) < 8


def test_without_a_selection_every_feature_that_is_there_is_kept():
    sample = planted()
    sample.rows[: N // 2, 6] = np.nan
    assert ranked("none", sample) == [0, 1, 2, 3, 4, 5, 7]
    for selection in SELECTIONS:
        assert 6 not in ranked(selection, sample)


def test_a_constant_feature_tells_nothing():
    sample = planted()
    sample.rows[:, 5] = 1.0
    for selection in ("importance", "permutation", "clustered"):
        assert 5 not in ranked(selection, sample)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_ranking_sees_no_row_outside_the_training_part(selection):
    sample = planted()
    plan = Plan(selection=selection, screen_trees=15)
    first = first_of_last(sample.labels.session, 0.2)
    splits = combinatorial(sample.labels, n_groups=4, n_test=2, embargo=2)
    for split in [holdout(sample.labels, first_session=first, embargo=2), *splits[:3]]:
        unseen = np.setdiff1d(np.arange(N), split.train)
        rows, target, net = sample.rows.copy(), sample.target.copy(), sample.net_usd.copy()
        rows[unseen] = 5 - 3 * rows[unseen][:, ::-1]
        target[unseen], net[unseen] = 1 - target[unseen], -9.0
        other = dataclasses.replace(sample, rows=rows, target=target, net_usd=net)
        one, two = (rank(each.take(split.train), plan) for each in (sample, other))
        assert one.tolist() == two.tolist()
        assert len(one)


@pytest.mark.parametrize("selection", ["permutation", "clustered"])
def test_a_ranking_is_the_same_each_time_and_follows_the_seed(selection):
    sample = planted()
    assert ranked(selection, sample) == ranked(selection, sample)
    costs = {tuple(ranked(selection, sample, seed=seed)) for seed in range(4)}
    assert len(costs) > 1


def test_the_most_important_are_kept_in_their_own_order():
    assert columns_of(np.array([5, 1, 7, 0]), 3).tolist() == [1, 5, 7]


@pytest.mark.parametrize("selection", ["clustered", "none"])
def test_a_training_says_how_it_selected(tmp_path, selection):
    plan = dataclasses.replace(PLAN, selection=selection, trials=1)
    card = trained(tmp_path, made(0.35), plan).card
    assert card.metrics["plan"]["selection"] == selection
    if selection == "none":
        assert len(card.features) == len(made().names) == card.parameters["keep"]
    else:
        assert len(card.features) <= 5


def test_an_unknown_selection_is_refused_and_each_searches_for_itself():
    with pytest.raises(ConfigError, match="importance, permutation, clustered, none"):
        Plan(selection="l1")
    assert len({Plan(selection=each).digest() for each in SELECTIONS}) == 4
