"""On bars without an edge, hardly a sweep finds a choice that is promotable.

A thousand candidates of each kind over drawn sessions, and `ibs sweep` itself over generated minute bars. No costs:
those would only help. The short form runs with the suite, `make soak` runs two hundred sweeps of each kind.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from datetime import date

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

pytest.importorskip("sklearn")

from noise import slow

from ibs_core.cli.main import cli
from ibs_core.research import sample_process
from ibs_core.research.sample_data import write_sample
from ibs_core.sweep.grid import Axis, Grid
from ibs_core.sweep.plateau import chosen, plateaus
from ibs_core.sweep.verdict import DSR_MIN, SESSIONS_MIN, judge

BARS = 24
HOLD = tuple(range(2, 22, 2))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the candidates of a sweep are like.

    Enter where the IBS of the session before is at most `low`; leave at a gain of `target` daily deviations, or
    after `HOLD` bars. Neighbours share most of their trades. Those that are apart share none: each tosses a coin.
    """

    low: tuple[float, float]
    target: tuple[float, float]
    n_sessions: int = 500
    apart: bool = False

    def grid(self):
        low, target = (np.linspace(*ends, 10).tolist() for ends in (self.low, self.target))
        return Grid((Axis("low", tuple(low)), Axis("target", tuple(target)), Axis("hold", HOLD)))


KINDS = {
    "apart": Kind((0.05, 0.5), (0.5, 5.0), apart=True),
    "alike": Kind((0.05, 0.5), (0.5, 5.0)),
    "few trades": Kind((0.005, 0.05), (0.5, 5.0)),
    "near targets": Kind((0.05, 0.5), (0.02, 0.2)),
    "few trades, near targets": Kind((0.005, 0.05), (0.02, 0.2)),
    "few sessions": Kind((0.82, 1.0), (0.5, 5.0), n_sessions=120),
    "few sessions, near targets": Kind((0.82, 1.0), (0.02, 0.2), n_sessions=120),
}


def returns_of(kind, seed):
    """Draw sessions as random walks of fat-tailed bars in restless and quiet times, and trade them.

    A trade leaves at the price of the bar that reaches its target, not at the target: whatever the rule, it earns
    nothing on average.
    """
    rng, n = np.random.default_rng([seed, 20_200]), kind.n_sessions
    restless = np.exp(0.35 * slow(rng, n + 1, 0.97))
    steps = rng.standard_t(5, size=(n + 1, BARS)) * restless[:, None] / np.sqrt(BARS)
    path = np.cumsum(steps, axis=1)
    low, high = path.min(axis=1), path.max(axis=1)
    ibs, path = ((path[:, -1] - low) / (high - low))[:-1], path[1:]
    lows, targets, holds = (each.values for each in kind.grid().axes)
    out = np.empty((n, len(lows), len(targets), len(holds)))
    for i, target in enumerate(targets):
        there = path >= target
        first = np.where(there.any(axis=1), there.argmax(axis=1), BARS)
        for k, hold in enumerate(holds):
            left = np.minimum(first, hold - 1)
            out[:, :, i, k] = (ibs[:, None] <= lows) * path[np.arange(n), left, None]
    out = 0.01 * out.reshape(n, -1)
    return out * rng.choice([-1, 0, 1], out.shape) if kind.apart else out


def verdict_of(kind, seed):
    """Choose among a thousand candidates and judge, as `ibs sweep` does."""
    grid, returns = kind.grid(), returns_of(kind, seed)
    deviation = returns.std(axis=0, ddof=1)
    sharpe = np.full(len(deviation), np.nan)
    np.divide(returns.mean(axis=0), deviation, out=sharpe, where=deviation > 0)
    score = plateaus(grid, list(itertools.product(*(a.values for a in grid.axes))), sharpe).score
    choice = chosen(score, sharpe)
    return judge(
        returns,
        choice,
        n_trials=returns.shape[1],
        variance=float(np.nanvar(sharpe, ddof=1)),
        plateau=score[choice],
    )


@pytest.mark.parametrize("name", KINDS)
def test_none_of_a_few_sweeps_of_noise_is_promotable(name):
    assert [seed for seed in (24, 29, 52) if verdict_of(KINDS[name], seed).promotable] == []


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_at_most_one_in_twenty_of_two_hundred_sweeps_of_noise_is_promotable(name):
    promotable = [seed for seed in range(200) if verdict_of(KINDS[name], seed).promotable]
    assert len(promotable) <= 10, promotable


