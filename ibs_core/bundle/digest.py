"""A digest of features, which changes with their order and with anything that changes their values."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.catalogue import Feature
    from ibs_core.formulas import Node

__all__ = ["feature_set_digest"]


def feature_set_digest(features: Sequence[Feature]) -> str:
    """Digest features in the order of a model's columns.

    Name, unit, timeframe, the formula in words, and its expression down to every constant count. An
    operation counts by its name and a field at its default not at all, so that an operation or a
    field added to the catalogue leaves the digests of older models as they are. The compiled code of an
    operation does not count: its tests hold it to its definition.

    Parameters
    ----------
    features : sequence of Feature

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    spelt = [
        (each.name, each.formula, each.unit, each.side, each.missing, _digest(each.node))
        for each in features
    ]
    return sha256(repr(spelt).encode()).hexdigest()


@lru_cache(maxsize=8192)
def _digest(node: Node) -> str:
    """Digest an expression by those of its inputs: a tree may hold one node a thousand times."""
    given = [
        (field.name, value.name if field.name == "level" else value)
        for field in fields(node)
        if field.name not in ("op", "inputs")
        and (value := getattr(node, field.name)) != field.default
    ]
    inputs = [_digest(each) for each in node.inputs]
    return sha256(repr((node.op.name, inputs, given)).encode()).hexdigest()
