"""A broker's statement beside the journal: matching, slippage, drift, and statements that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from journal_entries import order
from live_worlds import MAP, make_world
from lived_journals import live

from adapters.sqlite_journal import SqliteJournal
from ibs_core.bars import EXIT_REASONS, MINUTE_NS
from ibs_core.cli.main import cli
from ibs_core.errors import ConfigError, DataError, EnvironmentFault, IbsError
from ibs_core.fills import (
    Fill,
    Held,
    compare,
    instant_of,
    legs_of,
    match,
    net,
    read_statement,
)

SECOND = 10**9
WINDOW = 15 * MINUTE_NS
T0 = 1_764_600_000 * SECOND
HEADER = ["time", "contract", "side", "quantity", "price", "commission"]


# ---------------------------------------------------------------------- matching


@dataclass(frozen=True)
class Sent:
    order: object
    state: str = "ACKED"
    updated_ns: int = T0


def entered(name="in", at_ns=T0, state="ACKED", **fields):
    return Sent(order(name, decided_ns=at_ns, price=100.0, **fields), state, at_ns + SECOND)


def left(name="out", at_ns=T0 + 3600 * SECOND, state="ACKED", **fields):
    return entered(name, at_ns, state, action="exit", reason="ibs", **fields)


def held(entry_ns=T0, exit_ns=None, reason="ibs"):
    price = None if exit_ns is None else 101.0
    return Held("ES", entry_ns, 100.0, exit_ns, price, reason)


def fill(at_ns, side=1, quantity=2, price=100.0, line=2, instrument="MESZ2025"):
    return Fill(line, at_ns, instrument, side, quantity, round(price * 1e9), None)


def found(sent, positions, fills):
    legs = legs_of(sent, positions)
    traded, rest = match(fills, legs, WINDOW)
    return traded, rest, compare(traded, rest, net(legs, fills, 0, 2**62))


def kinds(sent, positions, fills):
    return sorted(each.kind for each in found(sent, positions, fills)[2])


ROUND = [entered(), left()], [held(exit_ns=T0 + 3600 * SECOND)]
FILLED = [fill(T0 + SECOND), fill(T0 + 3601 * SECOND, -1, line=3)]


def test_slippage_is_what_was_paid_beyond_the_price_of_the_book():
    partly = [fill(T0 + 2 * SECOND, quantity=1, price=100.25), fill(T0 + SECOND, quantity=1)]
    traded, rest, drift = found(*ROUND, [*partly, fill(T0 + 3603 * SECOND, -1, price=100.5)])
    assert rest == drift == []
    bought, sold = traded
    assert (bought.price, bought.latency_ns) == (100.125, SECOND)
    assert bought.slippage_ticks(MAP.get("MES")) == 0.5
    assert sold.slippage_ticks(MAP.get("MES")) == 2.0  # sold half a point below 101
    assert sold.slippage_nano == 2 * 500_000_000
    assert sold.latency_ns == 3 * SECOND


def test_each_kind_of_drift_is_named():
    assert kinds(*ROUND, FILLED) == []
    assert kinds(*ROUND, FILLED[:1]) == ["no fill", "position"]
    assert kinds(*ROUND, [*FILLED, fill(T0 + 2 * SECOND, line=4)]) == [
        "fill without an order",
        "position",
    ]
    assert kinds(*ROUND, [replace(FILLED[0], quantity=1), FILLED[1]]) == ["position", "quantity"]
    elsewhere = [replace(each, instrument="MESH2026") for each in FILLED]
    assert kinds(*ROUND, elsewhere) == ["fill without an order"] * 2 + ["no fill"] * 2
    late = [FILLED[0], replace(FILLED[1], time_ns=T0 + 3600 * SECOND + WINDOW + SECOND)]
    assert kinds(*ROUND, late) == ["fill without an order", "no fill"]


@pytest.mark.parametrize(
    ("state", "fills", "expected", "says"),
    [
        ("AMBIGUOUS", FILLED[:1], ["position", "state"], "`ibs orders resolve in --as filled`"),
        ("AMBIGUOUS", [], ["state"], "`ibs orders resolve in --as absent`"),
        ("DEAD", FILLED[:1], ["position", "state"], "in is DEAD, and 2 filled"),
        ("EXPIRED", [], [], ""),
        ("RESOLVED_ABSENT", [], [], ""),
        ("ACKED", [], [], ""),  # it lapsed in the book, and did not fill
    ],
)
def test_a_state_and_the_statement_are_held_against_each_other(state, fills, expected, says):
    _, _, drift = found([entered(state=state)], [], fills)
    assert sorted(each.kind for each in drift) == expected
    assert says in " ".join(each.text for each in drift)


def test_an_entry_that_was_flattened_may_have_filled_and_been_sold():
    sent = [entered(state="FLATTENED")]
    assert kinds(sent, [], []) == []
    assert kinds(sent, [], [fill(T0 + SECOND), fill(T0 + 2 * SECOND, -1)]) == []
    assert kinds(sent, [], [fill(T0 + SECOND)]) == ["position"]


def test_what_a_resting_order_or_a_hand_sold_needs_no_order_of_ours():
    stopped = held(exit_ns=T0 + 600 * SECOND, reason="protective_stop")
    sold = fill(T0 + 601 * SECOND, -1, price=100.75)
    traded, _, drift = found([entered()], [stopped], [FILLED[0], sold])
    assert drift == []
    assert (traded[1].leg.order_id, traded[1].leg.reason) == ("", "protective_stop")
    assert traded[1].slippage_ticks(MAP.get("MES")) == 1.0
    assert traded[1].latency_ns is None
    by_hand = left(state="FLATTENED")  # told an hour after it was done
    assert kinds([entered(), by_hand], ROUND[1], [FILLED[0], sold]) == []


def test_an_exit_that_left_late_is_matched_where_the_book_has_it():
    late = held(exit_ns=T0 + 7200 * SECOND)
    sold = fill(T0 + 7201 * SECOND, -1)
    traded, _, drift = found([entered(), left()], [late], [FILLED[0], sold])
    assert drift == []
    assert traded[1].latency_ns == 3601 * SECOND


def test_a_fill_goes_to_the_nearest_order_that_still_lacks_it():
    sent = [entered(), left(at_ns=T0 + 60 * SECOND), entered("in2", T0 + 120 * SECOND)]
    positions = [held(exit_ns=T0 + 60 * SECOND), held(T0 + 120 * SECOND)]
    bought = [fill(T0 + 121 * SECOND, line=3), fill(T0 + 2 * SECOND), fill(T0 + 61 * SECOND, -1)]
    traded, rest, drift = found(sent, positions, bought)
    assert rest == drift == []
    first = {each.leg.order_id: [row.time_ns for row in each.fills] for each in traded}
    assert first["in"] == [T0 + 2 * SECOND]
    assert first["in2"] == [T0 + 121 * SECOND]


offsets = st.integers(-30, 4000).map(lambda s: T0 + s * SECOND)
some_fills = st.lists(
    st.builds(
        fill,
        at_ns=offsets,
        side=st.sampled_from([1, -1]),
        quantity=st.integers(1, 3),
        price=st.integers(380, 420).map(lambda n: n / 4),
        instrument=st.sampled_from(["MESZ2025", "MESH2026"]),
    ),
    max_size=12,
)


@st.composite
def some_legs(draw):
    """Round trips of one symbol, whatever became of their orders; the last may be open."""
    states = st.sampled_from(["ACKED", "DEAD", "AMBIGUOUS", "FLATTENED", "RESOLVED_FILLED"])
    steps = draw(st.lists(st.integers(1, 900), max_size=8))
    instants = [T0 + sum(steps[: i + 1]) * SECOND for i in range(len(steps))]
    sent, positions = [], []
    for i, at_ns in enumerate(instants):
        make = left if i % 2 else entered
        sent.append(make(f"o{i}", at_ns, draw(states), quantity=draw(st.integers(1, 3))))
        if i % 2:
            positions.append(held(instants[i - 1], at_ns))
    return legs_of(sent, positions)


def plain(traded, rest):
    """Without the lines: rows that say the same are the same."""
    told = [(each.leg, [replace(row, line=0) for row in each.fills]) for each in traded]
    return told, [replace(row, line=0) for row in rest]


@given(some_fills, some_legs(), st.randoms(use_true_random=False))
def test_every_fill_is_told_once_and_their_order_in_the_file_is_nothing(fills, legs, random):
    fills = [replace(each, line=i) for i, each in enumerate(fills)]
    traded, rest = match(fills, legs, WINDOW)
    told = [row.line for each in traded for row in each.fills] + [row.line for row in rest]
    assert sorted(told) == list(range(len(fills)))
    assert sorted(each.leg.place for each in traded) == sorted(leg.place for leg in legs)
    for each in traded:
        for row in each.fills:
            assert (row.instrument, row.side) == (each.leg.instrument, each.leg.side)
            assert each.leg.since_ns - 5 * SECOND <= row.time_ns <= each.leg.last_ns + WINDOW
        assert sum(row.quantity for row in each.fills[:-1]) < each.leg.quantity
    shuffled, ordered = random.sample(fills, len(fills)), random.sample(legs, len(legs))
    assert plain(*match(shuffled, ordered, WINDOW)) == plain(traded, rest)
    at_end = net(legs, fills, 0, 2**62)
    bought = sum(row.side * row.quantity for row in fills)
    assert sum(shown for _, shown in at_end.values()) == bought


# ---------------------------------------------------------------------- statements


def written(rows, header=HEADER):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


ROW = ["2025-12-01T15:00:02-06:00", "MESZ2025", "buy", "2", "6812.25", "2.50"]


def read(*rows, header=HEADER, zone=None):
    return read_statement(written(rows, header), MAP, zone)


def changed(column, value):
    return [value if name == column else cell for name, cell in zip(HEADER, ROW, strict=True)]


def test_a_statement_is_read_exactly():
    (row,) = read(ROW)
    at = datetime(2025, 12, 1, 21, 0, 2, tzinfo=UTC)
    assert row == Fill(
        2, int(at.timestamp()) * SECOND, "MESZ2025", 1, 2, 6_812_250_000_000, 2_500_000_000
    )
    assert read() == []
    for code in ("MESZ5", "mesz25", "/MESZ2025", " MESZ5 "):
        assert read(changed("contract", code)) == [row]
    local = changed("time", "2025-12-01 15:00:02")
    assert read(local, zone=ZoneInfo("America/Chicago")) == [row]
    assert read(changed("time", "2025-12-01T21:00:02.000Z")) == [row]
    assert read(changed("side", "SLD"))[0].side == -1
    third = read(changed("price", "6812.333333333333333"))
    assert third[0].price_nano == 6_812_333_333_333


def test_columns_are_found_by_our_names_and_by_others_in_any_order():
    (row,) = read(ROW)
    header = ["Symbol", "Account", "Execution Time", "B/S", "Fill Price", "Filled_Qty"]
    other = [ROW[1], "A-1", ROW[0], "Bot", ROW[4], ROW[3]]
    assert read(other, header=header) == [replace(row, commission_nano=None)]
    both = read([*ROW, "NQZ2025"], header=[*HEADER, "symbol"])  # ours comes first
    assert both == [row]
    text = "\ufeff".encode().decode("utf-8-sig") + written([ROW, [""] * 6])
    assert read_statement(text, MAP, None) == [row]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("time", "2025-12-01T15:00:02", "needs --zone America/Chicago"),
        ("time", "12/01/2025 15:00:02", "expected date and time"),
        ("time", "2025-12-01", "expected date and time"),
        ("time", "0001-01-01T00:00:00+14:00", "line 3"),
        ("contract", "ES", "expected a contract with its month"),
        ("contract", "ES.v.0", "expected a contract with its month"),
        ("contract", "MESA5", "delivery months"),
        ("contract", "AAPL", "leave out|unknown symbol"),
        ("side", "short", "expected buy or sell"),
        ("quantity", "-2", "a whole number above 0"),
        ("quantity", "1.5", "a whole number above 0"),
        ("quantity", "0", "a whole number above 0"),
        ("price", "6,812.25", "without separators"),
        ("price", "$6812.25", "without separators"),
        ("price", "nan", "a number such as"),
        ("price", "1e400", "a number such as"),
        ("price", "", "a number such as"),
        ("commission", "-1", "USD paid"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(column, value, says):
    with pytest.raises(DataError, match=says) as error:
        read(ROW, changed(column, value))
    assert error.value.where == "line 3"
    assert error.value.remedy or error.value.expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "column 'time'"),
        ("time;contract;side;quantity;price\n", "separated by commas"),
        ("time,side,quantity,price\n", "column 'contract' .* also called symbol"),
        ("timestamp,datetime,contract,side,quantity,price\n", "column 'time' .* found 2"),
        (written([ROW[:5]]), "expected 6 columns, found 5, in line 2"),
        (written([ROW]) + '"open', "expected CSV"),
    ],
)
def test_a_file_that_is_no_statement_is_refused(text, says):
    with pytest.raises(DataError, match=says):
        read_statement(text, MAP, None)


def test_the_statement_of_the_manual_is_read():
    page = (Path(__file__).parents[1] / "docs" / "operating.md").read_text("utf-8")
    rows = read_statement(re.search(r"```csv\n(.*?)```", page, re.DOTALL)[1], MAP, None)
    assert [(each.side, each.instrument) for each in rows] == [(1, "MESZ2025"), (-1, "MESZ2025")]


@given(st.integers(0, 2**62 // 1000))
def test_an_instant_is_read_to_the_microsecond(micros):
    at = datetime.fromtimestamp(micros / 10**6, UTC).replace(microsecond=micros % 10**6)
    expected = (int(at.replace(microsecond=0).timestamp()) * 10**6 + at.microsecond) * 1000
    assert instant_of(at.isoformat(), None) == expected


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"), date(2024, 1, 8), date(2024, 1, 10))
    return live(world, world.folder / "lived.sqlite", holding="ES", after="2024-01-09T16:00")


@pytest.fixture
def journal(lived, tmp_path):
    path = tmp_path / "live.sqlite"
    path.write_bytes(lived.read_bytes())
    return path


def statement_of(path, *, ticks=1, after_s=2):
    """What a broker's statement says when every fill is worse by some ticks: rows, and where each is from."""
    with SqliteJournal(path, read_only=True) as opened:
        sent = [each.order for each in opened.orders()]
        trades = [each for stored in opened.entries() for each in stored.arrays["trades"]]
        roots = opened.runs()[-1].facts["roots"]
    rows = []

    def say(root, ns, price, side):
        executed = MAP.get("MES" if root == "ES" else root)
        contract = [
            each.instrument
            for each in sent
            if each.symbol == root and each.action == "entry" and each.decided_ns <= ns
        ][-1]
        nano = round(price * 1e9) + side * ticks * executed.tick_nano
        at = datetime.fromtimestamp(ns / 1e9 + after_s, UTC).isoformat()
        rows.append([at, contract, "buy" if side > 0 else "sell", "1", f"{nano / 1e9:.9f}", "1.25"])

    for trade in trades:
        say(roots[trade["symbol"]], int(trade["entry_ns"]), trade["entry_price"], 1)
        say(roots[trade["symbol"]], int(trade["exit_ns"]), trade["exit_price"], -1)
    return rows, trades


