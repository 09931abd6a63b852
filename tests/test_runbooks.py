"""What the runbooks tell people to type does what they say; the files of deployment fit what they deploy."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import click
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from test_docs import FENCE, ROOT, blocks

from adapters.demo_broker import DemoBroker, Fault, MarketClock
from ibs_core.cli.main import cli
from ibs_core.config import load_settings
from ibs_core.errors import IbsError
from ibs_core.research.sample_data import write_sample

DEPLOY = ROOT / "docs" / "deploy"
PAGES = [ROOT / "docs" / "runbooks.md", *sorted((ROOT / "docs" / "runbooks").glob("*.md"))]
EXIT_CODE = re.compile(r"#.*\bexit code (\d)")
PORT = ":8377/"
"""Of the stand-in in the pages; here it takes one that is free."""

SHELL = {"chmod", "df", "du", "export", "grep", "mkdir", "mv"}
"""Programs other than ours that a block may use."""
COVERED = {
    "docker": "test_runbooks.py::test_the_image_holds_the_wheel_and_runs_without_rights",
    "flatten": "test_run_live_orders.py::test_everything_leaves_without_market_data",
    "fills import": "test_fills.py::test_a_statement_that_agrees_tells_what_each_order_cost",
    "halt": "test_operator_cmd.py::test_a_running_worker_does_it_and_the_command_tells_so",
    "model promote": "test_model_cli.py::test_a_model_that_fails_a_condition_is_promoted_by_force_only",
    "parity": "test_run_live.py::test_live_warms_up_from_files_and_trades_what_the_gateway_sends",
    "preflight": "test_preflight.py::test_a_sound_start_passes_every_check_in_order_and_tells_a_line_each",
    "run-live": "test_run_live.py::test_live_warms_up_from_files_and_trades_what_the_gateway_sends",
    "status": "test_status.py::test_a_worker_that_is_well_is_shown_and_exits_0",
}
"""Commands that stand as plain text, for they need an account or a daemon, and the test that runs them otherwise."""


# ---------------------------------------------------------------------- the pages, typed


def sections(page):
    """Give the lines of a page that are to be typed, by heading: each section in a folder of its own."""
    before, *parts = re.split("^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    assert "```bash" not in before
    typed = {
        part.partition("\n")[0]: "".join(
            text for language, text in FENCE.findall(part) if language == "bash"
        )
        for part in parts
    }
    return {title: text.splitlines() for title, text in typed.items() if text}


SECTIONS = [
    pytest.param(title, lines, id=f"{page.stem}: {title}")
    for page in PAGES
    for title, lines in sections(page).items()
]


@dataclass
class Desk:
    """A folder in which commands are typed, and a stand-in that takes the orders."""

    folder: Path
    monkeypatch: object
    stack: ExitStack
    broker: DemoBroker = None

    def stand_in(self, *faults, **more):
        """Begin another stand-in; its time passes with the signals alone."""
        passed = [0.0]
        clock = MarketClock(lambda: passed[0])
        self.broker = self.stack.enter_context(DemoBroker(faults, clock=clock, **more))
        self.broker.let_fill = lambda: passed.__setitem__(0, passed[0] + 60.0)
        self.monkeypatch.setenv("TRADERSPOST_WEBHOOK_URL", self.broker.url)

    def ibs(self, *words):
        done = CliRunner().invoke(cli, [str(each) for each in words])
        if isinstance(done.exception, IbsError):
            return done.exception.exit_code, f"{done.output}{done.exception}"
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    def type(self, line):
        """Do what a shell would."""
        words = shlex.split(line, comments=True)
        if words[:2] == ["ibs", "demo-broker"]:
            assert words.pop() == "&", "it would never end"
            given = commanded("demo-broker").make_context("", words[2:]).params
            assert given["replay"]
            self.stand_in(uuid=given["uuid"], password=given["password"])
            return 0, ""
        if words[0] == "ibs":
            return self.ibs(*words[1:])
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            value = value.replace(PORT, f":{self.broker.root.rpartition(':')[2]}/")
            self.monkeypatch.setenv(name, value)
            return 0, ""
        assert words[0] in SHELL
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        return done.returncode, done.stdout + done.stderr

    def trade(self, *more):
        """Carry the worker to the end of the bars, as the pages do."""
        words = ["--replay", "bars/", "--start", "2023-01-18", "--speed", "max"]
        to = ["--config", "ibs.yml", "--armed", "--route", "demo"]
        code, out = self.ibs("run-live", *words, *to, "--journal", "live/journal.sqlite", *more)
        assert code == 0, out

    def cut_bars(self, until):
        """Let the bars end early; return what brings them back."""
        path = self.folder / "bars" / "ES.parquet"
        whole = path.read_bytes()
        end = datetime.fromisoformat(until).replace(tzinfo=UTC)
        pl.read_parquet(path).filter(pl.col("ts_event") < end).write_parquet(path)
        return lambda: path.write_bytes(whole)


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "160")
    for name in (
        "POLICY_KILLSWITCH",
        "DATABENTO_API_KEY",
        "IBS_ALERT_URLS",
        "TRADERSPOST_PAPER_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A folder as a desk has it: bars, settings, models, and the journal of a worker that holds ES and has stopped."""
    folder = tmp_path_factory.mktemp("desk")
    write_sample(
        folder / "bars", roots=["ES"], start=date(2022, 12, 19), end=date(2023, 1, 20), seed=5
    )
    (settings,) = blocks(ROOT / "docs" / "runbooks" / "deployment.md", {"yaml"})
    (folder / "ibs.yml").write_text(settings)
    (shadow,) = blocks(ROOT / "docs" / "runbooks" / "models.md", {"yaml"})
    (folder / "shadow.yml").write_text(shadow)
    shutil.copytree(ROOT / "models", folder / "models")
    with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as stack:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        monkeypatch.delenv("POLICY_KILLSWITCH", raising=False)
        desk = Desk(folder, monkeypatch, stack)
        desk.stand_in()
        back = desk.cut_bars("2023-01-20T10:00")
        desk.trade()
        desk.broker.let_fill()
        fills = desk.broker.executed
        back()
    return folder, fills


