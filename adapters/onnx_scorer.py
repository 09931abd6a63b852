"""The veto model in onnxruntime: the same bits for one row live and for a million in the back-test.

A forest's score is a sum of float32, and such a sum depends on its order. On one thread onnxruntime adds
the trees in the order of the file, for one row as for each row of a batch (which it walks in blocks of
128 rows, tree by tree). On two threads or more a batch above 50 rows is summed in parts, a part a thread:
measured on 900 trees, 92 % of its scores differ in their last bits. So a session has one thread, whatever
the machine, and whoever wants more cores runs more processes.

The compiled scorer is several times as fast, but nothing is assumed of how onnxruntime sums: wherever a model
is opened it must give onnxruntime's bits on the golden rows of the card and on rows made to tell the two
apart, or onnxruntime scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import onnxruntime as ort

from ibs_core.bundle import feature_set_digest
from ibs_core.catalogue import load_catalogue
from ibs_core.errors import DataError, IbsError
from ibs_core.forest import ForestScorer, capped, telling_rows
from ibs_core.trees import read_trees

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ibs_core.bundle import Bundle
    from ibs_core.contracts import ContractMap
    from ibs_core.veto import Scorer

__all__ = ["Choice", "OnnxScorer", "choose_scorer", "open_scorer", "verify"]

Choice = Literal["auto", "compiled", "onnxruntime"]

_FLOAT32: Final = np.dtype(np.float32)
_N_ROWS: Final = 256  # on which a compiled scorer is compared, besides the golden ones


class OnnxScorer:
    """Scores rows with an ONNX forest; a `Scorer` of the veto.

    Not for two threads at once: one row travels through a buffer that is kept.

    Parameters
    ----------
    model : bytes
        The file, with one input (n, n_features) float32 and an output ``probabilities`` float32, (n, 1)
        as the export writes it or (n, 2) as skl2onnx does; its last column is the score.

    Raises
    ------
    DataError
        onnxruntime does not take it, or its inputs and outputs are others.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._session = ort.InferenceSession(
                model, _options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise DataError("model cannot be loaded", found=" ".join(str(error).split())) from error
        self._input, self.n_features, width = _checked(self._session)
        self._row = np.zeros((1, self.n_features), np.float32)
        self._answer = np.zeros((1, width), np.float32)
        self._held = [ort.OrtValue.ortvalue_from_numpy(each) for each in (self._row, self._answer)]
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(self._input, self._held[0])
        self._binding.bind_ortvalue_output("probabilities", self._held[1])

    def score(self, rows: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Score rows.

        Parameters
        ----------
        rows : (k, n_features) float32, finite

        Returns
        -------
        (k,) float32
            Probabilities of class 1, in [0, 1]; each is the same whatever the other rows are.
        """
        assert rows.dtype == _FLOAT32, rows.dtype
        if rows.shape == self._row.shape:
            self._row[:] = rows  # 10 us less than a plain run
            self._session.run_with_iobinding(self._binding)
            return capped(self._answer[:, -1].copy())
        if not len(rows):
            return np.empty(0, np.float32)
        return capped(self._session.run(["probabilities"], {self._input: rows})[0][:, -1].copy())


def open_scorer(bundle: Bundle) -> OnnxScorer:
    """Open the model of a bundle.

    Parameters
    ----------
    bundle : Bundle

    Returns
    -------
    OnnxScorer

    Raises
    ------
    DataError
        The model cannot be loaded, or takes another number of features than the card names.
    """
    scorer = OnnxScorer(bundle.model)
    if scorer.n_features != len(bundle.card.features):
        raise DataError(
            "model takes other features than its card names",
            expected=str(len(bundle.card.features)),
            found=str(scorer.n_features),
            where=str(bundle.folder),
        )
    return scorer


def choose_scorer(bundle: Bundle, choice: Choice = "auto") -> tuple[Scorer, str]:
    """Open the model of a bundle: compiled, where that gives the bits of onnxruntime.

    Parameters
    ----------
    bundle : Bundle
    choice : {"auto", "compiled", "onnxruntime"}
        ``auto`` falls back to onnxruntime, ``compiled`` raises instead, ``onnxruntime`` does not try.

    Returns
    -------
    scorer : Scorer
    why : str
        Why ``auto`` fell back; empty where it did not.

    Raises
    ------
    DataError
        The model cannot be loaded, takes another number of features than the card names, or cannot be
        scored as was chosen.
    """
    plain = open_scorer(bundle)
    if choice == "onnxruntime":
        return plain, ""
    try:
        trees = read_trees(bundle.model)
        compiled = ForestScorer(trees)
    except DataError as error:
        why = str(error)
    else:
        rows = np.concatenate([bundle.card.golden.arrays()[0], telling_rows(trees, _N_ROWS)])
        why = _difference(compiled, plain, rows)
        if not why:
            return compiled, ""
    if choice == "compiled":
        raise DataError(
            "model cannot be scored compiled",
            found=why,
            where=str(bundle.folder),
            remedy="leave out --scorer: onnxruntime scores it then",
        )
    return plain, why


def verify(bundle: Bundle, contracts: ContractMap) -> list[IbsError]:
    """Check that a bundle scores here as it did where it was judged.

    The golden rows are scored as a batch and one by one, and must give their scores bit for bit; the
    features must be, by their digest, those of the present catalogue.

    Parameters
    ----------
    bundle : Bundle
    contracts : ContractMap
        Of the present catalogue.

    Returns
    -------
    list of IbsError
        What is wrong; empty when all is well.
    """
    where = str(bundle.folder)
    findings: list[IbsError] = []
    catalogue = load_catalogue(contracts)
    unknown = [name for name in bundle.card.features if name not in catalogue]
    if unknown:
        found = ", ".join(unknown)
        findings.append(DataError("features that the catalogue lacks", found=found, where=where))
    else:
        present = feature_set_digest([catalogue[name] for name in bundle.card.features])
        if present != bundle.card.feature_digest:
            findings.append(
                DataError(
                    "features have other formulas than those that the model was trained on",
                    expected=f"the digest {bundle.card.feature_digest}",
                    found=present,
                    where=where,
                    remedy="train the model again",
                )
            )
    try:
        findings += _rescored(open_scorer(bundle), bundle)
    except DataError as error:
        findings.append(error)
    return findings


def _rescored(scorer: OnnxScorer, bundle: Bundle) -> list[DataError]:
    rows, expected = bundle.card.golden.arrays()
    together = scorer.score(rows)
    apart = np.concatenate([scorer.score(row[None]) for row in rows])
    return [
        DataError(
            f"golden row {i} scores otherwise {how}",
            expected=repr(float(expected[i])),
            found=repr(float(scores[i])),
            where=str(bundle.folder),
            remedy="this machine or this onnxruntime scores otherwise: do not trade this model here",
        )
        for how, scores in (("in a batch", together), ("alone", apart))
        for i in np.flatnonzero(scores.view(np.int32) != expected.view(np.int32))[:1]
    ]


def _difference(compiled: Scorer, plain: Scorer, rows: NDArray[np.float32]) -> str:
    """Say on which row the compiled scorer differs, in a batch or alone."""
    expected = plain.score(rows)
    together = compiled.score(rows)
    apart = np.concatenate([compiled.score(row[None]) for row in rows])
    for how, found in (("in a batch", together), ("alone", apart)):
        differs = np.flatnonzero(found.view(np.int32) != expected.view(np.int32))
        if len(differs):
            i = differs[0]
            return (
                f"{len(differs)} of {len(rows)} rows score otherwise {how}, "
                f"row {i} {float(found[i])!r} instead of {float(expected[i])!r}"
            )
    return ""


def _options() -> ort.SessionOptions:
    """Return the only options with which any model is ever loaded."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is raised
    return options


def _checked(session: ort.InferenceSession) -> tuple[str, int, int]:
    """Return the input's name and columns, and the columns of the probabilities."""
    inputs = [(each.name, each.type, each.shape) for each in session.get_inputs()]
    outputs = {each.name: (each.type, each.shape) for each in session.get_outputs()}
    kind, shape = outputs.get("probabilities", ("", []))
    sound = len(inputs) == 1 and len(inputs[0][2]) == 2 and isinstance(inputs[0][2][1], int)
    floats = {inputs[0][1], kind} == {"tensor(float)"} if inputs else False
    if not sound or not floats or len(shape) != 2 or shape[1] not in (1, 2):
        raise DataError(
            "model has other inputs and outputs",
            expected="float32 (n, n_features) in, probabilities float32 (n, 1) or (n, 2) out",
            found=f"{inputs} in, {outputs} out",
        )
    return inputs[0][0], int(inputs[0][2][1]), int(shape[1])
