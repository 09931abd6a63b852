"""The feature table end to end: files in, every column of every bar against plain Python.

Bars and sessions are built by ``naive``, features by ``naive_features``; neither knows the engine.
"""

from __future__ import annotations

import math
import resource
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import naive
import naive_features as nf
import numpy as np
import polars as pl
import pytest
from feed_rows import CHICAGO, feed_rows, weekdays
from naive import MINUTE, Session
from real_data import SHARED, real

import ibs_core
from ibs_core.backtest import trade
from ibs_core.bars import TIMEFRAMES_NS
from ibs_core.catalogue import load_catalogue
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.feature_table import served, tabulate, write_table
from ibs_core.market_data import open_bars
from ibs_core.parquet_file import marks_of
from ibs_core.research.sample_data import write_sample
from ibs_core.sessions import load_sessions

MAP = load_contract_map()
CATALOGUE = load_catalogue(MAP)
NAN = math.nan
DAY_NS = 86_400 * 10**9
SESSION_NS = 7 * DAY_NS  # no session outlasts it, so its bar is the whole session
HOUR = TIMEFRAMES_NS["1h"]
FIVE_MINUTES = 5 * MINUTE
ROOTS = ("ES", "NQ", "CL", "ZC")

WHOLE = {"0 or 1", "-1, 0, 1", "bars", "1 to 7", "1 to 12", "1 to 4", "0 to 2"}
"""Units of values that are whole numbers."""


# ---------------------------------------------------------------- bars, in plain Python


class Side(NamedTuple):
    """Closed bars of one instrument: as the features' oracle takes them, and when they are known."""

    plain: list
    ends: list
    dates: list  # trade date of each
    starts: list


