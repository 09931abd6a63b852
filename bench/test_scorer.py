"""What the veto costs: one row, a batch, a start with 17 bundles, an explanation.

The forest is the one of the orientation: 900 trees of depth 5 on 29 features.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from timing import in_turn

from adapters.onnx_scorer import OnnxScorer, choose_scorer, verify
from ibs_core.bundle import Card, Window, feature_set_digest, load_bundle, write_bundle
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.explain import Explainer
from ibs_core.forest import ForestScorer
from ibs_core.trees import read_trees
from ibs_core.veto import judge

N_FEATURES, N_TREES, N_BUNDLES = 29, 900, 17
CONTRACTS = load_contract_map()
FEATURES = [each for each in load_catalogue(CONTRACTS).values() if each.for_models][:N_FEATURES]
NAMES = tuple(each.name for each in FEATURES)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(20_000, N_FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def forest(rows):
    ensemble = pytest.importorskip("sklearn.ensemble")
    noise = np.random.default_rng(1).normal(size=len(rows))
    labels = (0.3 * rows[:, 0] + 0.2 * rows[:, 3] + noise > 0).astype(int)
    made = ensemble.RandomForestClassifier(
        N_TREES, max_depth=5, min_samples_leaf=100, max_features="sqrt", random_state=1, n_jobs=-1
    )
    return made.fit(rows, labels)


@pytest.fixture(scope="module")
def model(forest):
    pytest.importorskip("skl2onnx")
    from ibs_core.research.export import export_forest

    return export_forest(forest, N_FEATURES)


def test_one_row_is_judged(benchmark, record, model, rows):
    import onnxruntime as ort

    scorer, compiled = OnnxScorer(model), ForestScorer(read_trees(model))
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    actions = {
        "onnxruntime": lambda row: session.run(["probabilities"], {"features": row}),
        "compiled": compiled.score,  # after onnxruntime has filled the cache with its own trees, as live
        "scorer": scorer.score,
        "compiled veto": lambda row: judge(compiled, row, names=NAMES, threshold=0.55),
        "veto": lambda row: judge(scorer, row, names=NAMES, threshold=0.55),
    }
    assert compiled.score(rows).tobytes() == scorer.score(rows).tobytes()
    wide = rows.astype(np.float64)
    taken = {name: [] for name in actions}

    def judge_all():
        for i in range(0, 15_000, len(actions)):
            for k, (name, action) in enumerate(actions.items()):
                # A row of its own for each: the processor remembers the branches of the last.
                row = (wide if "veto" in name else rows)[i + k : i + k + 1]
                before = time.perf_counter()
                action(row)
                taken[name].append(time.perf_counter() - before)

    benchmark.pedantic(judge_all)
    p50, p99 = ({n: np.percentile(t, q) for n, t in taken.items()} for q in (50, 99))
    record("score", p50["compiled"], p50["onnxruntime"])
    record("score-p99", p99["compiled"], p99["onnxruntime"])
    record("veto", p50["compiled veto"], p50["onnxruntime"])
    record("veto-p99", p99["compiled veto"], p99["onnxruntime"])
    record("scorer-by-onnxruntime", p50["scorer"], p50["onnxruntime"])
    record("veto-by-onnxruntime", p50["veto"], p50["onnxruntime"])


def test_a_batch_is_judged(benchmark, record, model, forest, rows):
    scorer, compiled = OnnxScorer(model), ForestScorer(read_trees(model))
    wide, n = rows.astype(np.float64), len(rows)
    forest.n_jobs = 1
    by_onnxruntime, veto, plain, ours, sklearn = in_turn(
        benchmark,
        lambda: judge(scorer, wide, names=NAMES, threshold=0.55),
        lambda: judge(compiled, wide, names=NAMES, threshold=0.55),
        lambda: scorer.score(rows),
        lambda: compiled.score(rows),
        lambda: forest.predict_proba(rows),
        rounds=5,
        clock=time.process_time,
    )
    record("score-batch", ours / n, plain / n)
    record("veto-batch", veto / n, plain / n)
    record("veto-batch-by-onnxruntime", by_onnxruntime / n, sklearn / n)


def test_seventeen_bundles_are_loaded_and_verified(benchmark, record, model, rows, tmp_path):
    from ibs_core.research.export import golden_rows, library_versions

    golden = golden_rows(OnnxScorer(model), rows, threshold=0.55, seed=1)
    digest = "0" * 64
    folders = [
        write_bundle(
            tmp_path,
            Card(
                symbol=f"S{i}",
                version="1",
                created=0,
                features=NAMES,
                feature_digest=feature_set_digest(FEATURES),
                threshold=0.55,
                window=Window(first_decision=0, last_label_end=1),
                data_digest=digest,
                contract_map_digest=digest,
                generated=True,
                strategy={},
                parameters={},
                seed=1,
                trials=1,
                metrics={},
                libraries=library_versions(),
                golden=golden,
                model_sha256=hashlib.sha256(model).hexdigest(),
                promotion=None,
            ),
            model,
        )
        for i in range(N_BUNDLES)
    ]

    def start():
        for folder in folders:
            bundle = load_bundle(folder)
            assert verify(bundle, CONTRACTS) == []
            assert choose_scorer(bundle)[1] == ""

    ours, one = in_turn(
        benchmark, start, lambda: OnnxScorer(model), rounds=5, clock=time.process_time
    )
    record("bundles", ours, one)


def test_scores_are_explained(benchmark, record, model, rows):
    explainer, scorer = Explainer(model), OnnxScorer(model)
    some = rows[:10_000]
    ours, scored = in_turn(
        benchmark,
        lambda: explainer.explain(some),
        lambda: scorer.score(some),
        rounds=5,
        clock=time.process_time,
    )
    record("explain", ours / len(some), scored / len(some))
