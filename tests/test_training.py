"""A model is chosen inside, judged outside, and the same whatever the holdout holds."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from threading import Event

import numpy as np
import pytest

pytest.importorskip("sklearn")

import optuna
from sklearn.model_selection import TimeSeriesSplit

from adapters.onnx_scorer import OnnxScorer, verify
from ibs_core.bundle import load_bundle, write_bundle
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.research.purging import Labels, first_of_last, holdout
from ibs_core.research.trial import Trial
from ibs_core.research.trial_ledger import Selection, TrialLedger
from ibs_core.sessions import load_sessions
from ibs_core.training import nested
from ibs_core.training import search as searching
from ibs_core.training.dataset import Dataset
from ibs_core.training.guardrails import check_guardrails
from ibs_core.training.judgement import luck
from ibs_core.training.plan import Plan, Space
from ibs_core.training.sample import Sample, choose_threshold
from ibs_core.training.train import Workshop, train

CONTRACTS = load_contract_map()
NAMES = tuple(
    name for name, each in load_catalogue(CONTRACTS).items() if each.for_models and "_" in name
)[:8]
PLANTED = 3
HOUR_NS = 3_600 * 10**9
N = 1_200
SPACE = Space(
    trees=(12,),
    min_leaf=(20, 40),
    depths=(3, 5),
    bootstrap=(True,),
    class_weight=(None,),
    keep=(3, 5),
)
PLAN = Plan(
    trials=2,
    groups=4,
    test_groups=2,
    inner_groups=2,
    embargo=1,
    screen_trees=15,
    space=SPACE,
    jobs=1,
)


def made(strength=0.0, seed=0):
    """Two candidates a session; `strength` says how much the planted feature tells."""
    rng = np.random.default_rng(seed)
    first = np.datetime64("2021-01-04", "ns").astype(np.int64)
    calendar = load_sessions("equity", int(first), int(first + 900 * 24 * HOUR_NS))
    session = np.repeat(np.arange(2, 2 + N // 2), 2)
    start = calendar.open_ns[session] + np.tile([3, 9], N // 2) * HOUR_NS
    rows = rng.normal(size=(N, len(NAMES))).astype(np.float32)
    rows[rng.random(N) < 0.05, 5] = np.nan
    chance = 0.5 + strength * np.tanh(2 * rows[:, PLANTED])
    target = (rng.random(N) < chance).astype(np.int64)
    net = np.where(target, 100.0, -105.0) * rng.uniform(0.8, 1.2, N)
    idle = np.ones(len(calendar.open_ns), bool)
    idle[session] = False
    labels = Labels(session, start, start + HOUR_NS)
    return Sample("ES", NAMES, rows, target, net, labels, session.copy(), calendar.trade_date, idle)


def dataset():
    return Dataset(
        path=Path("dataset.parquet"),
        symbols=("ES",),
        features=NAMES,
        data_digest="a" * 64,
        contract_map_digest="c" * 64,
        config_digest="d" * 64,
        feature_digest="e" * 64,
        strategies={"ES": {"signal_bar": "1h"}},
        generated=True,
    )


def trained(folder, sample, plan=PLAN, progress=lambda _what, _n: None):
    workshop = Workshop(
        contracts=CONTRACTS,
        ledger=TrialLedger(folder / "trials.sqlite"),
        studies=folder / "searches.sqlite",
        open_model=OnnxScorer,
        clock=lambda: 1,
        progress=progress,
    )
    return train(dataset(), sample, plan, workshop, created_ns=1_700_000_000 * 10**9)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    return folder, trained(folder, made())


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder and the card of a training with half the trials."""
    folder = tmp_path_factory.mktemp("begun")
    return folder, trained(folder, made(), dataclasses.replace(PLAN, trials=1)).card


@pytest.fixture(scope="module")
def informed(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("informed"), made(0.35))


def test_noise_is_judged_as_noise_and_may_not_trade(noise):
    _, result = noise
    found = result.card.metrics["out_of_sample"]
    if found["win_rate"] is not None:
        assert abs(found["win_rate"] - 0.5) < 0.08
    rails = {each.name: each for each in check_guardrails(result.card)}
    assert not rails["deflated Sharpe ratio"].passed
    assert rails["deflated Sharpe ratio"].limit == 0.95


def test_a_planted_feature_is_chosen_and_helps_out_of_sample(informed):
    assert NAMES[PLANTED] in informed.card.features
    metrics = informed.card.metrics
    assert metrics["out_of_sample"]["win_rate"] > 0.65
    assert metrics["out_of_sample"]["net_usd"] > metrics["out_of_sample_base"]["net_usd"]
    assert metrics["holdout"]["filtered"]["net_usd"] > metrics["holdout"]["base"]["net_usd"]
    failed = {each.name for each in check_guardrails(informed.card) if not each.passed}
    assert failed <= {"trades"}  # there are not so many candidates here


