"""One symbol's position: from decided entry to filled exit, as a state machine.

::

    FLAT ──enter──▶ ENTERING ──fill──▶ OPEN ──leave──▶ LEAVING ──fill──▶ FLAT
      ▲                │lapse             │protective, seam                 ▲
      └────────────────┴──────────────────┴─────────────────────────────────┘
"""

from __future__ import annotations

import numpy as np

from ibs_core.bars import EXIT_REASONS, Ints, Record, Records, reordered
from ibs_core.kernels._jit import jit
from ibs_core.kernels.ring import canonical

__all__ = [
    "ENTERING",
    "FLAT",
    "LEAVING",
    "OPEN",
    "POSITION",
    "TRADE",
    "by_exit",
    "cross_seam",
    "due_exit",
    "enter",
    "fill",
    "leave",
    "new_positions",
    "open_usd",
    "protect",
]

FLAT, ENTERING, OPEN, LEAVING = range(4)

(
    STOP,
    TARGET,
    IBS_EXIT,
    BARS,
    FLAT_BY_EXIT,
    ROLL_EXIT,
    PORTFOLIO,
    PROTECTIVE_STOP,
    PROTECTIVE_TARGET,
    OPERATOR,
) = range(1, len(EXIT_REASONS) + 1)

TRADE = np.dtype(
    [
        ("symbol", "i8"),
        ("contract", "i8"),
        ("entry_ns", "i8"),
        ("entry_price", "f8"),
        ("exit_ns", "i8"),
        ("exit_price", "f8"),  # NaN from the exit's decision until a price is certain
        ("reason", "i8"),
        ("bars_held", "i8"),
        ("low", "f8"),  # of the minutes held, the exit price included
        ("high", "f8"),
        ("ibs_entry", "f8"),
        ("ibs_exit", "f8"),  # NaN unless decided at an own close
        ("score", "f8"),
    ],
)

POSITION = np.dtype(
    [
        ("status", "i8"),
        ("expire_ns", "i8"),  # an entry fills up to here
        ("flats", "i8"),  # flat_by instants up to the fill
        ("bars", "i8"),  # own closes since the fill
        ("cooldown", "i8"),  # own closes that still decide no entry
        ("signal_close", "f8"),
        ("atr", "f8"),  # of the signal bar
        ("protective_stop", "f8"),  # NaN is off
        ("protective_target", "f8"),
        ("mark", "f8"),  # the last minute close seen
        ("realised_usd", "f8"),  # by exits decided in the current session
        ("date", "i8"),  # trade date of the symbol's current session
        ("exit_date", "i8"),  # trade date of the session in which the exit was decided
        ("leave_ns", "i8"),  # a decided exit does not leave before this; NEVER: not known when
        ("blocked_ns", "i8", (8,)),  # until when live blocks entries, by reason
        ("trade", TRADE),  # the trade in the making
    ],
)


def new_positions(n_symbols: int) -> Records:
    """Make the book before any bar: flat.

    Parameters
    ----------
    n_symbols : int

    Returns
    -------
    (n_symbols,) POSITION
    """
    return np.zeros(n_symbols, POSITION)


def by_exit(trades: Records) -> Records:
    """Put trades in order of their exit, then of their symbol and entry.

    Parameters
    ----------
    trades : (n_trades,) TRADE

    Returns
    -------
    (n_trades,) TRADE
        The same array where it is in order, as one replay writes it.
    """
    keys = [np.ascontiguousarray(trades[name]) for name in ("entry_ns", "symbol", "exit_ns")]
    later, equal = np.zeros(max(len(trades) - 1, 0), bool), True
    for key in reversed(keys):
        later |= equal & (key[1:] > key[:-1])
        equal = equal & (key[1:] == key[:-1])
    if (later | equal).all():
        return trades
    return reordered(trades, np.lexsort(keys))


@jit
def _level(price: float, percent: float, atr_multiple: float, atr: float, side: float) -> float:
    """Place a level above (+1) or below (-1) a price, on the 1e-9 grid; NaN when it is off."""
    if percent == percent:
        return canonical(price + side * percent / 100.0 * abs(price))
    return canonical(price + side * atr_multiple * atr)


