"""What candidates share: bars, feature rows and schedules, made once; and what each adds to them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np

from ibs_core.bars import TIMEFRAMES_NS, joined
from ibs_core.groundwork import Ground, Laid, gather, lay_ground
from ibs_core.ledger import line_of, marks_frame
from ibs_core.parameters import make_params, make_risk
from ibs_core.reading import Key
from ibs_core.report.trade_facts import day_numbers
from ibs_core.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    import polars as pl
    from numpy.typing import NDArray

    from ibs_core.bar_cache import Shelf
    from ibs_core.bars import Floats, Ints, Records
    from ibs_core.contracts import ContractMap
    from ibs_core.groundwork import Gathered
    from ibs_core.ledger import Line
    from ibs_core.market_data import MinuteSource
    from ibs_core.series import Series
    from ibs_core.sweep.candidate import Candidate
    from ibs_core.universe import Model, Symbol

__all__ = ["Job", "Marks", "Stage", "Stages"]

_Kind = TypeVar("_Kind", bound=np.generic)
_N_STAGES: Final = 4
_N_READINGS: Final = 2


class Marks(NamedTuple):
    """Last prices of one symbol's sessions.

    Attributes
    ----------
    days : (n_sessions,) int64, days since 1970-01-01
    closes_ns : (n_sessions,) int64, UTC ns
    prices : (n_sessions,) float64
    """

    days: Ints
    closes_ns: Ints
    prices: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Arrays that candidates share; no candidate writes to them.

    Attributes
    ----------
    ground : Ground
    marks : tuple of Marks
        Of each symbol.
    days : (n_sessions,) int64, days since 1970-01-01
        Sessions of any symbol.
    """

    ground: Ground
    marks: tuple[Marks, ...]
    days: Ints

    def arrived(self) -> Stage:
        """Return the same with plain, writable arrays, where they came to another process.

        A map of a file is a subclass, and what a cluster sends cannot be written to: compiled code, which knows
        plain arrays only, would be compiled anew for either.
        """
        ground, laid = self.ground, self.ground.laid
        return Stage(
            Ground(
                Laid(*map(_plain, (laid.bars, laid.path, laid.sessions, laid.starts))),
                _plain(ground.schedule),
                _plain(ground.n_days),
                tuple(_plain(each) for each in ground.columns),
            ),
            self.marks,
            self.days,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What one candidate adds to a stage.

    Attributes
    ----------
    number : int
        Of the candidate.
    params : (n_symbols,) PARAMS
    risk : (1,) RISK
    lines : tuple of Line
    capital : float
    """

    number: int
    params: Records
    risk: Records
    lines: tuple[Line, ...]
    capital: float


class Stages:
    """Makes stages, and keeps the last few.

    Parameters
    ----------
    source : MinuteSource
    contracts : ContractMap
    roots : sequence of str
        What is traded.
    start, end : date or None
    strict : bool
        Refuse data that would be repaired.
    shelf : Shelf, optional
        Where bars are kept from one run to the next.
    progress : callable
        Called with a root and the number of its minutes just read.
    models : callable, optional
        Gives of a root a model whose features can be read beside what the rule needs.
    n_readings : int
        How many readings of the data are kept.
    """

    def __init__(
        self,
        source: MinuteSource,
        contracts: ContractMap,
        roots: Sequence[str],
        *,
        start: date | None,
        end: date | None,
        strict: bool,
        shelf: Shelf | None = None,
        progress: Callable[[str, int], None],
        models: Callable[[str], Model] | None = None,
        n_readings: int = _N_READINGS,
    ) -> None:
        self.source, self.contracts = source, contracts
        self._options: dict[str, Any] = {
            "roots": roots,
            "start": start,
            "end": end,
            "strict": strict,
            "shelf": shelf,
            "models": models,
            "progress": progress,
        }
        self._n_readings = n_readings
        self._readings: OrderedDict[str, Gathered] = OrderedDict()
        self._stages: OrderedDict[str, tuple[Stage, list[Symbol], list[Series]]] = OrderedDict()
        self.warnings: list[str] = []

    def get(self, candidate: Candidate) -> Stage:
        """Return the stage of a candidate.

        Parameters
        ----------
        candidate : Candidate

        Returns
        -------
        Stage
        """
        return self._made(candidate)[0]

    def reading(self, candidate: Candidate) -> Gathered:
        """Return the bars of whatever a candidate reads.

        Parameters
        ----------
        candidate : Candidate

        Returns
        -------
        Gathered
        """
        bars, _ = candidate.sharing
        found: Gathered = _kept(
            self._readings, bars, self._n_readings, lambda: self._read(candidate)
        )
        return found

    def job(self, candidate: Candidate) -> Job:
        """Return what a candidate adds to its stage.

        Parameters
        ----------
        candidate : Candidate

        Returns
        -------
        Job
        """
        _, symbols, series = self._made(candidate)
        settings = candidate.settings
        params = [
            make_params(
                settings.strategy_of(symbol.root),
                symbol.executed,
                symbol.gates,
                quantity=symbol.quantity,
                costs=settings.costs,
            )
            for symbol in symbols
        ]
        return Job(
            candidate.number,
            joined(params),
            make_risk(settings.risk, veto=False),
            tuple(
                line_of(symbol, item.instruments, settings.costs)
                for symbol, item in zip(symbols, series, strict=True)
            ),
            settings.capital,
        )

    def _made(self, candidate: Candidate) -> tuple[Stage, list[Symbol], list[Series]]:
        _, shared = candidate.sharing
        if shared not in self._stages:
            found = self.reading(candidate)
            universe = Universe(
                candidate.settings,
                self.contracts,
                start=self._options["start"],
                end=self._options["end"],
            )
            symbols = [universe.get(symbol.root) for symbol in found.symbols]
            _kept(
                self._stages,
                shared,
                _N_STAGES,
                lambda: (_stage(symbols, found), symbols, list(found.series)),
            )
        return self._stages[shared]

    def _read(self, candidate: Candidate) -> Gathered:
        watched = candidate.settings.in_mode("shadow" if self._options["models"] else "off")
        found = gather(self.source, watched, self.contracts, **self._options)
        # What is read by sessions only may be of any width, so also of that which something else reads.
        days = {Key(key.root, TIMEFRAMES_NS["1d"]): each for key, each in found.read.items()}
        found = replace(found, read=days | dict(found.read))
        self.warnings = list(dict.fromkeys([*self.warnings, *found.warnings]))
        return found


def _plain(array: NDArray[_Kind]) -> NDArray[_Kind]:
    return np.require(np.asarray(array), requirements="W")


def _kept(held: OrderedDict[str, Any], key: str, most: int, make: Callable[[], Any]) -> Any:
    """Return what is held by a key, made when it is not; of the others the newest stay."""
    if key not in held:
        while len(held) >= most:
            held.popitem(last=False)
        held[key] = make()
    return held[key]


def _stage(symbols: Sequence[Symbol], found: Gathered) -> Stage:
    marks = tuple(
        _marks(marks_frame(series, symbol.sessions, symbol.rule.first_date))
        for symbol, series in zip(symbols, found.series, strict=True)
    )
    days = np.unique(np.concatenate([each.days for each in marks]))
    return Stage(lay_ground(symbols, found), marks, days)


def _marks(frame: pl.DataFrame) -> Marks:
    days = day_numbers(frame["session_date"])
    return Marks(days, frame["close_ns"].to_numpy(), frame["mark"].to_numpy())
