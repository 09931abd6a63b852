"""Minutes of the past as the engine's drivers ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.databento_history.download import download
from adapters.databento_history.plan import make_plan
from ibs_core.market_data import HeldBars, hold, open_bars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adapters.databento_history.vendor import Vendor
    from ibs_core.contracts import ContractMap

__all__ = ["DatabentoHistory", "LocalHistory"]


class LocalHistory:
    """Minutes of files; a `History`.

    Parameters
    ----------
    paths : sequence of Path or str
        Files, folders or globs, Parquet or DBN.
    contracts : ContractMap
    """

    def __init__(self, paths: Sequence[Path | str], contracts: ContractMap) -> None:
        self._paths = list(paths)
        self._contracts = contracts
        self._held: dict[tuple[str, ...], HeldBars] = {}

    def minutes(self, roots: Sequence[str], first_ns: int, until_ns: int) -> HeldBars:
        """Return the minutes that open in [first, until); the files are read once for given roots.

        Parameters
        ----------
        roots : sequence of str
            Roots and reference feeds.
        first_ns, until_ns : int, UTC ns

        Returns
        -------
        HeldBars

        Raises
        ------
        DataError, EnvironmentFault
        """
        wanted = tuple(roots)
        if wanted not in self._held:
            self._held[wanted] = hold(open_bars(self._paths, self._contracts), wanted)
        return self._held[wanted].between(first_ns, until_ns)


class DatabentoHistory:
    """Minutes of the vendor's historical service; a `History`.

    Every answer is kept and never paid for twice. What the service does not hold yet is left out: the
    newest minutes come from the live feed's replay.

    Parameters
    ----------
    vendor : Vendor
    contracts : ContractMap
    folder : Path
        Keeps the answers.
    """

    def __init__(self, vendor: Vendor, contracts: ContractMap, folder: Path) -> None:
        self._vendor = vendor
        self._contracts = contracts
        self._folder = folder

    def minutes(self, roots: Sequence[str], first_ns: int, until_ns: int) -> HeldBars:
        """Return the minutes that open in [first, until), of the front contract of each session.

        Parameters
        ----------
        roots : sequence of str
            Reference feeds among them are left out: the vendor has none.
        first_ns, until_ns : int, UTC ns

        Returns
        -------
        HeldBars

        Raises
        ------
        DataError, EnvironmentFault
        """
        wanted = [root for root in roots if root not in self._contracts.reference_feeds]
        plan = make_plan(
            self._vendor,
            self._contracts,
            wanted,
            "ohlcv-1m",
            [(first_ns, until_ns)] * len(wanted),
        )
        counted = [(piece, self._vendor.n_records(piece.request)) for piece in plan]
        files = download(self._vendor, counted, self._folder)
        if not files:
            return HeldBars({root: [] for root in wanted}, self._contracts)
        found = {piece.root for piece, n_records in counted if n_records}
        held = hold(open_bars(files, self._contracts), [root for root in wanted if root in found])
        return held.between(first_ns, until_ns)
