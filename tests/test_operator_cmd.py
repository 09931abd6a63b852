"""`ibs halt`, `flatten`, `resume` and `position`, beside a worker and without one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
from contextlib import closing, suppress
from datetime import date

import pytest
from click.testing import CliRunner
from journal_entries import order
from live_worlds import make_world
from lived_journals import live

from adapters.sqlite_journal import SqliteJournal, has_writer, post_command
from ibs_core.cli import journal_parts
from ibs_core.cli.main import cli
from ibs_core.errors import ConfigError, EnvironmentFault, IbsError
from ibs_core.ports import Entry

FACTS = {"rule": "r", "roots": ["ES", "NQ"]}
NOW = 1_764_600_000 * 10**9


class Worker:
    """A worker of another connection: it does what waits, as often as the command pauses."""

    def __init__(self, path, *, answers=True):
        self.journal = SqliteJournal(path)
        self.journal.begin(NOW, self.journal.runs()[-1].facts)
        self.answers, self.paused_s, self.did = answers, 0.0, []

    def pause(self, seconds):
        self.paused_s += seconds
        if self.answers and self.paused_s > 1:
            for each in self.journal.take_commands():
                self.did.append((each.command, each.facts))
                said = {"command": each.number, "name": each.command, "said": "as asked"}
                self.journal.event(NOW, "command", said)
                self.journal.settle_command(each.number, NOW)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "live.sqlite"
    with SqliteJournal(file) as opened:
        opened.begin(NOW, FACTS)
    return file


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Nothing waits but for a worker that runs."""

    def refuse(_seconds):
        raise AssertionError("waits for nobody")

    monkeypatch.setattr(journal_parts, "_pause", refuse)


@pytest.fixture
def beside(monkeypatch):
    """Start a worker on a journal; time passes only while a command waits for it."""
    started = []

    def start(path, **more):
        worker = Worker(path, **more)
        started.append(worker)
        monkeypatch.setattr(journal_parts, "_pause", worker.pause)
        monkeypatch.setattr(journal_parts, "_clock", lambda: worker.paused_s)
        return worker

    yield start
    for worker in started:
        worker.journal.close()


def run(*words, **more):
    done = CliRunner().invoke(cli, [str(each) for each in words], **more)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def commands(path):
    with SqliteJournal(path, read_only=True) as reader:
        return [(each.command, each.facts) for each in reader.commands()]


CASES = [
    (("halt",), "halt", {"all": False}),
    (("halt", "--all"), "halt", {"all": True}),
    (("flatten", "--yes"), "flatten", {"symbols": None}),
    (("flatten", "--symbols", "nq, ES,nq", "--yes"), "flatten", {"symbols": ["NQ", "ES"]}),
]


@pytest.mark.parametrize(("words", "name", "facts"), CASES)
def test_a_running_worker_does_it_and_the_command_tells_so(path, beside, words, name, facts):
    worker = beside(path)
    told = json.loads(run(*words, "--journal", path, "--json").stdout)
    assert told == {"command": 1, "name": name, "settled": True, "worker": True} | {
        "said": "as asked"
    }
    assert worker.did == [(name, facts)]
    assert 1 < worker.paused_s < 2
    assert f"{name}: as asked; " in run(*words, "--journal", path).stdout
    assert run(*words, "--journal", path, "--quiet").stdout == ""


@pytest.mark.parametrize(("words", "name", "facts"), CASES)
def test_without_a_worker_it_waits_for_the_next_one(path, words, name, facts):
    assert "no worker runs" in run(*words, "--journal", path).stdout
    told = json.loads(run(*words, "--journal", path, "--json").stdout)
    assert told == {"command": 2, "name": name, "settled": False, "worker": False, "said": ""}
    assert commands(path) == [(name, facts)] * 2


def test_a_worker_that_does_not_answer_is_a_fault_with_a_way_out(path, beside):
    worker = beside(path, answers=False)
    words = ("flatten", "--yes", "--journal", path, "--wait", "3")
    with pytest.raises(IbsError, match="Entry lockout, then Close all") as error:
        run(*words)
    assert error.value.exit_code == 1
    assert 3 <= worker.paused_s < 3.2
    done = CliRunner().invoke(cli, [str(each) for each in (*words, "--json")])
    assert json.loads(done.stdout)["settled"] is False
    assert isinstance(done.exception, IbsError)
    assert [name for name, _ in commands(path)] == ["flatten", "flatten"]


