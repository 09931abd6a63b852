"""Compiled kernels on disk: one file for each function and each kind of arguments.

Numba's own cache would do, were it not for its costs: before it loads anything it imports all that compiling
needs (SciPy's linear algebra among it), it parses the intermediate code of each entry although only a compiler
reads that, and it keeps one index a function, in which two processes that compile at once can swap two entries.
Here a name says all, a file is whole or not there, and what only a compiler needs is read when one runs. What
is used of Numba's insides is what its own cache uses.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import zlib
from typing import TYPE_CHECKING, Any

import llvmlite.binding
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import compile_result
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]
from numba.core.serialize import dumps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Store"]

_CHECKSUM = 4  # bytes in front of an entry


class Store:
    """The cache of one function, as a dispatcher of Numba asks it.

    Parameters
    ----------
    folder : Path
        Named by all that a result depends on besides the function and the kinds of its arguments.
    function : callable
    begun : callable
        Called when the function is to be compiled.
    """

    def __init__(
        self, folder: Path, function: Callable[..., Any], begun: Callable[[], None]
    ) -> None:
        self._path = folder / f"{function.__module__}.{function.__qualname__}"
        self._begun = begun
        self.cache_path = str(folder)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the compiled function for these arguments; None when it is to be compiled.

        Parameters
        ----------
        signature : tuple of numba.types.Type
        context : numba.core.cpu.CPUContext

        Returns
        -------
        numba.core.compiler.CompileResult or None
        """
        kept = _read(self._entry(signature))
        if kept is not None:
            return _revive(context, *pickle.loads(kept))  # noqa: S301  (our own folder)
        context.refresh()  # all that compiling needs
        self._begun()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function; without room for it, it is compiled again the next time.

        Parameters
        ----------
        signature : tuple of numba.types.Type
        result : numba.core.compiler.CompileResult
        """
        if result.library.has_dynamic_globals or result.reload_init or result.lifted:
            return  # good in this process only
        described = result.fndesc
        described.typemap = described.calltypes = None
        # A kernel's constants are in its code. Numba makes an environment for every inlined function all
        # the same, and reviving it would import the module that it comes from.
        used = [each for each in result._find_referenced_environments() if each.consts]  # noqa: SLF001
        name, _, code = result.library.serialize_using_object_code()
        content = dumps((name, code, described, result.environment, result.signature, used))
        _write(self._entry(signature), content)

    def flush(self) -> None:
        """Forget nothing: other processes read the folder."""

    def _entry(self, signature: Any) -> Path:
        kinds = hashlib.sha256(repr(signature).encode()).hexdigest()[:16]
        return self._path.with_name(f"{self._path.name}-{kinds}")


class _Library(JITCodeLibrary):
    """Machine code from disk; its intermediate code is parsed when another function is to inline it."""

    def __init__(self, codegen: Any, name: str, code: tuple[bytes, bytes]) -> None:
        super().__init__(codegen, name)
        machine_code, self._bitcode = code
        self.enable_object_caching()
        self._set_compiled_object(machine_code)
        self._finalize_final_module()

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvmlite.binding.parse_bitcode(self._bitcode)
        return self._shared_module


def _revive(
    context: Any,
    name: str,
    code: tuple[bytes, bytes],
    described: Any,
    environment: Any,
    signature: Any,
    used: list[Any],
) -> Any:
    _name_runtime()
    codegen = context.codegen()
    library = _Library(codegen, name, code)
    codegen._engine._defined_symbols.add(described.llvm_cpython_wrapper_name)  # noqa: SLF001
    entry_point = context.get_executable(library, described, environment)
    for each in used:
        codegen.set_env(each.env_name, each)
    return compile_result(
        target_context=context,
        typing_context=context.typing_context,
        library=library,
        environment=environment,
        entry_point=entry_point,
        fndesc=described,
        signature=signature,
        objectmode=False,
        lifted=(),
        reload_init=[],
        referenced_envs=used,
    )


@functools.cache
def _name_runtime() -> None:
    """Give machine code the addresses that it calls in Numba's memory management."""
    for name, address in _nrt_python.c_helpers.items():
        llvmlite.binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


def _read(path: Path) -> bytes | None:
    """Return an entry; None where there is none, or one torn by a machine that went down."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    kept = content[_CHECKSUM:]
    return kept if content[:_CHECKSUM] == _checksum(kept) else None


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(_checksum(content) + content)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "big")
