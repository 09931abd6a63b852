"""Compiled kernels on disk: never an old result, never another processor's, nothing imported in vain."""

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ibs_core
from ibs_core.cli import first_run, options
from ibs_core.kernels import _jit, _store

PACKAGE = Path(ibs_core.__file__).parent
SCRIPT = """
import sys
import numpy as np
from ibs_core.kernels._jit import jit, jit_allocating, watched

begun = []

@jit
def doubled(x):
    return 2.0 * x

@jit_allocating
def shifted(values, by):
    out = np.zeros(len(values))
    for i in range(len(values)):
        out[i] = doubled(values[i]) + by
    return out

@jit_allocating
def at(values, i):
    return shifted(values, 1.0)[i]

with watched(lambda n, of: begun.append(n)):
    found = shifted(np.array([0.1, 0.2]), 1.0)
    print(len(begun), "numba.np.linalg" in sys.modules, found.tolist())
    assert sys.getrefcount(found) == 2
    if "later" in sys.argv:
        print(at(np.array([0.1, 0.2]), 1))
"""


def test_a_second_process_loads_what_the_first_compiled_and_imports_no_compiler(tmp_path):
    """A caller that is compiled later inlines what was loaded; a torn entry is compiled anew."""
    script = tmp_path / "kernels.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "IBS_CACHE_DIR": str(tmp_path / "cache")}

    def lines(*arguments: str) -> list[str]:
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert lines() == ["2 True [1.2, 1.4]"]
    entries = sorted((tmp_path / "cache").glob("kernels-*/*"))
    assert [path.name.rpartition("-")[0] for path in entries] == [
        "__main__.doubled",
        "__main__.shifted",
    ]
    assert lines("later") == ["0 False [1.2, 1.4]", "1.4"]
    entries[1].write_bytes(entries[1].read_bytes()[:-100])
    assert lines() == ["1 True [1.2, 1.4]"]


def test_the_folder_is_named_by_the_processor(monkeypatch):
    """Machines that share a home folder must not run each other's instructions."""
    codegen = _jit.cpu_target.target_context.codegen()
    triple, name, features = codegen.magic_tuple()
    here = _jit.cache_folder()
    for other in ((triple, "another", features), (triple, name, features + ",+avx1024")):
        monkeypatch.setattr(codegen, "magic_tuple", lambda other=other: other)
        assert _jit.cache_folder() != here


def test_the_folder_is_named_by_every_source_that_is_compiled():
    """Functions take in the code and the constants of others, so what these import must be named, too."""
    named = {path for pattern in _jit.COMPILED for path in PACKAGE.glob(pattern)}
    for path in PACKAGE.rglob("*.py"):
        imported = _imported(path)
        if any("kernels._jit" in each for each in imported):
            asks_only = path.parent.name in {"cli", "bar_cache"}  # where, and whether it is warm
            assert path in named or asks_only, f"{path} is compiled, but not named"
        if path in named:
            files = {PACKAGE.parent / f"{each.replace('.', '/')}.py" for each in imported}
            missing = {each for each in files if each.exists()} - named
            assert not missing, f"{path} reads constants of {missing}"


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ibs_core"):
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return found


def test_without_room_a_kernel_is_not_kept_and_nothing_is_left(tmp_path, monkeypatch):
    def full(_path: Path, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    path = tmp_path / "kernel-1"
    _store._write(path, b"code")
    assert _store._read(path) == b"code"
    monkeypatch.setattr(Path, "write_bytes", full)
    _store._write(tmp_path / "kernel-2", b"code")
    assert [each.name for each in tmp_path.iterdir()] == ["kernel-1"]


@pytest.mark.parametrize(("warm", "cores", "started"), [(False, 2, 1), (False, 1, 0), (True, 2, 0)])
def test_a_first_run_compiles_on_a_second_core_where_there_is_one(
    monkeypatch, capsys, warm, cores, started
):
    commands = []
    monkeypatch.setattr(_jit, "is_warm", lambda: warm)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    monkeypatch.setattr(first_run, "_started", [])
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_more: commands.append(command))
    options.compile_notice(silent=False)
    assert commands == started * [[sys.executable, "-m", "ibs_core.cli.first_run"]]
    assert ("compiling the kernels, once" in capsys.readouterr().err) is not warm
