"""Random prices, minutes and books, small enough to run many times; run as a script, it prints digests."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import naive
import naive_features
import numpy as np

from ibs_core import formulas, portfolio, positions, replay, signals
from ibs_core.bars import BAR, DAY_NS, MINUTE_NS, NEVER, PATH, SESSION
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.kernels import (
    adx,
    aggregate,
    ema,
    ibs,
    pivots,
    psar,
    ring,
    rsi,
    true_range,
    wilder,
    window,
)
from ibs_core.kernels.calendar import CALENDAR
from ibs_core.kernels.graph import trace_many
from ibs_core.schedule import Rule, make_schedule
from ibs_core.sessions import load_sessions
from ibs_core.wiring import memory_of, new_state, wire, wire_side

if TYPE_CHECKING:
    from collections.abc import Callable

# ---------------------------------------------------------------- bars


class Prices(NamedTuple):
    """Bars as whole ticks, `per_unit` to a price unit; `seams` are first bars of a new contract."""

    ticks: np.ndarray  # (n, 4) int64: open, high, low, close
    per_unit: int
    seams: tuple[int, ...] = ()

    @property
    def values(self):
        return self.ticks / self.per_unit

    def gap(self, i):
        """The exact gap at a seam, None elsewhere."""
        if i not in self.seams:
            return None
        return Decimal(int(self.ticks[i, 0] - self.ticks[i - 1, 3])) / self.per_unit

    @property
    def gaps(self):
        return [self.gap(i) for i in range(len(self.ticks))]

    def since(self, start):
        return Prices(
            self.ticks[start:], self.per_unit, tuple(s - start for s in self.seams if s > start)
        )


def walk(seed, n, *, per_unit=4, start=5000.0, seams=0, stride=20, places=None):
    """Draw `n` bars; about a tenth of them stand still, and some open away from the last close.

    Seams lie at `places`, where given, and else anywhere.
    """
    rng = np.random.default_rng(seed)
    close = np.round(start * per_unit).astype(np.int64) + np.cumsum(
        rng.integers(-stride, stride + 1, n) * (rng.random(n) < 0.9)
    )
    before = np.concatenate([close[:1], close[:-1]])
    open_ = before + rng.integers(-3, 4, n) * (rng.random(n) < 0.3)
    up, down = rng.integers(0, stride, (2, n)) * (rng.random((2, n)) < 0.8)
    high, low = np.maximum(open_, close) + up, np.minimum(open_, close) - down
    ticks = np.stack([open_, high, low, close], axis=1)
    possible = np.arange(1, n) if places is None else places
    at = tuple(sorted(rng.choice(possible, min(seams, len(possible)), replace=False).tolist()))
    for s in at:
        ticks[s:] += int(rng.integers(-40, 41))
    return Prices(ticks, per_unit, at)


def bar_records(prices, *, end_ns=None):
    """Write prices as BAR records, one an hour."""
    n = len(prices.ticks)
    out = np.zeros(n, BAR)
    end = np.arange(1, n + 1) * 3600 * 10**9 if end_ns is None else end_ns
    out["start_ns"], out["end_ns"] = end - 3600 * 10**9, end
    out["first_ns"], out["last_ns"] = out["start_ns"], out["start_ns"]
    for k, name in enumerate(("open", "high", "low", "close")):
        out[name] = prices.values[:, k]
    for s in prices.seams:
        out["seam_ns"][s] = out["start_ns"][s]
        out["gap"][s] = float(prices.gap(s))
    return out


def snapshot(state):
    """Write a record or an array of records as bytes and read it back."""
    return np.frombuffer(state.tobytes(), state.dtype).copy()


# ---------------------------------------------------------------- kernels, all in one shape


class Kernel(NamedTuple):
    """A kernel as ``step(state, bar) -> outputs`` beside its oracle."""

    name: str
    dtype: np.dtype
    step: Callable
    cross: Callable  # (state, bar, gap): the bar opens a new contract
    warmup: int
    oracle: Callable  # Prices -> rows of outputs, None where there is none
    any_start: int | None  # outputs of a later start are the same bits after so many bars


NO_STATE = np.dtype([("nothing", "i8")])
RING = 30  # bars that the ring under test remembers
BEFORE = [("count", "i8"), ("high", "f8"), ("low", "f8"), ("close", "f8")]
"""What a kernel that takes moves must be told of the bar before."""


def _nothing(state, bar, gap):
    pass


def _before_moves(state, _bar, gap):
    for name in ("high", "low", "close"):
        state[name] = ring.canonical(state[name] + gap)


def _goes_on(state, bar):
    """Say whether there is a bar before; the bar will be it for the next."""
    before = state["high"], state["low"], state["close"]
    state["count"] += 1
    state["high"], state["low"], state["close"] = bar[1:]
    return before if state["count"] > 1 else None


def _window_dtype(capacity):
    return np.dtype([("count", "i8"), ("values", "f8", (2 * capacity,))])


def _pushed(state, value, n):
    """Push a value; return the last n, or None while there are fewer."""
    ring.push(state["values"], state["count"], value)
    state["count"] += 1
    return ring.last(state["values"], state["count"], n) if state["count"] >= n else None


def _window_moves(state, _bar, gap):
    ring.shift(state["values"], state["count"], gap, 1)


def _ring_step(state, bar):
    past = _pushed(state, bar[3], RING)
    return (np.nan, np.nan) if past is None else (past[-1], past[0])


def _pivots_step(state, bar):
    pivots.step(state, bar[1], bar[2])
    return (
        state["last_high"] if state["n_highs"] > 0 else np.nan,
        state["previous_high"] if state["n_highs"] > 1 else np.nan,
        state["last_low"] if state["n_lows"] > 0 else np.nan,
        state["previous_low"] if state["n_lows"] > 1 else np.nan,
    )


def _columns(prices):
    return [[float(x) for x in column] for column in prices.values.T]


def _ring_oracle(prices):
    close, gaps = _columns(prices)[3], prices.gaps
    out = []
    for i in range(len(close)):
        past = naive.window(close, i + 1 - RING, i, gaps) if i + 1 >= RING else None
        out.append((past[-1], past[0]) if past else (None, None))
    return out


def _single(values):
    return [(value,) for value in values]


def plain_bars(bars):
    """Write BAR records as the oracle of the features takes them."""
    columns = [bars[name].tolist() for name in ("open", "high", "low", "close", "volume")]
    seams, gaps = (bars["seam_ns"] > 0).tolist(), bars["gap"].tolist()
    names = ("open", "high", "low", "close", "volume", "seam", "gap")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, seams, gaps, strict=True)]


def _by_bars(oracle):
    return lambda p: _single(oracle(naive_features.real_bars(plain_bars(bar_records(p)))))


def _wilder_kernel(n):
    return Kernel(
        f"wilder{n}",
        wilder.STATE,
        lambda state, bar: (wilder.step(state, bar[1] - bar[2], n),),
        _nothing,
        n,
        lambda p: _single(
            naive.wilder_mean([None, *(float(b[1] - b[2]) for b in p.values)], n)[1:]
        ),
        wilder.convergence_bars(n),
    )


def _rsi_kernel(n):
    def step(state, bar):
        before = _goes_on(state, bar)
        return (np.nan if before is None else rsi.step(state["own"], bar[3] - before[2], n),)

    return Kernel(
        f"rsi{n}",
        np.dtype([("own", rsi.STATE), *BEFORE]),
        step,
        _before_moves,
        n + 1,
        lambda p: _single(
            naive.wilder_rsi(_columns(p)[3], n, p.gaps if p.seams else None, _columns(p)[0])
        ),
        wilder.convergence_bars(n) + 1,
    )


def _true_range_step(state, bar):
    before = _goes_on(state, bar)
    return (np.nan if before is None else true_range.value(bar[1], bar[2], before[2]),)


def _adx_kernel(n):
    def step(state, bar):
        before = _goes_on(state, bar)
        if before is None:
            return (np.nan,)
        up, down = bar[1] - before[0], before[1] - bar[2]
        return (adx.step(state["own"], up, down, true_range.value(bar[1], bar[2], before[2]), n),)

    return Kernel(
        f"adx{n}",
        np.dtype([("own", adx.STATE), *BEFORE]),
        step,
        _before_moves,
        2 * n,
        _by_bars(lambda bars: naive_features.adx(bars, n)),
        2 * wilder.convergence_bars(n) + 1,
    )


def _mean_kernel(n):
    def step(state, bar):
        past = _pushed(state, bar[3], n)
        return (np.nan if past is None else window.mean(past),)

    return Kernel(
        f"mean{n}",
        _window_dtype(n),
        step,
        _window_moves,
        n,
        lambda p: _single(naive.sma(_columns(p)[3], n, p.gaps)),
        n,
    )


def _ema_kernel(n):
    return Kernel(
        f"ema{n}",
        ema.STATE,
        lambda state, bar: (ema.step(state, bar[3], n),),
        lambda state, _bar, gap: ema.shift(state, gap),
        n,
        lambda p: _single(naive.ema(_columns(p)[3], n, p.gaps)),
        ema.convergence_bars(n),
    )


KERNELS = (
    Kernel(
        "ibs",
        NO_STATE,
        lambda _state, bar: (ibs.value(bar[1], bar[2], bar[3]),),
        _nothing,
        1,
        lambda p: _single(naive.ibs(*_columns(p)[1:])),
        1,
    ),
    _wilder_kernel(2),
    _wilder_kernel(14),
    Kernel(
        "true_range",
        np.dtype(BEFORE),
        _true_range_step,
        _before_moves,
        2,
        lambda p: _single(naive.true_range(*_columns(p)[1:], p.gaps, _columns(p)[0])),
        2,
    ),
    _rsi_kernel(2),
    _rsi_kernel(5),
    _rsi_kernel(14),
    _adx_kernel(3),
    _adx_kernel(14),
    _mean_kernel(5),
    _mean_kernel(200),
    _ema_kernel(8),
    _ema_kernel(50),
    Kernel(
        "psar",
        psar.STATE,
        lambda state, bar: (psar.step(state, bar[1], bar[2], bar[3]),),
        lambda state, _bar, gap: psar.shift(state, gap),
        2,
        _by_bars(naive_features.psar),
        None,  # the first direction is forgotten only when both turn together
    ),
    Kernel(
        "pivots",
        pivots.STATE,
        _pivots_step,
        lambda state, _bar, gap: pivots.shift(state, gap),
        pivots.warmup_bars(),
        lambda p: naive.pivots(_columns(p)[1], _columns(p)[2], p.gaps),
        None,  # a level is forgotten only when the next pivot comes
    ),
    Kernel(
        "ring",
        _window_dtype(RING),
        _ring_step,
        _window_moves,
        RING,
        _ring_oracle,
        RING,
    ),
)


def run_kernel(kernel, prices, *, cuts=()):
    """Run a kernel over bars; at each cut its state is written to bytes and read back."""
    state = np.zeros(1, kernel.dtype)
    out = []
    values = prices.values
    for i in range(len(values)):
        if i in cuts:
            state = snapshot(state)
        if i in prices.seams:
            kernel.cross(state[0], values[i], float(prices.gap(i)))
        out.append(kernel.step(state[0], values[i]))
    return np.array(out, np.float64), state


# ---------------------------------------------------------------- features

CATALOGUE = load_catalogue(load_contract_map())


def moving_prices(seed, n, *, per_unit=4, start=5000.0, stride=20, seams=(), flats=()):
    """Draw bars that roll at `seams` by gaps of either sign, and that stand still in `flats`."""
    rng = np.random.default_rng(seed)
    ticks = walk(seed, n, per_unit=per_unit, start=start, stride=stride).ticks
    for first, last in flats:
        ticks[first:last] = ticks[first - 1, 3]
    for s in seams:
        ticks[s:] += int(rng.integers(1, 20 * stride)) * int(rng.choice([-1, 1]))
    return Prices(ticks, per_unit, tuple(seams))


class Market(NamedTuple):
    """Six series of BAR records: one instrument, its pair, and one that stands for all others."""

    bars: np.ndarray
    days: np.ndarray
    pair_bars: np.ndarray
    pair_days: np.ndarray
    other_bars: np.ndarray
    other_days: np.ndarray

    def since(self, start_ns):
        """Leave out what ended before an instant."""
        return Market(*(part[part["end_ns"] > start_ns] for part in self))

    def until(self, stop_ns):
        """Leave out what ends after an instant."""
        return Market(*(part[part["end_ns"] <= stop_ns] for part in self))


WIDTH = 8 * 3600 * 10**9  # of a signal bar


def market_of(seed, prices, *, per_day=1, gone=0.0, volume=True):
    """Make a market of six price series; the others lack a share `gone` of their bars."""
    rng = np.random.default_rng(seed)
    out = []
    for i, part in enumerate(prices):
        n = len(part.ticks)
        end_ns = np.arange(1, n + 1) * WIDTH * (per_day if i % 2 else 1)
        records = bar_records(part, end_ns=end_ns)
        records["volume"] = rng.integers(0, 1000, n) * (rng.random(n) < 0.9) if volume else np.nan
        lost = (rng.random(n) < gone) & (records["seam_ns"] == 0) & (i > 1)
        out.append(records[~lost])
    return Market(*out)


class Laid(NamedTuple):
    """What `features_many` takes of one symbol."""

    bars: np.ndarray
    days: np.ndarray
    dates: np.ndarray
    foreign: np.ndarray
    day_pair: np.ndarray


def pair_beside(own, pair):
    """Give the pair's close at each own end, NaN without one, and its gaps since the end before."""
    out = np.zeros((len(own), 2))
    at = np.searchsorted(pair["end_ns"], own["end_ns"], side="right") - 1
    out[:, 0] = at_places(pair["close"], np.where(np.isin(own["end_ns"], pair["end_ns"]), at, -1))
    reached = np.concatenate([[0.0], np.cumsum(pair["gap"] * (pair["seam_ns"] > 0))])[at + 1]
    out[:, 1] = np.diff(reached, prepend=0.0)
    return out


