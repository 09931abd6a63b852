"""What was read from a run folder is what this version renders, or says why it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import DataError
from ibs_core.report.definitions import METRICS
from ibs_core.report.stored_form import form_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.report.run import Run

__all__ = ["completed", "in_order", "not_kept"]

_NOT_KEPT: Final = "not kept by the version that wrote the run"
_TABLES: Final = {
    "by_hour": "trades by hour",
    "by_weekday": "trades by weekday",
    "by_year": "trades by year",
    "forward_returns": "forward returns by IBS",
}


def completed(stats: dict[str, Any], where: str) -> dict[str, Any]:
    """Give every block of statistics all keys of `METRICS`.

    Parameters
    ----------
    stats : dict
        The content of ``stats.json``, of this version or an earlier one.
    where : str
        Its file, for messages.

    Returns
    -------
    dict
        As `Run.stats`; what an earlier version did not compute is None with that reason. Tables that it
        did not have stay absent: `not_kept` names them.

    Raises
    ------
    DataError
        These are no statistics of a run.
    """
    if fault := form_fault(stats):
        raise DataError(
            "run file holds no statistics of a run",
            found=fault,
            where=where,
            remedy="run the back-test again",
        )
    apart = stats.get("inside_training")
    found = {**stats, "total": _block(stats["total"]), "by_symbol": _blocks(stats["by_symbol"])}
    if apart:
        found["inside_training"] = apart | {
            "total": _block(apart["total"]),
            "by_symbol": _blocks(apart["by_symbol"]),
        }
    return {"first_session": None, "last_session": None} | found


def in_order(value: Any, names: Sequence[str]) -> Any:
    """Bring symbols back into their order, which the sorted keys of a file have lost.

    Parameters
    ----------
    value : JSON value
    names : sequence of str
        Symbols, and what stands for all of them, in order.

    Returns
    -------
    JSON value
        Every dictionary in it that has no other keys is in this order.
    """
    if isinstance(value, list):
        return [in_order(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    keys = [name for name in names if name in value] if value.keys() <= set(names) else list(value)
    return {key: in_order(value[key], names) for key in keys}


def not_kept(run: Run) -> list[str]:
    """Name what the version that wrote a run did not keep, and this one shows.

    Parameters
    ----------
    run : Run

    Returns
    -------
    list of str
        Empty for a run of this version.
    """
    names = [text for key, text in _TABLES.items() if key not in run.stats]
    notes = run.stats["total"].get("undefined") or {}
    gone = [metric.label for metric in METRICS if notes.get(metric.key) == _NOT_KEPT]
    if gone:
        names.append(f"{len(gone)} statistics, {', '.join(gone[:3])} among them")
    if run.lows.height != run.equity.height:
        names.append("intrabar lows")
    if run.equity.height and not run.bars:
        names.append("signal bars, for the price chart")
    return names


def _blocks(blocks: dict[str, Any]) -> dict[str, Any]:
    return {name: _block(block) for name, block in blocks.items()}


def _block(block: dict[str, Any]) -> dict[str, Any]:
    gone = dict.fromkeys(metric.key for metric in METRICS if metric.key not in block)
    if not gone and "undefined" in block:
        return block
    known = block.get("undefined", {})
    return {**block, **gone, "undefined": known | dict.fromkeys(gone, _NOT_KEPT)}
