"""What clients, gateway and Triton need to know of a model: its signature, and a request to try it with."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelship_trainer.data.dataset import Array
from modelship_trainer.data.preprocessing import Column, Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.export.session import feeds
from modelship_trainer.serving.signature import INPUT, NUMBERS, TEXTS, ColumnSpec, Signature, Tensor


def signature(fitted: Fitted, target: Target) -> Signature:
    """The graph's tensors, and the columns that are packed into them."""
    if fitted.array is not None:
        inputs, columns = [Tensor(name=INPUT, dtype="FP32", shape=[-1, *fitted.array.shape])], None
    else:
        numbers, texts = len(fitted.of_type("number")), len(fitted.of_type("text"))
        inputs = [Tensor(name=NUMBERS, dtype="FP32", shape=[-1, numbers])] if numbers else []
        inputs += [Tensor(name=TEXTS, dtype="BYTES", shape=[-1, texts])] if texts else []
        columns = [_column(column) for column in fitted.columns or []]
    if target.classes is None:
        outputs = [Tensor(name="prediction", dtype="FP32", shape=[-1, 1])]
    else:
        label = Tensor(name="label", dtype="INT64" if integers(target) else "BYTES", shape=[-1])
        outputs = [Tensor(name="probabilities", dtype="FP32", shape=[-1, len(target.classes)]), label]
    return Signature(task=target.task.value, inputs=inputs, columns=columns, outputs=outputs, classes=target.classes)


def integers(target: Target) -> bool:
    """Whether all labels are whole numbers."""
    return all(isinstance(label, int) for label in target.classes or [])


def _column(column: Column) -> ColumnSpec:
    return ColumnSpec(
        name=column.name,
        dtype="FP32" if column.type == "number" else "BYTES",
        missing=column.answers_missing(),
        texts=None if column.type == "number" or column.texts == "text" else column.texts,
        above=column.above(),
    )


def sample_request(fitted: Fitted, features: Any) -> dict[str, Any]:
    """A KServe v2 infer request of the first row of `features` that lacks no number (else 0 stands for what is missing)."""
    arrays = feeds(fitted, features)
    complete = np.ones(len(features), dtype=bool)
    for array in arrays.values():
        if array.dtype != object:
            complete &= np.isfinite(array).reshape(len(array), -1).all(axis=1)
    row = int(complete.argmax())
    return {"inputs": [_sample_tensor(name, array[row : row + 1]) for name, array in arrays.items()]}


def _sample_tensor(name: str, array: Array) -> dict[str, Any]:
    text = array.dtype == object
    data = array.ravel().tolist() if text else np.nan_to_num(array).ravel().tolist()
    return {"name": name, "shape": list(array.shape), "datatype": "BYTES" if text else "FP32", "data": data}
