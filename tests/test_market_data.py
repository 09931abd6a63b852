"""Reading bars: every form a file may have, and every fault it may hold."""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import polars as pl
import pytest
import zstandard
from real_data import SHARED, real

from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError, EnvironmentFault, UnknownSymbolError
from ibs_core.market_data import base_ns, check, open_bars, rolls
from ibs_core.market_data.files import in_roots
from ibs_core.sessions import load_sessions

MAP = load_contract_map()

MINUTE_NS = 60 * 10**9
MONDAY_NS = int(np.datetime64("2025-03-03T15:00", "ns").astype(np.int64))
VALUES = ["open", "high", "low", "close"]
COLUMNS = ["ts_ns", *VALUES]


def ns(text):
    return int(np.datetime64(text, "ns").astype(np.int64))


def bars(symbol="ES", n=10, *, start_ns=MONDAY_NS, step_ns=MINUTE_NS, price=5000.0, volume=100):
    """Made-up bars in the project's form: prices walk up one tick a minute."""
    ts = start_ns + step_ns * np.arange(n)
    close = price + 0.25 * np.arange(n)
    return pl.DataFrame(
        {
            "ts_event": pl.Series(ts).cast(pl.Datetime("ns", "UTC")),
            "symbol": [symbol] * n,
            "open": close,
            "high": close + 0.5,
            "low": close - 0.5,
            "close": close,
            "volume": pl.Series([volume] * n, dtype=pl.Int64),
        }
    )


@pytest.fixture
def write(tmp_path):
    def save(frame, name="bars.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
        return path

    return save


def source(*paths):
    return open_bars(paths, MAP)


def merged(runs):
    """Join the pieces of each contract: how many a stream yields depends on the machine."""
    pieces = {}
    for run in runs:
        pieces.setdefault((run.root, run.contract_id, run.irregular), []).append(run)
    return [
        replace(
            each[0],
            **{name: np.concatenate([getattr(run, name) for run in each]) for name in COLUMNS},
            volume=None
            if all(run.volume is None for run in each)
            else np.concatenate([run.volume for run in each]),
        )
        for each in pieces.values()
    ]


def streamed(*paths, roots=None, volume=False):
    return merged(source(*paths).stream(roots, volume=volume))


def joined(runs, root="ES"):
    return np.concatenate([run.ts_ns for run in runs if run.root == root])


def refusal(kind, *paths, root="ES", match):
    """The slow path must refuse; so must the fast path, or it hands the root on unharmed."""
    with pytest.raises(kind, match=match) as caught:
        source(*paths).load(root)
    assert caught.value.exit_code == (3 if kind is EnvironmentFault else 1)
    return str(caught.value)


# Forms of files


def test_a_file_streams_as_read_only_columns(write):
    frame = bars()
    (run,) = streamed(write(frame), volume=True)
    assert (run.root, run.instrument, run.contract_id, run.irregular) == ("ES", "ES", 0, False)
    assert run.ts_ns.tolist() == frame["ts_event"].to_physical().to_list()
    for name in VALUES:
        array = getattr(run, name)
        assert array.dtype == np.float64
        assert array.tolist() == frame[name].to_list()
    assert run.volume.tolist() == [100.0] * 10
    for piece in source(write(frame)).stream():
        for name in COLUMNS:
            assert getattr(piece, name).flags.c_contiguous
            assert not getattr(piece, name).flags.writeable


def test_volume_is_read_only_on_request(write):
    assert streamed(write(bars()))[0].volume is None


def test_null_volume_is_none_and_single_nulls_are_nan(write):
    empty = bars().with_columns(volume=pl.lit(None, pl.Int64))
    partly = bars().with_columns(pl.Series("volume", [None, *range(9)], dtype=pl.Int64))
    untyped = bars().with_columns(volume=pl.lit(None))
    assert streamed(write(empty, "a.parquet"), volume=True)[0].volume is None
    assert streamed(write(untyped, "b.parquet"), volume=True)[0].volume is None
    assert streamed(write(bars().drop("volume"), "c.parquet"), volume=True)[0].volume is None
    volume = streamed(write(partly, "d.parquet"), volume=True)[0].volume
    assert np.isnan(volume[0])
    assert volume[1:].tolist() == list(range(9))


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("zone", ["UTC", "America/Chicago"])
def test_time_units_and_zones_give_the_same_instants(write, unit, zone):
    frame = bars().with_columns(
        pl.col("ts_event").dt.convert_time_zone(zone).dt.cast_time_unit(unit)
    )
    assert joined(streamed(write(frame))).tolist() == bars()["ts_event"].to_physical().to_list()


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [
        ("ES", "ES"),
        ("ESM25", "ESM2025"),
        ("ESM5", "ESM2025"),
        ("ESM2025", "ESM2025"),
        ("ES.v.0", "ES.v.0"),
    ],
)
def test_a_root_a_contract_and_a_continuous_name_are_symbols(write, symbol, instrument):
    path = write(bars(symbol))
    for run in (streamed(path)[0], source(path).load("ES")[0][0]):
        assert (run.root, run.instrument) == ("ES", instrument)
    assert source(path).roots == ("ES",)
    assert streamed(path, roots=["ES"])[0].ts_ns.size == 10


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["ES"])])
def test_symbols_may_be_categories(write, kind):
    frame = bars().with_columns(pl.col("symbol").cast(kind))
    assert streamed(write(frame))[0].root == "ES"


@pytest.mark.parametrize("kind", [pl.Float32, pl.Decimal(18, 4), pl.Float64])
def test_prices_that_are_exact_in_another_type_are_taken(write, kind):
    frame = bars().with_columns(pl.col(VALUES).cast(kind))
    run = streamed(write(frame))[0]
    assert run.close.tolist() == bars()["close"].to_list()


def test_whole_point_prices_may_be_integers(write):
    frame = bars("YM", price=42_000).with_columns(pl.col(VALUES).cast(pl.Int64))
    assert streamed(write(frame))[0].close[0] == 42_000.0


