"""Trades from bars and bars from trades, so that a tape of either serves both schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from adapters.databento_gateway.records import BAR_RECORD, TRADE_RECORD, Stream
from ibs_core.bars import MINUTE_NS

if TYPE_CHECKING:
    from ibs_core.bars import Ints, Records

__all__ = ["bar_stream", "bars_of", "trade_stream", "trades_of"]

# The open is received just after the minute began but was matched before it: whoever buckets trades
# on ts_event instead of ts_recv puts it into the wrong bar, here as at the vendor.
_RECEIVED_NS: Final = np.array([100_000, 15 * 10**9, 30 * 10**9, 45 * 10**9], np.int64)
_LATENCY_NS: Final = 300_000
_UNDEF_PRICE: Final = 2**63 - 1


def bar_stream(bars: Records) -> Stream:
    """Put bars into the order of the wire.

    Parameters
    ----------
    bars : (n,) BAR_RECORD
        Bars of one minute stay in their order.

    Returns
    -------
    Stream
    """
    known = bars["ts_event"].astype(np.int64) + MINUTE_NS
    return _ordered(bars, known)


def trade_stream(trades: Records) -> Stream:
    """Put trades into the order of the wire.

    Parameters
    ----------
    trades : (n,) TRADE_RECORD

    Returns
    -------
    Stream
    """
    return _ordered(trades, trades["ts_recv"].astype(np.int64))


def trades_of(bars: Records) -> Records:
    """Make up the trades of each bar: at most four, which give back exactly its prices and volume.

    Open, the extremes (the high first when the bar falls) and close, without repetition where one is
    enough. The last trade bears the rest of the volume. Of a bar whose volume is unknown, each trade
    has size 1.

    Parameters
    ----------
    bars : (n,) BAR_RECORD

    Returns
    -------
    (m,) TRADE_RECORD
        In the order of ``ts_recv``.
    """
    opening, closing = bars["open"], bars["close"]
    falls = closing < opening
    extremes = (
        np.where(falls, bars["high"], bars["low"]),
        np.where(falls, bars["low"], bars["high"]),
    )
    needed = [(extreme != opening) & (extreme != closing) for extreme in extremes]
    closes = (closing != opening) | needed[0] | needed[1]
    kept = np.column_stack([np.ones(len(bars), bool), *needed, closes])
    size = kept.astype(np.uint64)
    others = size.sum(axis=1) - 1
    rest = np.where(bars["volume"] > others, bars["volume"] - others, 1)
    size[np.arange(len(bars)), np.where(closes, 3, 0)] = np.minimum(rest, 2**32 - 1)
    # A microsecond apart, so that instruments alternate in one order only.
    place = np.unique(bars["instrument_id"], return_inverse=True)[1] * 1000
    received = bars["ts_event"].astype(np.int64)[:, None] + _RECEIVED_NS + place[:, None]
    trades = np.zeros(int(kept.sum()), TRADE_RECORD)
    trades["length"] = TRADE_RECORD.itemsize // 4
    trades["publisher_id"] = np.repeat(bars["publisher_id"], kept.sum(axis=1))
    trades["instrument_id"] = np.repeat(bars["instrument_id"], kept.sum(axis=1))
    trades["ts_recv"] = received[kept]
    trades["ts_event"] = trades["ts_recv"] - np.uint64(_LATENCY_NS)
    trades["price"] = np.column_stack([opening, *extremes, closing])[kept]
    trades["size"] = size[kept]
    trades["action"] = b"T"
    sides = np.array([b"N", b"B", b"A", b"B"])  # an opening print has no aggressor
    trades["side"] = np.broadcast_to(sides, kept.shape)[kept]
    trades["ts_in_delta"] = 15_000
    ordered = trade_stream(trades).records
    ordered["sequence"] = np.arange(1, len(ordered) + 1)
    return ordered


def bars_of(trades: Records) -> Records:
    """Return the minute bars of trades, bucketed on ``ts_recv`` as the vendor does.

    Parameters
    ----------
    trades : (n,) TRADE_RECORD
        In the order of ``ts_recv``.

    Returns
    -------
    (m,) BAR_RECORD
        In the order of minutes, then of instrument ids.
    """
    real = (trades["size"] > 0) & (trades["price"] != _UNDEF_PRICE) & (trades["action"] == b"T")
    trades = trades[real]
    minute = trades["ts_recv"] // np.uint64(MINUTE_NS)
    trades = trades[np.lexsort((trades["instrument_id"], minute))]  # stable within a bar
    minute = trades["ts_recv"] // np.uint64(MINUTE_NS)
    new = np.ones(len(trades), bool)
    new[1:] = (np.diff(minute) != 0) | (np.diff(trades["instrument_id"]) != 0)
    starts = np.flatnonzero(new)
    bars = np.zeros(len(starts), BAR_RECORD)
    if len(starts) == 0:
        return bars
    bars["length"], bars["rtype"] = BAR_RECORD.itemsize // 4, 33
    for name in ("publisher_id", "instrument_id"):
        bars[name] = trades[name][starts]
    bars["ts_event"] = minute[starts] * np.uint64(MINUTE_NS)
    bars["open"] = trades["price"][starts]
    bars["close"] = trades["price"][np.append(starts[1:], len(trades)) - 1]
    bars["high"] = np.maximum.reduceat(trades["price"], starts)
    bars["low"] = np.minimum.reduceat(trades["price"], starts)
    bars["volume"] = np.add.reduceat(trades["size"].astype(np.uint64), starts)
    return bars


def _ordered(records: Records, known: Ints) -> Stream:
    if np.any(np.diff(known) < 0):
        order = np.argsort(known, kind="stable")
        records, known = records[order], known[order]
    return Stream(np.ascontiguousarray(records), known)
