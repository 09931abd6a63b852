"""What `ibs data check` tells about files of bars."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.errors import DataError
from ibs_core.market_data.rolls import Roll, rolls_of
from ibs_core.market_data.runs import Ints, base_ns, stamp
from ibs_core.sessions import Sessions, load_sessions, open_market_ns, outside, session_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.market_data.repair import Repairs
    from ibs_core.market_data.source import BarSource

__all__ = ["DataReport", "Gap", "RootReport", "check"]

_GAPS = 10


@dataclass(frozen=True, slots=True)
class Gap:
    """Scheduled minutes inside one session that printed nothing.

    Parameters
    ----------
    start_ns, end_ns : int, UTC ns
        End of the bar before, open of the bar after.
    minutes : int
        Scheduled ones between them; breaks do not count.
    """

    start_ns: int
    end_ns: int
    minutes: int


@dataclass(frozen=True, slots=True)
class RootReport:
    """One root's bars after repair, or why there are none.

    Parameters
    ----------
    root : str
    error : str
        Empty, or the fault that no repair may hide; the rest is empty then.
    rows : int
    first_ns, last_ns : int, UTC ns
    base_ns : int, ns
        Width of the bars.
    has_volume : bool
    contracts : tuple of str
        In order.
    rolls : tuple of Roll
    sessions : int
        Sessions with a bar inside their hours.
    missing_sessions : tuple of str
        Trade dates between the first and the last of these without one.
    outside : int
        Minutes outside the calendar.
    outside_examples : tuple of str
    gaps : tuple of Gap
        The largest ten.
    repairs : Repairs or None
    """

    root: str
    error: str = ""
    rows: int = 0
    first_ns: int = 0
    last_ns: int = 0
    base_ns: int = 0
    has_volume: bool = False
    contracts: tuple[str, ...] = ()
    rolls: tuple[Roll, ...] = ()
    sessions: int = 0
    missing_sessions: tuple[str, ...] = ()
    outside: int = 0
    outside_examples: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    repairs: Repairs | None = None

    @property
    def has_fault(self) -> bool:
        """Whether `--strict` would refuse these bars."""
        repairs = self.repairs.items if self.repairs else ()
        return bool(self.error) or any(item.fault for item in repairs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = asdict(self)
        plain["first"], plain["last"] = stamp(self.first_ns), stamp(self.last_ns)
        plain["rolls"] = [roll.to_dict() for roll in self.rolls]
        plain["repairs"] = self.repairs.to_dict() if self.repairs else {}
        return plain


@dataclass(frozen=True, slots=True)
class DataReport:
    """All roots of a source.

    Parameters
    ----------
    files : tuple of str
    digest : str
    roots : tuple of RootReport
    skipped : dict of str to str
        Symbol or file -> why it is left out.
    """

    files: tuple[str, ...]
    digest: str
    roots: tuple[RootReport, ...]
    skipped: dict[str, str]

    @property
    def errors(self) -> tuple[str, ...]:
        """Faults that no repair may hide."""
        return tuple(root.error for root in self.roots if root.error)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "files": list(self.files),
            "digest": self.digest,
            "roots": [root.to_dict() for root in self.roots],
            "skipped": self.skipped,
        }


def check(source: BarSource, roots: Sequence[str] | None = None) -> DataReport:
    """Look at every bar and tell what is there, root by root; a bad root does not hide the others.

    Parameters
    ----------
    source : BarSource
    roots : Sequence of str, optional
        Default: all that are there.

    Returns
    -------
    DataReport

    Raises
    ------
    DataError
        No row at all, or a symbol that no root owns.
    EnvironmentFault
        A file is unreadable or cut.
    """
    reports = tuple(_root_report(source, root) for root in (roots or source.roots))
    if not reports:
        raise source.no_bars(set())
    files = tuple(str(path) for path in source.files)
    return DataReport(files, source.digest(), reports, dict(source.skipped))


def _root_report(source: BarSource, root: str) -> RootReport:
    try:
        runs, repairs = source.load(root)
    except DataError as error:
        return RootReport(root, error=str(error))
    contract = source.contracts.readable(root)
    ts_ns = np.concatenate([run.ts_ns for run in runs])
    sessions = load_sessions(contract.session, int(ts_ns[0]), int(ts_ns[-1]) + 1)
    index = session_index(sessions, ts_ns)
    is_off = outside(sessions, ts_ns)
    off, covered = ts_ns[is_off], np.unique(index[~is_off])
    width_ns = base_ns(runs)
    return RootReport(
        root,
        rows=int(ts_ns.size),
        first_ns=int(ts_ns[0]),
        last_ns=int(ts_ns[-1]),
        base_ns=width_ns,
        has_volume=any(run.volume is not None for run in runs),
        contracts=tuple(run.instrument for run in runs),
        rolls=tuple(rolls_of(runs, contract)),
        sessions=int(covered.size),
        missing_sessions=_missing(sessions, covered),
        outside=int(off.size),
        outside_examples=tuple(stamp(int(each)) for each in off[:5]),
        gaps=_gaps(sessions, ts_ns, index, width_ns),
        repairs=repairs,
    )


def _missing(sessions: Sessions, covered: Ints) -> tuple[str, ...]:
    if covered.size == 0:
        return ()
    absent = np.setdiff1d(np.arange(covered[0], covered[-1] + 1), covered)
    return tuple(str(np.datetime64(int(sessions.trade_date[i]), "D")) for i in absent)


def _gaps(sessions: Sessions, ts_ns: Ints, index: Ints, width_ns: int) -> tuple[Gap, ...]:
    start_ns, end_ns = ts_ns[:-1] + width_ns, ts_ns[1:]
    scheduled = open_market_ns(sessions, end_ns) - open_market_ns(sessions, start_ns)
    scheduled[index[:-1] != index[1:]] = 0
    largest = np.argsort(-scheduled, kind="stable")[:_GAPS]
    return tuple(
        Gap(int(start_ns[i]), int(end_ns[i]), int(scheduled[i]) // 60_000_000_000)
        for i in largest
        if scheduled[i] > 0
    )
