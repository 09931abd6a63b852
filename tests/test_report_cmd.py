"""`ibs report`: from a run folder's files alone, runs of earlier versions too, and no traceback for any folder."""

import itertools
import json
import shutil
import sys
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_run import sample_run

from ibs_core.cli.main import run as run_ibs
from ibs_core.errors import IbsError
from ibs_core.report.folder import read_run, write_run
from ibs_core.report.tear_sheet import render
from ibs_core.research.sample_data import write_sample

LATER = ("by_hour", "by_weekday", "by_month", "by_year", "by_ibs", "forward_returns")
LATER_METRICS = ("psr", "calmar", "vetoed_net_usd", "max_drawdown_intrabar_usd")


@pytest.fixture(scope="module")
def sample():
    return sample_run(n_trades=60, n_bars=1_500, symbols=("NQ", "ES"))


@pytest.fixture(scope="module")
def written(sample, tmp_path_factory):
    return write_run(sample, tmp_path_factory.mktemp("runs"), html=render(sample))


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / written.name)


@pytest.fixture
def call(monkeypatch, capsys):
    def run_words(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", "report", *map(str, words)])
        code = 0
        try:
            run_ibs()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_words


def older(folder):
    """Make a run folder what earlier versions wrote."""
    stats = json.loads((folder / "stats.json").read_text())
    for key in LATER:
        del stats[key]
    for block in (stats["total"], *stats["by_symbol"].values()):
        del block["undefined"]
        for key in LATER_METRICS:
            del block[key]
    (folder / "stats.json").write_text(json.dumps(stats))
    (folder / "bars.parquet").unlink()
    (folder / "lows.parquet").unlink()
    return folder


def test_a_report_made_again_has_the_same_bytes(call, folder):
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    code, out, err = call(folder)
    assert (code, err) == (0, "")
    assert out == f"report: {folder / 'report.html'}\n"
    assert (folder / "report.html").read_bytes() == before


def test_a_back_test_keeps_what_its_report_needs(call, tmp_path, monkeypatch):
    bars = tmp_path / "bars"
    write_sample(bars, roots=["ES", "NQ"], start=date(2024, 1, 2), end=date(2024, 2, 9), seed=3)
    words = ["backtest", "--parquet", str(bars), "--start", "2024-01-10", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["ibs", *words, "--out", str(tmp_path / "runs")])
    run_ibs()
    (folder,) = (tmp_path / "runs").iterdir()
    before = (folder / "report.html").read_bytes()
    assert call(folder, "--quiet")[0] == 0
    assert (folder / "report.html").read_bytes() == before

    run = read_run(folder)
    assert run.lows.select("session_date", "symbol").equals(
        run.equity.select("session_date", "symbol")
    )
    for symbol in ("ES", "NQ"):
        # Straight from the bars: one contract here, and the span begins with the evening before.
        own = run.bars[symbol]
        assert own.height == run.stats["data"][symbol]["signal_bars"]
        first = datetime(2024, 1, 9, 23, tzinfo=UTC)
        rows = [row for row in own.iter_rows(named=True) if row["start"] >= first]
        after = [1e4 * (b["close"] - a["close"]) / a["close"] for a, b in itertools.pairwise(rows)]
        told = run.stats["forward_returns"][symbol]["all"]
        assert (told["bars"], told["bar_n"]) == (len(rows), len(rows) - 1)
        assert told["bar_bp"] == pytest.approx(sum(after) / len(after), rel=1e-9)


def test_merged_bars_read_back_give_the_same_bytes(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("ibs_core.report.charts.POINTS_A_SYMBOL", 100)
    page = render(sample)
    assert '"merged":8' in page
    assert render(read_run(write_run(sample, tmp_path, html=None))) == page


def test_out_names_the_page_and_leaves_the_run_alone(call, folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, _ = call(folder, "--out", tmp_path / "new" / "page.html", "--json")
    assert code == 0
    assert json.loads(out) == {
        "not_kept": [],
        "report": str(tmp_path / "new" / "page.html"),
        "run": folder.name,
    }
    assert (tmp_path / "new" / "page.html").read_bytes() == before["report.html"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_quiet_prints_nothing(call, folder):
    assert call(folder, "--quiet") == (0, "", "")


def test_a_run_of_an_earlier_version_is_rendered_and_says_what_it_lacks(call, folder):
    code, out, err = call(older(folder))
    assert (code, err) == (0, "")
    assert "not kept by the version that wrote it: forward returns by IBS" in out
    page = (folder / "report.html").read_text()
    assert "An earlier run." in page
    assert "4 statistics, Calmar ratio, Probabilistic Sharpe ratio" in page
    assert "Undefined here: not kept by the version that wrote the run." in page
    assert "id='forward'" not in page
    assert "id='price'" not in page
    assert "id='equity'" in page


def test_runs_are_compared_on_one_page(call, folder, tmp_path):
    other = write_run(
        sample_run(n_trades=30, n_bars=1_500, symbols=("ES",)), tmp_path / "b", html=None
    )
    old = older(shutil.copytree(folder, tmp_path / "old"))
    code, out, err = call(folder, "--compare", other, old)
    assert (code, err) == (0, "")
    page = (folder / "comparison.html").read_text()
    payload = page.split("id='payload'>")[1].split("</script>")[0]
    assert len(json.loads(payload)["charts"]["compared"]["data"]) == 6
    assert page.count("difference</th>") == 2
    assert "They trade different symbols." in page
    assert "did not keep" in page
    assert "Net profit" in out

    code, out, _ = call(folder, "--compare", other, "--json", "--out", tmp_path / "c.html")
    document = json.loads(out)
    trades = next(row for row in document["statistics"] if row["key"] == "trades")
    assert (trades["values"], trades["differences"]) == ([60, 30], [-30])
    assert [each["folder"] for each in document["runs"]] == [str(folder), str(other)]
    # Folders of one name are told apart by the folders above them.
    assert len({each["name"] for each in document["runs"]}) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nowhere"], 3, "run folder 'nowhere' cannot be read"),
        ([], 2, "missing argument 'RUN'"),
        (["{run}", "{run}"], 2, "is one run too many; compare with --compare RUN2"),
        (["{run}", "--compare", "{run}"], 2, "expected runs that differ"),
        (["{run}", "--compare", "nowhere"], 3, "run folder 'nowhere' cannot be read"),
        (["{run}", "--out", "{run}"], 2, "expected a file, found a folder"),
        (["{run}", "--out", "{run}/run.json/x.html"], 3, "expected a folder that may be written"),
        (["{parent}"], 3, "is no run folder"),
        (["{run}/stats.json"], 3, "cannot be read: found Not a directory"),
    ],
)
def test_a_mistake_is_one_line_with_its_code(call, folder, words, code, told):
    words = [word.format(run=folder, parent=folder.parent) for word in words]
    found, out, err = call(*words)
    assert (found, out) == (code, "")
    assert told in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_folder_of_runs_names_one_of_them(call, folder):
    _, _, err = call(folder.parent)
    assert f"name a run folder in it, such as {str(folder)!r}" in err


@pytest.mark.parametrize(
    "name", ["stats.json", "run.json", "trades.parquet", "config.resolved.yml"]
)
def test_half_a_folder_says_what_is_missing(call, folder, name):
    (folder / name).unlink()
    code, _, err = call(folder)
    assert code == 3
    assert "is half a run folder" in err
    assert f"found no {name}; run the back-test again" in err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("stats.json", b"{", "run file is not JSON"),
        ("stats.json", b"\xff\xfe", "run file is not JSON"),
        ("stats.json", b"[" * 100_000, "run file is not JSON"),
        ("stats.json", b"[]", "run file is not of a run folder: expected an object, found list"),
        ("stats.json", b"{}", "run file holds no statistics of a run"),
        ("run.json", b"{}", "run file is not of a run folder"),
        ("config.resolved.yml", b"\xff", "run file is not text"),
        ("equity.parquet", b"PAR1", "run file is not Parquet"),
        ("bars.parquet", b"", "run file is not Parquet"),
    ],
)
def test_an_unreadable_file_is_named(call, folder, name, content, told):
    (folder / name).write_bytes(content)
    code, out, err = call(folder)
    assert (code, out) == (1, "")
    assert told in err
    assert str(folder / name) in err
    assert "run the back-test again" in err
    assert len(err) < 1_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
