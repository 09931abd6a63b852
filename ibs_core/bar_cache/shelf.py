"""The folder of kept files: what is found, put, bounded and cleared. No fault of it ever stops a run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import platformdirs

from ibs_core.bar_cache.entry import DamagedEntryError, Entry, open_entry, write_entry
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Held", "Shelf", "default_shelf"]

ROOM: Final = 4 << 30
"""Bytes that a shelf may hold where nobody says otherwise."""

_ENDING: Final = ".entry"
_HIDDEN: Final = ".part"


class Held(NamedTuple):
    """A kept file.

    Attributes
    ----------
    name : str
    n_bytes : int
    used_s : float
        When it was last used, seconds since 1970.
    facts : dict
        Empty where it cannot be read.
    """

    name: str
    n_bytes: int
    used_s: float
    facts: dict[str, Any]


class Shelf:
    """Kept files of one folder.

    Parameters
    ----------
    folder : Path
        Made when the first file is put.
    room : int
        Bytes that its files may take; what was used longest ago leaves first.
    verify : bool
        Take nothing whose bytes were not checked.
    tell : callable
        Called with a sentence, once, when the shelf cannot serve.
    """

    def __init__(
        self, folder: Path, *, room: int, verify: bool = False, tell: Callable[[str], None]
    ) -> None:
        self.folder, self.room, self.verify = folder, room, verify
        self._tell = tell
        self._told = False

    def find(self, name: str, content: str | None) -> Entry | None:
        """Return a kept file, now the one used last.

        Parameters
        ----------
        name : str
        content : str or None
            What a verified file must say that it was made of.

        Returns
        -------
        Entry or None
        """
        path = self._path(name)
        try:
            entry = open_entry(path)
        except FileNotFoundError:
            return None
        except DamagedEntryError as error:
            self._drop(path, f"a file of the bar cache is damaged ({error})")
            return None
        except OSError as error:
            self._say(f"the bar cache {self.folder} cannot be read ({error.strerror or error})")
            return None
        if self.verify and not self._is_proven(path, entry, content):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return entry

    def put(
        self, name: str, facts: dict[str, Any], arrays: Mapping[str, Sequence[NDArray[Any]]]
    ) -> None:
        """Keep arrays, whole or not at all.

        Parameters
        ----------
        name : str
        facts : dict
            JSON values.
        arrays : mapping of str to sequence of (n,) arrays
            The parts of an array are laid end to end.
        """
        n_bytes = sum(part.nbytes for parts in arrays.values() for part in parts)
        if n_bytes > self.room:
            self._say(f"bars of {n_bytes >> 20:,} MB are more than the bar cache may hold")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._write(name, facts, arrays)
            self._bound()
        except OSError as error:
            self._say(f"the bar cache {self.folder} cannot be written ({error.strerror or error})")

    def held(self) -> list[Held]:
        """List the kept files, the one used last first.

        Returns
        -------
        list of Held
        """
        found = [Held(path.stem, n_bytes, at, _facts(path)) for at, n_bytes, path in self._files()]
        return sorted(found, key=lambda each: (-each.used_s, each.name))

    def clear(self) -> tuple[int, int]:
        """Remove every kept file; whoever reads one goes on reading it.

        Returns
        -------
        n_files, n_bytes : int

        Raises
        ------
        OSError
        """
        files = list(self._files())
        for _, _, path in files:
            path.unlink(missing_ok=True)
        self._sweep()
        return len(files), sum(n_bytes for _, n_bytes, _ in files)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_ENDING}"

    def _is_proven(self, path: Path, entry: Entry, content: str | None) -> bool:
        """Tell whether a file was made of this content and has the bytes that were written."""
        made_of = entry.facts.get("content")
        if (
            made_of is None
        ):  # written without a look at the content: reading is no slower than proving
            return False
        if made_of != content:
            self._drop(path, "bars in the cache are of data that were edited since")
            return False
        if not entry.is_whole():
            self._drop(path, "a file of the bar cache has other bytes than were written")
            return False
        return True

    def _drop(self, path: Path, why: str) -> None:
        self._say(f"{why}; it is made anew")
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _say(self, what: str) -> None:
        if not self._told:
            self._told = True
            self._tell(f"{what}: this costs time, the results are the same")

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each file was used last, its size and its path."""
        with contextlib.suppress(FileNotFoundError):
            for each in os.scandir(self.folder):
                if each.name.endswith(_ENDING):
                    with contextlib.suppress(FileNotFoundError):  # cleared meanwhile
                        found = each.stat()
                        yield found.st_mtime, found.st_size, Path(each.path)

    def _bound(self) -> None:
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.room:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _write(
        self, name: str, facts: dict[str, Any], arrays: Mapping[str, Sequence[NDArray[Any]]]
    ) -> None:
        handle, place = tempfile.mkstemp(prefix=f".{name}.", suffix=_HIDDEN, dir=self.folder)
        hidden = Path(
            place
        )  # new, whoever else writes the same: process ids repeat across machines
        try:
            with os.fdopen(handle, "wb") as stream:
                # Held while it is written: the system lets go when a process dies, whatever of.
                fcntl.flock(stream, fcntl.LOCK_EX)
                write_entry(stream, facts, arrays)
                with contextlib.suppress(FileNotFoundError):  # swept before it was held
                    hidden.replace(self._path(name))
        finally:
            hidden.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what writers that died left behind."""
        for hidden in self.folder.glob(f".*{_HIDDEN}"):
            with contextlib.suppress(OSError), hidden.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its writer lives
                hidden.unlink(missing_ok=True)


def default_shelf(
    *, verify: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Shelf | None:
    """Return the shelf of this user.

    Parameters
    ----------
    verify : bool
    tell : callable

    Returns
    -------
    Shelf or None
        Below ``$IBS_CACHE_DIR``, else in the platform's cache; None where ``$IBS_CACHE_BYTES`` leaves no room.

    Raises
    ------
    ConfigError
        ``$IBS_CACHE_BYTES`` is no number of bytes.
    """
    said = os.environ.get("IBS_CACHE_BYTES", "").strip()
    if said and not said.isdigit():
        raise ConfigError(
            "environment variable IBS_CACHE_BYTES",
            expected="bytes that kept bars may take, such as 4000000000; 0 keeps none",
            found=repr(said),
        )
    room = int(said) if said else ROOM
    root = os.environ.get("IBS_CACHE_DIR") or platformdirs.user_cache_dir("ibs")
    return Shelf(Path(root) / "bars", room=room, verify=verify, tell=tell) if room else None


def _facts(path: Path) -> dict[str, Any]:
    try:
        return open_entry(path).facts
    except (OSError, DamagedEntryError):
        return {}
