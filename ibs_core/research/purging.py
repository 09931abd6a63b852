"""Training and test sets that share no information: purged, with an embargo, in sessions.

Rows come in any order. Sessions are those that the rows name; the calendar is not asked. Two rules part
training from test rows:

*Purge.* A training label may not overlap a test label. Labels are closed: one that ends at the instant at
which another begins overlaps it.

*Embargo.* With ``embargo`` > 0, no training row lies in the ``embargo`` sessions before a test block, nor
from the block's end to ``embargo`` sessions after the session in which the last of its labels ends. That
session is the last one of which a row starts by then; where labels end within their own session, it is the
block's last. Adjacent test groups are one block. With 0 only the purge applies.

After M. López de Prado, Advances in Financial Machine Learning (2018), chapters 7 and 12. There the embargo
is a share of the rows and lies behind the test set only; here it counts sessions and lies on both sides,
because features look back over sessions and a day has any number of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ibs_core.bars import Ints

__all__ = [
    "N_SPLITS_MAX",
    "Labels",
    "Split",
    "combinatorial",
    "first_of_last",
    "groups_of",
    "holdout",
    "unusable",
    "walk_forward",
]

N_SPLITS_MAX: Final = 1_000
"""Most splits of one cross-validation: each costs a fit."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The time that each row's label depends on.

    Attributes
    ----------
    session : (n_rows,) int64
        Session of the decision, in any numbering that grows with time.
    start_ns, end_ns : (n_rows,) int64, UTC ns, start <= end
        First and last instant that the label depends on: decision and exit.

    Raises
    ------
    DataError
        There is no row, the lengths differ, or a label ends before it starts.
    """

    session: Ints
    start_ns: Ints
    end_ns: Ints

    def __post_init__(self) -> None:
        lengths = [len(self.session), len(self.start_ns), len(self.end_ns)]
        if lengths != lengths[:1] * 3:
            raise DataError(
                "labels of unequal length",
                expected="a session, a start and an end for each row",
                found=f"{lengths[0]} sessions, {lengths[1]} starts and {lengths[2]} ends",
            )
        if not lengths[0]:
            raise DataError("no labelled row", expected="at least one", found="none")
        backward = np.flatnonzero(self.end_ns < self.start_ns)
        if len(backward):
            row = int(backward[0])
            raise DataError(
                "a label ends before it starts",
                expected="start_ns <= end_ns",
                found=f"start_ns={self.start_ns[row]} end_ns={self.end_ns[row]}",
                where=f"row {row}",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One division of the rows.

    Attributes
    ----------
    train, test : (n_train,) and (n_test,) int64
        Row numbers, ascending, disjoint; rows that are purged or under embargo are in neither.
    test_groups : tuple of int
        Groups of sessions that are tested, ascending; of a walk-forward the number of the block.
    """

    train: Ints
    test: Ints
    test_groups: tuple[int, ...]


def combinatorial(labels: Labels, *, n_groups: int, n_test: int, embargo: int) -> list[Split]:
    """Test every combination of groups of sessions, training on the rest.

    Parameters
    ----------
    labels : Labels
    n_groups : int, 2 <= n_groups <= number of sessions
        Contiguous groups, as `groups_of` cuts them.
    n_test : int, 1 <= n_test < n_groups
        Groups tested at a time.
    embargo : int, >= 0
        Sessions on each side of a test block.

    Returns
    -------
    list of Split
        C(n_groups, n_test) of them, in lexicographic order of their groups; each row is tested in
        C(n_groups - 1, n_test - 1).

    Raises
    ------
    ConfigError
        A number is out of its range, or there would be more than `N_SPLITS_MAX` splits.
    DataError
        There are fewer sessions than groups.

    Notes
    -----
    O(n_rows log n_rows) for each split.
    """
    _check_embargo(embargo)
    _check_groups(n_groups, n_test)
    group = groups_of(labels.session, n_groups)
    timeline = _Timeline(labels)
    splits = []
    for chosen in combinations(range(n_groups), n_test):
        in_test = np.isin(group, chosen)
        shut = in_test | timeline.overlaps(in_test) | timeline.under_embargo(in_test, embargo)
        splits.append(Split(np.flatnonzero(~shut), np.flatnonzero(in_test), chosen))
    return splits


