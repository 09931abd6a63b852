"""Every feature in plain, slow Python: lists of floats in, lists of floats out, NaN = missing.

Nothing here is imported from the package, and every window is worked out again at each bar.
A bar with a missing price is left out first and put back, as missing, at the end. At the first
bar of a new contract all remembered price levels move by the gap before the bar is taken; what
was worked out from levels earlier (changes, returns, ranges) stays as it was when it was new.
"""

import math
from typing import NamedTuple

import numpy as np

NAN = math.nan
RANK_WINDOW = {"bar": 2520, "day": 504}
RANK_MIN = {"bar": 252, "day": 60}
DRIFT = {"bar": 50, "day": 20}

# Each rank and the value that is ranked.
RANKS = {
    "ibs_rank": "ibs",
    "ret1_rank": "ret1_pct",
    "rsi2_rank": "rsi2",
    "rsi5_rank": "rsi5",
    "rsi14_rank": "rsi14",
    "atr_z_rank": "atr_z",
    "vol_z_rank": "vol_z",
    "tr_atr_rank": "tr_atr",
    "price_z_rank": "price_z",
    "dist_z_rank": "dist_z",
    "mom3_z_rank": "mom3_z",
    "bb_pctb_rank": "bb_pctb",
    "bear_count_rank": "bear_count",
}


class Bar(NamedTuple):
    """A bar with all its prices; `gaps` are the rolls since the bar before, oldest first."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    gaps: list


def has_prices(bar):
    """Say whether a bar as given has all four prices."""
    return not any(math.isnan(bar[key]) for key in ("open", "high", "low", "close"))


def real_bars(bars):
    """Give the bars that have all prices; the roll of one that has not passes to the next."""
    out = []
    gaps = []
    for bar in bars:
        if bar["seam"]:
            gaps = [*gaps, bar["gap"]]
        if has_prices(bar):
            prices = (bar["open"], bar["high"], bar["low"], bar["close"])
            out.append(Bar(*prices, bar["volume"], gaps))
            gaps = []
    return out


def put_back(bars, values):
    """Give the values at the bars that have prices, NaN at the others."""
    rest = iter(values)
    return [next(rest) if has_prices(bar) else NAN for bar in bars]


def grid(x):
    """Round to a multiple of 1e-9, half to even."""
    return NAN if math.isnan(x) else round(x * 1e9) / 1e9


def remembered(bars):
    """Yield at each bar the highs, lows and closes so far as remembered there, its own last."""
    highs, lows, closes = [], [], []
    for bar in bars:
        for gap in bar.gaps:
            highs = [grid(x + gap) for x in highs]
            lows = [grid(x + gap) for x in lows]
            closes = [grid(x + gap) for x in closes]
        highs.append(bar.high)
        lows.append(bar.low)
        closes.append(bar.close)
        yield highs, lows, closes


# Windows. Distances are taken from the window's first value, so a flat window is exactly flat.


def mean(window):
    """Give the plain mean."""
    return math.fsum(window) / len(window)


def sd(window, ddof=0):
    """Give the standard deviation."""
    distances = [x - window[0] for x in window]
    middle = mean(distances)
    return math.sqrt(math.fsum((d - middle) ** 2 for d in distances) / (len(window) - ddof))


def from_mean(window):
    """Give the last value less the mean."""
    distances = [x - window[0] for x in window]
    return distances[-1] - mean(distances)


def z_of(window):
    """Give the last value's z-score in its window."""
    return from_mean(window) / (sd(window) + 1e-12)


def over(values, n, formula):
    """Give the formula of the last n values at each bar; NaN when one is missing."""
    out = []
    for i in range(len(values)):
        window = values[max(i + 1 - n, 0) : i + 1]
        short = len(window) < n or any(math.isnan(x) for x in window)
        out.append(NAN if short else formula(window))
    return out


def over_closes(bars, n, formula):
    """Give the formula of the last n closes as remembered at each bar."""
    return [formula(closes[-n:]) if len(closes) >= n else NAN for _, _, closes in remembered(bars)]


