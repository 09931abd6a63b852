"""A sweep on disk: its plan, what was tried so far in parts that are whole, and the results."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.parquet_file import environment, write_parquet
from ibs_core.sweep.decision_pass import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ibs_core.sweep.candidate import Candidate
    from ibs_core.sweep.decision_pass import Tried
    from ibs_core.sweep.grid import Axis, Grid

__all__ = ["SweepFolder"]

_PLAN: Final = "sweep.json"
_REMEDY: Final = "check the path, its permissions and the free space"


class SweepFolder:
    """The folder of one sweep.

    Parameters
    ----------
    path : Path
    plan : dict
        What makes the sweep, as JSON values: only the same goes on in the folder.
    grid : Grid
    resume : bool
        Whether to go on with what the folder holds.

    Raises
    ------
    ConfigError
        The folder holds a sweep and is not to go on, or another one.
    EnvironmentFault
        The folder cannot be written, or holds something else.
    """

    def __init__(self, path: Path, plan: dict[str, Any], grid: Grid, *, resume: bool) -> None:
        self.path, self._grid = path, grid
        self._parts = path / "parts"
        self._schema = pl.Schema(
            {axis.path: _type_of(axis) for axis in grid.axes}
            | {"trades": pl.Int64, "sessions": pl.Int64}
            | dict.fromkeys(STATISTICS, pl.Float64)
            | {
                "sharpe_per_session": pl.Float64,
                "rule_digest": pl.String,
                "trades_digest": pl.String,
            }
        )
        text = json.dumps(plan, indent=2, sort_keys=True, allow_nan=False) + "\n"
        with environment("sweep folder", path, _REMEDY):
            if (path / _PLAN).exists():
                self._refuse_other(text, resume=resume)
            elif path.is_dir() and any(path.iterdir()):
                raise EnvironmentFault(
                    f"sweep folder {path}",
                    expected="a new folder, or one of a sweep",
                    found="other files",
                    remedy="give another --out",
                )
            else:
                self._parts.mkdir(parents=True, exist_ok=True)
                write_text(path / _PLAN, text)
            self._parts.mkdir(exist_ok=True)

    def done(self) -> dict[str, dict[str, Any]]:
        """Return the rows of what was tried so far, by digest of the candidate's rule."""
        with environment("sweep folder", self.path, "move it away; its trials stay in the ledger"):
            parts = [pl.read_parquet(part) for part in sorted(self._parts.glob("*.parquet"))]
        frame = pl.concat([self._schema.to_frame(), *parts])
        return {row["rule_digest"]: row for row in frame.iter_rows(named=True)}

    def keep(self, tried: Sequence[tuple[Candidate, Tried]]) -> list[dict[str, Any]]:
        """Add rows, whole or not at all.

        Parameters
        ----------
        tried : sequence of (Candidate, Tried)
            At least one.

        Returns
        -------
        list of dict
            The rows.
        """
        rows = [self._row(candidate, found) for candidate, found in tried]
        part = self._parts / f"{rows[0]['rule_digest']}.parquet"
        with environment("sweep folder", self.path, _REMEDY):
            write_parquet(pl.DataFrame(rows, schema=self._schema, orient="row"), part, {})
        return rows

    def frame(self, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
        """Lay rows out as a table.

        Parameters
        ----------
        rows : sequence of dict
            By number of the candidate.

        Returns
        -------
        polars.DataFrame
        """
        return pl.DataFrame(list(rows), schema=self._schema, orient="row").with_row_index(
            "candidate"
        )

    def finish(self, results: pl.DataFrame, texts: dict[str, str], *, generated: bool) -> None:
        """Write the results and what is made of them.

        Parameters
        ----------
        results : polars.DataFrame
        texts : dict of str to str
            Other files, by name.
        generated : bool
            The data were generated: the table says so.
        """
        marks = {"ibs.generated": "true"} if generated else {}
        with environment("sweep folder", self.path, _REMEDY):
            write_parquet(results, self.path / "results.parquet", marks)
            for name, text in texts.items():
                write_text(self.path / name, text)

    def _row(self, candidate: Candidate, found: Tried) -> dict[str, Any]:
        swept = {
            axis.path: str(value) if _type_of(axis) == pl.String and value is not None else value
            for axis, value in zip(self._grid.axes, candidate.values, strict=True)
        }
        return {
            **swept,
            "trades": found.trades,
            "sessions": found.sessions,
            **found.statistics,
            "sharpe_per_session": found.sharpe_per_session,
            "rule_digest": candidate.digest,
            "trades_digest": found.digest,
        }

    def _refuse_other(self, text: str, *, resume: bool) -> None:
        if not resume:
            raise ConfigError(
                f"sweep folder {self.path}",
                expected="a new folder",
                found="a sweep",
                remedy="--resume goes on with it; or give another --out",
            )
        held = json.loads((self.path / _PLAN).read_text("utf-8"))
        if held != json.loads(text):
            differ = [key for key, value in json.loads(text).items() if held.get(key) != value]
            raise ConfigError(
                f"sweep folder {self.path}",
                expected="the sweep that it holds",
                found=f"another {', '.join(differ)}",
                remedy="give the options of before, or another --out",
            )


def write_text(path: Path, text: str) -> None:
    """Write a file under a hidden name, then give it its own.

    Parameters
    ----------
    path : Path
    text : str
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _type_of(axis: Axis) -> pl.DataType:
    kinds = {type(each) for each in axis.values if each is not None}
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {int}:
        return pl.Int64()
    return pl.Float64() if kinds and kinds <= {int, float} else pl.String()
