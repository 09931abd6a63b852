"""The trial ledger on real files, with real processes, and after what can befall a file."""

import json
import pickle
import sqlite3
import statistics
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ibs_core.errors import ConfigError, DataError, EnvironmentFault
from ibs_core.research.trial_ledger import Selection, Trial, TrialLedger

ALL = Selection()


def trial(number=0, **fields):
    returns = np.random.default_rng(number).standard_normal(30)
    base = Trial(
        time_ns=1_750_000_000_000_000_000 + number,
        command="model train",
        study="es-1",
        number=number,
        symbol="ES",
        data_digest="d1",
        feature_digest="f1",
        parameters={"trees": 300, "depth": None, "share": 0.3},
        seed=number,
        sharpe=0.01 * number,
        n_trades=7,
        generated=False,
        sessions=np.arange(100, 130),
        returns=returns,
    )
    return replace(base, **fields)


@pytest.fixture
def ledger(tmp_path):
    return TrialLedger(tmp_path / "models" / "trials.sqlite", wait_s=20.0)


def rows_of(ledger):
    with closing(sqlite3.connect(ledger.path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM trials ORDER BY id")]


def test_a_trial_is_recorded_as_it_was(ledger):
    given = trial(3)
    assert ledger.append(given) is True
    (row,) = rows_of(ledger)
    for name in (
        "time_ns",
        "command",
        "study",
        "number",
        "symbol",
        "data_digest",
        "seed",
        "sharpe",
    ):
        assert row[name] == getattr(given, name)
    assert row["parameters"] == '{"depth":null,"share":0.3,"trees":300}'
    assert (row["n_periods"], row["n_trades"], row["generated"]) == (30, 7, 0)
    matrix = ledger.returns_matrix(ALL)
    assert matrix.returns.dtype == np.float64
    assert matrix.returns[:, 0].tobytes() == given.returns.tobytes()
    assert matrix.sessions.tolist() == given.sessions.tolist()
    assert matrix.trials == (("es-1", 3),)


def test_the_ledger_is_a_write_ahead_log_and_nothing_else_is_left_in_its_folder(ledger):
    ledger.append(trial())
    with closing(sqlite3.connect(ledger.path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [path.name for path in ledger.path.parent.iterdir()] == ["trials.sqlite"]


def test_a_trial_that_is_reported_again_is_not_added_again(ledger):
    assert ledger.append(trial(1)) is True
    again = trial(1, time_ns=5, parameters={"share": 0.3, "depth": None, "trees": 300})
    assert ledger.append(again) is False
    assert ledger.count(ALL) == 1
    assert rows_of(ledger)[0]["time_ns"] == trial(1).time_ns


@pytest.mark.parametrize(
    ("field", "value"),
    [("returns", np.ones(30)), ("symbol", "NQ"), ("parameters", {}), ("generated", True)],
)
def test_another_trial_may_not_bear_the_same_number(ledger, field, value):
    ledger.append(trial(1))
    with pytest.raises(DataError, match="another trial 1 of study 'es-1' is recorded"):
        ledger.append(trial(1, **{field: value}))
    assert ledger.count(ALL) == 1


def test_what_is_recorded_cannot_be_changed_or_taken_away(ledger):
    ledger.append(trial())
    with closing(sqlite3.connect(ledger.path)) as db:
        for statement in ("UPDATE trials SET sharpe = 9", "DELETE FROM trials"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)


def test_every_trial_of_the_commands_counts_failed_ones_too(ledger):
    nothing = {"sharpe": None, "sessions": np.zeros(0, np.int64), "returns": np.zeros(0)}
    for number, fields in enumerate(
        [
            {},
            {"symbol": "NQ"},
            {"study": "es-2"},
            {"command": "sweep", "study": "s"},
            {"command": "walk-forward", "study": "w", "generated": True},
            {"data_digest": "d2", "feature_digest": "f2"},
            nothing,
        ]
    ):
        ledger.append(trial(number, **fields))
    for selection, expected in [
        (ALL, 7),
        (Selection(commands=("model train",)), 5),
        (Selection(commands=("model train", "sweep")), 6),
        (Selection(commands=()), 0),
        (Selection(symbol="NQ"), 1),
        (Selection(symbol="ES", data_digest="d1"), 5),
        (Selection(feature_digest="f2"), 1),
        (Selection(study="es-2"), 1),
        (Selection(generated=False), 6),
    ]:
        assert ledger.count(selection) == expected
    assert len(ledger.returns_matrix(ALL).trials) == 6


def test_the_variance_is_that_of_the_sharpe_ratios_there_are(ledger):
    sharpes = [0.05, -0.02, None, 0.11]
    for number, sharpe in enumerate(sharpes):
        ledger.append(trial(number, sharpe=sharpe))
    expected = statistics.variance(each for each in sharpes if each is not None)
    assert ledger.variance_of_sharpe(ALL) == pytest.approx(expected, rel=1e-12)
    assert ledger.variance_of_sharpe(Selection(symbol="NQ")) is None


def test_one_sharpe_ratio_has_no_variance(ledger):
    ledger.append(trial(1))
    assert ledger.variance_of_sharpe(ALL) is None


def test_the_matrix_holds_the_sessions_that_all_trials_have(ledger):
    ledger.append(trial(1, sessions=np.array([1, 2, 4]), returns=np.array([0.1, 0.2, 0.4])))
    ledger.append(trial(0, sessions=np.array([2, 3, 4, 5]), returns=np.array([2.0, 3.0, 4.0, 5.0])))
    matrix = ledger.returns_matrix(Selection(symbol="ES", data_digest="d1"))
    assert matrix.sessions.tolist() == [2, 4]
    assert matrix.returns.tolist() == [[2.0, 0.2], [4.0, 0.4]]
    assert matrix.trials == (("es-1", 0), ("es-1", 1))


def test_a_ledger_that_does_not_exist_yet_is_empty_and_is_not_made_by_reading(ledger):
    assert ledger.count(ALL) == 0
    assert ledger.variance_of_sharpe(ALL) is None
    assert ledger.returns_matrix(ALL).returns.size == 0
    assert not ledger.path.parent.exists()


def test_a_ledger_travels_to_other_processes(ledger):
    ledger.append(trial())
    assert pickle.loads(pickle.dumps(ledger)).count(ALL) == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"returns": np.full(30, np.nan)}, DataError),
        ({"sharpe": float("inf")}, DataError),
        ({"returns": np.zeros(29)}, DataError),
        ({"sessions": np.full(30, 100)}, DataError),
        ({"parameters": {"share": float("nan")}}, ConfigError),
        ({"parameters": {"path": Path()}}, ConfigError),
    ],
)
def test_a_trial_that_cannot_be_read_back_is_refused(ledger, fields, error):
    with pytest.raises(error, match=r"expected .* found"):
        ledger.append(trial(**fields))
    assert not ledger.path.exists()