def test_decimal_prices_become_the_nearest_float(write):
    frame = bars("CL").with_columns(pl.lit(Decimal("74.13")).alias(name) for name in VALUES)
    assert streamed(write(frame))[0].close.tolist() == [74.13] * 10


def test_single_precision_that_lost_a_tick_is_refused(write):
    frame = bars("CL").with_columns(pl.lit(74.13, pl.Float32).alias(name) for name in VALUES)
    path = write(frame)
    with pytest.raises(DataError, match=r"lost digits in Float32.*74\.12999.* for 74\.13"):
        streamed(path)
    refusal(DataError, path, root="CL", match="lost digits")


def test_single_precision_is_judged_by_digits_not_by_decimals(write):
    # 20000.1 becomes 20000.099609375, which has nine decimals, too.
    frame = bars("RTY").with_columns(pl.lit(20000.1, pl.Float32).alias(name) for name in VALUES)
    with pytest.raises(DataError, match="lost digits"):
        streamed(write(frame))


def test_a_folder_is_read_with_all_below_it(write, tmp_path):
    write(bars("ES"), "a/one.parquet")
    write(bars("NQ"), "a/b/two.parquet")
    write(bars("NQ"), "a/.notes.txt")
    found = source(tmp_path / "a")
    assert [path.name for path in found.files] == ["one.parquet", "two.parquet"]
    assert {run.root for run in found.stream()} == {"ES", "NQ"}


def test_a_glob_is_read_and_a_file_that_is_named_twice_counts_once(write, tmp_path, monkeypatch):
    path = write(bars("ES"), "es_1.parquet")
    write(bars("NQ"), "nq_1.parquet")
    assert source(tmp_path / "es_*.parquet", path).files == (path,)
    monkeypatch.chdir(tmp_path)
    assert len(source("*.parquet").files) == 2
    assert len(source("./**/*.parquet").files) == 2
    assert len(source(path, "es_1.parquet", "../" + tmp_path.name).files) == 2


def test_a_file_name_with_brackets_is_a_file(write):
    path = write(bars(), "es[1].parquet")
    assert streamed(path)[0].ts_ns.size == 10


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")])
def test_several_files_of_one_symbol_are_read_by_time_whatever_their_names(write, tmp_path, names):
    for i, name in enumerate(names):
        write(bars(start_ns=MONDAY_NS + i * 10 * MINUTE_NS), f"{name}.parquet")
    runs = streamed(tmp_path)
    assert not any(run.irregular for run in runs)
    assert np.array_equal(joined(runs), MONDAY_NS + MINUTE_NS * np.arange(30))


def test_symbols_one_after_the_other_and_symbols_interleaved_give_the_same_runs(write):
    symbols = ["ES", "NQ", "YM"]
    stacked = pl.concat([bars(symbol, 500) for symbol in symbols])
    mixed = stacked.sort("ts_event", "symbol")
    for path in (write(stacked, "stacked.parquet"), write(mixed, "mixed.parquet")):
        runs = streamed(path)
        assert not any(run.irregular for run in runs)
        for symbol in symbols:
            assert (
                joined(runs, symbol).tolist()
                == joined(streamed(path, roots=[symbol]), symbol).tolist()
            )
            assert joined(runs, symbol).size == 500


def test_a_batch_that_holds_two_contracts_in_turn_is_cut_at_the_roll(write):
    later = bars("ESM25", 5, start_ns=MONDAY_NS + 10 * MINUTE_NS)
    first, second = streamed(write(pl.concat([bars("ESH25"), later])))
    assert (first.instrument, first.contract_id) == ("ESH2025", 0)
    assert (second.instrument, second.contract_id) == ("ESM2025", 1)
    assert not second.irregular


def test_a_selection_reads_only_what_may_belong_to_the_root():
    names = ["ES", "ESZ5", "/es", "es.v.0", "ETZ5", "NQ", "MES", "ERZ5"]
    kept = pl.DataFrame({"symbol": names}).filter(in_roots(["ES"]))["symbol"].to_list()
    assert kept == ["ES", "ESZ5", "/es", "es.v.0"]


def test_roots_come_in_the_order_of_the_contract_map(write):
    frame = pl.concat([bars("YM"), bars("NQ"), bars("ES")])
    opened = source(write(frame))
    assert opened.roots == ("ES", "NQ", "YM")
    again = source(write(frame))
    list(again.stream())
    assert again.roots == ("ES", "NQ", "YM")


def test_a_reference_feed_is_left_out_and_said_so(write):
    opened = source(write(pl.concat([bars("ES"), bars("VIX", price=20)])))
    assert {run.root for run in opened.stream()} == {"ES"}
    assert opened.skipped == {"VIX": "reference feed, read by no feature asked for"}


def test_a_file_without_rows_beside_others_is_left_out_and_said_so(write, tmp_path):
    write(bars(), "a.parquet")
    empty = write(bars().clear(), "b.parquet")
    opened = source(tmp_path)
    assert opened.skipped == {str(empty): "file without rows"}
    assert opened.files == (tmp_path / "a.parquet",)


def test_the_width_of_the_bars_is_measured(write):
    assert base_ns(streamed(write(bars()))) == MINUTE_NS
    gappy = bars(step_ns=5 * MINUTE_NS)[[0, 3, 4, 9]]
    assert base_ns(streamed(write(gappy, "five.parquet"))) == 5 * MINUTE_NS
    assert base_ns(streamed(write(bars(n=1), "one.parquet"))) == 0


def test_the_width_does_not_come_from_a_step_between_contracts(write):
    hours = 60 * MINUTE_NS
    old = bars("ESH25", step_ns=hours)
    new = bars("ESM25", start_ns=MONDAY_NS + 9 * hours + MINUTE_NS, step_ns=hours)
    assert base_ns(streamed(write(pl.concat([old, new])))) == hours


# Identity


