"""What the reference system calls features, and what they are here.

Its names are titles of report columns, flags, and either of them in snake case; a bundle may hold any.
The table gives ours; what a name alone cannot tell (that the values were others) is told beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ibs_core.catalogue import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ibs_core.contracts import ContractMap

__all__ = ["MARKS", "NAMES", "Column", "feature_of_name", "read_columns"]

MARKS: Final = {
    "†": "called daily and served from hourly bars; it was probably trained on daily ones, as here",
    "‡": "trained by one formula (a product of ranks where there were ranks), served by another",
    "§": "the name suggests the pair; the reference served the own symbol, as here",
    "∅": "never computed when the reference served: its model always saw 0",
    "¶": "spelt so that serving never found it: its model always saw 0 (3 for N7 and inside bar)",
    "=": "the same feature as one before it, under another name",
}
"""What the marks of the reference's catalogue mean."""

_NOT_HERE: Final = {
    "bar_zone_atr": "ATR in price units, under the name of a zone; bar_zone_dist_atr is the distance to one"
}
"""Features of the reference that this system leaves out, and why."""

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "bar_ibs": ("ibs", "enableIBSEntry", "enableIBSExit"),
    "bar_ibs_rank": ("ibs_pct", "ibs_percentile"),
    "bar_ibs_prev": ("prev_ibs", "enablePrevIBS"),
    "bar_ibs_prev_rank": ("prev_ibs_pct",),
    "day_ibs": ("daily_ibs", "enableDailyIBS"),
    "day_ibs_rank": ("daily_ibs_pct", "daily_ibs_percentile"),
    "day_ibs_prev": ("prev_daily_ibs", "enablePrevIBSDaily", "Prev IBS Daily"),
    "bar_pair_ibs": ("pair_ibs", "enablePairIBS"),
    "bar_pair_ibs_rank": ("pair_ibs_pct", "pair_ibs_percentile"),
    "day_pair_ibs": ("pair_ibs_daily",),
    "bar_pair_z": ("pair_z", "enablePairZ"),
    "bar_pair_z_rank": ("pair_z_pct",),
    "day_pair_z": ("pair_z_score_daily",),
    "bar_pair_rsi14": ("rsi2", "enableRSIEntry2"),
    "bar_pair_rsi14_rank": ("rsi2_pct", "secondary_rsi_percentile"),
    "bar_ret1_pct": ("prev_bar_pct", "enablePrevBarPct", "Prev Bar %"),
    "bar_ret1_rank": ("prev_bar_pct_pct",),
    "day_ret1_pct": ("prev_day_pct", "enablePrevDayPct"),
    "day_ret1_rank": ("prev_day_pct_pct",),
    "bar_ret4_pct": ("enable4BarRet",),
    "day_ret4_pct": ("enable4BarRetD",),
    "bar_drift50": ("hourly_directional_draft", "hourly_directional_drift", "enableDirDrift"),
    "day_drift20": ("daily_directional_drift", "enableDirDriftD"),
    "bar_close_px": ("price_usd",),
    "bar_above_prev_close": ("enableAboveOpen",),
    "bar_rsi5": ("rsi", "enableRSIEntry"),
    "bar_rsi5_rank": ("rsi_pct",),
    "bar_rsi2": ("rsi_len2", "enableRSIEntry2Len"),
    "bar_rsi2_rank": ("rsi_len2_pct", "rsi_len_2_percentile"),
    "bar_rsi14": ("rsi_len14", "rsi_len_14", "enableRSIEntry14Len"),
    "day_rsi5": ("daily_rsi", "enableDailyRSI", "secondary_rsi_entry_daily"),
    "day_rsi5_rank": ("daily_rsi_pct",),
    "day_rsi2": ("daily_rsi2", "daily_rsi2_len", "daily_rsi2_pct", "enableDailyRSI2Len"),
    "day_rsi14": ("daily_rsi14", "daily_rsi_len_14", "Daily RSI Len 14", "enableDailyRSI14Len"),
    "bar_atr_z": ("atrz", "enableATRZ"),
    "bar_atr_z_rank": ("atrz_pct", "atr_z_percentile"),
    "day_atr_z": ("datrz", "enableDATRZ"),
    "day_atr_z_rank": ("datrz_pct", "daily_atr_z_percentile"),
    "bar_vol_z": ("volz", "enableVolZ"),
    "bar_vol_z_rank": ("volz_pct", "volume_z_percentile"),
    "day_vol_z": ("dvolz", "enableDVolZ"),
    "day_vol_z_rank": ("dvolz_pct", "daily_volume_z_percentile"),
    "bar_atr_pctile": (
        *("hourly_atr_percentile", "enableHourlyATRPercentile"),
        "Hourly ATR Percentile",
    ),
    "day_atr_pctile": ("daily_atr_percentile", "enableDailyATRPercentile"),
    "bar_tr_atr": ("tratr", "enableTRATR"),
    "bar_tr_atr_rank": ("tratr_pct", "tr_atr_percentile"),
    "bar_range_atr": ("range_compression_atr", "enableRangeCompressionATR"),
    "day_range_atr": ("daily_range_compression", "enableDailyRangeCompression"),
    "bar_nr7": ("enableN7Bar", "N7 Bar"),
    "bar_inside_bar": ("enableInsideBar",),
    "bar_twrc": ("enableTWRC",),
    "bar_zone_atr": ("useSupplyZone",),
    "bar_price_z": ("z_score", "enableZScore"),
    "bar_price_z_rank": ("z_score_pct",),
    "day_price_z": ("price_z_score_daily",),
    "bar_dist_z": ("dist_z", "enableDistZ"),
    "bar_dist_z_rank": ("dist_z_pct",),
    "day_dist_z": ("distance_z_entry_daily",),
    "bar_mom3_z": ("mom3_z", "enableMom3"),
    "bar_mom3_z_rank": ("mom3_z_pct", "momentum_z_percentile"),
    "day_mom3_z": ("momentum_z_entry_daily",),
    "bar_bb_pctb": ("bb", "enableBB"),
    "bar_bb_pctb_rank": ("bb_pct",),
    "bar_bb_high": ("bb_high", "enableBBHigh", "Bollinger High"),
    "day_bb_high": ("bb_high_d", "enableBBHighD", "Bollinger High Daily"),
    "bar_bb_width": ("enableBBW",),
    "day_bb_width": ("bollinger_bandwidth_daily",),
    "day_donchian_state": ("donch", "enableDonch"),
    "bar_donchian_prox": ("donchian_proximity_to_nearest_band", "enableDonchProx"),
    "day_donchian_prox": ("donchian_proximity_daily_to_nearest_band",),
    "bar_psar_dist": ("parabolic_sar_distance", "enablePSAR"),
    "day_psar_dist": ("parabolic_sar_distance_daily",),
    "bar_ema8_above": ("enableEMA8", "EMA 8"),
    "bar_ema20_above": ("enableEMA20", "EMA 20"),
    "bar_ema50_above": ("enableEMA50",),
    "bar_ema200_above": ("enableEMA200",),
    "day_ema20_above": ("enableEMA20D",),
    "day_ema50_above": ("enableEMA50D",),
    "day_ema200_above": ("enableEMA200D",),
    "bar_ema_slope": ("ma_slope_fast", "enableMASlope"),
    "day_ema_slope": ("daily_slope_fast", "enableDailySlope"),
    "bar_ema_spread": ("ma_spread_ribbon_tightness", "enableMASpread"),
    "day_ema_spread": ("ma_spread_daily_ribbon_tightness",),
    "bar_adx14": ("adx_value", "enableADX"),
    "day_adx14": ("daily_adx_value", "enableDADX"),
    "bar_eff_ratio": ("spiral_efficiency_ratio", "enableSpiralER"),
    "day_eff_ratio": ("spiral_efficiency_ratio_daily",),
    "bar_bear_count": ("bear_count", "enableBearCount"),
    "bar_bear_count_rank": ("bear_count_pct",),
    "bar_bull_count": ("enableBullishBarCount",),
    "bar_pivot_state": ("fractalPivot",),
    "day_above_sma200": ("sma200",),
    "day_tlt_above_sma20": ("tlt_sma20",),
    "day_vix": ("value", "useValFilter"),
    "day_vix_rank": ("value_pct",),
    "day_vix_regime": ("enableVixReg",),
    "day_vix_median": ("vix_med",),
    "cal_dow": ("allowedDOW", "enableDOW"),
    "cal_month": ("allowedMon", "enableMonth"),
    "cal_late_month": ("domDay", "enableDOM"),
    "cal_week_start": ("enableBegWeek",),
    "cal_even_day": ("enableEvenOdd",),
    "cal_session": ("enableSessions",),
    "cal_open_close": ("open_close", "enableOpenClose"),
    "bar_ibs_x_atr_z": ("ibsxatrz",),
    "bar_ibs_x_vol_z": ("ibsxvolz",),
    "bar_rsi5_x_atr_z": ("rsixatrz",),
    "bar_rsi5_x_vol_z": ("rsixvolz",),
    "day_ret1_x_vix": ("prev_day_pctxvalue",),
    "day_rsi5_x_vix": ("daily_rsixvalue",),
}
"""The reference's names by ours; those of other instruments follow a rule instead."""