def walk_forward(
    labels: Labels, *, train_sessions: int, test_sessions: int, embargo: int, rolling: bool
) -> list[Split]:
    """Test block after block of sessions, each time training on sessions before it.

    Parameters
    ----------
    labels : Labels
    train_sessions : int, > embargo
        Sessions before the first block; the first of them leave as blocks pass when `rolling`.
    test_sessions : int, >= 1
        Sessions of a block; the last block may be shorter.
    embargo : int, >= 0
        Sessions before each block that are not trained on. They are taken from the training window, so that
        the blocks do not depend on it.
    rolling : bool
        Keep the window's length, else let it grow.

    Returns
    -------
    list of Split
        Blocks in order of time; together they test every session after the first `train_sessions` once.
        Every training label ends before the first test label starts.

    Raises
    ------
    ConfigError
        A number is out of its range.
    DataError
        There is no session after the first `train_sessions`.
    """
    _check_embargo(embargo)
    if test_sessions < 1:
        raise ConfigError("test block", expected="test_sessions >= 1", found=f"{test_sessions}")
    if train_sessions <= embargo:
        raise ConfigError(
            "training window",
            expected=f"train_sessions > {embargo}, the embargo",
            found=f"{train_sessions}",
        )
    sessions, position = np.unique(labels.session, return_inverse=True)
    if len(sessions) <= train_sessions:
        raise DataError(
            "nothing to test",
            expected=f"more than {train_sessions} sessions",
            found=f"{len(sessions)}",
            remedy="shorten train_sessions or add data",
        )
    splits = []
    for number, first in enumerate(range(train_sessions, len(sessions), test_sessions)):
        oldest = first - train_sessions if rolling else 0
        in_test = (position >= first) & (position < first + test_sessions)
        in_train = (position >= oldest) & (position < first - embargo)
        splits.append(_forward(labels, in_train, in_test, number))
    return splits


def holdout(labels: Labels, *, first_session: int, embargo: int) -> Split:
    """Set the sessions from one on aside, and train on those before it.

    Parameters
    ----------
    labels : Labels
    first_session : int
        First session that is tested, in the numbering of ``labels.session``; see `first_of_last`.
    embargo : int, >= 0
        Sessions before it that are not trained on.

    Returns
    -------
    Split
        Every training label ends before the first test label starts.

    Raises
    ------
    ConfigError
        The embargo is negative.
    DataError
        No row lies before `first_session`, or none from it on.
    """
    _check_embargo(embargo)
    sessions, position = np.unique(labels.session, return_inverse=True)
    first = int(np.searchsorted(sessions, first_session))
    if not 0 < first < len(sessions):
        raise DataError(
            "holdout",
            expected=f"a first session above {sessions[0]} and up to {sessions[-1]}",
            found=f"{first_session}",
        )
    return _forward(labels, position < first - embargo, position >= first, 0)


def first_of_last(session: Ints, fraction: float) -> int:
    """Tell the session with which the last part of the data begins.

    Parameters
    ----------
    session : (n_rows,) int64
    fraction : float, 0 < fraction < 1
        Share of the sessions, rounded to whole ones, at least one.

    Returns
    -------
    int
        A session of the data, above the first.

    Raises
    ------
    ConfigError
        The fraction is out of its range.
    DataError
        The rows name fewer than two sessions.
    """
    if not 0 < fraction < 1:
        raise ConfigError("share of sessions", expected="0 < share < 1", found=f"{fraction}")
    sessions = np.unique(session)
    if len(sessions) < 2:
        raise DataError("too few sessions", expected="at least 2", found=f"{len(sessions)}")
    n_last = min(max(round(fraction * len(sessions)), 1), len(sessions) - 1)
    return int(sessions[-n_last])


def groups_of(session: Ints, n_groups: int) -> Ints:
    """Cut the sessions into contiguous groups, as equal in number of sessions as can be.

    Parameters
    ----------
    session : (n_rows,) int64
    n_groups : int, >= 1
        Where the sessions do not divide, the first groups have one more.

    Returns
    -------
    (n_rows,) int64, 0 to n_groups - 1, growing with the session

    Raises
    ------
    DataError
        There are fewer sessions than groups.
    """
    sessions, position = np.unique(session, return_inverse=True)
    if len(sessions) < n_groups:
        raise DataError(
            "too few sessions to cut",
            expected=f"at least {n_groups}, one for each group",
            found=f"{len(sessions)}",
        )
    size, rest = divmod(len(sessions), n_groups)
    sizes = np.full(n_groups, size, np.int64)
    sizes[:rest] += 1
    return np.repeat(np.arange(n_groups), sizes)[position]


