"""What a candidate of a sweep costs a worker, bars and features being there, and what the worker takes."""

from __future__ import annotations

import pytest
from timing import against_loop, in_process

pytest.importorskip("joblib")

_SWEEP = """
import json, sys, time
import joblib
from timing import peak_mb
from ibs_core.config import Settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
from ibs_core.sweep.candidate import CandidateMaker
from ibs_core.sweep.decision_pass import try_jobs
from ibs_core.sweep.grid import read_grid
from ibs_core.sweep.stage import Stages

def there(stage, jobs):
    before = time.process_time()
    found = [(each.number, each.digest) for each in try_jobs(stage.arrived(), jobs)]
    return found, time.process_time() - before, peak_mb()

contracts, settings = load_contract_map(), Settings()
source = open_bars([sys.argv[1]], contracts)
roots = [root for root in contracts.contracts if root in source.roots]
grid = read_grid(["strategy.entry.ibs.1=0.10:0.28:0.02", "strategy.exits.bars=4,8,12,16"], settings)
span = {"start": None, "end": None}
maker = CandidateMaker(settings, contracts, roots, **span, paths=grid.paths)
made = [maker.make(values) for values in grid.combinations()]
stages = Stages(source, contracts, roots, **span, strict=False, progress=lambda *_: None)
stage, jobs = stages.get(made[0]), [stages.job(each) for each in made]
list(try_jobs(stage, jobs[:1]))
plain = [(each.number, each.digest) for each in try_jobs(stage, jobs)]
parallel = joblib.Parallel(n_jobs=2, mmap_mode="c")
list(parallel(joblib.delayed(there)(stage, jobs[:1]) for _ in range(2)))
parts = parallel(joblib.delayed(there)(stage, jobs[k : k + 5]) for k in range(0, len(jobs), 5))
assert sorted(sum((part[0] for part in parts), [])) == plain
print(json.dumps({
    "worker_s": sum(part[1] for part in parts) / len(jobs),
    "peak_mb": max(part[2] for part in parts),
}))
"""


def test_a_candidate_of_ten_years_and_twelve_symbols(benchmark, record, ten_years):
    found = []
    _, loop = against_loop(benchmark, lambda: found.append(in_process(_SWEEP, ten_years)), rounds=2)
    record("candidate", min(each["worker_s"] for each in found), loop)
    record("worker-peak", max(each["peak_mb"] for each in found))
