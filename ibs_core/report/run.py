"""What one back-test leaves behind, as plain data: the contract between the driver and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from ibs_core.bars import EXIT_REASONS

__all__ = [
    "BARS",
    "DECISIONS",
    "EQUITY",
    "EXIT_REASONS",
    "LOWS",
    "META_KEYS",
    "TOTAL",
    "TRADES",
    "Run",
]

TOTAL: Final = "TOTAL"
"""The symbol of the rows and statistics that cover the whole portfolio."""

_INSTANT: Final = pl.Datetime("ns", "UTC")
_TEXT, _COUNT, _NUMBER = pl.String(), pl.Int64(), pl.Float64()

TRADES: Final = pl.Schema(
    {
        "symbol": _TEXT,
        "instrument": _TEXT,  # spelt ESZ2025
        "side": _TEXT,
        "quantity": _COUNT,
        "entry_time": _INSTANT,
        "entry_price": _NUMBER,  # raw market prices; slippage is its own column
        "exit_time": _INSTANT,
        "exit_price": _NUMBER,
        "exit_reason": _TEXT,
        "gross_usd": _NUMBER,
        "commission_usd": _NUMBER,
        "slippage_usd": _NUMBER,
        "net_usd": _NUMBER,
        "bars_held": _COUNT,
        "mae_usd": _NUMBER,
        "mfe_usd": _NUMBER,
        "ibs_entry": _NUMBER,
        "ibs_exit": _NUMBER,
        "score": pl.Float32(),  # null without a model; float32 because that is what was compared
    }
)

DECISIONS: Final = pl.Schema(
    {
        "time": _INSTANT,
        "symbol": _TEXT,
        "action": _TEXT,
        "reason": _TEXT,
        "score": pl.Float32(),
        "threshold": pl.Float32(),
    }
)

EQUITY: Final = pl.Schema(
    {
        "session_date": pl.Date(),
        "symbol": _TEXT,
        "realised_usd": _NUMBER,
        "open_usd": _NUMBER,
        "equity_usd": _NUMBER,
    }
)

LOWS: Final = pl.Schema({"session_date": pl.Date(), "symbol": _TEXT, "low_usd": _NUMBER})

BARS: Final = pl.Schema(
    {
        "start": _INSTANT,
        "end": _INSTANT,
        "open": _NUMBER,
        "high": _NUMBER,
        "low": _NUMBER,
        "close": _NUMBER,
        "merged": _COUNT,  # signal bars in one, > 1 where there are more than a chart draws
    }
)

META_KEYS: Final = frozenset(
    {
        "created_utc",
        "command",
        "versions",
        "data_digest",
        "contract_map_digest",
        "generated_data",
        "config_hash",
        "warnings",
    }
)


@dataclass(frozen=True)
class Run:
    """Hold everything that a run folder and its report are made from.

    Parameters
    ----------
    meta : dict
        The content of ``run.json``; holds at least `META_KEYS`. ``created_utc`` is ISO 8601 with an
        offset, ``versions`` maps a package to its version, ``warnings`` is a list of sentences.
        The run's id is the name of its folder and is added when the folder is written.
    config_yaml : str
        The resolved configuration, without secrets.
    stats : dict
        The result of `ibs_core.report.metrics.compute`, and beside it ``blocked``
        (``{symbol: {gate: n}}``) and ``open_positions`` (a list of dictionaries).
        Plain JSON values only; never NaN.
    trades, decisions, equity : polars.DataFrame
        Of the schemas `TRADES`, `DECISIONS` and `EQUITY`.
    bars : dict of str to polars.DataFrame
        What the price chart draws of each symbol, schema `BARS`; empty where it was not kept.
    lows : polars.DataFrame
        Lowest equity of each session, schema `LOWS`; empty where it was not kept.
    """

    meta: dict[str, Any]
    config_yaml: str
    stats: dict[str, Any]
    trades: pl.DataFrame
    decisions: pl.DataFrame
    equity: pl.DataFrame
    bars: dict[str, pl.DataFrame] = field(default_factory=dict)
    lows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LOWS))

    def __post_init__(self) -> None:
        """Refuse a run whose parts break the contract; that is a mistake of our own."""
        missing = META_KEYS - self.meta.keys()
        assert not missing, f"run meta lacks {sorted(missing)}"
        frames = [(self.trades, TRADES), (self.decisions, DECISIONS), (self.equity, EQUITY)]
        frames.append((self.lows, LOWS))
        for frame, schema in frames + [(bars, BARS) for bars in self.bars.values()]:
            assert frame.schema == schema, f"expected {schema}, found {frame.schema}"
