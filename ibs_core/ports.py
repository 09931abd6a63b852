"""What the engine's drivers ask of the world, as protocols and the values that pass through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.market_data import HeldBars

__all__ = [
    "BarFeed",
    "Clock",
    "Command",
    "Entry",
    "FeedEvent",
    "FeedNote",
    "History",
    "Journal",
    "Minute",
    "MinuteEnd",
    "Move",
    "Order",
    "OrderSink",
    "Stored",
]


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute bar of one contract, as a feed delivers it.

    Parameters
    ----------
    root : str
    instrument : str
        ``ESZ2025``.
    ts_ns : int, UTC ns
        Open of the minute.
    open, high, low, close : float, price units
    volume : float
        NaN where unknown.
    """

    root: str
    instrument: str
    ts_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class MinuteEnd:
    """Every bar of every minute that ended by an instant has been delivered.

    Parameters
    ----------
    ts_ns : int, UTC ns
    """

    ts_ns: int


@dataclass(frozen=True, slots=True)
class FeedNote:
    """Something that befell a feed.

    Parameters
    ----------
    kind : str
        ``connected``: streaming from now on. ``replayed``: what was missed has been delivered.
        ``lost``: no data until the next ``replayed``. ``gap``: minutes that the feed cannot replay, only
        history can. ``overflow``: the consumer is too slow. ``mapping``: a symbol was resolved.
        ``error``: a refusal that does not end the feed. ``ended``: no more will come. ``fatal``: as
        ``ended``, and a person must act.
    text : str
        For people; never a secret.
    since_ns, until_ns : int, UTC ns
        Of a ``gap``: minutes that open in [since, until) may be missing; else 0.
    """

    kind: Literal[
        "connected", "replayed", "lost", "gap", "overflow", "mapping", "error", "ended", "fatal"
    ]
    text: str
    since_ns: int = 0
    until_ns: int = 0


FeedEvent = Minute | MinuteEnd | FeedNote


class BarFeed(Protocol):
    """Minutes as they come."""

    def start(self, since_ns: int) -> None:
        """Begin to deliver minutes that open at or after an instant, those that are past first."""

    def next(self, timeout_s: float) -> FeedEvent | None:
        """Return what came next, None when nothing did in time."""

    def stop(self) -> None:
        """Deliver no more; returns when every thread has ended."""

    def telemetry(self) -> dict[str, Any]:
        """Tell last record, last bar by symbol, lag, reconnects, gaps, as JSON values."""


class History(Protocol):
    """Minutes of the past."""

    def minutes(self, roots: Sequence[str], first_ns: int, until_ns: int) -> HeldBars:
        """Return the minutes of roots and reference feeds that open in [first, until)."""


class Clock(Protocol):
    """The time."""

    def now_ns(self) -> int:
        """Return UTC ns."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent for one decision.

    Parameters
    ----------
    order_id : str
        Deterministic: the same decision has the same.
    symbol : str
        The root that decided.
    instrument : str
        The executed contract, ``MESZ2025``.
    action : {"entry", "exit", "cancel"}
    reason : str
        Of an exit, as in ``bars.EXIT_REASONS``.
    decided_ns : int, UTC ns
        The slice that decided it.
    quantity : int
    price : float
        The signal close, for the record: market orders carry none.
    stop, target : float or None
        Protective levels on the tick grid.
    score, threshold : float or None
    model : str
        Version of the bundle; empty without one.
    """

    order_id: str
    symbol: str
    instrument: str
    action: Literal["entry", "exit", "cancel"]
    reason: str
    decided_ns: int
    quantity: int
    price: float
    stop: float | None = None
    target: float | None = None
    score: float | None = None
    threshold: float | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """An order has moved to another state.

    Parameters
    ----------
    order_id, state, why : str
    """

    order_id: str
    state: str
    why: str


class OrderSink(Protocol):
    """Where orders go."""

    def start(self) -> None:
        """Take up what the journal holds unsettled, and begin to send; the journal has a run."""

    def send(self, orders: Sequence[Order]) -> None:
        """Take orders that are already in the journal; never raises for what the receiver does."""

    def settled(self) -> Sequence[tuple[Order, Move]]:
        """Return how orders have moved since the last call, as the journal has it already."""

    def unsettled(self) -> Sequence[tuple[Order, str]]:
        """Return the orders that have not arrived for sure, with their states, and exits that were refused."""

    def hold(self, gate: Literal["open", "reduce_only", "halted"]) -> None:
        """Let everything leave, exits only, or nothing."""

    def resolve(self, order_id: str, verdict: str) -> str:
        """Do what an operator says of an order, and return its new state; raises where it does not fit."""

    def standing(self) -> Mapping[str, Any]:
        """Tell ``last_success`` and ``last_error`` as JSON values, null where there is none."""

    def close(self) -> None:
        """Send no more; returns when everything under way has ended."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What one transaction of the journal writes.

    Parameters
    ----------
    time_ns : int, UTC ns
        Market time up to which every minute was seen.
    arrays : Mapping of str to array
        Records of the engine: minutes, inputs, bars, signals, rows, decisions, trades.
    orders : sequence of Order
        Written as PENDING.
    """

    time_ns: int
    arrays: Mapping[str, NDArray[Any]]
    orders: Sequence[Order] = field(default=())


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An entry read back.

    Parameters
    ----------
    seq : int
        From 1, without a hole.
    run : int
        The process that wrote it.
    time_ns : int, UTC ns
    arrays : Mapping of str to array
    order_ids : tuple of str
    """

    seq: int
    run: int
    time_ns: int
    arrays: Mapping[str, NDArray[Any]]
    order_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asks of a worker.

    Parameters
    ----------
    number : int
    time_ns : int, UTC ns
    command : str
    facts : Mapping of str to Any
        JSON values.
    taken_ns : int or None, UTC ns
        When it was done.
    """

    number: int
    time_ns: int
    command: str
    facts: Mapping[str, Any]
    taken_ns: int | None = None


class Journal(Protocol):
    """What is written before anything is sent, and read after a crash."""

    def latest_snapshot(self) -> tuple[int, int, bytes] | None:
        """Return the newest sound state: the entry after which it was taken, its time and the block."""

    def entries(self, after_seq: int = 0, until_seq: int | None = None) -> Iterator[Stored]:
        """Yield entries in order."""

    def unsent(self) -> Sequence[Order]:
        """Return the orders that were written and not sent, in the order of their decision."""

    def last_entry_order(self, symbol: str) -> tuple[Order, str] | None:
        """Return the newest entry order of a symbol, and what became of it."""

    def begin(self, now_ns: int, facts: Mapping[str, Any]) -> int:
        """Open a run of this process and return its number."""

    def append(self, entry: Entry) -> int:
        """Write one entry, durably before it returns, and return its number."""

    def snapshot(self, seq: int, time_ns: int, block: bytes) -> None:
        """Keep the state after an entry; older states but the first of a run are forgotten."""

    def event(self, now_ns: int, kind: str, facts: Mapping[str, Any]) -> None:
        """Keep something that people will want to know."""

    def last_event(self, kind: str) -> Mapping[str, Any] | None:
        """Return what the newest event of a kind holds."""

    def order_state(self, order_id: str, state: str, now_ns: int, detail: str = "") -> None:
        """Move an order on."""

    def take_commands(self) -> Sequence[Command]:
        """Return what operators ask, each once in a process."""

    def settle_command(self, number: int, now_ns: int) -> None:
        """Note that a command was done."""

    def end(self, now_ns: int, how: str) -> None:
        """Close the run."""
