"""What every script here shares: runs when it is told to, times of their stages, trades on file.

A script takes the bars, the costs and where to write its trades. Each line on its input is one run, answered by one
line of JSON, so that whoever drives it can take the engines in turn.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
import time
from contextlib import contextmanager
from pathlib import Path

COLUMNS = (
    *("symbol", "entry_ns", "entry_price", "exit_ns", "exit_price", "side"),
    *("reason", "net_usd"),
)


class Watch:
    """Seconds by stage: elapsed, and of the processor in all threads."""

    def __init__(self):
        self.elapsed, self.processor = {}, {}

    @contextmanager
    def __call__(self, stage):
        """Time a stage; a stage that comes again adds up."""
        before, busy = time.perf_counter(), time.process_time()
        yield
        for sums, taken in (
            (self.elapsed, time.perf_counter() - before),
            (self.processor, time.process_time() - busy),
        ):
            sums[stage] = sums.get(stage, 0.0) + taken


def serve(once, rows, version):
    """Run `once(path, costs, watch)` for each line of input; `rows` makes its result rows of `COLUMNS`.

    `costs` maps a root to its `point_value` and the `per_side` cost of a contract, both USD.
    """
    parser = argparse.ArgumentParser()
    for name in ("bars", "costs", "trades"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    costs = json.loads(given.costs.read_text("utf-8"))
    answers, sys.stdout = sys.stdout, sys.stderr  # what engines print is no answer
    written = False
    for _ in sys.stdin:
        watch = Watch()
        result = once(given.bars, costs, watch)
        if not written:
            _write(given.trades, rows(result))
            written = True
        answer = {
            "version": version,
            "elapsed": watch.elapsed,
            "processor": watch.processor,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)
        del result


def _write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        lines.writerows(rows)
