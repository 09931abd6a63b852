"""A symbol's minutes become its series: signal bars, session bars and the minutes that matter."""

from __future__ import annotations

import mmap
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import BAR, MINUTE_NS, NEVER, PATH
from ibs_core.errors import DataError
from ibs_core.kernels import aggregate, aggregate_pages
from ibs_core.market_data import PackedRun

if TYPE_CHECKING:
    from ibs_core.market_data import MinuteRun

__all__ = ["Scratch", "Series", "SeriesBuilder", "copied", "make_plan"]

Records = NDArray[np.void]
_NO_VOLUME = np.zeros(0)
_LONG = 1 << 16  # records: a decade of hours
_LARGE = 4 << 20  # bytes; below them pages of the usual size do
CHUNK = 1 << 17
"""Minutes taken in one compiled call: more than a row group holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One symbol's bars.

    Attributes
    ----------
    root : str
    bars : (n_bars,) BAR
        Signal bars in order; when not ``complete`` the data stop inside the last one.
    days : (n_days,) BAR
        Closed session bars in order.
    path : (n_path,) PATH
    complete : bool
    seams : (n_seams,) int64, UTC ns
        Roll instants; like a roll table they may lie after the last bar.
    instruments : tuple of str
        Contract names by id.
    n_minutes, n_outside : int
        Minutes taken, and those of them outside the calendar.
    base_ns : int
        Width of the data's bars.
    """

    root: str
    bars: Records
    days: Records
    path: Records
    complete: bool
    seams: NDArray[np.int64]
    instruments: tuple[str, ...]
    n_minutes: int
    n_outside: int
    base_ns: int

    @property
    def closed(self) -> Records:
        """The signal bars that ended."""
        return self.bars if self.complete else self.bars[:-1]


class SeriesBuilder:
    """Feed runs of minutes in order, then ``finish``.

    Parameters
    ----------
    root : str
    sessions : (n_sessions,) SESSION
    plan : (1,) aggregate.PLAN
    scratch : Scratch
        Shared by the builders of one thread.
    """

    def __init__(self, root: str, sessions: Records, plan: Records, scratch: Scratch) -> None:
        self._root = root
        self._sessions = sessions
        self._calendar = int(sessions["open_ns"][0]), int(sessions["open_ns"][-1])
        self._plan = plan
        self._scratch = scratch
        self._state = aggregate.new_state()
        self._bars, self._days, self._path = (_Growing(each) for each in (BAR, BAR, PATH))
        self._instruments: list[str] = []

    def add(self, run: MinuteRun | PackedRun) -> bool:
        """Take one run.

        Parameters
        ----------
        run : MinuteRun or PackedRun

        Returns
        -------
        bool
            False when a minute breaks a law of minute bars; the builder is then of no further use.

        Raises
        ------
        DataError
            Dates outside the session calendar.
        EnvironmentFault
            A packed run cannot be read.
        """
        if isinstance(run, PackedRun):
            return self._add_packed(run)
        self._refuse_unknown_dates(run.instrument, int(run.ts_ns[0]), int(run.ts_ns[-1]))
        state = self._state[0]
        bars, days, path, n = self._scratch.room()
        if not self._instruments or run.contract_id != state["contract"]:
            aggregate.switch_contract(
                state,
                self._sessions,
                run.contract_id,
                run.ts_ns[0],
                run.open[0],
                bars,
                days,
                n,
            )
            self._instruments.append(run.instrument)
        self._take(bars, days, path, n)
        for first in range(0, len(run.ts_ns), CHUNK):
            part = slice(first, first + CHUNK)
            bars, days, path, n = self._scratch.room()
            irregular = aggregate.step(
                state,
                self._plan[0],
                self._sessions,
                run.ts_ns[part],
                run.open[part],
                run.high[part],
                run.low[part],
                run.close[part],
                _NO_VOLUME if run.volume is None else run.volume[part],
                bars,
                days,
                path,
                n,
            )
            self._take(bars, days, path, n)
            if irregular >= 0:
                return False
        return True

    def _add_packed(self, run: PackedRun) -> bool:
        group, state = run.group, self._state[0]
        self._refuse_unknown_dates(run.instrument, group.first_ns, group.last_ns)
        is_new = not self._instruments or run.contract_id != state["contract"]
        if is_new:
            self._instruments.append(run.instrument)
        self._scratch.bytes, chunks = run.read(self._scratch.bytes)
        bars, days, path, n = self._scratch.room(group.n_rows)
        irregular = aggregate_pages.step(
            state,
            self._plan[0],
            self._sessions,
            self._scratch.bytes,
            chunks,
            np.array([group.n_rows, group.first_ns, group.last_ns]),
            run.contract_id if is_new else -1,
            int(run.volume),
            self._scratch.unpacked,
            bars,
            days,
            path,
            n,
        )
        if irregular == aggregate_pages.UNREADABLE:
            raise run.fault("pages of another layout")
        self._take(bars, days, path, n)
        return irregular == -1

    def _refuse_unknown_dates(self, instrument: str, first_ns: int, last_ns: int) -> None:
        opens = self._calendar
        if first_ns < opens[0] or last_ns >= opens[1]:
            first, last = (np.datetime64(ns, "ns") for ns in (first_ns, last_ns))
            calendar = " to ".join(str(np.datetime64(ns, "ns"))[:10] for ns in opens)
            raise DataError(
                f"minutes of {instrument}",
                expected=f"dates inside the session calendar, {calendar}",
                found=f"{first}Z to {last}Z",
                remedy="check the unit of the timestamps, or leave those bars out",
            )

    def close(self, now_ns: int, seam_ns: int = NEVER) -> None:
        """Close the bars that have ended; more minutes may follow.

        Parameters
        ----------
        now_ns : int, UTC ns
            Every minute that opens before it was added.
        seam_ns : int, UTC ns
            The next known roll instant.
        """
        bars, days, path, n = self._scratch.room()
        aggregate.close(self._state[0], now_ns, seam_ns, bars, days, n)
        self._take(bars, days, path, n)

    def drain(self) -> tuple[Records, Records]:
        """Hand over the bars closed since the last time.

        Returns
        -------
        (n_bars,) BAR
        (n_days,) BAR
        """
        self._path.take()
        return copied(self._bars.take()), copied(self._days.take())

    @property
    def state(self) -> Records:
        """The aggregation's state, (1,) aggregate.STATE; writing to it writes the builder."""
        return self._state

    @property
    def instruments(self) -> list[str]:
        """Contract names by id; a builder that is resumed is given those of before."""
        return self._instruments

    @property
    def reached_ns(self) -> int:
        """The end of the last minute taken, UTC ns."""
        state = self._state[0]
        width_ns = int(state["base_ns"])
        return int(state["minute_ns"]) + (width_ns if width_ns < NEVER else MINUTE_NS)

    def finish(self, until_ns: int | None = None) -> Series:
        """Close the series.

        Parameters
        ----------
        until_ns : int, UTC ns, optional
            Now: every bar that ended by then is closed. Default: the end of the last minute.

        Returns
        -------
        Series
        """
        bars, days, path, n = self._scratch.room()
        now_ns = -NEVER if until_ns is None else until_ns
        complete = aggregate.finish(self._state[0], now_ns, bars, days, n)
        self._take(bars, days, path, n)
        state, all_bars = self._state[0], self._bars.take()
        return Series(
            self._root,
            all_bars,
            self._days.take(),
            self._path.take(),
            complete=bool(complete),
            seams=all_bars["seam_ns"][all_bars["seam_ns"] > 0],
            instruments=tuple(self._instruments),
            n_minutes=int(state["n_minutes"]),
            n_outside=int(state["n_outside"]),
            base_ns=int(state["base_ns"]),
        )

    def _take(self, bars: Records, days: Records, path: Records, n: NDArray[np.int64]) -> None:
        for growing, records, count in zip(
            (self._bars, self._days, self._path), (bars, days, path), n.tolist(), strict=True
        ):
            if count:
                growing.add(records[:count])


