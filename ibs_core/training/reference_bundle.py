"""What a bundle of the reference system says of itself: its JSON, read without its pickle.

Two spellings are read: ``Symbol``, ``Prod_Threshold``, ``Params``, ``Features``, and the lower-case one of its
other trainer. All other keys are what the reference claims.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ibs_core.bundle import read_file
from ibs_core.bundle.card import SYMBOL
from ibs_core.errors import ConfigError, DataError
from ibs_core.training.reference_names import Column, read_columns

if TYPE_CHECKING:
    from pathlib import Path

    from ibs_core.contracts import ContractMap

__all__ = ["JUDGED_ON", "Described", "describe", "find_bundles"]

JUDGED_ON: Final = "claimed: judged on the data it was tuned on"
"""What the reference's metrics are worth."""

_KEYS: Final = ("Symbol", "Prod_Threshold", "Params", "Features")
_LOWER_KEYS: Final = ("symbol", "threshold", "params", "features")
_NOTES: Final = (
    "rows were taken when the fill was told, a bar after the decision; here at the decision",
    "missing features were 0.5 (names in _pct) or 0, and 0 when served; here such a candidate is refused",
)
_SCALED: Final = "fitted on standardised inputs, and the scaler was not stored"


@dataclass(frozen=True, slots=True)
class Described:
    """A bundle of the reference as its JSON tells it.

    Attributes
    ----------
    path : Path
        Of the JSON.
    pickle : Path
        Where its forest would lie.
    digest : str
        SHA-256 of the JSON.
    symbol : str
    threshold : float
        In (0, 1).
    parameters : dict
        Of the forest.
    claimed : dict
        Every other key.
    columns : tuple of Column
        Of the model, in order.
    scaled : str
        Why its inputs are not what is served here; empty when nothing says so.
    notes : tuple of str
        What a reader must know.
    """

    path: Path
    pickle: Path
    digest: str
    symbol: str
    threshold: float
    parameters: dict[str, Any]
    claimed: dict[str, Any]
    columns: tuple[Column, ...]
    scaled: str
    notes: tuple[str, ...]


def find_bundles(path: Path) -> list[Path]:
    """List the JSON files of bundles.

    Parameters
    ----------
    path : Path
        One such file, or a folder with files ``<SYMBOL>_best.json``.

    Returns
    -------
    list of Path

    Raises
    ------
    ConfigError
        The folder holds none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*_best.json"))
    if not found:
        expected = "files <SYMBOL>_best.json"
        raise ConfigError(
            "folder without a bundle of the reference", expected=expected, where=str(path)
        )
    return found


def describe(path: Path, contracts: ContractMap) -> Described:
    """Read the JSON of a bundle; its pickle is not touched.

    Parameters
    ----------
    path : Path
    contracts : ContractMap
        Its features are those that the names are translated to.

    Returns
    -------
    Described

    Raises
    ------
    DataError
        It is not JSON, or lacks what every bundle has.
    EnvironmentFault
        It cannot be read, or a git-lfs pointer stands in its place.
    """
    content = read_file(path)
    says = _parsed(content, str(path))
    keys = _LOWER_KEYS if "symbol" in says and "Symbol" not in says else _KEYS
    symbol, threshold, parameters, names = _checked(says, keys, str(path))
    columns = read_columns(names, contracts)
    scaled = ""
    if any("¶" in each.marks for each in columns):
        scaled = f"the names are those of the later generation, {_SCALED}"
    elif keys is _LOWER_KEYS:
        scaled = f"the keys are those of the trainer whose forests were {_SCALED}"
    notes = [JUDGED_ON, *_NOTES]
    if n := sum(bool(each.differs) for each in columns):
        notes.append(
            f"{n} of {len(columns)} columns have other values here: no score is what it was"
        )
    if scaled:
        notes.append(scaled)
    elif "Holdout" in says:
        notes.append(f"a holdout is reported: it may be of the later generation, {_SCALED}")
    return Described(
        path=path,
        pickle=path.with_name(f"{symbol}_rf_model.pkl"),
        digest=sha256(content).hexdigest(),
        symbol=symbol,
        threshold=threshold,
        parameters=parameters,
        claimed={key: value for key, value in says.items() if key not in keys},
        columns=columns,
        scaled=scaled,
        notes=tuple(notes),
    )


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    def finite(number: str) -> float:
        if not math.isfinite(float(number)):  # Python's own JSON writes such
            raise ValueError(f"the number {number}")
        return float(number)

    try:
        says = json.loads(content, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError too
        raise DataError(
            "bundle of the reference is not JSON", found=str(error), where=where
        ) from None
    if not isinstance(says, dict):
        found = type(says).__name__
        raise DataError("bundle of the reference", expected="an object", found=found, where=where)
    return says


def _checked(
    says: dict[str, Any], keys: tuple[str, ...], where: str
) -> tuple[str, float, dict[str, Any], list[str]]:
    """Return symbol, threshold, parameters and features."""
    absent = [key for key in keys if key not in says]
    if absent:
        raise DataError(
            "bundle of the reference lacks a key", expected=", ".join(absent), where=where
        )
    symbol, threshold, parameters, names = (says[key] for key in keys)
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    for key, sound, expected in (
        (keys[0], isinstance(symbol, str) and re.fullmatch(SYMBOL, symbol), "a root such as ES"),
        (keys[1], number and 0 < threshold < 1, "a number between 0 and 1"),
        (keys[2], isinstance(parameters, dict), "the parameters of a forest"),
        (keys[3], texts and 0 < len(names) == len(set(names)), "names, each once"),
    ):
        if not sound:
            found = repr(says[key])[:80]
            raise DataError(
                f"{key} of a bundle of the reference", expected=expected, found=found, where=where
            )
    return symbol, float(threshold), parameters, names
