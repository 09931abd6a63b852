"""`ibs replay`: what the worker knew and decided at a slice."""

from __future__ import annotations

from datetime import date

import pytest
import yaml
from live_worlds import RULE, make_world
from sample_bundle import tradable_bundle
from test_run_live import document, ibs, refused, replay_words

from adapters.sqlite_journal import SqliteJournal
from ibs_core.market_data.runs import stamp

FEATURES = ("bar_rsi2", "bar_ret1_pct", "day_ibs", "bar_ibs", "bar_rsi5", "cal_dow")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), date(2024, 1, 8), date(2024, 1, 10))


@pytest.fixture(scope="module")
def journal(world):
    path = world.folder / "lived.sqlite"
    document(*replay_words(world, path))
    return path


def orders_in(path):
    with SqliteJournal(path, read_only=True) as journal:
        return [each.order for each in journal.orders()]


def at(journal, ns):
    return document("replay", "--journal", journal, "--at", stamp(ns))


def test_the_slice_of_every_order_shows_the_decision_the_bar_and_the_order(journal):
    orders = orders_in(journal)[::6]
    assert {each.action for each in orders} == {"entry", "exit"}
    for order in orders:
        facts = at(journal, order.decided_ns)
        assert facts["time"] == stamp(order.decided_ns)
        assert order.order_id in [each["order_id"] for each in facts["orders"]]
        decided = {(each["symbol"], each["action"]) for each in facts["decisions"]}
        assert (order.symbol, order.action) in decided
        bars = {each["symbol"]: each for each in facts["bars"]}
        if order.action == "entry":
            assert bars[order.symbol]["gate"] == ""
            assert bars[order.symbol]["close"] == order.price
            assert 0 <= bars[order.symbol]["ibs"] <= 0.5
            held = {each["symbol"]: each["status"] for each in facts["positions"]}
            assert held[order.symbol] == "entering"


def test_an_instant_between_two_slices_shows_the_one_before(journal):
    order = orders_in(journal)[0]
    minute = 60 * 10**9
    assert at(journal, order.decided_ns + minute) == at(journal, order.decided_ns)
    assert at(journal, order.decided_ns - minute)["time"] < stamp(order.decided_ns)
    last = document("replay", "--journal", journal)
    assert last == document("replay", "--journal", journal, "--at", "2030-01-01")


def test_after_the_fill_the_position_is_open_and_where_it_stands(journal):
    entry = next(each for each in orders_in(journal) if each.action == "entry")
    hour = 3600 * 10**9
    held = at(journal, entry.decided_ns + hour)["positions"]
    mine = [each for each in held if each["symbol"] == entry.symbol]
    if mine:
        assert mine[0]["status"] in ("open", "leaving")
        assert mine[0]["instrument"] == entry.instrument


def test_people_are_told_the_same(journal):
    order = orders_in(journal)[0]
    out = ibs("replay", "--journal", journal, "--at", stamp(order.decided_ns)).stdout
    assert f"order {order.order_id}: entry" in out
    assert "candidate" in out
    assert "entering" in out
    assert ibs("replay", "--journal", journal, "--quiet").stdout == ""


def test_the_features_of_a_candidate_are_named_where_a_model_scores(world, tmp_path):
    tradable_bundle(tmp_path / "models", "ES", FEATURES, threshold=0.0001, version="v1")
    config, path = tmp_path / "veto.yml", tmp_path / "lived.sqlite"
    bundle = str(tmp_path / "models" / "{symbol}" / "v1")
    rule = {"strategy": {**RULE["strategy"]}, "model": {"mode": "veto", "bundle": bundle}}
    config.write_text(yaml.safe_dump(rule))
    words = ("run-live", "--config", config, "--replay", world.bars / "ES.parquet")
    facts = document(*words, "--speed", "max", "--journal", path)
    assert facts["trades"]
    entry = next(each for each in orders_in(path) if each.action == "entry")
    (bar,) = at(path, entry.decided_ns)["bars"]
    assert set(bar["features"]) == {"bar_rsi2", *FEATURES}
    assert all(value is not None for value in bar["features"].values())
    assert bar["score"] == pytest.approx(entry.score)
    assert bar["threshold"] == entry.threshold == 0.0001
    found = document("parity", "--journal", path)
    assert found["differences"] == []
    assert found["compared"]["scores"] > 0
    out = ibs("replay", "--journal", path, "--at", stamp(entry.decided_ns)).stdout
    assert "score" in out
    assert FEATURES[0] in out


def test_what_cannot_be_shown_is_refused(journal, tmp_path):
    refused(ibs("replay", "--journal", tmp_path / "no.sqlite"), 3, "no.sqlite")
    refused(ibs("replay", "--journal", journal, "--at", "noon"), 2, "2025-03-03T15:00")
    refused(ibs("replay", "--journal", journal, "--at", "2001-01-01"), 1, "no slice")
