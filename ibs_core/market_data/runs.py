"""A run of minutes: columns of one contract, the only form in which bars leave this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

__all__ = ["PRICES", "Floats", "Ints", "MinuteRun", "base_ns", "run_of", "stamp"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True, eq=False)
class MinuteRun:
    """Consecutive minutes of one contract of one root. Arrays are C-contiguous and read-only.

    Parameters
    ----------
    root : str
    instrument : str
        ``ESZ2025`` when the contract is known, else the root or the continuous name.
    contract_id : int, >= 0
        Counts the contracts of the root in the order in which they come.
    ts_ns : (n_minutes,) int64, UTC ns, n_minutes >= 1
        Opens of the minutes.
    open, high, low, close : (n_minutes,) float64, price units
        NaN where the file has no price. Runs from `BarSource.load` hold none.
    volume : (n_minutes,) float64 or None
        NaN where unknown; None when unknown throughout the run, or not asked for.
    irregular : bool
        This run does not continue the root's earlier ones: its contract was left before, or it
        starts before they end. It is the root's last run; only `BarSource.load` can sort it out.
    """

    root: str
    instrument: str
    contract_id: int
    ts_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats | None = None
    irregular: bool = False

    @property
    def n_minutes(self) -> int:
        """Minutes of the run."""
        return len(self.ts_ns)


def run_of(
    frame: pl.DataFrame, root: str, instrument: str, contract_id: int, *, irregular: bool = False
) -> MinuteRun:
    """Wrap the columns of a frame, without a copy where Polars allows it.

    Parameters
    ----------
    frame : polars.DataFrame
        ``ts_ns`` Int64 without nulls, the four prices Float64, ``volume`` Float64 or absent.
    root, instrument : str
    contract_id : int
    irregular : bool

    Returns
    -------
    MinuteRun
    """
    opening, high, low, close = (_view(frame[name]) for name in PRICES)
    volume = None
    if "volume" in frame.columns and frame["volume"].null_count() < frame.height:
        volume = _view(frame["volume"])
    return MinuteRun(
        root,
        instrument,
        contract_id,
        _view(frame["ts_ns"]),
        opening,
        high,
        low,
        close,
        volume,
        irregular=irregular,
    )


def base_ns(runs: Iterable[MinuteRun]) -> int:
    """Return the width of the bars: the smallest positive step between neighbours of one contract.

    Parameters
    ----------
    runs : Iterable of MinuteRun
        Of one root, in order.

    Returns
    -------
    int, ns
        60e9 for minutes, 300e9 for five-minute bars; 0 when no contract has two bars.
    """
    width = 0
    last: tuple[int, int] | None = None
    for run in runs:
        steps = np.diff(run.ts_ns)
        if last is not None and last[0] == run.contract_id:
            steps = np.append(steps, run.ts_ns[0] - last[1])
        steps = steps[steps > 0]
        if steps.size:
            width = min(width or int(steps.min()), int(steps.min()))
        last = (run.contract_id, int(run.ts_ns[-1]))
    return width


def stamp(ts_ns: int) -> str:
    """Return an instant as ``2025-03-03T14:30:00Z``.

    Parameters
    ----------
    ts_ns : int, UTC ns
    """
    whole = ts_ns % 10**9 == 0
    return f"{np.datetime64(ts_ns // 10**9, 's') if whole else np.datetime64(ts_ns, 'ns')}Z"


def _view(column: pl.Series) -> NDArray[Any]:
    # Polars hands out read-only views, but a writable copy where there are nulls; compiled kernels
    # see two types in that, and would compile twice.
    array = column.to_numpy()
    array.flags.writeable = False
    return array
