"""One obvious, slow function per kernel: lists of Python floats in, lists out, None = no value yet.

Nothing here is imported from the package, and every window is worked out again for each bar.
A `gaps` list holds, for each bar, None, or at the first bar of a new contract the gap by which
remembered price levels move. Levels move in decimal arithmetic, where prices are exact.
"""

import datetime as dt
import itertools
from bisect import bisect_right
from decimal import Decimal
from typing import NamedTuple

MINUTE = 60_000_000_000


class Session(NamedTuple):
    """One exchange session; without a break both break fields equal the close."""

    open_ns: int
    close_ns: int
    break_start_ns: int
    break_end_ns: int
    early: bool
    trade_date: dt.date


class Bar(NamedTuple):
    """One signal or daily bar; `contract` counts the seams before it."""

    start: int
    end: int
    open: float
    high: float
    low: float
    close: float
    session: int
    contract: int
    late: bool
    closed: bool


class Seam(NamedTuple):
    """One roll: its instant and first open of the new less last close of the old."""

    at: int
    gap: Decimal


def exact(price):
    """Turn a price into the decimal that it stands for."""
    return price if isinstance(price, Decimal) else Decimal(repr(price))


def moved(price, gap):
    """Move a remembered price by a gap, exactly."""
    return None if price is None else float(exact(price) + exact(gap))


def window(values, first, last, gaps=None):
    """Give values[first..last] as they are remembered at bar `last`, oldest first."""
    if gaps is None or all(gap is None for gap in gaps[first + 1 : last + 1]):
        return values[first : last + 1]
    remembered = []
    for i in range(first, last + 1):
        value = values[i]
        for j in range(i + 1, last + 1):
            if gaps[j] is not None:
                value = moved(value, gaps[j])
        remembered.append(value)
    return remembered


def ibs(high, low, close):
    """Give (close - low) / (high - low), 0.5 for a bar without a range."""
    out = []
    for h, lo, c in zip(high, low, close, strict=True):
        share = None if h <= lo else (exact(c) - exact(lo)) / (exact(h) - exact(lo))
        out.append(0.5 if share is None else float(share))
    return out


def sma(x, n, gaps=None):
    """Give the plain mean of the last n values."""
    out = []
    for i in range(len(x)):
        if i + 1 < n:
            out.append(None)
        else:
            out.append(sum(window(x, i + 1 - n, i, gaps)) / n)
    return out


def ema(x, n, gaps=None):
    """Give the exponential mean: seed = mean of the first n, alpha = 2 / (n + 1)."""
    alpha = 2 / (n + 1)
    out = []
    for i in range(len(x)):
        if i + 1 < n:
            out.append(None)
        elif i + 1 == n:
            out.append(sum(window(x, 0, i, gaps)) / n)
        else:
            before = out[-1]
            if gaps is not None and gaps[i] is not None:
                before = before + float(gaps[i])
            out.append(alpha * x[i] + (1 - alpha) * before)
    return out


def wilder_mean(x, n):
    """Give Wilder's mean of a list whose first entry is missing: seed = mean of the first n."""
    out = []
    for i in range(len(x)):
        if i < n:
            out.append(None)
        elif i == n:
            out.append(sum(x[1 : n + 1]) / n)
        else:
            out.append((out[-1] * (n - 1) + x[i]) / n)
    return out


def reference_prices(close, gaps=None, opens=None):
    """Give the price from which each bar's change and true range start: the previous close.

    The first bar has none. The first bar of a new contract starts from its own open; without
    opens, from the previous close moved by the gap.
    """
    out = []
    for i in range(len(close)):
        if i == 0:
            out.append(None)
        elif gaps is None or gaps[i] is None:
            out.append(close[i - 1])
        elif opens is not None:
            out.append(opens[i])
        else:
            out.append(moved(close[i - 1], gaps[i]))
    return out


def change(close, gaps=None, opens=None):
    """Give each bar's change from its reference price."""
    before = reference_prices(close, gaps, opens)
    return [None if b is None else c - b for c, b in zip(close, before, strict=True)]


def return_pct(close, gaps=None, opens=None):
    """Give each bar's return in percent from its reference price."""
    before = reference_prices(close, gaps, opens)
    return [None if not b else 100 * (c / b - 1) for c, b in zip(close, before, strict=True)]


def true_range(high, low, close, gaps=None, opens=None):
    """Give max(high, reference) - min(low, reference); none for the first bar."""
    before = reference_prices(close, gaps, opens)
    out = []
    for h, lo, b in zip(high, low, before, strict=True):
        out.append(None if b is None else max(h, b) - min(lo, b))
    return out


