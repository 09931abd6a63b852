"""A run on disk: written whole or not at all, and read back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
import signal
import threading
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ibs_core.errors import DataError, EnvironmentFault, file_faults
from ibs_core.report.run import BARS, DECISIONS, EQUITY, LOWS, META_KEYS, TOTAL, TRADES, Run
from ibs_core.report.stored import completed, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_run", "run_name", "write_run", "write_text"]

_STORED_BARS: Final = pl.Schema({"symbol": pl.String(), **BARS})
_FRAMES: Final = {
    "trades": TRADES,
    "decisions": DECISIONS,
    "equity": EQUITY,
    "lows": LOWS,
    "bars": _STORED_BARS,
}
_LATER: Final = frozenset({"lows", "bars"})
"""Tables that earlier versions did not write."""
_NEEDED: Final = (
    "run.json",
    "config.resolved.yml",
    "stats.json",
    *(f"{name}.parquet" for name in _FRAMES if name not in _LATER),
)


def write_run(run: Run, out: Path, *, html: str | None) -> Path:
    """Write a run into a new folder below `out` in one step.

    The files are written and synced in a hidden sibling, which is then renamed; whatever stops the
    writing, no folder that looks whole is left. ``stats.json`` and the Parquet files of the same
    input and configuration have the same bytes.

    Parameters
    ----------
    run : Run
        What to write.
    out : Path
        The parent folder; created when missing.
    html : str or None
        The rendered tear sheet; None writes no ``report.html``.

    Returns
    -------
    Path
        The new folder, ``out/<utc>-<hash8>``, with ``-2``, ``-3``, … when the name is taken.

    Raises
    ------
    EnvironmentFault
        The disk is full, or the folder may not be written.
    """
    with file_faults(f"run folder cannot be written below {str(out)!r}"):
        out.mkdir(parents=True, exist_ok=True)
        hidden = out / f".{run_name(run.meta)}.{secrets.token_hex(4)}.tmp"
        try:
            hidden.mkdir()
            _write_files(run, hidden, html)
            folder = _publish(run, hidden, out)
        except BaseException:  # Ctrl-C too, and a second one must not stop the cleaning
            with _uninterrupted():
                shutil.rmtree(hidden, ignore_errors=True)
            raise
        _sync(out)
    return folder


def read_run(folder: Path) -> Run:
    """Read a run folder back, one of an earlier version too.

    Parameters
    ----------
    folder : Path
        A folder made by `write_run`.

    Returns
    -------
    Run
        The run as it was written, ``meta["run_id"]`` included. What an earlier version did not write is
        empty, or None with that reason.

    Raises
    ------
    EnvironmentFault
        A file is missing or unreadable.
    DataError
        A file does not hold what a run folder holds.
    """
    with file_faults(f"run folder {str(folder)!r} cannot be read"):
        _refuse_others(folder)
        bars, equity = _read_frame(folder, "bars"), _read_frame(folder, "equity")
        symbols = [
            *bars["symbol"].unique(maintain_order=True),
            *equity["symbol"].unique(maintain_order=True),
        ]
        stats = _read_json(folder / "stats.json", frozenset())
        return Run(
            meta=_read_json(folder / "run.json", META_KEYS),
            config_yaml=_read_text(folder / "config.resolved.yml"),
            stats=in_order(
                completed(stats, str(folder / "stats.json")), list(dict.fromkeys([TOTAL, *symbols]))
            ),
            trades=_read_frame(folder, "trades"),
            decisions=_read_frame(folder, "decisions"),
            equity=equity,
            bars={
                str(symbol): own.drop("symbol")
                for (symbol,), own in bars.group_by("symbol", maintain_order=True)
            },
            lows=_read_frame(folder, "lows"),
        )


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder exists; a file of that name is replaced.
    text : str

    Raises
    ------
    EnvironmentFault
        The disk is full, or the file may not be written.
    """
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with file_faults(f"file {str(path)!r} cannot be written"):
        try:
            _write_text(hidden, text)
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)


def run_name(meta: dict[str, Any]) -> str:
    """Name a run ``<utc>-<hash8>``; the hash covers the configuration, the data and the contract map.

    Parameters
    ----------
    meta : dict
        Holds at least `META_KEYS`.

    Returns
    -------
    str
        For example ``20250301T143000Z-1f0c9a2b``.
    """
    inputs = [meta["config_hash"], meta["data_digest"], meta["contract_map_digest"]]
    created = datetime.fromisoformat(meta["created_utc"]).astimezone(UTC)
    return f"{created:%Y%m%dT%H%M%SZ}-{sha256(json.dumps(inputs).encode()).hexdigest()[:8]}"


