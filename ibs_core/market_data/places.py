"""What rows of a symbol are: a contract of a root, in order or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from ibs_core.market_data.files import BarFile
    from ibs_core.market_data.symbols import Listing, Symbols

__all__ = ["Place", "Places"]


class Place(NamedTuple):
    """What some rows are.

    Attributes
    ----------
    root, instrument : str
    contract_id : int
    irregular : bool
        As of a ``MinuteRun``.
    is_new : bool
        The first rows of their root in their file.
    """

    root: str
    instrument: str
    contract_id: int
    irregular: bool
    is_new: bool


@dataclass(slots=True)
class _Thread:
    """How far a stream is with one root."""

    ids: dict[Listing, int] = field(default_factory=dict)
    listing: Listing | None = None
    last_ns: int = -(2**63)
    file: BarFile | None = None
    irregular: bool = False


class Places:
    """Follows one stream of rows, root by root.

    Parameters
    ----------
    symbols : Symbols
    wanted : set of str, optional
        Roots that are read; default: all.
    """

    def __init__(self, symbols: Symbols, wanted: AbstractSet[str] | None) -> None:
        self._symbols = symbols
        self._threads: dict[str, _Thread] = {}
        self.wanted = wanted

    @property
    def roots(self) -> AbstractSet[str]:
        """Roots seen so far."""
        return self._threads.keys()

    def place(
        self, file: BarFile, symbol: str | None, number: int | None, span: tuple[int, int]
    ) -> Place | None:
        """Tell what the next rows of a symbol are.

        Parameters
        ----------
        file : BarFile
        symbol : str or None
        number : int or None
            Instrument id of the rows.
        span : tuple of (int, int), UTC ns
            Of the first and of the last row.

        Returns
        -------
        Place, or None
            None for rows that are not to be read: of another root, or of one that was irregular before.

        Raises
        ------
        DataError
            As ``Symbols.read``.
        """
        listings = self._symbols.read(file, symbol, number, *span)
        if listings is None or (self.wanted is not None and listings[0].root not in self.wanted):
            return None
        listing = listings[0]
        thread = self._threads.setdefault(listing.root, _Thread())
        if thread.irregular:
            return None
        left_before = listing in thread.ids and listing != thread.listing
        thread.irregular = left_before or span[0] <= thread.last_ns or listings[1] != listing
        contract_id = thread.ids.setdefault(listing, len(thread.ids))
        thread.listing, thread.last_ns = listing, span[1]
        is_new, thread.file = thread.file is not file, file
        return Place(listing.root, listing.instrument, contract_id, thread.irregular, is_new)
