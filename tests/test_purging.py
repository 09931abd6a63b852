"""Purged splits against their definition, written out row by row, and against skfolio."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibs_core.errors import ConfigError, DataError
from ibs_core.research.purging import (
    Labels,
    combinatorial,
    first_of_last,
    groups_of,
    holdout,
    unusable,
    walk_forward,
)
from ibs_core.research.stitching import paths, stitch

HOUR, DAY = 3_600_000_000_000, 24 * 3_600_000_000_000


def labels_of(rows):
    session, start, end = np.array(rows, np.int64).reshape(-1, 3).T
    return Labels(session, start, end)


def one_a_session(n_sessions, sessions_held=0):
    """A label a session, at noon, that ends at noon so many sessions later."""
    day = np.arange(n_sessions)
    return Labels(day, day * DAY, (day + sessions_held) * DAY)


@st.composite
def worlds(draw):
    """Labels in any order over six sessions or more with gaps, some of length zero."""
    days = draw(st.lists(st.integers(0, 25), min_size=6, max_size=14, unique=True))
    more = draw(st.lists(st.sampled_from(days), max_size=14))
    rows = []
    for day in [*days, *more]:
        start = day * 24 + draw(st.integers(0, 23))
        rows.append((day, start, start + draw(st.sampled_from([0, 0, 1, 3, 8, 30, 80]))))
    return labels_of(rows)


def naive_groups(session, n_groups):
    sessions = sorted(set(session.tolist()))
    size, rest = divmod(len(sessions), n_groups)
    of_session = {}
    for group in range(n_groups):
        for _ in range(size + (group < rest)):
            of_session[sessions[len(of_session)]] = group
    return [of_session[each] for each in session.tolist()]


def naive_training(labels, test, embargo):
    """Every training row against every test row, as the rules are written."""
    session, start, end = (
        each.tolist() for each in (labels.session, labels.start_ns, labels.end_ns)
    )
    sessions = sorted(set(session))
    place = [sessions.index(each) for each in session]
    tested = sorted({place[row] for row in test})
    shut = set()
    for first, last in naive_blocks(tested):
        ends = max(end[row] for row in test if first <= place[row] <= last)
        begun = max(place[row] for row in range(len(place)) if start[row] <= ends)
        if embargo:
            shut.update(range(first - embargo, max(last, begun) + embargo + 1))
    return [
        row
        for row in range(len(session))
        if row not in test
        and place[row] not in shut
        and not any(start[row] <= end[each] and start[each] <= end[row] for each in test)
    ]


def naive_blocks(places):
    blocks = []
    for place in places:
        if blocks and blocks[-1][1] == place - 1:
            blocks[-1] = (blocks[-1][0], place)
        else:
            blocks.append((place, place))
    return blocks


@settings(max_examples=150)
@given(worlds(), st.data())
def test_splits_equal_the_definition_row_by_row(labels, data):
    n_groups = data.draw(st.integers(2, 6))
    n_test = data.draw(st.integers(1, n_groups - 1))
    embargo = data.draw(st.integers(0, 4))
    group = naive_groups(labels.session, n_groups)
    assert groups_of(labels.session, n_groups).tolist() == group
    splits = combinatorial(labels, n_groups=n_groups, n_test=n_test, embargo=embargo)
    assert [split.test_groups for split in splits] == [*combinations(range(n_groups), n_test)]
    for split in splits:
        test = [row for row, each in enumerate(group) if each in split.test_groups]
        assert split.test.tolist() == test
        assert split.train.tolist() == naive_training(labels, test, embargo)


@given(worlds(), st.data())
def test_each_row_is_tested_equally_often_and_never_trained_on_then(labels, data):
    n_groups = data.draw(st.integers(2, 5))
    n_test = data.draw(st.integers(1, n_groups - 1))
    splits = combinatorial(labels, n_groups=n_groups, n_test=n_test, embargo=1)
    tested = np.concatenate([split.test for split in splits])
    assert set(np.bincount(tested).tolist()) == {comb(n_groups - 1, n_test - 1)}
    for split in splits:
        assert np.intersect1d(split.train, split.test).size == 0
        assert np.all(np.diff(split.train) > 0)


@given(worlds(), st.integers(0, 3))
def test_no_training_label_overlaps_a_test_label(labels, embargo):
    for split in combinatorial(labels, n_groups=4, n_test=2, embargo=embargo):
        start, end = labels.start_ns[split.train, None], labels.end_ns[split.train, None]
        apart = (end < labels.start_ns[split.test]) | (start > labels.end_ns[split.test])
        assert apart.all()


@given(worlds(), st.randoms(use_true_random=False))
def test_rows_in_another_order_give_the_same_split(labels, random):
    order = list(range(len(labels.session)))
    random.shuffle(order)
    mixed = Labels(labels.session[order], labels.start_ns[order], labels.end_ns[order])
    plain = combinatorial(labels, n_groups=4, n_test=2, embargo=1)
    shuffled = combinatorial(mixed, n_groups=4, n_test=2, embargo=1)
    for one, other in zip(plain, shuffled, strict=True):
        assert sorted(order[row] for row in other.train) == one.train.tolist()
        assert sorted(order[row] for row in other.test) == one.test.tolist()


@given(worlds(), st.integers(0, 4))
def test_a_longer_embargo_only_takes_rows_away(labels, embargo):
    for one, other in zip(
        combinatorial(labels, n_groups=4, n_test=2, embargo=embargo),
        combinatorial(labels, n_groups=4, n_test=2, embargo=embargo + 1),
        strict=True,
    ):
        assert set(other.train) <= set(one.train)
        assert np.array_equal(one.test, other.test)


@pytest.mark.parametrize(("n_groups", "n_test"), [(5, 2), (6, 2), (6, 3), (4, 3)])
@pytest.mark.parametrize(("held", "embargo"), [(0, 0), (1, 0), (3, 0), (2, 1), (2, 2), (3, 3)])
def test_splits_equal_those_of_skfolio(n_groups, n_test, held, embargo):
    # Labels of whole sessions are its purge by number of rows. Its embargo lies behind the test only, ours
    # before it too, where the purge takes as many rows already when the embargo is no longer.
    pytest.importorskip("skfolio")
    from skfolio.model_selection import CombinatorialPurgedCV

    labels = one_a_session(n_groups * 10, held)
    theirs = CombinatorialPurgedCV(
        n_folds=n_groups, n_test_folds=n_test, purged_size=held, embargo_size=embargo
    )
    ours = combinatorial(labels, n_groups=n_groups, n_test=n_test, embargo=embargo)
    assert np.array_equal(paths(ours), theirs.recombined_paths.T)
    for split, (train, tests) in zip(ours, theirs.split(labels.session[:, None]), strict=True):
        assert np.array_equal(split.train, train)
        assert np.array_equal(split.test, np.sort(np.concatenate(tests)))


def test_the_embargo_lies_on_both_sides_of_each_test_block():
    splits = combinatorial(one_a_session(20), n_groups=5, n_test=2, embargo=2)
    apart = next(split for split in splits if split.test_groups == (1, 3))  # 4-7 and 12-15
    assert apart.train.tolist() == [0, 1, 18, 19]
    together = next(split for split in splits if split.test_groups == (1, 2))  # 4-11
    assert together.train.tolist() == [0, 1, *range(14, 20)]


def test_the_embargo_counts_from_the_session_in_which_the_last_label_ends():
    # Of sessions 2 and 3, tested, the label of 3 ends in session 4, before the second row of that session.
    rows = [(i, i * DAY, i * DAY) for i in range(8)]
    rows[3] = (3, 3 * DAY, 4 * DAY)
    rows.append((4, 4 * DAY + HOUR, 4 * DAY + HOUR))
    labels = labels_of(rows)

    def train(embargo):
        split = combinatorial(labels, n_groups=4, n_test=1, embargo=embargo)[1]
        assert split.test.tolist() == [2, 3]
        return split.train.tolist()

    assert train(0) == [0, 1, 5, 6, 7, 8]  # row 4 is purged: it starts as the label ends
    assert train(1) == [0, 6, 7]


def test_a_label_that_spans_the_whole_test_is_purged():
    labels = labels_of([(0, 0, 100), (1, 10, 11), (2, 101, 102), (3, 103, 104)])
    assert combinatorial(labels, n_groups=4, n_test=1, embargo=0)[1].train.tolist() == [2, 3]


def test_groups_differ_by_at_most_one_session():
    session = np.repeat(np.arange(100, 111), 3)
    assert np.bincount(groups_of(session, 4)).tolist() == [9, 9, 9, 6]
    assert np.all(np.diff(groups_of(session, 4)) >= 0)


def test_the_paths_of_the_textbook_are_those_of_figure_12_1():
    # N = 6, k = 2: 15 splits, 5 paths; the first takes splits 1, 1, 2, 3, 4, 5 of the figure.
    splits = combinatorial(one_a_session(12), n_groups=6, n_test=2, embargo=0)
    path = paths(splits)
    assert path.shape == (5, 6)
    assert path[0].tolist() == [0, 0, 1, 2, 3, 4]
    assert path[-1].tolist() == [4, 8, 11, 13, 14, 14]


@given(worlds(), st.data())
def test_a_path_holds_each_row_once_from_a_split_that_tests_it(labels, data):
    n_groups = data.draw(st.integers(2, 5))
    n_test = data.draw(st.integers(1, n_groups - 1))
    splits = combinatorial(labels, n_groups=n_groups, n_test=n_test, embargo=0)
    n_rows = len(labels.session)
    tags = [number * n_rows + split.test.astype(float) for number, split in enumerate(splits)]
    joined = stitch(splits, groups_of(labels.session, n_groups), tags)
    assert joined.shape == (comb(n_groups - 1, n_test - 1), n_rows)
    used = set()
    for on_path in joined:
        assert np.array_equal(on_path % n_rows, np.arange(n_rows))
        used.update(on_path.tolist())
    assert len(used) == joined.size == sum(len(split.test) for split in splits)


def test_a_dropped_split_leaves_a_hole_in_its_paths():
    labels = one_a_session(6)
    splits = combinatorial(labels, n_groups=3, n_test=2, embargo=0)
    predictions = [np.ones(4), None, np.full(4, 3.0)]
    joined = stitch(splits, groups_of(labels.session, 3), predictions)
    nan = np.nan
    assert np.array_equal(joined, [[1, 1, 1, 1, nan, nan], [nan, nan, 3, 3, 3, 3]], equal_nan=True)


def test_walk_forward_windows_are_as_asked():
    labels = one_a_session(10)
    ask = {"train_sessions": 4, "test_sessions": 3, "embargo": 1}
    growing = walk_forward(labels, **ask, rolling=False)
    assert [split.test.tolist() for split in growing] == [[4, 5, 6], [7, 8, 9]]
    assert [split.train.tolist() for split in growing] == [[0, 1, 2], [0, 1, 2, 3, 4, 5]]
    rolling = walk_forward(labels, **ask, rolling=True)
    assert [split.train.tolist() for split in rolling] == [[0, 1, 2], [3, 4, 5]]
    assert [split.test_groups for split in rolling] == [(0,), (1,)]


@given(worlds(), st.integers(1, 4), st.integers(0, 2), st.booleans())
def test_walk_forward_never_trains_on_what_was_not_known(labels, block, embargo, rolling):
    ask = {"train_sessions": 3, "test_sessions": block, "embargo": embargo, "rolling": rolling}
    splits = walk_forward(labels, **ask)
    place = np.unique(labels.session, return_inverse=True)[1]
    tested = np.sort(np.concatenate([split.test for split in splits]))
    assert np.array_equal(tested, np.flatnonzero(place >= 3))
    for split in splits:
        first = place[split.test].min()
        begins = labels.start_ns[split.test].min()
        wanted = [
            row
            for row in range(len(place))
            if (not rolling or place[row] >= first - 3)
            and place[row] < first - embargo
            and labels.end_ns[row] < begins
        ]
        assert split.train.tolist() == wanted


def test_a_holdout_is_parted_from_what_was_trained_on():
    labels = labels_of([(0, 0, 5), (2, 20, 45), (3, 30, 31), (4, 40, 41), (6, 60, 99)])
    split = holdout(labels, first_session=4, embargo=0)
    assert (split.train.tolist(), split.test.tolist()) == ([0, 2], [3, 4])
    split = holdout(labels, first_session=5, embargo=1)  # no session 5: it begins with 6
    assert (split.train.tolist(), split.test.tolist()) == ([0, 1, 2], [4])


def test_a_label_that_ends_as_the_holdout_begins_is_purged():
    labels = labels_of([(0, 0, 29), (1, 10, 30), (2, 30, 31)])
    assert holdout(labels, first_session=2, embargo=0).train.tolist() == [0]


@pytest.mark.parametrize(
    ("fraction", "first"), [(0.2, 18), (0.25, 18), (0.01, 19), (0.99, 11), (0.5, 15)]
)
def test_a_fraction_is_a_share_of_the_sessions(fraction, first):
    assert first_of_last(np.repeat(np.arange(10, 20), 4), fraction) == first


def test_a_split_that_cannot_be_used_says_why():
    split = combinatorial(one_a_session(9), n_groups=3, n_test=1, embargo=0)[0]
    mixed, same = np.arange(9) % 2, np.ones(9, np.int64)
    assert unusable(split, mixed, n_train_min=6, n_test_min=3) is None
    assert unusable(split, mixed, n_train_min=7, n_test_min=3) == "6 training rows, fewer than 7"
    assert unusable(split, mixed, n_train_min=6, n_test_min=4) == "3 test rows, fewer than 4"
    assert unusable(split, same, n_train_min=6, n_test_min=3) == "all training rows are 1"


def test_a_split_without_training_rows_is_unusable():
    split = combinatorial(one_a_session(4, 9), n_groups=2, n_test=1, embargo=0)[0]
    assert unusable(split, np.ones(4), n_train_min=0, n_test_min=0) == "no training row"


@pytest.mark.parametrize(
    "call",
    [
        lambda labels: combinatorial(labels, n_groups=3, n_test=3, embargo=0),
        lambda labels: combinatorial(labels, n_groups=3, n_test=0, embargo=0),
        lambda labels: combinatorial(labels, n_groups=3, n_test=1, embargo=-1),
        lambda labels: combinatorial(labels, n_groups=20, n_test=10, embargo=0),
        lambda labels: first_of_last(labels.session, 1.0),
        lambda labels: walk_forward(
            labels, train_sessions=2, test_sessions=1, embargo=2, rolling=True
        ),
        lambda labels: walk_forward(
            labels, train_sessions=2, test_sessions=0, embargo=0, rolling=True
        ),
    ],
)
def test_an_impossible_choice_is_refused(call):
    with pytest.raises(ConfigError, match=r"expected .* found"):
        call(one_a_session(30))


@pytest.mark.parametrize(
    "call",
    [
        lambda: combinatorial(one_a_session(2), n_groups=3, n_test=1, embargo=0),
        lambda: walk_forward(
            one_a_session(4), train_sessions=4, test_sessions=1, embargo=0, rolling=True
        ),
        lambda: holdout(one_a_session(4), first_session=0, embargo=0),
        lambda: holdout(one_a_session(4), first_session=4, embargo=0),
        lambda: first_of_last(np.zeros(5, np.int64), 0.5),
        lambda: labels_of([]),
        lambda: labels_of([(0, 1, 2), (1, 5, 4)]),
        lambda: Labels(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(1, np.int64)),
    ],
)
def test_rows_that_cannot_be_split_are_refused(call):
    with pytest.raises(DataError, match=r"expected .* found"):
        call()


def test_many_rows_are_split_in_the_order_of_a_sort():
    # 200,000 rows: the definition row by row would compare 9.6 thousand million pairs a split.
    rng = np.random.default_rng(0)
    session = np.sort(rng.integers(0, 2_500, 200_000))
    start = session * DAY + rng.integers(0, DAY, 200_000)
    labels = Labels(session, start, start + rng.integers(0, 8 * HOUR, 200_000))
    splits = combinatorial(labels, n_groups=5, n_test=2, embargo=2)
    assert len(splits) == 10
    assert all(len(split.train) > 110_000 for split in splits)
