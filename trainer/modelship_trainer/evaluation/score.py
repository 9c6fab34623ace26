"""The artifact's own score: model.onnx, byte for byte what is served, run over rows with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pandas as pd

from modelship_trainer.artifact.manifest import Manifest
from modelship_trainer.data.dataset import Array, Dataset, Rows
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.errors import UserError, listing, quote
from modelship_trainer.evaluation.metrics import Scores, class_scores, value_scores
from modelship_trainer.protocol import FailureReason
from modelship_trainer.schema import digest_of
from modelship_trainer.serving.signature import Signature

MODEL, SIGNATURE, PREPROCESSING = "model.onnx", "signature.json", "preprocessing.json"
_BATCH = 1024

Feed = dict[str, npt.NDArray[Any]]


def score(folder: Path, manifest: Manifest, dataset: Dataset, rows: Rows, done: Callable[[int, int], None]) -> Scores:
    """Predictions of the artifact for `rows`, less those that it is not for (values that dropMissing requires are missing).

    `done(scored, all)` is called after each batch.

    Raises:
        UserError: DataInvalid where the rows do not fit the model; DigestMismatch where model.onnx is not the recorded one.
    """
    signature = Signature.model_validate_json((folder / SIGNATURE).read_bytes())
    fitted = Fitted.model_validate_json((folder / PREPROCESSING).read_bytes())
    rows = rows[fitted.usable(dataset.take(rows))]
    truth = _truth(dataset.target[rows], signature, dataset)
    session = _session(folder, manifest)
    batches = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        batches.append(_run(session, signature, raw_inputs(fitted, dataset.take(batch), dataset.source), dataset.source))
        done(start + len(batch), len(rows))
    predictions = np.concatenate(batches) if batches else np.empty((0, len(signature.classes or [0])))
    return class_scores(truth, predictions, signature.classes) if signature.classes else value_scores(truth, predictions)


def raw_inputs(fitted: Fitted, features: pd.DataFrame | Array, source: str) -> Feed:
    """What a client would send for these rows: a column per input, `[N, 1]`, or one array named `input`."""
    if not isinstance(features, pd.DataFrame):
        return {"input": features.astype(np.float32)}
    columns = fitted.columns or []
    if missing := [column.name for column in columns if column.name not in features]:
        known = listing([str(name) for name in features.columns])
        raise UserError(FailureReason.DATA_INVALID, f"column {quote(missing[0])} is not in {source}; columns: {known}.")
    return {column.name: column.raw(features[column.name]).reshape(-1, 1) for column in columns}


def _truth(target: Array, signature: Signature, dataset: Dataset) -> Array:
    """Index of each row's class, or its value."""
    if signature.classes is None:
        return target
    index = {label: number for number, label in enumerate(signature.classes)}
    if unknown := sorted({str(label) for label in target.tolist() if label not in index}):
        classes = listing([str(label) for label in signature.classes])
        raise UserError(
            FailureReason.DATA_INVALID,
            f"label {quote(unknown[0])} in {dataset.source} is not a class of the model; its classes: {classes}.",
        )
    return np.fromiter((index[label] for label in target.tolist()), dtype=np.int64, count=len(target))


def _session(folder: Path, manifest: Manifest) -> ort.InferenceSession:
    """A session over the very bytes that the manifest names: hashed as they are read, not before."""
    model = (folder / MODEL).read_bytes()
    recorded = next((entry.digest for entry in manifest.files if entry.path == MODEL), "nothing")
    if (actual := digest_of(model)) != recorded:
        raise UserError(FailureReason.DIGEST_MISMATCH, f"{MODEL} is {actual}, recorded was {recorded}; nothing was scored.")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, signature: Signature, feed: Feed, source: str) -> npt.NDArray[np.float32]:
    """`[N, C]` probabilities or `[N, 1]` predictions; the served labels are checked to be those of the largest probability."""
    wanted = ["probabilities", "label"] if signature.classes else ["prediction"]
    try:
        values, *labels = session.run(wanted, feed)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        raise UserError(FailureReason.DATA_INVALID, f"the model cannot take the rows of {source}: {error}") from error
    if signature.classes and np.isfinite(values).all():
        expected = [signature.classes[index] for index in values.argmax(axis=1)]
        if labels[0].tolist() != expected:
            raise UserError(
                FailureReason.EXPORT_MISMATCH, f"{MODEL} gives labels that are not those of its largest probabilities; train again."
            )
    result: npt.NDArray[np.float32] = values
    return result
