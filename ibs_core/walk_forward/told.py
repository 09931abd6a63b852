"""What a walk-forward says in words: its result, and what limits it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ibs_core.report.curve import Trials
from ibs_core.report.definitions import format_value
from ibs_core.research.trial_ledger import Selection
from ibs_core.sweep.results import FEW_TRADES
from ibs_core.sweep.run import COMMAND
from ibs_core.veto_value import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.sweep.run import Record
    from ibs_core.walk_forward.out_of_sample import Tested
    from ibs_core.walk_forward.results import Results

__all__ = ["choices", "notes_on", "sentences", "trials_of"]


def trials_of(record: Record, trained: Sequence[str] = ()) -> tuple[int, Trials | None]:
    """Count the trials behind the choices, as decision 0009 has it.

    Parameters
    ----------
    record : Record
    trained : sequence of str
        Symbols of which models were trained too.

    Returns
    -------
    int
        Every trial of every sweep and walk-forward, on data of the same kind: generated or not; with models every
        trial of every training too.
    Trials or None
        The same with the variance among the trials of these symbols, or among those of their models where that is
        larger; None where fewer than two have a ratio.
    """
    of = Selection(commands=(COMMAND,), generated=record.generated)
    own = [replace(of, symbol=record.symbol)]
    n_trials = record.ledger.count(of)
    if trained:
        from ibs_core.training.search import COMMAND as TRAINING  # noqa: PLC0415  (slow to import)

        of = replace(of, commands=(TRAINING,))
        own += [replace(of, symbol=root) for root in trained]
        n_trials += record.ledger.count(of)
    variances = [record.ledger.variance_of_sharpe(each) for each in own]
    known = [each for each in variances if each is not None]
    return n_trials, Trials(n_trials, max(known)) if known else None


def sentences(found: Results, total: Mapping[str, Any], n_trials: int) -> list[str]:
    """Say what was found.

    Parameters
    ----------
    found : Results
    total : mapping
        Statistics of the stitched run, by key of `METRICS`.
    n_trials : int
        Behind its parameters.

    Returns
    -------
    list of str
    """
    traded = [row for row in found.windows if row["parameters"] is not None]
    gained = sum((row["out_of_sample"]["usd_per_session"] or 0) > 0 for row in traded)
    within, without = (
        format_value(side["usd_per_session"], "usd")
        for side in (found.in_sample, found.out_of_sample)
    )
    kept = format_value(found.efficiency, "percent")
    lines = [
        f"out of sample {without} a session, in sample {within}: walk-forward efficiency {kept}"
        if found.efficiency is not None
        else f"out of sample {without} a session; in sample {within}, so there is no efficiency to tell",
        f"{gained} of {len(traded)} traded windows earned something out of sample",
        f"deflated Sharpe ratio {format_value(total['dsr'], 'percent')} after {n_trials:,} trials",
    ]
    if found.veto is not None:
        lines.append(_worth(found.veto))
    for path, own in found.stability.items():
        if own["most"] is not None and len(own["counts"]) > 1:
            lines.append(
                f"{path} changed at {own['changes']} of {own['of']} boundaries; "
                f"its most frequent value was chosen in {own['most']:.0%} of windows"
            )
    return lines


def _worth(veto: Mapping[str, Any]) -> str:
    value = format_value(veto["value_usd"], "usd")
    line = f"the vetoes were worth {value}: {veto['models']} of {veto['of']} models traded"
    if veto["interval_usd"] is None:
        return line
    low, high = (format_value(end, "usd") for end in veto["interval_usd"])
    return (
        f"{line}; {CONFIDENCE:.0%} of resamples of the sessions lie between {low} and {high}, "
        f"{veto['share_at_most_zero']:.0%} at or below 0"
    )


def notes_on(tested: Sequence[Tested], found: Results) -> list[str]:
    """Say what a reader must know of the numbers.

    Parameters
    ----------
    tested : sequence of Tested
    found : Results

    Returns
    -------
    list of str
    """
    windows = [each.fitted.window for each in tested]
    notes = []
    if skipped := [each.fitted.window.number for each in tested if each.fitted.candidate is None]:
        notes.append(
            f"no candidate traded in the training sessions of {len(skipped)} of {len(windows)} windows "
            f"({', '.join(map(str, skipped))}): their test sessions are not traded"
        )
    if windows[-1].n_test < windows[0].n_test:
        notes.append(f"the last window has {windows[-1].n_test} test sessions")
    without = {
        f"{each.fitted.window.number} {root}": veto.why
        for each in tested
        for root, veto in each.fitted.vetoes.items()
        if veto.model is None
    }
    if without:
        notes.append(
            f"traded without a veto, by window and symbol: {', '.join(without)}; the table of models says why"
        )
    n_trades = found.out_of_sample["trades"]
    if n_trades < FEW_TRADES:
        count = "a single trade" if n_trades == 1 else f"{n_trades} trades"
        notes.append(f"{count} out of sample: below {FEW_TRADES} the numbers are mostly chance")
    carried = sum(each.carried for each in tested[:-1])
    if carried and any(map(_limits_symbols, tested)):
        notes.append(
            f"{carried} positions outlasted their window: the limits over symbols of the next did not count them"
        )
    return notes


def _limits_symbols(tested: Tested) -> bool:
    if tested.fitted.candidate is None:
        return False
    risk = tested.fitted.candidate.settings.risk
    limits = (risk.max_positions, risk.max_total_quantity, risk.daily_loss_usd)
    return any(each is not None for each in limits)


def choices(tested: Sequence[Tested], paths: Sequence[str]) -> list[dict[str, Any]]:
    """List the windows with what they chose, for the record of the stitched run.

    Parameters
    ----------
    tested : sequence of Tested
    paths : sequence of str
        Of the parameters.

    Returns
    -------
    list of dict
        JSON values.
    """
    return [
        {
            "number": each.fitted.window.number,
            "train": [day.isoformat() for day in each.fitted.window.train],
            "test": [day.isoformat() for day in each.fitted.window.test],
            "parameters": dict(zip(paths, each.fitted.candidate.values, strict=True))
            if each.fitted.candidate
            else None,
        }
        | (
            {
                "models": {
                    root: veto.model.version if veto.model else None
                    for root, veto in each.fitted.vetoes.items()
                }
            }
            if each.fitted.vetoes
            else {}
        )
        for each in tested
    ]
