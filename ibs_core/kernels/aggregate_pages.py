"""Pages of minutes to bars: unpacked and aggregated some thousand at a time, so that all stays in the cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ibs_core.bars import Floats, Ints, Record, Records
from ibs_core.kernels import aggregate
from ibs_core.kernels._jit import jit
from ibs_core.kernels.pages import DELTA_BLOCK
from ibs_core.kernels.unpack import DISTINCT, N_COLUMNS, PLACE, Bytes, open_pages, unpack

__all__ = ["UNREADABLE", "Room", "new_room", "step"]

UNREADABLE = -2
"""The pages are not of the layout, or are not what was said of them."""
_BLOCK = 16 * DELTA_BLOCK


class Room(NamedTuple):
    """Room for what is unpacked, used again and again.

    Attributes
    ----------
    places : (N_COLUMNS,) PLACE
    dictionaries : (N_COLUMNS, DISTINCT) float64
    ts, ts_read : (n,) int64
    columns, columns_read : (N_COLUMNS - 1, n) float64
        The latter of both are the same memory, read-only as all other callers' arrays are: one
        compiled form of ``aggregate.step`` serves all.
    """

    places: Records
    dictionaries: Floats
    ts: Ints
    ts_read: Ints
    columns: Floats
    columns_read: Floats


def new_room() -> Room:
    """Make room for one thread.

    Returns
    -------
    Room
    """
    ts, columns = np.zeros(_BLOCK + 1, np.int64), np.zeros((N_COLUMNS - 1, _BLOCK + 1))
    ts_read, columns_read = ts.view(), columns.view()
    ts_read.flags.writeable = columns_read.flags.writeable = False
    places, dictionaries = np.zeros(N_COLUMNS, PLACE), np.zeros((N_COLUMNS, DISTINCT))
    return Room(places, dictionaries, ts, ts_read, columns, columns_read)


@jit
def step(
    state: Record,
    plan: Record,
    sessions: Records,
    data: Bytes,
    chunks: Ints,
    span: Ints,
    contract: int,
    reads_volume: int,
    room: Room,
    bars: Records,
    days: Records,
    path: Records,
    n: Ints,
) -> int:
    """Take the minutes of one row group, all of one contract.

    Parameters
    ----------
    state : STATE
    plan : PLAN
    sessions : (n_sessions,) SESSION
    data : (n_bytes + SLACK,) uint8
    chunks : (8,) int64
        Where the columns begin and end in it.
    span : (3,) int64
        The number of minutes, the first and the last.
    contract : int64
        A contract that the state does not know cuts its open bars; -1: that of the minutes before.
    reads_volume : int64
        1: volumes are read.
    room : Room
    bars, days : (capacity,) BAR, closed bars are appended
    path : (capacity,) PATH, minutes to remember are appended
    n : (3,) int64, counts of bars, days and path minutes written so far

    Returns
    -------
    int64
        -1, the index of the first minute that breaks a law, as ``aggregate.step``, or UNREADABLE.
    """
    n_minutes = span[0]
    if not open_pages(data, chunks, n_minutes, reads_volume, room.places, room.dictionaries):
        return UNREADABLE
    n_columns = N_COLUMNS - 1 if reads_volume == 1 else N_COLUMNS - 2
    first = 0
    while first < n_minutes:
        taken = min(n_minutes - first, _BLOCK + (1 if first == 0 else 0))
        columns = room.columns[:n_columns]
        if not unpack(
            data, room.places, room.dictionaries, first, room.ts[:taken], columns[:, :taken]
        ):
            return UNREADABLE
        ts, open_, high, low, close = (
            room.ts_read[:taken],
            room.columns_read[0, :taken],
            room.columns_read[1, :taken],
            room.columns_read[2, :taken],
            room.columns_read[3, :taken],
        )
        volume = room.columns_read[4, : taken if reads_volume == 1 else 0]
        if first == 0:
            if ts[0] != span[1]:
                return UNREADABLE
            if contract >= 0:
                aggregate.switch_contract(state, sessions, contract, ts[0], open_[0], bars, days, n)
        irregular = aggregate.step(
            state, plan, sessions, ts, open_, high, low, close, volume, bars, days, path, n
        )
        if irregular >= 0:
            return first + irregular
        first += taken
    return -1 if state["minute_ns"] == span[2] else UNREADABLE
