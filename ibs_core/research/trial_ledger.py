"""The record of every trial of every command, without which no result can be corrected for luck.

One SQLite file, one table, append-only. The number of trials that the Deflated Sharpe Ratio asks for is the
true count: all retries and all symbols of the commands that chose among them. Nothing is taken off for
trials that resemble each other: that shows in the variance of their Sharpe ratios.

Many processes may append at once: they wait for each other, and a trial that is there already is not added
again, so a resumed search may report its trials anew. A process that is killed leaves its trial whole or not
at all. The ledger holds no connection: it may be copied to other processes, forked or not.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ibs_core.errors import EnvironmentFault
from ibs_core.research.trial import Trial, check_same, digest_of, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ibs_core.bars import Ints

__all__ = ["ReturnsMatrix", "Selection", "Trial", "TrialLedger"]

Floats = NDArray[np.float64]

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    time_ns INTEGER NOT NULL,        -- UTC
    command TEXT NOT NULL,
    study TEXT NOT NULL,
    number INTEGER NOT NULL,         -- within the study
    symbol TEXT NOT NULL,
    data_digest TEXT NOT NULL,
    feature_digest TEXT NOT NULL,
    parameters TEXT NOT NULL,        -- JSON, keys in order
    seed INTEGER NOT NULL,
    sharpe REAL,                     -- per period; NULL where undefined
    n_periods INTEGER NOT NULL,
    n_trades INTEGER NOT NULL,
    generated INTEGER NOT NULL,      -- 1: the data were generated
    returns_digest TEXT NOT NULL,    -- SHA-256 of sessions and returns
    sessions BLOB NOT NULL,          -- int64, little-endian
    returns BLOB NOT NULL,           -- float64, little-endian
    UNIQUE (study, number)
);
CREATE TRIGGER trials_are_kept BEFORE DELETE ON trials
BEGIN SELECT RAISE(ABORT, 'the trial ledger is append-only'); END;
CREATE TRIGGER trials_do_not_change BEFORE UPDATE ON trials
BEGIN SELECT RAISE(ABORT, 'the trial ledger is append-only'); END;
"""
_INSERT: Final = """
INSERT INTO trials (
    time_ns, command, study, number, symbol, data_digest, feature_digest, parameters, seed, sharpe,
    n_periods, n_trades, generated, returns_digest, sessions, returns
) VALUES (
    :time_ns, :command, :study, :number, :symbol, :data_digest, :feature_digest, :parameters, :seed, :sharpe,
    :n_periods, :n_trades, :generated, :returns_digest, :sessions, :returns
) ON CONFLICT (study, number) DO NOTHING
"""
_RECORDED: Final = "SELECT * FROM trials WHERE study = :study AND number = :number"
_SELECTED: Final = """
FROM trials
WHERE (:commands IS NULL OR command IN (SELECT value FROM json_each(:commands)))
  AND (:symbol IS NULL OR symbol = :symbol)
  AND (:data_digest IS NULL OR data_digest = :data_digest)
  AND (:feature_digest IS NULL OR feature_digest = :feature_digest)
  AND (:study IS NULL OR study = :study)
  AND (:generated IS NULL OR generated = :generated)
"""
_REMEDIES: Final = {
    "SQLITE_BUSY": "wait for the command that writes to it, or end it",
    "SQLITE_NOTADB": "it is not a trial ledger; move it away or give another path",
    "SQLITE_CORRUPT": "restore it from a copy, or move it away; its trials are lost",
    "SQLITE_FULL": "free disk space",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which trials are meant: those that match every field that is given.

    Attributes
    ----------
    commands : tuple of str or None
        Any of these.
    symbol, data_digest, feature_digest, study : str or None
    generated : bool or None
    """

    commands: tuple[str, ...] | None = None
    symbol: str | None = None
    data_digest: str | None = None
    feature_digest: str | None = None
    study: str | None = None
    generated: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ReturnsMatrix:
    """Returns of many trials, side by side.

    Attributes
    ----------
    sessions : (n_periods,) int64
        Those that every trial has.
    returns : (n_periods, n_trials) float64
    trials : tuple of (str, int)
        Study and number of each column, in this order.
    """

    sessions: Ints
    returns: Floats
    trials: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class TrialLedger:
    """A ledger at a path; the file is made by the first trial.

    Every method raises `EnvironmentFault` for a file that is damaged, of another kind, cannot be read or
    written, or stays locked for longer than `wait_s`.

    Attributes
    ----------
    path : Path
    wait_s : float, seconds
        How long to wait for other processes.
    """

    path: Path
    wait_s: float = 30.0

    def append(self, trial: Trial) -> bool:
        """Add a trial, on the disk when this returns.

        Parameters
        ----------
        trial : Trial

        Returns
        -------
        bool
            False where the same trial was there already, whatever its time.

        Raises
        ------
        ConfigError
            The parameters are not JSON values.
        DataError
            The returns are not finite or do not belong to sessions in order, or another trial bears the
            same study and number.
        """
        row = row_of(trial)
        with self._faults():
            if not self.path.exists():
                _create(self.path)
            with self._open() as db:
                db.execute("BEGIN IMMEDIATE")
                if db.execute(_INSERT, row).rowcount:
                    db.execute("COMMIT")
                    return True
                recorded = dict(db.execute(_RECORDED, row).fetchone())
        check_same(recorded, row, self.path)
        return False

    def count(self, selection: Selection) -> int:
        """Count trials, those without returns too.

        Parameters
        ----------
        selection : Selection

        Returns
        -------
        int
        """
        return int(self._read("SELECT count(*)" + _SELECTED, selection, [(0,)])[0][0])

    def variance_of_sharpe(self, selection: Selection) -> float | None:
        """Tell how far the trials' Sharpe ratios spread.

        Parameters
        ----------
        selection : Selection

        Returns
        -------
        float or None
            Sample variance (ddof 1) of the ratios per period, of the trials that have one; None where fewer
            than two have.
        """
        rows = self._read("SELECT sharpe" + _SELECTED + "AND sharpe IS NOT NULL", selection, [])
        # Sorted, so that it does not depend on the order in which processes were done.
        values = np.sort(np.array([sharpe for (sharpe,) in rows], np.float64))
        return float(values.var(ddof=1)) if len(values) > 1 else None

    def returns_matrix(self, selection: Selection) -> ReturnsMatrix:
        """Lay the returns of trials side by side, over the sessions that all of them have.

        Parameters
        ----------
        selection : Selection
            As a rule of one symbol and one data digest. Trials without returns are left out.

        Returns
        -------
        ReturnsMatrix

        Raises
        ------
        EnvironmentFault
            Returns are not those that were appended: the file is damaged.
        """
        rows = self._read(
            "SELECT study, number, returns_digest, sessions, returns"
            + _SELECTED
            + "AND n_periods > 0 ORDER BY study, number",
            selection,
            [],
        )
        if not rows:
            return ReturnsMatrix(np.zeros(0, np.int64), np.zeros((0, 0)), ())
        series = []
        for study, number, digest, sessions, returns in rows:
            if digest_of(sessions, returns) != digest:
                raise EnvironmentFault(
                    f"the trial ledger {self.path} is damaged",
                    expected=f"returns with the digest {digest[:12]}…",
                    found=f"{digest_of(sessions, returns)[:12]}…",
                    where=f"trial {number} of study {study!r}",
                    remedy=_REMEDIES["SQLITE_CORRUPT"],
                )
            series.append((np.frombuffer(sessions, "<i8"), np.frombuffer(returns, "<f8")))
        common = series[0][0]
        for sessions, _ in series[1:]:
            common = common[np.isin(common, sessions, assume_unique=True)]
        columns = [returns[np.searchsorted(sessions, common)] for sessions, returns in series]
        return ReturnsMatrix(
            sessions=common.astype(np.int64),
            returns=np.column_stack(columns).astype(np.float64),
            trials=tuple((str(row[0]), int(row[1])) for row in rows),
        )

    def _read(self, query: str, selection: Selection, absent: list[Any]) -> list[Any]:
        """Return the rows of a query; `absent` where there is no ledger yet."""
        wanted = asdict(selection)
        if selection.commands is not None:
            wanted["commands"] = json.dumps(selection.commands)
        with self._faults():
            if not self.path.exists():
                return absent
            with self._open() as db:
                return db.execute(query, wanted).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Connect to the file, which must exist, and check that it is a ledger."""
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(uri, uri=True, timeout=self.wait_s, isolation_level=None)
        ) as db:
            db.row_factory = sqlite3.Row
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != _VERSION:
                raise EnvironmentFault(
                    f"{self.path} is not a trial ledger of this version",
                    expected=f"version {_VERSION}",
                    found=f"{version}",
                    remedy="move it away or give another path",
                )
            # With a write-ahead log only this keeps a committed trial through a loss of power.
            db.execute("PRAGMA synchronous = FULL")
            yield db

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn a fault of the file or the machine into an error of ours."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            # Extended codes append to the name of the code that they are of: SQLITE_BUSY_SNAPSHOT.
            name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
            raise EnvironmentFault(
                f"trial ledger {self.path}",
                found=getattr(error, "strerror", None) or str(error),
                remedy=_REMEDIES.get(name, "check the path and its permissions"),
            ) from error


def _create(path: Path) -> None:
    """Make an empty ledger elsewhere and link it to its name, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        fresh.chmod(0o644)  # a temporary file is the owner's alone
        path.hardlink_to(fresh)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
