"""What the benchmarks share: bars, and the table of their figures."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest
from budgets import HEAD, faults_of, figure_of, load_budgets, page_of, row_of
from data import by_polars, decade, year
from rich.console import Console
from rich.table import Table

os.environ["IBS_CACHE_BYTES"] = "0"  # commands read; what is kept has a benchmark of its own
REFERENCES, GROUPS = load_budgets()
BUDGETS = dict(chain.from_iterable(budgets.items() for budgets in GROUPS.values()))
FIGURES = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--results", type=Path, help="write the figures of this run as a page")


def pytest_configure(config):
    config.stash[FIGURES] = {}


@pytest.fixture
def record(request, benchmark):
    """Return a function that notes a figure: its name in budgets.toml, its value, and its reference's."""

    def noted(name, value, reference=None):
        figure = figure_of(BUDGETS[name], value, reference, os.getloadavg()[0])
        request.config.stash[FIGURES][name] = figure
        benchmark.extra_info[name] = {"ratio": figure.ratio, figure.budget.unit: figure.measured}

    return noted


def pytest_sessionfinish(session):
    figures = session.config.stash[FIGURES]
    if faults_of(figures) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    path = session.config.getoption("--results")
    if path is not None:
        day = datetime.now(UTC).date().isoformat()
        path.write_text(page_of(REFERENCES, GROUPS, figures, day), "utf-8", newline="\n")


def pytest_terminal_summary(config):
    figures = config.stash[FIGURES]
    table = Table(*HEAD)
    for budgets in GROUPS.values():
        for name, budget in budgets.items():
            if name in figures:
                bad = figures[name].is_over
                table.add_row(*row_of(budget, figures[name]), style="red" if bad else None)
        table.add_section()
    console = Console(width=None if os.isatty(1) else 200)
    console.print(table)
    for line in faults_of(figures):
        console.print(line, style="bold red", highlight=False, soft_wrap=True)


@pytest.fixture(scope="session")
def symbol_year():
    """One symbol, one year: about 350,000 minutes."""
    return year()


@pytest.fixture(scope="session")
def three_symbols():
    """Three symbols, one year, in one file as Polars writes it."""
    return by_polars(year(("ES", "GC", "CL")))


@pytest.fixture(scope="session")
def ten_years():
    """Twelve symbols, ten years: about 41 million minutes in one file."""
    return decade()


@pytest.fixture(scope="session")
def ten_years_by_polars():
    """The same bars as Polars writes them: plain values, lz4."""
    return by_polars(decade())
