"""The shelf as one reading sees it: everything in a drawer was decided by the same things."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ibs_core.bar_cache.key import contents_of, files_digest, name_of, sources_digest
from ibs_core.market_data import BarSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ibs_core.bar_cache.entry import Entry
    from ibs_core.bar_cache.shelf import Shelf
    from ibs_core.market_data import MinuteSource

__all__ = ["Drawer", "drawer_of"]


class _Files:
    """The data files of a drawer."""

    def __init__(self, source: BarSource) -> None:
        self.source, self._paths = source, source.files
        self.names = [path.name for path in self._paths]
        self.digest = files_digest(self._paths)

    @cached_property
    def content(self) -> str:
        """Digest of all their bytes."""
        return contents_of(self._paths)

    def are_as_before(self) -> bool:
        """Tell whether they are still those that the digest names."""
        return files_digest(self._paths) == self.digest


@dataclass(frozen=True, slots=True, eq=False)
class Drawer:
    """A part of a shelf.

    Attributes
    ----------
    shelf : Shelf or None
        None: nothing is found, nothing is kept.
    files : _Files or None
    of : tuple of JSON values
        What decides all in it.
    """

    shelf: Shelf | None = None
    files: _Files | None = None
    of: tuple[Any, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether anything can be found or kept."""
        return self.shelf is not None

    def within(self, **asked: Any) -> Drawer:
        """Return the drawer of what was asked for beside.

        Parameters
        ----------
        **asked
            JSON values.

        Returns
        -------
        Drawer
        """
        return Drawer(self.shelf, self.files, (*self.of, asked)) if self.is_open else self

    def find(self, kind: str) -> Entry | None:
        """Return what was kept.

        Parameters
        ----------
        kind : str

        Returns
        -------
        Entry or None
        """
        if self.shelf is None or self.files is None:
            return None
        return self.shelf.find(self._name(kind), self._content())

    def put(
        self,
        kind: str,
        facts: dict[str, Any],
        arrays: Mapping[str, Sequence[NDArray[Any]]],
    ) -> None:
        """Keep something.

        Parameters
        ----------
        kind : str
        facts : dict
            JSON values.
        arrays : mapping of str to sequence of (n,) arrays
            The parts of an array are laid end to end.
        """
        if self.shelf is None or self.files is None:
            return
        told = {"kind": kind, "data": self.files.names, "content": self._content()}
        self.shelf.put(self._name(kind), told | facts, arrays)

    def value(self, kind: str, make: Callable[[], Any]) -> Any:
        """Return a JSON value that was kept, else make and keep it.

        Parameters
        ----------
        kind : str
        make : callable

        Returns
        -------
        JSON value
        """
        if kept := self.find(kind):
            return kept.facts["value"]
        value = make()
        self.put(kind, {"value": value}, {})
        return value

    def still(self) -> Drawer:
        """Return this drawer if the files were not changed since it was opened, else one that keeps nothing."""
        try:
            if self.files is None or self.files.are_as_before():
                return self
        except OSError:
            pass
        return Drawer()

    def _name(self, kind: str) -> str:
        return name_of([*self.of, kind])

    def _content(self) -> str | None:
        assert self.shelf is not None
        assert self.files is not None
        return self.files.content if self.shelf.verify else None


def drawer_of(shelf: Shelf | None, source: MinuteSource) -> Drawer:
    """Open the drawer of what is read from a source.

    Parameters
    ----------
    shelf : Shelf or None
    source : MinuteSource
        Only files have one: what is held in memory may be anything.

    Returns
    -------
    Drawer
    """
    if shelf is None or not isinstance(source, BarSource):
        return Drawer()
    try:
        files = _Files(source)
    except OSError:  # reading will tell
        return Drawer()
    return Drawer(shelf, files, (files.digest, source.contracts.digest, sources_digest()))
