"""The driver of a sweep: candidates to batches that share a stage, batches to processes, results to the disk.

A result enters the trial ledger before it enters the folder: a trial that was run is never missing from the count.
Both take it once, however often a sweep is killed and goes on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ibs_core.research.trial import Trial
from ibs_core.research.trial_ledger import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ibs_core.research.trial_ledger import TrialLedger
    from ibs_core.sweep.candidate import Candidate, CandidateMaker
    from ibs_core.sweep.decision_pass import Tried
    from ibs_core.sweep.folder import SweepFolder
    from ibs_core.sweep.paths import Value
    from ibs_core.sweep.stage import Stages
    from ibs_core.sweep.workers import Workers

__all__ = ["COMMAND", "Record", "Sweep", "number_of", "study_of"]

COMMAND: Final = "sweep"
_BATCH_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Record:
    """Where trials are recorded, and what of.

    Attributes
    ----------
    ledger : TrialLedger
    study : str
        As `study_of` names it.
    symbol : str
        What is traded, with commas.
    data_digest : str
    generated : bool
    clock : callable
        Returns UTC ns.
    """

    ledger: TrialLedger
    study: str
    symbol: str
    data_digest: str
    generated: bool
    clock: Callable[[], int]

    def append(self, candidate: Candidate, found: Tried) -> None:
        """Add a candidate to the ledger, unless it is there.

        Parameters
        ----------
        candidate : Candidate
        found : Tried
        """
        self.ledger.append(
            Trial(
                time_ns=self.clock(),
                command=COMMAND,
                study=self.study,
                number=number_of(candidate.digest),
                symbol=self.symbol,
                data_digest=self.data_digest,
                feature_digest="",  # the version in the study's name stands for the formulas
                parameters=candidate.rule,
                seed=0,
                sharpe=found.sharpe_per_session,
                n_trades=found.trades,
                generated=self.generated,
                sessions=found.dates,
                returns=found.returns,
            )
        )


class Sweep:
    """Tries candidates, each once, over any number of calls and processes.

    Parameters
    ----------
    maker : CandidateMaker
    stages : Stages
    record : Record
    folder : SweepFolder
    workers : Workers
    progress : callable
        Called with what is done and the number of candidates just tried.
    """

    def __init__(
        self,
        maker: CandidateMaker,
        stages: Stages,
        record: Record,
        folder: SweepFolder,
        *,
        workers: Workers,
        progress: Callable[[str, int], None],
    ) -> None:
        self._maker, self._stages, self._record, self._folder = maker, stages, record, folder
        self._workers, self._progress = workers, progress
        self.rows = folder.done()
        # What the ledger lacks is not counted: where it was lost, all is tried and counted anew.
        if record.ledger.count(Selection(study=record.study)) < len(self.rows):
            self.rows = {}

    def try_all(self, combinations: Sequence[tuple[Value, ...]]) -> list[float | None]:
        """Try combinations that were not tried yet.

        Parameters
        ----------
        combinations : sequence of tuple of JSON scalars

        Returns
        -------
        list of float or None
            Their Sharpe ratios per session.
        """
        wanted = [self._maker.make(values) for values in combinations]
        todo = {each.digest: each for each in wanted if each.digest not in self.rows}
        for tried in self._batches(list(todo.values())):
            for candidate, found in tried:
                self._record.append(candidate, found)
            for row in self._folder.keep(tried):
                self.rows[row["rule_digest"]] = row
            self._progress("", len(tried))
        return [self.rows[each.digest]["sharpe_per_session"] for each in wanted]

    def _batches(self, todo: list[Candidate]) -> Iterator[list[tuple[Candidate, Tried]]]:
        """Try candidates, those that share their bars and stages after each other."""
        by_number = {each.number: each for each in todo}
        groups: dict[str, dict[str, list[Candidate]]] = {}
        for each in todo:
            groups.setdefault(each.sharing[0], {}).setdefault(each.sharing[1], []).append(each)
        for group in (group for sharing in groups.values() for group in sharing.values()):
            stage = self._stages.get(group[0])
            size = max(1, min(_BATCH_MAX, len(group) // (4 * self._workers.n)))
            batches = [
                [self._stages.job(each) for each in group[first : first + size]]
                for first in range(0, len(group), size)
            ]
            for tried in self._workers.tried(stage, batches):
                yield [(by_number[each.number], each) for each in tried]


def study_of(**facts: Any) -> str:
    """Name the study of all sweeps over the same bars: in it a candidate is one trial, whichever grid it is of.

    Parameters
    ----------
    **facts
        JSON values: what a candidate's result depends on beside its rule.

    Returns
    -------
    str
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return f"{COMMAND}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def number_of(digest: str) -> int:
    """Return the number of a candidate within its study.

    Parameters
    ----------
    digest : str
        Of its rule, in hexadecimal.

    Returns
    -------
    int
        Of 60 bits: two of a million rules are alike once in two million studies.
    """
    return int(digest[:15], 16)
