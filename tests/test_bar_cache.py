"""Kept bars change the time a run takes and nothing else: same bytes, never stale, never half-written, bounded."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from feed_rows import feed_rows, weekdays

from ibs_core.backtest import trade
from ibs_core.bar_cache import Shelf, default_shelf, drawer, key
from ibs_core.bars import BAR, joined
from ibs_core.cli.main import cli
from ibs_core.config import Settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError
from ibs_core.market_data import BarSource, open_bars
from ibs_core.market_data.memory import hold
from ibs_core.parquet_file import write_parquet
from ibs_core.research.sample_data import write_sample

CONTRACTS = load_contract_map()
EVERYTHING = {
    "strategy": {
        "signal_bar": "15m",
        "filters": {"x_cl_bar_ret": [-9, 9], "bar_rsi2": [0, 60]},
        "exits": {"protective": {"stop": {"percent": 0.5}}},
    },
    "risk": {"daily_loss_usd": 2000},
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Two symbols whose last bars the data do not complete, in a file each."""
    made = tmp_path_factory.mktemp("sample")
    write_sample(made, roots=["ES", "CL"], start=date(2024, 1, 2), end=date(2024, 2, 9), seed=3)
    for path in made.glob("*.parquet"):
        frame = pl.read_parquet(path)
        write_parquet(
            frame.filter(pl.col("ts_event") < datetime(2024, 2, 9, 15, 20, tzinfo=UTC)), path, {}
        )
    return made


@pytest.fixture
def bars(sample, tmp_path):
    """The same, for a test to change."""
    return shutil.copytree(sample, tmp_path / "bars")


@pytest.fixture
def notes():
    return []


@pytest.fixture
def shelf(tmp_path, notes):
    return Shelf(tmp_path / "kept", room=1 << 30, tell=notes.append)


def settings_of(tree):
    return Settings.model_validate(tree)


def run(paths, tree=None, **options):
    """Back-test, and return the digest of everything that came of it."""
    source = open_bars(paths if isinstance(paths, list) else [paths], CONTRACTS)
    found = trade(source, settings_of(tree or {}), CONTRACTS, **options)
    digest = hashlib.sha256(repr([found.warnings, source.skipped]).encode())
    for series in found.series:
        told = (series.complete, series.instruments, series.n_minutes, series.n_outside)
        digest.update(repr([*told, series.base_ns, series.seams.tolist()]).encode())
        digest.update(series.bars.tobytes() + series.days.tobytes() + series.path.tobytes())
    records = [*found.schedules, *found.signals, found.trade_records, found.decision_records]
    for part in [*records, found.book]:
        digest.update(part.tobytes())
    assert len(found.trade_records)
    return digest.hexdigest()


def kinds(shelf):
    return sorted(each.facts["kind"] for each in shelf.held())


@pytest.fixture
def unread(monkeypatch):
    """Call it, and whatever reads a minute or a symbol from then on fails."""

    def refuse(*_, **__):
        raise AssertionError("the data were read")

    def call():
        for name in ("packed", "stream", "load"):
            monkeypatch.setattr(BarSource, name, refuse)
        monkeypatch.setattr("ibs_core.market_data.parquet.ParquetBars.symbols", refuse)
        monkeypatch.setattr("ibs_core.signals.features_many", refuse)

    return call


# ---------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("tree", [{}, EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("roots", [None, ["ES"]], ids=["all", "one"])
def test_a_second_run_reads_nothing_and_says_the_same(bars, shelf, notes, unread, tree, roots):
    plain = run(bars, tree, roots=roots)
    assert run(bars, tree, roots=roots, shelf=shelf) == plain
    unread()
    assert run(bars, tree, roots=roots, shelf=shelf) == plain
    assert not notes


