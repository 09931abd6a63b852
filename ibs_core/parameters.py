"""Settings to the flat numbers that kernels take: one symbol's rule, fixed before any bar."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from ibs_core import formulas
from ibs_core.bars import DAY_NS, MINUTE_NS, NEVER, TIMEFRAMES_NS
from ibs_core.catalogue import Feature, resolve
from ibs_core.config import Costs, Distance, Entry, Members, Risk, Strategy
from ibs_core.errors import ConfigError, UnknownSymbolError
from ibs_core.portfolio import RISK
from ibs_core.schedule import Rule, serves_flat_by
from ibs_core.sessions import nominal_boundaries, regular_hours
from ibs_core.signals import PARAMS
from ibs_core.wiring import Wiring, wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ibs_core.contracts import Contract, ContractMap

__all__ = ["check_symbol", "make_params", "make_risk", "make_rule", "make_wiring"]

_PIVOTS = {"none": 0, "inside": 1, "higher_high": 2}
_EPOCH = date(1970, 1, 1)


def check_symbol(root: str, execute: str | None, contracts: ContractMap) -> None:
    """Refuse a name that the contract map does not hold, and to trade a contract of other prices.

    Parameters
    ----------
    root : str
    execute : str or None
        The contract traded in its place; None: itself.
    contracts : ContractMap

    Raises
    ------
    ConfigError
    """
    where = f"symbols.{root}"
    try:
        contract = contracts.get(root)
        where = f"symbols.{root}.execute"
        executed = contracts.get(execute or root)
    except UnknownSymbolError as error:
        name = root if where == f"symbols.{root}" else str(execute)
        remedy = (
            f"did you mean {name.upper()!r}?"
            if name.upper() in contracts.contracts
            else error.remedy
        )
        raise ConfigError(
            where, expected=error.expected, found=error.found, remedy=remedy
        ) from None
    full_size = contract.full_size or root
    if contract.kind == "future" and (executed.full_size or executed.root) != full_size:
        family = [
            each.root
            for each in contracts.contracts.values()
            if full_size in (each.root, each.full_size)
        ]
        raise ConfigError(
            where,
            expected=f"a contract that has the prices of {root}, which are {', '.join(family)}",
            found=repr(execute),
        )


def make_wiring(
    strategy: Strategy,
    contract: Contract,
    contracts: ContractMap,
    where: str,
    required: Sequence[str] = (),
) -> Wiring:
    """Find what a strategy computes of its bars.

    Parameters
    ----------
    strategy : Strategy
    contract : Contract
        The contract whose bars are read: its pair counts.
    contracts : ContractMap
    where : str
        Where the strategy stands in the configuration, for messages.
    required : sequence of str
        Features of the symbol's model.

    Returns
    -------
    Wiring
        With a column for each filter, in their order, then those of the gates, then those of the model.

    Raises
    ------
    ConfigError
        A filter names no feature, asks for what it can never be, or reads a pair that there is not.
    """
    wanted = []
    for name, test in strategy.filters.items():
        place = f"{where}.filters.{name}"
        feature = resolve(name, contracts, where=place)
        _refuse_idle_filter(feature, test, place)
        wanted.append(feature.node)
    scored = [resolve(name, contracts, where=f"model of {contract.root}").node for name in required]
    wiring = wire([*wanted, *_gate_nodes(strategy), *scored])
    if "pair" in wiring.feeds and contract.pair is None:
        raise ConfigError(
            f"{where}.filters of {contract.root}",
            expected="features of the symbol itself, for the contract map gives it no pair",
            found=", ".join(name for name in strategy.filters if "pair" in name),
            remedy=f"remove them under symbols.{contract.root}.strategy.filters, or name a pair in the map",
        )
    return wiring


def _gate_nodes(strategy: Strategy) -> list[formulas.Node]:
    """Return the formulas of the gates: IBS, the pivots' state or higher high, ATR."""
    nodes = [formulas.IBS]
    if strategy.entry.pivots == "inside":
        nodes.append(formulas.side(formulas.CLOSE, formulas.LAST_HIGH, formulas.LAST_LOW))
    elif strategy.entry.pivots == "higher_high":
        nodes.append(formulas.HIGHER_HIGH)
    return [*nodes, formulas.atr(14)] if _in_atr(strategy) else nodes


