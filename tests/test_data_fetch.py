"""`ibs data fetch`: what it costs, who is asked, what is left behind."""

from __future__ import annotations

import json
import sys

import polars as pl
import pytest
from dbn_vendor import rolling_vendor

from ibs_core.cli import data_fetch
from ibs_core.cli.main import run

SPAN = ("--symbols", "ES", "--start", "2025-11-20", "--end", "2025-12-19")


@pytest.fixture
def vendor(monkeypatch):
    made = rolling_vendor()
    monkeypatch.setattr(data_fetch, "_vendor", lambda: made)
    return made


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run_words(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", *words])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_words


def fetch(call, *more):
    return call("data", "fetch", *SPAN, "--out", "bars", *more)


def test_nothing_is_paid_without_a_yes(call, vendor, tmp_path):
    code, _, err = fetch(call)
    assert code == 2
    assert "USD" in err
    assert "--yes" in err
    assert vendor.fetched == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "code", "n"), [("n\n", 130, 0), ("y\n", 0, 2)])
def test_on_a_terminal_one_is_asked(call, vendor, monkeypatch, answer, code, n):
    monkeypatch.setattr(data_fetch.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: answer.strip())
    assert fetch(call)[0] == code
    assert len(vendor.fetched) == n


def test_what_was_fetched_can_be_tested_and_is_paid_for_once(call, vendor, tmp_path):
    code, out, err = fetch(call, "--yes", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["requests"] == facts["requests_missing"] == 2
    assert facts["cost_usd"] == round(facts["records"] / 1000, 4)
    table = pl.read_parquet(tmp_path / "bars" / "ES.parquet")
    assert table.schema == {
        "ts_event": pl.Datetime("ns", "UTC"),
        "symbol": pl.String,
        **dict.fromkeys(("open", "high", "low", "close"), pl.Float64),
        "volume": pl.Int64,
    }
    by_contract = table.group_by("symbol").agg(pl.col("ts_event").min()).sort("ts_event")
    assert by_contract["symbol"].to_list() == ["ESZ2025", "ESH2026"]
    assert str(by_contract["ts_event"][0]).startswith("2025-11-20")
    assert str(by_contract["ts_event"][1]).startswith("2025-12-16")
    code, out, _ = fetch(call, "--json")  # all is there: nobody need be asked
    assert code == 0
    assert json.loads(out)["requests_missing"] == 0
    assert json.loads(out)["cost_usd"] == 0
    assert len(vendor.fetched) == 2
    code, _, err = call("backtest", "--parquet", "bars", "--no-report", "--quiet")
    assert code == 0, err


def test_ctrl_c_keeps_what_is_complete(call, vendor, tmp_path):
    vendor.fails_after = 1
    code, _, _ = fetch(call, "--yes", "--quiet")
    assert code == 130
    assert len(list((tmp_path / "bars-dbn").iterdir())) == 1
    vendor.fails_after = None
    assert fetch(call, "--yes", "--quiet")[0] == 0
    assert len(vendor.fetched) == 2


def test_without_a_key_the_variable_is_named(call, monkeypatch):
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    code, _, err = fetch(call, "--yes")
    assert code == 3
    assert "DATABENTO_API_KEY" in err


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (("--raw", "bars/raw"), 2, "read as bars"),
        (("--start", "2025-13-01"), 2, "--start"),
        (("--symbols", "EZ"), 2, "--symbols"),
        (("--start", "2026-02-02", "--end", "2026-02-03"), 1, "nothing to fetch"),
    ],
)
def test_mistakes_are_told(call, vendor, more, code, told):
    found, _, err = fetch(call, "--yes", *more)
    assert found == code
    assert told in err
    assert vendor.fetched == []


def test_a_missing_extra_is_told(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "adapters.databento_history", None)
    code, _, err = fetch(call, "--yes")
    assert code == 3
    assert "ibs[live]" in err


def test_a_full_disk_is_told(call, vendor, monkeypatch, tmp_path):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vendor, "fetch", full)
    code, _, err = fetch(call, "--yes")
    assert code == 3
    assert "No space left" in err
    assert list((tmp_path / "bars-dbn").iterdir()) == []
