# ruff: noqa: INP001  # a script beside its page, not a package
"""Write docs/evidence.md and its picture: `make evidence`, or `python docs/build_evidence.py`.

The part on the S&P 500 is computed each time, from data that the package `arch` ships. The figures on minute
bars stand in evidence-minutes.json, which is written anew only where those bars are: in
``$IBS_SHARED_DATA``, by default in shared/data beside the repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from evidence_figures import (
    PERIODS,
    RULE,
    by_period,
    daily_bars,
    followed,
    measure_minutes,
    rule_row,
)

from ibs_core.report.run import TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAGE = Path(__file__).with_name("evidence.md")
CHART = Path(__file__).with_name("evidence.svg")
MINUTES = Path(__file__).with_name("evidence-minutes.json")
SHARED = Path(os.environ.get("IBS_SHARED_DATA") or PAGE.parents[2] / "shared" / "data")
GROUPS = {"all": "all", "equity": "equity indexes", "energy": "energy", "fx": "currencies"}
Row = dict[str, Any]
TEXT = """\
# Evidence

Made by `make evidence`; a test holds it current. IBS is where a bar closed within its range, from 0 at the low to 1 at
the high; the idea of the rule is that prices rise after a low IBS. Returns are in basis points (bp, hundredths of a
percent), from the close of one bar to the close of the next, before any cost; ± is one standard error: what lies within
two of them may be chance.

- After a day of the S&P 500 that closed in the lowest fifth of its range the next day brought {low[0]}, any day
  {every[0]} (1999 to 2018). Small, and yet those days add up to more than the whole rise of the index.
- Since 2013, when it was published, the same is {low[1]}, any day {every[1]}: weaker, and six years cannot tell it
  from nothing, nor from what it was.
- Over all years high closes are followed by less than low ones. That prices then fall, as was published of ETFs, is not
  in these data: {high[0]}, and {high[1]} since 2013.
- On futures from 2024 to 2026 the effect is surest at bars of 5 and 15 minutes and smaller than the costs there; at one
  hour it is about as large as they are, at four hours and a day within two standard errors of nothing. Whatever the
  default rule earned, at any width, may be chance; what it lost at 5 minutes is not.

## Days of the S&P 500

