"""Checks before a start, of what decisions need: market data, the contract map, contracts in force, warm-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ibs_core.bars import DAY_NS
from ibs_core.errors import DataError
from ibs_core.preflight import Found

if TYPE_CHECKING:
    from ibs_core.cli.preflight_start import Start

__all__ = ["contract_expiry", "features", "market_data", "reference_data"]

_SESSIONS_WARN: Final = 5
_SPARE_NS: Final = 7 * DAY_NS
"""Of the history that a start reads, what only makes up for sessions without a print."""


def market_data(start: Start) -> Found:
    """Log in at the gateway; no data are asked for."""
    if start.is_replay:
        return Found("a replay brings its own", verdict="skipped")
    from adapters.databento_live.feed import address_of
    from adapters.databento_live.login import log_in
    from adapters.databento_live.roster import dataset_of
    from ibs_core.cli.live_source import key_of_environment

    key = key_of_environment()
    dataset = dataset_of(start.contracts, start.roots)
    log_in(key, dataset, start.gateway or address_of(dataset))
    return Found(f"{dataset}: the key is accepted")


def reference_data(start: Start) -> Found:
    """See that all that is traded or read is known, and that live brings it."""
    from ibs_core.cli.live_parts import refuse_unserved

    _, engine = start.parts
    refuse_unserved(engine, start.contracts)
    for symbol in engine.symbols:
        if not symbol.executed.traderspost_ticker:
            raise DataError(
                f"contract {symbol.executed.root}",
                expected="a ticker of TradersPost in the contract map",
                found="none",
                remedy="add it, or execute another contract",
            )
    told = [f"{each.root} as {each.executed.traderspost_ticker}" for each in engine.symbols]
    text = f"{', '.join(told)}; features read {', '.join(engine.reads)}"
    unpaired = [each.root for each in engine.symbols if each.contract.pair is None]
    if unpaired:
        remedy = "nothing, unless a pair feature is wanted: then name a pair in the contract map"
        return Found(f"{text}; no pair for {', '.join(unpaired)}", remedy, "warning")
    return Found(text)


def contract_expiry(start: Start) -> Found:
    """See that the contract in force of each symbol still trades, and in sessions to come."""
    if start.is_replay:
        return Found("the market of a replay is past", verdict="skipped")
    from ibs_core.contract_codes import resolve_code
    from ibs_core.expiry import last_trading_day, sessions_left

    fronts, now_ns = _fronts(start), start.now_ns
    told, near = [], []
    for symbol in start.parts[1].symbols:
        if symbol.root not in fronts:
            near.append(f"the contract of {symbol.root} is not known yet")
            continue
        code = resolve_code(fronts[symbol.root], start.contracts, at_ns=now_ns)
        if code.form != "outright":
            near.append(f"the bars of {symbol.root} do not name their contract")
            continue
        left = sessions_left(code, symbol.executed, now_ns)
        told.append(f"{code.spelling} until {last_trading_day(code, symbol.executed)}")
        if left == 0:
            raise DataError(
                f"contract {code.spelling}, the front of {symbol.root}",
                expected="one that still trades",
                found=f"its last day was {last_trading_day(code, symbol.executed)}",
                remedy="give newer files with --history, or close what the journal holds in it",
            )
        if left <= _SESSIONS_WARN:
            near.append(f"{code.spelling} trades in {left} more sessions")
    if near:
        remedy = "see that the roll comes before the last session"
        return Found("; ".join(near), remedy, "warning")
    return Found(", ".join(told))


def _fronts(start: Start) -> dict[str, str]:
    """Name the contract in force of each root: by the vendor, else by files or the journal."""
    _, engine = start.parts
    roots = [each.root for each in engine.symbols]
    if start.gateway is None:
        from adapters import databento_history
        from ibs_core.cli.live_source import key_of_environment

        vendor = databento_history.DatabentoVendor(key_of_environment())
        today = start.now_ns // DAY_NS
        days = databento_history.front_days(vendor, start.contracts, roots, today - 5, today)
        return {root: known[max(known)] for root, known in days.items() if known}
    if start.resumed_ns is not None:
        named = {root: engine.instrument(root) for root in roots}
        return {root: name for root, name in named.items() if name}
    runs = {root: start.past.load(root)[0] for root in roots if root in start.past.roots}
    return {root: each[-1].instrument for root, each in runs.items()}


def features(start: Start) -> Found:
    """See that history, or a state, fills every window."""
    if start.is_replay:
        return Found("a replay warms up from its own bars", verdict="skipped")
    from ibs_core.market_data.runs import stamp
    from ibs_core.warm_up import REACH_NS, first_needed_ns, hole_at_the_end

    universe, engine = start.parts
    now_ns, until_ns = start.now_ns, start.resumed_ns
    if until_ns is None and start.files:
        return _of_files(start)
    if until_ns is None:
        first = stamp(first_needed_ns(engine.symbols, universe, now_ns))
        return Found(f"history from {first} on is fetched from Databento at the start")
    text = f"the journal's state reaches to {stamp(until_ns)}"
    replayed_ns = now_ns - REACH_NS
    if replayed_ns <= until_ns:
        return Found(f"{text}; the live service replays what is missing")
    if not start.files:
        return Found(f"{text}; what is missing is fetched from Databento")
    hole = hole_at_the_end(
        start.past.between(until_ns, now_ns), engine.symbols, until_ns, replayed_ns
    )
    if hole:
        raise DataError(hole, remedy="give later files with --history")
    return Found(f"{text}; the files hold what is missing")


def _of_files(start: Start) -> Found:
    """Tell whether files reach as far back, and as near, as each symbol needs."""
    from ibs_core.cli.live_source import refuse_absent, whole_span
    from ibs_core.market_data.runs import stamp
    from ibs_core.warm_up import first_needed_ns, refuse_holes

    (universe, engine), now_ns = start.parts, start.now_ns
    refuse_absent(start.past, engine.reads, "history")
    start_ns = min(whole_span(start.past, engine.reads)[1], now_ns)
    refuse_holes(start.past, start.contracts, engine.reads, start_ns, now_ns)
    told, short = [], []
    for symbol in engine.symbols:
        needed_ns = first_needed_ns([symbol], universe, start_ns)
        told.append(f"{symbol.root} needs history from {stamp(needed_ns)}")
        for root in (symbol.root, *sorted(symbol.feeds)):
            begins_ns = int(start.past.load(root)[0][0].ts_ns[0])
            if begins_ns > needed_ns + _SPARE_NS:
                short.append(f"{told[-1]}, that of {root} begins at {stamp(begins_ns)}")
    if short:
        remedy = (
            "give earlier files with --history; until its windows are full, a symbol enters nothing"
        )
        return Found("; ".join(short), remedy, "warning")
    return Found("; ".join(told))
