"""Where a live worker's minutes come from: Databento, or a gateway that speaks as it does."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ibs_core.bars import MINUTE_NS, TIMEFRAMES_NS
from ibs_core.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from adapters.databento_history import Vendor
    from ibs_core.bars import Ints
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.live import Worker
    from ibs_core.market_data import HeldBars
    from ibs_core.ports import BarFeed, Clock, History
    from ibs_core.roll_table import RollTable
    from ibs_core.universe import Universe

__all__ = [
    "KEY",
    "Held",
    "Source",
    "feed_of",
    "key_of_environment",
    "live",
    "refuse_absent",
    "refuse_days",
    "whole_span",
]

KEY: Final = "DATABENTO_API_KEY"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a worker trades on.

    Attributes
    ----------
    feed : BarFeed
    clock : Clock
    history : History
    by_clock : bool
        Minutes end by the clock too, where the feed is silent.
    first_ns, start_ns : int, UTC ns
        A new journal observes history in [first, start).
    end_ns : int or None, UTC ns
        A replay is over when every slice up to here is decided.
    seams : Mapping of str to (n_seams,) int64, UTC ns
        Rolls that are known beforehand.
    rolls : callable
        Given market time, returns the rolls that became known.
    is_done : callable
        Given the worker, tells whether there is nothing more to do.
    end_text : str
        How it ended then, or at `end_ns`.
    """

    feed: BarFeed
    clock: Clock
    history: History
    by_clock: bool
    first_ns: int
    start_ns: int
    end_ns: int | None
    seams: Mapping[str, Ints]
    rolls: Callable[[int], Sequence[tuple[str, int]]] = lambda _now_ns: ()
    is_done: Callable[[Worker], bool] = lambda _worker: False
    end_text: str = "replayed to the end"


def key_of_environment() -> str:
    """Return the key of the vendor's account.

    Returns
    -------
    str

    Raises
    ------
    EnvironmentFault
        There is none.
    """
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise EnvironmentFault(
            "no Databento API key",
            expected=f"the environment variable {KEY}",
            found="nothing",
            remedy="set it, or give --replay PATH to trade a file as if it were live",
        )
    return key


