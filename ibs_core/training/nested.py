"""Many searches at once: one on all rows, and one inside the training part of every split that judges."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from ibs_core.errors import EnvironmentFault
from ibs_core.research.processes import processes
from ibs_core.research.trial_ledger import Selection
from ibs_core.training.forests import ask, grow
from ibs_core.training.search import Found, prepare, search
from ibs_core.training.selection import columns_of, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ibs_core.research.purging import Split
    from ibs_core.training.plan import Plan
    from ibs_core.training.sample import Sample
    from ibs_core.training.search import Record

__all__ = ["Searched", "search_all"]

Floats = NDArray[np.float64]

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """What a search found, and what that selects outside.

    Attributes
    ----------
    found : Found
    selected : (n_test,) float64 or None
        1 for the test rows that are taken, else 0; None of a search on all rows.
    """

    found: Found
    selected: Floats | None


def search_all(
    sample: Sample,
    parts: Mapping[str, Split | None],
    plan: Plan,
    record: Record,
    progress: Callable[[str, int], None],
) -> dict[str, Searched]:
    """Search in several parts of the rows, in processes of their own.

    Parameters
    ----------
    sample : Sample
    parts : mapping of str to Split or None
        Name of each search and the split inside whose training part it runs; None: on all rows. The longest
        first, so that no process waits for it at the end.
    plan : Plan
    record : Record
    progress : callable
        Called with the symbol and the number of trials just done.

    Returns
    -------
    dict
        In the order of `parts`.
    """
    prepare(record.studies)
    tasks = [
        delayed(_search_one)(name, sample, split, plan, record) for name, split in parts.items()
    ]
    done: dict[str, Searched] = {}
    with _watched(list(parts), sample.symbol, plan.trials, record, progress) as ended:
        for name, searched in processes(plan.jobs, return_as="generator_unordered")(tasks):
            done[name] = searched
            ended(name)
    return {name: done[name] for name in parts}


def _search_one(
    name: str, sample: Sample, split: Split | None, plan: Plan, record: Record
) -> tuple[str, Searched]:
    """Search inside one training part, and select in the test part with what was found."""
    if split is None:
        return name, Searched(search(sample, plan, record, name), None)
    inside, outside = sample.take(split.train), sample.take(split.test)
    found = search(inside, plan, record, name)
    selected = np.zeros(len(outside))
    if found.parameters is not None:
        columns = columns_of(rank(inside, plan), found.parameters["keep"])
        forest = grow(inside, columns, found.parameters)
        if forest is not None:
            scores = ask(forest, outside, columns)
            selected = (scores >= np.float32(found.threshold)).astype(np.float64)
    return name, Searched(found, selected)


@contextmanager
def _watched(
    names: list[str],
    symbol: str,
    n_trials: int,
    record: Record,
    progress: Callable[[str, int], None],
) -> Iterator[Callable[[str], None]]:
    """Tell of trials as other processes put them into the ledger; those of an earlier run count as done.

    The ledger is what all processes share, so it is looked at now and then. Nothing depends on what is seen.
    """
    told, lock, stop = dict.fromkeys(names, 0), Lock(), Event()

    def tell(name: str, n_done: int) -> None:
        with lock:
            if n_done > told[name]:
                progress(symbol, n_done - told[name])
                told[name] = n_done

    def look() -> None:
        while not stop.wait(_LOOK_EVERY_S):
            for name in names:
                if told[name] < n_trials:
                    try:
                        n_done = record.ledger.count(Selection(study=record.study(name)))
                    except EnvironmentFault:
                        break  # a locked ledger, as a rule; the search itself says what is wrong with it
                    tell(name, min(n_done, n_trials))

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda name: tell(name, n_trials)
    finally:
        stop.set()
        watcher.join()
