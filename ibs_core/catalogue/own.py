"""Features of an instrument's own bars, each on both timeframes."""

from __future__ import annotations

from ibs_core import formulas as f
from ibs_core.catalogue.feature import BAR, NO_CLOSE, Feature, Row, Side, feature_of
from ibs_core.formulas import elsewhere

__all__ = ["own_features"]

_FLAT = "ATR is 0"
_ATR14 = f.atr(14)


def _strength(s: Side) -> dict[str, Row]:
    """List internal bar strength, returns, drift and the RSI family."""
    ibs_rank = f.rank(f.IBS, *s.rank)
    ret1 = f.percent_return(f.CLOSE, 1)
    rows: dict[str, Row] = {
        "ibs": (f.IBS, "(C - L) / (H - L); 0.5 when H <= L", "share", ""),
        "ibs_rank": (ibs_rank, "rank of ibs", "share", ""),
        "ibs_prev": (f.lag(f.IBS, 1), "ibs[-1]", "share", ""),
        "ibs_prev_rank": (f.lag(ibs_rank, 1), "rank of ibs, [-1]", "share", ""),
        "ret1_pct": (ret1, "100 (C / C[-1] - 1)", "percent", NO_CLOSE),
        "ret1_rank": (f.rank(ret1, *s.rank), "rank of ret1_pct", "share", NO_CLOSE),
        "ret4_pct": (f.percent_return(f.CLOSE, 4), "100 (C / C[-4] - 1)", "percent", NO_CLOSE),
        f"drift{s.drift}": (
            f.drift(s.drift),
            f"(C / C[-{s.drift}] - 1) / sample deviation of the {s.drift} one-bar returns",
            "signed",
            f"{NO_CLOSE}, or the deviation is below 1e-12",
        ),
        "close_px": (f.CLOSE, "C", "price", ""),
    }
    for n in (2, 5, 14):
        rows[f"rsi{n}"] = (f.rsi(n), f"Wilder RSI({n}) of C; 50 without any move", "index", "")
    for n in (2, 5):
        rows[f"rsi{n}_rank"] = (f.rank(f.rsi(n), *s.rank), f"rank of rsi{n}", "share", "")
    return rows


def _volatility(s: Side) -> dict[str, Row]:
    """List ATR, range and volume."""
    atr_z, volume_z = f.z(f.atr(5), 252), f.z(f.mean(f.VOLUME, 5), 252)
    tr_atr = f.ratio(f.TRUE_RANGE, f.atr(20), 1e-12)
    no_volume = "a volume in the window is missing"
    return {
        "atr_z": (atr_z, "z of ATR(5) over 252", "z", ""),
        "atr_z_rank": (f.rank(atr_z, *s.rank), "rank of atr_z", "share", ""),
        "vol_z": (volume_z, "z of SMA(V, 5) over 252", "z", no_volume),
        "vol_z_rank": (f.rank(volume_z, *s.rank), "rank of vol_z", "share", no_volume),
        "atr_pctile": (
            f.share_below(_ATR14, 252),
            "100 * share of the last 252 ATR(14), or as many as there are, below the newest",
            "index",
            "",
        ),
        "tr_atr": (tr_atr, "TR / (ATR(20) + 1e-12)", "ratio", ""),
        "tr_atr_rank": (f.rank(tr_atr, *s.rank), "rank of tr_atr", "share", ""),
        "range_atr": (f.ratio(f.RANGE, _ATR14), "(H - L) / ATR(14)", "ratio", _FLAT),
        "nr7": (f.narrowest(7), "1 if H - L < each of the 6 before else 0", "flag", ""),
        "inside_bar": (f.INSIDE, "1 if H[-1] < H[-2] and L[-1] > L[-2] else 0", "flag", ""),
        "twrc": (
            f.contraction(10, 100, 0.7),
            "R = ATR(10) / ATR(100), k bars with R < 0.7 up to now: clip((0.7 - R) / 0.7, 0, 1) (1 - exp(-k / 10))",
            "share",
            _FLAT,
        ),
    }


