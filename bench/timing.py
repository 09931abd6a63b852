"""How the benchmarks measure: actions in turn, each at its best, and the loop that tells the machine's pace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ibs_core.kernels._jit import jit

N_LOOPS = 1_000
_VALUES = np.random.default_rng(0).random(N_LOOPS)


@jit
def _chain(values):
    """Run a dependent chain of float64 operations, ten a value: nothing can overlap, nothing is fetched."""
    value = 1.0
    for i in range(len(values)):
        for _ in range(10):
            value = value * 0.5 + values[i]
    return value


def loops():
    """Run the loop of calibration `N_LOOPS` times."""
    _chain(_VALUES)


def loop_s():
    """Return the seconds that one loop takes now."""
    before = time.perf_counter()
    loops()
    return (time.perf_counter() - before) / N_LOOPS


loops()  # it is compiled


def in_turn(benchmark, *actions, rounds, clock=time.perf_counter):
    """Time actions one after the other, round by round; return the least seconds of each.

    What else the machine does only ever adds; in turn, so that all have had the same chance of a quiet moment. The
    first round, which fills caches, is not counted.
    """
    taken = [[] for _ in actions]

    def one_round():
        for action, seconds in zip(actions, taken, strict=True):
            before = clock()
            action()
            seconds.append(clock() - before)

    benchmark.pedantic(one_round, rounds=rounds, warmup_rounds=1)
    return [min(seconds[1:]) for seconds in taken]


def against_loop(benchmark, *actions, rounds):
    """Time actions in turn with the loop; return the least seconds of each, then those of one loop.

    Of processor time: what only computes is not slower for having waited for its turn.
    """

    def pace():
        for _ in range(100):
            loops()

    *ours, all_loops = in_turn(benchmark, *actions, pace, rounds=rounds, clock=time.process_time)
    return *ours, all_loops / (100 * N_LOOPS)


def peak_mb():
    """Return the most memory that this process had; ``ru_maxrss`` would count that of its parent, too."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def in_process(code, *arguments):
    """Run Python code in a process of its own; return the JSON document that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    paths = os.pathsep.join(
        filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
    )
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    return json.loads(done.stdout.splitlines()[-1])