def test_the_digest_follows_content_and_name_but_not_folder_time_or_order(write, tmp_path):
    one, two = write(bars(), "a/es.parquet"), write(bars("NQ"), "a/nq.parquet")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere" / "es.parquet", (1, 1))
    digest = source(one, two).digest()
    assert digest == source(two, one).digest() == source(tmp_path / "elsewhere").digest()
    assert len(digest) == 64
    write(bars(price=5000.25), "a/es.parquet")
    assert source(one, two).digest() != digest


def test_a_large_file_is_named_by_its_footer(write, monkeypatch):
    path = write(bars())
    whole = source(path).digest()
    monkeypatch.setattr("ibs_core.market_data.files._WHOLE_BYTES", 100)
    footer = source(path).digest()
    assert footer != whole
    write(bars(price=5000.25))
    assert source(path).digest() != footer


# What is irregular goes to the slow path


@pytest.mark.parametrize(
    "frame",
    [
        pl.concat([bars("ESH25", 4), bars("ESM25", 4), bars("ESH25", 4)]),
        pl.concat([bars("ESH25", 9), bars("ESM25", 9)]).sort("ts_event", "symbol"),
        pl.concat([bars("ESH25", 9), bars("ESM25", 9, start_ns=MONDAY_NS + 5 * MINUTE_NS)]),
    ],
    ids=["a contract comes back", "contracts share minutes", "contracts overlap"],
)
def test_overlapping_contracts_mark_the_last_run_of_their_root(write, frame):
    nq = bars("NQ", 20, start_ns=MONDAY_NS + 60 * MINUTE_NS)
    runs = streamed(write(pl.concat([frame, nq])))
    es = [run for run in runs if run.root == "ES"]
    assert [run.irregular for run in es] == [False] * (len(es) - 1) + [True]
    assert joined(runs, "NQ").size == 20


def test_files_of_one_contract_that_overlap_are_irregular_and_loadable(write, tmp_path):
    write(bars(n=20), "a.parquet")
    write(bars(n=20, start_ns=MONDAY_NS + 10 * MINUTE_NS, price=5002.5), "b.parquet")
    assert [run.irregular for run in streamed(tmp_path)] == [False, True]
    runs, repairs = source(tmp_path).load("ES")
    assert np.array_equal(joined(runs), MONDAY_NS + MINUTE_NS * np.arange(30))
    assert [(item.kind, item.rows) for item in repairs.items] == [("duplicate", 10)]


# Repairs


def test_clean_bars_need_no_repair_and_load_as_they_stream(write):
    path = write(pl.concat([bars("ESH25"), bars("ESM25", start_ns=MONDAY_NS + 20 * MINUTE_NS)]))
    runs, repairs = source(path).load("ES", strict=True)
    assert not repairs
    assert repairs.lines() == []
    for ours, theirs in zip(runs, streamed(path, volume=True), strict=True):
        assert (ours.instrument, ours.contract_id) == (theirs.instrument, theirs.contract_id)
        for name in ("ts_ns", *VALUES, "volume"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def with_nan(frame):
    return frame.with_columns(
        open=pl.when(pl.arange(0, pl.len()) == 3).then(np.nan).otherwise("open")
    )


def with_null(frame):
    return frame.with_columns(close=pl.when(pl.arange(0, pl.len()) != 3).then("close"))


SATURDAY_NS = ns("2025-03-08T15:00")
REPAIRED = {
    "unsorted": (bars()[[0, 2, 1, *range(3, 10)]], 1, 10),
    "duplicate": (bars()[[0, 1, 1, 1, *range(2, 10)]], 2, 10),
    "missing_price": (with_nan(bars()), 1, 9),
    "outside_calendar": (pl.concat([bars(), bars(n=2, start_ns=SATURDAY_NS)]), 2, 12),
}


@pytest.mark.parametrize("kind", REPAIRED)
def test_a_repairable_fault_is_repaired_counted_and_refused_when_strict(write, kind):
    frame, n_rows, n_left = REPAIRED[kind]
    path = write(frame)
    runs, repairs = source(path).load("ES")
    assert [(item.kind, item.rows, item.fault) for item in repairs.items] == [(kind, n_rows, True)]
    ts_ns = joined(runs)
    assert ts_ns.size == n_left
    assert (np.diff(ts_ns) > 0).all()
    assert repairs.lines()[0].startswith(f"ES: {n_rows} ")
    assert "2025-03-0" in repairs.lines()[0]
    assert json.loads(json.dumps(repairs.to_dict()))[kind]["rows"] == n_rows
    with pytest.raises(DataError, match="--strict forbids") as caught:
        source(path).load("ES", strict=True)
    assert caught.value.exit_code == 1


def test_a_null_price_is_a_missing_price_and_streams_as_nan(write):
    path = write(with_null(bars()))
    assert np.isnan(streamed(path)[0].close[3])
    assert not any(run.close.flags.writeable for run in source(path).stream())
    runs, repairs = source(path).load("ES")
    assert repairs.items[0].kind == "missing_price"
    assert MONDAY_NS + 3 * MINUTE_NS not in joined(runs)


def test_several_faults_at_once_are_all_counted(write):
    frame = pl.concat([with_nan(bars())[[1, 0, *range(2, 10)]], bars()[[9]]])
    runs, repairs = source(write(frame)).load("ES")
    assert {item.kind: item.rows for item in repairs.items} == {
        "missing_price": 1,
        "unsorted": 1,
        "duplicate": 1,
    }
    assert joined(runs).size == 9


def test_duplicates_whose_volumes_are_both_unknown_are_identical(write):
    frame = bars().with_columns(volume=pl.lit(None, pl.Int64))
    _, repairs = source(write(pl.concat([frame, frame[[9]]]))).load("ES")
    assert [item.kind for item in repairs.items] == ["duplicate"]


def test_examples_are_the_first_few(write):
    _, repairs = source(write(pl.concat([bars(), bars()]))).load("ES")
    duplicate = next(item for item in repairs.items if item.kind == "duplicate")
    assert duplicate.rows == 10
    assert len(duplicate.examples) == 5
    assert duplicate.examples[0] == "2025-03-03T15:00:00Z (ES)"


# Faults that nothing hides


def changed(i, **values):
    frame = bars().with_row_index()
    for name, value in values.items():
        frame = frame.with_columns(
            pl.when(pl.col("index") == i).then(pl.lit(value)).otherwise(name).alias(name)
        )
    return frame.drop("index")


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (
            pl.concat([bars(), changed(4, close=5001.25)[[4]]]),
            "contradict each other.*5001.0.*5001.25",
        ),
        (pl.concat([bars(), changed(4, volume=7)[[4]]]), "contradict each other"),
        (changed(4, high=5000.0), "upside down.*low <= high.*low=5000.5 high=5000.0"),
        (changed(4, open=4990.0), "open outside the bar.*open=4990.0"),
        (changed(4, close=5009.0), "close outside the bar.*close=5009.0"),
        (changed(4, low=0.0), "at or below zero.*low=0.0"),
        (changed(4, low=-3.0), "at or below zero.*low=-3.0"),
        (changed(4, high=float("inf")), "infinite price"),
        (bars(step_ns=MINUTE_NS + 10**9), "off the minute"),
    ],
)
def test_a_fault_that_no_repair_may_hide_says_where_it_is(write, frame, match):
    path = write(frame)
    message = refusal(DataError, path, match=match)
    assert str(path) in message
    assert "2025-03-03T15:0" in message
    assert "ES" in message


