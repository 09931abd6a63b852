"""The catalogue: which features there are, what they need, and the pages that tell of them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ibs_core.catalogue import load_catalogue, resolve
from ibs_core.cli.data import data
from ibs_core.config import Members, Settings, load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError
from ibs_core.wiring import wire

DOCS = Path(__file__).parents[1] / "docs"
MAP = load_contract_map()
CATALOGUE = load_catalogue(MAP)

# Worked out by hand from the definitions: bars before the first value, and before every window is
# full where that is later. A change needs one bar more than its span, a Wilder average of changes or
# true ranges too; windows over windows add up, less the bar they share.
OWN = {
    "ibs": 1,
    "ibs_prev": 2,
    "ret1_pct": 2,
    "ret4_pct": 5,
    "close_px": 1,
    "rsi2": 3,
    "rsi5": 6,
    "rsi14": 15,
    "atr_z": 257,  # ATR(5) from bar 6
    "vol_z": 256,  # SMA(5) from bar 5
    "atr_pctile": (15, 266),
    "tr_atr": 21,
    "range_atr": 15,
    "nr7": 7,
    "inside_bar": 3,
    "twrc": 101,
    "price_z": 20,
    "dist_z": 21,
    "mom3_z": 23,  # C - C[-3] from bar 4
    "bb_pctb": 20,
    "bb_high": 20,
    "bb_width": 20,
    "donchian_state": 21,
    "donchian_prox": 21,
    "psar_dist": 15,  # the stop from bar 2, ATR(14) from bar 15
    "ema8_above": 8,
    "ema20_above": 20,
    "ema50_above": 50,
    "ema200_above": 200,
    "above_sma200": 200,
    "ema_slope": 25,
    "ema_spread": 50,
    "adx14": 28,
    "eff_ratio": (6, 61),
    "bear_count": 2,
    "bull_count": 2,
    "pivot_state": 11,  # at the earliest
    "pivot_hh": 17,  # two pivots in a row stand at least 6 bars apart
    "zone_dist_atr": 15,
    "ibs_x_atr_z": 257,
    "ibs_x_vol_z": 256,
    "rsi5_x_atr_z": 257,
    "rsi5_x_vol_z": 256,
}
RANKED = {
    "ibs_rank": 1,
    "ibs_prev_rank": 2,
    "ret1_rank": 2,
    "rsi2_rank": 3,
    "rsi5_rank": 6,
    "atr_z_rank": 257,
    "vol_z_rank": 256,
    "tr_atr_rank": 21,
    "price_z_rank": 20,
    "dist_z_rank": 21,
    "mom3_z_rank": 23,
    "bb_pctb_rank": 20,
    "bear_count_rank": 2,
    "pair_ibs_rank": 1,
    "pair_rsi14_rank": 15,
    "pair_z_rank": 20,
}
"""Ranks, and the first bar of what they rank."""
WITH_PAIR = {"pair_ibs": 1, "pair_rsi14": 15, "pair_z": 20}
OTHER = {"ret": 2, "z": 253, "sd": 253}  # a log return from bar 2
RANK_OF = {"bar": (2520, 252), "day": (504, 60)}
SINGLE = {
    "bar_drift50": 51,
    "day_drift20": 21,
    "bar_above_prev_close": 1,
    "day_vix": 1,
    "day_vix_rank": (60, 504),
    "day_vix_median": 100,
    "day_vix_regime": 100,
    "day_ret1_x_vix": 2,
    "day_rsi5_x_vix": 6,
    "day_tlt_above_sma20": 20,
    "cal_dow": 1,
    "cal_month": 1,
    "cal_late_month": 1,
    "cal_week_start": 1,
    "cal_even_day": 1,
    "cal_session": 1,
    "cal_open_close": 1,
}
LITERAL = {
    "bar_ibs_rank": (252, 2520),
    "bar_ibs_prev_rank": (253, 2521),
    "bar_atr_z_rank": (508, 2776),
    "day_atr_z_rank": (316, 760),
    "bar_mom3_z_rank": (274, 2542),
    "day_pair_rsi14_rank": (74, 518),
}
"""Ranks again, as numbers."""


def expected():
    """Give every feature of the shipped map with its first value and full windows."""
    numbers = dict(SINGLE)
    for side, (window, least) in RANK_OF.items():
        numbers |= {f"{side}_{stem}": need for stem, need in (OWN | WITH_PAIR).items()}
        numbers |= {
            f"{side}_{stem}": (first + least - 1, first + window - 1)
            for stem, first in RANKED.items()
        }
        for root in (*MAP.contracts, *MAP.reference_feeds):
            numbers |= {f"x_{root.lower()}_{side}_{stem}": need for stem, need in OTHER.items()}
    return {
        name: need if isinstance(need, tuple) else (need, need) for name, need in numbers.items()
    }


EXPECTED = expected()


def test_the_catalogue_holds_what_the_definitions_name_and_nothing_else():
    assert set(CATALOGUE) == set(EXPECTED)
    assert len(CATALOGUE) == 369
    assert all(name == feature.name for name, feature in CATALOGUE.items())


def test_warm_ups_are_those_worked_out_by_hand():
    found = {name: (each.warmup, each.full) for name, each in CATALOGUE.items()}
    assert found == EXPECTED
    assert {name: found[name] for name in LITERAL} == LITERAL


def test_two_features_never_have_the_same_name_or_the_same_meaning():
    # A name is a key, so a second feature of it would be lost: count what the parts make.
    sides = 2 * (len(OWN) + len(WITH_PAIR) + len(RANKED))
    roots = len(MAP.contracts) + len(MAP.reference_feeds)
    assert len(CATALOGUE) == sides + len(SINGLE) + 2 * len(OTHER) * roots
    nodes = [each.node for each in CATALOGUE.values()]
    assert len(set(nodes)) == len(nodes)


def test_the_data_decide_when_stops_pivots_runs_and_spells_settle():
    undecided = {"psar_dist", "twrc", "bear_count", "bear_count_rank", "bull_count"}
    undecided |= {"pivot_state", "pivot_hh", "zone_dist_atr"}
    found = {name for name, each in CATALOGUE.items() if each.settles is None}
    held = {"bar_above_prev_close"}  # until a session ends after the start
    assert found == held | {f"{side}_{stem}" for side in RANK_OF for stem in undecided}
    waiting = {name for name, each in CATALOGUE.items() if each.node.waits}
    assert waiting == {name for name in found if re.search("pivot|zone", name)}
    assert all(each.settles is None or each.settles >= each.full for each in CATALOGUE.values())


@pytest.mark.parametrize("name", ["bar_price_z", "day_nr7", "bar_vol_z_rank", "x_es_bar_z"])
def test_what_has_only_windows_settles_once_they_are_full(name):
    assert CATALOGUE[name].settles == CATALOGUE[name].full


@pytest.mark.parametrize("feature", CATALOGUE.values(), ids=lambda feature: feature.name)
def test_units_and_ranges_agree_with_each_other(feature):
    assert feature.formula
    assert feature.unit
    assert feature.low < feature.high
    assert 1 <= feature.warmup <= feature.full
    if math.isfinite(feature.high):
        numbers = [float(each) for each in re.findall(r"-?\d+", feature.unit)]
        assert (numbers[0], numbers[-1]) == (feature.low, feature.high)
    else:
        assert feature.low in (0, -math.inf)
        assert re.search("[a-zA-Z%]", feature.unit)
    if feature.name.endswith(("_rank", "_ibs", "_ibs_prev")):
        assert (feature.low, feature.high) == (0, 1)
    if feature.name.endswith("_above") or re.search("_above_|nr7|inside_bar", feature.name):
        assert feature.unit == "0 or 1"


def test_the_side_of_a_feature_is_in_its_name():
    for name, feature in CATALOGUE.items():
        words = name.split("_")
        assert feature.side == (words[2] if words[0] == "x" else words[0])


def test_models_may_read_all_but_price_levels():
    barred = {name for name, feature in CATALOGUE.items() if not feature.for_models}
    assert barred == {"bar_close_px", "day_close_px"}


def test_features_of_reference_feeds_need_their_feed():
    bare = load_catalogue(replace(MAP, reference_feeds={}))
    assert CATALOGUE.keys() - bare.keys() == {
        name for name in CATALOGUE if re.search("vix|tlt", name)
    }


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("bar_rsi22", "bar_rsi2"),
        ("bar_ibs_rnak", "bar_ibs_rank"),
        ("day_adx_14", "day_adx14"),
        ("cal_mnth", "cal_month"),
        ("x_es_barz", "x_es_bar_z"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError) as caught:
        resolve(name, MAP, where="strategy.filters")
    assert "strategy.filters" in str(caught.value)
    assert f"did you mean {nearest!r}?" in str(caught.value)


def test_a_name_like_no_other_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="`ibs data features`"):
        resolve("qqq", MAP, where="strategy.filters")


# The list on the command line


def listed(*words):
    result = CliRunner().invoke(data, ["features", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_lists_every_feature_once_in_both_forms():
    head, *lines = listed().splitlines()
    assert head.split() == ["name", "first", "full", "of", "formula"]
    assert [line.split()[0] for line in lines] == list(CATALOGUE)
    rows = {row["name"]: row for row in json.loads(listed("--json"))}
    assert rows.keys() == CATALOGUE.keys()
    assert rows["day_atr_z"]["of"] == "sessions"
    assert (rows["bar_psar_dist"]["settles"], rows["bar_ibs"]["high"]) == (None, 1)
    assert rows["bar_tr_atr"]["high"] is None


def test_the_command_lists_the_features_of_the_configured_map(tmp_path):
    tree = yaml.safe_load((DOCS.parent / "Data" / "Databento_contract_map.yml").read_text("utf-8"))
    tree["contracts"] = {root: tree["contracts"][root] for root in ("ES", "NQ")}
    tree.pop("reference_feeds")
    (tmp_path / "map.yml").write_text(yaml.safe_dump(tree))
    (tmp_path / "my.yml").write_text(yaml.safe_dump({"contract_map": str(tmp_path / "map.yml")}))
    rows = json.loads(listed("--json", "--config", str(tmp_path / "my.yml")))
    names = [row["name"] for row in rows]
    assert {name.split("_")[1] for name in names if name.startswith("x_")} == {"es", "nq"}
    assert not any("vix" in name for name in names)


# The pages


def rows_of(page, first_cell):
    """Give the cells of the table rows whose first cell looks like that."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    found = [line for line in lines if re.match(rf"\| {first_cell} \|", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found]


