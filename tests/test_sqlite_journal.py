"""The journal on real files, with real processes that are really killed, and after what can befall a file."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_entries import entry, order, written

from adapters.sqlite_journal import SqliteJournal, may_follow, post_command
from ibs_core.errors import DataError, EnvironmentFault

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "live.sqlite"


@pytest.fixture
def journal(path):
    with SqliteJournal(path, wait_s=0.05) as opened:
        opened.begin(1, {"version": "0.1.0"})
        yield opened


@contextmanager
def raw(path):
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.05)) as db:
        yield db


def same(stored, given):
    assert stored.time_ns == given.time_ns
    assert stored.order_ids == tuple(each.order_id for each in given.orders)
    assert set(stored.arrays) == set(given.arrays)
    for name, array in given.arrays.items():
        assert stored.arrays[name].dtype == array.dtype
        assert stored.arrays[name].tobytes() == array.tobytes()


# What is written is what is read.


def test_entries_come_back_as_they_were_written(journal, path):
    given = [
        entry(k, [order(f"o{k}-{i}") for i in reversed(range(k % 4))], 1 + k) for k in range(70)
    ]
    assert [journal.append(each) for each in given] == list(range(1, 71))
    assert journal.last_seq() == 70
    with SqliteJournal(path, read_only=True) as reader:
        for source in (journal, reader):
            stored = list(source.entries())
            assert [each.seq for each in stored] == list(range(1, 71))
            assert {each.run for each in stored} == {1}
            for one, other in zip(stored, given, strict=True):
                same(one, other)
            assert [each.seq for each in source.entries(30, 33)] == [31, 32, 33]
            assert list(source.entries(70)) == []


def test_orders_come_back_as_they_were_written_and_begin_as_pending(journal):
    given = [
        order("a"),
        order("b", symbol="NQ", action="exit", reason="ibs", stop=None, score=None, model=""),
        order("c", quantity=np.int64(3), price=np.float64(0.1), score=np.float32(0.7)),
    ]
    journal.append(entry())
    journal.append(entry(2, given))
    records = journal.orders()
    assert [record.order for record in records] == given
    assert type(records[2].order.quantity) is int
    assert {(record.seq, record.state, record.body, record.route) for record in records} == {
        (2, "PENDING", None, "")
    }
    assert [record.order.order_id for record in journal.orders(symbol="NQ")] == ["b"]
    journal.order_state("b", "SENDING", 5)
    assert [record.order.order_id for record in journal.orders(state="PENDING")] == ["a", "c"]
    assert journal.orders(state="PENDING", symbol="NQ") == []


def test_runs_and_events_come_back_and_a_killed_run_has_no_end(path):
    facts = {"kind": "lost", "lag_s": 1.5, "nested": {"é": [1, None]}}
    for now_ns in (10, 20):
        with SqliteJournal(path) as journal:
            journal.begin(now_ns, {"version": "1"})
            journal.event(now_ns + 1, "feed", facts)
            journal.event(now_ns + 2, "halt", {})
            if now_ns == 20:
                journal.end(now_ns + 5, "stopped")
    with SqliteJournal(path, read_only=True) as reader:
        runs = [(run.run, run.started_ns, run.ended_ns, run.how) for run in reader.runs()]
        assert runs == [(1, 10, None, None), (2, 20, 25, "stopped")]
        assert reader.runs()[0].facts == {"version": "1"}
        assert [event.time_ns for event in reader.events()] == [11, 12, 21, 22]
        (event,) = reader.events(run=2, kind="feed")
        assert (event.run, event.kind, event.facts) == (2, "feed", facts)


def test_a_journal_is_a_log_on_the_disk_before_a_call_returns(journal, path):
    journal.append(entry())
    with raw(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_nothing_but_the_lock_is_left_beside_a_journal_that_was_closed(path):
    with SqliteJournal(path) as journal:
        journal.begin(1, {})
        journal.append(entry())
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "live.sqlite",
        "live.sqlite.lock",
    ]


def test_a_process_killed_while_it_makes_a_journal_leaves_none(path):
    path.parent.mkdir()
    for left in ("", "-journal", "-wal"):
        (path.parent / f".live.sqlite.tmp{left}").write_bytes(b"half")
    with SqliteJournal(path) as journal:
        journal.begin(1, {})
        assert journal.append(entry()) == 1
    assert not list(path.parent.glob(".live*"))


# Snapshots


def test_the_first_snapshot_of_each_run_and_the_newest_two_are_kept(path):
    for run in (1, 2, 3):
        with SqliteJournal(path) as journal:
            journal.begin(run, {})
            for k in range(4):
                seq = journal.append(entry(k)) if k else journal.last_seq()
                journal.snapshot(seq, 100 * run + k, b"%d-%d" % (run, k))
    with SqliteJournal(path, read_only=True) as reader:
        kept = reader._rows("SELECT block FROM snapshots ORDER BY id")
        assert [row[0] for row in kept] == [b"1-0", b"2-0", b"3-0", b"3-2", b"3-3"]
        assert reader.latest_snapshot() == (9, 303, b"3-3")
        assert reader.first_snapshot(2) == (3, 200, b"2-0")
        assert reader.first_snapshot(4) is None


def test_a_damaged_snapshot_is_passed_over(journal, path):
    assert journal.latest_snapshot() is None
    for k in range(3):
        journal.snapshot(0, k, b"state %d" % k)
    with raw(path) as db:
        db.execute("UPDATE snapshots SET block = x'00' WHERE time_ns = 2")
    assert journal.latest_snapshot() == (0, 1, b"state 1")
    with raw(path) as db:
        db.execute("UPDATE snapshots SET block = x'00'")
    assert journal.latest_snapshot() is None
    with pytest.raises(EnvironmentFault, match=r"damaged: .* in the first snapshot of run 1"):
        journal.first_snapshot(1)


def test_a_snapshot_whose_pages_are_damaged_is_passed_over(path):
    filled(path)
    whole = bytearray(path.read_bytes())
    newest = random.Random(59).randbytes(9_000)
    page = whole.index(newest[4_000:4_100]) // 4096
    whole[page * 4096 : page * 4096 + 4] = b"\xff" * 4  # the number of the page that follows
    path.write_bytes(whole)
    with SqliteJournal(path, read_only=True) as reader:
        assert reader.latest_snapshot() == (59, 58, random.Random(58).randbytes(9_000))


# Whole or not at all


def test_an_order_that_is_in_the_journal_is_refused_and_nothing_of_its_entry_stays(journal):
    journal.append(entry(1, [order("a")]))
    for again in (order("a"), order("a", quantity=9)):
        with pytest.raises(DataError, match="order 'a' cannot be written: found it is in the jour"):
            journal.append(entry(2, [order("b"), again]))
    with pytest.raises(DataError, match="'c'"):
        journal.append(entry(2, [order("c"), order("c")]))
    assert journal.last_seq() == 1
    assert [record.order.order_id for record in journal.orders()] == ["a"]
    assert journal.append(entry(2, [order("b")])) == 2


def test_an_order_without_a_price_is_refused_and_nothing_of_its_entry_stays(journal):
    with pytest.raises(DataError, match=r"NOT NULL .*orders.price"):
        journal.append(entry(1, [order("a"), order("b", price=float("nan"))]))
    assert (journal.last_seq(), journal.orders()) == (0, [])


def test_a_full_disk_leaves_the_journal_as_it_was(journal):
    journal.append(entry(1, [order("a")]))
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    big = entry(2, [order("b")], n_minutes=9_000)
    for call in (lambda: journal.append(big), lambda: journal.snapshot(1, 2, bytes(200_000))):
        with pytest.raises(EnvironmentFault, match=r"full; free disk space"):
            call()
    assert journal.last_seq() == 1
    assert journal.latest_snapshot() is None
    journal._db.execute(f"PRAGMA max_page_count = {pages + 1_000}")
    assert journal.append(big) == 2
    assert [record.order.order_id for record in journal.orders()] == ["a", "b"]


@contextmanager
def files_of_at_most(n_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_the_system_refuses_leaves_the_journal_as_it_was(journal, path):
    journal.append(entry(1))
    log = path.with_name(f"{path.name}-wal")
    big = entry(2, [order("b")], n_minutes=9_000)
    with (
        files_of_at_most(log.stat().st_size + 20_000),  # some frames are written, then no more
        pytest.raises(EnvironmentFault, match="check the disk and its free space"),
    ):
        journal.append(big)
    assert (journal.last_seq(), journal.orders()) == (1, [])
    assert journal.append(big) == 2
    journal.close()
    with raw(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_journal_that_stays_locked_is_an_error_that_says_so(journal, path):
    with raw(path) as db:
        db.execute("BEGIN IMMEDIATE")
        for call in (
            lambda: journal.append(entry()),
            lambda: journal.event(1, "x", {}),
            lambda: post_command(path, 1, "halt", {}, wait_s=0.05),
        ):
            with pytest.raises(EnvironmentFault, match="locked; end the process that holds it"):
                call()
        assert list(journal.entries()) == []  # readers do not wait
    assert journal.append(entry()) == 1


def test_threads_of_the_worker_write_in_turn(journal):
    done = []

    def send():
        journal.order_state("o", "SENDING", 1)
        done.append(journal.orders()[0].state)

    journal.append(entry(1, [order("o")]))
    sender = threading.Thread(target=send)
    with journal._transaction():
        sender.start()
        sender.join(timeout=0.05)  # it waits, and does not write into this transaction
        assert done == []
        assert sender.is_alive()
    sender.join()
    assert done == ["SENDING"]


# One writer


def test_a_second_writer_is_refused_and_told_who_writes(journal, path):
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    for way in (path, link):
        with pytest.raises(EnvironmentFault, match=rf"has a writer: found process {os.getpid()};"):
            SqliteJournal(way)
    assert journal.append(entry()) == 1
    journal.close()
    with SqliteJournal(path) as another:
        assert another.last_seq() == 1


def test_a_journal_that_could_not_be_opened_is_not_locked(path):
    path.parent.mkdir()
    path.touch()
    with pytest.raises(EnvironmentFault, match="is not a journal"):
        SqliteJournal(path)
    path.unlink()
    SqliteJournal(path).close()


def test_a_reader_sees_what_a_writer_appends_meanwhile(journal, path):
    for k in range(40):
        journal.append(entry(k))
    with SqliteJournal(path, read_only=True) as reader:
        reading = reader.entries()
        assert next(reading).seq == 1
        assert journal.append(entry(41, [order("late")])) == 41
        assert [each.seq for each in reading] == list(range(2, 42))
        assert reader.orders()[0].order.order_id == "late"
        with pytest.raises(AssertionError, match="opened to be read"):
            reader.settle_command(1, 1)


def test_reading_makes_no_journal(path):
    for call in (
        lambda: SqliteJournal(path, read_only=True),
        lambda: post_command(path, 1, "halt", {}),
    ):
        with pytest.raises(EnvironmentFault, match="no journal"):
            call()
    assert not path.parent.exists()


def test_a_copy_can_be_read_and_written_to(journal, path, tmp_path):
    journal.append(entry(1, [order()]))
    for suffix in ("", "-wal"):  # the log holds what is not in the file yet
        shutil.copy(f"{path}{suffix}", tmp_path / f"copy{suffix}")
    with SqliteJournal(tmp_path / "copy", read_only=True) as copy:
        same(next(copy.entries()), entry(1, [order()]))
    with SqliteJournal(tmp_path / "copy") as copy:
        copy.begin(2, {})
        assert copy.append(entry(2)) == 2
    assert journal.last_seq() == 1


@contextmanager
def unwritable_folder():
    """A folder that this process may read and not write to, also where tests are run by root."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        yield folder, lambda: (folder.chmod(0o555), os.seteuid(65534) if root else None)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_journal_on_a_medium_that_cannot_be_written_is_read_and_not_written(journal, path):
    journal.append(entry(1))
    journal.close()
    with unwritable_folder() as (folder, shut):
        shutil.copy(path, folder / "journal")
        (folder / "journal").chmod(0o444)
        shut()
        with SqliteJournal(folder / "journal", read_only=True) as reader:
            same(next(reader.entries()), entry(1))
        with pytest.raises(EnvironmentFault, match="Permission denied; check the path"):
            SqliteJournal(folder / "journal")


