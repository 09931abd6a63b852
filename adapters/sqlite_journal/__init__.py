"""The journal of the live worker: one SQLite file, written before anything is sent, read after a crash.

``SqliteJournal`` is the one worker's writer, or a reader beside it; ``post_command`` leaves a command for the
worker from any other process. What was appended is on the disk when the call returns, and whole or not
there at all, whatever kills the process.
"""

from adapters.sqlite_journal.file import has_writer, post_command
from adapters.sqlite_journal.journal import SqliteJournal
from adapters.sqlite_journal.records import Command, Event, Move, OrderRecord, Run, may_follow

__all__ = [
    "Command",
    "Event",
    "Move",
    "OrderRecord",
    "Run",
    "SqliteJournal",
    "has_writer",
    "may_follow",
    "post_command",
]
