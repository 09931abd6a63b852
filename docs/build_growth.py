# ruff: noqa: INP001  # a script beside its page, not a package
"""Write docs/growth.md and its picture: `make growth`, or `python docs/build_growth.py`.

The figures are measured and kept in growth.json; the page and the picture are made of that file alone.
"""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from growth_figures import exponent_of, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).with_name("growth.md")
CHART = Path(__file__).with_name("growth.svg")
FIGURES = Path(__file__).with_name("growth.json")
WORST: Final = 1.1  # an exponent above it is not called linear
LEAST_MB: Final = 10  # memory that grows by less from the least size to the largest has no exponent
GIB_MB: Final = 1024
WIDTH, HEIGHT = 300, 190
LEFT, TOP, INNER_WIDTH, INNER_HEIGHT = 52, 40, 232, 110
Row = dict[str, Any]
Points = list[tuple[float, float]]


class Panel(NamedTuple):
    """One thing that work grows with: the cases that show it, what is counted, and what the page says."""

    cases: tuple[str, ...]
    axis: str
    what: str


PANELS: Final = {
    "symbols and years": Panel(
        ("years", "symbols"), "symbol-years", "hourly bars: years of one symbol, symbols of ten"
    ),
    "minutes": Panel(
        ("minutes",), "minutes", "daily bars, so that hardly anything but minutes grows"
    ),
    "signal bars": Panel(
        ("bars",), "signal bars", "one-minute bars of one symbol, one to ten years"
    ),
    "features": Panel(("features",), "features", "of 59,000 hourly bars of one symbol"),
    "parameters": Panel(
        ("candidates",), "candidates", "`ibs sweep` of one symbol-year, one process"
    ),
    "trades": Panel(
        ("trades",), "trades", "statistics, report and run folder; ten years in 5m bars"
    ),
}
STYLE: Final = """\
<style>
  .paper { fill: #ffffff } .ink { fill: #222222 } .dim { fill: #555555 }
  .grid { stroke: #dddddd } .linear { stroke: #888888; stroke-dasharray: 4 3 }
  .s0 { stroke: #0b62a8; fill: #0b62a8 } .s1 { stroke: #c4541a; fill: #c4541a } .line { fill: none }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #15181c } .ink { fill: #e8e8e8 } .dim { fill: #b0b0b0 }
    .grid { stroke: #3a3f45 } .linear { stroke: #8a8f96 }
    .s0 { stroke: #62b0ee; fill: #62b0ee } .s1 { stroke: #f0915a; fill: #f0915a } .line { fill: none }
  }
</style>"""
TEXT = """\
# Growth

What a back-test and its kin take as they grow, made by `make growth`: processor time of all threads together, and the
peak memory of the process. What the system takes stands apart: it is mostly the handing out of fresh memory, whose price
depends on the machine and is high on some virtual ones. Each point is a process of its own that has loaded everything before it is measured; the
bars are generated. {machine}

![Processor time and peak memory against sizes](growth.svg)

Both axes of each panel are logarithmic. The dashed line through the largest size is linear growth: what lies above it
to its left grows more slowly. The exponent is that of the larger half of the sizes, where fixed costs weigh least; of
memory it is that of what is added to the process as it started.

{table}

## Where it stops, and what then

- **Symbols and years.** Time is linear. Memory is that of the signal bars, {bar_bytes} bytes each with what is known of
  it; a symbol-year of hourly bars takes {year_mb} MB, so {memory} GiB hold {years} symbol-years. Beyond that: run groups
  of symbols one after the other. Their trades are the same unless a portfolio limit (`risk`) lets one symbol know
  another.
- **Minutes.** They stream past; none is kept. {minute_ns} ns of one core each, {minute_s} s for ten years of twelve
  symbols, whatever the rule. A file is mapped or read piece by piece, so its size is bound by the disk alone.
- **Signal bars.** Narrow bars are what fills memory: ten years of one symbol in 1m bars peak at {narrow} MB. {memory} GiB
  hold {bars} million bars. Beyond that: fewer symbols a run, or wider bars.
- **Features.** {feature_ms} ms each for ten years of hourly bars. A table holds 8 bytes a feature and bar, of one symbol
  at a time; the catalogue ends the growth.
- **Parameters.** {candidate_ms} ms a candidate beside bars that are there, on one core, its page and the ledger of trials
  included. Beyond a night of one machine: `--cluster`, or `--search`, which proposes instead of trying all.
- **Trades.** {trade_us} us each. The page holds them all and is what gives way first: a browser that opens 75,000 does so
  in seconds, of several hundred thousand it takes its time. `--no-report` leaves the page out; the run folder's Parquet
  files have no such bound.

## Rebuild

```bash
make growth
```
"""


