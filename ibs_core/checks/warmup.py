"""Warm-up, measured: how much history the data need before results no longer depend on where they start."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ibs_core.backtest import Traded, trade
from ibs_core.bars import DAY_NS, TIMEFRAMES_NS
from ibs_core.catalogue import resolve
from ibs_core.errors import DataError
from ibs_core.feature_table import FeatureTable, evaluate, served
from ibs_core.market_data.runs import stamp
from ibs_core.reading import Key, read_feeds
from ibs_core.signals import NOT_TRADED, WARM_UP
from ibs_core.universe import Universe
from ibs_core.wiring import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from ibs_core.bars import Floats, Ints
    from ibs_core.catalogue import Feature
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars
    from ibs_core.series import Series
    from ibs_core.universe import Model

__all__ = ["SESSIONS_COMPARED", "FeatureHistory", "PointHistory", "WarmUp", "to_dict"]

SESSIONS_COMPARED = 5
"""Sessions from the evaluation point on whose gates, decisions and fills must agree."""

_LARGER = (1, 2, 5)  # sessions above the one found at which it is verified too
_FEWEST_SESSIONS = 4 * SESSIONS_COMPARED
_TAIL = 0.1  # a feature must stay equal for this share of the history that it needed


@dataclass(frozen=True, slots=True)
class PointHistory:
    """What one evaluation point needs.

    Attributes
    ----------
    first_session : str
        The first session that was traded.
    sessions : int
        The fewest sessions before it with which all agrees with the full history.
    start : str
        Where the data then start, UTC.
    available : int
        Sessions before it in the data.
    enough : bool
        False when the data are too short to tell: the full history itself is needed, or is still cold.
    """

    first_session: str
    sessions: int
    start: str
    available: int
    enough: bool


@dataclass(frozen=True, slots=True)
class FeatureHistory:
    """What one feature needs.

    Attributes
    ----------
    name : str
    of : str
        What is counted: bars or sessions.
    warmup, full : int
        What the catalogue says of the first value and of full windows.
    settles : int or None
        What it promises: from here on a later start gives the same bits; None where the data decide.
    needed : int
        Measured: from here on the values were the same bits as with full history.
    enough : bool
        False when the data are too short to tell: more than ``needed`` may be.
    """

    name: str
    of: str
    warmup: int
    full: int
    settles: int | None
    needed: int
    enough: bool

    @property
    def kept(self) -> bool:
        """Whether the catalogue's promise held."""
        return self.settles is None or self.needed <= self.settles


