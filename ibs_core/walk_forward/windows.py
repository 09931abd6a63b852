"""Windows: which sessions choose parameters, and which trade them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ibs_core.report.equity import MARKS
from ibs_core.report.trade_facts import day_numbers
from ibs_core.research.purging import Labels, walk_forward

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ibs_core.bars import Ints
    from ibs_core.sweep.stage import Stage

__all__ = ["Window", "cut_windows", "marks_of"]


@dataclass(frozen=True, slots=True)
class Window:
    """Training sessions and the test sessions after them.

    Attributes
    ----------
    number : int, from 1
    train, test : tuple of (date, date)
        First and last CME session date of each.
    n_train, n_test : int
        Sessions of each.
    train_ends_ns, test_ends_ns : int, UTC ns
        Closes of the last session of each, the latest of all symbols.
    """

    number: int
    train: tuple[date, date]
    test: tuple[date, date]
    n_train: int
    n_test: int
    train_ends_ns: int
    test_ends_ns: int


def marks_of(stage: Stage, roots: Sequence[str]) -> pl.DataFrame:
    """Lay out the last prices of sessions as a table.

    Parameters
    ----------
    stage : Stage
    roots : sequence of str
        Of its symbols, in order.

    Returns
    -------
    polars.DataFrame
        Schema `MARKS`.
    """
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": pl.repeat(root, len(own.days), dtype=pl.String, eager=True),
                "session_date": own.days.astype("datetime64[D]"),
                "close_ns": own.closes_ns,
                "mark": own.prices,
            },
            schema=MARKS,
        )
        for root, own in zip(roots, stage.marks, strict=True)
    )


def cut_windows(
    marks: pl.DataFrame,
    *,
    train_sessions: int,
    test_sessions: int,
    embargo: int,
    anchored: bool,
) -> list[Window]:
    """Cut the sessions of the data into windows.

    Parameters
    ----------
    marks : polars.DataFrame
        Schema `MARKS`: a session is a date on which any symbol has one.
    train_sessions : int, > embargo
        Before the first test session.
    test_sessions : int, >= 1
        Of a window; the last may have fewer.
    embargo : int, >= 0
        Of the training sessions, the last that are left out.
    anchored : bool
        Train from the first session on, else on as many sessions in every window.

    Returns
    -------
    list of Window
        In order; every session after the first `train_sessions` is tested once.

    Raises
    ------
    ConfigError
        A number is out of its range.
    DataError
        There is no session to test.
    """
    closes = marks.group_by("session_date").agg(pl.col("close_ns").max()).sort("session_date")
    dates: list[date] = closes["session_date"].to_list()
    ends: Ints = closes["close_ns"].cum_max().to_numpy()
    days = day_numbers(closes["session_date"])
    splits = walk_forward(  # a label a session: nothing reaches from one into another
        Labels(days, days, days),
        train_sessions=train_sessions,
        test_sessions=test_sessions,
        embargo=embargo,
        rolling=not anchored,
    )
    return [
        Window(
            number,
            (dates[split.train[0]], dates[split.train[-1]]),
            (dates[split.test[0]], dates[split.test[-1]]),
            len(split.train),
            len(split.test),
            int(ends[split.train[-1]]),
            int(ends[split.test[-1]]),
        )
        for number, split in enumerate(splits, 1)
    ]
