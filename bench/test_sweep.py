"""A sweep's decision passes against whole back-tests of the same bars, and what a worker takes."""

from __future__ import annotations

import json
import os

import pytest
from conftest import TWELVE, in_process, tell

pytest.importorskip("joblib")

TARGET_S = 60.0  # a thousand candidates on two cores, features built
SHARE = 0.06  # of a whole back-test, the reading included
WORKER_PEAK_MB = 1000

_SWEEP = """
import json, os, resource, sys, time
import joblib, numpy as np
from ibs_core.backtest import trade
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found, time.process_time() - before, peak

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
before = time.process_time()
plain = [(each.number, each.digest) for each in try_jobs(stage, jobs)]
alone = (time.process_time() - before) / len(jobs)
parallel = joblib.Parallel(n_jobs=2, mmap_mode="c")
list(parallel(joblib.delayed(there)(stage, jobs[:1]) for _ in range(2)))
before = time.perf_counter()
parts = parallel(joblib.delayed(there)(stage, jobs[k : k + 5]) for k in range(0, len(jobs), 5))
wall = time.perf_counter() - before
assert sorted(sum((part[0] for part in parts), [])) == plain
before = time.process_time()
trade(source, settings, contracts)
whole = time.process_time() - before
print(json.dumps({
    "alone_s": alone, "wall_s": wall / len(jobs), "whole_s": whole,
    "worker_s": sum(part[1] for part in parts) / len(jobs),
    "peak_mb": max(part[2] for part in parts),
}))
"""


def test_a_thousand_candidates_of_ten_years_and_twelve_symbols(benchmark, ten_years, capsys):
    rounds = [in_process(_SWEEP, ten_years) for _ in range(2)]
    best = min(rounds, key=lambda found: found["worker_s"])
    thousand_s = 1000 * best["worker_s"] / 2
    benchmark.extra_info.update(json.loads(json.dumps(best)), thousand_s=thousand_s)
    benchmark.pedantic(lambda: None, rounds=1)
    tell(
        capsys,
        f"a candidate {best['worker_s'] * 1e3:.0f} ms of one core ({len(TWELVE)} symbols, ten years), "
        f"{best['worker_s'] / best['whole_s']:.3f} of a back-test; a thousand on two cores "
        f"{thousand_s:.0f} s of work, {1000 * best['wall_s']:.0f} s by the clock beside a load of "
        f"{os.getloadavg()[0]:.1f}; a worker's peak {best['peak_mb']:.0f} MB",
    )
    assert thousand_s <= TARGET_S
    assert best["worker_s"] <= SHARE * best["whole_s"]
    assert best["peak_mb"] <= WORKER_PEAK_MB
