"""Models of a walk-forward know their window's training sessions alone, trade as back-tests do, and are counted."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, date, datetime

import polars as pl
import pytest
from walk_forward_worlds import CONTRACTS, ROOTS, Changed, run, stages_of

from ibs_core.backtest import trade
from ibs_core.bundle import load_bundle
from ibs_core.candidate_table import candidates
from ibs_core.cli.veto_models import open_model
from ibs_core.config import Settings, load_settings
from ibs_core.errors import DataError
from ibs_core.ledger import decisions_frame
from ibs_core.market_data import open_bars
from ibs_core.market_data.memory import hold
from ibs_core.report.folder import read_run
from ibs_core.report.run import TOTAL
from ibs_core.research.sample_data import write_sample
from ibs_core.research.trial_ledger import TrialLedger
from ibs_core.sweep.candidate import CandidateMaker
from ibs_core.training.plan import Plan, Space
from ibs_core.training.train import Workshop
from ibs_core.walk_forward.fit import Fitted
from ibs_core.walk_forward.veto import VetoBench, fit_vetoes
from ibs_core.walk_forward.watched import watcher
from ibs_core.walk_forward.windows import cut_windows, marks_of

FEATURES = ("bar_ibs", "bar_rsi2", "cal_dow", "day_ibs")
RULE = "strategy: {entry: {pivots: none}}\n"
WORDS = [
    *("--grid", "strategy.entry.ibs.1=0.4,0.5", "--grid", "strategy.exits.bars=4"),
    *("--train-sessions", "50", "--test-sessions", "18"),
    *("--veto", "--features", ",".join(FEATURES), "--veto-trials", "1", "--veto-trees", "5"),
    *("--veto-min-leaf", "3", "--veto-keep", "3", "--veto-groups", "2", "--veto-embargo", "1"),
    *("--veto-candidates", "60", "--veto-seed", "2"),
]  # fmt: skip
N_SEARCHES = 3  # one on all rows, one inside each of two groups


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_sample(folder, roots=ROOTS, start=date(2024, 1, 2), end=date(2024, 4, 26), seed=3)
    return folder


@pytest.fixture(scope="module")
def held(bars):
    return hold(open_bars([bars], CONTRACTS))


@pytest.fixture(scope="module")
def walked(bars, tmp_path_factory):
    """A walk-forward with vetoes: its folder, what it told, and the words that made it."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "rule.yml").write_text(RULE)
    words = [*WORDS, "--config", str(folder / "rule.yml")]
    told = json.loads(run(bars, folder / "one", *words, "--json"))
    return folder / "one", told, words


def models_of(window):
    return {root: veto for root, veto in window["vetoes"].items() if veto["trades"]}


def test_some_models_trade_and_some_do_not(walked):
    _, told, _ = walked
    vetoes = [veto for window in told["windows"] for veto in window["vetoes"].values()]
    assert 0 < sum(veto["trades"] for veto in vetoes) < len(vetoes)
    for veto in vetoes:
        assert bool(veto["why"]) != veto["trades"]
        if veto["trades"]:
            assert veto["filtered"]["expectancy_usd"] > 0
            assert veto["filtered"]["sharpe"] > veto["base"]["sharpe"]


def test_a_window_is_the_back_test_of_its_parameters_and_bundles(walked, held):
    out, told, words = walked
    (folder,) = (out / "run").iterdir()
    stitched, seen = read_run(folder), 0
    for window in told["windows"]:
        place = out / "windows" / f"{window['number']:03d}"
        settings = load_settings([words[-1], place / "best.yml"]).in_mode("veto")
        models = {
            root: open_model(place / "models" / root / veto["version"], root, settings, CONTRACTS)
            for root, veto in models_of(window).items()
        }
        first, last = map(date.fromisoformat, window["test"])
        span = {"roots": ROOTS, "start": first, "end": last}
        # Where no model trades there is nothing to ask: the back-test of the rule alone.
        asked = settings if models else settings.in_mode("off")
        one = trade(held, asked, CONTRACTS, models=models.get, **span)
        decided = decisions_frame(one.decision_records, one.lines).filter(action="entry")
        mine = stitched.decisions.filter(action="entry").slice(seen, decided.height)
        seen += decided.height
        assert mine.equals(decided)
        assert {"vetoed"} <= set(decided["reason"]) or not models
        # What is open at the end of the sessions is carried on, and a back-test stops there.
        ended = one.trades()
        assert ended.height > 20
        assert ended.join(
            stitched.trades, on=ended.columns, nulls_equal=True, how="anti"
        ).is_empty()
    assert seen == stitched.decisions.filter(action="entry").height