def rank_of(window, least):
    """Give the average rank of the last value among those that are not missing."""
    window = np.asarray(window)  # windows are long, and comparing floats is all that is done
    v, n = window[-1], len(window) - int(np.isnan(window).sum())
    if math.isnan(v) or n < least:
        return NAN
    below, up_to = int((window < v).sum()), int((window <= v).sum())
    return (below + 1 + up_to) / (2 * n)


def rank(values, n, least):
    """Give each value's rank among the last n, itself included."""
    values = np.array(values)
    return [rank_of(values[max(i + 1 - n, 0) : i + 1], least) for i in range(len(values))]


def wilder(values, n):
    """Give Wilder's mean, which starts as the mean of the first n values that are there."""
    out = []
    seen = []
    for x in values:
        if not math.isnan(x):
            seen.append(x)
        if math.isnan(x) or len(seen) < n:
            out.append(NAN)
        elif len(seen) == n:
            out.append(mean(seen))
        else:
            out.append((out[-1] * (n - 1) + x) / n)
    return out


def before(values):
    """Give at each bar the value of the bar before."""
    return [NAN, *values][: len(values)]


def share(values, atr):
    """Divide by the same bar's ATR; missing when that is not positive."""
    return [x / a if a > 0 else NAN for x, a in zip(values, atr, strict=True)]


def flag(condition):
    """Turn a condition into 1 or 0."""
    return 1.0 if condition else 0.0


# What is worked out once, when its bar is new.


def changes(bars):
    """Give close less previous close."""
    return [
        closes[-1] - closes[-2] if len(closes) > 1 else NAN for _, _, closes in remembered(bars)
    ]


def returns(bars, n):
    """Give the simple return over n bars."""
    out = []
    for _, _, closes in remembered(bars):
        known = len(closes) > n and closes[-1 - n] > 0
        out.append(closes[-1] / closes[-1 - n] - 1 if known else NAN)
    return out


def log_returns(bars):
    """Give the log return of each bar."""
    out = []
    for _, _, closes in remembered(bars):
        known = len(closes) > 1 and closes[-1] > 0 and closes[-2] > 0
        out.append(math.log(closes[-1] / closes[-2]) if known else NAN)
    return out


def true_range(bars):
    """Give the range that includes the previous close."""
    out = []
    for highs, lows, closes in remembered(bars):
        if len(closes) == 1:
            out.append(NAN)
        else:
            out.append(max(highs[-1], closes[-2]) - min(lows[-1], closes[-2]))
    return out


def atr(bars, n):
    """Give Wilder's mean of the true range."""
    return wilder(true_range(bars), n)


def ema_memory(bars, n):
    """Yield at each bar the EMA values so far as remembered there, the current one last."""
    past = []
    for bar, (_, _, closes) in zip(bars, remembered(bars), strict=True):
        for gap in bar.gaps:
            past = [x + gap for x in past]
        if len(closes) < n:
            past.append(NAN)
        elif len(closes) == n:
            past.append(mean(closes))
        else:
            past.append(past[-1] + 2 / (n + 1) * (closes[-1] - past[-1]))
        yield past


# The formulas, in the order of the definitions.


def ibs(bars):
    """Give the place of the close in the range, on the grid of 1e-9."""
    out = []
    for bar in bars:
        above = bar.close - bar.low
        whole = bar.high - bar.low
        if round(whole * 1e9) >= 1:
            above = round(above * 1e9)
            whole = round(whole * 1e9)
        out.append(0.5 if bar.high <= bar.low else min(max(above / whole, 0.0), 1.0))
    return out


def drift(bars, n):
    """Give the return over n bars in sample standard deviations of the one-bar returns."""
    out = []
    spreads = over(returns(bars, 1), n, lambda window: sd(window, ddof=1))
    for whole, spread in zip(returns(bars, n), spreads, strict=True):
        out.append(whole / spread if spread >= 1e-12 else NAN)
    return out


def rsi(bars, n):
    """Give Wilder's RSI."""
    moves = changes(bars)
    up = wilder([x if math.isnan(x) else max(x, 0.0) for x in moves], n)
    down = wilder([x if math.isnan(x) else max(-x, 0.0) for x in moves], n)
    return [50.0 if u + d == 0 else 100 * u / (u + d) for u, d in zip(up, down, strict=True)]