def test_a_worker_that_ends_while_it_is_asked_leaves_it_to_the_next(path, beside, monkeypatch):
    worker = beside(path, answers=False)
    pauses = iter([worker.journal.close])
    monkeypatch.setattr(journal_parts, "_pause", lambda _s: next(pauses)())
    told = json.loads(run("halt", "--journal", path, "--json").stdout)
    assert (told["settled"], told["worker"]) == (False, False)


def test_flatten_asks_on_a_terminal_and_refuses_where_nobody_can_answer(path, monkeypatch):
    with pytest.raises(ConfigError, match="option --yes"):
        run("flatten", "--journal", path)
    assert commands(path) == []
    monkeypatch.setattr(journal_parts, "_is_terminal", lambda: True)
    assert run("flatten", "--journal", path, input="n\n").exit_code != 0
    assert commands(path) == []
    assert "exit every position" in run("flatten", "--journal", path, input="y\n").stderr
    assert commands(path) == [("flatten", {"symbols": None})]


def test_resume_says_what_it_ends_and_takes_the_word_for_it(path, beside):
    for name, facts in (("halt", {"all": True}), ("resume", {}), ("halt", {"all": False})):
        post_command(path, NOW, name, facts)
    post_command(path, NOW + 60 * 10**9, "flatten", {"symbols": None})
    held = "halt of 2025-12-01T14:40:00Z, flatten of 2025-12-01T14:41:00Z"
    with pytest.raises(ConfigError, match=f"expected it, to end {held}, found none"):
        run("resume", "--journal", path)
    assert len(commands(path)) == 4
    beside(path)
    assert f"it ends {held}" in run("resume", "--yes", "--journal", path).stdout
    for more in ((), ("--yes",)):
        words = ("resume", *more, "--journal", path)
        assert run(*words).stdout.startswith("resume: there is nothing to resume; no halt and no")
        assert json.loads(run(*words, "--json").stdout)["command"] is None
    assert [name for name, _ in commands(path)].count("resume") == 2


def test_nothing_is_flattened_where_no_exit_may_leave(path):
    post_command(path, NOW, "halt", {"all": True})
    run("halt", "--journal", path)  # does not loosen the one before
    with pytest.raises(ConfigError, match="`ibs resume --yes` first"):
        run("flatten", "--yes", "--journal", path)
    run("resume", "--yes", "--journal", path)
    run("flatten", "--yes", "--journal", path)
    assert [name for name, _ in commands(path)] == ["halt", "halt", "resume", "flatten"]


def test_symbols_that_the_journal_does_not_trade_are_refused(path):
    for words in (("flatten", "--symbols", "ES,CL"), ("position", "set", "CL", "flat")):
        with pytest.raises(ConfigError, match=r"symbol 'CL': expected one that .* trades: ES, NQ"):
            run(*words, "--yes", "--journal", path)
    with pytest.raises(ConfigError, match="symbol ''"):
        run("flatten", "--symbols", ",", "--yes", "--journal", path)
    assert commands(path) == []


def test_a_database_that_is_no_journal_is_told_so_once(tmp_path):
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE a (b)")
    with pytest.raises(EnvironmentFault) as error:
        run("position", "list", "--journal", other)
    assert str(error.value) == f"{other} is not a journal; give another path"


WAY_OUT = "; it was NOT done; in TradersPost: Entry lockout, then Close all"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("halt",), WAY_OUT),
        (("flatten", "--yes"), WAY_OUT),
        (("resume", "--yes"), ""),
        (("position", "list"), ""),
    ],
)
def test_a_journal_that_is_not_there_is_never_made(tmp_path, monkeypatch, words, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentFault) as error:
        run(*words, "--journal", "live/none.sqlite")
    assert str(error.value) == f"no journal {tmp_path}/live/none.sqlite; give --journal{hint}"
    assert list(tmp_path.iterdir()) == []


def full(db):
    db.execute("PRAGMA max_page_count = 1")  # as many as there are


def read_only(db):
    db.execute("PRAGMA query_only = 1")


@pytest.mark.parametrize("fault", [full, read_only])
def test_a_command_that_cannot_be_left_says_that_it_was_not_done(path, monkeypatch, fault):
    with closing(sqlite3.connect(path, isolation_level=None)) as db, suppress(sqlite3.Error):
        full(db)
        while True:  # so that not one more finds room
            db.execute("INSERT INTO commands (time_ns, command, facts) VALUES (0, 'halt', '{}')")
    before, connect = commands(path), sqlite3.connect

    def at_fault(*given, **more):
        db = connect(*given, **more)
        fault(db)
        return db

    monkeypatch.setattr(sqlite3, "connect", at_fault)
    for words in (("halt",), ("flatten", "--yes")):
        with pytest.raises(EnvironmentFault) as error:
            run(*words, "--journal", path)
        assert str(error.value).endswith(WAY_OUT)
    with pytest.raises(EnvironmentFault) as error:
        run("resume", "--yes", "--journal", path)
    assert str(error.value).endswith("; it was NOT done")
    monkeypatch.setattr(sqlite3, "connect", connect)
    assert commands(path) == before