def test_a_log_that_cannot_be_read_where_it_is_is_not_left_out_in_silence(journal, path):
    journal.append(entry(1))
    with unwritable_folder() as (folder, shut):
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", folder / f"journal{suffix}")
            (folder / f"journal{suffix}").chmod(0o444)
        shut()
        with pytest.raises(EnvironmentFault, match="copy the journal and journal-wal to a folder"):
            SqliteJournal(folder / "journal", read_only=True)


# Files that are no journals, or no longer


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", ["text", "empty", "database", "newer"])
def test_a_file_of_another_kind_is_refused_and_left_alone(path, kind, read_only):
    path.parent.mkdir()
    if kind == "text":
        path.write_text("not a database, but long enough to be looked at: " + "x" * 4_096)
    elif kind == "empty":
        path.touch()
    elif kind == "database":
        with raw(path) as db:
            db.execute("CREATE TABLE trials (id INTEGER)")
            db.execute("PRAGMA user_version = 1")
    else:
        SqliteJournal(path).close()
        with raw(path) as db:
            db.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    text = "expected 1, found 2; use the release" if kind == "newer" else "is not a journal"
    with pytest.raises(EnvironmentFault, match=text):
        SqliteJournal(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("folder", ["a_file", "/proc"])
def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path, folder):
    (tmp_path / "a_file").write_text("in the way")
    with pytest.raises(EnvironmentFault, match=r"journal .* check the path"):
        SqliteJournal(tmp_path / folder / "runs" / "live.sqlite")