def points_of(panel: Panel, figures: dict[str, list[Row]], key: str) -> list[Points]:
    """Return of each case its sizes and values, the least size first."""
    return [sorted((row["n"], row[key]) for row in figures[case]) for case in panel.cases]


def exponents(panel: Panel, figures: dict[str, list[Row]]) -> tuple[float, float | None]:
    """Return the worst exponent of time and of added memory; None where memory hardly grows."""
    times = [
        exponent_of(*zip(*points, strict=True)) for points in points_of(panel, figures, "user_s")
    ]
    memory = []
    for case in panel.cases:
        rows = sorted(figures[case], key=lambda row: row["n"])
        added = [max(row["peak"] - row["before"], 1.0) for row in rows]
        if added[-1] - added[0] >= LEAST_MB:
            memory.append(exponent_of([row["n"] for row in rows], added))
    return max(times), max(memory, default=None)


def page(kept: Row) -> str:
    """Return the whole page."""
    figures, memory = kept["figures"], 16
    bar_mb = _slope(figures["bars"], "peak")
    year_mb = _slope(figures["symbols"], "peak")
    minute_s = _slope(figures["minutes"], "user_s")
    return TEXT.format(
        machine=f"Measured on {kept['day']}: {'; '.join(kept['machine'])}.",
        table=_table(figures),
        memory=memory,
        bar_bytes=f"{round(bar_mb * 2**20, -1):.0f}",
        year_mb=f"{year_mb:.1f}",
        years=f"{round(memory * GIB_MB / year_mb, -2):,.0f}",
        minute_ns=f"{minute_s * 1e9:.0f}",
        minute_s=f"{figures['minutes'][-1]['user_s']:.1f}",
        narrow=f"{figures['bars'][-1]['peak']:,.0f}",
        bars=f"{memory * GIB_MB / bar_mb / 1e6:.0f}",
        feature_ms=f"{_slope(figures['features'], 'user_s') * 1e3:.0f}",
        candidate_ms=f"{_slope(figures['candidates'], 'user_s') * 1e3:.1f}",
        trade_us=f"{_slope(figures['trades'], 'user_s') * 1e6:.0f}",
    )


def _slope(rows: list[Row], key: str) -> float:
    """Return what one more of the size adds, over the two largest sizes."""
    (n, value), (n_last, last) = sorted((row["n"], row[key]) for row in rows)[-2:]
    return max(float((last - value) / (n_last - n)), 1e-12)


