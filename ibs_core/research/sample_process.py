"""The price process behind the generated sample data: looks plausible, proves nothing.

Every session draws from generators of its own, seeded with the seed, the family or the root, and the
trade date. So a later end, or other roots beside it, changes nothing that was there before.
Within a session prices live on a grid of 1,440 minutes that starts at 17:00 Chicago time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ibs_core.contracts import Contract

__all__ = ["GRID", "Look", "Minutes", "Process", "look_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
GRID: Final = 1440

BLOCK: Final = 15  # minutes that share one level of activity
REVERSION_MINUTES: Final = 90.0  # time constant in which the fleeting part of a move decays
PULL: Final = 0.004  # share of the distance to the usual price that a session recovers
VOL_MEMORY: Final = 0.97  # of the logarithm of daily volatility, from session to session
VOL_SPREAD: Final = 0.35  # its stationary standard deviation
TAIL: Final = 0.06  # weight of the cube that fattens the tails


@dataclass(frozen=True, slots=True)
class Look:
    """What a root looks like.

    Parameters
    ----------
    level : float, price units, > 0
        Price at the start, to which the price is pulled back over years.
    vol : float, > 0
        Annual volatility of log returns.
    loading : float, in [0, 1]
        Correlation with the common factor of its session group.
    volume : float, contracts, > 0
        Mean volume of a minute; a thin market leaves out more minutes.
    carry : float
        Annual slope of the curve of contracts, as a fraction: the price gap at rolls.
    reversion : float, in [0, 1)
        Fleeting share of each move, which decays within hours.
    """

    level: float
    vol: float
    loading: float
    volume: float
    carry: float
    reversion: float


# Round numbers on purpose: of the right order, none of them measured.
_LOOKS: Final = {
    "ES": Look(5000.0, 0.16, 0.95, 950, 0.03, 0.09),
    "NQ": Look(18000.0, 0.22, 0.90, 400, 0.03, 0.09),
    "RTY": Look(2000.0, 0.22, 0.85, 130, 0.03, 0.10),
    "YM": Look(38000.0, 0.15, 0.92, 110, 0.03, 0.09),
    "SPX": Look(5000.0, 0.16, 0.95, 950, 0.0, 0.09),
    "GC": Look(2000.0, 0.15, 0.85, 140, 0.04, 0.10),
    "SI": Look(25.0, 0.28, 0.80, 50, 0.04, 0.11),
    "HG": Look(4.0, 0.22, 0.45, 45, 0.01, 0.10),
    "PL": Look(1000.0, 0.25, 0.60, 12, 0.02, 0.12),
    "CL": Look(75.0, 0.35, 0.80, 240, -0.04, 0.13),
    "NG": Look(3.0, 0.60, 0.25, 110, 0.10, 0.16),
    "6A": Look(0.67, 0.10, 0.75, 70, 0.0, 0.15),
    "6B": Look(1.27, 0.09, 0.75, 75, 0.0, 0.18),
    "6C": Look(0.74, 0.07, 0.60, 60, 0.01, 0.15),
    "6E": Look(1.10, 0.08, 0.85, 140, 0.015, 0.17),
    "6J": Look(0.007, 0.10, 0.35, 110, 0.04, 0.17),
    "6M": Look(0.055, 0.12, 0.30, 20, -0.06, 0.20),
    "6N": Look(0.61, 0.11, 0.75, 25, 0.0, 0.15),
    "6S": Look(1.12, 0.08, 0.75, 25, 0.03, 0.15),
    "ZB": Look(120.0, 0.10, 0.0, 280, -0.01, 0.24),
    "ZC": Look(450.0, 0.28, 0.70, 110, 0.03, 0.20),
    "ZS": Look(1150.0, 0.20, 0.70, 80, 0.02, 0.20),
    "ZW": Look(580.0, 0.32, 0.65, 50, 0.05, 0.20),
    "MBT": Look(60000.0, 0.55, 0.0, 8, 0.06, 0.10),
}

# Relative volatility of each local hour from 17:00 on; 0 where the group is closed as a rule.
_HOURS: Final = {
    "equity": "13 11 12 11 9 8 8 8 10 14 13 11 12 14 19 31 34 29 25 25 26 29 15 0",
    "cash_index": "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 34 34 29 25 25 26 29 0 0",
    "metals": "12 13 15 14 12 10 9 11 15 19 19 17 16 17 25 30 30 26 21 18 16 13 10 0",
    "energy": "14 11 16 16 13 11 10 13 19 25 27 24 22 23 29 41 41 38 30 28 27 16 14 0",
    "fx": "9 11 12 10 8 7 8 12 20 25 23 20 19 20 34 33 34 26 20 17 18 16 9 0",
    "rates": "8 9 11 10 8 7 7 8 13 17 16 14 14 16 36 33 32 27 23 22 24 18 9 0",
    "grains": "0 0 16 12 10 9 8 8 9 9 10 11 13 16 17 40 38 33 29 34 40 0 0 0",
    "crypto": "22 22 23 24 21 19 19 20 22 22 21 20 20 23 26 34 36 33 29 27 28 26 20 0",
}


@dataclass(frozen=True, slots=True)
class Minutes:
    """Minutes of `n` sessions on their grids, all (n, GRID); prices in ticks, all >= 1."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    printed: NDArray[np.bool_]