_OTHERS: Final = frozenset(
    "ES NQ RTY YM GC SI HG PL 6A 6B 6C 6E 6J 6M 6N 6S CL NG TLT VIX".lower().split()
)
_ACROSS: Final = re.compile(
    r"(?P<root>\w+?)_(?P<side>hourly|daily)_(?P<what>z_score|z_pipeline|return(?:_pipeline)?)"
)
_ACROSS_FLAG: Final = re.compile(
    r"enable(?P<root>\w+?)(?P<what>zscore|return)(?P<side>hour|day)", re.ASCII
)
_WHAT: Final = {"z_score": "z", "zscore": "z", "z_pipeline": "sd"}

_SERVED_HOURLY: Final = frozenset(
    {"day_pair_ibs", "day_pair_z", "day_price_z", "day_dist_z", "day_mom3_z", "day_bb_width"}
    | {"day_donchian_prox", "day_psar_dist", "day_ema_spread", "day_eff_ratio"}
)
_NEVER_SERVED: Final = frozenset({"bar_mom3_z", "bar_mom3_z_rank", "day_mom3_z", "day_rsi5_x_vix"})
_RSI_PRODUCTS: Final = {"bar_rsi5_x_atr_z": "atr_z", "bar_rsi5_x_vol_z": "vol_z"}