def _in_atr(strategy: Strategy) -> bool:
    exits = strategy.exits
    protective = (exits.protective.stop, exits.protective.target) if exits.protective else ()
    distances = (exits.stop, exits.target, *protective)
    return any(distance is not None and distance.atr is not None for distance in distances)


def _refuse_idle_filter(feature: Feature, test: Members | tuple[float, float], where: str) -> None:
    """Refuse a filter that no value of its feature can pass."""
    if isinstance(test, Members):
        possible = any(
            feature.low <= member <= feature.high and (not feature.whole or member == int(member))
            for member in test.members
        )
        found = f"none of them in {list(test.members)}"
    else:
        low, high = max(test[0], feature.low), min(test[1], feature.high)
        possible = low <= high and (not feature.whole or high == np.inf or np.floor(high) >= low)
        found = f"[{test[0]:g}, {test[1]:g}]"
    if not possible:
        raise ConfigError(
            where, expected=f"values that {feature.name} can have, {feature.unit}", found=found
        )


def make_params(
    strategy: Strategy,
    executed: Contract,
    wiring: Wiring,
    *,
    quantity: int,
    costs: Costs,
) -> NDArray[np.void]:
    """Flatten one symbol's rule.

    Parameters
    ----------
    strategy : Strategy
    executed : Contract
        The contract that is traded: its tick and tick value make the money.
    wiring : Wiring
        As ``make_wiring`` makes it of the same strategy.
    quantity : int
        Contracts, >= 1.
    costs : Costs

    Returns
    -------
    (1,) PARAMS
    """
    params = np.zeros(1, PARAMS)
    row = params[0]
    entry = strategy.entry
    row["ibs_low"], row["ibs_high"] = entry.ibs
    row["n_windows"] = len(entry.windows)
    for i, window in enumerate(entry.windows):
        row["windows"][i] = window
    row["pivots"] = _PIVOTS[entry.pivots]
    row["n_filters"] = len(strategy.filters)
    for i, test in enumerate(strategy.filters.values()):
        rule = row["filters"][i]
        rule["column"] = i
        if isinstance(test, Members):
            rule["n_members"] = len(test.members)
            rule["members"][: len(test.members)] = test.members
        else:
            rule["low"], rule["high"] = test
    row["ibs_column"] = len(strategy.filters)
    row["pivot_column"] = row["ibs_column"] + 1
    last = row["pivot_column"] + (entry.pivots != "none")
    row["atr_column"] = last if _in_atr(strategy) else -1
    _write_exits(row, strategy)
    row["warmup_bars"], row["warmup_days"] = wiring.full_bars, wiring.full_days
    row["quantity"], row["tick_nano"] = quantity, executed.tick_nano
    row["usd_per_point"] = quantity * executed.point_value_usd
    per_fill = costs.slippage_ticks * executed.tick_value_usd
    row["cost_usd"] = 2 * quantity * costs.commission_per_side + 2 * quantity * per_fill
    return params


def make_risk(risk: Risk, *, veto: bool) -> NDArray[np.void]:
    """Flatten the limits over all symbols.

    Parameters
    ----------
    risk : Risk
    veto : bool
        Whether verdicts keep candidates out and capacity goes to the highest score first.

    Returns
    -------
    (1,) RISK
    """
    out = np.zeros(1, RISK)
    row = out[0]
    for name in ("max_positions", "max_quantity", "max_total_quantity", "max_orders_per_minute"):
        most = getattr(risk, name)
        row[name] = most if most is not None else NEVER
    row["daily_loss_usd"] = risk.daily_loss_usd if risk.daily_loss_usd is not None else np.nan
    near = risk.no_entry_before_close
    row["no_entry_before_close_ns"] = near if near is not None else -1
    row["veto"] = veto
    return out


