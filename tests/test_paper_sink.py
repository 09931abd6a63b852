"""Paper orders on real files, beside a real journal."""

import json
import os
import random
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from journal_entries import entry, order

from adapters.paper_sink import PaperSink
from adapters.sqlite_journal import SqliteJournal
from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.payload import body_of, payload_of

ROOT = Path(__file__).parents[1]


class FixedClock:
    def now_ns(self):
        return 77


@pytest.fixture
def path(tmp_path):
    return tmp_path / "paper" / "orders.jsonl"


@pytest.fixture
def journal(tmp_path):
    with SqliteJournal(tmp_path / "live.sqlite") as opened:
        opened.begin(1, {})
        yield opened


@contextmanager
def opened(path, journal):
    sink = PaperSink(path, journal, FixedClock(), strategy="ibs")
    try:
        yield sink
    finally:
        sink.close()


def ids_in(path):
    content = path.read_text("ascii")
    assert content == "" or content.endswith("\n")
    return [json.loads(line)["extras"]["cid"] for line in content.splitlines()]


def states(journal):
    return {record.order.order_id: record.state for record in journal.orders()}


def test_each_order_becomes_a_line_and_is_acknowledged(journal, path):
    orders = [order("a"), order("b", action="exit"), order("c", action="cancel")]
    journal.append(entry(1, orders))
    with opened(path, journal) as sink:
        sink.send([])
        sink.send(orders[:2])
        sink.send(orders[2:])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [payload_of(each, "ibs") for each in orders]
    assert states(journal) == {"a": "ACKED", "b": "ACKED", "c": "ACKED"}
    (move,) = journal.moves("a")
    assert (move.time_ns, move.detail) == (77, "on paper")


def test_an_order_is_on_the_disk_before_it_is_acknowledged(path, journal):
    orders = [order("a"), order("b")]
    seen = []

    class Witness:
        def order_state(self, order_id, state, *_):
            seen.append((order_id, state, ids_in(path)))

    with opened(path, Witness()) as sink:
        sink.send(orders)
    assert seen == [("a", "ACKED", ["a", "b"]), ("b", "ACKED", ["a", "b"])]


def test_orders_that_a_crash_left_pending_are_marked_and_not_written_again(journal, path):
    orders = [order("a"), order("b", action="exit"), order("c")]
    journal.append(entry(1, orders))

    class Killed(BaseException):
        pass

    class DyingJournal:
        def order_state(self, order_id, *rest):
            if order_id == "b":
                raise Killed
            journal.order_state(order_id, *rest)

    with opened(path, DyingJournal()) as sink, pytest.raises(Killed):
        sink.send(orders[:2])
    assert states(journal) == {"a": "ACKED", "b": "PENDING", "c": "PENDING"}
    with opened(path, journal) as sink:
        sink.send([record.order for record in journal.orders(state="PENDING")])
    assert ids_in(path) == ["a", "b", "c"]
    assert set(states(journal).values()) == {"ACKED"}


def test_an_order_sent_twice_is_on_paper_once_and_the_journal_objects(journal, path):
    journal.append(entry(1, [order("a")]))
    with opened(path, journal) as sink:
        sink.send([order("a")])
        with pytest.raises(DataError, match="entry 'a' is ACKED"):
            sink.send([order("a")])
    assert ids_in(path) == ["a"]


def test_a_line_cut_short_anywhere_is_taken_off_told_and_written_again(journal, path, tmp_path):
    orders = [order(f"o{k}") for k in range(2)]
    whole = "".join(body_of(each, "ibs") + "\n" for each in orders).encode()
    first = whole.index(b"\n") + 1
    path.parent.mkdir()
    for number, cut in enumerate([first + 1, first + 40, len(whole) - 2, len(whole) - 1]):
        path.write_bytes(whole[:cut])
        given = [order(f"o{k}") for k in range(2)]
        with SqliteJournal(tmp_path / f"{number}.sqlite") as own:
            own.begin(1, {})
            own.append(entry(1, given))
            with opened(path, own) as sink:
                assert path.read_bytes() == whole[:first]
                sink.send(given)
            assert path.read_bytes() == whole
            (event,) = own.events(kind="paper_repaired")
            assert event.facts == {"path": str(path), "bytes": cut - first}
            assert set(states(own).values()) == {"ACKED"}


def test_zeros_that_a_loss_of_power_left_are_taken_off(journal, path):
    path.parent.mkdir()
    path.write_bytes(bytes(300))
    with opened(path, journal):
        pass
    assert path.read_bytes() == b""
    assert journal.events(kind="paper_repaired")[0].facts["bytes"] == 300


