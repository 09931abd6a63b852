"""`ibs model explain`: what every feature added to the score of each candidate."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from ibs_core.cli import options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import polars as pl

    from ibs_core.market_data import BarSource

__all__ = ["explain"]

_SHOWN: Final = 10  # candidates told on the screen; the Parquet file has all


@click.command()
@options.bars
@options.span
@click.option(
    "--at", help="Only candidates decided at this instant, UTC, such as 2025-03-03T15:00."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Features told of each candidate: those that moved its score most.",
)
@click.option("--out", type=options.PATH, help="Parquet file for every contribution.")
@options.as_json
@options.quiet
def explain(
    *,
    parquet: tuple[Path, ...],
    more: tuple[Path, ...],
    config: tuple[Path, ...],
    symbols: str | None,
    start: str | None,
    end: str | None,
    at: str | None,
    top: int,
    out: Path | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Tell why each candidate was let in or kept out: its score, divided among its features.

    The bars are back-tested with the configured models, and with mode off as in shadow. The base, which is
    the score expected of any candidate, and the contributions sum to the score. The last candidates are
    shown; --out keeps all.
    """
    paths = options.paths_of(parquet, more)
    first, last = options.span_of(start, end)
    instant = None if at is None else _instant(at)
    if out is not None:
        options.refuse_among(paths, out)
    from ibs_core.cli.veto_models import explainer_of, models_for
    from ibs_core.explanations import explain as explained
    from ibs_core.market_data import open_bars

    settings, contracts = options.settings_of(config)
    if settings.model.mode == "off":
        settings = settings.in_mode("shadow")
    models = models_for(settings, contracts)
    assert models is not None
    roots = options.roots_of(symbols, contracts)
    source = open_bars(paths, contracts)
    options.compile_notice(silent=json_ or quiet)
    told = _Told(instant)
    with options.progress_bar("reading", source.n_rows, silent=json_ or quiet) as progress:
        frames = explained(
            source,
            settings,
            contracts,
            models,
            lambda root: explainer_of(root, settings),
            roots=roots,
            start=first,
            end=last,
            progress=progress,
        )
        _keep(told.through(frames), out, source)
    if json_:
        facts = {
            "candidates": told.reasons.total(),
            "reasons": told.reasons,
            "last": told.last(top),
        }
        options.say_json(facts | {"out": None if out is None else str(out)})
    elif not quiet:
        _print(told, top)
        if out is not None:
            click.echo(f"every contribution: {out}")


class _Told:
    """What is told of explanations as they pass by; an instant leaves the candidates of that only."""

    def __init__(self, instant: datetime | None) -> None:
        self.reasons: Counter[str] = Counter()
        self._instant = instant
        self._last: list[pl.DataFrame] = []

    def through(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Hand on the tables of the symbols, and remember the end of each."""
        import polars as pl

        times = []
        for frame in frames:
            times.append(frame["time"].unique())
            chosen = frame
            if self._instant is not None:
                chosen = frame.filter(pl.col("time") == self._instant)
            decided = chosen.select("time", "reason").unique(maintain_order=True)
            self.reasons.update(decided["reason"].to_list())
            shown = decided["time"].tail(_SHOWN)
            self._last.append(chosen.filter(pl.col("time").is_in(shown.implode())))
            yield chosen
        if self._instant is not None and not self.reasons:
            _refuse(self._instant, pl.concat(times))

    def last(self, top: int) -> list[dict[str, Any]]:
        """Tell the last candidates of all symbols with the features that moved their scores most."""
        import polars as pl

        groups = pl.concat(self._last).sort("time", maintain_order=True)
        found = [
            _candidate(rows, top)
            for _, rows in groups.group_by("time", "symbol", maintain_order=True)
        ]
        return found[-_SHOWN:]


def _candidate(rows: pl.DataFrame, top: int) -> dict[str, Any]:
    import polars as pl

    parts = rows.drop_nulls("contribution").sort(
        pl.col("contribution").abs(), descending=True, maintain_order=True
    )
    facts = rows.row(0, named=True)
    told = {
        name: facts[name] for name in ("time", "symbol", "reason", "score", "threshold", "base")
    }
    told["time"] = facts["time"].isoformat()
    told["features"] = parts.head(top).select("feature", "value", "contribution").to_dicts()
    told["rest"] = parts["contribution"][top:].sum() if len(parts) else None
    return told


def _refuse(instant: datetime, times: pl.Series) -> None:
    near = sorted(times.unique().to_list(), key=lambda each: abs(each - instant))[:3]
    raise ConfigError(
        "option --at",
        expected="the instant of a candidate",
        found=f"none at {instant.isoformat()}",
        remedy=f"the nearest: {', '.join(each.isoformat() for each in sorted(near)) or 'none'}",
    )


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "option --at", expected="an instant such as 2025-03-03T15:00", found=repr(text)
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _keep(frames: Iterator[pl.DataFrame], out: Path | None, source: BarSource) -> None:
    """Write the tables, or only let them pass by."""
    if out is None:
        for _ in frames:
            pass
        return
    import ibs_core
    from ibs_core.parquet_file import environment, join_parquet, refuse_place
    from ibs_core.research.sample_data import is_generated

    refuse_place("explanations", out, source.files)
    marks = {"ibs.version": ibs_core.__version__}
    if any(map(is_generated, source.files)):
        marks["ibs.generated"] = "true"
    with environment("explanations", out, "check the path, its permissions and the free space"):
        out.parent.mkdir(parents=True, exist_ok=True)
        join_parquet(frames, out, marks)


def _print(told: _Told, top: int) -> None:
    from rich import box
    from rich.table import Table

    counts = ", ".join(f"{n:,} {reason}" for reason, n in told.reasons.most_common())
    click.echo(f"candidates: {counts or 'none'}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ("decided, UTC", "symbol", "reason", "score", "threshold", "base")
    for i, name in enumerate((*heads, "rest", "value of the feature and what it added")):
        table.add_column(name, justify="right" if 3 <= i <= 6 else "left", no_wrap=i < 7)
    for each in told.last(top):
        numbers = [each[name] for name in ("score", "threshold", "base", "rest")]
        table.add_row(
            each["time"][:16],
            each["symbol"],
            each["reason"],
            *("-" if number is None else f"{number:.3f}" for number in numbers),
            ", ".join(
                f"{part['feature']}={part['value']:.4g} {part['contribution']:+.3f}"
                for part in each["features"]
            ),
        )
    if table.row_count:
        options.console().print(table)