def test_oil_may_trade_below_zero(write):
    frame = bars("CL", price=-37.0)
    runs, repairs = source(write(frame)).load("CL", strict=True)
    assert runs[0].close[0] == -37.0
    assert not repairs


@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
def test_prices_in_units_of_1e_9_are_a_wrong_unit(write, kind):
    frame = bars().with_columns((pl.col(VALUES) * 1e9).cast(kind))
    path = write(frame)
    with pytest.raises(DataError, match=r"wrong unit of price.*0.25.*divide .* by 1e9"):
        streamed(path)
    refusal(DataError, path, match="wrong unit")


def test_prices_that_were_divided_once_too_often_are_a_wrong_unit(write):
    with pytest.raises(DataError, match="wrong unit"):
        streamed(write(bars().with_columns(pl.col(VALUES) / 1e9)))


@pytest.mark.parametrize("column", ["ts_event", "symbol", *VALUES])
def test_a_missing_column_is_named_with_those_that_are_there(write, column):
    with pytest.raises(DataError, match=f"missing column '{column}'.*found .*volume"):
        source(write(bars().drop(column)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (pl.col("ts_event").dt.replace_time_zone(None), "naive timestamps.*replace_time_zone"),
        (pl.col("ts_event").to_physical(), "wrong type of ts_event.*Int64"),
        (pl.col("ts_event").cast(pl.String), "wrong type of ts_event.*String"),
        (pl.col("close").cast(pl.String), "wrong type of close.*String"),
        (pl.col("volume").cast(pl.String), "wrong type of volume.*String"),
        (pl.lit(7).alias("symbol"), "wrong type of symbol"),
    ],
)
def test_a_column_of_a_wrong_type_is_refused_when_the_file_is_opened(write, change, match):
    with pytest.raises(DataError, match=match):
        source(write(bars().with_columns(change)))


def test_a_bar_without_a_time_is_refused(write):
    frame = bars().with_columns(ts_event=pl.when(pl.col("close") > 5001).then("ts_event"))
    path = write(frame)
    with pytest.raises(DataError, match="bar without a time"):
        streamed(path)
    refusal(DataError, path, match="bar without a time")


def test_a_row_without_a_symbol_is_refused(write):
    frame = bars().with_columns(symbol=pl.when(pl.col("close") > 5001).then("symbol"))
    path = write(frame)
    for roots in (None, ["ES"]):
        with pytest.raises(DataError, match="row without a symbol"):
            streamed(path, roots=roots)
    refusal(DataError, path, match="row without a symbol")


def test_an_unknown_symbol_is_refused_with_its_file_and_the_nearest_root(write):
    path = write(pl.concat([bars("ES"), bars("ESX")]))
    with pytest.raises(UnknownSymbolError, match=r"unknown symbol.*'ESX'.*bars\.parquet") as caught:
        streamed(path)
    assert caught.value.exit_code == 1
    with pytest.raises(UnknownSymbolError):
        _ = source(path).roots


def test_an_unknown_root_is_refused_before_anything_is_read(write):
    path = write(bars("ES"))
    for ask in (lambda: streamed(path, roots=["XX"]), lambda: source(path).load("XX")):
        with pytest.raises(UnknownSymbolError, match="XX"):
            ask()


def test_a_spread_in_a_plain_file_is_refused(write):
    with pytest.raises(DataError, match="ESH5-ESM5"):
        streamed(write(bars("ESH5-ESM5")))


def test_a_root_that_has_no_bar_is_an_error_that_names_those_that_have(write):
    path = write(bars("ES"))
    with pytest.raises(DataError, match="no usable row: expected bars of NQ, found ES"):
        streamed(path, roots=["ES", "NQ"])
    refusal(DataError, path, root="NQ", match="no usable row")


def test_bars_without_any_price_are_no_usable_row(write):
    path = write(bars().with_columns(close=pl.lit(None, pl.Float64)))
    assert np.isnan(streamed(path)[0].close).all()
    refusal(DataError, path, match="no usable row.*all four prices")


def test_files_without_rows_are_no_usable_row(write, tmp_path):
    empty = write(bars().clear(), "a.parquet")
    with pytest.raises(DataError, match="no usable row"):
        streamed(empty)
    with pytest.raises(DataError, match="no usable row"):
        check(source(empty))
    write(bars().clear(), "b.parquet")
    with pytest.raises(DataError, match="no usable row"):
        streamed(tmp_path)


