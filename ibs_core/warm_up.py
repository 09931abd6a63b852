"""How much of the past live must observe before every window that it needs is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.bars import MINUTE_NS
from ibs_core.errors import DataError
from ibs_core.market_data.runs import stamp
from ibs_core.sessions import load_sessions, nominal_boundaries, open_market_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars
    from ibs_core.sessions import Sessions
    from ibs_core.universe import Symbol, Universe
    from ibs_core.wiring import Wiring

__all__ = ["REACH_NS", "first_needed_ns", "hole_at_the_end", "refuse_holes"]

REACH_NS: Final = (24 * 60 - 5) * MINUTE_NS
"""How far back the vendor's live service replays."""
_SPARE_SESSIONS: Final = 5
"""On top: sessions without a print, bars without a minute, the session that is under way."""
_QUIET_NS: Final = 240 * MINUTE_NS
"""Open market without a minute that may only be quiet."""


def hole_at_the_end(past: HeldBars, symbols: Iterable[Symbol], since_ns: int, until_ns: int) -> str:
    """Tell which symbol's minutes end long before a span does.

    Parameters
    ----------
    past : HeldBars
        Minutes of the span.
    symbols : iterable of Symbol
    since_ns, until_ns : int, UTC ns

    Returns
    -------
    str
        For people; empty when none does.
    """
    for symbol in symbols:
        runs = past.load(symbol.root)[0] if symbol.root in past.roots else []
        ends_ns = int(runs[-1].ts_ns[-1]) + MINUTE_NS if runs else since_ns
        instants = np.array([ends_ns, max(until_ns, ends_ns)], np.int64)
        last, end = open_market_ns(symbol.sessions, instants).tolist()
        if end - last > _QUIET_NS:
            return f"history of {symbol.root} ends at {stamp(ends_ns)}, not at {stamp(until_ns)}"
    return ""


def refuse_holes(
    held: HeldBars, contracts: ContractMap, roots: Sequence[str], start_ns: int, now_ns: int
) -> None:
    """Refuse history that ends before the live service can go on.

    Parameters
    ----------
    held : HeldBars
    contracts : ContractMap
    roots : sequence of str
    start_ns : int, UTC ns
        From here on the live service brings the minutes.
    now_ns : int, UTC ns

    Raises
    ------
    DataError
    """
    for root in roots:
        last = held.load(root)[0][-1]
        ends_ns = int(last.ts_ns[-1]) + MINUTE_NS
        sessions = load_sessions(contracts.get(root).session, ends_ns, max(now_ns, start_ns))
        instants = np.array([ends_ns, start_ns, max(now_ns - REACH_NS, start_ns)], np.int64)
        own, common, reach = open_market_ns(sessions, instants).tolist()
        if common - own > _QUIET_NS or reach > common:
            raise DataError(
                f"history of {root} ends at {stamp(ends_ns)}",
                expected="to reach into the last day, which the live service replays",
                found="open market without minutes after it",
                remedy="give later files with --history",
            )
        if last.instrument == root:
            raise DataError(
                f"history of {root} does not name its contract",
                expected="symbols such as ESZ25",
                found=root,
                remedy="give files with contracts, such as `ibs data fetch` writes",
            )


def first_needed_ns(symbols: Iterable[Symbol], universe: Universe, start_ns: int) -> int:
    """Return where history must begin so that every window is full at an instant, and a few sessions more.

    Parameters
    ----------
    symbols : iterable of Symbol
        Traded.
    universe : Universe
    start_ns : int, UTC ns

    Returns
    -------
    int, UTC ns
        Open of a session.
    """
    return min(
        first
        for symbol in symbols
        for first in _starts(symbol, symbol.wiring, universe, symbol.rule.tf_ns, start_ns)
    )


def _starts(
    symbol: Symbol, wiring: Wiring, universe: Universe, tf_ns: int, start_ns: int
) -> list[int]:
    """List where the history of a symbol and of all that its features read must begin."""
    own = symbol.sessions
    starts = [
        _back(own, start_ns, tf_ns, wiring.full_bars),
        _back(own, start_ns, 0, wiring.full_days),
    ]
    needs = [(each.root, each.side, each.node.full) for each in wiring.lookups]
    needs += [("pair", side, n) for side, n in wiring.pair_on.items()]
    for name, side, n in needs:
        root = str(symbol.contract.pair) if name == "pair" else name
        sessions = universe.instrument(root).sessions
        starts.append(_back(sessions, start_ns, tf_ns if side == "bar" else 0, n))
    return starts


def _back(sessions: Sessions, start_ns: int, tf_ns: int, n: int) -> int:
    """Go back from an instant over n bars, or over n sessions where the width is 0."""
    i = int(sessions.close_ns.searchsorted(start_ns, side="right")) - 1
    left = n
    while left > 0 and i > 0:
        opens, closes = int(sessions.open_ns[i]), int(sessions.close_ns[i])
        left -= len(nominal_boundaries(opens, closes, tf_ns)) if tf_ns else 1
        i -= 1
    return int(sessions.open_ns[max(i + 1 - _SPARE_SESSIONS, 0)])
