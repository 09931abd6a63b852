# ruff: noqa: INP001  # a script beside its page, not a package
"""Write docs/statistics.md from the definitions themselves: `python docs/build_statistics.py`."""

from __future__ import annotations

from pathlib import Path

from ibs_core.report.definitions import GROUPS, METRICS, SOURCES
from ibs_core.report.groups import GROUPINGS

PAGE = Path(__file__).with_name("statistics.md")
HEAD = """\
# Statistics

Made by `docs/build_statistics.py` from the definitions that the report prints; a test holds it current. The same keys
stand in `stats.json`, in `total` and in each of `by_symbol`.

## How to read them

- **Capital.** The stated capital never changes and profits are not reinvested: the P&L of a session is the change in
  equity from one session close to the next, in USD, and its return is that P&L as a share of the stated capital.
- **Sessions, not days.** A year has 252 sessions where a ratio is annualised, and sessions without a trade count: they
  are zeros, not gaps. Fewer than 20 sessions annualise nothing. There is no risk-free rate.
- **Undefined.** What cannot be told is `null`, never 0, infinite or NaN, and `undefined` beside it says why:
  `"undefined": {"profit_factor": "no losing trade"}`.
- **Training windows.** Where models veto, all numbers are of what lies outside; `inside_training` holds the rest.
- **Intrabar drawdown.** Of a closed trade the worst price is known, not its minute. Every open position is taken at its
  worst for as long as it is held, all at once: no minute was lower, most were higher. The peak is the highest session
  close before. Its length in days is that of session closes: lows lie below the peak in almost every session.
- **Deflated Sharpe ratio.** A single back-test does not know how many were tried; what searches does.
- **Other libraries.** With the returns above, Sharpe and Sortino equal those of `empyrical`; with the returns of the
  equity itself so do CAGR, Calmar and the drawdown of peak, a year being 365.25 days. Tests hold this.
"""
COLUMNS = """
| key | name | unit | definition |
|---|---|---|---|
"""
UNITS = {"percent": "fraction", "usd": "USD"}


def page() -> str:
    """Return the whole page."""
    text = HEAD
    for group, title in GROUPS.items():
        text += f"\n## {title}\n{COLUMNS}"
        for each in METRICS:
            if each.group == group:
                source = f" Source: {each.source}." if each.source else ""
                unit = UNITS.get(each.unit, each.unit)
                text += f"| `{each.key}` | {each.label} | {unit} | {each.definition}{source} |\n"
    text += (
        "\n## Tables\n\nOf closed trades; each is in one row of each table, so that the rows of a table add up to the "
        "total. A row has its key,\n`trades`, `wins`, `win_rate`, `net_usd` and `average_usd`.\n"
        "\n| table | key | holds |\n|---|---|---|\n"
    )
    for name, (column, told) in GROUPINGS.items():
        text += f"| `{name}` | `{column}` | {told} |\n"
    text += (
        "\n`monthly` is another thing: for the total and each symbol the change in equity within each month, open "
        "positions included.\n\n## Sources\n\n"
    )
    return text + "".join(f"- {name}: {told}\n" for name, told in SOURCES.items())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