def filled(path, n_entries=60):
    with SqliteJournal(path) as journal:
        journal.begin(1, {})
        for k in range(n_entries):
            journal.append(entry(k, [order(f"o{k}")], n_minutes=200))
            journal.snapshot(k + 1, k, random.Random(k).randbytes(9_000))


def tells_of_damage(path):
    """Whether reading everything shows that something is not what `filled` wrote."""
    try:
        with SqliteJournal(path, read_only=True) as reader:
            list(reader.entries())
            reader.first_snapshot(1)
            return reader.latest_snapshot() != (60, 59, random.Random(59).randbytes(9_000))
    except EnvironmentFault:
        return True


def test_a_damaged_page_is_told_to_who_would_write_or_at_the_latest_to_who_reads(path):
    filled(path)
    with raw(path) as db:
        db.execute("VACUUM")  # every page holds something
    whole = path.read_bytes()
    n_refused = 0
    for page in range(1, len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + b"\xa5" * 512 + whole[page * 4096 + 512 :])
        try:
            SqliteJournal(path).close()
        except EnvironmentFault as error:
            n_refused += error.remedy.startswith("keep it for inspection, and restore it from a")
        else:  # the middle of a block hangs together with anything: its checksum tells
            assert tells_of_damage(path), page
    assert n_refused > 20


