"""Fills of a broker beside what a journal expected: matched, priced in ticks, and what does not fit named.

A fill belongs whole to one leg of its contract and side.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ibs_core.contracts import Contract
    from ibs_core.fills.legs import Leg

__all__ = ["NANO", "Drift", "Fill", "Traded", "compare", "match", "net"]

NANO: Final = 10**9
_SKEW_NS: Final = 5 * 10**9
"""How far a broker's clock may be behind ours."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One row of a statement.

    Parameters
    ----------
    line : int
        Of the file, from 1.
    time_ns : int, UTC ns
    instrument : str
        ``MESZ2025``.
    side : {1, -1}
        Bought or sold.
    quantity : int, > 0
    price_nano : int, 1e-9 price units
    commission_nano : int or None, 1e-9 USD of the whole row
    """

    line: int
    time_ns: int
    instrument: str
    side: int
    quantity: int
    price_nano: int
    commission_nano: int | None


@dataclass(frozen=True, slots=True)
class Traded:
    """A leg with its fills.

    Parameters
    ----------
    leg : Leg
    fills : tuple of Fill
        Empty where the statement shows none.
    """

    leg: Leg
    fills: tuple[Fill, ...]

    @property
    def quantity(self) -> int:
        """Contracts filled."""
        return sum(each.quantity for each in self.fills)

    @property
    def price(self) -> float | None:
        """Mean price; None without a fill."""
        if not self.fills:
            return None
        paid = sum(each.quantity * each.price_nano for each in self.fills)
        return float(Fraction(paid, self.quantity * NANO))

    @property
    def slippage_nano(self) -> int | None:
        """How much worse than the book's price, times contracts; below 0 is better."""
        if not self.fills or self.leg.booked_price is None:
            return None
        booked_nano = round(self.leg.booked_price * NANO)
        return sum(
            self.leg.side * each.quantity * (each.price_nano - booked_nano) for each in self.fills
        )

    def slippage_ticks(self, contract: Contract) -> float | None:
        """Return the mean of its contracts.

        Parameters
        ----------
        contract : Contract
            That was traded.

        Returns
        -------
        float or None
        """
        nano = self.slippage_nano
        return None if nano is None else float(Fraction(nano, self.quantity * contract.tick_nano))

    @property
    def latency_ns(self) -> int | None:
        """From the decision to the first fill; None without a fill or an order that was sent."""
        if not self.fills or not self.leg.order_id or self.leg.state == "FLATTENED":
            return None
        return min(each.time_ns for each in self.fills) - self.leg.decided_ns


@dataclass(frozen=True, slots=True)
class Drift:
    """Something in which statement and journal differ.

    Parameters
    ----------
    kind : {"fill without an order", "no fill", "quantity", "state", "position"}
    instrument : str
    text : str
        For people, with what to do about it.
    order_id : str
    lines : tuple of int
        Of the statement.
    """

    kind: Literal["fill without an order", "no fill", "quantity", "state", "position"]
    instrument: str
    text: str
    order_id: str = ""
    lines: tuple[int, ...] = ()


def match(
    fills: Iterable[Fill], legs: Iterable[Leg], window_ns: int
) -> tuple[list[Traded], list[Fill]]:
    """Give each fill to the leg that it belongs to.

    Parameters
    ----------
    fills : iterable of Fill
        In any order: it changes nothing.
    legs : iterable of Leg
    window_ns : int, ns
        How long after the decision, or after the book's fill, a leg still fills.

    Returns
    -------
    (list of Traded, list of Fill)
        Every leg, and the fills of none. A leg that is filled takes no more.
    """
    ordered = sorted(legs, key=lambda leg: leg.place)
    taken: list[list[Fill]] = [[] for _ in ordered]
    rest = []
    for fill in sorted(fills, key=_by_time):
        found = [
            i
            for i, leg in enumerate(ordered)
            if (leg.instrument, leg.side) == (fill.instrument, fill.side)
            and leg.since_ns - _SKEW_NS <= fill.time_ns <= leg.last_ns + window_ns
            and sum(each.quantity for each in taken[i]) < leg.quantity
        ]
        if found:
            nearest = min(found, key=lambda i: (_distance(ordered[i], fill), i))
            taken[nearest].append(fill)
        else:
            rest.append(fill)
    return [Traded(leg, tuple(own)) for leg, own in zip(ordered, taken, strict=True)], rest