@pytest.fixture
def desk(lived, tmp_path, environment):
    folder = tmp_path / "desk"
    shutil.copytree(lived[0], folder)
    environment.chdir(folder)
    with ExitStack() as stack:
        desk = Desk(folder, environment, stack)
        desk.stand_in()
        desk.fills = lived[1]
        yield desk


def write_statement(desk, fills):
    """Write what the broker did, in Chicago's time."""
    rows = ["time,contract,side,quantity,price,commission"]
    for each in fills:
        at = datetime.fromtimestamp(each.at_s - 6 * 3600, UTC).replace(tzinfo=None)
        side = "buy" if each.quantity > 0 else "sell"
        rows.append(f"{at.isoformat()},{each.ticker},{side},{abs(each.quantity)},{each.price},1.25")
    (desk.folder / "statement.csv").write_text("\n".join(rows))


def receiver_gone(desk):
    """The receiver fails from the last entry on, so that nobody knows what became of it."""
    shutil.rmtree("live")
    desk.stand_in(Fault(kind="answer", status=500, accepts=False, first=6, count=1000))
    back = desk.cut_bars("2023-01-20T08:30")
    desk.trade()
    back()
    desk.stand_in()


def password_changed(desk):
    desk.stand_in(password="changed")
    desk.monkeypatch.setenv("TRADERSPOST_WEBHOOK_URL", desk.broker.url.replace("changed", "before"))
    back = desk.cut_bars("2023-01-20T18:00")
    desk.trade()
    back()


def closed_by_somebody(desk):
    write_statement(desk, desk.fills[:-1])


def agreed(desk):
    write_statement(desk, desk.fills)


def url_in_a_file(desk):
    path = desk.folder / "ibs.env"
    path.write_text(f"TRADERSPOST_PAPER_URL={desk.broker.url}\n")
    path.chmod(0o644)


def bytes_lost(desk):
    path = desk.folder / "live" / "journal.sqlite"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = bytes(8192)
    path.write_bytes(content)