def _table(figures: dict[str, list[Row]]) -> str:
    lines = [
        "| against | what | largest | time | exponent | system | peak memory | exponent |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, panel in PANELS.items():
        last = max((row for case in panel.cases for row in figures[case]), key=lambda row: row["n"])
        of_time, of_memory = exponents(panel, figures)
        told = "hardly grows" if of_memory is None else f"{of_memory:.2f}"
        lines.append(
            f"| {name} | {panel.what} | {last['n']:,.0f} {panel.axis} | {last['user_s']:.1f} s "
            f"| {of_time:.2f} | {last['system_s']:.1f} s | {last['peak']:,.0f} MB | {told} |"
        )
    return "\n".join(lines)


def chart(kept: Row) -> str:
    """Return the picture: for each panel the processor time, and below it the peak memory."""
    figures = kept["figures"]
    size = f"0 0 {3 * WIDTH + 10} {4 * HEIGHT + 20}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">',
        STYLE,
        '<rect class="paper" width="100%" height="100%"/>',
    ]
    for k, (name, panel) in enumerate(PANELS.items()):
        x, y = k % 3 * WIDTH, k // 3 * 2 * HEIGHT
        of_time, of_memory = exponents(panel, figures)
        told = "hardly grows" if of_memory is None else f"exponent {of_memory:.2f}"
        for key, title, at in (
            ("user_s", f"{name}: time, exponent {of_time:.2f}", y),
            ("peak", f"{name}: memory, {told}", y + HEIGHT),
        ):
            unit = "processor time, s" if key == "user_s" else "peak memory, MB"
            parts += _drawn(points_of(panel, figures, key), (x, at), (title, panel.axis, unit))
    for k, name in enumerate(("years of one symbol", "symbols of ten years")):
        parts.append(f'<circle class="s{k}" cx="{LEFT + 150 * k + 4}" cy="12" r="3.5"/>')
        parts.append(_label(LEFT + 150 * k + 12, 16, name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _drawn(series: list[Points], at: tuple[float, float], texts: tuple[str, str, str]) -> list[str]:
    """Draw one panel: grid, the line of linear growth, a line and dots for each case."""
    x0, y0 = at[0] + LEFT, at[1] + TOP
    ns, values = zip(*(point for points in series for point in points), strict=True)
    xs, ys = _span(ns), _span(values)

    def place(n: float, value: float) -> tuple[float, float]:
        across, up = _share(n, xs), _share(value, ys)
        return x0 + INNER_WIDTH * across, y0 + INNER_HEIGHT * (1 - up)

    title, axis, unit = texts
    parts = [_label(x0, y0 - 8, f"{title}", "start", "ink")]
    for tick in _ticks(ys):
        y = place(xs[0], tick)[1]
        parts.append(_line((x0, y), (x0 + INNER_WIDTH, y), "grid"))
        parts.append(_label(x0 - 5, y + 4, _number(tick), "end"))
    for tick in _ticks(xs):
        x = place(tick, ys[0])[0]
        parts.append(_line((x, y0), (x, y0 + INNER_HEIGHT), "grid"))
        parts.append(_label(x, y0 + INNER_HEIGHT + 14, _number(tick)))
    parts.append(_label(x0 + INNER_WIDTH / 2, y0 + INNER_HEIGHT + 29, axis))
    middle = y0 + INNER_HEIGHT / 2
    turned = f' transform="rotate(-90 {x0 - 40:.1f} {middle:.1f})"'
    parts.append(_label(x0 - 40, middle, unit, more=turned))
    n, value = max(point for points in series for point in points)
    least = max(xs[0], n * ys[0] / value)
    parts.append(_line(place(least, value * least / n), place(n, value), "linear"))
    for k, points in enumerate(series):
        way = [place(*point) for point in points]
        told = " ".join(f"{x:.1f},{y:.1f}" for x, y in way)
        parts.append(f'<polyline class="s{k} line" points="{told}" stroke-width="1.5"/>')
        parts += [f'<circle class="s{k}" cx="{x:.1f}" cy="{y:.1f}" r="2.8"/>' for x, y in way]
    return parts


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: some room around the values, and no less than a power of ten."""
    low, high = min(values) / 1.4, max(values) * 1.4
    return min(low, high / 10), high


def _share(value: float, span: tuple[float, float]) -> float:
    return math.log(value / span[0]) / math.log(span[1] / span[0])


def _ticks(span: tuple[float, float]) -> list[float]:
    """Return round numbers inside a span: powers of ten, and more between them where few would fit."""
    wide = math.log10(span[1] / span[0])
    steps = (1,) if wide > 2 else (1, 3) if wide > 1.5 else (1, 2, 5)
    powers = range(math.floor(math.log10(span[0])), math.ceil(math.log10(span[1])) + 1)
    found = [step * 10.0**power for power in powers for step in steps]
    return [each for each in found if span[0] <= each <= span[1]]


def _number(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _label(
    x: float, y: float, text: str, anchor: str = "middle", ink: str = "dim", more: str = ""
) -> str:
    return f'<text class="{ink}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{text}</text>'


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def main() -> None:
    """Measure, then write the figures, the page and its picture; end with 1 if something grows too fast."""
    from budgets import machine  # noqa: PLC0415  (beside the data that growth_figures found)

    figures = measure(lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
    kept = {"day": datetime.now(UTC).date().isoformat(), "machine": machine(), "figures": figures}
    text = json.dumps(kept).replace("}, ", "},\n")  # a row a line
    FIGURES.write_text(text + "\n", encoding="utf-8", newline="\n")
    PAGE.write_text(page(kept), encoding="utf-8", newline="\n")
    CHART.write_text(chart(kept), encoding="utf-8", newline="\n")
    for name, panel in PANELS.items():
        if max(filter(None, exponents(panel, figures))) > WORST:
            sys.exit(f"{name}: grows faster than linearly, see {PAGE.name}")


if __name__ == "__main__":
    main()
