"""A symbol's minutes become its series: signal bars, session bars and the minutes that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibs_core.bars import BAR, MINUTE_NS, NEVER, PATH
from ibs_core.errors import DataError
from ibs_core.kernels import aggregate

if TYPE_CHECKING:
    from ibs_core.market_data import MinuteRun

__all__ = ["Scratch", "Series", "SeriesBuilder", "copied", "make_plan"]

Records = NDArray[np.void]
_NO_VOLUME = np.zeros(0)
CHUNK = 16_384
"""Minutes taken in one compiled call, so that the room for their bars stays in the cache."""


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

    def add(self, run: MinuteRun) -> bool:
        """Take one run.

        Parameters
        ----------
        run : MinuteRun

        Returns
        -------
        bool
            False when a minute breaks a law of minute bars; the builder is then of no further use.
        """
        self._refuse_unknown_dates(run)
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

    def _refuse_unknown_dates(self, run: MinuteRun) -> None:
        opens = self._calendar
        if run.ts_ns[0] < opens[0] or run.ts_ns[-1] >= opens[1]:
            first, last = (np.datetime64(int(ns), "ns") for ns in (run.ts_ns[0], run.ts_ns[-1]))
            calendar = " to ".join(str(np.datetime64(ns, "ns"))[:10] for ns in opens)
            raise DataError(
                f"minutes of {run.instrument}",
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
        self._bars.add(bars[: n[0]])
        self._days.add(days[: n[1]])
        self._path.add(path[: n[2]])


class _Growing:
    """Records one after the other in one array, so that at the end nothing is joined or held twice."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self._room = np.zeros(0, _opaque(dtype))
        self._n = 0

    def add(self, records: Records) -> None:
        """Copy records behind those before."""
        if not len(records):
            return
        stop = self._n + len(records)
        if stop > len(self._room):
            room = np.zeros(max(stop, 2 * len(self._room)), self._room.dtype)
            room[: self._n] = self._room[: self._n]
            self._room = room
        self._room[self._n : stop] = records.view(self._room.dtype)
        self._n = stop

    def take(self) -> Records:
        """Return the records, and forget them: valid until the next `add`."""
        records, self._n = self._room[: self._n], 0
        return records.view(self._dtype)


class Scratch:
    """Room for what one chunk of minutes can produce, used again and again: fresh memory is slow."""

    def __init__(self) -> None:
        self._bars = np.zeros(CHUNK + 2, BAR)
        self._days = np.zeros(CHUNK + 2, BAR)
        self._path = np.zeros(2 * CHUNK + 2, PATH)
        self._n = np.zeros(3, np.int64)

    def room(self) -> tuple[Records, Records, Records, NDArray[np.int64]]:
        """Return bars, days, path minutes and their zeroed counts."""
        self._n[:] = 0
        return self._bars, self._days, self._path, self._n


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