BEFORE = {
    "An order of unknown outcome": receiver_gone,
    "An order was refused": password_changed,
    "The book and the broker differ": closed_by_somebody,
    "The statement": agreed,
    "The journal is damaged": bytes_lost,
    "The webhook's password": url_in_a_file,
}
PROMISED = {
    "A rehearsal": {"orders list": "ACKED", "parity": "0 differences", "status": "stopped"},
    "Is it well?": {"orders list --open": "no orders", "position list": "MESH2023"},
    "The audit of settings": {
        "orders show": '"action": "exit", "orderType": "market", "cancel": true, "ignoreTradingWindows": true',
        "orders list": "ES-2023-01-20T080000Z-entry",
    },
    "The statement": {"fills import": "7 of 7 fills belong to an order"},
    "Stop everything": {
        "flatten": "the next one does it, and nothing leaves before",
        "run-live": "flatten: ES leaves",
        "orders list --open": "no orders",
        "position list": "flat",
        "preflight": "POLICY_KILLSWITCH",
    },
    "An order of unknown outcome": {
        "orders show": "sent the exit in place of the entry",
        "orders resolve": "RESOLVED_ABSENT",
        "orders list --open": "no orders",
    },
    "An order was refused": {"orders retry": "PENDING", "orders show": "ACKED since"},
    "The book and the broker differ": {
        "fills import": "no fill",
        "run-live": "ES is flat by hand",
        "position list": "flat",
    },
    "The feed is lost": {"replay": "ES", "parity": "0 differences"},
    "The journal is damaged": {"parity": "0 differences"},
    "The disk is full": {"preflight": "MiB free"},
    "Promoting, and going back": {"preflight": "ES 20261121-29805be5", "replay": "day_ibs"},
    "The webhook's password": {"preflight": "drill, of kind paper: its host answers"},
    "The alerts' addresses": {"run-live": "kill_switch failed"},
}
"""What the last command of a name says, by the section that tells people to type it."""


@pytest.mark.parametrize(("title", "lines"), SECTIONS)
def test_every_command_of_a_runbook_does_what_the_page_says(desk, title, lines):
    BEFORE.get(title, lambda _desk: None)(desk)
    told = {}
    for line in lines:
        expected = int(found[1]) if (found := EXIT_CODE.search(line)) else 0
        code, out = desk.type(line)
        assert code == expected, (line, out)
        told[line.removeprefix("ibs ")] = out
    for name, text in PROMISED.get(title, {}).items():
        said = [out for line, out in told.items() if line.startswith(name)]
        assert said, name
        assert text in said[-1], (name, said[-1])


def test_after_a_rehearsal_the_stand_in_holds_what_the_book_does_and_the_map_names_every_file(desk):
    shutil.rmtree("live")
    for line in sections(ROOT / "docs" / "runbooks" / "deployment.md")["A rehearsal"]:
        desk.type(line)
    desk.broker.let_fill()
    book = json.loads(
        desk.ibs("position", "list", "--journal", "live/rehearsal.sqlite", "--json")[1]
    )
    held = {each["instrument"]: each["quantity"] for each in book["positions"] if each["quantity"]}
    assert desk.broker.positions() == held
    page = PAGES[0].read_text("utf-8")
    for path in Path("live").iterdir():
        name = path.name.replace("rehearsal", "journal")
        assert name in page or name.removeprefix("journal.sqlite") in page, name


def test_what_is_prepared_and_promised_is_of_sections_that_exist():
    assert {*BEFORE, *PROMISED} <= {each.values[0] for each in SECTIONS}


# ---------------------------------------------------------------------- the pages, read


def commanded(name):
    return cli.get_command(click.Context(cli), name)


def commands_in(text):
    """Find commands of ours in a line: their names, and their words from there on."""
    words, known = text.replace("…", " … ").split(), cli.list_commands(click.Context(cli))
    for place, (program, name) in enumerate(pairwise(words)):
        if (program == "ibs" or program.endswith("bin/ibs")) and name in known:
            command, rest = commanded(name), words[place + 2 :]
            if isinstance(command, click.Group) and rest and rest[0] in command.commands:
                yield f"{name} {rest[0]}", command.commands[rest[0]], rest[1:]
            else:
                yield name, command, rest


def plain_lines(page):
    return "\n".join(blocks(page, {"text"})).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_prose_and_plain_text_have_the_options_that_they_name(page):
    text = page.read_text("utf-8")
    lines = [*plain_lines(page), *re.findall(r"`([^`\n]+)`", text)]
    for line in lines:
        for name, command, words in commands_in(line.partition("  #")[0]):
            known = {
                option for each in command.params for option in each.opts + each.secondary_opts
            }
            named = {word for word in words if word.startswith("--")}
            assert named <= known, (name, line)


def test_every_command_in_plain_text_is_run_by_a_test_that_exists():
    lines = [line for page in PAGES for line in plain_lines(page)]
    named = {name for line in lines for name, _, _ in commands_in(line)}
    assert named <= set(COVERED)
    for place in COVERED.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8")


# ---------------------------------------------------------------------- deployment


UNIT = DEPLOY / "ibs.service"


@pytest.fixture(scope="module")
def unit():
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str
    parsed.read(UNIT)
    return parsed


