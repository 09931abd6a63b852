"""What the catalogue says of one feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ibs_core.formulas import Node

__all__ = ["BAR", "DAY", "NO_CLOSE", "Feature", "Row", "Side", "feature_of"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the catalogue.

    Attributes
    ----------
    name : str
        Canonical name.
    formula : str
        One line, with O, H, L, C, V of the bar and [-1] for the bar before.
    unit : str
    low, high : float
        Values that are possible, both included.
    missing : str
        When there is no value although the warm-up is over; empty: never.
    node : Node
        The formula as an expression of the signal bar's graph.
    side : {"bar", "day", "cal"}
        Whose bars the warm-up counts; the calendar has none.
    for_models : bool
        False for price levels, by which trees would remember eras.
    """

    name: str
    formula: str
    unit: str
    low: float
    high: float
    missing: str
    node: Node = field(repr=False)
    side: str
    for_models: bool = True

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are possible: flags, states, counts and the calendar."""
        return self.side == "cal" or self.unit in {"0 or 1", "-1, 0, 1", "bars"}

    @property
    def warmup(self) -> int:
        """Completed bars of its own timeframe before the first value; where pivots decide, the fewest."""
        return self.node.first

    @property
    def full(self) -> int:
        """Completed bars of its own timeframe before every window is full."""
        return self.node.full

    @property
    def settles(self) -> int | None:
        """Bars after which a later start of the data gives the same bits; None where the data decide."""
        return self.node.settles


INF = float("inf")
UNITS = {
    "share": ("0 to 1", 0.0, 1.0),
    "index": ("0 to 100", 0.0, 100.0),
    "flag": ("0 or 1", 0.0, 1.0),
    "state": ("-1, 0, 1", -1.0, 1.0),
    "percent": ("%", -INF, INF),
    "z": ("deviations", -INF, INF),
    "atr": ("ATR", -INF, INF),
    "atr+": ("ATR", 0.0, INF),
    "ratio": ("ratio", 0.0, INF),
    "signed": ("ratio", -INF, INF),
    "bars": ("bars", 0.0, INF),
    "price": ("price", -INF, INF),
    "level": ("index points", 0.0, INF),
    "product": ("% x points", -INF, INF),
    "swing": ("index points", -INF, INF),
    "volatility": ("% a bar", 0.0, INF),
}
"""Kind of a value: its unit and the least and greatest that are possible."""

Row: TypeAlias = "tuple[Node, str, str, str]"
"""Node, formula, kind, when missing."""

NO_CLOSE = "an earlier close is 0 or below"
"""Why a return can be missing."""


@dataclass(frozen=True, slots=True)
class Side:
    """What differs between the two timeframes."""

    prefix: str
    drift: int
    rank: tuple[int, int]


BAR = Side("bar", 50, (2520, 252))
DAY = Side("day", 20, (504, 60))


def feature_of(name: str, row: Row, s: Side, *, node: Node) -> Feature:
    """Make a feature of a row.

    Parameters
    ----------
    name : str
    row : Row
    s : Side
    node : Node
        The row's formula as the signal bar's graph reads it.

    Returns
    -------
    Feature
        For models unless it is a price level.
    """
    unit, low, high = UNITS[row[2]]
    levels = row[2] == "price"
    return Feature(name, row[1], unit, low, high, row[3], node, s.prefix, for_models=not levels)
