"""A statistic that has no number says why: the reason stands in its place until the table is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Undefined", "Value", "json_number", "mean", "ratio"]


class Undefined(str):
    """Why a statistic has no number, in a few words."""

    __slots__ = ()


Value: TypeAlias = float | Undefined


def mean(values: Collection[float], why: str) -> Value:
    """Average numbers, exactly rounded and so in whatever order.

    Parameters
    ----------
    values : collection of float
    why : str
        What to say where there are none.

    Returns
    -------
    float or Undefined
    """
    return math.fsum(values) / len(values) if values else Undefined(why)


def ratio(numerator: Value, denominator: Value, why: str) -> Value:
    """Divide one statistic by another.

    Parameters
    ----------
    numerator, denominator : float or Undefined
    why : str
        What to say where the denominator is 0.

    Returns
    -------
    float or Undefined
        The reason of whichever is undefined, the numerator's first.
    """
    for each in (numerator, denominator):
        if isinstance(each, Undefined):
            return each
    assert not isinstance(numerator, Undefined)
    assert not isinstance(denominator, Undefined)
    return numerator / denominator if denominator else Undefined(why)


def json_number(value: Value) -> Value:
    """Make a number fit for JSON.

    Parameters
    ----------
    value : float or Undefined

    Returns
    -------
    float or Undefined
        Never -0, NaN or infinite.
    """
    if isinstance(value, (Undefined, int)):
        return value
    # A difference of 0.0 adds away the sign of -0.0.
    return float(value) + 0.0 if math.isfinite(value) else Undefined("too large for a number")