def test_the_unit_is_told_of_readiness_and_life_and_keeps_what_must_be_kept(unit):
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert int(service["WatchdogSec"]) >= 180  # the longest turn of the loop
    assert service["RestartPreventExitStatus"] == "2"  # of a wrong configuration
    assert service["SuccessExitStatus"] == "130"  # stopped before it traded
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"  # a position may be open
    assert service["User"] not in ("root", "")
    assert service["ReadWritePaths"] == service["WorkingDirectory"]
    assert service.get("MemoryDenyWriteExecute", "no") == "no"  # it would end the compiler
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert service[key] == "yes"


def test_the_unit_agrees_with_the_page_of_monitoring(unit):
    snippet = next(
        text
        for text in blocks(ROOT / "docs" / "monitoring.md", {"text"})
        if text.startswith("[Service]")
    )
    told = dict(line.split("=", 1) for line in snippet.splitlines()[1:])
    assert told.items() <= dict(unit["Service"]).items()


def test_the_unit_starts_a_worker_that_may_trade_and_names_no_secret(unit):
    service = unit["Service"]
    ((name, command, words),) = commands_in(service["ExecStart"])
    given = command.make_context(name, words).params
    assert given["armed"]
    (settings,) = blocks(ROOT / "docs" / "runbooks" / "deployment.md", {"yaml"})
    assert yaml.safe_load(settings)["routes"][given["route"]]["kind"] == "live"
    assert "Environment" not in service
    assert not service["EnvironmentFile"].startswith("-")  # without it nothing may start


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/ibs/.venv/bin/ibs", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def variables():
    lines = (DEPLOY / "ibs.env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_env_file_names_every_variable_and_holds_no_secret(tmp_path):
    (text,) = blocks(ROOT / "docs" / "runbooks" / "deployment.md", {"yaml"})
    (tmp_path / "ibs.yml").write_text(text)
    settings = load_settings([tmp_path / "ibs.yml"])
    used = {each.webhook for each in settings.routes.values()} | {settings.alerts.addresses}
    given = variables()
    assert used | {"DATABENTO_API_KEY", "IBS_EVENTS_URL", "POLICY_KILLSWITCH"} == set(given)
    # The kill switch is on until somebody writes that it is off; nothing else has a value.
    assert {name: value for name, value in given.items() if value} == {"POLICY_KILLSWITCH": "on"}


def test_events_are_rotated_where_they_are_and_nothing_else_is(unit):
    lines = [
        line
        for line in (DEPLOY / "ibs.logrotate").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    (text,) = blocks(ROOT / "docs" / "runbooks" / "deployment.md", {"yaml"})
    events = yaml.safe_load(text)["monitoring"]["events"]
    assert lines[0] == f"{unit['Service']['WorkingDirectory']}/{events} {{"
    snippet = next(
        text for text in blocks(ROOT / "docs" / "monitoring.md", {"text"}) if "rotate" in text
    )
    assert [line for line in lines if not line.strip().startswith("su ")] == snippet.splitlines()


def test_the_image_holds_the_wheel_and_runs_without_rights():
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    names = [name for name, _ in steps]
    last = names.index("FROM", 1)
    final = dict(steps[last:])
    assert final["USER"] == "ibs"
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")
    # No argument and no variable of the build could hold a secret.
    assert "ARG" not in names
    assert [name for name in variables() if name in text] == []
    # The exec form, so that the worker itself is told to stop; JSON.
    health = json.loads(final["HEALTHCHECK"].partition("CMD ")[2])
    for words in (health, json.loads(final["ENTRYPOINT"]) + json.loads(final["CMD"])):
        ((name, command, rest),) = commands_in(" ".join(words))
        command.make_context(name, rest)
    copied = [word for name, rest in steps[:last] if name == "COPY" for word in rest.split()[:-1]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(copied) == needed(project)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[ignored.index("*") + 1 : -1] == [f"!{each}" for each in copied]
    assert f":{project['project']['requires-python'].removeprefix('>=')}-slim" in steps[0][1]
    (extra,) = re.findall(r"'\.\[(\w+)\]'", text)
    assert extra in project["project"]["optional-dependencies"]


def needed(project):
    """Name what the wheel is built of, and what pins what it needs."""
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    return {
        *wheel["packages"],
        *wheel["force-include"],
        project["project"]["readme"],
        *project["project"]["license-files"],
        "pyproject.toml",
        "requirements.lock",
    }