def seen_bars(own, other):
    """Give at each own bar the place of the other's bar that counts there, -1 for none."""
    at = np.searchsorted(other["end_ns"], own["end_ns"], side="right") - 1
    return np.where(at_places(other["end_ns"], at) > own["end_ns"] - WIDTH, at, -1)


def last_day(bars, days):
    """Give at each bar the place of the last closed session, -1 before the first."""
    return np.searchsorted(days["end_ns"], bars["end_ns"], side="right") - 1


def seen_days(own, days, other):
    """Give at each own bar the place of the other's session that counts there, -1 for none."""
    at = np.searchsorted(other["end_ns"], own["end_ns"], side="right") - 1
    late = at_places(other["end_ns"], at) < at_places(days["end_ns"], last_day(own, days))
    return np.where(late, -1, at)


def at_places(values, places):
    """Pick rows by place, NaN where there is none."""
    values = np.asarray(values, np.float64)
    empty = np.full((1, *values.shape[1:]), np.nan)
    return np.concatenate([values, empty])[places]


def draw_dates(n, seed=0):
    """Draw dates, the first of which are the same whatever their number."""
    dates = np.zeros(n, CALENDAR)
    least, stop = np.array([0, 1, 1, 1]), np.array([1440, 8, 13, 32])
    drawn = np.random.default_rng(seed).random((n, 4)) * (stop - least) + least
    for k, name in enumerate(CALENDAR.names):
        dates[name] = drawn[:, k].astype(np.int64)
    return dates


