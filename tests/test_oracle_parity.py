"""The engine against the oracle: the same trades, prices, dollars and decisions, to the minute."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from parity import both, differences
from real_data import SHARED, real

from ibs_core.research.sample_data import write_sample

FIVE_MINUTES = 300 * 10**9


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Five months over both daylight-saving changes and two rolls, three session groups."""
    folder = tmp_path_factory.mktemp("sample")
    return write_sample(
        folder,
        roots=["ES", "CL", "ZC"],
        start=date(2024, 10, 21),
        end=date(2025, 3, 21),
        seed=11,
    )


def paths_of(sample, *roots):
    return [path for path in sample if path.stem in roots]


def agree(paths, tmp_path, config="", **options):
    engine, oracle = both(paths, tmp_path, config, **options)
    assert differences(engine, oracle) == []
    for root, counts in engine.stats["blocked"].items():
        for gate, count in counts.items():
            assert oracle.blocked[root].get(gate) == count, (root, gate)
    return engine


def reasons(engine):
    return set(engine.trades["exit_reason"])


def test_default_rule_on_generated_bars_over_both_clock_changes(sample, tmp_path):
    engine = agree(paths_of(sample, "ES", "CL"), tmp_path)
    assert {"stop", "target", "ibs", "bars", "flat_by"} <= reasons(engine)
    months = set(engine.trades["entry_time"].dt.month())
    assert {11, 3} <= months
    assert engine.trades["instrument"].n_unique() > 5


def test_a_held_position_leaves_before_a_roll(sample, tmp_path):
    config = """
    strategy:
      signal_bar: 4h
      entry: {windows: [], pivots: none, ibs: [0.0, 0.6]}
      exits: {stop: null, target: null, ibs: null, bars: null}
    """
    engine = agree(paths_of(sample, "ES", "CL"), tmp_path, config)
    assert "roll" in reasons(engine)


def test_protective_orders_rest_inside_bars(sample, tmp_path):
    config = """
    strategy:
      entry: {windows: [], ibs: [0.0, 0.4], pivots: higher_high}
      exits:
        flat_by: null
        protective: {stop: {percent: 0.3}, target: {atr: 1.0}}
    costs: {commission_per_side: 2.1, slippage_ticks: 1.5}
    symbols:
      ES: {execute: MES, quantity: 3}
      CL: {strategy: {entry: {pivots: none}, exits: {protective: {stop: {atr: 0.7}}}}}
    """
    engine = agree(paths_of(sample, "ES", "CL"), tmp_path, config)
    assert {"protective_stop", "protective_target"} <= reasons(engine)


def test_limits_over_three_symbols_of_different_sessions_and_bars(sample, tmp_path):
    config = """
    strategy: {entry: {windows: [], ibs: [0.0, 0.5], pivots: none}}
    risk: {max_positions: 2, daily_loss_usd: 900, max_orders_per_minute: 1, no_entry_before_close: 75m}
    symbols:
      ES: {}
      CL: {strategy: {signal_bar: 15m, cooldown_bars: 2}}
      ZC: {quantity: 2, strategy: {exits: {flat_by: "12:00"}}}
    """
    engine = agree(sample, tmp_path, config)
    assert "portfolio" in reasons(engine)
    blocked = set(engine.decisions.filter(action="entry")["reason"])
    assert {
        "blocked:max_positions",
        "blocked:daily_loss",
        "blocked:no_entry_before_close",
        "blocked:max_orders_per_minute",
        "blocked:cooldown",
        "taken",
    } <= blocked


def test_limits_on_contracts_over_three_symbols(sample, tmp_path):
    config = """
    strategy: {entry: {windows: [], ibs: [0.0, 0.5], pivots: none}}
    risk: {max_positions: 2, max_quantity: 3, max_total_quantity: 4}
    symbols:
      ES: {execute: MES, quantity: 3}
      CL: {quantity: 2}
      ZC: {quantity: 4, strategy: {exits: {flat_by: "12:00"}}}
    """
    engine = agree(sample, tmp_path, config, end=date(2024, 11, 29))
    found = (
        engine.decisions.filter(action="entry").group_by("symbol").agg(pl.col("reason").unique())
    )
    reasons_of = {row["symbol"]: set(row["reason"]) for row in found.to_dicts()}
    assert "taken" in reasons_of["ES"] & reasons_of["CL"]
    assert "blocked:max_total_quantity" in reasons_of["ES"] & reasons_of["CL"]
    assert "blocked:max_quantity" in reasons_of["ZC"]
    assert "taken" not in reasons_of["ZC"]


