"""Minutes of the past: files, or Databento's historical service with every answer kept as raw DBN.

`vendor` is the service behind a thin port, `plan` cuts a span into requests, `download` keeps their answers,
`history` serves them as a `History`; `fronts` asks which contract is in force when.
"""

from adapters.databento_history.download import download, is_complete
from adapters.databento_history.fronts import front_days
from adapters.databento_history.history import DatabentoHistory, LocalHistory
from adapters.databento_history.plan import Piece, make_plan, plan_sessions
from adapters.databento_history.vendor import DatabentoVendor, Interval, Request, Vendor

__all__ = [
    "DatabentoHistory",
    "DatabentoVendor",
    "Interval",
    "LocalHistory",
    "Piece",
    "Request",
    "Vendor",
    "download",
    "front_days",
    "is_complete",
    "make_plan",
    "plan_sessions",
]
