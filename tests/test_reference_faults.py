"""One test for each fault of the replaced system that a back-test can have: this one has none of them.

The names F1, F2, … number the faults; each test says what went wrong and shows that it cannot here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import naive
import numpy as np
import polars as pl
import pytest
from feed_rows import feed_rows, weekdays
from guard_book import Book, minutes_in_order
from real_data import SHARED, real

from ibs_core.backtest import trade
from ibs_core.bars import DAY_NS
from ibs_core.catalogue import load_catalogue
from ibs_core.config import Costs, load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.engine import Engine
from ibs_core.errors import ConfigError, DataError
from ibs_core.feature_table import tabulate
from ibs_core.feeds import lay_beside
from ibs_core.kernels.graph import trace_many
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.portfolio import BLOCKS, CANCEL, ENTRY, EXIT, FLATTEN, INPUT, TAKEN
from ibs_core.positions import FLAT, PORTFOLIO
from ibs_core.reading import feed_of
from ibs_core.research.sample_data import write_sample
from ibs_core.sessions import load_sessions, session_index
from ibs_core.signals import CANDIDATE, SIGNAL, observe_many
from ibs_core.snapshot import pack, unpack
from ibs_core.universe import Universe
from ibs_core.wiring import memory_of, new_state, wire_side

CONTRACTS = load_contract_map()
CATALOGUE = load_catalogue(CONTRACTS)
CHICAGO = ZoneInfo("America/Chicago")
HOUR_NS = 3600 * 10**9
MINUTE_NS = 60 * 10**9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "CL"], start=date(2024, 2, 20), end=date(2024, 4, 12), seed=5)
    return out


FIRST, LAST = date(2023, 1, 3), date(2024, 5, 15)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Sixteen months of ES and NQ, the volatility index and the bond fund."""
    out = tmp_path_factory.mktemp("long")
    write_sample(out, roots=["ES", "NQ"], start=FIRST, end=LAST, seed=8)
    for name in ("VIX", "TLT"):
        feed_rows(name, weekdays(FIRST, LAST)).write_parquet(out / f"{name}.parquet")
    return out


@pytest.fixture(scope="module")
def long_table(long):
    return table_of(long)


@pytest.fixture
def settings_of(tmp_path):
    def load(text=""):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return load_settings([path])

    return load


def outcome_of(path, settings, **options):
    return run_backtest(open_bars([path], CONTRACTS), settings, CONTRACTS, **options)


def series_of(path, settings, root="ES"):
    traded = trade(open_bars([path], CONTRACTS), settings, CONTRACTS)
    return next(item for item in traded.series if item.root == root)


def table_of(paths, settings=None, *, root="ES", names=None):
    source = open_bars(paths if isinstance(paths, list) else [paths], CONTRACTS)
    (table,) = tabulate(source, settings or load_settings(), CONTRACTS, roots=[root], names=names)
    return table


def columns_of(table):
    return dict(zip(table.names, table.rows.T, strict=True))


def last_session(table):
    """Give at each signal bar the place of the last session that has closed, -1 before the first."""
    bars, days = table.series.closed, table.series.days
    return np.searchsorted(days["end_ns"], bars["end_ns"], side="right") - 1


def write(frame, tmp_path, name="bars.parquet"):
    frame.write_parquet(tmp_path / name)
    return tmp_path / name


def test_f1_bars_of_two_expiries_are_never_mixed(folder, settings_of, tmp_path):
    """A parent subscription merged every expiry and spread of a root into one bar."""
    front = pl.read_parquet(folder / "ES.parquet").filter(pl.col("symbol") == "ESH24")
    back = front.with_columns(
        *(pl.col(name) + 500.0 for name in ("open", "high", "low", "close")),
        symbol=pl.lit("ESM24"),
        volume=pl.col("volume") // 10,
    )
    mixed = write(pl.concat([front, back]).sort("ts_event"), tmp_path)
    alone = write(front, tmp_path, "front.parquet")
    both = series_of(mixed, settings_of())
    only = series_of(alone, settings_of())
    assert (
        both.bars[["start_ns", "high", "low", "close"]].tolist()
        == only.bars[["start_ns", "high", "low", "close"]].tolist()
    )
    spread = write(front.with_columns(symbol=pl.lit("ESH24-ESM24")), tmp_path, "spread.parquet")
    with pytest.raises(DataError):
        outcome_of(spread, settings_of())


def test_f2_no_minute_is_dropped_in_silence(folder, settings_of):
    """A full queue dropped the newest bar."""
    n_rows = pl.scan_parquet(folder / "ES.parquet").select(pl.len()).collect().item()
    series = series_of(folder / "ES.parquet", settings_of())
    assert series.n_minutes == n_rows == series.bars["n_minutes"].sum()


def test_f3_each_minute_counts_once_and_each_bar_comes_once(folder, settings_of):
    """The current minute was added at every poll, and one-minute "hourly" bars were emitted."""
    series = series_of(folder / "ES.parquet", settings_of())
    volume = pl.scan_parquet(folder / "ES.parquet").select(pl.len()).collect().item()
    assert series.bars["n_minutes"].sum() == volume
    assert (np.diff(series.bars["end_ns"]) > 0).all()
    assert (np.diff(series.days["end_ns"]) > 0).all()
    whole = series.bars[(series.bars["end_ns"] - series.bars["start_ns"]) == HOUR_NS]
    assert np.median(whole["n_minutes"]) == 60


