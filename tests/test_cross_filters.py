"""Filters on other instruments, the calendar and ranks: what a back-test trades is what the table says.

The values come from the feature table, which has an oracle of its own; whether a window is full is
counted here, and everything else of the run is the oracle's.
"""

from __future__ import annotations

import re
from datetime import date

import numpy as np
import polars as pl
import pytest
from feed_rows import feed_rows, weekdays
from oracle import Given, run
from parity import DAY_NS, differences, minutes_of, plain_config, sessions_of

from ibs_core.bars import TIMEFRAMES_NS
from ibs_core.catalogue import load_catalogue
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError
from ibs_core.feature_table import tabulate
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.research.sample_data import write_sample
from ibs_core.sessions import load_sessions

MAP = load_contract_map()
CATALOGUE = load_catalogue(MAP)
ROOTS = ("ES", "NQ", "CL", "ZC")
FIRST, LAST = date(2023, 9, 5), date(2024, 5, 31)
FACTS = {
    root: {
        "tick_size": f"{contract.tick_nano}e-9",
        "tick_value_usd": contract.tick_value_usd,
        "order": MAP.order(root),
    }
    for root, contract in MAP.contracts.items()
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Nine months of four minutes an hour; the index has been known for three years."""
    folder = tmp_path_factory.mktemp("bars")
    paths = write_sample(folder, roots=ROOTS, start=FIRST, end=LAST, seed=17)
    for path in paths:
        minute = pl.col("ts_event").dt.minute()
        pl.read_parquet(path).filter(minute.is_in([0, 1, 31, 59])).write_parquet(path)
    for name, first in (("VIX", date(2021, 6, 1)), ("TLT", FIRST)):
        feed_rows(name, weekdays(first, LAST)).write_parquet(folder / f"{name}.parquet")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def settings_of(tmp_path):
    def load(text):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return load_settings([path])

    return load


def ends_of(files, settings):
    """Give for each instrument when its bars of each width, and its sessions, were known."""
    out = {}
    widths = {settings.strategy_of(root).signal_bar for root in settings.symbols}
    for width in widths:
        own = load_settings(
            overrides={"strategy": {"signal_bar": width, "exits": {"flat_by": None}}}
        )
        roots = [root for root in MAP.contracts if root in files]
        source = open_bars([files[root] for root in roots], MAP)
        for table in tabulate(source, own, MAP, names=["bar_ibs"]):
            out[table.root, width] = table.series.closed["end_ns"]
            out[table.root, "day"] = table.series.days["end_ns"]
    for name in set(files) & set(MAP.reference_feeds):
        times = pl.read_parquet(files[name])["ts_event"]
        first, last = (int(edge.timestamp()) * 10**9 for edge in (times[0], times[-1]))
        sessions = load_sessions("equity", first - 9 * DAY_NS, last + 9 * DAY_NS)
        stamps = times.dt.epoch("ns").to_numpy()
        has = np.unique(np.searchsorted(sessions.open_ns, stamps, side="right") - 1)
        ends = sessions.close_ns[has]
        out[name, "day"] = ends[ends <= stamps[-1] + DAY_NS // 1440]
    return out


def reads(name, root):
    """Name the instrument whose bars a feature's window counts, and on which side."""
    if name.startswith("x_"):
        _, other, side, _ = name.split("_")
        return other.upper(), side
    side = name.split("_", 1)[0]
    if "_pair_" in name and "_pair_z" not in name:
        return MAP.get(root).pair, side
    if "vix" in name:
        return "VIX", "day"
    return ("TLT", "day") if "tlt" in name else (root, side)


def given_of(files, settings):
    """Take every filter's feature from the table, and count which windows are full."""
    ends = ends_of(files, settings)
    out = {}
    for root in settings.symbols:
        strategy = settings.strategy_of(root)
        names = list(strategy.filters)
        source = open_bars(list(files.values()), MAP)
        every = tabulate(source, settings, MAP, roots=list(settings.symbols), names=names)
        table = next(each for each in every if each.root == root)  # all: they share one clock
        own = table.series.closed["end_ns"]
        out[root] = {}
        for name, column in zip(names, table.rows.T, strict=True):
            other, side = reads(name, root)
            known = ends[other, strategy.signal_bar if side in {"bar", "cal"} else "day"]
            warm = np.searchsorted(known, own, side="right") >= CATALOGUE[name].full
            values = [None if np.isnan(value) else value for value in column.tolist()]
            out[root][name] = Given(values, warm.tolist())
    return out


def agree(files, settings, **span):
    """Run engine and oracle; the same trades, decisions and counts of every gate."""
    roots = list(settings.symbols)
    source = open_bars(list(files.values()), MAP)
    engine = run_backtest(source, settings, MAP, **span)
    minutes = minutes_of([files[root] for root in roots])
    config = plain_config(settings, roots, **span) | {"given": given_of(files, settings)}
    oracle = run(
        minutes, config, FACTS, {root: sessions_of(root, rows) for root, rows in minutes.items()}
    )
    assert differences(engine, oracle) == []
    for root in roots:
        assert engine.stats["blocked"][root] == oracle.blocked[root]
    entries = engine.decisions.filter(action="entry")
    made = zip(entries["time"].dt.epoch("ns"), entries["symbol"], strict=True)
    assert sorted(made) == sorted(oracle.candidates)
    return engine


RULE = "entry: {windows: [], pivots: none, ibs: [0.0, 0.6]}, exits: {flat_by: null, bars: 3}"


CALENDAR = (
    "cal_dow: {in: [1, 2, 4]}, cal_session: [2, 3], cal_late_month: [0, 0], cal_month: [9, 12], "
    "cal_even_day: {in: [1]}, cal_open_close: {in: [0, 1]}"
)


@pytest.mark.parametrize(
    ("roots", "filters", "blocks"),
    [
        (
            ["ES", "NQ"],
            "bar_pair_ibs: [0, 0.5], bar_pair_z: [-1.5, .inf], day_pair_rsi14: [30, 70]",
            ["warm_up", "bar_pair_ibs", "bar_pair_z", "day_pair_rsi14"],
        ),
        (
            ["ES", "CL"],
            "x_nq_bar_z: [-1, 1], x_nq_day_ret: [-1, .inf], x_zc_bar_ret: [-.inf, .inf]",
            ["warm_up", "x_nq_bar_z", "x_nq_day_ret", "x_zc_bar_ret missing"],
        ),
        (
            ["ES", "ZC"],
            "day_vix: [14, 22], day_vix_rank: [0.1, 0.9], day_vix_regime: {in: [1]}",
            ["day_vix", "day_vix_rank", "day_vix_regime"],
        ),
        (
            ["NQ"],
            "day_tlt_above_sma20: {in: [1]}, x_tlt_day_ret: [-1, 1], day_ret1_x_vix: [-.inf, 20]",
            ["warm_up", "day_tlt_above_sma20", "x_tlt_day_ret", "day_ret1_x_vix"],
        ),
        (
            ["ES", "ZC"],
            CALENDAR,
            ["cal_dow", "cal_session", "cal_late_month", "cal_even_day", "cal_month"],
        ),
        (
            ["ES", "NQ"],
            "bar_rsi2_rank: [0, 0.5], bar_pair_z_rank: [0.2, 1], bar_ibs_prev_rank: [0.1, 0.9]",
            ["warm_up", "bar_rsi2_rank", "bar_pair_z_rank", "bar_ibs_prev_rank"],
        ),
        (
            ["CL", "ZC"],
            "bar_range_atr: [0.5, .inf], bar_price_z: [-.inf, 0.5], day_adx14: [10, .inf]",
            ["warm_up", "bar_range_atr", "bar_price_z"],
        ),
    ],
    ids=["pair", "others", "index", "fund", "calendar", "ranks", "open ends"],
)
def test_a_filter_lets_pass_what_the_table_says_and_counts_the_rest_by_name(
    files, settings_of, roots, filters, blocks
):
    symbols = ", ".join(f"{root}: {{}}" for root in roots)
    settings = settings_of(f"strategy: {{filters: {{{filters}}}, {RULE}}}\nsymbols: {{{symbols}}}")
    engine = agree(files, settings)
    for root in roots:
        assert engine.trades.filter(symbol=root).height > 5
    counts = {}
    for blocked in engine.stats["blocked"].values():
        for gate, count in blocked.items():
            counts[gate] = counts.get(gate, 0) + count
    assert set(blocks) <= counts.keys()


def test_a_missing_value_and_one_out_of_range_are_counted_apart(files, settings_of):
    text = "strategy: {filters: {x_zc_bar_ret: [-0.05, 0.05]}, %s}\nsymbols: {ES: {}}"
    blocked = agree(files, settings_of(text % RULE)).stats["blocked"]["ES"]
    assert blocked["x_zc_bar_ret"] > 100
    assert blocked["x_zc_bar_ret missing"] > 100  # its market is closed


def test_a_filter_counts_only_on_the_dates_that_are_traded(files, settings_of):
    text = "strategy: {filters: {x_nq_bar_sd: [0, .inf], day_vix: [0, 25]}, %s}\nsymbols: {ES: {}}"
    settings = settings_of(text % RULE)
    engine = agree(files, settings, start=date(2024, 2, 1), end=date(2024, 3, 15))
    assert engine.trades.height > 50
    assert "warm_up" not in engine.stats["blocked"]["ES"]


# ---------------------------------------------------------------- windows of others


@pytest.mark.parametrize(
    ("name", "other", "day"),
    [
        ("x_nq_bar_sd", "NQ", False),
        ("bar_pair_rsi14", "NQ", False),
        ("x_nq_day_ret", "NQ", True),
        ("day_vix_median", "VIX", True),
        ("day_tlt_above_sma20", "TLT", True),
    ],
)
def test_nothing_is_traded_before_the_others_window_is_full(
    files, settings_of, tmp_path, name, other, day
):
    starts = pl.datetime(2023, 11, 7, 18, time_zone="UTC")
    late = tmp_path / f"{other}.parquet"
    pl.read_parquet(files[other]).filter(pl.col("ts_event") >= starts).write_parquet(late)
    some = {"ES": files["ES"], other: late}
    text = "strategy: {filters: {%s: [-.inf, .inf]}, %s}\nsymbols: {ES: {}}"
    settings = settings_of(text % (name, RULE))
    engine = agree(some, settings)
    ends = ends_of(some, settings)[other, "day" if day else "1h"]
    full = int(ends[CATALOGUE[name].full - 1])
    first = int(engine.decisions["time"].dt.epoch("ns")[0])
    assert full <= first < full + 4 * DAY_NS
    own = ends_of(some, settings)["ES", "1h"]
    assert engine.stats["blocked"]["ES"]["warm_up"] <= (own < full).sum()
    missing = engine.stats["blocked"]["ES"].get(f"{name} missing", 0)
    assert missing <= 1  # the last session of the feed has not closed


def test_the_longest_window_of_all_filters_decides(files, settings_of):
    text = "strategy: {filters: {%s}, %s}\nsymbols: {ES: {}}"
    firsts = {}
    wide = "x_nq_bar_z: [-.inf, .inf]"
    for filters in ("x_nq_bar_ret: [-.inf, .inf]", wide, f"{wide}, x_cl_day_sd: [0, .inf]"):
        engine = agree(files, settings_of(text % (filters, RULE)))
        times = engine.decisions["time"].dt.epoch("ns")
        firsts[filters] = int(times[0]) if len(times) else None
    small, large, never = firsts.values()
    assert small < large
    assert never is None  # nine months have no 253 sessions


# ---------------------------------------------------------------- filters that cannot be


@pytest.mark.parametrize(
    ("filters", "absent"),
    [
        ("x_tlt_day_ret: [-1, 1]", "TLT"),
        ("day_vix: [0, 20], day_tlt_above_sma20: {in: [1]}", "TLT, VIX"),
        ("bar_pair_ibs: [0, 0.5]", "NQ"),
        ("x_cl_bar_z: [0, 1], x_zb_day_ret: [0, 1], cal_dow: [1, 2]", "CL, ZB"),
    ],
)
def test_a_filter_on_bars_that_are_not_there_is_refused_by_name(
    files, settings_of, filters, absent
):
    settings = settings_of(f"strategy: {{filters: {{{filters}}}}}\nsymbols: {{ES: {{}}}}")
    with pytest.raises(ConfigError, match=f"filters of ES that read {absent}:") as caught:
        run_backtest(open_bars([files["ES"]], MAP), settings, MAP)
    assert "found bars of ES" in str(caught.value)


def test_a_filter_on_the_pair_of_a_symbol_without_one_is_refused(files, settings_of):
    text = "strategy: {filters: {bar_pair_z: [0, 1]}, exits: {flat_by: null}}\nsymbols: {ZC: {}}"
    with pytest.raises(ConfigError, match=r"ZC.*no pair.*bar_pair_z"):
        run_backtest(open_bars([files["ZC"]], MAP), settings_of(text), MAP)


@pytest.mark.parametrize(
    "text",
    [
        "bar_ibs: [3, 4]",
        "day_rsi14: [101, .inf]",
        "bar_range_atr: [-.inf, -0.1]",
        "cal_dow: {in: [0, 8]}",
        "x_nq_bar_sd: [-2, -1]",
        "day_vix: [-3, -1]",
        "bar_pair_ibs_rank: [1.01, 2]",
        "bar_nr7: {in: [2]}",
    ],
)
def test_a_range_that_no_value_can_meet_is_refused(files, settings_of, text):
    name = text.split(":")[0]
    with pytest.raises(ConfigError, match=re.escape(f"strategy.filters.{name}")) as caught:
        run_backtest(
            open_bars([files["ES"], files["NQ"]], MAP),
            settings_of(f"strategy: {{filters: {{{text}}}}}"),
            MAP,
        )
    assert CATALOGUE[name].unit in str(caught.value)


@pytest.mark.parametrize("text", ["[2, .inf]", "[-.inf, 2]", "[-.inf, .inf]"])
def test_an_open_end_is_as_good_as_a_number_beyond_all_values(files, settings_of, text):
    wide = text.replace("-.inf", "-999").replace(".inf", "999")
    runs = []
    for band in (text, wide):
        settings = settings_of(
            f"strategy: {{filters: {{x_nq_bar_z: {band}}}, {RULE}}}\nsymbols: {{ES: {{}}}}"
        )
        runs.append(run_backtest(open_bars(list(files.values()), MAP), settings, MAP))
    assert runs[0].trades.equals(runs[1].trades)
    assert runs[0].stats["blocked"] == runs[1].stats["blocked"]
    assert runs[0].trades.height > 5


# ---------------------------------------------------------------- symbols beside one another


def test_symbols_with_bars_of_their_own_widths_give_what_each_gives_alone(files, settings_of):
    own = {
        "ES": "filters: {x_nq_bar_ret: [-0.2, 0.2], x_cl_bar_ret: [-0.5, 0.5], bar_rsi5: [0, 60]}",
        "NQ": "signal_bar: 15m, filters: {x_es_bar_ret: [-.inf, 0.05], bar_pair_ibs: [0, 0.4]}",
        "CL": "signal_bar: 30m, filters: {x_es_bar_ret: [-0.1, 0.1], x_nq_bar_ret: [-.inf, 0.1]}",
    }
    found = {}
    for roots in (("ES", "NQ", "CL"), ("ES",), ("NQ",), ("CL",)):
        symbols = ", ".join(f"{root}: {{strategy: {{{own[root]}}}}}" for root in roots)
        engine = agree(files, settings_of(f"strategy: {{{RULE}}}\nsymbols: {{{symbols}}}"))
        for root in roots:
            trades = engine.trades.filter(symbol=root)
            decisions = engine.decisions.filter(symbol=root)
            found.setdefault(root, []).append((trades, decisions, engine.stats["blocked"][root]))
    for (trades, decisions, blocked), alone in found.values():
        assert trades.height > 50
        assert trades.equals(alone[0])
        assert decisions.equals(alone[1])
        assert blocked == alone[2]


def test_a_symbol_that_is_only_read_is_not_traded(files, settings_of):
    text = "strategy: {filters: {x_nq_bar_ret: [-0.1, 0.1]}, %s}\nsymbols: {ES: {}}"
    engine = run_backtest(open_bars(list(files.values()), MAP), settings_of(text % RULE), MAP)
    assert set(engine.trades["symbol"]) == {"ES"}
    assert set(engine.stats["blocked"]) == set(engine.stats["data"]) == set(engine.bars) == {"ES"}


def test_bars_that_no_filter_reads_change_nothing(files, settings_of):
    text = "strategy: {filters: {x_nq_bar_ret: [-0.1, 0.1], day_vix: [0, 30]}, %s}"
    settings = settings_of((text % RULE) + "\nsymbols: {ES: {}}")
    few = [files[name] for name in ("ES", "NQ", "VIX")]
    runs = [
        run_backtest(open_bars(paths, MAP), settings, MAP) for paths in (list(files.values()), few)
    ]
    assert runs[0].trades.equals(runs[1].trades)
    assert runs[0].stats["blocked"] == runs[1].stats["blocked"]


def test_the_width_of_the_readers_bar_is_the_width_that_is_read(files, settings_of):
    """A bar of 15 minutes of the other counts for a reader of 15 minutes, not its hour."""
    text = "strategy: {signal_bar: %s, filters: {x_es_bar_ret: [0, .inf]}, %s}\nsymbols: {NQ: {}}"
    assert TIMEFRAMES_NS["15m"] < TIMEFRAMES_NS["1h"]
    counts = {}
    for width in ("15m", "1h"):
        engine = agree(files, settings_of(text % (width, RULE)))
        counts[width] = engine.stats["blocked"]["NQ"]["x_es_bar_ret"]
    assert counts["15m"] > counts["1h"] > 100


def test_what_a_reader_must_know_of_the_bars_is_told_once(files, settings_of, tmp_path):
    """Bars that are traded at one width and read at another are looked at twice."""
    hour = pl.col("ts_event").dt.hour()
    hole = (pl.col("ts_event").dt.date() == date(2024, 2, 6)) & hour.is_between(8, 13)
    path = tmp_path / "ES.parquet"
    pl.read_parquet(files["ES"]).filter(~hole).write_parquet(path)
    text = """
    symbols: {ES: {}, NQ: {strategy: {signal_bar: 15m, filters: {x_es_bar_ret: [-1, 1]}}}}
    """
    outcome = run_backtest(open_bars([path, files["NQ"]], MAP), settings_of(text), MAP)
    told = [line for line in outcome.warnings if line.startswith("ES: ")]
    assert len(told) == 1
    assert "no bar for over an hour" in told[0]
