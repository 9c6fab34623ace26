"""The artifact's own score: model.onnx, byte for byte what is served, run over rows with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from modelship_trainer.artifact.contents import ONNX
from modelship_trainer.artifact.manifest import DigestMismatch, read_file
from modelship_trainer.cpu import cpu_threads
from modelship_trainer.data.dataset import Array, Dataset, Rows
from modelship_trainer.errors import UserError, listing, quote
from modelship_trainer.evaluation.metrics import Scores, class_scores, value_scores
from modelship_trainer.evaluation.subject import Subject
from modelship_trainer.export.session import ROWS, OnnxModel, check_answers
from modelship_trainer.protocol import FailureReason


def score(subject: Subject, dataset: Dataset, rows: Rows, done: Callable[[int, int], None]) -> Scores:
    """Predictions of the artifact for `rows`, less those that it is not for (values that dropMissing requires are missing).

    `done(scored, all)` is called after each batch.

    Raises:
        UserError: DataInvalid where the rows do not fit the model; DigestMismatch where model.onnx is not the recorded one;
            ExportMismatch where the labels that it serves are not those of its probabilities.
    """
    _check_features(subject, dataset)
    rows = rows[subject.fitted.usable(dataset.take(rows))]
    classes = subject.target.classes
    truth = dataset.target[rows] if classes is None else subject.target.encode(dataset.target[rows], dataset.source)
    numbers = rows
    if isinstance(dataset.features, pd.DataFrame):
        numbers = dataset.features.index.to_numpy()[rows]
        subject.fitted.check(dataset.features, rows, dataset.source)
    model = OnnxModel(_verified_bytes(subject), subject.fitted, threads=cpu_threads())
    batches = []
    for start in range(0, len(rows), ROWS):
        batch = dataset.take(rows[start : start + ROWS])
        batches.append(_predict(model, batch, dataset.source))
        if start == 0 and classes is not None:
            _check_labels(model, batch, batches[0], classes)
        done(start + len(batch), len(rows))
    predictions = np.concatenate(batches) if batches else np.empty((0, subject.target.output_size))
    check_answers(predictions, numbers, dataset.source)
    return class_scores(truth, predictions, classes) if classes is not None else value_scores(truth, predictions)


def _check_features(subject: Subject, dataset: Dataset) -> None:
    features, array = dataset.features, subject.fitted.array
    if isinstance(features, pd.DataFrame) != (array is None):
        has, takes = ("columns", "an array") if array is not None else ("an array", "columns")
        raise UserError(FailureReason.DATA_INVALID, f"rows of {dataset.source} have {has}, and the model takes {takes}.")
    if isinstance(features, pd.DataFrame):
        missing = [column.name for column in subject.fitted.columns or [] if column.name not in features]
        if missing:
            known = listing([str(name) for name in features.columns])
            raise UserError(FailureReason.DATA_INVALID, f"column {quote(missing[0])} is not in {dataset.source}; columns: {known}.")
    elif array is not None and list(features.shape[1:]) != array.shape:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"rows of {dataset.source} have shape {list(features.shape[1:])}, and the model takes {array.shape}.",
        )


def _verified_bytes(subject: Subject) -> bytes:
    try:
        return read_file(subject.folder, subject.manifest, ONNX)
    except DigestMismatch as error:
        raise UserError(FailureReason.DIGEST_MISMATCH, f"{error}; nothing was scored.") from error


def _predict(model: OnnxModel, batch: pd.DataFrame | Array, source: str) -> npt.NDArray[np.float32]:
    try:
        return model.predict(batch)
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types
        raise UserError(FailureReason.DATA_INVALID, f"the model cannot take the rows of {source}: {error}") from error


def _check_labels(
    model: OnnxModel, batch: pd.DataFrame | Array, probabilities: npt.NDArray[np.float32], classes: list[Any]
) -> None:
    """Clients read `label`, metrics look at probabilities: the two must say the same."""
    if not np.isfinite(probabilities).all():
        return  # told by class_scores, with a cure
    if model.labels(batch).tolist() != [classes[index] for index in probabilities.argmax(axis=1)]:
        raise UserError(
            FailureReason.EXPORT_MISMATCH, f"{ONNX} serves labels that are not those of its largest probabilities; train again."
        )
