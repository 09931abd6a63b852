"""backtesting.py on hours made by Polars: one `Backtest` a root."""

from __future__ import annotations

import backtesting
import rule
from backtesting import Backtest, Strategy
from harness import serve
from hours import read_hours, with_signals


class Low(Strategy):
    units = 1

    def init(self):
        pass

    def next(self):
        data = self.data
        if not self.trades:
            if data.Enter[-1]:
                self.buy(size=self.units)
            return
        trade = self.trades[0]
        held = len(data) - trade.entry_bar
        is_past = data.FlatsAtEnd[-1] > data.Flats[trade.entry_bar]
        if rule.leaves(trade.entry_price, data.Close[-1], data.Ibs[-1], held, is_past) >= 0:
            trade.close()


def once(path, costs, watch):
    with watch("load and bars"):
        hours = read_hours(path)
    with watch("run"):
        hours = with_signals(hours)
        found = []
        for (root,), own in hours.partition_by("root", as_dict=True, maintain_order=True).items():
            frame = own.select(
                *(own[name].alias(name.title()) for name in ("open", "high", "low", "close")),
                *(own[name].alias(name.title()) for name in ("ibs", "enter", "flats")),
                FlatsAtEnd=own["flats"] + (own["hour"] == rule.FLAT_HOUR - 1),
            ).to_pandas()
            frame.index = own["start"].to_pandas()
            test = Backtest(frame, Low, cash=1e12, commission=(costs[root]["per_side"], 0.0))
            trades = test.run(units=round(costs[root]["point_value"]))["_trades"]
            found.append((root, own["first"].to_physical().to_numpy(), trades))
        return found


def rows(found):
    for root, first, trades in found:
        for trade in trades.itertuples():
            yield (
                root,
                *(first[trade.EntryBar], trade.EntryPrice),
                *(first[trade.ExitBar], trade.ExitPrice),
                *("long", "", trade.PnL),
            )


serve(once, rows, backtesting.__version__)
