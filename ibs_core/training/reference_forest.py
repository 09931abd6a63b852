"""The forest of a bundle of the reference, made a bundle of ours.

This is the only module that unpickles, and a pickle does whatever its maker wrote into it: it is called only
where the user vouches for the file. What comes out is an ONNX file beside a card, as of any training;
nothing that trades imports this.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from ibs_core.bundle import Card, Window, read_file
from ibs_core.catalogue import load_catalogue
from ibs_core.errors import DataError
from ibs_core.research.export import (
    export_forest,
    golden_rows,
    library_versions,
    max_difference,
)
from ibs_core.training.dataset import feature_digest
from ibs_core.training.reference_bundle import JUDGED_ON
from ibs_core.training.reference_names import read_columns
from ibs_core.training.train import Trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from ibs_core.contracts import ContractMap
    from ibs_core.training.reference_bundle import Described
    from ibs_core.training.reference_names import Column
    from ibs_core.veto import Scorer

__all__ = ["import_forest"]

_N_ROWS: Final = 2_000
_SEED: Final = 7
_UNKNOWN: Final = (
    "the bars are not known: the data digest is that of the reference's JSON",
    "trials are not told: 90 to 420 a symbol by the reference's own settings",
    f"training rows are not known: compared with scikit-learn on {_N_ROWS:,} generated rows",
)


def import_forest(
    described: Described,
    contracts: ContractMap,
    window: Window,
    *,
    signal_bar: str,
    open_model: Callable[[bytes], Scorer],
    created_ns: int,
) -> Trained:
    """Unpickle a forest and make a bundle of it.

    Parameters
    ----------
    described : Described
        Its pickle is there, and the user vouches for it.
    contracts : ContractMap
    window : Window
        What the forest may have seen.
    signal_bar : str
        Of the bars that it was trained on.
    open_model : callable
        Makes a scorer of the bytes of an ONNX file.
    created_ns : int
        UTC ns.

    Returns
    -------
    Trained
        Not written yet. The version is the same for the same forest, JSON, window, signal bar and formulas.

    Raises
    ------
    DataError
        The file is no forest of two classes, a column has no feature here, or asks for values that the
        feature cannot have.
    EnvironmentFault
        The file cannot be read, or a git-lfs pointer stands in its place.
    UnknownSymbolError
        The contract map does not hold the symbol.
    """
    contracts.get(described.symbol)
    where = str(described.pickle)
    if described.scaled:
        raise DataError(
            "forest cannot be served", found=described.scaled, where=where, remedy="train a model"
        )
    content = read_file(described.pickle)
    held, notes = _unpickled(content, where)
    forest, names = _checked(held, where)
    columns = described.columns
    if names != [each.name for each in columns]:
        columns = read_columns(names, contracts)
        notes.append(_edited(described, names))
    features = _features(columns, where)
    forest = _merged(forest, columns, features)
    _refuse_impossible(forest, features, contracts, where)
    model = export_forest(forest, len(features))
    rows = _rows(forest, len(features))
    scorer = open_model(model)
    digest = sha256(content).hexdigest()
    formulas = feature_digest(features, contracts)
    made = sha256(model + repr((described.digest, digest, window, signal_bar, formulas)).encode())
    seed = described.parameters.get("random_state")
    card = Card(
        symbol=described.symbol,
        version=f"imported-{made.hexdigest()[:8]}",
        created=created_ns,
        features=features,
        feature_digest=formulas,
        threshold=described.threshold,
        window=window,
        data_digest=described.digest,
        contract_map_digest=contracts.digest,
        generated=False,
        strategy={"signal_bar": signal_bar},
        parameters=described.parameters,
        seed=seed if isinstance(seed, int) and seed >= 0 else 0,
        trials=0,
        metrics={
            "export_max_difference": max_difference(forest, scorer, rows),
            "imported": _origin(described, columns, notes) | {"pickle_sha256": digest},
        },
        libraries=library_versions(),
        golden=golden_rows(scorer, rows, threshold=described.threshold, seed=_SEED),
        model_sha256=sha256(model).hexdigest(),
        promotion=None,
    )
    return Trained(card, model)


def _origin(
    described: Described, columns: Sequence[Column], notes: Sequence[str]
) -> dict[str, JsonValue]:
    """Tell in the card where the model comes from and what is not known of it."""
    return {
        "claimed": described.claimed,
        "judged": JUDGED_ON,
        "columns": [asdict(each) for each in columns],
        "notes": [*described.notes, *notes, *_UNKNOWN],
    }


def _unpickled(content: bytes, where: str) -> tuple[Any, list[str]]:
    """Unpickle, and tell of another scikit-learn; whatever goes wrong is the file's fault."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            held = joblib.load(io.BytesIO(content))
        except Exception as error:
            found = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            remedy = "check the file; a forest of an old scikit-learn opens only in that one"
            raise DataError(
                "forest cannot be unpickled", found=found, where=where, remedy=remedy
            ) from error
    versions = {
        (each.message.original_sklearn_version, each.message.current_sklearn_version)
        for each in caught
        if isinstance(each.message, InconsistentVersionWarning)
    }
    told = "pickled by scikit-learn {} and read by {}, which does not promise the same forest"
    return held, [told.format(*each) for each in sorted(versions)]


