"""The tables of a journal. Every time is UTC in nanoseconds; facts are JSON with keys in order."""

from __future__ import annotations

from typing import Final

__all__ = ["APPLICATION", "SCHEMA", "VERSION"]

APPLICATION: Final = int.from_bytes(b"IBSJ", "big")
VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    started_ns INTEGER NOT NULL,
    facts TEXT NOT NULL,
    ended_ns INTEGER,                -- NULL: it runs, or was killed
    how TEXT
) STRICT;
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,         -- from 1, without a hole
    run INTEGER NOT NULL REFERENCES runs,
    time_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL,            -- of the block
    block BLOB NOT NULL              -- ibs_core.snapshot.pack
) STRICT;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL REFERENCES entries,
    symbol TEXT NOT NULL,
    instrument TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('entry', 'exit', 'cancel')),
    reason TEXT NOT NULL,
    decided_ns INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    price REAL NOT NULL,
    stop REAL,
    target REAL,
    score REAL,
    threshold REAL,
    model TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'PENDING',
    updated_ns INTEGER NOT NULL,
    route TEXT NOT NULL DEFAULT '',
    body TEXT                        -- what is sent, frozen before the first attempt
) STRICT;
CREATE INDEX orders_by_entry ON orders (seq);
CREATE INDEX orders_by_state ON orders (state, symbol);
CREATE TABLE moves (                 -- of orders, from state to state
    id INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    run INTEGER NOT NULL REFERENCES runs,
    time_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX moves_by_order ON moves (order_id);
CREATE TABLE attempts (              -- to deliver an order
    id INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER,                -- NULL: under way, or cut short by a crash
    class TEXT,                      -- NOT_SENT, THROTTLED, REFUSED, AMBIGUOUS, ACCEPTED
    status INTEGER,                  -- of HTTP
    detail TEXT,
    flattens INTEGER NOT NULL DEFAULT 0,  -- the exit in place of an entry of unknown outcome
    signal_id TEXT,                  -- the receiver's names of the message
    log_id TEXT,
    retry_after_ns INTEGER
) STRICT;
CREATE INDEX attempts_by_order ON attempts (order_id);
CREATE INDEX attempts_by_start ON attempts (started_ns);
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs,
    time_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    facts TEXT NOT NULL
) STRICT;
CREATE TABLE snapshots (             -- the first of each run, and the newest two
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,            -- the entry whose state it is; 0: before the first
    run INTEGER NOT NULL REFERENCES runs,
    time_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    block BLOB NOT NULL
) STRICT;
CREATE TABLE commands (              -- the only table that other processes write to
    id INTEGER PRIMARY KEY,
    time_ns INTEGER NOT NULL,
    command TEXT NOT NULL,
    facts TEXT NOT NULL,
    taken_ns INTEGER
) STRICT;
"""
