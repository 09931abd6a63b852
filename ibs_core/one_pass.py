"""One pass over minutes: every series of every root that is read, built as they stream past."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from ibs_core.bars import MINUTE_NS, NEVER, TIMEFRAMES_NS
from ibs_core.errors import ConfigError, DataError
from ibs_core.market_data import BarSource, PackedRun
from ibs_core.notes import notes_on, outside_note
from ibs_core.series import Scratch, Series, SeriesBuilder, make_plan
from ibs_core.universe import Symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ibs_core.market_data import MinuteRun, MinuteSource
    from ibs_core.universe import Instrument, Universe

__all__ = ["Key", "Reader", "until_last_date"]


class Key(NamedTuple):
    """What one series is: the bars of a root, at one width.

    Attributes
    ----------
    root : str
    tf_ns : int
    """

    root: str
    tf_ns: int


class Reader:
    """Streams the minutes once; whatever root shows a fault is read again, sorted and repaired.

    Parameters
    ----------
    source : MinuteSource
    universe : Universe
    traded : frozenset of str, optional
        Default: all roots that the data hold.
    others : frozenset of Key
        What is only read.
    volume, strict, progress
        As ``reading.read_series`` takes them.
    """

    def __init__(
        self,
        source: MinuteSource,
        universe: Universe,
        traded: frozenset[str] | None,
        others: frozenset[Key],
        *,
        volume: bool,
        strict: bool,
        progress: Callable[[str, int], None] | None,
    ) -> None:
        self._source = source
        self._universe = universe
        self._traded = traded
        self._others = others
        self._volume = volume
        self._strict = strict
        self._progress = progress
        self._scratch = Scratch()

    def read(self, *, mark_ns: int) -> dict[Key, Series]:
        """Read every series.

        Parameters
        ----------
        mark_ns : int
            Keep the last minute before each multiple of this; 0 is off.

        Returns
        -------
        dict of Key to Series
            In the order of first sight.

        Raises
        ------
        ConfigError, DataError, EnvironmentFault
        """
        found: dict[str, _Root] = {}
        for run in self._runs():
            if run.root not in found:
                found[run.root] = _Root(partial(self._builders, run.root, mark_ns), self._progress)
            found[run.root].take(run)
        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            list(pool.map(_Root.catch_up, found.values()))
            for name, root in found.items():
                self._instrument(name).warnings.clear()
                if root.is_faulty:
                    root.builders = self._repaired(self._instrument(name), mark_ns)
            # The clock is that of all data: a bar of one ends although only others print after it.
            made = [each for root in found.values() for each in root.builders.values()]
            now_ns = self._source.until_ns or max((each.reached_ns for each in made), default=0)
            finish = partial(self._finished, now_ns)
            finished = list(pool.map(finish, found, found.values()))
        return {key: series for root in finished for key, series in root.items()}

    def asked(self) -> dict[str, Any]:
        """Tell what decides the series beside the data and the marks.

        Returns
        -------
        dict
            JSON values.
        """
        traded = None if self._traded is None else sorted(self._traded)
        return {
            "traded": traded,
            "inside": self._universe.inside_bars(traded),
            "others": sorted(self._others),
            "volume": self._volume,
            "strict": self._strict,
        }

    def place(self, key: tuple[str, int]) -> tuple[bool, int, str, int]:
        """Tell where a series is kept: those that are traded first, in the order of the contract map.

        Parameters
        ----------
        key : (root, width)

        Returns
        -------
        sort key
        """
        root, tf_ns = key
        is_own = self._is_traded(root) and self._universe.get(root).rule.tf_ns == tf_ns
        return not is_own, self._universe.place(root) if is_own else 0, root, tf_ns

    def warnings(self, roots: Iterable[str]) -> dict[str, list[str]]:
        """Return what is told of each root.

        Parameters
        ----------
        roots : iterable of str

        Returns
        -------
        dict of str to list of str
            Of the instruments themselves: what is added to a list is told.
        """
        return {root: self._instrument(root).warnings for root in roots}

    def cut(self, key: Key, series: Series) -> Series:
        """Leave out what lies after the last traded date.

        Parameters
        ----------
        key : Key
        series : Series

        Returns
        -------
        Series
        """
        traded = self._is_traded(key.root)
        return until_last_date(series, self._universe.get(key.root)) if traded else series

    def _runs(self) -> Iterable[MinuteRun | PackedRun]:
        source = self._source
        stream = source.packed if isinstance(source, BarSource) else source.stream
        return stream(self._roots(), volume=self._volume)

    def _finished(self, now_ns: int, name: str, root: _Root) -> dict[Key, Series]:
        instrument = self._instrument(name)
        return {
            key: _checked(each.finish(now_ns), instrument, key.tf_ns, strict=self._strict)
            for key, each in root.builders.items()
        }

    def _roots(self) -> list[str] | None:
        if self._traded is None:
            return None
        return sorted(self._traded | {key.root for key in self._others})

    def _is_traded(self, root: str) -> bool:
        return self._traded is None or root in self._traded

    def _instrument(self, root: str) -> Instrument:
        traded = self._is_traded(root)
        return self._universe.get(root) if traded else self._universe.instrument(root)

    def _builders(self, root: str, mark_ns: int) -> dict[Key, SeriesBuilder]:
        keys = {key: False for key in self._others if key.root == root}
        marks, protective = 0, False
        if self._is_traded(root):
            symbol = self._universe.get(root)
            keys[Key(root, symbol.rule.tf_ns)] = True
            marks, protective = mark_ns, symbol.strategy.exits.protective is not None
        instrument = self._instrument(root)
        return {
            key: SeriesBuilder(
                root,
                instrument.session_table,
                make_plan(
                    key.tf_ns,
                    with_path=traded and (protective or marks > 0),
                    mark_ns=marks if traded else 0,
                    allow_nonpositive=instrument.contract.allow_nonpositive,
                ),
                self._scratch,
            )
            for key, traded in keys.items()
        }

    def _repaired(self, instrument: Instrument, mark_ns: int) -> dict[Key, SeriesBuilder]:
        builders = self._builders(instrument.root, mark_ns)
        runs, repairs = self._source.load(instrument.root, strict=self._strict)
        for run in runs:
            taken = [builder.add(run) for builder in builders.values()]
            assert all(taken), f"repaired bars of {instrument.root} still break a law"
        instrument.warnings.extend(repairs.lines())
        return builders


class _Root:
    """The bars of one root as its minutes come."""

    def __init__(
        self,
        make: Callable[[], dict[Key, SeriesBuilder]],
        progress: Callable[[str, int], None] | None,
    ) -> None:
        self._make = make
        self._progress = progress
        self._waiting: list[PackedRun] = []
        self.is_faulty = False

    @cached_property
    def builders(self) -> dict[Key, SeriesBuilder]:
        """Made in the thread that needs them first."""
        return self._make()

    def take(self, run: MinuteRun | PackedRun) -> None:
        """Take minutes at once, or let those that are still in their pages wait for a thread."""
        if isinstance(run, PackedRun):
            self._waiting.append(run)
        else:
            self.catch_up()
            self._add(run)

    def catch_up(self) -> None:
        """Take what waits."""
        for run in self._waiting:
            self._add(run)
        self._waiting.clear()

    def _add(self, run: MinuteRun | PackedRun) -> None:
        if self.is_faulty:
            return
        if isinstance(run, PackedRun) and len(self.builders) > 1:
            run = run.minutes()
        taken = [builder.add(run) for builder in self.builders.values()]
        self.is_faulty = run.irregular or not all(taken)
        if self._progress:
            self._progress(run.root, run.n_minutes)


def _checked(series: Series, instrument: Instrument, tf_ns: int, *, strict: bool) -> Series:
    if series.base_ns != NEVER and (series.base_ns > tf_ns or tf_ns % series.base_ns):
        raise ConfigError(
            f"signal bar {_name(tf_ns)!r} of {series.root}",
            expected=f"a multiple of the data's bars of {_width(series.base_ns)}",
            found=_width(tf_ns),
            remedy="choose a longer strategy.signal_bar or finer data",
        )
    _refuse_misplaced(series, instrument, tf_ns)
    if series.n_outside and strict:
        raise DataError(
            f"minutes of {series.root}",
            expected="all inside the session calendar",
            found=f"{series.n_outside} outside",
            remedy="`ibs data check` lists them; run without --strict to keep them",
        )
    if not isinstance(instrument, Symbol):
        told = outside_note(series, instrument)
        instrument.warnings.extend(line for line in told if line not in instrument.warnings)
    elif tf_ns == instrument.rule.tf_ns:  # once, of what is traded
        instrument.warnings.extend(notes_on(series, instrument))
    return series


def _refuse_misplaced(series: Series, instrument: Instrument, tf_ns: int) -> None:
    """Refuse coarse bars that reach beyond the signal bar they open in: it would be known too early."""
    bars = series.closed
    close = instrument.sessions.close_ns[bars["session"]]
    known = np.minimum(bars["last_ns"] + series.base_ns, np.maximum(close, bars["last_ns"]))
    late = np.flatnonzero((known > bars["end_ns"]) & (bars["start_ns"] < close))
    if series.base_ns != NEVER and len(late):
        moment = np.datetime64(int(bars["last_ns"][late[0]]), "ns")
        raise DataError(
            f"bars of {series.root} with a width of {_width(series.base_ns)}",
            expected=f"each inside one {_name(tf_ns)} signal bar, counted from the session's open",
            found=f"the bar at {moment}Z reaches beyond it",
            remedy="use finer data, or bars that start at the session's open",
        )


def until_last_date(series: Series, symbol: Symbol) -> Series:
    """Forget the bars of sessions after the last traded date.

    Parameters
    ----------
    series : Series
    symbol : Symbol

    Returns
    -------
    Series
    """
    dates, last_date = symbol.sessions.trade_date, symbol.rule.last_date
    session = series.bars["session"]  # in order
    if not len(session) or dates[session[-1]] <= last_date:
        return series
    keep = int(np.count_nonzero(dates[session] <= last_date))
    days = series.days[dates[series.days["session"]] <= last_date]
    return Series(
        series.root,
        series.bars[:keep],
        days,
        series.path,
        complete=True,
        seams=series.seams,
        instruments=series.instruments,
        n_minutes=series.n_minutes,
        n_outside=series.n_outside,
        base_ns=series.base_ns,
    )


def _width(ns: int) -> str:
    return f"{ns // MINUTE_NS}m" if ns % MINUTE_NS == 0 else f"{ns // 10**9}s"


def _name(tf_ns: int) -> str:
    return next(name for name, width_ns in TIMEFRAMES_NS.items() if width_ns == tf_ns)