def trace(nodes, bars, *, cuts=()):
    """Run formulas over one side of an instrument that others read; return values and state."""
    order, columns = wire_side(nodes)
    rows, state = np.empty((len(bars), len(columns))), new_state(order)
    for start, stop in itertools.pairwise(sorted({0, *cuts, len(bars)})):
        state = snapshot(state)
        trace_many(order, memory_of(state), bars[start:stop], columns, rows[start:stop])
    return rows, state


def lay(wiring, market):
    """Lay what other instruments say beside the bars of the one that is observed."""
    own, days = market.bars, market.days
    foreign = np.zeros((len(own), 2 + len(wiring.lookups)))
    foreign[:, :2] = pair_beside(own, market.pair_bars)
    shown = [f"{'pair' if x.root == 'pair' else 'other'}_{x.side}s" for x in wiring.lookups]
    for name in dict.fromkeys(shown):
        series = getattr(market, name)
        on_bar = name.endswith("bars")
        places = seen_bars(own, series) if on_bar else seen_days(own, days, series)
        asked = [i for i, each in enumerate(shown) if each == name]
        values, _ = trace([wiring.lookups[i].node for i in asked], series)
        foreign[:, [2 + i for i in asked]] = at_places(values, places)
    return Laid(own, days, draw_dates(len(own)), foreign, pair_beside(days, market.pair_days))


