"""The study of the edge: its figures equal plain counting, look one bar ahead and no further, and the page is current."""

from __future__ import annotations

import importlib
import itertools
import json
import math
from datetime import date, timedelta
from pathlib import Path

import naive
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import SHARED, real

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        return importlib.import_module("evidence_figures")


@pytest.fixture(scope="module")
def builder(figures):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        return importlib.import_module("build_evidence")


@pytest.fixture(scope="module")
def index(figures):
    return figures.daily_bars()


def days_of(seed, n=40):
    """Days around the split with coarse prices, so that flat bars and the bounds of buckets are common."""
    rng = np.random.default_rng(seed)
    low = 10_000 + np.cumsum(rng.integers(-8, 9, n))
    height = rng.integers(0, 11, n)
    opened, close = (low + np.rint(height * rng.integers(0, 6, n) / 5) for _ in range(2))
    first = date(2012, 12, 31) - timedelta(days=n // 2)
    prices = {"open": opened, "high": low + height, "low": low, "close": close}
    return pl.DataFrame(
        {
            "date": [first + timedelta(days=i) for i in range(n)],
            **{name: values / 100 for name, values in prices.items()},
        }
    )


def counted(days, n_buckets):
    """Count a list of (IBS, return or None) by bucket: n, mean and standard error of each, NaN for none."""
    found = {}
    place = [min(int(strength * n_buckets), n_buckets - 1) for strength, _ in days]
    for k in sorted(set(place)):
        known = [j == k and bp is not None for j, (_, bp) in zip(place, days, strict=True)]
        inside = [bp for is_in, (_, bp) in zip(known, days, strict=True) if is_in]
        n, mean = len(inside), sum(inside) / len(inside) if inside else math.nan
        off = [bp - mean if is_in else 0.0 for is_in, (_, bp) in zip(known, days, strict=True)]
        spread = sum(x * x for x in off) + sum(x * y for x, y in itertools.pairwise(off))
        error = math.sqrt(max(spread, 0.0)) / n if n > 1 else math.nan
        found[round(k / n_buckets, 2)] = (n, mean, error)
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_buckets=st.sampled_from([5, 10]))
def test_the_buckets_equal_plain_counting(figures, seed, n_buckets):
    daily = days_of(seed)
    close = daily["close"].to_list()
    after = [1e4 * (b - a) / a for a, b in itertools.pairwise(close)]
    strength = naive.ibs(daily["high"].to_list(), daily["low"].to_list(), close)
    rows = list(zip(daily["date"], strength, [*after, None], strict=True))
    tables = figures.by_period(figures.followed(daily), n_buckets)
    wanted = {
        "TOTAL": rows,
        "before": [row for row in rows if row[0].year < 2013],
        "since": [row for row in rows if row[0].year >= 2013],
    }
    for name, own in wanted.items():
        told = {
            row["ibs_from"]: [
                math.nan if row[key] is None else row[key]
                for key in ("bar_n", "bar_bp", "bar_se_bp")
            ]
            for row in tables[name]["buckets"]
        }
        expected = counted([row[1:] for row in own], n_buckets)
        assert told.keys() == expected.keys()
        for key, cells in expected.items():
            assert told[key] == pytest.approx(cells, abs=1e-6, nan_ok=True), (name, key)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), day=st.integers(0, 37))
def test_a_return_looks_at_the_next_close_and_no_further(figures, seed, day):
    daily = days_of(seed)
    whole = figures.followed(daily)
    cut = figures.followed(daily.head(day + 2))
    assert cut.head(day + 1).equals(whole.head(day + 1))
    assert cut["bar_bp"][day + 1] is None, "of the last day nothing is known yet"
    later = pl.int_range(pl.len()) == day + 1
    moved = pl.when(later).then(pl.col("high") + 0.01).otherwise(pl.col("high"))
    higher = daily.with_columns(high=moved, open=pl.when(later).then("low").otherwise("open"))
    assert figures.followed(higher)["bar_bp"].equals(whole["bar_bp"]), "only closes count"
    closed = pl.when(later).then(pl.col("close") + 0.01).otherwise(pl.col("close"))
    changed = figures.followed(daily.with_columns(close=closed))["bar_bp"]
    assert changed.head(day).equals(whole["bar_bp"].head(day))
    assert changed[day] > whole["bar_bp"][day]


def test_the_rule_on_the_index_equals_a_plain_loop(figures, index):
    first, last = figures.PERIODS["2006 to 2012"]
    days = index.filter(pl.col("date").is_between(first, last))
    strength = naive.ibs(days["high"].to_list(), days["low"].to_list(), days["close"].to_list())
    opened, entry, gross, held = days["open"].to_list(), None, [], 0
    for i, share in enumerate(strength[:-1]):
        if entry is None and share <= 0.2:
            entry = i + 1
        elif entry is not None and share >= 0.8:
            gross.append(1e4 * (opened[i + 1] / opened[entry] - 1))
            held, entry = held + i + 1 - entry, None
    row = figures.rule_row(index, first, last)
    assert row["trades"] == len(gross)
    error = np.std(gross, ddof=1) / math.sqrt(len(gross))
    assert row["gross"] == pytest.approx((np.mean(gross), error))
    assert row["in_market"] == pytest.approx(held / len(strength))
    assert row["net"][0] < row["gross"][0]


def test_the_page_is_current_and_needs_no_minute_bars(builder, tmp_path, monkeypatch):
    committed = {name: getattr(builder, name) for name in ("PAGE", "CHART", "MINUTES")}
    before = {name: path.read_bytes() for name, path in committed.items()}
    for name, path in committed.items():
        monkeypatch.setattr(builder, name, tmp_path / path.name)
    builder.MINUTES.write_bytes(before["MINUTES"])
    monkeypatch.setattr(builder, "SHARED", tmp_path / "absent")
    builder.main()
    made = {name: getattr(builder, name).read_bytes() for name in committed}
    assert made == before, "run `make evidence`"


@real
def test_the_committed_figures_are_those_of_the_minute_bars(figures, builder, monkeypatch):
    monkeypatch.setattr(figures, "WIDTHS", ("1h",))
    measured = json.loads(json.dumps(figures.measure_minutes(SHARED)))
    stored = json.loads(builder.MINUTES.read_text("utf-8"))
    for each in stored.values():
        for part in ("forward", "rule"):
            each[part] = [row for row in each[part] if row["width"] == "1h"]
    assert measured == stored