_DIFFERS: Final = (
    (r"\w+_rank", "ranked there among all values since the start, here among the last ones"),
    (r"x_\w+_z", "there (C - SMA(C, 20)) / sd(C, 252), here z of the log return over 252"),
    (r"x_\w+_sd", "there of prices, here of log returns in %"),
    (r"x_tlt_\w+|day_tlt_\w+", "ZB stood for TLT when served"),
    (r"bar_ibs_x_\w+", "there ibs * z or a product of ranks, here (2 ibs - 1) z"),
    (r"bar_rsi5_x_\w+", "there rsi * z or a product of ranks, here (rsi5 - 50) / 50 * z"),
    (r"day_\w+_x_vix", "there a product of ranks where there were ranks"),
    (r"(bar|day)_(ema_spread|psar_dist)", "there in price units, here in ATR"),
    (r"bar_(pair_)?rsi\d+", "there the average loss is of the bar before, and without one it is 0"),
    (r"(bar|day)_donchian_prox", "there over the ATR of the bar before"),
    (r"bar_nr7|bar_inside_bar", "coded 1, 2 and 3 there, 1 and 0 here"),
    (r"\w+_above|bar_above_prev_close|day_vix_regime", "coded 1 and 2 there, 1 and 0 here"),
    (r"cal_late_month|cal_week_start|cal_even_day", "coded 1 and 2 there, 1 and 0 here"),
    (r"bar_pivot_state", "coded 1, 3 and 2 there, 1, -1 and 0 here"),
    (r"day_donchian_state", "coded 1, 2 and 3 there, 1, -1 and 0 here; its channel held the day"),
    (r"cal_(dow|month|late_month|week_start|even_day)", "there of the bar's date, here of trade's"),
)
"""What is computed otherwise, by our name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a model of the reference.

    Attributes
    ----------
    name : str
        As the reference spells it.
    feature : str or None
        Ours; None where there is none.
    why : str
        Why there is none.
    marks : str
        Of `MARKS`.
    differs : str
        What ours computes otherwise; empty where the formula is the same.
    """

    name: str
    feature: str | None
    why: str
    marks: str
    differs: str