def observe(wiring, laid, *, cuts=()):
    """Observe bars in chunks, between which the states are written to bytes and read back."""
    graph = wiring.graph
    states = new_state(graph.bar), new_state(graph.day)
    rows = np.empty((len(laid.bars), len(graph.columns)))
    seen = 0
    for start, stop in itertools.pairwise(sorted({0, *cuts, len(rows)})):
        states = tuple(map(snapshot, states))
        ended = int((laid.days["end_ns"] <= laid.bars["end_ns"][stop - 1]).sum())
        signals.features_many(
            *(graph, *map(memory_of, states), laid.bars[start:stop], laid.days[seen:ended]),
            *(laid.dates[start:stop], laid.foreign[start:stop], laid.day_pair[seen:ended]),
            rows[start:stop],
        )
        seen = ended
    return rows, states


# ---------------------------------------------------------------- minutes


class Minutes(NamedTuple):
    """Minutes of one root; `contract` counts from 0."""

    ts: np.ndarray
    contract: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray

    def rows(self):
        """As the oracle takes them."""
        columns = (self.ts, self.contract, self.open, self.high, self.low, self.close)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def part(self, start, stop):
        return Minutes(*(column[start:stop].copy() for column in self))


EARLY_WEEK = 20272 * DAY_NS  # 2025-07-03: early close, holiday session, weekend after it


