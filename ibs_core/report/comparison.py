"""Runs beside each other: every statistic, its difference from the first run, and whether they compare at all."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from ibs_core.report.definitions import METRICS, format_value
from ibs_core.report.stored import not_kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.report.definitions import Unit
    from ibs_core.report.run import Run

__all__ = ["compared", "config_changes", "doubts", "format_difference"]

_ALIKE: Final = {
    "data_digest": "They read different market data.",
    "contract_map_digest": "They use different contract maps.",
}


def compared(runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Set every statistic of the portfolio beside that of the other runs.

    Parameters
    ----------
    runs : mapping of str to Run
        By name; the first is what the others are compared with.

    Returns
    -------
    list of dict
        In the order of `METRICS`: ``key``, ``label``, ``unit``, ``group``, ``values`` of each run and
        ``differences`` of each but the first, None where either is undefined.
    """
    rows = []
    for metric in METRICS:
        first, *rest = values = [run.stats["total"][metric.key] for run in runs.values()]
        rows.append(
            {
                "key": metric.key,
                "label": metric.label,
                "unit": metric.unit,
                "group": metric.group,
                "values": values,
                "differences": [
                    None if value is None or first is None else value - first for value in rest
                ],
            }
        )
    return rows


def format_difference(value: float | None, unit: Unit) -> str:
    """Print a difference with its sign; one of percents in percentage points.

    Parameters
    ----------
    value : float or None
    unit : str
        As `Metric.unit`.

    Returns
    -------
    str
    """
    text = format_value(value, unit)
    if value is None:
        return text
    if unit == "percent":
        text = text.replace("%", " pp")
    is_zero = not any(digit in text for digit in "123456789")
    return text if value < 0 or is_zero else f"+{text}"


def doubts(runs: Mapping[str, Run]) -> list[str]:
    """Say what makes a difference between runs mean less than it seems.

    Parameters
    ----------
    runs : mapping of str to Run

    Returns
    -------
    list of str
        Sentences; empty where data, span, capital and versions are the same.
    """
    all_runs = list(runs.values())
    told = [text for key, text in _ALIKE.items() if len({run.meta[key] for run in all_runs}) > 1]
    spans = {(run.stats["first_session"], run.stats["last_session"]) for run in all_runs}
    if len(spans) > 1:
        told.append("Their statistics are of different sessions.")
    if len({run.stats["capital_usd"] for run in all_runs}) > 1:
        told.append("Their stated capital differs: compare what is a share of it.")
    if len({tuple(run.stats["by_symbol"]) for run in all_runs}) > 1:
        told.append("They trade different symbols.")
    if len({run.meta["versions"].get("ibs") for run in all_runs}) > 1:
        told.append("They were made by different versions.")
    if len({bool(run.meta["generated_data"]) for run in all_runs}) > 1:
        told.append("Some are of generated data and some are not.")
    for name, run in runs.items():
        n_inside = sum(
            each["trades"] for each in (run.stats.get("training_windows") or {}).values()
        )
        if n_inside:
            then = "leave them out" if "inside_training" in run.stats else "count them"
            told.append(
                f"{n_inside:,} of {run.trades.height:,} trades of {name} lie in a training window; its statistics {then}."
            )
        if gone := not_kept(run):
            told.append(f"The version that wrote {name} did not keep: {'; '.join(gone)}.")
    return told


def config_changes(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """List the lines of settings in which runs differ from the first.

    Parameters
    ----------
    runs : mapping of str to Run

    Returns
    -------
    dict of str to list of str
        By name, the first left out: lines that begin with ``-`` (of the first) or ``+`` (of this one).
    """
    (_, first), *rest = runs.items()
    old = first.config_yaml.splitlines()
    return {
        name: [
            line
            for line in difflib.ndiff(old, run.config_yaml.splitlines())
            if line.startswith(("- ", "+ "))
        ]
        for name, run in rest
    }
