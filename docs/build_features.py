# ruff: noqa: INP001  # a script beside its page, not a package
"""Write docs/features.md from the catalogue itself: `python docs/build_features.py`."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ibs_core.catalogue import Feature

PAGE = Path(__file__).with_name("features.md")
HEAD = """\
# Features

Made by `docs/build_features.py` from the catalogue itself; a test holds it current. `ibs data features` lists
the same {count} features by name, with the roots of your own contract map. [Filters](filters.md) name them.

| name | what it looks at |
|---|---|
| `bar_…` | the signal bar that just closed, of the symbol itself |
| `day_…` | the last session that has closed |
| `bar_pair_…`, `day_pair_…` | the symbol's pair in the contract map |
| `x_<root>_bar_…`, `x_<root>_day_…` | another instrument, on either clock |
| `cal_…` | the calendar: trade date and exchange time of the bar's start |

## How to read the tables

- **Formulas.** O, H, L, C, V are those of the bar, or of the session in a `day_` feature; `[-1]` is the one before.
  A name in a formula is the feature of the same side: "rank of ibs" in `day_ibs_rank` is that of `day_ibs`.
  SMA is a plain mean; EMA and Wilder's averages (ATR, RSI, ADX) start from the mean of the first n. A deviation is
  that of the population unless it says sample. TR is max(H, C[-1]) - min(L, C[-1]). The z of x is
  (x - SMA(x)) / (deviation of x + 1e-12); that of another instrument divides by at least 1e-12 instead. Prices are
  compared on the 1e-9 grid. Pivots are those of the [trading rules](trading-rules.md).
- **Ranks.** The share of the last {bar_n} signal bars, or {day_n} sessions, that the newest value stands at, itself
  included: (count below + 1 + count at or below) / (2 count). There is none before {bar_least} signal bars, or
  {day_least} sessions, have a value.
- **Missing.** A feature without a value is NaN and never stands in as 0. A filter on it blocks the entry, which is
  counted under the filter's name. A bar with a NaN price has no features and is not remembered. A window that holds
  a missing value has no value until it has left; ranks and `atr_pctile` leave it out. `eff_ratio` leaves out a
  lookback that is not full yet, or in which no price moved.
- **Rolls.** Remembered price levels move by the gap between the contracts; returns, true range and changes start
  from the new contract's open.
- **Other instruments.** A signal bar of theirs counts when it is the last that ended by the decision and it ended
  within one signal bar before it. A session counts when it is the last that closed by the decision and its trade
  date is not before that of the symbol's own last closed session. Else the value is missing.
- **First, full.** Completed bars, or sessions of a `day_` feature, that it takes to the first value and until every
  window is full, counted on the instrument that is looked at. `≥`: pivots must have formed, which may take longer.
  A rule trades once all its windows are full.
- **Settled.** Bars after which a later start of the data gives the same bits, as long as prices move. *Data decide*
  where no number of bars is sure: a run or a spell ends when the market breaks it, a pivot waits for the next one,
  a parabolic SAR forgets its start when it flips.
- **Models.** {levels} are price levels.
  Filters may use them; models may not, for trees would remember eras by them.
"""
SECTIONS = {
    "bar_ibs": "Strength, returns, RSI",
    "bar_atr_z": "Volatility, range, volume",
    "bar_price_z": "Place of the close",
    "bar_ema8_above": "Trend, runs, pivots",
    "bar_ibs_x_atr_z": "Products, and the last session's close",
    "bar_pair_ibs": "Pair",
    "cal_dow": "Calendar",
    "day_vix": """Reference feeds

There when the contract map's `reference_feeds` hold VIX and TLT. A feature is named after what it reads: bond
futures are `x_zb_…`, never TLT.""",
    "x_<root>_bar_ret": """Other instruments

`<root>` is one of
{roots}.""",
}
"""Headings, each before the feature that it starts with."""
COLUMNS = """
| name | formula | unit | first | full | settled | missing when |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    catalogue = load_catalogue(load_contract_map())
    bar, day = catalogue["bar_ibs_rank"].node, catalogue["day_ibs_rank"].node.inputs[0]
    text = HEAD.format(
        count=len(catalogue),
        levels=" and ".join(f"`{each.name}`" for each in catalogue.values() if not each.for_models),
        bar_n=bar.n,
        bar_least=bar.least,
        day_n=day.n,
        day_least=day.least,
    )
    roots = dict.fromkeys(root for each in catalogue.values() if (root := _root(each)))
    listed = _filled(", ".join(f"`{root}`" for root in roots))
    for names, cells in _lines(catalogue.values()):
        if names[0] in SECTIONS:
            text += f"\n## {SECTIONS[names[0]].format(roots=listed)}\n{COLUMNS}"
        text += f"| {', '.join(f'`{name}`' for name in names)} | {' | '.join(cells)} |\n"
    return text


def _lines(features: Iterable[Feature]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the names of each line and its other cells; what agrees in all of them shares a line."""
    lines: dict[tuple[str, ...], dict[str, None]] = {}
    for _, group in itertools.groupby(features, _part):
        own = list(group)
        sides = [[each for each in own if each.side == side] for side in ("bar", "day", "cal")]
        for each in itertools.chain.from_iterable(itertools.zip_longest(*sides)):
            if each is not None:
                name, *cells = _row(each)
                stem = name.removeprefix(f"{each.side}_")
                lines.setdefault((stem, *cells), {})[name] = None
    yield from ((list(names), cells) for (_, *cells), names in lines.items())


def _part(feature: Feature) -> str:
    """Tell the parts of the catalogue apart, which come one after the other."""
    first, second, *_ = feature.name.split("_")
    return first if first in ("x", "cal") else second if second == "pair" else ""


def _root(feature: Feature) -> str:
    """Return whose feature it is, in small letters; empty: the symbol's own."""
    return feature.name.split("_")[1] if _part(feature) == "x" else ""


def _row(feature: Feature) -> list[str]:
    """Return name, formula, unit, first, full, settled and missing, for whatever root."""
    name, formula, missing = feature.name, feature.formula, feature.missing
    if root := _root(feature):
        name = name.replace(f"x_{root}_", "x_<root>_")
        formula, missing = (
            re.sub(rf"\b{root.upper()}\b", "`<root>`", text) for text in (formula, missing)
        )
    unit = feature.unit
    if feature.low == 0 and math.isinf(feature.high):
        unit += ", from 0"
    least = "≥ " if feature.node.waits else ""
    return [
        name,
        formula.replace("|", "\\|"),
        unit,
        f"{least}{feature.warmup}",
        f"{least}{feature.full}",
        "data decide" if feature.settles is None else str(feature.settles),
        missing,
    ]


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
