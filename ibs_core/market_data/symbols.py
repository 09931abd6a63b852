"""What a row's symbol names: a contract of a root, or something that is left out and said so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ibs_core.contract_codes import resolve_code
from ibs_core.errors import DataError

if TYPE_CHECKING:
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data.files import BarFile

__all__ = ["Listing", "Symbols"]

# ESH4-ESM4, ES:BF H4-M4-U4, UD:1V: GN 1234: a parent download holds them beside the contracts.
_COMBINATION = re.compile(r"\S[-: ]\S")


@dataclass(frozen=True, slots=True)
class Listing:
    """One contract of one root, as far as the symbol tells.

    Parameters
    ----------
    root : str
    instrument : str
        ``ESZ2025`` for an outright, else the root or the continuous name.
    expiry : tuple of (int, int) or None
        Year and month of an outright.
    number : int or None
        Databento's instrument id where the symbol itself names no contract: it changes at a roll.
    """

    root: str
    instrument: str
    expiry: tuple[int, int] | None = None
    number: int | None = None


@dataclass(slots=True)
class Symbols:
    """Reads symbols against the contract map and remembers what it left out.

    Parameters
    ----------
    contracts : ContractMap
    skipped : dict of str to str
        Symbol -> why its rows are not bars of a root.
    asked : set of str
        Reference feeds that are read; the others are left out.
    met : dict of str to str
        Of what is skipped, the symbols met since this was last emptied.
    """

    contracts: ContractMap
    skipped: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    met: dict[str, str] = field(default_factory=dict)

    def read(
        self, file: BarFile, symbol: str | None, number: int | None, first_ns: int, last_ns: int
    ) -> tuple[Listing, Listing] | None:
        """Return what the symbol named at the first and at the last of some rows.

        The two differ only where a one-digit year came round again.

        Parameters
        ----------
        file : BarFile
        symbol : str or None
        number : int or None
            Instrument id of the rows.
        first_ns, last_ns : int, UTC ns

        Returns
        -------
        tuple of Listing, or None
            None for a reference feed that is not asked for and for a spread of a vendor's parent download.

        Raises
        ------
        UnknownSymbolError
            The contract map does not hold the root.
        DataError
            The symbol is empty, or names neither a root nor one contract.
        """
        if symbol is None:
            raise DataError(
                "row without a symbol",
                expected="a root, a contract or a continuous name",
                found="null" if number is None else f"instrument id {number} that has no name",
                where=str(file.path),
            )
        if self._left_out(file, symbol):
            self.met[symbol] = self.skipped[symbol]
            return None
        if symbol in self.asked:
            return (Listing(symbol, symbol),) * 2
        first = self._listing(file, symbol, number, first_ns)
        one_digit = first.expiry is not None and not symbol.strip()[-2:].isdigit()
        return first, self._listing(file, symbol, number, last_ns) if one_digit else first

    def _left_out(self, file: BarFile, symbol: str) -> bool:
        if symbol in self.asked:
            return False
        if symbol in self.skipped:
            return True
        if symbol in self.contracts.reference_feeds:
            self.skipped[symbol] = "reference feed, read by no feature asked for"
        elif file.from_vendor and _COMBINATION.search(symbol):
            self.skipped[symbol] = "spread or other combination, not a contract"
        return symbol in self.skipped

    def _listing(self, file: BarFile, symbol: str, number: int | None, at_ns: int) -> Listing:
        try:
            code = resolve_code(symbol, self.contracts, at_ns=at_ns)
        except DataError as error:
            where = f"{file.path}, symbol {symbol}"
            raise type(error)(
                error.subject,
                expected=error.expected,
                found=error.found,
                where=where,
                remedy=error.remedy,
            ) from error
        if code.year is not None and code.month is not None:
            return Listing(code.root, code.spelling, (code.year, code.month))
        name = symbol.strip() if code.form == "continuous" else code.root
        return Listing(code.root, name, None, number)
