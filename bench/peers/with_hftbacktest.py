"""hftbacktest on minutes as quotes and trades: its exchange fills at the quotes, half a tick either side of the open.

That half tick is the slippage of the rule, so prices are told without it and money with it.
"""

from __future__ import annotations

from datetime import timedelta

import hftbacktest as hft
import numpy as np
import polars as pl
import rule
from harness import serve
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTC,
    LOCAL_EVENT,
    MARKET,
    SELL_EVENT,
    TRADE_EVENT,
)
from numba import njit

SECOND_NS = 1_000_000_000
MINUTE_NS, HOUR_NS = 60 * SECOND_NS, 3600 * SECOND_NS
BOTH = EXCH_EVENT | LOCAL_EVENT
KINDS = np.array(
    [
        BOTH | DEPTH_EVENT | BUY_EVENT,  # the old quotes go
        BOTH | DEPTH_EVENT | SELL_EVENT,
        BOTH | DEPTH_EVENT | BUY_EVENT,  # the new ones stand around the open
        BOTH | DEPTH_EVENT | SELL_EVENT,
        *[BOTH | TRADE_EVENT | BUY_EVENT] * 4,  # open, high, low, close
    ],
    np.uint64,
)
TRADE = np.dtype(
    [
        ("entry_ns", "i8"),
        ("entry_price", "f8"),
        ("exit_ns", "i8"),
        ("exit_price", "f8"),
        ("reason", "i8"),
        ("net_usd", "f8"),
    ]
)


def events(minutes, half):
    """Return minutes as events: quotes around the open in its first second, then four trades."""
    prices = minutes.select("open", "high", "low", "close").to_numpy()
    start = minutes["ts_event"].to_physical().to_numpy()
    quotes = prices[:, :1] + np.array([-half, half])
    table = np.zeros((len(prices), len(KINDS)), hft.types.event_dtype)
    table["ev"] = KINDS
    table["local_ts"] = start[:, None] + SECOND_NS * np.array([1, 1, 1, 1, 2, 3, 4, 5])
    table["exch_ts"] = table["local_ts"]
    table["px"][1:, :2] = quotes[:-1]
    table["px"][0, :2] = quotes[0]
    table["px"][:, 2:4] = quotes
    table["px"][:, 4:] = prices
    table["qty"][:, 2:] = 1_000
    table["ival"] = minutes["symbol"].rle_id().to_numpy()[:, None]
    return table.reshape(-1)


ibs_of, averaged, is_weak, leaves = map(njit, (rule.ibs, rule.averaged, rule.is_weak, rule.leaves))


@njit
def order(hbt, order_id, is_entry):
    """Send a market order once the market is open again; return its price without the spread, and its minute."""
    hbt.wait_next_feed(
        False, 10 * 24 * HOUR_NS
    )  # a new quote, not one that the close left standing
    if is_entry:
        hbt.submit_buy_order(0, order_id, 0.0, 1.0, GTC, MARKET, True)
    else:
        hbt.submit_sell_order(0, order_id, 0.0, 1.0, GTC, MARKET, True)
    price = hbt.orders(0).get(order_id).exec_price
    hbt.clear_inactive_orders(0)
    minute = hbt.current_timestamp // MINUTE_NS * MINUTE_NS
    half = hbt.depth(0).tick_size
    return round(price - half if is_entry else price + half, rule.DIGITS), minute


@njit
def walk(hbt, end, afternoons, out):
    """Trade hour after hour; return the number of trades."""
    n_trades = n_orders = n_changes = 0
    contract, last = -1, 0.0
    rise = fall = money = 0.0
    held, entry, entered = 0, 0.0, 0
    hbt.elapse(1)
    while True:
        boundary = (hbt.current_timestamp // HOUR_NS + 1) * HOUR_NS
        if boundary > end or hbt.elapse(boundary - hbt.current_timestamp) != 0:
            return n_trades
        trades = hbt.last_trades(0)
        if len(trades) == 0:
            continue
        prices = trades["px"]
        open_, close, now = prices[0], prices[-1], trades[-1]["ival"]
        strength = ibs_of(prices.max(), prices.min(), close)
        hbt.clear_last_trades(0)
        if contract >= 0:
            change = round(close - (last if now == contract else open_), rule.DIGITS)
            rise = averaged(rise, max(change, 0.0), n_changes)
            fall = averaged(fall, max(-change, 0.0), n_changes)
            n_changes += 1
        contract, last = now, close
        flats = np.searchsorted(afternoons, boundary, side="right")
        if held == 0:
            is_late = boundary - afternoons[flats - 1] <= HOUR_NS
            if not is_late and strength <= rule.IBS_ENTRY and is_weak(rise, fall, n_changes):
                n_orders += 1
                entry, entered = order(hbt, n_orders, True)
                held = 1
            continue
        is_past = flats > np.searchsorted(afternoons, entered, side="right")
        why = leaves(entry, close, strength, held, is_past)
        held += 1
        if why >= 0:
            n_orders += 1
            price, minute = order(hbt, n_orders, False)
            state = hbt.state_values(0)
            earned = state.balance - state.fee
            trade = out[n_trades]
            trade["entry_ns"], trade["entry_price"] = entered, entry
            trade["exit_ns"], trade["exit_price"] = minute, price
            trade["reason"], trade["net_usd"] = why, earned - money
            money, held = earned, 0
            n_trades += 1


def afternoons(minutes):
    """Return every Chicago afternoon, 15:00, from the day before the minutes to the day after."""
    first, last = minutes["ts_event"].dt.date().cast(pl.Datetime("ns")).gather([0, -1])
    day = timedelta(days=1)
    days = pl.datetime_range(first - day, last + day, day, time_unit="ns", eager=True)
    local = days.dt.offset_by(f"{rule.FLAT_HOUR}h").dt.replace_time_zone(rule.CHICAGO.key)
    return local.to_physical().to_numpy()


def once(path, costs, watch):
    with watch("load"):
        minutes = pl.read_parquet(path)
        root = minutes["symbol"][0][:-3]
        cost = costs[root]
        half = cost["tick"] / 2
        feed = events(minutes, half)
    with watch("bars and run"):
        asset = (
            hft.BacktestAsset()
            .data(feed)
            .linear_asset(cost["point_value"])
            .constant_order_latency(1_000, 1_000)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_qty_fee_model(cost["commission"], cost["commission"])
            .tick_size(half)
            .lot_size(1.0)
            .last_trades_capacity(240)
        )
        hbt = hft.HashMapMarketDepthBacktest([asset])
        out = np.zeros(minutes.height // 120, TRADE)
        end = int(feed["exch_ts"][-1]) + HOUR_NS
        found = out[: walk(hbt, end, afternoons(minutes), out)]
        hbt.close()
    return root, found


def rows(result):
    root, trades = result
    for entered, price, left, out, reason, net in trades.tolist():
        yield root, entered, price, left, out, "long", rule.REASONS[reason], net


serve(once, rows, hft.__version__)