@pytest.fixture
def statement(journal, tmp_path):
    """A statement of everything in the journal, with the position that is still held."""
    rows, _ = statement_of(journal)
    mine = json.loads(
        CliRunner().invoke(cli, ["position", "list", "--journal", str(journal), "--json"]).stdout
    )["positions"][0]
    at = datetime.fromisoformat(mine["entry_time"])
    price = f"{mine['entry_price'] + 0.25:.2f}"
    rows.append(
        [
            at.replace(second=2).isoformat(),
            mine["instrument"],
            "buy",
            str(mine["quantity"]),
            price,
            "1.25",
        ]
    )
    return Statement(tmp_path / "statement.csv", rows)


@dataclass
class Statement:
    path: object
    rows: list

    def write(self, rows=None, header=HEADER):
        self.path.write_text(written(self.rows if rows is None else rows, header))
        return self.path


def run(statement, journal, *words):
    given = ["fills", "import", str(statement), "--journal", str(journal), *words]
    return CliRunner().invoke(cli, given)


def document(statement, journal, *words):
    done = run(statement, journal, "--json", *words)
    assert done.exception is None or isinstance(done.exception, IbsError), done.exception
    facts = json.loads(done.stdout)
    assert bool(facts["drift"]) == isinstance(done.exception, DataError)
    return facts


