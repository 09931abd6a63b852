"""A seeded, plausible run without an engine, for the tests of the report."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from ibs_core.report.equity import MARKS, OpenPosition, PointCosts, equity_curve
from ibs_core.report.forward_returns import OBSERVED, forward_returns
from ibs_core.report.intrabar import session_lows
from ibs_core.report.metrics import SymbolFacts, compute
from ibs_core.report.run import BARS, DECISIONS, EXIT_REASONS, TRADES, Run
from ibs_core.report.trade_facts import with_facts
from ibs_core.sessions import load_sessions

HOUR_NS = 3_600_000_000_000
CAPITAL = 100_000.0
CONTRACTS = {
    "ES": PointCosts(50.0, 1.25, 6.25),
    "NQ": PointCosts(20.0, 1.25, 2.5),
    "GC": PointCosts(100.0, 1.25, 5.0),
    "CL": PointCosts(1000.0, 1.25, 5.0),
}
TICK_VALUES = {"ES": 12.5, "NQ": 5.0, "GC": 10.0, "CL": 10.0}
YEARS_NS = [int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9 for year in (2020, 2035)]
FACTS = {
    symbol: SymbolFacts(tick, CONTRACTS[symbol].point_value_usd, load_sessions(group, *YEARS_NS))
    for (symbol, tick), group in zip(
        TICK_VALUES.items(), ("equity", "equity", "metals", "energy"), strict=True
    )
}
FIRST_PRICE = {"ES": 4000.0, "NQ": 14000.0, "GC": 1900.0, "CL": 75.0}
TICK = {"ES": 0.25, "NQ": 0.25, "GC": 0.1, "CL": 0.01}
META = {
    "created_utc": "2025-03-01T14:30:00Z",
    "command": "ibs backtest --parquet bars.parquet",
    "versions": {"ibs": "0.1.0", "polars": "2.1.0"},
    "data_digest": "d" * 64,
    "contract_map_digest": "c" * 64,
    "generated_data": True,
    "config_hash": "a" * 64,
    "warnings": ["3 minutes outside the calendar were kept"],
}


def trade_frame(rows):
    """A trade table from dictionaries; what a row leaves out has a plain default."""
    plain = {
        "symbol": "ES", "instrument": "ESH2025", "side": "long", "quantity": 1,
        "entry_price": 100.0, "exit_price": 100.0, "exit_reason": "ibs", "gross_usd": 0.0,
        "commission_usd": 0.0, "slippage_usd": 0.0, "net_usd": 0.0, "bars_held": 1,
        "mae_usd": 0.0, "mfe_usd": 0.0, "ibs_entry": 0.1, "ibs_exit": 0.9, "score": None,
    }  # fmt: skip
    return pl.DataFrame([plain | row for row in rows], schema=TRADES)


def instant(ns):
    return np.datetime64(int(ns), "ns").astype("datetime64[us]").item().replace(tzinfo=UTC)


def bar_frame(symbol, n_bars, rng):
    """Hourly bars, 23 a day, on five days a week."""
    day, hour = np.divmod(np.arange(n_bars), 23)
    days = (day // 5) * 7 + day % 5
    base = int(datetime(2021, 1, 4, tzinfo=UTC).timestamp()) * 1_000_000_000
    start = base + (days * 24 + hour) * HOUR_NS
    scale = FIRST_PRICE[symbol] * 0.0025
    close = FIRST_PRICE[symbol] + np.cumsum(rng.normal(scale * 0.01, scale, n_bars))
    close = np.maximum(close, FIRST_PRICE[symbol] * 0.3)
    close = np.round(close / TICK[symbol]) * TICK[symbol]
    opened = np.concatenate([close[:1], close[:-1]])
    spread = np.abs(rng.normal(0, scale, (2, n_bars)))
    return pl.DataFrame(
        {
            "start": start,
            "end": start + HOUR_NS,
            "open": opened,
            "high": np.maximum(opened, close) + spread[0],
            "low": np.minimum(opened, close) - spread[1],
            "close": close,
            "merged": pl.Series([1] * n_bars, dtype=pl.Int64),
        }
    ).select(
        pl.col(name).cast(pl.Int64).cast(dtype) if name in ("start", "end") else name
        for name, dtype in BARS.items()
    )


def trade_rows(symbol, bars, n_trades, rng):
    n_bars, costs = bars.height, CONTRACTS[symbol]
    if not n_trades:
        return []
    low, high, close = (bars[name].to_numpy() for name in ("low", "high", "close"))
    starts = bars["start"].dt.epoch("ns").to_numpy()
    entries = np.sort(rng.choice(np.arange(2, n_bars - 12), n_trades, replace=False))
    rows = []
    for entry in entries:
        held = int(rng.integers(1, 9))
        leave = entry + held
        won = rng.random() < 0.15  # sometimes the low of a few bars: a mild edge
        buy = close[max(0, entry - 3) : entry + 1].min() if won else close[entry]
        gross = (close[leave] - buy) * costs.point_value_usd
        rows.append(
            {
                "symbol": symbol,
                "instrument": f"{symbol}H2025",
                "entry_time": instant(starts[entry]),
                "entry_price": buy,
                "exit_time": instant(starts[leave]),
                "exit_price": close[leave],
                "exit_reason": EXIT_REASONS[
                    rng.choice(7, p=[0.1, 0.1, 0.45, 0.2, 0.1, 0.04, 0.01])
                ],
                "gross_usd": gross,
                "commission_usd": 2 * costs.commission_per_side_usd,
                "slippage_usd": 2 * costs.slippage_per_fill_usd,
                "net_usd": gross - costs.round_trip_usd,
                "bars_held": held,
                "mae_usd": min(0.0, (low[entry:leave].min() - buy) * costs.point_value_usd),
                "mfe_usd": max(0.0, (high[entry:leave].max() - buy) * costs.point_value_usd),
                "ibs_entry": rng.uniform(0, 0.2),
                "ibs_exit": rng.uniform(0.5, 1),
                "score": rng.uniform(0.4, 0.8),
            }
        )
    return rows


def mark_frame(bars_of):
    frames = [
        bars.group_by(session_date=pl.col("start").dt.date(), maintain_order=True)
        .agg(close_ns=pl.col("end").last().dt.epoch("ns"), mark=pl.col("close").last())
        .select(pl.lit(symbol).alias("symbol"), "session_date", "close_ns", "mark")
        for symbol, bars in bars_of.items()
    ]
    return pl.concat([pl.DataFrame(schema=MARKS), *frames])


def followed(bars):
    """What came after bars of one contract, to the next bar only."""
    close, high, low = (pl.col(name) for name in ("close", "high", "low"))
    after = (close.shift(-1) / close - 1) * 1e4
    day = pl.col("start").dt.date().cast(pl.Int32).cast(pl.Int64)
    ibs = (close - low) / (high - low)
    return bars.select(day=day, ibs=ibs, bar_bp=after, session_bp=2 * after).cast(dict(OBSERVED))


def sample_run(n_trades=300, n_bars=6_000, symbols=("ES", "NQ", "GC"), seed=7, **meta):
    """A run of `n_trades` in total over `n_bars` in total."""
    rng = np.random.default_rng(seed)
    bars_of = {s: bar_frame(s, n_bars // len(symbols), rng) for s in symbols}
    rows = [r for s, b in bars_of.items() for r in trade_rows(s, b, n_trades // len(symbols), rng)]
    trades = trade_frame(rows).sort("exit_time", "symbol")
    contracts = {symbol: CONTRACTS[symbol] for symbol in symbols}
    still_open = []
    if n_trades:
        last = bars_of[symbols[0]].tail(3).row(0, named=True)
        entry_ns = int(last["start"].timestamp()) * 1_000_000_000
        still_open = [OpenPosition(symbols[0], symbols[0] + "H2025", 1, entry_ns, last["close"])]
    equity = equity_curve(
        trades, mark_frame(bars_of), still_open, capital=CAPITAL, contracts=contracts
    )
    stats = compute(trades, equity, capital=CAPITAL, symbols=FACTS)
    stats["blocked"] = {
        s: {"window": 812, "ibs": 14_233, "pivots": 671, "warm_up": 12} for s in symbols
    }
    stats["open_positions"] = []
    stats["forward_returns"] = forward_returns({s: followed(b) for s, b in bars_of.items()})
    lows = session_lows(with_facts(trades, FACTS), equity, capital=CAPITAL)
    return Run(
        meta={**META, **meta},
        config_yaml="strategy:\n  signal_bar: 1h\ncapital: 100000\n",
        stats=stats,
        trades=trades,
        decisions=pl.DataFrame(schema=DECISIONS),
        equity=equity,
        bars=bars_of,
        lows=lows,
    )


def dates(first, n_days):
    return [date.fromisoformat(first) + timedelta(days=i) for i in range(n_days)]
