"""Checks before a start, of what orders need: the switch, the models, the route, the journal, the disk."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

from ibs_core import killswitch
from ibs_core.errors import ConfigError, EnvironmentFault, IbsError
from ibs_core.preflight import Found

if TYPE_CHECKING:
    from pathlib import Path

    from ibs_core.cli.preflight_start import Start
    from ibs_core.config import Settings

__all__ = ["clock", "disk", "journal", "kill_switch", "kill_switch_of", "models", "route"]

_SKEW_WARN_S: Final = 2.0
_SKEW_MAX_S: Final = 10.0
_MIB: Final = 1 << 20
_FREE_WARN: Final = 1024 * _MIB
_FREE_MIN: Final = 200 * _MIB


def kill_switch_of(settings: Settings, *, is_live: bool) -> tuple[bool, str]:
    """Tell whether the kill switch is on, by the configuration and the environment.

    Parameters
    ----------
    settings : Settings
    is_live : bool
        The run is armed on a live route.

    Returns
    -------
    is_on : bool
    why : str
    """
    configured = killswitch.expanded(settings.killswitch, os.environ)
    return killswitch.state_of(configured, os.environ.get(killswitch.VARIABLE), is_live=is_live)


def kill_switch(start: Start) -> Found:
    """See that nobody has stopped trading."""
    is_on, why = kill_switch_of(start.settings, is_live=start.destination.is_live)
    if is_on:
        remedy = "write `killswitch: off` or export POLICY_KILLSWITCH=off when orders may leave"
        # Of the configuration, which only a person changes: a supervisor must not start again and again.
        raise ConfigError(why, remedy=remedy)
    return Found(why)


def models(start: Start) -> Found:
    """Score the golden rows of each model, and see that it may trade for real where orders are real."""
    from ibs_core.cli.live_parts import refuse_generated_model
    from ibs_core.cli.veto_models import models_for

    opened = models_for(start.settings, start.contracts)
    if opened is None:
        return Found("model.mode is off", verdict="skipped")
    faults: list[IbsError] = []
    told: list[str] = []
    notes: list[str] = []
    for root in start.roots:
        try:
            model = opened(root)
            if start.destination.is_live:
                refuse_generated_model(root, start.settings)
        except IbsError as error:
            faults.append(error)
            continue
        told.append(
            f"{root} {model.version}, {len(model.features)} features, threshold {model.threshold:g}"
        )
        notes += model.notes
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise type(faults[0])("; ".join(map(str, faults)))
    if notes:
        remedy = "train it with this configuration, if the difference matters"
        return Found("; ".join(notes), remedy, "warning")
    return Found("; ".join(told))


def route(start: Start) -> Found:
    """See that the webhook is known, its host answers and nobody else sends to it."""
    if start.destination.route is None:
        return Found("orders are written to a file: nothing is armed", verdict="skipped")
    answer = start.answer
    if isinstance(answer, IbsError):
        raise answer
    from adapters.traderspost.sink import sender_lock
    from ibs_core.cli.live_sink import locks_folder, webhook_to

    webhook = webhook_to(start.destination.name, start.destination.route)
    os.close(sender_lock(webhook, locks_folder()))
    kind = start.destination.route.kind
    told = f"{start.destination.name}, of kind {kind}: its host answers, no other sender"
    if answer.status >= 500:
        remedy = "look at the receiver's status page before orders are due"
        return Found(f"{told}; HTTP {answer.status}", remedy, "warning")
    return Found(told)


def clock(start: Start) -> Found:
    """Compare the time of this machine with that of the route's host."""
    if start.destination.route is None:
        return Found("no host to compare with: nothing is armed", verdict="skipped")
    answer = start.answer
    if isinstance(answer, IbsError):
        return Found("not compared: no answer from the route", "see the check `route`", "warning")
    if answer.ahead_s is None:
        return Found("the route's host tells no time", verdict="skipped")
    off_s = abs(answer.ahead_s)
    told = f"{off_s:.1f} s {'ahead of' if answer.ahead_s > 0 else 'behind'} the route's host"
    remedy = "synchronise it: `timedatectl` tells whether the machine does"
    if off_s > _SKEW_MAX_S:
        raise EnvironmentFault(
            "clock of this machine",
            expected=f"that of the route's host within {_SKEW_MAX_S:g} s",
            found=told,
            remedy=remedy,
        )
    if off_s > _SKEW_WARN_S:
        return Found(told, remedy, "warning")
    return Found(f"within {_SKEW_WARN_S:g} s of the route's host")


def journal(start: Start) -> Found:
    """See that the journal can be written, by this process alone, and goes on by the same rule."""
    from adapters.sqlite_journal import SqliteJournal, has_writer
    from ibs_core.cli import options

    options.folder_of(start.path.parent, "--journal")
    if not start.path.exists():
        return Found(f"{start.path} will be made")
    if not os.access(start.path, os.R_OK | os.W_OK):
        raise EnvironmentFault(
            f"journal {start.path}",
            expected="a file that may be read and written",
            found="no permission",
            remedy="change its owner or mode",
        )
    if has_writer(start.path):
        raise EnvironmentFault(
            f"the journal {start.path} has a writer",
            remedy="end it first: one worker writes a journal",
        )
    with SqliteJournal(start.path, read_only=True) as held:
        start.refuse_other_rule(held)
        n_runs = len(held.runs())
    return Found(f"{start.path} goes on after {n_runs} run{'' if n_runs == 1 else 's'}")


def disk(start: Start) -> Found:
    """Measure the room for the journal and the history beside it."""
    kept = start.path.with_name("history-dbn")
    free = min(_free_bytes(start.path.parent), _free_bytes(kept))
    told = f"{free // _MIB:,} MiB free for the journal and the history beside it"
    if free < _FREE_MIN:
        raise EnvironmentFault(
            f"disk of {start.path.parent}",
            expected=f"{_FREE_MIN // _MIB} MiB free or more",
            found=told,
            remedy="free space: orders stop when the journal cannot be written",
        )
    if free < _FREE_WARN:
        return Found(told, "free space soon", "warning")
    return Found(told)


def _free_bytes(path: Path) -> int:
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free