def test_a_file_of_no_bytes_is_an_empty_file(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(DataError, match="empty file") as caught:
        source(tmp_path / "a.parquet")
    assert caught.value.exit_code == 1


# What the environment lacks


@pytest.mark.parametrize(
    "given", ["nowhere.parquet", "none*.parquet", "folder", "nowhere/deep.parquet"]
)
def test_a_path_with_nothing_behind_it_is_exit_3(tmp_path, given):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.csv").write_text("a")
    with pytest.raises(EnvironmentFault, match="no bars at") as caught:
        source(tmp_path / given)
    assert caught.value.exit_code == 3
    assert str(tmp_path / given) in str(caught.value)


def test_no_path_at_all_is_exit_3():
    with pytest.raises(EnvironmentFault, match="no bars"):
        source()


def test_a_parquet_file_cut_in_half_is_exit_3(write):
    path = write(bars(n=5000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EnvironmentFault, match=r"unreadable or truncated file.*bars.parquet"):
        source(path)


def test_a_parquet_file_damaged_inside_is_exit_3(write):
    path = write(bars(n=5000))
    content = bytearray(path.read_bytes())
    content[4:4000] = b"\xff" * 3996
    path.write_bytes(content)
    with pytest.raises(EnvironmentFault, match="unreadable or truncated"):
        streamed(path)


def test_a_file_that_is_neither_parquet_nor_dbn_is_exit_3(tmp_path):
    path = tmp_path / "bars.parquet"
    path.write_text("ts_event,symbol,open\n")
    with pytest.raises(EnvironmentFault, match=r"unreadable file.*Parquet or DBN"):
        source(path)


def test_a_file_without_permission_is_exit_3(write, monkeypatch):
    path = write(bars())
    real = Path.open

    def denied(self, *args, **kwargs):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(EnvironmentFault, match=r"may not be read.*read permission.*bars.parquet"):
        source(path)


def test_a_file_that_vanishes_between_opening_and_reading_is_exit_3(write):
    path = write(bars())
    opened = source(path)
    path.unlink()
    with pytest.raises(EnvironmentFault):
        list(opened.stream())
    with pytest.raises(EnvironmentFault, match="missing file"):
        opened.digest()


# Overlapping contracts


SESSIONS = load_sessions("equity", ns("2025-03-10"), ns("2025-03-20"))


def session(symbol, i, volume, *, n=6, price=5000.0):
    return bars(symbol, n, start_ns=int(SESSIONS.open_ns[i]), volume=volume, price=price)


def parent(*volumes):
    """Sessions of a parent download: each item gives the volume a minute of H25, M25 and U25."""
    frames = [
        session(symbol, 2 + i, volume, price=price)
        for i, each in enumerate(volumes)
        for symbol, price, volume in zip(
            ("ESH25", "ESM25", "ESU25"), (5000.0, 5050.0, 5100.0), each, strict=False
        )
        if volume is not None
    ]
    return pl.concat(frames).sort("ts_event", "symbol")


def fronts(path):
    runs, repairs = source(path).load("ES")
    per_session = {}
    for run in runs:
        for ts_ns in run.ts_ns:
            at = int(np.searchsorted(SESSIONS.open_ns, ts_ns, side="right")) - 3
            per_session.setdefault(at, set()).add(run.instrument[2])
    return ["".join(per_session.get(i, "-")) for i in range(max(per_session) + 1)], repairs


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        # A session's volume decides the next one; the first takes the nearest expiry.
        ([(10, 90), (20, 80), (30, 70)], "HMM"),
        ([(90, 10), (10, 90), (10, 90)], "HHM"),
        # Never back to an earlier expiry.
        ([(10, 90), (90, 10), (90, 10)], "HMM"),
        # A tie stays with the nearer expiry.
        ([(50, 50), (50, 50), (10, 90), (10, 90)], "HHHM"),
        # Straight to the second next, and not back to the one between.
        ([(10, 20, 70), (10, 80, 10), (10, 80, 10)], "HUU"),
        # A front that prints nothing gives way.
        ([(90, 10), (90, 10), (None, 10), (None, 10)], "HHMM"),
        # The nearest that prints in the first session.
        ([(None, 10, 90), (90, 10, 10)], "MU"),
    ],
)
def test_the_front_is_what_traded_most_in_the_session_before(write, volumes, expected):
    path = write(parent(*volumes))
    found, repairs = fronts(path)
    assert "".join(found) == expected
    (item,) = repairs.items
    assert (item.kind, item.fault) == ("not_front", False)
    source(path).load("ES", strict=True)


def test_contracts_outside_the_roll_cycle_are_never_the_front(write):
    serial = pl.concat([session("ESJ25", 2 + i, 10_000) for i in range(3)])
    frame = pl.concat([parent((90, 10), (90, 10), (90, 10)), serial]).sort("ts_event", "symbol")
    assert fronts(write(frame))[0] == ["H", "H", "H"]


def test_overlapping_contracts_without_volume_are_refused(write):
    frame = parent((90, 10), (10, 90)).with_columns(volume=pl.lit(None, pl.Int64))
    refusal(DataError, write(frame), match="without volume.*add volume")


def test_overlapping_series_that_are_no_contracts_are_refused(write):
    frame = pl.concat([bars("ES"), bars("ESM25")])
    refusal(DataError, write(frame), match="overlapping series.*ES, ESM2025")


def test_one_digit_years_that_came_round_again_are_two_contracts(write):
    # The grace month admits the contract of 2015 until January 2016.
    old, new = (
        bars("ESZ5", start_ns=ns("2015-12-01T15:00")),
        bars("ESZ5", start_ns=ns("2025-12-01T15:00")),
    )
    path = write(pl.concat([old, new]))
    runs, _ = source(path).load("ES")
    assert [run.instrument for run in runs] == ["ESZ2015", "ESZ2025"]