@jit
def _on_tick(price: float, tick_nano: int) -> float:
    """Round to the nearest tick, halves up, in whole 1e-9 units; NaN stays NaN."""
    if price != price:
        return np.nan  # one bit pattern, whatever the compiler made of the sum
    nano = np.int64(np.rint(price * 1e9))
    return (2 * nano + tick_nano) // (2 * tick_nano) * tick_nano / 1e9


@jit
def enter(
    params: Record,
    position: Record,
    signal_close: float,
    ibs: float,
    atr: float,
    score: float,
    expire_ns: int,
) -> None:
    """Decide an entry: the order is pending until it fills or lapses.

    Parameters
    ----------
    params : PARAMS
    position : POSITION, FLAT
    signal_close, ibs, atr, score : float64, of the signal bar
    expire_ns : int64, the last instant at which it may fill
    """
    position["status"] = ENTERING
    position["expire_ns"] = expire_ns
    position["signal_close"] = signal_close
    position["atr"] = atr
    position["trade"]["ibs_entry"] = ibs
    position["trade"]["score"] = score
    stop = _level(
        signal_close,
        params["protective_stop_percent"],
        params["protective_stop_atr"],
        atr,
        -1.0,
    )
    target = _level(
        signal_close,
        params["protective_target_percent"],
        params["protective_target_atr"],
        atr,
        1.0,
    )
    position["protective_stop"] = _on_tick(stop, params["tick_nano"])
    position["protective_target"] = _on_tick(target, params["tick_nano"])


@jit
def leave(position: Record, reason: int, ibs: float, n_bars: int) -> None:
    """Decide an exit: it is pending until it fills, and never lapses.

    Parameters
    ----------
    position : POSITION, OPEN
    reason : int64, a code of EXIT_REASONS
    ibs : float64, of the own bar that closed, else NaN
    n_bars : int64, own bars held
    """
    position["status"] = LEAVING
    position["leave_ns"] = 0
    position["exit_date"] = position["date"]
    position["trade"]["exit_price"] = np.nan
    position["trade"]["reason"] = reason
    position["trade"]["ibs_exit"] = ibs
    position["trade"]["bars_held"] = n_bars


@jit
def open_usd(params: Record, position: Record) -> float:
    """Value the position at the last price of its contract, net of the costs of both sides.

    Parameters
    ----------
    params : PARAMS
    position : POSITION

    Returns
    -------
    float64, USD; 0 when nothing is held
    """
    if position["status"] != OPEN and position["status"] != LEAVING:
        return 0.0
    price, fixed = position["mark"], position["trade"]["exit_price"]
    if position["status"] == LEAVING and fixed == fixed:  # the mark is of the next contract
        price = fixed
    points = canonical(price - position["trade"]["entry_price"])
    return points * params["usd_per_point"] - params["cost_usd"]


@jit
def _close(
    params: Record, position: Record, ts_ns: int, price: float, trades: Records, n: Ints
) -> None:
    trade = position["trade"]
    trade["exit_ns"] = ts_ns
    trade["exit_price"] = price
    trade["low"] = min(trade["low"], price)
    trade["high"] = max(trade["high"], price)
    at = n[0]
    while at > 0 and trades[at - 1]["exit_ns"] > ts_ns:  # of a symbol that was settled before
        trades[at] = trades[at - 1]
        at -= 1
    trades[at] = trade
    n[0] += 1
    if position["exit_date"] == position["date"]:  # else it belongs to the session that decided it
        points = canonical(price - trade["entry_price"])
        position["realised_usd"] += points * params["usd_per_point"] - params["cost_usd"]
    position["status"] = FLAT
    position["cooldown"] = params["cooldown_bars"]


