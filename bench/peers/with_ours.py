"""This project: one call from Parquet to the trade table."""

from __future__ import annotations

import os
from pathlib import Path

from harness import serve

import ibs_core
from ibs_core.backtest import trade
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars

KEPT = {}
if folder := os.environ.get("IBS_PEERS_KEPT"):
    from ibs_core.bar_cache import Shelf

    KEPT = {"shelf": Shelf(Path(folder), room=4_000_000_000, tell=print)}
SETTINGS = load_settings([Path(__file__).with_name("rule.yml")])
CONTRACTS = load_contract_map()


def once(path, _costs, watch):
    with watch("load, bars and run"):
        return trade(open_bars([path], CONTRACTS), SETTINGS, CONTRACTS, **KEPT).trades()


def rows(trades):
    return zip(
        trades["symbol"],
        trades["entry_time"].to_physical(),
        trades["entry_price"],
        trades["exit_time"].to_physical(),
        trades["exit_price"],
        trades["side"],
        trades["exit_reason"],
        trades["net_usd"],
        strict=True,
    )


serve(once, rows, ibs_core.__version__)