def test_the_holdout_changes_neither_model_nor_features_nor_threshold(tmp_path, informed):
    sample = made(0.35)
    late = sample.labels.session >= first_of_last(sample.labels.session, PLAN.holdout)
    assert 0.15 < late.mean() < 0.25
    rows, target, net = sample.rows.copy(), sample.target.copy(), sample.net_usd.copy()
    rows[late] = -3 * rows[late] + 1
    target[late], net[late] = 1 - target[late], -7 * net[late]
    other = dataclasses.replace(sample, rows=rows, target=target, net_usd=net)
    result = trained(tmp_path, other)
    assert result.model == informed.model
    assert result.card.features == informed.card.features
    assert result.card.threshold == informed.card.threshold
    assert result.card.metrics["luck"] == informed.card.metrics["luck"]
    assert result.card.metrics["holdout"] != informed.card.metrics["holdout"]


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_processes(tmp_path, noise):
    again = trained(tmp_path, made(), dataclasses.replace(PLAN, jobs=2))
    assert again.model == noise[1].model
    assert again.card == noise[1].card
    other = trained(tmp_path / "other", made(), dataclasses.replace(PLAN, seed=8, trials=1))
    assert other.model != again.model


def test_an_interrupted_search_ends_as_one_that_was_not(tmp_path, noise, monkeypatch):
    real, n_done = searching.out_of_fold, 0

    def cut(*args):
        nonlocal n_done
        n_done += 1
        if n_done > 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(searching, "out_of_fold", cut)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, made())
    monkeypatch.undo()
    counted = TrialLedger(tmp_path / "trials.sqlite").count(Selection())
    assert counted == 5
    again = trained(tmp_path, made())
    assert again.model == noise[1].model
    assert again.card == noise[1].card


def test_more_trials_go_on_from_those_that_were_made(tmp_path, begun, noise):
    folder, few = begun
    assert few.trials == 7
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    more = trained(tmp_path, made())
    assert (more.model, more.card.trials) == (noise[1].model, 14)


def test_what_two_processes_tried_at_once_is_taken_once(tmp_path, begun, noise):
    shutil.copytree(begun[0], tmp_path, dirs_exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'searches.sqlite'}")
    for study in optuna.get_all_study_names(storage):
        kept = optuna.load_study(study_name=study, storage=storage)
        kept.add_trial(kept.trials[0])
    storage.remove_session()
    storage.engine.dispose()
    again = trained(tmp_path, made())
    assert (again.model, again.card) == (noise[1].model, noise[1].card)


def test_progress_counts_every_trial_once_those_made_before_too(tmp_path, monkeypatch):
    monkeypatch.setattr(nested, "_LOOK_EVERY_S", 1e-3)
    plan = dataclasses.replace(PLAN, walk_forward=True)
    told = []
    for times in (1, 2):
        trained(tmp_path, made(), plan, lambda what, n: told.append((what, n)))
        assert sum(n for _, n in told) == times * plan.n_searches() * plan.trials
    assert plan.n_searches() * plan.trials == 2 * (1 + 6 + 3)
    assert {what for what, _ in told} == {"ES"}


def test_progress_is_told_while_a_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(nested, "_LOOK_EVERY_S", 1e-3)
    seen, told = Event(), []
    out_of_fold = searching.out_of_fold
    calls = []

    def slow(*args):
        calls.append(1)
        if len(calls) == 2:  # the first trial of the first search is in the ledger
            assert seen.wait(timeout=60)
        return out_of_fold(*args)

    def progress(_what, n):
        told.append(n)
        seen.set()

    monkeypatch.setattr(searching, "out_of_fold", slow)
    trained(tmp_path, made(), PLAN, progress)
    assert told[0] == 1


