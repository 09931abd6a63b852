"""The features of one instrument, as one table and one step a closed bar.

``REGISTRY`` is the only place where a feature is named. Every own-instrument feature exists on both
timeframes: ``bar_`` on the signal bar, ``day_`` on the last session that closed at decision time.
A feature without a value is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ibs_core.bars import BAR, Floats, Ints, Record
from ibs_core.kernels import atr, ema, ibs, pivots, rsi, sma
from ibs_core.kernels._jit import jit
from ibs_core.kernels.ring import canonical

__all__ = [
    "CALENDAR",
    "INDEX",
    "N_FEATURES",
    "REGISTRY",
    "STATE",
    "Feature",
    "observe",
    "observe_day",
]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the catalogue.

    Attributes
    ----------
    name : str
        Canonical name; ``bar_``, ``day_`` or ``cal_`` says the timeframe.
    formula : str
        One line, with C, H, L of the bar and [-1] for the bar before.
    warmup : int
        Completed bars of its own timeframe before the first value; infinite memories count their seed.
    """

    name: str
    formula: str
    warmup: int

    @property
    def daily(self) -> bool:
        """Whether the warm-up counts sessions."""
        return self.name.startswith("day_")


_OWN = (
    ("ibs", "(C - L) / (H - L); 0.5 when H <= L", ibs.warmup_bars()),
    ("ibs_prev", "ibs[-1]", ibs.warmup_bars() + 1),
    ("ret1_pct", "100 (C / C[-1] - 1)", 2),
    ("rsi2", "Wilder RSI(2)", rsi.warmup_bars(2)),
    ("rsi5", "Wilder RSI(5)", rsi.warmup_bars(5)),
    ("rsi14", "Wilder RSI(14)", rsi.warmup_bars(14)),
    ("range_atr", "(H - L) / ATR(14); missing when ATR is 0", atr.warmup_bars(14)),
    ("ema8_above", "1 if C > EMA(8) else 0", ema.warmup_bars(8)),
    ("ema20_above", "1 if C > EMA(20) else 0", ema.warmup_bars(20)),
    ("ema50_above", "1 if C > EMA(50) else 0", ema.warmup_bars(50)),
    ("ema200_above", "1 if C > EMA(200) else 0", ema.warmup_bars(200)),
    ("above_sma200", "1 if C > SMA(200) else 0", sma.warmup_bars(200)),
    (
        "pivot_state",
        "1 if C > last pivot high, -1 if C < last pivot low, else 0",
        pivots.warmup_bars(),
    ),
    (
        "pivot_hh",
        "1 if last pivot high > the one before and H > last pivot high, else 0",
        pivots.warmup_bars(),
    ),
    ("zone_dist_atr", "(C - last pivot low) / ATR(14)", atr.warmup_bars(14)),
)
_CAL = (
    ("dow", "ISO weekday, 1 Monday to 7 Sunday, of the trade date"),
    ("month", "month 1 to 12 of the trade date"),
    ("late_month", "1 if the day of the month > 25 else 0"),
    ("week_start", "1 on Monday and Tuesday else 0"),
    ("even_day", "1 if the day of the month is even else 0"),
    (
        "session",
        "exchange time of the bar's start: 1 before 08:00, 2 to 15:00, 4 to 17:00, 3 after",
    ),
    (
        "open_close",
        "exchange time of the bar's start: 1 from 08:00 to 09:00, 2 from 14:00 to 15:00, else 0",
    ),
)

REGISTRY: tuple[Feature, ...] = (
    *(Feature(f"bar_{name}", formula, warmup) for name, formula, warmup in _OWN),
    *(Feature(f"day_{name}", formula, warmup) for name, formula, warmup in _OWN),
    *(Feature(f"cal_{name}", formula, 1) for name, formula in _CAL),
)
"""Every feature that exists, in the order of a feature row."""

INDEX: dict[str, int] = {feature.name: i for i, feature in enumerate(REGISTRY)}
N_FEATURES = len(REGISTRY)
N_OWN = len(_OWN)

CALENDAR = np.dtype([("local_minute", "i8"), ("weekday", "i8"), ("month", "i8"), ("day", "i8")])
"""Exchange-local calendar of a bar's start: minute of the day 0..1439, ISO weekday, month and day of the
trade date."""

SIDE = np.dtype(
    [
        ("n_bars", "i8"),
        ("close", "f8"),
        ("ibs", "f8"),
        ("rsi2", rsi.STATE),
        ("rsi5", rsi.STATE),
        ("rsi14", rsi.STATE),
        ("atr14", atr.STATE),
        ("ema8", ema.STATE),
        ("ema20", ema.STATE),
        ("ema50", ema.STATE),
        ("ema200", ema.STATE),
        ("sma200", sma.STATE),
        ("pivots", pivots.STATE),
        ("atr", "f8"),  # the newest ATR(14)
        ("values", "f8", (N_OWN,)),  # the newest own-instrument features
    ],
)
STATE = np.dtype([("bar", SIDE), ("day", SIDE)])
"""All memory of one instrument."""