class WarmUp:
    """Runs the same bars from different starts.

    Parameters
    ----------
    held : HeldBars
    settings : Settings
    contracts : ContractMap
    roots : sequence of str, optional
        Symbols to trade; default: those of the settings, else all that the data hold.
    names : sequence of str, optional
        Features; default: all that the data can serve.
    models : callable, optional
        Gives the model of a root; asked where the settings' mode is not off.
    progress : callable, optional
        Called with what is worked on and 1 when a point is done.

    Raises
    ------
    DataError
        The data have too few sessions to compare anything.
    """

    def __init__(
        self,
        held: HeldBars,
        settings: Settings,
        contracts: ContractMap,
        *,
        roots: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        models: Callable[[str], Model] | None = None,
        progress: Callable[[str, int], None] | None = None,
    ) -> None:
        self._models = models
        self._held, self._settings, self._contracts = held, settings, contracts
        self._roots = list(roots or settings.symbols or held.roots)
        chosen = names or served(contracts, held.roots, held.feeds)
        self._features = [resolve(name, contracts, where="--features") for name in chosen]
        self._reads = [wire([each.node]).feeds for each in self._features]
        self._progress = progress or (lambda _what, _n: None)
        whole = trade(held, settings, contracts, roots=self._roots, models=models)
        self._seams = {item.root: item.seams for item in whole.series}
        self._dates, self._opens = _common_sessions(whole, _span(held))
        if len(self._dates) < _FEWEST_SESSIONS:
            raise DataError(
                "data too short to measure a warm-up",
                expected=f"at least {_FEWEST_SESSIONS} sessions that all symbols share",
                found=str(len(self._dates)),
                remedy="add earlier bars",
            )

    def of_decisions(self, points: int, seed: int) -> list[PointHistory]:
        """Find the fewest sessions of history with which decisions are those of the full history.

        Parameters
        ----------
        points : int
            Evaluation points, drawn in the last half of the data.
        seed : int

        Returns
        -------
        list of PointHistory
            In order of time.
        """
        n = len(self._dates)
        possible = np.arange(n // 2, n - SESSIONS_COMPARED)
        rng = np.random.default_rng(seed)
        found = []
        for at in np.sort(rng.choice(possible, min(points, len(possible)), replace=False)).tolist():
            found.append(self._of_point(at))
            self._progress("decisions", 1)
        return found

    def of_features(self, points: int, seed: int) -> list[FeatureHistory]:
        """Find the fewest bars of history with which values are those of the full history.

        Parameters
        ----------
        points : int
            Starts, drawn in the first half of the data.
        seed : int

        Returns
        -------
        list of FeatureHistory
            Over all symbols and starts.
        """
        whole = {each.root: each for each in self._tables(None)}
        needed = np.ones(len(self._features), np.int64)
        enough = np.ones(len(self._features), np.bool_)
        seen = np.zeros(len(self._features), np.bool_)
        rng = np.random.default_rng(seed + 1)
        possible = np.arange(1, len(self._dates) // 2)
        starts = np.sort(rng.choice(possible, min(points, len(possible)), replace=False))
        for at in starts.tolist():
            others = self._others(int(self._opens[at]))
            for part in self._tables(int(self._opens[at])):
                for k in range(len(self._features)):
                    history = self._history_of(part, k, others)
                    own = _needed(whole[part.root], part, k, history)
                    if own is None:
                        continue
                    seen[k] = True
                    needed[k] = max(needed[k], own[0])
                    enough[k] &= own[1]
            self._progress("features", 1)
        return [
            _history(feature, int(needed[k]), enough=bool(enough[k] and seen[k]))
            for k, feature in enumerate(self._features)
        ]

    def _tables(self, first_ns: int | None) -> list[FeatureTable]:
        source = self._held.between(first_ns, None)
        return list(
            evaluate(source, self._settings, self._contracts, self._features, roots=self._roots)
        )

    def _keys_of(self, root: str, k: int) -> list[Key]:
        """Name the bars of other instruments that a feature reads for a symbol."""
        tf_ns = TIMEFRAMES_NS[self._settings.strategy_of(root).signal_bar]
        pair = str(self._contracts.get(root).pair)
        read = {pair if name == "pair" else name for name in self._reads[k]}
        return [Key(name, tf_ns) for name in read & {*self._held.roots, *self._held.feeds}]

    def _others(self, first_ns: int) -> dict[Key, Series]:
        """Build the bars of all other instruments that are read, from a start on."""
        keys = frozenset(
            key
            for root in self._roots
            for k in range(len(self._features))
            for key in self._keys_of(root, k)
        )
        universe = Universe(self._settings, self._contracts, start=None, end=None)
        return read_feeds(self._held.between(first_ns, None), universe, keys, volume=False)

    def _history_of(self, part: FeatureTable, k: int, others: Mapping[Key, Series]) -> Ints:
        """Count the bars, or sessions, up to each own bar's end: the fewest of those that are read."""
        by_session = self._features[k].side == "day"
        read = [part.series, *(others[key] for key in self._keys_of(part.root, k))]
        ends = part.series.closed["end_ns"]
        counted = [item.days if by_session else item.closed for item in read]
        fewest: Ints = np.min(
            [np.searchsorted(bars["end_ns"], ends, side="right") for bars in counted], axis=0
        )
        return fewest

    def _of_point(self, at: int) -> PointHistory:
        full = self._run(at, at)
        cold = any(np.any(signal["gate"] == WARM_UP) for signal in full.signals)

        def agrees(k: int) -> bool:
            return _same(self._run(at, k), full)

        low, high = -1, 0  # low is known to differ
        while high < at and not agrees(high):
            low, high = high, min(max(1, 2 * high), at)
        while True:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if agrees(middle) else (middle, high)
            wrong = [k for k in (high + more for more in _LARGER) if k < at and not agrees(k)]
            if not wrong:
                break
            low, high = max(wrong), min(2 * max(wrong), at)
            while high < at and not agrees(high):
                low, high = high, min(2 * high, at)
        start = stamp(int(self._opens[at - high]))
        day = str(np.datetime64(int(self._dates[at]), "D"))
        return PointHistory(day, high, start, at, enough=high < at and not cold)

    def _run(self, at: int, k: int) -> Traded:
        """Trade the sessions from a point on, with k sessions before it."""
        first_ns = None if k == at else int(self._opens[at - k])
        source = self._held.between(first_ns, int(self._opens[at + SESSIONS_COMPARED]))
        return trade(
            source,
            self._settings,
            self._contracts,
            roots=self._roots,
            start=_date(int(self._dates[at])),
            seams=self._seams,
            models=self._models,
        )


def to_dict(points: Sequence[PointHistory], features: Sequence[FeatureHistory]) -> dict[str, Any]:
    """Return both results as plain values for JSON.

    Parameters
    ----------
    points : sequence of PointHistory
    features : sequence of FeatureHistory

    Returns
    -------
    dict
    """
    enough = all(each.enough for each in points)
    return {
        "sessions": max(each.sessions for each in points) if enough else None,
        "sessions_compared": SESSIONS_COMPARED,
        "points": [asdict(each) for each in points],
        "features": [asdict(each) | {"kept": each.kept} for each in features],
    }


def _span(held: HeldBars) -> tuple[int, int]:
    """Return the last first minute and the first last minute of all that is held."""
    first, last = [], []
    for root in (*held.roots, *held.feeds):
        runs = list(held.stream([root]))
        first.append(int(runs[0].ts_ns[0]))
        last.append(int(runs[-1].ts_ns[-1]))
    return max(first), min(last)


def _common_sessions(whole: Traded, span: tuple[int, int]) -> tuple[Ints, Ints]:
    """Return the trade dates that open within a span, and when each opens first."""
    opens: dict[int, int] = {}
    for symbol, series in zip(whole.symbols, whole.series, strict=True):
        sessions = np.unique(series.bars["session"])
        dates, starts = symbol.sessions.trade_date[sessions], symbol.sessions.open_ns[sessions]
        for day, open_ns in zip(dates.tolist(), starts.tolist(), strict=True):
            opens[day] = min(open_ns, opens.get(day, open_ns))
    first, last = span[0] - DAY_NS, span[1]
    found = sorted((day, open_ns) for day, open_ns in opens.items() if first < open_ns <= last)
    dates, starts = np.array(found, np.int64).reshape(-1, 2).T
    return dates, starts


def _date(day: int) -> date:
    found: date = np.datetime64(day, "D").item()
    return found


def _same(a: Traded, b: Traded) -> bool:
    """Tell whether two runs say the same of the bars they trade, and trade the same."""
    for i in range(len(a.symbols)):
        gates = []
        for run in (a, b):
            closed = len(run.series[i].closed)
            bars, gate = run.series[i].bars[:closed], run.signals[i]["gate"][:closed]
            traded = gate != NOT_TRADED
            gates.append((bars["start_ns"][traded], gate[traded]))
        if not all(np.array_equal(x, y) for x, y in zip(*gates, strict=True)):
            return False
    names = ["time_ns", "symbol", "action", "reason"]
    fills = ["symbol", "entry_ns", "entry_price", "exit_ns", "exit_price", "reason"]
    return _equal(a.decision_records, b.decision_records, names) and _equal(
        a.trade_records, b.trade_records, fills
    )


def _equal(a: Any, b: Any, names: Sequence[str]) -> bool:
    return len(a) == len(b) and all(np.array_equal(a[name], b[name]) for name in names)


def _needed(
    whole: FeatureTable, part: FeatureTable, k: int, history: Ints
) -> tuple[int, bool] | None:
    """Return the history after which one feature agrees, and whether the data go on long enough to tell."""
    rows = np.searchsorted(whole.series.closed["start_ns"], part.series.closed["start_ns"])
    expected, found = whole.rows[rows, k], part.rows[:, k]
    if not np.any(_present(expected)):
        return None
    bits = np.ascontiguousarray(expected).view(np.int64) != np.ascontiguousarray(found).view(
        np.int64
    )
    differs = np.flatnonzero(bits & (_present(expected) | _present(found)))
    last = int(differs[-1]) if len(differs) else -1
    needed = int(history[last]) + 1 if last >= 0 else 1
    present = bool(np.any(_present(expected[last + 1 :])))
    return needed, present and int(history[-1]) - needed >= _TAIL * needed


def _present(values: Floats) -> Any:
    return ~np.isnan(values)


def _history(feature: Feature, needed: int, *, enough: bool) -> FeatureHistory:
    of = "sessions" if feature.side == "day" else "bars"
    return FeatureHistory(
        feature.name, of, feature.warmup, feature.full, feature.settles, needed, enough
    )
