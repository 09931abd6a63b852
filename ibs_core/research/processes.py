"""Other processes of this machine that end when the one that started them does, even when it is killed.

joblib's workers know nothing of their parent: killed, it leaves them at work, and then idle for five minutes.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Any

import joblib

__all__ = ["processes"]


def processes(n_jobs: int, **options: Any) -> joblib.Parallel:
    """Divide work among processes.

    Parameters
    ----------
    n_jobs : int
        Of this machine, 1: this one, -1: one a core.
    **options
        As `joblib.Parallel` takes them.

    Returns
    -------
    joblib.Parallel
    """
    return joblib.Parallel(n_jobs, initializer=_end_with, initargs=(os.getpid(),), **options)


def _end_with(parent: int) -> None:
    """Let this process end with another.

    Rejected: PR_SET_PDEATHSIG, which tells of the thread that started the process, not of its process.
    """
    if not hasattr(os, "pidfd_open"):
        return  # a system that does not tell
    try:
        ended = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    threading.Thread(target=_wait, args=(ended,), name="end with the parent", daemon=True).start()


def _wait(ended: int) -> None:
    select.select([ended], [], [])
    os._exit(1)
