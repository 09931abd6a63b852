"""Parity: a journal run again through the back-test's calls, and every field compared.

Twice: once cut as live cut it, which must also end in the same state and the same orders, and once as the
back-test runs, over all minutes at once. What only live knew is given to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.bars import joined
from ibs_core.orders import orders_of
from ibs_core.portfolio import CANCEL, DECISION, INPUT
from ibs_core.positions import TRADE, by_exit
from ibs_core.recording import differences, laid_out, minutes_in, recorded
from ibs_core.snapshot import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.engine import Engine
    from ibs_core.ports import Order, Stored

__all__ = ["Comparison", "compare", "state_after"]

Arrays = dict[str, "NDArray[Any]"]


_COUNTED = (
    "entries",
    "minutes",
    "bars",
    "features",
    "scores",
    "decisions",
    "orders",
    "trades",
    "states",
)


@dataclass(slots=True)
class Comparison:
    """What was compared, and what differs.

    Attributes
    ----------
    counts : dict of str to int
        ``entries``, ``minutes``, ``bars``, ``features``, ``scores``, ``decisions``, ``orders``, ``trades``, ``states``.
    differences : list of str
        The first of each entry and array.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    differences: list[str] = field(default_factory=list)


def compare(
    first: bytes,
    entries: Iterable[Stored],
    orders: Mapping[str, Order],
    states: Mapping[int, bytes],
    new_engine: Callable[[], Engine],
    entered: Mapping[str, Order] | None = None,
) -> Comparison:
    """Run a journal again.

    Parameters
    ----------
    first : bytes
        State before the first entry.
    entries : iterable of Stored
        In order.
    orders : Mapping of str to Order
        Of the journal, by id.
    states : Mapping of int to bytes
        Kept states, by the entry after which they were taken.
    new_engine : callable
        Makes an engine of the settings of the journal.
    entered : Mapping of str to Order, optional
        By root, the last entry order before these entries.

    Returns
    -------
    Comparison
    """
    kept = list(entries)
    out = Comparison()
    _step_by_step(first, kept, orders, states, new_engine(), dict(entered or {}), out)
    _at_once(first, kept, new_engine(), out)
    return out


def state_after(first: bytes, entries: Sequence[Stored], engine: Engine) -> bytes:
    """Return the state after entries.

    Parameters
    ----------
    first : bytes
        State before them.
    entries : sequence of Stored
    engine : Engine
        Of the settings of the journal.

    Returns
    -------
    bytes
    """
    engine.restore(unpack(first))
    for piece in _between_rolls(entries):
        _take(piece, engine)
    return pack(engine.state())


def _step_by_step(
    first: bytes,
    entries: Sequence[Stored],
    orders: Mapping[str, Order],
    states: Mapping[int, bytes],
    engine: Engine,
    entered: dict[str, Order],
    out: Comparison,
) -> None:
    engine.restore(unpack(first))
    for stored in entries:
        arrays = stored.arrays
        for root, seam_ns in arrays["seams"].tolist():
            engine.know_seam(root, seam_ns)
        minutes = minutes_in(arrays)
        done = engine.advance(minutes, stored.time_ns, arrays["inputs"])
        found = recorded(laid_out(minutes), arrays["inputs"], arrays["seams"], done)
        out.differences += [f"entry {stored.seq}, {each}" for each in differences(found, arrays)]
        roots = [symbol.root for symbol in engine.symbols]
        told = arrays["inputs"]
        withdrawn = [roots[i] for i in told["symbol"][told["kind"] == CANCEL].tolist() if i >= 0]
        made = orders_of(done, engine, entered, withdrawn)
        entered |= {each.symbol: each for each in made if each.action == "entry"}
        _same_orders(stored, made, orders, out)
        _count(arrays, out)
        if stored.seq in states:
            out.counts["states"] += 1
            if pack(engine.state()) != states[stored.seq]:
                out.differences.append(f"entry {stored.seq}: the state after it")


def _same_orders(
    stored: Stored, made: Sequence[Order], orders: Mapping[str, Order], out: Comparison
) -> None:
    out.counts["orders"] += len(stored.order_ids)
    ids = [each.order_id for each in made]
    if sorted(ids) != sorted(stored.order_ids):
        out.differences.append(f"entry {stored.seq}, orders: {ids} and {list(stored.order_ids)}")
        return
    for each in made:
        if each != orders[each.order_id]:
            out.differences.append(
                f"entry {stored.seq}, order {each.order_id}: {each} and {orders[each.order_id]}"
            )


def _count(arrays: Mapping[str, NDArray[Any]], out: Comparison) -> None:
    for name in ("minutes", "bars", "decisions", "trades"):
        out.counts[name] += len(arrays[name])
    out.counts["entries"] += 1
    rows = [each for name, each in arrays.items() if name.startswith("rows/")]
    out.counts["features"] += sum(each.size for each in rows)
    scores = arrays["signals"]["score"]
    out.counts["scores"] += int(np.count_nonzero(scores == scores))  # noqa: PLR0124  (NaN)


def _at_once(first: bytes, entries: Sequence[Stored], engine: Engine, out: Comparison) -> None:
    """Take everything in one call, as a back-test does; in another where a roll became known."""
    engine.restore(unpack(first))
    made = [_take(piece, engine) for piece in _between_rolls(entries)]
    if made:
        found, expected = _laid_together(made), _laid_together([each.arrays for each in entries])
        out.differences += [f"all at once, {each}" for each in differences(found, expected)]


def _between_rolls(entries: Sequence[Stored]) -> list[list[Stored]]:
    """Cut entries before each that tells of a roll."""
    pieces: list[list[Stored]] = []
    for stored in entries:
        if not pieces or len(stored.arrays["seams"]):
            pieces.append([])
        pieces[-1].append(stored)
    return pieces


def _take(entries: Sequence[Stored], engine: Engine) -> Arrays:
    for root, seam_ns in entries[0].arrays["seams"].tolist():
        engine.know_seam(root, seam_ns)
    minutes = [each for stored in entries for each in minutes_in(stored.arrays)]
    inputs = joined([np.zeros(0, INPUT), *(each.arrays["inputs"] for each in entries)])
    done = engine.advance(minutes, entries[-1].time_ns, inputs)
    return recorded(laid_out(minutes), inputs, entries[0].arrays["seams"], done)


def _laid_together(entries: Sequence[Mapping[str, NDArray[Any]]]) -> Arrays:
    """Lay the entries end to end, by symbol."""
    parts: dict[str, list[NDArray[Any]]] = {}
    for arrays in entries:
        start = 0
        counts = zip(arrays["roots"].tolist(), arrays["counts"].tolist(), strict=True)
        for root, count in counts:
            for name in ("bars", "signals"):
                part = arrays[name][start : start + count]
                parts.setdefault(f"{name}/{root}", []).append(part)
            start += count
        for name, array in arrays.items():
            if name.startswith("rows/"):
                parts.setdefault(name, []).append(array)
    out: Arrays = {name: np.concatenate(each) for name, each in parts.items()}
    decisions = joined([np.zeros(0, DECISION), *(each["decisions"] for each in entries)])
    trades = joined([np.zeros(0, TRADE), *(each["trades"] for each in entries)])
    return out | {"decisions": _by_time(decisions), "trades": by_exit(trades)}


def _by_time(decisions: NDArray[Any]) -> NDArray[Any]:
    return decisions[np.argsort(decisions["time_ns"], kind="stable")]
