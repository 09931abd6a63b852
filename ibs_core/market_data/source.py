"""Bars from files: one pass for clean data, a second look at a root that is not.

The fast path checks what costs nothing for a whole run; the compiled aggregation kernel looks at every
minute anyway and tells the driver, which then asks for `BarSource.load`.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import polars as pl

from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.market_data.dbn import ZSTD_MAGIC, DbnBars
from ibs_core.market_data.files import (
    BarFile,
    content_digest,
    find_paths,
    in_roots,
    reading,
    starts_with_root,
)
from ibs_core.market_data.packed import PackedRun
from ibs_core.market_data.parquet import ParquetBars
from ibs_core.market_data.places import Places
from ibs_core.market_data.repair import Repairs, repair
from ibs_core.market_data.rows import collect
from ibs_core.market_data.runs import MinuteRun, run_of
from ibs_core.market_data.symbols import Symbols
from ibs_core.market_data.units import SAMPLE, check_first, check_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from ibs_core.contracts import ContractMap
    from ibs_core.market_data.packed import PackedGroup

__all__ = ["BarSource", "MinuteSource", "open_bars"]


class MinuteSource(Protocol):
    """Whatever gives minute bars run by run: files, or bars held in memory."""

    @property
    def until_ns(self) -> int | None:
        """The instant at which the data are looked at; None: when they end."""

    @property
    def roots(self) -> tuple[str, ...]:
        """Roots found, in the order of the contract map."""

    @property
    def feeds(self) -> tuple[str, ...]:
        """Reference feeds found."""

    def stream(
        self, roots: Sequence[str] | None = None, *, volume: bool = False
    ) -> Iterator[MinuteRun]:
        """Yield runs in order; a run that does not continue is marked ``irregular``."""

    def load(self, root: str, *, strict: bool = False) -> tuple[list[MinuteRun], Repairs]:
        """Return one root's bars sorted and repaired."""


def open_bars(paths: Sequence[Path | str], contracts: ContractMap) -> BarSource:
    """Open files of bars; reads schemas and first rows only.

    Parameters
    ----------
    paths : Sequence of Path or str
        Files, folders or globs: Parquet of the project's form or of Databento's client, DBN.
    contracts : ContractMap

    Returns
    -------
    BarSource

    Raises
    ------
    DataError
        A file is empty, has wrong columns or types, or holds something else than bars.
    EnvironmentFault
        A file is missing, unreadable or cut.
    """
    files = [_open(path) for path in find_paths(paths)]
    if len(files) == 1:  # no order to find, so its first row need not be read
        return BarSource(tuple(files), contracts)
    starts = [(file.first_ns(), file) for file in files]
    with_rows = [
        (start, file.path.name, i) for i, (start, file) in enumerate(starts) if start is not None
    ]
    source = BarSource(tuple(files[i] for _, _, i in sorted(with_rows)), contracts)
    empty = [str(file.path) for start, file in starts if start is None]
    source.skipped.update(dict.fromkeys(empty, "file without rows"))
    return source


_SLICES: Final = 8
"""A batch of more pieces than this alternates between symbols; contracts that roll make a few."""