def draw_sessions(group="equity", start_ns=EARLY_WEEK, days=5):
    return load_sessions(group, start_ns, start_ns + days * DAY_NS)


def session_table(sessions):
    """Write sessions as kernels take them."""
    table = np.zeros(len(sessions.open_ns), SESSION)
    for name in ("open_ns", "close_ns", "break_start_ns", "break_end_ns"):
        table[name] = getattr(sessions, name)
    table["date"] = sessions.trade_date
    return table


def naive_sessions(table):
    date = naive.dt.date(1970, 1, 1)
    return [
        naive.Session(
            int(table.open_ns[i]),
            int(table.close_ns[i]),
            int(table.break_start_ns[i]),
            int(table.break_end_ns[i]),
            bool(table.early[i]),
            date + naive.dt.timedelta(days=int(table.trade_date[i])),
        )
        for i in range(len(table.open_ns))
    ]


def draw_minutes(seed, sessions, *, density=0.1, seams=0, late=5, per_unit=4, stride=6, n_max=None):
    """Draw minutes inside the sessions 1 to -2, a few outside, and contract changes anywhere."""
    rng = np.random.default_rng(seed)
    inside = np.concatenate(
        [
            np.arange(sessions.open_ns[i], sessions.close_ns[i], MINUTE_NS)
            for i in range(1, len(sessions.open_ns) - 2)
        ]
    )
    outside = np.concatenate(
        [
            np.arange(sessions.close_ns[i], sessions.open_ns[i + 1], MINUTE_NS)[:180]
            for i in range(1, len(sessions.open_ns) - 3)
        ]
    )
    ts = inside[rng.random(len(inside)) < density]
    ts = np.union1d(ts, inside[:2])  # the width of the data's bars is one minute
    if late:
        ts = np.union1d(ts, rng.choice(outside, late))
    if n_max is not None:
        ts = ts[:n_max]
    session = np.searchsorted(sessions.open_ns, ts, side="right")
    starts = np.flatnonzero(np.diff(session)) + 1
    places = starts if rng.random() < 0.5 else None  # half the time, only between sessions
    prices = walk(seed + 1, len(ts), per_unit=per_unit, seams=seams, stride=stride, places=places)
    contract = np.zeros(len(ts), np.int64)
    for s in prices.seams:
        contract[s:] += 1
    columns = np.ascontiguousarray(prices.values.T)
    return Minutes(ts, contract, *columns, rng.integers(1, 9, len(ts)).astype(np.float64))