def atr_pctile(bars):
    """Give the percentage of the last 252 ATR values that is strictly below the current one."""
    values = atr(bars, 14)
    out = []
    for i, v in enumerate(values):
        window = [x for x in values[: i + 1] if not math.isnan(x)][-252:]
        below = len([x for x in window if x < v])
        out.append(NAN if math.isnan(v) else 100 * below / len(window))
    return out


def nr7(bars):
    """Say whether the range is below each of the six ranges before."""
    ranges = [grid(bar.high - bar.low) for bar in bars]
    return over(ranges, 7, lambda window: flag(all(window[-1] < x for x in window[:-1])))


def inside_bar(bars):
    """Say whether the bar before lies inside the one before it."""
    out = []
    for highs, lows, _ in remembered(bars):
        if len(highs) < 3:
            out.append(NAN)
        else:
            out.append(flag(highs[-2] < highs[-3] and lows[-2] > lows[-3]))
    return out


def twrc(fast, base):
    """Give depth and length of a run of bars in which the fast ATR is small against the base."""
    out = []
    k = 0
    for quick, slow in zip(fast, base, strict=True):
        ratio = quick / slow if slow > 0 else NAN
        k = k + 1 if ratio < 0.7 else 0
        if math.isnan(ratio):
            out.append(NAN)
        else:
            out.append(min(max((0.7 - ratio) / 0.7, 0.0), 1.0) * (1 - math.exp(-k / 10)))
    return out


def dist_z(bars):
    """Give the distance from the mean close in standard deviations of the changes."""
    away = over_closes(bars, 20, from_mean)
    spreads = over(changes(bars), 20, sd)
    return [a / (s + 1e-12) for a, s in zip(away, spreads, strict=True)]


def momentum(bars, n):
    """Give close less the close n bars before."""
    return [
        closes[-1] - closes[-1 - n] if len(closes) > n else NAN for _, _, closes in remembered(bars)
    ]


def band(window, place):
    """Give `place` of close, lower band, upper band and mean; missing without a width."""
    lower = mean(window) - 2 * sd(window)
    upper = mean(window) + 2 * sd(window)
    return place(window[-1], lower, upper) if upper > lower else NAN


def bb_width(window):
    """Give the bands' distance as a share of the mean."""
    lower = mean(window) - 2 * sd(window)
    upper = mean(window) + 2 * sd(window)
    return (upper - lower) / mean(window) if mean(window) > 0 else NAN


def donchian(bars):
    """Give (state, distance to the nearer edge) against the 20 bars before."""
    states, distances = [], []
    for highs, lows, closes in remembered(bars):
        if len(closes) < 21:
            states.append(NAN)
            distances.append(NAN)
            continue
        top = max(highs[-21:-1])
        bottom = min(lows[-21:-1])
        states.append(flag(closes[-1] > top) - flag(closes[-1] < bottom))
        distances.append(min(abs(closes[-1] - bottom), abs(top - closes[-1])))
    return states, distances


def psar(bars):
    """Give the parabolic SAR."""
    out = []
    for bar, (highs, lows, closes) in zip(bars, remembered(bars), strict=True):
        if len(closes) == 1:
            out.append(NAN)
            continue
        if len(closes) == 2:
            up = closes[1] >= closes[0]
            sar = lows[0] if up else highs[0]
            extreme = highs[1] if up else lows[1]
            a = 0.02
            out.append(sar)
            continue
        for gap in bar.gaps:
            sar = sar + gap
            extreme = grid(extreme + gap)
        sar = sar + a * (extreme - sar)
        sar = min(sar, lows[-2], lows[-3]) if up else max(sar, highs[-2], highs[-3])
        if (up and sar >= bar.low) or (not up and sar <= bar.high):
            up = not up
            sar = extreme
            extreme = bar.high if up else bar.low
            a = 0.02
        elif (up and bar.high > extreme) or (not up and bar.low < extreme):
            extreme = bar.high if up else bar.low
            a = min(a + 0.02, 0.2)
        out.append(sar)
    return out


