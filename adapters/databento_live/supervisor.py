"""Connections one after another: when to connect, from which minute on, for which contracts."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adapters.databento_live.connection import Connection, Ending, Subscription
from adapters.databento_live.delivery import Opened
from adapters.databento_live.roster import Roster, call_roster, raw_symbol
from ibs_core.bars import MINUTE_NS
from ibs_core.errors import IbsError
from ibs_core.ports import FeedNote

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.databento_live.connection import Address
    from adapters.databento_live.roster import Member
    from adapters.databento_live.wire import Run
    from ibs_core.contracts import ContractMap
    from ibs_core.ports import Clock

__all__ = ["Order", "Supervisor"]

_BACK_OFF_S: Final = (1.0, 60.0)  # the vendor admits five connections a second
_STEADY_NS: Final = 60 * 10**9
"""A connection that lived so long was a good one: the next wait is the shortest again."""
_REACHES_NS: Final = ((24 * 60 - 5) * MINUTE_NS, 60 * MINUTE_NS, 0)
"""How far back a replay is asked for, and again when the vendor says that it reaches back too far."""
_EARLY_NS: Final = MINUTE_NS
"""Replays of trades begin so much earlier: they start by ``ts_event`` and are counted by ``ts_recv``."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the feed is to bring, and over which line.

    Parameters
    ----------
    contracts : ContractMap
    roots : tuple of str
    active : callable
        Root and UTC ns -> the contract in force then.
    known_until_ns : int, UTC ns
    schemas : tuple of str
    dataset : str
    address : tuple of (str, int)
    heartbeat_s : int
    silence_s : float
    """

    contracts: ContractMap
    roots: tuple[str, ...]
    active: Callable[[str, int], str]
    known_until_ns: int
    schemas: tuple[str, ...]
    dataset: str
    address: Address
    heartbeat_s: int
    silence_s: float


class Supervisor:
    """Keeps a connection up from a thread of its own, until it is stopped or refused for good.

    Parameters
    ----------
    order : Order
    key : str
    clock : Clock
    wait : callable or None
        Waits some seconds; None: until `stop` at the most.
    jitter : callable
        Returns a number in [0, 1).
    resume_ns : callable
        Returns the first minute that has not been told, UTC ns.
    is_full : callable
        Tells whether reading should pause.
    put : callable
        Takes what goes into the queue: notes, openings.
    receive : callable
        Takes runs of records and their bytes.
    """

    def __init__(
        self,
        order: Order,
        *,
        key: str,
        clock: Clock,
        wait: Callable[[float], object] | None,
        jitter: Callable[[], float],
        resume_ns: Callable[[], int],
        is_full: Callable[[], bool],
        put: Callable[[FeedNote | Opened], None],
        receive: Callable[[list[Run], bytes], None],
    ) -> None:
        self.n_connections = self.n_gaps = 0
        self._order, self._key, self._clock = order, key, clock
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._jitter = jitter
        self._resume_ns, self._is_full = resume_ns, is_full
        self._put, self._receive = put, receive
        self._thread = threading.Thread(target=self._run, name="databento feed", daemon=True)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()
        self._members: dict[str, Member] = {}
        self._two_digits: set[str] = set()
        self._n_aged_out = 0
        self._gap_until_ns = 0

    def start(self) -> None:
        """Connect.

        Raises
        ------
        IbsError
            The contracts in force are not known.
        """
        self._call(self._resume_ns())
        self._thread.start()

    def stop(self) -> None:
        """Leave the connection; returns when the thread has ended."""
        self._stopped.set()
        with self._lock:
            if self._loop is not None:
                with suppress(RuntimeError):  # the loop ended by itself in between
                    self._loop.call_soon_threadsafe(self._leave.set)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        n_failures = 0
        while not self._stopped.is_set():
            started_ns = self._clock.now_ns()
            try:
                ending = asyncio.run(self._connect())
            except IbsError as error:
                ending = Ending("fatal", str(error))
            except BaseException as error:  # noqa: BLE001  a panic of the decoder is no Exception
                ending = Ending("lost", f"{type(error).__name__}: {error}")
            if ending.how == "stopped" or self._stopped.is_set():
                return
            if ending.how == "fatal":
                self._note("fatal", f"Databento refuses: {ending.text}")
                return
            self._n_aged_out = self._n_aged_out + 1 if ending.how == "aged_out" else 0
            if self._clock.now_ns() - started_ns >= _STEADY_NS:
                n_failures = 0
            wait_s = 0.0 if ending.how == "roll" else self._back_off_s(n_failures, ending)
            n_failures += ending.how != "roll"
            again = f"; connecting again in {wait_s:.1f} s" if wait_s else ""
            self._note("lost" if ending.connected else "error", f"{ending.text}{again}")
            if wait_s:
                self._wait(wait_s)

    def _back_off_s(self, n_failures: int, ending: Ending) -> float:
        least_s, most_s = _BACK_OFF_S
        doubled_s = least_s * 2.0 ** min(n_failures, 10)
        base_s = most_s if ending.how == "limit" else min(doubled_s, most_s)
        return base_s * (1 + 0.25 * self._jitter())

    async def _connect(self) -> Ending:
        with self._lock:
            self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
            if self._stopped.is_set():
                self._leave.set()
        try:
            start_ns = self._start_ns()
            roster = self._call(start_ns)
            members = {self._symbol(each.instrument): each for each in roster.members}
            self._members = members
            subscriptions = [
                Subscription(each, tuple(members), start_ns - _EARLY_NS * (each == "trades"))
                for each in self._order.schemas
            ]
            self.n_connections += 1
            connection = Connection(
                key=self._key,
                dataset=self._order.dataset,
                address=self._order.address,
                heartbeat_s=self._order.heartbeat_s,
                silence_s=self._order.silence_s,
                opened=lambda header: self._put(
                    Opened(members, start_ns, len(subscriptions), header)
                ),
                received=self._receive,
                is_unknown=self._respell,
                is_full=self._is_full,
                is_due=self._watch_rolls(roster),
            )
            return await connection.run(subscriptions, self._leave)
        finally:
            with self._lock:
                self._loop = None

    def _start_ns(self) -> int:
        """Return the first minute to replay, and tell of those that no replay reaches."""
        resume_ns = max(self._resume_ns(), self._gap_until_ns)
        now_ns = self._clock.now_ns()
        reach_ns = _REACHES_NS[min(self._n_aged_out, len(_REACHES_NS) - 1)]
        floor_ns = -(-(now_ns - reach_ns) // MINUTE_NS) * MINUTE_NS
        if resume_ns < floor_ns:
            self.n_gaps += 1
            self._gap_until_ns = floor_ns
            text = "further back than the vendor replays: only history has these minutes"
            self._put(FeedNote("gap", text, resume_ns, floor_ns))
        return min(max(resume_ns, floor_ns), now_ns // MINUTE_NS * MINUTE_NS)

    def _symbol(self, instrument: str) -> str:
        return raw_symbol(instrument, two_digits=instrument in self._two_digits)

    def _respell(self, text: str) -> bool:
        """Tell whether a symbol that was not resolved has another spelling that is worth a try."""
        words = set(re.findall(r"\w+", text))
        unknown = {each.instrument for symbol, each in self._members.items() if symbol in words}
        untried = unknown - self._two_digits
        self._two_digits |= untried
        return bool(untried)

    def _call(self, start_ns: int) -> Roster:
        order = self._order
        now_ns = self._clock.now_ns()
        return call_roster(
            order.contracts, order.roots, order.active, start_ns, now_ns, order.known_until_ns
        )

    def _watch_rolls(self, roster: Roster) -> Callable[[], bool]:
        def is_due() -> bool:
            nonlocal roster
            now_ns = self._clock.now_ns()
            if now_ns < roster.check_ns:
                return False
            before, roster = roster, self._call(now_ns)
            return roster.current != before.current

        return is_due

    def _note(self, kind: str, text: str) -> None:
        note_text = text.replace(self._key, "…")
        self._put(FeedNote(kind, note_text))  # type: ignore[arg-type]  # one of three of its kinds
