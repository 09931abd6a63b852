"""Candidates on which nothing can be learnt: ten years of them, with outcomes that no feature tells of."""

from pathlib import Path

import numpy as np

from adapters.onnx_scorer import OnnxScorer
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.research.purging import Labels
from ibs_core.research.trial_ledger import TrialLedger
from ibs_core.sessions import load_sessions
from ibs_core.training.dataset import Dataset
from ibs_core.training.plan import Plan, Space
from ibs_core.training.sample import Sample
from ibs_core.training.train import Workshop, train

CONTRACTS = load_contract_map()
N_FEATURES = 24
NAMES = tuple(name for name, each in load_catalogue(CONTRACTS).items() if each.for_models)
NAMES = NAMES[:N_FEATURES]
HOUR_NS = 3_600 * 10**9
SPREAD_USD = 400.0
"""About one standard deviation of a trade of one ES."""
PLAN = Plan(
    trials=2,
    groups=4,
    test_groups=2,
    inner_groups=2,
    screen_trees=12,
    space=Space(trees=(8,), min_leaf=(50, 100), depths=(3, 5), class_weight=(None,), keep=(10, 20)),
    jobs=1,
)


def slow(rng, n, persistence):
    """Draw a stationary first-order autoregression of variance 1."""
    shocks = rng.normal(size=n) * np.sqrt(1 - persistence**2)
    shocks[0] = rng.normal()
    for i in range(1, n):
        shocks[i] += persistence * shocks[i - 1]
    return shocks


def noise_rows(rng, n):
    """Draw features: quick ones, slow ones, ranks and flags; some miss values."""
    rows = rng.normal(size=(n, N_FEATURES))
    for column in range(8, 16):
        rows[:, column] = slow(rng, n, rng.uniform(0.8, 0.995))
    rows[:, 16:20] = rng.random((n, 4))
    rows[:, 20:] = rng.integers(0, 3, (n, 4))
    for column in (0, 9, 17):
        rows[rng.random(n) < 0.03, column] = np.nan
    return rows.astype(np.float32)


def noise_usd(rng, n, mean_usd):
    """Draw results: 55 % small gains, larger losses up to a stop, restless and quiet times."""
    won = rng.random(n) < 0.55
    size = np.minimum(rng.gamma(2.0, np.where(won, 0.42, 0.51)), 4.0)
    signed = np.where(won, size, -size)
    restless = np.exp(0.4 * slow(rng, n, 0.99) - 0.08)
    return SPREAD_USD * restless * signed + mean_usd


def noise(seed, mean_usd):
    """Make about 2,500 candidates in ten years, whose features and results are drawn apart."""
    rng = np.random.default_rng([seed, 20_100])
    first, last = (
        int(np.datetime64(day, "ns").astype(np.int64)) for day in ("2012-01-03", "2022-01-04")
    )
    calendar = load_sessions("equity", first, last)
    number = np.arange(2, len(calendar.open_ns) - 2)
    session = np.repeat(number, rng.choice(4, len(number), p=[0.4, 0.3, 0.2, 0.1]))
    n = len(session)
    start = calendar.open_ns[session] + rng.integers(1, 15, n) * HOUR_NS
    order = np.argsort(start, kind="stable")
    session, start = session[order], start[order]
    net = noise_usd(rng, n, mean_usd)
    idle = np.ones(len(calendar.open_ns), np.bool_)
    idle[session] = False
    return Sample(
        "ES",
        NAMES,
        noise_rows(rng, n),
        (net > 0).astype(np.int64),
        net,
        Labels(session, start, start + rng.integers(1, 9, n) * HOUR_NS),
        session.copy(),
        calendar.trade_date,
        idle,
    )


def dataset_of(sample):
    """Give the dataset that a sample would have been read from."""
    return Dataset(
        path=Path("dataset.parquet"),
        symbols=(sample.symbol,),
        features=sample.names,
        data_digest="a" * 64,
        contract_map_digest=CONTRACTS.digest,
        config_digest="d" * 64,
        feature_digest="e" * 64,
        strategies={sample.symbol: {"signal_bar": "1h"}},
        generated=True,
    )


def trained(folder, sample, plan=PLAN, ledger="trials"):
    """Train with a ledger and the studies of a folder."""
    workshop = Workshop(
        contracts=CONTRACTS,
        ledger=TrialLedger(folder / f"{ledger}.sqlite"),
        studies=folder / "searches.sqlite",
        open_model=OnnxScorer,
        clock=lambda: 1,
        progress=lambda _what, _n: None,
    )
    return train(dataset_of(sample), sample, plan, workshop, created_ns=1_700_000_000 * 10**9)
