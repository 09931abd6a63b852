"""Look-ahead: what a run says of the past may not depend on when the data end.

The law: cut the data at any instant, run again, and everything that was known by then is there, bit for
bit, and nothing more. The calendar and the roll table are known in advance and are not cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.checks.pictures import STAGES, Picture, Table
from ibs_core.checks.time_laws import Finding, broken_laws
from ibs_core.errors import DataError
from ibs_core.market_data.runs import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["Finding", "check", "choose_cuts", "count_compared", "refuse"]

_EXPLAINED = 20  # findings whose first differing input is looked for
_DRAWS = 50  # for each cut asked for, before it is given up


@dataclass(frozen=True, slots=True, eq=False)
class _Difference:
    """The first row at which one column differs."""

    stage: int
    symbol: str
    name: str
    start_ns: int
    known_ns: int
    whole: str
    cut: str

    @property
    def place(self) -> tuple[int, int]:
        return self.known_ns, self.stage


def check(picture: Callable[[int | None], Picture], cuts: Iterable[int]) -> list[Finding]:
    """Compare a run over all data with runs over data that end at cuts.

    Parameters
    ----------
    picture : callable
        Takes an instant (UTC ns), or None for all data; returns what the run says then.
    cuts : iterable of int, UTC ns

    Returns
    -------
    list of Finding
        Of each cut the stage that differs first in time, each of its columns once; by time.
    """
    whole = picture(None)
    found: dict[tuple[str, str, str], Finding] = {}
    for finding in broken_laws(whole):
        found.setdefault((finding.stage, finding.symbol, finding.name), finding)
    for cut_ns in cuts:
        part = picture(cut_ns)
        for finding in _of_one_cut(whole, part, cut_ns):
            key = finding.stage, finding.symbol, finding.name
            if key not in found or finding.known_ns < found[key].known_ns:
                found[key] = finding
    return sorted(found.values(), key=lambda each: (each.known_ns, STAGES.index(each.stage)))


def choose_cuts(whole: Picture, n: int, seed: int) -> list[int]:
    """Draw instants at which to cut: half of them ends of signal bars, half inside bars.

    Parameters
    ----------
    whole : Picture
        Of all data.
    n : int
    seed : int

    Returns
    -------
    list of int, UTC ns
        In order. None lies before everything that is held has begun, inside a bar of the data, or between a
        roll and the first minute of the new contract, where only the roll table knows of it.

    Raises
    ------
    DataError
        The data leave no such instant.
    """
    rng = np.random.default_rng(seed)
    bars, minutes = [each for each in whole.of("bar") if len(each.start_ns)], whole.of("minute")
    begun: dict[str, int] = {}
    for each in minutes:
        begun.setdefault(each.symbol, int(each.known_ns[0]))
    first_ns = max([*begun.values(), *(int(each.known_ns[0]) for each in bars)])
    closed = _Closed(whole, minutes)
    chosen: dict[int, None] = {}
    for want, tables in (((n + 1) // 2, bars), (n, minutes)):
        if not bars:
            break
        sizes = np.array([len(each.start_ns) for each in tables], np.float64)
        for _ in range(_DRAWS * n):
            if len(chosen) >= want:
                break
            table = tables[int(rng.choice(len(tables), p=sizes / sizes.sum()))]
            row = int(rng.integers(len(table.start_ns)))
            instant = int((table.known_ns if tables is bars else table.start_ns)[row])
            if instant >= first_ns and closed.at(instant):
                chosen[instant] = None
    if not chosen:
        raise DataError(
            "data too short to cut",
            expected="a closed signal bar of every symbol, and minutes after it",
            found="none",
            remedy="add bars, or leave out the symbols that begin last",
        )
    return sorted(chosen)


def count_compared(whole: Picture, cuts: Sequence[int]) -> dict[str, int]:
    """Count what a check compares.

    Parameters
    ----------
    whole : Picture
    cuts : sequence of int, UTC ns

    Returns
    -------
    dict of str to int
        Rows and columns of the run over all data, and the values compared over all cuts.
    """
    rows = {stage: sum(len(each.start_ns) for each in whole.of(stage)) for stage in STAGES}
    features = {name for each in whole.of("feature") for name in each.columns}
    values = sum(
        int(np.count_nonzero(each.known_ns <= cut_ns)) * len(each.columns)
        for each in whole.tables
        for cut_ns in cuts
    )
    return {
        "cuts": len(cuts),
        "minutes": rows["minute"],
        "bars": rows["bar"],
        "sessions": rows["session"],
        "features": len(features),
        "decisions": rows["decision"],
        "fills": rows["entry"] + rows["exit"],
        "values": values,
    }


def refuse(findings: Sequence[Finding]) -> None:
    """Fail on the first finding.

    Parameters
    ----------
    findings : sequence of Finding

    Raises
    ------
    DataError
    """
    if findings:
        more = f" ({len(findings) - 1} more)" if len(findings) > 1 else ""
        raise DataError(f"look-ahead{more}", found=str(findings[0]))


class _Closed:
    """Knows at which instants no bar of the data is in progress and every roll has shown."""

    def __init__(self, whole: Picture, minutes: Sequence[Table]) -> None:
        self._minutes = minutes
        steps = [
            (each.symbol, np.diff(each.start_ns)) for each in minutes if len(each.start_ns) > 1
        ]
        self._widths: dict[str, int] = {}
        for symbol, step in steps:
            self._widths[symbol] = min(int(step.min()), self._widths.get(symbol, int(step.min())))
        self._rolls: list[tuple[int, int]] = []
        for symbol, seams in whole.seams.items():
            firsts = [int(each.start_ns[0]) for each in minutes if each.symbol == symbol]
            for seam in seams.tolist():
                self._rolls.append((seam, min((x for x in firsts if x >= seam), default=seam)))

    def at(self, instant: int) -> bool:
        if any(seam <= instant <= first for seam, first in self._rolls):
            return False
        for each in self._minutes:
            before = int(np.searchsorted(each.start_ns, instant)) - 1
            if before >= 0:
                width = self._widths.get(each.symbol, 0)
                if each.start_ns[before] + width > instant:
                    return False
        return True


def _of_one_cut(whole: Picture, part: Picture, cut_ns: int) -> list[Finding]:
    differences = _differences(whole, part, cut_ns)
    if not differences:
        return []
    first = min(differences, key=lambda each: each.place)
    later = sorted({each.stage for each in differences if each.stage > first.stage})
    reaches = tuple(f"{STAGES[stage]}s" for stage in later)
    same = sorted((d for d in differences if d.stage == first.stage), key=lambda each: each.place)
    return [
        Finding(
            STAGES[each.stage],
            each.symbol,
            each.name,
            each.start_ns,
            each.known_ns,
            cut_ns,
            each.whole,
            each.cut,
            _cause(whole, part, each) if k < _EXPLAINED else "not looked into",
            reaches if each is first else (),
        )
        for k, each in enumerate(same)
    ]


def _differences(whole: Picture, part: Picture, cut_ns: int) -> list[_Difference]:
    of_part = {each.key: each for each in part.tables}
    found = []
    for table in whole.tables:
        known = _until(table, cut_ns)
        found += _between(known, of_part.pop(table.key, _until(table, -(2**62))))
    for table in of_part.values():
        found += _between(_until(table, -(2**62)), table)
    return found


def _until(table: Table, cut_ns: int) -> Table:
    """Return the rows known by an instant."""
    keep = table.known_ns <= cut_ns
    n = int(np.count_nonzero(keep))
    rows = slice(0, n) if keep[:n].all() else np.flatnonzero(keep)  # a slice copies nothing
    columns = {name: column[rows] for name, column in table.columns.items()}
    start_ns, known_ns = table.start_ns[rows], table.known_ns[rows]
    return Table(table.stage, table.symbol, table.part, start_ns, known_ns, columns)


def _between(whole: Table, part: Table) -> list[_Difference]:
    stage = STAGES.index(whole.stage)
    n = min(len(whole.start_ns), len(part.start_ns))
    moved = _differs(whole.start_ns[:n], part.start_ns[:n]) | _differs(
        whole.known_ns[:n], part.known_ns[:n]
    )
    stop = int(np.argmax(moved)) if moved.any() else n
    found = []
    for name in whole.columns.keys() | part.columns.keys():
        pair = [each.columns.get(name) for each in (whole, part)]
        if pair[0] is None or pair[1] is None:
            values = ["no such column" if each is None else "a column" for each in pair]
            found.append(_Difference(stage, whole.symbol, name, 0, 0, *values))
            continue
        a, b = pair[0][:stop], pair[1][:stop]
        at = np.flatnonzero(_differs(a, b))
        if len(at):
            i = int(at[0])
            start, known = int(whole.start_ns[i]), int(whole.known_ns[i])
            found.append(
                _Difference(stage, whole.symbol, name, start, known, _text(a[i]), _text(b[i]))
            )
    if stop < max(len(whole.start_ns), len(part.start_ns)):
        found.append(_row_difference(stage, whole, part, stop))
    return found


def _row_difference(stage: int, whole: Table, part: Table, i: int) -> _Difference:
    rows = [
        (int(each.start_ns[i]), int(each.known_ns[i])) if i < len(each.start_ns) else None
        for each in (whole, part)
    ]
    known, start = min((row[1], row[0]) for row in rows if row is not None)
    said = ["no row" if row is None else _named(*row) for row in rows]
    return _Difference(stage, whole.symbol, "row", start, known, *said)


def _named(start_ns: int, known_ns: int) -> str:
    known = f", known at {stamp(known_ns)}" if known_ns > start_ns + 1 else ""
    return f"a row at {stamp(start_ns)}{known}"


def _differs(a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Tell where the bits differ; every NaN is the same."""
    if a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides:
        return np.zeros(len(a), np.bool_)  # the same memory
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.asarray(a != b)
    bits = np.ascontiguousarray(a).view(np.int64) != np.ascontiguousarray(b).view(np.int64)
    return np.asarray(bits & ~((a != a) & (b != b)))  # noqa: PLR0124  (NaN alone differs from itself)


def _text(value: np.generic) -> str:
    return repr(value.item())


def _cause(whole: Picture, part: Picture, found: _Difference) -> str:
    if STAGES[found.stage] != "feature" or found.name == "row":
        before = STAGES[: found.stage]
        return f"equal up to there: {', '.join(before)}" if before else "the data themselves differ"
    inputs = [each.explain(found.symbol, found.name) for each in (whole, part)]
    names = list(inputs[0].columns)
    differing = {
        each.name: each
        for each in _between(*(_until(each, found.known_ns) for each in inputs))
        if each.name in names[:-1]
    }
    for name in names:  # inputs stand before what reads them
        if name in differing:
            each = differing[name]
            values = f"{each.whole} with later bars, {each.cut} without"
            return f"first input that differs: {name} at {stamp(each.start_ns)}, {values}"
    return "all its inputs are equal: the formula itself reads later bars"
