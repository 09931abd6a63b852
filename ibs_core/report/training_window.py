"""Trades that a model was trained on, apart from those that say something of it.

A trade lies inside when its time from entry to exit touches the training window of its symbol's model, from
the first decision to the last exit of a label; all ends are included. A position still open at the end is
held until its symbol's last close. What does not lie inside lies outside.

A session counts outside unless it lies wholly in its symbol's window; it begins with the close of the
session before. Before a window that the data reach it counts from the symbol's first candidate on: until then
features are warming up. Sessions that count for no symbol are left out of the curve, so that days on which nothing could
be proved add no zeros to a Sharpe ratio. Inside count the sessions that touch the window or a trade inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ibs_core.report.equity import OpenPosition

__all__ = [
    "Account",
    "Window",
    "divide",
    "inside",
    "sessions_inside",
    "spelt_instant",
    "windows_of",
]

Window = tuple[int, int]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_DAY_NS: Final = 86_400_000_000_000
_NEVER: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What an equity curve is made of.

    Attributes
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.
    marks : polars.DataFrame
        Schema `MARKS`.
    held : list of OpenPosition
        Still open at the end.
    """

    trades: pl.DataFrame
    marks: pl.DataFrame
    held: list[OpenPosition]

    @property
    def empty(self) -> bool:
        """Whether nothing was bought."""
        return not self.trades.height and not self.held

    def of(self, symbol: str) -> Account:
        """Return one symbol's part, its marks in order of time."""
        return Account(
            self.trades.filter(pl.col("symbol") == symbol),
            self.marks.filter(pl.col("symbol") == symbol).sort("close_ns"),
            [each for each in self.held if each.symbol == symbol],
        )


def inside(trades: pl.DataFrame, windows: Mapping[str, Window]) -> pl.Series:
    """Tell which trades lie inside the training window of their symbol.

    Parameters
    ----------
    trades : polars.DataFrame
        Schema `TRADES`.
    windows : mapping of str to (int, int)
        Of every symbol of the trades: first decision and last label end, UTC ns.

    Returns
    -------
    (n_trades,) polars.Series of Boolean
    """
    window = np.array([windows[root] for root in trades["symbol"]], np.int64).reshape(-1, 2)
    entry, leave = _ns(trades["entry_time"]), _ns(trades["exit_time"])
    return pl.Series((leave >= window[:, 0]) & (entry <= window[:, 1]))


def sessions_inside(dates: pl.Series, windows: Iterable[Window]) -> Mask:
    """Tell which sessions lie in a training window, by their dates.

    Parameters
    ----------
    dates : (n_sessions,) polars.Series of Date
    windows : iterable of (int, int)
        UTC ns.

    Returns
    -------
    (n_sessions,) bool
    """
    days = dates.cast(pl.String).to_numpy()
    known = np.zeros(len(days), np.bool_)
    for window in windows:
        first, last = (spelt_instant(ns)[:10] for ns in window)
        known |= (days >= first) & (days <= last)
    return known


def windows_of(stats: Mapping[str, Any]) -> dict[str, Window]:
    """Read the training windows that headline numbers leave out.

    Parameters
    ----------
    stats : mapping
        As `Run.stats`.

    Returns
    -------
    dict of str to (int, int)
        First decision and last label end by symbol, UTC ns; empty where the numbers are of everything.
    """
    if "inside_training" not in stats:
        return {}
    return {
        root: (_instant(each["first_decision"]), _instant(each["last_label_end"]))
        for root, each in stats["training_windows"].items()
    }


def spelt_instant(ns: int) -> str:
    """Spell UTC nanoseconds as a card does, such as 2024-12-31T22:00:00.000000000Z.

    Parameters
    ----------
    ns : int

    Returns
    -------
    str
    """
    return f"{np.datetime64(ns, 'ns')}Z"


def divide(
    account: Account, windows: Mapping[str, Window], candidates: Mapping[str, int]
) -> tuple[Account, Account]:
    """Divide an account into what lies outside the training windows and what lies inside.

    Parameters
    ----------
    account : Account
    windows : mapping of str to (int, int)
        Of every symbol of the account: first decision and last label end, UTC ns.
    candidates : mapping of str to int
        When each symbol had its first candidate, UTC ns; a symbol that had none is absent.

    Returns
    -------
    outside, inside : Account
        Every trade and open position is in one of them; a session that reaches over an end of a window is
        in both.
    """
    known = inside(account.trades, windows)
    outer, inner = [account.marks.clear()], [account.marks.clear()]
    held: list[OpenPosition] = []
    for root, window in windows.items():
        own, seen = (
            account.of(root),
            account.trades.filter(known & (account.trades["symbol"] == root)),
        )
        if not own.marks.height:
            continue
        begins, ends = _sessions(own)
        still = [
            each for each in own.held if each.entry_time_ns <= window[1] and ends[-1] >= window[0]
        ]
        held += still
        outer.append(own.marks.filter(_counts(begins, ends, window, candidates.get(root, _NEVER))))
        starts = [window[0], *_ns(seen["entry_time"]), *(each.entry_time_ns for each in still)]
        stops = [window[1], *_ns(seen["exit_time"]), *(ends[-1:] if still else [])]
        inner.append(own.marks.filter((ends >= min(starts)) & (begins <= max(stops))))
    return (
        Account(
            account.trades.filter(~known),
            pl.concat(outer),
            [each for each in account.held if each not in held],
        ),
        Account(account.trades.filter(known), pl.concat(inner), held),
    )


def _sessions(own: Account) -> tuple[Ints, Ints]:
    """Return where each session begins and ends; what lies beyond the first and the last belongs to them."""
    ends = own.marks["close_ns"].to_numpy().copy()
    begins = np.append(ends[0] - _DAY_NS, ends[:-1])
    held = [each.entry_time_ns for each in own.held]
    begins[0] = min(begins[0], *_ns(own.trades["entry_time"]), *held, _NEVER)
    ends[-1] = max(ends[-1], *_ns(own.trades["exit_time"]), *held, 0)
    return begins, ends


def _counts(begins: Ints, ends: Ints, window: Window, candidate: int) -> Mask:
    """Tell which sessions count outside."""
    first, last = window
    if first > ends[-1]:
        return np.ones(len(ends), np.bool_)
    warm = candidate if candidate < first else _NEVER
    counted: Mask = (ends > last) | ((begins < first) & (ends >= warm))
    return counted


def _instant(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def _ns(times: pl.Series) -> Ints:
    ns: Ints = times.dt.epoch("ns").to_numpy()
    return ns
