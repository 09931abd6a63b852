"""Which contract is the front, and where one contract follows another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ibs_core.contracts import MONTH_LETTERS, Contract
from ibs_core.errors import DataError
from ibs_core.market_data.runs import Floats, Ints, MinuteRun, stamp
from ibs_core.sessions import load_sessions, session_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ibs_core.market_data.source import BarSource
    from ibs_core.market_data.symbols import Listing

__all__ = ["Roll", "rolls", "rolls_of", "select_front"]


@dataclass(frozen=True, slots=True)
class Roll:
    """One change of contract.

    Parameters
    ----------
    root, old, new : str
        Root, and the instruments before and after.
    seam_ns : int, UTC ns
        Open of the new contract's first session when the old one's last minute lies in an earlier
        session, else the new contract's first minute.
    gap : float, price units
        ``new_open - old_close``.
    old_close, new_open : float, price units
        Last close of the old contract, first open of the new.
    """

    root: str
    old: str
    new: str
    seam_ns: int
    gap: float
    old_close: float
    new_open: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the seam as text too."""
        return asdict(self) | {"seam": stamp(self.seam_ns)}


def rolls(source: BarSource, root: str) -> list[Roll]:
    """Return the rolls of a root, read with `BarSource.load`.

    Parameters
    ----------
    source : BarSource
    root : str

    Returns
    -------
    list of Roll
    """
    return rolls_of(source.load(root)[0], source.contracts.readable(root))


def rolls_of(runs: Sequence[MinuteRun], contract: Contract) -> list[Roll]:
    """Return the rolls between runs.

    Parameters
    ----------
    runs : Sequence of MinuteRun
        Of one root, in order; each of another contract than the one before, or a continuation.
    contract : Contract

    Returns
    -------
    list of Roll
    """
    found = []
    for old, new in pairwise(runs):
        if old.contract_id == new.contract_id:
            continue
        last_ns, first_ns = int(old.ts_ns[-1]), int(new.ts_ns[0])
        sessions = load_sessions(contract.session, last_ns, first_ns + 1)
        before, after = session_index(sessions, np.array([last_ns, first_ns], np.int64))
        seam_ns = int(sessions.open_ns[after]) if before < after else first_ns
        close, opening = float(old.close[-1]), float(new.open[0])
        found.append(
            Roll(old.root, old.instrument, new.instrument, seam_ns, opening - close, close, opening)
        )
    return found


def select_front(table: pl.DataFrame, listings: Sequence[Listing], contract: Contract) -> pl.Series:
    """Tell which rows belong to the front contract, by the map's volume rule.

    The front of a session is the contract with the highest volume in the session before it, ties to
    the nearest expiry, never one that expires before the front in force; it is known at the open.
    The first session has nothing before it and takes the nearest expiry that prints in it. A front
    that prints nothing in a session gives way to the next best contract that does.

    Parameters
    ----------
    table : polars.DataFrame
        ``ts_ns`` sorted, ``key`` an index into `listings`, ``volume``.
    listings : Sequence of Listing
    contract : Contract

    Returns
    -------
    (n_rows,) Boolean

    Raises
    ------
    DataError
        No rule, no volume, or a series that is not a contract.
    """
    where = f"{contract.root}, {stamp(int(table['ts_ns'][0]))} to {stamp(int(table['ts_ns'][-1]))}"
    unknown = sorted({listing.instrument for listing in listings if listing.expiry is None})
    if contract.roll != "volume" or unknown:
        raise DataError(
            "overlapping series",
            expected="one series, or contracts from which the roll rule chooses",
            found=", ".join(sorted({listing.instrument for listing in listings})),
            where=where,
            remedy="give the files of one series only",
        )
    if table["volume"].fill_null(0).sum() == 0:
        raise DataError(
            "overlapping contracts without volume",
            expected="volume, from which the roll rule chooses the front contract",
            found="none",
            where=where,
            remedy="add volume, or give only the front contract's minutes",
        )
    expiries = sorted({listing.expiry for listing in listings if listing.expiry is not None})
    place = np.array([expiries.index(listing.expiry) for listing in listings if listing.expiry])
    in_cycle = np.array([MONTH_LETTERS[month - 1] in contract.months for _, month in expiries])
    ts_ns, column = table["ts_ns"].to_numpy(), place[table["key"].to_numpy()]
    sessions = load_sessions(contract.session, int(ts_ns[0]), int(ts_ns[-1]) + 1)
    session = session_index(sessions, ts_ns)
    cell, size = session * len(expiries) + column, sessions.open_ns.size * len(expiries)
    weights = table["volume"].fill_null(0.0).to_numpy()
    shape = (sessions.open_ns.size, len(expiries))
    volume = np.bincount(cell, weights, size).reshape(shape) * in_cycle
    prints = (np.bincount(cell, None, size).reshape(shape) > 0) & in_cycle
    fronts = _fronts(volume, prints)
    return pl.Series(fronts[session] == column)


def _fronts(volume: Floats, prints: NDArray[np.bool_]) -> Ints:
    """Return the front's column for each session, -1 where nothing prints; columns by expiry."""
    fronts = np.full(len(volume), -1, np.int64)
    columns = np.arange(volume.shape[1])
    known = np.zeros(volume.shape[1])  # what the session before traded
    front = 0
    for i in np.flatnonzero(prints.any(axis=1)):
        traded = np.where(columns >= front, known, 0.0)
        if traded.max() > 0:
            front = int(traded.argmax())
        able = prints[i] & (columns >= front)
        if not able.any():
            continue
        if not able[front]:
            front = int(np.where(able, known, -1.0).argmax())
        fronts[i], known = front, volume[i]
    return fronts