class BarSource:
    """Bars of some files.

    Parameters
    ----------
    files : tuple of BarFile
        In the order of their first rows.
    contracts : ContractMap
    """

    def __init__(self, files: tuple[BarFile, ...], contracts: ContractMap) -> None:
        self._files: Final = files
        self._contracts: Final = contracts
        self._symbols: Final = Symbols(contracts)
        self._roots: tuple[str, ...] | None = None

    @property
    def until_ns(self) -> int | None:
        """The instant at which the data are looked at; None: when they end."""
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths in the order in which they are read."""
        return tuple(file.path for file in self._files)

    def n_rows(self) -> int | None:
        """Return the rows of all files, or None where a file cannot tell cheaply."""
        counts = [file.n_rows() for file in self._files]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def contracts(self) -> ContractMap:
        """The contract map that names the roots."""
        return self._contracts

    @property
    def skipped(self) -> dict[str, str]:
        """Symbol or file -> why it is left out; complete once `stream` or `roots` has run."""
        return self._symbols.skipped

    @property
    def met(self) -> dict[str, str]:
        """Of what is skipped, the symbols met since this was last emptied."""
        return self._symbols.met

    @property
    def knows_roots(self) -> bool:
        """Whether `roots` costs nothing."""
        return self._roots is not None

    def recall(self, roots: AbstractSet[str], skipped: Mapping[str, str], *, all_: bool) -> None:
        """Know what a stream that nobody has to read again would have told.

        Parameters
        ----------
        roots : set of str
            Those that it gave.
        skipped : Mapping of str to str
            What it met and left out.
        all_ : bool
            It was asked for all roots.
        """
        (self._set_roots if all_ else self._ask)(roots)
        self.skipped.update({**skipped, **self.skipped})

    @property
    def roots(self) -> tuple[str, ...]:
        """Roots found, in the order of the contract map.

        Free after a whole `stream()`; before it the symbol column is read once, which costs about
        a quarter of a pass.
        """
        if self._roots is not None:
            return self._roots
        found: set[str] = set()
        for file in self._files:
            at_ns = file.first_ns() or 0
            for symbol in file.symbols():
                listings = self._symbols.read(file, symbol, None, at_ns, at_ns)
                found |= {listings[0].root} if listings else set()
        return self._set_roots(found)

    @property
    def feeds(self) -> tuple[str, ...]:
        """Reference feeds found; before a whole ``stream()`` it costs what `roots` does."""
        assert self.roots is not None
        seen = self._symbols.asked | self.skipped.keys()
        return tuple(name for name in self._contracts.reference_feeds if name in seen)

    def digest(self) -> str:
        """Return a SHA-256 over the files' names and contents.

        It depends on neither the folder nor the times of the files, nor on the order in which they
        were given. Large Parquet files are named by size and footer.
        """
        parts = sorted((path.name, content_digest(path)) for path in self.files)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def stream(
        self, roots: Sequence[str] | None = None, *, volume: bool = False
    ) -> Iterator[MinuteRun]:
        """Yield runs in file order, as they are decoded: the fast path.

        Prices are as in the file. A run of a root that does not continue the earlier ones is marked
        ``irregular`` and is that root's last.

        Parameters
        ----------
        roots : Sequence of str, optional
            Default: all.
        volume : bool
            Read the volume column too.

        Raises
        ------
        DataError
            Unknown symbol, wrong unit, a minute without a time or off the minute grid; at the end,
            a root of `roots` that has no bar.
        EnvironmentFault
            A file ends early.
        """
        places = self._places(roots)
        for file in self._files:
            yield from self._decoded(file, places, volume=volume)
        self._end(places)

    def packed(
        self, roots: Sequence[str] | None = None, *, volume: bool = False
    ) -> Iterator[MinuteRun | PackedRun]:
        """Yield what `stream` yields; of files of the project's own layout still in their pages.

        Parameters
        ----------
        roots : Sequence of str, optional
        volume : bool

        Raises
        ------
        DataError, EnvironmentFault
            As `stream`.
        """
        places = self._places(roots)
        for file in self._files:
            groups = file.groups(volume=volume)
            if groups is None:
                yield from self._decoded(file, places, volume=volume)
            else:
                yield from self._in_pages(file, groups, places, volume=volume)
        self._end(places)

    def load(self, root: str, *, strict: bool = False) -> tuple[list[MinuteRun], Repairs]:
        """Return one root's bars sorted, repaired and of one contract at a time: the slow path.

        Parameters
        ----------
        root : str
        strict : bool
            Refuse what would be repaired.

        Returns
        -------
        runs : list of MinuteRun
            One a contract, in order, with volume where the files have it.
        repairs : Repairs
            What was done, with examples.

        Raises
        ------
        DataError
            A fault that no repair may hide, no usable row, or with `strict` any fault.
        EnvironmentFault
            A file is unreadable or cut.
        """
        contract = self._contracts.readable(root)
        self._ask({root})
        rows = collect(self._files, self._symbols, root)
        if rows.table.height == 0:
            raise self.no_bars({root})
        runs, repairs = repair(rows, contract, self.files)
        if strict:
            repairs.refuse()
        return runs, repairs

    def _places(self, roots: Sequence[str] | None) -> Places:
        wanted = None
        if roots is not None:
            wanted = frozenset(self._contracts.readable(root).root for root in roots)
            self._ask(wanted)
        return Places(self._symbols, wanted)

    def _end(self, places: Places) -> None:
        if places.wanted is None:
            self._set_roots(places.roots)
        missing = (places.wanted or frozenset()) - places.roots
        if missing or not places.roots:
            raise self.no_bars(missing)

    def _decoded(self, file: BarFile, places: Places, *, volume: bool) -> Iterator[MinuteRun]:
        where = None if places.wanted is None else in_roots(sorted(places.wanted))
        for batch in file.batches(volume=volume, where=where):
            for part in _parts(batch):
                symbol, times = part["symbol"][0], part["ts_ns"]
                if times.null_count():
                    raise DataError(
                        "bar without a time",
                        found="null in ts_event",
                        where=f"{file.path}, symbol {symbol}",
                    )
                has_number = "instrument_id" in part.columns
                number = int(part["instrument_id"][0]) if has_number else None
                place = places.place(file, symbol, number, (int(times[0]), int(times[-1])))
                if place is None:
                    continue
                if place.is_new or file.was_float32:
                    check_units(part, self._contracts.readable(place.root), file)
                yield run_of(part, *place[:3], irregular=place.irregular)

    def _in_pages(
        self, file: BarFile, groups: Sequence[PackedGroup], places: Places, *, volume: bool
    ) -> Iterator[PackedRun]:
        for group in groups:
            if places.wanted is not None and not starts_with_root(group.symbol, places.wanted):
                continue
            place = places.place(file, group.symbol, None, (group.first_ns, group.last_ns))
            if place is None:
                continue
            run = PackedRun(*place[:3], file.path, group, volume, irregular=place.irregular)
            if place.is_new:
                contract, closes = self._contracts.readable(place.root), run.minutes(SAMPLE).close
                where = f"{file.path}, symbol {group.symbol}"
                check_first(group.first_ns, closes, contract, where)
            yield run

    def _ask(self, roots: AbstractSet[str]) -> None:
        """Read reference feeds like roots from now on."""
        feeds = roots & self._contracts.reference_feeds.keys()
        self._symbols.asked |= feeds
        for feed in feeds:
            self._symbols.skipped.pop(feed, None)

    def _set_roots(self, found: AbstractSet[str]) -> tuple[str, ...]:
        self._roots = tuple(root for root in self._contracts.contracts if root in found)
        return self._roots

    def no_bars(self, missing: AbstractSet[str]) -> DataError:
        """Return the error for roots that have no bar, or for files that have none at all.

        Parameters
        ----------
        missing : set of str
        """
        return DataError(
            "no usable row",
            expected=f"bars of {', '.join(sorted(missing)) or 'a root of the contract map'}",
            found=", ".join(self.roots) or ", ".join(self.skipped) or "nothing",
            where=", ".join(str(path) for path in self.files[:3]),
        )


def _parts(batch: pl.DataFrame) -> list[pl.DataFrame]:
    """Cut a batch into contracts: slices where one follows another, a partition where they alternate."""
    keys = ["symbol", "instrument_id"] if "instrument_id" in batch.columns else ["symbol"]
    changed = pl.Series(dtype=pl.Boolean)
    for key in keys:
        column = batch[key]
        before, after = column.slice(0, batch.height - 1), column.slice(1)
        # An operator works at once, where `ne_missing` and `arg_true` wait for the threads that decode.
        differs = after.ne_missing(before) if column.null_count() else after != before
        changed = differs if changed.is_empty() else changed | differs
    found = np.flatnonzero(changed.to_numpy()) + 1 if changed.any() else ()
    starts = [0, *map(int, found)]
    if len(starts) > _SLICES:
        return batch.partition_by(keys, maintain_order=True)
    return [batch.slice(first, stop - first) for first, stop in pairwise([*starts, batch.height])]


def _open(path: Path) -> BarFile:
    with reading(path), path.open("rb") as stream:
        magic = stream.read(4)
    if not magic:
        raise DataError("empty file", expected="bars", found="0 bytes", where=str(path))
    if magic == b"PAR1":
        return ParquetBars(path)
    if magic == ZSTD_MAGIC or magic[:3] == b"DBN":
        return DbnBars(path)
    raise EnvironmentFault(
        "unreadable file",
        expected="Parquet or DBN",
        found=f"a file that starts with {magic!r}",
        where=str(path),
        remedy="convert it to the Parquet form of the manual",
    )
