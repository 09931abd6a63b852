"""The stages wired for live: minutes → bars → features → verdicts → decisions, as far as the minutes go.

Every call takes what came since the last, one minute or a year of them, and does what the back-test does
with the same compiled functions; how the minutes were cut into calls changes no bit.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core import portfolio, positions, replay
from ibs_core.advance import Advance, ends_of
from ibs_core.bars import NEVER, joined
from ibs_core.lane import Lane
from ibs_core.newest import Newest, Reader
from ibs_core.parameters import make_risk
from ibs_core.reading import keys_of
from ibs_core.stream import Stream, key_of, streams_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.bars import Ints, Records
    from ibs_core.config import Settings
    from ibs_core.market_data import MinuteSource
    from ibs_core.ports import Minute
    from ibs_core.universe import Symbol, Universe

__all__ = ["NOTHING_TOLD", "Engine"]

NOTHING_TOLD = np.zeros(0, portfolio.INPUT)
_NO_DECISIONS = np.zeros(0, portfolio.DECISION)
_NO_TRADES = np.zeros(0, positions.TRADE)


class Engine:
    """All traded symbols from their minutes to their decisions.

    Parameters
    ----------
    universe : Universe
    roots : sequence of str
        Traded, in contract-map order.
    settings : Settings
    seams : Mapping of str to (n_seams,) int64, UTC ns
        Known roll instants by root, past and future.
    """

    def __init__(
        self,
        universe: Universe,
        roots: Sequence[str],
        settings: Settings,
        seams: Mapping[str, Ints],
    ) -> None:
        self.symbols: list[Symbol] = [universe.get(root) for root in roots]
        self._seams = dict(seams)
        self._streams = streams_of(self.symbols, universe)
        self._by_root: dict[str, list[Stream]] = {}
        for key, stream in self._streams.items():
            self._by_root.setdefault(key.root, []).append(stream)
        self._newest = Newest({key: stream.tail for key, stream in self._streams.items()})
        self._lanes = {key_of(each): self._lane(each) for each in self.symbols}
        self._params = joined([each.params for each in self.symbols])
        self._risk = make_risk(settings.risk, veto=settings.model.mode == "veto")
        self._sessions = joined([each.session_table for each in self.symbols])
        self.book = positions.new_positions(len(self.symbols))
        self._desk = portfolio.new_desk()
        self._feeds = np.zeros(len(self.symbols), replay.FEED)
        stops = np.cumsum([len(each.session_table) for each in self.symbols])
        self._feeds["session"] = stops - [len(each.session_table) for each in self.symbols]
        self._feeds["session_stop"] = stops
        self.until_ns = 0
        self._next_ns = 0
        self._protects = [each.strategy.exits.protective is not None for each in self.symbols]

    @property
    def reads(self) -> tuple[str, ...]:
        """Every root and reference feed whose minutes it needs."""
        return tuple(dict.fromkeys(key.root for key in self._streams))

    @property
    def lanes(self) -> list[Lane]:
        """The traded symbols on their way, as `symbols` has them."""
        return list(self._lanes.values())

    def instrument(self, root: str) -> str:
        """Name the contract that a root printed last.

        Parameters
        ----------
        root : str

        Returns
        -------
        str
            ``ESZ2025``; empty before any minute.
        """
        names = [s.builder.instruments for key, s in self._streams.items() if key.root == root]
        return names[0][-1] if names and names[0] else ""

    def contract(self, root: str, contract_id: int) -> str:
        """Name a contract of a root by its number.

        Parameters
        ----------
        root : str
        contract_id : int
            As positions and bars hold it.

        Returns
        -------
        str
        """
        for key, stream in self._streams.items():
            if key.root == root:
                return stream.builder.instruments[contract_id]
        raise KeyError(root)

    def contracts_of(self, root: str) -> tuple[str, ...]:
        """Name the contracts that a root has printed.

        Parameters
        ----------
        root : str

        Returns
        -------
        tuple of str
            By the number that positions and bars hold.
        """
        found = [s.builder.instruments for key, s in self._streams.items() if key.root == root]
        return tuple(found[0])

    @property
    def seams(self) -> Mapping[str, Ints]:
        """Known roll instants by root, UTC ns."""
        return self._seams

    def is_new_seam(self, root: str, seam_ns: int) -> bool:
        """Tell whether a roll is still to come and not known yet.

        Parameters
        ----------
        root : str
        seam_ns : int, UTC ns

        Returns
        -------
        bool
        """
        return seam_ns >= self.until_ns and seam_ns not in self._seams_of(root)

    def know_seam(self, root: str, seam_ns: int) -> None:
        """Take note of a roll to come.

        Parameters
        ----------
        root : str
        seam_ns : int, UTC ns
            After every minute given so far.
        """
        self._seams[root] = np.unique(np.append(self._seams_of(root), seam_ns))
        for lane in self._lanes.values():
            if lane.symbol.root == root:
                lane.roll_at(self._seams[root])
        self._next_ns = 0  # it may cut a bar in progress

    def accepts(self, minute: Minute) -> str:
        """Tell why a minute cannot be taken.

        Parameters
        ----------
        minute : Minute

        Returns
        -------
        str
            Empty when it can.
        """
        if minute.ts_ns < self.until_ns:
            return "late"
        mine = self._by_root.get(minute.root)
        return mine[0].refusal(minute) if mine else "not read"

    def warm(self, source: MinuteSource, until_ns: int) -> None:
        """Observe the past; nothing is decided.

        Parameters
        ----------
        source : MinuteSource
        until_ns : int, UTC ns
            Every minute that opens before it is in `source`, and no other.

        Raises
        ------
        DataError, EnvironmentFault
        """
        for root in self.reads:
            if root in (*source.roots, *source.feeds):
                runs, _ = source.load(root)
                for stream in self._by_root[root]:
                    stream.take(runs)
        self._observe(until_ns)
        for feed, lane in zip(self._feeds, self._lanes.values(), strict=True):
            # What opened before is not filled by a minute of the past.
            feed["opened"] = feed["crossed"] = int(lane.forget())
        self.until_ns = until_ns

    def advance(
        self, minutes: Iterable[Minute], until_ns: int, inputs: Records = NOTHING_TOLD
    ) -> Advance:
        """Take the minutes up to an instant, and decide every slice up to it.

        Parameters
        ----------
        minutes : iterable of Minute
            By time within a root; each accepted.
        until_ns : int, UTC ns
            Every minute that opens before it has been given.
        inputs : (n_inputs,) INPUT, by time
            What only live knows, since the last call.

        Returns
        -------
        Advance
        """
        for minute in minutes:
            for stream in self._by_root[minute.root]:
                stream.hold(minute)
        self.until_ns = until_ns
        if not len(inputs) and self._nothing_happens(until_ns):
            return Advance(until_ns, {}, {}, {}, _NO_DECISIONS, _NO_TRADES, {}, [])
        return self._work(inputs)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name: the same bytes for the same past."""
        if any(stream.waits for stream in self._streams.values()):
            done = self._work(NOTHING_TOLD)
            assert not done.is_slice, "minutes waited though something happened"
        self._newest.forget((lane.asked for lane in self._lanes.values()), at_least=0)
        own: dict[str, NDArray[Any]] = {
            "book": self.book,
            "desk": self._desk,
            "feeds": self._feeds,
            "until": np.array([self.until_ns], np.int64),
            **{f"seams/{root}": seams for root, seams in self._seams.items()},
        }
        for key, stream in self._streams.items():
            own |= {f"stream/{key.root}/{key.tf_ns}/{k}": v for k, v in stream.state().items()}
        for lane in self._lanes.values():
            own |= {f"lane/{lane.symbol.root}/{k}": v for k, v in lane.state().items()}
        return own

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told, of an engine of the same settings.

        Parameters
        ----------
        state : Mapping of str to array
        """
        self.book[:], self._desk[:], self._feeds[:] = state["book"], state["desk"], state["feeds"]
        self.until_ns = int(state["until"][0])
        self._seams = _under(state, "seams/")
        for key, stream in self._streams.items():
            stream.restore(_under(state, f"stream/{key.root}/{key.tf_ns}/"))
            self._newest.note(key)
        for lane in self._lanes.values():
            lane.roll_at(self._seams_of(lane.symbol.root))
            lane.restore(_under(state, f"lane/{lane.symbol.root}/"))

    def _nothing_happens(self, until_ns: int) -> bool:
        """Tell whether the minutes that wait can wait on: no bar opens or ends, no order fills."""
        if until_ns >= self._next_ns:
            return False
        for status, levels in zip(self.book["status"].tolist(), self._protects, strict=True):
            if status in (positions.ENTERING, positions.LEAVING) or (status and levels):
                return False
        return all(each.has_bar or not each.waits for each in self._streams.values())

    def _work(self, inputs: Records) -> Advance:
        """Take the minutes that wait."""
        for stream in self._streams.values():
            stream.take_held()
        found = self._decide(self.until_ns, inputs, self._observe(self.until_ns))
        self._next_ns = min(
            min(each.ends_ns, self._next_seam(key.root, each))
            for key, each in self._streams.items()
        )
        return found

    def _observe(self, until_ns: int) -> dict[str, tuple[Records, Records, NDArray[np.float64]]]:
        """Close what has ended, and observe the symbols that closed a bar."""
        n_new = {
            key: stream.close(until_ns, self._next_seam(key.root, stream))
            for key, stream in self._streams.items()
        }
        grown = {key: counts for key, counts in n_new.items() if any(counts)}
        for key in grown:
            self._newest.note(key)
        fresh = {}
        for key, lane in self._lanes.items():
            if key in grown:
                n_bars, n_days = grown[key]
                found = lane.observe(n_bars, n_days)
                if n_bars:
                    fresh[key.root] = found
        if grown:
            self._newest.forget(lane.asked for lane in self._lanes.values())
        return fresh

    def _lane(self, symbol: Symbol) -> Lane:
        key = key_of(symbol)
        tf_ns = symbol.rule.tf_ns
        others = keys_of(symbol.wiring, symbol.contract, tf_ns)
        return Lane(
            symbol,
            self._streams[key],
            self._seams_of(symbol.root),
            lambda wiring: Reader(wiring, key, others, tf_ns, self._newest),
        )

    def _seams_of(self, root: str) -> Ints:
        return self._seams.get(root, np.zeros(0, np.int64))

    def _next_seam(self, root: str, stream: Stream) -> int:
        seams = self._seams_of(root)
        ahead = bisect_right(seams, stream.minute_ns)
        return int(seams[ahead]) if ahead < len(seams) else NEVER

    def _decide(
        self,
        until_ns: int,
        inputs: Records,
        fresh: Mapping[str, tuple[Records, Records, NDArray[np.float64]]],
    ) -> Advance:
        windows = [lane.window() for lane in self._lanes.values()]
        bar = path = 0
        for feed, window in zip(self._feeds, windows, strict=True):
            feed["bar"], feed["path"], feed["path_offset"] = bar, path, path
            bar, path = bar + len(window.bars), path + len(window.path)
            feed["stop"] = bar
        room = 4 * bar + 8 * len(windows)
        trades = np.zeros(room, positions.TRADE)
        decisions = np.zeros(room, portfolio.DECISION)
        n = np.zeros(3, np.int64)
        before = self.book["status"].copy()
        replay.decide_many(
            until_ns,
            self._params,
            self._risk[0],
            self.book,
            self._desk[0],
            self._feeds,
            joined([window.bars for window in windows]),
            joined([window.schedule for window in windows]),
            joined([window.signals for window in windows]),
            joined([window.path for window in windows]),
            self._sessions,
            inputs,
            trades,
            decisions,
            n,
        )
        assert n[2] == len(inputs), "an input later than the minutes"
        for lane, feed in zip(self._lanes.values(), self._feeds, strict=True):
            lane.settle(int(feed["path"] - feed["path_offset"]))
            # Places in this call's arrays are no part of what is remembered.
            feed["bar"] = feed["stop"] = feed["path"] = feed["path_offset"] = 0
        lapsed, filled = ends_of(
            [each.root for each in self.symbols],
            decisions[: n[1]],
            trades[: n[0]],
            before,
            self.book["status"],
        )
        return Advance(
            until_ns,
            {root: bars for root, (bars, _, _) in fresh.items()},
            {root: seen for root, (_, seen, _) in fresh.items()},
            {root: rows for root, (_, _, rows) in fresh.items()},
            decisions[: n[1]],
            trades[: n[0]],
            lapsed,
            filled,
        )


def _under(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: each for name, each in state.items() if name.startswith(prefix)}
