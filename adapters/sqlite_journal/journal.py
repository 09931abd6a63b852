"""The journal's writer: one transaction a call, durable when the call returns."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from adapters.sqlite_journal.file import connect, create, damaged, faults, lock, spell
from adapters.sqlite_journal.reading import ORDER_COLUMNS, JournalReadings
from adapters.sqlite_journal.records import STATES, may_follow
from ibs_core.errors import DataError
from ibs_core.snapshot import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ibs_core.outcomes import Response
    from ibs_core.ports import Entry, Order

__all__ = ["SqliteJournal"]

_ORDER: Final = """
INSERT INTO orders (
    order_id, seq, symbol, instrument, action, reason, decided_ns, quantity, price, stop, target, score,
    threshold, model, updated_ns
) VALUES (
    :order_id, :seq, :symbol, :instrument, :action, :reason, :decided_ns, :quantity, :price, :stop, :target,
    :score, :threshold, :model, :decided_ns
)
"""
_FORGET: Final = """
DELETE FROM snapshots
WHERE id NOT IN (SELECT min(id) FROM snapshots GROUP BY run)
  AND id NOT IN (SELECT id FROM snapshots ORDER BY id DESC LIMIT 2)
"""


class SqliteJournal(JournalReadings):
    """A journal in one SQLite file; a `Journal`.

    A call that fails leaves the journal as it was. Every method may be called from any thread.

    Parameters
    ----------
    path : Path
        Made when missing, with its folder, unless it is only to be read.
    read_only : bool
        Beside a writer, or on a medium that cannot be written. Else this process becomes the one writer.
    wait_s : float, seconds
        How long to wait for another process that writes to the file.

    Raises
    ------
    EnvironmentFault
        Another process is the writer, or the file is missing, damaged, of another kind or version, locked,
        or may not be read or written. Methods raise it too, for a full disk among others; whoever writes
        should then end, for SQLite cannot promise what a disk that failed has kept.
    """

    def __init__(self, path: Path, *, read_only: bool = False, wait_s: float = 5.0) -> None:
        self.read_only = read_only
        self._run: int | None = None
        self._lock: int | None = None
        place = path.resolve()  # so that every way to the file leads to one lock
        try:
            with faults(place):
                if not read_only:
                    self._lock = lock(place)
                    if not place.exists():
                        create(place)
                super().__init__(place, connect(place, read_only=read_only, wait_s=wait_s))
                if not read_only:
                    self._check()
        except BaseException:
            self.close()
            raise

    def begin(self, now_ns: int, facts: Mapping[str, Any]) -> int:
        """Open a run of this process.

        Parameters
        ----------
        now_ns : int, UTC ns
        facts : Mapping of str to Any
            JSON values: versions, configuration, never a secret.

        Returns
        -------
        int
            Its number, from 1.
        """
        assert self._run is None, "a run is open"
        text = spell(facts)
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO runs (started_ns, facts) VALUES (?, ?)", (now_ns, text)
            )
            run = int(cursor.lastrowid or 0)
        self._run = run
        return run

    def append(self, entry: Entry) -> int:
        """Write one entry and its orders, durably before it returns.

        Parameters
        ----------
        entry : Entry

        Returns
        -------
        int
            Its number: one more than the last.

        Raises
        ------
        DataError
            The journal holds one of the orders already, or one has no price.
        """
        run, block = self._open_run, pack(entry.arrays)
        digest = sha256(block).digest()
        with self._transaction() as db:
            seq = int(db.execute("SELECT coalesce(max(seq), 0) + 1 FROM entries").fetchone()[0])
            db.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
                (seq, run, int(entry.time_ns), digest, block),
            )
            for order in entry.orders:
                _insert(db, order, seq)
        return seq

    def snapshot(self, seq: int, time_ns: int, block: bytes) -> None:
        """Keep the state after an entry; older states but the newest two and the first of a run go.

        Parameters
        ----------
        seq : int
            0 before the first entry.
        time_ns : int, UTC ns
        block : bytes
        """
        run, digest = self._open_run, sha256(block).digest()
        with self._transaction() as db:
            db.execute(
                "INSERT INTO snapshots (seq, run, time_ns, sha256, block) VALUES (?, ?, ?, ?, ?)",
                (seq, run, time_ns, digest, block),
            )
            db.execute(_FORGET)
        with self._guard, faults(self.path):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def event(self, now_ns: int, kind: str, facts: Mapping[str, Any]) -> None:
        """Keep something that people will want to know.

        Parameters
        ----------
        now_ns : int, UTC ns
        kind : str
        facts : Mapping of str to Any
            JSON values, never a secret.
        """
        run, text = self._open_run, spell(facts)
        with self._transaction() as db:
            db.execute(
                "INSERT INTO events (run, time_ns, kind, facts) VALUES (?, ?, ?, ?)",
                (run, now_ns, kind, text),
            )

    def order_state(self, order_id: str, state: str, now_ns: int, detail: str = "") -> None:
        """Move an order on.

        Parameters
        ----------
        order_id : str
        state : str
            One that may follow: see `may_follow`.
        now_ns : int, UTC ns
        detail : str
            For people, never a secret.

        Raises
        ------
        DataError
            The order is unknown, or may not move there from where it is.
        """
        with self._transaction() as db:
            self._move(db, order_id, state, now_ns, detail)

    def begin_attempt(
        self, order_id: str, now_ns: int, *, body: str, route: str, flattens: bool = False
    ) -> int:
        """Note that an order is about to be sent, durably before it returns.

        Parameters
        ----------
        order_id : str
            Moves to SENDING, unless it is flattened.
        now_ns : int, UTC ns
        body : str
            What is sent. Frozen with the first attempt, but for the exit in place of an entry.
        route : str
        flattens : bool
            The exit in place of an entry of unknown outcome is sent.

        Returns
        -------
        int
            Number of the attempt.

        Raises
        ------
        DataError
            The order may not be sent from where it is.
        """
        with self._transaction() as db:
            if not flattens:
                self._move(db, order_id, "SENDING", now_ns, "")
                db.execute(
                    "UPDATE orders SET body = coalesce(body, ?), route = ? WHERE order_id = ?",
                    (body, route, order_id),
                )
            cursor = db.execute(
                "INSERT INTO attempts (order_id, started_ns, flattens) VALUES (?, ?, ?)",
                (order_id, now_ns, flattens),
            )
            return int(cursor.lastrowid or 0)

    def end_attempt(
        self, number: int, now_ns: int, response: Response, *, state: str | None, why: str
    ) -> None:
        """Note how an attempt ended, and move its order on in the same transaction.

        Parameters
        ----------
        number : int
        now_ns : int, UTC ns
        response : Response
        state : str or None
            None where the order stays.
        why : str
            Of the move.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE attempts SET ended_ns = ?, class = ?, status = ?, detail = ?, signal_id = ?,"
                " log_id = ?, retry_after_ns = ? WHERE id = ?",
                (
                    now_ns,
                    response.outcome,
                    response.status,
                    response.detail,
                    response.signal_id,
                    response.log_id,
                    response.retry_after_ns,
                    number,
                ),
            )
            query = "SELECT order_id FROM attempts WHERE id = ?"
            order_id = str(db.execute(query, (number,)).fetchone()[0])
            if state is not None:
                self._move(db, order_id, state, now_ns, why)

    def settle_command(self, number: int, now_ns: int) -> None:
        """Note that a command was done, after what it did is in the journal.

        Parameters
        ----------
        number : int
        now_ns : int, UTC ns
        """
        with self._transaction() as db:
            db.execute("UPDATE commands SET taken_ns = ? WHERE id = ?", (now_ns, number))

    def end(self, now_ns: int, how: str) -> None:
        """Close the run.

        Parameters
        ----------
        now_ns : int, UTC ns
        how : str
        """
        run = self._open_run
        with self._transaction() as db:
            db.execute("UPDATE runs SET ended_ns = ?, how = ? WHERE run = ?", (now_ns, how, run))
        self._run = None

    def close(self) -> None:
        """Close the file, and let another process write."""
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _open_run(self) -> int:
        assert self._run is not None, "no run is open"
        return self._run

    def _check(self) -> None:
        """Refuse to write to a file whose pages do not hang together: what is written next may be lost."""
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise damaged(self.path, "its pages", str(verdict))
        mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        assert mode == "wal", mode

    def _move(
        self, db: sqlite3.Connection, order_id: str, state: str, now_ns: int, detail: str
    ) -> None:
        run = self._open_run
        query = "SELECT action, state FROM orders WHERE order_id = ?"
        row = db.execute(query, (order_id,)).fetchone()
        if row is None:
            raise DataError(f"no order {order_id!r} is in the journal", where=str(self.path))
        legal = may_follow(row["action"], row["state"])
        if state not in legal:
            named = " or ".join(each for each in STATES if each in legal)
            raise DataError(
                f"{row['action']} {order_id!r} is {row['state']}",
                expected=f"to move to {named or 'nothing else'}",
                found=state,
                where=str(self.path),
            )
        db.execute(
            "UPDATE orders SET state = ?, updated_ns = ? WHERE order_id = ?",
            (state, now_ns, order_id),
        )
        db.execute(
            "INSERT INTO moves (order_id, run, time_ns, state, detail) VALUES (?, ?, ?, ?, ?)",
            (order_id, run, now_ns, state, detail),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all of what the body writes, or nothing."""
        assert not self.read_only, "opened to be read"
        with self._guard, faults(self.path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _insert(db: sqlite3.Connection, order: Order, seq: int) -> None:
    row: dict[str, Any] = {"seq": seq}
    for name in ORDER_COLUMNS:
        value = getattr(order, name)
        row[name] = value.item() if isinstance(value, np.generic) else value
    try:
        db.execute(_ORDER, row)
    except sqlite3.IntegrityError as error:
        twice = error.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"
        raise DataError(
            f"order {order.order_id!r} cannot be written",
            found="it is in the journal already" if twice else str(error),
            remedy="a decision is journalled once" if twice else "",
        ) from error
