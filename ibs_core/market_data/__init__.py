"""Minute bars in, validated once at the edge, columns out.

The data path: `files` (paths, each recognised as `parquet` or `dbn`) → `symbols` and `units` → `source`
(the fast path, run by run) or `repair` and `rolls` (the slow path, one root) → `report`; `memory` holds
what is read again and again.
"""

from ibs_core.market_data.files import BarFile
from ibs_core.market_data.memory import HeldBars, hold
from ibs_core.market_data.packed import PackedRun
from ibs_core.market_data.repair import Repair, Repairs
from ibs_core.market_data.report import DataReport, RootReport, check
from ibs_core.market_data.rolls import Roll, rolls, rolls_of
from ibs_core.market_data.runs import MinuteRun, base_ns
from ibs_core.market_data.source import BarSource, MinuteSource, open_bars

__all__ = [
    "BarFile",
    "BarSource",
    "DataReport",
    "HeldBars",
    "MinuteRun",
    "MinuteSource",
    "PackedRun",
    "Repair",
    "Repairs",
    "Roll",
    "RootReport",
    "base_ns",
    "check",
    "hold",
    "open_bars",
    "rolls",
    "rolls_of",
]