def test_a_batch_in_which_a_one_digit_year_comes_round_again_is_irregular(save):
    rows = minutes_of(118, start_ns=ns("2015-12-01T15:00")) + minutes_of(118)
    path = save(dbn_bytes(rows, {"ESZ5": [(date(2015, 1, 1), YEAR[1], "118")]}))
    assert [run.irregular for run in streamed(path)] == [True]
    assert [run.instrument for run in source(path).load("ES")[0]] == ["ESZ2015", "ESZ2025"]


# Rolls


def test_a_roll_between_sessions_has_its_seam_at_the_open(write):
    path = write(parent((10, 90), (10, 90)))
    (roll,) = rolls(source(path), "ES")
    assert (roll.old, roll.new) == ("ESH2025", "ESM2025")
    assert roll.seam_ns == SESSIONS.open_ns[3]
    assert (roll.old_close, roll.new_open, roll.gap) == (5001.25, 5050.0, 48.75)
    assert roll.to_dict()["seam"].startswith("2025-03-1")


def test_a_roll_inside_a_session_has_its_seam_at_the_first_minute(write):
    new = bars("ESM25", 5, start_ns=MONDAY_NS + 20 * MINUTE_NS, price=5040.0)
    (roll,) = rolls(source(write(pl.concat([bars("ESH25"), new]))), "ES")
    assert roll.seam_ns == MONDAY_NS + 20 * MINUTE_NS
    assert roll.gap == 5040.0 - 5002.25


# The report


def test_the_report_tells_what_is_there(write):
    second = session("ESH25", 4, 5, n=30)[[*range(10), *range(20, 30)]]
    es = pl.concat(
        [session("ESH25", 2, 5, n=30), second, bars("ESH25", 1, start_ns=ns("2025-03-15T15:00"))]
    )
    report = check(
        source(write(pl.concat([es, bars("NQ", 5).drop("volume").with_columns(volume=None)])))
    )
    es_report, nq_report = report.roots
    assert (es_report.root, es_report.rows, es_report.sessions) == ("ES", 51, 2)
    assert es_report.missing_sessions == ("2025-03-11",)  # 10 and 12 are there
    assert es_report.base_ns == MINUTE_NS
    assert (es_report.has_volume, nq_report.has_volume) == (True, False)
    assert es_report.contracts == ("ESH2025",)
    assert (es_report.outside, es_report.outside_examples) == (1, ("2025-03-15T15:00:00Z",))
    assert es_report.has_fault
    assert not nq_report.has_fault
    assert [gap.minutes for gap in es_report.gaps if gap.minutes < 60] == [10]
    assert es_report.first_ns == SESSIONS.open_ns[2]
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["roots"][0]["repairs"]["outside_calendar"]["rows"] == 1
    assert plain["digest"] == report.digest


def test_a_bad_root_does_not_hide_the_others_in_the_report(write):
    report = check(source(write(pl.concat([bars("ES"), changed(3, high=1.0)[[3]], bars("NQ")]))))
    assert [bool(root.error) for root in report.roots] == [True, False]
    assert len(report.errors) == 1
    assert report.roots[1].rows == 10


# The vendor's files


@dataclass
class Interval:
    start_date: date
    end_date: date
    symbol: str


@dataclass
class Mapping:
    raw_symbol: str
    intervals: list[Interval]


def dbn_bytes(rows, mappings, *, schema="ohlcv-1m", stype_in="raw_symbol", ts_out=False, rtype=33):
    """A DBN stream; rows are (instrument id, time in ns, price in 1e-9 units)."""
    metadata = dbn.Metadata(
        dataset="GLBX.MDP3",
        start=MONDAY_NS,
        stype_in=dbn.SType(stype_in),
        stype_out=dbn.SType("instrument_id"),
        schema=dbn.Schema(schema),
        symbols=list(mappings),
        mappings=[
            Mapping(name, [Interval(*interval) for interval in intervals])
            for name, intervals in mappings.items()
        ],
        ts_out=ts_out,
        version=3,
    )
    records = b""
    for number, ts_ns, price in rows:
        record = bytes(
            dbn.OHLCVMsg(
                rtype=rtype,
                publisher_id=1,
                instrument_id=number,
                ts_event=ts_ns,
                open=price,
                high=price,
                low=price,
                close=price,
                volume=7,
            )
        )
        if ts_out:
            record = bytes([16]) + record[1:] + ts_ns.to_bytes(8, "little")
        records += record
    return bytes(metadata) + records


def minutes_of(number, n=5, *, start_ns=MONDAY_NS, price=5_000_000_000_000):
    return [(number, start_ns + i * MINUTE_NS, price + i * 250_000_000) for i in range(n)]


YEAR = (date(2025, 1, 1), date(2026, 1, 1))
ES_AND_NQ = {"ESH5": [(*YEAR, "118")], "NQH5": [(*YEAR, "4358")]}