def test_the_page_of_features_names_each_once():
    cells = [row[0] for row in rows_of("features.md", "`[a-z0-9_<>]+`.*?")]
    named = [name.strip("`") for cell in cells for name in cell.split(", ")]
    assert len(set(named)) == len(named)
    assert set(named) == {re.sub(r"^x_[a-z0-9]+_", "x_<root>_", name) for name in CATALOGUE}


GATES = rows_of("filters.md", r"\d+.*?")
LINES = [(row[1].strip("`"), line) for row in GATES for line in re.findall("`([^`]+)`", row[2])]


def test_every_gate_of_the_reference_has_a_line_of_its_own():
    assert [int(row[0].rstrip(" †")) for row in GATES] == list(range(1, 73))
    assert {flag for flag, _ in LINES} == {row[1].strip("`") for row in GATES}
    assert len({line for _, line in LINES}) == len(LINES)


@pytest.mark.parametrize(("flag", "line"), LINES, ids=str)
def test_every_line_for_a_gate_is_a_configuration(tmp_path, flag, line):
    tree = yaml.safe_load(line)
    (key,) = tree
    if key not in Settings.model_fields:
        line = f"strategy: {{{line}}}" if key == "entry" else f"strategy: {{filters: {{{line}}}}}"
    (tmp_path / "gate.yml").write_text(line)
    filters = load_settings([tmp_path / "gate.yml"]).strategy.filters
    assert (key in filters) == (key not in {"entry", "model"})
    for name, test in filters.items():
        feature = resolve(name, MAP, where="strategy.filters")
        ends = test.members if isinstance(test, Members) else set(test) - {-999, 999}
        assert all(feature.low <= end <= feature.high for end in ends)


def test_the_windows_of_a_spread_must_be_full_of_the_pair_too():
    wiring = wire([CATALOGUE["bar_pair_z_rank"].node, CATALOGUE["day_pair_z"].node])
    assert wiring.pair_on == {"bar": 20 + 2520 - 1, "day": 20}
    assert wire([CATALOGUE["bar_pair_ibs"].node]).pair_on == {}
