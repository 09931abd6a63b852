"""What a reader of a result must know of its data, though nothing is refused for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ibs_core.bars import MINUTE_NS, NEVER

if TYPE_CHECKING:
    from ibs_core.series import Series
    from ibs_core.universe import Instrument

__all__ = ["notes_on", "outside_note"]

_HOLE_NS = 60 * MINUTE_NS
_OFF_TICK_SHARE = 0.01
_CONTRACT_SESSIONS = 70  # a quarterly contract is front for fewer


def notes_on(series: Series, instrument: Instrument) -> list[str]:
    """Look for what often means that data are not what their owner thinks.

    Parameters
    ----------
    series : Series
    instrument : Instrument

    Returns
    -------
    list of str
        One sentence each.
    """
    found = [
        _outside(series),
        _holes(series),
        _off_tick(series, instrument),
        _rolls(series, instrument),
    ]
    return [f"{series.root}: {note}" for note in found if note]


def outside_note(series: Series, instrument: Instrument) -> list[str]:
    """Tell of rows that a series which is only read cannot use.

    Parameters
    ----------
    series : Series
    instrument : Instrument

    Returns
    -------
    list of str
        At most one sentence.
    """
    if not series.n_outside:
        return []
    note = (
        f"{series.root}: {series.n_outside:,} rows lie outside its sessions ({instrument.contract.session}) "
        "and are in no daily bar; a daily row must carry the time of its session's open"
    )
    return [note]


def _outside(series: Series) -> str:
    n = series.n_outside
    return f"{n:,} minutes lie outside the session calendar; kept" if n else ""


def _holes(series: Series) -> str:
    bars = series.bars
    width_ns = series.base_ns if series.base_ns != NEVER else MINUTE_NS
    silence = bars["first_ns"][1:] - bars["last_ns"][:-1] - width_ns
    holes = silence[(bars["session"][1:] == bars["session"][:-1]) & (silence > _HOLE_NS)]
    if not len(holes):
        return ""
    longest = int(holes.max()) // MINUTE_NS
    return (
        f"{len(holes):,} times no bar for over an hour inside a session, at most {longest:,} minutes; "
        "positions are held through; `ibs data check` lists them"
    )


def _off_tick(series: Series, instrument: Instrument) -> str:
    nano = np.rint(series.bars["close"] * 1e9).astype(np.int64)
    share = float(np.mean(nano % instrument.contract.tick_nano != 0)) if len(nano) else 0.0
    if share <= _OFF_TICK_SHARE:
        return ""
    return f"{share:.0%} of closes are off the tick of {instrument.contract.tick_size:g}: adjusted prices or a wrong unit?"


def _rolls(series: Series, instrument: Instrument) -> str:
    named = any(name != series.root and "." not in name for name in series.instruments)
    if named or instrument.contract.kind != "future" or len(series.days) <= _CONTRACT_SESSIONS:
        return ""
    if len(series.instruments) > 1:  # a continuous symbol whose instrument ids tell the rolls
        return ""
    return "the data do not name contracts, so rolls are not seen"
