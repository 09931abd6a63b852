"""What a journal tells: runs, entries, orders, events, states."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from adapters.sqlite_journal.file import damaged, faults
from adapters.sqlite_journal.records import Command, Event, Move, OrderRecord, Run
from ibs_core.errors import DataError
from ibs_core.outbox import Attempt, Delivery
from ibs_core.outcomes import Response
from ibs_core.ports import Order, Stored
from ibs_core.snapshot import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["ORDER_COLUMNS", "JournalReadings"]

ORDER_COLUMNS: Final = tuple(field.name for field in fields(Order))
_PAGE: Final = 32
"""Entries to a query. A query that stays open while its rows are worked on would keep the log from being
folded into the file, and that log grows for as long."""
_ENTRIES: Final = """
SELECT seq, run, time_ns, sha256, block,
       (SELECT json_group_array(order_id) FROM
           (SELECT order_id FROM orders WHERE orders.seq = entries.seq ORDER BY id)) AS order_ids
FROM entries WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?
"""
_ORDERS: Final = """
SELECT * FROM orders
WHERE (:state IS NULL OR state = :state) AND (:symbol IS NULL OR symbol = :symbol) ORDER BY id
"""
_EVENTS: Final = """
SELECT run, time_ns, kind, facts FROM events
WHERE (:run IS NULL OR run = :run) AND (:kind IS NULL OR kind = :kind) ORDER BY id
"""
_UNSETTLED: Final = """
SELECT * FROM orders
WHERE state IN ('PENDING', 'SENDING', 'AMBIGUOUS') OR (state = 'DEAD' AND action != 'entry')
   OR order_id IN (SELECT order_id FROM attempts WHERE started_ns >= ?)
ORDER BY id
"""
_PAGES: Final = """
SELECT order_id, json_group_array(DISTINCT cause) FROM (
    SELECT time_ns, json_extract(facts, '$.order_id') AS order_id, json_extract(facts, '$.cause') AS cause
    FROM events WHERE kind = 'page') AS page
WHERE time_ns > coalesce(  -- once a dead exit is sent again, what people were told of it is over
    (SELECT max(time_ns) FROM moves WHERE moves.order_id = page.order_id AND state = 'DEAD'), -1)