def test_a_statement_that_agrees_tells_what_each_order_cost(statement, journal):
    facts = document(statement.write(), journal)
    assert facts["drift"] == []
    assert facts["rows_matched"] == facts["rows"] == len(statement.rows) > 20
    _, trades = statement_of(journal)
    by_broker = {"protective_stop", "protective_target"}
    told = {each["reason"] for each in facts["orders"] if not each["order_id"]}
    assert told == by_broker & {EXIT_REASONS[int(each["reason"]) - 1] for each in trades} != set()
    for each in facts["orders"]:
        tick = 0.25 if each["symbol"] == "ES" else 0.01
        sign = 1 if each["action"] == "entry" else -1
        assert each["slippage_ticks"] == 1.0
        realised = pytest.approx(each["assumed_price"] + sign * tick / 2, abs=1e-9)
        assert each["realised_price"] == realised
        assert each["slippage_usd"] == {"ES": 1.25, "CL": 10.0}[each["symbol"]]
        if each["order_id"]:
            assert each["latency_s"] >= 2.0
    for each in facts["symbols"]:
        n = each["contracts"]
        assert (each["slippage_ticks"], each["assumed_slippage_ticks"]) == (1.0, 0.5)
        assert each["slippage_usd"] == pytest.approx(2 * each["assumed_slippage_usd"], abs=0.02)
        assert each["commission_usd"] == each["assumed_commission_usd"] == 1.25 * n
    (end,) = facts["positions"]
    assert (end["instrument"], end["book"], end["statement"]) == ("MESH2024", 1, 1)