class World:
    """Files of bars, and every feature of them worked out the slow way."""

    def __init__(self, paths, base_ns=MINUTE):
        self.paths = list(paths)
        self.base_ns = base_ns
        self.minutes = minutes_of(self.paths)
        self.sessions = {root: sessions_of(root, rows) for root, rows in self.minutes.items()}
        self.seams = {
            root: naive.find_seams(rows, self.sessions[root]) for root, rows in self.minutes.items()
        }
        self.side = cache(self.side)
        self.own = cache(self.own)
        self.spread = cache(self.spread)
        self.seen = cache(self.seen)

    @property
    def roots(self):
        return [root for root in MAP.contracts if root in self.minutes]

    def side(self, root, width):
        """Build the signal bars of a width, or the session bars."""
        rows, sessions, seams = self.minutes[root], self.sessions[root], self.seams[root]
        late = width != SESSION_NS
        now = max(each[-1][0] for each in self.minutes.values()) + self.base_ns
        bars = naive.aggregate(rows, sessions, width, seams, self.base_ns, late=late, now=now)
        bars = [bar for bar in bars if bar.closed]
        volumes = volumes_of(bars, rows)
        plain = [
            {
                "open": bar.open,
                "high": bar.high,
                "low": bar.low,
                "close": bar.close,
                "volume": volume,
                "seam": gap is not None,
                "gap": float(gap or 0),
            }
            for bar, volume, gap in zip(bars, volumes, naive.gaps_of(bars, seams), strict=True)
        ]
        dates = [sessions[bar.session].trade_date for bar in bars]
        return Side(plain, [bar.end for bar in bars], dates, [bar.start for bar in bars])

    def own(self, root, width):
        """Work out every own feature."""
        side = "day" if width == SESSION_NS else "bar"
        return nf.naive_side(self.side(root, width).plain, side=side)

    def seen(self, root, width):
        """Work out what others read of an instrument."""
        side = "day" if width == SESSION_NS else "bar"
        plain = self.side(root, width).plain
        real = nf.real_bars(plain)
        window, least = nf.RANK_WINDOW[side], nf.RANK_MIN[side]
        out = {"ibs": nf.ibs(real), "rsi14": nf.rsi(real, 14)}
        out |= {f"{key}_rank": nf.rank(out[key], window, least) for key in tuple(out)}
        out |= nf.cross_features(real, nf.RANK_WINDOW["day"], nf.RANK_MIN["day"])
        out["close"] = [bar.close for bar in real]
        return {key: nf.put_back(plain, values) for key, values in out.items()}

    def expected(self, root, width):
        """Work out every feature that these files serve, at every signal bar of a root."""
        own, days = self.side(root, width), self.side(root, SESSION_NS)
        closed = [nf.last_until(days.ends, end) for end in own.ends]
        out = {f"bar_{key}": values for key, values in self.own(root, width).items()}
        sessions = self.own(root, SESSION_NS)
        out |= {f"day_{key}": at(values, closed) for key, values in sessions.items()}
        del out["day_vix_median"]  # of the own closes: what another would read here
        out = {name: values for name, values in out.items() if name in CATALOGUE}
        held = [
            None if k < 0 else (k, days.plain[k]["close"], days.ends[k] <= start)
            for k, start in zip(closed, own.starts, strict=True)
        ]
        out["bar_above_prev_close"] = nf.naive_above_prev_close(own.plain, held)
        out |= self.of_the_calendar(own)
        out |= self.of_the_pair(root, width)
        own_dates = [None if k < 0 else days.dates[k] for k in closed]
        for other in self.minutes:
            bars, sessions = self.side(other, width), self.side(other, SESSION_NS)
            at_bar = nf.naive_asof(own.ends, bars.ends, width)
            at_day = nf.naive_asof_day(own.ends, own_dates, sessions.ends, sessions.dates)
            for key in ("ret", "z", "sd"):
                place = f"x_{other.lower()}"
                out[f"{place}_bar_{key}"] = at(self.seen(other, width)[f"x_{key}"], at_bar)
                out[f"{place}_day_{key}"] = at(self.seen(other, SESSION_NS)[f"x_{key}"], at_day)
            if other in MAP.reference_feeds:
                out |= of_the_feed(other, self.seen(other, SESSION_NS), at_day, out)
        return out

    def spread(self, root, width):
        """Work out the spread to the pair over own bars or own sessions."""
        own, pair = self.side(root, width), self.side(MAP.get(root).pair, width)
        if width == SESSION_NS:
            fresh = nf.naive_asof_day(own.ends, own.dates, pair.ends, pair.dates)
        else:
            fresh = nf.naive_asof(own.ends, pair.ends, width)
        side = "day" if width == SESSION_NS else "bar"
        return nf.naive_pair_z(own.plain, closes_beside(own.ends, pair, fresh), side=side)

    def ranked(self, root, width, name):
        """Give what an own rank ranks: values, the place of each signal bar among them, the window."""
        side, key = name.split("_", 1)
        if key not in nf.RANKS and key != "pair_z_rank":
            return None, None, None
        ends, span = self.side(root, width).ends, width if side == "bar" else SESSION_NS
        closes = self.side(root, span).ends
        places = [nf.last_until(closes, end) for end in ends]
        own = self.spread(root, span)["pair_z"] if key == "pair_z_rank" else None
        return own or self.own(root, span)[nf.RANKS[key]], places, nf.RANK_WINDOW[side]

    @staticmethod
    def of_the_calendar(own):
        """Tell the flags of date and time of each bar's start."""
        rows = []
        for start, day in zip(own.starts, own.dates, strict=True):
            local = datetime.fromtimestamp(start // 10**9, CHICAGO)
            minute = 60 * local.hour + local.minute
            rows.append(nf.naive_calendar(minute, day.isoweekday(), day.month, day.day))
        return {key: [row[key] for row in rows] for key in rows[0]}

    def of_the_pair(self, root, width):
        """Work out the pair's strength and the spread to it; nothing without its bars."""
        pair = MAP.get(root).pair
        own, days = self.side(root, width), self.side(root, SESSION_NS)
        closed = [nf.last_until(days.ends, end) for end in own.ends]
        if pair not in self.minutes:
            return {}
        out = {}
        bars, sessions = self.side(pair, width), self.side(pair, SESSION_NS)
        own_dates = [None if k < 0 else days.dates[k] for k in closed]
        at_bar = nf.naive_asof(own.ends, bars.ends, width)
        at_day = nf.naive_asof_day(own.ends, own_dates, sessions.ends, sessions.dates)
        for key in ("ibs", "ibs_rank", "rsi14", "rsi14_rank"):
            out[f"bar_pair_{key}"] = at(self.seen(pair, width)[key], at_bar)
            out[f"day_pair_{key}"] = at(self.seen(pair, SESSION_NS)[key], at_day)
        out |= {f"bar_{key}": values for key, values in self.spread(root, width).items()}
        for key, values in self.spread(root, SESSION_NS).items():
            out[f"day_{key}"] = at(values, closed)
        return out


def minutes_of(paths):
    """Read rows as (time, contract, open, high, low, close, volume) by root."""
    names = ("open", "high", "low", "close", "volume")
    parts = [
        pl.read_parquet(path).select(
            pl.col("ts_event").dt.epoch("ns").alias("ts"),
            "symbol",
            *(pl.col(name).cast(pl.Float64) for name in names),
        )
        for path in paths
    ]
    frame = pl.concat(parts).with_columns(
        root=pl.col("symbol").str.replace(r"[FGHJKMNQUVXZ]\d\d$", ""),
        volume=pl.col("volume").fill_null(NAN),
    )
    groups = frame.sort("ts").partition_by("root", as_dict=True)
    return {root: list(part.drop("root").iter_rows()) for (root,), part in groups.items()}


def sessions_of(root, minutes):
    """List the sessions around some minutes."""
    group = MAP.readable(root).session
    table = load_sessions(group, minutes[0][0] - 9 * DAY_NS, minutes[-1][0] + 9 * DAY_NS)
    return [
        Session(
            int(table.open_ns[i]),
            int(table.close_ns[i]),
            int(table.break_start_ns[i]),
            int(table.break_end_ns[i]),
            bool(table.early[i]),
            date(1970, 1, 1) + timedelta(days=int(table.trade_date[i])),
        )
        for i in range(len(table.open_ns))
    ]


def volumes_of(bars, minutes):
    """Add up the volume of each bar; bars never share a minute."""
    out = []
    k = 0
    for bar in bars:
        while minutes[k][0] < bar.start:
            k += 1
        volume = 0.0
        while k < len(minutes) and minutes[k][0] < bar.end:
            volume += minutes[k][6]
            k += 1
        out.append(volume)
    return out


def at(values, places):
    """Give the values at places, NaN at -1."""
    return [NAN if k < 0 else values[k] for k in places]


def closes_beside(ends, pair, fresh):
    """Give the pair's close beside each own bar and its gaps since the own bar before."""
    newest = [nf.last_until(pair.ends, end) for end in ends]
    gaps = [0.0]
    for before, now in pairwise(newest):
        since = [pair.plain[j]["gap"] for j in range(before + 1, now + 1)]
        gaps.append(nf.grid(math.fsum(since)))
    closes = at([bar["close"] for bar in pair.plain], fresh)
    return [{"close": close, "gap": gap} for close, gap in zip(closes, gaps, strict=True)]


def of_the_feed(name, seen, places, own):
    """Work out what is read of the volatility index or the bond fund."""
    if name == "TLT":
        return {"day_tlt_above_sma20": at(seen["above_sma20"], places)}
    close, middle = at(seen["close"], places), at(seen["vix_median"], places)
    known = [not math.isnan(m) and not math.isnan(c) for m, c in zip(middle, close, strict=True)]
    swing = [(x - 50.0) / 50.0 for x in own["day_rsi5"]]
    return {
        "day_vix": close,
        "day_vix_rank": at(seen["close_rank"], places),
        "day_vix_median": middle,
        "day_vix_regime": [
            float(c < m) if k else NAN for c, m, k in zip(close, middle, known, strict=True)
        ],
        "day_ret1_x_vix": [x * c for x, c in zip(own["day_ret1_pct"], close, strict=True)],
        "day_rsi5_x_vix": [x * c for x, c in zip(swing, close, strict=True)],
    }


# ---------------------------------------------------------------- the comparison


def settings_of(signal_bar="1h", **widths):
    symbols = {root: {"strategy": {"signal_bar": width}} for root, width in widths.items()}
    strategy = {"signal_bar": signal_bar, "exits": {"flat_by": None}}
    return load_settings(overrides={"strategy": strategy, "symbols": symbols})


def tables_of(world, settings, **options):
    return list(tabulate(open_bars(world.paths, MAP), settings, MAP, **options))


def near(found, expected, unit):
    """Tell where two columns agree: the same gaps, whole numbers alike, others to 1e-9."""
    gaps = np.isnan(found) | np.isnan(expected)
    same = np.isnan(found) & np.isnan(expected)
    if unit in WHOLE:
        return same | (found == expected)
    close = np.abs(found - expected) <= 1e-9 * np.maximum(np.abs(expected), 1.0)
    return np.where(gaps, same, close)


def tied(rank, values, i, window):
    """Tell whether a rank differs by values alone that are equal but for their rounding."""
    past = [x for x in values[max(i + 1 - window, 0) : i + 1] if not math.isnan(x)]
    margin = 1e-9 * max(abs(values[i]), 1.0)
    below = sum(x < values[i] - margin for x in past)
    up_to = sum(x <= values[i] + margin for x in past)
    return 2 * below + 2 <= round(2 * len(past) * rank, 6) <= 2 * up_to


def disagreements(table, expected, ranked):
    """Name the columns of a table that are not as expected, each with its first wrong bar."""
    out = []
    for name, column in zip(table.names, table.rows.T, strict=True):
        want = np.array(expected.get(name, [NAN] * len(column)), float)
        for i in np.flatnonzero(~near(column, want, CATALOGUE[name].unit)).tolist():
            values, places, window = ranked(name)
            if values is None or not tied(column[i], values, places[i], window):
                out.append((table.root, name, i, column[i], want[i]))
                break
    return out


def agrees(world, settings):
    """Compare every column of every symbol; give the tables."""
    tables = tables_of(world, settings)
    assert [table.root for table in tables] == world.roots
    for table in tables:
        width = TIMEFRAMES_NS[settings.strategy_of(table.root).signal_bar]
        bars, own = table.series.closed, world.side(table.root, width)
        assert bars["start_ns"].tolist() == own.starts
        assert bars["end_ns"].tolist() == own.ends
        assert table.series.days["end_ns"].tolist() == world.side(table.root, SESSION_NS).ends
        expected = world.expected(table.root, width)
        assert expected.keys() <= set(table.names)
        assert all("pair" in name for name in set(table.names) - expected.keys())
        ranked = partial(world.ranked, table.root, width)
        assert disagreements(table, expected, ranked) == []
    return tables


# ---------------------------------------------------------------- worlds


def local(part):
    """Read a part of the exchange's time of a row."""
    return getattr(pl.col("ts_event").dt.convert_time_zone("America/Chicago").dt, part)()


def write_world(folder, frames, base_ns=MINUTE):
    folder.mkdir(exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return World(sorted(folder.iterdir()), base_ns)


def thinned(frame):
    """Keep four minutes of three hours a day, the last before the close among them."""
    hours, minutes = [9, 15, 20], [0, 1, 31, 59]
    return frame.filter(local("hour").is_in(hours), local("minute").is_in(minutes))


FIRST, LAST = date(2023, 1, 3), date(2024, 4, 26)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, roots=ROOTS, start=FIRST, end=LAST, seed=21)
    return {root: pl.read_parquet(folder / f"{root}.parquet") for root in ROOTS}


@pytest.fixture(scope="module")
def feeds():
    days = weekdays(FIRST, LAST)
    return {"VIX": feed_rows("VIX", days), "TLT": feed_rows("TLT", days[40:], seed=2)}


def test_every_column_of_sixteen_months_of_hours_is_what_plain_python_says(sample, feeds, tmp_path):
    """Long enough for every window but the longest ranks; TLT starts forty sessions late."""
    frames = {root: thinned(frame) for root, frame in sample.items()} | feeds
    frames["CL"] = frames["CL"].with_columns(volume=pl.lit(None, pl.Int64))
    tables = agrees(write_world(tmp_path / "long", frames), settings_of("1h"))
    for table in tables:
        values = np.isfinite(table.rows).sum(axis=0)
        empty = {name for name, n in zip(table.names, values, strict=True) if n == 0}
        paired = {name for name in table.names if "pair" in name}
        no_volume = {name for name in table.names if "vol" in name and not name.startswith("x_")}
        missing = {"ES": set(), "NQ": set(), "CL": paired | no_volume, "ZC": paired}
        assert empty == missing[table.root]


def between(frame, first, last):
    """Keep the rows of some dates of the exchange, both ends included."""
    return frame.filter(local("date").is_between(first, last))


MARCH = date(2024, 2, 26), date(2024, 3, 27)  # the clock changes on the 10th, ES and NQ roll


def with_holes(frames):
    """Lose an hour and a session of NQ; let ES trade late, and roll in the middle of a session."""
    lost = between(frames["NQ"], date(2024, 3, 6), date(2024, 3, 6)).filter(local("hour") == 10)
    evening = (local("date") == date(2024, 3, 19)) & (local("hour") >= 17)
    morning = (local("date") == date(2024, 3, 20)) & (local("hour") < 17)
    session = frames["NQ"].filter(evening | morning)
    nq = frames["NQ"].join(pl.concat([lost, session]), on="ts_event", how="anti")
    es = frames["ES"]
    new = es["symbol"][-1]
    old = es["symbol"][0]
    seam = es.filter(pl.col("symbol") == new)["ts_event"][0]
    still_old = pl.col("ts_event").dt.offset_by("-3h25m") < seam
    es = es.with_columns(symbol=pl.when(still_old).then(pl.lit(old)).otherwise("symbol"))
    close = es.filter((local("date") == date(2024, 3, 7)) & (local("hour") == 15))[-1:]
    late = [close.with_columns(pl.col("ts_event").dt.offset_by(f"{m}m")) for m in (16, 44, 45)]
    return frames | {"NQ": nq, "ES": pl.concat([es, *late]).sort("ts_event")}


def test_every_column_of_all_minutes_over_a_roll_a_clock_change_and_holes(sample, feeds, tmp_path):
    frames = {name: between(frame, *MARCH) for name, frame in (sample | feeds).items()}
    world = write_world(tmp_path / "dense", with_holes(frames))
    tables = agrees(world, settings_of("1h"))
    es = tables[0]
    stale = np.isnan(es.rows[:, es.names.index("x_nq_bar_ret")])
    assert stale.sum() == 1 + 1 + 23 + 1  # the first bar, an hour, a session, and the late bar


def test_every_column_is_right_where_symbols_have_bars_of_different_widths(sample, feeds, tmp_path):
    """Each symbol reads the others at its own width."""
    first, last = date(2023, 9, 18), date(2023, 12, 1)  # the clock changes on 5 November
    frames = {
        name: between(thinned(frame) if name in ROOTS else frame, first, last)
        for name, frame in (sample | feeds).items()
    }
    world = write_world(tmp_path / "mixed", frames)
    agrees(world, settings_of("15m", NQ="30m", CL="4h"))


def test_an_instrument_of_other_hours_is_seen_only_while_it_trades(sample, tmp_path):
    frames = {root: between(sample[root], *MARCH) for root in ("ES", "ZC")}
    world = write_world(tmp_path / "grains", frames)
    names = ["x_zc_bar_ret", "x_zc_day_ret"]
    es, zc = tables_of(world, settings_of("1h"), names=names)
    hours = np.array(
        [datetime.fromtimestamp(ns / 1e9, CHICAGO).hour for ns in es.series.closed["start_ns"]]
    )
    seen = np.isfinite(es.rows[:, 0])
    assert not seen[np.isin(hours, [14, 15, 17, 18])].any()
    assert seen[np.isin(hours, [9, 10, 11, 12, 13, 20, 21])][5:].all()
    assert np.isfinite(es.rows[100:, 1]).all()  # ES never closes a session before ZC has
    assert np.isfinite(zc.rows[100:]).all()


def test_a_session_of_another_counts_until_the_own_next_one_has_closed(sample, feeds, tmp_path):
    frames = {"ES": between(sample["ES"], *MARCH)}
    gone = date(2024, 3, 13)
    fund = between(feeds["TLT"], MARCH[0], date(2024, 3, 28))  # its last session has closed too
    frames["TLT"] = fund.filter(local("date") != gone)
    world = write_world(tmp_path / "fund", frames)
    (table,) = tables_of(world, settings_of("1h"), names=["x_tlt_day_ret"])
    bars = table.series.closed
    last_closed = [
        datetime.fromtimestamp(ns / 1e9, CHICAGO).date() for ns in table.series.days["end_ns"]
    ]
    places = np.searchsorted(table.series.days["end_ns"], bars["end_ns"], side="right") - 1
    at_gone = np.array([k >= 0 and last_closed[k] == gone for k in places])
    assert at_gone.sum() == 23
    assert np.isnan(table.rows[at_gone, 0]).all()
    after = int(np.flatnonzero(at_gone)[-1]) + 1
    assert np.isfinite(table.rows[after:, 0]).all()


def test_a_bar_without_volume_lacks_what_reads_volume_and_nothing_else(sample, tmp_path):
    frame = between(sample["ES"], *MARCH)
    holed = pl.int_range(pl.len()).is_between(15_600, 15_610)
    frames = {"whole": frame, "holed": frame.with_columns(volume=pl.when(~holed).then("volume"))}
    worlds = {name: write_world(tmp_path / name, {"ES": bars}) for name, bars in frames.items()}
    tables = tables_of(worlds["whole"], settings_of("1h"))
    tables += agrees(worlds["holed"], settings_of("1h"))
    for name, whole, holed in zip(tables[0].names, tables[0].rows.T, tables[1].rows.T, strict=True):
        if "vol" not in name:
            assert whole.tobytes() == holed.tobytes(), name
    k = tables[0].names.index("bar_vol_z")
    lost = np.isfinite(tables[0].rows[:, k]) & np.isnan(tables[1].rows[:, k])
    assert lost.sum() == 256


def test_the_last_sessions_close_crosses_a_roll_also_when_its_last_hours_are_empty(
    sample, tmp_path
):
    frame = between(sample["ES"], date(2024, 3, 4), date(2024, 3, 8))
    quiet = (local("date") == date(2024, 3, 6)) & local("hour").is_between(13, 16)
    world = write_world(tmp_path / "quiet", {"ES": frame.filter(~quiet)})
    names = ["bar_above_prev_close", "bar_close_px"]
    (table,) = tables_of(world, settings_of("1h"), names=names)
    bars, days = table.series.closed, table.series.days
    (seam,) = np.flatnonzero(bars["seam_ns"]).tolist()
    day = int(np.searchsorted(days["end_ns"], bars["end_ns"][seam], side="right")) - 1
    moved = days["close"][day] + bars["gap"][seam]
    later = range(seam, seam + 23)
    assert [bars["close"][i] > moved for i in later] == table.rows[seam : seam + 23, 0].tolist()


def test_at_bars_of_a_session_another_counts_only_in_the_same_session(sample, tmp_path):
    frames = {root: between(sample[root], *MARCH) for root in ("ES", "NQ")}
    lost = (local("date") == date(2024, 3, 13)) & (local("hour") < 17)
    lost |= (local("date") == date(2024, 3, 12)) & (local("hour") >= 17)
    frames["NQ"] = frames["NQ"].filter(~lost)
    world = write_world(tmp_path / "daily", frames)
    names = ["bar_pair_ibs", "day_pair_ibs", "x_nq_bar_ret", "x_nq_day_ret"]
    es, _ = tables_of(world, settings_of("1d"), names=names)
    assert np.isnan(es.rows[:, 1]).sum() == 1
    np.testing.assert_array_equal(es.rows[:, 0], es.rows[:, 1])
    np.testing.assert_array_equal(es.rows[:, 2], es.rows[:, 3])


# ---------------------------------------------------------------- real bars


def part_of(path, first, last):
    return between(pl.read_parquet(path), first, last)


@real
def test_every_column_of_real_hours_of_two_indexes_is_what_plain_python_says(tmp_path):
    span = date(2024, 3, 4), date(2024, 5, 31)
    frames = {root: part_of(SHARED / f"5m/{root}_5m_ibkr.parquet", *span) for root in ("ES", "NQ")}
    agrees(write_world(tmp_path / "hours", frames, FIVE_MINUTES), settings_of("1h"))


@real
def test_every_column_of_real_quarter_hours_of_two_indexes_is_what_plain_python_says(tmp_path):
    span = date(2025, 6, 9), date(2025, 6, 20)
    frames = {root: part_of(SHARED / f"5m/{root}_5m_ibkr.parquet", *span) for root in ("ES", "NQ")}
    agrees(write_world(tmp_path / "quarters", frames, FIVE_MINUTES), settings_of("15m"))


@real
def test_every_column_of_a_real_month_of_minutes_of_the_euro_is_what_plain_python_says(tmp_path):
    frame = pl.read_parquet(SHARED / "1m/6E_1m_2024-01_nautilus.parquet")
    agrees(write_world(tmp_path / "euro", {"6E": frame}), settings_of("1h"))


# ---------------------------------------------------------------- the file


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Five weeks of ES, NQ and CL as they were generated."""
    folder = tmp_path_factory.mktemp("small")
    write_sample(folder, roots=["CL", "ES", "NQ"], start=MARCH[0], end=MARCH[1], seed=3)
    return World(sorted(folder.iterdir()))


def write(world, out, **options):
    source = open_bars(world.paths, MAP)
    facts = write_table(tabulate(source, settings_of("1h"), MAP, **options), out, source.files)
    return facts, pl.read_parquet(out)


KEYS = {
    "symbol": pl.String,
    "instrument": pl.String,
    "ts_event": pl.Datetime("ns", "UTC"),
    "known_at": pl.Datetime("ns", "UTC"),
    "session": pl.Date,
}


def test_the_file_has_the_tables_one_after_another_with_their_times(small, tmp_path):
    facts, frame = write(small, tmp_path / "new" / "features.parquet")
    tables = tables_of(small, settings_of("1h"))
    names = served(MAP, ["ES", "NQ", "CL"], [])
    assert dict(frame.schema) == KEYS | dict.fromkeys(names, pl.Float64)
    assert frame["symbol"].unique(maintain_order=True).to_list() == ["ES", "NQ", "CL"]
    told = {key: facts[key] for key in ("rows", "features", "symbols", "generated_data")}
    assert told == {
        "rows": frame.height,
        "features": len(names),
        "symbols": ["ES", "NQ", "CL"],
        "generated_data": True,
    }
    for table in tables:
        part = frame.filter(symbol=table.root)
        own = small.side(table.root, HOUR)
        assert part["ts_event"].dt.epoch("ns").to_list() == own.starts
        assert part["known_at"].dt.epoch("ns").to_list() == own.ends
        assert part["known_at"].is_sorted()
        assert part["session"].to_list() == own.dates
        codes = {row[1] for row in small.minutes[table.root]}
        assert {name.replace("20", "", 1) for name in part["instrument"]} == codes
        assert part.equals(table.frame())
        values = part.select(names).fill_null(NAN).to_numpy()
        np.testing.assert_array_equal(values, table.rows)
        assert not part.select(pl.col(names).is_nan().any()).to_numpy().any()


def test_the_instrument_of_a_row_is_the_contract_of_its_bar(small, tmp_path):
    _, frame = write(small, tmp_path / "f.parquet", names=["bar_close_px"])
    for root in ("ES", "CL"):
        rows = small.minutes[root]
        codes = dict(zip([row[0] for row in rows], [row[1] for row in rows], strict=True))
        part = frame.filter(symbol=root)
        firsts = small.side(root, HOUR).starts
        found = part["instrument"].to_list()
        known = [
            (codes[start], name)
            for start, name in zip(firsts, found, strict=True)
            if start in codes
        ]
        assert len(known) > 300
        assert all(name == f"{code[:-2]}20{code[-2:]}" for code, name in known)


def test_chosen_columns_of_chosen_symbols_are_those_of_the_whole_table(small, tmp_path):
    _, whole = write(small, tmp_path / "whole.parquet")
    names = ["day_atr_pctile", "x_cl_bar_ret", "bar_pair_z", "cal_dow"]
    facts, part = write(small, tmp_path / "part.parquet", names=names, roots=["NQ", "ES"])
    assert part.columns == [*KEYS, *names]
    assert facts["symbols"] == ["NQ", "ES"]
    for root in ("NQ", "ES"):
        assert part.filter(symbol=root).equals(whole.filter(symbol=root).select(part.columns))


def test_a_column_that_a_symbol_cannot_have_is_null(small, tmp_path):
    _, frame = write(small, tmp_path / "f.parquet")
    paired = [name for name in frame.columns if "pair" in name]
    assert len(paired) == 12
    nulls = frame.filter(symbol="CL").select(paired).null_count().row(0)  # there are no bars of NG
    assert set(nulls) == {frame.filter(symbol="CL").height}
    assert frame.filter(symbol="ES")["bar_pair_ibs"].null_count() == 0


def test_the_same_bars_make_the_same_bytes(small, tmp_path):
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for path in paths:
        write(small, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("kept", [True, False])
def test_the_table_of_generated_bars_says_so_and_of_other_bars_does_not(small, tmp_path, kept):
    (tmp_path / "bars").mkdir()
    path = tmp_path / "bars" / "ES.parquet"
    source = next(each for each in small.paths if each.stem == "ES")
    if kept:
        path.write_bytes(source.read_bytes())
    else:
        pl.read_parquet(source).write_parquet(path)
    out = tmp_path / "f.parquet"
    facts, _ = write(World([path]), out, names=["bar_ibs"])
    assert facts["generated_data"] == kept
    assert marks_of(out).get("ibs.generated") == ("true" if kept else None)
    assert marks_of(out)["ibs.version"] == ibs_core.__version__


def test_one_generated_file_among_others_marks_the_table(small, tmp_path):
    (tmp_path / "bars").mkdir()
    for source in small.paths:
        path = tmp_path / "bars" / source.name
        if source.stem == "CL":
            path.write_bytes(source.read_bytes())
        else:
            pl.read_parquet(source).write_parquet(path)
    world = World(sorted((tmp_path / "bars").iterdir()))
    facts, _ = write(world, tmp_path / "f.parquet", names=["bar_ibs"])
    assert facts["generated_data"]


def test_a_write_that_is_cut_short_leaves_what_was_there_and_nothing_else(small, tmp_path):
    out = tmp_path / "f.parquet"
    out.write_bytes(b"old")
    tables = tables_of(small, settings_of("1h"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as on a full disk
    try:
        with pytest.raises(EnvironmentFault, match=r"File too large.*free space"):
            write_table(tables, out, small.paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"old"


def test_a_fault_of_the_bars_leaves_no_part_of_a_table(small, tmp_path):
    """The tables are made one after another, so the first could be on the disk by then."""

    def broken():
        yield from tables_of(small, settings_of("1h"), names=["bar_ibs"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(broken(), tmp_path / "f.parquet", small.paths)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_fault_of_the_environment(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="File exists"):
        write(small, tmp_path / "file" / "f.parquet", names=["bar_ibs"])


def test_a_name_that_is_none_is_refused_before_any_bar_is_read(small):
    with pytest.raises(ConfigError, match="did you mean 'bar_rsi5'"):
        tables_of(small, settings_of("1h"), names=["bar_rsi6"])


def test_a_feed_of_one_row_a_day_serves_what_reads_its_sessions(sample, tmp_path):
    dates = weekdays(date(2024, 3, 1), date(2024, 3, 29))
    rows = feed_rows("VIX", dates).filter(pl.int_range(pl.len()) % 4 == 0)
    stamped = pl.Series([datetime(d.year, d.month, d.day, tzinfo=UTC) for d in dates])
    rows = rows.with_columns(ts_event=stamped.cast(pl.Datetime("ns", "UTC")))
    between(sample["ES"], *MARCH).write_parquet(tmp_path / "ES.parquet")
    rows.write_parquet(tmp_path / "VIX.parquet")
    source = open_bars([tmp_path], MAP)
    names = ["day_vix", "x_vix_day_ret"]
    frame = next(iter(tabulate(source, settings_of("1h"), MAP, names=names))).frame()
    closes = dict(zip(dates, rows["close"], strict=True))
    known = frame.drop_nulls("day_vix")
    assert known.height > 200
    for session, at, vix in known.select("session", "known_at", "day_vix").iter_rows():
        local = at.astimezone(CHICAGO)
        ended = local.date() if local.hour >= 16 else local.date() - timedelta(days=1)
        assert vix == closes[max(d for d in dates if d <= ended)], session


def test_a_bar_ends_by_the_clock_of_all_data_though_its_own_symbol_prints_no_more(sample, tmp_path):
    cut = datetime(2024, 3, 6, 21, 55, tzinfo=UTC)  # 15:55 in Chicago
    es = between(sample["ES"], *MARCH).filter(pl.col("ts_event") < cut)
    zc = between(sample["ZC"], MARCH[0], date(2024, 3, 7))
    close = datetime(2024, 3, 6, 19, 20, tzinfo=UTC)  # of the grains
    quiet = pl.col("ts_event").is_between(close - timedelta(minutes=3), close, closed="left")
    zc = zc.filter(~quiet)
    tables = []
    for name, corn in (("now", zc.filter(pl.col("ts_event") < cut)), ("later", zc)):
        folder = tmp_path / name
        folder.mkdir()
        es.write_parquet(folder / "ES.parquet")
        corn.write_parquet(folder / "ZC.parquet")
        source = open_bars([folder], MAP)
        names = ["x_zc_bar_ret", "x_zc_day_ret"]
        (table,) = tabulate(source, settings_of("1h"), MAP, roots=["ES"], names=names)
        tables.append(table.rows)
    n = len(tables[0])
    assert np.isfinite(tables[0][-1, 1])
    assert tables[0].tobytes() == tables[1][:n].tobytes()


def test_a_feed_with_a_fault_is_repaired_and_told(sample, feeds, tmp_path):
    es = between(sample["ES"], *MARCH)
    es.write_parquet(tmp_path / "ES.parquet")
    twice = pl.concat([feeds["VIX"], feeds["VIX"][-5:]])
    twice.write_parquet(tmp_path / "VIX.parquet")
    text = "strategy: {filters: {day_vix: [0, 100]}}"
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "c.yml").write_text(text)
    traded = trade(open_bars([tmp_path], MAP), load_settings([tmp_path / "c" / "c.yml"]), MAP)
    assert any("VIX" in line and "5" in line for line in traded.warnings), traded.warnings


def test_own_features_are_the_same_bits_whether_a_pair_is_read_or_not(sample, tmp_path):
    factor = 1.0001234567891234  # prices off the grid, as adjusted data have them
    prices = [pl.col(name) * factor for name in ("open", "high", "low", "close")]
    one = between(sample["ES"], *MARCH).with_columns(symbol=pl.lit("ES")).with_columns(*prices)
    one.write_parquet(tmp_path / "ES.parquet")
    between(sample["NQ"], *MARCH).write_parquet(tmp_path / "NQ.parquet")
    names = ["bar_ret1_pct", "bar_psar_dist", "bar_drift50", "bar_pair_z"]
    tables = [
        next(iter(tabulate(open_bars([tmp_path], MAP), settings_of("1h"), MAP, names=some)))
        for some in (names, names[:3])
    ]
    assert tables[0].rows[:, :3].tobytes() == tables[1].rows[: len(tables[0].rows)].tobytes()
