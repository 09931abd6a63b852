"""What is known of a journal only afterwards: the vendor's history beside what live saw.

History has minutes that live did not see, or saw otherwise; and live knew of itself what no history holds. Run
again from the journal's first state with history's minutes, with and without that knowledge, it shows what
each of the two changed. The same from files alone is the back-test itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.backtest import trade
from ibs_core.bars import EXIT_REASONS, NEVER, joined
from ibs_core.engine import NOTHING_TOLD
from ibs_core.market_data import HeldBars
from ibs_core.market_data.runs import PRICES, stamp
from ibs_core.portfolio import (
    BLOCKS,
    DECISION,
    EXIT,
    FIRST_BLOCK,
    FIRST_VETO,
    INPUT,
    LIVE_BLOCKS,
)
from ibs_core.positions import TRADE, by_exit
from ibs_core.recording import minutes_in, minutes_of
from ibs_core.stream import run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibs_core.bars import Records
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.market_data import MinuteRun
    from ibs_core.ports import Minute, Stored
    from ibs_core.universe import Model

__all__ = ["Hindsight", "Lived", "against_back_test", "against_history"]


@dataclass(frozen=True, slots=True, eq=False)
class Lived:
    """What a journal holds of a span, laid end to end.

    Attributes
    ----------
    start_ns, end_ns : int, UTC ns
        Minutes that open in [start, end).
    minutes : list of Minute
        By time within a root.
    inputs : (n_inputs,) INPUT
    decisions : (n_decisions,) DECISION
    trades : (n_trades,) TRADE
    seams : dict of str to list of int, UTC ns
        Rolls that became known.
    """

    start_ns: int
    end_ns: int
    minutes: list[Minute]
    inputs: Records
    decisions: Records
    trades: Records
    seams: dict[str, list[int]]

    @classmethod
    def of(cls, entries: Sequence[Stored], start_ns: int) -> Lived:
        """Lay entries end to end.

        Parameters
        ----------
        entries : sequence of Stored
            At least one.
        start_ns : int, UTC ns
            Where the state before them stands.

        Returns
        -------
        Lived
        """
        parts = [each.arrays for each in entries]
        seams: dict[str, list[int]] = {}
        for arrays in parts:
            for root, seam_ns in arrays["seams"].tolist():
                seams.setdefault(root, []).append(seam_ns)
        return cls(
            start_ns,
            entries[-1].time_ns,
            [minute for each in parts for minute in minutes_in(each)],
            joined([np.zeros(0, INPUT), *(each["inputs"] for each in parts)]),
            joined([np.zeros(0, DECISION), *(each["decisions"] for each in parts)]),
            joined([np.zeros(0, TRADE), *(each["trades"] for each in parts)]),
            seams,
        )


@dataclass(slots=True)
class Hindsight:
    """How history and a journal differ.

    Attributes
    ----------
    n_same : int
        Minutes that both have.
    unseen, unknown, unlike : list of str
        Minutes that only history has, only live saw, and that both have with other numbers.
    by_minutes : list of str
        Decisions that history's minutes change, live's own knowledge kept.
    by_knowledge : list of str
        Decisions that live's own knowledge changed: blocks, outages, outcomes, commands.
    """

    n_same: int
    unseen: list[str]
    unknown: list[str]
    unlike: list[str]
    by_minutes: list[str]
    by_knowledge: list[str]


def against_history(
    lived: Lived, history: Sequence[Minute], resumed: Callable[[], Engine]
) -> Hindsight:
    """Compare a journal with the vendor's history of the same span.

    Parameters
    ----------
    lived : Lived
    history : sequence of Minute
        Of the span, by time within a root.
    resumed : callable
        Makes an engine that stands where the span begins and knows every roll.

    Returns
    -------
    Hindsight
    """
    found = Hindsight(0, [], [], [], [], [])
    seen, known = (
        {(each.ts_ns, each.root): each for each in minutes} for minutes in (lived.minutes, history)
    )
    for place in sorted(seen.keys() | known.keys()):
        if place not in seen:
            found.unseen.append(_spelt(known[place]))
        elif place not in known:
            found.unknown.append(_spelt(seen[place]))
        elif other := _unlike(seen[place], known[place]):
            found.unlike.append(f"{_spelt(seen[place])}; history: {other}")
        else:
            found.n_same += 1
    told = _decide(resumed(), history, lived, lived.inputs)
    untold = _decide(resumed(), history, lived, NOTHING_TOLD)
    roots = [symbol.root for symbol in resumed().symbols]
    found.by_minutes = _differing(lived.decisions, told, roots)
    found.by_knowledge = _differing(told, untold, roots)
    return found


def against_back_test(
    lived: Lived,
    before: HeldBars | None,
    settings: Settings,
    contracts: ContractMap,
    *,
    engine: Engine,
    models: Callable[[str], Model] | None,
) -> tuple[list[str], int]:
    """Give the back-test driver the minutes that live saw, and compare decisions and trades.

    Parameters
    ----------
    lived : Lived
        From the journal's first entry on.
    before : HeldBars, optional
        What live warmed up with and nothing older, or contracts are counted otherwise; None: nothing.
    settings : Settings
    contracts : ContractMap
    engine : Engine
        As it stood before the first entry: tells what is traded and read, and the rolls known then.
    models : callable, optional
        As the back-test takes it.

    Returns
    -------
    list of str
        Differences.
    int
        Decisions and trades compared.
    """
    held = _held(lived, before, engine.reads, contracts)
    roots = [symbol.root for symbol in engine.symbols]
    not_live = FIRST_BLOCK + LIVE_BLOCKS.index("not_live")
    seams = {
        root: np.array([*engine.seams.get(root, ()), *lived.seams.get(root, ())], np.int64)
        for root in engine.seams.keys() | lived.seams.keys()
    }
    cold = np.array([(0, 0, not_live, -1, lived.start_ns + 1)], INPUT)
    traded = trade(
        held,
        settings,
        contracts,
        roots=roots,
        seams=seams,
        models=models,
        inputs=joined([cold, lived.inputs]),
    )
    made, trades = traded.decision_records, traded.trade_records
    made = made[(made["time_ns"] > lived.start_ns) & (made["time_ns"] <= lived.end_ns)]
    out = _differing(lived.decisions, made, roots)
    expected, found = (by_exit(each) for each in (lived.trades, trades))
    if len(expected) != len(found):
        out.append(f"{len(expected)} trades live and {len(found)} in the back-test")
    elif expected.tobytes() != found.tobytes():
        i = next(i for i in range(len(found)) if expected[i].tobytes() != found[i].tobytes())
        out.append(f"trade {i}: {expected[i]} live and {found[i]} in the back-test")
    return out, len(made) + len(trades)


def _spelt(minute: Minute) -> str:
    prices = " ".join(f"{getattr(minute, name):g}" for name in PRICES)
    return f"{stamp(minute.ts_ns)} {minute.instrument} {prices} volume {minute.volume:g}"


def _unlike(one: Minute, other: Minute) -> str:
    """Tell what is otherwise in history; an unknown volume is like every other."""
    names = ["instrument", *PRICES]
    if not (math.isnan(one.volume) or math.isnan(other.volume)):
        names.append("volume")
    values = [(name, getattr(one, name), getattr(other, name)) for name in names]
    return ", ".join(f"{name} {theirs}" for name, mine, theirs in values if mine != theirs)


def _decide(engine: Engine, minutes: Sequence[Minute], lived: Lived, inputs: Records) -> Records:
    return engine.advance(minutes, lived.end_ns, inputs).decisions


def _differing(one: Records, other: Records, roots: Sequence[str]) -> list[str]:
    """List decisions that are in one of two only, or other in each."""
    found, expected = (_by_slice(each, roots) for each in (one, other))
    told = []
    for place in sorted(found.keys() | expected.keys()):
        mine, theirs = found.get(place, "nothing"), expected.get(place, "nothing")
        if mine != theirs:
            told.append(f"{stamp(place[0])} {place[1]} {place[2]}: {mine} -> {theirs}")
    return told


def _by_slice(decisions: Records, roots: Sequence[str]) -> dict[tuple[int, str, str], str]:
    found = {}
    for each in decisions[decisions["time_ns"] < NEVER]:
        action, code = int(each["action"]), int(each["reason"])
        if action == EXIT:
            reason = EXIT_REASONS[code - 1]
        elif code >= FIRST_VETO:
            reason = f"vetoed, {code - FIRST_VETO}"
        else:
            reason = f"blocked:{BLOCKS[code - 1]}" if code else "taken"
        score = float(each["score"])
        place = (int(each["time_ns"]), roots[each["symbol"]], ("entry", "exit")[action])
        found[place] = reason if np.isnan(score) else f"{reason} at {score!r}"
    return found


def _held(
    lived: Lived, before: HeldBars | None, roots: Sequence[str], contracts: ContractMap
) -> HeldBars:
    """Lay what live warmed up with and what it saw behind one another."""
    past = minutes_of(before.between(None, lived.start_ns)) if before is not None else []
    of_root: dict[str, list[Minute]] = {root: [] for root in roots}
    for minute in (*past, *lived.minutes):
        of_root[minute.root].append(minute)
    return HeldBars(
        {root: _runs(minutes) for root, minutes in of_root.items()},
        contracts,
        (-(2**62), lived.end_ns),
    )


def _runs(minutes: Sequence[Minute]) -> list[MinuteRun]:
    """Cut the minutes of a root where its contract changes."""
    parts = groupby(minutes, lambda minute: minute.instrument)
    runs = [run_of(list(part)) for _, part in parts]
    return [replace(run, contract_id=number) for number, run in enumerate(runs)]
