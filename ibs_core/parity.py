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
from ibs_core.positions import TRADE
from ibs_core.recording import differences, minutes_in, recorded
from ibs_core.snapshot import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.engine import Engine
    from ibs_core.ports import Minute, Order, Stored

__all__ = ["Comparison", "compare"]

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

    Returns
    -------
    Comparison
    """
    kept = list(entries)
    out = Comparison()
    _step_by_step(first, kept, orders, states, new_engine(), out)
    _at_once(first, kept, new_engine(), out)
    return out


def _step_by_step(
    first: bytes,
    entries: Sequence[Stored],
    orders: Mapping[str, Order],
    states: Mapping[int, bytes],
    engine: Engine,
    out: Comparison,
) -> None:
    engine.restore(unpack(first))
    entered: dict[str, str] = {}
    for stored in entries:
        arrays = stored.arrays
        for root, seam_ns in arrays["seams"].tolist():
            engine.know_seam(root, seam_ns)
        minutes = minutes_in(arrays)
        done = engine.advance(minutes, stored.time_ns, arrays["inputs"])
        found = recorded(minutes, arrays["inputs"], arrays["seams"], done)
        out.differences += [f"entry {stored.seq}, {each}" for each in differences(found, arrays)]
        roots = [symbol.root for symbol in engine.symbols]
        told = arrays["inputs"]
        withdrawn = [roots[i] for i in told["symbol"][told["kind"] == CANCEL].tolist() if i >= 0]
        made = orders_of(done, engine, entered, withdrawn)
        entered |= {each.symbol: each.instrument for each in made if each.action == "entry"}
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
    """Take everything in one call, as a back-test does."""
    if not entries:
        return
    engine.restore(unpack(first))
    minutes: list[Minute] = []
    for stored in entries:
        for root, seam_ns in stored.arrays["seams"].tolist():
            engine.know_seam(root, seam_ns)
        minutes += minutes_in(stored.arrays)
    inputs = joined([np.zeros(0, INPUT), *(each.arrays["inputs"] for each in entries)])
    done = engine.advance(minutes, entries[-1].time_ns, inputs)
    expected = _laid_together(entries)
    found: Arrays = {"decisions": _by_time(done.decisions), "trades": _by_exit(done.trades)}
    for root in done.bars:
        found |= {f"bars/{root}": done.bars[root], f"signals/{root}": done.signals[root]}
        if done.rows[root].size:
            found[f"rows/{root}"] = done.rows[root]
    out.differences += [f"all at once, {each}" for each in differences(found, expected)]


def _laid_together(entries: Sequence[Stored]) -> Arrays:
    """Lay the entries end to end, by symbol."""
    parts: dict[str, list[NDArray[Any]]] = {}
    for stored in entries:
        arrays, start = stored.arrays, 0
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
    decisions = joined([np.zeros(0, DECISION), *(each.arrays["decisions"] for each in entries)])
    trades = joined([np.zeros(0, TRADE), *(each.arrays["trades"] for each in entries)])
    return out | {"decisions": _by_time(decisions), "trades": _by_exit(trades)}


def _by_time(decisions: NDArray[Any]) -> NDArray[Any]:
    return decisions[np.argsort(decisions["time_ns"], kind="stable")]


def _by_exit(trades: NDArray[Any]) -> NDArray[Any]:
    return trades[np.lexsort((trades["entry_ns"], trades["symbol"], trades["exit_ns"]))]
