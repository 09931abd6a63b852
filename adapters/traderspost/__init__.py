"""Orders to TradersPost: one sender a webhook, what it does decided by `ibs_core.delivery`.

The webhook's URL is the credential: it is in no log, journal, message, traceback or representation of an object.
"""

from adapters.traderspost.connection import Connection, Patience
from adapters.traderspost.sink import TradersPostSink
from adapters.traderspost.webhook import Webhook, webhook_of

__all__ = ["Connection", "Patience", "TradersPostSink", "Webhook", "webhook_of"]
