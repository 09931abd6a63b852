"""Budgets of the benchmarks: what is over is said, what was not measured too, and no line is dead."""

import os
import re
from importlib import import_module
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def budgets():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        return import_module("budgets")


@pytest.fixture
def kept(budgets):
    budget = budgets.Budget("a minute", "ns", "loop", ratio=2.0, aim=5.0)
    return {"minute": budgets.figure_of(budget, 38e-9, 18e-9, load=0.5)}


def test_a_figure_over_its_budget_is_named_with_what_it_took_and_what_was_allowed(budgets, kept):
    assert budgets.faults_of(kept) == ["over budget: minute: 38 ns, 2.11 x loop, 18 ns; allowed 2"]


def test_a_reference_is_told_in_a_unit_of_its_own(budgets):
    budget = budgets.Budget("an hour ends", "ms", "loop", ratio=6e5)
    row = budgets.row_of(budget, budgets.figure_of(budget, 6.4e-3, 18e-9, load=0.5))
    assert row[1:4] == ("6.4 ms", "loop, 18 ns", "355,556")


def test_a_figure_at_its_budget_passes(budgets):
    budget = budgets.Budget("a page", "MB", 12.0, ratio=1.0)
    assert budgets.faults_of({"page": budgets.figure_of(budget, 12.0, None, load=0.5)}) == []
    assert budgets.faults_of({"page": budgets.figure_of(budget, 12.1, None, load=0.5)})


def test_a_busy_machine_is_told_beside_the_figure(budgets, kept, monkeypatch):
    monkeypatch.setattr(budgets.os, "cpu_count", lambda: 2)
    busy = budgets.figure_of(kept["minute"].budget, 38e-9, 18e-9, load=2.6)
    assert budgets.row_of(busy.budget, busy)[5] == "over*"
    assert budgets.faults_of({"minute": busy})[0].endswith("the machine was busy")
    assert budgets.row_of(busy.budget, kept["minute"])[5] == "over"


def test_a_reference_is_given_just_where_the_budget_names_one(budgets, kept):
    with pytest.raises(AssertionError):
        budgets.figure_of(kept["minute"].budget, 38e-9, None, load=0.5)
    with pytest.raises(AssertionError):
        budgets.figure_of(budgets.Budget("a page", "MB", 12.0, ratio=1.0), 1.0, 1.0, load=0.5)


def test_the_page_shows_every_budget_and_names_no_machine(budgets, kept):
    references, groups = budgets.load_budgets()
    page = budgets.page_of(references, groups, {}, "2026-01-01")
    named = [budget for group in groups.values() for budget in group.values()]
    assert page.count("not measured") == len(named)
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", page)
    groups = {"kernels": {"minute": kept["minute"].budget}}
    page = budgets.page_of(references, groups, kept, "2026-01-01")
    assert "| a minute | 38 ns | loop, 18 ns | 2.11 | 2 | over | 5 ns |" in page


def test_each_budget_is_measured_somewhere_and_each_reference_is_one_of_those_explained(budgets):
    references, groups = budgets.load_budgets()
    sources = "\n".join(path.read_text("utf-8") for path in BENCH.glob("test_*.py"))
    words = set(re.findall(r'f?"([\w{}-]+)"', sources))
    known = [name for group in groups.values() for name in group]
    assert len(known) == len(set(known))
    for name in known:
        forms = {name, *(name.replace(stem, "{name}") for stem in words)}
        assert forms & words, name
    named = {each.of for group in groups.values() for each in group.values()}
    assert {each for each in named if isinstance(each, str)} == references.keys()