class Built(NamedTuple):
    bars: np.ndarray
    days: np.ndarray
    path: np.ndarray
    complete: int
    state: np.ndarray


def plan_of(tf_ns, *, with_path=False, mark_ns=0, allow_nonpositive=False):
    plan = np.zeros(1, aggregate.PLAN)
    plan["tf_ns"], plan["with_path"], plan["mark_ns"] = tf_ns, with_path, mark_ns
    plan["allow_nonpositive"] = allow_nonpositive
    return plan


def build(minutes, sessions, plan, *, cuts=(), end=True, volume=True):
    """Aggregate minutes; between chunks the state is written to bytes and read back."""
    n_minutes = len(minutes.ts)
    bars, days = np.zeros(n_minutes + 2, BAR), np.zeros(n_minutes + 2, BAR)
    path, n = np.zeros(2 * n_minutes + 2, PATH), np.zeros(3, np.int64)
    state, table = aggregate.new_state(), session_table(sessions)
    switches = (
        {0, *(np.flatnonzero(np.diff(minutes.contract)) + 1).tolist()} if n_minutes else set()
    )
    edges = sorted({*switches, *cuts, n_minutes})
    for start, stop in itertools.pairwise(edges):
        state = snapshot(state)
        part = minutes.part(start, stop)
        if start in switches:
            contract, first = int(part.contract[0]), (int(part.ts[0]), float(part.open[0]))
            aggregate.switch_contract(state[0], table, contract, *first, bars, days, n)
        answer = aggregate.step(
            *(state[0], plan[0], table),
            *(part.ts, part.open, part.high, part.low, part.close),
            part.volume if volume else np.zeros(0),
            *(bars, days, path, n),
        )
        assert answer == -1
    complete = aggregate.finish(state[0], -(2**62), bars, days, n) if end else 1
    return Built(bars[: n[0]], days[: n[1]], path[: n[2]], int(complete), state)


def same(a, b):
    """Compare two results bit for bit."""
    return all(
        x.tobytes() == y.tobytes() if isinstance(x, np.ndarray) else x == y
        for x, y in zip(a, b, strict=True)
    )


# ---------------------------------------------------------------- books


class World(NamedTuple):
    """What `decide_many` takes, and the minutes behind it."""

    params: np.ndarray
    risk: np.ndarray
    bars: np.ndarray
    schedule: np.ndarray
    signals: np.ndarray
    scores: np.ndarray
    path: np.ndarray
    sessions: np.ndarray
    feeds: np.ndarray
    minutes: tuple[Minutes, ...]


