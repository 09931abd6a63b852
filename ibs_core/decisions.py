"""The data language of ``decide``: what it is told, what it remembers, what it answers."""

from __future__ import annotations

import numpy as np

from ibs_core.bars import NEVER, Ints, Record, Records
from ibs_core.kernels._jit import jit

__all__ = [
    "ABSENT",
    "BLOCKS",
    "CANCEL",
    "COOLDOWN",
    "DAILY_LOSS",
    "DECISION",
    "DESK",
    "ENTRY",
    "EXIT",
    "FIRST_BLOCK",
    "FIRST_VETO",
    "FLATTEN",
    "HAS_POSITION",
    "INPUT",
    "IS_ABSENT",
    "IS_LEAVING",
    "IS_PENDING",
    "LEFT_LATE",
    "LIVE_BLOCKS",
    "MAX_ORDERS",
    "NEAR_CLOSE",
    "RISK",
    "SLICE",
    "TAKEN",
    "TOO_LARGE",
    "TOO_MANY_CONTRACTS",
    "TOO_MANY_ORDERS",
    "TOO_MANY_POSITIONS",
    "log_order",
    "new_desk",
    "record",
]

ENTRY, EXIT = range(2)
TAKEN = 0
BLOCKS = (
    "position",
    "pending",
    "exit",
    "cooldown",
    "daily_loss",
    "no_entry_before_close",
    "max_orders_per_minute",
    "max_positions",
    "max_quantity",
    "max_total_quantity",
    "absent",
    "not_live",
    "stale",
    "late",
    "halted",
    "unresolved",
)
"""Why a candidate was not taken, by code - 1; code 0 is ``taken``. From ``absent`` on only live gives them."""
(
    HAS_POSITION,
    IS_PENDING,
    IS_LEAVING,
    COOLDOWN,
    DAILY_LOSS,
    NEAR_CLOSE,
    TOO_MANY_ORDERS,
    TOO_MANY_POSITIONS,
    TOO_LARGE,
    TOO_MANY_CONTRACTS,
    IS_ABSENT,
) = range(1, 12)
LIVE_BLOCKS = BLOCKS[IS_ABSENT:]
"""What an operator or the state of live can block entries for."""

FIRST_VETO = 100
"""Reason of an entry that the model keeps out, with its verdict added."""

MAX_ORDERS = 512

RISK = np.dtype(
    [
        ("max_positions", "i8"),  # NEVER is off
        ("max_quantity", "i8"),  # contracts of one symbol; NEVER is off
        ("max_total_quantity", "i8"),  # contracts held and pending; NEVER is off
        ("daily_loss_usd", "f8"),  # NaN is off
        ("max_orders_per_minute", "i8"),  # NEVER is off
        ("no_entry_before_close_ns", "i8"),  # -1 is off
        (
            "veto",
            "i8",
        ),  # 1: verdicts keep candidates out, and capacity goes to the highest score first
    ],
)

CANCEL, FLATTEN, ABSENT, LEFT_LATE, FIRST_BLOCK = range(5)

INPUT = np.dtype(
    [
        ("time_ns", "i8"),  # every minute that ended by then was seen
        ("after", "i8"),  # 0: told to the slice of that instant; 1: once it was decided
        ("kind", "i8"),  # CANCEL: an entry was not delivered; FLATTEN: an operator leaves; ABSENT;
        ("symbol", "i8"),  # -1 is all   LEFT_LATE: a decided exit; FIRST_BLOCK + i: of LIVE_BLOCKS
        ("until_ns", "i8"),  # exits leave, entries are blocked, no earlier; in the past: no more
    ],
)
"""What only live knows. It makes a slice of its own, and the journal replays it.

LEFT_LATE until NEVER: the exit has not left, nobody knows when it will; then LEFT_LATE with the instant at which
it did. CANCEL ends a position that was decided upon an entry that never left, an exit on its way included.
"""

DESK = np.dtype(
    [
        ("halted_date", "i8"),  # no entries on trade dates up to this one
        ("absent_ns", "i8"),  # until then nobody was there: no entries, and exits leave only then
        ("n_orders", "i8"),
        ("order_ns", "i8", (MAX_ORDERS,)),  # the times of the last orders, a ring
    ],
)
"""What the portfolio remembers besides its positions."""

SLICE = np.dtype(
    [
        ("closing", "i8"),  # 1: an own signal bar ends now
        ("in_bar", "i8"),  # 1: an own signal bar is in progress
        ("close", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("ibs", "f8"),
        ("atr", "f8"),
        ("gate", "i8"),
        ("score", "f8"),
        ("verdict", "i8"),
        ("flats", "i8"),
        ("in_roll", "i8"),
        ("expire_ns", "i8"),
        ("close_left_ns", "i8"),
    ],
)
"""What one symbol brings to a slice; all but ``in_bar`` only matter when ``closing``."""

DECISION = np.dtype(
    [("time_ns", "i8"), ("symbol", "i8"), ("action", "i8"), ("reason", "i8"), ("score", "f8")],
)
"""An entry's reason is TAKEN, a code of BLOCKS or FIRST_VETO + verdict, an exit's a code of
``bars.EXIT_REASONS``."""


def new_desk() -> Records:
    """Make the portfolio's memory before any order.

    Returns
    -------
    (1,) DESK
    """
    desk = np.zeros(1, DESK)
    desk["halted_date"] = -NEVER
    return desk


@jit
def log_order(desk: Record, time_ns: int) -> None:
    """Remember that an order was decided, in order of time.

    Parameters
    ----------
    desk : DESK
    time_ns : int64, UTC ns
    """
    at = desk["n_orders"]
    oldest = max(at - MAX_ORDERS + 1, 0)
    while at > oldest and desk["order_ns"][(at - 1) % MAX_ORDERS] > time_ns:
        desk["order_ns"][at % MAX_ORDERS] = desk["order_ns"][(at - 1) % MAX_ORDERS]
        at -= 1
    desk["order_ns"][at % MAX_ORDERS] = time_ns
    desk["n_orders"] += 1


@jit
def record(
    decisions: Records, n: Ints, time_ns: int, symbol: int, action: int, reason: int, score: float
) -> None:
    """Put a decision behind those of its instant and before: symbols are settled one after the other.

    Parameters
    ----------
    decisions : (capacity,) DECISION, by time
    n : (2,) int64, counts of trades and decisions
    time_ns, symbol, action, reason : int64
    score : float64
    """
    at = n[1]
    while at > 0 and decisions[at - 1]["time_ns"] > time_ns:
        decisions[at] = decisions[at - 1]
        at -= 1
    row = decisions[at]
    row["time_ns"] = time_ns
    row["symbol"] = symbol
    row["action"] = action
    row["reason"] = reason
    row["score"] = score
    n[1] += 1