def test_a_whole_file_is_not_repaired(journal, path):
    journal.append(entry(1, [order("a")]))
    with opened(path, journal) as sink:
        sink.send([order("a")])
    before = path.read_bytes()
    with opened(path, journal):
        pass
    assert path.read_bytes() == before
    assert journal.events() == []


@pytest.mark.parametrize(
    ("content", "line"),
    [("key: value", 1), ("[1]\n", 1), ('{"extras": {"cid": "a"}}\nname,price\n', 2), ("{}", 1)],
)
def test_a_file_of_another_kind_is_refused_and_left_alone(journal, path, content, line):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(DataError, match=f"expected an order on every line, .* in line {line};"):
        PaperSink(path, journal, FixedClock(), strategy="ibs")
    assert path.read_text() == content


def test_a_second_writer_is_refused(journal, path):
    with (
        opened(path, journal),
        pytest.raises(EnvironmentFault, match="another process writes paper orders"),
    ):
        PaperSink(path, journal, FixedClock(), strategy="ibs")
    with opened(path, journal):
        pass


def test_a_place_that_cannot_be_written_is_an_error_that_says_so(journal, tmp_path):
    (tmp_path / "a_file").touch()
    for path in (tmp_path, tmp_path / "a_file" / "orders.jsonl"):
        with pytest.raises(EnvironmentFault, match=r"file of paper orders .* check the path"):
            PaperSink(path, journal, FixedClock(), strategy="ibs")


def test_a_disk_that_takes_half_a_line_leaves_none_of_it(journal, path):
    orders = [order("a"), order("b"), order("c")]
    journal.append(entry(1, orders))
    with opened(path, journal) as sink:
        sink.send(orders[:1])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        room = path.stat().st_size * 5 // 2  # b and half of c
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(EnvironmentFault, match="File too large; check the path"):
                sink.send(orders[1:])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert ids_in(path) == ["a"]
        assert states(journal) == {"a": "ACKED", "b": "PENDING", "c": "PENDING"}
        sink.send(orders[1:])
    assert ids_in(path) == ["a", "b", "c"]


WORKER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from adapters.paper_sink import PaperSink
from adapters.sqlite_journal import SqliteJournal
from journal_entries import entry, order

class NoClock:
    def now_ns(self):
        return 1

def work(run):
    journal = SqliteJournal(Path(sys.argv[1]))
    journal.begin(run, {})
    sink = PaperSink(Path(sys.argv[2]), journal, NoClock(), strategy="ibs")
    print("worker", os.getpid(), flush=True)
    sink.send([record.order for record in journal.orders(state="PENDING")])
    for number in range(journal.last_seq() + 1, 1_000_000):
        orders = [order(f"{number}-{k}") for k in range(3)]
        journal.append(entry(number, orders))
        sink.send(orders)
        print(number, flush=True)

for line in sys.stdin:
    if not (child := os.fork()):
        try:
            work(int(line))
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def kill_again_and_again(folder, n_kills, seed):
    chance = random.Random(seed)
    journal_path, path = folder / "live.sqlite", folder / "orders.jsonl"
    arguments = [str(journal_path), str(path), str(Path(__file__).parent)]
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            for run in range(n_kills):
                process.stdin.write(f"{run}\n")
                process.stdin.flush()
                number = int(process.stdout.readline().split()[1])
                for _ in range(chance.randrange(4)):
                    assert process.stdout.readline().strip().isdigit()
                os.kill(number, 9)
                while process.stdout.readline() != "gone\n":
                    pass
        finally:
            process.kill()
    with SqliteJournal(journal_path) as journal:
        journal.begin(0, {})
        acked = [record.order.order_id for record in journal.orders(state="ACKED")]
        raw = path.read_bytes()
        whole = [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
        assert set(acked) <= {line["extras"]["cid"] for line in whole}
        with opened(path, journal) as sink:
            sink.send([record.order for record in journal.orders(state="PENDING")])
        decided = [record.order.order_id for record in journal.orders()]
        assert sorted(ids_in(path)) == sorted(decided)  # each once, none missing
        assert set(states(journal).values()) == {"ACKED"}
        return len(decided)


def test_a_worker_killed_again_and_again_puts_every_order_on_paper_once(tmp_path):
    assert kill_again_and_again(tmp_path, n_kills=8, seed=5) >= 8


@pytest.mark.soak
def test_a_worker_killed_two_hundred_times_puts_every_order_on_paper_once(tmp_path):
    assert kill_again_and_again(tmp_path, n_kills=200, seed=6) >= 200