def test_a_folder_that_cannot_be_written_still_tells_whether_a_worker_runs(path, monkeypatch):
    open_ = os.open

    def refuse(file, flags, *more, **keywords):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), file)
        return open_(file, flags, *more, **keywords)

    assert not has_writer(path)
    with SqliteJournal(path):
        monkeypatch.setattr(os, "open", refuse)
        assert has_writer(path)
    assert not has_writer(path)


def test_two_that_ask_for_the_writer_at_once_do_not_see_each_other(path):
    with path.with_name(f"{path.name}.lock").open(
        "rb"
    ) as other:  # as another `ibs` in the midst of asking
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not has_writer(path)


# ---------------------------------------------------------------------- positions


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """As `holding`, to be copied."""
    world = make_world(tmp_path_factory.mktemp("world"), date(2024, 1, 8), date(2024, 1, 10))
    return live(world, world.folder / "holding.sqlite", holding="ES")


@pytest.fixture
def holding(lived, path):
    """A journal that ends while ES is held."""
    path.write_bytes(lived.read_bytes())
    return path


def listed(path):
    return json.loads(run("position", "list", "--journal", path, "--json").stdout)


def test_positions_are_those_of_the_last_entry(holding):
    facts = listed(holding)
    assert facts["worker"] is False
    mine = {each["symbol"]: each for each in facts["positions"]}
    assert list(mine) == ["ES", "CL"]
    held = mine["ES"]
    with SqliteJournal(holding, read_only=True) as reader:
        (entry_order,) = [each.order for each in reader.orders(symbol="ES")][-1:]
    assert (held["status"], held["quantity"]) == ("open", 1)
    assert held["instrument"] == entry_order.instrument
    assert (held["protective_stop"], held["protective_target"]) == (
        entry_order.stop,
        entry_order.target,
    )
    gross = (held["last_price"] - held["entry_price"]) * 5.0  # MES
    assert held["open_usd"] == pytest.approx(gross - 2 * (1.25 + 0.5 * 1.25), abs=0.005)
    text = run("position", "list", "--journal", holding).stdout
    assert held["instrument"] in text
    assert "no worker runs" in text


def test_orders_that_are_not_settled_stand_beside_the_position(holding):
    with SqliteJournal(holding) as opened:
        opened.begin(NOW, opened.runs()[-1].facts)
        last = list(opened.entries())[-1]
        opened.append(Entry(last.time_ns, nothing(last), [order("new", symbol="CL")]))
    mine = {each["symbol"]: each["unsettled"] for each in listed(holding)["positions"]}
    assert mine == {"ES": [], "CL": ["new"]}


def nothing(stored):
    """Arrays of an entry in which nothing came."""
    return {
        name: array[:0] for name, array in stored.arrays.items() if not name.startswith("rows/")
    }


def test_a_position_closed_by_hand_is_told_to_the_worker(holding, beside):
    words = ("position", "set", "es", "flat", "--journal", holding)
    with pytest.raises(ConfigError, match="option --yes"):
        run(*words)
    run(*words, "--yes", "--quiet")
    assert commands(holding) == [("position", {"symbol": "ES"})]
    worker = beside(holding)
    worker.journal.take_commands()
    assert "position: as asked" in run(*words, "--yes").stdout
    assert worker.did == [("position", {"symbol": "ES"})]


def test_a_position_that_the_journal_has_as_entering_may_be_closed_by_hand(lived, path):
    with SqliteJournal(lived, read_only=True) as reader:
        entered = [each for each in reader.orders(symbol="ES") if each.order.action == "entry"][-1]
    path.write_bytes(lived.read_bytes())
    with closing(sqlite3.connect(path)) as db:  # as it is until the slice after the entry
        db.execute("DELETE FROM entries WHERE seq > ?", (entered.seq,))
        db.commit()
    assert listed(path)["positions"][0]["status"] == "entering"
    run("position", "set", "ES", "flat", "--yes", "--journal", path)
    assert commands(path) == [("position", {"symbol": "ES"})]


def test_a_flat_position_cannot_be_closed_again(holding):
    with pytest.raises(ConfigError, match=r"position of CL: expected .* found flat"):
        run("position", "set", "CL", "flat", "--yes", "--journal", holding)
    assert run("position", "set", "ES", "long", "--journal", holding).exit_code == 2
    assert commands(holding) == []