def net(
    legs: Iterable[Leg], fills: Iterable[Fill], since_ns: int, until_ns: int
) -> dict[str, tuple[int, int]]:
    """Tell what is held at the end of a span, by the book and by the statement.

    Parameters
    ----------
    legs : iterable of Leg
        Of the whole journal: what the book held before the span is taken as given.
    fills : iterable of Fill
        Of the span.
    since_ns, until_ns : int, UTC ns

    Returns
    -------
    dict of str to (int, int)
        Contracts of each instrument that either holds: book, statement.
    """
    book: dict[str, int] = {}
    statement: dict[str, int] = {}
    for leg in legs:
        if leg.booked_ns is not None and leg.booked_ns < until_ns:
            n = leg.side * leg.quantity
            book[leg.instrument] = book.get(leg.instrument, 0) + n
            if leg.booked_ns < since_ns:
                statement[leg.instrument] = statement.get(leg.instrument, 0) + n
    for fill in fills:
        n = fill.side * fill.quantity
        statement[fill.instrument] = statement.get(fill.instrument, 0) + n
    names = sorted(book.keys() | statement.keys())
    both = {name: (book.get(name, 0), statement.get(name, 0)) for name in names}
    return {name: each for name, each in both.items() if any(each)}


def compare(
    traded: Sequence[Traded], rest: Sequence[Fill], held: Mapping[str, tuple[int, int]]
) -> list[Drift]:
    """Name everything in which statement and journal differ.

    Parameters
    ----------
    traded : sequence of Traded
    rest : sequence of Fill
        Of no leg.
    held : Mapping of str to (int, int)
        As `net` returns it.

    Returns
    -------
    list of Drift
    """
    found = [drift for each in traded if (drift := _drift_of(each)) is not None]
    for fill in rest:
        did = "bought" if fill.side > 0 else "sold"
        text = f"line {fill.line}: {did} {fill.quantity} {fill.instrument} without an order of the journal"
        found.append(Drift("fill without an order", fill.instrument, text, lines=(fill.line,)))
    for name, (book, statement) in held.items():
        if book != statement:
            text = (
                f"{name}: the book holds {book:+d} at the end, the statement leaves {statement:+d}"
            )
            found.append(Drift("position", name, text))
    return found


def _drift_of(traded: Traded) -> Drift | None:
    leg, n = traded.leg, traded.quantity
    lines = tuple(each.line for each in traded.fills)
    if leg.expects == "unknown":
        verdict = ("filled" if n else "absent") if leg.action == "entry" else "flat"
        seen = f"the statement shows {n} filled" if n else "the statement shows no fill"
        text = (
            f"{leg.name} is {leg.state}: {seen}; `ibs orders resolve {leg.order_id} --as {verdict}`"
        )
        return Drift("state", leg.instrument, text, leg.order_id, lines)
    if leg.expects == "nothing" and n:
        text = f"{leg.name} is {leg.state}, and {n} filled"
        return Drift("state", leg.instrument, text, leg.order_id, lines)
    if leg.expects == "fill" and not n:
        text = f"{leg.name}: the book has {leg.quantity} filled, the statement none"
        return Drift("no fill", leg.instrument, text, leg.order_id)
    if n and n != leg.quantity:
        text = f"{leg.name}: {leg.quantity} expected, {n} filled"
        return Drift("quantity", leg.instrument, text, leg.order_id, lines)
    return None


def _distance(leg: Leg, fill: Fill) -> tuple[bool, int]:
    """Rank legs for a fill: what never left last, then by the time between."""
    outside = max(leg.decided_ns - fill.time_ns, fill.time_ns - leg.last_ns, 0)
    return leg.expects == "nothing", outside


def _by_time(fill: Fill) -> tuple[int, str, int, int, int, int, int]:
    return (
        fill.time_ns,
        fill.instrument,
        fill.side,
        fill.quantity,
        fill.price_nano,
        -1 if fill.commission_nano is None else fill.commission_nano,
        fill.line,
    )
