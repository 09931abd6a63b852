"""What models did with the candidates of a run, as its decisions tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from ibs_core.report.run import Run

__all__ = ["missing_features", "scored", "veto_rows"]

_MISSING = "vetoed:missing "


def scored(decisions: pl.DataFrame) -> pl.DataFrame:
    """Take the candidates that a model scored.

    Parameters
    ----------
    decisions : polars.DataFrame
        Schema `DECISIONS`.

    Returns
    -------
    polars.DataFrame
        The rows of entries with a score and a threshold.
    """
    return decisions.filter(
        (pl.col("action") == "entry")
        & pl.col("score").is_not_null()
        & pl.col("threshold").is_not_null()
    )


def veto_rows(run: Run) -> list[dict[str, Any]]:
    """Tell for each symbol that has a model what it did.

    Parameters
    ----------
    run : Run

    Returns
    -------
    list of dict
        ``symbol``, ``version`` (empty where it is not known), ``threshold``, ``scored``, ``below`` (the
        threshold), ``vetoed`` (for its score), ``missing`` (vetoed for a feature), ``vetoed_net_usd`` (of
        those the model had not learnt from, each followed alone; None where it is not known).
    """
    windows = run.stats.get("training_windows") or {}
    entries = run.decisions.filter(pl.col("action") == "entry")
    known = scored(run.decisions)
    symbols = [s for s in run.stats["by_symbol"] if s in windows or s in set(known["symbol"])]
    rows = []
    for symbol in symbols:
        own, scores = (each.filter(pl.col("symbol") == symbol) for each in (entries, known))
        reason = own["reason"]
        rows.append(
            {
                "symbol": symbol,
                "version": windows.get(symbol, {}).get("version", ""),
                "threshold": scores["threshold"].max(),
                "scored": scores.height,
                "below": scores.filter(pl.col("score") < pl.col("threshold")).height,
                "vetoed": int((reason == "vetoed").sum()),
                "missing": int(reason.str.starts_with(_MISSING).sum()),
                "vetoed_net_usd": run.stats["by_symbol"][symbol]["vetoed_net_usd"],
            }
        )
    return rows


def missing_features(blocked: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Count the signal bars that were not traded because a feature had no value.

    Parameters
    ----------
    blocked : dict of str to dict of str to int
        ``stats["blocked"]``: by symbol and gate.

    Returns
    -------
    dict of str to dict of str to int
        By feature and symbol; empty where none was missing.
    """
    found: dict[str, dict[str, int]] = {}
    for symbol, counts in blocked.items():
        for gate, count in counts.items():
            name = ""
            if gate.startswith(_MISSING):
                name = gate.removeprefix(_MISSING)
            elif gate.endswith(" missing"):
                name = gate.removesuffix(" missing")
            if name and count:
                own = found.setdefault(name, {})
                own[symbol] = own.get(symbol, 0) + count
    return found
