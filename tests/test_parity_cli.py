"""`ibs parity`: what it compares, what it must find, and what the vendor's history would have changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from hashlib import sha256

import numpy as np
import polars as pl
import pytest
from live_worlds import make_world
from real_data import SHARED, real
from test_run_live import document, ibs, refused, replay_words

from adapters.sqlite_journal import SqliteJournal
from ibs_core.bars import NEVER
from ibs_core.hindsight import Lived, against_history
from ibs_core.portfolio import FIRST_BLOCK, INPUT
from ibs_core.positions import TRADE
from ibs_core.recording import minutes_of
from ibs_core.snapshot import pack


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A week of ES and CL, six minutes an hour."""
    return make_world(tmp_path_factory.mktemp("world"), date(2024, 1, 8), date(2024, 1, 12))


@pytest.fixture(scope="module")
def lived(world):
    """The journal of a replay from the first bar on."""
    journal = world.folder / "lived.sqlite"
    document(*replay_words(world, journal))
    return journal


@pytest.fixture
def journal(lived, tmp_path):
    return shutil.copy(lived, tmp_path / "live.sqlite")


def tampered(journal, name, field, change):
    """Change the first record of a kind in the last entry that has one, and tell the entry."""
    with SqliteJournal(journal, read_only=True) as held:
        stored = [each for each in held.entries() if len(each.arrays[name])][-1]
    arrays = {key: each.copy() for key, each in stored.arrays.items()}
    arrays[name][field][0] = change(arrays[name][field][0])
    block = pack(arrays)
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute(
            "UPDATE entries SET block = ?, sha256 = ? WHERE seq = ?",
            (block, sha256(block).digest(), stored.seq),
        )
    return stored.seq


@pytest.mark.parametrize(
    ("name", "field", "change"),
    [
        ("decisions", "reason", lambda code: code + 1),
        ("bars", "close", lambda price: price + 0.25),
        ("signals", "ibs", lambda ibs: np.nextafter(ibs, 2.0)),
        ("trades", "exit_price", lambda price: np.nextafter(price, 1e9)),
        ("minutes", "low", lambda price: price - 50.0),
    ],
)
def test_the_last_bit_of_any_field_is_found(journal, name, field, change):
    seq = tampered(journal, name, field, change)
    found = ibs("parity", "--journal", journal)
    refused(found, 1, f"entry {seq}", "live and back-test differ")


def test_the_back_tests_driver_finds_what_was_journalled_wrongly(journal):
    tampered(journal, "trades", "exit_price", lambda price: price + 0.25)
    result = ibs("parity", "--journal", journal, "--json")
    assert any("back-test driver" in each for each in json.loads(result.stdout)["differences"])


def test_a_day_is_compared_alone(journal, world):
    whole = document("parity", "--journal", journal)["compared"]
    days = [f"2024-01-{n:02}" for n in (8, 9, 10, 11, 12)]
    found = [document("parity", "--journal", journal, "--day", day) for day in days]
    assert all(each["differences"] == [] for each in found)
    for name in ("bars", "decisions", "orders", "trades"):
        assert sum(each["compared"][name] for each in found) == whole[name]
    tampered(journal, "decisions", "reason", lambda code: code + 1)
    assert document("parity", "--journal", journal, "--day", days[1])["differences"] == []
    refused(ibs("parity", "--journal", journal, "--day", days[-1]), 1, "differ")
    refused(ibs("parity", "--journal", journal, "--day", "2025-05-05"), 1, "2025-05-05")
    refused(ibs("parity", "--journal", journal, "--day", "soon"), 2, "2025-03-31")


def test_a_file_that_is_no_journal_or_holds_nothing_is_refused(tmp_path):
    refused(ibs("parity", "--journal", tmp_path / "no.sqlite"), 3, "no.sqlite")
    (tmp_path / "text.sqlite").write_text("text")
    refused(ibs("parity", "--journal", tmp_path / "text.sqlite"), 3, "text.sqlite")
    SqliteJournal(tmp_path / "empty.sqlite").close()
    refused(ibs("parity", "--journal", tmp_path / "empty.sqlite"), 1, "no run")


# ------------------------------------------------------------------ the vendor's history


def with_bars(world, tmp_path, edit):
    """Bars of both roots in a folder, those of ES edited."""
    folder = tmp_path / "history"
    shutil.copytree(world.bars, folder)
    edit(pl.read_parquet(folder / "ES.parquet")).write_parquet(folder / "ES.parquet")
    return folder


def against(journal, folder):
    result = ibs(
        "parity", "--journal", journal, "--against", "history", "--history", folder, "--json"
    )
    return json.loads(result.stdout)["history"], result


