"""Bars held in memory: read once, then replayed from any start to any instant, as checks need them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ibs_core.errors import DataError
from ibs_core.market_data.repair import Repairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ibs_core.contracts import ContractMap
    from ibs_core.market_data.runs import MinuteRun
    from ibs_core.market_data.source import BarSource

__all__ = ["HeldBars", "hold"]

_EVER = (-(2**62), 2**62)


def hold(source: BarSource, roots: Sequence[str] | None = None) -> HeldBars:
    """Read all minutes of some roots, repaired where they need it.

    Parameters
    ----------
    source : BarSource
    roots : sequence of str, optional
        Roots and reference feeds; default: all that the data hold.

    Returns
    -------
    HeldBars

    Raises
    ------
    DataError, EnvironmentFault
    """
    wanted = list(roots or (*source.roots, *source.feeds))
    runs: dict[str, list[MinuteRun]] = {root: [] for root in wanted}
    faulty = set()
    for run in source.stream(wanted, volume=True):
        runs[run.root].append(run)
        if run.irregular or not _is_regular(run):
            faulty.add(run.root)
    for root in faulty:
        runs[root] = source.load(root)[0]
    return HeldBars(runs, source.contracts)


def _is_regular(run: MinuteRun) -> bool:
    ordered = bool(np.all(np.diff(run.ts_ns) > 0))
    within = (run.low <= np.minimum(run.open, run.close)) & (
        np.maximum(run.open, run.close) <= run.high
    )
    return ordered and bool(np.all(within))


class HeldBars:
    """Minutes of some roots; serves whatever reads a ``BarSource``.

    Parameters
    ----------
    runs : Mapping of str to sequence of MinuteRun
        By root, in order.
    contracts : ContractMap
    span : tuple of (int, int), UTC ns
        Only minutes that open in [first, until) are served, as if it were ``until`` now.
    """

    def __init__(
        self,
        runs: Mapping[str, Sequence[MinuteRun]],
        contracts: ContractMap,
        span: tuple[int, int] = _EVER,
    ) -> None:
        self._runs = runs
        self._span = span
        self.contracts = contracts

    @property
    def until_ns(self) -> int | None:
        """The instant at which the data are looked at; None: when they end."""
        return self._span[1] if self._span[1] < _EVER[1] else None

    @property
    def roots(self) -> tuple[str, ...]:
        """Roots that have minutes in the span, in the order of the contract map."""
        return tuple(root for root in self.contracts.contracts if self._holds(root))

    @property
    def feeds(self) -> tuple[str, ...]:
        """Reference feeds that have minutes in the span."""
        return tuple(name for name in self.contracts.reference_feeds if self._holds(name))

    def between(self, first_ns: int | None = None, until_ns: int | None = None) -> HeldBars:
        """Return the same bars, of which only a span is served.

        Parameters
        ----------
        first_ns, until_ns : int, UTC ns, optional

        Returns
        -------
        HeldBars
        """
        first = _EVER[0] if first_ns is None else first_ns
        until = _EVER[1] if until_ns is None else until_ns
        return HeldBars(self._runs, self.contracts, (first, until))

    def stream(
        self, roots: Sequence[str] | None = None, *, volume: bool = False
    ) -> Iterator[MinuteRun]:
        """Yield the runs of the span, root by root.

        Parameters
        ----------
        roots : sequence of str, optional
            Default: all roots, no feeds.
        volume : bool

        Raises
        ------
        DataError
            A root of `roots` is not held.
        """
        for root in roots if roots is not None else self.roots:
            if root not in self._runs:
                held = ", ".join((*self.roots, *self.feeds))
                raise DataError("no usable row", expected=f"bars of {root}", found=held)
            yield from self._served(root, volume=volume)

    def load(self, root: str, *, strict: bool = False) -> tuple[list[MinuteRun], Repairs]:
        """Return one root's bars, which were repaired when they were read.

        Parameters
        ----------
        root : str
        strict : bool
            Of no effect here.

        Returns
        -------
        runs : list of MinuteRun
        repairs : Repairs
            None.
        """
        del strict
        return list(self._served(root, volume=True)), Repairs(root, ())

    def _holds(self, root: str) -> bool:
        first, until = self._span
        return any(
            run.ts_ns[0] < until and run.ts_ns[-1] >= first for run in self._runs.get(root, ())
        )

    def _served(self, root: str, *, volume: bool) -> Iterator[MinuteRun]:
        for run in self._runs[root]:
            first, until = np.searchsorted(run.ts_ns, self._span)
            if first < until:
                part = slice(int(first), int(until))
                yield replace(
                    run,
                    ts_ns=run.ts_ns[part],
                    open=run.open[part],
                    high=run.high[part],
                    low=run.low[part],
                    close=run.close[part],
                    volume=run.volume[part] if volume and run.volume is not None else None,
                    irregular=False,
                )
