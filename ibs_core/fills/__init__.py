"""A broker's statement beside the journal: its rows, the legs they belong to, what they cost and what does not fit."""

from ibs_core.fills.legs import Held, Leg, Sent, legs_of
from ibs_core.fills.matching import Drift, Fill, Traded, compare, match, net
from ibs_core.fills.statement import instant_of, read_statement

__all__ = [
    "Drift",
    "Fill",
    "Held",
    "Leg",
    "Sent",
    "Traded",
    "compare",
    "instant_of",
    "legs_of",
    "match",
    "net",
    "read_statement",
]