def draw_params(rng):
    """Draw one symbol's rule; every exit is on in some draws."""
    params = np.zeros(1, signals.PARAMS)
    row = params[0]
    for name in params.dtype.names:
        if name.endswith(("_percent", "_atr")):
            row[name] = np.nan
    row["atr_column"] = -1
    row["ibs_low"], row["ibs_high"] = 0.0, rng.choice([0.3, 0.6, 1.0])
    row["exit_ibs_low"], row["exit_ibs_high"] = rng.choice([np.nan, 0.7]), 1.0
    row["exit_bars"] = rng.choice([0, 1, 6])
    row["cooldown_bars"] = rng.choice([0, 0, 2])
    row["stop_percent"] = rng.choice([np.nan, 0.05])
    row["target_percent"] = rng.choice([np.nan, 0.05])
    row["protective_stop_percent"] = rng.choice([np.nan, 0.1, 0.4])
    row["protective_target_percent"] = rng.choice([np.nan, 0.1, 0.4])
    row["quantity"], row["tick_nano"] = rng.integers(1, 4), 250_000_000
    row["usd_per_point"], row["cost_usd"] = rng.choice([5.0, 50.0, 1000.0]), rng.choice([0.0, 4.5])
    return params


def draw_risk(rng, max_positions):
    risk = np.zeros(1, portfolio.RISK)
    row = risk[0]
    row["max_positions"] = max_positions
    row["max_quantity"], row["max_total_quantity"] = rng.choice([NEVER, 2]), rng.choice([NEVER, 4])
    row["daily_loss_usd"] = rng.choice([np.nan, 300.0, 3000.0])
    row["max_orders_per_minute"] = rng.choice([NEVER, 1, 2])
    row["no_entry_before_close_ns"] = rng.choice([-1, 90 * MINUTE_NS])
    row["veto"] = rng.integers(0, 2)
    return risk


def draw_world(seed, *, n_symbols=3, max_positions=None, density=0.08, n_max=300):
    """Draw a few symbols of two session groups over an early close, a holiday and a weekend."""
    rng = np.random.default_rng(seed)
    feeds, parts, tables, all_params, raw = np.zeros(n_symbols, replay.FEED), [], [], [], []
    limit = int(rng.integers(1, n_symbols + 1)) if max_positions is None else max_positions
    n_bars = n_path = n_sessions = 0
    for i in range(n_symbols):
        sessions = draw_sessions(str(rng.choice(["equity", "energy", "grains"])))
        tf_ns = int(rng.choice([5, 30, 60, 240])) * MINUTE_NS
        minutes = draw_minutes(
            int(rng.integers(2**31)),
            sessions,
            density=density,
            seams=int(rng.integers(0, 3)),
            n_max=n_max,
        )
        built = build(minutes, sessions, plan_of(tf_ns, with_path=True, mark_ns=MINUTE_NS))
        params = draw_params(rng)
        flat_by = [None, 14 * 60][int(rng.integers(2))]
        seams = built.bars["seam_ns"][built.bars["seam_ns"] > 0]
        rule = Rule(tf_ns, int(rng.choice([2, 60, 600])) * MINUTE_NS, flat_by, True, -NEVER, NEVER)
        schedule = make_schedule(built.bars, sessions, rule, seams)
        signal = np.zeros(len(built.bars), signals.SIGNAL)
        closed = len(built.bars) if built.complete else len(built.bars) - 1
        signal["gate"][closed:] = signals.NOT_TRADED
        graph = wire([formulas.IBS]).graph
        memories = [memory_of(new_state(nodes)) for nodes in (graph.bar, graph.day)]
        signals.observe_many(
            *(params[0], graph, *memories, built.bars[:closed], built.days),
            *(schedule, np.zeros((len(schedule), 2)), np.zeros((len(built.days), 2))),
            *(signal, np.zeros((1, 1))),
        )
        bars = built.bars.copy()
        if not built.complete:
            bars["end_ns"][-1] = NEVER
        feed = feeds[i]
        feed["bar"], feed["path"], feed["path_offset"] = n_bars, n_path, n_path
        feed["session"] = n_sessions
        n_bars, n_path = n_bars + len(bars), n_path + len(built.path)
        n_sessions += len(sessions.open_ns)
        feed["stop"], feed["session_stop"] = n_bars, n_sessions
        parts.append((bars, schedule, signal, built.path))
        tables.append(session_table(sessions))
        all_params.append(params)
        raw.append(minutes)
    bars, schedule, signal, path = (np.concatenate(column) for column in zip(*parts, strict=True))
    signal["score"] = rng.permutation(len(bars))  # a score names its bar
    signal["verdict"] = rng.choice([0, 0, 0, 1, 3], len(bars))
    return World(
        np.concatenate(all_params),
        draw_risk(rng, limit),
        bars,
        schedule,
        signal,
        signal["score"].copy(),
        path,
        np.concatenate(tables),
        feeds,
        tuple(raw),
    )


