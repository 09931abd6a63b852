"""The page on growth is made of its figures, none of which grows faster than linearly."""

import importlib
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
KEPT = json.loads((DOCS / "growth.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def builder():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        patch.syspath_prepend(DOCS.parent / "bench")
        return importlib.import_module("build_growth")


def test_the_page_and_its_picture_are_current(builder):
    assert builder.PAGE.read_text("utf-8") == builder.page(KEPT)
    assert builder.CHART.read_text("utf-8") == builder.chart(KEPT)


def test_an_exponent_is_that_of_the_larger_sizes(builder):
    sizes = [1, 2, 4, 8, 16, 32]
    assert builder.exponent_of(sizes, [7 * n**2 for n in sizes]) == pytest.approx(2)
    fixed = builder.exponent_of(sizes, [1 + 0.5 * n for n in sizes])
    assert 0.8 < fixed < 1


def test_nothing_grows_faster_than_linearly(builder):
    for name, panel in builder.PANELS.items():
        of_time, of_memory = builder.exponents(panel, KEPT["figures"])
        assert of_time <= builder.WORST, name
        assert of_memory is None or of_memory <= builder.WORST, name


def test_growth_that_is_worse_is_seen(builder):
    rows = [
        {"n": n, "user_s": n**1.3, "before": 100.0, "peak": 100.0 + n**1.2}
        for n in (10, 100, 1000, 10_000)
    ]
    panel = builder.Panel(("slow",), "things", "")
    assert builder.exponents(panel, {"slow": rows}) == pytest.approx((1.3, 1.2), abs=0.02)