def above_ema(bars, n):
    """Say whether the close is above the EMA by more than rounding."""
    out = []
    for bar, past in zip(bars, ema_memory(bars, n), strict=True):
        out.append(NAN if math.isnan(past[-1]) else flag(grid(bar.close - past[-1]) > 0))
    return out


def above_sma(bars, n):
    """Say whether the close is above the mean by more than rounding."""
    return over_closes(bars, n, lambda window: flag(grid(from_mean(window)) > 0))


def adx(bars, n=14):
    """Give Wilder's ADX."""
    plus, minus = [], []
    for highs, lows, _ in remembered(bars):
        if len(highs) == 1:
            plus.append(NAN)
            minus.append(NAN)
            continue
        up = highs[-1] - highs[-2]
        down = lows[-2] - lows[-1]
        plus.append(up if up > down and up > 0 else 0.0)
        minus.append(down if down > up and down > 0 else 0.0)
    dx = []
    for p, m, a in zip(wilder(plus, n), wilder(minus, n), atr(bars, n), strict=True):
        if math.isnan(a):
            dx.append(NAN)
        elif a == 0 or 100 * p / a + 100 * m / a == 0:
            dx.append(0.0)
        else:
            plus_di = 100 * p / a
            minus_di = 100 * m / a
            dx.append(100 * abs(plus_di - minus_di) / (plus_di + minus_di))
    return wilder(dx, n)


def eff_ratio(bars):
    """Give way made as a share of way gone, weighted over three lookbacks."""
    moves = changes(bars)
    out = []
    for i, (_, _, closes) in enumerate(remembered(bars)):
        total = weights = 0.0
        for lookback, weight in ((5, 0.5), (20, 0.25), (60, 0.125)):
            if i < lookback:
                continue
            path = math.fsum(abs(x) for x in moves[i + 1 - lookback : i + 1])
            if path > 1e-12:
                total += weight * abs(closes[-1] - closes[-1 - lookback]) / path
                weights += weight
        out.append(total / weights if weights > 0 else NAN)
    return out


def run_before(conditions):
    """Count the bars in a row, back from the bar before, on which the condition held."""
    out = []
    for i in range(len(conditions)):
        k = 0
        while k < i and conditions[i - 1 - k]:
            k += 1
        out.append(float(k) if i > 0 else NAN)
    return out


def pivots(bars, width=5):
    """Give at each bar the pivot highs and the pivot lows known so far, as remembered there."""
    out = []
    tops, bottoms = [], []
    for bar, (highs, lows, _) in zip(bars, remembered(bars), strict=True):
        for gap in bar.gaps:
            tops = [grid(x + gap) for x in tops]
            bottoms = [grid(x + gap) for x in bottoms]
        if len(highs) >= 2 * width + 1:
            old, top, new = highs[-2 * width - 1 : -width - 1], highs[-width - 1], highs[-width:]
            if all(top > x for x in old) and all(top >= x for x in new):
                tops = [*tops, top]
            old, bottom, new = lows[-2 * width - 1 : -width - 1], lows[-width - 1], lows[-width:]
            if all(bottom < x for x in old) and all(bottom <= x for x in new):
                bottoms = [*bottoms, bottom]
        out.append((tops[-2:], bottoms[-2:]))
    return out


def pivot_features(bars):
    """Give pivot_state, pivot_hh and the distance of the close from the last pivot low."""
    states, higher, distances = [], [], []
    for bar, (tops, bottoms) in zip(bars, pivots(bars), strict=True):
        if not tops or not bottoms:
            states.append(NAN)
        elif bar.close > tops[-1]:
            states.append(1.0)
        elif bar.close < bottoms[-1]:
            states.append(-1.0)
        else:
            states.append(0.0)
        known = len(tops) == 2
        higher.append(flag(tops[1] > tops[0] and bar.high > tops[1]) if known else NAN)
        distances.append(grid(bar.close - bottoms[-1]) if bottoms else NAN)
    return states, higher, distances


# The groups of features.


def price_features(bars, side):
    """Give the features of place in the range, of return and of oscillation."""
    n = DRIFT[side]
    out = {"ibs": ibs(bars), "ibs_prev": before(ibs(bars))}
    out["ret1_pct"] = [100 * x for x in returns(bars, 1)]
    out["ret4_pct"] = [100 * x for x in returns(bars, 4)]
    out[f"drift{n}"] = drift(bars, n)
    out["close_px"] = [bar.close for bar in bars]
    for n in (2, 5, 14):
        out[f"rsi{n}"] = rsi(bars, n)
    return out