PRELUDE = """
import sys
from pathlib import Path
import numpy as np
from ibs_core.research.trial_ledger import Selection, Trial, TrialLedger, _INSERT, row_of
ledger = TrialLedger(Path(sys.argv[1]), wait_s=20.0)

def trial(study, number):
    returns = np.random.default_rng(number).standard_normal(500)
    return Trial(1, "model train", study, number, "ES", "d1", "f1", {"n": number}, 0, 0.1, 3, False,
                 np.arange(500), returns)

def say(word):
    print(word, flush=True)

say("ready")
sys.stdin.readline()
"""


@contextmanager
def started(ledger, program, *arguments):
    """Run a Python process that has loaded everything and waits for a line; it never outlives the test."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program, str(ledger.path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def tell(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_append_to_a_new_ledger_at_once(ledger):
    program = """
for number in range(40):
    assert ledger.append(trial(sys.argv[2], number))        # its own
    ledger.append(trial("shared", number))                  # the other's too
"""
    with started(ledger, program, "one") as one, started(ledger, program, "two") as two:
        for process in (one, two):
            tell(process)
        for process in (one, two):
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert ledger.count(ALL) == 120
    for study in ("one", "two", "shared"):
        assert ledger.count(Selection(study=study)) == 40
    assert ledger.returns_matrix(ALL).returns.shape == (500, 120)


def test_a_process_killed_while_it_appends_leaves_whole_trials(ledger):
    program = """
