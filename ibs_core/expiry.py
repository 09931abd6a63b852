"""The last day on which a contract trades, by the exchange's rule for its month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ibs_core.sessions import load_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibs_core.contract_codes import ContractCode
    from ibs_core.contracts import Contract

__all__ = ["last_trading_day", "sessions_left"]

_YEAR_NS: Final = 366 * 86_400 * 10**9


def _nth(month: np.datetime64, n: int, weekday: str) -> np.datetime64:
    return np.busday_offset(month, n - 1, roll="forward", weekmask=weekday)


def _before(day: np.datetime64, n: int) -> np.datetime64:
    """Go back n weekdays from a day; from the first of a month, to the n-th last of the month before."""
    return np.busday_offset(day, -n, roll="forward")


# Delivery month -> last day. Micros as their full size; MCL and MNG end a day sooner.
_RULES: Final[dict[str, Callable[[np.datetime64], np.datetime64]]] = {
    "equity": lambda month: _nth(month, 3, "Fri"),
    "fx": lambda month: _before(_nth(month, 3, "Wed"), 2),
    "metals": lambda month: _before(month + 1, 3),
    "rates": lambda month: _before(month + 1, 8),
    "grains": lambda month: _before(month + np.timedelta64(14, "D"), 1),
    "crypto": lambda month: np.busday_offset(month + 1, -1, roll="forward", weekmask="Fri"),
    # Before the delivery month: crude oil by the 25th, natural gas by the month's end.
    "energy": lambda month: np.busday_offset(
        (month - 1) + np.timedelta64(24, "D"), -3, roll="backward"
    ),
    "NG": lambda month: _before(month, 3),
}


def last_trading_day(code: ContractCode, contract: Contract) -> np.datetime64:
    """Return the last day on which an outright trades.

    Parameters
    ----------
    code : ContractCode
        With year and month.
    contract : Contract
        Its root's, with a session group that has contracts.

    Returns
    -------
    datetime64[D]
        By weekdays: an exchange holiday may move it to an earlier one.
    """
    month = np.datetime64(f"{code.year:04}-{code.month:02}", "M")
    rule = _RULES.get(contract.full_size or contract.root, _RULES[contract.session])
    return rule(month)


def sessions_left(code: ContractCode, contract: Contract, now_ns: int) -> int:
    """Count the sessions in which an outright will still trade.

    Parameters
    ----------
    code : ContractCode
    contract : Contract
    now_ns : int, UTC ns

    Returns
    -------
    int
        The session under way or ahead included; 0: it has expired. A month far ahead counts as a year.
    """
    last = last_trading_day(code, contract).astype(np.int64)
    sessions = load_sessions(contract.session, now_ns, now_ns + _YEAR_NS)
    return int(((sessions.close_ns > now_ns) & (sessions.trade_date <= last)).sum())
