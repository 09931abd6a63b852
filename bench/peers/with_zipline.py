"""zipline-reloaded on a minute bundle, on its own calendar of the exchange.

It knows no bars between a minute and a day: the last sixty minutes are the hour. Its slippage models fill at a minute's
close; the rule's open is a slippage model of ten lines.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from bisect import bisect_right

import pandas as pd
import rule
import zipline
from harness import serve
from zipline.api import order, set_commission, set_slippage, symbol
from zipline.data import bundles
from zipline.finance.commission import PerTrade
from zipline.finance.slippage import SlippageModel
from zipline.utils.calendar_utils import get_calendar

MINUTE = pd.Timedelta(minutes=1)
PRICES = ["open", "high", "low", "close"]
COLUMNS = ["ts_event", "symbol", *PRICES, "volume"]
BUNDLE, CALENDAR = "minutes", "CMES"

warnings.filterwarnings("ignore", category=FutureWarning)


class AtOpen(SlippageModel):
    """Fills at the open of the first minute with trades after the order; remembers the last fill."""

    fill = None

    def process_order(self, data, order):
        """Return price and amount of a fill."""
        price = data.current(order.asset, "open")
        self.fill = price, data.current_dt - MINUTE
        return price, order.amount


class Low:
    def __init__(self, root, cost, rolls):
        self.root, self.rolls = root, rolls
        self.units, self.per_side = round(cost["point_value"]), cost["per_side"]
        self.rule, self.fills, self.why = rule.Low(), AtOpen(), []

    def initialize(self, _context):
        set_slippage(us_equities=self.fills)
        set_commission(us_equities=PerTrade(self.per_side))
        self.asset = symbol(self.root)

    def handle_data(self, context, data):
        now = data.current_dt
        if now.minute:
            return
        hour = data.history(self.asset, PRICES, 60, "1m").dropna()
        if hour.empty:
            return
        open_, close = hour["open"].iloc[0], hour["close"].iloc[-1]
        high, low = hour["high"].max(), hour["low"].min()
        self.rule.observe(bisect_right(self.rolls, hour.index[-1][0]), open_, close)
        if not context.portfolio.positions[self.asset].amount:
            if self.rule.enters(now, high, low, close):
                order(self.asset, self.units)
            return
        why = self.rule.leaves(self.fills.fill, now, high, low, close)
        if why:
            self.why.append(why)
            order(self.asset, -self.units)


def register(root, frame):
    """Describe the minutes to zipline; it stamps them with their end."""
    calendar = get_calendar(CALENDAR)
    bars = frame[[*PRICES, "volume"]].set_index(frame["ts_event"] + MINUTE)
    bars = bars[bars.index.isin(calendar.minutes)]
    first, last = (
        calendar.minute_to_session(bars.index[0]),
        calendar.minute_to_session(bars.index[-1]),
    )

    def ingest(_environ, assets, minutes, _daily, adjustments, *_):
        minutes.write([(0, bars)])
        adjustments.write()
        listed = {"symbol": root, "asset_name": root, "start_date": first, "end_date": last}
        assets.write(
            equities=pd.DataFrame(
                [{**listed, "auto_close_date": last + pd.Timedelta(days=9), "exchange": CALENDAR}]
            ),
            exchanges=pd.DataFrame([[CALENDAR, CALENDAR, "US"]], columns=_EXCHANGE),
        )

    before = calendar.previous_session(first)  # the evening of the first session is asked for too
    bundles.register(
        BUNDLE, ingest, CALENDAR, start_session=before, end_session=last, minutes_per_day=1440
    )
    return first, last


_EXCHANGE = ["exchange", "canonical_name", "country_code"]


def once(path, costs, watch):
    with tempfile.TemporaryDirectory() as folder:
        place = {**os.environ, "ZIPLINE_ROOT": folder}
        with watch("load"):
            frame = pd.read_parquet(path, columns=COLUMNS)
            (root,) = frame["symbol"].str[:-3].unique()
            starts = frame["ts_event"][frame["symbol"] != frame["symbol"].shift()]
            first, last = register(root, frame)
            bundles.ingest(BUNDLE, environ=place)
        with watch("bars and run"):
            low = Low(root, costs[root], [stamp + MINUTE for stamp in starts[1:]])
            days = zipline.run_algorithm(
                first,
                last,
                low.initialize,
                1e9,
                handle_data=low.handle_data,
                data_frequency="minute",
                bundle=BUNDLE,
                trading_calendar=get_calendar(CALENDAR),
                benchmark_returns=pd.Series(
                    0.0, get_calendar(CALENDAR).sessions_in_range(first, last)
                ),
                default_extension=False,
                environ=place,
            )
    return root, days, low


def rows(result):
    root, days, low = result
    fills = [each for day in days["transactions"] for each in day]
    paid = {each["id"]: each["commission"] for day in days["orders"] for each in day}
    for entry, left, why in zip(fills[::2], fills[1::2], low.why, strict=True):
        gross = left["amount"] * (entry["price"] - left["price"])
        yield (
            root,
            *((entry["dt"] - MINUTE).value, entry["price"]),
            *((left["dt"] - MINUTE).value, left["price"]),
            *("long", why, gross - paid[entry["order_id"]] - paid[left["order_id"]]),
        )


serve(once, rows, zipline.__version__)
