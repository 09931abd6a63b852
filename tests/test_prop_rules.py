"""Rule sets read as data, and the same limits in a configuration and in the live guard."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from guard_book import Book

from ibs_core import positions
from ibs_core.config import Risk, Settings, load_settings
from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.prop_rules import PropRules, load_rules, risk_of, unkept
from ibs_core.report.rule_outcomes import FAILURES, UNDECIDED, judged, walked
from ibs_core.report.session_moves import MICRO, Moves

EXAMPLES = sorted((Path(__file__).parents[1] / "Data" / "prop-rules").glob("*.yml"))
PAGE = Path(__file__).parents[1] / "docs" / "monte-carlo.md"
FULL = PropRules(
    name="full",
    drawdown={"usd": 2000},
    daily_loss={"usd": 1000},
    flat_by="15:10",
    max_quantity=3,
    max_total_quantity=5,
)
KEPT = {
    "risk": {"daily_loss_usd": 1000},
    "symbols": {"ES": {"quantity": 3}, "NQ": {"quantity": 2}},
}


def settings(changes=None, **exits):
    tree = {**KEPT, **(changes or {})}
    tree["strategy"] = {**tree.get("strategy", {}), "exits": exits}
    return Settings.model_validate(tree)


def broken(found, roots=("ES", "NQ")):
    return unkept(FULL, found, roots)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_load_and_name_nobody(path):
    rules = load_rules(path)
    assert rules.name.startswith("example")
    assert rules.drawdown is not None
    assert rules.profit_target_usd is not None


def test_there_are_two_examples():
    assert len(EXAMPLES) == 2


def test_the_rule_set_of_the_manual_is_one_and_says_every_key(tmp_path):
    (text,) = [part.split("```")[0] for part in PAGE.read_text("utf-8").split("```yaml\n")[1:]]
    (tmp_path / "rules.yml").write_text(text)
    assert load_rules(tmp_path / "rules.yml")
    assert yaml.safe_load(text).keys() == PropRules.model_fields.keys()


def test_a_configuration_within_all_limits_keeps_the_rules():
    assert broken(settings()) == ()


def test_guards_made_from_the_rules_keep_them():
    large = {"ES": {"quantity": 30}, "NQ": {"quantity": 20}}
    guarded = settings({"risk": risk_of(FULL).model_dump(), "symbols": large})
    assert broken(guarded) == ()
    assert len(broken(settings({"symbols": large}))) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"risk": {}}, "risk.daily_loss_usd is off, the rule is 1000"),
        ({"risk": {"daily_loss_usd": 1000.01}}, "risk.daily_loss_usd is 1000.01"),
        ({"symbols": {"ES": {"quantity": 4}}}, "risk.max_quantity is off, the rule is 3"),
        (
            {"symbols": {"ES": {"quantity": 3}, "NQ": {"quantity": 3}}},
            "risk.max_total_quantity is off, the rule is 5",
        ),
    ],
)
def test_each_limit_that_live_would_not_hold_is_told(changes, said):
    (line,) = broken(settings(changes))
    assert line.startswith(said)


def test_only_symbols_that_are_traded_count():
    larger = settings({"symbols": {"ES": {"quantity": 3}, "NQ": {"quantity": 30}}})
    assert broken(larger, ["ES"]) == ()
    assert broken(larger)


@pytest.mark.parametrize(
    ("signal_bar", "flat_by", "kept"),
    [
        ("1h", "15:00", True),
        ("1h", "14:30", True),  # leaves at 15:00
        ("1h", "15:10", False),  # leaves at 16:00
        ("5m", "15:10", True),
        ("5m", "15:11", False),
        ("4h", "13:00", True),
        ("4h", "13:01", False),  # leaves at the session's close
        ("1h", "18:00", True),  # the evening before
        ("1h", None, False),
    ],
)
def test_flat_by_is_when_the_bar_ends_at_which_a_position_leaves(signal_bar, flat_by, kept):
    found = settings({"strategy": {"signal_bar": signal_bar}}, flat_by=flat_by)
    assert (broken(found, ["ES"]) == ()) == kept


def test_a_symbols_own_rule_and_early_closes_count():
    own = {"NQ": {"strategy": {"exits": {"flat_by": None}}}}
    (line,) = broken(settings({"symbols": own}))
    assert line == "NQ has no flat_by, the rule is 15:10"
    assert len(broken(settings(flat_before_early_close=False))) == 2


def test_rules_that_are_off_ask_nothing():
    free = PropRules(name="free", drawdown={"usd": 1})
    assert unkept(free, settings(flat_by=None), ["ES"]) == ()
    assert risk_of(free) == Risk()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\ndrawdwon: {usd: 1}", "did you mean 'drawdown'"),
        ('name: ""', "name"),
        ("name: x\ndrawdown: {usd: 0}", "drawdown.usd: expected a number above 0"),
        ("name: x\ndrawdown: {usd: 5, locks_at_usd: -6}", "at least -5"),
        ("name: x\ndrawdown: {usd: 5, trails: daily}", "'intraday', 'close' or 'never'"),
        ('name: x\nflat_by: "17:00"', 'flat_by: expected an exchange time before "17:00"'),
        ("name: [", "valid YAML"),
    ],
)
def test_a_rule_set_that_cannot_be_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "rules.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_rules(path)
    assert "rules.yml" in str(caught.value)


def test_rules_without_a_name_take_that_of_their_file(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("drawdown: {usd: 1}")
    assert load_rules(path).name == "mine"


def test_a_missing_file_of_rules_is_told_with_its_option(tmp_path):
    with pytest.raises(EnvironmentFault, match="--rules"):
        load_rules(tmp_path / "none.yml")


@pytest.mark.parametrize("loss", [995.0, 1000.0, 1005.0])
def test_the_guard_halts_at_the_loss_at_which_a_path_fails(loss):
    book = Book([("ES", "MES", 1)], **risk_of(FULL).model_dump(exclude_none=True))
    book.hold(0, 5000.0)
    book.minute(0, 5000.0 - loss / 5)  # 5 USD a point
    halted = book.slice()[1] == {0: positions.PORTFOLIO}
    low = np.array([round(-loss * MICRO)])
    moves = Moves(np.zeros(1, np.int64), np.zeros(1, np.int64), low, np.zeros(1, np.int64))
    verdict, _ = judged(FULL, walked(moves, np.zeros((1, 1), np.int64)))
    assert verdict[0] == (FAILURES["daily_loss"] if halted else UNDECIDED)
    assert halted == (loss >= 1000)


def test_the_settings_that_a_run_stores_are_those_that_are_checked(tmp_path):
    from ibs_core.config import resolved_yaml

    path = tmp_path / "config.resolved.yml"
    path.write_text(resolved_yaml(settings(flat_by="15:30")))
    assert broken(load_settings([path])) == broken(settings(flat_by="15:30")) != ()
