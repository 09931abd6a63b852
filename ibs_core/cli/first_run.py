"""The first run of a version: kernels are compiled by two processes at once.

Numba compiles on one core. What decides trades shares next to nothing with what observes bars and takes a third
of the time, so another process compiles it meanwhile; the command finds it in the folder when it gets there.
Without that process, or before it is done, the command compiles everything itself.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

__all__ = ["compile_beside", "compile_decisions"]

_started: list[subprocess.Popen[bytes]] = []  # held: nobody waits for them


def compile_beside() -> None:
    """Start a process that compiles what decides trades, where there is a core for it."""
    if len(os.sched_getaffinity(0)) > 1:
        command = [sys.executable, "-m", __name__]
        with contextlib.suppress(OSError):
            _started.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
            )


def compile_decisions() -> None:
    """Decide the trades of no symbols, which compiles all that decides trades."""
    import numpy as np

    from ibs_core.backtest import decide
    from ibs_core.bars import BAR, PATH, SESSION
    from ibs_core.decisions import INPUT, RISK
    from ibs_core.groundwork import Laid
    from ibs_core.replay import FEED
    from ibs_core.signals import PARAMS, SCHEDULE, SIGNAL

    nothing = Laid(*(np.zeros(0, kind) for kind in (BAR, PATH, SESSION, FEED)))
    params, schedule, seen, told = (np.zeros(0, x) for x in (PARAMS, SCHEDULE, SIGNAL, INPUT))
    decide(nothing, params, np.zeros(1, RISK), schedule, seen, told)


if __name__ == "__main__":
    compile_decisions()