def test_filters_and_atr_distances(sample, tmp_path):
    config = """
    strategy:
      entry: {pivots: none}
      filters:
        bar_rsi5: [0, 45]
        day_rsi2: [5, 95]
        cal_dow: {in: [1, 2, 3, 4]}
        bar_ema20_above: {in: [0]}
        bar_zone_dist_atr: [0, 4]
        day_range_atr: [0.3, 3]
        bar_ret1_pct: [-1, 1]
        bar_ibs_prev: [0, 0.9]
      exits: {stop: {atr: 1.5}, target: {atr: 1.0}}
    """
    assert agree(paths_of(sample, "CL"), tmp_path, config).trades.height > 50


@pytest.mark.parametrize("signal_bar", ["5m", "30m", "1d"])
def test_other_signal_bars(sample, tmp_path, signal_bar):
    config = f"""
    strategy:
      signal_bar: {signal_bar}
      entry: {{windows: [], pivots: none, ibs: [0.0, 0.3], max_wait: 2m}}
    """
    end = date(2024, 11, 29) if signal_bar == "5m" else None
    engine = agree(paths_of(sample, "ES"), tmp_path, config, start=date(2024, 10, 28), end=end)
    assert engine.trades.height > 5


def test_a_roll_in_the_middle_of_a_session(sample, tmp_path):
    """Vendors' continuous files switch at midnight UTC, inside the session: the bars are cut there."""
    bars = pl.read_parquet(paths_of(sample, "ES")[0])
    seam = bars.filter(pl.col("symbol") == "ESH25")["ts_event"][0]
    old_last = bars.filter(pl.col("symbol") == "ESZ24")["ts_event"][-1]
    assert seam > old_last
    moved = bars.with_columns(
        symbol=pl.when(pl.col("ts_event") < seam + pl.duration(hours=3, minutes=25))
        .then(pl.col("symbol").replace("ESH25", "ESZ24"))
        .otherwise("symbol")
    )
    path = tmp_path / "ES.parquet"
    moved.write_parquet(path)
    config = """
    strategy:
      entry: {windows: [], pivots: none, ibs: [0.0, 0.8]}
      exits: {stop: null, target: null, ibs: null, bars: 30, flat_by: null}
    """
    assert "roll" in reasons(agree([path], tmp_path, config))


@real
@pytest.mark.parametrize("root", ["ES", "CL"])
def test_default_rule_on_a_year_of_real_minutes(root, tmp_path):
    engine = agree(sorted(SHARED.glob(f"1m/{root}_*.parquet")), tmp_path)
    assert engine.trades.height > 400


@real
def test_limits_and_protection_on_real_minutes(tmp_path):
    config = """
    strategy:
      entry: {windows: []}
      exits:
        stop: {atr: 1.5}
        target: {atr: 2}
        flat_by: null
        protective: {stop: {percent: 0.4}, target: {percent: 0.5}}
    symbols: {ES: {execute: MES, quantity: 3}, CL: {strategy: {signal_bar: 4h}}}
    risk: {daily_loss_usd: 800}
    """
    paths = sorted([*SHARED.glob("1m/ES_*"), *SHARED.glob("1m/CL_*")])
    engine = agree(paths, tmp_path, config)
    assert {"protective_stop", "protective_target", "portfolio"} <= reasons(engine)


@real
def test_nine_roots_of_five_minute_bars(tmp_path):
    engine = agree(sorted(SHARED.glob("5m/*.parquet")), tmp_path, base_ns=FIVE_MINUTES)
    assert engine.trades["symbol"].n_unique() == 9
    assert "roll" in reasons(engine)
