"""Bars that end at an instant: whoever is given them cannot know what came later.

The data are read once; a window takes the bars that had ended when its training sessions did, as if they had
been read then. A roll is known from the first minute of the next contract on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.bar_cache import Drawer
from ibs_core.sweep.stage import Stages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ibs_core.bars import Records
    from ibs_core.groundwork import Gathered
    from ibs_core.series import Series
    from ibs_core.sweep.candidate import Candidate

__all__ = ["StagesUntil", "read_until"]


class StagesUntil(Stages):
    """Stages of bars that others have read, as if they had been read at an instant.

    Parameters
    ----------
    whole : Stages
        Over all sessions.
    roots : sequence of str
        Those of its symbols that have a session in the span.
    span : tuple of (date, date)
        First and last session date that is traded.
    until_ns : int, UTC ns
        Close of the last of them.
    """

    def __init__(
        self, whole: Stages, roots: Sequence[str], span: tuple[date, date], until_ns: int
    ) -> None:
        super().__init__(
            *(whole.source, whole.contracts, roots),
            start=span[0],
            end=span[1],
            strict=False,  # the whole was read as it was asked for
            progress=lambda _root, _rows: None,
        )
        self._whole = whole
        self._cut = (tuple(roots), span[1], until_ns)

    def _read(self, candidate: Candidate) -> Gathered:
        return read_until(self._whole.reading(candidate), *self._cut)


def read_until(read: Gathered, roots: Sequence[str], last: date, until_ns: int) -> Gathered:
    """Return what would have been read at an instant.

    Parameters
    ----------
    read : Gathered
    roots : sequence of str
        The symbols that are kept.
    last : date
        Session date after which they have no bars.
    until_ns : int, UTC ns
        The instant, a close of that date.

    Returns
    -------
    Gathered

    Notes
    -----
    Whatever has no bar by then has none: features that read it are missing. Of minutes outside the calendar
    those count whose bar had ended.
    """
    traded = {symbol.root: symbol for symbol in read.symbols}
    last_date = int(np.datetime64(last, "D").astype(np.int64))

    def n_ended(root: str, bars: Records) -> int:
        """Count the bars that had ended, of a traded symbol those up to the last date."""
        ended = bars["end_ns"] <= until_ns
        if root in traded:
            ended &= traded[root].sessions.trade_date[bars["session"]] <= last_date
        return int(np.count_nonzero(ended))

    def series_of(series: Series) -> Series:
        n_bars, n_days = (n_ended(series.root, each) for each in (series.closed, series.days))
        known = series.bars["seam_ns"][series.bars["first_ns"] < until_ns]
        return replace(
            series,
            bars=series.bars[:n_bars],
            days=series.days[:n_days],
            complete=True,
            seams=known[known > 0],
        )

    pairs = [
        (symbol, series_of(series))
        for symbol, series in zip(read.symbols, read.series, strict=True)
        if symbol.root in roots
    ]
    return replace(
        read,
        symbols=[symbol for symbol, _ in pairs],
        series=[series for _, series in pairs],
        read={key: (own, series_of(series)) for key, (own, series) in read.read.items()},
        drawer=Drawer(),
    )
