"""A bundle is whole or absent, means one thing, and no byte of it can change unseen."""

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sample_bundle import DAY_NS, MODEL, NAMES, PROMOTION, sample_card

from ibs_core.bundle import (
    Promotion,
    Window,
    feature_set_digest,
    list_bundles,
    load_bundle,
    promote,
    promoted,
    write_bundle,
)
from ibs_core.catalogue import load_catalogue
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, DataError, EnvironmentFault


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "models", sample_card(), MODEL)


def rewrite(folder, change):
    """Change the card's document and write it back."""
    raw = json.loads((folder / "card.json").read_text())
    change(raw)
    (folder / "card.json").write_text(json.dumps(raw, sort_keys=True, indent=1) + "\n")


def test_a_bundle_reads_back_as_it_was_written(folder):
    found = load_bundle(folder)
    assert found.card == sample_card()
    assert found.model == MODEL
    assert {path.name for path in folder.iterdir()} == {"card.json", "model.onnx"}
    assert [path.name for path in folder.parent.iterdir()] == ["2025-01"]


def test_floats_and_instants_of_a_card_survive_exactly(folder):
    card = load_bundle(folder).card
    assert card.metrics == {"sharpe": 0.1 + 0.2, "tiny": 5e-324, "eras": [1.0, -2.5]}
    rows, scores = card.golden.arrays()
    wanted_rows, wanted_scores = sample_card().golden.arrays()
    assert rows.tobytes() == wanted_rows.tobytes()
    assert scores.tobytes() == wanted_scores.tobytes()
    assert (rows.shape, rows.dtype) == ((3, 6), np.float32)
    assert card.window.last_label_end == 20_000 * DAY_NS + 123
    raw = json.loads((folder / "card.json").read_text())
    assert raw["window"]["last_label_end"] == "2024-10-04T00:00:00.000000123Z"


def test_the_same_card_has_the_same_bytes(folder, tmp_path):
    again = write_bundle(tmp_path / "other", sample_card(), MODEL)
    assert (again / "card.json").read_bytes() == (folder / "card.json").read_bytes()


def test_one_flipped_bit_of_the_card_is_refused(folder):
    path = folder / "card.json"
    text = path.read_bytes()
    for i in range(len(text)):
        path.write_bytes(text[:i] + bytes([text[i] ^ 1 << i % 8]) + text[i + 1 :])
        with pytest.raises(DataError):
            load_bundle(folder)


def test_one_flipped_bit_of_the_model_is_refused(folder):
    path = folder / "model.onnx"
    for i in range(len(MODEL)):
        path.write_bytes(MODEL[:i] + bytes([MODEL[i] ^ 1]) + MODEL[i + 1 :])
        with pytest.raises(DataError, match=r"model is not the one of its card.*SHA-256"):
            load_bundle(folder)


def test_a_truncated_card_is_refused(folder):
    path = folder / "card.json"
    text = path.read_bytes()
    for size in range(0, len(text), 31):
        path.write_bytes(text[:size])
        with pytest.raises(DataError, match="card"):
            load_bundle(folder)


def test_a_truncated_model_is_refused(folder):
    (folder / "model.onnx").write_bytes(MODEL[:-1])
    with pytest.raises(DataError, match="not the one of its card"):
        load_bundle(folder)


