"""A loopback server that speaks Databento's live protocol, so that the vendor's own client needs no key.

The data path: `sources` (minute bars or DBN files become a `tape`; `trades` makes trades of bars and bars
of trades) → `faults` (what goes wrong, and when) → `records` (bytes in bulk) → `session` (one connection;
`control` reads its lines) → `server` (listener, thread, market `clock`).
"""

from adapters.databento_gateway.faults import Fault, FaultKind
from adapters.databento_gateway.server import Gateway
from adapters.databento_gateway.sources import tape_of_dbn, tape_of_minutes
from adapters.databento_gateway.tape import ALL_SYMBOLS, Front, Instrument, Tape, day_of

__all__ = [
    "ALL_SYMBOLS",
    "Fault",
    "FaultKind",
    "Front",
    "Gateway",
    "Instrument",
    "Tape",
    "day_of",
    "tape_of_dbn",
    "tape_of_minutes",
]
