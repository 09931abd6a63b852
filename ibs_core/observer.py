"""One symbol observed: closed bars to features, gates and verdicts, by the same calls for one bar and for years."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core import signals
from ibs_core.bars import BAR, joined
from ibs_core.feeds import newest_of
from ibs_core.veto import judge
from ibs_core.wiring import memory_of, new_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ibs_core.bars import Floats, Records
    from ibs_core.feeds import Beside, Feed
    from ibs_core.universe import Model, Symbol

__all__ = ["Observer"]


class Observer:
    """Takes a symbol's bars in order, in pieces of any length, and remembers what its features need.

    Parameters
    ----------
    symbol : Symbol
    """

    def __init__(self, symbol: Symbol) -> None:
        graph = symbol.wiring.graph
        self._symbol = symbol
        self._bar_state, self._day_state = new_state(graph.bar), new_state(graph.day)
        self._memory = memory_of(self._bar_state), memory_of(self._day_state)
        self._days: Records = np.zeros(0, BAR)
        self._day_pair = np.zeros((0, 2))

    def observe(
        self,
        own: Feed,
        others: Mapping[str, Feed],
        schedule: Records,
        seen: Records,
        *,
        n_days: int,
    ) -> Floats:
        """Observe the newest bars of a feed.

        Parameters
        ----------
        own : Feed
            The symbol's bars, the new ones last.
        others : Mapping of str to Feed
            By the names that its features use.
        schedule : (n_new,) SCHEDULE
            Of the new bars; whether what they read is cold is written.
        seen : (n_new,) SIGNAL
            Written.
        n_days : int
            Sessions of `own` that are new.

        Returns
        -------
        (n_candidates, n_columns) float64
            Feature rows of the candidates; empty without a model.
        """
        symbol, n_bars = self._symbol, len(seen)
        beside = newest_of(symbol.wiring, own, others, symbol.rule.tf_ns, n_bars, n_days)
        cold = beside.cold
        if symbol.gates is not symbol.wiring:
            cold = newest_of(symbol.gates, own, others, symbol.rule.tf_ns, n_bars, n_days).cold
        schedule["feeds_cold"] = cold
        bars, days = own.bars[len(own.bars) - n_bars :], own.days[len(own.days) - n_days :]
        return self.take(bars, days, beside, schedule, seen)

    def take(
        self, bars: Records, days: Records, beside: Beside, schedule: Records, seen: Records
    ) -> Floats:
        """Observe bars with what is laid beside them.

        Parameters
        ----------
        bars, days : (n_new,), (n_days,) BAR
        beside : Beside
        schedule : (n_new,) SCHEDULE
            With what is cold.
        seen : (n_new,) SIGNAL
            Written.

        Returns
        -------
        (n_candidates, n_columns) float64
            Feature rows of the candidates; empty without a model.
        """
        symbol, n_new = self._symbol, len(seen)
        self._wait(days, beside.day_pair)
        rows = np.empty((n_new if symbol.model else 1, len(symbol.wiring.graph.columns)))
        n_candidates = signals.observe_many(
            symbol.params[0],
            symbol.wiring.graph,
            *self._memory,
            bars,
            self._days,
            schedule,
            beside.foreign,
            self._day_pair,
            seen,
            rows,
        )
        if n_new and len(self._days):
            taken = int(np.count_nonzero(self._days["end_ns"] <= bars["end_ns"][-1]))
            self._days, self._day_pair = self._days[taken:], self._day_pair[taken:]
        rows = rows[: n_candidates if symbol.model else 0]
        if symbol.model and len(rows):
            _judge(symbol.model, rows, seen)
        return rows

    @property
    def newest(self) -> tuple[int, int, Floats]:
        """Own bars and sessions taken so far, and the feature row of the newest bar."""
        bars, days = self._memory
        row = bars.values[self._symbol.wiring.graph.columns]
        return int(bars.head[0]["n_bars"]), int(days.head[0]["n_bars"]), row

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that it remembers, by name."""
        return {
            "bar": self._bar_state,
            "day": self._day_state,
            "days": self._days,
            "day_pair": self._day_pair,
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what ``state`` told.

        Parameters
        ----------
        state : Mapping of str to array
        """
        self._bar_state[:], self._day_state[:] = state["bar"], state["day"]
        self._days, self._day_pair = state["days"], state["day_pair"]

    def _wait(self, days: Records, pair: Floats) -> None:
        """Keep sessions until a bar asks for them: one may close after the last bar inside it."""
        if not len(days):
            return
        if len(self._days):
            days, pair = joined([self._days, days]), np.concatenate([self._day_pair, pair])
        self._days, self._day_pair = days, pair


def _judge(model: Model, rows: Floats, seen: Records) -> None:
    """Score the candidates and write the verdicts beside their signals."""
    columns = rows[:, rows.shape[1] - len(model.features) :]
    judged = judge(model.scorer, columns, names=model.features, threshold=model.threshold)
    candidates = seen["gate"] == signals.CANDIDATE
    seen["score"][candidates] = judged.scores
    seen["verdict"][candidates] = judged.codes
