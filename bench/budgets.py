"""Figures against their budgets: what each may cost, what it cost, and the page that says so."""

from __future__ import annotations

import os
import platform
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

BUDGETS = Path(__file__).with_name("budgets.toml")
SCALE = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0}
"""What one second is in the units of time; figures of other units are given in them."""
BUSY = 1.25  # load average a core: beyond it a figure is marked
LIBRARIES = ("numpy", "numba", "llvmlite", "polars", "onnxruntime", "scikit-learn", "httpx")
HEAD = ("figure", "measured", "reference", "ratio", "budget", "", "aim")


@dataclass(frozen=True)
class Budget:
    """One line of budgets.toml.

    ``of`` names what the figure is measured against in the same run, or is a fixed number in its unit.
    """

    what: str
    unit: str
    of: str | float
    ratio: float
    aim: float | None = None


@dataclass(frozen=True)
class Figure:
    """What was measured, and its reference, both in the unit of the budget; the load at the time."""

    budget: Budget
    measured: float
    reference: float
    load: float

    @property
    def ratio(self):
        return self.measured / self.reference

    @property
    def is_over(self):
        return self.ratio > self.budget.ratio


def load_budgets(path=BUDGETS):
    """Return what each reference is, and the budgets by name, group by group."""
    tables = tomllib.loads(path.read_text("utf-8"))
    references = tables.pop("references")
    groups = {
        group: {name: Budget(**line) for name, line in lines.items()}
        for group, lines in tables.items()
    }
    return references, groups


def figure_of(budget, value, reference, load):
    """Make a figure of what was measured: seconds for units of time, else the unit itself.

    A reference is given just where the budget names one.
    """
    assert (reference is None) == (not isinstance(budget.of, str)), budget
    scale = SCALE.get(budget.unit, 1.0)
    against = budget.of if reference is None else reference * scale
    return Figure(budget, value * scale, against, load)


def faults_of(figures):
    """Say of each figure over its budget by how much, in one line."""
    lines = []
    for name, figure in figures.items():
        if figure.is_over:
            measured, against, ratio, allowed, *_ = row_of(figure.budget, figure)[1:]
            busy = "; the machine was busy" if _is_busy(figure) else ""
            lines.append(
                f"over budget: {name}: {measured}, {ratio} x {against}; allowed {allowed}{busy}"
            )
    return lines


def row_of(budget, figure):
    """Return the cells of one line of the table, in the order of `HEAD`."""
    aim = "" if budget.aim is None else f"{_short(budget.aim)} {budget.unit}"
    if figure is None:
        return budget.what, "not measured", "", "", _short(budget.ratio), "", aim
    against = f"{_short(figure.reference)} {budget.unit}"
    if isinstance(budget.of, str):
        against = f"{budget.of}, {_short_time(figure.reference / SCALE[budget.unit])}"
    state = ("over" if figure.is_over else "ok") + ("*" if _is_busy(figure) else "")
    measured = f"{_short(figure.measured)} {budget.unit}"
    return budget.what, measured, against, _short(figure.ratio), _short(budget.ratio), state, aim


def page_of(references, groups, figures, day):
    """Return the page of results: the machine, one table a group, what the references are."""
    parts = [
        "# Results",
        f"Made by `make bench` on {day}; how to read it: [benchmarks](../docs/benchmarks.md).",
        "\n".join(f"- {line}" for line in machine()),
        _loads(figures),
    ]
    for group, budgets in groups.items():
        rows = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)]]
        rows += [row_of(budget, figures.get(name)) for name, budget in budgets.items()]
        parts += [f"## {group.capitalize()}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    parts += [
        "## References",
        "\n".join(f"- **{name}**: {text}" for name, text in references.items()),
    ]
    return "\n\n".join(parts) + "\n"


def machine():
    """Say what kind of machine this is and what runs on it; nothing that names it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = [f"{name} {version}" for name in LIBRARIES if (version := _version(name))]
    return [
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def _loads(figures):
    if not figures:
        return "Nothing was measured."
    loads = [figure.load for figure in figures.values()]
    text = f"Load average {min(loads):.1f} to {max(loads):.1f}, the benchmarks themselves included."
    if any(map(_is_busy, figures.values())):
        text += (
            f" `*`: more than {BUSY * (os.cpu_count() or 1):.1f} at the time; not to be relied on."
        )
    return text


def _is_busy(figure):
    return figure.load > BUSY * (os.cpu_count() or 1)


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "processor unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "processor unknown"


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _short_time(seconds):
    unit = next((each for each in reversed(SCALE) if seconds * SCALE[each] >= 1), "ns")
    return f"{_short(seconds * SCALE[unit])} {unit}"


def _short(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
