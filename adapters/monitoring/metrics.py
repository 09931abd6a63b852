"""Numbers for Prometheus, served on this machine only."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.notices import Notice

__all__ = ["GATES", "Metrics"]

GATES: Final = ("open", "reduce_only", "halted")
_HOST: Final = "127.0.0.1"
_NAME: Final = re.compile(r"[\w.:+-]{1,40}", re.ASCII)
_COUNTED: Final = {
    "order": ("ibs_orders", "Orders in the journal.", ("symbol", "action")),
    "moved": ("ibs_order_moves", "Orders that have moved to a state.", ("state",)),
    "trade": ("ibs_trades", "Positions closed.", ("symbol", "reason")),
    "refused": ("ibs_refused", "Candidates kept out.", ("symbol", "reason")),
    "block": ("ibs_blocks", "Times that entries were blocked.", ("reason",)),
}
"""By kind of notice; the labels are facts of it."""
_SHOWN: Final = {
    "ibs_up": ("1 while the worker is running.", ()),
    "ibs_beat_timestamp_seconds": ("When the loop last gave a sign of life.", ()),
    "ibs_streaming": ("1 while the feed streams.", ()),
    "ibs_feed_lag_seconds": ("Of the newest record.", ()),
    "ibs_feed_reconnects": ("Since the start.", ()),
    "ibs_unsettled_orders": ("Orders on their way.", ()),
    "ibs_unresolved_orders": ("Orders of unknown outcome, and dead exits.", ()),
    "ibs_notices_dropped": ("Notices never told to one who was too slow, or broke.", ()),
    "ibs_gate": ("1 for what orders may leave.", ("gate",)),
    "ibs_blocked": ("1 for each reason that blocks entries now.", ("reason",)),
    "ibs_last_bar_timestamp_seconds": ("End of the last signal bar.", ("symbol",)),
    "ibs_last_minute_timestamp_seconds": ("End of the last minute seen.", ("symbol",)),
    "ibs_position_contracts": ("Contracts held by the book.", ("symbol",)),
    "ibs_open_usd": ("Open profit and loss, after assumed costs.", ("symbol",)),
    "ibs_realised_usd": ("Of the session, after assumed costs.", ("symbol",)),
    "ibs_features_ready": ("1 when every feature that is required has a value.", ("symbol",)),
}


class Metrics:
    """Counts notices and shows how the worker is; a `Subscriber`.

    Parameters
    ----------
    port : int
        On 127.0.0.1; 0 for any that is free.

    Raises
    ------
    EnvironmentFault
        The port is taken or forbidden.
    """

    def __init__(self, port: int) -> None:
        registry = CollectorRegistry()
        self._counters = {
            kind: Counter(name, text, labels, registry=registry)
            for kind, (name, text, labels) in _COUNTED.items()
        }
        self._pages = Counter("ibs_pages", "Times that a person was to look.", registry=registry)
        self._gauges = {
            name: Gauge(name, text, labels, registry=registry)
            for name, (text, labels) in _SHOWN.items()
        }
        self._blocked: set[str] = set()
        try:
            self._server, self._thread = start_http_server(port, _HOST, registry)
        except OSError as error:
            raise EnvironmentFault(
                f"metrics on port {port}",
                expected="a port that is free",
                found=str(error.strerror).lower(),
                remedy="end what listens there, or name another monitoring.metrics_port",
            ) from None
        self.port: int = self._server.server_port

    def tell(self, notice: Notice) -> None:
        """Count a notice.

        Parameters
        ----------
        notice : Notice
        """
        if notice.level == "page":
            self._pages.inc()
        if notice.kind in self._counters and notice.facts.get("on") is not False:
            labels = _COUNTED[notice.kind][2]
            self._counters[notice.kind].labels(
                *(_label(notice.facts.get(each)) for each in labels)
            ).inc()

    def beat(self, status: str, document: Mapping[str, Any], now_ns: int) -> None:
        """Show how the worker is.

        Parameters
        ----------
        status : str
        document : Mapping of str to Any
            As of the heartbeat; what it does not hold keeps its value.
        now_ns : int, UTC ns
        """
        self._set("ibs_up", status == "running")
        self._set("ibs_beat_timestamp_seconds", now_ns / 1e9)
        health = document.get("details", {})
        if "symbols" not in health:  # not yet, or no more
            return
        feed, orders = health.get("feed", {}), health.get("orders", {})
        lag_ms = feed.get("lag_ms")
        self._set("ibs_streaming", health.get("streaming"))
        self._set("ibs_feed_lag_seconds", None if lag_ms is None else lag_ms / 1e3)
        self._set("ibs_feed_reconnects", feed.get("reconnects"))
        self._set("ibs_unsettled_orders", orders.get("unsettled"))
        self._set("ibs_unresolved_orders", len(health.get("unresolved", ())))
        self._set("ibs_notices_dropped", health.get("notices_dropped"))
        for gate in GATES:
            self._set("ibs_gate", health.get("gate") == gate, gate)
        blocked = {_label(reason) for reason in health.get("blocked", ())}
        # Not cleared first: a scrape in between must not miss those that hold on.
        for reason in self._blocked - blocked:
            self._gauges["ibs_blocked"].remove(reason)
        for reason in blocked:
            self._set("ibs_blocked", 1, reason)
        self._blocked = blocked
        for root, each in health["symbols"].items():
            self._set("ibs_last_bar_timestamp_seconds", _seconds(each.get("last_bar")), root)
            self._set("ibs_last_minute_timestamp_seconds", _seconds(each.get("last_minute")), root)
            self._set("ibs_position_contracts", each.get("quantity"), root)
            self._set("ibs_open_usd", each.get("open_usd"), root)
            self._set("ibs_realised_usd", each.get("realised_usd"), root)
            self._set("ibs_features_ready", each.get("features", {}).get("ready"), root)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _set(self, name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            gauge = self._gauges[name]
            (gauge.labels(*labels) if labels else gauge).set(value)


def _label(value: object) -> str:
    """Return a name of ours; a label made of whatever somebody says would have no end of values."""
    text = "none" if value in (None, "") else str(value)
    return text if _NAME.fullmatch(text) else "other"


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
