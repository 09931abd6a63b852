"""What one minute, one signal bar and one decision cost, alone: by the clock, and in instructions, which no load moves."""

from __future__ import annotations

import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import kernel_calls
import numpy as np
import pytest
from test_feature_graphs import FIVE
from timing import against_loop

from ibs_core.backtest import trade
from ibs_core.bars import BAR, PATH, SESSION
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.feature_table import tabulate
from ibs_core.kernels import aggregate
from ibs_core.market_data import open_bars
from ibs_core.series import make_plan

HOUR_NS = 3600 * 10**9
N_MINUTES = 300_000
N_TIMES = 20
PLAIN = {
    "NUMBA_CPU_NAME": "generic",  # valgrind knows no AVX-512; and the same code everywhere
    "NUMBA_CPU_FEATURES": "",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


@pytest.fixture(scope="module")
def calls(three_symbols):
    """The longest call of each kernel, of three symbols and a year: a back-test, and a table of five features."""
    contracts, settings = load_contract_map(), load_settings()

    def run():
        list(tabulate(open_bars([three_symbols], contracts), settings, contracts, names=FIVE))
        trade(open_bars([three_symbols], contracts), settings, contracts)

    with pytest.MonkeyPatch.context() as patch:
        return kernel_calls.keep_calls(run, patch)


def test_aggregation_of_a_minute(benchmark, record):
    rng = np.random.default_rng(0)
    close = 5000 + np.cumsum(rng.integers(-2, 3, N_MINUTES)) * 0.25
    ts = np.arange(N_MINUTES) * 60 * 10**9 + 1_704_067_200 * 10**9
    opens = np.arange(ts[0] - 24 * HOUR_NS, ts[-1] + 48 * HOUR_NS, 24 * HOUR_NS)
    sessions = np.zeros(len(opens), SESSION)
    sessions["open_ns"] = opens
    for name in ("close_ns", "break_start_ns", "break_end_ns"):
        sessions[name] = opens + 23 * HOUR_NS
    plan = make_plan(HOUR_NS, with_path=False, mark_ns=0, allow_nonpositive=False)
    bars, days = np.zeros(N_MINUTES, BAR), np.zeros(N_MINUTES, BAR)

    def run():
        state, n = aggregate.new_state(), np.zeros(3, np.int64)
        columns = (close, close + 0.5, close - 0.5, close)
        rest = (np.zeros(0), bars, days, np.zeros(0, PATH), n)
        assert aggregate.step(state[0], plan[0], sessions, ts, *columns, *rest) < 0

    ours, loop = against_loop(benchmark, run, rounds=25)
    record("aggregate", ours / N_MINUTES, loop)


@pytest.mark.parametrize("name", ["observe", "decide"])
def test_a_kernel_of_the_backtest(benchmark, record, calls, name):
    n, blob = calls[name]
    rounds, kernel = 25, kernel_calls.kernel_of(name)
    arguments = iter([pickle.loads(blob) for _ in range(rounds + 1)])
    ours, loop = against_loop(benchmark, lambda: kernel(*next(arguments)), rounds=rounds)
    record(name, ours / n, loop)


@pytest.mark.skipif(
    not shutil.which("valgrind") or platform.machine() != "x86_64",
    reason="instructions are counted by valgrind, and budgets are of x86-64",
)
def test_instructions_of_kernels(benchmark, record, calls, tmp_path):
    kept = tmp_path / "calls.pickle"
    kept.write_bytes(pickle.dumps({name: blob for name, (_, blob) in calls.items()}))

    def again(chosen, *tool):
        command = [*tool, sys.executable, kernel_calls.__file__, kept, chosen, str(N_TIMES)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | PLAIN
        )
        return done.stderr

    def counted(chosen):
        callgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}")
        found = re.search(r"Collected : (\d+)", again(chosen, *callgrind))
        return int(found[1])

    def count():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(counted, ["none", *calls]))

    again("none")  # the kernels are compiled for a plain processor, without valgrind
    start, *found = benchmark.pedantic(count)
    for (name, (n, _)), instructions in zip(calls.items(), found, strict=True):
        record(f"{name}-instructions", (instructions - start) / (N_TIMES * n))