@jit
def fill(
    params: Record,
    position: Record,
    symbol: int,
    contract: int,
    ts_ns: int,
    price: float,
    flats: int,
    trades: Records,
    n: Ints,
) -> None:
    """Let the first minute after a decision fill what is pending.

    Parameters
    ----------
    params : PARAMS
    position : POSITION
    symbol, contract : int64
    ts_ns, price : that minute's open, instant and price
    flats : int64, flat_by instants up to ``ts_ns``
    trades : (capacity,) TRADE, by exit, added to
    n : (2,) int64, counts of trades and decisions
    """
    if position["status"] == LEAVING:
        if ts_ns >= position["leave_ns"]:
            # After a seam the minute is of another contract, and the price is certain already.
            fixed = position["trade"]["exit_price"]
            _close(params, position, ts_ns, fixed if fixed == fixed else price, trades, n)
    elif position["status"] == ENTERING:
        if ts_ns > position["expire_ns"]:
            position["status"] = FLAT
            return
        position["status"] = OPEN
        position["bars"] = 0
        position["flats"] = flats
        trade = position["trade"]
        trade["symbol"] = symbol
        trade["contract"] = contract
        trade["entry_ns"] = ts_ns
        trade["entry_price"] = price
        trade["low"] = price
        trade["high"] = price


@jit
def cross_seam(params: Record, position: Record, seam_ns: int, trades: Records, n: Ints) -> int:
    """End the old contract: an entry lapses, a position leaves at its last close.

    An exit that leaves only later still holds the old contract; it too fills at that last close, which no
    later price replaces.

    Parameters
    ----------
    params : PARAMS
    position : POSITION, its mark the old contract's last close
    seam_ns : int64, the roll instant
    trades : (capacity,) TRADE, by exit, added to
    n : (2,) int64, counts of trades and decisions

    Returns
    -------
    int64, 1 when the exit was decided only here
    """
    if position["status"] == ENTERING:
        position["status"] = FLAT
    undecided = position["status"] == OPEN
    if undecided:
        leave(position, ROLL_EXIT, np.nan, position["bars"])
    if position["status"] == LEAVING:
        trade = position["trade"]
        if trade["exit_price"] != trade["exit_price"]:
            trade["exit_price"] = position["mark"]
        if seam_ns >= position["leave_ns"]:
            _close(params, position, seam_ns, trade["exit_price"], trades, n)
    return 1 if undecided else 0


@jit
def protect(params: Record, position: Record, minute: Record, trades: Records, n: Ints) -> int:
    """Let one minute touch the protective levels, stop before target.

    Parameters
    ----------
    params : PARAMS
    position : POSITION, OPEN
    minute : PATH
    trades : (capacity,) TRADE, by exit, added to
    n : (2,) int64, counts of trades and decisions

    Returns
    -------
    int64, the code of the exit reason, 0 when nothing was touched
    """
    trade = position["trade"]
    if minute["low"] <= position["protective_stop"]:
        leave(position, PROTECTIVE_STOP, np.nan, position["bars"] + 1)
        price = min(minute["open"], position["protective_stop"])
        _close(params, position, minute["ts_ns"], price, trades, n)
        return PROTECTIVE_STOP
    if minute["high"] >= position["protective_target"]:
        leave(position, PROTECTIVE_TARGET, np.nan, position["bars"] + 1)
        # Never below the entry: a position that filled beyond its target leaves at once, at the entry.
        price = max(position["protective_target"], trade["entry_price"])
        _close(params, position, minute["ts_ns"], price, trades, n)
        return PROTECTIVE_TARGET
    trade["low"] = min(trade["low"], minute["low"])
    trade["high"] = max(trade["high"], minute["high"])
    return 0


@jit
def due_exit(
    params: Record, position: Record, close: float, ibs: float, flats: int, in_roll: int
) -> int:
    """Try the exit rules of an own close in order.

    Parameters
    ----------
    params : PARAMS
    position : POSITION, OPEN, the close already counted in ``bars``
    close, ibs : float64, of the own bar
    flats : int64, flat_by instants up to the close
    in_roll : int64, 1 when the contract is given up

    Returns
    -------
    int64, a code of EXIT_REASONS, 0 when none is due
    """
    entry = position["trade"]["entry_price"]
    if close <= _level(entry, params["stop_percent"], params["stop_atr"], position["atr"], -1.0):
        return STOP
    if close >= _level(entry, params["target_percent"], params["target_atr"], position["atr"], 1.0):
        return TARGET
    if params["exit_ibs_low"] <= ibs <= params["exit_ibs_high"]:
        return IBS_EXIT
    if 0 < params["exit_bars"] <= position["bars"]:
        return BARS
    if flats > position["flats"]:
        return FLAT_BY_EXIT
    return ROLL_EXIT if in_roll == 1 else 0
