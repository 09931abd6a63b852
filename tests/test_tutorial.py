"""What the tutorial tells people to type prints what the page shows, line by line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_docs import FENCE, ROOT

from ibs_core.cli.main import cli

PAGE = ROOT / "docs" / "tutorial.md"
ELISION = "…"
UNSET = {"DATABENTO_API_KEY", "IBS_ALERT_URLS", "IBS_EVENTS_URL", "POLICY_KILLSWITCH"}


def steps():
    """Pair every block that is typed with the fence below it; a configuration stands alone, under its file's name."""
    fences = FENCE.findall(PAGE.read_text("utf-8"))
    for place, (language, text) in enumerate(fences):
        if language == "yaml":
            yield language, text, text.partition("\n")[0].removeprefix("# ")
        elif language == "bash":
            following, shown = fences[place + 1]
            assert following == "text", f"nothing is shown below {text}"
            yield language, text, shown


def pattern(line):
    """Match a line; an ellipsis inside it stands for any characters."""
    return re.compile(".*".join(map(re.escape, line.split(ELISION))))


def first_missing(shown, printed):
    """Find the first shown line that was not printed in its place; None if there is none.

    A line that is an ellipsis stands for any lines, also none. Spaces at the end are nobody's.
    """
    lines, place, skipping = [line.rstrip() for line in printed.splitlines()], 0, False
    for line in map(str.rstrip, shown.splitlines()):
        if line == ELISION:
            skipping = True
            continue
        until = len(lines) if skipping else place + 1
        found = (at for at in range(place, until) if at < len(lines))
        at = next((at for at in found if pattern(line).fullmatch(lines[at])), None)
        if at is None:
            return line
        place, skipping = at + 1, False
    return None if skipping or place == len(lines) else f"the end, before {lines[place]!r}"


def words_of(text):
    """Read a line as a shell does, its globs laid out."""
    for word in shlex.split(text.replace("\\\n", " ")):
        yield from sorted(map(str, Path().glob(word))) or [word] if "*" in word else [word]


def test_every_command_prints_what_the_page_shows(tmp_path, monkeypatch):
    # One process: results do not depend on their number, and starting others takes longer than they save.
    told = {"COLUMNS": "120", "XDG_STATE_HOME": str(tmp_path), "LOKY_MAX_CPU_COUNT": "1"}
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "tutorial"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for language, text, shown in steps():
        if language == "yaml":
            Path(shown).write_text(text)
            continue
        ibs, *words = words_of(text)
        assert ibs == "ibs"
        done = CliRunner(env=told).invoke(cli, words)
        assert done.exit_code == 0, (text, done.stderr, done.exception)
        missing = first_missing(shown, done.stdout)
        assert missing is None, f"{text}does not print {missing}\n\n{done.stdout}"


def test_the_page_leads_from_bars_to_parity():
    typed = [text for language, text, _ in steps() if language == "bash"]
    verbs = [re.match(r"ibs (data \w+|[a-z-]+)", text)[1] for text in typed]
    assert verbs[:3] == ["data sample", "data check", "backtest"]
    assert verbs[-1] == "parity"
    assert {"report", "sweep", "walk-forward", "monte-carlo", "run-live"} <= set(verbs)


def test_figures_in_the_prose_stand_in_what_was_printed():
    """A figure that the prose repeats changes with the code as the printed one does."""
    shown = "".join(text for language, _, text in steps() if language == "bash")
    printed = set(re.findall(r"\d[\d,]*(?:\.\d+)?", shown))
    prose = FENCE.sub("", PAGE.read_text("utf-8"))
    found = re.findall(r"\$([\d,]*\d)|\b(\d\.\d{2,3})\b|\b(\d+\.\d) %", prose)
    figures = {"".join(each) for each in found}
    assert {"18,913", "0.873", "80.9"} <= figures
    assert figures - printed == {"73"}  # 331 - 258


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("a\nb\nc", None),
        ("a  \n…", None),
        ("…\nc", None),
        ("…\nb\n…\nc", None),
        ("a\nb\nc\n…", None),
        ("a\n…b…\nc", None),
        ("a\nc", "c"),
        ("b\n…", "b"),
        ("…\nc\nb", "b"),
        ("…\nd", "d"),
        ("a\nb", "the end, before 'c'"),
    ],
)
def test_lines_are_compared_in_order_and_an_ellipsis_stands_for_any(shown, missing):
    assert first_missing(shown, "a\nb   \nc\n") == missing