for number in range(1_000_000):
    ledger.append(trial("killed", number))
    say(number)
"""
    with started(ledger, program) as process:
        tell(process)
        for expected in range(20):
            assert process.stdout.readline() == f"{expected}\n"
        process.kill()
        reported = 20 + len(process.stdout.read().split())
    n_trials = ledger.count(ALL)
    assert n_trials in (reported, reported + 1)  # the last may be on the disk and not yet told
    assert ledger.returns_matrix(ALL).returns.shape == (500, n_trials)
    assert ledger.append(trial(0)) is True


def test_a_process_killed_inside_its_transaction_leaves_nothing_of_it(ledger):
    program = """
ledger.append(trial("killed", 0))
with ledger._open() as db:
    db.execute("PRAGMA cache_spill = 1")
    db.execute("BEGIN IMMEDIATE")
    db.execute(_INSERT, row_of(trial("killed", 1)))
    say("inside")
    sys.stdin.readline()
"""
    with started(ledger, program) as process:
        tell(process)
        assert process.stdout.readline() == "inside\n"
        assert ledger.count(ALL) == 1  # readers do not wait for a writer
        process.kill()
    assert process.returncode == -9
    assert ledger.count(ALL) == 1
    assert ledger.append(trial(1, study="killed")) is True
    assert ledger.count(ALL) == 2


def test_a_ledger_that_stays_locked_is_an_error_that_says_so(ledger):
    ledger.append(trial(0))
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        impatient = replace(ledger, wait_s=0.05)
        with pytest.raises(EnvironmentFault, match="locked; wait for the command that writes"):
            impatient.append(trial(1))
        assert impatient.count(ALL) == 1
    assert ledger.append(trial(1)) is True


def test_a_file_of_another_kind_is_not_taken_for_a_ledger(ledger):
    ledger.path.parent.mkdir()
    text = "not a database, but long enough to be looked at: " + "x" * 4_096
    ledger.path.write_text(text)
    for call in (lambda: ledger.append(trial()), lambda: ledger.count(ALL)):
        with pytest.raises(EnvironmentFault, match="it is not a trial ledger; move it away"):
            call()
    assert ledger.path.read_text() == text


def test_another_database_or_an_empty_file_is_refused(ledger):
    ledger.path.parent.mkdir()
    ledger.path.touch()
    with pytest.raises(EnvironmentFault, match="expected version 1, found 0"):
        ledger.append(trial())
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(EnvironmentFault, match="expected version 1, found 2"):
        ledger.count(ALL)


def test_a_truncated_ledger_is_reported_as_damaged(ledger):
    for number in range(40):
        ledger.append(trial(number))
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EnvironmentFault, match="malformed; restore it from a copy"):
        ledger.returns_matrix(ALL)


def test_one_flipped_byte_in_a_return_is_noticed(ledger):
    ledger.append(trial(2))
    whole = bytearray(ledger.path.read_bytes())
    place = whole.index(trial(2).returns.tobytes())
    whole[place + 100] ^= 1
    ledger.path.write_bytes(whole)
    with pytest.raises(EnvironmentFault, match=r"damaged: .* in trial 2 of study 'es-1'; restore"):
        ledger.returns_matrix(ALL)


@pytest.mark.parametrize("folder", ["a_file", "/proc"])
def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path, folder):
    (tmp_path / "a_file").write_text("in the way")
    ledger = TrialLedger(tmp_path / folder / "models" / "trials.sqlite")
    with pytest.raises(EnvironmentFault, match=r"trial ledger .* check the path"):
        ledger.append(trial())


def test_a_disk_error_is_an_error_of_ours(ledger, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ibs_core.research.trial_ledger.tempfile.mkstemp", full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        ledger.append(trial())


def test_parameters_in_any_order_are_one_text(ledger):
    ledger.append(trial(0, parameters={"b": [1, 2], "a": {"y": True, "x": "é"}}))
    text = rows_of(ledger)[0]["parameters"]
    assert text == '{"a":{"x":"\\u00e9","y":true},"b":[1,2]}'
    assert json.loads(text) == {"a": {"x": "é", "y": True}, "b": [1, 2]}
