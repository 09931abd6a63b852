"""An independent back-test: minute by minute, in plain Python, from docs/trading-rules.md alone.

It shares no code with the package. Whatever the engine reports must be what this module reports.
"""

# ruff: noqa: PLR0911  (each gate is one return)
import datetime as dt
import math
from bisect import bisect_left, bisect_right
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import naive
from naive import MINUTE, Session

__all__ = ["OracleResult", "Session", "run"]

CHICAGO = ZoneInfo("America/Chicago")
SECOND = 1_000_000_000
UNITS = {
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 7 * 86400 * SECOND,
}  # 1d: a session, however long
NEEDED = {  # completed bars (day_: sessions) that a filter asks for
    "bar_ibs": 1,
    "bar_ibs_prev": 2,
    "day_ibs": 1,
    "day_ibs_prev": 2,
    "bar_rsi2": 3,
    "bar_rsi5": 6,
    "bar_rsi14": 15,
    "day_rsi2": 3,
    "day_rsi5": 6,
    "day_rsi14": 15,
    "bar_range_atr": 15,
    "day_range_atr": 15,
    "bar_ret1_pct": 2,
    "day_ret1_pct": 2,
    "bar_ema20_above": 20,
    "bar_ema50_above": 50,
    "day_ema20_above": 20,
    "bar_pivot_state": 11,
    "bar_zone_dist_atr": 15,
    "cal_dow": 1,
    "cal_month": 1,
}


class OracleResult(NamedTuple):
    """What a run leaves behind.

    `candidates` are (time_ns, symbol), `blocked` counts by symbol and gate, of cheap gates and of
    the slice's gates alike.
    """

    trades: list[dict[str, Any]]
    decisions: list[tuple[int, str, str, str]]
    open_positions: list[dict[str, Any]]
    candidates: list[tuple[int, str]]
    blocked: dict[str, dict[str, int]]


class Given(NamedTuple):
    """A filter's feature as somebody else worked it out, at each closed signal bar."""

    values: list  # None where missing
    warm: list  # whether every window that it reads is full


class Told(NamedTuple):
    """What only live knew.

    `kind` is cancel, flatten, absent, left_late or a reason for which live blocks entries; `root` None is
    every symbol; `until` None of an exit: nobody knows when it leaves. `after`: once the slice was decided.
    """

    time: int
    after: bool
    kind: str
    root: str | None
    until: int | None


LIVE_BLOCKS = ("not_live", "stale", "late", "halted", "unresolved")


class Order:
    """A working entry."""

    def __init__(self, time, atr, ibs, stop, target):
        self.time = time
        self.atr = atr
        self.ibs = ibs
        self.stop = stop
        self.target = target


class Position:
    """A filled entry."""

    def __init__(self, order, instrument, time, price):
        self.atr = order.atr
        self.ibs = order.ibs
        self.stop = order.stop
        self.target = order.target
        self.instrument = instrument
        self.time = time
        self.price = price
        self.low = price
        self.high = price
        self.exit_reason = None
        self.exit_decided = None
        self.exit_ibs = None
        self.leaves = 0  # the exit fills no sooner; None: nobody knows when
        self.last_of_contract = None  # its last close, once the market went on to the next contract


class OpenMarketClock:
    """How much scheduled market time has passed up to an instant."""

    def __init__(self, sessions):
        self.sessions = sessions
        self.before = [0]
        for session in sessions:
            self.before.append(self.before[-1] + self.passed(session, session.close_ns))

    @staticmethod
    def passed(session, instant):
        """Give the market time of one session up to an instant."""
        instant = min(instant, session.close_ns)
        rest = max(0, min(instant, session.break_end_ns) - session.break_start_ns)
        return instant - session.open_ns - rest

    def at(self, instant):
        """Give the market time since the first session's open."""
        i = naive.session_index(self.sessions, instant)
        return 0 if i < 0 else self.before[i] + self.passed(self.sessions[i], instant)


def percent_away(price, sign, percent):
    """Give the price that lies so many percent of its size above (1) or below (-1) a price."""
    exact = naive.exact(price)
    return float(exact + sign * abs(exact) * naive.exact(float(percent)) / 100)