def _write_files(run: Run, folder: Path, html: str | None) -> None:
    for name, frame in (
        ("trades", run.trades),
        ("decisions", run.decisions),
        ("equity", run.equity),
        ("lows", run.lows),
        ("bars", _stored_bars(run)),
    ):
        _write_frame(frame, folder / f"{name}.parquet")
    _write_text(folder / "stats.json", _json(run.stats))
    _write_text(folder / "config.resolved.yml", run.config_yaml)
    if html is not None:
        _write_text(folder / "report.html", html)


def _stored_bars(run: Run) -> pl.DataFrame:
    parts = [
        bars.select(pl.lit(symbol).alias("symbol"), pl.all()) for symbol, bars in run.bars.items()
    ]
    return pl.concat([pl.DataFrame(schema=_STORED_BARS), *parts])


def _publish(run: Run, hidden: Path, out: Path) -> Path:
    name = stem = run_name(run.meta)
    attempt = 1
    while True:
        _write_text(hidden / "run.json", _json({**run.meta, "run_id": name}))
        _sync(hidden)
        try:
            # rename() replaces no folder that holds a file, so two processes cannot both win.
            return hidden.rename(out / name)
        except OSError:
            if not (out / name).exists():
                raise
        attempt += 1
        name = f"{stem}-{attempt}"


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    # Every setting that shapes the bytes stands here, so that a new default cannot change them.
    # Encoded in memory, so that a full disk is an OSError of our own and not Polars' transport error.
    encoded = io.BytesIO()
    frame.rechunk().write_parquet(
        encoded,
        compression="zstd",
        compression_level=3,
        statistics=True,
        row_group_size=65_536,
        data_page_size=1_048_576,
    )
    with path.open("wb") as file:
        file.write(encoded.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_others(folder: Path) -> None:
    """Refuse a folder that is none of a run, or half of one."""
    next(
        folder.iterdir(), None
    )  # no such folder, no folder at all, no permission: the system says which
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if not missing:
        return
    runs = sorted(path.parent.name for path in folder.glob("*/run.json"))
    whole = len(missing) == len(_NEEDED)
    remedy = "name a folder that `ibs backtest` wrote" if whole else "run the back-test again"
    raise EnvironmentFault(
        f"folder {str(folder)!r} is {'no' if whole else 'half a'} run folder",
        expected=", ".join(_NEEDED),
        found=f"no {', '.join(missing)}",
        remedy=f"name a run folder in it, such as {str(folder / runs[-1])!r}" if runs else remedy,
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        remedy = "run the back-test again"
        raise DataError(
            "run file is not text", found=str(error), where=str(path), remedy=remedy
        ) from error


def _read_json(path: Path, keys: frozenset[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        remedy = "run the back-test again"
        raise DataError(
            "run file is not JSON", found=str(error), where=str(path), remedy=remedy
        ) from error
    if not isinstance(value, dict) or not keys <= value.keys():
        expected = f"an object with {sorted(keys)}" if keys else "an object"
        raise DataError(
            "run file is not of a run folder",
            expected=expected,
            found=f"keys {sorted(value)}" if isinstance(value, dict) else type(value).__name__,
            where=str(path),
            remedy="run the back-test again",
        )
    return value


def _read_frame(folder: Path, name: str) -> pl.DataFrame:
    path = folder / f"{name}.parquet"
    if name in _LATER and not path.exists():
        return pl.DataFrame(schema=_FRAMES[name])
    try:
        frame = pl.read_parquet(path, hive_partitioning=False)
    except pl.exceptions.PolarsError as error:
        remedy = "run the back-test again"
        raise DataError(
            "run file is not Parquet", found=str(error), where=str(path), remedy=remedy
        ) from error
    if frame.schema != _FRAMES[name]:
        raise DataError(
            "run file has other columns than this version writes",
            expected=str(_FRAMES[name]),
            found=str(frame.schema),
            where=str(path),
            remedy="run the back-test again",
        )
    return frame


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C pass unheard, where this thread is the one that hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)
