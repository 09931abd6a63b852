"""Minutes from Databento's live service, as a `BarFeed`.

The path of the data: `connection` (one session with the gateway, its bytes cut by `wire`) → a queue →
`delivery` in the consumer's thread (each minute once; `trade_bars` where minutes are built from trades) →
events. `feed` supervises; `roster` says which contract is wanted when; `capture` keeps what was received.
"""

from adapters.databento_live.feed import DatabentoFeed

__all__ = ["DatabentoFeed"]