def test_a_truncated_journal_is_refused(path):
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EnvironmentFault, match="restore it from a copy"):
        SqliteJournal(path)
    with pytest.raises(EnvironmentFault, match="restore it from a copy"):
        list(SqliteJournal(path, read_only=True).entries())


def test_one_flipped_byte_of_an_entry_is_noticed(path):
    filled(path, 3)
    with SqliteJournal(path, read_only=True) as reader:
        block = reader._rows("SELECT block FROM entries WHERE seq = 2")[0][0]
    whole = bytearray(path.read_bytes())
    whole[whole.index(block[:100]) + 50] ^= 1
    path.write_bytes(whole)
    with SqliteJournal(path) as journal:
        reading = journal.entries()
        assert next(reading).seq == 1
        with pytest.raises(EnvironmentFault, match=r"damaged: .* in entry 2; keep it"):
            next(reading)
        assert [each.seq for each in journal.entries(2)] == [3]


def test_an_entry_that_another_took_the_place_of_is_noticed(journal, path):
    for k in (1, 2):
        journal.append(entry(k))
    with raw(path) as db:
        query = "UPDATE entries SET block = (SELECT block FROM entries WHERE seq = 2) WHERE seq = 1"
        db.execute(query)
    with pytest.raises(EnvironmentFault, match="another SHA-256, in entry 1"):
        list(journal.entries())


def test_an_entry_that_is_missing_is_noticed(path):
    filled(path, 5)
    with raw(path) as db:
        db.execute("DELETE FROM entries WHERE seq = 3")
    with (
        SqliteJournal(path, read_only=True) as reader,
        pytest.raises(EnvironmentFault, match="it is missing, in entry 3"),
    ):
        list(reader.entries())


# The law of states, written from the reference of order delivery