{days} daily bars of the index, 1999-01-04 to 2018-12-31, as the package [arch](https://pypi.org/project/arch/) ships
them.

{buckets}

![Mean return to the next day's close by IBS, before 2013 and since](evidence.svg)

### Beside the published figures

{published}

- *Published*: A. Pagonidis, [The IBS Effect: Mean Reversion in Equity
  ETFs](http://qusma.com/2013/09/11/paper-the-ibs-effect-mean-reversion-in-equity-etfs/), 2013; the two figures stand in
  the abstract of its later version. They are averages over equity ETFs of several countries up to May 2013: the sign
  should agree, the size need not.
- Price Action Lab, [Has the Internal Bar Strength Indicator Lost its
  Strength?](http://www.priceactionlab.com/Blog/2018/09/internal-bar-strength-indicator/), 2018, trades the rule of the
  next section on SPY, from its inception to 2018-09-20: 10.08 % a year against 9.71 % for holding, in decline in the
  last years. Its years and its costs are others, and an ETF pays dividends; the decline is below, too.
- A test on country ETFs, [arXiv 2306.12434](https://arxiv.org/abs/2306.12434), 2023, says that it holds in later data.
  Its figures were not checked and are left out, as are those that are told in many places without a source.

### The rule on daily bars

In below 0.2, out above 0.8, nothing else, by the same engine that trades futures: decided at the close, filled at the
next session's open. One unit of the index; 0.15 points a side are what the default costs of ES come to. The session
calendar begins in 2005, hence 2006.

```yaml
{settings}```

{rule}

Being long a rising index earns something on any day. What a session in the market earned beyond that is, since 2013,
less than its own standard error.

## Minute bars of futures

The default rule ([trading rules](trading-rules.md)) and its default costs, 1.25 USD and half a tick a side, one
contract of each root. At `1d` it may hold overnight, for `flat_by` would refuse every entry. Bars of one trade date
count as one observation in the standard errors, across roots, and so do sessions in those of the net profit.

### Bars of five minutes, {five_span}

{five_roots}; CL and NG of quarterly contracts only, and some roots miss parts of sessions.

{five_forward}

{five_rule}

### Bars of one minute, {one_span}

{one_roots}; the same market in another vendor's bars, and half of the time.

{one_forward}

{one_rule}

- **5m and 15m.** Many bars make a small effect certain, not large: a tick of ES is about 0.4 bp at 6,000 points. Closes
  are last trades, at the bid or at the ask; a bar that closed on its low more often closed at the bid, and the next
  close is higher without anyone being able to earn it. At 5m the effect is largest in the thin quarterly contracts of
  CL and NG, and in the other vendor's CL nothing is left of it.
- **1h**, the default. The effect is the size of the costs: the break-even slippage says how little more would take all.
- **4h.** Nothing that could not be chance.
- **1d.** The size is that of the S&P 500's days, and so is the uncertainty: two years hold too few of them.

## What this does not show

- **That it can be had.** The index cannot be bought, has no dividends and no cost of carry. Its open is no price to be
  filled at: to the cent it is the close before on
  {opens}
  of the days.
- **That it goes on.** Until 2013 these are mostly the years in which it was found. The later ones are few and rose.
- **The best of many.** Five widths, nine roots, ten buckets: some of them look good by chance, and a width that is chosen
  because of this page must be judged on other data.
- **Other rules.** Filters, sizes and models are not in it. Two years of futures are one kind of market.

## Rebuild

```bash
make evidence
```

The index is computed each time. The minute bars belong to their vendors and are not in this repository: where they are
absent, their figures stay as they were committed, in `evidence-minutes.json`, and the page is made from those.
"""


def page() -> str:
    """Return the whole page."""
    daily = daily_bars()
    days = followed(daily)
    fifths = by_period(days, 5)
    rules = {name: rule_row(daily, *period) for name, period in PERIODS.items()}
    minutes = json.loads(MINUTES.read_text("utf-8"))
    low, high = (
        [_bp(_mean(fifths[name]["buckets"][place])) for name in (TOTAL, "since")]
        for place in (0, -1)
    )
    every = [_bp(_mean(fifths[name]["all"])) for name in (TOTAL, "since")]
    return TEXT.format(
        days=f"{daily.height:,}",
        low=low,
        high=high,
        every=every,
        buckets=_bucket_table(by_period(days, 10)),
        published=_published_table(fifths),
        settings=RULE,
        rule=_rule_table(rules),
        opens=_open_shares(daily),
        **{f"{name}_{key}": text for name, each in minutes.items() for key, text in _told(each)},
    )


def chart() -> str:
    """Return the picture: the mean of each bucket before 2013 and since, with its standard error."""
    tables = by_period(followed(daily_bars()), 10)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 420" font-family="sans-serif" font-size="13">',
        '<rect width="780" height="420" fill="#ffffff"/>',
        _label(
            60,
            22,
            "S&amp;P 500: mean return to the close of the next day, bp, ± one standard error",
            "start",
        ),
        _label(410, 408, "IBS of the day"),
        *(_label(60 + 70 * i, 386, f"{i / 10:.1f}") for i in range(11)),
    ]
    for bp in range(-20, 31, 10):
        parts.append(_line((60, 760), (_height(bp), _height(bp)), "#dddddd" if bp else "#555555"))
        parts.append(_label(52, _height(bp) + 4, _minus(f"{bp}"), "end"))
    for i, (name, told, ink) in enumerate(
        (("before", "1999 to 2012", "#7a8ba3"), ("since", "2013 to 2018", "#d1662b"))
    ):
        parts.append(_bar(60 + 110 * i, 34, 12, 12, ink))
        parts.append(_label(78 + 110 * i, 45, told, "start"))
        for row in tables[name]["buckets"]:
            x, (mean, error) = 68 + 700 * row["ibs_from"] + 27 * i, _mean(row)
            top, bottom = sorted((_height(mean), _height(0)))
            parts.append(_bar(x, top, 25, bottom - top, ink))
            whisker = _height(mean + error), _height(mean - error)
            parts.append(_line((x + 12.5, x + 12.5), whisker, "#222222"))
    return "\n".join([*parts, "</svg>", ""])


def _height(bp: float) -> float:
    return 236 - 6 * bp


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222222">{text}</text>'


def _bar(x: float, y: float, width: float, height: float, ink: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height:.1f}" fill="{ink}"/>'


def _line(x: tuple[float, float], y: tuple[float, float], ink: str) -> str:
    return f'<line x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}" stroke="{ink}"/>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *rows))


def _mean(row: Row) -> tuple[float, float]:
    return row["bar_bp"], row["bar_se_bp"]


def _bp(mean: tuple[float, float], places: int = 1) -> str:
    return _minus(f"{mean[0]:+.{places}f} ± {mean[1]:.{places}f}")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _bucket_table(tables: dict[str, Row]) -> str:
    parts = [tables[name] for name in (TOTAL, "before", "since")]
    lines = [
        *zip(*(part["buckets"] for part in parts), strict=True),
        [part["all"] for part in parts],
    ]
    rows = []
    for line in lines:
        low = line[0].get("ibs_from")
        name = "any" if low is None else f"{low:.1f} to {low + 0.1:.1f}"
        cells = [cell for each in line for cell in (f"{each['bar_n']:,}", _bp(_mean(each)))]
        rows.append([name, *cells])
    return _table(
        ["IBS", "days", "1999 to 2018", "days", "1999 to 2012", "days", "2013 to 2018"], rows
    )


def _published_table(fifths: dict[str, Row]) -> str:
    names = (TOTAL, "before", "since")
    rows = [
        [label, told, *(_bp(_mean(fifths[name]["buckets"][place])) for name in names)]
        for label, told, place in (("below 0.20", "+35", 0), ("above 0.80", _minus("-13"), -1))
    ]
    head = [
        "IBS",
        "published, equity ETFs",
        "S&P 500, 1999 to 2018",
        "1999 to 2012",
        "2013 to 2018",
    ]
    return _table(head, rows)


def _rule_table(rules: dict[str, Row]) -> str:
    lines = {
        "sessions": lambda row: f"{row['sessions']:,}",
        "share of them in the market": lambda row: f"{row['in_market']:.0%}",
        "trades": lambda row: f"{row['trades']}",
        "share of them won, net": lambda row: f"{row['won']:.0%}",
        "a trade, gross": lambda row: _bp(row["gross"]),
        "a trade, net": lambda row: _bp(row["net"]),
        "a trade, gross, if filled at the deciding closes": lambda row: _bp(row["at_closes"]),
        "a session in the market, gross": lambda row: _bp(
            (row["gross"][0] / row["held"], row["gross"][1] / row["held"])
        ),
        "any session of the index": lambda row: _bp(row["any"]),
        "Sharpe ratio, net": lambda row: f"{row['sharpe']:.2f}",
        "Sharpe ratio of holding the unit": lambda row: f"{row['sharpe_of_holding']:.2f}",
    }
    rows = [[name, *map(cell, rules.values())] for name, cell in lines.items()]
    return _table(["", *rules], rows)


def _open_shares(daily: pl.DataFrame) -> str:
    daily = daily.with_columns(
        same=(pl.col("open") - pl.col("close").shift(1)).abs() < 0.005,
        year=pl.col("date").dt.year(),
    )
    spans = ((1999, 2005), (2006, 2007), (2008, 2012), (2013, 2018))
    shares = [daily.filter(pl.col("year").is_between(*span))["same"].mean() for span in spans]
    told = [f"{share:.0%} ({a} to {z})" for share, (a, z) in zip(shares, spans, strict=True)]
    return ", ".join(told)


def _told(figures: Row) -> Iterable[tuple[str, str]]:
    """Name the texts that the figures of one folder put into the page."""
    groups = figures["groups"]
    yield "span", f"{figures['first']} to {figures['last']}"
    yield "roots", ", ".join(groups["all"])
    rows = []
    for each in figures["forward"]:
        roots = groups[each["group"]]
        name = GROUPS[each["group"]] if len(roots) > 1 else roots[0]
        ends = [(f"{each[f'{end}_n']:,}", _bp(each[f"{end}_bp"], 2)) for end in ("low", "high")]
        every = _minus(f"{each['bp']:+.2f}")
        rows.append([f"{each['width']}, {name}", f"{each['bars']:,}", every, *ends[0], *ends[1]])
    head = [
        "signal bar, roots",
        "bars",
        "after any",
        "n",
        "after IBS < 0.2",
        "n",
        "after IBS ≥ 0.8",
    ]
    yield "forward", _table(head, rows)
    yield "rule", _money_table(figures["rule"])


def _money_table(rows: Iterable[Row]) -> str:
    cells = [
        [
            each["width"],
            f"{each['trades']:,}",
            f"{each['won']:.0%}",
            _minus(f"{each['gross_usd']:,}"),
            f"{each['costs_usd']:,}",
            _minus("{:,} ± {:,}".format(*each["net_usd"])),
            _minus(f"{each['break_even_ticks']:.2f}"),
            _minus(f"{each['sharpe']:.2f}"),
        ]
        for each in rows
    ]
    head = ["signal bar", "trades", "won, net", "gross, USD", "costs, USD", "net, USD"]
    return _table([*head, "break-even slippage, ticks", "Sharpe ratio"], cells)


def main() -> None:
    """Measure what can be measured here, then write the page and its picture."""
    if SHARED.is_dir():
        figures = json.dumps(measure_minutes(SHARED)).replace("}, ", "},\n")  # a row a line
        MINUTES.write_text(figures + "\n", encoding="utf-8", newline="\n")
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    CHART.write_text(chart(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
