"""What a fresh clone has: a model that verifies, and an example configuration that trades with it."""

from datetime import date
from pathlib import Path

import pytest

from adapters import onnx_scorer
from ibs_core.bundle import list_bundles, load_bundle, promoted
from ibs_core.cli.veto_models import models_for
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars
from ibs_core.outcome import run_backtest
from ibs_core.research.sample_data import write_sample

ROOT = Path(__file__).parent.parent
CONTRACTS = load_contract_map()


@pytest.fixture
def shipped():
    folder = promoted(ROOT / "models", "ES")
    assert folder is not None
    return load_bundle(folder)


def test_the_shipped_model_is_whole_scores_here_and_says_what_it_is(shipped):
    assert onnx_scorer.verify(shipped, CONTRACTS) == []
    assert shipped.card.generated
    assert shipped.card.promotion.forced
    assert [each.symbol for each in list_bundles(ROOT / "models")] == ["ES"]


def test_the_example_trades_with_the_shipped_model(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # models/ is looked for where the command runs
    paths = write_sample(
        tmp_path, roots=["ES", "MES"], start=date(2025, 1, 2), end=date(2025, 7, 31), seed=3
    )
    example = load_settings([ROOT / "Data" / "example.yml"])
    assert example.model.mode == "veto"
    source = open_bars([path for path in paths if path.stem == "ES"], CONTRACTS)
    found = run_backtest(source, example, CONTRACTS, models=models_for(example, CONTRACTS))
    reasons = set(found.decisions["reason"].unique())
    assert {"taken", "vetoed"} <= reasons
    assert found.decisions.filter(reason="vetoed")["score"].max() < shipped.card.threshold
    assert set(found.trades["instrument"].str.head(3)) == {"MES"}