def test_the_value_of_the_vetoes_is_the_difference_of_two_runs(walked, bars, tmp_path):
    out, told, words = walked
    first = words.index("--veto")
    plain = [*words[:first], *words[-2:]]
    without = json.loads(run(bars, tmp_path / "off", *plain, "--json"))
    assert without["veto"] is None
    assert "vetoes" not in without["windows"][0]
    for window, other in zip(told["windows"], without["windows"], strict=True):
        assert window["without_veto"] == other["out_of_sample"]
        assert window["parameters"] == other["parameters"]
    earned = [
        each["out_of_sample"]["net_usd"] + each["out_of_sample"]["open_usd"]
        for each in (told, without)
    ]
    assert told["veto"]["value_usd"] == earned[0] - earned[1] != 0
    low, high = told["veto"]["interval_usd"]
    assert low < high
    (folder,) = (out / "run").iterdir()
    total = read_run(folder).equity.filter(symbol=TOTAL)
    assert total["equity_usd"][-1] == pytest.approx(100_000 + earned[0])


def test_every_model_that_is_tried_is_a_trial_once(walked, bars):
    out, told, words = walked

    def counted():
        with sqlite3.connect(out.parent / "models" / "trials.sqlite") as db:
            return dict(db.execute("SELECT command, count(*) FROM trials GROUP BY command"))

    trained = sum("version" in veto for row in told["windows"] for veto in row["vetoes"].values())
    before = counted()
    assert before["sweep"] == 2 * len(told["windows"])
    assert before["model train"] >= N_SEARCHES * trained > 0
    assert told["trials"] == sum(before.values())
    held = {path: path.read_bytes() for path in (out / "windows").rglob("*") if path.is_file()}
    again = json.loads(run(bars, out, *words, "--json", "--resume"))
    assert counted() == before
    assert again | {"run": ""} == told | {"run": ""}
    assert {p: p.read_bytes() for p in (out / "windows").rglob("*") if p.is_file()} == held


def test_the_bundle_of_a_window_is_of_its_training_sessions_and_cannot_be_promoted(walked):
    from ibs_core.training.guardrails import check_guardrails

    out, told, _ = walked
    for window in told["windows"]:
        for root, veto in models_of(window).items():
            folder = out / "windows" / f"{window['number']:03d}" / "models" / root / veto["version"]
            card = load_bundle(folder).card
            assert card.window.last_label_end < card.created
            first, last = (date.fromisoformat(day) for day in window["train"])
            decided, made = (
                datetime.fromtimestamp(ns / 1e9, UTC).date()
                for ns in (card.window.first_decision, card.created)
            )
            assert abs((decided - first).days) <= 7
            assert made == last
            assert not all(each.passed for each in check_guardrails(card))


def test_the_report_tells_of_models(walked):
    out, told, _ = walked
    page = (out / "report.html").read_text()
    assert "Models, out of fold in the training sessions" in page
    assert "Test sessions with the vetoes and without" in page
    assert any(line.startswith("the vetoes were worth") for line in told["told"])


# ---------------------------------------------------------------- no look-ahead


def vetoes_on(source, window, folder, n_min=60, roots=("ES",)):
    """Train the models of one window with given parameters; return them with the bytes of their files."""
    settings = Settings.model_validate(
        {"strategy": {"entry": {"pivots": "none"}, "exits": {"flat_by": None, "ibs": None}}}
    )
    paths = ("strategy.entry.ibs.1", "strategy.exits.bars")
    maker = CandidateMaker(settings, CONTRACTS, roots, start=None, end=None, paths=paths)
    stages = stages_of(source, roots, models=watcher(FEATURES, CONTRACTS, source.roots))
    made = []
    workshop = Workshop(
        contracts=CONTRACTS, ledger=TrialLedger(folder / "trials.sqlite"),
        studies=folder / "searches.sqlite", open_model=opened_bytes,
        clock=lambda: 1, progress=lambda _what, _n: None,
    )  # fmt: skip
    plan = Plan(
        trials=1, groups=2, test_groups=1, embargo=1, n_train_min=10, n_test_min=3,
        n_selected_min=3, screen_trees=5, space=Space(trees=(5,), min_leaf=(3,), keep=(3,)), jobs=1,
    )  # fmt: skip
    bench = VetoBench(
        stages, FEATURES, plan, n_min, workshop, "d" * 64, True,
        lambda _number, trained, _settings: made.append(trained) or None,
    )  # fmt: skip
    vetoes = fit_vetoes(bench, Fitted(window, maker.make((0.4, 3)), None), roots)
    return vetoes, [each.model for each in made], maker


