"""Bars and trades for the price chart, packed small enough for one file."""

from __future__ import annotations

import base64
import math
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core.report.run import EXIT_REASONS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["POINTS_A_SYMBOL", "packed", "price_arrays", "thin_bars"]

POINTS_A_SYMBOL: Final = 20_000
"""Bars of one symbol that a chart draws; 5.5 bytes each in the page."""

Packed = dict[str, Any]


def price_arrays(bars: pl.DataFrame, trades: pl.DataFrame, n_max: int) -> Packed:
    """Pack one symbol's bars and trades for the script of the page.

    Parameters
    ----------
    bars : polars.DataFrame
        Schema `BARS`, at least one.
    trades : polars.DataFrame
        Schema `TRADES`, of this symbol.
    n_max : int
        Bars at most; more are merged.

    Returns
    -------
    dict
        JSON values: ``bars``, ``merged`` (most signal bars in one) and the columns of the trades.
    """
    thin, trades = thin_bars(bars, n_max), trades.sort("exit_time")  # the page searches them
    reason = {name: i for i, name in enumerate(EXIT_REASONS)}
    return {
        "merged": thin["merged"].max(),
        "bars": _packed_bars(thin),
        "entry_time": packed(_minutes(trades["entry_time"]), "i4"),
        "entry_price": packed(trades["entry_price"], "f4"),
        "exit_time": packed(_minutes(trades["exit_time"]), "i4"),
        "exit_price": packed(trades["exit_price"], "f4"),
        "net": packed(trades["net_usd"], "f4"),
        "held": packed(trades["bars_held"], "i4"),
        "reason": packed([reason.get(name, -1) for name in trades["exit_reason"]], "i4"),
    }


def thin_bars(bars: pl.DataFrame, n_max: int) -> pl.DataFrame:
    """Merge neighbours so that no more than `n_max` bars are left and no extreme is lost.

    Parameters
    ----------
    bars : polars.DataFrame
        Schema `BARS`.
    n_max : int
        Bars at most, > 0.

    Returns
    -------
    polars.DataFrame
        Schema `BARS`; every bar is first open, highest high, lowest low, last close of as many.
    """
    n_merged = math.ceil(bars.height / n_max)
    if n_merged <= 1:
        return bars
    return (
        bars.group_by(pl.int_range(pl.len()).floordiv(n_merged).alias("part"), maintain_order=True)
        .agg(
            pl.col("start").first(),
            pl.col("end").last(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("merged").sum(),
        )
        .drop("part")
    )


def _packed_bars(bars: pl.DataFrame) -> Packed:
    """Write bars as compressed steps of 16 bits, in ticks: about four bytes a bar."""
    minutes, close = _minutes(bars["end"]), bars["close"].to_numpy()
    width = float(np.median(minutes - _minutes(bars["start"])))
    prices = [bars[name].to_numpy() for name in ("close", "open", "high", "low")]
    moves = np.concatenate([np.diff(close), *(price - close for price in prices)])
    step = _step(moves)
    ticks = [np.rint((price - close[0]) / step).astype(np.int64) for price in prices]
    steps = [np.diff(ticks[0], prepend=0), *(side - ticks[0] for side in ticks[1:])]
    data = [np.diff(minutes, prepend=minutes[0]).astype("<i4"), *(s.astype("<i2") for s in steps)]
    return {
        "n": bars.height,
        "width": width,
        "first_time": int(minutes[0]),
        "first_close": float(close[0]),
        "step": step,
        "deflated": _base64(zlib.compress(b"".join(part.tobytes() for part in data))),
    }


def _step(moves: NDArray[np.float64]) -> float:
    # The tick, as the greatest common divisor; where 16 bits cannot count the largest move in it,
    # as much coarser as it takes.
    tick = float(np.gcd.reduce(np.rint(1e7 * moves).astype(np.int64))) / 1e7
    return max(tick, float(np.abs(moves).max()) / 32_000) or 1.0


def _minutes(times: pl.Series) -> NDArray[np.int64]:
    return times.dt.epoch("s").to_numpy() // 60


def packed(values: ArrayLike, dtype: str) -> Packed:
    """Write an array in Plotly's own base64 form, a third of the size of decimals.

    Parameters
    ----------
    values : array_like
        Numbers that `dtype` can hold.
    dtype : str
        ``f8``, ``f4`` or ``i4``.

    Returns
    -------
    dict
        ``dtype`` and ``bdata``.
    """
    data = np.ascontiguousarray(np.asarray(values), dtype=f"<{dtype}")
    return {"dtype": dtype, "bdata": _base64(data.tobytes())}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
