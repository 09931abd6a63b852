"""The test part of windows: each trades its own sessions with what its training sessions chose.

A window begins flat. An order decided in its sessions belongs to it until it is flat again, under its own
parameters, also where that is in the sessions of the next; until then, and until the cooldown is over, the next
window enters nothing in that symbol. Limits over symbols begin anew with each window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibs_core import portfolio, signals
from ibs_core.backtest import decide, judge
from ibs_core.bars import NEVER, joined
from ibs_core.ledger import (
    blocked_counts,
    decisions_frame,
    line_of,
    open_positions,
    refused_counts,
    trades_frame,
)
from ibs_core.parameters import make_risk
from ibs_core.report.run import DECISIONS, TRADES
from ibs_core.sweep.decision_pass import replayed
from ibs_core.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibs_core.bars import Records
    from ibs_core.groundwork import Ground
    from ibs_core.ledger import Line
    from ibs_core.report.equity import OpenPosition
    from ibs_core.sweep.candidate import Candidate
    from ibs_core.sweep.stage import Job, Stage, Stages
    from ibs_core.walk_forward.fit import Fitted
    from ibs_core.walk_forward.windows import Window

__all__ = ["Tested", "trade_windows"]

_Busy = dict[str, tuple[int, int]]
"""By root: until when a position was held, UTC ns, and the closes of cooldown after it."""


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """What a window traded.

    Attributes
    ----------
    fitted : Fitted
    trades, decisions : polars.DataFrame
        Schemas `TRADES` and `DECISIONS`; those after its sessions are of what was carried on.
    held : tuple of OpenPosition
        What the end of the data left open.
    blocked : dict of str to dict
        By root: the bars of its sessions that each gate stopped.
    carried : int
        Trades and open positions that outlasted its sessions.
    """

    fitted: Fitted
    trades: pl.DataFrame
    decisions: pl.DataFrame
    held: tuple[OpenPosition, ...] = ()
    blocked: dict[str, dict[str, int]] | None = None
    carried: int = 0


def trade_windows(fitted: Sequence[Fitted], stages: Stages) -> Iterator[Tested]:
    """Trade windows, one after another.

    Parameters
    ----------
    fitted : sequence of Fitted
        In order.
    stages : Stages
        Over all sessions.

    Yields
    ------
    Tested
    """
    busy: _Busy = {}
    for each in fitted:
        if each.candidate is None:
            yield Tested(each, pl.DataFrame(schema=TRADES), pl.DataFrame(schema=DECISIONS))
        else:
            yield _traded(each, each.candidate, stages, busy)


def _traded(fitted: Fitted, candidate: Candidate, stages: Stages, busy: _Busy) -> Tested:
    """Trade one window, and tell in `busy` how long it holds its symbols."""
    job, window = stages.job(candidate), fitted.window
    stage = _narrowed(stages.get(candidate), job.lines, window, busy)
    seen = np.zeros(len(stage.ground.schedule), signals.SIGNAL)
    if any(veto.model for veto in fitted.vetoes.values()):
        job = _judged(fitted, candidate, stages, stage.ground, seen)
        none = np.zeros(0, portfolio.INPUT)
        schedule = stage.ground.schedule
        made = decide(stage.ground.laid, job.params, job.risk, schedule, seen, none)
    else:
        made = replayed(stage, job, seen)
    records, decided, book = made
    held = open_positions(book, job.lines)
    for trade in records:
        cooldown = int(job.params[trade["symbol"]]["cooldown_bars"])
        busy[job.lines[trade["symbol"]].root] = int(trade["exit_ns"]), cooldown
    busy.update((position.symbol, (NEVER, 0)) for position in held)
    decisions = decisions_frame(decided, job.lines)
    return Tested(
        fitted,
        trades_frame(records, job.lines),
        decisions,
        tuple(held),
        _blocked(stage, job.lines, seen, candidate, decisions),
        int(np.count_nonzero(records["exit_ns"] >= window.test_ends_ns)) + len(held),
    )


def _judged(
    fitted: Fitted, candidate: Candidate, stages: Stages, ground: Ground, seen: Records
) -> Job:
    """Observe the bars with the models of the window, as back-tests do; return the job that vetoes."""
    read, settings = stages.reading(candidate), candidate.settings.in_mode("veto")
    models = {root: veto.model for root, veto in fitted.vetoes.items()}
    universe = Universe(
        settings, stages.contracts, start=fitted.window.test[0], end=None, models=models.get
    )
    symbols = [universe.get(symbol.root) for symbol in read.symbols]
    judge(replace(read, symbols=symbols), ground, seen)
    lines = [
        line_of(symbol, series.instruments, settings.costs)
        for symbol, series in zip(symbols, read.series, strict=True)
    ]
    params = joined([symbol.params for symbol in symbols])
    risk = make_risk(settings.risk, veto=True)
    return replace(stages.job(candidate), params=params, risk=risk, lines=tuple(lines))


def _narrowed(stage: Stage, lines: Sequence[Line], window: Window, busy: _Busy) -> Stage:
    """Let no bar but those of the test sessions decide an entry, and none of a symbol still held."""
    ground = stage.ground
    schedule, laid = ground.schedule.copy(), ground.laid
    first, last = (np.datetime64(day, "D").astype(np.int64) for day in window.test)
    for start, line in zip(laid.starts, lines, strict=True):
        own = slice(int(start["bar"]), int(start["stop"]))
        bars, traded = laid.bars[own], schedule["traded"][own]
        dates = laid.sessions["date"][start["session"] + bars["session"]]
        traded[(dates < first) | (dates > last)] = 0
        until_ns, cooldown = busy.get(line.root, (0, 0))
        # An exit that fills at a bar's end comes after what the bar decides.
        n_held = int(np.searchsorted(bars["end_ns"], until_ns, side="right"))
        traded[: n_held + cooldown] = 0
    return replace(stage, ground=replace(ground, schedule=schedule))


def _blocked(
    stage: Stage,
    lines: Sequence[Line],
    seen: Records,
    candidate: Candidate,
    decisions: pl.DataFrame,
) -> dict[str, dict[str, int]]:
    return {
        line.root: blocked_counts(
            seen["gate"][int(start["bar"]) : int(start["stop"])],
            list(candidate.settings.strategy_of(line.root).filters),
        )
        | refused_counts(decisions, line.root)
        for start, line in zip(stage.ground.laid.starts, lines, strict=True)
    }
