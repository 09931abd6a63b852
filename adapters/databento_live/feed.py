"""The feed: a queue between the thread that receives and the consumer, who never misses a minute."""

from __future__ import annotations

import threading
from collections import deque
from random import SystemRandom
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from databento_dbn import SymbolMappingMsg

from adapters.databento_live.capture import Capture
from adapters.databento_live.delivery import Delivery, Opened
from adapters.databento_live.roster import dataset_of
from adapters.databento_live.supervisor import Order, Supervisor
from adapters.databento_live.trade_bars import warm_up
from adapters.databento_live.wire import BAR_RTYPE, TRADE_RTYPE, Run
from ibs_core.bars import MINUTE_NS
from ibs_core.errors import EnvironmentFault
from ibs_core.ports import FeedEvent, FeedNote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from adapters.databento_live.connection import Address
    from ibs_core.contracts import ContractMap
    from ibs_core.ports import Clock

__all__ = ["DatabentoFeed", "address_of"]

_PORT: Final = 13_000
_FULL_BYTES: Final = 256 << 20
"""Above this the socket is not read: what is sent waits at the vendor, who drops no bar and no trade."""
_Item = FeedNote | Opened | tuple[list[Run], bytes]


class DatabentoFeed:
    """Minutes of the contracts in force, each once, from the vendor's bars or from trades.

    Parameters
    ----------
    contracts : ContractMap
    roots : sequence of str
        Of one dataset.
    key : str
        The API key; appears in no text and no log.
    clock : Clock
    active : callable
        Root and UTC ns -> the contract in force then, ``ESZ2025``; asked for opens of sessions.
    known_until_ns : int, UTC ns
        Until here `active` knows the rolls beforehand, as in a replay: no roll needs a new connection.
    gateway : tuple of (str, int), optional
        Host and port; default: the dataset's own.
    bars : {"ohlcv-1m", "trades"}
        Where minutes come from.
    cross_check : bool
        With ``trades``: take the vendor's bars too, end minutes as the vendor does, tell differences.
    queue_max : int
        Records that may wait for the consumer before it counts as too slow; none is ever dropped.
    grace_s : float
        Late trades' time where the clock ends a minute.
    heartbeat_s : int
        How often the gateway is asked to say that it lives, 5 or more.
    silence_s : float, optional
        A connection without a byte for so long is dead; default: the heartbeat and 10 s.
    raw_dbn : Path, optional
        Folder for files of everything received.
    wait : callable, optional
        Waits some seconds; default: until `stop` at the most.
    jitter : callable, optional
        Returns a number in [0, 1).

    Raises
    ------
    EnvironmentFault
        No key.
    ConfigError
        The roots are not of one dataset.
    """

    def __init__(
        self,
        *,
        contracts: ContractMap,
        roots: Sequence[str],
        key: str,
        clock: Clock,
        active: Callable[[str, int], str],
        known_until_ns: int = 0,
        gateway: Address | None = None,
        bars: Literal["ohlcv-1m", "trades"] = "ohlcv-1m",
        cross_check: bool = False,
        queue_max: int = 250_000,
        grace_s: float = 2.0,
        heartbeat_s: int = 10,
        silence_s: float | None = None,
        raw_dbn: Path | None = None,
        wait: Callable[[float], object] | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        if not key:
            raise EnvironmentFault(
                "no Databento API key",
                expected="the environment variable DATABENTO_API_KEY",
                found="nothing",
            )
        dataset = dataset_of(contracts, roots)
        self._from_trades = bars == "trades"
        self._cross_check = cross_check and self._from_trades
        self._queue_max, self._grace_ns = queue_max, int(grace_s * 1e9)
        self._clock = clock
        group = contracts.get(roots[0]).session
        self._capture = Capture(raw_dbn, dataset, group) if raw_dbn else None
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._depth = self._bytes = self._heard_ns = 0
        self._overflowed = self._is_stopped = False
        self._hide = lambda text: text.replace(key, "…")
        self._delivery = self._new_delivery(0)
        order = Order(
            contracts=contracts,
            roots=tuple(roots),
            active=active,
            known_until_ns=known_until_ns,
            schemas=("trades", "ohlcv-1m") if self._cross_check else (bars,),
            dataset=dataset,
            address=gateway or address_of(dataset),
            heartbeat_s=heartbeat_s,
            silence_s=heartbeat_s + 10.0 if silence_s is None else silence_s,
        )
        self._supervisor = Supervisor(
            order,
            key=key,
            clock=clock,
            wait=wait,
            jitter=jitter or SystemRandom().random,
            resume_ns=lambda: self._delivery.resume_ns,
            is_full=lambda: self._bytes > _FULL_BYTES,
            put=self._put,
            receive=self._receive,
        )

    def start(self, since_ns: int) -> None:
        """Begin to deliver minutes that open at or after an instant, those that are past first.

        Parameters
        ----------
        since_ns : int, UTC ns

        Raises
        ------
        IbsError
            The contracts in force are not known.
        """
        self._delivery = self._new_delivery(-(-since_ns // MINUTE_NS) * MINUTE_NS)
        if self._from_trades:
            warm_up()
        self._supervisor.start()

    def next(self, timeout_s: float) -> FeedEvent | None:
        """Return what came next, None when nothing did in time.

        Parameters
        ----------
        timeout_s : float, s, >= 0

        Returns
        -------
        FeedEvent or None
        """
        events = self._delivery.events
        deadline_s = monotonic() + timeout_s
        while not events and not self._is_stopped:
            with self._changed:
                left_s = max(deadline_s - monotonic(), 0.0)
                self._changed.wait_for(lambda: self._queue or self._is_stopped, left_s)
                items, self._queue = self._queue, deque()
            for item in items:
                self._deliver(item)
            if not items:
                self._delivery.pass_time(self._clock.now_ns() - self._grace_ns)
                break
        return events.popleft() if events else None

    def stop(self) -> None:
        """Deliver no more; returns when every thread has ended."""
        self._supervisor.stop()
        if self._capture is not None:
            self._capture.close()
        with self._changed:
            self._is_stopped = True
            self._queue.clear()
            self._delivery.events.clear()
            self._changed.notify_all()

    def telemetry(self) -> dict[str, Any]:
        """Tell last record, last bar by symbol, lag, reconnects, gaps, as JSON values.

        Returns
        -------
        dict of str to Any
        """
        delivery = self._delivery
        newest_ns = delivery.newest_ns
        return {
            "last_record_ns": self._heard_ns or None,
            "last_bar_ns": dict(delivery.last_bar_ns),
            "lag_ms": (self._heard_ns - newest_ns) / 1e6 if newest_ns else None,
            "reconnects": max(self._supervisor.n_connections - 1, 0),
            "gaps": self._supervisor.n_gaps,
            "queue_depth": self._depth,
            **delivery.counts(),
        }

    def _deliver(self, item: _Item) -> None:
        if isinstance(item, FeedNote):
            if item.kind == "lost":
                self._delivery.lose()
            self._delivery.events.append(item)
        elif isinstance(item, Opened):
            self._delivery.open(item)
            self._keep(item.header, None)
        else:
            runs, whole = item
            self._keep(whole, runs)
            for run in runs:
                self._delivery.take(run)
            with self._changed:
                self._depth -= _n_data(runs)
                self._bytes -= len(whole)
                self._overflowed &= self._depth > 0

    def _keep(self, data: bytes, runs: list[Run] | None) -> None:
        if self._capture is None:
            return
        now_ns = self._clock.now_ns()
        try:
            if runs is None:
                self._capture.open(data, now_ns)
            else:
                named = (run.records for run in runs if isinstance(run.records, SymbolMappingMsg))
                self._capture.write(data, b"".join(map(bytes, named)), now_ns)
        except OSError as error:
            self._capture = None
            text = f"received data are no longer kept: {error.strerror or error}"
            self._delivery.events.append(FeedNote("error", text))

    def _receive(self, runs: list[Run], whole: bytes) -> None:
        self._heard_ns = self._clock.now_ns()
        with self._changed:
            self._depth += _n_data(runs)
            self._bytes += len(whole)
            too_slow = self._depth > self._queue_max and not self._overflowed
            self._overflowed |= too_slow
            self._queue.append((runs, whole))
            self._changed.notify_all()
        if too_slow:
            text = f"{self._depth:,} records wait for the consumer: none is lost, all are late"
            self._put(FeedNote("overflow", text))

    def _put(self, item: FeedNote | Opened) -> None:
        with self._changed:
            self._queue.append(item)
            self._changed.notify_all()

    def _new_delivery(self, since_ns: int) -> Delivery:
        return Delivery(
            since_ns,
            from_trades=self._from_trades,
            cross_check=self._cross_check,
            hide=self._hide,
        )


def address_of(dataset: str) -> Address:
    """Return the vendor's gateway of a dataset.

    Parameters
    ----------
    dataset : str

    Returns
    -------
    tuple of (str, int)
        Host and port.
    """
    return _host(dataset), _PORT


def _host(dataset: str) -> str:
    return f"{dataset.lower().replace('.', '-')}.lsg.databento.com"


def _n_data(runs: list[Run]) -> int:
    return sum(len(run.records) for run in runs if run.rtype in (TRADE_RTYPE, BAR_RTYPE))