def range_features(bars):
    """Give the features of volatility, range and volume."""
    atr14 = atr(bars, 14)
    pairs = zip(true_range(bars), atr(bars, 20), strict=True)
    return {
        "atr_z": over(atr(bars, 5), 252, z_of),
        "vol_z": over(over([bar.volume for bar in bars], 5, mean), 252, z_of),
        "atr_pctile": atr_pctile(bars),
        "tr_atr": [tr / (a + 1e-12) for tr, a in pairs],
        "range_atr": share([bar.high - bar.low for bar in bars], atr14),
        "nr7": nr7(bars),
        "inside_bar": inside_bar(bars),
        "twrc": twrc(atr(bars, 10), atr(bars, 100)),
    }


def band_features(bars):
    """Give the features of level, momentum and bands."""
    atr14 = atr(bars, 14)
    states, edges = donchian(bars)
    stops = [bar.close - sar for bar, sar in zip(bars, psar(bars), strict=True)]

    def pctb(close, lower, upper):
        return (close - lower) / (upper - lower)

    def high(close, lower, upper):
        return (close - upper) / (upper - lower)

    return {
        "price_z": over_closes(bars, 20, z_of),
        "dist_z": dist_z(bars),
        "mom3_z": over(momentum(bars, 3), 20, z_of),
        "bb_pctb": over_closes(bars, 20, lambda window: band(window, pctb)),
        "bb_high": over_closes(bars, 20, lambda window: band(window, high)),
        "bb_width": over_closes(bars, 20, bb_width),
        "donchian_state": states,
        "donchian_prox": share(edges, atr14),
        "psar_dist": share(stops, atr14),
    }


def trend_features(bars):
    """Give the features of trend, of runs and of pivots."""
    atr14 = atr(bars, 14)
    out = {f"ema{n}_above": above_ema(bars, n) for n in (8, 20, 50, 200)}
    out["above_sma200"] = above_sma(bars, 200)
    slopes, spreads = [], []
    for past20, past50 in zip(ema_memory(bars, 20), ema_memory(bars, 50), strict=True):
        slopes.append(past20[-1] - past20[-6] if len(past20) > 5 else NAN)
        spreads.append(abs(past20[-1] - past50[-1]))
    out["ema_slope"] = share(slopes, atr14)
    out["ema_spread"] = share(spreads, atr14)
    out["adx14"] = adx(bars)
    out["eff_ratio"] = eff_ratio(bars)
    out["bear_count"] = run_before([bar.close < bar.open for bar in bars])
    out["bull_count"] = run_before([bar.close > bar.open for bar in bars])
    states, higher, distances = pivot_features(bars)
    out["pivot_state"] = states
    out["pivot_hh"] = higher
    out["zone_dist_atr"] = share(distances, atr14)
    return out


def products(own):
    """Give the features that are a product of two others."""
    place = [2 * x - 1 for x in own["ibs"]]
    swing = [(x - 50) / 50 for x in own["rsi5"]]
    out = {}
    for z in ("atr_z", "vol_z"):
        out[f"ibs_x_{z}"] = [x * y for x, y in zip(place, own[z], strict=True)]
        out[f"rsi5_x_{z}"] = [x * y for x, y in zip(swing, own[z], strict=True)]
    return out


def cross_features(bars, window, least):
    """Give what other instruments see: log returns, and level against its own history."""
    moves = log_returns(bars)
    return {
        "x_z": over(moves, 252, lambda window: from_mean(window) / max(sd(window), 1e-12)),
        "x_sd": over(moves, 252, lambda window: 100 * sd(window)),
        "x_ret": [100 * x for x in returns(bars, 1)],
        "vix_median": over_closes(bars, 100, lambda window: mean(sorted(window)[49:51])),
        "close_rank": [rank_of(closes[-window:], least) for _, _, closes in remembered(bars)],
        "above_sma20": above_sma(bars, 20),
    }


