"""A start that is to be: what several checks need, made once and only where one needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ibs_core.errors import IbsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adapters.reachability import Reached
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.cli.live_sink import Destination
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.market_data import HeldBars
    from ibs_core.universe import Universe

__all__ = ["Start"]


@dataclass(frozen=True, eq=False)
class Start:
    """What `ibs run-live` is about to do.

    Attributes
    ----------
    settings : Settings
    contracts : ContractMap
    roots : sequence of str
        Traded.
    destination : Destination
    path : Path
        Of the journal.
    files : sequence of Path
        History.
    gateway : tuple of (str, int) or None
    is_replay : bool
    """

    settings: Settings
    contracts: ContractMap
    roots: Sequence[str]
    destination: Destination
    path: Path
    files: Sequence[Path]
    gateway: tuple[str, int] | None
    is_replay: bool

    @cached_property
    def now_ns(self) -> int:
        """UTC ns."""
        from adapters.system_clock import SystemClock

        return SystemClock().now_ns()

    @cached_property
    def answer(self) -> Reached | IbsError:
        """What the route's host says to a request for its root, asked once; or why there is none."""
        from adapters.reachability import reach
        from ibs_core.cli.live_sink import webhook_to

        assert self.destination.route is not None
        try:
            return reach(webhook_to(self.destination.name, self.destination.route).root)
        except IbsError as error:
            return error

    @cached_property
    def parts(self) -> tuple[Universe, Engine]:
        """The symbols and their engine; of the rule alone where a model does not load, which is for `models` to tell."""
        from ibs_core.cli.live_parts import engine_of, universe_of

        try:
            universe = universe_of(self.settings, self.contracts)
            return universe, engine_of(self.settings, self.contracts, self.roots, {}, universe)
        except IbsError:
            if self.settings.model.mode == "off":
                raise
        plain = self.settings.in_mode("off")
        universe = universe_of(plain, self.contracts)
        return universe, engine_of(plain, self.contracts, self.roots, {}, universe)

    @cached_property
    def resumed_ns(self) -> int | None:
        """Until when the journal's state reaches, which the engine holds from now on; None: there is none to go on from."""
        if not self.path.exists():
            return None
        from adapters.sqlite_journal import SqliteJournal
        from ibs_core.snapshot import unpack

        with SqliteJournal(self.path, read_only=True) as held:
            kept = held.latest_snapshot()
            try:
                self.refuse_other_rule(held)
            except IbsError:  # for `journal` to tell
                return None
            if kept is None:
                return None
            engine = self.parts[1]
            engine.restore(unpack(kept[2]))
            return max((each.time_ns for each in held.entries(kept[0])), default=engine.until_ns)

    def refuse_other_rule(self, journal: SqliteJournal) -> None:
        """Refuse a journal of another configuration or source, or whose orders went elsewhere.

        Parameters
        ----------
        journal : SqliteJournal

        Raises
        ------
        ConfigError, EnvironmentFault
            Also where the webhook cannot be read, which is then not known to be the same.
        """
        from ibs_core.cli.live_parts import facts_of, refuse_other_rule
        from ibs_core.cli.live_sink import facts_of_destination

        ordered = [each.root for each in self.parts[1].symbols]
        facts: dict[str, Any] = facts_of(self.settings, self.contracts, ordered)
        source = "--replay" if self.is_replay else "live data"
        to = facts_of_destination(self.destination)
        refuse_other_rule(journal, facts | to | {"source": source})

    @cached_property
    def past(self) -> HeldBars:
        """Minutes of the files, read once."""
        from adapters.databento_history import LocalHistory

        reads = self.parts[1].reads
        return LocalHistory(self.files, self.contracts).minutes(reads, -(2**62), self.now_ns)
