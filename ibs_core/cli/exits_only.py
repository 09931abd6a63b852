"""A source without market data: what was decided leaves, what operators ask is done, and then it is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.cli.live_source import Source
    from ibs_core.live import Worker
    from ibs_core.market_data import HeldBars

__all__ = ["SKIPPED", "source_of_exits"]

SKIPPED = ("clock", "market_data", "reference_data", "contract_expiry", "features")
"""Checks before the start that are about market data, or that no exit should wait for."""


def source_of_exits(roots: Sequence[str]) -> Source:
    """Make a source that brings no minute, and is over when every exit has arrived.

    Parameters
    ----------
    roots : sequence of str

    Returns
    -------
    Source
    """
    from adapters.system_clock import SystemClock
    from ibs_core.cli.live_source import Source

    def is_done(worker: Worker) -> bool:
        return not worker.dispatch.closing(roots)

    silence = _Silence()
    return Source(
        feed=silence,
        clock=SystemClock(),
        history=silence,
        by_clock=False,
        first_ns=0,
        start_ns=0,
        end_ns=None,
        seams={},
        is_done=is_done,
        end_text="every exit has arrived",
    )


class _Silence:
    """A feed that says nothing, and a history that holds nothing."""

    def start(self, since_ns: int) -> None:
        """Do nothing."""

    def next(self, timeout_s: float) -> None:
        """Wait in vain."""
        time.sleep(timeout_s)

    def stop(self) -> None:
        """Do nothing."""

    def telemetry(self) -> dict[str, Any]:
        """Tell that nothing was received."""
        return {"reconnects": 0, "lag_ms": None, "last_bar_ns": {}}

    def minutes(self, roots: Sequence[str], first_ns: int, until_ns: int) -> HeldBars:
        """Refuse: nothing is warmed up here."""
        del roots, first_ns, until_ns
        raise EnvironmentFault("no market data with --exits-only")
