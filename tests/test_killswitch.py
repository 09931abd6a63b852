"""The kill switch: with real orders at stake only a plain word turns it off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs_core.killswitch import VARIABLE, expanded, state_of

OFF = {"false", "0", "no", "off"}
ON = {"true", "1", "yes", "on"}
WORDS = st.sampled_from(sorted(OFF | ON)).flatmap(
    lambda word: st.sampled_from([word, word.upper(), f" {word.title()}\n"])
)
TEXTS = st.text() | WORDS
CONFIGURED = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS


def is_on(configured, environment=None, *, is_live=True):
    return state_of(configured, environment, is_live=is_live)[0]


@given(CONFIGURED, st.none() | TEXTS)
def test_live_is_off_only_by_a_word_that_says_so(configured, environment):
    given_word = environment if configured is None else configured
    says_off = str(given_word).strip().lower() in OFF
    assert is_on(configured, environment) is not says_off


@given(CONFIGURED, st.none() | TEXTS)
def test_paper_is_on_only_by_a_word_that_says_so(configured, environment):
    given_word = environment if configured is None else configured
    says_on = str(given_word).strip().lower() in ON
    assert is_on(configured, environment, is_live=False) is says_on


@pytest.mark.parametrize(
    ("configured", "environment", "live"),
    [
        (None, None, True),
        (None, "", True),
        (None, "off", False),
        (None, " OFF ", False),
        (None, "flase", True),
        (False, "true", False),  # the configuration goes before the environment
        ("on", "off", True),
        ("", "off", True),
        (0, None, False),
        (0.0, None, True),
        ("${POLICY_KILLSWITCH}", None, True),
        ("${POLICY_KILLSWITCH}", "no", False),
        ("${POLICY_KILLSWITCH}", "${POLICY_KILLSWITCH}", True),
        ("${DESK_SWITCH}", "off", True),  # another variable than the one that was read
        ("o${POLICY_KILLSWITCH}", "ff", True),
    ],
)
def test_what_an_operator_may_write(configured, environment, live):
    assert is_on(configured, environment) is live


def test_a_placeholder_takes_its_own_variable():
    variables = {"DESK_SWITCH": "off", VARIABLE: "on"}
    assert expanded("${DESK_SWITCH}", variables) == "off"
    assert expanded(" ${POLICY_KILLSWITCH} ", variables) == "on"
    assert expanded("${OTHER}", variables) == "${OTHER}"
    assert expanded(False, variables) is False


@pytest.mark.parametrize(
    ("configured", "environment", "is_live", "texts"),
    [
        (None, None, False, ("off on paper", "POLICY_KILLSWITCH is not set")),
        (None, None, True, (": on;", "POLICY_KILLSWITCH is not set")),
        ("", None, True, (": on;", "empty")),
        ("${X}", None, True, (": on;", "placeholder", "configuration")),
        (True, None, False, (": on by killswitch of the configuration",)),
        (None, "off", True, (": off by POLICY_KILLSWITCH",)),
    ],
)
def test_it_says_why(configured, environment, is_live, texts):
    why = state_of(configured, environment, is_live=is_live)[1]
    assert all(text in why for text in texts), why
    assert "\n" not in why


def test_what_was_written_is_never_repeated():
    for is_live in (True, False):
        for given_ in (("hook-of-the-desk", None), (None, "hook-of-the-desk")):
            assert "hook" not in state_of(*given_, is_live=is_live)[1]
