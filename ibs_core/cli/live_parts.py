"""The parts of a live worker, put together: settings to engine, files or vendor to feed, journal and sink."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from ibs_core.bars import Ints
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.market_data import HeldBars
    from ibs_core.ports import BarFeed, Clock

__all__ = ["Replay", "engine_of", "facts_of", "open_replay", "refuse_other_rule", "settings_in"]

_KEY: Final = "db-replay-0000000000000000000000"  # of the loopback gateway only, which asks for one


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A file made ready to be served as if it were live.

    Attributes
    ----------
    held : HeldBars
    seams : Mapping of str to (n,) int64
    active : callable
        Root and UTC ns to the contract in force.
    start_ns, end_ns : int, UTC ns
    """

    held: HeldBars
    seams: Mapping[str, Ints]
    active: Any
    start_ns: int
    end_ns: int


def engine_of(
    settings: Settings, contracts: ContractMap, roots: Sequence[str], seams: Mapping[str, Ints]
) -> Engine:
    """Make the engine of settings.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap
    roots : sequence of str
        Traded.
    seams : Mapping of str to (n,) int64, UTC ns

    Returns
    -------
    Engine
    """
    from ibs_core.cli.veto_models import models_for
    from ibs_core.engine import Engine
    from ibs_core.universe import Universe

    models = models_for(settings, contracts)
    universe = Universe(settings, contracts, start=None, end=None, models=models)
    ordered = [root for root in contracts.contracts if root in roots]
    return Engine(universe, ordered, settings, seams)


def open_replay(
    paths: Sequence[Path], contracts: ContractMap, roots: Sequence[str], start: date | None
) -> Replay:
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
    Replay

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    from ibs_core.bars import MINUTE_NS
    from ibs_core.market_data import hold, open_bars
    from ibs_core.roll_table import RollTable
    from ibs_core.sessions import load_sessions

    held = hold(open_bars(paths, contracts), roots)
    table = RollTable.of_bars(held, roots)
    runs = [run for root in roots for run in held.load(root)[0]]
    first_ns = min(int(run.ts_ns[0]) for run in runs)
    end_ns = max(int(run.ts_ns[-1]) for run in runs) + MINUTE_NS
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
    return Replay(held, table.seams(), table.active, start_ns, end_ns)


def serve(replay: Replay, speed: float) -> Any:
    """Make the gateway that serves a replay.

    Parameters
    ----------
    replay : Replay
    speed : float
        Market seconds a second; infinite: as fast as it is read.

    Returns
    -------
    Gateway
        A context manager.
    """
    from adapters.databento_gateway import Gateway, tape_of_minutes

    return Gateway(
        tape_of_minutes(replay.held),
        key=_KEY,
        pace=speed,
        now_ns=replay.start_ns,
        skips_closed=True,
        replay_window_ns=2**62,
    )


def feed_of(
    replay: Replay, contracts: ContractMap, roots: Sequence[str], gateway: Any, *, bars: str
) -> tuple[BarFeed, Clock]:
    """Connect the vendor's client to the gateway.

    Parameters
    ----------
    replay : Replay
    contracts : ContractMap
    roots : sequence of str
    gateway : Gateway
    bars : {"ohlcv-1m", "trades"}

    Returns
    -------
    BarFeed
    Clock
        As fast as it is read: the newest minute's end; else the gateway's market time.
    """
    from adapters.databento_live import DatabentoFeed
    from adapters.system_clock import TimedFeed

    timed = TimedFeed(None, replay.start_ns)
    clock: Clock = timed if gateway.clock.is_unbounded else _GatewayClock(gateway)
    timed.feed = DatabentoFeed(
        contracts=contracts,
        roots=[root for root in roots if root not in contracts.reference_feeds],
        key=_KEY,
        clock=clock,
        active=replay.active,
        known_until_ns=replay.end_ns,
        gateway=("127.0.0.1", gateway.port),
        bars="trades" if bars == "trades" else "ohlcv-1m",
        cross_check=bars == "trades",
    )
    return timed, clock


class _GatewayClock:
    """The market time of a gateway."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway

    def now_ns(self) -> int:
        """Return UTC ns."""
        return int(self._gateway.now_ns)


class HeldHistory:
    """Minutes that were read already; a `History`.

    Parameters
    ----------
    held : HeldBars
    """

    def __init__(self, held: HeldBars) -> None:
        self._held = held

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
        del roots
        return self._held.between(first_ns, until_ns)


def facts_of(settings: Settings, contracts: ContractMap, roots: Sequence[str]) -> dict[str, Any]:
    """Tell all that decides what a journal holds, as JSON values.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap
    roots : sequence of str

    Returns
    -------
    dict of str to Any
        ``config``, ``roots``, ``contract_map_digest``, ``rule`` (the digest of these), ``version``.
    """
    from ibs_core import __version__
    from ibs_core.config import resolved_yaml

    config = resolved_yaml(settings)
    text = f"{config}{list(roots)}{contracts.digest}"
    return {
        "config": config,
        "roots": list(roots),
        "contract_map_digest": contracts.digest,
        "rule": hashlib.sha256(text.encode()).hexdigest(),
        "version": __version__,
    }


def refuse_other_rule(journal: Any, facts: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with a journal that another configuration wrote.

    Parameters
    ----------
    journal : SqliteJournal
    facts : Mapping of str to Any
    path : Path

    Raises
    ------
    ConfigError
    """
    runs = journal.runs()
    if runs and runs[-1].facts.get("rule") != facts["rule"]:
        raise ConfigError(
            f"journal {path}",
            expected="the configuration, the symbols and the contract map that it was written with",
            found="others",
            remedy="use them, or another --journal when no position is open",
        )


def settings_in(facts: Mapping[str, Any]) -> Settings:
    """Read the settings that a journal was written with.

    Parameters
    ----------
    facts : Mapping of str to Any

    Returns
    -------
    Settings
    """
    import yaml

    from ibs_core.config import Settings

    return Settings.model_validate(yaml.safe_load(facts["config"]))
