"""A file as the source of a live worker's minutes: served by a gateway on this machine as if it were live."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ibs_core.bars import MINUTE_NS
from ibs_core.cli.live_source import Held, Source, feed_of, refuse_absent, whole_span
from ibs_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from ibs_core.bars import Ints
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars
    from ibs_core.ports import Clock

__all__ = ["Recorded", "read_recorded", "replayed"]

_REPLAY_KEY: Final = (
    "db-replay-0000000000000000000000"  # of our own gateway only, which asks for one
)


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Files made ready to be served as if they were live.

    Attributes
    ----------
    held : HeldBars
    seams : Mapping of str to (n_seams,) int64, UTC ns
    active : callable
        Root and UTC ns to the contract in force.
    start_ns, end_ns : int, UTC ns
    """

    held: HeldBars
    seams: Mapping[str, Ints]
    active: Callable[[str, int], str]
    start_ns: int
    end_ns: int


def read_recorded(
    paths: Sequence[Path], contracts: ContractMap, roots: Sequence[str], start: date | None
) -> Recorded:
    """Read what a replay serves.

    Parameters
    ----------
    paths : sequence of Path
    contracts : ContractMap
    roots : sequence of str
        All that the engine reads.
    start : date, optional
        First session that is live; what comes before it warms up. Default: everything is live.

    Returns
    -------
    Recorded

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    from ibs_core.market_data import base_ns, hold, open_bars
    from ibs_core.roll_table import RollTable
    from ibs_core.sessions import load_sessions

    held = hold(open_bars(paths, contracts), roots)
    refuse_absent(held, roots, "what is replayed")
    for root in roots:
        if (width_ns := base_ns(held.load(root)[0])) > MINUTE_NS:
            raise DataError(
                f"bars of {root}",
                expected="minutes: live sees every one",
                found=f"bars of {width_ns // MINUTE_NS} minutes",
                remedy="replay minutes; `ibs backtest` takes coarser bars",
            )
    table = RollTable.of_bars(held, roots)
    first_ns, end_ns = whole_span(held, roots)
    start_ns = first_ns
    if start is not None:
        sessions = load_sessions(contracts.readable(roots[0]).session, first_ns, end_ns)
        opens = [
            int(opening)
            for opening, day in zip(sessions.open_ns, sessions.trade_date, strict=True)
            if day >= (start - type(start)(1970, 1, 1)).days
        ]
        if not opens or opens[0] >= end_ns:
            raise ConfigError(
                "option --start", expected="a session of the data", found=start.isoformat()
            )
        start_ns = max(opens[0], first_ns)
    return Recorded(held, table.seams(), table.active, start_ns, end_ns)


@contextmanager
def replayed(
    recorded: Recorded,
    contracts: ContractMap,
    roots: Sequence[str],
    *,
    speed: float,
    bars: str,
    now_ns: int,
) -> Iterator[Source]:
    """Serve files through a gateway on this machine, to the vendor's own client.

    Parameters
    ----------
    recorded : Recorded
    contracts : ContractMap
    roots : sequence of str
        All that the engine reads.
    speed : float
        Market seconds a second; infinite: as fast as it is read.
    bars : {"ohlcv-1m", "trades"}
    now_ns : int, UTC ns
        Market time at which it goes on, where it was taken up before; else it begins with the bars.

    Yields
    ------
    Source
    """
    from adapters.databento_gateway import Gateway, tape_of_minutes
    from adapters.system_clock import TimedFeed

    begins_ns = max(recorded.start_ns, now_ns)
    gateway = Gateway(
        tape_of_minutes(recorded.held),
        key=_REPLAY_KEY,
        pace=speed,
        now_ns=begins_ns,
        skips_closed=True,
        replay_window_ns=2**62,
    )
    with gateway:
        timed = TimedFeed(None, begins_ns)
        clock: Clock = timed if gateway.clock.is_unbounded else _GatewayClock(gateway)
        timed.feed = feed_of(
            contracts,
            roots,
            _REPLAY_KEY,
            clock,
            recorded.active,
            gateway=("127.0.0.1", gateway.port),
            bars=bars,
            known_until_ns=recorded.end_ns,
        )
        yield Source(
            feed=timed,
            clock=clock,
            history=Held(recorded.held, None, recorded.end_ns),
            by_clock=False,
            first_ns=-(2**62),
            start_ns=recorded.start_ns,
            end_ns=recorded.end_ns,
            seams=recorded.seams,
        )


class _GatewayClock:
    """The market time of a gateway."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def now_ns(self) -> int:
        """Return UTC ns."""
        return int(self._gateway.now_ns)
