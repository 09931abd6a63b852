"""A run folder is whole or absent, and the same run has the same bytes."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from sample_run import META, sample_run

from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.report import folder as folder_module
from ibs_core.report.folder import read_run, run_name, write_run

FILES = {
    "run.json",
    "config.resolved.yml",
    "stats.json",
    "trades.parquet",
    "decisions.parquet",
    "equity.parquet",
    "lows.parquet",
    "bars.parquet",
    "report.html",
}


@pytest.fixture(scope="module")
def run():
    return sample_run(n_trades=60, n_bars=1_500)


def test_a_run_folder_holds_the_nine_files_and_nothing_hidden_is_left(run, tmp_path):
    written = write_run(run, tmp_path / "runs", html="<p>")
    assert {path.name for path in written.iterdir()} == FILES
    assert list((tmp_path / "runs").iterdir()) == [written]


def test_the_name_is_the_instant_and_a_hash_of_the_inputs(run, tmp_path):
    written = write_run(run, tmp_path, html=None)
    assert written.name == run_name(META)
    assert written.name.startswith("20250301T143000Z-")
    assert run_name({**META, "command": "other"}) == run_name(META)
    assert run_name({**META, "data_digest": "e"}) != run_name(META)
    assert not (written / "report.html").exists()


def test_a_run_reads_back_as_it_was_written(run, tmp_path):
    written = write_run(run, tmp_path, html=None)

    found = read_run(written)

    assert found.meta == {**run.meta, "run_id": written.name}
    assert (found.stats, found.config_yaml) == (run.stats, run.config_yaml)
    assert found.trades.equals(run.trades)
    assert found.decisions.equals(run.decisions)
    assert found.equity.equals(run.equity)
    assert found.lows.equals(run.lows)
    assert found.bars.keys() == run.bars.keys()
    assert all(found.bars[symbol].equals(bars) for symbol, bars in run.bars.items())


def test_two_writes_of_the_same_run_have_the_same_bytes(run, tmp_path):
    # Other chunks, sortedness flags and time of day; the same rows.
    half = run.trades.height // 2
    again = replace(
        run,
        trades=pl.concat([run.trades[:half], run.trades[half:]], rechunk=False),
        equity=run.equity.set_sorted("session_date"),
        stats=dict(reversed(run.stats.items())),
        meta={**run.meta, "created_utc": "2025-06-01T00:00:00+02:00"},
    )
    first = write_run(run, tmp_path / "a", html="<p>")
    second = write_run(again, tmp_path / "b", html="<p>")
    for name in FILES - {"run.json"}:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert second.name == run_name(META).replace("20250301T143000Z", "20250531T220000Z")


def test_numbers_survive_json_exactly(run, tmp_path):
    odd = replace(run, stats={"x": 0.1 + 0.2, "y": 1e-300})
    text = (write_run(odd, tmp_path, html=None) / "stats.json").read_text()
    assert json.loads(text) == {"x": 0.1 + 0.2, "y": 1e-300}
    assert "0.30000000000000004" in text


def test_a_taken_name_gets_a_number(run, tmp_path):
    written = [write_run(run, tmp_path, html=None) for _ in range(3)]
    name = run_name(META)
    assert [path.name for path in written] == [name, f"{name}-2", f"{name}-3"]
    assert [read_run(path).meta["run_id"] for path in written] == [path.name for path in written]


def test_a_file_that_bears_the_name_is_not_replaced(run, tmp_path):
    (tmp_path / run_name(META)).write_text("mine")
    assert write_run(run, tmp_path, html=None).name.endswith("-2")
    assert (tmp_path / run_name(META)).read_text() == "mine"


def test_runs_of_the_same_second_written_at_once_all_arrive(run, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: write_run(run, tmp_path, html=None), range(8)))
    assert len(set(written)) == 8
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}


@pytest.mark.parametrize("file", sorted(FILES - {"run.json"}))
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_whatever_stops_the_writing_leaves_no_folder(run, tmp_path, monkeypatch, file, stop):
    real_open = Path.open

    def opened(self, *args, **kwargs):
        if self.name == file:
            raise stop
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    expected = EnvironmentFault if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_run(run, tmp_path, html="<p>")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_leaves_no_folder(run, tmp_path, monkeypatch):
    def fail(_self, _target):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(EnvironmentFault, match="Input/output error"):
        write_run(run, tmp_path, html=None)
    assert list(tmp_path.iterdir()) == []


def test_everything_is_synced_before_the_rename_and_the_parent_after(run, tmp_path, monkeypatch):
    events = []
    real_fsync, real_rename = os.fsync, Path.rename
    monkeypatch.setattr(
        folder_module.os, "fsync", lambda handle: (events.append("sync"), real_fsync(handle))[1]
    )
    monkeypatch.setattr(
        Path, "rename", lambda self, to: (events.append("rename"), real_rename(self, to))[1]
    )
    write_run(run, tmp_path, html="<p>")
    assert events == ["sync"] * (len(FILES) + 1) + ["rename", "sync"]


def test_statistics_that_are_not_numbers_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_run(replace(run, stats={"x": float("nan")}), tmp_path, html=None)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_an_environment_fault(run, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_run(run, tmp_path / "runs", html=None)


def test_a_missing_folder_is_an_environment_fault(tmp_path):
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["trades.parquet", "stats.json", "run.json"])
def test_a_damaged_file_is_a_data_error(run, tmp_path, file):
    written = write_run(run, tmp_path, html=None)
    (written / file).write_text("[")
    with pytest.raises(DataError, match=file):
        read_run(written)


def test_other_columns_are_a_data_error(run, tmp_path):
    written = write_run(run, tmp_path, html=None)
    pl.DataFrame({"a": [1]}).write_parquet(written / "equity.parquet")
    with pytest.raises(DataError, match="other columns"):
        read_run(written)


def test_a_run_of_other_columns_or_without_provenance_cannot_be_made(run):
    with pytest.raises(AssertionError, match="expected"):
        replace(run, trades=run.trades.drop("score"))
    with pytest.raises(AssertionError, match="data_digest"):
        replace(run, meta={key: value for key, value in META.items() if key != "data_digest"})