class Ledger(NamedTuple):
    book: np.ndarray
    desk: np.ndarray
    feeds: np.ndarray
    trades: np.ndarray
    decisions: np.ndarray
    n: np.ndarray

    def rows(self):
        """Trades and decisions that were written."""
        return self.trades[: self.n[0]], self.decisions[: self.n[1]]


def new_ledger(world):
    room = 4 * len(world.bars) + 8
    return Ledger(
        positions.new_positions(len(world.params)),
        portfolio.new_desk(),
        world.feeds.copy(),
        np.zeros(room, positions.TRADE),
        np.zeros(room, portfolio.DECISION),
        np.zeros(3, np.int64),
    )


NOTHING_TOLD = np.zeros(0, portfolio.INPUT)


def decide_all(world, ledger=None, *, until_ns=NEVER, inputs=NOTHING_TOLD):
    """Run `decide_many` to the end, from the start or from where a ledger stands."""
    ledger = new_ledger(world) if ledger is None else ledger
    replay.decide_many(
        *(until_ns, world.params, world.risk[0], ledger.book, ledger.desk[0], ledger.feeds),
        *(world.bars, world.schedule, world.signals, world.path, world.sessions, inputs),
        *(ledger.trades, ledger.decisions, ledger.n),
    )
    return ledger


# ---------------------------------------------------------------- the same, compiled or not


def digests():
    """Digest the outputs of every compiled function over the same few hundred bars."""
    out = {}
    for per_unit in (4, 100):
        prices = walk(11, 260, per_unit=per_unit, seams=2)
        for kernel in KERNELS:
            values, state = run_kernel(kernel, prices)
            out[f"{kernel.name}/{per_unit}"] = values.tobytes() + state.tobytes()
    wiring = wire(feature.node for feature in CATALOGUE.values())
    # More bars than the shortest history of a rank, 252.
    places = [(5,), (), (9, 40), (100,), (), (265,)]
    prices = [moving_prices(k, 275, seams=at, flats=[(60, 90)]) for k, at in enumerate(places)]
    laid = lay(wiring, market_of(3, prices))
    rows, states = observe(wiring, laid)
    out["features"] = b"".join(part.tobytes() for part in (laid.foreign, rows, *states))
    sessions = draw_sessions()
    minutes = draw_minutes(5, sessions, seams=2, n_max=300)
    built = build(minutes, sessions, plan_of(15 * MINUTE_NS, with_path=True, mark_ns=5 * MINUTE_NS))
    out["aggregate"] = b"".join(part.tobytes() for part in (*built[:3], built.state))
    for seed in range(3):
        world = draw_world(seed, n_symbols=2, n_max=150)
        out[f"decide/{seed}"] = b"".join(
            part.tobytes() for part in (*world[:9], *decide_all(world))
        )
    return {name: hashlib.sha256(data).hexdigest() for name, data in out.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests()))