def unusable(split: Split, target: Ints, *, n_train_min: int, n_test_min: int) -> str | None:
    """Say why a split must be dropped.

    Parameters
    ----------
    split : Split
    target : (n_rows,) int64
        Class of each row.
    n_train_min, n_test_min : int
        Fewest rows of each part.

    Returns
    -------
    str or None
        None for a split that can be used. The test rows may be of one class: they are not fitted.
    """
    if len(split.train) < n_train_min:
        return f"{len(split.train)} training rows, fewer than {n_train_min}"
    if len(split.test) < n_test_min:
        return f"{len(split.test)} test rows, fewer than {n_test_min}"
    classes = np.unique(target[split.train])
    if len(classes) < 2:
        return "no training row" if not len(classes) else f"all training rows are {classes[0]}"
    return None


class _Timeline:
    """What every split of the same labels asks, sorted once."""

    def __init__(self, labels: Labels) -> None:
        sessions, position = np.unique(labels.session, return_inverse=True)
        self.labels, self.position, self.n_sessions = labels, position, len(sessions)
        self.by_start = np.argsort(labels.start_ns, kind="stable")
        self.by_end = np.argsort(labels.end_ns, kind="stable")
        self.starts = labels.start_ns[self.by_start]
        self.begun = np.maximum.accumulate(position[self.by_start])

    def overlaps(self, in_test: Mask) -> Mask:
        """Tell which labels overlap one of the test's."""
        starts = self.starts[in_test[self.by_start]]
        ends = self.labels.end_ns[self.by_end[in_test[self.by_end]]]
        # Of the test labels begun by the row's end, those ended before its start do not overlap.
        begun = np.searchsorted(starts, self.labels.end_ns, side="right")
        ended = np.searchsorted(ends, self.labels.start_ns, side="left")
        return begun > ended

    def under_embargo(self, in_test: Mask, embargo: int) -> Mask:
        """Tell which rows lie in a test block or too near to it."""
        if not embargo:
            return in_test
        tested = np.zeros(self.n_sessions + 2, np.int64)
        tested[self.position[in_test] + 1] = 1
        edges = np.diff(tested)
        first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1

        block = np.searchsorted(first, self.position[in_test], side="right") - 1
        end_ns = np.full(len(first), np.iinfo(np.int64).min)
        np.maximum.at(end_ns, block, self.labels.end_ns[in_test])
        begun = self.begun[np.searchsorted(self.starts, end_ns, side="right") - 1]

        low = np.maximum(first - embargo, 0)
        high = np.minimum(np.maximum(last, begun) + embargo, self.n_sessions - 1)
        change = np.zeros(self.n_sessions + 1, np.int64)
        np.add.at(change, low, 1)
        np.add.at(change, high + 1, -1)
        return (np.cumsum(change) > 0)[self.position]


def _forward(labels: Labels, in_train: Mask, in_test: Mask, number: int) -> Split:
    ended = labels.end_ns < labels.start_ns[in_test].min()
    return Split(np.flatnonzero(in_train & ended), np.flatnonzero(in_test), (number,))


def _check_embargo(embargo: int) -> None:
    if embargo < 0:
        raise ConfigError("embargo", expected="0 or more sessions", found=f"{embargo}")


def _check_groups(n_groups: int, n_test: int) -> None:
    if not 1 <= n_test < n_groups:
        raise ConfigError(
            "groups of sessions",
            expected="1 <= n_test < n_groups",
            found=f"n_test={n_test} n_groups={n_groups}",
        )
    n_splits = math.comb(n_groups, n_test)
    if n_splits > N_SPLITS_MAX:
        raise ConfigError(
            "cross-validation",
            expected=f"at most {N_SPLITS_MAX} splits, each of which costs a fit",
            found=f"{n_splits}",
            remedy="lower n_groups or n_test",
        )
