"""Laws of time that one run must obey by itself: bars hold their own minutes, fills come after decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.bars import EXIT_REASONS
from ibs_core.market_data.runs import stamp
from ibs_core.portfolio import ENTRY, EXIT, TAKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibs_core.bars import Floats, Ints
    from ibs_core.checks.pictures import Picture, Table

__all__ = ["Finding", "broken_laws"]

_PROTECTIVE = [EXIT_REASONS.index(name) + 1 for name in ("protective_stop", "protective_target")]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that later bars change, or that breaks a law of time.

    Attributes
    ----------
    stage : str
        One of ``STAGES``.
    symbol : str
    name : str
        Feature or field; ``row`` when the row itself is there in one run only.
    start_ns, known_ns : int, UTC ns
        The row: start of the bar, or time of the decision or fill; and when it was known.
    cut_ns : int, UTC ns, or None
        Where the data were cut; None when a single run breaks a law.
    whole, cut : str
        What the run over all data says, and what that over the cut data says.
    cause : str
        The first input that differs, or that none does.
    reaches : tuple of str
        Later stages that differ too.
    """

    stage: str
    symbol: str
    name: str
    start_ns: int
    known_ns: int
    cut_ns: int | None
    whole: str
    cut: str
    cause: str
    reaches: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, instants as text."""
        return {
            "stage": self.stage,
            "symbol": self.symbol,
            "name": self.name,
            "start": stamp(self.start_ns),
            "known_at": stamp(self.known_ns),
            "cut": None if self.cut_ns is None else stamp(self.cut_ns),
            "with_later_bars": self.whole,
            "without": self.cut,
            "cause": self.cause,
            "reaches": list(self.reaches),
        }

    def __str__(self) -> str:
        what = f"{self.stage} {self.name} of {self.symbol} at {stamp(self.start_ns)}"
        if self.cut_ns is None:
            return f"{what}: {self.whole}; {self.cause}"
        then = f"; {', '.join(self.reaches)} differ too" if self.reaches else ""
        values = f"{self.whole} with later bars, {self.cut} with bars to {stamp(self.cut_ns)}"
        return f"{what}: {values}; {self.cause}{then}"


def broken_laws(whole: Picture) -> Iterator[Finding]:
    """List what breaks a law of time, each law once a symbol.

    Parameters
    ----------
    whole : Picture

    Yields
    ------
    Finding
    """
    yield from _broken_bars(whole)
    for entries in whole.of("entry"):
        minutes = _Minutes(whole, entries.symbol)
        for decisions in whole.of("decision", entries.symbol):
            yield from _misfilled_entries(entries, decisions, minutes)
            for exits in whole.of("exit", entries.symbol):
                seams = whole.seams[entries.symbol]
                yield from _misfilled_exits(exits, decisions, minutes, seams)


class _Minutes:
    """The minutes of one symbol, all contracts in one."""

    def __init__(self, whole: Picture, symbol: str) -> None:
        parts = whole.of("minute", symbol)
        self.ts_ns: Ints = np.concatenate([each.start_ns for each in parts])
        self._parts = parts

    def column(self, name: str) -> Floats:
        return np.concatenate([each.columns[name] for each in self._parts]).astype(np.float64)

    def first_from(self, instants: Ints) -> Ints:
        """Return the place of the first minute at or after each instant, the last one past the end."""
        return np.minimum(np.searchsorted(self.ts_ns, instants), len(self.ts_ns) - 1)


def _misfilled_entries(entries: Table, decisions: Table, minutes: _Minutes) -> Iterator[Finding]:
    """Find an entry that is not at the open of the first minute after its decision."""
    taken = (decisions.columns["action"] == ENTRY) & (decisions.columns["reason"] == TAKEN)
    decided = decisions.start_ns[taken]
    of = np.searchsorted(decided, entries.start_ns, side="right") - 1
    used_before = np.zeros(len(of), np.bool_)
    used_before[1:] = of[1:] == of[:-1]
    opens = minutes.column("open")
    for i in range(len(of)):
        if of[i] < 0 or used_before[i]:
            after = decided[of[i] + 1 : of[i] + 2].tolist()
            then = f", the next entry is decided at {stamp(after[0])}" if after else ""
            yield _broken(entries, i, "fill", f"filled before it was decided{then}", _FILLS)
            return
        place = int(minutes.first_from(decided[of[i] : of[i] + 1])[0])
        price = float(entries.columns["entry_price"][i])
        if minutes.ts_ns[place] != entries.start_ns[i] or opens[place] != price:
            yield _broken(entries, i, "fill", _said(int(decided[of[i]]), price), _FILLS)
            return


def _misfilled_exits(
    exits: Table, decisions: Table, minutes: _Minutes, seams: Ints
) -> Iterator[Finding]:
    """Find an exit that is not where the rules put it; exits never lapse, so the k-th is the k-th decided."""
    decided = decisions.start_ns[decisions.columns["action"] == EXIT]
    n = min(len(decided), len(exits.start_ns))
    if len(exits.start_ns) > n:
        yield _broken(exits, n, "fill", "filled without a decision", _FILLS)
    filled, price = exits.start_ns[:n], exits.columns["exit_price"][:n]
    resting = np.isin(exits.columns["reason"][:n], _PROTECTIVE)
    place = minutes.first_from(decided[:n])
    at_minute = minutes.ts_ns[place] == filled
    at_open = at_minute & (minutes.column("open")[place] == price)
    # A resting order: never better than its minute; a target that the open jumped over still fills at its price.
    is_target = exits.columns["reason"][:n] == _PROTECTIVE[1]
    within = at_minute & (is_target | (minutes.column("low")[place] <= price))
    within &= price <= minutes.column("high")[place]
    # A roll before any minute: the last close of the old contract, the minute before the new one's first.
    before = np.maximum(np.searchsorted(minutes.ts_ns, filled) - 1, 0)
    at_seam = np.isin(filled, seams) & (minutes.ts_ns[before] < decided[:n])
    at_seam &= (decided[:n] <= filled) & (minutes.column("close")[before] == price)
    lawful = np.where(resting, within & (decided[:n] == filled), at_open | at_seam)
    for i in np.flatnonzero(~lawful)[:1].tolist():
        yield _broken(exits, i, "fill", _said(int(decided[i]), float(price[i])), _FILLS)


_FILLS = "a fill is the open of the first minute at or after its decision"


def _said(decided_ns: int, price: float) -> str:
    return f"filled at {price!r}, decided at {stamp(decided_ns)}"


def _broken_bars(whole: Picture) -> Iterator[Finding]:
    """List bars that reach beyond their end, and rows known at another time than their bar's end."""
    for bars in whole.of("bar"):
        end_ns = bars.columns["end_ns"]
        order = [bars.columns[name] for name in ("start_ns", "first_ns", "last_ns")]
        bad = (order[0] > order[1]) | (order[1] > order[2]) | (order[2] >= end_ns)
        for i in np.flatnonzero(bad)[:1].tolist():
            text = f"minutes {stamp(int(order[1][i]))} to {stamp(int(order[2][i]))}"
            yield _broken(
                bars, i, "minutes", text, f"they lie inside it, to {stamp(int(end_ns[i]))}"
            )
        for stage in ("feature", "schedule", "gate"):
            for table in whole.of(stage, bars.symbol):
                n = min(len(table.known_ns), len(bars.known_ns))
                early = np.flatnonzero(table.known_ns[:n] != bars.known_ns[:n])[:1]
                for i in early.tolist():
                    known = f"known at {stamp(int(table.known_ns[i]))}"
                    yield _broken(table, i, "known_at", known, "it is known at its bar's end")


def _broken(table: Table, i: int, name: str, found: str, law: str) -> Finding:
    start_ns, known_ns = int(table.start_ns[i]), int(table.known_ns[i])
    return Finding(
        table.stage, table.symbol, name, start_ns, known_ns, None, found, "", f"the law: {law}"
    )
