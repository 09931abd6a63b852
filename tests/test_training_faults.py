"""One test for each fault of the replaced trainers: this one has none of them.

The names T1, T2, … number the faults; each test says what went wrong and shows that it cannot here. The faults
that a served model can have are in `test_model_faults`; T16 is a matter of the report's intervals.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import statistics
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

pytest.importorskip("sklearn")

from noise import CONTRACTS, PLAN, noise, trained
from sklearn.ensemble import RandomForestClassifier

from adapters.onnx_scorer import OnnxScorer, verify
from ibs_core.backtest import trade
from ibs_core.bundle import Promotion, load_bundle, promote, write_bundle
from ibs_core.candidate_table import candidates
from ibs_core.cli.veto_models import models_for
from ibs_core.config import load_settings
from ibs_core.errors import ConfigError, DataError
from ibs_core.feature_table import tabulate
from ibs_core.market_data import open_bars
from ibs_core.portfolio import ENTRY
from ibs_core.research.export import export_forest
from ibs_core.research.purging import Labels, combinatorial, first_of_last, holdout
from ibs_core.research.sample_data import write_sample
from ibs_core.research.trial import Trial
from ibs_core.research.trial_ledger import TrialLedger
from ibs_core.training.dataset import open_dataset, write_dataset
from ibs_core.training.forests import ask, complete, grow, out_of_fold, usable_splits
from ibs_core.training.guardrails import check_guardrails
from ibs_core.training.judgement import luck, measure, sure_to_help
from ibs_core.training.plan import Plan
from ibs_core.training.sample import choose_threshold, read_sample
from ibs_core.training.selection import rank
from ibs_core.universe import Model

STRATEGY = "strategy: {entry: {windows: [], ibs: [0.0, 0.5], pivots: none}}\n"
FEATURES = ["bar_rsi5", "bar_ret1_pct", "bar_vol_z", "day_ibs"]
NEW_YEAR = datetime.fromisoformat("2023-01-02T00:00:00+00:00")
PLANTED = 3


def planted(seed=0):
    """Draw noise, then let one feature tell a little of each result."""
    sample = noise(seed, 0.0)
    net = sample.net_usd + 250.0 * np.tanh(sample.rows[:, PLANTED])
    return dataclasses.replace(sample, net_usd=net, target=(net > 0).astype(np.int64))


def before_holdout(sample, plan=PLAN):
    first = first_of_last(sample.labels.session, plan.holdout)
    parts = holdout(sample.labels, first_session=first, embargo=plan.embargo)
    return sample.take(parts.train), sample.take(parts.test)


@pytest.fixture(scope="module")
def sample():
    return planted()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def made(folder, sample):
    return trained(folder, sample)


@pytest.fixture(scope="module")
def columns(made, sample):
    return np.array([sample.names.index(name) for name in made.card.features])


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    out = tmp_path_factory.mktemp("bars")
    write_sample(out, roots=["ES", "NQ"], start=date(2022, 11, 7), end=date(2023, 1, 27), seed=6)
    return out


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("rule") / "rule.yml"
    path.write_text(STRATEGY)
    return load_settings([path])


@pytest.fixture(scope="module")
def tables(bars, settings):
    """The candidates of both symbols, with a few features."""
    made = candidates(open_bars([bars], CONTRACTS), settings, CONTRACTS, names=FEATURES)
    return {table["symbol"][0]: table for table in made}


def test_t01_a_row_is_that_of_the_decision_and_the_one_that_serving_scores(bars, settings, tables):
    """Rows were captured when the fill was notified, a bar after the signal."""

    class Remembers:
        def score(self, rows):
            self.seen = rows.copy()
            return np.full(len(rows), 0.5, np.float32)

    scorer = Remembers()
    shadow = settings.model_copy(
        update={"model": load_settings(overrides={"model": {"mode": "veto"}}).model}
    )
    model = Model("v1", tuple(FEATURES), 0.5, scorer, (0, 1))
    source = open_bars([bars / "ES.parquet"], CONTRACTS)
    traded = trade(source, shadow, CONTRACTS, models=lambda _root: model)
    table = tables["ES"]
    rows = table.select(FEATURES).drop_nulls().to_numpy().astype(np.float32)
    served = {row.tobytes() for row in scorer.seen}
    assert len(rows) > 150
    assert all(row.tobytes() in served for row in rows)
    assert len(served) - len({row.tobytes() for row in rows}) < 5  # the data do not end these
    made = traded.decision_records
    entries = set(made["time_ns"][made["action"] == ENTRY].tolist())
    decided, entered = (table[name].dt.epoch("ns").to_numpy() for name in ("time", "entry_time"))
    assert (decided <= entered).all()
    assert len(entries & set(decided.tolist())) > 50


def test_t02_a_label_that_reaches_into_the_test_is_purged_and_the_embargo_counts_sessions(sample):
    """Training dates were cleared by entry alone; a label ends at its exit."""
    held = sample.labels
    end = held.end_ns.copy()
    end[::5] += 12 * 24 * 3_600 * 10**9  # these are held for days
    labels = Labels(held.session, held.start_ns, end)
    reached = 0
    for split in combinatorial(labels, n_groups=4, n_test=2, embargo=0):
        for row in split.train[split.train % 5 == 0]:
            apart = (labels.end_ns[row] < labels.start_ns[split.test]) | (
                labels.end_ns[split.test] < labels.start_ns[row]
            )
            assert apart.all()
        inside = np.isin(np.arange(len(labels.session)), [*split.train, *split.test])
        reached += np.count_nonzero(~inside)
    assert reached > 0
    for split in combinatorial(held, n_groups=4, n_test=1, embargo=2):
        tested = np.unique(held.session[split.test])
        near = np.concatenate([tested[0] - [1, 2], tested[-1] + [1, 2]])  # over weekends too
        assert not np.isin(held.session[split.train], near).any()


def test_t03_the_threshold_is_chosen_on_scores_of_forests_that_did_not_see_the_row(tmp_path):
    """It was chosen on scores of the training rows, which a deep forest separates nearly perfectly."""
    deep = dataclasses.replace(PLAN.space, min_leaf=(1,), depths=(None,), bootstrap=(False,))
    plan = dataclasses.replace(PLAN, space=deep, trials=1)
    sample = noise(5, 0.0).take(np.arange(1_400))
    result = trained(tmp_path, sample, plan)
    past, _ = before_holdout(sample, plan)
    columns = [sample.names.index(name) for name in result.card.features]
    rows = complete(past, np.array(columns))
    scores = OnnxScorer(result.model).score(past.rows[np.ix_(rows, columns)])
    seen = choose_threshold(past.take(rows), scores, n_min=30)
    assert seen.sharpe > 0.4  # on rows that it was grown on, noise looks like this
    assert result.card.metrics["search_sharpe_per_session"] < 0.1
    out = result.card.metrics["out_of_sample"]
    assert abs(out["win_rate"] - past.target.mean()) < 0.05


def expected_dsr(returns, n_trials, variance):
    """The deflated Sharpe ratio, from its definition."""
    normal, n = statistics.NormalDist(), len(returns)
    mean, spread = statistics.fmean(returns), statistics.pstdev(returns)
    sharpe = mean / statistics.stdev(returns)
    skew = statistics.fmean(((x - mean) / spread) ** 3 for x in returns)
    kurtosis = statistics.fmean(((x - mean) / spread) ** 4 for x in returns)
    euler = 0.5772156649015329
    most = (1 - euler) * normal.inv_cdf(1 - 1 / n_trials)
    most += euler * normal.inv_cdf(1 - 1 / (n_trials * math.e))
    z = (sharpe - math.sqrt(variance) * most) * math.sqrt(n - 1)
    return normal.cdf(z / math.sqrt(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2))


def test_t04_the_deflated_ratio_is_per_session_and_counts_every_trial(tmp_path, made, folder):
    """It took one trial for any number of them, and an annual ratio with a number of days: always 1."""
    with sqlite3.connect(folder / "trials.sqlite") as db:
        (n_recorded,) = db.execute("SELECT count(*) FROM trials").fetchone()
    db.close()
    n_searches = math.comb(PLAN.groups, PLAN.test_groups) + 1
    assert made.card.trials == n_recorded == PLAN.trials * n_searches
    rng = np.random.default_rng(2)
    returns = 100.0 * rng.standard_t(5, 1_000)
    returns += 12.0 - returns.mean()
    ledger = TrialLedger(tmp_path / "trials.sqlite")
    sharpes, found = [], []
    for number in range(60):
        sharpes.append(float(rng.normal(0.0, 0.03)))
        trial = Trial(
            *(1, "model train", "s", number, "ES", "a" * 64, "b" * 64, {}, 1, sharpes[-1], 9, True),
            sessions=np.arange(3),
            returns=np.array([1.0, -1.0, 2.0]),
        )
        ledger.append(trial)
        if number in (1, 59):
            said = luck(returns, ledger, generated=True, study="none")
            expected = expected_dsr(returns.tolist(), number + 1, statistics.variance(sharpes))
            assert said["trials"] == number + 1
            assert said["dsr"] == pytest.approx(expected, abs=2e-3)
            found.append(said["dsr"])
    assert 0.05 < found[1] < found[0] < 0.999


def test_t05_the_holdout_is_scored_with_the_file_and_threshold_that_trade(made, sample, columns):
    """Folds and thresholds were made anew inside the "holdout"."""
    _, future = before_holdout(sample)
    rows = complete(future, columns)
    selected = np.zeros(len(future), bool)
    scores = OnnxScorer(made.model).score(future.rows[np.ix_(rows, columns)])
    selected[rows] = scores >= np.float32(made.card.threshold)
    selected = future.traded(selected)
    said = made.card.metrics["holdout"]
    assert said["filtered"]["trades"] == selected.sum() > 0
    assert said["filtered"]["net_usd"] == future.net_usd[selected].sum()
    assert said["base"]["trades"] == future.traded(np.ones(len(future), bool)).sum()


def test_t06_a_split_of_one_class_is_dropped_and_votes_for_nothing(sample):
    """It gave every row that it tested a vote of probability 0."""
    session = sample.labels.session
    late = session > np.median(np.unique(session))
    target = np.where(late, 1, sample.target)  # a forest of the later half would know one class
    one = dataclasses.replace(sample, target=target)
    folds = combinatorial(one.labels, n_groups=2, n_test=1, embargo=2)
    usable, dropped = usable_splits(one, folds, Plan())
    assert [split.test_groups for split in usable] == [(1,)]
    assert dropped == ["split (0,): all training rows are 1"]
    parameters = {"n_estimators": 5, "min_samples_leaf": 20, "random_state": 1, "keep": 5}
    rankings = [rank(one.take(split.train), PLAN) for split in usable]
    scores = out_of_fold(one, usable, rankings, parameters)
    assert np.isnan(scores[folds[0].test]).all()
    assert np.nanmin(scores) > 0.0


def test_t07_returns_are_net_by_session_of_exit_and_sessions_without_a_trade_count(sample):
    """They were gross, booked by calendar day of entry, weekends as days of 0."""
    next_day = np.minimum(sample.exit_session + 1, len(sample.dates) - 1)
    slow = dataclasses.replace(
        sample, exit_session=np.where(np.arange(len(sample)) % 5, sample.exit_session, next_day)
    )
    slow = slow.take(np.arange(600))
    booked = dict.fromkeys(range(slow.labels.session[0], slow.exit_session.max() + 1), 0.0)
    selected = np.arange(600) % 3 == 0
    for i in np.flatnonzero(selected):
        booked[slow.exit_session[i]] += slow.net_usd[i]
    returns = list(booked.values())
    found = measure(slow, selected)
    assert found["sessions"] == len(returns)
    assert found["net_usd"] == pytest.approx(slow.net_usd[selected].sum())
    expected = statistics.fmean(returns) / statistics.stdev(returns)
    assert found["sharpe_per_session"] == pytest.approx(expected, rel=2e-3)
    assert found["sharpe_annual"] == found["sharpe_per_session"] * math.sqrt(252)
    days = slow.dates[list(booked)].astype("datetime64[D]")
    assert (days[-1] - days[0]).astype(int) > 1.4 * len(days)
    assert np.is_busday(days).all()


def test_t07_a_history_is_of_the_trades_of_the_engine_not_of_every_candidate(
    bars, settings, tmp_path
):
    """Candidates overlap: their sum is an account of several positions that are never held at once."""
    source = open_bars([bars], CONTRACTS)
    write_dataset(source, settings, CONTRACTS, tmp_path / "d.parquet", names=["bar_ibs"])
    dataset = open_dataset(tmp_path / "d.parquet", CONTRACTS)
    trades = trade(source, settings, CONTRACTS).trades()
    for root in ("ES", "NQ"):
        own = trades.filter(symbol=root)
        rows = read_sample(dataset, root, CONTRACTS)
        everything = np.ones(len(rows), bool)
        assert 20 < len(own) < 0.9 * len(rows)
        assert rows.net_usd[rows.traded(everything)].tolist() == own["net_usd"].to_list()
        found = measure(rows, everything)
        assert found["trades"] == len(own)
        assert found["net_usd"] == pytest.approx(own["net_usd"].sum())


def test_t08_the_model_is_grown_on_and_asked_with_values_as_they_are(made, sample, columns):
    """Features were standardised over all rows, and the scaler was lost."""
    past, _ = before_holdout(sample)
    rows = past.rows[np.ix_(complete(past, columns), columns)]
    parameters = {key: value for key, value in made.card.parameters.items() if key != "keep"}
    forest = RandomForestClassifier(**parameters).fit(rows, past.target[complete(past, columns)])
    scores = OnnxScorer(made.model).score(rows)
    np.testing.assert_allclose(scores, forest.predict_proba(rows)[:, 1], atol=3e-6)
    assert len(np.unique(scores)) > 50


def test_t09_what_is_missing_is_dropped_and_never_filled(tmp_path):
    """It was filled with 0.5 for ranks and 0 for the rest."""
    space = dataclasses.replace(PLAN.space, keep=(len(noise(0, 0.0).names),))
    plan = dataclasses.replace(PLAN, space=space, trials=1)
    sample = noise(3, 0.0).take(np.arange(1_400))
    rows = sample.rows.copy()
    late = sample.labels.session >= first_of_last(sample.labels.session, plan.holdout)
    rows[late, 1] = np.nan
    result = trained(tmp_path, dataclasses.replace(sample, rows=rows), plan)
    columns = [sample.names.index(name) for name in result.card.features]
    past, _ = before_holdout(sample, plan)
    told = result.card.metrics["rows"]
    assert sample.names[1] in result.card.features
    assert told["fitted"] == np.isfinite(past.rows[:, columns]).all(axis=1).sum() < len(past)
    assert told["fitted"] + told["missing_a_feature"] == len(past)
    seen = result.card.metrics["holdout"]
    assert seen["missing_a_feature"] == late.sum()
    assert seen["filtered"]["trades"] == 0


def test_t10_trades_of_the_engine_are_rows_of_the_dataset(bars, settings, tables):
    """All low closes were trained on; live only those that the pivot filter let through."""
    pivots = load_settings(overrides={"strategy": {"entry": {"windows": [], "ibs": [0.0, 0.5]}}})
    assert pivots.strategy.entry.pivots != settings.strategy.entry.pivots
    source = open_bars([bars], CONTRACTS)
    (table, _) = candidates(source, pivots, CONTRACTS, names=["bar_ibs"])
    trades = trade(source, pivots, CONTRACTS).trades().filter(symbol="ES")
    keys = ["entry_time", "entry_price", "exit_time", "exit_price", "net_usd"]
    assert len(trades) > 20
    assert trades.join(table, on=keys, how="anti").is_empty()
    assert len(table) < len(tables["ES"])  # the filter is one of the gates


def test_t11_a_failed_condition_refuses_and_values_and_limits_are_kept(made, tmp_path):
    """A failure was a warning on the console, and the limits were stored as if they were results."""
    metrics = {**made.card.metrics, "out_of_sample": {"trades": 374, "eras_positive": 5}}
    card = made.card.model_copy(update={"metrics": metrics})
    rails = check_guardrails(card)
    trades = next(each for each in rails if each.name == "trades")
    assert (trades.achieved, trades.limit, trades.passed) == (374.0, 500.0, False)
    with pytest.raises(ValueError, match="these failed: trades"):
        Promotion(time=1, reason="it looks good", guardrails=rails, forced=False)
    write_bundle(tmp_path, card, made.model)
    forced = Promotion(time=1, reason="it looks good", guardrails=rails, forced=True)
    kept = load_bundle(promote(tmp_path, "ES", card.version, forced)).card.promotion
    assert kept.guardrails == rails
    assert kept.forced


def test_t11_how_sure_it_is_that_vetoes_helped_is_told_of_what_they_left_out():
    """One position at a time: to leave out a loss is no help where the next candidate loses as much."""
    rows = noise(5, 0.0).take(np.arange(400))
    won = rows.net_usd > 0
    assert sure_to_help(rows, won, seed=1) == 1.0
    assert sure_to_help(rows, ~won, seed=1) == 0.0
    assert sure_to_help(rows, np.ones(400, bool), seed=1) is None
    few = rows.take(np.arange(8))
    assert sure_to_help(few, few.net_usd > 0, seed=1) is None
    start = np.repeat(rows.labels.start_ns[::2], 2) + np.tile([0, 1], 200)
    end = np.repeat(rows.labels.start_ns[::2] + 2, 2)
    session = np.repeat(rows.labels.session[::2], 2)
    pairs = dataclasses.replace(
        rows,
        labels=Labels(session, start, end),
        exit_session=session,
        net_usd=np.full(400, -100.0),
    )
    assert sure_to_help(pairs, np.arange(400) % 2 == 1, seed=1) == 0.0


def test_t12_what_training_writes_is_what_serving_reads(made, tmp_path):
    """One trainer could not run as it was committed, and wrote keys that the loader did not know."""
    folder = write_bundle(tmp_path, made.card, made.model)
    assert verify(load_bundle(folder), CONTRACTS) == []
    settings = load_settings(overrides={"model": {"mode": "veto", "bundle": str(folder)}})
    model = models_for(settings, CONTRACTS)("ES")
    assert (model.features, model.threshold) == (made.card.features, made.card.threshold)
    rows, scores = made.card.golden.arrays()
    assert model.scorer.score(rows).tobytes() == scores.tobytes()


def test_t13_a_trial_is_worth_what_its_forest_selects_and_the_last_forest_is_of_all_rows(
    made, sample, folder, columns
):
    """Every trial had the Sharpe ratio of all trades; the model was the one of the last fold."""
    with sqlite3.connect(folder / "trials.sqlite") as db:
        found = [
            sharpe for (sharpe,) in db.execute("SELECT sharpe FROM trials WHERE study LIKE '%-all'")
        ]
    db.close()
    past, _ = before_holdout(sample)
    base = measure(past, np.ones(len(past), bool))["sharpe_per_session"]
    assert len(set(found)) == PLAN.trials == len(found)
    assert min(found) > base + 0.02
    assert made.card.metrics["search_sharpe_per_session"] == max(found)
    assert made.card.metrics["rows"]["fitted"] == len(complete(past, columns))


def test_t14_features_cannot_be_taken_from_a_model_once_written(made, tmp_path):
    """Names were deleted from the metadata of four models; the models stayed as they were."""
    folder = write_bundle(tmp_path, made.card, made.model)
    card = folder / "card.json"
    honest = card.read_text()
    edited = honest.replace(f'"{made.card.features[-1]}"', "", 1)
    assert edited != honest
    for text in (edited, honest.replace('"threshold": 0.', '"threshold": 0.0', 1)):
        card.write_text(text)
        with pytest.raises(DataError):
            load_bundle(folder)
    card.write_text(honest)
    with pytest.raises(ConfigError, match="none is ever written over"):
        write_bundle(tmp_path, made.card, made.model)


def test_t15_the_final_forest_has_the_seed_of_its_trial_and_a_threshold_of_its_own(
    made, sample, columns, folder
):
    """It was grown with another seed, and the threshold was that of other forests."""
    parameters = dict(made.card.parameters)
    with sqlite3.connect(folder / "trials.sqlite") as db:
        (seed,) = db.execute(
            "SELECT seed FROM trials WHERE study LIKE '%-all' ORDER BY sharpe DESC LIMIT 1"
        ).fetchone()
    db.close()
    assert made.card.seed == parameters["random_state"] == seed
    past, _ = before_holdout(sample)
    again = grow(past, columns, parameters)
    assert export_forest(again, len(columns)) == made.model
    folds = combinatorial(past.labels, n_groups=PLAN.groups, n_test=1, embargo=PLAN.embargo)
    rankings = [rank(past.take(split.train), PLAN) for split in folds]
    scores = out_of_fold(past, folds, rankings, parameters)
    choice = choose_threshold(past, scores, n_min=PLAN.n_selected_min)
    assert made.card.threshold == choice.threshold
    seen = choose_threshold(past, ask(again, past, columns), n_min=PLAN.n_selected_min)
    assert seen.sharpe > choice.sharpe


def test_t17_ranks_go_on_over_the_edges_of_files_and_no_trade_is_cut_there(
    bars, settings, tmp_path
):
    """Years were extracted one by one: each began to rank anew and cut its last trades short."""
    overnight = load_settings(
        overrides={
            "strategy": {
                "entry": {"windows": [], "ibs": [0.0, 0.5], "pivots": "none"},
                "exits": {"flat_by": None, "stop": None, "target": None, "ibs": None, "bars": 40},
            }
        }
    )
    frame = pl.read_parquet(bars / "ES.parquet")

    def table(*paths):
        source = open_bars(list(paths), CONTRACTS)
        (found,) = candidates(source, overnight, CONTRACTS, names=["bar_rsi5", "day_ibs"])
        return found

    whole = table(bars / "ES.parquet")
    open_then = whole.filter(pl.col("entry_time") < NEW_YEAR, pl.col("exit_time") > NEW_YEAR)
    assert len(open_then) > 5
    parts = [tmp_path / "2022.parquet", tmp_path / "2023.parquet"]
    frame.filter(pl.col("ts_event") < NEW_YEAR).write_parquet(parts[0])
    frame.filter(pl.col("ts_event") >= NEW_YEAR).write_parquet(parts[1])
    assert table(*parts).equals(whole)

    def ranks(*paths):
        source = open_bars(list(paths), CONTRACTS)
        (found,) = tabulate(source, overnight, CONTRACTS, names=["bar_ibs_rank"])
        week = pl.col("known_at").is_between(NEW_YEAR, NEW_YEAR + timedelta(days=7))
        return found.frame().filter(week)["bar_ibs_rank"]

    assert ranks(*parts).equals(ranks(bars / "ES.parquet"))
    assert ranks(*parts).null_count() == 0
    assert ranks(parts[1]).null_count() == len(ranks(parts[1]))  # no year ranks among itself


def test_t18_one_table_of_costs_for_training_and_trading(bars, tables, settings):
    """Training paid 2 USD for every contract, trading 1.25 a side, and slippage was a tick for all."""
    trades = trade(open_bars([bars], CONTRACTS), settings, CONTRACTS).trades()
    for root, table in tables.items():
        slip = 2 * settings.costs.slippage_ticks * CONTRACTS.get(root).tick_value_usd
        paid = {"commission_usd": 2 * settings.costs.commission_per_side, "slippage_usd": slip}
        for frame in (table, trades.filter(symbol=root)):
            assert len(frame) > 20
            for name, usd in paid.items():
                np.testing.assert_allclose(frame[name].to_numpy(), usd, rtol=1e-12)
            net = frame["gross_usd"] - frame["commission_usd"] - frame["slippage_usd"]
            np.testing.assert_allclose(frame["net_usd"].to_numpy(), net.to_numpy(), atol=1e-9)
        assert (table["label"] == (table["net_usd"] > 0)).all()
