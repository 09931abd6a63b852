"""`ibs orders` beside a worker and without one."""

import json
import time

import pytest
from click.testing import CliRunner
from journal_entries import entry, order

from adapters.sqlite_journal import SqliteJournal
from ibs_core.cli.orders import orders
from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.outcomes import Response

LONG_AGO = time.time_ns() - 3600 * 10**9
FACTS = {"rule": "r", "source": "live data"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "live.sqlite"


@pytest.fixture
def journal(path):
    """An entry of unknown outcome, a dead exit, an order that was accepted, one that waits."""
    with SqliteJournal(path) as opened:
        opened.begin(LONG_AGO, FACTS)
        opened.append(
            entry(
                1,
                [
                    order("in"),
                    order("out", symbol="NQ", instrument="MNQZ2025", action="exit", reason="ibs"),
                    order("done", symbol="CL", instrument="CLF2026"),
                    order("new", symbol="CL", instrument="CLF2026", action="exit"),
                ],
            )
        )
        for name, outcome, state in (
            ("in", "AMBIGUOUS", "AMBIGUOUS"),
            ("out", "REFUSED", "DEAD"),
            ("done", "ACCEPTED", "ACKED"),
        ):
            number = opened.begin_attempt(name, LONG_AGO, body=f'{{"of": "{name}"}}', route="live")
            response = Response(outcome, 200, detail="why", signal_id="s-1", log_id="l-1")
            opened.end_attempt(number, LONG_AGO, response, state=state, why=f"{outcome} why")
        yield opened


def run(*words):
    done = CliRunner().invoke(orders, [str(each) for each in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def told(*words):
    return json.loads(run(*words, "--json").stdout)


def states(path):
    with SqliteJournal(path, read_only=True) as reader:
        return {each.order.order_id: each.state for each in reader.orders()}


def test_orders_are_listed_with_their_states_and_reasons(journal, path):
    found = told("list", "--journal", path)
    assert [(each["order_id"], each["state"]) for each in found] == [
        ("in", "AMBIGUOUS"),
        ("out", "DEAD"),
        ("done", "ACKED"),
        ("new", "PENDING"),
    ]
    assert (found[1]["why"], found[1]["attempts"]) == ("REFUSED why", 1)
    unsettled = told("list", "--open", "--journal", path)
    assert [each["order_id"] for each in unsettled] == ["in", "out", "new"]
    assert [each["order_id"] for each in told("list", "--state", "acked", "--journal", path)] == [
        "done"
    ]
    assert told("list", "--symbol", "ZB", "--journal", path) == []
    text = run("list", "--journal", path).stdout
    assert all(each in text for each in ("AMBIGUOUS", "MNQZ2025", "REFUSED why"))
    assert run("list", "--quiet", "--journal", path).stdout == ""


def test_exits_in_place_of_an_entry_are_counted_apart(journal, path):
    for _ in range(3):
        number = journal.begin_attempt("in", LONG_AGO, body="{}", route="live", flattens=True)
        journal.end_attempt(number, LONG_AGO, Response("NOT_SENT"), state=None, why="")
    (found,) = told("list", "--state", "AMBIGUOUS", "--journal", path)
    assert (found["attempts"], found["exits"]) == (1, 3)
    shown = run("list", "--journal", path).stdout
    assert "1 + 3 exits" in shown
    assert shown.count(" exits") == 1


def test_an_order_that_a_crash_cut_short_names_the_way_on(journal, path):
    journal.begin_attempt("new", LONG_AGO, body="{}", route="live")
    way = "the worker's next start makes it AMBIGUOUS, then resolve"
    assert way not in run("show", "new", "--journal", path).stdout  # it is on its way
    journal.close()
    assert way in run("show", "new", "--journal", path).stdout
    assert [each["why"] for each in told("list", "--state", "SENDING", "--journal", path)] == [
        f"cut short; {way}"
    ]
    assert way not in run("show", "in", "--journal", path).stdout


def test_an_order_is_shown_with_every_attempt_and_what_was_sent(journal, path):
    shown = told("show", "in", "--journal", path)
    assert (shown["body"], shown["route"]) == ('{"of": "in"}', "live")
    assert [each["state"] for each in shown["moves"]] == ["SENDING", "AMBIGUOUS"]
    (tried,) = shown["tried"]
    assert (tried["outcome"], tried["status"], tried["id"]) == ("AMBIGUOUS", 200, "s-1")
    text = run("show", "in", "--journal", path).stdout
    assert "sent the entry: AMBIGUOUS HTTP 200 why s-1 l-1" in text
    with pytest.raises(ConfigError, match=r"order 'nil': expected one of `ibs orders list`"):
        run("show", "nil", "--journal", path)


def test_a_running_worker_is_asked_and_does_it_itself(journal, path):
    asked = told("resolve", "in", "--as", "absent", "--journal", path)
    assert (asked["state"], asked["asked"]) == ("AMBIGUOUS", "RESOLVED_ABSENT")
    (command,) = journal.take_commands()
    assert (command.command, command.facts) == (
        "resolve",
        {"order_id": "in", "verdict": "absent"},
    )
    assert states(path)["in"] == "AMBIGUOUS"
    assert "the worker was asked" in run("retry", "out", "--journal", path).stdout
    assert journal.take_commands()[0].facts == {"order_id": "out", "verdict": "retry"}


def test_without_a_worker_the_order_moves_at_once_and_the_worker_goes_on_later(journal, path):
    journal.close()
    assert told("resolve", "in", "--as", "filled", "--journal", path)["state"] == "RESOLVED_FILLED"
    assert "out is PENDING; no worker runs" in run("retry", "out", "--journal", path).stdout
    run("resolve", "new", "--as", "flat", "--journal", path)
    assert states(path) == {
        "in": "RESOLVED_FILLED",
        "out": "PENDING",
        "done": "ACKED",
        "new": "FLATTENED",
    }
    with SqliteJournal(path, read_only=True) as reader:
        assert reader.commands() == []
        assert reader.moves("in")[-1].detail == "by an operator: filled"
        assert {each.facts["rule"] for each in reader.runs()} == {"r"}  # as refuse_other_rule asks
        assert reader.runs()[-1].how == "ibs orders: flat"


def test_a_word_that_does_not_fit_is_refused_and_changes_nothing(journal, path):
    before = states(path)
    for words, message in (
        (("retry", "in"), "an entry is never sent again"),
        (("resolve", "done", "--as", "filled"), "there is nothing to resolve"),
        (("resolve", "out", "--as", "absent"), "expected flat or retry"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(*words, "--journal", path)
    assert states(path) == before
    assert journal.take_commands() == []


def test_nobody_knows_of_an_entry_before_15_seconds(journal, path):
    journal.append(entry(2, [order("fresh")]))
    number = journal.begin_attempt("fresh", time.time_ns(), body="{}", route="")
    response = Response("AMBIGUOUS")
    journal.end_attempt(number, time.time_ns(), response, state="AMBIGUOUS", why="")
    with pytest.raises(ConfigError, match="expected 15 s or more, for it may still fill"):
        run("resolve", "fresh", "--as", "absent", "--journal", path)
    assert "RESOLVED" not in states(path)["fresh"]


def test_a_journal_that_is_not_there_is_said_to_be_missing(path):
    with pytest.raises(EnvironmentFault, match="no journal"):
        run("list", "--journal", path)