GROUP BY order_id
"""
_SNAPSHOT: Final = "SELECT seq, time_ns, sha256, block FROM snapshots WHERE id = ?"


class JournalReadings:
    """A journal as its readers see it, the worker itself among them.

    Parameters
    ----------
    path : Path
    db : sqlite3.Connection
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._guard = threading.RLock()  # a connection has one transaction, whatever the thread
        self._looked_at: int | None = None
        self._last_command = 0

    def runs(self) -> list[Run]:
        """List the processes that wrote, oldest first.

        Returns
        -------
        list of Run
        """
        rows = self._rows("SELECT run, started_ns, facts, ended_ns, how FROM runs ORDER BY run")
        return [Run(**{**row, "facts": json.loads(row["facts"])}) for row in map(dict, rows)]

    def entries(self, after_seq: int = 0, until_seq: int | None = None) -> Iterator[Stored]:
        """Read entries one after another, also while a worker appends.

        Parameters
        ----------
        after_seq : int
            From the one that follows it.
        until_seq : int, optional
            To this one, inclusive.

        Yields
        ------
        Stored

        Raises
        ------
        EnvironmentFault
            An entry is missing, or is not what was written.
        """
        last = 2**62 if until_seq is None else until_seq
        while rows := self._rows(_ENTRIES, (after_seq, last, _PAGE)):
            for row in rows:
                if row["seq"] != after_seq + 1:
                    raise damaged(self.path, f"entry {after_seq + 1}", "it is missing")
                after_seq = row["seq"]
                yield self._stored(row)

    def last_seq(self) -> int:
        """Return the number of the last entry, 0 where there is none.

        Returns
        -------
        int
        """
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM entries")[0][0])

    def latest_snapshot(self) -> tuple[int, int, bytes] | None:
        """Return the newest state that is as it was written; one that is not is passed over.

        Returns
        -------
        (int, int, bytes) or None
            The entry whose state it is, its time in UTC ns, and the block.
        """
        for (number,) in self._rows("SELECT id FROM snapshots ORDER BY id DESC"):
            if (sound := self._snapshot(number)) is not None:
                return sound
        return None

    def first_snapshot(self, run: int) -> tuple[int, int, bytes] | None:
        """Return the state with which a run began.

        Parameters
        ----------
        run : int

        Returns
        -------
        (int, int, bytes) or None
            As `latest_snapshot`; None where the run kept none.

        Raises
        ------
        EnvironmentFault
            It is not what was written.
        """
        number = self._rows("SELECT min(id) FROM snapshots WHERE run = ?", (run,))[0][0]
        if number is None:
            return None
        if (sound := self._snapshot(number)) is None:
            raise damaged(self.path, f"the first snapshot of run {run}", "another SHA-256")
        return sound

    def orders(self, state: str | None = None, symbol: str | None = None) -> list[OrderRecord]:
        """List orders as they were decided.

        Parameters
        ----------
        state, symbol : str, optional
            Only these.

        Returns
        -------
        list of OrderRecord
        """
        return [
            OrderRecord(
                _order(row),
                *(row[name] for name in ("seq", "state", "updated_ns", "body", "route")),
            )
            for row in self._rows(_ORDERS, {"state": state, "symbol": symbol})
        ]

    def unsent(self) -> list[Order]:
        """Return the orders that were written and not sent.

        Returns
        -------
        list of Order
            As they were decided.
        """
        return [each.order for each in self.orders(state="PENDING")]

    def last_entry_order(self, symbol: str) -> tuple[Order, str] | None:
        """Return the newest entry order of a symbol, and what became of it.

        Parameters
        ----------
        symbol : str

        Returns
        -------
        (Order, str) or None
        """
        found = [each for each in self.orders(symbol=symbol) if each.order.action == "entry"]
        return (found[-1].order, found[-1].state) if found else None

    def deliveries(self, since_ns: int) -> list[Delivery]:
        """Return orders with their attempts, for whoever sends them.

        Parameters
        ----------
        since_ns : int, UTC ns

        Returns
        -------
        list of Delivery
            Those that are not settled, exits that are dead, and all attempted since then; as decided.
        """
        paged = {order_id: json.loads(causes) for order_id, causes in self._rows(_PAGES)}
        return [
            Delivery(
                _order(row),
                row["state"],
                tuple(self.attempts(row["order_id"])),
                paged=frozenset(paged.get(row["order_id"], ())),
                route=row["route"],
            )
            for row in self._rows(_UNSETTLED, (since_ns,))
        ]

    def attempts(self, order_id: str) -> list[Attempt]:
        """List the attempts to deliver an order, oldest first.

        Parameters
        ----------
        order_id : str

        Returns
        -------
        list of Attempt
        """
        query = "SELECT * FROM attempts WHERE order_id = ? ORDER BY id"
        return [_attempt(row) for row in self._rows(query, (order_id,))]

    def body(self, order_id: str) -> str | None:
        """Return what was frozen to be sent for an order.

        Parameters
        ----------
        order_id : str

        Returns
        -------
        str or None
            None before its first attempt.
        """
        rows = self._rows("SELECT body FROM orders WHERE order_id = ?", (order_id,))
        return rows[0]["body"] if rows else None

    def snapshots(self) -> list[tuple[int, int, bytes]]:
        """Return every kept state that is as it was written.

        Returns
        -------
        list of (int, int, bytes)
            As `latest_snapshot`, oldest first.
        """
        kept = (
            self._snapshot(number)
            for (number,) in self._rows("SELECT id FROM snapshots ORDER BY id")
        )
        return [each for each in kept if each is not None]

    def moves(self, order_id: str) -> list[Move]:
        """Tell how an order came to its state, from the first move after PENDING.

        Parameters
        ----------
        order_id : str

        Returns
        -------
        list of Move
        """
        query = "SELECT run, time_ns, state, detail FROM moves WHERE order_id = ? ORDER BY id"
        return [Move(*row) for row in self._rows(query, (order_id,))]

    def events(self, run: int | None = None, kind: str | None = None) -> list[Event]:
        """List events, oldest first.

        Parameters
        ----------
        run : int, optional
        kind : str, optional
            Only these.

        Returns
        -------
        list of Event
        """
        rows = self._rows(_EVENTS, {"run": run, "kind": kind})
        return [Event(**{**row, "facts": json.loads(row["facts"])}) for row in map(dict, rows)]

    def last_event(self, kind: str) -> Mapping[str, Any] | None:
        """Return what the newest event of a kind holds.

        Parameters
        ----------
        kind : str

        Returns
        -------
        Mapping of str to Any, or None
        """
        query = "SELECT facts FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1"
        rows = self._rows(query, (kind,))
        facts: Mapping[str, Any] | None = json.loads(rows[0]["facts"]) if rows else None
        return facts

    def commands(self) -> list[Command]:
        """List every command, oldest first.

        Returns
        -------
        list of Command
        """
        return self._commands("SELECT * FROM commands ORDER BY id", ())

    def take_commands(self) -> list[Command]:
        """Return the commands that wait, each once in a process; cheap while no other process wrote.

        Returns
        -------
        list of Command
            Oldest first. One that is not settled is handed out again after a restart.
        """
        version = int(self._rows("PRAGMA data_version")[0][0])
        if version == self._looked_at:
            return []
        query = "SELECT * FROM commands WHERE taken_ns IS NULL AND id > ? ORDER BY id"
        waiting = self._commands(query, (self._last_command,))
        # Only now: a command that comes in between is seen above or changes the version below.
        self._looked_at = version
        if waiting:
            self._last_command = waiting[-1].number
        return waiting

    def _commands(self, query: str, values: tuple[int, ...]) -> list[Command]:
        return [
            Command(
                row["id"], row["time_ns"], row["command"], json.loads(row["facts"]), row["taken_ns"]
            )
            for row in self._rows(query, values)
        ]

    def _stored(self, row: sqlite3.Row) -> Stored:
        where = f"entry {row['seq']}"
        if sha256(row["block"]).digest() != row["sha256"]:
            raise damaged(self.path, where, "another SHA-256")
        try:
            arrays = unpack(row["block"])
        except DataError as error:
            raise damaged(self.path, where, str(error)) from error
        order_ids = tuple(json.loads(row["order_ids"]))
        return Stored(row["seq"], row["run"], row["time_ns"], arrays, order_ids)

    def _snapshot(self, number: int) -> tuple[int, int, bytes] | None:
        """Read one snapshot; None where it is damaged."""
        try:
            with self._guard, closing(self._db.execute(_SNAPSHOT, (number,))) as cursor:
                row = cursor.fetchone()
        except sqlite3.DatabaseError as error:
            if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
                with faults(self.path):
                    raise
            return None
        # A worker beside us may have forgotten it since.
        if row is None or sha256(row["block"]).digest() != row["sha256"]:
            return None
        return row["seq"], row["time_ns"], row["block"]

    def _rows(self, query: str, values: tuple[Any, ...] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        with self._guard, faults(self.path):
            return self._db.execute(query, values).fetchall()


def _order(row: sqlite3.Row) -> Order:
    return Order(**{name: row[name] for name in ORDER_COLUMNS})


def _attempt(row: sqlite3.Row) -> Attempt:
    response = None
    if row["class"] is not None:
        response = Response(
            row["class"],
            row["status"],
            detail=row["detail"] or "",
            signal_id=row["signal_id"] or "",
            log_id=row["log_id"] or "",
            retry_after_ns=row["retry_after_ns"],
        )
    return Attempt(row["id"], row["started_ns"], bool(row["flattens"]), row["ended_ns"], response)
