"""What `make bench-peers` compares, without any peer."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
from ibs_core.research.sample_data import write_sample

PEERS = Path(__file__).parents[1] / "bench" / "peers"
HOUR_NS = 3_600_000_000_000


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    import compare
    import hours
    import rule

    yield compare, hours, rule
    for name in ("compare", "hours", "rule"):
        del sys.modules[name]


@pytest.fixture
def trades():
    """Four trades of one symbol, two hours long each, every four hours."""
    return pl.DataFrame(
        {
            "symbol": ["ES"] * 4,
            "entry_ns": [4 * i * HOUR_NS for i in range(4)],
            "entry_price": [100.0, 101.0, 102.0, 103.0],
            "exit_ns": [(4 * i + 2) * HOUR_NS for i in range(4)],
            "exit_price": [101.0, 102.0, 103.0, 104.0],
            "side": ["long"] * 4,
            "reason": ["ibs"] * 4,
            "net_usd": [35.0] * 4,
        }
    )


def changed(trades, i, **fields):
    """The same trades, trade i with other fields."""
    rows = trades.to_dicts()
    rows[i] |= fields
    return pl.DataFrame(rows, schema=trades.schema)


def kinds(peers, ours, theirs):
    return peers[0].differences(ours, theirs).select("entry_ns", "kind", "follows").rows()


def test_the_same_trades_are_the_same_whatever_their_order(peers, trades):
    theirs = trades.reverse().with_columns(pl.col("net_usd") + 1e-9, reason=pl.lit(None, pl.String))
    assert peers[0].verdict(trades, theirs) == ["the same 4 trades"]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"entry_price": 101.25}, "another entry price"),
        ({"exit_ns": 7 * HOUR_NS}, "another exit time"),
        ({"exit_price": 102.25}, "another exit price"),
        ({"reason": "stop"}, "another reason"),
        ({"net_usd": 34.99}, "another result"),
    ],
)
def test_a_changed_trade_is_found_and_named(peers, trades, fields, kind):
    assert kinds(peers, trades, changed(trades, 1, **fields)) == [(4 * HOUR_NS, kind, False)]


def test_a_shifted_entry_is_a_trade_missing_on_both_sides(peers, trades):
    theirs = changed(trades, 2, entry_ns=9 * HOUR_NS)
    assert kinds(peers, trades, theirs) == [
        (8 * HOUR_NS, "ours alone", False),
        (9 * HOUR_NS, "theirs alone", True),
    ]
    told = peers[0].verdict(trades, theirs)
    assert told[0].startswith("4 trades against 4: 1 ours alone")
    assert told[1] == "ES entered 1970-01-01 08:00:00: ours alone"


def test_a_missing_and_an_extra_trade_are_found(peers, trades):
    less = trades.filter(pl.col("entry_ns") != 4 * HOUR_NS)
    assert kinds(peers, trades, less) == [(4 * HOUR_NS, "ours alone", False)]
    assert kinds(peers, less, trades) == [(4 * HOUR_NS, "theirs alone", False)]


def test_no_trades_at_all_is_a_difference(peers, trades):
    assert len(kinds(peers, trades, trades.clear())) == 4


def test_the_rule_in_plain_python_makes_our_trades(peers, tmp_path):
    """Over two rolls, an early close and a clock change; entries and exits fill at the next hour's first minute."""
    _, hours, rule = peers
    write_sample(tmp_path, roots=["ES"], start=date(2024, 10, 21), end=date(2025, 1, 10), seed=3)
    frame = hours.with_signals(hours.read_hours(tmp_path / "ES.parquet"))
    low, fill, wants, found = rule.Low(), None, None, []
    for bar in frame.iter_rows(named=True):
        if wants == "enter":
            fill = bar["open"], bar["first"]
        elif wants:
            found.append((*fill, bar["open"], bar["first"], wants))
            fill = None
        end = bar["start"] + timedelta(hours=1)
        prices = bar["high"], bar["low"], bar["close"]
        low.observe(bar["symbol"], bar["open"], bar["close"])
        enters = low.enters(end, *prices) if fill is None else False
        assert fill is not None or enters == bar["enter"]
        wants = low.leaves(fill, end, *prices) if fill else "enter" if enters else None
    contracts, settings = load_contract_map(), load_settings([PEERS / "rule.yml"])
    ours = trade(open_bars([tmp_path / "ES.parquet"], contracts), settings, contracts).trades()
    columns = ["entry_price", "entry_time", "exit_price", "exit_time", "exit_reason"]
    assert found == ours.select(columns).rows()
    assert len(found) > 50
    assert set(ours["exit_reason"]) == set(rule.REASONS)