LEGAL = {
    ("PENDING", "SENDING"),
    ("PENDING", "EXPIRED"),
    ("PENDING", "SUPERSEDED"),
    ("PENDING", "ACKED"),  # paper
    ("PENDING", "DEAD"),  # refused before it was sent
    ("SENDING", "ACKED"),
    ("SENDING", "DEAD"),
    ("SENDING", "AMBIGUOUS"),
    ("SENDING", "PENDING"),
    ("AMBIGUOUS", "RESOLVED_FILLED"),
    ("AMBIGUOUS", "RESOLVED_ABSENT"),
    ("AMBIGUOUS", "FLATTENED"),
}
OF_EXITS = {  # and cancels
    ("AMBIGUOUS", "SENDING"),
    ("DEAD", "PENDING"),
    ("DEAD", "FLATTENED"),
    ("PENDING", "FLATTENED"),
}
STATES = sorted({state for pair in LEGAL for state in pair})


@given(
    action=st.sampled_from(["entry", "exit", "cancel"]),
    asked=st.lists(st.sampled_from([*STATES, "SENDING", "AMBIGUOUS", "LOST"]), max_size=12),
)
def test_an_order_moves_as_the_law_says_and_its_moves_are_kept(action, asked):
    with tempfile.TemporaryDirectory() as folder, SqliteJournal(Path(folder) / "j") as journal:
        journal.begin(1, {})
        journal.append(entry(1, [order("o", action=action), order("other")]))
        state, moves = "PENDING", []
        for now_ns, wanted in enumerate(asked, start=10):
            legal = (state, wanted) in LEGAL or ((state, wanted) in OF_EXITS and action != "entry")
            if legal:
                journal.order_state("o", wanted, now_ns, "why")
                state = wanted
                moves.append((1, now_ns, wanted, "why"))
            else:
                with pytest.raises(DataError, match=f"{action} 'o' is {state}: expected to move"):
                    journal.order_state("o", wanted, now_ns)
            record = journal.orders()[0]
            assert record.state == state
        kept = [(move.run, move.time_ns, move.state, move.detail) for move in journal.moves("o")]
        assert kept == moves
        assert journal.orders()[1].state == "PENDING"


def test_an_entry_of_unknown_outcome_never_leads_back_to_sending():
    reachable, ahead = set(), {"AMBIGUOUS"}
    while ahead:
        state = ahead.pop()
        reachable.add(state)
        ahead |= may_follow("entry", state) - reachable
    assert reachable.isdisjoint({"SENDING", "PENDING"})
    assert "SENDING" in may_follow("exit", "AMBIGUOUS")


def test_an_unknown_order_cannot_move(journal):
    with pytest.raises(DataError, match="no order 'nil' is in the journal"):
        journal.order_state("nil", "SENDING", 1)


# Commands of operators


def test_a_command_reaches_the_worker_that_holds_the_lock(journal, path):
    assert journal.take_commands() == []
    program = """
import sys
from pathlib import Path
from adapters.sqlite_journal import post_command
post_command(Path(sys.argv[1]), 7, "halt", {"all": True})
post_command(Path(sys.argv[1]), 8, "flatten", {})
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, cwd=ROOT)
    first, second = journal.take_commands()
    assert (first.number, first.time_ns, first.command, first.facts, first.taken_ns) == (
        1,
        7,
        "halt",
        {"all": True},
        None,
    )
    assert second.command == "flatten"
    assert journal.take_commands() == []
    journal.append(entry())  # our own writing is no news
    assert journal.take_commands() == []
    said = []
    journal._db.set_trace_callback(said.append)
    assert journal.take_commands() == []
    assert said == ["PRAGMA data_version"]  # what a poll costs
    assert post_command(path, 9, "resume", {}) == 3
    assert [each.command for each in journal.take_commands()] == ["resume"]


def test_a_command_that_was_not_settled_is_handed_out_again_after_a_restart(path):
    SqliteJournal(path).close()
    for k, command in enumerate(("halt", "flatten")):
        post_command(path, k, command, {})
    with SqliteJournal(path) as journal:
        assert [each.command for each in journal.take_commands()] == ["halt", "flatten"]
        journal.settle_command(1, 50)
    with SqliteJournal(path) as journal:
        assert [each.command for each in journal.take_commands()] == ["flatten"]
        assert [each.taken_ns for each in journal.commands()] == [50, None]


# Killed


SPAWNER = """
import os, random, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from adapters.sqlite_journal import SqliteJournal
from journal_entries import written

def say(*words):
    print(*words, flush=True)

