"""Processes that work for another end with it, even when it is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("joblib")

from joblib import delayed

from ibs_core.research.processes import processes

AT_WORK = """
import os, signal, sys
from joblib import delayed
from ibs_core.research.processes import processes
def work(path):
    with open(path, "w") as told:
        told.write(f"{os.getpid()}\\n")
    signal.pause()
processes(2)(delayed(work)(path) for path in sys.argv[1:])
"""
PATIENCE_S = 120


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no system that tells of an end")
def test_processes_at_work_end_with_one_that_is_killed(tmp_path):
    pipes = [str(tmp_path / name) for name in "ab"]
    for pipe in pipes:
        os.mkfifo(pipe)
    parent = subprocess.Popen([sys.executable, "-c", AT_WORK, *pipes], stderr=subprocess.DEVNULL)
    workers = []
    try:
        workers += [os.pidfd_open(int(Path(pipe).read_text())) for pipe in pipes]
        parent.kill()
        assert parent.wait() == -signal.SIGKILL
        for worker in workers:
            assert select.select([worker], [], [], PATIENCE_S)[0]
    finally:
        parent.kill()
        for worker in workers:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker, signal.SIGKILL)
            os.close(worker)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_work_is_done_in_order(n_jobs):
    assert processes(n_jobs)(delayed(pow)(k, 2) for k in range(5)) == [0, 1, 4, 9, 16]