@pytest.fixture
def save(tmp_path):
    def write_bytes(content, name="bars.dbn"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_bytes


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ts_out", [False, True])
def test_dbn_is_read_with_the_names_of_its_header(save, packed, ts_out):
    rows = sorted(
        minutes_of(118) + minutes_of(4358, price=20_000_000_000_000), key=lambda row: row[1]
    )
    content = dbn_bytes(rows, ES_AND_NQ, ts_out=ts_out)
    path = save(zstandard.compress(content) if packed else content)
    es, nq = streamed(path, volume=True)
    assert (es.instrument, nq.instrument) == ("ESH2025", "NQH2025")
    assert es.close.tolist() == [5000.0, 5000.25, 5000.5, 5000.75, 5001.0]
    assert es.volume.tolist() == [7.0] * 5
    assert streamed(path, roots=["NQ"])[0].close[0] == 20_000.0
    assert source(path).roots == ("ES", "NQ")


def test_dbn_in_several_compressed_frames_is_read_to_the_end(save):
    content = dbn_bytes(minutes_of(118, 50), ES_AND_NQ)
    cut = len(content) - 56 * 20 - 13
    path = save(zstandard.compress(content[:cut]) + zstandard.compress(content[cut:]))
    assert joined(streamed(path)).size == 50


def test_long_dbn_is_read_in_pieces(save, monkeypatch):
    monkeypatch.setattr("ibs_core.market_data.dbn._READ_BYTES", 100)
    monkeypatch.setattr("ibs_core.market_data.dbn._BATCH_ROWS", 7)
    path = save(dbn_bytes(minutes_of(118, 50), ES_AND_NQ))
    runs = list(source(path).stream())
    assert len(runs) > 5
    assert np.array_equal(joined(runs), MONDAY_NS + MINUTE_NS * np.arange(50))


def test_an_undefined_price_in_dbn_is_a_missing_price(save):
    rows = minutes_of(118)
    rows[2] = (118, rows[2][1], 2**63 - 1)
    path = save(dbn_bytes(rows, ES_AND_NQ))
    assert np.isnan(streamed(path)[0].close[2])
    _, repairs = source(path).load("ES")
    assert [(item.kind, item.rows) for item in repairs.items] == [("missing_price", 1)]


def test_cents_from_dbn_are_the_floats_that_were_meant(save):
    rows = [(118, MONDAY_NS + i * MINUTE_NS, (7000 + i) * 10_000_000) for i in range(3000)]
    path = save(dbn_bytes(rows, {"CLJ5": [(*YEAR, "118")]}))
    close = np.concatenate([run.close for run in streamed(path)])
    assert close.tolist() == [float(f"{70 + i // 100}.{i % 100:02}") for i in range(3000)]


def test_a_continuous_series_changes_contract_with_the_instrument_id(save):
    day = timedelta(days=1)
    monday = date(2025, 3, 3)
    mappings = {"ES.v.0": [(monday, monday + day, "118"), (monday + day, monday + 9 * day, "119")]}
    rows = minutes_of(118, start_ns=ns("2025-03-03T23:50"))
    rows += minutes_of(119, start_ns=ns("2025-03-04T00:00"), price=5_050_000_000_000)
    path = save(dbn_bytes(rows, mappings, stype_in="continuous"))
    for runs in (streamed(path), source(path).load("ES")[0]):
        assert [(run.instrument, run.contract_id) for run in runs] == [("ES.v.0", 0), ("ES.v.0", 1)]
        assert not any(run.irregular for run in runs)
    (roll,) = rolls(source(path), "ES")
    assert roll.seam_ns == ns("2025-03-04T00:00")
    assert roll.gap == 49.0


def test_an_instrument_id_is_another_contract_on_another_day(save):
    tuesday = date(2025, 3, 4)
    mappings = {"ESH5": [(YEAR[0], tuesday, "118")], "NQH5": [(tuesday, YEAR[1], "118")]}
    rows = minutes_of(118) + minutes_of(118, start_ns=ns("2025-03-04T15:00"))
    assert [run.root for run in streamed(save(dbn_bytes(rows, mappings)))] == ["ES", "NQ"]


def test_an_instrument_id_without_a_name_is_refused(save):
    path = save(dbn_bytes(minutes_of(118) + minutes_of(7), ES_AND_NQ))
    with pytest.raises(DataError, match="instrument id 7 that has no name"):
        streamed(path)
    path = save(dbn_bytes(minutes_of(118), {}), "nameless.dbn")
    with pytest.raises(DataError, match="row without a symbol"):
        streamed(path)


def test_spreads_of_a_parent_download_are_left_out_and_counted(save):
    mappings = {
        "ESH5": [(*YEAR, "118")],
        "ESM5": [(*YEAR, "119")],
        "ESH5-ESM5": [(*YEAR, "500")],
        "NQH5": [(*YEAR, "4358")],
        "NQH5-NQM5": [(*YEAR, "501")],
    }
    rows = [row for number in (118, 119, 500, 4358, 501) for row in minutes_of(number)]
    path = save(dbn_bytes(sorted(rows, key=lambda row: row[1]), mappings, stype_in="parent"))
    opened = source(path)
    assert [(run.root, run.irregular) for run in opened.stream()] == [
        ("ES", False),
        ("ES", True),
        ("NQ", False),
    ]
    assert set(opened.skipped) == {"ESH5-ESM5", "NQH5-NQM5"}
    runs, repairs = opened.load("ES", strict=True)
    assert [run.instrument for run in runs] == ["ESH2025"]
    assert {item.kind: item.rows for item in repairs.items} == {"not_front": 5, "combination": 5}


@pytest.mark.parametrize("schema", ["trades", "mbp-1", "definition", "ohlcv-1s", "ohlcv-1d"])
def test_another_schema_is_refused_by_name(save, schema):
    with pytest.raises(DataError, match=f"ohlcv-1m or ohlcv-1h, found {schema}"):
        source(save(dbn_bytes([], ES_AND_NQ, schema=schema)))


def test_hours_are_taken_as_they_are(save):
    rows = [(118, MONDAY_NS + i * 60 * MINUTE_NS, 5_000_000_000_000) for i in range(3)]
    assert (
        base_ns(streamed(save(dbn_bytes(rows, ES_AND_NQ, schema="ohlcv-1h", rtype=34))))
        == 60 * MINUTE_NS
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.99])
def test_a_cut_dbn_file_is_exit_3(save, packed, part):
    content = dbn_bytes(minutes_of(118, 400), ES_AND_NQ)
    content = zstandard.compress(content) if packed else content
    kept = int(len(content) * part)
    path = save(content[: kept + (not packed)])
    with pytest.raises(EnvironmentFault, match="unreadable or truncated file"):
        streamed(path)


def test_dbn_without_records_is_no_usable_row(save):
    with pytest.raises(DataError, match="no usable row"):
        streamed(save(dbn_bytes([], ES_AND_NQ)))


