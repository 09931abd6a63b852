"""The trades of all windows as one account: equity, statistics, and each window's share of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from ibs_core.ledger import line_of
from ibs_core.report.equity import equity_curve, value_open_positions
from ibs_core.report.intrabar import session_lows
from ibs_core.report.metrics import SymbolFacts, compute
from ibs_core.report.trade_facts import with_facts
from ibs_core.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.report.curve import Trials
    from ibs_core.report.equity import OpenPosition, PointCosts
    from ibs_core.walk_forward.out_of_sample import Tested

__all__ = ["Account", "Stitched", "stitch"]


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What trades are priced by, the same in every window.

    Attributes
    ----------
    capital : float, USD
    costs : dict of str to PointCosts
        By root, in contract-map order.
    facts : dict of str to SymbolFacts
    """

    capital: float
    costs: dict[str, PointCosts]
    facts: dict[str, SymbolFacts]

    @classmethod
    def of(cls, settings: Settings, contracts: ContractMap, roots: Sequence[str]) -> Account:
        """Return the account that settings state.

        Parameters
        ----------
        settings : Settings
        contracts : ContractMap
        roots : sequence of str
            In contract-map order.

        Returns
        -------
        Account
        """
        universe = Universe(settings, contracts, start=None, end=None)
        symbols = [universe.get(root) for root in roots]
        return cls(
            settings.capital,
            {each.root: line_of(each, (), settings.costs).costs for each in symbols},
            {
                each.root: SymbolFacts(
                    each.executed.tick_value_usd, each.executed.point_value_usd, each.sessions
                )
                for each in symbols
            },
        )

    def curve(
        self, trades: pl.DataFrame, marks: pl.DataFrame, held: Sequence[OpenPosition]
    ) -> pl.DataFrame:
        """Return the equity of trades.

        Parameters
        ----------
        trades : polars.DataFrame
            Schema `TRADES`.
        marks : polars.DataFrame
            Schema `MARKS`.
        held : sequence of OpenPosition

        Returns
        -------
        polars.DataFrame
            Schema `EQUITY`.
        """
        return equity_curve(trades, marks, held, capital=self.capital, contracts=self.costs)


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """All windows as one run.

    Attributes
    ----------
    trades, decisions, equity, lows : polars.DataFrame
        Of the schemas in ``report.run``.
    stats : dict
        As `compute` returns it, with ``blocked`` and ``open_positions``.
    windows : list of dict
        Statistics of each window's own trades, by key of `METRICS`. Whatever lies after its sessions counts
        at their last close.
    """

    trades: pl.DataFrame
    decisions: pl.DataFrame
    equity: pl.DataFrame
    lows: pl.DataFrame
    stats: dict[str, Any]
    windows: list[dict[str, Any]]


def stitch(
    tested: Sequence[Tested], marks: pl.DataFrame, account: Account, trials: Trials | None
) -> Stitched:
    """Stitch windows into one run.

    Parameters
    ----------
    tested : sequence of Tested
        In order, at least one.
    marks : polars.DataFrame
        Schema `MARKS`, of all sessions.
    account : Account
    trials : Trials, optional
        What the parameters were chosen from.

    Returns
    -------
    Stitched
    """
    order = pl.Enum(list(account.costs))
    trades = pl.concat([each.trades for each in tested]).sort(
        "exit_time", pl.col("symbol").cast(order), "entry_time"
    )
    # Stable: what an earlier window still holds leaves before the next enters.
    decisions = pl.concat([each.decisions for each in tested]).sort("time", maintain_order=True)
    held = [position for each in tested for position in each.held]
    marks = _between(marks, tested[0], tested[-1])
    equity = account.curve(trades, marks, held)
    stats = compute(
        *(trades, equity), capital=account.capital, symbols=account.facts, trials=trials
    )
    stats["blocked"] = _blocked(tested, account)
    stats["open_positions"] = value_open_positions(held, marks, account.costs)
    lows = session_lows(with_facts(trades, account.facts), equity, capital=account.capital)
    keys = ["session_date", "symbol"]
    return Stitched(
        trades,
        decisions,
        equity,
        equity.select(keys).join(lows, on=keys, how="left", maintain_order="left"),
        stats,
        [_own(each, marks, account) for each in tested],
    )


def _between(marks: pl.DataFrame, first: Tested, last: Tested) -> pl.DataFrame:
    tested = pl.col("session_date").is_between(
        first.fitted.window.test[0], last.fitted.window.test[1]
    )
    return marks.filter(tested)


def _own(tested: Tested, marks: pl.DataFrame, account: Account) -> dict[str, Any]:
    curve = account.curve(tested.trades, _between(marks, tested, tested), tested.held)
    total: dict[str, Any] = compute(
        tested.trades, curve, capital=account.capital, symbols=account.facts
    )["total"]
    return total


def _blocked(tested: Sequence[Tested], account: Account) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {root: {} for root in account.costs}
    for each in tested:
        for root, counts in (each.blocked or {}).items():
            for gate, n in counts.items():
                sums[root][gate] = sums[root].get(gate, 0) + n
    return sums