def _position(s: Side) -> dict[str, Row]:
    """List where the close stands: z-scores, bands, channels, stops."""
    average = f.mean(f.CLOSE, 20)
    price_z, mom3_z = f.z(f.CLOSE, 20), f.z(f.change(f.CLOSE, 3), 20)
    dist_z = f.score(f.CLOSE, average, f.deviation(f.CHANGE, 20))
    pctb = f.band(-1, 20, 2.0)
    channel = f.highest_before(20), f.lowest_before(20)
    flat = "the bands coincide"
    return {
        "price_z": (price_z, "z of C over 20", "z", ""),
        "price_z_rank": (f.rank(price_z, *s.rank), "rank of price_z", "share", ""),
        "dist_z": (dist_z, "(C - SMA(C, 20)) / (deviation of C - C[-1] over 20 + 1e-12)", "z", ""),
        "dist_z_rank": (f.rank(dist_z, *s.rank), "rank of dist_z", "share", ""),
        "mom3_z": (mom3_z, "z of C - C[-3] over 20", "z", ""),
        "mom3_z_rank": (f.rank(mom3_z, *s.rank), "rank of mom3_z", "share", ""),
        "bb_pctb": (
            pctb,
            "(C - lower) / (upper - lower), bands SMA(C, 20) ± 2 deviations",
            "signed",
            flat,
        ),
        "bb_pctb_rank": (f.rank(pctb, *s.rank), "rank of bb_pctb", "share", flat),
        "bb_high": (f.band(1, 20, 2.0), "(C - upper) / (upper - lower)", "signed", flat),
        "bb_width": (
            f.band_width(20, 2.0),
            "(upper - lower) / SMA(C, 20)",
            "ratio",
            "the SMA is 0 or below",
        ),
        "donchian_state": (
            f.side(f.CLOSE, *channel),
            "1 if C > highest H of the 20 bars before, -1 if C < their lowest L, else 0",
            "state",
            "",
        ),
        "donchian_prox": (
            f.nearest(f.CLOSE, *channel, _ATR14),
            "min(|C - Lo|, |Hi - C|) / ATR(14), Hi and Lo of the 20 bars before",
            "atr+",
            _FLAT,
        ),
        "psar_dist": (
            f.distance(f.CLOSE, f.PSAR, _ATR14),
            "(C - parabolic SAR 0.02, 0.2) / ATR(14)",
            "atr",
            _FLAT,
        ),
    }


def _trend(s: Side) -> dict[str, Row]:
    """List averages, direction, runs and pivots."""
    bears = f.lag(f.run(-1), 1)
    rows: dict[str, Row] = {
        f"ema{n}_above": (f.above(f.CLOSE, f.ema(n)), f"1 if C > EMA({n}) else 0", "flag", "")
        for n in (8, 20, 50, 200)
    }
    return rows | {
        "above_sma200": (
            f.above(f.CLOSE, f.mean(f.CLOSE, 200)),
            "1 if C > SMA(200) else 0",
            "flag",
            "",
        ),
        "ema_slope": (
            f.slope(f.ema(20), _ATR14, 5),
            "(EMA(20) - EMA(20)[-5]) / ATR(14)",
            "atr",
            _FLAT,
        ),
        "ema_spread": (
            f.distance(f.ema(20), f.ema(50), _ATR14, absolute=True),
            "|EMA(20) - EMA(50)| / ATR(14)",
            "atr+",
            _FLAT,
        ),
        "adx14": (f.adx(14), "Wilder ADX(14)", "index", ""),
        "eff_ratio": (
            f.EFFICIENCY,
            "mean over L of 5, 20, 60, weighted 4 : 2 : 1, of |C - C[-L]| / sum of |C - C[-1]| over L; a lookback without history or movement is left out",
            "share",
            "no price moved in any lookback",
        ),
        "bear_count": (bears, "consecutive bars with C < O up to the bar before", "bars", ""),
        "bear_count_rank": (f.rank(bears, *s.rank), "rank of bear_count", "share", ""),
        "bull_count": (
            f.lag(f.run(1), 1),
            "consecutive bars with C > O up to the bar before",
            "bars",
            "",
        ),
        "pivot_state": (
            f.side(f.CLOSE, f.LAST_HIGH, f.LAST_LOW),
            "1 if C > last pivot high, -1 if C < last pivot low, else 0",
            "state",
            "no pivot high or no pivot low yet",
        ),
        "pivot_hh": (
            f.HIGHER_HIGH,
            "1 if last pivot high > the one before and H > last pivot high, else 0",
            "flag",
            "fewer than two pivot highs yet",
        ),
        "zone_dist_atr": (
            f.distance(f.CLOSE, f.LAST_LOW, _ATR14),
            "(C - last pivot low) / ATR(14)",
            "atr",
            f"no pivot low yet, or {_FLAT}",
        ),
    }


def _products() -> dict[str, Row]:
    """List signals times volatility, both on a scale about 0."""
    rows: dict[str, Row] = {}
    for name, node in (("atr_z", f.z(f.atr(5), 252)), ("vol_z", f.z(f.mean(f.VOLUME, 5), 252))):
        missing = "a volume in the window is missing" if name == "vol_z" else ""
        rows[f"ibs_x_{name}"] = (
            f.product(f.IBS, 0.5, 2.0, node),
            f"(2 ibs - 1) {name}",
            "z",
            missing,
        )
        rows[f"rsi5_x_{name}"] = (
            f.product(f.rsi(5), 50.0, 0.02, node),
            f"(rsi5 - 50) / 50 * {name}",
            "z",
            missing,
        )
    return rows


def own_features(s: Side) -> list[Feature]:
    """List the own features of one timeframe.

    Parameters
    ----------
    s : Side

    Returns
    -------
    list of Feature
    """
    rows = _strength(s) | _volatility(s) | _position(s) | _trend(s) | _products()
    return [
        feature_of(
            f"{s.prefix}_{key}", row, s, node=row[0] if s is BAR else elsewhere(row[0], "day")
        )
        for key, row in rows.items()
    ]
