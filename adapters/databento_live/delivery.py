"""What the stream's records mean: each minute once, and when all of a minute have come.

Runs in the consumer's thread. The records of one connection are in order but for the replay, which the
vendor interleaves with the present: until it is completed no end of a minute is told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from databento_dbn import ErrorMsg, SymbolMappingMsg, SystemCode, SystemMsg

from adapters.databento_live.trade_bars import TradeBars
from adapters.databento_live.wire import BAR_RTYPE, TRADE_RTYPE
from ibs_core.bars import DAY_NS, MINUTE_NS, Records
from ibs_core.market_data.runs import stamp
from ibs_core.ports import FeedEvent, FeedNote, Minute, MinuteEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adapters.databento_live.roster import Member
    from adapters.databento_live.wire import Run

__all__ = ["Delivery", "Opened"]

_SETTLE_NS: Final = 50_000_000
"""Instruments reach the vendor over several channels: a trade ends a minute when it is so much later."""
_KEPT_NS: Final = 2 * DAY_NS
"""A bar's repetition is known for so long; a replay reaches back one day."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection streams.

    Parameters
    ----------
    members : Mapping of str to Member
        By the symbol that was subscribed.
    start_ns : int, UTC ns
        First minute that is wanted whole.
    n_schemas : int
        Each completes a replay of its own.
    header : bytes
        The stream's.
    """

    members: Mapping[str, Member]
    start_ns: int
    n_schemas: int
    header: bytes = b""


class Delivery:
    """Turns runs of records into events.

    Parameters
    ----------
    since_ns : int, UTC ns
        Minutes that open before are not wanted.
    from_trades : bool
        Build the minutes from trades.
    cross_check : bool
        Compare them with the vendor's own.
    hide : callable
        Takes secrets out of the vendor's texts.
    """

    def __init__(
        self,
        since_ns: int,
        *,
        from_trades: bool,
        cross_check: bool,
        hide: Callable[[str], str] = str,
    ) -> None:
        self._hide = hide
        self.events: deque[FeedEvent] = deque()
        self.resume_ns = since_ns
        """Every minute that opens before has been told."""
        self.last_bar_ns: dict[str, int] = {}
        self.n_duplicates = self.n_late = self.n_trades = self.n_differences = 0
        self.newest_ns = 0
        """Market time of the newest record."""
        self._since_ns = since_ns
        self._from_trades = from_trades
        self._cross_check = cross_check
        self._told: dict[str, set[int]] = {}
        self._members: dict[int, Member] = {}
        self._opened: Opened | None = None
        self._replaying = 0
        self._ended_ns = 0
        self._builder = TradeBars(since_ns)
        self._unmatched: tuple[dict[tuple[str, int], Minute], ...] = ({}, {})  # own, vendor's

    @property
    def is_live(self) -> bool:
        """Whether the stream is at the present."""
        return self._opened is not None and self._replaying == 0

    def open(self, opened: Opened) -> None:
        """Begin with a new connection; unfinished bars of the one before are built again.

        Parameters
        ----------
        opened : Opened
        """
        self._opened = opened
        self._replaying = opened.n_schemas
        self._ended_ns = 0
        self._members = {}
        self._keep_counts()
        # What was told while the last replay ran is told once all the same, for bars are.
        self._builder = TradeBars(max(self.resume_ns, opened.start_ns))
        for minutes in self._unmatched:
            minutes.clear()
        self.events.append(FeedNote("connected", "streaming"))

    def take(self, run: Run) -> None:
        """Take records.

        Parameters
        ----------
        run : Run
        """
        if run.rtype == BAR_RTYPE:
            self._take_bars(run.records)
        elif run.rtype == TRADE_RTYPE:
            self._take_trades(run.records)
        elif isinstance(run.records, SymbolMappingMsg):
            self._name(run.records)
        elif isinstance(run.records, SystemMsg):
            self._heed(run.records)
        elif isinstance(run.records, ErrorMsg):
            self.events.append(FeedNote("error", self._hide(run.records.err)))

    def lose(self) -> None:
        """Forget the connection: it has ended."""
        self._opened = None

    def pass_time(self, now_ns: int) -> None:
        """End the minutes that are over by the clock, where nothing else ends them.

        Parameters
        ----------
        now_ns : int, UTC ns
            The time, less what late trades are given.
        """
        if self._from_trades and not self._cross_check and self.is_live:
            self._close(now_ns // MINUTE_NS * MINUTE_NS)

    def _take_bars(self, bars: Records) -> None:
        for _, _, _, number, ts_ns, opening, high, low, close, volume in bars.tolist():
            member = self._members.get(number)
            if member is None or not member.since_ns <= ts_ns < member.until_ns:
                continue
            self.newest_ns = max(self.newest_ns, ts_ns + MINUTE_NS)
            minute = Minute(
                member.root,
                member.instrument,
                ts_ns,
                opening / 1e9,
                high / 1e9,
                low / 1e9,
                close / 1e9,
                float(volume),
            )
            if self._from_trades:
                self._compare(minute, 1)
            else:
                self._tell(minute)

    def _take_trades(self, trades: Records) -> None:
        for minute in self._builder.take(trades):
            self._tell_own(minute)
        self.newest_ns = max(self.newest_ns, self._builder.latest_ns)
        if not self._cross_check:
            self._close((self._builder.latest_ns - _SETTLE_NS) // MINUTE_NS * MINUTE_NS)

    def _close(self, until_ns: int) -> None:
        if until_ns > self._builder.closed_ns:
            for minute in self._builder.close(until_ns):
                self._tell_own(minute)
            self._end(until_ns)

    def _tell_own(self, minute: Minute) -> None:
        self._compare(minute, 0)
        self._tell(minute)

    def _tell(self, minute: Minute) -> None:
        if minute.ts_ns < self._since_ns:
            return
        told = self._told.setdefault(minute.instrument, set())
        if minute.ts_ns in told:
            self.n_duplicates += 1
            return
        self.n_late += minute.ts_ns + MINUTE_NS <= self.resume_ns
        told.add(minute.ts_ns)
        newest = max(self.last_bar_ns.get(minute.instrument, 0), minute.ts_ns)
        self.last_bar_ns[minute.instrument] = newest
        if len(told) > 2 * _KEPT_NS // MINUTE_NS:
            self._told[minute.instrument] = {ns for ns in told if ns > newest - _KEPT_NS}
        self.events.append(minute)

    def _name(self, mapping: SymbolMappingMsg) -> None:
        member = self._opened.members.get(mapping.stype_in_symbol) if self._opened else None
        if member is None or self._members.get(mapping.instrument_id) == member:
            return  # each schema maps its symbols
        self._members[mapping.instrument_id] = member
        self._builder.name(mapping.instrument_id, member)
        text = f"{mapping.stype_in_symbol} is {member.instrument}, id {mapping.instrument_id}"
        self.events.append(FeedNote("mapping", text))

    def _heed(self, message: SystemMsg) -> None:
        if message.code == SystemCode.END_OF_INTERVAL:
            self._end_of_interval(message.ts_event)
        elif message.code == SystemCode.REPLAY_COMPLETED and self._replaying:
            self._replaying -= 1
            self._builder.suspect_repeats()
            if not self._replaying:
                self._complete()
        elif message.code == SystemCode.SLOW_READER_WARNING:
            self.events.append(FeedNote("error", f"the data are late: {self._hide(message.msg)}"))

    def _end_of_interval(self, end_ns: int) -> None:
        if not self._from_trades:
            self._end(end_ns)
        elif self._cross_check and self._replaying:  # its trades may still come
            self._ended_ns = max(self._ended_ns, end_ns)
        elif self._cross_check:
            self._close(end_ns)

    def _end(self, end_ns: int) -> None:
        self._ended_ns = max(self._ended_ns, end_ns)
        if self._replaying == 0 and self._ended_ns > self.resume_ns:
            self.resume_ns = self._ended_ns
            self.events.append(MinuteEnd(self._ended_ns))
            if self._cross_check:
                self._refuse_unmatched()

    def _complete(self) -> None:
        """Tell that the replay is over, then the last minute that ended while it ran."""
        self.events.append(FeedNote("replayed", "the minutes that were missed have been delivered"))
        if self._from_trades and self._cross_check:
            self._close(self._ended_ns)
        else:
            self._end(self._ended_ns)

    def _keep_counts(self) -> None:
        self.n_trades += self._builder.n_trades
        self.n_late += self._builder.n_late
        self.n_duplicates += self._builder.n_duplicates

    def counts(self) -> dict[str, int]:
        """Return trades, duplicates, late minutes and trades, and bars unlike the vendor's."""
        return {
            "trades": self.n_trades + self._builder.n_trades,
            "duplicates": self.n_duplicates + self._builder.n_duplicates,
            "late": self.n_late + self._builder.n_late,
            "differences": self.n_differences,
        }

    def _compare(self, minute: Minute, side: int) -> None:
        if not self._cross_check or minute.ts_ns < self._builder.since_ns:
            return
        key = (minute.instrument, minute.ts_ns)
        other = self._unmatched[1 - side].pop(key, None)
        if other is None:
            self._unmatched[side][key] = minute
        elif other != minute:
            own, vendors = (minute, other) if side == 0 else (other, minute)
            self._differ(own, f"the vendor's {_shown(vendors)}, ours {_shown(own)}")

    def _refuse_unmatched(self) -> None:
        for whose, minutes in zip(
            ("the vendor has none", "ours is missing"), self._unmatched, strict=True
        ):
            over = [key for key in minutes if key[1] < self.resume_ns]
            for key in over:
                self._differ(minutes.pop(key), whose)

    def _differ(self, minute: Minute, how: str) -> None:
        self.n_differences += 1
        what = f"bar of {minute.instrument} at {stamp(minute.ts_ns)} from trades"
        self.events.append(FeedNote("error", f"{what}: {how}"))


def _shown(minute: Minute) -> str:
    return f"{minute.open} {minute.high} {minute.low} {minute.close} {minute.volume:g}"
