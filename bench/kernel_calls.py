"""Calls of the hottest kernels as a back-test makes them: kept in a file, and made again by themselves.

A process of its own makes them again, so that a count of its instructions holds little else; it imports no more than
the kernels need.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from importlib import import_module
from pathlib import Path

KERNELS = {
    "aggregate": ("ibs_core.kernels.aggregate", "step", "ts"),
    "observe": ("ibs_core.signals", "features_many", "bars"),
    "decide": ("ibs_core.replay", "decide_many", "bars"),
}
"""Module, function, and the argument whose length says how many minutes or bars a call takes."""
CALLERS = {"observe": "ibs_core.feature_table"}
"""Modules that know a kernel by a name of their own."""


def kernel_of(name):
    module, function, _ = KERNELS[name]
    return getattr(import_module(module), function)


class Kept:
    """A kernel that keeps its longest call, as it was before the call changed anything."""

    def __init__(self, kernel, counted):
        self.n, self.blob = 0, b""
        self._kernel, self._counted = kernel, counted
        self._signature = inspect.signature(kernel.py_func)

    def __call__(self, *arguments):
        n = len(self._signature.bind(*arguments).arguments[self._counted])
        if n > self.n:
            self.n, self.blob = n, pickle.dumps(arguments)
        return self._kernel(*arguments)


def keep_calls(run, monkeypatch):
    """Run something; return of each kernel how many minutes or bars its longest call takes, and the call."""
    kept = {}
    for name, (module, function, counted) in KERNELS.items():
        kept[name] = Kept(kernel_of(name), counted)
        monkeypatch.setattr(import_module(CALLERS.get(name, module)), function, kept[name])
    run()
    monkeypatch.undo()
    assert all(each.n for each in kept.values()), "a kernel was not called"
    return {name: (each.n, each.blob) for name, each in kept.items()}


def repeat(path, chosen, times):
    """Make every kept call once and one of them some times more, each with arguments of its own.

    The arguments of all calls are made whatever is chosen: between two choices only the calls differ.
    """
    for name, blob in pickle.loads(Path(path).read_bytes()).items():
        kernel = kernel_of(name)
        calls = [pickle.loads(blob) for _ in range(1 + times)]
        for arguments in calls[: 1 + times * (name == chosen)]:
            kernel(*arguments)


if __name__ == "__main__":
    repeat(sys.argv[1], sys.argv[2], int(sys.argv[3]))