def test_importing_twice_tells_the_same_and_writes_nothing(statement, journal):
    before = journal.read_bytes()
    first = document(statement.write(), journal)
    assert document(statement.write(statement.rows[::-1]), journal)["drift"] == []
    again = document(statement.write(), journal)
    assert again == first
    assert journal.read_bytes() == before


def test_drift_is_an_exit_code_and_a_line(statement, journal):
    sold = next(i for i, row in enumerate(statement.rows) if row[2] == "sell")
    rows = [row for i, row in enumerate(statement.rows) if i != sold]
    done = run(statement.write(rows), journal)
    assert isinstance(done.exception, DataError)
    assert done.exception.exit_code == 1
    assert "no fill: " in done.stdout
    assert "position: " in done.stdout
    assert "expected no drift, found 2; first: " in str(done.exception)
    assert run(statement.write(), journal, "--quiet").stdout == ""


def test_a_span_takes_what_the_book_held_before_as_given(statement, journal):
    rows = sorted(statement.rows)
    cut = next(
        now[0] for before, now in pairwise(rows[9:]) if at_s(now[0]) - at_s(before[0]) > 1200
    )
    cut_at = datetime.fromtimestamp(at_s(cut) - 600, UTC).isoformat()
    for half, words in (
        ([row for row in rows if row[0] >= cut], ("--since", cut_at)),
        ([row for row in rows if row[0] < cut], ("--until", cut_at)),
    ):
        alone = document(statement.write(half), journal, *words)
        assert alone["drift"] == []
        assert alone["rows"] == len(half) > 3
    assert document(statement.write(half), journal)["drift"] != []