def look_of(contract: Contract) -> Look:
    """Return the look of a contract; a micro has its full-size contract's, at a tenth of the volume.

    A root without a look of its own is a quiet market at 10,000 ticks.
    """
    if contract.full_size in _LOOKS:
        full = _LOOKS[contract.full_size]
        volume = full.volume / 10
        return Look(full.level, full.vol, full.loading, volume, full.carry, full.reversion)
    neutral = Look(10_000 * contract.tick_nano / 1e9, 0.20, 0.5, 50, 0.0, 0.10)
    return _LOOKS.get(contract.root, neutral)


class Process:
    """The price path of one root, to be drawn session by session in order of time.

    Parameters
    ----------
    contract : Contract
    seed : int, >= 0
    """

    def __init__(self, contract: Contract, seed: int) -> None:
        self.look = look_of(contract)
        self._tick = contract.tick_nano / 1e9
        family = "equity" if contract.session == "cash_index" else contract.session
        path = contract.full_size or contract.root  # a micro follows its full-size contract
        keys = (f"family {family}", f"path {path}", f"prints {contract.root}")
        self._seeds = [(seed, int.from_bytes(key.encode())) for key in keys]
        hours = np.array(_HOURS[contract.session].split(), dtype=np.float64)
        self._shape = np.repeat(hours / np.sqrt(60 * np.sum(hours**2)), 60)
        self._busy = np.repeat(hours**2 / np.mean(hours[hours > 0] ** 2), 60)
        self._log_price = float(np.log(self.look.level))
        self._log_vol = 0.0

    def draw(self, trade_date: Ints, inside: NDArray[np.bool_], gap: Floats) -> Minutes:
        """Draw the next sessions.

        Parameters
        ----------
        trade_date : (n,) int64, days since 1970-01-01
        inside : (n, GRID) bool
            Which minutes lie in the session; prices stand still in all others.
        gap : (n, 2) float64
            Log gap at the roll before the session, and size of the pause before it relative to a
            day's volatility.

        Returns
        -------
        Minutes
        """
        look, n = self.look, trade_date.size
        daily, common, own, activity, noise, waits = self._numbers(trade_date)
        weight = np.sqrt(1.0 - look.loading**2)
        shock = look.loading * common + weight * own
        shock *= (1.0 + TAIL * shock**2) / np.sqrt(1.0 + 6.0 * TAIL + 15.0 * TAIL**2)
        active = np.repeat(np.exp(0.35 * activity - 0.06125), BLOCK, axis=1)
        sigma = look.vol / np.sqrt(252.0) * self._volatility(daily[:, 0])
        spread = sigma[:, None] * self._shape * active
        shock *= spread
        shock *= inside
        lasting = np.cumsum(shock, axis=1)
        growth = np.exp(np.arange(GRID) / REVERSION_MINUTES)
        fleeting = np.cumsum(shock * growth, axis=1) / growth
        jump = look.loading * daily[:, 1] + weight * daily[:, 2]
        steps = gap[:, 0] + gap[:, 1] * sigma * jump
        opening = self._openings(steps, lasting[:, -1])
        share = look.reversion / (1.0 - look.reversion)
        path = np.empty((n, GRID + 1))
        path[:, 0] = 0.0
        np.add(lasting, share * fleeting, out=path[:, 1:])
        path += opening[:, None]
        np.exp(path, out=path)
        path /= self._tick
        return self._minutes(path, spread / (1.0 - look.reversion), active, noise, waits)

    # Three generators a session, so that neither the other members of a family nor the thinner
    # prints of a micro disturb a path.
    def _numbers(self, trade_date: Ints) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
        n = trade_date.size
        daily, activity = np.empty((n, 3)), np.empty((n, GRID // BLOCK))
        common, own, noise = np.empty((n, GRID)), np.empty((n, GRID)), np.empty((n, GRID))
        waits = np.empty((n, 3, GRID))
        for i, day in enumerate(trade_date.tolist()):
            family, path, prints = (np.random.default_rng((*seed, day)) for seed in self._seeds)
            daily[i, :2] = family.standard_normal(2)
            family.standard_normal(out=common[i])
            daily[i, 2] = path.standard_normal()
            path.standard_normal(out=activity[i])
            path.standard_normal(out=own[i])
            path.standard_exponential(out=waits[i, :2])
            prints.standard_exponential(out=waits[i, 2])
            prints.standard_normal(out=noise[i])
        return daily, common, own, activity, noise, waits

    def _volatility(self, news: Floats) -> Floats:
        level, levels = self._log_vol, np.empty(news.size)
        fresh = VOL_SPREAD * np.sqrt(1.0 - VOL_MEMORY**2)
        for i, each in enumerate(news.tolist()):
            level = VOL_MEMORY * level + fresh * each
            levels[i] = level
        self._log_vol = level
        return np.exp(levels - VOL_SPREAD**2)

    def _openings(self, steps: Floats, moves: Floats) -> Floats:
        price, openings = self._log_price, np.empty(steps.size)
        usual = float(np.log(self.look.level))
        for i, (step, move) in enumerate(zip(steps.tolist(), moves.tolist(), strict=True)):
            price += step + PULL * (usual - price)
            openings[i] = price
            price += move
        self._log_price = price
        return openings

    # High and low are the exact extremes of a Brownian bridge from open to close, each on its own.
    def _minutes(
        self, path: Floats, spread: Floats, active: Floats, noise: Floats, waits: Floats
    ) -> Minutes:
        before, after = path[:, :-1], path[:, 1:]
        middle, move2 = before + after, (after - before) ** 2
        scale2 = 2.0 * (spread * before) ** 2
        top = 0.5 * (middle + np.sqrt(move2 + scale2 * waits[:, 0]))
        bottom = 0.5 * (middle - np.sqrt(move2 + scale2 * waits[:, 1]))
        jitter = (waits[:, 0] > 2.3).astype(np.int64) - (waits[:, 1] > 2.3)
        opens = np.maximum(np.rint(before).astype(np.int64) + jitter, 1)
        closes = np.maximum(np.rint(after).astype(np.int64), 1)
        highs = np.maximum(np.rint(top).astype(np.int64), np.maximum(opens, closes))
        lows = np.maximum(np.rint(bottom).astype(np.int64), 1)
        lows = np.minimum(lows, np.minimum(opens, closes))
        trades = self._busy * active
        printed = waits[:, 2] < 1.3 * np.sqrt(self.look.volume) * trades
        stir = 0.3 + 0.7 * (top - bottom) / np.maximum(0.8 * np.sqrt(2.0 * scale2), 1e-9)
        volume = self.look.volume * trades * stir * np.exp(0.5 * noise - 0.125)
        return Minutes(opens, highs, lows, closes, 1 + volume.astype(np.int64), printed)
