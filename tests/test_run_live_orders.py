"""`ibs run-live --armed`: orders at the stand-in for TradersPost, through faults and kills, agree with the journal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import date

import pytest
from click.testing import CliRunner
from live_worlds import RULE, make_world, orders_in

from adapters.demo_broker import DemoBroker, Fault, MarketClock
from adapters.sqlite_journal import SqliteJournal
from ibs_core.cli.main import cli
from ibs_core.errors import IbsError
from ibs_core.live import Worker
from ibs_core.positions import OPEN

IBS = (sys.executable, "-c", "from ibs_core.cli.main import run; run()")
UNKNOWN = ("AMBIGUOUS", "FLATTENED", "SENDING")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    # Nothing rests at the broker: the stand-in knows no prices between the signals.
    rule = RULE | {
        "strategy": {**RULE["strategy"], "exits": {}},
        "symbols": {"ES": {"execute": "MES"}, "CL": {}},
    }
    folder = tmp_path_factory.mktemp("armed")
    return make_world(folder, date(2024, 1, 15), date(2024, 1, 17), rule=rule)


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("POLICY_KILLSWITCH", raising=False)
    return monkeypatch


def words(world, journal, *more):
    return (
        *("run-live", "--replay", world.bars, "--speed", "max", "--config", world.config),
        *("--journal", journal, "--armed", "--route", "demo", *more),
    )


def ibs(*given):
    result = CliRunner().invoke(cli, [str(each) for each in given])
    if isinstance(result.exception, IbsError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.stdout


@contextmanager
def receiving(*faults, **more):
    """The stand-in in the market's time, and what lets the last orders fill."""
    passed = [0.0]
    with DemoBroker(faults, clock=MarketClock(lambda: passed[0]), **more) as broker:
        broker.let_fill = lambda: passed.__setitem__(0, passed[0] + 10.0)
        yield broker


def trade(world, journal, broker, environment):
    environment.setenv("TRADERSPOST_WEBHOOK_URL", broker.url)
    code, out = ibs(*words(world, journal, "--json"))
    assert code == 0, out
    broker.let_fill()
    return json.loads(out)


def held(facts):
    return {each["instrument"]: each["quantity"] for each in facts["open_positions"]}


def states(journal):
    return {each.order.order_id: each.state for each in orders_in(journal)}


def closed_once(journal, broker):
    """F30, R3: a close is one message, an exit, and nothing else sells."""
    sent = [json.loads(each.body) for each in broker.requests]
    exits = [each["extras"]["cid"] for each in sent if each["action"] == "exit"]
    assert sorted(exits) == sorted(each for each in states(journal) if each.endswith("-exit"))
    assert {each["action"] for each in sent} == {"buy", "exit"}
    assert not any("quantity" in each for each in sent if each["action"] == "exit")


def left_at_once(journal):
    """R10: an order leaves at the decision, in the market's time."""
    with SqliteJournal(journal, read_only=True) as kept:
        for each in kept.orders():
            (attempt,) = kept.attempts(each.order.order_id)
            assert 0 <= attempt.started_ns - each.order.decided_ns < 60 * 10**9


def agrees(facts, journal, broker):
    """What is held at the receiver is what the book says, and each order was taken once."""
    at_broker = {ticker: n for ticker, n in broker.positions().items() if n}
    assert at_broker == held(facts)
    assert set(states(journal).values()) <= {"ACKED", "EXPIRED", "FLATTENED", "SUPERSEDED"}
    taken = [json.loads(each.body)["extras"]["cid"] for each in broker.requests if each.signal_id]
    entries = [each for each in taken if each.endswith("-entry")]
    assert len(set(entries)) == len(entries)
    code, out = ibs("parity", "--journal", journal, "--json")
    assert code == 0, out


def test_orders_of_a_replay_arrive_and_positions_agree_with_the_journal(
    world, tmp_path, environment
):
    journal = tmp_path / "live.sqlite"
    with receiving() as broker:
        facts = trade(world, journal, broker, environment)
        agrees(facts, journal, broker)
    closed_once(journal, broker)
    left_at_once(journal)
    assert set(states(journal).values()) == {"ACKED"}
    assert len(facts["trades"]) > 10
    assert facts["route"] == "demo"
    rejected = [each for each in broker.trades if each.status != "executed"]
    assert rejected == []


FAULTS = (
    Fault(kind="reset", action="buy", first=2),
    Fault(kind="reset_unread", first=5),
    Fault(kind="answer", status=500, action="buy", first=2, accepts=True),
    Fault(kind="answer", status=429, action="exit", first=2),
    Fault(kind="garbage", action="exit", first=2),
    Fault(kind="no_answer", seconds=0.05, action="buy", first=3),
    Fault(kind="no_answer", seconds=0.05, action="exit", first=3),
    Fault(kind="reset_unread", first=4),
    Fault(kind="answer", status=500, action="buy", first=2, accepts=False),
    Fault(kind="answer", status=429, action="buy", first=2),
)