def naive_side(bars, *, side, rank_window=None, rank_min=None):
    """Give every feature of one side of one instrument, by name without its side."""
    real = real_bars(bars)
    n = rank_window or RANK_WINDOW[side]
    least = rank_min or RANK_MIN[side]
    out = price_features(real, side) | range_features(real)
    out |= band_features(real) | trend_features(real)
    for name, value in RANKS.items():
        out[name] = rank(out[value], n, least)
    out["ibs_prev_rank"] = before(out["ibs_rank"])
    out |= products(out)
    # The rank of a close is asked for of the volatility index only, whose bars are sessions.
    out |= cross_features(real, rank_window or RANK_WINDOW["day"], rank_min or RANK_MIN["day"])
    return {name: put_back(bars, values) for name, values in out.items()}


def naive_pair_z(bars, pair, *, side, rank_window=None, rank_min=None):
    """Give the spread's z-score and its rank.

    `pair` holds for each own bar the pair's close, NaN when there is none, and the sum of the
    pair's gaps since the own bar before. A missing pair leaves a hole in the window.
    """
    spreads = []
    z = []
    for bar, other in zip(bars, pair, strict=True):
        shift = (bar["gap"] if bar["seam"] else 0.0) - other["gap"]
        if shift != 0:
            spreads = [grid(s + shift) for s in spreads]
        if not has_prices(bar):
            continue
        spreads.append(grid(bar["close"] - other["close"]))
        window = spreads[-20:]
        short = len(window) < 20 or any(math.isnan(s) for s in window)
        z.append(NAN if short else z_of(window))
    ranks = rank(z, rank_window or RANK_WINDOW[side], rank_min or RANK_MIN[side])
    return {"pair_z": put_back(bars, z), "pair_z_rank": put_back(bars, ranks)}


def naive_above_prev_close(bars, day_closes):
    """Say at each bar whether its close is above that of the last closed session.

    `day_closes` holds for each bar the session's (ordinal, close, whether it ended before the bar's roll), or
    None before the first.
    """
    out = []
    held_ordinal, held = None, NAN
    for bar, day in zip(bars, day_closes, strict=True):
        if bar["seam"]:
            held = grid(held + bar["gap"])
        if day is not None and day[0] != held_ordinal:
            held_ordinal, held, before_roll = day
            if bar["seam"] and before_roll:
                held = grid(held + bar["gap"])
        known = day is not None and has_prices(bar) and not math.isnan(held)
        out.append(flag(bar["close"] > held) if known else NAN)
    return out


def naive_calendar(minute, weekday, month, day):
    """Give the calendar features of a minute of the day, an ISO weekday (Monday = 1) and a date."""
    if minute < 8 * 60:
        session = 1.0
    elif minute < 15 * 60:
        session = 2.0
    elif minute < 17 * 60:
        session = 4.0
    else:
        session = 3.0
    opening = 8 * 60 <= minute < 9 * 60
    closing = 14 * 60 <= minute < 15 * 60
    return {
        "cal_dow": float(weekday),
        "cal_month": float(month),
        "cal_late_month": flag(day > 25),
        "cal_week_start": flag(weekday in {1, 2}),
        "cal_even_day": flag(day % 2 == 0),
        "cal_session": session,
        "cal_open_close": 1.0 if opening else 2.0 if closing else 0.0,
    }


def last_until(instants, at):
    """Give the index of the last instant at or before `at`, -1 when there is none."""
    found = -1
    for j, instant in enumerate(instants):
        if instant <= at:
            found = j
    return found


def naive_asof(ends, other_ends, width):
    """Give for each own end the other's bar that counts there: ended by then, not too old."""
    out = []
    for end in ends:
        j = last_until(other_ends, end)
        out.append(j if j >= 0 and other_ends[j] > end - width else -1)
    return out


def naive_asof_day(ends, own_day, other_closes, other_dates):
    """Give for each decision the other's last closed session, unless it is older than ours."""
    out = []
    for end, own in zip(ends, own_day, strict=True):
        j = last_until(other_closes, end)
        counts = j >= 0 and (own is None or other_dates[j] >= own)
        out.append(j if counts else -1)
    return out