def wilder_atr(high, low, close, n, gaps=None, opens=None):
    """Give Wilder's mean of the true range; the first value is at bar n + 1."""
    return wilder_mean(true_range(high, low, close, gaps, opens), n)


def wilder_rsi(close, n, gaps=None, opens=None):
    """Give Wilder's RSI: 100 without losses, 50 without movement."""
    changes = change(close, gaps, opens)
    up = wilder_mean([None if x is None else max(x, 0.0) for x in changes], n)
    down = wilder_mean([None if x is None else max(-x, 0.0) for x in changes], n)
    out = []
    for u, d in zip(up, down, strict=True):
        if u is None:
            out.append(None)
        elif d == 0:
            out.append(50.0 if u == 0 else 100.0)
        else:
            out.append(100 - 100 / (1 + u / d))
    return out


def pivots(high, low, gaps=None, left=5, right=5):
    """Give for each bar (last high, previous high, last low, previous low), as remembered there."""
    out = []
    last_high = previous_high = last_low = previous_low = None
    for now in range(len(high)):
        if gaps is not None and gaps[now] is not None:
            last_high = moved(last_high, gaps[now])
            previous_high = moved(previous_high, gaps[now])
            last_low = moved(last_low, gaps[now])
            previous_low = moved(previous_low, gaps[now])
        if now >= left + right:
            highs = window(high, now - left - right, now, gaps)
            lows = window(low, now - left - right, now, gaps)
            top = highs[left]
            if all(top > h for h in highs[:left]) and all(top >= h for h in highs[left + 1 :]):
                previous_high = last_high
                last_high = top
            bottom = lows[left]
            if all(bottom < x for x in lows[:left]) and all(bottom <= x for x in lows[left + 1 :]):
                previous_low = last_low
                last_low = bottom
        out.append((last_high, previous_high, last_low, previous_low))
    return out


def session_index(sessions, instant):
    """Give the index of the session that opened last, -1 before the first."""
    return bisect_right(sessions, instant, key=lambda s: s.open_ns) - 1


def find_seams(minutes, sessions):
    """Give the seams of one root's minutes (time, contract, open, high, low, close)."""
    seams = []
    for old, new in itertools.pairwise(minutes):
        if new[1] == old[1]:
            continue
        new_session = session_index(sessions, new[0])
        if session_index(sessions, old[0]) < new_session:
            at = sessions[new_session].open_ns
        else:
            at = new[0]
        seams.append(Seam(at, exact(new[2]) - exact(old[5])))
    return seams


def aggregate(minutes, sessions, tf_ns, seams, base_ns=MINUTE, *, late=True, now=None):
    """Give the bars of width `tf_ns`, cut at the seams; `late=False` leaves late minutes out.

    A bar is closed when it ended by `now`; default: by the end of the last minute.

    One day is 24 hours here, which no session outlasts, so its bar is the whole session.
    """
    buckets = {}
    for minute in minutes:
        ts = minute[0]
        i = session_index(sessions, ts)
        session = sessions[i]
        k = (ts - session.open_ns) // tf_ns
        start = session.open_ns + k * tf_ns
        end = session.open_ns + (k + 1) * tf_ns
        is_late = ts >= session.close_ns
        if is_late:
            start = max(start, session.close_ns)
            if i + 1 < len(sessions):
                end = min(end, sessions[i + 1].open_ns)
        else:
            end = min(end, session.close_ns)
        contract = 0
        for seam in seams:
            if seam.at <= ts:
                contract += 1
                start = max(start, seam.at)
            else:
                end = min(end, seam.at)
        if is_late and not late:
            continue
        buckets.setdefault((start, end, i, contract, is_late), []).append(minute)
    bars = []
    for (start, end, i, contract, is_late), inside in buckets.items():
        reached = max(minutes[-1][0] + base_ns, now or 0) >= end
        bars.append(
            Bar(
                start=start,
                end=end,
                open=inside[0][2],
                high=max(m[3] for m in inside),
                low=min(m[4] for m in inside),
                close=inside[-1][5],
                session=i,
                contract=contract,
                late=is_late,
                closed=reached,
            )
        )
    return sorted(bars)


def gaps_of(bars, seams):
    """Give for each bar None, or at a new contract's first bar the gap since the bar before."""
    gaps = []
    for i, bar in enumerate(bars):
        if i == 0 or bars[i - 1].contract == bar.contract:
            gaps.append(None)
        else:
            gaps.append(sum(s.gap for s in seams[bars[i - 1].contract : bar.contract]))
    return gaps
