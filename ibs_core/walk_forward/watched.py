"""What the models of windows will read, read with everything else before there is any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibs_core.catalogue import resolve
from ibs_core.feature_table import serves
from ibs_core.universe import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ibs_core.contracts import ContractMap

__all__ = ["watcher"]


class _Unasked:
    """Scores nothing: it stands where only features are read."""

    def score(self, rows: NDArray[Any], /) -> NDArray[Any]:
        raise AssertionError(rows.shape)


def watcher(
    names: Sequence[str], contracts: ContractMap, present: Sequence[str]
) -> Callable[[str], Model]:
    """Return models that make bars of whatever features read be read, and score nothing.

    Parameters
    ----------
    names : sequence of str
        Features; of each symbol those count that the data serve.
    contracts : ContractMap
    present : sequence of str
        Roots and feeds of which there are bars.

    Returns
    -------
    callable
        Of a root.
    """
    features = [resolve(name, contracts, where="--features") for name in names]
    there = frozenset(present)

    def model_of(root: str) -> Model:
        contract = contracts.get(root)
        can = tuple(each.name for each in features if serves(each, contract, there))
        return Model("", can, 1.0, _Unasked(), (0, 0))

    return model_of
