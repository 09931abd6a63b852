"""What the engine did, as the arrays of one journal entry, and back to what a replay needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.bars import BAR, joined
from ibs_core.portfolio import DECISION, INPUT
from ibs_core.ports import Minute
from ibs_core.positions import TRADE
from ibs_core.signals import SIGNAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.advance import Advance
    from ibs_core.bars import Records
    from ibs_core.market_data import MinuteSource

__all__ = ["MINUTE", "SEAM", "differences", "laid_out", "minutes_in", "minutes_of", "recorded"]

MINUTE = np.dtype(
    [
        ("root", "U6"),
        ("instrument", "U12"),
        ("ts_ns", "i8"),
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
    ]
)
SEAM = np.dtype([("root", "U6"), ("seam_ns", "i8")])
"""A roll instant that became known."""

Arrays = dict[str, "NDArray[Any]"]


def laid_out(minutes: Sequence[Minute]) -> bytes:
    """Lay minutes out as an entry holds them: what is laid out as it comes costs no slice its time.

    Parameters
    ----------
    minutes : sequence of Minute

    Returns
    -------
    bytes
        (n_minutes,) MINUTE.
    """
    rows = [
        (m.root, m.instrument, m.ts_ns, m.open, m.high, m.low, m.close, m.volume) for m in minutes
    ]
    return np.array(rows, MINUTE).tobytes()


def recorded(minutes: bytes | bytearray, inputs: Records, seams: Records, done: Advance) -> Arrays:
    """Lay out one entry.

    Parameters
    ----------
    minutes : bytes
        Since the entry before, each as ``laid_out``.
    inputs : (n_inputs,) INPUT
    seams : (n_seams,) SEAM
        Made known before `minutes`.
    done : Advance

    Returns
    -------
    dict of str to array
        What came in: ``minutes``, ``inputs``, ``seams``. What came out: ``roots`` names the symbols whose
        bars closed, ``counts`` how many of ``bars`` and ``signals`` each has, and how many ``rows/ROOT``;
        then ``decisions`` and ``trades``.
    """
    roots = list(done.bars)
    out: Arrays = {
        "minutes": np.frombuffer(bytes(minutes), MINUTE),
        "inputs": np.asarray(inputs, INPUT),
        "seams": np.asarray(seams, SEAM),
        "roots": np.array(roots, "U6"),
        "counts": np.array([len(done.bars[root]) for root in roots], np.int64),
        "bars": joined([np.zeros(0, BAR), *(done.bars[root] for root in roots)]),
        "signals": joined([np.zeros(0, SIGNAL), *(done.signals[root] for root in roots)]),
        "decisions": np.asarray(done.decisions, DECISION),
        "trades": np.asarray(done.trades, TRADE),
    }
    return out | {f"rows/{root}": done.rows[root] for root in roots if done.rows[root].size}


def minutes_in(arrays: Mapping[str, NDArray[Any]]) -> list[Minute]:
    """Return the minutes of an entry.

    Parameters
    ----------
    arrays : Mapping of str to array

    Returns
    -------
    list of Minute
    """
    return [Minute(*row) for row in arrays["minutes"].tolist()]


def minutes_of(source: MinuteSource) -> list[Minute]:
    """Return the minutes of files as a feed would deliver them.

    Parameters
    ----------
    source : MinuteSource

    Returns
    -------
    list of Minute
        By time; at one time as the source has its roots.
    """
    found: list[Minute] = []
    for root in (*source.roots, *source.feeds):
        for run in source.load(root)[0]:
            columns = (run.ts_ns, run.open, run.high, run.low, run.close, run.volume)
            unknown = np.full(len(run.ts_ns), np.nan)
            values = [(unknown if each is None else each).tolist() for each in columns]
            found += [Minute(run.root, run.instrument, *row) for row in zip(*values, strict=True)]
    return sorted(found, key=lambda minute: minute.ts_ns)


def differences(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> list[str]:
    """Name the fields in which two entries differ, bit for bit.

    Parameters
    ----------
    found, expected : Mapping of str to array

    Returns
    -------
    list of str
        Such as ``decisions[3].reason: 0 and 12``; the first of each array.
    """
    told = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            told.append(f"{name}: only in one of the two")
            continue
        one, other = found[name], expected[name]
        if one.dtype == other.dtype and one.tobytes() == other.tobytes():
            continue
        told.append(_first_difference(name, one, other))
    return told


def _first_difference(name: str, one: NDArray[Any], other: NDArray[Any]) -> str:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{name}: {len(one)} and {len(other)}"
    for i in range(len(one)):
        if one[i].tobytes() == other[i].tobytes():
            continue
        for field in one.dtype.names or ():
            if one[i][field].tobytes() != other[i][field].tobytes():
                return f"{name}[{i}].{field}: {one[i][field]} and {other[i][field]}"
        return f"{name}[{i}]: {one[i]} and {other[i]}"
    return f"{name}: another layout"
