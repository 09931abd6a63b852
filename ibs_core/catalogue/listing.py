"""Every feature that a contract map allows, by name."""

from __future__ import annotations

import difflib
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from ibs_core.catalogue.feature import BAR, DAY, Feature
from ibs_core.catalogue.others import across, calendar, paired, previous_close, reference
from ibs_core.catalogue.own import own_features
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.contracts import ContractMap

__all__ = ["load_catalogue", "resolve"]


@lru_cache(maxsize=8)
def load_catalogue(contracts: ContractMap) -> Mapping[str, Feature]:
    """List every feature that a contract map allows.

    Parameters
    ----------
    contracts : ContractMap
        Its roots and reference feeds give the cross-instrument features.

    Returns
    -------
    Mapping of str to Feature
        In the order of the docs page: own, pair, calendar, reference feeds, other instruments.
    """
    features = [
        *own_features(BAR),
        previous_close(),
        *own_features(DAY),
        *paired(BAR),
        *paired(DAY),
        *calendar(),
        *reference(contracts.reference_feeds),
    ]
    for root in (*contracts.contracts, *contracts.reference_feeds):
        features += across(root)
    return MappingProxyType({feature.name: feature for feature in features})


def resolve(name: str, contracts: ContractMap, *, where: str) -> Feature:
    """Find a feature by its name.

    Parameters
    ----------
    name : str
    contracts : ContractMap
    where : str
        What names it, for the message.

    Returns
    -------
    Feature

    Raises
    ------
    ConfigError
        There is none of that name; the nearest is offered.
    """
    catalogue = load_catalogue(contracts)
    if name not in catalogue:
        near = difflib.get_close_matches(name.lower(), catalogue, n=1, cutoff=0.5)
        raise ConfigError(
            where,
            expected="the name of a feature",
            found=repr(name),
            remedy=f"did you mean {near[0]!r}?" if near else "`ibs data features` lists them",
        )
    return catalogue[name]
