"""Flags of a bar's exchange-local date and time."""

from __future__ import annotations

import numpy as np

from ibs_core.kernels._jit import jit

__all__ = ["CALENDAR", "open_close", "session_part"]

CALENDAR = np.dtype([("local_minute", "i8"), ("weekday", "i8"), ("month", "i8"), ("day", "i8")])
"""Exchange-local calendar of a bar's start: minute of the day 0..1439, ISO weekday, month and day of the
trade date."""


@jit
def session_part(minute: float) -> float:
    """Name the part of the trading day in which a bar starts.

    Parameters
    ----------
    minute : float64, exchange-local minute of the day, 0 to 1439

    Returns
    -------
    float64, 1 to 4

    Notes
    -----
    Formula: 1 before 08:00, 2 to 15:00, 4 to 17:00, 3 after.
    Source: the reference system's session ids.
    Warm-up: 1 bar.
    Edges: a start belongs to the part that begins there.
    """
    if minute < 480.0:
        return 1.0
    if minute < 900.0:
        return 2.0
    return 4.0 if minute < 1020.0 else 3.0


@jit
def open_close(minute: float) -> float:
    """Mark the first and the last hour of the day's main session.

    Parameters
    ----------
    minute : float64, exchange-local minute of the day, 0 to 1439

    Returns
    -------
    float64, 0 to 2

    Notes
    -----
    Formula: 1 from 08:00 to 09:00, 2 from 14:00 to 15:00, else 0.
    Source: the reference system's open/close ids.
    Warm-up: 1 bar.
    Edges: ends are exclusive.
    """
    if 480.0 <= minute < 540.0:
        return 1.0
    return 2.0 if 840.0 <= minute < 900.0 else 0.0
