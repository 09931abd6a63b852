"""A process that has loaded everything and forks workers: one starts in a moment and is killed without regret."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).parent
DEADLINE_S = 120.0


class Nursery:
    """Starts `ibs` commands as children of a process that is warm."""

    def __init__(self, config, roots):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py"), str(config), ",".join(roots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()

    def start(self, *command, output, limit_bytes=0):
        """Start a command; returns its process id."""
        self._tell(
            {"command": list(map(str, command)), "output": str(output), "limit": limit_bytes}
        )
        return int(self._line())

    def wait(self, pid):
        """Wait for a child; returns its exit code, negative for the signal that killed it."""
        self._tell({"wait": pid})
        return int(self._line())

    def kill(self, pid, number=signal.SIGKILL):
        os.kill(pid, number)
        return self.wait(pid)

    def halt(self, pid):
        """Suspend a child; returns when it stands still."""
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE_S
        while state_of(pid) != "T":
            assert time.monotonic() < deadline, "it does not stop"

    def go_on(self, pid):
        os.kill(pid, signal.SIGCONT)

    def _tell(self, what):
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _line(self):
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return line.strip()


def entries_of(path):
    """How many entries a journal holds; 0 while there is none."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            return db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def state_of(pid):
    """As `ps` shows it: Z has ended, T stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def is_alive(pid):
    return state_of(pid) != "Z"


def until_entries(path, n, pid):
    """Watch a worker until its journal holds some entries; False when it ends before."""
    process = os.pidfd_open(pid)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while entries_of(path) < n:
            if select.select([process], [], [], 0.002)[0]:
                return False
            assert time.monotonic() < deadline, "the worker makes no progress"
    finally:
        os.close(process)
    return True


# ------------------------------------------------------------------ the process itself


def _warm(config, roots):
    """Load modules and compiled functions; nothing that starts a thread, for forks do not take them along."""
    import databento  # noqa: F401

    import adapters.databento_gateway
    import adapters.databento_live
    import adapters.paper_sink
    import adapters.sqlite_journal  # noqa: F401
    from ibs_core.bars import MINUTE_NS
    from ibs_core.cli import live_parts, run_live  # noqa: F401
    from ibs_core.config import load_settings
    from ibs_core.contracts import load_contract_map
    from ibs_core.ports import Minute
    from ibs_core.snapshot import pack

    contracts = load_contract_map()
    engine = live_parts.engine_of(load_settings([Path(config)]), contracts, roots, {})
    first_ns = 1_698_705_000 * 10**9
    for i in range(300):
        end_ns = first_ns + (i + 1) * MINUTE_NS
        price = 4000.0 + i % 17
        engine.advance(
            [
                Minute(root, f"{root}Z2023", end_ns - MINUTE_NS, *(price,) * 4, 1.0)
                for root in roots
            ],
            end_ns,
        )
    pack(engine.state())


def _child(order):
    import resource

    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in (1, 2):
        os.dup2(output, number)
    if order["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"],) * 2)
    from ibs_core.cli.main import run

    sys.argv = ["ibs", *order["command"]]
    code = 1
    try:
        run()
        code = 0
    except SystemExit as done:
        code = int(done.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _main():
    config, roots = sys.argv[1:]
    _warm(config, roots.split(","))
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201
            continue
        pid = os.fork()
        if pid == 0:
            _child(order)
        print(pid, flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
