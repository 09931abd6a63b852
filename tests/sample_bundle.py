"""Forests, cards and bundles to test with."""

import hashlib
from functools import lru_cache

import numpy as np

from ibs_core.bundle import Card, Golden, Guardrail, Promotion, Window

NAMES = ("bar_ibs", "bar_rsi2", "day_ibs", "day_atr_z", "cal_dow", "bar_ret1_pct")
MODEL = b"any bytes will do: a bundle is not scored when it is read"
DAY_NS = 86_400 * 10**9
PROMOTION = Promotion(
    time=20_300 * DAY_NS,
    reason="beats the base",
    guardrails=(
        Guardrail(name="trades", achieved=812.0, limit=500.0, passed=True),
        Guardrail(name="profit factor", achieved=None, limit=1.0, passed=False),
    ),
    forced=True,
)


def sample_card(**changes):
    """A card of MODEL; keywords replace its fields."""
    rng = np.random.default_rng(3)
    names = changes.get("features", NAMES)
    rows = rng.normal(size=(3, len(names))).astype(np.float32)
    fields = {
        "symbol": "6E",
        "version": "2025-01",
        "created": 20_200 * DAY_NS + 1,
        "features": names,
        "feature_digest": "a" * 64,
        "threshold": 0.55,
        "window": Window(first_decision=15_000 * DAY_NS, last_label_end=20_000 * DAY_NS + 123),
        "data_digest": "b" * 64,
        "contract_map_digest": "c" * 64,
        "generated": True,
        "strategy": {"signal_bar": "1h", "entry": {"ibs": [0.0, 0.2]}},
        "parameters": {"n_estimators": 900, "max_depth": None},
        "seed": 42,
        "trials": 90,
        "metrics": {"sharpe": 0.1 + 0.2, "tiny": 5e-324, "eras": [1.0, -2.5]},
        "libraries": {"numpy": "2.0"},
        "golden": Golden(
            rows=tuple(map(tuple, rows.tolist())),
            scores=tuple(np.float32([0.1, 0.55, 0.99]).tolist()),
        ),
        "model_sha256": hashlib.sha256(MODEL).hexdigest(),
        "promotion": None,
    }
    return Card(**(fields | changes))


@lru_cache(maxsize=2)
def training_rows(n, n_features):
    """Rows of float32, some columns with few values, and a label that depends on some of them."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, n_features)).astype(np.float32)
    rows[:, 1] = rows[:, 1].round()
    rows[:, 2] = rows[:, 2] > 0
    labels = 0.4 * rows[:, 0] + 0.3 * rows[:, 1] * rows[:, 2] + rng.normal(size=n) > 0
    return rows, labels.astype(int)


@lru_cache(maxsize=8)
def fitted(n_trees, depth, *, bootstrap=True, class_weight=None, leaf=30, n=1_500, n_features=6):
    """A fitted forest."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_trees,
        max_depth=depth,
        min_samples_leaf=leaf,
        max_features="sqrt",
        bootstrap=bootstrap,
        max_samples=0.8 if bootstrap else None,
        class_weight=class_weight,
        random_state=1,
        n_jobs=2,
    )
    return forest.fit(*training_rows(n, n_features))


@lru_cache(maxsize=8)
def exported(*args, **kwargs):
    """The ONNX file of `fitted`."""
    from ibs_core.research.export import export_forest

    forest = fitted(*args, **kwargs)
    return export_forest(forest, forest.n_features_in_)


def tradable_bundle(models, symbol, features, threshold=0.5, **changes):
    """A bundle of the forest `exported(40, 4)` that verifies and scores; returns its folder."""
    from adapters.onnx_scorer import OnnxScorer
    from ibs_core.bundle import feature_set_digest, write_bundle
    from ibs_core.catalogue import load_catalogue
    from ibs_core.contracts import load_contract_map
    from ibs_core.research.export import golden_rows

    contracts, model = load_contract_map(), exported(40, 4)
    catalogue = load_catalogue(contracts)
    rows, _ = training_rows(1_500, 6)
    card = sample_card(
        symbol=symbol,
        features=features,
        feature_digest=feature_set_digest([catalogue[name] for name in features]),
        contract_map_digest=contracts.digest,
        strategy={"signal_bar": "1h"},
        threshold=threshold,
        golden=golden_rows(OnnxScorer(model), rows, threshold=threshold, seed=1),
        model_sha256=hashlib.sha256(model).hexdigest(),
        **changes,
    )
    return write_bundle(models, card, model)
