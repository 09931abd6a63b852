"""The models of a run: what is refused, what is told, and that it reaches the reader."""

from __future__ import annotations

import json
import sys
from datetime import date

import polars as pl
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

from sample_bundle import tradable_bundle

from ibs_core.bundle import load_bundle, write_bundle
from ibs_core.cli.main import run
from ibs_core.cli.veto_models import models_for
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError
from ibs_core.research.sample_data import write_sample

MAP = load_contract_map()
FEATURES = ("bar_rsi2", "bar_ret1_pct", "bar_atr_z", "day_ibs", "bar_ibs", "bar_rsi5")
PRESENT = load_settings().strategy.model_dump(mode="json", by_alias=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(tradable_bundle(tmp_path_factory.mktemp("made"), "ES", FEATURES))


@pytest.fixture
def opened(bundle, tmp_path):
    """A function that opens the model of ES from a bundle whose card says something else."""

    def open_(strategy=None, **fields):
        fields["strategy"] = PRESENT if strategy is None else strategy
        folder = write_bundle(tmp_path, bundle.card.model_copy(update=fields), bundle.model)
        settings = load_settings(overrides={"model": {"mode": "veto", "bundle": str(folder)}})
        return models_for(settings, MAP)("ES")

    return open_


def changed(**sections):
    return PRESENT | {
        name: value if name == "signal_bar" else PRESENT[name] | value
        for name, value in sections.items()
    }


def test_a_model_of_the_same_rule_and_contract_map_has_no_notes(opened):
    assert opened().notes == ()
    assert opened(version="2", strategy=PRESENT | {"cooldown_bars": 3}).notes == ()


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"entry": {"ibs": [0.0, 0.3]}}, "entry.ibs [0.0, 0.3] -> [0.0, 0.2]"),
        ({"entry": {"windows": []}}, "entry.windows [] -> [[00:00, 15:00], [17:00, 24:00]]"),
        ({"entry": {"pivots": "none"}}, "entry.pivots none -> inside"),
        ({"filters": {"bar_rsi2": [0, 40]}}, "filters.bar_rsi2 [0, 40] -> none"),
        ({"exits": {"bars": 4, "stop": None}}, "exits.bars 4 -> 8; exits.stop none -> {percent: 1.0, atr: null}"),
    ],
)  # fmt: skip
def test_candidates_of_another_rule_are_told(opened, sections, told):
    (note,) = opened(changed(**sections)).notes
    version = "model of ES, version 2025-01, was trained on candidates of another rule"
    assert note == f"{version}: {told}"


def test_what_a_card_does_not_say_is_told_once_and_not_guessed(opened):
    (note,) = opened({}).notes
    assert "does not say by which rule" in note
    assert opened({"signal_bar": "1h", "entry": {"ibs": [0.0, 0.2]}}, version="2").notes == ()


def test_another_contract_map_is_told(opened):
    (note,) = opened(contract_map_digest="0" * 64).notes
    assert "was trained with another contract map" in note


def test_bars_of_another_width_are_refused(opened):
    with pytest.raises(ConfigError, match="expected one trained on 1h bars, found 5m bars"):
        opened(changed(signal_bar="5m"))


def test_notes_and_the_training_window_reach_the_printed_run_and_the_report(
    bundle, tmp_path, monkeypatch, capsys
):
    rule = changed(entry={"ibs": [0.0, 0.3]})
    folder = write_bundle(tmp_path, bundle.card.model_copy(update={"strategy": rule}), bundle.model)
    config = tmp_path / "config.yml"
    config.write_text(f"model: {{mode: veto, bundle: '{folder}'}}\n")
    write_sample(
        tmp_path / "bars", roots=["ES"], start=date(2023, 1, 3), end=date(2023, 2, 28), seed=3
    )
    words = ("--parquet", tmp_path / "bars", "--config", config, "--out", tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["ibs", "backtest", *map(str, words)])
    run()
    (made,) = (tmp_path / "runs").iterdir()
    n_trades = pl.read_parquet(made / "trades.parquet").height
    assert n_trades > 5
    stats = json.loads((made / "stats.json").read_text())
    assert (stats["total"]["trades"], stats["total"]["net_usd"]) == (0, None)
    assert stats["inside_training"]["total"]["trades"] == n_trades
    printed, page = capsys.readouterr().out, (made / "report.html").read_text()
    for line in (
        f"{n_trades} of {n_trades} trades lie in the training window of ES 2025-01; headline numbers leave them out",
        "was trained on candidates of another rule: entry.ibs [0.0, 0.3]",
        "no trade lies outside: there is no out-of-sample result",
    ):
        assert line in printed
    assert "was trained on candidates of another rule: entry.ibs [0.0, 0.3]" in page
    assert "No out-of-sample trade" in page  # what lies inside has a banner of its own
