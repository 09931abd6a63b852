"""nautilus_trader on minutes: its engine aggregates the hours.

Its bars move the market when they end, so an order would fill at the last minute's close. One trade tick an hour, the
first open, lets orders fill at the price that the rule asks for.
"""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal

import nautilus_trader
import pandas as pd
import rule
from harness import serve
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.backtest.models import LatencyModel, PerContractFeeModel
from nautilus_trader.config import LoggingConfig
from nautilus_trader.data.config import DataEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BarType, TradeTick
from nautilus_trader.model.enums import (
    AccountType,
    AggressorSide,
    AssetClass,
    OmsType,
    OrderSide,
)
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import FuturesContract
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
MINUTE = pd.Timedelta(minutes=1)
AFTER = pd.Timedelta(milliseconds=1)  # a tick comes after the orders of the hour that ended
COLUMNS = ("ts_event", "symbol", "open", "high", "low", "close", "volume")


class Low(Strategy):
    def __init__(self, instrument, rolls):
        super().__init__()
        self.traded, self.rolls = instrument, rolls
        self.rule, self.why, self.entry = rule.Low(), None, None
        self.rows = []

    def on_start(self):
        self.subscribe_bars(
            BarType.from_str(f"{self.traded.id}-1-HOUR-LAST-INTERNAL@1-MINUTE-EXTERNAL")
        )

    def on_bar(self, bar):
        end = pd.Timestamp(bar.ts_event, tz="UTC")
        open_, high, low, close = (
            float(price) for price in (bar.open, bar.high, bar.low, bar.close)
        )
        self.rule.observe(bisect_right(self.rolls, bar.ts_event), open_, close)
        if self.entry is None:
            if self.rule.enters(end, high, low, close):
                self._order(OrderSide.BUY)
            return
        self.why = self.rule.leaves(self.entry, end, high, low, close)
        if self.why:
            self._order(OrderSide.SELL)

    def _order(self, side):
        one = Quantity.from_int(1)
        self.submit_order(self.order_factory.market(self.traded.id, side, one))

    def on_order_filled(self, event):
        fill = float(event.last_px), pd.Timestamp(event.ts_event, tz="UTC").floor("min")
        if event.order_side == OrderSide.BUY:
            self.entry = fill
        else:
            self.rows.append([*self.entry, *fill, self.why])
            self.entry = None

    def on_position_closed(self, event):
        self.rows[-1].append(float(event.realized_pnl))


def future(root, cost):
    tick = Decimal(repr(cost["tick"])).normalize()
    digits = max(0, -tick.as_tuple().exponent)
    return FuturesContract(
        instrument_id=InstrumentId(Symbol(root), VENUE),
        raw_symbol=Symbol(root),
        asset_class=AssetClass.INDEX,
        currency=USD,
        price_precision=digits,
        price_increment=Price(tick, digits),
        multiplier=Quantity.from_int(round(cost["point_value"])),
        lot_size=Quantity.from_int(1),
        underlying=root,
        activation_ns=0,
        expiration_ns=pd.Timestamp("2100-01-01", tz="UTC").value,
        ts_event=0,
        ts_init=0,
    )


def feed(frame, instrument):
    """Return the minutes as bars, and the first open of each hour as a tick."""
    kind = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
    stamped = frame.drop(columns="symbol").set_index(frame["ts_event"] + MINUTE)
    bars = BarDataWrangler(kind, instrument).process(stamped.drop(columns="ts_event"))
    hour = frame["ts_event"].dt.floor("h")
    first = frame[hour != hour.shift()]
    ticks = [
        TradeTick(
            instrument.id,
            instrument.make_price(price),
            Quantity.from_int(1),
            AggressorSide.NO_AGGRESSOR,
            TradeId(str(number)),
            stamp.value,
            stamp.value,
        )
        for number, (stamp, price) in enumerate(
            zip(first["ts_event"] + AFTER, first["open"], strict=True)
        )
    ]
    return bars, ticks


def once(path, costs, watch):
    with watch("load"):
        frame = pd.read_parquet(path, columns=list(COLUMNS))
        (root,) = frame["symbol"].str[:-3].unique()
        instrument = future(root, costs[root])
        bars, ticks = feed(frame, instrument)
        starts = frame["ts_event"][frame["symbol"] != frame["symbol"].shift()]
        rolls = [stamp.value for stamp in starts[1:]]
    with watch("bars and run"):
        engine = BacktestEngine(
            BacktestEngineConfig(
                logging=LoggingConfig(bypass_logging=True),
                run_analysis=False,
                data_engine=DataEngineConfig(
                    time_bars_build_with_no_updates=False,
                    time_bars_build_delay=15,  # microseconds: the last minute belongs to its hour
                ),
            )
        )
        engine.add_venue(
            VENUE,
            OmsType.NETTING,
            AccountType.MARGIN,
            [Money(10**9, USD)],
            base_currency=USD,
            fee_model=PerContractFeeModel(Money(costs[root]["per_side"], USD)),
            latency_model=LatencyModel(base_latency_nanos=1_000),
            trade_execution=True,
        )
        engine.add_instrument(instrument)
        engine.add_data(bars, sort=False)
        engine.add_data(ticks)
        low = Low(instrument, rolls)
        engine.add_strategy(low)
        engine.run()
        engine.dispose()
    return root, low.rows


def rows(result):
    root, trades = result
    for price, entered, out, left, why, net in trades:
        yield root, entered.value, price, left.value, out, "long", why, net


serve(once, rows, nautilus_trader.__version__)