class Symbol:
    """One root: its data, all that can be known of it in advance, and its book."""

    def __init__(self, root, minutes, settings, contracts, sessions, config, base_ns, now):
        strategy = settings["strategy"]
        self.executes = settings.get("execute") or root
        executed = contracts[self.executes]
        self.root = root
        self.quantity = settings.get("quantity", 1)
        self.tick = Decimal(executed["tick_size"])
        tick_value = naive.exact(float(executed["tick_value_usd"]))
        self.point_value = tick_value / self.tick
        costs = config["costs"]
        fills = 2 * self.quantity
        self.commission = fills * naive.exact(float(costs["commission_per_side"]))
        self.slippage = fills * naive.exact(float(costs["slippage_ticks"])) * tick_value

        self.entry = strategy["entry"]
        self.exits = strategy["exits"]
        self.filters = strategy.get("filters") or {}
        self.cooldown_bars = strategy.get("cooldown_bars") or 0
        self.tf = duration(strategy["signal_bar"])
        self.max_wait = duration(self.entry["max_wait"])

        self.sessions = sessions
        self.clock = OpenMarketClock(sessions)
        self.minutes = [m for m in minutes if self.is_read(m[0], config.get("end"))]
        self.start = config.get("start")
        seams = naive.find_seams(minutes, sessions)  # known in advance, also those after `end`
        bars = naive.aggregate(minutes, sessions, self.tf, seams, base_ns, now=now)
        days = naive.aggregate(minutes, sessions, UNITS["d"], seams, base_ns, late=False, now=now)
        self.bars = [bar for bar in bars if self.is_read(bar.start, config.get("end"))]
        self.days = [day for day in days if self.is_read(day.start, config.get("end"))]
        self.known_seams = seams
        self.seams = naive.find_seams(self.minutes, sessions)
        times = [minute[0] for minute in self.minutes]
        self.bar_firsts = [times[bisect_left(times, bar.start)] for bar in self.bars]
        self.bar_ends = [bar.end for bar in self.bars]
        self.day_ends = [day.end for day in self.days if day.closed]
        self.closing = {bar.end: i for i, bar in enumerate(self.bars) if bar.closed}
        self.last_calls = [self.last_call_of_roll(seam.at) for seam in self.known_seams]
        self.flat_calls = []
        if self.exits.get("flat_by") is not None:
            self.flat_calls = [flat_call(self.exits["flat_by"], s) for s in sessions]
        self.early_calls = {}
        if self.exits.get("flat_before_early_close"):
            for i, session in enumerate(sessions):
                call = self.last_call_of_early_close(session)
                if session.early and call is not None:
                    self.early_calls[i] = call
        self.series = {}
        self.given = config.get("given", {}).get(root, {})

        self.order = None
        self.position = None
        self.last_close = None
        self.last_exit = None
        self.exit_dates = []  # trade date on which each exit was decided
        self.trades = []
        self.blocked = {}

    def is_read(self, instant, last_date):
        """Tell whether a minute is read at all."""
        i = naive.session_index(self.sessions, instant)
        if i < 0:
            raise ValueError(f"minute {instant} of {self.root} is before its first session")
        return last_date is None or self.sessions[i].trade_date <= last_date

    def date_at(self, instant):
        """Give the trade date of the session that opened last."""
        return self.sessions[naive.session_index(self.sessions, instant)].trade_date

    # Nominal boundaries and what they leave.

    def boundaries(self, session):
        """List the nominal ends of a session's signal bars."""
        ends = list(range(session.open_ns + self.tf, session.close_ns, self.tf))
        return [*ends, session.close_ns]

    def leaves_a_minute(self, boundary, instant):
        """Tell whether a minute of market time lies between a boundary and an instant."""
        return self.clock.at(instant) - self.clock.at(boundary) >= MINUTE

    def last_call_of_roll(self, at):
        """Give the last boundary that leaves the old contract a minute before a seam."""
        for i in range(naive.session_index(self.sessions, at), -1, -1):
            for boundary in reversed(self.boundaries(self.sessions[i])):
                if boundary <= at and self.leaves_a_minute(boundary, at):
                    return boundary
        return None

    def last_call_of_early_close(self, session):
        """Give the last boundary inside a session that leaves a minute before its close."""
        for boundary in reversed(self.boundaries(session)):
            if boundary < session.close_ns and self.leaves_a_minute(boundary, session.close_ns):
                return boundary
        return None

    def roll_call(self, bar):
        """Give the last boundary before the seam that ends the bar's contract, None without."""
        if bar.contract < len(self.last_calls):
            return self.last_calls[bar.contract]
        return None

    # Series of the indicators, each worked out on first use.

    def get(self, name):
        """Give a series of the signal bars (bar_…) or the daily bars (day_…)."""
        if name not in self.series:
            kind, what = name.split("_", 1)
            self.series[name] = self.compute(what, self.bars if kind == "bar" else self.days)
        return self.series[name]

    def compute(self, what, bars):
        """Work a series out over all bars; each value knows only the bars up to its own."""
        opens = [bar.open for bar in bars]
        high = [bar.high for bar in bars]
        low = [bar.low for bar in bars]
        close = [bar.close for bar in bars]
        gaps = naive.gaps_of(bars, self.known_seams)
        if what == "ibs":
            return naive.ibs(high, low, close)
        if what == "ibs_prev":
            return [None, *naive.ibs(high, low, close)][: len(bars)]
        if what.startswith("rsi"):
            return naive.wilder_rsi(close, int(what[3:]), gaps, opens)
        if what == "ret1_pct":
            return naive.return_pct(close, gaps, opens)
        if what == "atr":
            return naive.wilder_atr(high, low, close, 14, gaps, opens)
        if what == "pivots":
            return naive.pivots(high, low, gaps)
        if what == "range_atr":
            atr = naive.wilder_atr(high, low, close, 14, gaps, opens)
            return [(h - lo) / a if a else None for h, lo, a in zip(high, low, atr, strict=True)]
        if what == "zone_dist_atr":
            atr = naive.wilder_atr(high, low, close, 14, gaps, opens)
            lows = [p[2] for p in naive.pivots(high, low, gaps)]
            return [
                (c - p) / a if a and p is not None else None
                for c, p, a in zip(close, lows, atr, strict=True)
            ]
        if what == "pivot_state":
            out = []
            for c, (top, _, bottom, _) in zip(close, naive.pivots(high, low, gaps), strict=True):
                if top is None or bottom is None:
                    out.append(None)
                elif c > top:
                    out.append(1)
                else:
                    out.append(-1 if c < bottom else 0)
            return out
        if what.startswith("ema") and what.endswith("_above"):
            mean = naive.ema(close, int(what[3:-6]), gaps)
            return [None if m is None else int(c > m) for c, m in zip(close, mean, strict=True)]
        raise ValueError(f"no such series: {what!r}")

    def feature(self, name, i):
        """Give a filter's value at signal bar i, None when it is missing."""
        if name in self.given:
            return self.given[name].values[i]
        if name not in NEEDED:
            raise ValueError(f"no such filter: {name!r}")
        bar = self.bars[i]
        trade_date = self.sessions[bar.session].trade_date
        if name == "cal_dow":
            return trade_date.isoweekday()
        if name == "cal_month":
            return trade_date.month
        if name.startswith("bar_"):
            return self.get(name)[i]
        completed = bisect_right(self.day_ends, bar.end)
        return self.get(name)[completed - 1] if completed else None

    # The gates before the slice's own.

    def wants_atr(self):
        """Tell whether any distance is in multiples of ATR(14)."""
        protective = self.exits.get("protective") or {}
        levels = [self.exits.get("stop"), self.exits.get("target"), *protective.values()]
        return any(level and level.get("atr") is not None for level in levels)

    def failed_gate(self, i):
        """Name the first gate that signal bar i fails, None for a candidate."""
        bar = self.bars[i]
        now = bar.end
        session = self.sessions[bar.session]

        windows = self.entry["windows"]
        if windows:
            local = chicago(bar.start)
            seconds = local.hour * 3600 + local.minute * 60 + local.second
            if not any(clock_seconds(a) <= seconds < clock_seconds(b) for a, b in windows):
                return "window"

        low, high = self.entry["ibs"]
        if not low <= self.get("bar_ibs")[i] <= high:
            return "ibs"

        bars_needed = 1
        days_needed = 0
        if self.entry["pivots"] != "none":
            bars_needed = 17 if self.entry["pivots"] == "higher_high" else 11
        if self.wants_atr():
            bars_needed = max(bars_needed, 15)
        if not all(given.warm[i] for given in self.given.values()):
            return "warm_up"
        for name in self.filters.keys() - self.given.keys():
            if name.startswith("day_"):
                days_needed = max(days_needed, NEEDED[name])
            else:
                bars_needed = max(bars_needed, NEEDED[name])
        if i + 1 < bars_needed or bisect_right(self.day_ends, now) < days_needed:
            return "warm_up"

        if self.entry["pivots"] != "none":
            top, top_before, bottom, _ = self.get("bar_pivots")[i]
            if self.entry["pivots"] == "inside":
                if top is None or bottom is None or not bottom <= bar.close <= top:
                    return "pivots"
            elif top is None or top_before is None or not top_before < top < bar.high:
                return "pivots"

        if self.wants_atr() and self.get("bar_atr")[i] is None:
            return "atr"

        for name, allowed in self.filters.items():
            value = self.feature(name, i)
            if value is None:
                return f"{name} missing"
            if isinstance(allowed, dict):
                if value not in allowed["in"]:
                    return name
            elif not allowed[0] <= value <= allowed[1]:
                return name

        if self.flat_calls and self.flat_calls[bar.session] <= now <= session.close_ns:
            return "flat_by"

        if bar.session in self.early_calls and now >= self.early_calls[bar.session]:
            return "early_close"

        call = self.roll_call(bar)
        if call is not None and now >= call:
            return "roll"
        return None

    # Exits.

    def own_closes_since(self, fill, now):
        """Count the own closes after a fill, up to and with now."""
        return bisect_right(self.bar_ends, now) - bisect_right(self.bar_ends, fill)

    def exit_reason(self, i):
        """Name the first exit rule that matches at the end of own bar i."""
        bar = self.bars[i]
        position = self.position
        entry = position.price
        exits = self.exits

        stop = exits.get("stop")
        if stop:
            if stop.get("atr") is not None:
                level = entry - stop["atr"] * position.atr
            else:
                level = percent_away(entry, -1, stop["percent"])
            if bar.close <= level:
                return "stop"

        target = exits.get("target")
        if target:
            if target.get("atr") is not None:
                level = entry + target["atr"] * position.atr
            else:
                level = percent_away(entry, 1, target["percent"])
            if bar.close >= level:
                return "target"

        band = exits.get("ibs")
        if band and band[0] <= self.get("bar_ibs")[i] <= band[1]:
            return "ibs"

        most = exits.get("bars")
        if most is not None and self.own_closes_since(position.time, bar.end) >= most:
            return "bars"

        instants = [*self.flat_calls, *self.early_calls.values()]
        if any(position.time < instant <= bar.end for instant in instants):
            return "flat_by"

        call = self.roll_call(bar)
        if call is not None and bar.end >= call:
            return "roll"
        return None

    def protective_level(self, name, sign, close, atr):
        """Give a resting level of the entry, rounded to the tick, None when it is off."""
        level = (self.exits.get("protective") or {}).get(name)
        if not level:
            return None
        if level.get("atr") is not None:
            price = naive.exact(close + sign * level["atr"] * atr)
        else:
            price = naive.exact(percent_away(close, sign, level["percent"]))
        ticks = math.floor(price / self.tick + Decimal("0.5"))
        return float(ticks * self.tick)

    # Fills.

    def see_minute(self, ts, contract, open_, high, low, close):
        """Let one minute bar fill, lapse, stop out, or merely mark the position."""
        order = self.order
        if order is not None:
            self.order = None
            if self.clock.at(ts) - self.clock.at(order.time) <= self.max_wait:
                instrument = self.root if contract is None else contract
                instrument = self.executes + instrument.removeprefix(self.root)
                self.position = Position(order, instrument, ts, open_)
        position = self.position
        outcome = None
        if position is not None:
            if position.exit_reason is not None:
                if position.leaves is not None and ts >= position.leaves:
                    last = position.last_of_contract
                    price = open_ if last is None else last
                    self.leave(ts, price, bars_until=position.exit_decided)
            elif position.stop is not None and low <= position.stop:
                outcome = "protective_stop"
                position.exit_reason = outcome
                self.leave(ts, min(open_, position.stop), bars_until=ts + 1)
            elif position.target is not None and high >= position.target:
                outcome = "protective_target"
                position.exit_reason = outcome
                # A position that filled beyond its target leaves at once, at the entry.
                self.leave(ts, max(position.target, position.price), bars_until=ts + 1)
            else:
                position.low = min(position.low, low)
                position.high = max(position.high, high)
        self.last_close = close
        return outcome

    def see_seam(self, at):
        """Lapse a working entry and close whatever is open on the old contract."""
        self.order = None
        position = self.position
        if position is None:
            return None
        outcome = None
        if position.exit_reason is None:
            outcome = "roll"
            position.exit_reason = outcome
            position.exit_decided = at
        if position.last_of_contract is None:
            position.last_of_contract = self.last_close
        if position.leaves is not None and at >= position.leaves:
            self.leave(at, position.last_of_contract, bars_until=position.exit_decided)
        return outcome

    def usd_now(self):
        """Give the gross USD of the open position at the last price of its contract."""
        last = self.position.last_of_contract
        return self.usd(self.last_close if last is None else last)

    def usd(self, price):
        """Give the gross USD of the open position at a price."""
        points = naive.exact(price) - naive.exact(self.position.price)
        return points * self.quantity * self.point_value

    def leave(self, time, price, bars_until):
        """Book the exit; bars count up to the last that printed before `bars_until`."""
        position = self.position
        gross = self.usd(price)
        first = bisect_right(self.bar_ends, position.time)
        held = bisect_left(self.bar_firsts, bars_until) - first
        self.trades.append(
            {
                "symbol": self.root,
                "instrument": position.instrument,
                "side": "long",
                "quantity": self.quantity,
                "entry_time": position.time,
                "entry_price": position.price,
                "exit_time": time,
                "exit_price": price,
                "exit_reason": position.exit_reason,
                "gross_usd": float(gross),
                "commission_usd": float(self.commission),
                "slippage_usd": float(self.slippage),
                "net_usd": float(gross - self.commission - self.slippage),
                "bars_held": held,
                "mae_usd": float(min(Decimal(0), self.usd(position.low), gross)),
                "mfe_usd": float(max(Decimal(0), self.usd(position.high), gross)),
                "ibs_entry": position.ibs,
                "ibs_exit": position.exit_ibs,
            }
        )
        decided = position.exit_decided if position.exit_decided is not None else time
        self.exit_dates.append(self.date_at(decided))
        self.position = None
        self.last_exit = time


