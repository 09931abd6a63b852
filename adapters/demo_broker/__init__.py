"""A local stand-in for TradersPost: its documented rules, and every way in which delivery can fail.

The path of a request: `wire` (bytes and how they end) → `faults` (what goes wrong, and when) → `rules` (what
is refused) → `book` (what is traded, by `planning`) → `webhook` (limits, records) → `server` (threads, a `port`). It knows
nothing of the system that it stands in for, so that its answers cannot agree by construction.
"""

from adapters.demo_broker.book import Book, Fill, Trade, WorkingOrder
from adapters.demo_broker.faults import Fault, FaultKind
from adapters.demo_broker.market_clock import MarketClock
from adapters.demo_broker.planning import Subscription
from adapters.demo_broker.server import DemoBroker, ManualClock
from adapters.demo_broker.webhook import Received

__all__ = [
    "Book",
    "DemoBroker",
    "Fault",
    "FaultKind",
    "Fill",
    "ManualClock",
    "MarketClock",
    "Received",
    "Subscription",
    "Trade",
    "WorkingOrder",
]
