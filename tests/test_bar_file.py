"""The layout in which bars are written: every reader sees the same bars, bit for bit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from ibs_core import bar_file
from ibs_core.bar_file import BARS, write_bars
from ibs_core.bars import MINUTE_NS
from ibs_core.market_data.parquet import ParquetBars
from ibs_core.parquet_file import marks_of

PRICES = ("open", "high", "low", "close")
ODD = [0.0, -0.0, 5e-324, 1.5, -37.63, 1e300, np.inf, np.nan]


def bars_of(steps, names, prices, volume):
    times = np.cumsum(np.array(steps, dtype=np.int64)) * MINUTE_NS
    columns = {"ts_event": pl.Series(times, dtype=pl.Int64).cast(BARS["ts_event"])}
    columns["symbol"] = pl.Series(names, dtype=pl.String)
    columns |= {
        name: pl.Series(prices[k:] + prices[:k], dtype=pl.Float64) for k, name in enumerate(PRICES)
    }
    return pl.DataFrame(columns | {"volume": pl.Series(volume, dtype=pl.Int64)})


def drawn(rng, n, *, null):
    """Bars of every kind of value, odd ones among them."""

    def column(values):
        return [None if null and rng.random() < 0.3 else each for each in values.tolist()]

    prices = np.where(rng.random(n) < 0.5, rng.choice(ODD, n), rng.normal(size=n))
    few = rng.integers(0, 9, n)
    return bars_of(
        rng.choice([1, 1, 1, 2, 61, 2_900, -5, 10**7], n),
        column(np.sort(rng.choice(["ESZ24", "ESH25", "ü"], n))),
        column(prices),
        column(few if rng.random() < 0.5 else rng.integers(-(2**63), 2**63 - 1, n)),
    )


def bits(frame):
    return [frame[name].drop_nulls().to_numpy().view(np.int64).tolist() for name in PRICES]


@pytest.mark.parametrize("seed", range(24))
def test_polars_and_pyarrow_read_what_was_written(seed, tmp_path):
    rng = np.random.default_rng(seed)
    parts = [drawn(rng, rng.integers(1, 400), null=seed % 2 == 1) for _ in range(seed % 3 + 1)]
    path = write_bars(parts, tmp_path / "bars.parquet", {"ibs.source": "test"})
    whole = pl.concat(parts)
    read = pl.read_parquet(path)
    assert read.schema == BARS
    assert read.equals(whole)
    assert bits(read) == bits(whole)
    theirs = pq.read_table(path)
    assert pl.from_arrow(theirs).cast(dict(BARS)).equals(whole)
    assert marks_of(path)["ibs.source"] == "test"


@pytest.mark.parametrize("n", [1, 7, 8, 9, 32, 33, 128, 129, 130, 4_097])
def test_a_page_may_end_inside_any_block(n, tmp_path):
    rng = np.random.default_rng(n)
    frame = bars_of(
        rng.integers(1, 4, n), ["ES"] * n, (rng.integers(0, n, n) * 0.25).tolist(), range(n)
    )
    assert pl.read_parquet(write_bars([frame], tmp_path / "a.parquet", {})).equals(frame)


def test_too_many_different_values_are_written_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(bar_file, "DISTINCT", 64)
    prices = np.random.default_rng(1).normal(size=500).tolist()
    frame = bars_of([1] * 500, ["ES"] * 500, prices, [k % 64 for k in range(500)])
    path = write_bars([frame], tmp_path / "a.parquet", {})
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert not group.column(2).has_dictionary_page
    assert group.column(6).has_dictionary_page
    assert pl.read_parquet(path).equals(frame)


def test_row_groups_tell_their_extremes_and_their_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(bar_file, "ROW_GROUP", 100)
    n = 250
    frame = bars_of([1] * n, ["ES"] * 120 + ["NQ"] * 130, [1.5, 2.5] * (n // 2), [3] * n)
    path = write_bars([frame], tmp_path / "a.parquet", {})
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(g).num_rows for g in range(3)] == [100, 100, 50]
    symbols = [metadata.row_group(g).column(1).statistics for g in range(3)]
    assert [(each.min, each.max) for each in symbols] == [("ES", "ES"), ("ES", "NQ"), ("NQ", "NQ")]
    assert metadata.row_group(0).column(2).statistics.max == 2.5
    assert ParquetBars(path).n_rows() == n
    pl.DataFrame(frame).write_parquet(path)
    assert ParquetBars(path).n_rows() == n


def test_an_extreme_is_not_told_where_a_price_is_no_number(tmp_path):
    frame = bars_of([1, 1], ["ES", "ES"], [np.nan, 1.0], [1, 1])
    path = write_bars([frame], tmp_path / "a.parquet", {})
    assert not pq.ParquetFile(path).metadata.row_group(0).column(2).statistics.has_min_max


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield bars_of([1], ["ES"], [1.0], [1])
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bars(broken(), tmp_path / "a.parquet", {})
    assert not list(tmp_path.iterdir())