@pytest.mark.parametrize("roots", [None, ["ES"]], ids=["all", "one"])
def test_what_is_left_out_is_told_whatever_was_read_before(bars, shelf, unread, roots):
    """Reference feeds are left out until a feature asks for them."""
    for name in ("VIX", "TLT"):
        days = weekdays(date(2023, 12, 1), date(2024, 2, 9))
        feed_rows(name, days).write_parquet(bars / f"{name}.parquet")
    trees = [{}, {"strategy": {"filters": {"day_vix": [0, 99]}}}]
    plain = [run(bars, tree, roots=roots) for tree in trees]
    assert [run(bars, tree, roots=roots, shelf=shelf) for tree in trees] == plain
    unread()
    assert [run(bars, tree, roots=roots, shelf=shelf) for tree in reversed(trees)] == plain[::-1]


def test_other_parameters_take_the_same_bars_and_the_features_that_are_there(bars, shelf, unread):
    filters = {"bar_rsi2": [0, 60], "bar_rsi14": [0, 70]}
    run(bars, {"strategy": {"filters": filters}}, shelf=shelf)
    others = [
        {"strategy": {"entry": {"ibs": [0.0, 0.3]}, "filters": {"bar_rsi14": [0, 50]}}},
        {
            "strategy": {
                "exits": {"bars": 3, "stop": {"percent": 0.4}},
                "filters": {"bar_rsi2": [5, 50]},
            }
        },
        {"costs": {"slippage_ticks": 3}, "risk": {"max_positions": 1}},
    ]
    plain = [run(bars, each) for each in others]
    held = kinds(shelf)
    unread()
    assert [run(bars, each, shelf=shelf) for each in others] == plain
    assert kinds(shelf) == held


def test_longer_windows_of_another_instrument_are_waited_for(bars, shelf):
    """What is cold is kept with the calendar, and no two features need be cold for as long."""
    trees = [{"strategy": {"filters": {name: [-9, 9]}}} for name in ("x_cl_bar_ret", "x_cl_bar_z")]
    plain = [run(bars, tree) for tree in trees]
    assert [run(bars, tree, shelf=shelf) for tree in trees] == plain
    assert kinds(shelf).count("bars") == 1


def test_dates_need_no_other_bars(bars, shelf):
    spans = [{}, {"end": date(2024, 1, 31)}, {"start": date(2024, 1, 16), "end": date(2024, 2, 2)}]
    plain = [run(bars, **span) for span in spans]
    assert [run(bars, **span, shelf=shelf) for span in spans] == plain
    assert [run(bars, **span, shelf=shelf) for span in spans] == plain
    assert kinds(shelf).count("bars") == 1


def test_what_is_held_in_memory_is_not_kept(bars, shelf):
    trade(hold(open_bars([bars], CONTRACTS)), Settings(), CONTRACTS, shelf=shelf)
    assert not shelf.held()


def test_run_folders_are_equal_byte_for_byte(bars, tmp_path, monkeypatch):
    monkeypatch.setenv("IBS_CACHE_BYTES", str(1 << 30))
    monkeypatch.setenv("IBS_CACHE_DIR", str(tmp_path / "cache"))
    told, now = [], datetime.now(UTC)
    monkeypatch.setattr("ibs_core.cli.run_package.datetime", SimpleNamespace(now=lambda _: now))
    for i, words in enumerate([["--no-cache"], [], [], ["--cache", "verify"]]):
        out = tmp_path / str(i)
        place = ["--parquet", str(bars), "--out", str(out), "--json"]
        done = CliRunner().invoke(cli, ["backtest", *place, *words])
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        (folder,) = out.iterdir()
        told.append({path.name: path.read_bytes() for path in folder.iterdir()})
        assert (tmp_path / "cache" / "bars").exists() == (i > 0)
    assert len(told[0]) > 5
    assert told[1:] == told[:1] * 3


def test_parts_that_lie_end_to_end_are_joined_without_a_copy():
    whole = np.zeros(10, BAR)
    whole["open"] = np.arange(10)
    for stops in ([0, 3, 3, 10], [2, 5, 9]):
        parts = [whole[a:b] for a, b in pairwise(stops)]
        found = joined(parts)
        assert found.tobytes() == np.concatenate(parts).tobytes()
        assert np.shares_memory(found, whole)
    apart = joined([whole[:3], whole[4:6]])
    assert apart["open"].tolist() == [0, 1, 2, 4, 5]
    assert not np.shares_memory(apart, whole)
    assert joined([whole[3:6], whole[:3]])["open"].tolist() == [3, 4, 5, 0, 1, 2]