def work(run, steps_to_live):
    journal = SqliteJournal(Path(sys.argv[1]), wait_s=20.0)
    journal.begin(run, {})
    say("worker", os.getpid())
    if steps_to_live:
        def step():
            nonlocal steps_to_live
            steps_to_live -= 1
            if not steps_to_live:
                os.kill(os.getpid(), signal.SIGKILL)
            return 0
        journal._db.execute("PRAGMA cache_size = 1")  # pages go to the log before the transaction ends
        journal._db.set_progress_handler(step, 1)
    for number in range(journal.last_seq() + 1, 1_000_000):
        seq = journal.append(written(number))
        say(seq)
        for each in written(number).orders:
            journal.order_state(each.order_id, "SENDING", number)
        if number % 3 == 0:
            journal.snapshot(seq, number, random.Random(number).randbytes(20_000))

for line in sys.stdin:
    if not (child := os.fork()):
        try:
            work(*map(int, line.split()))
        finally:
            os._exit(1)
    say("gone", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@contextmanager
def spawner(path):
    """A process that has loaded everything, and starts a worker for each line that it is told.

    A worker writes entries for as long as it lives; it ends when nobody hears it.
    """
    arguments = [str(path), str(Path(__file__).parent)]
    with subprocess.Popen(
        [sys.executable, "-c", SPAWNER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def started(process, run, steps_to_live=0):
    """Start a worker and return its number."""
    process.stdin.write(f"{run} {steps_to_live}\n")
    process.stdin.flush()
    word, number = process.stdout.readline().split()
    assert word == "worker"
    return int(number)


def last_words(process, told):
    """Read what the worker still said; return the last entry that it told."""
    while (line := process.stdout.readline()) != "gone -9\n":
        told = int(line)
    return told


def check_whole(path, told):
    """Everything that was told is there, nothing is half there."""
    with raw(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    with SqliteJournal(path) as journal:  # the lock went with the process
        last = journal.last_seq()
        assert last in (told, told + 1)  # the last may be on the disk and not yet told
        for seq, stored in enumerate(journal.entries(), start=1):
            assert stored.seq == seq
            same(stored, written(seq))
        orders = [record.order for record in journal.orders()]
        assert orders == [each for seq in range(1, last + 1) for each in written(seq).orders]
        for record in journal.orders():
            moved = [move.state for move in journal.moves(record.order.order_id)]
            assert (record.state, moved) in [("SENDING", ["SENDING"]), ("PENDING", [])]
        newest = journal.latest_snapshot()
        if newest is not None:
            seq, time_ns, block = newest
            assert seq == time_ns <= last
            assert block == random.Random(seq).randbytes(20_000)
    return last


def kill_again_and_again(path, n_kills, seed):
    chance = random.Random(seed)
    last = 0
    with spawner(path) as process:
        for run in range(n_kills):
            number = started(process, run)
            told = last
            for _ in range(chance.randrange(1, 5)):
                told = int(process.stdout.readline())
            until = perf_counter_ns() + chance.randrange(4_000_000)  # anywhere in what follows
            while perf_counter_ns() < until:
                pass
            os.kill(number, signal.SIGKILL)
            last = check_whole(path, last_words(process, told))
    return last


def kill_inside(path, n_kills, seed):
    """Kill workers at steps of SQLite's own machine, so inside of transactions."""
    chance = random.Random(seed)
    last = 0
    with spawner(path) as process:
        for run in range(n_kills):
            started(process, run, steps_to_live=chance.randrange(1, 600))
            last = check_whole(path, last_words(process, last))
    return last


def test_a_worker_killed_again_and_again_leaves_whole_entries(path):
    assert kill_again_and_again(path, n_kills=10, seed=1) >= 10


def test_a_worker_killed_inside_its_transactions_leaves_whole_entries(path):
    assert kill_inside(path, n_kills=10, seed=3) >= 1


@pytest.mark.soak
def test_a_worker_killed_two_hundred_times_leaves_whole_entries(path, tmp_path):
    assert kill_again_and_again(path, n_kills=200, seed=2) >= 200
    assert kill_inside(tmp_path / "inside", n_kills=200, seed=4) >= 1


def test_a_second_process_is_refused_while_the_worker_lives_and_taken_when_it_is_killed(path):
    with spawner(path) as process:
        number = started(process, 1)
        assert process.stdout.readline() == "1\n"
        with pytest.raises(EnvironmentFault, match=rf"found process {number}; end it first"):
            SqliteJournal(path)
        with SqliteJournal(path, read_only=True) as reader:
            same(next(reader.entries()), written(1))
        os.kill(number, signal.SIGKILL)
        last_words(process, 1)
        SqliteJournal(path).close()
