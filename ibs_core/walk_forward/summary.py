"""A walk-forward as rows of text, for the terminal and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibs_core.report.definitions import BY_KEY, format_value
from ibs_core.walk_forward.results import COMPARED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ibs_core.walk_forward.results import Results

__all__ = [
    "MODELS",
    "SIDE_BY_SIDE",
    "VETOED",
    "WINDOWS",
    "model_rows",
    "side_by_side",
    "spelt",
    "stability_rows",
    "summary_tables",
    "vetoed_rows",
    "window_rows",
]

SIDE_BY_SIDE: Final = ("", "In-sample", "Out-of-sample", "Untouched")
WINDOWS: Final = (
    *("", "Trained", "Tested", "Parameters", "Per session, in", "out", "Efficiency"),
    *("Sharpe, in", "out", "Trades, in", "out"),
)

MODELS: Final = (
    *("", "Symbol", "Candidates", "A trade, all", "let in", "Sharpe, all", "let in", "Model"),
)
VETOED: Final = (*("", "Trades, without", "with", "Earned, without", "with", "Value"),)


def side_by_side(found: Results, untouched: dict[str, Any]) -> list[list[str]]:
    """Return a row a statistic, under `SIDE_BY_SIDE`.

    Parameters
    ----------
    found : Results
    untouched : dict
        Statistics of the configuration as it is over the same test sessions, by key of `METRICS`.

    Returns
    -------
    list of list of str
    """
    earned = (untouched["net_usd"] + untouched["open_usd"]) / max(untouched["sessions"], 1)
    sides = (found.in_sample, found.out_of_sample, untouched | {"usd_per_session": earned})
    rows = [["A session", *(format_value(side["usd_per_session"], "usd") for side in sides)]]
    for key in COMPARED:
        of = BY_KEY[key]
        rows.append([of.label, *(format_value(side[key], of.unit) for side in sides)])
    return rows


def window_rows(found: Results) -> list[list[str]]:
    """Return a row a window, under `WINDOWS`.

    Parameters
    ----------
    found : Results

    Returns
    -------
    list of list of str
    """
    return [_window(row) for row in found.windows]


def stability_rows(found: Results, path: str) -> list[list[str]]:
    """Return a row a value of a parameter: the value, and how many windows chose it.

    Parameters
    ----------
    found : Results
    path : str

    Returns
    -------
    list of list of str
    """
    return [[spelt(value), str(n)] for value, n in found.stability[path]["counts"]]


def model_rows(found: Results) -> list[list[str]]:
    """Return a row a window and symbol, under `MODELS`: how its model was judged in the training sessions.

    Parameters
    ----------
    found : Results

    Returns
    -------
    list of list of str
    """
    return [
        [str(row["number"]), symbol, f"{veto['candidates']:,}", *_judged(veto), _model(veto)]
        for row in found.windows
        for symbol, veto in row["vetoes"].items()
    ]


def vetoed_rows(found: Results) -> list[list[str]]:
    """Return a row a window, under `VETOED`, and one of all: the test sessions with the vetoes and without.

    Parameters
    ----------
    found : Results

    Returns
    -------
    list of list of str
    """
    assert found.veto is not None
    rows = []
    for row in found.windows:
        sides = [row["without_veto"], row["out_of_sample"]]
        earned = [side["net_usd"] + side["open_usd"] for side in sides]
        rows.append(_vetoed(str(row["number"]), [side["trades"] for side in sides], earned))
    sides = [found.veto["without"], found.veto["with"]]
    of_all = [[side[key] for side in sides] for key in ("trades", "earned_usd")]
    return [*rows, _vetoed("all", *of_all)]


def summary_tables(found: Results, untouched: dict[str, Any]) -> list[Table]:
    """Lay out the numbers for a terminal.

    Parameters
    ----------
    found : Results
    untouched : dict
        As `side_by_side` takes it.

    Returns
    -------
    list of rich.table.Table
    """
    # Windows in few columns: a terminal is narrow.
    short = [[row[0], row[2], row[3], row[4], row[5], row[6]] for row in window_rows(found)]
    stable = [
        [path.removeprefix("strategy."), ", ".join(f"{value}: {n}" for value, n in rows)]
        for path in found.stability
        for rows in [stability_rows(found, path)]
    ]
    vetoes = []
    if found.veto is not None:
        vetoes = [
            _table("Models, out of fold in the training sessions", MODELS, model_rows(found)),
            _table("Test sessions with the vetoes and without", VETOED, vetoed_rows(found)),
        ]
    return [
        _table("Windows", ("", "Tested", "Parameters", "In-sample", "Out", "Efficiency"), short),
        _table("In-sample beside out-of-sample", SIDE_BY_SIDE, side_by_side(found, untouched)),
        *vetoes,
        _table("How often each value was chosen", ("", ""), stable),
    ]


def spelt(value: Any) -> str:
    """Spell a value of a parameter.

    Parameters
    ----------
    value : JSON scalar

    Returns
    -------
    str
    """
    return "off" if value is None else str(value)


def _window(row: dict[str, Any]) -> list[str]:
    cells = [str(row["number"]), *(" to ".join(row[part]) for part in ("train", "test"))]
    within, without = row["in_sample"], row["out_of_sample"]
    if within is None:
        return [*cells, "nothing to choose from", *[""] * (len(WINDOWS) - 4)]
    swept = ", ".join(
        f"{'.'.join(path.split('.')[-2:])} {spelt(value)}"
        for path, value in row["parameters"].items()
    )
    earned = [format_value(side["usd_per_session"], "usd") for side in (within, without)]
    sharpe = [format_value(side["sharpe"], "ratio") for side in (within, without)]
    trades = [f"{side['trades']:,}" for side in (within, without)]
    return [*cells, swept, *earned, format_value(row["efficiency"], "percent"), *sharpe, *trades]


def _judged(veto: dict[str, Any]) -> list[str]:
    if "base" not in veto:
        return [""] * 4
    sides = [veto[side] for side in ("base", "filtered")]
    return [
        *(format_value(side["expectancy_usd"], "usd") for side in sides),
        *(format_value(side["sharpe"], "ratio") for side in sides),
    ]


def _model(veto: dict[str, Any]) -> str:
    if not veto["trades"]:
        return f"no veto: {veto['why']}"
    return f"{len(veto['features'])} features, threshold {veto['threshold']:g}"


def _vetoed(name: str, trades: Sequence[int], earned: Sequence[float]) -> list[str]:
    usd = [format_value(value, "usd") for value in (*earned, earned[1] - earned[0])]
    return [name, *(f"{n:,}" for n in trades), *usd]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    # Imported here: starting the program must not pay for tables that it may not print.
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
