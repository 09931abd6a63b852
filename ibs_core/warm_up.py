"""How much of the past live must observe before every window that it needs is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ibs_core.sessions import nominal_boundaries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ibs_core.sessions import Sessions
    from ibs_core.universe import Symbol, Universe
    from ibs_core.wiring import Wiring

__all__ = ["first_needed_ns"]

_SPARE_SESSIONS: Final = 5
"""On top: sessions without a print, bars without a minute, the session that is under way."""


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