def _checked(held: Any, where: str) -> tuple[RandomForestClassifier, list[str]]:
    """Return the forest and the names of its columns."""
    subject = "pickle of the reference"
    if not isinstance(held, dict) or not {"model", "features"} <= held.keys():
        found = f"keys {sorted(map(str, held))}" if isinstance(held, dict) else type(held).__name__
        raise DataError(
            subject, expected="a dict of model and features", found=found[:200], where=where
        )
    forest = held["model"]
    if not isinstance(forest, RandomForestClassifier):
        expected, found = "a RandomForestClassifier", type(forest).__name__
        raise DataError(subject, expected=expected, found=found, where=where)
    try:
        check_is_fitted(forest)
        names = [str(name) for name in held["features"]]
        classes = forest.classes_.tolist()
        shares = [each.tree_.value[:, 0].sum(axis=1) for each in forest.estimators_]
    except Exception as error:
        found = " ".join(str(error).split())[:200]
        raise DataError(subject, expected="a fitted forest", found=found, where=where) from error
    fitted_on = list(getattr(forest, "feature_names_in_", names))
    for sound, expected, said in (
        (classes == [0, 1], "classes [0, 1]", f"classes {classes}"),
        (
            len(names) == len(set(names)) == forest.n_features_in_,
            f"{forest.n_features_in_} names of features, each once",
            f"{len(names)}",
        ),
        (fitted_on == names, "the names that it was fitted on", "others"),
        (all(np.allclose(each, 1) for each in shares), "leaves of shares", "leaves of counts"),
    ):
        if not sound:
            raise DataError(subject, expected=expected, found=said, where=where)
    return forest, names


def _edited(described: Described, names: Sequence[str]) -> str:
    """Say how the JSON was changed after the forest was fitted."""
    said = [each.name for each in described.columns]
    removed = ", ".join(name for name in names if name not in said)
    added = ", ".join(name for name in said if name not in names)
    what = "; ".join(
        [f"it leaves out {removed}"] * bool(removed) + [f"it adds {added}"] * bool(added)
    )
    return f"the JSON was edited after the fit: {what or 'another order'}; the pickle's names count"


def _features(columns: Sequence[Column], where: str) -> tuple[str, ...]:
    """Name each feature once; refuse a column that has none."""
    missing = [f"{each.name} ({each.why})" for each in columns if each.feature is None]
    if missing:
        raise DataError(
            "forest asks for what is no feature here", found="; ".join(missing), where=where
        )
    return tuple(dict.fromkeys(each.feature for each in columns if each.feature is not None))


def _merged(
    forest: RandomForestClassifier, columns: Sequence[Column], features: tuple[str, ...]
) -> RandomForestClassifier:
    """Let columns that are one feature under two names read one input.

    The forest was unpickled for this, so it is changed where it is.
    """
    target = np.array([features.index(each.feature or "") for each in columns])
    for each in forest.estimators_:
        state = each.tree_.__getstate__()
        inner = state["nodes"]["left_child"] >= 0
        state["nodes"]["feature"][inner] = target[state["nodes"]["feature"][inner]]
        each.tree_ = type(each.tree_)(len(features), np.array([2], np.intp), 1)
        each.tree_.__setstate__(state)
        each.n_features_in_ = len(features)
    forest.n_features_in_ = len(features)
    vars(forest).pop("feature_names_in_", None)  # ours go in without names
    forest.n_jobs, forest.verbose = 1, 0
    return forest


def _thresholds(forest: RandomForestClassifier, n_features: int) -> list[NDArray[np.float64]]:
    """Collect what the trees ask of each feature."""
    trees = [each.tree_ for each in forest.estimators_]
    feature = np.concatenate([each.feature for each in trees])
    threshold = np.concatenate([each.threshold for each in trees])
    return [np.unique(threshold[feature == i]) for i in range(n_features)]


def _refuse_impossible(
    forest: RandomForestClassifier, features: tuple[str, ...], contracts: ContractMap, where: str
) -> None:
    """Refuse a forest with a split that no value here passes on one side.

    Such a split shows that the inputs were standardised or coded otherwise.
    """
    catalogue = load_catalogue(contracts)
    wrong = []
    for name, asked in zip(features, _thresholds(forest, len(features)), strict=True):
        feature = catalogue[name]
        if len(asked) and not (asked[0] >= feature.low and asked[-1] < feature.high):
            span = f"{asked[0]:.4g} to {asked[-1]:.4g}"
            wrong.append(f"{name} at {span}, which is {feature.low:g} to {feature.high:g}")
    if wrong:
        raise DataError(
            "forest splits at values that its features never have",
            found="; ".join(wrong),
            where=where,
            remedy="its inputs were standardised or coded otherwise: train a model",
        )


def _rows(forest: RandomForestClassifier, n_features: int) -> NDArray[np.float32]:
    """Draw rows in the place of the training rows: at the trees' thresholds, just above, and between.

    At a threshold a last bit decides, so an export that is wrong shows here first.
    """
    rng = np.random.default_rng(_SEED)
    rows = np.zeros((_N_ROWS, n_features), np.float32)
    for i, asked in enumerate(_thresholds(forest, n_features)):
        if len(asked):
            drawn = rng.choice(asked, (2, _N_ROWS)).astype(np.float32)
            above = np.nextafter(drawn[0], np.float32(np.inf))
            rows[:, i] = np.choose(rng.integers(3, size=_N_ROWS), [drawn[0], above, drawn.mean(0)])
    return rows