def verdict_after_a_narrow_sweep(seed):
    """Judge forty candidates, each like the two beside it, after a sweep of a thousand that were all alike."""
    rng = np.random.default_rng([seed, 20_300])
    own, common = rng.normal(size=(500, 42)), rng.normal(size=(500, 1))
    returns = 0.01 * (own[:, :-2] + own[:, 1:-1] + own[:, 2:])
    narrow = 0.01 * (common + 0.05 * rng.normal(size=(500, 1_000)))
    sharpe, earlier = (each.mean(axis=0) / each.std(axis=0, ddof=1) for each in (returns, narrow))
    grid = Grid((Axis("one", tuple(range(40))),))
    score = plateaus(grid, [(value,) for value in range(40)], sharpe).score
    choice = chosen(score, sharpe)
    variance = float(np.append(earlier, sharpe).var(ddof=1))
    return judge(returns, choice, n_trials=1_040, variance=variance, plateau=score[choice])


def test_a_narrow_sweep_before_does_not_lower_the_bar():
    assert not any(verdict_after_a_narrow_sweep(seed).promotable for seed in range(20, 40))


@pytest.mark.soak
def test_two_hundred_sweeps_after_narrow_ones():
    assert sum(verdict_after_a_narrow_sweep(seed).promotable for seed in range(200)) <= 10


@pytest.mark.parametrize(("n", "promotable"), [(SESSIONS_MIN - 1, False), (SESSIONS_MIN, True)])
def test_wins_in_a_row_are_no_proof_before_there_are_many(n, promotable):
    """Of a near target nearly every trade wins, and the loss that pays for them is still to come."""
    rng = np.random.default_rng(3)
    returns = rng.normal(size=(1_000, 20)) * 0.01
    returns[:, 0] = 0.0
    returns[5 : 5 + 9 * n : 9, 0] = rng.uniform(0.001, 0.0012, n)
    found = judge(returns, 0, n_trials=20, variance=0.001, plateau=0.5)
    assert found.dsr > 0.999
    assert found.promotable is promotable
    assert len(found.reasons) == (not promotable)


# ---------------------------------------------------------------- the command

BUSY = {
    "strategy": {
        "entry": {"ibs": [0, 0.5], "pivots": "none"},
        "filters": {"bar_rsi2": [0, 100]},
        "exits": {"bars": 4},
    },
    "costs": {"commission_per_side": 0, "slippage_ticks": 0},
}
WORDS = ["--grid", "strategy.entry.ibs.1=0.4:0.6:0.1", "--grid", "strategy.exits.bars=2,4,6"]
END = date(2024, 8, 30)


@pytest.fixture
def without_reversion(monkeypatch):
    """Take the pull back, within hours and over years, out of the generated bars."""
    looks = {
        root: dataclasses.replace(look, reversion=0.0, carry=0.0)
        for root, look in sample_process._LOOKS.items()
    }
    monkeypatch.setattr(sample_process, "_LOOKS", looks)
    monkeypatch.setattr(sample_process, "PULL", 0.0)


def swept(folder, seed, ledger):
    """Sweep a symbol over generated bars and return the verdict."""
    bars, out = folder / f"bars {seed}", folder / f"sweep {seed}"
    write_sample(bars, roots=["ES"], start=date(2024, 1, 2), end=END, seed=seed)
    (folder / "busy.yml").write_text(yaml.safe_dump(BUSY))
    places = {"--parquet": bars, "--config": folder / "busy.yml", "--out": out}
    places |= {"--models": folder / ledger, "--jobs": 1}
    given = [str(word) for pair in places.items() for word in pair]
    done = CliRunner().invoke(cli, ["sweep", *given, *WORDS, "--quiet"])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads((out / "summary.json").read_text())["verdict"]
    assert not any("sessions with a result" in reason for reason in found["reasons"])
    return found


@pytest.mark.usefixtures("without_reversion")
def test_none_of_a_few_sweeps_by_command_is_promotable(tmp_path):
    found = [swept(tmp_path, seed, ledger=f"models {seed % 2}") for seed in range(4)]
    assert [each["trials"] for each in found] == [9, 9, 18, 18]
    assert all(0 < each["dsr"] < DSR_MIN for each in found)


@pytest.mark.soak
@pytest.mark.usefixtures("without_reversion")
@pytest.mark.parametrize("shared", [False, True], ids=["own ledgers", "one ledger"])
def test_at_most_one_in_twenty_of_a_hundred_sweeps_by_command_is_promotable(tmp_path, shared):
    ledgers = ["all" if shared else f"models {seed}" for seed in range(100)]
    promotable = [s for s in range(100) if swept(tmp_path, s, ledgers[s])["promotable"]]
    assert len(promotable) <= 5, promotable