FAULTS = {
    "a threshold that is NaN": ({"threshold": float("nan")}, "threshold: expected a finite number"),
    "a threshold of 0": ({"threshold": 0.0}, "threshold: expected greater than 0, found 0.0"),
    "a threshold of 1": ({"threshold": 1.0}, "threshold: expected less than 1, found 1.0"),
    "a threshold in quotes": ({"threshold": "0.5"}, "threshold: expected a valid number"),
    "a feature twice": (
        {"features": ["bar_ibs", *NAMES[:5]]},
        "every feature once; repeated: bar_ibs",
    ),
    "a feature too few": ({"features": NAMES[:5]}, "golden rows of 5 values"),
    "no feature": ({"features": []}, "features"),
    "a feature in capitals": ({"features": ["IBS", *NAMES[1:]]}, r"features\.0"),
    "an unknown key": ({"treshold": 0.5}, "unknown key in a card: found 'treshold'"),
    "a newer form": ({"schema": 2}, "card of another form: expected schema 1, found 2"),
    "a digest too short": ({"data_digest": "ab"}, "data_digest.*found 'ab'"),
    "a symbol that is a path": ({"symbol": "../ES"}, "symbol"),
    "a version that is a path": ({"version": "a/../b"}, "version"),
    "a flag that is a number": ({"generated": 1}, "generated: expected a valid boolean, found 1"),
    "a window that ends before it starts": (
        {
            "window": {
                "first_decision": "2024-01-02T00:00:00.000000000Z",
                "last_label_end": "2024-01-01T00:00:00.000000000Z",
            }
        },
        "window: expected a first decision before",
    ),
    "an instant without nanoseconds": (
        {"created": "2024-01-01T00:00:00Z"},
        "created: expected an instant such as",
    ),
    "an instant that is no day": ({"created": "2024-02-31T00:00:00.000000000Z"}, "created"),
    "no library": ({"libraries": {}}, "libraries"),
    "golden rows of other lengths": (
        {"golden": {"rows": [[0.5, 1.0], [0.5]], "scores": [0.5, 0.5]}},
        "golden: expected rows of one length",
    ),
    "a golden value that is no float32": (
        {"golden": {"rows": [[0.1] * 6], "scores": [0.5]}},
        r"golden\.rows\.0\.0: expected a number that is a float32, found 0\.1",
    ),
    "a golden score above 1": (
        {"golden": {"rows": [[0.5] * 6], "scores": [1.5]}},
        r"golden\.scores\.0: expected less than or equal to 1",
    ),
    "a failed guardrail without force": (
        {"promotion": json.loads(PROMOTION.model_dump_json()) | {"forced": False}},
        "promotion: expected every guardrail passed, or forced; these failed: profit factor",
    ),
    "a metric that is not finite": (
        {"metrics": {"pf": float("inf")}},
        "holds a number that is not finite",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_card_is_refused_that_holds(folder, name):
    change, message = FAULTS[name]
    rewrite(folder, lambda raw: raw.update(change))
    with pytest.raises(DataError, match=message):
        load_bundle(folder)


def test_a_card_without_a_key_is_refused(folder):
    for key in json.loads((folder / "card.json").read_text()):
        text = (folder / "card.json").read_text()
        rewrite(folder, lambda raw, key=key: raw.pop(key))
        with pytest.raises(DataError, match=r"lacks a key|another form|changed"):
            load_bundle(folder)
        (folder / "card.json").write_text(text)
    assert load_bundle(folder).card == sample_card()


def test_a_card_edited_with_good_values_is_refused(folder):
    rewrite(folder, lambda raw: raw.update(threshold=0.5))
    with pytest.raises(DataError, match="changed after it was written"):
        load_bundle(folder)


def test_a_key_written_twice_is_refused(folder):
    path = folder / "card.json"
    path.write_text(path.read_text().replace('"seed": 42,', '"seed": 41,\n "seed": 42,'))
    with pytest.raises(DataError, match="changed after it was written"):
        load_bundle(folder)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_card_is_refused(folder, text):
    (folder / "card.json").write_bytes(text)
    with pytest.raises(DataError, match="card"):
        load_bundle(folder)


@pytest.mark.parametrize("file", ["model.onnx", "card.json"])
def test_a_git_lfs_pointer_is_named_as_such(folder, file):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    (folder / file).write_text(pointer)
    with pytest.raises(EnvironmentFault, match=rf"git-lfs pointer.*{file}; run `git lfs pull`"):
        load_bundle(folder)


@pytest.mark.parametrize("file", ["model.onnx", "card.json"])
def test_a_missing_file_is_an_environment_fault(folder, file):
    (folder / file).unlink()
    with pytest.raises(EnvironmentFault, match=rf"{file} cannot be read.*No such file"):
        load_bundle(folder)


def test_a_bundle_in_the_folder_of_another_symbol_is_refused(folder):
    other = folder.parents[1] / "ES"
    folder.parent.rename(other)
    with pytest.raises(DataError, match=r"expected 6E/2025-01, found ES/2025-01"):
        load_bundle(other / "2025-01")


def test_a_version_that_exists_is_never_written_over(folder):
    before = (folder / "card.json").read_bytes()
    with pytest.raises(ConfigError, match="version of a bundle exists"):
        write_bundle(folder.parents[1], sample_card(seed=7), MODEL)
    assert (folder / "card.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["2025-01"]


def test_a_card_of_another_model_is_not_written(tmp_path):
    with pytest.raises(DataError, match="not the one of its card"):
        write_bundle(tmp_path, sample_card(), MODEL + b"!")
    assert list(tmp_path.iterdir()) == []


def test_a_card_with_a_metric_that_is_not_finite_cannot_be_made():
    with pytest.raises(ValidationError, match="finite number"):
        sample_card(metrics={"eras": [1.0, {"pf": float("nan")}]})


@pytest.mark.parametrize("file", ["model.onnx", "card.json"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_whatever_stops_the_writing_leaves_no_bundle(tmp_path, monkeypatch, file, stop):
    real_open = Path.open

    def opened(self, *args, **kwargs):
        if self.name == file:
            raise stop
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    expected = EnvironmentFault if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_bundle(tmp_path, sample_card(), MODEL)
    assert list((tmp_path / "6E").iterdir()) == []
    assert list_bundles(tmp_path) == []


@pytest.mark.parametrize("version", ["..", ".", "", ".a", "a/b", "a..b", "a.", "a\n", "x" * 65])
def test_a_version_leads_nowhere_else(version, tmp_path):
    with pytest.raises(ValidationError):
        sample_card(version=version)
    if len(version) < 65:
        with pytest.raises(ConfigError, match="version of a bundle"):
            promote(tmp_path, "6E", version, PROMOTION)


@pytest.mark.parametrize("symbol", ["..", "", "es", "ES/..", "ES\n", "/ES", "TOOLONG"])
def test_a_symbol_leads_nowhere_else(symbol, tmp_path):
    with pytest.raises(ConfigError, match="symbol of a bundle"):
        promoted(tmp_path, symbol)
    with pytest.raises(ConfigError, match="symbol of a bundle"):
        promote(tmp_path, symbol, "1", PROMOTION)


def test_promotion_names_the_version_and_is_recorded_in_its_card(folder):
    models = folder.parents[1]
    second = write_bundle(models, sample_card(version="2025.02", symbol="6E"), MODEL)
    mes = write_bundle(models, sample_card(version="1", symbol="MES"), MODEL)
    assert promoted(models, "6E") is None
    assert promote(models, "6E", "2025-01", PROMOTION) == folder
    assert promoted(models, "6E") == folder
    assert load_bundle(folder).card.promotion == PROMOTION
    promote(models, "6E", "2025.02", PROMOTION)
    assert promoted(models, "6E") == second
    listed = [(each.symbol, each.version, each.promoted) for each in list_bundles(models)]
    assert listed == [("6E", "2025-01", False), ("6E", "2025.02", True), ("MES", "1", False)]
    assert list_bundles(models)[2].folder == mes


def test_models_that_are_not_there_are_none(tmp_path):
    assert list_bundles(tmp_path / "nowhere") == []
    assert promoted(tmp_path / "nowhere", "ES") is None


def test_an_unknown_version_is_not_promoted(folder):
    with pytest.raises(ConfigError, match=r"no bundle of 6E.*expected 2025-01, found '2024'"):
        promote(folder.parents[1], "6E", "2024", PROMOTION)


def test_a_damaged_bundle_is_not_promoted(folder):
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(DataError, match="not the one of its card"):
        promote(folder.parents[1], "6E", "2025-01", PROMOTION)
    assert promoted(folder.parents[1], "6E") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"symbol": "6E", "version": "../x"}',
        '{"symbol": "ES", "version": "2025-01"}',
        '{"symbol": "6E", "version": 1}',
        '{"symbol": "6E", "version": "2025-01", "more": 1}',
    ],
)
def test_a_damaged_record_of_the_promotion_is_refused(folder, text):
    (folder.parent / "promoted.json").write_text(text)
    with pytest.raises(DataError, match="record of the promoted version is damaged"):
        promoted(folder.parents[1], "6E")


def test_a_promoted_version_that_is_gone_is_refused(folder):
    promote(folder.parents[1], "6E", "2025-01", PROMOTION)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(DataError, match="promoted version is not there"):
        promoted(folder.parents[1], "6E")


PROMOTER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from sample_bundle import PROMOTION
from ibs_core.bundle import promote
for _ in range(60):
    promote(Path(sys.argv[1]), "6E", sys.argv[2], PROMOTION)
"""


def test_two_processes_that_promote_at_once_leave_one_valid_file(folder):
    models = folder.parents[1]
    write_bundle(models, sample_card(version="2025-02"), MODEL)
    promote(models, "6E", "2025-01", PROMOTION)
    tests = str(Path(__file__).parent)
    promoters = [
        subprocess.Popen([sys.executable, "-c", PROMOTER, str(models), version, tests])
        for version in ("2025-01", "2025-02", "2025-02")
    ]
    seen = set()
    while any(each.poll() is None for each in promoters):
        seen.add(load_bundle(promoted(models, "6E")).card.version)
    assert [each.returncode for each in promoters] == [0, 0, 0]
    assert seen <= {"2025-01", "2025-02"}
    assert load_bundle(promoted(models, "6E")).card.promotion == PROMOTION
    assert {path.name for path in folder.parent.iterdir()} == {
        "2025-01",
        "2025-02",
        "promoted.json",
    }
    assert len(list(folder.iterdir())) == 2


def test_a_promotion_over_a_failed_guardrail_must_be_forced():
    with pytest.raises(ValidationError, match="these failed: profit factor"):
        Promotion(**(dict(PROMOTION) | {"forced": False}))


def test_a_window_of_no_length_cannot_be_made():
    with pytest.raises(ValidationError, match="first decision before"):
        Window(first_decision=5, last_label_end=5)


@pytest.fixture(scope="module")
def features():
    catalogue = load_catalogue(load_contract_map())
    return [catalogue[name] for name in ("bar_ibs", "bar_atr_z", "day_rsi2_rank", "x_zb_bar_z")]


def test_the_digest_of_features_changes_with_their_order(features):
    assert feature_set_digest(features) != feature_set_digest(features[::-1])
    assert feature_set_digest(features) == feature_set_digest(list(features))
    assert feature_set_digest(features) != feature_set_digest(features[:3])


def deepest(node, change):
    """Apply a change to the last of the innermost nodes of an expression."""
    if not node.inputs:
        return change(node)
    return replace(node, inputs=(*node.inputs[:-1], deepest(node.inputs[-1], change)))


def test_the_digest_of_features_changes_with_any_part_of_a_formula(features):
    first, second, *rest = features
    node = second.node
    changed = [
        replace(second, name="bar_other"),
        replace(second, formula="z of ATR(6) over 252"),
        replace(second, unit="%"),
        replace(second, side="day"),
        replace(second, node=replace(node, y=2e-12)),
        replace(second, node=replace(node, inputs=node.inputs[::-1])),
        replace(second, node=deepest(node, lambda leaf: replace(leaf, source="volume"))),
        replace(second, node=deepest(node, lambda leaf: replace(leaf, n=leaf.n + 1))),
        replace(second, node=deepest(node, lambda leaf: replace(leaf, level=type(leaf.level)(2)))),
        replace(second, node=first.node),
    ]
    digests = {feature_set_digest([first, each, *rest]) for each in [second, *changed]}
    assert len(digests) == len(changed) + 1


def test_every_feature_of_the_catalogue_has_its_own_digest():
    catalogue = load_catalogue(load_contract_map())
    assert len({feature_set_digest([each]) for each in catalogue.values()}) == len(catalogue)
