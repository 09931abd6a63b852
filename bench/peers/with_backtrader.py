"""backtrader on minutes: its resampler makes the hours, orders fill at the next minute's open."""

from __future__ import annotations

from datetime import UTC, timedelta

import backtrader as bt
import pandas as pd
import rule
from harness import serve

MINUTE = timedelta(minutes=1)
COLUMNS = ("ts_event", "symbol", "open", "high", "low", "close", "volume")


def start_of(number):
    """Return the start of the minute that backtrader stamps with its end."""
    return pd.Timestamp(bt.num2date(number)).round("min").tz_localize(UTC) - MINUTE


class Low(bt.Strategy):
    """Decides on `data1`, the hours; trades on `data0`, the minutes."""

    def __init__(self):
        self.rule, self.seen = rule.Low(), 0
        self.why = self.fill = None
        self.rows = []

    def next(self):
        if len(self.data1) == self.seen:
            return
        self.seen = len(self.data1)
        hour = self.data1
        end = hour.datetime.datetime(0).replace(tzinfo=UTC)
        high, low, close = hour.high[0], hour.low[0], hour.close[0]
        self.rule.observe(hour.openinterest[0], hour.open[0], close)
        if not self.position:
            if self.rule.enters(end, high, low, close):
                self.buy()
            return
        self.why = self.rule.leaves(self.fill, end, high, low, close)
        if self.why:
            self.close()

    def notify_order(self, order):
        if order.status != order.Completed:
            return
        fill = order.executed.price, start_of(order.executed.dt)
        if order.isbuy():
            self.fill = fill
        else:
            self.rows.append([*self.fill, *fill, self.why])

    def notify_trade(self, trade):
        if trade.isclosed:
            self.rows[-1].append(trade.pnlcomm)


def once(path, costs, watch):
    with watch("load"):
        frame = pd.read_parquet(path, columns=list(COLUMNS))
        (root,) = frame["symbol"].str[:-3].unique()
        frame["openinterest"] = frame.pop("symbol").factorize()[0]  # the field that it leaves alone
        frame["ts_event"] = frame["ts_event"].dt.tz_localize(None) + MINUTE
        frame = frame.set_index("ts_event")
    with watch("bars and run"):
        cerebro = bt.Cerebro(stdstats=False)
        minutes = bt.feeds.PandasDirectData(
            dataname=frame, timeframe=bt.TimeFrame.Minutes, openinterest=6
        )
        cerebro.adddata(minutes)
        cerebro.resampledata(minutes, timeframe=bt.TimeFrame.Minutes, compression=60)
        cerebro.addstrategy(Low)
        cerebro.broker.setcash(1e9)
        cerebro.broker.setcommission(
            commission=costs[root]["per_side"], mult=costs[root]["point_value"], margin=1.0
        )
        (done,) = cerebro.run()
    return root, done.rows


def rows(result):
    root, trades = result
    for price, entered, out, left, why, net in trades:
        yield root, entered.value, price, left.value, out, "long", why, net


serve(once, rows, bt.__version__)
