"""A secret in the wrong place is refused, and no output, journal or heartbeat repeats it."""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from live_worlds import RULE, make_world

from adapters.sqlite_journal import SqliteJournal
from ibs_core.cli import main
from ibs_core.config import load_settings
from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.killswitch import kept, state_of
from ibs_core.secret import is_secret, secret_of, shown

PASSWORD, UUID = "Its-Secret-Word", "0badcafe-2222-4333-8444-555555555555"
URL = f"https://webhooks.traderspost.io/trading/webhook/{UUID}/{PASSWORD}"
KEY = "db-" + "K" * 29
HOOK, ALERTS = "${TRADERSPOST_WEBHOOK_URL}", "${IBS_ALERT_URLS}"

REFUSED = {
    "the address for its variable": {"routes": {"desk": {"kind": "paper", "webhook": HOOK}}},
    "its last parts": {"routes": {"desk": {"kind": "paper", "webhook": f"{UUID}/{PASSWORD}"}}},
    "a list": {"routes": {"desk": {"kind": "paper", "webhook": [PASSWORD]}}},
    "the kind": {"routes": {"desk": {"kind": HOOK}}},
    "the kind, its last part": {"routes": {"desk": {"kind": PASSWORD}}},
    "the name of a route": {"routes": {URL: {"kind": "demo"}}},
    "the name, its last part": {"routes": {PASSWORD: {"kind": "demo"}}},
    "a key of a route": {"routes": {"desk": {"kind": "demo", URL: 1}}},
    "a key, its last part": {"routes": {"desk": {"kind": "demo", PASSWORD: 1}}},
    "a route": {"routes": {"desk": HOOK}},
    "a route, its last part": {"routes": {"desk": PASSWORD}},
    "all routes": {"routes": HOOK},
    "all routes, its last part": {"routes": PASSWORD},
    "an env file": {"routes": {"desk": {"kind": "demo", "env_file": URL}}},
    "addresses": {"alerts": {"addresses": ALERTS}},
    "addresses without a scheme": {"alerts": {"addresses": PASSWORD}},
    "alerts": {"alerts": ALERTS},
    "a key of alerts": {"alerts": {URL: None}},
    "events": {"monitoring": {"webhook": HOOK}},
    "the file of events": {"monitoring": {"events": HOOK}},
    "the heartbeat": {"monitoring": {"heartbeat": URL}},
    "a port": {"monitoring": {"metrics_port": PASSWORD}},
    "monitoring": {"monitoring": [URL]},
    "a check to skip": {"preflight": {"skip": [URL]}},
    "a section": {URL: {}},
    "a symbol": {"symbols": {URL: {}}},
    "a filter": {"strategy": {"filters": {HOOK: [0, 1], URL: [0, 1]}}},
    "a number": {"capital": HOOK},
    "a key of the vendor": {"capital": "${DATABENTO_API_KEY}"},
    "the contract map": {"contract_map": HOOK},
}
TEXTS = {
    "nothing else": URL,
    "twice": f'"{URL}": 1\n"{URL}": 2\n',
    "a tag": f"capital: !{URL} 1",
    "under an unset variable": f'"{URL}": ${{IBS_UNSET}}',
}
ROUTE_OPTIONS = {"the address": URL, "its last parts": f"{UUID}/{PASSWORD}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(
        tmp_path_factory.mktemp("world"),
        date(2024, 1, 15),
        date(2024, 1, 16),
        rule=RULE | {"symbols": {"ES": {}}},
    )


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TRADERSPOST_WEBHOOK_URL", URL)
    monkeypatch.setenv("IBS_ALERT_URLS", f"json://127.0.0.1:1/{PASSWORD}")
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("POLICY_KILLSWITCH", "IBS_UNSET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path_factory):
    """Write a configuration where files are not searched."""

    def write(tree):
        path = tmp_path_factory.mktemp("config") / "ibs.yml"
        path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
        return path

    return write


@pytest.fixture
def told(tmp_path, monkeypatch, capfd):
    """Run a command as from a shell; no secret is in what it wrote anywhere."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
        try:
            main.run()
            code = 0
        except SystemExit as done:
            code = done.code
        out, err = capfd.readouterr()
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        for secret in (PASSWORD, UUID, KEY):
            assert secret not in out
            assert secret not in err
            assert secret.encode() not in written
            assert not any(secret in str(path) for path in tmp_path.rglob("*"))
        return code, out + err

    return run


def commands(world, config):
    start = ("--config", config, "--symbols", "ES", "--journal", "live/day.sqlite")
    return (
        ("config", "validate", "--config", config),
        ("config", "show", "--config", config),
        ("preflight", *start, "--history", world.bars, "--gateway", "127.0.0.1:1"),
        ("run-live", *start, "--replay", world.bars, "--speed", "max"),
    )


@pytest.mark.parametrize("case", [*REFUSED, *TEXTS])
def test_a_secret_in_a_configuration_is_refused_and_shown_nowhere(world, config, told, case):
    path = config(REFUSED.get(case) or TEXTS[case])
    for words in commands(world, path):
        code, text = told(*words)
        assert code == 2, text
        assert "not shown" in text, text


@pytest.mark.parametrize("case", ROUTE_OPTIONS)
def test_a_secret_given_as_the_route_is_refused_with_the_advice_to_change_it(
    world, config, told, case
):
    for words in commands(world, config({}))[2:]:
        for armed in ((), ("--armed",)):
            code, text = told(*words, "--route", ROUTE_OPTIONS[case], *armed)
            assert code == 2
            assert "in your shell's history: rotate it" in text
    assert ("it looks like an address" in text) is (case == "the address")


def test_a_secret_given_as_a_file_or_a_check_is_not_repeated(world, config, told):
    assert told("config", "show", "--config", URL)[0] == 3
    *_, (preflight, *words), _ = commands(world, config({}))
    code, text = told(preflight, *words, "--skip", URL)
    assert code == 2
    assert "there are kill_switch, models, " in text


@pytest.mark.parametrize("written", [URL, PASSWORD, [PASSWORD], {PASSWORD: URL}])
def test_a_secret_as_the_kill_switch_is_on_for_real_orders_and_kept_nowhere(
    world, config, told, written
):
    path = config(RULE | {"symbols": {"ES": {}}, "killswitch": written})
    for words in commands(world, path)[:3]:
        told(*words)
    assert state_of(load_settings([path]).killswitch, "off", is_live=True)[0]


def test_nor_is_it_in_the_journal_of_a_run(world, config, told):
    path = config(RULE | {"symbols": {"ES": {}}, "killswitch": URL})
    code, text = told(*commands(world, path)[3])
    assert code == 0, text
    with SqliteJournal(Path("live/day.sqlite"), read_only=True) as held:
        assert "killswitch: <other>" in held.runs()[-1].facts["config"]


def test_what_turns_the_switch_is_kept_as_it_was_written():
    for written in (None, True, False, 0, 1, "off", " YES\n", "${DESK_SWITCH}"):
        assert kept(written) is written
    for written in ("", "offf", "o${X}", 2, 0.0, [], {}, ["off"]):
        assert kept(written) == "<other>"


@pytest.mark.parametrize(
    ("routes", "text"),
    [
        ({"desk": {"kind": "paper", "webhook": "small"}}, "routes.desk.webhook: expected the NAME"),
        ({"desk": {"kind": "demo", "webhok": "X"}}, "did you mean 'webhook'?"),
        ({"file": {"kind": "demo"}}, "`file` is where orders go without a webhook"),
        ({"Desk": {"kind": "demo"}}, "a small letter"),
        ({"real": {"kind": "live"}}, "routes.real: expected `webhook:`"),
        (
            {
                "desk": {"kind": "paper", "webhook": "HOOK", "env_file": "a.env"},
                "real": {"kind": "live", "webhook": "HOOK", "env_file": "a.env"},
            },
            r"desk \(paper\) and real \(live\) read the same variable",
        ),
        (
            {"desk": {"kind": "paper"}, "demo": {"kind": "demo"}},
            "read the same variable",
        ),
    ],
)
def test_a_route_that_says_too_little_or_too_much_is_refused(routes, text):
    with pytest.raises(ConfigError, match=text):
        load_settings(overrides={"routes": routes})


def test_routes_of_one_kind_may_share_a_variable_and_kinds_an_env_file():
    routes = {
        "a": {"kind": "paper"},
        "b": {"kind": "paper"},
        "c": {"kind": "live", "webhook": "HOOK", "env_file": "a.env"},
        "d": {"kind": "paper", "webhook": "HOOK", "env_file": "b.env"},
        "e": {"kind": "paper", "webhook": "OTHER", "env_file": "a.env"},
    }
    assert list(load_settings(overrides={"routes": routes}).routes) == list("abcde")


@pytest.mark.parametrize("text", [URL, "https:/x", "json://h", "x/trading/webhook/y", KEY])
def test_what_looks_like_a_secret_is_hidden(text):
    assert is_secret(text)
    assert text not in shown({text: [text]})


@pytest.mark.parametrize("value", ["live/day.sqlite", "15:00", 5, {"a": "/b"}, "ES"])
def test_what_does_not_is_shown(value):
    assert shown(value) == repr(value)


# ---------------------------------------------------------------------- env files


def read(path):
    return secret_of("IBS_TEST", path, "webhook", "routes.desk.env_file")


def test_an_env_file_of_another_user_is_refused_with_its_owner(tmp_path, monkeypatch):
    path = tmp_path / "ibs.env"
    path.write_text("IBS_TEST=x\n")
    path.chmod(0o600)
    assert read(path) == "x"
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 54_321)
    with pytest.raises(
        EnvironmentFault, match=r"found one of \w+, in routes\.desk\.env_file"
    ) as it:
        read(path)
    assert it.value.remedy.startswith(f"chown {owner + 54_321} ")
    assert "chmod" not in it.value.remedy


def test_an_env_file_that_is_no_file_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, tmp_path):
        with pytest.raises(EnvironmentFault, match="no regular file, in routes"):
            read(path)
    with pytest.raises(EnvironmentFault, match=r"No such file or directory, in routes\.desk"):
        read(tmp_path / "none")
