"""Bars that are aggregated straight from their pages: the same bars as by Polars, or a fault, never others."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ibs_core import bar_file
from ibs_core.bar_file import BARS, write_bars
from ibs_core.bars import MINUTE_NS
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import EnvironmentFault
from ibs_core.market_data import PackedRun, open_bars
from ibs_core.parquet_file import marks_of
from ibs_core.reading import read_series
from ibs_core.series import Scratch, SeriesBuilder, make_plan
from ibs_core.universe import Universe

MAP = load_contract_map()
START_NS = int(np.datetime64("2025-03-03T15:00", "ns").astype(np.int64))
FIELDS = ("ts_ns", "open", "high", "low", "close")


def minutes(rng, n, symbol="ES", *, start_ns=START_NS, steps=(1,), odd=0.0, levels=40):
    """Lawful minutes; of some, when `odd`, the prices or the time break a law."""
    step = rng.choice(steps, n)
    close = 5000 + 0.25 * rng.integers(0, levels, n)
    opening = 5000 + 0.25 * rng.integers(0, levels, n)
    frame = {
        "open": opening,
        "high": np.maximum(opening, close) + 0.25 * rng.integers(0, 3, n),
        "low": np.minimum(opening, close) - 0.25 * rng.integers(0, 3, n),
        "close": close,
    }
    broken = rng.random(n) < odd
    frame["close"][broken] = rng.choice([np.nan, 1.0, 1e9, -0.0, np.inf])
    times = start_ns + MINUTE_NS * np.cumsum(step)
    return pl.DataFrame(
        {
            "ts_event": pl.Series(times).cast(BARS["ts_event"]),
            "symbol": pl.Series([symbol] * n, dtype=pl.String),
            **frame,
            "volume": pl.Series(rng.integers(0, 2**40, n) if n % 2 else np.arange(n) % 7),
        }
    )


def builder(*, with_path):
    sessions = Universe(load_settings(), MAP, start=None, end=None).instrument("ES").session_table
    plan = make_plan(60 * MINUTE_NS, with_path=with_path, mark_ns=0, allow_nonpositive=False)
    return SeriesBuilder("ES", sessions, plan, Scratch())


def taken(runs, *, with_path):
    """Take runs as they come: where each broke a law, and the series so far."""
    made, lawful = builder(with_path=with_path), []
    for run in runs:
        lawful.append(made.add(run))
        if not lawful[-1]:
            break
    told = (made.state.tobytes(), tuple(made.instruments), all(lawful))
    series = made.finish()
    return *told, series.bars.tobytes(), series.days.tobytes(), series.path.tobytes()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=3),
    few=st.booleans(),
    odd=st.sampled_from([0.0, 0.0, 0.002]),
    volume=st.booleans(),
    with_path=st.booleans(),
)
def test_pages_and_polars_give_the_same_bars(
    seed, lengths, few, odd, volume, with_path, tmp_path_factory
):
    rng = np.random.default_rng(seed)
    steps = (1, 1, 1, 1, 2, 3, 700) if seed % 2 else (1,)
    parts, start_ns = [], START_NS
    for k, n in enumerate(lengths):
        symbol = ("ESH25", "ESM25", "ESU25")[k]
        levels = 40 if few else 2**25
        parts.append(
            minutes(rng, n, symbol, start_ns=start_ns, steps=steps, odd=odd, levels=levels)
        )
        start_ns = int(parts[-1]["ts_event"].to_physical()[-1])
    path = tmp_path_factory.mktemp("bars") / "a.parquet"
    with pytest.MonkeyPatch.context() as patch:  # of a call, not of the whole test
        patch.setattr(bar_file, "ROW_GROUP", int(rng.choice([128, 129, 2_049, 5_000])))
        patch.setattr(bar_file, "DISTINCT", 64)
        write_bars(parts, path, {})
    packed = list(open_bars([path], MAP).packed(["ES"], volume=volume))
    assert all(isinstance(run, PackedRun) for run in packed)
    plain = list(open_bars([path], MAP).stream(["ES"], volume=volume))
    fields = (*FIELDS, "volume") if volume else FIELDS
    for name in fields:
        one, other = (
            np.concatenate([getattr(run, name) for run in runs]).view(np.int64)
            for runs in ([run.minutes() for run in packed], plain)
        )
        assert one.tolist() == other.tolist()
    assert taken(packed, with_path=with_path) == taken(plain, with_path=with_path)


def read(path):
    """Read the bars of a file as a back-test does."""
    universe = Universe(load_settings(), MAP, start=None, end=None)
    (series,) = read_series(open_bars([path], MAP), universe, ["ES"])[0].values()
    return series


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(7)
    return write_bars([minutes(rng, 5_000, steps=(1, 1, 1, 2))], tmp_path / "a.parquet", {})


def is_packed(path):
    return all(isinstance(run, PackedRun) for run in open_bars([path], MAP).packed())


def test_a_mark_that_another_program_copied_tells_nothing(path, tmp_path):
    other = tmp_path / "b.parquet"
    pl.read_parquet(path).write_parquet(other, metadata=marks_of(path))
    assert is_packed(path)
    assert not is_packed(other)
    assert read(other).bars.tobytes() == read(path).bars.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.with_columns(symbol=pl.Series(["ESH25", "ESM25"] * 2_500)),
        lambda frame: frame.with_columns(open=pl.Series([None, *frame["open"][1:]])),
    ],
    ids=["symbols that alternate", "a null price"],
)
def test_what_pages_cannot_tell_is_left_to_polars(change, path, tmp_path):
    frame = change(pl.read_parquet(path))
    other = write_bars([frame], tmp_path / "b.parquet", {})
    assert not is_packed(other)
    assert pl.read_parquet(other).equals(frame)


def test_unknown_volume_is_left_to_polars_when_it_is_read(path, tmp_path):
    frame = pl.read_parquet(path).with_columns(volume=pl.lit(None, pl.Int64))
    source = open_bars([write_bars([frame], tmp_path / "b.parquet", {})], MAP)
    assert all(isinstance(run, PackedRun) for run in source.packed())
    assert [run.volume for run in source.packed(volume=True)] == [None]


def test_a_root_that_breaks_a_law_is_repaired_as_ever(path, tmp_path):
    frame = pl.read_parquet(path)
    twice = pl.concat([frame, frame.slice(100, 3)])
    other = write_bars([twice], tmp_path / "b.parquet", {})
    assert is_packed(other)
    repaired, meant = read(other).bars, read(path).bars
    for name in ("first_ns", "open", "high", "low", "close", "n_minutes"):
        assert repaired[name].tolist() == meant[name].tolist()


def damaged(path, at, value):
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("byte", range(8))
@pytest.mark.parametrize("chunk", [0, 2, 5])
def test_a_page_that_is_told_otherwise_is_a_fault(chunk, byte, path):
    (run,) = open_bars([path], MAP).packed()
    at = run.group.chunks[chunk] + byte
    damaged(path, at, path.read_bytes()[at] ^ 0x11)
    with pytest.raises(EnvironmentFault, match="pages of another layout"):
        read(path)


def test_a_number_beyond_its_dictionary_is_a_fault(path):
    (run,) = open_bars([path], MAP).packed()
    close_stop = run.group.chunks[6]
    damaged(path, close_stop - 1, 0xFF)
    damaged(path, close_stop - 2, 0xFF)
    with pytest.raises(EnvironmentFault):
        read(path)


def test_a_file_that_ends_early_after_it_was_opened_is_a_fault(path):
    source = open_bars([path], MAP)
    runs = list(source.packed())
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(EnvironmentFault, match="bytes fewer"):
        runs[0].minutes()
    with pytest.raises(EnvironmentFault, match="bytes fewer"):
        builder(with_path=False).add(runs[0])