def make_rule(
    strategy: Strategy,
    contract: Contract,
    *,
    start: date | None,
    end: date | None,
    where: str,
) -> Rule:
    """Fix what the calendar decides, and refuse what it can never serve.

    Parameters
    ----------
    strategy : Strategy
    contract : Contract
        The contract whose bars are read: its session group counts.
    start, end : date or None
        Session dates traded, both included.
    where : str
        Where the strategy stands in the configuration, for messages.

    Returns
    -------
    Rule

    Raises
    ------
    ConfigError
        ``flat_by`` that no boundary inside the session serves, or windows in which no bar starts.
    """
    tf_ns = TIMEFRAMES_NS[strategy.signal_bar]
    on_date = ((end or start or date(2025, 1, 2)) - _EPOCH).days
    flat_by = strategy.exits.flat_by
    if flat_by is not None and not serves_flat_by(contract.session, tf_ns, flat_by, on_date):
        raise ConfigError(
            f"{where}.exits.flat_by of {contract.root}",
            expected=f"a time at or before the last {strategy.signal_bar} boundary inside its session "
            f"({_hours(contract.session, on_date)})",
            found=f"{flat_by // 60:02d}:{flat_by % 60:02d}",
            remedy=f"set symbols.{contract.root}.strategy.exits.flat_by to an earlier time or to null",
        )
    _refuse_idle_windows(strategy, contract, tf_ns, on_date, where)
    return Rule(
        tf_ns=tf_ns,
        max_wait_ns=strategy.entry.max_wait,
        flat_by=flat_by,
        flat_before_early_close=strategy.exits.flat_before_early_close,
        first_date=(start - _EPOCH).days if start else -NEVER,
        last_date=(end - _EPOCH).days if end else NEVER,
    )


def _write_exits(row: np.void, strategy: Strategy) -> None:
    exits = strategy.exits
    protective = exits.protective
    for name, distance in (
        ("stop", exits.stop),
        ("target", exits.target),
        ("protective_stop", protective.stop if protective else None),
        ("protective_target", protective.target if protective else None),
    ):
        row[f"{name}_percent"], row[f"{name}_atr"] = _distance(distance)
    row["exit_ibs_low"], row["exit_ibs_high"] = exits.ibs or (np.nan, np.nan)
    row["exit_bars"] = exits.bars or 0
    row["cooldown_bars"] = strategy.cooldown_bars


def _distance(distance: Distance | None) -> tuple[float, float]:
    percent = distance.percent if distance else None
    multiple = distance.atr if distance else None
    return (np.nan if percent is None else percent, np.nan if multiple is None else multiple)


def _refuse_idle_windows(
    strategy: Strategy,
    contract: Contract,
    tf_ns: int,
    on_date: int,
    where: str,
) -> None:
    open_, close, _, _ = regular_hours(contract.session, on_date)
    length_ns = ((close - open_) % 1440 or 1440) * MINUTE_NS
    starts = np.concatenate([[0], nominal_boundaries(0, min(length_ns, DAY_NS), tf_ns)[:-1]])
    minutes = (open_ + starts // MINUTE_NS) % 1440
    windows = strategy.entry.windows
    idle = [not np.any((minutes >= first) & (minutes < last)) for first, last in windows]
    if windows == Entry().windows and not all(idle):
        return  # the published pair of windows: long bars may start in one of them only
    for i, (first, last) in enumerate(windows):
        if idle[i]:
            raise ConfigError(
                f"{where}.entry.windows.{i} of {contract.root}",
                expected=f"a window in which a {strategy.signal_bar} bar starts "
                f"(session {_hours(contract.session, on_date)})",
                found=f"{first // 60:02d}:{first % 60:02d} to {last // 60:02d}:{last % 60:02d}",
                remedy="widen the window, or remove it",
            )


def _hours(group: str, on_date: int) -> str:
    open_, close, _, _ = regular_hours(group, on_date)
    return f"{open_ // 60:02d}:{open_ % 60:02d} to {close // 60:02d}:{close % 60:02d}"