# ---------------------------------------------------------------- never stale


def shift(path, by=1.0):
    """Write other prices under the same name."""
    frame = pl.read_parquet(path).with_columns(pl.col("open", "high", "low", "close") + by)
    write_parquet(frame, path, {})


def edit_in_place(path):
    """Change a byte of the content, not of the footer; restore the time of the last change."""
    before = path.stat()
    with path.open("r+b") as stream:
        size = before.st_size
        stream.seek(size - 8)
        body = size - 8 - int.from_bytes(stream.read(4), "little")
        content = stream.seek(0) or stream.read(body)
        new = repeated(content)
        stream.seek(0)
        stream.write(new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (size, before.st_mtime_ns)


def repeated(content):
    """Flip one byte in the middle."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_changed_file_is_read(bars, shelf):
    before = run(bars, shelf=shelf)
    shift(bars / "ES.parquet")
    after = run(bars, shelf=shelf)
    assert after == run(bars) != before


def test_another_file_of_the_same_name_is_read(bars, shelf, tmp_path):
    before = run(bars, shelf=shelf)
    other = shutil.copytree(bars, tmp_path / "other")
    shift(other / "ES.parquet")
    assert run(other, shelf=shelf) == run(other) != before


def test_an_edit_that_restores_size_and_time_is_another_file(bars):
    path = bars / "ES.parquet"
    before = key.files_digest([path])
    edit_in_place(path)
    assert key.files_digest([path]) != before


def test_what_changes_while_it_is_read_is_not_kept(bars, shelf, monkeypatch):
    read = BarSource.packed

    def packed(self, *args, **options):
        yield from read(self, *args, **options)
        os.utime(bars / "ES.parquet", ns=(1, 1))

    monkeypatch.setattr(BarSource, "packed", packed)
    run(bars, shelf=shelf)
    assert not shelf.held()


@pytest.mark.parametrize(
    "tree",
    [
        {"strategy": {"signal_bar": "15m"}},
        {"strategy": {"exits": {"protective": {"stop": {"percent": 0.3}}}}},
        {"strategy": {"exits": {"flat_by": "14:00"}}},
        {"strategy": {"entry": {"max_wait": "2h"}, "signal_bar": "30m"}},
        {"strategy": {"filters": {"bar_vol_z": [-5, 5]}}},
        {"symbols": {"ES": {}, "CL": {"strategy": {"signal_bar": "30m"}}}},
        {
            "risk": {"daily_loss_usd": 500},
            "symbols": {"ES": {}, "CL": {"strategy": {"signal_bar": "30m"}}},
        },
    ],
)
def test_other_bars_are_other_files(bars, shelf, tree):
    plain = run(bars, tree)
    run(bars, shelf=shelf)
    assert run(bars, tree, shelf=shelf) == plain


def test_another_contract_map_source_or_calendar_is_another_drawer(
    bars, shelf, tmp_path, monkeypatch
):
    source = open_bars([bars], CONTRACTS)
    of = [drawer.drawer_of(shelf, source).of]
    other = replace(CONTRACTS, digest="of another map")
    of.append(drawer.drawer_of(shelf, open_bars([bars], other)).of)
    package = shutil.copytree(key._PACKAGE / "kernels", tmp_path / "package" / "kernels").parent
    monkeypatch.setattr(key, "_PACKAGE", package)
    shutil.copy(key.calendar_path(), tmp_path)
    monkeypatch.setattr(key, "calendar_path", lambda: tmp_path / "cme_calendar.csv")
    try:
        for changed in (None, package / "kernels" / "aggregate.py", tmp_path / "cme_calendar.csv"):
            if changed:
                changed.write_text(changed.read_text("utf-8") + "\n", "utf-8")
            key.sources_digest.cache_clear()
            of.append(drawer.drawer_of(shelf, source).of)
    finally:
        key.sources_digest.cache_clear()
    assert len(set(of)) == len(of)


def test_what_another_source_made_is_not_taken(bars, shelf, monkeypatch):
    plain = run(bars, shelf=shelf)
    n = len(shelf.held())
    monkeypatch.setattr(drawer, "sources_digest", lambda: "of an edited kernel")
    assert run(bars, shelf=shelf) == plain
    assert len(shelf.held()) == 2 * n


# ---------------------------------------------------------------- verified


@pytest.fixture
def careful(shelf, notes):
    return Shelf(shelf.folder, room=shelf.room, verify=True, tell=notes.append)


@pytest.mark.parametrize("first", ["shelf", "careful"])
def test_verify_sees_an_edit_that_nothing_but_the_content_tells(
    bars, shelf, careful, notes, monkeypatch, first
):
    monkeypatch.setattr(drawer, "files_digest", lambda _: "no size, no time, no footer")
    before = run(bars, shelf={"shelf": shelf, "careful": careful}[first])
    shift(bars / "ES.parquet")
    assert run(bars, shelf=shelf) == before  # so blind is this machine
    after = run(bars, shelf=careful)
    assert after == run(bars) != before
    assert run(bars, shelf=shelf) == after  # what was wrong is gone
    assert [("edited" in note) for note in notes] == [True] * (first == "careful")


def test_verify_takes_what_it_kept_itself(bars, careful, unread):
    before = run(bars, shelf=careful)
    unread()
    assert run(bars, shelf=careful) == before


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def entry_of(shelf, kind):
    (name,) = [each.name for each in shelf.held() if each.facts.get("kind") == kind]
    return shelf.folder / f"{name}.entry"


def test_verify_sees_another_byte_in_an_array(bars, careful, notes):
    before = run(bars, shelf=careful)
    flip(entry_of(careful, "bars"), 4000)
    assert run(bars, shelf=careful) == before
    assert "other bytes" in notes[0]


# ---------------------------------------------------------------- damaged, half-written, full, read-only


@pytest.mark.parametrize("kind", ["bars", "schedule"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, -100),
        lambda path: flip(path, -44),
        lambda path: flip(path, -2),
        lambda path: os.truncate(path, path.stat().st_size - 64),
        lambda path: os.truncate(path, 64),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(path.read_bytes() + bytes(64)),
    ],
    ids=["facts", "place", "seal", "cut", "cut to the start", "empty", "longer"],
)
def test_a_damaged_file_costs_its_speed_and_one_note(bars, shelf, notes, kind, damage):
    before = run(bars, shelf=shelf)
    held = kinds(shelf)
    damage(entry_of(shelf, kind))
    assert run(bars, shelf=shelf) == before
    assert len(notes) == 1
    assert "damaged" in notes[0]
    assert kinds(shelf) == held
    assert run(bars, shelf=shelf) == before
    assert len(notes) == 1


WRITER = """
import sys
import numpy as np
from pathlib import Path
from ibs_core.bar_cache import Shelf

class Parts(list):
    def __iter__(self):
        yield self[0]
        print("half", flush=True)
        sys.stdin.readline()
        yield self[1]

parts = Parts([np.ones(100_000), np.ones(100_000)])
Shelf(Path(sys.argv[1]), room=1 << 30, tell=print).put("slow", {}, {"a": parts})
"""


def start(code, *words):
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_writer_that_is_killed_leaves_nothing_to_read_and_is_swept_up_after(shelf):
    with start(WRITER, shelf.folder) as writer:
        # The sizes are asked first, then the arrays are written: twice half.
        assert writer.stdout.readline() == "half\n"
        writer.stdin.write("on\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "half\n"
        (hidden,) = shelf.folder.iterdir()
        shelf.put("quick", {}, {"a": [np.ones(3)]})
        assert hidden.exists()  # its writer lives
        assert shelf.find("slow", None) is None
        writer.send_signal(signal.SIGKILL)
    assert hidden.exists()
    assert [each.name for each in shelf.held()] == ["quick"]
    assert shelf.find("slow", None) is None
    shelf.put("quick", {}, {"a": [np.ones(3)]})
    assert [path.name for path in shelf.folder.iterdir()] == ["quick.entry"]


OTHER = """
import sys
import numpy as np
from pathlib import Path
from ibs_core.bar_cache import Shelf

shelf = Shelf(Path(sys.argv[1]), room=1 << 30, tell=print)
print("ready", flush=True)
sys.stdin.readline()
for i in range(200):
    shelf.put("one", {"who": sys.argv[2]}, {"a": [np.full(20_000, float(sys.argv[2]))]})
    found = shelf.find("one", None)
    if found is not None:
        a = found.array("a", np.dtype(np.float64))
        assert len(a) == 20_000 and np.all(a == float(found.facts["who"]))
    if i % 50 == 7:
        shelf.clear()
print("done", flush=True)
"""


def test_two_processes_write_read_and_clear_at_once(shelf):
    with start(OTHER, shelf.folder, 1) as one, start(OTHER, shelf.folder, 2) as two:
        for each in (one, two):
            assert each.stdout.readline() == "ready\n"
        for each in (one, two):
            each.stdin.write("go\n")
            each.stdin.flush()
        assert [each.stdout.read() for each in (one, two)] == ["done\n"] * 2
    assert {path.name for path in shelf.folder.iterdir()} == {"one.entry"}


def test_what_is_cleared_while_it_is_read_stays_readable(bars, shelf):
    before = run(bars, shelf=shelf)
    traded = trade(open_bars([bars], CONTRACTS), Settings(), CONTRACTS, shelf=shelf)
    n_files, n_bytes = shelf.clear()
    assert n_files > 3
    assert n_bytes > 1000
    assert not shelf.held()
    again = trade(open_bars([bars], CONTRACTS), Settings(), CONTRACTS, shelf=shelf)
    for one, other in zip(traded.series, again.series, strict=True):
        assert one.bars.tobytes() == other.bars.tobytes()
    assert run(bars, shelf=shelf) == before


def test_writing_to_a_kept_array_stays_in_this_process(shelf):
    shelf.put("one", {}, {"a": [np.arange(5)]})
    kept = shelf.find("one", None).array("a", np.dtype(np.int64))
    kept[:] = 7
    assert shelf.find("one", None).array("a", np.dtype(np.int64)).tolist() == [0, 1, 2, 3, 4]


def test_a_full_disk_costs_its_speed_and_one_note(bars, shelf, notes):
    plain = run(bars)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2000, hard)
    )  # the system's own refusal, in the middle of a file
    try:
        found = run(bars, shelf=shelf)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == plain
    assert len(notes) == 1
    assert "cannot be written (File too large)" in notes[0]
    assert not [path for path in shelf.folder.iterdir() if path.stat().st_size > 2000]
    assert run(bars, shelf=shelf) == plain


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_no_space_left_is_one_note(shelf, notes, monkeypatch):
    plain = os.fdopen
    monkeypatch.setattr("os.fdopen", lambda _, mode: plain(os.open("/dev/full", os.O_WRONLY), mode))
    shelf.put("one", {}, {"a": [np.zeros(1 << 20)]})
    monkeypatch.undo()
    assert len(notes) == 1
    assert "No space left on device" in notes[0]
    assert not shelf.held()


def test_a_folder_that_cannot_be_made_costs_one_note(bars, tmp_path, notes):
    (tmp_path / "file").touch()
    shelf = Shelf(tmp_path / "file" / "bars", room=1 << 30, tell=notes.append)
    assert run(bars, shelf=shelf) == run(bars)
    assert len(notes) == 1
    assert "cannot be read (Not a directory)" in notes[0]


def test_a_folder_that_may_only_be_read_is_read(bars, shelf, notes, unread, monkeypatch):
    before = run(bars, shelf=shelf)

    def refuse(*_, **__):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("os.utime", refuse)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    unread()
    assert run(bars, shelf=shelf) == before
    assert not notes


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_costs_one_note(bars, shelf, notes):
    shelf.folder.mkdir(mode=0o500)
    assert run(bars, shelf=shelf) == run(bars)
    assert len(notes) == 1


# ---------------------------------------------------------------- bounded, listed, cleared


def test_what_was_used_longest_ago_leaves_first(tmp_path, notes):
    shelf = Shelf(tmp_path, room=2600, tell=notes.append)
    for i, name in enumerate(["one", "two", "three"]):
        shelf.put(name, {}, {"a": [np.zeros(80)]})
        os.utime(tmp_path / f"{name}.entry", (i, i))
    assert shelf.find("one", None) is not None
    shelf.put("four", {}, {"a": [np.zeros(80)]})
    assert {each.name for each in shelf.held()} == {"one", "three", "four"}
    shelf.put("large", {}, {"a": [np.zeros(1000)]})
    assert {each.name for each in shelf.held()} == {"one", "three", "four"}
    assert len(notes) == 1
    assert sum(each.n_bytes for each in shelf.held()) <= shelf.room


def invoke(*words):
    done = CliRunner().invoke(cli, [*words])
    assert done.exit_code == 0, done.output
    return done


def test_the_command_lists_and_clears(bars, tmp_path, monkeypatch):
    monkeypatch.setenv("IBS_CACHE_DIR", str(tmp_path / "cache"))
    assert "nothing is kept" in invoke("data", "cache").stdout
    monkeypatch.setenv("IBS_CACHE_BYTES", "1000000000")
    assert json.loads(invoke("data", "cache", "--json").stdout)["entries"] == []
    run(bars, shelf=default_shelf())
    found = json.loads(invoke("data", "cache", "--json").stdout)
    assert found["room"] == 1_000_000_000
    assert found["bytes"] == sum(each["bytes"] for each in found["entries"])
    (kept,) = [each for each in found["entries"] if each["kind"] == "bars"]
    assert kept["data"] == ["CL.parquet", "ES.parquet"]
    assert kept["symbols"] == ["ES", "CL"]
    assert kept["widths"] == ["1h"]
    text = invoke("data", "cache").stdout
    assert "ES, CL" in text
    assert "just now" in text
    n = len(found["entries"])
    cleared = json.loads(invoke("data", "cache", "clear", "--json").stdout)
    assert (cleared["removed"], cleared["bytes"]) == (n, found["bytes"])
    assert invoke("data", "cache", "clear", "--quiet").stdout == ""
    assert not default_shelf().held()


def test_room_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("IBS_CACHE_BYTES", "4 GB")
    with pytest.raises(ConfigError, match="IBS_CACHE_BYTES"):
        default_shelf()


def test_trouble_is_told_on_standard_error_and_not_in_the_run(bars, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("IBS_CACHE_BYTES", "1000000000")
    monkeypatch.setenv("IBS_CACHE_DIR", str(tmp_path / "file"))
    place = ["--parquet", str(bars), "--no-report", "--out"]
    done = invoke("backtest", *place, str(tmp_path / "told"))
    assert "note: the bar cache" in done.stderr
    assert invoke("backtest", *place, str(tmp_path / "quiet"), "--quiet").stderr == ""
    (folder,) = (tmp_path / "told").iterdir()
    assert "cache" not in json.dumps(json.loads((folder / "run.json").read_text())["warnings"])


def test_a_sweep_finds_the_same_with_kept_bars(bars, tmp_path, monkeypatch):
    pytest.importorskip("joblib")
    monkeypatch.setenv("IBS_CACHE_BYTES", "1000000000")
    monkeypatch.setenv("IBS_CACHE_DIR", str(tmp_path / "cache"))
    tables = []
    for i, words in enumerate([["--no-cache"], [], []]):
        out = tmp_path / f"sweep{i}"
        place = ["--parquet", str(bars), "--out", str(out), "--models", str(tmp_path / f"m{i}")]
        grid = ["--grid", "strategy.exits.bars=2,4", "--jobs", "1", "--quiet"]
        invoke("sweep", *place, *grid, *words)
        tables.append(
            {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".parquet"}
        )
    assert tables[0] == tables[1] == tables[2]
    assert tables[0]
