"""What purging, dropping and asking cost on top of the forests of a combinatorial cross-validation."""

from __future__ import annotations

import os

import numpy as np
import pytest
from timing import in_turn

pytest.importorskip("sklearn")

from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier

from ibs_core.research.purging import Labels, combinatorial
from ibs_core.research.stitching import stitch
from ibs_core.training.forests import ask, grow
from ibs_core.training.sample import Sample

N, N_FEATURES, N_KEPT, N_JOBS = 20_000, 164, 29, os.cpu_count()
PARAMETERS = {
    "n_estimators": 900,
    "max_depth": 5,
    "min_samples_leaf": 100,
    "max_features": "sqrt",
    "random_state": 1,
}


@pytest.fixture(scope="module")
def sample():
    random = np.random.default_rng(0)
    rows = random.normal(size=(N, N_FEATURES)).astype(np.float32)
    told = 0.3 * rows[:, 0] + 0.2 * rows[:, 3] + random.normal(size=N)
    target = (told > 0).astype(np.int64)
    session = np.arange(N) // 5
    start = np.arange(N, dtype=np.int64) * 10
    return Sample(
        *("ES", tuple(map(str, range(N_FEATURES))), rows, target, target - 0.5),
        labels=Labels(session, start, start + 8),
        exit_session=session,
        dates=np.arange(N // 5),
        idle=np.zeros(N // 5, bool),
    )


def one_split(sample, split, columns):
    forest = grow(sample.take(split.train), columns, PARAMETERS)
    return ask(forest, sample.take(split.test), columns)


def test_a_cross_validation_costs_what_its_forests_cost(benchmark, record, sample):
    columns = np.arange(N_KEPT)
    narrow = np.ascontiguousarray(sample.rows[:, columns])
    splits = combinatorial(sample.labels, n_groups=5, n_test=2, embargo=2)
    found = {}

    def ours():
        again = combinatorial(sample.labels, n_groups=5, n_test=2, embargo=2)
        tasks = [delayed(one_split)(sample, split, columns) for split in again]
        scores = Parallel(n_jobs=N_JOBS)(tasks)
        found["ours"] = scores
        stitch(again, np.arange(N) * 5 // N, scores)

    def theirs():
        found["theirs"] = []
        for split in splits:
            forest = RandomForestClassifier(**PARAMETERS, n_jobs=N_JOBS)
            forest.fit(narrow[split.train], sample.target[split.train])
            found["theirs"].append(forest.predict_proba(narrow[split.test])[:, 1])

    mine, plain = in_turn(benchmark, ours, theirs, rounds=1)
    for one, other in zip(found["ours"], found["theirs"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    record("cross-validation", mine, plain)