class Backtest:
    """The book of all symbols and the portfolio's limits."""

    def __init__(self, minutes, config, contracts, sessions, base_ns):
        roots = sorted(config["symbols"], key=lambda root: contracts[root]["order"])
        held = [minutes[root][-1][0] for root in roots if minutes.get(root)]
        now = max(held, default=0) + base_ns  # the clock of all data
        self.symbols = [
            Symbol(
                root,
                minutes.get(root, []),
                config["symbols"][root],
                contracts,
                sessions[root],
                config,
                base_ns,
                now,
            )
            for root in roots
        ]
        self.risk = config.get("risk") or {}
        self.told = config.get("told") or []
        self.absent_until = 0
        self.live_blocks = {}  # (root, reason) to the instant up to which live blocks entries
        self.decisions = []
        self.candidates = []
        self.order_times = []
        self.barred_date = None

    def run(self):
        """Walk through the events; at one instant: the slice, then seams, then minutes."""
        events = {}
        for k, told in enumerate(
            self.told
        ):  # a slice of its own, unless it belongs to that of a bar
            at_close = any(told.time in symbol.closing for symbol in self.symbols)
            own = told.after or not at_close
            events.setdefault((told.time, 0, 1 + k if own else 0), []).append(told)
        for rank, symbol in enumerate(self.symbols):
            for end in symbol.closing:
                events.setdefault((end, 0, 0), [])
            for seam in symbol.seams:
                events[seam.at, 1, rank] = None
            for minute in symbol.minutes:
                events[minute[0], 2, rank] = minute
        for now, kind, rank in sorted(events):
            if kind == 0:
                self.slice(now, events[now, kind, rank], at_close=rank == 0)
            elif kind == 1:
                reason = self.symbols[rank].see_seam(now)
                if reason is not None:
                    self.decide(now, self.symbols[rank], "exit", reason)
                    self.order_times.append(now)
            else:
                reason = self.symbols[rank].see_minute(*events[now, kind, rank])
                if reason is not None:
                    self.decide(now, self.symbols[rank], "exit", reason)
        return self.result()

    def decide(self, now, symbol, action, reason):
        """Write one decision down."""
        self.decisions.append((now, symbol.root, action, reason))

    def take(self, now, told, leaving, *, at_close):
        """Take what live told."""
        if told.kind == "absent":
            self.absent_until = told.until
            return
        for symbol in self.symbols:
            if told.root not in (None, symbol.root):
                continue
            position = symbol.position
            if told.kind in LIVE_BLOCKS:
                self.live_blocks[symbol.root, told.kind] = told.until
            elif told.kind == "cancel":
                symbol.order = symbol.position = None
            elif told.kind == "left_late":
                if position is not None and position.exit_reason is not None:
                    known = [t for t in (position.leaves, told.until) if t is not None]
                    position.leaves = None if told.until is None else max(known)
            else:
                symbol.order = None
                if position is not None and position.exit_reason is None:
                    self.leave(now, symbol, "operator", leaving, at_close=at_close)
                    position.leaves = told.until

    def leave(self, now, symbol, reason, leaving, *, at_close):
        """Decide an exit."""
        position = symbol.position
        i = symbol.closing.get(now) if at_close else None
        position.exit_reason = reason
        position.exit_decided = now
        position.exit_ibs = None if i is None else symbol.get("bar_ibs")[i]
        position.leaves = self.absent_until
        leaving.add(symbol.root)
        self.order_times.append(now)
        self.decide(now, symbol, "exit", reason)

    def slice(self, now, told=(), *, at_close=True):
        """Decide at one instant at which a signal bar ends, or live tells something."""
        for symbol in self.symbols:
            order = symbol.order
            if order is not None:
                waited = symbol.clock.at(now) - symbol.clock.at(order.time)
                if waited > symbol.max_wait:
                    symbol.order = None

        leaving = set()
        for each in told:
            self.take(now, each, leaving, at_close=at_close)

        breached = self.is_loss_limit_breached(now)
        if breached:
            self.barred_date = max(symbol.date_at(now) for symbol in self.symbols)
            for symbol in self.symbols:
                symbol.order = None  # withdrawn

        for symbol in self.symbols:
            position = symbol.position
            if position is None or position.exit_reason is not None:
                continue
            i = symbol.closing.get(now) if at_close else None
            reason = None if i is None else symbol.exit_reason(i)
            if reason is None and breached:
                reason = "portfolio"
            if reason is not None:
                self.leave(now, symbol, reason, leaving, at_close=at_close)

        for symbol in self.symbols:
            i = symbol.closing.get(now) if at_close else None
            if i is None:
                continue
            trade_date = symbol.sessions[symbol.bars[i].session].trade_date
            if symbol.start is not None and trade_date < symbol.start:
                continue
            gate = symbol.failed_gate(i)
            if gate is None:
                self.candidates.append((now, symbol.root))
                gate = self.failed_slice_gate(symbol, now, leaving)
                if gate is None:
                    self.enter(symbol, i)
                    self.decide(now, symbol, "entry", "taken")
                else:
                    self.decide(now, symbol, "entry", f"blocked:{gate}")
            if gate is not None:
                symbol.blocked[gate] = symbol.blocked.get(gate, 0) + 1

    def failed_slice_gate(self, symbol, now, leaving):
        """Name the first gate of the slice that refuses a candidate."""
        if symbol.position is not None and symbol.position.exit_reason is None:
            return "position"
        if symbol.root in leaving:
            return "exit"
        if symbol.position is not None or symbol.order is not None:
            return "pending"
        if symbol.last_exit is not None:
            closes = symbol.own_closes_since(symbol.last_exit, now)
            if 1 <= closes <= symbol.cooldown_bars:
                return "cooldown"
        if now < self.absent_until:
            return "absent"
        for reason in LIVE_BLOCKS:
            if now < self.live_blocks.get((symbol.root, reason), 0):
                return reason
        if self.barred_date is not None and symbol.date_at(now) <= self.barred_date:
            return "daily_loss"
        margin = self.risk.get("no_entry_before_close")
        session = symbol.bars[symbol.closing[now]].session
        if margin is not None and symbol.sessions[session].close_ns - now <= duration(margin):
            return "no_entry_before_close"
        most_orders = self.risk.get("max_orders_per_minute")
        if most_orders is not None:
            recent = [t for t in self.order_times if now - MINUTE < t <= now]
            if len(recent) >= most_orders:
                return "max_orders_per_minute"
        most_positions = self.risk.get("max_positions")
        if most_positions is not None:
            taken = [s for s in self.symbols if s.position is not None or s.order is not None]
            if len(taken) >= most_positions:
                return "max_positions"
        most_contracts = self.risk.get("max_quantity")
        if most_contracts is not None and symbol.quantity > most_contracts:
            return "max_quantity"
        most_contracts = self.risk.get("max_total_quantity")
        if most_contracts is not None:
            busy = [s for s in self.symbols if s.position is not None or s.order is not None]
            if sum(s.quantity for s in busy) + symbol.quantity > most_contracts:
                return "max_total_quantity"
        return None

    def enter(self, symbol, i):
        """Send one entry off."""
        bar = symbol.bars[i]
        atr = symbol.get("bar_atr")[i] if symbol.wants_atr() else None
        symbol.order = Order(
            time=bar.end,
            atr=atr,
            ibs=symbol.get("bar_ibs")[i],
            stop=symbol.protective_level("stop", -1, bar.close, atr),
            target=symbol.protective_level("target", 1, bar.close, atr),
        )
        self.order_times.append(bar.end)

    def is_loss_limit_breached(self, now):
        """Tell whether realised plus open results have reached the daily limit."""
        limit = self.risk.get("daily_loss_usd")
        if limit is None:
            return False
        total = Decimal(0)
        today = max(symbol.date_at(now) for symbol in self.symbols)
        for symbol in self.symbols:
            for trade, date in zip(
                reversed(symbol.trades), reversed(symbol.exit_dates), strict=True
            ):
                if date < today:
                    break
                if trade["exit_time"] < now:
                    total += naive.exact(trade["net_usd"])
            if symbol.position is not None:
                total += symbol.usd_now() - symbol.commission - symbol.slippage
        return total <= -naive.exact(float(limit))

    def result(self):
        """Gather what the run leaves behind."""
        ranked = [
            (trade["exit_time"], rank, trade)
            for rank, symbol in enumerate(self.symbols)
            for trade in symbol.trades
        ]
        ranked.sort(key=lambda item: item[:2])
        still_open = [
            {
                "symbol": symbol.root,
                "instrument": symbol.position.instrument,
                "side": "long",
                "quantity": symbol.quantity,
                "entry_time": symbol.position.time,
                "entry_price": symbol.position.price,
                "last_price": symbol.last_close,
                "gross_usd": float(symbol.usd(symbol.last_close)),
            }
            for symbol in self.symbols
            if symbol.position is not None
        ]
        return OracleResult(
            trades=[trade for _, _, trade in ranked],
            decisions=self.decisions,
            open_positions=still_open,
            candidates=self.candidates,
            blocked={symbol.root: symbol.blocked for symbol in self.symbols},
        )