def test_a_walk_forward_trains_on_what_was_before_each_block(tmp_path, informed):
    seen = {}
    real = nested.search

    def spy(sample, plan, record, name):
        seen[name] = sample
        return real(sample, plan, record, name)

    plan = dataclasses.replace(PLAN, walk_forward=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nested, "search", spy)
        result = trained(tmp_path, made(0.35), plan)
    # The model is the same; the card says more, so it is another version.
    assert result.model == informed.model
    assert result.card.version != informed.card.version
    assert informed.card.metrics["walk_forward"] is None
    found = result.card.metrics["walk_forward"]
    sample = made(0.35)
    aside = holdout(
        sample.labels,
        first_session=first_of_last(sample.labels.session, PLAN.holdout),
        embargo=PLAN.embargo,
    )
    past = sample.take(aside.train)
    sessions = np.unique(past.labels.session)
    folds = list(TimeSeriesSplit(n_splits=3).split(sessions))  # cuts sessions as we do
    assert found["blocks"] == 2  # the rows before the first are too few to search
    assert (
        "walk-forward split (0,): too few rows to search" in result.card.metrics["dropped_splits"]
    )
    for block, (before, tested) in [*enumerate(folds)][1:]:
        trained_on = np.unique(seen[f"forward-{block}"].labels.session)
        assert trained_on.tolist() == sessions[before][: -PLAN.embargo].tolist()
        assert (
            seen[f"forward-{block}"].labels.end_ns.max()
            < past.labels.start_ns[past.labels.session == sessions[tested[0]]].min()
        )
    tested = np.isin(past.labels.session, sessions[folds[1][1][0] :])
    assert found["base"]["trades"] == tested.sum()
    assert found["base"]["net_usd"] == pytest.approx(past.net_usd[tested].sum())
    assert 0 < found["filtered"]["trades"] < found["base"]["trades"]
    assert found["filtered"]["win_rate"] > 0.65
    assert result.card.trials == 2 * (7 + 2)


def test_other_symbols_trials_count_but_do_not_widen_the_spread(tmp_path):
    rng = np.random.default_rng(1)
    ledger = TrialLedger(tmp_path / "trials.sqlite")

    def tried(symbol, number, sharpe):
        ledger.append(
            Trial(
                *(1, "model train", symbol, number, symbol, "a", "b", {}, 1, sharpe, 9, True),
                sessions=np.arange(3),
                returns=np.array([1.0, -1.0, 2.0]),
            )
        )

    for number in range(20):
        tried("ES", number, float(rng.normal(0, 0.02)))
    returns = rng.normal(0.15, 1.0, 2_000)
    alone = luck(returns, ledger, generated=True, study="none", symbol="ES")
    for number in range(20):
        tried("NQ", number, 0.5 * number)
    both = luck(returns, ledger, generated=True, study="none", symbol="ES")
    assert (alone["trials"], both["trials"]) == (20, 40)
    assert both["variance_of_sharpe"] == alone["variance_of_sharpe"]
    assert 0.9 < both["dsr"] < alone["dsr"]


def test_the_ledger_counts_every_trial_of_every_search(noise):
    folder, result = noise
    ledger = TrialLedger(folder / "trials.sqlite")
    n_searches = 6 + 1  # a split each, and all rows before the holdout
    assert ledger.count(Selection(commands=("model train",), generated=True)) == 2 * n_searches
    assert result.card.trials == 2 * n_searches


def test_rows_that_miss_a_chosen_feature_are_dropped_and_counted(tmp_path):
    space = dataclasses.replace(SPACE, keep=(len(NAMES),))
    result = trained(tmp_path, made(0.3), dataclasses.replace(PLAN, space=space))
    rows = result.card.metrics["rows"]
    assert NAMES[5] in result.card.features
    assert rows["missing_a_feature"] > 0
    assert rows["fitted"] + rows["missing_a_feature"] == rows["before_holdout"]


def test_trials_that_the_ledger_lost_are_made_and_counted_anew(tmp_path, noise):
    shutil.copytree(noise[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "trials.sqlite").unlink()
    again = trained(tmp_path, made())
    assert (again.model, again.card) == (noise[1].model, noise[1].card)


def test_damaged_studies_are_told_of_in_our_words(tmp_path):
    (tmp_path / "searches.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(EnvironmentFault, match=r"searches\.sqlite: found file is not a database"):
        trained(tmp_path, made())


def test_too_little_data_is_refused_with_the_reason(tmp_path):
    with pytest.raises(DataError, match="training rows, fewer than"):
        trained(tmp_path, made().take(np.arange(200)))


def test_a_single_class_is_refused_not_scored(tmp_path):
    sample = dataclasses.replace(made(), target=np.ones(N, np.int64))
    with pytest.raises(DataError, match="all training rows are 1"):
        trained(tmp_path, sample)


def test_the_threshold_is_compared_as_the_veto_compares():
    sample = made()
    scores = np.full(N, 0.6, np.float32)
    scores[:40], scores[40] = 0.7, np.nan
    choice = choose_threshold(sample, scores, n_min=30)
    assert choice is not None
    assert choice.threshold in (0.45, 0.625)
    assert not choice.selected[40]
    assert choose_threshold(sample, scores, n_min=N) is None


def test_a_written_bundle_verifies_and_one_flipped_byte_does_not(tmp_path, informed):
    folder = write_bundle(tmp_path, informed.card, informed.model)
    assert verify(load_bundle(folder), CONTRACTS) == []
    for name in ("model.onnx", "card.json"):
        path = folder / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError):
            load_bundle(folder)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert load_bundle(folder).card == informed.card
