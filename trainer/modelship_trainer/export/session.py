"""Run an artifact's ONNX graph on raw rows: what is scored is what will be served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
import onnxruntime

from modelship_trainer.data.preprocessing import Column, Fitted
from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.serving.signature import INPUT, NUMBERS, TEXTS

ROWS = 1024


class OnnxModel:
    """A loaded `model.onnx`."""

    def __init__(self, model: Path | bytes, fitted: Fitted, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        source = model if isinstance(model, bytes) else str(model)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._fitted = fitted
        self._outputs = [output.name for output in self._session.get_outputs()]

    def predict(self, features: pd.DataFrame | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw rows (as `Dataset.take` gives them) to probabilities `[N, C]`, or predictions `[N]` in the target's unit."""
        name = "probabilities" if "probabilities" in self._outputs else "prediction"
        values: npt.NDArray[np.float32] = self._run(name, features)
        return values if name == "probabilities" else values[:, 0]

    def labels(self, features: pd.DataFrame | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Raw rows to the labels `[N]` that a client would get: int64 or strings."""
        labels: npt.NDArray[Any] = self._run("label", features)
        return labels

    def _run(self, output: str, features: pd.DataFrame | npt.NDArray[Any]) -> Any:
        arrays = feeds(self._fitted, features)
        count = len(features)
        parts = [
            self._session.run([output], {name: array[start : start + ROWS] for name, array in arrays.items()})[0]
            for start in range(0, count, ROWS)
        ]
        return np.concatenate(parts)


def feeds(fitted: Fitted, features: pd.DataFrame | npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Raw rows as the graph's inputs: `numbers` `[N, K]` float32 and `texts` `[N, T]` strings of a table, or `input`, float32."""
    if fitted.array is not None:
        return {INPUT: np.asarray(features, dtype=np.float32)}
    assert isinstance(features, pd.DataFrame)  # noqa: S101 - a table's features are one
    if fitted.schema_version == 1:
        return {column.name: column.raw(features[column.name]).reshape(-1, 1) for column in fitted.columns or []}
    packed = {NUMBERS: fitted.of_type("number"), TEXTS: fitted.of_type("text")}
    return {name: _matrix(columns, features) for name, columns in packed.items() if columns}


def _matrix(columns: list[Column], features: pd.DataFrame) -> npt.NDArray[Any]:
    return np.stack([column.raw(features[column.name]) for column in columns], axis=1)


def check_answers(answers: npt.NDArray[Any], rows: npt.NDArray[Any], source: str) -> None:
    """Raises UserError: DataInvalid where an answer, `[N]` or `[N, C]`, is not finite; `rows` are those of the file, from 0."""
    bad = np.flatnonzero(~np.isfinite(answers).all(axis=tuple(range(1, answers.ndim))))
    if len(bad):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"the model's output is not finite for {len(bad):,} of {len(answers):,} rows of {source}, first for row "
            f"{rows[bad].min() + 1}; correct values there that are far from those of the training rows, or clip them in "
            "data.preprocessing.",
        )