def client_parquet(content, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import databento  # which sets filters of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client uses what pandas will drop
        databento.DBNStore.from_bytes(io.BytesIO(content)).to_parquet(path, **options)
    return path


@pytest.mark.parametrize("price_type", ["float", "fixed"])
@pytest.mark.parametrize("pretty_ts", [True, False])
def test_the_clients_own_parquet_equals_the_dbn_it_came_from(save, tmp_path, price_type, pretty_ts):
    rows = sorted(
        minutes_of(118) + minutes_of(4358, price=20_000_000_000_000), key=lambda row: row[1]
    )
    rows[4] = (118, rows[4][1], 2**63 - 1)
    content = dbn_bytes(rows, ES_AND_NQ)
    path = client_parquet(
        content, tmp_path / "client.parquet", price_type=price_type, pretty_ts=pretty_ts
    )
    for ours, theirs in zip(
        streamed(path, volume=True), streamed(save(content), volume=True), strict=True
    ):
        assert (ours.instrument, ours.contract_id) == (theirs.instrument, theirs.contract_id)
        for name in ("ts_ns", *VALUES, "volume"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name), equal_nan=True)


def test_the_clients_parquet_of_a_continuous_series_knows_its_contracts(tmp_path):
    monday, tuesday = date(2025, 3, 3), date(2025, 3, 4)
    mappings = {"ES.v.0": [(monday, tuesday, "118"), (tuesday, YEAR[1], "119")]}
    rows = minutes_of(118) + minutes_of(119, start_ns=ns("2025-03-04T15:00"))
    content = dbn_bytes(rows, mappings, stype_in="continuous")
    path = client_parquet(content, tmp_path / "client.parquet", price_type="fixed")
    assert [run.contract_id for run in streamed(path)] == [0, 1]


def test_the_clients_parquet_without_symbols_says_how_to_write_them(tmp_path):
    content = dbn_bytes(minutes_of(118), ES_AND_NQ)
    path = client_parquet(content, tmp_path / "client.parquet", map_symbols=False)
    with pytest.raises(DataError, match=r"missing column 'symbol'.*map_symbols=True"):
        source(path)


def test_fixed_prices_without_the_vendors_columns_are_a_wrong_unit(tmp_path, write):
    content = dbn_bytes(minutes_of(118), ES_AND_NQ)
    path = client_parquet(content, tmp_path / "client.parquet", price_type="fixed")
    plain = pl.read_parquet(path).drop("rtype", "publisher_id")
    with pytest.raises(DataError, match="wrong unit"):
        streamed(write(plain, "plain.parquet"))


# Real files


@real
def test_real_minutes_of_the_vendor_are_read():
    es, nq = streamed(*SHARED.glob("dbn/futures_ohlcv-1m*"), volume=True)
    assert (es.instrument, nq.instrument) == ("ESU2024", "NQU2024")
    assert (es.ts_ns[0], es.open[0], es.close[0], es.volume[0]) == (
        ns("2024-07-01T23:40"),
        5527.25,
        5527.5,
        180,
    )
    assert (es.ts_ns.size, nq.ts_ns.size) == (30, 30)
    assert streamed(SHARED / "dbn" / "glbx_ohlcv-1m.dbn.zst")[0].instrument == "ESH2021"
    with pytest.raises(DataError, match="found trades"):
        source(*SHARED.glob("dbn/futures_trades*"))


@real
@pytest.mark.parametrize("price_type", ["float", "fixed"])
@pytest.mark.parametrize("pretty_ts", [True, False])
def test_real_minutes_through_the_client_are_the_same(tmp_path, price_type, pretty_ts):
    (path,) = SHARED.glob("dbn/futures_ohlcv-1m*")
    parquet = client_parquet(
        path.read_bytes(), tmp_path / "client.parquet", price_type=price_type, pretty_ts=pretty_ts
    )
    for ours, theirs in zip(streamed(parquet), streamed(path), strict=True):
        assert ours.instrument == theirs.instrument
        assert np.array_equal(ours.ts_ns, theirs.ts_ns)
        assert np.array_equal(ours.close, theirs.close)


@real
def test_a_real_year_is_clean_and_rolls_at_session_opens():
    opened = source(SHARED / "1m" / "ES_1m_2024-12_2025-12.parquet")
    runs, repairs = opened.load("ES", strict=True)
    assert not repairs
    assert joined(opened.stream()).size == joined(runs).size == 352_976
    found = rolls(opened, "ES")
    assert [(roll.old, roll.new) for roll in found] == [
        ("ESZ2024", "ESH2025"),
        ("ESH2025", "ESM2025"),
        ("ESM2025", "ESU2025"),
        ("ESU2025", "ESZ2025"),
    ]
    # The old contract printed last on the Friday before, so the Sunday open is the seam.
    assert found[2].seam_ns == ns("2025-06-15T22:00")
    assert (found[2].old_close, found[2].new_open, found[2].gap) == (5978.25, 6001.0, 22.75)
    report = check(opened).roots[0]
    assert report.missing_sessions == ("2025-12-08", "2025-12-09")
    assert (report.sessions, report.outside, report.base_ns) == (266, 0, MINUTE_NS)


@real
def test_a_real_roll_inside_a_session_has_its_seam_at_midnight_utc():
    opened = source(SHARED / "1m" / "MNQ_1m_2025-09_databento.parquet")
    (roll,) = rolls(opened, "MNQ")
    assert (roll.old, roll.new, roll.gap) == ("MNQU2025", "MNQZ2025", 243.25)
    assert roll.seam_ns == ns("2025-09-18T00:00")


@real
def test_real_five_minute_bars_have_their_width():
    opened = source(SHARED / "5m" / "NG_5m_ibkr.parquet")
    report = check(opened).roots[0]
    assert (report.base_ns, report.has_volume) == (5 * MINUTE_NS, True)
    assert len(report.rolls) == len(report.contracts) - 1 == 9


@real
def test_real_files_of_several_roots_stream_together():
    paths = [SHARED / "5m" / f"{root}_5m_ibkr.parquet" for root in ("NQ", "ES")]
    opened = source(*paths)
    runs = list(opened.stream())
    assert opened.roots == ("ES", "NQ")
    assert not any(run.irregular for run in runs)
    assert joined(runs, "ES").size == 151_453
    assert joined(runs, "NQ").size == 134_789
