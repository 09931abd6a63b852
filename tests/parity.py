"""The engine and the oracle on the same bars: what both say, side by side."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
from naive import Session
from oracle import run

from ibs_core.config import Settings, load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.sessions import load_sessions

CONTRACTS = load_contract_map()
DAY_NS = 86_400 * 10**9

TRADE_KEYS = (
    "symbol",
    "instrument",
    "side",
    "quantity",
    "entry_time",
    "entry_price",
    "exit_time",
    "exit_price",
    "exit_reason",
    "bars_held",
)
TRADE_NUMBERS = (
    "gross_usd",
    "commission_usd",
    "slippage_usd",
    "net_usd",
    "mae_usd",
    "mfe_usd",
    "ibs_entry",
    "ibs_exit",
)


def minutes_of(paths):
    """Read clean bars as the oracle takes them."""
    frame = pl.concat(
        pl.read_parquet(path).select(
            pl.col("ts_event").dt.epoch("ns").alias("ts"), "symbol", "open", "high", "low", "close"
        )
        for path in paths
    )
    frame = frame.with_columns(root=pl.col("symbol").str.replace(r"[FGHJKMNQUVXZ]\d{1,4}$", ""))
    out = {}
    for (root,), part in frame.sort("ts").partition_by("root", as_dict=True).items():
        codes = {
            code: f"{code[:-2]}20{code[-2:]}" if code != root else None
            for code in part["symbol"].unique()
        }
        out[root] = [
            (ts, codes[code], *prices)
            for ts, code, *prices in part.select(
                "ts", "symbol", "open", "high", "low", "close"
            ).iter_rows()
        ]
    return out


def sessions_of(root, minutes):
    """List the root's sessions around its minutes as the oracle takes them."""
    table = load_sessions(
        CONTRACTS.get(root).session, minutes[0][0] - 9 * DAY_NS, minutes[-1][0] + 9 * DAY_NS
    )
    return [
        Session(
            int(table.open_ns[i]),
            int(table.close_ns[i]),
            int(table.break_start_ns[i]),
            int(table.break_end_ns[i]),
            bool(table.early[i]),
            date(1970, 1, 1) + timedelta(days=int(table.trade_date[i])),
        )
        for i in range(len(table.open_ns))
    ]


def plain_config(settings: Settings, roots, start=None, end=None):
    """Write settings as the complete nested dictionary that the oracle takes."""
    tree = settings.model_dump(mode="json", by_alias=True)
    tree["symbols"] = {}
    for root in roots:
        own = settings.symbols.get(root)
        tree["symbols"][root] = {
            "quantity": own.quantity if own else 1,
            "execute": (own.execute if own else None) or root,
            "strategy": settings.strategy_of(root).model_dump(mode="json", by_alias=True),
        }
    tree["start"], tree["end"] = start, end
    return tree


def both(paths, tmp_path, config="", *, start=None, end=None, base_ns=60 * 10**9):
    """Run engine and oracle over files; return (engine outcome, oracle result)."""
    file = tmp_path / "config.yml"
    file.write_text(config)
    settings = load_settings([file])
    engine = run_backtest(open_bars(paths, CONTRACTS), settings, CONTRACTS, start=start, end=end)
    minutes = minutes_of(paths)
    if settings.symbols:
        minutes = {root: minutes[root] for root in settings.symbols}
    facts = {
        root: {
            "tick_size": f"{contract.tick_nano}e-9",
            "tick_value_usd": contract.tick_value_usd,
            "order": CONTRACTS.order(root),
        }
        for root, contract in CONTRACTS.contracts.items()
    }
    sessions = {root: sessions_of(root, rows) for root, rows in minutes.items()}
    config_tree = plain_config(settings, minutes, start, end)
    return engine, run(minutes, config_tree, facts, sessions, base_ns)


def differences(engine, oracle):
    """Name the first differences of trades and decisions; empty when both agree."""
    out = []
    mine = [
        {
            **row,
            "entry_time": int(entry),
            "exit_time": int(left),
        }
        for row, entry, left in zip(
            engine.trades.drop("score", "entry_time", "exit_time").to_dicts(),
            engine.trades["entry_time"].dt.epoch("ns"),
            engine.trades["exit_time"].dt.epoch("ns"),
            strict=True,
        )
    ]
    if len(mine) != len(oracle.trades):
        out.append(f"{len(mine)} trades, the oracle has {len(oracle.trades)}")
    for i, (a, b) in enumerate(zip(mine, oracle.trades, strict=False)):
        wrong = [key for key in TRADE_KEYS if a[key] != b[key]]
        for key in TRADE_NUMBERS:
            x, y = a[key], b[key]
            if (x is None) != (y is None) or (x is not None and abs(x - y) > 1e-6):
                wrong.append(key)
        if wrong:
            out.append(f"trade {i}: {wrong}: {a} against {b}")
            break
    made = decisions_of(engine)
    said = sorted((t, s, a, r) for t, s, a, r in oracle.decisions if a == "exit" or r == "taken")
    if made != said:
        only = [row for row in made if row not in set(said)][:2]
        other = [row for row in said if row not in set(made)][:2]
        out.append(f"decisions: engine only {only}, oracle only {other}")
    return out


def decisions_of(engine):
    """List the engine's exits and taken entries."""
    rows = zip(
        engine.decisions["time"].dt.epoch("ns"),
        engine.decisions["symbol"],
        engine.decisions["action"],
        engine.decisions["reason"],
        strict=True,
    )
    return sorted(row for row in rows if row[2] == "exit" or row[3] == "taken")