ROW = {"trades": 1, "wins": 1, "win_rate": 0.5, "net_usd": 1.0, "average_usd": 1.0}
NEAR = st.sampled_from(
    [{"ES": {}}, [ROW], [ROW | {"hour": 24}], [ROW | {"weekday": 6}], {"TOTAL": [{"month": "2025-13", "net_usd": 1}]},
     {"ES": {"all": {}, "buckets": []}}, {"by_symbol": {}, "total": {}}, {"ES": {"trades": 1}}, float("inf"), -1.0,
     {"ES": {"ibs": 1.5}}, [{"instrument": "ES"}], "2025-02-30", {"ES": None}]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    key=st.sampled_from(
        ["total", "by_symbol", "monthly", "by_exit_reason", "capital_usd", "by_hour", "by_year",
         "blocked", "open_positions", "training_windows", "inside_training", "forward_returns",
         "first_session"]
    ),
    value=JSON | NEAR,
)  # fmt: skip
def test_statistics_of_another_form_are_refused_or_rendered(folder, key, value):
    stats = json.loads((folder / "stats.json").read_text())
    original = json.dumps(stats)
    try:
        (folder / "stats.json").write_text(json.dumps(stats | {key: value}))
        render(read_run(folder))
    except IbsError as error:
        assert str(folder / "stats.json") in str(error)  # noqa: PT017 -- either way is right
    finally:
        (folder / "stats.json").write_text(original)


def test_a_page_that_cannot_be_written_leaves_the_old_one(call, folder, monkeypatch):
    from pathlib import Path

    before = (folder / "report.html").read_bytes()

    def refuse(self, _to):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    code, _, err = call(folder)
    assert code == 3
    assert "cannot be written" in err
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_other_columns_of_an_optional_table_are_refused(call, folder):
    pl.DataFrame({"a": [1]}).write_parquet(folder / "lows.parquet")
    code, _, err = call(folder)
    assert code == 1
    assert "other columns than this version writes" in err
