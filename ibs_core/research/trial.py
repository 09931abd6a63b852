"""One trial and its row in the ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ibs_core.bars import Ints

__all__ = ["Trial", "check_same", "digest_of", "row_of"]

Floats = NDArray[np.float64]

_IDENTITY: Final = (  # in which one trial that is reported twice may not differ
    *("command", "symbol", "data_digest", "feature_digest", "parameters", "seed", "n_trades"),
    *("generated", "returns_digest"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One set of parameters that was tried, and what came of it.

    Attributes
    ----------
    time_ns : int, UTC ns
        When it ended.
    command : str
        That ran it, without its options: ``model train``.
    study, number : str and int >= 0
        The search and the trial's number within it; together they are one trial.
    symbol : str
    data_digest, feature_digest : str
        Of the data and of the feature set, as the model's card names them.
    parameters : mapping
        JSON values.
    seed : int
    sharpe : float or None
        Of `returns`, per period; None where undefined.
    n_trades : int, >= 0
    generated : bool
        The data were generated.
    sessions : (n_periods,) int64, strictly increasing
        Session of each return; empty for a trial that failed or was cut short, which counts all the same.
    returns : (n_periods,) float64, finite
        Net, of each session that was judged; 0 where nothing was traded.
    """

    time_ns: int
    command: str
    study: str
    number: int
    symbol: str
    data_digest: str
    feature_digest: str
    parameters: Mapping[str, Any]
    seed: int
    sharpe: float | None
    n_trades: int
    generated: bool
    sessions: Ints
    returns: Floats


def row_of(trial: Trial) -> dict[str, Any]:
    """Check a trial and put it into the form of its row.

    Parameters
    ----------
    trial : Trial

    Returns
    -------
    dict
        Integers, floats, text and bytes by name of column.

    Raises
    ------
    ConfigError
        The parameters are not JSON values.
    DataError
        The returns are not finite, or do not belong to sessions in order.
    """
    _check(trial)
    sessions = np.ascontiguousarray(trial.sessions, "<i8").tobytes()
    returns = np.ascontiguousarray(trial.returns, "<f8").tobytes()
    return {
        "time_ns": int(trial.time_ns),
        "command": trial.command,
        "study": trial.study,
        "number": int(trial.number),
        "symbol": trial.symbol,
        "data_digest": trial.data_digest,
        "feature_digest": trial.feature_digest,
        "parameters": _canonical(trial.parameters),
        "seed": int(trial.seed),
        "sharpe": None if trial.sharpe is None else float(trial.sharpe),
        "n_periods": len(trial.returns),
        "n_trades": int(trial.n_trades),
        "generated": int(trial.generated),
        "returns_digest": digest_of(sessions, returns),
        "sessions": sessions,
        "returns": returns,
    }


def digest_of(sessions: bytes, returns: bytes) -> str:
    """Identify a trial's returns.

    Parameters
    ----------
    sessions, returns : bytes

    Returns
    -------
    str
        SHA-256, in hexadecimal.
    """
    return hashlib.sha256(sessions + returns).hexdigest()


def check_same(recorded: dict[str, Any], row: dict[str, Any], path: Path) -> None:
    """Refuse a trial that bears the study and number of another.

    Parameters
    ----------
    recorded, row : dict
        As `row_of` returns them. Their times may differ.
    path : Path
        Of the ledger.

    Raises
    ------
    DataError
    """
    for name in _IDENTITY:
        if recorded[name] != row[name]:
            raise DataError(
                f"another trial {row['number']} of study {row['study']!r} is recorded",
                expected=f"{name} {recorded[name]!r}",
                found=f"{row[name]!r}",
                where=str(path),
                remedy="give the study another name",
            )


def _canonical(parameters: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(parameters), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "parameters of a trial", expected="JSON values", found=f"{error}"
        ) from error


def _check(trial: Trial) -> None:
    where = f"trial {trial.number} of study {trial.study!r}"
    if len(trial.sessions) != len(trial.returns):
        raise DataError(
            "returns without sessions",
            expected=f"{len(trial.sessions)} returns, one a session",
            found=f"{len(trial.returns)}",
            where=where,
        )
    unordered = np.flatnonzero(np.diff(trial.sessions) <= 0)
    if len(unordered):
        earlier, later = trial.sessions[unordered[0] : unordered[0] + 2]
        raise DataError(
            "sessions out of order",
            expected=f"a session after {earlier}",
            found=f"{later}",
            where=where,
        )
    numbers = [*trial.returns] if trial.sharpe is None else [trial.sharpe, *trial.returns]
    if not np.isfinite(numbers).all():
        raise DataError(
            "a trial's result is not a number",
            expected="finite returns, and a finite Sharpe ratio or none",
            found="NaN or infinity",
            where=where,
        )
