"""Generated sample data: the laws of its bars, real hours and rolls, and how the market behaves."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ibs_core
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, EnvironmentFault, UnknownSymbolError
from ibs_core.research.sample_data import SINGLE_FILE, generate, is_generated, write_sample
from ibs_core.research.sample_process import look_of
from ibs_core.sessions import load_sessions, local_ns, outside, session_index, trade_date_of

MAP = load_contract_map()
ROOTS = tuple(MAP.contracts)
MINUTE = 60 * 10**9
DAY = 1440 * MINUTE
YEARS = {"start": date(2023, 1, 1), "end": date(2024, 12, 31)}
WEEK = {"start": date(2024, 3, 4), "end": date(2024, 3, 8), "seed": 7}


@cache
def _bars(root, start, end, seed):
    contract = MAP.get(root)
    return generate(contract, _sessions(root, start, end), start=start, end=end, seed=seed)


@cache
def _sessions(root, start, end):
    low, high = ((day - date(1970, 1, 1)).days * DAY for day in (start, end + timedelta(days=1)))
    return load_sessions(MAP.get(root).session, low - 3 * DAY, high)


def _ts(frame):
    return frame["ts_event"].to_physical().to_numpy()


@cache
def _years(root):
    """Two years of a root, with the session of each minute and its hour, 17:00 being 0."""
    frame, sessions = _bars(root, **YEARS, seed=3), _sessions(root, **YEARS)
    ts = _ts(frame)
    session = session_index(sessions, ts)
    hour = (local_ns(ts) // (60 * MINUTE) - 17) % 24
    return frame.with_columns(session=pl.Series(session), hour=pl.Series(hour))


def _session_closes(root):
    """Close of each session, and whether its contract is that of the session before."""
    frame = (
        _years(root).group_by("session", maintain_order=True).agg(pl.col("close", "symbol").last())
    )
    same = (frame["symbol"] == frame["symbol"].shift()).to_numpy()[1:].astype(bool)
    return frame["close"].to_numpy(), same


def _at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _between(frame, low, high):
    return frame.filter(pl.col("ts_event").is_between(_at(low), _at(high), closed="left"))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    root=st.sampled_from(ROOTS),
    start=st.dates(date(2010, 1, 4), date(2029, 1, 1)),
    days=st.integers(7, 20),
    seed=st.integers(0, 2**64),
)
def test_every_bar_keeps_the_laws_of_bars_on_the_tick_grid_inside_the_sessions(
    root, start, days, seed
):
    end = start + timedelta(days=days)
    contract, sessions = MAP.get(root), _sessions(root, start, end)
    frame = generate(contract, sessions, start=start, end=end, seed=seed)
    assert frame.schema == {
        "ts_event": pl.Datetime("ns", "UTC"),
        "symbol": pl.String,
        **dict.fromkeys(("open", "high", "low", "close"), pl.Float64),
        "volume": pl.Int64,
    }
    prices = frame.select("open", "high", "low", "close").to_numpy()
    ticks = np.rint(prices * 1e9 / contract.tick_nano).astype(np.int64)
    assert np.array_equal(prices, ticks * contract.tick_nano / 1e9)
    assert ticks.min() > 0
    o, h, low, c = prices.T
    assert (h >= np.maximum(o, c)).all()
    assert (low <= np.minimum(o, c)).all()
    assert frame["volume"].min() > 0
    assert sum(frame.null_count().row(0)) == 0
    ts = _ts(frame)
    assert (np.diff(ts) > 0).all()
    assert (ts % MINUTE == 0).all()
    assert not outside(sessions, ts).any()
    epoch = date(1970, 1, 1)
    traded = set(trade_date_of(sessions, ts).tolist())
    wanted = {day for day in sessions.trade_date.tolist() if start <= epoch + timedelta(day) <= end}
    assert traded == wanted


def test_holidays_are_absent_and_early_closes_are_early():
    frame = _bars("ES", **YEARS, seed=3)
    assert _between(frame, "2024-03-28T21:00", "2024-03-31T22:00").is_empty()  # Good Friday
    assert _between(frame, "2024-12-24T18:15", "2024-12-25T23:00").is_empty()  # Christmas
    thanksgiving_friday = _between(frame, "2024-11-29T00:00", "2024-11-30T00:00")
    last = thanksgiving_friday["ts_event"].max()
    assert _at("2024-11-29T18:10") <= last <= _at("2024-11-29T18:14")


@pytest.mark.parametrize(
    ("closed_from", "opens"),
    [
        ("2024-03-01T22:00", "2024-03-03T23:00"),
        ("2024-03-08T22:00", "2024-03-10T22:00"),  # clocks went forward on the Sunday
        ("2024-03-15T21:00", "2024-03-17T22:00"),
        ("2024-10-25T21:00", "2024-10-27T22:00"),
        ("2024-11-01T21:00", "2024-11-03T23:00"),  # and back again
        ("2024-11-08T22:00", "2024-11-10T23:00"),
    ],
)
def test_weekends_are_right_on_both_sides_of_a_clock_change(closed_from, opens):
    frame = _bars("ES", **YEARS, seed=3)
    assert _between(frame, closed_from, opens).is_empty()
    near = timedelta(minutes=5)
    before = frame.filter(pl.col("ts_event") < _at(closed_from))["ts_event"].max()
    after = frame.filter(pl.col("ts_event") >= _at(opens))["ts_event"].min()
    assert _at(closed_from) - before <= near
    assert after - _at(opens) < near


def test_grains_pause_in_the_morning():
    frame = _bars("ZC", **YEARS, seed=3)
    minute = pl.Series(local_ns(_ts(frame)) // MINUTE % 1440)
    assert not minute.is_between(7 * 60 + 45, 8 * 60 + 29).any()
    assert minute.is_in([7 * 60 + 44, 8 * 60 + 30]).sum() > 500


@pytest.mark.parametrize(
    ("root", "old", "new", "opens"),
    [
        ("ES", "ESH24", "ESM24", "2024-03-06T23:00"),  # third Friday: 15 March
        ("ES", "ESM24", "ESU24", "2024-06-12T22:00"),  # 21 June
        ("ES", "ESZ23", "ESH24", "2023-12-06T23:00"),  # 15 December
        ("CL", "CLG24", "CLH24", "2024-01-14T23:00"),  # the 15th is a Monday and a holiday session
        ("CL", "CLM24", "CLN24", "2024-05-14T22:00"),
        ("CL", "CLZ24", "CLF25", "2024-11-14T23:00"),
        ("GC", "GCG24", "GCJ24", "2024-01-14T23:00"),
        ("ZC", "ZCN24", "ZCU24", "2024-06-17T00:00"),  # the 15th is a Saturday
    ],
)
def test_the_contract_changes_at_the_open_that_the_rule_names(root, old, new, opens):
    frame = _bars(root, **YEARS, seed=3)
    before = frame.filter(pl.col("ts_event") < _at(opens)).tail(1)["symbol"].item()
    after = frame.filter(pl.col("ts_event") >= _at(opens)).head(1)["symbol"].item()
    assert (before, after) == (old, new)


@pytest.mark.parametrize("root", ["ES", "CL", "GC", "ZS", "PL"])
def test_the_contract_changes_only_between_sessions_and_goes_through_the_listed_months(root):
    frame = _years(root)
    assert frame.group_by("session").agg(pl.col("symbol").n_unique())["symbol"].max() == 1
    codes = frame["symbol"].unique(maintain_order=True).to_list()
    months = MAP.get(root).months
    first = months.index(codes[0][len(root)])
    year = int(codes[0][-2:])
    expected = [
        f"{root}{months[(first + i) % len(months)]}{year + (first + i) // len(months)}"
        for i in range(len(codes))
    ]
    assert codes == expected
    assert len(codes) >= 2 * len(months)


def test_an_index_has_no_contracts():
    frame = _bars("SPX", **YEARS, seed=3)
    assert frame["symbol"].unique().to_list() == ["SPX"]


def test_prices_gap_at_rolls_by_the_carry():
    closes, same = _session_closes("NG")
    returns = np.diff(np.log(closes))
    frame = _years("NG").group_by("session", maintain_order=True).agg(pl.col("open").first())
    gaps = np.log(frame["open"].to_numpy()[1:] / closes[:-1])
    assert 0.004 < gaps[~same].mean() < 0.012  # 10 % a year is 0.8 % a month
    assert abs(gaps[same].mean()) < 0.001
    assert gaps.std() < 0.35 * returns.std()


def test_the_same_arguments_give_the_same_bytes_whatever_else_is_asked_for(tmp_path):
    alone = write_sample(tmp_path / "a", roots=["NQ"], **WEEK)
    among = write_sample(tmp_path / "b", roots=["ES", "NQ", "MNQ", "6M"], **WEEK)
    assert alone[0].read_bytes() == among[1].read_bytes()
    assert [path.name for path in among] == [
        f"{root}.parquet" for root in ("ES", "NQ", "MNQ", "6M")
    ]


def test_the_number_of_threads_does_not_change_a_byte(tmp_path):
    frame = {"start": date(2024, 1, 1), "end": date(2024, 6, 30), "seed": 5}
    here = write_sample(tmp_path / "a", roots=["6E"], **frame)[0]
    single = write_sample(tmp_path / "a", roots=["6E", "ES"], **frame, single_file=True)[0]
    code = (
        "from datetime import date; from pathlib import Path; import sys\n"
        "from ibs_core.research.sample_data import write_sample\n"
        "for roots, one in ((['6E'], False), (['6E', 'ES'], True)):\n"
        "    write_sample(Path(sys.argv[1]), roots=roots, start=date(2024, 1, 1),"
        " end=date(2024, 6, 30), seed=5, single_file=one)\n"
    )
    env = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    root = str(Path(ibs_core.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], cwd=root, env=env, check=True)
    assert here.read_bytes() == (tmp_path / "b" / here.name).read_bytes()
    assert single.read_bytes() == (tmp_path / "b" / SINGLE_FILE).read_bytes()


def test_another_seed_gives_another_market():
    first, second = (_bars("ES", date(2024, 3, 4), date(2024, 3, 8), seed) for seed in (1, 2))
    assert not first.equals(second)
    assert first["close"][0] != second["close"][0] or first["close"][-1] != second["close"][-1]


def test_a_later_end_only_adds_bars():
    short = _bars("CL", date(2024, 1, 1), date(2024, 4, 10), 3)
    longer = _bars("CL", date(2024, 1, 1), date(2024, 6, 28), 3)
    assert longer.head(short.height).equals(short)
    assert longer.height > short.height


def test_a_micro_follows_the_path_of_its_full_size_contract():
    full, micro = (_bars(root, **WEEK).select("ts_event", "close") for root in ("ES", "MES"))
    both = full.join(micro, on="ts_event", suffix="_micro")
    assert both.height > 0.8 * full.height
    assert both["close"].equals(both["close_micro"].rename("close"))


def test_thin_markets_leave_out_more_minutes_and_most_of_all_at_night():
    def missing(root, hours):
        frame = _years(root)
        sessions = frame["session"].n_unique()
        frame = frame.filter(pl.col("hour").is_in(hours))
        return 1 - frame.height / (sessions * 60 * len(hours))

    night, day = [5, 6, 7], [16, 17, 18]
    for thin in ("6M", "PL", "M6A"):
        assert missing(thin, night) > 0.25
        assert missing(thin, night) > 5 * missing("ES", night)
        assert missing(thin, night) > 5 * missing(thin, day)
    assert 0 < missing("ES", night) < 0.03
    assert missing("MES", night) > 2 * missing("ES", night)


@pytest.mark.parametrize("root", ["ES", "NQ", "CL", "NG", "6E", "GC", "ZB", "ZC", "6M"])
def test_volatility_is_within_a_factor_of_two_of_what_the_root_should_have(root):
    closes, same = _session_closes(root)
    annual = np.diff(np.log(closes))[same].std() * np.sqrt(252)
    wanted = look_of(MAP.get(root)).vol
    assert wanted / 2 < annual < wanted * 2


@pytest.mark.parametrize("root", ["ES", "6E", "CL"])
def test_days_are_busier_than_nights(root):
    frame = _years(root).with_columns(range=(pl.col("high") - pl.col("low")) / pl.col("close"))
    day, night = frame.filter(pl.col("hour") == 16), frame.filter(pl.col("hour") == 5)
    assert day["range"].mean() > 2 * night["range"].mean()
    assert day["volume"].mean() > 5 * night["volume"].mean()
    noon = frame.filter(pl.col("hour") == 19)
    assert day["range"].mean() > 1.1 * noon["range"].mean()


def test_minutes_have_fat_tails_and_days_a_persistent_volatility():
    frame = _years("ES").filter(pl.col("hour").is_between(16, 18))
    moves = frame.select("session", move=(pl.col("close") / pl.col("open")).log())
    scaled = moves.select(pl.col("move") / pl.col("move").std().over("session"))["move"].to_numpy()
    assert np.mean(scaled**4) / np.mean(scaled**2) ** 2 > 5.5  # a normal minute has 3
    daily = _years("ES").with_columns(move2=(pl.col("close") / pl.col("open")).log() ** 2)
    realised = daily.group_by("session", maintain_order=True).agg(pl.col("move2").mean().sqrt())
    sizes = np.log(realised["move2"].to_numpy())
    assert np.corrcoef(sizes[1:], sizes[:-1])[0, 1] > 0.7


def test_a_wide_minute_trades_more():
    frame = _years("ES").filter(pl.col("hour") == 16)
    width = (frame["high"] - frame["low"]).to_numpy()
    assert np.corrcoef(width, frame["volume"].log().to_numpy())[0, 1] > 0.4


def test_members_of_a_family_move_together_and_others_do_not():
    moves = {root: np.diff(np.log(_session_closes(root)[0])) for root in ("ES", "NQ", "GC", "SI")}
    matrix = {
        (a, b): np.corrcoef(moves[a][-450:], moves[b][-450:])[0, 1] for a in moves for b in moves
    }
    assert matrix["ES", "NQ"] > 0.7
    assert matrix["GC", "SI"] > 0.5
    assert abs(matrix["ES", "GC"]) < 0.2


def test_low_closes_tend_to_come_back_a_little():
    low, high, spread = [], [], []
    for root in ("ES", "NQ", "GC", "CL", "6E", "6A", "HG", "ZB"):
        hours = (
            _years(root)
            .group_by("session", "hour", maintain_order=True)
            .agg(
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
            )
            .with_columns(
                ibs=(pl.col("close") - pl.col("low")) / (pl.col("high") - pl.col("low")),
                next=(pl.col("close").shift(-1) / pl.col("close")).log(),
                inside=pl.col("session").shift(-1) == pl.col("session"),
            )
            .filter(pl.col("inside") & pl.col("ibs").is_finite())
            .with_columns(pl.col("next") / pl.col("next").std())
        )
        low.append(hours.filter(pl.col("ibs") <= 0.2)["next"].to_numpy())
        high.append(hours.filter(pl.col("ibs") >= 0.8)["next"].to_numpy())
        spread.append(low[-1].mean() - high[-1].mean())
    low, high = np.concatenate(low), np.concatenate(high)
    assert low.mean() > 3 * low.std() / np.sqrt(low.size)
    assert high.mean() < -3 * high.std() / np.sqrt(high.size)
    assert np.mean(np.array(spread) > 0) == 1
    assert max(abs(low.mean()), abs(high.mean())) < 0.15  # of an hour's standard deviation: mild


def test_a_file_says_that_it_is_generated_and_how(tmp_path):
    path = write_sample(tmp_path, roots=["ES"], **WEEK)[0]
    assert is_generated(path)
    metadata = pl.read_parquet_metadata(path)
    assert metadata["ibs.seed"] == "7"
    assert metadata["ibs.version"] == ibs_core.__version__


def test_other_files_are_not_generated(tmp_path):
    real, dbn, empty = (tmp_path / name for name in ("real.parquet", "x.dbn.zst", "empty.parquet"))
    pl.DataFrame({"close": [1.0]}).write_parquet(real)
    dbn.write_bytes(b"\x28\xb5\x2f\xfd")
    empty.touch()
    assert not any(map(is_generated, (real, dbn, empty)))


def test_a_missing_or_truncated_file_cannot_be_asked(tmp_path):
    with pytest.raises(EnvironmentFault):
        is_generated(tmp_path / "none.parquet")
    path = write_sample(tmp_path, roots=["ES"], **WEEK)[0]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EnvironmentFault):
        is_generated(path)


def test_a_single_file_holds_all_roots_one_after_the_other(tmp_path):
    told = []
    roots = ["NQ", "ES", "ZC"]
    paths = write_sample(tmp_path, roots=roots, **WEEK, single_file=True, progress=told.append)
    assert [path.name for path in tmp_path.iterdir()] == [SINGLE_FILE]
    assert is_generated(paths[0])
    assert told == roots
    apart = pl.concat([_bars(root, **WEEK) for root in roots])
    assert pl.read_parquet(paths[0]).equals(apart)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"roots": ["EX"]}, UnknownSymbolError, "'EX'"),
        ({"roots": []}, ConfigError, "at least one root"),
        ({"roots": ["ES", "ES"]}, ConfigError, "each once"),
        ({"start": date(2024, 3, 9)}, ConfigError, "start <= end"),
        ({"seed": -1}, ConfigError, "seed >= 0"),
        ({"start": date(1999, 1, 1)}, ConfigError, "2005 to 2035"),
        ({"start": date(2024, 3, 2), "end": date(2024, 3, 3)}, ConfigError, "a session between"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(
    tmp_path, change, error, message
):
    out = tmp_path / "out"
    with pytest.raises(error, match=message):
        write_sample(out, **({"roots": ["ES"], **WEEK} | change))
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="Not a directory"):
        write_sample(tmp_path / "file" / "out", roots=["ES"], **WEEK)


@pytest.mark.parametrize("single_file", [False, True])
def test_a_write_that_is_cut_short_leaves_what_was_there_and_nothing_else(tmp_path, single_file):
    old = write_sample(tmp_path, roots=["ES"], **WEEK, single_file=single_file)[0]
    before = old.read_bytes()
    code = (
        "from datetime import date; from pathlib import Path; import resource, sys\n"
        "from ibs_core.errors import EnvironmentFault\n"
        "from ibs_core.research.sample_data import write_sample\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"  # as on a full disk
        "try:\n"
        "    write_sample(Path(sys.argv[1]), roots=['ES', 'NQ'], start=date(2024, 3, 4),"
        f" end=date(2024, 3, 29), seed=7, single_file={single_file})\n"
        "except EnvironmentFault as error:\n"
        "    print(error)\n"
    )
    root = str(Path(ibs_core.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in run.stdout
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == before