@contextmanager
def live(
    engine: Engine,
    universe: Universe,
    contracts: ContractMap,
    *,
    resumed: bool,
    history: Sequence[Path],
    keep: Path,
    gateway: tuple[str, int] | None,
    bars: str,
    tell: Callable[[str], None],
) -> Iterator[Source]:
    """Connect to Databento, or to a gateway that speaks as Databento does.

    Parameters
    ----------
    engine : Engine
        Where the journal's last state left it, if it is resumed.
    universe : Universe
        Of the engine.
    contracts : ContractMap
    resumed : bool
        The journal has a state: there is nothing to warm up.
    history : sequence of Path
        Files of the past; none: the vendor's historical service.
    keep : Path
        Folder for the vendor's answers.
    gateway : tuple of (str, int), optional
        Its rolls are those of `history`: no other service is asked.
    bars : {"ohlcv-1m", "trades"}
    tell : callable
        Called with a line for people.

    Yields
    ------
    Source

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    from adapters.databento_history import (
        DatabentoHistory,
        DatabentoVendor,
        LocalHistory,
        front_days,
    )
    from adapters.system_clock import SystemClock
    from ibs_core.roll_table import RollTable, RollWatch

    key, clock, reads = key_of_environment(), SystemClock(), engine.reads
    now_ns = clock.now_ns() // MINUTE_NS * MINUTE_NS
    vendor = DatabentoVendor(key)
    past: History = (
        LocalHistory(history, contracts) if history else DatabentoHistory(vendor, contracts, keep)
    )
    if resumed:
        known = {root: [(engine.until_ns, engine.instrument(root))] for root in reads}
        begun = _Begun(past, 0, engine.until_ns, RollTable(known))
    else:
        begun = _begin(past, vendor, engine, universe, contracts, now_ns, tell)
    rest: dict[str, Any] = {
        "history": begun.history,
        "by_clock": True,
        "first_ns": begun.first_ns,
        "start_ns": begun.start_ns,
        "end_ns": None,
    }
    if gateway is not None:  # its day is in the files, too
        every = RollTable.of_bars(past.minutes(reads, -(2**62), 2**62), reads)
        feed = feed_of(contracts, reads, key, clock, every.active, gateway=gateway, bars=bars)
        yield Source(feed, clock, seams=every.seams(), **rest)
        return
    watch = RollWatch(
        begun.table,
        contracts,
        reads,
        lambda first, last: front_days(vendor, contracts, reads, first, last),
        tell,
    )
    feed = feed_of(contracts, reads, key, clock, begun.table.active, bars=bars)
    seams = {} if resumed else begun.table.seams()
    try:
        watch.start(begun.start_ns, now_ns)
        yield Source(feed, clock, seams=seams, rolls=watch.learn, **rest)
    finally:
        watch.stop()


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """Where live begins: who serves history, which span of it is observed, the contracts at its end."""

    history: History
    first_ns: int
    start_ns: int
    table: RollTable


def _begin(
    past: History,
    vendor: Vendor,
    engine: Engine,
    universe: Universe,
    contracts: ContractMap,
    now_ns: int,
    tell: Callable[[str], None],
) -> _Begun:
    """Read what warms up."""
    from ibs_core.roll_table import RollTable
    from ibs_core.warm_up import first_needed_ns, refuse_holes

    reads = engine.reads
    start_ns = _history_end(past, vendor, contracts, reads, now_ns)
    first_ns = first_needed_ns(engine.symbols, universe, start_ns)
    tell(f"history from {_stamp(first_ns)} to {_stamp(start_ns)}")
    held = past.minutes(reads, first_ns, start_ns)
    refuse_absent(held, reads, "history")
    refuse_holes(held, contracts, reads, start_ns, now_ns)
    return _Begun(Held(held, past, start_ns), first_ns, start_ns, RollTable.of_bars(held, reads))


def feed_of(
    contracts: ContractMap,
    roots: Sequence[str],
    key: str,
    clock: Clock,
    active: Callable[[str, int], str],
    *,
    bars: str,
    gateway: tuple[str, int] | None = None,
    known_until_ns: int = 0,
) -> BarFeed:
    """Make a feed of the vendor's live protocol.

    Parameters
    ----------
    contracts : ContractMap
    roots : sequence of str
    key : str
    clock : Clock
    active : callable
        Root and UTC ns to the contract in force.
    bars : {"ohlcv-1m", "trades"}
    gateway : tuple of (str, int), optional
    known_until_ns : int, UTC ns
        Until here `active` knows every roll.

    Returns
    -------
    BarFeed
    """
    from adapters.databento_live import DatabentoFeed

    return DatabentoFeed(
        contracts=contracts,
        roots=roots,
        key=key,
        clock=clock,
        active=active,
        known_until_ns=known_until_ns,
        gateway=gateway,
        bars="trades" if bars == "trades" else "ohlcv-1m",
        cross_check=bars == "trades",
    )


class Held:
    """Minutes that were read already, and whoever is asked for later ones; a `History`.

    Parameters
    ----------
    held : HeldBars
    later : History or None
    until_ns : int, UTC ns
        From here on `later` is asked.
    """

    def __init__(self, held: HeldBars, later: History | None, until_ns: int) -> None:
        self._held, self._later, self._until_ns = held, later, until_ns

    def minutes(self, roots: Sequence[str], first_ns: int, until_ns: int) -> HeldBars:
        """As `History` says.

        Parameters
        ----------
        roots : sequence of str
        first_ns, until_ns : int, UTC ns

        Returns
        -------
        HeldBars
        """
        if self._later is not None and until_ns > self._until_ns:
            return self._later.minutes(roots, first_ns, until_ns)
        return self._held.between(first_ns, until_ns)


def _history_end(
    past: History, vendor: Vendor, contracts: ContractMap, reads: Sequence[str], now_ns: int
) -> int:
    """Return the instant from which on the live service must bring the minutes."""
    from adapters.databento_history import DatabentoHistory

    if isinstance(past, DatabentoHistory):
        ends = [vendor.available(contracts.get(root).dataset, "ohlcv-1m")[1] for root in reads]
        return min(int(min(ends)) // MINUTE_NS * MINUTE_NS, now_ns)
    held = past.minutes(reads, -(2**62), now_ns)
    refuse_absent(held, reads, "history")
    return whole_span(held, reads)[1]


def whole_span(held: HeldBars, roots: Sequence[str]) -> tuple[int, int]:
    """Return the first minute's open and the last one's end, of all roots.

    Parameters
    ----------
    held : HeldBars
    roots : sequence of str

    Returns
    -------
    (int, int), UTC ns
    """
    runs = [run for root in roots for run in held.load(root)[0]]
    first_ns = min(int(run.ts_ns[0]) for run in runs)
    return first_ns, max(int(run.ts_ns[-1]) for run in runs) + MINUTE_NS


def refuse_absent(held: HeldBars, roots: Sequence[str], what: str) -> None:
    """Refuse bars that lack a root.

    Parameters
    ----------
    held : HeldBars
    roots : sequence of str
    what : str
        The bars, for people.

    Raises
    ------
    DataError
    """
    absent = [root for root in roots if root not in (*held.roots, *held.feeds)]
    if absent:
        raise DataError(
            f"no minutes of {', '.join(absent)} in {what}",
            expected=f"bars of {', '.join(roots)}",
            found=", ".join((*held.roots, *held.feeds)) or "none",
            remedy="give files that hold them, or name the others with --symbols",
        )


def refuse_days(engine: Engine, *, asks: bool) -> None:
    """Refuse bars of a day where rolls are asked for: each would be learnt after its last boundary.

    Parameters
    ----------
    engine : Engine
    asks : bool
        Rolls are learnt day by day.

    Raises
    ------
    ConfigError
    """
    daily = [each.root for each in engine.symbols if each.rule.tf_ns == TIMEFRAMES_NS["1d"]]
    if asks and daily:
        where = f"strategy.signal_bar of {', '.join(daily)}"
        remedy = "use 4h or shorter bars live; --replay knows its rolls beforehand and takes 1d"
        raise ConfigError(where, expected="bars shorter than a session", found="1d", remedy=remedy)


def _stamp(ns: int) -> str:
    from ibs_core.market_data.runs import stamp

    return stamp(ns)