def feature_of_name(name: str) -> str | None:
    """Translate a name of the reference.

    Parameters
    ----------
    name : str
        Title, flag, or snake case of either; ``__1`` after it tells a repeated title.

    Returns
    -------
    str or None
        The canonical name, which the catalogue need not hold; None for a name that is unknown.
    """
    key = _key(re.sub(r"__\d+$", "", name))
    found = _BY_KEY.get(key)
    across = _ACROSS.fullmatch(key) or _ACROSS_FLAG.fullmatch(key)
    if found is not None or across is None or across["root"] not in _OTHERS:
        return found
    side = "bar" if across["side"].startswith("hour") else "day"
    return f"x_{across['root']}_{side}_{_WHAT.get(across['what'], 'ret')}"


def read_columns(names: Sequence[str], contracts: ContractMap) -> tuple[Column, ...]:
    """Say what the columns of a model are here.

    Parameters
    ----------
    names : sequence of str
        All of one model: whether a product was served depends on the others.
    contracts : ContractMap

    Returns
    -------
    tuple of Column
        In the order of the names.
    """
    catalogue = load_catalogue(contracts)
    features = [feature_of_name(name) for name in names]
    columns = []
    for i, (name, feature) in enumerate(zip(names, features, strict=True)):
        if feature is None:
            columns.append(Column(name, None, "no name that is known of the reference", "", ""))
            continue
        why = ""
        if feature not in catalogue:
            absent = "not in the catalogue that this contract map allows"
            why = _NOT_HERE.get(feature, f"{feature} is {absent}")
        marks = _marks(name, feature, frozenset(filter(None, features)))
        marks += "=" if feature in features[:i] else ""
        differs = [text for pattern, text in _DIFFERS if re.fullmatch(pattern, feature)]
        columns.append(Column(name, None if why else feature, why, marks, "; ".join(differs)))
    return tuple(columns)


def _key(name: str) -> str:
    """Spell a name as the table's keys: snake case, and flags without a separator."""
    key = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
    return key.replace("_", "") if key.startswith(("enable", "use")) else key


_BY_KEY: Final = {_key(name): feature for feature, names in NAMES.items() for name in names}


def _marks(name: str, feature: str, together: Collection[str]) -> str:
    """List the marks that the reference's own way of serving gives a column."""
    served = not (feature in _NEVER_SERVED or "vix" in feature or name == "daily_rsi2_pct")
    if feature in _RSI_PRODUCTS:
        z = _RSI_PRODUCTS[feature]
        asked = {f"bar_{z}", f"bar_{z}_rank", f"bar_ibs_x_{z}"}
        served = not {"bar_rsi5", "bar_rsi5_rank"}.isdisjoint(together) and bool(
            asked & {*together}
        )
    if feature == "day_ret1_x_vix" or name == "enableMom3":
        served = True
    found = {
        "†": feature in _SERVED_HOURLY,
        "‡": "_x_" in feature and feature != "day_rsi5_x_vix",
        "§": name == "secondary_rsi_entry_daily",
        "∅": not served,
        "¶": re.search(r"[A-Z ]", name) is not None,
    }
    return "".join(mark for mark, holds in found.items() if holds)
