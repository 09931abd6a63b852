"""What the manual tells people to type works, and every command is in the manual."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from sample_run import sample_run

from ibs_core.cli.main import cli, run
from ibs_core.config import Settings
from ibs_core.report.folder import write_run
from ibs_core.research.sample_data import write_sample

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "console", "sh", "shell"}
EXECUTED = {"ibs", ".venv/bin/ibs"}
PROGRAMS = {*EXECUTED, "make", "git", "cd", "python", ".venv/bin/python"}


def blocks(page, languages):
    return [
        text for language, text in FENCE.findall(page.read_text("utf-8")) if language in languages
    ]


def typed(page):
    """List the command lines of a page as words; a comment and a prompt are no part of them."""
    lines = "\n".join(blocks(page, SHELLS)).replace("\\\n", " ").splitlines()
    return [
        words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))
    ]


def name_of(case):
    return case if isinstance(case, str) else " ".join(case)


# Runbooks are typed section by section, in `test_runbooks.py`; the tutorial as a whole, in `test_tutorial.py`.
SINGLY = [page for page in PAGES if page.parent.name != "runbooks" and page.stem != "tutorial"]
COMMANDS = [(page.name, words) for page in SINGLY for words in typed(page)]
IBS = [(name, words) for name, words in COMMANDS if words[0] in EXECUTED]
MAKE = [(name, words) for name, words in COMMANDS if words[0] == "make"]


def configurations():
    """List the YAML examples that are configurations of ours."""
    for page in PAGES:
        for text in blocks(page, {"yaml", "yml"}):
            tree = yaml.safe_load(text)
            if isinstance(tree, dict) and tree.keys() <= Settings.model_fields.keys():
                yield page.name, text


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Generated bars that hold what the examples name."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(
        folder, roots=["ES", "NQ", "CL"], start=date(2022, 12, 19), end=date(2023, 1, 20), seed=5
    )
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run_words(words):
        monkeypatch.setattr(sys, "argv", ["ibs", *words])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_words


def provide(word, sample):
    """Put something sensible where an example names a file of the reader's."""
    path = Path(word)
    if path.is_absolute() or path.exists():
        return
    if path.suffix in {".yml", ".yaml"}:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(next((text for _, text in configurations()), ""))
    elif path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        names = sorted(sample.glob("*.parquet"))
        if "*" in word:
            for name in names:
                shutil.copy(name, path.parent)
        else:
            shutil.copy(sample / "ES.parquet", path)
    elif path.suffix == ".sqlite":
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(journal_of(sample), path)
    elif path.parts[0] == "runs" and len(path.parts) == 2:
        write_run(sample_run(n_trades=60, n_bars=1_500), path.parent, html=None).rename(path)
    elif word.endswith("/") or path.name == "bars":
        shutil.copytree(sample, path)


def journal_of(sample):
    """A journal of the last days of the sample, made once."""
    journal = sample.with_name("journal.sqlite")
    if not journal.exists():
        words = ["--symbols", "ES", "--start", "2023-01-18", "--speed", "max", "--quiet"]
        bars = ["--replay", str(sample / "ES.parquet"), "--journal", str(journal)]
        CliRunner().invoke(cli, ["run-live", *bars, *words], catch_exceptions=False)
    return journal


@pytest.mark.parametrize(("page", "words"), IBS, ids=name_of)
def test_every_ibs_command_of_the_manual_runs(call, sample, page, words):
    made = words[1:3] == ["data", "sample"]
    makes = words[1] == "run-live"
    for word in [] if made else words[1:]:
        if makes and word.endswith(".sqlite"):
            continue
        provide(word, sample)
    # A shorter sample than the manual's does as well; later options win.
    short = ["--symbols", "ES", "--start", "2024-01-02", "--end", "2024-01-05"] if made else []
    code, out, err = call([*words[1:], *short])
    assert code == 0, (page, words, err)
    assert "error:" not in err
    assert out


def test_the_manual_shows_commands_at_all():
    assert len(IBS) >= 3
    assert MAKE


@pytest.mark.parametrize(("page", "words"), MAKE, ids=name_of)
def test_every_make_verb_of_the_manual_exists(page, words):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    verbs = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {word for word in words[1:] if "=" not in word} <= verbs, page


def test_make_help_lists_every_verb():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    told = re.findall(r"^([a-z][a-z-]*):.*##", makefile, re.MULTILINE)
    assert {"demo", "test", "bench", "check"} <= set(told)
    assert set(phony) <= set(told)


@pytest.mark.parametrize(("page", "text"), list(configurations()), ids=lambda case: case[:40])
def test_every_configuration_of_the_manual_is_valid(call, tmp_path, page, text):
    (tmp_path / "example.yml").write_text(text)
    code, _, err = call(["config", "validate", "--config", "example.yml"])
    assert code == 0, (page, err)


@pytest.mark.parametrize("page", ["commands", "features", "statistics"])
def test_a_page_that_is_made_is_current(page):
    path = ROOT / "docs" / f"build_{page}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    remedy = f"run `python docs/{path.name}`"
    assert module.PAGE.read_text("utf-8") == module.page(), remedy


def test_the_readme_points_to_every_page():
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if page not in (ROOT / "README.md").read_text("utf-8")} == set()


def test_examples_start_with_programs_that_a_reader_has():
    unknown = {words[0] for _, words in COMMANDS} - PROGRAMS
    assert unknown == set()


def test_links_inside_the_repository_lead_somewhere():
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert dead == []
