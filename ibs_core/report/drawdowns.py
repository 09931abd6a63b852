"""The worst drawdowns of an equity curve, each from its peak to its recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.report.training_window import sessions_inside

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from ibs_core.report.training_window import Window

__all__ = ["worst_drawdowns"]


def worst_drawdowns(
    curve: pl.DataFrame, *, capital: float, n_most: int, windows: Iterable[Window] = ()
) -> list[dict[str, Any]]:
    """List the deepest drawdowns at session closes, none inside another.

    Parameters
    ----------
    curve : polars.DataFrame
        Rows of one symbol, or of the total, of the schema `EQUITY`, by date.
    capital : float
        Stated capital, USD, which stands before the first session.
    n_most : int
        At most so many, > 0.
    windows : iterable of (int, int), optional
        Training windows, UTC ns.

    Returns
    -------
    list of dict
        Deepest in USD first: ``peak`` (date of the last close at the peak, None for the stated capital
        before the first session), ``bottom``, ``recovered`` (None where it is not), ``usd`` (> 0),
        ``of_peak``, ``days`` (calendar days from peak to recovery, or to the last session), ``in_training``
        (whether a session of it lies in a training window).
    """
    dates = curve["session_date"].to_list()
    equity = np.concatenate([[capital], curve["equity_usd"].to_numpy()])
    peak = np.maximum.accumulate(equity)
    fall = peak - equity
    # Each run of closes below the peak, between the close at the peak and the one that regains it.
    edges = np.diff(np.concatenate([[False], fall > 0, [False]]).astype(np.int8))
    inside = sessions_inside(curve["session_date"], windows)
    rows = []
    begins, ends = (np.flatnonzero(edges == step).tolist() for step in (1, -1))
    for first, after in zip(begins, ends, strict=True):
        bottom = first + int(fall[first:after].argmax())
        depth, recovered = float(fall[bottom]), after < len(equity)
        # The stated capital is the peak before the first session and bears its date.
        from_day = dates[max(first - 2, 0)]
        to_day = dates[after - 1] if recovered else dates[-1]
        rows.append(
            {
                "peak": dates[first - 2] if first >= 2 else None,
                "bottom": dates[bottom - 1],
                "recovered": to_day if recovered else None,
                "usd": depth,
                "of_peak": depth / float(peak[bottom]),
                "days": (to_day - from_day).days,
                "in_training": bool(inside[first - 1 : after].any()),
            }
        )
    return sorted(rows, key=lambda row: (-row["usd"], row["bottom"]))[:n_most]