def duration(text):
    """Turn "5m" into nanoseconds."""
    return int(text[:-1]) * UNITS[text[-1]]


def chicago(instant):
    """Give the exchange-local time of an instant on a whole second."""
    return dt.datetime.fromtimestamp(instant // SECOND, CHICAGO)


def clock_seconds(text):
    """Turn "15:00" into seconds after midnight; "24:00" is the end of the day."""
    hours, minutes = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60


def flat_call(text, session):
    """Give a session's `flat_by` instant: on its trade date, or in the evening before."""
    hours, minutes = (int(part) for part in text.split(":"))
    day_before = session.trade_date - dt.timedelta(days=1)
    for day in (day_before, session.trade_date):
        local = dt.datetime(day.year, day.month, day.day, hours, minutes, tzinfo=CHICAGO)
        instant = int(local.timestamp()) * SECOND
        if instant >= session.open_ns:
            break
    return instant


def run(minutes, config, contracts, sessions, base_ns=MINUTE):
    """Back-test `config["symbols"]` on their minutes.

    `minutes` maps a root to sorted (ts_ns, contract or None, open, high, low, close), `contracts`
    a symbol to its tick_size, tick_value_usd and order, `sessions` a root to its `Session`s.
    `config["given"]` may map a root to features of its filters, by name, as `Given`.
    """
    return Backtest(minutes, config, contracts, sessions, base_ns).run()
