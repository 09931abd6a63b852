"""The journal as a file: its making and opening, its lock, and what can be wrong with it."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from adapters.sqlite_journal.schema import APPLICATION, SCHEMA, VERSION
from ibs_core import __version__
from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["connect", "create", "damaged", "faults", "has_writer", "lock", "post_command", "spell"]

_DAMAGED: Final = "keep it for inspection, and restore it from a copy or begin another"
_REMEDIES: Final = {
    "SQLITE_BUSY": "end the process that holds it; a copy or a browser of databases may",
    "SQLITE_NOTADB": "it is not a journal; give another path",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_FULL": "free disk space",
    "SQLITE_IOERR": "check the disk and its free space",
}


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn a fault of the file or the machine into an error of ours.

    Parameters
    ----------
    path : Path

    Raises
    ------
    EnvironmentFault
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a mistake of our own
    except (OSError, sqlite3.Error) as error:
        raise EnvironmentFault(
            f"journal {path}",
            found=getattr(error, "strerror", None) or str(error),
            remedy=_REMEDIES.get(_code(error), "check the path and its permissions"),
        ) from error


def damaged(path: Path, where: str, found: str) -> EnvironmentFault:
    """Say that a journal does not hold what was written to it.

    Parameters
    ----------
    path : Path
    where, found : str

    Returns
    -------
    EnvironmentFault
        To be raised.
    """
    return EnvironmentFault(
        f"the journal {path} is damaged", found=found, where=where, remedy=_DAMAGED
    )


def spell(facts: Mapping[str, Any]) -> str:
    """Write facts as JSON.

    Parameters
    ----------
    facts : Mapping of str to Any
        JSON values, no NaN.

    Returns
    -------
    str
        The same for the same facts.
    """
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def lock(path: Path) -> int:
    """Become the one writer of a journal, until the handle is closed or the process ends, however it ends.

    Parameters
    ----------
    path : Path
        Of the journal; the lock lies beside it and stays there.

    Returns
    -------
    int
        An open file.

    Raises
    ------
    EnvironmentFault
        Another process is the writer.
    OSError
        The lock cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode().strip()
        os.close(handle)
        raise EnvironmentFault(
            f"the journal {path} has a writer",
            found=f"process {holder or 'that has just begun'}",
            remedy="end it first: one worker writes a journal",
        ) from None
    except BaseException:
        os.close(handle)
        raise
    return handle


def has_writer(path: Path) -> bool:
    """Tell whether a process writes a journal now.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
        Of this moment; one may begin at once.
    """
    try:
        handle = os.open(f"{path.resolve()}.lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that ask at once do not take each other for the writer.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def create(path: Path) -> None:
    """Make an empty journal under a hidden name and give it its own; the caller holds the lock.

    Parameters
    ----------
    path : Path
    """
    hidden = path.with_name(f".{path.name}.tmp")
    for left in ("", "-journal", "-wal", "-shm"):  # by a process that was killed here
        hidden.with_name(hidden.name + left).unlink(missing_ok=True)
    with closing(sqlite3.connect(hidden, isolation_level=None)) as db:
        db.executescript(
            f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION};"
            f" PRAGMA user_version = {VERSION}; COMMIT;"
        )
        makers = [("ibs", __version__), ("sqlite", sqlite3.sqlite_version)]
        db.executemany("INSERT INTO meta VALUES (?, ?)", makers)
        db.execute("PRAGMA journal_mode = WAL")
    hidden.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def connect(path: Path, *, read_only: bool, wait_s: float) -> sqlite3.Connection:
    """Open a journal that exists, and check that it is one.

    Parameters
    ----------
    path : Path
    read_only : bool
    wait_s : float, seconds
        For others that write.

    Returns
    -------
    sqlite3.Connection
        In autocommit, with rows by name; for any thread, one at a time.

    Raises
    ------
    EnvironmentFault
        It is missing, is not a journal of this version, or the log beside it cannot be read.
    sqlite3.Error
    """
    if not path.exists():
        raise EnvironmentFault(f"no journal {path.absolute()}", remedy="give --journal")
    if not read_only:
        db = _opened(path, "mode=rw", wait_s)
        # With a write-ahead log only this keeps a committed entry through a loss of power.
        db.execute("PRAGMA synchronous = FULL")
        # Moving the log into the file takes longer than an entry may: it is done beside a snapshot.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        return db
    try:
        return _opened(path, "mode=ro", wait_s)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        if _code(error) not in {"SQLITE_CANTOPEN", "SQLITE_READONLY"}:
            raise
        if log.exists() and log.stat().st_size:
            raise EnvironmentFault(
                f"the log of the journal {path} cannot be read where it is",
                found=str(error),
                remedy=f"copy the journal and {log.name} to a folder that can be written",
            ) from error
    # On a medium that cannot be written SQLite cannot lay its index of the log, and there is none to index.
    return _opened(path, "mode=ro&immutable=1", wait_s)


def post_command(
    path: Path, now_ns: int, command: str, facts: Mapping[str, Any], *, wait_s: float = 5.0
) -> int:
    """Leave a command for the worker that runs, or will run, on a journal.

    Parameters
    ----------
    path : Path
    now_ns : int, UTC ns
    command : str
    facts : Mapping of str to Any
        JSON values.
    wait_s : float, seconds
        For others that write.

    Returns
    -------
    int
        Its number, on the disk when this returns.

    Raises
    ------
    EnvironmentFault
        As `SqliteJournal`, but for the lock, which is not needed.
    """
    text = spell(facts)
    with faults(path), closing(connect(path, read_only=False, wait_s=wait_s)) as db:
        cursor = db.execute(
            "INSERT INTO commands (time_ns, command, facts) VALUES (?, ?, ?)",
            (now_ns, command, text),
        )
        return int(cursor.lastrowid or 0)


def _opened(path: Path, options: str, wait_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    db = sqlite3.connect(
        uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False
    )
    try:
        _check(db, path)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION:
        raise EnvironmentFault(f"{path} is not a journal", remedy="give another path")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise EnvironmentFault(
            f"the journal {path} is of another version",
            expected=str(VERSION),
            found=str(version),
            remedy="use the release of ibs that wrote it, or begin another",
        )


def _code(error: BaseException) -> str:
    """Return SQLite's name of an error; extended codes append to it, as in SQLITE_BUSY_SNAPSHOT."""
    return "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
