# ruff: noqa: INP001  # beside the script that makes the page, not a package
"""The figures of docs/growth.md: processor time and peak memory of a back-test and its kin, size by size.

Each is measured in a process of its own, which has loaded and compiled everything by then; the least of some runs counts.
Times are those of all threads together, so a busy machine changes little. What the system takes is told apart: it is
mostly the handing out of fresh memory, whose price is the machine's.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from data import TWELVE, made

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CASES", "exponent_of", "measure"]

N_RUNS: Final = 3
OVERNIGHT: Final = {"exits": {"flat_by": None, "flat_before_early_close": False}}
ALWAYS: Final = {"ibs": [0.0, 1.0], "pivots": "none", "windows": []}
CASES: Final[dict[str, list[Any]]] = {
    "years": [1, 2, 4, 7, 10],
    "symbols": [1, 2, 4, 8, 12],
    "minutes": [[1, 1], [1, 4], [1, 10], [4, 10], [12, 10]],
    "bars": [1, 2, 4, 7, 10],
    "features": [1, 4, 16, 48, 144],
    "candidates": [4, 16, 64, 256, 1024],
    "trades": [300, 100, 30, 10, 3, 1],
}
"""Sizes of each case: years of one symbol; symbols of ten years; symbols and years of minutes under daily bars; years of
one-minute bars; features of ten years; candidates of a sweep; bars that trades are held, of five minutes."""
Row = dict[str, Any]


def measure(progress: Callable[[str], None]) -> dict[str, list[Row]]:
    """Measure all cases.

    Parameters
    ----------
    progress : callable
        Called with what comes next.

    Returns
    -------
    dict of str to list of dict
        Of each case, by size: ``n`` (how many of what it grows with), ``user_s``, ``system_s``, and in MB
        ``before`` (the process before it starts) and ``peak``.
    """
    for n_years in {1, *CASES["years"]}:  # none is made while something is measured
        _paths(1, n_years)
    runs = []
    for number in range(N_RUNS):  # outermost, so that each size has its chance of a quiet moment
        progress(f"run {number + 1} of {N_RUNS}")
        runs.append({case: [_apart(case, size) for size in sizes] for case, sizes in CASES.items()})
    return {
        case: [_least(rows) for rows in zip(*(run[case] for run in runs), strict=True)]
        for case in CASES
    }


def _least(rows: Sequence[Row]) -> Row:
    return {key: min(row[key] for row in rows) for key in rows[0]}


def exponent_of(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the power of the size that values grow with, over the larger half of the sizes.

    Fixed costs weigh least there, so that they do not pass for good growth.

    Parameters
    ----------
    sizes, values : sequence of float, > 0, in the order of the sizes

    Returns
    -------
    float
        1 where they grow as the size does.
    """
    half = slice(len(sizes) // 2, None)
    return float(np.polyfit(np.log(sizes[half]), np.log(values[half]), 1)[0])


def _apart(case: str, size: Any) -> Row:
    command = [sys.executable, __file__, case, json.dumps(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def _paths(n_symbols: int, n_years: int) -> list[Path]:
    """Name files of so many years, one a symbol; of less than ten years there is one symbol."""
    span = {"start": date(2015, 1, 2), "end": date(2014 + n_years, 12, 31)}
    roots = TWELVE if n_years == 10 else TWELVE[:1]
    folder = made(f"packed-{n_years}-years", roots=roots, **span)[0].parent
    return [folder / f"{root}.parquet" for root in TWELVE[:n_symbols]]


def _reset_peak() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the first call freed would hide what this one takes
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def _said(case: str, size: Any) -> Row:
    """Run a case: its preparation, at a small size first, then what is measured."""
    os.environ["IBS_CACHE_BYTES"] = "0"  # bars are read, not found
    with tempfile.TemporaryDirectory() as folder:
        _STEPS[case](CASES[case][0], Path(folder, "first"))()
        run = _STEPS[case](size, Path(folder))
        from timing import peak_mb  # noqa: PLC0415  (it compiles a loop)

        _reset_peak()
        before, began = peak_mb(), os.times()
        n = run()
        ended = os.times()
        spent = {"user_s": ended.user - began.user, "system_s": ended.system - began.system}
        return {"n": n, **spent, "before": before, "peak": peak_mb()}


def _traded(n_symbols: int, n_years: int, strategy: Row) -> Any:
    from ibs_core.backtest import trade  # noqa: PLC0415  # by the child alone
    from ibs_core.config import load_settings  # noqa: PLC0415
    from ibs_core.contracts import load_contract_map  # noqa: PLC0415
    from ibs_core.market_data import open_bars  # noqa: PLC0415

    contracts = load_contract_map()
    settings = load_settings(overrides={"strategy": strategy})
    return trade(open_bars(_paths(n_symbols, n_years), contracts), settings, contracts), settings


def _years(size: int, _: Path) -> Callable[[], float]:
    return lambda: size * len(_traded(1, size, {})[0].symbols)


def _symbols(size: int, _: Path) -> Callable[[], float]:
    return lambda: 10 * len(_traded(size, 10, {})[0].symbols)


def _minutes(size: Sequence[int], _: Path) -> Callable[[], float]:
    def run() -> float:
        traded, _ = _traded(*size, {"signal_bar": "1d", **OVERNIGHT})
        return float(sum(item.n_minutes for item in traded.series))

    return run


def _bars(size: int, _: Path) -> Callable[[], float]:
    def run() -> float:
        traded, _ = _traded(1, size, {"signal_bar": "1m", **OVERNIGHT})
        return len(traded.series[0].bars)

    return run


def _features(size: int, _: Path) -> Callable[[], float]:
    from ibs_core.config import load_settings  # noqa: PLC0415
    from ibs_core.contracts import load_contract_map  # noqa: PLC0415
    from ibs_core.feature_table import served, tabulate  # noqa: PLC0415
    from ibs_core.market_data import open_bars  # noqa: PLC0415

    contracts = load_contract_map()
    every = np.random.default_rng(0).permutation(served(contracts, ["ES"], []))
    names = every[:size].tolist()
    return lambda: sum(
        len(table.names)
        for table in tabulate(
            open_bars(_paths(1, 10), contracts), load_settings(), contracts, names=names
        )
    )


def _candidates(size: int, folder: Path) -> Callable[[], float]:
    from click.testing import CliRunner  # noqa: PLC0415

    from ibs_core.cli.sweep import sweep  # noqa: PLC0415

    side = round(size**0.5)
    bars = ",".join(map(str, range(1, side + 1)))
    uppers = ",".join(f"{0.1 + 0.005 * k:.3f}" for k in range(side))
    words = ["--parquet", str(_paths(1, 1)[0]), "--jobs", "1"]
    words += ["--grid", f"strategy.exits.bars={bars}", "--grid", f"strategy.entry.ibs.1={uppers}"]
    words += ["--out", str(folder / f"{size}"), "--models", str(folder / f"models-{size}")]

    def run() -> float:
        done = CliRunner().invoke(sweep, [*words, "--quiet"])
        assert done.exit_code == 0, done.output
        return size

    return run


def _trades(size: int, folder: Path) -> Callable[[], float]:
    from ibs_core.outcome import summarise  # noqa: PLC0415
    from ibs_core.report.folder import write_run  # noqa: PLC0415
    from ibs_core.report.run import META_KEYS, Run  # noqa: PLC0415
    from ibs_core.report.tear_sheet import render  # noqa: PLC0415

    exits = {"stop": None, "target": None, "ibs": None, "bars": size, **OVERNIGHT["exits"]}
    traded, settings = _traded(1, 10, {"signal_bar": "5m", "entry": ALWAYS, "exits": exits})
    meta = dict.fromkeys(META_KEYS, "") | {"created_utc": "2026-01-01T00:00:00Z", "versions": {}}
    meta |= {"generated_data": True, "warnings": []}

    def run() -> float:
        found = summarise(traded, settings)
        parts = (found.stats, found.trades, found.decisions, found.equity, found.bars, found.lows)
        one = Run(meta, "", *parts)
        write_run(one, folder, html=render(one))
        return found.trades.height

    return run


_STEPS: Final = {
    "years": _years,
    "symbols": _symbols,
    "minutes": _minutes,
    "bars": _bars,
    "features": _features,
    "candidates": _candidates,
    "trades": _trades,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_said(sys.argv[1], json.loads(sys.argv[2]))) + "\n")
