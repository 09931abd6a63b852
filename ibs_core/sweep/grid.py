"""What ``--grid`` asks for: the values of settings, as exact decimals, and their product."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import ConfigError
from ibs_core.sweep.paths import Value, value_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ibs_core.config import Settings

__all__ = ["N_CANDIDATES_MAX", "N_VALUES_MAX", "Axis", "Grid", "read_grid"]

N_CANDIDATES_MAX: Final = 20_000
N_VALUES_MAX: Final = 10_000
"""Of one parameter."""

_EXAMPLE: Final = "PATH=FIRST:LAST:STEP or PATH=VALUE,VALUE, such as strategy.exits.bars=4,8,12"
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_WORDS: Final[Mapping[str, Value]] = {"null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter and the values that are tried.

    Attributes
    ----------
    path : str
        Place in the settings, such as ``strategy.entry.ibs.1``.
    values : tuple of JSON scalars
        In the order given, each once.
    """

    path: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """The product of axes.

    Attributes
    ----------
    axes : tuple of Axis
    """

    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        """Count the combinations."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def paths(self) -> tuple[str, ...]:
        """Places of the parameters."""
        return tuple(axis.path for axis in self.axes)

    def combinations(self) -> Iterator[tuple[Value, ...]]:
        """Yield the values of each combination; the last axis runs fastest."""
        return product(*(axis.values for axis in self.axes))

    def spelt(self) -> str:
        """Spell the size as a product: ``5 x 3 = 15``."""
        sizes = " x ".join(str(len(axis.values)) for axis in self.axes)
        return sizes if len(self.axes) == 1 else f"{sizes} = {len(self):,}"


def read_grid(texts: Sequence[str], settings: Settings) -> Grid:
    """Read the options ``--grid``.

    Parameters
    ----------
    texts : sequence of str
        ``PATH=FIRST:LAST:STEP`` with both ends included, or ``PATH=VALUE,VALUE``; ``null`` and ``off`` turn a
        rule off.
    settings : Settings
        Of the configuration: paths are looked up in it.

    Returns
    -------
    Grid

    Raises
    ------
    ConfigError
        Text that is no grid, a path that the settings do not have, or one that is given twice.
    """
    if not texts:
        raise ConfigError("option --grid", expected=_EXAMPLE, found="none")
    axes: dict[str, Axis] = {}
    for text in texts:
        path, _, values = (part.strip() for part in text.partition("="))
        if not path or not values:
            raise ConfigError("option --grid", expected=_EXAMPLE, found=repr(text))
        if path in axes:
            raise ConfigError("option --grid", expected="each path once", found=f"{path!r} twice")
        axes[path] = Axis(path, _values(path, values, value_at(path, settings)))
    return Grid(tuple(axes.values()))


def _values(path: str, text: str, now: Any) -> tuple[Value, ...]:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) == 3 and all(map(_NUMBER.fullmatch, parts)):
        return _range(path, parts)
    words = [part.strip() for part in text.split(",")]
    if not all(words):
        raise ConfigError(f"--grid {path}", expected="values between commas", found=repr(text))
    # By their spelling: 1 and true are equal.
    return tuple({repr(each): each for each in (_scalar(word, now) for word in words)}.values())


def _range(path: str, parts: Sequence[str]) -> tuple[Value, ...]:
    first, last, step = map(Decimal, parts)
    if step <= 0 or last < first:
        raise ConfigError(
            f"--grid {path}",
            expected="FIRST:LAST:STEP with FIRST <= LAST and a step above 0",
            found=":".join(parts),
        )
    n = int((last - first) / step) + 1
    if n > N_VALUES_MAX:
        raise ConfigError(
            f"--grid {path}",
            expected=f"at most {N_VALUES_MAX:,} values",
            found=f"{n:,}",
            remedy="take a wider step",
        )
    # Decimals add exactly: 0.1 + 2 * 0.1 is 0.3.
    exact = [first + k * step for k in range(n)]
    return tuple(int(each) if all(map(_is_whole, parts)) else float(each) for each in exact)


def _scalar(word: str, now: Any) -> Value:
    if word == "off":
        # A choice of the model's mode, false where a rule is true or false, and else no rule.
        return word if now == "off" else False if isinstance(now, bool) else None
    if word in _WORDS:
        return _WORDS[word]
    if _NUMBER.fullmatch(word):
        return int(word) if _is_whole(word) else float(word)
    return word


def _is_whole(word: str) -> bool:
    return word.lstrip("+-").isdecimal()