def test_history_like_the_journal_changes_nothing(journal, world):
    found, result = against(journal, world.bars)
    assert result.exit_code == 0
    assert found["n_same"] > 500
    assert not any(found[name] for name in found if name != "n_same")


def test_minutes_that_differ_are_named_and_change_nothing_by_themselves(journal, world, tmp_path):
    instant = datetime(2024, 1, 10, 3, 29, tzinfo=UTC)

    def edit(table):
        at = table["ts_event"] == instant
        late = table.filter(at).with_columns(pl.col("ts_event").dt.offset_by("3m"))
        other = table.with_columns(
            pl.when(at).then(pl.col("volume") + 7).otherwise(pl.col("volume")).alias("volume")
        )
        gone = pl.col("ts_event") == instant.replace(minute=30)
        return pl.concat([other.filter(~gone), late]).sort("ts_event")

    found, result = against(journal, with_bars(world, tmp_path, edit))
    assert result.exit_code == 0
    assert [len(found[name]) for name in ("unseen", "unknown", "unlike")] == [1, 1, 1]
    assert found["unseen"][0].startswith("2024-01-10T03:32:00Z ES")
    assert found["unknown"][0].startswith("2024-01-10T03:30:00Z ES")
    assert "volume" in found["unlike"][0]
    assert found["by_minutes"] == []


def test_a_price_that_would_have_decided_otherwise_is_a_finding(journal, world, tmp_path):
    with SqliteJournal(journal, read_only=True) as held:
        entries = [each.arrays["decisions"] for each in held.entries()]
    decided = np.concatenate(entries)
    first = decided[(decided["symbol"] == 0) & (decided["reason"] == 0)][0]
    last_minute = datetime.fromtimestamp(int(first["time_ns"]) // 10**9 - 60, UTC)

    def edit(table):
        at = pl.col("ts_event") == last_minute
        return table.with_columns(
            pl.when(at).then(pl.col("high")).otherwise(pl.col("close")).alias("close"),
            pl.when(at).then(pl.col("high") + 50).otherwise(pl.col("high")).alias("high"),
        ).with_columns(pl.when(at).then(pl.col("high")).otherwise(pl.col("close")).alias("close"))

    found, result = against(journal, with_bars(world, tmp_path, edit))
    refused(result, 1, "would have decided otherwise")
    assert any("entry" in line for line in found["by_minutes"])
    assert len(found["unlike"]) == 1


def test_what_only_live_knew_is_told_apart_from_what_it_saw(world):
    minutes = [each for each in minutes_of(world.held) if each.root in world.roots]
    end_ns = minutes[-1].ts_ns + 60 * 10**9
    middle = minutes[len(minutes) // 2].ts_ns
    told = np.array(
        [
            (middle, 1, FIRST_BLOCK + 1, -1, NEVER),
            (middle + 20 * 3600 * 10**9, 1, FIRST_BLOCK + 1, -1, 0),
        ],
        INPUT,
    )
    decisions = world.engine().advance(minutes, end_ns, told).decisions
    lived = Lived(world.start_ns, end_ns, minutes, told, decisions, np.zeros(0, TRADE), {})
    found = against_history(lived, minutes, world.engine)
    assert found.by_minutes == []
    assert found.by_knowledge
    assert any("blocked:stale -> taken" in line for line in found.by_knowledge)


def test_without_history_or_a_key_the_variable_is_named(journal, monkeypatch):
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    refused(ibs("parity", "--journal", journal, "--against", "history"), 3, "DATABENTO_API_KEY")


@real
def test_a_real_week_with_a_roll_is_the_back_test(tmp_path):
    path = SHARED / "1m" / "ES_1m_2024-12_2025-12.parquet"
    instant = pl.col("ts_event")
    first, last = (datetime(2025, 9, day, tzinfo=UTC) for day in (11, 18))
    bars = tmp_path / "ES.parquet"
    pl.read_parquet(path).filter((instant >= first) & (instant < last)).write_parquet(bars)
    journal = tmp_path / "live.sqlite"
    words = ("run-live", "--replay", bars, "--speed", "max", "--journal", journal)
    facts = document(*words)
    assert len(facts["trades"]) > 3
    assert {each["instrument"] for each in facts["trades"]} == {"ESU2025", "ESZ2025"}
    found = document("parity", "--journal", journal, "--against", "history", "--history", bars)
    assert found["differences"] == []
    assert found["compared"]["minutes"] == found["history"]["n_same"] > 6000
    assert found["back_test"]["compared"] > 10