def test_f4_an_hour_is_half_open_and_labelled_by_its_start(folder, settings_of):
    """Live hours held the minutes :01 to :00 and bore their end; research bore the start."""
    bars = series_of(folder / "ES.parquet", settings_of()).bars
    assert ((bars["first_ns"] >= bars["start_ns"]) & (bars["last_ns"] < bars["end_ns"])).all()
    local = [datetime.fromtimestamp(ns / 1e9, CHICAGO) for ns in bars["start_ns"][:200]]
    assert {moment.minute for moment in local} == {0}


def test_f5_one_daily_bar_a_session_in_winter_and_summer_time(folder, settings_of):
    """Days were cut at 23:00 UTC and again at midnight, whatever the season."""
    days = series_of(folder / "ES.parquet", settings_of()).days
    opens = {datetime.fromtimestamp(ns / 1e9, CHICAGO).strftime("%H:%M") for ns in days["start_ns"]}
    assert opens == {"17:00"}
    utc = {int(ns // HOUR_NS % 24) for ns in days["start_ns"]}
    assert utc == {22, 23}  # the clock changed on 10 March
    assert len(np.unique(days["session"])) == len(days)


def test_f6_windows_are_chicago_time_before_and_after_the_clock_change(folder, settings_of):
    """UTC live, Eastern bars and Chicago windows disagreed by hours."""
    text = """
    strategy:
      entry: {windows: [["09:00", "10:00"]], ibs: [0.0, 1.0], pivots: none}
      exits: {bars: 1}
    """
    trades = outcome_of(folder / "ES.parquet", settings_of(text)).trades
    local = trades["entry_time"].dt.convert_time_zone("America/Chicago")
    assert set(local.dt.hour()) == {10}  # the 09:00 bar is known at 10:00 and fills there
    assert set(trades["entry_time"].dt.hour()) == {15, 16}


def test_f7_nothing_is_made_up_for_quiet_minutes_nights_or_weekends(folder, settings_of, tmp_path):
    """Fillers wrote flat bars that no market printed."""
    frame = pl.read_parquet(folder / "ES.parquet")
    hour = frame["ts_event"].dt.convert_time_zone("America/Chicago").dt.hour()
    holed = write(frame.filter(~hour.is_in([2, 3])), tmp_path)
    bars = series_of(holed, settings_of()).bars
    hours = {datetime.fromtimestamp(ns / 1e9, CHICAGO).hour for ns in bars["start_ns"]}
    assert hours.isdisjoint({2, 3, 16})
    assert (bars["n_minutes"] > 0).all()


def test_f8_late_and_repeated_minutes_change_nothing_and_contradictions_are_refused(
    folder, settings_of, tmp_path
):
    """Late and duplicate bars were accepted, and rolls left mixed contracts in a bar."""
    frame = pl.read_parquet(folder / "ES.parquet")
    clean = outcome_of(folder / "ES.parquet", settings_of())
    late = pl.concat([frame.filter(pl.int_range(pl.len()) != 5000), frame[5000:5001], frame[70:90]])
    mended = outcome_of(write(late, tmp_path), settings_of())
    assert mended.trades.equals(clean.trades)
    assert mended.warnings
    twice = pl.concat([frame, frame[50:51].with_columns(pl.col("high") + 5.0)])
    with pytest.raises(DataError, match="contradict"):
        outcome_of(write(twice, tmp_path), settings_of())
    bars = series_of(folder / "ES.parquet", settings_of()).bars
    seams = bars[bars["seam_ns"] > 0]
    assert len(seams) == 1
    assert (bars["first_ns"][bars["contract"] == 1] >= seams["seam_ns"][0]).all()


def test_f11_a_daily_value_is_unseen_until_its_session_closes(folder, settings_of, tmp_path):
    """Research saw each day's final high, low and close at its open."""
    text = "strategy: {filters: {day_ibs: [0.0, 0.5], day_rsi2: [0, 60]}, entry: {pivots: none}}"
    frame = pl.read_parquet(folder / "ES.parquet")
    cut = datetime(2024, 3, 27, 17, 0, tzinfo=UTC)  # noon in Chicago, mid-session
    later = pl.col("ts_event") >= cut
    prices = ("open", "high", "low", "close")
    other = frame.with_columns(
        *(pl.when(later).then(pl.col(name) * 1.25).otherwise(name) for name in prices)
    )
    decided = []
    for bars in (frame, other, frame.filter(~later)):
        decisions = outcome_of(write(bars, tmp_path), settings_of(text)).decisions
        decided.append(decisions.filter(pl.col("time") < cut))
    assert decided[0].height > 20
    assert decided[0].equals(decided[1])
    assert decided[0].equals(decided[2])


def test_f10_the_bond_fund_is_never_a_bond_future(settings_of, tmp_path):
    """TLT was replaced by ZB when it traded live."""
    span = {"start": date(2024, 1, 2), "end": date(2024, 3, 8)}
    write_sample(tmp_path, roots=["ES", "ZB"], **span, seed=4)
    text = "strategy: {filters: {%s: [-10, 10]}, entry: {pivots: none, ibs: [0.0, 1.0]}}"
    for name in ("x_tlt_day_ret", "x_tlt_bar_ret", "day_tlt_above_sma20"):
        with pytest.raises(ConfigError, match=r"TLT.*add the bars") as caught:
            outcome_of(tmp_path, settings_of(text % name))
        assert "ES, ZB" in str(caught.value)
    fund = feed_rows("TLT", weekdays(span["start"], span["end"]))
    fund.write_parquet(tmp_path / "TLT.parquet")
    here = table_of(tmp_path, names=["x_tlt_day_ret", "x_zb_day_ret"]).rows
    (tmp_path / "ZB.parquet").unlink()
    without = table_of(tmp_path, names=["x_tlt_day_ret"]).rows[:, 0]
    assert np.isfinite(without).sum() > 900
    assert here[:, 0].tobytes() == without.tobytes()
    assert (here[:, 0] != here[:, 1]).all()
    assert outcome_of(tmp_path, settings_of(text % "x_tlt_day_ret")).trades.height > 50


def test_f10_a_micro_is_traded_on_the_features_of_its_full_size(settings_of, tmp_path):
    """Live volumes were the micro's, those of training the full-size contract's."""
    span = {"start": date(2024, 1, 2), "end": date(2024, 3, 8)}
    write_sample(tmp_path / "both", roots=["ES", "MES"], **span, seed=4)
    text = """
    strategy: {filters: {bar_vol_z: [0, .inf]}, entry: {pivots: none, ibs: [0.0, 0.5]}}
    symbols: {ES: {execute: %s}}
    """
    micro, full = settings_of(text % "MES"), settings_of(text % "ES")
    here = outcome_of(tmp_path / "both", micro)
    there = outcome_of(tmp_path / "both" / "ES.parquet", full)
    assert here.trades["instrument"].str.starts_with("MES").all()
    assert here.trades.height == there.trades.height > 10
    times = ["entry_time", "exit_time", "entry_price", "exit_price"]
    assert here.trades.select(times).equals(there.trades.select(times))
    assert here.stats["blocked"] == there.stats["blocked"]
    names = ["bar_vol_z", "day_ret1_pct", "bar_ibs_x_vol_z"]
    rows = table_of(tmp_path / "both", micro, names=names).rows
    assert rows.tobytes() == table_of(tmp_path / "both" / "ES.parquet", names=names).rows.tobytes()
    own = table_of(tmp_path / "both", root="MES", names=names).rows
    assert rows.tobytes() != own.tobytes()


def test_f12_all_daily_values_come_from_one_session(long_table):
    """Features with index -1 were a day staler live than the daily ADX beside them."""
    place, days = last_session(long_table), long_table.series.days
    own = [name for name in long_table.names if name.startswith("day_") and "pair" not in name]
    of_session = [name for name in own if "vix" not in name and "tlt" not in name]
    block = long_table.rows[:, [long_table.names.index(name) for name in of_session]]
    assert np.isnan(block[place < 0]).all()
    nodes, columns = wire_side([CATALOGUE[name].node.inputs[0] for name in of_session])
    closed = np.empty((len(days), len(of_session)))
    trace_many(nodes, memory_of(new_state(nodes)), days, columns, closed)
    known = place >= 0
    assert block[known].tobytes() == closed[place[known]].tobytes()
    assert np.isfinite(closed[-1]).all()
    changes = np.flatnonzero(np.diff(place)) + 1
    assert len(changes) == len(days) - (place[0] >= 0)
    closes = long_table.series.closed["end_ns"][changes]
    assert (closes == days["end_ns"][place[changes]]).all()  # seen at the close itself
    others = [k for k, name in enumerate(long_table.names) if name.startswith("day_")]
    last = 0
    for change in [*changes.tolist(), len(place)]:  # not one of them moves inside a session
        part = long_table.rows[last:change, others]
        assert part.tobytes() == np.repeat(part[:1], len(part), axis=0).tobytes()
        last = change


def candidates_of(paths, settings):
    """Give rows and ends of the first symbol's candidates, as its decisions were made from them."""
    traded = trade(open_bars(paths, CONTRACTS), settings, CONTRACTS)
    symbol, series = traded.symbols[0], traded.series[0]
    feeds = [feed_of(item, each) for item, each in zip(traded.series, traded.symbols, strict=True)]
    others = {"pair": feeds[1]} if symbol.wiring.feeds else {}
    beside = lay_beside(symbol.wiring, feeds[0], others, symbol.rule.tf_ns)
    graph, bars = symbol.wiring.graph, series.closed
    signals, rows = np.zeros(len(bars), SIGNAL), np.empty((len(bars), len(graph.columns)))
    n = observe_many(
        symbol.params[0],
        graph,
        memory_of(new_state(graph.bar)),
        memory_of(new_state(graph.day)),
        bars,
        series.days,
        traded.schedules[0][: len(bars)],
        beside.foreign,
        beside.day_pair,
        signals,
        rows,
    )
    at = signals["gate"] == CANDIDATE
    assert (signals["gate"] == traded.signals[0]["gate"][: len(bars)]).all()
    return traded, rows[:n, : len(symbol.strategy.filters)], at


def test_f13_features_are_those_of_the_signal_bar_and_not_of_the_fill(long, settings_of):
    """Snapshots were taken at the fill, a bar late, and shifted back where somebody had thought of it."""
    names = ["bar_ret4_pct", "bar_ibs_prev", "bar_eff_ratio", "bar_drift50", "bar_nr7"]
    names += ["bar_donchian_state", "bar_bear_count", "bar_pair_z", "day_adx14", "bar_twrc"]
    tests = ", ".join(f"{name}: [-.inf, .inf]" for name in names)
    settings = settings_of(f"strategy: {{filters: {{{tests}}}, entry: {{pivots: none}}}}")
    paths = [long / "ES.parquet", long / "NQ.parquet"]
    traded, rows, at = candidates_of(paths, settings)
    table = table_of(paths, settings, names=names)
    assert len(rows) == at.sum() > 500
    assert rows.tobytes() == table.rows[at].tobytes()
    ends = table.series.closed["end_ns"]
    trades = traded.trades().filter(symbol="ES")
    filled = trades["entry_time"].dt.epoch("ns").to_numpy()
    decided = ends[at][np.searchsorted(ends[at], filled, side="right") - 1]
    assert ((filled >= decided) & (filled < decided + HOUR_NS + 65 * MINUTE_NS)).all()
    bars, found = table.series.closed, columns_of(table)
    close, seam = bars["close"], bars["seam_ns"] > 0
    plain = np.flatnonzero(~np.array([seam[max(i - 3, 0) : i + 1].any() for i in range(len(bars))]))
    plain = plain[plain >= 4]
    expected = 100.0 * (close[plain] / close[plain - 4] - 1.0)
    np.testing.assert_allclose(found["bar_ret4_pct"][plain], expected, rtol=1e-12)
    strength = (close - bars["low"]) / (bars["high"] - bars["low"])
    np.testing.assert_allclose(found["bar_ibs_prev"][1:], strength[:-1], atol=1e-9)
    assert (found["bar_ibs_prev"][at] != strength[at]).mean() > 0.9
    assert len(np.unique(found["bar_nr7"][at])) == 2


def test_f14_a_row_knows_nothing_from_the_fill_on(folder, settings_of, tmp_path):
    """Models were trained on the features of the bar after the entry."""
    bars = {root: pl.read_parquet(folder / f"{root}.parquet") for root in ("ES", "CL")}
    trades = outcome_of(folder, settings_of()).trades.filter(symbol="ES")
    whole = table_of(folder)
    ends = whole.series.closed["end_ns"]
    prices = ("open", "high", "low", "close")
    for fill in trades["entry_time"].gather([0, 7, 15]):
        later = pl.col("ts_event") >= fill
        for root, frame in bars.items():
            changed = [pl.when(later).then(pl.col(name) * 1.3).otherwise(name) for name in prices]
            volume = pl.when(later).then(pl.col("volume") * 3).otherwise("volume")
            frame.with_columns(*changed, volume=volume).write_parquet(tmp_path / f"{root}.parquet")
        other = table_of(tmp_path)
        fill_ns = int(fill.timestamp()) * 10**9
        signal = int(np.searchsorted(ends, fill_ns, side="right")) - 1
        rows = slice(0, signal + 1)
        assert other.names == whole.names
        assert other.rows[rows].tobytes() == whole.rows[rows].tobytes()
        assert other.rows[signal + 1].tobytes() != whole.rows[signal + 1].tobytes()


def test_f15_too_little_history_is_missing_and_never_wraps(folder, tmp_path):
    """An index before the first bar read the end of the array."""
    table = table_of(folder)
    frame = pl.read_parquet(folder / "ES.parquet")
    at_first = {name for name, value in columns_of(table).items() if np.isfinite(value[0])}
    assert {"bar_ibs", "bar_close_px"} <= at_first
    bar_side = {"bar_ibs", "bar_close_px", "bar_pair_ibs"}
    assert {name for name in at_first if not name.startswith("cal_")} <= bar_side
    n_days = last_session(table) + 1
    for name, value in columns_of(table).items():
        taken = n_days if "day_" in name else np.arange(1, len(value) + 1)
        assert np.isnan(value[taken < CATALOGUE[name].warmup]).all(), name
    start = write(frame[:20_000], tmp_path)
    early = table_of([start, folder / "CL.parquet"])
    n = len(early.rows) - 1
    assert early.rows[:n].tobytes() == table.rows[:n].tobytes()


def test_f16_rsi_divides_averages_of_the_same_bar(settings_of, tmp_path):
    """RSI took the losses of the bar before, and was 0 in a pure rally."""
    minutes = settings_of("strategy: {signal_bar: 1m}")
    names = ["bar_rsi2", "bar_rsi5", "bar_rsi14"]
    start = datetime(2024, 3, 12, 15, 0, tzinfo=UTC)

    def run(closes):
        times = pl.Series([start]).cast(pl.Datetime("ns", "UTC")).new_from_index(0, len(closes))
        flat = dict.fromkeys(("open", "high", "low", "close"), pl.Series(closes))
        frame = pl.DataFrame({"ts_event": times, "symbol": ["ESH24"] * len(closes), **flat})
        frame = frame.with_columns(
            pl.col("ts_event") + pl.duration(minutes=pl.int_range(pl.len())),
            volume=pl.lit(1),
        )
        return columns_of(table_of(write(frame, tmp_path), minutes, names=names))

    assert run([5001.0, 5002.0, 5003.0, 5004.0])["bar_rsi2"][-1] == 100.0
    assert run([5004.0, 5003.0, 5002.0, 5001.0])["bar_rsi2"][-1] == 0.0
    assert run([5005.0] * 4)["bar_rsi2"][-1] == 50.0
    closes = [round((5000 + np.sin(i * 1.7) * 3 + i * 0.01) * 4) / 4 for i in range(300)]
    found = run(closes)
    for n in (2, 5, 14):
        expected = [np.nan if x is None else x for x in naive.wilder_rsi(closes, n)]
        np.testing.assert_allclose(found[f"bar_rsi{n}"], expected, rtol=1e-9)


def test_f17_a_missing_value_is_null_and_blocks_and_is_never_a_number(
    folder, settings_of, tmp_path
):
    """It became 0 in serving, and 0.5 for ranks in training."""
    frame = pl.read_parquet(folder / "ES.parquet").with_columns(volume=pl.lit(None, pl.Int64))
    path = write(frame, tmp_path)
    names = [name for name in CATALOGUE if name.startswith(("bar_", "day_")) and "vol" in name]
    table = table_of(path, names=names)
    assert np.isnan(table.rows).all()
    assert table.frame().select(names).null_count().row(0) == (len(table.rows),) * len(names)
    text = """
    strategy: {filters: {cal_dow: [1, 5], bar_vol_z: [-.inf, .inf]}, entry: {pivots: none}}
    """
    outcome = outcome_of(path, settings_of(text))
    assert outcome.trades.height == 0
    blocked = outcome.stats["blocked"]["ES"]
    assert blocked["bar_vol_z missing"] > 50
    assert "bar_vol_z" not in blocked
    whole = outcome_of(folder / "ES.parquet", settings_of(text))
    assert "bar_vol_z missing" not in whole.stats["blocked"]["ES"]
    assert whole.trades.height > 20


NEVER_COMPUTED = [
    "bar_rsi5_x_atr_z",
    "bar_rsi5_x_vol_z",
    "day_rsi5_x_atr_z",
    "day_rsi5_x_vol_z",
    "bar_mom3_z",
    "bar_mom3_z_rank",
    "day_mom3_z",
    "day_mom3_z_rank",
    "day_vix",
    "day_vix_rank",
    "day_vix_median",
    "day_vix_regime",
    "day_ret1_x_vix",
    "day_rsi5_x_vix",
]


def test_f18_every_feature_asked_for_alone_has_values(long, long_table):
    """Ten of twelve models were served constant zeros for features that nothing computed."""
    whole = columns_of(long_table)
    for name in NEVER_COMPUTED:
        alone = table_of(long, names=[name]).rows[:, 0]
        assert len(np.unique(alone[np.isfinite(alone)])) > (1 if "regime" in name else 50), name
        assert alone.tobytes() == whole[name].tobytes()


def test_f18_a_name_that_is_none_is_refused_before_any_bar_is_read(long, settings_of):
    """A request that could not be resolved was served as 0."""
    for name in ("bar_rsi5_x_atr", "day_vix_z", "bar_mom4_z", "x_qqq_day_ret"):
        text = f"strategy: {{filters: {{{name}: [0, 1]}}}}"
        with pytest.raises(ConfigError, match=f"filters.{name}"):
            outcome_of(long / "ES.parquet", settings_of(text))
        with pytest.raises(ConfigError, match=repr(name)):
            table_of(long, names=[name])


def test_f19_products_have_one_formula_on_raw_values(long, long_table, tmp_path):
    """They were rank times rank in training and raw times raw in serving; one had lost its factor."""
    found = columns_of(long_table)
    for side in ("bar", "day"):
        for z in ("atr_z", "vol_z"):
            score = found[f"{side}_{z}"]
            strength = (2.0 * found[f"{side}_ibs"] - 1.0) * score
            np.testing.assert_allclose(found[f"{side}_ibs_x_{z}"], strength, rtol=1e-12)
            swing = (found[f"{side}_rsi5"] - 50.0) / 50.0 * score
            np.testing.assert_allclose(found[f"{side}_rsi5_x_{z}"], swing, rtol=1e-9, atol=1e-15)
            assert np.isfinite(score).sum() > 1000
    product = found["day_ret1_pct"] * found["day_vix"]
    np.testing.assert_allclose(found["day_ret1_x_vix"], product, rtol=1e-12)
    doubled = pl.read_parquet(long / "VIX.parquet").with_columns(
        pl.col("open", "high", "low", "close") * 2
    )
    path = write(doubled, tmp_path, "VIX.parquet")
    twice = table_of([long / "ES.parquet", path], names=["day_ret1_x_vix"]).rows[:, 0]
    np.testing.assert_allclose(twice, 2.0 * found["day_ret1_x_vix"], rtol=1e-12)


def twin_of(name):
    """Name the same feature of the signal bar."""
    if name == "day_drift20":
        return "bar_drift50"
    return name.replace("day_", "bar_", 1)


def are_daily(table):
    found, place = columns_of(table), last_session(table)
    for name in table.names:
        if "day_" not in name or twin_of(name) not in CATALOGUE:
            continue
        here, there = found[name], found[twin_of(name)]
        both = np.isfinite(here) & np.isfinite(there)
        assert (here[both] != there[both]).mean() > 0.01, name
        inside = np.diff(place) == 0
        assert (there[1:][inside] != there[:-1][inside]).any(), name
        if name.startswith("day_") and "pair" not in name:  # the pair's sessions may be others
            steps = np.isfinite(here[1:]) & (here[1:] != here[:-1])
            assert not (steps & inside).any(), name


def test_f20_a_daily_name_is_served_daily_values(long_table):
    """Ten names that said "daily" were served hourly values."""
    names = [name for name in long_table.names if "day_" in name]
    assert len([name for name in names if twin_of(name) in CATALOGUE]) > 55
    are_daily(long_table)
    day = columns_of(long_table)["day_ibs"]
    days, place = long_table.series.days, last_session(long_table)
    strength = (days["close"] - days["low"]) / (days["high"] - days["low"])
    np.testing.assert_allclose(day[place >= 0], strength[place[place >= 0]], atol=1e-9)


@real
def test_f20_a_daily_name_is_served_daily_values_on_real_sessions():
    are_daily(table_of([SHARED / f"5m/{root}_5m_ibkr.parquet" for root in ("ES", "NQ")]))


RANKS = [
    name
    for name, feature in CATALOGUE.items()
    if name.startswith("bar_") and "rank" in name and "pair" not in name
]


def test_f21_a_rank_takes_one_value_a_bar_into_a_window_of_fixed_length(long_table):
    """It took some values up to three times, and its window grew from wherever the process began."""
    bars = long_table.series.closed
    assert len(bars) > 8000
    nodes, columns = wire_side([CATALOGUE[name].node for name in RANKS])

    def ranks(*cuts):
        """Rank with a state that is written down and read again at the cuts."""
        state, rows = new_state(nodes), np.empty((len(bars), len(RANKS)))
        for first, last in zip((0, *cuts), (*cuts, len(bars)), strict=True):
            state = np.frombuffer(state.tobytes(), state.dtype).copy()
            trace_many(nodes, memory_of(state), bars[first:last], columns, rows[first:last])
        return rows, state

    whole, state = ranks()
    yearly = np.flatnonzero(np.diff(bars["start_ns"] // (365 * DAY_NS))) + 1
    for cuts in (yearly.tolist(), [100, 2519, 2520, 2521, 7000]):
        rows, resumed = ranks(*cuts)
        assert rows.tobytes() == whole.tobytes()
        assert resumed.tobytes() == state.tobytes()
    assert set(memory_of(state).present.tolist()) == {2520}
    few = new_state(nodes)
    trace_many(nodes, memory_of(few), bars[:700], columns, np.empty((700, len(RANKS))))
    missing = {n - 700 for n in memory_of(few).present.tolist()}
    assert min(missing) > -260  # as many as there are values, never more
    assert max(missing) == 0
    assert (
        whole.tobytes()
        == np.ascontiguousarray(
            long_table.rows[:, [long_table.names.index(name) for name in RANKS]]
        ).tobytes()
    )


def test_f21_a_rank_does_not_depend_on_where_the_data_start(long, long_table, tmp_path):
    """Each training chunk began to rank anew, and so did each start of the process."""
    first = int(long_table.series.closed["start_ns"][3000])
    frame = pl.read_parquet(long / "ES.parquet")
    later = table_of(write(frame.filter(pl.col("ts_event").dt.epoch("ns") >= first), tmp_path))
    found, whole = columns_of(later), columns_of(long_table)
    compared = 0
    for name in RANKS:
        settles = CATALOGUE[name].settles
        if settles is not None:
            assert settles < 4000
            tail = later.rows[settles:].shape[0]
            assert found[name][-tail:].tobytes() == whole[name][-tail:].tobytes(), name
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize(
    "text",
    [
        "bar_bear_count: [1, 9]",
        "bar_bull_count: [1, 9]",
        "bar_inside_bar: {in: [1]}",
        "bar_nr7: {in: [1]}",
        "day_bear_count: [1, 9]",
        "day_bull_count: [1, 9]",
        "day_inside_bar: {in: [0, 1]}",
        "day_nr7: {in: [0]}",
    ],
)
def test_f26_patterns_as_filters_run_and_trade(folder, settings_of, text):
    """Bear and bull counts, inside bar and NR7 stopped the strategy with an exception."""
    rule = f"strategy: {{filters: {{{text}}}, entry: {{pivots: none, ibs: [0.0, 0.5]}}}}"
    outcome = outcome_of(folder / "ES.parquet", settings_of(rule))
    assert outcome.trades.height > 3
    if "in: [0, 1]" not in text:
        assert outcome.stats["blocked"]["ES"][text.split(":")[0]] > 5


def test_f27_cheap_gates_come_first_and_each_bar_is_observed_once(folder, settings_of):
    """The score came before the session test, and features were computed up to three times."""
    counts = outcome_of(folder / "ES.parquet", settings_of()).stats
    series = series_of(folder / "ES.parquet", settings_of())
    candidates = counts["blocked"]["ES"]
    slice_blocks = {"position", "pending", "exit", "cooldown"}
    gated = sum(count for gate, count in candidates.items() if gate not in slice_blocks)
    decided = outcome_of(folder / "ES.parquet", settings_of()).decisions.filter(action="entry")
    assert gated + decided.height == len(series.closed)


def test_f28_a_symbol_decides_on_its_own_bars_only(folder, settings_of):
    """The loop ran on every feed's event, so decisions depended on what else was subscribed."""
    alone = outcome_of(folder / "ES.parquet", settings_of()).trades
    beside = outcome_of(folder, settings_of()).trades.filter(symbol="ES")
    assert alone.equals(beside)
    text = "strategy: {entry: {pivots: higher_high, ibs: [0.0, 1.0]}}"
    assert outcome_of(folder / "ES.parquet", settings_of(text)).trades.height > 0


def test_f29_an_entry_fills_at_the_first_minute_after_its_decision(folder, settings_of):
    """Orders left when the next hourly bar came, up to an hour late."""
    outcome = outcome_of(folder / "ES.parquet", settings_of())
    frame = pl.read_parquet(folder / "ES.parquet").select("ts_event", "open")
    taken = outcome.decisions.filter((pl.col("action") == "entry") & (pl.col("reason") == "taken"))
    filled = taken.join_asof(frame, left_on="time", right_on="ts_event", strategy="forward")
    entries = outcome.trades.sort("entry_time")
    expected = filled.filter(pl.col("ts_event").is_in(entries["entry_time"].implode()))
    assert expected["ts_event"].to_list() == entries["entry_time"].to_list()
    assert expected["open"].to_list() == entries["entry_price"].to_list()
    waited = (filled["ts_event"] - filled["time"]).dt.total_minutes()
    assert waited.max() <= 65  # five open minutes, plus the daily break


def breaches(traded):
    """Give the instants at which the day's loss reached its limit, and what left then."""
    left = traded.decision_records
    left = left[(left["action"] == EXIT) & (left["reason"] == PORTFOLIO)]
    return np.unique(left["time_ns"]), left


def realised_loss(traded, until_ns):
    """Give what trades have lost since the session's open."""
    table = load_sessions("equity", until_ns - 5 * DAY_NS, until_ns)
    open_ns = table.open_ns[table.open_ns <= until_ns][-1]
    left = pl.col("exit_time").dt.epoch("ns")
    return -traded.trades().filter(left >= open_ns, left < until_ns)["net_usd"].sum()


LOSS = """
strategy: {entry: {ibs: [0.0, 0.6], pivots: none, windows: []}, exits: {stop: null, target: null}}
risk: {daily_loss_usd: 400}
symbols: {ES: {execute: MES, quantity: 2}, CL: {}}
"""


@pytest.mark.parametrize(
    ("root", "execute", "quantity", "entry", "mark", "usd"),
    [
        ("ES", "ES", 1, 5000.0, 4990.0, 500.0),
        ("ES", "MES", 3, 5000.0, 4990.0, 150.0),
        ("NQ", "MNQ", 2, 17000.0, 16900.0, 400.0),
        ("CL", "CL", 1, 70.0, 69.5, 500.0),
        ("6C", "6C", 1, 0.73, 0.728, 200.0),  # 100,000 Canadian dollars
        ("6M", "6M", 1, 0.05, 0.0496, 200.0),  # 500,000 pesos
        ("6E", "6E", 1, 1.08, 1.078, 250.0),  # 125,000 euros
        ("ZB", "ZB", 1, 110.0, 109.0, 1000.0),
        ("ZC", "ZC", 1, 450.0, 446.0, 200.0),  # cents: 5,000 bushels
    ],
)
def test_f32_the_days_loss_is_in_dollars_of_the_contract_that_is_traded(
    root, execute, quantity, entry, mark, usd
):
    """It was in price units, in a wrong contract's size, and by wrong values of 6C and 6M."""
    for limit, left in ((usd, {0: PORTFOLIO}), (usd + 0.01, {})):
        book = Book([(root, execute, quantity)], daily_loss_usd=limit)
        book.hold(0, entry, mark)
        assert book.slice()[1] == left


def test_f32_the_days_loss_counts_what_is_open_beside_what_is_realised_and_all_costs():
    """Only realised losses counted."""
    costs = Costs(commission_per_side=1.25, slippage_ticks=0.5)
    for limit, left in ((310.0, {1: PORTFOLIO}), (310.01, {})):
        book = Book([("ES", "MES", 2), ("CL", "CL", 1)], costs, daily_loss_usd=limit)
        book.hold(0, 5000.0)
        book.tell(FLATTEN, 0)
        book.minute(0, 4990.0)  # realised: 10 points at 5 USD and 2 contracts, costs 5.00 and 2.50
        assert book.positions[0]["realised_usd"] == -107.5
        book.hold(1, 70.0, 69.81)  # open: 19 ticks of 10 USD, costs 2.50 and 10.00
        assert book.slice()[1] == left


def test_f33_a_breach_flattens_all_blocks_its_date_and_is_over_with_the_next(folder, settings_of):
    """Positions stayed open; and the stop was lifted by the next close only, which never came."""
    traded = trade(open_bars([folder], CONTRACTS), settings_of(LOSS), CONTRACTS)
    times, left = breaches(traded)
    assert len(times) > 5
    assert len(left) > len(times)  # more than one left at once
    trades, decisions = traded.trade_records, traded.decision_records
    entries = decisions[decisions["action"] == ENTRY]
    blocked = entries["reason"] == BLOCKS.index("daily_loss") + 1
    for time_ns in times:
        held = (trades["entry_ns"] < time_ns) & (trades["exit_ns"] > time_ns)
        assert (trades["exit_ns"][held] <= time_ns + 65 * MINUTE_NS).all()  # the break is an hour
        table = load_sessions("equity", time_ns, time_ns + 5 * DAY_NS)
        next_ns = table.open_ns[table.open_ns > time_ns][0]
        same_day = (entries["time_ns"] > time_ns) & (entries["time_ns"] <= next_ns)
        assert not (entries["reason"][same_day] == TAKEN).any()
        after = entries[(entries["time_ns"] > next_ns) & (entries["time_ns"] < next_ns + DAY_NS)]
        assert not len(after) or (after["reason"] == TAKEN).any()
    assert blocked.sum() > 20


def test_f34_a_slot_is_free_again_however_its_entry_ended():
    """A slot stayed taken when its order expired or was refused, until none was left."""
    for how in ("lapsed", "cancelled", "cancelled when filled", "cancelled when leaving", "left"):
        book = Book([("ES", "ES", 1), ("NQ", "NQ", 1)], max_positions=1)
        for _ in range(5):
            assert book.slice([0, 1])[0] == {0: TAKEN, 1: BLOCKS.index("max_positions") + 1}
            if how == "lapsed":
                book.time_ns += 6 * MINUTE_NS
                book.minute(0)
            elif how == "cancelled":
                book.tell(CANCEL, 0)
            else:
                book.minute(0)
                if how != "cancelled when filled":
                    book.tell(FLATTEN, 0)
                book.minute(0) if how == "left" else book.tell(CANCEL, 0)
        assert book.n[0] == (5 if how == "left" else 0)


def test_r1_a_limit_on_positions_refuses_the_entry_beyond_it(folder, settings_of):
    """The limit was checked before the slot was taken, by each symbol for itself."""
    text = "strategy: {entry: {ibs: [0.0, 0.6], pivots: none, windows: []}}"
    free = outcome_of(folder, settings_of(text))
    tight = outcome_of(folder, settings_of(text + "\nrisk: {max_positions: 1}"))

    def most_at_once(trades):
        steps = [(ns, 1) for ns in trades["entry_time"].dt.epoch("ns")]
        steps += [(ns, -1) for ns in trades["exit_time"].dt.epoch("ns")]
        return int(np.cumsum([step for _, step in sorted(steps)]).max())

    assert most_at_once(free.trades) == 2
    assert most_at_once(tight.trades) == 1
    refused = tight.decisions.filter(reason="blocked:max_positions")
    assert refused["symbol"].n_unique() == 2
    assert refused.height > 50


def test_r2_no_slot_is_lost_in_seven_weeks_of_lapses_and_cancellations(folder, settings_of):
    """Capacity shrank with every order that came to nothing, and with it trading stopped."""
    frames = [pl.read_parquet(folder / f"{root}.parquet") for root in ("ES", "CL")]
    ends = np.unique(np.concatenate([frame["ts_event"].dt.epoch("ns") for frame in frames]))
    hours = ends[ends % HOUR_NS == 0]
    told = [(ns, 1, CANCEL, k % 2, 0) for k, ns in enumerate(hours.tolist()) if k % 3]
    text = "strategy: {entry: {ibs: [0.0, 0.9], pivots: none, windows: []}, exits: {bars: 2}}"
    traded = trade(
        open_bars([folder], CONTRACTS),
        settings_of(text + "\nrisk: {max_positions: 1}"),
        CONTRACTS,
        inputs=np.array(told, INPUT),
    )
    decisions = traded.decision_records
    taken = decisions[(decisions["action"] == ENTRY) & (decisions["reason"] == TAKEN)]
    nothing = len(taken) - len(traded.trade_records) - (traded.book["status"] != FLAT).sum()
    assert nothing > 100
    last = taken["time_ns"][-1]
    assert hours[-1] - last < 8 * HOUR_NS  # still trading, with one slot


def test_r8_a_restart_keeps_the_days_loss(folder, settings_of):
    """The day's loss and its stop were in memory only: after a restart the day began anew."""
    own, source = settings_of(LOSS), open_bars([folder], CONTRACTS)
    traded = trade(source, own, CONTRACTS)
    at = max(breaches(traded)[0].tolist(), key=lambda ns: realised_loss(traded, ns - HOUR_NS))
    assert realised_loss(traded, at - HOUR_NS) > 200
    minutes = minutes_in_order(source, ("ES", "CL"))
    minutes = [each for each in minutes if each.ts_ns < at + 12 * HOUR_NS]
    seams = {root: series.seams for root, series in zip(("ES", "CL"), traded.series, strict=True)}

    def engine():
        universe = Universe(own, CONTRACTS, start=None, end=None)
        return Engine(universe, ["ES", "CL"], own, seams)

    def decided(one, first_ns, last_ns):
        part = [each for each in minutes if first_ns <= each.ts_ns < last_ns]
        return one.advance(part, last_ns).decisions

    expected = traded.decision_records
    for cut in (at - HOUR_NS, at, at + 30 * MINUTE_NS):
        first = engine()
        decided(first, 0, cut)
        state = first.state()
        block = pack(state)
        second, third = engine(), engine()
        second.restore(unpack(block))
        assert pack(second.state()) == block
        forgets = {**state, "book": state["book"].copy(), "desk": state["desk"].copy()}
        forgets["book"]["realised_usd"], forgets["desk"]["halted_date"] = 0.0, 0
        third.restore(forgets)
        rest = decided(second, cut, at + 12 * HOUR_NS)
        mine = expected[(expected["time_ns"] > cut) & (expected["time_ns"] <= at + 12 * HOUR_NS)]
        assert rest.tobytes() == mine.tobytes()
        assert (rest["reason"][rest["action"] == ENTRY] == BLOCKS.index("daily_loss") + 1).any()
        assert decided(third, cut, at + 12 * HOUR_NS).tobytes() != mine.tobytes()


def test_f37_costs_are_dollars_a_contract(folder, settings_of):
    """Commission was a multiple of the notional."""
    text = """
    costs: {commission_per_side: 2.0, slippage_ticks: 1.0}
    symbols: {ES: {execute: MES, quantity: 3}}
    """
    trades = outcome_of(folder / "ES.parquet", settings_of(text)).trades
    assert set(trades["commission_usd"]) == {2 * 2.0 * 3}
    assert set(trades["slippage_usd"]) == {2 * 1.25 * 3}
    gross = (trades["exit_price"] - trades["entry_price"]) * 5.0 * 3
    assert np.allclose(gross, trades["gross_usd"], atol=1e-9)
    assert np.allclose(trades["net_usd"], gross - 12.0 - 7.5, atol=1e-9)


def test_sessions_of_the_sample_are_those_of_the_calendar(folder, settings_of):
    series = series_of(folder / "ES.parquet", settings_of())
    sessions = load_sessions("equity", series.bars["start_ns"][0], series.bars["end_ns"][-1])
    index = session_index(sessions, series.days["start_ns"])
    assert (series.days["end_ns"] == sessions.close_ns[index]).all()
