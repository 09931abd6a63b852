"""How a worker is, as the heartbeat tells it: JSON values, taken from the engine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ibs_core import positions
from ibs_core.bars import MINUTE_NS
from ibs_core.market_data.runs import stamp
from ibs_core.orders import executed_contract

if TYPE_CHECKING:
    from ibs_core.bars import Record
    from ibs_core.engine import Engine
    from ibs_core.lane import Lane

__all__ = ["symbols_of"]

_STATUS: Final = ("flat", "entering", "open", "leaving")


def symbols_of(engine: Engine) -> dict[str, dict[str, Any]]:
    """Tell of every traded symbol what was seen last, what is held and whether its features are there.

    Parameters
    ----------
    engine : Engine

    Returns
    -------
    dict of str to dict
        By root: ``last_minute`` and ``last_bar`` (UTC, their ends; null before the first), ``position`` (flat,
        entering, open, leaving), ``instrument`` that is executed, ``quantity``, ``entry_price``, ``open_usd`` after the costs of
        both sides, ``realised_usd`` of the session, ``features`` (``ready``, ``required``, ``missing``).
    """
    return {
        lane.symbol.root: _symbol(engine, lane, position)
        for lane, position in zip(engine.lanes, engine.book, strict=True)
    }


def _symbol(engine: Engine, lane: Lane, position: Record) -> dict[str, Any]:
    symbol, bars = lane.symbol, lane.stream.tail.bar.bars
    status = int(position["status"])
    is_held = status in (positions.OPEN, positions.LEAVING)
    minute_ns = lane.stream.minute_ns
    contract_id = int(position["trade"]["contract"])
    seen = engine.contract(symbol.root, contract_id) if is_held else engine.instrument(symbol.root)
    return {
        "last_minute": stamp(minute_ns + MINUTE_NS) if minute_ns > 0 else None,
        "last_bar": stamp(int(bars["end_ns"][-1])) if len(bars) else None,
        "position": _STATUS[status],
        "instrument": executed_contract(symbol, seen) if seen else "",
        "quantity": symbol.quantity if is_held else 0,
        "entry_price": float(position["trade"]["entry_price"]) if is_held else None,
        "open_usd": round(float(positions.open_usd(symbol.params[0], position)), 2),
        "realised_usd": round(float(position["realised_usd"]), 2),
        "features": _features(lane),
    }


def _features(lane: Lane) -> dict[str, Any]:
    symbol, params = lane.symbol, lane.symbol.params[0]
    n_bars, n_days, row = lane.observer.newest
    filters = list(symbol.strategy.filters)
    columns = [int(params["filters"][i]["column"]) for i in range(len(filters))]
    if symbol.model is not None:
        filters += symbol.model.features
        columns += range(len(row) - len(symbol.model.features), len(row))
    missing = [
        name for name, i in zip(filters, columns, strict=True) if n_bars == 0 or np.isnan(row[i])
    ]
    is_warm = n_bars >= params["warmup_bars"] and n_days >= params["warmup_days"]
    return {
        "ready": bool(is_warm) and not missing,
        "required": sorted(set(filters)),
        "missing": sorted(set(missing)),
    }
