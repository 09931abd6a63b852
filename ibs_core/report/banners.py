"""What a reader must know before any number: above the headline of a report."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from ibs_core.report.stored import not_kept
from ibs_core.report.veto_panel import missing_features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibs_core.report.run import Run

__all__ = ["SHORT_SAMPLE", "banners", "boxed"]

SHORT_SAMPLE: Final = 100
"""Below this many trades the report says that the sample is short."""

_FEATURES_SHOWN: Final = 8


def banners(run: Run) -> str:
    """Say what limits the worth of a run's numbers.

    Parameters
    ----------
    run : Run

    Returns
    -------
    str
        HTML; empty where nothing does.
    """
    return boxed([*_notes(run), *_warnings(run)])


def boxed(notes: list[str]) -> str:
    """Put notes, as HTML, into one box; none without one."""
    return f"<aside class='note' role='note'>{''.join(notes)}</aside>" if notes else ""


def _notes(run: Run) -> Iterator[str]:
    n_trades = run.stats["total"]["trades"]
    if run.meta["generated_data"]:
        yield (
            "<p><strong>Generated data.</strong> These prices were made by a random generator; "
            "the results say nothing about any market.</p>"
        )
    if n_trades < SHORT_SAMPLE:
        count = "No trades" if not n_trades else f"{n_trades} trade{'s'[: n_trades != 1]}"
        yield (
            f"<p><strong>Short sample.</strong> {count}; below {SHORT_SAMPLE} the statistics "
            "are mostly chance.</p>"
        )
    if told := _training(run):
        yield f"<p><strong>Trades inside training windows.</strong> {told}</p>"
    if told := _missing(run):
        yield f"<p><strong>Features missing.</strong> {told}</p>"
    if gone := not_kept(run):
        yield (
            f"<p><strong>An earlier run.</strong> The version that wrote it did not keep: "
            f"{escape('; '.join(gone))}. Those panels are left out; run the back-test again.</p>"
        )


def _training(run: Run) -> str:
    windows = run.stats.get("training_windows") or {}
    n_inside = sum(each["trades"] for each in windows.values())
    n_trades, apart = run.trades.height, "inside_training" in run.stats
    if apart and n_inside == n_trades > 0:
        return "No out-of-sample trade: every trade lies in the training window of its model."
    if not n_inside:
        return ""
    told = "the statistics leave them out" if apart else "the statistics count them all the same"
    return (
        f"{n_inside:,} of {n_trades:,} trades lie in a training window; {told}. What a model was trained on "
        "is no evidence of it."
    )


def _missing(run: Run) -> str:
    found = missing_features(run.stats.get("blocked") or {})
    if not found:
        return ""
    told = [
        f"{name} at {sum(counts.values()):,} signal bars of {', '.join(counts)}"
        for name, counts in sorted(found.items(), key=lambda each: -sum(each[1].values()))
    ]
    more = len(told) - _FEATURES_SHOWN
    text = "; ".join(told[:_FEATURES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return f"{escape(text)}. No entry is taken there."


def _warnings(run: Run) -> Iterator[str]:
    # The training windows have a banner of their own, made from the numbers themselves.
    own = [
        text for text in map(str, run.meta["warnings"]) if "lie in the training window" not in text
    ]
    if own:
        items = "".join(f"<li>{escape(text)}</li>" for text in own)
        yield f"<p><strong>Warnings.</strong></p><ul>{items}</ul>"
