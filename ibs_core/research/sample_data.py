"""Generated sample data: seeded minute bars with real session hours and rolls, for demos and tests.

The files say of themselves that they are generated, so that every report made from them can say so.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

import ibs_core
from ibs_core.bar_file import write_bars
from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.contracts import NANO, Contract, load_contract_map
from ibs_core.errors import ConfigError, DataError
from ibs_core.parquet_file import environment, marks_of
from ibs_core.research.sample_process import GRID, Minutes, Process
from ibs_core.research.sample_rolls import contract_code, deliveries
from ibs_core.sessions import YEARS, Sessions, load_sessions, to_utc_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["SINGLE_FILE", "generate", "is_generated", "write_sample"]

Ints = NDArray[np.int64]
SINGLE_FILE: Final = "sample.parquet"
_EPOCH: Final = date(1970, 1, 1)
_GRID_OPEN: Final = -7 * 60  # 17:00 on the day before the trade date
_BLOCK: Final = 32  # sessions drawn at a time, few enough to stay in the processor's cache


def write_sample(
    out: Path,
    *,
    roots: Sequence[str],
    start: date,
    end: date,
    seed: int,
    single_file: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write generated minute bars, one Parquet file a root, each whole or not at all.

    Parameters
    ----------
    out : Path
        Folder; made when missing. Files of the same name are replaced.
    roots : sequence of str
        Roots of the contract map, without repetition.
    start, end : datetime.date, start <= end
        First and last trade date, both included.
    seed : int, >= 0
    single_file : bool
        Put all roots into one file, one after the other.
    progress : callable, optional
        Called with each root when its bars are written.

    Returns
    -------
    list of Path
        The files, in the order of `roots`.

    Raises
    ------
    UnknownSymbolError
        A root is not in the contract map.
    ConfigError
        An argument is impossible, or no session lies between the dates.
    EnvironmentFault
        The folder cannot be written, or the disk is full.
    """
    _check(roots, start, end, seed)
    contract_map = load_contract_map()
    contracts = [contract_map.get(root) for root in roots]
    sessions = {
        group: _sessions(group, start, end) for group in sorted({c.session for c in contracts})
    }
    marks = {
        "ibs.generated": "true",
        "ibs.seed": str(seed),
        "ibs.version": ibs_core.__version__,
    }
    written: list[Path] = []
    remedy = "check the path, its permissions and the free space"
    with environment("sample data cannot be written to", out, remedy):
        out.mkdir(parents=True, exist_ok=True)
        frames = (
            (each.root, generate(each, sessions[each.session], start=start, end=end, seed=seed))
            for each in contracts
        )
        if single_file:
            return [write_bars(_told(frames, progress), out / SINGLE_FILE, marks)]
        for root, frame in frames:
            written.append(write_bars([frame], out / f"{root}.parquet", marks))
            if progress is not None:
                progress(root)
        return written


def _told(
    frames: Iterable[tuple[str, pl.DataFrame]], progress: Callable[[str], None] | None
) -> Iterator[pl.DataFrame]:
    for root, frame in frames:
        yield frame
        if progress is not None:
            progress(root)


def generate(
    contract: Contract, sessions: Sessions, *, start: date, end: date, seed: int
) -> pl.DataFrame:
    """Generate the minute bars of one root; the same arguments give the same bars.

    Parameters
    ----------
    contract : Contract
    sessions : Sessions
        Of the contract's session group, around [start, end].
    start, end : datetime.date, start <= end
        First and last trade date, both included. A later end only adds bars.
    seed : int, >= 0

    Returns
    -------
    polars.DataFrame
        ts_event (Datetime[ns, UTC]), symbol (the contract, ``ESZ25``; an index: its root), open,
        high, low, close (Float64, on the tick grid), volume (Int64, > 0), in order of time.

    Raises
    ------
    ConfigError
        `start` is after `end`, or no session lies between them.
    """
    chosen = _range(sessions, start, end)
    day, opens, closes, break_start, break_end = (
        getattr(sessions, name)[chosen]
        for name in ("trade_date", "open_ns", "close_ns", "break_start_ns", "break_end_ns")
    )
    delivery = deliveries(contract, day)
    process = Process(contract, seed)
    gap = np.empty((day.size, 2))
    gap[:, 0] = process.look.carry * np.diff(delivery, prepend=delivery[:1]) / 12.0
    gap[:, 1] = np.where(np.diff(opens, prepend=opens[0]) > DAY_NS + 12 * 60 * MINUTE_NS, 0.25, 0.1)
    base = to_utc_ns(day, np.full(day.size, _GRID_OPEN))
    pieces = []
    for i in range(0, day.size, _BLOCK):
        part = slice(i, i + _BLOCK)
        ts = base[part, None] + np.arange(GRID) * MINUTE_NS
        inside = (ts >= opens[part, None]) & (ts < closes[part, None])
        inside &= (ts < break_start[part, None]) | (ts >= break_end[part, None])
        minutes = process.draw(day[part], inside, gap[part])
        keep = inside & minutes.printed
        pieces.append(_frame(contract, ts, keep, minutes, delivery[part]))
    return pl.concat(pieces, rechunk=True)


def is_generated(path: Path) -> bool:
    """Tell whether a file is marked as generated; only the end of the file is read.

    Anything that is not Parquet is not generated: this module writes nothing else.

    Parameters
    ----------
    path : Path
        A file.

    Raises
    ------
    EnvironmentFault
        The file cannot be read, or is a truncated Parquet file.
    """
    return marks_of(path).get("ibs.generated") == "true"


def _check(roots: Sequence[str], start: date, end: date, seed: int) -> None:
    subject = "sample data"
    if not roots or len(set(roots)) < len(roots):
        found = ", ".join(roots) or "none"
        raise ConfigError(subject, expected="at least one root, each once", found=found)
    if start > end:
        raise ConfigError(subject, expected="start <= end", found=f"{start} to {end}")
    if seed < 0:
        raise ConfigError(subject, expected="a seed >= 0", found=str(seed))


def _sessions(group: str, start: date, end: date) -> Sessions:
    low, high = (((day - _EPOCH).days + 1) * DAY_NS for day in (start, end))
    try:
        return load_sessions(group, low - 3 * DAY_NS, high)
    except DataError as error:
        expected = f"dates well inside {YEARS[0]} to {YEARS[1]}, which the calendar covers"
        raise ConfigError("sample data", expected=expected, found=f"{start} to {end}") from error


def _range(sessions: Sessions, start: date, end: date) -> slice:
    days = [(start - _EPOCH).days, (end - _EPOCH).days + 1]
    first, last = np.searchsorted(sessions.trade_date, days).tolist()
    if first >= last:
        expected, found = "dates with a session between them", f"{start} to {end}"
        raise ConfigError(f"sample data of {sessions.group!r}", expected=expected, found=found)
    return slice(first, last)


def _frame(
    contract: Contract, ts: Ints, keep: NDArray[np.bool_], minutes: Minutes, delivery: Ints
) -> pl.DataFrame:
    names = [contract_code(contract, each) for each in delivery.tolist()]
    owner = np.repeat(np.arange(delivery.size, dtype=np.uint32), keep.sum(axis=1))
    prices = {
        name: getattr(minutes, name)[keep] * contract.tick_nano / NANO
        for name in ("open", "high", "low", "close")
    }
    return pl.DataFrame(
        {
            "ts_event": pl.Series(ts[keep]).cast(pl.Datetime("ns", "UTC")),
            "symbol": pl.Series(names, dtype=pl.String).gather(owner),
            **prices,
            "volume": minutes.volume[keep],
        }
    )
