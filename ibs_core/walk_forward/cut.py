"""Bars that end at an instant: what reads them cannot know what came later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibs_core.market_data import MinuteRun, MinuteSource, Repairs

__all__ = ["BarsUntil"]


_COLUMNS: Final = ("ts_ns", "open", "high", "low", "close", "volume")


class BarsUntil:
    """The minutes of a source that open before an instant, as if it were that instant now.

    Parameters
    ----------
    source : MinuteSource
    until_ns : int, UTC ns
    """

    def __init__(self, source: MinuteSource, until_ns: int) -> None:
        self._source, self._until_ns = source, until_ns

    @property
    def until_ns(self) -> int | None:
        """The instant at which the data are looked at."""
        return self._until_ns

    @property
    def roots(self) -> tuple[str, ...]:
        """Roots of the source."""
        return self._source.roots

    @property
    def feeds(self) -> tuple[str, ...]:
        """Reference feeds of the source."""
        return self._source.feeds

    def stream(
        self, roots: Sequence[str] | None = None, *, volume: bool = False
    ) -> Iterator[MinuteRun]:
        """Yield the runs of the source, each up to the instant.

        Parameters
        ----------
        roots : sequence of str, optional
            Default: all.
        volume : bool

        Yields
        ------
        MinuteRun

        Raises
        ------
        DataError
            A root of `roots` has no minute before the instant.
        """
        seen = set()
        for run in self._source.stream(roots, volume=volume):
            # An irregular run only tells that its root is to be loaded.
            part = run if run.irregular else self._before(run)
            if part is not None:
                seen.add(part.root)
                yield part
        for root in roots or ():
            if root not in seen:
                raise self._nothing(root)

    def load(self, root: str, *, strict: bool = False) -> tuple[list[MinuteRun], Repairs]:
        """Return one root's bars sorted and repaired, up to the instant.

        Parameters
        ----------
        root : str
        strict : bool
            Refuse what would be repaired, later than the instant too.

        Returns
        -------
        runs : list of MinuteRun
        repairs : Repairs
            Of the whole source.

        Raises
        ------
        DataError
            No minute lies before the instant, or what the source refuses.
        """
        runs, repairs = self._source.load(root, strict=strict)
        parts = [part for run in runs if (part := self._before(run)) is not None]
        if not parts:
            raise self._nothing(root)
        return parts, repairs

    def _before(self, run: MinuteRun) -> MinuteRun | None:
        early = run.ts_ns < self._until_ns
        if early.all():
            return run
        if not early.any():
            return None
        columns = {name: getattr(run, name) for name in _COLUMNS}
        cut: dict[str, Any] = {
            name: None if each is None else each[early] for name, each in columns.items()
        }
        for each in cut.values():
            if each is not None:
                each.setflags(write=False)  # compiled code was compiled for such
        return replace(run, **cut)

    def _nothing(self, root: str) -> DataError:
        return DataError(
            f"bars of {root}",
            expected="some before the first training sessions end",
            found="none",
            remedy="start later (--start), or leave out what reads them",
        )