def opened_bytes(model):
    from adapters.onnx_scorer import OnnxScorer

    return OnnxScorer(model)


@pytest.fixture(scope="module")
def window(held):
    maker = CandidateMaker(Settings(), CONTRACTS, ROOTS, start=None, end=None, paths=())
    marks = marks_of(stages_of(held).get(maker.make(())), ROOTS)
    sizes = {"train_sessions": 50, "test_sessions": 18, "embargo": 0, "anchored": False}
    return cut_windows(marks, **sizes)[0]


def spelt(vetoes):
    return {
        root: (veto.candidates, veto.why, veto.card and veto.card.model_dump_json())
        for root, veto in vetoes.items()
    }


def test_no_bar_after_the_training_end_changes_a_model(held, window, tmp_path):
    plain, files, _ = vetoes_on(held, window, tmp_path / "as-it-is")
    assert any(veto.card for veto in plain.values())
    until = window.train_ends_ns
    found, changed, _ = vetoes_on(Changed(held, until, 1.5), window, tmp_path / "changed")
    assert spelt(found) == spelt(plain)
    assert changed == files
    before = until - 5 * 86_400 * 10**9
    found, _, _ = vetoes_on(Changed(held, before, 1.01), window, tmp_path / "before")
    assert spelt(found) != spelt(plain)


def test_candidates_are_those_of_a_dataset_of_the_training_sessions(held, window, tmp_path):
    vetoes, _, maker = vetoes_on(held, window, tmp_path, n_min=100_000, roots=ROOTS)
    ended = held.between(until_ns=window.train_ends_ns)
    frames = candidates(
        ended, maker.make((0.4, 3)).settings, CONTRACTS, roots=ROOTS, names=FEATURES
    )
    for root, frame in zip(ROOTS, frames, strict=True):
        own = frame.filter(pl.col("session").is_between(*window.train))
        assert vetoes[root].candidates == own.height > 60


# ---------------------------------------------------------------- what cannot be trained


def test_too_few_candidates_are_told_and_traded_without(held, window, tmp_path):
    vetoes, files, _ = vetoes_on(held, window, tmp_path, n_min=100_000)
    assert not files
    for veto in vetoes.values():
        assert veto.why == f"{veto.candidates} candidates, fewer than 100000"
        assert veto.model is None
    assert not (tmp_path / "trials.sqlite").exists()


def test_a_training_without_a_model_is_told_and_traded_without(held, window, tmp_path, monkeypatch):
    from ibs_core.walk_forward import veto as module

    def fails(*_given, **_more):
        raise DataError("no trial selected enough")

    monkeypatch.setattr(module, "train_on_all", fails)
    vetoes, _, _ = vetoes_on(held, window, tmp_path)
    assert {veto.why for veto in vetoes.values()} == {"no trial selected enough"}


def test_a_window_without_a_choice_has_no_model(window):
    assert fit_vetoes(None, Fitted(window, None, None), ROOTS) == {}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([*WORDS[:8], "--features", "bar_ibs"], 2, "--features: only with --veto"),
        ([*WORDS[:8], "--veto-seed", "3", "--veto-keep", "4"], 2, "only with --veto"),
        ([*WORDS[:8], "--veto", "--features", "bar_ibz"], 2, "did you mean"),
        ([*WORDS[:8], "--veto", "--features", "x_vix_day_ret"], 2, "bars"),
        ([*WORDS[:8], "--veto", "--veto-trees", "many"], 2, "--veto-trees"),
    ],
)
def test_a_veto_that_cannot_be_is_told_in_words(bars, tmp_path, words, code, told):
    assert told in run(bars, tmp_path / "out", *words, code=code)
    assert not (tmp_path / "out").exists()
