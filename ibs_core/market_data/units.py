"""Is this the quotation unit? Judged once per root and file, on the first prices that come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ibs_core.bars import MINUTE_NS
from ibs_core.errors import DataError
from ibs_core.market_data.runs import PRICES, stamp

if TYPE_CHECKING:
    from ibs_core.bars import Floats
    from ibs_core.contracts import Contract
    from ibs_core.market_data.files import BarFile

__all__ = ["SAMPLE", "check_first", "check_units"]

SAMPLE = 1000
"""Rows whose closes are looked at."""
# Real prices stand between some hundred ticks and some millions (an index with two decimals). Read in
# units of 1e-9 they would stand nine orders higher, so the limit is far from both; made-up prices of
# test data stay below it, too.
_TICKS_MAX = 3e10


def check_units(part: pl.DataFrame, contract: Contract, file: BarFile) -> None:
    """Refuse prices of another unit, inexact single precision and stamps off the minute.

    Parameters
    ----------
    part : polars.DataFrame
        Rows of one contract.
    contract : Contract
    file : BarFile

    Raises
    ------
    DataError
    """
    first_ns = int(part["ts_ns"][0])
    where = f"{file.path}, symbol {part['symbol'][0]}"
    check_first(first_ns, part["close"].head(SAMPLE).to_numpy(), contract, where)
    if file.was_float32:
        _check_exact(part, f"{where}, {stamp(first_ns)}")


def check_first(first_ns: int, closes: Floats, contract: Contract, where: str) -> None:
    """Refuse prices of another unit and stamps off the minute.

    Parameters
    ----------
    first_ns : int, UTC ns
    closes : (n,) float64
        Of the first `SAMPLE` rows.
    contract : Contract
    where : str

    Raises
    ------
    DataError
    """
    where = f"{where}, {stamp(first_ns)}"
    if first_ns % MINUTE_NS:
        raise DataError(
            "bar off the minute",
            expected="the open of a minute",
            found=f"{stamp(first_ns)}",
            where=where,
            remedy="stamp bars with their open, and use bars of a minute or more",
        )
    closes = closes[~np.isnan(closes)]
    if closes.size:
        _check_size(abs(float(np.median(closes))), contract, where)


def _check_size(median: float, contract: Contract, where: str) -> None:
    ticks = median / contract.tick_size
    too_small = 0 < ticks < 1 and not contract.allow_nonpositive
    if too_small or ticks > _TICKS_MAX:
        raise DataError(
            "wrong unit of price",
            expected=f"{contract.root} in quotation units, a tick being {contract.tick_size}",
            found=f"a median close of {median}",
            where=where,
            remedy="divide integer prices in units of 1e-9 by 1e9; Databento's own Parquet files are "
            "read as they are while they keep rtype, publisher_id and instrument_id",
        )


def _check_exact(part: pl.DataFrame, where: str) -> None:
    # A single is exact if the shortest decimal that names it is the number itself.
    for name in PRICES:
        prices = part[name].drop_nulls().drop_nans().unique(maintain_order=True)
        meant = prices.cast(pl.Float32).cast(pl.String).cast(pl.Float64)
        off = prices != meant
        if off.any():
            raise DataError(
                "prices lost digits in Float32",
                expected="prices that single precision holds exactly",
                found=f"{name} {prices.filter(off)[0]!r} for {meant.filter(off)[0]!r}",
                where=where,
                remedy="write the file with Float64 prices",
            )
