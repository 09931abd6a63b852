"""A run as commands write it: what was found, with where it came from."""

from __future__ import annotations

import hashlib
import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.outcome import Outcome
    from ibs_core.report.run import Run

__all__ = ["package"]


def package(
    outcome: Outcome,
    settings: Settings,
    contracts: ContractMap,
    source: BarSource,
    *,
    roots: list[str] | None,
    span: tuple[date | None, date | None],
) -> Run:
    """Add to an outcome the configuration, the data and the versions that made it.

    Parameters
    ----------
    outcome : Outcome
    settings : Settings
    contracts : ContractMap
    source : BarSource
    roots : list of str or None
        As the command was asked for.
    span : tuple of (date or None, date or None)
        First and last session date, as the command was asked for.

    Returns
    -------
    Run
    """
    from ibs_core.config import resolved_yaml
    from ibs_core.report.run import Run
    from ibs_core.research.sample_data import is_generated

    text = resolved_yaml(settings)
    selection = {"symbols": roots, "start": span[0], "end": span[1]}
    warnings = [
        *outcome.warnings,
        *(f"{what}: {why}; left out" for what, why in source.skipped.items()),
    ]
    meta: dict[str, Any] = {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["ibs", *sys.argv[1:]]),
        "versions": _versions(),
        "data_digest": source.digest(),
        "contract_map_digest": contracts.digest,
        "generated_data": any(is_generated(path) for path in source.files),
        "config_hash": hashlib.sha256(f"{text}{selection}".encode()).hexdigest(),
        "selection": {key: str(value) if value else None for key, value in selection.items()},
        "warnings": warnings,
    }
    return Run(
        meta=meta,
        config_yaml=text,
        stats=outcome.stats,
        trades=outcome.trades,
        decisions=outcome.decisions,
        equity=outcome.equity,
        bars=outcome.bars,
        lows=outcome.lows,
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from ibs_core import __version__

    return {"ibs": __version__, **{name: version(name) for name in ("numba", "numpy", "polars")}}