def named(fault):
    return f"{fault.kind}-{fault.status or ''}-{fault.action}-{fault.accepts}-{fault.first}"


def survived(world, tmp_path, environment, fault):
    journal = tmp_path / "live.sqlite"
    with receiving(fault) as broker:
        facts = trade(world, journal, broker, environment)
        assert broker.fired
        agrees(facts, journal, broker)  # R4: an entry among them was not sent again
        assert not any(n < 0 for n in broker.positions().values())


@pytest.mark.parametrize("fault", FAULTS[:5], ids=named)
def test_after_a_fault_of_delivery_the_book_is_what_is_held(world, tmp_path, environment, fault):
    survived(world, tmp_path, environment, fault)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS[5:], ids=named)
def test_after_more_faults_of_delivery_too(world, tmp_path, environment, fault):
    survived(world, tmp_path, environment, fault)


@pytest.mark.parametrize("n", [2, 12])
def test_killed_in_mid_send_a_restart_goes_on_and_the_list_explains(
    world, tmp_path, environment, n
):
    killed_many(world, tmp_path, environment, [n])


@pytest.mark.soak
def test_killed_in_mid_send_many_times(world, tmp_path, environment):
    killed_many(world, tmp_path, environment, [1] * 20)


def killed_many(world, tmp_path, environment, places):
    journal = tmp_path / "live.sqlite"
    with receiving() as broker:
        environment.setenv("TRADERSPOST_WEBHOOK_URL", broker.url)
        for n in places:
            child = subprocess.Popen(
                [*IBS, *map(str, words(world, journal, "--quiet"))], start_new_session=True
            )
            broker.inject(Fault(kind="stall_body", seconds=30.0, first=len(broker.requests) + n))
            fired = len(broker.fired)
            assert broker.wait_fired(fired + 1, 60.0), "the signal never came"
            child.send_signal(signal.SIGKILL)
            child.wait()
        unknown = [each for each, state in states(journal).items() if state == "SENDING"]
        assert unknown
        facts = trade(world, journal, broker, environment)
        agrees(facts, journal, broker)
        assert not any(n < 0 for n in broker.positions().values())
    code, out = ibs("orders", "show", unknown[0], "--journal", journal)
    assert code == 0
    assert "AMBIGUOUS" in out
    assert "crash" in out or "cut short" in out


def test_everything_leaves_without_market_data(world, tmp_path, environment):
    """The feed is gone, positions are open: what an operator asks leaves all the same."""
    journal, plain = tmp_path / "live.sqlite", tmp_path / "plain.yml"
    plain.write_text("preflight: {enabled: false}")
    with receiving() as broker:
        environment.setenv("TRADERSPOST_WEBHOOK_URL", broker.url)
        run = Worker.run

        def until_open(worker, stopped):
            def ends():
                return stopped() or (
                    worker.counts["trades"] > 3 and (worker._engine.book["status"] == OPEN).any()
                )

            return run(worker, ends)

        with environment.context() as patched:
            patched.setattr(Worker, "run", until_open)
            assert trade(world, journal, broker, environment)["open_positions"]
        assert any(broker.positions().values())
        assert ibs("flatten", "--yes", "--journal", journal)[0] == 0
        code, out = ibs(
            *("run-live", "--exits-only", "--config", world.config, "--config", plain),
            *("--journal", journal, "--armed", "--route", "demo", "--json"),
        )
        assert code == 0, out
        facts = json.loads(out)
        broker.let_fill()
        assert not any(broker.positions().values())
    assert facts["how"] == "every exit has arrived"
    found = states(journal)
    assert all(found[each] == "ACKED" for each in found if each.endswith("-exit"))
    assert ibs("parity", "--journal", journal, "--json")[0] == 0


def test_the_call_for_one_order_does_not_hide_the_call_for_another(world, tmp_path, environment):
    """People are called once a cause, so each order has causes of its own."""
    journal, events, more = (tmp_path / name for name in ("l.sqlite", "e.jsonl", "m.yml"))
    more.write_text(f"monitoring: {{events: {events}}}")
    with receiving(Fault(kind="answer", status=400, action="buy", count=2)) as broker:
        environment.setenv("TRADERSPOST_WEBHOOK_URL", broker.url)
        code, out = ibs(*words(world, journal, "--config", more, "--json"))
        assert code == 0, out
    told = [json.loads(line) for line in events.read_text().splitlines()]
    causes = [each["cause"] for each in told if each["kind"] == "page"]
    refused = {name for name, state in states(journal).items() if state == "DEAD"}
    assert len(refused) == 2
    assert {each.removeprefix("refused ") for each in causes} == refused
