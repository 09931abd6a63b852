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
import pytest
from test_feature_graphs import FIVE
from timing import against_loop

from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.feature_table import tabulate
from ibs_core.market_data import open_bars

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


@pytest.mark.parametrize("name", ["aggregate", "observe", "decide"])
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