class _Growing:
    """Records one after the other in one array, so that at the end nothing is joined or held twice."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self._room = np.zeros(0, _opaque(dtype))
        self._n = 0

    def add(self, records: Records) -> None:
        """Copy records behind those before."""
        stop = self._n + len(records)
        if stop > len(self._room):
            # Whoever adds again has a long history; whoever drains in between never comes here again.
            room = _untouched(
                max(stop, 2 * len(self._room), _LONG if self._n else 0), self._room.dtype
            )
            room[: self._n] = self._room[: self._n]
            self._room = room
        self._room[self._n : stop] = records.view(self._room.dtype)
        self._n = stop

    def take(self) -> Records:
        """Return the records, and forget them: valid until the next `add`."""
        records, self._n = self._room[: self._n], 0
        return records.view(self._dtype)


class Scratch(threading.local):
    """Room for what some minutes can produce, used again and again: fresh memory is slow. Each thread has its own."""

    def __init__(self) -> None:
        self.bytes = np.zeros(0, np.uint8)
        self._n = np.zeros(3, np.int64)
        self._n_minutes = 0
        self.room()

    def room(self, n_minutes: int = CHUNK) -> tuple[Records, Records, Records, NDArray[np.int64]]:
        """Return bars, days, path minutes and their zeroed counts."""
        if n_minutes > self._n_minutes:
            self._n_minutes = n_minutes
            self._bars, self._days = (_untouched(n_minutes + 4, BAR) for _ in range(2))
            self._path = _untouched(2 * n_minutes + 4, PATH)
        self._n[:] = 0
        return self._bars, self._days, self._path, self._n

    @cached_property
    def unpacked(self) -> aggregate_pages.Room:
        """Room for minutes out of their pages."""
        return aggregate_pages.new_room()


def _untouched(n: int, dtype: np.dtype[np.void]) -> Records:
    """Return zeroed records that take no memory until they are written, and then few page faults.

    ``numpy.zeros`` writes the zeros where it is given memory that was used before.
    """
    n_bytes = max(n * dtype.itemsize, 1)
    room = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if n_bytes >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, dtype, n)


def copied(records: Records) -> Records:
    """Copy records.

    Parameters
    ----------
    records : (n,) records, C-contiguous

    Returns
    -------
    (n,) records

    Notes
    -----
    As opaque bytes: NumPy copies records field by field, which takes three times as long.
    """
    return records.view(_opaque(records.dtype)).copy().view(records.dtype)


def _opaque(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    return np.dtype((np.void, dtype.itemsize))


def make_plan(
    tf_ns: int,
    *,
    with_path: bool,
    mark_ns: int,
    allow_nonpositive: bool,
) -> Records:
    """Fix how minutes are aggregated.

    Parameters
    ----------
    tf_ns : int
        Width of a signal bar, ns.
    with_path : bool
        Keep the minutes that made a new extreme inside their bar (protective orders need them).
    mark_ns : int
        Keep the last minute before each multiple of this (portfolio risk needs them); 0 is off.
    allow_nonpositive : bool

    Returns
    -------
    (1,) aggregate.PLAN
    """
    plan = np.zeros(1, aggregate.PLAN)
    plan["tf_ns"] = min(tf_ns, NEVER)
    plan["with_path"] = with_path
    plan["mark_ns"] = mark_ns
    plan["allow_nonpositive"] = allow_nonpositive
    return plan