def at_s(text):
    return datetime.fromisoformat(text).timestamp()


def test_without_commissions_none_is_told(statement, journal):
    bare = [row[:5] for row in statement.rows]
    facts = document(statement.write(bare, HEADER[:5]), journal)
    assert {each["commission_usd"] for each in facts["symbols"]} == {None}
    text = run(statement.path, journal).stdout
    assert f"{len(bare)} of {len(bare)} fills belong to an order" in text


def test_an_order_of_unknown_outcome_is_told_with_its_remedy(statement, journal):
    with closing(sqlite3.connect(journal)) as db:
        name = db.execute("SELECT order_id FROM orders WHERE action = 'entry'").fetchone()[0]
        db.execute("UPDATE orders SET state = 'AMBIGUOUS' WHERE order_id = ?", (name,))
        db.commit()
    (drift,) = document(statement.write(), journal)["drift"]
    assert (drift["kind"], drift["order_id"]) == ("state", name)
    assert re.search(rf"ibs orders resolve {name} --as filled", drift["text"])


def test_careless_users_are_told_what_is_wrong(statement, journal, tmp_path):
    path = statement.write()
    for words, kind, says in (
        (("--zone", "Chicago"), ConfigError, "option --zone"),
        (("--zone", "../etc"), ConfigError, "option --zone"),
        (("--since", "yesterday"), ConfigError, "option --since"),
        (("--until", "2024-01-09T00:00"), ConfigError, "option --until"),
    ):
        error = run(path, journal, *words).exception
        assert isinstance(error, kind)
        assert says in str(error)
    assert run(path, journal, "--window", "0").exit_code == 2
    assert isinstance(run(tmp_path / "none.csv", journal).exception, EnvironmentFault)
    assert isinstance(run(path, tmp_path / "none.sqlite").exception, EnvironmentFault)
    path.write_bytes(b"time,contract\n\xff\xfe")
    assert "expected CSV in UTF-8" in str(run(path, journal).exception)