@jit
def _cross_seam(side: Record, bar: Record) -> None:
    """Move levels by the roll gap; returns and ranges restart from the new contract's open."""
    side["close"] = bar["open"]
    rsi.reseat(side["rsi2"], bar["open"])
    rsi.reseat(side["rsi5"], bar["open"])
    rsi.reseat(side["rsi14"], bar["open"])
    atr.reseat(side["atr14"], bar["open"])
    ema.shift(side["ema8"], bar["gap"])
    ema.shift(side["ema20"], bar["gap"])
    ema.shift(side["ema50"], bar["gap"])
    ema.shift(side["ema200"], bar["gap"])
    sma.shift(side["sma200"], bar["gap"])
    pivots.shift(side["pivots"], bar["gap"])


@jit
def _above(close: float, average: float) -> float:
    if average != average:
        return np.nan
    return 1.0 if close > average else 0.0


@jit
def _step_levels(needs: Ints, side: Record, bar: Record, out: Floats) -> None:
    """Averages and pivots: what remembers price levels."""
    close = bar["close"]
    if needs[7]:
        out[7] = _above(close, ema.step(side["ema8"], close, 8))
    if needs[8]:
        out[8] = _above(close, ema.step(side["ema20"], close, 20))
    if needs[9]:
        out[9] = _above(close, ema.step(side["ema50"], close, 50))
    if needs[10]:
        out[10] = _above(close, ema.step(side["ema200"], close, 200))
    if needs[11]:
        out[11] = _above(close, sma.step(side["sma200"], close, 200))
    if needs[12] or needs[13] or needs[14]:
        swings = side["pivots"]
        pivots.step(swings, bar["high"], bar["low"])
        if swings["n_highs"] > 0 and swings["n_lows"] > 0:
            below = -1.0 if close < swings["last_low"] else 0.0
            out[12] = 1.0 if close > swings["last_high"] else below
        if swings["n_highs"] > 1:
            rising = (
                swings["last_high"] > swings["previous_high"] and bar["high"] > swings["last_high"]
            )
            out[13] = 1.0 if rising else 0.0
        if swings["n_lows"] > 0 and side["atr"] > 0.0:
            out[14] = canonical(close - swings["last_low"]) / side["atr"]


@jit
def _step_side(needs: Ints, side: Record, bar: Record) -> None:
    """Take one closed bar of one timeframe; fill ``side["values"]``."""
    if bar["seam_ns"] > 0 and side["n_bars"] > 0:
        _cross_seam(side, bar)
    out = side["values"]
    out[:] = np.nan
    close = bar["close"]
    strength = ibs.value(bar["high"], bar["low"], close)
    out[0] = strength
    if side["n_bars"] > 0:
        out[1] = side["ibs"]
        if side["close"] > 0.0:
            out[2] = 100.0 * (close / side["close"] - 1.0)
    if needs[3]:
        out[3] = rsi.step(side["rsi2"], close, 2)
    if needs[4]:
        out[4] = rsi.step(side["rsi5"], close, 5)
    if needs[5]:
        out[5] = rsi.step(side["rsi14"], close, 14)
    if needs[6] or needs[14]:
        side["atr"] = atr.step(side["atr14"], bar["high"], bar["low"], close, 14)
        if side["atr"] > 0.0:
            out[6] = (bar["high"] - bar["low"]) / side["atr"]
    _step_levels(needs, side, bar, out)
    side["ibs"] = strength
    side["close"] = close
    side["n_bars"] += 1


@jit
def _calendar(calendar: Record, out: Floats) -> None:
    minute = calendar["local_minute"]
    out[0] = calendar["weekday"]
    out[1] = calendar["month"]
    out[2] = 1.0 if calendar["day"] > 25 else 0.0
    out[3] = 1.0 if calendar["weekday"] <= 2 else 0.0
    out[4] = 1.0 if calendar["day"] % 2 == 0 else 0.0
    if minute < 480:
        out[5] = 1.0
    elif minute < 900:
        out[5] = 2.0
    else:
        out[5] = 4.0 if minute < 1020 else 3.0
    out[6] = 0.0
    if 480 <= minute < 540:
        out[6] = 1.0
    elif 840 <= minute < 900:
        out[6] = 2.0


@jit
def observe_day(needs: Ints, state: Record, day: Record) -> None:
    """Take one closed session bar.

    Parameters
    ----------
    needs : (N_FEATURES,) int64, 1 where a feature is asked for; the rest may be left NaN
    state : STATE
    day : BAR
    """
    _step_side(needs[N_OWN : 2 * N_OWN], state["day"], day)


@jit
def observe(needs: Ints, state: Record, bar: Record, calendar: Record, out: Floats) -> None:
    """Take one closed signal bar and write its feature row.

    Parameters
    ----------
    needs : (N_FEATURES,) int64, 1 where a feature is asked for; the rest may be left NaN
    state : STATE, its day side already fed with every session closed by ``bar["end_ns"]``
    bar : BAR
    calendar : CALENDAR
    out : (N_FEATURES,) float64, written in registry order, NaN where missing
    """
    _step_side(needs[:N_OWN], state["bar"], bar)
    out[:N_OWN] = state["bar"]["values"]
    out[N_OWN : 2 * N_OWN] = state["day"]["values"]
    if state["day"]["n_bars"] == 0:
        out[N_OWN : 2 * N_OWN] = np.nan
    _calendar(calendar, out[2 * N_OWN :])


assert STATE.itemsize % 8 == 0  # only 8-byte fields: the bytes of a state are its snapshot
assert BAR.itemsize % 8 == 0
